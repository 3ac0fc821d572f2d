# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One month after the other: time passes, people act, events happen, the playbooks run, and everything is judged."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.world import ACCEPTED
from tests.support.world.journal import DONE, RUN
from tests.years import disturbances, endings, events, invariants, owners, rotations
from tests.years.invariants import Violation
from tests.years.places import EKS, MONTH, PLANT, TWIN, Place, failing
from tests.years.runs import Run, Runs, host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.clusters import Fleet
    from tests.years.disturbances import Disturbance
    from tests.years.report import Tally

_MINUTE = datetime.timedelta(minutes=1)
#: The chance that the plant is off in a month, and the longest time.
_OFF, _LONGEST_OFF = 0.04, 4
#: The places that have the same events.
_GROUPS = ((PLANT, TWIN), (EKS,))
#: The checks that the kind add-ca of the playbook repair answers.
_REPAIRABLE = ("ca-mismatch", "bundle-empty", "bundle-broken", "ca-expired", "ca-expiring")


class Years:
    """The places, the runs, and what was seen until now."""

    def __init__(self, seed: str, fleet: Fleet, directory: Path, tally: Tally) -> None:
        self.seed = seed
        self.places = {
            name: Place(fleet[name], name, directory / f"{name}.jsonl") for name in (PLANT, EKS, TWIN)
        }
        self.ours = [place for place in self.places.values() if place.is_run]
        self.runs = Runs(directory, self.ours)
        self.tally = tally
        #: Place -> the findings of its last audit, without a key if it could not be audited.
        self.findings: dict[str, list[dict[str, Any]]] = {}
        #: Place -> the programs for which a run has not issued what it should.
        self.refused: dict[str, list[str]] = {}
        #: True while another run writes as the same user, so that the audit log does not show which of them wrote.
        self.is_shared = False
        #: Place -> what the owners wrote at the beginning.
        self.first = {place.place: endings.contents(place) for place in self.ours}

    def end(self) -> None:
        """Judge the end, when everything is on."""
        for place in self.ours:
            if place.months_off:
                self._switch_on(place)
        for place, program, text in endings.end(self, self.first):
            self._violate("5 end", place, program, text)

    def close(self) -> None:
        for place in self.places.values():
            place.close()

    # A month

    def month(self, number: int) -> None:
        """Live through a month. The seed and its number decide what happens."""
        chance = Random(f"{self.seed}/{number}")
        begin = time.monotonic()
        self.tally.rounds += 1
        self._pass_time()
        self._act(chance)
        self._happen(chance)
        self._run(chance)
        self.tally.seconds.append(time.monotonic() - begin)

    # Time

    @property
    def now(self) -> datetime.datetime:
        """The time of all places that are not off."""
        return self.places[EKS].now

    def jump(self, by: datetime.timedelta) -> None:
        for place in self.places.values():
            if not place.months_off:
                place.jump(by)

    def _pass_time(self) -> None:
        """Let a month pass, with a stop before and after each time at which the audit says that something breaks."""
        end = self.now + MONTH
        dated = {
            place.place: {
                name: moment
                for name, moment in invariants.breaks(place, self.findings.get(place.place, ())).items()
                if place.now + 2 * _MINUTE < moment < end
            }
            for place in self.ours
        }
        passing = self._passing()
        for moment in sorted({moment for moments in dated.values() for moment in moments.values()}):
            self._stop_at(moment, dated, passing)
        self.jump(end - self.now)
        for place in self.ours:
            self._judge_recall(place)

    def _passing(self) -> dict[str, set[str]]:
        answers = {place.place: place.call_all() for place in self.ours}
        return {
            name: {key for key, answer in calls.items() if answer == ACCEPTED}
            for name, calls in answers.items()
        }

    def _stop_at(
        self,
        moment: datetime.datetime,
        dated: Mapping[str, Mapping[str, datetime.datetime]],
        passing: Mapping[str, set[str]],
    ) -> None:
        """Call what breaks at a time one minute before it, and one minute after it."""
        concerned = [
            (place, place.program(name))
            for place in self.ours
            for name, time_of in dated[place.place].items()
            if abs(time_of - moment) < _MINUTE / 2 and name in passing[place.place] and not place.months_off
        ]
        for offset, wanted in ((-_MINUTE, True), (_MINUTE, False)):
            self.jump(moment + offset - self.now)
            for place, program in concerned:
                answer = program.call()
                self.tally.precision.add(is_right := (answer == ACCEPTED) is wanted)
                if not is_right:
                    text = f"breaks_at {moment:%Y-%m-%d %H:%M:%S}, {offset} to it: {answer}"
                    self._violate("3 precision", place, program.name, text)

    def _judge_recall(self, place: Place) -> None:
        findings = self.findings.get(place.place)
        for name in failing(place.call_all()):
            self.tally.failures[self._cause(place, name)] += 1
            if findings is None or place.months_off:
                continue
            program = place.program(name)
            if invariants.is_unseen(program, findings):
                self.tally.unseen += 1
                continue
            self.tally.recall.add(is_right := invariants.is_named(program, findings, place.now))
            if not is_right:
                self._violate("2 recall", place, name, f"no finding named it: {program.call()}")

    def _cause(self, place: Place, name: str) -> str:
        return " + ".join(sorted(place.states[name].faults)) or "without an event"

    # People and events

    def _act(self, chance: Random) -> None:
        """Let administrators mend what fails, and owners renew."""
        self._switch_off(chance)
        for place in self.places.values():
            if place.months_off:
                continue
            for name in dict.fromkeys((*failing(place.call_all()), *self.refused.get(place.place, ()))):
                owners.mend(place, place.program(name))
            owners.month(place)
        self.refused.clear()

    def _switch_off(self, chance: Random) -> None:
        """Let the plant be off for some months by chance."""
        plant = self.places[PLANT]
        months = chance.randint(1, _LONGEST_OFF) if chance.random() < _OFF else 0
        if plant.months_off > 1:
            plant.months_off -= 1
        elif plant.months_off:
            self._switch_on(plant)
        elif months:
            plant.journal.add(DONE, f"it is off for {months} months")
            plant.months_off = months
            plant.cluster.stop("kube-apiserver")
            self.tally.events["cluster off"] += 1

    def _switch_on(self, place: Place) -> None:
        place.journal.add(DONE, "it is on again")
        place.cluster.start_again("kube-apiserver")
        disturbances.wait_until_ready(place)
        place.jump(self.now - place.now)
        place.months_off = 0

    def _happen(self, chance: Random) -> None:
        """Draw a step of each rotation, and an event of some programs. Places of a group have the same."""
        for group in _GROUPS:
            places = [self.places[name] for name in group]
            step = rotations.draw(chance, places[0])
            drawn = events.draw(chance, places[0].programs)
            if any(place.months_off for place in places):
                continue
            for place in places:
                if step:
                    rotations.take(place, *step)
                for name, event in drawn.items():
                    events.happen(place, name, event)
            self.tally.events.update(event.id for event in drawn.values())
            if step:
                self.tally.events[f"rotation: {step[0].__name__.strip('_')}"] += 1

    # Runs

    def run(self, name: str, *arguments: str, **options: Any) -> Run:
        """Run a playbook, and judge what it printed and reported."""
        run = self.runs.play(name, *arguments, **options)
        self.check_output(run)
        for key, text in () if self.is_shared else invariants.untrue_report(run):
            self._violate("4 report", self.places[key], "", text)
        return run

    def check_output(self, run: Run) -> None:
        self.tally.runs += 1
        for host_name, row in run.rows.items():
            place, _dash, program = host_name.partition("-")
            text = f"{run.playbook}: {row['status']} {row.get('code', '')} {row.get('reason', '')}"
            self.places[place].journal.add(RUN, text[:400], *([program] if program else []))
        for text in invariants.bad_output(run, self._keys()):
            self._violate("6 output", self.places[PLANT], "", text)

    def _keys(self) -> Iterator[str]:
        for place in self.ours:
            if not place.months_off:
                yield from place.private_keys()

    def _run(self, chance: Random) -> None:
        """Run the playbooks of a month while all programs are called. Judge what is after them."""
        disturbance = disturbances.draw(chance)
        place = self.places[chance.choice([PLANT, EKS])]
        if disturbance and not place.months_off:
            self.tally.events[disturbance.id] += 1
        else:
            disturbance = None
        before = {place.place: place.call_all() for place in self.ours}
        with contextlib.ExitStack() as stack:
            callers = {
                entry.place: stack.enter_context(entry.calling(seconds=2))
                for entry in self.ours
                if not entry.months_off
            }
            if disturbance:
                stack.enter_context(disturbance.block(self, place, chance))
            certificates = self._play_all()
        for name, caller in callers.items():
            self.tally.calls += sum(map(len, caller.answers.values()))
            for program, text in invariants.harm_of_runs(before[name], caller.answers):
                self._violate("1 own harm", self.places[name], program, text)
        self._judge(certificates, disturbance, place)

    def _play_all(self) -> Run:
        certificates = self.run("certificates")
        rotating = [place.place for place in self.ours if place.rotation]
        if rotating:
            prepared = self.run("cluster_ca", "--limit", ",".join(rotating))
            for place in self.ours:
                for name, text in invariants.unprepared(place, prepared):
                    self._violate("4 green", place, name, text)
            if any(self.places[name].phase in rotations.FINISHING for name in rotating):
                self.run("cluster_ca", "--limit", ",".join(rotating), certflow_ca_phase="finish")
        if self._audit():
            plan = self.run("repair", "--check")
            self.run("repair", certflow_plan=str(plan.report))
            self._audit()
        return certificates

    def _audit(self) -> bool:
        """Audit the places. Return True if the playbook repair has something to do."""
        run = self.run("audit")
        self.findings = {
            name: row["findings"]
            for name, row in run.rows.items()
            if row["status"] == "ok" and row["audited_at"]
        }
        return any(
            finding["status"] == "fail" and finding["check"] in _REPAIRABLE
            for findings in self.findings.values()
            for finding in findings
        )

    # Judging

    def _judge(self, certificates: Run, disturbance: Disturbance | None, disturbed: Place) -> None:
        """Judge what the programs answer after the runs, also compared with the twin."""
        for place in self.places.values():
            place.settle()
        answers = {name: place.call_all() for name, place in self.places.items()}
        is_hindered = bool(disturbance and disturbance.is_obstacle)
        for place in self.ours:
            if not place.months_off:
                self._judge_precision(place, answers[place.place])
                self._judge_recovery(
                    place, answers[place.place], certificates, is_hindered=is_hindered and place is disturbed
                )
        if self.places[PLANT].months_off or is_hindered:
            return
        for name, text in invariants.worse_than_twin(answers[PLANT], answers[TWIN]):
            if not self.places[PLANT].program(name).is_ours:
                self._violate("1 own harm", self.places[PLANT], name, text)

    def _judge_recovery(
        self, place: Place, answers: Mapping[str, str], certificates: Run, *, is_hindered: bool
    ) -> None:
        """The runs mend what they can, and are green only then."""
        healed = {name: answer for name, answer in answers.items() if self.is_healed(place, name)}
        for name in failing(healed):
            if place.program(name).is_ours and not is_hindered:
                self._violate("5 recovery", place, name, f"the runs did not mend it: {healed[name]}")
        hosts = {program.name: host(place, program.name) for program in place.ours}
        if not is_hindered:
            self.refused[place.place] = invariants.refused(certificates, hosts)
        for name, text in invariants.not_green(place, certificates, healed, hosts):
            self._violate("4 green", place, name, text)
        for name, answer in answers.items():
            if answer == ACCEPTED:
                place.states[name].faults -= events.HEALED

    def is_healed(self, place: Place, name: str) -> bool:
        """Return True if runs mend all that happened to a program."""
        return place.states[name].faults <= events.HEALED

    def _judge_precision(self, place: Place, answers: Mapping[str, str]) -> None:
        """Nothing passes that the audit calls broken."""
        for name, moment in invariants.breaks(place, self.findings.get(place.place, ())).items():
            if moment > place.now:
                continue
            self.tally.precision.add(is_right := answers[name] != ACCEPTED)
            if not is_right:
                program = place.program(name)
                causes = [
                    f"{finding['check']}: {finding['cause']}"
                    for finding in self.findings[place.place]
                    if finding["severity"] == "error" and program.full_name in json.dumps(finding)
                ]
                self._violate("3 precision", place, name, f"it passes, and the audit has {causes}")

    def _violate(self, rule: str, place: Place, program: str, text: str) -> None:
        violation = Violation(rule, place.place, program, text)
        self.tally.violations.append(violation)
        print(f"VIOLATION {violation}", flush=True)
        if program:
            print(place.journal.text(program)[-4000:], flush=True)
            for finding in self.findings.get(place.place, ()):
                if finding["status"] != "pass" and place.program(program).full_name in json.dumps(finding):
                    words = (finding[key] for key in ("status", "severity", "check", "breaks_at", "cause"))
                    print("finding", *words, flush=True)
