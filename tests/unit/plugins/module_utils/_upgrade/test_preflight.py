# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight: missing permissions, and the objects that a hop changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import access_review
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    Forbidden,
    NotFound,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import planner
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import (
    actions,
    certificate_step,
    preflight,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.preflight import (
    Preflight,
    TriedStep,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ObjectOutcome,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import (
    FieldChange,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.upgrade_request import (
    UpgradeRequest,
)

from tests.unit.plugins.module_utils._snapshot.world import ours, upstream


def parsed(version: str, **given: Any) -> UpgradeRequest:
    """Return the request for a release. given: further options of snapshot_controller."""
    validation = ArgumentSpecValidator(snapshot_controller.ARGUMENTS).validate({"version": version, **given})
    assert not validation.error_messages
    return snapshot_controller.parse_request(validation.validated_parameters)


@pytest.mark.parametrize("is_due", [False, True])
def test_a_certificate_alone_needs_the_lease_too(monkeypatch: pytest.MonkeyPatch, is_due: bool) -> None:
    request = parsed("7.0.2")
    (hop,) = planner.plan(ours("7.0.2"), request.release, request.options).hops
    asked: list[Any] = []

    def missing(_client: Any, permissions: list[Any]) -> list[Any]:
        asked.extend(permissions)
        return permissions

    monkeypatch.setattr(preflight, "try_actions", lambda *_given, **_more: Preflight())
    monkeypatch.setattr(certificate_step, "signer_of", lambda *_given: "example.com/ca")
    monkeypatch.setattr(certificate_step, "issue", lambda *_given, **_more: Result(is_due, {}))
    monkeypatch.setattr(access_review, "find_missing", missing)
    found = preflight.try_plan(cast("Any", SimpleNamespace()), request, hop.context, hop.steps)
    assert bool(found.due) is bool(found.problems) is bool(asked) is is_due


def hop_to_8_1_1() -> Hop:
    request = parsed("8.1.1", accept=["kubectl"])
    (hop,) = planner.plan(upstream("7.0.2"), request.release, request.options).hops
    return hop


SERVICE = Reference("Service", "snapshot-validation-service", "kube-system")


def test_the_backup_has_the_objects_of_steps_that_cannot_be_tried_yet() -> None:
    """An undo needs the originals of every object that the hop may change."""
    hop = hop_to_8_1_1()
    (hold,) = [step for step in hop.steps if step.id == "webhook-hold"]
    assert Preflight((TriedStep(hold, note="it is too early"),)).touched_in(hop) == [SERVICE]
    assert Preflight((TriedStep(hold, (ObjectOutcome(SERVICE, "unchanged"),)),)).touched_in(hop) == []


def test_the_backup_has_the_objects_of_a_certificate_that_is_due() -> None:
    hop = hop_to_8_1_1()
    (certificate,) = [step for step in hop.steps if step.action.action_name == "certificate"]
    touched = Preflight(certificates=(certificate.id,)).touched_in(hop)
    secret = Reference(
        "Secret", certificate.action.parameters()["secret"], certificate.action.parameters()["namespace"]
    )
    assert secret in touched
    assert {entry.kind for entry in touched} == {"Secret", "ValidatingWebhookConfiguration"}


def test_the_deployments_are_rendered_for_the_kubernetes_of_the_cluster() -> None:
    request = parsed("8.7.0")
    state = UpgradeContext(InstalledState(kubernetes=(1, 29)), request.release, request.options)
    context = actions.make_context(cast("Any", None), request, state)
    assert (context.settings.kubernetes, context.namespace) == ((1, 29), "kube-system")


CONTROLLER = Reference("Deployment", "snapshot-controller", "kube-system")
PROBES = Reference("Namespace", "probes")
TESTS, TESTS_THERE = (
    f"/apis/snapshot.storage.k8s.io/v1/namespaces/{name}/volumesnapshots"
    for name in ("kube-system", "probes")
)
NEW_IMAGE = (FieldChange("spec.template.spec.containers[snapshot-controller].image", "a:v8.1.0", "a:v8.7.0"),)
NEW_OWNER = (FieldChange("metadata.managedFields", ["kubectl"], ["certflow.kubernetes"]),)
# What the cluster has, the namespace of the test objects, what the upgrade would change, the subjects of the problems.
OBSTACLES: dict[str, tuple[dict[str, Any], str, tuple[ObjectOutcome, ...], list[str]]] = {
    "a paused Deployment": ({CONTROLLER.path: {"spec": {"paused": True}}}, "", (ObjectOutcome(CONTROLLER, "changed", NEW_IMAGE),), [f"{CONTROLLER} is paused"]),
    "one that is not paused": ({CONTROLLER.path: {"spec": {"paused": False}}}, "", (ObjectOutcome(CONTROLLER, "changed", NEW_IMAGE),), []),
    "a new one": ({}, "", (ObjectOutcome(CONTROLLER, "created"),), []),
    "a paused one that gets no new pods": ({CONTROLLER.path: {"spec": {"paused": True}}}, "", (ObjectOutcome(CONTROLLER, "changed", NEW_OWNER),), []),
    "a paused one that stays as it is": ({CONTROLLER.path: {"spec": {"paused": True}}}, "", (ObjectOutcome(CONTROLLER, "unchanged"),), []),
    "a paused one that is deleted": ({CONTROLLER.path: {"spec": {"paused": True}}}, "", (ObjectOutcome(CONTROLLER, "deleted"),), []),
    "no namespace": ({}, "probes", (ObjectOutcome(CONTROLLER, "created"),), [f"{PROBES}, in which"]),
    "no namespace, and nothing to do": ({}, "probes", (ObjectOutcome(CONTROLLER, "unchanged"),), []),
    "a namespace that may not be read": ({PROBES.path: Forbidden("no")}, "probes", (ObjectOutcome(CONTROLLER, "created"),), []),
    "a namespace": ({PROBES.path: {}}, "probes", (ObjectOutcome(CONTROLLER, "created"),), []),
    "a new namespace": ({}, "probes", (ObjectOutcome(PROBES, "created"),), []),
    "a quota": ({TESTS: Forbidden("exceeded quota")}, "", (ObjectOutcome(CONTROLLER, "created"),), ["the API server refuses the VolumeSnapshot in namespace kube-system"]),
    "a policy": ({PROBES.path: {}, TESTS_THERE: UnprocessableObject("no")}, "probes", (ObjectOutcome(CONTROLLER, "created"),), ["the API server refuses the VolumeSnapshot in namespace probes"]),
    "a quota, and nothing to do": ({TESTS: Forbidden("exceeded quota")}, "", (ObjectOutcome(CONTROLLER, "unchanged"),), []),
    "a kind that is new": ({TESTS: NotFound("no")}, "", (ObjectOutcome(CONTROLLER, "created"),), []),
    "a webhook that fails": ({TESTS: ApiError("failed calling webhook")}, "", (ObjectOutcome(CONTROLLER, "created"),), []),
}  # fmt: skip


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_state_that_the_upgrade_would_fail_at_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The API server accepts each write, so only a look at the cluster finds it."""
    objects, namespace, outcomes, expected = OBSTACLES[name]
    request = parsed("8.7.0", probe_namespace=namespace, undo=False)
    (hop,) = planner.plan(ours("8.1.0"), request.release, request.options).hops
    tried = tuple(TriedStep(step, outcomes) for step in hop.steps if step.id == "controller")
    assert tried
    monkeypatch.setattr(preflight, "try_actions", lambda *_given, **_more: Preflight(tried))
    monkeypatch.setattr(access_review, "find_missing", lambda *_given: [])

    def find(path: str) -> Any:
        answer = objects.get(path)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = cast("Any", SimpleNamespace(find=find, create=lambda path, _body, *, dry_run: find(path)))
    context, steps = hop.context, [step for step in hop.steps if "certificate" not in step.id]
    problems = preflight.try_plan(client, request, context, steps).problems
    assert len(problems) == len(expected)
    assert all(map(str.startswith, (problem.cause for problem in problems), expected))
    assert all(problem.remedy for problem in problems)
