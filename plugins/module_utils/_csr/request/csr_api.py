# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Create, decide, read and delete certificate signing requests on the API server."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from ..._base.errors import CertflowError
from ..._base.times import format_time, parse_time
from ..._kube.access_review import Permission, missing_permissions
from ..._kube.client import METADATA, Client
from ..._kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, ListExpired, NotFound
from ..._kube.json_patch import retry_on_conflict
from ..._x509 import signing_request
from .. import markers, name_policy
from ..errors import IssueError, RequestError
from ..intent import Intent, SecretSpec
from ..name_policy import GuardedNames
from . import csr_content
from .approval import Expectation, approval_permissions, compare, decision_of
from .csr_content import Requester, certificate_of, condition_text, content_of, is_same, requester_of

if TYPE_CHECKING:
    from ..._x509.private_keys import PrivateKey

GROUP, COLLECTION = csr_content.GROUP, csr_content.COLLECTION
# The number of tries to write a decision. kubectl certificate approve makes as many.
ATTEMPTS = 10
# The shortest time for which another run is assumed to wait for its request.
SHORTEST_PATIENCE_SECONDS = 600.0
# The statuses with which the API server refuses a request. 429 means that it is overloaded.
REFUSALS = frozenset(range(400, 500)) - {429}
_NODES = "/api/v1/nodes"
# The largest number of nodes whose names are read at once. The metadata of a node has a few kilobytes.
_FEW_NODES = 100


def path(name: str) -> str:
    return f"{COLLECTION}/{name}"


def name_for(intent: Intent, public_key_sha256: str) -> str:
    """Return a name that is unique for each key. EKS never issues names with csr- (aws/containers-roadmap#2079)."""
    return f"certflow-{intent.service or 'client'}-{intent.namespace}-{public_key_sha256[:10]}"


def delete_command(name: str) -> str:
    """Return the command that deletes the request."""
    return f"kubectl delete csr {csr_content.command_name(name)}"


def select(
    client: Client, labels: Iterable[str] | None, fields: Iterable[str] | None
) -> list[dict[str, Any]]:
    """Return the requests that match the label and field selectors ("key=value"). Raise MissingPermissions."""
    query = {"labelSelector": ",".join(labels or ()), "fieldSelector": ",".join(fields or ())}
    try:
        return [*client.list_all(COLLECTION, {key: text for key, text in query.items() if text})["items"]]
    except Forbidden as exc:
        lacking = Permission("list", GROUP, "certificatesigningrequests")
        raise missing_permissions([lacking], "list certificate signing requests", exc.message) from exc


def find(client: Client, name: str) -> dict[str, Any] | None:
    """Return the request of that name, or None. Raise MissingPermissions.

    A list by name needs no permission but the one to list, which every run has.
    """
    found = select(client, None, [selector_of(name)])
    return next((csr for csr in found if csr["metadata"].get("name") == name), None)


def selector_of(name: str) -> str:
    """Return the field selector of the request with this name. The API server accepts names with the signs of selectors."""
    return "metadata.name=" + re.sub(r"([\\,=])", r"\\\1", name)


def permissions(intent: Intent) -> list[Permission]:
    """Return the permissions to request, and to approve if the task does. Return none if no request is sent.

    The permission to list is not among them, because the run lists the requests for the Secret before its first write.
    """
    if not intent.signer.is_asked:
        return []
    wanted = [Permission(verb, GROUP, "certificatesigningrequests") for verb in ("create", "watch")]
    return wanted + (approval_permissions(intent.signer.name) if intent.approve else [])


def wait_permissions() -> list[Permission]:
    return [Permission(verb, GROUP, "certificatesigningrequests") for verb in ("list", "watch")]


def build_pkcs10(intent: Intent, key: PrivateKey) -> str:
    """Return the PKCS#10 request of the intent, signed by the key, as PEM text."""
    request = intent.request
    return signing_request.build(
        key,
        common_name=request.common_name,
        organizations=request.organizations,
        dns_names=request.dns_names,
        ip_addresses=request.ip_addresses,
    )


