# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The run file of a fleet run: what the run has started and what has ended, one JSON object per line.

Every process of a run appends to it under a lock. It serves the failure budget and the report. It is never a reason to skip a
cluster, and it holds no connection data. A torn last line, which a killed process left, is cut off.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.times import format_time
from . import budget as budgets
from . import outcomes, overlap, run_state
from .budget import Budget
from .overlap import Claim, Owner
from .run_state import RunState

#: A larger file is reduced to its unfinished runs when a run begins.
MOST_KEPT_BYTES = 1024 * 1024
#: A larger file is not read.
MOST_BYTES = 64 * 1024 * 1024
#: A run without an event for a longer time has ended, if its process does not exist. The process of a run in another container cannot be seen.
LONGEST_SILENCE = timedelta(days=2)
#: Seconds to wait for the lock. A process holds it for milliseconds.
LOCK_TIMEOUT = 30.0
#: The file must be a regular file with one name. Opening must not wait for a pipe, and must not follow a link.
OPEN_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class RunFileError(CertflowError):
    """The run file cannot be used, so no further cluster may start."""

    code = "run-file-unusable"


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
    with _locked(path, create=True) as file:
        content = file.read()
        last = run_state.last_run(run_state.read_events(content))
        state = run_state.fold(run_state.read_events(content, last), last)
        if len(content) > MOST_KEPT_BYTES:
            file.replace(_reduced(content))
        facts = {"at": _now(), "total": total, "plan": dict(plan), "pid": pid}
        file.append({"event": run_state.RUN_STARTED, "run": run, **facts})
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
                file.append(self._event(run_state.CLUSTER_STARTED, **event))
            return refusal

    def claim(self, host: str, claim: Claim) -> Owner | None:
        """Append that a host means this cluster. Return the other host of this run that claimed it before, None without one."""
        with self._open() as (file, state):
            if claim not in state.claims:
                file.append(self._event(run_state.CLUSTER_CLAIMED, cluster=host, **claim._asdict()))
            return overlap.find_owner(state.claims, claim, host)

    def end_cluster(
        self, host: str, stage: str, outcome: Mapping[str, Any], seconds: float = 0
    ) -> outcomes.Progress:
        """Append the outcome of a cluster, and return how far the run is. A later outcome replaces an earlier one.

        outcome: its status, code, reason, and further keys of the report. Texts that are too long for a line are cut.
        A cluster that did not start may end too, with an outcome such as waiting.
        """
        with self._open() as (file, state):
            event = {"cluster": host, "stage": stage, "seconds": round(seconds, 1)}
            details = run_state.with_details(outcome)
            entry = run_state.fit(self._event(run_state.CLUSTER_ENDED, **event, **details))
            file.append(entry)
            return budgets.progress(run_state.add_outcome(state, entry), self.budget)

    def start_soak(self, stage: str, seconds: int) -> None:
        """Append that the wait after a stage began."""
        self._append(run_state.SOAK_STARTED, stage=stage, seconds=seconds)

    def end_run(self) -> None:
        """Append that the run ended."""
        self._append(run_state.RUN_ENDED)

    def read(self) -> RunState:
        """Return the state of the run, with all details."""
        with self._open() as (file, _state):
            return run_state.fold(run_state.read_events(file.read(), self.run), self.run)

    def _append(self, kind: str, **fields: Any) -> None:
        with self._open() as (file, _state):
            file.append(self._event(kind, **fields))

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"event": kind, "run": self.run, "at": _now(), **fields}

    @contextmanager
    def _open(self) -> Iterator[tuple[_LockedFile, RunState]]:
        with _locked(self.path) as file:
            known = _KNOWN.get((self.path, self.run), _NOTHING)
            if not file.has(known.last, known.end):
                known = _NOTHING
            added = file.read(known.end)
            events = run_state.read_events(added, self.run, detailed=False)
            state = run_state.fold(events, self.run, known.state)
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


