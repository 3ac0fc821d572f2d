# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that prose is plain: no forbidden words.

`python -m tests.repository.test_words` prints every forbidden word with its sentence.
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


@pytest.fixture(scope="module")
def repository() -> list[Block]:
    return list(prose.blocks())


def test_prose_has_no_forbidden_word(repository: list[Block]) -> None:
    found = [f"{path}:{line}: {word}: {sentence}" for path, line, word, sentence in hits(repository)]
    assert not found, "\n" + "\n".join(found)


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
    """Print every forbidden word as "path:line: word: sentence"."""
    blocks = list(prose.blocks())
    found = list(hits(blocks))
    for path, line, word, sentence in found:
        print(f"{path}:{line}: {word}: {sentence}")
    print(f"{len(found)} words in {len({path for path, *_rest in found})} files")


if __name__ == "__main__":
    main()
