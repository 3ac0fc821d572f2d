# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Define the steps of a plan: their fields, their actions and the parameters of each action. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepParameter:
    """One parameter of an action."""

    name: str
    meaning: str
    required: bool = True


@dataclass(frozen=True)
class StepAction:
    """One kind of step. An action can be repeated: what exists already is no change."""

    name: str
    meaning: str
    parameters: tuple[StepParameter, ...]


@dataclass(frozen=True)
class Step:
    """One step of a hop.

    id: a stable word, unique within its hop.
    title: an imperative sentence without its full stop.
    reason: sentences that say why the step is needed, and why at this place.
    action: the name of an action of ACTIONS.
    parameters: the parameters that the action has in ACTIONS.
    hazards: the ids of the rows of _hazards that this step answers.
    """

    id: str
    title: str
    reason: str
    action: str
    parameters: Mapping[str, Any]
    hazards: tuple[str, ...] = ()


# The parts of a release by their names in a step, with upstream's objects.
PARTS: dict[str, str] = {
    "crds": "the three VolumeSnapshot CustomResourceDefinitions",
    "group_crds": "the three VolumeGroupSnapshot CustomResourceDefinitions",
    "controller_rbac": "the controller's ServiceAccount, ClusterRole, Role and their bindings",
    "controller": "the controller's Deployment",
    "webhook_rbac": "the validation webhook's ServiceAccount, ClusterRole and binding (6.0 to 8.1)",
    "webhook": "the webhook's Deployment and PodDisruptionBudget: validation to 8.1, conversion from 8.4",
    "webhook_service": "the webhook's Service, with the selector of a fresh installation",
    "webhook_configurations": "the ValidatingWebhookConfigurations, without caBundle",
}

_NAMESPACE = StepParameter("namespace", "namespace of the object")
_NAME = StepParameter("name", "name of the object")
_CRD = StepParameter("crd", "name of the CustomResourceDefinition")

