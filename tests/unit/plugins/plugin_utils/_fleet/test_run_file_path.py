# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The path of the run file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import run_steps

from tests.support.failures import fails

pytestmark = pytest.mark.quick


def test_without_a_home_directory_the_file_is_in_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    path = Path(run_steps.run_file_path("", "role"))
    assert list(tmp_path.iterdir()) == []
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.rmdir()
    with fails("invalid-input"):
        run_steps.run_file_path("~/run", "role")


def test_the_home_directory_has_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Path(run_steps.run_file_path(" ", "role"))
    assert tmp_path in path.parents
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_link_in_a_common_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "run").symlink_to("other")
    with fails("run-file-unusable", f"{tmp_path}/run"):
        run_steps.run_file_path(f"{tmp_path}/run", "role")
