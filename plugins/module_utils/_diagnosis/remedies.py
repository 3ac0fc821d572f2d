# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The remedy of each cause. A rule may put a sentence about the observed facts before it. The page about diagnoses shows it too."""

from __future__ import annotations

from collections.abc import Mapping

from .._csr.request.csr_content import command_name
from .observation import CsrObservation

#: Code of a cause -> its remedy. {name} is the request, and {signer} its signer.
REMEDIES: Mapping[str, str] = {
    "no-right-to-approve": "Ask an identity with the permission to compare and approve it (kubectl certificate approve {name}), or list the "
    "signer {signer} in docs/rbac/approve.yaml, and grant its role.",
    "never-approved": "Compare what it asks for, then approve it (kubectl certificate approve {name}, or the module k8s_csr_approve), or set "
    "approve: true in the k8s_csr task that made it. The cluster deletes it 24 hours after its creation.",
    "denied": "Correct what the message names, then make a new request. A denial is final.",
    "signer-not-served": "Delete the stuck request, because its signer name cannot be changed.",
    "no-such-signer": "Make a new request for a signer that exists.",
    "signer-switched-off": "Give kube-controller-manager the CA's certificate and key by its flags, or use another signer. For a webhook, "
    "signer_name: ephemeral-ca needs no signer. If the key must stay outside the cluster, sign the request there, and write "
    "status.certificate.",
    "controller-manager-stopped": "Start kube-controller-manager, or find in its log why it ends. It issues approved requests within seconds "
    "after its start. On a managed cluster, ask the provider.",
    "cert-manager-gate-off": "Start cert-manager's controller with "
    "--feature-gates=ExperimentalCertificateSigningRequestControllers=true, and check that the issuer of this name exists. Or use its "
    "Certificate resources, with cainjector for the caBundle.",
    "signer-reports": "Correct what the signer reports. kubectl describe csr shows its Events.",
    "name-never-issued": "Make a new request under another name. k8s_csr never uses such names.",
    "signing-ca-expired": "Renew the signing CA. kube-controller-manager refuses to sign with an expired CA, and reports that only in its log "
    "(the signer has expired). Then distribute the new CA. Approved requests are issued at once.",
    "signer-depends-on-provider": "Use the signer of your provider. Delete this request if it was for the wrong signer.",
    "left-over": "Delete it (kubectl delete csr {name}): Kubernetes before 1.35 never deletes it, and later versions do after a day. Then find "
    "out why this signer does not issue.",
    "approved-not-issued": "Read the log of the signer, for kubernetes.io/ that of kube-controller-manager. Most of these causes appear only "
    "there. Check that a custom signer is installed, watches this name, and has the permission to sign for it.",
    "failed": "Correct what the message of the signer names, then make a new request. A failed request is final.",
    "deleted": "Make the request again. Only the audit log of the API server names the user who deleted it.",
    "collected": "Make the request again, and fetch the certificate within an hour after it is issued.",
}


def remedy_of(code: str, observation: CsrObservation) -> str:
    """Return the remedy of a cause for this request."""
    return REMEDIES[code].format(name=command_name(observation.name), signer=observation.signer)
