# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Change single fields of one object by JSON patch.

A pure function decides from the object that was read. The write is accepted only at the resourceVersion that was read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..._kube import json_patch
from ..._kube.json_patch import retry_on_conflict
from ..._snapshot.actions.webhook_actions import EnableConversion
from ..._snapshot.errors import NotYetError, StepError
from ..._snapshot.kinds import Reference
from ..._webhook.bundles import bundle_content, bundle_patch, bundle_targets
from ..._webhook.bundles.bundle_targets import Target
from .apply_manifests import ATTEMPTS, ActionContext, ObjectOutcome, contended_error
from .object_changes import FieldChange, changes
from .ownership import refuse_others

Object = Mapping[str, Any]
Operations = list[dict[str, Any]]
NO_CONVERSION = {"strategy": "None"}


def patch_object(
    context: ActionContext, target: Reference, decide: Callable[[Object], Operations]
) -> ObjectOutcome:
    """Write the operations that ``decide`` returns for the current object. Decide again after a conflict.

    Args:
        decide: returns JSON patch operations, [] if nothing has to change.

    Raises:
        NotYetError: the object does not exist.
        OwnedObjectError: another manager owns it, and the consent does not cover it.
        KubeError: the API server refuses.
    """

    client = context.client

    def read() -> Object:
        live = client.find(target.path)
        if live is None:
            raise NotYetError(
                f"{target} does not exist", remedy="Find out what deleted it, and run the task again"
            )
        return live

    def write(live: Object) -> ObjectOutcome:
        operations = decide(live)
        if not operations:
            return ObjectOutcome(target, "unchanged")
        refuse_others(client, target, live, consent=context.consent, registry=context.settings.registry)
        lock = json_patch.at_version(live["metadata"]["resourceVersion"])
        answer = client.patch(target.path, [lock, *operations], dry_run=context.check_mode)
        return ObjectOutcome(target, "changed", changes(live, answer))

    return retry_on_conflict(read(), write, read, attempts=ATTEMPTS, exhausted=contended_error(target))


def disable_conversion(crd: Object) -> Operations:
    """Set spec.conversion to {strategy: None}. It can only be replaced as a whole (see field_ownership.HELD)."""
    return (
        []
        if crd["spec"].get("conversion", NO_CONVERSION) == NO_CONVERSION
        else [json_patch.replace("/spec/conversion", NO_CONVERSION)]
    )


def call_webhook(crd: Object, service: Mapping[str, Any], bundle: str) -> Operations:
    """Make spec.conversion call the Service. The caBundle (base64) is in the same write."""
    client_config = {"service": {"port": 443, **service}, "caBundle": bundle}
    wanted = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client_config, "conversionReviewVersions": ["v1"]},
    }
    return [] if crd["spec"].get("conversion") == wanted else [json_patch.add("/spec/conversion", wanted)]


def read_bundle(crd: Object) -> str:
    """Return the caBundle (base64) of a CustomResourceDefinition's conversion webhook, "" if it has none."""
    webhook = (crd["spec"].get("conversion") or {}).get("webhook") or {}
    return str((webhook.get("clientConfig") or {}).get("caBundle") or "")


def replace_rules(configuration: Object, wanted: Mapping[str, Sequence[Object]]) -> Operations:
    """Replace the rules of the named webhooks. Raises NotYetError for a webhook that does not exist."""
    names = [webhook["name"] for webhook in configuration.get("webhooks") or ()]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise NotYetError(f"{configuration['metadata']['name']} has no webhook {missing[0]}")
    return [
        operation
        for index, webhook in enumerate(configuration["webhooks"])
        if webhook["name"] in wanted and webhook.get("rules") != list(wanted[webhook["name"]])
        for operation in _set(index, webhook, "rules", list(wanted[webhook["name"]]))
    ]


def set_failure_policy(configuration: Object, policy: str) -> Operations:
    """Set the failurePolicy of every webhook of the configuration."""
    return [
        operation
        for index, webhook in enumerate(configuration.get("webhooks") or ())
        if webhook.get("failurePolicy") != policy
        for operation in _set(index, webhook, "failurePolicy", policy)
    ]


def set_selector(service: Object, wanted: Mapping[str, str], port: int | None) -> Operations:
    """Set the Service's selector and the target port of its only port in one write, so pods of two ports are never mixed."""
    operations: Operations = []
    if service["spec"].get("selector") != dict(wanted):
        operations.append(json_patch.add("/spec/selector", dict(wanted)))
    if port is not None and service["spec"]["ports"][0].get("targetPort") != port:
        operations.append(json_patch.add("/spec/ports/0/targetPort", port))
    return operations


def _set(index: int, webhook: Object, field: str, value: object) -> Operations:
    """Return the operations that set a field of the webhook, if it still has this index."""
    path = f"/webhooks/{index}"
    return [json_patch.test(f"{path}/name", webhook["name"]), json_patch.add(f"{path}/{field}", value)]


# CA bundles.


def reconnect(context: ActionContext, targets: Iterable[Reference]) -> list[ObjectOutcome]:
    """Make every API server open new connections to the webhooks of the targets.

    Skip webhooks without a caBundle, because API servers do not call them.
    """
    client, outcomes = context.client, []
    for target in bundle_targets.targets_from([{"kind": row.kind, "name": row.name} for row in targets]):
        obj = bundle_targets.read(client, target)
        for config in bundle_targets.client_configs(target, obj):
            if not config.ca_bundle.strip():
                continue
            webhook = Target(target.kind, target.name, (config.webhook,) if config.webhook else ())
            bundle_patch.renew_connections(
                client, webhook, consent=context.consent, check_mode=context.check_mode
            )
            outcomes.append(ObjectOutcome(Reference(webhook.kind, webhook.name), "changed"))
    return outcomes


def enable_conversion(context: ActionContext, action: EnableConversion) -> list[ObjectOutcome]:
    """Make the CRD's spec.conversion call the webhook, with the CA of its Secret in the same write. Keep CAs of the bundle.

    Raises:
        StepError: the Secret has no ca.crt.
        CertflowError: as ``patch_object``.
    """
    crd = action.target
    anchor = _anchor(context, action.secret.reference("Secret"))
    if not anchor:  # only in check mode
        return [ObjectOutcome(crd, "changed", (FieldChange("spec.conversion.strategy", "None", "Webhook"),))]

    def decide(live: Object) -> Operations:
        client = context.client
        merged = bundle_content.merge(
            _text(read_bundle(live)), anchor, mode="add", now=client.now(), earlier=client.earlier()
        )
        return call_webhook(live, asdict(action.service), base64.b64encode(merged.encode()).decode())

    return [patch_object(context, crd, decide)]


def _anchor(context: ActionContext, secret: Reference) -> str:
    """Return ca.crt of the Secret in PEM. In check mode return "" if the certificate does not exist yet."""
    live = context.client.find(secret.path)
    text = _text(((live or {}).get("data") or {}).get("ca.crt") or "")
    if text.strip():
        bundle_content.check(text)
    elif not context.check_mode:
        raise StepError(
            f"{secret} has no entry ca.crt, which the caBundle of the webhook needs",
            remedy="Run the task again. The certificate step writes the entry",
        )
    return text


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
