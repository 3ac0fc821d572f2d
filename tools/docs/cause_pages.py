# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The texts of reference_diagnosis.rst: what each symptom and each cause means, and how to recognise it.

The table of causes with their titles is _diagnosis/causes.py, and their remedies are in _diagnosis/remedies.py.
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
        (f"{_CSR_DOC}#approval-rejection", "k/k#73356"),
    ),
    "denied": CauseText(
        "A person or a controller denied it. A denial cannot be undone. Its reason and message come from that person or "
        "controller. The object names at most the client program, never the user.",
        "`kubectl get csr NAME -o yaml` shows the condition Denied, and the client in `managedFields` with `subresource: "
        "approval`. Only the audit log of the API server names the user.",
        (_CSR_DOC, "k/k#95459", "postfinance/kubelet-csr-approver#61, #70"),
    ),
    "signer-not-served": CauseText(
        "A signer is a program that handles the requests with its name. On Amazon EKS no program handles a Service's request "
        "for `kubernetes.io/kubelet-serving`, which is only for kubelets, or a request for "
        "`kubernetes.io/kube-apiserver-client`. Other clusters do not have the signer of EKS. Such a request stays Approved.",
        "`k8s_csr_info` shows the provider, with its evidence. Other requests of the same signer that have been Approved for "
        "days prove it.",
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
        (_KEP, _SIGNER_CODE),
    ),
    "signer-switched-off": CauseText(
        "It signs only with a certificate and a key that its flags name. kubeadm with an external CA (no `ca.key` on disk) "
        "sets these flags to nothing. A pair of flags for one signer disables the signers without a pair of their own.",
        "`kubectl -n kube-system get pods -l component=kube-controller-manager -o yaml | grep -e --cluster-signing`. Its "
        "log says `Skipping CSR signer controller`.",
        (_APP_CODE, "k/k cmd/kubeadm/app/phases/controlplane/manifests.go"),
    ),
    "controller-manager-stopped": CauseText(
        "The built-in signers are parts of it. While it is down, nothing is signed, and other controllers are down too.",
        "`kubectl -n kube-system get lease kube-controller-manager -o yaml`: if `renewTime` is older than "
        "`leaseDurationSeconds` (15), no instance leads. A missing Lease proves nothing, because it does not exist without leader "
        "election.",
        ("k8s.io/client-go tools/leaderelection", _APP_CODE),
    ),
    "cert-manager-gate-off": CauseText(
        "The feature gate `ExperimentalCertificateSigningRequestControllers` enables its controllers for them. It is off by "
        "default, and cert-manager then ignores the requests.",
        "`kubectl describe csr NAME` shows no Event. `kubectl -n cert-manager get deploy cert-manager -o yaml | grep "
        "feature-gates` shows the gates.",
        ("cert-manager website content/docs/usage/kube-csr.md",),
    ),
    "signer-reports": CauseText(
        "kube-controller-manager writes no such Events. Other signers do: cert-manager writes IssuerNotFound or "
        "IssuerNotReady.",
        "`kubectl describe csr NAME`. Events are kept for an hour.",
        ("cert-manager pkg/controller/certificatesigningrequests",),
    ),
    "name-never-issued": CauseText(
        "Amazon EKS never issues a request whose object name begins with `csr-`. Tools that use `generateName: csr-` make "
        "such requests.",
        "The name of the request.",
        ("aws/containers-roadmap#2079",),
    ),
    "signing-ca-expired": CauseText(
        "kube-controller-manager refuses to sign with an expired CA, logs `the signer has expired`, and tries again. The CA "
        "that signs requests need not be the API server's: OpenShift and Gardener have another one.",
        "`openssl x509 -enddate` of the CA. It is the issuer of earlier certificates. OpenShift publishes it in ConfigMap "
        "openshift-config-managed/csr-controller-ca, most other clusters in ConfigMap kube-root-ca.crt.",
        ("k/k pkg/controller/certificates/authority/policies.go",),
    ),
    "signer-depends-on-provider": CauseText(
        "The version of a cluster with `-eks-` means Amazon EKS or EKS Anywhere. Amazon EKS does not issue a Service's request "
        "for `kubernetes.io/kubelet-serving`, and EKS Anywhere does. If this identity may not read nodes and ClusterRoles, "
        "nothing else tells them apart. The diagnosis names the causes on each provider. The wait for a certificate ends 20 seconds after the approval.",
        "`k8s_csr_info` shows the marks that it found, and the ones that it could not read.",
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
        ("k/k#132947", "k/k#133116"),
    ),
    "approved-not-issued": CauseText(
        "One of: a signer that does not exist here, a signer that does not run, a CA that is missing, unreadable or expired, "
        "or a slow signer. The diagnosis leaves out the causes that its evidence excludes, and names what it could not read.",
        "The log of the signer. For `kubernetes.io/` signers that is the log of kube-controller-manager (`csrsigning`, "
        "`error auto signing csr`).",
        (_KEP, "k/k#108633", "k/k#99504"),
    ),
    "failed": CauseText(
        "The condition Failed holds the signer's message. The built-in signers report only the first fault. The messages are "
        "listed [below](#refusals-by-signers).",
        "`kubectl get csr NAME -o jsonpath='{.status.conditions[?(@.type==\"Failed\")].message}'`.",
        (_SIGNER_CODE, "k/k pkg/apis/certificates/helpers.go", "kubernetes/website#24405"),
    ),
    "deleted": CauseText(
        "It was too young to be deleted by the cluster itself.",
        "The audit log of the API server: verb delete, resource certificatesigningrequests.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go",),
    ),
    "collected": CauseText(
        "kube-controller-manager deletes requests after the times [below](#when-requests-are-deleted-automatically). It "
        "deletes an issued request an hour after its approval, so the certificate must be fetched before that.",
        "Its log says `Cleaning CSR as ...`.",
        ("k/k pkg/controller/certificates/cleaner/cleaner.go", "kubermatic/kubeone#1894"),
    ),
}
