# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of schemas and stored objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..installed.installers import OURS
from ..installed.state import SIDECAR
from ..plan.upgrade_context import NO_VERSION, RATCHETS_SINCE, Situation
from ..release import crd_sets, release_table
from ..release.crd_sets import SERVED, Crd
from ..release.release_table import BRIDGE, CONVERTS, GROUP, GROUP_CRDS, SNAPSHOT, SNAPSHOT_CRDS
from .finding import Finding, listed


def being_deleted(now: Situation) -> Finding | None:
    found = [crd.name for crd in now.installed.crds.values() if crd.terminating]
    if not found:
        return None
    return Finding(
        listed(f"{name} has a deletionTimestamp" for name in found),
        "Its objects are deleted with it. Find out which user deleted it, and back up the remaining objects "
        "(kubectl get -o yaml). The deletion of a group CRD waits while its conversion webhook does not answer. It continues "
        "when spec.conversion is {strategy: None}.",
    )


def cel_without_kubernetes(now: Situation) -> Finding | None:
    if now.installed.kubernetes >= now.release.kubernetes or now.installed.kubernetes == (0, 0):
        return None
    wanted = ".".join(map(str, now.release.kubernetes))
    return Finding(
        (f"Kubernetes {now.installed.kubernetes_version}, and {now.release} needs {wanted} or newer",),
        "Upgrade Kubernetes first, or upgrade only to 7.0.2.",
    )


def stored_versions(now: Situation) -> Finding | None:
    key = now.release.crds
    blocked = _blocked(now, SNAPSHOT, SNAPSHOT_CRDS, set(crd_sets.row(key, SNAPSHOT).versions))
    if now.release.group_crds:
        listed_there = set(crd_sets.row(now.release.group_crds, GROUP).versions)
        blocked += _blocked(now, GROUP, GROUP_CRDS, listed_there | {"v1alpha1"})
    if not blocked:
        return None
    return Finding(
        listed(blocked),
        "Write the objects back at a version that the release lists. Then remove the other version from status.storedVersions.",
    )


def _blocked(now: Situation, group: str, names: Iterable[str], there: set[str]) -> list[str]:
    if now.keeps(group):
        return []
    crds = [now.installed.crds[name] for name in names if name in now.installed.crds]
    return [
        f"{crd.name} stored {version}, which {now.release} does not list"
        for crd in crds
        for version in crd.stored_versions
        if version not in there
    ]


def beta_stays_listed(now: Situation) -> Finding | None:
    found = _with_stored(now, SNAPSHOT_CRDS, "v1beta1")
    return Finding(
        listed(f"{crd.name} storedVersions {', '.join(crd.stored_versions)}" for crd in found),
        "No action is needed up to 8.7, which still lists v1beta1. A later release without v1beta1 needs the objects written "
        "back at v1, and storedVersions [v1].",
    ) if found else None  # fmt: skip


def _with_stored(now: Situation, names: Iterable[str], version: str) -> list[Crd]:
    crds = (now.installed.crds.get(name) for name in names)
    return [crd for crd in crds if crd and version in crd.stored_versions]


def beta_unserved(now: Situation) -> Finding | None:
    served = [crd.name for crd in _ends_serving(now)]
    if not served:
        return None
    clients = now.installed.objects.old_clients
    return Finding(
        listed(
            [
                *(f"{name} serves v1beta1 now" for name in served),
                *(f"{one} wrote at v1beta1" for one in clients),
            ]
        ),
        "Upgrade clients that use v1beta1 first, such as backup tools and sidecars of CSI drivers. After the upgrade they get 404.",
    )


def _ends_serving(now: Situation) -> list[Crd]:
    if crd_sets.row(now.release.crds, SNAPSHOT).versions.get("v1beta1") == SERVED or now.keeps(SNAPSHOT):
        return []
    crds = (now.installed.crds.get(name) for name in SNAPSHOT_CRDS)
    return [crd for crd in crds if crd and crd.versions.get("v1beta1") == SERVED]


