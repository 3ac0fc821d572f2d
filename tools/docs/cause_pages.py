# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The texts of reference_diagnosis.rst: what each symptom and each cause means, how to recognise it, what to do.

The table of causes with their titles is _diagnosis/causes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import (
    APPROVED,
    DENIED,
    FAILED,
    GONE,
    PENDING,
)


@dataclass(frozen=True)
class CauseText:
    """The text about one cause."""

    #: What the cause is.
    meaning: str
    #: How to recognise it by hand.
    signs: str
    #: What to do.
    remedy: str
    sources: tuple[str, ...]


#: The meaning of each symptom, in the order of a request's life.
SYMPTOMS: Mapping[str, str] = {
    PENDING: "The request is not approved and not denied.",
    DENIED: "A person or a controller has denied it. That is final.",
    APPROVED: "The request may be issued, and is not. The object does not say why: the signers of Kubernetes write "
    "neither a condition nor an Event when they cannot sign.",
    FAILED: "The request was approved, and then its signer refused it. That is final.",
    GONE: "kubectl reports that the request does not exist.",
}

_KEP = "KEP-1513 (certificate signing requests)"
_SIGNER_CODE = "k/k pkg/controller/certificates/signer/signer.go"
_APP_CODE = "k/k cmd/kube-controller-manager/app/certificates.go"
_CSR_DOC = "https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/"
_EKS_DOC = "https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html"

