#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_cabundle
short_description: Add, set or remove the CA bundle of webhooks
description:
  - Changes C(caBundle) on validating and mutating webhook configurations, conversion webhooks of CustomResourceDefinitions, and
    APIServices, many of them in one task. It changes no other field.
  - The module reads all objects, plans the changes, and checks the permission to write before it writes the first object. If
    another client changes an object at the same time, the module reads the object and plans its change again.
  - For a certificate from the cluster's own signers use M(certflow.kubernetes.k8s_csr), which also writes the bundle.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._accept
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  targets:
    description:
      - The objects. An object that is listed several times is written once.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - The kind of the object. A C(CustomResourceDefinition) must have a conversion webhook. An C(APIService) must call a Service
            and verify its certificate.
        type: str
        required: true
        choices:
          - ValidatingWebhookConfiguration
          - MutatingWebhookConfiguration
          - CustomResourceDefinition
          - APIService
      name:
        description:
          - The name of the object.
        type: str
        required: true
      webhooks:
        description:
          - The names of the webhooks to change in a webhook configuration. If unset, the module changes all webhooks, or those that
            call O(service).
        type: list
        elements: str
  ca_bundle:
    description:
      - One or more CA certificates as PEM text, at most 200. The module ignores text around them and refuses a private key.
      - The value is never shown or logged, in case a private key was pasted by mistake.
      - It may be null only in check mode, because M(certflow.kubernetes.k8s_csr) returns null before the first certificate is
        issued. The module then reads and checks the targets and reports a change.
    type: str
  cluster_trust_bundle:
    description:
      - The ClusterTrustBundle to take the certificates from, instead of O(ca_bundle). Kubernetes serves ClusterTrustBundles by default
        from 1.37 on.
    type: dict
    suboptions:
      name:
        description:
          - The name of the ClusterTrustBundle.
        type: str
      signer_name:
        description:
          - The signer. The module takes the certificates of all its ClusterTrustBundles, because their names may have a hash that changes.
        type: str
  mode:
    description:
      - V(add) adds the missing certificates. If it adds one, it also removes certificates that expired more than a day ago, by the clocks
        of the API server and of the machine that runs the module. It warns about the first CA of a URL, because without C(caBundle) the
        API server trusts the root certificates of its operating system there.
      - V(exactly) makes the bundle hold these certificates and no others. Their order does not matter.
      - V(absent) removes these certificates, which it compares by fingerprint. If no certificate is left, it removes C(caBundle). The
        API server then trusts the root certificates of its operating system.
      - A bundle that the module writes has no duplicates, no text between the certificates, and no damaged or other blocks. An empty or
        blank bundle counts as absent, also the placeholder C(Cg==).
    type: str
    choices: [add, exactly, absent]
    default: add
  certificate:
    description:
      - The certificate that the webhooks serve, as PEM text, followed by the intermediate certificates that they send.
      - If set, the module fails before the first write unless the API server would accept this certificate with the new bundle. It
        verifies the name by which the API server calls each webhook, C(service.namespace.svc) or the host of the URL, by Go's rules.
    type: str
  service:
    description:
      - The Service whose webhooks are changed. If unset, the Service does not matter.
    type: dict
    suboptions:
      name:
        description:
          - The name of the Service.
        type: str
        required: true
      namespace:
        description:
          - The namespace of the Service.
        type: str
        required: true
seealso:
  - module: certflow.kubernetes.k8s_csr
notes:
  - The module needs the permissions to get and patch the objects. Before it removes a certificate, it reads what the endpoints serve. It
    fails with the code C(still-needed) before the first write if the API server would then refuse an endpoint, or if an endpoint cannot
    be seen. The permissions for that are those of C(docs/rbac/rotate.yaml). It connects to no address outside of the cluster. O(accept)
    allows the removal for an object.
  - The module does not write an object that is already in the requested state, and does not check its manager.
"""

EXAMPLES = r"""
- name: Add a CA to several objects
  certflow.kubernetes.webhook_cabundle:
    ca_bundle: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
      - kind: CustomResourceDefinition
        name: volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io

- name: Replace the bundle of one webhook if its certificate verifies with the new bundle
  certflow.kubernetes.webhook_cabundle:
    ca_bundle: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'tls.crt') }}"
    mode: exactly
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
        webhooks: [validation-webhook.snapshot.storage.k8s.io]

- name: Remove an old CA from the webhooks that call a Service
  certflow.kubernetes.webhook_cabundle:
    ca_bundle: "{{ lookup('ansible.builtin.file', 'old-ca.pem') }}"
    mode: absent
    service:
      name: snapshot-validation-service
      namespace: kube-system
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
"""

RETURN = r"""
targets:
  description: The objects with their changes. In check mode, the changes that a run would make.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the object.
      type: str
      returned: always
      sample: ValidatingWebhookConfiguration
    name:
      description: The name of the object.
      type: str
      returned: always
      sample: validation-webhook.snapshot.storage.k8s.io
    changed:
      description: Whether the module wrote this object, or in check mode would write it.
      type: bool
      returned: always
    webhooks:
      description: The places of the object that hold a bundle.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: The name of the webhook. Empty for CustomResourceDefinitions and APIServices.
          type: str
          returned: always
          sample: validation-webhook.snapshot.storage.k8s.io
        before:
          description: SHA-256 fingerprints of the certificates before the task, in lower case hexadecimal.
          type: list
          elements: str
          returned: always
          sample: []
        after:
          description: SHA-256 fingerprints of the certificates after the task. V(null) if the bundle is not known yet.
          type: list
          elements: str
          returned: always
          sample: [5d1f25c8e0dc6a3f2b6a7f6a3b3ac0a1b0a7f4e9e4d2c1b09f8e7d6c5b4a3f2e]
reason:
  description: The reason for a change, or for none.
  returned: success
  type: str
  sample: 1 of 2 targets lacked certificates of the bundle
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, once they are known
  type: dict
  contains:
    host:
      description: URL of the API server.
      type: str
      returned: always
      sample: https://203.0.113.7:6443
    auth_source:
      description: The source of the address and of the credentials.
      type: str
      returned: always
      sample: kubeconfig /home/me/.kube/config, context prod
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: owned-by-another
cause:
  description: The cause of the failure.
  returned: failure
  type: str
evidence:
  description: The observations behind it.
  returned: failure
  type: list
  elements: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_cabundle import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
