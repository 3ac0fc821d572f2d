# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Wait until every endpoint of the webhook serves the new certificate, or until waiting cannot show more.

If the task says so, restart the workload that serves another one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._csr.errors import RequestError
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._kube.client import Client
from .._kube.errors import Forbidden
from .._webhook import workloads
from .._webhook.bundles import bundle_targets
from .._webhook.bundles.bundle_targets import ClientConfig
from .._webhook.endpoints import served_chains, serving_progress, webhook_endpoints
from .._webhook.endpoints.served_chains import ServedChain, ServedReport
from .._webhook.endpoints.serving_progress import ConfigScan, ServingProgress
from .._webhook.errors import StaleError, UntrustedLeafError
from .._webhook.workloads import RestartError, ServingOptions, WebhookWorkload
from .._x509.certificate_facts import CertificateFacts
from . import gather
from .certificate_run import CertificateRun, CertificateState, TargetState

LOOK_SECONDS = 2.0
#: The time in which an endpoint that shows no certificate may become ready, for a run that only reads. Seconds.
READ_SECONDS = 30.0
_AFTER_RESTART = (
    "Find out why the new pods do not become ready, mount another Secret, or are not created (a paused Deployment, "
    "updateStrategy OnDelete). The old CA stays trusted meanwhile"
)
_WITHOUT_RESTART = (
    "Restart the webhook (on_stale: restart does that), or let its program reload its files. "
    "Until then the old CA stays trusted, and the next run continues from here"
)


@dataclass(frozen=True)
class Rotation:
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
    def serving(self) -> ServingOptions:
        return self.run.serving

    def acquire_lease(self) -> None:
        """Raises StateChanged, LeaseHeldError, KubeError."""
        gather.acquire_lease(self.run, self.state)


@dataclass(frozen=True)
class ServedResult:
    """The end of the wait."""

    progress: ServingProgress
    scans: tuple[ConfigScan, ...]
    #: The workload that this run restarted, None if it restarted none.
    restarted: WebhookWorkload | None = None


def wait_until_served(rotation: Rotation) -> ServedResult:
    """Read what the endpoints serve until the certificate is in use, or until waiting cannot show more.

    Raises StaleError, and RequestError if the workload to restart is not known.
    """
    serving = rotation.serving
    progress, scans = watch(rotation)
    workload = None
    if progress.state == serving_progress.STALE and serving.on_stale == "restart" and serving.wait:
        workload = find_workload(rotation.run)
        rotation.run.allow_restart(workload)
        rotation.acquire_lease()
        ends = min(
            (entry.certificate.not_after for entry in progress.stale if entry.certificate), default=None
        )
        try:
            workloads.restart(rotation.client, workload, rotation.run.intent.accept, ends=ends)
        except RestartError as refusal:
            raise _stale(rotation, progress, refusal=refusal) from refusal
        progress, scans = watch(rotation, restarted=True)
    if progress.state != serving_progress.STALE or not serving.wait:
        return ServedResult(progress, scans, workload)
    raise _stale(rotation, progress, workload)


def watch(
    rotation: Rotation, *, restarted: bool = False, only_reads: bool = False
) -> tuple[ServingProgress, tuple[ConfigScan, ...]]:
    """Read the endpoints every two seconds. End early if an endpoint shows nothing for long, or can never change.

    only_reads: wait only for endpoints that show nothing.
    """
    client, serving = rotation.client, rotation.serving
    until = time.monotonic() + (min(serving.timeout, READ_SECONDS) if only_reads else serving.timeout)
    client.deadline = max(client.deadline, until)
    unseen_until = until if restarted or only_reads else time.monotonic() + serving_progress.UNSEEN_SECONDS
    touched: set[str] = set()
    while True:
        scans = tuple(scan_endpoints(rotation, until))
        progress = serving_progress.assess(scans, rotation.certificate.fingerprint, client.now())
        now = time.monotonic()
        waits = (progress.state == serving_progress.STALE and not only_reads) or (
            progress.state in (serving_progress.UNSEEN, serving_progress.UNREACHED) and now < unseen_until
        )
        if not waits or now >= until or not (serving.wait or only_reads):
            return progress, scans
        if progress.state == serving_progress.STALE and not restarted:
            may_change = [_touch_pod(rotation, endpoint, touched) for endpoint in progress.stale]
            if not any(may_change):
                return progress, scans
            unseen_until = now + serving_progress.UNSEEN_SECONDS
        time.sleep(LOOK_SECONDS)


def _touch_pod(rotation: Rotation, stale: ServedChain, touched: set[str]) -> bool:
    """Make the kubelet update the volume with the Secret, once for each pod. Return False if the volume never changes."""
    pod = _pod(rotation.client, stale)
    if pod is None:
        return True
    if workloads.is_frozen(pod, rotation.run.intent.secret.name):
        return False
    if pod["metadata"]["uid"] not in touched:
        touched.add(pod["metadata"]["uid"])
        rotation.run.allow_to_touch()
        rotation.acquire_lease()
        workloads.touch(rotation.client, pod, rotation.certificate.serial)
    return True


def _pod(client: Client, served: ServedChain) -> dict[str, Any] | None:
    if served.endpoint.pod is None:
        return None
    namespace, name = served.endpoint.pod
    try:
        return client.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except Forbidden:
        return None


