# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Clean the sentences of a result of control characters, invisible characters and private keys.

A webhook or a policy that refuses a Secret may repeat it in its message, with the private key that was just made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._text import visible
from .._x509.pem_text import without_private_keys

# The keys of a result, at any depth, whose texts are sentences. They are printed, and quote clusters and other programs.
# Other values, such as names and PEM, are data and do not change.
KEYS = frozenset(
    (
        "answer",
        "auth_source",
        "ca_problem",
        "ca_source",
        "cause",
        "contradictions",
        "evidence",
        "message",
        "msg",
        "note",
        "notes",
        "problem",
        "reason",
        "remedy",
        "reports",
        "skip_reason",
        "summary",
        "title",
        "unreadable",
        "warnings",
    )
)
# Keys of a result that hold objects and arguments. These are written back or compared, and hold no sentences.
DATA = frozenset(("diff", "invocation", "originals", "parameters"))


def clean(value: Any, *, is_sentence: bool = False) -> Any:
    """Return the value with each of its sentences on one line, and with escapes for hidden characters.

    No text in it holds a private key.
    """
    if isinstance(value, str):
        text = without_private_keys(value)
        return visible(text) if is_sentence else text
    if isinstance(value, Mapping):
        return {
            key: item if key in DATA else clean(item, is_sentence=is_sentence or key in KEYS)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [clean(item, is_sentence=is_sentence) for item in value]
    return value
