# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draw certificate requests and PEM texts from a grammar, most of them nearly right, and damage some of them.

A seed draws the same structure each time. Keys and signatures differ, because they are random.
"""

from __future__ import annotations

import base64
import random
import re
from typing import TYPE_CHECKING, Callable, TypeVar

from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import strict_der
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError

from tests.support.certificates import der
from tests.support.certificates.der import LABEL, attribute, extension, oid, sequence, text, tlv

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

SUBJECT_TYPES = (der.CN, der.C, der.L, der.ST, der.O, der.O, der.OU)
ODD_SUBJECT_TYPES = (
    *("2.5.4.5", "2.5.4.9", "2.5.4.17", "2.5.4.4", "2.5.4.41", "1.2.840.113549.1.9.1", "2.5.4.3.1", "1.3.3"),
    "0.9.2342.19200300.100.1.1",
)
STRINGS = (der.UTF8, der.UTF8, der.PRINTABLE, der.IA5)
ODD_STRINGS = (
    *(der.NUMERIC, der.T61, der.VISIBLE, der.GENERAL, der.UNIVERSAL, der.BMP),
    *(0x04, 0x05, 0x02, 0x2C, 0x80, 0x15, 0x30),
)
VALUES = ("hook", "hook.apps.svc", "system:nodes", "system:node:one", "DE", "a b (c)", "x" * 70)
# Values that only some string types accept.
FULL_VALUES = ("Größe", "*", "a&b", "\U0001f600", "admin@corp", "under_score")
ODD_VALUES = (
    "",
    "a\0b",
    "\x7f",
    "\udcff",
    "\udced\udca0\udc80",
    "line\nbreak",
    "12345",
    " ",
    "#1",
    "a,b=c",
    "\x85",
)
HOSTS = ("hook", "hook.apps", "hook.apps.svc", "kubernetes.default.svc", "*.apps.svc", "HOOK.apps.svc.")
ODD_HOSTS = ("", " ", "a b", "hö", "\udcff", "a\0.b", "10.0.0.1", "a..b", "x" * 300, "a\n", "%2e", "[::1]")
ADDRESSES = ("10.1.2.3", "fd00::1", "2001:db8:0:1:1:1:1:1", "::1", "0.0.0.0", "::", "::10.1.2.3")
ODD_ADDRESSES = (
    b"",
    b"\x0a\0\0",
    b"\x0a\0\0\x01\xff\xff\xff\0",
    b"12345",
    bytes(10) + b"\xff\xff\x0a\x60\0\x01",
    bytes(32),
)
EMAILS = ("ops@example.com", "root@corp")
URIS = ("spiffe://cluster.local/ns/apps/sa/hook", "https://hook.apps.svc/path", "spiffe://a")
ODD_URIS = (
    *(
        "HTTPS://a",
        "http://a:80/",
        "http://[::1]/",
        "mailto:a@b",
        "//a",
        "/a/../b",
        "http://a/%7e",
        "http://a.",
        "http://-a",
    ),
    *(
        "http://a?b#c",
        "http://a b",
        "http://u:p@a",
        "",
        "%zz",
        "x://a/b//c",
        "http://a/./b",
        "http://*.a",
        "a:b",
        "spiffe://a_b",
    ),
)
USAGES = (
    "1.3.6.1.5.5.7.3.1",
    "1.3.6.1.5.5.7.3.2",
    "2.5.29.37.0",
    "1.3.6.1.5.5.7.3.4",
    "1.2.3.4",
    "1.3.6.1.5.2.3.5",
)
PLAIN_ATTRIBUTES = (
    der.CHALLENGE_PASSWORD,
    der.UNSTRUCTURED_NAME,
    "1.3.6.1.4.1.311.13.2.3",
    "1.3.6.1.4.1.311.21.20",
    "1.3.6.1.4.1.311.13.2.2",
)
ODD_ATTRIBUTES = (
    der.MICROSOFT_REQUEST,
    "1.2.840.113549.1.9.8",
    "1.2.3.4",
    "2.5.29.17",
    "1.2.840.113549.1.9.14.1",
)
ODD_EXTENSIONS = (
    "2.5.29.18",
    "2.5.29.30",
    "2.5.29.31",
    "1.3.6.1.5.5.7.1.24",
    "1.3.6.1.4.1.311.21.7",
    "1.2.3",
    "2.16.840.1.113730.1.1",
)
KEYS = ("ed25519",) * 6 + ("p256",) * 3 + ("rsa", "p384")
ODD_KEYS = ("p224", "k256", "rsa-1024")

BLANKS = (
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\v",
    "\f",
    "\x1c",
    "\x1e",
    "\0",
    "\ufeff",
    "\u2028",
    "\xa0",
    "\x85",
    " \r",
    "\r ",
)
PIECES = (
    *(
        "-",
        "-----",
        "\n-----",
        "-----BEGIN ",
        "\n-----BEGIN ",
        "\n-----END ",
        "-----END ",
        "BEGIN",
        ":",
        "A: b\n",
        "A: b\n\n",
    ),
    *("=", "==", "QUJD", "QQ==", "Q", "!", "_", ":\n", "\n\n", "\n \n", *BLANKS),
)


class Draw:
    """A source of cases. odd: the chance of each unusual choice."""

    def __init__(self, seed: int, odd: float = 0.02) -> None:
        self.random = random.Random(seed)
        self.odd = odd

    def seldom(self, chance: float | None = None) -> bool:
        return self.random.random() < (self.odd if chance is None else chance)

    def one_of(self, usual: Sequence[T], odd: Sequence[T] = ()) -> T:
        return self.random.choice(odd if odd and self.seldom() else usual)

    def several(self, most: int, least: int = 0) -> range:
        return range(self.random.randint(least, most))


def subject(draw: Draw) -> bytes:
    return sequence(*(_relative_name(draw, number) for number in draw.several(3)))


def _relative_name(draw: Draw, number: int) -> bytes:
    parts = [_subject_part(draw, number) for _ in draw.several(2, 1) if not draw.seldom(0.3)]
    if not draw.seldom():
        parts = sorted(parts) or [_subject_part(draw, number)]
    return tlv(0x31, *parts)


def _subject_part(draw: Draw, number: int) -> bytes:
    # Mostly one common name, the first one.
    types = SUBJECT_TYPES if number == 0 or draw.seldom() else SUBJECT_TYPES[1:]
    tag = draw.one_of(STRINGS, ODD_STRINGS)
    values = (*VALUES, *FULL_VALUES) if tag == der.UTF8 or draw.seldom() else VALUES
    return sequence(oid(draw.one_of(types, ODD_SUBJECT_TYPES)), text(draw.one_of(values, ODD_VALUES), tag))


def general_name(draw: Draw) -> bytes:
    kind = draw.one_of(("dns", "dns", "dns", "address", "address", "email", "uri"), ("other",))
    if kind == "dns":
        return der.dns(draw.one_of(HOSTS, ODD_HOSTS)[:200])
    if kind == "email":
        return der.email(draw.one_of(EMAILS, ODD_HOSTS))
    if kind == "uri":
        return der.uri(draw.one_of(URIS, ODD_URIS))
    if kind == "address":
        usual = [der.address(name) for name in ADDRESSES]
        return draw.one_of(usual, [tlv(0x87, packed) for packed in ODD_ADDRESSES])
    return draw.one_of(
        [
            der.other_name("root@corp"),
            der.directory_name(der.part(der.CN, "root")),
            tlv(0x88, b"\x2a\x03"),
            tlv(0xA3, sequence()),
            tlv(0xA5, tlv(0xA1, text("x"))),
            tlv(0xA2, text("constructed")),
            tlv(0x8A, b"x"),
            text("evil"),
        ]
    )


def extensions(draw: Draw) -> list[bytes]:
    rows: tuple[tuple[float, str, Callable[[], bytes]], ...] = (
        (0.8, der.SAN, lambda: sequence(*(general_name(draw) for _ in draw.several(4, 0 if draw.seldom() else 1)))),
        (0.25, der.KEY_USAGE, lambda: _key_usage(draw)),
        (0.25, der.EXTENDED_USAGE, lambda: sequence(*(oid(draw.one_of(USAGES)) for _ in draw.several(3, 1)))),
        (0.2, der.BASIC, lambda: _basic(draw)),
        (0.1, der.KEY_ID, lambda: der.octets(b"12345678901234567890")),
        (draw.odd, draw.random.choice(ODD_EXTENSIONS), lambda: draw.one_of([sequence(), text("x"), b""])),
        (draw.odd, der.SAN, lambda: sequence(der.dns("evil.svc"))),
    )  # fmt: skip
    found = []
    for chance, kind, value in rows:
        if draw.seldom(chance):
            critical = draw.one_of(
                (b"", b"", b"\x01\x01\xff"), (b"\x01\x01\x00", b"\x01\x01\x01", b"\x01\x00", b"\x05\x00")
            )
            found.append(extension(kind, value() + (sequence() if draw.seldom(0.01) else b""), critical))
    draw.random.shuffle(found)
    return found


def _key_usage(draw: Draw) -> bytes:
    bits = draw.random.sample(range(9), draw.random.randint(0 if draw.seldom() else 1, 4))
    usual = der.key_usage(*bits)[9:]  # the value in the extension
    return draw.one_of(
        [usual],
        [b"\x03\x02\x00\xa0", b"\x03\x02\x04\xa0", b"\x03\x01\x00", b"\x03\x03\x06\x80\x40", b"\x03\x00"],
    )


def _basic(draw: Draw) -> bytes:
    no, yes, length = b"\x01\x01\x00", b"\x01\x01\xff", b"\x02\x01\x00"
    usual = [sequence(), sequence(), sequence(yes), sequence(yes, length)]
    return draw.one_of(
        usual, [sequence(no), sequence(length), sequence(b"\x01\x01\x01"), b"", sequence(yes, length, length)]
    )


def attributes(draw: Draw) -> bytes:
    found = []
    requested = extensions(draw)
    if requested or draw.seldom():
        lists = [sequence(*requested) for _ in range(draw.one_of((1,), (0, 2)))]
        found.append(attribute(draw.one_of([der.EXTENSION_REQUEST], ODD_ATTRIBUTES), *lists))
    if draw.seldom():
        found.append(
            attribute(
                draw.one_of([der.EXTENSION_REQUEST, der.MICROSOFT_REQUEST]), sequence(*extensions(draw))
            )
        )
    for kind in PLAIN_ATTRIBUTES:
        if draw.seldom(0.04):
            value = draw.one_of(
                [text("x"), text("x", der.IA5), sequence(text("é", der.BMP)), der.octets(b"")],
                [b"", b"\x05\x01"],
            )
            found.append(attribute(kind, value))
    if draw.seldom(0.01):
        found.append(draw.one_of([sequence(), sequence(oid("1.2.3")), text("x"), tlv(0x31)]))
    return tlv(0xA0, *(found if draw.seldom() else sorted(found)))


def request(draw: Draw) -> bytes:
    """Draw a DER request, mostly with its own signature."""
    kind = draw.one_of(KEYS, ODD_KEYS)
    signer = der.key(kind)
    version = draw.one_of([b"\x02\x01\x00"], [b"\x02\x01\x01", b"\x02\x02\x00\x00", b"\x02\x01\xff"])
    public = signer.compressed() if kind == "p256" and draw.seldom() else signer.public
    to_sign = sequence(version, subject(draw), public, attributes(draw))
    if draw.seldom(0.25):
        to_sign = damaged_tree(draw, to_sign)
    algorithm = draw.one_of(
        [b""], [sequence(oid("1.2.840.113549.1.1.4"), b"\x05\x00"), sequence(oid("1.2.840.10045.4.3.2"))]
    )
    data = der.signed(to_sign, signer, algorithm=algorithm)
    if draw.seldom():
        data = damaged_octets(draw, data)
    return data + draw.one_of([b""], [b"\0", sequence(), b"\x30"])


class Node:
    """One value that can be damaged before its ancestors get their lengths."""

    def __init__(self, element: strict_der.DerElement) -> None:
        self.tag = element.tag
        self.content = element.content
        self.children = [Node(child) for child in element.children]
        self.wraps = False
        self.encode_length: Callable[[int], bytes] = usual_length
        self.end = b""
        if element.tag == 0x04:
            self._unwrap(element.content)

    def _unwrap(self, content: bytes) -> None:
        """An extension's value is a value inside an OCTET STRING."""
        try:
            self.children = [Node(strict_der.parse(content))]
        except CertificateError:
            self.children = []

    def encoded(self) -> bytes:
        content = b"".join(child.encoded() for child in self.children) if self.children else self.content
        return bytes([self.tag]) + self.encode_length(len(content)) + content + self.end

    def all(self) -> list[Node]:
        return [self, *(node for child in self.children for node in child.all())]


