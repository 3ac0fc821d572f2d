#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr_info
short_description: Explain why certificate signing requests are not issued, and detect the provider of a cluster
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Reads certificate signing requests and explains each one that is not issued, with the cause, the certainty, the evidence and a
    remedy. The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_diagnosis.html) lists all causes and shows how
    to check each of them with kubectl.
  - Counts the requests by signer. Stuck requests, which were approved and are not issued, show that a signer does not work.
  - For a request that is not issued, the module reads the other requests of its signer, the Lease and the flags of
    kube-controller-manager, and the CAs that the cluster publishes. For a signer that is not part of Kubernetes it reads Events.
    For a request without a decision it checks whether this identity may approve it. It reads each object once
    in a run. The evidence names the objects that it may not read.
  - Detects the provider of the cluster, and returns the signer that issues serving certificates there.
extends_documentation_fragment:
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
  - certflow.kubernetes._selectors
options:
  name:
    description:
      - The name of one request. If neither name nor selectors are set, the module reads all requests. A request that does not exist
        has an entry with the condition V(NotFound).
    type: str
  gather:
    description:
      - The data to return.
      - V(csrs) are the requests and the counts by signer, and V(provider) is the provider of the cluster.
      - V(signer) is the signer for serving certificates. The task fails if no signer is known and O(providers) has no entry C(default).
        The failure has the evidence, the signer on each provider that the evidence allows, and the permissions that would decide.
      - V(cluster) is the identity of the cluster. It costs one request.
      - V(pod_certificates) are the PodCertificateRequests of all namespaces, which kubelet makes for volumes with the source
        C(podCertificate). It costs one request on Kubernetes 1.37 or newer, and three if the cluster does not serve them.
    type: list
    elements: str
    choices: [csrs, provider, signer, cluster, pod_certificates]
    default: [csrs, provider]
  only:
    description:
      - The states of the requests to return, by default all. RV(signers) counts every request.
      - V(issued) has a certificate. V(pending) is not decided. V(stuck) is approved, is not issued, and will not be without a change.
        V(waiting) is approved, and its signer may still answer. V(refused) is denied, or the signer reported a failure.
    type: list
    elements: str
    choices: [issued, pending, waiting, stuck, refused]
  provider:
    description:
      - The provider of the cluster. V(auto) detects it.
    type: str
    default: auto
  providers:
    description:
      - Entries for the table of providers, by the name of the provider. An entry is the signer for serving certificates, or a dictionary
        that replaces keys of the row of that name. The keys are C(rule) (a JMESPath expression over the facts of the cluster, which
        replaces all other marks, and needs the Python library jmespath 1.0.0 or newer), C(serving_signer), C(ca), C(longest_lifetime_seconds),
        C(forbidden_prefixes) and C(source).
      - The entry C(default) is the signer for clusters of an unknown provider.
    type: dict
    default: {}
seealso:
  - module: certflow.kubernetes.k8s_csr
"""

EXAMPLES = r"""
- name: Read all requests
  certflow.kubernetes.k8s_csr_info:
  register: info

- name: Show why requests are not issued
  ansible.builtin.debug:
    msg: "{{ info.csrs | selectattr('diagnosis') | map(attribute='diagnosis.cause') | list }}"

- name: Show the signers that do not answer approved requests
  ansible.builtin.debug:
    msg: "{{ info.signers | selectattr('stuck') | map(attribute='signer_name') | list }}"

- name: Read only what needs a person
  certflow.kubernetes.k8s_csr_info:
    only: [stuck, refused]

- name: Read one request
  certflow.kubernetes.k8s_csr_info:
    name: audit-webhook-request
  register: one

- name: Show why it is not issued
  ansible.builtin.debug:
    msg: "{{ one.csrs[0].diagnosis.cause | default('it is issued') }}"

- name: Find the signer for serving certificates
  certflow.kubernetes.k8s_csr_info:
    gather: [signer]
    providers: {default: kubernetes.io/kubelet-serving}
