# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that no code reads a step of an upgrade by strings. A step has an action, which is a class with typed fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.ci.venvs import REPOSITORY

MODULE_UTILS = REPOSITORY / "plugins" / "module_utils"
FILES = [path for room in ("_snapshot", "_upgrade") for path in sorted((MODULE_UTILS / room).rglob("*.py"))]
# Variables and fields that hold a step, an action, or its parameters.
HOLDERS = {"action", "parameters", "step"}


def keys_in(source: str) -> Iterator[str]:
    """Yield each place that reads a step or its parameters by a string, with its line."""
    for node in ast.walk(ast.parse(source)):
        if any(holds(read) and any(map(has_text, keys)) for read, keys in reads(node)):
            yield f"line {node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]


def reads(node: ast.AST) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    """Yield what the expression reads, and the keys."""
    if isinstance(node, ast.Subscript):
        yield node.value, [node.slice]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop")
    ):
        yield node.func.value, node.args[:1]
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        yield from ((side, sides) for side in sides)


def has_text(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def holds(node: ast.AST) -> bool:
    """Return True for a step, an action or its parameters, also the result of a call: step.action.parameters()."""
    if isinstance(node, ast.Call):
        return holds(node.func)
    return (
        node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    ) in HOLDERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(MODULE_UTILS)))
def test_no_step_is_read_by_strings(path: Path) -> None:
    assert list(keys_in(path.read_text())) == []


def test_the_check_finds_keys() -> None:
    source = """
step.parameters["crd"]
step.action.parameters()["crd"]
parameters.get("release")
step.action == "apply"
step.action in ("apply", "delete")
"labels" in parameters
step.action.crd == crd
metadata["name"]
"""
    assert [line.partition(":")[0] for line in keys_in(source)] == [
        f"line {number}" for number in range(2, 8)
    ]
