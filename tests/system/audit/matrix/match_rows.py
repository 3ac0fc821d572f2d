# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about requests that the API server does, or does not, ask a webhook about. The Service of each webhook does not exist."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import read_counters

from tests.support.waiting import becomes_true
from tests.support.webhooks.probe_rig import DEFINITIONS
from tests.system.audit.matrix.requests import MERGE, TEMPLATE
from tests.system.audit.matrix.row import ACCEPTED, OWN_NAMESPACE, SILENT, Made, Row, Shape
from tests.system.audit.matrix.scope_rows import rule

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import Lab

#: The id of a row, and an API group of its own.
OWN_NAME, OWN_GROUP = "OWN-NAME", "OWN-GROUP"
#: Verb, path and body of a request.
Request = tuple[str, str, Any]
CALLED, MISSING = 'service "nosuch" not found', "service-missing: error, proven, now"
WARNED = "service-missing: warning, likely"
CORE, NAMED = f"/api/v1/namespaces/{OWN_NAMESPACE}", {"metadata": {"name": "new"}}
CONFIG_MAP: Request = (
    "POST",
    f"{CORE}/configmaps",
    {"metadata": {"name": "new", "labels": {"probe": OWN_NAME}}},
)
COMMAND: Request = ("POST", f"{CORE}/pods/any/exec?command=a", None)
PROXIED: Request = ("GET", f"{CORE}/services/any/proxy/", None)
ROLE: Request = (
    "POST",
    f"/apis/rbac.authorization.k8s.io/v1/namespaces/{OWN_NAMESPACE}/roles",
    {**NAMED, "rules": []},
)
SCALED: Request = (
    "PATCH",
    f"/apis/apps/v1/namespaces/{OWN_NAMESPACE}/deployments/scaled/scale",
    {"spec": {"replicas": 0}},
)
SCALER: Request = (
    "POST",
    f"/apis/autoscaling/v2/namespaces/{OWN_NAMESPACE}/horizontalpodautoscalers",
    {
        **NAMED,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
            "maxReplicas": 1,
        },
    },
)
TOKEN: Request = ("POST", f"{CORE}/serviceaccounts/default/token", {"spec": {"audiences": ["matrix"]}})
LEASE: Request = (
    "PUT",
    f"/apis/coordination.k8s.io/v1/namespaces/{OWN_NAMESPACE}/leases/new",
    {**NAMED, "spec": {}},
)
NAMESPACE: Request = ("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}})
LABELLED_NAMESPACE: Request = (
    "POST",
    "/api/v1/namespaces",
    {"metadata": {"name": "new", "labels": {"team": "unknown"}}},
)
CLUSTER_ROLE: Request = ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {**NAMED, "rules": []})
THING: Request = (
    "POST",
    f"/apis/{OWN_GROUP}/v1/namespaces/{OWN_NAMESPACE}/things",
    {"apiVersion": f"{OWN_GROUP}/v1", "kind": "Thing", **NAMED},
)
CONFIGURATION: Request = (
    "POST",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    NAMED,
)
REVIEWS: tuple[Request, ...] = (
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "none"}}),
    (
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": "a", "nonResourceAttributes": {"path": "/", "verb": "get"}}},
    ),
)
SCHEMA = {"openAPIV3Schema": {"type": "object"}}


def _defined(lab: Lab, group: str) -> None:
    """Create a definition with the versions v1 and v1beta1. The API server serves v1."""
    versions = [
        {"name": name, "served": name == "v1", "storage": name == "v1", "schema": SCHEMA}
        for name in ("v1", "v1beta1")
    ]
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    lab.make(DEFINITIONS, {"metadata": {"name": f"things.{group}"}, "spec": spec})
    assert becomes_true(lambda: lab.says("GET", f"/apis/{group}/v1/things") == ACCEPTED)


def _calls(lab: Lab, name: str) -> float:
    """Return the number of failed calls of a webhook. A request may call several ones, and is refused with the reason of one of them."""
    return read_counters(lab.cluster.client.request("GET", "/metrics").decode()).get(
        f"{name}.certflow.test", 0
    )


