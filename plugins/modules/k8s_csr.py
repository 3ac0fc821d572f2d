#!/usr/bin/python
# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_csr
short_description: Request, store and renew a certificate from the signers of a cluster
version_added: 1.0.0
author: certflow.kubernetes contributors (@certflow)
description:
  - Creates a private key and a certificate signing request (CSR), approves the CSR, waits for the certificate, and verifies it. Then
    it adds the CA of the certificate to the CA bundles of the webhooks, and stores the certificate and the key in a Secret.
  - If the certificate replaces another one, the module then waits until every endpoint of the Service serves the new one. Only then
    does it remove the CA of the old certificate. So no call of the webhook fails in the meantime, even if the run is interrupted. The
    next run continues.
  - The private key exists only in the memory of one process and in the Secret.
  - The module renews a certificate when the time of O(renew_before) has come, or if the content of the Secret does not match the task.
    It does not run between tasks, so schedule the task.
  - Two runs for one Service do not disturb each other. A run that writes holds a Lease in the namespace until it ends.
    Another run waits for the Lease, reads the state again, and usually has nothing left to do. It takes over a Lease that does
    not change for a minute. If another run has taken over its Lease, a run fails with the code C(lease-lost). Without the
    permission for Leases, the run continues with a warning.
  - If no signer issues certificates in the cluster, O(signer_name=ephemeral-ca) creates the certificate without a CSR.
  - If no certificate is issued, the task fails with RV(diagnosis), which names the cause. If the cluster is known not to serve the
    signer, the task fails one second after the approval. If no kube-controller-manager renews its Lease, the task fails 45 seconds
    after the approval. The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_diagnosis.html) lists all causes.
extends_documentation_fragment:
  - certflow.kubernetes._accept
  - certflow.kubernetes._attributes
  - certflow.kubernetes._auth
