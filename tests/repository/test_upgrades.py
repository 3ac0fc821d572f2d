# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that reference_upgrades.rst has the result of every row, and no row with a wrong end."""

from __future__ import annotations

from tests.system.upgrades import faults, jumps, page, repairs


def test_every_jump_was_run_on_each_of_its_clusters() -> None:
    rows = page.PAGE.read(page.JUMPED)
    wanted = [jump for jump in (*jumps.STEPS, *jumps.JUMPS, *jumps.WAYS_BACK) for _cluster in jump.policies]
    assert len(rows) == len(wanted)
    assert {str(jump) for jump in wanted} <= set(rows)
    assert {row["... refused"] for row in rows.values()} == {"0"}


def test_every_chain_was_run_on_each_of_its_clusters() -> None:
    rows = page.PAGE.read(page.CHAINED)
    assert len(rows) == sum(len(way.policies) for way in jumps.CHAINS)
    assert {str(way) for way in jumps.CHAINS} <= set(rows)
    assert {row["... refused"] for row in rows.values()} == {"0"}


def test_every_damage_was_repaired() -> None:
    assert list(page.PAGE.read(page.REPAIRED)) == [one.name for one in repairs.DAMAGES]


def test_every_fault_was_injected() -> None:
    rows = page.PAGE.read(page.MET)
    assert list(rows) == [one.name for one in faults.FAULTS]
    for fault in faults.FAULTS:
        assert rows[fault.name]["That run"] in fault.ends
        assert fault.may_refuse or rows[fault.name]["... refused"] == "0"


def test_runs_were_killed_at_every_step() -> None:
    rows = page.PAGE.read(page.KILLED)
    assert list(rows) == [str(jump) for jump in faults.KILLED_ALL_ALONG]
    assert {row["... refused"] for row in rows.values()} == {"0"}


def test_no_row_has_a_wrong_end() -> None:
    assert page.WRONG not in page.PAGE.path.read_text()