#: The text about each code of _diagnosis/causes.py.
CAUSES: Mapping[str, CauseText] = {
    "no-right-to-approve": CauseText(
        "An approval takes two permissions: `update` on `certificatesigningrequests/approval`, and `approve` on the signer by "
        "its name (or on `<domain>/*`). The second one is easily forgotten, because no other resource has this verb. Without "
        "it, `kubectl certificate approve` fails with `user not permitted to approve requests with signerName`.",
        "`kubectl auth can-i --list | grep certificates.k8s.io` shows both. (`kubectl auth can-i approve signers` always "
        "says no, because it knows no such resource.)",
        "Ask an identity that has both permissions, or grant them. The remedy of the diagnosis is the ClusterRole to apply.",
        (
            f"{_CSR_DOC}#authorization",
            "k/k plugin/pkg/admission/certificates/approval",
            "sighupio/permission-manager#17",
        ),
    ),
    "never-approved": CauseText(
        "No controller approves serving certificates. Of the built-in signers, only kube-apiserver-client-kubelet has an "
        "approver in kube-controller-manager, and only for nodes.",
        "`kubectl get csr NAME -o jsonpath='{.status.conditions}'` is empty.",
        "Read what it asks for, then run `kubectl certificate approve NAME`, or use the module `k8s_csr_approve`, which "
        "compares it first. In a task of `k8s_csr`, set `approve: true`. The cluster deletes the request after 24 hours.",
        (f"{_CSR_DOC}#approval-rejection", "k/k#73356"),
    ),
    "denied": CauseText(
        "A person or a controller denied it. A denial cannot be undone. Its reason and message come from that person or "
        "controller. The object names at most the client program, never the user.",
        "`kubectl get csr NAME -o yaml` shows the condition Denied, and the client in `managedFields` with `subresource: "
        "approval`. Only the audit log of the API server names the user.",
        "Correct what the message names, then make a new request. kubelet-csr-approver, which kubespray may install, denies "
        "every request that does not come from a node. Set its flag `--ignore-non-system-node`, or use another signer.",
        (_CSR_DOC, "k/k#95459", "postfinance/kubelet-csr-approver#61, #70"),
    ),
    "signer-not-served": CauseText(
        "A signer is a program that handles the requests with its name. On Amazon EKS no program handles a Service's request "
        "for `kubernetes.io/kubelet-serving`, which is only for kubelets, or a request for "
        "`kubernetes.io/kube-apiserver-client`. Other clusters do not have the signer of EKS. Such a request stays Approved.",
        "`k8s_csr_info` shows the provider, with its evidence. Other requests of the same signer that have been Approved for "
        "days prove it.",
        "Use the signer in the table [Signers by provider](providers#signers-by-provider). Delete the stuck request. Its signer name cannot be "
        "changed.",
        (
            "aws/amazon-eks-pod-identity-webhook#133",
            "aws/containers-roadmap#1604",
            "k/k#108633",
            _EKS_DOC,
        ),
    ),
    "no-such-signer": CauseText(
        "The API server accepts any signer name of the form `<domain>/<path>`. Four names exist under `kubernetes.io/`. No "
        "signer handles a misspelt name.",
        "Compare `spec.signerName` letter by letter.",
        "Make a new request with the correct name.",
        (_KEP, _SIGNER_CODE),
    ),
    "signer-switched-off": CauseText(
        "It signs only with a certificate and a key that its flags name. kubeadm with an external CA (no `ca.key` on disk) "
        "sets these flags to nothing. A pair of flags for one signer disables the signers without a pair of their own.",
        "`kubectl -n kube-system get pods -l component=kube-controller-manager -o yaml | grep -e --cluster-signing`. Its "
        "log says `Skipping CSR signer controller`.",
        "Set `--cluster-signing-cert-file` and `--cluster-signing-key-file`, or the pair of this signer. If the key must stay "
        "outside the cluster, use another signer, or sign the request outside and write `status.certificate`. A webhook can "
        "have a certificate with `signer_name: ephemeral-ca`, which needs no signer.",
        (_APP_CODE, "k/k cmd/kubeadm/app/phases/controlplane/manifests.go"),
    ),
    "controller-manager-stopped": CauseText(
        "The built-in signers are parts of it. While it is down, nothing is signed, and other controllers are down too.",
        "`kubectl -n kube-system get lease kube-controller-manager -o yaml`: if `renewTime` is older than "
        "`leaseDurationSeconds` (15), no instance leads. A missing Lease proves nothing, because it does not exist without leader "
        "election.",
        "Start it, or find in its log why it ends. It issues approved requests within seconds after its start. On a managed "
        "cluster, ask the provider.",
        ("k8s.io/client-go tools/leaderelection", _APP_CODE),
    ),
    "cert-manager-gate-off": CauseText(
        "The feature gate `ExperimentalCertificateSigningRequestControllers` enables its controllers for them. It is off by "
        "default, and cert-manager then ignores the requests.",
        "`kubectl describe csr NAME` shows no Event. `kubectl -n cert-manager get deploy cert-manager -o yaml | grep "
        "feature-gates` shows the gates.",
        "Enable the feature gate. For a webhook, cert-manager's own resources also work: a Certificate, and cainjector for "
        "the caBundle.",
        ("cert-manager website content/docs/usage/kube-csr.md",),
    ),
    "signer-reports": CauseText(
        "kube-controller-manager writes no such Events. Other signers do: cert-manager writes IssuerNotFound or "
        "IssuerNotReady.",
        "`kubectl describe csr NAME`. Events are kept for an hour.",
        "Correct what the Event names. Most signers then try again by themselves.",
        ("cert-manager pkg/controller/certificatesigningrequests",),
    ),
    "name-never-issued": CauseText(
        "Amazon EKS never issues a request whose object name begins with `csr-`. Tools that use `generateName: csr-` make "
        "such requests.",
        "The name of the request.",
        "Make a new request under another name. `k8s_csr` never uses such names.",
        ("aws/containers-roadmap#2079",),
    ),
    "signing-ca-expired": CauseText(
        "kube-controller-manager refuses to sign with an expired CA, logs `the signer has expired`, and tries again. The CA "
        "that signs requests need not be the API server's: OpenShift and Gardener have another one.",
        "`openssl x509 -enddate` of the CA. It is the issuer of earlier certificates. OpenShift publishes it in ConfigMap "
        "openshift-config-managed/csr-controller-ca, most other clusters in ConfigMap kube-root-ca.crt.",
        "Renew that CA, and distribute it before it signs. Approved requests are then issued at once.",
        ("k/k pkg/controller/certificates/authority/policies.go",),
    ),
    "signer-depends-on-provider": CauseText(
        "The version of a cluster with `-eks-` means Amazon EKS or EKS Anywhere. Amazon EKS does not issue a Service's request "
        "for `kubernetes.io/kubelet-serving`, and EKS Anywhere does. If this identity may not read nodes and ClusterRoles, "
        "nothing else tells them apart. The diagnosis names the causes on each provider. The wait for a certificate ends 20 seconds after the approval.",
        "`k8s_csr_info` shows the marks that it found, and the ones that it could not read.",
        "Use the signer of your provider in the table [Signers by provider](providers#signers-by-provider), or give the identity the permissions that "
        "the remedy names. The module then detects the provider.",
        (
            "aws/eks-distro projects/kubernetes/kubernetes/build/lib/version.sh",
            "aws/containers-roadmap#1604",
            _EKS_DOC,
        ),
    ),
    "left-over": CauseText(
        "No client waits for it any more. Before kubernetes/kubernetes#133116 (about 1.35) the cluster never deleted an "
        "approved request without a certificate. One cluster had 520,858 of them (kubernetes/kubernetes#132947). Many such "
        "requests of one signer show that the signer does not work.",
        "`k8s_csr_info` counts them by signer, in `signers`.",
        "Delete it. Find the cause with a new request of the same signer.",
        ("k/k#132947", "k/k#133116"),
    ),
    "approved-not-issued": CauseText(
        "One of: a signer that does not exist here, a signer that does not run, a CA that is missing, unreadable or expired, "
        "or a slow signer. The diagnosis leaves out the causes that its evidence excludes, and names what it could not read.",
        "The log of the signer. For `kubernetes.io/` signers that is the log of kube-controller-manager (`csrsigning`, "
        "`error auto signing csr`).",
        "Follow the log. For a custom signer, check that it is installed, watches this name, and has the permission to "
        "`sign` for it.",
        (_KEP, "k/k#108633", "k/k#99504"),
    ),
    "failed": CauseText(
        "The condition Failed holds the signer's message. The built-in signers report only the first fault. The messages are "
        "listed [below](#refusals-by-signers).",
        "`kubectl get csr NAME -o jsonpath='{.status.conditions[?(@.type==\"Failed\")].message}'`.",
        "Correct what the message names, then make a new request. A failed request is final.",
        (_SIGNER_CODE, "k/k pkg/apis/certificates/helpers.go", "kubernetes/website#24405"),
    ),
    "deleted": CauseText(
        "It was too young to be deleted by the cluster itself.",
        "The audit log of the API server: verb delete, resource certificatesigningrequests.",
        "Make the request again.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go",),
    ),
    "collected": CauseText(
        "kube-controller-manager deletes requests after the times [below](#when-requests-are-deleted-automatically). It "
        "deletes an issued request an hour after its approval, so the certificate must be fetched before that.",
        "Its log says `Cleaning CSR as ...`.",
        "Make the request again, and fetch the certificate within an hour. `k8s_csr` does both.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go", "kubermatic/kubeone#1894"),
    ),
}
