# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that tests find failures by codes, ids and names, so that sentences may change."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

import pytest

from tools.ci.venvs import REPOSITORY

TESTS = REPOSITORY / "tests"

#: Tests whose subject is a sentence: a file, or one function of it, and the reason.
OF_SENTENCES: dict[str, str] = {
    "unit/plugins/module_utils/_diagnosis/test_diagnose.py": "diagnoses in words; its tables find causes by code",
    "unit/plugins/module_utils/_kube/test_answers.py": "the cleaning of an API server's answer",
    "unit/plugins/module_utils/_kube/login/test_credentials.py": "the cleaning of an exec plugin's output",
    "unit/plugins/module_utils/_ansible/test_operation.py": "the line of a failure",
    "unit/plugins/module_utils/_webhook/calls/test_call_failures.py": "the part of an API server's sentence that is shown",
    "unit/support/clusters/test_clusters_existing_programs.py": "complaints of the test rig, which have no codes",
    "unit/plugins/inventory/test_inventory_foreign_text.py": "the warning for a host name that was changed",
    "system/fleet/test_fleet.py::with_results": "Ansible's own statistics",
    "system/fleet/test_fleet_runs.py::results": "Ansible's own statistics",
    "system/permissions/test_permissions.py::assert_refused_by_dry_runs": "the API server's sentences",
    "system/upgrade/test_snapshot_stops.py::test_a_cluster_in_progress_is_never_left_between_two_releases": "a line of Ansible",
    "unit/plugins/module_utils/_download/test_source_auth.py": "the line of a refused download, without its credentials",
    "unit/plugins/module_utils/_snapshot/release/test_release_source.py": "the line of each failed download",
    "system/certificates/test_role.py::execution_modes": "lines that name the execution mode",
    "unit/plugins/module_utils/_audit/checks/test_cluster_checks.py::test_the_words_for_the_dates_of_the_certificate_of_the_api_server": "the predicate of a date",
}

#: Errors without codes: those of the test rig and of Python.
WITHOUT_CODES = {
    "AssertionError",
    "ClusterError",
    "PythonUnavailable",
    "Unavailable",
    "OSError",
    "ValueError",
}

#: Places of a failure's text: keys of a result, and attributes of an error or of a finished program.
KEYS = {"cause", "msg"}
ATTRIBUTES = {"cause", "output", "stderr"}
#: Variables that hold an error, and variables that hold a sentence.
ERRORS = {"caught", "error", "exc"}
SENTENCES = {"cause", "complaint", "line", "message", "sentence", "text", "word", "words"}


def is_text(node: ast.AST, texts: frozenset[str]) -> bool:
    """Return True if an expression reads the text of a failure. texts: variables that hold one."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in texts:
            return True
        if isinstance(part, ast.Attribute) and part.attr in ATTRIBUTES:
            return True
        if (
            isinstance(part, ast.Subscript)
            and isinstance(part.slice, ast.Constant)
            and part.slice.value in KEYS
        ):
            return True
        if isinstance(part, ast.Call) and _reads_text(part):
            return True
    return False


def _reads_text(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    if isinstance(call.func, ast.Attribute) and call.func.attr == "get":
        return isinstance(first, ast.Constant) and first.value in KEYS
    if isinstance(call.func, ast.Name) and call.func.id == "str" and first:
        return any(isinstance(part, ast.Name) and part.id in ERRORS for part in ast.walk(first))
    return False


def is_sentence(node: ast.AST) -> bool:
    """Return True for a text with white space, and for a variable that is named as a sentence."""
    if isinstance(node, ast.JoinedStr):
        return any(is_sentence(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and len(node.value.split()) > 1
    if isinstance(node, ast.IfExp):
        return is_sentence(node.body) or is_sentence(node.orelse)
    return isinstance(node, ast.Name) and node.id in SENTENCES


def searches(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions of a function that find a failure by a sentence."""
    texts = frozenset(
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and is_text(node.value, frozenset())
        for target in node.targets
        if isinstance(target, ast.Name)
    )
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _is_search(node, texts):
            yield node
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.Eq)):
            left, permission = node.left, node.comparators[0]
            if (is_text(permission, texts) and is_sentence(left)) or (
                isinstance(node.ops[0], ast.Eq) and is_text(left, texts) and is_sentence(permission)
            ):
                yield node


def _is_search(call: ast.Call, texts: frozenset[str]) -> bool:
    name = ast.unparse(call.func)
    if name == "pytest.raises":
        classes = {part.id for part in ast.walk(call.args[0]) if isinstance(part, ast.Name)}
        classes |= {part.attr for part in ast.walk(call.args[0]) if isinstance(part, ast.Attribute)}
        return not classes & WITHOUT_CODES and any(keyword.arg == "match" for keyword in call.keywords)
    if name.startswith("re.") and len(call.args) > 1:
        return is_text(call.args[1], texts) and is_sentence(call.args[0])
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("startswith", "endswith", "count"):
        return is_text(call.func.value, texts) and any(map(is_sentence, call.args))
    return False


@functools.cache
def found() -> tuple[tuple[str, int], ...]:
    """Return "file::function" and line of each search for a sentence in the tests."""
    return tuple(_found())


def _found() -> Iterator[tuple[str, int]]:
    for path in sorted(TESTS.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in (node for node in tree.body if not isinstance(node, ast.Import)):
            name = f"{path.relative_to(TESTS)}::{getattr(function, 'name', '')}"
            yield from ((name, getattr(node, "lineno", 0)) for node in searches(function))


def test_no_test_finds_a_failure_by_a_sentence() -> None:
    new = [
        f"tests/{name.partition('::')[0]}:{line}"
        for name, line in found()
        if name not in OF_SENTENCES and name.partition("::")[0] not in OF_SENTENCES
    ]
    assert not new, "use the code, an id, or a name in the text (tests/support/failures.py)"


def test_every_test_of_sentences_exists() -> None:
    names = {name for name, _line in found()}
    files = {name.partition("::")[0] for name in names}
    assert set(OF_SENTENCES) <= names | files


@pytest.mark.parametrize(
    "line",
    [
        'pytest.raises(TargetError, match="gone")',
        'assert "does not exist" in str(caught.value)',
        'assert "does not exist" in result["msg"]',
        'assert words in result["msg"]',
        'assert result["msg"].startswith("No cluster")',
        'assert result.get("msg") == "It is gone."',
        'assert f"{name} is gone" in run.output',
        'line = str(error)\nassert "it is gone" in line',
        'assert re.search("is gone", run.output)',
    ],
)
def test_a_search_for_a_sentence_is_found(line: str) -> None:
    assert list(searches(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        'pytest.raises(ClusterError, match="not laid out")',
        'assert "accept:" in result["msg"]',
        'assert f"{kind}/{name}" in str(caught.value)',
        'assert "a secret" not in result["msg"]',
        'assert result["code"] == "conflict"',
        'assert "two words" in result["csrs"]',
    ],
)
def test_codes_and_names_are_not_sentences(line: str) -> None:
    assert not list(searches(ast.parse(line)))