def _faults(now: Situation) -> tuple[str, ...]:
    every = (*now.installed.objects.faults, *now.installed.groups.faults)
    return listed(f"{one.kind} {one.place}: {one.why}" for one in every)


def invalid_objects(now: Situation) -> Finding | None:
    found = _faults(now)
    if not found or now.installed.kubernetes >= RATCHETS_SINCE:
        return None
    return Finding(
        found,
        "Delete or correct these objects first. Before Kubernetes 1.30 the API server would refuse every update of them, even "
        "the removal of their finalizers.",
    )


def invalid_objects_that_ratchet(now: Situation) -> Finding | None:
    found = _faults(now)
    if not found or now.installed.kubernetes < RATCHETS_SINCE:
        return None
    return Finding(
        found,
        "Delete or correct these objects. They can still be read and deleted, but an invalid field can only be changed to a "
        "valid value. A content without the namespace of its snapshot can never be bound.",
    )


def labelled_invalid(now: Situation) -> Finding | None:
    found = now.installed.objects.labelled
    if not found or not now.crosses((8, 0, 0)):
        return None
    return Finding(
        listed(found),
        "Remove these labels, or delete the objects. Controllers since 8.0 neither set nor remove the labels.",
    )


def empty_references(now: Situation) -> Finding | None:
    if not now.has_validation or not now.crosses((8, 0, 0)):
        return None
    return Finding(
        ("the rules of the CRDs accept an empty volumeSnapshotRef.name and .namespace",),
        "No action is needed. The webhook before 8.0 refused such references.",
    )


def default_classes(now: Situation) -> Finding | None:
    found = {driver: names for driver, names in now.installed.default_classes.items() if len(names) > 1}
    if not found:
        return None
    return Finding(
        listed(f"{driver}: {', '.join(names)}" for driver, names in found.items()),
        "Keep one default class for each driver. With two, a snapshot without a class fails with "
        '"2 default snapshot classes were found". From 8.2 on no webhook refuses the second class.',
    )


# Group snapshots.


def alpha_sources(now: Situation) -> Finding | None:
    found = now.installed.groups.alpha_sources
    if not found or now.keeps(GROUP):
        return None
    return Finding(
        listed(f"VolumeGroupSnapshotContent {name} has spec.source.persistentVolumeNames" for name in found),
        "Delete these group snapshots first. Their single VolumeSnapshots are kept. 7.0 changed the schema of v1alpha1 and drops "
        "this field.",
    )


def alpha_lists(now: Situation) -> Finding | None:
    groups = now.installed.groups
    changing = [crd for crd in now.alpha if crd.set and crd.set.key != now.release.group_crds]
    if not (changing and groups.snapshots + groups.contents) or now.keeps(GROUP):
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots and {groups.contents} contents at v1alpha1",),
        "Their spec and the single VolumeSnapshots are kept. The lists of members in their status are dropped, because 7.0, 8.0 "
        "and 8.2 each renamed these fields.",
    )


def alpha_empty(now: Situation) -> Finding | None:
    return _alpha(now) if not now.installed.groups.total else None


def alpha_objects(now: Situation) -> Finding | None:
    return _alpha(now) if now.installed.groups.total else None


def _alpha(now: Situation) -> Finding | None:
    if now.release.version < (8, 2, 0) or now.keeps(GROUP) or not now.alpha:
        return None
    return Finding(listed(f"{crd.name} storedVersions {', '.join(crd.stored_versions)}" for crd in now.alpha))


def conversion_needed(now: Situation) -> Finding | None:
    if not now.wants("conversion"):
        return None
    groups = now.installed.groups
    why = (
        [f"{groups.contents} VolumeGroupSnapshotContents stored at v1beta1 or before"]
        if now.stores_v1beta1
        else []
    )
    why += [f"{one} uses v1beta1: {one.image}" for one in now.old_sidecars]
    why += ["conversion_webhook is true"] if now.options.conversion_webhook else []
    why += ["a conversion webhook is installed and answers"] if now.converts else []
    why += (
        [now.installed.unreadable["group_contents"]] if "group_contents" in now.installed.unreadable else []
    )
    return Finding(listed(why))


