# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The option accept."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  accept:
    description:
      - What the task may do to the objects of other owners, and the hazards that the user accepts. The task fails before the first write
        for another owner, with the marks that show the owner and with a remedy. Every module has the same words.
      - The words for managers are V(cert-manager), V(external-secrets), V(mirror), V(openshift-service-ca), V(openshift), V(rke2), V(eks),
        V(kops), V(kubeone), V(addon-manager), V(olm), V(olm-v1), V(argocd), V(flux), V(helm), V(kubespray), V(kubectl) and V(unmarked). The page
        U(https://certflow.github.io/certflow.kubernetes/docsite/reference_other_managers.html) describes them. V(operator) stands for an
        object with an ownerReference. C(manager:NAME) stands for a field manager without a word, such as C(manager:istiod).
      - V(kubectl) stands for an object of a snapshot controller that has only kubectl's mark. This mark does not show the owner, because
        kubespray and the installation scripts of CSI drivers leave no other mark. V(unmarked) stands for an object without any mark.
      - V(foreign-secret) stands for a Secret with the content of another owner, such as other keys, a certificate for other names, or one that
        this collection made for another Service.
      - >-
        V(downtime) allows the restart of a webhook's workload that may leave no pod that answers, as in
        C({downtime: [Deployment/NAMESPACE/NAME]}). Such a workload has one replica, or its strategy stops all pods. For a webhook
        configuration, it allows the removal of a CA after which the API server refuses an endpoint.
      - >-
        A CA leaves a C(caBundle) only if the API server still accepts what each endpoint serves, also those that are not ready or that
        terminate. V(unseen) confirms that you checked what a task cannot see, such as the machines behind a URL, or an object of another
        task that this identity may not read. It needs objects, as in C({unseen: [ValidatingWebhookConfiguration/example]}).
      - The words for hazards of an upgrade are V(hosted), V(sidecars-at-v1beta1) and V(arguments-dropped). V(hosted) stands for CRDs
        without a controller in the cluster.
      - >-
        An item may be a dictionary that limits a word to objects, as in C({helm: [ValidatingWebhookConfiguration/example]}). The objects
        are C(KIND/NAME) or C(KIND/NAMESPACE/NAME). A hazard counts for the whole cluster.
      - An object with the marks of several managers needs the word of each. In an upgrade, Helm's word is not needed if the manager
        installs charts, as Flux, Argo CD and RKE2 do.
      - If another manager writes the C(caBundle) of an object at any time, M(certflow.kubernetes.k8s_csr) and
        M(certflow.kubernetes.webhook_cabundle) never remove its certificates, whatever the words are.
      - The objects of V(openshift), V(olm) and V(operator) cannot be accepted in an upgrade.
    type: list
    elements: raw
    default: []
"""
