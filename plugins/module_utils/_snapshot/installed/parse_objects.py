# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make the installed state of external-snapshotter from the objects of a cluster. Pure. fetch_objects fetches them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..._base import owners
from ..kinds import CONVERSION, ORPHAN_LABEL, RELEASE_LABEL, SIDECAR, VALIDATION, Reference
from ..release import crd_sets, flags
from ..release.release_table import CONFIGURATION_NAMES, GROUP, SNAPSHOT, Release, parse
from . import installers, marks, pod_specs, validity
from .marks import ClusterObjects, place_of
from .pod_specs import DEPLOYMENTS, WORKLOADS, containers, deployment_of, own_program, program_of
from .state import (
    Hook,
    InstalledState,
    InstalledWorkload,
    OrphanReplicaSet,
    Secret,
    Service,
    StoredGroupSnapshots,
    StoredSnapshots,
    WebhookConfiguration,
)

DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
CONTROLLER_ROLE = "snapshot-controller-runner"
# The fields of a status that list the handles of snapshots, of v1beta1 and of v1beta2 and v1.
LISTS = ("volumeSnapshotHandlePairList", "volumeSnapshotInfoList")


def installed(reading: ClusterObjects, release: Release) -> InstalledState:
    """Return the installed state. release: the target release, whose rules show invalid stored objects."""
    crds = [crd_sets.parse(obj) for obj in reading["crds"]]
    mixed = dict(_mixed(reading))
    configurations, foreign = _configurations(reading, mixed)
    called = {
        hook.service for configuration in configurations for hook in configuration.hooks if hook.service
    }
    converts = {crd.conversion.service for crd in crds if crd.conversion.service}
    role = next((obj for obj in reading["cluster_roles"] if _name(obj) == CONTROLLER_ROLE), None)
    return InstalledState(
        kubernetes=(parse(reading.kubernetes) or (0, 0, 0))[:2],
        kubernetes_version=reading.kubernetes,
        crds={crd.name: crd for crd in crds},
        crd_origins={_name(obj): installers.find_origin(obj, apis=reading.apis) for obj in reading["crds"]},
        workloads=tuple(_own_workloads(reading, {VALIDATION: called, CONVERSION: converts})),
        orphan_sets=tuple(_orphan_sets(reading)),
        configurations=tuple(configurations),
        foreign=tuple(foreign),
        mixed=mixed,
        services=tuple(
            Service(*place_of(obj), obj["spec"].get("selector") or {}, installers.find_origin(obj))
            for obj in reading["services"]
        ),
        secrets=tuple(_secret(obj, reading) for obj in reading["secrets"]),
        controller_role=installers.find_origin(role, apis=reading.apis) if role else None,
        webhook_account=bool(reading["service_accounts"] and reading["cluster_role_bindings"]),
        default_classes=_defaults(reading["classes"]),
        objects=_objects(reading, release),
        groups=_groups(reading, release),
        leftovers=tuple(_leftovers(reading)),
        unreadable=reading.unreadable,
    )


def _mixed(reading: ClusterObjects) -> Iterator[tuple[str, str]]:
    """Yield the objects that fail the marks of their kind, with the reasons. Most of them do not have upstream's names."""
    kinds = (("ValidatingWebhookConfiguration", "configurations"), ("Service", "services"), *_LEFTOVERS)
    for kind, what in kinds:
        for obj in reading[what]:
            reason = marks.why_foreign(kind, obj, reading)
            if reason:
                namespace, name = place_of(obj)
                yield str(Reference(kind, name, namespace)), reason


