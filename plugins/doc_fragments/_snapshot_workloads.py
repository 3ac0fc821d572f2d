# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options of the Deployments; must be kept in sync with module_utils/_run/_snapshot_controller_apply.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  controller:
    description:
      - The controller's Deployment, where it is to differ from upstream's.
    type: dict
    suboptions: &workload
      replicas:
        description:
          - Number of pods.
        type: int
      min_ready_seconds:
        description:
          - Seconds for which a pod has to be ready before it counts as available.
        type: int
      labels:
        description:
          - Labels of the Deployment and of its pods, beside upstream's.
        type: dict
        default: {}
      annotations:
        description:
          - Annotations of the Deployment and of its pods.
        type: dict
        default: {}
      tolerations:
        description:
          - Tolerations of the pods.
        type: list
        elements: dict
        default: []
      node_selector:
        description:
          - Labels of the nodes that the pods may run on.
        type: dict
        default: {}
      affinity:
        description:
          - Affinity of the pods.
        type: dict
        default: {}
      resources:
        description:
          - Requests and limits of the container.
        type: dict
        default: {}
      priority_class:
        description:
          - Name of the pods' priority class.
        type: str
        default: ""
      host_network:
        description:
          - Whether the pods use the network of their node, for API servers that cannot reach pods - Amazon EKS with
            another network plugin than its own.
        type: bool
        default: false
  webhook:
    description:
      - The webhook's Deployment, where it is to differ from upstream's with what this collection adds - at least 2
        replicas, a readiness probe, a user without privileges, pods that serve on for a moment when they are to end.
    type: dict
    suboptions:
      <<: *workload
      port:
        description:
          - The port that the pods listen on. Below 1024 it would need privileges.
        type: int
        default: 8443
"""
