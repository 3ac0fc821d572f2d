# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit real clusters: the form of findings, permissions, and faults of the cluster itself."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)

from tests.support.audit.audit_rig import (
    DAY,
    NOW,
    AuditRig,
    audit_as_auditor,
    bundle_of,
    checks,
    failed,
    leaf,
    old_ca,
)
from tests.support.certificates import csr_by_hand
from tests.support.certificates.csr_rig import KUBELET_SERVING
from tests.support.waiting import now, wait_for
from tests.support.webhooks.bundle_rig import pem
from tests.system.fault_injection import proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

REQUEST = CertificateRequest(
    common_name="system:node:hook.default.svc",
    organizations=("system:nodes",),
    dns_names=("hook.default.svc",),
    usages=("digital signature", "key encipherment", "server auth"),
)


@pytest.fixture(scope="module")
def rig(fleet: Fleet) -> Iterator[AuditRig]:
    rig = AuditRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="module")
def audit(rig: AuditRig) -> dict[str, Any]:
    """Return the audit of some faults."""
    for fault, days in (("expired", -1), ("expiring", 5)):
        rig.hook(fault, port=rig.serve(leaf(rig.server_name, end=NOW + days * DAY)))
    rig.hook("healthy")
    rig.hook("ca-mismatch", bundle=pem("bad"))
    rig.hook(
        "ca-expired", port=rig.serve(leaf(rig.server_name, issuer=old_ca(-1))), bundle=bundle_of(old_ca(-1))
    )
    return rig.audit(include_passed=True)


def test_a_healthy_webhook_has_no_finding_above_info(rig: AuditRig, audit: dict[str, Any]) -> None:
    name = f"healthy-{rig.name}"
    assert failed(audit, name) == []
    assert checks(audit, name, with_info=True) == []
    passed = [
        finding
        for finding in audit["findings"]
        if finding["object"]["name"] == name and finding["status"] == "pass"
    ]
    reach = [finding for finding in passed if finding["check"] == "ca-mismatch"]
    assert "network path" in reach[0]["evidence"][0]


def test_the_order_is_that_of_the_damage(audit: dict[str, Any]) -> None:
    times = [finding["breaks_at"] for finding in audit["findings"] if finding["status"] == "fail"]
    known = [moment for moment in times if moment]
    assert times == sorted(known) + [None] * (len(times) - len(known))
    assert audit["breaks_at"] == known[0]


def test_each_check_stands_once_with_its_page(audit: dict[str, Any]) -> None:
    assert list(audit["checks"]) == [row.id for row in check_table.CHECKS]
    assert audit["checks"]["expired"]["url"].endswith("#expired")
    assert audit["checks"]["expired"]["counts"]["fail"] >= 1
    assert audit["counts"]["error"] >= 4


def test_fingerprints_stay_the_same_in_the_next_audit(rig: AuditRig, audit: dict[str, Any]) -> None:
    def prints(result: dict[str, Any]) -> set[str]:
        return {
            finding["fingerprint"] for finding in result["findings"] if rig.name in finding["object"]["name"]
        }

    again = rig.audit(include_passed=True)
    assert prints(again) == prints(audit)
    assert len(prints(audit)) == sum(rig.name in finding["object"]["name"] for finding in audit["findings"])


def test_the_manager_of_an_object_is_named(rig: AuditRig) -> None:
    metadata = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
    name = rig.hook("managed", service="nosuch", metadata=metadata)
    assert [finding["manager"] for finding in failed(rig.audit(), name)] == ["Helm"]


def test_accepted_findings_are_counted_apart(rig: AuditRig) -> None:
    annotated = rig.hook(
        "annotated",
        service="nosuch",
        metadata={"annotations": {"certflow.kubernetes/audit-except": "service-missing"}},
    )
    accepted = rig.hook("accepted", service="nosuch")
    entry = {
        "check": "service-missing",
        "objects": [f"*/{accepted}"],
        "reason": "a test",
        "until": "2100-01-01",
    }
    unused = {**entry, "objects": ["*/nosuch"]}
    result = rig.audit(exceptions=[entry, unused])
    reasons = [failed(result, name)[0]["excepted"]["reason"] for name in (annotated, accepted)]
    assert (reasons[1], result["counts"]["excepted"]) == ("a test", 2)
    assert [exception["state"] for exception in result["exceptions"]] == ["matched", "unused"]


def pods_rule(**changed: Any) -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
        **changed,
    }


def test_an_object_selector_is_compared_with_the_labels_of_this_cluster(rig: AuditRig) -> None:
    """Without the permission to read them, it is compared with labels that most clusters have."""
    spec = {"containers": [{"name": "a", "image": "none"}], "schedulerName": "none"}
    body = {"metadata": {"name": rig.name, "labels": {"scope": rig.name}}, "spec": spec}
    rig.make("/api/v1/namespaces/kube-system/pods", body)
    fields: dict[str, Any] = {
        "rules": [pods_rule(resources=["pods/status"], operations=["UPDATE"])],
        "namespaceSelector": {},
    }
    own, other, usual = (
        rig.hook(name, **fields, objectSelector={"matchLabels": labels})
        for name, labels in (
            ("own", {"scope": rig.name}),
            ("other", {"scope": "none"}),
            ("usual", {"k8s-app": "kube-dns"}),
        )
    )
    result = rig.audit()
    (finding,) = failed(result, own)
    assert (finding["check"], finding["certainty"]) == ("control-plane-blocked", "proven")
    assert [checks(result, name) for name in (other, usual)] == [[], []]
    result = audit_as_auditor(rig.cluster, lacking=("pods", "nodes"))
    (finding,) = failed(result, usual)
    assert (finding["check"], finding["certainty"]) == ("control-plane-blocked", "likely")
    unread = {
        entry["source"]: entry["objects"] for entry in result["findings"] if entry["status"] == "unknown"
    }
    assert any(own in name for name in unread["pods"])
    assert "nodes" not in unread  # no selector needs them


