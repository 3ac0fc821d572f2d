# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""One row of the table of checks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..facts.cluster_data import ClusterData
from ..facts.finding import AuditFinding

PAGE = "https://certflow.github.io/certflow.kubernetes/docsite/reference_audit.html"
TLS, REACH, SCOPE, CONVERSION, API, REQUEST, CLUSTER, ROTATION = (
    "tls", "reach", "scope", "conversion", "api", "request", "cluster", "rotation",
)  # fmt: skip
GOOD_PRACTICES = (
    "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/"
)
#: It yields a finding for each object that it compares, also for objects that pass.
Rule = Callable[[ClusterData], Iterator[AuditFinding]]


@dataclass(frozen=True)
class Check:
    """One check."""

    id: str
    title: str
    #: TLS, REACH, SCOPE, CONVERSION, API, REQUEST, CLUSTER or ROTATION.
    category: str
    #: ERROR, WARNING or INFO. A finding may have another one.
    severity: str
    #: The sources of cluster_data.PERMISSIONS without which the check has no answer.
    sources: tuple[str, ...]
    #: The consequence of the fault.
    effect: str
    #: One or more imperative sentences.
    remedy: str
    #: An address, or issues as OWNER/REPOSITORY#NUMBER, separated by "; ".
    source: str
    #: It yields the findings. Rows may share a rule that decides about them together. None for what the audit itself reports.
    rule: Rule | None
    #: True if it compares several objects. Without one of them, it has no answer for the others.
    compares_objects: bool = False
    #: True if its findings come before all others, because they explain them.
    leads: bool = False

    @property
    def url(self) -> str:
        return f"{PAGE}#{self.id}"

    def as_result(self) -> dict[str, Any]:
        """Return the row as results carry it."""
        keys = ("title", "category", "severity", "effect", "remedy", "url", "leads")
        return {key: getattr(self, key) for key in keys}
