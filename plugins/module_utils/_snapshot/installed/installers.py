# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Table of the other managers of a snapshot controller, recognised by the marks on its objects. Pure.

An object of another manager is never written, because the manager would revert the change, or break. The user can adopt the
objects of a manager by its name. kubectl's mark does not show the manager: minikube and many scripts leave no other mark. So
the user must adopt these objects too. kubespray leaves kubectl's mark and is recognised by a second mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..._managers import LAST_APPLIED

# This collection's own mark: the field manager of its apply operations. Certificates and bundles are written with another operation.
MANAGER = "certflow.kubernetes"
KUBECTL, KUBESPRAY, UNMARKED, HOSTED = "kubectl", "kubespray", "unmarked", "hosted"

Mark = tuple[str, str]
_KUBECTL_MARKS: tuple[Mark, ...] = (
    ("annotation", LAST_APPLIED),
    ("manager", "kubectl"),
    ("manager", "kubectl-client-side-apply"),
    ("manager", "kubectl-create"),
    ("manager", "kubectl-replace"),
)


@dataclass(frozen=True)
class Owner:
    """One row.

    key: its name in the option adopt.
    name: its name in messages.
    marks: (place, pattern) pairs. place is annotation, label, manager (of managedFields), owner (kind of an ownerReference),
        image, name, or api (an existing object of the owner). pattern is "key" or "key=value", both with wildcards.
    upgrade: how the controller is upgraded with this owner.
    adopting: what to do before its objects are adopted, so that the owner does not write them again. "" if its objects cannot
        be adopted.
    source: where the marks come from.
    beside: groups of marks. The object must carry one mark of each group too.
    """

    key: str
    name: str
    marks: tuple[Mark, ...]
    upgrade: str
    adopting: str
    source: str
    beside: tuple[tuple[Mark, ...], ...] = ()


