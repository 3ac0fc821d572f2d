# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that reference_reliability.rst has the result of a complete run: every task, every fault, and no wrong end."""

from __future__ import annotations

from tests.system.fault_injection import flows, page, transport


def test_every_task_was_killed_at_every_request() -> None:
    rows = page.PAGE.read(page.CRASHES)
    assert list(rows) == [flow.name for flow in flows.FLOWS]
    for name, row in rows.items():
        requests, killed, completes, says, left = (int(row[head]) for head in page.CRASH_HEAD[1:])
        assert (killed, completes + says, left) == (2 * requests, killed, 0), name


def test_every_task_has_every_fault() -> None:
    rows = page.PAGE.read(page.TRANSPORT)
    assert list(rows) == [fault.name for fault in transport.FAULTS]
    for fault in transport.FAULTS:
        row = rows[fault.name]
        assert list(row) == [flow.name for flow in transport.FLOWS]
        empty = [task for task, cell in row.items() if not cell]
        assert not empty or fault.meets, (
            fault.name,
            empty,
        )  # a task without a watch has no fault of watches


def test_no_case_has_a_wrong_end() -> None:
    assert page.WRONG not in page.PAGE.path.read_text()


def test_a_task_survives_every_temporary_fault() -> None:
    rows = page.PAGE.read(page.TRANSPORT)
    said = [
        fault.name for fault in transport.FAULTS if fault.passes and "+" in "".join(rows[fault.name].values())
    ]
    assert said == []
