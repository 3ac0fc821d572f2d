# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair what an audit of the cluster finds: audit, plan, compare with the approved plan, write, and prove by a second audit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._audit import audit_result, exceptions, gather
from .._audit.facts.cluster_data import (
    CLIENT_CA,
    CLUSTER_INFO,
    EVENTS,
    METRICS,
    NODES,
    POD_CERTIFICATES,
    PODS,
    REQUESTS,
    AuditOptions,
    ClusterData,
)
from .._audit.facts.finding import FAIL, PASS, AuditedObject
from .._consent import OTHER_CONTENT
from .._errors import CertflowError
from .._kube.access_review import remedy, require
from .._kube.errors import ApiError, KubeError, MissingPermissions
from . import kinds, rotation_repairs
from .repair_model import (
    FAILED,
    GONE,
    OVERWRITTEN,
    PUT_BACK,
    REFUSED,
    REPAIRED,
    Action,
    Case,
    Refusal,
    Repair,
    RepairOptions,
    Written,
)
from .surroundings import SurroundingsReader

if TYPE_CHECKING:
    from .._approved_plan import PlanGuard
    from .._audit.facts.finding import AuditFinding
    from .._kube.client import Client

#: A CA must verify what every endpoint serves, so each of them is read.
MOST_ENDPOINTS = 100
#: The audit does not need them for the checks that repairs answer, unless the row of a kind names them.
_WITHOUT = (METRICS, EVENTS, REQUESTS, POD_CERTIFICATES, PODS, NODES, CLIENT_CA, CLUSTER_INFO)
#: Why a finding has no plan -> the next action of the user.
_REMEDIES = {
    "kind-not-named": "Add the kind to the kinds of the task, or follow the remedy of the finding",
    "not-repairable": "Follow the remedy of the finding",
}
#: Seconds between two audits for one proof.
_AGAIN_AFTER = 3.0
#: The API server calls no webhook for these kinds. So no webhook blocks their repair, and their repair may unblock other repairs.
_FIRST = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


_AUDIT_AGAIN = "Audit the cluster again, and follow the remedy of the finding"


class IncompleteAudit(CertflowError):
    """The audit could not read a part of the cluster that the repair needs."""

    code = "audit-incomplete"


def repair(client: Client, options: RepairOptions, guard: PlanGuard) -> tuple[Repair, ...]:
    """Repair the findings of the options. Return the outcome of each, or in check mode its plan.

    Raises PlanDiffersError before the first write, IncompleteAudit, KubeError.
    """
    data = _audit(client, options)
    _check_sources(data, options)
    repairs = _merged(_planned(client, data, options))
    actions = {entry.action.key: (entry.action, entry) for entry in repairs if entry.action}
    guard.allow(write.promise(entry.kind) for action, entry in actions.values() for write in action.writes)
    written: dict[tuple[str, ...], Written] = {}
    failures: dict[tuple[str, ...], tuple[str, Refusal]] = {}
    for action, _entry in sorted(actions.values(), key=lambda pair: pair[1].object["kind"] not in _FIRST):
        key, before = action.key, len(client.written)
        client.deadline = time.monotonic() + options.wait_timeout
        try:
            written[key] = _carry_out(client, action, options, guard)
        except CertflowError as error:
            is_lost = isinstance(error, KubeError) and not isinstance(error, (ApiError, MissingPermissions))
            is_unwritten = options.check_mode or (len(client.written) == before and not is_lost)
            failures[key] = (REFUSED if is_unwritten else FAILED, _as_refusal(error))
    repairs = tuple(
        entry.with_refusal(failures[entry.action.key][1], failures[entry.action.key][0])
        if entry.action and entry.action.key in failures
        else entry
        for entry in repairs
    )
    if options.check_mode or not written:
        return repairs
    return _Proof(client, options, written, _faults(audit_result.find(data))).prove(repairs)


def _audit(client: Client, options: RepairOptions) -> ClusterData:
    client.deadline = time.monotonic() + options.wait_timeout
    needed = kinds.sources_of(options.kinds)
    return gather.gather(
        client,
        AuditOptions(
            probe_urls=options.probe_urls,
            endpoints_per_service=MOST_ENDPOINTS,
            without=tuple(source for source in _WITHOUT if source not in needed),
            eks_cas=options.rotation.eks_cas,
            ca_successor=options.rotation.successor,
        ),
    )


def _check_sources(data: ClusterData, options: RepairOptions) -> None:
    """Raise IncompleteAudit if a source that a kind needs was not read. An incomplete audit cannot prove that nothing is left to do."""
    needed = kinds.sources_of(options.kinds)
    gaps = [gap for gap in data.gaps if gap.source in needed]
    if gaps:
        raise IncompleteAudit(
            f"the audit could not read {gaps[0].source}: {gaps[0].reason}",
            evidence=[f"{gap.source}: {gap.reason}" for gap in gaps],
            remedy=remedy(data.lacking) if data.lacking else "Run the repair again when the cluster answers",
        )
    rotation_repairs.check_successor(data, options.rotation)


