# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr on real control planes: from request to Secret and webhooks, by one person or two, and back."""

from __future__ import annotations

import base64
import contextlib
import datetime
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from tests.support.clusters import APP_SERVING, Client, audit, pki
from tests.support.csr_by_hand import signing
from tests.support.csr_site import CSRS, HOOK_KIND, HOOKS, WRITES, Site, assert_one_line, now
from tests.support.failures import has_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
OPAQUE = {"type": "Opaque", "certificate_key": "cert.pem", "private_key_key": "key.pem"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TWO_STEP = {"approve": False, "wait": False}


@pytest.fixture(autouse=True)
def _no_key_in_files(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A private key is in no temporary file, and in no line of an audit log."""
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []
    for cluster in fleet.values():
        assert b"PRIVATE KEY" not in cluster.audit_log.read_bytes()


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    with contextlib.closing(Site(fleet["onprem"])) as site:
        yield site


@pytest.fixture
def eks(fleet: Fleet) -> Iterator[Site]:
    with contextlib.closing(Site(fleet["eks"], APP_SERVING)) as site:
        yield site


@pytest.fixture
def either(request: pytest.FixtureRequest, site: Site, eks: Site) -> Site:
    return {"onprem": site, "eks": eks}[request.param]


both_clusters = pytest.mark.parametrize("either", ["onprem", "eks"], indirect=True)


def assert_pair(
    site: Site, name: str = "hook-tls", *, certificate: str = "tls.crt", key: str = "tls.key"
) -> None:
    """Key and certificate of the Secret belong together, and its cluster's CA vouches for them."""
    data = site.data(name)
    leaf = x509.load_pem_x509_certificate(data[certificate].encode())
    private = serialization.load_pem_private_key(data[key].encode(), None)
    assert leaf.public_key() == private.public_key()
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(site.cluster.ca_pem.encode()))


def names_of(certificate: x509.Certificate) -> set[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(extension.get_values_for_type(x509.DNSName))


def since(site: Site) -> datetime.datetime:
    """The moment after the last request of the site's user."""
    return audit.received(site.cluster.requests(user=site.user)[-1]) + datetime.timedelta(microseconds=1)


# One person, one run


@pytest.mark.quick
@both_clusters
def test_a_first_run_and_a_second_that_only_reads(either: Site) -> None:
    site, targets = either, [either.hook("one"), either.hook("two")]
    first = site.run(targets=targets)
    assert first["changed"], first
    assert "warnings" not in first
    assert (first["pending"], first["reason"]) == (False, f"Secret {site.name}/hook-tls does not exist")
    assert first["csr"]["condition"] == "Approved,Issued"
    assert first["ca_bundle"] == site.cluster.ca_pem
    assert [site.bundle(target) for target in targets] == [site.cluster.ca_pem] * 2
    assert_pair(site)
    assert names_of(site.certificate()) == set(first["certificate"]["names"])
    assert f"hook.{site.name}.svc" in names_of(site.certificate())
    assert [entry for entry in site.asked() if entry[0] in WRITES] == [
        ("create", "leases"),
        ("create", "certificatesigningrequests"),
        ("update", "certificatesigningrequests/approval"),
        ("patch", "validatingwebhookconfigurations"),
        ("patch", "validatingwebhookconfigurations"),
        ("create", "secrets"),
        ("delete", "leases"),
    ], "the bundle first, the Secret second, and nobody else's run between"

    start = since(site)
    second = site.run(targets=targets)
    assert (second["changed"], second["reason"]) == (False, "the certificate is kept")
    assert second["certificate"] == first["certificate"]
    assert second["ca_bundle"] == first["ca_bundle"]
    assert [verb for verb, _ in site.asked(start)] == ["get"] * 3, "two with one target, one for each more"


def test_check_mode_on_a_first_run_writes_nothing(site: Site) -> None:
    assert site.run(targets=[site.hook()], check_mode=True)["changed"]
    assert {verb for verb, _ in site.asked()} == {"get", "review", "dry"}


def test_check_mode_says_what_a_changed_task_would_do(site: Site) -> None:
    site.run()
    before, target = site.secret(), site.hook()
    kept = site.run(targets=[target], secret={"labels": {"tier": "edge"}}, check_mode=True)
    assert kept["changed"]
    assert "brought up to date" in kept["reason"]
    renewed = site.run(key_type="rsa-2048", check_mode=True)
    assert (renewed["changed"], renewed["pending"]) == (True, True)
    assert "rsa-2048" in renewed["reason"]
    assert site.secret() == before
    assert site.bundle(target) == ""


def test_a_kept_certificate_reaches_a_new_target_and_new_labels(site: Site) -> None:
    site.run()
    leaf, target = site.certificate(), site.hook()
    wanted: dict[str, Any] = {
        "targets": [target],
        "secret": {"labels": {"tier": "edge"}, "annotations": {"a/b": "c"}},
    }
    result = site.run(**wanted)
    assert result["changed"]
    assert site.certificate() == leaf
    assert site.bundle(target) == site.cluster.ca_pem
    secret = site.secret()
    assert secret is not None
    assert secret["metadata"]["labels"]["tier"] == "edge"
    assert secret["metadata"]["annotations"]["a/b"] == "c"
    assert site.run(**wanted)["changed"] is False


@pytest.mark.parametrize("key_type", private_keys.KEY_TYPES)
def test_every_kind_of_key(site: Site, key_type: str) -> None:
    assert site.run(key_type=key_type)["changed"]
    assert_pair(site)
    assert private_keys.type_of(private_keys.load(site.data()["tls.key"])) == key_type
    assert site.run(key_type=key_type)["changed"] is False


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (OPAQUE, {"cert.pem", "key.pem"}),
        ({**OPAQUE, "ca_key": "ca.pem"}, {"cert.pem", "key.pem", "ca.pem"}),
        ({"ca_key": "ca.crt", "labels": {"tier": "edge"}}, {"tls.crt", "tls.key", "ca.crt"}),
    ],
)
def test_secrets_as_the_workload_needs_them(site: Site, form: dict[str, Any], keys: set[str]) -> None:
    assert site.run(secret=form)["changed"]
    assert set(site.data()) == keys
    secret = site.secret()
    assert secret is not None
    assert secret["type"] == form.get("type", "kubernetes.io/tls")
    assert form.get("labels", {}).items() <= secret["metadata"]["labels"].items()
    assert_pair(
        site, certificate=form.get("certificate_key", "tls.crt"), key=form.get("private_key_key", "tls.key")
    )
    if "ca_key" in form:
        assert site.data()[form["ca_key"]] == site.cluster.ca_pem
    assert site.run(secret=form)["changed"] is False


