# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of results are measured on one commit, each part once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import evidence
from tools.ci import process
from tools.docs import rst, written

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_page_has_a_place_for_its_commit() -> None:
    pages = {part.page for part in evidence.PARTS if part.page}
    assert len(pages) == 3
    for page in pages:
        assert page.path.read_text().count(".. measured: written by make evidence") == 1, page.path.name


def test_a_page_names_the_commit_of_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped continues. A failed part runs again, and another text of a table takes the commit away."""
    path, done, codes, ran = tmp_path / "page.rst", tmp_path / "done", {"tests.b": 1}, []
    path.write_text(
        "Page\n\n.. measured: written by make evidence\n\n.. end\n\n.. rows: written by make x\n\n.. end\n\nlast\n"
    )
    page = written.Page(path, "make x")
    page.write("rows", rst.table(("Row",), [["one"]]))
    parts = tuple(evidence.Part(name, ("dev", f"tests.{name}"), page) for name in ("a", "b"))

    def run(command: list[str], *_rest: object) -> int:
        ran.append(command[-1])
        return codes.get(command[-1], 0)

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(evidence, "REPOSITORY", tmp_path)
    assert evidence.measure(parts, done) == ["b"]
    evidence.name_commit("0123456789ab", done, parts)
    assert "commit" not in path.read_text()
    codes.clear()
    assert evidence.measure(parts, done) == []
    assert sorted(ran) == ["tests.a", "tests.b", "tests.b"]
    evidence.name_commit("0123456789ab", done, parts)
    assert "on commit ``01234567``" in path.read_text()
    page.write("rows", rst.table(("Row",), [["one"]]))
    assert "on commit ``01234567``" in path.read_text(), "the same text"
    page.write("rows", rst.table(("Row",), [["two"]]))
    assert "commit" not in path.read_text()
    assert path.read_text().endswith("\n\nlast\n")


def test_words_select_parts_by_the_begin_of_a_name_or_of_its_rest() -> None:
    names = ("audit-matrix", "power: the audit alarms", "reliability: crashes: k8s_csr: new", "years: seed 1")
    parts = [evidence.Part(name, ("dev",)) for name in names]
    for words, chosen in (
        ((), names),
        (("audit",), names[:1]),
        (("crashes", "seed 1"), names[2:]),
        (("csr", "alarms"), ()),
    ):
        assert [part.name for part in evidence.select(parts, words)] == list(chosen)


def test_only_a_committed_tree_is_measured() -> None:
    status = " M docs/docsite/rst/reference_upgrades.rst\n M plugins/a.py\n?? benchmarks/results.json"
    assert evidence.other_changes(status) == ["plugins/a.py"]
