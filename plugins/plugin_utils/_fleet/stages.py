# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The stages of a fleet run: the clusters of each, their order, and how many are at work at the same time. Pure.

Ansible cuts the list of a play's hosts into batches of the sizes in ``serial``, in the order of the list. So the play gets its
hosts in the order of the stages, and one size for each stage.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...module_utils._base.text import quoted, some, visible
from .._variables.check_variables import check_value
from .._variables.values import (
    did_you_mean,
    duration_seconds,
    find_duration_problem,
    is_blank,
    listed,
    parsed,
    shown,
)

NAME = "certflow_stages"
UNTIL = "certflow_until"
#: An entry of certflow_stages, in the form of Ansible's argument specs.
ENTRY = {
    "type": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "hosts": {"type": "raw", "required": True},
        "max_concurrency": {"type": "raw"},
        "soak": {"type": "raw"},
    },
}
#: The word for all clusters that are in no other stage.
REST = "rest"
#: A stage of this name tolerates no failure.
CANARY = "canary"
#: The canary of a run: the first cluster that answers, or also the clusters of a stage that certflow_stages names so.
FIRST, NAMED = "first", "named"
#: The stages of a run without certflow_stages. The first cluster has no pattern.
DEFAULT_NAMES = (CANARY, REST)
EXAMPLE = "Write certflow_stages: [{name: canary, hosts: GROUP}, {name: fleet, hosts: rest}]"

_NUMBER = re.compile(r"([0-9]{1,6})(%?)", re.ASCII)


@dataclass(frozen=True)
class Stage:
    """A stage of a run."""

    name: str
    #: Its clusters, by the names of their inventory hosts.
    hosts: tuple[str, ...]
    #: The largest number of clusters at work at the same time. 0: Ansible's number of forks.
    concurrency: int = 0
    #: Seconds to wait after its last cluster.
    soak: int = 0


@dataclass(frozen=True)
class Assignment:
    """The stages of a run, or what is wrong with certflow_stages."""

    #: The stages that have clusters, in order. Empty if there is a problem.
    stages: tuple[Stage, ...] = ()
    #: One line each.
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    """An entry of certflow_stages."""

    name: str
    pattern: str
    #: A number or a percentage.
    max_concurrency: str
    soak: int


def is_canary(name: str) -> bool:
    """Return True for the name of a stage that tolerates no failure."""
    return name.strip().casefold() == CANARY


def canary_of(value: Any) -> str:
    """Return the canary of a run with these certflow_stages: FIRST, NAMED, or "" if they have none."""
    if is_blank(value):
        return FIRST
    return NAMED if any(is_canary(row.name) for row in _read(value)[0]) else ""


def patterns(value: Any) -> list[str]:
    """Return the host patterns of certflow_stages that are to be resolved in the whole inventory, without --limit."""
    rows, problems = _read(value)
    return [] if problems else [row.pattern for row in rows if row.pattern != REST]


def assign(
    value: Any, hosts: Sequence[str], members: Mapping[str, Sequence[str]], until: Any = ""
) -> Assignment:
    """Return the stages of a run. Stages that have no cluster within the run are left out.

    value: certflow_stages.
    hosts: the clusters of the run, in the order of the inventory.
    members: the hosts of the inventory that each pattern matches.
    until: certflow_until. The clusters of later stages do not belong to the run.
    """
    if is_blank(value):
        parts = zip(DEFAULT_NAMES, (hosts[:1], hosts[1:]))
        return _cut(tuple(Stage(name, tuple(part)) for name, part in parts if part), DEFAULT_NAMES, until)
    rows, problems = _read(value)
    if not problems:
        problems = [*_membership_problems(rows, hosts, members)]
    if problems:
        return Assignment(problems=tuple(problems))
    return _cut(_stages(rows, hosts, members), [row.name for row in rows], until)


def order(stages: Iterable[Stage]) -> list[str]:
    """Return the clusters in the order of the stages."""
    return [host for stage in stages for host in stage.hosts]


def to_data(stages: Iterable[Stage]) -> list[dict[str, Any]]:
    """Return the stages as plain data, for a fact."""
    return [{**asdict(stage), "hosts": list(stage.hosts)} for stage in stages]


