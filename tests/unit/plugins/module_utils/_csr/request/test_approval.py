# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading CSR objects, comparing them with what is expected, and the object that approves."""

from __future__ import annotations

import base64
import copy
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.name_policy import GuardedNames
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import approval, csr_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request.approval import Expectation
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request.csr_api import Decision
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import signing_request

from tests.support.certificates import der
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.objects import (
    APP_SERVING,
    KUBELET_SERVING,
    NOW,
    OWN,
    USAGES,
    approved,
    condition,
    csr,
    encoded,
    request,
)

pytestmark = pytest.mark.quick

CLIENT_USAGES = ["client auth", "digital signature"]

CONDITIONS = [
    ([], "", "Pending"),
    (["Approved"], "", "Approved"),
    (["Approved"], "PEM", "Approved,Issued"),
    (["Approved", "Failed"], "", "Approved,Failed"),
    (["Failed", "Approved"], "PEM", "Approved,Failed,Issued"),
    (["Denied"], "", "Denied"),
    (["Failed"], "", "Pending,Failed"),
]


@pytest.mark.parametrize(("kinds", "certificate", "expected"), CONDITIONS)
def test_condition_as_kubectl_prints_it(kinds: list[str], certificate: str, expected: str) -> None:
    obj = csr(*(condition(kind) for kind in kinds), certificate=certificate)
    assert csr_content.condition_text(obj) == expected


def test_condition_of_an_object_without_status() -> None:
    obj = csr()
    del obj["status"]
    assert csr_content.condition_text(obj) == "Pending"
    assert csr_content.certificate_of(obj) == ""


def test_condition_that_is_not_true() -> None:
    obj = csr({**condition("Failed"), "status": "False"}, {"type": "Approved"})
    assert csr_content.condition_text(obj) == "Approved"


def test_content() -> None:
    pem = request(common_name="jane", organizations=("dev",), ip_addresses=("10.0.0.1",))
    content = csr_content.content_of(csr(pem=pem, expirationSeconds=3600, usages=None))
    assert (content.signer_name, content.requester) == (KUBELET_SERVING, "deployer")
    assert (content.usages, content.expiration_seconds) == ((), 3600)
    assert (content.request.common_name, content.request.dns_names) == ("jane", OWN)


def test_content_that_is_no_request() -> None:
    broken = csr()
    broken["spec"]["request"] = "%%%"
    with fails("invalid-request", "'hook-apps-1a2b'", "request"):
        csr_content.content_of(broken)


def other_readings() -> dict[str, str]:
    return der.attacks("hook.apps.svc", "kubernetes.default.svc")


@pytest.mark.parametrize("title", other_readings())
def test_request_with_two_readings_says_nothing(title: str) -> None:
    content = csr_content.content_of(csr(pem=other_readings()[title]))
    assert content.request == signing_request.NOTHING
    assert content.fault.startswith("the request is not in canonical form")


@pytest.mark.parametrize("text", ["no request at all", "Z\u00fcrich"])
def test_text_that_is_not_a_request(text: str) -> None:
    assert "not one PEM block" in csr_content.content_of(csr(pem=text)).fault


def mismatches(obj: dict[str, Any], **expected: Any) -> list[str]:
    expectation = Expectation(**{"service": "hook", "namespace": "apps", **expected})
    return [found.reason for found in approval.compare(csr_content.content_of(obj), expectation)]


FULL: dict[str, Any] = {
    "signer_name": KUBELET_SERVING,
    "usages": ("server auth", "digital signature", "key encipherment"),
    "requester": "deployer",
    "common_name": "hook.apps.svc",
    "organizations": (),
    "dns_names": ("hook.apps.svc", "HOOK", "hook.apps"),
    "ip_addresses": (),
    "expiration_seconds": 3600,
    "longest_seconds": 3600,
}


def test_everything_as_expected() -> None:
    obj = csr(expirationSeconds=3600)
    sha256 = csr_content.content_of(obj).request.public_key_sha256
    assert mismatches(obj, public_key_sha256=sha256, **FULL) == []


def test_an_expectation_of_only_the_names() -> None:
    assert mismatches(csr()) == []


