# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Try the steps of a plan before the first of them writes: by server dry runs, which admission and RBAC answer as they would
the real thing. An access review would not see the escalation check of RBAC, nor quotas, nor policies. Reviews are asked only
for what no dry run shows: what steps wait for, and what proofs create.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._errors import CertflowError
from .._kube import _rights
from .._kube._errors import ApiError, Forbidden, KubeError, MissingRights, NotFound
from .._kube._rights import Right
from . import _act, _needs
from ._act import Context
from ._apply import Outcome
from ._errors import NotYetError
from ._kinds import KINDS
from ._steps import Step

if TYPE_CHECKING:
    from .._kube._client import Client

Object = Mapping[str, Any]
Act = Callable[[Context, Mapping[str, Any]], list[Outcome]]
NODES = "/api/v1/nodes"
# What the admission of ServiceAccounts says of one that is still to come (plugin/pkg/admission/serviceaccount).
NO_ACCOUNT_YET = "error looking up service account"


@dataclass(frozen=True)
class Problem:
    """Why a step would fail. step: its id."""

    step: str
    cause: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class Tried:
    """What one step would do. note: why it could not be tried as things stand."""

    step: Step
    outcomes: tuple[Outcome, ...] = ()
    note: str = ""

    @property
    def due(self) -> bool:
        """Whether it would write."""
        return bool(self.note) or any(outcome.changed for outcome in self.outcomes)


@dataclass(frozen=True)
class Foreseen:
    """What is known before the first write. notes: what could not be known, and why."""

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
                problems.append(_problem(step, exc))
            tried.append(Tried(step, note=exc.cause))
        except CertflowError as exc:
            if isinstance(exc, KubeError) and not isinstance(exc, (ApiError, MissingRights)):
                raise
            problems.append(_problem(step, exc))
    if any(one.due for one in tried):
        needed = [*_needs.needs(steps, context.namespace, probe_namespace), *permissions]
        problems += _lacking(context, needed)
    return Foreseen(tuple(tried), tuple(problems), tuple(dict.fromkeys(notes)))


def _lacking(context: Context, needed: Sequence[Right]) -> list[Problem]:
    """Return a problem if the identity lacks permissions that it needs in the middle of the upgrade."""
    lacking = _rights.missing(context.client, needed)
    if not lacking:
        return []
    error = _rights.missing_rights(lacking, "complete and verify the upgrade")
    return [Problem("", error.cause, (), error.remedy)]


def _problem(step: Step, error: CertflowError) -> Problem:
    return Problem(step.id, error.cause, tuple(error.evidence), error.remedy)


def _pods(context: Context, step: Step) -> tuple[list[Problem], list[str]]:
    """A pod of each Deployment, tried: policies and quotas speak to pods, long after their Deployment was accepted."""
    problems: list[Problem] = []
    notes: list[str] = []
    for manifest in _act.manifests(context, step.parameters):
        if manifest["kind"] != "Deployment":
            continue
        try:
            _try_pod(context.client, manifest)
        except ApiError as exc:
            title = f"a pod of Deployment {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            if _says_nothing(exc):
                notes.append(f"{title} could not be tried: {exc.message}")
            else:
                cause = f"{title} is refused: {exc.message}"
                problems.append(Problem(step.id, cause, (exc.cause,), "Change what it names, or the policy"))
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
    """Whether the pod was refused for what says nothing of a Deployment's: its namespace or account is still to come, or
    only controllers may make pods here."""
    if isinstance(error, NotFound):
        return True
    lacks_right = 'cannot create resource "pods"' in error.message
    return isinstance(error, Forbidden) and (lacks_right or NO_ACCOUNT_YET in error.message)


def _images(client: Client, deployment: Object) -> list[str]:
    """Which images no node holds yet, so that nobody knows whether they can be pulled."""
    try:
        nodes = client.list_all(NODES)["items"]
    except ApiError as exc:
        return [f"which images the nodes hold is not known: {exc.message}"]
    held = {
        name
        for node in nodes
        for one in node["status"].get("images") or ()
        for name in one.get("names") or ()
    }
    wanted = [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]]
    return [
        f"no node tells that it holds {image}: whether it can be pulled shows when the first pod starts; those that run stay until then"
        for image in wanted
        if image not in held
    ]
