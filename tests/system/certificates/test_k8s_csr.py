# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr on real control planes: request, approval by the same or another identity, Secret, webhooks, removal."""

from __future__ import annotations

import base64
import datetime
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates.csr_by_hand import signing
from tests.support.certificates.csr_rig import (
    CSRS,
    HOOK_KIND,
    HOOKS,
    KUBELET_SERVING,
    TWO_STEP,
    CsrRig,
    assert_one_line,
    assert_pair,
    since,
)
from tests.support.clusters import AdminClient, pki
from tests.support.clusters.cluster import LEADER
from tests.support.failures import has_failed
from tests.support.rig import WRITES
from tests.support.waiting import NOT_REACHED, now, wait_for
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
OPAQUE = {"type": "Opaque", "certificate_key": "cert.pem", "private_key_key": "key.pem"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture(autouse=True)
def _no_key_in_files(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that no temporary file and no audit log contains a private key."""
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []
    for cluster in fleet.values():
        assert b"PRIVATE KEY" not in cluster.audit_log.read_bytes()


@pytest.fixture
def either(request: pytest.FixtureRequest, rig: CsrRig, eks: CsrRig) -> CsrRig:
    return {"onprem": rig, "eks": eks}[request.param]


both_clusters = pytest.mark.parametrize("either", ["onprem", "eks"], indirect=True)


def names_of(certificate: x509.Certificate) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(extension.get_values_for_type(x509.DNSName))


# A run that approves its own request


@pytest.mark.quick
@both_clusters
def test_the_first_run_writes_and_the_second_one_only_reads(either: CsrRig) -> None:
    rig, targets = either, [either.hook("one"), either.hook("two")]
    first = rig.run(targets=targets)
    assert first["changed"], first
    assert "warnings" not in first
    reason = f"issued a certificate (Secret {rig.name}/hook-tls did not exist)"
    assert (first["pending"], first["reason"]) == (False, reason)
    assert (first["signer"], first["not_after"]) == (rig.signer, first["certificate"]["not_after"])
    assert 300 < first["days_left"] < 366
    assert first["csr"]["condition"] == "Approved,Issued"
    assert first["ca_bundle"] == rig.cluster.ca_pem
    assert [rig.bundle(target) for target in targets] == [rig.cluster.ca_pem] * 2
    assert_pair(rig)
    assert names_of(rig.certificate()) == set(first["certificate"]["names"])
    assert f"hook.{rig.name}.svc" in names_of(rig.certificate())
    assert [entry for entry in rig.asked() if entry[0] in WRITES] == [
        ("create", "leases"),
        ("create", "certificatesigningrequests"),
        ("update", "certificatesigningrequests/approval"),
        ("patch", "validatingwebhookconfigurations"),
        ("patch", "validatingwebhookconfigurations"),
        ("create", "secrets"),
        ("delete", "leases"),
    ], "the bundle first, then the Secret, under one Lease"

    start = since(rig)
    second = rig.run(targets=targets)
    assert (second["changed"], second["reason"]) == (False, "the certificate is kept")
    assert second["certificate"] == first["certificate"]
    assert second["ca_bundle"] == first["ca_bundle"]
    assert [verb for verb, _ in rig.asked(start)] == ["get"] * 3, "two with one target, one for each more"


def test_check_mode_on_a_first_run_writes_nothing(rig: CsrRig) -> None:
    assert rig.run(targets=[rig.hook()], check_mode=True)["changed"]
    assert {verb for verb, _ in rig.asked()} == {"get", "list", "review", "dry"}


def test_check_mode_reports_the_changes_of_a_changed_task(rig: CsrRig) -> None:
    rig.run()
    before, target = rig.secret(), rig.hook()
    kept = rig.run(targets=[target], secret={"labels": {"tier": "edge"}}, check_mode=True)
    assert kept["changed"]
    assert "To be brought up to date" in kept["reason"]
    renewed = rig.run(key_type="rsa-2048", check_mode=True)
    assert (renewed["changed"], renewed["pending"]) == (True, True)
    assert "rsa-2048" in renewed["reason"]
    assert rig.secret() == before
    assert rig.bundle(target) == ""


def test_a_kept_certificate_reaches_a_new_target_and_new_labels(rig: CsrRig) -> None:
    rig.run()
    leaf, target = rig.certificate(), rig.hook()
    wanted: dict[str, Any] = {
        "targets": [target],
        "secret": {"labels": {"tier": "edge"}, "annotations": {"a/b": "c"}},
    }
    result = rig.run(**wanted)
    assert result["changed"]
    assert rig.certificate() == leaf
    assert rig.bundle(target) == rig.cluster.ca_pem
    secret = rig.secret()
    assert secret is not None
    assert secret["metadata"]["labels"]["tier"] == "edge"
    assert secret["metadata"]["annotations"]["a/b"] == "c"
    assert rig.run(**wanted)["changed"] is False


@pytest.mark.parametrize("key_type", private_keys.KEY_TYPES)
def test_every_key_type(rig: CsrRig, key_type: str) -> None:
    assert rig.run(key_type=key_type)["changed"]
    assert_pair(rig)
    assert private_keys.type_of(private_keys.load(rig.data()["tls.key"])) == key_type
    assert rig.run(key_type=key_type)["changed"] is False


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (OPAQUE, {"cert.pem", "key.pem"}),
        ({**OPAQUE, "ca_key": "ca.pem"}, {"cert.pem", "key.pem", "ca.pem"}),
        ({"ca_key": "ca.crt", "labels": {"tier": "edge"}}, {"tls.crt", "tls.key", "ca.crt"}),
    ],
)
def test_a_secret_has_the_type_and_keys_of_its_workload(
    rig: CsrRig, form: dict[str, Any], keys: set[str]
) -> None:
    assert rig.run(secret=form)["changed"]
    assert set(rig.data()) == keys
    secret = rig.secret()
    assert secret is not None
    assert secret["type"] == form.get("type", "kubernetes.io/tls")
    assert form.get("labels", {}).items() <= secret["metadata"]["labels"].items()
    assert_pair(
        rig, certificate=form.get("certificate_key", "tls.crt"), key=form.get("private_key_key", "tls.key")
    )
    if "ca_key" in form:
        assert rig.data()[form["ca_key"]] == rig.cluster.ca_pem
    assert rig.run(secret=form)["changed"] is False


def test_additional_names(rig: CsrRig) -> None:
    more: dict[str, Any] = {"names": ["hook.example.com", "10.1.2.3", "fd00:0::1"]}
    allow = more["names"]
    result = rig.run(**more, allow_names=allow)
    assert {"hook.example.com", "10.1.2.3", "fd00::1"} < set(result["certificate"]["names"])
    assert rig.run(**more, allow_names=allow)["changed"] is False


def test_names_of_the_cluster_need_allow_names_and_give_a_warning(rig: CsrRig) -> None:
    options: dict[str, Any] = {"names": ["10.96.0.1", "kubernetes.default.svc"]}
    names = ["10.96.0.1", "kubernetes.default.svc"]
    result = rig.run(**options, allow_names=names)
    assert result["changed"], result
    assert any("service network" in text for text in result["warnings"])
    assert any("API server's name" in text for text in result["warnings"])


def test_a_service_with_the_name_of_a_node_is_refused(rig: CsrRig) -> None:
    rig.make("/api/v1/nodes", {"metadata": {"name": f"node-{rig.name}"}})
    rig.refused("invalid-request", f"'node-{rig.name}'", "allow_names:", service=f"node-{rig.name}")
    assert rig.run(service=f"node-{rig.name}", allow_names=[f"node-{rig.name}"])["changed"]


def test_a_client_certificate_logs_in(rig: CsrRig, tmp_path: Path) -> None:
    spelled_out: dict[str, Any] = {
        "service": None,
        "signer_name": CLIENT,
        "common_name": f"jane-{rig.name}",
        "organizations": ["developers"],
        "allow_client_identity": True,
    }
    assert rig.run(**spelled_out)["changed"]
    assert rig.run(**spelled_out)["changed"] is False
    for name, text in (*rig.data().items(), ("ca.crt", rig.cluster.ca_pem)):
        (tmp_path / name).write_text(text)
    client = AdminClient(rig.cluster.url, tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    who = client.api("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert who["status"]["userInfo"]["username"] == f"jane-{rig.name}"
    assert "developers" in who["status"]["userInfo"]["groups"]
    other = rig.run(**{**spelled_out, "organizations": ["admins"]})
    assert "its certificate is for CN=jane" in other["reason"]


@both_clusters
def test_a_client_certificate_of_a_kubelet(either: CsrRig) -> None:
    node = f"system:node:{either.name}"
    result = either.run(
        service=None,
        signer_name=KUBELET_CLIENT,
        common_name=node,
        organizations=["system:nodes"],
        allow_client_identity=True,
    )
    assert result["changed"], result
    subject = either.certificate().subject
    assert [subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value] == [node]


# Existing Secrets


def rsa_pair_of_script(rig: CsrRig) -> dict[str, str]:
    """Create the Secret of create-cert.sh: an RSA key and a kubelet-serving certificate, with kubectl's annotation and no labels."""
    rig.run(secret={"name": "made"}, key_type="rsa-2048")
    pair = rig.data("made")
    rig.run(state="absent", secret={"name": "made"})
    rig.put_secret(pair, annotations={LAST_APPLIED: '{"data":{"tls.key":"b2xk"}}', "note": "kept"})
    return pair


def test_a_secret_of_the_script_is_adopted_as_it_is(rig: CsrRig) -> None:
    pair, target = rsa_pair_of_script(rig), rig.hook()
    first = rig.run(targets=[target])
    assert first["changed"], "the target lacked the anchor"
    for _run in range(2):
        assert rig.run(targets=[target])["changed"] is False
    assert rig.data() == pair
    assert has_failed(rig.run(state="absent", targets=[target]), "still-needed")
    accept = [
        {"unseen": [f"{target['kind']}/{target['name']}"]}
    ]  # the Secret stays, and its Service may come
    taken_back = rig.run(state="absent", targets=[target], accept=accept)
    assert taken_back["changed"], "the anchor was added here"
    assert "did not create it" in taken_back["warnings"][0]
    assert (rig.data(), rig.bundle(target)) == (pair, "")
    assert rig.run(state="absent", targets=[target])["changed"] is False

    time.sleep(1.1)  # a certificate of the same second would not last longer
    renewed = rig.run(renew_before="400d", targets=[target])
    assert "expires at" in renewed["reason"]
    assert "every run renews it" in renewed["warnings"][0]
    assert rig.data() != pair
    assert_pair(rig)
    secret = rig.secret()
    assert secret is not None
    assert LAST_APPLIED not in secret["metadata"]["annotations"], "it holds the old key"
    assert secret["metadata"]["annotations"]["note"] == "kept"
    pair = rig.data()
    assert rig.run(state="absent", targets=[target], accept=accept)["changed"]
    assert (rig.data(), rig.bundle(target)) == (pair, ""), "another client created the Secret"


def test_a_short_certificate_is_renewed_only_when_it_is_due(rig: CsrRig) -> None:
    hour: dict[str, Any] = {"expiration_seconds": 3600}
    assert rig.run(**hour)["changed"]
    assert rig.run(**hour)["changed"] is False, "a third of its life, not 30 days"
    first = rig.certificate()
    time.sleep(1.1)
    result = rig.run(**hour, renew_before="59m")
    assert result["changed"] is False
    result = rig.run(**hour, renew_before="61m")
    assert "renewed 3660 seconds before" in result["reason"]
    assert rig.certificate().not_valid_after_utc > first.not_valid_after_utc


def test_a_key_that_does_not_fit_its_certificate_is_replaced(rig: CsrRig) -> None:
    rig.run()
    other = private_keys.to_pem(private_keys.generate("ecdsa-p256")).encode()
    path = {"op": "replace", "path": "/data/tls.key", "value": base64.b64encode(other).decode()}
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", [path], "application/json-patch+json")
    assert "does not belong to its certificate" in rig.run()["reason"]
    assert_pair(rig)


def test_a_broken_secret_is_repaired(rig: CsrRig) -> None:
    rig.put_secret({"tls.crt": "damaged", "tls.key": "damaged"})
    assert "no certificate found" in rig.run()["reason"]
    assert_pair(rig)


def test_a_new_name_causes_a_new_certificate(rig: CsrRig) -> None:
    rig.run()
    longer = f"hook.{rig.name}.svc.cluster.local"
    result = rig.run(names=[longer])
    assert longer in result["reason"]
    assert longer in names_of(rig.certificate())


def test_a_secret_of_another_client_is_written_only_if_accepted(rig: CsrRig) -> None:
    rig.run(service="other", secret={"name": "theirs"})
    theirs = {**rig.data("theirs"), "ca.crt": "x"}
    rig.put_secret(theirs)
    start = since(rig)
    result = rig.run()
    assert_one_line(result, "secret-unusable", "hook-tls", f"other.{rig.name}.svc", "accept:")
    assert not [entry for entry in rig.asked(start) if entry[0] in WRITES]
    assert rig.data() == theirs
    assert rig.run(accept=["foreign-secret"])["changed"]
    assert_pair(rig)
    assert rig.data()["ca.crt"] == "x", "only ca_key says that it is ours"
    assert rig.run()["changed"] is False


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ({"kind": "Opaque"}, ("Opaque", "secret.name")),
        ({"immutable": True}, ("immutable", "secret.name")),
        ({"annotations": {"cert-manager.io/certificate-name": "x"}}, ("cert-manager", "accept:")),
        (
            {"annotations": {"reconcile.external-secrets.io/data-hash": "x"}},
            ("external-secrets", "accept:"),
        ),
        ({"more": "x"}, ("password", "accept:")),
    ],
)
def test_unusable_secrets_are_not_written(rig: CsrRig, there: dict[str, Any], names: tuple[str, ...]) -> None:
    data = {"tls.crt": "x", "tls.key": "x", **({"password": there.pop("more")} if "more" in there else {})}
    rig.put_secret(data, **there)
    rig.refused("secret-unusable", f"{rig.name}/hook-tls", *names)
    assert rig.data() == data


