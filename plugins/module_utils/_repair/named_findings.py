# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge a named finding that the audit no longer has: it is gone, or the fault is still there under another fingerprint. Pure.

A fingerprint has the UIDs of the object and of the cluster. An object that was created again has another fingerprint. If the identity
cannot read the UID of the cluster, every object has another one. So a finding is gone only if its check passes for the same kind,
namespace and name, or if the object does not exist. The audit of a repair lists every object only of the kinds with a caBundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._audit import audit_result
from .._audit.facts.cluster_data import ClusterData
from .._audit.facts.finding import CLUSTER, FAIL, PASS, SKIP, AuditedObject, AuditFinding
from .._kube.access_review import grant
from .._webhook.bundles import bundle_targets
from . import kinds
from .repair_model import GONE, Refusal, Repair, RepairOptions

_AUDIT = "Audit the cluster, and run the repair with the new findings"
#: What to do about a cause for which the audit has no answer. Another audit would not change it.
CORRECT = "Correct this cause, for example with probe_urls: true, and run the repair again"
_RECREATED = Refusal(
    "recreated",
    "the check still finds the fault, and the object or the cluster has another UID than in the finding, so the object may have been"
    " created again since the audit",
    _AUDIT,
)
_UNPROVEN = Refusal(
    "not-proven",
    "the audit of this run neither confirmed this finding nor showed that the fault is gone",
    _AUDIT,
)
_NAMELESS = Refusal(
    "not-proven",
    "the audit of this run did not confirm this finding, and without its object no check can prove that the fault is gone",
    "Set findings to the findings of audit_info, which have their objects",
)


def judge(
    fingerprint: str,
    known: Mapping[str, Any],
    findings: Sequence[AuditFinding],
    data: ClusterData,
    options: RepairOptions,
) -> Repair:
    """Return the outcome of a named finding that no failed finding of the audit has.

    known: the finding as the user gave it, {} for a fingerprint.
    """
    named, wanted = options.findings or {}, options.kinds
    check, given = str(known.get("check") or ""), known.get("object") or {}
    subject = {key: str(given.get(key, "")) for key in CLUSTER.as_result()}
    kind = (
        next((row.name for row in kinds.kinds_for(check) if row.name in wanted), "") if check else wanted[0]
    )
    repair = Repair(fingerprint, check, subject, kind=kind)
    if not check or not subject["kind"]:
        return repair.with_refusal(_NAMELESS)
    place = subject["kind"], subject["namespace"], subject["name"]
    own = [
        entry for entry in findings if (entry.object.kind, entry.object.namespace, entry.object.name) == place
    ]
    is_listed = subject["kind"] in bundle_targets.KINDS and not audit_result.find_incomplete(findings)
    if not own and is_listed:
        return replace(repair, state=GONE)
    # The other webhooks answer for one that is no longer there, and for the object itself, never for one that is there.
    is_there = bool(subject["webhook"]) and any(entry.object.webhook == subject["webhook"] for entry in own)
    own = [entry for entry in own if entry.check == check]
    own = [entry for entry in own if entry.object.webhook == subject["webhook"]] or ([] if is_there else own)
    failed = [entry.fingerprint(data.cluster_uid) for entry in own if entry.status == FAIL]
    if any(entry not in named for entry in failed):
        return repair.with_refusal(_RECREATED)
    # A named finding of the same check about the same object has its own outcome.
    is_gone = bool(failed) or any(map(_is_passed, own))
    return (
        replace(repair, state=GONE) if is_gone else repair.with_refusal(_unproven(check, subject, findings))
    )


def _unproven(check: str, subject: Mapping[str, str], findings: Sequence[AuditFinding]) -> Refusal:
    """Return the refusal of a finding whose check did not pass, with the reason why the check has no answer for the object."""
    place = AuditedObject(
        subject["kind"], subject["name"], namespace=subject["namespace"], webhook=subject["webhook"]
    )
    cause = next(
        (entry.cause for entry in findings if check in entry.unanswered and str(place) in entry.objects), ""
    )
    return replace(_UNPROVEN, reason=f"{_UNPROVEN.reason}. {cause}", remedy=CORRECT) if cause else _UNPROVEN


def _is_passed(finding: AuditFinding) -> bool:
    """Return True if the check passed, or does not apply to the cluster. A check that was left out has the source as its detail."""
    is_over = finding.status == SKIP and finding.object == CLUSTER and not finding.detail
    return finding.status == PASS or is_over


def unread(findings: Sequence[AuditFinding], data: ClusterData, wanted: Sequence[str]) -> Repair | None:
    """Return what is left because the audit could not read the webhooks and Services of the cluster, None if it read them."""
    sources = audit_result.find_incomplete(findings)
    if not sources:
        return None
    cause = next(finding.cause for finding in findings if finding.source == sources[0])
    remedy = grant("audit") if data.lacking else "Run the repair again when the cluster answers"
    return Repair("", "unreadable", CLUSTER.as_result(), kind=wanted[0]).with_refusal(
        Refusal("audit-incomplete", cause, remedy)
    )
