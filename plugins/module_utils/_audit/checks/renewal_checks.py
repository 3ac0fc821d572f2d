# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of how certificates are renewed, and of the number of endpoints. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..._base.times import format_time
from ..facts.cluster_data import PODS, Backend, CallPoint, ClusterData, Labels
from ..facts.finding import (
    CLUSTER,
    FAIL,
    INFO,
    LIKELY,
    PASS,
    SKIP,
    UNMANAGED,
    WARNING,
    AuditedObject,
    AuditFinding,
)
from .admission_checks import admission_points
from .control_plane_requests import RESTORING, find_matches, may_match

#: A kubelet updates the files of a Secret within about two minutes, and a program may read them once in a while.
RELOAD_WITHIN = timedelta(hours=1)
YEAR = timedelta(days=365)
#: Field managers of tools that people run. No program of the cluster renews what they wrote.
HAND_TOOLS = ("kubectl", "before-first-apply")
MOST_LINES = 5
#: The checks of a certificate that ends. If no program renews it, a task issues it again.
ENDS = frozenset(("expired", "expiring", "renewal-unmanaged"))


def check_renewal(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about the renewal of each certificate."""
    for point in data.points:
        backend = data.backends.get(point.backend, Backend(is_known=False))
        yield from _reloaded(data, point, backend)
        yield from _managed(point, backend)


def _reloaded(data: ClusterData, point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    """Yield the finding of endpoints that serve an older certificate than the newest one of cert-manager."""
    newest = data.certificates.get(point.certificate) if point.certificate else None
    if newest is None or point.config.server_name not in newest.dns_names:
        yield AuditFinding("not-reloaded", SKIP, point.object)
        return
    seen = [(one.endpoint, one.certificate) for one in backend.chains if one.certificate]
    old = [(endpoint, facts) for endpoint, facts in seen if facts.not_before < newest.not_before]
    if old and data.now - newest.not_before > RELOAD_WITHIN:
        words = f"{len(old)} endpoints that {point.object} calls serve an older certificate than cert-manager has issued"
        name = "/".join(point.certificate or ())
        lines = [f"the Certificate {name} begins at {format_time(newest.not_before)}"]
        lines += [
            f"{endpoint}: begins at {format_time(facts.not_before)}" for endpoint, facts in old[:MOST_LINES]
        ]
        end = min(facts.not_after for _endpoint, facts in old)
        yield AuditFinding("not-reloaded", FAIL, point.object, words, tuple(lines), breaks_at=end)
    elif seen:
        yield AuditFinding("not-reloaded", PASS, point.object)


def _managed(point: CallPoint, backend: Backend) -> Iterator[AuditFinding]:
    """Yield the finding of a certificate of at most a year whose CA bundle only a person has written."""
    is_by_hand = all(writer.startswith(HAND_TOOLS) for writer in point.bundle_writers)
    if point.object.manager != UNMANAGED or not point.bundle_writers or not is_by_hand:
        yield AuditFinding("renewal-unmanaged", PASS if point.bundle_writers else SKIP, point.object)
        return
    ends = [
        one.certificate.not_after
        for one in backend.chains
        if one.certificate
        and one.certificate.not_after - one.certificate.not_before <= YEAR + timedelta(days=1)
    ]
    if ends:
        words = f"No known program renews the certificate that {point.object} depends on. It expires at {format_time(min(ends))}"
        lines: tuple[str, ...] = (f"the caBundle was written by {', '.join(point.bundle_writers)}",)
        lines += (f"a task that renews it: {issue_task(point, 'NAME')}",) if point.config.service else ()
        yield AuditFinding(
            "renewal-unmanaged", FAIL, point.object, words, lines, certainty=LIKELY, breaks_at=min(ends)
        )
    elif backend.chains:
        yield AuditFinding("renewal-unmanaged", PASS, point.object)


def issue_task(point: CallPoint, secret: str) -> str:
    """Return the task that issues the certificate of a Service and writes the caBundle. secret: the name of the Secret of the pods."""
    namespace, service = point.config.service or ("", "")
    target = f"{{kind: {point.object.kind}, name: {point.object.name}}}"
    options = f"namespace: {namespace}, service: {service}, secret: {{name: {secret}}}, targets: [{target}]"
    return f"certflow.kubernetes.k8s_csr: {{{options}}}"


def check_endpoint_count(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings of admission webhooks with one endpoint, or with all endpoints on one of several nodes.

    Webhooks with the same severity are one finding, without those that their owners except.
    """
    nodes = {node for backend in data.backends.values() for node in backend.nodes if node}
    groups: dict[tuple[str, AuditedObject], dict[str, str]] = {}
    for point in admission_points(data):
        backend = data.backends.get(point.backend, Backend(is_known=False))
        if not backend.selector or not backend.is_reachable:
            yield AuditFinding("one-endpoint", SKIP, point.object)
            continue
        own = set(backend.nodes)
        if backend.ready > 1 and not (len(own) == 1 and "" not in own and len(nodes) > 1):
            yield AuditFinding("one-endpoint", PASS, point.object)
            continue
        words = "one ready endpoint" if backend.ready == 1 else f"all endpoints on the node {min(own)}"
        severity = WARNING if point.is_strict and _guards_pods(data, point) else INFO
        subject = point.object if "one-endpoint" in point.object.excepted_checks else CLUSTER
        group = groups.setdefault((severity, subject), {})
        group[str(point.object)] = f"{point.object}: {words}"
    for (severity, subject), found in groups.items():
        words = f"Admission webhooks with one ready endpoint, or with all endpoints on one node: {len(found)}"
        guards = ("they must answer before new pods of other namespaces work",)
        more = (f"and {len(found) - MOST_LINES} more",) if len(found) > MOST_LINES else ()
        lines = (*(guards if severity == WARNING else ()), *list(found.values())[:MOST_LINES], *more)
        yield AuditFinding(
            "one-endpoint", FAIL, subject, words, lines, severity, objects=tuple(found), detail=severity
        )


def _guards_pods(data: ClusterData, point: CallPoint) -> bool:
    """Return True if the webhook is asked about what pods without labels need in a namespace other than its own."""
    own = point.config.service[0] if point.config.service else ""
    others = [namespace for namespace in data.namespaces or {} if namespace != own]
    rows = [row for row in RESTORING if may_match(point, row)]
    own_pods: dict[str, tuple[Labels, ...]] = {PODS: ({},)}
    return bool(rows) and any(
        find_matches(data, point, rows, own_pods, namespace, is_one_enough=True)[0] for namespace in others
    )
