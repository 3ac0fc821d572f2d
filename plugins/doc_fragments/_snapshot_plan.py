# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options that the plan of an upgrade depends on; must be kept in sync with module_utils/_upgrade/_request.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  version:
    description:
      - The release to go to, such as V(8.7.0). Older than what is installed is the way back, where there is one.
      - A release that does not exist, or must never be installed, is an error before anything is read.
    type: str
    required: true
  installed_version:
    description:
      - The release that is installed, where the controller's image does not tell, because it has a digest alone or a tag of
        its own.
    type: str
  namespace:
    description:
      - Namespace of a new controller, C(kube-system) by default. One that is there stays where it is; another value is refused.
    type: str
  webhook_namespace:
    description:
      - Namespace of a new webhook, that of the controller by default. One that is there stays where it is; another value is
        refused.
    type: str
  validation_webhook:
    description:
      - Whether the releases to 8.1 get their validation webhook. By default it is there where it was, where nothing was
        installed, and on the way back from a release that has none.
    type: bool
  conversion_webhook:
    description:
      - Whether the releases 8.4 and 8.5 get their conversion webhook. By default it is there where group snapshots are stored or
        asked for at v1beta1, and where one works already.
    type: bool
  group_snapshots:
    description:
      - Whether the controller works on group snapshots. By default as it does now.
      - The release 8.7 does unless it is told otherwise, so that it is always told.
    type: bool
  failure_policy:
    description:
      - The validation webhook's failurePolicy once it is proven, V(Ignore) or V(Fail). By default each configuration keeps the
        one that it has, and a new one gets V(Ignore), as upstream has it.
      - A dictionary gives a failurePolicy for each configuration by its name. A configuration that it does not name keeps its
        failurePolicy.
    type: raw
  controller_arguments:
    description:
      - Arguments of the controller beside C(--v), C(--leader-election) and the gate of group snapshots. One that the release
        does not know is refused.
    type: list
    elements: str
    default: []
  webhook_arguments:
    description:
      - Arguments of the webhook beside its certificate's. One that the release does not know is refused.
    type: list
    elements: str
    default: []
  adopt:
    description:
      - Whose objects may be taken over. Without it, objects of anybody else are refused, with how they are upgraded there.
      - V(kubectl) is whatever has kubectl's mark and no other, which is no proof that nobody owns it - kubespray and the scripts
        of CSI drivers leave no other either. V(unmarked) is what has no mark at all, V(hosted) are CRDs without a controller.
    type: list
    elements: str
    choices: [rke2, eks, kops, kubeone, addon-manager, argocd, flux, helm, kubespray, kubectl, hosted, unmarked]
    default: []
  accept:
    description:
      - Hazards of handling C(ask) that are accepted, by their id.
    type: list
    elements: str
    choices: [sidecars-at-v1beta1, arguments-dropped]
    default: []
  remove_controllers:
    description:
      - Controllers that are deleted, as C(namespace/name), where several run or one has another name than upstream's.
      - A controller that shares its pods with other containers, such as a CSI driver's, is never deleted.
    type: list
    elements: str
    default: []
  webhook:
    description:
      - The webhook's Deployment, if it is to differ from upstream's with the additions of this collection. These are at least 2 replicas, a
        readiness probe, a user without privileges, and pods that serve for a moment before they end.
    type: dict
    suboptions:
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
      port:
        description:
          - The port that the pods listen on. Below 1024 it would need privileges. A change of it, also from upstream's 443, needs steps of its
            own.
        type: int
        default: 8443
"""
