# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the objects of external-snapshotter from a cluster, of every installer. Write nothing.

The reading names the lists that could not be read. A hazard that needs such a list refuses the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..._kube.errors import ApiError, NotFound, as_list
from ..kinds import CONVERSION, KINDS, VALIDATION, Reference
from ..release import crd_sets
from ..release.crd_sets import SERVED
from ..release.release_table import (
    CONFIGURATION_NAMES,
    CONTROLLER_NAMESPACE,
    GROUP_CONTENTS,
    GROUP_CRDS,
    SNAPSHOT,
    SNAPSHOT_CRDS,
    known_webhook,
)
from .marks import ClusterObjects, called, place_of
from .parse_objects import CONTROLLER_ROLE
from .pod_specs import USERS, WORKLOADS, containers, program_of

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]

# Objects of owners that exist beside what they installed (_owners, place api): (API group, resource, path).
OWNERS_OBJECTS = (
    (
        "operator.openshift.io",
        "csisnapshotcontrollers",
        "/apis/operator.openshift.io/v1/csisnapshotcontrollers",
    ),
    ("helm.cattle.io", "helmcharts", "/apis/helm.cattle.io/v1/helmcharts"),
)
# The same for one object of each owner, read by its name: (API group, resource, name).
OWNERS_NAMED = (("rbac.authorization.k8s.io", "clusterrolebindings", "kubespray:system:node"),)
_ACCOUNT, _ROLE, _BINDING = "snapshot-webhook", "snapshot-webhook-runner", "snapshot-webhook-role"