def test_other_data_in_the_secret_survives_a_renewal(rig: CsrRig) -> None:
    rig.run()
    extra = [{"op": "add", "path": "/data/extra", "value": base64.b64encode(b"theirs").decode()}]
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", extra, "application/json-patch+json")
    assert rig.run(key_type="ecdsa-p384")["changed"]
    assert rig.data()["extra"] == "theirs"


# Request with one run, complete with a later run


def pending_of(rig: CsrRig) -> dict[str, Any]:
    secret = rig.secret("hook-tls-pending")
    assert secret is not None
    return secret


@both_clusters
def test_another_identity_approves_and_the_next_run_completes_the_request_with_the_same_key(
    either: CsrRig,
) -> None:
    rig, target = either, either.hook()
    first = rig.run(**TWO_STEP, targets=[target])
    name = first["csr"]["name"]
    assert (first["changed"], first["pending"], first["csr"]["condition"]) == (True, True, "Pending")
    assert f"kubectl certificate approve {name}" in first["reason"]
    kept = pending_of(rig)
    assert kept["immutable"]
    assert kept["metadata"]["ownerReferences"][0]["name"] == name
    key = rig.data("hook-tls-pending")["tls.key"]
    assert (rig.secret(), rig.bundle(target)) == (None, "")

    for check_mode in (True, False):
        again = rig.run(**TWO_STEP, targets=[target], check_mode=check_mode)
        assert (again["changed"], again["pending"], again["csr"]["name"]) == (False, True, name)

    rig.decide(name)
    done = rig.run(approve=False, targets=[target])
    assert (done["changed"], done["pending"], done["csr"]["name"]) == (True, False, name)
    assert rig.data()["tls.key"] == key
    assert_pair(rig)
    assert rig.bundle(target) == rig.cluster.ca_pem
    assert rig.secret("hook-tls-pending") is None
    assert rig.run(**TWO_STEP, targets=[target])["changed"] is False


