# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the programs of gates and of measurements with their output in a log file, and end all of them with the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

#: A program that runs for so long (seconds) hangs. A busy machine does not reach it.
HANGS = 7200.0
# A test on real clusters needs some seconds after Ctrl-C to stop what it started.
_PATIENCE = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()
#: Its attribute seconds is what the ended programs of each thread used.
_used = threading.local()
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class GatesInterrupted(Exception):
    """The run is ending, so no program may start."""


def run(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path, timeout: float = HANGS
) -> int:
    """Run a program, append its output to `log`, and return its exit code.

    A program that outlives `timeout` (seconds) is ended with all its children. The log says so, and the exit
    code is 124. Raises GatesInterrupted.
    """
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        child = _start(command, output.fileno(), env, cwd)
        try:
            _wait_for_end(child, timeout)
            _count(child)
            code = child.wait()
        except TimeoutError:
            _count(child)
            end(child)
            code = 124
            output.write(f"\nended after {timeout:.0f} s without a result\n".encode())
        except KeyboardInterrupt:
            end(child)
            raise
        finally:
            with _lock:
                _running.discard(child)
    if _stopping.is_set():
        raise GatesInterrupted
    return code


def processor_seconds() -> float:
    """Return the seconds of processor that the programs of this thread used, with all their children that they waited for."""
    seconds: float = getattr(_used, "seconds", 0.0)
    return seconds


def _count(child: subprocess.Popen[bytes]) -> None:
    """Add what a program used. This comes before the wait for a program that has ended: its numbers are gone after that."""
    with contextlib.suppress(OSError):  # a system without /proc
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        # utime, stime, cutime and cstime: proc_pid_stat(5) counts them from 14, with the two fields before ")"
        _used.seconds = processor_seconds() + sum(map(int, fields[11:15])) / _CLOCK_TICKS


def _wait_for_end(child: subprocess.Popen[bytes], timeout: float) -> None:
    """Return when a program has ended, and leave its numbers readable. Raises TimeoutError after some seconds."""
    deadline = time.monotonic() + timeout
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while os.waitid(os.P_PID, child.pid, options) is None:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def _start(
    command: Sequence[str | Path], output: int, env: Mapping[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    with _lock:
        if _stopping.is_set():
            raise GatesInterrupted
        # Its own session, so that its children can be ended as one group.
        child = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        _running.add(child)
    return child


def _alive(child: subprocess.Popen[bytes]) -> bool:
    """Return True if the program or one of its children still runs."""
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(*children: subprocess.Popen[bytes]) -> None:
    """End programs with their groups, all at once: first with SIGINT, then with SIGTERM, then with SIGKILL."""
    for sent, patience in _PATIENCE:
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, sent)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(map(_alive, children)):
            time.sleep(0.1)
        children = tuple(filter(_alive, children))
        if not children:
            return


def end_all_at_a_signal() -> None:
    """End all running programs and this one after Ctrl-C, SIGTERM or SIGHUP. A run of nohup still ignores SIGHUP.

    A shell lets its background jobs ignore SIGINT. With a handler here, the programs that tests interrupt do not inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    # Waiting for threads is not interruptible. Ending the children lets the threads return.
    print("\nended by a signal: stopping what was started ...", file=sys.stderr, flush=True)
    end_all()
    os._exit(128 + number)


def end_all() -> None:
    """End all running programs, and prevent the start of others."""
    with _lock:
        _stopping.set()
        children = tuple(_running)
    end(*children)
