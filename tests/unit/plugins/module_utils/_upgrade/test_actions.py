# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The diff and the objects of a result."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Action
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    Verify,
    VerifyController,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.webhook_actions import (
    IssueCertificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions, verify_release
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ObjectOutcome,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import (
    FieldChange,
)

HOOK = Reference("Deployment", "hook", "default")
OTHER = Reference("Service", "hook", "default")
H, S = str(HOOK), str(OTHER)


def outcome(change: str, *changes: tuple[str, Any, Any], reference: Reference = HOOK) -> ObjectOutcome:
    return ObjectOutcome(reference, change, tuple(FieldChange(*change) for change in changes))


# What the steps did, and the diff: before and after.
CASES: dict[str, tuple[list[ObjectOutcome], dict[str, Any], dict[str, Any]]] = {
    "nothing": ([outcome("unchanged")], {}, {}),
    "changed": ([outcome("changed", ("image", "a", "b"))], {H: {"image": "a"}}, {H: {"image": "b"}}),
    "changed several times": (
        [outcome("changed", ("image", "a", "b")), outcome("changed", ("image", "b", "c"), ("replicas", 1, 2))],
        {H: {"image": "a", "replicas": 1}},
        {H: {"image": "c", "replicas": 2}},
    ),
    "created": ([outcome("created", ("image", None, "a"))], {H: {}}, {H: {"image": "a"}}),
    "created, then changed": ([outcome("created", ("image", None, "a")), outcome("changed", ("image", "a", "b"))], {H: {}}, {H: {"image": "b"}}),
    "a field added, then removed": ([outcome("changed", ("port", None, 1)), outcome("changed", ("port", 1, None))], {H: {}}, {H: {}}),
    "a field removed, then added": (
        [outcome("changed", ("port", 1, None)), outcome("changed", ("port", None, 2))],
        {H: {"port": 1}}, {H: {"port": 2}},
    ),
    "a value that is false": (
        [outcome("changed", ("paused", False, True)), outcome("changed", ("paused", True, False))],
        {H: {"paused": False}}, {H: {"paused": False}},
    ),
    "deleted": ([outcome("deleted")], {H: "exists"}, {H: "deleted"}),
    "changed, then deleted": ([outcome("changed", ("image", "a", "b")), outcome("deleted")], {H: "exists"}, {H: "deleted"}),
    "deleted, then created": ([outcome("deleted"), outcome("created", ("image", None, "b"))], {H: {}}, {H: {"image": "b"}}),
    "two objects": (
        [outcome("changed", ("image", "a", "b")), outcome("deleted", reference=OTHER)],
        {H: {"image": "a"}, S: "exists"}, {H: {"image": "b"}, S: "deleted"},
    ),
    "deleted, and another unchanged": ([outcome("deleted"), outcome("unchanged", reference=OTHER)], {H: "exists"}, {H: "deleted"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_diff_has_the_first_and_the_last_value(case: str) -> None:
    outcomes, before, after = CASES[case]
    assert actions.diff(iter(outcomes)) == {"before": before, "after": after}


def test_a_report_names_the_object_and_its_fields() -> None:
    changes = (FieldChange("spec.replicas", 1, 2),)
    assert actions.report(ObjectOutcome(HOOK, "changed", changes, "note")) == {
        "kind": "Deployment",
        "namespace": "default",
        "name": "hook",
        "change": "changed",
        "changes": [{"path": "spec.replicas", "before": 1, "after": 2}],
        "note": "note",
    }


def test_every_action_of_a_plan_is_carried_out() -> None:
    assert {row for row in leaves(Action) if not issubclass(row, Verify)} == {
        *actions.ACTIONS,
        IssueCertificate,
    }


def test_every_verification_is_carried_out() -> None:
    assert leaves(Verify) | {VerifyController} == verify_release.CHECKS.keys()


def test_no_two_actions_have_one_name() -> None:
    names = [row.action_name for row in leaves(Action) if not issubclass(row, Verify)]
    assert len(set(names)) == len(names)


def leaves(row: type[Action]) -> set[type[Action]]:
    """Return the classes of actions below a class, without those that others extend."""
    below = row.__subclasses__()
    found = {leaf for child in below for leaf in leaves(child)} if below else {row}
    return {leaf for leaf in found if leaf.__module__.startswith("ansible_collections.")}