ACTIONS: tuple[StepAction, ...] = (
    StepAction(
        "apply",
        "Apply objects of a release by server-side apply. CustomResourceDefinitions are applied without spec.conversion, and "
        "the step waits until they are Established.",
        (
            StepParameter("release", "release whose manifests are applied"),
            StepParameter("parts", "names of PARTS, in the order in which they are applied"),
            StepParameter("namespace", "namespace of the namespaced objects", required=False),
            StepParameter(
                "arguments",
                "arguments in addition to the manifest's own (controller, webhook)",
                required=False,
            ),
            StepParameter("secret", "name of the Secret that the webhook mounts", required=False),
            StepParameter(
                "failure_policies",
                "failurePolicy by the name of the ValidatingWebhookConfiguration; others are not applied",
                required=False,
            ),
            StepParameter(
                "nodes",
                "whether the controller gets the permission to read nodes (distributed snapshotting)",
                required=False,
            ),
            StepParameter(
                "keep_unserved",
                "versions of the cluster's CustomResourceDefinitions that stay listed with their schemas, not served and "
                "not stored",
                required=False,
            ),
        ),
    ),
    StepAction(
        "conversion_none",
        "Set spec.conversion to {strategy: None} by JSON patch, and read it back.",
        (_CRD,),
    ),
    StepAction(
        "conversion_webhook",
        "Set spec.conversion to a webhook by JSON patch, with its caBundle in the same write.",
        (
            _CRD,
            StepParameter("service", "{namespace, name, path, port} of the webhook"),
            StepParameter("secret", "{namespace, name} of the Secret whose ca.crt is the caBundle"),
        ),
    ),
    StepAction(
        "migrate_storage",
        "Write every object back at the storage version, then set status.storedVersions to it. The step stops before that if "
        "the API server refuses an object.",
        (
            _CRD,
            StepParameter("version", "storage version"),
            StepParameter(
                "settle_seconds",
                "seconds to wait until every API server knows a new storage version, 10 by default",
                required=False,
            ),
        ),
    ),
    StepAction(
        "narrow_rules",
        "Replace the rules of a ValidatingWebhookConfiguration, and nothing else of it.",
        (_NAME, StepParameter("rules", "rules by the name of the webhook")),
    ),
    StepAction(
        "failure_policy",
        "Set the failurePolicy of every webhook in ValidatingWebhookConfigurations.",
        (StepParameter("names", "names of the configurations"), StepParameter("policy", "Ignore or Fail")),
    ),
    StepAction(
        "delete",
        "Delete objects in this order, and pass over those that do not exist. For a ReplicaSet, wait until its pods are gone.",
        (
            StepParameter(
                "objects",
                "list of {kind, namespace, name}, or with label_selector instead of name. only_if_empty: refuse a "
                "CustomResourceDefinition that has objects. For a Secret: only_used_by, the program whose pods may mount it, "
                "and resource_version, the planned version. A Secret that differs is kept",
            ),
        ),
    ),
    StepAction(
        "certificate",
        "Issue a certificate for the Service into the Secret, and add its CA to the targets (module k8s_csr).",
        (
            _NAMESPACE,
            StepParameter("service", "name of the Service"),
            StepParameter("secret", "name of the Secret, of type kubernetes.io/tls with ca.crt"),
            StepParameter("targets", "targets of k8s_csr, empty if none exists yet"),
        ),
    ),
    StepAction(
        "orphan",
        "Delete the Deployment and keep its pods. Its ReplicaSets become orphans. They and the pods get the label "
        "certflow.kubernetes/detached with the Deployment's name, and lose the labels by which a new Deployment would adopt "
        "them.",
        (_NAMESPACE, _NAME),
    ),
    StepAction(
        "switch_service",
        "Replace the selector of the Service, and wait until its EndpointSlices list only pods that it selects.",
        (
            _NAMESPACE,
            _NAME,
            StepParameter("selector", "new selector"),
            StepParameter("target_port", "new target port of its port, in the same write", required=False),
        ),
    ),
    StepAction(
        "reconnect",
        "Change the number of line breaks at the end of the caBundles, so that every API server opens new connections.",
        (StepParameter("targets", "{kind, name} of the objects"),),
    ),
    StepAction(
        "wait_available",
        "Wait until every replica of the newest template is available and no older pod of the Deployment is left.",
        (
            _NAMESPACE,
            _NAME,
            StepParameter(
                "reconnect",
                "targets of a reconnect whenever old pods begin to end, while they still serve",
                required=False,
            ),
        ),
    ),
    StepAction(
        "watch_pods",
        "Watch the pods of the newest template after the Service selects them: they must stay ready and not restart.",
        (
            _NAMESPACE,
            _NAME,
            StepParameter("seconds", "time in seconds"),
        ),
    ),
    StepAction(
        "verify",
        "Verify that it works, by a result that nothing else can produce.",
        (
            StepParameter("subject", "webhook, conversion, schema, controller, groups or version"),
            StepParameter("namespace", "namespace of the controller and of test objects", required=False),
            StepParameter(
                "name",
                "name of the Deployment, ValidatingWebhookConfiguration or CustomResourceDefinition",
                required=False,
            ),
            StepParameter("release", "expected release", required=False),
            StepParameter(
                "check",
                "object that the webhook must refuse: empty-class, second-default-class or empty-reference",
                required=False,
            ),
            StepParameter(
                "version", "version of the test object for a conversion, not the stored one", required=False
            ),
            StepParameter("timeout", "maximum time in seconds", required=False),
            StepParameter(
                "pods_of",
                "{namespace, name} of the webhook's Deployment; the step fails at once if one of its pods does not stay up",
                required=False,
            ),
        ),
    ),
)

# A label of pods. It tells the pods of a release from older ones while both run under one Service.
RELEASE_LABEL = "app.kubernetes.io/version"
# A label of a webhook's pods. It tells the pods with another port of the same release apart.
PORT_LABEL = "certflow.kubernetes/port"
ORPHAN_LABEL = "certflow.kubernetes/detached"

_BY_NAME = {action.name: action for action in ACTIONS}


def faults(step: Step) -> list[str]:
    """Return the errors in the form of a step, [] if it can be carried out."""
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
    """Return a step as results carry it. hop: the release that its hop leads to."""
    return {**asdict(step), "hazards": list(step.hazards), "hop": hop}
