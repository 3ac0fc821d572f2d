# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair what an audit of the cluster finds: audit, plan, compare with the approved plan, write, and prove by a second audit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from .._audit import audit_result, gather
from .._audit.checks import renewal_checks
from .._audit.facts.cluster_data import (
    CLIENT_CA,
    EVENTS,
    METRICS,
    NODES,
    POD_CERTIFICATES,
    PODS,
    REQUESTS,
    AuditOptions,
    CallPoint,
    ClusterData,
)
from .._audit.facts.finding import FAIL, PASS, AuditFinding
from .._base.errors import CertflowError
from .._csr.ca_rotation import prints_of
from .._kube.access_review import grant, require
from .._kube.approved_plan import PlanGuard
from .._kube.client import Client
from .._kube.errors import ApiError, KubeError, MissingPermissions
from .._process import interrupt, progress_lines
from .._webhook.bundles.bundle_targets import ADMISSION_KINDS
from . import kinds, named_findings, proof_calls, rotation_repairs
from .proof_calls import CallAnswer
from .repair_model import (
    BY_AUDIT,
    BY_CALL,
    BY_FIELD,
    FAILED,
    OVERWRITTEN,
    PLANNED,
    PUT_BACK,
    REFUSED,
    REPAIRED,
    WRITTEN,
    Action,
    Case,
    Refusal,
    Repair,
    RepairOptions,
    Written,
)
from .surroundings import SurroundingsReader

#: A CA must verify what every endpoint serves, so each of them is read.
MOST_ENDPOINTS = 100
#: The audit does not need them for the checks that repairs answer, unless the row of a kind names them.
_WITHOUT = (METRICS, EVENTS, REQUESTS, POD_CERTIFICATES, PODS, NODES, CLIENT_CA)
#: Seconds between two audits for one proof.
_AGAIN_AFTER = 3.0
#: Seconds within which an API server notices the repair of a webhook that refuses the next writes.
_NOTICED_WITHIN = 10.0
#: The statuses of answers after which it is not known if the write took effect: no whole object, and those of a proxy or a slow etcd.
_UNCERTAIN = (200, 502, 503, 504)
_AUDIT_AGAIN = "Audit the cluster again, and follow the remedy of the finding"


def repair(
    client: Client, options: RepairOptions, guard: PlanGuard
) -> tuple[tuple[Repair, ...], ClusterData]:
    """Repair the findings of the options. Return the outcome of each, or in check mode its plan, and what was read before the writes.

    Raises CertflowError before the first write, KubeError.
    """
    data = _audit(client, options)
    findings = audit_result.find(data)
    _check_sources(data, findings, options)
    client.deadline = time.monotonic() + options.wait_timeout
    repairs = _merged(_planned(client, data, findings, options))
    if options.check_mode or guard.approved is not None:
        # A plan promises only what the API server accepts in a dry run.
        repairs = _carried_out(client, repairs, replace(options, check_mode=True), {})
        due = [(entry.kind, entry.action) for entry in repairs if entry.action and entry.state == PLANNED]
        guard.allow(part for kind, action in due for write in action.writes for part in write.promises(kind))
    if not options.check_mode:
        proof = _Proof(client, options, {}, _faults(findings))
        ends: list[Repair] = []
        # A signal or the task's timeout ends the run without a proof, and the next audit may have no finding that shows the removal.
        with interrupt.clean_up_with(lambda: ends.extend(proof.ended(repairs, proof.proven))):
            repairs = _carried_out(client, repairs, options, proof.written)
            proof.prove(repairs)
        repairs = tuple(ends)
    return repairs, data