options:
  state:
    description:
      - V(present) makes sure that a valid certificate is in use.
      - V(absent) removes the Secret that this module created, the CA certificates that it added to O(targets), and its CSRs without a
        certificate.
      - V(absent) never deletes a Secret that this module did not create. That includes an adopted Secret whose certificate this module
        renewed, a Secret in which another client stored its own certificate or key, and a copy of a Secret with another name. It also
        keeps a Secret with other keys, with another CA in C(ca.crt), or with marks of another manager. It removes its labels and
        annotations from such a Secret. A warning says until when the certificate is valid. It keeps CA certificates that another Secret
        of the same Service needs.
      - V(absent) needs the O(secret.certificate_key) and O(secret.private_key_key) of the task that made the Secret. Without them, it removes
        no Secret and no CA certificate.
      - V(absent) fails with the code C(still-needed) before the first write if the API server would then refuse requests, because
        a C(caBundle) would no longer verify what an endpoint serves. It names these requests. An endpoint that it
        cannot see, or another machine behind a URL, may serve the certificate too, until the CA has expired. O(accept) with V(downtime)
        or V(unseen) allows the removal.
      - V(verified) writes nothing. It fails with the code C(verification-failed) if a certificate is due, or if an endpoint of the Service
        does not serve the certificate of the Secret, or serves it to API servers that do not trust it. A warning says if this user lacks
        the permission to see the endpoints.
    type: str
    choices: [present, absent, verified]
    default: present
  service:
    description:
      - The Service that presents the certificate. The module requests its names C(<service>), C(<service>.<namespace>) and
        C(<service>.<namespace>.svc). The API server verifies the last name.
      - Not required for client certificates, or if O(allow_names) has all names.
    type: str
  namespace:
    description:
      - The namespace of the Service and of the Secret.
    type: str
    required: true
  secret:
    description:
      - The Secret that the workload reads.
      - The module adopts a Secret that C(create-cert.sh) or another client created for the same Service. It refuses a Secret with other
        keys, with markers of another manager, or with a certificate for other names, unless O(accept) names the owner. It also refuses
        to write O(secret.ca_key) over another CA than that of the certificate.
      - It keeps an adopted certificate until its renewal is due, if it has the name that the API server verifies and every name of
        O(names). It replaces the certificate only if the new one has all names, URIs, e-mail addresses and usages and the subject of the old
        one. Otherwise, it fails with the code C(secret-unusable) and names what would be lost. So it does for a private key of another
        client without a certificate, or with one that cannot be read. V(foreign-secret) in O(accept) allows the loss.
      - A certificate that another client stores later in a Secret of this module is that client's certificate.
      - Other keys of its data, other labels and other annotations stay as they are. A C(ca.crt) also stays, unless O(secret.ca_key)
        names it. Under O(secret.ca_key), a CA that another client added stays beside the CA of the certificate.
    type: dict
    required: true
    suboptions:
      name:
        description:
          - The name of the Secret.
        type: str
        required: true
      type:
        description:
          - The type of the Secret. It cannot be changed later.
        type: str
        default: kubernetes.io/tls
      certificate_key:
        description:
          - The key of the data that holds the certificate, such as V(cert.pem).
        type: str
        default: tls.crt
      private_key_key:
        description:
          - The key of the data that holds the private key, such as V(key.pem).
        type: str
        default: tls.key
      ca_key:
        description:
          - The key of the data that holds the CA certificate, such as V(ca.crt). If unset, the Secret does not hold the CA. With
            O(signer_name=ephemeral-ca) the default is V(ca.crt).
        type: str
      labels:
        description:
          - Labels to set. Other labels stay.
        type: dict
      annotations:
        description:
          - Annotations to set. Other annotations stay.
        type: dict
  discover_targets:
    description:
      - Whether the module also finds targets itself. It lists the webhook configurations, CustomResourceDefinitions and APIServices
        that call O(service). It uses each C(caBundle) that is empty, that has the field manager of this collection, or
        that holds a CA that this module added. It reports the others in RV(skipped_targets).
      - The Secret records what a task has found. A later task without this option still uses the recorded objects, as
        long as they call the Service.
      - An object of another manager is refused as in O(targets), unless O(accept) names the owner.
      - With O(state=absent) the module also removes its CA certificates from the objects that it finds and from the recorded ones.
      - Requires the permission to list the four kinds.
    type: bool
    default: false
  signer_name:
    description:
      - The signer. V(kubernetes.io/kubelet-serving) issues on most clusters that sign with their own CA, and
        V(beta.eks.amazonaws.com/app-serving) on Amazon EKS. The module accepts any C(<domain>/<path>).
      - The module always sends the CSR, even if it does not expect this cluster to serve the signer.
      - V(ephemeral-ca) is not a signer of the cluster. The module creates a CA in memory, signs this certificate, and discards the CA's
        key. It sends no CSR and needs no permission for CSRs. Use it for serving certificates in clusters without a signer. Examples
        are clusters with an external CA, and clusters with a policy that denies CSRs.
      - With V(ephemeral-ca), each renewal creates a new CA and adds it to O(targets). Only the Secret (O(secret.ca_key)) and the targets
        hold the CA. A certificate is valid for a year unless O(expiration_seconds) is set. O(approve=false) is refused, because there
        is no CSR. O(trust) and O(ca_bundle) have no effect.
      - By default the signer of the cluster's provider. The task fails if the provider is unknown, and O(providers) has no entry C(default).
    type: str
  provider:
    description:
      - The provider of the cluster, such as V(eks), if O(signer_name) is not set. V(auto) detects it.
      - If the provider is unknown, M(certflow.kubernetes.k8s_signer_probe) shows which signers issue here.
      - If the module finds the signer in its table, a valid certificate of another signer stays until its renewal is due.
    type: str
    default: auto
  providers:
    description:
      - Signers by provider that replace those of the table, and C(default) for an unknown provider. An entry may also be a row, as in
        M(certflow.kubernetes.k8s_csr_info).
    type: dict
    default: {}
  names:
    description:
      - DNS names and IP addresses in addition to the names of the Service. O(allow_names) must list each name that is not the Service's.
      - The names of a Service are C(SERVICE), C(SERVICE.NAMESPACE), C(SERVICE.NAMESPACE.svc) and C(SERVICE.NAMESPACE.svc.cluster.local). A
        cluster with another domain than C(cluster.local) needs its long name in O(allow_names).
    type: list
    elements: str
  common_name:
    description:
      - The common name of the subject, at most 64 bytes of UTF-8. If unset, it has the form that the signer requires. Required for client
        certificates, where it is the name of the user.
    type: str
  organizations:
    description:
      - The organizations of the subject. If unset, they have the form that the signer requires. Required for client certificates, where
        they are the groups of the user.
    type: list
    elements: str
  usages:
    description:
      - The usages, in the words of C(spec.usages). If unset, they are the usages that the signer accepts.
      - They contain C(server auth), C(client auth), or both, and key usages. The task refuses C(cert sign), C(crl sign) and
        extended usages for other purposes, such as C(code signing).
    type: list
    elements: str
  expiration_seconds:
    description:
      - The requested lifetime in seconds, at least 600. The signer may issue a shorter one.
    type: int
  key_type:
    description:
      - The type of the private key.
    type: str
    choices: [ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519]
    default: ecdsa-p256
  allow_names:
    description:
      - Names and addresses that the certificate may have in addition to those of the Service. The CA of the cluster signs every
        approved CSR. So the module refuses wildcards and the names of the API server and of nodes, unless this list has them.
        The notation of an address does not matter. V(::ffff:192.0.2.1) is the same as V(192.0.2.1).
    type: list
    elements: str
  allow_client_identity:
    description:
      - Whether the certificate may authenticate its holder to the API server (usage C(client auth) or C(any)). Requires
        O(common_name) and O(organizations).
    type: bool
    default: false
  approve:
    description:
      - Whether this task approves its CSR, after comparing the content. If V(true), the task waits for the certificate even with
        O(wait=false), because the key exists only in this task. It never continues with an earlier CSR. It removes a CSR and
        a key that an earlier task of the same identity left.
      - If V(false), another identity approves. The key waits in an immutable Secret (C(<secret>-pending)) that is deleted
        with the CSR. A later task of the same identity completes the certificate with the same key.
      - Two CSRs have the same identity if the API server recorded the same user name or the same UID in them. On EKS, the
        same canonical ARN of a role is enough too. The task learns its own identity by a dry run. If the waiting CSR belongs to another
        identity, or does not own the Secret, the task uses neither of them. It fails with the code
        C(requested-by-another-identity).
    type: bool
    default: true
  requesters:
    description:
      - User names that count as this identity when a task completes or removes a waiting CSR.
      - Set it if several identities renew one certificate with O(approve=false).
    type: list
    elements: str
  renew_before:
    description:
      - The time before its expiry at which a certificate is renewed, such as V(30d), V(12h), or a number of seconds.
      - If unset, it is the smaller of 30 days and a third of the lifetime of the issued certificate.
      - The later time of the API server and of the machine that runs the module counts. If their clocks differ by more than five minutes,
        the result has a warning.
    type: str
  trust:
    description:
      - V(verified) trusts the first CA that verifies the certificate. The module tries O(ca_bundle), the CA of the kubeconfig,
        C(kube-root-ca.crt) of the namespace, OpenShift's C(csr-controller-ca) and C(kubelet-serving-ca), and the ClusterTrustBundles
        of the signer.
      - V(chain) also tries the chain that the signer sent with the certificate.
      - V(leaf) trusts the certificate itself, so each renewal writes the targets.
    type: str
    choices: [verified, chain, leaf]
    default: verified
  ca_bundle:
    description:
      - CA certificates (PEM text) that the module tries first when it verifies the certificate.
    type: str
  on_stale:
    description:
      - The reaction if an endpoint still serves the old certificate at the end of the wait for the endpoints, which takes at most
        O(wait_timeout) too. The kubelet updates a changed Secret in its pods within about 100 seconds, and within a few seconds if this
        task may patch pods. The module reacts at once if the pod can never read the new certificate, because of a mount by C(subPath) or
        an environment variable.
      - An endpoint that was not checked in time counts as an endpoint without a certificate. With O(wait=false) the module checks the
        endpoints once.
      - V(fail) fails and names the endpoints with the reasons. The new certificate stays in the Secret, and the old CA stays trusted.
      - V(restart) restarts the workload as C(kubectl rollout restart) does, and waits for the endpoints again. The module finds the
        workload in O(namespace) whose pods use the Secret and are selected by O(service). If several match, the task fails before the
        first write and names them. RV(proof) names the workload that was restarted.
      - >-
        The module restarts a workload only if its last rollout is complete, if it has two or more replicas, and if its strategy keeps one
        of them. Otherwise it fails and names the end of the old certificate. O(accept) with C({downtime: [KIND/NAMESPACE/NAME]}) allows a restart that may
        leave no pod that answers.
      - C(KIND/NAME), such as V(DaemonSet/hooks), restarts this workload of O(namespace). The kinds are C(Deployment), C(DaemonSet) and
        C(StatefulSet).
    type: str
    default: fail
  approved_plan:
    description:
      - The value RV(plan_digests) of the same task in check mode. The task writes at most what these digests cover. If it would write more or
        something else, it fails with the code V(plan-differs) before that write. Fewer writes are no difference, so a killed run can be
        completed with the same digests.
      - The module compares after its checks, and again when it holds the Lease. The comparison needs the permission to get the namespace
        C(kube-system).
      - Time-outs and the connection are not covered.
    type: list
    elements: str
  probe:
    description:
      - A probe of the webhooks in O(targets), see M(certflow.kubernetes.webhook_probe). The module sends it when every endpoint serves
        a certificate that replaced another one, and again after it has removed the old CA.
      - If the answer is not the expected one, the task fails and keeps or restores the old CA. If the answer proves nothing, the old CA
        stays.
    type: dict
    suboptions:
      object:
        description:
          - A manifest. The module sends it as a server dry run, so it is never stored. Required for admission webhooks.
        type: dict
      expect:
        description:
          - The expected answer of the webhook.
        type: str
        choices: [allowed, denied]
        default: allowed
      denial_message:
        description:
          - A text that the denial must contain.
        type: str
        default: ""
  targets:
    description:
      - The objects whose C(caBundle) is changed. The module reads and plans all of them before the first write.
      - A run also keeps the trust of other objects to which a task added a CA for this Secret, as long as they hold it and call O(service).
      - A certificate is not replaced by one of another CA while an object trusts it that is no target and would refuse the next
        one. O(accept) with V(downtime) for this object allows it. Without the permission to list the four kinds, a warning says that
        these objects are not known.
    type: list
    elements: dict
    suboptions:
      kind:
        description:
          - The kind of the object.
        type: str
        required: true
        choices: [ValidatingWebhookConfiguration, MutatingWebhookConfiguration, CustomResourceDefinition, APIService]
      name:
        description:
          - The name of the object.
        type: str
        required: true
      webhooks:
        description:
          - The names of webhooks in a webhook configuration. If unset, all its webhooks that call the Service.
        type: list
        elements: str
  wait:
    description:
      - Whether the task waits until the certificate is issued.
    type: bool
    default: true
