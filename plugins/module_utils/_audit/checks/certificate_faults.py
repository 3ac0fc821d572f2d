# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Compare what an endpoint serves with what the API server trusts. Pure.

The rules are those of `_x509.chain.verify`, the API server's own, and `_x509.chain.chain_judge` judges the dates. Each rule is judged apart
from the others, so that one fault does not hide another one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..._webhook.bundles import bundle_content
from ..._webhook.bundles.bundle_targets import ClientConfig
from ..._webhook.calls.call_faults import BUNDLE_BROKEN, BUNDLE_EMPTY, CA_MISMATCH
from ..._webhook.endpoints.served_chains import ServedChain
from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..._x509.chain.chain_judge import ANCHOR, ChainBreak, Judgement, judge
from ..._x509.chain.verify import anchors, verify, weak_key, weak_signature
from ..facts.finding import ERROR, LIKELY, PROVEN, WARNING

# A certificate that ends soon: the smaller of a time and a share of the lifetime. Lifetimes are hours to decades.
WARN_WITHIN, WARN_SHARE = timedelta(days=28), 4
FAIL_WITHIN, FAIL_SHARE = timedelta(days=14), 10
#: Go refuses a chain with a larger RSA key (crypto/tls since Go 1.19.12).
MOST_RSA_BITS = 8192
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
    return "" if anchors(bundle) else BUNDLE_BROKEN


def find_chain_faults(
    served: ServedChain, config: ClientConfig, now: datetime
) -> tuple[CertificateFault, ...]:
    """Return the faults of the chain that one endpoint serves, for the bundle and the name of a client configuration."""
    if served.is_unread:  # each API server refuses what is wrong with the certificate itself
        return tuple(_leaf_faults(served.parsed[0], config.server_name, now))
    return _chain_faults(served.chain_pem, config.ca_bundle, config.server_name, now)


@functools.lru_cache(maxsize=64)  # many webhooks call one Service with one bundle
def _chain_faults(
    chain_pem: str, bundle: str, server_name: str, now: datetime
) -> tuple[CertificateFault, ...]:
    leaf, sent = certificate_facts.load_leaf_and_chain(chain_pem)
    judged = judge(leaf, bundle, name=None, intermediates=sent, now=now, usage="any")
    faults = [*_date_faults(judged.breaks, now)]
    if judged.trust.ok:
        faults += _name_faults(leaf, server_name, now)
        ageless = [entry.certificate.fingerprint for entry in judged.breaks]
        faults += _usage_faults(leaf, sent, bundle, ageless, now)
    else:  # without a chain, the leaf still has its own faults
        faults += _leaf_faults(leaf, server_name, now)
        faults += () if bundle_state(bundle) else _trust_faults(leaf, sent, judged, bundle, now)
    return (*dict.fromkeys(faults), *_weak_keys(leaf, sent, judged, now))


def _leaf_faults(leaf: CertificateFacts, server_name: str, now: datetime) -> Iterator[CertificateFault]:
    """Yield the faults of dates, names and usages that a leaf has with any bundle."""
    alone = judge(leaf, leaf.pem, name=None, now=now, usage="any")
    yield from _date_faults(alone.breaks, now)
    yield from _name_faults(leaf, server_name, now)
    yield from _usage_faults(leaf, (), leaf.pem, [leaf.fingerprint], now)


def find_bundle_faults(bundle: str, now: datetime) -> tuple[CertificateFault, ...]:
    """Return the faults that the bundle shows without a served certificate: all of its certificates end, or have ended.

    Without a served certificate it is not known which certificate of the bundle is used.
    """
    certificates = anchors(bundle)
    if not certificates:
        return ()
    last = max(certificates, key=lambda entry: entry.not_after)
    certainty = PROVEN if len(certificates) == 1 else LIKELY
    return tuple(
        replace(fault, certainty=certainty)
        for fault in _date_faults([ChainBreak(last.not_after, last, ANCHOR)], now)
    )