def test_while_a_renewal_waits_the_result_has_the_certificate_in_use(rig: CsrRig) -> None:
    hour: dict[str, Any] = {"expiration_seconds": 3600}
    first, target = rig.run(**hour), rig.hook()
    due: dict[str, Any] = {**hour, **TWO_STEP, "renew_before": "61m", "targets": [target]}
    planned = rig.run(**due, check_mode=True)
    asked = rig.run(**due)
    again = rig.run(**due)
    assert [result["changed"] for result in (planned, asked, again)] == [True, True, False]
    for result in (planned, asked, again):
        assert result["pending"], result
        assert result["certificate"] == first["certificate"]
        assert result["ca_bundle"] == rig.cluster.ca_pem
    assert rig.bundle(target) == rig.cluster.ca_pem, "the new target trusts what is in use"
    time.sleep(1.1)
    rig.decide(asked["csr"]["name"])
    done = rig.run(**due)
    assert (done["changed"], done["pending"]) == (True, False)
    assert done["certificate"]["serial"] != first["certificate"]["serial"]


def test_a_run_waits_for_the_approver(rig: CsrRig) -> None:
    def approver() -> None:
        until = time.monotonic() + 20
        while not rig.csrs() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        rig.decide(rig.csrs()[0]["metadata"]["name"])

    thread = threading.Thread(target=approver)
    thread.start()
    try:
        result = rig.run(approve=False, wait_timeout=30)
    finally:
        thread.join()
    assert result["changed"], result
    assert_pair(rig)


