# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates, chains and bundles that are changed at the level of DER and PEM: parts are replaced, removed, repeated, retyped, cut and moved."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.certificates.authority import (
    SERVER_AUTH,
    Issued,
    addresses,
    authority,
    dns,
    issue,
    key_usage,
    networks,
)
from tests.support.certificates.der import tlv
from tests.unit.plugins.module_utils._x509 import cases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONSTRUCTED = 0x20
#: Values that replace others: odd strings, times, numbers, names, algorithms.
_VALUES = tuple(
    bytes.fromhex(text)
    for text in (
        "0500", "0101ff", "010100", "010101", "0603550403", "020100", "0201ff", "02020001", "020200ff", "0400", "0300", "030205a0", "030100", "3000", "3100",
        "06022a80", "1c0400000061", "130140", "13015f", "130126", "16016d", "1601e9", "0c02c3a9", "0c01ff",
        "1e020061", "1e0161", "1e02d800", "120131", "120161", "140161", "1a0161", "170b323630363135313230305a", "170d3236303631353132303030305a",
        "17113236303631353132303030302b30313030", "180f32303236303631353132303030305a", "181132303236303631353132303030302e315a",
        "180c323032363036313531323030", "8100", "820161", "8201e9", "870401020304", "87020102", "a000", "a003020102", "a003020101", "a003020103", "80010f",
        "30050603551d20", "30060604551d2000",
    )
)  # fmt: skip
_URIS = (
    "spiffe://a/b", "s://b..c/", "s://b:443/", "s://b:x/", "s://b%20c/", "s://b%25c/", "s://%zz", "//h/p", "a:b", ":x", "s://u@h", "s://u%@h",
    "http://a:1:2/", "s://a:1:2/", "s://[::1]/", "s://[1.2.3.4]/", "s://[::1", "s://h./", "s://.h/", "s:///p", "///p", "p:q/r", "p/q:r",
    "s://h/%z", "s://h?%z", "s://h#%z", "s://h /", "s://h|/", "", "*", "s:", "x y", "s://h/\x7f", "1s://h", "a/b:c", "http:", "s://h\"/",
)  # fmt: skip