def from_data(rows: Iterable[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """Return the stages of to_data."""
    return tuple(Stage(**{**row, "hosts": tuple(row["hosts"])}) for row in rows)


def amount(text: str, total: int) -> int:
    """Return a number, or a percentage of the total, rounded down."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return total * int(match[1]) // 100 if match[2] else int(match[1])


def is_amount(value: Any) -> bool:
    """Return True for a number from 0, or a percentage up to 100%."""
    match = _NUMBER.fullmatch(str(value).strip())
    return match is not None and not isinstance(value, bool) and not (match[2] and int(match[1]) > 100)


def _read(value: Any) -> tuple[list[_Row], list[str]]:
    """Return the entries of certflow_stages, and what is wrong with them."""
    if is_blank(value):
        return [], []
    entries = parsed(value)
    if not isinstance(entries, (list, tuple)):
        return [], [f"{NAME} is not a list: {shown(value)}. {EXAMPLE}."]
    problems = [
        problem
        for number, entry in enumerate(entries)
        for problem in _entry_problems(f"{NAME}[{number}]", entry)
    ]
    if problems:
        return [], problems
    rows = [_row(entry) for entry in entries]
    return rows, [*_name_problems(rows)]


def _entry_problems(path: str, entry: Any) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{path} is not a dictionary: {shown(entry)}. {EXAMPLE}."
        return
    yield from check_value(path, ENTRY, entry)
    yield from (f"{path}.{line}" for line in _value_problems(entry))


def _value_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of an entry. Each line begins with the key."""
    hosts = entry.get("hosts")
    parts = hosts if isinstance(hosts, (list, tuple)) else [hosts]
    if not is_blank(hosts) and not all(isinstance(part, str) for part in parts):
        yield f"hosts is not a host pattern: {shown(hosts)}. Use a group, a pattern, or {REST} for all other clusters."
    concurrency = entry.get("max_concurrency")
    if not is_blank(concurrency) and (not is_amount(concurrency) or str(concurrency).strip() in ("0", "0%")):
        yield f"max_concurrency is not a number of clusters or a percentage: {shown(concurrency)}."
    if not is_blank(entry.get("soak")):
        problem = find_duration_problem("soak", entry["soak"])
        if problem:
            yield problem


def _row(entry: Mapping[str, Any]) -> _Row:
    hosts, concurrency = entry["hosts"], entry.get("max_concurrency")
    return _Row(
        name=str(entry["name"]).strip(),
        pattern=(",".join(hosts) if isinstance(hosts, (list, tuple)) else hosts).strip(),
        max_concurrency="" if is_blank(concurrency) else str(concurrency).strip(),
        soak=0 if is_blank(entry.get("soak")) else duration_seconds(entry["soak"]),
    )


def _name_problems(rows: Sequence[_Row]) -> Iterator[str]:
    yield from (
        f"{NAME} has {number} stages with the name {visible(name)}. Give each stage a name of its own."
        for name, number in Counter(row.name.casefold() for row in rows).items()
        if number > 1
    )
    if sum(row.pattern == REST for row in rows) > 1:
        yield f"{NAME} has more than one stage with hosts: {REST}. Keep one of them."


def _membership_problems(
    rows: Sequence[_Row], hosts: Sequence[str], members: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield patterns that match no host, clusters in two stages, and clusters in no stage."""
    yield from (
        f"no host of the inventory matches the hosts of the stage {visible(row.name)}: {visible(row.pattern)}."
        for row in rows
        if row.pattern != REST and not members.get(row.pattern)
    )
    named = {row.name: members.get(row.pattern, ()) for row in rows if row.pattern != REST}
    owners: dict[str, list[str]] = {}
    for name, found in named.items():
        for host in dict.fromkeys(found):
            owners.setdefault(host, []).append(name)
    doubled: dict[tuple[str, ...], list[str]] = {}
    for host in hosts:
        if len(owners.get(host, ())) > 1:
            doubled.setdefault(tuple(owners[host]), []).append(host)
    for names, found in doubled.items():
        yield f"these clusters are in the stages {listed(map(visible, names))}: {some(found)}. Put each into one stage."
    without = [host for host in hosts if host not in owners]
    if without and all(row.pattern != REST for row in rows):
        yield f"these clusters are in no stage: {some(without)}. Add a stage with hosts: {REST}."


def _stages(
    rows: Sequence[_Row], hosts: Sequence[str], members: Mapping[str, Sequence[str]]
) -> tuple[Stage, ...]:
    named = {host for row in rows if row.pattern != REST for host in members[row.pattern]}
    made = []
    for row in rows:
        inside = set(hosts) - named if row.pattern == REST else set(members[row.pattern])
        chosen = tuple(host for host in hosts if host in inside)
        concurrency = max(1, amount(row.max_concurrency, len(chosen))) if row.max_concurrency else 0
        made.append(Stage(row.name, chosen, concurrency, row.soak))
    return tuple(stage for stage in made if stage.hosts)


def _cut(stages: tuple[Stage, ...], names: Sequence[str], until: Any) -> Assignment:
    """Return the stages up to the one that certflow_until names. names: all stages, also those without clusters."""
    if is_blank(until):
        return Assignment(stages)
    last = str(until).strip()
    if last not in names:
        remedy = did_you_mean(last, names, "The stages")
        return Assignment(problems=(f"{UNTIL} is not the name of a stage: {quoted(last)}. {remedy}",))
    kept = names[: names.index(last) + 1]
    remaining = tuple(stage for stage in stages if stage.name in kept)
    if not remaining and stages:
        return Assignment(
            problems=(
                f"{UNTIL} ends the run after the stage {visible(last)}, and no cluster of the run is in a stage up to it.",
            )
        )
    return Assignment(remaining)
