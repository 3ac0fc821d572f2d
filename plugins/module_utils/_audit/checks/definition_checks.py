# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of CustomResourceDefinitions: stored versions, and their state. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..facts.cluster_data import ClusterData, DefinitionState
from ..facts.finding import FAIL, INFO, PASS, WARNING, AuditFinding

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
    if unserved:
        words = f"Objects of {name} may be stored in {', '.join(unserved)}, which is not served"
        return AuditFinding(check, FAIL, definition.object, words, lines, severity=WARNING)
    if definition.has_webhook and len(definition.stored) > 1:
        words = f"Objects of {name} may be stored in {len(definition.stored)} versions, which the conversion webhook must convert"
        return AuditFinding(check, FAIL, definition.object, words, lines, severity=INFO)
    return AuditFinding(check, PASS, definition.object)


def _state(data: ClusterData, definition: DefinitionState) -> AuditFinding:
    check, name = "crd-not-ready", definition.object.name
    if definition.deleted and data.now - definition.deleted > DELETING:
        _status, reason = definition.conditions.get("Terminating", ("", ""))
        words = f"The CustomResourceDefinition {name} has been deleted for more than an hour and still exists"
        return AuditFinding(check, FAIL, definition.object, words, (reason,) if reason else ())
    is_new = definition.created is not None and data.now - definition.created < SETTLING
    wrong = [
        f"{kind} is {status}: {reason}"
        for kind, (status, reason) in definition.conditions.items()
        if HEALTHY.get(kind, status) != status and not (is_new and kind == "Established")
    ]
    if wrong and not definition.deleted:
        words = f"The API server does not accept the CustomResourceDefinition {name} completely"
        return AuditFinding(check, FAIL, definition.object, words, tuple(wrong))
    return AuditFinding(check, PASS, definition.object)
