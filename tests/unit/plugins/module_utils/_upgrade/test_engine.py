# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of an upgrade, and its ends, on a model of a cluster. The plans and the hops are real."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result, make_left
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.lease import (
    LeaseHeldError,
    LeaseLostError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._process import interrupt
from ansible_collections.certflow.kubernetes.plugins.module_utils._process.interrupt import RunInterrupted
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import (
    DELETE,
    Action,
    Step,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.object_actions import (
    WaitAvailable,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    Verify,
    VerifyController,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import RolloutError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import CONTROLLER, Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import planner
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    Release,
    text,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import (
    actions,
    backups,
    certificate_step,
    engine,
    planning,
    preflight,
    release_checks,
    step_runner,
    upgrade_lease,
    verify_release,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.actions import ACTIONS
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.engine import Upgrade
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.planning import ClusterPlan
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.preflight import (
    Preflight,
    PreflightProblem,
    TriedStep,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.release_checks import CheckResult
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ObjectOutcome,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import (
    FieldChange,
)

from tests.unit.plugins.module_utils._snapshot.world import NOTHING, ours, upstream, with_groups
from tests.unit.plugins.module_utils._upgrade.test_interrupted_runs import cluster

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
    from ansible_collections.certflow.kubernetes.plugins.module_utils._process.progress_lines import (
        ProgressPrinter,
    )

ROLE = Path("roles/snapshot_controller/tasks/main.yml")
NOW = datetime(2026, 3, 1, 3, 0, tzinfo=timezone.utc)
SECONDS = 3600
TOUCHED = Reference("Deployment", "snapshot-controller", "kube-system")
# The model knows one port of webhooks only, which is not upstream's.
OURS = ours("7.0.2", failure_policy="Fail")
# Group snapshots at v1beta1 demand a hop to 8.4.0 on the way to 8.7.0.
TWO_HOPS = with_groups(upstream("8.3.0", groups=True), lists=1)


class Clock:
    """A time that passes only if a test lets it pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Rig:
    """A run on a model of a cluster.

    log: what the run did, in its order. fails: what a step raises or does instead, by its id.
    pending: ids of the steps that would fail in a dry run. broken: subjects of verifications that fail. unproven: those whose extent
    is open, and "certificate" if no endpoint shows the new one.
    is_held: True if a run holds the Lease, or a killed run has left it.
    gone: the paths of the objects that another client deletes.
    on_acquire: what happens while the run waits for the Lease. guard: with the approved plan.
    """

    start: InstalledState
    clock: Clock = field(default_factory=Clock)
    log: list[str] = field(default_factory=list)
    fails: dict[str, Callable[[], None]] = field(default_factory=dict)
    problems: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    unproven: set[str] = field(default_factory=set)
    settled: bool = False
    is_held: bool = False
    gone: set[str] = field(default_factory=set)
    on_acquire: Callable[[], None] = lambda: None
    guard: PlanGuard = field(default_factory=PlanGuard)

    def __post_init__(self) -> None:
        self.model = cluster(self.start)
        self.end = self.clock.now + SECONDS
        self.client = SimpleNamespace(
            deadline=self.clock.now + SECONDS,
            host="https://203.0.113.7:6443",
            written=[],
            left={},
            find=lambda path: None if path in self.gone else {"path": path},
            hooks=[],
            without_hooks=contextlib.nullcontext,
            now=lambda: NOW,
        )
        self.lease = SimpleNamespace(
            acquire=self._acquire,
            release=lambda: self.log.append("release"),
            annotate=lambda _name, _value: None,
            previous=None,
        )

    def upgrade(self, version: str, **given: Any) -> Upgrade:
        checked = ArgumentSpecValidator(snapshot_controller.ARGUMENTS).validate(
            {"version": version, "accept": ["kubectl"], **given}
        )
        assert not checked.error_messages, checked.error_messages
        silent = SimpleNamespace(
            print_line=lambda _line: None, set_activity=lambda _line: None, detail=lambda _line: None
        )
        request = snapshot_controller.parse_request(checked.validated_parameters)
        return Upgrade(cast("Client", self.client), request, cast("ProgressPrinter", silent), self.guard)

    @property
    def version(self) -> str:
        (controller,) = self.model.installed.running(CONTROLLER)
        return text(controller.version) if controller.version else ""

    @property
    def steps(self) -> list[str]:
        """Return the ids of the steps that began."""
        return [line.partition(" ")[2] for line in self.log if line.startswith("step ")]

    @property
    def order(self) -> list[str]:
        """Return the log, with steps that follow each other as one entry."""
        words = [line.partition(" ")[0] for line in self.log]
        return [word for number, word in enumerate(words) if not number or word != words[number - 1]]

    # The parts that talk to a cluster.

    def read(self, _client: Any, release: Release, options: UpgradeOptions) -> ClusterPlan:
        self.log.append("read")
        installed = self.model.installed
        self.context = UpgradeContext(installed, release, options)
        return ClusterPlan(self.context, planner.plan(installed, release, options))

    def try_steps(self, _client: Any, _request: Any, _context: Any, steps: Sequence[Step]) -> Preflight:
        self.log.append("try")
        problems = tuple(
            PreflightProblem(step.id, "it would fail", (), "mend it")
            for step in steps
            if step.id in self.problems
        )
        due = (
            ()
            if self.settled
            else tuple(TriedStep(step, (_changed(step),)) for step in steps if _writes(step))
        )
        return Preflight(tried=due, problems=problems)

    def act(self, step_id: str, step: Step) -> list[ObjectOutcome]:
        self.log.append(f"step {step_id}")
        self.fails.get(step_id, lambda: None)()
        self.model.do(step)
        if self.settled or not _writes(step):
            return []
        self._note_left(step)
        self.client.written.append(f"PATCH {step_id}")
        return [_changed(step)]

    def originals(self, _client: Any, touched: Sequence[Reference]) -> dict[Reference, dict[str, Any]]:
        self.log.append("originals")
        self.model.before = (self.model.installed, dict(self.model.ports))
        present = set(planner.present(self.context))
        return {target: {} for target in touched if target in present}

    def _note_left(self, step: Step) -> None:
        """Record in which state the step left the objects, as the client does."""
        if step.action.action_name == "restore":
            return
        for line in Hop("", self.context.release, "", (step,), self.context).lines:
            for path in {target.path for target in line.objects} & set(self.client.left):
                self.client.left[path] = None if line.verb == DELETE else {"written": True}

    def verify(self, action: Verify) -> tuple[CheckResult, list[str]]:
        subject = action.subject
        verdict = release_checks.FAILED if subject in self.broken else release_checks.OK
        if subject in self.unproven:
            return CheckResult(release_checks.UNPROVEN, "an old one", remedy="Wait", is_answered=True), []
        return CheckResult(verdict, f"{subject} was seen"), []

    def _acquire(self) -> None:
        self.log.append("acquire")
        self.on_acquire()


NOT_SERVED = {
    "object": {"kind": "Secret"},
    "code": "webhook-unproven",
    "reason": "no endpoint",
    "remedy": "Look",
}


def _writes(step: Step) -> bool:
    return step.action.writes_objects


def _changed(step: Step) -> ObjectOutcome:
    return ObjectOutcome(TOUCHED, "changed", (FieldChange(f"spec.{step.id}", 1, 2),))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Callable[[InstalledState], Rig]:
    def made(start: InstalledState) -> Rig:
        upgrade_rig = Rig(start)
        running: list[Step] = []

        def run(self: step_runner.StepRunner, step: Step, context: Any, place: Any) -> None:
            running.append(step)
            real(self, step, context, place)

        def verified(_client: Any, action: Verify, **_given: Any) -> tuple[CheckResult, list[str]]:
            if running and running[-1].action is action:
                upgrade_rig.act(running[-1].id, running[-1])
            else:
                upgrade_rig.log.append(f"before verify-{action.subject}")
            return upgrade_rig.verify(action)

        def issued(*_given: Any) -> Result:
            left = make_left(int("certificate" in upgrade_rig.unproven), NOT_SERVED)
            return Result(
                bool(upgrade_rig.act(running[-1].id, running[-1])), {"reason": "it was due", "left": left}
            )

        real = step_runner.StepRunner.run

        acting = dict.fromkeys(
            ACTIONS, lambda _context, _action: upgrade_rig.act(running[-1].id, running[-1])
        )
        monkeypatch.setattr(step_runner.StepRunner, "run", run)
        monkeypatch.setattr(actions, "ACTIONS", acting)
        monkeypatch.setattr(certificate_step, "issue", issued)
        monkeypatch.setattr(upgrade_lease, "write_record", lambda _lease, _record: None)
        monkeypatch.setattr(upgrade_lease, "make_lease", lambda _client, _waiting: upgrade_rig.lease)
        monkeypatch.setattr(step_runner, "time", upgrade_rig.clock)
        monkeypatch.setattr(engine, "time", upgrade_rig.clock)
        monkeypatch.setattr(verify_release, "run_check", verified)
        monkeypatch.setattr(preflight, "try_plan", upgrade_rig.try_steps)
        monkeypatch.setattr(planning, "read", upgrade_rig.read)
        monkeypatch.setattr(upgrade_lease, "is_held", lambda _client: upgrade_rig.is_held)
        monkeypatch.setattr(backups, "read_originals", upgrade_rig.originals)
        monkeypatch.setattr(actions, "rendered", lambda _context, _given: [])
        return upgrade_rig

    return made


Rigs = Callable[[InstalledState], Rig]


def failed(upgrade: Upgrade) -> CertflowError:
    with pytest.raises(CertflowError) as caught:
        upgrade.run()
    return caught.value


def values(error: CertflowError) -> dict[str, Any]:
    found: dict[str, Any] = dict(error.values)
    return found


def fails(*errors: BaseException) -> Callable[[], None]:
    """Return a function that raises one error at each call, and nothing after the last."""
    left = list(errors)

    def fail() -> None:
        if left:
            raise left.pop(0)

    return fail


# The order


def test_a_run_plans_tries_verifies_and_acquires_the_lease_before_the_first_step(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    result = here.upgrade("8.7.0").run()
    assert here.order == ["read", "try", "before", "acquire", "read", "originals", "step", "release"]
    (hop,) = result.values["hops"]
    assert here.steps == hop["steps"] == [step["id"] for step in result.values["steps"]]
    assert {step["status"] for step in result.values["steps"]} == {"done"}
    assert (result.changed, here.version, result.values["undone"]) == (True, "8.7.0", None)
    assert [line for line in here.log if line.startswith("before")] == [
        "before verify-webhook", "before verify-version", "before verify-controller",
    ]  # fmt: skip


def test_each_hop_is_planned_and_tried_from_the_state_that_the_one_before_left(rig: Rigs) -> None:
    here = rig(TWO_HOPS)
    result = here.upgrade("8.7.0", group_snapshots=True).run()
    first, second = ["read", "originals", "step"], ["read", "try", "originals", "step"]
    assert here.order == ["read", "try", "before", "acquire", *first, *second, "release"]
    assert list(dict.fromkeys(step["hop"] for step in result.values["steps"])) == ["8.4.0", "8.7.0"]
    assert here.version == "8.7.0"


def test_a_change_by_another_run_is_tried_and_kept_before_the_first_step(rig: Rigs) -> None:
    """A failed hop is undone from the originals. They must not be older than the plan."""
    here = rig(upstream("7.0.2"))
    other = cluster(upstream("8.1.0"))

    def change() -> None:
        here.model = other

    here.on_acquire = change
    result = here.upgrade("8.7.0").run()
    assert here.order == ["read", "try", "before", "acquire", "read", "try", "originals", "step", "release"]
    assert (here.version, result.changed) == ("8.7.0", True)


def approved(here: Rig, version: str, **given: Any) -> PlanGuard:
    """Return the guard of a run with the plan of check mode."""
    here.guard = PlanGuard(fixed=["c:"])
    plan = here.upgrade(version, **given).check().values["plan_digests"]
    here.log.clear()
    here.client.deadline = here.clock.now + SECONDS
    return PlanGuard(plan, ["c:"])


def test_a_run_within_its_plan(rig: Rigs) -> None:
    """The steps are tried again with the Lease, because a step that was not due may be due now."""
    here = rig(TWO_HOPS)
    here.guard = approved(here, "8.7.0", group_snapshots=True)
    here.upgrade("8.7.0", group_snapshots=True).run()
    first, second = ["read", "try", "originals", "step"], ["read", "try", "originals", "step"]
    assert here.order == ["read", "try", "before", "acquire", *first, *second, "release"]
    assert here.version == "8.7.0"


def test_more_than_the_plan_is_refused_before_the_first_write(rig: Rigs) -> None:
    """The plan was made when nothing was due, or for another release."""
    here = rig(upstream("7.0.2"))
    here.settled = True
    here.guard = approved(here, "8.7.0")
    here.settled = False
    error = failed(here.upgrade("8.7.0"))
    assert (error.code, here.client.written) == ("plan-differs", [])
    assert "acquire" not in here.log
    here.client.deadline = here.clock.now + SECONDS
    here.guard = approved(here, "8.1.1")
    error = failed(here.upgrade("8.7.0"))
    assert (error.code, here.client.written) == ("plan-differs", [])
    assert "crds" in error.cause and "8.7.0" in error.cause


def test_a_change_before_the_lease_is_compared_with_the_plan(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.guard = approved(here, "8.7.0")

    def change() -> None:
        here.model = cluster(with_groups(upstream("8.3.0", groups=True)))

    here.on_acquire = change
    error = failed(here.upgrade("8.7.0"))
    assert (error.code, here.client.written, here.log[-1]) == ("plan-differs", [], "release")


def test_less_than_the_plan_is_no_difference(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.guard = approved(here, "8.7.0")
    here.settled, here.model = True, cluster(upstream("8.7.0"))
    result = here.upgrade("8.7.0").run()
    assert (result.changed, result.values["plan_digests"]) == (False, ["c:"])


def test_a_hop_that_does_not_last_ends_the_run(rig: Rigs) -> None:
    """Another manager applies the old release again. The next plan begins with the same hop."""
    here = rig(TWO_HOPS)
    here.fails["verify-controller"] = lambda: setattr(here, "model", cluster(TWO_HOPS))
    error = failed(here.upgrade("8.7.0", group_snapshots=True))
    found = values(error)
    assert (error.code, here.version, here.log[-1]) == ("upgrade-reverted", "8.3.0", "release")
    assert {step["hop"] for step in found["steps"]} == {"8.4.0"}
    assert (found["undone"]["is_back"], found["changed"]) == (False, True)


def test_the_result_has_what_the_dry_runs_showed(rig: Rigs) -> None:
    result = rig(upstream("7.0.2")).upgrade("8.7.0").run()
    changed = {step["id"] for step in result.values["steps"] if step["changed"]}
    assert set(result.values["due"]) == {entry["id"] for entry in result.values["foreseen"]} == changed
    assert result.diff


def test_a_check_tries_and_writes_nothing(rig: Rigs) -> None:
    here = rig(TWO_HOPS)
    result = here.upgrade("8.7.0", group_snapshots=True).check()
    assert here.order == ["read", "try"]
    assert (result.changed, result.values["steps"]) == (True, [])
    assert result.values["due"]


def test_a_run_returns_what_was_due_and_the_diff_of_its_own_steps(rig: Rigs) -> None:
    tried = rig(upstream("8.1.0")).upgrade("8.7.0").check()
    here = rig(upstream("8.1.0"))
    result = here.upgrade("8.7.0").run()
    assert result.values["due"] == tried.values["due"] != []
    changed = [step["id"] for step in result.values["steps"] if step["changed"]]
    assert result.diff is not None
    assert list(result.diff["after"][str(TOUCHED)]) == [f"spec.{step}" for step in dict.fromkeys(changed)]


def test_nothing_due_is_verified_without_a_lease(rig: Rigs) -> None:
    here = rig(ours("8.7.0"))
    here.settled = True
    result = here.upgrade("8.7.0").run()
    assert here.order == ["read", "try", "step"]
    assert {step["action"] for step in result.values["steps"]} == {"wait_available", "verify"}
    assert result.changed is False


def test_a_lease_that_is_held_is_acquired_although_nothing_is_due(rig: Rigs) -> None:
    """Another run waits for its pods, or was killed while it did."""
    here = rig(ours("8.7.0"))
    here.settled = here.is_held = True
    result = here.upgrade("8.7.0").run()
    assert here.order == ["read", "try", "acquire", "read", "originals", "step", "release"]
    assert result.changed is False


def test_nothing_due_writes_nothing_while_old_pods_end(rig: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of an upgrade makes the API servers reconnect meanwhile, which is a write and needs the Lease."""
    here = rig(OURS)
    here.settled = True
    given: list[Any] = []

    def wait(_context: Any, action: WaitAvailable) -> list[ObjectOutcome]:
        given.append(action.parameters())
        return []

    acting: dict[type[Action], Any] = dict.fromkeys(ACTIONS, lambda *_given: [])
    monkeypatch.setattr(actions, "ACTIONS", {**acting, WaitAvailable: wait})
    result = here.upgrade("7.0.2").run()
    planned = [step["parameters"] for step in result.values["plan"] if step["action"] == "wait_available"]
    assert any("reconnect" in entry for entry in planned)
    assert given == [{key: entry[key] for key in entry if key != "reconnect"} for entry in planned]


# Refusals


def test_a_refused_plan_writes_nothing(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    error = failed(here.upgrade("8.7.0", accept=[]))
    assert (error.code, here.log) == ("upgrade-refused", ["read"])
    assert values(error)["plan"]


def test_a_step_that_would_fail_writes_nothing(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.problems.add("controller")
    error = failed(here.upgrade("8.7.0"))
    assert (error.code, here.log, values(error)["step"]) == (
        "preflight-failed",
        ["read", "try"],
        "controller",
    )
    assert values(error)["installed"]["version"] == "7.0.2"
    assert values(error)["plan"] and values(error)["steps"] == []


def test_a_lease_of_another_run_writes_nothing(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.on_acquire = fails(LeaseHeldError("another run works"))
    error = failed(here.upgrade("8.7.0"))
    assert error.code == "lease-held"
    assert (here.steps, here.log[-1]) == ([], "release")


# Time


def test_a_task_without_time_for_a_step_and_the_undo_reads_nothing(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    error = failed(here.upgrade("8.7.0", step_timeout=SECONDS))
    assert (error.code, here.log) == ("invalid-input", [])


def test_a_step_begins_only_if_its_time_is_left(rig: Rigs) -> None:
    """The run ends before the step, and the next run continues."""
    here = rig(upstream("7.0.2"))
    here.fails["crds"] = lambda: setattr(here.clock, "now", here.clock.now + SECONDS - 150)
    error = failed(here.upgrade("8.7.0"))
    assert (error.code, here.steps[-1], here.log[-1]) == ("interrupted", "crds", "release")
    undone = values(error)["undone"]
    assert (undone["is_back"], undone["steps"], bool(undone["problem"])) == (False, [], True)
    assert {step["status"] for step in values(error)["steps"]} == {"done"}
    assert values(error)["changed"] is True


def test_each_reading_has_time_of_its_own(rig: Rigs) -> None:
    """After a hop the deadline is that of its last step, which may be over."""
    here = rig(TWO_HOPS)
    left: list[float] = []
    real = here.read

    def read(*given: Any) -> ClusterPlan:
        left.append(here.client.deadline - here.clock.now)
        here.clock.now += 1
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "read", read)
        here.fails["verify-controller"] = lambda: setattr(here.clock, "now", here.clock.now + 500)
        here.upgrade("8.7.0", group_snapshots=True, step_timeout=600).run()
    assert left == [600] * 3


def test_the_undo_uses_the_time_that_is_left(rig: Rigs) -> None:
    """A step that fails at its time-out leaves the reserve, which is shorter than the longest time of a step."""
    here = rig(OURS)

    def time_out() -> None:
        here.fails.clear()
        here.clock.now = here.end - engine.UNDO_SECONDS
        raise RolloutError("it does not become available")

    here.fails["controller-wait"] = time_out
    found = values(failed(here.upgrade("8.7.0")))
    assert (found["undone"]["is_back"], found["undone"]["problem"], here.version) == (True, "", "7.0.2")


def test_the_undo_ends_with_the_time_of_the_task(rig: Rigs) -> None:
    here = rig(OURS)

    def time_out() -> None:
        here.fails.clear()
        here.clock.now = here.end
        raise RolloutError("it does not become available")

    here.fails["controller-wait"] = time_out
    found = values(failed(here.upgrade("8.7.0")))
    assert (found["undone"]["is_back"], bool(found["undone"]["problem"])) == (False, True)
    assert not any(step["undoes"] for step in found["steps"])


@pytest.mark.parametrize("code", ["interrupted", "rollout-failed"])
def test_a_signal_during_the_release_waits_for_it_and_keeps_the_result(
    rig: Rigs, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Otherwise the Lease would stay until it expires, and the result would not have the steps."""
    monkeypatch.setattr(interrupt._InterruptState, "stopped_by", 0)
    here = rig(OURS)
    if code == "rollout-failed":
        here.fails["controller"] = fails(RolloutError("it does not become available"))

    def release() -> None:
        signal.raise_signal(signal.SIGTERM)
        here.log.append("release")

    here.lease.release = release
    with interrupt.watch_signals():
        error = failed(here.upgrade("8.7.0"))
    found = values(error)
    assert (error.code, found["changed"], here.log.count("release")) == (code, True, 1)
    assert found["undone"]["is_back"] is (code == "rollout-failed")
    assert (found["steps"][-1]["status"], bool(found["step"])) == ("done", code == "rollout-failed")


# Failures of a step

FAILURES: dict[str, BaseException] = {
    "rollout-failed": RolloutError("it does not become available"),
    "defect": KeyError("a secret"),
    "lease-lost": LeaseLostError("another run holds it"),
    "forbidden": LeaseLostError("it may not be renewed", code="forbidden"),
    "interrupted": RunInterrupted(signal.SIGTERM),
}
UNDONE = ("rollout-failed", "defect")


@pytest.mark.parametrize("code", FAILURES)
def test_a_failed_step_ends_the_run_as_its_code_says(rig: Rigs, code: str) -> None:
    here = rig(OURS)
    here.fails["controller"] = fails(FAILURES[code])
    error = failed(here.upgrade("8.7.0"))
    found = values(error)
    assert (error.code, found["step"], found["hop"]) == (code, "controller", "8.7.0")
    assert here.log.count("release") == 1 and here.log[-1] == "release"
    forward = [step for step in found["steps"] if not step["undoes"]]
    ended = "interrupted" if code == "interrupted" else "failed"
    assert [entry["status"] for entry in forward] == ["done"] * (len(forward) - 1) + [ended]
    assert forward[-1]["id"] == "controller"
    assert found["installed"]["version"] == "7.0.2"
    assert found["plan"]
    assert any(step["undoes"] for step in found["steps"]) is (code in UNDONE)
    assert found["undone"]["is_back"] is (code in UNDONE)
    assert bool(found["undone"]["problem"]) is (code not in UNDONE)
    assert (here.version, found["changed"]) == ("7.0.2", True)


def test_the_words_of_a_defect_are_not_shown(rig: Rigs) -> None:
    """They may be a secret. The place is enough for a report."""
    here = rig(upstream("7.0.2"))
    here.fails["controller"] = fails(KeyError("a secret"))
    error = failed(here.upgrade("8.7.0"))
    assert "a secret" not in f"{error} {error.evidence} {values(error)}"
    assert "KeyError" in error.cause


def test_undo_false_leaves_the_failed_hop(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.fails["controller"] = fails(RolloutError("it does not become available"))
    found = values(failed(here.upgrade("8.7.0", undo=False)))
    assert (found["undone"]["is_back"], [step for step in found["steps"] if step["undoes"]]) == (False, [])


def test_a_new_installation_is_not_undone(rig: Rigs) -> None:
    here = rig(NOTHING)
    here.fails["controller"] = fails(RolloutError("it does not become available"))
    found = values(failed(here.upgrade("8.7.0")))
    assert (found["undone"]["is_back"], found["undone"]["release"]) == (False, "")


@pytest.mark.parametrize("second", [RolloutError("again"), ValueError("a secret")])
def test_an_undo_that_fails_too_is_told_with_the_first_failure(rig: Rigs, second: Exception) -> None:
    here = rig(upstream("7.0.2"))
    here.fails["controller-wait"] = fails(RolloutError("first"), second)
    error = failed(here.upgrade("8.7.0"))
    found = values(error)
    assert (error.code, found["step"], found["undone"]["is_back"]) == (
        "rollout-failed",
        "controller-wait",
        False,
    )
    assert found["undone"]["problem"]
    assert [step["status"] for step in found["steps"] if step["undoes"]][-1] == "failed"
    assert here.log[-1] == "release"


def test_an_undo_that_fails_names_what_another_client_deleted(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    binding = Reference("ClusterRoleBinding", "snapshot-controller-role")
    here.fails["controller-wait"] = fails(RolloutError("first"), RolloutError("second"))
    here.gone.add(binding.path)
    error = failed(here.upgrade("8.7.0"))
    problem = f"Putting 7.0.2 back failed too: second. Another client deleted {binding}"
    assert values(error)["undone"]["problem"] == problem
    assert error.cause.index(problem) < error.cause.index("Steps with changes before the failure: ")


def test_a_read_that_fails_does_not_hide_what_another_client_deleted(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.fails["controller-wait"] = fails(RolloutError("first"), RolloutError("second"))
    binding = Reference("ClusterRoleBinding", "snapshot-controller-role")
    here.gone.add(binding.path)
    find, first = here.client.find, iter([RolloutError("not now")])

    def refuse_once(path: str) -> Any:
        for error in first:
            raise error
        return find(path)

    here.client.find = refuse_once
    assert str(binding) in failed(here.upgrade("8.7.0")).cause


class _Everything(set[str]):
    """The paths of all objects."""

    def __contains__(self, path: object) -> bool:
        return True


FIRST, SECOND = RolloutError("it is not available, " * 40), RolloutError("it fails again, " * 40)
STARTS = {"6.2.2": upstream("6.2.2"), "7.0.2": upstream("7.0.2"), "two hops": TWO_HOPS}


@pytest.mark.parametrize(
    ("start", "version"), [("6.2.2", "7.0.2"), ("7.0.2", "8.7.0"), ("two hops", "8.7.0")]
)
@pytest.mark.parametrize("ends", ["undone", "not undone", "all is deleted"])
def test_the_role_shows_the_whole_message_whatever_step_fails(
    rig: Rigs, start: str, version: str, ends: str
) -> None:
    """A cluster may quote a policy, whose message has any length."""
    well = rig(STARTS[start])
    well.upgrade(version).run()
    cut = int(re.search(r"The upgrade failed.*truncate\((\d+)\)", ROLE.read_text())[1])  # type: ignore[index]
    for step in well.steps:
        here = rig(STARTS[start])
        here.fails[step] = fails(FIRST, *([] if ends == "undone" else [SECOND]))
        if ends == "all is deleted":
            here.gone = _Everything()
        error = failed(here.upgrade(version))
        assert len(f"{here.client.host}: {error}") <= cut, step
        assert len(error.cause) < 2000, step


def test_only_the_failed_hop_is_undone(rig: Rigs) -> None:
    here = rig(TWO_HOPS)

    def fail() -> None:
        if here.steps.count("controller") > 1:
            here.fails.clear()
            raise RolloutError("it does not become available")

    here.fails["controller"] = fail
    found = values(failed(here.upgrade("8.7.0", group_snapshots=True)))
    assert (found["hop"], found["undone"]["release"], here.version) == ("8.7.0", "8.4.0", "8.4.0")


def test_a_dry_run_that_fails_between_hops_leaves_the_hop_before(rig: Rigs) -> None:
    here = rig(TWO_HOPS)
    here.fails["verify-controller"] = lambda: here.problems.add("controller")
    error = failed(here.upgrade("8.7.0", group_snapshots=True))
    found = values(error)
    assert (error.code, found["step"], here.version) == ("preflight-failed", "controller", "8.4.0")
    assert {step["hop"] for step in found["steps"]} == {"8.4.0"}
    assert (found["undone"]["is_back"], found["changed"], here.log[-1]) == (False, True, "release")
    assert "nothing was written" not in error.cause.lower()


@pytest.mark.parametrize("broken_before", [False, True])
def test_a_failed_verification_tells_if_the_subject_was_broken_before(rig: Rigs, broken_before: bool) -> None:
    here = rig(upstream("7.0.2"))
    if broken_before:
        here.broken.add("controller")
    here.fails["verify-controller"] = lambda: here.broken.add("controller")
    error = failed(here.upgrade("8.7.0", undo=False))
    assert (error.code, values(error)["step"]) == ("verification-failed", "verify-controller")
    assert values(error)["was_broken_before"] is broken_before


def test_a_failed_verification_without_anything_due_has_its_steps(rig: Rigs) -> None:
    here = rig(ours("8.7.0"))
    here.settled = True
    here.broken.add("controller")
    error = failed(here.upgrade("8.7.0"))
    found = values(error)
    assert (error.code, found["step"], found["changed"]) == (
        "verification-failed",
        "verify-controller",
        False,
    )
    assert [step["status"] for step in found["steps"]][-1] == "failed"


@pytest.mark.parametrize(
    ("unproven", "count", "kind"),
    [
        (set(), 0, None),
        ({"certificate"}, 1, "Secret"),
        ({"webhook"}, 1, "ValidatingWebhookConfiguration"),
        ({"certificate", "webhook"}, 2, "Secret"),
    ],
)
def test_what_an_upgrade_did_not_prove_is_left(
    rig: Rigs, unproven: set[str], count: int, kind: str | None
) -> None:
    """Every other step that is not done fails the run."""
    here = rig(upstream("6.2.2"))
    here.unproven |= unproven
    left = here.upgrade("7.0.2", validation_webhook=True).run().values["left"]
    assert left["count"] == count
    first = left["first"] or {"object": {"kind": None}, "code": None}
    assert (first["object"]["kind"], first["code"]) == (kind, "webhook-unproven" if count else None)


def test_what_a_later_step_proves_is_not_left(rig: Rigs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhook is verified before its configuration, perhaps over an older connection, and again after it."""
    here = rig(upstream("6.2.2"))
    here.unproven.add("webhook")
    verify, seen = here.verify, list[str]()

    def verify_better(action: Verify) -> tuple[CheckResult, list[str]]:
        result = verify(action)
        seen.append(action.subject)
        if action.subject == "webhook":
            here.unproven.clear()
        return result

    monkeypatch.setattr(here, "verify", verify_better)
    result = here.upgrade("7.0.2", validation_webhook=True).run()
    assert seen.count("webhook") > 1
    assert result.values["left"]["count"] == 0


# Verify only


@pytest.mark.parametrize("check_mode", [True, False])
def test_state_verified_returns_what_is_not_proven(rig: Rigs, check_mode: bool) -> None:
    here = rig(upstream("7.0.2"))
    here.unproven.add("webhook")
    result = here.upgrade("8.7.0").verify(check_mode=check_mode)
    assert result.values["left"]["count"] == int(not check_mode)


def test_state_verified_verifies_what_is_installed(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    result = here.upgrade("8.7.0").verify(check_mode=False)
    assert here.order == ["read", "before"]
    assert {verification["verdict"] for verification in result.values["verified"]} == {"ok"}
    assert (result.changed, len(result.values["verified"])) == (False, 3)


def test_state_verified_fails_with_its_results(rig: Rigs) -> None:
    here = rig(upstream("7.0.2"))
    here.broken.add("version")
    upgrade = here.upgrade("8.7.0")
    with pytest.raises(CertflowError) as caught:
        upgrade.verify(check_mode=False)
    assert caught.value.code == "verification-failed"
    verdicts = {
        verification["id"]: verification["verdict"] for verification in values(caught.value)["verified"]
    }
    assert verdicts == {"verify-webhook": "ok", "verify-version": "failed"}


# The objects of a verification


def test_a_lost_lease_does_not_keep_the_objects_of_a_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    lost = True

    class Client:
        deadline = time.monotonic() + 60

        @contextlib.contextmanager
        def without_hooks(self) -> Iterator[None]:
            nonlocal lost
            lost = False
            yield
            lost = True

        def send(self, method: str, path: str, _body: Any) -> dict[str, Any]:
            if lost and method == "DELETE":
                raise LeaseLostError("another run holds it")
            sent.append(f"{method} {path}")
            return {}

        def list_all(self, _path: str, _query: Any) -> dict[str, Any]:
            return {"items": []}

        def now(self) -> datetime:
            return NOW

    def create(run: verify_release.CheckRun, _action: VerifyController) -> CheckResult:
        run.objects.create("/snapshots", {"metadata": {"name": "probe"}})
        raise LeaseLostError("another run holds it")

    monkeypatch.setitem(verify_release.CHECKS, VerifyController, create)
    fake: Any = Client()
    with pytest.raises(LeaseLostError):
        verify_release.run_check(fake, VerifyController("kube-system"))
    assert sent == ["POST /snapshots", "DELETE /snapshots/probe"]
