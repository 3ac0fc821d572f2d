# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Providers are recognised by the facts about a cluster."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import ProviderError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.objects import (
    APP_SERVING,
    EKS,
    EKS_NODE,
    EKS_ROLES,
    KUBEADM_CONFIG,
    KUBELET_SERVING,
    facts,
)

pytestmark = pytest.mark.quick

EKS_VERSION = "v1.36.3-eks-3c42bf9"
ON_EC2 = {"provider_id": "aws:///eu-west-1a/i-0"}
CRI_SOCKET = {
    "annotations": {"kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock"}
}


def label(key: str) -> dict[str, Any]:
    return {"labels": {key: "true"}}


def annotation(key: str) -> dict[str, Any]:
    return {"annotations": {key: "true"}}


#: The signers of providers that do not use kubernetes.io/kubelet-serving.
OTHER_SIGNERS = {"eks": APP_SERVING, "aks": "", "gke": "", "gardener": ""}
RECOGNISED: list[tuple[str, str, dict[str, Any]]] = [
    ("all marks of EKS", "eks", EKS),
    ("EKS, nothing readable but the version and its address", "eks",
     facts(EKS_VERSION, api_host="0A1B.gr7.eu-west-1.eks.amazonaws.com", unreadable={"nodes": "forbidden"})),
    ("EKS in China", "eks", facts(EKS_VERSION, api_host="0A1B.yl4.cn-north-1.eks.amazonaws.com.cn")),
    ("EKS behind a proxy", "eks", facts(EKS_VERSION, cluster_roles=EKS_ROLES[:1])),
    ("EKS, nodes alone", "eks", facts("", nodes=(EKS_NODE,))),
    ("EKS Anywhere", "eks-anywhere", facts(EKS_VERSION, config_maps=KUBEADM_CONFIG)),
    ("EKS Anywhere, ConfigMaps hidden", "eks-anywhere", facts(EKS_VERSION, nodes=(CRI_SOCKET,))),
    ("EKS Anywhere, management cluster", "eks-anywhere", facts(EKS_VERSION, groups=("anywhere.eks.amazonaws.com",))),
    ("kubeadm", "kubeadm", facts(config_maps=KUBEADM_CONFIG)),
    ("kubeadm on EC2", "kubeadm", facts(config_maps=KUBEADM_CONFIG, nodes=(ON_EC2,))),
    ("kubeadm, ConfigMaps hidden", "kubeadm", facts(nodes=(CRI_SOCKET,))),
    ("a pre-release by kubeadm", "kubeadm", facts("v1.37.0-beta.0", config_maps=KUBEADM_CONFIG, nodes=(CRI_SOCKET,))),
    ("kind", "kubeadm", facts(nodes=({"provider_id": "kind://docker/kind/kind-control-plane"},))),
    ("minikube", "kubeadm", facts(nodes=(label("minikube.k8s.io/name"),))),
    ("OpenShift", "openshift", facts("v1.32.5", groups=("config.openshift.io", "security.openshift.io"))),
    ("OKD by its nodes", "openshift", facts(groups=("config.openshift.io",), nodes=(label("node.openshift.io/os_id"),))),
    ("k3s", "k3s", facts("v1.33.1+k3s1")),
    ("k3s on EC2", "k3s", facts("v1.33.1+k3s1", nodes=(ON_EC2,))),
    ("RKE2", "rke2", facts("v1.33.1+rke2r1")),
    ("k0s", "k0s", facts("v1.33.1+k0s")),
    ("Talos", "talos", facts(nodes=({"os_image": "Talos (v1.10.3)"},))),
    ("kOps", "kops", facts(nodes=({**ON_EC2, **label("kops.k8s.io/instancegroup")},))),
    ("kOps with EKS Distro", "kops", facts(EKS_VERSION, nodes=({**ON_EC2, **label("kops.k8s.io/instancegroup")},))),
    ("MicroK8s", "microk8s", facts(nodes=(label("microk8s.io/cluster"),))),
    ("AKS by its nodes", "aks", facts(nodes=({"provider_id": "azure:///subscriptions/0/x", **label("kubernetes.azure.com/cluster")},))),
    ("AKS by its address alone", "aks", facts(api_host="shop-dns-0a1b2c3d.hcp.westeurope.azmk8s.io")),
    ("private AKS", "aks", facts(api_host="shop-0a1b2c3d.0a1b.privatelink.westeurope.azmk8s.io")),
    ("AKS in China", "aks", facts(api_host="shop-0a1b.hcp.chinaeast2.cx.prod.service.azk8s.cn")),
    ("GKE by its nodes", "gke",
     facts("v1.33.5-gke.1080000",
           nodes=({"provider_id": "gce://shop/europe-west1-b/gke-0", **label("cloud.google.com/gke-nodepool")},))),
    ("GKE by its DNS endpoint", "gke", facts("v1.33.5-gke.1080000", api_host="gke-0a1b-1234.europe-west1.gke.goog")),
    ("Gardener", "gardener", facts(nodes=(label("worker.gardener.cloud/pool"),))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "seen"), [row[1:] for row in RECOGNISED], ids=[row[0] for row in RECOGNISED]
)
def test_recognised(name: str, seen: dict[str, Any]) -> None:
    verdict = providers.detect(seen)
    assert (verdict.name, verdict.contradictions) == (name, ())
    assert verdict.signer == OTHER_SIGNERS.get(name, KUBELET_SERVING)
    assert verdict.evidence
    assert verdict.row is not None
    assert verdict.row.name == name


UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    ("nothing", facts("")),
    ("an empty dictionary", {}),
    ("a plain version alone", facts()),
    ("-eks- in the version alone", facts(EKS_VERSION)),
    ("EKS Distro on EC2", facts(EKS_VERSION, nodes=(ON_EC2,))),
    ("EC2 alone", facts(nodes=(ON_EC2,))),
    ("kubeadm-config alone", facts("v1.33.1-gke.100", config_maps=KUBEADM_CONFIG)),
    ("-gke. in the version alone", facts("v1.33.5-gke.1080000")),
    ("Google Distributed Cloud", facts("v1.33.5-gke.100", nodes=(label("baremetal.cluster.gke.io/k8s-ip"),))),
    ("a node on Azure", facts(nodes=({"provider_id": "azure:///subscriptions/0/x"},))),
    ("an address like AKS'", facts(api_host="azmk8s.io.example.com")),
    ("a CRD of OpenShift's", facts(groups=("config.openshift.io",))),
    ("a role called like EKS'", facts(cluster_roles=EKS_ROLES)),
]


@pytest.mark.parametrize("seen", [row[1] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_one_mark_is_not_enough(seen: dict[str, Any]) -> None:
    verdict = providers.detect(seen)
    assert (verdict.name, verdict.signer, verdict.row, verdict.contradictions) == ("unknown", "", None, ())


def test_every_row_is_recognised_above() -> None:
    assert {row[1] for row in RECOGNISED} == {row.name for row in providers.PROVIDERS}
    assert all(row.source and row.ca for row in providers.PROVIDERS)


def test_unknown_shows_all_that_was_seen() -> None:
    verdict = providers.detect(facts(EKS_VERSION, nodes=(ON_EC2,), unreadable={"cluster_roles": "no right"}))
    assert verdict.evidence == (
        f"eks: version {EKS_VERSION}",
        "eks: node provider ID aws:///eu-west-1a/i-0",
        f"eks-anywhere: version {EKS_VERSION}",
        "cannot read cluster_roles: no right",
    )


def test_contradiction_is_unknown() -> None:
    verdict = providers.detect(facts(EKS_VERSION, cluster_roles=EKS_ROLES, config_maps=KUBEADM_CONFIG))
    assert verdict.name == "unknown"
    assert "eks: ClusterRole eks:certificate-controller-approver, eks:certificate-controller-signer" in (
        verdict.contradictions
    )
    assert "eks-anywhere: ConfigMap kube-system/kubeadm-config" in verdict.contradictions


def test_weaker_marks_of_another_are_told() -> None:
    seen = facts(EKS_VERSION, cluster_roles=EKS_ROLES, groups=("config.openshift.io",))
    verdict = providers.detect(seen)
    assert verdict.name == "eks"
    assert verdict.contradictions == ("openshift: API group config.openshift.io",)


def test_evidence_is_short() -> None:
    keys = {f"eks.amazonaws.com/{number}": "" for number in range(5)}
    verdict = providers.detect(facts(EKS_VERSION, nodes=({"labels": keys}, {"labels": keys})))
    assert verdict.evidence[1] == (
        "node label eks.amazonaws.com/0, eks.amazonaws.com/1, eks.amazonaws.com/2 and 2 more"
    )


def test_row_of_the_user_is_added_and_asked_first() -> None:
    own = {"ours": {"rule": "contains(version.gitVersion, '-eks-')", "serving_signer": "example.com/ours"}}
    verdict = providers.detect(EKS, own)
    assert (verdict.name, verdict.signer) == ("ours", "example.com/ours")
    assert verdict.evidence == ("the user's rule holds: True",)
    assert providers.detect(facts(config_maps=KUBEADM_CONFIG), own).name == "kubeadm"


def test_two_rows_of_the_user_contradict_each_other() -> None:
    rules = {name: {"rule": "length(nodes)"} for name in ("one", "two")}
    verdict = providers.detect(EKS, rules)
    assert verdict.name == "unknown"
    assert verdict.contradictions == ("one: the user's rule holds: 1", "two: the user's rule holds: 1")


def test_row_of_the_user_changes_what_it_names() -> None:
    override = {
        "serving_signer": "example.com/ours",
        "forbidden_prefixes": ["x-"],
        "rule": None,
    }
    verdict = providers.detect(EKS, {"eks": override})
    assert (verdict.name, verdict.signer) == ("eks", "example.com/ours")
    assert verdict.row is not None
    assert verdict.row.forbidden_prefixes == ("x-",)
    assert verdict.row.longest_lifetime_seconds == 365 * 24 * 3600


def test_rule_of_the_user_replaces_the_marks() -> None:
    assert providers.detect(EKS, {"eks": {"rule": "`false`"}}).name == "unknown"


def test_only_a_rule_of_the_user_needs_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    assert providers.detect(EKS).name == "eks"
    with pytest.raises(ProviderError) as caught:
        providers.detect(EKS, {"ours": {"rule": "length(nodes)"}})
    assert caught.value.code == "missing-library"


@pytest.mark.parametrize("rule", ["nodes[", "contains(version.platform, 'x')", "no_such_function(@)"])
def test_rule_that_cannot_be_used_names_its_row(rule: str) -> None:
    with fails("invalid-input", "'ours'") as caught:
        providers.detect(EKS, {"ours": {"rule": rule}})
    assert caught.value.evidence == (rule,)


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (["example.com/ours"], ("'ours'", "['example.com/ours']")),
        ({"signer": "x"}, ("'ours'", "signer", "serving_signer")),
        ({"rule": True}, ("'ours'", "True")),
        ({"serving_signer": ["x"]}, ("'ours'", "['x']")),
        ({"forbidden_prefixes": "csr-"}, ("'ours'", "forbidden_prefixes", "'csr-'")),
        ({"forbidden_prefixes": False}, ("'ours'", "forbidden_prefixes", "False")),
        ({"forbidden_prefixes": [None]}, ("'ours'", "forbidden_prefixes", "[None]")),
        ({"longest_lifetime_seconds": True}, ("'ours'", "longest_lifetime_seconds", "True")),
        ({"longest_lifetime_seconds": -1}, ("'ours'", "longest_lifetime_seconds", "-1")),
        ({"forbidden_prefixes": 5}, ("'ours'", "forbidden_prefixes", "5")),
        ({"longest_lifetime_seconds": "1d"}, ("'ours'", "longest_lifetime_seconds", "'1d'")),
        ({"ca": "here", "source": ["x"]}, ("'ours'", "source", "['x']")),
    ],
)
def test_malformed_row(row: Any, names: tuple[str, ...]) -> None:
    with fails("invalid-input", *names):
        providers.merge_rows({"ours": row})


