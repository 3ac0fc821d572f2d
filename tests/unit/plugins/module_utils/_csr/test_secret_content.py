# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets are used or refused, and patched."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers, secret_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import SecretContent
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    certificate_facts,
    ephemeral_ca,
    private_keys,
)

from tests.support.certificates.authority import CLIENT_AUTH, DAY, NOW, Issued
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    applied,
    ca,
    client_intent,
    created,
    found,
    intent,
    key_pem,
    leaf,
    rsa_key,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING, OWN, encoded

pytestmark = pytest.mark.quick

SERVICE = "certflow.kubernetes/service"
SIGNER = "certflow.kubernetes/signer-name"
ANCHORS = "certflow.kubernetes/added-anchors"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OWNER = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "name": "hook-tls", "uid": "1"}
# create-cert.sh of external-snapshotter: kubectl create secret tls | kubectl apply, RSA, a common name with a semicolon.
BY_SCRIPT: dict[str, Any] = {
    "issued": leaf(common_name="system:node:hook.apps.svc;", key=rsa_key()),
    "annotations": {LAST_APPLIED: '{"data":{"tls.key":"b2xk"}}'},
}


def secret(**changed: Any) -> secret_content.ExistingSecret:
    return found(changed.pop("issued", None), **changed)


ADOPTED: list[dict[str, Any]] = [
    BY_SCRIPT,
    {},
    MARKED,
    {"labels": MARKED["labels"]},
    {**MARKED, "data": {"more": encoded("x")}},
    {**MARKED, "issued": leaf("other.example.com")},
    {"issued": leaf("hook", "hook.apps", "hook.apps.svc", "hook.apps.svc.cluster.local")},
    {"issued": leaf("hook.apps.svc")},
    {"issued": leaf("", common_name="hook.apps.svc")},
    {"issued": leaf("", common_name="system:node:hook.apps.svc;")},
    {"data": {"tls.crt": encoded("no certificate")}},
    {"data": {"tls.crt": None}},
    {"data": {"tls.key": None}},
    {"data": {"tls.crt": "//8="}},
    {"data": {"ca.crt": encoded(ca().pem)}},
    {"labels": {"app.kubernetes.io/managed-by": "a-person"}},
    # The user's wish towards cert-manager, not its mark.
    {"annotations": {"cert-manager.io/allow-direct-injection": "true"}},
]


@pytest.mark.parametrize("changed", ADOPTED, ids=lambda row: ",".join(row) or "plain")
def test_adopted(changed: dict[str, Any]) -> None:
    secret_content.refuse_foreign(secret(**changed), intent())


# (what differs, names in the refusal)
FOREIGN: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"data": {"password": encoded("x"), "user": encoded("x")}}, ("password", "user")),
    # the certificate of another task, under other keys
    ({**MARKED, "data": {"tls.crt": None, "tls.key": None, "cert.pem": encoded("x")}}, ("cert.pem",)),
    ({"annotations": {"cert-manager.io/certificate-name": "x"}}, ("cert-manager", "Certificate")),
    ({"annotations": {"cert-manager.io/issuer-name": "x"}}, ("cert-manager",)),
    ({"annotations": {"reconcile.external-secrets.io/data-hash": "x"}}, ("ExternalSecret",)),
    ({"labels": {"reconcile.external-secrets.io/managed": "true"}}, ("ExternalSecret",)),
    ({"annotations": {"service.beta.openshift.io/originating-service-name": "x"}}, ("OpenShift",)),
    ({"annotations": {"meta.helm.sh/release-name": "x"}}, ("Helm",)),
    ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, ("Argo", "CD")),
    ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, ("Flux",)),
    ({"labels": {"helm.toolkit.fluxcd.io/name": "x"}}, ("Flux", "HelmRelease")),
    ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, ("Helm",)),
    ({"labels": {"argocd.argoproj.io/instance": "x"}}, ("Argo", "CD")),
    ({"ownerReferences": [OWNER]}, ("SealedSecret", "hook-tls")),
    ({"issued": leaf("other.apps.svc")}, ("other.apps.svc",)),
    ({"issued": leaf("hook.apps.svc", "other.apps.svc")}, ("other.apps.svc",)),
    ({"issued": leaf("", common_name="other.apps.svc")}, ("CN=other.apps.svc",)),
    (
        {"labels": MARKED["labels"], "annotations": {SERVICE: "apps/other"}},
        ("apps/other",),
    ),
    ({**MARKED, "annotations": {**MARKED["annotations"], "meta.helm.sh/release-name": "x"}}, ("Helm",)),
]


