# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair a workload whose pods do not serve the good certificate of their Secret: restart it, or evict its pods one by one.

The pods are evicted if another program owns the pod template. Neither way can be undone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._base.errors import CertflowError
from .._base.object_managers import FIELD_MANAGER, HELM, SYSTEM
from .._base.owners import owners
from .._kube import json_patch
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError
from .._webhook import webhook_endpoints, workloads
from .._webhook.admission_match import AdmissionRequest, match
from .._webhook.bundle_targets import ClientConfig
from .._webhook.call_failures import ADMISSION
from .._webhook.workloads import WebhookWorkload
from .._x509 import certificate_facts
from .._x509.chain_judge import judge
from .._x509.errors import CertificateError
from .repair_model import Action, Case, Refusal, RepairOptions, RepairWrite, Written
from .surroundings import MountedSecret

Object = Mapping[str, Any]
_TEMPLATE = ("f:spec", "f:template")
_PAUSE_SECONDS = 1.0
#: Kind of the workload -> the field of its spec with the strategy of a rollout.
_STRATEGIES = {"Deployment": "strategy", "DaemonSet": "updateStrategy", "StatefulSet": "updateStrategy"}
#: Kind of the workload -> the defaults of maxUnavailable and maxSurge.
_DEFAULT_PARTS = {"Deployment": ("25%", "25%"), "DaemonSet": (1, 0), "StatefulSet": (1, 0)}


class WouldStop(CertflowError):
    """The restart would leave the webhook without a pod."""

    code = "would-stop-it"


class RolloutStuck(CertflowError):
    """A new pod did not become ready."""

    code = "rollout-failed"


@dataclass(frozen=True)
class RestartAction(Action):
    """The restart of one workload."""

    workload: WebhookWorkload
    #: The Secret that the new pods are to serve.
    secret: str
    #: True if its pod template belongs to another program.
    evicts: bool
    pods: tuple[Object, ...]
    config: ClientConfig
    #: True if the rollout stops a pod before its successor is ready.
    takes_down: bool

    @property
    def key(self) -> tuple[str, ...]:
        return ("restart", str(self.workload))

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        own = (self.workload.name, self.workload.namespace)
        if self.evicts:
            return (RepairWrite("create", "policy/v1", "Eviction", *own, content=[self.secret]),)
        field = "/spec/template/metadata/annotations/" + json_patch.escape(workloads.RESTARTED_AT)
        return (RepairWrite("patch", "apps/v1", self.workload.kind, *own, (field,), [self.secret]),)

    @property
    def permissions(self) -> tuple[Permission, ...]:
        eviction = Permission("create", "", "pods/eviction", self.workload.namespace)
        write = () if self.evicts else tuple(self.workload.permissions)
        return (*write, *((eviction,) if self.takes_down or self.evicts else ()))

    def carry_out(self, client: Client, options: RepairOptions) -> Written:
        """Restart the workload, or evict each pod after the one before it was replaced. Raises WouldStop, RolloutStuck, KubeError."""
        if self.takes_down or self.evicts:
            self._check_budget(client)
        if not self.evicts:
            workloads.restart(client, self.workload, client.now(), dry_run=options.check_mode)
        elif not options.check_mode:
            for pod in self.pods:
                client.create(f"{_path(pod)}/eviction", _eviction(pod))
                self._wait_for_successor(client, pod, options.wait_timeout)
        return Written()

    def _check_budget(self, client: Client) -> None:
        """Raise WouldStop if the API server would refuse to evict a pod now, because of a disruption budget."""
        try:
            client.try_create(f"{_path(self.pods[0])}/eviction", _eviction(self.pods[0]))
        except ApiError as error:
            raise WouldStop(
                f"the API server refuses to evict a pod of {self.workload}: {error.message or error.cause}",
                remedy="Run more replicas, or restart the pods when the PodDisruptionBudget allows it",
            ) from error

    def _wait_for_successor(self, client: Client, pod: Object, seconds: float) -> None:
        name, until = pod["metadata"]["name"], time.monotonic() + seconds
        while time.monotonic() < until:
            client.deadline = until
            ready = [endpoint.pod for endpoint in webhook_endpoints.find(client, self.config).ready]
            if len(ready) >= len(self.pods) and (self.workload.namespace, name) not in ready:
                return
            time.sleep(_PAUSE_SECONDS)
        raise RolloutStuck(
            f"the successor of the pod {name} of {self.workload} is not ready after {seconds:g} s. No further pod was evicted",
            remedy="Read the Events and the log of this pod",
        )


