# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of what admission webhooks match: their own pods, the control plane, their time together. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..._webhook.admission_match import ObjectCreation, match
from ..cluster_data import ADMISSION, Backend, CallPoint, ClusterData
from ..finding import ERROR, FAIL, LIKELY, PASS, PROVEN, SKIP, WARNING, AuditedObject, AuditFinding

#: A create, update or patch ends after this time (k8s.io/apiserver endpoints/handlers requestTimeoutUpperBound).
REQUEST_SECONDS = 34
#: A slower webhook on objects of the control plane is a hazard even if its failures are ignored
#: (gardener pkg/gardenlet/controller/shoot/care/constraints.go).
SLOW_SECONDS = 15
#: The default of timeoutSeconds (admissionregistration.k8s.io/v1).
DEFAULT_SECONDS = 10
MOST_LINES = 8
KUBE_SYSTEM = "kube-system"


@dataclass(frozen=True)
class CriticalResource:
    """A resource without which control planes and nodes do not work."""

    group: str
    version: str
    resource: str
    kind: str
    #: () for a resource outside of namespaces.
    namespaces: tuple[str, ...] = ()


# Source: gardener pkg/gardenlet/operation/botanist/matchers/matcher.go.
CRITICAL: tuple[CriticalResource, ...] = (
    CriticalResource("", "v1", "pods", "Pod", (KUBE_SYSTEM,)),
    CriticalResource("", "v1", "configmaps", "ConfigMap", (KUBE_SYSTEM,)),
    CriticalResource("", "v1", "endpoints", "Endpoints", (KUBE_SYSTEM, "default")),
    CriticalResource("", "v1", "secrets", "Secret", (KUBE_SYSTEM,)),
    CriticalResource("", "v1", "serviceaccounts", "ServiceAccount", (KUBE_SYSTEM,)),
    CriticalResource("", "v1", "services", "Service", (KUBE_SYSTEM, "default")),
    CriticalResource("", "v1", "nodes", "Node"),
    CriticalResource("", "v1", "namespaces", "Namespace"),
    CriticalResource("apps", "v1", "controllerrevisions", "ControllerRevision", (KUBE_SYSTEM,)),
    CriticalResource("apps", "v1", "daemonsets", "DaemonSet", (KUBE_SYSTEM,)),
    CriticalResource("apps", "v1", "deployments", "Deployment", (KUBE_SYSTEM,)),
    CriticalResource("apps", "v1", "replicasets", "ReplicaSet", (KUBE_SYSTEM,)),
    CriticalResource("coordination.k8s.io", "v1", "leases", "Lease", (KUBE_SYSTEM, "kube-node-lease")),
    CriticalResource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", (KUBE_SYSTEM,)),
    CriticalResource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole"),
    CriticalResource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding"),
    CriticalResource("rbac.authorization.k8s.io", "v1", "roles", "Role", (KUBE_SYSTEM,)),
    CriticalResource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", (KUBE_SYSTEM,)),
    CriticalResource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
    CriticalResource("apiregistration.k8s.io", "v1", "apiservices", "APIService"),
    CriticalResource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest"),
    CriticalResource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass"),
)
OPERATIONS = ("CREATE", "UPDATE")


def admission_points(data: ClusterData) -> list[CallPoint]:
    """Return the webhooks of configurations."""
    return [point for point in data.points if point.caller == ADMISSION]


def seconds_of(point: CallPoint) -> int:
    return int(point.webhook.get("timeoutSeconds") or DEFAULT_SECONDS)


