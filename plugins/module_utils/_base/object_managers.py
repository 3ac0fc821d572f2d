# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Table of the programs that manage Kubernetes objects, and how to recognise their objects. Pure.

Each row is one manager, such as Argo CD or cert-manager. The table says what to do instead of writing to its objects:
webhook configurations and other objects with a caBundle, Secrets, and the objects of a snapshot controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .text import matches

#: The name of this collection as a field manager and as the label app.kubernetes.io/managed-by. The API server takes the field
#: manager of an ordinary write from the start of the User-Agent.
OWN_MANAGER = "certflow.kubernetes"
#: The annotation in which `kubectl apply` keeps what it applied.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# What a manager does with a caBundle that another client wrote. The first two write caBundle at any time.
MERGES, OVERWRITES, APPLIES = "merges", "overwrites", "applies"

#: (place, pattern). Places: annotation, label, manager (of managedFields), owner (kind of an ownerReference), image, name, api
#: ("group/resource/name" of an object that exists). The pattern "key" matches any value that is not empty. The pattern
#: "key=value" matches this value, without regard to case. Both parts may hold the wildcard "*".
Marker = tuple[str, str]
#: Place -> words, if they differ.
PLACES = {"manager": "field manager", "owner": "ownerReference", "api": "object"}


@dataclass(frozen=True)
class Manager:
    """One manager of objects."""

    name: str
    #: Its name in the option accept and in results.
    key: str
    #: An object with one of them belongs to the manager.
    markers: tuple[Marker, ...]
    #: Where the facts come from, separated by "; ". The first one is a link for readers if it is an address.
    source: str
    #: MERGES, OVERWRITES, or APPLIES if it only applies a manifest, which may lack a caBundle. "" if it has no such objects.
    bundle: str = ""
    #: The remedy for an object with a caBundle. May hold {group}, {kind}, {name} and {expression}, the jq path of the caBundle.
    for_targets: str = ""
    #: The remedy for a Secret, a clause.
    for_secrets: str = ""
    #: How to upgrade a snapshot controller that it installed. "" if it does not install snapshot controllers.
    upgrade: str = ""
    #: What to do before its objects are accepted, so that it does not write them again. "" if they cannot be accepted.
    adopting: str = ""
    #: Further markers that count on the objects of a snapshot controller.
    controller_markers: tuple[Marker, ...] = ()
    #: Field managers that are no marks of an object, because they stay when the program has left it.
    writes_as: tuple[str, ...] = ()
    #: Groups of markers. An object of a snapshot controller must also have a marker of each group.
    required: tuple[tuple[Marker, ...], ...] = ()

    @property
    def writes_bundles(self) -> bool:
        """Return True if the manager itself writes caBundle at any time."""
        return self.bundle in (MERGES, OVERWRITES)

    @property
    def field_managers(self) -> tuple[str, ...]:
        """Return the field managers under which the manager writes."""
        markers = (*self.markers, *self.controller_markers)
        return (*(name for place, name in markers if place == "manager"), *self.writes_as)


HELM, KUBECTL, KUBESPRAY, UNMARKED = "helm", "kubectl", "kubespray", "unmarked"
#: The key of the row for field managers without a row.
UNKNOWN = "manager"
#: The key of the row for objects with an ownerReference.
OPERATOR = "operator"
#: The start of the words that accept such a field manager.
FIELD_MANAGER = f"{UNKNOWN}:"
KUBECTL_MARKERS: tuple[Marker, ...] = (
    ("annotation", LAST_APPLIED),
    ("manager", "kubectl"),
    ("manager", "kubectl-client-side-apply"),
    ("manager", "kubectl-create"),
    ("manager", "kubectl-replace"),
)

#: Field managers of tools that people use by hand or in scripts. An upgrade moves their fields. The names of kubectl are in
#: staging/src/k8s.io/kubectl/pkg/cmd (FieldManager). Before kubectl 1.20 all commands had the name "kubectl".
#: Not in the list: kubectl-label and kubectl-annotate, because the cluster's owner wants these fields and no manifest has them,
#: and kubectl-rollout, because pods restart if its annotation is removed from a template.
BY_HAND: frozenset[str] = frozenset(
    (
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-create",
        "kubectl-edit",
        "kubectl-last-applied",
        "kubectl-patch",
        "kubectl-replace",
        "kubectl-set",
        "before-first-apply",  # the API server's name for the fields of an object without recorded managers
        "OpenAPI-Generator",  # the Python client: kubernetes.core without server-side apply
    )
)

