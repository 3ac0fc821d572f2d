# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The object of the dry run with which a proof makes the API server call a webhook."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import ClusterData
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import points_of
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import KubeError
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import proof_calls
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import probe_webhook
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_verdict import (
    ProbeVerdict,
)

from tests.support.certificates.authority import NOW

from .test_plans import KIND, NOTHING, OLD, PODS, configuration

NAMESPACES = {"kube-system": {"team": "none"}, "shop": {"team": "a"}, "default": {}}
# Fields of the webhook, and the kind, the namespace and the labels of the object, None for no object.
ROWS: list[tuple[dict[str, Any], tuple[str, str, dict[str, str]] | None]] = [
    ({}, ("ConfigMap", "default", {})),
    ({"rules": [PODS]}, ("Pod", "default", {})),
    ({"rules": [{**NOTHING, "resources": ["*"]}]}, ("ConfigMap", "default", {})),
    ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, ("ConfigMap", "shop", {})),
    (
        {"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}},
        ("ConfigMap", "default", {"a": "b"}),
    ),
    ({"objectSelector": {"matchLabels": {"a": "b"}}}, ("ConfigMap", "default", {"a": "b"})),
    ({"rules": [{**NOTHING, "operations": ["DELETE"]}]}, None),
    ({"rules": [{**NOTHING, "resources": ["secrets"]}]}, None),
    ({"matchConditions": [{"name": "x", "expression": "true"}]}, None),
    ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, None),
]


@pytest.mark.parametrize(("fields", "expected"), ROWS)
def test_the_object_of_the_dry_run(
    fields: dict[str, Any], expected: tuple[str, str, dict[str, str]] | None
) -> None:
    obj = configuration(OLD.pem)
    obj["webhooks"][0].update(fields)
    (point,) = points_of(KIND, obj)
    data = ClusterData(NOW, points=(point,), namespaces=NAMESPACES)
    manifest = proof_calls.find_manifest(data, point)
    answer = manifest and (manifest["kind"], *(manifest["metadata"][key] for key in ("namespace", "labels")))
    assert answer == expected
    assert proof_calls.find_manifest(replace(data, namespaces=None), point) is None


@pytest.mark.parametrize("is_probed", [True, False])
def test_warnings_of_the_dry_run_are_not_those_of_the_task(
    is_probed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PodSecurity warns of the pod of a dry run, which no user has written."""
    client: Any = SimpleNamespace(warnings=["of the task"])

    def probe(*_: Any) -> Any:
        client.warnings.append("would violate PodSecurity")
        if not is_probed:
            raise KubeError("the API server ended")
        return SimpleNamespace(verdict=ProbeVerdict("ok", "ok", "it answers"))

    monkeypatch.setattr(probe_webhook, "probe", probe)
    (point,) = points_of(KIND, configuration(OLD.pem))
    data = ClusterData(NOW, points=(point,), namespaces=NAMESPACES)
    assert proof_calls.probe(client, data, point).is_answered is (True if is_probed else None)
    assert client.warnings == ["of the task"]
