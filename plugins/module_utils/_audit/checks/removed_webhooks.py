# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of webhooks that newer releases of their project do not have, and its check. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..._text import matches
from ..facts.cluster_data import CallPoint, ClusterData
from ..facts.finding import FAIL, LIKELY, PASS, AuditFinding
from .admission_checks import admission_points


@dataclass(frozen=True)
class RemovedWebhook:
    """Admission webhooks that a project removed."""

    project: str
    #: The first release without them.
    release: str
    #: Patterns with the wildcard "*". The name of such a webhook matches one of them.
    webhooks: tuple[str, ...]
    #: The pattern of the name of the Service that they call.
    service: str
    #: Addresses, or issues as OWNER/REPOSITORY#NUMBER, separated by "; ".
    source: str


#: At most ten rows, each with a document or a change of the project.
REMOVED_WEBHOOKS = (
    RemovedWebhook("external-snapshotter", "8.2", ("*snapshot.storage.k8s.io",), "*snapshot-validation*",
                   "kubernetes-csi/external-snapshotter#1181; kubernetes-csi/external-snapshotter#1186"),
    RemovedWebhook("Gateway API", "1.1", ("validate.gateway.networking.k8s.io",), "gateway-api-admission-server",
                   "kubernetes-sigs/gateway-api#2595; kubernetes-sigs/gateway-api#2319"),
    RemovedWebhook("Karpenter", "1.0", ("validation.webhook.*karpenter.*", "defaulting.webhook.*karpenter.*"), "*karpenter*",
                   "kubernetes-sigs/karpenter#1403; aws/karpenter-provider-aws#7757"),
    RemovedWebhook("Rook", "1.13", ("*-wh-rook-ceph-admission-controller-*.rook.io",), "rook-ceph-admission-controller",
                   "rook/rook#13261; rook/rook#14116"),
    RemovedWebhook("CSI-Addons", "0.8", ("v*.kb.io",), "csi-addons-webhook-service", "csi-addons/kubernetes-csi-addons#459"),
    RemovedWebhook("Knative Serving", "1.11", ("*webhook.domainmapping.serving.knative.dev",), "domainmapping-webhook",
                   "knative/serving#14082; knative/serving#15247"),
)  # fmt: skip


def check_removed_webhooks(
    data: ClusterData, rows: Sequence[RemovedWebhook] = REMOVED_WEBHOOKS
) -> Iterator[AuditFinding]:
    """Yield a finding for each admission webhook. It fails if newer releases of the project do not have the webhook."""
    for point in admission_points(data):
        row = next((row for row in rows if _is_of(row, point)), None)
        if row is None or _numbers(point.release) >= _numbers(row.release):
            yield AuditFinding("webhook-obsolete", PASS, point.object)
            continue
        cause = f"{row.project} {row.release} and newer releases do not have {point.object}"
        line = f"release by its label: {point.release or 'not known'}"
        yield AuditFinding("webhook-obsolete", FAIL, point.object, cause, (line,), certainty=LIKELY)


def _is_of(row: RemovedWebhook, point: CallPoint) -> bool:
    """Return True if both names fit, because another project may use one of them."""
    _namespace, service = point.config.service or ("", "")
    name = point.config.webhook
    return matches(service, row.service) and any(matches(name, pattern) for pattern in row.webhooks)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number[:9]) for number in re.findall(r"[0-9]+", release)[:2])