def _faults(findings: Iterable[AuditFinding]) -> frozenset[tuple[str, str]]:
    """Return check and object of each finding that a repair may answer."""
    return frozenset(
        (entry.check, str(entry.object))
        for entry in findings
        if entry.status == FAIL and entry.check in kinds.CHECKS
    )


def _planned(client: Client, data: ClusterData, options: RepairOptions) -> Iterator[Repair]:
    """Yield the plan of each chosen finding, and each named finding that the cluster no longer has."""
    named = options.consent.names_of(OTHER_CONTENT, "Secret")
    reader = SurroundingsReader(client, named)
    findings = exceptions.apply(audit_result.find(data), (), (), data.now)
    failed = {entry.fingerprint(data.cluster_uid): entry for entry in findings if entry.status == FAIL}
    waiting: set[str] = set()
    for name, known in (options.findings or {}).items():
        if name not in failed:
            subject = {
                key: str(known.get("object", {}).get(key, "")) for key in AuditedObject("", "").as_result()
            }
            yield Repair(name, str(known.get("check") or ""), subject, state=GONE)
    for name, finding in failed.items():
        is_named = options.findings is not None and name in options.findings
        if not is_named and (options.findings is not None or finding.exception):
            continue
        blank = Repair(name, finding.check, finding.object.as_result())
        wait = next(_waits(finding, data, options), None)
        if wait is None:
            yield from _planned_finding(reader, data, options, (finding, blank, is_named))
        elif wait[0] not in waiting:
            waiting.add(wait[0])
            yield replace(blank, kind=wait[0]).with_refusal(wait[1])


def _planned_finding(
    reader: SurroundingsReader,
    data: ClusterData,
    options: RepairOptions,
    chosen: tuple[AuditFinding, Repair, bool],
) -> Iterator[Repair]:
    """Yield the plan of one finding, for each object that it is about. chosen: with its blank repair, and if the user named it."""
    finding, blank, is_named = chosen
    points = [point for point in data.points if finding.is_about(point.object)]
    rows = kinds.kinds_for(finding.check) if points else ()
    wanted = [row for row in rows if row.name in options.kinds]
    if not wanted:
        code = "kind-not-named" if rows else "not-repairable"
        names = ", ".join(row.name for row in rows) or "no kind"
        if is_named:
            yield blank.with_refusal(Refusal(code, f"{names} repairs this finding", _REMEDIES[code]))
        return
    for point in points:
        place = replace(blank, object=point.object.as_result())
        try:
            around = reader.read(data, point)
        except CertflowError as error:
            # Another client has deleted the object, or this identity may not read it.
            yield place.with_refusal(_as_refusal(error))
            continue
        planned = _plan(place, wanted, Case(finding, point, data, around, options))
        if planned.code != "not-repairable" or is_named:
            yield planned


def _waits(finding: AuditFinding, data: ClusterData, options: RepairOptions) -> Iterator[tuple[str, Refusal]]:
    """Yield the name of each wanted kind that waits in the whole cluster, and what it waits for."""
    for row in kinds.kinds_for(finding.check):
        refusal = row.wait(data, options.rotation) if row.name in options.kinds else None
        if refusal:
            yield row.name, refusal


def _as_refusal(error: CertflowError) -> Refusal:
    return Refusal(error.code, error.cause, error.remedy, tuple(error.evidence))


def _plan(blank: Repair, rows: Sequence[kinds.RepairKind], case: Case) -> Repair:
    """Return the plan of the first kind that can act, or the first refusal."""
    refused = blank.with_refusal(
        Refusal("not-repairable", "no named kind repairs this fault", _REMEDIES["not-repairable"])
    )
    for row in rows:
        outcome = row.plan(case)
        if outcome is None:
            continue
        if not isinstance(outcome, Refusal):
            return replace(blank, kind=row.name, action=outcome)
        if not refused.kind:
            refused = replace(blank, kind=row.name).with_refusal(outcome)
    return refused


def _merged(repairs: Iterable[Repair]) -> tuple[Repair, ...]:
    """Return the repairs with one action for each object."""
    listed = list(repairs)
    actions: dict[tuple[str, ...], Action] = {}
    for action in (entry.action for entry in listed if entry.action):
        actions[action.key] = actions[action.key].merged(action) if action.key in actions else action
    return tuple(
        replace(entry, action=actions[entry.action.key]) if entry.action else entry for entry in listed
    )


def _carry_out(client: Client, action: Action, options: RepairOptions, guard: PlanGuard) -> Written:
    # A webhook that does not answer may block the access review. The error of the write shows more.
    with contextlib.suppress(ApiError):
        require(client, action.permissions, "repair")
    return action.carry_out(client, options, guard)


