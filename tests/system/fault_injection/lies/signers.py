# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a signer may write into status.certificate: the truth, and everything else that the API server lets pass."""

from __future__ import annotations

import base64
import datetime
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.unit.plugins.module_utils._x509 import authority
from tests.unit.plugins.module_utils._x509.authority import ANY_USAGE, CLIENT_AUTH, SERVER_AUTH, Issued

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIAR = "example.com/liar"
APP_SERVING = "beta.eks.amazonaws.com/app-serving"
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
YEAR = datetime.timedelta(days=365)
_EC_KEY, _UNKNOWN_KEY = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263")
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@cache
def root() -> Issued:
    """The CA that the tasks trust (ca_bundle)."""
    return _ca("liar")


@cache
def middle() -> Issued:
    return _ca("liar's second", root())


@cache
def namesake() -> Issued:
    """Another CA of the same name."""
    return _ca("liar")


def _ca(name: str, issuer: Issued | None = None) -> Issued:
    now = datetime.datetime.now(datetime.UTC)
    return authority.authority(name, issuer, not_before=now - HOUR, not_after=now + 5 * YEAR)


@dataclass(frozen=True)
class _PublicHalf:
    """Of a key that the signer does not have."""

    key: Any

    def public_key(self) -> Any:
        return self.key


@dataclass(frozen=True)
class Asked:
    """A request, as a signer reads it."""

    request: x509.CertificateSigningRequest

    @property
    def names(self) -> list[str]:
        found = self.request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return list(found.get_values_for_type(x509.DNSName))

    def leaf(
        self,
        *more: x509.GeneralName,
        by: Issued | None = None,
        names: Sequence[str] | None = None,
        usages: Sequence[str] = (SERVER_AUTH,),
        start: datetime.timedelta = -MINUTE,
        end: datetime.timedelta = HOUR,
        **options: Any,
    ) -> Issued:
        """The certificate that was asked for, but for what is given."""
        now = datetime.datetime.now(datetime.UTC)
        entries = [*authority.dns(*(self.names if names is None else names)), *more]
        options.setdefault("key", _PublicHalf(self.request.public_key()))
        subject = options.pop("subject", self.request.subject)
        options.update(not_before=now + start, not_after=now + end)
        return authority.issue(subject, by or root(), names=entries, usages=usages, **options)


def asked(csr: dict[str, Any]) -> Asked:
    return Asked(x509.load_pem_x509_csr(base64.b64decode(csr["spec"]["request"])))


Answer = "Callable[[Asked], bytes]"


@dataclass(frozen=True)
class Lie:
    """``says``: the code of the failure and names in its line, empty if the certificate is taken. ``failed``: marked Failed besides."""

    name: str
    answer: Callable[[Asked], str | bytes]
    says: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    failed: bool = False


def _authority(asked: Asked) -> str:
    basic = x509.BasicConstraints(ca=True, path_length=None)
    return asked.leaf(extensions=[(basic, True)]).pem


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def _der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.DER)


def _other_signature(asked: Asked) -> str:
    """Its last byte is part of the signature."""
    der = _der(asked.leaf())
    return _pem(der[:-1] + bytes([der[-1] ^ 1]))


def _unknown_key(asked: Asked) -> str:
    return _pem(_der(asked.leaf()).replace(_EC_KEY, _UNKNOWN_KEY))


TRUTHS: tuple[Lie, ...] = (
    Lie("what was asked for", lambda asked: asked.leaf().pem),
    Lie(
        "what was asked for, with its chain",
        lambda asked: asked.leaf(by=middle()).pem + middle().pem + root().pem,
    ),
    Lie(
        "words before it that are no ASCII",
        lambda asked: "Aussteller: Zürich\n".encode("latin-1") + asked.leaf().pem.encode(),
    ),
)
LIES: tuple[Lie, ...] = (
    Lie("another public key", lambda asked: asked.leaf(key=authority.new_key()).pem, ("not-issued",)),
    Lie("a key of a kind that nobody knows", _unknown_key, ("not-issued",)),
    Lie("other names", lambda asked: asked.leaf(names=["other"]).pem, ("not-issued", "hook")),
    Lie("no name", lambda asked: asked.leaf(names=[]).pem, ("not-issued", "hook")),
    Lie(
        "the API server's name besides",
        lambda asked: asked.leaf(*authority.dns("kubernetes.default.svc")).pem,
        ("not-issued", "kubernetes.default.svc"),
    ),
    Lie(
        "a wildcard besides",
        lambda asked: asked.leaf(*authority.dns("*.svc")).pem,
        ("not-issued", "*.svc"),
    ),
    Lie(
        "an address besides",
        lambda asked: asked.leaf(*authority.addresses("10.0.0.1")).pem,
        ("not-issued", "10.0.0.1"),
    ),
    Lie("a certificate authority", _authority, ("not-issued",)),
    Lie(
        "a client's certificate",
        lambda asked: asked.leaf(usages=[CLIENT_AUTH]).pem,
        ("not-issued", "usages"),
    ),
    Lie(
        "a client's certificate besides",
        lambda asked: asked.leaf(usages=[SERVER_AUTH, CLIENT_AUTH]).pem,
        ("not-issued", "client"),
    ),
    Lie(
        "any usage besides",
        lambda asked: asked.leaf(usages=[SERVER_AUTH, ANY_USAGE]).pem,
        ("not-issued", "any"),
    ),
    Lie("no usage", lambda asked: asked.leaf(usages=[]).pem, ("not-issued", "usages")),
    Lie("one that has expired", lambda asked: asked.leaf(start=-HOUR, end=-MINUTE).pem, ("not-issued",)),
    Lie(
        "one that is not valid yet",
        lambda asked: asked.leaf(start=HOUR, end=2 * HOUR).pem,
        ("not-issued",),
    ),
    Lie(
        "one that outlives what was asked for",
        lambda asked: asked.leaf(end=2 * HOUR).pem,
        ("not-issued", "3600"),
        {"expiration_seconds": 3600},
    ),
    Lie(
        "one that outlives the provider's limit",
        lambda asked: asked.leaf(end=2 * YEAR).pem,
        ("not-issued", "31536000"),
        {"signer_name": APP_SERVING},
    ),
    Lie("two leaves", lambda asked: asked.leaf().pem * 2, ("not-issued",)),
    Lie("its CA before it", lambda asked: root().pem + asked.leaf().pem, ("not-issued",)),
    Lie(
        "a chain in the wrong order",
        lambda asked: asked.leaf(by=middle()).pem + root().pem + middle().pem,
        ("not-issued",),
    ),
    Lie("a CA that it is not from", lambda asked: asked.leaf().pem + middle().pem, ("not-issued",)),
    Lie(
        "one from another CA of the same name",
        lambda asked: asked.leaf(by=namesake()).pem,
        ("no-trust-anchor",),
    ),
    Lie("a signature that is not its CA's", _other_signature, ("no-trust-anchor",)),
    Lie(
        "a critical extension that nobody knows",
        lambda asked: asked.leaf(extensions=[(_UNKNOWN, True)]).pem,
        ("no-trust-anchor",),
    ),
    Lie(
        "what was asked for, and marked Failed",
        lambda asked: asked.leaf().pem,
        ("not-issued", "Lied:"),
        failed=True,
    ),
    # The API server refuses to store it, so that nothing is issued.
    Lie("garbage", lambda asked: b"\x00garbage", ("not-issued", "example.com/liar"), {"wait_timeout": 1}),
)
