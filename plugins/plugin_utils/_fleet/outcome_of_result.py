# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The outcome of a cluster in the report of a fleet run, from the result of its operation. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...module_utils._audit.facts.cluster_data import PRINT_ROOT_CA, ROOT_CA
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.result import make_left
from ...module_utils._base.text import plural, some
from ...module_utils._csr import ca_rotation
from ...module_utils._repair import repair_model
from ...module_utils._repair.repair_model import REFUSED, WAITING
from ...module_utils._snapshot.release import release_table
from .._report import report_model
from .._report.report_schema import CHANGED, DRIFT, LEFT, OK, PLANNED
from . import plan
from .run_state import UNTOUCHED

if TYPE_CHECKING:  # only a run with exceptions loads the checks
    from ...module_utils._audit.audit_result import AuditException

#: The key of a result and of the report with the repair of each finding.
REPAIRS = "repairs"
AUDIT_AGAIN = "Audit the cluster again until the audit is complete, and run the repair with the new report"
#: The state of the rotation of the cluster's CA -> why a phase has nothing to do.
_NOTHING_TO_DO = {
    ca_rotation.NO_SUCCESSOR: "no successor of the cluster's CA is published",
    ca_rotation.UNKNOWN: "it is not known which CA of the cluster is in use",
}
_KUBECONFIG = f"The kubeconfig of this run needs the CAs that {PRINT_ROOT_CA} prints"
#: The order of repairs in a report.
_STATES = (
    *sorted(repair_model.BAD_STATES), repair_model.REPAIRED, repair_model.PLANNED, repair_model.WRITTEN, WAITING, REFUSED,
    repair_model.GONE,
)  # fmt: skip


@dataclass(frozen=True)
class OperationRun:
    """A run of an operation on one cluster that succeeded."""

    #: The result of the module.
    result: Mapping[str, Any]
    #: True if the run changed something, or in a run that writes nothing would change something.
    is_changed: bool
    #: True if the run wrote nothing.
    is_planned: bool
    #: True if a cluster that would change is a failure.
    fails_on_change: bool = False
    #: What the audit of certflow_findings did not read, "" if it was complete.
    unread: str = ""
    #: The exceptions that hold for the cluster.
    exceptions: Sequence[AuditException] = ()

    @cached_property
    def repairs(self) -> list[Mapping[str, Any]]:
        """Return the repairs. Those that an exception accepts have its reason and its end."""
        return [self._applied(repair) for repair in self.result.get(REPAIRS) or ()]

    def _applied(self, repair: Mapping[str, Any]) -> Mapping[str, Any]:
        applied = (entry.apply(repair["check"], repair["object"]) for entry in self.exceptions)
        accepted = next(filter(None, applied), None) if is_left(repair) else None
        return {**repair, "excepted": accepted.as_result()} if accepted else repair

    @cached_property
    def left(self) -> dict[str, Any]:
        """Return what is left: the number, the first object, and the number of accepted objects. {} if the result does not tell."""
        if REPAIRS not in self.result:
            known = self.result.get("left")
            return {**known, "excepted": 0} if known else {}
        rows = [repair for repair in self.repairs if is_left(repair)]
        if self.unread:
            rows.append(
                {
                    "object": {"kind": "Cluster"},
                    "code": "audit-incomplete",
                    "reason": self.unread,
                    "remedy": AUDIT_AGAIN,
                }
            )
        excepted = sum(bool(repair.get("excepted")) for repair in self.repairs)
        return {**make_left(len(rows), rows[0] if rows else {}), "excepted": excepted}


def outcome(describe: Callable[[OperationRun], dict[str, Any]], run: OperationRun) -> dict[str, Any]:
    """Return the outcome of a cluster: its status, code and reason, and further fields of the report.

    describe: returns the reason and the further fields.
    """
    fields: dict[str, Any] = {"status": OK, "code": "", **describe(run)}
    left = run.left
    if left:
        fields["left"] = left
    if left.get("count"):
        first, reason = left["first"], fields["reason"]
        why = (
            "" if first["reason"] in reason else f"{report_model.place(first['object'])}: {first['reason']}. "
        )
        number = "" if run.is_planned else f"{left['count']} left. "
        fields["reason"] = f"{number}{why}{reason}"
        if first["remedy"] not in fields["reason"]:
            fields["remedy"] = first["remedy"]
    if run.is_planned and fields["status"] == OK:
        fields["status"] = PLANNED
    elif left.get("count") and not run.is_planned:
        fields |= {"status": LEFT, "code": left["first"]["code"]}
        if not run.is_changed:
            fields[UNTOUCHED] = True  # such a canary has not shown that the change works
    elif run.is_changed:
        fields["status"] = CHANGED
    if run.is_planned and run.is_changed and run.fails_on_change:
        error = CertflowError(
            f"{fields['reason']}. This is a failure because of certflow_fail_on_change",
            code="drift",
            remedy="Run the playbook without --check and certflow_fail_on_change to change the cluster",
        )
        fields |= {"status": DRIFT, "code": error.code, "reason": error.cause, "remedy": error.remedy}
    return fields


