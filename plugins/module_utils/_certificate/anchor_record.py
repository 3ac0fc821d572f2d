# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The records of trust anchors in the annotations of a Secret. Pure.

An entry is the path of a webhook (kind/name/webhook, without the webhook for kinds with one bundle), "=", and the SHA-256
fingerprint of an anchor. One annotation lists the anchors that this collection added. The other one lists the anchors to
remove once the certificate with the serial at its start is proven to be in use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .._csr import markers
from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._webhook import bundle_content, bundle_targets
from .._webhook.bundle_content import BundleCertificate
from .._webhook.bundle_patch import TargetChange
from .._webhook.bundle_targets import ClientConfig, Target
from .._x509 import certificate_facts, ephemeral_ca
from .._x509.verify import verify
from .certificate_run import TargetState


def added_entries(annotations: Mapping[str, str]) -> set[str]:
    """Return the entries of the anchors that this collection added."""
    return set(annotations.get(markers.ANCHORS, "").split())


def superseded_entries(annotations: Mapping[str, str]) -> set[str]:
    """Return the entries to remove once the certificate is proven to be in use."""
    return set(annotations.get(markers.UNPROVEN, "").split()[1:])


def is_unproven(secret: ExistingSecret) -> bool:
    """Return True if the certificate replaced another one and has not been seen in use everywhere."""
    return markers.UNPROVEN in secret.annotations


def record_added(annotations: Mapping[str, str], changes: Iterable[TargetChange]) -> str:
    """Return the record with the anchors that the changes add, and without recorded ones that no target has any more."""
    entries = added_entries(annotations)
    for target, bundle in ((change.target, bundle) for change in changes for bundle in change.bundles):
        start = prefix(target, bundle.config.webhook)
        before, after = fingerprints(bundle.config.ca_bundle), fingerprints(bundle.after or "")
        gone = {entry for entry in entries if entry.startswith(start) and entry[len(start) :] not in after}
        entries = (entries - gone) | {f"{start}{fingerprint}" for fingerprint in after - before}
    return " ".join(sorted(entries))


def record_unproven(
    secret: ExistingSecret | None,
    targets: Iterable[TargetState],
    changes: Iterable[TargetChange],
    *,
    serial: str,
    anchor: TrustAnchor,
    cluster_cas: Collection[str] = (),
) -> str:
    """Return the record of the anchors to remove once the certificate with this serial is proven to be in use.

    These are the anchors that this collection added, and those that verify the certificate that was in use, unless the new
    certificate needs them. Other anchors belong to other managers. A CA that was made for one certificate is ours without a
    record, because a run may have been killed before it wrote one.

    secret: the Secret before the new certificate, None if it did not exist.
    cluster_cas: fingerprints of the CAs of the cluster that are in use or younger.
    """
    needed = fingerprints(anchor.pem).union(cluster_cas)
    # Only the manager that writes a caBundle at any time can restore its anchors, so they stay.
    written = {
        entry.target for entry in targets if bundle_targets.find_bundle_writer(entry.target, entry.obj)
    }
    annotations = secret.annotations if secret else {}
    ours = added_entries(annotations) | superseded_entries(annotations)
    entries: set[str] = set()
    for target, bundle in ((change.target, bundle) for change in changes for bundle in change.bundles):
        start, after = prefix(target, bundle.config.webhook), bundle.after or ""
        used = _verifying(secret, bundle.config) if secret and target not in written else set()
        not_needed = {f"{start}{fingerprint}" for fingerprint in fingerprints(after) - needed}
        removable = ours | {f"{start}{fingerprint}" for fingerprint in used} | made_here(start, after)
        entries |= not_needed & removable
    return " ".join([serial, *sorted(entries)])


#: A place that calls the webhook, and the superseded anchors that it holds.
Superseded = tuple[Target, ClientConfig, list[BundleCertificate]]


def superseded(intent: Intent, secret: ExistingSecret, targets: Iterable[TargetState]) -> list[Superseded]:
    """Return each client configuration of the targets with the superseded anchors that it holds."""
    entries = superseded_entries(secret.annotations)
    return [
        (
            entry.target,
            config,
            [
                anchor
                for anchor in bundle_content.certificates(config.ca_bundle)
                if prefix(entry.target, config.webhook) + anchor.fingerprint in entries
            ],
        )
        for entry in targets
        for config in bundle_targets.client_configs(entry.target, entry.obj, service=intent.service_name)
    ]


def entries_of(places: Iterable[Superseded]) -> frozenset[str]:
    """Return the entries of the anchors."""
    return frozenset(
        prefix(target, config.webhook) + anchor.fingerprint
        for target, config, anchors in places
        for anchor in anchors
    )


def without_targets(annotations: Mapping[str, str], targets: Iterable[Target]) -> str:
    """Return the record of added anchors without the entries of these targets."""
    entries = added_entries(annotations)
    gone = {entry for target in targets for entry in of_target(entries, target)}
    return " ".join(sorted(entries - gone))


def of_target(entries: Collection[str], target: Target) -> set[str]:
    """Return the entries of a target."""
    path = f"{target.kind}/{target.name}"
    return {entry for entry in entries if entry.startswith((f"{path}=", f"{path}/"))}


def targets_of(entries: Iterable[str], anchors: Collection[str]) -> list[tuple[str, str]]:
    """Return kind and name of the targets in the entries of these anchors. An annotation may hold any text."""
    parts = (entry.partition("=") for entry in sorted(entries))
    paths = dict.fromkeys(tuple(path.split("/")[:2]) for path, _sign, anchor in parts if anchor in anchors)
    return [(path[0], path[1]) for path in paths if len(path) == 2]


def prefix(target: Target, webhook: str) -> str:
    """Return the start of the entries of a webhook. ``webhook`` is "" for kinds with one bundle."""
    return "/".join(filter(None, (target.kind, target.name, webhook))) + "="


def fingerprints(bundle: str) -> set[str]:
    """Return the fingerprints of the certificates in a bundle (PEM)."""
    return {anchor.fingerprint for anchor in bundle_content.certificates(bundle)}


def made_here(start: str, bundle: str) -> set[str]:
    """Return the entries of the CAs in the bundle that this collection made for one certificate each."""
    return {
        f"{start}{anchor.fingerprint}"
        for anchor in bundle_content.certificates(bundle)
        if ephemeral_ca.is_made_here(anchor.subject)
    }


def _verifying(secret: ExistingSecret, config: ClientConfig) -> set[str]:
    """Return the anchors of the bundle that verify the certificate in the Secret at the start of its lifetime."""
    if secret.certificate is None:
        return set()
    leaf, chain = certificate_facts.load_leaf_and_chain(secret.certificate_pem)
    at = secret.certificate.not_before
    return set(verify(leaf, config.ca_bundle, name=None, intermediates=chain, now=at, usage="any").anchors)
