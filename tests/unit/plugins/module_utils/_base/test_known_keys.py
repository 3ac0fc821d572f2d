# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys that a run knows, in every form in which another program may quote them."""

from __future__ import annotations

import base64
import json
import textwrap
from typing import TYPE_CHECKING, Callable
from urllib.parse import quote

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import known_keys
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    ephemeral_ca,
    private_keys,
    signing_request,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa

from tests.support.authority import DAY, NOW
from tests.support.key_leaks import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick

KEYS = {kind: private_keys.generate(kind) for kind in ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519")}
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
CLEAR = serialization.NoEncryption()


def wrapped(text: str, width: int, between: str = "\n") -> str:
    return between.join(textwrap.wrap(text, width))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def body(pem: str) -> str:
    return "".join(pem.splitlines()[1:-1])


def der(pem: str) -> bytes:
    return base64.b64decode(body(pem))


def traditional(pem: str) -> str:
    """Return the key as PKCS#1 or SEC 1, which ed25519 does not have."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    try:
        return key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, CLEAR).decode()
    except ValueError:
        return pem


# Each form of a key, made from its PEM.
FORMS: dict[str, Callable[[str], str]] = {
    "PEM": lambda pem: pem,
    "its body": body,
    "lines of 76": lambda pem: wrapped(body(pem), 76),
    "lines of 20 and CRLF": lambda pem: wrapped(body(pem), 20, "\r\n"),
    "words of 4": lambda pem: wrapped(body(pem), 4, " "),
    "letters": lambda pem: ", ".join(body(pem)),
    "letters of the URL": lambda pem: "-".join(body(pem)),
    "JSON": json.dumps,
    "JSON in JSON": lambda pem: json.dumps(json.dumps(pem)),
    "JSON with escapes": lambda pem: pem.replace("\n", "\\u000a").replace("+", "\\u002b").replace("/", "\\u002F"),
    "a URL": quote,
    "a URL in a URL": lambda pem: quote(quote(body(pem), safe=""), safe=""),
    "the alphabet for URLs": lambda pem: body(pem).replace("+", "-").replace("/", "_"),
    "data of a Secret": encoded,
    "its end": lambda pem: encoded(pem)[37:],
    "data with a character before": lambda pem: encoded("x" + pem)[48:],
    "data with two characters before": lambda pem: encoded("xy" + pem)[48:],
    "data in a URL": lambda pem: quote(encoded(pem), safe=""),
    "data in lines of 76": lambda pem: wrapped(encoded(pem), 76),
    "data as letters": lambda pem: " ".join(encoded(pem)),
    "data of CRLF": lambda pem: encoded(pem.replace("\n", "\r\n")),
    "data of one line": lambda pem: encoded(body(pem)),
    "hexadecimal": lambda pem: der(pem).hex(),
    "HEXADECIMAL": lambda pem: der(pem).hex().upper(),
    "hexadecimal with colons": lambda pem: der(pem).hex(":"),
    "hexadecimal PEM": lambda pem: body(pem).encode().hex(),
    "PKCS#1 or SEC 1": lambda pem: body(traditional(pem)),
    "hexadecimal PKCS#1 or SEC 1": lambda pem: der(traditional(pem)).hex(),
    "data of PKCS#1 or SEC 1": lambda pem: encoded(body(traditional(pem))),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    with known_keys.forget_at_end():
        yield


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS)
def test_no_form_of_a_known_key_is_shown(kind: str, form: str) -> None:
    pem = private_keys.to_pem(KEYS[kind])
    text = f"policy 'no-keys' denied: {FORMS[form](pem)} is not allowed"
    assert known_keys.hide(text) == text
    known_keys.learn(pem)
    hidden = known_keys.hide(text)
    assert leaks(hidden, pem) == []
    assert hidden.startswith("policy 'no-keys' denied: ")
    assert hidden.endswith(" is not allowed")
    assert "***" in hidden
    assert len(hidden) < len(text)


@pytest.mark.parametrize("form", ["its body", "data of a Secret", "hexadecimal"])
@pytest.mark.parametrize("kind", KEYS)
def test_each_piece_of_16_characters_is_masked(kind: str, form: str) -> None:
    pem = private_keys.to_pem(KEYS[kind])
    known_keys.learn(pem)
    whole = FORMS[form](pem)
    for start in range(0, len(whole) - 15, 211 if kind == "rsa-2048" else 7):
        piece = whole[start : start + 16]
        if leaks(piece, pem):
            assert known_keys.hide(f"<{piece}>") == "<***>"


def test_the_search_for_leaks_finds_every_form() -> None:
    pem = private_keys.to_pem(KEYS["ecdsa-p256"])
    assert [form for form in FORMS if not leaks(FORMS[form](pem), pem)] == []


# Texts from which a run learns a key.
SOURCES: dict[str, Callable[[str], str]] = {
    "PEM": lambda pem: pem,
    "PEM of SEC 1": traditional,
    "PEM after a certificate": lambda pem: f"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n{pem}",
    "a Secret": lambda pem: json.dumps({"kind": "Secret", "data": {"tls.crt": encoded("x" * 99), "tls.key": encoded(pem)}}),
    "a Secret with text around": lambda pem: json.dumps({"data": {"tls.key": encoded(f"# key\n{pem}# end")}}),
    "stringData": lambda pem: json.dumps({"stringData": {"tls.key": pem}}),
    "a patch": lambda pem: json.dumps([{"op": "add", "path": "/data/tls.key", "value": encoded(pem)}]),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_learned_from_every_text_that_holds_one(kind: str, source: str) -> None:
    pem = private_keys.to_pem(KEYS[kind])
    known_keys.learn(SOURCES[source](pem))
    assert leaks(known_keys.hide(encoded(pem)), pem) == []


def test_two_keys_are_known_and_both_are_forgotten() -> None:
    pems = [private_keys.to_pem(key) for key in KEYS.values()]
    text = " and ".join(map(body, pems))
    with known_keys.forget_at_end():
        for pem in pems:
            known_keys.learn(pem)
        assert [leaks(known_keys.hide(text), pem) for pem in pems] == [[]] * len(pems)
    assert known_keys.hide(text) == text


def test_a_key_of_an_unusual_kind_is_masked() -> None:
    key = dsa.generate_private_key(1024)
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, CLEAR).decode()
    encrypted = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x" * 9)
    ).decode()
    for text in (pem, encrypted):
        known_keys.learn(text)
        assert known_keys.hide(f"no: {body(text)}") == "no: ***"


def public_texts(kind: str) -> Iterator[str]:
    """Yield what has the public part of a key, and texts of other programs."""
    key = KEYS[kind]
    request = signing_request.build(key, common_name="hook", dns_names=["hook.apps.svc"])
    yield request
    yield encoded(request)
    yield key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo).hex()
    yield private_keys.public_key_sha256(key.public_key())
    signed = ephemeral_ca.sign_once(
        key, common_name="hook.apps.svc", usages=["server auth"], lifetime=DAY, now=NOW
    )
    yield signed.certificate_pem
    yield encoded(signed.ca_pem)
    yield "policies.admissionregistration.k8s.io/v1 refuses Secret apps/hook-tls-0123456789abcdef0123456789abcdef"
    yield "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"
    yield base64.b64encode(bytes(range(256))).decode()
    yield body(private_keys.to_pem(private_keys.generate("ecdsa-p256")))[60:]


@pytest.mark.parametrize("kind", KEYS)
def test_other_texts_do_not_change(kind: str) -> None:
    known_keys.learn(private_keys.to_pem(KEYS[kind]))
    texts = list(public_texts(kind))
    assert [known_keys.hide(text) for text in texts] == texts
