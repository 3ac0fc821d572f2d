# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Describe the CAs of a cluster: which of them sign and serve the API, and which are younger, older, or gone. Pure.

Several CAs may have one subject, so no rule recognises a CA by its name. A CA is in use if it verifies the certificate that the API
server serves, or one that a signer of the cluster issued. A CA that is younger than one in use is a successor. A CA that is older
than all of them is outgoing. A CA is gone if the cluster no longer publishes it, and the kubeconfig still has it.
CAs are compared only if they replace each other: both have the same subject, or one signed a twin of the other.

Three shapes of a rotation exist. Amazon EKS, kubeadm and Gardener publish the successor first. The aws CLI shows when Amazon EKS
switches. k3s and RKE2 publish the successor and switch to it at one restart, as an intermediate, a root, and a twin of this root that
the outgoing CA signed. k0s, MKE 4 and Talos never publish both CAs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .._base.times import find_time, format_time
from .._x509 import certificate_facts
from .._x509.certificate_facts import CertificateFacts
from .._x509.chain.issuer_index import IssuerIndex, is_signed_by
from .._x509.chain.verify import anchors, verify
from .._x509.encoding.go_parser import AUTHORITY_KEY_ID, SUBJECT_KEY_ID

#: How long a certificate of the outgoing CA proves that the signers did not switch with the API server. They may have switched since,
#: without a new certificate that shows it.
PROVES_FOR = timedelta(days=7)
#: The cluster deletes an issued request after an hour (k/k pkg/controller/certificates/cleaner). A CA that the cluster does not publish
#: signs only if a certificate is that young.
REQUESTS_STAY_FOR = timedelta(hours=1)


#: The states of a rotation, and of a cluster without one. UNKNOWN if no published CA is known to be in use.
NO_SUCCESSOR, BEFORE, DURING, AFTER = "no-successor", "before-switch", "during-switch", "after-switch"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ClusterCa:
    """One CA of a cluster: a root, its twins that other CAs signed, and the intermediates below it."""

    certificates: tuple[CertificateFacts, ...]
    #: False if the cluster no longer publishes it.
    is_published: bool = True
    #: The fingerprints of the certificates above it that are above other CAs of the cluster too, such as the root of a company.
    above: frozenset[str] = frozenset()

    @functools.cached_property
    def pem(self) -> str:
        return "".join(entry.pem for entry in self.certificates)

    @functools.cached_property
    def fingerprints(self) -> frozenset[str]:
        """Return the SHA-256 of each certificate that no other CA of the cluster has, lowercase hex."""
        return frozenset(entry.fingerprint for entry in self.certificates) - self.above

    @functools.cached_property
    def begin(self) -> datetime:
        """Return the time from which on its youngest certificate is valid. A successor may be below a root that is older."""
        return max(entry.not_before for entry in self.certificates if entry.fingerprint in self.fingerprints)

    @functools.cached_property
    def subjects(self) -> frozenset[bytes]:
        return frozenset(entry.encoded_subject for entry in self.certificates)

    def __str__(self) -> str:
        facts = self.certificates[0]
        return (
            f"{facts.subject}, SHA-256 {facts.fingerprint}, "
            f"valid from {format_time(facts.not_before)} to {format_time(facts.not_after)}"
        )

    def is_in(self, bundle_pem: str) -> bool:
        """Return True if a bundle has one of its certificates. A twin of its root verifies what the root verifies."""
        return not self.fingerprints.isdisjoint(prints_of(bundle_pem))


