# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""List the writes and checks of a hop, object by object. Pure.

Each action of step_types has one function here. It yields a line for each write and for each check of a step. A line says
"create" or "change" by the state before the hop and by the earlier steps of the hop.

The lines omit the run's own objects, which are not part of a plan: its Lease and its backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..actions.step_types import Step
from ..context.upgrade_context import UpgradeContext
from ..kinds import Reference
from ..labels import CONTROLLER_NAME, CONVERSION, VALIDATION
from ..release import crd_sets
from ..release.release_table import GROUP, GROUP_CRDS, SNAPSHOT, get
from .planner import Hop

CREATE, CHANGE, DELETE, VERIFY = "create", "change", "delete", "verify"


_CRD, _CONFIGURATION = "CustomResourceDefinition", "ValidatingWebhookConfiguration"
# These namespaces exist on every cluster.
_NAMESPACES = ("default", "kube-system")


@dataclass(frozen=True)
class PlanLine:
    """One write or check."""

    #: CREATE, CHANGE, DELETE or VERIFY.
    verb: str
    #: The objects with their number, and the details. It may hold hostile text of the cluster.
    text: str
    #: The id of the step.
    step: str
    #: The objects that it writes, if their names are known.
    objects: tuple[Reference, ...] = ()


@dataclass
class _HopProgress:
    """The progress within a hop."""

    context: UpgradeContext
    #: The objects that exist before the step.
    present: set[Reference]
    #: The Secrets with a certificate of this hop.
    issued: set[Reference] = field(default_factory=set)

    @property
    def is_repair(self) -> bool:
        return self.context.version == self.context.release.version


def lines(hop: Hop) -> list[PlanLine]:
    """Return the writes and checks of a hop in their order."""
    state = _HopProgress(hop.context, set(_present(hop.context)))
    return [line for step in hop.steps for line in _ACTIONS[step.action](state, step)]


def applied_by(context: UpgradeContext, step: Step) -> list[Reference]:
    """Return the objects that a step of action "apply" applies."""
    given = {"namespace": context.namespace, **step.parameters}
    return [target for part in given["parts"] for target in _PARTS[part][0](context, given)]


def named(objects: Sequence[Reference], end: str = "") -> str:
    """Return the objects in words: one by its name, several with their number. end: words before a list of names."""
    kinds = {target.kind for target in objects}
    if len(objects) == 1:
        return f"{objects[0]}{end}"
    groups = {target.name.partition(".")[2] for target in objects}
    if kinds == {_CRD} and len(groups) == 1 and len(objects) == len(crd_sets.names(group := groups.pop())):
        return f"{len(objects)} {_CRD}s of {group}{end}"
    if len(kinds) > 1:
        return f"{len(objects)} RBAC objects{end}: {', '.join(map(str, objects))}"
    places = (f"{target.namespace}/{target.name}" if target.namespace else target.name for target in objects)
    return f"{len(objects)} {kinds.pop()}s{end}: {', '.join(places)}"


# The objects before a hop.


def _present(context: UpgradeContext) -> Iterator[Reference]:
    installed = context.installed
    yield from (Reference(_CRD, name) for name in installed.crds)
    yield from (
        Reference(workload.kind, workload.name, workload.namespace) for workload in installed.workloads
    )
    yield from (
        Reference(configuration.kind, configuration.name) for configuration in installed.configurations
    )
    yield from (Reference("Service", service.name, service.namespace) for service in installed.services)
    yield from (Reference("Secret", secret.name, secret.namespace) for secret in installed.secrets)
    yield from (Reference(kind, name, namespace) for kind, namespace, name in installed.leftovers)
    if installed.controller_role:
        yield from controller_rbac(context.namespace)
    if installed.webhook_account:
        yield from _webhook_rbac(context, {"namespace": context.webhook_namespace(VALIDATION)})
    for kind in (VALIDATION, CONVERSION):  # this collection's webhooks have a budget, upstream's have none
        yield from (
            Reference("PodDisruptionBudget", workload.name, workload.namespace)
            for workload in installed.running(kind)
            if not workload.origin.key
        )


# The objects of a release's parts, named as in upstream's manifests.

Parameters = Mapping[str, Any]


