# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The rotation: prove that a new certificate is in use, then remove the anchors that only the old one needed.

The record in the Secret (an annotation) holds what is left to do, so the next run finishes the rotation of a killed run.
An anchor is removed only after every endpoint was seen to serve the new certificate, each in its own handshake, and the
bundles of the targets verify it. An address that may lead to several machines never proves that, so its anchors stay.
After a change of a bundle each API server opens new connections, so no connection stays that was verified earlier.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._csr import secret_content
from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret
from .._errors import CertflowError
from .._kube import access_review
from .._kube.client import Client
from .._kube.errors import Forbidden
from .._result import Result
from .._webhook import (
    bundle_targets,
    probe_webhook,
    served_chains,
    serving_progress,
    webhook_endpoints,
    workloads,
)
from .._webhook.bundle_patch import TargetChange
from .._webhook.bundle_targets import ClientConfig
from .._webhook.errors import ProofError, StaleError, UntrustedLeafError
from .._webhook.served_chains import ServedChain, ServedReport
from .._webhook.serving_progress import ConfigScan, ServingProgress
from .._webhook.workloads import ServingOptions
from .._x509.certificate_facts import CertificateFacts
from . import anchor_record, gather, secret_store, target_anchors
from .anchor_record import service_of
from .certificate_run import CertificateRun, CertificateState, TargetState
from .secret_store import Change

LOOK_SECONDS = 2.0
PROBE_SECONDS = 30.0
_NOT_ASKED = ("not-asked", "perhaps-not-asked")


@dataclass(frozen=True)
class RotationResult:
    """The state of a certificate that replaced another one."""

    #: "ok" or "unproven".
    verdict: str
    #: The reasons why the use of the certificate is not proven.
    evidence: tuple[str, ...]
    #: The reports of the endpoints.
    served: tuple[dict[str, Any], ...]
    #: The changes of targets that removed anchors.
    removed: tuple[TargetChange, ...] = ()
    #: The number of recorded anchors that stay on the targets.
    kept: int = 0
    #: True if a later run cannot learn more.
    is_closed: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """Return the result as the module k8s_csr returns it."""
        dropped = sum(len(bundle.gone) for change in self.removed for bundle in change.bundles)
        return {
            "verdict": self.verdict,
            "evidence": list(self.evidence),
            "served": list(self.served),
            "dropped": dropped,
            "kept": self.kept,
        }


@dataclass(frozen=True)
class _Rotation:
    """A run with an open record."""

    run: CertificateRun
    state: CertificateState
    secret: ExistingSecret
    #: The certificate in the Secret, which every endpoint is to serve.
    certificate: CertificateFacts

    @property
    def client(self) -> Client:
        return self.run.client

    @property
    def rollout(self) -> ServingOptions:
        return self.run.rollout

    def acquire_lease(self) -> None:
        """Raises StateChanged, LeaseHeldError, KubeError."""
        gather.acquire_lease(self.run, self.state)


def complete(run: CertificateRun, state: CertificateState, result: Result) -> Result:
    """Return the result of a certificate that was obtained or kept, with the proof that it is in use if that was open.

    state: as it was read before the certificate was obtained or kept.

    Raises StaleError if an endpoint goes on serving another certificate, ProofError, KubeError.
    """
    values = {**result.values, "proof": None}
    is_open = state.secret is not None and anchor_record.is_unproven(state.secret)
    if values["pending"] or not (is_open or result.changed):
        return replace(result, values=values)
    if run.check_mode:
        return replace(result, changed=result.changed or is_open, values=values)
    written = len(run.client.written)
    rotated = _rotate(run, state)
    if rotated is None:
        return replace(result, values=values)
    targets = _amended(values["targets"], rotated.removed)
    values = {**values, "proof": rotated.values, "targets": targets}
    return replace(
        result,
        changed=result.changed or len(run.client.written) > written,
        values=values,
        warnings=(*result.warnings, *_doubts(run.intent, rotated)),
    )


