# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Judge a certificate: may the stored one be kept or replaced, and is the issued one what was requested? Pure.

The first difference decides. What a new certificate would lack of one that this collection did not issue is a loss, unless an option of
the task asks for it or the user accepts it. The old private key is gone after the replacement, so no run can undo it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .._base.accept import OTHER_CONTENT
from .._base.owners import accept_option
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.encoding import go_parser
from .._x509.errors import CertificateError
from . import markers, name_policy
from .errors import IssueError, SecretError
from .intent import Intent
from .secret_content import ExistingSecret, bare_name
from .usages import CLIENT_AUTH, is_client_identity, purposes, usage_fault

RENEWAL_DUE, CA_SWITCHED = "RenewalDue", "CaSwitched"
LONGEST_RENEWAL_MARGIN = timedelta(days=30)
# Signers backdate certificates (kube-controller-manager by five minutes), and their clocks differ.
CLOCK_SKEW = timedelta(minutes=5)
# The tags of subjectAltName (RFC 5280 section 4.2.1.6): those that a request may have, and some others by number.
_NAMES = (go_parser.EMAIL, go_parser.DNS_NAME, go_parser.URI, go_parser.ADDRESS)
_OTHER_NAMES = {0xA0: "otherName", 0xA4: "directoryName", 0x88: "registeredID"}
# A comma or a plus sign of RFC 4514 text that is not escaped.
_BETWEEN_PARTS = re.compile(r"(?<!\\)[,+]")


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


def missing_secret(intent: Intent) -> IssueReason:
    return IssueReason("NoSecret", f"{intent.secret} does not exist", f"{intent.secret} did not exist")


def reason_to_issue(
    intent: Intent, secret: ExistingSecret, now: datetime, later: datetime | None = None
) -> IssueReason | None:
    """Return the reason to request a new certificate, or None to keep the one in the Secret.

    The trust anchors are checked elsewhere. later: the later time of the API server's clock and of this machine's, by which a renewal is
    due. None if it is ``now``.
    """
    if secret.certificate is None or not secret.key_sha256:
        return IssueReason("Unusable", f"{intent.secret}: {secret.problem}")
    reasons = _stored_reasons(intent, secret, secret.certificate, now, later or now)
    return next((IssueReason(code, f"{intent.secret}: {message}") for code, message in reasons), None)


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


def required_names(intent: Intent, secret: ExistingSecret) -> set[str]:
    """Return the names without which the certificate in a Secret is replaced.

    A certificate of another owner needs only the name that the API server verifies, and the names that the task spells out.
    """
    names = {*intent.request.dns_names, *intent.request.ip_addresses}
    return names if secret.is_ours else names - {*intent.default_names}


def _stored_reasons(
    intent: Intent, secret: ExistingSecret, held: CertificateFacts, now: datetime, later: datetime
) -> Iterator[tuple[str, str]]:
    """Yield the code and a clause of each reason to replace a stored certificate."""
    request, start, end = intent.request, held.not_before, held.not_after
    if secret.key_sha256 != held.public_key_sha256:
        yield "KeyMismatch", "its private key does not belong to its certificate"
    wanted = required_names(intent, secret)
    names = {*held.dns_names, *held.ip_addresses}
    # A certificate of another owner may have more than the task asks for.
    if wanted != names if secret.is_ours else wanted - names:
        yield "Names", f"its certificate is for {_listed(names)}, and the task asks for {_listed(wanted)}"
    if _is_other_user(intent, held):
        yield "Subject", f"its certificate is for {held.subject}"
    # The same rule as for an issued certificate. Another rule would renew the certificate at every run.
    fault = usage_fault(request.usages, held.usages, allows_more=not secret.is_ours)
    if fault:
        yield "Usages", f"its certificate does not fit: {fault}"
    # An adopted Secret keeps its type of key until the next renewal.
    if secret.key_type != request.key_type and secret.is_ours:
        key_type = secret.key_type or "of an unlisted type"
        yield "KeyType", f"its key is {key_type}, and the task asks for {request.key_type}"
    signer = secret.annotations.get(markers.SIGNER) if secret.is_ours else None
    if signer not in (None, intent.signer.name):
        yield "Signer", f"its certificate is from {signer}, and the task asks for {intent.signer.name}"
    if judged_at(held, now) < start:
        yield "NotYetValid", f"its certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"
    margin = renewal_margin(held, intent.renew_before)
    due_by = _due_by(held, margin, now, later)
    if due_by >= end:
        # The same code, because a certificate that is due may expire before its plan is approved.
        yield RENEWAL_DUE, f"its certificate expired at {end:%Y-%m-%d %H:%M} UTC"
    if end - due_by <= margin:
        words = f"its certificate expires at {end:%Y-%m-%d %H:%M} UTC, and is renewed {_shown(margin)} before that"
        yield RENEWAL_DUE, words


