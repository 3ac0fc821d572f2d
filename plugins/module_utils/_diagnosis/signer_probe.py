# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Throw-away requests, which show whether a signer issues certificates here. Pure.

Each asks for names that belong to no Service and no user, for ten minutes. Its key is discarded before the request is
sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .._base.times import parse_time
from .._csr import csr_api, markers, signers
from .._csr.csr_api import Decision
from .._csr.csr_content import certificate_of, condition_of
from .._csr.errors import RequestError
from .._csr.intent import MANAGED_BY, Intent, intent_from
from .._csr.providers import PROVIDERS
from .._x509 import private_keys
from .diagnosis import PROVEN, Diagnosis

# The namespace in the names of a probe. It need not exist.
NAMESPACE = "certflow-signer-probe"
# The namespace whose ConfigMap kube-root-ca.crt is read. It exists in every cluster.
CA_NAMESPACE = "kube-system"
LIFETIME_SECONDS = signers.SHORTEST_LIFETIME_SECONDS
# No run takes this long, so an older request was left behind by a run that was killed.
ABANDONED_AFTER = timedelta(seconds=LIFETIME_SECONDS)
MAKER = "k8s_signer_probe of the Ansible collection certflow.kubernetes"
_PURPOSE = (
    "Its private key was discarded before it was sent. Its names belong to no Service and no user. Its certificate is "
    f"stored nowhere and expires after {LIFETIME_SECONDS} seconds. The request is deleted as soon as it is answered."
)


@dataclass(frozen=True)
class SignerProbe:
    """One throw-away request."""

    #: The certificate that is requested.
    intent: Intent
    #: The part of names and labels that belongs to one run.
    token: str
    #: The PKCS#10 request as PEM text. Its private key does not exist any more.
    request_pem: str
    public_key_sha256: str

    @property
    def signer_name(self) -> str:
        return self.intent.signer.name

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the request: its purpose for people, and the run that created it."""
        return {
            "name": csr_api.name_for(self.intent, self.public_key_sha256),
            "labels": {MANAGED_BY: markers.MANAGER, markers.PROBE: self.token},
            "annotations": {markers.PURPOSE: f"Throw-away request of {MAKER}. {_PURPOSE}"},
        }

    @property
    def approval(self) -> Decision:
        message = f"Throw-away request of {MAKER}. It shows whether {self.signer_name} issues certificates here. {_PURPOSE}"
        return Decision("Approved", "CertflowSignerProbe", message)


def serving_signers() -> tuple[str, ...]:
    """Return the cluster signers that the table of providers names for serving certificates, each once."""
    named = dict.fromkeys(row.serving_signer for row in PROVIDERS)
    return tuple(name for name in named if name and signers.find_signer(name).is_asked)


def probes(signer_names: Iterable[str], token: str) -> tuple[SignerProbe, ...]:
    """Return a probe for each signer.

    token: the part of names and labels that belongs to this run, in characters of a DNS label.

    Raises RequestError for a signer that takes no requests.
    """
    return tuple(_probe(name, token) for name in dict.fromkeys(signer_names))


def _probe(signer_name: str, token: str) -> SignerProbe:
    row = signers.find_signer(signer_name)
    if not row.is_asked:
        raise RequestError(
            f"{signer_name} is not a signer of the cluster. No request is sent to it, so it cannot be probed",
            remedy="Remove it from signers",
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
    return SignerProbe(
        intent, token, csr_api.build_pkcs10(intent, key), private_keys.public_key_sha256(key.public_key())
    )


def _user(row: signers.Signer, token: str) -> dict[str, Any]:
    """Return the subject of a user that does not exist, with only those groups that the signer requires."""
    prefix = "system:node:" if "system:nodes" in row.organizations else ""
    return {
        "common_name": f"{prefix}{NAMESPACE}-{token}",
        "organizations": list(row.organizations),
        "allow_client_identity": True,
    }


def is_left_over(csr: Mapping[str, Any], token: str, now: datetime) -> bool:
    """Return True if the request belongs to this run, or was left behind by a run that was killed."""
    age = now - parse_time(csr["metadata"]["creationTimestamp"])
    return csr["metadata"]["labels"].get(markers.PROBE) == token or age > ABANDONED_AFTER


def is_answered(csr: Mapping[str, Any]) -> bool:
    return bool(certificate_of(csr)) or csr_api.is_over(csr)


def may_not_approve(probe: SignerProbe, remedy: str) -> Diagnosis:
    return Diagnosis(
        "may-not-approve",
        f"This identity has no permission to approve requests for {probe.signer_name}, so it was not probed.",
        PROVEN,
        ("SelfSubjectAccessReview: no",),
        remedy,
    )


def refused(probe: SignerProbe, step: str, message: str) -> Diagnosis:
    """Return the diagnosis for a request that the API server refused to create or to approve.

    step: "create" or "approve".
    """
    return Diagnosis(
        "request-refused",
        f"The API server refused to {step} a request for {probe.signer_name}: {message.rstrip('.')}.",
        PROVEN,
        (),
        "Ask the administrator of this cluster to allow it: an admission policy or an admission webhook refuses it.",
    )


def unusable(probe: SignerProbe, fault: str) -> Diagnosis:
    return Diagnosis(
        "not-as-asked",
        f"k8s_csr would refuse the certificate that {probe.signer_name} issued: {fault.rstrip('.')}.",
        PROVEN,
        (),
        "Ask the operator of this signer why the certificate differs from the request.",
    )


def deleted(csr: Mapping[str, Any]) -> Diagnosis:
    approved = condition_of(csr, "Approved") or {}
    name = csr["metadata"]["name"]
    return Diagnosis(
        "deleted",
        f"Request {name} was deleted before it was issued, and not by this run.",
        PROVEN,
        (f"approved at {approved.get('lastUpdateTime', 'an unknown time')}",),
        "Find the user who deleted it in the audit log of the API server: an operator or a controller that removes "
        "requests.",
    )
