# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of clusters as data. A new kind is a new row."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from tests.support.clusters import aws_tokens
from tests.support.clusters.build import kubernetes_version
from tests.support.clusters.errors import UsageError
from tests.support.clusters.pins import KUBERNETES_RELEASES, NEWEST_RELEASE

APP_SERVING = "beta.eks.amazonaws.com/app-serving"
_EKS_VERSION = "{version}-eks-3c42bf9"
EKS_CONTROLLER = "eks:certificate-controller"  # the user name of EKS' own controller in audit logs


@dataclass(frozen=True)
class Profile:
    """The properties of one kind of cluster.

    Flags may contain `{pki}`, the directory of the cluster's certificates. `objects` are (path, object)
    pairs, created once the API server is ready. They and `version` may contain `{version}`, that of Kubernetes. `signer` starts eks_signer.py beside the controller-manager.
    """

    description: str
    service_cidr: str
    service_ip: str
    apiserver: tuple[str, ...]
    controller_manager: tuple[str, ...]
    objects: tuple[tuple[str, dict[str, Any]], ...]
    signer: bool
    source: str
    release: str = ""  # key of KUBERNETES_RELEASES, "" for the folder of the user or the newest
    version: str = ""  # version that the programs report, "" for the real one
    node: str = ""  # name of a node that runs pods
    key_identifiers: bool = True  # of the CA
    signing_ca: str = ""  # name of a second CA, in {pki}/signing-ca.crt and .key
    trust_bundles: bool = False  # the API server serves ClusterTrustBundles on every release
    loopback: str = "127.0.0.1"  # address of the API server
    # Published as the endpoint of Service kubernetes, which must not be a loopback address (RFC 5737). No server
    # binds it.
    advertised: str = "192.0.2.1"
    # Addresses of further servers, each with an API server and a controller manager. All share one etcd.
    further_servers: tuple[str, ...] = ()

    @property
    def usual(self) -> bool:
        """True if `up` without arguments starts one."""
        return not (
            self.node
            or self.further_servers
            or self.signing_ca
            or not self.key_identifiers
            or ":" in self.loopback
            or self.service_ip.startswith("127.")
        )


_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_CSR_READ = {
    "apiGroups": ["certificates.k8s.io"],
    "resources": ["certificatesigningrequests"],
    "verbs": ["get", "list", "watch"],
}

_KUBEADM_CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
    "data": {
        "ClusterConfiguration": (
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: kubernetes\n"
            "kubernetesVersion: {version}\nnetworking:\n  serviceSubnet: 10.96.0.0/12\n"
        )
    },
}


def _cluster_role(name: str, *rules: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return f"{_RBAC}/clusterroles", {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": list(rules),
    }


def _bound_to_controller(role: str) -> tuple[str, dict[str, Any]]:
    return f"{_RBAC}/clusterrolebindings", {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": EKS_CONTROLLER}],
    }


def _signer_rule(verb: str, *signers: str) -> dict[str, Any]:
    return {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["signers"],
        "resourceNames": list(signers),
        "verbs": [verb],
    }


def _status_rule(subresource: str) -> dict[str, Any]:
    return {
        "apiGroups": ["certificates.k8s.io"],
        "resources": [f"certificatesigningrequests/{subresource}"],
        "verbs": ["update"],
    }


# The names are those of EKS. Its rules are not published, so these are the rules that such a controller
# needs.
_EKS_ROLES = (
    _cluster_role(
        "eks:certificate-controller-approver",
        _CSR_READ,
        _status_rule("approval"),
        _signer_rule("approve", "kubernetes.io/kubelet-serving"),
    ),
    _bound_to_controller("eks:certificate-controller-approver"),
    _cluster_role("eks:certificate-controller-signer", _CSR_READ, _status_rule("status"), _signer_rule("sign", APP_SERVING)),
    _bound_to_controller("eks:certificate-controller-signer"),
)  # fmt: skip

_EKS_NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "ip-192-168-14-7.eu-west-1.compute.internal",
        "labels": {
            "eks.amazonaws.com/capacityType": "ON_DEMAND",
            "eks.amazonaws.com/nodegroup": "workers",
            "eks.amazonaws.com/nodegroup-image": "ami-0c4f5d2e8a9b71346",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": "ip-192-168-14-7.eu-west-1.compute.internal",
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "m6i.large",
            "topology.kubernetes.io/region": "eu-west-1",
            "topology.kubernetes.io/zone": "eu-west-1a",
        },
    },
    "spec": {"providerID": "aws:///eu-west-1a/i-0a1b2c3d4e5f60718"},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "192.168.14.7"},
            {"type": "Hostname", "address": "ip-192-168-14-7.eu-west-1.compute.internal"},
        ],
        "nodeInfo": {
            "architecture": "amd64",
            "operatingSystem": "linux",
            "kubeletVersion": _EKS_VERSION,
            "osImage": "Amazon Linux 2023",
            "containerRuntimeVersion": "containerd://2.1.4",
            "kernelVersion": "6.12.40",
            "bootID": "",
            "kubeProxyVersion": "",
            "machineID": "",
            "systemUUID": "",
        },
    },
}

