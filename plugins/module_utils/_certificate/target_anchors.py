# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The trust anchors of a certificate on its targets: find the anchor, add it, record it, and remove superseded ones.

The records are annotations of the Secret. An entry is the path of a webhook (kind/name/webhook, without the webhook for kinds with one
bundle), "=", and the SHA-256 fingerprint of an anchor. One annotation lists the anchors that this collection added. The other one lists
the anchors to remove once the certificate with the serial at its start is proven to be in use.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .._base.accept import EVERYTHING, UNSEEN
from .._base.owners import accept_option
from .._csr import markers, secret_content, trust_anchors
from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import MissingPermissions
from .._webhook.bundles import bundle_content, bundle_patch, bundle_targets
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import ClientConfig, Target
from .._webhook.errors import TargetError
from .._x509 import certificate_facts, ephemeral_ca
from .._x509.certificate_facts import CertificateFacts
from .._x509.chain.verify import verify
from . import secret_store
from .certificate_run import CertificateRun, TargetState

_PATH = re.compile(r"([A-Za-z]+)/([a-z0-9][-a-z0-9.]{0,252})")


def plan(
    intent: Intent,
    targets: Iterable[TargetState],
    anchor: TrustAnchor | None,
    *,
    leaf_pem: str | None,
    now: datetime,
    earlier: datetime,
) -> tuple[TargetChange, ...]:
    """Return the changes that add the anchor. Without an anchor (not issued yet) every target counts as changed.

    earlier: the earlier time of the API server's clock and of this machine's.
    """
    return tuple(
        _plan(intent, entry.target, entry.obj, anchor, leaf_pem, now=now, earlier=earlier)
        for entry in targets
    )


def permissions(changes: Iterable[TargetChange]) -> list[Permission]:
    """Return the permissions that writing the changes needs."""
    return [bundle_targets.permission(change.target, "patch") for change in changes if change.changed]


def write(
    run: CertificateRun,
    changes: Collection[TargetChange],
    anchor: TrustAnchor,
    *,
    leaf_pem: str,
    now: datetime,
) -> tuple[TargetChange, ...]:
    """Write the changes of ``plan``, and return them as they were written.

    Raises CertflowError for a webhook that another client has added to the object since the plan.
    """

    def replan(target: Target, obj: Mapping[str, Any]) -> TargetChange:
        change = _plan(run.intent, target, obj, anchor, leaf_pem, now=now, earlier=run.client.earlier())
        run.allow_bundles([change])
        return change

    run.allow_bundles(changes)
    return bundle_patch.write_all(run.client, changes, replan)


def find_anchor(
    client: Client, intent: Intent, secret: ExistingSecret, targets: Collection[TargetState], now: datetime
) -> TrustAnchor:
    """Return the anchor that verifies the certificate in the Secret. Raises AnchorError.

    A CA that was made for this certificate counts only if a target trusts it. The permission to create Secrets is enough
    to write the marks of such a CA. For the certificate of another owner, each CA counts that a target trusts.
    """
    pem = secret.certificate_pem
    recorded = {entry.partition("=")[2] for entry in added_entries(secret.annotations)}
    present = {
        anchor.fingerprint: anchor.pem
        for entry in targets
        for anchor in _trusted_by(intent, entry)
        if anchor.fingerprint in recorded or not secret.is_ours
    }
    own = secret_content.find_own_ca(secret, intent)
    if targets:
        # Each CA by itself: another client may have stored one that the targets trust beside one that they do not.
        known = (ca.pem for ca in bundle_content.certificates(own))
        own = "".join(ca for ca in known if _is_trusted(client, intent, secret, targets, ca))
    offered = trust_anchors.candidates(client, intent, pem, "".join(present.values()), own=own)
    return trust_anchors.choose(intent, pem, offered, now)


def _is_trusted(
    client: Client, intent: Intent, secret: ExistingSecret, targets: Iterable[TargetState], own: str
) -> bool:
    """Return True if a target of the run trusts this CA, or one that the Secret records for another task.

    A run makes its targets trust the CA before it writes the Secret. So no run made a CA that no target trusts.
    """
    wanted = fingerprints(own)

    def trusts(entry: TargetState) -> bool:
        return any(anchor.fingerprint in wanted for anchor in _trusted_by(intent, entry))

    if any(map(trusts, targets)):
        return True
    for target in targets_of(added_entries(secret.annotations), wanted):
        with contextlib.suppress(TargetError, MissingPermissions):
            if trusts(TargetState(target, bundle_targets.read(client, target))):
                return True
    return False