def test_a_request_that_is_never_approved_stays_with_its_key(rig: CsrRig) -> None:
    """After the wait the request and its key stay. A run that approves removes both and makes its own request."""
    result = rig.run(approve=False, wait_timeout=2)
    assert_one_line(result, "not-issued")
    assert result["diagnosis"]["code"] == "never-approved"
    waiting, key = rig.csrs()[0], rig.data("hook-tls-pending")["tls.key"]
    approving = rig.run()
    assert approving["changed"]
    [warning] = approving["warnings"]
    assert f"{rig.name}/hook" in warning, "its Service does not exist"
    assert rig.data()["tls.key"] != key, "a run that approves goes on with no earlier request"
    assert [csr["metadata"]["name"] for csr in rig.csrs()] == [approving["csr"]["name"]]
    assert waiting["metadata"]["name"] != approving["csr"]["name"]
    assert rig.secret("hook-tls-pending") is None


def test_a_deleted_waiting_request_is_replaced(rig: CsrRig) -> None:
    first = rig.run(**TWO_STEP)["csr"]
    rig.cluster.api("DELETE", f"{CSRS}/{first['name']}")
    second = rig.run(**TWO_STEP)
    assert second["changed"]
    assert second["csr"]["name"] != first["name"]
    assert pending_of(rig)["metadata"]["ownerReferences"][0]["uid"] == second["csr"]["uid"]