def _matched(lab: Lab, name: str, *, webhook: dict[str, Any], requests: tuple[Request, ...]) -> Made:
    """Make a webhook without a Service. The API server is asked with requests that change nothing."""
    group = f"{name[:40]}.{lab.id}.certflow.test"

    def put(value: object) -> Any:
        text = json.dumps(value).replace(OWN_NAMESPACE, lab.name)
        return json.loads(text.replace(OWN_GROUP, group).replace(OWN_NAME, name))

    if THING in requests:
        _defined(lab, group)
    scaled = put(SCALED[1].rpartition("/scaled")[0])
    if SCALED in requests and lab.says("GET", f"{scaled}/scaled") != ACCEPTED:
        lab.make(scaled, {"metadata": {"name": "scaled"}, "spec": {"replicas": 0, **TEMPLATE}})
    is_labelled = CONFIG_MAP in requests
    shape = Shape(
        (), calls="nosuch", webhook={**({} if is_labelled else {"objectSelector": {}}), **put(webhook)}
    )
    full = lab.configure(name, shape, lab.client_config(name, shape))

    def ask() -> str:
        before = _calls(lab, name)
        for request in requests:
            verb, path, body = put(request)
            # The API server has no dry runs of connections. These lead nowhere.
            query = "" if request in (COMMAND, PROXIED) else "?dryRun=All"
            answer = lab.says(verb, f"{path}{query}", body, MERGE if verb == "PATCH" else "application/json")
            if _calls(lab, name) > before:
                return answer
        return ACCEPTED

    return Made((full,), ask)


def matched(name: str, answer: str, says: str, webhook: dict[str, Any], *requests: Request) -> Row:
    what = partial(_matched, webhook=webhook, requests=requests or (CONFIG_MAP,))
    return Row(f"no Service, and {name}", answer, says, what)