class _LockedFile:
    """An open run file under its lock."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = 0

    def has(self, line: bytes, end: int) -> bool:
        """Return True if the file has this line in front of byte ``end``."""
        return self._bytes(end - len(line), end) == line

    def read(self, start: int = 0) -> bytes:
        """Return the whole lines from byte ``start``, and cut off a torn last line. Make the file private.

        A file of another kind stays as it is.
        """
        status = os.fstat(self._descriptor)
        if status.st_size > MOST_BYTES:
            raise _unusable(self._path, f"has {status.st_size} bytes", "Move or delete it")
        content = self._bytes(start, status.st_size)
        if not start and not run_state.is_run_file(content):
            raise _unusable(
                self._path, "is not a run file", "Name a file that does not exist, or one of an earlier run"
            )
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(self._descriptor, 0o600)
        lines = run_state.whole_lines(content)
        self._size = start + len(lines)
        if self._size != status.st_size:
            os.ftruncate(self._descriptor, self._size)
        return lines

    def append(self, event: run_state.Event) -> None:
        """Append an event. The file stays as it was if that fails."""
        try:
            line = run_state.to_line(event)
        except ValueError as error:
            raise _unusable(self._path, f"cannot hold {error}", "Shorten the name of the host") from error
        self._write(line)

    def replace(self, content: bytes) -> None:
        """Replace the content."""
        os.ftruncate(self._descriptor, 0)
        self._size = 0
        self._write(content)

    def _bytes(self, start: int, end: int) -> bytes:
        content = b""
        while len(content) < end - start:
            part = os.pread(self._descriptor, end - start - len(content), start + len(content))
            if not part:
                break
            content += part
        return content

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


@contextmanager
def _locked(path: str, create: bool = False) -> Iterator[_LockedFile]:
    """Open the file, check that it is this user's, and hold its lock in the block. Raises RunFileError."""
    try:
        descriptor = _open_file(path, create)
        try:
            _lock(path, descriptor)
            yield _LockedFile(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from error


def _open_file(path: str, create: bool) -> int:
    folder, name = os.path.split(os.path.abspath(path))
    with paths.open_folder(folder) as directory:
        # In a folder such as /tmp other users may create files, but not replace this one.
        if not paths.keeps_entries(os.fstat(directory)):
            raise _unusable(
                path,
                "is in a folder that other users may write to",
                "Use a folder of your own with the mode 0700",
            )
        descriptor = os.open(name, OPEN_FLAGS | (os.O_CREAT if create else 0), 0o600, dir_fd=directory)
    try:
        _check_file(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(path: str, descriptor: int) -> None:
    """Check that the file is a regular file of this user, which no link leads to."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise _unusable(path, "is not a regular file with one name", "Delete it or use another path")
    if status.st_uid != os.geteuid():
        raise _unusable(path, "belongs to another user", "Use another path")


def _lock(path: str, descriptor: int) -> None:
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                text = f"has been locked by another process for {LOCK_TIMEOUT:.0f} seconds"
                raise _unusable(path, text, "End the process that hangs") from None
        time.sleep(0.005)


def _reduced(content: bytes) -> bytes:
    """Return the events of the runs that may be at work. The older ones without a process are left out if they are too large."""
    runs: dict[str, list[run_state.Event]] = {}
    for event in run_state.read_events(content):
        runs.setdefault(event["run"], []).append(event)
    kept: list[bytes] = []
    oldest = format_time(datetime.now(timezone.utc) - LONGEST_SILENCE)
    for events in reversed(list(runs.values())):
        lines = b"".join(map(run_state.to_line, events))
        is_small = sum(map(len, kept)) + len(lines) <= MOST_BYTES // 2
        is_at_work = _is_alive(events[0].get("pid", 0)) or (is_small and events[-1].get("at", "") > oldest)
        if is_at_work and all(event["event"] != run_state.RUN_ENDED for event in events):
            kept.append(lines)
    return b"".join(reversed(kept))


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


#: Number of a system error -> what it means for the run file, the remedy.
_PROBLEMS = {
    errno.ENOENT: (
        "does not exist, or its folder does not",
        "Create the folder, and do not delete the file during a run",
    ),
    errno.ENOSPC: ("cannot be written: the disk is full", "Free space and run the playbook again"),
    errno.EDQUOT: ("cannot be written: the quota is used up", "Free space and run the playbook again"),
    errno.ELOOP: ("is a symbolic link, or a link of another user leads to it", "Name the file itself"),
    errno.EFBIG: ("cannot be written: it would be larger than this process may write", "Move or delete it"),
}


def _problem(error: OSError) -> tuple[str, str]:
    known = _PROBLEMS.get(error.errno or 0)
    return known or (f"cannot be used: {error.strerror}", "Check the path and its permissions")


def unusable(path: str, error: OSError) -> RunFileError:
    """Return the error of a run file that the system refuses."""
    return _unusable(path, *_problem(error))


def _unusable(path: str, problem: str, remedy: str) -> RunFileError:
    return RunFileError(f"the run file {path} {problem}", remedy=remedy)


def _now() -> str:
    return format_time(datetime.now(timezone.utc))
