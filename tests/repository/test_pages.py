# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that generated pages agree with their tables."""

from __future__ import annotations

import re

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import signers
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis import causes
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.hazards import table

from tools.ci.venvs import REPOSITORY
from tools.docs import cause_pages, hazards, pages, ways_back


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_agrees_with_its_tables(name: str) -> None:
    assert (REPOSITORY / "docs" / name).read_text() == pages.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("name", pages.PAGES)
def test_every_link_inside_a_page_has_a_target(name: str) -> None:
    text = pages.PAGES[name]()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert links or name == "failure-codes.md"  # one table, no links
    assert [link for link in links if link not in anchors] == []
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_readme_links_the_page(name: str) -> None:
    assert f"docs/{name}" in (REPOSITORY / "README.md").read_text()


def test_the_table_of_ways_back_agrees_with_the_plans() -> None:
    told = ways_back.PAGE.part(ways_back.NAME)
    assert told.strip() == ways_back.ways_back().strip(), "run `make docs`"


def test_every_hazard_has_its_releases() -> None:
    assert list(hazards.BETWEEN) == [row.id for row in table.HAZARDS]


def test_every_cause_and_symptom_has_a_text() -> None:
    assert set(cause_pages.CAUSES) == {cause.code for cause in causes.CAUSES}
    assert set(cause_pages.SYMPTOMS) == {cause.symptom for cause in causes.CAUSES}


def test_every_signer_with_a_table_of_refusals_has_a_source() -> None:
    refusing = {
        name for name, row in signers.SIGNERS.items() if name.startswith("kubernetes.io/") and row.rules
    }
    assert set(cause_pages.SIGNER_SOURCES) == refusing