@pytest.mark.parametrize(("changed", "names"), FOREIGN, ids=lambda row: str(row)[:50])
def test_refused_unless_accepted(changed: dict[str, Any], names: tuple[str, ...]) -> None:
    with fails("secret-unusable", "apps/hook-tls", "accept:", *names) as caught:
        secret_content.refuse_foreign(secret(**changed), intent(accept=["kubectl"]))
    (option,) = re.findall(r"accept: \[.*\]", caught.value.remedy)
    consent = accept.parse(yaml.safe_load(option)["accept"])
    secret_content.refuse_foreign(secret(**changed), replace(intent(), accept=consent))


def test_a_secret_whose_deletion_waits_is_not_written() -> None:
    """The certificate would be gone with it."""
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.test/backup"]}
    held = secret_content.read_secret({**secret_object(leaf()), "metadata": metadata}, intent().secret)
    with fails("secret-unusable", "a.test/backup"):
        secret_content.refuse_foreign(held, intent())


def test_the_word_of_a_manager_does_not_cover_the_certificate_of_another_service() -> None:
    marks = {SERVICE: "apps/other", "meta.helm.sh/release-name": "x"}
    held = secret(labels=MARKED["labels"], annotations=marks)
    with fails("secret-unusable", "apps/other", "foreign-secret"):
        secret_content.refuse_foreign(held, intent(accept=["helm"]))
    secret_content.refuse_foreign(held, intent(accept=["helm", "foreign-secret"]))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"type": "Opaque"}, ("Opaque", "secret.name", "secret.type:")),
        ({"immutable": True}, ("immutable", "secret.name")),
    ],
)
def test_a_secret_that_cannot_be_changed_is_refused_although_everything_is_accepted(
    changed: dict[str, Any], names: tuple[str, ...]
) -> None:
    with fails("secret-unusable", *names):
        secret_content.refuse_foreign(
            secret(**changed), intent(accept=sorted({*accept.WORDS} - {*accept.LIMITED}))
        )


def test_a_client_certificate_is_known_by_its_user() -> None:
    jane = leaf("", common_name="jane", usages=(CLIENT_AUTH,))
    wanted = client_intent()
    secret_content.refuse_foreign(found(jane, of=wanted), wanted)
    john = leaf("", common_name="john", usages=(CLIENT_AUTH,))
    with fails("secret-unusable", "CN=john"):
        secret_content.refuse_foreign(found(john, of=wanted), wanted)


# (data that differs, problem)
PROBLEMS = [
    ({"tls.crt": None}, "lacks tls.crt"),
    ({"tls.key": None}, "lacks tls.key"),
    ({"tls.crt": encoded("text")}, "no certificate found"),
    ({"tls.crt": "//8="}, "tls.crt is not text"),
    ({"tls.key": encoded("text")}, "no private key found"),
    ({"tls.key": encoded(key_pem(leaf()).replace("\nM", "\nA", 1))}, "private key cannot be read"),
]


@pytest.mark.parametrize(("data", "problem"), PROBLEMS)
def test_unreadable_content_is_a_problem(data: dict[str, Any], problem: str) -> None:
    seen = found(data=data)
    assert problem in seen.problem
    assert seen.certificate is None or not seen.key_sha256


def test_a_good_pair_has_no_problem_and_its_key_is_not_kept() -> None:
    pair = leaf()
    seen = found(pair)
    assert (seen.problem, seen.key_type) == ("", "ecdsa-p256")
    assert seen.certificate is not None
    assert seen.certificate.public_key_sha256 == seen.key_sha256
    assert "PRIVATE" not in repr(seen)


CONTENT = SecretContent("CERTIFICATE", "KEY", "CA", "kind/name=print")


