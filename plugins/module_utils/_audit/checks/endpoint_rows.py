# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of certificates, CA bundles, Services and endpoints. Pure."""

from __future__ import annotations

from ..._webhook.calls import call_faults
from ..._webhook.calls.call_faults import FAILS
from ..facts import cluster_data as data
from ..facts.finding import ERROR, INFO, WARNING
from . import call_checks, cluster_checks, renewal_checks
from .check_row import REACH, TLS, Check

_OBJECTS = (data.CONFIGURATIONS, data.DEFINITIONS, data.API_SERVICES)
_REACH = (*_OBJECTS, data.SERVICES)
_SERVED = (*_REACH, data.PORT_FORWARD, data.ENDPOINTS, data.UNREAD_CERTIFICATE, data.HANDSHAKES)


def _of_fault(fault: str, category: str, sources: tuple[str, ...]) -> Check:
    """Return the check of a fault of calls. Its texts are those of the fault."""
    row = call_faults.BY_ID[fault]
    return Check(
        fault,
        row.title,
        category,
        row.severity,
        sources,
        row.effect,
        f"{row.remedy}.",
        row.reports,
        call_checks.check_points,
    )


ENDPOINT_ROWS: tuple[Check, ...] = (
    _of_fault("ca-mismatch", TLS, _SERVED),
    Check(
        "trust-field-unknown",
        "An object has a field beside caBundle that the audit does not know",
        TLS,
        INFO,
        _OBJECTS,
        "The field may change which CAs the API server trusts. Then other findings about the certificate may be wrong.",
        "Read about the field in the documentation of this version of Kubernetes. Use a release of this collection that knows it.",
        "kubernetes/enhancements#6284",
        call_checks.check_fields,
    ),
    _of_fault("expired", TLS, _SERVED),
    Check(
        "expiring",
        "An endpoint serves a certificate that expires soon",
        TLS,
        WARNING,
        (*_SERVED, data.CERTIFICATES),
        "The API server refuses the certificate after it has expired. " + FAILS,
        "Renew the certificate, and find out why it was not renewed earlier.",
        "datashim-io/datashim#210",
        call_checks.check_points,
    ),
    _of_fault("not-yet-valid", TLS, _SERVED),
    _of_fault("ca-expired", TLS, _OBJECTS),
    Check(
        "ca-expiring",
        "The CA of the bundle expires soon",
        TLS,
        WARNING,
        _OBJECTS,
        "After the CA has expired, the API server refuses every certificate of this CA. " + FAILS,
        "Add a new CA to the caBundle, then serve a certificate of the new CA, then remove the old one.",
        "https://pkg.go.dev/crypto/x509#Certificate.Verify",
        call_checks.check_points,
    ),
    _of_fault("name-mismatch", TLS, _SERVED),
    _of_fault("wrong-usage", TLS, _SERVED),
    _of_fault("path-too-long", TLS, _SERVED),
    _of_fault("name-constraint", TLS, _SERVED),
    _of_fault("not-a-ca", TLS, _SERVED),
    _of_fault("critical-extension", TLS, _SERVED),
    _of_fault("too-many-cas", TLS, _SERVED),
    _of_fault("policy-refused", TLS, _SERVED),
    _of_fault("unsupported-key", TLS, _SERVED),
    _of_fault("certificate-refused", TLS, _SERVED),
    _of_fault("bundle-empty", TLS, _OBJECTS),
    _of_fault("bundle-broken", TLS, _OBJECTS),
    _of_fault("handshake-fails", TLS, _SERVED),
    _of_fault("not-tls", TLS, _SERVED),
    _of_fault("refused", REACH, _SERVED),
    _of_fault("timed-out", REACH, _SERVED),
    Check(
        "endpoints-differ",
        "The endpoints serve different certificates",
        TLS,
        WARNING,
        _SERVED,
        "A rotation did not reach every pod. Some calls fail as soon as the old CA is removed. It is not a fault if each endpoint has a "
        "certificate of its own and all of them verify.",
        "Restart the pods that serve the older certificate. Let all pods read one Secret.",
        "kubernetes-sigs/cluster-api#10522",
        call_checks.check_points,
    ),
    _of_fault("weak-signature", TLS, _SERVED),
    _of_fault("weak-key", TLS, _SERVED),
    Check(
        "not-reloaded",
        "An endpoint serves an older certificate than cert-manager has issued",
        TLS,
        WARNING,
        (*_SERVED, data.CERTIFICATES),
        "The old certificate expires although a new one exists. " + FAILS,
        "Restart the pods that serve the older certificate. Let the program read its files again when they change.",
        "kubeflow/kubeflow#5560",
        renewal_checks.check_renewal,
    ),
    Check(
        "renewal-unmanaged",
        "No known program renews the certificate",
        TLS,
        WARNING,
        _SERVED,
        "If a person does not renew the certificate in time, it expires. " + FAILS,
        "Let the module k8s_csr or the role webhook_certificate of this collection issue the certificate and write the caBundle. "
        "The evidence has the task. Or let cert-manager do so.",
        "datashim-io/datashim#210",
        renewal_checks.check_renewal,
    ),
    _of_fault("service-missing", REACH, _REACH),
    _of_fault("port-missing", REACH, _REACH),
    _of_fault("service-headless", REACH, _REACH),
    _of_fault("no-endpoints", REACH, _REACH),
    Check(
        "calls-fail",
        "The API server reports failed calls",
        REACH,
        ERROR,
        (data.CONFIGURATIONS, data.EVENTS, data.METRICS),
        "The API server itself cannot call the webhook, or cannot use its answer. A port-forward takes another network path, and may succeed. "
        "The API server refuses a patch that does not apply also with failurePolicy Ignore. If calls failed only before "
        "the audit, the finding is information, because calls may succeed again. For matchConditions that were not changed since the start of "
        "the API server, it is a warning. " + FAILS,
        "Compare this with the other findings of the same webhook. If it has none, check firewalls and network policies from the API server to "
        "the pods. On EKS with another CNI the pods of the webhook need hostNetwork.",
        "aws/containers-roadmap#1215; kubernetes/ingress-nginx#5401",
        cluster_checks.check_calls,
    ),
)
