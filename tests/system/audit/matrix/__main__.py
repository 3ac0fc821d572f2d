# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.audit.matrix` (`make audit-matrix`) runs the rows of reference_audit_matrix.rst and writes
its tables.

It prints the rows that did not end as expected, and then ends with 1. Arguments select rows by words of their
names. Other rows stay on the page.
"""

from __future__ import annotations

import sys

from tests.system.audit.matrix import lab, page, run
from tests.system.audit.matrix.table import AGING, DAYS, ROWS


def main() -> int:
    words = sys.argv[1:]
    rows = [row for row in ROWS if not words or any(word in row.name for word in words)]
    aging = [row for row in rows if row in AGING]
    with lab.running() as plane:
        now = run.run(plane, rows)
        later = {days: run.run(plane, aging, days) for days in DAYS}
    page.put(now)
    page.put_aged((outcome for outcome in now if outcome.row in AGING), later)
    wrong = [f"{outcome.row.name}: {outcome.wrong}" for outcome in now if outcome.wrong]
    for days, outcomes in later.items():
        wrong += [f"after {days} days: {line}" for line in run.find_contradictions(outcomes)]
        wrong += run.find_wrong_times(now, outcomes, days)
    print("\n".join(wrong))
    print(f"{len(rows)} rows, {len(wrong)} did not end as expected")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