def test_more_names(site: Site) -> None:
    more: dict[str, Any] = {"dns_names": ["hook.example.com"], "ip_addresses": ["10.1.2.3", "fd00:0::1"]}
    allow = [*more["dns_names"], *more["ip_addresses"]]
    result = site.run(**more, allow_names=allow)
    assert {"hook.example.com", "10.1.2.3", "fd00::1"} < set(result["certificate"]["names"])
    assert site.run(**more, allow_names=allow)["changed"] is False


def test_the_clusters_own_names_only_where_they_are_spelled_out_and_with_a_warning(site: Site) -> None:
    options: dict[str, Any] = {"ip_addresses": ["10.96.0.1"], "dns_names": ["kubernetes.default.svc"]}
    names = ["10.96.0.1", "kubernetes.default.svc"]
    result = site.run(**options, allow_names=names)
    assert result["changed"], result
    assert any("service network" in text for text in result["warnings"])
    assert any("API server's name" in text for text in result["warnings"])


def test_a_service_that_is_called_like_a_node(site: Site) -> None:
    site.make("/api/v1/nodes", {"metadata": {"name": f"node-{site.name}"}})
    site.refused("invalid-request", f"'node-{site.name}'", "allow_names:", service=f"node-{site.name}")
    assert site.run(service=f"node-{site.name}", allow_names=[f"node-{site.name}"])["changed"]


