# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the modules share that carry out a plan's steps or try them: how a step is done, options, and what is reported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._snapshot import _act, _steps
from .._snapshot._act import Context
from .._snapshot._apply import Outcome
from .._snapshot._errors import StepError
from .._snapshot._source import UPSTREAM, Source
from .._snapshot._wanted import REGISTRY, WEBHOOK_PORT, Images, Wanted, Workload
from . import _snapshot_reconnect

if TYPE_CHECKING:
    from .._kube._client import Client

ACTIONS = {**_act.ACTIONS, **_snapshot_reconnect.ACTIONS}

WORKLOAD: dict[str, Any] = {
    "replicas": {"type": "int"},
    "min_ready_seconds": {"type": "int"},
    "labels": {"type": "dict", "default": {}},
    "annotations": {"type": "dict", "default": {}},
    "tolerations": {"type": "list", "elements": "dict", "default": []},
    "node_selector": {"type": "dict", "default": {}},
    "affinity": {"type": "dict", "default": {}},
    "resources": {"type": "dict", "default": {}},
    "priority_class": {"type": "str", "default": ""},
    "host_network": {"type": "bool", "default": False},
}
# Options of whatever renders a release's objects.
RENDERING: dict[str, Any] = {
    "source": {"type": "str", "default": UPSTREAM},
    "sums": {"type": "dict", "default": {}},
    "cache_directory": {"type": "path", "default": "~/.cache/certflow.kubernetes/releases"},
    "namespace": {"type": "str", "default": "kube-system"},
    "image_registry": {"type": "str", "default": REGISTRY},
    "digests": {"type": "dict", "default": {}},
    "pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},  # names
    "controller": {"type": "dict", "options": WORKLOAD},
    "webhook": {
        "type": "dict",
        "options": {**WORKLOAD, "port": {"type": "int", "default": WEBHOOK_PORT}},
    },
    "take_over": {"type": "bool", "default": False},
}


def step_from(given: Mapping[str, Any]) -> _steps.Step:
    """The step, checked. Raises StepError for what no plan says."""
    fields = ("id", "title", "reason", "action")
    missing = [name for name in (*fields, "parameters") if name not in given]
    if missing:
        raise StepError(
            f"the step lacks {', '.join(missing)}", remedy="Give one entry of the plan's steps as it is"
        )
    name, title, reason, action = (str(given[field]) for field in fields)
    step = _steps.Step(name, title, reason, action, dict(given["parameters"]))
    faults = _steps.faults(step)
    if not faults and step.action not in ACTIONS:
        faults = [f"{step.id}: {step.action} is not this module's to do; the role does it by another"]
    if faults:
        raise StepError(
            f"this step cannot be done: {'; '.join(faults)}", remedy="Plan again with this version"
        )
    return step


def context_from(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Context:
    wanted = Wanted(
        controller=_workload(parameters["controller"]),
        webhook=_workload(parameters["webhook"]),
        images=Images(parameters["image_registry"], parameters["digests"], parameters["pull_secrets"]),
        port=(parameters["webhook"] or {}).get("port") or WEBHOOK_PORT,
        kubernetes=_kubernetes(client),
        originals=parameters.get("originals") or (),
    )
    source = Source(parameters["source"], Path(parameters["cache_directory"]), parameters["sums"])
    return Context(
        client,
        source,
        wanted,
        namespace=parameters["namespace"],
        take_over=parameters["take_over"],
        check_mode=check_mode,
        pending=bool(parameters.get("pending")),
    )


def _workload(given: Mapping[str, Any] | None) -> Workload:
    return Workload(
        **{key: value for key, value in (given or {}).items() if key in WORKLOAD and value is not None}
    )


def _kubernetes(client: Client) -> tuple[int, int]:
    version = client.get("/version")
    major, minor = (re.match(r"\d+", str(version.get(key) or "0")) for key in ("major", "minor"))
    return (int(major[0]) if major else 0, int(minor[0]) if minor else 0)


def report(outcome: Outcome) -> dict[str, Any]:
    target = outcome.reference
    return {
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
        "change": outcome.change,
        "changes": [{"path": one.path, "before": one.before, "after": one.after} for one in outcome.changes],
        "left": list(outcome.left),
        "note": outcome.note,
    }
