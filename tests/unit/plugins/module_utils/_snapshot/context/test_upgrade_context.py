# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test what the context of a hop derives from the installed state and the options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONVERSION,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table

from tests.unit.plugins.module_utils._snapshot.world import options, ours

pytestmark = pytest.mark.quick

GROUPS = "--enable-volume-group-snapshot-webhook"


def context(release: str, installed: InstalledState, **given: Any) -> UpgradeContext:
    return UpgradeContext(installed, release_table.get(release), options(**given))


GATES = "--feature-gates"
GROUP_GATE = "CSIVolumeGroupSnapshot=true"


@pytest.mark.parametrize(
    ("live", "given", "dropped"),
    [
        ((f"{GATES}={GROUP_GATE}",), (), []),
        ((f"{GATES}={GROUP_GATE},A=true,B=false",), (), [f"{GATES}=A=true,B=false"]),
        ((GATES, f"{GROUP_GATE},A=true"), (), [f"{GATES}=A=true"]),
        ((f"{GATES}=A=true", f"{GATES}=B=true"), (f"{GATES}=A=false",), [f"{GATES}=B=true"]),
        ((f"{GATES}=A=true",), (GATES, "A=true"), []),
        (("--worker-threads", "3", "--kube-api-qps=9"), ("--kube-api-qps", "9"), ["--worker-threads=3"]),
    ],
)
def test_arguments_that_the_release_would_drop(
    live: tuple[str, ...], given: tuple[str, ...], dropped: list[str]
) -> None:
    start = ours("8.2.0")
    workloads = tuple(replace(workload, arguments=live) for workload in start.workloads)
    wanted = context("8.4.0", replace(start, workloads=workloads), controller_arguments=given)
    assert wanted.dropped_arguments == dropped


def test_a_value_beside_its_gate_is_written_once() -> None:
    wanted = context(
        "8.4.0", ours("8.2.0"), controller_arguments=("--v", "9", GATES, "A=true"), group_snapshots=True
    )
    assert [word for word in wanted.controller_arguments if "A=" in word] == [f"{GATES}=A=true,{GROUP_GATE}"]
    assert "--v=9" in wanted.controller_arguments


def test_the_release_that_runs() -> None:
    assert context("8.1.1", ours("7.0.2")).current == release_table.get("7.0.2")
    assert context("8.1.1", InstalledState()).current is None


@pytest.mark.parametrize(
    ("kind", "groups", "arguments", "expected"),
    [
        (VALIDATION, True, (), [GROUPS]),
        (VALIDATION, False, (), []),
        (CONVERSION, True, (), []),
        (VALIDATION, True, (GROUPS, "--v=2"), [GROUPS, "--v=2"]),
        (VALIDATION, False, ("--v=2",), ["--v=2"]),
    ],
)
def test_the_arguments_of_a_webhook(
    kind: str, groups: bool, arguments: tuple[str, ...], expected: list[str]
) -> None:
    wanted = context("8.1.1", ours("7.0.2"), group_snapshots=groups, webhook_arguments=arguments)
    assert wanted.webhooks.arguments(kind) == expected
