# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_signer_probe: ask every signer at once for a throw-away certificate, see who answers, and leave nothing behind."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Callable, cast

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._csr import certificate_rules, csr_api, markers, trust_anchors
from .._csr.approval import permission_for
from .._csr.csr_content import certificate_of
from .._csr.errors import AnchorError, RequestError
from .._csr.requester import requester_of
from .._diagnosis import signer_probe
from .._diagnosis.cluster_evidence import ClusterEvidence
from .._diagnosis.diagnosis import Diagnosis
from .._diagnosis.signer_probe import SignerProbe
from .._errors import CertflowError
from .._kube import access_review
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError, KubeError
from .._process.interrupt import put_away_by
from .._result import Result
from .._times import parse_time
from .._x509 import certificate_facts, pem_text
from .._x509.errors import CertificateError

# Of the time that the task has, this is kept for deleting what was sent.
CLEANING_SECONDS = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 1.0

SPEC: dict[str, Any] = {
    "signers": {"type": "list", "elements": "str"},
    "probe_seconds": {"type": "int", "default": 15},
    **argument_specs.AUTH,
}


@dataclass(frozen=True)
class Trial:
    """What became of a probe. csr: as last seen; approved_at: time.monotonic(); seconds: from there to the answer.

    fault: why it ended without an answer of the signer. is_tried: it was sent, or the API server refused it.
    """

    probe: SignerProbe
    is_tried: bool = False
    csr: Mapping[str, Any] | None = None
    approved_at: float = 0.0
    seconds: float | None = None
    fault: Diagnosis | None = None

    @property
    def is_over(self) -> bool:
        return self.fault is not None or self.csr is None or signer_probe.is_answered(self.csr)


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    if parameters["probe_seconds"] < 0:
        wanted = "give a number of seconds, 0 or more"
        raise RequestError(f"the probe_seconds are {parameters['probe_seconds']}", remedy=wanted)
    token = secrets.token_hex(5)
    probes = signer_probe.probes(parameters.get("signers") or signer_probe.serving_signers(), token)
    trials = _permitted(client, probes)
    if check_mode:
        return Result(
            False, {"signers": [_entry(client, trial, ClusterEvidence(client)) for trial in trials]}
        )
    left: list[str] = []
    seconds = _patience(client, parameters["probe_seconds"])
    try:
        with put_away_by(lambda: left.extend(_cleaned(client, token))):
            trials = _tried(client, trials, seconds)
    except CertflowError as error:
        error.evidence += tuple(left)
        raise
    around = ClusterEvidence(client)
    entries = [_entry(client, trial, around) for trial in trials]
    warnings = (*left, *_hurried(seconds, parameters["probe_seconds"]))
    return Result(bool(left), {"signers": entries}, warnings=warnings)


def _patience(client: Client, wanted: int) -> float:
    """How long to wait for certificates: of the time that the task has, some is kept for deleting the requests."""
    there = max(0.0, client.deadline - time.monotonic())
    return min(float(wanted), max(there - CLEANING_SECONDS, there / 2))


def _hurried(seconds: float, wanted: int) -> Iterator[str]:
    if seconds < wanted:
        yield (
            f"waited for {seconds:.0f} seconds instead of probe_seconds {wanted}, which says less of a signer that did not "
            "issue: wait_timeout, or the task's timeout, is too short for more"
        )


_COMMON = (
    *(
        Permission(verb, csr_api.GROUP, "certificatesigningrequests")
        for verb in ("create", "get", "list", "delete")
    ),
    Permission("update", csr_api.GROUP, "certificatesigningrequests/approval"),
)


def _permitted(client: Client, probes: Sequence[SignerProbe]) -> list[Trial]:
    """A trial for each probe, ended where this identity may not approve it. Raises MissingPermissions where none is left."""
    approvals = [permission_for(probe.signer_name) for probe in probes]
    lacking = access_review.find_missing(client, [*_COMMON, *approvals])
    if set(lacking) & set(_COMMON) or set(lacking) >= set(approvals):
        raise access_review.missing_permissions(
            lacking, f"probe {', '.join(probe.signer_name for probe in probes)}"
        )
    faults = [
        signer_probe.may_not_approve(probe, access_review.remedy([permission]))
        if permission in lacking
        else None
        for probe, permission in zip(probes, approvals)
    ]
    return [Trial(probe, fault=fault) for probe, fault in zip(probes, faults)]


def _tried(client: Client, trials: Sequence[Trial], seconds: float) -> list[Trial]:
    """Send all, approve all, then wait for all together."""
    sent = [_sent(client, trial) for trial in trials]
    approved = [_approved(client, trial) for trial in sent]
    return _awaited(client, approved, time.monotonic() + seconds)


def _sent(client: Client, trial: Trial) -> Trial:
    probe = trial.probe

    def send() -> Trial:
        csr = csr_api.send(client, probe.intent, probe.request_pem, probe.metadata)
        return replace(trial, csr=csr)

    return trial if trial.fault else replace(_or_refused(trial, "create", send), is_tried=True)


def _approved(client: Client, trial: Trial) -> Trial:
    csr, probe = trial.csr, trial.probe
    if trial.fault or csr is None:
        return trial
    own = requester_of(csr)
    expected = csr_api.expectation_for(probe.intent, probe.public_key_sha256, requester=own.username)

    def approve() -> Trial:
        decided = csr_api.approve_own(client, csr, expected, probe.approval)
        seconds = 0.0 if signer_probe.is_answered(decided) else None
        return replace(trial, csr=decided, approved_at=time.monotonic(), seconds=seconds)

    return _or_refused(trial, "approve", approve)


