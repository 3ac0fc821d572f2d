# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates that a signer may write into status.certificate: right ones, and wrong ones that the API
server accepts.
"""

from __future__ import annotations

import base64
import datetime
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.certificates import authority
from tests.support.certificates.authority import ANY_USAGE, CLIENT_AUTH, SERVER_AUTH, Issued

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.system.fault_injection.signer_rig import InUse

TEST_SIGNER = "example.com/test-signer"
APP_SERVING = "beta.eks.amazonaws.com/app-serving"
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
YEAR = datetime.timedelta(days=365)
_EC_KEY, _UNKNOWN_KEY = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0263")
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@cache
def root() -> Issued:
    """Return the CA that the tasks trust (ca_bundle)."""
    return _ca("root")


@cache
def middle() -> Issued:
    return _ca("intermediate", root())


@cache
def namesake() -> Issued:
    """Return another CA of the same name."""
    return _ca("root")


def _ca(name: str, issuer: Issued | None = None) -> Issued:
    now = datetime.datetime.now(datetime.UTC)
    return authority.authority(name, issuer, not_before=now - HOUR, not_after=now + 5 * YEAR)


@dataclass(frozen=True)
class _PublicHalf:
    """The public half of a key that the signer does not have."""

    key: Any

    def public_key(self) -> Any:
        return self.key


@dataclass(frozen=True)
class SignerRequest:
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
        """Return the requested certificate, changed by the arguments."""
        now = datetime.datetime.now(datetime.UTC)
        entries = [*authority.dns(*(self.names if names is None else names)), *more]
        options.setdefault("key", _PublicHalf(self.request.public_key()))
        subject = options.pop("subject", self.request.subject)
        options.update(not_before=now + start, not_after=now + end)
        return authority.issue(subject, by or root(), names=entries, usages=usages, **options)


def signer_request(csr: dict[str, Any]) -> SignerRequest:
    return SignerRequest(x509.load_pem_x509_csr(base64.b64decode(csr["spec"]["request"])))


@dataclass(frozen=True)
class SignerAnswer:
    """An answer of the signer."""

    #: Name in the table.
    name: str
    #: Builds status.certificate from the request.
    build: Callable[[SignerRequest], str | bytes]
    #: Failure code and names that the message must contain. Empty if the task must accept the certificate.
    says: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    #: True if the signer also sets the condition Failed.
    failed: bool = False

    def holds(self, before: InUse, after: InUse) -> bool:
        """Check the state in use, before and after the task."""
        return before == after if self.says else is_replaced(before, after)


def is_replaced(before: InUse, after: InUse) -> bool:
    """Return True if the new certificate is stored and its CA was added to the old one."""
    return after.data["tls.crt"] != before.data["tls.crt"] and root().pem in after.bundle


def _authority(request: SignerRequest) -> str:
    basic = x509.BasicConstraints(ca=True, path_length=None)
    return request.leaf(extensions=[(basic, True)]).pem


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def _der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.DER)


def _other_signature(request: SignerRequest) -> str:
    """Change the last byte, which is part of the signature."""
    der = _der(request.leaf())
    return _pem(der[:-1] + bytes([der[-1] ^ 1]))


def _unknown_key(request: SignerRequest) -> str:
    return _pem(_der(request.leaf()).replace(_EC_KEY, _UNKNOWN_KEY))


RIGHT_ANSWERS: tuple[SignerAnswer, ...] = (
    SignerAnswer("the requested certificate", lambda request: request.leaf().pem),
    SignerAnswer(
        "the requested certificate with its chain",
        lambda request: request.leaf(by=middle()).pem + middle().pem + root().pem,
    ),
    SignerAnswer(
        "text that is not ASCII before the certificate",
        lambda request: "Aussteller: Zürich\n".encode("latin-1") + request.leaf().pem.encode(),
    ),
)
FALSE_ANSWERS: tuple[SignerAnswer, ...] = (
    SignerAnswer("another public key", lambda request: request.leaf(key=authority.new_key()).pem, ("not-issued",)),
    SignerAnswer("a key of an unknown type", _unknown_key, ("not-issued",)),
    SignerAnswer("other names", lambda request: request.leaf(names=["other"]).pem, ("not-issued", "hook")),
    SignerAnswer("no name", lambda request: request.leaf(names=[]).pem, ("not-issued", "hook")),
    SignerAnswer(
        "also the API server's name",
        lambda request: request.leaf(*authority.dns("kubernetes.default.svc")).pem,
        ("not-issued", "kubernetes.default.svc"),
    ),
    SignerAnswer("also a wildcard name", lambda request: request.leaf(*authority.dns("*.svc")).pem, ("not-issued", "*.svc")),
    SignerAnswer("also an IP address", lambda request: request.leaf(*authority.addresses("10.0.0.1")).pem, ("not-issued", "10.0.0.1")),
    SignerAnswer("a certificate authority", _authority, ("not-issued",)),
    SignerAnswer("a client certificate", lambda request: request.leaf(usages=[CLIENT_AUTH]).pem, ("not-issued", "usages")),
    SignerAnswer("also usage client auth", lambda request: request.leaf(usages=[SERVER_AUTH, CLIENT_AUTH]).pem, ("not-issued", "client")),
    SignerAnswer("also any usage", lambda request: request.leaf(usages=[SERVER_AUTH, ANY_USAGE]).pem, ("not-issued", "any")),
    SignerAnswer("no usage", lambda request: request.leaf(usages=[]).pem, ("not-issued", "usages")),
    SignerAnswer("an expired certificate", lambda request: request.leaf(start=-HOUR, end=-MINUTE).pem, ("not-issued",)),
    SignerAnswer("a certificate that is not valid yet", lambda request: request.leaf(start=HOUR, end=2 * HOUR).pem, ("not-issued",)),
    SignerAnswer(
        "a longer lifetime than requested",
        lambda request: request.leaf(end=2 * HOUR).pem,
        ("not-issued", "3600"),
        {"expiration_seconds": 3600},
    ),
    SignerAnswer(
        "a longer lifetime than the provider's limit",
        lambda request: request.leaf(end=2 * YEAR).pem,
        ("not-issued", "31536000"),
        {"signer_name": APP_SERVING},
    ),
    SignerAnswer("two leaf certificates", lambda request: request.leaf().pem * 2, ("not-issued",)),
    SignerAnswer("the CA before the leaf", lambda request: root().pem + request.leaf().pem, ("not-issued",)),
    SignerAnswer("a chain in the wrong order", lambda request: request.leaf(by=middle()).pem + root().pem + middle().pem, ("not-issued",)),
    SignerAnswer("the CA of another certificate", lambda request: request.leaf().pem + middle().pem, ("not-issued",)),
    SignerAnswer("a certificate from another CA of the same name", lambda request: request.leaf(by=namesake()).pem, ("no-trust-anchor",)),
    SignerAnswer("a wrong signature", _other_signature, ("no-trust-anchor",)),
    SignerAnswer("an unknown critical extension", lambda request: request.leaf(extensions=[(_UNKNOWN, True)]).pem, ("no-trust-anchor",)),
    SignerAnswer(
        "the requested certificate, and the condition Failed",
        lambda request: request.leaf().pem,
        ("not-issued", "SigningFailed:"),
        failed=True,
    ),
    # The API server refuses to store it, so the request stays without a certificate.
    SignerAnswer("data that is not a certificate", lambda request: b"\x00garbage", ("not-issued", "example.com/test-signer"), {"wait_timeout": 1}),
)  # fmt: skip
