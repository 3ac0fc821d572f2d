# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of an audit of an invented fleet, for pictures of the documentation and for tests of the page.

The sentences are those of the checks. The faults are the usual ones of well-known webhooks.
"""

from __future__ import annotations

import uuid
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report, normalise

from tests.support.audit import reports

VALIDATING, MUTATING = "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"
BLIND_SPOT = "A port-forward shows the pod, and not the network path of the API server to it."
#: Cluster -> its Kubernetes version.
VERSIONS = {
    "prod-eu-1": "v1.35.4", "prod-eu-2": "v1.35.4", "prod-us-1": "v1.34.9-eks-3f8a21c", "prod-us-2": "v1.34.9-eks-3f8a21c",
    "prod-ap-1": "v1.34.9-eks-3f8a21c", "stage-eu-1": "v1.36.3", "stage-us-1": "v1.35.4-eks-91bb02e", "edge-berlin": "v1.33.12",
    "edge-madrid": "v1.33.12", "edge-porto": "v1.33.12", "lab-1": "v1.36.3",
}  # fmt: skip
EXCEPTIONS = [
    {
        "check": "control-plane-blocked", "clusters": ["stage-*", "lab-*"], "objects": ["ValidatingWebhookConfiguration/gatekeeper-*"],
        "reason": "The team moves the policy engine to its own namespaces.", "until": "2027-02-01T00:00:00Z",
        "state": "matched", "findings": 1,
    },
    {
        "check": "timeout-long", "clusters": ["*"], "objects": ["*"], "reason": "The mesh is removed in December.",
        "until": "2026-11-01T00:00:00Z", "state": "expired", "findings": 0,
    },
    {
        "check": "service-headless", "clusters": ["lab-*"], "objects": ["*"], "reason": "The lab tests a headless Service.",
        "until": "2027-06-01T00:00:00Z", "state": "unused", "findings": 0,
    },
]  # fmt: skip


def _admission(policy: str, matched: str) -> dict[str, Any]:
    return {"impact": "refuses" if policy == "Fail" else "skips", "requests": [matched]}


def _fault(check: str, name: str, cause: str, *evidence: str, **values: Any) -> dict[str, Any]:
    none = {"impact": "", "requests": [], "manager": "unmanaged"}
    given = {"uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), **none, **values}
    return reports.finding(check, name=name, cause=cause, evidence=list(evidence), **given)


def _faults() -> dict[str, list[dict[str, Any]]]:
    """Return the findings of each cluster. Some faults are those of several clusters."""
    faults = _own_faults()
    for source, clusters in (
        ("prod-eu-2", ("prod-eu-1", "stage-eu-1")),
        ("prod-ap-1", ("edge-madrid", "edge-porto")),
    ):
        for name in clusters:
            faults[name] = [*faults.get(name, ()), faults[source][0]]
    return faults


def _own_faults() -> dict[str, list[dict[str, Any]]]:
    """Return the findings that each cluster has first."""
    kyverno = "ValidatingWebhookConfiguration kyverno-resource-validating-webhook-cfg, webhook validate.kyverno.svc-fail"
    pods = _admission("Fail", "CREATE, UPDATE of pods, deployments.apps, statefulsets.apps and 9 more")
    return {
        "prod-eu-2": [
            _fault(
                "ca-mismatch", "kyverno-resource-validating-webhook-cfg",
                f"The caBundle does not verify the certificate: x509: certificate signed by unknown authority ({kyverno})",
                "kyverno/kyverno-admission-controller-7c9d5-x2k4p port 9443: signed by CN=*.kyverno.svc", **pods,
                webhook="validate.kyverno.svc-fail", manager="Helm (release kyverno)", breaks_at="2026-11-26T11:58:41Z",
            ),
            _fault(
                "ca-expiring", "aws-load-balancer-webhook",
                "The CA aws-load-balancer-controller-ca of the caBundle expires at 2026-12-08T09:14:55Z", **pods,
                kind=MUTATING, webhook="mservice.elbv2.k8s.aws", manager="Helm (release aws-load-balancer-controller)",
                breaks_at="2026-12-08T09:14:55Z",
            ),
        ],
        "prod-us-1": [
            _fault(
                "request-stuck", "csr-snapshot-validation",
                "The request is approved, and no signer issues it",
                "signer-not-served, Use the signer beta.eks.amazonaws.com/app-serving",
                "EKS keeps kubernetes.io/kubelet-serving for kubelets",
                kind="CertificateSigningRequest", webhook="", certainty="likely",
            ),
            _fault(
                "expired", "snapshot-validation-webhook",
                "The certificate CN=snapshot-validation-service.kube-system.svc has expired at 2026-11-19T07:03:12Z",
                "kube-system/snapshot-validation-6f7b8-q9wzn port 443: serial 4c:11:8e",
                **_admission("Ignore", "CREATE, UPDATE of volumesnapshots.snapshot.storage.k8s.io"),
                webhook="snapshot-validation-webhook.snapshot.storage.k8s.io", breaks_at="2026-11-19T07:03:12Z",
            ),
        ],
        "prod-us-2": [
            _fault(
                "apiservice-down", "v1beta1.metrics.k8s.io",
                "APIService v1beta1.metrics.k8s.io is not available: FailedDiscoveryCheck, no response from https://10.100.14.7:443",
                "no-endpoints: no endpoint of the Service kube-system/metrics-server is ready",
                kind="APIService", webhook="", impact="refuses", requests=["requests of v1beta1.metrics.k8s.io"],
                manager="Helm (release metrics-server)", breaks_at="2026-11-26T11:58:44Z",
            ),
        ],
        "prod-ap-1": [
            _fault(
                "expiring", "vpa-webhook-config",
                "The certificate CN=vpa-webhook.kube-system.svc expires at 2026-12-02T16:40:00Z",
                "kube-system/vpa-admission-controller-5d4f6-7lq2m port 8000: serial 02", **_admission("Ignore", "CREATE of pods"),
                kind=MUTATING, webhook="vpa.k8s.io", severity="error", breaks_at="2026-12-02T16:40:00Z",
            ),
            _fault(
                "webhook-duplicated", "ingress-nginx-admission",
                "ValidatingWebhookConfiguration ingress-nginx-admission calls the same webhook for the same requests as another "
                "configuration",
                "the same as ValidatingWebhookConfiguration ingress-nginx-old-admission, managed by: unmanaged",
                webhook="validate.nginx.ingress.kubernetes.io", manager="Helm (release ingress-nginx)",
            ),
        ],
        "stage-eu-1": [
            _fault(
                "control-plane-blocked", "gatekeeper-validating-webhook-configuration",
                "If the webhook does not answer, the API server refuses writes of 6 kinds of objects that the control plane needs",
                "it matches, for an object without labels: pods in kube-system, leases in kube-node-lease, nodes, namespaces",
                "failurePolicy Fail, timeoutSeconds 10",
                webhook="validation.gatekeeper.sh", manager="Helm (release gatekeeper)",
                excepted={"reason": EXCEPTIONS[0]["reason"], "until": EXCEPTIONS[0]["until"]},
            ),
        ],
        "stage-us-1": [
            _fault(
                "slow-leases", "vault-agent-injector-cfg",
                "MutatingWebhookConfiguration vault-agent-injector-cfg, webhook vault.hashicorp.com may delay each renewal of a Lease by "
                "30 s, although it has failurePolicy Ignore",
                "it matches leases.coordination.k8s.io in kube-node-lease", "timeoutSeconds 30",
                kind=MUTATING, webhook="vault.hashicorp.com", manager="Helm",
            ),
        ],
        "edge-berlin": [
            _fault(
                "service-missing", "volcano-admission-service-jobs-mutate",
                "MutatingWebhookConfiguration volcano-admission-service-jobs-mutate cannot be called, because the Service "
                "volcano-system/volcano-admission-service does not exist",
                **_admission("Fail", "CREATE of jobs.batch.volcano.sh"),
                kind=MUTATING, webhook="mutatejob.volcano.sh", breaks_at="2026-11-26T11:57:02Z",
            ),
            _fault(
                "conversion-dead", "certificates.cert-manager.io",
                "CustomResourceDefinition certificates.cert-manager.io cannot convert objects. No endpoint of the Service "
                "cert-manager/cert-manager-webhook is ready",
                "no-endpoints: no endpoint of the Service cert-manager/cert-manager-webhook is ready",
                kind="CustomResourceDefinition", webhook="", impact="refuses",
                requests=["requests for certificates.cert-manager.io that need a conversion"], manager="Helm (release cert-manager)",
                breaks_at="2026-11-26T11:57:02Z",
            ),
            _fault(
                "apiserver-expiring", "cluster", "The certificate of the API server expires at 2026-12-14T08:00:00Z",
                "subject CN=kube-apiserver, issuer CN=kubernetes", kind="Cluster", webhook="", breaks_at="2026-12-14T08:00:00Z",
            ),
        ],
        "edge-madrid": [
            _fault(
                "deadlock", "linkerd-proxy-injector-webhook-config",
                "MutatingWebhookConfiguration linkerd-proxy-injector-webhook-config must answer before a pod of its own Service "
                "linkerd/linkerd-proxy-injector can be created",
                "failurePolicy Fail, timeoutSeconds 10", "compared with the labels of 1 pods",
                kind=MUTATING, webhook="linkerd-proxy-injector.linkerd.io", manager="Helm (release linkerd)",
            ),
        ],
        "lab-1": [
            _fault(
                "timeout-long", "company-policy",
                "ValidatingWebhookConfiguration company-policy may delay each request that it matches by 30 s", "timeoutSeconds 30",
                webhook="policy.example.com",
            ),
        ],
    }  # fmt: skip


def _used(entry: dict[str, Any], cluster: str) -> dict[str, Any]:
    """Return an exception as the audit of a cluster returns it."""
    if any(fnmatchcase(cluster, pattern) for pattern in entry["clusters"]):
        is_matched = entry["findings"] and cluster == "stage-eu-1"
        state = "matched" if is_matched else entry["state"] if entry["state"] == "expired" else "unused"
        return {**entry, "state": state, "findings": int(bool(is_matched))}
    return {**entry, "state": "other-cluster", "findings": 0}


def _passed(cluster: str) -> list[dict[str, Any]]:
    names = ("cert-manager-webhook", "prometheus-operator-admission")
    checks = ("ca-mismatch", "expired", "name-mismatch", "no-endpoints")
    return [
        _fault(check, name, "", BLIND_SPOT, status="pass", webhook=f"{name}.example.com", manager="Helm")
        for name in names
        for check in checks
    ]


def _unreadable(reason: str, source: str, unanswered: list[str], permissions: list[str]) -> dict[str, Any]:
    return reports.unread(
        *unanswered,
        name="cluster",
        webhook="",
        cause=f"The audit could not read {source}: {reason}",
        permissions=permissions,
    )


def audit() -> Report:
    """Return the report, with faults of every kind, and clusters that could not be read."""
    faults = _faults()
    results: dict[str, Any] = {
        name: reports.result(
            *faults.get(name, ()),
            *_passed(name),
            uid=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            kubernetes_version=version,
            checks=check_table.as_results(check_table.BY_ID),
            counts={"pass": 8},
            exceptions=[_used(exception, name) for exception in EXCEPTIONS],
        )
        for name, version in VERSIONS.items()
    }
    forward = _unreadable(
        "forbidden", "the certificates that pods serve", ["ca-mismatch", "expired", "expiring", "name-mismatch"],
        ["get pods/portforward", "create pods/portforward"],
    )  # fmt: skip
    metrics = _unreadable("forbidden", "the counters of the API server", ["calls-fail"], ["get /metrics"])
    for name in ("prod-us-1", "prod-us-2"):
        results[name]["findings"] += [forward]
    results["edge-porto"]["findings"] += [forward, metrics]
    results["edge-lisbon"] = reports.failed(
        "unreachable",
        cause="https://10.31.7.2:6443 does not answer: connection timed out after 10 s",
        remedy="Check the address, the network path and the state of the API server",
    )
    results["lab-2"] = reports.failed(
        "authentication-failed",
        cause="the API server does not accept the client certificate of the context lab-2, which expired at 2026-11-20T10:00:00Z",
        remedy="Renew the client certificate of the kubeconfig",
    )
    return reports.report(results)


def compared() -> Report:
    """Return the report with a comparison with that of the week before."""
    report = audit()
    states = {
        "expired": ("known", "2026-11-12T12:00:00Z"),
        "deadlock": ("known", "2026-11-05T12:00:00Z"),
        "ca-mismatch": ("new", None),
    }
    for cluster in report["clusters"]:
        for finding in cluster["findings"]:
            state, since = states.get(finding["check"], ("", None))
            if finding["status"] == "fail" and state:
                finding |= {"state": state, "first_seen": since or "2026-11-26T12:00:00Z"}
    gone = _fault(
        "no-endpoints",
        "kubevirt-operator-webhook",
        "no endpoint of the Service kubevirt/virt-operator is ready",
    )
    report["comparison"] = {
        "made_at": "2026-11-19T12:00:00Z",
        "new": 3,
        "known": 2,
        "gone": [
            {**{key: gone[key] for key in ("check", "severity", "object", "cause")}, "cluster": "lab-1"}
        ],
        "not_compared": ["edge-lisbon", "lab-2"],
    }
    return normalise(report, "the sample")
