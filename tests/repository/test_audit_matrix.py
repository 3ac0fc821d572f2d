# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that reference_audit_matrix.rst has the result of every row, as a run of `make audit-matrix` wrote it."""

from __future__ import annotations

import pytest

from tests.system.audit_matrix import page, row, run
from tests.system.audit_matrix.row import ACCEPTED
from tests.system.audit_matrix.table import AGING, DAYS, ROWS, TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_row_was_run_and_ended_as_expected(name: str) -> None:
    written = page.PAGE.read(name)
    assert list(written) == [entry.name for entry in TABLES[name]]
    for entry in TABLES[name]:
        assert entry.answer in written[entry.name]["API server"], entry.name
        assert written[entry.name]["Audit"] == entry.says, entry.name


def test_the_names_of_rows_are_unique() -> None:
    assert row.find_duplicates(ROWS) == []


def test_every_webhook_broke_at_the_time_that_the_audit_announced() -> None:
    written = page.PAGE.read(page.AGED)
    assert list(written) == [entry.name for entry in AGING]
    for entry in AGING:
        cells = written[entry.name]
        breaks_in = (
            None if cells["Breaks in"] == page.NEVER else float(cells["Breaks in"].removesuffix(" days"))
        )
        for days in DAYS if entry.answer == ACCEPTED else ():
            is_accepted = cells[f"API server after {days} days"] == ACCEPTED
            assert is_accepted is not run.is_due(breaks_in, days), entry.name
