# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fields that are moved, and the object that an apply leaves after the move."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import Consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    BY_HAND,
    LAST_APPLIED,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import field_ownership

from tests.support.accepted import accepting

V1 = "apps/v1"


def entry(
    manager: str, fields: dict[str, Any], operation: str = "Update", version: str = V1, **more: str
) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": version,
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **more,
    }


Fields = dict[str, Any]

A: Fields = {"f:spec": {"f:a": {}}}
B: Fields = {"f:spec": {"f:b": {}}}
BOTH: Fields = {"f:spec": {"f:a": {}, "f:b": {}}}
OURS = field_ownership.MANAGER

# A case: managedFields, and managedFields after the move.
MOVES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, dict[str, Any]]]]] = {
    "one of kubectl's": ([entry("kubectl-create", A)], [(OURS, "Apply", A)]),
    "several, and ours": ([entry("kubectl-edit", A), entry("kubectl", B, "Apply"), entry(OURS, {}, "Apply")], [(OURS, "Apply", BOTH)]),
    "others stay, before and after": (
        [entry("operator", A), entry("kubectl-set", B), entry("else", A)],
        [(OURS, "Apply", B), ("operator", "Update", A), ("else", "Update", A)],
    ),
    "a subresource's stay": ([entry("kubectl", A, subresource="status"), entry("kubectl", B)], [(OURS, "Apply", B), ("kubectl", "Update", A)]),
    "fields of a version that is gone": ([entry("kubectl", A, version="apps/v1beta1")], []),
    "a caBundle becomes an update of ours": (
        [entry("kubectl-client-side-apply", {"f:w": {"f:name": {}, "f:clientConfig": {"f:caBundle": {}, "f:url": {}}}})],
        [
            (OURS, "Apply", {"f:w": {"f:name": {}, "f:clientConfig": {"f:url": {}}}}),
            (OURS, "Update", {"f:w": {"f:clientConfig": {"f:caBundle": {}}}}),
        ],
    ),
    "with what ours has updated": (
        [entry("kubectl-create", {"f:spec": {"f:conversion": {"f:strategy": {}}}}), entry(OURS, B)],
        [(OURS, "Update", {"f:spec": {"f:conversion": {"f:strategy": {}}, "f:b": {}}})],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVES)
def test_the_move(case: str) -> None:
    before, after = MOVES[case]
    moved = field_ownership.move_fields(before, V1)
    assert [(item["manager"], item["operation"], item["fieldsV1"]) for item in moved] == after
    assert field_ownership.move_fields(moved, V1) == moved


@pytest.mark.parametrize(
    ("words", "manager", "is_moved"),
    [
        ((), "helm", False),
        (("arguments-dropped",), "helm", False),
        (("helm",), "helm", True),
        (("kubectl",), "some-installer", False),
        (("manager:some-installer",), "some-installer", True),
    ],
)
def test_fields_of_a_deployment_tool_are_moved_only_if_a_manager_is_accepted(
    words: tuple[str, ...], manager: str, is_moved: bool
) -> None:
    managers = field_ownership.managers_to_move(accepting(*words), "Deployment n/x")
    (moved,) = field_ownership.move_fields([entry(manager, A)], V1, managers)
    assert moved["manager"] == (OURS if is_moved else manager)


@pytest.mark.parametrize(
    ("word", "manager"), [("helm", "helm"), ("manager:some-installer", "some-installer"), ("kops", "eks")]
)
def test_a_consent_for_one_object_moves_no_fields_of_other_objects(word: str, manager: str) -> None:
    consent = Consent(frozenset({(word, "Deployment/n/x")}))
    assert manager in field_ownership.managers_to_move(consent, "Deployment n/x")
    assert field_ownership.managers_to_move(consent, "ServiceAccount n/x") == BY_HAND


def test_the_patch_has_the_resource_version_and_removes_the_annotation_of_kubectl() -> None:
    metadata = {
        "resourceVersion": "7",
        "annotations": {LAST_APPLIED: "{}", "mine": ""},
        "managedFields": [entry("kubectl", A)],
    }
    lock, removal, move = field_ownership.patch_to_move({"apiVersion": V1, "metadata": metadata})
    assert lock == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    pointer = "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"
    assert removal == {"op": "remove", "path": pointer}
    assert (move["op"], move["path"]) == ("replace", "/metadata/managedFields")


def test_nothing_to_move() -> None:
    metadata = {"resourceVersion": "7", "managedFields": [entry("operator", A), entry(OURS, B, "Apply")]}
    assert field_ownership.patch_to_move({"apiVersion": V1, "metadata": metadata}) == []
    assert field_ownership.patch_to_move({"apiVersion": V1, "metadata": {"resourceVersion": "7"}}) == []


def test_the_object_after_the_move_and_the_apply() -> None:
    """The apply removes the fields that only kubectl owned: a field with its children, and an item of a list by its key."""
    key_a, key_b = 'k:{"name":"a"}', 'k:{"name":"b"}'
    old = entry(
        "kubectl",
        {
            "f:metadata": {"f:labels": {"f:x": {}, "f:y": {}}},
            "f:spec": {"f:list": {key_a: {".": {}, "f:env": {}}, key_b: {".": {}}}, "f:gone": {"f:z": {}}},
        },
    )
    applied = entry(OURS, {"f:spec": {"f:list": {key_a: {".": {}}}}}, "Apply")
    other = entry("other", {"f:metadata": {"f:labels": {"f:y": {}}}})
    answer = {
        "apiVersion": V1,
        "metadata": {"name": "n", "labels": {"x": "1", "y": "1"}, "annotations": {LAST_APPLIED: "{}"}, "managedFields": [applied, old, other]},
        "spec": {"list": [{"name": "a", "env": [1]}, {"name": "b"}, {"name": "c"}], "gone": {"z": 1, "defaulted": 2}, "set": ["s"]},
    }  # fmt: skip
    left = field_ownership.without_moved_fields(answer, {"metadata": {"managedFields": [old, other]}})
    assert left["metadata"]["labels"] == {"y": "1"}
    assert left["metadata"]["name"] == "n"
    assert left["metadata"]["annotations"] == {}
    assert left["spec"] == {"list": [{"name": "a"}, {"name": "c"}], "set": ["s"]}


def test_moved_fields_have_the_newest_time() -> None:
    before = [entry("kubectl-create", A, time="2026-02-01T00:00:00Z"), entry("kubectl-edit", B)]
    (moved,) = field_ownership.move_fields(before, V1)
    assert moved["time"] == "2026-02-01T00:00:00Z"
