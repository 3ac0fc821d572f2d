# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare what an endpoint serves with what the API server trusts. Pure.

The rules are those of `_x509.verify`, the API server's own. Each rule is judged apart from the others, so that one fault
does not hide another one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..._times import format_time
from ..._webhook import bundle_content
from ..._x509 import certificate_facts
from ..._x509.errors import CertificateError
from ..._x509.verify import Verdict, verify, weak_signature
from ..finding import ERROR, LIKELY, PROVEN, WARNING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from ..._webhook.bundle_targets import ClientConfig
    from ..._webhook.served_chains import ServedChain
    from ..._x509.certificate_facts import CertificateFacts

# A certificate that ends soon: the smaller of a time and a share of the lifetime. Lifetimes are hours to decades.
WARN_WITHIN, WARN_SHARE = timedelta(days=28), 4
FAIL_WITHIN, FAIL_SHARE = timedelta(days=14), 10
_SECOND = timedelta(seconds=1)
_NAME_CODES = frozenset(("no_alternative_names", "other_names"))
#: Go refuses other RSA keys (crypto/rsa since Go 1.24, crypto/tls since Go 1.19.12).
LEAST_RSA_BITS, MOST_RSA_BITS = 1024, 8192
#: NIST SP 800-131A allows no smaller key.
GOOD_RSA_BITS = 2048
EMPTY, BROKEN = "bundle-empty", "bundle-broken"


@dataclass(frozen=True)
class CertificateFault:
    """One fault of what an endpoint serves, or of a CA bundle."""

    #: The id of the check.
    check: str
    #: A clause about the endpoint's certificate or the bundle.
    words: str
    breaks_at: datetime | None
    severity: str = ERROR
    certainty: str = PROVEN


