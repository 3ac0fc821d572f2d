# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Checks that show that a snapshot controller, its webhook and its CustomResourceDefinitions work. Pure: tables and judgements.

An available Deployment is not enough: upstream's pods have no readiness probes, and a webhook may run without listening. Each
check uses an effect that only its subject can have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._snapshot.release.release_table import GROUP, SNAPSHOT, Version, parse, text

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
class Verdict:
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


@dataclass(frozen=True)
class Question:
    """An object that is sent as a dry run. resource: its plural. message: a part of the refusal's message."""

    resource: str
    manifest: Mapping[str, Any]
    message: str


def question(by: str, namespace: str, driver: str = DRIVER) -> Question:
    """Return the object that the webhook must refuse. by: a key of _hop.REFUSALS. driver: a driver with a default class.

    Source: pkg/validation-webhook/snapshot.go at v4.2.1 to v8.1.0.
    """
    if by == "empty-class":
        manifest = snapshot(namespace, {"volumeSnapshotClassName": "", "source": _CLAIM})
        return Question(
            "volumesnapshots", manifest, "Spec.VolumeSnapshotClassName must not be the empty string"
        )
    if by == "empty-reference":
        reference = {"volumeSnapshotRef": {"name": NAME, "namespace": ""}}
        return Question("volumesnapshotcontents", content(reference), "Spec.VolumeSnapshotRef.Namespace")
    if by == "second-default-class":
        return Question("volumesnapshotclasses", default_class(driver), "default snapshot class")
    raise KeyError(by)


_CLAIM = {"persistentVolumeClaimName": NAME}


def snapshot(namespace: str, spec: Object, **metadata: Any) -> dict[str, Any]:
    """Return a VolumeSnapshot."""
    return {
        "apiVersion": f"{SNAPSHOT}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"generateName": f"{NAME}-", "namespace": namespace, **metadata},
        "spec": dict(spec),
    }


def content(spec: Object) -> dict[str, Any]:
    """Return a pre-provisioned VolumeSnapshotContent. spec: the invalid fields."""
    good = {
        "deletionPolicy": "Retain",
        "driver": DRIVER,
        "source": {"snapshotHandle": NAME},
        "volumeSnapshotRef": {"name": NAME, "namespace": "default"},
    }
    return {
        "apiVersion": f"{SNAPSHOT}/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"generateName": f"{NAME}-"},
        "spec": {**good, **spec},
    }


def default_class(driver: str, **metadata: Any) -> dict[str, Any]:
    """Return a VolumeSnapshotClass with the annotation of a default class."""
    given = {"generateName": f"{NAME}-", **metadata}
    annotations = {**given.get("annotations", {}), DEFAULT_CLASS: "true"}
    return {
        "apiVersion": f"{SNAPSHOT}/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {**given, "annotations": annotations},
        "driver": driver,
        "deletionPolicy": "Retain",
    }


def default_driver(classes: Iterable[Object]) -> str:
    """Return a driver that has a default class, "" if no driver has one."""
    marked = (
        one for one in classes if (one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    )
    return next((str(one["driver"]) for one in marked), "")


def asked_webhook(configuration: Object, resource: str) -> str:
    """Return the name of the webhook with a rule for the resource. "" if the configuration has at most one webhook."""
    entries = list(configuration.get("webhooks") or ())
    if len(entries) < 2:
        return ""
    asked = (entry for entry in entries for rule in entry.get("rules") or () if resource in _resources(rule))
    return str(next(asked, entries[0])["name"])


def _resources(rule: Object) -> list[str]:
    return list(rule.get("resources") or ())


def converted(version: str) -> dict[str, Any]:
    """Return a VolumeGroupSnapshotContent at a version that is not stored, so its creation needs a conversion."""
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "VolumeGroupSnapshotContent",
        "metadata": {"generateName": f"{NAME}-"},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": DRIVER,
            "source": {
                "groupSnapshotHandles": {"volumeGroupSnapshotHandle": NAME, "volumeSnapshotHandles": [NAME]}
            },
            "volumeGroupSnapshotRef": {"name": NAME, "namespace": "default"},
        },
    }


