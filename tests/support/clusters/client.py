# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client for the Kubernetes API, independent of the collection's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL: a cluster may be years ahead of this machine.
_ANY_TIME = 0x200000


class AdminApiError(Exception):
    """The API server answered with an error. It has the HTTP status and the message of the Status object."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class AdminClient:
    """A client for one API server with one client certificate. It uses no proxy and does not retry."""

    def __init__(
        self,
        url: str,
        ca: Path,
        certificate: Path,
        key: Path,
        *,
        user_agent: str = "clusters",
        timeout: float = 60.0,
    ) -> None:
        self._address = urllib.parse.urlsplit(url).netloc
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a CA without key identifiers
        self._tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate as the anchor, as in Go
        self._tls.verify_flags |= _ANY_TIME
        self._tls.load_cert_chain(certificate, key)
        self._user_agent = user_agent
        self._timeout = timeout

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> bytes:
        """Send a request and return the body of the answer.

        Raises AdminApiError, or OSError without a server.
        """
        with self._open(method, path, body, content_type) as answer:
            return answer.read()

    def api(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Send a request and return the object in the answer."""
        answer: dict[str, Any] = json.loads(self.request(method, path, body, content_type))
        return answer

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a watch until the server ends it. The path contains `watch=1`."""
        with self._open("GET", path) as answer:
            for line in answer:
                yield json.loads(line)

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=self._timeout)
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": self._user_agent}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise AdminApiError(answer.status, _message(answer.read()))
            yield answer
        except http.client.HTTPException as error:  # the server closed the connection during the answer
            raise ConnectionError(f"{self._address}: {error!r}") from error
        finally:
            connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