def create(client: Client, intent: Intent, request_pem: str, public_key_sha256: str) -> dict[str, Any]:
    """Create the request for a Secret."""
    secret = f"{intent.secret.namespace}/{intent.secret.name}"
    metadata = {
        "name": name_for(intent, public_key_sha256),
        "labels": markers.labels_for(intent.secret),
        "annotations": {markers.SECRET: secret, **markers.annotations_for(intent)},
    }
    return send(client, intent, request_pem, metadata)


def send(client: Client, intent: Intent, request_pem: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Create a request and return it as the API server stored it. Its requester is this identity.

    If the answer was lost, recognise the stored request by its name, which is derived from its key. Its content is
    compared before the approval. Raises RequestError if another identity created the request of that name.
    """
    spec: dict[str, Any] = {
        "request": base64.b64encode(request_pem.encode()).decode(),
        "signerName": intent.signer.name,
        "usages": list(intent.request.usages),
    }
    if intent.request.expiration_seconds is not None:
        spec["expirationSeconds"] = intent.request.expiration_seconds
    body = {**HEAD, "metadata": dict(metadata), "spec": spec}
    try:
        return client.create(COLLECTION, body, idempotent=True)
    except AlreadyExists:
        csr = find(client, metadata["name"])
        if csr is None:
            raise
        _refuse_foreign(client, csr)
        return csr


HEAD = {"apiVersion": f"{GROUP}/v1", "kind": "CertificateSigningRequest"}
_SPEC_FIELDS = ("request", "signerName", "usages", "expirationSeconds")


def _refuse_foreign(client: Client, csr: Mapping[str, Any]) -> None:
    name, own, requester = csr["metadata"]["name"], read_own_identity(client, csr), requester_of(csr)
    if not is_same(own, requester):
        raise RequestError(
            f"CSR {name}, which this run wanted to create, already exists and was requested by {requester}",
            code="requested-by-another-identity",
            evidence=(describe_identity(own),),
            remedy=f"Delete it ({delete_command(name)}) and run the task again",
        )


def describe_identity(own: Requester | None) -> str:
    """Return a clause that names the identity of this task."""
    refused = "the API server refused the dry run that shows the identity of this task"
    return f"this identity is {own}" if own else refused


def read_own_identity(client: Client, csr: Mapping[str, Any]) -> Requester | None:
    """Return the identity that the API server stamps on requests of this task, or None if it refuses the dry run.

    The answer comes from a dry run of a copy of ``csr``, which the API server has accepted before. Unlike a
    SelfSubjectReview, a dry run exists in every version and is correct under impersonation.
    """
    metadata = {key: csr["metadata"][key] for key in ("labels", "annotations") if csr["metadata"].get(key)}
    body = {
        **HEAD,
        "metadata": {**metadata, "generateName": "certflow-requester-"},
        "spec": {key: csr["spec"][key] for key in _SPEC_FIELDS if key in csr["spec"]},
    }
    warnings = list(client.warnings)
    try:
        return requester_of(client.create(COLLECTION, body, dry_run=True))
    except ApiError as exc:
        if exc.status not in REFUSALS:
            raise
        return None
    finally:
        client.warnings[:] = warnings


def expectation_for(intent: Intent, public_key_sha256: str, *, requester: str | None = None) -> Expectation:
    """Return the expectation for a request of this intent.

    requester: this identity's user name, as the API server stamped it on this run's request. None if the requester has
      been compared already.
    """
    request = intent.request
    return Expectation(
        public_key_sha256=public_key_sha256,
        signer_name=intent.signer.name,
        usages=request.usages,
        requester=requester,
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


def approve_own(
    client: Client, csr: Mapping[str, Any], expected: Expectation, decision: Decision | None = None
) -> dict[str, Any]:
    """Approve a request of this run, unless it is approved or denied already. Deny a request that replaced it.

    decision: the decision to write. Its default is that for the request of a Secret.

    Raises IssueError if another request replaced it.
    """
    name, uid = csr["metadata"]["name"], csr["metadata"]["uid"]

    def judge(current: Mapping[str, Any]) -> None:
        faults = [f"{fault.reason}: {fault.message}" for fault in compare(content_of(current), expected)]
        if current["metadata"]["uid"] != uid:
            faults.insert(0, "Identity: it is another object than the one that this run created")
        if faults:
            _deny_substitute(client, current, faults)

    message = f"Requested and approved by {markers.MANAGER}: {name}"
    return decide(client, csr, decision or Decision("Approved", "CertflowApproved", message), judge)


@dataclass(frozen=True)
class Decision:
    """The condition that is written to /approval. An auditor reads its reason and message."""

    #: "Approved" or "Denied".
    kind: str
    reason: str
    message: str

    def on(self, csr: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Return the object to PUT to /approval, with the UID and the resourceVersion that were read."""
        stamp = format_time(now)
        condition = {
            "type": self.kind,
            "status": "True",
            "reason": self.reason,
            "message": self.message,
            # The garbage collector counts from lastUpdateTime (k/k pkg/controller/certificates/cleaner).
            "lastUpdateTime": stamp,
            "lastTransitionTime": stamp,
        }
        status = csr.get("status") or {}
        return {**csr, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}


def decide(
    client: Client, csr: Mapping[str, Any], decision: Decision, judge: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Write the decision and return the request. Return it unchanged if it has a decision already.

    judge: is called before each attempt with the current request. It raises an error if the decision must not be written.

    Raises RequestError after ATTEMPTS conflicts, and IssueError if the request was deleted.
    """
    name = csr["metadata"]["name"]

    def read() -> Mapping[str, Any]:
        return find(client, name) or _refuse_deleted(csr)

    def write(current: Mapping[str, Any]) -> dict[str, Any]:
        try:
            judge(current)
            return dict(current) if decision_of(current) else _write(client, current, decision)
        except NotFound:
            _refuse_deleted(csr)

    return retry_on_conflict(
        csr,
        write,
        read,
        attempts=ATTEMPTS,
        exhausted=RequestError(
            f"another client changed CSR {name} {ATTEMPTS} times in a row",
            code="conflict",
            remedy="Find the client that writes it (metadata.managedFields), and run the task again",
        ),
    )


def _refuse_deleted(csr: Mapping[str, Any]) -> NoReturn:
    raise IssueError(
        f"CSR {csr['metadata']['name']} was deleted before the decision was written",
        code="request-replaced",
        remedy="Run the task again. The audit log of the API server names the user who deleted it",
    )


def _write(client: Client, csr: Mapping[str, Any], decision: Decision) -> dict[str, Any]:
    return client.replace(f"{path(csr['metadata']['name'])}/approval", decision.on(csr, client.now()))


def _deny_substitute(client: Client, csr: Mapping[str, Any], faults: list[str]) -> None:
    if not decision_of(csr):
        message = f"{markers.MANAGER} made another request under this name: {'; '.join(faults)}"
        csr = _write(client, csr, Decision("Denied", "CertflowSubstituted", message))
    raise IssueError(
        f"CSR {csr['metadata']['name']} was replaced by another request while it waited for its approval. "
        f"The other request is {decision_of(csr)}",
        code="request-replaced",
        evidence=faults,
        remedy="Find the user who replaced it in the audit log of the API server",
    )


def is_over(csr: Mapping[str, Any]) -> bool:
    """Return True if the request is denied or failed, so that it will never be issued."""
    return bool({"Denied", "Failed"} & set(condition_text(csr).split(",")))


def read_guarded_names(client: Client, names: Iterable[str], addresses: Iterable[str] = ()) -> GuardedNames:
    """Return the cluster's own names and addresses: API server, the nodes among ``names``, service networks."""
    wanted = [name_policy.normalize(name) for name in names]
    nodes: list[str] = []
    networks: list[str] = []
    unreadable: list[str] = []
    reads: list[tuple[str, list[str], Iterator[str]]] = [("nodes", nodes, _nodes(client, wanted))]
    # Such names are rare, so listing all nodes is cheap. A DNS name may also be an address.
    has_address = any(addresses) or any(map(name_policy.is_address, wanted))
    if has_address or any(name_policy.may_be_of_node(name, wanted) for name in wanted):
        reads.append(("the nodes' addresses", nodes, _node_addresses(client)))
    if has_address:
        reads.append(("servicecidrs", networks, _service_networks(client)))
    for what, listed, entries in reads:
        try:
            listed.extend(entries)
        except Forbidden:
            unreadable.append(what)
    return GuardedNames((client.host_name,), tuple(nodes), tuple(networks), tuple(unreadable))


def _nodes(client: Client, names: Iterable[str]) -> Iterator[str]:
    """Yield the names that a node has. Most clusters have so few nodes that one request for their names shows all.

    Raises Forbidden without the permission to list and the one to read nodes.
    """
    page: Mapping[str, Any] = {"metadata": {"continue": "unread"}}
    # A control plane without workloads has no nodes. A list that expired shows nothing.
    with contextlib.suppress(Forbidden, NotFound, ListExpired):
        page = client.get(_NODES, {"limit": str(_FEW_NODES)}, METADATA)
    is_whole = not (page.get("metadata") or {}).get("continue")
    listed = {(node.get("metadata") or {}).get("name") for node in page.get("items") or ()}
    yield from (
        name
        for name in filter(name_policy.is_dns_name, names)
        if name in listed or not (is_whole or client.find(f"{_NODES}/{name}") is None)
    )


def _node_addresses(client: Client) -> Iterator[str]:
    for node in client.list_all(_NODES)["items"]:
        yield from (entry["address"] for entry in (node.get("status") or {}).get("addresses") or ())


def _service_networks(client: Client) -> Iterator[str]:
    """Yield the service networks. Before Kubernetes 1.33 (KEP-1880) no object has them."""
    with contextlib.suppress(NotFound):
        for entry in client.list_all("/apis/networking.k8s.io/v1/servicecidrs")["items"]:
            yield from entry["spec"].get("cidrs") or ()


def summarize(csr: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a result that describes a request."""
    return {
        "name": csr["metadata"]["name"],
        "uid": csr["metadata"]["uid"],
        "signer_name": csr["spec"]["signerName"],
        "condition": condition_text(csr),
    }


def describe(csr: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a result that describes the content of a request. It has no names if the content cannot be compared."""
    entry = {**summarize(csr), "requester": requester_of(csr).as_result(), "subject": "", "names": []}
    try:
        content = content_of(csr)
    except CertflowError as error:
        return {**entry, "unreadable": error.cause}
    if content.fault:
        return {**entry, "unreadable": content.fault}
    request = content.request
    return {**entry, "subject": request.subject, "names": [*request.dns_names, *request.ip_addresses]}


def list_requests(client: Client, secret: SecretSpec) -> list[dict[str, Any]]:
    """Return the requests for this Secret that the cluster has not deleted. Raise MissingPermissions."""
    return select(client, (f"{key}={value}" for key, value in markers.labels_for(secret).items()), None)


def unissued(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests that were not issued. Issued requests are kept for auditors, and the cluster deletes them."""
    return [csr for csr in requests if not certificate_of(csr)]


def is_left_over(csr: Mapping[str, Any], signer_name: str, patience: float, now: datetime) -> bool:
    """Return True if no run waits any longer for this request, which has been replaced.

    Another run may wait for a young request. The wait of that run is not known, so assume ten minutes, or ``patience``
    (seconds) of this run if that is longer.
    """
    age = now - parse_time(csr["metadata"]["creationTimestamp"])
    is_old = age > timedelta(seconds=max(patience, SHORTEST_PATIENCE_SECONDS))
    return is_over(csr) or csr["spec"]["signerName"] != signer_name or is_old


def remove(client: Client, csr: Mapping[str, Any], *, resource_version: str = "") -> str:
    """Delete this object. Return a warning if the permission to delete is missing, else "".

    resource_version: delete it only at this version.
    """
    name = csr["metadata"]["name"]
    try:
        client.delete(path(name), uid=csr["metadata"]["uid"], resource_version=resource_version)
    except (NotFound, Conflict):
        return ""
    except Forbidden:
        return f"CSR {name} is left over, because this identity has no permission to delete it. The cluster deletes it within a day"
    return ""