# Objects that the rules of the CustomResourceDefinitions refuse.


@dataclass(frozen=True)
class Rule:
    """A rule of the schema, found by its message, because API servers print the value in different ways."""

    message: str
    manifest: Callable[[str], dict[str, Any]]


# client/config/crd of v8.0.0 to v8.7.0, which are one file.
RULES: tuple[Rule, ...] = (
    Rule(
        "volumeSnapshotClassName must not be the empty string when set",
        lambda namespace: snapshot(namespace, {"volumeSnapshotClassName": "", "source": _CLAIM}),
    ),
    Rule(
        "exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set",
        lambda namespace: snapshot(namespace, {"source": {**_CLAIM, "volumeSnapshotContentName": NAME}}),
    ),
    Rule(
        "exactly one of volumeHandle and snapshotHandle must be set",
        lambda _namespace: content({"source": {"volumeHandle": NAME, "snapshotHandle": NAME}}),
    ),
    Rule(
        "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set",
        lambda _namespace: content({"volumeSnapshotRef": {"name": NAME}}),
    ),
)


def judge_rules(answers: Iterable[tuple[str, str]]) -> Verdict:
    """Judge the answers of the API server.

    answers: each rule's message, and the answer to an object that violates the rule, "" if the object was accepted.
    """
    every = tuple(answers)
    evidence = tuple(f"{message}: {_line(said) or 'accepted'}" for message, said in every)
    accepted = [message for message, said in every if not said]
    others = [said for message, said in every if said and message not in said]
    if accepted:
        summary = (
            f"the CustomResourceDefinitions accept objects that violate their rules: {'; '.join(accepted)}"
        )
        return Verdict(FAILED, summary, evidence, _RULES_REMEDY, is_lasting=True)
    if others:
        summary = f"an object that violates a rule was refused, but not with the message of the rule: {_line(others[0])}"
        verdict = UNPROVEN if " is forbidden: " in others[0] else FAILED
        return Verdict(verdict, summary, evidence, _RULES_REMEDY, is_lasting=True)
    return Verdict(
        OK, f"the CustomResourceDefinitions refuse all {len(every)} invalid test objects", evidence
    )


_RULES_REMEDY = "Compare the CustomResourceDefinitions with those of the release. Kubernetes evaluates their rules since 1.25"


# A check that a controller processes snapshots.


@dataclass(frozen=True)
class Work:
    """A test object that names a class that does not exist. A working controller reports that in status.error.

    kind: its kind.
    collection: the path at which it is created.
    manifest: the object.
    absent: the name of the missing class.
    """

    kind: str
    collection: str
    manifest: Mapping[str, Any]
    absent: str


def work(namespace: str, token: str, metadata: Object) -> Work:
    """Return a VolumeSnapshot that names a missing class. A controller adds no finalizer to it."""
    absent = f"{NAME}-{token}"
    manifest = snapshot(
        namespace, {"volumeSnapshotClassName": absent, "source": _CLAIM}, name=absent, **metadata
    )
    del manifest["metadata"]["generateName"]
    path = f"/apis/{SNAPSHOT}/v1/namespaces/{namespace}/volumesnapshots"
    return Work("VolumeSnapshot", path, manifest, absent)


def group_work(namespace: str, version: str, token: str, metadata: Object) -> Work:
    """Return a VolumeGroupSnapshot that names a missing class."""
    absent = f"{NAME}-{token}"
    manifest = {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": absent, "namespace": namespace, **metadata},
        "spec": {
            "volumeGroupSnapshotClassName": absent,
            "source": {"selector": {"matchLabels": {LABEL: absent}}},
        },
    }
    path = f"/apis/{GROUP}/{version}/namespaces/{namespace}/volumegroupsnapshots"
    return Work("VolumeGroupSnapshot", path, manifest, absent)


