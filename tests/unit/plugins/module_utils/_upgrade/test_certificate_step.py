# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate of an upgrade is tried with the targets that can have a CA bundle before the upgrade."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.upgrade_context import (
    UpgradeContext,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    InstalledState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP_CRDS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import certificate_step

from tests.unit.plugins.module_utils._snapshot.world import NOTHING, upstream

CONTENTS = GROUP_CRDS[1]
TARGETS = [
    Reference("CustomResourceDefinition", CONTENTS),
    Reference("ValidatingWebhookConfiguration", "validation-webhook.snapshot.storage.k8s.io"),
]


@pytest.mark.parametrize(
    ("installed", "names"),
    [
        (NOTHING, []),
        (upstream("8.1.0", groups=True), [TARGETS[1].name]),  # the CRD exists and converts nothing
        (upstream("8.3.0", groups=True), []),
        (upstream("8.4.0", groups=True), [CONTENTS]),
    ],
    ids=["nothing", "validation", "no webhook", "conversion"],
)
def test_targets_that_exist(installed: InstalledState, names: list[str]) -> None:
    context = UpgradeContext(installed, release_table.get("8.4.0"), UpgradeOptions())
    assert [target["name"] for target in certificate_step._targets(TARGETS, context)] == names
    assert [target["name"] for target in certificate_step._targets(TARGETS, None)] == [
        target.name for target in TARGETS
    ]
