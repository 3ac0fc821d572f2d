# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the tables of signers, providers and causes with real control planes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import RequestError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.usages import (
    USAGES,
    is_client_identity,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import cluster_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import AuthenticationError

from tests.support.certificates.csr_by_hand import (
    connected,
    connected_as,
    create,
    decide,
    explained,
    settled,
    with_usages,
)
from tests.support.certificates.signer_requests import (
    APP_SERVING,
    CUSTOM,
    GOOD,
    KUBELET_SERVING,
    REFUSED,
    TAKEN,
)
from tests.support.clusters import AdminApiError, pki
from tests.support.failures import absent

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Fleet

BUILT_IN = [name for name in GOOD if name.startswith("kubernetes.io/")]
# Refusals of the API server begin so. All others are refusals of the signer.
AT_CREATE = ("spec.", "use of ")
SIGNERS_WORDS = [row for row in REFUSED if row[0] in BUILT_IN and not row[2][0].startswith(AT_CREATE)]
TYPE_ERROR = "int32"  # An error while the API server decodes the request, in the words of the decoder.
SERVERS_WORDS = [row for row in REFUSED if row[2][0].startswith(AT_CREATE) and TYPE_ERROR not in row[2][0]]


def test_the_controller_manager_refuses_with_the_messages_of_the_table(fleet: Fleet) -> None:
    """All requests wait at the same time.

    The controller-manager stops at its first error, and the table lists them all.
    """
    cluster = fleet["onprem"]
    sent = [
        (decide(cluster, create(cluster, name, replace(GOOD[name], **changes))), texts)
        for name, changes, texts in SIGNERS_WORDS
    ]
    assert len(sent) > 10
    for csr, texts in sent:
        found = settled(cluster, csr)
        assert csr_content.condition_text(found) == "Approved,Failed"
        failed = csr_content.condition_of(found, "Failed")
        assert failed is not None
        assert failed["message"] == texts[0]
        diagnosis = explained(cluster, found)
        assert diagnosis is not None
        assert (diagnosis.code, diagnosis.certainty) == ("failed", "proven")
        assert diagnosis.remedy.startswith(signers.remedy_for(csr["spec"]["signerName"], texts[0]))


@pytest.mark.parametrize(("name", "changes", "texts"), SERVERS_WORDS)
def test_the_api_server_refuses_the_requests_of_the_table(
    fleet: Fleet, name: str, changes: dict[str, Any], texts: list[str]
) -> None:
    with pytest.raises(AdminApiError) as caught:
        create(fleet["onprem"], name, replace(GOOD[name], **changes))
    assert caught.value.status in {403, 422}
    for part in texts[0].replace("spec.expirationSeconds: ", "").split(": "):
        assert part in caught.value.message
    assert signers.remedy_for(name, texts[0])


@pytest.mark.parametrize(
    "row", [row for row in REFUSED if TYPE_ERROR in row[2][0]], ids=lambda row: str(row[1])
)
def test_the_api_server_cannot_decode_such_requests_of_the_table(fleet: Fleet, row: Any) -> None:
    with pytest.raises(AdminApiError) as caught:
        create(fleet["onprem"], row[0], replace(GOOD[row[0]], **row[1]))
    assert caught.value.status == 400
    assert f"expirationSeconds of type {TYPE_ERROR}" in caught.value.message, "the API server's own words"


def test_the_accepted_requests_of_the_table_are_issued(fleet: Fleet) -> None:
    cluster = fleet["onprem"]
    sent = [
        decide(cluster, create(cluster, name, replace(GOOD[name], **changes)))
        for name, changes in TAKEN
        if name in BUILT_IN
    ]
    assert len(sent) > 5
    for csr in sent:
        found = settled(cluster, csr)
        assert csr_content.condition_text(found) == "Approved,Issued"
        assert explained(cluster, found) is None
        assert "BEGIN CERTIFICATE" in csr_content.certificate_of(found)


