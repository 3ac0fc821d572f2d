# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Verify that the subject of a step works, by an effect that only it has."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._kube.errors import ApiError, MissingRights
from .._process import interrupt
from .._snapshot.errors import UnprovenError
from .._snapshot.kinds import Reference
from .._snapshot.plan.step_types import Step
from .._snapshot.plan.upgrade_context import NO_VERSION
from .._snapshot.release.release_table import parse
from .._webhook import call_failures, probe_webhook
from .._webhook.admission_call import ProbeObject
from .._webhook.bundle_targets import Target
from .._webhook.errors import ProbeError, TargetError
from .._webhook.probe_webhook import ProbeRequest
from . import check_runs, checks
from .check_runs import Traces
from .checks import FAILED, OK, UNPROVEN, Verdict
from .steps.waits import Watch

if TYPE_CHECKING:
    from .._kube.client import Client

# A dry run needs a namespace that exists.
ANY_NAMESPACE = "default"
_CHECK_MODE = "check mode does not create the object that the check needs"


@dataclass(frozen=True)
class Ask:
    """A check and its settings.

    parameters: those of the step.
    namespace: of the test objects, "" for that of the step.
    check_mode: create no test object.
    """

    client: Client
    traces: Traces
    parameters: Mapping[str, Any]
    namespace: str
    check_mode: bool


def verify(
    client: Client, step: Step, *, namespace: str = "", check_mode: bool = False
) -> tuple[Verdict, list[str]]:
    """Run the check of a step of action "verify".

    Args:
        namespace: of the test objects, "" for that of the step.
        check_mode: create nothing, so that only some subjects can be verified.

    Returns:
        The verdict, and a line for each object that could not be removed.
    """
    traces = Traces(client, uuid.uuid4().hex[:12])
    left: list[str] = []
    place = namespace or step.parameters.get("namespace") or ""

    def remove() -> None:
        # No other run uses these objects, so they are removed even if the Lease is lost.
        with client.without_hooks():
            left.extend(traces.remove())

    with interrupt.put_away_by(remove):
        verdict = _verdict(Ask(client, traces, step.parameters, place, check_mode))
    return verdict, left


def passes(verdict: Verdict, *, check_mode: bool = False) -> bool:
    """Return True if the verdict does not stop an upgrade."""
    return verdict.verdict == OK or (verdict.verdict == UNPROVEN and (check_mode or verdict.is_answered))


def failure(step: Step, verdict: Verdict, before: Mapping[str, Any], left: list[str]) -> UnprovenError:
    """Return the error of a verification that does not pass. before: the result of the same check before the upgrade."""
    broken_before, words = checks.history(verdict.verdict, before)
    subject = step.parameters["subject"]
    cause = f"{subject} {'is broken' if verdict.verdict == FAILED else 'is not proven'}: {verdict.summary}"
    error = UnprovenError(
        f"{cause}. {words}" if words else cause, evidence=[*verdict.evidence, *left], remedy=verdict.remedy
    )
    error.values = {"verdict": verdict.verdict, "was_broken_before": broken_before}
    return error


def _verdict(ask: Ask) -> Verdict:
    try:
        return PROOFS[ask.parameters["subject"]](ask)
    except (ApiError, MissingRights) as error:
        return _refused(error)


def _refused(error: ApiError | MissingRights) -> Verdict:
    """Return the verdict if the API server refuses the test object. A webhook that fails every write is a failed check."""
    words = error.message or error.cause
    failure = call_failures.of_answer(words, call_failures.ADMISSION)
    name = re.search(r'admission webhook "([^"]*)"', words)
    ours = bool(name) and name[1].endswith("snapshot.storage.k8s.io") if name else False
    if failure.about == call_failures.CALL or (failure.about == call_failures.REFUSAL and ours):
        who = re.search(r'webhook "([^"]*)"', words)
        named = f"webhook {who[1]} makes every such write fail: " if who else ""
        return Verdict(FAILED, f"the check cannot run: {named}{failure.cause}", (words,), failure.remedy)
    evidence = (words, *error.evidence)
    return Verdict(
        UNPROVEN, f"the check cannot run: {failure.cause}", evidence, error.remedy or failure.remedy
    )


