# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge a certificate: may the stored one be kept, and is the issued one what was requested? Pure.

Both are lists of small rules. The first rule that finds a difference decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Callable

from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from . import markers
from .errors import IssueError
from .intent import Intent
from .secret_content import ExistingSecret
from .usages import is_client_identity, usage_fault

RENEWAL_DUE = "RenewalDue"
LONGEST_RENEWAL_MARGIN = timedelta(days=30)
# Signers backdate certificates (kube-controller-manager by five minutes), and their clocks differ.
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class IssueReason:
    """The reason why a new certificate is needed."""

    #: Stable, in CamelCase.
    code: str
    #: A clause for people, in the present tense.
    message: str
    #: The clause after a certificate was issued, "" if it is the same.
    past: str = ""

    @property
    def due(self) -> str:
        """Return the reason of a run that would issue a certificate."""
        return f"a certificate is due ({self.message})"

    @property
    def done(self) -> str:
        """Return the reason of a run that issued a certificate."""
        return f"issued a certificate ({self.past or self.message})"


# The certificate in the Secret


@dataclass(frozen=True)
class _StoredCase:
    intent: Intent
    secret: ExistingSecret
    certificate: CertificateFacts
    now: datetime


def missing_secret(intent: Intent) -> IssueReason:
    return IssueReason("NoSecret", f"{intent.secret} does not exist", f"{intent.secret} did not exist")


def reason_to_issue(intent: Intent, secret: ExistingSecret, now: datetime) -> IssueReason | None:
    """Return the reason to request a new certificate, or None to keep the one in the Secret.

    The trust anchors are checked elsewhere.
    """
    if secret.certificate is None or not secret.key_sha256:
        return IssueReason("Unusable", f"{intent.secret}: {secret.problem}")
    case = _StoredCase(intent, secret, secret.certificate, now)
    for code, rule in STORED_RULES:
        message = rule(case)
        if message:
            return IssueReason(code, f"{intent.secret}: {message}")
    return None


def renewal_margin(certificate: CertificateFacts, renew_before: timedelta | None) -> timedelta:
    """Return how long before its expiry a certificate is renewed.

    The default is a third of its lifetime, and at most 30 days. A fixed 30 days would renew a certificate of 30 days
    (OpenShift) at every run.
    """
    if renew_before is not None:
        return renew_before
    return min(LONGEST_RENEWAL_MARGIN, (certificate.not_after - certificate.not_before) / 3)


def judged_at(certificate: CertificateFacts, now: datetime) -> datetime:
    """Return the time at which a certificate is judged: its first second if this clock is a little slow, else now."""
    start = certificate.not_before
    return start if now < start <= now + CLOCK_SKEW else now


def _stored_key(case: _StoredCase) -> str:
    same = case.secret.key_sha256 == case.certificate.public_key_sha256
    return "" if same else "its private key does not belong to its certificate"


def _stored_names(case: _StoredCase) -> str:
    wanted = {*case.intent.request.dns_names, *case.intent.request.ip_addresses}
    held = {*case.certificate.dns_names, *case.certificate.ip_addresses}
    if wanted == held:
        return ""
    return f"its certificate is for {_listed(held)}, and the task asks for {_listed(wanted)}"


def _stored_subject(case: _StoredCase) -> str:
    return f"its certificate is for {case.certificate.subject}" if _is_other_user(case) else ""


def _stored_usages(case: _StoredCase) -> str:
    """Apply the same rule as to an issued certificate. Another rule would renew the certificate at every run."""
    fault = usage_fault(case.intent.request.usages, case.certificate.usages)
    return f"its certificate does not fit: {fault}" if fault else ""


def _stored_key_type(case: _StoredCase) -> str:
    held, wanted = case.secret.key_type, case.intent.request.key_type
    # An adopted Secret keeps its type of key until the next renewal.
    if held == wanted or not case.secret.is_ours:
        return ""
    return f"its key is {held or 'of an unlisted type'}, and the task asks for {wanted}"


def _stored_signer(case: _StoredCase) -> str:
    held, wanted = case.secret.annotations.get(markers.SIGNER), case.intent.signer.name
    return "" if held in (None, wanted) else f"its certificate is from {held}, and the task asks for {wanted}"


def _stored_start(case: _StoredCase) -> str:
    start = case.certificate.not_before
    is_valid = judged_at(case.certificate, case.now) >= start
    return "" if is_valid else f"its certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"


def _stored_end(case: _StoredCase) -> str:
    end = case.certificate.not_after
    return f"its certificate expired at {end:%Y-%m-%d %H:%M} UTC" if case.now >= end else ""


def _renewal(case: _StoredCase) -> str:
    end = case.certificate.not_after
    margin = renewal_margin(case.certificate, case.intent.renew_before)
    if end - case.now > margin:
        return ""
    return f"its certificate expires at {end:%Y-%m-%d %H:%M} UTC, and is renewed {_shown(margin)} before that"


#: Code and rule of each reason. A rule returns a clause, or "" if it finds no reason.
STORED_RULES: tuple[tuple[str, Callable[[_StoredCase], str]], ...] = (
    ("KeyMismatch", _stored_key),
    ("Names", _stored_names),
    ("Subject", _stored_subject),
    ("Usages", _stored_usages),
    ("KeyType", _stored_key_type),
    ("Signer", _stored_signer),
    ("NotYetValid", _stored_start),
    ("Expired", _stored_end),
    (RENEWAL_DUE, _renewal),
)


