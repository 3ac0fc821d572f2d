# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Rules about the signers inside kube-controller-manager: does it run, has it a CA for this signer, has that expired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from .._csr.signers import EPHEMERAL_CA
from .._kube.cluster_facts import ManagerFlags
from .diagnosis import LIKELY, PROVEN, Diagnosis, approval, moment, span
from .observation import CONTROLLED, CsrObservation, PublishedCa

# The controller that signs, by its name and by the older one (k/k cmd/kube-controller-manager/names).
SIGNING_CONTROLLER = ("certificatesigningrequest-signing-controller", "csrsigning")
# Leader election may have been switched off since a Lease was left; that is unlikely within a day.
FRESH = timedelta(days=1)


@dataclass(frozen=True)
class ControllerManager:
    """What is known of the one that serves a request's signer; all False where nothing is, or where none does."""

    is_alive: bool = False
    gives_a_ca: bool = False


def of(seen: CsrObservation) -> ControllerManager:
    if seen.signer not in CONTROLLED:
        return ControllerManager()
    return ControllerManager(
        is_alive=seen.lease is not None and seen.lease.runs_out >= seen.now,
        gives_a_ca=any(serves(flags, seen.signer) for flags in seen.flags),
    )


def serves(flags: ManagerFlags, signer: str) -> bool:
    """Whether a controller-manager with these flags issues for the signer.

    One pair of files for one signer takes the general pair from all others (k/k cmd/kube-controller-manager/app/
    certificates.go, getKubeletServingSignerFiles and its like).
    """
    pairs = {name: _pair(flags, f"{part}-") for name, part in CONTROLLED.items()}
    cert, key = pairs[signer] if any(map(any, pairs.values())) else _pair(flags, "")
    return bool(cert and key) and _is_enabled(flags.values.get("controllers", "*"))


def switched_off(seen: CsrObservation) -> Diagnosis | None:
    if (
        seen.signer not in CONTROLLED
        or not seen.flags
        or any(serves(flags, seen.signer) for flags in seen.flags)
    ):
        return None
    served = [name for name in CONTROLLED if any(serves(flags, name) for flags in seen.flags)]
    return Diagnosis(
        "signer-switched-off",
        f"kube-controller-manager has no CA for the signer {seen.signer}, so nobody issues request {seen.name}: it runs "
        f"with an external CA, or without the flags --cluster-signing-{CONTROLLED[seen.signer]}-cert-file and -key-file.",
        PROVEN,
        (
            *approval(seen.csr),
            *(f"flags of pod kube-system/{flags.pod}: {_shown(flags)}" for flags in seen.flags),
            f"it issues for: {', '.join(served) or 'no signer'}",
        ),
        f"{_other_signer(seen)}Give kube-controller-manager the CA's certificate and key by these flags, or ask "
        f"another signer; for a webhook signer_name: {EPHEMERAL_CA} asks none. Where the key is kept outside the cluster, "
        "sign the request there.",
    )


def stopped(seen: CsrObservation) -> Diagnosis | None:
    lease = seen.lease
    if seen.signer not in CONTROLLED or lease is None or seen.now <= lease.runs_out or _contradicted(seen):
        return None
    age = seen.now - lease.renewed
    return Diagnosis(
        "controller-manager-stopped",
        f"kube-controller-manager does not run, so nobody issues request {seen.name}: it renewed its Lease {span(age)} ago "
        "for the last time.",
        PROVEN if age < FRESH else LIKELY,
        (
            *approval(seen.csr),
            (
                f"Lease kube-system/kube-controller-manager: last renewed at {moment(lease.renewed)}, holds for "
                f"{span(lease.length)}, holder {lease.holder or 'none: it was given back'}; the API server's clock says "
                f"{moment(seen.now)}"
            ),
        ),
        "Start kube-controller-manager, or see in its log why it ends; it issues what is approved within seconds of its "
        "start. On a managed cluster that is the provider's to do.",
    )


def _contradicted(seen: CsrObservation) -> bool:
    """It works without renewing a Lease: leader election is off, and the Lease is an old one."""
    lease, peers = seen.lease, seen.peers
    without = any(flags.values.get("leader-elect") == "false" for flags in seen.flags)
    return without or bool(lease and peers and peers.last_issued and peers.last_issued > lease.runs_out)


def expired_ca(seen: CsrObservation) -> Diagnosis | None:
    suspects = suspected(seen)
    if not suspects or any(authority.not_after > seen.now for authority in suspects):
        return None
    first = suspects[0]
    issued = seen.peers is not None and first.subject in seen.peers.issuers
    return Diagnosis(
        "signing-ca-expired",
        f"The CA that signs for {seen.signer} expired at {moment(first.not_after)} ({first.subject}), so request {seen.name} "
        "is not issued.",
        LIKELY,
        (
            *approval(seen.csr),
            *(f"{one.source}: {one.subject}, until {moment(one.not_after)}" for one in suspects),
            *(("it issued this signer's earlier certificates",) if issued else ()),
        ),
        "Renew the signing CA: kube-controller-manager refuses to sign with an expired one and says so in its log alone "
        "(the signer has expired). Then distribute the new CA; what is approved is issued at once.",
    )


def suspected(seen: CsrObservation) -> list[PublishedCa]:
    """The published CAs that sign for this request's signer, as far as can be told; none where nothing tells.

    Those that issued its earlier certificates; for signers of kube-controller-manager else those that are published
    for requests (OpenShift), else the cluster's.
    """
    issuers = seen.peers.issuers if seen.peers else ()
    named = [one for one in seen.authorities if one.subject in issuers]
    if named or issuers or seen.signer not in CONTROLLED:
        return named
    return [one for one in seen.authorities if one.for_requests] or list(seen.authorities)


def evidence(seen: CsrObservation) -> Iterator[str]:
    """What is known of the controller-manager, where that explains nothing."""
    if of(seen).is_alive and seen.lease:
        yield f"kube-controller-manager runs: it renewed its Lease at {moment(seen.lease.renewed)}"
    for flags in seen.flags:
        yield f"flags of pod kube-system/{flags.pod}: {_shown(flags)}"


def _pair(flags: ManagerFlags, part: str) -> tuple[str, str]:
    cert, key = (flags.values.get(f"cluster-signing-{part}{kind}-file", "") for kind in ("cert", "key"))
    return cert, key


def _is_enabled(controllers: str) -> bool:
    """k8s.io/controller-manager app.IsControllerEnabled: by name, else as the star says."""
    listed = controllers.split(",")
    if any(f"-{name}" in listed for name in SIGNING_CONTROLLER):
        return False
    return "*" in listed or any(name in listed for name in SIGNING_CONTROLLER)


def _shown(flags: ManagerFlags) -> str:
    wanted = (
        f"--{name}={value}"
        for name, value in flags.values.items()
        if name.startswith("cluster-signing-") or name == "controllers"
    )
    return " ".join(wanted) or "none about signing"


def _other_signer(seen: CsrObservation) -> str:
    known = seen.provider.signer if seen.provider else ""
    return f"Use signer_name: {known}. " if known and known != seen.signer and known not in CONTROLLED else ""
