# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the matcher with a real API server: many webhooks without endpoints, and the requests of the control plane.

Each webhook has failurePolicy Fail and names a Service that does not exist. The API server counts each failed call by the name of its
webhook, so the counters show which webhooks it asked about a request. A match condition limits the webhooks to one user. All requests
are dry runs.
"""

from __future__ import annotations

import base64
import copy
import re
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.control_plane_requests import (
    REQUESTS,
    VIRTUAL_UNTIL_MINOR,
    ControlPlaneRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls.admission_match import (
    AdmissionRequest,
    match,
)

from tests.support.certificates import csr_by_hand
from tests.support.clusters import AdminApiError
from tests.support.clusters.client import AdminClient
from tests.support.rig import encoded
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.clusters import Cluster, Fleet

HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
USER = "certflow-admission-tester"
SYSTEM = "kube-system"
NAME = "admission-requests"
LABELS, OWNED = {"app": "web"}, {"set": "a"}
POD_SPEC = {"containers": [{"name": "a", "image": "none"}], "schedulerName": "none"}
TEMPLATE = {
    "metadata": {"labels": OWNED},
    "spec": {**POD_SPEC, "schedulerName": "default-scheduler", "nodeSelector": {"none": "none"}},
}
# Other labels than those of the test's pods, which the controllers would adopt and delete.
SELECTED = {"selector": {"matchLabels": OWNED}, "template": TEMPLATE}
#: Resource and group -> the fields of an object beside its metadata.
MANIFESTS: dict[str, dict[str, Any]] = {
    "nodes": {},
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "a"}},
    "csinodes.storage.k8s.io": {"spec": {"drivers": []}},
    "volumeattachments.storage.k8s.io": {"spec": {"attacher": "none", "nodeName": "none", "source": {"persistentVolumeName": "none"}}},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {"request": encoded(csr_by_hand.pem(CertificateRequest(common_name="a"))), "signerName": "example.com/none", "usages": ["digital signature"]}
    },
    "pods": {"spec": POD_SPEC},
    "serviceaccounts": {},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": []},
    "endpoints": {},
    "services": {"spec": {"ports": [{"port": 443}]}},
    "configmaps": {},
    "secrets": {},
    "events": {"involvedObject": {"kind": "Pod", "name": "a"}},
    "events.events.k8s.io": {
        "regarding": {}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "a", "action": "a",
        "reportingController": "example.com/a", "reportingInstance": "a",
    },
    "namespaces": {},
    "persistentvolumes": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/none"}, "storageClassName": "none"}
    },
    "controllerrevisions.apps": {"revision": 1, "data": {}},
    "replicasets.apps": {"spec": {"replicas": 0, **SELECTED}},
    "deployments.apps": {"spec": {"replicas": 0, **SELECTED}},
    "daemonsets.apps": {"spec": SELECTED},
    "clusterroles.rbac.authorization.k8s.io": {"rules": []},
    "clusterrolebindings.rbac.authorization.k8s.io": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"}},
    "roles.rbac.authorization.k8s.io": {"rules": []},
    "rolebindings.rbac.authorization.k8s.io": {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"}},
    "apiservices.apiregistration.k8s.io": {"spec": {"group": "none.certflow.test", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}},
    "customresourcedefinitions.apiextensions.k8s.io": {
        "spec": {
            "group": "certflow.test", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }
    },
    "priorityclasses.scheduling.k8s.io": {"value": 1},
    "flowschemas.flowcontrol.apiserver.k8s.io": {"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 9999}},
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": {
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}
    },
}  # fmt: skip
#: Names that the API prescribes.
NAMES = {
    "apiservices.apiregistration.k8s.io": "v1.none.certflow.test",
    "customresourcedefinitions.apiextensions.k8s.io": "things.certflow.test",
}
#: A subresource that is created, or a review -> the body.
BODIES: dict[str, dict[str, Any]] = {
    "pods/binding": {"target": {"kind": "Node", "name": "none"}},
    "pods/eviction": {"apiVersion": "policy/v1", "kind": "Eviction"},
    "serviceaccounts/token": {"spec": {"expirationSeconds": 600}},
    "tokenreviews.authentication.k8s.io": {"spec": {"token": "none"}},
    "selfsubjectreviews.authentication.k8s.io": {},
    "subjectaccessreviews.authorization.k8s.io": {"spec": {"user": "a", "nonResourceAttributes": {"path": "/", "verb": "get"}}},
    "selfsubjectaccessreviews.authorization.k8s.io": {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}},
    "selfsubjectrulesreviews.authorization.k8s.io": {"spec": {"namespace": "default"}},
    "localsubjectaccessreviews.authorization.k8s.io": {
        "spec": {"user": "a", "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}
    },
}  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request that the test sends, and what the matcher gets of it."""

    method: str
    path: str
    request: AdmissionRequest
    body: dict[str, Any] | None = None
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.request.operation} of {self.request}"


