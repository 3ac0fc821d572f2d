#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr_approve
short_description: Approves or denies certificate signing requests after comparing their content
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Decides on requests that others made. What each asks for is compared with O(expect) and O(allow_names) first; one
    mismatch, and nothing is written.
  - The module compares a request only if every program reads the same content in it. It refuses any other request with
    the code C(request-not-canonical), because the signer could read other names in it. A request in canonical form is one
    PEM block C(CERTIFICATE REQUEST) without text around it, in strict DER. Its subject has at most one common name and
    otherwise only C(O), C(OU), C(C), C(ST) and C(L). Its extensions are only C(subjectAltName), C(keyUsage), C(extendedKeyUsage), C(basicConstraints) and
    C(subjectKeyIdentifier). Its names are DNS names and IP addresses, and e-mail addresses and URIs that O(allow_names)
    spells out. Requests of openssl, keytool, Go, kubelet and cert-manager have this form.
  - The usages inside the request must be among the C(usages) of the object, because a signer may copy them. The only
    exception is C(content commitment) (C(nonRepudiation) in OpenSSL), which many configurations ask for. The module
    refuses a request to become a certificate authority, also if it asks for that by cert-manager's annotation
    C(experimental.cert-manager.io/request-is-ca).
  - With selectors, only requests that nobody has decided otherwise are considered.
  - What was approved before is compared too. One that O(name) names and that is not what is expected is an error; one
    that selectors find is left out of the result, with a warning.
  - Names that neither belong to the Service in O(expect) nor stand in O(expect) or O(allow_names) are a mismatch. The
    cluster's CA signs whatever is approved. Wildcards and the cluster's own names - of its API server, its nodes, its
    service network - have to stand in O(allow_names), and come with a warning.
  - The usages decide what the certificate is for. The key usages C(signing), C(digital signature), C(key encipherment),
    C(key agreement), C(data encipherment), C(content commitment), C(encipher only) and C(decipher only) say nothing
    about that. A request whose only extended usage is C(server auth) is for a server. A request without an extended
    usage, or with C(client auth) or C(any), is a login at the API server and needs O(allow_client_identity).
    The module never approves a request with C(cert sign), C(crl sign) or any other extended usage.
  - A request that O(name) names can be denied whatever it asks for; then only what O(expect) gives is compared. With
    selectors the whole comparison counts for denials too, so that a wide one never denies a node's renewal. A request
    that is not in canonical form can be denied by its name if O(expect) does not mention its subject, names and key.
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
  - certflow.kubernetes._selectors
options:
  name:
    description:
      - Name of one request.
    type: str
  decision:
    description:
      - What to decide. Both are final.
    type: str
    choices: [approve, deny]
    default: approve
  decision_message:
    description:
      - Why, for the auditor; it is stored in the request's condition.
    type: str
  expect:
    description:
      - What the request must look like. Only what is given is compared.
    type: dict
    suboptions:
      signer_name: {description: [Its signer.], type: str}
      usages: {description: [Its usages; the order does not matter.], type: list, elements: str}
      requester: {description: [The name of the user that created it.], type: str}
      common_name:
        description:
          - Common name of its subject. Without it, a common name of a serving certificate that is one more host name is
            held to the same rules as its DNS names, because some signers make one of it.
        type: str
      organizations: {description: [Organizations of its subject; the order does not matter.], type: list, elements: str}
      dns_names: {description: [Its DNS names; the order does not matter.], type: list, elements: str}
      ip_addresses: {description: [Its IP addresses; the order does not matter.], type: list, elements: str}
      public_key_sha256: {description: [SHA-256 of its public key.], type: str}
      longest_seconds:
        description:
          - Longest C(expirationSeconds). A request without one does not keep to it, nor does one with cert-manager's annotation
            C(experimental.cert-manager.io/request-duration), which goes before it.
        type: int
      service: {description: [The Service whose names it may carry; needs C(namespace)], type: str}
      namespace: {description: [Namespace of that Service.], type: str}
  allow_names:
    description:
      - Further names and addresses that the request may carry, each spelled out. The notation of an address does not
        matter. V(::ffff:192.0.2.1) is the same as V(192.0.2.1).
    type: list
    elements: str
  allow_client_identity:
    description:
      - Whether the certificate may log its holder in at the API server. Needs C(expect.common_name) and
        C(expect.organizations).
      - Every request is such a login unless its only extended usage is C(server auth). The API server also accepts a
        certificate without any extended usage.
    type: bool
    default: false
  wait:
    description:
      - Whether to wait until the certificate is issued.
    type: bool
    default: false
seealso:
  - module: certflow.kubernetes.k8s_csr
  - module: certflow.kubernetes.k8s_csr_info
"""

EXAMPLES = r"""
- name: Approve what the certificate team asked for
  certflow.kubernetes.k8s_csr_approve:
    label_selectors: [app.kubernetes.io/managed-by=certflow.kubernetes]
    expect:
      service: audit-webhook
      namespace: kube-system
      signer_name: kubernetes.io/kubelet-serving
    wait: true

- name: Deny a request
  certflow.kubernetes.k8s_csr_approve:
    name: somebody-elses-request
    decision: deny
    decision_message: Nobody ordered this.
    expect:
      dns_names: [db, db.prod.svc]
"""

RETURN = r"""
csrs:
  description: The requests that were found.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name., type: str, returned: success}
    uid: {description: UID., type: str, returned: success}
    signer_name: {description: Signer., type: str, returned: success}
    condition: {description: Condition as C(kubectl get csr) prints it., type: str, returned: success}
    requester:
      description: The user that created the request, as the API server recorded it.
      type: dict
      returned: success
      contains:
        username: {description: User name., type: str, returned: success}
        uid: {description: UID of the user. Empty for most ways to authenticate., type: str, returned: success}
        groups: {description: Groups of the user., type: list, elements: str, returned: success}
        canonical_arn:
          description: The AWS role or user that EKS recognised, without the session name. Empty on other clusters.
          type: str
          returned: success
    subject: {description: Subject as RFC 4514 text., type: str, returned: success}
    names: {description: DNS names and IP addresses., type: list, elements: str, returned: success}
    unreadable:
      description: The reason why the request cannot be compared. RV(csrs[].subject) and RV(csrs[].names) are then empty.
      type: str
      returned: when the denied request is not in canonical form
    decision: {description: V(Approved) or V(Denied)., type: str, returned: success}
    changed: {description: Whether this task decided it., type: bool, returned: success}
    reason: {description: Whether it was decided now or before., type: str, returned: success}
cluster:
  description: The API server that was spoken to, and where its address came from.
  returned: always, unless the connection could not be determined
  type: dict
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: request-not-canonical
cause:
  description: What is wrong.
  returned: failure
  type: str
evidence:
  description: Every mismatch of every request, with its requester.
  returned: failure
  type: list
  elements: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.module import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr_approve import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
