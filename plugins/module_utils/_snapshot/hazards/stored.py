# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of schemas and stored objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..context.hop_context import RATCHETS_SINCE, Undo
from ..context.state_after import state_after
from ..context.upgrade_context import UpgradeContext
from ..installed.installers import OURS
from ..release import crd_sets, release_table
from ..release.crd_sets import SERVED, Crd
from ..release.release_table import (
    BRIDGE,
    CONVERTS,
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    OLD_LISTS,
    SNAPSHOT,
    SNAPSHOT_CRDS,
    is_at_least,
)
from .finding import Finding, finding_of, listed


def find_crd_deleted(context: UpgradeContext) -> Finding | None:
    found = [crd.name for crd in context.installed.crds.values() if crd.terminating]
    return finding_of(
        (f"{name} has a deletionTimestamp" for name in found),
        "Its objects are deleted with it. Find out which user deleted it, and back up the remaining objects "
        "(kubectl get -o yaml). The deletion of a group CRD waits while its conversion webhook does not answer. It continues "
        "when spec.conversion is {strategy: None}.",
    )


def find_kubernetes_too_old(context: UpgradeContext) -> Finding | None:
    kubernetes = context.installed.kubernetes
    if kubernetes == (0, 0) or is_at_least(kubernetes, context.release.kubernetes):
        return None
    wanted = ".".join(map(str, context.release.kubernetes))
    return Finding(
        (
            f"Kubernetes {context.installed.kubernetes_version}, and {context.release} needs {wanted} or newer",
        ),
        "Upgrade Kubernetes first, or upgrade only to 7.0.2.",
    )


def find_stored_versions(context: UpgradeContext) -> Finding | None:
    key = context.release.crds
    blocked = _blocked(context, SNAPSHOT, SNAPSHOT_CRDS, set(crd_sets.row(key, SNAPSHOT).versions))
    if context.release.group_crds:
        listed_there = set(crd_sets.row(context.release.group_crds, GROUP).versions)
        # The bridge migrates v1alpha1 to v1beta1. With a newer storage version that would drop the lists of handles.
        blocked += _blocked(
            context,
            GROUP,
            GROUP_CRDS,
            listed_there
            if context.installed.groups.total
            and any(crd.storage not in OLD_LISTS for crd in context.groups.alpha)
            else listed_there | {"v1alpha1"},
        )
    return finding_of(
        blocked,
        "Write the objects back at a version that the release lists. Then remove the other version from status.storedVersions.",
    )


def _blocked(
    context: UpgradeContext, group: str, names: Iterable[str], listed_versions: set[str]
) -> list[str]:
    if context.keeps(group):
        return []
    crds = [context.installed.crds[name] for name in names if name in context.installed.crds]
    return [
        f"{crd.name} stored {version}, which {context.release} does not list"
        for crd in crds
        for version in crd.stored_versions
        if version not in listed_versions
    ]


def find_v1beta1_unserved(context: UpgradeContext) -> Finding | None:
    served = [crd.name for crd in _ends_serving(context)]
    if not served:
        return None
    clients = context.installed.objects.old_clients
    serving = [f"{name} serves v1beta1 now" for name in served]
    return finding_of(
        [*serving, *(f"{client} wrote at v1beta1" for client in clients)],
        "Upgrade clients that use v1beta1 first, such as backup tools and sidecars of CSI drivers. After the upgrade they get 404.",
    )


def _ends_serving(context: UpgradeContext) -> list[Crd]:
    if crd_sets.row(context.release.crds, SNAPSHOT).versions.get("v1beta1") == SERVED or context.keeps(
        SNAPSHOT
    ):
        return []
    crds = (context.installed.crds.get(name) for name in SNAPSHOT_CRDS)
    return [crd for crd in crds if crd and crd.versions.get("v1beta1") == SERVED]


def _faults(context: UpgradeContext) -> tuple[str, ...]:
    every = (*context.installed.objects.faults, *context.installed.groups.faults)
    return listed(f"{fault.kind} {fault.place}: {fault.why}" for fault in every)


def find_invalid_objects(context: UpgradeContext) -> Finding | None:
    found = _faults(context)
    if not found or is_at_least(context.installed.kubernetes, RATCHETS_SINCE):
        return None
    return Finding(
        found,
        "Delete or correct these objects first. Before Kubernetes 1.30 the API server would refuse every update of them, even "
        "the removal of their finalizers.",
    )


def find_invalid_objects_kept(context: UpgradeContext) -> Finding | None:
    found = _faults(context)
    if not found or not is_at_least(context.installed.kubernetes, RATCHETS_SINCE):
        return None
    return Finding(
        found,
        "Delete or correct these objects. They can still be read and deleted, but an invalid field can only be changed to a "
        "valid value. A content without the namespace of its snapshot can never be bound.",
    )


