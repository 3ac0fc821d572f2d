# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the state of objects: conditions, pods with their containers, and whether a controller has read a spec. Pure.

The functions take objects as the API server returns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]


def condition(obj: Object, kind: str) -> Object:
    """Return the condition of this type, {} if the object has none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == kind), {})


def is_true(obj: Object, kind: str) -> bool:
    """Return True if the condition of this type is true."""
    return bool(condition(obj, kind).get("status") == "True")


def is_observed(obj: Object) -> bool:
    """Return True if the object's controller has read its present spec. Before that, its status is that of an older spec."""
    seen = int((obj.get("status") or {}).get("observedGeneration") or 0)
    return seen >= int(obj["metadata"].get("generation") or 0)


def is_ending(obj: Object) -> bool:
    """Return True if the object is being deleted."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_owned_by(obj: Object, owner: Object) -> bool:
    """Return True if an ownerReference of the object names the owner's UID."""
    references = obj["metadata"].get("ownerReferences") or ()
    return any(reference.get("uid") == owner["metadata"]["uid"] for reference in references)


def has_ended(pod: Object) -> bool:
    """Return True if no container of the pod will run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def has_address(pod: Object) -> bool:
    """Return True if the pod can be an endpoint: it has an address and has not ended."""
    return bool((pod.get("status") or {}).get("podIP")) and not has_ended(pod)


def container_statuses(pod: Object) -> list[Object]:
    """Return the status of each container, init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def restarts(pod: Object) -> int:
    """Return the number of restarts of all containers."""
    return sum(int(status.get("restartCount") or 0) for status in container_statuses(pod))
