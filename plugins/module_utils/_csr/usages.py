# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The usages of certificates.k8s.io/v1: their kinds, and the purposes that they give a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DIGITAL_SIGNATURE, KEY_ENCIPHERMENT = "digital signature", "key encipherment"
SERVER_AUTH, CLIENT_AUTH, ANY_USAGE = "server auth", "client auth", "any"
SERVING_USAGES = (DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, SERVER_AUTH)
CLIENT_USAGES = (DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CLIENT_AUTH)

# KEY is an operation of the key, without a purpose. AUTHORITY permits to sign certificates or revocation lists. EXTENDED is
# a purpose.
KEY, AUTHORITY, EXTENDED = "key", "authority", "extended"


@dataclass(frozen=True)
class Usage:
    """One KeyUsage of certificates.k8s.io/v1."""

    name: str
    #: KEY, AUTHORITY or EXTENDED.
    kind: str
    #: True if kube-apiserver accepts a certificate with only this usage as a login. It verifies with Go, which accepts a
    #: certificate without extended usages for every purpose (crypto/x509, VerifyOptions.KeyUsages).
    is_login: bool


# A test logs in to a real API server with a certificate for each row.
USAGES = {
    row.name: row
    for row in (
        Usage("signing", KEY, is_login=True),
        Usage(DIGITAL_SIGNATURE, KEY, is_login=True),
        Usage("content commitment", KEY, is_login=True),
        Usage(KEY_ENCIPHERMENT, KEY, is_login=True),
        Usage("key agreement", KEY, is_login=True),
        Usage("data encipherment", KEY, is_login=True),
        Usage("encipher only", KEY, is_login=True),
        Usage("decipher only", KEY, is_login=True),
        Usage("cert sign", AUTHORITY, is_login=True),
        Usage("crl sign", AUTHORITY, is_login=True),
        Usage(ANY_USAGE, EXTENDED, is_login=True),
        Usage(SERVER_AUTH, EXTENDED, is_login=False),
        Usage(CLIENT_AUTH, EXTENDED, is_login=True),
        Usage("code signing", EXTENDED, is_login=False),
        Usage("email protection", EXTENDED, is_login=False),
        Usage("s/mime", EXTENDED, is_login=False),
        Usage("ipsec end system", EXTENDED, is_login=False),
        Usage("ipsec tunnel", EXTENDED, is_login=False),
        Usage("ipsec user", EXTENDED, is_login=False),
        Usage("timestamping", EXTENDED, is_login=False),
        Usage("ocsp signing", EXTENDED, is_login=False),
        Usage("microsoft sgc", EXTENDED, is_login=False),
        Usage("netscape sgc", EXTENDED, is_login=False),
    )
}
KNOWN_USAGES = frozenset(USAGES)
PURPOSES = frozenset((SERVER_AUTH, CLIENT_AUTH, ANY_USAGE))


def is_client_identity(usages: Iterable[str]) -> bool:
    """Return True if a certificate with these usages lets its holder log in as its subject.

    Only extended usages restrict the purpose of a certificate, so a certificate without them is a login too.
    """
    extended = [row for row in map(_find_usage, usages) if row.kind == EXTENDED]
    return not extended or any(row.is_login for row in extended)


def unexpected_usages(usages: Iterable[str]) -> tuple[str, ...]:
    """Return the usages that this collection never asks for and never approves, in their order.

    They sign other certificates, or have a purpose that is neither a server's nor a client's.
    """
    return tuple(
        row.name
        for row in map(_find_usage, usages)
        if row.kind == AUTHORITY or (row.kind == EXTENDED and row.name not in PURPOSES)
    )


def _find_usage(name: str) -> Usage:
    """Return the row of a usage. The API server refuses a usage without a row."""
    return USAGES.get(name) or Usage(name, EXTENDED, is_login=False)


def purposes(usages: Iterable[str]) -> tuple[str, ...]:
    """Return the extended usages, in their order."""
    return tuple(row.name for row in map(_find_usage, usages) if row.kind == EXTENDED)


def usage_fault(requested: Iterable[str], held: Iterable[str], *, allows_more: bool = False) -> str:
    """Return how the purposes of a certificate differ from the requested ones, or "". allows_more: it may have others too.

    "any" stands for every purpose (RFC 5280, anyExtendedKeyUsage). Unless it was requested, it is too much.
    """
    wanted, actual = PURPOSES & set(requested), PURPOSES & set(held)
    if ANY_USAGE not in actual and not wanted <= actual:
        return f"its usages are {', '.join(sorted(held))}" if held else "it has no usages"
    extra = set() if allows_more else actual - wanted
    return f"it may also be used for {', '.join(sorted(extra))}" if extra else ""
