# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check just before an object is written or deleted that it belongs to the snapshot controller, and to no other manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..._base.accept import NOTHING, Consent
from ..._base.object_managers import HELM, OPERATOR
from ..._base.owners import accept_option, owners, refuse
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
    raise OwnedObjectError(
        f"{place} belongs to {INSTALLERS[origin.key].name} ({'; '.join(origin.evidence)}), for which the option accept has only other objects",
        evidence=origin.evidence,
        remedy=f"Upgrade it there, or also set {accept_option(origin.words, place)}",
    )


def _refuse_managers(place: Reference, live: Object, origin: Origin, consent: Consent) -> None:
    """Raise OwnedObjectError if the object has marks of managers that the consent does not cover, each by itself."""
    # The owner of a ReplicaSet is its Deployment. The plan refuses the objects of an operator.
    is_accepted, unasked = origin.is_accepted(consent, place), {OPERATOR}
    if is_accepted:  # Flux and other managers install charts, and their objects have Helm's mark too.
        unasked.add(HELM)
    found = [owner for owner in owners(live) if owner.word not in unasked]
    # The objects of openshift, olm and operator cannot be accepted, whatever other marks they have.
    is_acceptable = is_accepted or not origin.key or bool(INSTALLERS[origin.key].adopting)
    refused = refuse(found, consent if is_acceptable else NOTHING, place)
    if refused:
        option = f", or set {refused.option}" if is_acceptable else ""
        raise OwnedObjectError(refused.cause, evidence=refused.evidence, remedy=f"Upgrade it there{option}")


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
