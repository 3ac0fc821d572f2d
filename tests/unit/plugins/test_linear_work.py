# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work over a text of a cluster grows linearly with its length: each reader gets its worst text, and four times as much of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import object_parsing
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import text
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import (
    answers,
    port_forward,
    transport,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import call_failures
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import pem_text

from tests.unit.plugins.module_utils._webhook.test_call_failures import ANSWERS, CONVERSIONS

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
    "warnings": answers.warning_texts,
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


@pytest.mark.parametrize("reader", READERS)
def test_the_work_grows_linearly(reader: str) -> None:
    slow = {part: growth(READERS[reader], part) for part in (*PARTS, *FAILURE_PARTS)}
    suspects = [part for part, times in slow.items() if times > 2 * TIMES]
    # A busy machine may disturb one measurement, not three.
    assert [
        part for part in suspects if min(growth(READERS[reader], part) for _time in range(3)) > 2 * TIMES
    ] == []


def test_the_measure_finds_quadratic_work() -> None:
    assert growth(lambda words: [words[place:].count("b") for place in range(len(words))], "a") > 2 * TIMES
