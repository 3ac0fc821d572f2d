# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_info: the same diagnosis for a request by name and in the list, with few requests to the API server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.cluster_evidence import EVENTS
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import (
    MANAGER_LEASE,
    MANAGER_PODS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr_info

from tests.support.api_server import ScriptedAnswer, serving
from tests.support.operations import operate
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error, leaf
from tests.unit.plugins.module_utils._csr.objects import (
    APP_SERVING,
    KUBELET_SERVING,
    NOW,
    approved,
    condition,
    csr,
)

pytestmark = pytest.mark.quick

CSRS = csr_api.COLLECTION
ROOT_CA = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"
HOSTED = "/api/v1/namespaces/openshift-config-managed/configmaps/kubelet-serving-ca"
OPENSHIFT = "/api/v1/namespaces/openshift-config-managed/configmaps/csr-controller-ca"
A_MOMENT_AGO = approved(f"{NOW - timedelta(seconds=20):%Y-%m-%dT%H:%M:%SZ}")
STUCK = [csr(approved(), name=f"stuck-{number}") for number in range(3)]


def api_with(*csrs: dict[str, Any]) -> ScriptedApi:
    listed = {"metadata": {"resourceVersion": "9"}, "items": list(csrs)}
    return ScriptedApi({CSRS: listed, **{csr_api.path(obj["metadata"]["name"]): obj for obj in csrs}})


def info(api: ScriptedApi, **changed: Any) -> dict[str, Any]:
    options = {"gather": ["csrs", "provider"], "provider": "eks", "providers": {}, **changed}
    return dict(k8s_csr_info.run(api, options, False).values)  # type: ignore[arg-type]


def test_by_name_and_in_the_list_the_diagnosis_is_the_same() -> None:
    api = api_with(*STUCK)
    [request] = info(api, name="stuck-0")["csrs"]
    assert request == info(api)["csrs"][0]
    assert request["diagnosis"]["certainty"] == "proven", "the two others prove it"
    assert any(text.startswith("2 other") for text in request["diagnosis"]["evidence"])


def test_a_list_of_all_requests_is_not_listed_again_for_each_signer() -> None:
    api = api_with(*STUCK, csr(approved(), certificate=leaf().pem, signerName="example.com/x"))
    info(api)
    assert api.asked == [("GET", CSRS)]


def test_each_fact_is_read_once_in_a_run() -> None:
    """Fifty stuck and fifty pending requests need as many API requests as one of each, and one page for each signer."""
    many = [
        csr(*conditions, name=f"{number}-{signer[:4]}", signerName=signer)
        for number in range(50)
        for conditions in ([approved()], [])
        for signer in (KUBELET_SERVING, "example.com/x")
    ]
    api = api_with(*many)
    found = info(api, provider="kubeadm", label_selectors=["x"])["csrs"]
    assert len(found) == 200
    paths = [path for verb, path in api.asked if verb == "GET"]
    assert sorted(path for path in paths if path != CSRS) == sorted(
        [MANAGER_LEASE, MANAGER_PODS, EVENTS, ROOT_CA, OPENSHIFT, HOSTED]
    )
    assert paths.count(CSRS) == 3, "the selected ones, and each signer's"
    assert api.reviews == 4, "to update the approval, and to approve, for each signer"


def test_a_finished_request_needs_no_further_reads() -> None:
    api = api_with(csr(condition("Denied"), name="a"), csr(approved(), condition("Failed"), name="b"))
    assert [request["diagnosis"]["code"] for request in info(api, label_selectors=["x"])["csrs"]] == [
        "denied",
        "failed",
    ]
    assert api.asked == [("GET", CSRS)]
    assert api.reviews == 0


def test_without_permission_to_list_nothing_is_claimed_about_other_requests() -> None:
    api = api_with(STUCK[0])
    api.objects[CSRS] = api_error(Forbidden)
    [request] = info(api, name="stuck-0")["csrs"]
    assert request["diagnosis"]["certainty"] == "likely"
    assert request["diagnosis"]["evidence"][-1] == f"cannot read requests of the signer {KUBELET_SERVING}: no"


def test_missing_permissions_are_evidence_and_no_failure() -> None:
    api = api_with(STUCK[0])
    api.objects.update(
        {path: api_error(Forbidden) for path in (MANAGER_LEASE, MANAGER_PODS, ROOT_CA, OPENSHIFT)}
    )
    [request] = info(api, name="stuck-0", provider="kubeadm")["csrs"]
    assert request["diagnosis"]["code"] == "approved-not-issued"
    assert [text.partition(":")[0] for text in request["diagnosis"]["evidence"][-4:]] == [
        "cannot read Lease kube-system/kube-controller-manager",
        "cannot read pods in kube-system",
        "cannot read ConfigMap kube-system/kube-root-ca.crt",
        "cannot read ConfigMap openshift-config-managed/csr-controller-ca",
    ]


def test_a_request_that_does_not_exist_is_explained() -> None:
    [request] = info(api_with(), name="gone")["csrs"]
    assert (request["name"], request["condition"], request["certificate"]) == ("gone", "NotFound", None)
    assert (request["diagnosis"]["code"], request["diagnosis"]["certainty"]) == ("collected", "one of")
    full = info(api_with(STUCK[0]), name="stuck-0")["csrs"][0]
    assert request.keys() == full.keys()


@pytest.mark.parametrize("other_marks", [403, 404], ids=["no mark", "nodes only"])
def test_without_permission_to_see_the_provider_the_message_names_the_file_of_the_task(
    other_marks: int,
) -> None:
    """The requests are those for the version, the groups, nodes, networks, two ClusterRoles and a ConfigMap."""
    version = ScriptedAnswer(body={"gitVersion": "v1.33.1"})
    statuses = [404, 403, *[other_marks] * 4]
    refusals = (ScriptedAnswer(status, {"kind": "Status", "message": "no"}) for status in statuses)
    with serving(version, *refusals) as server:
        options = {"gather": ["signer"], "host": server.url, "api_key": "token"}
        result = operate(k8s_csr_info.OPERATION, options)
    assert result["failed"]
    files = re.findall(r"-f docs/rbac/([a-z-]+)\.yaml", result["remedy"])
    assert files == ["explain"], result["remedy"]


def test_signers_are_sorted_by_stuck_requests() -> None:
    node: dict[str, Any] = {"username": "system:node:one"}
    found = info(
        api_with(
            csr(approved(), name="a", certificate=leaf().pem),
            csr(name="b"),
            csr(approved(), name="c", signerName="example.com/x"),
            csr(approved("2026-08-30T11:00:00Z"), name="d", signerName="example.com/x", **node),
            csr(condition("Denied"), name="e", signerName="example.com/y"),
        )
    )
    none = {"issued": 0, "pending": 0, "waiting": 0, "stuck": 0, "refused": 0, "oldest_stuck": None}
    assert found["signers"] == [
        {**none, "signer_name": "example.com/x", "stuck": 2, "oldest_stuck": "2026-08-30T11:00:00Z"},
        {**none, "signer_name": "example.com/y", "refused": 1},
        {**none, "signer_name": KUBELET_SERVING, "issued": 1, "pending": 1},
    ]


ONLY: list[tuple[list[str] | None, list[str]]] = [
    (None, ["denied", "failed", "issued", "pending", "stuck", "waiting"]),
    (["stuck"], ["stuck"]),
    (["refused", "waiting"], ["denied", "failed", "waiting"]),
    (["pending", "issued"], ["issued", "pending"]),
]


@pytest.mark.parametrize(("only", "names"), ONLY)
def test_the_option_only_selects_states_and_each_request_is_counted_once(
    only: list[str] | None, names: list[str]
) -> None:
    api = api_with(
        csr(approved(), name="issued", certificate=leaf().pem),
        csr(name="pending"),
        csr(approved(), name="stuck"),
        csr(A_MOMENT_AGO, name="waiting", signerName=APP_SERVING),
        csr(condition("Denied"), name="denied"),
        csr(approved(), condition("Failed"), name="failed"),
    )
    found = info(api, only=only)
    assert sorted(entry["name"] for entry in found["csrs"]) == names
    counts = [sum(entry[key] for key in entry if isinstance(entry[key], int)) for entry in found["signers"]]
    assert sum(counts) == 6
    diagnosed = [entry for entry in found["csrs"] if entry["diagnosis"] and entry["name"] != "pending"]
    assert all(
        sum(signer[entry["name"] if entry["name"] in signer else "refused"] for signer in found["signers"])
        for entry in diagnosed
    ), "a diagnosed request is in a count of its own"


STUCK_AT_ONCE: list[tuple[str, str, Sequence[dict[str, Any]], str, int]] = [
    ("likely", "csr", [A_MOMENT_AGO], KUBELET_SERVING, 1),
    ("several likely causes", "csr-x", [A_MOMENT_AGO], KUBELET_SERVING, 1),
    ("only possible causes", "csr", [A_MOMENT_AGO], APP_SERVING, 0),
    ("only possible causes, an hour ago", "csr", [approved()], APP_SERVING, 1),
    ("not approved", "csr", [], KUBELET_SERVING, 0),
    ("denied", "csr", [condition("Denied")], KUBELET_SERVING, 0),
]


@pytest.mark.parametrize(
    ("name", "conditions", "signer", "stuck"),
    [row[1:] for row in STUCK_AT_ONCE],
    ids=[row[0] for row in STUCK_AT_ONCE],
)
def test_a_request_that_is_never_issued_counts_as_stuck_at_once(
    name: str, conditions: Sequence[dict[str, Any]], signer: str, stuck: int
) -> None:
    found = info(api_with(csr(*conditions, name=name, signerName=signer)))
    [counts] = found["signers"]
    assert counts["stuck"] == stuck
    assert bool(counts["oldest_stuck"]) == bool(stuck)


def test_the_provider_has_its_ca_and_its_longest_lifetime() -> None:
    provider = info(api_with(), provider="openshift")["provider"]
    assert "csr-controller-ca" in provider["ca"]
    assert provider["longest_lifetime_seconds"] == 720 * 3600
    unknown = info(api_with(), provider="strange", providers={"default": "example.com/x"})["provider"]
    assert (unknown["ca"], unknown["longest_lifetime_seconds"]) == ("", None)


NAMESPACE = "/api/v1/namespaces/kube-system"
IDENTITIES: tuple[tuple[dict[str, Any] | Exception, str], ...] = (
    ({"metadata": {"uid": "0a-1"}}, "0a-1"),
    (api_error(Forbidden), ""),
)


@pytest.mark.parametrize(("answer", "uid"), IDENTITIES)
def test_the_identity_of_a_cluster_costs_one_request(answer: dict[str, Any] | Exception, uid: str) -> None:
    api = ScriptedApi({NAMESPACE: answer})
    assert info(api, gather=["cluster"], provider="auto") == {"cluster_uid": uid}
    assert api.asked == [("GET", NAMESPACE)]


POD_CERTIFICATES = "/apis/certificates.k8s.io/v1/podcertificaterequests"


def test_pod_certificates_are_read_alone() -> None:
    obj = {
        "metadata": {"name": "req-1", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"signerName": "example.com/pods", "podName": "web", "nodeName": "one"},
    }
    api = ScriptedApi({POD_CERTIFICATES: {"metadata": {}, "items": [obj]}})
    values = info(api, gather=["pod_certificates"])
    assert list(values) == ["pod_certificates"]
    found = values["pod_certificates"]
    assert (found["api_version"], found["diagnosis"], found["unreadable"]) == (
        "certificates.k8s.io/v1",
        None,
        "",
    )
    (entry,) = found["requests"]
    assert (entry["pod"], entry["condition"], entry["diagnosis"]["code"]) == (
        "web",
        "Pending",
        "pod-not-issued",
    )


def test_pod_certificates_that_are_absent_or_refused_are_no_failure() -> None:
    absent = info(ScriptedApi({}), gather=["pod_certificates"])["pod_certificates"]
    assert (absent["api_version"], absent["diagnosis"]["code"]) == ("", "pod-certificates-off")
    refused = ScriptedApi({POD_CERTIFICATES: api_error(Forbidden)})
    found = info(refused, gather=["pod_certificates"])["pod_certificates"]
    assert found["unreadable"]
    assert (found["requests"], found["diagnosis"]) == ([], None)