def conversion_forbidden(now: Situation) -> Finding | None:
    asked = now.options.conversion_webhook
    if asked is not False or not now.hides_lists or not now.release.has("conversion"):
        return None
    return Finding(
        (f"{max(now.installed.groups.lists, now.installed.groups.hidden)} contents list handles at v1beta1",),
        "Do not set conversion_webhook to false. Without the webhook, the next write drops these lists.",
    )


def conversion_in_vain(now: Situation) -> Finding | None:
    if not now.options.conversion_webhook or now.release.has("conversion"):
        return None
    return Finding(
        (f"conversion_webhook is true, and the release is {now.release}",),
        "Remove conversion_webhook. Only 8.4 and 8.5 have a conversion webhook. Older releases have nothing to convert. From 8.6 "
        "on the webhook would break the version v1, which it does not know.",
    )


def conversion_left(now: Situation) -> Finding | None:
    crd = now.contents
    if crd is None or crd.conversion.strategy != "Webhook" or now.wants("conversion"):
        return None
    service = "/".join(crd.conversion.service) if crd.conversion.service else "a URL"
    return Finding((f"{crd.name}: spec.conversion calls {service}",))


def lists_at_v1beta1(now: Situation) -> Finding | None:
    """Find lists of handles that need a hop with a conversion webhook before 8.6 removes the conversion."""
    hidden = now.hides_lists and not now.converts
    written = bool(now.installed.groups.lists) and now.speaks_v1beta1
    if now.release.group_crds != "8.6" or not (hidden or written):
        return None
    groups, why = now.installed.groups, now.installed.unreadable.get("group_contents")
    seen = f"{max(groups.lists, groups.hidden)} VolumeGroupSnapshotContents list handles at v1beta1"
    return Finding((why or seen,), via=CONVERTS)


def rewritten_at_v1beta2(now: Situation) -> Finding | None:
    if now.release.group_crds != "8.6" or lists_at_v1beta1(now) or now.is_back:
        return None
    found = _with_stored(now, GROUP_CRDS, "v1beta1")
    # The storage migration from v1alpha1 stores them at v1beta1.
    found += [crd for crd in now.alpha if now.installed.groups.total and crd not in found]
    return (
        Finding(listed(f"{crd.name} storedVersions {', '.join(crd.stored_versions)}" for crd in found))
        if found
        else None
    )


def sidecars_at_v1beta1(now: Situation) -> Finding | None:
    if now.release.group_crds != "8.6" or not now.installed.groups.contents or not now.old_sidecars:
        return None
    return Finding(
        listed(f"{one}: {one.image}" for one in now.old_sidecars),
        f"Upgrade to {CONVERTS} first. Then upgrade these sidecars to csi-snapshotter 8.4 or newer, and continue. At 8.6 old "
        "sidecars read the contents without their lists of handles, and write them back without the lists.",
    )


def sidecars_before_crds(now: Situation) -> Finding | None:
    crd = now.contents
    new = [one for one in now.installed.running(SIDECAR) if (one.version or NO_VERSION) >= (8, 4, 0)]
    if crd is None or "v1beta2" in crd.versions or not new:
        return None
    return Finding(
        listed(f"{one}: {one.image}" for one in new),
        "With group snapshots on, these sidecars wait for v1beta2 of the CRDs. Ordinary snapshots stop (#1385) until the CRDs of "
        "8.4 are installed.",
    )


