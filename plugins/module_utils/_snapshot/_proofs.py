# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What shows that a snapshot controller, its webhook and its CustomResourceDefinitions work. Pure: tables and judgements.

A Deployment that is available proves nothing: upstream's pods have no probes, and a webhook may run without listening.
What counts is what only the thing itself can say or do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ._releases import GROUP, SNAPSHOT, Version, parse, text

OK, FAILED, UNPROVEN = "ok", "failed", "unproven"
Object = Mapping[str, Any]

# Objects of a probe that were really created: the label's value is the run's, so that each finds its own.
LABEL = "certflow.kubernetes/snapshot-probe"
# When the run that made it has ended at the latest, by the API server's clock.
UNTIL = "certflow.kubernetes/probe-until"
DRIVER = "probe.certflow.invalid"
NAME = "certflow-probe"
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Verdict:
    """verdict: OK, FAILED or UNPROVEN. summary: a sentence without its full stop. is_lasting: waiting changes nothing.

    is_answered: UNPROVEN, but what was asked answered as it has to: only how far that goes is open.
    """

    verdict: str
    summary: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    is_lasting: bool = False
    is_answered: bool = False


# What only the webhook refuses.


@dataclass(frozen=True)
class Question:
    """An object that is sent as a dry run. resource: its plural. message: what the refusal holds."""

    resource: str
    manifest: Mapping[str, Any]
    message: str


