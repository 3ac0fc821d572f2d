# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Changes of one object in one place, by JSON patch: decided here, written under the resourceVersion that was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..._kube import json_patch
from ..._kube.update_object import retry_on_conflict
from ..._snapshot.errors import NotYetError
from ..._snapshot.kinds import Reference
from ..._snapshot.plan.object_changes import changes
from .apply_manifests import ATTEMPTS, Outcome, contended, refuse_owned

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
Operations = list[dict[str, Any]]
NO_CONVERSION = {"strategy": "None"}


def patched(
    client: Client,
    target: Reference,
    decide: Callable[[Object], Operations],
    *,
    check_mode: bool,
    take_over: bool = False,
) -> Outcome:
    """Write what ``decide`` says about the object as it is now; [] is no change. Decide again after a conflict.

    Raises NotYetError if the object does not exist, OwnedObjectError, KubeError.
    """

    def read() -> Object:
        live = client.find(target.path)
        if live is None:
            raise NotYetError(
                f"{target} does not exist", remedy="Find out what deleted it, and run the task again"
            )
        return live

    def write(live: Object) -> Outcome:
        operations = decide(live)
        if not operations:
            return Outcome(target, "unchanged")
        if not take_over:
            refuse_owned(target, live)
        lock = json_patch.at_version(live["metadata"]["resourceVersion"])
        answer = client.patch(target.path, [lock, *operations], dry_run=check_mode)
        return Outcome(target, "changed", changes(live, answer))

    return retry_on_conflict(read(), write, read, attempts=ATTEMPTS, exhausted=contended(target))


def no_conversion(crd: Object) -> Operations:
    """spec.conversion becomes {strategy: None}. It can only be replaced as a whole (facts: _ssa.HELD)."""
    if crd["spec"].get("conversion", NO_CONVERSION) == NO_CONVERSION:
        return []
    return [json_patch.replace("/spec/conversion", NO_CONVERSION)]


def webhook_conversion(crd: Object, service: Mapping[str, Any], bundle: str) -> Operations:
    """spec.conversion calls this Service, with this caBundle (base64) from the very first moment."""
    client_config = {"service": {"port": 443, **service}, "caBundle": bundle}
    wanted = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": client_config, "conversionReviewVersions": ["v1"]},
    }
    if crd["spec"].get("conversion") == wanted:
        return []
    return [json_patch.add("/spec/conversion", wanted)]


def bundle_of(crd: Object) -> str:
    """The caBundle (base64) of a CustomResourceDefinition's conversion webhook, "" where there is none."""
    webhook = (crd["spec"].get("conversion") or {}).get("webhook") or {}
    return str((webhook.get("clientConfig") or {}).get("caBundle") or "")


def rules(configuration: Object, wanted: Mapping[str, Sequence[Object]]) -> Operations:
    """The rules of the named webhooks are replaced. Raises NotYetError for a webhook that it does not have."""
    names = [webhook["name"] for webhook in configuration.get("webhooks") or ()]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise NotYetError(f"{configuration['metadata']['name']} has no webhook {missing[0]}")
    return [
        operation
        for index, webhook in enumerate(configuration["webhooks"])
        if webhook["name"] in wanted and webhook.get("rules") != list(wanted[webhook["name"]])
        for operation in (
            _is_still(index, webhook),
            json_patch.add(f"/webhooks/{index}/rules", list(wanted[webhook["name"]])),
        )
    ]


def failure_policy(configuration: Object, policy: str) -> Operations:
    """The failurePolicy of every webhook of the configuration."""
    return [
        operation
        for index, webhook in enumerate(configuration.get("webhooks") or ())
        if webhook.get("failurePolicy") != policy
        for operation in (
            _is_still(index, webhook),
            json_patch.add(f"/webhooks/{index}/failurePolicy", policy),
        )
    ]


def selector(service: Object, wanted: Mapping[str, str], port: int | None) -> Operations:
    """The Service's selector, and where its only port leads, in one write: pods of two ports are never mixed."""
    operations: Operations = []
    if service["spec"].get("selector") != dict(wanted):
        operations.append(json_patch.add("/spec/selector", dict(wanted)))
    if port is not None and service["spec"]["ports"][0].get("targetPort") != port:
        operations.append(json_patch.add("/spec/ports/0/targetPort", port))
    return operations


def _is_still(index: int, webhook: Object) -> dict[str, Any]:
    return json_patch.test(f"/webhooks/{index}/name", webhook["name"])
