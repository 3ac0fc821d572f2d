# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that plugins/ has no code that is folded into one statement.

Only forms that a program can see without doubt have a row here. A reviewer judges the rest.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tools.ci.venvs import REPOSITORY

PLUGINS = REPOSITORY / "plugins"
#: The builtin types whose empty value has a literal.
_BUILTINS = {"dict", "list", "set", "tuple"}


def is_nested_conditional(node: ast.AST) -> bool:
    """`a if b else c if d else e`: write if, elif and else."""
    return isinstance(node, ast.IfExp) and any(
        isinstance(part, ast.IfExp) for part in (node.test, node.body, node.orelse)
    )


def is_long_conditional(node: ast.AST) -> bool:
    """A conditional expression of four lines or more: write if and else."""
    return isinstance(node, ast.IfExp) and (node.end_lineno or node.lineno) - node.lineno >= 3


def is_call_of_conditional(node: ast.AST) -> bool:
    """`(f if a else g)(b)`: write two calls."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.IfExp)


def is_sum_of_conditional(node: ast.AST) -> bool:
    """`lines += [a] if b else []`: write `if b: lines.append(a)`."""
    return (
        isinstance(node, ast.AugAssign) and isinstance(node.value, ast.IfExp) and _is_empty(node.value.orelse)
    )


def _is_empty(node: ast.expr) -> bool:
    if isinstance(node, ast.Dict):
        return not node.keys
    return isinstance(node, (ast.List, ast.Tuple)) and not node.elts


def is_typed_call(node: ast.AST) -> bool:
    """`list[str]()`: annotate the variable."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)):
        return False
    return isinstance(node.func.value, ast.Name) and node.func.value.id in _BUILTINS


def is_tuple_of_attributes(node: ast.AST) -> bool:
    """`self.a, self.b = c, d`: write one line for each, because their order must be seen."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
        return False
    targets = [part for target in node.targets if isinstance(target, ast.Tuple) for part in target.elts]
    return any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in targets)


def is_product_of_truth(node: ast.AST) -> bool:
    """`"text" * (a > b)`: write a condition."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
        return False
    return any(
        isinstance(part, ast.Compare) or (isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not))
        for part in (node.left, node.right)
    )


#: Files that are rewritten at the moment. They leave this list with the next change.
_TO_UNFOLD = {"hop.py", "rollout_report.py", "stored.py", "webhook_rollout.py"}
FORMS = (
    is_nested_conditional,
    is_long_conditional,
    is_call_of_conditional,
    is_sum_of_conditional,
    is_typed_call,
    is_tuple_of_attributes,
    is_product_of_truth,
)
#: A line of each form, which shows that its test can fail.
FOLDED = {
    "is_nested_conditional": "x = a if b else c if d else e",
    "is_long_conditional": "x = (\n a\n if b\n else\n c\n)",
    "is_call_of_conditional": "(f if a else g)(b)",
    "is_sum_of_conditional": "lines += [a] if b else []",
    "is_typed_call": "x = list[str]()",
    "is_tuple_of_attributes": "self.a, self.b = c, d",
    "is_product_of_truth": "x = 'text' * (a > b)",
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_plugins_have_no_folded_code(form: Callable[[ast.AST], bool]) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}"
        for path in sorted(PLUGINS.rglob("*.py"))
        if path.name not in _TO_UNFOLD
        for node in ast.walk(ast.parse(path.read_text()))
        if form(node)
    ]
    assert found == [], form.__doc__


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_form_is_seen(form: Callable[[ast.AST], bool]) -> None:
    assert any(map(form, ast.walk(ast.parse(FOLDED[form.__name__]))))