def question(by: str, namespace: str, driver: str = DRIVER) -> Question:
    """What has to be refused. by: a key of _hop.REFUSALS. driver: one that has a default class.

    pkg/validation-webhook/snapshot.go at v4.2.1 to v8.1.0.
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
    """A VolumeSnapshot."""
    return {
        "apiVersion": f"{SNAPSHOT}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"generateName": f"{NAME}-", "namespace": namespace, **metadata},
        "spec": dict(spec),
    }


def content(spec: Object) -> dict[str, Any]:
    """A VolumeSnapshotContent that was provisioned beforehand, with what is wrong about it."""
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
    """A VolumeSnapshotClass that is to be its driver's default."""
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
    """A driver that has a default class, "" where none has."""
    marked = (
        one for one in classes if (one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    )
    return next((str(one["driver"]) for one in marked), "")


def asked_webhook(configuration: Object, resource: str) -> str:
    """The name of the webhook that is asked about a resource, of several; "" where there is one or none."""
    entries = list(configuration.get("webhooks") or ())
    if len(entries) < 2:
        return ""
    asked = (entry for entry in entries for rule in entry.get("rules") or () if resource in _resources(rule))
    return str(next(asked, entries[0])["name"])


def _resources(rule: Object) -> list[str]:
    return list(rule.get("resources") or ())


def converted(version: str) -> dict[str, Any]:
    """A VolumeGroupSnapshotContent at a version that is not stored: to create it is to have it converted."""
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


# What the rules of the CustomResourceDefinitions refuse.


@dataclass(frozen=True)
class Rule:
    """A rule of the schema by its message; API servers print the value beside it in different ways."""

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
    """answers: each rule's message, and what the API server said to what breaks it, "" where it was accepted."""
    every = tuple(answers)
    evidence = tuple(f"{message}: {_line(said) or 'accepted'}" for message, said in every)
    accepted = [message for message, said in every if not said]
    others = [said for message, said in every if said and message not in said]
    if accepted:
        summary = f"the CustomResourceDefinitions accept what their rules forbid: {'; '.join(accepted)}"
        return Verdict(FAILED, summary, evidence, _RULES_REMEDY, is_lasting=True)
    if others:
        summary = f"what the rules forbid was refused with other words than theirs: {_line(others[0])}"
        verdict = UNPROVEN if " is forbidden: " in others[0] else FAILED
        return Verdict(verdict, summary, evidence, _RULES_REMEDY, is_lasting=True)
    return Verdict(
        OK, f"the CustomResourceDefinitions refuse all {len(every)} things that were tried", evidence
    )


_RULES_REMEDY = (
    "Compare the CustomResourceDefinitions with the release's. Kubernetes evaluates their rules since 1.25"
)


# That somebody works on snapshots.


@dataclass(frozen=True)
class Work:
    """Something that names what does not exist, on which a controller has nothing to do but to say so.

    kind: what it is, for people. path: where it is created, by namespace.
    """

    kind: str
    collection: str
    manifest: Mapping[str, Any]
    absent: str


def work(namespace: str, token: str, metadata: Object) -> Work:
    """A VolumeSnapshot that names a missing class. It gets no finalizer."""
    absent = f"{NAME}-{token}"
    manifest = snapshot(
        namespace, {"volumeSnapshotClassName": absent, "source": _CLAIM}, name=absent, **metadata
    )
    del manifest["metadata"]["generateName"]
    path = f"/apis/{SNAPSHOT}/v1/namespaces/{namespace}/volumesnapshots"
    return Work("VolumeSnapshot", path, manifest, absent)


def group_work(namespace: str, version: str, token: str, metadata: Object) -> Work:
    """The same of group snapshots."""
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
    """What a controller says in status.error of the class that is missing; "" while it says nothing of it.

    pkg/common-controller/snapshot_controller_base.go GetSnapshotClassFailed, v4.2.1 to v8.7.0.
    """
    message = str((((obj or {}).get("status") or {}).get("error") or {}).get("message") or "")
    return message if absent in message and "not found" in message else ""


def judge_work(one: Work, said: str, controllers: Sequence[str]) -> Verdict:
    """said: what the controller said, "" where nothing until the deadline. controllers: what runs there, in words."""
    if said:
        return Verdict(
            OK, f"a controller works on a {one.kind}: it says {_line(said)!r}", (f"status.error: {said}",)
        )
    seen = "; ".join(controllers) if controllers else "no pod of a snapshot controller"
    return Verdict(
        FAILED,
        f"nobody works on a {one.kind}: one that names a missing class got no error in its status (seen: {seen})",
        tuple(controllers),
        "See whether the controller's pods run and one of them holds the Lease, and what it logs",
    )


# That it is the release.

# The first lines of its log: "Version: v8.1.0" to 8.2, "Version" version="v8.4.0" from 8.3 on (cmd/snapshot-controller/main.go).
_SAYS = re.compile(r"""\bVersion: (\S+)|"Version" version="([^"]+)\"""")


def said_by(log: str) -> Version | None:
    """The release that a log begins with; None where it does not say."""
    match = _SAYS.search(log)
    return parse(match[1] or match[2]) if match else None


def tag_of(image: str) -> Version | None:
    """The release by an image's tag; None where that is no release, or there is a digest alone."""
    return parse(image.rpartition("/")[2].partition("@")[0].partition(":")[2])


@dataclass(frozen=True)
class Pod:
    """A pod that runs the controller.

    is_newest: of the Deployment's newest template. ends: it is being deleted. tag: the release by its image, said: by its log,
    None where they do not tell. host: what it calls itself in the Lease. silence: why its log says nothing.
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
    """Who leads. wanted: whether the pods elect a leader. problem: why it cannot be told.

    late: seconds since the Lease has run out, negative while it has not.
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
    """A Deployment, its pods and others' of the same program beside them. replicas: how many are wanted."""

    deployment: str
    release: Version
    replicas: int
    pods: tuple[Pod, ...]
    leader: Leader = field(default_factory=Leader)

    @property
    def newest(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.is_newest and not pod.ends]


def judge_version(seen: Running) -> Verdict:
    """The first rule that applies; evidence is everything."""
    found = next(verdict for rule in _VERSION if (verdict := rule(seen)))
    return replace(found, evidence=tuple(_evidence(seen)))


def _other_release(seen: Running) -> Verdict | None:
    """What a pod says of itself outweighs its image's tag, which may hold anything."""
    for pod in seen.newest:
        version = pod.said or pod.tag
        if version and version != seen.release:
            by = "says of itself" if pod.said else "has an image"
            summary = f"pod {pod.name} of {seen.deployment} {by} {text(version)}, not {text(seen.release)} ({pod.image})"
            remedy = "See what the image's tag holds in this registry; pin it by its digest"
            return Verdict(FAILED, summary, remedy=remedy, is_lasting=True)
    return None


def _not_ready(seen: Running) -> Verdict | None:
    ready = [pod for pod in seen.newest if pod.is_ready]
    if ready and len(ready) >= seen.replicas:
        return None
    summary = (
        f"{len(ready)} of {seen.replicas} pods of {seen.deployment} are of its newest template and ready"
    )
    return Verdict(FAILED, summary, remedy="See why its pods are not, and what they log")


def _old_pods(seen: Running) -> Verdict | None:
    old = [pod.name for pod in seen.pods if pod not in seen.newest]
    if not old:
        return None
    summary = f"other pods of a snapshot controller are left beside {seen.deployment}: {', '.join(old)}"
    return Verdict(FAILED, summary, remedy="See who owns them; two controllers work on the same snapshots")


def _nobody_says(seen: Running) -> Verdict | None:
    silent = next((pod for pod in seen.newest if not (pod.said or pod.tag)), None)
    if silent is None:
        return None
    summary = f"which release pod {silent.name} is, neither its image {silent.image} nor its log tells ({silent.silence})"
    return Verdict(UNPROVEN, summary, remedy="Let the task read the logs of pods there", is_lasting=True)


def _no_leader(seen: Running) -> Verdict | None:
    leader = seen.leader
    if not leader.wanted:
        return None
    if leader.problem:
        return Verdict(UNPROVEN, f"who leads cannot be told: {leader.problem}", is_lasting=True)
    if not leader.is_fresh:
        last = f"; {leader.holder} did until {leader.late:.0f} s ago" if leader.holder else ""
        remedy = "See what the pods log about leader election"
        return Verdict(FAILED, f"no pod of {seen.deployment} holds the Lease{last}", remedy=remedy)
    if leader.holder not in {pod.host for pod in seen.newest}:
        summary = f"the Lease is held by {leader.holder}, which is no pod of {seen.deployment}"
        return Verdict(FAILED, summary, remedy="Find that controller and end it")
    return None


def _is_the_release(seen: Running) -> Verdict:
    how = (
        "by their own words"
        if all(pod.said for pod in seen.newest)
        else "by the tag of their image alone for some"
    )
    leads = f", and {seen.leader.holder} leads" if seen.leader.wanted else ""
    return Verdict(
        OK, f"all {len(seen.newest)} pods of {seen.deployment} are {text(seen.release)}, {how}{leads}"
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
        said = f"says {text(pod.said)}" if pod.said else f"its log does not tell ({pod.silence})"
        state = "ending" if pod.ends else "ready" if pod.is_ready else "not ready"
        yield f"pod {pod.name}: {state}, {pod.image}, {said}{'' if pod.is_newest else ', not of the newest template'}"
    leader = seen.leader
    if not leader.wanted:
        yield "leader election is off"
    elif leader.holder:
        yield f"Lease: held by {leader.holder}" + ("" if leader.is_fresh else ", who does not renew it")


# Before and after.


def history(verdict: str, before: Object) -> tuple[bool | None, str]:
    """Whether it was broken before, None where that is not known; and for a failure the words about it."""
    earlier = before.get("verdict")
    if earlier == FAILED:
        said = f": {before['summary']}" if before.get("summary") else ""
        return True, f"It was broken before this run as well{said}" if verdict != OK else ""
    if earlier == OK:
        return False, "It worked before this run, and is broken now" if verdict == FAILED else ""
    return None, ""


def _line(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= 300 else f"{line[:300]}..."