seealso:
  - module: certflow.kubernetes.k8s_csr_info
  - module: certflow.kubernetes.k8s_csr_approve
  - module: certflow.kubernetes.webhook_cabundle
"""

EXAMPLES = r"""
- name: Issue and renew the certificate of the snapshot validation webhook
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret: {name: snapshot-validation-secret}
    signer_name: kubernetes.io/kubelet-serving
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io

- name: Verify each renewal by a denial of the webhook, and restart pods that do not reload the certificate
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret: {name: snapshot-validation-secret}
    signer_name: kubernetes.io/kubelet-serving
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io
    on_stale: restart
    probe:
      object:
        apiVersion: snapshot.storage.k8s.io/v1
        kind: VolumeSnapshot
        metadata: {name: probe, namespace: default}
        spec: {source: {persistentVolumeClaimName: probe}, volumeSnapshotClassName: ""}
      expect: denied
      denial_message: Spec.VolumeSnapshotClassName must not be the empty string

- name: Issue a certificate for a snapshot webhook before 6.2, which reads other keys
  certflow.kubernetes.k8s_csr:
    service: snapshot-validation-service
    namespace: kube-system
    secret:
      name: snapshot-validation-pem
      type: Opaque
      certificate_key: cert.pem
      private_key_key: key.pem
    signer_name: kubernetes.io/kubelet-serving
    targets:
      - kind: ValidatingWebhookConfiguration
        name: validation-webhook.snapshot.storage.k8s.io

