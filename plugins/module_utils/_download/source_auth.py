# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The credentials for the host of a URL, and the headers and the TLS context that follow from them.

No text of this file's errors has a credential. The libraries quote a password or a header that they cannot parse, so this file
checks each value first, and does not repeat their messages.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .._base.errors import CertflowError
from .._base.paths import expand
from .._base.paths import read as read_file
from .._x509.encoding.pem_text import has_private_key


class SourceError(CertflowError):
    """The manifests of a release do not exist, cannot be fetched, or do not equal their sums."""

    code = "source-unusable"


OPTION = "source_auth"
# RFC 9110, section 5.6.2 (token).
_MOST_BYTES = 8 * 1024 * 1024
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class SourceAuth:
    """The keys of the option source_auth. The names are those of ansible.builtin.uri. An empty value counts as unset."""

    #: Headers of the request, by name.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: A bearer token.
    token: str = field(default="", repr=False)
    url_username: str = ""
    url_password: str = field(default="", repr=False)
    #: The path of a client certificate, PEM. The file may also have its key.
    client_cert: str = ""
    #: The path of the client certificate's key, PEM.
    client_key: str = ""
    #: The path of CA certificates, PEM, which are trusted in addition to those of the system.
    ca_path: str = ""

    def has_credentials(self) -> bool:
        """Return True if something in it proves an identity. A CA does not."""
        return any(getattr(self, key.name) for key in fields(self) if key.name != "ca_path")


def parse(option: Mapping[str, Any] | None) -> SourceAuth:
    """Return the credentials of the option. Raises SourceError for keys that do not fit together."""
    values = {name: value for name, value in (option or {}).items() if value not in (None, "")}
    auth = SourceAuth(**values)
    ways = [name for name, is_set in _ways(auth).items() if is_set]
    if len(ways) > 1:
        raise SourceError(
            f"the option {OPTION} has {' and '.join(ways)}, which all set the header Authorization",
            remedy="Set one of them",
        )
    if auth.url_password and not auth.url_username:
        raise SourceError(
            f"the option {OPTION} has url_password without url_username", remedy="Set url_username too"
        )
    if auth.client_key and not auth.client_cert:
        raise SourceError(
            f"the option {OPTION} has client_key without client_cert", remedy="Set client_cert too"
        )
    return auth


def _ways(auth: SourceAuth) -> dict[str, bool]:
    named = any(str(name).lower() == "authorization" for name in auth.headers)
    return {
        "token": bool(auth.token),
        "url_username": bool(auth.url_username),
        "headers.Authorization": named,
    }


def request_headers(auth: SourceAuth) -> dict[str, str]:
    """Return the headers that only the host of the source may get. Raises SourceError."""
    headers = {str(name): str(value) for name, value in auth.headers.items()}
    if auth.token:
        headers["Authorization"] = f"Bearer {auth.token}"
    elif auth.url_username:
        pair = f"{auth.url_username}:{auth.url_password}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            # The name is not shown, because it may hold the value too.
            raise SourceError(
                f"a name in headers of {OPTION} has a character that is not allowed there, or is empty",
                remedy="Write each header as NAME: VALUE. A name has letters, digits and hyphens",
            )
        if not value.isascii() or not value.isprintable():
            key = "token" if auth.token and name == "Authorization" else f"header {name!r}"
            raise SourceError(
                f"the {key} of {OPTION} has a character that is not allowed in a header, such as a line break",
                remedy="Remove it. A file that is read by a lookup often ends with a line break",
            )
    return headers


def tls_context(auth: SourceAuth, *, is_client: bool) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's CAs and those of ca_path. Raises SourceError.

    is_client: True to send the client certificate.
    """
    context = ssl.create_default_context()
    if auth.ca_path:
        path = _existing("ca_path", auth.ca_path)
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError):
            raise SourceError(
                f"the file {path} has no CA certificate in PEM form",
                remedy=f"Correct ca_path of {OPTION}",
            ) from None
    if is_client and auth.client_cert:
        certificate = _existing("client_cert", auth.client_cert)
        key = _existing("client_key", auth.client_key) if auth.client_key else None
        try:
            # Without a password OpenSSL would ask the terminal for it if the key is encrypted.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError, ValueError):
            raise SourceError(
                f"the client certificate {certificate} and its key are not a valid pair, or the key is encrypted",
                remedy=f"Correct client_cert and client_key of {OPTION}. The key must not be encrypted",
            ) from None
    return context


def _existing(key: str, value: str) -> str:
    if not value.isprintable() or has_private_key(value):
        # A pasted key would stand in the message.
        raise SourceError(
            f"the option {OPTION} has content in {key} instead of a path",
            remedy="Write the content to a file, and set its path",
        )
    path = expand(value)
    try:
        read_file(path, _MOST_BYTES)
        return path
    except OSError as exc:
        raise SourceError(
            f"the file {path} cannot be read: {exc.strerror}", remedy=f"Correct {key} of {OPTION}"
        ) from None
