# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of what admission webhooks match: their own pods, the control plane, their time together. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from ..._base.text import plural
from ..._webhook.calls.call_failures import ADMISSION
from ..facts.cluster_data import PODS, Backend, CallPoint, ClusterData
from ..facts.finding import (
    ERROR,
    FAIL,
    LIKELY,
    PASS,
    PROVEN,
    SKIP,
    UNKNOWN,
    WARNING,
    AuditedObject,
    AuditFinding,
    judged,
)
from . import control_plane_requests as table
from .control_plane_requests import (
    REQUESTS,
    RESTORING,
    RequestMatch,
    find_matches,
    may_match,
)

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
        matched, undecided = find_matches(data, point, () if is_quick else _STORED)
        if matched:
            yield _blocked(data, point, matched)
        else:
            yield from passed("control-plane-blocked", point.object, undecided)


def passed(check: str, subject: AuditedObject, undecided: Iterable[str]) -> list[AuditFinding]:
    """Return a pass, or a finding for each source because of which the check is not decided."""
    unknown = [AuditFinding(check, UNKNOWN, subject, source=source) for source in sorted(undecided)]
    return unknown or [AuditFinding(check, PASS, subject)]


def _blocked(data: ClusterData, point: CallPoint, matched: Sequence[RequestMatch]) -> AuditFinding:
    effect = "refuses" if point.is_strict else f"delays by {seconds_of(point)} s"
    words = f"If {point.object} does not answer, the API server {effect} {plural(len(matched), 'kind')} of requests of the control plane or the nodes"
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
    guards = {
        id(point): _guarded(data, point, selectors)
        for point in itertools.takewhile(lambda _point: not data.is_over(), points)
    }
    if len(guards) < len(points):
        return
    proven, possible = (_reachable(data, points, guards, is_proven=is_proven) for is_proven in (True, False))
    for point in admission_points(data):
        if id(point) not in guards or point.config.service is None:
            yield AuditFinding("deadlock", SKIP, point.object)
            continue
        own, answers = point.config.service, guards[id(point)]
        ring = [other for other in answers if answers[other] is None and own in proven[other]]
        if ring:
            yield _stuck(data, point, own, ring, points)
        elif not any(own in possible[other] for other in answers):
            yield AuditFinding("deadlock", PASS, point.object)
        else:
            around = [other for other in points if own in possible[other.config.service or own]]
            ways = [guards[id(other)] for other in around if other.config.service in possible[own]]
            sources = {source for way in ways for reasons in way.values() for source in reasons or ()}
            yield from passed("deadlock", point.object, sources) if sources else ()


def _selector(data: ClusterData, point: CallPoint) -> Mapping[str, str]:
    return data.backends.get(point.backend, Backend()).selector


def _reachable(
    data: ClusterData,
    points: Sequence[CallPoint],
    guards: Mapping[int, Mapping[Service, set[str] | None]],
    *,
    is_proven: bool,
) -> dict[Service, set[Service]]:
    """Return each Service with itself and those whose pods it guards, or may guard, directly or by others."""
    edges: dict[Service, set[Service]] = {}
    for point in points:
        own = point.config.service or ("", "")
        guarded = {
            service for service, answer in guards[id(point)].items() if answer is None or not is_proven
        }
        edges.setdefault(own, {own}).update(guarded)
    for middle, onward in edges.items():
        for reached in () if data.is_over() else edges.values():
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
) -> dict[Service, set[str] | None]:
    """Return the Services whose pods need requests that the webhook is asked about, with the sources that leave it undecided, or None."""
    rows = [row for row in RESTORING if may_match(point, row)]
    answers: dict[Service, set[str] | None] = {}
    for service, selector in selectors.items() if rows else ():
        labels = {
            PODS: data.pods.get(service) or (selector,),
            table.SLICES: ({table.SERVICE_LABEL: service[1]},),
        }
        is_truncated = service in data.truncated
        unread = (PODS,) if is_truncated or service not in data.pods else ()
        matched, undecided = find_matches(
            data, point, rows, labels, service[0], unread=unread, is_one_enough=True
        )
        if matched:
            answers[service] = None
        elif undecided:  # pods that were not read are a gap
            answers[service] = {source for source in undecided if source != PODS or is_truncated}
    return answers


def _down_since(data: ClusterData, point: CallPoint) -> datetime | None:
    """Return the time of the audit if the webhook does not answer now, None otherwise: it is a hazard then."""
    backend = data.backends.get(point.backend)
    return data.now if backend and backend.is_known and not backend.is_reachable else None


def check_duplicates(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield a finding for each webhook that another configuration contains too: the same call for the same requests."""
    points = admission_points(data)
    #: What is called for what -> the first webhook of each configuration.
    groups: dict[str, dict[tuple[str, str], AuditedObject]] = {}
    for point in points:
        groups.setdefault(_call_of(point), {}).setdefault(
            (point.object.kind, point.object.name), point.object
        )
    for point in points:
        own = (point.object.kind, point.object.name)
        others = (subject for name, subject in groups[_call_of(point)].items() if name != own)
        lines = tuple(
            f"the same as {other}, managed by: {other.manager}"
            for other in itertools.islice(others, MOST_LINES)
        )
        words = f"{point.object} calls the same webhook for the same requests as another configuration"
        yield judged("webhook-duplicated", point.object, words if lines else "", lines)


def _call_of(point: CallPoint) -> str:
    """Return a text that is the same for webhooks that make the same call for the same requests."""
    client = point.webhook.get("clientConfig") or {}
    place = {**(client.get("service") or {"url": client.get("url")})}
    fields = ("rules", "namespaceSelector", "objectSelector", "matchConditions")
    return json.dumps([point.is_mutating, place, [point.webhook.get(key) for key in fields]], sort_keys=True)
