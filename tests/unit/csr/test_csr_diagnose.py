# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a request is not issued."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import _diagnose, _providers, _signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr._diagnose import (
    Diagnosis,
    Observation,
    Peers,
)

from tests.unit.csr.objects import (
    APP_SERVING,
    EKS,
    KUBEADM_CONFIG,
    KUBELET_SERVING,
    NOW,
    approved,
    condition,
    csr,
    facts,
)

pytestmark = pytest.mark.quick

ON_EKS = _providers.detect(EKS)
ON_KUBEADM = _providers.detect(facts(config_maps=KUBEADM_CONFIG))
UNKNOWN = _providers.detect({})
CLIENT = "kubernetes.io/kube-apiserver-client"


def diagnosed(obj: dict[str, Any], **seen: Any) -> Diagnosis:
    found = _diagnose.diagnose(Observation(obj, NOW, **seen))
    assert found is not None
    return found


def test_issued_needs_no_diagnosis() -> None:
    obj = csr(approved(), name="csr-x", certificate="PEM")
    assert _diagnose.diagnose(Observation(obj, NOW, ON_EKS)) is None


CODES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str]]] = [
    ("pending", csr(), {}, ("never-approved", "proven")),
    ("denied", csr(condition("Denied")), {"provider": ON_EKS}, ("denied", "proven")),
    ("failed", csr(approved(), condition("Failed")), {"provider": ON_EKS}, ("failed", "proven")),
    ("denied and failed", csr(condition("Failed"), condition("Denied")), {}, ("denied", "proven")),
    ("approved, nothing known", csr(approved()), {}, ("approved-not-issued", "one of")),
    ("approved, provider unknown", csr(approved()), {"provider": UNKNOWN}, ("approved-not-issued", "one of")),
    ("approved on kubeadm", csr(approved()), {"provider": ON_KUBEADM}, ("approved-not-issued", "one of")),
    ("kubelet-serving on EKS", csr(approved()), {"provider": ON_EKS}, ("signer-not-served", "likely")),
    (
        "kubelet-serving on EKS, as others before",
        csr(approved()),
        {"provider": ON_EKS, "peers": Peers(issued=0, stuck=3)},
        ("signer-not-served", "proven"),
    ),
    (
        "kubelet-serving on EKS, where it has been issued",
        csr(approved()),
        {"provider": ON_EKS, "peers": Peers(issued=1, stuck=3)},
        ("approved-not-issued", "one of"),
    ),
    (
        "a kubelet's own on EKS",
        csr(approved(), username="system:node:one"),
        {"provider": ON_EKS},
        ("approved-not-issued", "one of"),
    ),
    (
        "a client certificate on EKS",
        csr(approved(), signerName=CLIENT),
        {"provider": ON_EKS},
        ("signer-not-served", "likely"),
    ),
    (
        "app-serving on kubeadm",
        csr(approved(), signerName=APP_SERVING),
        {"provider": ON_KUBEADM},
        ("signer-not-served", "likely"),
    ),
    (
        "app-serving on EKS",
        csr(approved(), signerName=APP_SERVING),
        {"provider": ON_EKS},
        ("approved-not-issued", "one of"),
    ),
    (
        "another signer on EKS",
        csr(approved(), signerName="example.com/x"),
        {"provider": ON_EKS},
        ("approved-not-issued", "one of"),
    ),
    (
        "csr- on EKS",
        csr(approved(), name="csr-x", signerName=APP_SERVING),
        {"provider": ON_EKS},
        ("name-never-issued", "likely"),
    ),
    (
        "csr- elsewhere",
        csr(approved(), name="csr-x"),
        {"provider": ON_KUBEADM},
        ("approved-not-issued", "one of"),
    ),
    ("csr- and the wrong signer", csr(approved(), name="csr-x"), {"provider": ON_EKS}, ("several", "one of")),
    (
        "csr- and a signer proven wrong",
        csr(approved(), name="csr-x"),
        {"provider": ON_EKS, "peers": Peers(0, 1)},
        ("signer-not-served", "proven"),
    ),
    (
        "the user's row says that it is right",
        csr(approved()),
        {"provider": replace(ON_EKS, signer=KUBELET_SERVING)},
        ("approved-not-issued", "one of"),
    ),
]


@pytest.mark.parametrize(("obj", "seen", "answer"), [row[1:] for row in CODES], ids=[row[0] for row in CODES])
def test_code_and_certainty(obj: dict[str, Any], seen: dict[str, Any], answer: tuple[str, str]) -> None:
    found = diagnosed(obj, **seen)
    assert (found.code, found.certainty) == answer
    assert found.evidence
    assert found.remedy
    assert "\n" not in found.cause
    assert found.cause.endswith(".")


