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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .._base.accept import UNSEEN
from .._base.errors import CertflowError
from .._base.result import Result, make_left
from .._csr import secret_content
from .._csr.errors import SecretError
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._webhook import trust_removal
from .._webhook.bundles import bundle_content
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import ClientConfig, Target
from .._webhook.endpoints import served_chains, serving_progress
from .._webhook.endpoints.serving_progress import ConfigScan, ServingProgress
from .._webhook.errors import ProofError
from .._webhook.probe import probe_webhook
from .._webhook.workloads import WebhookWorkload
from . import certificate_report, gather, secret_store, target_anchors
from .certificate_run import CertificateRun, CertificateState
from .secret_store import Change
from .target_anchors import Superseded
from .wait_until_served import Rotation, check_workload, configs_of, report_endpoints, wait_until_served

PROBE_SECONDS = 30.0
_NOT_ASKED = ("not-asked", "perhaps-not-asked")
_SEEN = frozenset((serving_progress.IN_USE, serving_progress.PARTLY_SEEN))
#: What the user may confirm for an object.
_NOT_SEEN = frozenset((serving_progress.HIDDEN, serving_progress.UNREACHED))
_AT_ADDRESS = "Check that every machine at that address serves it"
_REPLACED = (
    "Find the client that writes the Secret (its metadata.managedFields names the clients), and run the task again. The old CA stays "
    "trusted"
)
_KEPT = (
    ". The old CA stays trusted until it has expired, and each run checks again. To remove it before, set accept to "
    "[{unseen: [KIND/NAME]}]"
)


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
    #: How to get the proof.
    remedy: str = "Let every endpoint show that it serves this certificate, and run the task again. The old CA stays trusted, and each run checks again"
    #: True if a proof or the removal of an anchor was asked for, and can still be had.
    is_left: bool = True
    #: The workload that the run restarted, None if it restarted none.
    restarted: WebhookWorkload | None = None

    def as_result(self) -> dict[str, Any]:
        """Return the result as the module k8s_csr returns it."""
        dropped = sum(len(bundle.removed) for change in self.removed for bundle in change.bundles)
        return {
            "verdict": self.verdict,
            "evidence": list(self.evidence),
            "served": list(self.served),
            "dropped": dropped,
            "kept": self.kept,
            "restarted": self.restarted.as_result() if self.restarted else None,
        }


def allow_completion(run: CertificateRun, state: CertificateState) -> bool:
    """Compare what the end of an open rotation may write with an approved plan. Return True if one is open.

    Raises CertflowError.
    """
    is_open = state.secret is not None and target_anchors.is_unproven(state.secret)
    if is_open:
        run.allow_to_store()
        run.allow_configs(
            (entry.target, config) for entry in state.targets for config in configs_of(run, entry)
        )
    return is_open


def complete(run: CertificateRun, state: CertificateState, result: Result) -> Result:
    """Return the result of a certificate that was obtained or kept, with the proof that it is in use if that was open.

    state: as it was read before the certificate was obtained or kept.

    Raises StaleError if an endpoint still serves another certificate, ProofError, KubeError.
    """
    values = {"left": make_left(0, {}), **result.values, "proof": None}
    is_open = state.secret is not None and target_anchors.is_unproven(state.secret)
    if values["pending"] or not (is_open or result.changed):
        return replace(result, values=values)
    if run.check_mode:
        return replace(result, changed=result.changed or is_open, values=values)
    written = len(run.client.written)
    rotated = _rotate(run, state)
    if rotated is None:
        return replace(result, values=values)
    targets, unproven = _amended(values["targets"], rotated.removed), {}
    if rotated.verdict != "ok":
        why = next(iter(rotated.evidence), "nothing was seen")
        unproven = certificate_report.left_unproven(run.intent, why, rotated.remedy)
    left = make_left(1, unproven) if unproven and rotated.is_left else values["left"]
    values = {**values, "proof": rotated.as_result(), "targets": targets, "left": left}
    if rotated.restarted:
        values["reason"] += (
            f". {rotated.restarted} was restarted, because its pods did not serve the new certificate"
        )
    return replace(
        result,
        changed=result.changed or len(run.client.written) > written,
        values=values,
        warnings=(*result.warnings, *([f"{unproven['reason']}. {unproven['remedy']}"] if unproven else [])),
    )


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
    written = run.client.left.get(run.intent.secret.path)  # the answer to the write of this run
    secret = (
        secret_content.read_secret(written, run.intent.secret)
        if written
        else secret_store.read(run.client, run.intent.secret)
    )
    if secret is None or secret.certificate is None or not target_anchors.is_unproven(secret):
        return None
    access_review.require(run.client, run.serving.permissions, f"restart {run.serving.workload}")
    check_workload(run)
    targets = gather.read_targets(run.client, run.targets)
    rotation = Rotation(run, replace(state, secret=secret, targets=targets), secret, secret.certificate)
    served = wait_until_served(rotation)
    progress, scans = served.progress, served.scans
    reports = tuple(report_endpoints(scans, run.client.now()))
    superseded = target_anchors.superseded(run.client, run.intent, secret, targets)
    count = sum(len(anchors) for _target, _config, anchors in superseded)
    unproven = RotationResult("unproven", (), reports, kept=count, restarted=served.restarted)
    # The user cannot have checked the machines before this run stored the certificate. Kubelet needs up to two minutes for the pods.
    confirmed = {
        entry.target for entry in targets if not written and run.intent.accept.covers(UNSEEN, entry.target)
    }
    is_confirmed = bool(targets) and len(confirmed) == len(targets) and not progress.stale
    if progress.state not in (_SEEN | _NOT_SEEN if is_confirmed else _SEEN):
        lacking = tuple(missing_permissions(run, progress))
        return replace(unproven, evidence=(*progress.evidence, *lacking), is_left=not lacking)
    evidence = _probe(rotation)
    if evidence:
        return replace(unproven, evidence=evidence)
    holds = _find_holds(rotation, scans, superseded, confirmed)
    going = [entry for entry in superseded if entry[:2] not in holds]
    kept = count - sum(len(anchors) for _target, _config, anchors in going)
    entries = frozenset(
        target_anchors.prefix(target, config.webhook) + anchor.fingerprint
        for target, config, anchors in going
        for anchor in anchors
    )
    removed: tuple[TargetChange, ...] = ()
    if entries or not kept:
        rotation.acquire_lease()
        allow_completion(run, rotation.state)  # another run may have opened this rotation since the start
        stored = secret_store.read(run.client, run.intent.secret)
        if stored is None or stored.certificate_pem != secret.certificate_pem:
            words = f"another client has replaced the certificate in {run.intent.secret}, and the pods will serve that one"
            return replace(unproven, evidence=(words,), remedy=_REPLACED)
        removed = _remove_superseded(rotation, entries)
    if not kept:
        _close(rotation, removed)
    doubtful = {config for target, config, _anchors in superseded if target not in confirmed}
    is_partly = any(
        serving_progress.is_partly_seen(scan.scan) for scan in scans if scan.config in doubtful or not targets
    )
    result = replace(
        unproven, removed=removed, kept=kept, is_left=bool(kept), remedy=_AT_ADDRESS + _KEPT * bool(kept)
    )
    if kept or is_partly:
        return replace(result, evidence=tuple(dict.fromkeys((*progress.evidence, *holds.values()))))
    return replace(result, verdict="ok")


