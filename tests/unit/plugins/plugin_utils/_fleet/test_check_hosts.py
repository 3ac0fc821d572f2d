# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The patterns of the hosts of a run, as Ansible's own inventory reads them."""

from __future__ import annotations

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import check_hosts

pytestmark = pytest.mark.quick

# Names of contexts. Each special character has neighbours that differ from it in that character only.
NAMES = [
    *(f"prod{mark}eu" for mark in ",:&!~[]*? ()-._{}@#$^+|\\/'\"%é"),
    *(mark for mark in ",:&!~[]*?()-x1é"),
    *("prodeu", "prod:eu:1", "prod-eu-1", "PROD:EU", " prod eu ", "~prod.eu", "!prod-eu", "&prod:eu", "prod[0]", "prod0"),
    "arn:aws:eks:eu-west-1:123456789012:cluster/prod",
    "arn-aws-eks-eu-west-1-123456789012-cluster/prod",
]  # fmt: skip


@pytest.fixture(scope="module")
def inventory() -> InventoryManager:
    manager = InventoryManager(DataLoader(), sources=["localhost,"])
    for name in NAMES:
        manager._inventory.add_host(name)
    return manager


@pytest.mark.parametrize("name", NAMES)
def test_the_pattern_of_a_host_matches_no_other_host(inventory: InventoryManager, name: str) -> None:
    assert [host.name for host in inventory.get_hosts([check_hosts.exactly(name)])] == [name]


def test_the_patterns_of_a_run_keep_the_order_of_its_stages(inventory: InventoryManager) -> None:
    order = NAMES[::-1]
    patterns = list(map(check_hosts.exactly, order))
    assert [host.name for host in inventory.get_hosts(patterns)] == order


def test_the_patterns_of_several_hosts_in_one_text_match_only_them(inventory: InventoryManager) -> None:
    order = ["prod:eu", "prod,eu", "x"]
    pattern = ",".join(map(check_hosts.exactly, order))
    assert [host.name for host in inventory.get_hosts(pattern)] == order
