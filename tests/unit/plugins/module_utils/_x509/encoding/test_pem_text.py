# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PEM blocks: texts that are blocks, and texts that are not."""

from __future__ import annotations

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text

from tests.support.failures import fails

A = "-----BEGIN A-----\nQQ==\n-----END A-----\n"
B = "-----BEGIN B B-----\nQkI=\n-----END B B-----\n"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", []),
        ("no block", []),
        (A + B, ["A", "B B"]),
        ("before\n" + A + "between\n" + B + "after", ["A", "B B"]),
        (A.rstrip("\n"), ["A"]),
        (A.replace("\n", "\r\n"), ["A"]),
        (A.replace("\n", " \t\n"), ["A"]),
        ("-----BEGIN A-----\nQQ==\n", []),
        ("-----BEGIN A-----\nQQ==\n" + B, ["B B"]),
        ("-----BEGIN A-----\nQQ==\n-----END B-----\n" + B, ["B B"]),
        ("-----END A-----\n" + B, ["B B"]),
        (" " + A, []),
        (A.rstrip("\n") + B, []),
        (A.rstrip("\n") + "\r", []),
        (A.replace("A-----\nQ", "A-----\r \nQ") + B, ["B B"]),
        (A.rstrip("\n") + "\r \n" + B, ["B B"]),
        (A.replace("END A-----", "END A-----\x0b") + B, ["B B"]),
        ("\ufeff" + A + B, ["B B"]),
        ("-----BEGIN A-----\n-----END A-----: b\n" + B, []),
        ("-----BEGIN A-----\nQ\n-----END A-----: b\n" + B, ["B B"]),
    ],
)
def test_blocks(text: str, labels: list[str]) -> None:
    assert [block.label for block in pem_text.blocks(text)] == labels


def test_block_text_has_plain_line_ends() -> None:
    assert pem_text.blocks(A.replace("\n", " \r\n"))[0].text == A


@pytest.mark.parametrize(
    ("body", "data"),
    [
        ("QUJD", b"ABC"),
        ("QQ==", b"A"),
        ("QR==", b"A"),  # bits after the last octet are left out
        ("Q\nU\r\nJ \t\nD", b"ABC"),
        ("Q U\tJ\rD", b"ABC"),
        ("", b""),
        ("QUJ", None),
        ("QUJDQQ", None),
        ("QUJD=", None),
        ("QUJD==", None),
        ("QUJD====", None),
        ("QQ==QQ==", None),
        ("QQ=\n=", b"A"),
        ("A: b\n\nQUJD", None),
        ("Q-JD", None),
        *(
            (f"QU{character}JD", None)
            for character in "\x00\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\ufeff\uff21"
        ),
    ],
)
def test_base64_as_go_reads_it(body: str, data: bytes | None) -> None:
    [block] = pem_text.blocks(f"-----BEGIN A-----\n{body}\n-----END A-----\n")
    if data is not None:
        assert pem_text.der(block) == data
        return
    with fails("invalid-certificate", "base64"):
        pem_text.der(block)


def test_der() -> None:
    assert [pem_text.der(block) for block in pem_text.blocks(A + B)] == [b"A", b"BB"]
    with fails("invalid-certificate", "base64"):
        pem_text.der(pem_text.blocks(A.replace("QQ==", "Q!=="))[0])


@pytest.mark.parametrize(
    "label",
    [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ],
)
def test_private_key_found(label: str) -> None:
    text = f"-----BEGIN {label}-----\nQQ==\n-----END {label}-----\n"
    assert pem_text.has_private_key(A + text)
    assert pem_text.has_private_key(A + text.replace("\n", "\n    ").replace("-----BEGIN", "    -----BEGIN"))
    assert pem_text.has_private_key(text[:40])


def test_private_key_not_found() -> None:
    assert not pem_text.has_private_key(A + "the PRIVATE KEY is elsewhere\n-----BEGIN PUBLIC KEY-----\n")


def test_private_key_found_as_written() -> None:
    assert pem_text.has_private_key(private_keys.to_pem(private_keys.generate("ecdsa-p256")))
