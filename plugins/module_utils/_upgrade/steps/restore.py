# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Put an object back as the run read it before a hop, and keep the changes that another client has made since then.

Three states decide field by field: the original, the state in which this run left the object, and the live object. A field that
both this run and another client changed is a conflict, and the object is not written.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ..._base.accept import EVERYTHING
from ..._kube import access_review, json_patch
from ..._kube.access_review import Permission
from ..._kube.json_patch import retry_on_conflict
from ..._snapshot.actions.object_actions import RestoreObjects
from ..._snapshot.errors import StepError
from ..._snapshot.kinds import KINDS, Reference
from ..._webhook.bundles import bundle_content
from .apply_manifests import ATTEMPTS, ActionContext, ObjectOutcome, contended_error
from .field_ownership import MANAGER
from .object_changes import NOISE, changes
from .ownership import refuse_others
from .patches import patch_object

if TYPE_CHECKING:
    from ..._kube.client import Client

Object = Mapping[str, Any]
# The annotation in which the Deployment controller counts.
REVISION = "deployment.kubernetes.io/revision"
# Fields of a Service that the API server assigns. Another Service may have the value by now.
ASSIGNED = ("clusterIP", "clusterIPs", "healthCheckNodePort", "nodePort")
# The kinds of which only a part is put back.
PARTIAL = ("CustomResourceDefinition", "ClusterRole", "Role")
# The fields of a rule of RBAC.
RULE = ("apiGroups", "resources", "resourceNames", "nonResourceURLs", "verbs")
_MISSING = object()


def restore(context: ActionContext, target: Reference, original: Object) -> ObjectOutcome:
    """Put the object back, with the owners of its fields. ``client.left`` has the state in which this run left it.

    Raises:
        StepError: another client changed, deleted or created the object.
        OwnedObjectError: another manager owns it, and the consent does not cover it.
        KubeError: the API server refuses.
    """
    client = context.client
    owners: list[Object] = []
    read = partial(client.find, target.path)

    def write(live: Object | None) -> ObjectOutcome:
        left = client.left[target.path]
        _check_same(target, left, live)
        kept = live if live and target.kind in PARTIAL else original
        owners[:] = kept["metadata"].get("managedFields") or ()
        if live is None:
            # An object that appears after the read leads to Conflict, and is judged then.
            answer = client.apply(target.path, _new(original), manager=MANAGER, takes_fields=False)
            # The result never has the data of a Secret.
            return ObjectOutcome(target, "created", () if target.kind == "Secret" else changes(None, answer))
        refuse_others(client, target, live, consent=context.consent, registry=context.settings.registry)
        wanted = merged(target, original, left or {}, live, client.earlier())
        if wanted == live:
            return ObjectOutcome(target, "unchanged")
        return ObjectOutcome(target, "changed", changes(live, client.replace(target.path, wanted)))

    outcome = retry_on_conflict(read(), write, read, attempts=ATTEMPTS, exhausted=contended_error(target))
    if owners and outcome.is_changed:
        # The write made this collection the owner of the fields. Give the fields back to their earlier owners.
        move = [json_patch.add("/metadata/managedFields", owners)]
        patch_object(replace(context, consent=EVERYTHING), target, lambda _live: move)
    return outcome


def merged(target: Reference, original: Object, left: Object, live: Object, now: datetime) -> dict[str, Any]:
    """Return the object to write: the original, with the changes that other clients made since this run wrote it.

    left: the state in which this run left the object.
    A caBundle keeps its present certificates, because the webhook may have a new certificate.
    Raises StepError for a conflict.
    """
    if "conversion" in original.get("spec", {}):
        original = {**left, "spec": {**left["spec"], "conversion": original["spec"]["conversion"]}}
    if "rules" in original:
        granted = {grant for rule in left["rules"] or () for grant in _grants(rule)}
        lost = [rule for rule in original["rules"] or () if not granted.issuperset(_grants(rule))]
        original = {**left, "rules": [*(left["rules"] or ()), *lost] or left["rules"]}
    revision = (live["metadata"].get("annotations") or {}).get(REVISION)
    content = _merge(target, "", *(_content(obj, revision) for obj in (original, left, live)))
    bundles = [dict(_bundled(obj)) for obj in (live, original)]
    for name, config in _bundled(content):
        present, earlier = (places.get(name, {}).get("caBundle") or "" for places in bundles)
        if present or earlier:
            config["caBundle"] = _united(present, earlier, now)
    fixed = {key: value for key, value in live["metadata"].items() if key in NOISE}
    status = {"status": live["status"]} if "status" in live else {}
    return {**content, "metadata": {**content["metadata"], **fixed}, **status}


