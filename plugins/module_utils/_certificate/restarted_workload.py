# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the workload to restart, if the task names none (on_stale: restart)."""

from __future__ import annotations

from .._csr.errors import RequestError
from .._kube import access_review
from .._kube.errors import Forbidden
from .._webhook import workloads
from .._webhook.workloads import WebhookWorkload
from .certificate_run import CertificateRun


def find(run: CertificateRun) -> WebhookWorkload:
    """Return the workload of the task, or the only one behind the Service whose pods use the Secret.

    Raises RequestError with the candidates if there is not exactly one, MissingPermissions, KubeError.
    """
    if run.serving.workload:
        return run.serving.workload
    candidates = _candidates(run)
    if len(candidates) == 1:
        return candidates[0]
    raise _not_one(run, candidates)


def check(run: CertificateRun) -> None:
    """Check before the first write that a stale workload could be restarted. Nothing is stale without a workload.

    Raises RequestError for several candidates, MissingPermissions, KubeError.
    """
    if not run.serving.finds_workload:
        return
    candidates = _candidates(run)
    if len(candidates) > 1:
        raise _not_one(run, candidates)
    for workload in candidates:
        access_review.require(run.client, workload.permissions, f"restart {workload}")


def _candidates(run: CertificateRun) -> tuple[WebhookWorkload, ...]:
    intent = run.intent
    needed = workloads.list_permissions(intent.namespace)
    access_review.require(run.client, needed, f"find the workload that uses {intent.secret}")
    return workloads.find_candidates(run.client, intent.namespace, intent.secret.name, _selector(run))


def _selector(run: CertificateRun) -> dict[str, str] | None:
    """Return the selector of the Service, None if this identity may not read it or if it does not exist."""
    intent = run.intent
    if not intent.service:
        return None
    try:
        service = run.client.find(f"/api/v1/namespaces/{intent.namespace}/services/{intent.service}")
    except Forbidden:
        return None
    selector: dict[str, str] | None = service["spec"].get("selector") if service else None
    return selector


def _not_one(run: CertificateRun, candidates: tuple[WebhookWorkload, ...]) -> RequestError:
    secret = run.intent.secret
    behind = f" behind Service {run.intent.namespace}/{run.intent.service}" if run.intent.service else ""
    if not candidates:
        return RequestError(
            f"on_stale: restart has no workload, because no Deployment, DaemonSet or StatefulSet{behind} uses {secret}",
            remedy="Set on_stale to KIND/NAME of the workload that serves the certificate, or to fail",
        )
    return RequestError(
        f"on_stale: restart has no workload, and {len(candidates)} workloads{behind} use {secret}: "
        f"{', '.join(map(str, candidates))}",
        evidence=[str(workload) for workload in candidates],
        remedy=f"Set on_stale to one of them, such as {candidates[0].kind}/{candidates[0].name}",
    )
