# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Objects that hold a caBundle: their kinds, the places of the bundle, and their other managers."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable
from urllib.parse import urlsplit

from ..._base import object_managers
from ..._base.accept import NOTHING, Consent
from ..._base.errors import check_shape
from ..._base.owners import Owner, Refused, owners, refuse
from ..._kube.access_review import Permission, missing_permissions
from ..._kube.client import Client
from ..._kube.errors import Forbidden
from ..calls.call_failures import ADMISSION, AGGREGATION, CONVERSION
from ..errors import OwnedTargetError, TargetError

# An object of the API as JSON gives it.
Object = Mapping[str, Any]
# Namespace and name of a Service.
ServiceName = tuple[str, str]
#: See ClientConfig.address.
Address = tuple[str, str, int, tuple[str, ...]]


@dataclass(frozen=True)
class Target:
    """One object. webhooks: names in a *WebhookConfiguration. Empty means all, or those of the wanted Service."""

    kind: str
    name: str
    webhooks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class ClientConfig:
    """One place that holds a caBundle."""

    #: The name of the webhook, "" for a CustomResourceDefinition or an APIService.
    webhook: str
    #: JSON pointer of the place.
    pointer: str
    #: JSON pointer of the webhook's name, "" if it has no name.
    name_pointer: str
    #: The name that the API server verifies.
    server_name: str
    #: The Service that the API server calls, None for a URL.
    service: ServiceName | None
    #: PEM text, "" if the place has no bundle.
    ca_bundle: str
    #: Of the Service, or of the URL.
    port: int = 443
    #: The fields of the place that this collection does not know. They may change what the API server trusts.
    unknown: tuple[str, ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """Return what the API server offers for ALPN: no h2 to the Service of a webhook (k8s.io/apiserver pkg/util/webhook/client.go)."""
        return (
            ("http/1.1",) if self.service and self.pointer.endswith("/clientConfig") else ("h2", "http/1.1")
        )

    @property
    def certificate_names(self) -> set[str]:
        """Return the names of which a certificate must hold one: the verified one, or its wildcard."""
        return {self.server_name, f"*.{self.server_name.partition('.')[2]}"}

    @property
    def address(self) -> Address:
        """Return what decides the answers to a handshake: the Service, or "" and the host, then the port and the offered protocols."""
        return (*(self.service or ("", self.server_name)), self.port, self.protocols)


@dataclass(frozen=True)
class TargetKind:
    """A kind of objects that hold a caBundle."""

    group: str
    version: str
    resource: str
    #: The jq path of every caBundle.
    expression: str
    #: Check the object and yield (webhook, JSON pointer, client configuration).
    locate: Callable[[Target, Object], Iterator[tuple[str, str, Object]]]
    #: Where the API defines the field.
    source: str
    #: How the API server calls what the object names: ADMISSION, CONVERSION or AGGREGATION.
    call: str
    #: The fields of the place.
    fields: frozenset[str] = frozenset(("url", "service", "caBundle"))

    @property
    def path(self) -> str:
        """Return the path of the list of all objects on the API server."""
        return f"/apis/{self.group}/{self.version}/{self.resource}"

    def permission(self, verb: str, name: str = "") -> Permission:
        """Return the permission for a verb on an object, or on all objects."""
        return Permission(verb, self.group, self.resource, name=name)


def _webhooks(_target: Target, obj: Object) -> Iterator[tuple[str, str, Object]]:
    for index, webhook in enumerate(obj.get("webhooks") or ()):
        yield webhook["name"], f"/webhooks/{index}/clientConfig", webhook["clientConfig"]


def _conversion(target: Target, obj: Object) -> Iterator[tuple[str, str, Object]]:
    conversion = obj["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        raise TargetError(
            f"{target} has no conversion webhook (its conversion strategy is {conversion.get('strategy', 'None')})",
            remedy="Remove it from the targets, or set spec.conversion.strategy to Webhook with its clientConfig first",
        )
    yield "", "/spec/conversion/webhook/clientConfig", conversion["webhook"]["clientConfig"]


def _api_service(target: Target, obj: Object) -> Iterator[tuple[str, str, Object]]:
    spec = obj["spec"]
    if not spec.get("service"):
        raise TargetError(
            f"{target} is served by the API server itself (it has no spec.service) and takes no caBundle",
            remedy="Remove it from the targets",
        )
    if spec.get("insecureSkipTLSVerify"):
        raise TargetError(
            f"{target} has insecureSkipTLSVerify: true, which excludes a caBundle",
            remedy="Set spec.insecureSkipTLSVerify to false first. Calls fail until the object has a caBundle",
        )
    yield "", "/spec", spec


KINDS = {
    "ValidatingWebhookConfiguration": TargetKind(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        ".webhooks[]?.clientConfig.caBundle",
        _webhooks,
        source="k8s.io/api admissionregistration/v1 WebhookClientConfig",
        call=ADMISSION,
    ),
    "MutatingWebhookConfiguration": TargetKind(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        ".webhooks[]?.clientConfig.caBundle",
        _webhooks,
        source="k8s.io/api admissionregistration/v1 WebhookClientConfig",
        call=ADMISSION,
    ),
    "CustomResourceDefinition": TargetKind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        ".spec.conversion.webhook.clientConfig.caBundle",
        _conversion,
        source="k8s.io/apiextensions-apiserver apiextensions/v1 WebhookConversion",
        call=CONVERSION,
    ),
    "APIService": TargetKind(
        "apiregistration.k8s.io",
        "v1",
        "apiservices",
        ".spec.caBundle",
        _api_service,
        source="k8s.io/kube-aggregator apiregistration/v1 APIServiceSpec",
        call=AGGREGATION,
        fields=frozenset(
            "service group version insecureSkipTLSVerify caBundle groupPriorityMinimum versionPriority".split()
        ),
    ),
}

