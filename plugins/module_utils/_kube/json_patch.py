# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Operations of a JSON patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]


def test(path: str, value: Any) -> Operation:
    """Refuse the patch unless the value at the path is this one. The API server answers 422 then."""
    return {"op": "test", "path": path, "value": value}


def add(path: str, value: Any) -> Operation:
    """Set the value at the path, which may exist. The object that holds it must exist."""
    return {"op": "add", "path": path, "value": value}


def replace(path: str, value: Any) -> Operation:
    """Replace the value at the path, which must exist."""
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> Operation:
    """Remove the value at the path, which must exist."""
    return {"op": "remove", "path": path}


def at_version(resource_version: str) -> Operation:
    """Refuse the patch unless the object is still at this resourceVersion.

    The API server answers a stale version with 409. ``test`` would give 422, as for an object that it does not accept.
    """
    return replace("/metadata/resourceVersion", resource_version)


def escape(key: str) -> str:
    """Return a key as a part of a path (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
