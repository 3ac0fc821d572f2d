# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair a workload whose pods do not serve the good certificate of their Secret: restart it. A restart cannot be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._kube import json_patch
from .._kube.access_review import Permission
from .._kube.client import Client
from .._webhook import workloads
from .._webhook.calls.admission_match import AdmissionRequest, match
from .._webhook.calls.call_failures import ADMISSION
from .._webhook.workloads import WebhookWorkload
from .bundle_repairs import accepted_secrets, refusal_of
from .repair_model import Action, Case, Refusal, RepairOptions, RepairWrite, Written
from .surroundings import MountedSecret

Object = Mapping[str, Any]


@dataclass(frozen=True)
class RestartAction(Action):
    """The restart of one workload."""

    workload: WebhookWorkload
    #: The Secret that the new pods are to serve.
    secret: str
    #: When the first of the certificates ends that the pods serve.
    ends: datetime

    @property
    def key(self) -> tuple[str, ...]:
        return ("restart", str(self.workload))

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        own = (self.workload.name, self.workload.namespace)
        field = "/spec/template/metadata/annotations/" + json_patch.escape(workloads.RESTARTED_AT)
        return (RepairWrite("patch", "apps/v1", self.workload.kind, *own, (field,), [self.secret]),)

    @property
    def permissions(self) -> tuple[Permission, ...]:
        return tuple(self.workload.permissions)

    def carry_out(self, client: Client, options: RepairOptions) -> Written:
        """Restart the workload. Raises RestartError, KubeError."""
        workloads.restart(client, self.workload, options.consent, ends=self.ends, dry_run=options.check_mode)
        return Written()


def plan_reload(case: Case) -> RestartAction | Refusal | None:
    """Return the restart that makes the pods serve the good certificate of their Secret. None if no Secret has such a certificate."""
    secret = _unserved(case)
    if secret is None:
        return None
    obj = case.around.workload
    if obj is None:
        return Refusal(
            "no-workload",
            f"the pods that mount {secret} do not belong to one Deployment, DaemonSet or StatefulSet",
            "Replace the pods by the program that created them",
        )
    workload = WebhookWorkload(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
    if blocking := _find_caller_for_pods(case, obj):
        return Refusal(
            "blocks-its-own-pods",
            f"the API server asks {blocking} about the new pods of {workload}, and refuses them while the webhook does not answer",
            "Add the CA first, or set failurePolicy to Ignore until the new pods are ready",
        )
    ends = min(entry.not_after for entry in case.served)
    obstacle = workloads.find_obstacle(workload, obj, case.options.consent, ends)
    return (
        Refusal(obstacle.code, obstacle.cause, obstacle.remedy)
        if obstacle
        else _breaks_another(case, secret) or RestartAction(workload, secret.name, ends)
    )


def _unserved(case: Case) -> MountedSecret | None:
    """Return the newest Secret of the pods whose certificate the API server accepts, if an endpoint serves another one."""
    served = case.served
    good = [
        (leaf.not_before, secret)
        for leaf, secret in accepted_secrets(case, case.point.config.ca_bundle, case.around.secrets)
        if all(leaf.not_before >= entry.not_before for entry in served)
        and not all(leaf.fingerprint == entry.fingerprint for entry in served)
    ]
    return max(good, key=lambda pair: pair[0])[1] if good else None


def _breaks_another(case: Case, secret: MountedSecret) -> Refusal | None:
    """Return the refusal if another caller of the endpoints accepts what they serve, and would refuse the certificate of the Secret."""
    restarted = [chain.endpoint for chain in case.backend.chains]
    for other in (replace(case, point=point) for point in case.data.points if point.is_verified):
        is_called = any(
            chain.certificate and not refusal_of(other, other.point.config.ca_bundle, [chain])
            for chain in other.backend.chains
            if chain.endpoint in restarted
        )
        if is_called and not any(accepted_secrets(other, other.point.config.ca_bundle, [secret])):
            return Refusal(
                "still-needed",
                f"{other.point.object} leads to the same pods, and the API server would refuse the certificate of {secret} for it",
                "Let its caBundle trust the CA of this certificate first, with the module webhook_cabundle",
            )
    return None


def _find_caller_for_pods(case: Case, obj: Object) -> str:
    """Return the webhook of this Service with failurePolicy Fail that the API server would call for the new pods, "" without one."""
    namespace, template = obj["metadata"]["namespace"], obj["spec"]["template"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    labels_of_namespace = None  # not readable
    if case.data.namespaces is not None:
        labels_of_namespace = case.data.namespaces.get(namespace, {})
    created = AdmissionRequest("", "v1", "pods", "Pod", namespace, labels, labels_of_namespace)
    for point in case.data.points:
        is_own = point.caller == ADMISSION and point.config.service == case.point.config.service
        if is_own and point.is_strict and match(point.webhook, created).is_asked is not False:
            return str(point.object)
    return ""
