# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the fields of a CertificateSigningRequest object: the request, its usages, its requester and its conditions."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..._base.errors import check_shape
from ..._x509 import certificate_facts, signing_request
from ..._x509.errors import RequestNotCanonical
from ..errors import RequestError

GROUP = "certificates.k8s.io"
COLLECTION = f"/apis/{GROUP}/v1/certificatesigningrequests"
#: The newest certificates of CSRs that are kept. One of a signer of the cluster is usually among them.
MOST_ISSUED = 50
_PLAIN_NAME = re.compile("[a-z0-9][a-z0-9.-]{0,252}")


def is_plain_name(name: str) -> bool:
    """Return True for a name that is safe in a command line. The API server accepts nearly every text as a name."""
    return _PLAIN_NAME.fullmatch(name) is not None


def command_name(name: str) -> str:
    """Return the name of a request for a command line, with a placeholder for a name that is not plain."""
    return name if is_plain_name(name) else "NAME"


@dataclass(frozen=True)
class RequestContent:
    """The content of one CSR object.

    request: the content of its PKCS#10. Empty if there is a fault.
    fault: the reason why its PKCS#10 cannot be compared, as a clause, or "".
    annotations: those of the object. Some signers obey them.
    """

    signer_name: str
    usages: tuple[str, ...]
    requester: str
    expiration_seconds: int | None
    request: signing_request.RequestFacts
    fault: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@check_shape("the CSR object")
def content_of(csr: Mapping[str, Any]) -> RequestContent:
    """Read a CSR object of certificates.k8s.io/v1.

    For a request that is not in canonical form, the RequestContent has a fault.
    Raises RequestError if its request is not base64, MalformedObject if it is not a CSR object.
    """
    spec, metadata = csr["spec"], csr["metadata"]
    # Replace characters outside ASCII by one that no canonical request has.
    pem = _decoded(spec["request"], f"the request of CSR {metadata['name']!r}", errors="replace")
    content = RequestContent(
        signer_name=spec["signerName"],
        usages=tuple(spec.get("usages") or ()),
        requester=spec.get("username", ""),
        expiration_seconds=spec.get("expirationSeconds"),
        request=signing_request.NOTHING,
        annotations=dict(metadata.get("annotations") or {}),
    )
    try:
        return replace(content, request=signing_request.parse(pem))
    except RequestNotCanonical as error:
        return replace(content, fault=error.cause)


@check_shape("the CSR object")
def certificate_of(csr: Mapping[str, Any]) -> str:
    """Return status.certificate as PEM text, or "" if there is no certificate. Raise RequestError if it is not base64.

    The API server accepts any bytes outside the PEM blocks (k/k pkg/apis/certificates/validation).
    """
    encoded = (csr.get("status") or {}).get("certificate") or ""
    return _decoded(encoded, f"the certificate of CSR {csr['metadata']['name']!r}", errors="replace")


@check_shape("a CertificateSigningRequest")
def newest_issued(csrs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the certificates of the newest CSRs by the names of the CSRs."""
    newest = sorted(csrs, key=lambda csr: str(csr["metadata"].get("creationTimestamp")), reverse=True)
    issued = (
        (f"CertificateSigningRequest {csr['metadata']['name']}", pem)
        for csr in newest
        if (pem := certificate_facts.decoded_certificate((csr.get("status") or {}).get("certificate")))
    )
    return dict(itertools.islice(issued, MOST_ISSUED))


@check_shape("the CSR object")
def conditions(csr: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the conditions that are True. In v1, Approved and Denied have no other status."""
    entries = (csr.get("status") or {}).get("conditions") or ()
    return tuple(entry for entry in entries if entry.get("status", "True") == "True")


def condition_of(csr: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Return the condition of a type ("Approved", "Denied", "Failed"), or None."""
    return next((entry for entry in conditions(csr) if entry.get("type") == kind), None)


def condition_text(csr: Mapping[str, Any]) -> str:
    """Return the column CONDITION of `kubectl get csr`, such as "Pending" or "Approved,Issued"."""
    kinds = [entry.get("type") for entry in conditions(csr)]
    if "Denied" in kinds:
        parts = ["Denied"]
    elif "Approved" in kinds:
        parts = ["Approved"]
    else:
        parts = ["Pending"]
    if "Failed" in kinds:
        parts.append("Failed")
    if (csr.get("status") or {}).get("certificate"):
        parts.append("Issued")
    return ",".join(parts)


def _decoded(text: str, what: str, *, errors: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("ascii", errors)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{what} is not PEM in base64", remedy="Find out who made it, and delete it if it is not needed"
        ) from error


# The assumed role, without the session's name (aws-iam-authenticator, pkg/server/server.go). kube-apiserver writes keys of
# extra that come in headers in lower case (impersonation, authenticating proxy), so both spellings exist.
CANONICAL_ARN = "canonicalarn"
# Two requests have one identity if one of these fields is equal and not empty.
MARKS = ("username", "uid", "canonical_arn")


@dataclass(frozen=True)
class Requester:
    """A user as the API server knows it.

    username: the name. For an assumed role it may contain the session's name, and then it changes with each session.
    uid: the UID. Empty for most ways to authenticate.
    groups: the groups of the user.
    canonical_arn: the extra ``canonicalArn`` of EKS. Empty unless it has exactly one value.
    """

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    canonical_arn: str = ""

    def __str__(self) -> str:
        marks = (("uid", self.uid), ("canonicalArn", self.canonical_arn))
        more = ", ".join(f"{name} {value!r}" for name, value in marks if value)
        return f"{self.username!r} ({more})" if more else repr(self.username)

    def as_result(self) -> dict[str, Any]:
        """Return the requester as results show it."""
        return {
            "username": self.username,
            "uid": self.uid,
            "groups": list(self.groups),
            "canonical_arn": self.canonical_arn,
        }


@check_shape("the CSR object")
def requester_of(csr: Mapping[str, Any]) -> Requester:
    """Return the requester. Raises MalformedObject."""
    spec = csr.get("spec") or {}
    extra = (spec.get("extra") or {}).items()
    arns = {arn for key, values in extra if key.lower() == CANONICAL_ARN for arn in values}
    return Requester(
        username=spec.get("username") or "",
        uid=spec.get("uid") or "",
        groups=tuple(spec.get("groups") or ()),
        canonical_arn=arns.pop() if len(arns) == 1 else "",
    )


def is_same(own: Requester | None, other: Requester, accepted: Collection[str] = ()) -> bool:
    """Return True if ``other`` is the identity ``own``, or if its user name is accepted.

    own: None if it is not known. accepted: the user names of the option ``requesters``.
    """
    is_accepted = bool(other.username) and other.username in accepted
    known = own or Requester()
    return is_accepted or any(
        getattr(known, mark) and getattr(known, mark) == getattr(other, mark) for mark in MARKS
    )
