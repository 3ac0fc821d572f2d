# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""state: absent - take back what this collection made for a Secret, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._csr import csr_api, markers, pending_key, secret_content, signers
from .._csr.intent import MANAGED_BY, Intent
from .._csr.secret_content import ExistingSecret
from .._kube import access_review
from .._kube.access_review import Right
from .._kube.client import Client
from .._kube.errors import Conflict, Forbidden, MissingRights, NotFound
from .._kube.lease import Lease
from .._kube.update_object import retry_on_conflict
from .._result import Result
from .._webhook.bundle_patch import TargetChange
from .._webhook.bundle_targets import Target
from . import certificate_report, run_lease, secret_store, target_anchors
from .secret_store import Change


@dataclass(frozen=True)
class _Plan:
    """What is taken back. own: the Secret that goes. adopted: one that stays, without ``record`` of these anchors."""

    record: Mapping[str, str]
    changes: tuple[TargetChange, ...]
    requests: Sequence[Mapping[str, Any]]
    waiting: Mapping[str, Any] | None
    own: ExistingSecret | None
    adopted: ExistingSecret | None
    warnings: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.requests or self.waiting or self.own or self.adopted)


def run(
    client: Client,
    intent: Intent,
    targets: tuple[Target, ...],
    check_mode: bool,
    lease: Lease | None = None,
) -> Result:
    """Remove recorded anchors from ``targets``, requests that were not issued with their keys, and the Secret.

    Issued requests stay: the cluster collects them after an hour, and auditors want them.
    """
    plan = _plan(client, intent, targets)
    changes, warnings = plan.changes, list(plan.warnings)
    if not plan.is_empty:
        access_review.require(client, _needed(intent, plan), f"take back the {intent}")
    if not (plan.is_empty or check_mode):
        run_lease.take(lease, lambda: _plan(client, intent, targets) == plan)
        changes = target_anchors.remove(client, intent, changes, plan.record)
        warnings += filter(None, (csr_api.remove(client, csr) for csr in plan.requests))
        if plan.waiting:
            pending_key.discard(client, intent.secret, plan.waiting["metadata"]["uid"])
        if plan.adopted:
            _forget(client, intent, targets, plan.adopted)
        if plan.own:
            warnings += filter(None, [_delete(client, intent, plan.own)])
    reason = "there is nothing of this collection to take back" if plan.is_empty else "taken back"
    values = certificate_report.values(
        intent, reason=reason, facts=None, anchor=None, csr=None, targets=changes
    )
    return Result(
        not plan.is_empty, values, certificate_report.diff(plan.own, None, changes), tuple(warnings)
    )


def _delete(client: Client, intent: Intent, own: ExistingSecret) -> str:
    """Delete the Secret in the version that was read. After a write of another client, read and judge it again.

    Return the reason why it stays, "" if it is deleted or replaced by another Secret of that name.
    """
    spec = intent.secret

    def read() -> ExistingSecret:
        found = secret_store.read(client, spec)
        if found is None or found.uid != own.uid:
            raise NotFound(f"{spec} was deleted")
        return found

    def delete(found: ExistingSecret) -> str:
        stays = _why_it_stays(intent, found)
        if not stays:
            client.delete(spec.path, uid=found.uid, resource_version=found.resource_version)
        return stays

    try:
        return retry_on_conflict(own, delete, read, attempts=secret_store.ATTEMPTS)
    except NotFound:
        return ""
    except Conflict:
        return f"{spec} is kept, because another client changes it again and again. Run the task again"


def _plan(client: Client, intent: Intent, targets: tuple[Target, ...]) -> _Plan:
    found = secret_store.read(client, intent.secret)
    stays = _why_it_stays(intent, found) if found else ""
    recorded = found.annotations if found and secret_content.is_for(found, intent) else {}
    record = target_anchors.with_orphans(client, intent, targets, recorded)
    changes = target_anchors.plan_removal(client, intent, targets, record)
    shared = _who_needs_them(client, intent) if changes else ""
    requests, unseen = _unissued(client, intent, found)
    is_forgotten = not shared and target_anchors.unrecorded(recorded, targets) != recorded.get(
        markers.ANCHORS, ""
    )
    return _Plan(
        record=record,
        changes=() if shared else changes,
        requests=requests,
        waiting=pending_key.find(client, intent.secret),
        own=None if stays else found,
        adopted=found if stays and is_forgotten else None,
        warnings=tuple(filter(None, (stays, shared, unseen))),
    )


def _unissued(
    client: Client, intent: Intent, found: ExistingSecret | None
) -> tuple[list[dict[str, Any]], str]:
    """The requests that were not issued, and a warning where this identity may not look for them.

    It needs no such right where no request was sent.
    """
    try:
        return csr_api.list_unissued(client, intent.secret), ""
    except MissingRights as exc:
        row = signers.SIGNERS.get(found.annotations.get(markers.SIGNER, "")) if found else None
        is_own = row is not None and not row.is_asked
        return [], "" if is_own else f"requests that were never issued are not looked for: {exc.cause}"


def _why_it_stays(intent: Intent, found: ExistingSecret) -> str:
    """Why the Secret is left there, "" where this collection made it for this Service and nobody keeps more in it."""
    reason = (
        secret_content.foreign_reason(found, intent) if found.is_ours else "this collection did not make it"
    )
    others = found.data_keys - intent.secret.data_keys - {secret_content.CONVENTIONAL_CA_KEY}
    if not reason and others:
        reason = f"it also holds {', '.join(sorted(others))}; delete it if nobody needs that"
    return f"{intent.secret} is left alone: {reason}" if reason else ""


def _who_needs_them(client: Client, intent: Intent) -> str:
    """Why the anchors stay: another Secret of the Service is, or may be, in use, and its certificate needs them too.

    A Service gets a second Secret where the first had a type that cannot be changed.
    """
    spec, service = intent.secret, markers.annotations_for(intent)[markers.SERVICE]
    later = "take them back with webhook_cabundle (mode: absent) once nothing needs them"
    try:
        listed = client.list_all(spec.collection, {"labelSelector": f"{MANAGED_BY}={markers.MANAGER}"})
    except Forbidden:
        return (
            f"the CA stays in the targets: this identity may not list secrets in namespace {spec.namespace}, so whether "
            f"another Secret of Service {service} needs it is not known; {later}"
        )
    others = [
        obj["metadata"]["name"]
        for obj in listed["items"]
        if (obj["metadata"].get("annotations") or {}).get(markers.SERVICE) == service
        and obj["metadata"]["name"] != spec.name
    ]
    if not others:
        return ""
    return (
        f"the CA stays in the targets: Secret {', '.join(others)} of Service {service} needs it too; {later}"
    )


def _forget(client: Client, intent: Intent, targets: tuple[Target, ...], adopted: ExistingSecret) -> None:
    """Take these targets out of the record of a Secret that stays."""

    def change(found: ExistingSecret | None) -> Change:
        return (
            secret_content.patch_anchor_record(found, target_anchors.unrecorded(found.annotations, targets))
            if found
            else None
        )

    secret_store.write(client, intent.secret, adopted, change)


def _needed(intent: Intent, plan: _Plan) -> list[Right]:
    spec = intent.secret
    rights = target_anchors.rights(plan.changes)
    if plan.requests:
        rights.append(Right("delete", csr_api.GROUP, "certificatesigningrequests"))
    if plan.waiting:
        rights.append(Right("delete", "", "secrets", spec.namespace, pending_key.name(spec)))
    if plan.adopted:
        rights.append(secret_store.right(spec, "patch"))
    if plan.own:
        rights.append(secret_store.right(spec, "delete"))
    return rights
