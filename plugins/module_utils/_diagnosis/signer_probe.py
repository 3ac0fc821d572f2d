# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Probe signers: send throw-away requests, approve them, wait for the certificates, and delete the requests.

Each request asks for names that belong to no Service and no user, for ten minutes. Its key is discarded before it is sent.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Callable, cast

from .._base.errors import CertflowError
from .._base.times import parse_time
from .._csr import certificate_rules, markers, trust_anchors
from .._csr.errors import AnchorError, RequestError
from .._csr.intent import MANAGED_BY, Intent, intent_from
from .._csr.issuing import signers
from .._csr.issuing.providers import PROVIDERS
from .._csr.request import csr_api
from .._csr.request.approval import permission_for
from .._csr.request.csr_api import Decision
from .._csr.request.csr_content import certificate_of, requester_of
from .._kube import access_review
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError, KubeError
from .._process.interrupt import clean_up_with
from .._x509 import certificate_facts, private_keys
from .._x509.encoding import pem_text
from .._x509.errors import CertificateError
from .causes import diagnose
from .cluster_evidence import ClusterEvidence
from .observation import PROVEN, CsrObservation, Diagnosis

# The namespace in the names of a probe. It need not exist.
NAMESPACE = "certflow-signer-probe"
# The namespace whose ConfigMap kube-root-ca.crt is read. It exists in every cluster.
CA_NAMESPACE = "kube-system"
LIFETIME_SECONDS = signers.SHORTEST_LIFETIME_SECONDS
# No run takes this long, so an older request was left behind by a run that was killed.
ABANDONED_AFTER = timedelta(seconds=LIFETIME_SECONDS)
MAKER = "k8s_signer_probe of the Ansible collection certflow.kubernetes"
_PURPOSE = (
    "Its private key was discarded before it was sent. Its names belong to no Service and no user. Its certificate is "
    f"stored nowhere and expires after {LIFETIME_SECONDS} seconds. The request is deleted as soon as it is answered."
)

# The time at the end of the task that is reserved for deleting the requests.
CLEANING_SECONDS = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 1.0
_COMMON = (
    *(Permission(verb, csr_api.GROUP, "certificatesigningrequests") for verb in ("create", "list", "delete")),
    Permission("update", csr_api.GROUP, "certificatesigningrequests/approval"),
)


