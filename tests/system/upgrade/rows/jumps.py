# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jumps and chains from release to release as data.

A jump is one run of the role under load, a chain is several.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.upgrade import snapshot_lab
from tests.support.upgrade.snapshot_plans import MET_BY_GROUPS, MET_ON_THE_WAY
from tests.system.upgrade.rows.lab import UpgradePath, pods

if TYPE_CHECKING:
    from tests.support.upgrade.snapshot_load import SnapshotLoad
    from tests.system.upgrade.rows.lab import Lab

BOTH = {"onprem": "Fail", "eks": "Ignore"}
ONE = {"onprem": "Fail"}


@dataclass(frozen=True)
class Jump:
    """A row of the table of jumps."""

    first: str
    last: str
    #: Cluster -> failurePolicy.
    policies: Mapping[str, str] = field(default_factory=lambda: BOTH)
    #: Version of stored group snapshots, before and after.
    groups: tuple[str, str] = ("", "")
    #: Variables of the role.
    given: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        stored = f", group snapshots stored at {self.groups[0]}" if self.groups[0] else ""
        return f"{self.first} to {self.last}{stored}"


CHAIN = ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.4.0", "8.7.0")
STEPS = tuple(Jump(first, last) for first, last in itertools.pairwise(CHAIN))
GROUPS: Mapping[str, Any] = {"snapshot_controller_group_snapshots": True}
FAIL: Mapping[str, Any] = {"snapshot_controller_failure_policy": "Fail"}
# Group snapshots are stored at v1beta1 with lists that only the conversion webhook of 8.4 keeps, so 8.4
# cannot be skipped.
FROM_BETA = Jump("8.2.0", "8.7.0", ONE, ("v1beta1", "v1"), GROUPS)
JUMPS = (
    Jump("4.2.1", "8.7.0"),
    Jump("7.0.2", "8.6.0"),
    Jump("6.2.2", "8.3.0"),
    Jump("4.2.1", "7.0.2"),
    Jump("8.4.0", "8.7.0", ONE, ("v1beta1", "v1"), GROUPS),
    FROM_BETA,
    # 8.7.0 does not list v1alpha1, so its objects are rewritten during the upgrade.
    Jump("8.1.0", "8.7.0", ONE, ("v1alpha1", "v1"), GROUPS),
)
# A downgrade keeps CRDs and permissions, so the result differs from a fresh installation.
DOWNGRADES = (Jump("7.0.2", "6.2.2", ONE), Jump("8.7.0", "8.6.0", ONE))


@dataclass(frozen=True)
class Link:
    """One run of a chain."""

    release: str
    #: Version of stored group snapshots afterwards.
    groups: str = ""
    #: Variables of the role.
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """A row of several runs on the same clusters."""

    first: str
    links: tuple[Link, ...]
    policies: Mapping[str, str] = field(default_factory=lambda: BOTH)
    #: Version at which group snapshots are stored after the first link.
    groups: str = ""
    #: Ids of the hazards that the plans of the chain must report.
    hazards: Collection[str] = ()

    def __str__(self) -> str:
        stored = f", group snapshots stored at {self.groups}" if self.groups else ""
        return f"{', '.join((self.first, *(link.release for link in self.links)))}{stored}"


CHAINS = (
    Chain(CHAIN[0], tuple(map(Link, CHAIN[1:])), hazards=MET_ON_THE_WAY),
    # 7.0 adds a configuration for group snapshots, which is Ignore without FAIL. 8.4 converts them with its
    # webhook. 8.7 needs no conversion.
    Chain(
        "6.2.2",
        (
            Link("7.0.2", "v1alpha1", {**GROUPS, **FAIL}),
            Link("8.1.0", "v1alpha1", {**GROUPS, **FAIL}),
            Link("8.4.0", "v1beta2", {**GROUPS, "snapshot_controller_conversion_webhook": True}),
            Link("8.7.0", "v1", GROUPS),
        ),
        ONE,
        "v1alpha1",
        MET_BY_GROUPS,
    ),
)


@dataclass(frozen=True)
class Gone:
    """The result of a jump or a chain on one cluster."""

    cluster: str
    policy: str
    hops: tuple[str, ...]
    made: int
    refused: int
    invalid: int
    accepted: int


def go(rig: Lab, jump: Jump, say: Callable[[str], None]) -> list[Gone]:
    """Run a jump. Raises AssertionError for an unexpected result."""
    upgrade = UpgradePath(rig, jump.first, jump.policies, say, jump.groups[0])
    upgrade.to(jump.last, jump.groups[1], **jump.given)
    return gone(upgrade)


def go_chain(rig: Lab, chain: Chain, say: Callable[[str], None]) -> list[Gone]:
    """Run a chain link by link. Raises AssertionError for an unexpected result."""
    rig.hazards.clear()
    upgrade = UpgradePath(rig, chain.first, chain.policies, say)
    runs: list[list[Gone]] = []
    for number, link in enumerate(chain.links):
        upgrade.to(link.release, link.groups, **link.given)
        runs.append(gone(upgrade))
        if chain.groups and number == 0:
            for kept in upgrade.kept.values():
                kept.make_groups(chain.groups)
    assert rig.hazards.issuperset(chain.hazards), set(chain.hazards) - rig.hazards
    return [_sum(of_cluster) for of_cluster in zip(*runs, strict=True)]


def _sum(runs: Sequence[Gone]) -> Gone:
    """Return the result of a chain from those of its runs on one cluster."""
    totals = (sum(getattr(run, name) for run in runs) for name in ("made", "refused", "invalid", "accepted"))
    hops = tuple(hop for run in runs for hop in run.hops)
    return Gone(runs[0].cluster, runs[0].policy, hops, *totals)


def go_back(rig: Lab, jump: Jump, say: Callable[[str], None]) -> list[Gone]:
    """Run a downgrade.

    Check that the older release runs, users' objects are kept, and no valid create failed.
    """
    upgrade = UpgradePath(rig, jump.first, jump.policies, say)
    with upgrade.under_load(jump.last):
        outcome = rig.role(jump.last, *jump.policies, **jump.given)
    upgrade.results = outcome.results
    upgrade.tell(jump.last, outcome.moments)
    for name, load in upgrade.load.items():
        assert load.wrong() == [], f"{name}: {load.wrong()[:5]}"
        upgrade.kept[name].check()
        assert {image.rpartition(":v")[2] for image, _arguments in pods(upgrade.cluster(name))} == {jump.last}
        assert snapshot_lab.era(jump.last).kind != "validation" or snapshot_lab.webhook_refuses(
            upgrade.cluster(name), jump.last
        )
    return gone(upgrade)


def gone(upgrade: UpgradePath) -> list[Gone]:
    """Return the result of the last run on each cluster."""
    return [
        Gone(name, upgrade.policies[name], upgrade.hops(name), *counts(load))
        for name, load in upgrade.load.items()
    ]


def counts(load: SnapshotLoad) -> tuple[int, int, int, int]:
    """Return the numbers of valid creates and refused ones, and of invalid creates and accepted ones."""
    valid = [answer for answer in load.answers if answer.valid]
    refused = sum(answer.valid for answer in load.wrong())
    return len(valid), refused, len(load.answers) - len(valid), len(load.accepted())
