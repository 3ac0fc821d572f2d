# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys and certificates of one control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.clusters import aws_tokens, components, node, pki
from tests.support.clusters.profiles import EKS_CONTROLLER, Profile

if TYPE_CHECKING:
    import datetime
    from pathlib import Path

_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
)


def make(directory: Path, profile: Profile) -> None:
    """Write all keys and certificates of a cluster, in files named as in kubeadm's pki directory."""
    directory.mkdir(mode=0o700)
    ca = pki.make_ca("kubernetes", key_identifiers=profile.key_identifiers)
    etcd_ca = pki.make_ca("etcd-ca")
    for bundle in (pki.BUNDLE, pki.CLIENT_BUNDLE):
        (directory / bundle).write_bytes(ca.certificate_pem)
    pairs = {
        "ca": ca,
        "etcd-ca": etcd_ca,
        "etcd": pki.issue(etcd_ca, "etcd", names=("localhost", "127.0.0.1"), lifetime=pki.LONG),
        "apiserver": serving_pair(ca, profile),
        **client_pairs(ca),
        **(node.pairs(ca, profile.node) if profile.node else {}),
        **({"signing-ca": pki.make_ca(profile.signing_ca)} if profile.signing_ca else {}),
    }
    for name, pair in pairs.items():
        pair.write(directory, name)
    pki.make_service_account_key(directory)
    if profile.signer:
        aws_tokens.write(directory)


def serving_pair(ca: pki.KeyPair, profile: Profile, now: datetime.datetime | None = None) -> pki.KeyPair:
    """Return a serving certificate of the API server. now: when it is made."""
    addresses = (server.address for server in components.servers(profile))
    names = (*_SERVER_NAMES, *addresses, profile.service_ip)
    return pki.issue(ca, "kube-apiserver", names=names, lifetime=pki.LONG, now=now)


def client_pairs(ca: pki.KeyPair) -> dict[str, pki.KeyPair]:
    """Return the certificates of the administrator and of the control plane, by the names of their files."""
    return {
        "admin": pki.issue(ca, "kubernetes-admin", ("system:masters",), lifetime=pki.LONG),
        "controller-manager": pki.issue(ca, "system:kube-controller-manager", lifetime=pki.LONG),
        "signer": pki.issue(ca, EKS_CONTROLLER, lifetime=pki.LONG),
    }
