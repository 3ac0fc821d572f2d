# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Actions of a plan that read or write a caBundle. They use the modules of webhooks and of the snapshot controller."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..._snapshot.errors import StepError
from ..._snapshot.kinds import Reference
from ..._snapshot.plan.object_changes import FieldChange
from ..._webhook import bundle_content, bundle_targets, reconnection
from ..._webhook.bundle_targets import Target
from . import patches, waits
from .apply_manifests import Outcome

if TYPE_CHECKING:
    from .act import Context

Parameters = Mapping[str, Any]


def reconnect(context: Context, parameters: Parameters) -> list[Outcome]:
    """Make every API server open new connections to the webhooks of these objects."""
    return _reconnected(context, parameters["targets"])


def wait_available(context: Context, parameters: Parameters) -> list[Outcome]:
    """Wait until every replica of the newest template is available. Make API servers reconnect when old pods begin to end."""
    if context.check_mode:
        return []
    target = Reference("Deployment", parameters["name"], parameters["namespace"])
    outcomes: list[Outcome] = []
    waits.available(
        context.client,
        target,
        on_ending=lambda: outcomes.extend(_reconnected(context, parameters.get("reconnect") or ())),
    )
    return outcomes


def conversion_webhook(context: Context, parameters: Parameters) -> list[Outcome]:
    """Make spec.conversion call the webhook, with the CA of its Secret in the same write. Keep CAs of the bundle."""
    target = Reference("CustomResourceDefinition", parameters["crd"])
    anchor = _anchor(context, parameters["secret"])

    def decide(crd: Mapping[str, Any]) -> list[dict[str, Any]]:
        present = _text(patches.bundle_of(crd))
        now = context.client.now()
        merged = bundle_content.merge(present, anchor, mode="add", now=now) if anchor else present
        encoded = base64.b64encode(merged.encode()).decode()
        return patches.webhook_conversion(crd, parameters["service"], encoded)

    if not anchor:  # only in check mode
        return [Outcome(target, "changed", (FieldChange("spec.conversion.strategy", "None", "Webhook"),))]
    patched = patches.patched(
        context.client, target, decide, check_mode=context.check_mode, take_over=context.take_over
    )
    return [patched]


def _reconnected(context: Context, targets: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """Make the API servers reconnect. Skip webhooks without a caBundle, because API servers do not call them."""
    outcomes = []
    for target in bundle_targets.targets_from(list(targets)):
        obj = bundle_targets.read(context.client, target)
        for config in bundle_targets.client_configs(target, obj):
            if not config.ca_bundle.strip():
                continue
            one = Target(target.kind, target.name, (config.webhook,) if config.webhook else ())
            fresh = bundle_targets.read(context.client, one)
            change = reconnection.plan(context.client, one, fresh, take_over=context.take_over)
            if not context.check_mode:
                reconnection.write(context.client, change, take_over=context.take_over)
            outcomes.append(Outcome(Reference(one.kind, one.name), "changed"))
    return outcomes


def _anchor(context: Context, secret: Mapping[str, str]) -> str:
    """Return ca.crt of the Secret in PEM. In check mode return "" if the certificate does not exist yet."""
    target = Reference("Secret", secret["name"], secret["namespace"])
    found = context.client.find(target.path)
    text = _text(((found or {}).get("data") or {}).get("ca.crt") or "")
    if text.strip():
        bundle_content.check(text)
    elif not context.check_mode:
        raise StepError(
            f"{target} has no entry ca.crt, which the caBundle of the webhook needs",
            remedy="Run the task again. The certificate step writes the entry",
        )
    return text


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


ACTIONS = {"reconnect": reconnect, "wait_available": wait_available, "conversion_webhook": conversion_webhook}
