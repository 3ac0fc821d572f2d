#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr_approve
short_description: Approve or deny certificate signing requests after comparing their content
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Approves or denies certificate signing requests of other clients. The module first compares the content of each request with
    O(expect) and O(allow_names). If one request does not match, it writes nothing.
  - The module compares a request only if every program reads the same content in it. It refuses any other request with
    the code C(request-not-canonical), because the signer could read other names in it. A request in canonical form is one
    PEM block C(CERTIFICATE REQUEST) without text around it, in strict DER. Its subject has at most one common name and
    otherwise only C(O), C(OU), C(C), C(ST) and C(L). Its extensions are only C(subjectAltName), C(keyUsage), C(extendedKeyUsage),
    C(basicConstraints) and C(subjectKeyIdentifier). It has at most 1000 names. They are DNS names and IP addresses, and the e-mail
    addresses and URIs that O(allow_names) lists. Requests of openssl, keytool, Go, kubelet and cert-manager have this form.
  - The usages inside the request must be among the C(usages) of the object, because a signer may copy them. The only
    exception is C(content commitment) (C(nonRepudiation) in OpenSSL), which many configurations ask for. The module
    refuses a request to become a certificate authority, also if it asks for that by cert-manager's annotation
    C(experimental.cert-manager.io/request-is-ca).
  - With selectors, the module ignores requests that already have the opposite decision.
  - It also compares requests that were approved before. If such a request does not match, the task fails if O(name) names it. If
    selectors found it, the module leaves it out of the result and warns.
  - A user or group of Kubernetes, kubeadm or EKS in the subject, such as C(system:masters), is a mismatch unless
    C(expect.common_name) or C(expect.organizations) contains it. Nodes are the exception.
  - A name is a mismatch unless it belongs to the Service in O(expect), or O(expect) or O(allow_names) lists it. The names of a Service
    are C(SERVICE), C(SERVICE.NAMESPACE), C(SERVICE.NAMESPACE.svc) and C(SERVICE.NAMESPACE.svc.cluster.local). The CA of the cluster
    signs every approved request. So O(allow_names) must list wildcards and the names of the cluster's API server, nodes and service
    network. The module warns about them.
  - The usages decide what the certificate is for. The key usages C(signing), C(digital signature), C(key encipherment),
    C(key agreement), C(data encipherment), C(content commitment), C(encipher only) and C(decipher only) do not matter
    for that. A request whose only extended usage is C(server auth) is for a server. A request without an extended
    usage, or with C(client auth) or C(any), is for a client of the API server and needs O(allow_client_identity).
    The module never approves a request with C(cert sign), C(crl sign) or any other extended usage.
  - To deny a request that O(name) names, the module compares only the keys of O(expect). With selectors it compares the whole content
    for denials too, so that a selector which matches too much never denies the renewal of a node. A request that is not in canonical
    form can be denied by its name if O(expect) has no keys for its subject, names and public key.
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
  - certflow.kubernetes._selectors
options:
  name:
    description:
      - The name of one request.
    type: str
  decision:
    description:
      - The decision. It is final.
    type: str
    choices: [approve, deny]
    default: approve
  decision_message:
    description:
      - The reason for auditors. The module stores it in the condition of the request.
    type: str
  expect:
    description:
      - The expected content. The module compares only the keys that are set.
    type: dict
    suboptions:
      signer_name: {description: [The signer.], type: str}
      usages: {description: [The usages in any order.], type: list, elements: str}
      requester: {description: [The name of the user that created the request.], type: str}
      common_name:
        description:
          - The common name of the subject. If unset, the rules for DNS names apply to the common name of a serving certificate that is a
            host name, because some signers make a DNS name of it.
        type: str
      organizations: {description: [The organizations of the subject in any order.], type: list, elements: str}
      names: {description: [All DNS names and IP addresses in any order.], type: list, elements: str}
      public_key_sha256: {description: [SHA-256 of the public key.], type: str}
      longest_seconds:
        description:
          - The highest C(expirationSeconds). A request without C(expirationSeconds) does not match. A request with cert-manager's
            annotation C(experimental.cert-manager.io/request-duration) does not match either, because the annotation takes precedence.
        type: int
      service: {description: [The Service whose names the request may have. Requires C(namespace).], type: str}
      namespace: {description: [The namespace of the Service.], type: str}
  allow_names:
    description:
      - Further names and addresses that the request may have. The notation of an address does not matter. V(::ffff:192.0.2.1) is the
        same as V(192.0.2.1).
      - A URI or an e-mail address must be equal to an entry. Only the scheme and the host of a URI, and the domain of an e-mail address,
        may differ in case.
    type: list
    elements: str
  allow_client_identity:
    description:
      - Whether the certificate may authenticate its holder to the API server. Requires C(expect.common_name) and
        C(expect.organizations).
      - The option is needed for every request whose only extended usage is not C(server auth), because the API server also accepts
        client certificates without an extended usage.
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
- name: Approve the requests for a webhook
  certflow.kubernetes.k8s_csr_approve:
    label_selectors: [app.kubernetes.io/managed-by=certflow.kubernetes]
    expect:
      service: audit-webhook
      namespace: kube-system
      signer_name: kubernetes.io/kubelet-serving
    wait: true

- name: Deny a request
  certflow.kubernetes.k8s_csr_approve:
    name: unexpected-request
    decision: deny
    decision_message: This request was not ordered.
    expect:
      names: [db, db.prod.svc]
"""

RETURN = r"""
csrs:
  description: The requests that match O(name) or the selectors.
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
    changed: {description: Whether this task wrote the decision., type: bool, returned: success}
    reason: {description: "The reason for a change, or for none.", type: str, returned: success}
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, unless the connection could not be determined
  type: dict
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: request-not-canonical
cause:
  description: The cause of the failure.
  returned: failure
  type: str
evidence:
  description: Every mismatch of every request, with its requester.
  returned: failure
  type: list
  elements: str
remedy:
  description: The way to mend it.
  returned: failure
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr_approve import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
