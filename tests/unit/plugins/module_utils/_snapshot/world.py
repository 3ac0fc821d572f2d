# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installed states for tests of plans: releases as upstream's manifests install them, and as this collection installs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import KUBECTL
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.state_after import (
    state_after,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import Origin
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
    InstalledWorkload,
    Secret,
    StoredGroupSnapshots,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import SIDECAR, VALIDATION
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import planner
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Plan
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP_CRDS,
)

from tests.support.accepted import accepting

BY_KUBECTL = Origin(KUBECTL, ("annotation kubectl.kubernetes.io/last-applied-configuration",))
NOTHING = InstalledState(kubernetes=(1, 36), kubernetes_version="v1.36.3")


def options(**given: Any) -> UpgradeOptions:
    """Return options that accept the objects of kubectl."""
    return UpgradeOptions(**{**given, "accept": accepting(*given.get("accept", (KUBECTL,)))})


def ours(release: str, start: InstalledState = NOTHING, **given: Any) -> InstalledState:
    """Return the state after this collection installed the release."""
    return state_after(UpgradeContext(start, release_table.get(release), options(**given)))


def upstream(release: str, *, policy: str = "Fail", groups: bool = False) -> InstalledState:
    """Return the state after kubectl applied the release's manifests with correct images, including the webhook."""
    row = release_table.get(release)
    made = ours(release, failure_policy=policy, group_snapshots=groups, conversion_webhook=groups or None)
    secret = "snapshot-validation-secret"
    old = row.version < (6, 2, 0)
    workloads = tuple(
        replace(
            workload,
            drains=False,
            port=443,
            origin=BY_KUBECTL,
            secrets=(secret,) if workload.program == VALIDATION else workload.secrets,
        )
        for workload in made.workloads
    )
    secrets = (
        Secret(
            "kube-system",
            secret,
            "Opaque" if old else "kubernetes.io/tls",
            ("cert.pem", "key.pem") if old else ("tls.crt", "tls.key"),
        ),
    )
    return replace(
        made,
        workloads=workloads,
        crd_origins=dict.fromkeys(made.crd_origins, BY_KUBECTL),
        configurations=tuple(
            replace(configuration, origin=BY_KUBECTL) for configuration in made.configurations
        ),
        services=tuple(replace(service, origin=BY_KUBECTL) for service in made.services),
        controller_role=BY_KUBECTL,
        secrets=secrets if row.has(VALIDATION) else made.secrets,
    )


def with_stored(
    installed: InstalledState, *versions: str, crds: tuple[str, ...] = GROUP_CRDS
) -> InstalledState:
    """Return the state with other storedVersions of these CRDs."""
    changed = {name: replace(installed.crds[name], stored_versions=versions) for name in crds}
    return replace(installed, crds={**installed.crds, **changed})


def with_groups(installed: InstalledState, **counts: Any) -> InstalledState:
    """Return the state with stored group snapshots, by default one of each kind."""
    return replace(
        installed, groups=StoredGroupSnapshots(**{"classes": 1, "snapshots": 1, "contents": 1, **counts})
    )


def sidecar(version: str, *arguments: str) -> InstalledWorkload:
    """Return the csi-snapshotter of a CSI driver."""
    number = release_table.parse(version)
    image = f"registry.k8s.io/sig-storage/csi-snapshotter:v{version}"
    return InstalledWorkload(SIDECAR, "StatefulSet", "csi", "driver", image, number, arguments)


def with_workload(installed: InstalledState, *more: InstalledWorkload) -> InstalledState:
    return replace(installed, workloads=(*installed.workloads, *more))


def changed(installed: InstalledState, program: str, **fields: Any) -> InstalledState:
    """Return the state with changed fields of the program's workload."""
    return replace(
        installed,
        workloads=tuple(
            replace(workload, **fields) if workload.program == program else workload
            for workload in installed.workloads
        ),
    )


def planned(installed: InstalledState, target: str, **given: Any) -> Plan:
    return planner.plan(installed, release_table.target(target), options(**given))


def ids(plan: Plan, hop: int = 0) -> list[str]:
    """Return the ids of the steps of a hop."""
    return [step.id for step in plan.hops[hop].steps]


def found(plan: Plan) -> set[str]:
    return {hazard.hazard.id for hazard in plan.hazards}
