# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Render the Deployments of the controller and of the webhooks from upstream's. Pure.

ReleaseParts are the parts that a step applies, and ReleaseSettings are the user's settings for their objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..kinds import PORT_LABEL, REGISTRY, RELEASE_LABEL
from . import flags, partial_deployment
from .release_table import is_at_least

WEBHOOK_PORT = 8443
# The time in seconds for which a webhook pod sleeps before it ends. The programs stop at once, also during calls
# (external-snapshotter pkg/*-webhook: tls.Listen without Shutdown). In this time the API servers are made to reconnect, after all
# new pods are available.
DRAIN_SECONDS = 30
# lifecycle.preStop.sleep (KEP-3960) is on by default since this version. Older API servers do not know the field.
DRAINS_SINCE = (1, 30)
# The images have no users. Every id except root's works, because the programs write no files.
USER = 65532
FEWEST_REPLICAS = 2

Object = dict[str, Any]


@dataclass(frozen=True)
class ReleaseSettings:
    """All settings for the objects of a release."""

    #: The user's part of each Deployment, by option: "controller" and "webhook".
    deployments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The webhook's pods use the network of their node. For API servers that cannot reach pods, such as EKS with another CNI
    #: (piraeusdatastore/helm-charts#42).
    host_network: bool = False
    #: The registry of the images, with the path in front of the programs' names.
    registry: str = REGISTRY
    #: Digests of images such as "sha256:..." by program and tag, such as "snapshot-controller:v8.7.0".
    digests: Mapping[str, str] = field(default_factory=dict)
    #: The port of the webhook.
    port: int = WEBHOOK_PORT
    #: The API server's minor version, which decides about fields of pods.
    kubernetes: tuple[int, int] = (1, 25)


@dataclass(frozen=True)
class ReleaseParts:
    """Parts of a release, and the choices for their objects."""

    release: str
    #: Keys of rendering.FILES.
    parts: Sequence[str]
    #: "" for CustomResourceDefinitions, which need none.
    namespace: str = ""
    #: The Secret that the webhook's pods mount.
    secret: str = ""
    #: Additional arguments of the program.
    arguments: Sequence[str] | None = None
    #: True for a controller that reads nodes.
    nodes: bool = False
    #: By webhook configuration. Other configurations of the release are left out. None for all, with their present policies.
    failure_policies: Mapping[str, str] | None = None
    #: The versions of the cluster's CustomResourceDefinitions that stay listed.
    keep_unserved: Sequence[str] = ()


def deployment(part: str, obj: Object, wanted: ReleaseParts, settings: ReleaseSettings) -> Object:
    """Return upstream's Deployment with the settings. part: "controller" or "webhook"."""
    template = obj["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["image"] = image(container["image"], wanted.release, settings)
    arguments = wanted.arguments or ()
    labels = {RELEASE_LABEL: wanted.release}
    if part == "webhook":
        arguments = (f"--port={settings.port}", *arguments)
        labels[PORT_LABEL] = str(settings.port)
        _harden(obj, container, settings)
        _mount(template["spec"], container, wanted.secret)
    container["args"] = merged(container["args"], arguments)
    template["metadata"]["labels"] = {**labels, **template["metadata"]["labels"]}
    return partial_deployment.merged(part, obj, settings.deployments.get(part) or {})


def image(upstream: str, release: str, settings: ReleaseSettings) -> str:
    """Return the image of the release, such as registry/snapshot-controller:v8.7.0, with its digest if one is set."""
    program = upstream.rpartition("/")[2].partition(":")[0]
    tagged = f"{program}:v{release}"
    digest = settings.digests.get(tagged)
    return f"{settings.registry.rstrip('/')}/{tagged}" + (f"@{digest}" if digest else "")


def merged(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return both lists of arguments. A flag in ``given`` replaces the same flag in ``own``."""
    replaced = {flags.name(argument) for argument in given}
    return [*(argument for argument in own if flags.name(argument) not in replaced), *given]


def budget(webhook: Mapping[str, Any]) -> Object:
    """Return the PodDisruptionBudget of a webhook, by which a drain of nodes evicts one pod at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": webhook["metadata"]["name"], "namespace": webhook["metadata"]["namespace"]},
        "spec": {"maxUnavailable": 1, "selector": {**webhook["spec"]["selector"]}},
    }


def _harden(obj: Object, container: Object, settings: ReleaseSettings) -> None:
    """Add what upstream's webhooks lack: replicas, readiness, the sleep before the end, and a security context."""
    spec = obj["spec"]
    spec["replicas"] = max(FEWEST_REPLICAS, spec.get("replicas") or 1)
    # On the host's network two pods with the same port cannot share a node, so an additional pod may find no node.
    surge: tuple[int | str, int] = (0, 1) if settings.host_network else ("100%", 0)
    spec["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge[0], "maxUnavailable": surge[1]},
    }
    container["ports"] = [{"containerPort": settings.port, "protocol": "TCP"}]
    container["readinessProbe"] = {
        "httpGet": {"path": "/readyz", "port": settings.port, "scheme": "HTTPS"},
        "periodSeconds": 2,
    }
    if is_at_least(settings.kubernetes, DRAINS_SINCE):
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
    if settings.host_network:
        # Without this policy the pods use the node's resolver, which does not know names of the cluster.
        spec["template"]["spec"].update({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"})


def _mount(pod: Object, container: Object, secret: str) -> None:
    """Mount the Secret. Its keys are those of the type kubernetes.io/tls. Before 6.2 upstream used other keys."""
    if secret:
        for volume in pod["volumes"]:
            volume["secret"]["secretName"] = secret
    names = {"cert.pem": "tls.crt", "key.pem": "tls.key"}
    for old, new in names.items():
        container["args"] = [argument.replace(f"/{old}", f"/{new}") for argument in container["args"]]
