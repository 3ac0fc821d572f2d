# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Try the steps of a plan by server dry runs, before the first of them writes.

Admission and RBAC answer a dry run like a real write. An access review does not include RBAC's escalation check, quotas or
policies. Reviews are used only for permissions that no dry run shows, those of waits and of verifications.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._kube import access_review
from .._kube.access_review import Permission
from .._kube.errors import (
    ApiError,
    Forbidden,
    KubeError,
    MissingPermissions,
    NotFound,
    UnprocessableObject,
)
from .._snapshot.actions.action import Step
from .._snapshot.actions.apply_release import ApplyRelease
from .._snapshot.actions.webhook_actions import IssueCertificate
from .._snapshot.context.upgrade_context import UpgradeContext
from .._snapshot.errors import NotYetError, PreflightError
from .._snapshot.kinds import KINDS, Reference
from .._snapshot.plan import undo_steps
from .._snapshot.plan.planner import Hop
from .._snapshot.release.release_table import SNAPSHOT
from . import actions, backups, certificate_step, release_checks, upgrade_lease
from .planning import NOTHING_WRITTEN
from .steps import restore
from .steps.apply_manifests import ActionContext, ObjectOutcome
from .upgrade_request import UpgradeRequest

if TYPE_CHECKING:
    from .._kube.client import Client

Object = Mapping[str, Any]
#: The roles of docs/rbac for an upgrade.
ROLES = ("snapshot-controller",)
#: Those for the certificate of its webhook.
CERTIFICATE_ROLES = ("certificates",)
# A part of the refusal of a pod whose ServiceAccount does not exist yet (plugin/pkg/admission/serviceaccount).
NO_ACCOUNT_YET = "error looking up service account"


@dataclass(frozen=True)
class PreflightProblem:
    """A reason why a step would fail.

    step: the id of the step, "" for the whole upgrade.
    """

    step: str
    cause: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class TriedStep:
    """The result of trying one step.

    note: why the step could not be tried in the current state, "" if it was.
    """

    step: Step
    outcomes: tuple[ObjectOutcome, ...] = ()
    note: str = ""

    @property
    def is_due(self) -> bool:
        """Return True if the step would write, or if that is not known yet."""
        return bool(self.note) or any(outcome.is_changed for outcome in self.outcomes)


@dataclass(frozen=True)
class Preflight:
    """What is known before the first write.

    tried: each step that changes objects, with its result.
    certificates: the ids of the certificate steps that would issue a certificate or change a target.
    problems: the reasons why steps would fail.
    notes: facts that could not be determined, with the reasons.
    signer: the signer of the certificate steps, "" without certificate steps.
    """

    tried: tuple[TriedStep, ...] = ()
    certificates: tuple[str, ...] = ()
    problems: tuple[PreflightProblem, ...] = ()
    notes: tuple[str, ...] = ()
    signer: str = ""

    @property
    def due(self) -> list[str]:
        """Return the ids of the steps that would write."""
        return [*(row.step.id for row in self.tried if row.is_due), *self.certificates]

    def touched_in(self, hop: Hop) -> list[Reference]:
        """Return the objects that the hop would change, also those of steps that could not be tried."""
        due = set(self.due)
        tried = [outcome.reference for row in self.tried if row.is_due for outcome in row.outcomes]
        return list(
            dict.fromkeys((*tried, *(row for line in hop.lines if line.step in due for row in line.objects)))
        )

    def as_result(self) -> dict[str, Any]:
        """Return the preflight as results carry it."""
        return {
            "due": self.due,
            "foreseen": [_report(row) for row in self.tried if row.is_due],
            "problems": [
                {"step": row.step, "cause": row.cause, "evidence": list(row.evidence), "remedy": row.remedy}
                for row in self.problems
            ],
            "notes": list(self.notes),
        }


