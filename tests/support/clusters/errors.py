# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that starting, using or stopping a test cluster raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ClusterError(Exception):
    """What failed, as a sentence for the user at the terminal."""


class UsageError(ClusterError):
    """The arguments are invalid, for example a name, a profile or an option."""


def tail(log: Path, lines: int = 5) -> str:
    """Return the last lines of a log, indented, as the end of an error message. Empty without a log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n  | {line[:300]}" for line in text.splitlines()[-lines:])
