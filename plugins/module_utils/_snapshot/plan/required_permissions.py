# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""List the permissions that a step needs but its dry run does not test. Pure.

They are the permissions to wait, to verify, and to work on objects that only exist after earlier steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..._kube.access_review import Permission
from ..actions.step_types import Step
from ..kinds import KINDS
from ..release.release_table import GROUP, SNAPSHOT
from .hop import REFUSALS

Parameters = Mapping[str, Any]
_CRD, _DEPLOYMENT, _SLICES = KINDS["CustomResourceDefinition"], KINDS["Deployment"], "discovery.k8s.io"


def collect(steps: Iterable[Step], namespace: str, probe_namespace: str = "") -> list[Permission]:
    """Return the permissions, each once.

    Args:
        namespace: the namespace of a step without the parameter ``namespace``.
        probe_namespace: the namespace of test objects, "" for the namespace of the step.
    """
    given = {"namespace": namespace, "probe_namespace": probe_namespace}
    found = (
        right for step in steps for right in _NEEDS.get(step.action, _nothing)({**given, **step.parameters})
    )
    return list(dict.fromkeys(found))


def _nothing(_given: Parameters) -> list[Permission]:
    return []


def _pods(given: Parameters) -> list[Permission]:
    place = given["namespace"]
    return [Permission("list", "", "pods", place), Permission("list", "apps", "replicasets", place)]


def _endpoints(given: Parameters) -> list[Permission]:
    place = given["namespace"]
    return [Permission("list", "", "pods", place), Permission("list", _SLICES, "endpointslices", place)]


def _create_again(given: Parameters) -> list[Permission]:
    """Return the permission to create the Deployment.

    The dry run only tests an update because the old Deployment still exists. Check the create permission separately.
    """
    return [Permission("create", _DEPLOYMENT.group, _DEPLOYMENT.plural, given["namespace"], given["name"])]


def _selected(given: Parameters) -> list[Permission]:
    """Return the permissions to delete objects by a label, which no object has yet."""
    found = [
        target
        for target in given.get("objects") or ()
        if "label_selector" in target and target["kind"] in KINDS
    ]
    return [
        Permission(
            verb, KINDS[target["kind"]].group, KINDS[target["kind"]].plural, target.get("namespace") or ""
        )
        for target in found
        for verb in ("list", "delete")
    ]


def _stored_versions(given: Parameters) -> list[Permission]:
    return [Permission("patch", _CRD.group, f"{_CRD.plural}/status", name=given["crd"])]


def _proof(given: Parameters) -> list[Permission]:
    return _PROOFS.get(str(given.get("subject")), _nothing)(given)


def _test_object(group: str, plural: str, given: Parameters) -> list[Permission]:
    """Return the permissions for a test object that is created, read and deleted."""
    return [Permission(verb, group, plural, _place(given)) for verb in ("create", "get", "delete")]


def _place(given: Parameters) -> str:
    return str(given["probe_namespace"] or given["namespace"])


def _refusal(given: Parameters) -> list[Permission]:
    """Return the permissions for a refused object. A second default class needs a first one, which may have to be created."""
    plural = REFUSALS.get(str(given.get("check")), "volumesnapshots")
    verbs = ("create", "list", "delete") if given.get("check") == "second-default-class" else ("create",)
    return [Permission(verb, SNAPSHOT, plural) for verb in verbs]


_NEEDS: dict[str, Callable[[Parameters], list[Permission]]] = {
    "wait_available": _pods,
    "watch_pods": _pods,
    "orphan": _create_again,
    "delete": _selected,
    "switch_service": _endpoints,
    "migrate_storage": _stored_versions,
    "verify": _proof,
}
_PROOFS: dict[str, Callable[[Parameters], list[Permission]]] = {
    "webhook": _refusal,
    "conversion": lambda _given: [Permission("create", GROUP, "volumegroupsnapshotcontents")],
    "schema": lambda given: [
        Permission("create", SNAPSHOT, "volumesnapshots", _place(given)),
        Permission("create", SNAPSHOT, "volumesnapshotcontents"),
    ],
    "controller": lambda given: _test_object(SNAPSHOT, "volumesnapshots", given),
    "groups": lambda given: _test_object(GROUP, "volumegroupsnapshots", given),
    "version": _pods,
}
