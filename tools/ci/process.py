# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a gate's programs: output into a log file, everything ended with the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# A test of real clusters needs some seconds after Ctrl-C to stop what it started.
_PATIENCE = ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()


class RunInterrupted(Exception):
    """The run is being ended: nothing more is started."""


def run(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path, timeout: float = 900.0
) -> int:
    """Runs one program and returns its exit code; its output is appended to `log`.

    A program that outlives `timeout` (seconds) is ended with all its children, which the log says, and
    counts as exit code 124. Raises RunInterrupted.
    """
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        child = _start(command, output.fileno(), env, cwd)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
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
        raise RunInterrupted
    return code


def _start(
    command: Sequence[str | Path], output: int, env: Mapping[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    with _lock:
        if _stopping.is_set():
            raise RunInterrupted
        # A session of its own, so that its children can be ended as one group.
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
    """Whether anything of a program's group is left, the program itself or what it started."""
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(*children: subprocess.Popen[bytes]) -> None:
    """Ends programs with their groups: first politely, all at once, then for good."""
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


def end_all() -> None:
    """Ends what is running and lets nothing start any more."""
    with _lock:
        _stopping.set()
        children = tuple(_running)
    end(*children)