def test_a_client_certificate_logs_in(site: Site, tmp_path: Path) -> None:
    spelled_out: dict[str, Any] = {
        "service": None,
        "signer_name": CLIENT,
        "common_name": f"jane-{site.name}",
        "organizations": ["developers"],
        "allow_client_identity": True,
    }
    assert site.run(**spelled_out)["changed"]
    assert site.run(**spelled_out)["changed"] is False
    for name, text in (*site.data().items(), ("ca.crt", site.cluster.ca_pem)):
        (tmp_path / name).write_text(text)
    client = Client(site.cluster.url, tmp_path / "ca.crt", tmp_path / "tls.crt", tmp_path / "tls.key")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    who = client.api("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    assert who["status"]["userInfo"]["username"] == f"jane-{site.name}"
    assert "developers" in who["status"]["userInfo"]["groups"]
    other = site.run(**{**spelled_out, "organizations": ["admins"]})
    assert "its certificate is for CN=jane" in other["reason"]


@both_clusters
def test_a_kubelets_client_certificate(either: Site) -> None:
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


# What the Secret holds already


def rsa_pair_of_somebody(site: Site) -> dict[str, str]:
    """What create-cert.sh makes: an RSA key, kubelet-serving; in an unmarked Secret with kubectl's annotation."""
    site.run(secret={"name": "made"}, key_type="rsa-2048")
    pair = site.data("made")
    site.run(state="absent", secret={"name": "made"})
    site.put_secret(pair, annotations={LAST_APPLIED: '{"data":{"tls.key":"b2xk"}}', "note": "kept"})
    return pair


def test_a_secret_of_the_script_is_adopted_as_it_is(site: Site) -> None:
    pair, target = rsa_pair_of_somebody(site), site.hook()
    first = site.run(targets=[target])
    assert first["changed"], "the target lacked the anchor"
    for _run in range(2):
        assert site.run(targets=[target])["changed"] is False
    assert site.data() == pair
    taken_back = site.run(state="absent", targets=[target])
    assert taken_back["changed"], "the anchor was added here"
    assert "did not make it" in taken_back["warnings"][0]
    assert (site.data(), site.bundle(target)) == (pair, "")
    assert site.run(state="absent", targets=[target])["changed"] is False

    time.sleep(1.1)  # a certificate of the same second would last no longer
    renewed = site.run(renew_before="400d", targets=[target])
    assert "expires at" in renewed["reason"]
    assert "every run will renew" in renewed["warnings"][0]
    assert site.data() != pair
    assert_pair(site)
    secret = site.secret()
    assert secret is not None
    assert LAST_APPLIED not in secret["metadata"]["annotations"], "it holds the old key"
    assert secret["metadata"]["annotations"]["note"] == "kept"
    assert site.run(state="absent", targets=[target])["changed"]
    assert (site.secret(), site.bundle(target)) == (None, "")


def test_a_short_certificate_is_renewed_in_time_and_not_before(site: Site) -> None:
    hour: dict[str, Any] = {"expiration_seconds": 3600}
    assert site.run(**hour)["changed"]
    assert site.run(**hour)["changed"] is False, "a third of its life, not 30 days"
    first = site.certificate()
    time.sleep(1.1)
    result = site.run(**hour, renew_before="59m")
    assert result["changed"] is False
    result = site.run(**hour, renew_before="61m")
    assert "renewed 3660 seconds before" in result["reason"]
    assert site.certificate().not_valid_after_utc > first.not_valid_after_utc


def test_a_key_that_does_not_fit_is_replaced(site: Site) -> None:
    site.run()
    other = private_keys.to_pem(private_keys.generate("ecdsa-p256")).encode()
    path = {"op": "replace", "path": "/data/tls.key", "value": base64.b64encode(other).decode()}
    site.cluster.api("PATCH", f"{site.secrets}/hook-tls", [path], "application/json-patch+json")
    assert "does not belong to its certificate" in site.run()["reason"]
    assert_pair(site)


def test_a_broken_secret_is_repaired(site: Site) -> None:
    site.put_secret({"tls.crt": "damaged", "tls.key": "damaged"})
    assert "no certificate found" in site.run()["reason"]
    assert_pair(site)


def test_more_names_are_a_reason_for_a_new_certificate(site: Site) -> None:
    site.run()
    longer = f"hook.{site.name}.svc.cluster.local"
    result = site.run(dns_names=[longer])
    assert longer in result["reason"]
    assert longer in names_of(site.certificate())


def test_somebody_elses_secret_is_left_alone_unless_taken_over(site: Site) -> None:
    site.run(service="other", secret={"name": "theirs"})
    theirs = {**site.data("theirs"), "ca.crt": "x"}
    site.put_secret(theirs)
    start = since(site)
    result = site.run()
    assert_one_line(result, "secret-unusable", "hook-tls", f"other.{site.name}.svc", "take_over:")
    assert not [entry for entry in site.asked(start) if entry[0] in WRITES]
    assert site.data() == theirs
    assert site.run(take_over=True)["changed"]
    assert_pair(site)
    assert site.data()["ca.crt"] == "x", "only ca_key says that it is ours"
    assert site.run()["changed"] is False


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ({"kind": "Opaque"}, ("Opaque", "secret.name")),
        ({"immutable": True}, ("immutable", "secret.name")),
        ({"annotations": {"cert-manager.io/certificate-name": "x"}}, ("cert-manager", "take_over")),
        (
            {"annotations": {"reconcile.external-secrets.io/data-hash": "x"}},
            ("external-secrets", "take_over"),
        ),
        ({"more": "x"}, ("password", "take_over")),
    ],
)
def test_secrets_that_are_not_written(site: Site, there: dict[str, Any], names: tuple[str, ...]) -> None:
    data = {"tls.crt": "x", "tls.key": "x", **({"password": there.pop("more")} if "more" in there else {})}
    site.put_secret(data, **there)
    site.refused("secret-unusable", f"{site.name}/hook-tls", *names)
    assert site.data() == data


