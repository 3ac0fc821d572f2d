# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A certificate that replaced another one: wait until it is served everywhere, then drop what vouched for the old one.

The Secret's record (annotation) holds what is still to do, so that a run that was killed is finished by the next one.
Anchors go on proof alone: each endpoint was seen to serve the new certificate, by a handshake of its own, and the
targets' bundles vouch for it. An address that may lead to several machines never proves that, so its anchors stay.
After a change of a bundle each API server opens new connections, so no connection stays that was verified earlier.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._csr import secret_content
from .._csr.secret_content import ExistingSecret
from .._errors import CertflowError
from .._kube import access_review
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
from .._webhook.served_chains import Served, ServedReport
from .._webhook.serving_progress import Progress, View
from .._webhook.workloads import Workload
from .._x509.certificate_facts import CertificateFacts
from . import secret_store, target_anchors
from .secret_store import Change
from .target_anchors import Task

LOOK_SECONDS = 2.0
PROBE_SECONDS = 30.0
_NOT_ASKED = ("not-asked", "perhaps-not-asked")


@dataclass(frozen=True)
class Settled:
    """The state of a certificate that replaced another one.

    verdict: "ok" or "unproven".
    evidence: the reasons why it is not proven.
    served: reports of the endpoints.
    dropped: changes of targets.
    kept: number of recorded anchors that stay in the targets.
    is_closed: True if a later run cannot learn more.
    """

    verdict: str
    evidence: tuple[str, ...]
    served: tuple[dict[str, Any], ...]
    dropped: tuple[TargetChange, ...] = ()
    kept: int = 0
    is_closed: bool = False

    @property
    def values(self) -> dict[str, Any]:
        dropped = sum(len(bundle.gone) for change in self.dropped for bundle in change.bundles)
        return {
            "verdict": self.verdict,
            "evidence": list(self.evidence),
            "served": list(self.served),
            "dropped": dropped,
            "kept": self.kept,
        }


def complete(task: Task, result: Result) -> Result:
    """The result of a certificate that was obtained or kept, with the proof that it is in use where that was open.

    Raises StaleError where an endpoint goes on serving another certificate, KubeError.
    """
    values = {**result.values, "proof": None}
    before = task.secret
    is_open = before is not None and target_anchors.is_open(before)
    if values["pending"] or not (is_open or result.changed):
        return replace(result, values=values)
    if task.check_mode:
        return replace(result, changed=result.changed or is_open, values=values)
    written = len(task.client.written)
    settled = _run(task)
    if settled is None:
        return replace(result, values=values)
    targets = _amended(values["targets"], settled.dropped)
    values = {**values, "proof": settled.values, "targets": targets}
    return replace(
        result,
        changed=result.changed or len(task.client.written) > written,
        values=values,
        warnings=(*result.warnings, *_doubts(task, settled)),
    )


def _doubts(task: Task, settled: Settled) -> tuple[str, ...]:
    """Return a warning about the old CA if there is no proof that the certificate is in use."""
    if settled.verdict == "ok":
        return ()
    why = next(iter(settled.evidence), "nothing was seen")
    what = f"there is no proof that the new certificate of {task.intent.secret} is in use ({why})"
    if not settled.is_closed:
        return (f"{what}. The old CA stays trusted, and the next run checks again",)
    if not settled.kept:
        return (f"{what}. Check that every machine at that address serves it",)
    later = (
        "The old CA stays trusted until a renewal after it has expired. To remove it earlier, check that every machine "
        "at that address serves the new certificate, and run webhook_cabundle with mode exactly"
    )
    return (f"{what}. {later}",)


