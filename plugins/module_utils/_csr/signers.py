# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What each signer takes, as a table: a new signer is a new row, a new refusal a new Rule.

A signer that refuses a request says so after its approval, on an object that is then spent (condition Failed),
or not at all. Hence the same rules are applied here before anything is sent, in the signer's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Callable

from .errors import RequestError
from .name_policy import DNS_LABEL, is_dns_name

DIGITAL_SIGNATURE, KEY_ENCIPHERMENT = "digital signature", "key encipherment"
SERVER_AUTH, CLIENT_AUTH, ANY_USAGE = "server auth", "client auth", "any"
SERVING_USAGES = (DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, SERVER_AUTH)
CLIENT_USAGES = (DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, CLIENT_AUTH)

KUBELET_SERVING = "kubernetes.io/kubelet-serving"
KUBE_APISERVER_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBE_APISERVER_CLIENT_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
EKS_APP_SERVING = "beta.eks.amazonaws.com/app-serving"
EPHEMERAL_CA = "ephemeral-ca"

SHORTEST_LIFETIME_SECONDS = 600  # certificates.k8s.io/v1, spec.expirationSeconds
LONGEST_LIFETIME_SECONDS = 2**31 - 1  # its type
YEAR_SECONDS = 365 * 24 * 3600
LONGEST_IN_SUBJECT = 64  # ub-common-name and ub-organization-name, RFC 5280 appendix A.1

KEY, AUTHORITY, EXTENDED = "key", "authority", "extended"


@dataclass(frozen=True)
class Usage:
    """One KeyUsage of certificates.k8s.io/v1.

    kind: KEY is an operation of the key, without a purpose. AUTHORITY lets the holder sign certificates or revocation
      lists. EXTENDED is a purpose.
    is_login: True if kube-apiserver accepts a certificate with only this usage as a login. kube-apiserver verifies with
      Go, which accepts a certificate without extended usages for every purpose (crypto/x509, VerifyOptions.KeyUsages).
    """

    name: str
    kind: str
    is_login: bool


# A test logs in to a real API server with a certificate for each row.
USAGES = {
    row.name: row
    for row in (
        Usage("signing", KEY, is_login=True),
        Usage(DIGITAL_SIGNATURE, KEY, is_login=True),
        Usage("content commitment", KEY, is_login=True),
        Usage(KEY_ENCIPHERMENT, KEY, is_login=True),
        Usage("key agreement", KEY, is_login=True),
        Usage("data encipherment", KEY, is_login=True),
        Usage("encipher only", KEY, is_login=True),
        Usage("decipher only", KEY, is_login=True),
        Usage("cert sign", AUTHORITY, is_login=True),
        Usage("crl sign", AUTHORITY, is_login=True),
        Usage(ANY_USAGE, EXTENDED, is_login=True),
        Usage(SERVER_AUTH, EXTENDED, is_login=False),
        Usage(CLIENT_AUTH, EXTENDED, is_login=True),
        Usage("code signing", EXTENDED, is_login=False),
        Usage("email protection", EXTENDED, is_login=False),
        Usage("s/mime", EXTENDED, is_login=False),
        Usage("ipsec end system", EXTENDED, is_login=False),
        Usage("ipsec tunnel", EXTENDED, is_login=False),
        Usage("ipsec user", EXTENDED, is_login=False),
        Usage("timestamping", EXTENDED, is_login=False),
        Usage("ocsp signing", EXTENDED, is_login=False),
        Usage("microsoft sgc", EXTENDED, is_login=False),
        Usage("netscape sgc", EXTENDED, is_login=False),
    )
}
KNOWN_USAGES = frozenset(USAGES)
PURPOSES = frozenset((SERVER_AUTH, CLIENT_AUTH, ANY_USAGE))


