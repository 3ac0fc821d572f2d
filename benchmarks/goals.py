# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The goals of the project's speed, each with the value that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.samples import AGAIN, FIRST, Case, Results

ROW = "certificates"
#: The number of hosts of most goals.
HOSTS = 200


@dataclass(frozen=True)
class Goal:
    """One goal."""

    #: What is measured.
    title: str
    limit: float
    #: Return the value, None if the run did not measure it.
    value: Callable[[Results], float | None]
    #: True if the value must be at least the limit, False if at most.
    at_least: bool = False
    unit: str = ""
    #: True if the value must be below the limit.
    strictly: bool = False
    #: Where the rest of the cost is, shown if the goal is not met.
    remains: str = ""

    def is_met(self, value: float) -> bool:
        if self.at_least:
            return value >= self.limit
        return value < self.limit if self.strictly else value <= self.limit

    @property
    def wanted(self) -> str:
        words = "at least" if self.at_least else "below" if self.strictly else "at most"
        return f"{words} {self.limit:g}{self.unit}"


def _ratio(above: tuple[Case, ...], below: tuple[Case, ...], results: Results) -> float | None:
    """Return the quotient of two sums of seconds."""
    over, under = _sum(above, results), _sum(below, results)
    return over / under if over is not None and under else None


def _sum(cases: tuple[Case, ...], results: Results) -> float | None:
    values = [results.value(case, "wall") for case in cases]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _value(case: Case, measure: str, results: Results) -> float | None:
    return results.value(case, measure)


def _cost_grows(phase: str, results: Results) -> float | None:
    """Return the seconds a host with 1000 hosts, divided by those with 50."""
    many, few = (_case("in_process", phase, hosts) for hosts in (1000, 50))
    ratio = _ratio((many,), (few,), results)
    return None if ratio is None else ratio / (1000 / 50)


def _largest(row: str, peers: tuple[str, ...], measure: str, results: Results) -> float | None:
    """Return the largest value of all cases of the peers in a row."""
    found = [results.value(case, measure) for case in results.cases(row) if case.peer in peers]
    return max((value for value in found if value is not None), default=None)


def _audited(measure: str, results: Results) -> float | None:
    """Return the largest value of the collection's ways to audit 1000 hosts."""
    found = [results.value(case, measure) for case in results.cases("audit") if case.hosts == 1000]
    return max((value for value in found if value is not None), default=None)


def _case(peer: str, phase: str = FIRST, hosts: int = HOSTS) -> Case:
    return Case(ROW, peer, hosts, phase)


