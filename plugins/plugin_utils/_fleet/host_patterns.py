# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Host patterns for hosts that are chosen by name. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.certflow.kubernetes.plugins.module_utils._text import visible

#: Characters that have a meaning in a pattern.
SPECIAL = frozenset(",:&!~[]*? ()")


def exactly(host: str) -> str:
    """Return a pattern for one host. A special character in its name becomes the wildcard for one character."""
    return "".join("?" if character in SPECIAL else character for character in host)


def ambiguity_problems(patterns: Iterable[str], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a line for each name in a pattern that is the name of a host and of a group. Ansible takes it for the host.

    groups: group -> its hosts. The group all has each host.
    """
    names = {name.lstrip("&!") for pattern in patterns for name in re.split(r"[,:\[]", pattern)}
    for name in sorted(names & groups.keys() & set(groups.get("all", ()))):
        yield (
            f"{visible(name)} is the name of a host and of a group, so a pattern with this name leaves out the hosts of the group."
            " Rename the host or the group."
        )
