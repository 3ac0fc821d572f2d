# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of what admission webhooks match: their own pods, the control plane, their time together. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from ..._webhook.admission_match import AdmissionRequest, match
from ..cluster_data import ADMISSION, PODS, Backend, CallPoint, ClusterData
from ..finding import ERROR, FAIL, LIKELY, PASS, PROVEN, SKIP, WARNING, AuditedObject, AuditFinding
from . import control_plane_requests as table
from .control_plane_requests import REQUESTS, RESTORING, RequestMatch, find_matches, may_match

#: A create, update or patch ends after this time (k8s.io/apiserver endpoints/handlers requestTimeoutUpperBound).
REQUEST_SECONDS = 34
#: A slower webhook on objects of the control plane is a hazard even if its failures are ignored
#: (gardener pkg/gardenlet/controller/shoot/care/constraints.go).
SLOW_SECONDS = 15
#: The default of timeoutSeconds (admissionregistration.k8s.io/v1).
DEFAULT_SECONDS = 10
MOST_LINES = 8
_STORED = tuple(row for row in REQUESTS if not row.is_virtual)
# Namespace and name.
Service = tuple[str, str]


def admission_points(data: ClusterData) -> list[CallPoint]:
    """Return the webhooks of configurations."""
    return [point for point in data.points if point.caller == ADMISSION]


def seconds_of(point: CallPoint) -> int:
    return int(point.webhook.get("timeoutSeconds") or DEFAULT_SECONDS)


