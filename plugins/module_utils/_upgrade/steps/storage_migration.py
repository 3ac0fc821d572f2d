# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Migrate the storage version of a CustomResourceDefinition: write every object back, then remove the old version.

If storedVersions omits a version at which an object is still stored, the whole kind becomes unreadable: list, get and delete
fail with `request to convert CR from an invalid group/version`. So storedVersions changes last.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#upgrade-existing-objects-to-a-new-stored-version
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..._kube import json_patch
from ..._kube.errors import ApiError, Conflict, NotFound
from ..._kube.json_patch import retry_on_conflict
from ..._snapshot.actions.object_actions import MigrateStorage
from ..._snapshot.errors import NotYetError, RolloutError
from ..._snapshot.installed.validity import place
from ..._snapshot.kinds import Reference
from . import waits
from .apply_manifests import ATTEMPTS, ActionContext, ObjectOutcome, contended_error
from .object_changes import FieldChange
from .patches import patch_object

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
# The time until every API server knows a new storage version. Objects are written back after it. The watches of API servers
# take a moment, and a highly available cluster reports Established 5 s late.
SETTLE_SECONDS = 10.0
# The number of times that the objects are listed. Each round finds the objects that were created during the one before.
ROUNDS = 5
SHOWN = 10
GONE = 410  # the list took too long, and the API server no longer has its next page


def migrate(context: ActionContext, action: MigrateStorage) -> list[ObjectOutcome]:
    """Make the version the only stored version of the CustomResourceDefinition. Write nothing if it already is.

    Raises:
        RolloutError: an object cannot be written back. storedVersions did not change.
        NotYetError: the CustomResourceDefinition does not exist or does not serve the version.
        KubeError: the API server refuses.
    """
    client, check_mode, version = context.client, context.check_mode, action.version
    target = action.target
    live = client.find(target.path)
    if live is None:
        raise NotYetError(
            f"{target} does not exist", remedy="Find out what deleted it, and run the task again"
        )
    if _stored(live) == [version] and _storage(live) == version:
        return [ObjectOutcome(target, "unchanged")]
    switched = patch_object(context, target, lambda obj: _switch_version(obj, version))
    if not check_mode:
        waits.until_established(client, [action.crd])
        time.sleep(SETTLE_SECONDS)
    collection = f"/apis/{live['spec']['group']}/{version}/{live['spec']['names']['plural']}"
    _rewrite_all(client, action.crd, collection, check_mode=check_mode)
    reduced = _reduced(target, live, version) if check_mode else _set_stored_versions(client, target, version)
    return [outcome for outcome in (switched, reduced) if outcome.is_changed]


def _rewrite_all(client: Client, crd: str, collection: str, *, check_mode: bool) -> None:
    """Write every object back. List again until no new object is found."""
    done: set[str] = set()
    refused: list[str] = []
    for _round in range(ROUNDS):
        before, complete = len(done), True
        try:
            for obj in _list_objects(client, collection):
                if obj["metadata"]["uid"] not in done:
                    done.add(obj["metadata"]["uid"])
                    problem = _rewrite(client, _path_of(collection, obj), obj, check_mode=check_mode)
                    if problem:
                        refused.append(f"{place(obj)}: {problem}")
        except ApiError as exc:
            if exc.status != GONE:
                raise
            complete = False
        if refused:
            raise _migration_error(crd, refused, len(done))
        if complete and (check_mode or len(done) == before):
            return
    raise RolloutError(
        f"objects of {crd} are created faster than they are read",
        remedy="Run the task again when fewer objects are written",
    )


def _list_objects(client: Client, collection: str) -> Iterator[dict[str, Any]]:
    """Yield every object with kind and apiVersion, which lists omit. Read page by page: there may be tens of thousands."""
    for page in client.pages(collection):
        common = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
        for item in page.get("items") or ():
            yield {**common, **item}


def _rewrite(client: Client, path: str, obj: dict[str, Any], *, check_mode: bool) -> str:
    """Write the object back unchanged, which stores it at the storage version. Return the reason of a refusal, else ""."""
    try:
        retry_on_conflict(
            obj,
            lambda known: client.replace(path, known, dry_run=check_mode),
            lambda: client.get(path),
            attempts=ATTEMPTS,
        )
    except NotFound:
        return ""
    except Conflict:
        return "another writer changed it at each attempt"
    except ApiError as exc:
        return exc.message
    return ""


def _set_stored_versions(client: Client, target: Reference, version: str) -> ObjectOutcome:
    """Set status.storedVersions to the storage version only, if the storage version has not changed meanwhile."""

    def read() -> Object:
        return client.get(target.path)

    def write(live: Object) -> ObjectOutcome:
        if _storage(live) != version:
            raise RolloutError(
                f"the storage version of {target.name} was changed while its objects were written back",
                remedy="Run the task again, which plans again",
            )
        if _stored(live) == [version]:
            return ObjectOutcome(target, "unchanged")
        lock = json_patch.at_version(live["metadata"]["resourceVersion"])
        client.patch(f"{target.path}/status", [lock, json_patch.replace("/status/storedVersions", [version])])
        return _reduced(target, live, version)

    return retry_on_conflict(read(), write, read, attempts=ATTEMPTS, exhausted=contended_error(target))


def _reduced(target: Reference, before: Object, version: str) -> ObjectOutcome:
    return ObjectOutcome(
        target, "changed", (FieldChange("status.storedVersions", _stored(before), [version]),)
    )


def _switch_version(crd: Object, version: str) -> list[dict[str, Any]]:
    versions = crd["spec"]["versions"]
    wanted = next((entry for entry in versions if entry["name"] == version), None)
    if wanted is None or not wanted["served"]:
        raise NotYetError(
            f"{crd['metadata']['name']} does not serve {version}",
            remedy="Run the task again, which plans again",
        )
    if wanted["storage"]:
        return []
    return [
        operation
        for index, entry in enumerate(versions)
        if entry["storage"] != (entry["name"] == version)
        for operation in (
            json_patch.test(f"/spec/versions/{index}/name", entry["name"]),
            json_patch.replace(f"/spec/versions/{index}/storage", entry["name"] == version),
        )
    ]


def _migration_error(crd: str, refused: list[str], total: int) -> RolloutError:
    more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return RolloutError(
        f"{len(refused)} of {total} objects of {crd} cannot be written back: {'; '.join(refused[:SHOWN])}{more}",
        evidence=refused,
        remedy="Correct or delete these objects, and run the task again. storedVersions did not change, and all objects can be read",
    )


def _stored(crd: Object) -> list[str]:
    return list((crd.get("status") or {}).get("storedVersions") or ())


def _storage(crd: Object) -> str:
    return next((entry["name"] for entry in crd["spec"]["versions"] if entry["storage"]), "")


def _path_of(collection: str, obj: Object) -> str:
    root, _slash, plural = collection.rpartition("/")
    namespace = obj["metadata"].get("namespace")
    return (
        f"{root}/namespaces/{namespace}/{plural}/{obj['metadata']['name']}"
        if namespace
        else f"{collection}/{obj['metadata']['name']}"
    )