def _doubts(intent: Intent, rotated: RotationResult) -> tuple[str, ...]:
    """Return a warning about the old CA if there is no proof that the certificate is in use."""
    if rotated.verdict == "ok":
        return ()
    why = next(iter(rotated.evidence), "nothing was seen")
    what = f"there is no proof that the new certificate of {intent.secret} is in use ({why})"
    if not rotated.is_closed:
        return (f"{what}. The old CA stays trusted, and the next run checks again",)
    if not rotated.kept:
        return (f"{what}. Check that every machine at that address serves it",)
    later = (
        "The old CA stays trusted until a renewal after it has expired. To remove it earlier, check that every machine "
        "at that address serves the new certificate, and run webhook_cabundle with mode exactly"
    )
    return (f"{what}. {later}",)


def _amended(targets: list[dict[str, Any]], removed: tuple[TargetChange, ...]) -> list[dict[str, Any]]:
    """Return the report on the targets after the removal of anchors."""
    after = {
        (change.target.kind, change.target.name, bundle.config.webhook): bundle.left
        for change in removed
        for bundle in change.bundles
    }

    def webhook(target: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        key = target["kind"], target["name"], entry["name"]
        return {**entry, "after": after.get(key, entry["after"])}

    return [
        {
            **target,
            "changed": target["changed"] or any(key[:2] == (target["kind"], target["name"]) for key in after),
            "webhooks": [webhook(target, entry) for entry in target["webhooks"]],
        }
        for target in targets
    ]


def _rotate(run: CertificateRun, state: CertificateState) -> RotationResult | None:
    """Finish an open rotation. Return None if the record in the Secret is not open."""
    secret = secret_store.read(run.client, run.intent.secret)
    if secret is None or secret.certificate is None or not anchor_record.is_unproven(secret):
        return None
    access_review.require(run.client, run.rollout.permissions, f"restart {run.rollout.workload}")
    targets = gather.read_targets(run.client, run.targets)
    rotation = _Rotation(run, replace(state, secret=secret, targets=targets), secret, secret.certificate)
    progress, views = _wait(rotation)
    reports = tuple(_reports(views, run.client.now()))
    recorded = anchor_record.removable(run.intent, secret, targets)
    unproven = RotationResult("unproven", (), reports, kept=len(recorded))
    if progress.state not in (serving_progress.IN_USE, serving_progress.PARTLY_SEEN):
        return replace(unproven, evidence=(*progress.evidence, *_missing_permissions(run, progress)))
    doubts = _probe(rotation)
    if doubts:
        return replace(unproven, evidence=doubts)
    rotation.acquire_lease()
    hidden = [view.config for view in views if serving_progress.is_partly_seen(view.scan)]
    entries = anchor_record.removable(run.intent, secret, targets, kept=hidden)
    removed = _remove_superseded(rotation, entries)
    _close(rotation, removed)
    verdict = "unproven" if hidden else "ok"
    evidence = progress.evidence if hidden else ()
    kept = len(recorded - entries)
    return RotationResult(verdict, evidence, reports, removed, kept=kept, is_closed=True)


def _missing_permissions(run: CertificateRun, progress: ServingProgress) -> Iterator[str]:
    """Return how to grant the permissions that this identity needs to see what the endpoints serve, if it lacks any."""
    service = service_of(run.intent)
    if progress.state == serving_progress.HIDDEN and service:
        lacking = access_review.find_missing(run.client, served_chains.permissions(service[0]))
        if lacking:
            yield f"to see what is served, {access_review.remedy(lacking)}"


def _probe(rotation: _Rotation) -> tuple[str, ...]:
    """Probe each webhook with the object of the task. Return the reasons why that proves nothing, if it does not.

    A webhook that is not called for the object proves nothing. At least one webhook has to be called. Raises ProofError.
    """
    asked, client = rotation.rollout.probe, rotation.client
    if asked is None:
        return ()
    client.deadline = max(client.deadline, time.monotonic() + PROBE_SECONDS)
    verdicts = [
        probe_webhook.prove(client, config, entry.target, asked).verdict
        for entry in rotation.state.targets
        for config in _configs_of(rotation.run, entry)
    ]
    doubtful = [verdict for verdict in verdicts if not verdict.is_ok]
    others = [verdict for verdict in doubtful if verdict.code not in _NOT_ASKED]
    is_proven = len(doubtful) < len(verdicts) and not others
    return () if is_proven else tuple(verdict.cause for verdict in others or doubtful)


def _remove_superseded(rotation: _Rotation, entries: Collection[str]) -> tuple[TargetChange, ...]:
    """Remove the old anchors, and restore them if the webhook then fails its probe."""
    client, intent, state = rotation.client, rotation.run.intent, rotation.state
    removed = target_anchors.remove_superseded(
        client, intent, rotation.secret, state.targets, entries, now=client.now()
    )
    if any(change.changed for change in removed):
        try:
            _probe(rotation)  # the bundle has changed, so each API server opens a new connection
        except ProofError as error:
            try:
                target_anchors.restore(client, intent, removed, now=client.now())
            except CertflowError as other:  # the failed probe matters more
                error.evidence += (f"the old CA could not be restored: {other.cause}",)
            raise
    return removed


def _wait(rotation: _Rotation) -> tuple[ServingProgress, tuple[ConfigScan, ...]]:
    """Look until the certificate is in use, or until waiting cannot show more. Raises StaleError."""
    rollout = rotation.rollout
    progress, views = _watch(rotation)
    if progress.state != serving_progress.STALE:
        return progress, views
    if rollout.on_stale == "restart" and rollout.workload and rollout.wait:
        rotation.acquire_lease()
        workloads.restart(rotation.client, rollout.workload, rotation.client.now())
        progress, views = _watch(rotation, restarted=True)
        if progress.state != serving_progress.STALE:
            return progress, views
    if not rollout.wait:
        return progress, views
    raise _stale(rotation, progress)


def _watch(rotation: _Rotation, *, restarted: bool = False) -> tuple[ServingProgress, tuple[ConfigScan, ...]]:
    """Look every two seconds. End early if an endpoint shows nothing for long, or can never change."""
    client, rollout = rotation.client, rotation.rollout
    until = time.monotonic() + rollout.timeout
    client.deadline = max(client.deadline, until)
    unseen_until = time.monotonic() + (rollout.timeout if restarted else serving_progress.UNSEEN_SECONDS)
    touched: set[str] = set()
    while True:
        views = tuple(_views(rotation, until))
        progress = serving_progress.assess(views, rotation.certificate.fingerprint, client.now())
        now = time.monotonic()
        waits = progress.state == serving_progress.STALE or (
            progress.state == serving_progress.UNSEEN and now < unseen_until
        )
        if not waits or now >= until or not rollout.wait:
            return progress, views
        if progress.state == serving_progress.STALE and not restarted:
            frozen = [_is_frozen(rotation, endpoint, touched) for endpoint in progress.stale]
            if all(frozen):
                return progress, views
            unseen_until = now + serving_progress.UNSEEN_SECONDS
        time.sleep(LOOK_SECONDS)


def _is_frozen(rotation: _Rotation, stale: ServedChain, touched: set[str]) -> bool:
    """Return True if the pod can never see the new Secret. Otherwise make its kubelet update the volume, once for each pod."""
    pod = _pod(rotation.client, stale)
    if pod is None:
        return False
    if workloads.is_frozen(pod, rotation.run.intent.secret.name):
        return True
    if pod["metadata"]["uid"] not in touched:
        touched.add(pod["metadata"]["uid"])
        rotation.acquire_lease()
        workloads.touch(rotation.client, pod, rotation.certificate.serial)
    return False


def _pod(client: Client, served: ServedChain) -> dict[str, Any] | None:
    if served.endpoint.pod is None:
        return None
    namespace, name = served.endpoint.pod
    try:
        return client.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except Forbidden:
        return None


def _views(rotation: _Rotation, until: float) -> Iterator[ConfigScan]:
    """Look at each address once. Several webhooks of one Service share a scan."""
    scans: dict[Any, served_chains.EndpointScan] = {}
    for config in _configs(rotation.run, rotation.state):
        address = config.service, config.server_name, config.port
        if address not in scans:
            scans[address] = served_chains.scan(rotation.client, config, until=until, unready=True)
        yield ConfigScan(config, scans[address])


def is_served(run: CertificateRun, state: CertificateState) -> bool:
    """Return True if the webhook has an endpoint that this identity may see."""
    return any(webhook_endpoints.find(run.client, config).ready for config in _configs(run, state))


def _configs(run: CertificateRun, state: CertificateState) -> list[ClientConfig]:
    """Return the client configurations of the targets. Without targets return one that calls the Service by its name."""
    intent, service = run.intent, service_of(run.intent)
    if service and not state.targets:
        name, pem = intent.verified_name or "", state.secret.certificate_pem if state.secret else ""
        return [ClientConfig("", "", "", name, service, pem, webhook_endpoints.ANY_PORT)]
    return [config for entry in state.targets for config in _configs_of(run, entry)]


def _configs_of(run: CertificateRun, entry: TargetState) -> tuple[ClientConfig, ...]:
    return bundle_targets.client_configs(entry.target, entry.obj, service=service_of(run.intent))


def _close(rotation: _Rotation, changes: tuple[TargetChange, ...]) -> None:
    """Close the record in the Secret, unless another run has replaced its certificate, and so finishes the rotation."""
    leaf = rotation.secret.certificate_pem

    def close(current: ExistingSecret | None) -> Change:
        if current is None or current.certificate_pem != leaf:
            return None
        return secret_content.patch_proven(current, anchor_record.record_added(current.annotations, changes))

    secret_store.write(rotation.client, rotation.run.intent.secret, rotation.secret, close)


def _stale(rotation: _Rotation, progress: ServingProgress) -> StaleError:
    secret, wanted, rollout = rotation.run.intent.secret, rotation.certificate, rotation.rollout
    served = [endpoint.certificate for endpoint in progress.stale]
    if all(found and found.fingerprint == wanted.fingerprint for found in served):
        return _untrusted(rotation, progress)
    reasons = [
        f"{endpoint.endpoint}: {text}"
        for endpoint in progress.stale
        if (pod := _pod(rotation.client, endpoint))
        for text in workloads.dead_ends(pod, secret.name)
    ]
    count = len(progress.stale)
    is_restarted = rollout.on_stale == "restart"
    restarted = f"after {rollout.workload} was restarted, " if is_restarted else ""
    serve = (
        "1 endpoint of the webhook still serves"
        if count == 1
        else f"{count} endpoints of the webhook still serve"
    )
    return StaleError(
        f"{restarted}{serve} another certificate than the new one in {secret} ({_first_three(progress.stale)})",
        evidence=(f"the serial of the new certificate is {wanted.serial}", *progress.evidence, *reasons),
        remedy=_AFTER_RESTART if is_restarted else _WITHOUT_RESTART,
    )


_AFTER_RESTART = (
    "Find out why the new pods do not become ready, mount another Secret, or are not created (a paused Deployment, "
    "updateStrategy OnDelete). The old CA stays trusted meanwhile"
)
_WITHOUT_RESTART = (
    "Restart the webhook (on_stale: restart with workload does that), or let its program reload its files. The old CA stays "
    "trusted meanwhile, and the next run continues from here"
)


def _first_three(endpoints: tuple[ServedChain, ...]) -> str:
    """Return the first three endpoints, so that the line stays readable. The evidence has all of them."""
    more = [f"and {len(endpoints) - 3} more"] if len(endpoints) > 3 else []
    return "; ".join([*(str(entry.endpoint) for entry in endpoints[:3]), *more])


def _untrusted(rotation: _Rotation, progress: ServingProgress) -> StaleError:
    """Return the error if every endpoint serves the new certificate, with a chain that does not verify."""
    return StaleError(
        f"the webhook serves the new certificate of {rotation.run.intent.secret}, and the API server would refuse it: "
        f"{progress.evidence[0]}",
        code=UntrustedLeafError.code,
        evidence=progress.evidence,
        remedy="Let its program send the intermediate certificates that follow the first one in the Secret. The old CA stays "
        "trusted meanwhile",
    )


def _reports(views: tuple[ConfigScan, ...], now: datetime) -> Iterator[dict[str, Any]]:
    """Return a report on each endpoint, except those that terminate."""
    shown = set()
    for view in views:
        for served in (*view.scan.served, *view.scan.unready):
            if served.endpoint in shown or served.endpoint.state == webhook_endpoints.TERMINATING:
                continue
            shown.add(served.endpoint)
            config, refusal = view.config, ""
            if served.certificate:
                refusal = served_chains.refusal(served, config.ca_bundle, config.server_name, now)
            yield ServedReport(served, refusal).values
