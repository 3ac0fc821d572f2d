# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only the facts that a request requires are read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.cluster_evidence import (
    EVENTS,
    ClusterEvidence,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import (
    CsrObservation,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import (
    MANAGER_LEASE,
    MANAGER_PODS,
)

from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, ca, leaf
from tests.unit.plugins.module_utils._csr.objects import EKS_ROLES, NOW, approved, condition, csr

pytestmark = pytest.mark.quick

CSRS = csr_api.COLLECTION
ROOT_CA = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"
HOSTED = "/api/v1/namespaces/openshift-config-managed/configmaps/kubelet-serving-ca"
OPENSHIFT = "/api/v1/namespaces/openshift-config-managed/configmaps/csr-controller-ca"
GROUP = "/apis/cert-manager.io"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
CLUSTER_ISSUER = "clusterissuers.cert-manager.io/main.x"
ISSUER = "issuers.cert-manager.io/apps.main.x"


def around(objects: dict[str, Any], **options: Any) -> tuple[ClusterEvidence, ScriptedApi]:
    api = ScriptedApi(objects, **options)
    return ClusterEvidence(api), api  # type: ignore[arg-type]


def paths(api: ScriptedApi) -> set[str]:
    """Those that were asked for, without the marks of providers."""
    marks = (
        "/version",
        "/apis",
        "/api/v1/nodes",
        "/apis/networking",
        ROLES,
        "/api/v1/namespaces/kube-system/configmaps/kubeadm",
    )
    return {path for _verb, path in api.asked if path not in marks[:3] and not path.startswith(marks[3:])}


NEEDS: list[tuple[dict[str, Any], set[str], int]] = [
    (csr(condition("Denied")), set(), 0),
    (csr(approved(), condition("Failed")), set(), 0),
    (csr(approved(), certificate=leaf().pem), set(), 0),
    (csr(approved(), certificate=leaf().pem, expirationSeconds=10**9), set(), 0),
    (csr(approved()), {CSRS, MANAGER_LEASE, MANAGER_PODS, ROOT_CA, OPENSHIFT, HOSTED}, 0),
    (csr(), {CSRS, MANAGER_LEASE, MANAGER_PODS, ROOT_CA, OPENSHIFT, HOSTED}, 2),
    (csr(approved(), signerName="example.com/x"), {CSRS, EVENTS}, 0),
    (csr(approved(), signerName=CLUSTER_ISSUER), {CSRS, EVENTS}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "wanted", "reviews"), NEEDS)
def test_only_what_the_state_and_the_signer_call_for_is_read(
    obj: dict[str, Any], wanted: set[str], reviews: int
) -> None:
    evidence, api = around({})
    for _time in range(2):
        evidence.observe(obj)
    assert paths(api) == wanted
    assert len(api.asked) == len(set(api.asked)), "each once"
    assert api.reviews == reviews


def test_where_the_provider_does_not_serve_the_signer_its_control_plane_says_nothing() -> None:
    roles: dict[str, Any] = {f"{ROLES}/{role}": {"metadata": {}} for role in EKS_ROLES}
    evidence, api = around({**roles, "/version": {"gitVersion": "v1.36.3-eks-3c42bf9"}})
    found = evidence.explain(csr(approved()))
    assert found is not None
    assert found.code == "signer-not-served"
    assert paths(api) == {CSRS}


def observe(objects: dict[str, Any], obj: dict[str, Any], **options: Any) -> CsrObservation:
    return around(objects, **options)[0].observe(obj)


def test_rights_to_approve_by_name_or_by_domain() -> None:
    evidence, api = around({})
    assert evidence.observe(csr()).lacking == ()
    for lacking in ([("approve", "signers")], [("update", "certificatesigningrequests/approval")]):
        evidence, api = around({})
        api.lacking = set(lacking)
        found = evidence.observe(csr()).lacking
        assert found is not None
        assert [(permission.verb, permission.resource) for permission in found] == lacking


def test_authorities_of_all_places_and_of_each_certificate() -> None:
    other = (
        ca("other").pem + "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" + ca("third").pem
    )
    found = observe(
        {ROOT_CA: {"data": {"ca.crt": ca().pem}}, OPENSHIFT: {"data": {"ca-bundle.crt": other}}},
        csr(approved()),
        ca_pem=ca("api").pem,
    )
    assert [
        (authority.source, authority.subject, authority.signs_requests) for authority in found.authorities
    ] == [
        ("the API server's CA in test", "CN=api", False),
        ("ConfigMap kube-system/kube-root-ca.crt", "CN=cluster", False),
        ("ConfigMap openshift-config-managed/csr-controller-ca", "CN=other", True),
        ("ConfigMap openshift-config-managed/csr-controller-ca", "CN=third", True),
    ]


def test_the_authorities_of_a_custom_signer_matter_where_it_has_issued() -> None:
    page = {"items": [csr(approved(), name="x", certificate=leaf().pem, signerName="example.com/x")]}
    evidence, _api = around({CSRS: page}, ca_pem=ca().pem)
    found = evidence.observe(csr(approved(), signerName="example.com/x"))
    assert found.stats is not None
    assert found.stats.issuers == (found.authorities[0].subject,)


def event(uid: str, reason: str, at: str, kind: str = "Warning") -> dict[str, Any]:
    about = {"kind": "CertificateSigningRequest", "uid": uid}
    return {
        "involvedObject": about,
        "reason": reason,
        "message": "not\nready ",
        "type": kind,
        "lastTimestamp": at,
        "source": {"component": "signer"},
    }


def test_events_of_the_request_in_their_order() -> None:
    obj = csr(approved(), signerName="example.com/x")
    uid = obj["metadata"]["uid"]
    events = [
        event(uid, "Late", "2026-09-01T11:02:00Z"),
        event("another", "Other", "2026-09-01T11:01:00Z"),
        event(uid, "Early", "2026-09-01T11:01:00Z", "Normal"),
    ]
    found = observe({EVENTS: {"items": events}}, obj).events
    assert [(report.reason, report.is_warning) for report in found] == [("Early", False), ("Late", True)]
    assert (found[0].reporter, found[0].message) == ("signer", "not ready")


def lease(seconds: float) -> dict[str, Any]:
    renewed = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"spec": {"renewTime": renewed, "leaseDurationSeconds": 15, "holderIdentity": "x"}}


