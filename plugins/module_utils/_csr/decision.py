# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep the certificate that is there, or ask for another one: small rules in a list, the first that speaks wins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Callable

from .._x509.certificate_facts import CertificateFacts
from . import markers, signers
from .intent import Intent
from .secret_content import Found

DUE = "RenewalDue"
RENEW_AT_MOST = timedelta(days=30)
# Signers backdate (kube-controller-manager by five minutes) or have a clock of their own.
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Reason:
    """Why a new certificate is needed: ``code`` in CamelCase, stable; ``message`` a clause for people."""

    code: str
    message: str


@dataclass(frozen=True)
class _Case:
    intent: Intent
    secret: Found
    certificate: CertificateFacts
    now: datetime


def no_secret(intent: Intent) -> Reason:
    return Reason("NoSecret", f"{intent.secret} does not exist")


def decide(intent: Intent, secret: Found, now: datetime) -> Reason | None:
    """Why to act, or None to keep what the Secret holds. Whether an anchor vouches for it is seen afterwards."""
    if secret.certificate is None or not secret.key_sha256:
        return Reason("Unusable", f"{intent.secret}: {secret.problem}")
    case = _Case(intent, secret, secret.certificate, now)
    for code, rule in RULES:
        message = rule(case)
        if message:
            return Reason(code, f"{intent.secret}: {message}")
    return None


def renewal_margin(certificate: CertificateFacts, renew_before: timedelta | None) -> timedelta:
    """How long before its end a certificate is renewed: the smaller of 30 days and a third of its real lifetime.

    A fixed 30 days would renew a 30-day certificate (OpenShift) at every run.
    """
    if renew_before is not None:
        return renew_before
    return min(RENEW_AT_MOST, (certificate.not_after - certificate.not_before) / 3)


def judged_at(certificate: CertificateFacts, now: datetime) -> datetime:
    """The time at which a certificate is judged: now, or its first second where our clock is a little slow."""
    start = certificate.not_before
    return start if now < start <= now + CLOCK_SKEW else now


def _key(case: _Case) -> str:
    same = case.secret.key_sha256 == case.certificate.public_key_sha256
    return "" if same else "its private key does not belong to its certificate"


def _names(case: _Case) -> str:
    wanted = {*case.intent.request.dns_names, *case.intent.request.ip_addresses}
    held = {*case.certificate.dns_names, *case.certificate.ip_addresses}
    if wanted == held:
        return ""
    return f"its certificate is for {_listed(held)}, wanted is {_listed(wanted)}"


def _subject(case: _Case) -> str:
    """Whoever logs in with a certificate is its subject; a server is known by its names."""
    request, certificate = case.intent.request, case.certificate
    if not signers.is_client_identity(request.usages):
        return ""
    wanted = request.common_name, set(request.organizations)
    held = certificate.common_name, set(certificate.organizations)
    return "" if wanted == held else f"its certificate is for {certificate.subject}"


def _usages(case: _Case) -> str:
    """Judged as when it was issued: else it would be renewed at every run."""
    fault = signers.usage_fault(case.intent.request.usages, case.certificate.usages)
    return f"its certificate does not fit: {fault}" if fault else ""


def _key_type(case: _Case) -> str:
    held, wanted = case.secret.key_type, case.intent.request.key_type
    if held == wanted or not case.secret.is_ours:  # what somebody else made is adopted with the key it has
        return ""
    return f"its key is {held or 'of an unlisted kind'}, wanted is {wanted}"


def _signer(case: _Case) -> str:
    held, wanted = case.secret.annotations.get(markers.SIGNER), case.intent.signer.name
    return "" if held in (None, wanted) else f"its certificate was issued by {held}, wanted is {wanted}"


def _not_yet(case: _Case) -> str:
    start = case.certificate.not_before
    is_valid = judged_at(case.certificate, case.now) >= start
    return "" if is_valid else f"its certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"


def _expired(case: _Case) -> str:
    end = case.certificate.not_after
    return f"its certificate expired at {end:%Y-%m-%d %H:%M} UTC" if case.now >= end else ""


def _due(case: _Case) -> str:
    end = case.certificate.not_after
    margin = renewal_margin(case.certificate, case.intent.renew_before)
    if end - case.now > margin:
        return ""
    return f"its certificate expires at {end:%Y-%m-%d %H:%M} UTC and is renewed {_days(margin)} before"


# Adding a reason is adding a row.
RULES: tuple[tuple[str, Callable[[_Case], str]], ...] = (
    ("KeyMismatch", _key),
    ("Names", _names),
    ("Subject", _subject),
    ("Usages", _usages),
    ("KeyType", _key_type),
    ("Signer", _signer),
    ("NotYetValid", _not_yet),
    ("Expired", _expired),
    (DUE, _due),
)


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"


def _days(margin: timedelta) -> str:
    return f"{margin.days} days" if margin.days else f"{int(margin.total_seconds())} seconds"
