# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One month after the other: time passes, people act, events happen, the playbooks run, and everything is judged."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.world import ACCEPTED, World, forecasts
from tests.support.world.journal import RUN
from tests.years import disturbances, events, invariants
from tests.years.places import FINISHING, MONTH, PROFILES, SHAPES, Place, Run, failing
from tests.years.report import Month

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.clusters import Fleet

_MINUTE = datetime.timedelta(minutes=1)
#: The chance that the plant is off in a month, also if the user chose the kinds, and the longest time.
_OFF, _OFF_OF_CHOICE, _LONGEST_OFF = 0.04, 0.5, 4
#: The chance that administrators notice in a month that a program fails.
_NOTICED = 0.7
#: The time after the first certificate of a successor after which the guide tells to run the phase finish.
_SETTLED = datetime.timedelta(hours=25)
#: In one of the months of this time, an upgrade comes too.
_SIX_YEARS = 72
#: The checks that the kind add-ca of the playbook repair answers.
_REPAIRABLE = ("ca-mismatch", "bundle-empty", "bundle-broken", "ca-expired", "ca-expiring")


class Years:
    """The places, and what was seen there. choice: the kinds of events, disturbances, "rotation", "off" and "upgrade", () for all."""

    def __init__(self, seed: str, fleet: Fleet, directory: Path, choice: tuple[str, ...] = ()) -> None:
        self.seed, self.choice = seed, choice
        self._directory, self._numbers = directory, itertools.count(1)
        with ThreadPoolExecutor() as pool:
            self.places = list(pool.map(lambda name: Place(fleet[name], directory), PROFILES))
        self.plant, self.eks, self.twin = self.places
        #: The places where the playbooks run.
        self.ours = [self.plant, self.eks]
        self.seen = Month("")
        #: The time of the last audit.
        self.audited = self.now
        #: True while another run writes as the same user, so that the audit log does not show which of them wrote.
        self.is_shared = False
        self._each(World.call_all)

    def close(self) -> None:
        for place in self.places:
            place.close()

    def month(self, number: int) -> Month:
        """Live through a month. The seed and its number decide what happens. Return what was seen."""
        chance = Random(f"{self.seed}/{number}")
        self.seen = Month(f"{self.now + MONTH:%Y-%m-%d}")
        begin = time.monotonic()
        self._pass_time()
        self._judge_recall()
        self._switch_off(chance)
        self._act(chance)
        self._happen(chance)
        self._run(chance, number)
        self.seen.seconds = time.monotonic() - begin
        return self.seen

    def end(self) -> Month:
        """Mend everything by the ordinary playbooks. The next ones change nothing, and nothing is left at the end."""
        self.seen = Month(f"{self.now:%Y-%m-%d}")
        for place in self.ours:
            if place.months_off:
                place.be_on(self.eks)
            for name in failing(place.call_all()):
                if not (place.program(name).is_ours and events.is_healed(place, name)):
                    events.mend(place, name)
        for playbook in ("certificates", "repair"):
            self.run(playbook)
            self._judge(invariants.second_writes(self.run(playbook)))
        for place in self.ours:
            self._judge(invariants.not_as_before(place))
        # Calls fail without the CA. That needs a word of the user.
        self.run("certificates", webhook_certificate_state="absent", webhook_certificate_accept=["downtime"])
        for place in self.ours:
            self._judge(invariants.left_over(place))
        return self.seen

    # Time

    @property
    def now(self) -> datetime.datetime:
        """The time of all places that are not off."""
        return self.eks.now

    def _are_on(self, places: list[Place]) -> list[Place]:
        return [place for place in places if not place.months_off]

    def _each(self, act: Callable[[Place], object]) -> None:
        """Do something at all places that are not off, at the same time."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(act, self._are_on(self.places)))

    def jump(self, by: datetime.timedelta) -> None:
        def act(place: Place) -> None:
            if place.jump(by):
                place.settle()

        self._each(act)

    def _pass_time(self) -> None:
        """Let a month pass. Call what breaks, by the audit, one minute before that time, and one minute after it."""
        end = self.now + MONTH
        dated = [
            (moment, place, name)
            for place in self.ours
            for name, moment in place.breaks.items()
            if place.now + 2 * _MINUTE < moment < end
        ]
        for moment in sorted({moment for moment, _place, _name in dated}):
            breaking = [entry[1:] for entry in dated if abs(entry[0] - moment) < _MINUTE / 2]
            for offset in (-_MINUTE, _MINUTE):
                self.jump(moment + offset - self.now)
                for place, name in breaking:
                    if place.answers.get(name) == ACCEPTED and not place.is_written(name, self.audited):
                        answer = place.program(name).call()
                        text = f"breaks_at {moment:%Y-%m-%d %H:%M:%S}, {offset} to it: {answer}"
                        is_right = (answer == ACCEPTED) is (offset == -_MINUTE)
                        self._note_precision(place, name, text, is_right=is_right)
        self.jump(end - self.now)

    def _note_precision(self, place: Place, name: str, text: str, *, is_right: bool) -> None:
        self.seen.precision.append(is_right)
        if not is_right:
            self.violate("3 precision", place, name, text)

    def _judge_recall(self) -> None:
        """What fails at the end of a month was named by the last audit."""
        self._each(World.call_all)
        for place in self.ours:
            for name in failing(place.answers):
                cause = " + ".join(sorted(place.faults[name])) or "without an event"
                self.seen.failures.append(f"{place.place}/{name}: {cause}")
                program = place.program(name)
                is_named = forecasts.is_named(program, place.findings, place.now)
                if is_named is not None and not place.is_written(name, self.audited):
                    self.seen.recall.append(is_named)
                    if not is_named:
                        self.violate("2 recall", place, name, f"no finding named it: {program.call()}")

    # People and events

    def _is_chosen(self, kind: str) -> bool:
        return not self.choice or kind in self.choice

    def _switch_off(self, chance: Random) -> None:
        """Let the plant be off for some months by chance."""
        share = _OFF_OF_CHOICE if self.choice else _OFF
        is_drawn = self._is_chosen("off") and chance.random() < share
        if self.plant.months_off > 1:
            self.plant.months_off -= 1
        elif self.plant.months_off:
            self.plant.be_on(self.eks)
        elif is_drawn:
            self.plant.be_off(chance.randint(1, _LONGEST_OFF))
            self.seen.events.append("off plant")

    def _act(self, chance: Random) -> None:
        """Let administrators mend what they notice of what fails, and owners renew. The twin has the same administrators."""
        noticed = [row.name for row in SHAPES if chance.random() < _NOTICED]
        for place in self._are_on(self.places):
            for name in dict.fromkeys((*failing(place.answers), *place.refused)):
                if name in noticed:
                    events.mend(place, name)
            events.live(place)

    def _happen(self, chance: Random) -> None:
        """Draw a step of each rotation, and an event of some programs. The twin has the same as the plant."""
        for places in ((self.plant, self.twin), (self.eks,)):
            name = places[0].place
            step = places[0].draw_step(chance) if self._is_chosen("rotation") else None
            drawn = events.draw(chance, self.choice)
            if any(place.months_off for place in places):
                continue
            self.seen.events += [f"{event.id} {name}/{program}" for program, event in drawn.items()]
            if step:
                self.seen.events.append(f"rotation-{step[0].replace('_', '-') or 'forgotten'} {name}")
            for place in places:
                if step:
                    place.turn(*step)
                for program, event in drawn.items():
                    events.happen(place, program, event)

    # Runs

    def start(self, playbook: str, *arguments: str, **options: Any) -> Run:
        report = self._directory / f"{playbook}-{next(self._numbers)}.json"
        return Run(playbook, report, self.ours, *arguments, **options)

    def run(self, playbook: str, *arguments: str, **options: Any) -> Run:
        """Run a playbook, and judge what it printed and reported."""
        run = self.start(playbook, *arguments, **options)
        run.finish()
        self.check_output(run)
        if not self.is_shared:
            self._judge(invariants.untrue_report(run))
        return run

    def check_output(self, run: Run) -> None:
        self.seen.runs += 1
        for host, row in run.rows.items():
            name, _dash, program = host.partition("-")
            place = next(place for place in self.ours if place.place == name)
            text = f"{run.playbook}: {row['status']} {row.get('code', '')} {row.get('reason', '')}"
            place.journal.add(RUN, text[:400], *([program] if program else []))
        keys = [key for place in self._are_on(self.ours) for key in place.private_keys()]
        self._judge(invariants.bad_output(run, self.plant, keys))

    def _run(self, chance: Random, number: int) -> None:
        """Run the playbooks of a month while all programs are called. Judge what is after them."""
        disturbed = chance.choice(self.ours)
        disturbance = "" if disturbed.months_off else disturbances.draw(chance, self.choice)
        blocks = [(disturbance, disturbed)] if disturbance else []
        month_of_upgrade = 1 if self.choice else Random(self.seed).randrange(_SIX_YEARS)
        is_upgrade = self._is_chosen("upgrade") and number % _SIX_YEARS == month_of_upgrade
        if is_upgrade and not (self.plant.months_off or self.plant.is_dated):
            blocks.append((disturbances.UPGRADE, self.plant))
        self.seen.events += [f"{kind} {place.place}" for kind, place in blocks]
        self._each(World.call_all)
        before = {place: place.answers for place in self.ours}
        with contextlib.ExitStack() as stack:
            running = self._are_on(self.ours)
            callers = [(place, stack.enter_context(place.calling(seconds=2))) for place in running]
            for kind, place in blocks:
                stack.enter_context(disturbances.BLOCKS[kind](self, place, chance))
            certificates = self._play_all()
        for place, caller in callers:
            self.seen.calls += sum(map(len, caller.answers.values()))
            self._judge(invariants.harm_of_runs(place, before[place], caller.answers))
        self._judge_runs(certificates, disturbed if disturbance in disturbances.OBSTACLES else None)

    def _play_all(self) -> Run:
        """Run the playbooks, and audit after each chance to repair. Return the run that issues certificates."""
        certificates = self.run("certificates")
        rotating = [place for place in self.ours if place.rotation]
        if rotating:
            limit = ("--limit", ",".join(place.place for place in rotating))
            begin = self.now
            self._judge(invariants.unprepared(self.run("cluster_ca", *limit), begin))
            if any(place.phase in FINISHING for place in rotating):
                self.jump(_SETTLED)
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
        for place in self.ours:
            row = run.rows.get(place.place, {"status": "missing"})
            is_audited = row["status"] == "ok" and row["audited_at"] and not place.months_off
            place.findings = row["findings"] if is_audited else None
        fails = [entry for place in self.ours for entry in place.findings or () if entry["status"] == "fail"]
        return any(finding["check"] in _REPAIRABLE for finding in fails)

    # Judging

    def _judge_runs(self, run: Run, hindered: Place | None) -> None:
        """Judge what the programs answer after the runs. hindered: the place where the runs may end with a failure."""
        self._each(Place.settle)
        self._each(World.call_all)
        # A failure of the canary stops all others.
        is_stopped = any(row["status"] == "not started" for row in run.rows.values())
        for place in self._are_on(self.ours):
            for name, moment in place.breaks.items():
                if moment <= place.now and not place.is_written(name, self.audited):
                    text = "each call since the audit passes, and the audit calls it broken"
                    self._note_precision(place, name, text, is_right=place.has_failed(name, self.audited))
            self._judge_recovery(place, run, is_hindered=bool(hindered) and (is_stopped or place is hindered))
        if not (self.plant.months_off or hindered):
            self._judge(invariants.worse_than_twin(self.plant, self.twin))

    def _judge_recovery(self, place: Place, run: Run, *, is_hindered: bool) -> None:
        """The runs mend what they can, and are green only then."""
        statuses = {program.name: run.status_of(place.host(program.name)) for program in place.ours}
        healed = {name: answer for name, answer in place.answers.items() if events.is_healed(place, name)}
        place.refused = []
        if not is_hindered:
            self._judge(invariants.unmended(place, statuses, healed))
            done = (None, *invariants.GREEN)
            place.refused = [name for name, status in statuses.items() if status not in done]
        self._judge(invariants.not_green(place, statuses, healed))
        for name, answer in place.answers.items():
            if answer == ACCEPTED:
                place.faults[name] -= events.HEALED

    def _judge(self, violations: invariants.Violations) -> None:
        for violation in violations:
            self.violate(*violation)

    def violate(self, rule: str, place: Place, program: str, text: str) -> None:
        """Keep a violation, and print it with the journal and the findings of its object."""
        violation = f"{rule}: {place.place} {program}: {text}"
        self.seen.violations.append(violation)
        print(f"VIOLATION {violation}", flush=True)
        if program:
            print(place.journal.text(program)[-4000:], flush=True)
            for finding in place.findings or ():
                if finding["status"] != "pass" and place.program(program).full_name in json.dumps(finding):
                    words = (finding[key] for key in ("status", "severity", "check", "breaks_at", "cause"))
                    print("finding", *words, flush=True)
