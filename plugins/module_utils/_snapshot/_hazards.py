# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What can go wrong when external-snapshotter is upgraded, as a table: when, why, and what is done about it. Pure.

docs/hazards.md is made of these rows. "#N" and "vX" are issues and tags of kubernetes-csi/external-snapshotter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from . import _rules_controller as controller
from . import _rules_present as present
from . import _rules_stored as stored
from . import _rules_webhook as webhook
from ._finding import Finding
from ._situation import Situation

# What is done: stop before the first write; stop unless the user accepts it by its id; a step of the plan; say so.
REFUSE, ASK, STEP, REPORT = "refuse", "ask", "step", "report"

Rule = Callable[[Situation], Optional[Finding]]


@dataclass(frozen=True)
class Hazard:
    """One row. id: stable. title: what goes wrong. where: between which releases. answer: what is done, and in which order."""

    id: str
    title: str
    where: str
    handling: str
    answer: str
    source: str
    rule: Rule


_ANY = "any"
HAZARDS: tuple[Hazard, ...] = (
    # What is there.
    Hazard(
        "unreadable", "Something that the decision rests on could not be read", _ANY, REFUSE,
        "It stops and names what it could not read, and the API server's reason.",
        "https://kubernetes.io/docs/reference/access-authn-authz/rbac/", present.unreadable,
    ),
    Hazard(
        "hosted", "The CRDs are there and no controller is: it runs outside of the cluster, or nowhere", _ANY, REFUSE,
        "A second controller would work against the first one. It stops, unless adopt names hosted.",
        "openshift/hypershift; hosted control planes of cloud providers", present.hosted,
    ),
    Hazard(
        "kubespray-reverts", "The next run of kubespray applies its own version of the controller again", _ANY, REPORT,
        "It stops with owner-kubespray, unless `adopt` names kubespray. Then the upgrade continues, because naming kubespray is the "
        "user's word that it is switched off. Every later run reports it. An object that kubespray wrote after this collection "
        "belongs to kubespray again.",
        "kubernetes-sigs/kubespray v2.31.0:roles/kubernetes-apps/snapshots; plugins/modules/kube.py (kubectl apply --force)",
        present.kubespray_reverts,
    ),
    Hazard(
        "older-than-4.2", "What is installed is older than 4.2", "before 4.2", REFUSE,
        "The way through 3.0.3 and 4.1 needs a person's judgement about invalid objects, and a controller that no cluster of "
        "today runs. It says how.",
        "README of v4.2.1, \"Upgrade from v1beta1 to v1\"; #646", present.older_than_known,
    ),
    Hazard(
        "newer-than-known", "What runs is no release that this collection knows", "after 8.7", REFUSE,
        "It stops: what is not in the table cannot be judged.", "_releases.py", present.newer_than_known,
    ),
    Hazard(
        "version-unknown", "The controller's image does not tell which release it is", _ANY, REFUSE,
        "It stops, unless installed_version says it.", "images by digest, or with a tag of one's own",
        present.version_unknown,
    ),
    Hazard(
        "two-controllers", "Several controllers run", _ANY, REFUSE,
        "Each works on the same snapshots: the Lease is a namespace's own, so two in two namespaces both lead. It stops, unless "
        "remove_controllers names those that go.",
        "v8.7.0:cmd/snapshot-controller/main.go; #277", present.two_controllers,
    ),
    Hazard(
        "other-containers", "The controller or a webhook shares its pods with other containers", _ANY, REFUSE,
        "It stops. It never changes or deletes such a workload, because that would also stop the other containers, such as "
        "those of a CSI driver.",
        "CSI drivers that run snapshot-controller in their own pod", present.other_containers,
    ),
    Hazard(
        "no-way-back", "The running release must not be installed", "from 6.0.0, 6.3.0, 7.0.0", REPORT,
        "The upgrade continues. A failed step is not undone, because the undo would install that release again.",
        "_releases.py", present.no_way_back,
    ),
    Hazard(
        "controllers-removed", "An undo does not restore removed controllers", _ANY, REPORT,
        "It deletes them. The backup keeps their manifests.", "roles/snapshot_controller", present.controllers_removed,
    ),
    Hazard(
        "leftover-statefulset", "StatefulSet default/snapshot-controller of before 4.1 still runs beside the Deployment",
        "4.0 to 4.1", STEP,
        "It is deleted before the new controller starts: it leads without a Lease (--leader-election=false).",
        "v4.0.1 and v4.2.1:deploy/kubernetes/snapshot-controller", present.leftover_statefulset,
    ),
    Hazard(
        "another-name", "The controller is not called Deployment snapshot-controller", _ANY, REFUSE,
        "It stops, unless remove_controllers names it; then the new one is made, and the old one goes.",
        "rke2-snapshot-controller, csi-snapshot-controller, volume-snapshot-controller", present.controller_of_another_name,
    ),
    Hazard(
        "namespace-moves", "The controller is to move to another namespace", _ANY, REFUSE,
        "Old and new one would lead at the same time. It stays where it is.",
        "kubernetes-csi/csi-lib-utils:leaderelection", present.namespace_moves,
    ),
    Hazard(
        "webhook-moves", "The webhook is to move to another namespace", _ANY, REFUSE,
        "Its certificate is for the Service's name. It stays where it is.",
        "kubermatic/kubeone#3181, #3761", present.webhook_moves,
    ),
    Hazard(
        "webhook-names", "A validation webhook under other names than upstream's", "4.2 to 8.1", REFUSE,
        "A second one beside it would be asked as well.",
        "piraeusdatastore/helm-charts:charts/snapshot-validation-webhook", present.names_of_others,
    ),
    Hazard(
        "foreign-configuration", "A webhook configuration of another owner names snapshots", _ANY, REPORT,
        "It does not change the configuration. A configuration belongs to the snapshot webhook by upstream's name, or if every "
        "webhook in it is asked about snapshots only and calls a Service whose pods run the webhook's program.",
        "Kyverno, Gatekeeper and other policy engines", webhook.foreign_configurations,
    ),
    Hazard(
        "webhook-shared", "A configuration of another owner calls the snapshot webhook", _ANY, REPORT,
        "It does not change the configuration. While the configuration calls the webhook, no object of the webhook is deleted: "
        "with failurePolicy Fail, every write that the configuration names would fail.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
        webhook.other_callers,
    ),
    Hazard(
        "secret-kept", "A Secret of the webhook may have other users", _ANY, REPORT,
        "It keeps the Secret. It deletes a Secret only if it has upstream's name or this collection's label, holds only a "
        "certificate and its key, and no other workload, pod or Ingress of its namespace names it.",
        "https://kubernetes.io/docs/concepts/configuration/secret/", webhook.kept_secrets,
    ),
    Hazard(
        "names-elsewhere", "Objects with upstream's names outside the webhook's namespace", _ANY, REPORT,
        "It keeps them. A name counts only in the namespace of the webhook that is called.",
        "v8.1.0:deploy/kubernetes/webhook-example", webhook.names_elsewhere,
    ),
    # CRDs and stored objects.
    Hazard(
        "crd-deleted", "One of the CRDs is being deleted", _ANY, REFUSE,
        "VolumeSnapshots go with their CRD, and with deletionPolicy Delete the snapshots in the storage too. No plan deletes "
        "one of the three VolumeSnapshot CRDs, ever.",
        "https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/",
        stored.being_deleted,
    ),
    Hazard(
        "kubernetes-too-old", "The CRDs' rules are written in CEL", "7.0 to 8.0", REFUSE,
        "Before Kubernetes 1.25 they would bind nobody, and from 8.2 on no webhook is left either.",
        "CHANGELOG-8.0 (#1073, #1076); release notes of v8.6.0", stored.cel_without_kubernetes,
    ),
    Hazard(
        "stored-versions", "The cluster once stored a version that the release does not list", _ANY, REFUSE,
        "The API server refuses the CRDs (status.storedVersions[0]: missing from spec.versions). kubectl apply -k would have "
        "written the others by then.",
        "#718, #1307", stored.stored_versions,
    ),
    Hazard(
        "v1beta1-stored", "status.storedVersions still names v1beta1", "4.2 to 8.7", REPORT,
        "No release to 8.7 minds, except 6.0.0, which is never installed.", "#718, #719", stored.beta_stays_listed,
    ),
    Hazard(
        "v1beta1-unserved", "v1beta1 of snapshots is served no longer", "5.0 to 6.0", REPORT,
        "Old clients get 404. Those that wrote objects at v1beta1 are named.", "vmware-tanzu/velero#7413",
        stored.beta_unserved,
    ),
    Hazard(
        "invalid-objects", "Stored objects break the rules of 8.0, on Kubernetes before 1.30", "7.0 to 8.0", REFUSE,
        "They could not be written any more, not even to take their finalizers off.",
        "client/v8.0.0:config/crd; KEP-4008", stored.invalid_objects,
    ),
    Hazard(
        "invalid-objects-kept", "Stored objects break the rules of 8.0, on Kubernetes 1.30 or newer", "7.0 to 8.0", REPORT,
        "They can still be deleted; each is named.", "KEP-4008", stored.invalid_objects_that_ratchet,
    ),
    Hazard(
        "labelled-invalid", "Labels of invalid objects outlive the controllers that set them", "7.0 to 8.0", REPORT,
        "The objects are named.", "v8.0.0:pkg/utils/util.go", stored.labelled_invalid,
    ),
    Hazard(
        "empty-references", "Empty references in a content are refused by the old webhook, not by the new rules",
        "7.0 to 8.0", REPORT, "It is said.", "client/v8.0.0:config/crd, has(self.name)", stored.empty_references,
    ),
    Hazard(
        "default-classes", "More than one default class for a driver", _ANY, REPORT,
        "Named by driver.", "v8.7.0:pkg/common-controller/snapshot_controller.go", stored.default_classes,
    ),
    Hazard(
        "foreign-crds", "CRDs are not as any release shipped them", _ANY, REPORT,
        "The release's own take their place, after storedVersions was looked at.", "rancher/rke2-charts#729",
        stored.served_kinds_of_others,
    ),
    Hazard(
        "crds-stay", "The CRDs are newer than the release", "any way back", REPORT,
        "They stay. The controller's rights come after the older controller, not before it.", "#629", stored.kinds_stay,
    ),
    # Group snapshots.
    Hazard(
        "alpha-sources", "Contents of 6.3's v1alpha1", "6.3 to 7.0", REFUSE,
        "7.0 changed the schema in place; their source would be dropped at the next write.",
        "client/v6.3.0 and client/v7.0.0:config/crd", stored.alpha_sources,
    ),
    Hazard(
        "alpha-lists", "Lists of members in the status of v1alpha1", "7.0 to 8.2", REPORT,
        "They are dropped with their fields' names; specifications stay.", "client/v7.0.0 to client/v8.2.0:config/crd",
        stored.alpha_lists,
    ),
    Hazard(
        "alpha-dropped-empty", "8.2 drops v1alpha1 of groups; nothing is stored", "8.1 to 8.2", STEP,
        "The three group CRDs are deleted - refused if an object has appeared - and made anew.",
        "#1150, #1307; kubermatic/kubeone#3622", stored.alpha_empty,
    ),
    Hazard(
        "alpha-dropped", "8.2 drops v1alpha1 of groups; objects are stored", "8.1 to 8.2", STEP,
        "A bridge: 8.2's CRDs with v1alpha1 listed and unserved, every object written back at v1beta1, storedVersions "
        "[v1beta1], then the release's own CRDs. Patching storedVersions without the rewrite makes every object of the CRD unreadable.",
        "#1307; rancher/rke2#8576; rook/rook#15234", stored.alpha_objects,
    ),
    Hazard(
        "conversion-needed", "VolumeGroupSnapshotContents are stored or asked for at v1beta1", "8.3 to 8.4", STEP,
        "Certificate, conversion webhook, then spec.conversion with the caBundle in the same write, and only then the CRDs "
        "with v1beta2. Upstream's point at a Service in namespace default that is not there, and an image that never existed.",
        "client/v8.4.0:config/crd; #1358; piraeusdatastore/helm-charts#74", stored.conversion_needed,
    ),
    Hazard(
        "conversion-refused", "The conversion webhook is needed and not wanted", "8.3 to 8.4", REFUSE,
        "Without it the lists of handles are lost at the next write.", "v8.4.0:pkg/webhook/convert.go",
        stored.conversion_forbidden,
    ),
    Hazard(
        "conversion-in-vain", "A conversion webhook is asked for where it cannot convert", "before 8.4, since 8.6", REFUSE,
        "Since 8.6 it would break v1.", "v8.7.0:pkg/webhook/convert.go; piraeusdatastore/helm-charts#98",
        stored.conversion_in_vain,
    ),
    Hazard(
        "conversion-left", "spec.conversion still names a webhook", "8.5 to 8.6", STEP,
        "It is set to None by JSON patch before the new CRDs, and read back: an apply leaves it, with rc 0, or is refused, "
        "depending on who wrote it. Left there it breaks group snapshots, at 8.7 silently.",
        "piraeusdatastore/helm-charts#87, #90, #98; #1469", stored.conversion_left,
    ),
    Hazard(
        "lists-at-v1beta1", "Lists of handles at v1beta1, and no webhook that converts them", "8.3 to 8.6", STEP,
        "A hop at 8.4.0 in between: its webhook converts them, and its controller speaks v1beta2.",
        "client/v8.6.0:config/crd; v8.4.0:pkg/webhook/convert.go", stored.lists_at_v1beta1,
    ),
    Hazard(
        "stored-at-v1beta1", "Objects of groups stored at v1beta1 lose their lists when nobody converts", "8.5 to 8.6", STEP,
        "Every object is written back at v1beta2 while the webhook still answers, then storedVersions [v1beta2], then None.",
        "client/v8.6.0:config/crd", stored.rewritten_at_v1beta2,
    ),
    Hazard(
        "sidecars-at-v1beta1", "csi-snapshotters that speak v1beta1 to CRDs that convert nothing", "8.5 to 8.6", ASK,
        "It stops: what they write would be stored without the lists of handles.", "client/v8.6.0:config/crd",
        stored.sidecars_at_v1beta1,
    ),
    Hazard(
        "sidecars-before-crds", "csi-snapshotter 8.4 or newer with CRDs of before 8.4", "8.3 to 8.4", REPORT,
        "CRDs come before sidecars; those that are ahead are named.", "#1385; rook/rook#17043; rancher/rke2#10467",
        stored.sidecars_before_crds,
    ),
    Hazard(
        "group-crds-first", "The controller works on groups, and their CRDs are not there at its version", "7.0 to 8.7",
        STEP, "CRDs before the controller: to 8.6 it would end after 30 s, again and again.",
        "v8.6.0:cmd/snapshot-controller/main.go", stored.group_crds_first,
    ),
    Hazard(
        "back-to-alpha", "Group snapshots on the way back to a version or a schema that the CRDs no longer have",
        "8.2 to 8.1, 8.0 to 7.0", REFUSE, "CRDs do not go back.", "#629; client/v7.0.0 and client/v8.0.0:config/crd",
        stored.back_to_alpha,
    ),
    Hazard(
        "back-without-lists", "Group snapshots on the way back below 8.4, which has the last conversion webhook", "8.4 to 8.3",
        REFUSE, "The older controller would store them without their lists of handles. Without the webhook, those that are "
        "stored at v1beta1 would lose them at the next write.",
        "client/v8.6.0:config/crd; v8.4.0:pkg/webhook/convert.go", stored.back_without_lists,
    ),
    Hazard(
        "groups-unattended", "No controller works on the stored group snapshots any longer", "7.0 to 6.3, any way back", REPORT,
        "It continues, and counts them. No object is deleted.", "v6.3.4:cmd/snapshot-controller/main.go",
        stored.groups_unattended,
    ),
    # Webhooks.
    Hazard(
        "webhook-rights", "The validation webhook asks the API server for classes", "5.0 to 6.0", STEP,
        "ServiceAccount, ClusterRole and binding before the Deployment: without them it runs and never opens its port.",
        "#705, #706, #939", webhook.rights_before_webhook,
    ),
    Hazard(
        "rules-first", "The new webhook denies kinds that the old rules still send", "7.0 to 8.0", STEP,
        "The rules are narrowed before the new webhook starts. A denial is no failure: failurePolicy Ignore does not help.",
        "#1136; kubermatic/kubeone#3273", webhook.wider_rules,
    ),
    Hazard(
        "webhook-first", "The old webhook denies kinds that the new rules send", "5.0 to 6.0", STEP,
        "The new webhook before the new rules. 6.0's manifests do it the other way round, and every class is denied.",
        "v6.0.1:deploy/kubernetes/webhook-example", webhook.classes_before_binary,
    ),
    Hazard(
        "v1beta1-rules", "Webhooks since 6.0 deny requests at v1beta1", "5.0 to 6.0", STEP,
        "v1beta1 is served no longer when the new webhook starts, and the new rules do not name it.",
        "vmware-tanzu/velero#7413", webhook.beta_rules,
    ),
    Hazard(
        "secret-type", "The Secret's type and keys change, and a type is immutable", "6.1 to 6.2", STEP,
        "A new Secret under another name; the old one is deleted when no pod mounts it any more.",
        "#793, #796", webhook.secret_type,
    ),
    Hazard(
        "webhook-selector", "The webhook's selector changes, and it is immutable; its Service's is not", "6.3 to 7.0", STEP,
        "The old Deployment is deleted without its pods, the new one is made beside them, and the Service is switched when the "
        "new pods answer. kubectl apply -f switches it at once, to nobody.",
        "#844, #1017", webhook.webhook_selector,
    ),
    Hazard(
        "no-drain", "Pods of the old webhook end in the middle of calls, and the API server does not repeat a call", _ANY, STEP,
        "They leave the Service first, the API servers are made to dial anew, and then they go.",
        "v8.1.0:deploy/kubernetes/webhook-example; KEP-3960", webhook.no_drain,
    ),
    Hazard(
        "webhook-port", "Old and new webhook listen on different ports, and a Service leads to one", _ANY, STEP,
        "While both run, the Service leads to the old pods alone; labels and port change in one write. This collection's pods "
        "are not root, and so listen above 1024; upstream's listen on 443.",
        "v8.1.0:deploy/kubernetes/webhook-example/webhook.yaml", webhook.port_changes,
    ),
    Hazard(
        "host-port", "Old and new webhook want the same port of a node", _ANY, REPORT,
        "New pods wait for another node; it is said.",
        "https://kubernetes.io/docs/concepts/configuration/overview/#services", webhook.one_port_of_a_node,
    ),
    Hazard(
        "no-drain-here", "Before Kubernetes 1.30 no pod can wait before it ends", _ANY, REPORT,
        "It is said; a change of release takes the way of no-drain.", "KEP-3960", webhook.no_drain_here,
    ),
    Hazard(
        "groups-path", "The webhook configuration for groups calls a path that answers 404", "6.3 to 8.1", STEP,
        "It is left out, and deleted where it is, unless group snapshots are on; then the webhook is told to serve the path.",
        "v7.0.2:deploy/kubernetes/webhook-example/admission-configuration-template", webhook.groups_path,
    ),
    Hazard(
        "dangling-configuration", "A webhook configuration outlives its webhook", "8.1 to 8.2", STEP,
        "Both configurations are deleted when the CRDs have their own rules, and before anything of the webhook: with Fail "
        "every write of a class would fail.",
        "kubermatic/kubeone#3181; #939", webhook.dangling,
    ),
    Hazard(
        "webhook-left", "A webhook that nobody asks any more", "8.1 to 8.2, 8.5 to 8.6", STEP,
        "Deployment, Service, rights, Secret and request are deleted at the end.", "CHANGELOG-8.2", webhook.webhook_left,
    ),
    Hazard(
        "image-unpublished", "The webhook of a release has no image", "6.2.0", REFUSE, "It stops.", "#803",
        webhook.unpublished,
    ),
    Hazard(
        "policy-reset", "Upstream's template sets failurePolicy back to Ignore", _ANY, STEP,
        "What is live stays. A new configuration begins with Ignore, and gets the wanted policy after the proof.",
        "v8.1.0:deploy/kubernetes/webhook-example/admission-configuration-template", webhook.policy_reset,
    ),
    Hazard(
        "nobody-behind", "A webhook configuration and nobody who answers", _ANY, STEP,
        "Webhook and Service are made again; with Fail every write that the rules name fails until then.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/", webhook.nobody_behind,
    ),
    Hazard(
        "rules-answer-first", "The CRDs' rules refuse before the webhook is asked", "7.0 to 8.0", STEP,
        "The webhook is proven by a second default class, which only it refuses.", "v8.1.0:pkg/validation-webhook",
        webhook.second_default_only,
    ),
    Hazard(
        "volume-mode", "prevent-volume-mode-conversion becomes true", "6.3 to 7.0", REPORT,
        "It is said; controller_arguments can set it to false.", "CHANGELOG-7.0 (#916); vmware-tanzu/velero#8259",
        webhook.mode_of_volumes,
    ),
    # The controller.
    Hazard(
        "rights-first", "New controllers need rights that old ones did not", "4.2 to 5.0, 6.3 to 7.0, 8.1 to 8.2", STEP,
        "Rights before the controller; they contain what older ones need. 8.7 with the rights of 4.2 starts and binds nothing.",
        "#526; rbac-snapshot-controller.yaml at each tag", controller.rights_first,
    ),
    Hazard(
        "controller-selector", "The controller's selector changes, and it is immutable", "6.3 to 7.0", STEP,
        "The old Deployment is deleted without its pods, which lead until the new ones run; then they go.",
        "#844, #1017", controller.selector,
    ),
    Hazard(
        "arguments-unknown", "Arguments that are asked for and that the release does not know", _ANY, REFUSE,
        "A program ends at the first of them (exit 2), again and again.", "v8.2.1 and v8.3.0:cmd/snapshot-controller/main.go",
        controller.unknown_arguments,
    ),
    Hazard(
        "arguments-ended", "Arguments of the running controller that the release does not know", "8.1 to 8.2, 8.2 to 8.3",
        STEP, "They are left out: --enable-volume-group-snapshots became a feature gate, klog's own flags went (#1256).",
        "rook/rook#15219; rancher/rke2#7467; #1256", controller.ended_arguments,
    ),
    Hazard(
        "arguments-dropped", "Arguments of a controller that somebody else installed, and that nobody asks for", _ANY, ASK,
        "It stops, so that none of them is lost unseen.", "https://kubernetes.io/docs/reference/using-api/server-side-apply/",
        controller.dropped_arguments,
    ),
    Hazard(
        "arguments-taken-back", "Arguments that were asked for once and are not any more", _ANY, REPORT,
        "They go, and are named.", "https://kubernetes.io/docs/reference/using-api/server-side-apply/",
        controller.arguments_taken_back,
    ),
    Hazard(
        "sidecar-arguments", "csi-snapshotter with arguments that newer ones do not know", "8.1 to 8.2, 8.2 to 8.3", REPORT,
        "CSI drivers are not touched; each one is named.", "rook/rook#15234; #1256", controller.sidecars_flags,
    ),
    Hazard(
        "groups-by-default", "Group snapshots are on by default", "8.6 to 8.7", STEP,
        "The gate is set in so many words, to what it was before.", "v8.7.0:pkg/features; CHANGELOG-8.7",
        controller.gate_by_default,
    ),
    Hazard(
        "nodes", "Distributed snapshotting needs the right to read nodes", "since 5.0", STEP,
        "The rule that upstream has commented out is part of the rights then.",
        "v8.7.0:deploy/kubernetes/snapshot-controller/rbac-snapshot-controller.yaml", controller.nodes,
    ),
    Hazard(
        "manifest-images", "Upstream's manifests name images of an older release, or such as never existed", _ANY, STEP,
        "Images are always those of the release itself.", "#630, #1291, #1358, #1478", controller.image_of_another,
    ),
    Hazard(
        "slow-start", "The controller lists every snapshot at once", "8.0.0 to 8.1.0", REPORT,
        "A better patch is named.", "#1238", controller.better_patch,
    ),
    Hazard(
        "leaders-gap", "Nobody leads for a moment", _ANY, REPORT,
        "Up to 15 s, the length of the Lease.", "kubernetes-csi/csi-lib-utils:leaderelection", controller.gap_of_leaders,
    ),
)  # fmt: skip
BY_ID = {row.id: row for row in HAZARDS}


@dataclass(frozen=True)
class Found:
    """A hazard that is there, and what was seen of it."""

    hazard: Hazard
    finding: Finding

    def stops(self, accepted: tuple[str, ...]) -> bool:
        handling = self.hazard.handling
        return handling == REFUSE or (handling == ASK and self.hazard.id not in accepted)


def find(now: Situation) -> tuple[Found, ...]:
    """Every hazard of this hop, in the order of the table."""
    return tuple(Found(row, finding) for row in HAZARDS if (finding := row.rule(now)) is not None)
