# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a request is not issued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import providers, signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.approval import approval_permissions
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import (
    causes,
    diagnose,
    ended,
    shortened,
    signer_stats,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.diagnosis import Diagnosis, span
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import (
    CertManagerIssuer,
    CsrObservation,
    PublishedCa,
    SignerEvent,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.signer_stats import SignerStats
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.cluster_facts import (
    ManagerFlags,
    ManagerLease,
)

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
    """Of 15 seconds, renewed that long ago."""
    return ManagerLease(ago(**age), timedelta(seconds=15), "one_1a2b")


def flags(*parts: str, **others: str) -> ManagerFlags:
    """With a pair of files for each part ("" for the general one)."""
    pairs = {
        f"cluster-signing-{part + '-' if part else ''}{kind}-file": f"/pki/{kind}"
        for part in parts
        for kind in ("cert", "key")
    }
    return ManagerFlags("kube-controller-manager-one", {**pairs, **others})


def authority(until: datetime, source: str = "ConfigMap a/b", **changed: Any) -> PublishedCa:
    return PublishedCa(source, changed.pop("subject", CA), until, **changed)


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def issued(asked: int | None, *, until: datetime, at: datetime = NOW, **options: Any) -> dict[str, Any]:
    """A request that was issued until then, by CN=cluster."""
    pem = leaf(not_before=min(at, until) - timedelta(minutes=5), not_after=until).pem
    spec: dict[str, Any] = {} if asked is None else {"expirationSeconds": asked}
    return csr(approved(stamp(at)), certificate=pem, **{**spec, **options})


def made(at: datetime) -> dict[str, Any]:
    obj = csr()
    obj["metadata"]["creationTimestamp"] = stamp(at)
    return obj


def diagnosed(obj: dict[str, Any], **seen: Any) -> Diagnosis:
    found = diagnose.diagnose(CsrObservation(obj, NOW, **seen))
    assert found is not None
    return found


WELL = [
    ("issued", csr(approved(), name="csr-x", certificate="PEM"), {"provider": ON_EKS}),
    ("as long as was asked", issued(3600, until=later(hours=1)), {}),
    ("backdated", issued(86400, until=later(hours=23, minutes=55)), {}),
    ("longer than was asked", issued(600, until=later(hours=1)), {}),
    (
        "nothing asked, and soon over",
        issued(None, until=later(days=20)),
        {"authorities": (authority(later(days=99)),)},
    ),
    (
        "to the end of a CA that has long to go",
        issued(None, until=later(days=90)),
        {"authorities": (authority(later(days=90), subject="CN=cluster"),)},
    ),
]


@pytest.mark.parametrize(("obj", "seen"), [row[1:] for row in WELL], ids=[row[0] for row in WELL])
def test_what_is_well_needs_no_diagnosis(obj: dict[str, Any], seen: dict[str, Any]) -> None:
    assert diagnose.diagnose(CsrObservation(obj, NOW, **seen)) is None


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
        "kubelet-serving on EKS, as others before",
        csr(approved()),
        {"provider": ON_EKS, "peers": SignerStats(issued=0, stuck=3)},
        ("signer-not-served", "proven"),
    ),
    (
        "kubelet-serving on EKS, where it has been issued",
        csr(approved()),
        {"provider": ON_EKS, "peers": SignerStats(issued=1, stuck=3)},
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
        {"provider": ON_EKS, "peers": SignerStats(stuck=1)},
        ("signer-not-served", "proven"),
    ),
    (
        "the user's row says that it is right",
        csr(approved()),
        {"provider": replace(ON_EKS, signer=KUBELET_SERVING)},
        ("approved-not-issued", "one of"),
    ),
    # kube-controller-manager
    (
        "its Lease has run out",
        csr(approved()),
        {"lease": lease(seconds=16)},
        ("controller-manager-stopped", "proven"),
    ),
    (
        "its Lease was given back",
        csr(approved()),
        {"lease": ManagerLease(ago(seconds=16), timedelta(seconds=1), "")},
        ("controller-manager-stopped", "proven"),
    ),
    (
        "given back just now, a standby takes it",
        csr(approved()),
        {"lease": ManagerLease(ago(seconds=3), timedelta(seconds=1), "")},
        ("approved-not-issued", "one of"),
    ),
    ("its Lease holds", csr(approved()), {"lease": lease(seconds=14)}, ("approved-not-issued", "one of")),
    (
        "its Lease is days old: leader election may have been switched off",
        csr(approved()),
        {"lease": lease(days=3)},
        ("controller-manager-stopped", "likely"),
    ),
    (
        "it issues without a Lease",
        csr(approved()),
        {"lease": lease(hours=2), "peers": SignerStats(issued=1, last_issued=ago(minutes=5))},
        ("approved-not-issued", "one of"),
    ),
    (
        "its flags say: no leader election",
        csr(approved()),
        {"lease": lease(hours=2), "flags": (flags("", **{"leader-elect": "false"}),)},
        ("approved-not-issued", "one of"),
    ),
    (
        "its Lease says nothing of another signer",
        csr(approved(), signerName=CUSTOM),
        {"lease": lease(hours=2)},
        ("approved-not-issued", "one of"),
    ),
    (
        "stopped or not, EKS does not serve it",
        csr(approved()),
        {"provider": ON_EKS, "lease": None},
        ("signer-not-served", "likely"),
    ),
    ("an external CA", csr(approved()), {"flags": (flags(),)}, ("signer-switched-off", "proven")),
    (
        "an external CA, flags set to nothing",
        csr(approved()),
        {"flags": (flags(**{"cluster-signing-cert-file": "", "cluster-signing-key-file": ""}),)},
        ("signer-switched-off", "proven"),
    ),
    (
        "a pair for another signer",
        csr(approved()),
        {"flags": (flags("kubelet-client", "kube-apiserver-client"),)},
        ("signer-switched-off", "proven"),
    ),
    (
        "a pair of its own",
        csr(approved()),
        {"flags": (flags("kubelet-serving"),)},
        ("approved-not-issued", "one of"),
    ),
    ("the general pair", csr(approved()), {"flags": (flags(""),)}, ("approved-not-issued", "one of")),
    (
        "one of two has a pair",
        csr(approved()),
        {"flags": (flags(), flags(""))},
        ("approved-not-issued", "one of"),
    ),
    (
        "the controller is switched off",
        csr(approved()),
        {"flags": (flags("", controllers="*,-csrsigning"),)},
        ("signer-switched-off", "proven"),
    ),
    (
        "the controller is not among those that run",
        csr(approved()),
        {"flags": (flags("", controllers="namespace,serviceaccount"),)},
        ("signer-switched-off", "proven"),
    ),
    (
        "the controller is among those that run",
        csr(approved()),
        {"flags": (flags("", controllers="certificatesigningrequest-signing-controller"),)},
        ("approved-not-issued", "one of"),
    ),
    # the CA
    (
        "the CA of earlier certificates has expired",
        csr(approved()),
        {"authorities": (authority(ago(days=1)),), "peers": SignerStats(issued=1, issuers=(CA,))},
        ("signing-ca-expired", "likely"),
    ),
    (
        "it has a valid successor of its name",
        csr(approved()),
        {
            "authorities": (authority(ago(days=1)), authority(later(days=9))),
            "peers": SignerStats(issued=1, issuers=(CA,)),
        },
        ("approved-not-issued", "one of"),
    ),
    (
        "another CA has expired",
        csr(approved()),
        {
            "authorities": (authority(ago(days=1), subject="CN=z"),),
            "peers": SignerStats(issued=1, issuers=(CA,)),
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
                authority(ago(days=1), for_requests=True),
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
                authority(later(days=1), for_requests=True),
            )
        },
        ("approved-not-issued", "one of"),
    ),
    (
        "nothing tells which CA a custom signer has",
        csr(approved(), signerName=CUSTOM),
        {"authorities": (authority(ago(days=1)),)},
        ("approved-not-issued", "one of"),
    ),
    (
        "a custom signer's earlier certificates do",
        csr(approved(), signerName=CUSTOM),
        {"authorities": (authority(ago(days=1)),), "peers": SignerStats(issued=1, issuers=(CA,))},
        ("signing-ca-expired", "likely"),
    ),
    # other signers
    (
        "legacy-unknown",
        csr(approved(), signerName=signers.LEGACY_UNKNOWN),
        {"provider": ON_KUBEADM},
        ("legacy-unknown", "likely"),
    ),
    (
        "a slip of the pen",
        csr(approved(), signerName="kubernetes.io/kublet-serving"),
        {"provider": ON_KUBEADM},
        ("no-such-signer", "likely"),
    ),
    (
        "cert-manager is not installed",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"issuer": CertManagerIssuer("ClusterIssuer main", installed=False, exists=False)},
        ("issuer-absent", "proven"),
    ),
    (
        "its issuer does not exist",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"issuer": CertManagerIssuer("ClusterIssuer main", installed=True, exists=False)},
        ("issuer-absent", "proven"),
    ),
    (
        "its issuer exists",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"issuer": CertManagerIssuer("ClusterIssuer main", installed=True, exists=True)},
        ("cert-manager-gate-off", "likely"),
    ),
    (
        "whether its issuer exists is not known",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"issuer": CertManagerIssuer("ClusterIssuer main", installed=None, exists=None)},
        ("cert-manager-gate-off", "likely"),
    ),
    (
        "it has issued before",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"peers": SignerStats(issued=1)},
        ("approved-not-issued", "one of"),
    ),
    (
        "it says why",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"reports": (SignerEvent("cert-manager", "IssuerNotReady", "not ready yet.", warning=True),)},
        ("signer-reports", "likely"),
    ),
    (
        "it says that it waits",
        csr(approved(), signerName=CLUSTER_ISSUER),
        {"reports": (SignerEvent("cert-manager", "WaitingApproval", "waiting", warning=False),)},
        ("approved-not-issued", "one of"),
    ),
    # days later
    ("left over", csr(approved(stamp(ago(days=3)))), {"provider": ON_KUBEADM}, ("left-over", "one of")),
    (
        "left over on EKS",
        csr(approved(stamp(ago(days=3)))),
        {"provider": ON_EKS},
        ("signer-not-served", "likely"),
    ),
    # issued, but
    ("half of what was asked", issued(7200, until=later(hours=1)), {}, ("lifetime-shortened", "proven")),
    ("ten minutes of twenty", issued(1200, until=later(minutes=10)), {}, ("lifetime-shortened", "proven")),
    (
        "cut to the end of the CA",
        issued(7200, until=later(hours=1)),
        {"authorities": (authority(later(hours=1), subject="CN=cluster"),)},
        ("signing-ca-expiring", "proven"),
    ),
    (
        "nothing asked, and cut",
        issued(None, until=later(days=20)),
        {"authorities": (authority(later(days=20), subject="CN=cluster"),)},
        ("signing-ca-expiring", "proven"),
    ),
    # gone
    ("nothing known of it", {"metadata": {"name": "x"}}, {"gone": True}, ("collected", "one of")),
    ("too young to be collected", csr(), {"gone": True}, ("deleted", "likely")),
    ("undecided for a day", made(ago(hours=25)), {"gone": True}, ("collected", "likely")),
    (
        "denied long ago",
        csr(condition("Denied", at=stamp(ago(hours=2)))),
        {"gone": True},
        ("collected", "likely"),
    ),
    (
        "denied lately",
        csr(condition("Denied", at=stamp(ago(minutes=9)))),
        {"gone": True},
        ("deleted", "likely"),
    ),
    (
        "failed long ago",
        csr(approved(), condition("Failed", at=stamp(ago(hours=2)))),
        {"gone": True},
        ("collected", "likely"),
    ),
    ("approved lately", csr(approved(stamp(ago(hours=2)))), {"gone": True}, ("deleted", "likely")),
    (
        "issued long ago",
        issued(None, until=later(days=9), at=ago(hours=2)),
        {"gone": True},
        ("collected", "likely"),
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


def test_every_cause_has_a_row() -> None:
    assert {answer[0] for *_, answer in CODES} == {cause.code for cause in causes.CAUSES} | {"several"}
    assert len({cause.code for cause in causes.CAUSES}) == len(causes.CAUSES)


def test_a_diagnosis_has_the_code_of_its_row() -> None:
    for _title, obj, seen, _answer in CODES:
        observed = CsrObservation(obj, NOW, **seen)
        found = [
            (cause.code, diagnosis.code)
            for cause in causes.CAUSES
            if cause.symptom == observed.symptom and (diagnosis := cause.rule(observed))
        ]
        assert found
        assert all(code == of_diagnosis for code, of_diagnosis in found)


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


@pytest.mark.parametrize("permissions", [{}, {"lacking": ()}, {"lacking": LACKING}])
def test_a_request_that_cannot_be_compared_is_to_be_denied(permissions: dict[str, Any]) -> None:
    """It may come from another identity, which wants a person to approve it."""
    found = diagnosed(csr(pem=request() + request()), **permissions)
    assert found.code in ("never-approved", "no-right-to-approve")
    assert "kubectl certificate deny hook-apps-1a2b" in found.remedy
    assert "kubectl certificate approve" not in found.remedy


def test_who_may_not_approve_gets_the_rule() -> None:
    found = diagnosed(csr(), lacking=LACKING)
    assert "lacks the right to approve signers kubernetes.io/kubelet-serving" in found.cause
    assert found.remedy.endswith("resourceNames: ['kubernetes.io/kubelet-serving'], verbs: [approve]}]}")
    may = diagnosed(csr(), lacking=())
    assert "this identity may approve requests for kubernetes.io/kubelet-serving" in may.evidence
    unread = diagnosed(csr(), unreadable=("cannot read the right to approve",))
    assert "cannot read the right to approve" in unread.evidence


FORESEEN: list[tuple[dict[str, Any], str]] = [
    ({"provider": ON_EKS}, "The signer kubernetes.io/kubelet-serving will not issue"),
    ({"lease": lease(hours=1)}, "kube-controller-manager does not run"),
    ({"flags": (flags(),)}, "kube-controller-manager has no CA"),
    ({"authorities": (authority(ago(days=1)),)}, "expired"),
]


@pytest.mark.parametrize(("seen", "words"), FORESEEN)
def test_never_approved_warns_when_approval_would_not_help(seen: dict[str, Any], words: str) -> None:
    for permissions in ({}, {"lacking": LACKING}):
        found = diagnosed(csr(), **seen, **permissions)
        assert found.code in ("never-approved", "no-right-to-approve")
        [warning] = [text for text in found.evidence if text.startswith("approval alone will not help: ")]
        assert words in warning
    assert "kubectl certificate approve" not in diagnosed(csr(), **seen).remedy


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


@pytest.mark.parametrize("row", ended.DENIALS, ids=lambda row: row.text)
def test_denials_of_known_controllers(row: ended.KnownMessage) -> None:
    found = diagnosed(
        csr(condition("Denied", "kubelet-serving cert denied", f"not complying with {row.text} rules"))
    )
    assert row.says in found.evidence
    assert found.remedy.startswith(row.remedy)


@pytest.mark.parametrize("row", ended.REFUSALS, ids=lambda row: row.text)
def test_refusals_of_other_signers(row: ended.KnownMessage) -> None:
    found = diagnosed(
        csr(approved(), condition("Failed", row.text, "as they say"), signerName=CLUSTER_ISSUER)
    )
    assert row.says in found.evidence
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


@pytest.mark.parametrize(
    ("seen", "there", "absent"),
    [
        ({}, ["no such signer", "does not run", "missing", "slow"], []),
        ({"lease": lease(seconds=2)}, ["missing"], ["does not run"]),
        ({"flags": (flags(""),)}, ["does not run", "has expired"], ["no such signer", "missing"]),
        ({"peers": SignerStats(issued=3)}, ["slow"], ["no such signer"]),
    ],
)
def test_what_the_evidence_excludes_is_not_named(
    seen: dict[str, Any], there: list[str], absent: list[str]
) -> None:
    found = diagnosed(csr(approved()), **seen)
    assert [word for word in there if word not in found.cause] == []
    assert [word for word in absent if word in found.cause] == []


def test_the_unexplained_tells_all_that_was_seen() -> None:
    peers = SignerStats(issued=2, stuck=3, last_issued=ago(hours=1), oldest_stuck=ago(days=2))
    seen = {
        "lease": lease(seconds=2),
        "flags": (flags(""),),
        "peers": peers,
        "unreadable": ("cannot read x: no",),
    }
    text = " | ".join(diagnosed(csr(approved()), **seen).evidence)
    for part in (
        "2 other requests of this signer were issued, the last one approved at 2026-09-01 11:00:00 UTC",
        "3 other requests of this signer are stuck too, the oldest one approved at 2026-08-30 12:00:00 UTC",
        "it renewed its Lease at 2026-09-01 11:59:58 UTC",
        "--cluster-signing-cert-file=/pki/cert",
        "cannot read x: no",
    ):
        assert part in text


def test_a_stopped_controller_manager_in_words() -> None:
    found = diagnosed(csr(approved()), lease=lease(minutes=3))
    assert "renewed its Lease 3 minutes ago for the last time" in found.cause
    assert any(
        "last renewed at 2026-09-01 11:57:00 UTC, holds for 15 seconds, holder one_1a2b" in e
        for e in found.evidence
    )


def test_an_external_ca_tells_which_signers_are_served() -> None:
    found = diagnosed(csr(approved()), flags=(flags("kubelet-client"),))
    assert "it issues for: kubernetes.io/kube-apiserver-client-kubelet" in found.evidence
    assert "--cluster-signing-kubelet-serving-cert-file" in found.cause


def test_a_slip_of_the_pen_is_corrected() -> None:
    found = diagnosed(csr(approved(), signerName="kubernetes.io/kubelet-servings"))
    assert KUBELET_SERVING in found.remedy
    assert "signer that exists" in diagnosed(csr(approved(), signerName="kubernetes.io/xyz")).remedy


def test_a_shortened_lifetime_in_words() -> None:
    obj = issued(2 * 365 * 86400, until=later(days=365), signerName=APP_SERVING)
    found = diagnosed(obj, provider=ON_EKS)
    assert "asked for 730 days and was issued for 365 days" in found.cause
    assert "eks issues for 365 days at most" in found.evidence


def test_a_warning_for_what_no_table_foresaw() -> None:
    serving, eks = (signers.find_signer(name) for name in (KUBELET_SERVING, APP_SERVING))
    week, years = (signers.CertificateRequest(expiration_seconds=days * 86400) for days in (7, 730))
    [text] = shortened.warnings(serving, week, timedelta(days=1))
    assert text == (
        "the signer kubernetes.io/kubelet-serving issued for 24 hours, not for the 7 days that were asked for"
    )
    assert shortened.warnings(serving, week, timedelta(days=7, minutes=-5)) == ()
    assert shortened.warnings(serving, signers.CertificateRequest(), timedelta(days=1)) == ()
    assert shortened.warnings(eks, years, timedelta(days=365)) == (), "that was told before"


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
def test_spans(seconds: int, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def requests() -> Iterator[dict[str, Any]]:
    long_ago, lately = "2026-09-01T11:00:00Z", "2026-09-01T11:59:00Z"
    yield csr(approved(long_ago), name="me")
    yield csr(approved(long_ago), name="a", certificate=leaf().pem)
    yield csr(approved("2026-09-01T10:00:00Z"), name="a2", certificate=leaf(by=ca("other")).pem)
    yield csr(approved("2026-09-01T09:00:00Z"), name="a3", certificate="PEM")
    yield csr(approved("2026-08-30T11:00:00Z"), name="b")
    yield csr(approved(lately), name="c")
    yield csr(approved(long_ago), condition("Failed"), name="d")
    yield csr(condition("Denied"), name="e")
    yield csr(name="f")
    yield csr(approved(long_ago), name="g", certificate="PEM", username="system:node:one")
    undated = csr(approved(long_ago), name="h")
    del undated["status"]["conditions"][0]["lastUpdateTime"]
    yield undated


def test_peers() -> None:
    all_csrs = list(requests())
    me, at_eleven = all_csrs[0], NOW - timedelta(hours=1)
    counted = signer_stats.count_requests(signer_stats.without_nodes(all_csrs), NOW)
    assert counted == SignerStats(
        issued=3,
        pending=1,
        stuck=3,
        last_issued=at_eleven,
        oldest_stuck=ago(days=2, hours=1),
        issuers=("CN=cluster", "CN=other"),
    )
    assert counted.beside(me, NOW) == replace(counted, stuck=2)
    assert counted.beside(csr(approved(), username="system:node:one"), NOW) == counted, "it was not counted"
    assert signer_stats.count_requests((), NOW).beside(me, NOW) == SignerStats(), "it is not on that page"
    assert signer_stats.count_requests(all_csrs, NOW).issued == 4, "with nodes"
    assert signer_stats.count_requests(all_csrs, NOW - timedelta(minutes=55)).stuck == 1
