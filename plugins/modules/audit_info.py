#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_info
short_description: Audit every webhook, conversion webhook and aggregated API of a cluster
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Finds webhooks that block the API server now, or will do so at a known time. It reads one cluster, and writes nothing.
  - Looks at validating and mutating webhooks, conversion webhooks of CustomResourceDefinitions, and aggregated APIs, of any owner. It
    also looks at stuck certificate signing requests, the certificate of the API server, and the login of the task.
  - Reads the certificate that each endpoint serves, through the API server as C(kubectl port-forward) does. It compares this
    certificate with the CA bundle by the rules of the API server.
  - Reads the counters of the API server and Events about calls that failed. Only these show the network path of the API server.
  - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_audit.html) lists all checks.
  - The task does not fail because of findings. Use RV(counts) to fail a play.
extends_documentation_fragment:
  - certflow.kubernetes._attributes.info
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  without:
    description:
      - What the site does not permit. The audit does not read it. The checks that need it have the status V(skip) instead of V(unknown).
      - V(port-forward) leaves out the certificates that pods serve. The audit then compares only references, scopes and CA bundles.
      - V(metrics) and V(events) leave out calls that failed. V(requests) leaves out certificate signing requests, and
        V(pod-certificates) leaves out PodCertificateRequests.
      - V(namespaces), V(pods) and V(nodes) leave out the labels for the selectors of webhooks.
      - V(certificates) leaves out the Certificates of cert-manager. V(cluster-ca) leaves out the ConfigMap C(kube-root-ca.crt).
      - V(client-ca) leaves out the ConfigMap C(extension-apiserver-authentication). It is read only during a rotation of the cluster's CA.
      - V(identity) leaves out the UID of the namespace C(kube-system). Without the UID, findings of two audits cannot be compared.
      - The data that RV(incomplete) lists cannot be left out.
    type: list
    elements: str
    default: []
  probe_urls:
    description:
      - Whether to read the certificates at the URLs of webhooks and behind Services of type ExternalName. The task then connects to
        addresses that the objects of the cluster name. During a rotation of the cluster's CA it also connects to each API server of the
        EndpointSlice C(default/kubernetes).
    type: bool
    default: false
  endpoints_per_service:
    description:
      - The maximum number of endpoints of one Service whose certificates are read. The finding about the other endpoints
        has the status V(unknown).
    type: int
    default: 10
  previous_counters:
    description:
      - The result RV(counters) of an earlier audit of this cluster. The findings of C(calls-fail) then show how many calls failed
        since that audit. A webhook that it does not name had no failed call.
      - Only calls that fail during the audit give a finding above V(info). A call that failed before may succeed again.
    type: dict
  snapshot_version:
    description:
      - A release of external-snapshotter, such as V(8.7.0). If a snapshot controller is installed, the audit also returns the hazards
        of an upgrade to this release. It then needs the permissions of M(certflow.kubernetes.snapshot_controller_info).
    type: str
  certificate_authorities:
    description:
      - The descriptions of the cluster's CAs that Amazon EKS returns, as a dictionary. It is the output of
        C(aws eks describe-certificate-authority) for the successor, or a dictionary whose key C(certificateAuthorities) is a list of such
        outputs. It has the dates at which EKS activates the successor by itself.
      - An entry for another CA, an entry without the certificate, and past dates that do not fit the cluster have no effect.
        The output of C(aws eks list-certificate-authorities) has no dates.
    type: dict
  ca_break_days:
    description:
      - If the switch to the successor of the cluster's CA comes within this number of days, findings about a missing
        successor have the severity V(error) instead of V(warning).
    type: int
    default: 30
  cluster_name:
    description:
      - The name of the cluster, such as C(inventory_hostname). The patterns of O(exceptions[].clusters) match it.
    type: str
    default: ""
  exceptions:
    description:
      - Findings that are accepted for a limited time. They stay in the result with RV(findings[].excepted), and RV(counts) counts them apart.
      - The owner of an object can except it with the annotation C(certflow.kubernetes/audit-except), whose value has the ids of
        checks, separated by commas.
    type: list
    elements: dict
    default: []
    suboptions:
      check:
        description:
          - The id of the check.
        type: str
        required: true
      clusters:
        description:
          - Shell patterns of O(cluster_name) or of O(cluster_uid). The UID that the cluster reports does not count, because a cluster
            may report the UID of another cluster. An empty list is an error.
        type: list
        elements: str
        default: ["*"]
      objects:
        description:
          - Shell patterns of C(KIND/NAME), for objects in a namespace C(KIND/NAMESPACE/NAME), or of the name of a webhook. An empty list is
            an error.
        type: list
        elements: str
        default: ["*"]
      reason:
        description:
          - The reason for readers of the report.
        type: str
        required: true
      until:
        description:
          - The last day of the exception, such as V(2027-01-31), or a time of RFC 3339. After it the finding counts again.
        type: str
        required: true
  include_passed:
    description:
      - Whether to return the findings with the status V(pass) and V(skip) too.
    type: bool
    default: false
