# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Verify a certificate as the API server does, which is a TLS client in Go. Its rules differ from OpenSSL's.

Go accepts any certificate of a bundle as an anchor: a leaf, an intermediate, a CA without keyUsage. It skips certificates that
it cannot parse, compares issuers by encoded name and signature, and stops after 100 signature checks. The rules, their order
and their messages are those of Certificate.Verify in Go 1.26 crypto/x509. Certificate policies are not checked.

Other rooms call only this file and chain_judge. The files chain_candidate and name_constraints are parts of it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from .._base.times import format_time
from . import certificate_facts, certificate_policies, chain_candidate, go_parser, name_constraints, pem_text
from .certificate_facts import CertificateFacts
from .chain_candidate import ChainCandidate
from .errors import CertificateError, UnreadCertificate

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

Chain = tuple[ChainCandidate, ...]

# The fault of a verdict, an id of _webhook.call_faults -> Go's message.
REASONS: dict[str, str] = {
    "ok": "",
    "bundle-broken": "unable to load root certificates: no valid certificate authority data seen",
    "certificate-refused": "failed to parse certificate: {}",
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
    culprit: ChainCandidate | None = None


def verify(
    leaf: Certificate,
    bundle_pem: str,
    *,
    name: str | None,
    intermediates: Sequence[Certificate] = (),
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
    if not (roots.members or roots.unread):
        return _refused(_refusal("bundle-broken"))
    try:
        subject = chain_candidate.read(leaf)
        sent = _sent(tuple(intermediates))
    except UnreadCertificate as error:
        return _refused(_refusal("certificate-unread", error.cause))
    except CertificateError as error:
        return _refused(_refusal("certificate-refused", error.cause))
    search = _Search(roots, sent, now, ageless)
    refusal = search.validity_refusal(subject, ()) or _name_refusal(subject, name)
    if refusal:
        return _refused(refusal, search.untimely.values())
    if subject.facts.fingerprint in roots.members:
        chains: list[Chain] = [(subject,)]
    else:
        chains, refusal = search.chains((subject,))
    verdict = _refused(refusal, search.untimely.values()) if refusal else _judge(chains, usage)
    if not verdict.ok and search.met_unread:  # another chain may be valid
        return _refused(_refusal("certificate-unread", search.met_unread))
    return verdict


def anchors(bundle_pem: str) -> tuple[CertificateFacts, ...]:
    """Return the certificates of a bundle that Go parses, each once."""
    return tuple(candidate.facts for candidate in _roots(bundle_pem).members.values())


def has_anchor(bundle_pem: str) -> bool:
    """Return True if Go parses a certificate of the bundle. It refuses a bundle without one."""
    return bool(_roots(bundle_pem).members or _roots(bundle_pem).unread)


def weak_signature(certificate: Certificate) -> str:
    """Return the name of the certificate's signature algorithm if Go refuses it, such as "SHA1-RSA", and "" otherwise."""
    algorithm = chain_candidate.SIGNATURES.get(certificate.signature_algorithm_oid.dotted_string)
    return algorithm.name if algorithm and not algorithm.is_secure else ""


def _judge(chains: Sequence[Chain], usage: str) -> Verdict:
    """Keep the chains that usage and name constraints allow. A name constraint is reported before a usage."""
    usable = [chain for chain in chains if _allows(chain, usage)]
    problems = [_constraint_problem(chain) for chain in usable]
    good = [chain for chain, problem in zip(usable, problems) if not problem]
    if not good:
        return _refused(
            _refusal("name-constraint", problems[0], culprit=_constrainer(usable[0]))
            if problems
            else _refusal("wrong-usage")
        )
    trusted = [chain for chain in good if certificate_policies.are_valid([member.parsed for member in chain])]
    if not trusted:
        return _refused(_refusal("policy-refused", str(len(good))))
    good = trusted
    if good[0][0].key_kind not in chain_candidate.GO_KEY_TYPES:
        return _refused(_refusal("unsupported-key"))
    return Verdict(
        True, "ok", REASONS["ok"], tuple(dict.fromkeys(chain[-1].facts.fingerprint for chain in good))
    )


def _refusal(code: str, *details: str, culprit: ChainCandidate | None = None) -> _Refusal:
    return _Refusal(code, REASONS[code].format(*details), culprit)


def _refused(refusal: _Refusal, untimely: Iterable[CertificateFacts] = ()) -> Verdict:
    culprit = refusal.culprit.facts if refusal.culprit else None
    return Verdict(False, refusal.code, refusal.reason, (), culprit, tuple(untimely))


@functools.lru_cache(maxsize=64)  # a judge verifies one chain with one bundle at many times
def _roots(bundle_pem: str) -> _Pool:
    """Return the certificates of a bundle that Go parses (AppendCertsFromPEM)."""
    read, unread = list[ChainCandidate](), dict[bytes, str]()
    for block in pem_text.blocks(bundle_pem):
        if block.label == certificate_facts.LABEL:
            try:
                parsed = go_parser.read(pem_text.der(block))
            except CertificateError:
                continue
            try:
                read.append(chain_candidate.read(certificate_facts.load_block(block)))
            except CertificateError as error:
                unread[parsed.subject] = error.cause
    return _Pool(read, unread)


@functools.lru_cache(maxsize=16)
def _sent(intermediates: tuple[Certificate, ...]) -> _Pool:
    return _Pool(map(chain_candidate.read, intermediates))


class _Pool:
    """A set of certificates, with an index by encoded subject."""

    def __init__(
        self, candidates: Iterable[ChainCandidate], unread: Mapping[bytes, str] | None = None
    ) -> None:
        self.members = {candidate.facts.fingerprint: candidate for candidate in candidates}
        #: The encoded subjects of those that only the library does not read -> its reason.
        self.unread = unread or {}
        self._by_subject: dict[bytes, list[ChainCandidate]] = {}
        for candidate in self.members.values():
            self._by_subject.setdefault(candidate.subject, []).append(candidate)

    def parents(self, child: ChainCandidate) -> list[ChainCandidate]:
        """Return the possible issuers of the child. Equal key identifiers come first, then unknown and different ones."""
        wanted = getattr(child.value(chain_candidate.AUTHORITY_KEY_ID), "key_identifier", None) or b""

        def rank(parent: ChainCandidate) -> int:
            own = getattr(parent.value(chain_candidate.SUBJECT_KEY_ID), "digest", b"")
            return 0 if own == wanted else 1 if not own or not wanted else 2

        return sorted(self._by_subject.get(child.issuer, ()), key=rank)


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
    #: Why a possible issuer was not read, "" without one.
    met_unread: str = ""

    def chains(self, chain: Chain) -> tuple[list[Chain], _Refusal | None]:
        """Return the complete chains that begin with this one. If no chain is complete, return the reason."""
        complete: list[Chain] = []
        last: _Refusal | None = None
        hint = ""
        self.met_unread = self.met_unread or self.roots.unread.get(chain[-1].issuer, "")
        parents = [(parent, True) for parent in self.roots.parents(chain[-1])]
        parents += [(parent, False) for parent in self.sent.parents(chain[-1])]
        for parent, is_root in parents:
            self.checks += 1
            if self.checks > MOST_SIGNATURE_CHECKS:
                last = _refusal("too-many-cas")
                break
            if parent.key_kind is None or any(
                chain_candidate.is_same_entity(parent, member) for member in chain
            ):
                continue
            problem = chain_candidate.signature_error(chain[-1], parent)
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
        self, candidate: ChainCandidate, chain: Chain, *, is_root: bool = True
    ) -> _Refusal | None:
        """Return why the certificate cannot be the next member of the chain, None if it can. The leaf is the first member."""
        facts = candidate.facts
        if candidate.has_unknown_critical:
            return _refusal("critical-extension", culprit=candidate)
        is_early = self.now < facts.not_before
        if (is_early or self.now > facts.not_after) and facts.fingerprint not in self.ageless:
            self.untimely[facts.fingerprint] = facts
            side, limit = ("before", facts.not_before) if is_early else ("after", facts.not_after)
            return _refusal("expired", format_time(self.now), side, format_time(limit), culprit=candidate)
        basic = candidate.value(chain_candidate.BASIC_CONSTRAINTS)
        if not is_root and (basic is None or not basic.ca):
            return _refusal("not-a-ca", culprit=candidate)
        if basic is not None and basic.path_length is not None and len(chain) - 1 > basic.path_length:
            return _refusal("path-too-long", culprit=candidate)
        return None


def _hint(problem: str, parent: ChainCandidate) -> str:
    authority = chain_candidate.quoted(parent.label)
    return (
        f" (possibly because of {chain_candidate.quoted(problem)} while trying to verify candidate authority"
        f" certificate {authority})"
    )


def _name_refusal(leaf: ChainCandidate, name: str | None) -> _Refusal | None:
    if not name or name_constraints.is_for_name(leaf.facts, name):
        return None
    has_any = leaf.value(chain_candidate.ALTERNATIVE_NAMES) is not None
    reason = name_constraints.describe_mismatch(leaf.facts, name, has_alternative_names=has_any)
    return _refusal("name-mismatch", reason, culprit=leaf)


def _allows(chain: Chain, usage: str) -> bool:
    """Return True if each certificate with extended usages lists this one or "any"."""
    if usage == "any":
        return True
    return all(
        not listed or listed & {usage, "any"} for listed in (member.extended_usages for member in chain)
    )


def _constraint_problem(chain: Chain) -> str:
    return name_constraints.refusal(
        [
            (
                tuple(member.value(chain_candidate.ALTERNATIVE_NAMES) or ()),
                member.value(chain_candidate.NAME_CONSTRAINTS),
            )
            for member in chain
        ]
    )


def _constrainer(chain: Chain) -> ChainCandidate:
    """Return the member of a refused chain whose name constraints refuse a name below it."""
    return next(member for size, member in enumerate(chain, 1) if _constraint_problem(chain[:size]))
