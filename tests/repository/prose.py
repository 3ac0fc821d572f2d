# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the prose of the repository: comments, docstrings, messages, documentation, task names, Markdown.

Code and quoted API text are left out.
"""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

#: Values of these YAML keys are prose.
PROSE_KEYS = {
    "description",
    "details",
    "fail_msg",
    "msg",
    "name",
    "notes",
    "short_description",
    "success_msg",
    "why",
}
#: Files in which "#" begins a comment.
HASH_COMMENTS = {".cfg", ".sh", ".template", ".toml"}
#: Folders of plugins whose constants in capital letters are YAML: documentation, examples, results.
DOCUMENTED = ("plugins/modules/", "plugins/doc_fragments/", "plugins/inventory/", "plugins/lookup/")

_CODE = re.compile(r"``[^`]+``|`[^`]+`|\{\{.*?\}\}|\b[A-Z]{1,3}\([^)]*\)|https?://[^\s)|]+", re.DOTALL)
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r":\w+:`([^`<]+?)(?: <[^>]*>)?`|`([^`<]+?) <[^>]+>`__?", re.DOTALL)
_NEW_BLOCK = re.compile(r"\s*([-*+] |\d+\. |#|>|\||<|$)")


@dataclass(frozen=True)
class Block:
    """A paragraph of prose."""

    #: Path relative to the repository.
    path: str
    #: Number of its first line in the file.
    line: int
    #: Text, with its line breaks. Inline code is replaced by "CODE".
    text: str
    #: Source of the text: "comment", "docstring", "message", "page", "test name", "yaml".
    kind: str


def files() -> Iterator[Path]:
    """Yield every file of the repository that may hold prose."""
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__pycache__")
        yield from (Path(folder) / name for name in sorted(names) if name[0] != ".")


def blocks() -> Iterator[Block]:
    """Yield all prose of the repository, file by file."""
    for path in files():
        yield from blocks_of(path)


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the prose of one file."""
    name = str(path.relative_to(REPOSITORY))
    if path.suffix == ".py":
        yield from of_python(name, path.read_text())
    elif path.suffix in {".yml", ".yaml", ".j2"}:
        yield from of_yaml(name, path.read_text())
    elif path.suffix == ".md":
        yield from of_page(name, path.read_text())
    elif path.suffix == ".rst":
        yield from of_guide(name, path.read_text())
    elif path.suffix == ".go":
        yield from of_comments(name, path.read_text(), "//")
    elif path.suffix in HASH_COMMENTS or path.name in {"Makefile", "aliases"}:
        yield from of_comments(name, path.read_text(), "#")


def without_code(text: str) -> str:
    """Return a text with inline code and addresses replaced by one word. Its line breaks stay."""
    return _CODE.sub(lambda match: "CODE" + "\n" * match[0].count("\n"), text)


def of_python(path: str, source: str) -> Iterator[Block]:
    """Yield comments, docstrings, names of tests, and in plugins the documentation and the messages."""
    tree = ast.parse(source)
    yield from _comments(path, source)
    known: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and _text(first.value):
                known.add(id(first.value))
                yield from _paragraphs(path, first.lineno, _text(first.value), "docstring")
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield Block(path, node.lineno, node.name.replace("_", " "), "test name")
        if path.startswith(DOCUMENTED) and isinstance(node, ast.Assign) and _is_documentation(node):
            known.add(id(node.value))
            yield from of_yaml(path, _text(node.value), node.lineno - 1)
    if path.startswith("plugins/"):
        for node in ast.walk(tree):
            if " " in _text(node) and id(node) not in known:
                yield Block(path, getattr(node, "lineno", 1), without_code(_text(node)), "message")


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_documentation(node: ast.Assign) -> bool:
    return (
        isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper() and "\n" in _text(node.value)
    )


def _comments(path: str, source: str) -> Iterator[Block]:
    """Yield comments. Comments of consecutive lines are one block."""
    lines: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != first + len(lines):
            yield Block(path, first, without_code("\n".join(lines)), "comment")
            lines = []
        if not lines:
            first = token.start[0]
        lines.append(token.string.lstrip("#: "))
    if lines:
        yield Block(path, first, without_code("\n".join(lines)), "comment")


