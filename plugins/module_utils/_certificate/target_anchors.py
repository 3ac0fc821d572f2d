# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Where a certificate meets the webhooks that present it: anchors on targets, and the record of who added them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Callable

from .._csr import csr_api, markers, secret_content, trust_anchors
from .._csr.intent import Intent
from .._csr.secret_content import ExistingSecret
from .._csr.trust_anchors import TrustAnchor
from .._kube.access_review import Right
from .._kube.client import Client
from .._kube.errors import MissingRights
from .._kube.lease import Lease
from .._webhook import bundle_content, bundle_patch, bundle_targets
from .._webhook.bundle_patch import TargetChange
from .._webhook.bundle_targets import ClientConfig, Target
from .._webhook.errors import TargetError
from .._webhook.workloads import Rollout
from .._x509 import certificate_facts, ephemeral_ca
from .._x509.verify import verify
from . import run_lease, secret_store


@dataclass(frozen=True)
class SeenTarget:
    """A target as it was read."""

    target: Target
    obj: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One run of k8s_csr: what is wanted, and what was read before the first write. lease: this run's turn to write."""

    client: Client
    intent: Intent
    secret: ExistingSecret | None
    targets: tuple[SeenTarget, ...]
    check_mode: bool
    rollout: Rollout = field(default_factory=Rollout)
    lease: Lease | None = None


def read(client: Client, targets: Iterable[Target]) -> tuple[SeenTarget, ...]:
    return tuple(SeenTarget(target, bundle_targets.read(client, target)) for target in targets)


def take_turn(task: Task) -> None:
    """Called before the first write. Raises run_lease.Moved where the Secret or a target is not what was read any more."""
    run_lease.take(task.lease, lambda: _versions(task) == _versions_now(task))


def _versions(task: Task) -> list[Any]:
    secret = task.secret
    return [secret and (secret.uid, secret.resource_version), *(_version(seen.obj) for seen in task.targets)]


def _versions_now(task: Task) -> list[Any]:
    fresh = read(task.client, (seen.target for seen in task.targets))
    return _versions(replace(task, secret=secret_store.read(task.client, task.intent.secret), targets=fresh))


def _version(obj: Mapping[str, Any]) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def plan(
    task: Task, anchor: TrustAnchor | None, *, leaf_pem: str | None, now: datetime
) -> tuple[TargetChange, ...]:
    """What adding the anchor changes; ``anchor`` None: not issued yet, so every target is taken to change."""
    return tuple(
        _plan(task.intent, seen.target, seen.obj, anchor, leaf_pem, now=now) for seen in task.targets
    )


def rights(changes: Iterable[TargetChange]) -> list[Right]:
    return [bundle_targets.right(change.target, "patch") for change in changes if change.changed]


def write(
    task: Task, changes: Iterable[TargetChange], anchor: TrustAnchor, *, leaf_pem: str, now: datetime
) -> tuple[TargetChange, ...]:
    """Write what was planned. Every target was planned before the first is written."""

    def replan(target: Target, obj: dict[str, Any]) -> TargetChange:
        return _plan(task.intent, target, obj, anchor, leaf_pem, now=now)

    return _written(task.client, changes, replan)


def anchor_of_kept(task: Task, secret: ExistingSecret, now: datetime) -> TrustAnchor:
    """Return the anchor that verifies the certificate in the Secret. Raises AnchorError.

    A CA that was made for this certificate counts only if a target trusts it. The permission to create Secrets is enough
    to write the marks of such a CA.
    """
    pem = secret.certificate_pem
    recorded = {entry.partition("=")[2] for entry in _record(secret.annotations)}
    standing = {
        anchor.fingerprint: anchor.pem
        for seen in task.targets
        for anchor in _trusted_by(task.intent, seen)
        if anchor.fingerprint in recorded
    }
    own = secret_content.find_own_ca(secret, task.intent)
    if own and task.targets and not _is_trusted(task, secret, own):
        own = ""
    offered = trust_anchors.candidates(task.client, task.intent, pem, "".join(standing.values()), own=own)
    return trust_anchors.choose(task.intent, pem, offered, now)


def _is_trusted(task: Task, secret: ExistingSecret, own: str) -> bool:
    """Return True if a target of the task trusts this CA, or one that the Secret records for another task.

    A run makes its targets trust the CA before it writes the Secret. So no run made a CA that no target trusts.
    """
    wanted = _prints(own)

    def is_trusting(seen: SeenTarget) -> bool:
        return any(anchor.fingerprint in wanted for anchor in _trusted_by(task.intent, seen))

    if any(map(is_trusting, task.targets)):
        return True
    for target in _recorded_targets(secret.annotations, wanted):
        with contextlib.suppress(TargetError, MissingRights):
            if is_trusting(SeenTarget(target, bundle_targets.read(task.client, target))):
                return True
    return False


