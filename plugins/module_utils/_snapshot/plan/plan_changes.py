# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""List the writes and checks of a hop, object by object. Pure.

Each action yields a line for each write and for each check of a step. A line says "create" or "change" by the state before the hop
and by the earlier steps of the hop.

The lines omit the run's own objects, which are not part of a plan: its Lease and its backup.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..actions.action import CRD, HopProgress, PlanLine
from ..actions.apply_release import controller_rbac, webhook_rbac
from ..context.upgrade_context import UpgradeContext
from ..kinds import CONVERSION, VALIDATION, Reference
from .planner import Hop


def lines(hop: Hop) -> list[PlanLine]:
    """Return the writes and checks of a hop in their order."""
    progress = HopProgress(hop.context, set(present(hop.context)))
    return [replace(line, step=step.id) for step in hop.steps for line in step.action.lines(progress)]


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
        yield from webhook_rbac(context.webhook_namespace(VALIDATION))
    for kind in (VALIDATION, CONVERSION):  # this collection's webhooks have a budget, upstream's have none
        for workload in installed.running(kind):
            if not workload.origin.key:
                yield Reference("PodDisruptionBudget", workload.name, workload.namespace)
