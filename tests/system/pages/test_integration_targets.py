# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run integration targets as a contributor does who has one cluster and no Amazon EKS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.ci import integrate, tree

if TYPE_CHECKING:
    from tests.support.clusters import Fleet

TARGETS = ("playbook_certificates",)


@pytest.mark.full
def test_targets_pass_without_an_eks_cluster(fleet: Fleet) -> None:
    """The template of the configuration allows an empty integration_eks_context."""
    collection = tree.copy(
        "integration-without-eks",
        lambda name: tree.shipped(name) or name == "galaxy.yml" or name.startswith("tests/integration/"),
    )
    values = {**integrate.configuration(fleet, ""), "integration_eks_context": ""}
    assert integrate.run(collection, TARGETS, values) == 0