- name: Issue a certificate, and find the webhooks that call the Service
  certflow.kubernetes.k8s_csr:
    service: audit-webhook
    namespace: kube-system
    secret: {name: audit-webhook-tls}
    signer_name: kubernetes.io/kubelet-serving
    discover_targets: true

- name: Create a CSR that another identity approves, and complete the certificate in a later run
  certflow.kubernetes.k8s_csr:
    service: audit-webhook
    namespace: kube-system
    secret: {name: audit-webhook-tls}
    signer_name: kubernetes.io/kubelet-serving
    discover_targets: true
    approve: false
    wait: false
  register: request

- name: Issue a client certificate
  certflow.kubernetes.k8s_csr:
    namespace: kube-system
    secret: {name: backup-operator-client}
    signer_name: kubernetes.io/kube-apiserver-client
    common_name: backup-operator
    organizations: [backup]
    allow_client_identity: true

- name: Create a certificate without a CSR in a cluster without a signer
  certflow.kubernetes.k8s_csr:
    service: policy-webhook
    namespace: kube-system
    secret: {name: policy-webhook-tls}
    signer_name: ephemeral-ca
    targets:
      - kind: MutatingWebhookConfiguration
        name: policy-webhook

- name: Remove the certificate and its CA
  certflow.kubernetes.k8s_csr:
    state: absent
    service: audit-webhook
    namespace: kube-system
    secret: {name: audit-webhook-tls}
    discover_targets: true
