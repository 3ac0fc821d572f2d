# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Verify a certificate as the API server does, which is a TLS client in Go. Its rules differ from OpenSSL's.

Go accepts any certificate of a bundle as an anchor: a leaf, an intermediate, a CA without keyUsage. It skips certificates that
it cannot parse, compares issuers by encoded name and signature, and stops after 100 signature checks. The rules, their order
and their messages are those of Certificate.Verify in Go 1.26 crypto/x509. Mappings of certificate policies are not followed.

Other rooms call only this file and chain_judge. The files signatures, name_constraints and certificate_policies are parts of it.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from ..._base.times import format_time
from .. import certificate_facts
from ..certificate_facts import CertificateFacts
from ..encoding import go_parser
from ..errors import UnreadCertificate
from . import certificate_policies, name_constraints, signatures

Chain = tuple[CertificateFacts, ...]

# The fault of a verdict, an id of _webhook.calls.call_faults -> Go's message.
REASONS: dict[str, str] = {
    "ok": "",
    "bundle-broken": "unable to load root certificates: no valid certificate authority data seen",
    "critical-extension": "unhandled critical extension",
    "expired": "certificate has expired or is not yet valid: current time {} is {} {}",
    "name-mismatch": "{}",
    "ca-mismatch": "certificate signed by unknown authority{}",
    "not-a-ca": "certificate is not authorized to sign other certificates",
    "path-too-long": "too many intermediates for path length constraint",
    "too-many-cas": "signature check attempts limit reached while verifying certificate chain",
    "wrong-usage": "certificate specifies an incompatible key usage",
    "certificate-unread": "{}",
    "policy-refused": "no valid chains built: {} candidate chains with invalid policies",
    "name-constraint": "a root or intermediate certificate is not authorized to sign for this name: {}",
    "unsupported-key": "server's certificate contains an unsupported type of public key",
}

MOST_SIGNATURE_CHECKS = 100  # Go: maxChainSignatureChecks


@dataclass(frozen=True)
class Verdict:
    """The result of a verification."""

    ok: bool
    #: A key of REASONS.
    code: str
    #: Go's message without "x509: ".
    reason: str
    #: Fingerprints (SHA-256, hex) of the anchors of all valid chains. If the bundle contains the leaf, only the leaf's fingerprint.
    anchors: tuple[str, ...]
    #: The certificate that the refusal is about, None without one. For an unknown authority, the one whose issuer is missing.
    culprit: CertificateFacts | None = None
    #: The certificates whose dates alone refused them. Each blocked one chain.
    untimely: tuple[CertificateFacts, ...] = ()


class _Refusal(NamedTuple):
    code: str
    reason: str
    culprit: CertificateFacts | None = None


def verify(
    leaf: CertificateFacts,
    bundle_pem: str,
    *,
    name: str | None,
    intermediates: Sequence[CertificateFacts] = (),
    now: datetime,
    usage: str = "server auth",
    ageless: Collection[str] = (),
) -> Verdict:
    """Verify a leaf against a bundle. The content of the certificates does not raise errors.

    bundle_pem: the anchors. An empty bundle is refused. Callers handle the case that it means the system's roots.
    name: the host name or address to which the client connects. None skips the check.
    intermediates: the certificates that the server sends after the leaf.
    now: an aware time.
    usage: an extended usage in the words of the Kubernetes CSR API. "any" skips the check.
    ageless: fingerprints of certificates whose dates do not count.
    """
    roots = _roots(bundle_pem)
    if not roots.members:
        return _refused(_refusal("bundle-broken"))
    search = _Search(roots, _Pool(intermediates), now, ageless)
    refusal = search.validity_refusal(leaf, ()) or _name_refusal(leaf, name)
    if refusal:
        return _refused(refusal, search.untimely.values())
    if leaf.fingerprint in roots.members:
        chains: list[Chain] = [(leaf,)]
    else:
        chains, refusal = search.chains((leaf,))
    verdict = _refused(refusal, search.untimely.values()) if refusal else _judge(chains, usage)
    if not verdict.ok and search.met_unread and _allows((leaf,), usage):  # another chain may be valid
        return _refused(_refusal("certificate-unread", search.met_unread))
    return verdict


def anchors(bundle_pem: str) -> tuple[CertificateFacts, ...]:
    """Return the certificates of a bundle that Go parses, each once."""
    return _roots(bundle_pem).everyone


