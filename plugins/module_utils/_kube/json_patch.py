# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Operations of a JSON patch (RFC 6902), and the write of an object at the version that was read."""

from __future__ import annotations

import time
from typing import Any, Callable, TypeVar

from .._base.errors import CertflowError
from .errors import ApiError, Conflict

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


#: A further attempt after a conflict waits for one, two, three ... such times.
PAUSE_SECONDS = 0.5
Read = TypeVar("Read")
Result = TypeVar("Result")


def retry_on_conflict(
    known: Read,
    write: Callable[[Read], Result],
    read: Callable[[], Read],
    *,
    attempts: int,
    exhausted: CertflowError | None = None,
    conflicts: tuple[type[ApiError], ...] = (Conflict,),
    is_refusal: Callable[[ApiError, Read, Read], bool] | None = None,
) -> Result:
    """Return the result of ``write`` for the object. After a conflict, read the object again, at once and then after growing pauses.

    known: the object, or None, as it was read.
    write: decides and writes. It must write only over the version of the object that it receives.
    read: reads the object again.
    attempts: the largest number of writes.
    exhausted: the error after a conflict at every attempt, by default the last conflict.
    conflicts: the errors that may mean that another client changed the object.
    is_refusal: returns True if such an error is final. It receives the error and the object before and after it.
    Raises what ``write`` and ``read`` raise.
    """
    for number in range(attempts):
        try:
            return write(known)
        except conflicts as error:
            is_last = number + 1 == attempts
            # Controllers write the status of an object again and again during a rollout.
            time.sleep(0 if is_last else PAUSE_SECONDS * number)
            fresh = read()
            if (is_last and exhausted is None) or (is_refusal and is_refusal(error, known, fresh)):
                raise
            known = fresh
    raise exhausted or ValueError("attempts is not positive")
