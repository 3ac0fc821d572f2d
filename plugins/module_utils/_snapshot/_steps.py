# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a step of a plan is, and the words for what it does: the language between who plans and who acts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One parameter of an action."""

    name: str
    meaning: str
    required: bool = True


@dataclass(frozen=True)
class Action:
    """One word of the language. Doing it twice is doing it once; what is there already is no change."""

    name: str
    meaning: str
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Step:
    """One thing to do, and why.

    id: a stable word, unique within its hop. title: what is done, in a few words. reason: why, and why now - for
    somebody who reads it at night. parameters: those that ACTIONS has for the action.
    hazards: ids of the rows of _hazards that this step is the answer to.
    """

    id: str
    title: str
    reason: str
    action: str
    parameters: Mapping[str, Any]
    hazards: tuple[str, ...] = ()


# What a release's objects are called in a step, and which they are upstream.
PARTS: dict[str, str] = {
    "crds": "the three VolumeSnapshot CustomResourceDefinitions",
    "group_crds": "the three VolumeGroupSnapshot CustomResourceDefinitions",
    "controller_rbac": "the controller's ServiceAccount, ClusterRole, Role and their bindings",
    "controller": "the controller's Deployment",
    "webhook_rbac": "the validation webhook's ServiceAccount, ClusterRole and binding (6.0 to 8.1)",
    "webhook": "the webhook's Deployment and PodDisruptionBudget: validation to 8.1, conversion from 8.4",
    "webhook_service": "the webhook's Service, with the selector that a fresh install has",
    "webhook_configurations": "the ValidatingWebhookConfigurations, without caBundle",
}

_NAMESPACE = Parameter("namespace", "the namespace")
_NAME = Parameter("name", "the object's name")
_CRD = Parameter("crd", "the CustomResourceDefinition's name")

