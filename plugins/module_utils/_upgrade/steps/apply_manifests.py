# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Apply manifests: each is looked at and tried by a dry run before the first is written.

Server-side apply under one field manager, after the fields of other managers were moved to it (see field_ownership).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ... import _managers
from ..._kube.errors import Conflict, Forbidden, Invalid, NotFound
from ..._kube.update_object import retry_on_conflict
from ..._snapshot.errors import OwnedObjectError, RefusedObjectError, StepError
from ..._snapshot.installed.pod_specs import containers, only_program
from ..._snapshot.installed.state import SIDECAR
from ..._snapshot.kinds import KINDS, Reference, reference
from ..._snapshot.plan.object_changes import FieldChange, changes
from . import field_ownership

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
# How often an object is read again because another writer changed it at the same time.
ATTEMPTS = 5
# Of https://github.com/kubernetes/apiserver pkg/endpoints/handlers/responsewriters/errors.go, and of kubernetes
# pkg/registry/rbac/validation/rule.go.
_LACKS_RIGHTS = re.compile(r" cannot \w+ resource |is attempting to grant RBAC permissions")


@dataclass(frozen=True)
class Outcome:
    """The result for one object, real or in check mode.

    change: "created", "changed", "deleted" or "unchanged".
    left: fields that other managers own and keep, as "MANAGER: FIELD".
    note: the reason why the API server could not try a change in check mode, or why an object is not deleted.
    """

    reference: Reference
    change: str
    changes: tuple[FieldChange, ...] = ()
    left: tuple[str, ...] = ()
    note: str = ""

    @property
    def changed(self) -> bool:
        return self.change != "unchanged"


@dataclass(frozen=True)
class Preview:
    """One manifest as the API server would have it. live: None where there is no such object yet.

    due: whether anything has to be written. managers: those whose fields are moved. left, note: see Outcome.
    """

    manifest: Object
    live: Object | None
    foreseen: Object
    due: bool
    managers: frozenset[str]
    left: tuple[str, ...] = ()
    note: str = ""

    @property
    def outcome(self) -> Outcome:
        """What writing it would do."""
        kind = "created" if self.live is None else "changed" if self.due else "unchanged"
        return Outcome(reference(self.manifest), kind, self.changes_to(self.foreseen), self.left, self.note)

    def changes_to(self, after: Object) -> tuple[FieldChange, ...]:
        """What differs in meaning, and that fields have another owner from then on."""
        before = self.live["metadata"].get("managedFields") or () if self.live else ()
        old = sorted(
            {
                str(entry.get("manager"))
                for entry in before
                if field_ownership.is_movable(entry, self.managers)
            }
        )
        owners = [FieldChange("metadata.managedFields", old, [field_ownership.MANAGER])] if old else []
        return (*owners, *changes(self.live, after))


def preview(
    client: Client, manifests: Sequence[Object], *, take_over: bool = False, lenient: bool = False
) -> list[Preview]:
    """Read each object and try each manifest, and write nothing.

    take_over: also where another writer's marks are. lenient: what the API server refuses now, because earlier steps were
    not done but only foreseen, is foreseen too, with its words as the note; a lack of rights is none of that. Raises
    OwnedObjectError, RefusedObjectError, StepError, KubeError.
    """
    for manifest in manifests:
        if not (manifest.get("kind") in KINDS and KINDS[manifest["kind"]].applied):
            raise StepError(
                f"a manifest of kind {manifest.get('kind')} is not among those that can be applied"
            )
    new_namespaces = {
        manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Namespace"
    }
    previews = []
    for manifest in manifests:
        try:
            previews.append(_preview(client, manifest, new_namespaces, take_over))
        except RefusedObjectError as exc:
            if not lenient or _is_for_lack_of_rights(exc):
                raise
            previews.append(_untried(client, manifest, take_over, exc.cause))
    return previews


def _is_for_lack_of_rights(error: RefusedObjectError) -> bool:
    """Whether RBAC or its escalation check said no: no earlier step changes what this identity may do."""
    return bool(_LACKS_RIGHTS.search(error.cause))


def write(client: Client, one: Preview) -> Outcome:
    """Apply the manifest if that is due, and return what changed. Raises what preview raises."""
    if not one.due:
        return one.outcome
    with _refusals(one.manifest):
        answer = _written(client, one)
    left = field_ownership.left_to_others(answer["metadata"].get("managedFields") or ())
    return replace(one.outcome, changes=one.changes_to(answer), left=left)


def delete(
    client: Client,
    target: Reference,
    *,
    uid: str = "",
    propagation: str = "",
    take_over: bool = False,
    check_mode: bool = False,
    why_kept: Callable[[Object], str] = lambda _live: "",
) -> Outcome:
    """Delete one object: the one of this UID, or the one that is there now. One that is gone is no change.

    The API server deletes it only in the version that was read. After a write of another client, read and judge it again.
    propagation: what happens to the objects that it owns, as in Client.delete.
    why_kept: returns the reason to keep the object, "" if it may be deleted. The reason is the note of the outcome.
    Raises OwnedObjectError, KubeError.
    """

    def read() -> Object | None:
        return client.find(target.path)

    first = read()
    wanted_uid = uid or (first["metadata"]["uid"] if first else "")

    def write(live: Object | None) -> Outcome:
        if live is None or live["metadata"]["uid"] != wanted_uid:
            return Outcome(target, "unchanged")
        if not take_over:
            refuse_owned(target, live)
        reason = why_kept(live)
        if reason:
            return Outcome(target, "unchanged", note=reason)
        version = live["metadata"].get("resourceVersion", "")
        try:
            client.delete(
                target.path,
                uid=wanted_uid,
                resource_version=version,
                propagation=propagation,
                dry_run=check_mode,
            )
        except NotFound:
            return Outcome(target, "unchanged")
        return Outcome(target, "deleted")

    return retry_on_conflict(first, write, read, attempts=ATTEMPTS, exhausted=contended(target))


