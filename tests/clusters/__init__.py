# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Kubernetes control planes on loopback, for tests, the demo and the benchmark. See docs/clusters.md.

from tests import clusters

with clusters.running({"onprem-1": "onprem", "eks-1": "eks"}) as fleet:
    fleet["eks-1"].kubeconfig
"""

from __future__ import annotations

from . import audit
from .build import cainjector, cert_manager_dir, programs, snapshotter_dir
from .client import ApiError, Client
from .cluster import Cluster
from .errors import ClusterError
from .fleet import Fleet, running
from .node import prepare as prepare_node
from .node import why_no_node
from .profiles import APP_SERVING, PROFILES

__all__ = [
    "APP_SERVING",
    "PROFILES",
    "ApiError",
    "Client",
    "Cluster",
    "ClusterError",
    "Fleet",
    "audit",
    "cainjector",
    "cert_manager_dir",
    "prepare_node",
    "programs",
    "running",
    "snapshotter_dir",
    "why_no_node",
]
