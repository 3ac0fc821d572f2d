# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Run the checks of a release on a cluster. Test objects are deleted again, also those that a killed run has left."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .._base.errors import CertflowError
from .._base.times import format_time
from .._kube.errors import AlreadyExists, ApiError, KubeError, MissingPermissions, NotFound
from .._process import interrupt
from .._snapshot.actions import verifications
from .._snapshot.actions.action import CONFIGURATION, CRD
from .._snapshot.kinds import Reference
from .._snapshot.release.release_table import GROUP, NO_VERSION, SNAPSHOT, parse
from .._webhook.bundles.bundle_targets import Target
from .._webhook.calls import call_failures
from .._webhook.errors import ProbeError, ProofError, TargetError
from .._webhook.probe import probe_webhook
from .._webhook.probe.probe_calls import ProbeObject
from . import release_checks, verify_version
from .release_checks import FAILED, LABEL, OK, UNPROVEN, UNTIL, CheckResult
from .steps.waits import PodWatch

if TYPE_CHECKING:
    from .._kube.client import Client

PAUSE_SECONDS = 1.0
CLEANING_SECONDS = 20.0
CLASSES = f"/apis/{SNAPSHOT}/v1/volumesnapshotclasses"
GROUP_CRD = Reference("CustomResourceDefinition", f"volumegroupsnapshots.{GROUP}")
# A dry run needs a namespace that exists.
ANY_NAMESPACE = "default"


@dataclass(frozen=True)
class CheckRun:
    """A check and its settings.

    client: the connection to the cluster.
    objects: the test objects of the check.
    namespace: of the test objects.
    check_mode: True to create no test object.
    """

    client: Client
    objects: TemporaryObjects
    namespace: str
    check_mode: bool


def run_check(
    client: Client, action: verifications.Verify, *, namespace: str = "", check_mode: bool = False
) -> tuple[CheckResult, list[str]]:
    """Run the check of an action.

    Args:
        namespace: of the test objects, "" for that of the action.
        check_mode: create nothing, so that only some subjects can be verified.

    Returns:
        The result, and a line for each test object that could not be deleted.
    """
    objects = TemporaryObjects(client, uuid.uuid4().hex[:12])
    undeleted: list[str] = []
    place = namespace or action.test_namespace

    def remove() -> None:
        # No other run uses these objects, so they are removed even if the Lease is lost.
        with client.without_hooks():
            undeleted.extend(objects.remove())

    with interrupt.clean_up_with(remove):
        result = _run(CheckRun(client, objects, place, check_mode), action)
    return result, undeleted


def passes(result: CheckResult, *, check_mode: bool = False) -> bool:
    """Return True if the result does not stop an upgrade."""
    return result.verdict == OK or (result.verdict == UNPROVEN and (check_mode or result.is_answered))


def left_unproven(action: verifications.Verify, result: CheckResult) -> dict[str, Any]:
    """Return what is left after a check that passes without a proof. Only a webhook that was called is such a subject."""
    kind = CONFIGURATION if isinstance(action, verifications.VerifyWebhook) else CRD
    probes = (verifications.VerifyWebhook, verifications.VerifyConversion)
    name = action.name if isinstance(action, probes) else ""
    return {
        "object": {"kind": kind, "name": name},
        "code": ProofError.code,
        "reason": f"{action.subject} is not proven: {result.summary}",
        "remedy": result.remedy,
    }


def failure(
    action: verifications.Verify, result: CheckResult, before: Mapping[str, Any], undeleted: list[str]
) -> CertflowError:
    """Return the error of a check that does not pass. before: the result of the same check before the upgrade."""
    broken_before, words = release_checks.history(result.verdict, before)
    cause = (
        f"{action.subject} {'is broken' if result.verdict == FAILED else 'is not proven'}: {result.summary}"
    )
    error = CertflowError(
        f"{cause}. {words}" if words else cause,
        code="verification-failed",
        evidence=[*result.evidence, *undeleted],
        remedy=result.remedy,
    )
    error.values = {"verdict": result.verdict, "was_broken_before": broken_before}
    return error


def _run(run: CheckRun, action: verifications.Verify) -> CheckResult:
    try:
        return CHECKS[type(action)](run, action)
    except (ApiError, MissingPermissions) as error:
        return _refused(error)


def _refused(error: ApiError | MissingPermissions) -> CheckResult:
    """Return the result if the API server refuses the test object. A webhook that fails every write is a failed check."""
    words = error.message or error.cause
    failure = call_failures.of_answer(words, call_failures.ADMISSION)
    name = re.search(r'admission webhook "([^"]*)"', words)
    is_ours = name is not None and name[1].endswith("snapshot.storage.k8s.io")
    if failure.about == call_failures.CALL or (failure.about == call_failures.REFUSAL and is_ours):
        webhook = re.search(r'webhook "([^"]*)"', words)
        named = f"webhook {webhook[1]} makes every such write fail: " if webhook else ""
        return CheckResult(FAILED, f"the check cannot run: {named}{failure.cause}", (words,), failure.remedy)
    return CheckResult(
        UNPROVEN,
        f"the check cannot run: {failure.cause}",
        (words, *error.evidence),
        error.remedy or failure.remedy,
    )