def _trusted_by(intent: Intent, entry: TargetState) -> list[CertificateFacts]:
    return [
        anchor
        for config in bundle_targets.client_configs(entry.target, entry.obj, service=intent.service_name)
        for anchor in bundle_content.certificates(config.ca_bundle)
    ]


def remove_superseded(
    client: Client,
    intent: Intent,
    secret: ExistingSecret,
    targets: Iterable[TargetState],
    entries: Collection[str],
    *,
    now: datetime,
) -> tuple[TargetChange, ...]:
    """Remove the anchors of these entries from the targets. The certificate in the Secret verifies without them."""
    replan = functools.partial(_removal, intent, entries=entries, leaf_pem=secret.certificate_pem, now=now)
    changes = (replan(entry.target, entry.obj) for entry in targets if of_target(entries, entry.target))
    return bundle_patch.write_all(client, changes, replan)


def restore(client: Client, intent: Intent, removed: Iterable[TargetChange], *, now: datetime) -> None:
    """Add removed anchors again to the targets as they are now, except anchors that no API server accepts any more."""
    earlier = client.earlier()
    gone = {
        change.target: "".join(
            anchor.pem
            for bundle in change.bundles
            for anchor in bundle.removed
            if not bundle_content.is_over(anchor, earlier)
        )
        for change in removed
    }

    def replan(target: Target, obj: Mapping[str, Any]) -> TargetChange:
        return bundle_patch.plan(
            target, obj, gone[target], service=intent.service_name, consent=EVERYTHING, now=now
        )

    changes = [replan(target, bundle_targets.read(client, target)) for target in gone if gone[target]]
    bundle_patch.write_all(client, changes, replan)


def with_orphans(
    client: Client, intent: Intent, targets: Iterable[Target], annotations: Mapping[str, str]
) -> dict[str, str]:
    """Return the annotations with a record that also names the CAs that were made here, on webhooks of this Service.

    A run that was killed between target and Secret leaves such a CA without a record, and its key no longer exists.
    """
    entries = added_entries(annotations)
    for target in targets:
        with contextlib.suppress(
            TargetError, MissingPermissions
        ):  # it has no orphan that this run can remove
            obj = bundle_targets.read(client, target)
            for config in bundle_targets.client_configs(target, obj, service=intent.service_name):
                start = prefix(target, config.webhook)
                entries |= made_here(start, config.ca_bundle)
    return {**annotations, markers.ANCHORS: " ".join(sorted(entries))}


def plan_removal(
    client: Client, intent: Intent, targets: Iterable[Target], annotations: Mapping[str, str]
) -> tuple[TargetChange, ...]:
    """Return the changes that remove the recorded anchors from these targets. Deleted targets need none."""
    changes, entries, now = [], added_entries(annotations), client.now()
    for target in targets:
        is_recorded = of_target(entries, target)
        obj = client.find(bundle_targets.path(target)) if is_recorded else None
        if obj is not None:
            changes.append(_removal(intent, target, obj, entries, now=now))
    return tuple(change for change in changes if change.changed)


def remove(
    client: Client, intent: Intent, changes: Iterable[TargetChange], annotations: Mapping[str, str]
) -> tuple[TargetChange, ...]:
    """Write the changes of ``plan_removal``, and return them as they were written."""
    replan = functools.partial(_removal, intent, entries=added_entries(annotations), now=client.now())
    return bundle_patch.write_all(client, changes, replan)


def _plan(
    intent: Intent,
    target: Target,
    obj: Mapping[str, Any],
    anchor: TrustAnchor | None,
    leaf_pem: str | None,
    *,
    now: datetime,
    earlier: datetime,
) -> TargetChange:
    return bundle_patch.plan(
        target,
        obj,
        anchor.pem if anchor else None,
        service=intent.service_name,
        consent=intent.accept,
        leaf_pem=leaf_pem,
        now=now,
        earlier=earlier,
    )


def _removal(
    intent: Intent,
    target: Target,
    obj: Mapping[str, Any],
    entries: Collection[str],
    *,
    leaf_pem: str | None = None,
    now: datetime,
) -> TargetChange:
    """Remove from each webhook the anchors of its own entries. Another webhook of the object keeps them."""
    configs = bundle_targets.client_configs(target, obj, service=intent.service_name)
    recorded = {
        config.webhook: [
            anchor.pem
            for anchor in bundle_content.certificates(config.ca_bundle)
            if prefix(target, config.webhook) + anchor.fingerprint in entries
        ]
        for config in configs
    }
    planned = bundle_patch.plan(
        target,
        obj,
        "".join(pem for pems in recorded.values() for pem in pems),
        mode="absent",
        service=intent.service_name,
        consent=intent.accept,
        recorded=True,
        leaf_pem=leaf_pem,
        now=now,
    )
    bundles = (
        replace(
            bundle,
            after=bundle_content.merge(
                bundle.config.ca_bundle, "".join(recorded[bundle.config.webhook]), mode="absent", now=now
            ),
        )
        for bundle in planned.bundles
    )
    return replace(planned, bundles=tuple(bundles))


