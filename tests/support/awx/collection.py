# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection awx.awx, from the Python package ansible. A Galaxy server may be unreachable."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import zipfile
from pathlib import Path

VERSION = "24.6.1"
# The last package that has the collection, and the checksum of its wheel.
PACKAGE = "ansible==11.13.0"
SHA256 = "7f1c9c6a6026ff214d9240647e4d2b019b2a9d4c7a2bc733932bcf92af80ab04"
FOLDER = "ansible_collections/awx/awx/"


def ensure(venv: Path, cache: Path) -> Path:
    """Return the directory for ANSIBLE_COLLECTIONS_PATH.

    venv: a virtual environment whose pip downloads the collection if it is not cached.
    cache: the directory for all that later runs can use again.
    """
    place = cache / "collections" / f"awx.awx-{VERSION}-{SHA256[:12]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / FOLDER / "MANIFEST.json").exists():
            _download(venv, place)
    return place


def _download(venv: Path, place: Path) -> None:
    unfinished = place.with_name(f"{place.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    requirements = unfinished / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    program = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
    ]
    command = [*program, "--no-input", "--no-deps", "--require-hashes", "--dest", str(unfinished)]
    command += ["-r", str(requirements)]
    subprocess.run(command, check=True, timeout=600)
    (wheel,) = unfinished.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(FOLDER):
                archive.extract(name, unfinished)
    wheel.unlink()
    requirements.unlink()
    unfinished.rename(place)
