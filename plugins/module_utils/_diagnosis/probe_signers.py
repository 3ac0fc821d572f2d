# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Probe signers: send throw-away requests, approve them, wait for the certificates, and delete the requests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Callable, cast

from .._base.errors import CertflowError
from .._base.times import parse_time
from .._csr import certificate_rules, csr_api, markers, trust_anchors
from .._csr.approval import permission_for
from .._csr.csr_content import certificate_of, requester_of
from .._csr.errors import AnchorError
from .._kube import access_review
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError, KubeError
from .._process.interrupt import clean_up_with
from .._x509 import certificate_facts, pem_text
from .._x509.errors import CertificateError
from . import signer_probe
from .cluster_evidence import ClusterEvidence
from .diagnosis import Diagnosis
from .signer_probe import SignerProbe

# The time at the end of the task that is reserved for deleting the requests.
CLEANING_SECONDS = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 1.0
_COMMON = (
    *(Permission(verb, csr_api.GROUP, "certificatesigningrequests") for verb in ("create", "list", "delete")),
    Permission("update", csr_api.GROUP, "certificatesigningrequests/approval"),
)


@dataclass(frozen=True)
class ProbeRun:
    """One probe, and its outcome so far."""

    probe: SignerProbe
    #: True if the request was sent, or if the API server refused it.
    is_tried: bool = False
    #: The request as it was read last.
    csr: Mapping[str, Any] | None = None
    #: The time of the approval by time.monotonic().
    approved_at: float = 0.0
    #: The seconds from the approval to the answer.
    seconds: float | None = None
    #: Why the probe ended without an answer of the signer.
    fault: Diagnosis | None = None

    @property
    def is_over(self) -> bool:
        return self.fault is not None or self.csr is None or signer_probe.is_answered(self.csr)


@dataclass(frozen=True)
class ProbeReport:
    """The outcome of the probes."""

    #: One dictionary for each signer, as the module returns it.
    signers: list[dict[str, Any]]
    #: Messages about requests that could not be deleted.
    leftovers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def probe_signers(
    client: Client, signer_names: Iterable[str], token: str, *, seconds: int, check_mode: bool
) -> ProbeReport:
    """Probe each signer. In check mode send nothing.

    Args:
        token: the part of names and labels that belongs to this run (DNS label characters).
        seconds: how long to wait for the certificates.

    Raises:
        RequestError: nothing can be sent to a signer.
        MissingPermissions: this identity can probe none of the signers.
        KubeError: a request failed. Its evidence names the requests that could not be deleted.
    """
    runs = _permitted(client, signer_probe.probes(signer_names, token))
    if check_mode:
        return ProbeReport(_report(client, runs))
    leftovers: list[str] = []
    patience = _patience(client, seconds)
    try:
        with clean_up_with(lambda: leftovers.extend(_delete_requests(client, token))):
            runs = _run_probes(client, runs, patience)
    except CertflowError as error:
        error.evidence += tuple(leftovers)
        raise
    return ProbeReport(_report(client, runs), tuple(leftovers), tuple(_warn_of_short_wait(patience, seconds)))


def _patience(client: Client, wanted: int) -> float:
    """Return how many seconds to wait for certificates. Part of the task's time is reserved for deleting the requests."""
    remaining = max(0.0, client.deadline - time.monotonic())
    return min(float(wanted), max(remaining - CLEANING_SECONDS, remaining / 2))


def _warn_of_short_wait(patience: float, wanted: int) -> Iterator[str]:
    if patience < wanted:
        yield (
            f"waited for {patience:.0f} seconds instead of probe_seconds {wanted}, so a slow signer may count as one that does "
            "not issue. Set a longer wait_timeout, or a longer timeout of the task"
        )