def test_what_others_put_beside_the_certificate_survives_a_renewal(site: Site) -> None:
    site.run()
    extra = [{"op": "add", "path": "/data/extra", "value": base64.b64encode(b"theirs").decode()}]
    site.cluster.api("PATCH", f"{site.secrets}/hook-tls", extra, "application/json-patch+json")
    assert site.run(key_type="ecdsa-p384")["changed"]
    assert site.data()["extra"] == "theirs"


# Request now, approve later


def pending_of(site: Site) -> dict[str, Any]:
    secret = site.secret("hook-tls-pending")
    assert secret is not None
    return secret


@both_clusters
def test_somebody_else_approves_and_the_next_run_completes_it_with_the_same_key(either: Site) -> None:
    site, target = either, either.hook()
    first = site.run(**TWO_STEP, targets=[target])
    name = first["csr"]["name"]
    assert (first["changed"], first["pending"], first["csr"]["condition"]) == (True, True, "Pending")
    assert f"kubectl certificate approve {name}" in first["reason"]
    kept = pending_of(site)
    assert kept["immutable"]
    assert kept["metadata"]["ownerReferences"][0]["name"] == name
    key = site.data("hook-tls-pending")["tls.key"]
    assert (site.secret(), site.bundle(target)) == (None, "")

    for check_mode in (True, False):
        again = site.run(**TWO_STEP, targets=[target], check_mode=check_mode)
        assert (again["changed"], again["pending"], again["csr"]["name"]) == (False, True, name)

    site.decide(name)
    done = site.run(approve=False, targets=[target])
    assert (done["changed"], done["pending"], done["csr"]["name"]) == (True, False, name)
    assert site.data()["tls.key"] == key
    assert_pair(site)
    assert site.bundle(target) == site.cluster.ca_pem
    assert site.secret("hook-tls-pending") is None
    assert site.run(**TWO_STEP, targets=[target])["changed"] is False


def test_while_a_renewal_waits_the_certificate_in_use_is_told(site: Site) -> None:
    hour: dict[str, Any] = {"expiration_seconds": 3600}
    first, target = site.run(**hour), site.hook()
    due: dict[str, Any] = {**hour, **TWO_STEP, "renew_before": "61m", "targets": [target]}
    planned = site.run(**due, check_mode=True)
    asked = site.run(**due)
    again = site.run(**due)
    assert [result["changed"] for result in (planned, asked, again)] == [True, True, False]
    for result in (planned, asked, again):
        assert result["pending"], result
        assert result["certificate"] == first["certificate"]
        assert result["ca_bundle"] == site.cluster.ca_pem
    assert site.bundle(target) == site.cluster.ca_pem, "the new target trusts what is in use"
    time.sleep(1.1)
    site.decide(asked["csr"]["name"])
    done = site.run(**due)
    assert (done["changed"], done["pending"]) == (True, False)
    assert done["certificate"]["serial"] != first["certificate"]["serial"]


def test_a_run_waits_for_the_approver(site: Site) -> None:
    def approver() -> None:
        until = time.monotonic() + 20
        while not site.csrs() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        site.decide(site.csrs()[0]["metadata"]["name"])

    thread = threading.Thread(target=approver)
    thread.start()
    try:
        result = site.run(approve=False, wait_timeout=30)
    finally:
        thread.join()
    assert result["changed"], result
    assert_pair(site)


