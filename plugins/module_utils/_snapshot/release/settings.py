# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The user's settings for the objects of a release, and the parts that a step applies. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REGISTRY = "registry.k8s.io/sig-storage"
WEBHOOK_PORT = 8443


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
