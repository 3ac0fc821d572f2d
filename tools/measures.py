# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print how large the collection is, before and after: `python3 -m tools.ci.enter dev -m tools.measures BEFORE AFTER`.

BEFORE and AFTER are directories or git revisions. AFTER is the working tree by default.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from tools.ci.venvs import REPOSITORY

COLLECTION = "ansible_collections.certflow.kubernetes."
#: Tokens that make no line of code.
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_PAGES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
#: Fragments of documentation that are not counted: the options of the connection.
_CONNECTION = {"certflow.kubernetes._auth"}
#: A variable of the playbooks in the first column of its table.
_VARIABLE = re.compile(r'^ +"``(certflow_\w+)``', re.MULTILINE)


def code_lines(root: Path) -> int:
    """Return the lines of code in plugins, without blanks, comments, docstrings and pages of modules."""
    return sum(_code_lines(path.read_text()) for path in _plugins(root))


def statements(root: Path) -> int:
    """Return the statements (nodes of ast.stmt) in plugins, without docstrings and other strings on their own."""
    nodes = (node for path in _plugins(root) for node in ast.walk(ast.parse(path.read_text())))
    return sum(isinstance(node, ast.stmt) and not _is_string(node) for node in nodes)


def _is_string(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _code_lines(text: str) -> int:
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            lines -= _span(node.body[0]) if ast.get_docstring(node) is not None else set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and _names(node) & _PAGES:
            lines -= _span(node)
    return len(lines)


def _span(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _names(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}


def _plugins(root: Path) -> list[Path]:
    return sorted((root / "plugins").rglob("*.py"))


def plugin_files(root: Path) -> int:
    """Return the number of Python files in plugins."""
    return len(_plugins(root))


def circles(root: Path) -> int:
    """Return the number of folders of plugins that must be taken out until no folder imports itself through others."""
    graph: dict[str, set[str]] = {}
    for path in _plugins(root):
        folder = _folder(path.with_suffix(""), root)
        graph.setdefault(folder, set()).update(_imported_folders(path, root) - {folder})
    count = 0
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            graph.pop(error.args[1][0])
            count += 1
        else:
            return count


def _imported_folders(path: Path, root: Path) -> set[str]:
    package = path.relative_to(root).parent.parts
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module))).removeprefix(COLLECTION)
            modules |= {f"{module}.{alias.name}" for alias in node.names}
    places = [root / module.replace(".", "/") for module in modules if module.startswith("plugins.")]
    return {_folder(place, root) for place in places}


def _folder(place: Path, root: Path) -> str:
    """Return the folder that an import leads to. place: a folder, a module, or a name of a module. A room may be a single file."""
    module = place if place.is_dir() or place.with_suffix(".py").exists() else place.parent
    is_room = module.is_dir() or module.parent.parent == root / "plugins"
    return str((module if is_room else module.parent).relative_to(root))


def step_keys(root: Path) -> int:
    """Return the number of places that read a parameter of an upgrade's step by a string."""
    rooms = ("_snapshot", "_upgrade")
    paths = [path for room in rooms for path in (root / "plugins" / "module_utils" / room).rglob("*.py")]
    functions = (
        node
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    return sum(len(list(_step_keys(function))) for function in functions)


def _step_keys(function: ast.FunctionDef) -> Iterator[ast.AST]:
    holders = {"parameters"} | {
        name
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".parameters")
        for name in _names(node)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Subscript):
            holder, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            holder, key = node.func.value, node.args[0]
        else:
            continue
        if isinstance(key, ast.Constant) and ast.unparse(holder).rpartition(".")[2] in holders:
            yield node


def codes(root: Path) -> int:
    """Return the number of failure codes."""
    tree = ast.parse(next((root / "plugins" / "module_utils").rglob("*codes.py")).read_text())
    tables = [node.value for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))]
    return max(len(table.keys) for table in tables if isinstance(table, ast.Dict))


def options(module: str) -> Callable[[Path], int]:
    """Return the function that counts the options of a module, with suboptions and without the connection."""

    def count(root: Path) -> int:
        page = _page(root / "plugins" / "modules" / f"{module}.py")
        fragments = [name for name in page["extends_documentation_fragment"] if name not in _CONNECTION]
        files = dict.fromkeys(f"{name.split('.')[2]}.py" for name in fragments)
        places = [root / "plugins" / "doc_fragments" / name for name in files]
        return sum(_options(part.get("options", {})) for part in (page, *map(_page, places)))

    return count


def _page(path: Path) -> dict[str, Any]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and "DOCUMENTATION" in _names(node):
            page: dict[str, Any] = yaml.safe_load(ast.literal_eval(node.value))
            return page
    raise ValueError(f"{path} has no DOCUMENTATION")


def _options(rows: Mapping[str, Any]) -> int:
    return sum(1 + _options(row.get("suboptions") or {}) for row in rows.values())


def variables(root: Path) -> int:
    """Return the number of variables of the playbooks that begin with certflow_."""
    page = root / "docs" / "docsite" / "rst" / "reference_playbook_variables.rst"
    return len(set(_VARIABLE.findall(page.read_text())))


def other_lines(root: Path) -> int:
    """Return the lines of all other text files of the repository."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True
    ).stdout.decode()
    paths = [root / name for name in names.split("\0") if name and not name.startswith("plugins/")]
    return sum(path.read_bytes().count(b"\n") for path in paths if _is_text(path))


def _is_text(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.suffix != ".png"


MEASURES: Mapping[str, Callable[[Path], int]] = {
    "statements in plugins": statements,
    "lines of code in plugins": code_lines,
    "Python files in plugins": plugin_files,
    "circles between folders of plugins": circles,
    "string keys of steps": step_keys,
    "failure codes": codes,
    "options of snapshot_controller, connection not counted": options("snapshot_controller"),
    "options of k8s_csr, connection not counted": options("k8s_csr"),
    "certflow_* variables": variables,
    "lines in the rest of the repository": other_lines,
}


def measure(tree: str) -> dict[str, int]:
    """Return all measures of a directory or a git revision."""
    if Path(tree).is_dir():
        return {name: function(Path(tree)) for name, function in MEASURES.items()}
    command = ["git", "archive", "--format=tar", tree]
    archive = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        for arguments in (["init", "--quiet"], ["add", "--all", "--force"]):
            subprocess.run(["git", *arguments], cwd=folder, check=True)
        return measure(folder)


def main(arguments: list[str]) -> None:
    """Print a table."""
    if len(arguments) not in (1, 2):
        sys.exit("usage: measures BEFORE [AFTER]")
    before, after = measure(arguments[0]), measure((*arguments, str(REPOSITORY))[1])
    width = max(map(len, MEASURES))
    print(f"{'':{width}}  {'before':>7}  {'after':>7}  {'change':>7}")
    for name in MEASURES:
        print(f"{name:{width}}  {before[name]:7}  {after[name]:7}  {after[name] - before[name]:+7}")


if __name__ == "__main__":
    main(sys.argv[1:])
