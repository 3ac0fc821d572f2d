# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Table of the hazards of an upgrade of external-snapshotter, with the answer to each. Pure.

reference_hazards.rst is generated from these rows. "#N" and "vX" are issues and tags of kubernetes-csi/external-snapshotter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from ..context.hop_context import UpgradeOptions
from ..context.upgrade_context import UpgradeContext
from . import controller, installation, stored, webhook
from .finding import Finding

# REFUSE: stop before the first write. ASK: stop unless the user accepts the hazard by its id.
# STEP: a step of the plan handles it. REPORT: continue, and report it.
REFUSE, ASK, STEP, REPORT = "refuse", "ask", "step", "report"

HazardRule = Callable[[UpgradeContext], Optional[Finding]]


@dataclass(frozen=True)
class Hazard:
    """One row."""

    #: The id never changes.
    id: str
    #: The problem.
    title: str
    #: REFUSE, ASK, STEP or REPORT.
    handling: str
    #: What the upgrade does, in its order.
    answer: str
    #: The documents and issues that the rule comes from.
    source: str
    #: Returns a finding if the cluster has the hazard.
    rule: HazardRule
    #: True if the hazard also prevents an undo, which restores what ran before.
    stops_undo: bool = False

    @property
    def stops(self) -> bool:
        """Return True if the upgrade stops because of it, unless the user accepts it."""
        return self.handling in (REFUSE, ASK)