@dataclass(frozen=True)
class ClusterCas:
    """The CAs of a cluster that replace each other, the one that is valid first before the others."""

    cas: tuple[ClusterCa, ...]
    #: The CA of the certificate that the API server serves.
    api_server: ClusterCa
    #: The CA that issued the newest certificate of a signer, None if no such certificate was seen.
    signer: ClusterCa | None = None
    #: The name of that certificate.
    newest: str = ""
    #: Address of an API server -> the CA of its certificate, None if it was not reached or if another CA signed it.
    servers: Mapping[str, ClusterCa | None] = field(default_factory=dict)

    @property
    def signs(self) -> ClusterCa:
        """Return the CA that signs. Without a certificate of a signer, it is that of the API server."""
        return self.signer or self.api_server

    @functools.cached_property
    def in_use(self) -> tuple[ClusterCa, ...]:
        """Return the CAs that sign or serve the API, in their order."""
        used = (self.signs, self.api_server, *self.servers.values())
        return tuple(ca for ca in self.cas if any(ca is entry for entry in used))

    @functools.cached_property
    def needed(self) -> tuple[ClusterCa, ...]:
        """Return the CAs that a caBundle needs: each one that is in use, and each one that is published and younger."""
        return self._from(self.in_use[0])

    @property
    def successors(self) -> tuple[ClusterCa, ...]:
        """Return the CAs after the oldest one in use."""
        return self.needed[1:]

    @functools.cached_property
    def superseded(self) -> tuple[ClusterCa, ...]:
        """Return the published CAs that are older than each CA in use."""
        return tuple(ca for ca in self.cas[: self.cas.index(self.in_use[0])] if ca.is_published)

    @property
    def outgoing(self) -> tuple[ClusterCa, ...]:
        """Return the CAs that the successors replace: those that are superseded. Before the switch, it is the oldest one in use."""
        return self.superseded or (self.in_use[:1] if self.successors else ())

    @functools.cached_property
    def gone(self) -> tuple[ClusterCa, ...]:
        """Return the CAs that are neither published nor in use."""
        return tuple(ca for ca in self.cas if not (ca.is_published or ca in self.in_use))

    @property
    def is_rotating(self) -> bool:
        """Return True if there are more CAs than one that are published or in use."""
        return len(self.cas) - len(self.gone) > 1

    @property
    def state(self) -> str:
        """Return NO_SUCCESSOR, BEFORE, DURING or AFTER."""
        if not self.is_rotating:
            return NO_SUCCESSOR
        if len(self.in_use) > 1:
            return DURING
        return AFTER if self.superseded else BEFORE

    @property
    def late_servers(self) -> tuple[str, ...]:
        """Return the addresses of the API servers whose CA is older than another one in use."""
        return tuple(address for address, ca in self.servers.items() if ca not in (None, self.in_use[-1]))

    def missing_in(self, bundle_pem: str) -> tuple[ClusterCa, ...]:
        """Return the CAs that a caBundle needs and lacks."""
        return self._missing(self.needed, bundle_pem)

    def missing_in_kubeconfig(self, bundle_pem: str) -> tuple[ClusterCa, ...]:
        """Return the CAs that a kubeconfig needs and lacks. The CA of the signers does not count."""
        oldest = next(ca for ca in self.cas if ca in (self.api_server, *self.servers.values()))
        return self._missing(self._from(oldest), bundle_pem)

    def _missing(self, needed: Iterable[ClusterCa], bundle_pem: str) -> tuple[ClusterCa, ...]:
        # A bundle with the root alone verifies each intermediate that a server sends.
        roots = frozenset[str]() if self.has_any_in(bundle_pem) else prints_of(bundle_pem)
        return tuple(ca for ca in needed if not ca.is_in(bundle_pem) and ca.above.isdisjoint(roots))

    def _from(self, oldest: ClusterCa) -> tuple[ClusterCa, ...]:
        return tuple(ca for ca in self.cas[self.cas.index(oldest) :] if ca.is_published or ca in self.in_use)

    def has_any_in(self, bundle_pem: str) -> bool:
        """Return True if a bundle has one of the CAs."""
        return any(ca.is_in(bundle_pem) for ca in self.cas)

    def is_outdated(self, leaf: CertificateFacts, sent: Sequence[CertificateFacts] = ()) -> bool:
        """Return True if a CA that is older than the one that signs now signed a leaf."""
        signer = signer_of(self.cas, leaf, sent)
        return signer is not None and self.cas.index(signer) < self.cas.index(self.signs)


