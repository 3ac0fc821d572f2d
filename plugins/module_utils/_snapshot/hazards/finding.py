# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The finding of a hazard's rule. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST = 10


@dataclass(frozen=True)
class Finding:
    """A hazard of this cluster, found by its rule."""

    #: The objects and values that show the hazard.
    evidence: tuple[str, ...]
    #: Imperative sentences for the user, "" if a step of the plan handles the hazard.
    remedy: str = ""
    #: The release that must be installed in between, or "".
    via: str = ""


def listed(texts: Iterable[str], most: int = MOST) -> tuple[str, ...]:
    """Return the first texts, and the number of the rest."""
    every = tuple(dict.fromkeys(texts))
    more = len(every) - most
    return (*every[:most], f"and {more} more") if more > 0 else every


def finding_of(evidence: Iterable[str], remedy: str = "") -> Finding | None:
    """Return the finding with this evidence, None without evidence."""
    lines = listed(evidence)
    return Finding(lines, remedy) if lines else None