def _carried_out(
    client: Client,
    repairs: tuple[Repair, ...],
    options: RepairOptions,
    written: dict[tuple[str, ...], Written],
) -> tuple[Repair, ...]:
    """Carry out the planned actions, in check mode by dry runs. Note each write at once. Return the repairs with the errors."""
    actions = {entry.action.key: entry.action for entry in repairs if entry.action and entry.state == PLANNED}
    failures: dict[tuple[str, ...], tuple[Refusal, str]] = {}
    client.deadline = time.monotonic() + options.wait_timeout  # of all writes together
    # No webhook blocks writes of these kinds, and they may unblock other writes.
    order = sorted(actions.items(), key=lambda pair: pair[1].writes[0].kind not in ADMISSION_KINDS)
    until = 0.0
    for key, action in order:
        before = len(client.written)
        try:
            _carry_out(client, action, options, until, written)
            until = (
                time.monotonic() + _NOTICED_WITHIN
                if action.writes[0].kind in ADMISSION_KINDS and not options.check_mode
                else until
            )
        except CertflowError as error:
            is_answered = isinstance(error, ApiError) and error.status not in _UNCERTAIN
            is_lost = isinstance(error, KubeError) and not (
                is_answered or isinstance(error, MissingPermissions)
            )
            is_unwritten = options.check_mode or (len(client.written) == before and not is_lost)
            failures[key] = (_as_refusal(error), REFUSED if is_unwritten else FAILED)
    return tuple(
        entry.with_refusal(*failures[entry.action.key])
        if entry.action and entry.state == PLANNED and entry.action.key in failures
        else entry
        for entry in repairs
    )


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
            ca_outgoing=options.rotation.outgoing,
            unready=kinds.removes_trust(options.kinds),
        ),
    )


def _check_sources(data: ClusterData, findings: Iterable[AuditFinding], options: RepairOptions) -> None:
    """Raise CertflowError if a source that a kind needs was not read. An incomplete audit cannot prove that nothing is left to do."""
    needed = kinds.sources_of(options.kinds)
    unread = [finding for finding in findings if finding.source in needed]
    if unread:
        remedy = grant("audit") if data.lacking else "Run the repair again when the cluster answers"
        raise CertflowError(
            unread[0].cause,
            code="audit-incomplete",
            evidence=[finding.cause for finding in unread],
            remedy=remedy,
        )
    rotation_repairs.check_options(data, options.rotation)


def _faults(findings: Iterable[AuditFinding]) -> frozenset[tuple[str, str]]:
    """Return check and object of each finding that a repair may answer."""
    return frozenset(
        (entry.check, str(entry.object))
        for entry in findings
        if entry.status == FAIL and entry.check in kinds.CHECKS
    )


def _planned(
    client: Client, data: ClusterData, found: Iterable[AuditFinding], options: RepairOptions
) -> Iterator[Repair]:
    """Yield the plan of each chosen finding, and each named finding that the cluster no longer has."""
    reader = SurroundingsReader(client)
    findings = audit_result.apply_exceptions(found, (), (), data.now)
    failed = {entry.fingerprint(data.cluster_uid): entry for entry in findings if entry.status == FAIL}
    unread = named_findings.unread(findings, data, options.kinds)
    if unread:  # first, because it is the reason why nothing proves that other findings are gone
        yield unread
    yield from (
        named_findings.judge(name, known, findings, data, options)
        for name, known in (options.findings or {}).items()
        if name not in failed
    )
    waiting: set[str] = set()
    for name, finding in failed.items():
        if finding.exception if options.findings is None else name not in options.findings:
            continue
        blank = Repair(name, finding.check, finding.object.as_result())
        wanted = [row for row in kinds.kinds_for(finding.check) if row.name in options.kinds]
        waits = [(row.name, row.wait(data, options.rotation)) for row in wanted]
        kind, refusal = next((wait for wait in waits if wait[1]), ("", None))
        if refusal is None:
            yield from _planned_finding(reader, data, options, finding, wanted=wanted, blank=blank)
        elif kind not in waiting:
            waiting.add(kind)
            yield replace(blank, kind=kind).with_refusal(refusal)


def _planned_finding(
    reader: SurroundingsReader,
    data: ClusterData,
    options: RepairOptions,
    finding: AuditFinding,
    *,
    wanted: Sequence[kinds.RepairKind],
    blank: Repair,
) -> Iterator[Repair]:
    """Yield the plan of one finding, for each object that it is about. What no kind repairs is listed only if the user named it.

    wanted: the kinds of the task that answer its check.
    """
    own = data.points_about(finding)
    points = own if wanted else []
    blank = replace(blank, kind=wanted[0].name if wanted else "")
    for point in points:
        place = replace(blank, object=point.object.as_result())
        try:
            around = reader.read(data, point)
        except CertflowError as error:
            # Another client has deleted the object, or this identity may not read it.
            yield place.with_refusal(_as_refusal(error))
            continue
        planned = _plan(place, wanted, Case(finding, point, data, around, options))
        if planned or options.findings is not None:
            secrets = [secret.name for secret in around.secrets if secret.certificate]
            yield planned or place.with_refusal(_no_kind(finding, point, secrets))
    if not points and options.findings is not None:
        yield blank.with_refusal(_no_kind(finding, own[0] if own else None))


