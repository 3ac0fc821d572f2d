# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a program, and measure its wall clock time, CPU time, memory and output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 3600.0
SAMPLE_EVERY = 0.1
_MEGABYTE = 1024


@dataclass(frozen=True)
class Command:
    """A program with its input."""

    arguments: Sequence[str]
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """What a program did and used."""

    status: int
    output: str
    #: Wall clock time in seconds.
    wall: float
    #: CPU time in seconds, of the program and of all its descendants.
    cpu: float
    #: Memory in MB by name: see `Memory`.
    memory: dict[str, float]

    def measures(self) -> dict[str, float]:
        return {"wall": self.wall, "cpu": self.cpu, "lines": self.output.count("\n"), **self.memory}


class RunFailed(Exception):
    """A program did not do its work. The text has its last output."""


def run(command: Command, directory: Path, *, memory: bool = False, limit: float = LIMIT) -> Finished:
    """Run a program until its end. memory: read its memory too, which costs some CPU time.

    Raises RunFailed after `limit` seconds.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as stdin:
        stdin.write(command.stdin)
        stdin.seek(0)
        began = time.monotonic()
        process = subprocess.Popen(
            list(command.arguments),
            cwd=directory,
            env={**os.environ, **command.environment},
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(limit, _kill, (process.pid,))
        timer.start()
        sampler = Memory(process.pid) if memory else None
        try:
            with sampler or contextlib.nullcontext():
                _pid, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            _kill(process.pid)
            process.wait()
            raise
        finally:
            timer.cancel()
        wall = time.monotonic() - began
        output.seek(0)
        text = output.read()
    if wall >= limit:
        raise RunFailed(f"it did not end within {limit:.0f} s: {text[-300:]}")
    used = sampler.measures() if sampler else {}
    return Finished(process.returncode, text, wall, usage.ru_utime + usage.ru_stime, used)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(pid, signal.SIGKILL)


class Memory(threading.Thread):
    """Read the memory of a process and of its direct children (the forks of Ansible) while the block runs.

    A page that several processes share counts in equal parts for each (PSS).
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._end = threading.Event()
        self._parent = 0.0
        self._all = 0.0
        #: Number of forks, mean PSS and mean private memory of a fork, of each sample.
        self._forks: list[tuple[int, float, float]] = []

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.wait(SAMPLE_EVERY):
            self._sample()

    def measures(self) -> dict[str, float]:
        """Return the peaks in MB. Those of a fork are from the samples with the most forks."""
        most = max((count for count, *_means in self._forks), default=0)
        full = [means for count, *means in self._forks if count == most]
        return {
            "pss_parent": self._parent,
            "pss_all": self._all,
            "pss_fork": max((pss for pss, _private in full), default=0.0),
            "private_fork": max((private for _pss, private in full), default=0.0),
        }

    def _sample(self) -> None:
        parent = _memory(self._pid)
        forks = [_memory(pid) for pid in children(self._pid)]
        rest = sum(_memory(pid)[0] for child in children(self._pid) for pid in descendants(child))
        alive = [entry for entry in forks if entry[0]]
        self._parent = max(self._parent, parent[0])
        self._all = max(self._all, parent[0] + rest + sum(pss for pss, _private in alive))
        if alive:
            count = len(alive)
            self._forks.append(
                (count, sum(pss for pss, _ in alive) / count, sum(private for _, private in alive) / count)
            )


def children(pid: int) -> list[int]:
    """Return the ids of the direct children of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found += map(int, path.read_text().split())
    return found


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of the children of a process, of their children, and so on."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def _memory(pid: int) -> tuple[float, float]:
    """Return PSS and private memory in MB. Both are 0 if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    sizes = {line.partition(":")[0]: line.split() for line in text.splitlines()[1:]}
    private = sum(int(sizes[name][1]) for name in ("Private_Clean", "Private_Dirty") if name in sizes)
    return int(sizes.get("Pss", ["", "0"])[1]) / _MEGABYTE, private / _MEGABYTE


def cpu_of(pids: Sequence[int]) -> float:
    """Return the CPU seconds that these processes have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / ticks
    return used