def test_nobody_approves(site: Site) -> None:
    """After the wait the request and its key stay. A run that approves removes both and makes its own request."""
    result = site.run(approve=False, wait_timeout=2)
    assert_one_line(result, "not-issued")
    assert result["diagnosis"]["code"] == "never-approved"
    waiting, key = site.csrs()[0], site.data("hook-tls-pending")["tls.key"]
    approving = site.run()
    assert approving["changed"]
    assert "warnings" not in approving
    assert site.data()["tls.key"] != key, "a run that approves goes on with no earlier request"
    assert [csr["metadata"]["name"] for csr in site.csrs()] == [approving["csr"]["name"]]
    assert waiting["metadata"]["name"] != approving["csr"]["name"]
    assert site.secret("hook-tls-pending") is None


def test_a_waiting_request_that_was_deleted_is_made_anew(site: Site) -> None:
    first = site.run(**TWO_STEP)["csr"]
    site.cluster.api("DELETE", f"{CSRS}/{first['name']}")
    second = site.run(**TWO_STEP)
    assert second["changed"]
    assert second["csr"]["name"] != first["name"]
    assert pending_of(site)["metadata"]["ownerReferences"][0]["uid"] == second["csr"]["uid"]


def test_the_key_goes_with_its_request(site: Site) -> None:
    name = site.run(**TWO_STEP)["csr"]["name"]
    site.cluster.api("DELETE", f"{CSRS}/{name}")
    eventually(lambda: site.secret("hook-tls-pending") is None)


def test_what_is_wanted_otherwise_supersedes_a_waiting_request(site: Site) -> None:
    first = site.run(**TWO_STEP)["csr"]
    second = site.run(**TWO_STEP, dns_names=[f"hook.{site.name}.svc.cluster.local"])
    assert second["changed"]
    assert [csr["metadata"]["name"] for csr in site.csrs()] == [second["csr"]["name"]] != [first["name"]]
    assert pending_of(site)["metadata"]["ownerReferences"][0]["name"] == second["csr"]["name"]


def test_a_denial_is_told_once_then_it_is_asked_anew(site: Site) -> None:
    name = site.run(**TWO_STEP)["csr"]["name"]
    site.decide(name, "Denied")
    result = site.run(**TWO_STEP)
    assert_one_line(result, "not-issued", name)
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == ("denied", "proven")
    assert site.secret("hook-tls-pending") is None
    again = site.run(**TWO_STEP)
    assert again["pending"]
    assert again["csr"]["name"] != name


def meanwhile(site: Site, act: Callable[[str], object], **options: Any) -> dict[str, Any]:
    """A run that waits, while somebody does something to its request."""

    def other() -> None:
        eventually(lambda: bool(site.csrs()))
        act(site.csrs()[0]["metadata"]["name"])

    thread = threading.Thread(target=other)
    thread.start()
    started = time.monotonic()
    result = site.run(approve=False, wait_timeout=300, **options)
    thread.join()
    assert time.monotonic() - started < 200, "not at the time-out"
    return result


def test_a_policy_controller_that_denies_ends_the_wait_at_once(site: Site) -> None:
    """In the words of kubelet-csr-approver, which denies what is no node's (postfinance/kubelet-csr-approver#61)."""
    words = {
        "manager": "kubelet-csr-approver",
        "reason": "kubelet-serving cert denied",
        "message": "CSR not complying with kubelet-csr-approver validation process. Reason: not a node",
    }
    result = meanwhile(site, lambda name: site.decide(name, "Denied", **words))
    assert_one_line(result, "not-issued", "kubelet-serving", "--ignore-non-system-node")
    diagnosis = result["diagnosis"]
    assert (diagnosis["code"], diagnosis["certainty"]) == ("denied", "proven")
    assert "by the client kubelet-csr-approver " in diagnosis["evidence"][0]
    assert any("audit log" in text for text in diagnosis["evidence"])


def test_a_request_that_is_deleted_ends_the_wait_at_once(site: Site) -> None:
    result = meanwhile(site, lambda name: site.cluster.api("DELETE", f"{CSRS}/{name}"))
    assert_one_line(result, "not-issued")
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == ("deleted", "likely")
    gone = site.info(name=result["csr"]["name"])["csrs"][0]
    assert (gone["condition"], gone["diagnosis"]["code"]) == ("NotFound", "collected")
    assert site.run()["changed"]