def _permitted(client: Client, probes: Sequence[SignerProbe]) -> list[ProbeRun]:
    """Return a run for each probe. A run has ended if this identity may not approve its request.

    Raises MissingPermissions if no probe can run.
    """
    approvals = [permission_for(probe.signer_name) for probe in probes]
    lacking = access_review.find_missing(client, [*_COMMON, *approvals])
    if set(lacking) & set(_COMMON) or set(lacking) >= set(approvals):
        names = ", ".join(probe.signer_name for probe in probes)
        raise access_review.missing_permissions(lacking, f"probe {names}")
    faults = [
        signer_probe.may_not_approve(
            probe, f"List the signer in docs/rbac/probe.yaml. {access_review.grant('probe')}"
        )
        if permission in lacking
        else None
        for probe, permission in zip(probes, approvals)
    ]
    return [ProbeRun(probe, fault=fault) for probe, fault in zip(probes, faults)]


def _run_probes(client: Client, runs: Sequence[ProbeRun], seconds: float) -> list[ProbeRun]:
    """Send all requests, approve all, and then wait for all together."""
    sent = [_send(client, run) for run in runs]
    approved = [_approve(client, run) for run in sent]
    return _wait(client, approved, time.monotonic() + seconds)


def _send(client: Client, run: ProbeRun) -> ProbeRun:
    probe = run.probe

    def send() -> ProbeRun:
        csr = csr_api.send(client, probe.intent, probe.request_pem, probe.metadata)
        return replace(run, csr=csr)

    return run if run.fault else replace(_or_refused(run, "create", send), is_tried=True)


def _approve(client: Client, run: ProbeRun) -> ProbeRun:
    csr, probe = run.csr, run.probe
    if run.fault or csr is None:
        return run
    own = requester_of(csr)
    expected = csr_api.expectation_for(probe.intent, probe.public_key_sha256, requester=own.username)

    def approve() -> ProbeRun:
        decided = csr_api.approve_own(client, csr, expected, probe.approval)
        seconds = 0.0 if signer_probe.is_answered(decided) else None
        return replace(run, csr=decided, approved_at=time.monotonic(), seconds=seconds)

    return _or_refused(run, "approve", approve)


def _or_refused(run: ProbeRun, step: str, act: Callable[[], ProbeRun]) -> ProbeRun:
    """Return the result of ``act``. A refusal by a policy of the cluster is a result too, an error of the server is not."""
    try:
        return act()
    except ApiError as exc:
        if exc.status is None or exc.status >= 500:
            raise
        return replace(run, fault=signer_probe.refused(run.probe, step, exc.message or exc.cause))


def _wait(client: Client, runs: list[ProbeRun], until: float) -> list[ProbeRun]:
    """List the requests at growing intervals until each is answered. A proxy may delay a watch, so this polls."""
    pause = SHORTEST_PAUSE
    while not all(run.is_over for run in runs):
        listed = {csr["metadata"]["uid"]: csr for csr in _list(client, runs[0].probe.token)}
        now = time.monotonic()
        runs = [run if run.is_over else _updated(run, listed, now) for run in runs]
        if now >= until:
            break
        if not all(run.is_over for run in runs):
            time.sleep(max(0.0, min(pause, until - now)))
            pause = min(pause * 1.5, LONGEST_PAUSE)
    return runs


def _updated(run: ProbeRun, listed: Mapping[str, Mapping[str, Any]], now: float) -> ProbeRun:
    csr = cast("Mapping[str, Any]", run.csr)
    current = listed.get(csr["metadata"]["uid"])
    if current is None:
        return replace(run, fault=signer_probe.deleted(csr))
    seconds = round(now - run.approved_at, 1) if signer_probe.is_answered(current) else None
    return replace(run, csr=current, seconds=seconds)


def _list(client: Client, token: str = "") -> list[dict[str, Any]]:
    """Return the requests with this token, or of every run without a token."""
    return csr_api.select(client, [f"{markers.PROBE}={token}" if token else markers.PROBE], None)