def find_anchor(bundle_pem: str, fingerprint: str) -> CertificateFacts | None:
    """Return the certificate of a bundle with a fingerprint, None without one."""
    return _roots(bundle_pem).members.get(fingerprint)


def possible_issuers(certificate: CertificateFacts, bundle_pem: str) -> Iterator[CertificateFacts]:
    """Yield the certificates of a bundle whose signature Go checks as that of the issuer."""
    return itertools.islice(_roots(bundle_pem).parents(certificate), MOST_SIGNATURE_CHECKS)


def weak_signature(certificate: CertificateFacts) -> str:
    """Return the name of the certificate's signature algorithm if Go refuses it, such as "SHA1-RSA", and "" otherwise."""
    algorithm = signatures.algorithm_of(certificate)
    return algorithm.name if algorithm and not algorithm.is_secure else ""


def weak_key(certificate: CertificateFacts) -> str:
    """Return Go's reason why it verifies nothing with an RSA key, "" if it does, and "" for another key."""
    return signatures.rsa_problem(*certificate.key) if certificate.rsa_bits else ""


def _judge(chains: Sequence[Chain], usage: str) -> Verdict:
    """Keep the chains that usage and name constraints allow. A name constraint is reported before a usage."""
    usable = [chain for chain in chains if _allows(chain, usage)]
    problems = [name_constraints.refusal(chain) for chain in usable]
    if not usable:
        return _refused(_refusal("wrong-usage"))
    permitted = [chain for chain, problem in zip(usable, problems) if not problem]
    if not permitted:
        culprit = _first_refused(usable[0])
        return _refused(_refusal("name-constraint", problems[0], culprit=culprit))
    trusted = [chain for chain in permitted if certificate_policies.are_valid(chain)]
    if not trusted:
        return _refused(_refusal("policy-refused", str(len(permitted))))
    if trusted[0][0].key_algorithm not in signatures.KEY_KINDS:
        return _refused(_refusal("unsupported-key"))
    used_anchors = tuple(dict.fromkeys(chain[-1].fingerprint for chain in trusted))
    return Verdict(True, "ok", REASONS["ok"], used_anchors)


def _first_refused(chain: Chain) -> CertificateFacts:
    """Return the certificate of a refused chain whose name constraints refuse it, seen from the leaf."""
    return next(member for size, member in enumerate(chain, 1) if name_constraints.refusal(chain[:size]))


def _refusal(code: str, *details: str, culprit: CertificateFacts | None = None) -> _Refusal:
    return _Refusal(code, REASONS[code].format(*details), culprit)


def _refused(refusal: _Refusal, untimely: Iterable[CertificateFacts] = ()) -> Verdict:
    return Verdict(False, refusal.code, refusal.reason, (), refusal.culprit, tuple(untimely))


@functools.lru_cache(maxsize=64)  # a judge verifies one chain with one bundle at many times
def _roots(bundle_pem: str) -> _Pool:
    return _Pool(certificate_facts.load_readable(bundle_pem))


class _Pool:
    """A set of certificates, with an index by encoded subject and key identifier."""

    def __init__(self, certificates: Iterable[CertificateFacts]) -> None:
        self.members = {certificate.fingerprint: certificate for certificate in certificates}
        self.everyone = tuple(self.members.values())
        self.keys = frozenset((certificate.key_algorithm, certificate.key) for certificate in self.everyone)
        #: Subject -> its certificates. Subject and key identifier, b"" without one -> the same.
        self._by_subject: dict[Any, list[CertificateFacts]] = {}
        for certificate in self.everyone:
            subject = certificate.encoded_subject
            for key in (subject, (subject, _key_id(certificate))):
                self._by_subject.setdefault(key, []).append(certificate)

    def parents(self, child: CertificateFacts) -> Iterator[CertificateFacts]:
        """Yield the possible issuers of the child. Equal key identifiers come first, then unknown and different ones.

        The search ends long before the last one of many, so nothing is sorted here.
        """
        issuer = child.encoded_issuer
        first = dict.fromkeys((child.extensions.get(go_parser.AUTHORITY_KEY_ID) or b"", b""))
        for key_id in first:
            yield from self._by_subject.get((issuer, key_id), ())
        yield from (parent for parent in self._by_subject.get(issuer, ()) if _key_id(parent) not in first)


