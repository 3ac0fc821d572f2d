# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Repair a caBundle: add the CA that verifies what every endpoint serves, by one conditional write for each object.

The same write records the repair in an annotation: the fingerprints and the time. If another client replaces the caBundle within
OVERWRITTEN_WITHIN, the next repair detects it by this record, and does not write the field again. So a nightly repair does not fight
an accepted owner that still writes the field. Writes of this collection itself do not count.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .._base.accept import EVERYTHING, UNSEEN
from .._base.errors import CertflowError
from .._base.object_managers import OWN_MANAGER
from .._base.owners import Owner, owners, refuse
from .._base.times import find_time, format_time
from .._csr.certificate_rules import CLOCK_SKEW
from .._csr.trust_anchors import select_certificates
from .._kube import json_patch
from .._kube.access_review import Permission
from .._kube.client import Client
from .._kube.errors import ApiError
from .._webhook import service_callers, trust_removal, workloads
from .._webhook.bundles import bundle_content, bundle_patch, bundle_targets
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import ClientConfig, Target
from .._webhook.endpoints.served_chains import ServedChain
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.chain.chain_judge import judge
from .._x509.errors import CertificateError
from .repair_model import WAITING, Action, Case, Refusal, RepairOptions, RepairWrite, Written
from .surroundings import MountedSecret

Object = Mapping[str, Any]
RECORD = "certflow.kubernetes/repaired"
OVERWRITTEN_WITHIN = timedelta(days=7)
ADD, APPEND, ABSENT = "add", "append", "absent"
_INSECURE = "insecureSkipTLSVerify"
_INSECURE_PATH = ("f:spec", f"f:{_INSECURE}")


@dataclass(frozen=True)
class BundleEdit:
    """One caBundle that gets or loses a CA."""

    #: The place, as it was read. Its caBundle is the only one for which it is proven that the rest verifies every endpoint.
    config: ClientConfig
    #: The certificates to add or to remove, and their fingerprints.
    pem: str
    fingerprints: tuple[str, ...]
    #: True to end insecureSkipTLSVerify in the same write.
    secures: bool = False
    #: How the certificates change the caBundle, see bundle_content.merge.
    mode: str = ADD
    #: What may serve another certificate, and was not seen. The user confirms the object.
    unseen: tuple[str, ...] = ()

    @property
    def webhook(self) -> str:
        return self.config.webhook

    @property
    def removes(self) -> bool:
        return self.mode == ABSENT

    @property
    def parts(self) -> list[list[str]]:
        """Return each CA, the end of insecureSkipTLSVerify, and the confirmation of what was not seen, as a plan promises them."""
        marks = [*(["secures"] if self.secures else []), *(["unseen"] if self.unseen else [])]
        prints = [f"{ABSENT if self.removes else ADD} {name}" for name in self.fingerprints]
        return [[self.webhook, part] for part in (*prints, *marks)]

    def joined(self, other: BundleEdit) -> BundleEdit:
        """Return one edit for two that add certificates to the same caBundle."""
        return replace(
            self,
            pem=self.pem + other.pem,
            fingerprints=tuple(dict.fromkeys((*self.fingerprints, *other.fingerprints))),
            secures=self.secures or other.secures,
            unseen=self.unseen or other.unseen,
            mode=APPEND if APPEND in (self.mode, other.mode) else self.mode,
        )


