# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node changes on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clusters import node


@pytest.mark.parametrize(("before", "after"), [("128", 1024), ("1024", 1024), ("8192", 8192)])
def test_the_limit_of_watchers_is_raised_and_never_lowered(tmp_path: Path, before: str, after: int) -> None:
    setting = tmp_path / "max_user_instances"
    setting.write_text(before)
    node.allow_watchers(setting)
    assert int(setting.read_text()) == after
