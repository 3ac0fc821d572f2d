# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of audits and reports for the tests of reports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_model
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)
AUDITED = "2026-11-26T11:59:00Z"
LIMITS = {
    "without": [],
    "probe_urls": False,
    "endpoints_per_service": 10,
    "endpoints_left_out": 0,
}


def finding(check: str = "expiring", **values: Any) -> dict[str, Any]:
    """Return a failed finding. name, kind, namespace and webhook are those of its object."""
    subject = {
        "api_version": "admissionregistration.k8s.io/v1",
        "kind": values.pop("kind", "ValidatingWebhookConfiguration"),
        "namespace": values.pop("namespace", ""),
        "name": values.pop("name", "hooks"),
        "uid": values.pop("uid", "u-1"),
        "webhook": values.pop("webhook", "a.example.com"),
        "path": "/webhooks/0/clientConfig",
    }
    identity = f"{check} {sorted(subject.items())}"
    return {
        "check": check,
        "status": "fail",
        "severity": check_table.BY_ID[check].severity if check in check_table.BY_ID else "warning",
        "certainty": "proven",
        "object": subject,
        "cause": "The certificate expires soon",
        "evidence": ["pod kube-system/hook-1 serves it"],
        "breaks_at": None,
        "manager": "helm",
        "excepted": None,
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "source": "",
        "unanswered": [],
        "objects": [],
        "permissions": [],
        "impact": "refuses",
        "requests": ["CREATE of deployments.apps"],
        **values,
    }


def unread(*checks: str, **values: Any) -> dict[str, Any]:
    """Return the finding of something that could not be read."""
    return finding(
        "unreadable",
        **{"status": "unknown", "source": "pods", "unanswered": list(checks), "permissions": ["list pods"], "kind": "Cluster", **values},
    )  # fmt: skip


def result(*findings: Mapping[str, Any], uid: str = "uid-1", **values: Any) -> dict[str, Any]:
    """Return a result of audit_info."""
    times = [audit_finding["breaks_at"] for audit_finding in findings if audit_finding["breaks_at"]]
    return {
        "changed": False,
        "audited_at": AUDITED,
        "cluster_uid": uid,
        "kubernetes_version": "v1.36.3",
        "findings": list(findings),
        "checks": {
            row: {**value, "counts": {}}
            for row, value in check_table.as_results(
                audit_finding["check"] for audit_finding in findings
            ).items()
        },
        "counts": {"error": 0, "warning": 0, "info": 0, "excepted": 0, "unknown": 0, "pass": 7, "skip": 2},
        "breaks_at": min(times) if times else None,
        "exceptions": [],
        "incomplete": [],
        "counters": {"a.example.com": 3.0},
        "limits": dict(LIMITS),
        **values,
    }


def failed(code: str = "authentication-failed", **values: Any) -> dict[str, Any]:
    """Return the result of a failed task."""
    return {
        "failed": True,
        "code": code,
        "cause": "it failed",
        "evidence": ["seen"],
        "remedy": "Mend it",
        **values,
    }


def report(results: Mapping[str, Any], made_at: datetime = NOW) -> Report:
    return report_model.build_audit(results, made_at, "1.0.0")


def fleet(clusters: int, findings: int, made_at: datetime = NOW) -> Report:
    """Return the report of a large fleet."""
    checks: Sequence[str] = list(check_table.BY_ID)
    return report(
        {
            f"cluster-{number:04}": result(
                *(
                    finding(checks[audit_finding % len(checks)], name=f"hooks-{audit_finding}", uid=f"u-{number}-{audit_finding}",
                            breaks_at="2026-12-01T00:00:00Z" if audit_finding % 3 else None)
                    for audit_finding in range(findings)
                ),
                uid=f"uid-{number}",
            )
            for number in range(clusters)
        },
        made_at,
    )  # fmt: skip