@dataclass(frozen=True)
class BundleAction(Action):
    """The edits of one object."""

    target: Target
    obj: Object
    edits: tuple[BundleEdit, ...]
    now: datetime

    @property
    def key(self) -> tuple[str, ...]:
        return ("bundle", self.target.kind, self.target.name)

    @property
    def writes(self) -> tuple[RepairWrite, ...]:
        row = bundle_targets.KINDS[self.target.kind]
        fields = [f"{edit.config.pointer}/caBundle" for edit in self.edits]
        fields += [f"{edit.config.pointer}/{_INSECURE}" for edit in self.edits if edit.secures]
        content = sorted(part for edit in self.edits for part in edit.parts)
        version = f"{row.group}/{row.version}"
        return (
            RepairWrite(
                "patch", version, self.target.kind, self.target.name, fields=tuple(fields), content=content
            ),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            *(
                f"{'removes' if edit.removes else 'adds'} {entry}"
                for edit in self.edits
                for entry in certificate_facts.load_readable(edit.pem)
            ),
            *(
                f"confirmed by accept, although not seen: {text}"
                for edit in self.edits
                for text in edit.unseen
            ),
        )

    @property
    def permissions(self) -> tuple[Permission, ...]:
        return (bundle_targets.permission(self.target, "patch"),)

    def merged(self, other: BundleAction) -> BundleAction:
        edits: dict[str, BundleEdit] = {}
        for edit in dict.fromkeys((*self.edits, *other.edits)):
            edits[edit.config.pointer] = (
                edits[edit.config.pointer].joined(edit) if edit.config.pointer in edits else edit
            )
        return replace(self, edits=tuple(edits.values()))

    def carry_out(self, client: Client, options: RepairOptions) -> WrittenBundle:
        """Write the object if it still has the version that was read. If another client was faster, check it again.

        Raises CertflowError, TargetError, KubeError.
        """

        readings: list[Object] = [self.obj]

        def write(known: TargetChange) -> WrittenBundle:
            current = readings[-1]
            if known.changed:
                operations = self.operations(current, known)
                written = bundle_patch.send(client, known, operations, dry_run=options.check_mode)
                return WrittenBundle(self, current, written)
            # The answer to a write of this run was lost, or another client wrote the same.
            own_time = format_time(self.now)
            is_own = any(entry.get("at") == own_time for entry in read_record(current).values())
            if is_own and len(readings) > 1:
                return WrittenBundle(self, readings[-2], current)
            return WrittenBundle(self, current, current)

        def read() -> TargetChange:
            current = bundle_targets.read(client, self.target)
            readings.append(current)
            self._check_again(current, options)
            return self.plan(current)

        return bundle_patch.retry(self.target, self.plan(self.obj), write, read)

    def plan(self, obj: Object) -> TargetChange:
        """Return the change of the caBundles. Raises CertflowError, TargetError, BundleError."""
        if any(edit.secures for edit in self.edits):
            obj = {**obj, "spec": {**obj["spec"], _INSECURE: False}}
        names = [(edit.webhook,) if edit.webhook else () for edit in self.edits]
        changes = [
            bundle_patch.plan(
                Target(self.target.kind, self.target.name, own),
                obj,
                edit.pem,
                mode=edit.mode,
                service=edit.config.service,
                consent=EVERYTHING,  # The owners of the fields were judged before.
                now=self.now,
            )
            for own, edit in zip(names, self.edits)
        ]
        for edit, change in zip(self.edits, changes):
            if edit.removes and any(
                b.changed and b.config.ca_bundle != edit.config.ca_bundle for b in change.bundles
            ):
                raise CertflowError(
                    f"another client changed the caBundle of {self.target}, so it is not proven that the outgoing CA may be removed",
                    code="conflict",
                    remedy="Run the repair again",
                )
        bundles = tuple(bundle for change in changes for bundle in change.bundles)
        return TargetChange(self.target, obj["metadata"]["resourceVersion"], bundles)

    def operations(self, obj: Object, change: TargetChange) -> list[dict[str, Any]]:
        """Return the JSON patch: the caBundles, the end of insecureSkipTLSVerify, and the record."""
        at = format_time(self.now)
        record = {
            edit.webhook: {
                "at": at,
                "removed" if edit.removes else "ca": list(edit.fingerprints),
                **({"unseen": list(edit.unseen)} if edit.unseen else {}),
            }
            for edit in self.edits
        }
        insecure = any(edit.secures for edit in self.edits) and _INSECURE in (obj.get("spec") or {})
        end = [json_patch.remove(f"/spec/{_INSECURE}")] if insecure else []
        # The API server refuses an object with both, and it judges the object after the whole patch.
        return [
            *change.operations,
            *end,
            *workloads.annotate(obj, "", RECORD, json.dumps({**read_record(obj), **record})),
        ]

    def _check_again(self, obj: Object, options: RepairOptions) -> None:
        """Raise CertflowError if the object was created again, or if a field must not be written any more."""
        if obj["metadata"].get("uid") != self.obj["metadata"].get("uid"):
            raise CertflowError(
                f"{self.target} was deleted and created again", code="conflict", remedy="Run the repair again"
            )
        if _addresses(self.target, obj) != _addresses(self.target, self.obj):
            raise CertflowError(
                f"another client changed what {self.target} calls, so it is not known what the address serves",
                code="conflict",
                remedy="Run the repair again",
            )
        for edit in self.edits:
            refusal = find_obstacle(self.target, obj, edit, options, self.now)
            if refusal:
                raise CertflowError(
                    f"another client changed {self.target}: {refusal.reason}",
                    code="conflict",
                    evidence=refusal.evidence,
                )


