# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold. Each function returns what does not, with the name of the program that it concerns."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from tests.support.key_leaks import leaks
from tests.support.world import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.world import Program
    from tests.support.world.journal import Entry
    from tests.years.places import Place
    from tests.years.runs import Run

#: The statuses of a host for which nothing is left.
GREEN = ("ok", "changed")
#: The states of a repair that wrote something.
_WRITTEN = ("repaired", "written", "put-back")
_NEVER_PRINTED = ("PRIVATE KEY", "Traceback (most recent call last)", "no end within", '"code": "defect"')


# 1. Own harm


def harm_of_runs(before: Mapping[str, str], answers: Mapping[str, list[Entry]]) -> Iterator[tuple[str, str]]:
    """A call that passed before the runs does not fail beside them."""
    for name, entries in answers.items():
        failures = [entry for entry in entries if entry.is_failure]
        if before.get(name) == ACCEPTED and failures:
            yield name, f"{len(failures)} of {len(entries)} calls failed beside the runs: {failures[0].text}"


def worse_than_twin(ours: Mapping[str, str], twin: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What fails after the runs fails also without them."""
    for name, answer in ours.items():
        if answer != ACCEPTED and twin.get(name) == ACCEPTED:
            yield name, f"it passes on the twin: {answer}"


# 2. Recall


def is_named(program: Program, findings: Iterable[dict[str, Any]], until: datetime.datetime) -> bool:
    """Return True if a finding says that a program fails at this time."""
    return any(
        finding["status"] == "fail"
        and finding["severity"] != "info"
        and _names(finding, program)
        and _moment(finding, until) <= until
        for finding in findings
    )


def is_unseen(program: Program, findings: Iterable[dict[str, Any]]) -> bool:
    """Return True if the audit says that it could not see a program."""
    return any(finding["status"] == "unknown" and _names(finding, program) for finding in findings)


def _names(finding: dict[str, Any], program: Program) -> bool:
    """Return True if a finding is about the calls of a program. A request that is not issued says nothing about them."""
    if finding["check"] == "request-stuck":
        return False
    objects = (finding["object"].get("name"), *(finding.get("objects") or ()))
    return any(program.full_name in (text or "") for text in objects)


def _moment(finding: dict[str, Any], default: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.fromisoformat(finding["breaks_at"]) if finding["breaks_at"] else default


# 3. Precision


def breaks(place: Place, findings: Iterable[dict[str, Any]]) -> dict[str, datetime.datetime]:
    """Return the first time at which the audit says that each program breaks. It is past if it is broken."""
    moments: dict[str, datetime.datetime] = {}
    for finding in findings:
        for program in place.programs if finding["status"] == "fail" else ():
            is_dated = finding["severity"] != "info" and finding["breaks_at"]
            if _names(finding, program) and (is_dated or finding["severity"] == "error"):
                moment = _moment(finding, place.now)
                moments[program.name] = min(moments.get(program.name, moment), moment)
    return moments


# 4. Reports


def untrue_report(run: Run) -> Iterator[tuple[str, str]]:
    """What a run reports is what it wrote."""
    for place, writes in run.writes.items():
        texts = ", ".join(map(str, writes[:5]))
        if (run.is_check or run.playbook == "audit") and writes:
            yield place, f"a run that writes nothing wrote {texts}"
        rows = [row for host, row in run.rows.items() if host.partition("-")[0] == place]
        statuses = {row["status"] for row in rows}
        if run.is_killed or not rows:
            continue
        if statuses == {"ok"} and writes:
            yield place, f"{run.playbook} reported that nothing changed, and wrote {texts}"
        if "changed" in statuses and not writes and not run.is_check:
            yield place, f"{run.playbook} reported a change, and wrote nothing"
        yield from ((place, text) for text in _repairs(rows, {write.name for write in writes}, run))
        yield from ((place, text) for row in rows for text in _left(row, run))


def _left(row: dict[str, Any], run: Run) -> Iterator[str]:
    """Green only if nothing is left."""
    left = [
        repair["object"]["name"]
        for repair in row.get("repairs") or ()
        if repair["is_left"] and not repair["excepted"]
    ]
    if row["status"] in GREEN and left and not run.is_check:
        yield f"{run.playbook} reported {row['status']}, and left {', '.join(left)}"


def _repairs(rows: list[dict[str, Any]], written: set[str], run: Run) -> Iterator[str]:
    repairs = [repair for row in rows for repair in row.get("repairs") or () if not run.is_check]
    for repair in repairs:
        names = {write["name"] for write in repair.get("writes") or ()}
        if repair["state"] in _WRITTEN and names and not names & written:
            yield f"{run.playbook} reported {repair['state']} of {names}, which it did not write"


def not_green(
    place: Place, run: Run, answers: Mapping[str, str], hosts: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """A program with a green row answers, unless what is wrong is no matter of its certificate."""
    for program in place.ours:
        row = run.rows.get(hosts[program.name], {"status": "missing"})
        if row["status"] in GREEN and answers.get(program.name, ACCEPTED) != ACCEPTED:
            yield program.name, f"{row['status']}, but {answers[program.name]}"


def refused(run: Run, hosts: Mapping[str, str]) -> list[str]:
    """Return the programs whose row is not green."""
    return [
        name for name, host in hosts.items() if host in run.rows and run.rows[host]["status"] not in GREEN
    ]


def unprepared(place: Place, run: Run) -> Iterator[tuple[str, str]]:
    """After a green phase prepare, each caBundle with a CA of the cluster has the CA that signs and the one that comes."""
    rotation, row = place.rotation, run.rows.get(place.place)
    if rotation is None or place.phase == "over" or row is None or row["status"] not in GREEN:
        return
    for program in place.programs:
        trusted = [program.trusts(ca) for ca in (rotation.outgoing, rotation.successor)]
        if any(trusted) and not trusted[1]:
            yield program.name, f"{row['status']}, and its caBundle lacks the successor"


# 6. Output


def bad_output(run: Run, keys: Iterable[str]) -> Iterator[str]:
    """No key in any output, no traceback, no run without an end."""
    text = f"{run.output}\n{json.dumps(dict(run.rows))}"
    yield from (f"{run.playbook} printed {mark}" for mark in _NEVER_PRINTED if mark in text)
    yield from (f"{run.playbook} printed a part of a key" for key in keys if leaks(text, key))
    if not (run.is_killed or run.rows):
        yield f"{run.playbook} wrote no report: {run.output[-600:]}"
    if run.status not in (0, 2) and not run.is_killed:
        yield f"{run.playbook} ended with status {run.status}: {run.output[-600:]}"