ACTIONS: tuple[Action, ...] = (
    Action(
        "apply",
        "server-side apply of a release's objects; CustomResourceDefinitions without spec.conversion, and until Established",
        (
            Parameter("release", "whose files"),
            Parameter("parts", "which of PARTS"),
            Parameter("namespace", "the namespace of what has one", required=False),
            Parameter(
                "arguments", "arguments beside the manifest's own (controller, webhook)", required=False
            ),
            Parameter("secret", "the Secret that the webhook mounts", required=False),
            Parameter(
                "failure_policies",
                "which ValidatingWebhookConfigurations, and the failurePolicy of each",
                required=False,
            ),
            Parameter(
                "nodes", "whether the controller may read nodes (distributed snapshotting)", required=False
            ),
            Parameter(
                "keep_unserved",
                "versions of the cluster's own CustomResourceDefinitions that stay listed, unserved and not stored, with "
                "their schemas",
                required=False,
            ),
        ),
    ),
    Action(
        "conversion_none",
        "spec.conversion becomes {strategy: None}, by JSON patch, and is read back",
        (_CRD,),
    ),
    Action(
        "conversion_webhook",
        "spec.conversion becomes a webhook, by JSON patch, with a caBundle in the same write",
        (
            _CRD,
            Parameter("service", "{namespace, name, path, port} of the webhook"),
            Parameter("secret", "{namespace, name} of the Secret whose ca.crt is the caBundle"),
        ),
    ),
    Action(
        "migrate_storage",
        "every object is written back at the storage version, then status.storedVersions names it alone; one refused "
        "object ends it before that",
        (
            _CRD,
            Parameter("version", "the storage version"),
            Parameter(
                "settle_seconds", "until every API server knows a new storage version; 10", required=False
            ),
        ),
    ),
    Action(
        "narrow_rules",
        "the rules of a ValidatingWebhookConfiguration are replaced, and nothing else of it",
        (_NAME, Parameter("rules", "webhook's name to its rules")),
    ),
    Action(
        "failure_policy",
        "the failurePolicy of every webhook in ValidatingWebhookConfigurations",
        (Parameter("names", "their names"), Parameter("policy", "Ignore or Fail")),
    ),
    Action(
        "delete",
        "objects are deleted in this order, those that are gone already passed over; of a ReplicaSet until its pods are gone",
        (
            Parameter(
                "objects",
                "{kind, namespace, name}, or label_selector instead of name; only_if_empty: refused while a "
                "CustomResourceDefinition has objects; of a Secret: only_used_by, the program whose pods may mount it, and "
                "resource_version, the planned version; a Secret that differs is kept",
            ),
        ),
    ),
    Action(
        "certificate",
        "a certificate for the Service in the Secret, its CA on the targets (module k8s_csr)",
        (
            _NAMESPACE,
            Parameter("service", "the Service's name"),
            Parameter("secret", "the Secret's name, of type kubernetes.io/tls, with ca.crt"),
            Parameter("targets", "k8s_csr's targets; empty while there are none"),
        ),
    ),
    Action(
        "detach",
        "the Deployment is deleted and its pods stay: its ReplicaSets are orphaned, labelled "
        "certflow.kubernetes/detached with the Deployment's name, as its pods are, and lose the labels by which a new one would adopt them",
        (_NAMESPACE, _NAME),
    ),
    Action(
        "switch_service",
        "the Service's selector is replaced; done when its EndpointSlices name only pods that it selects",
        (
            _NAMESPACE,
            _NAME,
            Parameter("selector", "the new selector"),
            Parameter("target_port", "where its port leads from then on, in the same write", required=False),
        ),
    ),
    Action(
        "reconnect",
        "the caBundles get another number of line breaks, so that every API server opens new connections",
        (Parameter("targets", "{kind, name} of the objects"),),
    ),
    Action(
        "wait_available",
        "until every replica of the newest template is available, and no other is left of this Deployment",
        (
            _NAMESPACE,
            _NAME,
            Parameter(
                "reconnect",
                "targets that are reconnected whenever pods begin to end, while they still serve",
                required=False,
            ),
        ),
    ),
    Action(
        "watch_pods",
        "the pods of the newest template stay ready and do not restart, for a time after the Service leads to them",
        (
            _NAMESPACE,
            _NAME,
            Parameter("seconds", "how long they are watched"),
        ),
    ),
    Action(
        "verify",
        "that it works, by what only it can do",
        (
            Parameter("subject", "webhook, conversion, schema, controller, groups or version"),
            Parameter("namespace", "where", required=False),
            Parameter(
                "name",
                "which Deployment, ValidatingWebhookConfiguration or CustomResourceDefinition",
                required=False,
            ),
            Parameter("release", "which release it has to be", required=False),
            Parameter("check", "how: empty-class, second-default-class, empty-reference", required=False),
            Parameter("version", "conversion: the version that is not stored", required=False),
            Parameter("timeout", "seconds that it may take at the most", required=False),
        ),
    ),
)

# What the role asks beside a plan's steps: from the first to the last of its writes no other run of it is at work.
TAKE_TURN, END_TURN = "take_turn", "end_turn"

# The label of pods by which a Service tells those of a release from older ones while both run.
RELEASE_LABEL = "app.kubernetes.io/version"
# The same of a webhook's pods, for another port of the same release.
PORT_LABEL = "certflow.kubernetes/port"
DETACHED_LABEL = "certflow.kubernetes/detached"

_BY_NAME = {action.name: action for action in ACTIONS}


def faults(step: Step) -> list[str]:
    """What is wrong with the form of a step; empty where it can be acted on."""
    action = _BY_NAME.get(step.action)
    if action is None:
        return [f"{step.id}: no action {step.action}"]
    known = {parameter.name for parameter in action.parameters}
    needed = {parameter.name for parameter in action.parameters if parameter.required}
    given = set(step.parameters)
    return [f"{step.id}: {step.action} has no parameter {name}" for name in sorted(given - known)] + [
        f"{step.id}: {step.action} needs {name}" for name in sorted(needed - given)
    ]


def as_dict(step: Step, hop: str) -> dict[str, Any]:
    """A step as results carry it; hop: the release that its hop leads to."""
    return {**asdict(step), "hazards": list(step.hazards), "hop": hop}