# Field managers of Kubernetes itself.
SYSTEM = frozenset(
    (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "clusterrole-aggregation-controller",
    )
)

# A snapshot controller's object belongs to the first manager whose marker it has, so managers with specific markers come first.
#
# Markers that are left out because they outlive their manager or say nothing about it: the field manager "helm" outside of
# snapshot controllers (the objects of a chart's crds/ have it, and Helm never changes them again), cainjector's field manager
# (it stays when the annotation is removed), app.kubernetes.io/instance (Argo CD used it before 3.0, and every chart sets it),
# cert-manager.io/allow-direct-injection (a wish of the user).
MANAGERS = (
    Manager(
        "cert-manager",
        "cert-manager",
        (
            ("annotation", "cert-manager.io/inject-ca-from"),
            ("annotation", "cert-manager.io/inject-ca-from-secret"),
            ("annotation", "cert-manager.io/inject-apiserver-ca=true"),
            ("annotation", "cert-manager.io/certificate-name"),
            ("annotation", "cert-manager.io/issuer-name"),
        ),
        source="https://cert-manager.io/docs/concepts/ca-injector/",
        bundle=MERGES,
        for_targets="Let cert-manager's Certificate serve this webhook, or remove the annotation",
        for_secrets="let its Certificate make the certificate",
        writes_as=("cert-manager-cainjector",),
    ),
    Manager(
        "external-secrets",
        "external-secrets",
        (
            ("label", "reconcile.external-secrets.io/managed"),
            ("label", "reconcile.external-secrets.io/created-by"),
            ("annotation", "reconcile.external-secrets.io/data-hash"),
        ),
        source="https://external-secrets.io/latest/api/externalsecret/",
        for_secrets="change its ExternalSecret",
    ),
    Manager(
        # It writes the copy again when the source changes, so pods get a certificate whose CA was removed.
        "a program that copies Secrets",
        "mirror",
        (
            ("annotation", "reflector.v1.k8s.emberstack.com/reflects"),
            ("annotation", "replicator.v1.mittwald.de/replicate-from"),
            ("annotation", "replicator.v1.mittwald.de/replicated-at"),
            ("label", "generate.kyverno.io/policy-name"),
            ("label", "hnc.x-k8s.io/inherited-from"),
        ),
        source="https://github.com/emberstack/kubernetes-reflector; https://github.com/mittwald/kubernetes-replicator; "
        "https://kyverno.io/docs/policy-types/cluster-policy/generate/; https://github.com/kubernetes-retired/hierarchical-namespaces",
        for_secrets="change the Secret that it copies",
    ),
    Manager(
        "OpenShift's service CA",
        "openshift-service-ca",
        (
            ("annotation", "service.beta.openshift.io/inject-cabundle=true"),
            ("annotation", "service.alpha.openshift.io/inject-cabundle=true"),
            ("annotation", "service.beta.openshift.io/originating-service-name"),
            ("annotation", "service.alpha.openshift.io/originating-service-name"),
        ),
        source="https://github.com/openshift/service-ca-operator",
        bundle=OVERWRITES,
        for_targets="Use the Service's annotation service.beta.openshift.io/serving-cert-secret-name, "
        "or remove this annotation",
        for_secrets="leave it to the Service",
    ),
    Manager(
        "OpenShift's cluster-csi-snapshot-controller-operator",
        "openshift",
        (
            ("api", "operator.openshift.io/csisnapshotcontrollers/cluster"),
            ("manager", "cluster-csi-snapshot-controller-operator"),
            ("annotation", "include.release.openshift.io/*"),
            ("annotation", "release.openshift.io/*"),
        ),
        source="github.com/openshift/cluster-csi-snapshot-controller-operator:assets",
        upgrade="Upgrade it with the cluster (oc adm upgrade).",
    ),
    Manager(
        "RKE2's chart rke2-snapshot-controller",
        "rke2",
        (
            ("api", "helm.cattle.io/helmcharts/rke2-snapshot-controller*"),
            ("annotation", "meta.helm.sh/release-name=rke2-snapshot-*"),
            ("label", "app.kubernetes.io/name=rke2-snapshot-controller"),
            ("image", "*/hardened-snapshot-controller*"),
        ),
        source="https://docs.rke2.io/install/packaged_components; github.com/rancher/rke2-charts",
        upgrade="Upgrade it with RKE2 itself.",
        adopting="Put rke2-snapshot-controller, rke2-snapshot-controller-crd and rke2-snapshot-validation-webhook under "
        "disable: in every server's configuration, which also removes what they installed.",
        writes_as=("rancher",),
    ),
    Manager(
        "Amazon EKS add-ons",
        "eks",
        (("manager", "eks"),),
        source="https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-field-management.html; "
        "https://docs.aws.amazon.com/eks/latest/userguide/csi-snapshot-controller.html",
        bundle=APPLIES,
        for_targets="Change it through the add-on's configuration, with conflict resolution PRESERVE",
        for_secrets="change it through the add-on's configuration",
        upgrade="Update the add-on: aws eks update-addon --addon-name snapshot-controller --addon-version VERSION.",
        adopting="Delete the add-on, but keep its objects: aws eks delete-addon --preserve.",
        controller_markers=(("image", "*.dkr.ecr.*/eks/*"),),
    ),
    Manager(
        "kOps",
        "kops",
        (("label", "k8s-addon=snapshot-controller.addons.k8s.io"), ("label", "addon.kops.k8s.io/*")),
        source="https://kops.sigs.k8s.io/addons/#snapshot-controller",
        upgrade="Upgrade it with kOps (kops update cluster).",
        adopting="Set spec.snapshotController.enabled: false in the Cluster. kOps keeps the objects.",
    ),
    Manager(
        "KubeOne",
        "kubeone",
        (("label", "kubeone.io/addon=*"),),
        source="https://docs.kubermatic.com/kubeone/main/guides/addons/",
        upgrade="Upgrade it with KubeOne (kubeone apply).",
        adopting="Remove the add-on from the KubeOne manifest, and its label from the objects. kubeone apply deletes objects "
        "with the label.",
    ),
    Manager(
        "the cluster's add-on manager (minikube and hosted clusters)",
        "addon-manager",
        (("label", "addonmanager.kubernetes.io/mode=Reconcile"),),
        source="kubernetes/minikube:deploy/addons/volumesnapshots; kubernetes/kubernetes:cluster/addons/addon-manager",
        upgrade="Upgrade it with the tool that created the cluster (minikube addons enable volumesnapshots).",
        adopting="Disable the add-on in that tool (minikube addons disable volumesnapshots). This also removes its objects.",
    ),
    Manager(
        "Operator Lifecycle Manager",
        "olm",
        (
            ("label", "olm.owner"),
            ("label", "olm.managed=true"),
            ("label", "olm.webhook-description-generate-name"),
            ("annotation", "operatorframework.io/installed-alongside-*"),
        ),
        source="https://github.com/operator-framework/operator-lifecycle-manager",
        bundle=OVERWRITES,
        for_targets="OLM issues this webhook's certificate itself: leave it to the ClusterServiceVersion",
        for_secrets="leave it to the ClusterServiceVersion",
        upgrade="Upgrade it with its Subscription or ClusterExtension.",
        controller_markers=(
            ("label", "olm.operatorframework.io/owner-name"),
            ("owner", "ClusterServiceVersion"),
        ),
    ),
    Manager(
        # It issues nothing. The webhooks of a bundle get their CA from cert-manager or OpenShift's service CA. An installed
        # snapshot controller belongs to the row above.
        "Operator Lifecycle Manager v1",
        "olm-v1",
        (("label", "olm.operatorframework.io/owner-name"),),
        source="https://github.com/operator-framework/operator-controller",
        bundle=APPLIES,
        for_targets="Leave caBundle out of the extension's bundle, so that it does not reset it",
        for_secrets="take it out of the extension's bundle",
    ),
    Manager(
        "Argo CD",
        "argocd",
        (
            ("annotation", "argocd.argoproj.io/tracking-id"),
            ("label", "argocd.argoproj.io/instance"),
            ("manager", "argocd-controller"),
            ("manager", "argocd-application-controller"),
        ),
        source="https://argo-cd.readthedocs.io/en/stable/user-guide/diffing/; "
        "https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/",
        bundle=APPLIES,
        for_targets="Put into the Application's spec: {{ignoreDifferences: [{{group: {group}, kind: {kind}, name: {name}, "
        "jqPathExpressions: ['{expression}']}}], syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}}}}",
        for_secrets="take it out of the Application",
        upgrade="Change the revision in the repository that the Application reads.",
        adopting="Delete the Application without its resources (kubectl delete application NAME --cascade=orphan), or remove "
        "these objects from it.",
    ),
    Manager(
        "Flux",
        "flux",
        (
            ("label", "kustomize.toolkit.fluxcd.io/name"),
            ("label", "helm.toolkit.fluxcd.io/name"),
            ("manager", "kustomize-controller"),
            ("manager", "helm-controller"),
        ),
        source="https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources; "
        "https://fluxcd.io/flux/components/kustomize/kustomizations/; #735",
        bundle=APPLIES,
        for_targets="Leave caBundle out of the manifest that Flux applies, so that it does not reset it",
        for_secrets="take it out of the Kustomization or HelmRelease",
        upgrade="Change the revision in the repository that the Kustomization or HelmRelease reads.",
        adopting="For a Kustomization, annotate the objects with kustomize.toolkit.fluxcd.io/prune=disabled and remove them from "
        "it. For a HelmRelease, suspend it and then delete it, which keeps its objects.",
        controller_markers=(("manager", "flux"),),
    ),
    Manager(
        "Helm",
        HELM,
        (("label", "app.kubernetes.io/managed-by=Helm"), ("annotation", "meta.helm.sh/release-name")),
        source="https://helm.sh/docs/faq/changes_since_helm2/#improved-upgrade-strategy-3-way-strategic-merge-patches; "
        "https://helm.sh/docs/howto/charts_tips_and_tricks/; "
        "piraeusdatastore/helm-charts:charts/snapshot-controller; rancher/rke2#8576",
        bundle=APPLIES,
        for_targets="Leave caBundle out of the chart's values and templates, so that an upgrade does not reset it",
        for_secrets="take it out of the chart",
        upgrade="Upgrade the Helm release (helm upgrade). The chart snapshot-controller of piraeus upgrades the "
        "CustomResourceDefinitions from its version 5 on. Other charts never upgrade them.",
        adopting="Annotate each object with helm.sh/resource-policy=keep by an upgrade of the Helm release. Then run helm "
        "uninstall, which keeps objects with this annotation. Without it, helm uninstall deletes the CustomResourceDefinitions "
        "of piraeus' chart, and every snapshot with them.",
        controller_markers=(("label", "helm.sh/chart"), ("manager", "helm")),
    ),
    Manager(
        "an operator",
        OPERATOR,
        (("owner", "*"),),
        source="https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/",
        for_secrets="leave it to the program of the object that its ownerReference names",
        upgrade="Upgrade it with the operator of the object that its ownerReference names.",
    ),
    Manager(
        "kubespray",
        KUBESPRAY,
        (
            # Its Deployment has one replica and no leader election. Upstream's Deployments always have leader election.
            ("annotation", f'{LAST_APPLIED}=*"kind":"Deployment"*"--leader-election=false"*'),
            # It makes this ClusterRoleBinding in every cluster (roles/kubernetes-apps/cluster_roles).
            ("api", "rbac.authorization.k8s.io/clusterrolebindings/kubespray:system:node"),
        ),
        source="kubernetes-sigs/kubespray v2.31.0:roles/kubernetes-apps/snapshots, roles/kubernetes-apps/meta/main.yml, "
        "roles/kubernetes-apps/cluster_roles/templates/node-crb.yml.j2",
        upgrade="Every run of kubespray applies its own version again (kubespray 2.25 to 2.31: 7.0.2). "
        "snapshot_controller_image_tag changes the image. It does not change kubespray's CustomResourceDefinitions and "
        "ClusterRole, which do not match release 8.2 or newer.",
        adopting="Set csi_snapshot_controller_enabled: false in kubespray's inventory. kubespray leaves the objects. With "
        "cinder_csi_enabled: true kubespray installs the controller too. Then run kubespray with --skip-tags "
        "snapshot-controller,csi-driver, which also leaves out its CSI drivers.",
        required=(
            KUBECTL_MARKERS,
            # kubespray installs no webhook.
            (
                ("name", "snapshot-controller"),
                ("name", "snapshot-controller-runner"),
                ("name", "volume*.snapshot.storage.k8s.io"),
                ("name", "volume*.groupsnapshot.storage.k8s.io"),
            ),
        ),
    ),
    Manager(
        "kubectl, or a tool that uses it",
        KUBECTL,
        KUBECTL_MARKERS,
        source="kubernetes-sigs/vsphere-csi-driver:manifests",
        upgrade="The scripts of CSI drivers leave this marker, and apply their version again at their next run. If such a script "
        "installed the controller, upgrade it with that script.",
        adopting="Make sure that no tool applies the objects again, such as kubespray or the script of a CSI driver.",
    ),
    Manager(
        "an unknown manager",
        UNMARKED,
        (),
        source="https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management",
        upgrade="If a tool manages these objects, upgrade them with that tool.",
        adopting="Make sure that no tool applies the objects again.",
    ),
    Manager(
        "a program that this collection does not know",
        UNKNOWN,
        (),
        source="https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management",
        upgrade="Upgrade the objects with the program that writes them under this name.",
        adopting="Make sure that the program does not write the objects again.",
    ),
)

