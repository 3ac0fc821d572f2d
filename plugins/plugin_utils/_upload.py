# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Upload files by HTTP PUT, because the files of a container are deleted with it.

A redirection is an error, so another host never gets the file or the credentials. The query of a URL may hold a signature, so
no text shows it.
"""

from __future__ import annotations

import http.client
import posixpath
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import AnswerTooLarge, TimedOut
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.transport import ReadLimits
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import fetch, source_auth
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.source_auth import (
    SourceAuth,
)

OPTION = "upload_auth"
# Format of a report -> its media type.
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "junit": "application/xml",
    "markdown": "text/markdown; charset=utf-8",
    "prometheus": "text/plain; version=0.0.4; charset=utf-8",
}
_CHUNK = 65536
_ANSWER_BYTES = 65536


@dataclass(frozen=True)
class Target:
    """The destination of uploads.

    url: a folder if its path ends with a slash. Otherwise the URL of the only file.
    """

    url: str
    auth: SourceAuth

    def url_of(self, name: str) -> str:
        """Return the URL of a file."""
        parts = urlsplit(self.url)
        if not parts.path.endswith("/"):
            return self.url
        return urlunsplit(parts._replace(path=posixpath.join(parts.path, quote(name))))


def parse_target(url: str, auth: Mapping[str, Any] | None, files: int) -> Target:
    """Return the destination of so many files. Raises CertflowError for a URL or credentials that cannot be used."""
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:
        is_usable = False
    if not is_usable or parts.scheme != "https":
        raise CertflowError(
            "the URL for the upload is not an https URL", remedy="Set a URL such as https://host/folder/"
        )
    if parts.username or parts.password:
        raise CertflowError(
            f"the URL for the upload to {parts.hostname} has a user name or password, which would be shown",
            remedy=f"Set url_username and url_password of {OPTION}",
        )
    if files > 1 and not parts.path.endswith("/"):
        raise CertflowError(
            f"the URL {shown(url)} names one file, and the report has {files} files",
            remedy="End the path of the URL with a slash. The names of the files are then added to it",
        )
    given = source_auth.parse(auth, OPTION)
    source_auth.request_headers(given, url)
    for is_client in (True, False):
        source_auth.tls_context(given, is_client=is_client)
    return Target(url, given)


def shown(url: str) -> str:
    """Return the URL without its query, which may hold a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def put(target: Target, name: str, content: bytes, media_type: str, until: float) -> str:
    """Upload a file and return its URL without the query. Raises CertflowError.

    until: the deadline of the whole upload, a time of time.monotonic().
    """
    url = target.url_of(name)
    limits = ReadLimits(f"the answer of {shown(url)}", until=until, size=_ANSWER_BYTES)
    request = urllib.request.Request(  # noqa: S310  # parse_target allows only https
        url,
        data=_chunks(content, limits),
        method="PUT",
        headers={
            "Content-Length": str(len(content)),
            "Content-Type": media_type,
            "User-Agent": "certflow.kubernetes",
        },
    )
    try:
        with fetch.opener(limits, url, target.auth).open(request) as answer:
            answer.read(_ANSWER_BYTES)
    except TimedOut:
        raise _failed(url, "it did not end in time", "Try again, or set a longer time") from None
    except AnswerTooLarge:
        pass  # it was accepted, and its words are not needed
    except urllib.error.HTTPError as error:
        location = str(error.headers.get("Location") or "")
        error.close()
        raise _refused(url, error.code, location, target.auth) from None
    except (OSError, http.client.HTTPException) as error:
        words = "it did not end in time" if time.monotonic() >= until else _words(error)
        raise _failed(
            url, words, "Check the address, the network and the proxy settings of the controller"
        ) from None
    return shown(url)


def _chunks(content: bytes, limits: ReadLimits) -> Iterator[bytes]:
    """Yield the content in parts, each only before the deadline. Raises TimedOut."""
    for start in range(0, len(content), _CHUNK):
        limits.left()
        yield content[start : start + _CHUNK]


def _failed(url: str, words: str, remedy: str) -> CertflowError:
    return CertflowError(f"the upload to {shown(url)} failed: {words}", code="upload-failed", remedy=remedy)


def _refused(url: str, status: int, location: str, auth: SourceAuth) -> CertflowError:
    """Return the error of a status. The words are not the server's, which may repeat a credential."""
    name = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    words = f"the server answered with {status} {name}".rstrip()
    if 300 <= status < 400:
        try:
            host = urlsplit(urljoin(url, location)).hostname
        except ValueError:
            host = None
        if host:
            words += f", which redirects to the host {host}"
        return _failed(
            url, words, "Set the URL to which the server redirects. An upload does not follow redirects"
        )
    if status in (401, 403):
        remedy = f"Check the credentials in {OPTION}" if auth.has_credentials() else f"Set {OPTION}"
    else:
        remedy = "Try again later, and look at the log of the server"
    return _failed(url, words, remedy)


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate of the server is not trusted: {reason.verify_message}"
    if isinstance(reason, TimeoutError):
        return "the server did not answer in time"
    if isinstance(reason, OSError):
        return reason.strerror or type(reason).__name__
    return type(reason).__name__