def test_the_key_is_collected_with_its_request(rig: CsrRig) -> None:
    name = rig.run(**TWO_STEP)["csr"]["name"]
    rig.cluster.api("DELETE", f"{CSRS}/{name}")
    wait_for(lambda: rig.secret("hook-tls-pending") is None)


def test_a_changed_task_replaces_a_waiting_request(rig: CsrRig) -> None:
    first = rig.run(**TWO_STEP)["csr"]
    second = rig.run(**TWO_STEP, names=[f"hook.{rig.name}.svc.cluster.local"])
    assert second["changed"]
    assert [csr["metadata"]["name"] for csr in rig.csrs()] == [second["csr"]["name"]] != [first["name"]]
    assert pending_of(rig)["metadata"]["ownerReferences"][0]["name"] == second["csr"]["name"]


def test_a_denial_is_reported_once_and_the_next_run_sends_a_new_request(rig: CsrRig) -> None:
    name = rig.run(**TWO_STEP)["csr"]["name"]
    rig.decide(name, "Denied")
    result = rig.run(**TWO_STEP)
    assert_one_line(result, "not-issued", name)
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == ("denied", "proven")
    assert rig.secret("hook-tls-pending") is None
    again = rig.run(**TWO_STEP)
    assert again["pending"]
    assert again["csr"]["name"] != name


def meanwhile(rig: CsrRig, act: Callable[[str], object], **options: Any) -> dict[str, Any]:
    """Start a run that waits, and change its request meanwhile."""

    def other() -> None:
        wait_for(lambda: bool(rig.csrs()))
        act(rig.csrs()[0]["metadata"]["name"])

    thread = threading.Thread(target=other)
    thread.start()
    started = time.monotonic()
    result = rig.run(approve=False, wait_timeout=NOT_REACHED, **options)
    thread.join()
    assert time.monotonic() - started < NOT_REACHED
    return result


