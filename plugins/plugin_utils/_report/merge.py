# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Merge several reports into one, such as those of the slices of a job or of several sites. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import report_text
from .report_text import Report

#: At most so many lines tell about merged clusters.
MOST_NOTES = 20


def merge(reports: Sequence[Report]) -> Report:
    """Return one report with the clusters of all reports of audits, at least one.

    Names of the inventory identify clusters, because UIDs and dates are what a cluster says about itself. Of several entries with one
    name, that of the newest report by the clock of its controller stays. Audits with one name and two UIDs, such as those of two sites,
    get different names.
    """
    by_age = sorted(reports, key=lambda report: str(report["made_at"]))
    # Name -> its clusters, each with the time of its report.
    kept: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    notes = []
    for report in reversed(by_age):
        for cluster in report["clusters"]:
            name, uid = cluster["name"], cluster["uid"]
            entries = kept.setdefault(name, [])
            newer = [time for time, other in entries if not uid or other["uid"] in ("", uid)]
            if newer:
                notes.append(
                    f"cluster {name}: the outcome of {newer[0]} is shown, and the one of {report['made_at']} is left out"
                )
            else:
                entries.append((report["made_at"], cluster))
    clusters, taken = [], {name for name, entries in kept.items() if len(entries) == 1}
    for name, entries in kept.items():
        for _time, cluster in entries:
            new = name if len(entries) == 1 else f"{name} ({cluster['uid']})"
            # An earlier merge may have made the same name, and a UID is what a cluster says about itself.
            while new != name and new in taken:
                new += " (2)"
            taken.add(new)
            clusters.append({**cluster, "name": new})
            notes += [f"cluster {new}: another cluster has the name {name} too"] if new != name else []
    more = len(notes) - MOST_NOTES
    notes[MOST_NOTES:] = [f"{more} more lines about merged clusters"] if more > 0 else []
    merged = {
        **by_age[-1],
        "clusters": sorted(clusters, key=lambda cluster: str(cluster["name"])),
        "notes": [*dict.fromkeys(line for report in reports for line in report["notes"]), *notes],
        "checks": {check: row for report in by_age for check, row in report["checks"].items()},
        "comparison": by_age[-1]["comparison"] if len(reports) == 1 else None,
    }
    return report_text.normalise(merged, "the merged report")
