# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The canonical form of a request: accepted requests, and refused ones with the reason."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import signing_request
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import strict_der
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError
from cryptography import x509

from tests.support.certificates import der
from tests.support.certificates.der import (
    BASIC,
    BMP,
    CN,
    IA5,
    KEY_ID,
    LABEL,
    NUMERIC,
    OU,
    PRINTABLE,
    SAN,
    T61,
    UNIVERSAL,
    O,
    address,
    attribute,
    attributes,
    directory_name,
    dns,
    email,
    extended_usage,
    extension,
    info,
    key,
    key_usage,
    names,
    octets,
    oid,
    other_name,
    part,
    pem,
    request,
    requested,
    sequence,
    set_of,
    signed,
    subject,
    text,
    tlv,
    uri,
)
from tests.support.failures import fails

pytestmark = pytest.mark.quick

HOOK = names(dns("hook.apps.svc"))
GOOD = pem(request(HOOK))
REQUESTS = Path(__file__).parent / "requests"
NO_NAMES = sequence()

ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing but a name": (pem(request()), {"common_name": "hook", "subject": "CN=hook"}),
    "no subject": (pem(request(HOOK, name=NO_NAMES)), {"common_name": "", "subject": ""}),
    "all that is compared": (
        pem(
            request(
                names(
                    dns("hook"),
                    address("10.1.2.3"),
                    address("fd00::1"),
                    email("a@b"),
                    uri("spiffe://shop/ns/x"),
                ),
                key_usage(0, 2),
                extended_usage("1.3.6.1.5.5.7.3.1", "1.2.3.4"),
                extension(BASIC, sequence(), b"\x01\x01\xff"),
                extension(KEY_ID, octets(b"one")),
            )
        ),
        {
            "dns_names": ("hook",),
            "ip_addresses": ("10.1.2.3", "fd00::1"),
            "emails": ("a@b",),
            "uris": ("spiffe://shop/ns/x",),
            "usages": ("digital signature", "key encipherment", "server auth", "1.2.3.4"),
            "wants_ca": False,
        },
    ),
    "an IPv4 address as IPv6": (
        pem(request(names(address("::ffff:10.96.0.1")))),
        {"ip_addresses": ("10.96.0.1",)},  # as Go writes it into the certificate
    ),
    "the last key usage": (pem(request(key_usage(4, 8))), {"usages": ("key agreement", "decipher only")}),
    "every type of the subject and every string type": (
        pem(
            request(
                name=subject(
                    *(
                        part(kind, "x y", tag)
                        for kind, tag in zip(("2.5.4.6", "2.5.4.7", "2.5.4.8"), (PRINTABLE, IA5, 12))
                    ),
                    part(O, "first"),
                    part(O, "zweite Größe, \U0001f600"),
                    part(OU, "third"),
                    part(CN, "#hook+"),
                )
            )
        ),
        {
            "organizations": ("first", "zweite Größe, \U0001f600"),
            "common_name": "#hook+",
            "subject": "CN=\\#hook\\+,OU=third,O=zweite Größe\\, \U0001f600,O=first,ST=x y,L=x y,C=x y",
        },
    ),
    "an RDN of two parts": (
        pem(request(name=sequence(set_of(part(O, "a"), part(O, "b")), set_of(part(CN, "c"))))),
        {"organizations": ("a", "b"), "subject": "CN=c,O=a+O=b"},
    ),
    "an authority": (pem(request(extension(BASIC, sequence(b"\x01\x01\xff")))), {"wants_ca": True}),
    "an authority with a path length": (
        pem(request(extension(BASIC, sequence(b"\x01\x01\xff", b"\x02\x01\x00")))),
        {"wants_ca": True},
    ),
    "attributes that say nothing": (
        pem(
            request(
                HOOK,
                more=[
                    attribute(der.CHALLENGE_PASSWORD, text("secret")),
                    attribute(der.UNSTRUCTURED_NAME, text("x", IA5)),
                    attribute("1.3.6.1.4.1.311.13.2.3", text("10.0.1", IA5)),
                    attribute("1.3.6.1.4.1.311.21.20", sequence(b"\x02\x01\x05", text("host"))),
                    attribute(
                        "1.3.6.1.4.1.311.13.2.2", sequence(b"\x02\x01\x00", text("ö", BMP), tlv(3, b"\0"))
                    ),
                ],
            )
        ),
        {"dns_names": ("hook.apps.svc",)},
    ),
    "wrong signature": (
        pem(request(HOOK).replace(b"hook.apps", b"evil.apps")),
        {"is_signature_valid": False, "dns_names": ("evil.apps.svc",)},
    ),
    **{
        f"key {kind}": (pem(request(HOOK, signer=key(kind))), {"is_signature_valid": True})
        for kind in ("ed25519", "p224", "p384", "rsa")
    },
    "CRLF": (GOOD.replace("\n", "\r\n"), {}),
    "no final newline": (GOOD.rstrip("\n"), {}),
    "one long line": (
        f"-----BEGIN {LABEL}-----\n{''.join(GOOD.splitlines()[1:-1])}\n-----END {LABEL}-----\n",
        {},
    ),
    "lines of 76": (
        "\n".join(
            [
                f"-----BEGIN {LABEL}-----",
                *(
                    "".join(GOOD.splitlines()[1:-1])[start : start + 76]
                    for start in range(0, len("".join(GOOD.splitlines()[1:-1])), 76)
                ),
                f"-----END {LABEL}-----",
            ]
        ),
        {},
    ),
    "blanks outside": (f" \t\r\n\n{GOOD}\r\n \t", {}),
}