def _recorded_targets(annotations: Mapping[str, str], wanted: Collection[str]) -> list[Target]:
    """Return the objects that the record names beside one of these fingerprints. The record may be anything."""
    entries = (entry.partition("=") for entry in sorted(_record(annotations)))
    places = dict.fromkeys(tuple(place.split("/")[:2]) for place, _sign, found in entries if found in wanted)
    return [
        Target(*place)
        for place in places
        if len(place) == 2 and place[0] in bundle_targets.KINDS and csr_api.is_plain_name(place[1])
    ]


def _trusted_by(intent: Intent, seen: SeenTarget) -> list[bundle_content.Anchor]:
    configs = bundle_targets.client_configs(seen.target, seen.obj, service=service(intent))
    return [anchor for config in configs for anchor in bundle_content.anchors(config.ca_bundle)]


def added(annotations: Mapping[str, str], changes: Iterable[TargetChange]) -> str:
    """The record for the Secret's annotation: what these changes add, and what was recorded before and still stands."""
    entries = _record(annotations)
    for target, bundle in ((change.target, bundle) for change in changes for bundle in change.bundles):
        mark = _mark(target, bundle.config.webhook)
        before, after = _prints(bundle.config.ca_bundle), _prints(bundle.after or "")
        gone = {entry for entry in entries if entry.startswith(mark) and entry[len(mark) :] not in after}
        entries = (entries - gone) | {f"{mark}{print_}" for print_ in after - before}
    return " ".join(sorted(entries))


def is_open(secret: ExistingSecret) -> bool:
    """Whether its certificate replaced another one and was not seen in use everywhere yet."""
    return markers.UNPROVEN in secret.annotations


def open_record(task: Task, serial: str, changes: Iterable[TargetChange], anchor: TrustAnchor) -> str:
    """The record of what goes once the certificate with this serial is proven to be in use.

    These are the anchors that this collection added, or that vouch for the certificate that was in use, and that the
    new one does not need. Others are somebody else's. A CA that was made for one certificate is ours without a record:
    a run may have been killed before it could write one.
    """
    needed, found = _prints(anchor.pem), task.secret
    # Only the manager that writes a caBundle at any time can restore its certificates.
    theirs = {
        seen.target for seen in task.targets if bundle_targets.find_bundle_writer(seen.target, seen.obj)
    }
    annotations = found.annotations if found else {}
    mine = _record(annotations) | _superseded(annotations)
    entries: set[str] = set()
    for target, bundle in ((change.target, bundle) for change in changes for bundle in change.bundles):
        mark = _mark(target, bundle.config.webhook)
        used = _vouching(found, bundle.config) if found and target not in theirs else set()
        goes = {f"{mark}{print_}" for print_ in _prints(bundle.after or "") - needed}
        entries |= goes & (
            mine | {f"{mark}{print_}" for print_ in used} | _made_here(mark, bundle.after or "")
        )
    return " ".join([serial, *sorted(entries)])


def due(task: Task, secret: ExistingSecret, keep: Collection[ClientConfig] = ()) -> frozenset[str]:
    """Return the entries of the open record, except those of the client configurations in ``keep``."""
    entries = _superseded(secret.annotations)
    marks = [
        _mark(seen.target, config.webhook)
        for seen in task.targets
        for config in bundle_targets.client_configs(seen.target, seen.obj, service=service(task.intent))
        if config in keep
    ]
    return frozenset(entry for entry in entries if not any(entry.startswith(mark) for mark in marks))


def drop(
    task: Task, secret: ExistingSecret, entries: Collection[str], *, now: datetime
) -> tuple[TargetChange, ...]:
    """Remove the anchors of these entries from the targets. The certificate in the Secret verifies without them."""

    def replan(target: Target, obj: Mapping[str, Any]) -> TargetChange:
        return _removal(task.intent, target, obj, entries, leaf_pem=secret.certificate_pem, now=now)

    concerned = [seen for seen in task.targets if _entries(entries, seen.target)]
    return _written(task.client, [replan(seen.target, seen.obj) for seen in concerned], replan)


def put_back(task: Task, dropped: Iterable[TargetChange], *, now: datetime) -> None:
    """Undo a drop, on the targets as they are now. What has expired vouches for nobody and stays away."""
    gone = {
        change.target: "".join(
            anchor.pem for bundle in change.bundles for anchor in bundle.removed if anchor.is_live(now)
        )
        for change in dropped
    }

    def replan(target: Target, obj: Mapping[str, Any]) -> TargetChange:
        options: dict[str, Any] = {"service": service(task.intent), "take_over": True, "now": now}
        return bundle_patch.plan(target, obj, gone[target], **options)

    changes = [replan(target, bundle_targets.read(task.client, target)) for target in gone if gone[target]]
    _written(task.client, changes, replan)


def unrecorded(annotations: Mapping[str, str], targets: Iterable[Target]) -> str:
    """The record without what it says of these targets."""
    record = _record(annotations)
    gone = {entry for target in targets for entry in _entries(record, target)}
    return " ".join(sorted(record - gone))


