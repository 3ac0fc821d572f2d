# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations of a JSON patch."""

from __future__ import annotations

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import json_patch


def test_operations() -> None:
    assert [
        json_patch.test("/a", 1),
        json_patch.add("/b", None),
        json_patch.replace("/c", [2]),
        json_patch.remove("/d"),
        json_patch.at_version("7"),
    ] == [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "add", "path": "/b", "value": None},
        {"op": "replace", "path": "/c", "value": [2]},
        {"op": "remove", "path": "/d"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
    ]


def test_a_key_is_escaped() -> None:
    assert json_patch.escape("team.example/a~b") == "team.example~1a~0b"
    assert json_patch.escape("~1") == "~01", "the tilde comes first"
