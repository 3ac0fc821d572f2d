# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of signers, with the rules by which each accepts a request.

A signer refuses a request only after its approval, and silently or by the final condition Failed. So the same rules are
applied here before the request is sent, with the signer's own messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Callable

from ..errors import RequestError
from ..name_policy import DNS_LABEL, is_dns_name
from ..usages import (
    CLIENT_AUTH,
    CLIENT_USAGES,
    DIGITAL_SIGNATURE,
    KNOWN_USAGES,
    SERVER_AUTH,
    SERVING_USAGES,
    is_client_identity,
    unexpected_usages,
)

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


@dataclass(frozen=True)
class CertificateRequest:
    """The content of a request."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()
    #: A name of _x509.private_keys.KEY_TYPES, or "" if it is not known.
    key_type: str = ""
    expiration_seconds: int | None = None


@dataclass(frozen=True)
class SignerRule:
    """One reason to refuse a request."""

    #: The beginning of the message of the signer or the API server.
    text: str
    #: Returns the rest of the message for each fault of a request.
    refuses: Callable[[CertificateRequest], Iterable[str]]
    #: The change to the options of this collection.
    remedy: str


_SERVICE_COMMON_NAMES = ("{service}.{namespace}.svc", "{service}.{namespace}", "{service}")


@dataclass(frozen=True)
class Signer:
    """One signer. The defaults are those of a signer without a row."""

    name: str
    #: "serving" or "client".
    purpose: str = "serving"
    #: The default usages.
    usages: tuple[str, ...] = SERVING_USAGES
    #: Templates over {service} and {namespace}. The first that fits into 64 characters is the default common name.
    #: Without a template the task must set common_name.
    common_names: tuple[str, ...] = _SERVICE_COMMON_NAMES
    #: The default organizations.
    organizations: tuple[str, ...] = ()
    #: In the order in which the signer applies them.
    rules: tuple[SignerRule, ...] = ()
    #: None if the cluster sets it.
    longest_lifetime_seconds: int | None = None
    #: The reason why no request can be made for it, or "".
    unusable: str = ""
    #: The default lifetime of a certificate that this process signs itself. None for a signer of the cluster.
    own_lifetime_seconds: int | None = None
    #: The default key of the Secret's data for the CA, or "" for no CA.
    ca_key: str = ""
    #: For a signer inside kube-controller-manager, the part of its flags that belongs to it: --cluster-signing-PART-cert-file
    #: (k/k cmd/kube-controller-manager/app/certificates.go).
    flag: str = ""
    #: The source of its rules, for the page about diagnoses.
    source: str = ""

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


def _repeated_usages(request: CertificateRequest) -> list[str]:
    return sorted({usage for usage in request.usages if request.usages.count(usage) > 1})


def _is_short(request: CertificateRequest) -> bool:
    lifetime = request.expiration_seconds
    return lifetime is not None and lifetime < SHORTEST_LIFETIME_SECONDS


def _exceeded_lifetime(request: CertificateRequest) -> list[str]:
    """Return the limit of the API server if the request asks for more seconds."""
    lifetime = request.expiration_seconds
    if lifetime is None or lifetime <= LONGEST_LIFETIME_SECONDS:
        return []
    return [str(LONGEST_LIFETIME_SECONDS)]


_REMOVE_USAGES = "Remove usages. The default is what this signer accepts."

# kube-apiserver's own validation and admission, before any signer sees the request: pkg/apis/certificates/validation.
API_RULES = (
    SignerRule(
        "spec.usages: Required value",
        _when(lambda request: not request.usages),
        "Remove usages to get the signer's default.",
    ),
    SignerRule(
        "spec.usages: Unsupported value: ",
        _beyond(KNOWN_USAGES),
        f"Use only these usages: {', '.join(sorted(KNOWN_USAGES))}.",
    ),
    SignerRule(
        "spec.usages: Duplicate value: ",
        _repeated_usages,
        "Name each usage once.",
    ),
    SignerRule(
        "spec.expirationSeconds: may not specify a duration less than 600 seconds (10 minutes)",
        _when(_is_short),
        "Ask for 600 seconds or more, or remove expiration_seconds to get the signer's default.",
    ),
    SignerRule(
        "spec.expirationSeconds: it is an int32, at most ",
        _exceeded_lifetime,
        "Ask for less, or remove expiration_seconds to get the signer's default.",
    ),
)

_ORGANIZATION_IS_NODES = SignerRule(
    "subject organization is not system:nodes",
    _when(lambda request: request.organizations != ("system:nodes",)),
    "Remove organizations. This signer requires exactly one, system:nodes, and that is the default.",
)
_COMMON_NAME_IS_NODE = SignerRule(
    "subject common name does not begin with system:node:",
    _when(lambda request: not request.common_name.startswith("system:node:")),
    "Remove common_name, or begin it with system:node: (host names belong in the subjectAltName).",
)
_NO_EMAIL = SignerRule(
    "Email subjectAltNames are not allowed",
    _when(lambda request: request.emails),
    "Ask only for DNS names and IP addresses.",
)
_NO_URI = SignerRule(
    "URI subjectAltNames are not allowed",
    _when(lambda request: request.uris),
    "Ask only for DNS names and IP addresses.",
)

# ValidateKubeletServingCSR, k/k pkg/apis/certificates/helpers.go, in its order.
_KUBELET_SERVING_RULES = (
    _ORGANIZATION_IS_NODES,
    SignerRule(
        "DNS or IP subjectAltName is required",
        _when(lambda request: not request.dns_names and not request.ip_addresses),
        "Ask for at least one DNS name or IP address. The option service adds the names of the Service.",
    ),
    _NO_EMAIL,
    _NO_URI,
    SignerRule(
        "usages did not match ",
        _neither(SERVING_USAGES, (DIGITAL_SIGNATURE, SERVER_AUTH)),
        _REMOVE_USAGES,
    ),
    _COMMON_NAME_IS_NODE,
)

# ValidateKubeletClientCSR, the same file, in its order.
_KUBELET_CLIENT_RULES = (
    _ORGANIZATION_IS_NODES,
    SignerRule(
        "DNS subjectAltNames are not allowed",
        _when(lambda request: request.dns_names),
        "Ask for no DNS name. This signer issues client certificates for kubelets.",
    ),
    _NO_EMAIL,
    SignerRule(
        "IP subjectAltNames are not allowed",
        _when(lambda request: request.ip_addresses),
        "Ask for no IP address. This signer issues client certificates for kubelets.",
    ),
    _NO_URI,
    _COMMON_NAME_IS_NODE,
    SignerRule(
        "usages did not match ",
        _neither(CLIENT_USAGES, (DIGITAL_SIGNATURE, CLIENT_AUTH)),
        _REMOVE_USAGES,
    ),
)

_CLIENT_RULES = (
    # k/k plugin/pkg/admission/certificates/subjectrestriction: refused at create.
    SignerRule(
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        _when(lambda request: "system:masters" in request.organizations),
        "Use another group, and bind the ClusterRole that it needs.",
    ),
    # validAPIServerClientUsages, k/k pkg/controller/certificates/signer/signer.go.
    SignerRule(
        "invalid usage for client certificate: ",
        _beyond(CLIENT_USAGES),
        f"This signer issues only client certificates. For the certificate of a webhook use {KUBELET_SERVING}, "
        f"on Amazon EKS {EKS_APP_SERVING}.",
    ),
    SignerRule(
        "missing required usage for client certificate: client auth",
        _when(lambda request: CLIENT_AUTH not in request.usages),
        _REMOVE_USAGES,
    ),
)

_EKS_RULES = (
    SignerRule(
        f"{EKS_APP_SERVING} issues no certificate with the usage ",
        _beyond(SERVING_USAGES),
        "Remove usages. This signer issues only serving certificates.",
    ),
    # The API server and kube-controller-manager accept all keys of Go's crypto/x509, also Ed25519. AWS documents no types of
    # keys and shows RSA. Its signer ignores other requests silently.
    SignerRule(
        f"{EKS_APP_SERVING} is not known to take keys of type ",
        lambda request: [request.key_type] if request.key_type == "ed25519" else [],
        "Use an ECDSA or RSA key.",
    ),
)

_EPHEMERAL_RULES = (
    SignerRule(
        "it makes only serving certificates for webhooks, and none with the usage ",
        _beyond(SERVING_USAGES),
        "Remove usages. For a client certificate use a signer whose CA the server trusts. For the API server that is "
        f"{KUBE_APISERVER_CLIENT}.",
    ),
)

_CSR_PAGE = (
    "https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers"
)
_HELPERS = f"{_CSR_PAGE}; kubernetes/kubernetes pkg/apis/certificates/helpers.go"
# https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html

SIGNERS: dict[str, Signer] = {
    row.name: row
    for row in (
        Signer(
            KUBELET_SERVING,
            # Not only the name of the Service, which could be the name of a node. The last template always fits.
            common_names=(
                "system:node:{service}.{namespace}.svc",
                "system:node:{service}.{namespace}",
                "system:node:webhook.svc",
            ),
            organizations=("system:nodes",),
            rules=_KUBELET_SERVING_RULES,
            # kube-controller-manager --cluster-signing-duration sets the longest lifetime, 365 d by default.
            flag="kubelet-serving",
            source=_HELPERS,
        ),
        Signer(
            KUBE_APISERVER_CLIENT,
            purpose="client",
            usages=CLIENT_USAGES,
            common_names=(),
            rules=_CLIENT_RULES,
            flag="kube-apiserver-client",
            source=f"{_CSR_PAGE}; kubernetes/kubernetes pkg/controller/certificates/signer/signer.go",
        ),
        Signer(
            KUBE_APISERVER_CLIENT_KUBELET,
            purpose="client",
            usages=CLIENT_USAGES,
            common_names=(),
            organizations=("system:nodes",),
            rules=_KUBELET_CLIENT_RULES,
            flag="kubelet-client",
            source=_HELPERS,
        ),
        Signer(
            LEGACY_UNKNOWN,
            unusable="certificates.k8s.io/v1 does not accept it, because it belongs to v1beta1, which Kubernetes 1.22 removed",
            flag="legacy-unknown",
        ),
        Signer(
            EKS_APP_SERVING,
            rules=_EKS_RULES,
            longest_lifetime_seconds=YEAR_SECONDS,
        ),
        # Not a signer of a cluster, so its name has no <domain>/<path>: a CA in the memory of this process, for one signature.
        Signer(
            EPHEMERAL_CA,
            rules=_EPHEMERAL_RULES,
            own_lifetime_seconds=YEAR_SECONDS,  # The default of kube-controller-manager.
            ca_key="ca.crt",  # The next run finds the CA there. It is published nowhere else.
        ),
    )
}

# Any other signer of the form <domain>/<path>. Its rules are not known (KEP-1513).
GENERIC = Signer("*")


def find_signer(name: str) -> Signer:
    """Return the row of a signer. For a signer without a row, return the generic row under its name.

    Raises RequestError for a name that the API server refuses, and for legacy-unknown.
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
    """Return the messages with which the API server or this signer would refuse the request, in their order."""
    return [rule.text + part for rule in (*API_RULES, *row.rules) for part in rule.refuses(request)]