def _date_faults(breaks: Iterable[ChainBreak], now: datetime) -> Iterator[CertificateFault]:
    """Yield the dates that leave no chain. The share of the lifetime is that of the certificate that ends."""
    for entry in breaks:
        words, prefix = entry.in_words(now), "ca-" if entry.place == ANCHOR else ""
        severity = expiry_severity(entry.certificate.not_before, entry.at, now)
        if entry.is_start:
            yield CertificateFault("not-yet-valid", words, now)
        elif entry.at < now:
            yield CertificateFault(f"{prefix}expired", words, entry.at)
        elif severity:
            yield CertificateFault(f"{prefix}expiring", words, entry.at, severity)


def _name_faults(leaf: CertificateFacts, server_name: str, now: datetime) -> Iterator[CertificateFault]:
    """Yield the fault of the name. Bundle and dates do not matter, so the leaf itself is an anchor without dates."""
    verdict = verify(leaf, leaf.pem, name=server_name, now=now, usage="any", ageless=(leaf.fingerprint,))
    if verdict.code == "name-mismatch":
        names = [f'"{name}"' for name in leaf.dns_names]
        names += [f"the address {address}" for address in leaf.ip_addresses]
        is_address = certificate_facts.parse_address(server_name.strip("[]"))
        required = f"the address {server_name}" if is_address else server_name
        words = (
            f"the certificate is for {', '.join(names) or 'no name'}, and the API server requires {required}"
        )
        yield CertificateFault("name-mismatch", words, now)


def _usage_faults(
    leaf: CertificateFacts,
    sent: Sequence[CertificateFacts],
    bundle: str,
    ageless: Sequence[str],
    now: datetime,
) -> Iterator[CertificateFault]:
    verdict = verify(leaf, bundle, name=None, intermediates=sent, now=now, ageless=ageless)
    if verdict.code == "wrong-usage":
        listed = ", ".join(leaf.usages) or "no usage"
        words = (
            f"the certificate or its CA is not for server auth (the usages of the certificate are: {listed})"
        )
        yield CertificateFault("wrong-usage", words, now)


def _trust_faults(
    leaf: CertificateFacts, sent: Sequence[CertificateFacts], judged: Judgement, bundle: str, now: datetime
) -> Iterator[CertificateFault]:
    """Yield why the bundle does not verify the chain, apart from dates. A weak signature may be the reason."""
    weak = [weak_signature(entry) for entry in (leaf, *sent) if not entry.is_self_issued]
    algorithm = next(filter(None, weak), "")
    if algorithm:
        words = f"a served certificate is signed with {algorithm}, which the API server refuses"
        yield CertificateFault("weak-signature", words, now)
        return
    held = bundle_content.certificates(bundle)
    words = f"the caBundle does not verify the certificate: {judged.trust.reason}"
    subjects = dict.fromkeys(entry.subject or "not readable" for entry in held)
    lines = [
        f"issuer of the certificate: {leaf.issuer}",
        f"subjects of the caBundle: {'; '.join(subjects)}",
    ]
    if judged.fault:
        lines.insert(0, judged.fault)
    if judged.trust.code == CA_MISMATCH:
        lines.append(_trust_remedy(judged))
    yield CertificateFault(judged.trust.code, words, now, lines=tuple(lines))


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


def _weak_keys(
    leaf: CertificateFacts, sent: Sequence[CertificateFacts], judged: Judgement, now: datetime
) -> Iterator[CertificateFault]:
    """Yield the fault of the worst RSA key of a served chain. If a chain verifies, Go does nothing with the other keys that are sent."""
    sizes = [entry.rsa_bits for entry in (leaf, *sent) if entry.rsa_bits]
    problems = [weak_key(entry) for entry in ([leaf] if judged.trust.ok else [leaf, *sent])]
    problems += [f"it has {size} bits" for size in sizes if size > MOST_RSA_BITS]
    if any(problems):
        words = f"a served certificate has an RSA key that the API server refuses: {max(problems)}"
        yield CertificateFault("weak-key", words, now)
    elif sizes and min(sizes) < GOOD_RSA_BITS:
        words = f"a served certificate has an RSA key of {min(sizes)} bits"
        yield CertificateFault("weak-key", words, None, WARNING)