def test_a_policy_controller_that_denies_ends_the_wait_at_once(rig: CsrRig) -> None:
    """With the message of kubelet-csr-approver, which denies every request that is not a node's (postfinance/kubelet-csr-approver#61)."""
    words = {
        "manager": "kubelet-csr-approver",
        "reason": "kubelet-serving cert denied",
        "message": "CSR not complying with kubelet-csr-approver validation process. Reason: not a node",
    }
    result = meanwhile(rig, lambda name: rig.decide(name, "Denied", **words))
    assert_one_line(result, "not-issued", "kubelet-serving", "--ignore-non-system-node")
    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["certainty"]) == ("denied", "proven")
    assert "by the client kubelet-csr-approver " in diagnosis["evidence"][0]
    assert any("audit log" in text for text in diagnosis["evidence"])


def test_a_deleted_request_ends_the_wait_at_once(rig: CsrRig) -> None:
    result = meanwhile(rig, lambda name: rig.cluster.api("DELETE", f"{CSRS}/{name}"))
    assert_one_line(result, "not-issued")
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == ("deleted", "likely")
    gone = rig.info(name=result["csr"]["name"])["csrs"][0]
    assert (gone["condition"], gone["diagnosis"]["code"]) == ("NotFound", "collected")
    assert rig.run()["changed"]


# Signers that do not issue


def test_the_diagnosis_of_an_unknown_signer_has_no_false_certainty(rig: CsrRig) -> None:
    result = rig.run(signer_name="example.com/nobody", common_name="x", wait_timeout=5)
    assert result["diagnosis"]["certainty"] == "one of"
    assert_one_line(result, "not-issued", "example.com/nobody")


def test_a_stopped_controller_manager_is_reported_as_soon_as_its_lease_proves_it(rig: CsrRig) -> None:
    rig.cluster.stop("kube-controller-manager")
    started = time.monotonic()
    try:
        result = rig.run(wait_timeout=NOT_REACHED)
    finally:
        rig.cluster.start("kube-controller-manager")
        wait_for(lambda: leads(rig.cluster), seconds=60)
    assert_one_line(result, "not-issued", "kube-controller-manager")
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == (
        "controller-manager-stopped",
        "proven",
    )
    assert time.monotonic() - started < NOT_REACHED
    assert rig.run(wait_timeout=60)["changed"]
    assert_pair(rig)


def leads(cluster: Cluster) -> bool:
    """Return True if a controller-manager has renewed its Lease within the last seconds."""
    renewed = cluster.api("GET", LEADER)["spec"]["renewTime"].replace("Z", "+00:00")
    return now() - datetime.datetime.fromisoformat(renewed) < datetime.timedelta(seconds=4)


def test_an_unknown_ca_is_trusted_only_with_trust_chain(rig: CsrRig) -> None:
    """The chain of the certificate counts only with trust: chain. A later run finds the anchor that it added."""
    ca, target = pki.make_ca("its own"), rig.hook()
    pem, signer = ca.certificate_pem.decode(), f"example.com/{rig.name}"
    options: dict[str, Any] = {"signer_name": signer, "common_name": "x", "targets": [target]}
    with signing(rig.cluster, signer, ca, chain=pem):
        refused = rig.run(**options)
        assert_one_line(refused, "no-trust-anchor", "CN=its", "ca_bundle")
        assert len(refused["evidence"]) >= 3
        assert (rig.secret(), rig.bundle(target)) == (None, "")
        assert rig.run(**options, trust="chain")["changed"]
        assert rig.bundle(target) == pem
        assert rig.data()["tls.crt"].endswith(pem)
        start = since(rig)
        assert rig.run(**options, trust="chain")["changed"] is False
        assert len(rig.asked(start)) == 2, "the anchor that was added is found in the target"
        given = rig.run(**options, ca_bundle=rig.cluster.ca_pem + pem, secret={"name": "given"})
        assert given["ca_bundle"] == pem
        leaf = rig.run(**options, trust="leaf", secret={"name": "leaf"})
        assert leaf["ca_bundle"] == rig.data("leaf")["tls.crt"][: len(leaf["ca_bundle"])]


# Other writers


