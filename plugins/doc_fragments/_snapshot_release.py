# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options of whatever renders a release; must be kept in sync with module_utils/_run/_snapshot_rendering.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  source:
    description:
      - Where manifests come from - a directory that holds the unpacked release, an archive (C(.zip), C(.tar.gz), C(.tgz),
        C(.tar)) as a file or URL, or the URL of a Go module proxy.
      - C({version}) in it stands for the release, as 8.7.0; a plan may need the files of several.
      - Proxies and CAs of the connection are those of the environment, E(HTTPS_PROXY), E(NO_PROXY) and E(SSL_CERT_FILE). A
        URL must not hold a password.
    type: str
    default: https://github.com/kubernetes-csi/external-snapshotter/archive/refs/tags/v{version}.tar.gz
  sums:
    description:
      - SHA-256 sums of the files of releases that this collection does not know, or that you have changed. A dictionary
        by release of dictionaries by the file's path in the repository.
    type: dict
    default: {}
  cache_directory:
    description:
      - Where fetched manifests are kept, on the machine that runs this task. They are verified at each use.
    type: path
    default: ~/.cache/certflow.kubernetes/releases
  namespace:
    description:
      - Namespace of what has one, where the step does not say it.
    type: str
    default: kube-system
  image_registry:
    description:
      - Registry of the images, with the path below which they are called C(snapshot-controller),
        C(snapshot-validation-webhook) and C(snapshot-conversion-webhook). Their tag is always the release's own.
    type: str
    default: registry.k8s.io/sig-storage
  digests:
    description:
      - Digests that the images are pinned to, by program and tag.
    type: dict
    default: {}
  pull_secrets:
    description:
      - Names of the Secrets with which the images are pulled.
    type: list
    elements: str
    default: []
  take_over:
    description:
      - Write also to objects that carry the marks of another writer, such as Helm, Argo CD, Flux or EKS add-ons, and move
        its fields. It may undo the change.
    type: bool
    default: false
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
