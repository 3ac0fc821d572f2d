# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Why a request is not issued, as a table: adding a cause is adding a row.

A row holds the rule, and what the page docs/why-not-issued.md says of it: the page is made from these rows. For one
symptom the first proven rule wins, so what ends a request for good comes first, and what only lists possibilities last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable

from . import control_plane, ended, shortened, undecided, unissued
from .diagnosis import Diagnosis
from .observation import APPROVED, DENIED, FAILED, GONE, ISSUED, PENDING, CsrObservation


@dataclass(frozen=True)
class Cause:
    """One cause. symptom: one of SYMPTOMS. means, tell, remedy: for a reader, in general words.

    tell: how to see it by hand. rule: says whether it applies to what was observed, and how certain that is.
    """

    code: str
    symptom: str
    title: str
    means: str
    tell: str
    remedy: str
    sources: tuple[str, ...]
    rule: Callable[[CsrObservation], Diagnosis | None]


# What an operator sees, in the order of a request's life -> what it means.
SYMPTOMS: Mapping[str, str] = {
    PENDING: "Nobody has decided about the request.",
    DENIED: "Somebody, or a controller, has decided against it. That is final.",
    APPROVED: "It may be issued, and is not. Nothing on the object says why: signers of Kubernetes write neither a "
    "condition nor an Event when they cannot sign.",
    FAILED: "It was approved, and then its signer refused it. That is final.",
    ISSUED: "There is a certificate, and it does not last as long as it should.",
    GONE: "kubectl says that there is no such request.",
}

_KEP = "KEP-1513 (certificate signing requests)"
_SIGNER_CODE = "k/k pkg/controller/certificates/signer/signer.go"
_APP_CODE = "k/k cmd/kube-controller-manager/app/certificates.go"
_CSR_DOC = "https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/"

