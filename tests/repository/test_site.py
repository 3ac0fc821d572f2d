# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of the site's build that are not those of antsibull-docs and sphinx."""

from __future__ import annotations

import zlib

from tools.ci import site
from tools.ci.venvs import REPOSITORY

INDEX = """\
Certflow.Kubernetes
===================

.. toctree::
    :maxdepth: 1

Reference
---------

.. toctree::
    :maxdepth: 1

    docsite/reference_hazards

Modules
~~~~~~~

.. toctree::
    :maxdepth: 1
    :hidden:

    k8s_csr_module
"""


def test_the_side_bar_has_captions_and_short_names() -> None:
    lines = site.with_captions(INDEX).splitlines()
    assert lines[:4] == ["certflow.kubernetes", "===================", "", ".. toctree::"]
    assert [line.strip() for line in lines if ":caption:" in line] == [
        ":caption: Reference",
        ":caption: Modules",
    ]
    assert lines.index("    :caption: Reference") == lines.index("---------") + 3
    assert "    docsite/reference_hazards" in lines
    assert "    k8s_csr <k8s_csr_module>" in lines


def test_the_questions_of_readers_come_first() -> None:
    landing = "Questions\n---------\n\ntext\n\n"
    page = site.with_landing(INDEX, landing)
    assert page.index("Questions") < page.index("Reference\n---")
    assert page.replace(landing, "", 1) == INDEX
    assert (REPOSITORY / "tools" / "docs" / "sphinx" / "landing.rst").read_text().count('   "**') == 5


def test_a_search_for_stuck_finds_the_page_that_explains_it() -> None:
    """Sphinx ranks titles first."""
    titles = {
        path.stem: next(line for line in path.read_text().splitlines() if line and line[0].isalpha())
        for path in (REPOSITORY / "docs" / "docsite" / "rst").glob("*.rst")
    }
    assert [name for name, title in titles.items() if "stuck" in title] == ["reference_diagnosis"]


def test_an_inventory_has_a_line_for_each_target() -> None:
    content = site.inventory({("label", "a_b"): ("a.html#a-b", "A b"), ("envvar", "C"): ("c.html", "-")})
    head, _mark, body = content.partition(b"using zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2\n")
    assert zlib.decompress(body).decode() == "a_b std:label -1 a.html#a-b A b\nC std:envvar -1 c.html -\n"
