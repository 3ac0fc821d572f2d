# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Kubernetes control planes on loopback, for tests, the demo and the benchmark. See docs/clusters.md.

from tests.support import clusters

with clusters.running({"onprem-1": "onprem", "eks-1": "eks"}) as fleet:
    fleet["eks-1"].kubeconfig
"""

from __future__ import annotations

from tests.support.clusters import audit
from tests.support.clusters.build import (
    cainjector,
    cert_manager,
    cert_manager_dir,
    cert_manager_webhook,
    kubeadm,
    needs_build,
    programs,
    snapshotter_dir,
    why_no_build,
)
from tests.support.clusters.client import AdminApiError, AdminClient
from tests.support.clusters.cluster import Cluster
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.fleet import Fleet, running
from tests.support.clusters.node import prepare as prepare_node
from tests.support.clusters.node import why_no_node
from tests.support.clusters.profiles import APP_SERVING, PROFILES

__all__ = [
    "APP_SERVING",
    "PROFILES",
    "AdminApiError",
    "AdminClient",
    "Cluster",
    "ClusterError",
    "Fleet",
    "audit",
    "cainjector",
    "cert_manager",
    "cert_manager_dir",
    "cert_manager_webhook",
    "kubeadm",
    "needs_build",
    "prepare_node",
    "programs",
    "running",
    "snapshotter_dir",
    "why_no_build",
    "why_no_node",
]