def _or_refused(trial: Trial, step: str, act: Callable[[], Trial]) -> Trial:
    """What the cluster's policies refuse is an answer to the question; a server that fails is none."""
    try:
        return act()
    except ApiError as exc:
        if exc.status is None or exc.status >= 500:
            raise
        return replace(trial, fault=signer_probe.refused(trial.probe, step, exc.message or exc.cause))


def _awaited(client: Client, trials: list[Trial], until: float) -> list[Trial]:
    """Look again and again, at growing intervals: proxies hold watches back, and a few seconds are not many looks."""
    pause = SHORTEST_PAUSE
    while not all(trial.is_over for trial in trials):
        listed = {csr["metadata"]["uid"]: csr for csr in _listed(client, trials[0].probe.token)}
        now = time.monotonic()
        trials = [trial if trial.is_over else _seen(trial, listed, now) for trial in trials]
        if now >= until:
            break
        if not all(trial.is_over for trial in trials):
            time.sleep(max(0.0, min(pause, until - now)))
            pause = min(pause * 1.5, LONGEST_PAUSE)
    return trials


def _seen(trial: Trial, listed: Mapping[str, Mapping[str, Any]], now: float) -> Trial:
    csr = cast("Mapping[str, Any]", trial.csr)
    current = listed.get(csr["metadata"]["uid"])
    if current is None:
        return replace(trial, fault=signer_probe.deleted(csr))
    seconds = round(now - trial.approved_at, 1) if signer_probe.is_answered(current) else None
    return replace(trial, csr=current, seconds=seconds)


def _listed(client: Client, token: str = "") -> list[dict[str, Any]]:
    """The requests of this run; without a token, of every run."""
    return csr_api.select(client, [f"{markers.PROBE}={token}" if token else markers.PROBE], None)


def _cleaned(client: Client, token: str) -> list[str]:
    """Delete what this run sent, and what earlier ones that were killed could not delete. Returns what stays, in words.

    Found by their label: the answer to a request that was sent may have been lost.
    """
    client.deadline = max(client.deadline, time.monotonic() + CLEANING_SECONDS)
    try:
        found = _listed(client)
    except KubeError as exc:
        return [f"requests with the label {markers.PROBE}={token} may be left over: {exc.cause}"]
    now = (
        client.now()
    )  # the server's clock: with ours ahead, requests of a run beside this one would look abandoned
    mine = (csr for csr in found if signer_probe.is_left_over(csr, token, now))
    return [warning for warning in (_deleted(client, csr) for csr in mine) if warning]


def _deleted(client: Client, csr: Mapping[str, Any]) -> str:
    try:
        return csr_api.remove(client, csr)
    except KubeError as exc:
        return f"CSR {csr['metadata']['name']} is left over: {exc.cause}"


def _entry(client: Client, trial: Trial, around: ClusterEvidence) -> dict[str, Any]:
    """What the result says of a signer; of a probe that was not sent, what it would be."""
    probe, csr = trial.probe, trial.csr
    request = probe.intent.request
    entry: dict[str, Any] = {
        "signer_name": probe.signer_name,
        "issued": None,
        "seconds": trial.seconds,
        "request": {
            "name": probe.metadata["name"],
            "common_name": request.common_name,
            "organizations": list(request.organizations),
            "names": [*request.dns_names, *request.ip_addresses],
            "usages": list(request.usages),
            "expiration_seconds": request.expiration_seconds,
        },
        "certificate": None,
        "ca_source": None,
        "ca_fingerprints": [],
        "ca_problem": None,
        "diagnosis": _as_dict(trial.fault),
    }
    if not trial.is_tried:
        return entry
    if trial.fault or csr is None:
        return {**entry, "issued": False}
    if not certificate_of(csr):
        return {**entry, "issued": False, "diagnosis": _as_dict(around.explain(csr))}
    return {**entry, "issued": True, **_found(client, probe, csr)}


def _found(client: Client, probe: SignerProbe, csr: Mapping[str, Any]) -> dict[str, Any]:
    """The certificate, whether it is what was asked for, and which CA vouches for it."""
    pem = "".join(block.text for block in pem_text.blocks(certificate_of(csr)))
    try:
        leaf, intermediates = certificate_facts.load_leaf_and_chain(pem)
        facts, chain = certificate_facts.describe(leaf), tuple(map(certificate_facts.describe, intermediates))
    except CertificateError as exc:
        return {"diagnosis": _as_dict(signer_probe.unusable(probe, exc.cause))}
    now = certificate_rules.judged_at(facts, client.now())
    lifetime = facts.not_after - parse_time(csr["metadata"]["creationTimestamp"])
    # Its lifetime is told in any case: expirationSeconds is a hint, and another one is no fault of the signer.
    unlimited = replace(probe.intent, request=replace(probe.intent.request, expiration_seconds=None))
    fault = certificate_rules.find_fault(unlimited, probe.public_key_sha256, facts, chain, now)
    return {
        "certificate": {**facts.as_result(), "lifetime_seconds": int(lifetime.total_seconds())},
        "diagnosis": _as_dict(signer_probe.unusable(probe, fault) if fault else None),
        **_anchor(client, probe, pem, now),
    }


def _anchor(client: Client, probe: SignerProbe, pem: str, now: datetime) -> dict[str, Any]:
    try:
        offered = trust_anchors.candidates(client, probe.intent, pem)
        anchor = trust_anchors.choose(probe.intent, pem, offered, now)
    except AnchorError as exc:
        return {"ca_problem": "; ".join((exc.cause, *exc.evidence))}
    prints = [certificate_facts.fingerprint(ca) for ca in certificate_facts.load(anchor.pem)]
    return {"ca_source": anchor.source, "ca_fingerprints": prints}


def _as_dict(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    return diagnosis.as_dict() if diagnosis else None


OPERATION = Operation(name="k8s_signer_probe", argument_spec=SPEC, run=run)