def find_default_classes(context: UpgradeContext) -> Finding | None:
    found = {driver: names for driver, names in context.installed.default_classes.items() if len(names) > 1}
    return finding_of(
        (f"{driver}: {', '.join(names)}" for driver, names in found.items()),
        "Keep one default class for each driver. With two, a snapshot without a class fails with "
        '"2 default snapshot classes were found". From 8.2 on no webhook refuses the second class.',
    )


# Group snapshots.


def find_alpha_sources(context: UpgradeContext) -> Finding | None:
    found = context.installed.groups.alpha_sources
    if not found or context.keeps(GROUP):
        return None
    return finding_of(
        (f"VolumeGroupSnapshotContent {name} has spec.source.persistentVolumeNames" for name in found),
        "Delete these group snapshots first. Their single VolumeSnapshots are kept. 7.0 changed the schema of v1alpha1 and drops "
        "this field.",
    )


def find_alpha_lists(context: UpgradeContext) -> Finding | None:
    groups = context.installed.groups
    changing = [crd for crd in context.groups.alpha if crd.set and crd.set.key != context.release.group_crds]
    if not (changing and groups.snapshots + groups.contents) or context.keeps(GROUP):
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots and {groups.contents} contents at v1alpha1",),
        "Their spec and the single VolumeSnapshots are kept. The lists of members in their status are dropped, because 7.0, 8.0 "
        "and 8.2 each renamed these fields.",
    )


def find_alpha_dropped_empty(context: UpgradeContext) -> Finding | None:
    return _alpha(context) if not context.installed.groups.total else None


def find_alpha_dropped(context: UpgradeContext) -> Finding | None:
    return _alpha(context) if context.installed.groups.total else None


def _alpha(context: UpgradeContext) -> Finding | None:
    if context.keeps(GROUP) or not context.groups.alpha:
        return None
    if "v1alpha1" in crd_sets.row(context.release.group_crds, GROUP).versions:
        return None
    return finding_of(
        f"{crd.name} storedVersions {', '.join(crd.stored_versions)}" for crd in context.groups.alpha
    )


def find_conversion_refused(context: UpgradeContext) -> Finding | None:
    groups = context.groups
    needed = (
        groups.has_hidden_handle_lists
        or (context.installed.groups.contents and groups.old_sidecars)
        or (
            context.installed.groups.lists
            and groups.stores_v1beta1
            and groups.contents
            and groups.contents.conversion.strategy == "Webhook"
        )
    )
    if context.options.conversion_webhook is not False or not context.release.has("conversion") or not needed:
        return None
    return Finding(
        (
            f"{max(context.installed.groups.lists, context.installed.groups.hidden)} contents have lists of handles, and v1beta1 is stored or used",
        ),
        "Do not set conversion_webhook to false. Without the webhook, the next write drops these lists.",
    )


def find_conversion_in_vain(context: UpgradeContext) -> Finding | None:
    if not context.options.conversion_webhook or context.release.has("conversion"):
        return None
    return Finding(
        (f"conversion_webhook is true, and the release is {context.release}",),
        "Remove conversion_webhook. Only 8.4 and 8.5 have a conversion webhook. Older releases have nothing to convert. From 8.6 "
        "on the webhook would break the version v1, which it does not know.",
    )


def find_conversion_left(context: UpgradeContext) -> Finding | None:
    crd = context.groups.contents
    if crd is None or crd.conversion.strategy != "Webhook" or context.webhooks.wants("conversion"):
        return None
    service = "/".join(crd.conversion.service) if crd.conversion.service else "a URL"
    return Finding((f"{crd.name}: spec.conversion calls {service}",))


def find_lists_at_v1beta1(context: UpgradeContext) -> Finding | None:
    """Find lists of handles that need a hop with a conversion webhook before a release without a conversion."""
    hidden = context.groups.has_hidden_handle_lists and not context.groups.conversion_works
    written = bool(context.installed.groups.lists) and context.groups.controller_uses_v1beta1
    if not context.groups.ends_conversion or context.options.undo or not (hidden or written):
        return None
    groups, why = context.installed.groups, context.installed.unreadable.get("group_contents")
    evidence = f"{max(groups.lists, groups.hidden)} VolumeGroupSnapshotContents list handles at v1beta1"
    return Finding((why or evidence,), via=CONVERTS)


def find_stored_at_v1beta1(context: UpgradeContext) -> Finding | None:
    if not context.groups.ends_conversion or find_lists_at_v1beta1(context) or context.is_downgrade:
        return None
    crds = context.installed.crds
    found = [crds[name] for name in GROUP_CRDS if name in crds and "v1beta1" in crds[name].stored_versions]
    # The storage migration from v1alpha1 stores them at v1beta1.
    found += [crd for crd in context.groups.alpha if context.installed.groups.total and crd not in found]
    return finding_of(f"{crd.name} storedVersions {', '.join(crd.stored_versions)}" for crd in found)


