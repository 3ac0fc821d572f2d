# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan and write the change of caBundles, one JSON patch for each object."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, TypeVar

from ..._base.accept import NOTHING, Consent
from ..._base.errors import CertflowError
from ..._kube import json_patch
from ..._kube.access_review import require
from ..._kube.client import Client
from ..._kube.errors import ApiError, Conflict, NotFound, UnprocessableObject
from ..._kube.json_patch import retry_on_conflict
from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..._x509.chain.chain_judge import judge
from ..._x509.encoding import pem_text
from ..._x509.errors import CertificateError
from ..calls import call_faults
from ..errors import TargetError, UntrustedLeafError
from . import bundle_content, bundle_targets

_Written = TypeVar("_Written")
# Each attempt reads the object again. Five conflicts in a row mean that another client writes it in a loop.
ATTEMPTS = 5
# Far more changes than in the 90 s after which an unused connection is closed (client-go, IdleConnTimeout).
MOST_BREAKS = 32
# The time for every API server to see a change. Its watch needs milliseconds.
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class BundleChange:
    """The change of one caBundle. after: its new PEM text, None while the certificate to trust is not issued yet."""

    config: bundle_targets.ClientConfig
    after: str | None

    @property
    def changed(self) -> bool:
        return self.after != self.config.ca_bundle

    @property
    def removed(self) -> tuple[CertificateFacts, ...]:
        """Return the certificates that the change removes."""
        left = frozenset(self.left)
        return tuple(
            a for a in bundle_content.certificates(self.config.ca_bundle) if a.fingerprint not in left
        )

    @property
    def left(self) -> list[str]:
        """Return the fingerprints of the certificates after the change."""
        return _prints(self.after) or []

    @property
    def place(self) -> tuple[Any, ...]:
        """Return the webhook, and what the API server calls for it."""
        config = self.config
        return config.webhook, config.service, config.server_name, config.port

    def operations(self) -> list[dict[str, Any]]:
        """Return the JSON patch of this caBundle, guarded by the webhook's name if it has one."""
        config, pointer = self.config, f"{self.config.pointer}/caBundle"
        guard = json_patch.test(config.name_pointer, config.webhook)
        value = base64.b64encode((self.after or "").encode()).decode()
        write = json_patch.add(pointer, value) if value else json_patch.remove(pointer)
        return [guard, write] if config.webhook else [write]


@dataclass(frozen=True)
class TargetChange:
    """The change of one object, planned for the version that was read."""

    target: bundle_targets.Target
    resource_version: str
    bundles: tuple[BundleChange, ...]

    @property
    def path(self) -> str:
        return bundle_targets.path(self.target)

    @property
    def changed(self) -> bool:
        return any(bundle.changed for bundle in self.bundles)

    @property
    def operations(self) -> list[dict[str, Any]]:
        """Return the JSON patch of the object, [] if nothing changes."""
        changes = [
            operation for bundle in self.bundles if bundle.changed for operation in bundle.operations()
        ]
        return [json_patch.at_version(self.resource_version), *changes] if changes else []


def check_leaf(leaf_pem: str) -> None:
    """Raise CertificateError for a text without a certificate to verify. The error never quotes the text."""
    if pem_text.has_private_key(leaf_pem):
        raise CertificateError(
            "the certificate comes with a private key in the same text",
            code="contains-private-key",
            remedy="Give only the certificate. Replace the key if another person may have seen it",
        )
    try:
        certificate_facts.load_leaf_and_chain(leaf_pem)
    except CertificateError as error:
        raise CertificateError(
            f"the webhook's certificate cannot be read: {error.cause}",
            code=error.code,
            remedy="Give the PEM text that the webhook serves, its own certificate first",
        ) from error


