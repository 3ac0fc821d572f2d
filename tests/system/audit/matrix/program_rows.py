# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows with the webhooks of well-known programs, as their manifests and certificates are. All of them are healthy."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.certificates.authority import SERVER_AUTH
from tests.support.world.certificates import Leaf
from tests.system.audit.matrix.lab import CERTIFICATES
from tests.system.audit.matrix.row import ACCEPTED, LEAF, OWN_NAMESPACE, Made, Pod, Row, Shape, healthy
from tests.system.audit.matrix.scope_rows import rule

if TYPE_CHECKING:
    from tests.system.audit.matrix.lab import Lab

CONTAINERS = {"containers": [{"name": "a", "image": "a"}]}
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {**CONTAINERS, "restartPolicy": "Never"}}
ISSUER = {"secretName": "a", "dnsNames": ["a.example.com"], "issuerRef": {"name": "ca"}}
BACKEND = {"service": {"name": "a", "port": {"number": 80}}}
#: Resource -> the path of its collection, and an object that a user creates.
OBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "configmaps": ("/api/v1/namespaces/{}/configmaps", {}),
    "pods": ("/api/v1/namespaces/{}/pods", {"spec": CONTAINERS}),
    "jobs": ("/apis/batch/v1/namespaces/{}/jobs", {"spec": {"template": TEMPLATE}}),
    "ingresses": ("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", {"spec": {"defaultBackend": BACKEND}}),
    "certificates": (CERTIFICATES, {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "spec": ISSUER}),
}  # fmt: skip
NAMES = ("{service}", "{service}.{namespace}", "{}")
WIDE_NAMES = (*NAMES, "{}.cluster.local")
#: The labels of the namespace in which users create objects.
APPLICATIONS = {
    "istio-injection": "enabled",
    "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled",
    "kueue.x-k8s.io/managed": "yes",
}


def _called(lab: Lab, name: str, *, shape: Shape, resource: str, labels: dict[str, str]) -> Made:
    """Make a webhook. The API server is asked to create an object, and must call the webhook for it."""
    full, seen = lab.recording(name, shape)

    def ask() -> str:
        namespace = f"{lab.name}-apps"
        if lab.says("GET", f"/api/v1/namespaces/{namespace}") != ACCEPTED:
            lab.make("/api/v1/namespaces", {"metadata": {"name": namespace, "labels": APPLICATIONS}})
        path, body = OBJECTS[resource]
        seen.clear()
        answer = lab.says(
            "POST",
            f"{path.format(namespace)}?dryRun=All",
            {**body, "metadata": {"name": "a", "labels": labels}},
        )
        return answer if seen or answer != ACCEPTED else "not called"

    return Made((full,), ask)


def program(
    name: str,
    leaf: Leaf,
    resource: str,
    webhook: dict[str, Any],
    *,
    pods: int = 2,
    is_shared: bool = True,
    labels: dict[str, str] | None = None,
    is_daily: bool = False,
    **fields: Any,
) -> Row:
    """Return the row of a program. resource: what a user creates. labels: of this object.

    is_shared: True if all pods serve the certificate of one Secret.
    """
    groups = {"ingresses": "networking.k8s.io", "jobs": "batch", "certificates": "cert-manager.io"}
    defaults = {
        "rules": [rule(resource, "CREATE", "UPDATE", group=groups.get(resource, ""))],
        "namespaceSelector": {},
        "objectSelector": {},
        "timeoutSeconds": 10,
    }
    shape = Shape(
        tuple(Pod(leaf if is_shared else replace(leaf)) for _number in range(pods)),
        webhook={**defaults, **webhook},
        **fields,
    )
    what = partial(_called, shape=shape, resource=resource, labels=labels or {})
    return healthy(name, what, is_daily=is_daily)


def selector(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
        ]
    }


def managed(program_name: str, **annotations: str) -> dict[str, Any]:
    return {"labels": {"app.kubernetes.io/managed-by": program_name}, "annotations": annotations}


WITHOUT_SYSTEM = selector(
    "kubernetes.io/metadata.name",
    "NotIn",
    "kube-system",
    "kube-node-lease",
    "kube-public",
    "default",
    OWN_NAMESPACE,
)
IGNORE = {"failurePolicy": "Ignore"}
#: A certificate that Helm's genSignedCert makes: a CA and a certificate of ten years.
HELM = Leaf(("rsa-root",), life=(-400, 3250), names=WIDE_NAMES, key="rsa")
HELM_FIELDS: dict[str, Any] = {"bundle": ("rsa-root",), "metadata": managed("Helm"), "field_manager": "helm"}