#: Field managers of the programs that install snapshot controllers. An upgrade moves their fields only if the user accepts one.
DEPLOYERS = frozenset(name for row in MANAGERS if row.upgrade for name in row.field_managers) - BY_HAND

#: Programs that change objects of other managers, without caBundle. So their marks show no manager.
REWRITERS = (
    Manager(
        "AKS Admissions Enforcer",
        "aks-admissions-enforcer",
        (("manager", "admissionsenforcer"),),
        source="https://learn.microsoft.com/azure/aks/faq; aws-observability/helm-charts#350; Azure/AKS#4002",
        for_targets="It adds terms to each namespaceSelector, which a tool that applies the object may revert or refuse. Annotate "
        "the object with admissions.enforcer/disabled: true, or let the tool ignore this field",
    ),
)
#: Their field managers.
NO_OWNERS = frozenset(name for row in REWRITERS for place, name in row.markers if place == "manager")


def find_rewriters(metadata: Mapping[str, Any]) -> tuple[Manager, ...]:
    """Return the programs that changed the object, and do not own it."""
    return tuple(row for row in REWRITERS if matching(row.markers, present_markers(metadata)))


def present_markers(
    metadata: Mapping[str, Any], *, images: Iterable[str] = (), apis: Iterable[str] = ()
) -> Iterator[tuple[str, str, str]]:
    """Yield everything that may be a marker as (place, key, value)."""
    yield "name", metadata.get("name", ""), ""
    for place, field in (("annotation", "annotations"), ("label", "labels")):
        yield from ((place, key, value) for key, value in (metadata.get(field) or {}).items())
    for entry in metadata.get("managedFields") or ():
        yield "manager", entry.get("manager", ""), entry.get("operation", "")
    for reference in metadata.get("ownerReferences") or ():
        yield "owner", reference.get("kind", ""), reference.get("name", "")
    yield from (("image", image, "") for image in images)
    yield from (("api", api, "") for api in apis)


def matching(markers: Iterable[Marker], present: Iterable[tuple[str, str, str]]) -> tuple[str, ...]:
    """Return the present markers as text."""
    markers = tuple(markers)
    texts = (_match(place, key, value, markers) for place, key, value in present)
    return tuple(dict.fromkeys(text for text in texts if text))


def _match(place: str, key: str, value: str, markers: tuple[Marker, ...]) -> str:
    for where, pattern in markers:
        if where == place and _matches(pattern, key, value):
            return _described(pattern, place, key, value)
    return ""


def _matches(pattern: str, key: str, value: str) -> bool:
    wanted_key, equals, wanted_value = pattern.partition("=")
    return matches(key, wanted_key) and (not equals or matches(value.casefold(), wanted_value.casefold()))


def _described(pattern: str, place: str, key: str, value: str) -> str:
    if key == LAST_APPLIED:  # it holds the whole object: show only the parts that the pattern names
        value = " ... ".join(part for part in pattern.partition("=")[2].split("*") if part)
    words = f"{PLACES.get(place, place)} {key}"
    return f"{words}: {value}" if value and place != "manager" else words
