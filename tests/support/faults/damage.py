# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw random input: real texts and objects with damage in a few places, and other values."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many examples `make test` draws, always the same, and `make test-all`, others each time.
FEW, MANY = 30, 500

# Characters that mean something to one of the parsers, or to none.
PIECES = st.one_of(
    st.sampled_from(
        ["\0", "\n", "\r\n", " ", "=", "-----", "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "é", "²", "\ud800",
         "\u2028", "%", "{", "}", "{0}", "/", "//", "..", '"', "\\", "'", ":", "[", "]", "@", "#", "?", "&", "*", "!", "|", "9" * 400]
    ),
    st.text(max_size=20),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | PIECES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged_text(draw: Any, original: str) -> str:
    """The text with one to three pieces cut, put in, replaced or repeated."""
    text = original
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 2, 7, 64, 1 << 20])))
        filling = draw(st.one_of(st.just(""), PIECES, st.just(text[start:end] * 2)))
        text = text[:start] + filling + text[end:]
    return text


@st.composite
def damaged_pem(draw: Any, original: str) -> str:
    """The PEM text with some bytes of what its first block encodes changed, or cut off."""
    block = pem_text.blocks(original)[0]
    data = bytearray(pem_text.der(block))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return pem_text.encode(block.label, bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))]))


def pem(original: str) -> st.SearchStrategy[str]:
    return st.one_of(damaged_pem(original), damaged_text(original), st.text())


@st.composite
def damaged_object(draw: Any, original: Any) -> Any:
    """The object with one to three of its parts removed, cut, or replaced by something else that JSON can hold."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        old = holder[key]
        what = draw(st.sampled_from(["remove", "replace", "text"]))
        if what == "remove":
            del holder[key]
        elif what == "text" and isinstance(old, str):
            holder[key] = draw(damaged_text(old))
        else:
            holder[key] = draw(JSON)
    return value


def _places(value: Any) -> Any:
    """Every (container, key) of the tree."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in list(entries):
        yield value, key
        yield from _places(item)


def fuzz(
    parse: Callable[[Any], object],
    values: st.SearchStrategy[Any],
    good: Any,
    examples: int,
    *,
    hidden: str = "",
) -> Counter[str]:
    """Give the values to a parser, and the good one first. Return how often there was an answer and how often an error.

    hidden: what no error may quote.
    """
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        report_multiple_bugs=True,
        derandomize=examples == FEW,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    @example(good)
    def check(value: Any) -> None:
        try:
            parse(value)
            outcomes["answer"] += 1
        except CertflowError as error:
            outcomes["error"] += 1
            assert "\n" not in str(error)
            assert not hidden or hidden not in str(error)

    parse(good)
    check()
    return outcomes
