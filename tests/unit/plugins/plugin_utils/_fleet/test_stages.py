# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stages of a fleet run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import stages
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.stages import Stage

pytestmark = pytest.mark.quick

HOSTS = ["a", "b", "c", "d", "e", "f"]
# The hosts of the inventory that each pattern matches. "z" is not a host of the run.
MEMBERS: Mapping[str, Sequence[str]] = {
    "one": ["b"],
    "two": ["d", "c"],
    "most": ["f", "e", "d", "c", "b"],
    "one,two": ["b", "d", "c"],
    "outside": ["z"],
    "nothing": [],
    "all": HOSTS,
}
CANARY = {"name": "canary", "hosts": "one"}
REST = {"name": "fleet", "hosts": "rest"}
# certflow_stages, certflow_until, the stages.
ASSIGNED: tuple[tuple[Any, Any, list[Stage]], ...] = (
    (None, "", [Stage("canary", ("a",)), Stage("rest", ("b", "c", "d", "e", "f"))]),
    ("", None, [Stage("canary", ("a",)), Stage("rest", ("b", "c", "d", "e", "f"))]),
    ([], "canary", [Stage("canary", ("a",))]),
    ([CANARY, REST], "", [Stage("canary", ("b",)), Stage("fleet", ("a", "c", "d", "e", "f"))]),
    ([CANARY, REST], " canary ", [Stage("canary", ("b",))]),
    (json.dumps([CANARY, REST]), "canary", [Stage("canary", ("b",))]),
    # The clusters of a stage are in the order of the inventory, whatever the order of the pattern is.
    ([{"name": "x", "hosts": "rest"}, {"name": "y", "hosts": "two"}], "", [Stage("x", ("a", "b", "e", "f")), Stage("y", ("c", "d"))]),
    ([{"name": "x", "hosts": ["one", "two"]}, REST], "x", [Stage("x", ("b", "c", "d"))]),
    ([{"name": 1, "hosts": "all", "soak": "2m"}], "", [Stage("1", tuple(HOSTS), soak=120)]),
    ([{"name": "x", "hosts": "all", "max_concurrency": 4, "soak": ""}], "", [Stage("x", tuple(HOSTS), 4)]),
    ([{"name": "x", "hosts": "all", "max_concurrency": "50%"}], "", [Stage("x", tuple(HOSTS), 3)]),
    ([{"name": "x", "hosts": "all", "max_concurrency": "49%"}], "", [Stage("x", tuple(HOSTS), 2)]),
    ([{"name": "x", "hosts": "all", "max_concurrency": "1%"}], "", [Stage("x", tuple(HOSTS), 1)]),
    ([{"name": "x", "hosts": "all", "max_concurrency": "100%"}], "", [Stage("x", tuple(HOSTS), 6)]),
    # Stages without a cluster of the run are left out.
    ([{"name": "x", "hosts": "outside"}, REST], "", [Stage("fleet", tuple(HOSTS))]),
    ([{"name": "x", "hosts": "all"}, REST], "", [Stage("x", tuple(HOSTS))]),
)  # fmt: skip


@pytest.mark.parametrize(("value", "until", "expected"), ASSIGNED)
def test_the_stages_of_a_run(value: Any, until: Any, expected: list[Stage]) -> None:
    found = stages.assign(value, HOSTS, MEMBERS, until)
    assert found == stages.Assignment(tuple(expected))
    assert stages.from_data(json.loads(json.dumps(stages.to_data(found.stages)))) == found.stages


def named(**keys: Any) -> list[dict[str, Any]]:
    return [{"name": "x", "hosts": "rest", **keys}]


