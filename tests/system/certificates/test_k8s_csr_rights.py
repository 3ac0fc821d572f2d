# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Missing permissions and invalid input on a real control plane: one clear line each, before the first write."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import intent_from
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys

from tests.support import clusters
from tests.support.asking_clusters import asked_by_an_api_server
from tests.support.certificates.csr_rig import CSRS, HOOK_KIND, CsrRig, assert_one_line, assert_pair, roles_in
from tests.support.permissions.rbac import APPROVE, EXPLAIN, User, without
from tests.support.rig import encoded
from tests.support.webhooks.https_webhook import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

TWO_STEP = {"approve": False, "wait": False}


@pytest.fixture(scope="module")
def idle(fleet: Fleet) -> Iterator[CsrRig]:
    """The rig of all tests whose runs write nothing."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield rig


CSR = "certificatesigningrequests"


def test_a_diagnosis_prints_the_missing_approval_permission(rig: CsrRig) -> None:
    """k8s_csr_info names the role.

    With it, or with the permission for all signers of the domain, the diagnosis is the usual one.
    """
    name = rig.run(**TWO_STEP)["csr"]["name"]
    users = [User(rig, without(APPROVE, "signers", "approve")) for _number in range(2)]
    for user in users:
        found = rig.info(kubeconfig=user.kubeconfig, name=name, gather=["csrs"])["csrs"][0]["diagnosis"]
        assert (found["code"], found["certainty"]) == ("no-right-to-approve", "proven")
    (role,) = roles_in(found)
    (signers,) = [rule for rule in role["rules"] if rule["resources"] == ["signers"]]
    domain = {**role, "rules": [{**signers, "resourceNames": ["kubernetes.io/*"]}]}
    expect = {"service": "hook", "namespace": rig.name}
    for user, rule in zip(users, (role, domain), strict=True):
        rig.grant(user.name, rule)
        found = rig.info(kubeconfig=user.kubeconfig, name=name, gather=["csrs"])["csrs"][0]["diagnosis"]
        assert found["code"] == "never-approved"
        planned = rig.approve(kubeconfig=user.kubeconfig, name=name, expect=expect, check_mode=True)
        assert planned["changed"], planned
    assert rig.approve(kubeconfig=users[1].kubeconfig, name=name, expect=expect)["changed"]


def test_a_message_leads_to_a_working_run(rig: CsrRig) -> None:
    """The user applies the files that the message names, and binds their roles, nothing else."""
    user = User(rig)
    options: dict[str, Any] = {"kubeconfig": user.kubeconfig, "signer_name": None}
    refused = rig.run(**options)
    assert_one_line(refused, "missing-permissions")
    roles = roles_in(refused)
    assert [role["metadata"]["name"] for role in roles] == ["certflow-certificates"]
    rig.grant(user.name, *roles)
    result = rig.run(**options)
    assert result.get("changed"), result
    assert_pair(rig)


def test_info_reports_what_it_may_not_read(rig: CsrRig) -> None:
    stuck = [
        rig.run(signer_name=signer, common_name="x", wait_timeout=1, secret={"name": f"tls-{number}"})
        for number, signer in enumerate(("example.com/nobody", "issuers.cert-manager.io/x.y"))
    ]
    waiting = rig.run(**TWO_STEP)
    names = [result["csr"]["name"] for result in (*stuck, waiting)]
    able, blind = User(rig, EXPLAIN), User(rig, {**EXPLAIN, "rules": EXPLAIN["rules"][:1]})
    evidence = [
        [
            text
            for name in names
            for text in rig.info(kubeconfig=user.kubeconfig, name=name)["csrs"][0]["diagnosis"]["evidence"]
            if text.startswith("cannot read ")
        ]
        for user in (able, blind)
    ]
    assert evidence[0] == []
    for what in (
        "Lease kube-system/kube-controller-manager",
        "pods in kube-system",
        "ConfigMap kube-system/kube-root-ca.crt",
        "Events",
    ):
        assert any(text.startswith(f"cannot read {what}: ") for text in evidence[1]), evidence[1]
    assert rig.info(kubeconfig=able.kubeconfig, gather=["provider"])["provider"]["name"] == "kubeadm"
    assert able.writes() == []


# Invalid input

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
EXTERNAL = {"kind": HOOK_KIND, "name": "absent"}
# Options, failure code, names in the message.
BAD: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"namespace": "absent"}, "not-found", ("absent",)),
    ({"targets": [EXTERNAL]}, "invalid-target", (HOOK_KIND, "absent")),
    ({"service": "a" * 64}, "invalid-request", ("service",)),
    ({"service": "Hook"}, "invalid-request", ("'Hook'",)),
    ({"names": ["kubernetes"]}, "invalid-request", ("'kubernetes'", "allow_names:")),
    ({"names": ["*.example.com"]}, "invalid-request", ("'*.example.com'", "allow_names:")),
    ({"usages": ["server auth", "code signing"]}, "invalid-request", ("usages", "kubernetes.io/kubelet-serving")),
    ({"expiration_seconds": 599}, "invalid-request", ("600", "expiration_seconds")),
    ({"signer_name": "kubernetes.io/legacy-unknown"}, "invalid-request", ("legacy-unknown", "v1beta1")),
    ({"ca_bundle": "text"}, "bundle-broken", ()),
    ({"ca_bundle": KEY}, "contains-private-key", ()),
    ({"secret": {"labels": {"a b": "c"}}}, "secret-unusable", ("metadata.labels:",)),
    ({"secret": {"certificate_key": "cert.pem"}}, "invalid-request", ("tls.crt", "secret.type")),
    ({"secret": {"type": "Opaque", "private_key_key": "a/b"}}, "invalid-request", ("a/b",)),
    (
        {
            "secret": {
                "type": "kubernetes.io/dockerconfigjson",
                "certificate_key": "a",
                "private_key_key": "b",
            }
        },
        "secret-unusable",
        (".dockerconfigjson",),
    ),
    ({"cluster_uid": "another"}, "wrong-cluster", ("another", "cluster_uid")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "code", "names"), BAD, ids=lambda value: str(value)[:40])
def test_invalid_input_is_reported_before_the_first_write(
    idle: CsrRig, options: dict[str, Any], code: str, names: tuple[str, ...]
) -> None:
    result = idle.refused(code, *names, **options)
    assert "c2VjcmV0" not in str(result), "a pasted key is not echoed"


def test_a_bundle_with_too_many_certificates_is_refused(idle: CsrRig) -> None:
    idle.refused("bundle-broken", "201", "200", ca_bundle=idle.cluster.ca_pem * 201)


def test_a_webhook_that_the_configuration_lacks_is_refused(idle: CsrRig) -> None:
    target = {**idle.hook("lacks"), "webhooks": ["other.certflow.test"]}
    idle.refused(
        "invalid-target", target["name"], "other.certflow.test", "hook.certflow.test", targets=[target]
    )


def test_a_target_that_calls_another_service_is_refused(idle: CsrRig) -> None:
    target = idle.hook("calls-another", service="other")
    idle.refused(
        "invalid-target", target["name"], f"{idle.name}/hook", f"{idle.name}/other", targets=[target]
    )


def test_targets_of_a_client_certificate_are_refused(idle: CsrRig) -> None:
    idle.refused(
        "invalid-request",
        "targets",
        targets=[idle.hook("client")],
        signer_name="kubernetes.io/kube-apiserver-client",
        common_name="jane",
        organizations=[],
        allow_client_identity=True,
    )


def test_invalid_credentials_are_reported(idle: CsrRig, tmp_path: Path) -> None:
    """Each failure names the server or the file, and no request writes."""
    expired = idle.cluster.kubeconfig_for(idle.user, lifetime=datetime.timedelta(days=-1))
    text = idle.kubeconfig.read_text()
    strange = tmp_path / "strange"
    strange.write_text("a: [")
    closed = tmp_path / "closed"
    closed.write_text(text.replace(idle.cluster.url, "https://127.0.0.1:9"))
    rows: list[tuple[dict[str, Any], str, str]] = [
        ({"kubeconfig": str(closed)}, "unreachable", "https://127.0.0.1:9"),
        ({"kubeconfig": str(expired)}, "authentication-failed", idle.cluster.url),
        ({"kubeconfig": str(tmp_path / "absent")}, "invalid-connection", str(tmp_path / "absent")),
        ({"kubeconfig": str(strange)}, "invalid-connection", str(strange)),
        ({"context": "absent"}, "invalid-connection", str(idle.kubeconfig)),
    ]
    for options, code, name in rows:
        result = idle.run(**options)
        assert_one_line(result, code, name)
        assert result["changed"] is False
    assert idle.writes() == []


# Requests of other identities

# With only the permission to create, an identity can create a request, and a Secret in the namespace.
PLANTER = {
    "kind": "List",
    "items": [
        {
            "kind": "ClusterRole",
            "metadata": {"name": "plant-requests"},
            "rules": [{"apiGroups": ["certificates.k8s.io"], "resources": [CSR], "verbs": ["create"]}],
        },
        {
            "kind": "Role",
            "metadata": {"name": "plant-secrets"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
        },
    ],
}


@dataclasses.dataclass(frozen=True)
class Planted:
    """A request with the Service's names and a Secret that looks like its stored key, created by another
    user.
    """

    user: str
    csr: str
    key: str


def plant(rig: CsrRig, *, is_owned: bool) -> Planted:
    mallory = User(rig)
    planter = copy.deepcopy(PLANTER)
    planter["items"][1]["metadata"]["namespace"] = rig.name  # type: ignore[index]
    rig.grant(mallory.name, planter)
    parameters = {"service": "hook", "namespace": rig.name, "signer_name": rig.signer}
    wanted = intent_from({**parameters, "secret": {"name": "hook-tls"}, "approve": False})
    key = private_keys.generate("ecdsa-p256")
    public = private_keys.public_key_sha256(key.public_key())
    metadata = {
        "name": csr_api.name_for(wanted, public),
        "labels": markers.labels_for(wanted.secret),
        "annotations": markers.annotations_for(wanted),
    }
    spec = {
        "request": encoded(csr_api.build_pkcs10(wanted, key)),
        "signerName": rig.signer,
        "usages": list(wanted.request.usages),
    }
    connection = resolve({"kubeconfig": mallory.kubeconfig}, {})
    client = Client(connection, user_agent="mallory", deadline=time.monotonic() + 30)
    csr = client.create(CSRS, {"metadata": metadata, "spec": spec})
    marks = {
        markers.PENDING_CSR: metadata["name"],
        markers.PENDING_UID: csr["metadata"]["uid"],
        markers.PENDING_PUBLIC_KEY: public,
    }
    kept: dict[str, Any] = {"name": "hook-tls-pending", "labels": metadata["labels"], "annotations": marks}
    if is_owned:
        owner = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
        kept["ownerReferences"] = [{**owner, "name": metadata["name"], "uid": csr["metadata"]["uid"]}]
    data = {"tls.key": encoded(private_keys.to_pem(key))}
    client.create(rig.secrets, {"metadata": kept, "type": "Opaque", "immutable": True, "data": data})
    return Planted(mallory.name, str(metadata["name"]), private_keys.to_pem(key))


@pytest.mark.parametrize("is_owned", [True, False])
def test_a_planted_request_and_key_are_not_used_by_a_run_that_approves(rig: CsrRig, is_owned: bool) -> None:
    planted = plant(rig, is_owned=is_owned)
    done = rig.run()
    assert done.get("changed"), done
    assert rig.data()["tls.key"] != planted.key
    assert done["csr"]["name"] != planted.csr
    csr = rig.csr(planted.csr)
    assert csr is not None, "it belongs to another identity"
    assert "conditions" not in csr["status"]
    assert rig.secret("hook-tls-pending") is not None
    told = " ".join(done["warnings"])
    assert planted.user in told
    assert f"kubectl delete csr {planted.csr}" in told


def test_a_planted_request_and_key_stop_a_run_that_does_not_approve(rig: CsrRig) -> None:
    planted = plant(rig, is_owned=True)
    commands = (f"kubectl delete csr {planted.csr}", f"kubectl delete secret -n {rig.name} hook-tls-pending")
    code = "requested-by-another-identity"
    for options in ({}, {"wait": False}, {"check_mode": True}):
        result = rig.refused(code, planted.user, rig.user, approve=False, **options)
        assert all(command in result["remedy"] for command in commands)
    expect = {"service": "hook", "namespace": rig.name}
    issued = rig.approve(name=planted.csr, expect=expect, wait=True, kubeconfig=str(rig.cluster.kubeconfig))
    assert issued["csrs"][0]["requester"]["username"] == planted.user
    rig.refused(code, planted.user, approve=False)  # it is issued now, and still belongs to another identity
    assert rig.secret() is None
    accepted = rig.run(approve=False, requesters=[planted.user])
    assert accepted.get("changed"), accepted
    assert rig.data()["tls.key"] == planted.key, "the user's word"


def test_absent_keeps_a_planted_request_and_key(rig: CsrRig) -> None:
    """Another identity may wait for the approval of a request with the labels of this Secret."""
    planted = plant(rig, is_owned=True)
    failed = rig.run(signer_name="example.com/unknown", common_name="x", wait_timeout=1)
    own = next(csr["metadata"]["name"] for csr in rig.csrs() if csr["metadata"]["name"] != planted.csr)
    assert failed["code"] == "not-issued", failed
    for check_mode in (True, False):
        removed = rig.run(state="absent", check_mode=check_mode)
        assert removed.get("changed"), removed
        told = " ".join(removed["warnings"])
        assert planted.user in told
        assert f"kubectl delete csr {planted.csr}" in told
        assert f"kubectl delete secret -n {rig.name} hook-tls-pending" in told
    assert rig.csr(own) is None
    assert rig.csr(planted.csr) is not None
    assert rig.secret("hook-tls-pending") is not None
    assert rig.run(state="absent")["changed"] is False
    accepted = rig.run(state="absent", requesters=[planted.user])
    assert (accepted["changed"], accepted.get("warnings")) == (True, None)
    assert (rig.csr(planted.csr), rig.secret("hook-tls-pending")) == (None, None)


ROLE_ARN = "arn:aws:iam::111122223333:role/deployer"


def acting_as(monkeypatch: pytest.MonkeyPatch, session: str, arn: str = ROLE_ARN) -> None:
    """Make the API server see an assumed role as aws-iam-authenticator describes it (pkg/server/server.go).

    The headers are those of an impersonating proxy. kube-apiserver writes keys of extra from headers in lower case.
    """
    headers = Client._headers

    def impersonating(self: Client) -> Any:
        found = headers(self)
        found["Impersonate-User"] = f"aws:111122223333:{session}"
        found["Impersonate-Group"] = "system:masters"
        found["Impersonate-Extra-canonicalArn"] = arn
        found["Impersonate-Extra-sessionName"] = session
        return found

    monkeypatch.setattr(Client, "_headers", impersonating)


def test_two_sessions_of_one_assumed_role_are_one_identity(
    rig: CsrRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        acting_as(patch, "monday")
        name = rig.run(**TWO_STEP)["csr"]["name"]
    rig.decide(name)
    with monkeypatch.context() as patch:
        acting_as(patch, "mallory", "arn:aws:iam::111122223333:role/other")
        result = rig.run(**TWO_STEP)
        names = ("'aws:111122223333:monday'", "'aws:111122223333:mallory'")
        assert_one_line(result, "requested-by-another-identity", *names)
    with monkeypatch.context() as patch:
        acting_as(patch, "tuesday")
        done = rig.run(**TWO_STEP)
    assert (done.get("changed"), done.get("pending"), done["csr"]["name"]) == (True, False, name), done
    csr = rig.csr(name)
    assert csr is not None
    assert csr["spec"]["username"] == "aws:111122223333:monday"
    assert csr["spec"]["extra"]["canonicalarn"] == [ROLE_ARN]


def as_authenticator(review: dict[str, Any]) -> Reply:
    """Answer a TokenReview as aws-iam-authenticator does on EKS. The test's tokens are ROLE.SESSION."""
    role, _dot, session = review["spec"]["token"].partition(".")
    arn = f"arn:aws:iam::111122223333:role/{role}"
    extra = {"arn": [f"{arn}/{session}"], "canonicalArn": [arn], "sessionName": [session]}
    user = {
        "username": f"aws:111122223333:{session}",
        "uid": f"aws-iam-authenticator:administrative:{session}",
        "groups": ["system:masters"],
        "extra": extra,
    }
    status = {"authenticated": True, "user": user}
    return 200, {"apiVersion": review["apiVersion"], "kind": review["kind"], "status": status}


@pytest.mark.full
def test_two_sessions_of_one_assumed_role_with_a_token_webhook(tmp_path: Path) -> None:
    """EKS authenticates users by such a webhook. Unlike headers, it keeps the spelling of the keys of extra."""
    flag = "--authentication-token-webhook-config-file={}"
    with asked_by_an_api_server("eks", as_authenticator, tmp_path, flag) as cluster:
        rig = CsrRig(cluster, clusters.APP_SERVING)

        def by(token: str) -> dict[str, Any]:
            content: dict[str, Any] = yaml.safe_load(rig.kubeconfig.read_text())
            content["users"][0]["user"] = {"token": token}
            return {"kubeconfig": content, **TWO_STEP}

        name = rig.run(**by("deployer.monday"))["csr"]["name"]
        csr = rig.csr(name)
        assert csr is not None
        assert csr["spec"]["extra"]["canonicalArn"] == [ROLE_ARN]
        rig.decide(name)
        result = rig.run(**by("other.mallory"))
        assert result["code"] == "requested-by-another-identity"
        done = rig.run(**by("deployer.tuesday"))
        assert (done.get("changed"), done.get("pending"), done["csr"]["name"]) == (True, False, name), done
