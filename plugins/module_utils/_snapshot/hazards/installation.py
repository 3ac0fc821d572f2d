# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the installed state: unreadable objects, unknown releases, several controllers, other names. Pure."""

from __future__ import annotations

from ..._base.object_managers import KUBESPRAY
from ..._kube.access_review import grant
from ..context.upgrade_context import UpgradeContext
from ..kinds import CONTROLLER, CONTROLLER_NAME, CONVERSION, RELEASE_LABEL, VALIDATION
from ..release.release_table import NEWEST, OLDEST, SNAPSHOT_CRDS, find, is_at_least, text
from .finding import Finding, finding_of

# The objects that the plan depends on. Without the others it is only less complete.
ESSENTIAL = (
    "crds",
    "deployments",
    "statefulsets",
    "replicasets",
    "configurations",
    "services",
    "cluster_roles",
    "cluster_role_bindings",
    "service_accounts",
    "classes",
    "snapshots",
    "contents",
    "group_classes",
    "group_snapshots",
    "group_contents",
    "group_contents_v1beta1",
)


def find_unreadable(context: UpgradeContext) -> Finding | None:
    needed = list(ESSENTIAL)
    if context.webhooks.has_validation or context.installed.all_of(CONVERSION):
        needed.append("mutating_configurations")
    if context.webhooks.wants(VALIDATION):
        needed.append("secrets")
    if context.groups.has_hidden_handle_lists:
        needed.remove("group_contents")  # a failing conversion webhook has its own hazard
    missing = [what for what in needed if what in context.installed.unreadable]
    return finding_of(
        (f"{what}: {context.installed.unreadable[what]}" for what in missing),
        f"{grant('snapshot-controller')}. For a plan only, docs/rbac/plan.yaml is enough.",
    )


def find_hosted(context: UpgradeContext) -> Finding | None:
    """Find CRDs of another manager without a controller."""
    origins = context.installed.crd_origins.values()
    if context.controller or not any(origin.key for origin in origins):
        return None
    return finding_of(
        (f"CustomResourceDefinition {name}" for name in context.installed.crds),
        "If the provider of the control plane runs the controller, upgrade it there. Create a VolumeSnapshot that names a missing "
        "class. Without a controller it has no status.error after a minute. If no controller runs, set accept: [hosted] to "
        "install one.",
    )


def find_kubespray_reverts(context: UpgradeContext) -> Finding | None:
    """Find objects that the next run of kubespray applies again."""
    found = [
        f"{what}: {mark}"
        for what, origin in context.origins
        if KUBESPRAY in (origin.key, origin.earlier)
        for mark in origin.evidence
    ]
    return finding_of(
        found,
        "Set csi_snapshot_controller_enabled: false in kubespray's inventory. With cinder_csi_enabled: true run kubespray with "
        "--skip-tags snapshot-controller,csi-driver, which also leaves out its CSI drivers. snapshot_controller_image_tag is not enough: "
        "kubespray also applies its "
        "own arguments, ClusterRole and CustomResourceDefinitions.",
    )


def find_older_than_4_2(context: UpgradeContext) -> Finding | None:
    version, old = context.version, []
    if version and not is_at_least(version, OLDEST.version):
        old.append(f"{context.controller} runs {text(version)}")
    for name in SNAPSHOT_CRDS:
        crd = context.installed.crds.get(name)
        if crd and (crd.storage == "v1beta1" or "v1alpha1" in crd.stored_versions):
            stored = ", ".join(crd.stored_versions)
            old.append(f"{name} stores {crd.storage or 'nothing'}, storedVersions {stored}")
    return finding_of(
        old,
        "Upgrade to 4.2.1 manually, in this order. Install external-snapshotter 3.0.3, whose controller labels invalid objects "
        "(snapshot.storage.kubernetes.io/invalid-snapshot-resource). Delete the labelled objects. Delete StatefulSet "
        "default/snapshot-controller. Apply the CustomResourceDefinitions of 4.2.1 (kubectl apply -k), then its RBAC objects and "
        "its controller. Delete objects of version v1alpha1 of 2019, because no controller starts while they exist (#646).",
    )


def find_newer_than_known(context: UpgradeContext) -> Finding | None:
    version = context.version
    if version is None or find(version) or not is_at_least(version, OLDEST.version):
        return None
    return Finding(
        (f"{context.controller} runs {text(version)}, and this collection knows {OLDEST} to {NEWEST}",),
        "Upgrade this collection to a version that knows the release.",
    )