class _Reader:
    """Lists and reads objects, and keeps the reasons of refused requests."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.objects: dict[str, tuple[Object, ...]] = {}
        self.unreadable: dict[str, str] = {}

    def list(self, what: str, path: str, *, once: bool = False) -> None:
        """List objects. once: without retries, because the refusal of a webhook does not change soon."""
        try:
            answer = as_list(path, self._client.try_get(path)) if once else self._client.list_all(path)
            items = answer["items"] or ()
        except NotFound:
            items = []
        except ApiError as error:
            self.unreadable[what] = error.message or error.cause
            return
        self.objects[what] = (*self.objects.get(what, ()), *items)

    def keep(self, what: str, wanted: Callable[[Object], bool]) -> None:
        """Keep only the wanted objects of a list."""
        if what in self.objects:
            self.objects[what] = tuple(filter(wanted, self.objects[what]))

    def get(self, what: str, *paths: str) -> None:
        for path in paths:
            try:
                live = self._client.find(path)
            except ApiError as error:
                self.unreadable[what] = error.message or error.cause
                continue
            self.objects[what] = (*self.objects.get(what, ()), *([live] if live else ()))


def observe(client: Client, *, needs_rules: bool) -> ClusterObjects:
    """Read the objects.

    needs_rules: True if the CRDs of the target release have rules. Then snapshots are read if the installed CRDs have none.
    Raises ConnectionFailed and AuthenticationError. Every other refusal is in ``unreadable``.
    """
    reader = _Reader(client)
    version = client.get("/version").get("gitVersion", "")
    reader.get("crds", *_paths("CustomResourceDefinition", *SNAPSHOT_CRDS, *GROUP_CRDS))
    for kind in WORKLOADS:
        reader.list(kind, f"/apis/apps/v1/{kind}")
    reader.list("configurations", KINDS["ValidatingWebhookConfiguration"].collection())
    reader.list("mutating_configurations", KINDS["MutatingWebhookConfiguration"].collection())
    reader.get("cluster_roles", *_paths("ClusterRole", CONTROLLER_ROLE, _ROLE))
    reader.get("cluster_role_bindings", *_paths("ClusterRoleBinding", _BINDING))
    _read_places(reader)
    _read_stored(reader, needs_rules)
    return ClusterObjects(reader.objects, version, _owners_objects(client, reader), reader.unreadable)


def _read_places(reader: _Reader) -> None:
    """Read the objects in the namespaces of controllers and webhooks."""
    controllers = _namespaces(reader, "controller") | {CONTROLLER_NAMESPACE}
    webhooks = _namespaces(reader, VALIDATION, CONVERSION) | {name for name, _service in _own_calls(reader)}
    places = controllers | webhooks | {"default"}
    for kind in WORKLOADS:
        reader.keep(kind, lambda obj: obj["metadata"]["namespace"] in places or bool(_programs(obj)))
    for namespace in sorted(places):
        reader.list("replicasets", KINDS["ReplicaSet"].collection(namespace))
    for namespace in sorted(places):
        _read_webhooks(reader, namespace)


def _read_webhooks(reader: _Reader, namespace: str) -> None:
    mounted = {
        volume["secret"]["secretName"]
        for what in ("deployments", "replicasets")
        for obj in reader.objects.get(what, ())
        if obj["metadata"]["namespace"] == namespace and _programs(obj) & {VALIDATION, CONVERSION}
        for volume in obj["spec"]["template"]["spec"].get("volumes") or ()
        if "secret" in volume
    }
    services = {name for place, name in _calls(reader) if place == namespace}
    known = [known_webhook(kind) for kind in (VALIDATION, CONVERSION)]
    services |= {webhook.service for webhook in known}
    secrets = sorted(mounted | {name for webhook in known for name in (webhook.secret, webhook.old_secret)})
    reader.get("services", *_paths("Service", *sorted(services), namespace=namespace))
    reader.get("secrets", *_paths("Secret", *secrets, namespace=namespace))
    if any(obj["metadata"]["namespace"] == namespace for obj in reader.objects.get("secrets", ())):
        for what, _kind, path in USERS:
            if what not in (*WORKLOADS, "replicasets"):  # these have been read
                reader.list(what, path.format(namespace))
    reader.get("service_accounts", *_paths("ServiceAccount", _ACCOUNT, namespace=namespace))
    deployments = [webhook.deployment for webhook in known]
    reader.get("budgets", *_paths("PodDisruptionBudget", *deployments, namespace=namespace))
    # create-cert.sh leaves its request under the Service's name.
    requests = [f"{webhook.service}.{namespace}" for webhook in known]
    reader.get("requests", *_paths("CertificateSigningRequest", *requests))


def _paths(kind: str, *names: str, namespace: str = "") -> list[str]:
    return [Reference(kind, name, namespace).path for name in names]


def _read_stored(reader: _Reader, needs_rules: bool) -> None:
    """Read the objects of the CRDs that a hazard needs."""
    crds = {obj["metadata"]["name"]: crd_sets.parse(obj) for obj in reader.objects.get("crds", ())}
    wanted = {"volumesnapshotclasses": "classes"}
    plain = crds.get(f"volumesnapshots.{SNAPSHOT}")
    behind = plain is not None and (plain.set is None or not plain.set.rules)
    if plain and (plain.versions.get("v1beta1") == SERVED or (needs_rules and behind)):
        wanted.update(volumesnapshots="snapshots", volumesnapshotcontents="contents")
    wanted.update(
        volumegroupsnapshotclasses="group_classes",
        volumegroupsnapshots="group_snapshots",
        volumegroupsnapshotcontents="group_contents",
    )
    for name, crd in crds.items():
        plural, _dot, group = name.partition(".")
        converts = crd.conversion.strategy == "Webhook"
        if plural in wanted and crd.storage:
            reader.list(wanted[plural], f"/apis/{group}/{crd.storage}/{plural}", once=converts)
        # Objects may be stored at v1beta1, of which another version hides some fields.
        hides = crd.versions.get("v1beta1") == SERVED and "v1beta1" in crd.stored_versions
        if name == GROUP_CONTENTS and not converts and hides:
            reader.list("group_contents_v1beta1", f"/apis/{group}/v1beta1/{plural}")


def _owners_objects(client: Client, reader: _Reader) -> tuple[str, ...]:
    groups = {group["name"] for group in client.get("/apis").get("groups") or ()}
    for group, resource, path in OWNERS_OBJECTS:
        if group in groups:
            reader.list(resource, path)
    for group, resource, name in OWNERS_NAMED:
        reader.get(name, f"/apis/{group}/v1/{resource}/{name}")
    listed = [(group, resource, resource) for group, resource, _path in OWNERS_OBJECTS]
    return tuple(
        f"{group}/{resource}/{obj['metadata']['name']}"
        for group, resource, what in (*listed, *OWNERS_NAMED)
        for obj in reader.objects.get(what, ())
    )


def _namespaces(reader: _Reader, *programs: str) -> set[str]:
    return {
        obj["metadata"]["namespace"]
        for what in WORKLOADS
        for obj in reader.objects.get(what, ())
        if _programs(obj) & set(programs)
    }


def _programs(obj: Object) -> set[str]:
    return {program_of(container.get("image", "")) for container in containers(obj)} - {""}


def _own_calls(reader: _Reader) -> set[tuple[str, str]]:
    """Return the Services that the CRDs' conversions and the configurations with upstream's names call."""
    named = [
        obj for obj in reader.objects.get("configurations", ()) if place_of(obj)[1] in CONFIGURATION_NAMES
    ]
    crds = [crd_sets.parse(obj).conversion.service for obj in reader.objects.get("crds", ())]
    return {place for obj in named for place in called(obj)} | {service for service in crds if service}


def _calls(reader: _Reader) -> set[tuple[str, str]]:
    """Return the Services that any webhook calls. The pods behind a Service show if it is the snapshot webhook's."""
    return _own_calls(reader).union(
        *(
            called(obj)
            for what in ("configurations", "mutating_configurations")
            for obj in reader.objects.get(what, ())
        )
    )
