# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that only tables name releases. Other code asks a property of a row, so that a new release keeps every guard."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.ci.venvs import REPOSITORY

MODULE_UTILS = REPOSITORY / "plugins" / "module_utils"
# The tables: releases, sets of CRDs, flags, sums, and the permissions of the controllers.
TABLES = {
    "_snapshot/release/release_table.py",
    "_snapshot/release/crd_sets.py",
    "_snapshot/release/flags.py",
    "_snapshot/release/checksums.py",
    "_snapshot/installed/parse_objects.py",
}
RELEASE = re.compile(r"v?\d+\.\d+(\.\d+)?")
NO_VERSION = (0, 0, 0)
FILES = [
    path
    for room in ("_snapshot", "_upgrade")
    for path in sorted((MODULE_UTILS / room).rglob("*.py"))
    if str(path.relative_to(MODULE_UTILS)) not in TABLES
]


def releases_in(source: str) -> Iterator[str]:
    """Yield each text and each tuple of three numbers that is a release, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RELEASE.fullmatch(node.value):
            yield f"line {node.lineno}: {node.value!r}"
        if isinstance(node, ast.Tuple) and len(node.elts) == len(NO_VERSION):
            numbers = tuple(element.value for element in node.elts if isinstance(element, ast.Constant))
            if (
                len(numbers) == len(NO_VERSION)
                and numbers != NO_VERSION
                and {type(number) for number in numbers} == {int}
            ):
                yield f"line {node.lineno}: {numbers}"


def comparisons_in(source: str) -> Iterator[str]:
    """Yield each comparison of versions by rank, with its line. Only release_table.is_at_least compares them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(operator, RANKING) for operator in node.ops):
            names = {name for side in (node.left, *node.comparators) for name in names_in(side)}
            if any(VERSION.fullmatch(name) for name in names):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def names_in(node: ast.expr) -> Iterator[str]:
    """Yield the name of an operand, of each alternative for an operand with "or"."""
    for part in node.values if isinstance(node, ast.BoolOp) else [node]:
        if isinstance(part, (ast.Name, ast.Attribute)):
            yield part.attr if isinstance(part, ast.Attribute) else part.id


RANKING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
VERSION = re.compile(r"version|release|kubernetes|OLDEST|NEWEST|\w+(_SINCE|_version|_VERSION)")

RANK_TABLE = "_snapshot/release/release_table.py"


@pytest.mark.parametrize("room", ["_snapshot", "_upgrade", "_operations"])
def test_one_function_compares_versions(room: str) -> None:
    files = (path for path in sorted((MODULE_UTILS / room).rglob("*.py")))
    found = {str(path.relative_to(MODULE_UTILS)): list(comparisons_in(path.read_text())) for path in files}
    assert {name: lines for name, lines in found.items() if lines and name != RANK_TABLE} == {}
    assert room != "_snapshot" or len(found[RANK_TABLE]) == 1


def test_the_check_finds_comparisons() -> None:
    source = "a = release.version >= CLASSES_SINCE\nb = version == other\nc = (one.version or NONE) < two\nd = 1 < number"
    assert list(comparisons_in(source)) == [
        "line 1: release.version >= CLASSES_SINCE",
        "line 3: (one.version or NONE) < two",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MODULE_UTILS)))
def test_only_tables_name_releases(path: Path) -> None:
    assert list(releases_in(path.read_text())) == []


def test_the_check_finds_releases() -> None:
    source = 'a = release.group_crds == "8.6"\nb = context.passes_version((8, 0, 0))\nc = version > (0, 0, 0) or "v1beta1"'
    assert list(releases_in(source)) == ["line 1: '8.6'", "line 2: (8, 0, 0)"]
