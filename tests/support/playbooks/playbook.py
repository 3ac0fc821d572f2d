# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-playbook from the environment of the tests."""

from __future__ import annotations

import contextlib
import json
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
from typing import Any, NamedTuple

import yaml
from ansible.release import __version__ as ansible_version

from tests.support.waiting import wait_for

SECONDS = 900
# The newest core must not warn of the collection. An older one may, because newer names do not exist there. A warning about
# the play of a test is no fault of the collection. It names another file.
NEWEST_CORE = "2.22."
DEPRECATION = re.compile(
    r"\[DEPRECATION WARNING\]:(?:(?!\n\[|\n\n|\nTASK ).)*certflow[./]kubernetes", re.DOTALL
)
# The line with which a step begins, under -v: its host, its number in the hop, and its id.
STEP = re.compile(r"(\S+)  (\d+)/\d+  ([a-z0-9-]+( \(undo\))?)")
Meet = Callable[[str, "subprocess.Popen[str]"], None]


class TaskStart(NamedTuple):
    """The beginning of a task or of a step."""

    #: Time (time.time).
    at: float
    #: Name of the task, or id of the step.
    name: str
    #: Host of the step, "" for a task.
    host: str = ""
    #: Number of the step among the steps of its hop, from 1 on.
    number: int = 0


@dataclass(frozen=True)
class PlaybookRun:
    """Output and exit status of a playbook."""

    status: int
    output: str

    def __post_init__(self) -> None:
        """Fail if the newest core warned of something that a later one refuses."""
        is_newest = ansible_version.startswith(NEWEST_CORE)
        assert not (is_newest and DEPRECATION.search(self.output)), self.output

    def recap(self, word: str) -> int:
        """Return the sum over all hosts of a number in the recap, such as "changed"."""
        tail = self.output.rpartition("PLAY RECAP")[2]
        return sum(int(part.partition("=")[2]) for part in tail.split() if part.startswith(f"{word}="))

    def reports(self) -> dict[str, Any]:
        """Return the data of the plays' tasks REPORT, as `reports_in`."""
        return reports_in(self.output)


def play(
    directory: Path,
    plays: list[dict[str, Any]] | Path,
    *arguments: str,
    program: str = "ansible-playbook",
    **environment: str,
) -> PlaybookRun:
    """Run plays (or a file of them, or a playbook of a collection by its name) in ``directory``.

    ``environment`` is added to the environment of this process.
    """
    done = subprocess.run(
        command(directory, plays, *arguments, program=program),
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return PlaybookRun(done.returncode, done.stdout)


def followed(
    directory: Path,
    plays: list[dict[str, Any]] | Path,
    *arguments: str,
    seconds: float = SECONDS,
    meet: Meet | None = None,
) -> tuple[PlaybookRun, list[TaskStart]]:
    """Run plays as `play` does, and return also when each task began.

    With -v, also return when each step of an upgrade began, with its id. A step of a rollback has " (undo)"
    after its id.

    meet: called with each of these names when it begins, and with the process, which does not wait for it.
    """
    lines: list[str] = []
    began: list[TaskStart] = []
    with subprocess.Popen(
        command(directory, plays, *arguments),
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
            begun = _begun(line)
            if begun:
                began.append(begun)
                if meet is not None:
                    meet(begun.name, process)
        timer.cancel()
    return PlaybookRun(process.returncode, "".join(lines)), began


def play_until(directory: Path, plays: list[dict[str, Any]] | Path, mark: str, *arguments: str) -> str:
    """Run plays as `play` does, and kill them at the first line that begins with the mark. Return the lines."""
    process = subprocess.Popen(
        command(directory, plays, *arguments),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith(mark):
            break
    kill(process)
    process.communicate()
    return "".join(lines)


def _begun(line: str) -> TaskStart | None:
    """Return the task, or the step of an upgrade, that begins with this line of output."""
    if line.startswith("TASK ["):
        return TaskStart(time.time(), line.removeprefix("TASK [").rpartition("]")[0].rpartition(" : ")[2])
    found = STEP.fullmatch(line.rstrip("\n"))
    return TaskStart(time.time(), found[3], found[1], int(found[2])) if found else None


def reports_in(output: str) -> dict[str, Any]:
    """Return the data of debug tasks with the message "REPORT [name, data]", by name."""
    texts = re.findall(r'"msg": ("REPORT .*")$', output, re.MULTILINE)
    return dict(json.loads(json.loads(text).partition(" ")[2]) for text in texts)


def is_step(name: str) -> bool:
    """Return True if a name is the id of a step. Names of tasks begin with a capital letter."""
    return name[:1].islower()


def is_alive(pid: int) -> bool:
    """Return True if a process runs. A zombie does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process of `followed` and all that it started, as a power failure does.

    Workers of ansible-core have their own sessions since 2.19, so a signal to the process group does not
    reach them.
    """
    kill_tree(process.pid)


def kill_tree(root: int) -> None:
    """Kill a process and its descendants."""
    for pid in _descendants(root):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(pid, signal.SIGKILL)


def _descendants(root: int) -> list[int]:
    """Stop a process and its descendants, parents first, so that none of them starts another.

    Return their ids.
    """
    found: list[int] = []
    new = [root]
    while new:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGSTOP)
        found += new
        new = [pid for pid, parent in _parents().items() if parent in found and pid not in found]
    return found


def _parents() -> dict[int, int]:
    """Return each process and its parent."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return parents


def command(
    directory: Path, plays: list[dict[str, Any]] | Path, *arguments: str, program: str = "ansible-playbook"
) -> list[str]:
    """Return the command that runs plays, a file of them, or a playbook of a collection by its name."""
    path = plays
    if not isinstance(path, Path):
        path = directory / "play.yml"
        path.write_text(yaml.safe_dump(plays, sort_keys=False))
    return [str(Path(sys.executable).with_name(program)), *arguments, str(path)]


def play_killed(directory: Path, place: Path, *arguments: str, done: Callable[[], object]) -> None:
    """Run a playbook, and kill it with all its processes as soon as a condition is true."""
    process = subprocess.Popen(
        command(directory, place, *arguments),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_for(done)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