# A signer that does not issue


def test_what_nobody_signs_is_not_claimed_to_be_known(site: Site) -> None:
    result = site.run(signer_name="example.com/nobody", common_name="x", wait_timeout=5)
    assert result["diagnosis"]["certainty"] == "one of"
    assert_one_line(result, "not-issued", "example.com/nobody")


def test_a_stopped_controller_manager_is_told_as_soon_as_its_lease_proves_it(site: Site) -> None:
    site.cluster.stop("kube-controller-manager")
    started = time.monotonic()
    try:
        result = site.run(wait_timeout=300)
    finally:
        site.cluster.start("kube-controller-manager")
        eventually(lambda: leads(site.cluster), seconds=60)
    assert_one_line(result, "not-issued", "kube-controller-manager")
    assert (result["diagnosis"]["code"], result["diagnosis"]["certainty"]) == (
        "controller-manager-stopped",
        "proven",
    )
    assert time.monotonic() - started < 200, "not at the time-out"
    assert site.run(wait_timeout=60)["changed"]
    assert_pair(site)


def leads(cluster: Cluster) -> bool:
    """Whether a controller-manager has renewed its Lease within the last seconds."""
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
    renewed = cluster.api("GET", path)["spec"]["renewTime"].replace("Z", "+00:00")
    return now() - datetime.datetime.fromisoformat(renewed) < datetime.timedelta(seconds=4)


def test_a_ca_that_nobody_knows_is_not_trusted_by_itself(site: Site) -> None:
    """The chain that comes along counts only where the task says so; each run finds what it added before."""
    ca, target = pki.make_ca("its own"), site.hook()
    pem, signer = ca.certificate_pem.decode(), f"example.com/{site.name}"
    options: dict[str, Any] = {"signer_name": signer, "common_name": "x", "targets": [target]}
    with signing(site.cluster, signer, ca, chain=pem):
        refused = site.run(**options)
        assert_one_line(refused, "no-trust-anchor", "CN=its", "ca_bundle")
        assert len(refused["evidence"]) >= 3
        assert (site.secret(), site.bundle(target)) == (None, "")
        assert site.run(**options, trust="chain")["changed"]
        assert site.bundle(target) == pem
        assert site.data()["tls.crt"].endswith(pem)
        start = since(site)
        assert site.run(**options, trust="chain")["changed"] is False
        assert len(site.asked(start)) == 2, "the anchor that was added is found in the target"
        given = site.run(**options, ca_bundle=site.cluster.ca_pem + pem, secret={"name": "given"})
        assert given["ca_bundle"] == pem
        leaf = site.run(**options, trust="leaf", secret={"name": "leaf"})
        assert leaf["ca_bundle"] == site.data("leaf")["tls.crt"][: len(leaf["ca_bundle"])]


# Others who write


def test_a_target_of_another_writer_is_refused_before_the_request(site: Site) -> None:
    owned = site.hook(annotations={"cert-manager.io/inject-ca-from": "a/b"})
    site.refused("owned-by-another", owned["name"], "cert-manager", "take_over", targets=[owned])
    assert site.csrs() == []
    theirs = pki.make_ca("theirs").certificate_pem.decode()
    site.set_bundle(owned, theirs)
    assert site.run(targets=[owned], take_over=True)["changed"]
    assert site.bundle(owned) == theirs + site.cluster.ca_pem
    assert has_failed(site.run(targets=[owned], state="absent"), "owned-by-another", "take_over:")
    assert site.run(targets=[owned], state="absent", take_over=True)["changed"]
    assert site.bundle(owned) == theirs, "what we added goes, what cert-manager wrote stays"


def test_two_runs_at_once_end_with_one_good_certificate(site: Site) -> None:
    target = site.hook()
    with ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(lambda _number: site.run(targets=[target]), range(3)))
    assert [result.get("msg") for result in results] == [None] * 3
    assert_pair(site)
    stored = f"{site.certificate().serial_number:x}".removeprefix("0")
    assert {result["certificate"]["serial"].lstrip("0") for result in results} >= {stored}
    assert site.run(targets=[target])["changed"] is False
    assert site.run(state="absent", targets=[target])["changed"]
    assert site.bundle(target) == "", "whoever added the anchor, it is recorded"