def prints_of(bundle_pem: str) -> frozenset[str]:
    """Return the fingerprints of the certificates of a bundle that Go parses."""
    return frozenset(entry.fingerprint for entry in anchors(bundle_pem))


def published_cas(*bundles_pem: str, is_published: bool = True) -> tuple[ClusterCa, ...]:
    """Return the CAs of bundles, the one that is valid first before the others. Certificates that cannot be parsed are left out."""
    by_key: dict[str, dict[str, CertificateFacts]] = {}
    for certificate in certificate_facts.load_readable("\n".join(bundles_pem)):
        by_key.setdefault(certificate.public_key_sha256, {})[certificate.fingerprint] = certificate
    groups = {key: tuple(group.values()) for key, group in by_key.items()}
    index = IssuerIndex(entry for group in groups.values() for entry in group)
    signers = {
        key: [signer for entry in group for signer in index.issuers(entry)] for key, group in groups.items()
    }
    # The key of each group -> the key of the root that it belongs to. Groups below no root are roots too.
    root_of = {key: key for key in groups if key in signers[key]}
    for key in groups:
        if key not in root_of:
            root_of[key] = next((root_of[signer] for signer in signers[key] if signer in root_of), key)
    families: dict[str, list[str]] = {}
    for key, root in sorted(root_of.items(), key=lambda pair: pair[0] != pair[1]):  # roots first
        families.setdefault(root, []).append(key)
    cas = (ca for keys in families.values() for ca in _below_root(keys, groups, signers))
    return tuple(sorted((replace(ca, is_published=is_published) for ca in cas), key=lambda ca: ca.begin))


def _below_root(
    keys: Sequence[str],
    groups: Mapping[str, tuple[CertificateFacts, ...]],
    signers: Mapping[str, Sequence[str]],
) -> Iterator[ClusterCa]:
    """Yield the CA of a root, or one CA for each intermediate that signs, because such intermediates replace each other."""
    issuers = {signer for key in keys for signer in signers[key] if signer != key}
    last = [key for key in keys if key not in issuers]
    if len(last) < 2:
        yield ClusterCa(tuple(entry for key in keys for entry in groups[key]))
        return
    shared = [entry for key in keys if key in issuers for entry in groups[key]]
    above = frozenset(entry.fingerprint for entry in shared)
    for key in last:
        yield ClusterCa((*groups[key], *shared), above=above)


def with_gone(published: Sequence[ClusterCa], bundle_pem: str) -> tuple[ClusterCa, ...]:
    """Return the CAs together with those that a bundle still has, and that a published CA has replaced."""
    # The other certificates of a CA with its root are twins of this root, or below it.
    rooted = [ca for ca in published if any(entry.encoded_issuer in ca.subjects for entry in ca.certificates)]
    names = {subject for ca in published for subject in ca.subjects}
    names.update(entry.encoded_issuer for ca in rooted for entry in ca.certificates)
    gone = (ca for ca in _unpublished(published, bundle_pem) if not names.isdisjoint(ca.subjects))
    return tuple(sorted((*published, *gone), key=lambda ca: ca.begin))


def unrelated_cas(published: Sequence[ClusterCa], bundle_pem: str) -> list[ClusterCa]:
    """Return the CAs of a bundle that are not published, and no twin of which a published CA signed."""
    index = IssuerIndex(entry for ca in published for entry in ca.certificates)
    return [
        ca
        for ca in _unpublished(published, bundle_pem)
        if not any(True for entry in ca.certificates for _key in index.issuers(entry))
    ]


def _unpublished(published: Sequence[ClusterCa], bundle_pem: str) -> Iterator[ClusterCa]:
    """Yield the CAs of a bundle no key of which is one of a published CA."""
    keys = {_key_of(entry) for ca in published for entry in ca.certificates}
    yield from (
        ca
        for ca in published_cas(bundle_pem, is_published=False)
        if keys.isdisjoint(map(_key_of, ca.certificates))
    )


