# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the comparison of objects by meaning."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.object_changes import (
    FieldChange,
    changes,
)


def thing(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"kind": "Thing", "metadata": {"name": "n", **metadata}, "spec": spec}


# what it shows: two specs, and their changes
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, Any, Any]]]] = {
    "nothing": ({"a": 1}, {"a": 1}, []),
    "a value": ({"a": 1}, {"a": 2}, [("spec.a", 1, 2)]),
    "a field that comes, one that goes": ({"a": 1}, {"b": 2}, [("spec.a", 1, None), ("spec.b", None, 2)]),
    "an empty field is none": ({}, {"a": {}, "b": []}, [("spec.b", None, [])]),
    "items by name": ({"l": [{"name": "x", "v": 1}, {"name": "y"}]}, {"l": [{"name": "y"}, {"name": "x", "v": 2}]}, [("spec.l[x].v", 1, 2)]),
    "items by port": (
        {"ports": [{"port": 443, "protocol": "TCP", "targetPort": 443}]},
        {"ports": [{"port": 443, "protocol": "TCP", "targetPort": 8443}]},
        [("spec.ports[443,TCP].targetPort", 443, 8443)],
    ),
    "a list without keys, as a whole": ({"l": ["a", "b"]}, {"l": ["b"]}, [("spec.l", ["a", "b"], ["b"])]),
    "another kind of value": ({"a": {"b": 1}}, {"a": "text"}, [("spec.a", {"b": 1}, "text")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_changes(case: str) -> None:
    before, after, wanted = CASES[case]
    assert list(changes(thing(before), thing(after))) == [FieldChange(*entry) for entry in wanted]


def test_fields_that_every_write_changes_do_not_count() -> None:
    noise = {
        "uid": "1",
        "resourceVersion": "2",
        "generation": 3,
        "managedFields": [{}],
        "creationTimestamp": "t",
    }
    annotations = {"deployment.kubernetes.io/revision": "4"}
    before = {**thing({}, **noise, annotations=annotations), "status": {"ready": True}}
    assert changes(before, thing({})) == ()


def test_a_created_object() -> None:
    assert FieldChange("metadata.name", None, "n") in changes(None, thing({}))
    assert FieldChange("spec.a", 1, None) in changes(thing({"a": 1}), None)


@pytest.mark.parametrize("field", ["caBundle", "openAPIV3Schema"])
def test_long_values_are_shown_by_their_fingerprints(field: str) -> None:
    (change,) = changes(thing({field: "A" * 999}), thing({field: "B" * 999}))
    assert change.path == f"spec.{field}"
    assert change.before != change.after
    assert change.before.startswith("sha256:") and len(change.before) < 30
