# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection imports from ansible-core only what the next releases keep.

ansible-core marks code that it will deprecate by a comment "# deprecated: ...", and deprecated code by a call of deprecate().
A name for an older core is imported in an `except ImportError`, which the newest core does not reach.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ansible.module_utils.secrets", reason="this core is older than 2.22")

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
# At the beginning of a line in the first lines of a module. A mark further down is of a part of the module.
MARK = re.compile(r"^(# deprecated:|_?(Display\(\)\.)?deprecated?\()", re.MULTILINE)
HEAD_LINES = 40


def imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each import from ansible-core, "" for a whole module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and (child.module or "").partition(".")[0] == "ansible":
            yield from ((child.module or "", alias.name) for alias in child.names)
        elif isinstance(child, ast.Import):
            names = (alias.name for alias in child.names)
            yield from ((name, "") for name in names if name.partition(".")[0] == "ansible")
        elif not isinstance(child, ast.ExceptHandler):
            yield from imports(child)


def is_deprecated(module: Any, name: str) -> bool:
    """Return True if the module is marked, or if the named function always calls deprecate()."""
    head = "\n".join(inspect.getsource(module).splitlines()[:HEAD_LINES])
    value = getattr(module, name) if name else None
    if MARK.search(head) or not inspect.isfunction(value):
        return bool(MARK.search(head))
    function = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(function, ast.FunctionDef)
    calls = (
        step.value.func
        for step in function.body
        if isinstance(step, ast.Expr) and isinstance(step.value, ast.Call)
    )
    return any(re.search(r"deprecated?$", ast.unparse(called)) for called in calls)


IMPORTS = sorted({pair for path in PLUGINS.rglob("*.py") for pair in imports(ast.parse(path.read_text()))})


@pytest.mark.parametrize(("module", "name"), IMPORTS)
def test_an_import_has_no_mark_of_deprecation(module: str, name: str) -> None:
    assert not is_deprecated(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ansible.module_utils.common.parameters", "remove_values"),  # deprecated
        ("ansible.utils.unsafe_proxy", "wrap_var"),  # will be deprecated
    ],
)
def test_a_mark_is_seen(module: str, name: str) -> None:
    assert is_deprecated(importlib.import_module(module), name)
