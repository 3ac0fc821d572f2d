# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options of the release's files, of its Deployments and of its certificate; must be kept in sync with module_utils/_upgrade/_request.py."""

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
  controller:
    description:
      - The controller's Deployment, where it is to differ from upstream's.
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
  signer_name:
    description:
      - The signer of the webhook's certificate. By default the signer of the cluster's provider.
    type: str
  provider:
    description:
      - The provider of the cluster, such as V(eks). V(auto) detects it.
    type: str
    default: auto
  providers:
    description:
      - Rows that are added to the table of providers, as in M(certflow.kubernetes.k8s_csr_info).
    type: list
    elements: dict
    default: []
  signers:
    description:
      - Signers by provider that replace those of the table, and C(default) for an unknown provider.
    type: dict
    default: {}
  expiration_seconds:
    description:
      - The lifetime to request for the webhook's certificate, in seconds. By default the signer's.
    type: int
  renew_before:
    description:
      - The time before its end at which the certificate is renewed, such as V(30d).
    type: str
"""
