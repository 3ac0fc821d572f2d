#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: webhook_repair
short_description: Repair what an audit finds about webhooks
description:
  - Audits the cluster, and repairs the findings that the kinds of O(kinds) cover. A repair is one conditional write of one object. A
    second audit proves it.
  - The module adds a CA only if a known program publishes it in the cluster, and only if it verifies every endpoint of the Service. It
    never trusts a certificate because an endpoint serves it.
  - The module does not write a field of another owner, unless O(accept) names the owner. The owner of the field counts. Marks of Helm,
    Argo CD or Flux on the object do not count. If another client overwrites a repair, the module refuses to repair this field for seven
    days. What this collection writes itself does not count.
  - An added CA stays, because it breaks nothing. A removal that is not proven is restored.
  - In check mode the module returns the plan. The API server tries each write by a dry run.
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
extends_documentation_fragment:
  - certflow.kubernetes._accept
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  findings:
    description:
      - The only findings to repair, as RV(certflow.kubernetes.audit_info#module:findings) has them, or their fingerprints. A finding
        whose check passes now for the object gets the state V(gone).
      - If unset, the module repairs every finding that has no exception by an annotation of the object.
    type: list
    elements: raw
  kinds:
    description:
      - The kinds of repairs that the task may do.
      - V(add-ca) adds the CA to the C(caBundle) of a webhook, a conversion or an aggregated API. An empty C(caBundle) means the roots of the
        API server's system. Then the module first makes the API server call the webhook by a dry run, which must be refused.
      - V(secure-apiservice) writes the C(caBundle) of an APIService and removes C(insecureSkipTLSVerify) in the same write. It counts
        endpoints that are not ready, and waits for those that do not show their certificate.
      - V(reload) restarts the workload whose pods do not serve the good certificate of their Secret, as C(kubectl rollout restart) does. The
        last rollout must be complete. The workload must have two or more replicas, and its strategy must keep one of them. A restart
        cannot be undone.
      - V(add-successor) adds each CA of the cluster that is in use or younger to each C(caBundle) that lacks it, before or after the
        switch. It removes no CA, and needs no endpoint. The written field is the proof.
      - V(remove-outgoing) removes the outgoing CA from each C(caBundle) that this collection wrote, or whose owner O(accept) names. The
        state is V(waiting) before the switch, while Amazon EKS can roll back, and for 24 hours after the switch. It is also V(waiting)
        while an endpoint serves a certificate of the outgoing CA or does not show one, ready or not, and while a Secret of its pods has
        such a certificate or may not be read. For a URL or a Service of type
        ExternalName the CA stays until it has expired, or until O(accept) has the object for V(unseen). This kind must be the only kind
        of a task.
    type: list
    elements: str
    choices: [add-ca, secure-apiservice, reload, add-successor, remove-outgoing]
    default: [add-ca]
  proof_after:
    description:
      - Seconds after which the module reads the written fields again, and audits the cluster again. The delay is for programs that
        overwrite a C(caBundle) from time to time.
    type: int
    default: 60
  probe_urls:
    description:
      - Whether the audit connects to addresses outside of the cluster, as in M(certflow.kubernetes.audit_info).
    type: bool
    default: false
  cluster_ca:
    description:
      - What you know about a rotation of the cluster's CA, for V(add-successor) and V(remove-outgoing).
    type: dict
    suboptions:
      successor:
        description:
          - The successor as PEM text, with its intermediates and without the outgoing CA. Set it only for a cluster that publishes the
            successor and switches to it at one restart, such as k3s and RKE2. It must be a CA that is valid now, and younger than the CA
            in use. The cluster must publish it, a published CA must have signed a twin of it, or O(cluster_ca.certificate_authorities)
            must have it and the CA in use.
        type: str
        default: ""
      certificate_authorities:
        description:
          - The descriptions of CAs that Amazon EKS returns, as in O(certflow.kubernetes.audit_info#module:certificate_authorities). The
            outgoing CA stays while an entry says that a rollback is available. On Amazon EKS it also stays without an entry of the CA in use.
        type: dict
      confirmed:
        description:
          - Whether you confirm that every API server and every signer uses the successor. Set it only if the audit cannot connect to each
            API server itself, or sees no certificate of a signer.
        type: bool
        default: false
      outgoing:
        description:
          - CAs that the cluster no longer publishes, each as PEM text or as its SHA-256 fingerprint, for V(remove-outgoing). Name the
            outgoing CA if it was removed from the cluster too early, or the successor of a rotation that was abandoned.
        type: list
        elements: str
        default: []
  approved_plan:
    description:
      - The RV(plan_digests) of the same task in check mode. The task fails with the code C(plan-differs) before the first write if the
        cluster or an option is not that of the plan, or if the plan lacks a write. Fewer writes do not count as a difference.
    type: list
    elements: str
seealso:
  - module: certflow.kubernetes.audit_info
  - module: certflow.kubernetes.webhook_cabundle
notes:
  - The permissions are those of C(docs/rbac/repair.yaml) and of the audit. The permission to patch every webhook configuration is close to
    that of a cluster administrator.
  - As a part of the proof, the module sends a dry run that makes the API server call the repaired webhook. It sends the dry run only if the
    webhook certainly matches the object. This needs the permission to create the object. The permission is optional, and
    C(docs/rbac/repair.yaml) does not grant it.
  - O(wait_timeout) limits each audit, the plan, all writes together, and the wait for the proof.
"""

EXAMPLES = r"""
- name: Add the CA to each caBundle that lacks it
  certflow.kubernetes.webhook_repair:

- name: Audit the cluster
  certflow.kubernetes.audit_info:
  register: audit

- name: Repair what this audit found about one configuration
  certflow.kubernetes.webhook_repair:
    findings: "{{ audit.findings | selectattr('object.name', 'equalto', 'example-webhook') }}"
    accept:
      - manager:example-operator: [ValidatingWebhookConfiguration/example-webhook]

- name: Prepare every webhook for the switch to another CA of the cluster
  certflow.kubernetes.webhook_repair:
    kinds: [add-successor]

- name: Let the API server verify the aggregated APIs
  certflow.kubernetes.webhook_repair:
    kinds: [secure-apiservice]
"""

RETURN = r"""
certificate_authority_data:
  description:
    - The CAs of the cluster for the field C(certificate-authority-data) of the kubeconfig, with the CA in use first. It is empty unless
      the kubeconfig lacks the successor of the cluster's CA, or has the CAs in an order that OpenSSL refuses.
  returned: success, and failure after a write
  type: str
ca_state:
  description:
    - The rotation of the cluster's CA before the writes. V(no-successor) if the cluster publishes one CA. V(before-switch) if a successor is
      published or named, and does not sign. V(during-switch) if some API servers or signers use the successor. V(after-switch) if all that
      were seen use it. V(unknown) if no published CA is known to be in use.
  returned: success, and failure after a write
  type: str
  sample: before-switch
left:
  description:
    - What the task was asked for and did not do, such as a write that was refused or that waits for the owner of the object. A
      finding in O(findings) that no kind of the task repairs is in it. A wait that only needs time is not in it.
  returned: success, and failure after a write
  type: dict
  contains:
    count:
      description: The number of repairs.
      type: int
      returned: always
      sample: 1
    first:
      description: The first of them with C(object), C(code), C(reason) and C(remedy), or null.
      type: dict
      returned: always
repairs:
  description: The findings with their repairs. In check mode, the repairs that a task without check mode would make.
  returned: success, and failure after a write
  type: list
  elements: dict
  contains:
    finding:
      description: The fingerprint of the finding.
      type: str
      returned: always
      sample: 5d1f25c8e0dc6a3f2b6a7f6a3b3ac0a1
    check:
      description: The id of the check.
      type: str
      returned: always
      sample: ca-mismatch
    object:
      description: The object of the finding, as M(certflow.kubernetes.audit_info) returns it.
      type: dict
      returned: always
    is_left:
      description: Whether it counts for RV(left).
      type: bool
      returned: always
      sample: false
    kind:
      description: The kind of the repair. Empty if no kind fits.
      type: str
      returned: always
      sample: add-ca
    state:
      description:
        - V(planned) in check mode. V(repaired) if the repair is proven. V(written) if a CA was added, and nothing proves yet that the fault is
          gone. V(refused) if nothing was written.
          V(waiting) if nothing was written, and a later task may write. V(gone) if the check of this finding of O(findings) passes for the
          object, or if the object does not exist.
        - The task fails if a state is V(overwritten), V(put-back) or V(failed). V(overwritten) means that another client replaced the
          written value. V(put-back) means that a removal was not proven, and that the module restored the earlier value.
      type: str
      returned: always
      sample: repaired
    code:
      description:
        - An id of the reason of a refusal, a wait or a failure. It never changes. Empty without such a reason.
        - V(not-published) if no CA that the cluster publishes verifies every endpoint. V(endpoints-unread) if an endpoint did not show its
          certificate. V(owned-by-another) if the field has another owner. V(overwritten-by) if another client replaced an earlier repair.
          V(trust-field-unknown) if the collection does not know a field beside the C(caBundle). V(not-repairable) if no
          kind in O(kinds) repairs this fault.
        - V(recreated) if the check still finds the fault in an object of that name, and the object or the cluster has another UID than in
          the finding. V(not-proven) if the audit does not have the finding any more, and its check did not pass.
        - V(blocks-its-own-pods) if the API server would call the webhook for its own new pods. V(no-pod-left) if the restart may leave no
          pod that answers. V(rollout-incomplete) if the last rollout of the workload is not complete. V(rollout-held) if the workload does not
          replace its pods by itself, as with the strategy C(OnDelete). V(no-workload) if the pods do not belong to one workload.
          V(still-needed) if the API server would refuse the certificate of the Secret for another object that leads to these pods.
        - V(unproven) if the check did not pass after the write. V(refusal-unseen) if the C(caBundle) is empty, and no refused call was seen.
        - V(injected-at-start), V(not-switched), V(rollback-available), V(api-server-unseen), V(signer-unseen), V(not-settled),
          V(outgoing-served), V(endpoint-unseen) and V(still-needed) during a rotation of the cluster's CA, as
          U(https://certflow.github.io/certflow.kubernetes/docsite/guide_cluster_ca.html) describes them.
        - Any other code is a failure code, such as V(forbidden).
      type: str
      returned: always
      sample: ""
    reason:
      description: The reason as a sentence. Empty without a reason.
      type: str
      returned: always
    remedy:
      description: The next action of the user.
      type: str
      returned: always
    evidence:
      description:
        - The observations behind the reason, such as each place that has no CA that verifies the endpoints. For a repair,
          they are the certificates that it adds or removes, and the answer of the API server, or the reason why the module sent no
          dry run.
      type: list
      elements: str
      returned: always
    proof:
      description:
        - V(call) if the second audit passed, and the API server also called the webhook. The call is a dry run of a ConfigMap, a
          ServiceAccount, a Deployment, a Pod or a custom resource, or the discovery document of an aggregated API.
        - V(audit) if only the second audit proves the repair. Then RV(repairs[].evidence) has the reason.
        - V(field) if the written field is the proof, for V(add-successor).
        - Empty without a proof.
      type: str
      returned: always
      sample: call
    writes:
      description: The writes of the repair. Repairs of one object share one write.
      type: list
      elements: dict
      returned: always
      contains:
        verb:
          description: The verb of the request.
          type: str
          returned: always
          sample: patch
        api_version:
          description: The version of the API.
          type: str
          returned: always
          sample: admissionregistration.k8s.io/v1
        kind:
          description: The kind of the object.
          type: str
          returned: always
          sample: ValidatingWebhookConfiguration
        namespace:
          description: The namespace of the object. Empty for a cluster-scoped object.
          type: str
          returned: always
          sample: ""
        name:
          description: The name of the object.
          type: str
          returned: always
          sample: example-webhook
        fields:
          description: The JSON pointers of the fields that are written.
          type: list
          elements: str
          returned: always
          sample: [/webhooks/0/clientConfig/caBundle]
        digest:
          description: A digest of the write, which includes the fingerprints of CAs.
          type: str
          returned: always
plan_digests:
  description: The digests for O(approved_plan). They cover what the API server accepted in the dry runs.
  returned: in check mode, and with O(approved_plan)
  type: list
  elements: str
seconds:
  description: The duration of the task.
  returned: always
  type: float
  sample: 62.4
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
  sample: repair-failed
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_repair import (
    OPERATION,
)


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
