# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The events of a run file, and the state of a run that they add up to. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._report import report_schema
from .overlap import Claim

RUN_STARTED, RUN_ENDED = "run-started", "run-ended"
CLUSTER_STARTED, CLUSTER_CLAIMED, CLUSTER_ENDED = "cluster-started", "cluster-claimed", "cluster-ended"
SOAK_STARTED = "soak-started"
EVENTS = (
    RUN_STARTED,
    CLUSTER_STARTED,
    CLUSTER_CLAIMED,
    CLUSTER_ENDED,
    SOAK_STARTED,
    RUN_ENDED,
)
#: The key of the outcome of a cluster in which nothing was done. Such a canary has shown nothing.
UNTOUCHED = "is_untouched"
#: The keys of an outcome that a process reads when a cluster starts. Every other key is in the details.
BRIEF = frozenset(("status", "code", "opens_at", UNTOUCHED))
#: The beginning of each run file.
_BEGINNING = b'{"event":"' + RUN_STARTED.encode() + b'","run":"'

Event = Mapping[str, Any]


@dataclass(frozen=True)
class ClusterState:
    """A cluster that a run started, or that has an outcome."""

    stage: str
    #: The last outcome, report_schema.STARTED while the run works on it.
    status: str = report_schema.STARTED
    code: str = ""
    seconds: float = 0
    #: The process that works on it.
    pid: int = 0
    #: The last outcome. Without details, it has the keys of BRIEF.
    outcome: Mapping[str, Any] = field(default_factory=dict)
    #: The digest of its details, "" without details.
    digest: str = ""


@dataclass(frozen=True)
class RunState:
    """A run as its events tell it."""

    #: The run, "" if it did not begin.
    run: str = ""
    #: When it began, as text in the form of RFC 3339.
    at: str = ""
    #: Number of its clusters.
    total: int = 0
    #: The clusters by host.
    clusters: Mapping[str, ClusterState] = field(default_factory=dict)
    #: The clusters that hosts mean -> host.
    claims: Mapping[Claim, str] = field(default_factory=dict)
    is_ended: bool = False

    @property
    def ended(self) -> int:
        """Return the number of clusters that have an outcome."""
        return sum(cluster.status != report_schema.STARTED for cluster in self.clusters.values())

    @property
    def failed(self) -> list[str]:
        """Return the clusters that count for certflow_max_failures."""
        return [host for host, cluster in self.clusters.items() if cluster.status in report_schema.COUNTED]

    @property
    def unfinished(self) -> list[str]:
        """Return the clusters that were started and did not end."""
        return [host for host, cluster in self.clusters.items() if cluster.status == report_schema.STARTED]


def to_line(event: Event) -> bytes:
    """Return an event as a line of a run file."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def count_entries(details: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of entries of each list and dictionary."""
    return {key: len(value) for key, value in details.items() if isinstance(value, (list, tuple, Mapping))}


def whole_lines(content: bytes) -> bytes:
    """Return the content without a torn last line."""
    return content[: content.rfind(b"\n") + 1]


def last_line(content: bytes) -> bytes:
    """Return the last one of whole lines with its end, empty without lines."""
    return content[content.rfind(b"\n", 0, -1) + 1 :] if content else b""


def is_run_file(content: bytes) -> bool:
    """Return True for the content of a run file. It may be empty, or a torn first line."""
    first, newline, _rest = content.partition(b"\n")
    return to_event(first) is not None if newline else first[: len(_BEGINNING)] == _BEGINNING[: len(first)]


def read_events(content: bytes, run: str = "") -> Iterator[Event]:
    """Yield the events of a run, or of all runs. Lines that are not events are passed over."""
    mark = json.dumps(run).encode() if run else b""
    for line in io.BytesIO(whole_lines(content)):  # without a copy of all lines
        event = to_event(line.rstrip(b"\n")) if mark in line else None
        if event is not None and run in ("", event["run"]):
            yield event


_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("at", "cluster", "digest", "stage", *Claim._fields), (str,)),
    **dict.fromkeys(("pid", "total"), (int,)),
    "seconds": (int, float),
    "outcome": (dict,),
}


def to_event(line: bytes) -> Event | None:
    """Return the event of a line, None for another line."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = (
        isinstance(event, dict)
        and event.get("event") in EVENTS
        and isinstance(event.get("run"), str)
        and all(isinstance(event[key], kinds) for key, kinds in _TYPES.items() if key in event)
    )
    return event if is_event else None


def fold(events: Iterable[Event], run: str, state: RunState | None = None) -> RunState:
    """Return the state of a run after these events. The last outcome of a cluster counts.

    state: the state before the events, None at the beginning of the run.
    """
    state = state or RunState()
    clusters, claims = dict(state.clusters), dict(state.claims)
    for event in events:
        kind, host = event["event"], event.get("cluster", "")
        if event["run"] != run:
            continue
        if kind == RUN_STARTED:
            state = replace(state, run=run, at=event.get("at", ""), total=event.get("total", 0))
        elif kind == RUN_ENDED:
            state = replace(state, is_ended=True)
        elif kind == CLUSTER_CLAIMED:
            claims.setdefault(Claim(*(event.get(key, "") for key in Claim._fields)), host)
        elif kind in _OF_CLUSTERS:
            clusters[host] = _OF_CLUSTERS[kind](event)
    return replace(state, clusters=clusters, claims=claims)


def _ended(event: Event) -> ClusterState:
    outcome = event.get("outcome", {})
    return ClusterState(
        stage=event.get("stage", ""),
        status=str(outcome.get("status", report_schema.FAILED)),
        code=str(outcome.get("code", "")),
        seconds=event.get("seconds", 0),
        outcome=outcome,
        digest=event.get("digest", ""),
    )


_OF_CLUSTERS = {
    CLUSTER_STARTED: lambda event: ClusterState(event.get("stage", ""), pid=event.get("pid", 0)),
    CLUSTER_ENDED: _ended,
}


def last_run(events: Iterable[Event], other_than: str = "") -> str:
    """Return the run that began last, "" if the file has none."""
    runs = [event["run"] for event in events if event["event"] == RUN_STARTED and event["run"] != other_than]
    return runs[-1] if runs else ""
