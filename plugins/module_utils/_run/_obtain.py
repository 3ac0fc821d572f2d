# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Ask for a certificate and put it to use: key, request, approval, anchor on the targets, Secret - in this order.

Bundle first, Secret second: at every moment the targets trust what is served. The key stays in this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Mapping

from .._csr import _anchors, _decide, _issued, _names, _pending, _requests, _secret
from .._csr._anchors import Anchor
from .._csr._approve import compare
from .._csr._content import certificate_of, content_of
from .._csr._decide import Reason
from .._csr._errors import RequestError, SecretError
from .._csr._intent import Intent
from .._csr._pending import Pending
from .._csr._secret import Found
from .._kube import _rights
from .._kube._client import Client
from .._kube._errors import AlreadyExists, Conflict, NotFound
from .._kube._rights import Right
from .._x509 import _keys, _request
from .._x509._certificate import CertificateFacts
from . import _bundles, _report
from ._bundles import SeenTarget
from ._operation import Result

if TYPE_CHECKING:
    from .._x509._keys import PrivateKey

WRITE_ATTEMPTS = 5


@dataclass(frozen=True)
class Asked:
    """A request on the API server with the key that belongs to it. ``pending``: it was, or is, kept for later."""

    csr: Mapping[str, Any]
    key: PrivateKey
    made_now: bool
    pending: Pending | None = None

    @property
    def public_key_sha256(self) -> str:
        return _keys.public_key_sha256(self.key.public_key())


def run(
    client: Client,
    intent: Intent,
    secret: Found | None,
    targets: tuple[SeenTarget, ...],
    reason: Reason,
    check_mode: bool,
    warnings: tuple[str, ...],
) -> Result:
    """Obtain a certificate for ``reason``. Raises before the first write whatever can be known by then."""
    planned = _bundles.plan(intent, targets, None, None)
    _preflight(client, intent, secret, planned)
    if check_mode:
        values = _report.values(
            intent, reason=reason.message, facts=None, anchor=None, csr=None, targets=planned, pending=True
        )
        return Result(True, values, _report.diff(secret, None, planned, unknown=True), warnings)

    asked = _ask(client, intent)
    csr = asked.csr
    if intent.approve:
        csr = _requests.approve_own(client, csr, _requests.expectation(intent, csr, asked.public_key_sha256))
    elif not intent.wait and not certificate_of(csr):
        if _requests.is_over(csr):
            raise _requests.stuck(client, intent, csr, with_provider=False)
        return _waiting(intent, csr, asked, warnings)
    csr = _requests.wait(client, intent, csr, until=client.deadline)

    pem, now = certificate_of(csr), datetime.now(timezone.utc)
    facts = _issued.check(intent, asked.public_key_sha256, pem, now)
    anchor = _anchors.choose(intent, pem, _anchors.candidates(client, intent, pem), now)
    if secret and secret.certificate and reason.code == "RenewalDue" and facts.not_after <= secret.certificate.not_after:
        return _keep_longer(client, intent, secret, secret.certificate, facts, csr, warnings)
    changes = _bundles.plan(intent, targets, anchor, pem)
    changes = _bundles.write(client, intent, changes, anchor, pem)
    anchors = _bundles.added(_bundles.recorded(secret.annotations) if secret else "", changes)
    _store(client, intent, secret, asked.key, pem, anchor, anchors)
    warnings += _tidy(client, intent, asked)
    values = _report.values(
        intent, reason=reason.message, facts=facts, anchor=anchor, csr=_requests.summary(csr), targets=changes
    )
    return Result(True, values, _report.diff(secret, facts, changes), warnings)


def _preflight(client: Client, intent: Intent, secret: Found | None, planned: Any) -> None:
    """Rights, and what only the API server itself can say: namespace, quota, policies (by a dry run)."""
    spec = intent.secret
    wanted = [*_requests.rights(intent), *_bundles.rights(planned)]
    wanted.append(Right("update" if secret else "create", "", "secrets", spec.namespace, spec.name if secret else ""))
    if not intent.approve:
        wanted.append(Right("create", "", "secrets", spec.namespace))
    _rights.require(client, wanted, f"request the {intent}")
    _refuse_own_names(client, intent)
    trial = _secret.body(intent, secret, key_pem="", certificate_pem="", ca_pem="", anchors="")
    warned = list(client.warnings)
    try:
        if secret:
            client.replace(spec.path, trial, dry_run=True)
        else:
            client.create(spec.collection, trial, dry_run=True)
    except NotFound as exc:
        raise SecretError(
            f"namespace {spec.namespace} does not exist, so {spec} cannot be stored", remedy="create the namespace first"
        ) from exc
    client.warnings[:] = warned  # of a Secret without a certificate, as this trial is


