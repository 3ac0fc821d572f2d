# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a cluster and plan from its current state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._snapshot.context.hop_context import UpgradeOptions
from .._snapshot.context.upgrade_context import UpgradeContext
from .._snapshot.hazards.finding import listed
from .._snapshot.installed import fetch_objects, parse_objects
from .._snapshot.plan import plan_report, planner
from .._snapshot.plan.planner import Plan
from .._snapshot.release import crd_sets, release_table
from .._snapshot.release.release_table import Release

if TYPE_CHECKING:
    from .._kube.client import Client

MOST_EVIDENCE = 3
NOTHING_WRITTEN = "nothing was written"


@dataclass(frozen=True)
class ClusterPlan:
    """The state of a cluster at one time, and the plan from this state.

    context: what is installed, the release to go to, and the options.
    plan: the hops to the release, or the reasons to refuse it.
    """

    context: UpgradeContext
    plan: Plan

    def as_result(self) -> dict[str, Any]:
        """Return the state and the plan as results carry them."""
        return {
            "installed": plan_report.installed(self.context),
            "managers": plan_report.managers(self.context),
            **plan_report.plan(self.plan),
        }

    def refusal(self, lead: str = NOTHING_WRITTEN) -> CertflowError | None:
        """Return the error of a plan that is refused, None if it may be carried out. lead: the beginning of its cause."""
        refused = self.plan.refused
        if not refused:
            return None
        causes = [
            f"{hazard.reason.rstrip('.')} ({'; '.join(listed(hazard.evidence, MOST_EVIDENCE))})"
            for hazard in refused
        ]
        error = CertflowError(
            f"{lead}: {'. '.join(causes)}",
            code="upgrade-refused",
            evidence=[line for hazard in refused for line in hazard.evidence],
            remedy=" ".join(hazard.remedy for hazard in refused),
        )
        error.values = self.as_result()
        return error


def read(client: Client, release: Release, options: UpgradeOptions) -> ClusterPlan:
    """Read the cluster and plan the way to the release. Raises KubeError."""
    rules = crd_sets.row(release.crds, release_table.SNAPSHOT).rules
    reading = replace(fetch_objects.observe(client, needs_rules=rules), registry=options.image_registry)
    installed = parse_objects.installed(reading, release)
    return ClusterPlan(UpgradeContext(installed, release, options), planner.plan(installed, release, options))
