# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Try the steps of a plan by server dry runs, before the first of them writes.

Admission and RBAC answer a dry run like a real write. An access review does not include RBAC's escalation check, quotas or
policies. Reviews are used only for permissions that no dry run shows, those of waits and of verifications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._errors import CertflowError
from .._kube import access_review
from .._kube.access_review import Right
from .._kube.errors import ApiError, Forbidden, KubeError, MissingRights, NotFound
from .._snapshot.errors import NotYetError
from .._snapshot.kinds import KINDS
from .._snapshot.plan import required_permissions
from .._snapshot.plan.step_types import Step
from .steps import act
from .steps.act import Context
from .steps.apply_manifests import Outcome

if TYPE_CHECKING:
    from .._kube.client import Client

Object = Mapping[str, Any]
Act = Callable[[Context, Mapping[str, Any]], list[Outcome]]
NODES = "/api/v1/nodes"
# What the admission of ServiceAccounts says of one that is still to come (plugin/pkg/admission/serviceaccount).
NO_ACCOUNT_YET = "error looking up service account"


@dataclass(frozen=True)
class Problem:
    """A reason why a step would fail. step: its id, "" for the whole upgrade."""

    step: str
    cause: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class Tried:
    """The result of trying one step. note: why the step could not be tried in the current state, "" if it was."""

    step: Step
    outcomes: tuple[Outcome, ...] = ()
    note: str = ""

    @property
    def due(self) -> bool:
        """Return True if the step would write, or if that is not known yet."""
        return bool(self.note) or any(outcome.changed for outcome in self.outcomes)


@dataclass(frozen=True)
class Foreseen:
    """The results of trying all steps. notes: facts that could not be determined, with the reasons."""

    tried: tuple[Tried, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def foresee(
    context: Context,
    steps: Sequence[Step],
    actions: Mapping[str, Act],
    *,
    probe_namespace: str = "",
    permissions: Sequence[Right] = (),
) -> Foreseen:
    """Try each step that changes objects, as if the steps before it had been carried out.

    Args:
        actions: the steps with other actions are not tried. Only the permissions of verifications are checked.
        probe_namespace: where verifications create a snapshot, if not where their step says.
        permissions: further ones that the upgrade needs.

    Raises:
        KubeError: the API server does not answer.
    """
    tried: list[Tried] = []
    problems: list[Problem] = []
    notes: list[str] = []
    for step in (one for one in steps if one.action in actions):
        pending = any(one.due for one in tried)
        now = replace(context, check_mode=True, pending=pending)
        try:
            tried.append(Tried(step, tuple(actions[step.action](now, step.parameters))))
            if step.action == "apply":
                found, unknown = _pods(now, step)
                problems += found
                notes += unknown
        except NotYetError as exc:
            if not pending:
                problems.append(problem_of(step, exc))
            tried.append(Tried(step, note=exc.cause))
        except CertflowError as exc:
            problems.append(problem_of(step, exc))
    if any(one.due for one in tried):
        needed = [*required_permissions.collect(steps, context.namespace, probe_namespace), *permissions]
        problems += lacking(context.client, needed, "complete and verify the upgrade")
    return Foreseen(tuple(tried), tuple(problems), tuple(dict.fromkeys(notes)))


def lacking(client: Client, needed: Sequence[Right], purpose: str) -> list[Problem]:
    """Return a problem if the identity lacks one of the permissions. purpose: what they are for, after "to"."""
    missing = access_review.missing(client, needed)
    if not missing:
        return []
    error = access_review.missing_rights(missing, purpose)
    return [Problem("", error.cause, (), error.remedy)]


def problem_of(step: Step, error: CertflowError) -> Problem:
    """Return the problem of a step that failed. Raise the error itself if the API server did not answer."""
    if isinstance(error, KubeError) and not isinstance(error, (ApiError, MissingRights)):
        raise error
    return Problem(step.id, error.cause, tuple(error.evidence), error.remedy)


def _pods(context: Context, step: Step) -> tuple[list[Problem], list[str]]:
    """Try a pod of each Deployment, because policies and quotas may refuse the pods of an accepted Deployment."""
    problems: list[Problem] = []
    notes: list[str] = []
    for manifest in act.manifests(context, step.parameters):
        if manifest["kind"] != "Deployment":
            continue
        try:
            _try_pod(context.client, manifest)
        except ApiError as exc:
            title = f"a pod of Deployment {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            if _says_nothing(exc):
                notes.append(f"{title} could not be tried by a dry run: {exc.message}")
            else:
                cause = f"the API server refuses {title}: {exc.message}"
                remedy = "Change the field or the policy that the message names"
                problems.append(Problem(step.id, cause, (exc.cause,), remedy))
        notes += _images(context.client, manifest)
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


def _says_nothing(error: ApiError) -> bool:
    """Return True if the refusal says nothing about the Deployment's pods.

    Its namespace or ServiceAccount does not exist yet, or this identity may not create pods.
    """
    if isinstance(error, NotFound):
        return True
    lacks_right = 'cannot create resource "pods"' in error.message
    return isinstance(error, Forbidden) and (lacks_right or NO_ACCOUNT_YET in error.message)


def _images(client: Client, deployment: Object) -> list[str]:
    """Return a note for each image that no node has, because a failing pull shows only when a pod starts."""
    try:
        nodes = client.list_all(NODES)["items"]
    except ApiError as exc:
        return [f"the images of the nodes cannot be read: {exc.message}"]
    held = {
        name
        for node in nodes
        for one in node["status"].get("images") or ()
        for name in one.get("names") or ()
    }
    wanted = [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]]
    return [
        f"no node reports the image {image}. The first new pod shows if it can be pulled. The old pods run until then"
        for image in wanted
        if image not in held
    ]
