# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the options of a task into an Intent, and check it before anything is read or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from .._base.accept import NOTHING, Consent
from .._base.times import find_duration
from . import name_policy
from .errors import RequestError
from .issuing import signers
from .issuing.signers import CertificateRequest, Signer
from .name_policy import GuardedNames
from .usages import CLIENT_AUTH, SERVER_AUTH

# The label and the prefix by which this collection recognises its own objects (see markers.py).
MANAGED_BY = "app.kubernetes.io/managed-by"
PREFIX = "certflow.kubernetes/"
PENDING_SUFFIX = "-pending"
TLS_TYPE = "kubernetes.io/tls"
TLS_KEYS = ("tls.crt", "tls.key")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")  # the API server's rule for keys in Secrets
_NO_SIGNER = replace(signers.GENERIC, common_names=("",))


@dataclass(frozen=True)
class SecretSpec:
    """The Secret that the workload reads."""

    namespace: str
    name: str
    type: str = TLS_TYPE
    #: The key of its data for the certificate.
    certificate_key: str = "tls.crt"
    #: The key of its data for the private key.
    private_key_key: str = "tls.key"
    #: The key of its data for the CA, or "" for no CA.
    ca_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    @property
    def collection(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def data_keys(self) -> frozenset[str]:
        return frozenset(filter(None, (self.certificate_key, self.private_key_key, self.ca_key)))


@dataclass(frozen=True)
class Intent:
    """One certificate: its Service or user, its signer, and its Secret."""

    #: "" for a certificate that does not belong to a Service.
    service: str
    namespace: str
    signer: Signer
    request: CertificateRequest
    secret: SecretSpec
    #: The short names of the Service that the task does not spell out. No API server asks for them.
    default_names: tuple[str, ...] = ()
    allow_names: tuple[str, ...] = ()
    allow_client_identity: bool = False
    #: None for the default of certificate_rules.renewal_margin.
    renew_before: timedelta | None = None
    #: "verified", "chain" or "leaf".
    trust: str = "verified"
    #: CAs that may vouch for the certificate, as PEM text.
    ca_bundle: str = ""
    accept: Consent = NOTHING
    #: True if a certificate that another signer issued stays until its renewal is due.
    keeps_signer: bool = False
    approve: bool = True
    #: More user names of this task's identity.
    requesters: tuple[str, ...] = ()
    wait: bool = True
    #: Seconds.
    wait_timeout: int = 120

    @property
    def service_name(self) -> tuple[str, str] | None:
        """Return namespace and name of the Service, None for a certificate without a Service."""
        return (self.namespace, self.service) if self.service else None

    @property
    def is_client(self) -> bool:
        """True for a client certificate, which has no host name to verify."""
        return SERVER_AUTH not in self.request.usages

    @property
    def verified_name(self) -> str | None:
        """The name under which clients verify the certificate: the one that the API server calls, else the first one."""
        if self.is_client:
            return None
        names = (*self.request.dns_names, *self.request.ip_addresses)
        own = name_policy.service_names(self.service, self.namespace)[-1] if self.service else ""
        return own if own in names else next(iter(names), None)

    def __str__(self) -> str:
        if self.service:
            return f"certificate of Service {self.namespace}/{self.service}"
        user = self.request.common_name
        return f"certificate of user {user}" if user else f"certificate in {self.secret}"


def intent_from(parameters: Mapping[str, Any], consent: Consent = NOTHING) -> Intent:
    """Read the options of k8s_csr. Raise RequestError for a request that cannot be made.

    consent: the option accept.

    With ``state: absent`` no certificate is requested, so no signer is needed and no request is checked.
    """
    service, namespace = parameters.get("service") or "", parameters["namespace"]
    is_asked_for = parameters.get("state") != "absent"
    row = signers.find_signer(parameters["signer_name"]) if is_asked_for else _NO_SIGNER
    secret = _secret_spec(parameters["secret"], namespace, row)
    if service:
        name_policy.check_object_names(service=service, namespace=namespace, secret=secret.name)
    allow = tuple(parameters.get("allow_names") or ())
    request = _request(parameters, row, service, namespace)
    written, _addresses = name_policy.split_names(parameters.get("names") or ())
    short = name_policy.service_names(service, namespace)[:-1] if service else ()
    if is_asked_for:
        _check(parameters, row, request, allow)
        _check_waiting_key(parameters, secret)
    return Intent(
        service=service,
        namespace=namespace,
        signer=row,
        request=request,
        secret=secret,
        default_names=tuple(name for name in short if name not in written),
        allow_names=allow,
        allow_client_identity=bool(parameters.get("allow_client_identity")),
        renew_before=parse_duration(parameters["renew_before"]) if parameters.get("renew_before") else None,
        trust=parameters.get("trust") or "verified",
        ca_bundle=parameters.get("ca_bundle") or "",
        accept=consent,
        approve=bool(parameters.get("approve", True)),
        requesters=tuple(parameters.get("requesters") or ()),
        wait=bool(parameters.get("wait", True)),
        wait_timeout=parameters.get("wait_timeout") or Intent.wait_timeout,
    )


def parse_duration(text: str) -> timedelta:
    """Read a duration such as "30d", "12h" or "90m". Without a unit it is in seconds. Raise RequestError."""
    length = find_duration(text)
    if length is None:
        raise RequestError(
            f"the value {text!r} of renew_before is not a duration",
            remedy="Use a number with s, m, h or d, such as 30d",
        )
    return length


def _request(parameters: Mapping[str, Any], row: Signer, service: str, namespace: str) -> CertificateRequest:
    usages = tuple(parameters.get("usages") or row.usages)
    if row is not _NO_SIGNER and not parameters.get("allow_client_identity"):
        signers.check_purpose(row, service)
    own = name_policy.service_names(service, namespace) if service and SERVER_AUTH in usages else ()
    common_name, organizations = signers.subject_for(
        row, service, namespace, parameters.get("common_name") or "", parameters.get("organizations")
    )
    # Without the normal spelling, the certificate would differ from the request at every run.
    dns_names, ip_addresses = name_policy.split_names((*own, *(parameters.get("names") or ())))
    return CertificateRequest(
        common_name=common_name,
        organizations=organizations,
        dns_names=dns_names,
        ip_addresses=ip_addresses,
        usages=usages,
        key_type=parameters.get("key_type") or "ecdsa-p256",
        expiration_seconds=parameters.get("expiration_seconds"),
    )


def _check(
    parameters: Mapping[str, Any], row: Signer, request: CertificateRequest, allow: tuple[str, ...]
) -> None:
    """Raise RequestError for the first thing that this collection, the API server or the signer would refuse."""
    name_policy.check_names((*request.dns_names, *request.ip_addresses))
    if not row.is_asked:
        if not parameters.get("approve", True):  # no second person could check it
            raise RequestError(
                f"{row.name} creates no CSR, so no other identity can approve it (approve: false)",
                remedy="Remove approve, or set signer_name to a signer of the cluster",
            )
        _refuse(row, request)  # Before the check of client certificates, which it does not issue.
    if not {SERVER_AUTH, CLIENT_AUTH} & set(request.usages):
        raise RequestError(
            f"the usages {', '.join(request.usages)} are for neither a serving certificate nor a client certificate",
            remedy="Remove usages to get the signer's default, or add server auth or client auth",
        )
    if SERVER_AUTH in request.usages and not (request.dns_names or request.ip_addresses):
        raise RequestError("a serving certificate needs a name", remedy="Set service or names")
    refuse_forbidden_names(request, parameters.get("service") or "", parameters["namespace"], allow)
    signers.check_client_identity(
        request.usages,
        allowed=bool(parameters.get("allow_client_identity")),
        common_name=parameters.get("common_name") or "",
        organizations=parameters.get("organizations"),
        service=parameters.get("service") or "",
    )
    _refuse(row, request)
    # After the check of the signer, whose message names the usages that it accepts.
    signers.check_usages(request.usages)


def _refuse(row: Signer, request: CertificateRequest) -> None:
    for refusal in signers.list_refusals(row, request):
        raise RequestError(
            f"the signer {row.name} would refuse the CSR: {refusal}",
            remedy=signers.remedy_for(row.name, refusal),
        )


def _check_waiting_key(parameters: Mapping[str, Any], secret: SecretSpec) -> None:
    """Raise RequestError if the Secret for the waiting key would have a name that is too long."""
    longest = name_policy.LONGEST_DNS_NAME - len(PENDING_SUFFIX)
    if not parameters.get("approve", True) and len(secret.name) > longest:
        raise RequestError(
            f"{secret} has a name of {len(secret.name)} characters: with approve: false, its key waits in a Secret whose "
            f"name ends in {PENDING_SUFFIX}, which would be too long",
            remedy=f"Set secret.name to a name of at most {longest} characters",
        )


def refuse_forbidden_names(
    request: CertificateRequest,
    service: str,
    namespace: str,
    allow: tuple[str, ...],
    cluster: GuardedNames = name_policy.NOTHING_GUARDED,
) -> None:
    """Raise RequestError for a name that is requested only if the task lists it in allow_names."""
    for refusal in name_policy.forbidden_names(
        request.dns_names,
        request.ip_addresses,
        service=service,
        namespace=namespace,
        allow=allow,
        cluster=cluster,
    ):
        raise RequestError(
            f"the name {refusal.name!r} is not requested: {refusal.reason}",
            remedy=f"If the certificate needs this name, add it to allow_names: [{refusal.name!r}]",
        )


def _secret_spec(option: Mapping[str, Any], namespace: str, row: Signer) -> SecretSpec:
    spec = SecretSpec(
        namespace=namespace,
        name=option["name"],
        type=option.get("type") or TLS_TYPE,
        certificate_key=option.get("certificate_key") or TLS_KEYS[0],
        private_key_key=option.get("private_key_key") or TLS_KEYS[1],
        ca_key=option.get("ca_key") or row.ca_key,
        labels=dict(option.get("labels") or {}),
        annotations=dict(option.get("annotations") or {}),
    )
    name_policy.check_object_names(service="unnamed", namespace=namespace, secret=spec.name)
    _check_data_keys(spec)
    for place in ("labels", "annotations"):
        _check_metadata(spec, place, getattr(spec, place))
    return spec


def _check_data_keys(spec: SecretSpec) -> None:
    keys = [spec.certificate_key, spec.private_key_key, *filter(None, [spec.ca_key])]
    if len(set(keys)) != len(keys):
        raise RequestError(
            f"{spec}: two parts would have the same key in its data: {', '.join(keys)}",
            remedy="Set certificate_key, private_key_key and ca_key to different names",
        )
    for key in keys:
        # k/k pkg/apis/core/validation: IsConfigMapKey
        if not _DATA_KEY.fullmatch(key) or key in (".", ".."):
            raise RequestError(
                f"{spec}: {key!r} is not a valid key of its data", remedy="Use letters, digits, -, _ and ."
            )
    if spec.type == TLS_TYPE and (spec.certificate_key, spec.private_key_key) != TLS_KEYS:
        raise RequestError(
            f"{spec}: type {TLS_TYPE} holds tls.crt and tls.key, not {spec.certificate_key} and {spec.private_key_key}",
            remedy="Set secret.type: Opaque for other keys",
        )


def _check_metadata(spec: SecretSpec, place: str, entries: Mapping[Any, Any]) -> None:
    for key, value in entries.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise RequestError(
                f"{spec}: {place} must be text, and {key}: {value} is not",
                remedy=f"Quote it in secret.{place}: '{key}': '{value}'",
            )
        if key == MANAGED_BY or key.startswith(PREFIX):
            raise RequestError(
                f"{spec}: {key} in {place} is reserved, because this collection recognises its own Secrets by it",
                remedy=f"Remove it from secret.{place}",
            )
