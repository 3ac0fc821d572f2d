# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Describe the installed objects and the plan as module results carry them. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..hazards import table
from ..installed.installers import INSTALLERS
from ..installed.state import (
    CONTROLLER,
    CONVERSION,
    SIDECAR,
    VALIDATION,
    InstalledWorkload,
    Secret,
    WebhookConfiguration,
)
from ..release.release_table import text
from .planner import Plan
from .step_types import as_dict
from .upgrade_context import UpgradeContext


def installed(context: UpgradeContext) -> dict[str, Any]:
    """Return the installed objects of external-snapshotter."""
    here = context.installed
    return {
        "version": text(context.version) if context.version else "",
        "kubernetes": here.kubernetes_version,
        "crds": [
            {
                "name": crd.name,
                "releases": crd.set.releases if crd.set else "",
                "versions": dict(crd.versions),
                "stored_versions": list(crd.stored_versions),
                "conversion": crd.conversion.strategy,
            }
            for crd in here.crds.values()
        ],
        "controllers": [_workload(one) for one in (*here.running(CONTROLLER), *here.orphans(CONTROLLER))],
        "webhooks": [
            {"program": kind, "port": one.port, **_workload(one)}
            for kind in (VALIDATION, CONVERSION)
            for one in (*here.running(kind), *here.orphans(kind))
        ],
        "configurations": [_configuration(one) for one in here.configurations],
        "secrets": [_secret(one) for one in here.secrets],
        "sidecars": [_workload(one) for one in here.running(SIDECAR)],
        "default_classes": {driver: list(names) for driver, names in here.default_classes.items()},
        "group_objects": {
            "classes": here.groups.classes,
            "snapshots": here.groups.snapshots,
            "contents": here.groups.contents,
        },
        "leases": [asdict(one) for one in here.leases],
        "unreadable": dict(here.unreadable),
    }


def _secret(one: Secret) -> dict[str, Any]:
    return {
        "namespace": one.namespace,
        "name": one.name,
        "type": one.type,
        "keys": list(one.keys),
        "subject": one.subject,
        "names": list(one.names),
        "not_after": one.not_after,
        "writers": list(one.managers),
        "users": [what for what, _program in one.users],
    }


def _workload(one: InstalledWorkload) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "namespace": one.namespace,
        "name": one.name,
        "image": one.image,
        "version": text(one.version) if one.version else "",
        "arguments": list(one.arguments),
        "replicas": one.replicas,
        "available": one.available,
    }


def _configuration(one: WebhookConfiguration) -> dict[str, Any]:
    return {
        "name": one.name,
        "webhooks": [
            {
                "name": hook.name,
                "service": "/".join(hook.service) if hook.service else "",
                "path": hook.path,
                "failure_policy": hook.failure_policy,
                "resources": sorted(hook.resources()),
                "versions": sorted(hook.versions()),
            }
            for hook in one.hooks
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
            "adopted": context.adopts(origin.key),
        }
        for what, origin in context.origins
        if origin.key
    ]


def plan(one: Plan) -> dict[str, Any]:
    """Return the plan. ``hops`` and ``steps`` are filled in a refused plan too: check ``refused`` before a write."""
    return {
        "refused": [{**asdict(row), "evidence": list(row.evidence)} for row in one.refused],
        "hazards": [_hazard(found) for found in one.hazards],
        "reports": [_said(found) for found in one.hazards if found.hazard.handling == table.REPORT],
        "hops": [
            {
                "start": hop.start,
                "release": str(hop.release),
                "reason": hop.reason,
                "steps": [step.id for step in hop.steps],
            }
            for hop in one.hops
        ],
        "plan": [as_dict(step, str(hop.release)) for hop in one.hops for step in hop.steps],
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


def _said(found: table.DetectedHazard) -> str:
    """Return a hazard as one line."""
    return f"{found.hazard.title}: {'; '.join(found.finding.evidence)}. {found.finding.remedy}".strip()