def said_of(obj: Object | None, absent: str) -> str:
    """Return the message of status.error if it names the missing class, else "".

    Source: pkg/common-controller/snapshot_controller_base.go GetSnapshotClassFailed, v4.2.1 to v8.7.0.
    """
    message = str((((obj or {}).get("status") or {}).get("error") or {}).get("message") or "")
    return message if absent in message and "not found" in message else ""


def judge_work(one: Work, said: str, controllers: Sequence[str]) -> Verdict:
    """Judge the answer of the controller. said: "" if there was none until the deadline. controllers: its pods in words."""
    if said:
        return Verdict(
            OK,
            f"a controller processes a {one.kind}: it reports {_line(said)!r}",
            (f"status.error: {said}",),
        )
    seen = "; ".join(controllers) if controllers else "no pod of a snapshot controller"
    return Verdict(
        FAILED,
        f"no controller processes a {one.kind}: the test object, which names a missing class, got no status.error (seen: {seen})",
        tuple(controllers),
        "Check that the controller's pods run and one of them holds the Lease, and read their logs",
    )


# A check that the controller runs the release.

# The first lines of its log: "Version: v8.1.0" to 8.2, "Version" version="v8.4.0" from 8.3 on (cmd/snapshot-controller/main.go).
_SAYS = re.compile(r"""\bVersion: (\S+)|"Version" version="([^"]+)\"""")


def said_by(log: str) -> Version | None:
    """Return the release in the first lines of a log, None if they do not contain it."""
    match = _SAYS.search(log)
    return parse(match[1] or match[2]) if match else None


def tag_of(image: str) -> Version | None:
    """Return the release in an image's tag, None if the tag is not a release or the image has only a digest."""
    return parse(image.rpartition("/")[2].partition("@")[0].partition(":")[2])


@dataclass(frozen=True)
class Pod:
    """A pod that runs the controller.

    is_newest: True if it is of the Deployment's newest template.
    ends: True if it is being deleted.
    tag: the release in its image's tag, None if unknown.
    said: the release in its log, None if unknown.
    host: its name in the Lease.
    silence: why its log does not contain the release.
    """

    name: str
    image: str
    is_newest: bool = True
    is_ready: bool = True
    ends: bool = False
    tag: Version | None = None
    said: Version | None = None
    host: str = ""
    silence: str = ""


@dataclass(frozen=True)
class Leader:
    """The holder of the controller's Lease.

    wanted: True if the pods elect a leader.
    late: seconds since the Lease expired, negative if it has not expired.
    problem: why the Lease cannot be read, "" if it can.
    """

    wanted: bool = True
    holder: str = ""
    late: float = 0.0
    problem: str = ""

    @property
    def is_fresh(self) -> bool:
        return bool(self.holder) and self.late <= CLOCK_SECONDS


# The Date header has whole seconds.
CLOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Running:
    """A Deployment, its pods, and other pods of the same program. replicas: the number that its spec requires."""

    deployment: str
    release: Version
    replicas: int
    pods: tuple[Pod, ...]
    leader: Leader = field(default_factory=Leader)

    @property
    def newest(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.is_newest and not pod.ends]


def judge_version(seen: Running) -> Verdict:
    """Return the verdict of the first rule that applies, with the evidence of all pods."""
    found = next(verdict for rule in _VERSION if (verdict := rule(seen)))
    return replace(found, evidence=tuple(_evidence(seen)))


def _other_release(seen: Running) -> Verdict | None:
    """Find a pod of another release. Its log counts more than its image's tag, which may contain any release."""
    for pod in seen.newest:
        version = pod.said or pod.tag
        if version and version != seen.release:
            by = "logs the release" if pod.said else "has an image of release"
            summary = f"pod {pod.name} of {seen.deployment} {by} {text(version)}, not {text(seen.release)} ({pod.image})"
            remedy = (
                "Check which image the tag has in this registry, and pin the image by its digest (digests)"
            )
            return Verdict(FAILED, summary, remedy=remedy, is_lasting=True)
    return None