def test_the_lease_is_read_again_only_if_it_is_forgotten() -> None:
    evidence, api = around({MANAGER_LEASE: lease(5)})
    first = evidence.observe(csr(approved())).lease
    api.objects[MANAGER_LEASE] = lease(400)
    assert evidence.observe(csr(approved())).lease == first
    evidence.forget()
    assert evidence.observe(csr(approved())).lease != first
    assert [path for _verb, path in api.asked].count(MANAGER_PODS) == 1


def test_looking_at_everything_again() -> None:
    evidence, api = around({})
    evidence.observe(csr(approved(), signerName="example.com/x"))
    evidence.forget()
    evidence.observe(csr(approved(), signerName="example.com/x"))
    asked = [path for _verb, path in api.asked]
    assert (asked.count(CSRS), asked.count(EVENTS), asked.count("/version")) == (2, 2, 1)


def test_all_requests_that_were_listed_save_the_look_at_a_signer() -> None:
    listed = [
        csr(approved(), name="me"),
        csr(approved(), name="b"),
        csr(approved(), name="c", signerName="example.com/x"),
    ]
    api = ScriptedApi()
    found = ClusterEvidence(api, None, listed).observe(listed[0])  # type: ignore[arg-type]
    assert found.stats is not None
    assert found.stats.stuck == 1
    assert CSRS not in [path for _verb, path in api.asked]