def _find_holds(
    rotation: Rotation,
    scans: Iterable[ConfigScan],
    superseded: Iterable[Superseded],
    confirmed: Collection[Target],
) -> dict[tuple[Target, ClientConfig], str]:
    """Return the client configurations that keep their old anchors, each with the reason."""
    now = rotation.client.now()
    holds: dict[tuple[Target, ClientConfig], str] = {}
    serves = {scan.config: trust_removal.of_scan(scan.scan) for scan in scans}
    for target, config, going in superseded:
        gone = "".join(entry.pem for entry in going)
        left = bundle_content.merge(config.ca_bundle, gone, mode="absent", now=now)
        hold = trust_removal.find_hold(
            config,
            left,
            going,
            serves[config],
            now,
            is_confirmed=target in confirmed,
            earlier=rotation.client.earlier(),
        )
        if hold:
            holds[target, config] = hold.reason
    return holds


def missing_permissions(run: CertificateRun, progress: ServingProgress) -> Iterator[str]:
    """Return how to grant the permissions that this identity needs to see what the endpoints serve, if it lacks any."""
    service = run.intent.service_name
    if progress.state == serving_progress.HIDDEN and service:
        lacking = access_review.find_missing(run.client, served_chains.permissions(service[0]))
        if lacking:
            words = "; ".join(map(access_review.in_words, lacking))
            yield f"the permissions to see what is served are missing: {words}. {access_review.grant('rotate')}"


def _probe(rotation: Rotation) -> tuple[str, ...]:
    """Probe each webhook with the object of the task. Return the reasons why that proves nothing, if it does not.

    A webhook that is not called for the object proves nothing. At least one webhook has to be called. Raises ProofError.
    """
    asked, client = rotation.serving.probe, rotation.client
    if asked is None:
        return ()
    client.deadline = max(client.deadline, time.monotonic() + PROBE_SECONDS)
    verdicts = [
        probe_webhook.prove(client, config, entry.target, asked).verdict
        for entry in rotation.state.targets
        if entry.target not in rotation.run.others
        for config in configs_of(rotation.run, entry)
    ]
    doubtful = [verdict for verdict in verdicts if not verdict.is_ok]
    others = [verdict for verdict in doubtful if verdict.code not in _NOT_ASKED]
    is_proven = len(doubtful) < len(verdicts) and not others
    return () if is_proven else tuple(verdict.cause for verdict in others or doubtful)


def _remove_superseded(rotation: Rotation, entries: Collection[str]) -> tuple[TargetChange, ...]:
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


def _close(rotation: Rotation, changes: tuple[TargetChange, ...]) -> None:
    """Close the record in the Secret, unless another run has replaced its certificate, and so finishes the rotation."""
    leaf, spec = rotation.secret.certificate_pem, rotation.run.intent.secret

    def close(current: ExistingSecret | None) -> Change:
        if current is None:
            raise SecretError(f"{spec} was deleted while this task ran", remedy="Run the task again")
        if current.certificate_pem != leaf:
            return None
        secret_content.refuse_foreign(current, rotation.run.intent)  # its deletion may have begun
        return secret_content.patch_proven(current, target_anchors.record_added(current.annotations, changes))

    secret_store.write(rotation.client, spec, rotation.secret, close)