def decoded(data: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_a_new_secret() -> None:
    spec = {
        "type": "Opaque",
        "certificate_key": "cert.pem",
        "private_key_key": "key.pem",
        "ca_key": "ca.pem",
        "labels": {"tier": "edge"},
        "annotations": {"note": "n", "empty": ""},
    }
    body = secret_content.new_secret(intent(secret=spec), CONTENT)
    assert (body["apiVersion"], body["kind"], body["type"]) == ("v1", "Secret", "Opaque")
    assert decoded(body["data"]) == {"cert.pem": "CERTIFICATE", "key.pem": "KEY", "ca.pem": "CA"}
    assert body["metadata"]["labels"]["tier"] == "edge"
    assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "certflow.kubernetes"
    mark = markers.written("Secret apps/hook-tls", "", "")
    own = {SERVICE: "apps/hook", SIGNER: KUBELET_SERVING, ANCHORS: "kind/name=print", markers.CREATED: mark}
    assert body["metadata"]["annotations"] == {**own, "note": "n", "empty": ""}


def test_another_certificate_leaves_everything_else_alone() -> None:
    obj = secret_object(
        data={"other": encoded("kept"), "ca.crt": encoded("somebody's CA")},
        labels={"team/x": "kept"},
        annotations={LAST_APPLIED: '{"data":{"tls.key":"b2xk"}}', "note": "kept"},
    )
    wanted = intent(secret={"labels": {"team/y": "new"}})
    seen = secret_content.read_secret(obj, wanted.secret)
    after = applied(obj, secret_content.patch_content(seen, wanted, CONTENT))
    assert decoded(after["data"]) == {
        "tls.crt": "CERTIFICATE",
        "tls.key": "KEY",
        "ca.crt": "somebody's CA",
        "other": "kept",
    }
    metadata = after["metadata"]
    assert LAST_APPLIED not in metadata["annotations"], "it holds the old private key"
    assert metadata["annotations"]["note"] == "kept"
    assert metadata["annotations"][ANCHORS] == "kind/name=print"
    assert {"team/x": "kept", "team/y": "new"}.items() <= metadata["labels"].items()
    assert metadata["resourceVersion"] == "12"


@pytest.mark.parametrize(
    ("signer", "held", "after"),
    [
        ("ephemeral-ca", ca(), "CA"),
        ("ephemeral-ca", ca("clients"), ca("clients").pem),
        (KUBELET_SERVING, ca(), ca().pem),
    ],
)
def test_the_ca_of_a_signer_of_before(signer: str, held: Issued, after: str) -> None:
    """Only a CA that this collection made for the certificate is replaced."""
    marks = {**MARKED, "annotations": {**MARKED["annotations"], SIGNER: signer}}
    obj = secret_object(data={"ca.crt": encoded(held.pem)}, **marks)
    patch = secret_content.patch_content(secret_content.read_secret(obj, intent().secret), intent(), CONTENT)
    assert decoded(applied(obj, patch)["data"])["ca.crt"] == after


def renewed(obj: dict[str, Any]) -> dict[str, Any]:
    """Return the Secret with a new certificate and a new key of this collection."""
    pair, seen = leaf(), secret_content.read_secret(obj, intent().secret)
    public = private_keys.public_key_sha256(pair.key.public_key())
    fingerprint = certificate_facts.describe_pem(pair.pem).fingerprint
    content = replace(
        CONTENT, certificate_pem=pair.pem, key_pem=key_pem(pair), key_sha256=public, fingerprint=fingerprint
    )
    return applied(obj, secret_content.patch_content(seen, intent(), content))


@pytest.mark.parametrize("is_created", [True, False])
def test_a_secret_stays_created_or_adopted_at_each_renewal(is_created: bool) -> None:
    """From the first renewal on, an adopted Secret has the label of this collection too."""
    pair = leaf()
    obj = secret_object(pair, **(created(pair) if is_created else {}))
    for _renewal in range(3):
        obj = renewed(obj)
        seen = secret_content.read_secret(obj, intent().secret)
        assert (seen.is_ours, seen.is_created) == (True, is_created)


def signed_again(pair: Issued) -> Issued:
    """Return another certificate for the same key."""
    return leaf(key=pair.key, serial=7)


def own_ca() -> str:
    """Return a CA that this collection made for one certificate."""
    key = private_keys.generate("ecdsa-p256")
    return ephemeral_ca.sign_once(key, common_name="x", usages=["server auth"], lifetime=DAY, now=NOW).ca_pem


OLD = leaf()
#: What is in a Secret with the marks of OLD -> True if this collection wrote it.
CONTENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "the same": ({}, True),
    "another certificate and key": ({"issued": leaf()}, False),
    "another certificate for the same key": ({"issued": signed_again(OLD)}, False),
    "another key": ({"data": {"tls.key": encoded(key_pem(leaf()))}}, True),
    "the same key, and no certificate": ({"data": {"tls.crt": ""}}, True),
    "another key, and no certificate": (
        {"data": {"tls.crt": "", "tls.key": encoded(key_pem(leaf()))}},
        False,
    ),
    "the same certificate, and a damaged key": ({"data": {"tls.key": encoded("damaged")}}, True),
    "a key that cannot be read": ({"data": {"tls.crt": "", "tls.key": "//8="}}, False),
    "a text": ({"data": {"tls.crt": "", "tls.key": encoded("damaged")}}, True),
    "nothing": ({"data": {"tls.crt": "", "tls.key": ""}}, True),
    "a copy with another name": ({"of": intent(secret={"name": "hook-copy"})}, False),
    "a copy in another namespace": ({"of": intent(namespace="other")}, False),
}


