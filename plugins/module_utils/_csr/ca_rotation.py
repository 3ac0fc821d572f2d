# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Describe the rotation of the CA of a cluster: which CA is outgoing, which is its successor, and which of them signs. Pure.

Several CAs may have one subject, so no rule recognises a CA by its name. The CA in use verifies the certificate that the API
server serves, or one that a signer of the cluster issued. A younger CA that replaces it is the successor. Older ones are
outgoing. A CA replaces another CA if both have the same subject, or if one of them signed a twin of the other.

Two shapes exist. Amazon EKS, kubeadm and Gardener publish the successor first. k3s and RKE2 publish it and switch to it at one
restart, as an intermediate, a root, and a twin of this root that the outgoing CA signed. The aws CLI shows when Amazon EKS switches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .._base.times import find_time, format_time
from .._x509 import certificate_facts
from .._x509.issuer_index import IssuerIndex, is_signed_by
from .._x509.verify import anchors, verify

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

with contextlib.suppress(ImportError):  # reported by _ansible, with the interpreter's path
    from cryptography import x509


#: How long a certificate of the outgoing CA proves that the signers did not switch with the API server. They may have switched since,
#: without a new certificate that shows it.
PROVES_FOR = timedelta(days=7)


@dataclass(frozen=True)
class ClusterCa:
    """One CA that a cluster publishes: a root, its twins that other CAs signed, and the intermediates below it."""

    certificates: tuple[Certificate, ...]

    @property
    def pem(self) -> str:
        return "".join(map(certificate_facts.to_pem, self.certificates))

    @property
    def fingerprints(self) -> frozenset[str]:
        """Return the SHA-256 of each certificate, lowercase hex."""
        return frozenset(map(certificate_facts.fingerprint, self.certificates))

    @property
    def begin(self) -> datetime:
        """Return the time from which on its youngest certificate is valid. A successor may be below a root that is older."""
        return max(entry.not_valid_before_utc for entry in self.certificates)

    def __str__(self) -> str:
        facts = certificate_facts.describe(self.certificates[0])
        return (
            f"{facts.subject}, SHA-256 {facts.fingerprint}, "
            f"valid from {format_time(facts.not_before)} to {format_time(facts.not_after)}"
        )

    def is_in(self, bundle_pem: str) -> bool:
        """Return True if a bundle has one of its certificates. A twin of its root verifies what the root verifies."""
        return any(entry.fingerprint in self.fingerprints for entry in anchors(bundle_pem))


@dataclass(frozen=True)
class CaRotation:
    """A rotation that has begun: the cluster publishes more than one CA, and one of them is in use."""

    outgoing: tuple[ClusterCa, ...]
    successor: ClusterCa
    #: The CA of the certificate that the API server serves.
    api_server: ClusterCa
    #: The CA that issued the newest certificate of a signer, None if no such certificate was seen.
    signer: ClusterCa | None = None
    #: The name of that certificate.
    newest: str = ""

    @property
    def cas(self) -> tuple[ClusterCa, ...]:
        """Return every CA of the rotation, the successor last."""
        return (*self.outgoing, self.successor)

    @property
    def is_switched(self) -> bool:
        """Return True if the successor signs. Without a certificate of a signer, that of the API server counts."""
        return (self.signer or self.api_server) is self.successor

    @property
    def may_break_clients(self) -> bool:
        """Return True if the API server serves a certificate of the successor."""
        return self.api_server is self.successor

    def has_outgoing_in(self, bundle_pem: str) -> bool:
        """Return True if a bundle has an outgoing CA."""
        return any(ca.is_in(bundle_pem) for ca in self.outgoing)

    def outgoing_of(self, leaf: Certificate, sent: Sequence[Certificate] = ()) -> ClusterCa | None:
        """Return the outgoing CA that signed a leaf, None if another CA did."""
        signer = signer_of(self.cas, leaf, sent)
        return None if signer is self.successor else signer