# Calls that failed


def test_calls_that_fail_although_the_certificate_is_good(rig: AuditRig) -> None:
    """The counters of the API server grow, and a controller writes an Event. It is not known if calls still fail."""
    port = rig.serve(leaf(rig.server_name))
    rig.servers[-1].answer = lambda _asked: (500, {})
    name = rig.hook(
        "failing", port=port, rules=[pods_rule()], objectSelector={"matchLabels": {"app": "failing"}}
    )
    earlier = rig.audit()["counters"]
    pod = {
        "metadata": {"labels": {"app": "failing"}},
        "spec": {"containers": [{"name": "one", "image": "none"}]},
    }
    body = {
        "metadata": {"name": "failing"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "failing"}}, "template": pod},
    }
    rig.make(f"/apis/apps/v1/namespaces/{rig.name}/replicasets", body)
    wait_for(
        lambda: any(
            "Event on ReplicaSet" in line
            for finding in failed(rig.audit(), name, with_info=True)
            for line in finding["evidence"]
        )
    )
    findings = failed(rig.audit(previous_counters=earlier), name, with_info=True)
    (finding,) = [finding for finding in findings if finding["check"] == "calls-fail"]
    assert "failures since the API server started at " in finding["evidence"][0]
    assert "failures since the previous audit" in finding["evidence"][1]
    assert not finding["evidence"][1].startswith("0 ")


# The cluster itself


def test_a_stuck_request(fleet: Fleet) -> None:
    cluster = fleet["eks"]
    csr = csr_by_hand.create(cluster, KUBELET_SERVING, REQUEST, prefix="audit")
    csr_by_hand.decide(cluster, csr)
    rig = AuditRig(cluster)
    try:
        (finding,) = failed(rig.audit(), csr["metadata"]["name"])
    finally:
        rig.close()
        cluster.api("DELETE", f"{csr_by_hand.CSRS}/{csr['metadata']['name']}")
    assert (finding["check"], finding["severity"]) == ("request-stuck", "warning")
    assert finding["evidence"][0].startswith("signer-not-served, ")
    assert finding["certainty"] in {"likely", "proven"}


def test_a_login_that_expires_soon(rig: AuditRig) -> None:
    usual = rig.audit()
    assert [
        finding
        for finding in usual["findings"]
        if finding["check"] in {"login-expiring", "apiserver-expiring"}
    ] == []
    lifetime = datetime.timedelta(seconds=50)
    kubeconfig = rig.cluster.kubeconfig_for(rig.user, ["system:masters"], lifetime=lifetime)
    result = rig.audit(kubeconfig=str(kubeconfig))
    (finding,) = new_findings(usual, result)
    assert (finding["check"], finding["severity"]) == ("login-expiring", "warning")
    assert finding["breaks_at"] <= (now() + datetime.timedelta(minutes=5)).isoformat()


def test_a_certificate_of_the_api_server_that_expires_soon(rig: AuditRig) -> None:
    """A proxy serves a certificate of the cluster's CA. It stands before the API server."""
    usual = rig.audit()
    front = proxy.Proxy(rig.cluster, lifetime=datetime.timedelta(seconds=20))
    try:
        result = rig.audit(kubeconfig=rig.proxied(front.url))
    finally:
        front.close()
    (finding,) = new_findings(usual, result)
    assert (finding["check"], finding["severity"]) == ("apiserver-expiring", "error")


def new_findings(usual: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings above info that the usual audit does not have."""
    known = {finding["fingerprint"] for finding in usual["findings"]}
    return [
        finding
        for finding in result["findings"]
        if finding["severity"] != "info" and finding["fingerprint"] not in known
    ]


# Permissions


def test_each_missing_permission_is_unknown_and_named(rig: AuditRig) -> None:
    """Without any permission of the role the audit still ends."""
    administrator = rig.user, rig.kubeconfig
    try:
        rig.become_by([])
        result = rig.audit()
        unknown = [finding for finding in result["findings"] if finding["status"] == "unknown"]
        reasons = [finding["cause"] for finding in unknown]
        assert len(set(reasons)) == len(reasons)
        assert {finding["check"] for finding in unknown} == {"unreadable"}
        assert result["counts"]["pass"] <= 3  # the login, the API server
        missing = {words for finding in unknown for words in finding["permissions"]}
        assert "list mutatingwebhookconfigurations.admissionregistration.k8s.io" in missing
        assert "get /metrics" in missing
    finally:
        rig.user, rig.kubeconfig = administrator


def rules(entries: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for entry in entries
        for group in entry.get("apiGroups", [""])
        for resource in [*entry.get("resources", []), *entry.get("nonResourceURLs", [])]
        for verb in entry["verbs"]
    }


def test_addresses_outside_of_the_cluster_are_not_read_by_default(
    rig: AuditRig, audit: dict[str, Any]
) -> None:
    before = rig.server.connections
    result = rig.audit(probe_urls=False)
    assert rig.server.connections == before
    assert checks(result, f"ca-mismatch-{rig.name}") == []
    assert checks(result, f"ca-expired-{rig.name}") == ["ca-expired"]  # the bundle shows it
    unread = [finding["evidence"][0] for finding in result["findings"] if finding["status"] == "unknown"]
    assert any("ca-mismatch" in line for line in unread)
