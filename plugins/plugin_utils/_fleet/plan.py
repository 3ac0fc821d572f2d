# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The plan of a fleet run: what it would do to which clusters, its hash, and how two plans differ. Pure.

A run with --check writes its plan into the report. A run that gets the hash or the report in certflow_plan is refused if its own
plan differs. The hash covers the role, the clusters with their UIDs, the versions before and after, and the ids of the steps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._text import visible

from .._role_variables import is_blank, listed
from .durations import shown

NAME = "certflow_plan"
#: Version of the form that the hash covers.
FORMAT = 1
#: At most so many differences are listed.
MOST_LINES = 5
#: Report key of a cluster -> its name in a message.
VALUES = {"uid": "the UID", "before": "the version", "after": "the version to reach"}

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ClusterPlan:
    """What a run would do to one cluster."""

    #: UID of the namespace kube-system, "" if it is not known.
    uid: str = ""
    #: The version before the run.
    before: str = ""
    #: The version after the run.
    after: str = ""
    #: Ids of the steps that would change something.
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run would do. A plan that is given as its hash has no clusters."""

    hash: str
    role: str = ""
    clusters: Mapping[str, ClusterPlan] = field(default_factory=dict)


def make(role: str, rows: Iterable[Mapping[str, Any]]) -> Plan:
    """Return the plan of a run.

    rows: the clusters of a report of kind run: name, uid, before, after, steps (dictionaries with id, hop and changed).
    """
    clusters = {str(row["name"]): _cluster(row) for row in rows}
    return Plan(hash_of(role, clusters), role, clusters)


def hash_of(role: str, clusters: Mapping[str, ClusterPlan]) -> str:
    """Return the hash of a plan: of its canonical JSON, with sorted keys and without blanks."""
    content = {
        "format": FORMAT,
        "role": role,
        "clusters": {
            host: [row.uid, row.before, row.after, list(row.steps)] for host, row in clusters.items()
        },
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def is_hash(value: Any) -> bool:
    """Return True for the hash of a plan. Another text is the path of a report."""
    return isinstance(value, str) and _HASH.fullmatch(value.strip()) is not None


def find_problem(value: Any) -> str:
    """Return what is wrong with certflow_plan as one line, "" if it is a hash or may be the path of a report."""
    if is_blank(value) or is_hash(value):
        return ""
    if not isinstance(value, str) or not value.strip().isprintable():
        return f"{NAME} is not the hash of a plan or the path of a report: {shown(value)}."
    if value.strip().lower().startswith("sha256"):
        return f"{NAME} is not a complete hash: {shown(value)}. It has sha256: and 64 digits from 0 to f."
    return ""


def from_report(report: Mapping[str, Any]) -> Plan | str:
    """Return the plan in the report of a run with --check, or what is wrong with it as one line.

    The report is normalised: it has each of its keys.
    """
    run = report.get("run") or {}
    if report.get("kind") != "run" or not run.get("check_mode"):
        return f"{NAME} names a report that does not come from a run with --check."
    plan = make(str(run.get("role") or ""), report["clusters"])
    if run.get("plan") and run["plan"] != plan.hash:
        return f"{NAME} names a report whose clusters do not match its hash. Write the report again with --check."
    return plan


def differences(planned: Plan, now: Plan) -> list[str]:
    """Return how the plan of this run differs from the planned one: at most six lines, none if they are equal."""
    if planned.hash == now.hash:
        return []
    lines = [*_differences(planned, now)] if planned.clusters else []
    if not lines:
        lines = [f"the plan of this run has the hash {now.hash}, and {NAME} has {planned.hash}"]
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"{more} more difference{'' if more == 1 else 's'}"] if more > 0 else [])]


def _differences(planned: Plan, now: Plan) -> Iterator[str]:
    if planned.role != now.role:
        yield f"the plan is for the role {visible(planned.role)}, and this run is for {visible(now.role)}"
    for host in planned.clusters:
        if host not in now.clusters:
            yield f"{visible(host)}: it is in the plan and not in this run"
    for host, cluster in now.clusters.items():
        if host in planned.clusters:
            yield from cluster_differences(host, planned.clusters[host], cluster)
        else:
            yield f"{visible(host)}: it is in this run and not in the plan"


def cluster_differences(host: str, planned: ClusterPlan, now: ClusterPlan) -> Iterator[str]:
    """Yield how a run differs from the plan on one cluster, one line each."""
    for key, name in VALUES.items():
        old, new = getattr(planned, key), getattr(now, key)
        if old != new:
            yield f"{visible(host)}: {name} is {_shown(new)}, and {_shown(old)} in the plan"
    if planned.steps != now.steps:
        added = [step for step in now.steps if step not in planned.steps]
        gone = [step for step in planned.steps if step not in now.steps]
        parts = [
            f"{word} {listed(map(visible, ids))}" for word, ids in (("has", added), ("lacks", gone)) if ids
        ]
        yield f"{visible(host)}: this run {' and '.join(parts) or 'has the steps in another order'}"


def _shown(value: str) -> str:
    return visible(value) if value else "none"


def _cluster(row: Mapping[str, Any]) -> ClusterPlan:
    values = {key: str(row.get(key) or "") for key in VALUES}
    return ClusterPlan(
        **values, steps=tuple(_step_id(step) for step in row.get("steps") or () if _is_due(step))
    )


def _is_due(step: Mapping[str, Any]) -> bool:
    """Return True for a step that would change something. A step that does not say so counts."""
    return bool(step.get("changed", True))


def _step_id(step: Mapping[str, Any]) -> str:
    """Return the id of a step with its release. Two releases on the way may have steps of one id."""
    return "@".join(str(step[key]) for key in ("id", "hop") if step.get(key))