def _refuse_own_names(client: Client, intent: Intent) -> None:
    """A Service may be called like a node; a certificate for that name could stand in for the node's kubelet."""
    request = intent.request
    names = [name for name in request.dns_names if name not in intent.allow_names]
    for refusal in _names.forbidden(
        names, service=intent.service, namespace=intent.namespace, cluster=_requests.guarded(client, names)
    ):
        raise RequestError(
            f"the name {refusal.name!r} is not asked for: {refusal.reason}",
            remedy=f"give the Service another name, or spell it out in allow_names: [{refusal.name!r}]",
        )


def _ask(client: Client, intent: Intent) -> Asked:
    """Go on with the request that an earlier run left, or make one."""
    pending = _pending.load(client, intent)
    if pending is not None:
        if pending.csr is not None and _still_fits(intent, pending):
            return Asked(pending.csr, pending.key, made_now=False, pending=pending)
        if pending.csr is not None:
            _requests.remove(client, pending.csr)
        _pending.discard(client, intent, pending)
    key = _keys.generate(intent.request.key_type)
    public_key_sha256 = _keys.public_key_sha256(key.public_key())
    request = intent.request
    text = _request.build(
        key,
        common_name=request.common_name,
        organizations=request.organizations,
        dns_names=request.dns_names,
        ip_addresses=request.ip_addresses,
    )
    csr = _requests.create(client, intent, text, public_key_sha256)
    if not intent.approve:
        _pending.store(client, intent, csr, key)
        pending = _pending.load(client, intent)
    return Asked(csr, key, made_now=True, pending=pending if not intent.approve else None)


def _still_fits(intent: Intent, pending: Pending) -> bool:
    """Whether the waiting request is what the task asks for today; nobody else's request is ever taken for it."""
    assert pending.csr is not None
    expected = _requests.expectation(intent, pending.csr, pending.public_key_sha256)
    return not compare(content_of(pending.csr), expected)


def _waiting(intent: Intent, csr: Mapping[str, Any], asked: Asked, warnings: tuple[str, ...]) -> Result:
    name = csr["metadata"]["name"]
    values = _report.values(
        intent,
        reason=f"CSR {name} waits for its approval: kubectl certificate approve {name}",
        facts=None,
        anchor=None,
        csr=_requests.summary(csr),
        targets=(),
        pending=True,
    )
    return Result(asked.made_now, values, None, warnings)


def _keep_longer(
    client: Client,
    intent: Intent,
    secret: Found,
    held: CertificateFacts,
    offered: CertificateFacts,
    csr: Mapping[str, Any],
    warnings: tuple[str, ...],
) -> Result:
    """The signer gave a certificate that ends no later than the one in use: nothing is gained by a change."""
    pem = secret.certificate_pem
    anchor = _anchors.choose(intent, pem, _anchors.candidates(client, intent, pem), datetime.now(timezone.utc))
    warning = (
        f"{intent.signer.name} issued a certificate until {offered.not_after:%Y-%m-%d %H:%M} UTC, no longer than the one "
        f"in {intent.secret} ({held.not_after:%Y-%m-%d %H:%M} UTC), which is kept: is the signer's CA about to expire?"
    )
    values = _report.values(
        intent, reason="the certificate is kept", facts=held, anchor=anchor, csr=_requests.summary(csr), targets=()
    )
    return Result(True, values, None, (*warnings, warning))


def _store(
    client: Client, intent: Intent, secret: Found | None, key: PrivateKey, pem: str, anchor: Anchor, anchors: str
) -> None:
    """Write the Secret, on a fresh read where somebody was faster; a good certificate of another run is left there."""
    current = secret
    for _attempt in range(WRITE_ATTEMPTS):
        body = _secret.body(
            intent, current, key_pem=_keys.to_pem(key), certificate_pem=pem, ca_pem=anchor.pem, anchors=anchors
        )
        try:
            if current:
                client.replace(intent.secret.path, body)
            else:
                client.create(intent.secret.collection, body)
            return
        except (Conflict, AlreadyExists, NotFound):
            obj = client.find(intent.secret.path)
            current = _secret.found(obj, intent.secret) if obj else None
        if current is not None:
            _secret.refuse_foreign(current, intent)
            changed_hands = secret is None or current.key_sha256 != secret.key_sha256
            if changed_hands and _decide.decide(intent, current, datetime.now(timezone.utc)) is None:
                return
    raise SecretError(
        f"{intent.secret} was changed by somebody else {WRITE_ATTEMPTS} times in a row",
        remedy="see who writes it (metadata.managedFields) and run the task again",
    )


def _tidy(client: Client, intent: Intent, asked: Asked) -> tuple[str, ...]:
    """Remove this Secret's dead requests; that a right is missing for it is a warning, the certificate is in use."""
    if asked.pending is not None:
        _pending.discard(client, intent, asked.pending)
    dead = [
        csr
        for csr in _requests.own_leftovers(client, intent)
        if csr["metadata"]["uid"] != asked.csr["metadata"]["uid"]
    ]
    return tuple(filter(None, (_requests.remove(client, csr) for csr in dead)))