"""

RETURN = r"""
reason:
  description: The change that the task made and its reason, or the reason why it changed nothing. In check mode, the change that a run would make.
  returned: success
  type: str
  sample: "issued a certificate (Secret kube-system/snapshot-validation-secret did not exist)"
not_after:
  description:
    - The end of the validity of RV(certificate), or of its chain to RV(ca_bundle) if that ends earlier, in UTC. V(null) if no certificate
      matches the task.
  returned: success
  type: str
  sample: "2027-11-26T10:00:00Z"
days_left:
  description: The whole days until RV(not_after). V(null) if no certificate matches the task.
  returned: success
  type: int
  sample: 364
signer:
  description: The signer of the certificate. If the task issues one or would issue one, the signer of the task.
  returned: success
  type: str
  sample: beta.eks.amazonaws.com/app-serving
provider:
  description:
    - The provider of the cluster. With O(signer_name) the module does not read the cluster to find it. Then this is the provider that
      the address of the API server or a signer of one provider shows. Empty if they do not.
  returned: success
  type: dict
  sample: {name: eks}
pending:
  description: Whether the certificate is not issued yet, because its CSR waits for approval or because of check mode.
  returned: success
  type: bool
left:
  description:
    - What the task was asked for and did not do. It is the CSR that waits for the approval of another identity, or the proof that the
      webhook serves the new certificate. Without the permissions to see that, no proof is asked for. A target by URL is left only while
      it keeps the CA of the old certificate. A due renewal is left if the signer issues nothing that lasts longer. A target of another
      task with the same Secret is left if this identity may not read it, and no record shows that it trusts the certificate.
    - With O(state=absent), what the module made and did not remove, such as a Secret that holds further data.
  returned: success
  type: dict
  contains:
    count:
      description: The number of objects.
      type: int
      returned: always
      sample: 0
    first:
      description: The CSR, the Secret or the target with C(object), C(code), C(reason) and C(remedy), or null.
      type: dict
      returned: always
csr:
  description: The CSR of this run.
  returned: if the task created or continued a CSR
  type: dict
  sample:
    name: certflow-snapshot-validation-service-kube-system-3f0a52c1d9
    uid: 0b0bc0a4-9a4c-44b7-a4f5-5d1c7e3a5f07
    signer_name: kubernetes.io/kubelet-serving
    condition: Approved,Issued
certificate:
  description:
    - The certificate in the Secret. V(null) if no certificate matches the task.
    - While RV(pending) is true, it is the current certificate, which stays until the new one is issued. RV(public_key_sha256),
      RV(ca_bundle) and RV(targets) belong to the same certificate.
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
    usages: {description: Usages in the words of the Kubernetes API., type: list, elements: str, returned: success}
public_key_sha256:
  description: SHA-256 of the public key. V(null) if no certificate exists.
  returned: success
  type: str
ca_bundle:
  description: The CA certificates that verify the certificate, as PEM text. V(null) if no certificate exists.
  returned: success
  type: str
ca_source:
  description: The source of these CA certificates.
  returned: success
  type: str
  sample: "ConfigMap kube-system/kube-root-ca.crt"
secret:
  description: The Secret.
  returned: success
  type: dict
  sample: {namespace: kube-system, name: snapshot-validation-secret, type: kubernetes.io/tls}
targets:
  description: The targets with the fingerprints of each bundle before and after the task.
  returned: success
  type: list
  elements: dict
  contains:
    kind: {description: Kind of the object., type: str, returned: always}
    name: {description: Name of the object., type: str, returned: always}
    changed: {description: "Whether the module wrote this object, or in check mode would write it.", type: bool, returned: always}
    webhooks:
      description: The places that hold a bundle, as M(certflow.kubernetes.webhook_cabundle) returns them.
      type: list
      elements: dict
      returned: always
