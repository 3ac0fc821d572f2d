# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real control plane that goes through a rotation of its CA."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.support import clusters
from tests.support.csr_by_hand import create, decide, settled
from tests.support.signer_requests import GOOD, KUBELET_SERVING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return a new cluster, because a rotation changes all that other tests rely on."""
    profile = getattr(request, "param", "local-services")
    with clusters.running({"rotated": profile}) as fleet:
        yield fleet["rotated"]


def is_issued_by(leaf: x509.Certificate, ca: KeyPair) -> bool:
    try:
        leaf.verify_directly_issued_by(ca.certificate)
    except Exception:
        return False
    return True


def issued_now(cluster: Cluster) -> x509.Certificate:
    csr = create(cluster, KUBELET_SERVING, GOOD[KUBELET_SERVING])
    decide(cluster, csr)
    status = settled(cluster, csr)["status"]
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


@pytest.mark.parametrize(
    "cluster", ["local-services", pytest.param("old-ca", marks=pytest.mark.full)], indirect=True
)
def test_a_control_plane_goes_through_a_rotation(cluster: Cluster) -> None:
    rotation = cluster.rotation(key_identifiers=cluster.profile_name != "old-ca")
    old, new = rotation.outgoing, rotation.successor
    assert old.certificate.subject == new.certificate.subject
    steps = [
        (rotation.publish, old, [old, new]),
        (rotation.switch, new, [new, old]),
        (rotation.roll_back, old, [old, new]),
        (rotation.switch, new, [new, old]),
        (rotation.drop_outgoing, new, [new]),
    ]
    for step, signing, published in steps:
        step()
        assert is_issued_by(x509.load_pem_x509_certificate(cluster.served_pem().encode()), signing)
        assert is_issued_by(issued_now(cluster), signing)
        root = cluster.api("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")["data"]["ca.crt"]
        assert root == b"".join(pair.certificate_pem for pair in published).decode()