def _key(finding: str, place: Mapping[str, str]) -> tuple[str, ...]:
    return (finding, place["kind"], place["namespace"], place["name"], place["webhook"])


@dataclass
class _Proof:
    """The proof of the writes: the same checks pass after a new read, while the fields still have the written values."""

    client: Client
    options: RepairOptions
    written: dict[tuple[str, ...], Written]
    #: Check and object of each fault before the writes.
    faults: frozenset[tuple[str, str]]

    def prove(self, repairs: tuple[Repair, ...]) -> tuple[Repair, ...]:
        time.sleep(self.options.proof_after)
        try:
            return self._proved(repairs)
        except KubeError as error:
            refusal = Refusal(
                error.code,
                f"the repair wrote its change, and the proof failed: {error.cause}",
                "Run the repair again",
            )
            return tuple(
                entry.with_refusal(refusal, FAILED) if self._written(entry) else entry for entry in repairs
            )

    def _proved(self, repairs: tuple[Repair, ...]) -> tuple[Repair, ...]:
        until = time.monotonic() + self.options.wait_timeout
        while True:
            proven = self._proven(_audit(self.client, self.options))
            unproven = [
                written
                for entry in repairs
                if _key(entry.finding, entry.object) not in proven and (written := self._written(entry))
            ]
            if time.monotonic() >= until or all(map(self._overwriter, unproven)):
                break
            time.sleep(_AGAIN_AFTER)
        return self.ended(repairs, proven)

    def _proven(self, data: ClusterData) -> set[tuple[str, ...]]:
        """Return the keys of the findings whose check passes now.

        A finding about several objects is settled for an object that it no longer lists, and that has no new fault.
        """
        findings = audit_result.find(data)
        failed, passed = (
            {
                _key(entry.fingerprint(data.cluster_uid), entry.object.as_result())
                for entry in findings
                if entry.status == status
            }
            for status in (FAIL, PASS)
        )
        broken = {name for _check, name in _faults(findings) - self.faults}
        settled = {
            _key(entry.fingerprint(data.cluster_uid), point.object.as_result())
            for entry in findings
            if entry.status == FAIL and entry.check in kinds.CHECKS
            for point in data.points
            if not entry.is_about(point.object) and str(point.object) not in broken
        }
        return passed - failed | settled

    def _written(self, entry: Repair) -> Written | None:
        return self.written.get(entry.action.key) if entry.action else None

    def _overwriter(self, written: Written) -> str:
        return written.find_overwriter(self.client)

    def ended(self, repairs: tuple[Repair, ...], proven: Collection[tuple[str, ...]]) -> tuple[Repair, ...]:
        """Return the outcomes of the repairs. Restore each field without a proven repair, with one write for each object."""
        groups: dict[tuple[str, ...], list[Repair]] = {key: [] for key in self.written}
        for entry in repairs:
            if self._written(entry) and entry.action:
                groups[entry.action.key].append(entry)
        ends: dict[int, Repair] = {}
        for key, group in groups.items():
            ends.update(self._ends(self.written[key], group, proven))
        return tuple(ends.get(id(entry), entry) for entry in repairs)

    def _ends(
        self, written: Written, group: Sequence[Repair], proven: Collection[tuple[str, ...]]
    ) -> Iterator[tuple[int, Repair]]:
        """Yield the id and the outcome of each repair of one object."""
        by = self._overwriter(written)
        good = [entry for entry in group if _key(entry.finding, entry.object) in proven]
        kept = {entry.object["webhook"] for entry in good}
        lost = {entry.object["webhook"] for entry in group} - kept
        is_put_back = bool(lost) and not by and written.put_back(self.client, lost)
        for entry in group:
            if by:
                refusal = Refusal(
                    "overwritten-by",
                    f"{by} has replaced what the repair wrote",
                    "Repair the object with this program",
                )
                yield id(entry), entry.with_refusal(refusal, OVERWRITTEN)
            elif entry in good:
                yield id(entry), replace(entry, state=REPAIRED)
            elif is_put_back and entry.object["webhook"] in lost:
                reason = "the finding was still present after the write, so the earlier value was restored"
                yield id(entry), entry.with_refusal(Refusal("unproven", reason, _AUDIT_AGAIN), PUT_BACK)
            else:
                yield id(entry), entry.with_refusal(_not_put_back(entry, kept), FAILED)


def _not_put_back(entry: Repair, kept: Collection[str]) -> Refusal:
    other = "Another client may have changed the object since"
    if entry.object["webhook"] in kept:
        other = "The same write repaired another finding"
    why = kinds.KINDS[entry.kind].final or other
    reason = f"the finding is still present after the write, and the earlier value was not restored. {why}"
    return Refusal("unproven", reason, _AUDIT_AGAIN)
