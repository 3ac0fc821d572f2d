# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find the objects whose webhooks, conversion or aggregated API call a Service, and judge if their caBundle may be written."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from .._base.object_managers import OWN_MANAGER
from .._base.owners import field_managers
from .._kube.access_review import Permission, missing_permissions
from .._kube.client import Client
from .._kube.errors import Forbidden, KubeError, NotFound
from .bundles import bundle_content, bundle_targets
from .bundles.bundle_targets import KINDS, ClientConfig, Object, ServiceName, Target
from .errors import TargetError


@dataclass(frozen=True)
class ServiceCaller:
    """An object that calls a Service."""

    #: It selects the webhooks whose caBundle may be written.
    target: Target
    obj: Object
    #: All places of the object that call the Service.
    configs: tuple[ClientConfig, ...]
    #: Name of a webhook ("" for a kind with one caBundle) -> why its caBundle is not written.
    skipped: Mapping[str, str]

    @property
    def is_verified(self) -> bool:
        """True if the API server verifies the Service's certificate by a caBundle."""
        return all(config.server_name for config in self.configs)

    @property
    def is_usable(self) -> bool:
        """True if at least one caBundle may be written."""
        return len(self.skipped) < len(self.configs)


def list_callers(
    client: Client, service: ServiceName, recorded: Collection[str] = (), *, needs_all: bool = True
) -> tuple[ServiceCaller, ...]:
    """List all kinds that hold a caBundle, and return the objects that call the Service.

    recorded: the entries of the anchors that this collection added ("kind/name/webhook=fingerprint").
    needs_all: False to leave out the kinds that cannot be listed.

    Raises MissingPermissions that names every list which this identity may not read, KubeError.
    """
    callers: list[ServiceCaller] = []
    lacking: list[Permission] = []
    message = ""
    for kind in KINDS:
        try:
            found = (judge(target, obj, service, recorded) for target, obj in _list_kind(client, kind))
            callers += filter(None, found)
        except KubeError as error:
            if needs_all and not isinstance(error, Forbidden):
                raise
            lacking.append(KINDS[kind].permission("list"))
            message = message or error.message
    if lacking and needs_all:
        raise missing_permissions(lacking, f"discover the targets of Service {'/'.join(service)}", message)
    return tuple(callers)


def judge(
    target: Target, obj: Object, service: ServiceName, recorded: Collection[str] = ()
) -> ServiceCaller | None:
    """Return the caller that an object is, None if it does not call the Service.

    A caBundle may be written if it is empty, if its field manager is this collection, or if it holds a recorded anchor.
    """
    try:
        configs = bundle_targets.client_configs(Target(target.kind, target.name), obj, service=service)
    except TargetError as error:
        return _without_bundle(target, obj, service, error)
    skipped = {
        config.webhook: reason for config in configs if (reason := _reason(target, obj, config, recorded))
    }
    chosen = tuple(config.webhook for config in configs if config.webhook not in skipped)
    # Without names, a target is every webhook that calls the Service.
    webhooks = chosen if skipped and chosen != ("",) else ()
    return ServiceCaller(Target(target.kind, target.name, webhooks), obj, configs, skipped)


def list_configs(client: Client, names: Collection[str]) -> Iterator[tuple[Target, ClientConfig]]:
    """Yield each client configuration that a certificate with these names may serve. Raises KubeError."""
    for target, obj in itertools.chain.from_iterable(_list_kind(client, kind) for kind in KINDS):
        with contextlib.suppress(TargetError):  # nothing is verified there
            configs = bundle_targets.client_configs(target, obj)
            yield from (
                (target, config) for config in configs if not config.certificate_names.isdisjoint(names)
            )


def _list_kind(client: Client, kind: str) -> Iterator[tuple[Target, Object]]:
    """Yield the objects of a kind. It keeps no page of the list, because thousands of definitions have hundreds of megabytes."""
    with contextlib.suppress(NotFound):  # This API server does not have the kind.
        for page in client.pages(KINDS[kind].path):
            yield from ((Target(kind, obj["metadata"]["name"]), obj) for obj in page.get("items") or ())


def _without_bundle(
    target: Target, obj: Object, service: ServiceName, error: TargetError
) -> ServiceCaller | None:
    """Return the caller that an APIService without verification is, None for any other object."""
    spec = obj.get("spec") or {}
    reference = (spec.get("service") or {}) if target.kind == "APIService" else {}
    if (reference.get("namespace"), reference.get("name")) != service:
        return None
    config = ClientConfig("", "/spec", "", "", service, "")
    return ServiceCaller(Target(target.kind, target.name), obj, (config,), {"": error.cause})


def _reason(target: Target, obj: Object, config: ClientConfig, recorded: Collection[str]) -> str:
    """Return why the caBundle is not written, "" if it may be."""
    if not config.ca_bundle.strip():
        return ""
    writers = tuple(find_bundle_managers(target, obj, config.webhook))
    if OWN_MANAGER in writers or holds_recorded(target, config, recorded):
        return ""
    by = f"the field manager {', '.join(writers)}" if writers else "an unknown client"
    return f"its caBundle was written by {by}"


def find_bundle_managers(target: Target, obj: Object, webhook: str) -> Iterator[str]:
    """Yield the field managers that own the caBundle."""
    return (name for name, _operation in field_managers(obj, field_path(target, webhook)))


def field_path(target: Target, webhook: str) -> tuple[str, ...]:
    """Return the path of the caBundle in managedFields.

    Source: sigs.k8s.io/structured-merge-diff, fieldpath serialize-pe.go.
    """
    if webhook:
        key = json.dumps({"name": webhook}, separators=(",", ":"), ensure_ascii=False)
        return ("f:webhooks", f"k:{key}", "f:clientConfig", "f:caBundle")
    return tuple(f"f:{part}" for part in KINDS[target.kind].expression.split(".")[1:])


def holds_recorded(target: Target, config: ClientConfig, recorded: Collection[str]) -> bool:
    """Return True if a caBundle holds a recorded anchor."""
    start = "/".join(filter(None, (target.kind, target.name, config.webhook))) + "="
    return any(
        start + anchor.fingerprint in recorded for anchor in bundle_content.certificates(config.ca_bundle)
    )
