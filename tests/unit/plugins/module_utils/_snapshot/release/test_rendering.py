# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the objects that are rendered from a release's manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    pod_templates,
    rendering,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.pod_templates import (
    ReleaseParts,
    ReleaseSettings,
)

from tests.support.failures import fails

Object = dict[str, Any]

DEPLOY = "deploy/kubernetes"
CERTS = "/etc/snapshot-validation-webhook/certs"


def _workload(name: str, namespace: str, container: Object) -> Object:
    labels = {"app": name}
    pod = {"containers": [container], "volumes": [{"name": "certs", "secret": {"secretName": "old"}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        "status": {},
    }  # fmt: skip


def files() -> dict[str, str]:
    """Return the files of a minimal release, in JSON, which is YAML too."""
    controller = {
        "name": "snapshot-controller",
        "image": "gcr.io/k8s-staging-sig-storage/snapshot-controller:v5.0.1",
        "args": ["--v=5", "--leader-election=true"],
    }
    hook = {
        "name": "hook",
        "image": "k8s.gcr.io/sig-storage/snapshot-validation-webhook:v4.0.0",
        "args": [f"--tls-cert-file={CERTS}/cert.pem", f"--tls-private-key-file={CERTS}/key.pem"],
    }
    service = {
        "kind": "Service",
        "metadata": {"name": "hook", "namespace": "default"},
        "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 443}]},
    }
    config = {"service": {"namespace": "default", "name": "hook"}, "caBundle": "${CA_BUNDLE}"}
    configurations = [
        {
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{"name": name, "clientConfig": config, "failurePolicy": "Ignore"}],
        }
        for name in ("snapshots", "groups")
    ]
    rbac = [
        {
            "kind": "ClusterRole",
            "metadata": {"name": "runner"},
            "rules": [{"resources": ["events"], "verbs": ["create"]}],
        },
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "role"},
            "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": "kube-system"}],
        },
    ]
    crd = {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "contents"},
        "spec": {
            "conversion": {"strategy": "Webhook"},
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
        "status": {"storedVersions": []},
    }
    return {
        "client/config/crd/groupsnapshot.storage.k8s.io_contents.yaml": _documents(crd),
        f"{DEPLOY}/snapshot-controller/rbac-snapshot-controller.yaml": _documents(*rbac),
        f"{DEPLOY}/snapshot-controller/setup-snapshot-controller.yaml": _documents(
            _workload("controller", "kube-system", controller)
        ),
        f"{DEPLOY}/webhook-example/webhook.yaml": _documents(_workload("hook", "default", hook), service),
        f"{DEPLOY}/webhook-example/admission-configuration-template": _documents(*configurations),
    }


def _documents(*objects: Object) -> str:
    return "\n---\n".join(json.dumps(obj) for obj in objects)


def render(*parts: str, settings: ReleaseSettings | None = None, **parameters: Any) -> list[Object]:
    given = {"release": "6.2.2", "namespace": "storage", "parts": list(parts), **parameters}
    return rendering.render(files(), ReleaseParts(**given), settings or ReleaseSettings(kubernetes=(1, 36)))


def at(obj: Any, path: str) -> Any:
    """Return a field by its path. Numbers are indexes of lists."""
    for word in path.split("."):
        obj = obj[int(word)] if isinstance(obj, list) else obj.get(word)
        if obj is None:
            return None
    return obj


