# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One short seed of the simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.clusters import clock
from tests.years import report
from tests.years.__main__ import simulate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.full
def test_a_year_ends_without_a_violation(tmp_path: Path) -> None:
    if clock.why_not():
        pytest.skip(clock.why_not())
    months = simulate("short", 13, tmp_path)
    print(report.text(months))
    assert [text for month in months for text in month.violations] == []
    assert any(month.recall for month in months)
    assert any(month.precision for month in months)