#: The API server calls no webhook for writes of these kinds.
ADMISSION_KINDS = tuple(kind for kind, row in KINDS.items() if row.call == ADMISSION)
#: The option ``targets`` in argument specs.
OPTION: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "kind": {"type": "str", "required": True, "choices": list(KINDS)},
        "name": {"type": "str", "required": True},
        "webhooks": {"type": "list", "elements": "str"},
    },
}

# The names of all kinds are DNS subdomains (k8s.io/apimachinery validation.NameIsDNSSubdomain).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def targets_from(option: Sequence[Mapping[str, Any]]) -> tuple[Target, ...]:
    """Read the option ``targets``: dictionaries with kind, name and optionally webhooks.

    An object that is listed several times becomes one target, so that it is written once.
    Raises TargetError for an unknown kind, an invalid name, and webhooks of a kind that has none.
    """
    merged: dict[tuple[str, str], tuple[str, ...]] = {}
    for entry in option:
        kind, name, webhooks = entry["kind"], entry["name"], tuple(entry.get("webhooks") or ())
        if kind not in KINDS:
            raise TargetError(
                f"the kind {kind} does not hold a caBundle", remedy=f"Use one of {', '.join(KINDS)}"
            )
        if not _NAME.fullmatch(name):
            raise TargetError(
                f"{name!r} is not a valid name of a {kind}",
                remedy="A name consists of lower case letters, digits, '-' and '.', at most 253 in all",
            )
        if webhooks and KINDS[kind].locate is not _webhooks:
            raise TargetError(
                f"{kind} {name} has no named webhooks", remedy="Leave webhooks out of this target"
            )
        known = merged.get((kind, name))
        # An empty list selects every webhook, also when merged with a subset.
        is_whole = known is not None and not (known and webhooks)
        merged[kind, name] = () if is_whole else tuple(dict.fromkeys((*(known or ()), *webhooks)))
    return tuple(Target(kind, name, webhooks) for (kind, name), webhooks in merged.items())


def path(target: Target) -> str:
    """Return the object's path on the API server."""
    return f"{KINDS[target.kind].path}/{target.name}"


def permission(target: Target, verb: str) -> Permission:
    """Return the permission for a verb on the object."""
    return KINDS[target.kind].permission(verb, target.name)


def read(client: Client, target: Target, *, writes: bool = True) -> dict[str, Any]:
    """Read the object. ``writes``: also name the permission to write in the error of a missing permission.

    Raises TargetError if it does not exist, MissingPermissions if this identity may not read it, KubeError.
    """
    try:
        obj = client.find(path(target))
    except Forbidden as error:
        lacking = [permission(target, "get"), *([permission(target, "patch")] if writes else [])]
        purpose = f"read and write {target}" if writes else f"read {target}"
        raise missing_permissions(lacking, purpose, error.message) from error
    if obj is None:
        raise TargetError(
            f"{target} does not exist",
            remedy=f"Correct the name, or create it first ('kubectl get {KINDS[target.kind].resource}' lists all)",
        )
    return obj


