# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that prose is plain: no forbidden words, and no higher rate of semicolons and long sentences.

`python -m tests.repository.test_words` prints every forbidden word with its sentence, and the rates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from tests.repository import prose
from tests.repository.prose import Block

#: Words that hide the actor, or say in a negation what a statement says better.
FORBIDDEN = (
    *("nobody", "somebody", "anybody", "whoever", "anew"),
    *("is none", "are none", "dials anew", "stands in"),
)
_PATTERNS = (re.escape(word).replace(r"\ ", r"\s+") for word in FORBIDDEN)
# Only the word in small letters counts, because None is a value of Python.
_FORBIDDEN = re.compile(
    r"(?<![\w-])("
    + "|".join(pattern if pattern.endswith("none") else f"(?i:{pattern})" for pattern in _PATTERNS)
    + r")(?![\w-])"
)

#: A sentence with more words is long.
LONG = 25
#: Highest rates per 1,000 words, rounded up: semicolons, sentences that begin with "What" or "Whether", long
#: sentences. The description of a boolean may begin with "Whether" or "Boolean. Whether". These may only fall.
HIGHEST: dict[str, tuple[int, int, int]] = {
    "README": (1, 1, 5),
    "docs": (3, 1, 2),
    "modules": (1, 1, 2),
    "roles": (1, 1, 2),
}


def hits(blocks: Iterable[Block]) -> Iterator[tuple[str, int, str, str]]:
    """Yield path, line, word and sentence of each forbidden word."""
    for block in blocks:
        for match in _FORBIDDEN.finditer(block.text):
            line = block.line + block.text.count("\n", 0, match.start())
            yield block.path, line, " ".join(match[0].lower().split()), _around(block.text, match)


def _around(text: str, match: re.Match[str]) -> str:
    ends = [end.end() for end in re.finditer(r"[.!?]\s", text)]
    start = max((end for end in ends if end <= match.start()), default=0)
    stop = min((end for end in ends if end >= match.end()), default=len(text))
    return " ".join(text[start:stop].split())


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z*\"(])", text.strip()) if part]


def group_of(block: Block) -> str:
    """Return the group of pages that a block counts for, or ""."""
    if block.path == "README.md":
        return "README"
    if block.path.startswith("docs/") and block.kind == "page":
        return "docs"
    if block.path.startswith(prose.DOCUMENTED) and block.kind == "page":
        return "modules"
    if block.path.startswith("roles/") and block.path.endswith(("README.md", "argument_specs.yml")):
        return "roles"
    return ""


def rates(blocks: Iterable[Block]) -> dict[str, tuple[float, float, float]]:
    """Return for each group the rates of HIGHEST."""
    counts = {group: [0, 0, 0, 0] for group in HIGHEST}
    for block in blocks:
        if group := group_of(block):
            parts = sentences(block.text.replace("Boolean. Whether ", "Boolean. "))
            counts[group][0] += len(block.text.split())
            counts[group][1] += block.text.count(";")
            counts[group][2] += sum(part.startswith(("What ", "Whether ")) for part in parts)
            counts[group][3] += sum(len(part.split()) > LONG for part in parts)
    return {
        group: (1000 * marks / words, 1000 * riddles / words, 1000 * long / words)
        for group, (words, marks, riddles, long) in counts.items()
    }


@pytest.fixture(scope="module")
def repository() -> list[Block]:
    return list(prose.blocks())


def test_prose_has_no_forbidden_word(repository: list[Block]) -> None:
    found = [f"{path}:{line}: {word}: {sentence}" for path, line, word, sentence in hits(repository)]
    assert not found, "\n" + "\n".join(found)


def test_no_rate_rises(repository: list[Block]) -> None:
    measured = rates(repository)
    higher = [
        group
        for group, limits in HIGHEST.items()
        if any(map(float.__gt__, measured[group], map(float, limits)))
    ]
    assert not higher, measured


# Name of a file, its text, and the line and the word of each hit.
TEXTS: tuple[tuple[str, str, list[tuple[int, str]]], ...] = (
    ("a.py", "# Done by\n# nobody.\n", [(2, "nobody")]),
    ("a.py", '"""Ask whoever may."""\n', [(1, "whoever")]),
    ("a.py", "def test_nobody_asks(): ...\n", [(1, "nobody")]),
    ("a.py", 'raise ValueError(f"{1} is none")\n', [(1, "is none")]),
    ("a.py", 'DOCUMENTATION = r"""\nnotes:\n  - The key\n    is none.\n"""\n', [(3, "is none")]),
    ("a.py", "nobody = 1\n# See `nobody`, the hazard nobody-there\n", []),
    ("a.py", 'run("nobody")\n# if it is None\n', []),
    ("a.yml", "- name: Ask somebody\n", [(1, "somebody")]),
    ("a.yml", "a: 1  # anew\n", [(1, "anew")]),
    ("a.yml", "# it\n# stands in\na: {{ b }}\n", [(2, "stands in")]),
    ("a.md", "Asks\nsomebody.\n\n```yaml\n# nobody\n```\n\n| a | `anew` | whoever |\n", [(2, "somebody"), (8, "whoever")]),
    ("a.rst", "..\n  whoever\n\n.. _nobody:\n\nAsks `anew <https://a.b>`__.\n\n.. code-block:: yaml\n\n   # nobody\n", [(6, "anew")]),
    ("a.rst", '.. csv-table::\n   :header-rows: 1\n\n   "``anew``","whoever"\n', [(4, "whoever")]),
)  # fmt: skip
READERS = {"py": prose.of_python, "yml": prose.of_yaml, "md": prose.of_page, "rst": prose.of_guide}


@pytest.mark.parametrize(("name", "text", "expected"), TEXTS)
def test_a_word_is_found_in_prose_and_not_in_code(
    name: str, text: str, expected: list[tuple[int, str]]
) -> None:
    blocks = READERS[name.partition(".")[2]](f"plugins/modules/{name}", text)
    assert [(line, word) for _path, line, word, _text in hits(blocks)] == expected


def main() -> None:
    """Print every forbidden word as "path:line: word: sentence", and the rates."""
    blocks = list(prose.blocks())
    found = list(hits(blocks))
    for path, line, word, sentence in found:
        print(f"{path}:{line}: {word}: {sentence}")
    print(f"{len(found)} words in {len({path for path, *_rest in found})} files")
    print("per 1,000 words: semicolons, What/Whether, sentences over 25 words")
    for group, values in rates(blocks).items():
        print(f"  {group:8}", *(f"{value:5.1f}" for value in values), " at most", *HIGHEST[group])


if __name__ == "__main__":
    main()
