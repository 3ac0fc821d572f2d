# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the sources of an audit one by one. A source that cannot be read is a gap, and the others are read nevertheless."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar

from .._base.errors import CertflowError, MalformedObject
from .._kube.client import Client
from .._kube.errors import Forbidden, KubeError
from .._webhook.errors import TargetError
from .facts.cluster_data import Gap

#: The share of the remaining time that one source may take. An API server that does not answer to one request then leaves time
#: for the others.
TIME_SHARE = 0.5
TIME_IS_OVER = "wait_timeout ended before it was read"
DECLARED = "the option without names it"

_T = TypeVar("_T")


@dataclass
class GuardedReads:
    """The reads of one audit, within the deadline of its client."""

    client: Client
    #: The sources that are not read.
    without: tuple[str, ...] = ()
    #: Each gap once, in the order of the reads.
    gaps: dict[Gap, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._end = self.client.deadline

    def is_over(self, more: float = 0.0) -> bool:
        """Return True if the time of the audit is over, and so many seconds more."""
        return time.monotonic() >= self._end + more

    def note(self, gap: Gap) -> None:
        """Keep a gap."""
        self.gaps[gap] = None

    def read(self, source: str, function: Callable[[], _T], default: _T, **about: Any) -> _T:
        """Return the result of the function. If it cannot read the source, note a gap and return the default.

        about: fields of the gap.
        """
        for value in self.collect(source, lambda: iter((function(),)), **about):
            return value
        return default

    def collect(self, source: str, function: Callable[[], Iterator[_T]], **about: Any) -> list[_T]:
        """Return the items of the function. If it cannot read further, note a gap and return those before.

        The read may be a part of another one, whose deadline continues after it.
        """
        found: list[_T] = []
        now, before = time.monotonic(), self.client.deadline
        if source in self.without or self.is_over():
            self.note(Gap(source, DECLARED if source in self.without else TIME_IS_OVER, **about))
            return found
        self.client.deadline = now + (self._end - now) * TIME_SHARE
        try:
            for item in function():
                found.append(item)  # noqa: PERF402 - the items before an error are kept
        except Forbidden as error:
            self.note(Gap(source, reason_of(error), lacks_permission=True, **about))
        except (KubeError, MalformedObject, TargetError) as error:
            self.note(Gap(source, reason_of(error), **about))
        finally:
            self.client.deadline = before
        return found


def reason_of(error: CertflowError) -> str:
    """Return the API server's message about a missing permission, or the cause of another error."""
    return (error.message if isinstance(error, Forbidden) else "") or error.cause
