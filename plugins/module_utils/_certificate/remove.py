# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Remove the objects that this collection made for a Secret (state: absent)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._base.result import Result, make_left
from .._csr import markers, secret_content
from .._csr.intent import Intent
from .._csr.request import csr_api, pending_key
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._kube.access_review import Permission, missing_permissions
from .._kube.approved_plan import Write
from .._kube.client import Client
from .._kube.errors import Conflict, Forbidden, MissingPermissions, NotFound
from .._kube.json_patch import retry_on_conflict
from .._webhook import trust_removal, workloads
from .._webhook.bundles import bundle_targets
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import Target
from .._webhook.endpoints import webhook_endpoints
from .._webhook.errors import StillNeededError
from .._webhook.trust_removal import TrustHold
from . import (
    certificate_report,
    certificate_run,
    discover_targets,
    gather,
    obtain,
    secret_store,
    target_anchors,
)
from .certificate_run import CertificateRun

_PAUSE_SECONDS = 2.0
_REMEDY = "End the cause and run the task again, or remove it by hand"
#: The phases of pods whose programs do not run again.
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class _Removal:
    """The objects to remove, as they were read."""

    #: The annotations of the Secret, with the record of added anchors.
    annotations: Mapping[str, str]
    #: The changes that remove recorded anchors from the targets.
    changes: tuple[TargetChange, ...]
    #: The requests of this identity that were not issued.
    requests: Sequence[Mapping[str, Any]]
    #: The UID of the Secret with the key of this identity's waiting request, "" without one.
    waiting: str
    #: The Secret to delete.
    own: ExistingSecret | None
    #: The targets of the task, and those that were discovered.
    targets: tuple[Target, ...]
    #: A Secret that stays, and loses the marks of this collection.
    adopted: ExistingSecret | None
    #: True if a Secret stays, so pods may come back with its certificate.
    keeps_secret: bool
    warnings: tuple[str, ...]
    #: The warnings about what this collection made and this run does not remove, although no other Secret needs it.
    left: tuple[str, ...]


def remove(run: CertificateRun) -> Result:
    """Remove recorded anchors from the targets, requests that were not issued with their keys, and the Secret.

    Issued requests stay for audits. The cluster collects them after an hour.
    """
    client, intent = run.client, run.intent
    removal = _gather(run)
    changes, warnings, parts = removal.changes, list(removal.warnings), tuple(_parts(intent, removal))
    left = removal.left
    is_changed = bool(changes or parts)
    run.guard.allow(
        Write("removal", f"the removal of {intent.secret}", [part, intent.secret.path])
        for part, *_rest in parts
    )
    run.allow_bundles(changes)
    warnings += check_removal(run, changes, keeps_secret=removal.keeps_secret)
    if removal.own:
        with contextlib.suppress(MissingPermissions):
            warnings += _warnings_of_use(run)
    if is_changed:
        needed = [*target_anchors.permissions(changes), *(permission for *_rest, permission in parts)]
        access_review.require(client, needed, f"remove the {intent}")
    words = [
        *(f"the CA certificates in {change.target}" for change in changes),
        *(text for _part, text, _permission in parts),
    ]
    reason = "this collection has nothing to remove"
    if words:
        reason = f"{'to be removed' if run.check_mode else 'removed'}: {', '.join(words)}"
    if is_changed and not run.check_mode:
        certificate_run.acquire(run.lease, lambda: _gather(run) == removal)
        changes = target_anchors.remove(client, intent, changes, removal.annotations)
        warnings += filter(None, (csr_api.remove(client, csr) for csr in removal.requests))
        if removal.waiting:
            pending_key.discard(client, intent.secret, removal.waiting)
        adopted = removal.adopted
        if adopted:
            secret_store.write(
                client,
                intent.secret,
                adopted,
                lambda secret: (
                    _without_marks(secret, removal.targets) if secret and secret.uid == adopted.uid else None
                ),
            )
        if removal.own:
            left += tuple(filter(None, [_delete(client, intent, removal.own)]))
            warnings += left[len(removal.left) :]
    held = removal.own or removal.adopted
    values = certificate_report.values(
        client,
        intent,
        reason=reason,
        signer=held.annotations.get(markers.SIGNER, "") if held else "",
        targets=changes,
    )
    values["left"] = make_left(
        len(left), certificate_report.left_over(intent, "not-removed", next(iter(left), ""), _REMEDY)
    )
    return Result(is_changed, values, certificate_report.diff(removal.own, None, changes), tuple(warnings))


