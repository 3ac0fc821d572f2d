# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a fleet run: its hash, and how two plans differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import plan

pytestmark = pytest.mark.quick

ROLE = "snapshot_controller"


def row(name: str, **keys: Any) -> dict[str, Any]:
    """Return the cluster of a report."""
    steps = [
        {"id": "crds", "hop": "v8.0.0", "changed": True},
        {"id": "wait", "hop": "v8.0.0", "changed": False},
    ]
    return {
        "name": name,
        "uid": f"uid-{name}",
        "before": "v7.0.0",
        "after": "v8.0.0",
        "steps": steps,
        "seconds": 3,
        **keys,
    }


def report(*rows: Mapping[str, Any], **run: Any) -> dict[str, Any]:
    return {
        "kind": "run",
        "clusters": list(rows),
        "run": {"role": ROLE, "check_mode": True, "plan": "", **run},
    }


BASE = plan.make(ROLE, [row("a"), row("b")])
#: Changes that are no change of the plan.
SAME: tuple[list[dict[str, Any]], ...] = (
    [row("b"), row("a")],
    [row("a", seconds=99, reason="x"), row("b", status="ok")],
    [row("a", steps=row("a")["steps"][:1]), row("b")],
)


@pytest.mark.parametrize("rows", SAME)
def test_equal_plans(rows: list[dict[str, Any]]) -> None:
    """The order of the clusters, how long the plan took, and steps that change nothing do not count."""
    found = plan.make(ROLE, rows)
    assert found.hash == BASE.hash
    assert plan.differences(BASE, found) == []


STEPS = row("a")["steps"]
# The clusters of this run, the parts of each difference.
DIFFERENT: tuple[tuple[list[dict[str, Any]], list[tuple[str, ...]]], ...] = (
    ([row("a")], [("b: ", "in the plan and not in this run")]),
    ([row("a"), row("b"), row("c")], [("c: ", "in this run and not in the plan")]),
    ([row("a", uid="other"), row("b")], [("a: ", "other", "uid-a")]),
    ([row("a", uid=""), row("b")], [("a: ", "none", "uid-a")]),
    ([row("a"), row("b", before="v6.0.0")], [("b: ", "v6.0.0", "v7.0.0")]),
    ([row("a"), row("b", after="v8.1.0")], [("b: ", "v8.1.0", "v8.0.0")]),
    ([row("a", steps=[]), row("b")], [("a: ", "lacks crds@v8.0.0")]),
    ([row("a", steps=[*STEPS, {"id": "rbac"}]), row("b")], [("a: ", "has rbac")]),
    ([row("a", steps=[{"id": "rbac"}]), row("b")], [("a: ", "has rbac", "lacks crds@v8.0.0")]),
    ([row("a", steps=[{**STEPS[0], "hop": "v8.1.0"}]), row("b")], [("has crds@v8.1.0", "lacks crds@v8.0.0")]),
    ([row("a", uid="x", after="y"), row("c")], [("b: ",), ("a: ",), ("a: ",), ("c: ",)]),
)


@pytest.mark.parametrize(("rows", "expected"), DIFFERENT)
def test_different_plans(rows: list[dict[str, Any]], expected: list[tuple[str, ...]]) -> None:
    found = plan.make(ROLE, rows)
    assert found.hash != BASE.hash
    lines = plan.differences(BASE, found)
    assert len(lines) == len(expected), lines
    assert all(part in line for line, parts in zip(lines, expected) for part in parts), lines


def test_the_order_of_steps_counts() -> None:
    steps = [{"id": "x"}, {"id": "y"}]
    old, new = plan.make(ROLE, [row("a", steps=steps)]), plan.make(ROLE, [row("a", steps=steps[::-1])])
    assert old.hash != new.hash
    assert len(plan.differences(old, new)) == 1


def test_the_role_counts() -> None:
    found = plan.make("webhook_certificate", [row("a"), row("b")])
    [line] = plan.differences(BASE, found)
    assert "webhook_certificate" in line


def test_many_differences_are_counted() -> None:
    now = plan.make(ROLE, [row(f"h{number}") for number in range(20)])
    lines = plan.differences(BASE, now)
    assert len(lines) == plan.MOST_LINES + 1
    assert lines[-1] == "17 more differences"
    assert plan.differences(plan.make(ROLE, [row("h0")]), plan.make(ROLE, [row(f"h{n}") for n in range(7)]))[
        -1
    ] == ("1 more difference")


def test_with_a_hash_alone_the_hashes_are_told() -> None:
    now = plan.make(ROLE, [row("a")])
    [line] = plan.differences(plan.Plan(BASE.hash), now)
    assert BASE.hash in line
    assert now.hash in line
    assert plan.differences(plan.Plan(BASE.hash), BASE) == []


def test_foreign_text_is_visible() -> None:
    rows = [row("a\n\x1b", uid="\u202e", after="{{ x }}\x00", steps=[{"id": "\u200b"}])]
    lines = plan.differences(plan.make(ROLE, [row("a\n\x1b")]), plan.make(ROLE, rows))
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_names_do_not_run_into_each_other() -> None:
    """Different plans have different hashes, also if their texts joined are equal."""
    one = plan.make(ROLE, [row("a", before="b", after="c")])
    other = plan.make(ROLE, [row("a", before="bc", after="")])
    assert one.hash != other.hash


def test_the_report_of_a_check_is_a_plan() -> None:
    found = plan.from_report(json.loads(json.dumps(report(row("a"), row("b"), plan=BASE.hash))))
    assert found == BASE
    assert plan.from_report(report(row("a"), row("b"))) == BASE


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "audit", "clusters": [], "run": None},
        report(row("a"), row("b"), check_mode=False),
        report(row("a"), plan=BASE.hash),  # a cluster is gone
        report(row("a", after="v9.0.0"), row("b"), plan=BASE.hash),
    ],
)
def test_another_report_is_not_a_plan(wrong: dict[str, Any]) -> None:
    line = plan.from_report(wrong)
    assert isinstance(line, str)
    assert line.startswith("certflow_plan names a report")


@pytest.mark.parametrize("value", ["", None, "plan.json", "~/plans/sha256.json", BASE.hash, f" {BASE.hash} "])
def test_a_value_of_the_variable(value: Any) -> None:
    assert plan.find_problem(value) == ""


@pytest.mark.parametrize(
    "value", ["sha256:12", BASE.hash.upper(), f"{BASE.hash}0", ["x"], {"a": 1}, 7, True, "a\nb", "\x1b"]
)
def test_a_wrong_value_of_the_variable(value: Any) -> None:
    line = plan.find_problem(value)
    assert line.startswith("certflow_plan is not ")
    assert line.isprintable()


def test_the_hash_is_stable() -> None:
    """A plan that was approved must stay valid after an update of the collection. A new form needs a new number of FORMAT."""
    assert BASE.hash == "sha256:446978a7e511f5f793e946e89f3cca8e17a1bd72bf21a089e6b1e0cdf31563e4"
