# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The findings of an audit: one answer of one check about one object. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..._base.text import shortened
from ..._base.times import format_time

PASS, FAIL, UNKNOWN, SKIP = "pass", "fail", "unknown", "skip"
ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
PROVEN, LIKELY, ONE_OF = "proven", "likely", "one of"
CERTAINTIES = (PROVEN, LIKELY, ONE_OF)
#: What the API server does with a request if it cannot make the call: it refuses the request, or skips the webhook.
REFUSES, SKIPS = "refuses", "skips"
#: The order in which findings are shown.
STATUSES = (FAIL, UNKNOWN, PASS, SKIP)
#: The manager of an object without a marker of a known manager.
UNMANAGED = "unmanaged"
#: The annotation with the ids of checks, separated by commas.
ANNOTATION = "certflow.kubernetes/audit-except"


def every(kind: str) -> str:
    """Return the name of all objects of a kind."""
    return f"every {kind}"


@dataclass(frozen=True)
class AuditedObject:
    """The object of a finding."""

    kind: str
    name: str
    api_version: str = ""
    namespace: str = ""
    uid: str = ""
    #: The name of the webhook in a configuration, "" for other objects.
    webhook: str = ""
    #: The JSON pointer of the field, "" for the whole object.
    path: str = ""
    #: The programs that manage the object, UNMANAGED without one.
    manager: str = UNMANAGED
    #: The checks from which the owner of the object excepts it.
    excepted_checks: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        webhook = f", webhook {self.webhook}" if self.webhook else ""
        return f"{self.kind} {place}{self.name}{webhook}"

    @property
    def names(self) -> frozenset[str]:
        """Return the names by which a finding of the status UNKNOWN may list the object."""
        return frozenset((str(self), every(self.kind)))

    def as_result(self) -> dict[str, str]:
        """Return the object as results carry it, without hidden characters."""
        keys = ("api_version", "kind", "namespace", "name", "uid", "webhook", "path")
        return {key: shortened(getattr(self, key)) for key in keys}


def annotated_checks(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the checks from which the owner of an object excepts it."""
    value = (metadata.get("annotations") or {}).get(ANNOTATION) or ""
    return tuple(part.strip() for part in str(value).split(",") if part.strip())


#: The object of a finding about several objects.
CLUSTER = AuditedObject("Cluster", "")


@dataclass(frozen=True)
class AppliedException:
    """Why a finding is accepted."""

    reason: str
    #: None for an annotation.
    until: datetime | None = None

    def as_result(self) -> dict[str, Any]:
        return {"reason": shortened(self.reason), "until": format_time(self.until) if self.until else None}


@dataclass(frozen=True)
class AuditFinding:
    """One answer of one check about one object."""

    #: The id of the check.
    check: str
    #: PASS, FAIL, UNKNOWN or SKIP.
    status: str
    object: AuditedObject
    #: One sentence.
    cause: str = ""
    evidence: tuple[str, ...] = ()
    #: ERROR, WARNING or INFO, "" for the severity of the check.
    severity: str = ""
    certainty: str = PROVEN
    #: The time at which the fault takes effect, None if that is not known.
    breaks_at: datetime | None = None
    #: Why it is accepted, None if it is not.
    exception: AppliedException | None = None
    #: With UNKNOWN: the source that could not be read, a key of cluster_data.PERMISSIONS.
    source: str = ""
    #: With UNKNOWN: the ids of the checks without a complete answer.
    unanswered: tuple[str, ...] = ()
    #: With UNKNOWN: the names of the objects without an answer. With FAIL: the objects, if there are several.
    objects: tuple[str, ...] = ()
    #: With UNKNOWN: the missing permissions, each a verb and a resource.
    permissions: tuple[str, ...] = ()
    #: With FAIL: REFUSES or SKIPS, "" if the object is not one that the API server calls.
    impact: str = ""
    #: The requests for which the API server makes the call, such as "CREATE of deployments.apps".
    requests: tuple[str, ...] = ()
    #: Distinguishes findings of one check about one object.
    detail: str = field(default="", repr=False)

    def fingerprint(self, cluster_uid: str) -> str:
        """Return a value that stays the same in later audits of the cluster."""
        subject = self.object
        identity = subject.uid or f"{subject.kind}/{subject.namespace}/{subject.name}"
        parts = (self.check, cluster_uid, identity, subject.webhook, self.detail)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def as_result(self, cluster_uid: str) -> dict[str, Any]:
        """Return the finding as results carry it. Text of the cluster has no hidden characters."""
        return {
            "check": self.check,
            "status": self.status,
            "severity": self.severity,
            "certainty": self.certainty,
            "object": self.object.as_result(),
            "cause": shortened(self.cause),
            "evidence": [shortened(line) for line in self.evidence],
            "breaks_at": format_time(self.breaks_at) if self.breaks_at else None,
            "manager": shortened(self.object.manager),
            "excepted": self.exception.as_result() if self.exception else None,
            "fingerprint": self.fingerprint(cluster_uid),
            "source": self.source,
            "unanswered": list(self.unanswered),
            "objects": [shortened(name) for name in self.objects],
            "permissions": list(self.permissions),
            "impact": self.impact,
            "requests": [shortened(name) for name in self.requests],
        }


def judged(
    check: str, subject: AuditedObject, fault: str, lines: tuple[str, ...] = (), **fields: Any
) -> AuditFinding:
    """Return a failed finding, or a passed one if the fault is "". fields: further fields of a failed finding."""
    failed = AuditFinding(check, FAIL, subject, fault, lines, **fields)
    return failed if fault else AuditFinding(check, PASS, subject)
