# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Clean text of other programs of control characters and invisible characters, for sentences."""

from __future__ import annotations

import re
import unicodedata

# Control (C0, DEL, C1), format (bidirectional marks, zero-width characters, tags), surrogates, line and paragraph
# separators: the categories of the Unicode Character Database, https://www.unicode.org/reports/tr44/#General_Category_Values
HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# Invisible characters of other categories: the grapheme joiner and the fillers.
HIDDEN_CHARACTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
LONGEST_QUOTE = 80

_BLANKS = re.compile(r"[ \t\r\n]+")


def visible(text: str) -> str:
    """Return the text on one line, with an escape such as \\x1b for each hidden character. Letters of all scripts stay.

    A second call does not change the result.
    """
    line = _BLANKS.sub(" ", text).strip(" ")
    return line if line.isprintable() and line.isascii() else "".join(map(_shown, line))


def quoted(value: object) -> str:
    """Return a shortened string in quotes. For any other value return its type.

    The text of a YAML value can be gigabytes larger than its file, because aliases repeat it.
    """
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return f"'{visible(value[:LONGEST_QUOTE])}{'...' if len(value) > LONGEST_QUOTE else ''}'"


def is_hidden(character: str) -> bool:
    """Return True for a control character or an invisible character."""
    return unicodedata.category(character) in HIDDEN_CATEGORIES or character in HIDDEN_CHARACTERS


def _shown(character: str) -> str:
    if not is_hidden(character):
        return character
    number = ord(character)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
