# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the readers of this collection with Go, on the same requests and bundles.

The oldest and the newest Go must read the same content as the collection in a request that can be approved. The test counts
and prints the requests that Go accepts and the collection refuses.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    canonical_request,
    certificate_facts,
    signing_request,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.certificate_facts import (
    EXTENDED_USAGES,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError

from tests.unit.plugins.module_utils._x509 import go_readers, request_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.plugins.module_utils._x509.go_readers import GoReader

REQUESTS = Path(__file__).parent / "requests"
SUBJECT_OIDS = {name: oid for oid, name in certificate_facts.SUBJECT_TYPES.items()}


CHUNK = 5000


@pytest.mark.parametrize("toolchain", go_readers.TOOLCHAINS)
def test_this_go_takes_part(toolchain: str) -> None:
    try:
        go_readers.go_reader(toolchain)
    except go_readers.Unavailable as problem:
        pytest.skip(f"what {toolchain} reads in requests and bundles is not compared: {problem}")


@pytest.fixture(scope="session")
def readers() -> list[GoReader]:
    return go_readers.go_readers() or pytest.skip("no Go can be had: what it reads is not compared")


def read(text: bytes) -> signing_request.RequestFacts:
    """Read the text as content_of does."""
    return signing_request.parse(text.decode("ascii", "replace"))


def ours(text: bytes) -> dict[str, Any] | str:
    """Return the content that the collection reads in a request, or the reason why it refuses the request."""
    try:
        facts = read(text)
    except CertificateError as error:
        return error.cause.partition(": ")[2]
    if not facts.is_signature_valid:
        return "wrong signature"
    contents = canonical_request.read(pem_text.only_block(text.decode("ascii"), signing_request.LABEL) or b"")
    return {
        "error": "",
        "signature": "",
        "common_name": facts.common_name,
        "organizations": list(facts.organizations),
        "subject": [
            f"{SUBJECT_OIDS[kind]}={value}" for parts in contents.relative_names for kind, value in parts
        ],
        "dns_names": list(facts.dns_names),
        "ip_addresses": list(facts.ip_addresses),
        "emails": list(facts.emails),
        "uris": list(facts.uris),
        "public_key_sha256": facts.public_key_sha256,
        "usages": sorted(facts.usages),
        "is_ca": facts.wants_ca,
    }


def of_go(answer: dict[str, Any]) -> dict[str, Any]:
    bits = zip(certificate_facts.KEY_USAGES.values(), answer["key_usage"])
    return {
        **{name: [] if value is None else value for name, value in answer.items()},
        "ip_addresses": [str(ipaddress.ip_address(text)) for text in answer["ip_addresses"] or ()],
        "usages": sorted(
            [
                *(word for word, bit in bits if bit == "1"),
                *(EXTENDED_USAGES.get(oid, oid) for oid in answer["extended_usage"] or ()),
            ]
        ),
    }


class Tally:
    """The results of the cases, compared with one version of Go."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.accepted = 0
        self.refused_by_both = 0
        self.refused: collections.Counter[str] = collections.Counter()

    def add(self, text: bytes, own: dict[str, Any] | str, answer: dict[str, Any]) -> None:
        """Count a case. Fail if it would be approved although Go reads it in another way.

        own: the content that the collection reads, or the reason why it refuses the request.
        """
        if not isinstance(own, str):
            self.accepted += 1
            go = of_go(answer)
            assert {name: go[name] for name in own} == own, (self.version, text)
        elif answer["error"] or answer["signature"]:
            self.refused_by_both += 1
        else:
            self.refused[re.sub(r"0x..|\b\d[\d.]*", "N", own)[:100]] += 1

    def __str__(self) -> str:
        rows = "\n".join(f"{count:8} {reason}" for reason, count in self.refused.most_common())
        return (
            f"{self.version}: {self.accepted} read alike, {self.refused_by_both} refused by both, "
            f"{sum(self.refused.values())} read by Go and refused here:\n{rows}"
        )


def compare(readers: list[GoReader], texts: list[bytes], tallies: list[Tally]) -> None:
    own = [ours(text) for text in texts]
    for reader, tally in zip(readers, tallies):
        for text, read, answer in zip(texts, own, reader.read(texts)):
            tally.add(text, read, answer["request"])


def compare_many(readers: list[GoReader], seed: int, count: int) -> list[Tally]:
    tallies = [Tally(reader.version) for reader in readers]
    draw = request_cases.Draw(seed)
    for start in range(0, count, CHUNK):
        texts = [request_cases.request_text(draw) for _ in range(min(CHUNK, count - start))]
        compare(readers, texts, tallies)
    for tally in tallies:
        # Otherwise the cases would prove little.
        assert tally.accepted > count / 5
        assert sum(tally.refused.values()) > count / 10
    return tallies


def test_requests_are_read_as_go_reads_them(readers: list[GoReader]) -> None:
    print(*compare_many(readers, seed=1, count=3000), sep="\n")


@pytest.mark.full
def test_many_requests_are_read_as_go_reads_them(
    readers: list[GoReader], capsys: pytest.CaptureFixture[str]
) -> None:
    tallies = compare_many(readers, seed=2, count=200_000)
    with capsys.disabled():
        print("", *tallies, sep="\n")


def test_requests_of_ordinary_tools_are_read_as_go_reads_them(readers: list[GoReader]) -> None:
    # The API server refuses keytool's own label.
    texts = [path.read_bytes().replace(b"NEW CERTIFICATE", b"CERTIFICATE") for path in REQUESTS.glob("*.pem")]
    tallies = [Tally(reader.version) for reader in readers]
    compare(readers, texts, tallies)
    for tally in tallies:
        assert (tally.accepted, tally.refused, tally.refused_by_both) == (len(texts), {}, 0)


def blocks(text: bytes) -> Iterator[list[Any]]:
    """Return the blocks of a bundle that the collection reads."""
    for block in pem_text.blocks(text.decode("latin-1")):
        with contextlib.suppress(CertificateError):
            yield [block.label.encode("latin-1"), pem_text.der(block)]


def compare_bundles(readers: list[GoReader], seed: int, count: int) -> dict[str, int]:
    """Return how many texts hold a block that only Go reads, by its version. Fail for one that Go does not read."""
    draw = request_cases.Draw(seed)
    missed = {reader.version: 0 for reader in readers}
    for start in range(0, count, CHUNK):
        texts = [request_cases.bundle_text(draw) for _ in range(min(CHUNK, count - start))]
        own = [list(blocks(text)) for text in texts]
        for reader in readers:
            for text, found, answer in zip(texts, own, reader.read(texts)):
                wanted = [
                    [base64.b64decode(entry["label"]), base64.b64decode(entry["der"])]
                    for entry in answer["blocks"]
                    if not entry["headers"]
                ]
                missed[reader.version] += found != wanted
                rest = iter(wanted)
                assert all(entry in rest for entry in found), (reader.version, text)
    # Go 1.26 takes a BEGIN that directly follows "END " on one line.
    assert max(missed.values()) < count / 500
    return missed


def test_blocks_are_read_as_go_reads_them(readers: list[GoReader]) -> None:
    compare_bundles(readers, seed=1, count=3000)


@pytest.mark.full
def test_many_blocks_are_read_as_go_reads_them(
    readers: list[GoReader], capsys: pytest.CaptureFixture[str]
) -> None:
    missed = compare_bundles(readers, seed=2, count=200_000)
    with capsys.disabled():
        print(f"\nof 200000 bundles, with blocks that only Go reads: {missed}")