def plan(
    target: bundle_targets.Target,
    obj: bundle_targets.Object,
    wanted: str | None,
    *,
    mode: str = "add",
    service: bundle_targets.ServiceName | None = None,
    consent: Consent = NOTHING,
    recorded: bool = False,
    leaf_pem: str | None = None,
    now: datetime,
    earlier: datetime | None = None,
) -> TargetChange:
    """Plan the change of an object.

    wanted: PEM text that passed bundle_content.check, or None while it is not known. mode: see bundle_content.merge.
    service: see bundle_targets.client_configs. leaf_pem: the certificate that the webhook serves, followed by its intermediates.
    consent: the managers whose objects are written too, see bundle_targets.check_managers. recorded: the wanted certificates are
    recorded as additions of this collection, so that their removal removes no certificate of another manager.
    earlier: the time by which a CA must be over to be removed by mode add, see bundle_content.is_over. None if it is ``now``.
    Raises TargetError, OwnedTargetError for an object of another manager, UntrustedLeafError if the API server would refuse the
    leaf, BundleError, CertificateError.
    """
    configs = bundle_targets.client_configs(target, obj, service=service)
    merge = functools.partial(bundle_content.merge, mode=mode, now=now, earlier=earlier)
    after = [wanted if wanted is None else merge(c.ca_bundle, wanted) for c in configs]
    bundles = tuple(BundleChange(config, text) for config, text in zip(configs, after))
    change = TargetChange(target, obj["metadata"]["resourceVersion"], bundles)
    if leaf_pem is not None:
        for bundle in bundles:
            _check_trust(target, bundle, leaf_pem, now)
    if change.changed:
        removes = "" if mode in ("add", "append") or recorded else mode
        bundle_targets.check_managers(target, obj, removes=removes, consent=consent)
    return change


def write(
    client: Client,
    change: TargetChange,
    replan: Callable[[dict[str, Any]], TargetChange],
    *,
    check_mode: bool = False,
) -> TargetChange:
    """Write the change (check mode: as a server dry run) and return it.

    Where the object has moved since it was read, replan decides again on a fresh read. Raises KubeError, TargetError if that
    would remove trust that nothing has judged, and whatever replan raises.
    """

    def patch(known: TargetChange) -> TargetChange:
        if not known.changed:
            # Another client wrote the same, or the answer to our own write was lost. So the change was made during this run.
            return change
        send(client, known, known.operations, dry_run=check_mode)
        return known

    def read() -> TargetChange:
        fresh = replan(bundle_targets.read(client, change.target))
        _check_removals(change, fresh, client.earlier())
        return fresh

    return retry(change.target, change, patch, read)


def send(
    client: Client, change: TargetChange, operations: list[dict[str, Any]], *, dry_run: bool
) -> dict[str, Any]:
    """Write the object and return it. operations: the JSON patch, with that of the change.

    Raises TargetError if an admission policy or webhook of the API server has changed a caBundle of the patch.
    """
    written = client.patch(change.path, operations, dry_run=dry_run)
    held = {entry.pointer: entry.ca_bundle for entry in bundle_targets.client_configs(change.target, written)}
    if any(
        {*entry.left} != {*(_prints(held.get(entry.config.pointer)) or ())}
        for entry in change.bundles
        if entry.changed
    ):
        raise TargetError(
            f"an admission policy or webhook changed the caBundle of {change.target} while it was written, so it has other certificates",
            code=UnprocessableObject.code,
            remedy="Let the policies and webhooks for this kind accept the caBundle as it is written, and run the task again",
        )
    return written


def _check_removals(judged: TargetChange, fresh: TargetChange, now: datetime) -> None:
    """Raise TargetError if a change removes trust that was not judged, such as the last CA after another client removed the others."""
    known = {bundle.place: bundle for bundle in judged.bundles}
    for bundle in fresh.bundles:
        going = {entry.fingerprint for entry in bundle.removed}
        if bundle.after is None or all(bundle_content.is_over(entry, now) for entry in bundle.removed):
            continue
        before = known.get(bundle.place)
        same = before is not None and going.issubset(entry.fingerprint for entry in before.removed)
        if before is None or not (same and set(before.left) <= set(bundle.left)):
            raise TargetError(
                f"another client changed {fresh.target}, and this run has not checked if an endpoint needs what the caBundle would lose",
                code="conflict",
                remedy="Run the task again",
            )


def retry(
    target: bundle_targets.Target,
    change: TargetChange,
    patch: Callable[[TargetChange], _Written],
    read: Callable[[], TargetChange],
) -> _Written:
    """Return the result of ``patch``, which writes a change. After a conflict, ``read`` plans it again. Raises TargetError."""

    def is_refusal(error: ApiError, known: TargetChange, fresh: TargetChange) -> bool:
        # 422 also means that a guard failed because webhooks were moved or removed, so the object has another version then.
        return isinstance(error, UnprocessableObject) and fresh.resource_version == known.resource_version

    return retry_on_conflict(
        change,
        patch,
        read,
        attempts=ATTEMPTS,
        exhausted=TargetError(
            f"another client changed {target} during each of {ATTEMPTS} attempts to write it",
            code="conflict",
            remedy="Find the client that writes it (metadata.managedFields names the clients), and run the task again",
        ),
        conflicts=(Conflict, UnprocessableObject, NotFound),
        is_refusal=is_refusal,
    )