"""

RETURN = r"""
csrs:
  description: The requests.
  returned: if O(gather) has V(csrs)
  type: list
  elements: dict
  contains:
    name: {description: Name., type: str, returned: success}
    uid: {description: UID., type: str, returned: success}
    signer_name: {description: Signer., type: str, returned: success}
    condition:
      description: Condition as C(kubectl get csr) prints it. V(NotFound) if the request of O(name) does not exist.
      type: str
      returned: success
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
      description:
        - The reason why the request cannot be compared. RV(csrs[].subject) and RV(csrs[].names) are then empty.
        - The module shows names only if every program reads the same names in the request, see
          M(certflow.kubernetes.k8s_csr_approve). Do not approve a request whose names are not shown for this reason.
      type: str
      returned: when the request is not in canonical form
    created: {description: Time of its creation., type: str, returned: success}
    certificate: {description: "The issued certificate as M(certflow.kubernetes.k8s_csr) returns it.", type: dict, returned: success}
    diagnosis:
      description:
        - The reason why it is not issued. V(null) if it is issued, or if its signer may still answer.
        - It has the keys C(code), C(cause), C(certainty) (V(proven), V(likely) or V(one of)), C(evidence) and C(remedy).
        - Codes are stable.
      type: dict
      returned: success
signers:
  description: The counts of the requests in RV(csrs) by signer, with those of the nodes. The signer with most stuck requests comes first.
  returned: if O(gather) has V(csrs)
  type: list
  elements: dict
  contains:
    signer_name: {description: Signer., type: str, returned: success}
    issued: {description: Number of requests with a certificate. The cluster deletes them after an hour., type: int, returned: success}
    pending: {description: Number of requests without a decision., type: int, returned: success}
    waiting: {description: Number of requests that were approved and whose signer may still answer., type: int, returned: success}
    refused: {description: "Number of requests that were denied, or whose signer reported a failure.", type: int, returned: success}
    stuck:
      description:
        - Number of requests that were approved and are not issued, and will not be without a change.
        - A request counts if all causes of its diagnosis are V(proven) or V(likely), at once after the approval. This includes the
          code V(several), which lists likely causes. Without such a diagnosis it counts ten minutes after its approval.
      type: int
      returned: success
    oldest_stuck: {description: "Time at which the oldest stuck request was approved, V(null) without such a request.", type: str, returned: success}
provider:
  description: The provider of the cluster.
  returned: if O(gather) has V(provider)
  type: dict
  contains:
    name: {description: "Name. V(unknown) if markers are missing or contradict each other.", type: str, returned: success}
    signer_name:
      description:
        - The signer that issues serving certificates there. V(ephemeral-ca) if no signer does.
        - Empty if the provider is unknown, or if its signer is not documented.
      type: str
      returned: success
    evidence: {description: The markers of this provider., type: list, elements: str, returned: success}
    contradictions: {description: The markers of other providers., type: list, elements: str, returned: success}
    ca: {description: "The place that publishes the signing CA, empty if it is unknown.", type: str, returned: success}
    longest_lifetime_seconds: {description: "Longest lifetime of a certificate, V(null) if the flags of the cluster set it.", type: int, returned: success}
signer_name:
  description: The signer for serving certificates. V(ephemeral-ca) if no signer of the cluster issues them.
  returned: if O(gather) has V(signer)
  type: str
  sample: beta.eks.amazonaws.com/app-serving
pod_certificates:
  description: The PodCertificateRequests of all namespaces.
  returned: if O(gather) has V(pod_certificates)
  type: dict
  contains:
    api_version: {description: The API version that the API server serves. Empty if it serves none., type: str, returned: success}
    unreadable: {description: The reason why they could not be read. Empty if they could., type: str, returned: success}
    diagnosis:
      description: The reason why the API server serves none, with the keys of RV(csrs[].diagnosis). V(null) if it serves them.
      type: dict
      returned: success
    requests:
      description: The requests. kube-controller-manager deletes each 15 minutes after its creation.
      type: list
      elements: dict
      returned: success
      contains:
        namespace: {description: Namespace of the request and of the pod., type: str, returned: success}
        name: {description: Name., type: str, returned: success}
        signer_name: {description: Signer., type: str, returned: success}
        pod: {description: Name of the pod., type: str, returned: success}
        condition: {description: "V(Issued), V(Denied), V(Failed) or V(Pending).", type: str, returned: success}
        diagnosis: {description: "The diagnosis, with the keys of RV(csrs[].diagnosis). V(null) if it is issued as requested.", type: dict, returned: success}
cluster_uid:
  description: The UID of namespace kube-system, which is the cluster's identity. Empty if this user may not read it.
  returned: if O(gather) has V(cluster)
  type: str
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
  sample: unreachable
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr_info import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
