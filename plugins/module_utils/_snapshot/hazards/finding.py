# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a rule found. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MOST = 10


@dataclass(frozen=True)
class Finding:
    """evidence: what was seen. remedy: what a person can do, "" where the plan does it.

    via: the release that has to be installed in between.
    """

    evidence: tuple[str, ...]
    remedy: str = ""
    via: str = ""


def listed(texts: Iterable[str]) -> tuple[str, ...]:
    """At most MOST of them, and how many more there are."""
    every = tuple(dict.fromkeys(texts))
    more = len(every) - MOST
    return (*every[:MOST], f"and {more} more") if more > 0 else every


def labels(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in selector.items()) or "nothing"
