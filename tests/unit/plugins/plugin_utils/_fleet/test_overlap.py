# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of a fleet run that mean one cluster."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.overlap import Member, find_overlap

pytestmark = pytest.mark.quick


def test_an_address_in_a_warning_has_no_hidden_characters() -> None:
    members = [Member(name, server="https://x\u202e\x9b31m") for name in "ab"]
    [warning] = find_overlap(members).warnings
    assert "(https://x\\u202e\\x9b31m)" in warning


# Members, the hosts that are refused, the number of warnings.
ONE, TWO = "0a-1", "0a-2"
OVERLAPS: tuple[tuple[tuple[Member, ...], set[str], int], ...] = (
    ((), set(), 0),
    ((Member("a", ONE), Member("b", TWO)), set(), 0),
    ((Member("a", ONE), Member("b", ONE), Member("c", TWO)), {"a", "b"}, 0),
    ((Member("a", ONE), Member("b", ONE, "https://s", "x"), Member("c", ONE)), {"a", "b", "c"}, 0),
    ((Member("a", ONE, work="n/s"), Member("b", ONE, work="n/s")), {"a", "b"}, 0),
    ((Member("a", ONE, work="n/s"), Member("b", ONE, work="n/t")), set(), 0),
    ((Member("a"), Member("b")), set(), 0),
    ((Member("a", "", "https://s", "x"), Member("b", "", "https://S/", "x")), set(), 1),
    ((Member("a", ONE, "https://s", "x"), Member("b", "", "https://s", "x")), set(), 1),
    ((Member("a", "", "https://s", "x"), Member("b", "", "https://s", "y")), set(), 0),
    ((Member("a", "", "https://s", "x"), Member("b", "", "https://t", "x")), set(), 0),
    ((Member("a", ONE, "https://s", "x"), Member("b", TWO, "https://s", "x")), set(), 0),
    ((Member("a", "", "https://s", "x", "n/s"), Member("b", "", "https://s", "x", "n/t")), set(), 0),
)


@pytest.mark.parametrize(("members", "refused", "warnings"), OVERLAPS)
def test_hosts_that_mean_one_cluster(members: tuple[Member, ...], refused: set[str], warnings: int) -> None:
    found = find_overlap(members)
    assert set(found.refused) == refused
    assert len(found.warnings) == warnings
    assert all("certflow_allow_shared_cluster" in reason for reason in found.refused.values())
