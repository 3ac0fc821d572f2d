# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work over a text of a cluster grows linearly with its length: each reader gets its worst text, and four times as much of it."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins import module_utils
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import object_parsing
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import text
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import errors, port_forward
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import transport
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_failures
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text

from tests.unit.plugins.module_utils._webhook.calls.test_call_failures import ANSWERS, CONVERSIONS

READERS: dict[str, Callable[[str], object]] = {
    "mask": text.mask,
    "mask_login": text.mask_login,
    "visible": text.visible,
    "shortened": text.shortened,
    "safe_name": text.safe_name,
    "metrics": lambda words: object_parsing.read_counters(f"apiserver_admission_webhook_rejection_count{{{words}}} 1"),
    "marks of metrics": lambda words: object_parsing.find_file_webhooks(
        f"apiserver_admission_webhook_request_total{{{words}}} 1"
    ),
    "error channel": port_forward._port_error,
    "warnings": errors.warning_texts,
    "message of a call": lambda words: call_failures.of_answer(words, "admission"),
    "message about a call": call_failures.of_call,
    "denial": call_failures.said_by_webhook,
    "blocks": pem_text.blocks,
    "one block": lambda words: pem_text.only_block(words, "CERTIFICATE"),
    "private key": pem_text.has_private_key,
    "authorities": transport._CERTIFICATE.findall,
}  # fmt: skip
KEY = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VBTUJNR0J5cUdTTTQ5"
# The parts of worst texts: what patterns begin with, what ends none of them, and what fits several of them.
PARTS = (
    "a", "A1b", "0a", " ", "\n", '"', "\\", "=", '="', 'a="', 'a="\\"', "}", "} ", "{a", ":", ": ", "-", "/", "*** ",
    "-----BEGIN ", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\n", "-----END ", "PRIVATE KEY",
    KEY, f"{KEY} ", f"{KEY}\n", f"{KEY} ab1C= ", "a" * 39 + " ", "read tcp4 ", "write tcp6 x ", "0123456789ab", "secret", "--token",
    "x-aakey", "https://", " from https://", "Post \"", "failed calling webhook \"", "admission webhook \"", "x509: ", " cannot ",
    "Internal error occurred: ", "dial tcp ", "lookup ", "failed: ", "error trying to reach service: ",
)  # fmt: skip
# Messages of API servers: their beginnings, which a pattern may look for again and again.
FAILURE_PARTS = tuple(
    {str(row[0])[:length] for row in (*ANSWERS[::4], *CONVERSIONS[::4]) for length in (30, 60)}
)
SIZE, TIMES = 4096, 4


def seconds(read: Callable[[str], object], words: str) -> float:
    """Return the CPU time of the fastest of three calls."""
    spent = []
    for _time in range(3):
        begin = time.thread_time()
        read(words)
        spent.append(time.thread_time() - begin)
    return min(spent)