def try_plan(
    client: Client, request: UpgradeRequest, context: UpgradeContext, steps: Sequence[Step]
) -> Preflight:
    """Try the steps by server dry runs.

    Args:
        context: what is installed before the first of them.

    Raises:
        KubeError: the API server does not answer.
        CertflowError: the signer of this cluster is not known.
    """
    certificates = [(step, step.action) for step in steps if isinstance(step.action, IssueCertificate)]
    try:
        signer = certificate_step.signer_of(client, request.certificate) if certificates else ""
    except CertflowError as error:
        error.roles = CERTIFICATE_ROLES
        raise
    acting = actions.make_context(client, request, context, check_mode=True)
    preflight = try_actions(acting, steps, probe_namespace=request.probe_namespace)
    new = {
        outcome.reference
        for row in preflight.tried
        for outcome in row.outcomes
        if outcome.change == "created"
    }
    due: list[str] = []
    problems = [
        *preflight.problems,
        *_find_obstacles(client, preflight, Reference("Namespace", request.probe_namespace), new),
        *(_try_test(client, request.probe_namespace or acting.namespace) if preflight.due else ()),
        *(_try_undo(client, preflight.tried) if request.undo else ()),
    ]
    for step, action in certificates:
        try:
            if Reference("Namespace", action.namespace) in new or (
                certificate_step.issue(client, request, action, signer, existing=context).changed
            ):
                due.append(step.id)
        except CertflowError as error:
            problems.append(problem_of(step, error))
    if problems or due or preflight.due:
        # Without the permission to delete it, the next run would wait for the end of the Lease.
        problems += find_lacking(client, upgrade_lease.permissions(), "hold the Lease of the upgrade")
    return replace(preflight, certificates=tuple(due), problems=tuple(problems), signer=signer)


def refuse(preflight: Preflight, lead: str = NOTHING_WRITTEN) -> None:
    """Raise PreflightError if a step would fail. lead: the beginning of its cause."""
    if not preflight.problems:
        return
    causes = list(dict.fromkeys(problem.cause for problem in preflight.problems))
    more = f" (and {len(causes) - 1} more, see problems)" if len(causes) > 1 else ""
    evidence = [
        f"{problem.step}: {problem.cause}" if problem.step else problem.cause
        for problem in preflight.problems
    ]
    error = PreflightError(
        f"{lead}: {causes[0]}{more}",
        evidence=[*evidence, *(line for problem in preflight.problems for line in problem.evidence)],
        remedy=preflight.problems[0].remedy,
    )
    error.values = {**preflight.as_result(), "step": preflight.problems[0].step}
    raise error


def try_actions(context: ActionContext, steps: Sequence[Step], *, probe_namespace: str = "") -> Preflight:
    """Try each step of ACTIONS, as if the steps before it had been carried out. Of the others check only the permissions.

    Args:
        probe_namespace: where verifications create a snapshot, if not where their step says.

    Raises:
        KubeError: the API server does not answer.
    """
    tried: list[TriedStep] = []
    problems: list[PreflightProblem] = []
    notes: list[str] = []
    for step in (row for row in steps if type(row.action) in actions.ACTIONS):
        pending = any(row.is_due for row in tried)
        trial = replace(context, check_mode=True, pending=pending)
        try:
            tried.append(TriedStep(step, tuple(actions.carry_out(trial, step.action))))
            if isinstance(step.action, ApplyRelease):
                refused, unknown = _try_pods(trial, step.id, step.action)
                problems += refused
                notes += unknown
        except NotYetError as exc:
            if not pending:
                problems.append(problem_of(step, exc))
            tried.append(TriedStep(step, note=exc.cause))
        except CertflowError as exc:
            problems.append(problem_of(step, exc))
    if any(row.is_due for row in tried):
        needed = [
            permission
            for step in steps
            for permission in step.action.permissions(context.namespace, probe_namespace)
        ]
        problems += find_lacking(context.client, needed, "complete and verify the upgrade")
    return Preflight(tuple(tried), problems=tuple(problems), notes=tuple(dict.fromkeys(notes)))


def find_lacking(client: Client, needed: Sequence[Permission], purpose: str) -> list[PreflightProblem]:
    """Return a problem if the identity lacks one of the permissions. purpose: what they are for, after "to"."""
    missing = access_review.find_missing(client, needed)
    if not missing:
        return []
    error = access_review.missing_permissions(missing, purpose)
    return [PreflightProblem("", error.cause, (), access_review.grant(*ROLES))]


def problem_of(step: Step, error: CertflowError) -> PreflightProblem:
    """Return the problem of a step that failed. Raise the error itself if the API server did not answer."""
    if isinstance(error, KubeError) and not isinstance(error, (ApiError, MissingPermissions)):
        raise error
    roles = CERTIFICATE_ROLES if isinstance(step.action, IssueCertificate) else ROLES
    remedy = access_review.grant(*roles) if isinstance(error, MissingPermissions) else error.remedy
    return PreflightProblem(step.id, error.cause, tuple(error.evidence), remedy)