def _preview(client: Client, manifest: Object, new_namespaces: Collection[str], take_over: bool) -> Preview:
    place = reference(manifest)
    managers = field_ownership.movable(take_over=take_over)

    def read() -> Object | None:
        return client.find(place.path)

    def attempt(live: Object | None) -> Preview:
        if live is not None and not take_over:
            refuse_owned(place, live)
        if live is None and place.namespace in new_namespaces:
            return Preview(manifest, None, manifest, True, managers)  # no dry run without its namespace
        with _refusals(manifest):
            return _tried(client, manifest, live, managers)

    return retry_on_conflict(read(), attempt, read, attempts=ATTEMPTS, exhausted=contended(place))


def _tried(client: Client, manifest: Object, live: Object | None, managers: frozenset[str]) -> Preview:
    """What dry runs say. The second of them sees the object without what the fields' move will take away."""
    path = reference(manifest).path
    answer = client.apply(path, manifest, manager=field_ownership.MANAGER, dry_run=True)
    moving = live is not None and any(field_ownership.migration(obj, managers) for obj in (live, answer))
    if live is not None and moving:
        pruned = field_ownership.without_moved(answer, live, managers)
        pruned["metadata"].pop("managedFields", None)
        answer = client.replace(path, pruned, dry_run=True)
    entries = field_ownership.moved(
        answer["metadata"].get("managedFields") or (), answer["apiVersion"], managers
    )
    due, left = moving or _differs(live, answer), field_ownership.left_to_others(entries)
    return Preview(manifest, live, answer, due, managers, left)


def _untried(client: Client, manifest: Object, take_over: bool, note: str) -> Preview:
    """What can be said without the API server: the manifest, and what else the object has now."""
    live = client.find(reference(manifest).path)
    managers = field_ownership.movable(take_over=take_over)
    return Preview(manifest, live, _overlaid(live, manifest), True, managers, note=note)


def _overlaid(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        merged = {key: _overlaid(below.get(key), value) for key, value in above.items()}
        return {**below, **merged}
    return above


def _differs(live: Object | None, answer: Object) -> bool:
    """Whether an apply would write: another content, or fields that our manager did not own before."""
    if live is None:
        return True
    before, after = (
        field_ownership.own_fields(obj["metadata"].get("managedFields") or ()) for obj in (live, answer)
    )
    return bool(changes(live, answer)) or before != after


def _written(client: Client, one: Preview) -> Object:
    """Move and apply; once more where the apply itself noted a manager of old (before-first-apply)."""
    place, managers, live = reference(one.manifest), one.managers, one.live
    for _attempt in range(ATTEMPTS):
        patch = field_ownership.migration(live, managers) if live is not None else []
        try:
            if patch:
                client.patch(place.path, patch)
            live = client.apply(place.path, one.manifest, manager=field_ownership.MANAGER)
        except Conflict:
            live = client.find(place.path)
            continue
        if not field_ownership.migration(live, managers):
            return live
    raise contended(place)


def contended(place: Reference) -> Conflict:
    """Return the error of a write that met a conflict at every attempt."""
    return Conflict(f"{place} changed at each attempt to write it", remedy="Run the task again", status=409)


def refuse_owned(place: Reference, live: Object) -> None:
    """Raise OwnedObjectError where another writer has left its marks."""
    found = _managers.writers(live["metadata"])
    if found:
        evidence = [mark for one in found for mark in one.evidence]
        raise OwnedObjectError(
            f"{place} belongs to {' and '.join(one.writer.name for one in found)} ({'; '.join(evidence)})",
            evidence=evidence,
            remedy="Upgrade it there, or take it over with take_over: true",
        )


def refuse_mixed(place: Reference, live: Object) -> None:
    """Raise OwnedObjectError for a workload that does not run exactly one program of external-snapshotter."""
    names = [str(one.get("name", "?")) for one in containers(live)]
    if only_program(live) in ("", SIDECAR) or len(names) > 1:
        raise OwnedObjectError(
            f"{place} is not deleted, because that would stop all its containers: {', '.join(names)}",
            code="other-containers",
            remedy="Remove the container of the snapshot controller or of its webhook from it, and plan again",
        )


@contextmanager
def _refusals(manifest: Object) -> Iterator[None]:
    """Name the object that the API server refuses: its own message may be about one field alone."""
    try:
        yield
    except (Forbidden, Invalid) as exc:
        raise RefusedObjectError(
            f"the API server refuses {reference(manifest)}: {exc.message}",
            evidence=(exc.cause,),
            remedy=exc.remedy,
        ) from exc