def test_a_number_may_be_a_text() -> None:
    """Ansible without native Jinja makes texts of numbers."""
    rows = providers.merge_rows({"eks": {"longest_lifetime_seconds": "3600", "forbidden_prefixes": ["x-"]}})
    (row,) = (row for row in rows if row.name == "eks")
    assert (row.longest_lifetime_seconds, row.forbidden_prefixes) == (3600, ("x-",))


def test_given_by_name() -> None:
    assert providers.named_by_user("eks").signer == APP_SERVING
    assert providers.named_by_user("ours", {"ours": {"serving_signer": "a.b/c"}}).signer == "a.b/c"
    with fails("invalid-input", "'doks'", "eks"):
        providers.named_by_user("doks")


def test_signers_of_the_user_by_provider() -> None:
    entries = {
        "eks": "example.com/ours",
        "kubeadm": "",
        "own": "example.com/own",
        "default": "example.com/any",
    }
    assert providers.detect(EKS, entries).signer == "example.com/ours"
    assert providers.named_by_user("kubeadm", entries).signer == KUBELET_SERVING
    assert providers.named_by_user("own", entries).signer == "example.com/own"
    assert providers.default_signer(entries) == "example.com/any"
    assert providers.default_signer({"eks": "example.com/ours"}) == ""
    with fails("invalid-input", "'default'"):
        providers.named_by_user("default", entries)
    with fails("invalid-input", "'default'", "['example.com/any']"):
        providers.default_signer({"default": ["example.com/any"]})


