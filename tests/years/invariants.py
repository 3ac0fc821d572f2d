# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold. Each function yields what does not: the rule, the place, the name of the program that it concerns, and a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.certificates.key_leaks import leaks
from tests.support.world import ACCEPTED
from tests.years.places import failing

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.rig import Change
    from tests.support.world.journal import Entry
    from tests.years.places import Place, Run

    #: The programs of ours -> the status of their rows in the report, None without a row.
    Statuses = Mapping[str, str | None]
    Violations = Iterator[tuple[str, Place, str, str]]

#: The statuses of a host for which nothing is left.
GREEN = ("ok", "changed")
#: The states of a repair that wrote something.
_WRITTEN = ("repaired", "written", "put-back")
_NEVER_PRINTED = ("PRIVATE KEY", "Traceback (most recent call last)", "no end within", '"code": "defect"')


def harm_of_runs(place: Place, before: Mapping[str, str], answers: Mapping[str, list[Entry]]) -> Violations:
    """A call that passed before the runs does not fail beside them."""
    for name, entries in answers.items():
        failures = [entry for entry in entries if entry.is_failure]
        if before.get(name) == ACCEPTED and failures:
            text = f"{len(failures)} of {len(entries)} calls failed beside the runs: {failures[0].text}"
            yield "1 own harm", place, name, text


def worse_than_twin(place: Place, twin: Place) -> Violations:
    """What fails after the runs fails also without them, unless administrators have mended a fault only on the twin."""
    for name in failing(place.answers):
        is_comparable = not place.program(name).is_ours and place.faults[name] <= twin.faults[name]
        if is_comparable and twin.answers.get(name) == ACCEPTED:
            yield "1 own harm", place, name, f"it passes on the twin: {place.answers[name]}"


def untrue_report(run: Run) -> Violations:
    """What a run reports is what it wrote, and it is green only if nothing is left."""
    for place, writes in run.writes.items():
        rows = [row for host, row in run.rows.items() if host.partition("-")[0] == place.place]
        yield from (("4 report", place, "", text) for text in _untrue(run, rows, writes))


def _untrue(run: Run, rows: list[dict[str, Any]], writes: list[Change]) -> Iterator[str]:
    statuses, texts = {row["status"] for row in rows}, ", ".join(map(str, writes[:5]))
    if (run.is_check or run.playbook == "audit") and writes:
        yield f"a run that writes nothing wrote {texts}"
    if run.is_killed:
        return
    if statuses == {"ok"} and writes:
        yield f"{run.playbook} reported that nothing changed, and wrote {texts}"
    if run.is_check:
        return
    if "changed" in statuses and not writes:
        yield f"{run.playbook} reported a change, and wrote nothing"
    written = {write.name for write in writes}
    for text in (*_untrue_repairs(rows, written), *_left_behind(rows)):
        yield f"{run.playbook} reported {text}"


def _untrue_repairs(rows: list[dict[str, Any]], written: set[str]) -> Iterator[str]:
    for repair in (repair for row in rows for repair in row.get("repairs") or ()):
        names = {write["name"] for write in repair.get("writes") or ()}
        if repair["state"] in _WRITTEN and names and not names & written:
            yield f"{repair['state']} of {names}, which it did not write"


def _left_behind(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        repairs = (repair for repair in row.get("repairs") or () if not repair["excepted"])
        left = [repair["object"]["name"] for repair in repairs if repair["is_left"]]
        if row["status"] in GREEN and left:
            yield f"{row['status']}, and left {', '.join(left)}"


def unprepared(run: Run, begin: datetime.datetime) -> Violations:
    """After a green phase prepare, each caBundle with a CA of the cluster has both, if no owner has restored it since its begin."""
    for place in run.writes:
        rotation, status = place.rotation, run.status_of(place.place)
        if rotation and place.phase != "over" and status in GREEN:
            for program in place.programs:
                old, new = (program.trusts(ca) for ca in (rotation.outgoing, rotation.successor))
                if old and not new and not place.is_written(program.name, begin):
                    text = f"{status}, and its caBundle lacks the successor"
                    yield "4 green", place, program.name, text


def not_green(place: Place, statuses: Statuses, answers: Mapping[str, str]) -> Violations:
    """A program with a green row answers, unless what is wrong is no matter of its certificate."""
    for name in failing(answers):
        if statuses.get(name) in GREEN:
            yield "4 green", place, name, f"{statuses[name]}, but {answers[name]}"


def unmended(place: Place, statuses: Statuses, answers: Mapping[str, str]) -> Violations:
    """The runs mend what they can. After a failure of the canary, no other run starts. An API server may be away for the whole run."""
    for name in failing(answers):
        if name in statuses and statuses[name] not in ("not started", "unreachable"):
            yield "5 recovery", place, name, f"the runs did not mend it: {answers[name]}"


def second_writes(run: Run) -> Violations:
    """The second run of a playbook changes nothing."""
    for place, writes in run.writes.items():
        if writes:
            text = f"the second run of {run.playbook} wrote {', '.join(map(str, writes))}"
            yield "5 end", place, "", text


def not_as_before(place: Place) -> Violations:
    """Each program answers, and each object is as its owner wrote it at first."""
    answers = place.call_all()
    for name in failing(answers):
        yield "5 end", place, name, f"it does not answer: {answers[name]}"
    for name, first in place.first.items():
        if (content := place.program(name).content()) != first:
            yield "5 end", place, name, f"its owner wrote {first}, and it is {content}"


def left_over(place: Place) -> Violations:
    """After the state absent, nothing of this collection is left."""
    yield from (("5 end", place, "", f"{text} is left") for text in place.left_over())


def bad_output(run: Run, place: Place, keys: Iterable[str]) -> Violations:
    """No key in any output, no traceback, no run without an end."""
    yield from (("6 output", place, "", f"{run.playbook} {text}") for text in _bad_output(run, keys))


def _bad_output(run: Run, keys: Iterable[str]) -> Iterator[str]:
    text = f"{run.output}\n{json.dumps(run.rows)}"
    yield from (f"printed {mark}" for mark in _NEVER_PRINTED if mark in text)
    yield from ("printed a part of a key" for key in keys if leaks(text, key))
    if not (run.is_killed or run.rows):
        yield f"wrote no report: {run.output[-600:]}"
    if run.status not in (0, 2) and not run.is_killed:
        yield f"ended with status {run.status}: {run.output[-600:]}"
