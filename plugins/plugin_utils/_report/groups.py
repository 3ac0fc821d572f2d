# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Group the findings of a fleet: one fault is one group, whatever number of clusters and objects has it. Pure.

Console, artifact, HTML page and metrics show the groups of the same function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...module_utils._audit.facts.finding import REFUSES, SEVERITIES, SKIPS
from ...module_utils._base.text import some
from . import report_model
from .report_model import UNDATED, Row

#: What stands for the names, times and numbers in a cause.
ANY = "*"
_QUOTED = re.compile('"[^"]*"')
#: Impact -> the words before the requests, for a fault that takes effect now and for one that will.
_WORDS = {REFUSES: ("refuses", "will refuse"), SKIPS: ("is skipped for", "will be skipped for")}


@dataclass(frozen=True)
class Group:
    """One fault: the findings with one check, source, kind of object, impact, cause, severity and urgency."""

    #: The cause without names, times and numbers.
    fault: str
    #: The findings in their order, at least one.
    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def finding(self) -> Mapping[str, Any]:
        """Return the first finding."""
        return self.first.finding

    @cached_property
    def clusters(self) -> list[str]:
        return list(dict.fromkeys(str(row.cluster["name"]) for row in self.rows))

    @property
    def where(self) -> str:
        """Return the number of clusters, or the name of the only one."""
        return (
            self.clusters[0]
            if len(self.clusters) == 1
            else f"{len(self.clusters)} clusters, first {self.clusters[0]}"
        )

    @property
    def breaks_at(self) -> str | None:
        """Return the earliest time at which the fault takes effect."""
        return min((row.finding["breaks_at"] for row in self.rows if row.finding["breaks_at"]), default=None)

    def all(self, key: str) -> str:
        """Return the texts of a key of all findings."""
        return some(list(dict.fromkeys(text for row in self.rows for text in row.finding[key])))

    @cached_property
    def effect(self) -> str:
        """Return what the fault does to requests, "" if that is not known."""
        if self.first.urgency == UNDATED:
            return ""
        if self.finding["impact"] not in _WORDS:
            if self.first.is_now:
                return "broken"
            return "will break" if self.breaks_at else ""
        now, later = _WORDS[self.finding["impact"]]
        return f"{now if self.first.is_now else later} {self.all('requests') or 'no request'}"

    def as_result(self) -> dict[str, Any]:
        """Return the group as the artifact carries it."""
        own = ("check", "severity", "cause", "object", "impact")
        return {
            **{key: self.finding[key] for key in own},
            "effect": self.effect,
            "breaks_at": self.breaks_at,
            "clusters": len(self.clusters),
            "first_cluster": self.clusters[0],
            "findings": len(self.rows),
        }


def group(rows: Iterable[Row]) -> list[Group]:
    """Return the groups of sorted findings, the most urgent ones first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        finding = row.finding
        kind, cause = finding["object"]["kind"], fault(finding)
        # `fault` replaces a source such as "api-services" by ANY.
        key = (
            row.urgency,
            finding["check"],
            finding["source"],
            finding["severity"],
            kind,
            finding["impact"],
            cause,
        )
        found.setdefault(key, []).append(row)
    return sorted((Group(key[-1], tuple(own)) for key, own in found.items()), key=_order)


def _order(entry: Group) -> tuple[int, ...]:
    """Return the order of what takes effect now: the fault of the most clusters first. Other faults keep the order of their time."""
    severity = SEVERITIES.index(entry.finding["severity"])
    return (entry.first.urgency, *((severity, -len(entry.clusters)) if entry.first.is_now else ()))


def fault(finding: Mapping[str, Any]) -> str:
    """Return the cause of a finding with ANY for the object, and for each word that is a name, a time or a number."""
    subject = finding["object"]
    text = report_model.cause(finding)
    if name := report_model.name(subject):
        webhook = f", webhook {subject['webhook']}" if subject["webhook"] else ""
        text = text.replace(f"{subject['kind']} {name}{webhook}", ANY)
    words: list[str] = []
    is_counted = False
    for word in _QUOTED.sub(ANY, text).split():
        bare = word.strip(".,;:()")
        is_name = not bare.isalpha()
        if is_name:
            if words[-1:] != [ANY]:
                words.append(ANY)
        elif is_counted:
            words.append(word.rstrip("s"))  # the noun after a number may be in the plural
        else:
            words.append(word)
        is_counted = bare.isdigit()
    return " ".join(words)
