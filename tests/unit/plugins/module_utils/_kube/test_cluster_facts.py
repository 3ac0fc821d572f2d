# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a cluster, read from a stand-in of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import providers
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import cluster_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AuthenticationError,
    ConnectionFailed,
    Forbidden,
    NotFound,
)

from tests.support.failures import fails

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

pytestmark = pytest.mark.quick

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
CONFIG = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
NODE = {
    "metadata": {"name": "one", "labels": {"eks.amazonaws.com/nodegroup": "a"}, "annotations": {"x": "y"}},
    "spec": {"providerID": "aws:///eu-west-1a/i-0"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.1.0.1"}, {"type": "Hostname", "address": "one"}],
        "nodeInfo": {"osImage": "Amazon Linux 2023", "kubeletVersion": "v1.36.3-eks-3c42bf9"},
    },
}
EKS: dict[str, Any] = {
    "/version": {"gitVersion": "v1.36.3-eks-3c42bf9", "platform": "linux/amd64"},
    "/apis": {"groups": [{"name": "apps"}, {"name": "vpcresources.k8s.aws"}]},
    "/api/v1/nodes": {"items": [NODE]},
    f"{ROLES}/eks:certificate-controller-approver": {"kind": "ClusterRole"},
    f"{ROLES}/eks:certificate-controller-signer": {"kind": "ClusterRole"},
    "/apis/networking.k8s.io/v1/servicecidrs": {
        "items": [{"spec": {"cidrs": ["10.100.0.0/16", "fd00::/108"]}}]
    },
}


class FactsStandIn:
    """Answers GET from a table; an exception in it is raised, what it lacks is a 404."""

    host = "https://api.example.com:6443"

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, str] | None]] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append((path, query))
        answer = self.answers.get(path, NotFound("absent", status=404))
        if isinstance(answer, Exception):
            raise answer
        return cast("dict[str, Any]", answer)


def read(answers: Mapping[str, Any]) -> tuple[dict[str, Any], FactsStandIn]:
    client = FactsStandIn(answers)
    return cluster_facts.read_cluster_facts(cast("Client", client)), client


def test_facts() -> None:
    facts, client = read(EKS)
    assert facts == {
        "version": {"gitVersion": "v1.36.3-eks-3c42bf9"},
        "api_host": "api.example.com",
        "api_groups": ["apps", "vpcresources.k8s.aws"],
        "nodes": [
            {
                "name": "one",
                "labels": {"eks.amazonaws.com/nodegroup": "a"},
                "annotations": {"x": "y"},
                "addresses": ["10.1.0.1", "one"],
                "provider_id": "aws:///eu-west-1a/i-0",
                "os_image": "Amazon Linux 2023",
                "kubelet_version": "v1.36.3-eks-3c42bf9",
            }
        ],
        "cluster_roles": ["eks:certificate-controller-approver", "eks:certificate-controller-signer"],
        "config_maps": [],
        "service_networks": ["10.100.0.0/16", "fd00::/108"],
        "unreadable": {},
        "lacking": [],
        "is_hidden": False,
    }
    assert ("/api/v1/nodes", {"limit": "5"}) in client.asked
    assert len(client.asked) == 7
    assert providers.detect(facts).name == "eks"


def test_kubeadm() -> None:
    facts, _ = read({"/version": {"gitVersion": "v1.36.3"}, CONFIG: {"kind": "ConfigMap"}})
    assert facts["config_maps"] == ["kube-system/kubeadm-config"]
    assert providers.detect(facts).name == "kubeadm"


def test_what_is_absent_or_bare_is_empty() -> None:
    facts, _ = read({"/api/v1/nodes": {"items": [{"metadata": {"name": "bare"}}]}, "/apis": {"groups": None}})
    assert facts["version"] == {"gitVersion": ""}
    assert facts["nodes"][0] == {
        "name": "bare",
        "labels": {},
        "annotations": {},
        "addresses": [],
        "provider_id": "",
        "os_image": "",
        "kubelet_version": "",
    }
    assert facts["api_groups"] == facts["cluster_roles"] == facts["service_networks"] == []
    assert facts["unreadable"] == {}


def test_what_may_not_be_read_is_recorded() -> None:
    refused = Forbidden("cannot read", status=403, message='nodes is forbidden: User "jane" cannot list')
    facts, client = read({**EKS, "/api/v1/nodes": refused, CONFIG: Forbidden("no right to configmaps")})
    assert facts["unreadable"] == {
        "nodes": 'nodes is forbidden: User "jane" cannot list',
        "config_maps": "no right to configmaps",
    }
    assert facts["lacking"] == ["list nodes", "get the ConfigMap kube-system/kubeadm-config"]
    assert facts["nodes"] == []
    assert facts["cluster_roles"]
    assert facts["is_hidden"] is False
    assert len(client.asked) == 7


def test_marks_are_hidden_if_every_object_with_marks_is_refused() -> None:
    paths = [CONFIG, "/api/v1/nodes", *(path for path in EKS if "clusterroles" in path)]
    facts, _ = read({**EKS, **dict.fromkeys(paths, Forbidden("no"))})
    assert facts["is_hidden"] is True


@pytest.mark.parametrize("error", [ConnectionFailed("gone"), AuthenticationError("expired")])
def test_no_answer_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        read({**EKS, "/api/v1/nodes": error})


@pytest.mark.parametrize(
    "answer", [{}, {"status": "ok"}, {"metadata": None}, {"metadata": {"name": "x"}}, {"metadata": []}]
)
def test_the_answer_of_another_program_is_no_defect(answer: dict[str, Any]) -> None:
    """A portal or a proxy may answer every path with its own JSON. A fleet asks for the UID first."""

    class Portal:
        def get(self, _path: str) -> dict[str, Any]:
            return answer

    with fails("api-error", "kube-system"):
        cluster_facts.read_cluster_uid(cast("Client", Portal()))
