# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Apply manifests by server-side apply. Try each of them by a dry run before the first is written.

All of them have one field manager. The fields of other managers are moved to it first (see field_ownership).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._base.accept import EVERYTHING, NOTHING, Consent
from ..._kube import access_review
from ..._kube.access_review import Permission
from ..._kube.errors import Conflict, Forbidden, NotFound, UnprocessableObject
from ..._kube.json_patch import retry_on_conflict
from ..._snapshot.errors import RefusedObjectError, StepError
from ..._snapshot.kinds import KINDS, REGISTRY, Reference, reference
from ..._snapshot.release.pod_templates import ReleaseSettings
from ..._snapshot.release.release_source import ReleaseSource
from . import field_ownership
from .object_changes import FieldChange, changes
from .ownership import refuse_others

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
# The number of attempts if another client changes the object at the same time.
ATTEMPTS = 5
# See https://github.com/kubernetes/apiserver pkg/endpoints/handlers/responsewriters/errors.go, and of kubernetes
# pkg/registry/rbac/validation/rule.go.
_ESCALATION = "is attempting to grant RBAC permissions"
# Parts of the refusals by RBAC and by its escalation check.
_LACKS_PERMISSION = re.compile(rf" cannot \w+ resource |{_ESCALATION}")


@dataclass(frozen=True)
class ActionContext:
    """The settings of every action.

    client: the connection to the cluster.
    source: the place of the release's manifests.
    settings: the content of the Deployments.
    namespace: the namespace of a step that does not name one.
    consent: the managers whose objects are written too.
    check_mode: True to try by dry runs only.
    pending: in check mode, True if earlier steps would have changed the cluster, so that not every step can be tried.
    originals: the objects before the hop, for an undo.
    """

    client: Client
    source: ReleaseSource = field(default_factory=ReleaseSource)
    settings: ReleaseSettings = field(default_factory=ReleaseSettings)
    namespace: str = ""
    consent: Consent = NOTHING
    check_mode: bool = False
    pending: bool = False
    originals: Mapping[Reference, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectOutcome:
    """The result for one object, real or in check mode.

    reference: the object.
    change: "created", "changed", "deleted" or "unchanged".
    changes: the fields that changed.
    note: the reason why the API server could not try a change in check mode, or why an object is not deleted.
    deleted: the object in the version that was deleted, with secret values. None in check mode.
    """

    reference: Reference
    change: str
    changes: tuple[FieldChange, ...] = ()
    note: str = ""
    deleted: Object | None = field(default=None, repr=False, compare=False)

    @property
    def is_changed(self) -> bool:
        return self.change != "unchanged"


@dataclass(frozen=True)
class Preview:
    """A manifest, and the object that the API server would store.

    manifest: the manifest.
    live: the current object, None if it does not exist.
    foreseen: the object after the write.
    is_due: True if a write is needed.
    managers: the field managers whose fields are moved.
    note: see ObjectOutcome.
    """

    manifest: Object
    live: Object | None
    foreseen: Object
    is_due: bool
    managers: frozenset[str]
    note: str = ""

    @property
    def outcome(self) -> ObjectOutcome:
        """Return the outcome of the write."""
        if self.live is None:
            kind = "created"
        else:
            kind = "changed" if self.is_due else "unchanged"
        return ObjectOutcome(reference(self.manifest), kind, self.changes_to(self.foreseen), self.note)

    def changes_to(self, after: Object) -> tuple[FieldChange, ...]:
        """Return the fields whose meaning changes, and the change of the fields' owner."""
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
    client: Client,
    manifests: Sequence[Object],
    *,
    consent: Consent = NOTHING,
    registry: str = REGISTRY,
    lenient: bool = False,
) -> list[Preview]:
    """Read each object and try each manifest. Write nothing.

    Args:
        consent: the managers whose objects are written too.
        registry: images of it count as upstream's.
        lenient: earlier steps were only tried, so the API server may refuse a manifest that it accepts later. Return a preview
            with the refusal as its note. A missing permission is an error all the same.

    Raises:
        OwnedObjectError: another manager owns an object, and the consent does not cover it.
        RefusedObjectError: the API server refuses an object.
        StepError: a manifest has a kind that is not applied.
        KubeError: the API server does not answer.
    """
    for manifest in manifests:
        if not (manifest.get("kind") in KINDS and KINDS[manifest["kind"]].applied):
            raise StepError(
                f"a manifest of kind {manifest.get('kind')} is not among those that can be applied"
            )
    new_namespaces = {
        manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Namespace"
    }
    previews: list[Preview] = []
    for manifest in manifests:
        try:
            previews.append(_preview(client, manifest, new_namespaces, consent, registry))
        except NotFound:
            # RBAC reads the role of a binding, to compare its permissions with those of this identity.
            if not _has_new_role(manifest, previews):
                raise
            place = reference(manifest)
            kind = KINDS[place.kind]
            needed = Permission("create", kind.group, kind.plural, place.namespace, name=place.name)
            access_review.require(client, [needed], f"create {place}")
            previews.append(_preview_untried(client, manifest, consent, ""))
        except RefusedObjectError as exc:
            # No earlier step changes the permissions of this identity.
            if not lenient or _LACKS_PERMISSION.search(exc.cause):
                raise
            previews.append(_preview_untried(client, manifest, consent, exc.cause))
    return previews


def _has_new_role(manifest: Object, previews: Sequence[Preview]) -> bool:
    """Return True if the manifest is a binding of a role that does not exist yet. The dry run of that role compared its permissions."""
    role = manifest.get("roleRef") or {}
    new = [reference(preview.manifest) for preview in previews if preview.live is None]
    return any((place.kind, place.name) == (role.get("kind"), role.get("name")) for place in new)


