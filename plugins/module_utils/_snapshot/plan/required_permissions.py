# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Rights that a step needs and that its dry run does not show. Pure.

Of what it waits for, of what it proves, and of what is there only once steps before it are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..._kube.access_review import Permission
from ..kinds import KINDS
from ..release.release_table import GROUP, SNAPSHOT
from .hop import REFUSALS
from .step_types import Step

Parameters = Mapping[str, Any]
_CRD, _DEPLOYMENT, _SLICES = KINDS["CustomResourceDefinition"], KINDS["Deployment"], "discovery.k8s.io"


def collect(steps: Iterable[Step], namespace: str, probe_namespace: str = "") -> list[Permission]:
    """Return them, each once. namespace: where a step is that does not say it. probe_namespace: where proofs create objects
    that have a namespace, if not where their step says."""
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


def _again(given: Parameters) -> list[Permission]:
    """The Deployment is still there when the next one is tried, so that only its update is."""
    return [Permission("create", _DEPLOYMENT.group, _DEPLOYMENT.plural, given["namespace"], given["name"])]


def _selected(given: Parameters) -> list[Permission]:
    """What is to be deleted by a label that nothing has yet."""
    found = [one for one in given.get("objects") or () if "label_selector" in one and one["kind"] in KINDS]
    return [
        Permission(verb, KINDS[one["kind"]].group, KINDS[one["kind"]].plural, one.get("namespace") or "")
        for one in found
        for verb in ("list", "delete")
    ]


def _stored_versions(given: Parameters) -> list[Permission]:
    return [Permission("patch", _CRD.group, f"{_CRD.plural}/status", name=given["crd"])]


def _proof(given: Parameters) -> list[Permission]:
    return _PROOFS.get(str(given.get("subject")), _nothing)(given)


def _work(group: str, plural: str, given: Parameters) -> list[Permission]:
    """An object that is made, looked at and removed again."""
    return [Permission(verb, group, plural, _place(given)) for verb in ("create", "get", "delete")]


def _place(given: Parameters) -> str:
    return str(given["probe_namespace"] or given["namespace"])


def _refusal(given: Parameters) -> list[Permission]:
    """A dry run; and where there is no default class, one is made for the second to be refused."""
    plural = REFUSALS.get(str(given.get("check")), "volumesnapshots")
    verbs = ("create", "list", "delete") if given.get("check") == "second-default-class" else ("create",)
    return [Permission(verb, SNAPSHOT, plural) for verb in verbs]


_NEEDS: dict[str, Callable[[Parameters], list[Permission]]] = {
    "wait_available": _pods,
    "watch_pods": _pods,
    "orphan": _again,
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
    "controller": lambda given: _work(SNAPSHOT, "volumesnapshots", given),
    "groups": lambda given: _work(GROUP, "volumegroupsnapshots", given),
    "version": _pods,
}
