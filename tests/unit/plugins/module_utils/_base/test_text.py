# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clean foreign text: characters that get an escape, characters that stay, and quoted values."""

from __future__ import annotations

import itertools
import sys
import unicodedata
from fnmatch import fnmatchcase
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import (
    HIDDEN_CATEGORIES,
    HIDDEN_CHARACTERS,
    matches,
    quoted,
    visible,
)

VISIBLE = {
    "": "",
    "plain text, with 'quotes' and {{ braces }} and a \\\\ backslash": "plain text, with 'quotes' and {{ braces }} and a \\\\ backslash",
    "Müller  Łódź 東京 наш ελ עברית عربى हिन्दी 🙂": "Müller Łódź 東京 наш ελ עברית عربى हिन्दी 🙂",
    " two\nlines\r\n\tand more ": "two lines and more",
    "\x00\x07\x08\x0b\x0c\x1b\x1f\x7f": r"\x00\x07\x08\x0b\x0c\x1b\x1f\x7f",
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "\x80\x85\x9b\x9f": r"\x80\x85\x9b\x9f",
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069": (
        r"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ),
    "a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg\u180eh": r"a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg\u180eh",
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0": r"\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0",
    "\u2028\u2029\ufff9\U000e0041": r"\u2028\u2029\ufff9\U000e0041",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize("text", VISIBLE, ids=range(len(VISIBLE)))
def test_hidden_characters_become_visible(text: str) -> None:
    assert visible(text) == VISIBLE[text]


def test_no_hidden_character_is_left_and_twice_is_once() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = visible(every)
    assert not {unicodedata.category(character) for character in shown} & HIDDEN_CATEGORIES
    assert not set(shown) & HIDDEN_CHARACTERS
    assert visible(shown) == shown


class NoText:
    """A value whose conversion to text is as expensive as that of a YAML alias bomb."""

    def __str__(self) -> str:
        raise AssertionError("its text was made")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("prod", "'prod'"),
        ("a\x1bb", r"'a\x1bb'"),
        ("x" * 500, f"'{'x' * 80}...'"),
        (NoText(), "a NoText"),
        ([NoText()], "a list"),
        (None, "a NoneType"),
    ],
)
def test_only_texts_are_quoted(value: Any, shown: str) -> None:
    assert quoted(value) == shown


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "**",
        "a",
        "ab",
        "a*",
        "*b",
        "a*b",
        "*a*",
        "a*b*a",
        "ab*ba",
        "aba*ba",
        "*ab*ab",
        "a**b",
        "b*a*b",
    ],
)
def test_patterns_match_what_those_of_a_shell_match(pattern: str) -> None:
    texts = ["".join(letters) for size in range(6) for letters in itertools.product("ab", repeat=size)]
    assert [matches(text, pattern) for text in texts] == [fnmatchcase(text, pattern) for text in texts]
