# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""snapshot_controller_prove: shows that what a step of a plan is about works, by what only it can do."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._kube._errors import ApiError, MissingRights
from .._snapshot import _proofs, _prove, _stage, _steps
from .._snapshot._errors import StepError, UnprovenError
from .._snapshot._kinds import Reference
from .._snapshot._proofs import FAILED, OK, UNPROVEN, Verdict
from .._snapshot._prove import Traces
from .._snapshot._releases import parse
from .._snapshot._situation import NO_VERSION
from .._webhook import _failures
from .._webhook._errors import ProbeError, ProofError, TargetError
from . import _interrupt, _snapshot_turn, _spec, _webhook_probe
from ._operation import Operation, Result

if TYPE_CHECKING:
    from .._kube._client import Client

# A dry run needs a namespace that exists.
ANY_NAMESPACE = "default"
_CHECK_MODE = "check mode creates nothing, and only what was created could show it"


@dataclass(frozen=True)
class Ask:
    """What is to be proven, and with what."""

    client: Client
    traces: Traces
    parameters: Mapping[str, Any]
    namespace: str
    check_mode: bool


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    """See the module's documentation. Raises UnprovenError where the verdict asks for it, CertflowError."""
    given = _given(parameters["step"])
    traces = Traces(client, uuid.uuid4().hex[:12])
    namespace = parameters["namespace"] or given.get("namespace") or ""
    left: list[str] = []
    token = {} if check_mode else parameters["lease"]
    # The context of the Lease ends first, so the objects of this run are removed even if another run took the Lease.
    with _interrupt.put_away_by(lambda: left.extend(traces.remove())), _snapshot_turn.kept(client, token):
        verdict = _verdict(Ask(client, traces, given, namespace, check_mode))
    return _concluded(verdict, given["what"], parameters, left, check_mode=check_mode)


