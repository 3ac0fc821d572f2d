# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose the unit tests of a Python version, and share fixtures."""

from __future__ import annotations

import sys
from typing import NoReturn

import pytest

#: Folders of plugins/ that only a controller loads: no supported core has its controller on Python 3.9.
CONTROLLER = ("action", "inventory", "lookup", "plugin_utils")

#: Folders about programs of the tests, which need the Python of the tests.
PROGRAMS = ("examples", "support", "system")

collect_ignore = (
    [*(f"plugins/{folder}" for folder in CONTROLLER), *PROGRAMS] if sys.version_info < (3, 10) else []
)


@pytest.fixture(autouse=True)
def _no_own_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the mask know nothing that another test named."""
    monkeypatch.setattr(
        "ansible_collections.certflow.kubernetes.plugins.module_utils._base.text._OWN_TEXTS", set()
    )


@pytest.fixture
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process run without a home directory, as in a container with a random user ID."""

    def unknown(_user: object) -> NoReturn:
        raise KeyError("no entry")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)