def place(group: str, namespace: str, resource: str) -> str:
    base = f"/apis/{group}/v1" if group else "/api/v1"
    return f"{base}/namespaces/{namespace}/{resource}" if namespace else f"{base}/{resource}"


def manifest(
    key: str, name: str = NAME, *, labels: dict[str, str] = LABELS, namespace: str = ""
) -> dict[str, Any]:
    body = copy.deepcopy(MANIFESTS[key])
    for about in ("involvedObject", "regarding"):  # the object of an Event is in the same namespace
        if about in body:
            body[about]["namespace"] = namespace
    return {**body, "metadata": {"name": NAMES.get(key, name), "labels": labels}}


class Requests:
    """The objects of a cluster that the requests are about."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespace = f"{NAME}-{uuid.uuid4().hex[:8]}"
        self.made: list[str] = []

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        made = self.cluster.api("POST", path, body)
        self.made.append(f"{path}/{made['metadata']['name']}")
        return made

    def close(self) -> None:
        for path in reversed(self.made):
            try:
                self.cluster.api("DELETE", path, {"gracePeriodSeconds": 0})
            except AdminApiError as error:  # a controller deleted it with its owner
                if error.status != 404:
                    raise

    def of_row(self, row: ControlPlaneRequest) -> Iterator[Sent]:
        """Yield the requests of a row, in each namespace. Each object has the labels of LABELS."""
        resource, _slash, subresource = row.resource.partition("/")
        key = f"{resource}.{row.group}" if row.group else resource
        for namespace in row.namespaces or ("",):
            labels = self.labels_of(namespace)
            # A subresource that is created, and a Scale, is an object of its own.
            own = {} if row.name in BODIES or subresource == "scale" else LABELS
            if resource == "namespaces":  # the API server adds a label
                own = self.labels_of(NAME)
            for request in row.requests(namespace, labels, own):
                yield self.sent(request, key, place(row.group, namespace, resource))

    def sent(self, request: AdmissionRequest, key: str, path: str) -> Sent:
        name = str(request).split(" ")[0]
        full = f"{path}/{NAMES.get(key, NAME)}" + (f"/{request.subresource}" if request.subresource else "")
        if request.operation == "DELETE":
            return Sent("DELETE", full, request)
        if request.operation == "CREATE":
            if name in BODIES:
                body = {"metadata": {"name": NAME} if request.subresource else {}, **BODIES[name]}
                return Sent("POST", full if request.subresource else path, request, body)
            return Sent("POST", path, request, manifest(key, f"{NAME}-new", namespace=request.namespace))
        if request.subresource == "finalize":
            return Sent("PUT", full, request, self.cluster.api("GET", full.rpartition("/")[0]))
        body = {"metadata": {"annotations": {"certflow.test/a": "b"}}}
        return Sent("PATCH", full, request, body, "application/merge-patch+json")

    def labels_of(self, namespace: str) -> dict[str, str]:
        if not namespace:
            return {}
        labels: dict[str, str] = self.cluster.api("GET", f"/api/v1/namespaces/{namespace}")["metadata"][
            "labels"
        ]
        return labels

    def prepare(self) -> None:
        """Create an object for each row that updates or deletes one, and a namespace of its own for further requests."""
        keys = {
            (row.group, row.resource.partition("/")[0], place)
            for row in REQUESTS
            for place in row.namespaces or ("",)
            if not row.is_virtual
        }
        for group, resource, namespace in sorted(keys):
            key = f"{resource}.{group}" if group else resource
            body = manifest(key, namespace=namespace)
            if not (resource == "events" and not group):  # both groups have the same objects
                self.make(place(group, namespace, resource), body)
        self.make("/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": {"team": "red"}}})
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        wait_for(lambda: self.cluster.api("GET", accounts)["items"])
        self.make(f"/api/v1/namespaces/{self.namespace}/configmaps", manifest("configmaps"))
        self.make(f"/api/v1/namespaces/{self.namespace}/pods", manifest("pods"))

    def further(self) -> Iterator[Sent]:
        """Yield requests that the control plane does not make, and that programs make."""
        labels = self.labels_of(self.namespace)
        config_map = AdmissionRequest(
            "", "v1", "configmaps", namespace=self.namespace, namespace_labels=labels
        )
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        yield Sent("POST", path, replace(config_map, labels=LABELS), manifest("configmaps", "new"))
        yield Sent("POST", path, config_map, manifest("configmaps", "new", labels={}))
        for new in ({"app": "db"}, {"app": None}, {"tier": "a"}):
            changed = {key: value for key, value in {**LABELS, **new}.items() if value}
            update = replace(config_map, operation="UPDATE", labels=changed, old_labels=LABELS)
            body: dict[str, Any] = {"metadata": {"labels": new}}
            yield Sent("PATCH", f"{path}/{NAME}", update, body, "application/merge-patch+json")
        deleted = replace(config_map, operation="DELETE", labels=None, old_labels=LABELS)
        yield Sent("DELETE", f"{path}/{NAME}", deleted)
        yield Sent("DELETE", f"{path}?labelSelector=app=web", deleted)
        pod = replace(config_map, resource="pods")
        path = f"/api/v1/namespaces/{self.namespace}/pods/{NAME}"
        for subresource in ("exec", "attach", "portforward"):
            connect = replace(pod, operation="CONNECT", subresource=subresource, labels=None)
            yield Sent("POST", f"{path}/{subresource}?command=a&container=a&stdout=true&ports=1", connect)
        yield Sent(
            "GET", f"{path}/proxy", replace(pod, operation="CONNECT", subresource="proxy", labels=None)
        )
        node = AdmissionRequest("", "v1", "nodes", operation="CONNECT", subresource="proxy", labels=None)
        yield Sent("GET", f"/api/v1/nodes/{NAME}/proxy/healthz", node)
        group = "admissionregistration.k8s.io"
        exempt = AdmissionRequest(
            group, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"
        )
        yield Sent("POST", HOOKS, exempt, {"metadata": {"name": f"{NAME}-new"}})
        thing = AdmissionRequest("certflow.test", "v1", "things", labels=LABELS)
        body = {
            "apiVersion": "certflow.test/v1",
            "kind": "Thing",
            "metadata": {"name": NAME, "labels": LABELS},
        }
        yield Sent("POST", "/apis/certflow.test/v1/things", thing, body)
        for operation, new_labels in (("CREATE", {"team": "red"}), ("CREATE", {"team": "blue"})):
            namespace = AdmissionRequest("", "v1", "namespaces", operation=operation, labels=new_labels)
            yield Sent(
                "POST",
                "/api/v1/namespaces",
                namespace,
                {"metadata": {"name": f"{NAME}-new", "labels": new_labels}},
            )
        red = {**labels}
        namespace = AdmissionRequest("", "v1", "namespaces", labels=None, old_labels=red, operation="DELETE")
        yield Sent("DELETE", f"/api/v1/namespaces/{self.namespace}", namespace)
        both = replace(namespace, labels={**red, "team": "blue"}, operation="UPDATE")
        body = {"metadata": {"labels": {"team": "blue"}}}
        yield Sent(
            "PATCH", f"/api/v1/namespaces/{self.namespace}", both, body, "application/merge-patch+json"
        )


def rule(
    *resources: str, groups: Sequence[str] = ("*",), operations: Sequence[str] = ("*",), **fields: Any
) -> dict[str, Any]:
    return {
        "apiGroups": list(groups),
        "apiVersions": ["*"],
        "operations": list(operations),
        "resources": list(resources),
        **fields,
    }


def term(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
        ]
    }


TEAM, METADATA_NAME = "team", "kubernetes.io/metadata.name"
SELECTORS = [
    {"matchLabels": LABELS}, {"matchLabels": {"app": "db"}}, term("app", "In", "web", "db"), term("app", "NotIn", "web"),
    term("app", "Exists"), term("app", "DoesNotExist"), term("tier", "DoesNotExist"), term("app", "NotIn", "web", "db"),
]  # fmt: skip
PLACES = [
    {"matchLabels": {TEAM: "red"}}, term(TEAM, "NotIn", "red"), term(TEAM, "Exists"), term(TEAM, "DoesNotExist"),
    term(METADATA_NAME, "In", SYSTEM, "kube-node-lease"), term(METADATA_NAME, "NotIn", SYSTEM, "kube-node-lease", "default"),
]  # fmt: skip
#: Fields of webhooks. Each one is a webhook, beside those with one row of the table.
WEBHOOKS: list[dict[str, Any]] = [
    *({"rules": [rule(resource)]} for resource in (
        "*", "*/*", "*/status", "*/scale", "*/token", "*/binding", "*/finalize", "*/proxy", "pods", "pods/*", "pods/status",
        "pods/exec", "pods/eviction", "nodes", "nodes/*", "nodes/status", "nodes/proxy", "serviceaccounts", "serviceaccounts/token",
        "namespaces", "namespaces/*", "namespaces/finalize", "deployments", "deployments/*", "deployments/scale", "events", "things",
        "validatingwebhookconfigurations",
    )),
    *({"rules": [rule("*/*", operations=[operation])]} for operation in ("CREATE", "UPDATE", "DELETE", "CONNECT")),
    *({"rules": [rule("*", groups=[group])]} for group in ("", "apps", "events.k8s.io", "coordination.k8s.io", "authorization.k8s.io")),
    *({"rules": [rule("*/*", scope=scope)]} for scope in ("*", "Cluster", "Namespaced")),
    *({"rules": [rule("*/*")], "objectSelector": selector} for selector in SELECTORS),
    *({"rules": [rule("*/*")], "namespaceSelector": selector} for selector in PLACES),
    {"rules": [rule("*/*")], "namespaceSelector": PLACES[0], "objectSelector": SELECTORS[0]},
    {"rules": [rule("pods", operations=["DELETE"]), rule("leases", operations=["UPDATE"])]},
    {"rules": [rule("*", groups=["apps"], operations=["UPDATE"], scope="Namespaced"), rule("nodes/status")]},
    {"rules": [rule("events", groups=["events.k8s.io"])], "matchPolicy": "Exact"},
    {"rules": [{**rule("*/*"), "apiVersions": ["v1"]}], "matchPolicy": "Exact"},
    {"rules": [{**rule("*/*"), "apiVersions": ["v2"]}], "matchPolicy": "Exact"},
    *({"rules": [rule(row.resource, groups=[row.group], operations=row.operations.split())]} for row in REQUESTS),
]  # fmt: skip


def webhooks() -> dict[str, dict[str, Any]]:
    """Return name -> webhook."""
    names = [f"w{number}.{NAME}.certflow.test" for number in range(len(WEBHOOKS))]
    common = {
        "clientConfig": {"service": {"namespace": "default", "name": "no-such-webhook"}},
        "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
        "matchConditions": [{"name": "one-user", "expression": f"request.userInfo.username == '{USER}'"}],
    }  # fmt: skip
    return {name: {"name": name, **common, **fields} for name, fields in zip(names, WEBHOOKS, strict=True)}


@dataclass
class Asker:
    """The user about whose requests the webhooks are asked."""

    cluster: Cluster
    client: AdminClient
    counted: dict[str, float] = field(default_factory=dict)

    def asked(self, sent: Sent) -> tuple[set[str], str]:
        """Send a request. Return the names of the webhooks that were asked, and the API server's answer."""
        separator = "&" if "?" in sent.path else "?"
        path = sent.path if sent.request.operation == "CONNECT" else f"{sent.path}{separator}dryRun=All"
        answer = "accepted"
        try:
            self.client.api(sent.method, path, sent.body, sent.content_type)
        except AdminApiError as error:
            answer = f"{error.status}: {error.message}"
        before, self.counted = self.counted, self.read()
        return {name for name, count in self.counted.items() if count > before.get(name, 0)}, answer

    def read(self) -> dict[str, float]:
        """Return webhook -> the number of its failed calls."""
        text = self.cluster.client.request("GET", "/metrics").decode()
        lines = re.findall(
            r'^apiserver_admission_webhook_rejection_count\{(.*name="(w\d+\.[^"]+)".*)\} (\S+)$',
            text,
            re.MULTILINE,
        )
        counts: dict[str, float] = {}
        for labels, name, count in lines:
            assert 'error_type="calling_webhook_error"' in labels
            counts[name] = counts.get(name, 0) + float(count)
        return counts


