# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""k8s_csr: one certificate, from request to the webhooks that trust it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Mapping

from .._csr import _anchors, _decide, _names, _secret
from .._csr._anchors import Anchor
from .._csr._decide import Reason
from .._csr._errors import AnchorError, RequestError
from .._csr._intent import Intent, intent_from
from .._csr._secret import Found
from .._kube import _rights
from .._kube._client import Client
from .._kube._errors import Forbidden
from .._kube._rights import Right
from .._webhook import _bundle, _targets
from .._webhook._targets import Target
from .._x509._keys import KEY_TYPES
from . import _bundles, _obtain, _report, _spec, _withdraw
from ._bundles import SeenTarget
from ._operation import Operation, Result

SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "service": {"type": "str"},
    "namespace": {"type": "str", "required": True},
    "secret": {
        "type": "dict",
        "required": True,
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "default": "kubernetes.io/tls"},
            "certificate_key": {"type": "str", "default": "tls.crt", "no_log": False},
            "private_key_key": {"type": "str", "default": "tls.key", "no_log": False},
            "ca_key": {"type": "str", "no_log": False},
            "labels": {"type": "dict"},
            "annotations": {"type": "dict"},
        },
    },
    "signer_name": {"type": "str", "required": True},
    "dns_names": {"type": "list", "elements": "str"},
    "ip_addresses": {"type": "list", "elements": "str"},
    "common_name": {"type": "str"},
    "organizations": {"type": "list", "elements": "str"},
    "usages": {"type": "list", "elements": "str"},
    "expiration_seconds": {"type": "int"},
    "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": "ecdsa-p256", "no_log": False},
    "allow_names": {"type": "list", "elements": "str"},
    "allow_client_identity": {"type": "bool", "default": False},
    "approve": {"type": "bool", "default": True},
    "renew_before": {"type": "str"},
    "trust": {"type": "str", "choices": ["verified", "chain", "leaf"], "default": "verified"},
    "ca_bundle": {"type": "str"},
    "take_over": {"type": "bool", "default": False},
    **_spec.TARGETS,
    **_spec.WAIT,
    **_spec.AUTH,
}


@dataclass(frozen=True)
class Seen:
    """Everything that the decision rests on, read before the first write."""

    secret: Found | None
    targets: tuple[SeenTarget, ...]


def run(client: Client, parameters: Mapping[str, Any], check_mode: bool) -> Result:
    intent = intent_from(parameters)
    targets = _targets.targets_from(parameters.get("targets") or [])
    if targets and intent.is_client:
        raise RequestError("targets are webhooks: they need a serving certificate", remedy="leave targets out")
    if intent.ca_bundle:
        _bundle.check(intent.ca_bundle)
    if parameters["state"] == "absent":
        return _withdraw.run(client, intent, targets, check_mode)
    seen = _observe(client, intent, targets)
    now = datetime.now(timezone.utc)
    reason = _decide.decide(intent, seen.secret, now)
    anchor: Anchor | None = None
    if seen.secret is not None and reason is None:
        pem = seen.secret.certificate_pem
        try:
            anchor = _anchors.choose(intent, pem, _anchors.candidates(client, intent, pem), now)
        except AnchorError as exc:
            reason = Reason("Untrusted", f"{intent.secret}: {exc.cause}")
    warnings = _names.warnings(intent.allow_names, cluster=_names.guarded({"api_host": client.host_name}))
    if reason is None and seen.secret is not None and anchor is not None:
        return _keep(client, intent, seen, seen.secret, anchor, check_mode, warnings)
    assert reason is not None
    return _obtain.run(client, intent, seen.secret, seen.targets, reason, check_mode, warnings)


def _observe(client: Client, intent: Intent, targets: tuple[Target, ...]) -> Seen:
    try:
        obj = client.find(intent.secret.path)
    except Forbidden as exc:
        lacking = Right("get", "", "secrets", intent.secret.namespace, intent.secret.name)
        raise _rights.missing_rights([lacking], f"read {intent.secret}", exc.message) from exc
    found = _secret.found(obj, intent.secret) if obj else None
    if found is not None:
        _secret.refuse_foreign(found, intent)
    return Seen(found, _bundles.read(client, targets))


def _keep(
    client: Client,
    intent: Intent,
    seen: Seen,
    secret: Found,
    anchor: Anchor,
    check_mode: bool,
    warnings: tuple[str, ...],
) -> Result:
    """The certificate stays; targets that lack its anchor and metadata that differs are brought up to date."""
    changes = _bundles.plan(intent, seen.targets, anchor, secret.certificate_pem)
    anchors = _bundles.added(_bundles.recorded(secret.annotations), changes)
    patch = _secret.metadata_patch(secret, intent, ca_pem=anchor.pem, anchors=anchors)
    rights = _bundles.rights(changes)
    if patch:
        rights.append(Right("patch", "", "secrets", intent.secret.namespace, intent.secret.name))
    if rights:
        _rights.require(client, rights, f"bring the {intent} up to date")
    if not check_mode:
        changes = _bundles.write(client, intent, changes, anchor, secret.certificate_pem)
        if patch:
            client.patch(intent.secret.path, patch)
    changed = bool(patch) or any(change.changed for change in changes)
    reason = "the certificate is kept" + ("; targets or the Secret's metadata are brought up to date" if changed else "")
    return Result(
        changed=changed,
        values=_report.values(
            intent, reason=reason, facts=secret.certificate, anchor=anchor, csr=None, targets=changes
        ),
        diff=_report.diff(secret, secret.certificate, changes),
        warnings=warnings,
    )


OPERATION = Operation(name="k8s_csr", argument_spec=SPEC, run=run)
