# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restart of a webhook's workload: when it is refused, and what it writes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import NOTHING, Consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import workloads
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.workloads import (
    RestartError,
    WebhookWorkload,
)

from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error

WORKLOAD = WebhookWorkload("DaemonSet", "apps", "hook")
LOCK = {"op": "replace", "path": "/metadata/resourceVersion", "value": "9"}


def workload(
    kind: str = "Deployment",
    pods: int = 3,
    strategy: dict[str, Any] | None = None,
    *,
    updated: int | None = None,
    available: int | None = None,
    total: int | None = None,
    observed: int = 4,
    **spec: Any,
) -> dict[str, Any]:
    """Return a workload whose rollout is complete, unless a number of its pods or the observed generation says otherwise."""
    counts = [pods if count is None else count for count in (updated, available, total)]
    names = ("updatedReplicas", "availableReplicas", "replicas")
    wanted: dict[str, Any] = {"replicas": pods}
    status: dict[str, Any] = {"observedGeneration": observed}
    if kind == "DaemonSet":
        names = ("updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
        wanted, status = {}, {**status, "desiredNumberScheduled": pods}
    field = "strategy" if kind == "Deployment" else "updateStrategy"
    status.update({name: count for name, count in zip(names, counts) if count})
    return {
        "kind": kind,
        "metadata": {"name": "hook", "namespace": "apps", "generation": 4, "resourceVersion": "9"},
        "spec": {**wanted, field: strategy or {}, "template": {"spec": {}}, **spec},
        "status": status,
    }


def rolling(unavailable: Any, surge: Any) -> dict[str, Any]:
    return {"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}


DOWN, INCOMPLETE, HELD = "no-pod-left", "rollout-incomplete", "rollout-held"
# A workload, and the code of the refusal, "" if it may be restarted.
DECISIONS: list[tuple[dict[str, Any], str]] = [
    (workload(), ""),
    (workload(pods=2), ""),
    (workload(pods=1), DOWN),
    (workload(pods=1, strategy=rolling(0, 1)), DOWN),
    (workload(pods=0), DOWN),
    (workload(pods=2, strategy=rolling(1, 0)), ""),
    (workload(pods=2, strategy=rolling(2, 0)), DOWN),
    (workload(pods=2, strategy=rolling(0, 0)), ""),
    (workload(strategy=rolling("100%", 1)), DOWN),
    (workload(strategy=rolling("99%", 1)), ""),  # rounded down
    (workload(strategy={"type": "Recreate"}), DOWN),
    (workload("StatefulSet"), ""),
    (workload("StatefulSet", 1), DOWN),
    (workload("StatefulSet", 2), ""),
    (workload("StatefulSet", 2, rolling(2, 0)), DOWN),
    (workload("StatefulSet", strategy={"type": "OnDelete"}), HELD),
    (workload("StatefulSet", strategy={"rollingUpdate": {"partition": 1}}), HELD),
    (workload("DaemonSet"), ""),
    (workload("DaemonSet", 1), DOWN),
    (workload("DaemonSet", 1, rolling(0, 1)), DOWN),
    (workload("DaemonSet", 2, rolling("51%", 0)), DOWN),  # rounded up
    (workload("DaemonSet", 2, rolling("50%", 0)), ""),
    (workload("DaemonSet", strategy={"type": "OnDelete"}), HELD),
    (workload(paused=True), HELD),
    *(
        (workload(kind, updated=updated, available=available, total=total, observed=observed), INCOMPLETE)
        for kind in ("Deployment", "StatefulSet", "DaemonSet")
        for updated, available, total, observed in (
            (2, 3, 3, 4),
            (3, 2, 3, 4),
            (3, 0, 3, 4),
            (3, 3, 4, 4),
            (3, 3, 3, 3),
        )
    ),
]


@pytest.mark.parametrize(("obj", "code"), DECISIONS)
def test_a_restart_keeps_a_pod(obj: dict[str, Any], code: str) -> None:
    own = WebhookWorkload(obj["kind"], "apps", "hook")
    refusal = workloads.find_obstacle(own, obj, NOTHING, NOW)
    assert (refusal.code if refusal else "") == code
    assert refusal is None or str(NOW.date()) in refusal.cause
    # Only a downtime can be accepted.
    for item, covers in (
        ("downtime", True),
        ({"downtime": [f"{obj['kind']}/apps/hook"]}, True),
        ({"downtime": [f"{obj['kind']}/apps/other"]}, False),
    ):
        consent: Consent = accept.parse([item])
        found = workloads.find_obstacle(own, obj, consent)
        assert (found.code if found else "") == ("" if covers and code == DOWN else code)


@pytest.mark.parametrize(
    ("metadata", "first"),
    [
        (None, [LOCK, {"op": "add", "path": "/spec/template/metadata", "value": {}}]),
        ({"labels": {"a": "b"}}, [LOCK]),
        ({"annotations": {"x": "y"}}, []),
    ],
)
def test_a_restart_is_what_kubectl_writes(metadata: Any, first: list[Any]) -> None:
    """The patch names the version that was judged. Without annotations it writes all of them."""
    obj = workload("DaemonSet")
    obj["spec"]["template"] = {"spec": {}, **({} if metadata is None else {"metadata": metadata})}
    api: Any = ScriptedApi({WORKLOAD.path: obj})
    workloads.restart(api, WORKLOAD, NOTHING)
    assert api.writes() == [("PATCH", "/apis/apps/v1/namespaces/apps/daemonsets/hook")]
    *before, last = api.sent[0]
    assert before == [LOCK, *first]
    assert "T" in str(last["value"])
    if (metadata or {}).get("annotations"):
        assert last["path"] == "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt"
    else:
        assert last["path"] == "/spec/template/metadata/annotations"


def test_a_restart_is_judged_again_after_a_conflict() -> None:
    """Another rollout begins between the read and the write."""
    api: Any = ScriptedApi({WORKLOAD.path: workload("DaemonSet")})
    answers = iter([api_error(Conflict), {}])
    api.on_write = lambda *_arguments: next(answers)
    workloads.restart(api, WORKLOAD, NOTHING)
    assert len(api.writes()) == 2

    def begin(*_arguments: Any) -> Any:
        api.objects[WORKLOAD.path] = workload("DaemonSet", updated=1)
        return api_error(Conflict)

    api.on_write = begin
    with pytest.raises(RestartError) as caught:
        workloads.restart(api, WORKLOAD, NOTHING)
    assert (caught.value.code, len(api.writes())) == (INCOMPLETE, 3)
