# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options that the plan of an upgrade depends on. They must equal those in module_utils/_operations/snapshot_controller_info.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  version:
    description:
      - The release to go to, such as V(8.7.0). A release that is older than the installed one is a downgrade. Not every downgrade is
        possible.
      - A release that does not exist or must never be installed is an error before the module reads the cluster.
    type: str
    required: true
  installed_version:
    description:
      - The installed release, if the controller's image does not tell it. That is so if the image has only a digest, or a tag that is
        not upstream's.
    type: str
  namespace:
    description:
      - The namespace of a new controller, by default C(kube-system). An installed controller stays in its namespace, and the plan is
        refused if this option names another one.
    type: str
  webhook_namespace:
    description:
      - The namespace of a new webhook, by default that of the controller. An installed webhook stays in its namespace, and the plan is
        refused if this option names another one.
    type: str
  validation_webhook:
    description:
      - Whether a release up to 8.1 gets its validation webhook. By default it gets one if the webhook is installed, if no controller is
        installed, and on a downgrade from a release without one.
    type: bool
  conversion_webhook:
    description:
      - Whether the releases 8.4 and 8.5 get their conversion webhook. By default they get it if group snapshots are stored or requested
        at v1beta1, or if a conversion webhook already works.
      - C(false) is refused while contents have lists of handles that only the webhook keeps.
    type: bool
  group_snapshots:
    description:
      - Whether the controller processes group snapshots. By default it does if the installed controller does.
      - The flag is always set, because release 8.7 processes group snapshots without a flag.
    type: bool
  failure_policy:
    description:
      - The failurePolicy of the validation webhook after its verification, V(Ignore) or V(Fail). By default each configuration keeps its
        failurePolicy, and a new one gets V(Ignore), as in upstream's manifests.
    type: str
    choices: [Ignore, Fail]
  controller_arguments:
    description:
      - Arguments of the controller in addition to C(--v), C(--leader-election) and the flag of group snapshots. The plan is refused if the
        release does not know one of them.
    type: list
    elements: str
    default: []
  webhook_arguments:
    description:
      - Arguments of the webhook in addition to those of its certificate. The plan is refused if the release does not know one of them.
    type: list
    elements: str
    default: []
  remove_controllers:
    description:
      - Controllers that the upgrade deletes, each as C(namespace/name). Name them if several controllers run, or if the controller does not
        have upstream's name.
      - A controller that shares its pods with other containers, such as those of a CSI driver, is never deleted.
      - The Deployment that the release writes is never deleted.
    type: list
    elements: str
    default: []
  image_registry:
    description:
      - The registry of the images, with the path in front of the names C(snapshot-controller), C(snapshot-validation-webhook) and
        C(snapshot-conversion-webhook). The tag is always that of the release.
      - The plan also recognizes the webhook's pods by images of this registry, beside those of upstream's.
    type: str
    default: registry.k8s.io/sig-storage
  webhook_port:
    description:
      - The port that the webhook's pods listen on. A port below 1024 needs privileges. The plan has steps for a change of the port, also
        from upstream's 443.
    type: int
    default: 8443
  webhook_host_network:
    description:
      - Whether the webhook's pods use the network of their node. This is for API servers that cannot reach pods, such as those of Amazon
        EKS with another network plugin than the AWS VPC CNI.
    type: bool
    default: false
"""