def test_every_code_of_the_table_is_reached() -> None:
    assert {answer[0] for *_, answer in CODES} == {
        "never-approved", "denied", "failed", "signer-not-served", "name-never-issued", "several", "approved-not-issued",
    }  # fmt: skip


def test_kubelet_serving_on_eks_in_words() -> None:
    found = diagnosed(csr(approved()), provider=ON_EKS)
    assert found.cause == (
        "The signer kubernetes.io/kubelet-serving will not issue request hook-apps-1a2b on this cluster (eks): "
        "Amazon EKS issues it to real kubelets alone, whose names it checks."
    )
    assert found.remedy == f"Use signer_name: {APP_SERVING}."
    assert "eks: version v1.36.3-eks-3c42bf9" in found.evidence


def test_never_approved_tells_how() -> None:
    found = diagnosed(csr())
    assert found.cause == "Nobody has approved request hook-apps-1a2b yet."
    assert "kubectl certificate approve hook-apps-1a2b" in found.remedy


def test_never_approved_warns_when_approval_would_not_help() -> None:
    found = diagnosed(csr(), provider=ON_EKS)
    assert found.code == "never-approved"
    assert any(text.startswith("approval alone will not help: The signer") for text in found.evidence)
    assert APP_SERVING in found.remedy


def test_denied_names_the_client_and_claims_no_more() -> None:
    fields = [
        {"manager": "deployer", "operation": "Update"},
        {"manager": "kubelet-csr-approver", "operation": "Update", "subresource": "approval"},
    ]
    denied = condition("Denied", "PolicyDenied", "DNS name\nnot resolved.")
    found = diagnosed(csr(denied, managed_fields=fields))
    assert found.cause == "Request hook-apps-1a2b was denied: PolicyDenied: DNS name not resolved."
    assert "by the client kubelet-csr-approver " in found.evidence[0]
    assert "deployer" not in " ".join(found.evidence)
    assert "audit log" in found.evidence[1]


def test_denied_without_a_word() -> None:
    assert diagnosed(csr(condition("Denied"))).cause == "Request hook-apps-1a2b was denied: no reason given."


MESSAGES = [
    (name, rule.text + part)
    for name, row in _signers.SIGNERS.items()
    for rule in row.rules
    for part in ("", "server auth")
]


@pytest.mark.parametrize(("signer_name", "message"), MESSAGES)
def test_failed_with_a_known_message_has_its_own_remedy(signer_name: str, message: str) -> None:
    failed = condition("Failed", "SignerValidationFailure", message)
    found = diagnosed(csr(approved(), failed, signerName=signer_name))
    assert " ".join(message.split()) in found.cause
    assert found.remedy.startswith(_signers.remedy_for(signer_name, message))
    assert "Change what the signer objects to" not in found.remedy
    assert found.remedy.endswith("A failed request is spent: make a new one.")


def test_failed_with_an_unknown_message() -> None:
    found = diagnosed(csr(approved(), condition("Failed", "X", "the dog ate it")))
    assert found.remedy.startswith("Change what the signer objects to.")
    assert "the dog ate it" in found.cause


def test_likely_causes_are_listed_together() -> None:
    found = diagnosed(csr(approved(), name="csr-x"), provider=ON_EKS)
    assert found.cause.startswith("One of: (1) The signer kubernetes.io/kubelet-serving")
    assert " (2) Request csr-x has a name that eks never issues: it begins with 'csr-'." in found.cause
    assert len(found.evidence) == len(set(found.evidence))


def test_peers() -> None:
    long_ago, lately = "2026-09-01T11:00:00Z", "2026-09-01T11:59:00Z"
    undated = csr(approved(), name="h")
    del undated["status"]["conditions"][0]["lastUpdateTime"]
    me = csr(approved(long_ago), name="me")
    all_csrs = [
        me,
        csr(approved(long_ago), name="a", certificate="PEM"),
        csr(approved(long_ago), name="b"),
        csr(approved(lately), name="c"),
        csr(approved(long_ago), condition("Failed"), name="d"),
        csr(condition("Denied"), name="e"),
        csr(name="f"),
        csr(approved(long_ago), name="g", certificate="PEM", username="system:node:one"),
        undated,
    ]
    counted = _diagnose.count(all_csrs, NOW)
    assert counted == Peers(issued=1, stuck=3)
    assert counted.beside(me, NOW) == Peers(issued=1, stuck=2)
    assert _diagnose.count((), NOW).beside(me, NOW) == Peers(issued=0, stuck=0), "it is not on that page"
    assert _diagnose.count(all_csrs, NOW - timedelta(minutes=55)) == Peers(issued=1, stuck=0)