DIFFERENCES: list[tuple[dict[str, Any], list[str]]] = [
    ({"public_key_sha256": "00"}, ["PublicKey"]),
    ({"signer_name": APP_SERVING}, ["Signer"]),
    ({"usages": USAGES[:2]}, ["Usages"]),
    ({"requester": "jane"}, ["Requester"]),
    ({"requester": ""}, ["Requester"]),
    ({"common_name": "hook"}, ["Subject"]),
    ({"organizations": ("dev",)}, ["Subject"]),
    ({"dns_names": OWN[:2]}, ["Names"]),
    ({"dns_names": (*OWN, "more")}, ["Names"]),
    ({"ip_addresses": ("10.0.0.1",)}, ["Names"]),
    ({"expiration_seconds": 600}, ["Lifetime"]),
    ({"longest_seconds": 3599}, ["Lifetime"]),
    ({"service": "other"}, ["ForbiddenName"] * 3),
    ({"service": "", "namespace": ""}, ["ForbiddenName"] * 3),
    ({"service": "", "namespace": "", "allow_names": OWN}, []),
    ({"cluster": GuardedNames(nodes=("hook",))}, ["ForbiddenName"]),
    ({"cluster": GuardedNames(nodes=("hook",)), "allow_names": ("hook",)}, []),
]


@pytest.mark.parametrize(("expected", "reasons"), DIFFERENCES)
def test_each_difference_is_told(expected: dict[str, Any], reasons: list[str]) -> None:
    assert mismatches(csr(expirationSeconds=3600), **expected) == reasons


def test_differences_are_told_together() -> None:
    obj = csr(pem=request(dns_names=(*OWN, "kubernetes.default.svc")), username="mallory")
    found = approval.compare(
        csr_content.content_of(obj),
        Expectation(requester="deployer", dns_names=OWN, service="hook", namespace="apps"),
    )
    assert [(entry.reason, entry.message) for entry in found] == [
        ("Requester", "its requester is 'mallory', expected 'deployer'"),
        (
            "Names",
            f"its DNS names are {[*OWN, 'kubernetes.default.svc']}, expected {[*OWN]}",
        ),
        (
            "ForbiddenName",
            "it asks for the name 'kubernetes.default.svc': it is the API server's name inside the cluster",
        ),
    ]


def test_a_request_without_lifetime_has_no_bound() -> None:
    assert mismatches(csr(), longest_seconds=10**9) == ["Lifetime"]


def test_address_in_another_spelling_is_the_same() -> None:
    obj = csr(pem=request(ip_addresses=("fd00::1",)))
    assert mismatches(obj, ip_addresses=("fd00:0:0::1",), allow_names=("FD00::0:1",)) == []
    assert mismatches(obj) == ["ForbiddenName"]


@pytest.mark.parametrize(
    ("expected", "reasons"),
    [
        ({}, ["ClientIdentity"]),
        ({"allow_client_identity": True}, ["ClientIdentity"]),
        ({"allow_client_identity": True, "common_name": "jane"}, ["ClientIdentity"]),
        ({"common_name": "jane", "organizations": ("dev",)}, ["ClientIdentity"]),
        ({"allow_client_identity": True, "common_name": "jane", "organizations": ("dev",)}, []),
        ({"allow_client_identity": True, "common_name": "jane", "organizations": ()}, ["Subject"]),
    ],
)
def test_client_identity_is_spelled_out(expected: dict[str, Any], reasons: list[str]) -> None:
    obj = csr(pem=request("jane", ("dev",), ()), usages=CLIENT_USAGES)
    assert mismatches(obj, **expected) == reasons


@pytest.mark.parametrize("usages", [(), ("digital signature", "key encipherment"), ("key agreement",)])
def test_a_certificate_without_extended_usages_is_a_login(usages: tuple[str, ...]) -> None:
    obj = csr(pem=request("root", ("system:masters",), ()), usages=list(usages))
    assert mismatches(obj) == ["ClientIdentity", "Subject"]
    assert mismatches(obj, usages=usages, dns_names=()) == ["ClientIdentity", "Subject"]
    spelled_out = {"common_name": "root", "organizations": ("system:masters",), "allow_client_identity": True}
    assert mismatches(obj, **spelled_out) == []


@pytest.mark.parametrize(
    "usage",
    ["cert sign", "crl sign", "code signing", "email protection", "s/mime", "ipsec user", "ocsp signing"],
)
def test_an_unexpected_usage_is_refused_even_if_it_is_spelled_out(usage: str) -> None:
    obj = csr(usages=[*USAGES, usage])
    assert mismatches(obj) == ["UnexpectedUsage"]
    assert mismatches(obj, usages=(*USAGES, usage)) == ["UnexpectedUsage"]