@pytest.fixture(scope="module")
def requests(fleet: Fleet) -> Iterator[Requests]:
    requests = Requests(fleet["onprem"])
    try:
        requests.prepare()
        yield requests
    finally:
        requests.close()


@pytest.fixture(scope="module")
def asker(requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Asker:
    cluster = requests.cluster
    config = yaml.safe_load(cluster.kubeconfig_for(USER, ("system:masters",)).read_text())
    folder = tmp_path_factory.mktemp("user")
    files = {}
    for key in ("client-certificate-data", "client-key-data"):
        files[key] = folder / key
        files[key].write_bytes(base64.b64decode(config["users"][0]["user"][key]))
    ca = folder / "ca"
    ca.write_text(cluster.ca_pem)
    asker = Asker(cluster, AdminClient(cluster.url, ca, *files.values()))
    requests.make(HOOKS, {"metadata": {"name": NAME}, "webhooks": list(webhooks().values())})
    probe = next(requests.further())
    last = f"w{[fields['rules'][0]['resources'] for fields in WEBHOOKS].index(['*/*'])}."
    wait_for(lambda: any(name.startswith(last) for name in asker.asked(probe)[0]))
    return asker


def test_the_matcher_answers_as_the_api_server(requests: Requests, asker: Asker) -> None:
    """A match that is not decided is one of events, because the API server knows which groups have the same objects."""
    hooks = webhooks()
    rows = [row for row in REQUESTS if not (row.is_virtual and exempts_reviews(requests.cluster))]
    calls = [*(call for row in rows for call in requests.of_row(row)), *requests.further()]
    wrong, undecided = [], []
    for call in calls:
        asked, answer = asker.asked(call)
        if not call.request.kind:  # the API server asks about everything else
            assert "failed calling webhook" in answer, f"{call}: {answer}"
        for (name, webhook), fields in zip(hooks.items(), WEBHOOKS, strict=True):
            expected = match({**webhook, "matchConditions": []}, call.request).is_asked
            if expected is None:
                undecided.append(call.request.resource)
            elif expected is not (name in asked):
                wrong.append(f"{call}: the matcher says {expected} for {fields}. The API server: {answer}")
    print(f"{len(calls)} requests, {len(hooks)} webhooks, {len(undecided)} answers undecided")
    assert wrong == []
    assert set(undecided) <= {"events"}


def test_kubernetes_1_37_asks_no_webhook_about_reviews(requests: Requests, asker: Asker) -> None:
    asked = {
        row.resource: asker.asked(call) for row in REQUESTS if row.is_virtual for call in requests.of_row(row)
    }
    exempt = exempts_reviews(requests.cluster)
    assert {name for name, (webhooks, _answer) in asked.items() if webhooks} == (
        set() if exempt else set(asked)
    )


def exempts_reviews(cluster: Cluster) -> bool:
    """Return True if the audit takes it that the API server asks no webhook about reviews."""
    return int(cluster.api("GET", "/version")["minor"]) >= VIRTUAL_UNTIL_MINOR