@dataclass(frozen=True)
class WrittenBundle(Written):
    """An object whose caBundles were written."""

    action: BundleAction
    before: Object
    after: Object

    def find_overwriter(self, client: Client, webhook: str) -> str:
        obj = client.find(bundle_targets.path(self.action.target))
        if obj is None:
            return "a client that deleted the object"
        is_kept = all(
            edit.webhook != webhook or holds(self.action.target, obj, edit) for edit in self.action.edits
        )
        return "" if is_kept else names_of_writers(self.action.target, obj, webhook)

    def put_back(self, client: Client, webhooks: Collection[str]) -> bool:
        """Restore the fields of these webhooks, and end their records, if each place is still as this run wrote it.

        The API server raises the version of an object when it writes the status, such as that an aggregated API is down now.
        """
        if self.before is self.after:  # this run has changed nothing
            return False
        change = self.action.plan(self.before)
        path = f"/metadata/annotations/{json_patch.escape(RECORD)}"
        operations = [
            json_patch.test("/metadata/uid", self.after["metadata"]["uid"]),
            json_patch.test(path, (self.after["metadata"].get("annotations") or {}).get(RECORD)),
        ]
        for config in (entry.config for entry in change.bundles if entry.config.webhook in webhooks):
            pointer = f"{config.pointer}/caBundle"
            old = _value_at(self.before, pointer)
            operations += [
                *([json_patch.test(config.name_pointer, config.webhook)] if config.webhook else []),
                json_patch.test(config.pointer, _value_at(self.after, config.pointer)),
                json_patch.remove(pointer) if old is None else json_patch.add(pointer, old),
            ]
        insecure = (self.before.get("spec") or {}).get(_INSECURE)
        if insecure and any(edit.secures for edit in self.action.edits):
            operations.append(json_patch.add(f"/spec/{_INSECURE}", insecure))
        record = {name: entry for name, entry in read_record(self.after).items() if name not in webhooks}
        operations.append(json_patch.add(path, json.dumps(record)) if record else json_patch.remove(path))
        try:
            client.patch(change.path, operations)
        except ApiError:
            return False
        return True