def _amended(targets: list[dict[str, Any]], dropped: tuple[TargetChange, ...]) -> list[dict[str, Any]]:
    """The report on the targets, as they stand after the drop."""
    after = {
        (change.target.kind, change.target.name, bundle.config.webhook): bundle.left
        for change in dropped
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


def _run(task: Task) -> Settled | None:
    """Finish what the Secret's record says is not finished; None where nothing is open."""
    found = secret_store.read(task.client, task.intent.secret)
    if found is None or found.certificate is None or not target_anchors.is_open(found):
        return None
    access_review.require(task.client, task.rollout.rights, f"restart {task.rollout.workload}")
    task = replace(task, secret=found, targets=target_anchors.read(task.client, _targets_of(task)))
    progress, views = _wait(task, found.certificate)
    reports = tuple(_reports(views, task.client.now()))
    recorded = target_anchors.due(task, found)
    open_result = Settled("unproven", (), reports, kept=len(recorded))
    if progress.state not in (serving_progress.IN_USE, serving_progress.PARTLY_SEEN):
        return replace(open_result, evidence=(*progress.evidence, *_rule_to_see(task, progress)))
    doubts = _probe(task)
    if doubts:
        return replace(open_result, evidence=doubts)
    target_anchors.take_turn(task)
    hidden = [view.config for view in views if serving_progress.is_partly_seen(view.look)]
    due = target_anchors.due(task, found, keep=hidden)
    dropped = _drop(task, found, due)
    _close(task, found, dropped)
    verdict = "unproven" if hidden else "ok"
    kept = len(recorded - due)
    evidence = progress.evidence if hidden else ()
    return Settled(verdict, evidence, reports, dropped, kept=kept, is_closed=True)


def _rule_to_see(task: Task, progress: Progress) -> Iterator[str]:
    """What would let this identity look, where rights are what it lacks."""
    service = target_anchors.service(task.intent)
    if progress.state == serving_progress.HIDDEN and service:
        lacking = access_review.missing(task.client, served_chains.rights(service[0]))
        if lacking:
            yield f"to see what is served, {access_review.remedy(lacking)}"


def _probe(task: Task) -> tuple[str, ...]:
    """Ask each webhook what the task wants it to be asked; why that proves nothing, empty where it does.

    A webhook that is not asked about the object says nothing; one of them has to be. Raises ProofError.
    """
    asked = task.rollout.probe
    if asked is None:
        return ()
    service = target_anchors.service(task.intent)
    task.client.deadline = max(task.client.deadline, time.monotonic() + PROBE_SECONDS)
    verdicts = [
        probe_webhook.prove(task.client, config, seen.target, asked).verdict
        for seen in task.targets
        for config in bundle_targets.client_configs(seen.target, seen.obj, service=service)
    ]
    doubtful = [verdict for verdict in verdicts if not verdict.is_ok]
    others = [verdict for verdict in doubtful if verdict.code not in _NOT_ASKED]
    is_proven = len(doubtful) < len(verdicts) and not others
    return () if is_proven else tuple(verdict.cause for verdict in others or doubtful)


def _drop(task: Task, found: ExistingSecret, entries: Collection[str]) -> tuple[TargetChange, ...]:
    """Remove the old anchors, and restore them if the webhook then fails its probe."""
    dropped = target_anchors.drop(task, found, entries, now=task.client.now())
    if any(change.changed for change in dropped):
        try:
            _probe(task)  # the bundle's bytes changed: each API server dials anew
        except ProofError as error:
            try:
                target_anchors.put_back(task, dropped, now=task.client.now())
            except CertflowError as other:  # what the webhook said weighs more
                error.evidence += (f"the old CA could not be put back: {other.cause}",)
            raise
    return dropped


def _targets_of(task: Task) -> Iterator[bundle_targets.Target]:
    return (seen.target for seen in task.targets)


def _wait(task: Task, wanted: CertificateFacts) -> tuple[Progress, tuple[View, ...]]:
    """Look until the certificate is in use, or it is known that waiting shows no more."""
    rollout = task.rollout
    progress, views = _watch(task, wanted)
    if progress.state != serving_progress.STALE:
        return progress, views
    if rollout.on_stale == "restart" and rollout.workload and rollout.wait:
        target_anchors.take_turn(task)
        workloads.restart(task.client, rollout.workload, task.client.now())
        progress, views = _watch(task, wanted, restarted=True)
        if progress.state != serving_progress.STALE:
            return progress, views
    if not rollout.wait:
        return progress, views
    raise _stale(task, progress, wanted)


def _watch(
    task: Task, wanted: CertificateFacts, *, restarted: bool = False
) -> tuple[Progress, tuple[View, ...]]:
    """Look every other second. Ends early where an endpoint shows nothing for long, or can never change."""
    until = time.monotonic() + task.rollout.timeout
    task.client.deadline = max(task.client.deadline, until)
    unseen_until = time.monotonic() + (task.rollout.timeout if restarted else serving_progress.UNSEEN_SECONDS)
    touched: set[str] = set()
    while True:
        views = tuple(_views(task, until))
        progress = serving_progress.progress(views, wanted.fingerprint, task.client.now())
        now = time.monotonic()
        waits = progress.state == serving_progress.STALE or (
            progress.state == serving_progress.UNSEEN and now < unseen_until
        )
        if not waits or now >= until or not task.rollout.wait:
            return progress, views
        if progress.state == serving_progress.STALE and not restarted:
            frozen = [_is_frozen(task, one, wanted, touched) for one in progress.stale]
            if all(frozen):
                return progress, views
            unseen_until = now + serving_progress.UNSEEN_SECONDS
        time.sleep(LOOK_SECONDS)


def _is_frozen(task: Task, stale: Served, wanted: CertificateFacts, touched: set[str]) -> bool:
    """Whether waiting is in vain; otherwise the kubelet is made to look, once for each pod."""
    if stale.endpoint.pod is None:
        return False
    pod = _pod(task, stale)
    if pod is None:
        return False
    if workloads.is_frozen(pod, task.intent.secret.name):
        return True
    if pod["metadata"]["uid"] not in touched:
        touched.add(pod["metadata"]["uid"])
        target_anchors.take_turn(task)
        workloads.touch(task.client, pod, wanted.serial)
    return False


def _pod(task: Task, served: Served) -> dict[str, Any] | None:
    if served.endpoint.pod is None:
        return None
    namespace, name = served.endpoint.pod
    try:
        return task.client.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
    except Forbidden:
        return None


def _views(task: Task, until: float) -> Iterator[View]:
    """A look for each different address; several webhooks of one Service are one."""
    seen: dict[Any, served_chains.Look] = {}
    for config in _configs(task):
        address = config.service, config.server_name, config.port
        if address not in seen:
            seen[address] = served_chains.look(task.client, config, until=until, aside=True)
        yield View(config, seen[address])


def is_served(task: Task) -> bool:
    """Whether anybody serves the webhook now, as far as this identity may know."""
    return any(webhook_endpoints.find(task.client, config).found for config in _configs(task))


def _configs(task: Task) -> list[ClientConfig]:
    """Whom the targets call; without targets, the Service, under the name that an API server would use."""
    service = target_anchors.service(task.intent)
    if service and not task.targets:
        name, pem = task.intent.verified_name or "", task.secret.certificate_pem if task.secret else ""
        return [ClientConfig("", "", "", name, service, pem, webhook_endpoints.ANY_PORT)]
    return [
        config
        for seen in task.targets
        for config in bundle_targets.client_configs(seen.target, seen.obj, service=service)
    ]


def _close(task: Task, found: ExistingSecret, changes: tuple[TargetChange, ...]) -> None:
    """Nothing is left to do for this certificate."""
    leaf = found.certificate_pem

    def close(current: ExistingSecret | None) -> Change:
        if current is None or current.certificate_pem != leaf:
            return None  # somebody else has replaced it since: theirs to finish
        return secret_content.patch_proven(current, target_anchors.added(current.annotations, changes))

    secret_store.write(task.client, task.intent.secret, found, close)


def _stale(task: Task, progress: Progress, wanted: CertificateFacts) -> StaleError:
    reasons = [
        f"{one.endpoint}: {text}"
        for one in progress.stale
        if (pod := _pod(task, one))
        for text in workloads.dead_ends(pod, task.intent.secret.name)
    ]
    workload: Workload | None = task.rollout.workload
    restarted = task.rollout.on_stale == "restart"
    what = f"after {workload} was restarted, " if restarted else ""
    if all(one.certificate and one.certificate.fingerprint == wanted.fingerprint for one in progress.stale):
        return _refused(task, progress)
    return StaleError(
        f"{what}{len(progress.stale)} endpoint{'s' if len(progress.stale) != 1 else ''} of the webhook still "
        f"serve{'s' if len(progress.stale) == 1 else ''} another certificate than the new one in {task.intent.secret} "
        f"({_named(progress.stale)})",
        evidence=(f"wanted is serial {wanted.serial}", *progress.evidence, *reasons),
        remedy="see why its new pods do not get ready, read another Secret, or are not made at all (a paused Deployment, "
        "updateStrategy OnDelete); the old CA stays trusted meanwhile"
        if restarted
        else "restart it (on_stale: restart with workload does so), or let its program reload its files; the old CA "
        "stays trusted meanwhile, and the next run goes on from here",
    )


def _named(endpoints: tuple[Served, ...]) -> str:
    """The first three: a line stays readable, and the evidence has all of them."""
    more = [f"and {len(endpoints) - 3} more"] if len(endpoints) > 3 else []
    return "; ".join([*(str(one.endpoint) for one in endpoints[:3]), *more])


def _refused(task: Task, progress: Progress) -> StaleError:
    """They serve the right certificate; it is what is beside it that does not do."""
    return StaleError(
        f"the webhook serves the new certificate of {task.intent.secret}, and the API server would refuse it: "
        f"{progress.evidence[0]}",
        code=UntrustedLeafError.code,
        evidence=progress.evidence,
        remedy="let its program send the intermediate certificates that stand behind the first one in the Secret; the old CA "
        "stays trusted meanwhile",
    )


def _reports(views: tuple[View, ...], now: datetime) -> Iterator[dict[str, Any]]:
    shown = set()
    for view in views:
        for one in (*view.look.served, *view.look.aside):
            if one.endpoint not in shown and one.endpoint.state != webhook_endpoints.TERMINATING:
                shown.add(one.endpoint)
                reason = (
                    served_chains.refusal(one, view.config.ca_bundle, view.config.server_name, now)
                    if one.certificate
                    else ""
                )
                yield ServedReport(one, reason).values