def scan_endpoints(rotation: Rotation, until: float) -> Iterator[ConfigScan]:
    """Read each address once. Several webhooks of one Service share a scan."""
    scans: dict[Any, served_chains.EndpointScan] = {}
    for config in _configs(rotation.run, rotation.state):
        if config.address not in scans:
            scans[config.address] = served_chains.scan(rotation.client, config, until=until, unready=True)
        yield ConfigScan(config, scans[config.address])


def is_served(run: CertificateRun, state: CertificateState) -> bool:
    """Return True if the webhook has an endpoint that this identity may see."""
    return any(webhook_endpoints.find(run.client, config).ready for config in _configs(run, state))


def _configs(run: CertificateRun, state: CertificateState) -> list[ClientConfig]:
    """Return the client configurations of the targets. Without targets return one that calls the Service by its name."""
    intent, service = run.intent, run.intent.service_name
    if service and not state.targets:
        name, pem = intent.verified_name or "", state.secret.certificate_pem if state.secret else ""
        return [ClientConfig("", "", "", name, service, pem, webhook_endpoints.ANY_PORT)]
    return [config for entry in state.targets for config in configs_of(run, entry)]


def configs_of(run: CertificateRun, entry: TargetState) -> tuple[ClientConfig, ...]:
    return bundle_targets.client_configs(entry.target, entry.obj, service=run.intent.service_name)


def _stale(
    rotation: Rotation,
    progress: ServingProgress,
    workload: WebhookWorkload | None = None,
    *,
    refusal: RestartError | None = None,
) -> StaleError:
    """Return the error. workload: the one that was restarted. refusal: why it was not restarted."""
    secret, wanted = rotation.run.intent.secret, rotation.certificate
    served = [endpoint.certificate for endpoint in progress.stale]
    if all(certificate and certificate.fingerprint == wanted.fingerprint for certificate in served):
        return _untrusted(rotation, progress)
    reasons = [
        f"{endpoint.endpoint}: {text}"
        for endpoint in progress.stale
        if (pod := _pod(rotation.client, endpoint))
        for text in workloads.dead_ends(pod, secret.name)
    ]
    # The line stays readable. The evidence has all endpoints.
    shown = [str(entry.endpoint) for entry in progress.stale[:3]]
    more = f" and {len(progress.stale) - 3} more" if progress.stale[3:] else ""
    restarted = f"after {workload} was restarted, " if workload else ""
    refused = f". There was no restart: {refusal.cause}" if refusal else ""
    if refusal:
        remedy = refusal.remedy
    elif workload:
        remedy = _AFTER_RESTART
    else:
        remedy = _WITHOUT_RESTART
    return StaleError(
        f"{restarted}the webhook still serves another certificate than the new one in {secret} at {', '.join(shown)}{more}{refused}",
        evidence=(f"the new certificate has the serial {wanted.serial}", *progress.evidence, *reasons),
        remedy=remedy,
    )


def _untrusted(rotation: Rotation, progress: ServingProgress) -> StaleError:
    """Return the error if every endpoint serves the new certificate, with a chain that does not verify."""
    return StaleError(
        f"the webhook serves the new certificate of {rotation.run.intent.secret}, but the API server would refuse it: "
        f"{progress.evidence[0]}",
        code=UntrustedLeafError.code,
        evidence=progress.evidence,
        remedy="Let its program send the intermediate certificates that follow the first one in the Secret. The old CA stays "
        "trusted meanwhile",
    )


def report_endpoints(scans: tuple[ConfigScan, ...], now: datetime) -> Iterator[dict[str, Any]]:
    """Return a report on each endpoint, except those that terminate."""
    shown = set()
    for scan in scans:
        for served in (*scan.scan.served, *scan.scan.unready):
            if served.endpoint in shown or served.endpoint.state == webhook_endpoints.TERMINATING:
                continue
            shown.add(served.endpoint)
            config, refusal = scan.config, ""
            if served.certificate:
                refusal = served_chains.judge_served(served, config, now).refusal
            yield ServedReport(served, refusal).as_result()


def find_workload(run: CertificateRun) -> WebhookWorkload:
    """Return the workload of the task, or the only one behind the Service whose pods use the Secret.

    Raises RequestError with the candidates if there is not exactly one, MissingPermissions, KubeError.
    """
    if run.serving.workload:
        return run.serving.workload
    candidates = _candidates(run)
    if len(candidates) == 1:
        return candidates[0]
    raise _not_one(run, candidates)


def allow_wait(run: CertificateRun) -> None:
    """Check that a stale workload could be restarted, and compare with the plan what the wait may write. Raises as check_workload."""
    run.allow_to_touch()
    for workload in check_workload(run):
        run.allow_restart(workload)


def check_workload(run: CertificateRun) -> tuple[WebhookWorkload, ...]:
    """Return the workload that the wait may restart, () without one. Nothing is stale without a workload.

    Raises RequestError for several candidates, MissingPermissions, KubeError.
    """
    if not run.serving.finds_workload:
        return tuple(filter(None, [run.serving.workload]))
    candidates = _candidates(run)
    if len(candidates) > 1:
        raise _not_one(run, candidates)
    for workload in candidates:
        access_review.require(run.client, workload.permissions, f"restart {workload}")
    return candidates


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