@dataclass(frozen=True)
class CertificateRequest:
    """What would be sent. key_type: a name of _x509._keys.KEY_TYPES, "" where unknown. Lifetime in seconds."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()
    key_type: str = ""
    expiration_seconds: int | None = None


@dataclass(frozen=True)
class SignerRule:
    """One reason to refuse.

    text: how the refusal begins, as the signer or the API server words it.
    refuses: what follows the text, once for each fault; nothing where the request is fine.
    remedy: what to change, in the words of this collection's options.
    """

    text: str
    refuses: Callable[[CertificateRequest], Iterable[str]]
    remedy: str


@dataclass(frozen=True)
class Signer:
    """One signer.

    purpose: "serving" or "client", what its certificates are for.
    usages: asked for where the task names none.
    common_names: templates over {service} and {namespace}; the first that fits into 64 characters is the
      default; none: the task must spell it out. organizations: the default.
    rules: in the order in which the signer applies them.
    longest_lifetime_seconds: None where the cluster sets it.
    unusable: why no request can be made for it, "" for all others.
    own_lifetime_seconds: how long a certificate lasts that this process signs itself, where the task does not say;
      None for a signer of the cluster, which is sent a request.
    ca_key: under which key of the Secret's data the CA is stored where the task names none; "" for not at all.
    """

    name: str
    purpose: str
    usages: tuple[str, ...]
    common_names: tuple[str, ...]
    organizations: tuple[str, ...]
    rules: tuple[SignerRule, ...]
    longest_lifetime_seconds: int | None
    source: str
    unusable: str = ""
    own_lifetime_seconds: int | None = None
    ca_key: str = ""

    @property
    def is_asked(self) -> bool:
        """True if it takes requests. False for ephemeral-ca, whose CA only this process knows."""
        return self.own_lifetime_seconds is None


def _when(condition: Callable[[CertificateRequest], object]) -> Callable[[CertificateRequest], Iterable[str]]:
    return lambda request: ("",) if condition(request) else ()


def _beyond(usages: Iterable[str]) -> Callable[[CertificateRequest], Iterable[str]]:
    allowed = frozenset(usages)
    return lambda request: [usage for usage in request.usages if usage not in allowed]


def _neither(full: Sequence[str], *others: Sequence[str]) -> Callable[[CertificateRequest], Iterable[str]]:
    accepted = [frozenset(usages) for usages in (full, *others)]
    shown = f"[{' '.join(sorted(full))}]"  # as Go prints a sorted list
    return lambda request: () if frozenset(request.usages) in accepted else (shown,)


_LEAVE_USAGES_OUT = "Leave usages out: the default is what this signer takes."

# kube-apiserver's own validation and admission, before any signer sees the request: pkg/apis/certificates/validation.
API_RULES = (
    SignerRule(
        "spec.usages: Required value",
        _when(lambda request: not request.usages),
        "Leave usages out to get the signer's default.",
    ),
    SignerRule(
        "spec.usages: Unsupported value: ",
        _beyond(KNOWN_USAGES),
        f"Known usages are: {', '.join(sorted(KNOWN_USAGES))}.",
    ),
    SignerRule(
        "spec.usages: Duplicate value: ",
        lambda request: sorted({usage for usage in request.usages if request.usages.count(usage) > 1}),
        "Name each usage once.",
    ),
    SignerRule(
        "spec.expirationSeconds: may not specify a duration less than 600 seconds (10 minutes)",
        _when(
            lambda request: (
                request.expiration_seconds is not None
                and request.expiration_seconds < SHORTEST_LIFETIME_SECONDS
            )
        ),
        "Ask for 600 seconds or more, or leave expiration_seconds out for the signer's default.",
    ),
    SignerRule(
        "spec.expirationSeconds: it is an int32, at most ",
        lambda request: (
            [str(LONGEST_LIFETIME_SECONDS)]
            if (request.expiration_seconds or 0) > LONGEST_LIFETIME_SECONDS
            else []
        ),
        "Ask for less, or leave expiration_seconds out for the signer's default.",
    ),
)

_ORGANIZATION_IS_NODES = SignerRule(
    "subject organization is not system:nodes",
    _when(lambda request: request.organizations != ("system:nodes",)),
    "Leave organizations out: this signer wants exactly one, system:nodes, and that is the default.",
)
_COMMON_NAME_IS_NODE = SignerRule(
    "subject common name does not begin with system:node:",
    _when(lambda request: not request.common_name.startswith("system:node:")),
    "Leave common_name out, or begin it with system:node: (the host names belong in the subjectAltName).",
)
_NO_EMAIL = SignerRule(
    "Email subjectAltNames are not allowed",
    _when(lambda request: request.emails),
    "Ask for DNS names and IP addresses alone.",
)
_NO_URI = SignerRule(
    "URI subjectAltNames are not allowed",
    _when(lambda request: request.uris),
    "Ask for DNS names and IP addresses alone.",
)

# ValidateKubeletServingCSR, k/k pkg/apis/certificates/helpers.go, in its order.
_KUBELET_SERVING_RULES = (
    _ORGANIZATION_IS_NODES,
    SignerRule(
        "DNS or IP subjectAltName is required",
        _when(lambda request: not request.dns_names and not request.ip_addresses),
        "Ask for at least one DNS name or IP address; a service gives its own.",
    ),
    _NO_EMAIL,
    _NO_URI,
    SignerRule(
        "usages did not match ",
        _neither(SERVING_USAGES, (DIGITAL_SIGNATURE, SERVER_AUTH)),
        _LEAVE_USAGES_OUT,
    ),
    _COMMON_NAME_IS_NODE,
)

# ValidateKubeletClientCSR, the same file, in its order.
_KUBELET_CLIENT_RULES = (
    _ORGANIZATION_IS_NODES,
    SignerRule(
        "DNS subjectAltNames are not allowed",
        _when(lambda request: request.dns_names),
        "Ask for no DNS name: this signer makes kubelets' client certificates, not serving ones.",
    ),
    _NO_EMAIL,
    SignerRule(
        "IP subjectAltNames are not allowed",
        _when(lambda request: request.ip_addresses),
        "Ask for no IP address: this signer makes kubelets' client certificates, not serving ones.",
    ),
    _NO_URI,
    _COMMON_NAME_IS_NODE,
    SignerRule(
        "usages did not match ",
        _neither(CLIENT_USAGES, (DIGITAL_SIGNATURE, CLIENT_AUTH)),
        _LEAVE_USAGES_OUT,
    ),
)

_CLIENT_RULES = (
    # k/k plugin/pkg/admission/certificates/subjectrestriction: refused at create.
    SignerRule(
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        _when(lambda request: "system:masters" in request.organizations),
        "Use a group of your own and bind the ClusterRole that it needs.",
    ),
    # validAPIServerClientUsages, k/k pkg/controller/certificates/signer/signer.go.
    SignerRule(
        "invalid usage for client certificate: ",
        _beyond(CLIENT_USAGES),
        f"This signer makes client certificates only. For a webhook's certificate use {KUBELET_SERVING}, "
        f"on Amazon EKS {EKS_APP_SERVING}.",
    ),
    SignerRule(
        "missing required usage for client certificate: client auth",
        _when(lambda request: CLIENT_AUTH not in request.usages),
        _LEAVE_USAGES_OUT,
    ),
)

_EKS_RULES = (
    SignerRule(
        f"{EKS_APP_SERVING} issues no certificate with the usage ",
        _beyond(SERVING_USAGES),
        "Leave usages out; this signer makes serving certificates only.",
    ),
    # The API server and kube-controller-manager take whatever Go's crypto/x509 does, Ed25519 too. AWS documents no
    # kinds of keys, shows RSA, and what its signer does not take it drops without a word.
    SignerRule(
        f"{EKS_APP_SERVING} is not known to take keys of type ",
        lambda request: [request.key_type] if request.key_type == "ed25519" else [],
        "Use an ECDSA or RSA key.",
    ),
)

_EPHEMERAL_RULES = (
    SignerRule(
        "it makes serving certificates for webhooks alone, none with the usage ",
        _beyond(SERVING_USAGES),
        "Leave usages out. A client certificate needs a signer whose CA its server trusts: for the API server "
        f"{KUBE_APISERVER_CLIENT}.",
    ),
)

_SERVICE_COMMON_NAMES = ("{service}.{namespace}.svc", "{service}.{namespace}", "{service}")
_SIGNING_DOC = "https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/"

SIGNERS: dict[str, Signer] = {
    row.name: row
    for row in (
        Signer(
            KUBELET_SERVING,
            purpose="serving",
            usages=SERVING_USAGES,
            # Never a bare service name: it could be a node's. The last one always fits.
            common_names=(
                "system:node:{service}.{namespace}.svc",
                "system:node:{service}.{namespace}",
                "system:node:webhook.svc",
            ),
            organizations=("system:nodes",),
            rules=_KUBELET_SERVING_RULES,
            longest_lifetime_seconds=None,  # kube-controller-manager --cluster-signing-duration, 365 d by default
            source=f"{_SIGNING_DOC}#kubernetes-signers; k/k pkg/apis/certificates/helpers.go",
        ),
        Signer(
            KUBE_APISERVER_CLIENT,
            purpose="client",
            usages=CLIENT_USAGES,
            common_names=(),
            organizations=(),
            rules=_CLIENT_RULES,
            longest_lifetime_seconds=None,
            source=f"{_SIGNING_DOC}#kubernetes-signers; k/k pkg/controller/certificates/signer/signer.go",
        ),
        Signer(
            KUBE_APISERVER_CLIENT_KUBELET,
            purpose="client",
            usages=CLIENT_USAGES,
            common_names=(),
            organizations=("system:nodes",),
            rules=_KUBELET_CLIENT_RULES,
            longest_lifetime_seconds=None,
            source=f"{_SIGNING_DOC}#kubernetes-signers; k/k pkg/apis/certificates/helpers.go",
        ),
        Signer(
            LEGACY_UNKNOWN,
            purpose="serving",
            usages=SERVING_USAGES,
            common_names=_SERVICE_COMMON_NAMES,
            organizations=(),
            rules=(),
            longest_lifetime_seconds=None,
            source=f"{_SIGNING_DOC}#kubernetes-signers; k/k pkg/apis/certificates/validation",
            unusable="certificates.k8s.io/v1 does not take it: it was for v1beta1, which Kubernetes 1.22 removed",
        ),
        Signer(
            EKS_APP_SERVING,
            purpose="serving",
            usages=SERVING_USAGES,
            common_names=_SERVICE_COMMON_NAMES,
            organizations=(),
            rules=_EKS_RULES,
            longest_lifetime_seconds=YEAR_SECONDS,
            source="https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html",
        ),
        # No signer of any cluster, hence no <domain>/<path>: a CA in this process's memory, for one signature.
        Signer(
            EPHEMERAL_CA,
            purpose="serving",
            usages=SERVING_USAGES,
            common_names=_SERVICE_COMMON_NAMES,
            organizations=(),
            rules=_EPHEMERAL_RULES,
            longest_lifetime_seconds=None,
            source="_x509/_authority.py",
            own_lifetime_seconds=YEAR_SECONDS,  # The default of kube-controller-manager.
            ca_key="ca.crt",  # The next run finds the CA there. It is published nowhere else.
        ),
    )
}

# Any other signer of the form <domain>/<path>: its rules are its own affair (KEP-1513).
GENERIC = Signer(
    "*",
    purpose="serving",
    usages=SERVING_USAGES,
    common_names=_SERVICE_COMMON_NAMES,
    organizations=(),
    rules=(),
    longest_lifetime_seconds=None,
    source=f"{_SIGNING_DOC}#signers",
)


def find_signer(name: str) -> Signer:
    """Return the row of a signer; for one that no row names, the generic row under that name.

    Raises RequestError for a name that the API server refuses and for legacy-unknown.
    """
    row = SIGNERS.get(name)
    if row is None:
        _check_name(name)
        return replace(GENERIC, name=name)
    if row.unusable:
        raise RequestError(
            f"the signer_name {name!r} cannot be used: {row.unusable}",
            remedy=f"Use {KUBELET_SERVING} for a serving certificate, on Amazon EKS {EKS_APP_SERVING}.",
        )
    return row


def list_refusals(row: Signer, request: CertificateRequest) -> list[str]:
    """Return why the API server or this signer would refuse the request, in their own words and order."""
    return [rule.text + part for rule in (*API_RULES, *row.rules) for part in rule.refuses(request)]


def warnings(row: Signer, request: CertificateRequest) -> list[str]:
    """Return what the signer will grant otherwise than asked. expirationSeconds is a hint (KEP-2784)."""
    longest, asked = row.longest_lifetime_seconds, request.expiration_seconds
    if longest is None or asked is None or asked <= longest:
        return []
    return [f"{row.name} issues for {longest} seconds at most: expiration_seconds {asked} will be shortened"]


def remedy_for(signer_name: str, message: str) -> str:
    """Return what to do about a refusal that a signer or the API server worded, "" where no rule knows it."""
    rules = (*API_RULES, *SIGNERS.get(signer_name, GENERIC).rules)
    return next((rule.remedy for rule in rules if rule.text in message), "")


def is_client_identity(usages: Iterable[str]) -> bool:
    """Return True if a certificate with these usages lets its holder log in as its subject.

    Only extended usages restrict the purpose of a certificate, so a certificate without them is a login too.
    """
    extended = [row for row in map(_usage, usages) if row.kind == EXTENDED]
    return not extended or any(row.is_login for row in extended)


def unexpected_usages(usages: Iterable[str]) -> tuple[str, ...]:
    """Return the usages that this collection never asks for and never approves, in their order.

    They sign other certificates, or have a purpose that is neither a server's nor a client's.
    """
    return tuple(
        row.name
        for row in map(_usage, usages)
        if row.kind == AUTHORITY or (row.kind == EXTENDED and row.name not in PURPOSES)
    )


def _usage(name: str) -> Usage:
    """Return the row of a usage. The API server refuses a usage without a row."""
    return USAGES.get(name) or Usage(name, EXTENDED, is_login=False)


def usage_fault(asked: Iterable[str], held: Iterable[str]) -> str:
    """Return how the purposes of a certificate differ from what was asked for, "" where they do not.

    "any" stands for every purpose (RFC 5280, anyExtendedKeyUsage); it is more than was asked for unless it was.
    """
    wanted, found = PURPOSES & set(asked), PURPOSES & set(held)
    if ANY_USAGE not in found and not wanted <= found:
        return f"its usages are {', '.join(sorted(held)) or 'none'}"
    extra = found - wanted
    return f"it may also be used for {', '.join(sorted(extra))}" if extra else ""


def check_usages(usages: Iterable[str]) -> None:
    """Raise RequestError for a usage that this collection never asks for."""
    unexpected = unexpected_usages(usages)
    if unexpected:
        raise RequestError(
            f"this collection requests no certificate with the usage {', '.join(unexpected)}",
            evidence=unexpected,
            remedy="Remove it from usages. A serving certificate needs server auth, a client certificate client auth.",
        )


def check_client_identity(
    usages: Iterable[str], *, allowed: bool, common_name: str, organizations: Sequence[str] | None
) -> None:
    """Raise RequestError for a client certificate that the task does not spell out.

    organizations: None if the task does not set them. An empty list means that the user has no group.
    """
    if not is_client_identity(usages):
        return
    if not allowed:
        raise RequestError(
            "the usages ask for a client certificate, and its holder logs in as its subject",
            code="client-identity-not-allowed",
            remedy="Set allow_client_identity: true, common_name and organizations if that is intended.",
        )
    if not common_name or organizations is None:
        raise RequestError(
            "a client certificate needs its user (common_name) and its groups (organizations) spelled out",
            remedy="Set both. Write organizations: [] for a user without groups.",
        )


def subject_for(
    row: Signer,
    service: str,
    namespace: str,
    common_name: str = "",
    organizations: Sequence[str] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """Return common name and organizations: what the task says, else what this signer wants.

    Raises RequestError for a part of more than 64 bytes, and for no common name where the signer has no default.
    """
    groups = row.organizations if organizations is None else tuple(organizations)
    _check_length("common_name", common_name, "clients verify the subjectAltName, not the common name")
    for group in groups:
        _check_length(
            "organization", group, "for a client certificate bind the rights to a group of a shorter name"
        )
    if common_name:
        return common_name, groups
    candidates = (text.format(service=service, namespace=namespace) for text in row.common_names)
    fitting = next((text for text in candidates if len(text) <= LONGEST_IN_SUBJECT), None)
    if fitting is None:
        raise RequestError(
            f"the signer {row.name} makes client certificates: common_name is missing",
            remedy="Give common_name, the user's name, and allow_client_identity: true.",
        )
    return fitting, groups


def _check_length(what: str, text: str, remedy: str) -> None:
    size = len(text.encode())
    if size > LONGEST_IN_SUBJECT:
        raise RequestError(
            f"the {what} {text!r} has {size} bytes, a certificate holds {LONGEST_IN_SUBJECT}",
            remedy=f"Shorten it: {remedy}.",
        )


_PATH = re.compile(rf"{DNS_LABEL}(\.{DNS_LABEL})*")


def _check_name(name: str) -> None:
    """k/k pkg/apis/core/validation/names ValidateSignerName: domain with a dot, one slash, path of DNS labels."""
    domain, slash, path = name.partition("/")
    well_formed = slash and is_dns_name(domain) and "." in domain and _PATH.fullmatch(path)
    if not well_formed or len(name) > 571:
        raise RequestError(
            f"the signer_name {name!r} is not of the form <domain>/<path>",
            remedy=f"Give a full name such as {KUBELET_SERVING} or example.com/my-signer, or {EPHEMERAL_CA}.",
        )
