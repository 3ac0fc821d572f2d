# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the findings of an audit say about programs: which one fails, and from when on."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.world.programs import Program


def is_named(
    program: Program, findings: Iterable[dict[str, Any]] | None, now: datetime.datetime
) -> bool | None:
    """Return True if a finding says that a program fails now, and None if the audit could not see it."""
    about = [finding for finding in findings or () if _names(finding, program)]
    if findings is None or any(finding["status"] == "unknown" for finding in about):
        return None
    fails = (entry for entry in about if entry["status"] == "fail" and entry["severity"] != "info")
    return any(_moment(entry, now) <= now for entry in fails)


def breaks(
    programs: list[Program], findings: Iterable[dict[str, Any]], now: datetime.datetime
) -> dict[str, datetime.datetime]:
    """Return the first time at which each program breaks. It is past if the audit calls it broken."""
    moments: dict[str, datetime.datetime] = {}
    for finding in findings:
        is_dated = finding["severity"] != "info" and finding["breaks_at"]
        if finding["status"] == "fail" and (is_dated or finding["severity"] == "error"):
            moment = _moment(finding, now)
            for program in programs:
                if _names(finding, program):
                    moments[program.name] = min(moments.get(program.name, moment), moment)
    return moments


def _names(finding: dict[str, Any], program: Program) -> bool:
    """Return True if a finding is about the calls of a program. A request that is not issued says nothing about them."""
    if finding["check"] == "request-stuck":
        return False
    objects = (finding["object"].get("name"), *(finding.get("objects") or ()))
    return any(program.full_name in (text or "") for text in objects)


def _moment(finding: dict[str, Any], default: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.fromisoformat(finding["breaks_at"]) if finding["breaks_at"] else default