def _webhook(ask: Ask) -> Verdict:
    by, name = ask.parameters["check"], ask.parameters["name"]
    driver = ""
    notes: tuple[str, ...] = ()
    if by == "second-default-class":
        driver = check_runs.default_driver(ask.client)
        if not driver and ask.check_mode:
            return Verdict(UNPROVEN, f"{_CHECK_MODE}: a default class", is_lasting=True)
        if not driver:
            driver, notes = _default_class(ask)
    asked = checks.question(by, ask.namespace or ANY_NAMESPACE, driver)
    configuration = ask.client.find(Reference("ValidatingWebhookConfiguration", name).path) or {}
    webhook = checks.asked_webhook(configuration, asked.resource)
    target = Target("ValidatingWebhookConfiguration", name, (webhook,) if webhook else ())
    verdict = _probed(ask, target, ProbeObject(asked.manifest, "denied", asked.message))
    return replace(verdict, evidence=(*verdict.evidence, *notes))


def _default_class(ask: Ask) -> tuple[str, tuple[str, ...]]:
    """Return a driver with a default class. If the class cannot be created, the probe fails with the same reason."""
    try:
        return check_runs.make_default_class(ask.traces), ()
    except ApiError as error:
        return checks.DRIVER, (
            f"the test VolumeSnapshotClass could not be created: {error.message or error.cause}",
        )


def _conversion(ask: Ask) -> Verdict:
    name, version = ask.parameters["name"], ask.parameters["version"]
    return _probed(ask, Target("CustomResourceDefinition", name), ProbeObject(checks.converted(version)))


def _probed(ask: Ask, target: Target, asked: ProbeObject) -> Verdict:
    """Return the verdict of a probe. It writes nothing.

    Raises RolloutError if the step names the webhook's Deployment, and one of its pods does not stay up meanwhile. The API
    server may already depend on these pods, so a failure must not wait for the end of the step's time.
    """
    request = ProbeRequest(target, asked, wait=True)
    try:
        found = probe_webhook.probe(ask.client, request, between_attempts=_watch(ask)).verdict
    except TargetError as error:
        return Verdict(FAILED, error.cause, error.evidence, error.remedy, is_lasting=True)
    except ProbeError as error:
        return Verdict(UNPROVEN, error.cause, error.evidence, error.remedy, is_lasting=True)
    is_answered = found.code == "old-connection"
    return Verdict(found.verdict, found.cause, found.evidence, found.remedy, is_answered=is_answered)


def _watch(ask: Ask) -> Callable[[], object]:
    """Return the function that looks at the webhook's pods between two attempts, if the step names their Deployment."""
    pods_of = ask.parameters.get("pods_of")
    if not pods_of:
        return lambda: None
    return Watch(ask.client, Reference("Deployment", pods_of["name"], pods_of["namespace"])).look


def _schema(ask: Ask) -> Verdict:
    return check_runs.schema(ask.client, ask.namespace or ANY_NAMESPACE)


def _controller(ask: Ask) -> Verdict:
    if ask.check_mode:
        return Verdict(UNPROVEN, f"{_CHECK_MODE}: a VolumeSnapshot", is_lasting=True)
    return check_runs.controller(ask.client, ask.traces, ask.namespace)


def _groups(ask: Ask) -> Verdict:
    if ask.check_mode:
        return Verdict(UNPROVEN, f"{_CHECK_MODE}: a VolumeGroupSnapshot", is_lasting=True)
    return check_runs.groups(ask.client, ask.traces, ask.namespace)


def _version(ask: Ask) -> Verdict:
    given = ask.parameters
    release = parse(str(given["release"])) or NO_VERSION
    return check_runs.version(ask.client, Reference("Deployment", given["name"], given["namespace"]), release)


PROOFS: dict[str, Callable[[Ask], Verdict]] = {
    "webhook": _webhook,
    "conversion": _conversion,
    "schema": _schema,
    "controller": _controller,
    "groups": _groups,
    "version": _version,
}