def with_orphans(
    client: Client, intent: Intent, targets: Iterable[Target], annotations: Mapping[str, str]
) -> dict[str, str]:
    """The annotations, whose record also names what needs none: CAs that were made here, on webhooks of this Service.

    A run that was killed between target and Secret leaves such a one, and its key is gone.
    """
    entries = _record(annotations)
    for target in targets:
        with contextlib.suppress(
            TargetError, MissingRights
        ):  # of no concern, where nothing else is to be done
            obj = bundle_targets.read(client, target)
            for config in bundle_targets.client_configs(target, obj, service=service(intent)):
                entries |= _made_here(_mark(target, config.webhook), config.ca_bundle)
    return {**annotations, markers.ANCHORS: " ".join(sorted(entries))}


def plan_removal(
    client: Client, intent: Intent, targets: Iterable[Target], annotations: Mapping[str, str]
) -> tuple[TargetChange, ...]:
    """What taking back the recorded anchors changes on these targets; targets that are gone need nothing."""
    changes, record, now = [], _record(annotations), client.now()
    for target in targets:
        obj = client.find(bundle_targets.path(target)) if _entries(record, target) else None
        if obj is not None:
            changes.append(_removal(intent, target, obj, record, now=now))
    return tuple(change for change in changes if change.changed)


def remove(
    client: Client, intent: Intent, changes: Iterable[TargetChange], annotations: Mapping[str, str]
) -> tuple[TargetChange, ...]:
    record, now = _record(annotations), client.now()

    def replan(target: Target, obj: dict[str, Any]) -> TargetChange:
        return _removal(intent, target, obj, record, now=now)

    return _written(client, changes, replan)


def service(intent: Intent) -> tuple[str, str] | None:
    return (intent.namespace, intent.service) if intent.service else None


def _plan(
    intent: Intent,
    target: Target,
    obj: Mapping[str, Any],
    anchor: TrustAnchor | None,
    leaf_pem: str | None,
    *,
    now: datetime,
) -> TargetChange:
    return bundle_patch.plan(
        target,
        obj,
        anchor.pem if anchor else None,
        service=service(intent),
        take_over=intent.take_over,
        leaf_pem=leaf_pem,
        now=now,
    )


def _removal(
    intent: Intent,
    target: Target,
    obj: Mapping[str, Any],
    entries: Collection[str],
    *,
    leaf_pem: str | None = None,
    now: datetime,
) -> TargetChange:
    """Each webhook loses what the entries say of it, not what they say of another webhook of the object."""
    configs = bundle_targets.client_configs(target, obj, service=service(intent))
    recorded = {
        config.webhook: [
            anchor.pem
            for anchor in bundle_content.anchors(config.ca_bundle)
            if _mark(target, config.webhook) + anchor.fingerprint in entries
        ]
        for config in configs
    }
    options: dict[str, Any] = {
        "service": service(intent),
        "take_over": intent.take_over,
        "leaf_pem": leaf_pem,
        "now": now,
    }
    everything = "".join(pem for pems in recorded.values() for pem in pems)
    planned = bundle_patch.plan(target, obj, everything, mode="absent", recorded=True, **options)
    bundles = (
        replace(
            bundle,
            after=bundle_content.merge(
                bundle.config.ca_bundle, "".join(recorded[bundle.config.webhook]), mode="absent", now=now
            ),
        )
        for bundle in planned.bundles
    )
    return replace(planned, bundles=tuple(bundles))


def _written(
    client: Client, changes: Iterable[TargetChange], replan: Callable[[Target, dict[str, Any]], TargetChange]
) -> tuple[TargetChange, ...]:
    return tuple(
        bundle_patch.write(client, change, functools.partial(replan, change.target))
        if change.changed
        else change
        for change in changes
    )


def _record(annotations: Mapping[str, str]) -> set[str]:
    return set(annotations.get(markers.ANCHORS, "").split())


def _superseded(annotations: Mapping[str, str]) -> set[str]:
    return set(annotations.get(markers.UNPROVEN, "").split()[1:])


def _vouching(found: ExistingSecret, config: ClientConfig) -> set[str]:
    """The anchors through which the certificate in the Secret verifies, at its own time."""
    if found.certificate is None:
        return set()
    leaf, chain = certificate_facts.load_leaf_and_chain(found.certificate_pem)
    at = found.certificate.not_before
    return set(verify(leaf, config.ca_bundle, name=None, intermediates=chain, now=at, usage="any").anchors)


def _made_here(mark: str, bundle: str) -> set[str]:
    return {
        f"{mark}{anchor.fingerprint}"
        for anchor in bundle_content.anchors(bundle)
        if ephemeral_ca.is_made_here(anchor.subject)
    }


def _entries(record: Collection[str], target: Target) -> set[str]:
    """What a record says of a target."""
    place = f"{target.kind}/{target.name}"
    return {entry for entry in record if entry.startswith((f"{place}=", f"{place}/"))}


def _mark(target: Target, webhook: str) -> str:
    """``webhook`` is empty for kinds that hold one bundle only."""
    return "/".join(filter(None, (target.kind, target.name, webhook))) + "="


def _prints(bundle: str) -> set[str]:
    return {anchor.fingerprint for anchor in bundle_content.anchors(bundle)}
