#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr
short_description: A certificate from the cluster's own signers, stored and trusted
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Makes a private key, sends a CertificateSigningRequest, approves it if wanted, waits for the certificate, verifies
    it, adds the CA that vouches for it to the webhooks that present it, and stores certificate and key in a Secret.
  - Where the certificate replaces another one, it then waits until every endpoint of the Service serves the new one, and
    drops the CA of the old one only after that was seen. So no call fails in between, whatever the run is cut off by; the
    next run goes on from there.
  - The private key exists in the memory of one process and in the Secret, nowhere else.
  - Renews inside O(renew_before), and whenever what the Secret holds is not what the task wants. Nothing renews
    between runs; schedule the task.
  - Two runs for one Service do not disturb each other. A run that writes holds a Lease in the namespace until it ends.
    Another run waits for the Lease, reads again, and usually has nothing left to do. It takes over a Lease that does not
    change for a minute. A run whose Lease another run took over fails with the code C(lease-lost). Without the permission
    for Leases the run goes on with a warning.
  - Where no signer issues, O(signer_name=ephemeral-ca) makes the certificate without any request.
  - A request that is not issued ends the task with RV(diagnosis), one sentence that says why, not with a time-out - four
    seconds after its approval where the cluster is known not to serve its signer, and as soon as the Lease of
    kube-controller-manager proves that it has stopped. All causes are on the page
    U(https://github.com/certflow/certflow.kubernetes/blob/main/docs/why-not-issued.md).
extends_documentation_fragment:
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
  - certflow.kubernetes._targets
  - certflow.kubernetes._wait
options:
  state:
    description:
      - V(present) makes sure that a valid certificate is in use.
      - V(absent) takes back what this module made for the Secret - the anchors that it added to O(targets), requests
        that were never issued, and the Secret - and nothing else.
      - A Secret that this module only adopted, or that holds other keys or another writer's marks, stays. Anchors stay
        while another Secret of the same Service needs them. A warning says so.
    type: str
    choices: [present, absent]
    default: present
  service:
    description:
      - The Service that presents the certificate. Its names C(<service>), C(<service>.<namespace>) and
        C(<service>.<namespace>.svc), the one that the API server verifies, are asked for.
      - May be left out for client certificates, and for names that O(allow_names) spells out.
    type: str
  namespace:
    description:
      - Namespace of the Service and of the Secret.
    type: str
    required: true
  secret:
    description:
      - The Secret that the workload reads.
      - A Secret that C(create-cert.sh) or this module left for the same Service is adopted. One that holds other
        keys, another writer's marks, or a certificate for other names is refused unless O(take_over=true).
      - Keys of its data, labels and annotations that this task does not name stay as they are. So does a C(ca.crt),
        unless O(secret.ca_key) names it.
    type: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the Secret.
        type: str
        required: true
      type:
        description:
          - Type of the Secret. It cannot be changed later.
        type: str
        default: kubernetes.io/tls
      certificate_key:
        description:
          - Key of the data under which the certificate is stored, such as V(cert.pem).
        type: str
        default: tls.crt
      private_key_key:
        description:
          - Key of the data under which the private key is stored, such as V(key.pem).
        type: str
        default: tls.key
      ca_key:
        description:
          - Key of the data under which the CA is stored, such as V(ca.crt), and kept up to date. Without it, it is not
            stored - except with O(signer_name=ephemeral-ca), where the default is V(ca.crt).
        type: str
      labels:
        description:
          - Labels to set. Others stay.
        type: dict
      annotations:
        description:
          - Annotations to set. Others stay.
        type: dict
  signer_name:
    description:
      - Who signs. V(kubernetes.io/kubelet-serving) works on most clusters that sign with their own CA,
        V(beta.eks.amazonaws.com/app-serving) on Amazon EKS. Any C(<domain>/<path>) is accepted.
      - It is always requested, even where this cluster is not expected to serve it.
      - V(ephemeral-ca) is no signer of the cluster - a CA is made in memory, signs this one certificate, and its key is
        thrown away. No request is sent and no right to requests is needed; everything after the certificate is the same.
        For clusters where nothing signs (an external CA, RKE1, a policy that denies) and for serving certificates alone.
      - With V(ephemeral-ca) each renewal brings a new CA, which joins the old one on O(targets). Its CA is known to the
        Secret (O(secret.ca_key)) and the targets alone. A certificate lasts a year unless O(expiration_seconds) says
        otherwise. O(approve=false) is refused, because there is nothing to approve. O(trust) and O(ca_bundle) have no
        meaning, because trusting a CA that signed once is as narrow as trusting the certificate.
      - Required with O(state=present).
    type: str
  dns_names:
    description:
      - DNS names beside the Service's. Any name that is not the Service's has to stand in O(allow_names) too.
    type: list
    elements: str
  ip_addresses:
    description:
      - IP addresses. Each has to stand in O(allow_names) too.
    type: list
    elements: str
  common_name:
    description:
      - Common name of the subject, at most 64 characters. The signer's own form by default. Required for client
        certificates, where it is the user's name.
    type: str
  organizations:
    description:
      - Organizations of the subject. The signer's own form by default. Required for client certificates, where they
        are the user's groups.
    type: list
    elements: str
  usages:
    description:
      - Usages as C(spec.usages) names them. What the signer takes by default.
      - They contain C(server auth), C(client auth) or both, and key usages. The task refuses C(cert sign), C(crl sign) and
        extended usages for other purposes, such as C(code signing).
    type: list
    elements: str
  expiration_seconds:
    description:
      - The lifetime to ask for, in seconds, at least 600. It is a hint; the signer may issue for less.
    type: int
  key_type:
    description:
      - Kind of the private key.
    type: str
    choices: [ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519]
    default: ecdsa-p256
  allow_names:
    description:
      - Names and addresses outside the Service's own that the certificate may carry, each spelled out. The cluster's
        CA signs whatever is approved, so wildcards, and names of the API server and of nodes, are refused otherwise.
        The notation of an address does not matter. V(::ffff:192.0.2.1) is the same as V(192.0.2.1).
    type: list
    elements: str
  allow_client_identity:
    description:
      - Whether the certificate may log its holder in at the API server (usage C(client auth) or C(any)). Needs
        O(common_name) and O(organizations).
    type: bool
    default: false
  approve:
    description:
      - Whether this task approves its request, after comparing its content. It then waits for the certificate even with
        O(wait=false), because the key exists only in this task. It never goes on with an earlier request. It removes a
        request and a key that an earlier task of the same identity left.
      - With V(false) another identity approves. The key waits in an immutable Secret (C(<secret>-pending)) that is deleted
        with the request. A later task of the same identity completes the request with the same key.
      - Two requests have the same identity if the API server stamps the same user name, the same UID, or on EKS the same
        canonical ARN of a role on them. The task learns its own identity by a dry run. If the waiting request is another
        identity's, or does not own the Secret, the task uses neither of them. It fails with the code
        C(requested-by-another-identity).
    type: bool
    default: true
  requesters:
    description:
      - User names that count as this identity when a task completes or removes a waiting request.
      - Set it if several identities renew one certificate with O(approve=false).
    type: list
    elements: str
  renew_before:
    description:
      - How long before its end a certificate is renewed, such as V(30d), V(12h), or a number of seconds.
      - By default the smaller of 30 days and a third of the certificate's real lifetime.
    type: str
  trust:
    description:
      - V(verified) uses the first CA that vouches for the certificate - O(ca_bundle), the kubeconfig's,
        C(kube-root-ca.crt) of the namespace, OpenShift's C(csr-controller-ca).
      - V(chain) also takes the chain that the signer sent with it.
      - V(leaf) trusts the certificate itself, which has to be written anew at each renewal.
    type: str
    choices: [verified, chain, leaf]
    default: verified
  ca_bundle:
    description:
      - CA certificates (PEM text) to try first.
    type: str
  take_over:
    description:
      - Whether to write a Secret or a target that belongs to another writer. Without it the task fails before the first
        write, with the marks that were found and what to do instead. The page
        U(https://github.com/certflow/certflow.kubernetes/blob/main/docs/other-writers.md) has all of them.
      - On a target whose C(caBundle) another writer writes itself, nothing is removed but what this module added.
    type: bool
    default: false
  workload:
    description:
      - What serves the certificate, for O(on_stale=restart).
    type: dict
    suboptions:
      kind:
        description:
          - Its kind.
        type: str
        choices: [Deployment, DaemonSet, StatefulSet]
        default: Deployment
      name:
        description:
          - Its name.
        type: str
        required: true
      namespace:
        description:
          - Its namespace. O(namespace) by default.
        type: str
  on_stale:
    description:
      - What to do where a certificate was replaced and an endpoint still serves the old one after O(served_timeout), or at
        once where it can never read the new one (a mount by C(subPath), an environment variable).
      - V(fail) says which endpoints, and why. The new certificate stays in the Secret and the old CA stays trusted.
      - V(restart) restarts O(workload) as C(kubectl rollout restart) does, and waits as long again.
    type: str
    choices: [fail, restart]
    default: fail
  served_timeout:
    description:
      - Seconds to wait until every endpoint serves a certificate that replaced another one. The kubelet brings a changed
        Secret to its pods within about 100 seconds, and within a few where this task may patch pods.
      - The check of all endpoints ends when the time is over, and has at least one second. The check of one endpoint takes at
        most ten seconds. An endpoint that was not checked in time counts as one that shows no certificate.
      - With O(wait=false) it looks once.
    type: int
    default: 120
  probe:
    description:
      - What to ask the webhooks in O(targets) through the API server, as M(certflow.kubernetes.webhook_probe) does, once every
        endpoint serves a certificate that replaced another one, and again after the old CA was dropped.
      - Where the answer is another one, the task fails and the old CA stays, or is put back. Where it proves nothing, the old
        CA stays.
    type: dict
    suboptions:
      object:
        description:
          - A manifest, sent as a server dry run and never stored. Required for admission webhooks.
        type: dict
      expect:
        description:
          - What the webhook has to say to it.
        type: str
        choices: [allowed, denied]
        default: allowed
      denial_message:
        description:
          - A text that the denial has to contain.
        type: str
        default: ""
seealso:
  - module: certflow.kubernetes.k8s_csr_info
  - module: certflow.kubernetes.k8s_csr_approve
  - module: certflow.kubernetes.webhook_cabundle
"""

EXAMPLES = r"""
- name: The snapshot validation webhook has a certificate that the API server accepts
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret: {name: snapshot-validation-secret}
    signer_name: kubernetes.io/kubelet-serving
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io

- name: A renewal is proven by a refusal that only the webhook can give, and pods that do not reload are restarted
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret: {name: snapshot-validation-secret}
    signer_name: kubernetes.io/kubelet-serving
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
    on_stale: restart
    workload: {name: snapshot-validation-deployment}
    probe:
      object:
        apiVersion: snapshot.storage.k8s.io/v1
        kind: VolumeSnapshot
        metadata: {name: probe, namespace: default}
        spec: {source: {persistentVolumeClaimName: probe}, volumeSnapshotClassName: ""}
      expect: denied
      denial_message: Spec.VolumeSnapshotClassName must not be the empty string

- name: The same for a snapshot webhook before 6.2, which reads other keys
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret:
      name: snapshot-validation-pem
      type: Opaque
      certificate_key: cert.pem
      private_key_key: key.pem
    signer_name: kubernetes.io/kubelet-serving

- name: Somebody else approves; a later run of the same task completes it
  certflow.kubernetes.k8s_csr:
    service: audit-webhook
    namespace: kube-system
    secret: {name: audit-webhook-tls}
    signer_name: kubernetes.io/kubelet-serving
    approve: false
    wait: false
  register: request

- name: A client certificate, spelled out
  certflow.kubernetes.k8s_csr:
    namespace: kube-system
    secret: {name: backup-operator-client}
    signer_name: kubernetes.io/kube-apiserver-client
    common_name: backup-operator
    organizations: [backup]
    allow_client_identity: true

- name: A certificate where no signer issues, without any request
  certflow.kubernetes.k8s_csr:
    service: policy-webhook
    namespace: kube-system
    secret: {name: policy-webhook-tls}
    signer_name: ephemeral-ca

- name: Take it all back
  certflow.kubernetes.k8s_csr:
    state: absent
    service: audit-webhook
    namespace: kube-system
    secret: {name: audit-webhook-tls}
"""

RETURN = r"""
reason:
  description: Why something was done, or that nothing had to be.
  returned: success
  type: str
  sample: "Secret kube-system/snapshot-validation-secret does not exist"
pending:
  description: Whether a certificate is still to come - its request waits for approval, or this is check mode.
  returned: success
  type: bool
csr:
  description: The request of this run.
  returned: when a request was made or continued
  type: dict
  sample:
    name: certflow-snapshot-validation-service-kube-system-3f0a52c1d9
    uid: 0b0bc0a4-9a4c-44b7-a4f5-5d1c7e3a5f07
    signer_name: kubernetes.io/kubelet-serving
    condition: Approved,Issued
certificate:
  description:
    - The certificate that is in use now; V(null) while there is none that fits. While RV(pending) is true it is the one
      that stays until the new one comes, and RV(public_key_sha256), RV(ca_bundle) and RV(targets) are about that one.
  returned: success
  type: dict
  contains:
    subject: {description: Subject as RFC 4514 text., type: str, returned: success}
    names: {description: DNS names and IP addresses., type: list, elements: str, returned: success}
    issuer: {description: Issuer as RFC 4514 text., type: str, returned: success}
    not_before: {description: Start of validity in UTC., type: str, returned: success}
    not_after: {description: End of validity in UTC., type: str, returned: success}
    serial: {description: Serial number in hexadecimal., type: str, returned: success}
    fingerprint: {description: SHA-256 of the certificate., type: str, returned: success}
    usages: {description: Usages in Kubernetes' words., type: list, elements: str, returned: success}
public_key_sha256:
  description: SHA-256 of the public key; V(null) while there is no certificate.
  returned: success
  type: str
ca_bundle:
  description: The CA certificates that vouch for the certificate, as PEM text; V(null) while there is none.
  returned: success
  type: str
ca_source:
  description: Where these were found.
  returned: success
  type: str
  sample: "ConfigMap kube-system/kube-root-ca.crt"
secret:
  description: The Secret.
  returned: success
  type: dict
  sample: {namespace: kube-system, name: snapshot-validation-secret, type: kubernetes.io/tls}
targets:
  description: The targets with the fingerprints in each bundle before and after.
  returned: success
  type: list
  elements: dict
  contains:
    kind: {description: Kind of the object., type: str, returned: always}
    name: {description: Name of the object., type: str, returned: always}
    changed: {description: "Whether this object was written, or in check mode would be.", type: bool, returned: always}
    webhooks:
      description: The places that hold a bundle, as M(certflow.kubernetes.webhook_cabundle) returns them.
      type: list
      elements: dict
      returned: always
proof:
  description:
    - Whether a certificate that replaced another one is in use, as seen by a TLS handshake with each endpoint of the Service
      and, where O(probe) is given, by what the webhooks answer.
    - V(null) where none was replaced, once it is proven, and where nobody serves the webhook yet and no CA is to go.
  returned: success
  type: dict
  contains:
    verdict:
      description:
        - V(ok) if every endpoint serves the new certificate. V(unproven) if the task cannot see that. The CA of the old
          certificate then stays in the targets, and the next run checks again.
        - It is also V(unproven) if a target calls a URL or a Service of type ExternalName. Such an address may lead each
          connection to another machine, so no number of connections shows all of them. That webhook keeps the CA of the old
          certificate, and later runs do not check again. A renewal after that CA has expired removes it. To remove it
          earlier, check that every machine serves the new certificate, and run M(certflow.kubernetes.webhook_cabundle) with
          C(mode=exactly).
      type: str
      returned: always
    evidence: {description: What keeps it from being proven., type: list, elements: str, returned: always}
    dropped: {description: How many CA certificates of the old one were taken out of the targets., type: int, returned: always}
    kept: {description: Number of CA certificates of the old one that stay in the targets., type: int, returned: always}
    served:
      description: The endpoints.
      type: list
      elements: dict
      returned: always
      contains:
        endpoint: {description: Pod or address., type: str, returned: always}
        certificate: {description: What it serves; the keys are those of RV(certificate)., type: dict, returned: always}
        verifies: {description: Whether the API server would accept that., type: bool, returned: always}
        problem: {description: Why nothing was seen or why the API server would refuse it., type: str, returned: always}
diagnosis:
  description: Why a request is not issued, as M(certflow.kubernetes.k8s_csr_info) says it.
  returned: when a request was made and not issued
  type: dict
  sample:
    code: signer-not-served
    cause: "The signer kubernetes.io/kubelet-serving does not issue request x on this cluster (eks): ..."
    certainty: likely
    evidence: ["eks: ClusterRole eks:certificate-controller-signer"]
    remedy: "Use signer_name: beta.eks.amazonaws.com/app-serving."
cluster:
  description: The API server that was spoken to, and where its address came from.
  returned: always, unless the connection could not be determined
  type: dict
  sample: {host: "https://10.0.0.1:6443", auth_source: "kubeconfig prod.yaml (the task's option kubeconfig), context c1"}
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page docs/failure-codes.md of the collection has all of them.
  returned: failure
  type: str
  sample: not-issued
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
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