def usual_length(length: int) -> bytes:
    return tlv(0, bytes(length))[1 : -length or None]


def damaged_tree(draw: Draw, data: bytes) -> bytes:
    """Return the value with one part encoded in another way, doubled, moved or removed."""
    try:
        root = Node(strict_der.parse(data))
    except CertificateError:
        return damaged_octets(draw, data)
    nodes = root.all()
    node = draw.random.choice(nodes)
    draw.random.choice(_DAMAGES)(draw, node)
    return root.encoded()


def _longer_length(draw: Draw, node: Node) -> None:
    more = draw.random.randint(1, 4)
    node.encode_length = lambda length: bytes([0x80 | more]) + length.to_bytes(4, "big")[-more:]


def _indefinite(draw: Draw, node: Node) -> None:
    node.encode_length = lambda _length: b"\x80"
    node.end = b"\0\0"


def _other_tag(draw: Draw, node: Node) -> None:
    node.tag = draw.one_of(
        [
            node.tag ^ 0x20,
            0x30,
            0x31,
            0x0C,
            0x13,
            0x16,
            0x1C,
            0x1E,
            0x04,
            0x24,
            0x82,
            0xA0,
            draw.random.randrange(256),
        ]
    )


def _other_content(draw: Draw, node: Node) -> None:
    node.children = []
    node.content = draw.one_of(
        [b"", b"\0", node.content[:-1], node.content + b"\0", b"\0" + node.content, b"\x80" + node.content]
    )


