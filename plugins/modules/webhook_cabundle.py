#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_cabundle
short_description: Adds, sets or removes the CA bundle of webhooks
description:
  - Changes C(caBundle), and nothing else, on validating and mutating webhook configurations, conversion webhooks of
    custom resource definitions, and API services, many of them in one task.
  - All objects are read and decided on, and the right to write them is checked, before the first is written. An object
    that somebody changes at the same time is read and decided on again.
  - For a certificate from the cluster's own signers use M(certflow.kubernetes.k8s_csr), which writes the bundle itself.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  targets:
    description:
      - The objects. One that is named several times is written once.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - The kind of the object. A C(CustomResourceDefinition) must have a conversion webhook, an C(APIService) must
            call a Service and verify its certificate.
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
          - Names of the webhooks to change inside a webhook configuration. Without it all of them are, or with
            O(service) those that call it.
        type: list
        elements: str
  ca_bundle:
    description:
      - One or more certificates, PEM, at most 200. Text around them is ignored; a private key among them is refused.
      - The value is never shown, so that a key that was pasted by mistake is not either.
      - It may be null in check mode alone, as M(certflow.kubernetes.k8s_csr) returns it before the first certificate
        is issued. The targets are then read and checked, and reported as changed.
    type: str
  mode:
    description:
      - V(add) adds the certificates to those that are there, and then drops the expired ones. Where they are there
        already, it leaves the bundle as it is.
      - V(exactly) makes the bundle hold these certificates and no others, in whatever order.
      - V(absent) removes these certificates, recognised by their fingerprints, and C(caBundle) with the last of them.
        The API server then trusts the roots of its own operating system.
      - A bundle that is rewritten loses content that no API server can use - duplicates, text between the certificates, and
        blocks that are cut off or hold no certificate. An empty or blank bundle, such as the placeholder C(Cg==), counts as
        absent.
    type: str
    choices: [add, exactly, absent]
    default: add
  certificate:
    description:
      - The certificate that the webhooks serve, PEM, with the intermediate certificates that they send after it.
      - Nothing is written unless the API server would accept it with the resulting bundle, for the name that it calls
        each webhook by, C(service.namespace.svc) or the host of the URL, by the rules of Go.
    type: str
  service:
    description:
      - Change only what calls this Service.
    type: dict
    suboptions:
      name:
        description:
          - Name of the Service.
        type: str
        required: true
      namespace:
        description:
          - Namespace of the Service.
        type: str
        required: true
  take_over:
    description:
      - Write also to objects that carry another writer's marks. Without it they are refused, with the marks that were
        found and what to do instead. The page
        U(https://github.com/certflow/certflow.kubernetes/blob/main/docs/other-writers.md) has all of them.
      - Argo CD, Flux, Helm, EKS add-ons and OLM v1 only apply manifests. What is written stays until they apply one
        that holds a C(caBundle).
      - cert-manager's injector, OpenShift's service CA and OLM write C(caBundle) themselves. V(add) stays beside what
        cert-manager 1.19 or newer writes; the others, and an older cert-manager, overwrite it. V(exactly) and
        V(absent) are refused for such objects in any case, because they would remove what only that writer could put
        back. Take its mark off the object first.
    type: bool
    default: false
seealso:
  - module: certflow.kubernetes.k8s_csr
notes:
  - It needs the rights to get and patch the objects.
  - Objects that are as wanted are not written to, whoever owns them.
"""

EXAMPLES = r"""
- name: Trust one CA for several objects
  certflow.kubernetes.webhook_cabundle:
    ca_bundle: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
      - kind: CustomResourceDefinition
        name: volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io

- name: Replace the bundle of one webhook, if its certificate verifies with the new one
  certflow.kubernetes.webhook_cabundle:
    ca_bundle: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'tls.crt') }}"
    mode: exactly
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
        webhooks: [validation-webhook.snapshot.storage.k8s.io]

- name: Remove an old CA from whatever calls one Service
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
  description: What became of each object; in check mode, what would.
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
      description: Whether this object was written, or in check mode would be.
      type: bool
      returned: always
    webhooks:
      description: The places that hold a bundle.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: Name of the webhook, empty for custom resource definitions and API services.
          type: str
          returned: always
          sample: validation-webhook.snapshot.storage.k8s.io
        before:
          description: SHA-256 fingerprints, lower case hex, of the certificates that were there.
          type: list
          elements: str
          returned: always
          sample: []
        after:
          description: The same of those that are there now; null while the bundle is not known.
          type: list
          elements: str
          returned: always
          sample: [5d1f25c8e0dc6a3f2b6a7f6a3b3ac0a1b0a7f4e9e4d2c1b09f8e7d6c5b4a3f2e]
reason:
  description: Why there was something to change, or nothing.
  returned: success
  type: str
  sample: 1 of 2 targets lacked certificates of the bundle
cluster:
  description: Which API server this was about, and where its address and credentials came from.
  returned: always, once they are known
  type: dict
  contains:
    host:
      description: URL of the API server.
      type: str
      returned: always
      sample: https://203.0.113.7:6443
    auth_source:
      description: Where address and credentials came from.
      type: str
      returned: always
      sample: kubeconfig /home/me/.kube/config, context prod
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: owned-by-another
cause:
  description: What is wrong.
  returned: failure
  type: str
evidence:
  description: What was seen.
  returned: failure
  type: list
  elements: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_cabundle import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
