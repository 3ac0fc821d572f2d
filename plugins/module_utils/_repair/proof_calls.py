# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make the API server call a repaired webhook by a dry run, as a part of the proof.

The second audit is the only proof if no object is known that the webhook matches, or without the permission to create this object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._audit.facts.cluster_data import CallPoint, ClusterData
from .._base.errors import CertflowError
from .._kube.client import Client
from .._webhook.bundles.bundle_targets import Target
from .._webhook.calls import admission_match, call_failures, call_faults
from .._webhook.calls.admission_match import AdmissionRequest
from .._webhook.calls.call_failures import ADMISSION
from .._webhook.probe import probe_webhook
from .._webhook.probe.probe_calls import ProbeObject, group_version

Object = Mapping[str, Any]
_POD = {"containers": [{"name": "probe", "image": "registry.k8s.io/pause:3.10"}]}
_LABELS = {"app": "certflow-probe"}
_TEMPLATE = {"metadata": {"labels": _LABELS}, "spec": _POD}
#: Resource -> the smallest object that the API server accepts. The least powerful permissions come first.
SAMPLES: Mapping[str, Object] = {
    "configmaps": {"apiVersion": "v1", "kind": "ConfigMap"},
    "serviceaccounts": {"apiVersion": "v1", "kind": "ServiceAccount"},
    "deployments": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"selector": {"matchLabels": _LABELS}, "template": _TEMPLATE},
    },
    "pods": {"apiVersion": "v1", "kind": "Pod", "spec": _POD},
}


@dataclass(frozen=True)
class CallAnswer:
    """The result of a dry run that makes the API server call a webhook."""

    #: True if the webhook answered. False if the API server refused its certificate. None if no call showed it.
    is_answered: bool | None
    evidence: tuple[str, ...]


def probe(client: Client, data: ClusterData, point: CallPoint) -> CallAnswer:
    """Make the API server call a webhook. A denial counts as an answer."""
    manifest = find_manifest(data, point) if point.caller == ADMISSION else None
    if point.caller == ADMISSION and manifest is None:
        return CallAnswer(
            None, ("no object is known that the webhook certainly matches, so the API server was not asked",)
        )
    webhooks = (point.config.webhook,) if point.config.webhook else ()
    target = Target(point.object.kind, point.object.name, webhooks)
    warnings = list(client.warnings)
    try:
        verdict = probe_webhook.probe(client, target, ProbeObject(manifest)).verdict
    except CertflowError as error:
        return CallAnswer(None, (error.cause,))
    finally:
        # Those of the dry run, such as of PodSecurity, are about no object of the user.
        client.warnings[:] = warnings
    if verdict.is_ok or verdict.code == call_failures.DENIED:
        return CallAnswer(True, verdict.evidence)
    is_answered = False if verdict.code in call_faults.OF_CERTIFICATES else None
    return CallAnswer(is_answered, (verdict.cause, *verdict.evidence))


def find_manifest(data: ClusterData, point: CallPoint) -> Object | None:
    """Return an object about whose creation the API server certainly asks the webhook, None if none is known. Pure."""
    return next(_manifests(data.namespaces or {}, point.webhook), None)


def _manifests(namespaces: Mapping[str, Mapping[str, str]], webhook: Object) -> Iterator[Object]:
    selector = webhook.get("objectSelector") or {}
    labels = dict(selector.get("matchLabels") or {})
    for term in selector.get("matchExpressions") or ():
        if term["operator"] in ("In", "Exists"):
            labels.setdefault(term["key"], next(iter(term.get("values") or ()), ""))
    for resource, sample in SAMPLES.items():
        group, version = group_version(sample)
        # The namespaces of users come first, because policies leave out those of the cluster.
        for name in sorted(namespaces, key=lambda name: (name != "default", name.startswith("kube-"), name)):
            request = AdmissionRequest(
                group, version, resource, sample["kind"], name, labels, namespaces[name]
            )
            if admission_match.match(webhook, request).is_asked:
                yield {**sample, "metadata": {"namespace": name, "labels": labels}}
