# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which certificates Go parses: a table, and mutated certificates as Go itself reads them."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError
from cryptography import x509

from tests.support.certificates import der
from tests.support.certificates.authority import (
    NOW,
    SERVER_AUTH,
    authority,
    dns,
    issue,
    rewritten,
    with_octets,
)
from tests.unit.plugins.module_utils._x509 import mutated

MUTANTS = 4000
CA = authority("kubernetes")
LEAF = issue(
    "hook",
    CA,
    names=[*dns("hook.shop.svc"), x509.UniformResourceIdentifier("spiffe://a.bc/x")],
    usages=[SERVER_AUTH],
    extensions=[
        (
            x509.CertificatePolicies(
                [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in ("1.2.3", "1.2.4")]
            ),
            False,
        ),
        (x509.NameConstraints([x509.RFC822Name("dev@b.cd")], None), False),
    ],
)
HOOK, SERIAL = b"\x0c\x04hook", LEAF.certificate.serial_number.to_bytes(20, "big")
#: The change of a certificate -> Go's words, "" if Go reads it.
ROWS: list[tuple[str, tuple[bytes, bytes], str]] = [
    ("nothing", (b"", b""), ""),
    ("UniversalString", (HOOK, b"\x1c\x04hook"), "unsupported string type"),
    ("PrintableString with an underscore", (HOOK, b"\x13\x04ho_k"), "invalid string"),
    ("PrintableString with an asterisk", (HOOK, b"\x13\x04ho*k"), ""),
    ("the serial number 0 in more bytes than needed", (SERIAL, bytes(20)), "malformed serial number"),
    ("two dots in the host of a URI", (b"spiffe://a.bc/x", b"spiffe://a..b/x"), "invalid domain"),
    ("a port that is not a number", (b"spiffe://a.bc/x", b"spiffe://a:bc/x"), "invalid domain"),
    ("a percent in the host of a URI", (b"spiffe://a.bc/x", b"spiffe://a%20b/"), "invalid domain"),
    ("an escape of the user that is cut off", (b"spiffe://a.bc/x", b"s://a%4@bc.d/1x"), "invalid domain"),
    ("a control character in the path of a URI", (b"spiffe://a.bc/x", b"spiffe://a.bc/\x01"), "invalid domain"),
    ("a control character in the fragment of a URI", (b"spiffe://a.bc/x", b"spiffe://ab/#\x01a"), ""),
    ("a policy twice", (b"\x06\x02\x2a\x04", b"\x06\x02\x2a\x03"), "invalid certificate policies"),
    ("explicit parameters of a curve", (bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("30082a8648ce3d030107")), "invalid ECDSA parameters"),
    ("a compressed point", (b"\x03\x42\x00\x04", b"\x03\x42\x00\x03"), "invalid point"),
    ("version 4", (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"), "invalid version"),
    ("version 1 with extensions", (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00"), ""),
    ("a constraint for a mailbox that is not ASCII", (b"dev@b.cd", b"d\xe9v@b.cd"), "failed to parse name constraint"),
    ("a subject key identifier that is a sequence", (b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x0e"), "invalid subject key identifier"),
]  # fmt: skip


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed: nothing is compared with Go's own parser")
    program = tmp_path_factory.mktemp("go") / "reader"
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    folder = Path(__file__).parent / "certificate_reader"
    subprocess.run([go, "build", "-o", program, "."], cwd=folder, env=environ, check=True)
    return program


def as_go(program: Path, certificates: list[bytes]) -> list[str]:
    text = "".join(f"{base64.b64encode(data).decode()}\n" for data in certificates)
    return subprocess.run(
        [program], input=text, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def as_here(data: bytes) -> str:
    try:
        found = certificate_facts.read(data)
    except CertificateError as error:
        return f"refused {error.cause}"
    return f"read {found.not_before.timestamp():.0f} {found.not_after.timestamp():.0f} {found.version}"


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_go_refuses(change: tuple[bytes, bytes], words: str, reader: Path) -> None:
    data = rewritten(LEAF, CA.key, change)
    assert as_here(data).startswith("refused" if words else "read")
    assert words in as_here(data)
    (answer,) = as_go(reader, [data])
    assert answer.partition(" ")[0] == as_here(data).partition(" ")[0], answer


def test_mutated_certificates_as_go_reads_them(reader: Path) -> None:
    certificates = list(mutated.mutants(MUTANTS, 7))
    answers = as_go(reader, certificates)
    assert len(answers) == MUTANTS
    assert sum(answer.startswith("read") for answer in answers) > MUTANTS // 5
    for data, answer in zip(certificates, answers):
        here = as_here(data)
        is_equal = here == answer if answer.startswith("read") else here.startswith("refused")
        assert is_equal, (answer, here, data.hex())


#: The start and the end of a certificate -> Go's word.
DATES = {
    "the year 0": (b"00000229000000Z", b"20990101000000Z", "read"),
    "the year 0 as the end": (b"00000101000000Z", b"00001231235959Z", "read"),
    "a day that the year 0 does not have": (b"00000230000000Z", b"20990101000000Z", "refused"),
    "before the year 1": (b"00010101000000+0100", b"20990101000000Z", "read"),
    "after the year 9999": (b"20260101000000Z", b"99991231235959-0100", "read"),
}


@pytest.mark.parametrize(("begin", "end", "word"), DATES.values(), ids=DATES)
def test_dates_beyond_those_of_python(begin: bytes, end: bytes, word: str, reader: Path) -> None:
    """Go reads more years than Python knows. Such a certificate is valid from the first date, or until the last date, of Python."""
    validity = der.sequence(*(der.tlv(0x18, date) for date in (begin, end)))
    data = pem_text.der(pem_text.blocks(with_octets(LEAF, CA.key, validity=validity))[0])
    assert as_here(data).partition(" ")[0] == word
    (answer,) = as_go(reader, [data])
    assert answer.partition(" ")[0] == word, answer


def test_the_dates_are_read() -> None:
    found = certificate_facts.read(rewritten(LEAF, CA.key))
    assert (found.not_before, found.not_after) == (
        LEAF.certificate.not_valid_before_utc,
        LEAF.certificate.not_valid_after_utc,
    )
    assert found.not_before <= NOW
