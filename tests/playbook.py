# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-playbook of the environment that runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SECONDS = 300


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
    path = plays
    if not isinstance(path, Path):
        path = directory / "play.yml"
        path.write_text(yaml.safe_dump(plays, sort_keys=False))
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments, str(path)],
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