notes:
  - For a cluster with 40 webhooks of 20 Services it sends 12 requests and 2 for each Service, and does one handshake for each endpoint.
    RV(traffic) returns the requests and bytes.
  - If the cluster does not answer the first requests, the task fails. After that, an error, or no answer before
    O(wait_timeout) ends, is a finding with the status V(unknown).
  - It reads CustomResourceDefinitions in pages of 50. Each page has their schemas, which may be several megabytes.
  - Names and messages of the cluster are untrusted text. In the result they have no hidden characters, and at most 600 characters each.
seealso:
  - module: certflow.kubernetes.webhook_probe
  - module: certflow.kubernetes.k8s_csr_info
  - module: certflow.kubernetes.snapshot_controller_info
"""

EXAMPLES = r"""
- name: Audit the cluster
  certflow.kubernetes.audit_info:
  register: audit

- name: Show what breaks, the first one first
  ansible.builtin.debug:
    msg: "{{ audit.findings | selectattr('status', 'equalto', 'fail') | map(attribute='cause') | list }}"

- name: Fail if something is broken, or soon will be
  ansible.builtin.assert:
    that: audit.counts.error == 0 and audit.incomplete == []

- name: Accept a finding for some time
  certflow.kubernetes.audit_info:
    cluster_name: "{{ inventory_hostname }}"
    exceptions:
      - check: control-plane-blocked
        clusters: ["dev-*"]
        objects: ["ValidatingWebhookConfiguration/policy-*"]
        reason: The team moves the policy engine to its own namespaces.
        until: "2027-01-31"

- name: Audit without a connection to pods
  certflow.kubernetes.audit_info:
    without: [port-forward]
"""

RETURN = r"""
audited_at:
  description: The time of the audit by the clock of the API server.
  returned: success
  type: str
  sample: "2026-11-25T12:00:00Z"
cluster_uid:
  description: The UID of the namespace C(kube-system). Empty without the permission to read it.
  returned: success
  type: str
kubernetes_version:
  description: The version of the API server.
  returned: success
  type: str
  sample: v1.36.3
findings:
  description:
    - The findings. Those that failed come first, by RV(findings[].breaks_at).
    - What could not be read is one finding with the status V(unknown) for each reason. Its evidence names the checks and the missing
      permissions.
  returned: success
  type: list
  elements: dict
  contains:
    check: {description: "The id of the check. It never changes.", type: str, returned: success}
    status: {description: "V(fail) or V(unknown). With O(include_passed) also V(pass) and V(skip).", type: str, returned: success}
    severity:
      description: V(error) if something fails, or will fail at a known time. V(warning) for a hazard. V(info) otherwise.
      type: str
      returned: success
    certainty: {description: "V(proven), V(likely) or V(one of).", type: str, returned: success}
    object:
      description: The object.
      type: dict
      returned: success
      contains:
        api_version: {description: Group and version., type: str, returned: success}
        kind: {description: Kind., type: str, returned: success}
        namespace: {description: "Namespace, empty for cluster-wide objects.", type: str, returned: success}
        name: {description: Name., type: str, returned: success}
        uid: {description: UID., type: str, returned: success}
        webhook: {description: Name of the webhook in a configuration., type: str, returned: success}
        path: {description: JSON pointer of the client configuration., type: str, returned: success}
    cause: {description: The fault in one sentence., type: str, returned: success}
    evidence: {description: The observations., type: list, elements: str, returned: success}
    breaks_at:
      description:
        - The time at which the fault takes effect. A time that is not later than RV(audited_at) means now. V(null) if it is not known.
      type: str
      returned: success
    manager:
      description: The programs that manage the object. V(unmanaged) if it has no marker of a known program.
      type: str
      returned: success
    excepted:
      description: The exception that accepts the finding, a dictionary with C(reason) and C(until). V(null) if no exception accepts it.
      type: dict
      returned: success
    fingerprint: {description: A value that is the same in later audits of this cluster., type: str, returned: success}
    source: {description: "With the status V(unknown), the data that could not be read, such as V(services).", type: str, returned: success}
    unanswered:
      description: With the status V(unknown), the ids of the checks without a complete answer.
      type: list
      elements: str
      returned: success
    objects:
      description:
        - With the status V(unknown), the objects without an answer. C(every KIND) means all objects of a kind.
        - With the status V(fail), the objects if the finding is about several.
      type: list
      elements: str
      returned: success
    permissions:
      description: With the status V(unknown), the missing permissions, each a verb and a resource.
      type: list
      elements: str
      returned: success
    impact:
      description:
        - V(refuses) if the API server refuses requests after a failed call of the object, V(skips) if it skips the webhook. Empty if the
          object is not one that the API server calls.
      type: str
      returned: success
    requests:
      description: The requests for which the API server calls the object, such as C(CREATE of deployments.apps).
      type: list
      elements: str
      returned: success