@pytest.mark.parametrize("usage", ["signing", "key agreement", "data encipherment", "content commitment"])
def test_a_key_usage_has_no_purpose(usage: str) -> None:
    assert mismatches(csr(usages=[*USAGES, usage])) == []


@pytest.mark.parametrize("usage", ["client auth", "any"])
def test_client_identity_beside_serving(usage: str) -> None:
    assert mismatches(csr(usages=[*USAGES, usage])) == ["ClientIdentity"]


def test_serving_without_a_name_is_refused() -> None:
    assert mismatches(csr(pem=request(dns_names=()))) == ["Names"]


# The strictest expectation that matches the content that a tolerant reader shows.
SHOWN: dict[str, Any] = {
    "signer_name": KUBELET_SERVING,
    "usages": USAGES,
    "common_name": "hook",
    "organizations": (),
    "dns_names": ("hook.apps.svc",),
    "ip_addresses": (),
}


@pytest.mark.parametrize("title", other_readings())
def test_request_with_two_readings_is_refused(title: str) -> None:
    obj = csr(pem=other_readings()[title])
    expected = dict(SHOWN)
    if title == "common name that Go passes over":
        expected |= {"dns_names": (), "common_name": "hook.apps.svc", "allow_client_identity": True}
        obj["spec"]["usages"] = expected["usages"] = CLIENT_USAGES
    assert mismatches(obj, **expected) == ["Integrity"]


def test_a_request_that_cannot_be_compared_meets_no_expectation_of_its_content() -> None:
    """It can be denied by name, but not because of content that it may not have."""
    content = csr_content.content_of(csr(pem=next(iter(other_readings().values()))))
    of_spec = Expectation(signer_name=KUBELET_SERVING, usages=USAGES, requester="deployer")
    assert approval.compare(content, of_spec, approval.EXPECTED) == ()
    for value in (
        {"dns_names": ()},
        {"ip_addresses": ()},
        {"organizations": ()},
        {"common_name": ""},
        {"public_key_sha256": ""},
    ):
        [found] = approval.compare(content, replace(of_spec, **value), approval.EXPECTED)
        assert found.reason == "Integrity"


INNER: list[tuple[tuple[bytes, ...], tuple[str, ...], list[str]]] = [
    ((), USAGES, []),
    ((der.key_usage(0, 2), der.extended_usage("1.3.6.1.5.5.7.3.1")), USAGES, []),
    # external-snapshotter's create-cert.sh and OpenSSL's example configuration.
    ((der.key_usage(0, 1, 2), der.extended_usage("1.3.6.1.5.5.7.3.1")), USAGES, []),
    ((der.key_usage(0),), ("signing", "server auth"), []),
    ((der.extended_usage("1.3.6.1.5.5.7.3.4"),), ("s/mime", "server auth"), []),
    ((der.key_usage(0, 2),), ("digital signature", "server auth"), ["key encipherment"]),
    ((der.key_usage(0, 3, 4),), USAGES, ["data encipherment", "key agreement"]),
    ((der.key_usage(5, 6),), USAGES, ["cert sign", "crl sign"]),
    ((der.extended_usage("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"),), USAGES, ["client auth"]),
    ((der.extended_usage("2.5.29.37.0"),), USAGES, ["any"]),
    ((der.extended_usage("1.3.6.1.5.2.3.5"),), USAGES, ["1.3.6.1.5.2.3.5"]),
]


@pytest.mark.parametrize(("extensions", "usages", "beyond"), INNER)
def test_usages_inside_the_request_are_among_those_of_the_spec(
    extensions: tuple[bytes, ...], usages: tuple[str, ...], beyond: list[str]
) -> None:
    pem = der.pem(der.request(der.names(der.dns("hook.apps.svc")), *extensions))
    content = csr_content.content_of(csr(pem=pem, usages=usages))
    found = approval.compare(content, Expectation(service="hook", namespace="apps"))
    assert [(entry.reason, entry.message) for entry in found if entry.reason != "UnexpectedUsage"] == [
        ("Usages", f"its PKCS#10 asks for the usage {usage!r}, which is not in spec.usages")
        for usage in beyond
    ]


@pytest.mark.parametrize("name", [der.email("root@corp"), der.uri("spiffe://cluster/ns/x")])
def test_other_kinds_of_names_are_spelled_out(name: bytes) -> None:
    obj = csr(pem=der.pem(der.request(der.names(der.dns("hook.apps.svc"), name))))
    assert mismatches(obj) == ["ForbiddenName"]
    assert mismatches(obj, allow_names=(name[2:].decode(),)) == []