def signing_keys(bundle_pem: str) -> frozenset[str]:
    """Return the SHA-256 of the public key of each CA in a bundle that signed no other CA in it, lowercase hex."""
    certificates = [*certificate_facts.load_readable(bundle_pem)]
    index = IssuerIndex(certificates)
    keys: dict[str, set[str]] = {}
    for entry in certificates:  # twins have one key, and different issuers
        keys.setdefault(_key_of(entry), set()).update(index.issuers(entry))
    return frozenset(keys).difference(*(issuers - {key} for key, issuers in keys.items()))


def _key_of(certificate: CertificateFacts) -> str:
    return certificate.public_key_sha256


def signer_of(
    cas: Sequence[ClusterCa], leaf: CertificateFacts, sent: Sequence[CertificateFacts] = ()
) -> ClusterCa | None:
    """Return the CA that signed a leaf, None if no CA did.

    A CA that signed the leaf itself comes before CAs that the chain leads to. The twin of a new root leads to the old one too.
    """
    bundle = "".join(ca.pem for ca in cas)
    for intermediates in ((), sent):
        found = frozenset(_anchors_of(leaf, bundle, intermediates))
        signers = [ca for ca in cas if not found.isdisjoint(ca.fingerprints)]
        if signers:
            return signers[-1]
    return None


def _anchors_of(leaf: CertificateFacts, bundle_pem: str, sent: Sequence[CertificateFacts]) -> Sequence[str]:
    """Return the fingerprints of the CAs that verify a leaf at the start of its lifetime. Dates of the CAs do not count."""
    ageless = frozenset(entry.fingerprint for entry in anchors(bundle_pem))
    verdict = verify(
        leaf,
        bundle_pem,
        name=None,
        intermediates=sent,
        now=leaf.not_before,
        usage="any",
        ageless=ageless,
    )
    return verdict.anchors if verdict.ok else ()


def find_cas(
    cas: Sequence[ClusterCa],
    api_server_pem: str,
    issued: Mapping[str, str] | None = None,
    *,
    now: datetime,
    has_changed: bool = True,
    named: str = "",
) -> ClusterCas | None:
    """Return the CAs that replace each other, None if no CA is known to be in use.

    cas: as published_cas returns them. CAs that are gone may be among them.
    api_server_pem: the chain that the API server serves, leaf first.
    issued: names of certificates that may be of signers of the cluster -> the chain, leaf first. The youngest one that a CA of the
        cluster signed tells which CA signs.
    has_changed: False if the cluster published the same CAs from its beginning.
    named: the successor that the user names, as PEM text.
    """
    if not api_server_pem:
        return None
    leaf, sent = certificate_facts.load_leaf_and_chain(api_server_pem)
    api_server = signer_of(cas, leaf, sent)
    if api_server is None:
        return None
    chains = {name: certificate_facts.load_leaf_and_chain(pem) for name, pem in (issued or {}).items()}
    published = [ca for ca in cas if ca.is_published]
    # A cluster such as OpenShift publishes CAs of several purposes. They do not replace each other.
    line = published if len(published) <= 2 and has_changed else [ca for ca in published if ca.is_in(named)]
    line = _replacing(cas, [api_server, *(ca for ca in line if ca is not api_server)])
    found = ClusterCas(tuple(line), api_server)
    for name in sorted(chains, key=lambda name: chains[name][0].not_before, reverse=True):
        signer = signer_of(line, *chains[name])
        age = now - chains[name][0].not_before
        if signer is None or (age > REQUESTS_STAY_FOR and not signer.is_published):
            continue
        # A certificate of the time before the switch of the API server does not tell which CA the signers use since then. Nor does
        # one that is older still, even of the successor: a signer went back to the outgoing CA after it.
        is_old = chains[name][0].not_before < max(leaf.not_before, now - PROVES_FOR)
        is_older = line.index(signer) < line.index(api_server)
        return found if is_old and is_older else replace(found, signer=signer, newest=name)
    return found


