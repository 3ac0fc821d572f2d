# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the output on the role's page with the output of the code."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import plan_text

from tests.unit.plugins.module_utils._snapshot.plan.plans import SITUATIONS

PAGE = Path(__file__).parents[5] / "roles" / "snapshot_controller" / "README.md"
PLAN = SITUATIONS["Upgrade the controller"]
BLOCKS = re.findall(r"^```text\n(.*?)\n```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
LINE = re.compile(r"prod-eu-1  (\d+)/(\d+)  (.+?)(  \d+ s)?")


def test_the_plan_on_the_page_is_a_plan() -> None:
    assert BLOCKS[0].splitlines() == plan_text.lines(PLAN)


def test_the_progress_on_the_page_has_the_ids_and_titles_of_the_steps() -> None:
    """A line with seconds has the title of its step. A line without them, which -v prints, has the id."""
    steps = PLAN.hops[-1].steps
    head, *lines = BLOCKS[1].splitlines()
    assert head == f"prod-eu-1  hop 1 of 1: 8.4.0 to 8.7.0, {len(steps)} steps"
    found = [LINE.fullmatch(line) for line in lines]
    shown = [(int(match[1]), int(match[2]), match[3], bool(match[4])) for match in found if match]
    assert len(shown) == len(lines), lines
    assert [number for number, _total, _text, is_title in shown if not is_title] == [
        *range(1, len(steps) + 1)
    ]
    for number, total, text, is_title in shown:
        assert (total, text) == (len(steps), steps[number - 1].title if is_title else steps[number - 1].id)
