# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Webhooks that newer releases of their project do not have are found by two marks, and by the release of a label."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import webhook_settings
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.webhook_settings import (
    REMOVED_WEBHOOKS,
    RemovedWebhook,
    check_removed_webhooks,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import CallPoint
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import ClientConfig
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.call_failures import CONVERSION

from tests.unit.plugins.module_utils._audit.world import cluster, failures, point

pytestmark = pytest.mark.quick

EXAMPLE = RemovedWebhook("Example", "1.10", ("*.webhook.example.com",), "example-*", "example/example#1")


def called(name: str, service: str, **fields: str) -> CallPoint:
    config = ClientConfig(
        name, "/webhooks/0/clientConfig", "", f"{service}.shop.svc", ("shop", service), "", 443
    )
    return point(config, **fields)


CASES: list[tuple[str, CallPoint, bool]] = [
    ("both marks", called("validate.webhook.example.com", "example-webhook"), True),
    ("an older release", called("validate.webhook.example.com", "example-webhook", release="v1.9.3"), True),
    ("the release without it", called("validate.webhook.example.com", "example-webhook", release="1.10.0"), False),
    ("a newer release", called("validate.webhook.example.com", "example-webhook", release="2.0"), False),
    ("a label that is no release", called("validate.webhook.example.com", "example-webhook", release="main"), True),
    ("another Service", called("validate.webhook.example.com", "webhook"), False),
    ("another name", called("webhook.example.com.evil", "example-webhook"), False),
    ("a URL", point(ClientConfig("a.webhook.example.com", "/webhooks/0/clientConfig", "", "example-1", None, "", 443)), False),
    ("a conversion", called("a.webhook.example.com", "example-webhook", caller=CONVERSION), False),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "found"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_both_marks_and_the_release_decide(subject: CallPoint, found: bool) -> None:
    findings = list(check_removed_webhooks(cluster(subject), [EXAMPLE]))
    assert [finding.check for finding in findings if finding.status == "fail"] == ["webhook-obsolete"] * found


#: The webhooks of the projects, by their manifests of the last release that has them.
OF_PROJECTS = {
    "external-snapshotter": ("validation-webhook.snapshot.storage.k8s.io", "snapshot-validation-service"),
    "Gateway API": ("validate.gateway.networking.k8s.io", "gateway-api-admission-server"),
    "Karpenter": ("validation.webhook.config.karpenter.sh", "karpenter"),
    "Rook": ("cephcluster-wh-rook-ceph-admission-controller-rook-ceph.rook.io", "rook-ceph-admission-controller"),
    "CSI-Addons": ("vnetworkfence.kb.io", "csi-addons-webhook-service"),
    "Knative Serving": ("validation.webhook.domainmapping.serving.knative.dev", "domainmapping-webhook"),
}  # fmt: skip


def test_each_row_has_its_webhook_and_a_source() -> None:
    assert [row.project for row in REMOVED_WEBHOOKS] == list(OF_PROJECTS)
    assert len(REMOVED_WEBHOOKS) <= 10
    for row in REMOVED_WEBHOOKS:
        subject = called(*OF_PROJECTS[row.project])
        assert failures(check_removed_webhooks(cluster(subject))) == [("webhook-obsolete", "")]
        assert [other.project for other in REMOVED_WEBHOOKS if webhook_settings._is_of(other, subject)] == [
            row.project
        ]
        assert "#" in row.source


#: Webhooks that current releases of the same projects, and neighbours of them, have.
CURRENT = [
    ("validation.webhook.serving.knative.dev", "webhook"),
    ("webhook.serving.knative.dev", "webhook"),
    ("vingress.kb.io", "ingress-webhook-service"),
    ("validate.nginx.ingress.kubernetes.io", "ingress-nginx-controller-admission"),
    ("webhook.cert-manager.io", "cert-manager-webhook"),
    ("validation.gatekeeper.sh", "gatekeeper-webhook-service"),
    ("validate.kyverno.svc-fail", "kyverno-svc"),
]


@pytest.mark.parametrize(("name", "service"), CURRENT)
def test_current_webhooks_pass(name: str, service: str) -> None:
    assert failures(check_removed_webhooks(cluster(called(name, service)))) == []
