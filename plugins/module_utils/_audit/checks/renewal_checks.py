# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of how certificates are renewed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ..._base.times import format_time
from ..facts.cluster_data import Backend, CallPoint, ClusterData
from ..facts.finding import (
    FAIL,
    LIKELY,
    PASS,
    SKIP,
    UNMANAGED,
    AuditFinding,
)

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
    seen = [(chain.endpoint, chain.certificate) for chain in backend.chains if chain.certificate]
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
        chain.certificate.not_after
        for chain in backend.chains
        if chain.certificate
        and chain.certificate.not_after - chain.certificate.not_before <= YEAR + timedelta(days=1)
    ]
    if ends:
        words = f"No known program renews the certificate that {point.object} depends on. It expires at {format_time(min(ends))}"
        lines = [f"the caBundle was written by {', '.join(point.bundle_writers)}"]
        if point.config.service:
            lines.append(f"a task that renews it: {issue_task(point, 'NAME')}")
        yield AuditFinding(
            "renewal-unmanaged",
            FAIL,
            point.object,
            words,
            tuple(lines),
            certainty=LIKELY,
            breaks_at=min(ends),
        )
    elif backend.chains:
        yield AuditFinding("renewal-unmanaged", PASS, point.object)


def issue_task(point: CallPoint, secret: str) -> str:
    """Return the task that issues the certificate of a Service and writes the caBundle. secret: the name of the Secret of the pods."""
    namespace, service = point.config.service or ("", "")
    target = f"{{kind: {point.object.kind}, name: {point.object.name}}}"
    options = f"namespace: {namespace}, service: {service}, secret: {{name: {secret}}}, targets: [{target}]"
    return f"certflow.kubernetes.k8s_csr: {{{options}}}"
