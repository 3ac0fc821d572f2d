# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask the API server about some faults and healthy shapes, and compare with what the audit says: one control plane, one audit.

`make audit-matrix` runs all rows, also as if days had passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.audit.matrix import lab, run
from tests.system.audit.matrix.table import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.audit.matrix.lab import ControlPlane
    from tests.system.audit.matrix.run import Outcome

DAILY = [row for row in ROWS if row.is_daily]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with lab.running() as plane:
        yield plane


@pytest.fixture(scope="module")
def daily(plane: ControlPlane) -> dict[str, Outcome]:
    return {outcome.row.name: outcome for outcome in run.run(plane, DAILY)}


@pytest.mark.parametrize("name", [row.name for row in DAILY])
def test_the_audit_says_of_a_row_what_the_api_server_does(daily: dict[str, Outcome], name: str) -> None:
    outcome = daily[name]
    assert outcome.wrong == "", outcome.findings