def remedy_for(signer_name: str, message: str) -> str:
    """Return the remedy for a message of a signer or the API server, or "" if no rule has this message."""
    rules = (*API_RULES, *SIGNERS.get(signer_name, GENERIC).rules)
    return next((rule.remedy for rule in rules if rule.text in message), "")


def check_usages(usages: Iterable[str]) -> None:
    """Raise RequestError for a usage that this collection never asks for."""
    unexpected = unexpected_usages(usages)
    if unexpected:
        raise RequestError(
            f"this collection requests no certificate with the usage {', '.join(unexpected)}",
            evidence=unexpected,
            remedy="Remove it from usages. A serving certificate needs server auth, a client certificate client auth.",
        )


def check_purpose(row: Signer, service: str) -> None:
    """Raise RequestError for a signer of client certificates, because the webhook of a Service needs a serving certificate."""
    if service and row.purpose == "client":
        raise RequestError(
            f"the signer {row.name} issues client certificates, and the Service {service} needs a serving certificate",
            code="client-identity-not-allowed",
            remedy=f"Set signer_name to {KUBELET_SERVING}, on Amazon EKS to {EKS_APP_SERVING}, or remove it, so that the "
            "provider decides",
        )


def check_client_identity(
    usages: Iterable[str],
    *,
    allowed: bool,
    common_name: str,
    organizations: Sequence[str] | None,
    service: str = "",
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
            remedy=f"Remove usages. The Service {service} needs a serving certificate"
            if service
            else "Set allow_client_identity: true, common_name and organizations if that is intended.",
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
    """Return common name and organizations: those of the task, else the defaults of the signer.

    Raises RequestError for a part of more than 64 bytes or with half a surrogate, and if there is no common name.
    """
    groups = row.organizations if organizations is None else tuple(organizations)
    _check_length("common_name", common_name, "clients verify the subjectAltName, not the common name")
    for group in groups:
        _check_length(
            "organization",
            group,
            "for a client certificate bind the permissions to a group with a shorter name",
        )
    if common_name:
        return common_name, groups
    candidates = (text.format(service=service, namespace=namespace) for text in row.common_names)
    fitting = next((text for text in candidates if len(text) <= LONGEST_IN_SUBJECT), None)
    if fitting is None:
        raise RequestError(
            f"the signer {row.name} issues client certificates, and common_name is missing",
            remedy="Set common_name to the name of the user, and allow_client_identity: true.",
        )
    return fitting, groups


def _check_length(what: str, text: str, remedy: str) -> None:
    octets = text.encode("utf-8", "replace")
    if len(octets) > LONGEST_IN_SUBJECT or octets.decode() != text:  # half a surrogate became "?"
        raise RequestError(
            f"the {what} {text!r} has {len(octets)} bytes or half a surrogate, and a certificate can hold {LONGEST_IN_SUBJECT} bytes "
            "of valid Unicode",
            remedy=f"Shorten or correct it: {remedy}.",
        )


_PATH = re.compile(rf"{DNS_LABEL}(\.{DNS_LABEL})*")


def _check_name(name: str) -> None:
    """Raise RequestError unless the name is a domain with a dot, one slash and a path of DNS labels (ValidateSignerName)."""
    domain, slash, path = name.partition("/")
    well_formed = slash and is_dns_name(domain) and "." in domain and _PATH.fullmatch(path)
    if not well_formed or len(name) > 571:
        raise RequestError(
            f"the signer_name {name!r} is not of the form <domain>/<path>",
            remedy=f"Use a full name such as {KUBELET_SERVING} or example.com/my-signer, or {EPHEMERAL_CA}.",
        )