def _own_workloads(
    reading: ClusterObjects, called: Mapping[str, set[tuple[str, str]]]
) -> list[InstalledWorkload]:
    """Return the workloads of the snapshot controller, without webhooks that are not proven to be the called ones.

    called: the called Services, by program. A proven webhook in one of their namespaces is the called one if it has upstream's
    name or if such a Service selects its pods. If no Service is called, a killed run may have deleted the configuration. The
    webhook then counts if all proven ones are in one namespace. The same holds for conversions, because upstream's CRDs of 8.4
    name a Service in namespace default for a webhook of any namespace.
    """
    behind = [
        workload
        for service in reading["services"]
        if place_of(service) in set().union(*called.values())
        for workload, _program in marks.workloads_behind(service, reading)
    ]
    own: list[InstalledWorkload] = []
    for what, kind in WORKLOADS.items():
        for obj in reading[what]:
            proven = own_program(obj, reading.registry) and (
                deployment_of(obj) in DEPLOYMENTS or obj in behind
            )
            for container in containers(obj):
                program = program_of(container.get("image", ""))
                if program and (program not in called or proven or len(containers(obj)) > 1):
                    own.append(_workload(kind, obj, container, program, reading.apis))
    for program, services in called.items():
        namespaces = {namespace for namespace, _name in services}
        places = {workload.namespace for workload in own if workload.program == program}
        only = places if len(places) == 1 and (program == CONVERSION or not namespaces) else set()
        sure = (places & namespaces) or only
        own = [workload for workload in own if workload.program != program or workload.namespace in sure]
    return own


def _workload(
    kind: str, obj: Mapping[str, Any], container: Mapping[str, Any], program: str, apis: Iterable[str]
) -> InstalledWorkload:
    spec, template = obj["spec"], obj["spec"]["template"]
    pod, image = template["spec"], container["image"]
    labels = (template.get("metadata") or {}).get("labels") or {}
    return InstalledWorkload(
        program,
        kind,
        *place_of(obj),
        image=image,
        version=pod_specs.version_of(image) or parse(labels.get(RELEASE_LABEL, "")),
        arguments=(*(container.get("command") or ())[1:], *(container.get("args") or ())),
        selector=(spec.get("selector") or {}).get("matchLabels") or {},
        secrets=tuple(
            volume["secret"]["secretName"] for volume in pod.get("volumes") or () if "secret" in volume
        ),
        service_account=pod.get("serviceAccountName") or pod.get("serviceAccount") or "",
        port=_port(container),
        host_network=bool(pod.get("hostNetwork")),
        drains="sleep" in ((container.get("lifecycle") or {}).get("preStop") or {}),
        replicas=int(spec.get("replicas", 1)),
        available=int((obj.get("status") or {}).get("availableReplicas") or 0),
        # A sidecar belongs to a CSI driver, so objects of installers do not show its origin.
        origin=installers.find_origin(obj, images=[image], apis=() if program == SIDECAR else apis),
        companions=pod_specs.others_beside(obj, container),
    )


def _port(container: Mapping[str, Any]) -> int:
    """Return the port by the argument, by the container's ports, or by the programs' default."""
    port = flags.value(container.get("args") or (), "port") or ""
    declared = [int(port["containerPort"]) for port in container.get("ports") or ()]
    return int(port) if port.isdigit() else (declared or [443])[0]


def _orphan_sets(reading: ClusterObjects) -> Iterator[OrphanReplicaSet]:
    for obj in reading["replicasets"]:
        # A ReplicaSet without replicas is the history of a deleted Deployment and runs no pods.
        if obj["metadata"].get("ownerReferences") or not obj["spec"].get("replicas", 1):
            continue
        deployment, program = deployment_of(obj), own_program(obj, reading.registry)
        if program and DEPLOYMENTS.get(deployment) == program:
            workload = _workload("ReplicaSet", obj, containers(obj)[0], program, ())
            is_labelled = ORPHAN_LABEL in (obj["metadata"].get("labels") or {})
            yield OrphanReplicaSet(workload, deployment, is_labelled)


def _configurations(
    reading: ClusterObjects, mixed: Mapping[str, str]
) -> tuple[list[WebhookConfiguration], list[WebhookConfiguration]]:
    """Return the webhook's configurations, and others that name snapshots, call a Service that was read, or have upstream's name."""
    programs = {place_of(obj): marks.program_behind(obj, reading) for obj in reading["services"]}
    own: list[WebhookConfiguration] = []
    foreign: list[WebhookConfiguration] = []
    for kind, what in (
        ("ValidatingWebhookConfiguration", "configurations"),
        ("MutatingWebhookConfiguration", "mutating_configurations"),
    ):
        for obj in reading[what]:
            configuration = _configuration(obj, kind, programs, reading.apis)
            named = kind == "ValidatingWebhookConfiguration" and configuration.name in CONFIGURATION_NAMES
            if named and str(configuration) not in mixed:
                own.append(configuration)
            elif (
                named or configuration.groups or any(hook.service in programs for hook in configuration.hooks)
            ):
                foreign.append(configuration)
    return own, foreign