@pytest.mark.parametrize(("changed", "is_ours"), CONTENTS.values(), ids=list(CONTENTS))
def test_the_marks_count_for_the_content_and_the_name_that_they_were_written_for(
    changed: dict[str, Any], is_ours: bool
) -> None:
    marks = created(OLD)
    mark = marks["annotations"].pop(markers.CREATED)
    for key in (markers.CREATED, markers.ADOPTED):
        annotations = {**marks["annotations"], key: mark}
        seen = found(**{"issued": OLD, **marks, "annotations": annotations, **changed})
        assert seen.is_ours == is_ours
        assert not seen.is_created or (key == markers.CREATED and seen.key_sha256 == found(OLD).key_sha256)


def test_the_label_of_another_manager_stays() -> None:
    obj = secret_object(labels={"app.kubernetes.io/managed-by": "a-person"})
    after = renewed(obj)
    seen = secret_content.read_secret(after, intent().secret)
    assert (seen.is_ours, seen.is_created) == (True, False)
    left = applied(after, secret_content.patch_without_marks(seen, ""))["metadata"]
    assert (left["labels"], left["annotations"]) == ({"app.kubernetes.io/managed-by": "a-person"}, {})


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "a-person"}])
def test_a_secret_of_another_service_is_known_without_the_label(labels: dict[str, str]) -> None:
    """An adopted Secret keeps the label of its owner, and a person may remove the label."""
    after = renewed(secret_object(labels=labels))
    after["metadata"].update(labels=labels)
    other = replace(intent(), service="other-service")
    with fails("secret-unusable", "apps/hook", "foreign-secret"):
        secret_content.refuse_foreign(secret_content.read_secret(after, other.secret), other)
    secret_content.refuse_foreign(secret_content.read_secret(after, intent().secret), intent())


def test_another_ca_beside_the_certificate_is_content_of_its_owner() -> None:
    """Such as the CA of the clients of an ingress."""
    wanted = intent(secret={"ca_key": "ca.crt"})
    beside: dict[str, Any] = {"data": {"ca.crt": encoded(ca("clients").pem)}}
    with fails("secret-unusable", ca("clients").certificate.subject.rfc4514_string()):
        secret_content.refuse_foreign(found(of=wanted, **beside), wanted)
    secret_content.refuse_foreign(found(of=wanted, data={"ca.crt": encoded(ca().pem)}), wanted)
    secret_content.refuse_foreign(found(**beside), intent())  # it is not written