# The certificate from the signer


@dataclass(frozen=True)
class _IssuedCase:
    intent: Intent
    public_key_sha256: str
    certificate: CertificateFacts
    chain: tuple[CertificateFacts, ...]
    now: datetime


def check_issued(intent: Intent, public_key_sha256: str, pem: str, now: datetime) -> CertificateFacts:
    """Return the facts of the issued certificate. Raise IssueError that names its first difference to the request."""
    try:
        certificates = [certificate_facts.describe(entry) for entry in certificate_facts.load(pem)]
    except CertificateError as exc:
        raise _refused(intent, exc.cause) from exc
    if not certificates:
        raise _refused(intent, "it holds no certificate")
    leaf, chain = certificates[0], tuple(certificates[1:])
    fault = find_fault(intent, public_key_sha256, leaf, chain, now)
    if fault:
        raise _refused(intent, fault, f"subject {leaf.subject}, serial {leaf.serial}")
    return leaf


def find_fault(
    intent: Intent,
    public_key_sha256: str,
    leaf: CertificateFacts,
    chain: tuple[CertificateFacts, ...],
    now: datetime,
) -> str:
    """Return the first difference between an issued certificate and the request, or ""."""
    case = _IssuedCase(intent, public_key_sha256, leaf, chain, now)
    return next(filter(None, (rule(case) for rule in ISSUED_RULES)), "")


def _refused(intent: Intent, fault: str, *evidence: str) -> IssueError:
    return IssueError(
        f"the certificate from the signer {intent.signer.name} is not used: {fault}",
        evidence=evidence,
        remedy="Ask the operator of this signer. The certificate in use is unchanged",
    )


def _issued_key(case: _IssuedCase) -> str:
    same = case.certificate.public_key_sha256 == case.public_key_sha256
    return "" if same else "it has another public key"


def _issued_authority(case: _IssuedCase) -> str:
    return "it is a certificate authority" if case.certificate.is_ca else ""


def _issued_names(case: _IssuedCase) -> str:
    request, held = case.intent.request, case.certificate
    wanted_names = {*request.dns_names, *request.ip_addresses}
    names = {*held.dns_names, *held.ip_addresses, *held.emails, *held.uris}
    missing, extra = wanted_names - names, names - wanted_names
    if missing:
        return f"it lacks the names {', '.join(sorted(missing))}"
    return f"it also has the names {', '.join(sorted(extra))}" if extra else ""


def _issued_subject(case: _IssuedCase) -> str:
    return f"its subject is {case.certificate.subject}" if _is_other_user(case) else ""


def _issued_usages(case: _IssuedCase) -> str:
    return usage_fault(case.intent.request.usages, case.certificate.usages)


def _issued_validity(case: _IssuedCase) -> str:
    held = case.certificate
    if held.not_before > case.now + CLOCK_SKEW:
        return f"it is not valid before {held.not_before:%Y-%m-%d %H:%M} UTC"
    return f"it expired at {held.not_after:%Y-%m-%d %H:%M} UTC" if held.not_after <= case.now else ""


def _issued_lifetime(case: _IssuedCase) -> str:
    """Accept a shorter lifetime, because expirationSeconds is a hint (KEP-2784). Refuse a longer one."""
    bounds = (case.intent.request.expiration_seconds, case.intent.signer.longest_lifetime_seconds)
    longest = min((seconds for seconds in bounds if seconds), default=None)
    if longest is None or case.certificate.not_after <= case.now + timedelta(seconds=longest) + CLOCK_SKEW:
        return ""
    return f"it is valid until {case.certificate.not_after:%Y-%m-%d %H:%M} UTC, longer than {longest} seconds"


def _issued_chain(case: _IssuedCase) -> str:
    leaf = next((entry for entry in case.chain if not entry.is_ca), None)
    if leaf:
        return f"its chain has a certificate that is not of a certificate authority: {leaf.subject}"
    # Each certificate certifies the one before it (RFC 5246 section 7.4.2). Servers send the chain as it is stored, and
    # not every client sorts it.
    for before, entry in zip((case.certificate, *case.chain), case.chain):
        if before.issuer != entry.subject:
            return f"its chain is in the wrong order: {entry.subject} did not issue {before.subject}"
    return ""


ISSUED_RULES: tuple[Callable[[_IssuedCase], str], ...] = (
    _issued_key,
    _issued_authority,
    _issued_names,
    _issued_subject,
    _issued_usages,
    _issued_validity,
    _issued_lifetime,
    _issued_chain,
)


def _is_other_user(case: _StoredCase | _IssuedCase) -> bool:
    """Return True if a client certificate has another subject than the request. Servers are known by their names."""
    request, held = case.intent.request, case.certificate
    if not is_client_identity(request.usages):
        return False
    wanted = request.common_name, set(request.organizations)
    return wanted != (held.common_name, set(held.organizations))


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"


def _shown(margin: timedelta) -> str:
    return f"{margin.days} days" if margin.days else f"{int(margin.total_seconds())} seconds"
