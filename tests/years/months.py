# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One month after the other: time passes, people act, events happen, the playbooks run, and everything is judged."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.world import ACCEPTED
from tests.support.world.journal import DONE, RUN
from tests.years import disturbances, endings, events, invariants
from tests.years.places import EKS, FINISHING, MONTH, PLANT, TWIN, Place, failing
from tests.years.report import Month
from tests.years.runs import Run, Runs, host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet
    from tests.years.disturbances import Disturbance

_MINUTE = datetime.timedelta(minutes=1)
#: The chance that the plant is off in a month, and the longest time.
_OFF, _LONGEST_OFF = 0.04, 4
#: In one of the months of this time, an upgrade comes too.
_SIX_YEARS = 72
#: The places that have the same events.
_GROUPS = ((PLANT, TWIN), (EKS,))
#: The checks that the kind add-ca of the playbook repair answers.
_REPAIRABLE = ("ca-mismatch", "bundle-empty", "bundle-broken", "ca-expired", "ca-expiring")

Answers = dict[str, dict[str, str]]


class Years:
    """The places, the runs, and what is known about them now.

    choice: the kinds of events, disturbances, "rotation", "off" and "upgrade" that happen, () for all.
    """

    def __init__(self, seed: str, fleet: Fleet, directory: Path, choice: tuple[str, ...] = ()) -> None:
        self.seed, self.choice = seed, choice
        with ThreadPoolExecutor() as pool:
            self.places = dict(
                pool.map(
                    lambda name: (name, Place(fleet[name], name, directory / f"{name}.jsonl")),
                    (PLANT, EKS, TWIN),
                )
            )
        self.ours = [place for place in self.places.values() if place.is_run]
        self.runs = Runs(directory, self.ours)
        self.seen = Month("")
        #: Place -> the findings of its last audit and its time, without a key if it could not be audited.
        self.findings: dict[str, list[dict[str, Any]]] = {}
        self.audited = self.now
        #: Place -> the programs for which a run has not issued what it should.
        self.refused: dict[str, list[str]] = {}
        #: True while another run writes as the same user, so that the audit log does not show which of them wrote.
        self.is_shared = False
        #: Place -> what the owners wrote at the beginning.
        self.first = {place.place: endings.contents(place) for place in self.ours}
        self.answers = self._call_all()

    def close(self) -> None:
        for place in self.places.values():
            place.close()

    def month(self, number: int) -> Month:
        """Live through a month. The seed and its number decide what happens. Return what was seen."""
        chance = Random(f"{self.seed}/{number}")
        self.seen = Month(f"{self.now + MONTH:%Y-%m-%d}")
        with self._timed("time"):
            self._pass_time()
            self._judge_recall()
        with self._timed("people and events"):
            self._switch_off(chance)
            self._act()
            self._happen(chance)
        self._run(chance, number)
        return self.seen

    def end(self) -> Month:
        """Judge the end, when everything is on. Return what was seen."""
        self.seen = Month(f"{self.now:%Y-%m-%d}")
        for place in self.ours:
            if place.months_off:
                self._switch_on(place)
        for place, program, text in endings.end(self, self.first):
            self.violate("5 end", place, program, text)
        return self.seen

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seen.seconds[part] = self.seen.seconds.get(part, 0) + time.monotonic() - begin

    # Time

    @property
    def now(self) -> datetime.datetime:
        """The time of all places that are not off."""
        return self.places[EKS].now

    def _each(self, act: Callable[[Place], object]) -> None:
        """Do something at all places at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(act, self.places.values()))

    def jump(self, by: datetime.timedelta) -> None:
        self._each(lambda place: place.months_off or place.jump(by))

    def _call_all(self) -> Answers:
        answers: Answers = {}
        self._each(lambda place: answers.update({place.place: place.call_all()}))
        return answers

    def _pass_time(self) -> None:
        """Let a month pass, with a stop before and after each time at which the audit says that something breaks."""
        end = self.now + MONTH
        dated = [
            (moment, place, name)
            for place in self.ours
            for name, moment in invariants.breaks(place, self.findings.get(place.place, ())).items()
            if place.now + 2 * _MINUTE < moment < end
        ]
        for moment in sorted({moment for moment, _place, _name in dated}):
            self._stop_at(
                moment,
                [(place, name) for time_of, place, name in dated if abs(time_of - moment) < _MINUTE / 2],
            )
        self.jump(end - self.now)

    def _stop_at(self, moment: datetime.datetime, breaking: list[tuple[Place, str]]) -> None:
        """Call what breaks at a time one minute before it, and one minute after it."""
        for offset, wanted in ((-_MINUTE, True), (_MINUTE, False)):
            self.jump(moment + offset - self.now)
            for place, name in breaking:
                if self.answers[place.place].get(name) == ACCEPTED and not self._is_changed(place, name):
                    answer = place.program(name).call()
                    self.seen.precision.append(is_right := (answer == ACCEPTED) is wanted)
                    if not is_right:
                        text = f"breaks_at {moment:%Y-%m-%d %H:%M:%S}, {offset} to it: {answer}"
                        self.violate("3 precision", place, name, text)

    def _is_changed(self, place: Place, name: str) -> bool:
        """Return True if an owner has written the object since the audit, as nightly jobs do."""
        return any(entry.objects for entry in place.journal.entries(name, what=DONE, since=self.audited))

    def _judge_recall(self) -> None:
        """What fails at the end of a month was named by the last audit."""
        self.answers = self._call_all()
        for place in self.ours:
            findings = self.findings.get(place.place)
            for name in failing(self.answers[place.place]):
                cause = " + ".join(sorted(place.states[name].faults)) or "without an event"
                self.seen.failures.append(f"{place.place}/{name}: {cause}")
                program = place.program(name)
                if (
                    findings is None
                    or invariants.is_unseen(program, findings)
                    or self._is_changed(place, name)
                ):
                    continue
                self.seen.recall.append(is_right := invariants.is_named(program, findings, place.now))
                if not is_right:
                    self.violate("2 recall", place, name, f"no finding named it: {program.call()}")

    # People and events

    def _is_chosen(self, kind: str) -> bool:
        return not self.choice or kind in self.choice

    def _switch_off(self, chance: Random) -> None:
        """Let the plant be off for some months by chance."""
        plant = self.places[PLANT]
        is_drawn = self._is_chosen("off") and chance.random() < (0.5 if self.choice else _OFF)
        if plant.months_off > 1:
            plant.months_off -= 1
        elif plant.months_off:
            self._switch_on(plant)
        elif is_drawn:
            plant.switch_off(chance.randint(1, _LONGEST_OFF))
            self.seen.events.append(f"off {PLANT}")

    def _switch_on(self, place: Place) -> None:
        place.journal.add(DONE, "it is on again")
        place.restart()
        place.jump(self.now - place.now)
        place.months_off = 0
        self.answers[place.place] = place.call_all()

    def _act(self) -> None:
        """Let administrators mend what fails, and owners renew."""
        for place in self.places.values():
            if not place.months_off:
                failed = failing(self.answers[place.place])
                for name in dict.fromkeys((*failed, *self.refused.get(place.place, ()))):
                    events.mend(place, place.program(name))
                events.live(place)
        self.refused.clear()

    def _happen(self, chance: Random) -> None:
        """Draw a step of each rotation, and an event of some programs. Places of a group have the same."""
        for group in _GROUPS:
            places = [self.places[name] for name in group]
            step = places[0].draw_step(chance) if self._is_chosen("rotation") else None
            drawn = events.draw(chance, places[0].programs, self.choice)
            if any(place.months_off for place in places):
                continue
            self.seen.events += [f"{event.id} {group[0]}/{name}" for name, event in drawn.items()]
            if step:
                self.seen.events.append(f"rotation-{step[0].replace('_', '-') or 'forgotten'} {group[0]}")
            for place in places:
                if step:
                    place.rotate(*step)
                for name, event in drawn.items():
                    events.happen(place, name, event)

    # Runs

    def run(self, name: str, *arguments: str, **options: Any) -> Run:
        """Run a playbook, and judge what it printed and reported."""
        with self._timed(name):
            run = self.runs.play(name, *arguments, **options)
        self.check_output(run)
        for key, text in () if self.is_shared else invariants.untrue_report(run):
            self.violate("4 report", self.places[key], "", text)
        return run

    def check_output(self, run: Run) -> None:
        self.seen.runs += 1
        for host_name, row in run.rows.items():
            place, _dash, program = host_name.partition("-")
            text = f"{run.playbook}: {row['status']} {row.get('code', '')} {row.get('reason', '')}"
            self.places[place].journal.add(RUN, text[:400], *([program] if program else []))
        keys = [key for place in self.ours if not place.months_off for key in place.private_keys()]
        for text in invariants.bad_output(run, keys):
            self.violate("6 output", self.places[PLANT], "", text)

    def _run(self, chance: Random, number: int) -> None:
        """Run the playbooks of a month while all programs are called. Judge what is after them."""
        place = self.places[chance.choice([PLANT, EKS])]
        disturbance = None if place.months_off else disturbances.draw(chance, self.choice)
        blocks = [(disturbance, place)] if disturbance else []
        month_of_upgrade = 1 if self.choice else Random(self.seed).randrange(_SIX_YEARS)
        plant = self.places[PLANT]
        is_upgrade = self._is_chosen("upgrade") and number % _SIX_YEARS == month_of_upgrade
        if is_upgrade and not (plant.months_off or plant.is_dated):
            blocks.append((disturbances.UPGRADE, plant))
        self.seen.events += [f"{block.id} {where.place}" for block, where in blocks]
        before = self._call_all()
        with contextlib.ExitStack() as stack:
            callers = {
                entry.place: stack.enter_context(entry.calling(seconds=2))
                for entry in self.ours
                if not entry.months_off
            }
            for block, where in blocks:
                stack.enter_context(block.block(self, where, chance))
            certificates = self._play_all()
        for name, caller in callers.items():
            self.seen.calls += sum(map(len, caller.answers.values()))
            for program, text in invariants.harm_of_runs(before[name], caller.answers):
                self.violate("1 own harm", self.places[name], program, text)
        with self._timed("judgement"):
            self._judge(certificates, disturbance, place)

    def _play_all(self) -> Run:
        certificates = self.run("certificates")
        rotating = [place.place for place in self.ours if place.rotation]
        if rotating:
            limit = ("--limit", ",".join(rotating))
            prepared = self.run("cluster_ca", *limit)
            for place in self.ours:
                for name, text in invariants.unprepared(place, prepared):
                    self.violate("4 green", place, name, text)
            if any(self.places[name].phase in FINISHING for name in rotating):
                self.run("cluster_ca", *limit, certflow_ca_phase="finish")
        if self._audit():
            plan = self.run("repair", "--check")
            self.run("repair", certflow_plan=str(plan.report))
            self._audit()
        return certificates

    def _audit(self) -> bool:
        """Audit the places. Return True if the playbook repair has something to do."""
        self.audited = self.now
        run = self.run("audit")
        self.findings = {
            name: row["findings"]
            for name, row in run.rows.items()
            if row["status"] == "ok" and row["audited_at"] and not self.places[name].months_off
        }
        return any(
            finding["status"] == "fail" and finding["check"] in _REPAIRABLE
            for findings in self.findings.values()
            for finding in findings
        )

    # Judging

    def _judge(self, certificates: Run, disturbance: Disturbance | None, disturbed: Place) -> None:
        """Judge what the programs answer after the runs, also compared with the twin."""
        self._each(Place.settle)
        self.answers = self._call_all()
        is_hindered = bool(disturbance and disturbance.is_obstacle)
        # A failure of the canary stops all others.
        is_stopped = any(row["status"] == "not started" for row in certificates.rows.values())
        for place in self.ours:
            if not place.months_off:
                self._judge_precision(place)
                is_hindered_here = is_hindered and (is_stopped or place is disturbed)
                self._judge_recovery(place, certificates, is_hindered=is_hindered_here)
        plant = self.places[PLANT]
        if not (plant.months_off or is_hindered):
            for name, text in invariants.worse_than_twin(self.answers[PLANT], self.answers[TWIN]):
                if not plant.program(name).is_ours:
                    self.violate("1 own harm", plant, name, text)

    def _judge_recovery(self, place: Place, certificates: Run, *, is_hindered: bool) -> None:
        """The runs mend what they can, and are green only then."""
        answers = self.answers[place.place]
        healed = {name: answer for name, answer in answers.items() if self.is_healed(place, name)}
        hosts = {program.name: host(place, program.name) for program in place.ours}
        for name in failing(healed):
            # After a failure of the canary, no other run starts.
            is_started = certificates.rows.get(hosts.get(name, ""), {}).get("status") != "not started"
            if place.program(name).is_ours and is_started and not is_hindered:
                self.violate("5 recovery", place, name, f"the runs did not mend it: {healed[name]}")
        if not is_hindered:
            self.refused[place.place] = invariants.refused(certificates, hosts)
        for name, text in invariants.not_green(place, certificates, healed, hosts):
            self.violate("4 green", place, name, text)
        for name, answer in answers.items():
            if answer == ACCEPTED:
                place.states[name].faults -= events.HEALED

    def is_healed(self, place: Place, name: str) -> bool:
        """Return True if runs mend all that happened to a program."""
        return place.states[name].faults <= events.HEALED

    def _judge_precision(self, place: Place) -> None:
        """Nothing passes that the audit calls broken."""
        for name, moment in invariants.breaks(place, self.findings.get(place.place, ())).items():
            if moment <= place.now and not self._is_changed(place, name):
                self.seen.precision.append(is_right := self.answers[place.place][name] != ACCEPTED)
                if not is_right:
                    self.violate("3 precision", place, name, "it passes, and the audit calls it broken")

    def violate(self, rule: str, place: Place, program: str, text: str) -> None:
        """Keep a violation, and print it with the journal and the findings of its object."""
        violation = f"{rule}: {place.place} {program}: {text}"
        self.seen.violations.append(violation)
        print(f"VIOLATION {violation}", flush=True)
        if program:
            print(place.journal.text(program)[-4000:], flush=True)
            for finding in self.findings.get(place.place, ()):
                if finding["status"] != "pass" and place.program(program).full_name in json.dumps(finding):
                    words = (finding[key] for key in ("status", "severity", "check", "breaks_at", "cause"))
                    print("finding", *words, flush=True)
