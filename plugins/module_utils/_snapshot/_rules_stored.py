# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of schemas and stored objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from . import _crds, _releases
from ._crds import SERVED, Crd
from ._finding import Finding, listed
from ._installed import SIDECAR
from ._owners import OURS
from ._releases import BRIDGE, CONVERTS, GROUP, GROUP_CRDS, SNAPSHOT, SNAPSHOT_CRDS
from ._situation import NO_VERSION, RATCHETS_SINCE, Situation


def being_deleted(now: Situation) -> Finding | None:
    found = [crd.name for crd in now.installed.crds.values() if crd.terminating]
    if not found:
        return None
    return Finding(
        listed(f"{name} has a deletionTimestamp" for name in found),
        "Its objects go with it. Find out who deleted it, and back up what is left (kubectl get -o yaml). A group's CRD "
        "hangs while its conversion webhook does not answer, and goes on once spec.conversion is {strategy: None}.",
    )


def cel_without_kubernetes(now: Situation) -> Finding | None:
    if now.installed.kubernetes >= now.release.kubernetes or now.installed.kubernetes == (0, 0):
        return None
    wanted = ".".join(map(str, now.release.kubernetes))
    return Finding(
        (f"Kubernetes {now.installed.kubernetes_version}, needed is {wanted}",),
        "Upgrade Kubernetes first, or go to 7.0.2 and no further.",
    )


def stored_versions(now: Situation) -> Finding | None:
    key = now.release.crds
    blocked = _blocked(now, SNAPSHOT, SNAPSHOT_CRDS, set(_crds.row(key, SNAPSHOT).versions))
    if now.release.group_crds:
        listed_there = set(_crds.row(now.release.group_crds, GROUP).versions)
        blocked += _blocked(now, GROUP, GROUP_CRDS, listed_there | {"v1alpha1"})
    if not blocked:
        return None
    return Finding(
        listed(blocked),
        "Rewrite the objects at a version that the release lists, then take the other one out of status.storedVersions.",
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
        "Harmless up to 8.7, which lists v1beta1 still. A release that does not will be refused until the objects are "
        "rewritten at v1 and storedVersions is [v1].",
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
        "Clients that ask for v1beta1 get 404 from then on: upgrade them (backup tools, CSI drivers' sidecars) first.",
    )


def _ends_serving(now: Situation) -> list[Crd]:
    if _crds.row(now.release.crds, SNAPSHOT).versions.get("v1beta1") == SERVED or now.keeps(SNAPSHOT):
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
        "Before Kubernetes 1.30 nothing of them could be written any more, not even their finalizers removed: delete or "
        "repair them first.",
    )


def invalid_objects_that_ratchet(now: Situation) -> Finding | None:
    found = _faults(now)
    if not found or now.installed.kubernetes < RATCHETS_SINCE:
        return None
    return Finding(
        found,
        "They stay readable and deletable; what breaks a rule cannot be changed but to something right, and a content "
        "without its snapshot's namespace can never be bound. Delete or repair them.",
    )


def labelled_invalid(now: Situation) -> Finding | None:
    found = now.installed.objects.labelled
    if not found or not now.crosses((8, 0, 0)):
        return None
    return Finding(
        listed(found),
        "Controllers since 8.0 neither set nor clear these labels: take them off, or delete the objects.",
    )


def empty_references(now: Situation) -> Finding | None:
    if not now.has_validation or not now.crosses((8, 0, 0)):
        return None
    return Finding(
        ("the rules of the CRDs accept volumeSnapshotRef.name and .namespace that are empty texts",),
        "Nothing is to be done; the webhook of before 8.0 refused them, the rules since do not.",
    )


def default_classes(now: Situation) -> Finding | None:
    found = {driver: names for driver, names in now.installed.default_classes.items() if len(names) > 1}
    if not found:
        return None
    return Finding(
        listed(f"{driver}: {', '.join(names)}" for driver, names in found.items()),
        "Leave one default class a driver: a snapshot without a class fails with "
        '"2 default snapshot classes were found", and from 8.2 on no webhook refuses the second one.',
    )


# Group snapshots.


def alpha_sources(now: Situation) -> Finding | None:
    found = now.installed.groups.alpha_sources
    if not found or now.keeps(GROUP):
        return None
    return Finding(
        listed(f"VolumeGroupSnapshotContent {name} has spec.source.persistentVolumeNames" for name in found),
        "7.0 changed v1alpha1 in place and drops that field: delete these group snapshots first; their single "
        "VolumeSnapshots stay.",
    )


def alpha_lists(now: Situation) -> Finding | None:
    groups = now.installed.groups
    changing = [crd for crd in now.alpha if crd.set and crd.set.key != now.release.group_crds]
    if not (changing and groups.snapshots + groups.contents) or now.keeps(GROUP):
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots and {groups.contents} contents at v1alpha1",),
        "Their specification stays; their status's lists of members do not, because each of 7.0, 8.0 and 8.2 renamed them. "
        "The single VolumeSnapshots stay.",
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
    why += [f"{one} speaks v1beta1: {one.image}" for one in now.old_sidecars]
    why += ["it is asked for"] if now.options.conversion_webhook else []
    why += ["a conversion webhook answers"] if now.converts else []
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
        "Leave conversion_webhook out: without it these lists are gone at the next write.",
    )


def conversion_in_vain(now: Situation) -> Finding | None:
    if not now.options.conversion_webhook or now.release.has("conversion"):
        return None
    return Finding(
        (f"conversion_webhook: true, and {now.release}",),
        "Only 8.4 and 8.5 have a conversion webhook: before there is nothing to convert, and since 8.6 it would break the "
        "version v1, which it does not know.",
    )