def _due_by(held: CertificateFacts, margin: timedelta, now: datetime, later: datetime) -> datetime:
    """Return the time by which a renewal is due: the later clock's, unless a new certificate would be due again by that clock."""
    is_of_use = later - now < held.not_after - held.not_before - margin
    return later if is_of_use else now


# The certificate from the signer


def check_issued(intent: Intent, public_key_sha256: str, pem: str, now: datetime) -> CertificateFacts:
    """Return the facts of the issued certificate. Raise IssueError that names its first difference to the request."""
    try:
        certificates = certificate_facts.load(pem)
    except CertificateError as exc:
        raise _refused(intent, exc.cause) from exc
    if not certificates:
        raise _refused(intent, "it holds no certificate")
    leaf, chain = certificates[0], certificates[1:]
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
    return next(_issued_faults(intent, public_key_sha256, (leaf, *chain), now), "")


def _refused(intent: Intent, fault: str, *evidence: str) -> IssueError:
    return IssueError(
        f"the certificate from the signer {intent.signer.name} is not used: {fault}",
        evidence=evidence,
        remedy="Ask the operator of this signer. The certificate in use is unchanged",
    )


def _issued_faults(
    intent: Intent, public_key_sha256: str, certificates: Sequence[CertificateFacts], now: datetime
) -> Iterator[str]:
    """Yield each difference between an issued certificate and the request, as a clause."""
    held, request = certificates[0], intent.request
    if held.public_key_sha256 != public_key_sha256:
        yield "it has another public key"
    if held.is_ca:
        yield "it is a certificate authority"
    wanted = {*request.dns_names, *request.ip_addresses}
    names = {*held.dns_names, *held.ip_addresses, *held.emails, *held.uris}
    if wanted - names:
        yield f"it lacks the names {', '.join(sorted(wanted - names))}"
    if names - wanted:
        yield f"it also has the names {', '.join(sorted(names - wanted))}"
    if _is_other_user(intent, held):
        yield f"its subject is {held.subject}"
    wrong_usage = usage_fault(request.usages, held.usages)
    if wrong_usage:
        yield wrong_usage
    if held.not_before > now + CLOCK_SKEW:
        yield f"it is not valid before {held.not_before:%Y-%m-%d %H:%M} UTC"
    if held.not_after <= now:
        yield f"it expired at {held.not_after:%Y-%m-%d %H:%M} UTC"
    # A shorter lifetime is accepted, because expirationSeconds is a hint (KEP-2784).
    bounds = (request.expiration_seconds, intent.signer.longest_lifetime_seconds)
    longest = min((seconds for seconds in bounds if seconds), default=None)
    if longest is not None and held.not_after > now + timedelta(seconds=longest) + CLOCK_SKEW:
        yield f"it is valid until {held.not_after:%Y-%m-%d %H:%M} UTC, longer than {longest} seconds"
    yield from _chain_faults(certificates)


def _chain_faults(certificates: Sequence[CertificateFacts]) -> Iterator[str]:
    leaf = next((entry for entry in certificates[1:] if not entry.is_ca), None)
    if leaf:
        yield f"its chain has a certificate that is not of a certificate authority: {leaf.subject}"
    # Each certificate certifies the one before it (RFC 5246 section 7.4.2). Servers send the chain as it is stored, and
    # not every client sorts it.
    yield from (
        f"its chain is in the wrong order: {entry.subject} did not issue {before.subject}"
        for before, entry in zip(certificates, certificates[1:])
        if before.issuer != entry.subject
    )


def _is_other_user(intent: Intent, held: CertificateFacts) -> bool:
    """Return True if a client certificate has another subject than the request. Servers are known by their names."""
    request = intent.request
    if not is_client_identity(request.usages):
        return False
    wanted = request.common_name, set(request.organizations)
    return wanted != (held.common_name, set(held.organizations))


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"