def growth(read: Callable[[str], object], part: str) -> float:
    """Return how many times longer the reader needs for a text that is TIMES longer. A fast reader counts as a linear one."""
    few = seconds(read, part * (SIZE // len(part)))
    many = seconds(read, part * (TIMES * SIZE // len(part)))
    return many / max(few, 0.0005)


def test_end_lines_after_header_lines_are_linear() -> None:
    """Go takes an END line after lines with colons for a header. A line without a colon ends them."""

    def read(lines: str) -> object:
        return pem_text.blocks(f"-----BEGIN X-----\n{lines}b\n" + "-----END :\n" * lines.count("\n"))

    assert min(growth(read, "a:\n") for _time in range(3)) < 2 * TIMES


@pytest.mark.parametrize("reader", READERS)
def test_the_work_grows_linearly(reader: str) -> None:
    slow = {part: growth(READERS[reader], part) for part in (*PARTS, *FAILURE_PARTS)}
    suspects = [part for part, times in slow.items() if times > 2 * TIMES]
    # A busy machine may disturb one measurement, not three.
    assert [
        part for part in suspects if min(growth(READERS[reader], part) for _time in range(3)) > 2 * TIMES
    ] == []


# Every compiled expression of module_utils, with each method by which a module calls it.

ROOT = Path(*module_utils.__path__)
CALLS = ("search", "match", "fullmatch", "findall", "finditer", "sub", "split")


def calls() -> Iterator[tuple[str, str, re.Pattern[Any]]]:
    """Yield (file and name, method, expression) of each call of an expression, also of one that a call compiles itself."""
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).with_suffix("")
        module: Any = importlib.import_module(
            f"{module_utils.__name__}.{'.'.join(place.parts)}".removesuffix(".__init__")
        )
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in CALLS:
                names = ast.unparse(node.value).split(".")
                value: Any = functools.reduce(lambda of, name: getattr(of, name, None), names, module)
                if isinstance(value, re.Pattern):
                    yield f"{place}.{names[-1]}", node.attr, value
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            own = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if (
                ast.unparse(node.func.value) == "re"
                and node.func.attr in CALLS
                and isinstance(own, (str, bytes))
            ):
                yield f"{place}:{node.lineno}", node.func.attr, re.compile(own)


def examples(nodes: Any) -> Iterator[str]:
    """Yield what each part of a parsed expression may begin with: one character for a set, two for a repetition."""
    for operation, value in nodes:
        name = str(operation)
        if name == "LITERAL":
            yield chr(value)
        elif name in ("NOT_LITERAL", "ANY"):
            yield "a"
        elif name == "IN":
            yield next(
                (text for text in map(chr, range(32, 127)) if re.fullmatch(in_words(value), text)), "a"
            )
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield "".join(examples(value[2])) * 2
        elif name == "SUBPATTERN":
            yield from examples(value[3])
        elif name == "BRANCH":
            yield from examples(value[1][0])


def in_words(members: Any) -> str:
    """Return the set of a parsed expression as an expression."""
    classes = {
        "CATEGORY_DIGIT": r"\d",
        "CATEGORY_WORD": r"\w",
        "CATEGORY_SPACE": r"\s",
        "CATEGORY_NOT_SPACE": r"\S",
        "CATEGORY_NOT_WORD": r"\W",
        "CATEGORY_NOT_DIGIT": r"\D",
    }
    words = ""
    for operation, value in members:
        name = str(operation)
        if name == "NEGATE":
            words += "^"
        elif name == "LITERAL":
            words += re.escape(chr(value))
        elif name == "RANGE":
            words += "-".join(re.escape(chr(end)) for end in value)
        else:
            words += classes[str(value)]
    return f"[{words}]"


def parts_of(pattern: re.Pattern[Any]) -> list[str]:
    """Return beginnings of what an expression matches. Their repetitions make it begin again and again."""
    parser = importlib.import_module("re._parser" if hasattr(re, "_parser") else "sre_parse")
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    texts = [*examples(parser.parse(source, pattern.flags & ~re.UNICODE))]
    return ["".join(texts[:count]) for count in range(1, len(texts) + 1)]


EXPRESSIONS = {f"{name}.{method}": (pattern, method) for name, method, pattern in calls()}


def of_expression(pattern: re.Pattern[Any], method: str, words: str) -> None:
    text: Any = words if isinstance(pattern.pattern, str) else words.encode()
    if method == "sub":
        pattern.sub(text[:0], text)
    else:
        list(getattr(pattern, method)(text) or ()) if method == "finditer" else getattr(pattern, method)(text)


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_each_expression_is_linear(name: str) -> None:
    pattern, method = EXPRESSIONS[name]
    read = functools.partial(of_expression, pattern, method)
    parts = dict.fromkeys((*parts_of(pattern), *PARTS[:20]))
    suspects = [part for part in parts if growth(read, part[: SIZE // 4]) > 2 * TIMES]
    assert [part for part in suspects if min(growth(read, part) for _time in range(3)) > 2 * TIMES] == []


def test_the_expressions_are_found() -> None:
    assert len(EXPRESSIONS) > 50


def test_the_measure_finds_quadratic_work() -> None:
    # As above, a busy machine disturbs one measurement, not three.
    assert max(growth(re.compile("a*b").search, "a") for _time in range(3)) > 2 * TIMES