NAMELESS = {"nameless": {"ca": "no CA"}}
CONTRADICTION = facts(EKS_VERSION, cluster_roles=EKS_ROLES, config_maps=KUBEADM_CONFIG)
NO_SIGNER: list[tuple[str, providers.ProviderVerdict, str]] = [
    ("nothing seen", providers.detect({}), "no mark of any provider"),
    ("too little seen", providers.detect(facts(EKS_VERSION)), f"eks: version {EKS_VERSION}"),
    ("contradiction", providers.detect(CONTRADICTION),
     "eks-anywhere: ConfigMap kube-system/kubeadm-config"),
    ("no such name", providers.named_by_user("doks", required=False), "no provider is called 'doks'"),
    ("AKS", providers.named_by_user("aks"), "named by the user"),
    ("GKE", providers.named_by_user("gke"), "named by the user"),
    ("no signer", providers.named_by_user("nameless", NAMELESS), "named by the user"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "evidence"), [row[1:] for row in NO_SIGNER], ids=[row[0] for row in NO_SIGNER]
)
def test_no_signer_is_guessed(verdict: providers.ProviderVerdict, evidence: str) -> None:
    with fails("signer-not-known") as caught:
        providers.signer_for(verdict)
    assert evidence in caught.value.evidence
    assert "signer_name" in caught.value.remedy
    assert providers.signer_for(verdict, "example.com/any") == "example.com/any"


FEW_MARKS = facts(
    EKS_VERSION, unreadable={"nodes": "forbidden"}, lacking=("list nodes", "get the ClusterRole x")
)
REMEDIES: list[tuple[str, providers.ProviderVerdict, tuple[str, ...]]] = [
    ("the version says EKS or EKS Anywhere", providers.detect(FEW_MARKS),
     (f"On eks, set signer_name: {APP_SERVING}.", f"On eks-anywhere, set signer_name: {KUBELET_SERVING}.",
      "give this identity the permission to list nodes and get the ClusterRole x.")),
    ("AKS", providers.named_by_user("aks"), ("On aks, set signer_name: ephemeral-ca,",)),
    ("GKE or another Google product", providers.detect(facts("v1.33.5-gke.1")),
     ("On gke, set signer_name: ephemeral-ca,",)),
    ("nothing seen", providers.detect({}), ("Set provider,",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "texts"), [row[1:] for row in REMEDIES], ids=[row[0] for row in REMEDIES]
)
def test_the_remedy_names_the_signer_of_each_possible_provider(
    verdict: providers.ProviderVerdict, texts: tuple[str, ...]
) -> None:
    with fails("signer-not-known") as caught:
        providers.signer_for(verdict)
    assert [text for text in texts if text not in caught.value.remedy] == []
    assert ("permission" in caught.value.remedy) == bool(verdict.lacking)
    assert caught.value.remedy.startswith(providers.permissions_remedy(verdict)), "the first step"
    assert caught.value.lacks_permissions == bool(verdict.lacking)
    assert "docs/rbac" not in caught.value.remedy, "the operation names the files of its task"


def test_the_permission_is_the_cause_if_this_identity_may_read_no_mark() -> None:
    hidden = {**facts(lacking=("list nodes", "get the ConfigMap x")), "is_hidden": True}
    verdict = providers.detect(hidden)
    with fails("missing-permissions") as caught:
        providers.signer_for(verdict)
    assert caught.value.remedy.startswith(providers.permissions_remedy(verdict))
    assert caught.value.remedy.count(providers.permissions_remedy(verdict)) == 1
    assert providers.signer_for(verdict, "example.com/any") == "example.com/any"


@pytest.mark.parametrize("name", ["aks", "gke", "gardener"])
def test_a_row_without_a_document_is_called_a_guess(name: str) -> None:
    verdict = providers.named_by_user(name)
    assert verdict.row is not None
    with fails("signer-not-known") as caught:
        providers.signer_for(verdict)
    assert bool(verdict.row.doubt) == (name != "gardener")
    assert verdict.row.doubt in caught.value.cause


def test_the_default_yields_to_what_is_known() -> None:
    assert providers.signer_for(providers.detect(EKS), "example.com/any") == APP_SERVING