def find_sidecars_at_v1beta1(context: UpgradeContext) -> Finding | None:
    if (
        not context.groups.ends_conversion
        or not context.installed.groups.contents
        or not context.groups.old_sidecars
    ):
        return None
    return finding_of(
        (f"{workload}: {workload.image}" for workload in context.groups.old_sidecars),
        f"Upgrade to {CONVERTS} first. Then upgrade these sidecars to csi-snapshotter 8.4 or newer, and continue. At 8.6 old "
        "sidecars read the contents without their lists of handles, and write them back without the lists.",
    )


def find_back_to_alpha(context: UpgradeContext) -> Finding | None:
    """Find CRDs that lack the version that the older controller uses, or have another schema of v1alpha1."""
    groups, crd = context.release.groups, context.groups.contents
    if not (context.is_downgrade and groups and context.groups.wanted and (crd or context.options.undo)):
        return None
    if crd is None or groups.version not in crd.versions:
        evidence = f"{context.release} uses {groups.version}, and {GROUP_CONTENTS} has {', '.join(crd.versions if crd else ()) or 'no version'}"
        return Finding(
            (evidence,),
            f"Go back no further than {BRIDGE}, or set group_snapshots: false. CRDs are never downgraded.",
        )
    if groups.version != "v1alpha1" or crd.set is None or crd.set.key == context.release.group_crds:
        return None
    return Finding(
        (
            f"{crd.name} has the schema of {crd.set.key}, and {context.release} that of {context.release.group_crds}",
        ),
        f"Go back no further than {crd.set.key}.0, or set group_snapshots: false. The older controller would lose the lists of "
        "members, which have other names in its schema.",
    )


def find_back_without_lists(context: UpgradeContext) -> Finding | None:
    """Find lists of handles that would be lost below 8.4, where no release has a conversion webhook."""
    groups, crd = context.release.groups, context.groups.contents
    if (
        not context.is_downgrade
        or is_at_least(context.release.version, release_table.get(CONVERTS).version)
        or crd is None
    ):
        return None
    contents = context.installed.groups.contents or "group_contents" in context.installed.unreadable
    if crd.storage in OLD_LISTS or not contents:
        return None
    speaks = groups is not None and groups.version == "v1beta1" and context.groups.wanted
    hides = crd.conversion.strategy == "Webhook" and "v1beta1" in crd.stored_versions
    if not speaks and not hides:
        return None
    count = f"{context.installed.groups.contents} VolumeGroupSnapshotContents"
    remedy = "Upgrade to 8.6.0 first, which stores every content at v1beta2. Then go back."
    if speaks:
        remedy = f"Go back no further than {CONVERTS}: an older controller writes them back without their lists of handles."
    return Finding((f"{count}; at {context.release} no webhook converts {crd.name}",), remedy)


def find_no_undo(context: UpgradeContext) -> Finding | None:
    """Find group snapshots that would prevent the undo of this hop."""
    current = context.current
    if current is None or context.is_downgrade or current == context.release:
        return None
    undo = Undo(context.installed, frozenset(), frozenset(), frozenset())
    options = replace(context.options, group_snapshots=context.groups.is_on, undo=undo)
    later = UpgradeContext(state_after(context), current, options)
    found = find_back_to_alpha(later) or find_back_without_lists(later)
    return found and Finding(
        found.evidence,
        "If such a step fails, correct the cause, and run the upgrade again. It continues.",
    )


def find_groups_unattended(context: UpgradeContext) -> Finding | None:
    """Find group snapshots that no controller processes afterwards."""
    groups = context.installed.groups
    if not context.groups.is_on or context.groups.wanted or not groups.total:
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots, {groups.contents} contents, {groups.classes} classes",),
        "These objects and their single VolumeSnapshots do not change. New group snapshots wait, and deleted ones keep their "
        "finalizers, until a controller processes group snapshots again.",
    )


def find_crds_stay(context: UpgradeContext) -> Finding | None:
    newer = [
        group
        for group in (SNAPSHOT, GROUP)
        if context.present(group)
        and context.keeps(group)
        and (group == SNAPSHOT or context.release.group_crds)
    ]
    return finding_of(
        (f"the CRDs of {group} are newer than {context.release}'s" for group in newer),
        "The upgrade keeps these CRDs, because older controllers work with them. A downgrade of the CRDs would be refused, or "
        "would lose fields that only the newer CRDs have.",
    )


def find_foreign_crds(context: UpgradeContext) -> Finding | None:
    """Find CRDs that differ from every release, such as one that still serves an old version for old clients."""
    foreign = [
        crd.name
        for name, crd in context.installed.crds.items()
        if crd.set is None and name in SNAPSHOT_CRDS and context.installed.crd_origins.get(name, OURS).key
    ]
    return finding_of(
        (f"{name} differs from that of every release" for name in foreign),
        "Check the differences, such as an old version that is still served for old clients. The release's CRD replaces it.",
    )