def check_control_plane(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook: it can, or cannot, block objects that the control plane and the nodes need."""
    for point in admission_points(data):
        if not point.is_strict and seconds_of(point) <= SLOW_SECONDS:
            yield AuditFinding("control-plane-blocked", PASS, point.object)
            continue
        matched, undecided = _critical(data, point)
        if matched:
            yield _blocked(data, point, matched)
        elif not undecided:
            yield AuditFinding("control-plane-blocked", PASS, point.object)


def _blocked(data: ClusterData, point: CallPoint, matched: Sequence[str]) -> AuditFinding:
    effect = "refuses" if point.is_strict else f"delays by {seconds_of(point)} s"
    words = (
        f"If {point.object} does not answer, the API server {effect} writes of {len(matched)} kinds of objects that the "
        "control plane or the nodes need"
    )
    lines = [f"it matches, for an object without labels: {', '.join(matched)}", *_limits(point)]
    return AuditFinding(
        "control-plane-blocked",
        FAIL,
        point.object,
        words,
        tuple(lines),
        severity=ERROR if point.is_strict else WARNING,
        breaks_at=_down_since(data, point),
    )


def _limits(point: CallPoint) -> Iterator[str]:
    policy = point.webhook.get("failurePolicy", "Fail")
    yield f"failurePolicy {policy}, timeoutSeconds {seconds_of(point)}"


def _critical(data: ClusterData, point: CallPoint) -> tuple[list[str], bool]:
    """Return the critical resources that the webhook matches, and True if a match of another one is not decided."""
    matched: list[str] = []
    undecided = False
    for row in CRITICAL:
        for namespace in row.namespaces or ("",):
            answers = [match(point.webhook, creation).is_asked for creation in _writes(data, row, namespace)]
            if True in answers:
                name = f"{row.resource}.{row.group}" if row.group else row.resource
                matched.append(f"{name} in {namespace}" if namespace else name)
            undecided = undecided or None in answers
    return matched, undecided


def _writes(data: ClusterData, row: CriticalResource, namespace: str) -> Iterator[ObjectCreation]:
    """Yield the operations on an object without labels. A namespace is kube-system."""
    labels = dict(labels_of(data, KUBE_SYSTEM) or {}) if row.resource == "namespaces" else {}
    for operation in OPERATIONS:
        yield ObjectCreation(
            row.group,
            row.version,
            row.resource,
            row.kind,
            namespace=namespace,
            labels=labels,
            namespace_labels=labels_of(data, namespace),
            operation=operation,
        )


def labels_of(data: ClusterData, namespace: str) -> Mapping[str, str] | None:
    """Return the labels of a namespace, None if they are not known. The API server sets the label of its name."""
    if not namespace:
        return {}
    if data.namespaces is None:
        return None
    return data.namespaces.get(namespace, {"kubernetes.io/metadata.name": namespace})


def check_deadlocks(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook: without its pods, its own pods can, or cannot, be created.

    Two webhooks that guard each other's pods are a deadlock as well.
    """
    points = [point for point in admission_points(data) if point.is_strict]
    guarded = {id(point): _guards(data, point, points) for point in points}
    for point in admission_points(data):
        if not point.is_strict or not data.backends.get(point.backend, Backend()).selector:
            yield AuditFinding("deadlock", SKIP, point.object)
            continue
        yield from _deadlock(data, point, points, guarded)


def _deadlock(
    data: ClusterData,
    point: CallPoint,
    points: Sequence[CallPoint],
    guarded: Mapping[int, Mapping[tuple[str, str], bool | None]],
) -> Iterator[AuditFinding]:
    own = point.config.service or ("", "")
    answer = guarded[id(point)].get(own, False)
    service = "/".join(own)
    if answer:
        words = f"{point.object} must answer before a pod of its own Service {service} can be created"
        yield _stuck(data, point, words, ())
        return
    partners = [
        other
        for other in points
        if other.config.service is not None
        and other.config.service != own
        and guarded[id(point)].get(other.config.service)
        and guarded[id(other)].get(own)
    ]
    if partners:
        words = f"{point.object} and another webhook must each answer before a pod of the other one can be created"
        yield _stuck(
            data, point, words, tuple(f"the other one: {other.object}" for other in partners[:MOST_LINES])
        )
    elif answer is False:
        yield AuditFinding("deadlock", PASS, point.object)


def _stuck(data: ClusterData, point: CallPoint, words: str, lines: tuple[str, ...]) -> AuditFinding:
    known = data.pods.get(point.config.service or ("", ""))
    seen = (
        f"the labels of {len(known)} pods" if known else "the selector of the Service, because it has no pod"
    )
    return AuditFinding(
        "deadlock",
        FAIL,
        point.object,
        words,
        (*lines, *_limits(point), f"compared with {seen}"),
        certainty=PROVEN if known else LIKELY,
        breaks_at=_down_since(data, point),
    )


def _guards(
    data: ClusterData, point: CallPoint, points: Sequence[CallPoint]
) -> dict[tuple[str, str], bool | None]:
    """Return for each Service of a webhook if this webhook is asked about its pods, None if that is not decided."""
    answers: dict[tuple[str, str], bool | None] = {}
    for other in points if names_pods(point) else ():
        service = other.config.service
        if service is None or service in answers:
            continue
        answers[service] = _is_asked_about_pods(data, point, service, other)
    return answers


def names_pods(point: CallPoint) -> bool:
    """Return True if a rule of the webhook names pods, for any operation and selector."""
    return any(
        text.partition("/")[0] in ("*", "pods")
        for rule in point.webhook.get("rules") or ()
        if {"", "*"} & set(rule.get("apiGroups") or ())
        for text in rule.get("resources") or ()
    )


def _is_asked_about_pods(
    data: ClusterData, point: CallPoint, service: tuple[str, str], other: CallPoint
) -> bool | None:
    backend = data.backends.get(other.backend, Backend())
    if not backend.selector:
        return False
    if service not in data.pods and point.webhook.get("objectSelector"):
        return None  # only the labels of its pods can decide
    pods = data.pods.get(service) or (backend.selector,)
    found = [
        match(
            point.webhook,
            ObjectCreation("", "v1", "pods", "Pod", service[0], labels, labels_of(data, service[0])),
        ).is_asked
        for labels in pods
    ]
    return True if True in found else None if None in found else False


def _down_since(data: ClusterData, point: CallPoint) -> datetime | None:
    """Return the time of the audit if the webhook does not answer now, None otherwise: it is a hazard then."""
    backend = data.backends.get(point.backend)
    return data.now if backend and backend.is_known and not backend.is_reachable else None


def check_duplicates(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook that another configuration contains too: the same call for the same requests."""
    points = admission_points(data)
    groups: dict[str, list[CallPoint]] = {}
    for point in points:
        groups.setdefault(_call_of(point), []).append(point)
    for point in points:
        mine = (point.object.kind, point.object.name)
        others = [
            other.object
            for other in groups[_call_of(point)]
            if (other.object.kind, other.object.name) != mine
        ]
        if others:
            lines = tuple(
                f"the same as {other}, managed by: {other.manager}" for other in others[:MOST_LINES]
            )
            words = f"{point.object} calls the same webhook for the same requests as another configuration"
            yield AuditFinding("webhook-duplicated", FAIL, point.object, words, lines)
        else:
            yield AuditFinding("webhook-duplicated", PASS, point.object)


def _call_of(point: CallPoint) -> str:
    """Return a text that is the same for webhooks that make the same call for the same requests."""
    client = point.webhook.get("clientConfig") or {}
    place = {**(client.get("service") or {"url": client.get("url")})}
    fields = ("rules", "namespaceSelector", "objectSelector", "matchConditions")
    return json.dumps([point.is_mutating, place, [point.webhook.get(key) for key in fields]], sort_keys=True)


def check_timeouts(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the finding about the time that mutating webhooks may take together for one new pod.

    Mutating webhooks are called one after the other, validating ones at the same time.
    """
    points = [point for point in admission_points(data) if point.is_mutating and names_pods(point)]
    subject = AuditedObject("MutatingWebhookConfiguration", "", "admissionregistration.k8s.io/v1")
    sums = [
        (sum(map(seconds_of, asked)), namespace, asked)
        for namespace in data.namespaces or {}
        for asked in [[point for point in points if _asks_for_pod(data, point, namespace)]]
    ]
    worst = max(sums, key=lambda entry: (entry[0], entry[1]), default=(0, "", []))
    seconds, namespace, asked = worst
    if seconds <= REQUEST_SECONDS:
        if data.namespaces is not None:
            yield AuditFinding("timeouts-add-up", PASS, subject)
        return
    words = (
        f"{len(asked)} mutating webhooks may take {seconds} s together for a new pod in namespace {namespace}, and the API "
        f"server ends the request after {REQUEST_SECONDS} s"
    )
    lines = [f"namespace {namespace}: {seconds} s"]
    lines += [f"{point.object}: timeoutSeconds {seconds_of(point)}" for point in asked[:MOST_LINES]]
    yield AuditFinding("timeouts-add-up", FAIL, subject, words, tuple(lines))


def _asks_for_pod(data: ClusterData, point: CallPoint, namespace: str) -> bool:
    creation = ObjectCreation("", "v1", "pods", "Pod", namespace, {}, labels_of(data, namespace))
    return match(point.webhook, creation).is_asked is not False
