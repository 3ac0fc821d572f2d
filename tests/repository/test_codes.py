# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that the table of failure codes and the code agree: every raised code has a row, and every row is
raised.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.codes import CODES

from tools.ci.venvs import REPOSITORY

PLUGINS = REPOSITORY / "plugins"
KEBAB_CASE = re.compile(r"[a-z]+(-[a-z]+)*")


# In a role or a playbook: `code: word`, also as the first text of an expression.
IN_YAML = re.compile(r"""[ {]code: (?:"\{\{ ')?([a-z]+(?:-[a-z]+)*)(?=$|[',}])""", re.MULTILINE)


@functools.cache
def raised() -> tuple[tuple[str, str], ...]:
    """Return each code of an error with its place: the default of an error class, the code of one raise, a code in YAML."""
    return tuple(_raised())


def _raised() -> Iterator[tuple[str, str]]:
    for folder in ("roles", "playbooks"):
        for path in sorted((REPOSITORY / folder).rglob("*.yml")):
            yield from (
                (code, str(path.relative_to(REPOSITORY))) for code in IN_YAML.findall(path.read_text())
            )
    for path in sorted((REPOSITORY / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ClassDef):
                yield from ((code, place) for code in _defaults(node))
            elif isinstance(node, ast.Call) and _is_error(node.func):
                yield from ((code, place) for code in _given(node))


def _defaults(node: ast.ClassDef) -> Iterator[str]:
    bases = [ast.unparse(base) for base in node.bases]
    if not any(base.endswith(("Error", "Failed", "Exception")) or base == "ApiError" for base in bases):
        return
    for entry in node.body:
        if isinstance(entry, ast.Assign) and ast.unparse(entry.targets[0]) == "code":
            yield ast.literal_eval(entry.value)


def _given(node: ast.Call) -> Iterator[str]:
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from (
                constant.value
                for constant in ast.walk(keyword.value)
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str) and constant.value
            )


def _is_error(function: ast.expr) -> bool:
    """Return True for the call of an error class. Other calls may have a parameter called code as well."""
    name = ast.unparse(function).rpartition(".")[2]
    return bool(
        re.search(
            r"(Error|Failed|Forbidden|NotFound|Expired|Conflict|Exists|UnprocessableObject|Missing\w+)$", name
        )
    )


def test_every_code_has_a_row() -> None:
    unknown = [f"{place}: {code}" for code, place in raised() if code not in CODES]
    assert not unknown, "add them to plugins/module_utils/_base/codes.py"


def test_every_row_is_raised() -> None:
    assert not set(CODES) - {code for code, _ in raised()}


def test_rows_are_sorted_and_in_kebab_case() -> None:
    assert list(CODES) == sorted(CODES)
    assert all(KEBAB_CASE.fullmatch(code) for code in CODES)


def remedies(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the beginning of each remedy that is written as a text."""
    for node in ast.walk(tree):
        value: ast.AST | None = None
        if isinstance(node, ast.keyword) and node.arg == "remedy":
            value = node.value
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            value = node.value if "remedy" in names else None
        for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
            first = part.values[0] if isinstance(part, ast.JoinedStr) else part
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value:
                yield first.lineno, first.value


def test_a_remedy_is_a_sentence_with_a_capital_and_without_a_full_stop() -> None:
    texts = [
        (f"{path.relative_to(PLUGINS)}:{line}", text)
        for path in PLUGINS.rglob("*.py")
        for line, text in remedies(ast.parse(path.read_text()))
    ]
    assert len(texts) > 100
    assert [place for place, text in texts if text[0].islower()] == []