def write(client: Client, preview: Preview, *, registry: str = REGISTRY) -> ObjectOutcome:
    """Apply the manifest if that is due, and return the outcome. Raises the errors of ``preview``."""
    if not preview.is_due:
        return preview.outcome
    with _naming_the_object(preview.manifest):
        answer = _move_and_apply(client, preview, registry)
    return replace(preview.outcome, changes=preview.changes_to(answer))


def _preview(
    client: Client, manifest: Object, new_namespaces: Collection[str], consent: Consent, registry: str
) -> Preview:
    place = reference(manifest)
    read = partial(client.find, place.path)
    managers = field_ownership.managers_to_move(consent, place)

    def attempt(live: Object | None) -> Preview:
        if live is not None:
            refuse_others(client, place, live, consent=consent, registry=registry)
        if live is None and place.namespace in new_namespaces:
            return Preview(manifest, None, manifest, True, managers)  # no dry run without its namespace
        with _naming_the_object(manifest):
            if live is not None and place.kind in ("ClusterRole", "Role"):
                _try_to_restore(client, place, live)
            return _try_manifest(client, manifest, live, managers)

    return retry_on_conflict(read(), attempt, read, attempts=ATTEMPTS, exhausted=contended_error(place))


def _try_to_restore(client: Client, place: Reference, role: Object) -> None:
    """Raise RefusedObjectError if RBAC would not let this identity write the role back.

    RBAC compares the permissions of a role with those of the identity only if the write changes something.
    """
    annotations = {**(role["metadata"].get("annotations") or {}), "certflow.kubernetes/dry-run": "true"}
    changed = {**role, "metadata": {**role["metadata"], "annotations": annotations}}
    try:
        client.replace(place.path, changed, dry_run=True)
    except Forbidden as exc:
        if _ESCALATION not in exc.message:
            raise
        raise RefusedObjectError(
            f"{place} permits more than this identity may do, so it could not be written back: {exc.message}",
            remedy="Remove the other permissions from the role, or run the task as an identity that holds them",
        ) from exc


def _try_manifest(client: Client, manifest: Object, live: Object | None, managers: frozenset[str]) -> Preview:
    """Return the result of dry runs. The second of them sees the object without the fields that the move will remove."""
    path = reference(manifest).path
    answer = client.apply(path, manifest, manager=field_ownership.MANAGER, dry_run=True)
    moving = live is not None and any(field_ownership.patch_to_move(obj, managers) for obj in (live, answer))
    if live is not None and moving:
        pruned = field_ownership.without_moved_fields(answer, live, managers)
        pruned["metadata"].pop("managedFields", None)
        answer = client.replace(path, pruned, dry_run=True)
    return Preview(manifest, live, answer, moving or _differs(live, answer), managers)


def _preview_untried(client: Client, manifest: Object, consent: Consent, note: str) -> Preview:
    """Return the manifest on top of the current object, because the API server could not try it."""
    place = reference(manifest)
    live = client.find(place.path)
    managers = field_ownership.managers_to_move(consent, place)
    return Preview(manifest, live, _overlay(live, manifest), True, managers, note=note)


def _overlay(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        return {**below, **{key: _overlay(below.get(key), value) for key, value in above.items()}}
    return above


def _differs(live: Object | None, answer: Object) -> bool:
    """Return True if an apply would write: it changes the content, or takes fields that our manager did not own."""
    if live is None:
        return True
    before, after = (
        field_ownership.own_fields(obj["metadata"].get("managedFields") or ()) for obj in (live, answer)
    )
    return bool(changes(live, answer)) or before != after


def _move_and_apply(client: Client, preview: Preview, registry: str) -> Object:
    """Move the fields and apply, each over the version that was judged.

    Repeat that if the apply itself recorded another manager (before-first-apply), and after a write of another client.
    """
    place = reference(preview.manifest)
    read = partial(client.find, place.path)

    def write(live: Object | None) -> Object:
        if live is not None:
            # The preview has judged the manager of an object that it found.
            consent = EVERYTHING if preview.live else NOTHING
            refuse_others(client, place, live, consent=consent, registry=registry)
        patch = field_ownership.patch_to_move(live, preview.managers) if live is not None else []
        known = client.patch(place.path, patch) if patch else live
        manifest, manager = _at_version(preview.manifest, known), field_ownership.MANAGER
        # An object that appears after the read leads to Conflict, because it has other managers.
        applied = client.apply(place.path, manifest, manager=manager, takes_fields=known is not None)
        if field_ownership.patch_to_move(applied, preview.managers):
            raise contended_error(place)
        return applied

    return retry_on_conflict(read(), write, read, attempts=ATTEMPTS, exhausted=contended_error(place))


def _at_version(manifest: Object, live: Object | None) -> Object:
    """Return the manifest with UID and version of the object, so that the API server accepts it for that version only."""
    if live is None:
        return manifest
    precondition = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
    return {**manifest, "metadata": {**manifest["metadata"], **precondition}}


def contended_error(place: Reference) -> Conflict:
    """Return the error of a write that met a conflict at every attempt."""
    return Conflict(f"{place} changed at each attempt to write it", remedy="Run the task again", status=409)


@contextmanager
def _naming_the_object(manifest: Object) -> Iterator[None]:
    """Name the object that the API server refuses, because its own message may name only a field."""
    try:
        yield
    except (Forbidden, UnprocessableObject) as exc:
        raise RefusedObjectError(
            f"the API server refuses {reference(manifest)}: {exc.message}",
            evidence=(exc.cause,),
            remedy=exc.remedy,
        ) from exc
