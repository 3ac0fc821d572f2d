# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content and the metadata of throw-away requests."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers, name_policy
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import RequestError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing import signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import signer_probe
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import signing_request

from tests.unit.plugins.module_utils._csr.flow import CLIENT, CUSTOM, later
from tests.unit.plugins.module_utils._csr.objects import APP_SERVING, KUBELET_SERVING

pytestmark = pytest.mark.quick

KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
TOKEN = "0123456789"
SERVICE = f"probe-{TOKEN}"
OWN = (SERVICE, f"{SERVICE}.certflow-signer-probe", f"{SERVICE}.certflow-signer-probe.svc")


def probe(signer_name: str) -> signer_probe.SignerProbe:
    [made] = signer_probe.probes([signer_name], TOKEN)
    return made


# (signer, common name, organizations, DNS names)
ASKED: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
    (KUBELET_SERVING, f"system:node:{OWN[-1]}", ("system:nodes",), OWN),
    (APP_SERVING, OWN[-1], (), OWN),
    (CUSTOM, OWN[-1], (), OWN),
    (CLIENT, f"certflow-signer-probe-{TOKEN}", (), ()),
    (KUBELET_CLIENT, f"system:node:certflow-signer-probe-{TOKEN}", ("system:nodes",), ()),
]


@pytest.mark.parametrize(("signer_name", "common_name", "organizations", "names"), ASKED)
def test_a_probe_asks_for_unused_names_that_the_signer_accepts(
    signer_name: str, common_name: str, organizations: tuple[str, ...], names: tuple[str, ...]
) -> None:
    made = probe(signer_name)
    sent, wanted = signing_request.parse(made.request_pem), made.intent.request
    assert (sent.common_name, sent.organizations, sent.dns_names) == (common_name, organizations, names)
    assert (sent.ip_addresses, sent.emails, sent.uris) == ((), (), ())
    assert sent.is_signature_valid
    assert sent.public_key_sha256 == made.public_key_sha256
    assert wanted.expiration_seconds == 600
    assert signers.list_refusals(made.intent.signer, wanted) == []
    assert not any(map(name_policy.is_critical, names))


@pytest.mark.parametrize("signer_name", [row[0] for row in ASKED])
def test_metadata_and_approval_tell_the_purpose(signer_name: str) -> None:
    made = probe(signer_name)
    metadata, approval = made.metadata, made.approval
    assert metadata["name"].startswith("certflow-")
    assert name_policy.is_dns_name(metadata["name"])
    assert metadata["labels"]["certflow.kubernetes/signer-probe"] == TOKEN
    assert (approval.kind, approval.reason) == ("Approved", "CertflowSignerProbe")
    for text in (metadata["annotations"]["certflow.kubernetes/purpose"], approval.message):
        assert text.startswith("Throw-away request of k8s_signer_probe")
        assert "600 seconds" in text
    assert signer_name in approval.message


def test_the_key_is_discarded() -> None:
    made = probe(KUBELET_SERVING)
    assert not [value for value in vars(made).values() if hasattr(value, "private_bytes")]
    assert "PRIVATE" not in str(vars(made))


def test_each_signer_once_and_each_request_under_its_own_name() -> None:
    made = signer_probe.probes([CUSTOM, KUBELET_SERVING, CUSTOM], TOKEN)
    assert [entry.signer_name for entry in made] == [CUSTOM, KUBELET_SERVING]
    again = signer_probe.probes([CUSTOM, KUBELET_SERVING], TOKEN)
    assert len({obj.metadata["name"] for obj in (*made, *again)}) == 4


def test_by_default_the_serving_signers_of_all_providers() -> None:
    names = signer_probe.serving_signers()
    assert {KUBELET_SERVING, APP_SERVING} <= set(names)
    assert (len(names), "ephemeral-ca" in names) == (len(set(names)), False)


@pytest.mark.parametrize("name", ["ephemeral-ca", "kubernetes.io/legacy-unknown", "nonsense", ""])
def test_a_signer_that_takes_no_requests_is_refused(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        signer_probe.probes([KUBELET_SERVING, name], TOKEN)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("token", "minutes", "is_left"),
    [
        (TOKEN, 0, True),
        (TOKEN, 30, True),
        ("another", 0, False),
        ("another", 9, False),
        ("another", 11, True),
    ],
)
def test_own_requests_and_abandoned_ones_are_left_over(token: str, minutes: int, is_left: bool) -> None:
    csr: dict[str, Any] = {
        "metadata": {
            "name": "x",
            "creationTimestamp": "2026-06-15T12:00:00Z",
            "labels": {"certflow.kubernetes/signer-probe": token},
        }
    }
    assert signer_probe.is_left_over(csr, TOKEN, later(minutes=minutes)) is is_left


def test_a_probe_is_not_a_request_of_a_secret() -> None:
    """k8s_csr removes old requests of its Secret. It finds them by a label that a probe does not have."""
    labels = probe(KUBELET_SERVING).metadata["labels"]
    assert not set(markers.labels_for(probe(KUBELET_SERVING).intent.secret).items()) <= labels.items()
