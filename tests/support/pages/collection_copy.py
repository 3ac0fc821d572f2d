# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of the collection as ansible-galaxy installs it, only with what its playbooks need."""

from __future__ import annotations

import shutil
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[3]
_FOLDERS = ("plugins", "playbooks", "roles", "meta")


def make(directory: Path) -> Path:
    """Return the copy in this directory of collections."""
    collection = directory / "ansible_collections" / "certflow" / "kubernetes"
    for folder in _FOLDERS:
        shutil.copytree(_REPOSITORY / folder, collection / folder)
    shutil.copy(_REPOSITORY / "galaxy.yml", collection)
    return collection