def test_a_target_of_another_manager_is_refused_before_the_request(rig: CsrRig) -> None:
    owned = rig.hook(annotations={"cert-manager.io/inject-ca-from": "a/b"})
    rig.refused("owned-by-another", owned["name"], "cert-manager", "accept:", targets=[owned])
    assert rig.csrs() == []
    theirs = pki.make_ca("theirs").certificate_pem.decode()
    rig.set_bundle(owned, theirs)
    assert rig.run(targets=[owned], accept=["cert-manager"])["changed"]
    assert rig.bundle(owned) == theirs + rig.cluster.ca_pem
    assert has_failed(rig.run(targets=[owned], state="absent"), "owned-by-another", "accept:")
    assert rig.run(targets=[owned], state="absent", accept=["cert-manager"])["changed"]
    assert rig.bundle(owned) == theirs, "what we added goes, what cert-manager wrote stays"


def test_concurrent_runs_end_with_one_certificate(rig: CsrRig) -> None:
    target = rig.hook()
    with ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(lambda _number: rig.run(targets=[target]), range(3)))
    assert [result.get("msg") for result in results] == [None] * 3
    assert_pair(rig)
    stored = f"{rig.certificate().serial_number:x}".removeprefix("0")
    assert {result["certificate"]["serial"].lstrip("0") for result in results} >= {stored}
    assert rig.run(targets=[target])["changed"] is False
    assert rig.run(state="absent", targets=[target])["changed"]
    assert rig.bundle(target) == "", "the run that added the anchor recorded it"


def test_concurrent_runs_share_one_pending_request(rig: CsrRig) -> None:
    with ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(lambda _number: rig.run(**TWO_STEP), range(3)))
    assert [result.get("msg") for result in results] == [None] * 3
    assert len({result["csr"]["name"] for result in results}) == 1
    assert len(rig.csrs()) == 1


def test_a_webhook_with_a_url(rig: CsrRig) -> None:
    url = "https://hooks.example.com/x"
    hook = called_objects.webhook("hook.certflow.test", {"url": url})
    rig.make(HOOKS, called_objects.configuration(f"url-{rig.name}", hook))
    options: dict[str, Any] = {
        "service": None,
        "common_name": "system:node:x",
        "names": ["other.example.com"],
        "allow_names": ["other.example.com", "hooks.example.com"],
        "targets": [{"kind": HOOK_KIND, "name": f"url-{rig.name}"}],
    }
    rig.refused("invalid-request", "hooks.example.com", "names", **options)
    assert rig.run(**{**options, "names": ["hooks.example.com"]})["changed"]


# Removal


def test_state_absent_removes_only_objects_of_this_collection(rig: CsrRig) -> None:
    added, had = rig.hook("added"), rig.hook("had")
    foreign = pki.make_ca("foreign").certificate_pem.decode()
    rig.set_bundle(had, foreign + rig.cluster.ca_pem)
    rig.run(service="other", secret={"name": "other-tls"})
    targets = [added, had]
    rig.run(targets=targets)
    rig.run(**TWO_STEP, secret={"name": "waiting"})
    before = rig.data("other-tls")

    planned = rig.run(state="absent", targets=targets, check_mode=True)
    assert planned["changed"]
    assert rig.secret() is not None
    gone = rig.run(state="absent", targets=targets)
    reason = f"removed: the CA certificates in {HOOK_KIND} {added['name']}, Secret {rig.name}/hook-tls"
    assert (gone["changed"], gone["reason"]) == (True, reason)
    assert (gone["signer"], gone["not_after"]) == (rig.signer, None)
    assert rig.secret() is None
    assert (rig.bundle(added), rig.bundle(had)) == ("", foreign + rig.cluster.ca_pem)
    assert rig.data("other-tls") == before
    assert rig.secret("waiting-pending") is not None, "it belongs to another Secret"
    assert rig.run(state="absent", targets=targets)["changed"] is False

    assert rig.run(state="absent", secret={"name": "waiting"})["changed"]
    assert rig.secret("waiting-pending") is None
    assert not [csr for csr in rig.csrs() if not csr["status"].get("certificate")]
    assert rig.run(state="absent", secret={"name": "waiting"})["changed"] is False


