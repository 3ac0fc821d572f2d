# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that no variable has a name that does not tell its content."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.ci.tree import listed_files
from tools.ci.venvs import REPOSITORY

#: A local variable is the noun of its content.
FORBIDDEN = ("one", "some", "back")
FILES = [name for name in listed_files() if name.endswith(".py")]


def forbidden_names(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each parameter and each new variable with a forbidden name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.arg) and node.arg in FORBIDDEN:
            yield node.lineno, node.arg
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in FORBIDDEN:
            yield node.lineno, node.id


def test_a_variable_is_the_noun_of_its_content() -> None:
    assert [
        f"{name}:{line}: {variable}"
        for name in FILES
        for line, variable in forbidden_names(Path(REPOSITORY, name).read_text())
    ] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one = 1", 1),
        ("one, some = 1, 2", 2),
        ("[one for one in rows]", 1),
        ("for back in rows: pass", 1),
        ("def name(one, *, some=1): pass", 2),
        ("sorted(rows, key=lambda one: one.id)", 1),
        ("world.one(shape)", 0),
        ("dict(one=1)['one']", 0),
    ],
)
def test_what_counts_as_a_variable(text: str, count: int) -> None:
    assert len(list(forbidden_names(text))) == count
