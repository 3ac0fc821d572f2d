# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the collection where Ansible, Python and the checkers look for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools.ci.venvs import REPOSITORY

WORK = REPOSITORY / ".work"
_COMPILED = Path(__file__).with_name("compiled")
# Variables of a user's shell on which no run may depend.
_FOREIGN = (
    "ANSIBLE_",
    "K8S_AUTH_",
    "KUBECONFIG",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "VIRTUAL_ENV",
    "MYPYPATH",
)
# Files and folders that the built file may have at the top.
_SHIPPED = ("changelogs", "docs", "meta", "playbooks", "plugins", "roles")
_SHIPPED_FILES = ("CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "tests/config.yml")
# Files and folders inside these that are only for contributors. galaxy.yml leaves them out too.
_FOR_CONTRIBUTORS = (
    "changelogs/fragments",
    "docs/architecture.md",
    "docs/clusters.md",
    "docs/decisions",
)


def shipped(name: str) -> bool:
    """Return True if a file or folder of the repository is part of the built file."""
    if any(name == path or name.startswith(f"{path}/") for path in _FOR_CONTRIBUTORS):
        return False
    return name.split("/", maxsplit=1)[0] in _SHIPPED or name in (*_SHIPPED_FILES, "tests")


def link() -> Path:
    """Create the link .work/ansible_collections/certflow/kubernetes to the repository. Return .work."""
    place = WORK / "ansible_collections" / "certflow" / "kubernetes"
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink() or place.resolve() != REPOSITORY:
        place.unlink(missing_ok=True)
        place.symlink_to(REPOSITORY, target_is_directory=True)
    return WORK


def environ(venv: Path) -> dict[str, str]:
    """Return the environment variables for a program of this virtual environment.

    Ansible's own files (its home, temporary files of tasks) go below .work too, so a run leaves no file in
    the user's home.
    """
    work = link()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join(map(str, (work, REPOSITORY, _COMPILED))),
        "CERTFLOW_COMPILED": str(work / "compiled"),
        "VIRTUAL_ENV": str(venv),
        "ANSIBLE_COLLECTIONS_PATH": str(work),
        "ANSIBLE_HOME": str(work / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(work / "ansible" / "remote"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(WORK / "hypothesis"),
    }


def listed_files() -> list[str]:
    """Return the repository's files as git lists them, including new ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.split("\0") if name and (REPOSITORY / name).is_file()]


def copy(name: str, wanted: Callable[[str], bool] = bool) -> Path:
    """Copy the collection's `wanted` files for one gate into a new git repository. Return its directory.

    It replaces the copy of an earlier run. ansible-test refuses links and asks git for the files.
    ansible-lint leaves its cache in the tree.
    """
    place = WORK / "copies" / name / "ansible_collections" / "certflow" / "kubernetes"
    shutil.rmtree(WORK / "copies" / name, ignore_errors=True)
    for file in filter(wanted, listed_files()):
        target = place / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, target, follow_symlinks=False)
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    return place
