# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each row of the table of checks is as the reference page shows it, its sources and severity included."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks import check_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.check_row import Check

pytestmark = pytest.mark.quick

PAGE = (Path(__file__).parents[6] / "docs/docsite/rst/reference_audit.rst").read_text()
SECTIONS = {
    part.partition(":")[0]: part
    for part in PAGE.split(".. _ansible_collections.certflow.kubernetes.docsite.audit.")
}


@pytest.mark.parametrize("row", check_table.CHECKS, ids=lambda row: row.id)
def test_a_row_is_that_of_its_page(row: Check) -> None:
    section = SECTIONS[row.id.replace("-", "_")]
    assert f"{row.title}. Severity: {row.severity}." in section
    links = section.partition("* **Sources.** ")[2].splitlines()[0]
    assert [link.strip("`").partition(" <")[0] for link in links.split("; ")] == row.source.split("; ")
    plain = section.replace("``", "").replace("\\", "")
    assert all(text.replace("\\", "") in plain for text in (row.effect, row.remedy))
