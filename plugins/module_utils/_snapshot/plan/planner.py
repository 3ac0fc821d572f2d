# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the way from the installed release to another one: hops, their steps, and the reasons to refuse. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..._base.object_managers import UNMARKED
from ..._base.text import plural
from ..actions.action import CRD, HopProgress, PlanLine, Step
from ..actions.apply_release import controller_rbac, webhook_rbac
from ..context.hop_context import UpgradeOptions
from ..context.state_after import state_after
from ..context.upgrade_context import UpgradeContext
from ..hazards import table
from ..hazards.table import DetectedHazard
from ..installed.installers import INSTALLERS, Origin
from ..installed.state import InstalledState
from ..kinds import CONVERSION, VALIDATION, Reference
from ..release.release_table import Release, get
from .hop import plan_steps


@dataclass(frozen=True)
class Hop:
    """The way from one release to the next."""

    #: The installed release before the hop, "" if no controller is installed or its release is unknown.
    start: str
    #: The release after the hop.
    release: Release
    #: "repair", the hazard that requires this hop, or "" for a plain upgrade.
    reason: str
    steps: tuple[Step, ...]
    #: The state before the hop.
    context: UpgradeContext

    @property
    def lines(self) -> list[PlanLine]:
        """Return the writes and checks in their order, object by object.

        A line says "create" or "change" by the state before the hop and by the earlier steps of the hop. The lines omit the run's own
        objects, which are not part of a plan: its Lease and its backup.
        """
        progress = HopProgress(self.context, set(present(self.context)))
        return [replace(line, step=step.id) for step in self.steps for line in step.action.lines(progress)]


@dataclass(frozen=True)
class PlanRefusal:
    """A reason to write nothing."""

    #: The id of a hazard, or "owner-" and the key of a manager.
    id: str
    #: Sentences. The last full stop may be missing.
    reason: str
    #: The state of the cluster that shows it, in lines.
    evidence: tuple[str, ...]
    #: Imperative sentences.
    remedy: str


@dataclass(frozen=True)
class Plan:
    """The whole way."""

    #: The reasons to write nothing. A caller must not carry out a step if there is one.
    refused: tuple[PlanRefusal, ...]
    #: At least one hop. A refused plan has hops too, to show what it would change.
    hops: tuple[Hop, ...]
    #: The hazards of all hops.
    hazards: tuple[DetectedHazard, ...]


def present(context: UpgradeContext) -> Iterator[Reference]:
    """Yield the objects that exist before a hop."""
    installed = context.installed
    yield from (Reference(CRD, name) for name in installed.crds)
    for workload in installed.workloads:
        yield Reference(workload.kind, workload.name, workload.namespace)
    yield from (Reference(row.kind, row.name) for row in installed.configurations)
    yield from (Reference("Service", service.name, service.namespace) for service in installed.services)
    yield from (Reference("Secret", secret.name, secret.namespace) for secret in installed.secrets)
    yield from (Reference(kind, name, namespace) for kind, namespace, name in installed.leftovers)
    if installed.controller_role:
        yield from controller_rbac(context.namespace)
    if installed.webhook_account:
        yield from webhook_rbac(context.webhooks.namespace(VALIDATION))
    for kind in (VALIDATION, CONVERSION):  # this collection's webhooks have a budget, upstream's have none
        yield from (
            Reference("PodDisruptionBudget", workload.name, workload.namespace)
            for workload in installed.running(kind)
            if not workload.origin.key
        )


def plan(installed: InstalledState, target: Release, options: UpgradeOptions) -> Plan:
    """Return the plan to the target. It has a hop in between only if a hazard requires one."""
    refused = list(_owners(UpgradeContext(installed, target, options)))
    hops: list[Hop] = []
    every: dict[str, DetectedHazard] = {}
    state = installed
    while not hops or hops[-1].release != target:
        context = UpgradeContext(state, target, options)
        found = table.find(context)
        # A release that did not answer the hazard is no hop again.
        between = next(
            (
                detected
                for detected in found
                if detected.finding.via not in ("", *(str(hop.release) for hop in hops))
            ),
            None,
        )
        if between:
            context = UpgradeContext(state, get(between.finding.via), options)
            found = (between, *table.find(context))
        every.update({detected.hazard.id: detected for detected in found if detected.hazard.id not in every})
        refused += _refusals(found, options)
        hops.append(_hop(context, found, between))
        if context.release != target:
            state = state_after(context)
    distinct = tuple({refusal.id: refusal for refusal in refused}.values())
    return Plan(distinct, tuple(hops), tuple(every.values()))


def _hop(context: UpgradeContext, found: Iterable[DetectedHazard], between: DetectedHazard | None) -> Hop:
    ids = frozenset(detected.hazard.id for detected in found)
    reason = "repair" if context.version == context.release.version else ""
    if between:
        evidence = "; ".join(between.finding.evidence)
        reason = f"{between.hazard.title}: {evidence}. {between.hazard.answer}"
    return Hop(
        context.version_text,
        context.release,
        reason,
        tuple(plan_steps(context, ids)),
        context,
    )


def _refusals(found: Iterable[DetectedHazard], options: UpgradeOptions) -> Iterable[PlanRefusal]:
    for detected in found:
        if detected.stops(options):
            row = detected.hazard
            remedy = detected.finding.remedy
            if row.handling == table.ASK and row.id not in remedy:
                remedy = f"{remedy} Or set accept: [{row.id}] to continue despite this hazard."
            yield PlanRefusal(row.id, f"{row.title}. {row.answer}", detected.finding.evidence, remedy.strip())


def _owners(context: UpgradeContext) -> Iterable[PlanRefusal]:
    """Return one refusal for each other manager whose objects a plan may write."""
    found: dict[str, list[tuple[str, Origin]]] = {}
    for what, origin in context.origins:
        if origin.key and not origin.is_accepted(context.options.accept, what):
            found.setdefault(origin.key, []).append((what, origin))
    for key, objects in found.items():
        yield _owned(key, objects)


def _owned(key: str, objects: list[tuple[str, Origin]]) -> PlanRefusal:
    row = INSTALLERS[key]
    words = ", ".join(dict.fromkeys(word for _what, origin in objects for word in origin.words))
    accept = (
        f" To change the objects here: {row.adopting} Then set accept: [{words}]." if row.adopting else ""
    )
    evidence = tuple(f"{what}: {mark}" for what, origin in objects for mark in origin.evidence)
    return PlanRefusal(f"owner-{key}", _belongs(key, objects), evidence, f"{row.upgrade}{accept}")


def _belongs(key: str, objects: list[tuple[str, Origin]]) -> str:
    """Return a sentence that names one object, the number of the others, and their manager."""
    what, _origin = next((owned for owned in objects if not owned[0].startswith(f"{CRD} ")), objects[0])
    count = len(objects) - 1
    more = f" and {plural(count, 'other object')}" if count else ""
    if key == UNMARKED:
        return f"{what}{more} {'have' if more else 'has'} no marker of a manager"
    return f"{what}{more} {'belong' if more else 'belongs'} to {INSTALLERS[key].name}"
