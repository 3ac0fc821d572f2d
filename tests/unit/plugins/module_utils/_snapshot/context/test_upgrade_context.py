# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test what the context of a hop derives from the installed state and the options."""

from __future__ import annotations

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
