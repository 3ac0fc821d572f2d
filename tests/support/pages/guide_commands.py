# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of a guide as a reader would, on a test cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import clusters
from tests.support.pages import page_files


def lay_out(guide: Path, place: Path) -> None:
    """Write the files of a guide into a directory."""
    for name, text in page_files.files(guide).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)


def shell(kubeconfig: Path, place: Path, command: str, *, status: int = 0) -> str:
    """Run a command of a guide in the directory of its files, and return its output.

    Substitutions: the kubeconfig, the home directory, and the kubectl of the test cluster.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), str(clusters.programs()), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place,
        env={**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    print(f"$ {command}\n{done.stdout}")  # pytest shows it with a failure
    assert done.returncode == status, done.stdout
    return done.stdout