HAZARDS: tuple[Hazard, ...] = (
    # The installed state.
    Hazard(
        "unreadable", "Objects that the plan depends on could not be read", REFUSE,
        "The plan is refused. The message names the objects and the API server's reason.",
        "https://kubernetes.io/docs/reference/access-authn-authz/rbac/", installation.find_unreadable, True,
    ),
    Hazard(
        "hosted", "The CRDs exist, but no controller runs in the cluster", ASK,
        "A controller may run outside of the cluster, and a second one would work against it. The plan is refused unless "
        "accept names hosted.",
        "openshift/hypershift; hosted control planes of cloud providers", installation.find_hosted,
    ),
    Hazard(
        "kubespray-reverts", "The next run of kubespray applies its own version of the controller again", REPORT,
        "The plan is refused with owner-kubespray unless `accept` names kubespray. By naming it, the user confirms that kubespray "
        "no longer installs the controller. Every later run reports it. An object that kubespray wrote after this collection "
        "belongs to kubespray again.",
        "kubernetes-sigs/kubespray v2.31.0:roles/kubernetes-apps/snapshots; plugins/modules/kube.py (kubectl apply --force)",
        installation.find_kubespray_reverts,
    ),
    Hazard(
        "older-than-4.2", "The installed release is older than 4.2", REFUSE,
        "The plan is refused. The way through 3.0.3 and 4.1 needs a decision about each invalid object. The remedy lists the "
        "manual steps.",
        "README of v4.2.1, \"Upgrade from v1beta1 to v1\"; #646", installation.find_older_than_4_2,
    ),
    Hazard(
        "newer-than-known", "This collection does not know the running release", REFUSE,
        "The plan is refused, because the hazards of that release are not known.", "release_table.py", installation.find_newer_than_known,
    ),
    Hazard(
        "version-unknown", "The controller's image does not show its release", REFUSE,
        "The plan is refused unless installed_version names the release.", "images with a digest or with a custom tag",
        installation.find_version_unknown,
    ),
    Hazard(
        "two-controllers", "Several controllers run", REFUSE,
        "All of them process the same snapshots. The leader's Lease is in the controller's namespace, so controllers in two "
        "namespaces both lead. The plan is refused unless remove_controllers names the ones to delete.",
        "v8.7.0:cmd/snapshot-controller/main.go; #277", installation.find_two_controllers,
    ),
    Hazard(
        "other-containers", "The controller or a webhook shares its pods with other containers", REFUSE,
        "The plan is refused. The upgrade never changes or deletes such a workload, because that would also stop the other "
        "containers, such as those of a CSI driver.",
        "CSI drivers that run snapshot-controller in their own pod", installation.find_other_containers,
    ),
    Hazard(
        "controllers-removed", "An undo does not restore removed controllers", REPORT,
        "The upgrade deletes them. The backup keeps their manifests.", "roles/snapshot_controller", installation.find_controllers_removed,
    ),
    Hazard(
        "another-name", "The controller is not called Deployment snapshot-controller", REFUSE,
        "The plan is refused unless remove_controllers names it. Then the new controller is created, and the old one is deleted.",
        "rke2-snapshot-controller, csi-snapshot-controller, volume-snapshot-controller", installation.find_another_name,
    ),
    Hazard(
        "namespace-moves", "The option namespace differs from the controller's namespace", REFUSE,
        "The plan is refused, because the old and the new controller would both lead.",
        "kubernetes-csi/csi-lib-utils:leaderelection", installation.find_namespace_moves,
    ),
    Hazard(
        "webhook-moves", "The option webhook_namespace differs from the webhook's namespace", REFUSE,
        "The plan is refused, because the webhook's certificate contains the namespace of its Service.",
        "kubermatic/kubeone#3181, #3761", installation.find_webhook_moves,
    ),
    Hazard(
        "webhook-names", "A validation webhook has other names than upstream's", REFUSE,
        "The plan is refused, because the API server would call the installed webhook and the new one.",
        "piraeusdatastore/helm-charts:charts/snapshot-validation-webhook", installation.find_webhook_names,
    ),
    Hazard(
        "mixed-object", "An object with upstream's name holds something of another owner", REFUSE,
        "The plan is refused, because the upgrade would replace or delete the object as a whole. A webhook configuration "
        "belongs to the snapshot webhook only if every webhook in it calls a Service with upstream's name, or pods with an image of upstream's "
        "registry or of image_registry.",
        "v8.1.0:deploy/kubernetes/webhook-example", webhook.find_mixed_object,
    ),
    Hazard(
        "foreign-configuration", "A webhook configuration of another owner names snapshots", REPORT,
        "The upgrade does not change the configuration. Only configurations with upstream's names belong to the snapshot webhook.",
        "Kyverno, Gatekeeper and other policy engines", webhook.find_foreign_configuration,
    ),
    Hazard(
        "webhook-shared", "A configuration of another owner calls the snapshot webhook", REPORT,
        "The upgrade does not change the configuration. While the configuration calls the webhook, no object of the webhook is "
        "deleted. With failurePolicy Fail, every write that matches its rules would fail.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
        webhook.find_webhook_shared,
    ),
    Hazard(
        "secret-kept", "A Secret of the webhook may have other users", REPORT,
        "The upgrade keeps the Secret. It deletes only a Secret that holds only a certificate and its key, and that "
        "has upstream's name or the name that this collection gives it. No other workload, pod or Ingress of its namespace may name it.",
        "https://kubernetes.io/docs/concepts/configuration/secret/", webhook.find_secret_kept,
    ),
    # CRDs and stored objects.
    Hazard(
        "crd-deleted", "One of the CRDs is being deleted", REFUSE,
        "The plan is refused. VolumeSnapshots are deleted with their CRD. With deletionPolicy Delete, the snapshots in the "
        "storage are deleted too. No plan ever deletes a VolumeSnapshot CRD.",
        "https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/",
        stored.find_crd_deleted, True,
    ),
    Hazard(
        "kubernetes-too-old", "Kubernetes is too old for the CEL rules of the CRDs", REFUSE,
        "The plan is refused. Kubernetes before 1.25 does not evaluate the rules, and from 8.2 on there is no webhook either.",
        "CHANGELOG-8.0 (#1073, #1076); release notes of v8.6.0", stored.find_kubernetes_too_old,
    ),
    Hazard(
        "stored-versions", "The cluster once stored a version that the release does not list", REFUSE,
        "The plan is refused. The API server would refuse the CRD (status.storedVersions[0]: missing from spec.versions), "
        "after kubectl apply -k had changed the other CRDs.",
        "#718, #1307", stored.find_stored_versions,
    ),
    Hazard(
        "v1beta1-unserved", "v1beta1 of snapshots is no longer served", REPORT,
        "The upgrade continues. Old clients get 404. The note names the clients that wrote objects at v1beta1.", "vmware-tanzu/velero#7413",
        stored.find_v1beta1_unserved,
    ),
    Hazard(
        "invalid-objects", "Stored objects violate the rules of 8.0, on Kubernetes before 1.30", REFUSE,
        "The plan is refused. The API server would refuse every update of these objects, even the removal of their finalizers.",
        "client/v8.0.0:config/crd; KEP-4008", stored.find_invalid_objects,
    ),
    Hazard(
        "invalid-objects-kept", "Stored objects violate the rules of 8.0, on Kubernetes 1.30 or newer", REPORT,
        "The upgrade continues and names each object. They can still be deleted.", "KEP-4008", stored.find_invalid_objects_kept,
    ),
    Hazard(
        "default-classes", "A driver has more than one default class", REPORT,
        "The upgrade continues and names the classes of each driver.", "v8.7.0:pkg/common-controller/snapshot_controller.go", stored.find_default_classes,
    ),
    Hazard(
        "foreign-crds", "CRDs differ from those of every release", REPORT,
        "The release's CRDs replace them, after a check of storedVersions.", "rancher/rke2-charts#729",
        stored.find_foreign_crds,
    ),
    Hazard(
        "crds-stay", "The CRDs are newer than the release", REPORT,
        "The upgrade keeps them. The controller's permissions are reduced after the older controller runs.", "#629", stored.find_crds_stay,
    ),
    # Group snapshots.
    Hazard(
        "alpha-sources", "Group snapshot contents have the v1alpha1 schema of 6.3", REFUSE,
        "The plan is refused. 7.0 changed the schema without a new version, so the next write would drop their source.",
        "client/v6.3.0 and client/v7.0.0:config/crd", stored.find_alpha_sources,
    ),
    Hazard(
        "alpha-lists", "Group snapshots at v1alpha1 lose the lists of members in their status", REPORT,
        "The upgrade continues. The new schema renames these fields, so their values are dropped. The spec is kept.",
        "client/v7.0.0 to client/v8.2.0:config/crd",
        stored.find_alpha_lists,
    ),
    Hazard(
        "alpha-dropped-empty", "8.2 drops v1alpha1 of group snapshots, and no object is stored", STEP,
        "The three group CRDs are deleted and created again. The step fails if an object exists by then.",
        "#1150, #1307; kubermatic/kubeone#3622", stored.find_alpha_dropped_empty,
    ),
    Hazard(
        "alpha-dropped", "8.2 drops v1alpha1 of group snapshots, and objects are stored", STEP,
        "A storage migration. First 8.2's CRDs with v1alpha1 as a version that is not served. Then every object is written back "
        "at v1beta1, and storedVersions is set to [v1beta1]. Then the release's own CRDs. If storedVersions were patched without "
        "the rewrite, no object of the CRD could be read.",
        "#1307; rancher/rke2#8576; rook/rook#15234", stored.find_alpha_dropped,
    ),
    Hazard(
        "conversion-refused", "The conversion webhook is needed, but conversion_webhook is false", REFUSE,
        "The plan is refused. Without the webhook, the next write drops the lists of handles.", "v8.4.0:pkg/webhook/convert.go",
        stored.find_conversion_refused,
    ),
    Hazard(
        "conversion-unsupported", "conversion_webhook is true, but the release has no conversion webhook", REFUSE,
        "The plan is refused. From 8.6 on the webhook would break the version v1.", "v8.7.0:pkg/webhook/convert.go; piraeusdatastore/helm-charts#98",
        stored.find_conversion_in_vain,
    ),
    Hazard(
        "conversion-left", "spec.conversion still names a webhook", STEP,
        "A JSON patch sets it to None before the new CRDs are applied, and the result is read back. An apply leaves it "
        "unchanged with rc 0, or is refused, depending on its field manager. If it stays, group snapshots break, at 8.7 without an error.",
        "piraeusdatastore/helm-charts#87, #90, #98; #1469", stored.find_conversion_left,
    ),
    Hazard(
        "lists-at-v1beta1", "Lists of handles are stored at v1beta1, and no webhook converts them", STEP,
        "The plan has a hop to 8.4.0. Its webhook converts the lists, and its controller uses v1beta2.",
        "client/v8.6.0:config/crd; v8.4.0:pkg/webhook/convert.go", stored.find_lists_at_v1beta1,
    ),
    Hazard(
        "stored-at-v1beta1", "Group snapshots stored at v1beta1 lose their lists without a conversion webhook", STEP,
        "Every object is written back at v1beta2 while the webhook still answers. Then storedVersions is set to [v1beta2], and "
        "the conversion strategy to None.",
        "client/v8.6.0:config/crd", stored.find_stored_at_v1beta1,
    ),
    Hazard(
        "sidecars-at-v1beta1", "csi-snapshotter sidecars use v1beta1, which the CRDs no longer convert", ASK,
        "The plan is refused, because objects that these sidecars write would be stored without their lists of handles.", "client/v8.6.0:config/crd",
        stored.find_sidecars_at_v1beta1,
    ),
    Hazard(
        "back-to-alpha", "The CRDs no longer have the version or the schema of group snapshots that the older release uses",
        REFUSE, "The plan is refused, because CRDs are never downgraded.", "#629; client/v7.0.0 and client/v8.0.0:config/crd",
        stored.find_back_to_alpha, True,
    ),
    Hazard(
        "back-without-lists", "Group snapshots would lose their lists of handles below 8.4, the oldest release that converts them",
        REFUSE,
        "The plan is refused. The older controller would store the objects without their lists of handles. Without the webhook, "
        "objects stored at v1beta1 would lose them at the next write.",
        "client/v8.6.0:config/crd; v8.4.0:pkg/webhook/convert.go", stored.find_back_without_lists, True,
    ),
    Hazard(
        "no-way-back", "After the CRDs of group snapshots have changed, a failed step is not undone", REPORT,
        "The upgrade continues. CRDs are never downgraded, and the older controller cannot use group snapshots with the newer ones.",
        "#629; client/v8.2.0:config/crd", stored.find_no_undo,
    ),
    Hazard(
        "groups-unattended", "No controller processes the stored group snapshots any more", REPORT,
        "The upgrade continues and reports their number. No object is deleted.", "v6.3.4:cmd/snapshot-controller/main.go",
        stored.find_groups_unattended,
    ),
    # Webhooks.
    Hazard(
        "rules-first", "The new webhook denies kinds that the old rules still send", STEP,
        "The rules are narrowed before the new webhook starts. failurePolicy Ignore does not help, because a denial is not a failure.",
        "#1136; kubermatic/kubeone#3273", webhook.find_rules_first,
    ),
    Hazard(
        "volume-mode", "prevent-volume-mode-conversion becomes true", REPORT,
        "The upgrade continues and reports it. controller_arguments can set it to false.", "CHANGELOG-7.0 (#916); vmware-tanzu/velero#8259",
        webhook.find_volume_mode,
    ),
    # The controller.
    Hazard(
        "arguments-unknown", "The release does not know some of the given arguments", REFUSE,
        "The plan is refused. A program exits at an argument that it does not know (exit code 2), so its pods restart repeatedly.",
        "v8.2.1 and v8.3.0:cmd/snapshot-controller/main.go",
        controller.find_arguments_unknown,
    ),
    Hazard(
        "arguments-dropped", "The installed controller has arguments that controller_arguments does not contain", ASK,
        "The plan is refused, so that no argument is lost unnoticed. The controller was not installed by this collection.",
        "https://kubernetes.io/docs/reference/using-api/server-side-apply/",
        controller.find_arguments_dropped,
    ),
    Hazard(
        "arguments-taken-back", "Arguments were removed from controller_arguments", REPORT,
        "The upgrade removes them and names them.", "https://kubernetes.io/docs/reference/using-api/server-side-apply/",
        controller.find_arguments_taken_back,
    ),
    Hazard(
        "sidecar-arguments", "csi-snapshotter has arguments that newer releases do not know", REPORT,
        "The upgrade continues and names each one. It never changes CSI drivers.", "rook/rook#15234; #1256", controller.find_sidecar_arguments,
    ),
    Hazard(
        "nodes", "Distributed snapshotting needs the permission to read nodes", STEP,
        "The ClusterRole gets this rule, which is commented out in upstream's manifest.",
        "v8.7.0:deploy/kubernetes/snapshot-controller/rbac-snapshot-controller.yaml", controller.find_nodes,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class DetectedHazard:
    """A hazard of this hop, with its evidence."""

    hazard: Hazard
    finding: Finding

    def __str__(self) -> str:
        return f"{self.hazard.title}: {'; '.join(self.finding.evidence)}. {self.finding.remedy}".strip()

    def stops(self, options: UpgradeOptions) -> bool:
        """Return True if the hazard refuses the plan."""
        row = self.hazard
        if options.undo:
            return row.stops_undo
        return row.handling == REFUSE or (row.handling == ASK and not options.accept.covers(row.id))


def find(context: UpgradeContext) -> tuple[DetectedHazard, ...]:
    """Return the hazards of this hop in the order of the table."""
    return tuple(
        DetectedHazard(row, finding) for row in HAZARDS if (finding := row.rule(context)) is not None
    )
