# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_signer_probe on real control planes: which signers issue, under which CA. No request stays after a run."""

from __future__ import annotations

import contextlib
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import signer_probe
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import access_review
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_signer_probe
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.certificates.csr_rig import CSRS, KUBELET_SERVING, CsrRig, assert_one_line, roles_in
from tests.support.clusters import APP_SERVING
from tests.support.permissions.rbac import User, documented, without
from tests.support.rig import WRITES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
NOBODY = "example.com/nobody"
LABEL = "certflow.kubernetes/signer-probe"
PROBE = documented("probe")


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[CsrRig]:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield rig
        assert left_over(rig.cluster) == []


@pytest.fixture
def eks(fleet: Fleet) -> Iterator[CsrRig]:
    with contextlib.closing(CsrRig(fleet["eks"])) as rig:
        yield rig
        assert left_over(rig.cluster) == []


def left_over(cluster: Cluster) -> list[str]:
    return [
        csr["metadata"]["name"]
        for csr in cluster.api("GET", CSRS)["items"]
        if LABEL in csr["metadata"].get("labels", {})
    ]


def probe(rig: CsrRig, *signers: str, **options: Any) -> dict[str, Any]:
    return rig.operate(k8s_signer_probe.OPERATION, signers=list(signers) or None, **options)


def by_signer(result: dict[str, Any]) -> dict[str, Any]:
    assert "signers" in result, result
    return {entry["signer_name"]: entry for entry in result["signers"]}


def issues(rig: CsrRig, expected: dict[str, bool], *signers: str) -> dict[str, Any]:
    """Probe until the signers issue as expected, with more time on a busy machine.

    Return the result by signer.
    """
    for seconds in (2, 8, 30):
        result = probe(rig, *signers, probe_seconds=seconds)
        assert (result["changed"], result.get("warnings")) == (False, None)
        if {name: entry["issued"] for name, entry in by_signer(result).items()} == expected:
            return by_signer(result)
    raise AssertionError(result)


def fingerprint(pem: str) -> str:
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


@pytest.mark.quick
def test_signers_on_premises(rig: CsrRig) -> None:
    """kube-controller-manager issues serving and client certificates, and EKS' signer does not exist."""
    expected = {KUBELET_SERVING: True, CLIENT: True, KUBELET_CLIENT: True, APP_SERVING: False}
    found = issues(rig, expected, *expected)
    assert list(found) == list(expected)
    for name in (KUBELET_SERVING, CLIENT, KUBELET_CLIENT):
        entry = found[name]
        assert entry["diagnosis"] is None
        assert entry["ca_fingerprints"] == [fingerprint(rig.cluster.ca_pem)]
        assert entry["ca_source"].startswith("the API server's CA")
        assert 590 < entry["certificate"]["lifetime_seconds"] <= 601
        assert entry["certificate"]["names"] == entry["request"]["names"]
        assert entry["seconds"] is not None
    assert "system:nodes" not in found[CLIENT]["certificate"]["subject"]
    assert found[APP_SERVING]["diagnosis"]["code"] == "signer-not-served"
    assert found[APP_SERVING]["certificate"] is None


def test_on_eks(eks: CsrRig) -> None:
    """Use the default list of signers, and an unknown signer."""
    found = issues(eks, {APP_SERVING: True, KUBELET_SERVING: False})
    assert found[APP_SERVING]["ca_fingerprints"] == [fingerprint(eks.cluster.ca_pem)]
    assert found[KUBELET_SERVING]["diagnosis"]["code"] == "signer-not-served"
    assert APP_SERVING in found[KUBELET_SERVING]["diagnosis"]["remedy"]
    found = issues(eks, {CLIENT: False, NOBODY: False}, CLIENT, NOBODY)
    assert found[NOBODY]["diagnosis"]["certainty"] == "one of"


