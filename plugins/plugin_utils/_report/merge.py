# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Merge several reports into one, such as those of the slices of a job or of several sites. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...module_utils._base.errors import CertflowError
from . import report_schema, report_text
from .report_text import Report

#: At most so many lines tell about merged clusters.
MOST_NOTES = 20
_UID_SHOWN = 8


class _Entry(NamedTuple):
    """A cluster with the time of its report by the clock of the controller, and the position of its report."""

    time: str
    position: int
    cluster: dict[str, Any]


def merge(reports: Sequence[Report]) -> Report:
    """Return one report with the clusters of all reports. One report alone is merged as well.

    Names of the inventory identify clusters, because UIDs and dates are what a cluster says about itself. Of several entries with one
    name, that of the newest report stays. Audits with one name and two UIDs, such as those of two sites, get different names.

    Raises CertflowError without a report, or for reports of different kinds.
    """
    kinds = sorted({report["kind"] for report in reports})
    if len(kinds) != 1:
        raise CertflowError(
            f"reports of the kinds {' and '.join(kinds)} cannot be merged"
            if kinds
            else "there is no report to merge",
            remedy="Merge reports of audits only, or reports of runs only",
        )
    entries = [
        _Entry(report["made_at"], number, dict(cluster))
        for number, report in enumerate(reports)
        for cluster in report["clusters"]
    ]
    notes: list[str] = []
    kept = _unique(entries, kinds[0], notes)
    _rename(kept, notes)
    by_age = sorted(reports, key=lambda report: str(report["made_at"]))
    newest = by_age[-1]
    merged = {
        **newest,
        "clusters": sorted((entry.cluster for entry in kept), key=lambda cluster: str(cluster["name"])),
        "notes": [*dict.fromkeys(line for report in reports for line in report["notes"]), *_some(notes)],
    }
    if kinds[0] == report_schema.AUDIT:
        merged["checks"] = {check: row for report in by_age for check, row in report["checks"].items()}
        merged["comparison"] = newest["comparison"] if len(reports) == 1 else None
    return report_text.normalise(merged, "the merged report")


def _unique(entries: Iterable[_Entry], kind: str, notes: list[str]) -> list[_Entry]:
    """Return the newest entry of each cluster."""
    kept: list[_Entry] = []
    by_name: dict[str, list[_Entry]] = {}
    for entry in sorted(entries, key=lambda one: (one.time, one.position), reverse=True):
        name, uid = entry.cluster["name"], entry.cluster["uid"]
        of_name = by_name.setdefault(name, [])
        same = (
            other
            for other in of_name
            if kind == report_schema.RUN or other.cluster["uid"] in ("", uid) or not uid
        )
        newer = next(same, None)
        if newer is not None:
            notes.append(_replaced(newer, entry))
            continue
        kept.append(entry)
        of_name.append(entry)
    return kept


def _replaced(newer: _Entry, older: _Entry) -> str:
    name = newer.cluster["name"]
    return f"cluster {name}: the outcome of {newer.time} is shown, and the one of {older.time} is left out"


def _rename(entries: Sequence[_Entry], notes: list[str]) -> None:
    """Give clusters that have one name different names."""
    names = Counter(entry.cluster["name"] for entry in entries)
    shared = {name for name, number in names.items() if number > 1}
    taken = set(names)
    for entry in entries:
        name, uid = entry.cluster["name"], entry.cluster["uid"]
        if name in shared:
            new = next(one for one in _new_names(name, uid) if one not in taken)
            taken.add(new)
            entry.cluster["name"] = new
            notes.append(f"cluster {new}: another cluster has the name {name} too (UID {uid})")


def _new_names(name: str, uid: str) -> Iterator[str]:
    yield f"{name} ({uid[:_UID_SHOWN]})"
    yield f"{name} ({uid})"
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1


def _some(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], *([f"{more} more lines about merged clusters"] if more > 0 else [])]
