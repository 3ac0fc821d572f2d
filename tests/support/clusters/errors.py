# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error that starting, using or stopping a test cluster raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ClusterError(Exception):
    """What went wrong, in words for the person who reads the terminal."""


class UsageError(ClusterError):
    """What was asked for cannot be: a wrong name, profile or option."""


def tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, indented, to follow an error message; empty if there is no log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n  | {line[:300]}" for line in text.splitlines()[-lines:])
