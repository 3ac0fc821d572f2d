# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The run file of a fleet run: what the run has started and what has ended, one JSON object per line.

Every process of a run appends to it under a lock. It serves the failure budget, and with the details of the outcomes in a file beside
it, the report. It is never a reason to skip a cluster, and it holds no connection data. A torn last line, which a killed process left,
is cut off.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ...module_utils._base.times import format_time
from . import budget as budgets
from . import details_file, outcomes, overlap, private_file, run_state
from .budget import Budget
from .overlap import Claim, Owner
from .private_file import PrivateFile, RunFileError
from .run_state import RunState

#: Larger files are reduced to the unfinished runs when a run begins.
MOST_KEPT_BYTES = 1024 * 1024
#: A larger file is not read.
MOST_BYTES = 64 * 1024 * 1024
#: A run without an event for a longer time has ended, if its process does not exist. The process of a run in another container cannot be seen.
LONGEST_SILENCE = timedelta(days=2)


@dataclass(frozen=True)
class Unfinished:
    """The clusters that the last run started and did not end."""

    run: str
    #: When that run began, in the form of RFC 3339.
    at: str
    hosts: tuple[str, ...]


def new_run_id(now: datetime) -> str:
    """Return the name of a run: the time and eight random digits."""
    return f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def begin(path: str, run: str, total: int, plan: Mapping[str, Any], pid: int = 0) -> Unfinished | None:
    """Begin a run: create the file if it does not exist, and append the event.

    total: number of clusters of the run. plan: further facts about the run, without connection data. pid: the process of the run.
    Return the clusters that the last run of the file started and did not end, None without one. Raises RunFileError.
    """
    with private_file.opened(path, create=True, is_locked=True) as file:
        content = _read(file)
        last = run_state.last_run(run_state.read_events(content))
        state = run_state.fold(run_state.read_events(content, last), last)
        facts = {"at": _now(), "total": total, "plan": dict(plan), "pid": pid}
        started = run_state.to_line({"event": run_state.RUN_STARTED, "run": run, **facts})
        if max(len(content), details_file.size(path)) > MOST_KEPT_BYTES:
            kept = _open_runs(content)
            details_file.keep(path, kept)
            # It ends the lock for processes that open the path, so it is the last step.
            file.replace(b"".join((*kept.values(), started)))
        else:
            file.append(started)
    hosts = tuple(state.unfinished)
    return Unfinished(last, state.at, hosts) if hosts and not state.is_ended else None