# The checks by their actions.


def check_webhook(run: CheckRun, action: verifications.VerifyWebhook) -> CheckResult:
    """Check that the webhook refuses an object that only it refuses."""
    driver = ""
    notes: tuple[str, ...] = ()
    if action.check == verifications.SECOND_DEFAULT:
        driver = _find_default_driver(run.client)
        if not driver and run.check_mode:
            return _not_created("a default class")
        if not driver:
            driver, notes = _make_default_class(run.objects)
    refused, message = release_checks.refused_object(action.check, run.namespace or ANY_NAMESPACE, driver)
    configuration = run.client.find(Reference("ValidatingWebhookConfiguration", action.name).path) or {}
    webhook = release_checks.webhook_for(configuration, verifications.REFUSALS[action.check][0])
    target = Target("ValidatingWebhookConfiguration", action.name, (webhook,) if webhook else ())
    result = _probe(run, action, target, ProbeObject(refused, "denied", message))
    return replace(result, evidence=(*result.evidence, *notes))


def check_conversion(run: CheckRun, action: verifications.VerifyConversion) -> CheckResult:
    """Check that the webhook converts an object at a version that is not stored."""
    test_object = ProbeObject(release_checks.unstored_content(action.version))
    return _probe(run, action, Target("CustomResourceDefinition", action.name), test_object)


def check_schema(run: CheckRun, _action: verifications.VerifySchema) -> CheckResult:
    """Check that the rules of the CustomResourceDefinitions refuse invalid objects."""
    namespace = run.namespace or ANY_NAMESPACE
    answers = [
        (message, _refusal_of(run.client, make(namespace))) for message, make in release_checks.RULES.items()
    ]
    return release_checks.judge_rules(answers)


def check_controller(run: CheckRun, _action: verifications.VerifyController) -> CheckResult:
    """Check that a controller processes a VolumeSnapshot. Raises ApiError if it cannot be created."""
    return (
        _not_created("a VolumeSnapshot")
        if run.check_mode
        else _check_status(run, "VolumeSnapshot", f"{SNAPSHOT}/v1")
    )


def check_groups(run: CheckRun, _action: verifications.VerifyGroups) -> CheckResult:
    """Check that a controller processes a VolumeGroupSnapshot. Raises ApiError if it cannot be created."""
    if run.check_mode:
        return _not_created("a VolumeGroupSnapshot")
    crd = run.client.find(GROUP_CRD.path)
    if crd is None:
        return CheckResult(
            FAILED,
            f"{GROUP_CRD} does not exist",
            remedy="Apply the group CustomResourceDefinitions, and restart the controller",
            is_lasting=True,
        )
    version = next(entry["name"] for entry in crd["spec"]["versions"] if entry["storage"])
    return _check_status(run, "VolumeGroupSnapshot", f"{GROUP}/{version}")


def check_release(run: CheckRun, action: verifications.VerifyVersion) -> CheckResult:
    """Check that every pod of the controller runs the release."""
    return verify_version.check_version(run.client, action.deployment, parse(action.release) or NO_VERSION)


# The function of each class of verifications. Each takes an action of its class.
CHECKS: dict[type[verifications.Verify], Callable[[CheckRun, Any], CheckResult]] = {
    verifications.VerifyWebhook: check_webhook,
    verifications.VerifyConversion: check_conversion,
    verifications.VerifySchema: check_schema,
    verifications.VerifyController: check_controller,
    verifications.VerifyGroups: check_groups,
    verifications.VerifyVersion: check_release,
}


def _not_created(what: str) -> CheckResult:
    return CheckResult(
        UNPROVEN, f"check mode does not create the object that the check needs: {what}", is_lasting=True
    )


def _probe(
    run: CheckRun,
    action: verifications.VerifyWebhook | verifications.VerifyConversion,
    target: Target,
    test_object: ProbeObject,
) -> CheckResult:
    """Return the result of a probe. It writes nothing.

    Raises RolloutError if the action names the webhook's Deployment, and one of its pods does not stay up meanwhile. The API
    server may already depend on these pods, so a failure must not wait for the end of the step's time.
    """
    pods = action.pods_of
    watch = PodWatch(run.client, pods.reference("Deployment")).look if pods else lambda: None
    try:
        verdict = probe_webhook.probe(
            run.client, target, test_object, wait=True, between_attempts=watch
        ).verdict
    except TargetError as error:
        return CheckResult(FAILED, error.cause, error.evidence, error.remedy, is_lasting=True)
    except ProbeError as error:
        return CheckResult(UNPROVEN, error.cause, error.evidence, error.remedy, is_lasting=True)
    is_answered = verdict.code == "old-connection"
    return CheckResult(
        verdict.verdict, verdict.cause, verdict.evidence, verdict.remedy, is_answered=is_answered
    )


