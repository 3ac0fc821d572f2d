# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read and write the names of requests and certificates: subject and subjectAltName."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import CertificateError

try:
    from cryptography import x509
    from cryptography.x509.oid import NameOID
except ImportError:
    pass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.x509 import Extensions, GeneralName, Name, ObjectIdentifier


@dataclass(frozen=True)
class SubjectFacts:
    """The names of a request or certificate as text."""

    #: RFC 4514 text.
    subject: str
    #: The last common name, as in Go, or "".
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]


def describe(subject: Name, extensions: Extensions) -> SubjectFacts:
    """Return the names. Raises the errors of cryptography for malformed names, which the caller converts."""
    names = alternative_names(extensions)
    return SubjectFacts(
        subject=subject.rfc4514_string(),
        common_name=common_name(subject),
        organizations=attributes(subject, NameOID.ORGANIZATION_NAME),
        dns_names=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        ip_addresses=tuple(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
        emails=tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        uris=tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
    )


def alternative_names(extensions: Extensions) -> tuple[GeneralName, ...]:
    return tuple(
        name
        for extension in extensions
        if isinstance(extension.value, x509.SubjectAlternativeName)
        for name in extension.value
    )


def common_name(subject: Name) -> str:
    return (attributes(subject, NameOID.COMMON_NAME) or ("",))[-1]


def attributes(subject: Name, oid: ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(oid))


def subject_name(common_name: str, organizations: Iterable[str]) -> Name:
    """Return a subject with the organizations before the common name, as the clients of Kubernetes send it.

    Raises CertificateError for a part that is empty or longer than 64 bytes.
    """
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _part("organization", text)) for text in organizations
    ]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, _part("common name", common_name))])


def _part(what: str, text: str) -> str:
    """Return the part if its length is valid (RFC 5280 appendix A.1). cryptography 42 does not check that."""
    size = len(text.encode())
    if not 1 <= size <= 64:
        raise CertificateError(f"the {what} {text!r} has {size} bytes, a certificate takes 1 to 64")
    return text


def general_names(dns_names: Iterable[str], ip_addresses: Iterable[str]) -> list[GeneralName]:
    """Return the subjectAltName entries. Raises ValueError for a DNS name that is not ASCII and for an invalid address."""
    return [
        *(x509.DNSName(name) for name in dns_names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses),
    ]
