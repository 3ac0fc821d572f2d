# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare what an endpoint serves with what the API server trusts. Pure.

The rules are those of `_x509.verify`, the API server's own, and `_x509.chain_judge` judges the dates. Each rule is judged apart
from the others, so that one fault does not hide another one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..._base.times import format_time
from ..._webhook import bundle_content
from ..._webhook.bundle_targets import ClientConfig
from ..._webhook.call_faults import BUNDLE_BROKEN, BUNDLE_EMPTY, CA_MISMATCH
from ..._webhook.served_chains import ServedChain
from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..._x509.chain_judge import ANCHOR, ChainBreak, Judgement, judge
from ..._x509.verify import anchors, has_anchor, verify, weak_signature
from ..facts.finding import ERROR, LIKELY, PROVEN, WARNING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A certificate that ends soon: the smaller of a time and a share of the lifetime. Lifetimes are hours to decades.
WARN_WITHIN, WARN_SHARE = timedelta(days=28), 4
FAIL_WITHIN, FAIL_SHARE = timedelta(days=14), 10
#: Go refuses other RSA keys (crypto/rsa since Go 1.24, crypto/tls since Go 1.19.12).
LEAST_RSA_BITS, MOST_RSA_BITS = 1024, 8192
#: NIST SP 800-131A allows no smaller key.
GOOD_RSA_BITS = 2048


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
    #: More evidence, the remedy of this fault included.
    lines: tuple[str, ...] = ()