@dataclass(frozen=True)
class SignerProbe:
    """One throw-away request."""

    #: The certificate that is requested.
    intent: Intent
    #: The part of names and labels that belongs to one run.
    token: str
    #: The PKCS#10 request as PEM text. Its private key does not exist any more.
    request_pem: str
    public_key_sha256: str

    @property
    def signer_name(self) -> str:
        return self.intent.signer.name

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the request: its purpose for people, and the run that created it."""
        return {
            "name": csr_api.name_for(self.intent, self.public_key_sha256),
            "labels": {MANAGED_BY: markers.MANAGER, markers.PROBE: self.token},
            "annotations": {markers.PURPOSE: f"Throw-away request of {MAKER}. {_PURPOSE}"},
        }

    @property
    def approval(self) -> Decision:
        message = f"Throw-away request of {MAKER}. It shows whether {self.signer_name} issues certificates here. {_PURPOSE}"
        return Decision("Approved", "CertflowSignerProbe", message)


def serving_signers() -> tuple[str, ...]:
    """Return the cluster signers that the table of providers names for serving certificates, each once."""
    named = dict.fromkeys(row.serving_signer for row in PROVIDERS)
    return tuple(name for name in named if name and signers.find_signer(name).is_asked)


def probes(signer_names: Iterable[str], token: str) -> tuple[SignerProbe, ...]:
    """Return a probe for each signer.

    token: the part of names and labels that belongs to this run, in characters of a DNS label.

    Raises RequestError for a signer that takes no requests.
    """
    return tuple(_probe(name, token) for name in dict.fromkeys(signer_names))


def _probe(signer_name: str, token: str) -> SignerProbe:
    row = signers.find_signer(signer_name)
    if not row.is_asked:
        raise RequestError(
            f"{signer_name} is not a signer of the cluster. No request is sent to it, so it cannot be probed",
            remedy="Remove it from signers",
        )
    options: dict[str, Any] = {
        "signer_name": signer_name,
        "namespace": NAMESPACE,
        "secret": {"name": f"probe-{token}"},
        "expiration_seconds": LIFETIME_SECONDS,
        **(_user(row, token) if row.purpose == "client" else {"service": f"probe-{token}"}),
    }
    intent = intent_from(options)
    intent = replace(intent, secret=replace(intent.secret, namespace=CA_NAMESPACE))
    key = private_keys.generate(intent.request.key_type)
    return SignerProbe(
        intent, token, csr_api.build_pkcs10(intent, key), private_keys.public_key_sha256(key.public_key())
    )


def _user(row: signers.Signer, token: str) -> dict[str, Any]:
    """Return the subject of a user that does not exist, with only those groups that the signer requires."""
    prefix = "system:node:" if "system:nodes" in row.organizations else ""
    return {
        "common_name": f"{prefix}{NAMESPACE}-{token}",
        "organizations": list(row.organizations),
        "allow_client_identity": True,
    }


def is_left_over(csr: Mapping[str, Any], token: str, now: datetime) -> bool:
    """Return True if the request belongs to this run, or was left behind by a run that was killed."""
    age = now - parse_time(csr["metadata"]["creationTimestamp"])
    return csr["metadata"]["labels"].get(markers.PROBE) == token or age > ABANDONED_AFTER


def is_answered(csr: Mapping[str, Any]) -> bool:
    return bool(certificate_of(csr)) or csr_api.is_over(csr)


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
        return self.fault is not None or self.csr is None or is_answered(self.csr)


@dataclass(frozen=True)
class ProbeReport:
    """The outcome of the probes."""

    #: One dictionary for each signer, as the module returns it.
    signers: list[dict[str, Any]]
    #: Messages about requests that could not be deleted.
    leftovers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def probe_signers(
    client: Client, signer_names: Iterable[str], *, seconds: int, check_mode: bool
) -> ProbeReport:
    """Probe each signer. In check mode send nothing.

    Args:
        seconds: how long to wait for the certificates.

    Raises:
        RequestError: nothing can be sent to a signer.
        MissingPermissions: this identity can probe none of the signers.
        KubeError: a request failed. Its evidence names the requests that could not be deleted.
    """
    token = secrets.token_hex(5)
    runs = _permitted(client, probes(signer_names, token))
    if check_mode:
        return ProbeReport(_report(client, runs))
    leftovers: list[str] = []
    patience = _patience(client, seconds)
    try:
        with clean_up_with(lambda: leftovers.extend(_delete_requests(client, token))):
            # All are sent, then all are approved, and then all are waited for together.
            sent = [_send(client, run) for run in runs]
            approved = [_approve(client, run) for run in sent]
            runs = _wait(client, approved, time.monotonic() + patience)
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
    return [
        ProbeRun(probe, fault=_may_not_approve(probe) if permission in lacking else None)
        for probe, permission in zip(probes, approvals)
    ]


def _may_not_approve(probe: SignerProbe) -> Diagnosis:
    return Diagnosis(
        "may-not-approve",
        f"This identity has no permission to approve requests for {probe.signer_name}, so it was not probed.",
        PROVEN,
        ("SelfSubjectAccessReview: no",),
        f"List the signer in docs/rbac/probe.yaml. {access_review.grant('probe')}",
    )


def _send(client: Client, run: ProbeRun) -> ProbeRun:
    probe = run.probe

    def send() -> ProbeRun:
        return replace(run, csr=csr_api.send(client, probe.intent, probe.request_pem, probe.metadata))

    return run if run.fault else replace(_or_refused(run, "create", send), is_tried=True)


def _approve(client: Client, run: ProbeRun) -> ProbeRun:
    csr, probe = run.csr, run.probe
    if run.fault or csr is None:
        return run
    own = requester_of(csr)
    expected = csr_api.expectation_for(probe.intent, probe.public_key_sha256, requester=own.username)

    def approve() -> ProbeRun:
        decided = csr_api.approve_own(client, csr, expected, probe.approval)
        seconds = 0.0 if is_answered(decided) else None
        return replace(run, csr=decided, approved_at=time.monotonic(), seconds=seconds)

    return _or_refused(run, "approve", approve)


def _or_refused(run: ProbeRun, step: str, act: Callable[[], ProbeRun]) -> ProbeRun:
    """Return the result of ``act``. A refusal by a policy of the cluster is a result too, an error of the server is not."""
    try:
        return act()
    except ApiError as exc:
        if exc.status is None or exc.status >= 500:
            raise
        fault = Diagnosis(
            "request-refused",
            f"The API server refused to {step} a request for {run.probe.signer_name}: {(exc.message or exc.cause).rstrip('.')}.",
            PROVEN,
            (),
            "Ask the administrator of this cluster to allow it: an admission policy or an admission webhook refuses it.",
        )
        return replace(run, fault=fault)


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
        gone = diagnose(CsrObservation(csr, parse_time(csr["metadata"]["creationTimestamp"]), is_gone=True))
        return replace(run, fault=gone)
    seconds = round(now - run.approved_at, 1) if is_answered(current) else None
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
    obsolete = (csr for csr in requests if is_left_over(csr, token, now))
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
        facts, chain = certificate_facts.load_leaf_and_chain(pem)
    except CertificateError as exc:
        return {"diagnosis": _unusable(probe, exc.cause)}
    now = certificate_rules.judged_at(facts, client.now())
    lifetime = facts.not_after - parse_time(csr["metadata"]["creationTimestamp"])
    # expirationSeconds is a hint, so another lifetime is not a fault. The result shows the lifetime.
    unlimited = replace(probe.intent, request=replace(probe.intent.request, expiration_seconds=None))
    fault = certificate_rules.find_fault(unlimited, probe.public_key_sha256, facts, chain, now)
    return {
        "certificate": {**facts.as_result(), "lifetime_seconds": int(lifetime.total_seconds())},
        "diagnosis": _unusable(probe, fault) if fault else None,
        **_describe_anchor(client, probe, pem, now),
    }


def _unusable(probe: SignerProbe, fault: str) -> dict[str, Any]:
    return Diagnosis(
        "not-as-asked",
        f"k8s_csr would refuse the certificate that {probe.signer_name} issued: {fault.rstrip('.')}.",
        PROVEN,
        (),
        "Ask the operator of this signer why the certificate differs from the request.",
    ).as_result()


def _describe_anchor(client: Client, probe: SignerProbe, pem: str, now: datetime) -> dict[str, Any]:
    try:
        offered = trust_anchors.candidates(client, probe.intent, pem)
        anchor = trust_anchors.choose(probe.intent, pem, offered, now)
    except AnchorError as exc:
        return {"ca_problem": "; ".join((exc.cause, *exc.evidence))}
    fingerprints = [ca.fingerprint for ca in certificate_facts.load(anchor.pem)]
    return {"ca_source": anchor.source, "ca_fingerprints": fingerprints}


def _as_result(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    return diagnosis.as_result() if diagnosis else None
