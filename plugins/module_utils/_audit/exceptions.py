# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Findings that the users of a cluster accept for some time. Pure.

An accepted finding stays in the result and is counted apart. An exception always has a reason and an end, so that it is looked
at again. The owner of an object can except it from checks by an annotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .._errors import CertflowError
from .._text import suggestion
from .._times import find_time, format_time
from .checks.check_table import BY_ID
from .facts.finding import FAIL, AppliedException, AuditFinding

#: The annotation with the ids of checks, separated by commas.
ANNOTATION = "certflow.kubernetes/audit-except"
MATCHED, UNUSED, EXPIRED, ELSEWHERE = "matched", "unused", "expired", "other-cluster"
STATES = (MATCHED, UNUSED, EXPIRED, ELSEWHERE)
_DATE_LENGTH = len("2027-01-31")


@dataclass(frozen=True)
class AuditException:
    """One entry of the option exceptions."""

    check: str
    reason: str
    until: datetime
    #: Patterns of the names of clusters, and of the UIDs that tasks expect.
    clusters: tuple[str, ...] = ("*",)
    #: Patterns of KIND/NAME or KIND/NAMESPACE/NAME, or of the name of a webhook.
    objects: tuple[str, ...] = ("*",)

    def is_for(self, cluster_names: Iterable[str]) -> bool:
        """Return True for one of the clusters, or for every cluster."""
        return "*" in self.clusters or any(
            fnmatchcase(name, pattern) for name in cluster_names if name for pattern in self.clusters
        )

    def matches(self, finding: AuditFinding) -> bool:
        """Return True for a failed finding of the check about one of the objects."""
        subject = finding.object
        place = "/".join(filter(None, (subject.kind, subject.namespace, subject.name)))
        names = (place, subject.webhook)
        return (
            finding.status == FAIL
            and finding.check == self.check
            and any(fnmatchcase(name, pattern) for name in names for pattern in self.objects)
        )


def parse(entries: Sequence[Mapping[str, Any]]) -> tuple[AuditException, ...]:
    """Return the exceptions of the option. Raises CertflowError for a value that is not valid."""
    return tuple(_parse(entry, number) for number, entry in enumerate(entries, 1))


def _parse(entry: Mapping[str, Any], number: int) -> AuditException:
    check, reason, until = (str(entry[key]).strip() for key in ("check", "reason", "until"))
    where = f"entry {number} of the option exceptions"
    if check not in BY_ID:
        raise CertflowError(
            f"{where} names the check {check!r}, which does not exist",
            remedy=suggestion(check, BY_ID) or "Use an id of the page of checks",
        )
    if not reason:
        raise CertflowError(f"{where} has an empty reason", remedy="Say why the finding is accepted")
    end = find_time(until) or find_time(f"{until}T00:00:00Z")
    if end is None:
        raise CertflowError(
            f"{where} has the value {until!r} for until, which is not a date",
            remedy="Set a date, such as '2027-01-31'",
        )
    if len(until) == _DATE_LENGTH:
        end += timedelta(days=1)  # the whole day
    patterns = {
        key: tuple(str(text) for text in entry[key]) for key in ("clusters", "objects") if entry.get(key)
    }
    return AuditException(check, reason, end, **patterns)


def apply(
    findings: Iterable[AuditFinding],
    exceptions: Sequence[AuditException],
    cluster_names: Sequence[str],
    now: datetime,
) -> list[AuditFinding]:
    """Return the findings. Those that are accepted have the exception."""
    usable = [one for one in exceptions if one.until > now and one.is_for(cluster_names)]
    return [_applied(finding, usable) for finding in findings]


def _applied(finding: AuditFinding, exceptions: Sequence[AuditException]) -> AuditFinding:
    if finding.status == FAIL and finding.check in finding.object.excepted_checks:
        return replace(finding, exception=AppliedException(f"the object has the annotation {ANNOTATION}"))
    for one in exceptions:
        if one.matches(finding):
            return replace(finding, exception=AppliedException(one.reason, one.until))
    return finding


def report(
    findings: Sequence[AuditFinding],
    exceptions: Sequence[AuditException],
    cluster_names: Sequence[str],
    now: datetime,
) -> list[dict[str, Any]]:
    """Return each exception with its state and the number of its findings."""
    return [
        {
            "check": one.check,
            "clusters": list(one.clusters),
            "objects": list(one.objects),
            "reason": one.reason,
            "until": format_time(one.until),
            **_state(findings, one, cluster_names, now),
        }
        for one in exceptions
    ]


def _state(
    findings: Sequence[AuditFinding], one: AuditException, cluster_names: Sequence[str], now: datetime
) -> dict[str, Any]:
    if not one.is_for(cluster_names):
        return {"state": ELSEWHERE, "findings": 0}
    number = sum(one.matches(finding) for finding in findings)
    state = EXPIRED if one.until <= now else MATCHED if number else UNUSED
    return {"state": state, "findings": number}


def annotated_checks(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the checks from which the owner of an object excepts it."""
    value = (metadata.get("annotations") or {}).get(ANNOTATION) or ""
    return tuple(part.strip() for part in str(value).split(",") if part.strip())