#: Pods of tests stay as their test writes them, also when their clock jumps. No kubelet speaks for their node.
_NO_NODES = "--controllers=*,-node-lifecycle-controller"

PROFILES: dict[str, Profile] = {
    "onprem": Profile(
        description="like kubeadm: every built-in signer issues",
        service_cidr="10.96.0.0/12",
        service_ip="10.96.0.1",
        apiserver=(),
        controller_manager=(
            "--cluster-signing-cert-file={pki}/ca.crt",
            "--cluster-signing-key-file={pki}/ca.key",
        ),
        objects=(("/api/v1/namespaces/kube-system/configmaps", _KUBEADM_CONFIG),),
        signer=False,
        source="kubernetes cmd/kubeadm/app/phases/controlplane/manifests.go",
    ),
    "eks": Profile(
        description=f"like Amazon EKS: {APP_SERVING} issues, kubelet-serving stays Approved",
        service_cidr="10.100.0.0/16",
        service_ip="10.100.0.1",
        apiserver=(f"--token-auth-file={{pki}}/{aws_tokens.FILE}",),
        # Setting one pair of flags disables the other three built-in signers.
        controller_manager=(
            "--cluster-signing-kubelet-client-cert-file={pki}/ca.crt",
            "--cluster-signing-kubelet-client-key-file={pki}/ca.key",
        ),
        objects=(*_EKS_ROLES, ("/api/v1/nodes", _EKS_NODE)),
        signer=True,
        source="Amazon EKS user guide, 'Secure workloads with Kubernetes certificates'; "
        "aws/amazon-eks-pod-identity-webhook#133",
        version=_EKS_VERSION,
    ),
}

_SERVERS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")  # RFC 5737

PROFILES |= {
    "other-ca": replace(
        PROFILES["onprem"],
        description="onprem that signs for kubelet-serving alone, with a CA of its own, for a day at most",
        controller_manager=(
            "--cluster-signing-kubelet-serving-cert-file={pki}/signing-ca.crt",
            "--cluster-signing-kubelet-serving-key-file={pki}/signing-ca.key",
            "--cluster-signing-duration=24h",
        ),
        signing_ca="kube-csr-signer",
        trust_bundles=True,
        source="openshift/cluster-kube-controller-manager-operator bindata/assets/config/defaultconfig.yaml; "
        "gardener/gardener#6784",
    ),
    "ipv6": replace(
        PROFILES["onprem"],
        description="onprem with IPv6 addresses only",
        service_cidr="fd00:10:96::/112",
        service_ip="fd00:10:96::1",
        loopback="::1",
        advertised="2001:db8::1",  # RFC 3849
        source="https://kubernetes.io/docs/concepts/services-networking/dual-stack/",
    ),
    "local-services": replace(
        PROFILES["onprem"],
        controller_manager=(*PROFILES["onprem"].controller_manager, _NO_NODES),
        description="onprem whose Services have loopback addresses, so that it calls servers of this machine",
        service_cidr="127.96.0.0/16",
        service_ip="127.96.0.1",
    ),
    "eks-local-services": replace(
        PROFILES["eks"],
        controller_manager=(*PROFILES["eks"].controller_manager, _NO_NODES),
        description="eks whose Services have loopback addresses, so that it calls servers of this machine",
        service_cidr="127.96.0.0/16",
        service_ip="127.96.0.1",
    ),
    "old-ca": replace(
        PROFILES["onprem"],
        description="onprem whose CA has no key identifiers",
        key_identifiers=False,
        source="aws/containers-roadmap#2638",
    ),
    "onprem-node": replace(
        PROFILES["onprem"], description="onprem with a real node that runs pods (root only)", node="node-1"
    ),
    "eks-node": replace(
        PROFILES["eks"],
        description="eks with a real node that runs pods (root only)",
        node=_EKS_NODE["metadata"]["name"],  # the kubelet adopts the existing Node object
    ),
}


PROFILES |= {
    f"{word}-servers": replace(
        PROFILES["local-services"],
        description=f"local-services with {word} API servers and controller managers, in a network of its own (root only)",
        loopback=_SERVERS[0],
        further_servers=_SERVERS[1:number],
        source="https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/",
    )
    for word, number in (("two", 2), ("three", 3))
}


def find(name: str) -> Profile:
    """Return the profile of a name, such as "eks", or "eks@1.36" for another release. Raises UsageError."""
    kind, at, release = name.partition("@")
    if kind not in PROFILES:
        raise UsageError(f"there is no profile {kind!r}; there are: {', '.join(PROFILES)}")
    if at and release not in KUBERNETES_RELEASES:
        raise UsageError(f"there is no release {release!r}; there are: {', '.join(KUBERNETES_RELEASES)}")
    profile, version = PROFILES[kind], kubernetes_version(release)
    flags = KUBERNETES_RELEASES[release or NEWEST_RELEASE].trust_bundles if profile.trust_bundles else ()
    return replace(
        profile,
        release=release,
        apiserver=(*profile.apiserver, *flags),
        # kube-apiserver refuses to report another version than its own, except for the suffix.
        version=profile.version.replace("{version}", version),
        objects=tuple(json.loads(json.dumps(profile.objects).replace("{version}", version))),
    )
