# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check what a manifest sets: rules, selectors, timeouts, versions of definitions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from ..facts.cluster_data import CallPoint, ClusterData, DefinitionState
from ..facts.finding import FAIL, INFO, PASS, SKIP, WARNING, AuditFinding, judged
from .admission_checks import admission_points, passed, seconds_of
from .control_plane_requests import REQUESTS, VIRTUAL, ControlPlaneRequest, find_matches, find_unasked

#: A leader gives up after 10 s without a renewal of its Lease, and one request may take 5 s (client-go leaderelection, gardener).
LEASE_SECONDS = 3
#: Slower than the default (https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/).
LONG_SECONDS = 10
_RENEWALS = tuple(row for row in REQUESTS if row.is_renewal)


def check_settings(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about the settings of each admission webhook."""
    has_virtual = not find_unasked(data.version)
    for point in admission_points(data):
        seconds = seconds_of(point)
        if point.is_strict:
            reason = ("control-plane-blocked covers it.",)
            yield AuditFinding("slow-leases", SKIP, point.object, evidence=reason)
        else:
            rows = _RENEWALS if seconds > LEASE_SECONDS else ()
            words = f"{point.object} may delay each renewal of a Lease by {seconds} s, although it has failurePolicy Ignore"
            yield from _matching(data, point, "slow-leases", rows, words)
        if has_virtual:
            rows = VIRTUAL if point.is_strict else ()
            words = (
                f"If {point.object} does not answer, the API server refuses reviews of tokens and permissions"
            )
            yield from _matching(data, point, "virtual-resources", rows, words)
        else:
            yield AuditFinding("virtual-resources", SKIP, point.object)
        words = f"{point.object} may delay each request that it matches by {seconds} s"
        lines = (f"timeoutSeconds {seconds}",)
        yield judged("timeout-long", point.object, words if seconds > LONG_SECONDS else "", lines)
        yield _everything(point)


def _matching(
    data: ClusterData, point: CallPoint, check: str, rows: Iterable[ControlPlaneRequest], words: str
) -> Iterator[AuditFinding]:
    """Yield a fail if the webhook matches one of the rows, a pass if it certainly matches none."""
    matched, undecided = find_matches(data, point, rows)
    if matched:
        lines = (f"it matches {', '.join(map(str, matched))}", f"timeoutSeconds {seconds_of(point)}")
        yield AuditFinding(check, FAIL, point.object, words, lines)
    else:
        yield from passed(check, point.object, undecided)


def _matches_everything(rule: Mapping[str, Any]) -> bool:
    groups = rule.get("apiGroups") or ()
    resources = rule.get("resources") or ()
    return "*" in groups and ("*" in resources or "*/*" in resources)


def _everything(point: CallPoint) -> AuditFinding:
    """Return the finding of a webhook that the API server asks about every object."""
    wide = [rule for rule in point.webhook.get("rules") or () if _matches_everything(rule)]
    selectors = [point.webhook.get(key) or {} for key in ("namespaceSelector", "objectSelector")]
    limited = any(selector.get("matchLabels") or selector.get("matchExpressions") for selector in selectors)
    words = f"{point.object} matches the objects of all groups and resources in all namespaces"
    operations = ", ".join(dict.fromkeys(str(text) for rule in wide for text in rule.get("operations") or ()))
    return judged(
        "matches-everything",
        point.object,
        "" if not wide or limited or point.webhook.get("matchConditions") else words,
        (f"operations {operations}",),
        severity=WARNING if point.is_strict else INFO,
    )


#: A new CustomResourceDefinition is established within seconds, and a deleted one waits for its objects.
SETTLING = timedelta(minutes=1)
DELETING = timedelta(hours=1)
#: Condition -> the status of a healthy CustomResourceDefinition. A condition that does not exist counts as healthy.
HEALTHY = {"Established": "True", "NamesAccepted": "True", "NonStructuralSchema": "False"}


def check_definitions(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings of each CustomResourceDefinition."""
    for definition in data.definitions:
        yield _stored(definition)
        yield _state(data, definition)


def _stored(definition: DefinitionState) -> AuditFinding:
    check, name = "stored-versions", definition.object.name
    unserved = [version for version in definition.stored if version not in definition.served]
    lines = (
        f"status.storedVersions: {', '.join(definition.stored)}",
        f"served: {', '.join(definition.served)}",
    )
    severity, fault = INFO, ""
    if unserved:
        severity, fault = WARNING, f"{', '.join(unserved)}, which is not served"
    elif definition.has_webhook and len(definition.stored) > 1:
        fault = f"{len(definition.stored)} versions, which the conversion webhook must convert"
    words = f"Objects of {name} may be stored in {fault}" if fault else ""
    return judged(check, definition.object, words, lines, severity=severity)


def _state(data: ClusterData, definition: DefinitionState) -> AuditFinding:
    check, name = "crd-not-ready", definition.object.name
    if definition.deleted and data.now - definition.deleted > DELETING:
        _status, reason = definition.conditions.get("Terminating", ("", ""))
        return AuditFinding(
            check,
            FAIL,
            definition.object,
            f"The CustomResourceDefinition {name} has been deleted for more than an hour and still exists",
            (reason,) if reason else (),
        )
    is_new = definition.created is not None and data.now - definition.created < SETTLING
    wrong = [
        f"{kind} is {status}: {reason}"
        for kind, (status, reason) in definition.conditions.items()
        if HEALTHY.get(kind, status) != status and not (is_new and kind == "Established")
    ]
    if wrong and not definition.deleted:
        return AuditFinding(
            check,
            FAIL,
            definition.object,
            f"The API server does not accept the CustomResourceDefinition {name} completely",
            tuple(wrong),
        )
    return AuditFinding(check, PASS, definition.object)
