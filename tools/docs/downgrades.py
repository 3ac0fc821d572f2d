# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of downgrades in reference_upgrades.rst: every pair of releases is planned on the model of a cluster.

tests/unit/plugins/module_utils/_snapshot/plan/test_downgrades.py carries out each supported plan on that model.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    RELEASES,
    Release,
)

from tests.unit.plugins.module_utils._snapshot.plan.downgrades import COLUMNS, outcome
from tools.docs import rst
from tools.docs.written import Page

PAGE = Page(rst.GUIDES / "reference_upgrades.rst", "make docs")
NAME, NEVER = "downgrades", "never installed"


def downgrades() -> str:
    """Return the table: targets that share all their rows are told together."""
    known = [release for release in RELEASES if not release.never]
    alike: dict[tuple[Row, ...], list[Release]] = {}
    for number, target in reversed(list(enumerate(known[:-1]))):
        alike.setdefault(_rows(target, known[number + 1 :]), []).insert(0, target)
    rows = [(_ranges(targets), *row) for told, targets in alike.items() for row in told]
    never = ", ".join(str(release) for release in RELEASES if release.never)
    rows.append((never, "any", *[NEVER] * len(COLUMNS)))
    return rst.table(("Back to", "From", *(column.title for column in COLUMNS)), rows)


# The starts, and the outcome in each column.
Row = tuple[str, ...]


def _rows(target: Release, starts: Sequence[Release]) -> tuple[Row, ...]:
    """Return a row for each run of starts with the same outcomes."""
    runs: list[tuple[list[Release], Row]] = []
    for start in starts:
        told = tuple(outcome(start, target, column) for column in COLUMNS)
        merged = _merge(runs[-1][1], told) if runs else None
        if merged is None:
            runs.append(([start], told))
        else:
            runs[-1] = ([*runs[-1][0], start], merged)
    if len(runs) == 1:
        return (("any newer", *runs[0][1]),)
    return tuple(
        (f"up to {run[-1]}" if number == 0 else _range(run), *(entry or "-" for entry in told))
        for number, (run, told) in enumerate(runs)
    )


def _merge(row: Row, other: Row) -> Row | None:
    """Return both outcomes as one, None if they differ. A start without group snapshots agrees with any outcome."""
    if any(a and b and a != b for a, b in zip(row, other, strict=True)):
        return None
    return tuple(a or b for a, b in zip(row, other, strict=True))


def _range(run: Sequence[Release]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}"


def _ranges(releases: Sequence[Release]) -> str:
    """Return releases as ranges of those that may be installed."""
    known = [release for release in RELEASES if not release.never]
    runs: list[list[Release]] = []
    for release in releases:
        if runs and known.index(release) == known.index(runs[-1][-1]) + 1:
            runs[-1].append(release)
        else:
            runs.append([release])
    return ", ".join(map(_range, runs))


def write() -> None:
    """Write the table into its page."""
    PAGE.write(NAME, downgrades())
