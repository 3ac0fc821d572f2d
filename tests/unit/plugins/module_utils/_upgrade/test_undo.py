# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide if a failed hop is undone, and with which options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONVERSION,
    VALIDATION,
    Reference,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import undo
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.step_runner import StepRecord

from tests.unit.plugins.module_utils._snapshot.model import ModelCluster
from tests.unit.plugins.module_utils._snapshot.world import NOTHING, changed, options, planned, upstream


def hop(start: str, release: str) -> Hop:
    row = release_table.get(release)
    return Hop(start, row, "", (), UpgradeContext(NOTHING, row, UpgradeOptions()))


def record(release: str, *, changed: bool, undoes: bool = False) -> StepRecord:
    return StepRecord(release, "controller", "title", "apply", undoes, changed=changed)


CHANGED = (record("8.1.0", changed=False), record("8.1.0", changed=True))
# start, release, records, code, is_wanted, and a word of the reason. "" if the hop is undone.
CASES: dict[str, tuple[str, str, tuple[StepRecord, ...], str, bool, str]] = {
    "a step failed": ("7.0.2", "8.1.0", CHANGED, "rollout-failed", True, ""),
    "a defect": ("7.0.2", "8.1.0", CHANGED, "defect", True, ""),
    "interrupted": ("7.0.2", "8.1.0", CHANGED, "interrupted", True, "interrupted"),
    "the Lease is lost": ("7.0.2", "8.1.0", CHANGED, "lease-lost", True, "another run"),
    "interrupted before a change": ("7.0.2", "8.1.0", (), "interrupted", True, "interrupted"),
    "no step began": ("7.0.2", "8.1.0", (), "rollout-failed", True, "changed nothing"),
    "no step changed something": ("7.0.2", "8.1.0", CHANGED[:1], "rollout-failed", True, "changed nothing"),
    "only an earlier hop changed something": (
        "7.0.2", "8.1.0", (record("7.0.2", changed=True),), "rollout-failed", True, "changed nothing",
    ),
    "only an earlier undo changed something": (
        "7.0.2", "8.1.0", (record("8.1.0", changed=True, undoes=True),), "rollout-failed", True, "changed nothing",
    ),
    "a new installation": ("", "8.1.0", CHANGED, "rollout-failed", True, "No release was installed"),
    "a repair": ("8.1.0", "8.1.0", CHANGED, "rollout-failed", True, "same before"),
    "undo is false": ("7.0.2", "8.1.0", CHANGED, "rollout-failed", False, "undo is false"),
    "interrupted, and undo is false": ("7.0.2", "8.1.0", CHANGED, "interrupted", False, "interrupted"),
}  # fmt: skip


def test_a_hop_from_a_state_between_two_generations_is_not_undone() -> None:
    """The objects before the hop are those of an interrupted run, so they are not those of the release before it."""
    here = ModelCluster(upstream("4.2.1"), (4, 2, 1))
    for step in planned(here.installed, "6.2.2").hops[0].steps:
        here.do(step)
        if step.action.action_name == "orphan":
            break
    interrupted = hop("4.2.1", "6.2.2")
    between = replace(interrupted, context=replace(interrupted.context, installed=here.installed))
    changed = (record("6.2.2", changed=True),)
    assert undo.why_not_undone(interrupted, changed, "rollout-failed", is_wanted=True) == ""
    assert undo.why_not_undone(between, changed, "rollout-failed", is_wanted=True)


@pytest.mark.parametrize("case", CASES)
def test_a_hop_is_undone_or_the_reason_is_told(case: str) -> None:
    start, release, records, code, is_wanted, reason = CASES[case]
    found = undo.why_not_undone(hop(start, release), records, code, is_wanted=is_wanted)
    assert reason in found
    assert bool(found) is bool(reason)


def test_the_records_may_be_read_once() -> None:
    assert undo.why_not_undone(hop("7.0.2", "8.1.0"), iter(CHANGED), "rollout-failed", is_wanted=True) == ""


