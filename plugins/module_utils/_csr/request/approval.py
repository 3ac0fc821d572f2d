# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide whether a request may be approved, and build the approval.

The content is compared before anything is written. An identity that may create CSRs could have replaced the expected
request by another one of the same name, and signers do not check the requester.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ..._kube.access_review import Permission
from .. import name_policy
from ..usages import SERVER_AUTH, is_client_identity, unexpected_usages
from .csr_content import GROUP, RequestContent, condition_of

# Synonyms in certificates.k8s.io/v1: usages with the same bit or OID.
_SAME_USAGE = {"signing": "digital signature", "s/mime": "email protection"}
# The beginnings of the users and groups of Kubernetes, of kubeadm, whose group kubeadm:cluster-admins may do everything, and of EKS.
_RESERVED = ("system:", "kubeadm:", "eks:")
# OpenSSL's example configuration and external-snapshotter's create-cert.sh put this usage into every request. The holder
# of the key can do nothing with it that "digital signature" does not permit.
_HARMLESS_USAGES = ("content commitment",)
# cert-manager's signers obey these annotations of a CSR (pkg/apis/experimental/v1alpha1). The first one makes the certificate
# a certificate authority, whatever the PKCS#10 says. The second one takes precedence over
# spec.expirationSeconds.
_WANTS_CA = "experimental.cert-manager.io/request-is-ca"
_LIFETIME = "experimental.cert-manager.io/request-duration"


def approval_permissions(signer_name: str) -> list[Permission]:
    """Return the two permissions of an approval: the update, and the verb approve on the signer (admission plugin)."""
    return [Permission("update", GROUP, "certificatesigningrequests/approval"), permission_for(signer_name)]


def permission_for(signer_name: str) -> Permission:
    """Return the permission to approve for a signer, by its name or by its domain (k/k pkg/certauthorization)."""
    domain = signer_name.partition("/")[0]
    return Permission("approve", GROUP, "signers", name=signer_name, or_name=f"{domain}/*")


@dataclass(frozen=True)
class Expectation:
    """The content that a request must have to be approved. The value None is not compared.

    Usages, organizations and names are compared as sets.
    """

    public_key_sha256: str | None = None
    signer_name: str | None = None
    usages: tuple[str, ...] | None = None
    requester: str | None = None
    common_name: str | None = None
    organizations: tuple[str, ...] | None = None
    dns_names: tuple[str, ...] | None = None
    ip_addresses: tuple[str, ...] | None = None
    #: The exact expirationSeconds.
    expiration_seconds: int | None = None
    #: The upper bound of expirationSeconds. A request without expirationSeconds exceeds it.
    longest_seconds: int | None = None
    #: The Service whose names the request may have (see name_policy.forbidden_names). This is always checked.
    service: str = ""
    namespace: str = ""
    #: More names that the request may have.
    allow_names: tuple[str, ...] = ()
    #: True if it may be for a client certificate. Then common_name and organizations must be set.
    allow_client_identity: bool = False
    #: The names and addresses of the cluster itself.
    cluster: name_policy.GuardedNames = name_policy.NOTHING_GUARDED


@dataclass(frozen=True)
class Mismatch:
    """A difference between a request and the expectation."""

    #: Stable, in CamelCase.
    reason: str
    #: A clause for people.
    message: str


def decision_of(csr: Mapping[str, Any]) -> str:
    """Return the decision about a request: "Approved", "Denied", or "" without a decision."""
    return next((kind for kind in ("Denied", "Approved") if condition_of(csr, kind)), "")


def _integrity(content: RequestContent, _expected: Expectation) -> Iterator[str]:
    if content.fault:
        yield content.fault
        return
    if not content.request.is_signature_valid:
        yield "its signature was not made with its key"
    if content.request.wants_ca:
        yield "it asks to become a certificate authority"


def _authority(content: RequestContent, _expected: Expectation) -> Iterator[str]:
    wanted = content.annotations.get(_WANTS_CA, "false")
    if wanted != "false":
        yield f"it asks to become a certificate authority (annotation {_WANTS_CA}: {wanted!r})"


