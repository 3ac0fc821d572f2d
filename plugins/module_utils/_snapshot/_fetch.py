# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read a file by its path or URL. No credentials: none are asked for, kept, or taken from a URL."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from .._paths import expand
from ._errors import SourceError

SECONDS = 30
# A release with all that it vendors has 15 MB.
MOST_BYTES = 200 * 2**20


def read(where: str) -> bytes:
    """Return the content of a local path, or of a file, http or https URL.

    Proxies and CAs are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). Raises SourceError.
    """
    parts = urlsplit(where)
    if not parts.scheme:
        return _local(Path(expand(where)))
    if parts.scheme == "file":
        return _local(Path(urllib.request.url2pathname(parts.path)))
    if parts.scheme not in ("http", "https"):
        raise SourceError(
            f"the URL {where} cannot be fetched: {parts.scheme} is not among file, http and https",
            remedy="Give another URL, or a directory",
        )
    if parts.username or parts.password:
        raise SourceError(
            f"the URL of {parts.hostname} holds a user name or password, which would be shown and logged",
            remedy="Fetch the archive beforehand, and give its path",
        )
    return _remote(where)


def _local(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _too_large(str(path))
        return path.read_bytes()
    except OSError as exc:
        raise SourceError(f"the file {path} cannot be read: {exc.strerror}", remedy="Check the path") from exc


def _remote(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "certflow.kubernetes"})  # noqa: S310 # see read
    try:
        with urllib.request.build_opener().open(request, timeout=SECONDS) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
            expected = answer.length  # what is still to come: with an honest Content-Length nothing
    except urllib.error.HTTPError as exc:
        exc.close()
        raise SourceError(
            f"the URL {url} was answered with {exc.code} {exc.reason}",
            remedy="Check that this place has this release" if exc.code in (404, 410) else "Try again later",
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise SourceError(
            f"the URL {url} cannot be fetched: {_words(exc)}",
            remedy="Check the address, the network and the proxy settings of the controller, or give a directory",
        ) from exc
    if len(data) > MOST_BYTES:
        raise _too_large(url)
    if expected:
        raise SourceError(f"the URL {url} ended {expected} bytes too soon", remedy="Try again")
    return data


def _too_large(where: str) -> SourceError:
    return SourceError(
        f"the source {where} has more than {MOST_BYTES} bytes", remedy="Give the archive of one release"
    )


def _words(exc: BaseException) -> str:
    reason = getattr(exc, "reason", None)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, OSError):
        return reason.strerror or str(reason)
    return str(reason or exc) or type(exc).__name__
