# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr: one certificate, from request to the webhooks that trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._certificate import keep, obtain, remove, rotation, run_lease, secret_store, target_anchors
from .._certificate.target_anchors import Task
from .._csr import certificate_rules, name_policy, pending_key, secret_content
from .._csr.certificate_rules import IssueReason
from .._csr.errors import AnchorError, RequestError
from .._csr.intent import Intent, intent_from
from .._csr.name_policy import GuardedNames
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube.client import Client
from .._kube.lease import Lease
from .._result import Result
from .._webhook import bundle_content, bundle_targets, probe_webhook
from .._webhook.admission_call import ProbeObject
from .._webhook.bundle_targets import Target
from .._webhook.workloads import RESOURCES, Rollout, Workload
from .._x509.private_keys import KEY_TYPES
from . import webhook_probe

SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "service": {"type": "str"},
    "namespace": {"type": "str", "required": True},
    "secret": {
        "type": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "default": "kubernetes.io/tls"},
            "certificate_key": {"type": "str", "default": "tls.crt", "no_log": False},
            "private_key_key": {"type": "str", "default": "tls.key", "no_log": False},
            "ca_key": {"type": "str", "no_log": False},
            "labels": {"type": "dict"},
            "annotations": {"type": "dict"},
        },
    },
    "signer_name": {"type": "str"},
    "dns_names": {"type": "list", "elements": "str"},
    "ip_addresses": {"type": "list", "elements": "str"},
    "common_name": {"type": "str"},
    "organizations": {"type": "list", "elements": "str"},
    "usages": {"type": "list", "elements": "str"},
    "expiration_seconds": {"type": "int"},
    "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "ecdsa-p256", "no_log": False},
    "allow_names": {"type": "list", "elements": "str"},
    "allow_client_identity": {"type": "bool", "default": False},
    "approve": {"type": "bool", "default": True},
    "requesters": {"type": "list", "elements": "str"},
    "renew_before": {"type": "str"},
    "trust": {"type": "str", "choices": ["verified", "chain", "leaf"], "default": "verified"},
    "ca_bundle": {"type": "str"},
    "take_over": {"type": "bool", "default": False},
    "workload": {
        "type": "dict",
        "options": {
            "kind": {"type": "str", "choices": list(RESOURCES), "default": "Deployment"},
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str"},
        },
    },
    "on_stale": {"type": "str", "choices": ["fail", "restart"], "default": "fail"},
    "served_timeout": {"type": "int", "default": 120},
    "probe": {
        "type": "dict",
        "options": {
            name: webhook_probe.OPERATION.argument_spec[name]
            for name in ("object", "expect", "denial_message")
        },
    },
    **argument_specs.TARGETS,
    **argument_specs.WAIT,
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    intent = intent_from(parameters)
    targets = bundle_targets.targets_from(parameters.get("targets") or [])
    if targets and intent.is_client:
        raise RequestError(
            "targets are webhooks: they need a serving certificate", remedy="leave targets out"
        )
    probe = _probe_object(parameters)
    if probe is not None:
        if not targets:
            raise RequestError(
                "a probe asks the webhooks in targets", remedy="give targets, or leave probe out"
            )
        probe_webhook.check_targets(targets, probe)  # now, not during the first renewal
    if intent.ca_bundle:
        bundle_content.check(intent.ca_bundle)
    rollout = _rollout(parameters, intent, probe)

    def act(lease: Lease) -> Result:
        if parameters["state"] == "absent":
            return remove.run(client, intent, targets, check_mode, lease)
        return _present(client, intent, targets, rollout, check_mode=check_mode, lease=lease)

    return run_lease.alone(client, intent, act)


def _probe_object(parameters: Mapping[str, Any]) -> ProbeObject | None:
    given = parameters.get("probe")
    if given is None:
        return None
    return ProbeObject(given["object"], given["expect"], given["denial_message"])


def _rollout(parameters: Mapping[str, Any], intent: Intent, probe: ProbeObject | None) -> Rollout:
    if parameters["served_timeout"] < 0:
        raise RequestError(
            f"the served_timeout is {parameters['served_timeout']}",
            remedy="give a number of seconds, 0 or more",
        )
    given = parameters.get("workload")
    workload = (
        Workload(given["kind"], given.get("namespace") or intent.namespace, given["name"]) if given else None
    )
    return Rollout(workload, parameters["on_stale"], parameters["served_timeout"], intent.wait, probe)


def _present(
    client: Client,
    intent: Intent,
    targets: tuple[Target, ...],
    rollout: Rollout,
    *,
    check_mode: bool,
    lease: Lease | None = None,
) -> Result:
    """Read everything that the decision rests on, decide, act; then see it in use, if it replaced another one."""
    secret = secret_store.read(client, intent.secret)
    if secret is not None:
        secret_content.refuse_foreign(secret, intent)
    task = Task(client, intent, secret, target_anchors.read(client, targets), check_mode, rollout, lease)
    result = _obtained_or_kept(task)
    return rotation.complete(task, result)


def _obtained_or_kept(task: Task) -> Result:
    secret = task.secret
    if secret is None:
        return obtain.run(task, certificate_rules.missing_secret(task.intent))
    now = task.client.now()
    verdict = _judge(task, secret, now)
    if isinstance(verdict, IssueReason):
        return obtain.run(task, verdict)
    guarded = GuardedNames(api_server=(task.client.host_name,))
    warnings = name_policy.warnings(task.intent.allow_names, cluster=guarded)
    result = keep.run(task, secret, verdict, now, warnings=warnings)
    return result if task.intent.approve else _without_spent_key(task, secret, result)


def _without_spent_key(task: Task, secret: ExistingSecret, result: Result) -> Result:
    """Finish what a run that was killed after it had stored the certificate could not do."""
    spent = pending_key.find_spent(task.client, task.intent.secret, secret.key_sha256)
    if spent and not task.check_mode:
        target_anchors.take_turn(task)
        pending_key.discard(task.client, task.intent.secret, spent)
    return replace(result, changed=result.changed or bool(spent))


def _judge(task: Task, secret: ExistingSecret, now: datetime) -> IssueReason | TrustAnchor:
    """Why another certificate is needed, or else what vouches for the one that is there."""
    reason = certificate_rules.reason_to_issue(task.intent, secret, now)
    if reason:
        return reason
    try:
        return target_anchors.anchor_of_kept(task, secret, now)
    except AnchorError as exc:
        return IssueReason("Untrusted", f"{task.intent.secret}: {exc.cause}")


OPERATION = Operation(
    name="k8s_csr",
    argument_spec=SPEC,
    run=run,
    constraints={
        "required_if": [("state", "present", ("signer_name",)), ("on_stale", "restart", ("workload",))]
    },
    waits={"wait_timeout": 1, "served_timeout": 2},  # once more after a restart
)