def _comparable(content: RequestContent, expected: Expectation) -> Iterator[str]:
    """Yield a mismatch if an expectation is about content that cannot be compared."""
    of_content = (
        expected.public_key_sha256,
        expected.common_name,
        expected.organizations,
        expected.dns_names,
        expected.ip_addresses,
    )
    if content.fault and any(value is not None for value in of_content):
        yield content.fault


def _inner_usages(content: RequestContent, _expected: Expectation) -> Iterator[str]:
    """Compare the usages inside the request, which a signer may copy, with those that the approver sees."""
    granted = {_SAME_USAGE.get(usage, usage) for usage in (*content.usages, *_HARMLESS_USAGES)}
    for usage in content.request.usages:
        if usage not in granted:
            yield f"its PKCS#10 asks for the usage {usage!r}, which is not in spec.usages"


def _public_key(content: RequestContent, expected: Expectation) -> Iterator[str]:
    wanted, actual = expected.public_key_sha256, content.request.public_key_sha256
    if wanted is not None and actual != wanted:
        yield f"it has another public key (SHA-256 {actual}, expected SHA-256 {wanted})"


def _client_identity(content: RequestContent, expected: Expectation) -> Iterator[str]:
    """Require consent to a login. Every request that is not only for a server is a login."""
    if not is_client_identity(content.usages):
        return
    usages = ", ".join(content.usages) or "none"
    if not expected.allow_client_identity:
        yield f"it asks for a client certificate (usages: {usages}), and allow_client_identity is not set"
    elif expected.common_name is None or expected.organizations is None:
        yield (
            f"it asks for a client certificate (usages: {usages}), but expect lacks common_name or organizations"
        )


def _unexpected_usages(content: RequestContent, _expected: Expectation) -> Iterator[str]:
    for usage in unexpected_usages(content.usages):
        yield f"it asks for the usage {usage!r}, which this module never approves"


def _subject(content: RequestContent, expected: Expectation) -> Iterator[str]:
    yield from _differs("common name", content.request.common_name, expected.common_name)
    groups = content.request.organizations
    if expected.organizations is not None and sorted(groups) != sorted(expected.organizations):
        yield f"its organizations are {sorted(groups)}, expected {sorted(expected.organizations)}"


def _system_subject(content: RequestContent, expected: Expectation) -> Iterator[str]:
    """Refuse the users and groups of Kubernetes itself, except nodes, unless expect contains them.

    A signer that ignores the usages would issue a login of such a user.
    """
    request, names = content.request, []
    if expected.common_name is None and not request.common_name.startswith("system:node:"):
        names.append(request.common_name)
    if expected.organizations is None:
        names += [group for group in request.organizations if group != "system:nodes"]
    yield from (
        f"its subject has {name!r}, a user or group of Kubernetes that expect does not contain"
        for name in names
        if name.startswith(_RESERVED)
    )


def _requested_names(content: RequestContent, expected: Expectation) -> Iterator[str]:
    request = content.request
    yield from _differ("DNS names", request.dns_names, expected.dns_names)
    yield from _differ("IP addresses", request.ip_addresses, expected.ip_addresses)


def _nameless(content: RequestContent, _expected: Expectation) -> Iterator[str]:
    request = content.request
    if SERVER_AUTH in content.usages and not request.dns_names and not request.ip_addresses:
        # Some clients then use the common name, which no rule here checks.
        yield "it asks for a serving certificate without a DNS name or an IP address"


def _forbidden_names(content: RequestContent, expected: Expectation) -> Iterator[str]:
    request = content.request
    for refusal in name_policy.forbidden_names(
        (*request.dns_names, *_host_in_subject(content, expected)),
        request.ip_addresses,
        service=expected.service,
        namespace=expected.namespace,
        allow=expected.allow_names,
        cluster=expected.cluster,
        other_names=(*request.emails, *request.uris),
    ):
        yield f"it asks for the name {refusal.name!r}: {refusal.reason}"


