# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Rules about the signers inside kube-controller-manager: it is stopped, it has no CA, or its CA has expired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from .._kube.cluster_facts import ManagerFlags
from .observation import (
    BUILT_IN_SIGNERS,
    LIKELY,
    PROVEN,
    CsrObservation,
    Diagnosis,
    PublishedAuthority,
    approval_evidence,
    show_span,
    show_time,
)
from .remedies import remedy_of

# The controller that signs, by its name and by the older one (k/k cmd/kube-controller-manager/names).
SIGNING_CONTROLLER = ("certificatesigningrequest-signing-controller", "csrsigning")
# Leader election may have been switched off after the Lease was written. Within a day that is unlikely.
FRESH = timedelta(days=1)


def is_manager_alive(observation: CsrObservation) -> bool:
    """Return True if the controller manager serves the request's signer and runs. False also means: not known."""
    lease = observation.lease
    return observation.signer in BUILT_IN_SIGNERS and lease is not None and lease.runs_out >= observation.now


def has_ca(observation: CsrObservation) -> bool:
    """Return True if the flags of the controller manager name a CA for the signer. False also means: not known."""
    is_built_in = observation.signer in BUILT_IN_SIGNERS
    return is_built_in and any(_serves(flags, observation.signer) for flags in observation.flags)


def _serves(flags: ManagerFlags, signer: str) -> bool:
    """Return True if a controller manager with these flags issues for the signer.

    If one signer has a pair of files of its own, the general pair does not count for any signer (k/k
    cmd/kube-controller-manager/app/certificates.go, getKubeletServingSignerFiles and similar functions).
    """
    pairs = {name: _file_pair(flags, f"{part}-") for name, part in BUILT_IN_SIGNERS.items()}
    cert, key = pairs[signer] if any(map(any, pairs.values())) else _file_pair(flags, "")
    return bool(cert and key) and _is_enabled(flags.values.get("controllers", "*"))


def switched_off(observation: CsrObservation) -> Diagnosis | None:
    signer = observation.signer
    if signer not in BUILT_IN_SIGNERS or not observation.flags or has_ca(observation):
        return None
    served = [name for name in BUILT_IN_SIGNERS if any(_serves(flags, name) for flags in observation.flags)]
    return Diagnosis(
        "signer-switched-off",
        f"kube-controller-manager has no CA for the signer {signer}, so it does not issue request {observation.name}: it "
        f"runs with an external CA, or without the flags --cluster-signing-{BUILT_IN_SIGNERS[signer]}-cert-file and "
        "-key-file.",
        PROVEN,
        (
            *approval_evidence(observation.csr),
            *_flag_evidence(observation),
            f"it issues for: {', '.join(served) or 'no signer'}",
        ),
        _other_signer(observation) + remedy_of("signer-switched-off", observation),
    )


def stopped(observation: CsrObservation) -> Diagnosis | None:
    lease = observation.lease
    if observation.signer not in BUILT_IN_SIGNERS or lease is None or observation.now <= lease.runs_out:
        return None
    if _works_without_lease(observation):
        return None
    age = observation.now - lease.renewed
    return Diagnosis(
        "controller-manager-stopped",
        f"kube-controller-manager does not run, so it does not issue request {observation.name}: it last renewed its Lease "
        f"{show_span(age)} ago.",
        PROVEN if age < FRESH else LIKELY,
        (
            *approval_evidence(observation.csr),
            (
                f"Lease kube-system/kube-controller-manager: last renewed at {show_time(lease.renewed)}, valid for "
                f"{show_span(lease.length)}, holder {lease.holder or 'none, because it was released'}, and the API "
                f"server's clock shows {show_time(observation.now)}"
            ),
        ),
        remedy_of("controller-manager-stopped", observation),
    )


def _works_without_lease(observation: CsrObservation) -> bool:
    """Return True if leader election is off, so that the Lease is an old one."""
    lease, stats = observation.lease, observation.stats
    is_off = any(flags.values.get("leader-elect") == "false" for flags in observation.flags)
    return is_off or bool(lease and stats and stats.last_issued and stats.last_issued > lease.runs_out)


def expired_ca(observation: CsrObservation) -> Diagnosis | None:
    authorities = _signing_authorities(observation)
    if not authorities or any(ca.not_after > observation.now for ca in authorities):
        return None
    first = authorities[0]
    has_issued = observation.stats is not None and first.subject in observation.stats.issuers
    return Diagnosis(
        "signing-ca-expired",
        f"The CA that signs for {observation.signer} expired at {show_time(first.not_after)} ({first.subject}), so request "
        f"{observation.name} is not issued.",
        LIKELY,
        (
            *approval_evidence(observation.csr),
            *(f"{ca.source}: {ca.subject}, until {show_time(ca.not_after)}" for ca in authorities),
            *(("it issued this signer's earlier certificates",) if has_issued else ()),
        ),
        remedy_of("signing-ca-expired", observation),
    )


def _signing_authorities(observation: CsrObservation) -> list[PublishedAuthority]:
    """Return the published CAs that probably sign for this signer: those that issued its earlier certificates.

    Without such a certificate, a signer of kube-controller-manager uses the CAs that are published for requests
    (OpenShift), else those of the cluster. For other signers the list is empty.
    """
    issuers = observation.stats.issuers if observation.stats else ()
    named = [ca for ca in observation.authorities if ca.subject in issuers]
    if named or issuers or observation.signer not in BUILT_IN_SIGNERS:
        return named
    return [ca for ca in observation.authorities if ca.signs_requests] or list(observation.authorities)


def manager_evidence(observation: CsrObservation) -> Iterator[str]:
    """Yield the facts about the controller manager for a request that they do not explain."""
    if is_manager_alive(observation) and observation.lease:
        yield f"kube-controller-manager runs: it renewed its Lease at {show_time(observation.lease.renewed)}"
    yield from _flag_evidence(observation)


def _flag_evidence(observation: CsrObservation) -> Iterator[str]:
    return (f"flags of pod kube-system/{flags.pod}: {_signing_flags(flags)}" for flags in observation.flags)


def _file_pair(flags: ManagerFlags, part: str) -> tuple[str, str]:
    cert, key = (flags.values.get(f"cluster-signing-{part}{kind}-file", "") for kind in ("cert", "key"))
    return cert, key


def _is_enabled(controllers: str) -> bool:
    """Return True if the flag --controllers enables the signing controller (k8s.io/controller-manager IsControllerEnabled)."""
    listed = controllers.split(",")
    if any(f"-{name}" in listed for name in SIGNING_CONTROLLER):
        return False
    return "*" in listed or any(name in listed for name in SIGNING_CONTROLLER)


def _signing_flags(flags: ManagerFlags) -> str:
    wanted = (
        f"--{name}={value}"
        for name, value in flags.values.items()
        if name.startswith("cluster-signing-") or name == "controllers"
    )
    return " ".join(wanted) or "none about signing"


def _other_signer(observation: CsrObservation) -> str:
    signer = observation.provider.signer if observation.provider else ""
    is_usable = signer not in ("", observation.signer, *BUILT_IN_SIGNERS)
    return f"Use signer_name: {signer}. " if is_usable else ""