def test_names_that_only_some_signers_read_are_refused() -> None:
    for name in (
        der.other_name("root@corp"),
        der.directory_name(der.part(der.CN, "root")),
    ):
        obj = csr(pem=der.pem(der.request(der.names(der.dns("hook.apps.svc"), name))))
        assert mismatches(obj) == ["Integrity"]


# Vault's API takes the DNS names as one text with commas, and cert-manager's Vault issuer joins them.
@pytest.mark.parametrize(
    "more", [",kubernetes.default.svc", "/x", ";x", "%00", "@evil", "\\.evil", "(x)", ":443"]
)
def test_a_name_that_another_reader_takes_for_two_is_refused(more: str) -> None:
    name = der.dns(f"hook.apps.svc.a{more}")
    assert mismatches(csr(pem=der.pem(der.request(der.names(name))))) == ["Integrity"]


# cert-manager, pkg/controller/certificatesigningrequests and pkg/util/pki: the annotation decides, not the PKCS#10.
IS_CA = "experimental.cert-manager.io/request-is-ca"
DURATION = "experimental.cert-manager.io/request-duration"
ANNOTATED: list[tuple[dict[str, str], dict[str, Any], list[str]]] = [
    ({}, {}, []),
    ({"kubectl.kubernetes.io/last-applied-configuration": "{}"}, {}, []),
    ({IS_CA: "true"}, {}, ["Integrity"]),
    ({IS_CA: "True"}, FULL, ["Integrity"]),
    ({IS_CA: "false"}, FULL, []),
    ({DURATION: "87600h"}, {}, []),
    ({DURATION: "87600h"}, {"longest_seconds": 3600}, ["Lifetime"]),
    ({DURATION: "87600h"}, {"expiration_seconds": 3600}, ["Lifetime"]),
]


@pytest.mark.parametrize(("annotations", "expected", "reasons"), ANNOTATED)
def test_annotations_that_a_signer_obeys_are_compared(
    annotations: dict[str, str], expected: dict[str, Any], reasons: list[str]
) -> None:
    obj = csr(expirationSeconds=3600)
    obj["metadata"]["annotations"] = annotations
    assert mismatches(obj, **expected) == reasons


# Vault, some ACME servers and old clients make a DNS name of the common name.
COMMON_NAMES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("hook", {}, []),
    ("An admission webhook", {}, []),
    ("system:node:n1", {}, []),
    ("system:node:n1.example.com", {}, []),
    ("bank_1.example.com", {}, ["ForbiddenName"]),
    ("bank.example.com..", {}, ["ForbiddenName"]),
    ("-bank.example.com", {}, ["ForbiddenName"]),
    ("Bank.-.example", {}, ["ForbiddenName"]),
    ("bank_1.example.com", {"common_name": "bank_1.example.com"}, []),
    ("Acme Inc. hooks", {}, []),
    ("hook.apps.svc", {}, []),
    ("hook.apps.svc.cluster.local", {}, []),
    ("bank.prod.svc", {}, ["ForbiddenName"]),
    ("kubernetes", {}, ["ForbiddenName"]),
    ("Kubernetes.Default.Svc", {}, ["ForbiddenName"]),
    ("kubernetes.default.svc.", {}, ["ForbiddenName"]),
    ("*.apps.svc", {}, ["ForbiddenName"]),
    ("10.96.0.1", {}, ["ForbiddenName"]),
    ("n1", {"cluster": GuardedNames(nodes=("n1",))}, ["ForbiddenName"]),
    ("hook.apps.svc.attacker.example", {}, ["ForbiddenName"]),
    ("bank.prod.svc", {"allow_names": ("bank.prod.svc",)}, []),
    ("bank.prod.svc", {"common_name": "bank.prod.svc"}, []),
]


@pytest.mark.parametrize(("common_name", "expected", "reasons"), COMMON_NAMES)
def test_a_common_name_that_is_a_host_name_is_a_name_too(
    common_name: str, expected: dict[str, Any], reasons: list[str]
) -> None:
    assert mismatches(csr(pem=request(common_name)), **expected) == reasons