# An object belongs to the first owner whose mark it carries, so owners with specific marks come before tools.
OWNERS: tuple[Owner, ...] = (
    Owner(
        "openshift",
        "OpenShift's cluster-csi-snapshot-controller-operator",
        (
            ("api", "operator.openshift.io/csisnapshotcontrollers/cluster"),
            ("manager", "cluster-csi-snapshot-controller-operator"),
            ("annotation", "include.release.openshift.io/*"),
            ("annotation", "release.openshift.io/*"),
        ),
        upgrade="It is upgraded with the cluster (oc adm upgrade).",
        adopting="",
        source="github.com/openshift/cluster-csi-snapshot-controller-operator:assets",
    ),
    Owner(
        "rke2",
        "RKE2's chart rke2-snapshot-controller",
        (
            ("api", "helm.cattle.io/helmcharts/rke2-snapshot-controller*"),
            ("annotation", "meta.helm.sh/release-name=rke2-snapshot-controller*"),
            ("label", "app.kubernetes.io/name=rke2-snapshot-controller"),
            ("image", "*/hardened-snapshot-controller*"),
        ),
        upgrade="It is upgraded with RKE2 itself.",
        adopting="Put rke2-snapshot-controller, rke2-snapshot-controller-crd and rke2-snapshot-validation-webhook under "
        "disable: in every server's configuration, which also removes what they installed.",
        source="https://docs.rke2.io/install/packaged_components; github.com/rancher/rke2-charts",
    ),
    Owner(
        "eks",
        "the Amazon EKS add-on snapshot-controller",
        (("manager", "eks"), ("image", "*.dkr.ecr.*/eks/*")),
        upgrade="Update the add-on: aws eks update-addon --addon-name snapshot-controller --addon-version VERSION.",
        adopting="Delete the add-on, but keep its objects: aws eks delete-addon --preserve.",
        source="https://docs.aws.amazon.com/eks/latest/userguide/csi-snapshot-controller.html; "
        ".../kubernetes-field-management.html",
    ),
    Owner(
        "kops",
        "kOps",
        (("label", "k8s-addon=snapshot-controller.addons.k8s.io"), ("label", "addon.kops.k8s.io/*")),
        upgrade="It is upgraded with kOps (kops update cluster).",
        adopting="Set spec.snapshotController.enabled: false in the Cluster. kOps keeps the objects.",
        source="https://kops.sigs.k8s.io/addons/#snapshot-controller",
    ),
    Owner(
        "kubeone",
        "KubeOne",
        (("label", "kubeone.io/addon"),),
        upgrade="It is upgraded with KubeOne (kubeone apply).",
        adopting="Remove the add-on from the KubeOne manifest, and its label from the objects. kubeone apply deletes objects "
        "with the label.",
        source="https://docs.kubermatic.com/kubeone/main/guides/addons/",
    ),
    Owner(
        "addon-manager",
        "the cluster's add-on manager (minikube and hosted clusters)",
        (("label", "addonmanager.kubernetes.io/mode=Reconcile"),),
        upgrade="It is upgraded with the tool that created the cluster (minikube addons enable volumesnapshots).",
        adopting="Disable the add-on in that tool (minikube addons disable volumesnapshots). This also removes its objects.",
        source="kubernetes/minikube:deploy/addons/volumesnapshots; kubernetes/kubernetes:cluster/addons/addon-manager",
    ),
    Owner(
        "olm",
        "the Operator Lifecycle Manager",
        (
            ("label", "olm.owner"),
            ("label", "olm.managed=true"),
            ("label", "olm.operatorframework.io/owner-name"),
            ("annotation", "operatorframework.io/installed-alongside-*"),
            ("owner", "ClusterServiceVersion"),
        ),
        upgrade="It is upgraded by its Subscription or ClusterExtension.",
        adopting="",
        source="https://github.com/operator-framework/operator-lifecycle-manager",
    ),
    Owner(
        "argocd",
        "Argo CD",
        (
            ("annotation", "argocd.argoproj.io/tracking-id"),
            ("label", "argocd.argoproj.io/instance"),
            ("manager", "argocd-controller"),
            ("manager", "argocd-application-controller"),
        ),
        upgrade="Change the revision in the repository that the Application reads.",
        adopting="Delete the Application without its resources (kubectl delete application NAME --cascade=orphan), or remove "
        "these objects from it.",
        source="https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/",
    ),
    Owner(
        "flux",
        "Flux",
        (
            ("label", "kustomize.toolkit.fluxcd.io/name"),
            ("label", "helm.toolkit.fluxcd.io/name"),
            ("manager", "kustomize-controller"),
            ("manager", "helm-controller"),
            ("manager", "flux"),
        ),
        upgrade="Change the revision in the repository that the Kustomization or HelmRelease reads.",
        adopting="For a Kustomization, annotate the objects with kustomize.toolkit.fluxcd.io/prune=disabled and remove them from "
        "it. For a HelmRelease, suspend it and then delete it, which keeps its objects.",
        source="https://fluxcd.io/flux/components/kustomize/kustomizations/; #735",
    ),
    Owner(
        "helm",
        "Helm",
        (
            ("annotation", "meta.helm.sh/release-name"),
            ("label", "app.kubernetes.io/managed-by=Helm"),
            ("label", "helm.sh/chart"),
            ("manager", "helm"),
        ),
        upgrade="Upgrade the Helm release (helm upgrade). The chart snapshot-controller of piraeus upgrades the "
        "CustomResourceDefinitions from its version 5 on. Other charts never upgrade them.",
        adopting="Annotate each object with helm.sh/resource-policy=keep by an upgrade of the Helm release. Then run helm "
        "uninstall, which keeps objects with this annotation. Without it, helm uninstall deletes the CustomResourceDefinitions "
        "of piraeus' chart, and every snapshot with them.",
        source="https://helm.sh/docs/howto/charts_tips_and_tricks/; piraeusdatastore/helm-charts:charts/snapshot-controller; "
        "rancher/rke2#8576",
    ),
    Owner(
        "operator",
        "an operator",
        (("owner", "*"),),
        upgrade="It is upgraded by the operator of the object that its ownerReference names.",
        adopting="",
        source="https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/",
    ),
    Owner(
        KUBESPRAY,
        "kubespray",
        (
            # Its Deployment has one replica and no leader election. Upstream's Deployments always have leader election.
            ("annotation", f'{LAST_APPLIED}=*"kind":"Deployment"*"--leader-election=false"*'),
            # It makes this ClusterRoleBinding in every cluster (roles/kubernetes-apps/cluster_roles).
            ("api", "rbac.authorization.k8s.io/clusterrolebindings/kubespray:system:node"),
        ),
        upgrade="Every run of kubespray applies its own version again (kubespray 2.25 to 2.31: 7.0.2). "
        "snapshot_controller_image_tag changes the image. It does not change kubespray's CustomResourceDefinitions and "
        "ClusterRole, which do not fit 8.2 and newer.",
        adopting="Set csi_snapshot_controller_enabled: false in kubespray's inventory. kubespray leaves the objects. With "
        "cinder_csi_enabled: true kubespray installs the controller too. Then run kubespray with --skip-tags "
        "snapshot-controller,csi-driver, which also leaves out its CSI drivers.",
        source="kubernetes-sigs/kubespray v2.31.0:roles/kubernetes-apps/snapshots, roles/kubernetes-apps/meta/main.yml, "
        "roles/kubernetes-apps/cluster_roles/templates/node-crb.yml.j2",
        beside=(
            _KUBECTL_MARKS,
            # kubespray installs no webhook.
            (
                ("name", "snapshot-controller"),
                ("name", "snapshot-controller-runner"),
                ("name", "volume*.snapshot.storage.k8s.io"),
                ("name", "volume*.groupsnapshot.storage.k8s.io"),
            ),
        ),
    ),
    Owner(
        KUBECTL,
        "kubectl, or a tool that uses it",
        _KUBECTL_MARKS,
        upgrade="The scripts of CSI drivers leave this mark, and apply their version again at their next run. If such a script "
        "installed the controller, upgrade it there.",
        adopting="Make sure that no tool applies the objects again, such as kubespray or the script of a CSI driver.",
        source="kubernetes-sigs/vsphere-csi-driver:manifests",
    ),
    Owner(
        HOSTED,
        "a controller outside of the cluster, or no controller",
        (),
        upgrade="Hosted control planes and managed clouds may run the controller outside of the cluster, and upgrade it themselves.",
        adopting="Make sure that no controller works on this cluster. Create a VolumeSnapshot that names a missing class. Without "
        "a controller it has no status.error after a minute.",
        source="openshift/hypershift; the providers' documentation",
    ),
    Owner(
        UNMARKED,
        "an unknown manager",
        (),
        upgrade="If a tool manages these objects, upgrade them with that tool.",
        adopting="Make sure that no tool applies the objects again.",
        source="https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management",
    ),
)
BY_KEY = {owner.key: owner for owner in OWNERS}


