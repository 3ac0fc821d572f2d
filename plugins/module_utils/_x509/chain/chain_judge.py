# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide from when on the API server refuses a chain, and which certificate ends the chain. Pure.

A certificate that was sent or is in the bundle may end without harm, because another chain may still verify. So the judge
verifies at the time of the judgement, and at each start and end of a certificate. The time at which no chain is left counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..._base.times import format_time
from ..certificate_facts import CertificateFacts
from .verify import Verdict, find_anchor, possible_issuers, verify

#: The place of a certificate in a chain, in words.
LEAF, INTERMEDIATE = "the certificate {}", "the intermediate certificate {}"
ANCHOR = "the CA {} of the caBundle"
#: Code of a verdict -> what is wrong with its culprit. {chain} names the culprit by its place.
_CULPRITS = {
    "ca-mismatch": "the issuer {issuer} of {chain} is neither sent nor in the caBundle with the key that signed it",
    "not-a-ca": "{chain} is not a CA",
    "path-too-long": "the path length of {chain} allows fewer intermediate certificates below it",
    "name-constraint": "the name constraints of {chain} refuse the names of the certificate",
    "critical-extension": "{chain} has a critical extension that the API server does not know",
}
#: After an end, the certificate is not valid. The last second of a certificate may be that of the year 9999.
_MOMENT = timedelta(microseconds=1)
#: An endpoint may send hundreds of certificates. The dates next to the time of the judgement count.
MOST_DATES = 50


@dataclass(frozen=True)
class ChainBreak:
    """A date of a certificate that leaves no valid chain."""

    #: The end of the certificate, or its start if it is not valid yet.
    at: datetime
    certificate: CertificateFacts
    #: LEAF, INTERMEDIATE or ANCHOR.
    place: str

    @property
    def is_start(self) -> bool:
        return self.at == self.certificate.not_before

    @property
    def name(self) -> str:
        """Return the certificate by its place and its subject."""
        return self.place.format(self.certificate.subject or f"serial {self.certificate.serial}")

    def when(self, now: datetime) -> str:
        """Return the predicate of a clause: what the date means, and the date."""
        if self.is_start:
            verb = "is valid only from"
        elif self.at < now:
            verb = "has expired at"
        else:
            verb = "expires at"
        return f"{verb} {format_time(self.at)}"

    def in_words(self, now: datetime) -> str:
        """Return a clause about the certificate and its date."""
        return f"{self.name} {self.when(now)}"


@dataclass(frozen=True)
class Judgement:
    """The verdicts of the API server about a chain, now and later."""

    #: The verdict now.
    verdict: Verdict
    #: The verdict without the dates that refuse the chain now. A refusal has another reason than a date.
    trust: Verdict
    #: The first one is the alarm. Each further one breaks the chain if the certificates before it are renewed.
    breaks: tuple[ChainBreak, ...]
    #: Why the API server refuses the chain now, with the certificate that ends it. "" if it accepts the chain.
    refusal: str = ""
    #: What is wrong with a certificate apart from its dates. "" if `trust` is ok, or if no certificate is at fault.
    fault: str = ""


def judge(
    leaf: CertificateFacts,
    bundle_pem: str,
    *,
    name: str | None,
    intermediates: Sequence[CertificateFacts] = (),
    now: datetime,
    usage: str = "server auth",
) -> Judgement:
    """Judge a chain. The arguments are those of `verify`. The content of the certificates does not raise errors."""
    verify_at = functools.partial(
        verify, leaf, bundle_pem, name=name, intermediates=intermediates, usage=usage
    )
    chain = _Chain(leaf, bundle_pem, intermediates, now, verify_at)
    verdict = trust = verify_at(now=now)
    breaks: list[ChainBreak] = []
    while trust.untimely:
        breaks += chain.present_breaks(trust, _ageless(breaks))
        trust = verify_at(now=now, ageless=_ageless(breaks))
    fault = chain.fault(trust)
    culprit = breaks[0].in_words(now) if breaks else fault
    if trust.ok:
        breaks += chain.later_breaks(_ageless(breaks))
    refusal = f"{verdict.reason} ({culprit})" if culprit else verdict.reason
    return Judgement(verdict, trust, tuple(breaks), refusal, fault)


def _ageless(breaks: Sequence[ChainBreak]) -> frozenset[str]:
    return frozenset(entry.certificate.fingerprint for entry in breaks)


@dataclass(frozen=True)
class _Chain:
    leaf: CertificateFacts
    bundle_pem: str
    sent: Sequence[CertificateFacts]
    now: datetime
    verify_at: Callable[..., Verdict]

    @functools.cached_property
    def members(self) -> list[CertificateFacts]:
        """Return the certificates that a chain may contain."""
        own = [self.leaf, *self.sent]
        issuers = (issuer for entry in own for issuer in possible_issuers(entry, self.bundle_pem))
        return [*own, *{entry.fingerprint: entry for entry in issuers}.values()]

    def present_breaks(self, refused: Verdict, ageless: frozenset[str]) -> list[ChainBreak]:
        """Return the dates that refuse the chain now: the last ends, else the next starts, after which it is valid."""
        ends = sorted({entry.not_after for entry in self.members if entry.not_after < self.now}, reverse=True)
        starts = sorted({entry.not_before for entry in self.members if entry.not_before > self.now})
        for at in (*ends[:MOST_DATES], *starts[:MOST_DATES]):
            if self.verify_at(now=at, ageless=ageless).ok:
                outside = at + _MOMENT if at < self.now else at - _MOMENT
                return self._breaks(self.verify_at(now=outside, ageless=ageless), at) or self._own_breaks(
                    refused
                )
        return self._own_breaks(refused)  # the certificates are never valid at one time

    def later_breaks(self, ageless: frozenset[str]) -> Iterator[ChainBreak]:
        """Yield each end that leaves no chain, as if the certificates of earlier ends were renewed."""
        ends = sorted({entry.not_after for entry in self.members if entry.not_after >= self.now})
        for end in ends[:MOST_DATES]:
            while breaks := self._breaks(self.verify_at(now=end + _MOMENT, ageless=ageless), end):
                yield from breaks
                ageless |= _ageless(breaks)

    def fault(self, refused: Verdict) -> str:
        """Return what is wrong with the certificate that a refusal is about, "" if no certificate is at fault."""
        culprit, words = refused.culprit, _CULPRITS.get(refused.code, "")
        if culprit is None:
            return ""
        chain = self._break(culprit, culprit.not_after).name
        return words.format(chain=chain, issuer=culprit.issuer)

    def _breaks(self, refused: Verdict, at: datetime) -> list[ChainBreak]:
        return [
            self._break(entry, at) for entry in refused.untimely if at in (entry.not_before, entry.not_after)
        ]

    def _own_breaks(self, refused: Verdict) -> list[ChainBreak]:
        return [
            self._break(entry, entry.not_after if entry.not_after < self.now else entry.not_before)
            for entry in refused.untimely
        ]

    def _break(self, certificate: CertificateFacts, at: datetime) -> ChainBreak:
        if certificate.fingerprint == self.leaf.fingerprint:
            return ChainBreak(at, certificate, LEAF)
        is_anchor = find_anchor(self.bundle_pem, certificate.fingerprint)
        return ChainBreak(at, certificate, ANCHOR if is_anchor else INTERMEDIATE)