def expiry_severity(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """Return ERROR or WARNING for a certificate that ends soon, "" otherwise."""
    lifetime, left = not_after - not_before, not_after - now
    if left < min(FAIL_WITHIN, lifetime / FAIL_SHARE):
        return ERROR
    return WARNING if left < min(WARN_WITHIN, lifetime / WARN_SHARE) else ""


def bundle_state(bundle: str) -> str:
    """Return BUNDLE_EMPTY for a bundle without a byte, BUNDLE_BROKEN for one without a certificate that Go reads, "" otherwise."""
    if not bundle:
        return BUNDLE_EMPTY
    return "" if has_anchor(bundle) else BUNDLE_BROKEN


def find_chain_faults(
    served: ServedChain, config: ClientConfig, now: datetime
) -> tuple[CertificateFault, ...]:
    """Return the faults of the chain that one endpoint serves, for the bundle and the name of a client configuration."""
    if served.life:
        begin, end = served.life
        words = f"the certificate is valid from {format_time(begin)} to {format_time(end)}"
        return tuple(_dated(words, "", begin, end, now, is_start=now < begin))
    return _chain_faults(served.chain_pem, config.ca_bundle, config.server_name, now)


@functools.lru_cache(maxsize=64)  # many webhooks call one Service with one bundle
def _chain_faults(
    chain_pem: str, bundle: str, server_name: str, now: datetime
) -> tuple[CertificateFault, ...]:
    leaf, sent = certificate_facts.load_leaf_and_chain(chain_pem)
    facts = certificate_facts.describe(leaf)
    judged = judge(leaf, bundle, name=None, intermediates=sent, now=now, usage="any")
    breaks = judged.breaks
    if not judged.trust.ok:  # without a chain, the leaf still has its own dates
        alone = judge(leaf, certificate_facts.to_pem(leaf), name=None, now=now, usage="any")
        breaks = tuple(dict.fromkeys((*breaks, *alone.breaks)))
    faults = [*_date_faults(breaks, now), *_name_faults(leaf, facts, server_name, now)]
    if judged.trust.ok:
        faults += _usage_faults(leaf, sent, bundle, judged, now)
    elif not bundle_state(bundle):
        faults += _trust_faults(leaf, sent, judged, bundle, now)
    return (*faults, *_weak_keys((leaf, *sent), now))


def find_bundle_faults(bundle: str, now: datetime) -> tuple[CertificateFault, ...]:
    """Return the faults that the bundle shows without a served certificate: all of its certificates end, or have ended.

    Without a served certificate it is not known which certificate of the bundle is used.
    """
    certificates = anchors(bundle)
    if not certificates or len(certificates) < len(bundle_content.certificates(bundle)):
        return ()
    last = max(certificates, key=lambda entry: entry.not_after)
    certainty = PROVEN if len(certificates) == 1 else LIKELY
    faults = _date_faults([ChainBreak(last.not_after, last, ANCHOR)], now)
    return tuple(replace(fault, certainty=certainty) for fault in faults)


def _date_faults(breaks: Iterable[ChainBreak], now: datetime) -> Iterator[CertificateFault]:
    """Yield the dates that leave no chain. The share of the lifetime is that of the certificate that ends."""
    for entry in breaks:
        prefix, begin = "ca-" if entry.place == ANCHOR else "", entry.certificate.not_before
        yield from _dated(entry.in_words(now), prefix, begin, entry.at, now, is_start=entry.is_start)


def _dated(
    words: str, prefix: str, begin: datetime, at: datetime, now: datetime, *, is_start: bool
) -> Iterator[CertificateFault]:
    severity = expiry_severity(begin, at, now)
    if is_start:
        yield CertificateFault("not-yet-valid", words, now)
    elif at < now:
        yield CertificateFault(f"{prefix}expired", words, at)
    elif severity:
        yield CertificateFault(f"{prefix}expiring", words, at, severity)


def _name_faults(
    leaf: Certificate, facts: CertificateFacts, server_name: str, now: datetime
) -> Iterator[CertificateFault]:
    """Yield the fault of the name. Bundle and dates do not matter, so the leaf itself is an anchor without dates."""
    own = certificate_facts.to_pem(leaf)
    verdict = verify(leaf, own, name=server_name, now=now, usage="any", ageless=(facts.fingerprint,))
    if verdict.code == "name-mismatch":
        names = ", ".join(f'"{name}"' for name in (*facts.dns_names, *facts.ip_addresses)) or "no name"
        words = f"the certificate is for {names}, and the API server requires {server_name}"
        yield CertificateFault("name-mismatch", words, now)


def _usage_faults(
    leaf: Certificate, sent: Sequence[Certificate], bundle: str, judged: Judgement, now: datetime
) -> Iterator[CertificateFault]:
    ageless = [entry.certificate.fingerprint for entry in judged.breaks]
    verdict = verify(leaf, bundle, name=None, intermediates=sent, now=now, ageless=ageless)
    if verdict.code == "wrong-usage":
        listed = ", ".join(certificate_facts.describe(leaf).usages) or "no usage"
        words = (
            f"the certificate or its CA is not for server auth (the usages of the certificate are: {listed})"
        )
        yield CertificateFault("wrong-usage", words, now)


def _trust_faults(
    leaf: Certificate, sent: Sequence[Certificate], judged: Judgement, bundle: str, now: datetime
) -> Iterator[CertificateFault]:
    """Yield why the bundle does not verify the chain, apart from dates. A weak signature may be the reason."""
    weak = [weak_signature(entry) for entry in (leaf, *sent) if entry.issuer != entry.subject]
    algorithm = next(filter(None, weak), "")
    if algorithm:
        words = f"a served certificate is signed with {algorithm}, which the API server refuses"
        yield CertificateFault("weak-signature", words, now)
        return
    held = bundle_content.certificates(bundle)
    words = f"the caBundle does not verify the certificate: {judged.trust.reason}"
    lines = (
        *((judged.fault,) if judged.fault else ()),
        f"issuer of the certificate: {certificate_facts.describe(leaf).issuer}",
        f"subjects of the caBundle: {'; '.join(entry.subject or 'not readable' for entry in held)}",
        *((_trust_remedy(judged),) if judged.trust.code == CA_MISMATCH else ()),
    )
    yield CertificateFault(judged.trust.code, words, now, lines=lines)


def _trust_remedy(judged: Judgement) -> str:
    culprit = judged.trust.culprit
    if culprit is None or culprit.is_self_issued:
        return "Write the current CA into the caBundle"
    if "candidate authority" in judged.trust.reason:
        return f"The caBundle has a CA named {culprit.issuer} with another key. Write the current CA into the caBundle"
    return (
        f"If {culprit.issuer} is an intermediate CA, let the endpoint send its certificate too. Otherwise write it into the "
        "caBundle"
    )


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
