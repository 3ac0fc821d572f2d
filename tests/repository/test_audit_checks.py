# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that each check of an audit is produced on a real cluster, by a row of the matrix or by a test."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table

from tests.system.audit_matrix.table import ROWS
from tools.ci.venvs import REPOSITORY

FILES = (
    "system/test_audit.py",
    "system/test_audit_calls.py",
    "system/test_audit_node.py",
    "system/test_audit_settings.py",
    "system/test_cluster_ca.py",
    "system/test_kubernetes_releases.py",
    "system/test_snapshot_plan.py",
)
IN_MATRIX = {text.partition(":")[0] for row in ROWS for text in row.says.split("; ")}


@pytest.mark.parametrize("check", list(check_table.BY_ID))
def test_a_check_is_produced(check: str) -> None:
    texts = [(REPOSITORY / "tests" / name).read_text() for name in FILES]
    assert check in IN_MATRIX or any(f'"{check}"' in text for text in texts)