def plan_reload(case: Case) -> RestartAction | Refusal | None:
    """Return the restart that makes the pods serve the good certificate of their Secret. None if no Secret has such a certificate."""
    secret = _unserved(case)
    if secret is None:
        return None
    obj, pods, point = case.around.workload, case.around.pods, case.point
    if obj is None:
        return Refusal(
            "no-workload",
            f"the pods that mount {secret} do not belong to one Deployment, DaemonSet or StatefulSet",
            "Replace the pods by the program that created them",
        )
    metadata = obj["metadata"]
    workload = WebhookWorkload(obj["kind"], metadata["namespace"], metadata["name"])
    owners = tuple(_template_owners(obj))
    ready = case.backend.ready
    strategy = obj["spec"].get(_STRATEGIES[workload.kind]) or {}
    blocking = _blocks_pods(case, obj, evicts=bool(owners))
    if blocking:
        return Refusal(
            "blocks-its-own-pods",
            f"the API server asks {blocking} about the new pods of {workload}, and refuses them while the webhook does not answer",
            "Add the CA first, or set failurePolicy to Ignore until the new pods are ready",
        )
    unavailable = 1 if owners else _unavailable(workload.kind, strategy, ready)
    if unavailable >= ready:
        kind = strategy.get("type") or "RollingUpdate"
        return Refusal(
            "would-stop-it",
            f"a restart of {workload} with {ready} ready pods and the strategy {kind} would leave no pod that answers",
            "Run two or more replicas with the strategy RollingUpdate, or restart it in a maintenance window",
            owners,
        )
    return RestartAction(workload, secret.name, bool(owners), pods, point.config, unavailable > 0)


def _unserved(case: Case) -> MountedSecret | None:
    """Return the newest Secret of the pods whose certificate the API server accepts, if an endpoint serves another one."""
    served = case.served
    good: list[tuple[Any, MountedSecret]] = []
    for secret in case.around.secrets:
        try:
            leaf, sent = certificate_facts.load_leaf_and_chain(secret.certificate)
            facts = certificate_facts.describe(leaf)
        except CertificateError:
            continue
        config = case.point.config
        judged = judge(leaf, config.ca_bundle, name=config.server_name, intermediates=sent, now=case.data.now)
        is_newer = all(facts.not_before >= entry.not_before for entry in served)
        is_served = all(facts.fingerprint == entry.fingerprint for entry in served)
        if judged.verdict.ok and is_newer and not is_served:
            good.append((facts.not_before, secret))
    return max(good, key=lambda pair: pair[0])[1] if good else None


def _template_owners(obj: Object) -> Iterator[str]:
    """Yield the marks of programs that write the pod template at any time. Helm writes it only when a person runs it."""
    for owner in (*owners(obj), *owners(obj, _TEMPLATE)):
        system = {f"{FIELD_MANAGER}{name}" for name in SYSTEM}
        if owner.manager.key != HELM and not owner.is_person and owner.word not in system:
            yield from owner.evidence


def _blocks_pods(case: Case, obj: Object, *, evicts: bool) -> str:
    """Return the webhook of this Service with failurePolicy Fail that the API server would call for the restart, "" without one."""
    namespace, template = obj["metadata"]["namespace"], obj["spec"]["template"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    spaces = None if case.data.namespaces is None else case.data.namespaces.get(namespace, {})
    created = AdmissionRequest("", "v1", "pods", "Pod", namespace, labels, spaces)
    evicted = AdmissionRequest("", "v1", "pods", "Eviction", namespace, {}, spaces, subresource="eviction")
    requests = (created, evicted) if evicts else (created,)
    for point in case.data.points:
        is_own = point.caller == ADMISSION and point.config.service == case.point.config.service
        answers = [match(point.webhook, request).is_asked for request in requests] if is_own else []
        if point.is_strict and any(answer is not False for answer in answers):
            return str(point.object)
    return ""


def _unavailable(kind: str, strategy: Object, ready: int) -> int:
    """Return how many pods a rollout may stop before their successors are ready.

    Source: k8s.io/kubernetes pkg/controller/deployment/util ResolveFenceposts. maxSurge is rounded up, maxUnavailable down.
    """
    if strategy.get("type") in ("Recreate", "OnDelete"):
        return ready
    rolling = strategy.get("rollingUpdate") or {}
    unavailable, surge = _DEFAULT_PARTS[kind]
    left = _part(rolling.get("maxUnavailable", unavailable), ready, math.floor)
    more = _part(rolling.get("maxSurge", surge), ready, math.ceil)
    return 1 if not left and not more else left


def _part(value: Any, whole: int, rounded: Any) -> int:
    text = str(value)
    return int(rounded(int(text[:-1]) * whole / 100)) if text.endswith("%") else int(text)


def _path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _eviction(pod: Object) -> dict[str, Any]:
    metadata = pod["metadata"]
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
    }
