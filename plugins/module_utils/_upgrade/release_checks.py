# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Define the checks of a snapshot controller, its webhook and its CustomResourceDefinitions. Pure.

An available Deployment is not enough. Upstream's pods have no readiness probes, and a webhook may run without listening. So each
check looks for an effect that only its subject can have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._base.text import shortened
from .._snapshot.actions.verifications import EMPTY_CLASS, EMPTY_REFERENCE, SECOND_DEFAULT
from .._snapshot.release.release_table import GROUP, SNAPSHOT

OK, FAILED, UNPROVEN = "ok", "failed", "unproven"
Object = Mapping[str, Any]

# The label of created test objects. Its value is the id of the run, so each run finds its own objects.
LABEL = "certflow.kubernetes/snapshot-probe"
# The time after which the run that created the object has ended, by the API server's clock.
UNTIL = "certflow.kubernetes/probe-until"
DRIVER = "probe.certflow.invalid"
NAME = "certflow-probe"
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    verdict: OK, FAILED or UNPROVEN.
    summary: a sentence without its full stop.
    is_lasting: True if waiting does not change the result.
    is_answered: True if the verdict is UNPROVEN but the subject gave the right answer, so only its extent is open.
    """

    verdict: str
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    is_lasting: bool = False
    is_answered: bool = False


# Objects that only the webhook refuses.


def refused_object(check: str, namespace: str, driver: str = DRIVER) -> tuple[dict[str, Any], str]:
    """Return an object that the webhook must refuse, and a part of the message of the refusal. It is sent as a dry run.

    Args:
        check: a key of REFUSALS in _snapshot/actions/verifications.py.
        driver: a driver with a default class.

    Source: pkg/validation-webhook/snapshot.go at v4.2.1 to v8.1.0.
    """
    return {
        EMPTY_CLASS: (
            snapshot(namespace, {"volumeSnapshotClassName": "", "source": _CLAIM}),
            "Spec.VolumeSnapshotClassName must not be the empty string",
        ),
        EMPTY_REFERENCE: (
            content({"volumeSnapshotRef": {"name": NAME, "namespace": ""}}),
            "Spec.VolumeSnapshotRef.Namespace",
        ),
        SECOND_DEFAULT: (default_class(driver), "default snapshot class"),
    }[check]


_CLAIM = {"persistentVolumeClaimName": NAME}


def snapshot(namespace: str, spec: Object, **metadata: Any) -> dict[str, Any]:
    """Return a VolumeSnapshot."""
    metadata = {"namespace": namespace, **metadata}
    return _manifest("VolumeSnapshot", f"{SNAPSHOT}/v1", metadata, spec=dict(spec))


def _manifest(kind: str, version: str, metadata: Object, **content: Any) -> dict[str, Any]:
    """Return a test object. The API server names it, unless the metadata have a name."""
    named = dict(metadata) if "name" in metadata else {"generateName": f"{NAME}-", **metadata}
    return {"apiVersion": version, "kind": kind, "metadata": named, **content}


def content(spec: Object) -> dict[str, Any]:
    """Return a pre-provisioned VolumeSnapshotContent. spec: the invalid fields."""
    good = {
        "deletionPolicy": "Retain",
        "driver": DRIVER,
        "source": {"snapshotHandle": NAME},
        "volumeSnapshotRef": {"name": NAME, "namespace": "default"},
    }
    return _manifest("VolumeSnapshotContent", f"{SNAPSHOT}/v1", {}, spec={**good, **spec})


def default_class(driver: str, **metadata: Any) -> dict[str, Any]:
    """Return a VolumeSnapshotClass with the annotation of a default class."""
    metadata["annotations"] = {**metadata.get("annotations", {}), DEFAULT_CLASS: "true"}
    content = {"driver": driver, "deletionPolicy": "Retain"}
    return _manifest("VolumeSnapshotClass", f"{SNAPSHOT}/v1", metadata, **content)


def default_driver(classes: Iterable[Object]) -> str:
    """Return a driver that has a default class, "" if no driver has one."""
    marked = (
        row for row in classes if (row["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    )
    return next((str(row["driver"]) for row in marked), "")


def webhook_for(configuration: Object, resource: str) -> str:
    """Return the name of the webhook with a rule for the resource, "" if the configuration has at most one webhook."""
    entries = list(configuration.get("webhooks") or ())
    if len(entries) < 2:
        return ""
    asked = (
        entry
        for entry in entries
        for rule in entry.get("rules") or ()
        if resource in (rule.get("resources") or ())
    )
    return str(next(asked, entries[0])["name"])


def unstored_content(version: str) -> dict[str, Any]:
    """Return a VolumeGroupSnapshotContent at a version that is not stored, so its creation needs a conversion."""
    handles = {"volumeGroupSnapshotHandle": NAME, "volumeSnapshotHandles": [NAME]}
    spec = {
        "deletionPolicy": "Retain",
        "driver": DRIVER,
        "source": {"groupSnapshotHandles": handles},
        "volumeGroupSnapshotRef": {"name": NAME, "namespace": "default"},
    }
    return _manifest("VolumeGroupSnapshotContent", f"{GROUP}/{version}", {}, spec=spec)


# Objects that the rules of the CustomResourceDefinitions refuse.


# The message of each rule of the schema -> a function that returns an object of a namespace that violates the rule. API servers print
# the value in different ways, so the value is not compared.
# client/config/crd of v8.0.0 to v8.7.0, which are one file.
RULES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "volumeSnapshotClassName must not be the empty string when set": lambda namespace: snapshot(
        namespace, {"volumeSnapshotClassName": "", "source": _CLAIM}
    ),
    "exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set": lambda namespace: (
        snapshot(namespace, {"source": {**_CLAIM, "volumeSnapshotContentName": NAME}})
    ),
    "exactly one of volumeHandle and snapshotHandle must be set": lambda _namespace: content(
        {"source": {"volumeHandle": NAME, "snapshotHandle": NAME}}
    ),
    "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set": lambda _namespace: (
        content({"volumeSnapshotRef": {"name": NAME}})
    ),
}


def judge_rules(answers: Iterable[tuple[str, str]]) -> CheckResult:
    """Judge the answers of the API server.

    answers: the message of each rule, and the answer to an object that violates it, "" if the object was accepted.
    """
    every = tuple(answers)
    evidence = tuple(f"{message}: {shortened(said, 300) or 'accepted'}" for message, said in every)
    accepted = [message for message, said in every if not said]
    others = [said for message, said in every if said and message not in said]
    if accepted:
        summary = (
            f"the CustomResourceDefinitions accept objects that violate their rules: {'; '.join(accepted)}"
        )
        return CheckResult(FAILED, summary, evidence, _RULES_REMEDY, is_lasting=True)
    if others:
        summary = f"an object that violates a rule was refused, but not with the message of the rule: {shortened(others[0], 300)}"
        verdict = UNPROVEN if " is forbidden: " in others[0] else FAILED
        return CheckResult(verdict, summary, evidence, _RULES_REMEDY, is_lasting=True)
    return CheckResult(
        OK, f"the CustomResourceDefinitions refuse all {len(every)} invalid test objects", evidence
    )


_RULES_REMEDY = "Compare the CustomResourceDefinitions with those of the release. Kubernetes evaluates their rules since 1.25"


# A check that a controller processes snapshots.


@dataclass(frozen=True)
class ControllerTest:
    """A test object that names a class that does not exist. A working controller reports that in status.error.

    kind: the kind of the object.
    collection: the path at which it is created.
    manifest: the object.
    absent: the name of the missing class.
    """

    kind: str
    collection: str
    manifest: Mapping[str, Any]
    absent: str


def controller_test(kind: str, api: str, namespace: str, token: str, metadata: Object) -> ControllerTest:
    """Return a VolumeSnapshot or a VolumeGroupSnapshot that names a missing class. A controller adds no finalizer to it.

    api: group and version.
    """
    absent = f"{NAME}-{token}"
    source = _CLAIM if kind == "VolumeSnapshot" else {"selector": {"matchLabels": {LABEL: absent}}}
    spec = {f"v{kind[1:]}ClassName": absent, "source": source}
    manifest = _manifest(kind, api, {"name": absent, "namespace": namespace, **metadata}, spec=spec)
    return ControllerTest(kind, f"/apis/{api}/namespaces/{namespace}/{kind.lower()}s", manifest, absent)


def status_error(obj: Object | None, absent: str) -> str:
    """Return the message of status.error if it names the missing class, else "".

    Source: pkg/common-controller/snapshot_controller_base.go GetSnapshotClassFailed, v4.2.1 to v8.7.0.
    """
    message = str((((obj or {}).get("status") or {}).get("error") or {}).get("message") or "")
    return message if absent in message and "not found" in message else ""


def judge_status(test: ControllerTest, message: str) -> CheckResult:
    """Judge the answer of the controller.

    Args:
        test: the test object.
        message: the message of status.error, "" if the controller did not answer until the deadline.
    """
    if message:
        return CheckResult(
            OK,
            f"a controller processes a {test.kind}: it reports {shortened(message, 300)!r}",
            (f"status.error: {message}",),
        )
    return CheckResult(
        FAILED,
        f"no controller processes a {test.kind}: the test object, which names a missing class, got no status.error",
        remedy="Check that the controller's pods run and one of them holds the Lease, and read their logs",
    )


# Before and after.


def history(verdict: str, before: Object) -> tuple[bool | None, str]:
    """Return True if the subject was broken before, None if that is not known, and a sentence about a failure."""
    earlier = before.get("verdict")
    if earlier == FAILED:
        said = f": {before['summary']}" if before.get("summary") else ""
        return True, f"It was already broken before this run{said}" if verdict != OK else ""
    worked = "It worked before this run" if verdict == FAILED else ""
    return (False, worked) if earlier == OK else (None, "")
