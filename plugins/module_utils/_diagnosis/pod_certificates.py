# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read PodCertificateRequests (KEP-4317), and explain those that are not issued as requested.

kubelet creates such a request for a volume with the source podCertificate. The signer decides about it without an
approval, and kube-controller-manager deletes it 15 minutes after its creation.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .._base.errors import check_shape
from .._base.times import find_time
from .._csr.request.csr_content import condition_of
from .._kube.client import Client
from .._kube.errors import NotFound
from .ended import is_shorter
from .observation import LIKELY, ONE_OF, PROVEN, Diagnosis, describe_condition, show_span

ISSUED, DENIED, FAILED, PENDING = "Issued", "Denied", "Failed", "Pending"
#: v1 from Kubernetes 1.37. v1beta1 from 1.35 and v1alpha1 in 1.34, both off by default.
_VERSIONS = ("v1", "v1beta1", "v1alpha1")
_GROUP = "certificates.k8s.io"


@dataclass(frozen=True)
class PodCause:
    """One cause. It applies if all of its conditions hold."""

    code: str
    certainty: str
    #: The only condition to which it applies. PENDING stands for a request without a condition.
    condition: str
    title: str
    remedy: str
    source: str
    #: The reason of the condition, "" for any.
    reason: str = ""
    #: The prefix of the signer, "" for any.
    signer: str = ""
    #: True if it applies only to a certificate with less than the requested lifetime.
    is_shorter: bool = False


_KEP = "kubernetes/enhancements#4317"
_TYPES = "k8s.io/api certificates/v1 PodCertificateRequestSpec"
#: The first row that applies is the diagnosis.
POD_CAUSES = (
    PodCause("key-type-unsupported", PROVEN, DENIED, "The signer does not support the type of the key",
             "Set keyType of the podCertificate volume to a type that the signer supports. Its message or its documentation names them.",
             _TYPES, reason="UnsupportedKeyType"),
    PodCause("denied", PROVEN, DENIED, "The signer denied it",
             "Correct the problem that the message names, and replace the pod. kubelet does not ask again for this pod.", _KEP),
    PodCause("failed", PROVEN, FAILED, "The signer could not issue it",
             "Read the log of the signer, correct the cause, and replace the pod. kubelet does not ask again for this pod.", _KEP),
    PodCause("no-such-signer", LIKELY, PENDING, "Kubernetes has no signer of this name that issues to pods",
             "Set signerName of the podCertificate volume to a signer that is installed. Up to Kubernetes 1.37 no signer of "
             "kubernetes.io/ issues to pods.", _TYPES, signer="kubernetes.io/"),
    PodCause("pod-not-issued", ONE_OF, PENDING, "No signer of this name has answered",
             "Check that the program of the signer is installed, runs, and may list and update PodCertificateRequests. Its log has "
             "the cause.", _KEP),
    PodCause("lifetime-shortened", PROVEN, ISSUED, "The signer granted a shorter lifetime than maxExpirationSeconds",
             "Do nothing, because kubelet renews it in time. The API server accepts at most 24 hours for signers of "
             "kubernetes.io/, and 91 days for others.", _TYPES, is_shorter=True),
)  # fmt: skip
#: The diagnosis of a cluster without the API. It is not a cause of a request, because no request can exist.
NOT_SERVED = Diagnosis(
    "pod-certificates-off",
    "The API server serves no PodCertificateRequests, and drops podCertificate volumes from pods without a message.",
    PROVEN,
    tuple(f"{_GROUP}/{version} has no podcertificaterequests" for version in _VERSIONS),
    "Upgrade to Kubernetes 1.37, where the feature gate PodCertificateRequest is on, or turn it on for the API server, "
    "kube-controller-manager and kubelet. In 1.35 and 1.36 also set --runtime-config=certificates.k8s.io/v1beta1=true.",
)


def read(client: Client) -> tuple[str, list[tuple[Mapping[str, Any], Diagnosis | None]]]:
    """Return the newest API version that the API server serves, "" for none, and each request with its diagnosis.

    Raises ApiError and MalformedObject.
    """
    for version in _VERSIONS:
        with contextlib.suppress(NotFound):
            items = client.list_all(f"/apis/{_GROUP}/{version}/podcertificaterequests")["items"]
            with check_shape("a PodCertificateRequest"):
                issued = Counter(obj["spec"]["signerName"] for obj in items if state_of(obj) == ISSUED)
                diagnoses = [diagnose(obj, issued[obj["spec"]["signerName"]]) for obj in items]
            return f"{_GROUP}/{version}", list(zip(items, diagnoses))
    return "", []


def state_of(obj: Mapping[str, Any]) -> str:
    """Return the condition of a request: ISSUED, DENIED, FAILED or PENDING."""
    return next((kind for kind in (DENIED, FAILED, ISSUED) if condition_of(obj, kind)), PENDING)


def diagnose(obj: Mapping[str, Any], issued: int) -> Diagnosis | None:
    """Return why a request is not issued as requested, None if it is. Pure.

    issued: the number of issued requests of its signer.
    """
    state, metadata, spec, status = state_of(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    name = f"PodCertificateRequest {metadata['namespace']}/{metadata['name']} for the signer {spec['signerName']}"
    condition = condition_of(obj, state) or {}
    begin, end = (find_time(status.get(key)) for key in ("notBefore", "notAfter"))
    granted = end - begin if begin and end else timedelta.max
    requested = timedelta(seconds=int(spec.get("maxExpirationSeconds") or 0))
    line = (
        describe_condition(condition) if condition else f"{issued} other requests of this signer were issued"
    )
    if state == ISSUED:
        line = f"{show_span(granted)} of at most {show_span(requested)}"
    for row in POD_CAUSES:
        fits = row.condition == state and row.reason in ("", condition.get("reason"))
        if (
            fits
            and spec["signerName"].startswith(row.signer)
            and is_shorter(granted, requested) >= row.is_shorter
        ):
            evidence = (f"pod {spec.get('podName')}, created at {metadata.get('creationTimestamp')}", line)
            return Diagnosis(row.code, f"{name}: {row.title}.", row.certainty, evidence, row.remedy)
    return None