def _parts(intent: Intent, removal: _Removal) -> Iterator[tuple[str, str, Permission]]:
    """Yield each part of a removal besides the anchors: its name in a plan, what it is, and the permission that it needs."""
    spec, count = intent.secret, len(removal.requests)
    if count:
        words = f"{count} CSR{'s' if count > 1 else ''} without a certificate"
        yield "requests", words, Permission("delete", csr_api.GROUP, "certificatesigningrequests")
    if removal.waiting:
        yield (
            "waiting",
            f"the key of a waiting CSR of {spec}",
            Permission("delete", "", "secrets", spec.namespace, pending_key.name(spec)),
        )
    if removal.own:
        yield "own", str(spec), secret_store.permission(spec, "delete")
    if removal.adopted:
        yield (
            "adopted",
            f"the labels and annotations of this collection on {spec}",
            secret_store.permission(spec, "patch"),
        )


def _delete(client: Client, intent: Intent, own: ExistingSecret) -> str:
    """Delete the Secret in the version that was read. After a write of another client, read and judge it again.

    Return the reason why it stays, "" if it is deleted or replaced by another Secret of that name.
    """
    spec = intent.secret

    def read() -> ExistingSecret:
        secret = secret_store.read(client, spec)
        if secret is None or secret.uid != own.uid:
            raise NotFound(f"{spec} was deleted")
        return secret

    def delete(secret: ExistingSecret) -> str:
        stays = _why_it_stays(intent, secret)
        if not stays:
            client.delete(spec.path, uid=secret.uid, resource_version=secret.resource_version)
        return stays

    try:
        return retry_on_conflict(own, delete, read, attempts=secret_store.ATTEMPTS)
    except NotFound:
        return ""
    except Conflict:
        return f"{spec} is kept, because another client changes it again and again. Run the task again"


def _gather(run: CertificateRun) -> _Removal:
    client, intent = run.client, run.intent
    secret = secret_store.read(client, intent.secret)
    targets = (*run.targets, *_discovered(run, secret))
    stays = _why_it_stays(intent, secret) if secret else ""
    recorded = secret.annotations if secret and secret_content.is_for(secret, intent) else {}
    annotations = target_anchors.with_orphans(client, intent, targets, recorded)
    changes = target_anchors.plan_removal(client, intent, targets, annotations)
    shared, unseen = _why_anchors_stay(client, intent) if changes else ("", "")
    unseen = _other_keys(intent, secret) or unseen
    requests, waiting, left_alone = _own_requests(run, secret)
    is_marked = bool(secret and secret_content.is_for(secret, intent) and _without_marks(secret, targets))
    is_kept = shared or unseen
    trusted = "" if is_kept else discover_targets.hint_at_anchors(run, recorded, targets)
    is_ours = secret is not None and secret.is_created and not secret_content.foreign_reason(secret, intent)
    left = tuple(filter(None, (stays if is_ours else "", unseen, trusted)))
    return _Removal(
        annotations=annotations,
        changes=() if is_kept else changes,
        requests=requests,
        waiting=waiting,
        targets=targets,
        own=None if stays else secret,
        adopted=secret if stays and is_marked and not is_kept else None,
        keeps_secret=bool(stays),
        warnings=tuple(dict.fromkeys(filter(None, (stays, shared, *left_alone, *left)))),
        left=left,
    )


def _discovered(run: CertificateRun, secret: ExistingSecret | None) -> tuple[Target, ...]:
    """Return the discovered targets, with every webhook that calls the Service. Only recorded anchors are removed from them."""
    callers = discover_targets.find_callers(run, secret)
    return tuple(Target(caller.target.kind, caller.target.name) for caller in callers if caller.is_verified)