def client_configs(
    target: Target, obj: Object, *, service: ServiceName | None = None
) -> tuple[ClientConfig, ...]:
    """Return the wanted client configurations of an object, at least one.

    service: take only those that call this Service. Raises TargetError if the object lacks a named webhook, if a named webhook
    calls another Service, or if no client configuration is left, and MalformedObject.
    """
    with check_shape(target):
        row = KINDS[target.kind]
        configs = [
            replace(_client_config(*place), unknown=tuple(sorted(set(place[2]) - row.fields)))
            for place in row.locate(target, obj)
        ]
    present = [config.webhook for config in configs]
    for name in target.webhooks:
        if name not in present:
            raise TargetError(
                f"{target} has no webhook {name}",
                remedy=f"Use one of {', '.join(present)}" if present else "It has no webhooks at all",
            )
    named = [config for config in configs if not target.webhooks or config.webhook in target.webhooks]
    if not named:
        raise TargetError(
            f"{target} has no webhooks", remedy="Remove it from the targets, or add its webhooks first"
        )
    fitting = [config for config in named if service is None or config.service == service]
    strangers = [config for config in named if service is not None and config.service != service]
    if not fitting or (target.webhooks and strangers):
        wanted = "/".join(service or ())
        called = sorted(
            {
                f"Service {'/'.join(config.service)}" if config.service else f"https://{config.server_name}"
                for config in strangers
            }
        )
        raise TargetError(
            f"{target} does not call Service {wanted} but {', '.join(called)}",
            remedy="Correct the target, or the namespace and name of the Service",
        )
    return tuple(fitting)


def find_managers(target: Target, obj: Object) -> tuple[Owner, ...]:
    """Return the other managers of an object that may write its caBundle, in the order of the table."""
    with check_shape(target):
        return tuple(owner for owner in owners(obj) if owner.manager.bundle)


def find_bundle_writer(target: Target, obj: Object) -> Owner | None:
    """Return the manager that writes the object's caBundle at any time, or None.

    Only this manager can restore its certificates, so they are not ours to remove.
    """
    return next((owner for owner in find_managers(target, obj) if owner.manager.writes_bundles), None)


def remedy_for(target: Target, manager: object_managers.Manager) -> str:
    """Return how to get the wanted caBundle into an object of another manager."""
    kind = KINDS[target.kind]
    return manager.for_targets.format(
        group=kind.group, kind=target.kind, name=target.name, expression=kind.expression
    )


def refuse_writer(target: Target, obj: Object, mode: str) -> None:
    """Raise OwnedTargetError if another manager writes the caBundle at any time, and the mode would remove its certificates.

    No consent allows it: the API server would refuse the webhook until that manager writes again.
    """
    writer = find_bundle_writer(target, obj)
    if writer is None:
        return
    refused = Refused(target, (writer,))
    merges = writer.manager.bundle == object_managers.MERGES
    keep = f". Or keep its certificates: mode: add with {refused.option}" if merges else ""
    raise OwnedTargetError(
        f"{refused.cause}, which writes its caBundle itself. Mode {mode} would remove its certificates",
        code="managed-bundle",
        evidence=writer.evidence,
        remedy=f"{remedy_for(target, writer.manager)}{keep}",
    )


def check_managers(target: Target, obj: Object, *, removes: str = "", consent: Consent = NOTHING) -> None:
    """Raise OwnedTargetError for an object of another manager.

    Args:
        removes: the mode if certificates are to be removed, else "". See refuse_writer.
        consent: the managers whose objects are written nevertheless.
    """
    if removes:
        refuse_writer(target, obj, removes)
    others = refuse(find_managers(target, obj), consent, target)
    if others:
        remedies = ". ".join(remedy_for(target, owner.manager) for owner in others.owners)
        raise OwnedTargetError(
            others.cause,
            evidence=others.evidence,
            remedy=f"{remedies}. Or write it nevertheless with {others.option}",
        )


def _client_config(webhook: str, pointer: str, place: Object) -> ClientConfig:
    reference = place.get("service")
    service = (reference["namespace"], reference["name"]) if reference else None
    # k8s.io/apiserver pkg/util/webhook/client.go and kube-aggregator: ServerName is <service>.<namespace>.svc,
    # with no cluster domain; for a URL it is the host, without the port.
    host, url_port = ("", None) if service else _address(place.get("url") or "")
    server_name = f"{service[1]}.{service[0]}.svc" if service else host
    name_pointer = pointer.rsplit("/", 1)[0] + "/name" if webhook else ""
    port = reference.get("port") if reference else url_port
    bundle = _decoded(place.get("caBundle"))
    return ClientConfig(
        webhook, pointer, name_pointer, server_name, service, bundle, 443 if port is None else port
    )


def _address(url: str) -> tuple[str, int | None]:
    """Return the host and the port of a URL. The API server accepts more URLs than this library.

    A host that is not valid is "", and a port that is not valid is 0, which is the port of no server.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", 0
    try:
        return parts.hostname or "", parts.port
    except ValueError:
        return parts.hostname or "", 0


def _decoded(ca_bundle: str | None) -> str:
    # Bytes that are not text are not PEM either, so they may be lost.
    try:
        return base64.b64decode(ca_bundle or "").decode("utf-8", "replace")
    except ValueError:
        return ""