def _delete_requests(client: Client, token: str) -> list[str]:
    """Delete the requests of this run, and those of killed runs. Return messages about requests that stay.

    They are found by their label, because the answer to a request that was sent may have been lost.
    """
    client.deadline = max(client.deadline, time.monotonic() + CLEANING_SECONDS)
    try:
        requests = _list(client)
    except KubeError as exc:
        return [f"requests with the label {markers.PROBE}={token} may be left over: {exc.cause}"]
    # The time of the API server: if the local clock is fast, requests of a parallel run would look abandoned.
    now = client.now()
    obsolete = (csr for csr in requests if signer_probe.is_left_over(csr, token, now))
    return [message for message in (_delete(client, csr) for csr in obsolete) if message]


def _delete(client: Client, csr: Mapping[str, Any]) -> str:
    try:
        return csr_api.remove(client, csr)
    except KubeError as exc:
        return f"CSR {csr['metadata']['name']} is left over: {exc.cause}"


def _report(client: Client, runs: Iterable[ProbeRun]) -> list[dict[str, Any]]:
    evidence = ClusterEvidence(client)
    return [_entry(client, run, evidence) for run in runs]


def _entry(client: Client, run: ProbeRun, evidence: ClusterEvidence) -> dict[str, Any]:
    """Return the entry of a signer. A probe that was not sent has the request that it would send."""
    probe, csr = run.probe, run.csr
    request = probe.intent.request
    entry: dict[str, Any] = {
        "signer_name": probe.signer_name,
        "issued": None,
        "seconds": run.seconds,
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
        "diagnosis": _as_result(run.fault),
    }
    if not run.is_tried:
        return entry
    if run.fault or csr is None:
        return {**entry, "issued": False}
    if not certificate_of(csr):
        return {**entry, "issued": False, "diagnosis": _as_result(evidence.explain(csr))}
    return {**entry, "issued": True, **_describe_issued(client, probe, csr)}


def _describe_issued(client: Client, probe: SignerProbe, csr: Mapping[str, Any]) -> dict[str, Any]:
    """Return the certificate, a diagnosis if it differs from the request, and the CA that verifies it."""
    pem = "".join(block.text for block in pem_text.blocks(certificate_of(csr)))
    try:
        leaf, intermediates = certificate_facts.load_leaf_and_chain(pem)
        facts, chain = certificate_facts.describe(leaf), tuple(map(certificate_facts.describe, intermediates))
    except CertificateError as exc:
        return {"diagnosis": _as_result(signer_probe.unusable(probe, exc.cause))}
    now = certificate_rules.judged_at(facts, client.now())
    lifetime = facts.not_after - parse_time(csr["metadata"]["creationTimestamp"])
    # expirationSeconds is a hint, so another lifetime is not a fault. The result shows the lifetime.
    unlimited = replace(probe.intent, request=replace(probe.intent.request, expiration_seconds=None))
    fault = certificate_rules.find_fault(unlimited, probe.public_key_sha256, facts, chain, now)
    return {
        "certificate": {**facts.as_result(), "lifetime_seconds": int(lifetime.total_seconds())},
        "diagnosis": _as_result(signer_probe.unusable(probe, fault) if fault else None),
        **_describe_anchor(client, probe, pem, now),
    }


def _describe_anchor(client: Client, probe: SignerProbe, pem: str, now: datetime) -> dict[str, Any]:
    try:
        offered = trust_anchors.candidates(client, probe.intent, pem)
        anchor = trust_anchors.choose(probe.intent, pem, offered, now)
    except AnchorError as exc:
        return {"ca_problem": "; ".join((exc.cause, *exc.evidence))}
    fingerprints = [certificate_facts.fingerprint(ca) for ca in certificate_facts.load(anchor.pem)]
    return {"ca_source": anchor.source, "ca_fingerprints": fingerprints}


def _as_result(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    return diagnosis.as_result() if diagnosis else None
