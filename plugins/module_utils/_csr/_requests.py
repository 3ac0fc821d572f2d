# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""CertificateSigningRequests on the API server: create, decide, wait, clean up. The edge of this room."""

from __future__ import annotations

import base64
import time
from datetime import datetime, timezone
from typing import Any, Callable, Iterable, Mapping

from .._kube._client import Client
from .._kube._cluster import cluster_facts
from .._kube._errors import AlreadyExists, Conflict, Forbidden, NotFound
from .._kube._rights import Right
from . import _diagnose, _marks, _names, _providers
from ._approve import Expectation, approval_body, compare, decided
from ._content import certificate_of, condition, content_of
from ._diagnose import Diagnosis, Observation
from ._errors import IssueError, RequestError
from ._intent import Intent
from ._names import Guarded
from ._providers import ProviderVerdict

GROUP = "certificates.k8s.io"
COLLECTION = f"/apis/{GROUP}/v1/certificatesigningrequests"
CONFLICTS = 10  # as many as kubectl certificate approve retries
# An approved request whose signer this cluster does not serve is given up after this.
EXPLAINED_SECONDS = 4.0
LOOK_SECONDS = 10.0
SHORTEST_LOOK_SECONDS = 1.0


def path(name: str) -> str:
    return f"{COLLECTION}/{name}"


def name_for(intent: Intent, public_key_sha256: str) -> str:
    """Unique for each key, never beginning with csr-: EKS does not issue those (aws/containers-roadmap#2079)."""
    subject = f"{intent.service or 'client'}-{intent.namespace}"[:200]
    return f"certflow-{subject}-{public_key_sha256[:10]}"


def select(client: Client, labels: Iterable[str] | None, fields: Iterable[str] | None) -> list[dict[str, Any]]:
    """All requests that the label and field selectors ("key=value") find."""
    query = {"labelSelector": ",".join(labels or ()), "fieldSelector": ",".join(fields or ())}
    items: list[dict[str, Any]] = client.list_all(COLLECTION, {key: text for key, text in query.items() if text})["items"]
    return items


def rights(intent: Intent) -> list[Right]:
    """What requesting and, where the task approves, approving need."""
    wanted = [Right(verb, GROUP, "certificatesigningrequests") for verb in ("create", "get", "list", "watch")]
    return wanted + (approval_rights(intent.signer.name) if intent.approve else [])


def approval_rights(signer_name: str) -> list[Right]:
    """Both are needed: the update, and the CertificateApproval admission's verb approve on the signer."""
    return [
        Right("update", GROUP, "certificatesigningrequests/approval"),
        Right("approve", GROUP, "signers", name=signer_name),
    ]


def create(client: Client, intent: Intent, request_pem: str, public_key_sha256: str) -> dict[str, Any]:
    """Create the request. After a lost answer the one that is there already is recognised by its public key."""
    name = name_for(intent, public_key_sha256)
    spec: dict[str, Any] = {
        "request": base64.b64encode(request_pem.encode()).decode(),
        "signerName": intent.signer.name,
        "usages": list(intent.request.usages),
    }
    if intent.request.expiration_seconds is not None:
        spec["expirationSeconds"] = intent.request.expiration_seconds
    metadata = {"name": name, "labels": _marks.labels_for(intent.secret), "annotations": _marks.annotations_for(intent)}
    body = {"apiVersion": f"{GROUP}/v1", "kind": "CertificateSigningRequest", "metadata": metadata, "spec": spec}
    try:
        return client.create(COLLECTION, body)
    except AlreadyExists:
        existing = client.get(path(name))
        if content_of(existing).request.public_key_sha256 != public_key_sha256:
            raise
        return existing


def expectation(intent: Intent, csr: Mapping[str, Any], public_key_sha256: str) -> Expectation:
    """What this run's own request must still look like when it is approved."""
    request = intent.request
    return Expectation(
        public_key_sha256=public_key_sha256,
        signer_name=intent.signer.name,
        usages=request.usages,
        requester=(csr.get("spec") or {}).get("username"),
        common_name=request.common_name,
        organizations=request.organizations,
        dns_names=request.dns_names,
        ip_addresses=request.ip_addresses,
        expiration_seconds=request.expiration_seconds,
        service=intent.service,
        namespace=intent.namespace,
        allow_names=intent.allow_names,
        allow_client_identity=intent.allow_client_identity,
    )