def _not_ready(seen: Running) -> Verdict | None:
    ready = [pod for pod in seen.newest if pod.is_ready]
    if ready and len(ready) >= seen.replicas:
        return None
    summary = (
        f"{len(ready)} of {seen.replicas} pods of {seen.deployment} are ready and of its newest template"
    )
    return Verdict(
        FAILED,
        summary,
        remedy="Read the events and the logs of the pods that are not ready, and correct the cause",
    )


def _old_pods(seen: Running) -> Verdict | None:
    old = [pod.name for pod in seen.pods if pod not in seen.newest]
    if not old:
        return None
    summary = f"other pods than those of {seen.deployment} run a snapshot controller: {', '.join(old)}"
    return Verdict(
        FAILED,
        summary,
        remedy="Find the owner of these pods and delete it. Two controllers process the same snapshots",
    )


def _nobody_says(seen: Running) -> Verdict | None:
    silent = next((pod for pod in seen.newest if not (pod.said or pod.tag)), None)
    if silent is None:
        return None
    summary = f"the release of pod {silent.name} is unknown: its image {silent.image} and its log do not show it ({silent.silence})"
    return Verdict(
        UNPROVEN,
        summary,
        remedy="Grant the identity of this task the permission to read pods/log in the controller's namespace",
        is_lasting=True,
    )


def _no_leader(seen: Running) -> Verdict | None:
    leader = seen.leader
    if not leader.wanted:
        return None
    if leader.problem:
        return Verdict(
            UNPROVEN, f"the Lease of the controller cannot be read: {leader.problem}", is_lasting=True
        )
    if not leader.is_fresh:
        last = f" ({leader.holder} held it until {leader.late:.0f} s ago)" if leader.holder else ""
        remedy = "Read the messages about leader election in the logs of the pods"
        return Verdict(FAILED, f"no pod of {seen.deployment} holds the Lease{last}", remedy=remedy)
    if leader.holder not in {pod.host for pod in seen.newest}:
        summary = f"the Lease is held by {leader.holder}, which is not a pod of {seen.deployment}"
        return Verdict(FAILED, summary, remedy="Find the other controller and delete it")
    return None


def _is_the_release(seen: Running) -> Verdict:
    how = (
        "according to their logs"
        if all(pod.said for pod in seen.newest)
        else "for some of them only according to the image tag"
    )
    leads = f", and {seen.leader.holder} leads" if seen.leader.wanted else ""
    return Verdict(
        OK, f"all {len(seen.newest)} pods of {seen.deployment} run {text(seen.release)}, {how}{leads}"
    )


_VERSION: tuple[Callable[[Running], Verdict | None], ...] = (
    _other_release,
    _not_ready,
    _old_pods,
    _nobody_says,
    _no_leader,
    _is_the_release,
)


def _evidence(seen: Running) -> Iterator[str]:
    for pod in seen.pods:
        said = f"its log shows {text(pod.said)}" if pod.said else f"its log shows no release ({pod.silence})"
        state = "ending" if pod.ends else "ready" if pod.is_ready else "not ready"
        yield f"pod {pod.name}: {state}, {pod.image}, {said}{'' if pod.is_newest else ', not of the newest template'}"
    leader = seen.leader
    if not leader.wanted:
        yield "leader election is off"
    elif leader.holder:
        yield f"Lease: held by {leader.holder}" + ("" if leader.is_fresh else ", which does not renew it")


# Before and after.


def history(verdict: str, before: Object) -> tuple[bool | None, str]:
    """Return True if the subject was broken before, None if that is not known, and a sentence about a failure."""
    earlier = before.get("verdict")
    if earlier == FAILED:
        said = f": {before['summary']}" if before.get("summary") else ""
        return True, f"It was already broken before this run{said}" if verdict != OK else ""
    if earlier == OK:
        return False, "It worked before this run" if verdict == FAILED else ""
    return None, ""


def _line(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= 300 else f"{line[:300]}..."