def plan_add_ca(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that makes the API server accept what every endpoint serves. None if the CA is not at fault."""
    return _plan(case, secures=False) if case.point.is_verified else None


def plan_secure_apiservice(case: Case) -> BundleAction | Refusal | None:
    """Return the edit that makes the API server verify an aggregated API. None if it already verifies it."""
    return None if case.point.is_verified else _plan(case, secures=True)


def _plan(case: Case, *, secures: bool) -> BundleAction | Refusal | None:
    point, around = case.point, case.around
    seen = read_chains(case)
    if isinstance(seen, Refusal):
        return seen
    if secures:
        seen = [*seen, *(chain for chain in case.backend.unready_chains if chain.certificate)]
    if not secures and not refusal_of(case, point.config.ca_bundle, seen):
        return None
    tried: list[str] = []
    for published in around.published:
        problem = published.problem or refusal_of(case, published.pem, seen)
        if problem:
            tried.append(f"{published.source}: {problem}")
            continue
        used = [name for chain in seen for name in _judged(case, published.pem, chain).verdict.anchors]
        pem = select_certificates(published.pem, used)
        if not secures:
            return plan_edit(case, pem)
        return refusal_to_remove(case, pem, (), was_verified=False) or plan_edit(case, pem, secures=True)
    return Refusal(
        "not-published",
        f"no CA that the cluster publishes verifies each endpoint that {point.object} calls. The repair never trusts a "
        "certificate because an endpoint serves it",
        "Publish the CA in ca.crt of the Secret that the pods mount, or let a known signer issue the certificate",
        tuple(tried),
    )


def read_chains(case: Case) -> list[ServedChain] | Refusal:
    """Return what each endpoint serves, or the refusal if one of them was not read."""
    backend = case.backend
    seen = [chain for chain in backend.chains if chain.certificate]
    if seen and len(seen) >= max(backend.ready, len(backend.chains)):
        return seen
    return Refusal(
        "endpoints-unread",
        f"{len(seen)} of {backend.ready} endpoints showed their certificates, and a CA must verify each of them",
        "Make every endpoint ready, and grant the identity the permissions of the audit",
        tuple(f"{chain.endpoint}: {chain.problem}" for chain in backend.chains if chain.problem),
    )


def refusal_to_remove(
    case: Case, left: str, removed: Iterable[CertificateFacts], *, was_verified: bool = True
) -> Refusal | None:
    """Return why trust may not be removed from the caBundle of the case, None if it may be."""
    lost, target = _find_lost_secret(case, left), case.around.target
    if lost:
        return Refusal(
            "outgoing-served" if was_verified else "still-needed",
            f"the API server would refuse the certificate of {lost}, which the pods mount and serve after a restart",
            "Let the owner of the certificate renew it",
            state=WAITING,
        )
    confirmed = case.options.consent.covers(UNSEEN, target)
    hold = trust_removal.find_hold(
        case.point.config,
        left,
        removed,
        case.serves,
        case.data.now,
        is_confirmed=confirmed,
        was_verified=was_verified,
        earlier=case.data.earlier,
    )
    if hold is None:
        return None
    if hold.served is None:
        return Refusal(
            "endpoint-unseen", hold.reason, trust_removal.remedy(target, hold), hold.evidence, state=WAITING
        )
    return Refusal(
        "still-needed",
        hold.reason,
        "Renew the certificate of this endpoint, or add the CA that verifies it first",
    )


def plan_edit(case: Case, pem: str, *, mode: str = ADD, secures: bool = False) -> BundleAction | Refusal:
    """Return the action that adds or removes certificates, or the refusal if the field must not be written."""
    around, now, unknown = case.around, case.data.now, case.point.config.unknown
    prints = tuple(entry.fingerprint for entry in bundle_content.certificates(pem))
    unseen = case.serves.unseen if secures or mode == ABSENT else ()
    edit = BundleEdit(case.point.config, pem, prints, secures, mode, unseen)
    if unknown:
        return Refusal(
            "trust-field-unknown",
            f"the field {', '.join(unknown)} beside the caBundle may change what the API server trusts",
            "Use a release of this collection that knows the field",
        )
    if not (edit.config.ca_bundle or secures or edit.removes or around.is_refused):
        return Refusal(
            "refusal-unseen",
            "the caBundle is empty, so the API server trusts the roots of its system, and no call that it refused was seen",
            "Call the webhook, and if the API server refuses its certificate, add the CA with webhook_cabundle",
            around.call.evidence if around.call else (),
        )
    obstacle = find_obstacle(around.target, around.obj, edit, case.options, now)
    return obstacle or BundleAction(around.target, around.obj, (edit,), now)


def find_obstacle(
    target: Target, obj: Object, edit: BundleEdit, options: RepairOptions, now: datetime
) -> Refusal | None:
    """Return the refusal if the field must not be written, None if it may be."""
    record = read_record(obj).get(edit.webhook) or {}
    at = find_time(record.get("at"))
    # Any client can write a record. A time that has not come is not a time at which a repair wrote.
    is_recent = at is not None and -CLOCK_SKEW <= now - at < OVERWRITTEN_WITHIN
    by = names_of_writers(target, obj, edit.webhook)
    # Another task of this collection may have changed the caBundle since, such as a renewal.
    if is_recent and by != OWN_MANAGER and not holds(target, obj, _recorded(edit, record)):
        return Refusal(
            "overwritten-by",
            f"a repair wrote this field at {record['at']}, and {by} has changed it since",
            f"Repair the field with this program. To let a repair write it again, remove the annotation {RECORD}",
            (f"field manager: {by}",),
        )
    if edit.removes:
        try:
            bundle_targets.refuse_writer(target, obj, ABSENT)
        except CertflowError as error:
            return Refusal(error.code, error.cause, error.remedy, tuple(error.evidence))
    refused = refuse(_field_owners(target, obj, edit), options.consent, target)
    if refused is None:
        return None
    return Refusal(
        "owned-by-another",
        f"the field belongs to {' and '.join(refused.words)}",
        f"Repair the field with its owner. To let this collection write it, set {refused.option}",
        refused.evidence,
    )


def _field_owners(target: Target, obj: Object, edit: BundleEdit) -> Iterator[Owner]:
    """Yield the owners of the fields that the edit writes. A tool that a person runs is an owner of what is removed."""
    writer = bundle_targets.find_bundle_writer(target, obj)
    if writer:
        yield writer
    fields = (service_callers.field_path(target, edit.webhook), *([_INSECURE_PATH] if edit.secures else []))
    for field in fields:
        yield from (owner for owner in owners(obj, field) if edit.removes or not owner.is_person)


def names_of_writers(target: Target, obj: Object, webhook: str) -> str:
    """Return the field managers of the caBundle."""
    return ", ".join(service_callers.find_bundle_managers(target, obj, webhook)) or "an unknown client"


def holds(target: Target, obj: Object, edit: BundleEdit) -> bool:
    """Return True if the caBundle is as the edit leaves it."""
    is_insecure = bool((obj.get("spec") or {}).get(_INSECURE))
    if is_insecure and (edit.secures or target.kind == "APIService"):
        return False
    try:
        configs = bundle_targets.client_configs(Target(target.kind, target.name), obj)
    except CertflowError:
        return False
    held = {
        certificate.fingerprint
        for config in configs
        if config.webhook == edit.webhook
        for certificate in bundle_content.certificates(config.ca_bundle)
    }
    return held.isdisjoint(edit.fingerprints) if edit.removes else held.issuperset(edit.fingerprints)


def read_record(obj: Object) -> dict[str, Any]:
    """Return the record of earlier repairs by the name of the webhook, {} without one. Any client may have written it."""
    text = (obj["metadata"].get("annotations") or {}).get(RECORD) or "{}"
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    entries = record.items() if isinstance(record, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _recorded(edit: BundleEdit, record: Mapping[str, Any]) -> BundleEdit:
    """Return the edit that a record describes."""
    key, mode = ("removed", ABSENT) if "removed" in record else ("ca", ADD)
    listed = record.get(key)
    prints = tuple(map(str, listed)) if isinstance(listed, list) else ()
    return replace(edit, fingerprints=prints, mode=mode)


def refusal_of(case: Case, bundle: str, seen: Iterable[ServedChain]) -> str:
    """Return why the API server would refuse an endpoint with this bundle, "" if it would accept every endpoint."""
    return next(filter(None, (_judged(case, bundle, chain).refusal for chain in seen)), "")


def _find_lost_secret(case: Case, left: str) -> MountedSecret | None:
    """Return a Secret of the pods whose certificate the API server accepts now, and would refuse with the caBundle ``left``.

    The pods serve it after a restart. An aggregated API that is not verified accepts each certificate of its name.
    """
    secrets = (*case.around.secrets, *case.around.later_secrets)
    kept = [secret for _leaf, secret in accepted_secrets(case, left, secrets)]
    bundle = case.point.config.ca_bundle if case.point.is_verified else None
    accepted = (secret for _leaf, secret in accepted_secrets(case, bundle, secrets))
    return next((secret for secret in accepted if secret not in kept), None)


def accepted_secrets(
    case: Case, bundle: str | None, secrets: Iterable[MountedSecret]
) -> Iterator[tuple[CertificateFacts, MountedSecret]]:
    """Yield each Secret whose certificate the API server would accept with this bundle, with the certificate.

    Without a bundle, the API server accepts each certificate of the name that has not expired.
    """
    name, now = case.point.config.server_name, case.data.now
    for secret in secrets:
        with contextlib.suppress(CertificateError):
            leaf, sent = certificate_facts.load_leaf_and_chain(secret.certificate)
            anchors = secret.certificate if bundle is None else bundle
            if judge(leaf, anchors, name=name, intermediates=sent, now=now).verdict.ok:
                yield leaf, secret


def _judged(case: Case, bundle: str, chain: ServedChain) -> Any:
    leaf, sent = chain.parsed
    return judge(leaf, bundle, name=case.point.config.server_name, intermediates=sent, now=case.data.now)


def _addresses(target: Target, obj: Object) -> set[tuple[Any, ...]]:
    """Return what each webhook calls. The end of insecureSkipTLSVerify does not change it."""
    spec = {**(obj.get("spec") or {}), _INSECURE: False}
    configs = bundle_targets.client_configs(Target(target.kind, target.name), {**obj, "spec": spec})
    return {(config.webhook, config.service, config.server_name, config.port) for config in configs}


def _value_at(obj: Any, pointer: str) -> Any:
    for part in pointer.strip("/").split("/"):
        try:
            obj = obj[int(part)] if isinstance(obj, list) else obj.get(part)
        except (AttributeError, IndexError):
            return None
    return obj