def published_cas(*bundles_pem: str) -> tuple[ClusterCa, ...]:
    """Return the CAs of bundles, the one that is valid first before the others. Certificates that cannot be parsed are left out."""
    by_key: dict[str, dict[str, Certificate]] = {}
    for certificate in certificate_facts.load_readable("\n".join(bundles_pem)):
        facts = certificate_facts.describe(certificate)
        by_key.setdefault(facts.public_key_sha256, {})[facts.fingerprint] = certificate
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
    members: dict[str, tuple[Certificate, ...]] = dict.fromkeys(root_of.values(), ())
    for key, root in sorted(root_of.items(), key=lambda pair: pair[0] != pair[1]):  # roots first
        members[root] += groups[key]
    return tuple(sorted(map(ClusterCa, members.values()), key=lambda ca: ca.begin))


def signer_of(
    cas: Iterable[ClusterCa], leaf: Certificate, sent: Sequence[Certificate] = ()
) -> ClusterCa | None:
    """Return the CA that signed a leaf, None if no CA did.

    A CA that signed the leaf itself comes before CAs that the chain leads to. The twin of a new root leads to the old one too.
    """
    known = tuple(cas)
    bundle = "".join(ca.pem for ca in known)
    for intermediates in ((), sent):
        found = frozenset(_anchors_of(leaf, bundle, intermediates))
        signers = [ca for ca in known if not found.isdisjoint(ca.fingerprints)]
        if signers:
            return signers[-1]
    return None


def _anchors_of(leaf: Certificate, bundle_pem: str, sent: Sequence[Certificate]) -> Sequence[str]:
    """Return the fingerprints of the CAs that verify a leaf at the start of its lifetime. Dates of the CAs do not count."""
    ageless = frozenset(entry.fingerprint for entry in anchors(bundle_pem))
    verdict = verify(
        leaf,
        bundle_pem,
        name=None,
        intermediates=sent,
        now=leaf.not_valid_before_utc,
        usage="any",
        ageless=ageless,
    )
    return verdict.anchors if verdict.ok else ()


def find_rotation(
    cas: Sequence[ClusterCa],
    api_server_pem: str,
    issued: Mapping[str, str] | None = None,
    *,
    now: datetime,
    has_changed: bool = True,
    named: str = "",
) -> CaRotation | None:
    """Return the rotation that the CAs show, None if the cluster has one CA, or if no CA is known to be in use.

    cas: as published_cas returns them.
    api_server_pem: the chain that the API server serves, leaf first.
    issued: names of certificates that may be of signers of the cluster -> the chain, leaf first. The youngest one that a CA of the
        cluster signed tells which CA signs.
    has_changed: False if the cluster published the same CAs from its beginning.
    named: the successor that the user names, as PEM text.
    """
    if len(cas) < 2 or not api_server_pem:
        return None
    leaf, sent = certificate_facts.load_leaf_and_chain(api_server_pem)
    api_server = signer_of(cas, leaf, sent)
    if api_server is None:
        return None
    if len(cas) > 2 or not has_changed:  # OpenShift publishes CAs of several purposes
        cas = _replacing(cas, [api_server, *(ca for ca in cas if ca.is_in(named) and ca is not api_server)])
    if len(cas) < 2:
        return None
    chains = {name: certificate_facts.load_leaf_and_chain(pem) for name, pem in (issued or {}).items()}
    for name in sorted(chains, key=lambda name: chains[name][0].not_valid_before_utc, reverse=True):
        signer = signer_of(cas, *chains[name])
        if signer is None:
            continue
        # A certificate of the time before the switch of the API server does not tell which CA the signers use since then. Nor does
        # one that is older still, even of the successor: a signer went back to the outgoing CA after it.
        is_old = chains[name][0].not_valid_before_utc < max(leaf.not_valid_before_utc, now - PROVES_FOR)
        if is_old and signer is not api_server is cas[-1]:
            break
        return CaRotation(tuple(cas[:-1]), cas[-1], api_server, signer, name)
    return CaRotation(tuple(cas[:-1]), cas[-1], api_server)