_OF_THE_PLAYBOOK = (
    "The role has one task. The playbook also checks the fleet as a whole, records the state of each cluster in its run file, and "
    "writes a report."
)
_OWN, _QUIET = _case("in_process"), _case("in_process", AGAIN)
GOALS = (
    Goal(
        "200 hosts: as many times as fast as the scripts, two at a time",
        8,
        partial(_ratio, (_case("scripts_2"),), (_OWN,)),
        at_least=True,
        remains="The operation without Ansible reaches it. With the time of `debug` added, it does not. Of the 18 requests that it "
        "sends for a host, 5 ask for permissions, 1 checks that no node has the name of the certificate, 3 belong to the Lease and "
        "to a second reading under it, 1 looks for earlier requests, and 1 tries the write. The scripts check none of this. The "
        "control planes use about half of the processor time.",
    ),
    Goal(
        "50 hosts: as many times as fast as the playbook of kubernetes.core and community.crypto",
        40,
        partial(_ratio, (_case("composed", hosts=50),), (_case("in_process", hosts=50),)),
        at_least=True,
        remains="Both runs wait for the control planes, which use the same processor.",
    ),
    Goal(
        "200 hosts: time of the module, divided by that of the operation without Ansible and of debug together",
        2,
        partial(_ratio, (_OWN,), (_case("bare"), _case("debug"))),
    ),
    Goal(
        "200 hosts without change: time of the module, divided by that of debug",
        1.5,
        partial(_ratio, (_QUIET,), (_case("debug"),)),
        remains="The table of the processor time has the parts. Without its requests, the task takes a fifth of the time of its "
        "fork. The rest is in Ansible's `WorkerProcess._run`: most of it in `Task.post_validate`, "
        "`PluginLoader.get_with_context`, `TaskExecutor._get_connection` and the conversion of the result. A process with "
        "the libraries of the task takes Ansible longer to fork, and copies more memory, also if the task does nothing. Then "
        "follow two requests with their TLS handshake, and the comparison of the certificate with the task.",
    ),
    Goal(
        "200 hosts without change: time of the role, divided by that of the module",
        1.3,
        partial(_ratio, (_case("role", AGAIN),), (_QUIET,)),
        remains="The role has one task, as the play of the module has. Its fork reads the role's variables and checks them, which the "
        "table of the processor time counts as the rest of the task.",
    ),
    Goal(
        "200 hosts: requests a host of a first run",
        18,
        partial(_value, _OWN, "requests"),
        remains="The page of the architecture lists the requests of a first run, each with its purpose.",
    ),
    Goal("200 hosts without change: requests a host", 2, partial(_value, _QUIET, "requests")),
    Goal(
        "200 hosts: time of the playbook, divided by that of the role",
        1.2,
        partial(_ratio, (_case("playbook"),), (_case("role"),)),
        remains=_OF_THE_PLAYBOOK,
    ),
    Goal(
        "200 hosts without change: time of the playbook, divided by that of the role",
        1.2,
        partial(_ratio, (_case("playbook", AGAIN),), (_case("role", AGAIN),)),
        remains=_OF_THE_PLAYBOOK,
    ),
    Goal(
        "Memory that only a fork uses",
        10,
        partial(_largest, "memory", ("in_process", "role", "playbook"), "private_fork"),
        unit=" MB",
        strictly=True,
        remains="The fork of `debug` is above the goal too, although it imports no library of the collection. Python counts the references "
        "of an object in the object itself, so each function that Ansible's `WorkerProcess._run` calls copies the pages of what "
        "it reads. A `gc.freeze` before the fork, measured with both ways, changes neither the memory nor the page faults.",
    ),
    Goal(
        "Audit of 1000 clusters: memory of Ansible's main process",
        300,
        partial(_audited, "pss_parent"),
        unit=" MB",
        strictly=True,
    ),
    Goal(
        "Seconds a host with 1000 hosts, divided by those with 50",
        1.1,
        partial(_cost_grows, FIRST),
        remains="Two control planes stand for all clusters here, so each of them has 500 hosts, and a list of its requests "
        "is ten times as long. The operation without Ansible becomes slower too. While all forks are at work, Ansible's "
        "main process asks them 10,000 times a second, which takes processor time from the control planes.",
    ),
    Goal("Seconds a host with 1000 hosts without change, divided by those with 50", 1.1, partial(_cost_grows, AGAIN)),
    Goal("Time until a stuck request has a named cause", 2, partial(_largest, "cause", ("k8s_csr", "k8s_csr_info"), "wall"), unit=" s"),
    Goal(
        "Failed calls of a webhook while its certificate is rotated",
        0,
        partial(_largest, "rotation", ("k8s_csr, same CA", "k8s_csr, new CA"), "failed_calls"),
    ),
)  # fmt: skip


def missed(results: Results) -> Iterator[tuple[str, str]]:
    """Yield title and explanation of each goal that was measured and is not met."""
    for goal in GOALS:
        value = goal.value(results)
        if value is not None and not goal.is_met(value):
            yield goal.title, goal.remains


def rows(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """Yield title, wanted value, measured value, and whether the goal is met, of each goal."""
    for goal in GOALS:
        value = goal.value(results)
        if value is None:
            yield goal.title, goal.wanted, "not measured", "-"
        else:
            yield goal.title, goal.wanted, f"{value:.2f}{goal.unit}", "yes" if goal.is_met(value) else "no"
