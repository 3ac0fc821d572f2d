# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Does a Go TLS client trust this certificate? The API server is one, so its rules decide, not OpenSSL's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Sequence

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.x509 import Certificate


@dataclass(frozen=True)
class Verdict:
    """code: "ok", or one of the module's table; reason: what Go would say; anchors: fingerprints (SHA-256, hex)."""

    ok: bool
    code: str
    reason: str
    anchors: tuple[str, ...]


def verify(
    leaf: Certificate,
    bundle_pem: str,
    *,
    name: Optional[str],
    intermediates: Sequence[Certificate] = (),
    now: datetime,
    usage: str = "server auth",
) -> Verdict:
    """Verify a leaf against a bundle as crypto/x509 does; never raises for what the certificates hold."""
    raise NotImplementedError