@pytest.mark.parametrize("title", ACCEPTED)
def test_accepted(title: str) -> None:
    pem_text, expected = ACCEPTED[title]
    facts = vars(signing_request.parse(pem_text))
    wanted = {"is_signature_valid": True, "wants_ca": False, **expected}
    assert {name: facts[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "title", [title for title in ACCEPTED if title not in ("blanks outside", "an IPv4 address as IPv6")]
)
def test_the_library_reads_the_same(title: str) -> None:
    facts = signing_request.parse(ACCEPTED[title][0])
    other = x509.load_pem_x509_csr(ACCEPTED[title][0].encode())
    names = [entry for ext in other.extensions if ext.oid.dotted_string == SAN for entry in ext.value]
    assert facts.dns_names == tuple(entry.value for entry in names if isinstance(entry, x509.DNSName))
    assert facts.ip_addresses == tuple(
        str(entry.value) for entry in names if isinstance(entry, x509.IPAddress)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a country that is not two letters
        assert facts.subject == other.subject.rfc4514_string()


def nested(levels: int) -> bytes:
    return sequence(nested(levels - 1)) if levels else b""


def fourth_part(data: bytes) -> bytes:
    return sequence(*(entry.raw for entry in strict_der.parse(data).children), b"\x05\x00")


def of(name: bytes = b"", inner: bytes = b"", **options: Any) -> str:
    """Return a request with a raw subject or raw attributes."""
    return pem(
        signed(info(name or subject(part(CN, "hook")), inner or attributes(), key(), **options), key())
    )


TWICE = requested(HOOK)
CRITICAL_FALSE = b"\x01\x01\x00"

REFUSED: dict[str, tuple[str, str]] = {
    # The text.
    "nothing": ("", "one PEM block"),
    "keytool's label": (pem(request(), f"NEW {LABEL}"), "one PEM block"),
    "two blocks": (GOOD + GOOD, "one PEM block"),
    "a block of another kind after it": (GOOD + pem(b"x", "CERTIFICATE"), "one PEM block"),
    "words before it": (f"Certificate Request:\n{GOOD}", "one PEM block"),
    "words after it": (f"{GOOD}# comment\n", "one PEM block"),
    "an indent": (f" {GOOD}", "one PEM block"),
    "a header": (GOOD.replace("-----\n", "-----\nA: b\n\n", 1), "one PEM block"),
    "an empty line inside": (GOOD.replace("-----\n", "-----\n\n", 1), "one PEM block"),
    "a blank inside": (GOOD.replace("-----\n", "-----\n ", 1), "one PEM block"),
    "a blank after BEGIN": (GOOD.replace("-----\n", "----- \n", 1), "one PEM block"),
    "a CR without LF": (GOOD.replace("\n", "\r"), "one PEM block"),
    "a character outside ASCII": (f"{GOOD}\u2028", "one PEM block"),
    "a zero": (f"{GOOD}\0", "one PEM block"),
    "no base64": (f"-----BEGIN {LABEL}-----\n!!!!\n-----END {LABEL}-----\n", "one PEM block"),
    "missing padding": (f"-----BEGIN {LABEL}-----\nQQ\n-----END {LABEL}-----\n", "one PEM block"),
    "bits after the padding": (f"-----BEGIN {LABEL}-----\nQR==\n-----END {LABEL}-----\n", "one PEM block"),
    "empty": (f"-----BEGIN {LABEL}-----\n-----END {LABEL}-----\n", "one PEM block"),
    # The encoding.
    "not DER": (pem(b"A"), "cut off"),
    "cut off": (pem(request()[:-1]), "cut off"),
    "trailing data": (pem(request() + sequence()), "2 values"),
    "an indefinite length": (pem(b"\x30\x80" + request()[4:] + b"\0\0"), "length"),
    "a length with a zero before it": (
        of(public=key().public.replace(b"\x30\x59", b"\x30\x81\x59", 1)),
        "length",
    ),
    "a long tag": (of(b"\x3f\x00"), "0x3f"),
    "a negative zero": (pem(request(version=b"\x02\x02\x00\x00")), "0x02"),
    "an OID with a zero before it": (
        of(subject(sequence(b"\x06\x04\x80\x55\x04\x03", text("hook")))),
        "0x06",
    ),
    "a constructed string": (of(subject(sequence(oid(CN), tlv(0x2C, text("hook"))))), "0x2c"),
    "UTF-8 that is not": (of(subject(sequence(oid(CN), tlv(0x0C, b"\xc0\x80")))), "0x0c"),
    "an unsorted SET OF": (of(sequence(tlv(0x31, part(O, "b"), part(O, "a")))), "0x31"),
    "deep": (of(nested(40)), "deeper"),
    "another version": (pem(request(version=b"\x02\x01\x01")), "version"),
    "more names than any webhook has": (
        of(inner=attributes(requested(names(*(dns(f"n{number}.apps.svc") for number in range(1001)))))),
        "more than 1000 names",
    ),
    "a fourth part": (pem(fourth_part(request())), "SEQUENCE of 3"),
    "no attributes": (
        pem(signed(sequence(b"\x02\x01\x00", NO_NAMES, key().public), key())),
        "SEQUENCE of 4",
    ),
    # The subject.
    "two common names": (of(subject(part(CN, "a"), part(CN, "b"))), "more than one common name"),
    **{
        f"a string of the type 0x{tag:02x}": (of(subject(part(CN, "1", tag))), f"tag 0x{tag:02x}")
        for tag in (NUMERIC, T61, UNIVERSAL, BMP)
    },
    "an e-mail address in the subject": (
        of(subject(part("1.2.840.113549.1.9.1", "a@b", IA5))),
        "1.2.840.113549.1.9.1",
    ),
    "a user identifier": (
        of(subject(part("0.9.2342.19200300.100.1.1", "root"))),
        "0.9.2342.19200300.100.1.1",
    ),
    "a zero in a name": (of(subject(part(CN, "a\0b"))), "control characters"),
    "an empty name": (of(subject(part(CN, ""))), "is empty"),
    "an asterisk in a PrintableString": (of(subject(part(CN, "*", PRINTABLE))), "0x13"),
    "an RDN without a part": (of(sequence(tlv(0x31))), "at least one"),
    # Attributes.
    "Microsoft's extensions": (
        of(inner=attributes(requested(HOOK, kind=der.MICROSOFT_REQUEST))),
        "311.2.1.14",
    ),
    "an unknown attribute": (of(inner=attributes(attribute("1.2.3.4", text("x")))), "attribute 1.2.3.4"),
    "two attributes of extensions": (
        of(inner=attributes(TWICE, requested(names(dns("evil"))))),
        "attribute 1.2.840.113549.1.9.14 more than once",
    ),
    "two lists of extensions in one attribute": (
        of(inner=attributes(attribute(der.EXTENSION_REQUEST, sequence(HOOK), sequence(names(dns("evil")))))),
        "2 values",
    ),
    "no list of extensions": (of(inner=attributes(attribute(der.EXTENSION_REQUEST))), "at least one"),
    "an empty list of extensions": (of(inner=attributes(requested())), "at least one"),
    "unsorted attributes": (
        of(inner=tlv(0xA0, *sorted([TWICE, attribute(der.CHALLENGE_PASSWORD, text("x"))], reverse=True))),
        "SET OF",
    ),
    # Extensions.
    "an extension twice": (pem(request(HOOK, names(dns("evil")))), "extension 2.5.29.17 more than once"),
    "an unknown extension": (pem(request(extension("1.2.3.4", octets(b"")))), "extension 1.2.3.4"),
    "name constraints": (pem(request(extension("2.5.29.30", sequence()))), "extension 2.5.29.30"),
    "critical spelled out": (pem(request(extension(SAN, sequence(dns("a")), CRITICAL_FALSE))), "critical"),
    "rest after a value": (pem(request(extension(SAN, sequence(dns("a")) + sequence()))), "2 values"),
    "no names": (pem(request(names())), "at least one"),
    "a user principal name": (pem(request(names(dns("a"), other_name("root@corp")))), "otherName"),
    "a directory name": (pem(request(names(dns("a"), directory_name(part(CN, "x"))))), "directoryName"),
    "a registered identifier": (pem(request(names(tlv(0x88, oid("1.2.3")[2:])))), "registeredID"),
    "an EDI party": (pem(request(names(tlv(0xA5, tlv(0xA1, text("x")))))), "ediPartyName"),
    "an X.400 address": (pem(request(names(tlv(0xA3, sequence())))), "x400Address"),
    "a name of no type": (pem(request(names(tlv(0x8A, b"x")))), "0x8a"),
    "a DNS name outside ASCII": (pem(request(names(dns("hök")))), "characters"),
    "a DNS name with a zero": (pem(request(names(dns("a\0.b")))), "characters"),
    "an empty DNS name": (pem(request(names(dns("")))), "characters"),
    "an address of five octets": (pem(request(names(tlv(0x87, b"12345")))), "5 octets"),
    "an address with its mask": (pem(request(names(tlv(0x87, b"12345678")))), "8 octets"),
    "a URI that Go writes in another way": (pem(request(names(uri("HTTPS://a")))), "characters"),
    "a constraint spelled out": (pem(request(extension(BASIC, sequence(CRITICAL_FALSE)))), "default"),
    "a path length of no authority": (
        pem(request(extension(BASIC, sequence(b"\x02\x01\x00")))),
        "basicConstraints",
    ),
    "key usages with a zero at the end": (
        pem(request(extension(der.KEY_USAGE, tlv(0x03, b"\x04\xa0")))),
        "keyUsage",
    ),
    "no key usage": (pem(request(extension(der.KEY_USAGE, tlv(0x03, b"\0")))), "keyUsage"),
    "ten key usages": (pem(request(extension(der.KEY_USAGE, tlv(0x03, b"\x06\x80\x40")))), "keyUsage"),
    "no extended usage": (pem(request(extended_usage())), "at least one"),
    # The key.
    "a compressed point": (of(public=key().compressed()), "usual encoding"),
    "a curve that Go does not know": (pem(request(signer=key("k256"))), "kind of key"),
    "a signature algorithm that Go does not know": (
        pem(
            signed(info(NO_NAMES, attributes(), key()), key(), algorithm=sequence(oid("1.2.840.10045.4.3.1")))
        ),
        "signature algorithm 1.2.840.10045.4.3.1",
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_refused(title: str) -> None:
    pem_text, reason = REFUSED[title]
    with fails("request-not-canonical") as caught:
        signing_request.parse(pem_text)
    assert reason in caught.value.cause


@pytest.mark.parametrize("title", der.attacks("a", "b"))
def test_a_request_that_go_reads_otherwise_is_refused(title: str) -> None:
    with pytest.raises(CertificateError) as caught:
        signing_request.parse(der.attacks("hook.apps.svc", "kubernetes.default.svc")[title])
    assert caught.value.code == "request-not-canonical"


@pytest.mark.parametrize("path", sorted(REQUESTS.glob("*.pem")), ids=lambda path: path.stem)
def test_a_request_of_an_ordinary_tool_is_accepted(path: Path) -> None:
    # The API server refuses keytool's own label.
    pem_text = path.read_bytes().decode("ascii").replace("NEW CERTIFICATE", "CERTIFICATE")
    assert signing_request.parse(pem_text).is_signature_valid


def test_requests_of_every_tool_are_there() -> None:
    tools = {path.stem.partition("-")[0] for path in REQUESTS.glob("*.pem")}
    assert tools == {"openssl", "go", "kubelet", "certmanager", "keytool"}