# All pairs with server auth, and other usages that a signer might accept.
COMBINATIONS = [
    (),
    *((name,) for name in USAGES),
    *(("server auth", name) for name in USAGES if name != "server auth"),
    ("digital signature", "key encipherment"),
    ("code signing", "client auth"),
    ("timestamping", "any"),
    ("code signing", "email protection"),
]


def test_the_api_server_accepts_the_logins_of_the_table(fleet: Fleet) -> None:
    cluster = fleet["onprem"]
    ca = pki.KeyPair.read(cluster.directory / "pki", "ca")
    ours = {usages: is_client_identity(usages) for usages in COMBINATIONS}
    assert {name: ours[name,] for name in USAGES} == {name: row.is_login for name, row in USAGES.items()}
    theirs = {usages: _logs_in(cluster, with_usages(ca, "mallory", usages)) for usages in COMBINATIONS}
    assert theirs == ours


def _logs_in(cluster: Cluster, pair: pki.KeyPair) -> bool:
    client = connected_as(cluster, pair)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        user = client.review("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)["status"]["userInfo"]
    except AuthenticationError:
        return False
    finally:
        client.close()
    assert (user["username"], "system:masters" in user["groups"]) == ("mallory", True)
    return True


def test_the_api_server_refuses_legacy_unknown(fleet: Fleet) -> None:
    with pytest.raises(AdminApiError) as caught:
        create(fleet["onprem"], signers.LEGACY_UNKNOWN, GOOD[KUBELET_SERVING])
    assert "spec.signerName" in caught.value.message


@pytest.mark.parametrize(
    "name",
    ["a.b/c.d-e.f", "example/a", "example.com/", "example.com/a/b", "Example.com/a", "example.com/a_b"],
)
def test_signer_names_are_valid_if_the_api_server_accepts_them(fleet: Fleet, name: str) -> None:
    try:
        signers.find_signer(name)
        ours = True
    except RequestError:
        ours = False
    try:
        create(fleet["onprem"], name, GOOD[CUSTOM])
        theirs = True
    except AdminApiError as error:
        assert error.status == 422
        theirs = False
    assert ours == theirs


@pytest.mark.parametrize(
    ("cluster", "provider", "signer"),
    [("onprem", "kubeadm", KUBELET_SERVING), ("eks", "eks", APP_SERVING)],
)
def test_each_cluster_has_its_provider(fleet: Fleet, cluster: str, provider: str, signer: str) -> None:
    facts = cluster_facts.read_cluster_facts(connected(fleet[cluster]))
    verdict = providers.detect(facts)
    assert (verdict.name, verdict.signer, verdict.contradictions) == (provider, signer, ())
    assert facts["unreadable"] == {}
    assert facts["service_networks"]


def test_kubelet_serving_on_eks_is_explained(fleet: Fleet) -> None:
    cluster = fleet["eks"]
    pending = create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING])
    before = explained(cluster, pending)
    assert before is not None
    assert before.code == "never-approved"
    found = settled(cluster, decide(cluster, pending), seconds=3)
    after = explained(cluster, found)
    assert after is not None
    assert after.code == "signer-not-served"
    assert after.is_settled
    assert APP_SERVING in after.remedy
    assert any("RulesTest" in text for text in after.evidence)


def test_a_name_that_eks_never_issues_is_explained(fleet: Fleet) -> None:
    cluster = fleet["eks"]
    sent = [
        decide(cluster, create(cluster, APP_SERVING, GOOD[APP_SERVING], prefix))
        for prefix in ("csr", "rules")
    ]
    assert csr_content.condition_text(settled(cluster, sent[1])) == "Approved,Issued"
    found = explained(cluster, settled(cluster, sent[0], seconds=2))
    assert found is not None
    assert found.code == "name-never-issued"


def test_a_denial_names_the_client(fleet: Fleet) -> None:
    cluster = fleet["onprem"]
    denied = decide(cluster, create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING]), "Denied")
    found = explained(cluster, denied)
    assert found is not None
    assert (found.code, found.certainty) == ("denied", "proven")
    assert not absent(["RulesTest:"], found.cause)
    assert not absent(["clusters"], found.evidence[0])