def _key_id(certificate: CertificateFacts) -> bytes:
    return certificate.extensions.get(go_parser.SUBJECT_KEY_ID) or b""


@dataclass
class _Search:
    """A search for every chain from a leaf to an anchor, with a limit for its signature checks."""

    roots: _Pool
    sent: _Pool
    now: datetime
    ageless: Collection[str] = ()
    checks: int = field(default=0)
    #: Fingerprint -> a certificate that only its dates refused.
    untimely: dict[str, CertificateFacts] = field(default_factory=dict)
    #: Why the signature of a possible issuer was not checked, "" without one.
    met_unread: str = ""

    def chains(self, chain: Chain) -> tuple[list[Chain], _Refusal | None]:
        """Return the complete chains that begin with this one. If no chain is complete, return the reason."""
        complete: list[Chain] = []
        last: _Refusal | None = None
        hint = ""
        pools = ((self.roots, True), (self.sent, False))
        for parent, is_root in (
            (parent, known) for pool, known in pools for parent in pool.parents(chain[-1])
        ):
            self.checks += 1
            if self.checks > MOST_SIGNATURE_CHECKS:
                last = _refusal("too-many-cas")
                break
            is_known = parent.key_algorithm in go_parser.KEYS
            if not is_known or any(_is_same_entity(parent, member) for member in chain):
                continue
            try:
                problem = signatures.find_problem(chain[-1], parent, self.roots.keys)
            except UnreadCertificate as unread:
                self.met_unread = unread.cause
                continue
            if not problem:
                last = self.validity_refusal(parent, chain, is_root=is_root)
                problem = f"x509: {last.reason}" if last else ""
            if problem:
                hint = hint or _hint(problem, parent)
            elif is_root:
                complete.append((*chain, parent))
            else:
                deeper, last = self.chains((*chain, parent))
                complete += deeper
        return complete, None if complete else last or _refusal("ca-mismatch", hint, culprit=chain[-1])

    def validity_refusal(
        self, candidate: CertificateFacts, chain: Chain, *, is_root: bool = True
    ) -> _Refusal | None:
        """Return why the certificate cannot be the next member of the chain, None if it can. The leaf is the first member."""
        if candidate.has_unknown_critical:
            return _refusal("critical-extension", culprit=candidate)
        is_early = self.now < candidate.not_before
        if (is_early or self.now > candidate.not_after) and candidate.fingerprint not in self.ageless:
            self.untimely[candidate.fingerprint] = candidate
            side, limit = ("before", candidate.not_before) if is_early else ("after", candidate.not_after)
            return _refusal("expired", format_time(self.now), side, format_time(limit), culprit=candidate)
        if not is_root and not candidate.is_ca:
            return _refusal("not-a-ca", culprit=candidate)
        if candidate.path_length is not None and len(chain) - 1 > candidate.path_length:
            return _refusal("path-too-long", culprit=candidate)
        return None


def _is_same_entity(first: CertificateFacts, other: CertificateFacts) -> bool:
    """Return True if subject, key and alternative names are the same. A chain must not contain two such certificates."""
    return (first.encoded_subject, first.public_key, first.extensions.get(go_parser.ALTERNATIVE_NAMES)) == (
        other.encoded_subject,
        other.public_key,
        other.extensions.get(go_parser.ALTERNATIVE_NAMES),
    )


def _hint(problem: str, parent: CertificateFacts) -> str:
    organization = parent.organizations[0] if parent.organizations else ""
    # Python writes no number of more than 4300 digits. RFC 5280 allows 20 octets, and Go reads any number of them.
    label = parent.common_name or organization or f"serial:{int(parent.serial[:3500], 16)}"
    authority, words = (json.dumps(text, ensure_ascii=False) for text in (label, problem))  # Go's %q
    return (
        f" (possibly because of {words} while trying to verify candidate authority certificate {authority})"
    )


def _name_refusal(leaf: CertificateFacts, name: str | None) -> _Refusal | None:
    if not name or name_constraints.is_for_name(leaf, name):
        return None
    return _refusal("name-mismatch", name_constraints.describe_mismatch(leaf, name), culprit=leaf)


def _allows(chain: Chain, usage: str) -> bool:
    """Return True if each certificate with extended usages lists this one or "any"."""
    if usage == "any":
        return True
    return all(
        not member.extended_usages or {usage, "any"}.intersection(member.extended_usages) for member in chain
    )