skipped_targets:
  description: The objects that call O(service), but whose C(caBundle) this module does not write, see O(discover_targets).
  returned: success, with O(state=present)
  type: list
  elements: dict
  contains:
    kind: {description: Kind of the object., type: str, returned: always}
    name: {description: Name of the object., type: str, returned: always}
    webhook: {description: Name of the webhook. Empty for a kind with one caBundle., type: str, returned: always}
    reason: {description: The reason., type: str, returned: always}
  sample: [{kind: APIService, name: v1.example.com, webhook: "", reason: "its caBundle was written by the field manager kubectl-edit"}]
proof:
  description:
    - Evidence that a new certificate is in use after it replaced another one. The evidence comes from a TLS handshake with each
      endpoint of the Service, and from the answers of the webhooks if O(probe) is set.
    - V(null) if no certificate was replaced, or if an earlier run has proven its use. Also V(null) if the webhook has no endpoints and
      no CA is to be removed.
  returned: success
  type: dict
  contains:
    verdict:
      description:
        - V(ok) if every endpoint serves the new certificate, or if the word V(unseen) of O(accept) confirms for each target what no run
          can see. V(unproven) if the task cannot see that. The CA of the old certificate then stays in the targets, and the next run
          checks again.
        - It is also V(unproven) if a target calls a URL or a Service of type ExternalName. Such an address may lead each
          connection to another machine, so no number of connections shows every machine. That webhook keeps the CA of the old
          certificate until it has expired, and each run checks again. To remove it earlier, check that every machine serves the
          new certificate, and name the object with the word V(unseen) of O(accept), or run M(certflow.kubernetes.webhook_cabundle) with
          C(mode=exactly).
      type: str
      returned: always
    evidence: {description: The reasons why the use is not proven., type: list, elements: str, returned: always}
    dropped: {description: Number of CA certificates of the old certificate that the module removed from the targets., type: int, returned: always}
    kept: {description: Number of CA certificates of the old certificate that stay in the targets., type: int, returned: always}
    restarted:
      description: The workload that the task restarted (O(on_stale=restart)), with kind, namespace and name. V(null) if it restarted none.
      type: dict
      returned: always
      sample: {kind: Deployment, namespace: kube-system, name: audit-webhook}
    served:
      description: The endpoints.
      type: list
      elements: dict
      returned: always
      contains:
        endpoint: {description: Pod or address., type: str, returned: always}
        certificate: {description: The served certificate with the keys of RV(certificate)., type: dict, returned: always}
        verifies: {description: Whether the API server would accept the certificate., type: bool, returned: always}
        problem: {description: The reason why the module saw no certificate or why the API server would refuse the certificate., type: str, returned: always}
diagnosis:
  description: The reason why no certificate is issued, as M(certflow.kubernetes.k8s_csr_info) returns it.
  returned: if the task created a CSR and no certificate was issued
  type: dict
  sample:
    code: signer-not-served
    cause: "The signer kubernetes.io/kubelet-serving does not issue request x on this cluster (eks): ..."
    certainty: likely
    evidence: ["eks: ClusterRole eks:certificate-controller-signer"]
    remedy: "Use signer_name: beta.eks.amazonaws.com/app-serving."
cluster:
  description: The API server, and the source of its address and credentials.
  returned: always, unless the connection could not be determined
  type: dict
  sample: {host: "https://10.0.0.1:6443", auth_source: "kubeconfig prod.yaml (the task's option kubeconfig), context c1"}
code:
  description:
    - The kind of failure, for programs. A code never changes. RV(cause) and RV(remedy) may change between releases.
    - The page U(https://certflow.github.io/certflow.kubernetes/docsite/reference_failure_codes.html) lists all of them.
  returned: failure
  type: str
  sample: not-issued
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
plan_digests:
  description:
    - The digests of the cluster, of each option that is not the default, and of each write that is due, for O(approved_plan). They contain
      no text of the cluster.
  returned: in check mode, if the identity may get the namespace C(kube-system), and with O(approved_plan)
  type: list
  elements: str
"""

from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import run_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.k8s_csr import OPERATION


def main() -> None:
    run_module(OPERATION)


if __name__ == "__main__":
    main()