def find_version_unknown(context: UpgradeContext) -> Finding | None:
    if context.controller is None or context.version is not None:
        return None
    known = f"{context.controller}: image {context.controller.image} has no tag of a release"
    return Finding(
        (f"{known}, and its pods have no label {RELEASE_LABEL} with one",),
        "Set installed_version to the release of the controller. The first line of its log shows it.",
    )


def find_two_controllers(context: UpgradeContext) -> Finding | None:
    staying = [
        workload for workload in context.others if workload not in context.removed and not workload.companions
    ]
    if not staying:
        return None
    return finding_of(
        (
            f"{workload}: {workload.image}"
            for workload in (context.controller, *staying)
            if workload
        ),
        "Add the controllers to delete to remove_controllers, as namespace/name.",
    )  # fmt: skip


def find_other_containers(context: UpgradeContext) -> Finding | None:
    """Find workloads that run other containers too, which a deletion would stop."""
    found = [
        (workload, program)
        for program in (CONTROLLER, VALIDATION, CONVERSION)
        for workload in context.installed.all_of(program)
        if workload.companions
    ]
    if not found:
        return None
    shared, _program = found[0]
    return finding_of(
        (
            f"{workload}: {workload.image} beside {', '.join(workload.companions)}"
            for workload, _program in found
        ),
        f"Remove the container of {shared.image.rpartition('/')[2].partition(':')[0]} from {shared}, and keep the other containers. "
        "Such a workload is never deleted, even if remove_controllers names it.",
    )


def find_controllers_removed(context: UpgradeContext) -> Finding | None:
    """Find controllers that an undo does not restore, because two controllers must not lead."""
    removed = [workload for workload in context.removed if workload != context.controller]
    return finding_of(
        (f"{workload}: {workload.image}" for workload in removed),
        "If a later step fails, the undo restores only the controller that led before the hop. Restore the other controller "
        "from the backup if you need it.",
    )


def find_another_name(context: UpgradeContext) -> Finding | None:
    controller = context.controller
    known = {("Deployment", CONTROLLER_NAME)}
    if (
        controller is None
        or controller.companions
        or controller in context.removed
        or controller in context.installed.orphans(CONTROLLER)
        or (controller.kind, controller.name) in known
    ):
        return None
    return Finding(
        (f"{controller}: {controller.image}",),
        f"Add {controller.namespace}/{controller.name} to remove_controllers. It is deleted when Deployment "
        f"{context.namespace}/{CONTROLLER_NAME} runs.",
    )


def find_namespace_moves(context: UpgradeContext) -> Finding | None:
    wanted = context.options.namespace
    if not wanted or wanted == context.namespace:
        return None
    return Finding(
        (f"{context.controller or 'the controller'} is in namespace {context.namespace}, not {wanted}",),
        f"Set namespace: {context.namespace}. The leader's Lease is in the controller's namespace, so controllers in two "
        "namespaces would both lead.",
    )


def find_webhook_moves(context: UpgradeContext) -> Finding | None:
    wanted = context.options.webhook_namespace
    moving = [
        kind for kind in context.webhooks.wanted if wanted and wanted != context.webhooks.namespace(kind)
    ]
    if not moving:
        return None
    place = context.webhooks.namespace(moving[0])
    return Finding((f"the {moving[0]} webhook is in namespace {place}, not {wanted}",), f"Set webhook_namespace: {place}.")  # fmt: skip


def find_webhook_names(context: UpgradeContext) -> Finding | None:
    foreign = [configuration for kind in context.webhooks.wanted for configuration in _foreign(context, kind)]
    if not foreign:
        return None
    hook = context.webhooks.hook(context.webhooks.wanted[0])
    return finding_of(
        foreign,
        f"Delete these objects first, the configurations before the others. Or upgrade to 8.2 or newer, which has no validation "
        f"webhook. Upstream's Deployment is {hook.deployment}, and its Service {hook.service}.",
    )


def _foreign(context: UpgradeContext, kind: str) -> list[str]:
    hook = context.webhooks.hook(kind)
    callers = [row for row, _hook in context.webhooks.callers(kind) if row.groups]
    only = [row for row in callers if all(caller.answered_by == VALIDATION for caller in row.hooks)]
    return [
        *dict.fromkeys(str(row) for row in only),
        *(str(workload) for workload in context.installed.running(kind) if workload.name != hook.deployment),
        *(f"Service {place}/{name}" for place, name in context.webhooks.called(kind) if name != hook.service),
    ]
