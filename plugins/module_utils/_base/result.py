# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The result of an operation, which the modules and the flows below them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The keys of the first object that is left.
LEFT_KEYS = ("object", "code", "reason", "remedy")


@dataclass(frozen=True)
class Result:
    """The result of a run, or in check mode the result that a run would have."""

    #: True if the run wrote something, or in check mode would write something.
    changed: bool
    #: The keys of the result that belong to this operation.
    values: Mapping[str, Any]
    #: The state before and after, None for an operation without a diff.
    diff: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def make_left(count: int, first: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key ``left`` of a result: what the task was asked for and did not do.

    count: number of objects. first: the first of them, with its object, code, reason and remedy.
    """
    return {"count": count, "first": {key: first[key] for key in LEFT_KEYS} if count else None}
