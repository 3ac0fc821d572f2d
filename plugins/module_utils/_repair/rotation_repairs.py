# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair caBundles around a rotation of the cluster's CA: add the successor, and later remove the outgoing CA. Pure.

The successor is added before the switch, so that no call fails at the switch, and also after it (aws/containers-roadmap#2874). The
outgoing CA is removed only if it is proven that no endpoint needs it, and that the cluster does not return to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from .._audit.facts.cluster_data import ClusterData, RotationData
from .._base.times import format_time
from .._csr.ca_rotation import signer_of
from .._webhook import bundle_content
from .._x509 import certificate_facts
from .bundle_repairs import (
    ABSENT,
    APPEND,
    BundleAction,
    ObjectChanged,
    plan_edit,
    read_chains,
    refusal_of,
)
from .repair_model import WAITING, Case, Refusal, RotationOptions

#: A controller manager that has not switched may become the leader again, and sign with the outgoing CA.
SETTLED_AFTER = timedelta(hours=24)
#: cainjector reads the CA that it injects from its own ServiceAccount, once at its start
#: (https://cert-manager.io/docs/concepts/ca-injector/).
_INJECTS_OWN_CA = ("cert-manager.io/inject-apiserver-ca", "true")


def plan_add_successor(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that adds the successor and removes nothing. None without a rotation."""
    if case.data.ca is None:
        return None
    at = case.finding.breaks_at
    until = f" Calls fail from {format_time(at)} on" if at else ""
    name, value = _INJECTS_OWN_CA
    if (case.around.obj["metadata"].get("annotations") or {}).get(name) == value:
        return Refusal(
            "injected-at-start",
            f"cainjector writes the CA that it read at its start, because of the annotation {name}.{until}",
            "Restart the Deployment of cainjector, so that it reads the successor",
            state=WAITING,
        )
    planned = plan_edit(case, case.data.ca.rotation.successor.pem, mode=APPEND)
    if isinstance(planned, Refusal) and until:
        return replace(planned, reason=f"{planned.reason}.{until}")
    return planned


def plan_remove_outgoing(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that removes the outgoing CAs, if the rest of the caBundle verifies what every endpoint serves."""
    ca, point = case.data.ca, case.point
    if ca is None:
        return None
    if point.config.service is None or case.backend.is_external:
        return Refusal(
            "endpoint-unseen",
            "its address may lead to several machines, so it is not proven that each of them serves a certificate of the successor",
            "Check each machine. Then remove the outgoing CA with webhook_cabundle and mode absent",
        )
    seen = read_chains(case)
    if isinstance(seen, Refusal):
        return seen
    for chain in seen:
        leaf, sent = chain.parsed
        if ca.rotation.outgoing_of(leaf, sent):
            end = format_time(leaf.not_valid_after_utc)
            return Refusal(
                "outgoing-served",
                f"{chain.endpoint} serves a certificate of the outgoing CA until {end}",
                "Let the owner of the certificate renew it",
                state=WAITING,
            )
    outgoing = "".join(entry.pem for entry in ca.rotation.outgoing)
    left = bundle_content.merge(point.config.ca_bundle, outgoing, mode=ABSENT, now=case.data.now)
    refusal = refusal_of(case, left, seen)
    if refusal:
        return Refusal(
            "still-needed",
            f"without the outgoing CA the API server would refuse an endpoint: {refusal}",
            "Add the successor first, by the kind add-successor or the phase prepare",
        )
    return plan_edit(case, outgoing, mode=ABSENT)


def check_successor(data: ClusterData, options: RotationOptions) -> None:
    """Raise ObjectChanged if a certificate of the successor in the options does not belong to the youngest CA of the cluster."""
    wanted = {entry.fingerprint for entry in bundle_content.certificates(options.successor)}
    if data.ca and not wanted <= data.ca.rotation.successor.fingerprints:
        raise ObjectChanged(
            "the successor in the option cluster_ca has a certificate that does not belong to the youngest CA of this cluster",
            evidence=[f"successor: {data.ca.rotation.successor}"],
            remedy="Set successor to the CA to which the cluster switches next, without the outgoing CA",
            code="invalid-input",
        )


def find_wait(data: ClusterData, options: RotationOptions) -> Refusal | None:
    """Return what the removal of the outgoing CA waits for in the whole cluster, None if it waits for nothing."""
    return next(_waits(data, data.ca, options), None) if data.ca else None


def _waits(data: ClusterData, ca: RotationData, options: RotationOptions) -> Iterator[Refusal]:
    rotation, servers = ca.rotation, ca.servers
    if not ca.is_switched:
        last = ca.eks.final_activation if ca.eks else None
        until = f". Amazon EKS switches at {format_time(last)} at the latest" if last else ""
        yield _wait(
            "not-switched",
            f"a signer or an API server still uses the outgoing CA{until}",
            "Switch each control plane node to the successor, and run the task again a day later",
            ca.late_servers,
        )
    outgoing = rotation.outgoing
    if not any(entry.is_in(point.config.ca_bundle) for entry in outgoing for point in data.points):
        return
    if any(entry.has_rollback for entry in options.eks_cas):
        yield _wait(
            "rollback-available",
            "Amazon EKS can still return to the outgoing CA",
            "Wait until Amazon EKS can no longer return to it. Then update certificate_authorities, and run the task again",
        )
    if not options.is_confirmed:
        confirm = "If every API server and every signer uses the successor, set confirmed in the option cluster_ca to true"
        unseen = [address for address, is_new in servers.items() if is_new is None]
        if unseen or not servers:
            yield _wait(
                "api-server-unseen",
                "not every API server showed the CA of its certificate",
                f"Set probe_urls to true, so that the audit connects to each API server. {confirm}",
                unseen,
            )
        if rotation.signer is None:
            yield _wait("signer-unseen", "no certificate of a signer was seen since the switch", confirm)
    settled_at = switched_since(data, ca) + SETTLED_AFTER
    if data.now < settled_at:
        yield _wait(
            "not-settled",
            f"the switch is less than 24 hours old until {format_time(settled_at)}",
            "Run the task again after this time",
        )


def _wait(code: str, reason: str, remedy: str, evidence: Iterable[str] = ()) -> Refusal:
    return Refusal(code, reason, remedy, tuple(evidence), state=WAITING)


def switched_since(data: ClusterData, ca: RotationData) -> datetime:
    """Return the time since which only the successor signs: its first certificate, or a later one of an outgoing CA.

    The certificate of the API server counts only without another one, because it may have been made before the switch.
    """
    rotation = ca.rotation
    chains = [
        chain.chain_pem for backend in data.backends.values() for chain in backend.chains if chain.certificate
    ]
    leaves = [certificate_facts.load_leaf_and_chain(pem) for pem in (*data.issued.values(), *chains)]
    api_server = certificate_facts.load_leaf_and_chain(data.api_server)
    begins = [(signer_of(rotation.cas, leaf, sent), leaf.not_valid_before_utc) for leaf, sent in leaves]
    first = min(
        (begin for signer, begin in begins if signer is rotation.successor),
        default=api_server[0].not_valid_before_utc,
    )
    return max((first, *(begin for signer, begin in begins if signer in rotation.outgoing)))