@dataclass
class Node:
    """One value of a DER text."""

    tag: int
    content: bytes = b""
    children: list[Node] = field(default_factory=list)
    #: True if an OCTET STRING or BIT STRING holds the children.
    is_wrapped: bool = False

    def encoded(self) -> bytes:
        body = b"".join(child.encoded() for child in self.children) if self.children else self.content
        if self.is_wrapped and self.tag == 0x03:
            body = b"\0" + body
        return tlv(self.tag, body)

    def nodes(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.nodes()


def parsed(data: bytes) -> list[Node]:
    """Return the values of a valid DER text."""
    nodes, start = [], 0
    while start < len(data):
        tag, length, begin = data[start], data[start + 1], start + 2
        if length >= 0x80:
            begin += length - 0x80
            length = int.from_bytes(data[start + 2 : begin], "big")
        content = data[begin : begin + length]
        if begin + length > len(data):
            raise ValueError("cut off")
        node = Node(tag, content)
        if tag & _CONSTRUCTED:
            node.children = parsed(content)
        elif tag in (0x03, 0x04):
            try:
                inner = parsed(content[1:] if tag == 0x03 else content)
                if b"".join(entry.encoded() for entry in inner) == (content[1:] if tag == 0x03 else content):
                    node.children, node.is_wrapped = inner, bool(inner)
            except (ValueError, IndexError):
                pass
        nodes.append(node)
        start = begin + length
    return nodes


def seeds() -> list[bytes]:
    """Return certificates of the kinds that clusters have."""
    every: list[tuple[x509.ExtensionType, bool]] = [
        (key_usage("digital_signature", "key_cert_sign"), True),
        (x509.SubjectKeyIdentifier(b"one"), False),
        (x509.AuthorityKeyIdentifier(b"two", None, None), False),
        (x509.NameConstraints([*dns("svc"), *networks("10.0.0.0/8")], None), True),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in ("1.2.3", "2.5.29.32.0")]), False),
        (x509.PolicyConstraints(0, 1), True),
        (x509.InhibitAnyPolicy(3), True),
        (x509.AuthorityInformationAccess([
            x509.AccessDescription(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1"), x509.UniformResourceIdentifier("http://a/"))]), False),
        (x509.CRLDistributionPoints([
            x509.DistributionPoint([x509.UniformResourceIdentifier("http://a/")], None, None, None)]), False),
    ]  # fmt: skip
    root = authority("kubernetes", names=dns("ca.svc"), extensions=every)
    names = [
        *dns("hook", "hook.shop.svc"),
        *addresses("10.1.2.3"),
        x509.RFC822Name("a@b"),
        x509.UniformResourceIdentifier("s://b/c"),
    ]
    keys = (
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    )
    made: list[Issued] = [
        root,
        *(issue("hook", root, key=key, names=names, usages=[SERVER_AUTH]) for key in keys),
    ]
    return [entry.certificate.public_bytes(serialization.Encoding.DER) for entry in made]


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Yield this number of changed certificates."""
    dice, originals = random.Random(seed), seeds()
    for _number in range(count):
        der = dice.choice(originals)
        if dice.random() < 0.15:
            yield _bytes_changed(der, dice)
            continue
        (tree,) = parsed(der)
        for _change in range(dice.choice((1, 1, 1, 2))):
            _change_tree(tree, dice)
        yield tree.encoded()


def _bytes_changed(der: bytes, dice: random.Random) -> bytes:
    data = bytearray(der)
    for _change in range(dice.choice((1, 1, 2))):
        data[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(data)


def _change_tree(tree: Node, dice: random.Random) -> None:
    nodes = list(tree.nodes())
    node = dice.choice(nodes)
    kind = dice.randrange(9)
    if node.tag == 0x86 and kind < 7:
        node.content = dice.choice(_URIS).encode("latin-1")
    elif kind == 0 and node.children:
        node.children.pop(dice.randrange(len(node.children)))
    elif kind == 1 and node.children:
        node.children.insert(dice.randrange(len(node.children) + 1), dice.choice(node.children))
    elif kind == 2 and len(node.children) > 1:
        dice.shuffle(node.children)
    elif kind == 3:
        node.tag = dice.choice(
            (
                *range(1, 7),
                0x0C,
                0x12,
                0x13,
                0x14,
                0x16,
                0x17,
                0x18,
                0x1C,
                0x1E,
                0x30,
                0x31,
                *range(0x80, 0x89),
                *range(0xA0, 0xA4),
            )
        )
    elif kind in (4, 5):
        (value,) = parsed(dice.choice(_VALUES))
        node.tag, node.content, node.children, node.is_wrapped = (
            value.tag,
            value.content,
            value.children,
            False,
        )
    elif kind == 6 and node.children:
        (value,) = parsed(dice.choice(_VALUES))
        node.children.insert(dice.randrange(len(node.children) + 1), value)
    elif kind == 7:
        content = bytearray(node.content or b"\0")
        content[dice.randrange(len(content))] = dice.randrange(256)
        node.content, node.children, node.is_wrapped = bytes(content), [], False
    else:
        node.content, node.children, node.is_wrapped = (
            node.content[: dice.randrange(len(node.content) + 1)],
            [],
            False,
        )


@dataclass(frozen=True)
class ServedCase:
    """What a server sends, DER, leaf first, and the client that judges it."""

    chain: tuple[bytes, ...]
    bundle: str
    name: str | None
    time: int


def served_cases(count: int, seed: int) -> Iterator[ServedCase]:
    """Yield this number of chains and bundles, each with a change of its certificates, of the text of the bundle, or of both."""
    dice = random.Random(seed)
    originals = [case for case in cases.random_cases(400, seed) if case.usage == "server auth"]
    for _number in range(count):
        case = dice.choice(originals)
        sent: list[Issued] = [case.leaf, *case.intermediates]
        texts = [block.text for block in pem_text.blocks(case.bundle)]
        chain = [_der(entry) for entry in sent]
        kind = dice.randrange(4)
        if kind == 0:
            place = dice.randrange(len(chain))
            chain[place] = _changed(chain[place], dice, sent[place], sent)
        elif kind == 1:
            place = dice.randrange(len(texts))
            texts[place] = _changed_block(texts[place], dice)
        else:
            texts = _changed_text(texts, dice)
        if kind == 3:
            rest = chain[1:]
            dice.shuffle(rest)
            chain = [chain[0], *rest, *([dice.choice(chain)] * dice.randrange(2))]
        yield ServedCase(tuple(chain), "".join(texts), case.name, int(case.now.timestamp()))


def _der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.DER)


def _changed(der: bytes, dice: random.Random, issued: Issued, issuers: Sequence[Issued]) -> bytes:
    """Return a changed certificate. Mostly its issuer signs the change, so that the change itself is judged."""
    (tree,) = parsed(der)
    if dice.random() < 0.2:
        _change_tree(tree, dice)
        return tree.encoded()
    _change_tree(tree.children[0], dice)
    keys = [entry.key for entry in issuers if entry.certificate.subject == issued.certificate.issuer]
    body = tree.children[0].encoded()
    signature = dice.choice(keys or [issued.key]).sign(body, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, body, tree.children[1].encoded(), tlv(0x03, b"\0", signature))


def _changed_block(text: str, dice: random.Random) -> str:
    """Return the block of an anchor with a change. A verifier does not look at the signature of an anchor."""
    if text == cases.BROKEN:
        return text
    (block,) = pem_text.blocks(text)
    (tree,) = parsed(pem_text.der(block))
    _change_tree(tree.children[0] if dice.random() < 0.8 else tree, dice)
    return pem_text.encode("CERTIFICATE", tree.encoded())


#: Lines that people and programs write between and into the blocks of a bundle.
_LINES = (
    "", " ", "\t", "# the CA of the shop", "subject=CN = kubernetes", "Bag Attributes", "    friendlyName: ca", "Proc-Type: 4,ENCRYPTED", "key: value",
    "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "-----BEGIN X509 CERTIFICATE-----", "-----END TRUSTED CERTIFICATE-----", "-----", "=", "====",
    "-----BEGIN : -----", "-----END CERTIFICATE----- : ", "AAAA", "A", "\ufeff", "\xe9", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
)  # fmt: skip


_ENDS = (" ", "\t", "\r", "\r ", " \r", "=", "\x0b", "\xa0", "x")
_STARTS = (" ", "\t", "\ufeff", "-", "x")
_PARTS = ("", " ", "\n", "-", "=", "*", "A", "\\n")
_LABELS = ("TRUSTED CERTIFICATE", "certificate", "X509 CERTIFICATE", "CERTIFICATE ", "")


def _changed_text(texts: Sequence[str], dice: random.Random) -> list[str]:
    """Return the blocks of a bundle as programs and editors damage them, or write them without harm."""
    lines = "".join(texts).split("\n")
    for _change in range(dice.choice((1, 1, 2, 3))):
        place = dice.randrange(len(lines))
        if dice.random() < 0.6:
            lines[place : place + 1] = _changed_line(lines[place], dice)
        else:
            lines = _moved(lines, place, dice.randrange(6))
        lines = lines or [""]
    return ["\n".join(lines)]


def _changed_line(line: str, dice: random.Random) -> list[str]:
    """Return what is there in place of a line: nothing, another line, or two lines."""
    cut = dice.randrange(len(line) + 1)
    return dice.choice(
        (
            [dice.choice(_LINES), line],
            [dice.choice(_LINES), line],
            [],
            [line + dice.choice(_ENDS)],
            [dice.choice(_STARTS) + line],
            [line[:cut] + dice.choice(_PARTS) + line[cut + 1 :]],
            [line.replace("CERTIFICATE", dice.choice(_LABELS))],
        )
    )


def _moved(lines: list[str], place: int, kind: int) -> list[str]:
    """Return the lines with other ends, cut, joined, indented or repeated."""
    joined = [*lines[:place], "".join(lines[place : place + 2]), *lines[place + 2 :]]
    return (
        [f"{line}\r" for line in lines],
        joined,
        lines[:place],
        lines[place:],
        [f"  {line}" for line in lines],
        lines + lines,
    )[kind]