def expiry_severity(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """Return ERROR or WARNING for a certificate that ends soon, "" otherwise."""
    lifetime, left = not_after - not_before, not_after - now
    if left < min(FAIL_WITHIN, lifetime / FAIL_SHARE):
        return ERROR
    return WARNING if left < min(WARN_WITHIN, lifetime / WARN_SHARE) else ""


def bundle_state(bundle: str) -> str:
    """Return EMPTY for a bundle without content, BROKEN for one without a certificate, "" otherwise."""
    if not bundle.strip():
        return EMPTY
    return "" if bundle_content.certificates(bundle) else BROKEN


def find_chain_faults(
    served: ServedChain, config: ClientConfig, now: datetime
) -> tuple[CertificateFault, ...]:
    """Return the faults of the chain that one endpoint serves, for the bundle and the name of a client configuration."""
    return _chain_faults(served.chain_pem, config.ca_bundle, config.server_name, now)


@functools.lru_cache(maxsize=64)  # many webhooks call one Service with one bundle
def _chain_faults(
    chain_pem: str, bundle: str, server_name: str, now: datetime
) -> tuple[CertificateFault, ...]:
    try:
        leaf, sent = certificate_facts.load_leaf_and_chain(chain_pem)
        facts = certificate_facts.describe(leaf)
        intermediates = tuple(certificate_facts.describe(one) for one in sent)
    except CertificateError as error:
        return (CertificateFault("ca-mismatch", error.cause, now),)
    at = min(max(now, facts.not_before), facts.not_after)
    verdict = verify(leaf, bundle, name=None, intermediates=sent, now=at, usage="any")
    faults = [*_date_faults(facts, intermediates, now), *_name_faults(leaf, facts, server_name, at)]
    if bundle_state(bundle):
        return (*faults, *_weak_keys((leaf, *sent), now))
    if verdict.ok:
        usable = verify(leaf, bundle, name=None, intermediates=sent, now=at)
        faults += _usage_faults(facts, usable, now)
        faults += _anchor_faults(verdict, bundle, now)
    else:
        weak = [weak_signature(one) for one in (leaf, *sent) if one.issuer != one.subject]
        trust = tuple(_trust_faults(leaf, sent, verdict, bundle, (now, at)))
        faults += _weak_signatures(filter(None, weak), trust, now)
    return (*faults, *_weak_keys((leaf, *sent), now))


def find_bundle_faults(bundle: str, now: datetime) -> tuple[CertificateFault, ...]:
    """Return the faults that the bundle shows without a served certificate: all of its certificates end, or have ended.

    Without a served certificate it is not known which certificate of the bundle is used.
    """
    ends = [one.not_after for one in bundle_content.certificates(bundle)]
    known = [end for end in ends if end is not None]
    if not known or len(known) < len(ends):
        return ()
    certainty = PROVEN if len(known) == 1 else LIKELY
    return tuple(_anchor_end(bundle, max(known), now, certainty))


def _date_faults(
    facts: CertificateFacts, intermediates: Sequence[CertificateFacts], now: datetime
) -> Iterator[CertificateFault]:
    name = f"the certificate {facts.subject or facts.serial}"
    end = min(one.not_after for one in (facts, *intermediates))
    start = max(one.not_before for one in (facts, *intermediates))
    if now > end:
        yield CertificateFault("expired", f"{name} has expired at {format_time(end)}", end)
    elif now < start:
        yield CertificateFault("not-yet-valid", f"{name} is valid only from {format_time(start)}", now)
    else:
        severity = expiry_severity(facts.not_before, end, now)
        if severity:
            yield CertificateFault("expiring", f"{name} expires at {format_time(end)}", end, severity)


def _name_faults(
    leaf: Certificate, facts: CertificateFacts, server_name: str, at: datetime
) -> Iterator[CertificateFault]:
    """Yield the fault of the name. The bundle does not matter, so the leaf itself is the anchor."""
    verdict = verify(leaf, certificate_facts.to_pem(leaf), name=server_name, now=at, usage="any")
    if verdict.code in _NAME_CODES:
        names = ", ".join((*facts.dns_names, *facts.ip_addresses)) or "no name"
        words = f"the certificate is for {names}, and the API server requires {server_name}"
        yield CertificateFault("name-mismatch", words, at)


def _usage_faults(facts: CertificateFacts, verdict: Verdict, now: datetime) -> Iterator[CertificateFault]:
    if verdict.code == "incompatible_usage":
        listed = ", ".join(facts.usages) or "no usage"
        words = (
            f"the certificate or its CA is not for server auth (the usages of the certificate are: {listed})"
        )
        yield CertificateFault("wrong-usage", words, now)


def _anchor_faults(verdict: Verdict, bundle: str, now: datetime) -> Iterator[CertificateFault]:
    """Yield the end of the anchor that lasts longest. A leaf in the bundle is its own anchor, which `expiring` covers."""
    ends = [
        one.not_after
        for one in bundle_content.certificates(bundle)
        if one.fingerprint in verdict.anchors and one.not_after is not None
    ]
    if ends:
        yield from _anchor_end(bundle, max(ends), now, PROVEN)


def _anchor_end(bundle: str, end: datetime, now: datetime, certainty: str) -> Iterator[CertificateFault]:
    names = [one.subject for one in bundle_content.certificates(bundle) if one.not_after == end]
    name = f"the CA {names[0] if names else ''} of the caBundle"
    if now > end:
        words = f"{name} has expired at {format_time(end)}"
        yield CertificateFault("ca-expired", words, end, certainty=certainty)
        return
    severity = expiry_severity(_start(bundle, end), end, now)
    if severity:
        words = f"{name} expires at {format_time(end)}"
        yield CertificateFault("ca-expiring", words, end, severity, certainty)


def _start(bundle: str, end: datetime) -> datetime:
    """Return the begin of the lifetime of the certificate that ends at this time."""
    for one in bundle_content.certificates(bundle):
        if one.not_after == end:
            return certificate_facts.describe_pem(one.pem).not_before
    return end


def _trust_faults(
    leaf: Certificate,
    sent: Sequence[Certificate],
    verdict: Verdict,
    bundle: str,
    times: tuple[datetime, datetime],
) -> Iterator[CertificateFault]:
    """Yield why the bundle does not verify the chain: its CA has expired, or is another one.

    times: the time of the audit, and the time of the verdict, at which the leaf is valid.
    """
    now, at = times
    for anchor in bundle_content.certificates(bundle):
        if anchor.not_after is None or anchor.not_after > at:
            continue
        earlier = verify(
            leaf, anchor.pem, name=None, intermediates=sent, now=anchor.not_after - _SECOND, usage="any"
        )
        if earlier.ok:
            words = f"the CA {anchor.subject} of the caBundle has expired at {format_time(anchor.not_after)}"
            yield CertificateFault("ca-expired", words, anchor.not_after)
            return
    if verdict.code == "expired":
        # The signatures are right. At this time a certificate of the endpoint, which _date_faults reports, or a newer CA is
        # not valid.
        dates = [(one.not_valid_before_utc, one.not_valid_after_utc) for one in (leaf, *sent)]
        if all(start <= now <= end for start, end in dates):
            yield CertificateFault("not-yet-valid", f"the CA of the caBundle: {verdict.reason}", now)
        return
    unread = any(one.not_after is None for one in bundle_content.certificates(bundle))
    words = f"the caBundle does not verify the certificate: {verdict.reason}"
    yield CertificateFault("ca-mismatch", words, now, certainty=LIKELY if unread else PROVEN)


def _weak_signatures(
    names: Iterable[str], faults: Sequence[CertificateFault], now: datetime
) -> Iterator[CertificateFault]:
    """Yield the faults of the trust. A weak signature explains that the bundle does not verify the certificate."""
    algorithm = next(iter(names), "")
    for fault in faults:
        if algorithm and fault.check == "ca-mismatch":
            words = f"a served certificate is signed with {algorithm}, which the API server refuses"
            yield CertificateFault("weak-signature", words, now)
        else:
            yield fault


def _weak_keys(certificates: Iterable[Certificate], now: datetime) -> Iterator[CertificateFault]:
    """Yield the fault of the worst RSA key of a served chain. Source: Go crypto/tls and crypto/rsa."""
    sizes = [size for size in map(certificate_facts.rsa_bits, certificates) if size]
    for size in sorted(sizes):
        if size < LEAST_RSA_BITS or size > MOST_RSA_BITS:
            words = f"a served certificate has an RSA key of {size} bits, which the API server refuses"
            yield CertificateFault("weak-key", words, now)
            return
    if sizes and min(sizes) < GOOD_RSA_BITS:
        words = f"a served certificate has an RSA key of {min(sizes)} bits"
        yield CertificateFault("weak-key", words, None, WARNING)
