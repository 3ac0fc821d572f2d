# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jumps from release to release, as data: one run of the role each, under load."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.real import snapshot_lab
from tests.upgrades.lab import Upgrade, pods

if TYPE_CHECKING:
    from tests.real.snapshot_load import SnapshotLoad
    from tests.upgrades.lab import Lab

BOTH = {"onprem": "Fail", "eks": "Ignore"}
ONE = {"onprem": "Fail"}


@dataclass(frozen=True)
class Jump:
    """A row. groups: the version of stored group snapshots, before and after. given: the role's variables."""

    first: str
    last: str
    policies: Mapping[str, str] = field(default_factory=lambda: BOTH)
    groups: tuple[str, str] = ("", "")
    given: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        stored = f", group snapshots stored at {self.groups[0]}" if self.groups[0] else ""
        return f"{self.first} to {self.last}{stored}"


CHAIN = ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.4.0", "8.7.0")
STEPS = tuple(Jump(first, last) for first, last in itertools.pairwise(CHAIN))
GROUPS: Mapping[str, Any] = {"snapshot_controller_group_snapshots": True}
# Stored at v1beta1 with lists that only the conversion webhook of 8.4 keeps: there is no way past it.
FROM_BETA = Jump("8.2.0", "8.7.0", ONE, ("v1beta1", "v1"), GROUPS)
JUMPS = (
    Jump("4.2.1", "8.7.0"),
    Jump("7.0.2", "8.6.0"),
    Jump("6.2.2", "8.3.0"),
    Jump("4.2.1", "7.0.2"),
    Jump("8.4.0", "8.7.0", ONE, ("v1beta1", "v1"), GROUPS),
    FROM_BETA,
)
# CRDs and rights stay as they are, so afterwards the release is not as a fresh one.
WAYS_BACK = (Jump("7.0.2", "6.2.2", ONE), Jump("8.7.0", "8.6.0", ONE))


@dataclass(frozen=True)
class Gone:
    """What became of a jump on one cluster."""

    cluster: str
    policy: str
    hops: tuple[str, ...]
    made: int
    refused: int
    invalid: int
    accepted: int


def go(site: Lab, jump: Jump, say: Callable[[str], None]) -> list[Gone]:
    """The jump, and what has to hold. Raises AssertionError where it does not."""
    upgrade = Upgrade(site, jump.first, jump.policies, say, jump.groups[0])
    upgrade.to(jump.last, jump.groups[1], **jump.given)
    return gone(upgrade)


def go_back(site: Lab, jump: Jump, say: Callable[[str], None]) -> list[Gone]:
    """The older release runs, users' objects are as they were, and no valid create failed."""
    upgrade = Upgrade(site, jump.first, jump.policies, say)
    with upgrade.under_load(jump.last):
        moments = site.role(jump.last, *jump.policies, **jump.given)
    upgrade.tell(jump.last, moments)
    for name, load in upgrade.load.items():
        assert load.wrong() == [], f"{name}: {load.wrong()[:5]}"
        upgrade.kept[name].check()
        assert {image.rpartition(":v")[2] for image, _arguments in pods(upgrade.cluster(name))} == {jump.last}
        assert snapshot_lab.era(jump.last).kind != "validation" or snapshot_lab.webhook_refuses(
            upgrade.cluster(name), jump.last
        )
    return gone(upgrade)


def gone(upgrade: Upgrade) -> list[Gone]:
    """Of its last run."""
    return [
        Gone(name, upgrade.policies[name], tuple(upgrade.site.hops), *counts(load))
        for name, load in upgrade.load.items()
    ]


def counts(load: SnapshotLoad) -> tuple[int, int, int, int]:
    """Valid creates: made, and not accepted; invalid ones: made, and accepted."""
    valid = [one for one in load.answers if one.valid]
    refused = sum(one.valid for one in load.wrong())
    return len(valid), refused, len(load.answers) - len(valid), len(load.accepted())
