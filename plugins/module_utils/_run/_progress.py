# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""stub"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """stub"""

    def say(self, line: str) -> None:
        """stub"""

    def now(self, text: str) -> None:
        """stub"""

    def detail(self, line: str) -> None:
        """stub"""


@contextmanager
def started() -> Iterator[Progress]:
    """stub"""
    yield Progress()