def _check_same(target: Reference, left: Object | None, live: Object | None) -> None:
    """Raise StepError if the live object is not the object that this run left. An object that does not exist is None."""
    if live is None and left is not None:
        raise _changed_by_another(target, "deleted it")
    if live is not None and (left is None or left["metadata"]["uid"] != live["metadata"]["uid"]):
        raise _changed_by_another(target, "created it again")


def _merge(target: Reference, path: str, original: Any, left: Any, live: Any) -> Any:
    if left == live:
        return original
    if original in (left, live):
        return live
    if not all(isinstance(value, Mapping) for value in (original, left, live)):
        raise _changed_by_another(target, f"changed {path}")
    both = {
        key: _merge(target, f"{path}.{key}".lstrip("."), *(obj.get(key, _MISSING) for obj in (original, left, live)))
        for key in (*live, *original)
    }  # fmt: skip
    return {key: value for key, value in both.items() if value is not _MISSING}


def _changed_by_another(target: Reference, what: str) -> StepError:
    return StepError(
        f"{target} is not put back, because another client {what} after this run wrote it",
        remedy=f"Find out which client writes {target}, and run the task again",
    )


def _grants(rule: Object) -> Iterator[tuple[str, ...]]:
    """Return everything that a rule of RBAC grants."""
    return itertools.product(*(rule.get(part) or [""] for part in RULE))


def _content(obj: Object, revision: str | None) -> dict[str, Any]:
    """Return the fields to put back, without bundles. revision: the value for the annotation that a controller counts."""
    content = copy.deepcopy({key: value for key, value in obj.items() if key != "status"})
    content["metadata"] = {key: value for key, value in content["metadata"].items() if key not in NOISE}
    if revision:
        content["metadata"].setdefault("annotations", {})[REVISION] = revision
    for _name, config in _bundled(content):
        config.pop("caBundle", None)
    return content


def _bundled(obj: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each client configuration with the name of its webhook."""
    for webhook in obj.get("webhooks") or ():
        yield webhook["name"], webhook["clientConfig"]
    conversion = obj.get("spec", {}).get("conversion") or {}
    if "webhook" in conversion:
        yield "", conversion["webhook"]["clientConfig"]


def _united(present: str, earlier: str, now: datetime) -> str:
    """Return a bundle (base64) with the certificates of both."""
    new, old = (base64.b64decode(text).decode("utf-8", "replace") for text in (present, earlier))
    held = {anchor.fingerprint for anchor in bundle_content.certificates(new)}
    lost = [
        anchor
        for anchor in bundle_content.certificates(old)
        if not bundle_content.is_over(anchor, now) and anchor.fingerprint not in held
    ]
    if not present or not lost:
        return present or earlier
    return base64.b64encode(
        "".join([f"{new.rstrip()}\n", *(anchor.pem for anchor in lost)]).encode()
    ).decode()


def _new(original: Object) -> dict[str, Any]:
    """Return the manifest that creates the object again."""
    manifest = _content(original, None)
    for (_name, config), (_same, before) in zip(_bundled(manifest), _bundled(original)):
        config.update(before)
    if original["kind"] == "Service" and original["spec"].get("clusterIP") != "None":
        for place in (manifest["spec"], *manifest["spec"].get("ports", ())):
            for key in ASSIGNED:
                place.pop(key, None)
    return manifest


def try_creation(client: Client, target: Reference, live: Object) -> None:
    """Check that the object could be created again after its deletion. Raises MissingPermissions, ApiError.

    The creation itself cannot be tried while the object exists. RBAC and policies judge a change of its annotations in the same way.
    """
    kind = KINDS[target.kind]
    needed = Permission("create", kind.group, kind.plural, target.namespace, name=target.name)
    access_review.require(client, [needed], f"put back {target}")
    annotations = {**(live["metadata"].get("annotations") or {}), "certflow.kubernetes/undo": "tried"}
    client.patch(target.path, [json_patch.add("/metadata/annotations", annotations)], dry_run=True)


def adjusted(original: Object, action: RestoreObjects) -> Object:
    """Return the object as the action puts it back."""
    result = copy.deepcopy(dict(original))
    if result["kind"] == "Deployment" and action.labels:
        metadata = result["spec"]["template"]["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **action.labels}
    if result["metadata"]["name"] in action.ignoring:
        for webhook in result["webhooks"]:
            webhook["failurePolicy"] = "Ignore"
    return result