def details(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the report that a result has in every case, also after a failure."""
    steps = [
        step for step in result.get("steps") or () if isinstance(step, Mapping) and not step.get("undoes")
    ]
    due = result.get("due") or ()
    # A plan has no steps that were carried out, but steps that are due. Their titles are for the summary.
    planned = [{**step, "changed": True} for step in result.get("plan") or () if step.get("id") in due]
    shown = [
        {key: step[key] for key in ("id", "hop", "changed", *(() if steps else ("title",))) if key in step}
        for step in steps or planned
    ]
    repairs = sorted(_of_kinds(result.get(REPAIRS) or ()), key=lambda repair: _STATES.index(repair["state"]))
    whole = {plan.DIGESTS: result.get(plan.DIGESTS), REPAIRS: repairs, "steps": shown}
    return {key: value for key, value in whole.items() if value}


def describe_certificate(run: OperationRun) -> dict[str, Any]:
    """Return the reason and the fields of a run of k8s_csr."""
    result = run.result
    secret = result.get("secret") or {}
    not_after, days = result.get("not_after"), result.get("days_left")
    signer = result.get("signer") or ""
    provider = (result.get("provider") or {}).get("name") or ""
    facts = []
    if not_after:
        facts.append(f"valid until {str(not_after)[:10]} ({plural(days, 'day')})")
    if signer:
        facts.append(f"signer {signer}")
    if provider:
        facts.append(f"provider {provider}")
    intro = ""
    if run.is_planned:
        intro = "would change: " if run.is_changed else "nothing to change: "
    reason = f"{intro}{result.get('reason', '')}"
    # After a removal only the signer is known, and no certificate is left that it describes.
    if not_after or provider:
        reason += f". Secret {secret.get('namespace')}/{secret.get('name')}: {', '.join(facts)}"
    return {
        "reason": reason,
        "not_after": not_after,
        "days_left": days,
        "signer": signer,
        "provider": provider,
        **details(result),
        "steps": [{"id": "certificate", "changed": True}] if run.is_changed else [],
    }


def describe_upgrade(run: OperationRun) -> dict[str, Any]:
    """Return the reason and the fields of a run of snapshot_controller, or of its plan."""
    result = run.result
    old = (result.get("installed") or {}).get("version") or ""
    new = next((str(hop["release"]) for hop in reversed(result.get("hops") or ())), "")
    # The tag plan tries no step, so each step may be due.
    due = {"due": [step.get("id") for step in result.get("plan") or ()]} if run.is_planned else {}
    return {
        "reason": _upgrade_reason(run, old, new),
        "before": old,
        "after": old if "verified" in result else new,
        **details({**due, **result}),
    }


def describe_repair(run: OperationRun) -> dict[str, Any]:
    """Return the reason and the fields of a run of webhook_repair. The reason names the first objects, and why the first one is left."""
    repairs = _of_kinds(run.repairs)
    counts = Counter(repair["state"] for repair in repairs)
    numbers = ", ".join(f"{number} {state}" for state, number in counts.items())
    waiting = [
        f"{report_model.place(repair['object'])} ({repair['code']})"
        for repair in repairs
        if repair["state"] in (REFUSED, WAITING)
    ]
    first = run.left.get("first")
    unnamed = len(run.repairs) - len(repairs)
    clauses = [
        f"repairs: {numbers}" if numbers else "nothing to do",
        f"Not repaired: {some(waiting)}" if waiting else "",
        f"{report_model.place(first['object'])}: {first['reason']}" if first else "",
        _excepted(run),
        f"No named kind repairs {plural(unnamed, 'further finding')}" if unnamed else "",
    ]
    return {
        **_waiting(run),
        "reason": ". ".join(filter(None, clauses)),
        **details({**run.result, REPAIRS: run.repairs}),
    }


def describe_rotation(run: OperationRun) -> dict[str, Any]:
    """Return the reason and the fields of a phase around the switch of a cluster's CA.

    The reason has the number of caBundles that are done. Then it has for each code what the cluster waits for or what is refused, and
    what to do.
    """
    repairs = _of_kinds(run.repairs)
    left: dict[tuple[str, str], list[str]] = {}
    for entry in repairs:
        if entry["state"] in (REFUSED, WAITING) and not entry.get("excepted"):
            left.setdefault((entry["code"], entry["remedy"]), []).append(_why_left(entry))
    number = sum(entry["state"] in (repair_model.PLANNED, repair_model.REPAIRED) for entry in repairs)
    verb = "would change" if run.is_planned else "changed"
    done = [f"{verb} {plural(number, 'caBundle')}"] if number else []
    waits = [f"{code}: {some(reasons)}. {remedy}" for (code, remedy), reasons in left.items()]
    state = run.result.get("ca_state") or ca_rotation.UNKNOWN
    nothing = _NOTHING_TO_DO.get(state, f"each caBundle has what the phase needs ({state})")
    clauses = [*done, *waits, *filter(None, [_excepted(run)])] or [f"nothing to do: {nothing}"]
    return {
        **_waiting(run),
        "before": state,
        "reason": ". ".join(
            [*clauses, *([_KUBECONFIG] if run.result.get("certificate_authority_data") else [])]
        ),
        **details({**run.result, REPAIRS: repairs}),
    }


def _waiting(run: OperationRun) -> dict[str, Any]:
    """Return the status of a cluster in which a repair waits and no repair wrote, {} for other clusters."""
    is_waiting = any(entry["state"] == WAITING and not entry.get("is_left") for entry in run.repairs)
    return {"status": WAITING} if is_waiting and not run.is_changed else {}


def _excepted(run: OperationRun) -> str:
    number = run.left.get("excepted")
    return f"An exception accepts {plural(number, 'object')}" if number else ""


def _of_kinds(repairs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the repairs without the findings of the audit that no kind of the run repairs."""
    return [repair for repair in repairs if repair["state"] != REFUSED or repair["kind"]]


def _why_left(repair: Mapping[str, Any]) -> str:
    """Return the object and the reason, and for a wait of the whole cluster only the reason."""
    subject = repair["object"]
    is_whole = (subject.get("namespace"), subject["name"]) == ROOT_CA
    return str(repair["reason"]) if is_whole else f"{report_model.place(subject)}: {repair['reason']}"


def is_left(repair: Mapping[str, Any]) -> bool:
    """Return True if a repair was asked for and is not done, and no exception accepts that. A report names findings of other kinds too."""
    return bool(repair.get("is_left") and repair["kind"]) and not repair.get("excepted")


def _upgrade_reason(run: OperationRun, old: str, new: str) -> str:
    """Return what a run of snapshot_controller did, or would do. old, new: the releases, "" for a new installation."""
    result, plan_steps = run.result, run.result.get("plan") or ()
    if not run.is_changed and ("due" in result or not run.is_planned):
        if run.is_planned and "verified" not in result:
            return f"nothing to change at {old or new}"
        return f"verified {old or new}, and changed nothing"
    if not run.is_planned:
        steps = [step for step in result.get("steps") or () if step.get("changed")]
        effect = "changed"
    elif "due" in result:
        steps = result["due"]
        effect = "would change"
    else:  # the tag plan tries no step
        steps = list(plan_steps)
        effect = "may change"
    verb, objects = _change_in_words(old, new)
    done = f"would {verb}" if run.is_planned else f"{verb.rstrip('e')}ed"
    return f"{done} {objects}, {plural(len(steps), 'step')} {effect} something"


def _change_in_words(old: str, new: str) -> tuple[str, str]:
    """Return the verb and the object of a change of releases, such as "upgrade", "from 6.3.0 to 8.7.0"."""
    if old == new:
        return "update", f"the objects of {new}"
    if not old:
        return "install", new
    before, after = release_table.parse(old), release_table.parse(new)
    is_down = before is not None and after is not None and not release_table.is_at_least(after, before)
    return "downgrade" if is_down else "upgrade", f"from {old} to {new}"