def _find_default_driver(client: Client) -> str:
    """Return a driver with a default class, "" if no driver has one or the classes cannot be listed."""
    try:
        return release_checks.default_driver(client.list_all(CLASSES)["items"])
    except ApiError:
        return ""


def _make_default_class(objects: TemporaryObjects) -> tuple[str, tuple[str, ...]]:
    """Create a default class of a driver that does not exist. Return the driver, and a note if that failed.

    If the class cannot be created, the probe fails with the same reason.
    """
    driver = f"{objects.token}.{release_checks.DRIVER}"
    name = f"{release_checks.NAME}-{objects.token}"
    manifest = release_checks.default_class(driver, name=name, **objects.metadata)
    try:
        objects.create(CLASSES, manifest)
    except ApiError as error:
        return release_checks.DRIVER, (
            f"the test VolumeSnapshotClass could not be created: {error.message or error.cause}",
        )
    return driver, ()


def _refusal_of(client: Client, manifest: Mapping[str, Any]) -> str:
    """Return the API server's message that refuses a dry run, "" if it accepts the object."""
    plural = f"{manifest['kind'].lower()}s"
    place = manifest["metadata"].get("namespace")
    path = f"/apis/{manifest['apiVersion']}/{f'namespaces/{place}/' if place else ''}{plural}"
    try:
        client.create(path, manifest, dry_run=True)
    except ApiError as error:
        return error.message or error.cause
    return ""


def _check_status(run: CheckRun, kind: str, api: str) -> CheckResult:
    """Create a test object, and wait until the controller reports the missing class in its status."""
    objects = run.objects
    test = release_checks.controller_test(kind, api, run.namespace, objects.token, objects.metadata)
    client, path = run.client, objects.create(test.collection, test.manifest)
    message = ""
    while not message:
        message = release_checks.status_error(client.find(path), test.absent)
        if message or time.monotonic() + PAUSE_SECONDS > client.deadline:
            break
        time.sleep(PAUSE_SECONDS)
    return release_checks.judge_status(test, message)


# Test objects.


class TemporaryObjects:
    """The test objects of a run, and their removal.

    They do not count as changes, because the run deletes them before it ends. Each has a label with the id of the run, and an
    annotation with the time after which the run has ended.
    """

    def __init__(self, client: Client, token: str) -> None:
        self._client = client
        self.token = token
        self._made: list[str] = []
        self._collections: set[str] = set()

    @property
    def metadata(self) -> dict[str, Any]:
        """Return the label and the annotation of every test object."""
        left = max(0.0, self._client.deadline - time.monotonic()) + CLEANING_SECONDS
        until = self._client.now() + timedelta(seconds=left)
        return {
            "labels": {LABEL: self.token},
            "annotations": {UNTIL: format_time(until)},
        }

    def create(self, collection: str, manifest: Mapping[str, Any]) -> str:
        """Create the object and return its path. Raises KubeError."""
        path = f"{collection}/{manifest['metadata']['name']}"
        self._collections.add(collection)
        self._made.append(path)  # before it is sent: the answer may get lost
        try:
            self._client.send("POST", collection, manifest)
        except AlreadyExists:  # sent again after a lost answer: only this run uses this name
            pass
        except ApiError as error:
            if error.status is not None and error.status < 500:
                self._made.remove(path)
            raise
        return path

    def remove(self) -> list[str]:
        """Delete the objects of this run and of killed runs. Return a line for each object that could not be deleted."""
        client = self._client
        client.deadline = max(client.deadline, time.monotonic() + CLEANING_SECONDS)
        undeleted = [words for words in map(self._delete, self._made) if words]
        for collection in sorted(self._collections):
            for path in self._leftovers(collection):
                self._delete(path)
        self._made.clear()
        return undeleted

    def _leftovers(self, collection: str) -> list[str]:
        """Return test objects of earlier runs, which have both marks. Ignore listing errors, because those objects belong to another run."""
        try:
            items = self._client.list_all(collection, {"labelSelector": LABEL})["items"]
        except KubeError:
            return []
        now = format_time(self._client.now())
        return [
            f"{collection}/{item['metadata']['name']}"
            for item in items
            if "" < (item["metadata"].get("annotations") or {}).get(UNTIL, "") < now
        ]

    def _delete(self, path: str) -> str:
        body = {"kind": "DeleteOptions", "apiVersion": "v1"}
        try:
            self._client.send("DELETE", path, body)
        except NotFound:
            return ""
        except KubeError as error:
            return f"the test object {path} could not be deleted: {error.cause}"
        return ""
