# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the tables of reference_upgrades.rst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.upgrade.rows.faults import FAULTS, KILLED_ALL_ALONG
from tests.system.upgrade.rows.jumps import CHAINS, DOWNGRADES, JUMPS, STEPS
from tests.system.upgrade.rows.repairs import DAMAGES
from tools.docs import rst, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.system.upgrade.rows.faults import Kills, Met
    from tests.system.upgrade.rows.jumps import Chain, Gone, Jump

PAGE = written.Page(rst.GUIDES / "reference_upgrades.rst", "make upgrades")
PARTS = JUMPED, CHAINED, REPAIRED, MET, KILLED = ("jumps", "chains", "repairs", "faults", "kills")
WRONG = "**wrong**"
JUMP_HEAD = (
    "From, to",
    "Cluster",
    "By way of",
    "Valid creates",
    "... refused",
    "Invalid creates",
    "... accepted",
)
CHAIN_HEAD = ("Releases", *JUMP_HEAD[1:2], *JUMP_HEAD[3:])
REPAIR_HEAD = ("Damage", "After the next run")
FAULT_HEAD = ("What happens", "From, to", "That run", "Code", "Valid creates", "... refused", "The next run")
KILL_HEAD = ("From, to", "Runs killed", "Steps on record", "Valid creates", "... refused", "The last run")


def put_jump(jump: Jump, gone: Iterable[Gone]) -> None:
    rows = {}
    for entry in gone:
        cluster = f"{entry.cluster}, {entry.policy}"
        counts = map(str, (entry.made, entry.refused, entry.invalid, entry.accepted))
        rows[_jump(jump, entry.cluster)] = [cluster, ", ".join(entry.hops[:-1]) or "no other", *counts]
    order = [_jump(row, cluster) for row in (*STEPS, *JUMPS, *DOWNGRADES) for cluster in row.policies]
    PAGE.put(JUMPED, JUMP_HEAD, rows, order)


def put_chain(way: Chain, gone: Iterable[Gone]) -> None:
    rows = {}
    for entry in gone:
        counts = map(str, (entry.made, entry.refused, entry.invalid, entry.accepted))
        rows[_jump(way, entry.cluster)] = [f"{entry.cluster}, {entry.policy}", *counts]
    order = [_jump(row, cluster) for row in CHAINS for cluster in row.policies]
    PAGE.put(CHAINED, CHAIN_HEAD, rows, order)


def _jump(jump: Jump | Chain, cluster: str) -> str:
    """Return the first cell, which is the row's name."""
    return str(jump) if cluster == next(iter(jump.policies)) else f"{jump} (on {cluster})"


def put_repair(damage: str, wrong: Sequence[str]) -> None:
    cell = f"{WRONG}: {'; '.join(wrong)}" if wrong else "as it was"
    PAGE.put(REPAIRED, REPAIR_HEAD, {damage: [cell]}, [damage.name for damage in DAMAGES])


def put_fault(met: Met) -> None:
    end = f"{met.end} ({WRONG})" if met.wrong else met.end
    row = [met.jump, end, met.code or "none", str(met.made), str(met.refused), "completes"]
    PAGE.put(MET, FAULT_HEAD, {met.fault: row}, [fault.name for fault in FAULTS])


def put_kills(jump: Jump, kills: Kills) -> None:
    counts = map(str, (kills.killed, len(set(kills.records)), kills.made, kills.refused))
    PAGE.put(KILLED, KILL_HEAD, {str(jump): [*counts, "completes"]}, map(str, KILLED_ALL_ALONG))