def approve_own(client: Client, csr: Mapping[str, Any], expected: Expectation) -> dict[str, Any]:
    """Approve a request of this run. One that somebody substituted under its name is denied."""
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]

    def judge(current: Mapping[str, Any]) -> None:
        faults = [f"{fault.reason}: {fault.message}" for fault in compare(content_of(current), expected)]
        if current["metadata"]["uid"] != uid:
            faults.insert(0, "Identity: it is another object than the one that this run created")
        if faults:
            _deny_substitute(client, current, faults)

    return decide(client, csr, "Approved", "CertflowApproved", f"Requested and approved by {_marks.MANAGER}: {name}", judge)


def decide(
    client: Client,
    csr: Mapping[str, Any],
    decision: str,
    reason: str,
    message: str,
    judge: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Approve or deny what ``judge`` lets pass (it raises otherwise), again on each fresh read after a 409."""
    current: Mapping[str, Any] = csr
    for _attempt in range(CONFLICTS):
        judge(current)
        if decided(current) == decision:
            return dict(current)
        body = approval_body(current, decision, reason=reason, message=message, now=datetime.now(timezone.utc))
        try:
            return client.replace(f"{path(current['metadata']['name'])}/approval", body)
        except Conflict:
            current = client.get(path(current["metadata"]["name"]))
    raise RequestError(f"CSR {csr['metadata']['name']} was changed by somebody else {CONFLICTS} times in a row")


def _deny_substitute(client: Client, csr: Mapping[str, Any], faults: list[str]) -> None:
    name = csr["metadata"]["name"]
    if not decided(csr):
        body = approval_body(
            csr,
            "Denied",
            reason="CertflowSubstituted",
            message=f"Not what {_marks.MANAGER} requested under this name: {'; '.join(faults)}",
            now=datetime.now(timezone.utc),
        )
        client.replace(f"{path(name)}/approval", body)
    raise IssueError(
        f"CSR {name} was replaced by another request while it waited for its approval; it was denied",
        evidence=faults,
        remedy="find out who did that: the audit log of the API server names the user",
    )


def wait(client: Client, what: object, csr: Mapping[str, Any], *, until: float) -> dict[str, Any]:
    """Wait until the request is issued, or is known not to be.

    ``what`` is whose request it is, in words. Raises IssueError with a diagnosis: at once when it is denied, failed, deleted or replaced; after 4 seconds when
    this cluster does not serve the signer; at ``until`` (time.monotonic()) otherwise.
    """
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]
    current, version = dict(csr), csr["metadata"]["resourceVersion"]
    explained_at: float | None = None
    while True:
        if certificate_of(current):
            return current
        state = condition(current)
        if is_over(current):
            raise stuck(client, what, current, with_provider=False)
        now = time.monotonic()
        if state == "Approved" and explained_at is None:
            explained_at = now + EXPLAINED_SECONDS
        if explained_at is not None and now >= explained_at:
            explained_at = float("inf")
            error = stuck(client, what, current)
            if error.values["diagnosis"]["certainty"] in (_diagnose.PROVEN, _diagnose.LIKELY):
                raise error
        if now >= until:
            raise stuck(client, what, current)
        current, version = _look(client, name, uid, version, min(until, explained_at or until, now + LOOK_SECONDS) - now)


def is_over(csr: Mapping[str, Any]) -> bool:
    """Denied or Failed: this object will never be issued."""
    return condition(csr) == "Denied" or "Failed" in condition(csr)


def _look(client: Client, name: str, uid: str, version: str, seconds: float) -> tuple[dict[str, Any], str]:
    """The request as soon as it changes, at the latest after ``seconds``; a list gives the next watch its start."""
    started = time.monotonic()
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": version}
    for event in client.watch(COLLECTION, query, seconds=seconds):
        found = event.get("object") or {}
        if event.get("type") in ("ADDED", "MODIFIED") and found.get("metadata", {}).get("uid") == uid:
            return found, found["metadata"]["resourceVersion"]
        break  # deleted, replaced, or too old a version: the list below says which
    else:
        # A watch that ends early (no right to it, a proxy) must not turn the loop into a storm of requests.
        time.sleep(max(0.0, min(seconds, SHORTEST_LOOK_SECONDS) - (time.monotonic() - started)))
    page = client.list_all(COLLECTION, {"fieldSelector": f"metadata.name={name}"})
    found = next((item for item in page["items"] if item["metadata"]["uid"] == uid), None)
    if found is None:
        what = "was replaced by another object of its name" if page["items"] else "was deleted"
        raise IssueError(
            f"CSR {name} {what} before its certificate was fetched",
            remedy="run the task again; who did it stands in the audit log of the API server",
        )
    return found, page["metadata"]["resourceVersion"]


def stuck(client: Client, what: object, csr: Mapping[str, Any], *, with_provider: bool = True) -> IssueError:
    """The error for a request that is not issued: its diagnosis, as far as this identity may look."""
    diagnosis = explain(client, csr, _providers.detect(cluster_facts(client)) if with_provider else None)
    if diagnosis is None:
        return IssueError(f"CSR {csr['metadata']['name']} was issued in the last moment", remedy="run the task again")
    return IssueError(
        f"{what}: {diagnosis.cause}",
        evidence=(f"condition {condition(csr)}, certainty {diagnosis.certainty}", *diagnosis.evidence),
        remedy=diagnosis.remedy,
        diagnosis=as_dict(diagnosis),
        csr=summary(csr),
    )


def explain(client: Client, csr: Mapping[str, Any], provider: ProviderVerdict | None) -> Diagnosis | None:
    """The diagnosis of one request, with one page of the other requests of its signer as evidence."""
    now = datetime.now(timezone.utc)
    peers = None
    if provider is not None and not is_over(csr):
        others = client.get(COLLECTION, {"fieldSelector": f"spec.signerName={csr['spec']['signerName']}", "limit": "500"})
        peers = _diagnose.peers_of(csr, others.get("items") or (), now)
    return _diagnose.diagnose(Observation(csr=csr, now=now, provider=provider, peers=peers))


def guarded(client: Client, names: Iterable[str]) -> Guarded:
    """Which of ``names`` are the cluster's own: the API server's host, and nodes that are called so."""
    nodes = []
    for name in names:
        try:
            node = client.find(f"/api/v1/nodes/{name}") if _names.is_dns_name(name) else None
        except Forbidden:
            break  # this identity sees no nodes
        if node is not None:
            nodes.append(name)
    return Guarded(api_server=(client.host_name,), nodes=tuple(nodes))


def as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "code": diagnosis.code,
        "cause": diagnosis.cause,
        "certainty": diagnosis.certainty,
        "evidence": list(diagnosis.evidence),
        "remedy": diagnosis.remedy,
    }


def summary(csr: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of a request."""
    return {
        "name": csr["metadata"]["name"],
        "uid": csr["metadata"]["uid"],
        "signer_name": csr["spec"]["signerName"],
        "condition": condition(csr),
    }


def own_leftovers(client: Client, intent: Intent) -> list[dict[str, Any]]:
    """This Secret's earlier requests that can no longer lead to anything: denied, failed, or never issued."""
    labels = (f"{key}={value}" for key, value in _marks.labels_for(intent.secret).items())
    return [csr for csr in select(client, labels, None) if not certificate_of(csr)]


def remove(client: Client, csr: Mapping[str, Any]) -> str:
    """Delete that very object. Returns a warning where the right to delete is missing, else ""."""
    name = csr["metadata"]["name"]
    try:
        client.delete(path(name), uid=csr["metadata"]["uid"])
    except (NotFound, Conflict):
        return ""
    except Forbidden:
        return f"CSR {name} is left over: this identity may not delete it; the cluster collects it within a day"
    return ""