def back_to_alpha(now: Situation) -> Finding | None:
    """Find CRDs that lack the version that the older controller uses, or have another schema of v1alpha1."""
    groups, crd = now.release.groups, now.contents
    if not (now.is_back and groups and now.groups_wanted and crd):
        return None
    if groups.version not in crd.versions:
        seen = f"{now.release} uses {groups.version}, and {crd.name} has {', '.join(crd.versions)}"
        return Finding(
            (seen,),
            f"Go back no further than {BRIDGE}, or set group_snapshots: false. CRDs are never downgraded.",
        )
    if groups.version != "v1alpha1" or crd.set is None or crd.set.key == now.release.group_crds:
        return None
    return Finding(
        (f"{crd.name} has the schema of {crd.set.key}, and {now.release} that of {now.release.group_crds}",),
        f"Go back no further than {crd.set.key}.0, or set group_snapshots: false. The older controller would lose the lists of "
        "members, which have other names in its schema.",
    )


def back_without_lists(now: Situation) -> Finding | None:
    """Find lists of handles that would be lost below 8.4, where no release has a conversion webhook."""
    groups, crd = now.release.groups, now.contents
    if not now.is_back or now.release.version >= release_table.get(CONVERTS).version or crd is None:
        return None
    contents = now.installed.groups.contents or "group_contents" in now.installed.unreadable
    if crd.storage in ("v1alpha1", "v1beta1") or not contents:
        return None
    speaks = groups is not None and groups.version == "v1beta1" and now.groups_wanted
    hides = crd.conversion.strategy == "Webhook" and "v1beta1" in crd.stored_versions
    if not speaks and not hides:
        return None
    why = f"at {now.release} no webhook converts {crd.name}"
    if hides and not speaks:
        return Finding(
            (f"{now.installed.groups.contents} VolumeGroupSnapshotContents; {why}",),
            "Upgrade to 8.6.0 first, which stores every content at v1beta2. Then go back.",
        )
    return Finding(
        (f"{now.installed.groups.contents} VolumeGroupSnapshotContents; {why}",),
        f"Go back no further than {CONVERTS}: an older controller writes them back without their lists of handles.",
    )


def groups_unattended(now: Situation) -> Finding | None:
    """Find group snapshots that no controller processes afterwards."""
    groups = now.installed.groups
    if not now.groups_on or now.groups_wanted or not groups.total:
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots, {groups.contents} contents, {groups.classes} classes",),
        "These objects and their single VolumeSnapshots do not change. New group snapshots wait, and deleted ones keep their "
        "finalizers, until a controller processes group snapshots again.",
    )


def kinds_stay(now: Situation) -> Finding | None:
    newer = [
        group for group in (SNAPSHOT, GROUP) if now.present(group) and now.keeps(group) and _has(now, group)
    ]
    if not newer:
        return None
    return Finding(
        listed(f"the CRDs of {group} are newer than {now.release}'s" for group in newer),
        "The upgrade keeps these CRDs, because older controllers work with them. A downgrade of the CRDs would be refused, or "
        "would lose fields that only the newer CRDs have.",
    )


def _has(now: Situation, group: str) -> bool:
    return bool(now.release.crds if group == SNAPSHOT else now.release.group_crds)


def group_crds_first(now: Situation) -> Finding | None:
    """Find group CRDs that do not exist or lack the controller's version, while group snapshots are on."""
    groups = now.release.groups
    if groups is None or not now.groups_wanted or now.is_back:
        return None
    crd = now.contents
    if crd is not None and groups.version in crd.versions:
        return None
    seen = ", ".join(crd.versions) if crd else "none"
    return Finding((f"{now.release} needs {groups.version} of the group CRDs, and the cluster has {seen}",))


def served_kinds_of_others(now: Situation) -> Finding | None:
    """Find CRDs that differ from every release, such as one that still serves an old version for old clients."""
    foreign = [
        crd.name
        for name, crd in now.installed.crds.items()
        if crd.set is None and name in SNAPSHOT_CRDS and now.installed.crd_origins.get(name, OURS).key
    ]
    if not foreign:
        return None
    return Finding(
        listed(f"{name} differs from that of every release" for name in foreign),
        "Check the differences, such as an old version that is still served for old clients. The release's CRD replaces it.",
    )