def _try_undo(client: Client, tried: Iterable[TriedStep]) -> Iterator[PreflightProblem]:
    """Yield a problem for each object that the steps delete and that an undo could not create again."""
    every = ((row.step.id, outcome) for row in tried for outcome in row.outcomes)
    for step, outcome in every:
        target = outcome.reference
        live = (
            client.find(target.path)
            if outcome.change == "deleted" and undo_steps.is_restored(target)
            else None
        )
        try:
            if live and not backups.is_generated(live):
                restore.try_creation(client, target, live)
        except (ApiError, MissingPermissions) as error:
            cause = f"{target}, which the step deletes, could not be put back after a failure: {error.cause}"
            remedy = (
                "Give this identity the missing permission, or set undo: false to upgrade without an undo"
            )
            yield PreflightProblem(step, cause, tuple(error.evidence), remedy)


def _find_obstacles(
    client: Client, preflight: Preflight, place: Reference, new: Collection[Reference]
) -> Iterator[PreflightProblem]:
    """Yield a problem for each state with which the upgrade would fail although the API server accepts each of its writes.

    place: the namespace of the test objects, without a name if it is the controller's.
    new: what the upgrade creates.
    """
    with contextlib.suppress(Forbidden):  # the verification needs no permission to read it
        if place.name and preflight.due and place not in new and client.find(place.path) is None:
            yield PreflightProblem(
                "",
                f"{place}, in which the verification creates its test objects, does not exist",
                remedy="Create it, or set another probe_namespace",
            )
    changed = (
        (row.step.id, outcome.reference)
        for row in preflight.tried
        for outcome in row.outcomes
        if outcome.change == "changed"
        and any(change.path.startswith("spec.template") for change in outcome.changes)
    )
    for step, target in changed:
        live = client.find(target.path) if target.kind == "Deployment" else None
        if live and live["spec"].get("paused"):
            yield PreflightProblem(
                step,
                f"{target} is paused, so it would get no pods of the release",
                remedy="Find out why it was paused, resume it with kubectl rollout resume, and run the task again",
            )


def _try_test(client: Client, namespace: str) -> Iterator[PreflightProblem]:
    """Yield a problem if a policy or a quota refuses the object by which the upgrade is verified, because the upgrade would be undone."""
    test = release_checks.controller_test("VolumeSnapshot", f"{SNAPSHOT}/v1", namespace, "tried", {})
    try:
        client.create(test.collection, test.manifest, dry_run=True)
    except (Forbidden, UnprocessableObject) as error:
        yield PreflightProblem(
            "",
            f"the API server refuses the VolumeSnapshot in namespace {namespace} by which the upgrade is verified: {error.message}",
            remedy="Let the policy or the quota allow it, or set another probe_namespace",
        )
    except ApiError:  # the kind is not there yet, or a webhook that the upgrade may mend fails
        pass


def _try_pods(
    context: ActionContext, step_id: str, action: ApplyRelease
) -> tuple[list[PreflightProblem], list[str]]:
    """Try a pod of each Deployment, because policies and quotas may refuse the pods of an accepted Deployment."""
    problems: list[PreflightProblem] = []
    notes: list[str] = []
    for manifest in actions.manifests(context, action):
        if manifest["kind"] != "Deployment":
            continue
        try:
            _try_pod(context.client, manifest)
        except ApiError as exc:
            title = f"a pod of Deployment {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            if _is_about_something_else(exc):
                notes.append(f"{title} could not be tried by a dry run: {exc.message}")
            else:
                cause = f"the API server refuses {title}: {exc.message}"
                remedy = "Change the field or the policy that the message names"
                problems.append(PreflightProblem(step_id, cause, (exc.cause,), remedy))
    return problems, notes


def _try_pod(client: Client, deployment: Object) -> None:
    template, namespace = deployment["spec"]["template"], deployment["metadata"]["namespace"]
    metadata = {
        **template["metadata"],
        "generateName": f"{deployment['metadata']['name']}-",
        "namespace": namespace,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    client.create(KINDS["Pod"].collection(namespace), pod, dry_run=True)


def _is_about_something_else(error: ApiError) -> bool:
    """Return True if the refusal says nothing about the Deployment's pods.

    Its namespace or ServiceAccount does not exist yet, or this identity may not create pods.
    """
    lacks_right = 'cannot create resource "pods"' in error.message
    return isinstance(error, NotFound) or (
        isinstance(error, Forbidden) and (lacks_right or NO_ACCOUNT_YET in error.message)
    )


def _report(row: TriedStep) -> dict[str, Any]:
    objects = [actions.report(outcome) for outcome in row.outcomes if outcome.is_changed]
    return {"id": row.step.id, "title": row.step.title, "objects": objects, "note": row.note}
