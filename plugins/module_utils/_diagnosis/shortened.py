# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Requests that were issued, but not as long as they asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from .._csr import signers
from .._csr.csr_content import certificate_of
from .._csr.errors import RequestError
from .._csr.signers import CertificateRequest, Signer
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.errors import CertificateError
from .diagnosis import PROVEN, Diagnosis, moment, span
from .observation import CsrObservation, PublishedCa
from .signer_stats import approved_at

# kube-controller-manager backdates by five minutes, at the cost of the end where eight hours or more are asked for
# (k/k pkg/controller/certificates/authority/policies.go); a minute more for the clocks, and a hundredth for rounding.
ALLOWANCE = timedelta(minutes=6)
SOON = timedelta(days=30)


def is_noteworthy(csr: Mapping[str, Any], now: datetime) -> bool:
    """Whether it is worth reading the published CAs for this request: it lasts less than it asked for, or not long."""
    facts = _facts(csr)
    if facts is None:
        return False
    return _is_shorter(csr, facts) or (not _asked(csr) and now < facts.not_after < now + SOON)


def ca_expiring(seen: CsrObservation) -> Diagnosis | None:
    """A signer cuts a certificate to the end of its CA (k/k authority.go)."""
    facts = _facts(seen.csr)
    ending = _ending(seen, facts) if facts else None
    if facts is None or ending is None or not is_noteworthy(seen.csr, seen.now):
        return None
    left = span(max(ending.not_after - seen.now, timedelta()))
    return Diagnosis(
        "signing-ca-expiring",
        f"The CA that signed request {seen.name} expires in {left}, at {moment(ending.not_after)}, and its certificate "
        "with it.",
        PROVEN,
        (*_evidence(seen, facts), f"{ending.source}: {ending.subject}, until {moment(ending.not_after)}"),
        f"Renew the CA of the signer {seen.signer} before then; afterwards it issues nothing, and every certificate that it "
        "issued is invalid.",
    )


def shortened(seen: CsrObservation) -> Diagnosis | None:
    facts = _facts(seen.csr)
    if facts is None or not _is_shorter(seen.csr, facts):
        return None
    granted = facts.not_after - approved_at(seen.csr)
    longest = seen.row.longest_lifetime_seconds if seen.row else None
    limit = (
        (f"{seen.row.name} issues for {span(timedelta(seconds=longest))} at most",)
        if seen.row and longest
        else ()
    )
    return Diagnosis(
        "lifetime-shortened",
        f"Request {seen.name} asked for {span(_asked(seen.csr))} and was issued for {span(granted)}: expirationSeconds is "
        "a wish.",
        PROVEN,
        (*_evidence(seen, facts), *limit),
        "Renew by the certificate's own end. For longer ones raise kube-controller-manager's --cluster-signing-duration, "
        "which is both its default and its limit (365 days), or ask another signer.",
    )


def warnings(signer: Signer, request: CertificateRequest, granted: timedelta) -> tuple[str, ...]:
    """What to tell of a certificate that is put to use; what the table of signers foresaw was told before."""
    asked = timedelta(seconds=request.expiration_seconds or 0)
    if not _is_less(granted, asked) or signers.warnings(signer, request):
        return ()
    return (
        f"the signer {signer.name} issued for {span(granted)}, not for the {span(asked)} that were asked for",
    )


def _evidence(seen: CsrObservation, facts: CertificateFacts) -> Iterator[str]:
    yield f"certificate by {facts.issuer}, until {moment(facts.not_after)}"
    if _asked(seen.csr):
        yield f"spec.expirationSeconds {seen.csr['spec']['expirationSeconds']}"


def _ending(seen: CsrObservation, facts: CertificateFacts) -> PublishedCa | None:
    """The published CA to whose very end the certificate was cut."""
    return next(
        (one for one in seen.authorities if (one.subject, one.not_after) == (facts.issuer, facts.not_after)),
        None,
    )


def _is_shorter(csr: Mapping[str, Any], facts: CertificateFacts) -> bool:
    return _is_less(facts.not_after - approved_at(csr), _asked(csr))


def _is_less(granted: timedelta, asked: timedelta) -> bool:
    return bool(asked) and granted < asked - ALLOWANCE - asked / 100


def _asked(csr: Mapping[str, Any]) -> timedelta:
    return timedelta(seconds=csr["spec"].get("expirationSeconds") or 0)


def _facts(csr: Mapping[str, Any]) -> CertificateFacts | None:
    try:
        return certificate_facts.describe_pem(certificate_of(csr))
    except (CertificateError, RequestError):
        return None
