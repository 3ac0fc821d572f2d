# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Build and parse the plan of a fleet run: the digests of its writes to each cluster, and their hash. Pure.

A run with --check writes its plan into the report and the artifact. A run that gets one of them in certflow_plan hands its digests to
the task of each cluster, which refuses other writes. The hash identifies a plan for people. It cannot show which cluster differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._variables.values import is_unset, parsed, shown

NAME = "certflow_plan"
#: Version of the form that the hash covers.
FORMAT = 2
#: The key of a result and of a report's cluster.
DIGESTS = "plan_digests"


@dataclass(frozen=True)
class RunPlan:
    """What a run would write."""

    role: str
    #: Name of the host -> its digests.
    clusters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Return the hash of the canonical JSON, with sorted keys and without blanks."""
        text = json.dumps(
            {"format": FORMAT, "role": self.role, "clusters": self.clusters},
            sort_keys=True,
            separators=(",", ":"),
        )
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def to_data(self) -> dict[str, Any]:
        """Return the plan as plain data, for an artifact."""
        return {"hash": self.hash, "role": self.role, "clusters": dict(self.clusters)}


def make(role: str, rows: Iterable[Mapping[str, Any]]) -> RunPlan:
    """Return the plan of a run with --check. A cluster that could not be planned is not in it.

    rows: the clusters of a report of kind run.
    """
    return RunPlan(role, {str(row["name"]): row[DIGESTS] for row in rows if row.get(DIGESTS)})


def find_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with certflow_plan as one line, unless it is a plan or may be the path of a report.

    An empty dictionary or list is not a plan. It would let the run write everything.
    """
    data = parsed(value)
    if is_unset(value) or (isinstance(data, Mapping) and not isinstance(from_data(data), str)):
        return
    if isinstance(data, Mapping) or not isinstance(value, str) or not value.strip().isprintable():
        yield f"{NAME} is not a plan or the path of a report: {shown(value)}."
    elif value.strip().lower().startswith("sha256"):
        yield f"{NAME} is a hash, which does not have the plan of each cluster. Set it to the report or the artifact with this hash."


def from_data(data: Mapping[str, Any]) -> RunPlan | str:
    """Return the plan of ``RunPlan.to_data``, or what is wrong with it as one line."""
    clusters = data.get("clusters")
    if not isinstance(clusters, Mapping) or not all(isinstance(row, list) for row in clusters.values()):
        return f"the value of {NAME} is not a plan"
    plan = RunPlan(str(data.get("role") or ""), clusters)
    return plan if data.get("hash") == plan.hash else f"the plan of {NAME} does not match its hash"


def from_report(report: Mapping[str, Any]) -> RunPlan | str:
    """Return the plan in the report of a run with --check, or what is wrong with it as one line.

    The report is normalised: it has each of its keys.
    """
    run = report.get("run") or {}
    if report.get("kind") != "run" or not run.get("check_mode"):
        return f"the report that {NAME} names does not come from a run with --check"
    return from_data(
        {**make(str(run.get("role") or ""), report["clusters"]).to_data(), "hash": run.get("plan")}
    )