# The records


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
Superseded = tuple[Target, ClientConfig, list[CertificateFacts]]


def superseded(
    client: Client, intent: Intent, secret: ExistingSecret, targets: Iterable[TargetState]
) -> list[Superseded]:
    """Return each client configuration of the targets with the superseded anchors that it holds, and that no other Secret needs.

    The pods of another Secret of the Service may not be there now.
    """
    entries, added = superseded_entries(secret.annotations), added_entries(secret.annotations)
    others = secret_store.read_others(client, intent) if entries else {}

    def is_needed(anchor: CertificateFacts, entry: str, config: ClientConfig) -> bool:
        if others is None:
            return ephemeral_ca.is_made_here(anchor.subject) and entry not in added
        return any(_needs(other, entry, config, client.now()) for other in others.values())

    return [
        (
            entry.target,
            config,
            [
                anchor
                for anchor in bundle_content.certificates(config.ca_bundle)
                if (place := prefix(entry.target, config.webhook) + anchor.fingerprint) in entries
                and not is_needed(anchor, place, config)
            ],
        )
        for entry in targets
        for config in bundle_targets.client_configs(entry.target, entry.obj, service=intent.service_name)
    ]


def judge_unread(
    run: CertificateRun, annotations: Mapping[str, str], anchor: TrustAnchor | None
) -> dict[Target, MissingPermissions]:
    """Return each recorded object that may refuse a certificate of the anchor, because this run may not read it, with the error.

    The user may confirm the object. anchor: None stands for a CA that is new.
    """
    entries, wanted = added_entries(annotations), fingerprints(anchor.pem if anchor else "")
    trusting = {entry.partition("=")[0] for entry in entries if entry.partition("=")[2] in wanted}
    return {
        target: MissingPermissions(
            f"it is not known if {target} trusts the CA of {run.intent.secret}, and {error.cause}",
            evidence=error.evidence,
            remedy=f"{error.remedy}, or check the object yourself, and set {accept_option([UNSEEN], target)}",
        )
        for target, error in run.unread.items()
        if not run.intent.accept.covers(UNSEEN, target)
        and any(entry.partition("=")[0] not in trusting for entry in of_target(entries, target))
    }


def without_targets(annotations: Mapping[str, str], targets: Iterable[Target]) -> str:
    """Return the record of added anchors without the entries of these targets."""
    entries = added_entries(annotations)
    gone = {entry for target in targets for entry in of_target(entries, target)}
    return " ".join(sorted(entries - gone))


def of_target(entries: Collection[str], target: Target) -> set[str]:
    """Return the entries of a target."""
    path = f"{target.kind}/{target.name}"
    return {entry for entry in entries if entry.startswith((f"{path}=", f"{path}/"))}


def targets_of(entries: Iterable[str], anchors: Collection[str]) -> list[Target]:
    """Return the targets in the entries of these anchors."""
    parts = (entry.partition("=") for entry in sorted(entries))
    return targets_from("/".join(path.split("/")[:2]) for path, _sign, anchor in parts if anchor in anchors)


def targets_from(paths: Iterable[str]) -> list[Target]:
    """Return the targets of paths (kind/name), each once. An annotation may hold any text, so other texts are left out."""
    matches = (_PATH.fullmatch(path) for path in dict.fromkeys(paths))
    return [Target(match[1], match[2]) for match in matches if match and match[1] in bundle_targets.KINDS]


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


def _needs(secret: ExistingSecret, entry: str, config: ClientConfig, now: datetime) -> bool:
    """Return True if the anchor of the entry verifies what a pod of the Secret may serve.

    A record counts only while it is not known what the pods serve, because a rotation does not shorten the records of other Secrets.
    """
    held = secret.certificate
    if (held is None or is_unproven(secret)) and entry in added_entries(secret.annotations):
        return True
    return held is not None and held.not_after > now and entry.partition("=")[2] in _verifying(secret, config)


def _verifying(secret: ExistingSecret, config: ClientConfig) -> set[str]:
    """Return the anchors of the bundle that verify the certificate in the Secret at the start of its lifetime."""
    if secret.certificate is None:
        return set()
    leaf, chain = certificate_facts.load_leaf_and_chain(secret.certificate_pem)
    at = secret.certificate.not_before
    return set(verify(leaf, config.ca_bundle, name=None, intermediates=chain, now=at, usage="any").anchors)