def _no_kind(finding: AuditFinding, point: CallPoint | None, secrets: Sequence[str] = ()) -> Refusal:
    """Return the refusal of a finding that no kind of the task repairs. secrets: the certificates that the pods mount."""
    names = ", ".join(row.name for row in kinds.kinds_for(finding.check))
    remedy = "Follow the remedy of the finding"
    if finding.check in renewal_checks.ENDS and point and point.config.service:
        name = secrets[0] if len(secrets) == 1 else "NAME"
        remedy = f"If no program renews the certificate, issue it: {renewal_checks.issue_task(point, name)}"
    elif names:
        remedy = f"Add a kind for this check to the kinds of the task ({names}), or follow the remedy of the finding"
    return Refusal("not-repairable", "no kind of the task repairs this fault", remedy)


def _as_refusal(error: CertflowError) -> Refusal:
    remedy = grant("repair") if isinstance(error, MissingPermissions) else error.remedy
    return Refusal(error.code, error.cause, remedy, tuple(error.evidence))


def _plan(blank: Repair, rows: Sequence[kinds.RepairKind], case: Case) -> Repair | None:
    """Return the plan of the first kind that can act, or the first refusal. None if no kind fits the fault."""
    refused = None
    for row in rows:
        outcome = row.plan(case)
        if outcome is not None and not isinstance(outcome, Refusal):
            return replace(blank, kind=row.name, action=outcome, evidence=outcome.notes)
        if outcome is not None and refused is None:
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


def _carry_out(
    client: Client,
    action: Action,
    options: RepairOptions,
    until: float,
    written: dict[tuple[str, ...], Written],
) -> None:
    """Carry out an action, and note its write. Repeat it until this time after an internal error, which is also that of a webhook that fails."""
    # A webhook that does not answer may block the access review. The error of the write shows more.
    with contextlib.suppress(ApiError):
        require(client, action.permissions, "repair")
    while True:
        try:
            with interrupt.shield():
                written[action.key] = action.carry_out(client, options)
            return
        except ApiError as error:
            if error.status != 500 or time.monotonic() >= until:
                raise
        time.sleep(_AGAIN_AFTER)


def _place(subject: Mapping[str, str]) -> tuple[str, ...]:
    return (subject["kind"], subject["namespace"], subject["name"], subject["webhook"])


def _key(entry: Repair) -> tuple[str, ...]:
    return (entry.finding, *_place(entry.object))


def _finding_key(finding: AuditFinding, cluster_uid: str) -> tuple[str, ...]:
    """Return the key of the repair of a finding, as `_key` does."""
    return (finding.fingerprint(cluster_uid), *_place(finding.object.as_result()))


def _is_settled(
    entry: Repair, data: ClusterData, sound: Sequence[CallPoint], failing: Mapping[str, AuditFinding]
) -> bool:
    """Return True if a finding about several objects no longer lists the object of this repair.

    sound: the call points without a new fault. failing: the findings whose check fails now, by their fingerprints.
    """
    place = _place(entry.object)
    points = [point for point in sound if _place(point.object.as_result()) == place]
    if not points:
        return False
    if entry.check == "ca-left":
        # The CA that the user named is no longer in the caBundle, whatever else the check finds about it.
        return any(data.ca_outgoing.isdisjoint(prints_of(point.config.ca_bundle)) for point in points)
    finding = failing.get(entry.finding)
    if finding is None:
        return False
    listed = {_place(point.object.as_result()) for point in data.points_about(finding)}
    return place not in listed