def write_all(
    client: Client,
    changes: Iterable[TargetChange],
    decide: Callable[[bundle_targets.Target, dict[str, Any]], TargetChange],
    *,
    check_mode: bool = False,
) -> tuple[TargetChange, ...]:
    """Write changes of several objects in order; an error names the objects that had been written before it.

    decide: plans an object that was read. Raises whatever write raises.
    """
    done: list[TargetChange] = []
    for change in changes:
        try:
            done.append(
                write(client, change, functools.partial(decide, change.target), check_mode=check_mode)
            )
        except CertflowError as error:
            written = ", ".join(str(entry.target) for entry in done if entry.changed)
            if written and not check_mode:
                error.cause = f"{error.cause.rstrip('.')} ({written} had been written before)"
            raise
    return tuple(done)


def with_other_line_breaks(bundle: str) -> str:
    """Return a bundle with the same certificates and other bytes."""
    text = bundle.rstrip("\n")
    return text + "\n" * ((len(bundle) - len(text)) % MOST_BREAKS + 1)


def renew_connections(
    client: Client, target: bundle_targets.Target, *, consent: Consent, check_mode: bool
) -> None:
    """Make the API servers connect to a webhook again, by another number of line breaks at the end of its caBundle.

    An API server keeps one client with open connections for each client configuration. The bytes of the bundle are part of the
    configuration (k8s.io/apiserver pkg/util/webhook/client.go; client-go transport/cache.go for aggregated APIs). With other bytes it
    makes another client. With bytes that it knows it uses the old client and perhaps an old connection. So the number counts up and
    starts again, instead of toggling.

    Raises OwnedTargetError if another manager owns the object, MissingPermissions, TargetError, KubeError.
    """

    def decide(obj: dict[str, Any]) -> TargetChange:
        bundle_targets.check_managers(target, obj, consent=consent)
        (config,) = bundle_targets.client_configs(target, obj)
        bundles = (BundleChange(config, with_other_line_breaks(config.ca_bundle)),)
        return TargetChange(target, obj["metadata"]["resourceVersion"], bundles)

    change = decide(bundle_targets.read(client, target))
    require(client, [bundle_targets.permission(target, "patch")], f"renew the connections to {target}")
    if not check_mode:
        write(client, change, decide)
        time.sleep(SETTLE_SECONDS)


def report(change: TargetChange) -> dict[str, Any]:
    """Return the change for a result: kind, name, changed, and the fingerprints before and after of each webhook.

    ``name`` of a webhook is empty for kinds with one place. ``after`` is null while it is not known.
    """
    webhooks = [
        {
            "name": bundle.config.webhook,
            "before": _prints(bundle.config.ca_bundle),
            "after": _prints(bundle.after),
        }
        for bundle in change.bundles
    ]
    target = change.target
    return {"kind": target.kind, "name": target.name, "changed": change.changed, "webhooks": webhooks}


def diff(changes: Sequence[TargetChange]) -> dict[str, Any]:
    """Return the changes for --diff: subjects, dates and fingerprints, never PEM."""
    return {
        "before": {
            str(c.target): {b.config.webhook: _lines(b.config.ca_bundle) for b in c.bundles} for c in changes
        },
        "after": {str(c.target): {b.config.webhook: _lines(b.after) for b in c.bundles} for c in changes},
    }


def _check_trust(target: bundle_targets.Target, change: BundleChange, leaf_pem: str, now: datetime) -> None:
    if change.after is None:
        return
    leaf, intermediates = certificate_facts.load_leaf_and_chain(leaf_pem)
    name = change.config.server_name
    judged = judge(leaf, change.after, name=name, intermediates=intermediates, now=now)
    if judged.verdict.ok:
        return
    where = f"{target}, webhook {change.config.webhook}" if change.config.webhook else str(target)
    reason = (
        judged.refusal
        if change.after.strip()
        else "no caBundle would be left, and so only the system's roots"
    )
    is_of_ca = judged.verdict.code in (call_faults.CA_MISMATCH, call_faults.BUNDLE_BROKEN)
    raise UntrustedLeafError(
        f"{where}: the API server calls {name} and would refuse the certificate: {reason}",
        verdict=judged.verdict.code,
        remedy="Give the CA that issued this certificate"
        if is_of_ca
        else call_faults.BY_ID[judged.verdict.code].remedy,
    )


def _prints(bundle: str | None) -> list[str] | None:
    return None if bundle is None else [anchor.fingerprint for anchor in bundle_content.certificates(bundle)]


def _lines(bundle: str | None) -> Any:
    return (
        "not known before the certificate is issued"
        if bundle is None
        else [str(a) for a in bundle_content.certificates(bundle)]
    )
