# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of each program of a cluster. Pure: paths, ports and a profile in, arguments out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .profiles import Profile

# Not bound, only published as the endpoint of Service kubernetes, which may not be a loopback address (RFC 5737).
ADVERTISED = "192.0.2.1"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one cluster."""

    apiserver: int
    etcd: int
    etcd_peer: int


def etcd(directory: Path, ports: Ports) -> list[str]:
    """One member. Other users of the machine reach loopback too, so both of its ports ask for a certificate."""
    pki = directory / "pki"
    client, peer = (f"https://127.0.0.1:{port}" for port in (ports.etcd, ports.etcd_peer))
    return [
        "--name=default",
        f"--data-dir={directory}/etcd",
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


def apiserver(directory: Path, ports: Ports, profile: Profile) -> list[str]:
    pki = directory / "pki"
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.apiserver}",
        f"--advertise-address={ADVERTISED}",
        f"--etcd-servers=https://127.0.0.1:{ports.etcd}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd.crt",
        f"--etcd-keyfile={pki}/etcd.key",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={profile.service_cidr}",
        f"--audit-policy-file={directory}/audit-policy.yaml",
        f"--audit-log-path={directory}/audit.log",
        *(flag.format(pki=pki) for flag in profile.apiserver),
    ]


def controller_manager(directory: Path, profile: Profile) -> list[str]:
    pki = directory / "pki"
    return [
        f"--kubeconfig={directory}/controller-manager.kubeconfig",
        "--leader-elect=true",
        "--secure-port=0",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--service-cluster-ip-range={profile.service_cidr}",
        *(flag.format(pki=pki) for flag in profile.controller_manager),
    ]


def eks_signer(directory: Path, ports: Ports) -> list[str]:
    return ["--server", f"https://127.0.0.1:{ports.apiserver}", "--pki", str(directory / "pki")]