checks:
  description: The checks by id, each with its findings counted.
  returned: success
  type: dict
  contains:
    ID:
      description: The id of a check.
      type: dict
      returned: success
      contains:
        title: {description: The fault in general., type: str, returned: success}
        category: {description: "One of tls, reach, scope, conversion, api, request, cluster.", type: str, returned: success}
        severity: {description: The severity of its findings. A finding may have another one., type: str, returned: success}
        effect: {description: The consequence of the fault., type: str, returned: success}
        remedy: {description: The way to mend it., type: str, returned: success}
        url: {description: The page of the check., type: str, returned: success}
        leads: {description: Whether its findings come before all others because they explain them., type: bool, returned: success}
        counts: {description: The numbers of findings by status., type: dict, returned: success}
counts:
  description: >-
    The numbers of failed findings by severity (C(error), C(warning), C(info)), of accepted findings (C(excepted)), and of the other
    findings by status (C(unknown), C(pass), C(skip)).
  returned: success
  type: dict
breaks_at:
  description: The earliest time of RV(findings[].breaks_at), V(null) if no failed finding has one.
  returned: success
  type: str
exceptions:
  description: The entries of O(exceptions) with their use.
  returned: success
  type: list
  elements: dict
  contains:
    check: {description: As in the option., type: str, returned: success}
    clusters: {description: As in the option., type: list, elements: str, returned: success}
    objects: {description: As in the option., type: list, elements: str, returned: success}
    reason: {description: As in the option., type: str, returned: success}
    until: {description: The end., type: str, returned: success}
    state:
      description: V(matched), V(unused), V(expired), or V(other-cluster) if it is not for this cluster.
      type: str
      returned: success
    findings: {description: The number of findings that it matches., type: int, returned: success}
incomplete:
  description:
    - What the audit could not read of the webhook configurations (C(configurations)), CustomResourceDefinitions (C(definitions)),
      APIServices (C(api-services)), Services and EndpointSlices (C(services)). An audit with an entry has not seen everything that the
      API server calls, so it is no proof that the cluster has no fault.
    - C(comparisons) if O(wait_timeout) ended before each object was compared.
  returned: success
  type: list
  elements: str
certificate_authority_data:
  description:
    - The CAs of the cluster for the field C(certificate-authority-data) of the kubeconfig, with the CA in use first. It is empty unless
      the kubeconfig lacks the successor of the cluster's CA, or has the CAs in an order that OpenSSL refuses.
  returned: success
  type: str
counters:
  description:
    - The numbers of failed calls by webhook, for O(previous_counters). They are those of one API server. V(null) if they could not be
      read.
  returned: success
  type: dict
limits:
  description: The limits of the audit.
  returned: success
  type: dict
  contains:
    without: {description: The option., type: list, elements: str, returned: success}
    probe_urls: {description: The option., type: bool, returned: success}
    endpoints_per_service: {description: The option., type: int, returned: success}
    endpoints_left_out: {description: The number of endpoints that the limit left out., type: int, returned: success}
seconds:
  description: The duration of the audit.
  returned: always, unless the connection could not be determined
  type: float
  sample: 2.4
traffic:
  description: The cost of the audit.
  returned: success
  type: dict
  contains:
    requests: {description: "The number of requests, repeated ones included.", type: int, returned: success}
    bytes_received:
      description: The bytes of the answers. Those of TLS handshakes with endpoints are not counted.
      type: int
      returned: success
    handshakes: {description: The number of TLS handshakes with endpoints., type: int, returned: success}
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
  description: The way to mend it. Without a failure, the commands that grant the permissions that the audit lacks, or an empty text.
  returned: always
  type: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.audit_info import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