def _given(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """The step's parameters, checked. Raises StepError for what no plan says."""
    fields = ("id", "title", "reason", "action", "parameters")
    faults = [f"it lacks {name}" for name in fields if name not in step]
    if not faults:
        name, title, reason, action = (str(step[field]) for field in fields[:4])
        made = _steps.Step(name, title, reason, action, dict(step["parameters"]))
        faults = _steps.faults(made)
        if not faults and made.action != "prove":
            faults = [f"{made.id}: {made.action} proves nothing; snapshot_controller_apply does it"]
        faults = faults or _lacking(made)
    if faults:
        raise StepError(
            f"this step cannot be done: {'; '.join(faults)}", remedy="Give one entry of a plan as it is"
        )
    return dict(step["parameters"])


def _lacking(step: _steps.Step) -> list[str]:
    """What a proof of this kind needs beside what every one does."""
    what, given = step.parameters["what"], step.parameters
    if what not in PROOFS:
        return [f"{step.id}: there is no proof of {what}"]
    faults = [
        f"{step.id}: a proof of {what} needs {name}" for name in PROOFS[what].needs if not given.get(name)
    ]
    if not faults and what == "webhook" and given["by"] not in _stage.REFUSALS:
        faults = [f"{step.id}: nothing is refused by {given['by']}"]
    if not faults and what == "version" and parse(str(given["release"])) is None:
        faults = [f"{step.id}: {given['release']} is no release"]
    return faults


def _verdict(ask: Ask) -> Verdict:
    try:
        return PROOFS[ask.parameters["what"]].prove(ask)
    except (ApiError, MissingRights) as error:
        return _refused(error)


def _refused(error: ApiError | MissingRights) -> Verdict:
    """What the API server says to the probe itself: a webhook that ends every write is what was looked for."""
    words = error.message or error.cause
    failure = _failures.of_answer(words, _failures.ADMISSION)
    name = re.search(r'admission webhook "([^"]*)"', words)
    ours = bool(name) and name[1].endswith("snapshot.storage.k8s.io") if name else False
    if failure.about == _failures.CALL or (failure.about == _failures.REFUSAL and ours):
        who = re.search(r'webhook "([^"]*)"', words)
        named = f"webhook {who[1]} ends every such write: " if who else ""
        return Verdict(FAILED, f"it cannot be tried: {named}{failure.cause}", (words,), failure.remedy)
    evidence = (words, *error.evidence)
    return Verdict(UNPROVEN, f"it cannot be tried: {failure.cause}", evidence, error.remedy or failure.remedy)


def _webhook(ask: Ask) -> Verdict:
    by, name = ask.parameters["by"], ask.parameters["name"]
    driver = ""
    notes: tuple[str, ...] = ()
    if by == "second-default-class":
        driver = _prove.default_driver(ask.client)
        if not driver and ask.check_mode:
            return Verdict(UNPROVEN, f"{_CHECK_MODE}: a default class", is_lasting=True)
        if not driver:
            driver, notes = _default_class(ask)
    asked = _proofs.question(by, ask.namespace or ANY_NAMESPACE, driver)
    configuration = ask.client.find(Reference("ValidatingWebhookConfiguration", name).path) or {}
    verdict = _probed(
        ask.client,
        {
            "target": {
                "kind": "ValidatingWebhookConfiguration",
                "name": name,
                "webhook": _proofs.asked_webhook(configuration, asked.resource) or None,
            },
            "object": dict(asked.manifest),
            "expect": "denied",
            "denial_message": asked.message,
        },
    )
    return replace(verdict, evidence=(*verdict.evidence, *notes))


def _default_class(ask: Ask) -> tuple[str, tuple[str, ...]]:
    """A driver with a default class. Where none can be made, the probe itself meets the reason and names it."""
    try:
        return _prove.make_default_class(ask.traces), ()
    except ApiError as error:
        return _proofs.DRIVER, (f"no default class could be made: {error.message or error.cause}",)


def _conversion(ask: Ask) -> Verdict:
    name, version = ask.parameters["name"], ask.parameters["version"]
    target = {"kind": "CustomResourceDefinition", "name": name, "webhook": None}
    return _probed(ask.client, {"target": target, "object": _proofs.converted(version)})


def _probed(client: Client, asked: Mapping[str, Any]) -> Verdict:
    """The verdict of webhook_probe, which names what is wrong; it writes nothing here."""
    defaults = {name: spec.get("default") for name, spec in _webhook_probe.OPERATION.argument_spec.items()}
    try:
        values = _webhook_probe.run(client, {**defaults, **asked, "wait": True}, check_mode=False).values
    except ProofError as error:
        return Verdict(FAILED, error.cause, error.evidence, error.remedy)
    except TargetError as error:
        return Verdict(FAILED, error.cause, error.evidence, error.remedy, is_lasting=True)
    except ProbeError as error:
        return Verdict(UNPROVEN, error.cause, error.evidence, error.remedy, is_lasting=True)
    failure = values["failure"] or {}
    return Verdict(
        values["verdict"],
        values["msg"],
        tuple(values["evidence"]),
        failure.get("remedy", ""),
        is_answered=failure.get("code") == "old-connection",
    )


def _schema(ask: Ask) -> Verdict:
    return _prove.schema(ask.client, ask.namespace or ANY_NAMESPACE)


def _controller(ask: Ask) -> Verdict:
    if ask.check_mode:
        return Verdict(UNPROVEN, f"{_CHECK_MODE}: a VolumeSnapshot", is_lasting=True)
    return _prove.controller(ask.client, ask.traces, ask.namespace)


def _groups(ask: Ask) -> Verdict:
    if ask.check_mode:
        return Verdict(UNPROVEN, f"{_CHECK_MODE}: a VolumeGroupSnapshot", is_lasting=True)
    return _prove.groups(ask.client, ask.traces, ask.namespace)


def _version(ask: Ask) -> Verdict:
    given = ask.parameters
    release = parse(str(given["release"])) or NO_VERSION
    return _prove.version(ask.client, Reference("Deployment", given["name"], given["namespace"]), release)


@dataclass(frozen=True)
class Proof:
    """One row. needs: parameters of the step beside ``what``."""

    prove: Callable[[Ask], Verdict]
    needs: tuple[str, ...] = ()


PROOFS: dict[str, Proof] = {
    "webhook": Proof(_webhook, ("name", "by")),
    "conversion": Proof(_conversion, ("name", "version")),
    "schema": Proof(_schema),
    "controller": Proof(_controller, ("namespace",)),
    "groups": Proof(_groups, ("namespace",)),
    "version": Proof(_version, ("namespace", "name", "release")),
}


def _concluded(
    verdict: Verdict, what: str, parameters: Mapping[str, Any], left: list[str], *, check_mode: bool
) -> Result:
    broken_before, words = _proofs.history(verdict.verdict, parameters["before"] or {})
    evidence = [*verdict.evidence, *left]
    values = {
        "verdict": verdict.verdict,
        "what": what,
        "summary": verdict.summary,
        "was_broken_before": broken_before,
    }
    passes = verdict.verdict == OK or (verdict.verdict == UNPROVEN and (check_mode or verdict.is_answered))
    if passes or not parameters["require"]:
        doubts = [f"{what} is not proven: {verdict.summary}"] if verdict.verdict == UNPROVEN else []
        warnings = (*(doubts if not check_mode else ()), *left)
        return Result(
            bool(left), {**values, "evidence": evidence, "remedy": verdict.remedy}, warnings=warnings
        )
    cause = f"{what} {'is broken' if verdict.verdict == FAILED else 'is not proven'}: {verdict.summary}"
    error = UnprovenError(f"{cause}. {words}" if words else cause, evidence=evidence, remedy=verdict.remedy)
    error.values = {**values, "changed": bool(left)}
    raise error


OPERATION = Operation(
    name="snapshot_controller_prove",
    argument_spec={
        **_spec.AUTH,
        "wait_timeout": {"type": "int", "default": 180},
        "step": {"type": "dict", "required": True},
        "namespace": {"type": "str"},
        "before": {"type": "dict", "default": {}},
        "lease": {"type": "dict", "default": {}},
        "require": {"type": "bool", "default": True},
    },
    run=run,
)
