# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide by one table of marks if an object belongs to the snapshot controller. Pure.

An upgrade replaces or deletes an object only if it has upstream's name and the rule of its kind finds nothing of another owner
in it. The plan judges the objects that it read. Each write judges its object again, as it is at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ..kinds import CONTROLLER, CONTROLLER_NAME, REGISTRY, VALIDATION
from ..release.release_table import CONFIGURATION_NAMES, GROUP, RELEASES, SNAPSHOT
from .pod_specs import DEPLOYMENTS, WORKLOADS, containers, deployment_of, only_program, own_program

Object = Mapping[str, Any]
Place = tuple[str, str]

_HOOKS = [release.webhook for release in RELEASES if release.webhook]
# Upstream's name of a Service -> its program.
SERVICES = {hook.service: hook.kind for hook in _HOOKS}
_SELECTED = {value for hook in _HOOKS for value in hook.selector.values()}
_ACCOUNTS = {
    ("ServiceAccount", name) for name in (CONTROLLER_NAME, *(hook.service_account for hook in _HOOKS)) if name
}


@dataclass(frozen=True)
class ClusterObjects:
    """Objects as the API server returned them, by the names of their lists such as "crds" or "deployments"."""

    objects: Mapping[str, tuple[Object, ...]] = field(default_factory=dict)
    kubernetes: str = ""
    apis: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: A mirror of upstream's registry, whose images count as upstream's.
    registry: str = REGISTRY

    def __getitem__(self, what: str) -> tuple[Object, ...]:
        return self.objects.get(what, ())


def why_foreign(kind: str, obj: Object, around: ClusterObjects) -> str:
    """Return the part of the object that has another owner, "" if the object belongs to the snapshot controller.

    around: the Services that a configuration calls, and the workloads in their namespaces or in that of the object.
    """
    return MARKS[kind](obj, around)


def place_of(obj: Object) -> Place:
    return str(obj["metadata"].get("namespace") or ""), str(obj["metadata"]["name"])


def called(configuration: Object) -> set[Place]:
    """Return namespace and name of each Service that the webhooks of a configuration call."""
    services = [hook["clientConfig"].get("service") for hook in configuration.get("webhooks") or ()]
    return {(service["namespace"], service["name"]) for service in services if service}


def workloads_behind(service: Object, around: ClusterObjects) -> Iterator[tuple[Object, str]]:
    """Yield the workloads whose pods a Service selects, each with the program of ``own_program``."""
    selector = (service.get("spec") or {}).get("selector") or {}
    for what in (*WORKLOADS, "replicasets"):
        for obj in around[what]:
            labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
            same = selector and place_of(obj)[0] == place_of(service)[0] and _is_root(what, obj)
            if same and selector.items() <= labels.items():
                yield obj, own_program(obj, around.registry)


def program_behind(service: Object, around: ClusterObjects) -> str:
    """Return the proven program that all pods behind a Service run, "" if they differ or if it has no pods."""
    programs = {program for _obj, program in workloads_behind(service, around)}
    return programs.pop() if len(programs) == 1 else ""


def _is_root(what: str, obj: Object) -> bool:
    """Return False for a ReplicaSet that has an owner or makes no pods."""
    owned = bool(obj["metadata"].get("ownerReferences"))
    return what != "replicasets" or (not owned and bool(obj["spec"].get("replicas", 1)))


def _configuration(obj: Object, around: ClusterObjects) -> str:
    services = {place_of(service): service for service in around["services"]}
    for hook in obj.get("webhooks") or ():
        reason = _why_foreign_hook(hook, services, around)
        if reason:
            return f"the configuration also has the webhook {hook['name']}, which {reason}"
    return "" if place_of(obj)[1] in CONFIGURATION_NAMES else "its name is not upstream's"


def _why_foreign_hook(hook: Object, services: Mapping[Place, Object], around: ClusterObjects) -> str:
    service = hook["clientConfig"].get("service")
    groups = {group for rule in hook.get("rules") or () for group in rule.get("apiGroups") or ()}
    if not service:
        return "calls a URL"
    if groups - {SNAPSHOT, GROUP}:
        return "has rules for other objects"
    place = (service["namespace"], service["name"])
    live, text = services.get(place), f"calls Service {'/'.join(place)}"
    if SERVICES.get(place[1]) == VALIDATION:
        reason = _service(live, around) if live else ""
        return reason and f"{text}: {reason}"
    return "" if live and program_behind(live, around) == VALIDATION else text


def _service(obj: Object, around: ClusterObjects) -> str:
    spec = obj.get("spec") or {}
    if spec.get("type") == "ExternalName" or not spec.get("selector"):
        return "the Service does not select pods"
    others = [place_of(workload) for workload, program in workloads_behind(obj, around) if not program]
    return f"the Service selects pods of {'/'.join(others[0])}, which run another program" if others else ""


def _workload(obj: Object, around: ClusterObjects) -> str:
    names = [f"{entry.get('name', '?')} ({entry.get('image', '')})" for entry in containers(obj)]
    # A controller with another name is deleted only if the user names it.
    chosen = deployment_of(obj) not in DEPLOYMENTS and only_program(obj) == CONTROLLER
    is_own = len(names) == 1 and (chosen or own_program(obj, around.registry))
    is_history = obj.get("kind") == "ReplicaSet" and not obj["spec"].get("replicas", 1)
    return "" if is_own or is_history else f"it runs the containers {', '.join(names)}"


def _binding(obj: Object, _around: ClusterObjects) -> str:
    subjects = [(subject["kind"], subject["name"]) for subject in obj.get("subjects") or ()]
    others = [" ".join(pair) for number, pair in enumerate(subjects) if number or pair not in _ACCOUNTS]
    return f"it also binds {', '.join(others)}" if others else ""


def _cluster_role(obj: Object, _around: ClusterObjects) -> str:
    groups = {group for rule in obj.get("rules") or () for group in rule.get("apiGroups") or ("",)}
    # The controller's role may have more rules, such as those for nodes.
    is_own = groups <= {SNAPSHOT, GROUP} or place_of(obj)[1] != "snapshot-webhook-runner"
    return "" if is_own else "it also has rules for other objects"


def _budget(obj: Object, _around: ClusterObjects) -> str:
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return "" if set(labels.values()) & _SELECTED else "it selects other pods"


# Kinds whose only mark is the name. Users of a Secret or a ServiceAccount keep it, a CustomResourceDefinition with objects is never
# deleted, and the others are never deleted.
_BY_NAME = ("CustomResourceDefinition", "Namespace", "Pod", "Role", "Secret", "ServiceAccount")
# The rule of each kind that a plan writes or deletes.
MARKS: Mapping[str, Callable[[Object, ClusterObjects], str]] = {
    "ValidatingWebhookConfiguration": _configuration,
    "Service": _service,
    "Deployment": _workload,
    "StatefulSet": _workload,
    "ReplicaSet": _workload,
    "ClusterRole": _cluster_role,
    "ClusterRoleBinding": _binding,
    "RoleBinding": _binding,
    "PodDisruptionBudget": _budget,
    "CertificateSigningRequest": lambda obj, _around: (
        "" if "server auth" in (obj.get("spec") or {}).get("usages", ()) else "it is not for a server"
    ),
    **dict.fromkeys(_BY_NAME, lambda _obj, _around: ""),
}
