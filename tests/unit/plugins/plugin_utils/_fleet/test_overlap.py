# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of a fleet run that mean one cluster."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.overlap import (
    Claim,
    Owner,
    find_overlap,
    find_owner,
)

pytestmark = pytest.mark.quick

ONE, TWO = "0a-1", "0a-2"
# The clusters of hosts, and the groups of hosts that are refused.
OVERLAPS: tuple[tuple[dict[str, tuple[str, str]], list[str]], ...] = (
    ({}, []),
    ({"a": (ONE, ""), "b": (TWO, "")}, []),
    ({"a": (ONE, ""), "b": (ONE, ""), "c": (TWO, "")}, ["a, b"]),
    ({"a": (ONE, "n/s"), "b": (ONE, "n/s")}, ["a, b"]),
    ({"a": (ONE, "n/s"), "b": (ONE, "n/t")}, []),
    ({"a": ("", ""), "b": ("", "")}, []),
)


@pytest.mark.parametrize(("clusters", "refused"), OVERLAPS)
def test_hosts_with_one_uid_in_the_inventory(
    clusters: dict[str, tuple[str, str]], refused: list[str]
) -> None:
    found = [*find_overlap(clusters)]
    assert len(found) == len(refused)
    assert all(f"the hosts {hosts} mean" in line for hosts, line in zip(refused, found))
    assert all("certflow_allow_shared_cluster" in line for line in found)


PROD = Claim(ONE, "https://prod", "prod-ca")
PROVEN, POSSIBLE = Owner("prod", is_proven=True), Owner("prod", is_proven=False)
# Name -> the claim of another host after that of prod, and the owner that is seen.
CLAIMS: dict[str, tuple[Claim, Owner | None]] = {
    "another context of prod": (PROD, PROVEN),
    "another cluster": (Claim(TWO, "https://dev", "dev-ca"), None),
    "a cluster that repeats the UID": (Claim(ONE, "https://dev", "dev-ca"), POSSIBLE),
    "the same, with a CA of both": (Claim(ONE, "https://dev", "prod-ca"), POSSIBLE),
    "the same, behind a proxy for the address": (Claim(ONE, "https://prod", "dev-ca"), POSSIBLE),
    "the same, without verification": (Claim(ONE, "https://prod", ""), POSSIBLE),
    "prod by another name": (Claim(ONE, "https://10.0.0.1", "prod-ca"), POSSIBLE),
    "an unknown UID": (Claim("", "https://prod", "prod-ca"), POSSIBLE),
    "an unknown UID elsewhere": (Claim("", "https://dev", "prod-ca"), None),
    "two clusters behind one address": (Claim(TWO, "https://prod", "prod-ca"), None),
    "another Secret": (PROD._replace(work="n/s"), None),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_after_another_one(name: str) -> None:
    claim, owner = CLAIMS[name]
    assert find_owner({PROD: "prod"}, claim, "b") == owner
    # The order of the hosts does not decide.
    other = find_owner({claim: "prod"}, PROD, "b")
    assert other == owner
    assert find_owner({PROD: "b"}, claim, "b") is None


def test_an_unverified_server_proves_nothing() -> None:
    unverified = PROD._replace(ca="")
    assert find_owner({unverified: "prod"}, unverified, "b") == POSSIBLE


def test_a_proven_owner_comes_first() -> None:
    claims = {PROD._replace(address="https://dev"): "dev", PROD: "prod"}
    assert find_owner(claims, PROD, "b") == PROVEN