def test_the_ca_that_another_secret_of_the_service_needs_stays(rig: CsrRig) -> None:
    """A Secret of the wrong type is replaced by another Secret, and then removed."""
    target = rig.hook()
    rig.run(targets=[target])
    rig.run(targets=[target], secret={**OPAQUE, "name": "hook-opaque"})
    result = rig.run(state="absent", targets=[target])
    assert (result["changed"], rig.secret()) == (True, None)
    assert "Secret hook-opaque" in result["warnings"][0]
    assert rig.bundle(target) == rig.cluster.ca_pem


def test_a_secret_with_other_data_is_not_deleted(rig: CsrRig) -> None:
    target = rig.hook()
    rig.run(targets=[target])
    extra = [{"op": "add", "path": "/data/extra", "value": base64.b64encode(b"theirs").decode()}]
    rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", extra, "application/json-patch+json")
    accept = [{"unseen": [f"{target['kind']}/{target['name']}"]}]
    result = rig.run(state="absent", targets=[target], accept=accept)
    assert "also holds extra" in result["warnings"][0]
    assert (rig.data()["extra"], rig.bundle(target)) == ("theirs", "")
    assert rig.run(state="absent", targets=[target])["changed"] is False


def test_an_adopted_secret_is_not_deleted(rig: CsrRig) -> None:
    rig.put_secret({"tls.crt": "x", "tls.key": "y"})
    result = rig.run(state="absent")
    assert result["changed"] is False
    assert "is kept" in result["warnings"][0]
    rig.run(service="other", secret={"name": "other-tls"})
    result = rig.run(state="absent", secret={"name": "other-tls"})
    assert (result["changed"], f"made for Service {rig.name}/other" in result["warnings"][0]) == (
        False,
        True,
    )
    assert rig.secret("other-tls") is not None


# Targets that the module finds


def test_discovered_targets(rig: CsrRig) -> None:
    """The API server records the field manager, by which a later run knows its own caBundle."""
    empty, foreign = rig.hook("empty"), rig.hook("foreign")
    rig.set_bundle(foreign, pki.make_ca("foreign").certificate_pem.decode())
    issued = rig.run(discover_targets=True)
    assert [target["name"] for target in issued["targets"]] == [empty["name"]]
    assert [target["name"] for target in issued["skipped_targets"]] == [foreign["name"]]
    assert rig.bundle(empty) == rig.cluster.ca_pem
    assert foreign["name"] in issued["warnings"][0]

    again, start = rig.run(discover_targets=True), since(rig)
    assert (again["changed"], again["skipped_targets"]) == (False, issued["skipped_targets"])
    later = rig.run()
    assert (later["changed"], [verb for verb, _ in rig.asked(start)]) == (False, ["get", "get"])

    added = rig.hook("added")
    assert rig.run(discover_targets=True, check_mode=True)["changed"]
    assert rig.run(discover_targets=True)["changed"]
    assert rig.bundle(added) == rig.cluster.ca_pem
    gone = rig.run(state="absent")
    assert (gone["changed"], rig.bundle(empty), rig.bundle(added)) == (True, "", "")


def test_a_certificate_without_targets_gives_a_warning(rig: CsrRig) -> None:
    target = rig.hook()
    for check_mode in (True, False):
        texts = rig.run(check_mode=check_mode)["warnings"]
        assert [
            text for text in texts if f"targets: [{{kind: {HOOK_KIND}, name: '{target['name']}'}}]" in text
        ]
    assert "warnings" not in rig.run()


def test_a_row_of_the_table_does_not_change_the_signer_of_a_valid_certificate(rig: CsrRig) -> None:
    """Only the word of the user does, or the renewal."""
    ca, signer = pki.make_ca("own"), f"example.com/{rig.name}"
    trusted: dict[str, Any] = {"ca_bundle": ca.certificate_pem.decode() + rig.cluster.ca_pem}
    with signing(rig.cluster, signer, ca):
        first = rig.run(signer_name=signer, **trusted)
    kept = rig.run(signer_name=None, **trusted)
    assert (kept["changed"], kept["signer"]) == (False, signer)
    assert kept["certificate"]["serial"] == first["certificate"]["serial"]
    assert rig.run(signer_name=None, provider="kubeadm", **trusted)["signer"] == KUBELET_SERVING