# certflow_stages, certflow_until, the parts of each problem.
REFUSED: tuple[tuple[Any, Any, Sequence[Sequence[str]]], ...] = (
    ("all", "", [("certflow_stages is not a list", "'all'", "Write certflow_stages")]),
    ("[", "", [("certflow_stages is not a list",)]),
    ({"name": "x"}, "", [("certflow_stages is not a list", "a dictionary")]),
    (7, "", [("certflow_stages is not a list", "7")]),
    (["x"], "", [("certflow_stages[0] is not a dictionary", "'x'")]),
    (named(max_concurency=1), "", [("certflow_stages[0]", "max_concurency", "Did you mean max_concurrency?")]),
    (named(serial=1), "", [("the key serial", "hosts, max_concurrency, name and soak")]),
    ([{}], "", [("certflow_stages[0] lacks name and hosts.",)]),
    ([CANARY, {"name": "fleet"}], "", [("certflow_stages[1] lacks hosts.",)]),
    ([{"name": " ", "hosts": ""}], "", [("lacks name and hosts",)]),
    (named(name=["x"]), "", [("certflow_stages[0].name",)]),
    (named(hosts={"a": 1}), "", [("certflow_stages[0].hosts", "a dictionary")]),
    (named(hosts=["a", 1]), "", [("certflow_stages[0].hosts",)]),
    *((named(max_concurrency=size), "", [("certflow_stages[0].max_concurrency",)]) for size in (0, -1, "0%", "101%", "x", True, 1.5)),
    (named(soak="later"), "", [("certflow_stages[0].soak is not a duration", "'later'")]),
    ([{"name": "x"}, "y"], "", [("certflow_stages[0]",), ("certflow_stages[1]",)]),
    ([CANARY, {"name": "Canary", "hosts": "rest"}], "", [("2 stages with the name canary",)]),
    ([*named(), {"name": "y", "hosts": "rest"}], "", [("more than one stage with hosts: rest",)]),
    ([{"name": "x", "hosts": "nothing"}, REST], "", [("the stage x: nothing",)]),
    ([{"name": "x", "hosts": "unknown"}, REST], "", [("the stage x: unknown",)]),
    ([CANARY, {"name": "y", "hosts": "most"}, REST], "", [("the stages canary and y: b.",)]),
    ([CANARY, {"name": "y", "hosts": "two"}], "", [("in no stage: a, e, f.", "hosts: rest")]),
    ([CANARY, {"name": "y", "hosts": "all"}], "", [("the stages canary and y: b.",)]),
    ([CANARY, REST], "canry", [("certflow_until", "'canry'", "Did you mean canary?")]),
    ([CANARY, REST], "everything", [("certflow_until", "The stages are canary and fleet.")]),
    ("", "fleet", [("certflow_until", "The stages are canary and rest.")]),
    ([{"name": "x", "hosts": "outside"}, REST], "x", [("certflow_until", "no cluster of the run")]),
)  # fmt: skip


@pytest.mark.parametrize(("value", "until", "expected"), REFUSED)
def test_stages_with_problems(value: Any, until: Any, expected: Sequence[Sequence[str]]) -> None:
    """Each problem is one line, and none of them hides another one."""
    found = stages.assign(value, HOSTS, MEMBERS, until)
    assert found.stages == ()
    assert len(found.problems) == len(expected)
    for line, parts in zip(found.problems, expected):
        assert all(part in line for part in parts), line
        assert line.isprintable()


def test_many_clusters_in_a_problem_are_counted() -> None:
    hosts = [f"h{number}" for number in range(50)]
    [line] = stages.assign([{"name": "x", "hosts": "g"}], hosts, {"g": ["h0"]}).problems
    assert "h1, h2, h3, h4, h5 and 44 more" in line


def test_foreign_text_in_a_problem_is_visible() -> None:
    value = [{"name": "\u202ex", "hosts": "\x1b[2J"}, {"na\nme": "x"}]
    assert all(line.isprintable() for line in stages.assign(value, HOSTS, MEMBERS).problems)
    [line] = stages.assign([value[0], REST], HOSTS, MEMBERS).problems
    assert "\\u202ex" in line
    assert "\\x1b" in line


def test_the_patterns_to_resolve() -> None:
    assert stages.patterns([CANARY, {"name": "y", "hosts": ["one", "two"]}, REST]) == ["one", "one,two"]
    assert stages.patterns(None) == []
    assert stages.patterns("x") == []


def test_the_batches_of_the_play() -> None:
    """Ansible cuts the list of hosts in its order, so each batch is a stage."""
    found = stages.assign([{"name": "x", "hosts": "two"}, REST], HOSTS, MEMBERS).stages
    hosts, sizes = stages.order(found), [len(stage.hosts) for stage in found]
    cut = [hosts[sum(sizes[:number]) :][:size] for number, size in enumerate(sizes)]
    assert [tuple(batch) for batch in cut] == [stage.hosts for stage in found]


def test_a_run_of_one_cluster_is_a_canary() -> None:
    assert stages.assign("", ["a"], {}).stages == (Stage("canary", ("a",)),)
    assert stages.assign("", [], {}).stages == ()