def _shown(margin: timedelta) -> str:
    return f"{margin.days} days" if margin.days else f"{int(margin.total_seconds())} seconds"


# The certificate of another owner, before it is replaced


def judge_replacement(
    intent: Intent, secret: ExistingSecret | None, reason: IssueReason, *, has_targets: bool
) -> IssueReason:
    """Return the reason with what the replacement changes. Raises SecretError for a loss that the user does not accept.

    has_targets: True if caBundles showed that no CA of them verifies the certificate.
    """
    if secret is None or secret.is_ours:
        return reason
    held, is_accepted = secret.certificate, intent.accept.covers(OTHER_CONTENT, intent.secret)
    if not is_accepted and secret.has_key and secret.key_sha256 != (held and held.public_key_sha256):
        raise SecretError(
            f"{reason.message}. Another client stored its private key, which would be lost",
            remedy="Let its owner complete the Secret. To replace the key, set "
            + accept_option([OTHER_CONTENT], intent.secret),
        )
    if held is None:
        return reason
    if not is_accepted:
        _refuse(intent, held, reason, has_targets=has_targets)
    changes = (
        f"CA {held.issuer} -> signer {intent.signer.name}",
        f"valid until {held.not_after:%Y-%m-%d} -> {_lifetime(intent)}",
        f"key {secret.key_type or 'of an unlisted type'} -> {intent.request.key_type}",
    )
    return replace(reason, message=f"{reason.message}. This replaces: {', '.join(changes)}")


def _lifetime(intent: Intent) -> str:
    seconds = intent.request.expiration_seconds
    return f"{seconds} seconds" if seconds else "what the signer grants"


def _refuse(intent: Intent, held: CertificateFacts, reason: IssueReason, *, has_targets: bool) -> None:
    option = accept_option([OTHER_CONTENT], intent.secret)
    own = name_policy.service_names(intent.service, intent.namespace)[-1:] if intent.service else ()
    is_called = {*own} <= {*held.dns_names}
    if (reason.code == "Names" and is_called) or (reason.code == "Untrusted" and not has_targets):
        raise SecretError(
            f"{reason.message}. Another owner made this certificate, and it is valid until {held.not_after:%Y-%m-%d %H:%M} UTC",
            remedy="Let its owner issue a certificate that fits the task, or change the task: names, targets or ca_bundle. "
            f"To replace the certificate, set {option}",
        )
    losses = tuple(find_losses(intent, held))
    if losses:
        raise SecretError(
            f"{reason.message}. Another owner made this certificate, and the new one would lack: {'; '.join(losses)}",
            evidence=losses,
            remedy="Ask for it with names, usages, common_name or organizations. To lose it, set " + option,
        )


def find_losses(intent: Intent, held: CertificateFacts) -> Iterator[str]:
    """Yield what a certificate has and the requested one would lack. CA, lifetime and type of key are no losses."""
    request = intent.request
    yield from (f"the name {name}" for name in held.dns_names if name not in request.dns_names)
    yield from (f"the address {name}" for name in held.ip_addresses if name not in request.ip_addresses)
    yield from (f"the URI {name}" for name in held.uris)
    yield from (f"the e-mail address {name}" for name in held.emails)
    yield from (
        f"a subjectAltName of the type {_OTHER_NAMES.get(tag, tag & 31)}"
        for tag, _name in held.alternative_names
        if tag not in _NAMES
    )
    extended = purposes(held.usages)
    yield from (f"the usage {usage}" for usage in extended if usage not in request.usages)
    if not extended and not is_client_identity(request.usages):
        yield f"the usage {CLIENT_AUTH}, which a certificate without extended usages has"
    yield from (
        f"the organization {name}" for name in held.organizations if name not in request.organizations
    )
    own = name_policy.service_names(intent.service, intent.namespace) if intent.service else ()
    known = {"", *own, *held.dns_names}
    for kind, _sign, text in (part.partition("=") for part in _BETWEEN_PARTS.split(held.subject) if part):
        # The subject escapes commas and other signs.
        if (
            kind == "CN"
            and bare_name(text) not in known
            and text.replace("\\", "") != request.common_name.replace("\\", "")
        ):
            yield f"the common name {text}"
        if kind not in ("CN", "O"):
            yield f"the part {kind}={text} of the subject"