@pytest.mark.parametrize("key", ["tls.crt", "tls.key"])
def test_a_created_secret_stays_created_after_a_part_of_its_content_was_emptied(key: str) -> None:
    obj = secret_object(OLD, **created(OLD), data={key: ""})
    before = secret_content.read_secret(obj, intent().secret)
    assert (before.is_ours, before.is_created) == (True, False)
    after = secret_content.read_secret(renewed(obj), intent().secret)
    assert after.is_created


def test_a_dry_run_asks_also_if_the_metadata_stays() -> None:
    """Without a request, a renewal would create its CSR before the API server refuses the Secret."""
    issued = leaf()
    obj = secret_object(issued, **created(issued))
    before = secret_content.read_secret(obj, intent().secret)
    obj = applied(obj, secret_content.patch_content(before, intent(), None))
    same = secret_content.read_secret(obj, intent().secret)
    assert secret_content.patch_content(same, intent(), None)


def test_the_trial_touches_no_data() -> None:
    operations = secret_content.patch_content(found(), intent(), None)
    assert operations[0] == {"op": "replace", "path": "/metadata/resourceVersion", "value": "12"}
    assert not [entry for entry in operations if entry["path"].startswith("/data")]


def ours(**changed: Any) -> secret_content.ExistingSecret:
    """As this collection leaves it."""
    labels = secret_content.new_secret(intent(), CONTENT)["metadata"]["labels"]
    return found(**{**MARKED, "labels": labels, **changed})


def test_a_complete_secret_is_not_patched() -> None:
    assert secret_content.patch_metadata(ours(), intent(), ca_pem=ca().pem, anchors="") == []
    assert secret_content.patch_metadata(found(), intent(), ca_pem=ca().pem, anchors="") == []


def test_an_adopted_secret_is_not_marked_as_ours() -> None:
    """Else its next run would want the key to be of our kind, and state absent would delete what it did not make."""
    wanted = intent(secret={"labels": {"tier": "edge"}})
    operations = secret_content.patch_metadata(found(), wanted, ca_pem=ca().pem, anchors="kind/name=print")
    after = applied(secret_object(), operations)["metadata"]
    assert after["labels"] == {"tier": "edge"}
    assert after["annotations"] == {ANCHORS: "kind/name=print"}


def test_the_signer_of_a_certificate_that_stays_is_not_renamed() -> None:
    """Else the next run would take the old certificate for the new signer's."""
    wanted = intent(signer_name="example.com/signer")
    assert secret_content.patch_metadata(ours(), wanted, ca_pem=ca().pem, anchors="") == []


def test_the_record_of_anchors_can_become_empty() -> None:
    seen = ours(annotations={**MARKED["annotations"], ANCHORS: "kind/name=print"})
    operations = secret_content.patch_metadata(seen, intent(), ca_pem=ca().pem, anchors="")
    assert [(entry["op"], ANCHORS.partition("/")[2] in entry["path"]) for entry in operations[1:]] == [
        ("remove", True)
    ]


@pytest.mark.parametrize(
    ("held", "is_written"),
    [
        (ca().pem, False),
        (ca("second").pem + ca().pem, False),
        (ca("second").pem, True),
        ("no certificate", True),
        ("", True),
    ],
)
def test_a_ca_beside_the_certificate_is_kept_up_to_date(held: str, is_written: bool) -> None:
    wanted = intent(secret={"ca_key": "ca.crt"})
    seen = secret_content.read_secret(secret_object(data={"ca.crt": encoded(held)}), wanted.secret)
    operations = secret_content.patch_metadata(seen, wanted, ca_pem=ca().pem, anchors="")
    assert [entry["path"] for entry in operations[1:]] == (["/data/ca.crt"] if is_written else [])
    unnamed = found(data={"ca.crt": encoded(held)})
    assert secret_content.patch_metadata(unnamed, intent(), ca_pem=ca().pem, anchors="") == []


