# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Errors of keys, requests and certificates. The errors of cryptography become these errors here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._base.errors import CertflowError

try:
    from cryptography import x509
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
except ImportError:
    pass


class CertificateError(CertflowError):
    """A key, a certificate request or a certificate that cannot be made, read or used."""

    code = "invalid-certificate"


class UnreadCertificate(CertificateError):
    """A certificate that Go parses, and the installed library does not. What the API server does with it is not known here."""


class BundleError(CertificateError):
    """A bundle of certificates that cannot be used as trust anchors."""

    code = "bundle-broken"


class RequestNotCanonical(CertificateError):
    """Two programs could read the certificate request differently, so it cannot be compared."""

    code = "request-not-canonical"


@contextmanager
def convert_errors(what: str, remedy: str = "") -> Iterator[None]:
    """Raise CertificateError if the block raises an error of cryptography for invalid data.

    what: the beginning of the error, such as "the certificate cannot be read".
    """
    try:
        yield
    except UnsupportedAlgorithm as error:
        raise CertificateError(f"{what}: unsupported algorithm ({error})", remedy=remedy) from error
    except (
        ValueError,  # malformed ASN.1, values out of range
        TypeError,  # a key of a kind that the operation does not take
        OverflowError,
        InternalError,  # cryptography 42: a key that OpenSSL does not accept
        KeyError,  # cryptography 42: a name with a string type that it does not know
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateError(f"{what}: {error}", remedy=remedy) from error
