# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Throw-away requests, which show whether a signer issues: what they ask for, and what they tell an auditor. Pure.

Each asks for names that are nobody's, for ten minutes, with a key that is gone before the request is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .._csr import csr_api, markers, signers
from .._csr.csr_api import Decision
from .._csr.csr_content import certificate_of, condition_of, time_of
from .._csr.errors import RequestError
from .._csr.intent import MANAGED_BY, Intent, intent_from
from .._csr.providers import PROVIDERS
from .._x509 import private_keys
from .diagnosis import PROVEN, Diagnosis

# No namespace has to exist for a name in a certificate; the Service's part is random.
NAMESPACE = "certflow-signer-probe"
# Every namespace has the ConfigMap kube-root-ca.crt, and this namespace is always there.
CA_NAMESPACE = "kube-system"
LIFETIME_SECONDS = signers.SHORTEST_LIFETIME_SECONDS
# No run takes as long: an older request is one that a run which was killed left behind.
ABANDONED_AFTER = timedelta(seconds=LIFETIME_SECONDS)
MAKER = "k8s_signer_probe of the Ansible collection certflow.kubernetes"


@dataclass(frozen=True)
class Probe:
    """One throw-away request. request_pem: what is sent; its private key exists no more."""

    intent: Intent
    token: str
    request_pem: str
    public_key_sha256: str

    @property
    def signer_name(self) -> str:
        return self.intent.signer.name

    @property
    def metadata(self) -> dict[str, Any]:
        """How anybody who lists requests knows what this one is, and this collection whose run made it."""
        return {
            "name": csr_api.name_for(self.intent, self.public_key_sha256),
            "labels": {MANAGED_BY: markers.MANAGER, markers.PROBE: self.token},
            "annotations": {markers.PURPOSE: f"Throw-away request of {MAKER}: {_PURPOSE}"},
        }

    @property
    def approval(self) -> Decision:
        message = (
            f"Throw-away request of {MAKER}: it shows whether {self.signer_name} issues here. {_PURPOSE}"
        )
        return Decision("Approved", "CertflowSignerProbe", message)


_PURPOSE = (
    "Its private key was thrown away before it was sent, its names are nobody's, its certificate is stored nowhere and "
    f"ends after {LIFETIME_SECONDS} seconds, and the request is deleted as soon as it is answered."
)


def serving_signers() -> tuple[str, ...]:
    """The signers of clusters that the table of providers knows for serving certificates, each once."""
    named = dict.fromkeys(row.serving_signer for row in PROVIDERS)
    return tuple(name for name in named if name and signers.signer(name).is_asked)


def probes(signer_names: Iterable[str], token: str) -> tuple[Probe, ...]:
    """A request for each signer. token: makes this run's names and labels its own, DNS label characters.

    Raises RequestError for a signer that cannot be asked.
    """
    return tuple(_probe(name, token) for name in dict.fromkeys(signer_names))


def _probe(signer_name: str, token: str) -> Probe:
    row = signers.signer(signer_name)
    if not row.is_asked:
        raise RequestError(
            f"{signer_name} is no signer of the cluster: nothing is sent to it, so there is nothing to probe",
            remedy="leave it out of signers",
        )
    options: dict[str, Any] = {
        "signer_name": signer_name,
        "namespace": NAMESPACE,
        "secret": {"name": f"probe-{token}"},
        "expiration_seconds": LIFETIME_SECONDS,
        **(_user(row, token) if row.purpose == "client" else {"service": f"probe-{token}"}),
    }
    intent = intent_from(options)
    intent = replace(intent, secret=replace(intent.secret, namespace=CA_NAMESPACE))
    key = private_keys.generate(intent.request.key_type)
    return Probe(intent, token, csr_api.pkcs10(intent, key), private_keys.public_key_sha256(key.public_key()))


def _user(row: signers.Signer, token: str) -> dict[str, Any]:
    """A user that nobody is and that is in no group of rights, beside those that this signer insists on."""
    prefix = "system:node:" if "system:nodes" in row.organizations else ""
    return {
        "common_name": f"{prefix}{NAMESPACE}-{token}",
        "organizations": list(row.organizations),
        "allow_client_identity": True,
    }


def is_left_over(csr: Mapping[str, Any], token: str, now: datetime) -> bool:
    """Whether a probe's request is to be deleted: this run's, or one that a run which was killed left behind."""
    age = now - time_of(csr["metadata"]["creationTimestamp"])
    return csr["metadata"]["labels"].get(markers.PROBE) == token or age > ABANDONED_AFTER


def is_answered(csr: Mapping[str, Any]) -> bool:
    return bool(certificate_of(csr)) or csr_api.is_over(csr)


def may_not_approve(probe: Probe, remedy: str) -> Diagnosis:
    return Diagnosis(
        "may-not-approve",
        f"This identity may not approve requests for {probe.signer_name}, so it was not probed.",
        PROVEN,
        ("SelfSubjectAccessReview: no",),
        remedy,
    )


def refused(probe: Probe, step: str, message: str) -> Diagnosis:
    """step: "create" or "approve"."""
    return Diagnosis(
        "request-refused",
        f"The API server refused to {step} a request for {probe.signer_name}: {message.rstrip('.')}.",
        PROVEN,
        (),
        "An admission policy or webhook of this cluster is against it: settle it with whoever runs that.",
    )


def unusable(probe: Probe, fault: str) -> Diagnosis:
    return Diagnosis(
        "not-as-asked",
        f"k8s_csr would refuse what {probe.signer_name} issued: {fault.rstrip('.')}.",
        PROVEN,
        (),
        "Ask whoever runs this signer why it issues something else than it was asked for.",
    )


def deleted(csr: Mapping[str, Any]) -> Diagnosis:
    approved = condition_of(csr, "Approved") or {}
    name = csr["metadata"]["name"]
    return Diagnosis(
        "deleted",
        f"Request {name} was deleted by somebody else before it was issued.",
        PROVEN,
        (f"approved at {approved.get('lastUpdateTime', 'an unknown time')}",),
        "The API server's audit log names who did it: an operator or a garbage collector of requests.",
    )
