# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check just before an object is written or deleted that it belongs to the snapshot controller, and to no other manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..._base import object_managers
from ..._base.accept import NOTHING, Consent
from ..._snapshot.errors import OwnedObjectError
from ..._snapshot.installed import marks
from ..._snapshot.installed.installers import INSTALLERS, Origin, find_origin
from ..._snapshot.installed.pod_specs import USERS, WORKLOADS
from ..._snapshot.kinds import KINDS, REGISTRY, Reference
from ..._snapshot.release.release_table import CONFIGURATION_NAMES

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]


def refuse_others(
    client: Client,
    place: Reference,
    live: Object,
    *,
    consent: Consent = NOTHING,
    registry: str = REGISTRY,
    is_deleted: bool = False,
) -> None:
    """Raise OwnedObjectError if the object fails the marks of its kind, or if it is deleted while others call it.

    consent: the managers whose objects are accepted. registry: images of it count as upstream's.
    Raises KubeError if the objects around it cannot be read.
    """
    origin = find_origin(live)
    _refuse_limited(place, origin, consent)
    _refuse_managers(place, live, origin, consent)
    around = marks.ClusterObjects(_read_around(client, place, live), registry=registry)
    reason = marks.why_foreign(place.kind, live, around)
    if not reason and is_deleted and place.kind == "Service":
        reason = ", ".join(_callers(client, place))
    if reason:
        raise OwnedObjectError(
            f"{place} does not belong only to the snapshot controller: {reason}",
            remedy="Move the parts of other owners into objects with other names, and run the task again",
        )


def _refuse_limited(place: Reference, origin: Origin, consent: Consent) -> None:
    """Raise OwnedObjectError if the user accepts the object's manager, but only for other objects."""
    if not any(consent.is_limited_to_others(word, place) for word in origin.words):
        return
    name = str(place).replace(" ", "/", 1)
    items = ", ".join(f'{{"{word}": {name}}}' for word in origin.words)
    raise OwnedObjectError(
        f"{place} belongs to {INSTALLERS[origin.key].name} ({'; '.join(origin.evidence)}), which accept names only for other objects",
        evidence=origin.evidence,
        remedy=f"Upgrade it there, or also set accept: [{items}]",
    )


def _refuse_managers(place: Reference, live: Object, origin: Origin, consent: Consent) -> None:
    """Raise OwnedObjectError if the object has marks of managers that the consent does not cover, each by itself."""
    managers = object_managers.find_managers(live["metadata"])
    is_accepted = all(consent.covers(word, place) for word in origin.words)
    # The objects of openshift, olm and operator cannot be accepted, whatever other marks they have.
    is_acceptable = is_accepted or not origin.key or bool(INSTALLERS[origin.key].adopting)
    if is_acceptable:
        # Flux and other managers install charts, and their objects have Helm's mark too.
        keys = {object_managers.HELM} if is_accepted else set()
        managers = tuple(
            found
            for found in managers
            if found.manager.key not in keys and not consent.covers(found.manager.key, place)
        )
    if not managers:
        return
    words = [found.manager.key for found in managers]
    accept = f", or set accept: [{', '.join(words)}]" if is_acceptable and consent.knows(words) else ""
    raise OwnedObjectError(
        object_managers.belongs_to(place, managers),
        evidence=[marker for found in managers for marker in found.evidence],
        remedy=f"Upgrade it there{accept}",
    )


def _read_around(client: Client, place: Reference, live: Object) -> dict[str, tuple[Object, ...]]:
    """Return the Services that a configuration calls, and the workloads beside them or beside the object."""
    called = marks.called(live)
    if not called and place.kind != "Service":
        return {}
    services = [client.find(Reference("Service", name, namespace).path) for namespace, name in sorted(called)]
    namespaces = sorted({namespace for namespace, _name in called} or {place.namespace})
    paths = {what: path for what, _kind, path in USERS if what in (*WORKLOADS, "replicasets")}
    around = {
        what: tuple(
            obj for namespace in namespaces for obj in client.list_all(path.format(namespace))["items"]
        )
        for what, path in paths.items()
    }
    return {**around, "services": tuple(service for service in services if service)}


def _callers(client: Client, place: Reference) -> list[str]:
    """Return a text for each webhook configuration, except upstream's, that calls the Service."""
    callers = [
        f"{kind} {obj['metadata']['name']}"
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
        for obj in client.list_all(KINDS[kind].collection())["items"]
        if (place.namespace, place.name) in marks.called(obj)
    ]
    upstream = [f"ValidatingWebhookConfiguration {name}" for name in CONFIGURATION_NAMES]
    return [f"{name} calls it" for name in callers if name not in upstream]
