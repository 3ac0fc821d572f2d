# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Options of the release's files, of its Deployments and of its certificate. They must equal those in module_utils/_operations/snapshot_controller.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  source:
    description:
      - The source of the manifests. It is a directory with the unpacked release, an archive (C(.zip), C(.tar.gz), C(.tgz), C(.tar)), or
        the URL of an archive.
      - C({version}) in it stands for the release, such as 8.7.0. A plan with hops needs the manifests of several releases.
      - The proxy and the CA of the connection come from the environment variables E(HTTPS_PROXY), E(NO_PROXY) and E(SSL_CERT_FILE). A
        URL must not hold a password. For a private mirror set O(source_auth).
    type: str
    default: https://github.com/kubernetes-csi/external-snapshotter/archive/refs/tags/v{version}.tar.gz
  source_auth:
    description:
      - The credentials for the URL of a private mirror. The keys have the names of M(ansible.builtin.uri). They need an https URL.
      - Only the host of O(source) gets the credentials. If it redirects to another host, that host does not get them.
      - At most one of O(source_auth.token), O(source_auth.url_username), O(source_auth.use_netrc) and a header C(Authorization) is allowed.
    type: dict
    suboptions:
      headers:
        description:
          - Headers of the request, by name, such as C(X-JFrog-Art-Api) or C(PRIVATE-TOKEN).
        type: dict
      token:
        description:
          - A bearer token.
        type: str
      url_username:
        description:
          - The user name for basic authentication.
        type: str
      url_password:
        description:
          - The password of O(source_auth.url_username).
        type: str
      use_netrc:
        description:
          - Whether to take the user name and the password from the netrc file of the user who runs the task. It is the file that the
            environment variable E(NETRC) names, or C(~/.netrc).
        type: bool
        default: false
      client_cert:
        description:
          - The path of a client certificate, in PEM form. The file may also have its key.
        type: path
      client_key:
        description:
          - The path of the key of O(source_auth.client_cert), in PEM form and not encrypted.
        type: path
      ca_path:
        description:
          - The path of CA certificates in PEM form. They are trusted in addition to those of the system.
        type: path
  sums:
    description:
      - SHA-256 sums of the files of releases that this collection does not know, or that you have changed. It is a dictionary by release.
        Each value is a dictionary by the path of the file in the repository.
    type: dict
    default: {}
  cache_directory:
    description:
      - The directory for fetched manifests, on the machine that runs the task. The module verifies the files at each use.
    type: path
    default: ~/.cache/certflow.kubernetes/releases
  digests:
    description:
      - The digests that the images are pinned to, by program and tag, such as C(snapshot-controller:v8.7.0).
    type: dict
    default: {}
  controller:
    description:
      - >-
        A part of the controller's Deployment as a manifest has it, such as C({spec: {replicas: 2}}). It is merged into the Deployment of the
        release like a strategic merge patch. A field that is null is removed.
      - In C(spec.template.spec.containers), an entry without C(name) changes the container of the release.
      - What the release owns is refused. This is the selector and its labels, the image, the arguments, the account, and the volumes and
        mounts of the release. See O(image_registry), O(digests) and O(controller_arguments).
    type: dict
    default: {}
  webhook:
    description:
      - The same for the webhook's Deployment. Without it, the Deployment is upstream's with the additions of this collection. The
        additions are at least 2 replicas, a readiness probe, a user without privileges, and pods that serve for a moment before they
        end.
    type: dict
    default: {}
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
      - Signers by provider that replace those of the table, and C(default) for an unknown provider. An entry may also be a row, as in
        M(certflow.kubernetes.k8s_csr_info).
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