POD = "spec.template.spec"
BOX = f"{POD}.containers.0"
IMAGE = "registry.k8s.io/sig-storage/snapshot-controller:v6.2.2"
DIGEST = f"sha256:{'0' * 64}"
# What it shows: the part, which of its objects, what the step and the user say beside, and a field of the object.
CASES: dict[str, tuple[str, int, Object, ReleaseSettings, str, Any]] = {
    "the image is the release's own, from the registry of today": ("controller", 0, {}, ReleaseSettings(), f"{BOX}.image", IMAGE),
    "from a mirror, with a digest": (
        "controller", 0, {},
        ReleaseSettings(registry="mirror.example/a/", digests={"snapshot-controller:v6.2.2": DIGEST}),
        f"{BOX}.image", f"mirror.example/a/snapshot-controller:v6.2.2@{DIGEST}",
    ),
    "a digest of another release is not taken": (
        "controller", 0, {}, ReleaseSettings(digests={"snapshot-controller:v7.0.2": DIGEST}), f"{BOX}.image", IMAGE,
    ),
    "the namespace": ("controller", 0, {}, ReleaseSettings(), "metadata.namespace", "storage"),
    "of a binding's subject": ("controller_rbac", 1, {}, ReleaseSettings(), "subjects.0.namespace", "storage"),
    "of the Service that is called": ("webhook_configurations", 0, {}, ReleaseSettings(), "webhooks.0.clientConfig.service.namespace", "storage"),
    "no status": ("controller", 0, {}, ReleaseSettings(), "status", None),
    "no caBundle": ("webhook_configurations", 0, {}, ReleaseSettings(), "webhooks.0.clientConfig.caBundle", None),
    "no conversion stanza": ("group_crds", 0, {}, ReleaseSettings(), "spec.conversion", None),
    "an argument that is given again replaces the manifest's": (
        "controller", 0, {"arguments": ["--v=2", "--metrics-path=/m"]}, ReleaseSettings(), f"{BOX}.args",
        ["--leader-election=true", "--v=2", "--metrics-path=/m"],
    ),
    "the release is a label of the pods": (
        "controller", 0, {}, ReleaseSettings(), "spec.template.metadata.labels", {"app": "controller", "app.kubernetes.io/version": "6.2.2"},
    ),
    "and not of the selector": ("controller", 0, {}, ReleaseSettings(), "spec.selector.matchLabels", {"app": "controller"}),
    "the user's replicas": ("controller", 0, {}, ReleaseSettings(deployments={"controller": {"spec": {"replicas": 5}}}), "spec.replicas", 5),
    "the webhook's variables are not the controller's": (
        "controller", 0, {}, ReleaseSettings(deployments={"webhook": {"spec": {"replicas": 5}}}), "spec.replicas", 1,
    ),
    "resources": (
        "webhook", 0, {}, ReleaseSettings(deployments={"webhook": {"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}}}}}), f"{BOX}.resources", {"limits": {"cpu": "1"}},
    ),
    "nodes may be read where that is asked for": ("controller_rbac", 0, {"nodes": True}, ReleaseSettings(), "rules.1.resources", ["nodes"]),
    "and not otherwise": ("controller_rbac", 0, {}, ReleaseSettings(), "rules", [{"resources": ["events"], "verbs": ["create"]}]),
    "a webhook has two replicas at least": ("webhook", 0, {}, ReleaseSettings(), "spec.replicas", pod_templates.FEWEST_REPLICAS),
    "its port": ("webhook", 0, {}, ReleaseSettings(port=9443), f"{BOX}.readinessProbe.httpGet.port", 9443),
    "that of its Service": ("webhook_service", 0, {}, ReleaseSettings(port=9443), "spec.ports.0.targetPort", 9443),
    "its pods wait before they end": (
        "webhook", 0, {}, ReleaseSettings(kubernetes=(1, 30)), f"{BOX}.lifecycle.preStop.sleep.seconds", pod_templates.DRAIN_SECONDS,
    ),
    "where Kubernetes knows that": ("webhook", 0, {}, ReleaseSettings(kubernetes=(1, 29)), f"{BOX}.lifecycle", None),
    "and nobody ends them earlier": (
        "webhook", 0, {}, ReleaseSettings(kubernetes=(1, 30)), f"{POD}.terminationGracePeriodSeconds", pod_templates.DRAIN_SECONDS + 30,
    ),
    "no pod goes before its successor serves": (
        "webhook", 0, {}, ReleaseSettings(), "spec.strategy.rollingUpdate", {"maxSurge": "100%", "maxUnavailable": 0},
    ),
    "but on the host's network, where there is no room": (
        "webhook", 0, {}, ReleaseSettings(host_network=True), "spec.strategy.rollingUpdate", {"maxSurge": 0, "maxUnavailable": 1},
    ),
    "there the cluster's DNS goes on": ("webhook", 0, {}, ReleaseSettings(host_network=True), f"{POD}.dnsPolicy", "ClusterFirstWithHostNet"),
    "the webhook's system calls": ("webhook", 0, {}, ReleaseSettings(), f"{POD}.securityContext.seccompProfile", {"type": "RuntimeDefault"}),
    "not root": ("webhook", 0, {}, ReleaseSettings(), f"{POD}.securityContext.runAsNonRoot", True),
    "the controller as upstream has it": ("controller", 0, {}, ReleaseSettings(), f"{POD}.securityContext", None),
    "the Secret": ("webhook", 0, {"secret": "new-tls"}, ReleaseSettings(), f"{POD}.volumes.0.secret.secretName", "new-tls"),
    "whose keys are those of kubernetes.io/tls": (
        "webhook", 0, {}, ReleaseSettings(), f"{BOX}.args",
        [f"--tls-cert-file={CERTS}/tls.crt", f"--tls-private-key-file={CERTS}/tls.key", "--port=8443"],
    ),
    "a drained node takes one pod at a time": ("webhook", 1, {}, ReleaseSettings(), "spec", {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "hook"}}}),
    "only the configurations that are named": (
        "webhook_configurations", 0, {"failure_policies": {"groups": "Fail"}}, ReleaseSettings(), "metadata.name", "groups",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_render(case: str) -> None:
    part, index, parameters, settings, path, value = CASES[case]
    assert at(render(part, settings=settings, **parameters)[index], path) == value


def test_parts_come_in_the_order_that_the_step_names() -> None:
    made = [obj["kind"] for obj in render("webhook", "controller_rbac", "webhook_service")]
    assert made == ["Deployment", "PodDisruptionBudget", "ClusterRole", "ClusterRoleBinding", "Service"]


def test_a_part_that_the_release_does_not_have() -> None:
    with fails("invalid-step", "6.2.2", "crds"):
        render("crds")


def _policies(given: Object, live: Object | None) -> list[str]:
    obj = render("webhook_configurations")[0]
    return [
        hook["failurePolicy"]
        for hook in rendering.keeping(obj, live, ReleaseParts("6.2.2", [], **given))["webhooks"]
    ]


LIVE = {"webhooks": [{"name": "snapshots", "failurePolicy": "Fail"}]}


@pytest.mark.parametrize(
    ("given", "live", "policy"),
    [
        ({}, None, "Ignore"),
        ({}, LIVE, "Fail"),
        ({"failure_policies": {"snapshots": "Ignore"}}, LIVE, "Ignore"),
        ({"failure_policies": {"snapshots": "Fail"}}, None, "Fail"),
        ({"failure_policies": {"groups": "Ignore"}}, LIVE, "Fail"),
    ],
)
def test_a_failure_policy_is_the_steps_or_the_present_one_or_ignore(
    given: Object, live: Object | None, policy: str
) -> None:
    assert _policies(given, live) == [policy]


@pytest.mark.parametrize(
    ("keep", "live", "listed"),
    [
        ([], ["v1alpha1", "v1"], ["v1"]),
        (["v1alpha1"], ["v1alpha1", "v1"], ["v1", "v1alpha1"]),
        (["v1alpha1"], ["v1beta1"], ["v1"]),
        (["v1"], ["v1"], ["v1"]),
    ],
)
def test_versions_that_stay_listed(keep: list[str], live: list[str], listed: list[str]) -> None:
    (obj,) = render("group_crds")
    versions = [{"name": name, "served": True, "storage": True, "schema": {"of": name}} for name in live]
    wanted = ReleaseParts("6.2.2", [], keep_unserved=keep)
    kept = rendering.keeping(obj, {"spec": {"versions": versions}}, wanted)["spec"]["versions"]
    assert [entry["name"] for entry in kept] == listed
    for item in kept[1:]:
        assert (item["served"], item["storage"], item["schema"]) == (False, False, {"of": item["name"]})


@pytest.mark.parametrize(("upstream", "replicas"), [(None, 2), (1, 2), (3, 3)])
def test_a_webhook_keeps_more_replicas_than_the_fewest(upstream: int | None, replicas: int) -> None:
    obj: dict[str, Any] = {"spec": {"replicas": upstream, "template": {"spec": {}}}}
    pod_templates._harden(obj, {}, ReleaseSettings())
    assert obj["spec"]["replicas"] == replicas