def _own_requests(
    run: CertificateRun, secret: ExistingSecret | None
) -> tuple[Sequence[Mapping[str, Any]], str, tuple[str, ...]]:
    """Return the requests of this identity that were not issued, the UID of the Secret of its key, and what is left alone.

    The cluster deletes such requests within a day.
    """
    client, intent = run.client, run.intent
    unissued, unseen = _unissued(client, intent, secret)
    waiting, fault = gather.read_waiting(run)
    asked = [*unissued, waiting.csr] if waiting and waiting.csr else unissued
    # A request of another identity may be one that the API server refuses to this identity.
    own = next(filter(None, (csr_api.read_own_identity(client, csr) for csr in asked)), None)
    requests, foreign = obtain.keep_foreign_requests(intent, unissued, own)
    waiting, kept = obtain.keep_foreign_key(intent, waiting, fault, own)
    return requests, waiting.secret_uid if waiting else "", (unseen, *foreign, *kept)


def _unissued(
    client: Client, intent: Intent, secret: ExistingSecret | None
) -> tuple[list[dict[str, Any]], str]:
    """Return the requests that were not issued, and a warning if this identity may not list them.

    A certificate of an ephemeral CA has no request, so listing needs no permission.
    """
    try:
        return csr_api.unissued(csr_api.list_requests(client, intent.secret)), ""
    except MissingPermissions as exc:
        words = f"requests that were not issued are not removed: {exc.cause}"
        return [], "" if secret and secret.has_signer_without_requests else words


def _why_it_stays(intent: Intent, secret: ExistingSecret) -> str:
    """Return why the Secret stays, "" if this collection created it for this Service and it holds no other data."""
    reason = secret_content.foreign_reason(secret, intent)
    if secret.deletion_waits_for:
        reason = f"it is being deleted, and waits for its finalizers {', '.join(secret.deletion_waits_for)}"
    if not reason and not secret.is_created:
        held = secret.certificate
        until = f"until {held.not_after:%Y-%m-%d %H:%M} UTC, and is not renewed any more" if held else ""
        reason = f"this collection did not create it{until and f'. Its certificate is valid {until}'}"
    others = secret_content.other_content(secret, intent.secret, f"{secret.conventional_ca}\n{secret.ca_pem}")
    if not reason and others:
        reason = f"it also holds {', '.join(others)}. Delete it if no program needs that"
    return f"{intent.secret} is kept: {reason}" if reason else ""


def _other_keys(intent: Intent, secret: ExistingSecret | None) -> str:
    """Return why nothing is removed of a Secret whose certificate and key this task would store under other keys, "" otherwise."""
    spec, marks = intent.secret, (markers.CREATED, markers.ADOPTED)
    keys = spec.certificate_key, spec.private_key_key
    words = (
        f"the CA and the marks of {spec} stay, because it holds neither {' nor '.join(keys)}. Set secret.certificate_key and "
        "secret.private_key_key as in the task that made it"
    )
    is_misread = secret and secret.data_keys and secret.data_keys.isdisjoint(keys)
    return words if secret and is_misread and not secret.annotations.keys().isdisjoint(marks) else ""


def _why_anchors_stay(client: Client, intent: Intent) -> tuple[str, str]:
    """Return why the anchors stay: another Secret of the Service needs them, or that is not known. Two empty texts if they go."""
    spec, service = intent.secret, markers.annotations_for(intent)[markers.SERVICE]
    later = "Remove it with webhook_cabundle (mode: absent) once no certificate needs it"
    others = secret_store.read_others(client, intent)
    if others is None:
        return "", (
            f"the CA stays in the targets, because another Secret of Service {service} may need it: this identity may not "
            f"list secrets in namespace {spec.namespace}. {later}"
        )
    words = f"the CA stays in the targets, because Secret {', '.join(others)} of Service {service} needs it too. {later}"
    return words if others else "", ""


def _without_marks(secret: ExistingSecret, targets: tuple[Target, ...]) -> list[dict[str, Any]]:
    """Return the JSON patch that removes the marks. The anchors of other targets stay recorded for a later removal."""
    return secret_content.patch_without_marks(
        secret, target_anchors.without_targets(secret.annotations, targets)
    )


@dataclass(frozen=True)
class RemovalEffect:
    """A caBundle that would no longer verify what an endpoint serves, or may serve."""

    target: Target
    hold: TrustHold
    #: The requests for which the API server calls the webhook.
    requests: str
    #: True if the API server refuses these requests, False if it skips the webhook.
    is_strict: bool

    def __str__(self) -> str:
        act = "refuse" if self.is_strict else "call no webhook for"
        return f"{self.target}: {self.hold.reason}. The API server would {act} {self.requests}"