def _paragraphs(path: str, line: int, text: str, kind: str) -> Iterator[Block]:
    """Yield the paragraphs, list items and table cells of a text. line: number of its first line."""
    lines: list[str] = []
    first = line
    for number, content in enumerate([*without_code(text).splitlines(), ""], line):
        if lines and _NEW_BLOCK.match(content):
            yield Block(path, first, "\n".join(lines), kind)
            lines = []
        if content.lstrip().startswith("|"):
            yield from (
                Block(path, number, cell.strip(), kind) for cell in content.split("|") if cell.strip(" -:")
            )
        elif content.strip():
            first = first if lines else number
            lines.append(content.strip())


def of_yaml(path: str, source: str, before: int = 0) -> Iterator[Block]:
    """Yield the comments of a YAML document and the values of keys that hold prose.

    before: number of lines above the document in its file.
    """
    kind = "page" if before else "yaml"
    yield from of_comments(path, source, "#", before)
    try:
        roots = list(yaml.compose_all(source, Loader=yaml.SafeLoader))
    except yaml.YAMLError:  # a template
        return
    for root in roots:
        yield from _values(path, root, before, kind)


def _values(path: str, node: object, before: int, kind: str) -> Iterator[Block]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _values(path, item, before, kind)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in PROSE_KEYS:
                yield from _prose(path, value, before, kind, _is_boolean(node))
            else:
                yield from _values(path, value, before, kind)


def _is_boolean(node: yaml.MappingNode) -> bool:
    return any(key.value == "type" and value.value == "bool" for key, value in node.value)


def _prose(path: str, node: object, before: int, kind: str, boolean: bool) -> Iterator[Block]:
    """Yield the text of a value, or of each item of a list. The description of a boolean may begin "Whether"."""
    if isinstance(node, yaml.ScalarNode):
        line = node.start_mark.line + 1 + before
        text = without_code(node.value)
        yield Block(path, line, re.sub("^Whether ", "", text) if boolean else text, kind)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _prose(path, item, before, kind, boolean)
    elif isinstance(node, yaml.MappingNode):
        yield from _values(path, node, before, kind)


def of_comments(path: str, source: str, mark: str, before: int = 0) -> Iterator[Block]:
    """Yield the comments that begin with a mark. Comments of consecutive lines are one block."""
    lines: list[str] = []
    for number, content in enumerate([*source.splitlines(), ""], 1 + before):
        found = re.search(rf"(?:^|\s){re.escape(mark)}+:?\s+(.*)$", content)
        if lines and not (found and content[: found.start()].strip() == ""):
            yield Block(path, number - len(lines), without_code("\n".join(lines)), "comment")
            lines = []
        if found:
            lines.append(found[1])
            if content[: found.start()].strip():  # behind code: not a part of the next comment
                yield Block(path, number, without_code(found[1]), "comment")
                lines = []


def of_page(path: str, source: str) -> Iterator[Block]:
    """Yield the paragraphs of a page without its code blocks and without comments that are not shown."""
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), source)
    text = re.sub(r"<!--.*?-->|<[^>\n]+>", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    text = re.sub(r"(!?)\[([^\]]*)\]\([^)]*\)", r"\2", text)
    yield from _paragraphs(path, 1, text, "page")


def of_guide(path: str, source: str) -> Iterator[Block]:
    """Yield the paragraphs and table cells of a page in reStructuredText, without code blocks, comments and labels."""
    lines = source.splitlines()
    prose: list[str] = []
    # The end of the block that is left out is the next line that is indented less.
    hidden = 0
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip())
        if hidden and (not line.strip() or indent >= hidden):
            prose.append("")
            continue
        hidden = 0
        if re.match(r" *\.\.($| _| (?!csv-table|note|warning|seealso))", line) or re.match(
            r"([=^~-])\1+$", line
        ):
            hidden = indent + 1 if line.lstrip().startswith("..") else 0
            prose.append("")
        elif line.startswith('   "'):
            prose.append("")
            for cell in next(csv.reader([line.strip()]), []):
                yield Block(path, number, without_code(_plain(cell)), "page")
        else:
            prose.append("" if re.match(r" *(\.\.|:[\w-]+:)", line) else line)
    yield from _paragraphs(path, 1, _plain("\n".join(prose)), "page")


def _plain(text: str) -> str:
    """Return a text with links and references as their titles, and without escapes."""
    return re.sub(r"\\(.)", r"\1", _LINK.sub(lambda match: match[1] or match[2], text))
