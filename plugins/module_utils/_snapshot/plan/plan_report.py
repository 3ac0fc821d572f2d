# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Describe the installed objects and the plan as module results carry them. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..context.upgrade_context import UpgradeContext
from ..hazards import table
from ..installed.installers import INSTALLERS
from ..installed.state import InstalledWorkload, Secret, WebhookConfiguration
from ..kinds import CONTROLLER, CONVERSION, SIDECAR, VALIDATION
from ..release.release_table import text
from .planner import Plan


def installed(context: UpgradeContext) -> dict[str, Any]:
    """Return the installed objects of external-snapshotter."""
    state = context.installed
    return {
        "version": context.version_text,
        "kubernetes": state.kubernetes_version,
        "crds": [
            {
                "name": crd.name,
                "releases": crd.set.releases if crd.set else "",
                "versions": dict(crd.versions),
                "stored_versions": list(crd.stored_versions),
                "conversion": crd.conversion.strategy,
            }
            for crd in state.crds.values()
        ],
        "controllers": [_workload(workload) for workload in state.all_of(CONTROLLER)],
        "webhooks": [
            {"program": kind, "port": workload.port, **_workload(workload)}
            for kind in (VALIDATION, CONVERSION)
            for workload in state.all_of(kind)
        ],
        "configurations": [_configuration(configuration) for configuration in state.configurations],
        "secrets": [_secret(secret) for secret in state.secrets],
        "sidecars": [_workload(workload) for workload in state.running(SIDECAR)],
        "default_classes": {driver: list(names) for driver, names in state.default_classes.items()},
        "group_objects": {
            "classes": state.groups.classes,
            "snapshots": state.groups.snapshots,
            "contents": state.groups.contents,
        },
        "unreadable": dict(state.unreadable),
    }


def _secret(secret: Secret) -> dict[str, Any]:
    return {
        "namespace": secret.namespace,
        "name": secret.name,
        "type": secret.type,
        "keys": list(secret.keys),
        "writers": list(secret.managers),
        "users": [what for what, _program in secret.users],
    }


def _workload(workload: InstalledWorkload) -> dict[str, Any]:
    return {
        "kind": workload.kind,
        "namespace": workload.namespace,
        "name": workload.name,
        "image": workload.image,
        "version": text(workload.version) if workload.version else "",
        "arguments": list(workload.arguments),
        "replicas": workload.replicas,
        "available": workload.available,
    }


def _configuration(configuration: WebhookConfiguration) -> dict[str, Any]:
    return {
        "name": configuration.name,
        "webhooks": [
            {
                "name": hook.name,
                "service": "/".join(hook.service) if hook.service else "",
                "path": hook.path,
                "failure_policy": hook.failure_policy,
                "resources": sorted(hook.resources()),
            }
            for hook in configuration.hooks
        ],
    }


def managers(context: UpgradeContext) -> list[dict[str, Any]]:
    """Return one entry for each object that another manager applied, with the marks that show it."""
    return [
        {
            "object": what,
            "manager": origin.key,
            "name": INSTALLERS[origin.key].name,
            "evidence": list(origin.evidence),
            "accepted": origin.is_accepted(context.options.accept, what),
        }
        for what, origin in context.origins
        if origin.key
    ]


def plan(plan_: Plan) -> dict[str, Any]:
    """Return the plan. ``hops`` and ``steps`` are filled in a refused plan too: check ``refused`` before a write."""
    return {
        "refused": [{**asdict(row), "evidence": list(row.evidence)} for row in plan_.refused],
        "hazards": [_hazard(found) for found in plan_.hazards],
        "reports": [str(found) for found in plan_.hazards if found.hazard.handling == table.REPORT],
        "hops": [
            {
                "start": hop.start,
                "release": str(hop.release),
                "reason": hop.reason,
                "steps": [step.id for step in hop.steps],
            }
            for hop in plan_.hops
        ],
        "plan": [step.as_result(str(hop.release)) for hop in plan_.hops for step in hop.steps],
    }


def _hazard(found: table.DetectedHazard) -> dict[str, Any]:
    row, finding = found.hazard, found.finding
    return {
        "id": row.id,
        "title": row.title,
        "handling": row.handling,
        "answer": row.answer,
        "evidence": list(finding.evidence),
        "remedy": finding.remedy,
        "source": row.source,
    }