def check_removal(
    run: CertificateRun, changes: Iterable[TargetChange], *, keeps_secret: bool
) -> tuple[str, ...]:
    """Return a warning for each effect of the removal that the user accepts, or that refuses no request.

    keeps_secret: the Secret with the certificate stays, so pods may come back with it.

    Raises StillNeededError for an effect that the user does not accept, MissingPermissions, KubeError.
    """
    changes, until = tuple(changes), time.monotonic() + run.intent.wait_timeout
    while True:
        effects = tuple(_effects(run, changes, keeps_secret=keeps_secret))
        refused = [
            effect
            for effect in effects
            if effect.is_strict and not run.intent.accept.covers(effect.hold.word, effect.target)
        ]
        may_pass = all(effect.hold.states == {webhook_endpoints.TERMINATING} for effect in refused)
        if not refused or time.monotonic() > until or not may_pass:
            break
        time.sleep(_PAUSE_SECONDS)
    if not refused:
        return tuple(map(str, effects))
    remedies = dict.fromkeys(trust_removal.remedy(effect.target, effect.hold) for effect in refused)
    raise StillNeededError(
        f"the CA is not removed from {refused[0]}",
        evidence=list(map(str, refused)),
        remedy=f"Delete the webhook first if it is not needed. {'. '.join(remedies)}",
    )


def _effects(
    run: CertificateRun, changes: Iterable[TargetChange], *, keeps_secret: bool
) -> Iterator[RemovalEffect]:
    held, accepts = list(trust_removal.find_holds(run.client, changes)), run.intent.accept
    is_open = any(hold.is_empty and not accepts.covers(hold.word, target) for target, _bundle, hold in held)
    # Without the Secret, no new pod serves its certificate. A pod that has it may become an endpoint again.
    if is_open and not keeps_secret and not _warnings_of_use(run):
        held = [entry for entry in held if not entry[-1].is_empty]
    objects = {
        target: run.client.find(bundle_targets.path(target))
        for target in dict.fromkeys(entry[0] for entry in held)
    }
    yield from (
        RemovalEffect(target, hold, *_called_for(target, obj, bundle.config.webhook))
        for target, bundle, hold in held
        if (obj := objects[target])  # unless another client deleted it
    )


def _warnings_of_use(run: CertificateRun) -> list[str]:
    """Return a warning that names a pod that has the Secret, [] without one. Raises MissingPermissions, KubeError."""
    spec = run.intent.secret
    try:
        pods = run.client.list_all(f"/api/v1/namespaces/{spec.namespace}/pods")["items"]
    except Forbidden as error:
        lacking = [Permission("list", "", "pods", spec.namespace)]
        raise missing_permissions(lacking, f"see if a pod serves {spec}", error.message) from error
    return [
        f"pod {spec.namespace}/{pod['metadata']['name']} has {spec}, and a pod like it does not start without it"
        for pod in pods
        if (pod.get("status") or {}).get("phase") not in _ENDED and workloads.uses(pod, spec.name)
    ][:1]


def _called_for(target: Target, obj: Mapping[str, Any], name: str) -> tuple[str, bool]:
    """Return the requests for which the API server calls a client configuration, and if it refuses them without an answer."""
    if target.kind == "APIService":
        return f"every request of the API {target.name}", True
    if target.kind == "CustomResourceDefinition":
        return f"requests of {target.name} that convert an object to another version", True
    webhook: Mapping[str, Any] = next(
        (entry for entry in obj.get("webhooks") or () if entry.get("name") == name), {}
    )
    rules = "; ".join(
        f"{', '.join(rule.get('operations') or ())} of {_resources(rule)}"
        for rule in webhook.get("rules") or ()
    )
    return rules or "no request, because it has no rules", webhook.get("failurePolicy", "Fail") == "Fail"


def _resources(rule: Mapping[str, Any]) -> str:
    groups = [group or "core" for group in rule.get("apiGroups") or ()]
    return f"{', '.join(rule.get('resources') or ())} in {', '.join(groups)}"
