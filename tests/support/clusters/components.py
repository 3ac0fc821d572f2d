# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of each program of a cluster. Pure functions of paths, ports and a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.clusters.pki import BUNDLE, CLIENT_BUNDLE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters.profiles import Profile

# The same for every cluster, because each has its own network. It is outside all Service ranges, or
# kube-proxy drops it.
NODE_IP = "10.240.0.1"
POD_CIDR = "10.244.0.0/24"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one cluster."""

    apiserver: int
    etcd: int
    etcd_peer: int


@dataclass(frozen=True)
class Server:
    """A machine of the control plane. Its API server and its controller manager have files of their own."""

    #: At the end of the names of its programs and files, "" for the first server.
    suffix: str
    #: The address of its API server, and the one in the EndpointSlice.
    address: str
    advertised: str

    def pki(self, directory: Path) -> Path:
        """Return the folder with the keys and certificates of its programs."""
        return directory / f"pki{self.suffix}"


def servers(profile: Profile) -> tuple[Server, ...]:
    """Return the servers of a cluster."""
    further = (
        Server(f"-{number}", address, address) for number, address in enumerate(profile.further_servers, 2)
    )
    return Server("", profile.loopback, profile.advertised), *further


def etcd(directory: Path, ports: Ports) -> list[str]:
    """Return the arguments of the only member.

    Both ports require a client certificate, because other users reach loopback. The name of its data is relative
    (`processes.start`), so that it never makes a directory that was removed while it started.
    """
    pki = directory / "pki"
    client, peer = (f"https://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    return [
        "--name=default",
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=error",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={pki}/etcd-ca.crt",
        f"--cert-file={pki}/etcd.crt",
        f"--key-file={pki}/etcd.key",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki}/etcd-ca.crt",
        f"--peer-cert-file={pki}/etcd.crt",
        f"--peer-key-file={pki}/etcd.key",
    ]


def apiserver(directory: Path, ports: Ports, profile: Profile, server: Server) -> list[str]:
    pki = server.pki(directory)
    return [
        f"--secure-port={ports.apiserver}",
        f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd.crt",
        f"--etcd-keyfile={pki}/etcd.key",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/{CLIENT_BUNDLE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={profile.service_cidr}",
        f"--audit-policy-file={directory}/audit-policy.yaml",
        f"--audit-log-path={directory}/audit{server.suffix}.log",
        # A rotated log (after 100 MB by default) would hide the requests of a running test.
        "--audit-log-maxsize=100000",
        *(_with_node(directory) if profile.node else _alone(server)),
        *_version(profile),
        *(flag.format(pki=pki) for flag in profile.apiserver),
    ]


def _alone(server: Server) -> tuple[str, ...]:
    return f"--bind-address={server.address}", f"--advertise-address={server.advertised}"


def _version(profile: Profile) -> tuple[str, ...]:
    return (f"--version={profile.version}",) if profile.version else ()


def _with_node(directory: Path) -> tuple[str, ...]:
    """Return the flags for a cluster with a node.

    Pods reach the API server at the node's address. The API server reaches webhooks in pods, and the kubelet
    as in kubeadm clusters.
    """
    pki = directory / "pki"
    return (
        "--bind-address=0.0.0.0",  # in the cluster's own network
        f"--advertise-address={NODE_IP}",
        "--enable-aggregator-routing",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki}/{BUNDLE}",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
    )


def controller_manager(directory: Path, profile: Profile, server: Server) -> list[str]:
    pki = server.pki(directory)
    return [
        f"--kubeconfig={directory}/controller-manager{server.suffix}.kubeconfig",
        "--leader-elect=true",
        "--secure-port=0",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/{BUNDLE}",
        f"--service-cluster-ip-range={profile.service_cidr}",
        # the program creates this directory, by default in /usr
        f"--flex-volume-plugin-dir={directory}/volume-plugins",
        *(flag.format(pki=pki) for flag in profile.controller_manager),
    ]


def eks_signer(directory: Path, ports: Ports) -> list[str]:
    return ["--server", f"https://127.0.0.1:{ports.apiserver}", "--pki", str(directory / "pki")]


def containerd(directory: Path, profile: Profile) -> list[str]:
    return [f"--config={directory}/containerd.toml"]


def kube_scheduler(directory: Path, profile: Profile) -> list[str]:
    return [f"--kubeconfig={directory}/scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0"]


def kubelet(directory: Path, profile: Profile) -> list[str]:
    return [
        f"--config={directory}/kubelet.yaml",
        f"--kubeconfig={directory}/kubelet.kubeconfig",
        f"--hostname-override={profile.node}",
        f"--node-ip={NODE_IP}",
        *_version(profile),
    ]


def kube_proxy(directory: Path, profile: Profile) -> list[str]:
    return [
        f"--kubeconfig={directory}/kube-proxy.kubeconfig",
        f"--hostname-override={profile.node}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={POD_CIDR}",
        "--conntrack-max-per-core=0",  # a limit of the whole machine
    ]
