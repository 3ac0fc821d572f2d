# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Is the certificate what was asked for? A signer may do as it likes; nothing else of it is stored. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Callable

from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from . import signers
from .decision import CLOCK_SKEW
from .errors import IssueError
from .intent import Intent


@dataclass(frozen=True)
class _Case:
    intent: Intent
    public_key_sha256: str
    certificate: CertificateFacts
    chain: tuple[CertificateFacts, ...]
    now: datetime


def check(intent: Intent, public_key_sha256: str, pem: str, now: datetime) -> CertificateFacts:
    """The facts of the issued certificate. Raises IssueError that names the first difference to the request."""
    try:
        certificates = [certificate_facts.describe(entry) for entry in certificate_facts.load(pem)]
    except CertificateError as exc:
        raise _refused(intent, exc.cause) from exc
    if not certificates:
        raise _refused(intent, "it holds no certificate")
    leaf, chain = certificates[0], tuple(certificates[1:])
    found = fault(intent, public_key_sha256, leaf, chain, now)
    if found:
        raise _refused(intent, found, f"subject {leaf.subject}, serial {leaf.serial}")
    return leaf


def fault(
    intent: Intent,
    public_key_sha256: str,
    leaf: CertificateFacts,
    chain: tuple[CertificateFacts, ...],
    now: datetime,
) -> str:
    """The first difference between a certificate and what was asked for, "" where there is none."""
    case = _Case(intent, public_key_sha256, leaf, chain, now)
    return next(filter(None, (rule(case) for rule in RULES)), "")


def _refused(intent: Intent, fault: str, *evidence: str) -> IssueError:
    return IssueError(
        f"what the signer {intent.signer.name} issued is not used: {fault}",
        evidence=evidence,
        remedy="ask whoever runs this signer; what was in use before is unchanged",
    )


def _public_key(case: _Case) -> str:
    return (
        ""
        if case.certificate.public_key_sha256 == case.public_key_sha256
        else "it carries another public key"
    )


def _authority(case: _Case) -> str:
    return "it is a certificate authority" if case.certificate.is_ca else ""


def _names(case: _Case) -> str:
    request, held = case.intent.request, case.certificate
    wanted_names = {*request.dns_names, *request.ip_addresses}
    names = {*held.dns_names, *held.ip_addresses, *held.emails, *held.uris}
    missing, extra = wanted_names - names, names - wanted_names
    if missing:
        return f"it lacks the names {', '.join(sorted(missing))}"
    return f"it also holds the names {', '.join(sorted(extra))}" if extra else ""


def _subject(case: _Case) -> str:
    """Whoever logs in with a certificate is its subject; for a server's, clients look at the names."""
    request, held = case.intent.request, case.certificate
    same = (held.common_name, set(held.organizations)) == (request.common_name, set(request.organizations))
    return "" if same or not signers.is_client_identity(request.usages) else f"its subject is {held.subject}"


def _usages(case: _Case) -> str:
    return signers.usage_fault(case.intent.request.usages, case.certificate.usages)


def _validity(case: _Case) -> str:
    held = case.certificate
    if held.not_before > case.now + CLOCK_SKEW:
        return f"it is not valid before {held.not_before:%Y-%m-%d %H:%M} UTC"
    return f"it expired at {held.not_after:%Y-%m-%d %H:%M} UTC" if held.not_after <= case.now else ""


def _lifetime(case: _Case) -> str:
    """expirationSeconds is a hint (KEP-2784): shorter is fine, longer was not agreed to."""
    bounds = (case.intent.request.expiration_seconds, case.intent.signer.longest_lifetime_seconds)
    longest = min((seconds for seconds in bounds if seconds), default=None)
    if longest is None or case.certificate.not_after <= case.now + timedelta(seconds=longest) + CLOCK_SKEW:
        return ""
    return f"it is valid until {case.certificate.not_after:%Y-%m-%d %H:%M} UTC, longer than {longest} seconds"


def _chain(case: _Case) -> str:
    stranger = next((entry for entry in case.chain if not entry.is_ca), None)
    if stranger:
        return f"a second certificate came with it that is no authority: {stranger.subject}"
    # Each certifies the one before it (RFC 5246 section 7.4.2): the whole is sent in handshakes as it is stored, and
    # not every client sorts it.
    for before, entry in zip((case.certificate, *case.chain), case.chain):
        if before.issuer != entry.subject:
            return f"its chain is in the wrong order: {entry.subject} did not issue {before.subject}"
    return ""


RULES: tuple[Callable[[_Case], str], ...] = (
    _public_key,
    _authority,
    _names,
    _subject,
    _usages,
    _validity,
    _lifetime,
    _chain,
)