def _rules(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rules": list(rules), **fields}


def _if(*expressions: str) -> dict[str, Any]:
    conditions = [{"name": f"c{number}", "expression": text} for number, text in enumerate(expressions)]
    return {"matchConditions": conditions}


def _rbac(version: str) -> dict[str, Any]:
    return _rules(rule("roles", group="rbac.authorization.k8s.io", version=version))


def _scaler(version: str) -> dict[str, Any]:
    return _rules(rule("horizontalpodautoscalers", group="autoscaling", version=version))


def _things(resource: str, *operations: str, **fields: Any) -> dict[str, Any]:
    return _rules(rule(resource, *operations, group=OWN_GROUP, **fields))


MAPS, REGISTRATION = rule("configmaps"), "admissionregistration.k8s.io"
NO_LABEL = {"namespaceSelector": {"matchLabels": {"team": "unknown"}}}
CONTRADICTION = {
    "matchExpressions": [{"key": "a", "operator": operator} for operator in ("Exists", "DoesNotExist")]
}
# Conditions that are not evaluated are a warning until a call is seen.
MATCHES = (
    matched("a condition that compares two numbers", ACCEPTED, WARNED, _if("1 == 2")),
    matched("a condition that is false, with a comment", ACCEPTED, WARNED, _if(" ( false ) // never")),
    matched("a condition with a false part", ACCEPTED, WARNED, _if("has(object.data) && !true")),
    matched("a condition about another namespace", ACCEPTED, WARNED, _if("request.namespace == 'unknown'")),
    matched("a condition about the namespace of the object", ACCEPTED, WARNED, _if(f"object.metadata.namespace != '{OWN_NAMESPACE}'")),
    matched("a condition about another user", ACCEPTED, WARNED, _if("request.userInfo.username == 'nobody'")),
    matched("two conditions, one of them false", ACCEPTED, SILENT, _if("object.metadata.name != ''", "false")),
    matched("a condition that is true", CALLED, MISSING, _if("true")),
    matched("a condition about the users", CALLED, MISSING, _if("request.userInfo.username != 'nobody'")),
    matched("a condition about its namespace", CALLED, MISSING, _if(f"request.namespace.startsWith('{OWN_NAMESPACE}')")),
    matched("a version of roles that is not served", ACCEPTED, SILENT, _rbac("v1alpha1"), ROLE),
    matched("the version of roles that is served", CALLED, MISSING, _rbac("v1"), ROLE),
    matched("another version of autoscalers that is served", CALLED, MISSING, _scaler("v1"), SCALER),
    matched("a version of autoscalers that is not served", ACCEPTED, SILENT, _scaler("v2beta2"), SCALER),
    matched("a version of a definition that is not served", CALLED, MISSING, _things("things", version="v1beta1"), THING),
    matched("that version of a definition, with matchPolicy Exact", ACCEPTED, SILENT, {**_things("things", version="v1beta1"), "matchPolicy": "Exact"}, THING),
    matched("a version that a definition does not have", ACCEPTED, SILENT, _things("things", version="v1alpha1"), THING),
    matched("connections to objects of a definition", ACCEPTED, SILENT, _things("things", "CONNECT"), THING),
    matched("a subresource that a definition does not have", ACCEPTED, SILENT, _things("things/status"), THING),
    matched("objects of a definition, in namespaces of which none exists", ACCEPTED, WARNED, {**_things("things"), **NO_LABEL}, THING),
    matched("the creation of commands in pods", ACCEPTED, SILENT, _rules(rule("pods/exec", "CREATE")), COMMAND),
    matched("connections to commands in pods", CALLED, MISSING, _rules(rule("pods/exec", "CONNECT")), COMMAND),
    matched("connections, and an objectSelector", ACCEPTED, SILENT, _rules(rule("pods/*", "CONNECT"), objectSelector={
        "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), COMMAND),
    # Of the core group. A server of an aggregated API may ask webhooks about connections to its resources, and some rows have such an API.
    matched("connections to all resources without their subresources", ACCEPTED, SILENT, _rules(rule("*", "CONNECT")), COMMAND, PROXIED),
    matched("changes through a proxy", ACCEPTED, SILENT, _rules(rule("services/proxy", "CREATE", "UPDATE", "DELETE")), PROXIED),
    matched("connections through a proxy", CALLED, MISSING, _rules(rule("services/proxy", "CONNECT")), PROXIED),
    matched("the creation of scales", ACCEPTED, SILENT, _rules(rule("deployments/scale", "CREATE", group="apps")), SCALED),
    matched("updates of scales", CALLED, MISSING, _rules(rule("*/scale", "UPDATE", group="*")), SCALED),
    matched("updates of tokens", ACCEPTED, SILENT, _rules(rule("serviceaccounts/token", "UPDATE", "DELETE")), TOKEN),
    matched("the creation of tokens", CALLED, MISSING, _rules(rule("serviceaccounts/token", "CREATE")), TOKEN),
    matched("the creation of Leases, by a PUT", CALLED, MISSING, _rules(rule("leases", "CREATE", group="coordination.k8s.io")), LEASE),
    matched("logs of pods", ACCEPTED, SILENT, _rules(rule("pods/log"))),
    matched("a kind in place of a resource", ACCEPTED, SILENT, _rules(rule("ConfigMap"), rule("configmap"))),
    matched("namespaces, but only in namespaces", ACCEPTED, SILENT, _rules(rule("namespaces", scope="Namespaced"), **NO_LABEL), NAMESPACE),
    matched("cluster roles, and the namespaceSelector selects nothing", CALLED, f"control-plane-blocked: error, proven, now; {MISSING}",
        _rules(rule("clusterroles", group="rbac.authorization.k8s.io"), **NO_LABEL), CLUSTER_ROLE),
    matched("namespaces with a label that none has yet", CALLED, MISSING, _rules(rule("namespaces"), **NO_LABEL), LABELLED_NAMESPACE),
    matched("the namespaceSelector contradicts itself", ACCEPTED, SILENT, _rules(MAPS, namespaceSelector=CONTRADICTION)),
    matched("webhook configurations", ACCEPTED, SILENT, _rules(rule("*", group=REGISTRATION, version="v1")), CONFIGURATION),
    matched("reviews, on Kubernetes 1.37", ACCEPTED, SILENT,
        _rules(rule("*", group="authorization.k8s.io"), rule("*", group="authentication.k8s.io")), *REVIEWS),
)  # fmt: skip