def conversion_left(now: Situation) -> Finding | None:
    crd = now.contents
    if crd is None or crd.conversion.strategy != "Webhook" or now.wants("conversion"):
        return None
    service = "/".join(crd.conversion.service) if crd.conversion.service else "a URL"
    return Finding((f"{crd.name}: spec.conversion calls {service}",))


def lists_at_v1beta1(now: Situation) -> Finding | None:
    """Going to None: the lists have to be rewritten while somebody can convert them."""
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
    # After the bridge from v1alpha1 they are.
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
        f"Go to {CONVERTS} first, upgrade these to csi-snapshotter 8.4 or newer, then go on. At 8.6 they see the contents "
        "without their lists of handles, and whatever they write is stored so.",
    )


def sidecars_before_crds(now: Situation) -> Finding | None:
    crd = now.contents
    new = [one for one in now.installed.running(SIDECAR) if (one.version or NO_VERSION) >= (8, 4, 0)]
    if crd is None or "v1beta2" in crd.versions or not new:
        return None
    return Finding(
        listed(f"{one}: {one.image}" for one in new),
        "With group snapshots on they wait for v1beta2 of the CRDs, and ordinary snapshots stop (#1385) until 8.4's are "
        "there.",
    )


def back_to_alpha(now: Situation) -> Finding | None:
    """Find CRDs that lack the version that the older controller speaks, or have another schema of v1alpha1."""
    groups, crd = now.release.groups, now.contents
    if not (now.is_back and groups and now.groups_wanted and crd):
        return None
    if groups.version not in crd.versions:
        seen = f"{now.release} speaks {groups.version}; {crd.name} has {', '.join(crd.versions)}"
        return Finding(
            (seen,),
            f"Go back no further than {BRIDGE}, or give group_snapshots: false. CRDs never go back.",
        )
    if groups.version != "v1alpha1" or crd.set is None or crd.set.key == now.release.group_crds:
        return None
    return Finding(
        (f"{crd.name} has the schema of {crd.set.key}, {now.release} that of {now.release.group_crds}",),
        f"Go back no further than {crd.set.key}.0, or give group_snapshots: false. The older controller would lose the lists of "
        "members, which have other names in its schema.",
    )


def back_without_lists(now: Situation) -> Finding | None:
    """Find lists of handles that would be lost below 8.4, where no release has a conversion webhook."""
    groups, crd = now.release.groups, now.contents
    if not now.is_back or now.release.version >= _releases.get(CONVERTS).version or crd is None:
        return None
    contents = now.installed.groups.contents or "group_contents" in now.installed.unreadable
    if crd.storage in ("v1alpha1", "v1beta1") or not contents:
        return None
    speaks = groups is not None and groups.version == "v1beta1" and now.groups_wanted
    hides = crd.conversion.strategy == "Webhook" and "v1beta1" in crd.stored_versions
    if not speaks and not hides:
        return None
    why = f"{crd.name} converts nothing at {now.release}"
    if hides and not speaks:
        return Finding(
            (f"{now.installed.groups.contents} VolumeGroupSnapshotContents; {why}",),
            "Go to 8.6.0 first, which stores every content at v1beta2. Then go back.",
        )
    return Finding(
        (f"{now.installed.groups.contents} VolumeGroupSnapshotContents; {why}",),
        f"Go back no further than {CONVERTS}: an older controller writes them back without their lists of handles.",
    )


def groups_unattended(now: Situation) -> Finding | None:
    """Find group snapshots on which no controller works afterwards."""
    groups = now.installed.groups
    if not now.groups_on or now.groups_wanted or not groups.total:
        return None
    return Finding(
        (f"{groups.snapshots} VolumeGroupSnapshots, {groups.contents} contents, {groups.classes} classes",),
        "They stay as they are, and so do their single VolumeSnapshots. New group snapshots wait, and deleted ones keep their "
        "finalizers, until a release works on them again.",
    )


def kinds_stay(now: Situation) -> Finding | None:
    newer = [
        group for group in (SNAPSHOT, GROUP) if now.present(group) and now.keeps(group) and _has(now, group)
    ]
    if not newer:
        return None
    return Finding(
        listed(f"the CRDs of {group} are newer than {now.release}'s" for group in newer),
        "They stay as they are: older controllers work with them, and going back would be refused, or lose what only the newer "
        "ones know.",
    )


def _has(now: Situation, group: str) -> bool:
    return bool(now.release.crds if group == SNAPSHOT else now.release.group_crds)


def group_crds_first(now: Situation) -> Finding | None:
    """Gate on, CRDs absent or at another version: handled by their order."""
    groups = now.release.groups
    if groups is None or not now.groups_wanted or now.is_back:
        return None
    crd = now.contents
    if crd is not None and groups.version in crd.versions:
        return None
    seen = ", ".join(crd.versions) if crd else "nothing"
    return Finding((f"{now.release} asks for {groups.version} of the group CRDs; there is {seen}",))


def served_kinds_of_others(now: Situation) -> Finding | None:
    """Whoever keeps an old version served for old clients: it goes with the release's own files."""
    foreign = [
        crd.name
        for name, crd in now.installed.crds.items()
        if crd.set is None and name in SNAPSHOT_CRDS and now.installed.crd_origins.get(name, OURS).key
    ]
    if not foreign:
        return None
    return Finding(
        listed(f"{name} is not as any release shipped it" for name in foreign),
        "Look at what was changed (a version kept served for old clients?): the release's own takes its place.",
    )
