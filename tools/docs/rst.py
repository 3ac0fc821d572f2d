# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write reStructuredText from the light markup of tables and generated pages.

The texts of tables use `code`, **strong**, [text](link) and <br>, as in Markdown. A generated page also uses headings, lists,
code blocks and tables. All of it becomes reStructuredText here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence

import jinja2

from tools.ci.venvs import REPOSITORY

#: Beginning of the labels that antsibull-docs allows in the guides of this collection.
LABELS = "ansible_collections.certflow.kubernetes.docsite."
#: Address of the repository's files.
FILES = "https://github.com/certflow/certflow.kubernetes/blob/main/"

#: Folder of the guides.
GUIDES = REPOSITORY / "docs" / "docsite" / "rst"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(REPOSITORY / "tools" / "docs" / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # A page is text.
)
_MARKUP = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<text>[^\]]+)\]\((?P<link>[^)\s]+)\)"
    r"|\*\*(?P<strong>[^*]+)\*\*"
    r"|(?<![\w*])\*(?P<emphasis>[A-Za-z][^*]*[\w.])\*(?![\w*])"
    r"|(?P<url>https?://[^\s;,)]+)"
)
_UNDERLINES = "=-^~"


def label(page: str, title: str = "") -> str:
    """Return the label of a page, or of a heading on it. page: name of the file without its kind and suffix."""
    heading = re.sub(r"[ -]+", "_", re.sub(r"[^\w\- ]", "", title.lower()))
    return f"{LABELS}{page}.{heading}" if heading else LABELS + page


def inline(text: str, page: str = "") -> str:
    """Return a text with light markup as reStructuredText. page: name of the page for links to its own headings.

    A link leads to an address, to "#heading" of the page, to "page" or "page#heading" of the guides, or to "/path" of the
    repository.
    """
    parts: list[str] = []
    end = 0
    for match in _MARKUP.finditer(text):
        parts.append(_escaped(text[end : match.start()]))
        # Inline markup ends before a blank or punctuation. An escaped blank separates it from a letter.
        before = "\\ " if re.search(r"\w\Z", text[: match.start()]) else ""
        after = "\\ " if re.match(r"\w", text[match.end() :]) else ""
        parts.append(f"{before}{_marked(match, page)}{after}")
        end = match.end()
    return "".join(parts) + _escaped(text[end:])


def _marked(match: re.Match[str], page: str) -> str:
    if match["code"]:
        return f"``{match['code']}``"
    if match["link"]:
        return link(match["text"], match["link"], page)
    if match["strong"]:
        return f"**{match['strong'].replace('`', '')}**"
    return match["url"] or f"*{match['emphasis']}*"


def link(text: str, target: str, page: str = "") -> str:
    """Return a link. Its text is plain, because a link cannot hold other markup."""
    plain = text.replace("`", "").replace("\\", "\\\\")
    if re.match(r"https?:", target):
        return f"`{plain} <{target}>`__"
    if target.startswith("/"):
        return f"`{plain} <{FILES}{target[1:]}>`__"
    guide, _hash, heading = target.partition("#")
    return f":ref:`{plain} <{label(guide or page, heading)}>`"


def linked(source: str) -> str:
    """Return a source with its issues as links. k/k is kubernetes/kubernetes."""
    full = re.sub(r"\bk/k\b", "kubernetes/kubernetes", source)
    return re.sub(r"([\w.-]+/[\w.-]+)#(\d+)", r"[\1#\2](https://github.com/\1/issues/\2)", full)


def _escaped(text: str) -> str:
    return re.sub(r"_(?!\w)", r"\\_", re.sub(r"([\\*`|])", r"\\\1", text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], page: str = "") -> str:
    """Return a table of cells with light markup. Without a head it has only rows."""
    output = io.StringIO()
    writer = csv.writer(output, quoting=csv.QUOTE_ALL, lineterminator="\n")
    has_head = any(head)
    for row in (head, *rows) if has_head else rows:
        cells = (inline(cell, page).replace("<br>", "\n\n") for cell in row)
        writer.writerow(cells)
    body = "".join(f"   {line}".rstrip() + "\n" for line in output.getvalue().splitlines())
    options = "   :header-rows: 1\n" if has_head else ""
    return f".. csv-table::\n{options}\n{body}"


def read_table(text: str) -> list[list[str]]:
    """Return the cells of the table in a text as table() wrote it, the head first. Escapes are removed."""
    lines = [line[3:] for line in text.splitlines() if line.startswith('   "')]
    return [[re.sub(r"\\(.)", r"\1", cell) for cell in row] for row in csv.reader(lines)]


def rendered(name: str, comment: str, **values: object) -> str:
    """Return the page of a template. values: its tables and figures."""
    return page(_TEMPLATES.get_template(f"{name}.md").render(values), name, comment)


def page(text: str, name: str, comment: str) -> str:
    """Return a generated page. name: the part of its labels, comment: how the page is made."""
    return "".join(_page(text, name, comment))


def _page(text: str, name: str, comment: str) -> Iterator[str]:
    yield f"..\n  {comment}\n\n"
    for block in _blocks(text):
        if match := re.match(r"(#+) (.+)$", block):
            yield heading(match[2], len(match[1]), name)
        elif match := re.match(r"```(\w+)\n(.*?)```", block, re.DOTALL):
            body = "".join(f"   {line}".rstrip() + "\n" for line in match[2].splitlines())
            yield f".. code-block:: {match[1]}\n\n{body}\n"
        elif block.startswith("|"):
            head, _rule, *rows = [
                [cell.strip() for cell in line.strip("|").split(" | ")] if line.strip("| ") else ["", ""]
                for line in block.splitlines()
            ]
            yield table(head, rows, name) + "\n"
        elif block.startswith("- "):
            yield re.sub(r"^- ", "* ", inline(block, name), flags=re.MULTILINE) + "\n\n"
        else:
            yield inline(block, name) + "\n\n"


def heading(title: str, level: int, name: str) -> str:
    """Return a heading with its label."""
    target = label(name, title if level > 1 else "")
    plain = title.replace("`", "").replace("**", "")
    line = _UNDERLINES[level - 1] * len(plain)
    return f".. _{target}:\n\n{plain}\n{line}\n\n"


def _blocks(text: str) -> Iterator[str]:
    """Yield headings, code blocks, tables and paragraphs."""
    for part in re.split(r"(^ *```\w*\n.*?^ *```$)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```"):
            yield part
        else:
            yield from (block.strip("\n") for block in re.split(r"\n{2,}", part) if block.strip())