WANTED = options(
    namespace="snapshots",
    controller_arguments=("--new",),
    webhook_arguments=("--new",),
    webhook_port=9443,
    failure_policy="Fail",
    group_snapshots=True,
    accept=("kubectl", "arguments-dropped"),
    remove_controllers=("default/second",),
)


NAMES = [Reference("Service", name, "default") for name in ("untouched", "changed", "deleted")]
ORIGINALS: dict[Reference, Any] = {name: {"metadata": {}} for name in NAMES}
LEFT = {NAMES[0].path: ORIGINALS[NAMES[0]], NAMES[1].path: {"metadata": {}}, NAMES[2].path: None}


def options_before(installed: InstalledState, target: str = "8.7.0") -> UpgradeOptions:
    context = UpgradeContext(installed, release_table.get(target), WANTED)
    return undo.options_before(context, WANTED, ORIGINALS, LEFT)


TWO_PORTS = changed(upstream("7.0.2"), VALIDATION, port=8443)
# What was installed before the hop: webhook programs of the undo, their port, and policies by configuration.
BEFORE: dict[str, tuple[InstalledState, tuple[bool, bool], int]] = {
    "a validation webhook": (upstream("7.0.2"), (True, False), 443),
    "on another port": (TWO_PORTS, (True, False), 8443),
    "a conversion webhook": (upstream("8.4.0", groups=True), (False, True), 443),
    "no webhook": (upstream("8.7.0"), (False, False), 9443),
    "nothing": (NOTHING, (False, False), 9443),
}


@pytest.mark.parametrize("case", BEFORE)
def test_the_undo_brings_the_webhooks_that_ran(case: str) -> None:
    installed, programs, port = BEFORE[case]
    found = options_before(installed)
    assert (found.validation_webhook, found.conversion_webhook) == programs
    assert found.webhook_port == port
    assert found.failure_policy == ""
    assert found.failure_policies == {
        configuration.name: configuration.hooks[0].failure_policy
        for configuration in installed.configurations
        if configuration.hooks
    }


def test_a_webhook_whose_pods_are_orphans_is_brought_back() -> None:
    """The hop failed after the Deployment was orphaned, so only its old pods run."""
    here = ModelCluster(upstream("4.2.1"), (4, 2, 1))
    (orphan,) = [step for step in planned(here.installed, "6.2.2").hops[0].steps if step.action.action_name == "orphan"
                 and "validation" in step.action.parameters()["name"]]  # fmt: skip
    here.do(orphan)
    assert not here.installed.running(VALIDATION)
    found = options_before(here.installed, "6.2.2")
    assert (found.validation_webhook, found.conversion_webhook, found.webhook_port) == (True, False, 443)


def test_policies_are_kept_by_configuration() -> None:
    """A configuration without webhooks has no policy to keep."""
    start = upstream("7.0.2", policy="Fail", groups=True)
    first, *rest = start.configurations
    assert rest
    ignoring = replace(first, hooks=tuple(replace(hook, failure_policy="Ignore") for hook in first.hooks))
    empty = replace(first, name="empty", hooks=())
    found = options_before(replace(start, configurations=(ignoring, *rest, empty)))
    assert found.failure_policies == {first.name: "Ignore", **{entry.name: "Fail" for entry in rest}}


def test_the_undo_leads_to_the_choices_of_before() -> None:
    """The new choices may be the reason of the failure."""
    found = options_before(upstream("7.0.2"))
    assert (found.controller_arguments, found.webhook_arguments, found.remove_controllers) == ((), (), ())
    assert (found.namespace, found.webhook_namespace) == ("kube-system", "kube-system")
    assert (found.group_snapshots, found.accept) == (False, WANTED.accept)
    assert options_before(upstream("7.0.2", groups=True)).group_snapshots


def test_an_object_that_the_hop_wrote_comes_back() -> None:
    found = options_before(upstream("7.0.2")).undo
    assert found
    assert (found.originals, found.changed) == (frozenset(NAMES), frozenset(NAMES[1:]))
    assert found.deleted == frozenset(NAMES[2:])


def test_conversion_is_a_program_of_the_undo() -> None:
    assert upstream("8.4.0", groups=True).running(CONVERSION)
