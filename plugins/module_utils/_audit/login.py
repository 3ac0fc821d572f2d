# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The end of the credentials of a connection. The audit does not send or return them. Pure."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .._x509 import certificate_facts
from .._x509.errors import CertificateError
from .facts.cluster_data import Login

if TYPE_CHECKING:
    from .._kube.connection import Connection


def login_of(connection: Connection) -> Login:
    """Return the end of the credentials."""
    if connection.exec_plugin:
        return Login("exec plugin", reason="The exec plugin of the kubeconfig renews its credentials.")
    if connection.token_file:
        return Login("token file", reason="The token is read from a file, which another program renews.")
    if connection.token:
        times = _token_times(connection.token)
        reason = "" if times[1] else "The token does not show when it expires."
        return Login("token", *times, reason)
    if connection.client_certificate:
        with contextlib.suppress(CertificateError):
            facts = certificate_facts.describe_pem(connection.client_certificate)
            return Login("client certificate", facts.not_before, facts.not_after)
    return Login("none", reason="The login has no certificate and no token.")


def _token_times(token: str) -> tuple[datetime | None, datetime | None]:
    """Return the begin and the end of a JSON Web Token (RFC 7519), without a check of its signature."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        times = [claims.get(name) for name in ("iat", "exp")]
        begin, end = (datetime.fromtimestamp(value, timezone.utc) if value else None for value in times)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, OSError):
        return None, None
    return begin, end
