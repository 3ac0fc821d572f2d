# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read an object, decide, and write it at the version that was read. Decide again if another client was faster."""

from __future__ import annotations

from typing import Callable, TypeVar

from .._errors import CertflowError
from .errors import ApiError, Conflict

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
    """Return the result of ``write`` for the object. After a conflict, read the object again.

    known: the object, or None, as it was read.
    write: decides and writes. It must write only over the version of the object that it receives.
    read: reads the object again.
    attempts: the largest number of writes.
    exhausted: the error after a conflict at every attempt, by default the last conflict.
    conflicts: the errors that may mean that another client changed the object.
    is_refusal: returns True if such an error is final. It receives the error and the object before and after it.
    Raises what ``write`` and ``read`` raise.
    """
    for left in reversed(range(attempts)):
        try:
            return write(known)
        except conflicts as error:
            fresh = read()
            is_final = is_refusal is not None and is_refusal(error, known, fresh)
            if is_final or (not left and exhausted is None):
                raise
            known = fresh
    raise exhausted or ValueError("attempts is not positive")
