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
        if isinstance(node, ast.Subscript) and is_text(node.slice) and holds(node.value):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("get", "pop")
        ):
            if holds(node.func.value) and node.args and is_text(node.args[0]):
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Compare) and any(map(holds, (node.left, *node.comparators))):
            if any(is_text(part) for side in (node.left, *node.comparators) for part in ast.walk(side)):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


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
