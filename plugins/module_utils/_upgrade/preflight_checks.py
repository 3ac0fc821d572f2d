# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Try the steps of a plan before the first of them writes. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._errors import CertflowError
from .._snapshot.errors import PreflightError
from .._snapshot.kinds import Reference
from .._snapshot.plan.step_types import Step
from .._snapshot.plan.upgrade_context import UpgradeContext
from . import actions, backups, certificate_step, dry_runs, upgrade_lease
from .actions import ACTIONS, CERTIFICATE
from .dry_runs import Problem, Tried
from .options import Request
from .planning import NOTHING_WRITTEN

if TYPE_CHECKING:
    from .._kube.client import Client


@dataclass(frozen=True)
class Preflight:
    """What is known before the first write.

    tried: each step that changes objects, with what it would do.
    certificates: the ids of the certificate steps that would issue a certificate or change a target.
    notes: what cannot be known before, and why.
    signer: of the certificate steps, "" if there are none.
    """

    tried: tuple[Tried, ...] = ()
    certificates: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    signer: str = ""

    @property
    def due(self) -> list[str]:
        """Return the ids of the steps that would write."""
        return [*(one.step.id for one in self.tried if one.due), *self.certificates]

    @property
    def touched(self) -> list[Reference]:
        """Return the objects that the steps would change."""
        return [outcome.reference for one in self.tried if one.due for outcome in one.outcomes]

    def values(self) -> dict[str, Any]:
        """Return the preflight as results carry it."""
        return {
            "due": self.due,
            "foreseen": [_tried(one) for one in self.tried if one.due],
            "problems": [
                {"step": one.step, "cause": one.cause, "evidence": list(one.evidence), "remedy": one.remedy}
                for one in self.problems
            ],
            "notes": list(self.notes),
        }


def run(client: Client, request: Request, context: UpgradeContext, steps: Sequence[Step]) -> Preflight:
    """Try the steps by server dry runs.

    Args:
        context: what is installed before the first of them.

    Raises:
        KubeError: the API server does not answer.
        CertflowError: the signer of this cluster is not known.
    """
    signer = ""
    if any(step.action == CERTIFICATE for step in steps):
        signer = certificate_step.signer_of(client, request.certificate)
    acting = actions.context_from(client, request, context.namespace, check_mode=True)
    backup = backups.permissions(upgrade_lease.NAMESPACE)[:1] if request.backup_in_cluster else []
    foreseen = dry_runs.foresee(
        acting, steps, ACTIONS, probe_namespace=request.probe_namespace, permissions=backup
    )
    missing = _new_namespaces(foreseen.tried)
    due: list[str] = []
    problems: list[Problem] = []
    for step in (one for one in steps if one.action == CERTIFICATE):
        try:
            if step.parameters["namespace"] in missing or _is_due(client, request, context, step, signer):
                due.append(step.id)
        except CertflowError as error:
            problems.append(dry_runs.problem_of(step, error))
    every = [*foreseen.problems, *problems]
    if every or due or any(one.due for one in foreseen.tried):
        # Without the permission to delete it, the next run would wait for the end of the Lease.
        every += dry_runs.lacking(client, upgrade_lease.permissions(), "hold the Lease of the upgrade")
    return Preflight(foreseen.tried, tuple(due), tuple(every), foreseen.notes, signer)


def refuse(found: Preflight, lead: str = NOTHING_WRITTEN) -> None:
    """Raise PreflightError if a step would fail. lead: the begin of its cause."""
    if not found.problems:
        return
    causes = list(dict.fromkeys(one.cause for one in found.problems))
    more = f" (and {len(causes) - 1} more, see problems)" if len(causes) > 1 else ""
    evidence = [f"{one.step}: {one.cause}" if one.step else one.cause for one in found.problems]
    error = PreflightError(
        f"{lead}: {causes[0]}{more}",
        evidence=[*evidence, *(line for one in found.problems for line in one.evidence)],
        remedy=found.problems[0].remedy,
    )
    error.values = {**found.values(), "step": found.problems[0].step}
    raise error


def _is_due(client: Client, request: Request, context: UpgradeContext, step: Step, signer: str) -> bool:
    return certificate_step.issue(
        client,
        step,
        request.certificate,
        signer=signer,
        take_over=bool(request.options.adopt),
        check_mode=True,
        existing=context,
    ).changed


def _new_namespaces(tried: Iterable[Tried]) -> set[str]:
    return {
        outcome.reference.name
        for one in tried
        for outcome in one.outcomes
        if outcome.reference.kind == "Namespace" and outcome.change == "created"
    }


def _tried(one: Tried) -> dict[str, Any]:
    objects = [actions.report(outcome) for outcome in one.outcomes if outcome.changed]
    return {"id": one.step.id, "title": one.step.title, "objects": objects, "note": one.note}