@dataclass(frozen=True)
class RunFile:
    """The file of a run that has begun. Each method opens it, so forked processes share nothing but the file.

    Every method raises RunFileError if the file cannot be read or written.
    """

    path: str
    run: str
    budget: Budget = field(default_factory=Budget)

    def start_cluster(self, host: str, stage: str) -> str:
        """Append that a cluster starts, unless the budget is spent. Return the reason then, otherwise "".

        The check and the append happen under one lock. So the number of clusters that start after a failure is exact.
        """
        with self._open() as (file, state):
            refusal = budgets.find_refusal(state, self.budget, stage, is_alive=_is_alive)
            if not refusal:
                event = {"cluster": host, "stage": stage, "pid": os.getpid()}
                file.append(self._line(run_state.CLUSTER_STARTED, **event))
            return refusal

    def claim(self, host: str, claim: Claim) -> Owner | None:
        """Append that a host means this cluster. Return the other host of this run that claimed it before, None without one."""
        with self._open() as (file, state):
            if claim not in state.claims:
                file.append(self._line(run_state.CLUSTER_CLAIMED, cluster=host, **claim._asdict()))
            return overlap.find_owner(state.claims, claim, host)

    def end_cluster(
        self, host: str, stage: str, outcome: Mapping[str, Any], seconds: float = 0
    ) -> outcomes.Progress:
        """Append the outcome of a cluster, and return how far the run is. A later outcome replaces an earlier one.

        outcome: its status, code, reason, and further keys of the report. What the budget does not need goes into the details.
        A cluster that did not start may end too, with an outcome such as waiting.
        """
        with self._open() as (file, state):
            details = {key: value for key, value in outcome.items() if key not in run_state.BRIEF}
            event = {
                "event": run_state.CLUSTER_ENDED,
                "run": self.run,
                "at": _now(),
                "cluster": host,
                "stage": stage,
                "seconds": round(seconds, 1),
                "outcome": {key: value for key, value in outcome.items() if key in run_state.BRIEF},
                "counts": run_state.count_entries(details),
                "digest": details_file.append(self.path, self.run, host, details) if details else "",
            }
            file.append(run_state.to_line(event))
            after = run_state.fold([event], self.run, state)
            return outcomes.Progress(after.ended, after.total, len(after.failed), self.budget.limit)

    def start_soak(self, stage: str, seconds: int) -> None:
        """Append that the wait after a stage began."""
        self._append(run_state.SOAK_STARTED, stage=stage, seconds=seconds)

    def end_run(self) -> None:
        """Append that the run ended."""
        self._append(run_state.RUN_ENDED)

    def read(self) -> RunState:
        """Return the state of the run. Of an outcome it has what the budget needs."""
        with self._open() as (_file, state):
            return state

    def read_details(self) -> RunState:
        """Return the state of the run with the whole outcomes. Details that are lost are absent."""
        with self._open() as (_file, state):
            digests = {host: cluster.digest for host, cluster in state.clusters.items()}
            details = details_file.read(self.path, digests)
        clusters = {
            host: replace(cluster, outcome={**cluster.outcome, **details.get(host, {})})
            for host, cluster in state.clusters.items()
        }
        return replace(state, clusters=clusters)

    def _append(self, kind: str, **fields: Any) -> None:
        with self._open() as (file, _state):
            file.append(self._line(kind, **fields))

    def _line(self, kind: str, **fields: Any) -> bytes:
        return run_state.to_line({"event": kind, "run": self.run, "at": _now(), **fields})

    @contextmanager
    def _open(self) -> Iterator[tuple[PrivateFile, RunState]]:
        with private_file.opened(self.path, is_locked=True) as file:
            known = _KNOWN.get((self.path, self.run), _NOTHING)
            if file.read(known.end - len(known.last), known.end) != known.last:
                known = _NOTHING
            added = _read(file, known.end)
            state = run_state.fold(run_state.read_events(added, self.run), self.run, known.state)
            if not state.run:
                raise RunFileError(
                    f"the run file {self.path} no longer contains this run",
                    remedy="Give each simultaneous run its own file (certflow_run_file)",
                )
            last = run_state.last_line(added) or known.last
            _KNOWN[self.path, self.run] = _Known(state, known.end + len(added), last)
            yield file, state


@dataclass(frozen=True)
class _Known:
    """The part of a run file that this process has read. A forked process inherits it, and reads only what was added."""

    state: RunState = field(default_factory=RunState)
    #: Number of its bytes.
    end: int = 0
    #: Its last line, by which it is found again.
    last: bytes = b""


_NOTHING = _Known()
# Path and run -> the part that this process has read.
_KNOWN: dict[tuple[str, str], _Known] = {}


def _read(file: PrivateFile, start: int = 0) -> bytes:
    """Return the whole lines from byte ``start``, and cut off a torn last line. Make the file private.

    A file of another kind stays as it is.
    """
    size = file.size
    if size > MOST_BYTES:
        raise private_file.problem_error(file.path, f"has {size} bytes", "Move or delete it")
    content = file.read(start, size)
    if not start and not run_state.is_run_file(content):
        raise private_file.problem_error(
            file.path, "is not a run file", "Name a file that does not exist, or one of an earlier run"
        )
    file.make_private()
    lines = run_state.whole_lines(content)
    if start + len(lines) != size:
        os.ftruncate(file.descriptor, start + len(lines))
    return lines


def _open_runs(content: bytes) -> dict[str, bytes]:
    """Return the lines of each run that may be at work. The older ones without a process are left out if they are too large."""
    runs: dict[str, list[run_state.Event]] = {}
    for event in run_state.read_events(content):
        runs.setdefault(event["run"], []).append(event)
    kept: dict[str, bytes] = {}
    kept_bytes = 0
    oldest = format_time(datetime.now(timezone.utc) - LONGEST_SILENCE)
    for run in reversed(list(runs)):  # the newest run first, because the space ends
        events = runs[run]
        if any(event["event"] == run_state.RUN_ENDED for event in events):
            continue
        lines = b"".join(run_state.to_line(event) for event in events)
        has_space = kept_bytes + len(lines) <= MOST_BYTES // 2
        # Times in this format sort as text.
        is_recent = events[-1].get("at", "") > oldest
        if _is_alive(events[0].get("pid", 0)) or (has_space and is_recent):
            kept[run] = lines
            kept_bytes += len(lines)
    return dict(reversed(kept.items()))


def _is_alive(pid: int) -> bool:
    """Return True if the process exists. pid: 0 for no process."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _now() -> str:
    return format_time(datetime.now(timezone.utc))