def _replacing(cas: Sequence[ClusterCa], line: Sequence[ClusterCa]) -> list[ClusterCa]:
    """Return the CAs of a line, and those that they replace or that replace them, in the order of `cas`.

    Two CAs are related if they have one subject, or if one signed a twin of the other.
    """
    index = IssuerIndex(entry for ca in cas for entry in ca.certificates)
    labels = {ca: _labels(ca, index) for ca in cas}
    known = frozenset[object]().union(*(labels[ca] for ca in line))
    while True:
        related = [ca for ca in cas if not known.isdisjoint(labels[ca])]
        grown = known.union(*(labels[ca] for ca in related))
        if grown == known:
            return related
        known = grown


def _labels(ca: ClusterCa, index: IssuerIndex) -> frozenset[object]:
    """Return the subjects and keys of a CA, and the keys that signed it."""
    return frozenset(
        label
        for entry in ca.certificates
        for label in (entry.encoded_subject, entry.public_key_sha256, *index.issuers(entry))
    )


def is_refused_by_openssl(leaf: CertificateFacts, bundle_pem: str) -> bool:
    """Return True if OpenSSL tries a wrong CA for a leaf although the bundle has the right one.

    OpenSSL takes the first CA with the name of the issuer and, if both certificates have one, with the key identifier
    (X509_check_issued).
    """
    wanted = leaf.extensions.get(AUTHORITY_KEY_ID)
    signs = [
        is_signed_by(leaf, entry)
        for entry in certificate_facts.load_readable(bundle_pem)
        if entry.encoded_subject == leaf.encoded_issuer
        and (not wanted or entry.extensions.get(SUBJECT_KEY_ID) in (wanted, None))
    ]
    return any(signs) and not signs[0]


@dataclass(frozen=True)
class EksCa:
    """One CA (https://docs.aws.amazon.com/eks/latest/APIReference/API_CertificateAuthority.html)."""

    #: SHA-256 of the certificate, lowercase hex.
    fingerprint: str
    #: When EKS activates it by itself, at the earliest and at the latest. None if that is not known.
    first_activation: datetime | None = None
    final_activation: datetime | None = None
    has_rollback: bool = False
    #: True if it signs.
    is_in_use: bool = False


def parse_eks_cas(output: Mapping[str, Any]) -> Iterator[EksCa]:
    """Yield the CAs with a certificate.

    output: of `aws eks describe-certificate-authority`, or such outputs in a list with the key certificateAuthorities. The entries of
        `aws eks list-certificate-authorities` have no certificate and no dates, so they say nothing.
    """
    listed = output.get("certificateAuthorities")
    for entry in (output, *(listed if isinstance(listed, list) else ())):
        ca = entry.get("certificateAuthority", entry) if isinstance(entry, Mapping) else None
        pem = certificate_facts.decoded_certificate(ca.get("data")) if isinstance(ca, Mapping) else ""
        if pem and isinstance(ca, Mapping):
            events = ca.get("scheduledEvents")
            dates = events if isinstance(events, Mapping) else {}
            yield EksCa(
                certificate_facts.describe_pem(pem).fingerprint,
                _eks_time(dates.get("firstAutoActivation")),
                _eks_time(dates.get("finalAutoActivation")),
                ca.get("rollbackAvailable") is True,
                ca.get("signingStatus") == "IN_USE",
            )


def find_successor(known: Iterable[EksCa], cas: ClusterCas, now: datetime) -> EksCa | None:
    """Return the youngest CA as EKS describes it, None if it is not described, or if the cluster shows that the dates are old."""
    youngest = cas.cas[-1]
    for ca in known:
        if ca.fingerprint in youngest.fingerprints:
            is_old = ca.first_activation and ca.first_activation <= now and cas.signs is not youngest
            return None if is_old else ca
    return None


def _eks_time(value: object) -> datetime | None:
    """Return a time as RFC 3339, as seconds since 1970, which version 1 of the aws CLI prints, or as YAML reads it (UTC without a zone)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(value, timezone.utc)
    return find_time(value)