def _snapshot_crds(_context: UpgradeContext, _given: Parameters) -> list[Reference]:
    return [Reference(_CRD, name) for name in crd_sets.names(SNAPSHOT)]


def _group_crds(_context: UpgradeContext, _given: Parameters) -> list[Reference]:
    return [Reference(_CRD, name) for name in crd_sets.names(GROUP)]


def controller_rbac(namespace: str) -> list[Reference]:
    """Return the RBAC objects of a controller in the namespace."""
    return [
        Reference("ServiceAccount", CONTROLLER_NAME, namespace),
        Reference("ClusterRole", f"{CONTROLLER_NAME}-runner"),
        Reference("ClusterRoleBinding", f"{CONTROLLER_NAME}-role"),
        Reference("Role", f"{CONTROLLER_NAME}-leaderelection", namespace),
        Reference("RoleBinding", f"{CONTROLLER_NAME}-leaderelection", namespace),
    ]


def _controller_rbac(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    return controller_rbac(given["namespace"])


def _webhook_rbac(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    return [
        Reference("ServiceAccount", "snapshot-webhook", given["namespace"]),
        Reference("ClusterRole", "snapshot-webhook-runner"),
        Reference("ClusterRoleBinding", "snapshot-webhook-role"),
    ]


def _controller(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    return [Reference("Deployment", CONTROLLER_NAME, given["namespace"])]


def _webhook(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    hook = get(given["release"]).webhook
    kinds = ("Deployment", "PodDisruptionBudget") if hook else ()
    return [Reference(kind, hook.deployment, given["namespace"]) for kind in kinds if hook]


def _webhook_service(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    hook = get(given["release"]).webhook
    return [Reference("Service", hook.service, given["namespace"])] if hook else []


def _configurations(_context: UpgradeContext, given: Parameters) -> list[Reference]:
    return [Reference(_CONFIGURATION, name) for name in given["failure_policies"]]


# For each part of a release: the function that returns its objects, and True if one line names all of them.
_PARTS: dict[str, tuple[Callable[[UpgradeContext, Parameters], list[Reference]], bool]] = {
    "crds": (_snapshot_crds, True),
    "group_crds": (_group_crds, True),
    "controller_rbac": (_controller_rbac, True),
    "controller": (_controller, False),
    "webhook_rbac": (_webhook_rbac, True),
    "webhook": (_webhook, False),
    "webhook_service": (_webhook_service, False),
    "webhook_configurations": (_configurations, False),
}


# The actions.


def _apply(state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    given = step.parameters
    for part in given["parts"]:
        objects_of, together = _PARTS[part]
        objects = objects_of(state.context, given)
        yield from _namespaces(state, step, objects)
        for some in [objects] if together else [[target] for target in objects]:
            yield from _put(state, step, some)


def _namespaces(state: _HopProgress, step: Step, objects: Iterable[Reference]) -> Iterator[PlanLine]:
    known = {
        *_NAMESPACES,
        *(target.namespace or target.name for target in state.present if _has_place(target)),
    }
    for place in dict.fromkeys(target.namespace for target in objects):
        if place and place not in known:
            made = Reference("Namespace", place)
            state.present.add(made)
            yield PlanLine(CREATE, f"{made}, if it does not exist", step.id, (made,))


def _has_place(target: Reference) -> bool:
    return bool(target.namespace) or target.kind == "Namespace"


def _put(state: _HopProgress, step: Step, objects: Sequence[Reference]) -> Iterator[PlanLine]:
    """Yield a line for the objects that exist, and one for the others."""
    new = tuple(target for target in objects if target not in state.present)
    old = tuple(target for target in objects if target in state.present)
    state.present.update(objects)
    release, details = step.parameters["release"], _details(step.parameters, objects[0])
    if new:
        yield PlanLine(CREATE, named(new, f" at {release}{details}"), step.id, new)
    if old:
        condition = ", if different" if state.is_repair else ""
        yield PlanLine(CHANGE, named(old, f" to {release}{details}{condition}"), step.id, old)


def _details(given: Parameters, target: Reference) -> str:
    if target.kind == _CONFIGURATION:
        return f", failurePolicy {given['failure_policies'][target.name]}"
    if target.kind == "Deployment" and given.get("arguments"):
        return f", arguments {' '.join(given['arguments'])}"
    if target.kind == _CRD and given.get("keep_unserved"):
        return f", which keep {', '.join(given['keep_unserved'])} as a version that is not served"
    if target.kind == "ServiceAccount" and given.get("nodes"):
        return ", with the permission to read nodes"
    return ""


def _certificate(state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    """Yield the request first, then the CA where it is needed, and the Secret last, which is the order of k8s_csr."""
    given = step.parameters
    secret = Reference("Secret", given["secret"], given["namespace"])
    service = Reference("Service", given["service"], given["namespace"])
    is_new, is_issued = secret not in state.present, secret in state.issued
    when = "" if is_new else ", if the certificate must be renewed"
    if not is_issued:
        yield PlanLine(CREATE, f"CertificateSigningRequest for {service}, and approve it{when}", step.id)
    for target in _targets(given["targets"]):
        yield PlanLine(CHANGE, f"{target}: caBundle, if the CA is not in it", step.id, (target,))
    if not is_issued:
        text = f"{secret}: certificate for {service}{when}"
        yield PlanLine(CREATE if is_new else CHANGE, text, step.id, (secret,))
    state.issued.add(secret)
    state.present.add(secret)


def _targets(given: Iterable[Mapping[str, str]]) -> list[Reference]:
    return [Reference(target["kind"], target["name"]) for target in given]


def _conversion_none(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    crd = Reference(_CRD, step.parameters["crd"])
    yield PlanLine(CHANGE, f"{crd}: conversion strategy None", step.id, (crd,))


def _conversion_webhook(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    crd, service = Reference(_CRD, step.parameters["crd"]), step.parameters["service"]
    called = Reference("Service", service["name"], service["namespace"])
    yield PlanLine(CHANGE, f"{crd}: conversion webhook {called}, with its caBundle", step.id, (crd,))


# For each CRD: the kind of its objects, the ending of the plural, their number in StoredGroupSnapshots, and their list.
_STORED = {
    GROUP_CRDS[0]: ("VolumeGroupSnapshotClass", "es", "classes", "group_classes"),
    GROUP_CRDS[1]: ("VolumeGroupSnapshotContent", "s", "contents", "group_contents"),
    GROUP_CRDS[2]: ("VolumeGroupSnapshot", "s", "snapshots", "group_snapshots"),
}


def _migrate_storage(state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    crd, version = Reference(_CRD, step.parameters["crd"]), step.parameters["version"]
    kind, plural, counted, listed = _STORED[crd.name]
    installed = state.context.installed
    stored = installed.groups
    count = {"classes": stored.classes, "contents": stored.contents, "snapshots": stored.snapshots}[counted]
    if listed in installed.unreadable:
        yield PlanLine(CHANGE, f"every {kind}: stored again at {version}", step.id)
    elif count:
        what = f"{count} {kind}{plural if count > 1 else ''}"
        yield PlanLine(CHANGE, f"{what}: stored again at {version}", step.id)
    yield PlanLine(CHANGE, f"{crd}: status.storedVersions [{version}]", step.id, (crd,))


def _narrow_rules(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    configuration = Reference(_CONFIGURATION, step.parameters["name"])
    every = [rule for rules in step.parameters["rules"].values() for rule in rules]
    resources = sorted({resource for rule in every for resource in rule["resources"]})
    text = f"rules for {', '.join(resources)} only" if resources else "no rules"
    yield PlanLine(CHANGE, f"{configuration}: {text}", step.id, (configuration,))


def _failure_policy(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    objects = tuple(Reference(_CONFIGURATION, name) for name in step.parameters["names"])
    yield PlanLine(CHANGE, f"{named(objects)}: failurePolicy {step.parameters['policy']}", step.id, objects)


def _delete(state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    """Yield one line for each kind. Objects without a name have a line of their own."""
    groups: dict[tuple[str, str], list[Reference]] = {}
    for entry in step.parameters["objects"]:
        if "name" not in entry:
            label = entry["label_selector"]
            text = f"{entry['kind']}s of namespace {entry['namespace']} with label {label}, and their pods"
            yield PlanLine(DELETE, text, step.id)
            continue
        condition = ", if no object of it exists" if entry.get("only_if_empty") else ""
        condition = ", if nothing else uses it" if entry.get("only_used_by") else condition
        target = Reference(entry["kind"], entry["name"], entry.get("namespace") or "")
        groups.setdefault((target.kind, condition), []).append(target)
    for (_kind, condition), objects in groups.items():
        state.present.difference_update(objects)
        yield PlanLine(DELETE, f"{named(objects)}{condition}", step.id, tuple(objects))


def _orphan(state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    deployment = Reference("Deployment", step.parameters["name"], step.parameters["namespace"])
    if deployment in state.present:
        state.present.discard(deployment)
        yield PlanLine(DELETE, f"{deployment}, but keep its pods", step.id, (deployment,))
    yield PlanLine(CHANGE, f"ReplicaSets and pods of {deployment}: labels", step.id)


def _switch_service(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    given = step.parameters
    service = Reference("Service", given["name"], given["namespace"])
    selector = ", ".join(f"{key}={value}" for key, value in given["selector"].items())
    port = f", target port {given['target_port']}" if given.get("target_port") else ""
    yield PlanLine(CHANGE, f"{service}: selector {selector}{port}", step.id, (service,))


def _reconnect(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    yield from _reconnected(step, _targets(step.parameters["targets"]), "")


def _reconnected(step: Step, targets: Iterable[Reference], when: str) -> Iterator[PlanLine]:
    for target in targets:
        text = f"{target}: line breaks at the end of caBundle, which make the API servers reconnect{when}"
        yield PlanLine(CHANGE, text, step.id, (target,))


def _wait_available(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    given = step.parameters
    yield from _reconnected(step, _targets(given.get("reconnect") or ()), " while old pods end")
    deployment = Reference("Deployment", given["name"], given["namespace"])
    yield PlanLine(VERIFY, f"that the pods of {deployment} become ready", step.id)


def _watch_pods(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    given = step.parameters
    deployment = Reference("Deployment", given["name"], given["namespace"])
    yield PlanLine(VERIFY, f"that the pods of {deployment} stay ready for {given['seconds']} s", step.id)


def _verify(_state: _HopProgress, step: Step) -> Iterator[PlanLine]:
    yield PlanLine(VERIFY, _SUBJECTS[step.parameters["subject"]](step.parameters), step.id)


_REFUSED = {
    "empty-class": "a VolumeSnapshot with an empty class name",
    "empty-reference": "a VolumeSnapshotContent with an empty reference",
    "second-default-class": "a second default VolumeSnapshotClass of a driver",
}


def _webhook_check(given: Parameters) -> str:
    test = f"{Reference(_CONFIGURATION, given['name'])}, dry run"
    if given["check"] == "second-default-class":
        test += "; it creates and deletes a test VolumeSnapshotClass if no driver has a default class"
    return f"that the webhook refuses {_REFUSED[given['check']]} ({test})"


def _processed(kind: str) -> Callable[[Parameters], str]:
    return lambda given: (
        f"that the controller processes a {kind} "
        f"(it creates and deletes a test object in namespace {given['namespace']})"
    )


_SUBJECTS: dict[str, Callable[[Parameters], str]] = {
    "webhook": _webhook_check,
    "conversion": lambda given: (
        f"that the webhook converts an object of {given['version']} ({Reference(_CRD, given['name'])}, dry run)"
    ),
    "schema": lambda _given: (
        "that the CustomResourceDefinitions refuse objects that break their rules (dry runs)"
    ),
    "version": lambda given: (
        f"that the pods of Deployment {given['namespace']}/{given['name']} run {given['release']}"
    ),
    "controller": _processed("VolumeSnapshot"),
    "groups": _processed("VolumeGroupSnapshot"),
}

_ACTIONS: dict[str, Callable[[_HopProgress, Step], Iterator[PlanLine]]] = {
    "apply": _apply,
    "certificate": _certificate,
    "conversion_none": _conversion_none,
    "conversion_webhook": _conversion_webhook,
    "delete": _delete,
    "orphan": _orphan,
    "failure_policy": _failure_policy,
    "migrate_storage": _migrate_storage,
    "narrow_rules": _narrow_rules,
    "reconnect": _reconnect,
    "switch_service": _switch_service,
    "verify": _verify,
    "wait_available": _wait_available,
    "watch_pods": _watch_pods,
}