CLIENTS, OTHER_TEAM = ca("clients").pem, ca("team").pem
#: What a Secret of this collection holds beside its certificate -> what stays there beside the wanted CA.
BESIDE_OURS = {
    "the CA of before": (ca().pem, ""),
    "a CA for clients": (ca().pem + CLIENTS, CLIENTS),
    "two of them, one twice": (CLIENTS + ca().pem + OTHER_TEAM + CLIENTS, CLIENTS + OTHER_TEAM),
    "only the CA of another client": (CLIENTS, CLIENTS),
    "the wanted CA": (ca("new").pem + CLIENTS, CLIENTS),
    "a CA of one certificate": (own_ca() + CLIENTS, CLIENTS),
    "a text": ("no certificate", ""),
}


@pytest.mark.parametrize("key", ["ca.crt", "ca.pem"])
@pytest.mark.parametrize(("held", "stays"), BESIDE_OURS.values(), ids=list(BESIDE_OURS))
def test_the_ca_of_another_client_stays_beside_the_own(held: str, stays: str, key: str) -> None:
    """Such as one for the clients of the webhook. The CA that issued the certificate of before is superseded."""
    wanted, new = intent(secret={"ca_key": key}), ca("new").pem
    for renews in (True, False):
        obj = secret_object(OLD, **created(OLD), data={key: encoded(held)})
        seen = secret_content.read_secret(obj, wanted.secret)
        secret_content.refuse_foreign(seen, wanted)
        if renews:
            patch = secret_content.patch_content(seen, wanted, replace(CONTENT, ca_pem=new))
        else:
            patch = secret_content.patch_metadata(seen, wanted, ca_pem=new, anchors="")
        after = decoded(applied(obj, patch)["data"])[key]
        assert set(certificate_facts.load(after)) == set(certificate_facts.load(new + stays))
        assert len(certificate_facts.load(after)) == len(certificate_facts.load(new + stays))
        again = secret_content.read_secret(obj, wanted.secret)
        second = secret_content.patch_metadata(again, wanted, ca_pem=new, anchors="")
        assert not [entry for entry in second if entry["path"].startswith("/data")]


def test_names_of_the_script_are_the_services() -> None:
    assert BY_SCRIPT["issued"].certificate is not None
    assert secret(**BY_SCRIPT).certificate is not None
    assert set(OWN) == set(secret(**BY_SCRIPT).certificate.dns_names)  # type: ignore[union-attr]


# (labels and annotations, signer_name of the task, whether the CA beside the certificate is a candidate)
BESIDE: list[tuple[dict[str, Any], str, bool]] = [
    ({"labels": MARKED["labels"], "annotations": {SIGNER: "ephemeral-ca"}}, "ephemeral-ca", True),
    ({"annotations": {SIGNER: "ephemeral-ca"}}, "ephemeral-ca", False),
    ({"labels": MARKED["labels"]}, "ephemeral-ca", False),
    (MARKED, "ephemeral-ca", False),
    ({"labels": MARKED["labels"], "annotations": {SIGNER: "ephemeral-ca"}}, KUBELET_SERVING, False),
    (MARKED, KUBELET_SERVING, False),
]


@pytest.mark.parametrize(("marks", "signer_name", "counts"), BESIDE)
def test_a_ca_in_the_secret_counts_only_where_this_collection_made_it(
    marks: dict[str, Any], signer_name: str, counts: bool
) -> None:
    wanted = intent(signer_name=signer_name, secret={"ca_key": "ca.crt"})
    held = found(of=wanted, data={"ca.crt": encoded(ca().pem)}, **marks)
    assert secret_content.find_own_ca(held, wanted) == (ca().pem if counts else "")


def test_discovered_targets_are_recorded_and_forgotten() -> None:
    def annotations(discovered: str | None, **present: str) -> dict[str, str]:
        before = secret_object(annotations={"note": "n", **present})
        seen = secret_content.read_secret(before, intent().secret)
        operations = secret_content.patch_metadata(
            seen, intent(), ca_pem=ca().pem, anchors="", discovered=discovered
        )
        result: dict[str, str] = applied(before, operations)["metadata"]["annotations"]
        return result

    assert annotations("kind/name").get(markers.TARGETS) == "kind/name"
    assert markers.TARGETS not in annotations(None)
    assert markers.TARGETS not in annotations("", **{markers.TARGETS: "kind/name"})