def _host_in_subject(content: RequestContent, expected: Expectation) -> tuple[str, ...]:
    """Return the common name of a serving certificate if it is one more host name that the task does not spell out.

    Vault, some ACME servers and old clients use it as a name of the server.
    """
    name, request = content.request.common_name, content.request
    names = {name_policy.normalize(text) for text in (*request.dns_names, *request.ip_addresses)}
    is_judged = expected.common_name is not None or name_policy.normalize(name) in names
    is_host = name_policy.is_host_name(name) or name_policy.is_critical(name, cluster=expected.cluster)
    return (name,) if SERVER_AUTH in content.usages and is_host and not is_judged else ()


def _lifetime(content: RequestContent, expected: Expectation) -> Iterator[str]:
    annotated = content.annotations.get(_LIFETIME)
    if annotated is not None and (expected.expiration_seconds, expected.longest_seconds) != (None, None):
        yield f"its annotation {_LIFETIME}: {annotated!r} takes precedence over its expirationSeconds"
    actual, longest = content.expiration_seconds, expected.longest_seconds
    if expected.expiration_seconds is not None and actual != expected.expiration_seconds:
        yield f"its expirationSeconds is {actual}, expected {expected.expiration_seconds}"
    if longest is not None and (actual is None or actual > longest):
        yield f"its expirationSeconds is {actual}, but at most {longest} is accepted"


# Rows of reason and rule. A rule yields a clause for each difference.
Rules = tuple[tuple[str, Callable[[RequestContent, Expectation], Iterator[str]]], ...]
# Differences to the expectation of the task.
EXPECTED: Rules = (
    ("Integrity", _comparable),
    ("PublicKey", _public_key),
    ("Signer", lambda content, expected: _differs("signer", content.signer_name, expected.signer_name)),
    ("Requester", lambda content, expected: _differs("requester", content.requester, expected.requester)),
    ("Usages", lambda content, expected: _differ("usages", content.usages, expected.usages)),
    ("Subject", _subject),
    ("Names", _requested_names),
    ("Lifetime", _lifetime),
)
# Content that needs explicit consent.
SAFETY: Rules = (
    ("Integrity", _integrity),
    ("Integrity", _authority),
    ("Usages", _inner_usages),
    ("ClientIdentity", _client_identity),
    ("UnexpectedUsage", _unexpected_usages),
    ("Subject", _system_subject),
    ("Names", _nameless),
    ("ForbiddenName", _forbidden_names),
)
RULES: Rules = (*EXPECTED, *SAFETY)
# Rules that read the PKCS#10. They are skipped for a PKCS#10 that cannot be compared.
_OF_PKCS10 = frozenset(
    [_public_key, _inner_usages, _subject, _system_subject, _requested_names, _nameless, _forbidden_names]
)


def compare(content: RequestContent, expected: Expectation, rules: Rules = RULES) -> tuple[Mismatch, ...]:
    """Return every mismatch between a request and the expectation. A request without a mismatch may be approved."""
    left_out: frozenset[object] = _OF_PKCS10 if content.fault else frozenset()
    differences = (
        Mismatch(reason, text)
        for reason, rule in rules
        if rule not in left_out
        for text in rule(content, expected)
    )
    return tuple(dict.fromkeys(differences))


def _differs(what: str, actual: str, expected: str | None) -> Iterator[str]:
    if expected is not None and actual != expected:
        yield f"its {what} is {actual!r}, expected {expected!r}"


def _differ(what: str, actual: Iterable[str], expected: Iterable[str] | None) -> Iterator[str]:
    """Compare two sets. Names are compared in their normal spelling."""
    have = {name_policy.normalize(text) for text in actual}
    if expected is not None and have != (want := {name_policy.normalize(text) for text in expected}):
        yield f"its {what} are {sorted(have)}, expected {sorted(want)}"
