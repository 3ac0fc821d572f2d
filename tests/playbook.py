# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-playbook of the environment that runs the tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SECONDS = 900
# The line with which a step begins, under -v: its host, its place in the hop, and its id.
STEP = re.compile(r"\S+  \d+/\d+  ([a-z0-9-]+( \(undo\))?)")
Meet = Callable[[str, "subprocess.Popen[str]"], None]


@dataclass(frozen=True)
class Run:
    """What a playbook printed, and how it ended."""

    status: int
    output: str

    def recap(self, word: str) -> int:
        """The sum over all hosts of a number of the recap, such as "changed"."""
        tail = self.output.rpartition("PLAY RECAP")[2]
        return sum(int(part.partition("=")[2]) for part in tail.split() if part.startswith(f"{word}="))


def play(
    directory: Path,
    plays: list[dict[str, Any]] | Path,
    *arguments: str,
    program: str = "ansible-playbook",
    **environment: str,
) -> Run:
    """Run plays (or a file of them, or a playbook of a collection by its name) in ``directory``.

    ``environment`` is added to the process's own.
    """
    done = subprocess.run(
        _command(program, directory, plays, arguments),
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Run(done.returncode, done.stdout)


def followed(
    directory: Path,
    plays: list[dict[str, Any]] | Path,
    *arguments: str,
    seconds: float = SECONDS,
    meet: Meet | None = None,
) -> tuple[Run, list[tuple[float, str]]]:
    """The same, and when each task began (time.time), with its name.

    With -v also when each step of an upgrade began, with its id. A step that puts the previous release back has " (undo)" after it.
    meet: called with each of these names when it begins, and with the process, which does not wait for it.
    """
    lines: list[str] = []
    began: list[tuple[float, str]] = []
    with subprocess.Popen(
        _command("ansible-playbook", directory, plays, arguments),
        cwd=directory,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=meet is not None,
    ) as process:
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            name = _begun(line)
            if name:
                began.append((time.time(), name))
                if meet is not None:
                    meet(name, process)
        timer.cancel()
    return Run(process.returncode, "".join(lines)), began


def _begun(line: str) -> str:
    """Return the name of the task, or the id of the upgrade's step, that begins with this line of output, or ""."""
    if line.startswith("TASK ["):
        return line.removeprefix("TASK [").rpartition("]")[0].rpartition(" : ")[2]
    found = STEP.fullmatch(line.rstrip("\n"))
    return found[1] if found else ""


def kill(process: subprocess.Popen[str]) -> None:
    """End a process of `followed` that meets something, and all that it started, as a machine does that fails."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)


def _command(
    program: str, directory: Path, plays: list[dict[str, Any]] | Path, arguments: tuple[str, ...]
) -> list[str]:
    path = plays
    if not isinstance(path, Path):
        path = directory / "play.yml"
        path.write_text(yaml.safe_dump(plays, sort_keys=False))
    return [str(Path(sys.executable).with_name(program)), *arguments, str(path)]