@dataclass(frozen=True)
class Origin:
    """The owner of an object.

    key: of OWNERS, "" if this collection applied it last.
    evidence: the marks on the object.
    earlier: the key of the owner that applied it before this collection and applies it again at its next run, or "".
    """

    key: str = ""
    evidence: tuple[str, ...] = ()
    earlier: str = ""


OURS = Origin()


def origin(obj: Mapping[str, Any], *, images: Iterable[str] = (), apis: Iterable[str] = ()) -> Origin:
    """Return the owner of the object.

    Another manager's mark counts even if this collection applied the object, because that manager may apply it again.
    kubectl's mark stays on an adopted object, so it does not count there. kubespray's mark counts again if kubectl wrote the
    object after this collection.

    Args:
        images: of its containers.
        apis: "group/resource/name" of existing objects that belong to an owner.
    """
    metadata = obj.get("metadata") or {}
    present = tuple(_marks(metadata, images, apis))
    applied = ("manager", MANAGER, "Apply") in present
    for owner in OWNERS:
        evidence = _evidence(owner, present)
        if not evidence or (applied and owner.key == KUBECTL):
            continue
        if applied and owner.key == KUBESPRAY and not _is_overwritten(metadata):
            return Origin("", evidence, KUBESPRAY)
        return Origin(owner.key, evidence)
    return OURS if applied else Origin(UNMARKED, ("no mark of any manager",))


def _is_overwritten(metadata: Mapping[str, Any]) -> bool:
    """Return True if kubectl wrote the object after this collection. The times are RFC 3339 in UTC, so they sort as text."""
    kubectl = {pattern for place, pattern in _KUBECTL_MARKS if place == "manager"}
    entries = metadata.get("managedFields") or ()
    own = [entry.get("time") or "" for entry in entries if entry.get("manager") == MANAGER]
    theirs = [entry.get("time") or "" for entry in entries if entry.get("manager") in kubectl]
    return max(theirs, default="") > max(own, default="")


def _evidence(owner: Owner, present: tuple[tuple[str, str, str], ...]) -> tuple[str, ...]:
    """Return the owner's marks on the object, nothing if a group of ``beside`` has none."""
    if not all(any(_found(group, present)) for group in owner.beside):
        return ()
    return tuple(dict.fromkeys(_found(owner.marks, present)))


def _found(marks: Iterable[Mark], present: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    for place, key, value in present:
        for where, pattern in marks:
            if where == place and _matches(pattern, key, value):
                yield _shown(place, key, value, pattern)
                break


def _shown(place: str, key: str, value: str, pattern: str) -> str:
    # kubectl's annotation holds the whole object. Show the parts that the pattern names.
    long = len(value) > 80
    parts = [part for part in pattern.partition("=")[2].split("*") if part] if long else [value]
    brief = "" if place == "manager" else " ... ".join(parts)
    words = {"manager": "field manager", "owner": "ownerReference", "api": "object"}.get(place, place)
    return f"{words} {key}: {brief}" if brief else f"{words} {key}"


def _marks(
    metadata: Mapping[str, Any], images: Iterable[str], apis: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    yield "name", metadata.get("name", ""), ""
    for place, field in (("annotation", "annotations"), ("label", "labels")):
        yield from ((place, key, value) for key, value in (metadata.get(field) or {}).items())
    for entry in metadata.get("managedFields") or ():
        yield "manager", entry.get("manager", ""), entry.get("operation", "")
    for reference in metadata.get("ownerReferences") or ():
        yield "owner", reference.get("kind", ""), reference.get("name", "")
    yield from (("image", image, "") for image in images)
    yield from (("api", api, "") for api in apis)


def _matches(pattern: str, key: str, value: str) -> bool:
    wanted_key, equals, wanted_value = pattern.partition("=")
    return fnmatchcase(key, wanted_key) and (not equals or fnmatchcase(value, wanted_value))