CAUSES: tuple[Cause, ...] = (
    Cause(
        "no-right-to-approve",
        PENDING,
        "Nobody has approved it, and you may not",
        "Approving takes two rights: `update` on `certificatesigningrequests/approval`, and `approve` on the signer by its "
        "name (or on `<domain>/*`). The second one is easily forgotten, because the verb is nowhere else: then `kubectl "
        "certificate approve` fails with `user not permitted to approve requests with signerName`.",
        "`kubectl auth can-i --list | grep certificates.k8s.io` shows both. (Asked for `signers` alone it says no in any "
        "case: there is no such resource that it knows.)",
        "Let somebody approve it who may, or grant both rights; the diagnosis ends with the ClusterRole, ready to apply.",
        (
            f"{_CSR_DOC}#authorization",
            "k/k plugin/pkg/admission/certificates/approval",
            "sighupio/permission-manager#17",
        ),
        undecided.no_right_to_approve,
    ),
    Cause(
        "never-approved",
        PENDING,
        "Nobody has approved it",
        "Nothing approves serving certificates by itself: of the built-in signers only kube-apiserver-client-kubelet has "
        "an approver in kube-controller-manager, for nodes.",
        "`kubectl get csr NAME -o jsonpath='{.status.conditions}'` is empty.",
        "Look at what it asks for, then `kubectl certificate approve NAME`, or the module `k8s_csr_approve`, which compares "
        "it first; in a task of `k8s_csr` `approve: true`. After 24 hours it is collected.",
        (f"{_CSR_DOC}#approval-rejection", "k/k#73356"),
        undecided.never_approved,
    ),
    Cause(
        "denied",
        DENIED,
        "It was denied",
        "By a person, or by a controller that decides about requests. A denial cannot be taken back. Reason and message "
        "are the decider's own; the object names the client program at most, never the user.",
        "`kubectl get csr NAME -o yaml`: the condition Denied, and `managedFields` with `subresource: approval` for the "
        "client. Who it was stands in the API server's audit log alone.",
        "Settle what it objects to, then make a new request. kubelet-csr-approver, which kubespray may install, denies "
        "whatever is no node's: give it `--ignore-non-system-node`, or use another signer.",
        (_CSR_DOC, "k/k#95459", "postfinance/kubelet-csr-approver#61, #70"),
        ended.denied,
    ),
    Cause(
        "legacy-unknown",
        APPROVED,
        "It is for the signer legacy-unknown",
        "`kubernetes.io/legacy-unknown` is of the API version v1beta1, which Kubernetes 1.22 removed. The v1 API refuses to "
        "create such a request (`the legacy signerName is not allowed via this API version`); what is left over from before "
        "can still be seen.",
        "`spec.signerName`.",
        "Make a new request for `kubernetes.io/kubelet-serving`, on Amazon EKS `beta.eks.amazonaws.com/app-serving`.",
        ("k/k pkg/apis/certificates/validation/validation.go", _CSR_DOC),
        unissued.legacy_unknown,
    ),
    Cause(
        "signer-not-served",
        APPROVED,
        "This cluster's provider does not serve the signer",
        "A signer is a program that looks at requests with its name. On Amazon EKS nobody looks at a Service's request for "
        "`kubernetes.io/kubelet-serving` (it is for real kubelets alone) or at `kubernetes.io/kube-apiserver-client`; other "
        "clusters do not have EKS' signer. Such a request stays Approved.",
        "Which provider is it? `k8s_csr_info` says so, with its evidence. Other requests of the same signer that are "
        "Approved for days prove it.",
        "Ask the signer of the table [below](#signers-by-provider). The stuck request can be deleted; its signer name cannot "
        "be changed.",
        (
            "aws/amazon-eks-pod-identity-webhook#133",
            "aws/containers-roadmap#1604",
            "k/k#108633",
            "https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html",
        ),
        unissued.not_served,
    ),
    Cause(
        "no-such-signer",
        APPROVED,
        "No signer has this name",
        "The API server takes any signer name of the form `<domain>/<path>`. Under `kubernetes.io/` there are four; a slip "
        "of the pen is a signer that nobody serves.",
        "Compare `spec.signerName` letter by letter.",
        "Make a new request with the right name.",
        (_KEP, _SIGNER_CODE),
        unissued.no_such_signer,
    ),
    Cause(
        "signer-switched-off",
        APPROVED,
        "kube-controller-manager has no CA for the signer",
        "It signs only with a certificate and a key that its flags name. kubeadm with an external CA (no `ca.key` on disk) "
        "sets them to nothing on purpose. A pair of flags for one signer switches the others off that have none of their "
        "own.",
        "`kubectl -n kube-system get pods -l component=kube-controller-manager -o yaml | grep -e --cluster-signing`; its "
        "log says `Skipping CSR signer controller`.",
        "Set `--cluster-signing-cert-file` and `--cluster-signing-key-file`, or the pair of this signer. Where the key must "
        "stay outside the cluster, ask another signer, sign the request there and write `status.certificate`, or give a "
        "webhook its certificate with `signer_name: ephemeral-ca`, which asks no signer.",
        (_APP_CODE, "k/k cmd/kubeadm/app/phases/controlplane/manifests.go"),
        control_plane.switched_off,
    ),
    Cause(
        "controller-manager-stopped",
        APPROVED,
        "kube-controller-manager does not run",
        "The built-in signers are parts of it. While it is down nothing is signed, and much else stands still as well.",
        "`kubectl -n kube-system get lease kube-controller-manager -o yaml`: a `renewTime` older than "
        "`leaseDurationSeconds` (15) means that nobody leads. No Lease at all says nothing: without leader election there "
        "is none.",
        "Start it, or see in its log why it ends. It issues what is approved within seconds of its start. On a managed "
        "cluster that is the provider's to do.",
        ("k8s.io/client-go tools/leaderelection", _APP_CODE),
        control_plane.stopped,
    ),
    Cause(
        "issuer-absent",
        APPROVED,
        "cert-manager's issuer does not exist",
        "`issuers.cert-manager.io/<namespace>.<name>` and `clusterissuers.cert-manager.io/<name>` stand for an Issuer and a "
        "ClusterIssuer of these names.",
        "`kubectl get clusterissuers`, `kubectl -n <namespace> get issuers`.",
        "Create it, correct the signer's name, or ask another signer.",
        ("cert-manager website content/docs/usage/kube-csr.md",),
        unissued.issuer_absent,
    ),
    Cause(
        "cert-manager-gate-off",
        APPROVED,
        "cert-manager does not serve certificate signing requests",
        "Its controllers for them are behind the feature gate `ExperimentalCertificateSigningRequestControllers`, which is "
        "off by default. With the gate off it does not look at them.",
        "`kubectl describe csr NAME` shows no Event; `kubectl -n cert-manager get deploy cert-manager -o yaml | grep "
        "feature-gates`.",
        "Switch the gate on, or use cert-manager's own way for webhooks: a Certificate, and cainjector for the caBundle.",
        ("cert-manager website content/docs/usage/kube-csr.md",),
        unissued.gate_off,
    ),
    Cause(
        "signer-reports",
        APPROVED,
        "Its signer says why, in an Event",
        "kube-controller-manager never does. Others do: cert-manager writes IssuerNotFound or IssuerNotReady.",
        "`kubectl describe csr NAME`. Events last an hour.",
        "Settle what it says; most signers try again by themselves.",
        ("cert-manager pkg/controller/certificatesigningrequests",),
        unissued.reported,
    ),
    Cause(
        "name-never-issued",
        APPROVED,
        "The request has a name that EKS passes over",
        "Amazon EKS never issues a request whose object name begins with `csr-`, whatever it asks for; tools that use "
        "`generateName: csr-` are bitten.",
        "The name.",
        "Make a new request under another name. `k8s_csr` never uses such names.",
        ("aws/containers-roadmap#2079",),
        unissued.forbidden_prefix,
    ),
    Cause(
        "signing-ca-expired",
        APPROVED,
        "The CA that signs has expired",
        "kube-controller-manager refuses to sign with it, logs `the signer has expired`, and tries again for ever. The CA "
        "that signs requests need not be the API server's: OpenShift and Gardener have another one.",
        "`openssl x509 -enddate` on the CA: the issuer of earlier certificates, on OpenShift ConfigMap "
        "openshift-config-managed/csr-controller-ca, elsewhere mostly ConfigMap kube-root-ca.crt.",
        "Renew that CA, and distribute it before it signs. What is approved is issued at once then.",
        ("k/k pkg/controller/certificates/authority/policies.go",),
        control_plane.expired_ca,
    ),
    Cause(
        "left-over",
        APPROVED,
        "It was left over, days ago",
        "Nobody waits for it any more. Before kubernetes/kubernetes#133116 (about 1.35) an approved request without a "
        "certificate was never collected: one cluster had 520,858 of them (kubernetes/kubernetes#132947). Many of one "
        "signer are the sign of a signer that does not work.",
        "`k8s_csr_info` counts them by signer, in `signers`.",
        "Delete it. Look for the cause with a fresh request, or at once with a newer one of the same signer.",
        ("k/k#132947", "k/k#133116"),
        unissued.left_over,
    ),
    Cause(
        "approved-not-issued",
        APPROVED,
        "Nothing that can be read says why",
        "One of: no such signer here, a signer that does not run, a CA that is missing, unreadable or expired, or a slow "
        "signer. The diagnosis leaves out what its evidence excludes, and says what it could not read.",
        "The signer's log; for `kubernetes.io/` signers that is kube-controller-manager's (`csrsigning`, "
        "`error auto signing csr`).",
        "As the log says. If it is a custom signer: is it installed, does it watch this name, may it `sign` for it?",
        (_KEP, "k/k#108633", "k/k#99504"),
        unissued.unexplained,
    ),
    Cause(
        "failed",
        FAILED,
        "The signer refused what it asks for",
        "The condition Failed holds the signer's own words. The built-in signers stop at the first fault; the texts are "
        "[below](#refusals-by-signers).",
        "`kubectl get csr NAME -o jsonpath='{.status.conditions[?(@.type==\"Failed\")].message}'`.",
        "Change what it names, then make a new request: a failed one is spent.",
        (_SIGNER_CODE, "k/k pkg/apis/certificates/helpers.go", "kubernetes/website#24405"),
        ended.failed,
    ),
    Cause(
        "signing-ca-expiring",
        ISSUED,
        "The CA that signs is about to expire",
        "A signer cuts a certificate to the end of its CA. So certificates get shorter and shorter, and then none is issued.",
        "The certificate's `notAfter` is that of the CA to the second.",
        "Renew the CA now: on the day it expires every certificate that it signed is invalid as well.",
        ("k/k pkg/controller/certificates/authority/authority.go",),
        shortened.ca_expiring,
    ),
    Cause(
        "lifetime-shortened",
        ISSUED,
        "The signer granted less time than was asked for",
        "`spec.expirationSeconds` is a wish. kube-controller-manager limits it by `--cluster-signing-duration` (365 days), "
        "EKS to a year, OpenShift's default is 30 days. (Less than 600 seconds the API server refuses at once.)",
        "`kubectl get csr NAME -o jsonpath='{.status.certificate}' | base64 -d | openssl x509 -noout -dates`.",
        "Renew by `notAfter`, as `k8s_csr` does. Where the control plane is yours, raise `--cluster-signing-duration`.",
        ("KEP-2784", _SIGNER_CODE, "https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html"),
        shortened.shortened,
    ),
    Cause(
        "deleted",
        GONE,
        "Somebody deleted it",
        "It was too young for the cluster to have collected it.",
        "The API server's audit log: verb delete, resource certificatesigningrequests.",
        "Make the request again.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go",),
        ended.deleted,
    ),
    Cause(
        "collected",
        GONE,
        "The cluster collected it",
        "kube-controller-manager deletes requests after the times [below](#when-requests-are-deleted-automatically), an issued one an "
        "hour after its approval. Whoever comes later for the certificate finds nothing.",
        "Its log says `Cleaning CSR as ...`.",
        "Make the request again, and fetch the certificate within the hour. `k8s_csr` does both by itself.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go", "kubermatic/kubeone#1894"),
        ended.collected,
    ),
)
