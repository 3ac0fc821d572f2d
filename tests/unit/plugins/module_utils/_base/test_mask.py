# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys that other programs quote, in each form that the mask promises to hide, and texts that it must not change."""

from __future__ import annotations

import ast
import base64
import json
import random
import re
import textwrap
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import text as text_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import (
    LONGEST_MASKED,
    MASK,
    mask,
    mask_login,
    shortened,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, x448, x25519

from tests.support.certificates.key_leaks import leaks, same_key, unknown_pem

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture(autouse=True)
def _no_known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_PARTS_OF_KEYS", set())


KEYS = {kind: same_key(kind) for kind in ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519")}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def body(pem: str) -> str:
    return "".join(pem.splitlines()[1:-1])


def der(pem: str) -> bytes:
    return base64.b64decode(body(pem))


def lines(text: str, width: int, between: str = "\n") -> str:
    return between.join(textwrap.wrap(text, width))


def traditional(pem: str) -> str:
    """Return the key as PKCS#1 or SEC 1, which ed25519 does not have."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    try:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
    except ValueError:
        return pem


def dump(content: bytes, line_of: Callable[[int, bytes, str], str]) -> str:
    """Return lines of 16 bytes. line_of: the offset, the bytes, and the bytes as text -> a line."""
    rows = [(start, content[start : start + 16]) for start in range(0, len(content), 16)]
    return "\n".join(
        line_of(start, row, re.sub(r"[^ -~]", ".", row.decode("latin-1"))) for start, row in rows
    )


def dumped(content: bytes) -> str:
    """Return what hex.Dump of Go and hexdump -C print."""
    return dump(
        content,
        lambda start, row, text: f"{start:08x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  |{text}|",
    )


def xxd(content: bytes) -> str:
    return dump(content, lambda start, row, text: f"{start:08x}: {row.hex(' ', -2):39}  {text}")


# Each form of a key, made from its PEM.
FORMS: dict[str, Callable[[str], str]] = {
    "PEM": lambda pem: pem,
    "PEM on one line": lambda pem: " ".join(pem.split()),
    "PEM without its end": lambda pem: pem[:-40],
    "PEM of short lines": lambda pem: f"-----BEGIN PRIVATE KEY-----\n{lines(body(pem), 20)}\n-----END PRIVATE KEY-----",
    "PKCS#1 or SEC 1": traditional,
    "its body": body,
    "its body in lines": lambda pem: pem.partition("\n")[2].rpartition("\n-")[0],
    "lines of 76 and CRLF": lambda pem: lines(body(pem), 76, "\r\n"),
    "JSON": json.dumps,
    "JSON in JSON": lambda pem: json.dumps(json.dumps(pem)),
    "JSON of its body": lambda pem: json.dumps(lines(body(pem), 64)),
    "JSON with escapes": lambda pem: pem.replace("\n", "\\u000a").replace("+", "\\u002b").replace("/", "\\u002F"),
    "a URL": quote,
    "a URL in a URL": lambda pem: quote(quote(body(pem), safe=""), safe=""),
    "the alphabet for URLs": lambda pem: body(pem).replace("+", "-").replace("/", "_"),
    "data of a Secret": encoded,
    "its end": lambda pem: encoded(pem)[37:],
    "a Secret": lambda pem: json.dumps({"data": {"tls.key": encoded(pem)}}),
    "a map of Go": lambda pem: f"map[tls.crt:LS0tLS1CRUdJTiBDRVJU tls.key:{encoded(pem)}]",
    "an assignment": lambda pem: f"KEY={encoded(pem)}",
    "data in a URL": lambda pem: quote(encoded(pem), safe=""),
    "data in lines of 76": lambda pem: lines(encoded(pem), 76),
    "a map of Go in lines": lambda pem: f"map[tls.key:{lines(encoded(pem), 64)}]",
    "hexadecimal": lambda pem: der(pem).hex(),
    "HEXADECIMAL": lambda pem: der(pem).hex().upper(),
    "hexadecimal in quotes": lambda pem: f'"{der(pem).hex()}"',
    "hexadecimal with a prefix": lambda pem: f"0x{der(pem).hex()}",
    "hexadecimal at the end of a sentence": lambda pem: f"{der(pem).hex()}. It",
    "hexadecimal that is called a serial number": lambda pem: f"serial {der(pem).hex()}",
    "hexadecimal in pairs": lambda pem: der(pem).hex(":"),
    "hexadecimal in pairs, HEXADECIMAL": lambda pem: der(pem).hex(" ").upper(),
    "escapes of bytes": lambda pem: "".join(f"\\x{byte:02x}" for byte in der(pem)),
    "bytes as Go prints them": lambda pem: f"map[tls.key:{list(pem.encode())}]".replace(",", ""),
    "bytes in JSON": lambda pem: json.dumps(list(der(pem))),
    "a dump of its text": lambda pem: dumped(pem.encode()),
    "a dump of its text on one line": lambda pem: " ".join(dumped(pem.encode()).split()),
    "a dump of its body": lambda pem: dumped(body(pem).encode()),
    "a dump of its bytes": lambda pem: dumped(der(pem)),
    "a dump of xxd": lambda pem: xxd(pem.encode()),
    "A DUMP of xxd": lambda pem: xxd(der(pem)).upper(),
    "a dump in JSON": lambda pem: json.dumps(dumped(pem.encode())),
    "a dump of xxd in JSON": lambda pem: json.dumps(xxd(pem.encode())),
    "bytes in lines": lambda pem: json.dumps(list(der(pem)), indent=1),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS)
def test_no_form_of_a_key_is_shown(kind: str, form: str) -> None:
    pem = unknown_pem(KEYS[kind])
    text = f"policy 'no-keys' denied: {FORMS[form](pem)} is not allowed"
    assert leaks(text, pem)
    for shown in (mask(text), shortened(text), mask(" ".join(text.split()))):
        assert leaks(shown, pem) == []
        assert shown.startswith("policy 'no-keys' denied: ")
        assert MASK in shown


SHORT_KEYS = (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey, x25519.X25519PrivateKey, x448.X448PrivateKey)


@pytest.mark.parametrize("kind", SHORT_KEYS)
def test_a_short_key_is_masked_even_if_its_letters_look_like_a_name(kind: Any) -> None:
    """The base64 of each of these bytes has letters of one kind."""
    length = len(kind.generate().private_bytes_raw())
    keys = [kind.from_private_bytes(bytes([byte]) * length) for byte in (0x00, 0x04, 0x69)]
    assert [text for text in map(body, map(unknown_pem, keys)) if mask(f"key '{text}'") != "key '***'"] == []


def test_each_of_many_keys_of_ed25519_is_masked() -> None:
    source = random.Random(1)
    keys = [ed25519.Ed25519PrivateKey.from_private_bytes(source.randbytes(32)) for _key in range(5000)]
    assert [text for text in map(body, map(unknown_pem, keys)) if mask(f"key '{text}'") != "key '***'"] == []


def test_a_word_after_a_long_name_is_judged_by_itself() -> None:
    source = random.Random(1)
    for name in (
        "ValidatingWebhookConfiguration/snapshot-validation-webhook",
        "certificatesigningrequests" * 2,
    ):
        word = base64.b64encode(source.randbytes(30)).decode()
        assert mask(f"denied for {name} {word} of shop") == f"denied for {name} *** of shop"


@pytest.mark.parametrize("kind", KEYS)
def test_a_text_is_masked_before_it_is_cut(kind: str) -> None:
    pem = unknown_pem(KEYS[kind])
    for text in (pem, encoded(pem), der(pem).hex()):
        for longest in range(20, 120):
            assert leaks(shortened(f"denied: {text}", longest), pem) == []


@pytest.mark.parametrize("kind", KEYS)
def test_a_text_of_which_only_the_end_is_shown_begins_with_a_whole_word(kind: str) -> None:
    """The beginning of the first word may be what shows that it is secret."""
    pem = unknown_pem(KEYS[kind])
    for after in range(LONGEST_MASKED - 200, LONGEST_MASKED):
        assert leaks(mask_login(f"{pem}{'x ' * (after // 2)}"), pem) == []
    token = "t0ken-" * 20
    assert "t0ken" not in mask_login(f"said {token} {'x ' * (LONGEST_MASKED // 2 - 30)}", [token])
    assert mask_login("word" * LONGEST_MASKED) == MASK


@pytest.mark.parametrize("kind", KEYS)
def test_the_text_around_a_key_stays(kind: str) -> None:
    data = encoded(unknown_pem(KEYS[kind]))
    assert mask(f"denied: {data} is not allowed") == "denied: *** is not allowed"
    assert mask(f'denied: {{"tls.key":"{data}"}} of shop') == 'denied: {"tls.key":"***"} of shop'


def test_nearly_every_word_of_40_characters_is_masked() -> None:
    source = random.Random(1)
    words = [base64.b64encode(source.randbytes(30)).decode() for _word in range(2000)]
    assert sum(mask(word) == word for word in words) <= 10
    lines_of = "\n".join(words)
    assert len(re.findall(r"[\w+/]{20}", mask(lines_of))) <= 10 * 2
    longer = [base64.b64encode(source.randbytes(48)).decode() for _word in range(2000)]
    assert sum(mask(word) == word for word in longer) <= 1
    assert all(mask(source.randbytes(20).hex()) == MASK for _word in range(100))


# The forms in which a policy sees a key: the text of its file, its body, and the data of a Secret.
SEEN: dict[str, Callable[[str], str]] = {
    "PEM": str,
    "body": body,
    "data": encoded,
    "the alphabet for URLs": FORMS["the alphabet for URLs"],
}


def parts_of(text: str, length: int) -> list[str]:
    """Return all parts of this length that have no space, no padding, and nothing of the frame of PEM."""
    lines_of = re.split(r"-----[^-]+-----|[\s=]", text)
    return [line[start : start + length] for line in lines_of for start in range(len(line) - length + 1)]


@pytest.mark.parametrize("form", SEEN)
@pytest.mark.parametrize("kind", KEYS)
def test_each_part_of_24_characters_of_a_key_of_this_process_is_masked(kind: str, form: str) -> None:
    pem = private_keys.to_pem(private_keys.generate(kind))
    parts = parts_of(SEEN[form](pem), 24)
    assert len(parts) > 20
    assert [part for part in parts if mask(f"denied: '{part}' is a key") != "denied: '***' is a key"] == []


def test_a_key_that_another_program_made_is_known_after_it_is_read() -> None:
    pem = traditional(unknown_pem(KEYS["rsa-2048"])).replace("\n", "\r\n")
    private_keys.load(pem)
    parts = parts_of(encoded(pem), 24)
    assert [part for part in parts if mask(part) != MASK] == []


def test_a_text_that_is_no_key_hides_no_words() -> None:
    words = "-----BEGIN PRIVATE KEY-----\ncertificatesigningrequests\n-----END PRIVATE KEY-----\n"
    with pytest.raises(CertificateError):
        private_keys.load(words)
    assert mask("list certificatesigningrequests") == "list certificatesigningrequests"


NAMES = "subject=/O=Example/CN=certificatesigningrequests\nfriendlyName: snapshotvalidationwebhook\n"


@pytest.mark.parametrize("before", ["", "a", "ab", NAMES, f"{NAMES}é" * 400])
def test_what_stands_before_a_key_in_its_file_hides_no_words(before: str) -> None:
    pem = unknown_pem(KEYS["ecdsa-p256"])
    private_keys.load(f"{before}\n{pem}")
    words = "cannot list certificatesigningrequests for the Service snapshotvalidationwebhook"
    assert mask(words) == words
    data = base64.b64encode(f"{before}\n{pem}".encode()).decode()
    own = data[(len(before.encode()) + 1) * 4 // 3 + 4 : -4]
    for text in (body(pem), own):
        assert [part for part in parts_of(text, 24) if mask(part) != MASK] == []


def test_a_part_is_masked_wherever_it_stands() -> None:
    part = body(private_keys.to_pem(private_keys.generate("ecdsa-p256")))[40:64]
    for text in ("key=%s", '"%s"', "arn:aws:iam::111122223333:%s", "\\n%s\\n", "shop/%s/hook", "%s%%3D"):
        assert part not in mask(text % part)


def test_a_long_secret_does_not_fill_the_memory() -> None:
    text_module.remember_key(
        f"-----BEGIN PRIVATE KEY-----{''.join(f'{number:08}' for number in range(200_000))}"
    )
    assert 1_000 < len(text_module._PARTS_OF_KEYS) < 20_000


# Words of foreign messages and of own sentences that look like encoded bytes at a first glance.
UNCHANGED = (
    "image registry.example.com/csi/snapshot-controller@sha256:" + "0a" * 32,
    "image registry.example.com/shop/hook:" + "0a" * 20,
    "certificate CN=hook until 2027, SHA-256 " + "3f" * 32,
    "10.0.0.7:8443 serves serial " + "4c" * 20 + ", valid until 2027",
    "the new certificate has the serial " + "4c" * 20,
    "SHA-256 " + ":".join(["3F"] * 32) + " and [" + " ".join(["171"] * 32) + "]",
    "hook-" + "0a" * 20 + ".shop.svc and " + "0a" * 20 + ".gr7.eu-west-1.eks.amazonaws.com",
    "batches of " + ", ".join(map(str, range(1, 31))),
    "its digest is sha256:" + "3f" * 32 + ", not sha256:" + "a0" * 32,
    "secrets hook-" + "0a" * 20 + " is forbidden",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests/k8s-csr-0a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b",
    "persistentvolumeclaims/pvc-0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d not found",
    "VolumeSnapshotContent/snapcontent-0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d is ready",
    "Post \"https://hook.apps.svc:443/mutate-snapshot-storage-k8s-io-v1-VolumeSnapshotContent?timeout=10s\": EOF",
    "ValidatingWebhookConfiguration/snapshot-validation-webhook-of-the-storage-team2",
    "ValidatingAdmissionPolicyBinding/NoPrivateKeysInThisNamespaceAtAll",
    "User \"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/me@example.com\"",
    "User \"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_AdministratorAccess_1a2b3c4d5e6f7a8b/jane.doe@example.com\"",
    "User \"arn:aws-us-gov:sts::111122223333:assumed-role/KarpenterNodeRole-EuWest1-Prod2/i-0abc123def4567890\"",
    "https://0A1B2C3D4E5F6A7B8C9D0E1F2A3B4C5D.gr7.eu-west-1.eks.amazonaws.com",
    "-----BEGIN PUBLIC KEY----- is not a certificate",
    "Request node-csr-c69HXe7aYcqkS1bKmH4faEnHAWxn6i2bHZ2mD04jZyQ is not approved yet",
    "GET /apis/certificates.k8s.io/v1/certificatesigningrequests/node-csr-c69HXe7aYcqkS1bKmH4faEnHAWxn6i2bHZ2mD04jZyQ",
)  # fmt: skip


@pytest.mark.parametrize("text", UNCHANGED)
def test_names_paths_and_digests_stay(text: str) -> None:
    assert mask(text) == text


def test_each_name_of_a_request_of_a_kubelet_stays() -> None:
    """It has the base64 of a digest for URLs."""
    source = random.Random(1)
    for _request in range(1000):
        name = f"node-csr-{base64.urlsafe_b64encode(source.randbytes(32)).decode().rstrip('=')}"
        assert mask(f"kubectl certificate approve {name}.") == f"kubectl certificate approve {name}."


# What tasks name: paths of AWX, GitLab, Jenkins and WSL, contexts of clouds, and clusters of an inventory.
OWN_TEXTS = (
    "/runner/project/Inventory/PROD-EU1/KubeConfig-Prod-EU1.yml",
    "/builds/Zx1yQ2wE/0/Group/Infra-K8s/kubeconfig",
    "/mnt/c/Users/Me/Documents/GitHub/K8s-Infra-2026/Clusters/PROD/kubeconfig",
    "clusterAdmin_RG-K8S-PROD-Weu-01_AKS-K8S-Prod-Weu-01",
    "arn:aws:eks:eu-west-1:111122223333:cluster/DataPlatform-Prod-EUW1-Blue-K8s-v2",
)


@pytest.mark.parametrize("text", OWN_TEXTS)
def test_what_a_task_names_stays(text: str) -> None:
    assert mask(text) != text
    text_module.spare([text])
    for words in (
        text,
        f"kubeconfig {text} does not exist",
        f"no context named '{text}'.",
        f"{text}, {text}",
    ):
        assert mask(words) == words


@pytest.mark.parametrize("kind", KEYS)
def test_what_a_task_names_hides_no_key(kind: str) -> None:
    text_module.spare(OWN_TEXTS)
    pem = unknown_pem(KEYS[kind])
    for own in OWN_TEXTS:
        assert leaks(mask(f"{own} {encoded(pem)} {own}{body(pem)}"), pem) == []


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_the_place_of_a_path_is_not_taken_for_a_name(kind: str) -> None:
    """People put the base64 of a kubeconfig or of a key into an option that wants a path."""
    pem = unknown_pem(KEYS[kind])
    for text in (encoded(pem), body(pem), encoded(f"users: [{{client-key-data: {encoded(pem)}}}]")):
        text_module.spare([text, f"/{text}", f"https://host/?sig={text}"])
        for shown in (mask(f"kubeconfig {text} does not exist"), mask(f"/{text}"), mask(f"?sig={text}")):
            assert leaks(shown, pem) == []


# The tables and the tests of what can go wrong: own sentences, words of API servers and of Go, faults and false answers.
PLACES = (
    "plugins",
    "tests/system/fault_injection",
    "tests/system/audit/matrix",
    "tests/unit/plugins/module_utils/_audit",
    "tests/unit/plugins/module_utils/_certificate",
    "tests/unit/plugins/module_utils/_diagnosis",
    "tests/unit/plugins/module_utils/_upgrade",
    "tests/unit/plugins/module_utils/_webhook",
)
# The files with data: sums, object identifiers, and a sample of a result that is a field of its own.
DATA = frozenset(("checksums.py", "canonical_request.py", "webhook_cabundle.py"))


@pytest.mark.parametrize("place", PLACES)
def test_every_message_of_the_tables_stays(place: str) -> None:
    texts = [
        text for path in (ROOT / place).rglob("*.py") if path.name not in DATA for text in literals(path)
    ]
    assert len(texts) > 100
    assert [text for text in texts if mask(text) != text] == []


def literals(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
