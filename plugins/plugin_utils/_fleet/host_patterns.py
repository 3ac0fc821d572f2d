# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Host patterns for hosts that are chosen by name. Pure."""

from __future__ import annotations

#: Characters that have a meaning in a pattern.
SPECIAL = frozenset(",:&!~[]*? ()")


def exactly(host: str) -> str:
    """Return a pattern for one host. A special character in its name becomes the wildcard for one character."""
    return "".join("?" if character in SPECIAL else character for character in host)