PROGRAMS = (
    program("cert-manager: each pod makes its certificate of a week, of one CA", Leaf(("year-root",), life=(-3, 4), names=NAMES),
        "certificates", {"timeoutSeconds": 30, "matchPolicy": "Equivalent"}, is_shared=False, bundle=("year-root",),
        metadata={"annotations": {"cert-manager.io/inject-ca-from-secret": "cert-manager/cert-manager-webhook-ca"}},
        field_manager="cert-manager-cainjector", is_daily=True),
    program("OLM: a certificate of two years in a Secret", Leaf(life=(-300, 430), names=("{}", "{}.cluster.local")), "configmaps",
        {"objectSelector": {"matchLabels": {"operator": "yes"}}}, labels={"operator": "yes"},
        metadata={"labels": {"olm.owner": "operator.v1.2.3", "olm.owner.kind": "ClusterServiceVersion"}}, field_manager="olm"),
    program("OpenShift service-ca: the old and the new CA in the bundle", Leaf(("renewed-ending-root",), life=(-100, 630), names=WIDE_NAMES),
        "ingresses", {}, bundle=("ending-root", "renewed-ending-root"),
        metadata={"annotations": {"service.beta.openshift.io/inject-cabundle": "true"}}, field_manager="service-ca-operator"),
    program("Helm: a CA and a certificate of ten years", HELM, "ingresses", {}, **HELM_FIELDS),
    program("Helm: a certificate that signs itself", Leaf(life=(-20, 345), self_signed=True, names=NAMES), "ingresses", {}, bundle=LEAF,
        pods=1, metadata=managed("Helm"), field_manager="helm"),
    program("ingress-nginx: kube-webhook-certgen makes a certificate of a hundred years",
        Leaf(("century",), life=(-300, 36000), names=("{service}", "{}"), subject="nil2"), "ingresses", {"matchPolicy": "Equivalent"},
        bundle=("century",), metadata=managed("Helm"), field_manager="kube-webhook-certgen"),
    program("Kyverno: five webhooks behind one Service", Leaf(("rsa-root",), life=(-100, 50), key="rsa", names=NAMES), "pods",
        {"namespaceSelector": WITHOUT_SYSTEM}, bundle=("rsa-root",), metadata={"labels": {"webhook.kyverno.io/managed-by": "kyverno"}},
        field_manager="kyverno", others=tuple({"name": f"validate{number}.kyverno.svc-fail"} for number in range(4))),
    program("Gatekeeper: all resources, with failurePolicy Ignore and 3 seconds", Leaf(("rsa-root",), life=(-400, 3250), key="rsa"), "pods",
        {**IGNORE, "rules": [rule("*", "CREATE", "UPDATE", group="*")], "timeoutSeconds": 3,
         "namespaceSelector": selector("admission.gatekeeper.sh/ignore", "DoesNotExist")}, bundle=("rsa-root",), field_manager="gatekeeper",
        is_daily=True),
    program("Istio: the sidecar injector, for labelled namespaces", Leaf(("rsa-root",), life=(-30, 60), key="rsa", names=("{}",)), "pods",
        {"rules": [rule("pods", "CREATE", version="v1")], "namespaceSelector": selector("istio-injection", "In", "enabled"),
         "objectSelector": selector("sidecar.istio.io/inject", "NotIn", "false"), "reinvocationPolicy": "Never"},
        is_mutating=True, bundle=("rsa-root",), metadata={"labels": {"app": "sidecar-injector", "istio.io/rev": "default"}}, field_manager="pilot-discovery",
        others=({"name": "object.sidecar-injector.istio.io", "namespaceSelector": selector("istio-injection", "DoesNotExist"),
                 "objectSelector": selector("sidecar.istio.io/inject", "In", "true")},), is_daily=True),
    program("Linkerd: the proxy injector, with failurePolicy Ignore", Leaf(life=(-100, 265), self_signed=True), "pods",
        {**IGNORE, "rules": [rule("pods", "CREATE"), rule("services", "CREATE")], "namespaceSelector": selector(
            "kubernetes.io/metadata.name", "NotIn", "kube-system", "cert-manager")}, is_mutating=True, bundle=LEAF, pods=1, metadata=managed("Helm"),
        field_manager="helm"),
    program("Vault: the agent injector makes a certificate of a day", Leaf(life=(-0.3, 0.7), names=NAMES), "pods",
        {**IGNORE, "objectSelector": selector("app.kubernetes.io/name", "NotIn", "vault-agent-injector")}, is_mutating=True, field_manager="vault-k8s",
        pods=1),
    program("AWS Load Balancer Controller: readiness gates of pods", HELM, "pods",
        {"namespaceSelector": {"matchLabels": {"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"}},
         "objectSelector": selector("app.kubernetes.io/name", "NotIn", "aws-load-balancer-controller"), "rules": [rule("pods", "CREATE", version="v1")]},
        is_mutating=True, **HELM_FIELDS),
    program("AWS Load Balancer Controller: Ingresses", HELM, "ingresses", {"matchPolicy": "Equivalent"}, **HELM_FIELDS),
    program("EKS: pod-identity-webhook, on the machine of the API server", Leaf(life=(-100, 265)), "pods",
        {**IGNORE, "rules": [rule("pods", "CREATE", version="v1")], "matchPolicy": "Equivalent",
         "objectSelector": selector("eks.amazonaws.com/skip-pod-identity-webhook", "DoesNotExist")}, url="127.0.0.1", is_mutating=True,
        field_manager="kube-apiserver-admission", is_daily=True),
    program("EKS: vpc-resource-mutating-webhook, on the machine of the API server", Leaf(life=(-100, 265)), "pods",
        {**IGNORE, "rules": [rule("pods", "CREATE", version="v1")]}, url="127.0.0.1", is_mutating=True, field_manager="vpc-resource-controller"),
    program("EKS: vpc-resource-validating-webhook, on the machine of the API server", Leaf(life=(-100, 265)), "pods",
        {**IGNORE, "rules": [rule("pods", "CREATE", "UPDATE", version="v1"), rule("nodes", "UPDATE", version="v1")]}, url="127.0.0.1",
        field_manager="vpc-resource-controller"),
    program("Knative: ConfigMaps of its own", Leaf(("p384-root",), life=(-2, 5), names=WIDE_NAMES), "configmaps",
        {"objectSelector": {"matchLabels": {"app.kubernetes.io/part-of": "knative-serving"}}}, labels={"app.kubernetes.io/part-of": "knative-serving"},
        bundle=("p384-root",), field_manager="webhook"),
    program("actions-runner-controller: pods with a label", Leaf(life=(-30, 60), names=WIDE_NAMES), "pods",
        {"objectSelector": {"matchLabels": {"actions-runner-controller/inject-registration-token": "true"}}, "rules": [rule("pods", "CREATE")]},
        labels={"actions-runner-controller/inject-registration-token": "true"}, is_mutating=True, field_manager="cert-manager-cainjector"),
    program("Datadog: the admission controller, with failurePolicy Ignore", Leaf(life=(-100, 265)), "pods",
        {**IGNORE, "objectSelector": selector("admission.datadoghq.com/enabled", "NotIn", "false")}, is_mutating=True, field_manager="cluster-agent"),
    program("Vertical Pod Autoscaler: a certificate of 274 years", Leaf(("rsa-root",), life=(-100, 99900), key="rsa", usages=(SERVER_AUTH,)), "pods",
        {**IGNORE, "rules": [rule("pods", "CREATE", version="v1")]}, is_mutating=True, bundle=("rsa-root",), field_manager="admission-controller"),
    program("Kueue: jobs of labelled namespaces", Leaf(life=(-400, 3250), names=WIDE_NAMES), "jobs",
        {"namespaceSelector": selector("kueue.x-k8s.io/managed", "Exists")}, is_mutating=True, field_manager="kueue"),
    program("cainjector: a CA from cert-manager, shared by three webhooks", Leaf(("middle",), sends_issuer=True, life=(-30, 60), names=NAMES), "configmaps",
        {"objectSelector": {"matchLabels": {"capi": "yes"}}}, labels={"capi": "yes"}, field_manager="cert-manager-cainjector",
        others=({"name": "a.cluster.x-k8s.io"}, {"name": "b.cluster.x-k8s.io"})),
    program("a webhook with a condition, for objects that nothing else needs", Leaf(), "ingresses",
        {"matchConditions": [{"name": "not-a-node", "expression": "!('system:nodes' in request.userInfo.groups)"}]}),
)  # fmt: skip
