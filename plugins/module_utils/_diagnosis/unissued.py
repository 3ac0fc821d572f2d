# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Requests that are approved and not issued. What will keep a request that nobody has approved yet from it, too.

The object looks the same for a signer that does not exist, one that refuses silently, a stopped controller-manager, an
expired CA and a slow signer. So each rule says how certain it is, and none claims more than its evidence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import timedelta
from typing import Callable

from .._csr.providers import PROVIDERS, UnservedSigner
from .._csr.signers import EKS_APP_SERVING, KUBELET_SERVING, LEGACY_UNKNOWN
from . import control_plane
from .diagnosis import LIKELY, ONE_OF, PROVEN, Diagnosis, approval, moment, span
from .observation import CERT_MANAGER, CONTROLLED, CsrObservation
from .signer_stats import approved_at, is_node

# A request that waits this long waits for nobody.
LEFT_OVER_AFTER = timedelta(days=1)
SIMILAR = 0.8  # of difflib: one or two letters in a name


def legacy_unknown(seen: CsrObservation) -> Diagnosis | None:
    if seen.signer != LEGACY_UNKNOWN:
        return None
    return Diagnosis(
        "legacy-unknown",
        f"Request {seen.name} asks the signer {LEGACY_UNKNOWN}, which is of the API version v1beta1 that Kubernetes 1.22 "
        "removed.",
        LIKELY,
        approval(seen.csr),
        f"Make a new request with signer_name: {KUBELET_SERVING}, on Amazon EKS {EKS_APP_SERVING}.",
    )


def not_served(seen: CsrObservation) -> Diagnosis | None:
    fault = unserved(seen)
    # What others got from this signer outweighs any table.
    if fault is None or seen.provider is None or (seen.peers and seen.peers.issued):
        return None
    stuck = seen.peers.stuck if seen.peers else 0
    others = (
        (f"{stuck} other approved requests of this signer were never issued, and none was",) if stuck else ()
    )
    return Diagnosis(
        "signer-not-served",
        f"The signer {fault.signer} will not issue request {seen.name} on this cluster ({seen.provider.name}): "
        f"{fault.why}.",
        PROVEN if stuck else LIKELY,
        (
            *approval(seen.csr),
            *(f"{seen.provider.name}: {text}" for text in seen.provider.evidence),
            *others,
        ),
        fault.remedy,
    )


def unserved(seen: CsrObservation) -> UnservedSigner | None:
    """The row that says so: of this provider, or of another one that keeps the signer to itself."""
    if seen.row is None or seen.provider is None or seen.signer == seen.provider.signer or is_node(seen.csr):
        return None
    for fault in seen.row.not_served:
        if fault.signer == seen.signer:
            return fault
    owners = [row.name for row in PROVIDERS if row.serving_signer == seen.signer]
    if seen.signer.startswith("kubernetes.io/") or not owners:
        return None
    remedy = f"Use signer_name: {seen.provider.signer}." if seen.provider.signer else ""
    return UnservedSigner(seen.signer, f"only {' and '.join(owners)} has it", remedy)


def no_such_signer(seen: CsrObservation) -> Diagnosis | None:
    """The API server takes any name: a slip of the pen waits for ever."""
    if not seen.signer.startswith("kubernetes.io/") or seen.signer in CONTROLLED:
        return None
    usable = [name for name in CONTROLLED if name != LEGACY_UNKNOWN]
    meant = difflib.get_close_matches(seen.signer, usable, 1, SIMILAR)
    return Diagnosis(
        "no-such-signer",
        f"No signer of Kubernetes is called {seen.signer}, so nobody issues request {seen.name}.",
        LIKELY,
        (*approval(seen.csr), f"names under kubernetes.io/ are reserved for: {', '.join(CONTROLLED)}"),
        f"Make a new request; meant may be {meant[0]}."
        if meant
        else "Make a new request for a signer that exists.",
    )


def issuer_absent(seen: CsrObservation) -> Diagnosis | None:
    issuer = seen.issuer
    if issuer is None or issuer.exists is not False:
        return None
    absent = (
        "cert-manager is not installed here" if issuer.installed is False else f"there is no {issuer.text}"
    )
    return Diagnosis(
        "issuer-absent",
        f"The signer {seen.signer} is cert-manager's {issuer.text}, and {absent}, so nobody issues request {seen.name}.",
        PROVEN,
        approval(seen.csr),
        "Create that issuer, or make a new request for a signer that is there.",
    )


