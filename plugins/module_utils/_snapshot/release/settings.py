# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What the user wants beside a release: the variables of its Deployments. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REGISTRY = "registry.k8s.io/sig-storage"
WEBHOOK_PORT = 8443


@dataclass(frozen=True)
class DeploymentSettings:
    """One Deployment. None or empty: as upstream has it.

    labels, annotations: of the Deployment and of its pods. resources: of its container.
    host_network: for API servers that cannot reach pods (EKS with another CNI, piraeusdatastore/helm-charts#42).
    """

    replicas: int | None = None
    min_ready_seconds: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    priority_class: str = ""
    host_network: bool = False


@dataclass(frozen=True)
class ImageSettings:
    """registry: with the path below it. digests: "snapshot-controller:v8.7.0" to "sha256:...". pull_secrets: names."""

    registry: str = REGISTRY
    digests: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: Sequence[str] = ()


@dataclass(frozen=True)
class ReleaseSettings:
    """kubernetes: the API server's minor version, which says what pods may have. port: where the webhook listens.

    originals: Deployments that are to be as they were before a step failed, instead of rendered.
    """

    controller: DeploymentSettings = DeploymentSettings()
    webhook: DeploymentSettings = DeploymentSettings()
    images: ImageSettings = ImageSettings()
    port: int = WEBHOOK_PORT
    kubernetes: tuple[int, int] = (1, 25)
    originals: Sequence[Mapping[str, Any]] = ()
