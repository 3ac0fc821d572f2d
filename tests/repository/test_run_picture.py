# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture of a fleet run is what tools/docs/run_picture.py draws of a run."""

from __future__ import annotations

from tools.docs import run_picture

OUTPUT = """
PLAY [Work] ******

[1/3] a changed in 1 s
ok: [a]
b: failed: no. Do this.
a: changed: yes
c: changed: yes
d: changed: yes
3 clusters: 1 failed, 2 changed
left: 1 cluster
"""


def test_the_picture_is_drawn_by_the_tool() -> None:
    picture = run_picture.FILE.read_text(encoding="utf-8")
    lines = run_picture.lines_of(picture)
    assert run_picture.draw(lines) == picture
    assert lines[0] == run_picture.COMMAND
    assert run_picture.shown("\n".join(lines))


def test_the_lines_of_a_run() -> None:
    wanted = ["PLAY [Work]", "[1/3] a changed in 1 s", "b: failed: no. Do this.", "a: changed: yes", "..."]
    assert run_picture.shown(OUTPUT) == [*wanted, "3 clusters: 1 failed, 2 changed", "left: 1 cluster"]