def gate_off(seen: CsrObservation) -> Diagnosis | None:
    """With the gate on, cert-manager answers at once: by an Event where it does not issue."""
    if not seen.signer.startswith(CERT_MANAGER) or seen.reports or (seen.peers and seen.peers.issued):
        return None
    return Diagnosis(
        "cert-manager-gate-off",
        f"cert-manager does not look at request {seen.name}: its controllers for certificate signing requests are "
        "experimental and off by default.",
        LIKELY,
        (*approval(seen.csr), "no Event of cert-manager on the request"),
        "Start cert-manager's controller with --feature-gates=ExperimentalCertificateSigningRequestControllers=true, or "
        "use its Certificate resources, with cainjector for the caBundle.",
    )


def reported(seen: CsrObservation) -> Diagnosis | None:
    """Warnings alone: that it waits for the approval, cert-manager says of every request."""
    found = [report for report in seen.reports if report.warning]
    if not found:
        return None
    last = found[-1]
    said = f"{last.reason}: {last.message.rstrip('.')}"
    return Diagnosis(
        "signer-reports",
        f"{last.reporter or 'A controller'} says of request {seen.name}: {said}.",
        LIKELY,
        (*approval(seen.csr), *(f"Event {report.reason}: {report.message}" for report in seen.reports)),
        "Settle what the signer objects to; kubectl describe csr shows its Events.",
    )


def forbidden_prefix(seen: CsrObservation) -> Diagnosis | None:
    prefixes = seen.row.forbidden_prefixes if seen.row else ()
    prefix = next((prefix for prefix in prefixes if seen.name.startswith(prefix)), None)
    if prefix is None or seen.row is None:
        return None
    return Diagnosis(
        "name-never-issued",
        f"Request {seen.name} has a name that {seen.row.name} never issues: it begins with {prefix!r}.",
        LIKELY,
        (*approval(seen.csr), f"source: {seen.row.source}"),
        f"Make a new request under a name that does not begin with {prefix!r}.",
    )


def left_over(seen: CsrObservation) -> Diagnosis | None:
    age = seen.now - approved_at(seen.csr)
    if age < LEFT_OVER_AFTER:
        return None
    return Diagnosis(
        "left-over",
        f"Request {seen.name} was approved {span(age)} ago and {seen.signer} has not issued it: nobody waits for it any "
        f"more, and {_one_of(seen)} kept it from being issued.",
        ONE_OF,
        tuple(_evidence(seen)),
        f"Delete it (kubectl delete csr {seen.name}): before Kubernetes 1.35 nothing collects it, and there it is a day. "
        "Then find out why this signer does not issue.",
    )


def unexplained(seen: CsrObservation) -> Diagnosis:
    log = "kube-controller-manager's" if seen.signer in CONTROLLED else "the signer's"
    return Diagnosis(
        "approved-not-issued",
        f"Request {seen.name} is approved and {seen.signer} has not issued it: {_one_of(seen)}.",
        ONE_OF,
        tuple(_evidence(seen)),
        f"Look into {log} log: for most of these that is the only place where it stands.",
    )


def _one_of(seen: CsrObservation) -> str:
    """What it may be, without what the evidence excludes."""
    manager = control_plane.of(seen)
    possible = (
        ("no such signer here", not (manager.gives_a_ca or (seen.peers and seen.peers.issued))),
        ("a signer that does not run", not manager.is_alive),
        ("a signing CA that is missing", not manager.gives_a_ca),
        ("a signing CA that cannot be read or has expired", True),
        ("a slow signer", True),
    )
    left = [text for text, is_possible in possible if is_possible]
    return f"one of {', '.join(left[:-1])}, or {left[-1]}"


def _evidence(seen: CsrObservation) -> Iterator[str]:
    yield from approval(seen.csr)
    peers = seen.peers
    if peers and peers.issued and peers.last_issued:
        yield (
            f"{peers.issued} other requests of this signer were issued, the last one approved at "
            f"{moment(peers.last_issued)}"
        )
    if peers and peers.stuck and peers.oldest_stuck:
        yield (
            f"{peers.stuck} other requests of this signer are stuck too, the oldest one approved at "
            f"{moment(peers.oldest_stuck)}"
        )
    yield from (f"Event {report.reason}: {report.message}" for report in seen.reports)
    yield from control_plane.evidence(seen)


Rule = Callable[[CsrObservation], "Diagnosis | None"]
# What can be foreseen of a request that is not approved yet.
FORESEEING: tuple[Rule, ...] = (
    legacy_unknown,
    not_served,
    no_such_signer,
    control_plane.switched_off,
    control_plane.stopped,
    issuer_absent,
    forbidden_prefix,
    control_plane.expired_ca,
)


def foreseen(seen: CsrObservation) -> Diagnosis | None:
    """What would become of the request once it is approved, None where nothing speaks against it."""
    return next((found for rule in FORESEEING if (found := rule(seen))), None)