def test_the_requests_of_a_probe_explain_themselves(rig: CsrRig) -> None:
    """Each request says what it is, and approvals have a reason.

    The probe writes only requests, and deletes all of them.
    """
    seen: list[dict[str, Any]] = []
    real = csr_api.remove

    def remove(client: Any, csr: Any) -> str:
        seen.append(rig.cluster.api("GET", f"{CSRS}/{csr['metadata']['name']}"))
        return real(client, csr)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csr_api, "remove", remove)
        probe(rig, KUBELET_SERVING)
    [csr] = seen
    assert csr["metadata"]["name"].startswith("certflow-probe-")
    assert csr["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "certflow.kubernetes"
    assert (
        "Throw-away request of k8s_signer_probe"
        in csr["metadata"]["annotations"]["certflow.kubernetes/purpose"]
    )
    [approval] = csr["status"]["conditions"]
    assert approval["reason"] == "CertflowSignerProbe"
    assert "Throw-away request of k8s_signer_probe" in approval["message"]
    assert KUBELET_SERVING in approval["message"]
    assert csr["spec"]["expirationSeconds"] == 600
    assert [entry for entry in rig.asked() if entry[0] in WRITES] == [
        ("create", "certificatesigningrequests"),
        ("update", "certificatesigningrequests/approval"),
        ("delete", "certificatesigningrequests"),
    ]


def test_check_mode_sends_no_request(rig: CsrRig) -> None:
    result = probe(rig, KUBELET_SERVING, CLIENT, check_mode=True)
    found = by_signer(result)
    assert (result["changed"], [entry["issued"] for entry in found.values()]) == (False, [None, None])
    assert found[KUBELET_SERVING]["request"]["names"][-1].endswith(".certflow-signer-probe.svc")
    assert found[CLIENT]["request"]["organizations"] == []
    assert {verb for verb, _ in rig.asked()} == {"review"}


def test_a_signer_without_approval_permission_does_not_stop_the_others(rig: CsrRig) -> None:
    user = User(rig, PROBE)
    found = by_signer(probe(rig, CLIENT, KUBELET_SERVING, kubeconfig=user.kubeconfig))
    assert {name: entry["issued"] for name, entry in found.items()} == {CLIENT: None, KUBELET_SERVING: True}
    diagnosis = found[CLIENT]["diagnosis"]
    assert diagnosis["code"] == "may-not-approve"
    (role,) = roles_in(diagnosis)
    (rule,) = [rule for rule in role["rules"] if rule["resources"] == ["signers"]]
    rig.grant(user.name, {**role, "rules": [{**rule, "resourceNames": [CLIENT]}]})
    assert by_signer(probe(rig, CLIENT, kubeconfig=user.kubeconfig))[CLIENT]["issued"]
    user = User(rig, without(PROBE, "signers", "approve"))
    result = probe(rig, kubeconfig=user.kubeconfig)
    assert_one_line(result, "missing-permissions", "approve", "signers.certificates.k8s.io", KUBELET_SERVING)
    assert user.writes() == []


@pytest.mark.parametrize(
    ("signer", "name"),
    [("ephemeral-ca", "signers"), ("kubernetes.io/legacy-unknown", "v1beta1")],
)
def test_invalid_signers_are_refused(rig: CsrRig, signer: str, name: str) -> None:
    assert_one_line(probe(rig, KUBELET_SERVING, signer), "invalid-request", rig.cluster.url, signer, name)
    assert rig.writes() == []


def test_a_policy_that_refuses_a_signer_is_reported(rig: CsrRig) -> None:
    """The policy refuses the request or its approval. The other signer is probed all the same."""
    signer = f"{uuid.uuid4().hex[:8]}.example.com/signer"
    rules = {"apiGroups": ["certificates.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    for resource, step in (
        ("certificatesigningrequests/approval", "approve"),
        ("certificatesigningrequests", "create"),
    ):
        said = f"refused-{step}"
        _refuse(rig, signer, {**rules, "resources": [resource]}, said)
        entry = _eventually_refused(rig, signer, said)
        assert (entry["issued"], entry["diagnosis"]["code"]) == (False, "request-refused")
    found = by_signer(probe(rig, signer, KUBELET_SERVING))
    assert [entry["issued"] for entry in found.values()] == [False, True]


def _refuse(rig: CsrRig, signer: str, rule: dict[str, Any], message: str) -> None:
    name = f"{rule['resources'][0].rpartition('/')[2]}-{rig.name}"
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    expression = {"expression": f"object.spec.signerName != '{signer}'", "message": message}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [expression],
        "failurePolicy": "Fail",
    }
    rig.make(policies, {"metadata": {"name": name}, "spec": spec})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    rig.make(f"{policies[:-3]}ybindings", {"metadata": {"name": name}, "spec": binding})


def _eventually_refused(rig: CsrRig, signer: str, said: str) -> dict[str, Any]:
    """Probe until the admission policy takes effect, some moments after its creation."""
    until = time.monotonic() + 30
    while True:
        entry: dict[str, Any] = by_signer(probe(rig, signer, probe_seconds=0))[signer]
        if said in entry["diagnosis"]["cause"]:
            return entry
        assert time.monotonic() < until, entry
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("act", "code", "certainty"),
    [
        (lambda rig, name: rig.cluster.api("DELETE", f"{CSRS}/{name}"), "deleted", "likely"),
        (lambda rig, name: rig.decide(name, "Denied"), "denied", "proven"),
    ],
)
def test_a_probe_request_that_another_client_deletes_or_denies(
    rig: CsrRig, act: Any, code: str, certainty: str
) -> None:
    """A policy controller denies it before its approval, or a garbage collector deletes it afterwards."""
    real = csr_api.approve_own

    def approve_own(client: Any, csr: Any, *more: Any) -> Any:
        name = csr["metadata"]["name"]
        if code == "denied":
            act(rig, name)
            csr = client.get(f"{CSRS}/{name}")
        approved = real(client, csr, *more)
        if code == "deleted":
            act(rig, name)
        return approved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csr_api, "approve_own", approve_own)
        entry = by_signer(probe(rig, NOBODY))[NOBODY]
    assert (entry["issued"], entry["diagnosis"]["code"], entry["diagnosis"]["certainty"]) == (
        False,
        code,
        certainty,
    )


def test_a_request_that_cannot_be_deleted_is_reported(rig: CsrRig) -> None:
    """The permission was removed meanwhile. The result is a change with a warning, because a request stays."""
    role = {**without(PROBE, "certificatesigningrequests", "delete"), "metadata": {"name": "keeps"}}
    user = User(rig, role)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_review, "find_missing", lambda *_: [])
        result = probe(rig, KUBELET_SERVING, kubeconfig=user.kubeconfig)
    assert by_signer(result)[KUBELET_SERVING]["issued"]
    assert result["changed"]
    [name] = left_over(rig.cluster)
    [warning] = result["warnings"]
    assert f"CSR {name} is left over" in warning
    rig.cluster.api("DELETE", f"{CSRS}/{name}")


def test_an_old_request_of_a_killed_run_is_deleted_by_the_next_run(rig: CsrRig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signer_probe, "_delete_requests", lambda *_: [])
        probe(rig, KUBELET_SERVING)
    [name] = left_over(rig.cluster)
    probe(rig, KUBELET_SERVING)
    assert left_over(rig.cluster) == [name], "it may belong to another run that is still active"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signer_probe, "ABANDONED_AFTER", timedelta(minutes=-1))
        probe(rig, check_mode=True)
        assert left_over(rig.cluster) == [name], "check mode deletes nothing"
        assert probe(rig, KUBELET_SERVING)["changed"] is False