def _replacing(cas: Sequence[ClusterCa], line: Sequence[ClusterCa]) -> list[ClusterCa]:
    """Return the CAs of a line, and those that they replace or that replace them, in the order of `cas`.

    Two CAs are related if they have one subject, or if one signed a twin of the other.
    """
    index = IssuerIndex(entry for ca in cas for entry in ca.certificates)
    labels = [set(_labels(ca, index)) for ca in cas]
    members: dict[object, list[int]] = {}
    for place, own in enumerate(labels):
        for label in own:
            members.setdefault(label, []).append(place)
    todo = [place for place, ca in enumerate(cas) if any(ca is entry for entry in line)]
    known = set(todo)
    while todo:
        for label in labels[todo.pop()]:
            todo += (related := set(members.pop(label, ())) - known)
            known |= related
    return [cas[place] for place in sorted(known)]


def _labels(ca: ClusterCa, index: IssuerIndex) -> Iterator[object]:
    for entry in ca.certificates:
        yield entry.subject
        yield certificate_facts.describe(entry).public_key_sha256
        yield from index.issuers(entry)


def is_refused_by_openssl(leaf: Certificate, bundle_pem: str) -> bool:
    """Return True if OpenSSL tries a wrong CA for a leaf although the bundle has the right one.

    OpenSSL takes the first CA with the name of the issuer and, if both certificates have one, with the key identifier
    (X509_check_issued).
    """
    wanted = _key_identifier(leaf, x509.AuthorityKeyIdentifier)
    signs = [
        is_signed_by(leaf, entry)
        for entry in certificate_facts.load_readable(bundle_pem)
        if entry.subject == leaf.issuer
        and (not wanted or _key_identifier(entry, x509.SubjectKeyIdentifier) in (wanted, None))
    ]
    return any(signs) and not signs[0]


def _key_identifier(certificate: Certificate, kind: type[x509.ExtensionType]) -> bytes | None:
    try:
        value: Any = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    identifier: bytes | None = value.key_identifier
    return identifier


@dataclass(frozen=True)
class EksCa:
    """One CA (https://docs.aws.amazon.com/eks/latest/APIReference/API_CertificateAuthority.html)."""

    #: SHA-256 of the certificate, lowercase hex.
    fingerprint: str
    #: When EKS activates it by itself, at the earliest and at the latest. None if that is not known.
    first_activation: datetime | None = None
    final_activation: datetime | None = None
    has_rollback: bool = False


def parse_eks_cas(output: Mapping[str, Any]) -> tuple[EksCa, ...]:
    """Return the CAs with a certificate.

    output: of `aws eks describe-certificate-authority`, or such outputs in a list with the key certificateAuthorities. The entries of
        `aws eks list-certificate-authorities` have no certificate and no dates, so they say nothing.
    """
    return tuple(_parsed_eks_cas(output))


def _parsed_eks_cas(output: Mapping[str, Any]) -> Iterator[EksCa]:
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
            )


def find_successor(known: Iterable[EksCa], rotation: CaRotation, now: datetime) -> EksCa | None:
    """Return the successor as EKS describes it, None if it is not described, or if the cluster shows that the dates are old."""
    for ca in known:
        if ca.fingerprint in rotation.successor.fingerprints:
            is_old = ca.first_activation and ca.first_activation <= now and not rotation.is_switched
            return None if is_old else ca
    return None


def _eks_time(value: object) -> datetime | None:
    """Return a time as RFC 3339, as seconds since 1970, which version 1 of the aws CLI prints, or as YAML reads it (UTC without a zone)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, timezone.utc)
        except (OverflowError, ValueError, OSError):
            return None
    return find_time(value)