def check_control_plane(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook: it can, or cannot, block requests that the control plane and the nodes make."""
    for point in admission_points(data):
        is_quick = not point.is_strict and seconds_of(point) <= SLOW_SECONDS
        matched, is_undecided = find_matches(data, point, () if is_quick else _STORED)
        if matched:
            yield _blocked(data, point, matched)
        elif not is_undecided:
            yield AuditFinding("control-plane-blocked", PASS, point.object)


def _blocked(data: ClusterData, point: CallPoint, matched: Sequence[RequestMatch]) -> AuditFinding:
    effect = "refuses" if point.is_strict else f"delays by {seconds_of(point)} s"
    words = f"If {point.object} does not answer, the API server {effect} {len(matched)} kinds of requests of the control plane or the nodes"
    lines = [f"it matches {', '.join(map(str, matched))}"]
    lines += [
        f"{', '.join(entry.operations)} of {entry}: {entry.row.effect}" for entry in matched[:MOST_LINES]
    ]
    is_fatal = point.is_strict and any(entry.row.severity == ERROR for entry in matched)
    return AuditFinding(
        "control-plane-blocked",
        FAIL,
        point.object,
        words,
        (*lines, _limits(point)),
        severity=ERROR if is_fatal else WARNING,
        certainty=PROVEN if any(entry.certainty == PROVEN for entry in matched) else LIKELY,
        breaks_at=_down_since(data, point),
    )


def _limits(point: CallPoint) -> str:
    return f"failurePolicy {point.webhook.get('failurePolicy', 'Fail')}, timeoutSeconds {seconds_of(point)}"


def check_deadlocks(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook: without its pods, its own pods can, or cannot, come back.

    The graph has an edge from a Service to each Service whose pods one of its webhooks guards. Webhooks along a cycle block each other.
    """
    points = [point for point in admission_points(data) if point.is_strict and _selector(data, point)]
    selectors = {point.config.service or ("", ""): _selector(data, point) for point in points}
    guards = {id(point): _guarded(data, point, selectors) for point in points}
    proven, possible = (_reachable(points, guards, answers) for answers in ((True,), (True, None)))
    for point in admission_points(data):
        if id(point) not in guards or point.config.service is None:
            yield AuditFinding("deadlock", SKIP, point.object)
            continue
        own, answers = point.config.service, guards[id(point)]
        ring = [other for other in answers if answers[other] and own in proven[other]]
        if ring:
            yield _stuck(data, point, own, ring, points)
        elif not any(own in possible[other] for other in answers):
            yield AuditFinding("deadlock", PASS, point.object)


def _selector(data: ClusterData, point: CallPoint) -> Mapping[str, str]:
    return data.backends.get(point.backend, Backend()).selector


def _reachable(
    points: Sequence[CallPoint],
    guards: Mapping[int, Mapping[Service, bool | None]],
    answers: Sequence[bool | None],
) -> dict[Service, set[Service]]:
    """Return each Service with itself and those whose pods it guards directly or by others. answers: those that are an edge."""
    edges: dict[Service, set[Service]] = {}
    for point in points:
        own = point.config.service or ("", "")
        guarded = {service for service, answer in guards[id(point)].items() if answer in answers}
        edges.setdefault(own, {own}).update(guarded)
    for middle, onward in edges.items():
        for reached in edges.values():
            if middle in reached:
                reached.update(onward)
    return edges


def _stuck(
    data: ClusterData, point: CallPoint, own: Service, ring: Sequence[Service], points: Sequence[CallPoint]
) -> AuditFinding:
    known = data.pods.get(own)
    seen = f"the labels of {len(known)} pods" if known else "the selector of the Service, which has no pod"
    words = f"{point.object} must answer before new pods of its own Service {'/'.join(own)} work"
    others = [] if own in ring else [other for other in points if other.config.service in ring]
    if others:
        words = f"{point.object} and other webhooks must each answer before new pods of another one work"
    lines = [f"it guards the pods of {other.object}" for other in others[:MOST_LINES]]
    return AuditFinding(
        "deadlock",
        FAIL,
        point.object,
        words,
        (*lines, _limits(point), f"compared with {seen}"),
        certainty=PROVEN if known else LIKELY,
        breaks_at=_down_since(data, point),
    )


def _guarded(
    data: ClusterData, point: CallPoint, selectors: Mapping[Service, Mapping[str, str]]
) -> dict[Service, bool | None]:
    """Return the Services whose pods need requests that the webhook is asked about, with None if that is not decided."""
    rows = [row for row in RESTORING if may_match(point, row)]
    answers: dict[Service, bool | None] = {}
    for service, selector in selectors.items() if rows else ():
        labels = {
            PODS: data.pods.get(service) or (selector,),
            table.SLICES: ({table.SERVICE_LABEL: service[1]},),
        }
        matched, is_undecided = find_matches(data, point, rows, labels, service[0])
        # Without the pods, only the labels of the selector are known.
        if matched or is_undecided or (service not in data.pods and point.webhook.get("objectSelector")):
            answers[service] = bool(matched) or None
    return answers


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
    """Yield the finding about the time that mutating webhooks may take together for one request.

    Mutating webhooks are called one after the other, validating ones at the same time.
    """
    subject = AuditedObject("MutatingWebhookConfiguration", "", "admissionregistration.k8s.io/v1")
    seconds, request, asked = max(_sums(data), key=lambda entry: entry[0], default=(0, None, []))
    if request is None:
        if data.namespaces is not None:
            yield AuditFinding("timeouts-add-up", PASS, subject)
        return
    what = f"{request.operation} of {request}"
    words = f"{len(asked)} mutating webhooks may take {seconds} s for {what}, and the API server ends the request after {REQUEST_SECONDS} s"
    lines = [f"{what}: {seconds} s"]
    lines += [f"{point.object}: timeoutSeconds {seconds_of(point)}" for point in asked[:MOST_LINES]]
    yield AuditFinding("timeouts-add-up", FAIL, subject, words, tuple(lines))


def _sums(data: ClusterData) -> Iterator[tuple[int, AdmissionRequest, list[CallPoint]]]:
    """Yield each request that may take too long, in every namespace, with its seconds and its webhooks."""
    mutating = [point for point in admission_points(data) if point.is_mutating]
    for row in REQUESTS:
        points = [point for point in mutating if may_match(point, row)]
        if sum(map(seconds_of, points)) <= REQUEST_SECONDS:
            continue
        for namespace in (data.namespaces or ()) if row.namespaces else ("",):
            sets = table.object_labels(data, row.labelled) if namespace in ("", *row.namespaces) else ({},)
            for labels in sets:
                for request in row.requests(namespace, table.labels_of(data, namespace), labels):
                    asked = [point for point in points if match(point.webhook, request).is_asked is not False]
                    if (seconds := sum(map(seconds_of, asked))) > REQUEST_SECONDS:
                        yield seconds, request, asked
