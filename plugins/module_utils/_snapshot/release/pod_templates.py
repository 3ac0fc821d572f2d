# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The pods of the controller and of the webhooks: upstream's, with the user's variables and what upstream's lack. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..plan.step_types import PORT_LABEL, RELEASE_LABEL
from .settings import DeploymentSettings, ReleaseSettings

# How long a webhook goes on serving after it was told to end: its programs stop at once, with calls that are under way
# (external-snapshotter pkg/*-webhook: tls.Listen without Shutdown). In that time the API servers are made to dial anew,
# once all new pods are available; those start together, so that they are within a few seconds of each other.
DRAIN_SECONDS = 30
# lifecycle.preStop.sleep (KEP-3960) is on by default from here; older API servers do not know the field.
SLEEP_SINCE = (1, 30)
# No user of the image: it has none. Any but root will do, as the programs write no file.
USER = 65532
FEWEST_REPLICAS = 2

Object = dict[str, Any]


def deployment(part: str, obj: Object, parameters: Mapping[str, Any], settings: ReleaseSettings) -> Object:
    """Return upstream's Deployment as it is wanted; ``part``: "controller" or "webhook"."""
    original = _original(obj, settings)
    if original is not None:
        return _put_back(part, original, parameters, settings)
    workload = settings.controller if part == "controller" else settings.webhook
    spec, template = obj["spec"], obj["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["image"] = image(container["image"], parameters["release"], settings)
    arguments = parameters.get("arguments") or ()
    if part == "webhook":
        arguments = (f"--port={settings.port}", *arguments)
        _harden(obj, container, workload, settings)
        _mount(template["spec"], container, parameters.get("secret"))
    container["args"] = merged(container["args"], arguments)
    _metadata(obj["metadata"], workload, {})
    port = {PORT_LABEL: str(settings.port)} if part == "webhook" else {}
    _metadata(template["metadata"], workload, {RELEASE_LABEL: parameters["release"], **port})
    _place(template["spec"], container, workload, settings)
    if workload.replicas is not None:
        spec["replicas"] = workload.replicas
    if workload.min_ready_seconds is not None:
        spec["minReadySeconds"] = workload.min_ready_seconds
    return obj


def _original(obj: Object, settings: ReleaseSettings) -> Mapping[str, Any] | None:
    def place(one: Mapping[str, Any]) -> tuple[Any, Any]:
        return one["metadata"].get("namespace"), one["metadata"]["name"]

    return next((one for one in settings.originals if place(one) == place(obj)), None)


def _put_back(
    part: str, original: Mapping[str, Any], parameters: Mapping[str, Any], settings: ReleaseSettings
) -> Object:
    """The Deployment as it was; its pods carry the labels by which a Service tells them from those that failed."""
    template = original["spec"]["template"]
    port = {PORT_LABEL: str(settings.port)} if part == "webhook" else {}
    labels = {**(template["metadata"].get("labels") or {}), RELEASE_LABEL: parameters["release"], **port}
    metadata = {
        key: original["metadata"][key]
        for key in ("name", "namespace", "labels", "annotations")
        if key in original["metadata"]
    }
    spec = {
        **original["spec"],
        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
    }
    return {
        "apiVersion": original["apiVersion"],
        "kind": original["kind"],
        "metadata": metadata,
        "spec": spec,
    }


def image(upstream: str, release: str, settings: ReleaseSettings) -> str:
    """Return where the program of that release is: registry/snapshot-controller:v8.7.0, with @sha256:... if given."""
    program = upstream.rpartition("/")[2].partition(":")[0]
    tagged = f"{program}:v{release}"
    digest = settings.images.digests.get(tagged)
    return f"{settings.images.registry.rstrip('/')}/{tagged}" + (f"@{digest}" if digest else "")


def merged(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the arguments, those of ``own`` left out whose flag is given too."""
    replaced = {_flag(argument) for argument in given}
    return [*(argument for argument in own if _flag(argument) not in replaced), *given]


def budget(webhook: Mapping[str, Any]) -> Object:
    """Return a PodDisruptionBudget: a drained node takes one pod of the webhook at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": webhook["metadata"]["name"], "namespace": webhook["metadata"]["namespace"]},
        "spec": {"maxUnavailable": 1, "selector": {**webhook["spec"]["selector"]}},
    }


def _harden(obj: Object, container: Object, workload: DeploymentSettings, settings: ReleaseSettings) -> None:
    """What upstream's webhooks lack: a pod that is not ready gets no calls, one that ends answers those under way."""
    spec = obj["spec"]
    spec["replicas"] = max(FEWEST_REPLICAS, spec.get("replicas") or 1)
    # On the host's network two pods of one port cannot be on one node: there may be no room for one more.
    surge: tuple[int | str, int] = (0, 1) if workload.host_network else ("100%", 0)
    spec["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge[0], "maxUnavailable": surge[1]},
    }
    container["ports"] = [{"containerPort": settings.port, "protocol": "TCP"}]
    container["readinessProbe"] = {
        "httpGet": {"path": "/readyz", "port": settings.port, "scheme": "HTTPS"},
        "periodSeconds": 2,
    }
    if settings.kubernetes >= SLEEP_SINCE:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}
        spec["template"]["spec"]["terminationGracePeriodSeconds"] = DRAIN_SECONDS + 30
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    spec["template"]["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _mount(pod: Object, container: Object, secret: str | None) -> None:
    """The Secret, whose keys are those of kubernetes.io/tls at every release: below 6.2 upstream's were others."""
    if secret:
        for volume in pod["volumes"]:
            volume["secret"]["secretName"] = secret
    names = {"cert.pem": "tls.crt", "key.pem": "tls.key"}
    for old, new in names.items():
        container["args"] = [argument.replace(f"/{old}", f"/{new}") for argument in container["args"]]


def _metadata(metadata: Object, workload: DeploymentSettings, labels: Mapping[str, str]) -> None:
    """The user's labels and annotations; upstream's labels, on which selectors depend, come last."""
    every = {**workload.labels, **labels, **(metadata.get("labels") or {})}
    if every:
        metadata["labels"] = every
    if workload.annotations:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **workload.annotations}


def _place(pod: Object, container: Object, workload: DeploymentSettings, settings: ReleaseSettings) -> None:
    """Where the pods may run, and with what."""
    given = {
        "tolerations": list(workload.tolerations),
        "nodeSelector": dict(workload.node_selector),
        "affinity": dict(workload.affinity),
        "priorityClassName": workload.priority_class,
        "imagePullSecrets": [{"name": name} for name in settings.images.pull_secrets],
    }
    pod.update({key: value for key, value in given.items() if value})
    if workload.resources:
        container["resources"] = dict(workload.resources)
    if workload.host_network:
        # Without the policy its names would be those of the node's resolver.
        pod.update({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"})


def _flag(argument: str) -> str:
    return argument.lstrip("-").partition("=")[0]