def _configuration(
    obj: Mapping[str, Any], kind: str, programs: Mapping[tuple[str, str], str], apis: Iterable[str]
) -> WebhookConfiguration:
    hooks = tuple(_hook(entry, programs) for entry in obj.get("webhooks") or ())
    groups = {group for hook in hooks for rule in hook.rules for group in rule.get("apiGroups") or ()}
    named = tuple(sorted(groups & {SNAPSHOT, GROUP}))
    return WebhookConfiguration(_name(obj), named, hooks, installers.find_origin(obj, apis=apis), kind)


def _hook(entry: Mapping[str, Any], programs: Mapping[tuple[str, str], str]) -> Hook:
    service = entry["clientConfig"].get("service")
    place = (service["namespace"], service["name"]) if service else None
    return Hook(
        entry["name"],
        place,
        (service or {}).get("path", ""),
        entry.get("failurePolicy", "Fail"),
        tuple(entry.get("rules") or ()),
        programs.get(place, "") if place else "",
    )


def _secret(obj: Mapping[str, Any], reading: ClusterObjects) -> Secret:
    namespace, name = place_of(obj)
    managers = tuple(owner.manager.name for owner in owners.owners(obj))
    return Secret(
        namespace,
        name,
        obj.get("type", "Opaque"),
        tuple(sorted(obj.get("data") or {})),
        managers=managers,
        users=pod_specs.users_of(namespace, name, reading.objects, reading.registry),
        resource_version=obj["metadata"].get("resourceVersion", ""),
    )


def _defaults(classes: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    classes_of: dict[str, tuple[str, ...]] = {}
    for obj in classes:
        if (obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
            classes_of[obj["driver"]] = (*classes_of.get(obj["driver"], ()), _name(obj))
    return classes_of


def _objects(reading: ClusterObjects, release: Release) -> StoredSnapshots:
    snapshots, contents = reading["snapshots"], reading["contents"]
    has_rules = crd_sets.row(release.crds, SNAPSHOT).rules
    clients = {
        entry.get("manager", "?")
        for obj in (*snapshots, *contents, *reading["classes"])
        for entry in obj["metadata"].get("managedFields") or ()
        if entry.get("apiVersion") == f"{SNAPSHOT}/v1beta1"
    }
    return StoredSnapshots(
        faults=tuple(
            validity.faults("VolumeSnapshot", snapshots) + validity.faults("VolumeSnapshotContent", contents)
            if has_rules
            else ()
        ),
        old_clients=tuple(sorted(clients)),
    )


def _groups(reading: ClusterObjects, release: Release) -> StoredGroupSnapshots:
    contents, snapshots = reading["group_contents"], reading["group_snapshots"]
    has_rules = release.group_crds and crd_sets.row(release.group_crds, GROUP).rules
    faults = validity.faults("VolumeGroupSnapshot", snapshots)
    faults += validity.faults("VolumeGroupSnapshotContent", contents)
    return StoredGroupSnapshots(
        classes=len(reading["group_classes"]),
        snapshots=len(snapshots),
        contents=len(contents),
        lists=sum(_lists(obj) for obj in contents),
        hidden=sum(_lists(obj) for obj in reading["group_contents_v1beta1"]),
        faults=tuple(faults) if has_rules else (),
        alpha_sources=tuple(
            _name(obj) for obj in contents if "persistentVolumeNames" in (obj["spec"].get("source") or {})
        ),
    )


def _lists(content: Mapping[str, Any]) -> bool:
    return any((content.get("status") or {}).get(key) for key in LISTS)


_LEFTOVERS = (
    ("ServiceAccount", "service_accounts"),
    ("ClusterRole", "cluster_roles"),
    ("ClusterRoleBinding", "cluster_role_bindings"),
    ("PodDisruptionBudget", "budgets"),
    ("CertificateSigningRequest", "requests"),
)


def _leftovers(reading: ClusterObjects) -> Iterator[tuple[str, str, str]]:
    """Yield kind, namespace and name of the objects that only a webhook needs."""
    for kind, what in _LEFTOVERS:
        yield from ((kind, *place_of(obj)) for obj in reading[what] if _name(obj) != CONTROLLER_ROLE)


def _name(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"]["name"])