# Common name, organizations, expectation.
SUBJECTS: list[tuple[str, tuple[str, ...], dict[str, Any], list[str]]] = [
    ("system:node:n1", ("system:nodes",), {}, []),
    ("system:node:n1", ("system:nodes", "system:masters"), {}, ["Subject"]),
    ("system:node:n1", ("system:masters",), {}, ["Subject"]),
    ("hook", ("system:masters",), {}, ["Subject"]),
    ("hook", ("system:masters", "system:authenticated"), {}, ["Subject"] * 2),
    ("hook", ("system:masters",), {"common_name": "hook"}, ["Subject"]),
    ("hook", ("system:masters",), {"organizations": ("system:masters",)}, []),
    ("hook", ("system:masters",), {"organizations": ()}, ["Subject"]),
    ("hook", ("team",), {}, []),
    ("system:kube-controller-manager", (), {}, ["Subject"]),
    ("system:kube-controller-manager", (), {"organizations": ()}, ["Subject"]),
    ("system:admin", (), {"common_name": "system:admin"}, []),
    ("system:nodes", (), {}, ["Subject"]),
    ("hook", ("kubeadm:cluster-admins",), {}, ["Subject"]),
    ("hook", ("kubeadm:cluster-admins",), {"organizations": ("kubeadm:cluster-admins",)}, []),
    ("eks:addon-manager", (), {}, ["Subject"]),
    ("hook", ("eks",), {}, []),
    ("systematic", ("systems",), {}, []),
]


@pytest.mark.parametrize(("common_name", "organizations", "expected", "reasons"), SUBJECTS)
def test_users_and_groups_of_kubernetes_are_spelled_out(
    common_name: str, organizations: tuple[str, ...], expected: dict[str, Any], reasons: list[str]
) -> None:
    obj = csr(pem=request(common_name, organizations))
    assert mismatches(obj, **expected) == reasons


def test_tampered_request_is_refused() -> None:
    content = csr_content.content_of(csr())
    bad = replace(content, request=replace(content.request, is_signature_valid=False, wants_ca=True))
    found = approval.compare(bad, Expectation(service="hook", namespace="apps"))
    assert [entry.reason for entry in found] == ["Integrity", "Integrity"]


def test_mails_and_uris_are_names_too() -> None:
    content = csr_content.content_of(csr())
    other = replace(content, request=replace(content.request, emails=("a@b",), uris=("spiffe://x",)))
    expected = Expectation(service="hook", namespace="apps", allow_names=("a@b",))
    assert [finding.message for finding in approval.compare(other, expected)] == [
        "it asks for the name 'spiffe://x': it does not belong to Service apps/hook"
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [([], ""), (["Approved"], "Approved"), (["Denied"], "Denied"), (["Failed"], "")],
)
def test_decided(kinds: list[str], expected: str) -> None:
    assert approval.decision_of(csr(*(condition(kind) for kind in kinds))) == expected


@pytest.mark.parametrize("decision", ["Approved", "Denied"])
def test_approval_body(decision: str) -> None:
    obj = csr(condition("Failed"))
    before = copy.deepcopy(obj)
    now = NOW.astimezone(timezone(timedelta(hours=2)))
    body = Decision(decision, "Checked", "content as expected").on(obj, now)
    assert obj == before
    assert {key: body[key] for key in before if key != "status"} == {
        key: before[key] for key in before if key != "status"
    }
    assert body["status"]["conditions"] == [
        before["status"]["conditions"][0],
        {
            "type": decision,
            "status": "True",
            "reason": "Checked",
            "message": "content as expected",
            "lastUpdateTime": "2026-09-01T12:00:00Z",
            "lastTransitionTime": "2026-09-01T12:00:00Z",
        },
    ]


def test_approval_of_an_object_without_status() -> None:
    obj = csr()
    del obj["status"]
    body = Decision("Approved", "A", "b").on(obj, NOW)
    assert [entry["type"] for entry in body["status"]["conditions"]] == ["Approved"]


def test_words_outside_the_blocks_of_a_certificate_may_be_any_bytes() -> None:
    obj = csr(approved())
    obj["status"]["certificate"] = base64.b64encode("Zürich\n".encode("latin-1") + b"PEM").decode()
    assert csr_content.certificate_of(obj).endswith("PEM")


def test_a_certificate_that_is_not_base64() -> None:
    obj = csr(approved(), certificate="PEM")
    assert obj["status"]["certificate"] == encoded("PEM")
    obj["status"]["certificate"] = "***"
    with fails("invalid-request", "'hook-apps-1a2b'", "certificate"):
        csr_content.certificate_of(obj)