def test_two_runs_that_ask_at_once_share_one_request(site: Site) -> None:
    with ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(lambda _number: site.run(**TWO_STEP), range(3)))
    assert [result.get("msg") for result in results] == [None] * 3
    assert len({result["csr"]["name"] for result in results}) == 1
    assert len(site.csrs()) == 1


def test_a_webhook_that_is_called_by_another_name(site: Site) -> None:
    url = "https://hooks.example.com/x"
    hook = {
        "name": "hook.certflow.test",
        "clientConfig": {"url": url},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    site.make(HOOKS, {"metadata": {"name": f"url-{site.name}"}, "webhooks": [hook]})
    options: dict[str, Any] = {
        "service": None,
        "common_name": "system:node:x",
        "dns_names": ["other.example.com"],
        "allow_names": ["other.example.com", "hooks.example.com"],
        "targets": [{"kind": HOOK_KIND, "name": f"url-{site.name}"}],
    }
    site.refused("invalid-request", "hooks.example.com", "dns_names", **options)
    assert site.run(**{**options, "dns_names": ["hooks.example.com"]})["changed"]


# And back


def test_taking_back_removes_what_was_made_and_nothing_else(site: Site) -> None:
    added, had = site.hook("added"), site.hook("had")
    foreign = pki.make_ca("foreign").certificate_pem.decode()
    site.set_bundle(had, foreign + site.cluster.ca_pem)
    site.run(service="other", secret={"name": "other-tls"})
    targets = [added, had]
    site.run(targets=targets)
    site.run(**TWO_STEP, secret={"name": "waiting"})
    before = site.data("other-tls")

    planned = site.run(state="absent", targets=targets, check_mode=True)
    assert planned["changed"]
    assert site.secret() is not None
    gone = site.run(state="absent", targets=targets)
    assert (gone["changed"], gone["reason"]) == (True, "taken back")
    assert site.secret() is None
    assert (site.bundle(added), site.bundle(had)) == ("", foreign + site.cluster.ca_pem)
    assert site.data("other-tls") == before
    assert site.secret("waiting-pending") is not None, "it belongs to another Secret"
    assert site.run(state="absent", targets=targets)["changed"] is False

    assert site.run(state="absent", secret={"name": "waiting"})["changed"]
    assert site.secret("waiting-pending") is None
    assert not [csr for csr in site.csrs() if not csr["status"].get("certificate")]
    assert site.run(state="absent", secret={"name": "waiting"})["changed"] is False


def test_the_ca_that_another_secret_of_the_service_needs_stays(site: Site) -> None:
    """The way out of a Secret of the wrong type: another one, and then the first is taken back."""
    target = site.hook()
    site.run(targets=[target])
    site.run(targets=[target], secret={**OPAQUE, "name": "hook-opaque"})
    result = site.run(state="absent", targets=[target])
    assert (result["changed"], site.secret()) == (True, None)
    assert "Secret hook-opaque" in result["warnings"][0]
    assert site.bundle(target) == site.cluster.ca_pem


def test_what_others_put_beside_the_certificate_is_not_deleted(site: Site) -> None:
    target = site.hook()
    site.run(targets=[target])
    extra = [{"op": "add", "path": "/data/extra", "value": base64.b64encode(b"theirs").decode()}]
    site.cluster.api("PATCH", f"{site.secrets}/hook-tls", extra, "application/json-patch+json")
    result = site.run(state="absent", targets=[target])
    assert "also holds extra" in result["warnings"][0]
    assert (site.data()["extra"], site.bundle(target)) == ("theirs", "")
    assert site.run(state="absent", targets=[target])["changed"] is False


def test_somebody_elses_secret_is_not_taken_back(site: Site) -> None:
    site.put_secret({"tls.crt": "x", "tls.key": "y"})
    result = site.run(state="absent")
    assert result["changed"] is False
    assert "is left alone" in result["warnings"][0]
    site.run(service="other", secret={"name": "other-tls"})
    result = site.run(state="absent", secret={"name": "other-tls"})
    assert (result["changed"], f"made for Service {site.name}/other" in result["warnings"][0]) == (
        False,
        True,
    )
    assert site.secret("other-tls") is not None


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.1)