def _kept_state(entry: Repair) -> str:
    """Return the state of a write that stays without a proof."""
    return WRITTEN if kinds.KINDS[entry.kind].unproven == WRITTEN else FAILED


@dataclass
class _Proof:
    """The proof of the writes: the same checks pass after a new read, while the fields still have the written values.

    The API server must not refuse the certificate of a webhook that it can be made to call.
    """

    client: Client
    options: RepairOptions
    written: dict[tuple[str, ...], Written]
    #: Check and object of each fault before the writes.
    faults: frozenset[tuple[str, str]]
    #: Kind, namespace, name and webhook of an object -> the answer to the last call.
    answers: dict[tuple[str, ...], CallAnswer] = field(default_factory=dict)
    #: The keys of the repairs that are proven, if their fields still have the written values at the end.
    proven: set[tuple[str, ...]] = field(default_factory=set)
    #: Why no audit showed the cluster after the writes.
    lost: KubeError | None = None

    def prove(self, repairs: tuple[Repair, ...]) -> None:
        """Audit until the audit proves all of the repairs, or cannot show more.

        What an audit proved stays proven if the next one fails, or if a signal ends the proof.
        """
        due = [entry for entry in repairs if self._written(entry)]
        by_field = {_key(entry) for entry in due if kinds.KINDS[entry.kind].is_proven_by_field}
        self.proven = by_field
        due = [entry for entry in due if _key(entry) not in by_field]
        if not due:
            return
        words = (
            f"Wait {self.options.proof_after} s, because another writer may change the repaired objects again"
        )
        progress_lines.start_progress().print_line(words)
        time.sleep(self.options.proof_after)
        until = time.monotonic() + self.options.wait_timeout
        while True:
            try:
                data = _audit(self.client, self.options)
                failed, passed = self._judged(data, due)
                self.proven = by_field | self._answered(data, due, passed)
                if time.monotonic() >= until or not any(
                    self._may_pass(entry, failed, passed) for entry in due if _key(entry) not in self.proven
                ):
                    return
            except KubeError as error:
                # The API server may start again. Until then it may also refuse what this identity is permitted.
                if time.monotonic() >= until:
                    self.lost = error
                    return
            time.sleep(_AGAIN_AFTER)

    def _may_pass(self, entry: Repair, failed: Set[tuple[str, ...]], passed: Set[tuple[str, ...]]) -> bool:
        """Return True if a later audit may prove a repair. An addition about which the audit shows nothing is not waited for."""
        is_unseen = _key(entry) not in failed | passed and kinds.KINDS[entry.kind].unproven == WRITTEN
        written = self._written(entry)
        return (
            not is_unseen
            and written is not None
            and not written.find_overwriter(self.client, entry.object["webhook"])
        )

    def _judged(
        self, data: ClusterData, due: Sequence[Repair]
    ) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
        """Return the keys of the findings whose check fails now, and of those whose check passes.

        A finding about several objects is settled for a repaired object that it no longer lists, and that has no new fault.
        """
        findings = audit_result.find(data)
        uid = data.cluster_uid
        failed = {_finding_key(entry, uid) for entry in findings if entry.status == FAIL}
        passed = {_finding_key(entry, uid) for entry in findings if entry.status == PASS}
        failing = {
            entry.fingerprint(uid): entry
            for entry in findings
            if entry.status == FAIL and entry.check in kinds.CHECKS
        }
        broken = {name for _check, name in _faults(findings) - self.faults}
        sound = [point for point in data.points if str(point.object) not in broken]
        settled = {_key(entry) for entry in due if _is_settled(entry, data, sound, failing)}
        return failed, passed - failed | settled

    def _answered(
        self, data: ClusterData, due: Sequence[Repair], proven: set[tuple[str, ...]]
    ) -> set[tuple[str, ...]]:
        """Return the proven keys without those of webhooks whose certificate the API server refuses."""
        points = {_place(point.object.as_result()): point for point in data.points}
        places = {key[1:] for key in proven.intersection(map(_key, due))}
        for place in sorted(places & points.keys()):
            known = self.answers.get(place)
            if known is None or known.is_answered is False:
                self.answers[place] = proof_calls.probe(self.client, data, points[place])
        refused = {place for place, answer in self.answers.items() if answer.is_answered is False}
        return {key for key in proven if key[1:] not in refused}

    def _written(self, entry: Repair) -> Written | None:
        return self.written.get(entry.action.key) if entry.action else None

    def ended(self, repairs: tuple[Repair, ...], proven: Collection[tuple[str, ...]]) -> tuple[Repair, ...]:
        """Return the outcomes of the repairs. Restore each field without a proven repair, with one write for each object."""
        groups: dict[tuple[str, ...], list[Repair]] = {key: [] for key in self.written}
        for entry in repairs:
            if self._written(entry) and entry.action:
                groups[entry.action.key].append(entry)
        ends: dict[int, Repair] = {}
        # The proof may have used all of its time. This is the time of all that follows.
        self.client.deadline = time.monotonic() + self.options.wait_timeout
        for key, group in groups.items():
            try:
                ends.update(self._ends(self.written[key], group, proven))
            except KubeError as error:
                words = f"the repair wrote its change, and the proof failed: {error.cause}"
                refusal = Refusal(error.code, words, "Run the repair again")
                ends.update((id(entry), entry.with_refusal(refusal, _kept_state(entry))) for entry in group)
        return tuple(ends.get(id(entry), entry) for entry in repairs)

    def _ends(
        self, written: Written, group: Sequence[Repair], proven: Collection[tuple[str, ...]]
    ) -> Iterator[tuple[int, Repair]]:
        """Yield the id and the outcome of each repair of one object."""
        overwriters = {
            webhook: written.find_overwriter(self.client, webhook)
            for webhook in dict.fromkeys(entry.object["webhook"] for entry in group)
        }
        good = [entry for entry in group if _key(entry) in proven]
        kept = {entry.object["webhook"] for entry in good}
        lost = {
            entry.object["webhook"]
            for entry in group
            if kinds.KINDS[entry.kind].unproven == PUT_BACK and not overwriters[entry.object["webhook"]]
        } - kept
        is_put_back = bool(lost) and written.put_back(self.client, lost)
        for entry in group:
            by = overwriters[entry.object["webhook"]]
            if by:
                refusal = Refusal(
                    "overwritten-by",
                    f"{by} has replaced what the repair wrote",
                    "Repair the object with this program, because it would replace the value again",
                )
                yield id(entry), entry.with_refusal(refusal, OVERWRITTEN)
            elif entry in good:
                yield id(entry), self._repaired(entry)
            else:
                is_restored = is_put_back and entry.object["webhook"] in lost
                state = PUT_BACK if is_restored else _kept_state(entry)
                yield id(entry), entry.with_refusal(self._unproven(entry, state, kept), state)

    def _repaired(self, entry: Repair) -> Repair:
        if kinds.KINDS[entry.kind].is_proven_by_field:
            return replace(entry, state=REPAIRED, proof=BY_FIELD)
        answer = self.answers.get(_place(entry.object), CallAnswer(None, ()))
        proof = BY_CALL if answer.is_answered else BY_AUDIT
        return replace(entry, state=REPAIRED, proof=proof, evidence=(*entry.evidence, *answer.evidence))

    def _unproven(self, entry: Repair, state: str, kept: Collection[str]) -> Refusal:
        """Return why a write is not proven, and what became of it. kept: the webhooks with a repair that is proven."""
        answer = self.answers.get(_place(entry.object))
        is_refused = answer is not None and answer.is_answered is False
        fault = (
            "the API server refused the webhook"
            if is_refused
            else "the audit did not see that the fault is gone"
        )
        fault += f" ({self.lost.cause})" if self.lost else ""
        other = "Another client may have changed the object since"
        if kinds.KINDS[entry.kind].unproven == FAILED:
            other = "A restart cannot be undone"
        elif entry.object["webhook"] in kept:
            other = "The same write repaired another finding"
        ends = {
            PUT_BACK: "the earlier value was restored",
            WRITTEN: "the CA stays in the caBundle, because it breaks nothing",
        }
        end = ends.get(state, f"the earlier value was not restored. {other}")
        return Refusal(
            "unproven", f"{fault} after the write, and {end}", _AUDIT_AGAIN, answer.evidence if answer else ()
        )