def _flipped(draw: Draw, node: Node) -> None:
    node.content = damaged_octets(draw, node.content or b"x")
    node.children = []


def _doubled(draw: Draw, node: Node) -> None:
    if node.children:
        node.children.insert(draw.random.randint(0, len(node.children)), draw.random.choice(node.children))


def _moved(draw: Draw, node: Node) -> None:
    draw.random.shuffle(node.children)


def _removed(draw: Draw, node: Node) -> None:
    if node.children:
        node.children.pop(draw.random.randrange(len(node.children)))


_DAMAGES = (_longer_length, _indefinite, _other_tag, _other_content, _flipped, _doubled, _moved, _removed)


def damaged_octets(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in draw.several(3, 1):
        position = draw.random.randrange(len(changed))
        kind = draw.random.randrange(4)
        if kind == 0:
            changed[position] ^= 1 << draw.random.randrange(8)
        elif kind == 1:
            changed[position] = draw.one_of([0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x0C])
        elif kind == 2:
            changed.insert(position, draw.random.randrange(256))
        elif len(changed) > 1:
            del changed[position]
    return bytes(changed)


def block(draw: Draw, data: bytes, label: str = LABEL) -> str:
    """Return the data as PEM, in one of the forms that ordinary programs write."""
    body = base64.b64encode(data).decode()
    width = draw.one_of([64, 64, 64, 76, 10_000, 1, 63])
    lines = re.findall(f".{{1,{width}}}", body)
    end = draw.one_of(["\n", "\n", "\n", "\r\n"])
    return end.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def damaged_text(draw: Draw, whole: str, other: str) -> str:
    """Return the text with pieces added, removed or joined with another block."""
    for _ in draw.several(3, 1):
        position = draw.random.randrange(len(whole) + 1)
        if draw.seldom(0.4):  # at the begin or end of lines and markers
            edges = [found.start() for found in re.finditer(r"-----|\r?\n|(?<=\n)", whole)] or [0]
            position = draw.random.choice(edges)
        kind = draw.random.randrange(6)
        if kind <= 2:
            whole = whole[:position] + draw.one_of(PIECES) + whole[position:]
        elif kind == 3:
            whole = whole[:position] + whole[position + draw.one_of([1, 1, 2, 5, 40]) :]
        elif kind == 4:
            whole = draw.one_of(
                [whole + other, other + whole, whole.rstrip("\r\n") + draw.one_of(BLANKS) + "\n" + other]
            )
        else:
            whole = whole.replace(
                *draw.one_of(
                    [
                        ("\n", "\r\n"),
                        ("\r", ""),
                        ("REQUEST", "REQUESTS"),
                        ("CERTIFICATE", "NEW CERTIFICATE"),
                        ("\n", " \n"),
                        ("BEGIN", "begin"),
                    ]
                )
            )
    return whole


def request_text(draw: Draw) -> bytes:
    """Draw a value of spec.request."""
    whole = block(draw, request(draw))
    if draw.seldom(0.3):
        whole = damaged_text(draw, whole, block(draw, request(draw)))
    return _as_bytes(draw, whole)


def bundle_text(draw: Draw) -> bytes:
    """Draw a value of caBundle. The content of its blocks does not matter."""
    blocks = [
        block(draw, draw.random.randbytes(draw.random.randint(0, 60)), "CERTIFICATE")
        for _ in draw.several(3, 1)
    ]
    whole = "".join(blocks)
    return _as_bytes(draw, damaged_text(draw, whole, blocks[0]) if draw.seldom(0.9) else whole)


def _as_bytes(draw: Draw, whole: str) -> bytes:
    return whole.encode(draw.one_of(["utf-8", "latin-1"]), "replace")
