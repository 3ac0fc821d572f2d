# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every file of the collection that this Python may load can be imported with this ansible-core."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import CONTROLLER

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
LEFT_OUT = CONTROLLER if sys.version_info < (3, 10) else ()
FILES = sorted(path.relative_to(PLUGINS).with_suffix("") for path in PLUGINS.rglob("*.py"))
NAMES = [".".join(file.parts) for file in FILES if file.name != "__init__" and file.parts[0] not in LEFT_OUT]


def test_there_are_files() -> None:
    """An empty list of names would test nothing."""
    assert "module_utils._base.errors" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_import(name: str) -> None:
    """The libraries are there, so what an absent one would hide has to work."""
    importlib.import_module(f"ansible_collections.certflow.kubernetes.plugins.{name}")
