# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damaged and hostile input gives a result or a CertificateError, in a short time."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils import _x509
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    certificate_facts,
    private_keys,
    signing_request,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.chain import name_constraints, verify
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.errors import CertificateError
from cryptography import x509

from tests.support.certificates.authority import (
    NOW,
    SERVER_AUTH,
    addresses,
    authority,
    dns,
    issue,
    key_usage,
    networks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The library warns of what it will refuse one day; here that is one more kind of damage.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

CA = authority(
    "kubernetes",
    names=dns("ca.svc"),
    extensions=[
        (key_usage("key_cert_sign"), True),
        (x509.NameConstraints([*dns("svc"), *networks("10.0.0.0/8")], None), True),
        (x509.SubjectKeyIdentifier(b"one"), False),
    ],
)
LEAF = issue(
    "hook",
    CA,
    names=[
        *dns("hook.shop.svc"),
        *addresses("10.1.2.3"),
        x509.RFC822Name("a@b"),
        x509.UniformResourceIdentifier("s://b"),
    ],
    usages=[SERVER_AUTH],
    extensions=[(x509.AuthorityKeyIdentifier(b"one", None, None), False)],
)
KEY = private_keys.to_pem(private_keys.generate("ecdsa-p256"))
REQUEST = signing_request.build(
    private_keys.load(KEY), common_name="hook", dns_names=["hook.shop.svc"], ip_addresses=["10.1.2.3"]
)


def describe_all(text: str) -> None:
    for certificate in certificate_facts.load(text):
        certificate.as_result()


def verify_damaged_leaf(text: str) -> None:
    for certificate in certificate_facts.load(text):
        verify.verify(certificate, CA.pem, name="hook.shop.svc", intermediates=[certificate], now=NOW)


def verify_damaged_bundle(text: str) -> None:
    verify.verify(LEAF.facts, text, name="10.1.2.3", now=NOW)


PARSERS: dict[str, tuple[Callable[[str], object], str]] = {
    "blocks": (pem_text.blocks, LEAF.pem + CA.pem),
    "has_private_key": (pem_text.has_private_key, KEY),
    "key": (private_keys.load, KEY),
    "request": (signing_request.parse, REQUEST),
    "leaf": (describe_all, LEAF.pem),
    "authority": (describe_all, CA.pem),
    "verify, damaged leaf": (verify_damaged_leaf, LEAF.pem),
    "verify, damaged bundle": (verify_damaged_bundle, CA.pem),
}


def truncated(text: str) -> Iterator[str]:
    label = pem_text.blocks(text)[0].label
    data = pem_text.der(pem_text.blocks(text)[0])
    for length in range(0, len(text), 13):
        yield text[:length]
    for length in range(len(data)):
        yield pem_text.encode(label, data[:length])


def mutated(text: str, seed: int, count: int = 1500) -> Iterator[str]:
    draw = random.Random(seed)
    label = pem_text.blocks(text)[0].label
    data = pem_text.der(pem_text.blocks(text)[0])
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 5])):
            damaged[draw.randrange(len(damaged))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        yield pem_text.encode(label, bytes(damaged))
    for _ in range(count // 10):
        position = draw.randrange(len(text))
        yield (
            text[:position]
            + draw.choice(["\0", "\n", "é", "\ud800", "-----", "=", "\u2028"])
            + text[position + 1 :]
        )


@pytest.mark.parametrize("parser", PARSERS)
def test_damage(parser: str) -> None:
    parse, text = PARSERS[parser]
    parse(text)
    secret = "".join(KEY.split("\n")[1:2])
    refused = 0
    for damaged in (*truncated(text), *mutated(text, seed=1)):
        try:
            parse(damaged)
        except CertificateError as error:
            refused += 1
            assert "\n" not in str(error)
            assert secret not in str(error)
    assert refused or parse in (pem_text.blocks, pem_text.has_private_key, verify_damaged_bundle)


def test_damaged_anchor_never_verifies() -> None:
    for damaged in truncated(CA.pem):
        assert not verify.verify(LEAF.facts, damaged, name="hook.shop.svc", now=NOW).ok


FIVE_MEGABYTES = 5 * 1024 * 1024


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE ",
        "-----BEGIN A-----\nQQ==\n",
        "-",
        "----- ",
        "\n",
        "A",
        " ",
        base64.b64encode(random.Random(1).randbytes(48)).decode() + "\n",
    ],
)
def test_garbage_takes_linear_time(piece: str) -> None:
    text = "-----BEGIN " + piece * (FIVE_MEGABYTES // len(piece))
    began = time.process_time()
    pem_text.has_private_key(text)
    for block in pem_text.blocks(text)[:1000]:
        with pytest.raises(CertificateError):
            certificate_facts.load_block(block)
    with pytest.raises(CertificateError):
        private_keys.load(text)
    assert time.process_time() - began < 10  # a quadratic walk takes hours


def test_many_certificates_take_linear_time() -> None:
    text = "".join(authority("kubernetes").pem for _ in range(200)) * 5
    began = time.process_time()
    assert len(certificate_facts.load(text)) == 1000
    verdict = verify.verify(LEAF.facts, text, name="hook.shop.svc", now=NOW)
    assert verdict.code == "too-many-cas"
    assert time.process_time() - began < 10


def test_many_names_under_many_constraints() -> None:
    subtrees = dns(*(f"n{number}.svc" for number in range(2000)))
    ca = authority("wide", extensions=[(x509.NameConstraints(subtrees, None), True)])
    leaf = issue("hook", ca, names=dns(*(f"n{number}.svc" for number in range(2000))))
    verdict = verify.verify(leaf.facts, ca.pem, name="n7.svc", now=NOW)
    assert verdict.code == "name-constraint"
    assert verdict.reason.endswith("too many names and constraints to compare")


def test_each_subtree_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """250,000 comparisons of addresses took three seconds, because each read its network again."""
    subtrees = networks(*(f"10.1.{number}.0/24" for number in range(20)))
    ca = authority("wide", extensions=[(x509.NameConstraints(None, subtrees), True)])
    own = addresses(*(f"10.2.0.{number}" for number in range(30)))
    leaf, values, real = (
        issue("hook", ca, names=[*dns("hook.shop.svc"), *own]),
        list[bytes](),
        name_constraints._subtree,
    )

    def counted(kind: int, value: bytes) -> Any:
        values.append(value)
        return real(kind, value)

    monkeypatch.setattr(name_constraints, "_subtree", counted)
    assert verify.verify(leaf.facts, ca.pem, name="hook.shop.svc", now=NOW).ok
    assert sum(len(value) == 8 for value in values) == 20


WITHOUT_LIBRARY = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("cryptography", "kubernetes", "ansible", "urllib3"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
for name in sys.argv[2:]:
    module = importlib.import_module(sys.argv[1] + "." + name)
    print(name, len(getattr(module, "KEY_TYPES", ())))
"""


def test_the_room_imports_without_any_library() -> None:
    names = sorted(
        path.stem for path in Path(next(iter(_x509.__path__))).glob("*.py") if path.stem != "__init__"
    )
    command = [sys.executable, "-c", WITHOUT_LIBRARY, _x509.__name__, *names]
    environ = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert f"private_keys {len(private_keys.KEY_TYPES)}" in done.stdout.splitlines()
