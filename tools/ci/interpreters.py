# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the Python interpreters of this machine."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# `_base_executable` is the real interpreter of a virtual environment or of a version manager's shim. Debian
# has ensurepip in a separate package. An interpreter without it cannot create an environment.
_PROBE = """
import ensurepip, json, sys
print(json.dumps([getattr(sys, "_base_executable", sys.executable), sys.version.split()[0]]))
"""


class Interpreter(NamedTuple):
    """A Python that runs and can create virtual environments."""

    path: Path
    #: Full version such as "3.12.1".
    version: str

    @property
    def minor(self) -> str:
        """Version such as "3.12"."""
        return ".".join(self.version.split(".")[:2])


def _version_key(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parent.parent.name)]


def _candidates(minor: str) -> Iterator[Path]:
    for directory in os.get_exec_path():
        yield Path(directory, f"python{minor}")
    roots = [Path(os.environ["PYENV_ROOT"])] if os.environ.get("PYENV_ROOT") else []
    for root in [*roots, Path.home() / ".pyenv"]:
        # Sort by number, because 3.13.10 is newer than 3.13.9.
        found = root.glob(f"versions/{minor}.*/bin/python{minor}")
        yield from sorted(found, key=_version_key, reverse=True)


@functools.cache
def find(minor: str) -> Interpreter | None:
    """Return the first working interpreter of a version such as "3.12".

    A program on PATH may not work: a version manager's shim ends with 127 until its version is selected.
    """
    for candidate in _candidates(minor):
        if not candidate.is_file():
            continue
        try:
            probe = subprocess.run(
                [candidate, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True
            )
            path, version = json.loads(probe.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if version.startswith(f"{minor}."):
            return Interpreter(Path(path), version)
    return None


def first(minors: tuple[str, ...]) -> Interpreter | None:
    """Return the interpreter of the first of these versions that this machine has."""
    return next((found for found in map(find, minors) if found), None)
