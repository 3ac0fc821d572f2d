#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr_info
short_description: Why a certificate signing request is not issued, and which provider a cluster is
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Reads certificate signing requests and explains each one that is not issued - the cause in one sentence, how
    certain it is, the evidence, and what to do. All causes that it knows, and how to see each of them by hand, are on the
    page U(https://github.com/certflow/certflow.kubernetes/blob/main/docs/why-not-issued.md).
  - Counts the requests by signer. Requests that were approved long ago and never issued are the quickest sign of a signer
    that does not work.
  - Around a stuck request it reads, once for each run, the signer's other requests, the Lease and the flags of
    kube-controller-manager, the CAs that the cluster publishes, and for signers that are not part of Kubernetes Events
    and cert-manager's issuer. For one that nobody has approved it asks whether this identity may. What it may not read
    stands in the evidence.
  - Says which provider the cluster is from, by several marks, and which signer issues serving certificates there.
extends_documentation_fragment:
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._auth
  - certflow.kubernetes._selectors
options:
  name:
    description:
      - Name of one request. Without name and selectors, all are read. One that does not exist has an entry too, with the
        condition V(NotFound).
    type: str
  gather:
    description:
      - What to return.
      - V(signer) is the signer to ask for a serving certificate. It fails, with all that was seen, where no signer
        is known and O(signers) has no entry C(default).
      - V(cluster) is the identity of the cluster. It costs one request.
    type: list
    elements: str
    choices: [csrs, provider, signer, cluster]
    default: [csrs, provider]
  provider:
    description:
      - The provider, where it is known; V(auto) recognises it.
    type: str
    default: auto
  providers:
    description:
      - Rows that are added to the table of providers, or replace parts of the row of the same C(name). Keys are
        C(name), C(rule) (a JMESPath expression over the cluster's facts, which replaces all other marks),
        C(serving_signer), C(ca), C(longest_lifetime_seconds), C(forbidden_prefixes) and C(source).
    type: list
    elements: dict
    default: []
  signers:
    description:
      - Serving signers by the provider's name, where they differ from the table's. The entry C(default) is used where
        the provider is unknown.
    type: dict
    default: {}
seealso:
  - module: certflow.kubernetes.k8s_csr
"""

EXAMPLES = r"""
- name: What is stuck, and why
  certflow.kubernetes.k8s_csr_info:
  register: info

- name: Show it
  ansible.builtin.debug:
    msg: "{{ info.csrs | selectattr('diagnosis') | map(attribute='diagnosis.cause') | list }}"

- name: Signers that leave approved requests unanswered
  ansible.builtin.debug:
    msg: "{{ info.signers | selectattr('stuck') | map(attribute='signer_name') | list }}"

- name: One request, whoever made it
  certflow.kubernetes.k8s_csr_info:
    name: audit-webhook-request
  register: one

- name: Why it is not issued
  ansible.builtin.debug:
    msg: "{{ one.csrs[0].diagnosis.cause | default('it is issued') }}"

- name: Which signer issues here
  certflow.kubernetes.k8s_csr_info:
    gather: [signer]
    signers: {default: kubernetes.io/kubelet-serving}
"""

RETURN = r"""
csrs:
  description: The requests.
  returned: when O(gather) has V(csrs)
  type: list
  elements: dict
  contains:
    name: {description: Name., type: str, returned: success}
    uid: {description: UID., type: str, returned: success}
    signer_name: {description: Signer., type: str, returned: success}
    condition:
      description: Condition as C(kubectl get csr) prints it; V(NotFound) for a O(name) that does not exist, or no longer.
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
    created: {description: When it was made., type: str, returned: success}
    certificate: {description: "The issued certificate as M(certflow.kubernetes.k8s_csr) returns it.", type: dict, returned: success}
    diagnosis:
      description:
        - Why it is not issued, or not for as long as it asked for; V(null) where all is well.
        - Keys C(code), C(cause), C(certainty) (V(proven), V(likely) or V(one of)), C(evidence), C(remedy).
        - Codes are stable. For issued requests they are V(lifetime-shortened) and V(signing-ca-expiring).
      type: dict
      returned: success
signers:
  description: How the signers do, by the requests in RV(csrs), nodes' own included; the one with most stuck requests first.
  returned: when O(gather) has V(csrs)
  type: list
  elements: dict
  contains:
    signer_name: {description: Signer., type: str, returned: success}
    issued: {description: How many have a certificate. The cluster collects those after an hour., type: int, returned: success}
    pending: {description: How many wait for a decision., type: int, returned: success}
    stuck: {description: How many were approved ten minutes ago or earlier and never answered., type: int, returned: success}
    oldest_stuck: {description: "When the oldest of these was approved, V(null) where there is none.", type: str, returned: success}
provider:
  description: Which provider the cluster is from.
  returned: when O(gather) has V(provider)
  type: dict
  contains:
    name: {description: "Name, V(unknown) where marks are missing or contradict each other.", type: str, returned: success}
    signer_name:
      description: The signer that issues serving certificates there, V(ephemeral-ca) where none does, empty where unknown.
      type: str
      returned: success
    evidence: {description: What speaks for it., type: list, elements: str, returned: success}
    contradictions: {description: What speaks against it., type: list, elements: str, returned: success}
    ca: {description: "Where the CA that signs is published, empty where unknown.", type: str, returned: success}
    longest_lifetime_seconds: {description: "Longest lifetime of a certificate, V(null) where the cluster's flags set it.", type: int, returned: success}
signer_name:
  description: The signer to ask for a serving certificate; V(ephemeral-ca) where none issues and none is asked.
  returned: when O(gather) has V(signer)
  type: str
  sample: beta.eks.amazonaws.com/app-serving
cluster_uid:
  description: The UID of namespace kube-system, which is the cluster's identity. Empty if this user may not read it.
  returned: when O(gather) has V(cluster)
  type: str
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
  sample: unreachable
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr_info import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
