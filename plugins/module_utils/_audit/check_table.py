# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of the checks of an audit. An id is never renamed and never used again. Pure.

The reference page of the checks is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import cluster_data as data
from .finding import ERROR, INFO, WARNING

PAGE = "https://certflow.github.io/certflow.kubernetes/docsite/reference_audit.html"
TLS, REACH, SCOPE, CONVERSION, API, REQUEST, CLUSTER = (
    "tls", "reach", "scope", "conversion", "api", "request", "cluster",
)  # fmt: skip
#: The check of everything that could not be read.
UNREADABLE = "unreadable"
_OBJECTS = (data.CONFIGURATIONS, data.DEFINITIONS, data.API_SERVICES)
_REACH = (*_OBJECTS, data.SERVICES)
_SERVED = (*_REACH, data.PORT_FORWARD, data.ENDPOINTS)
_FAILS = "With failurePolicy Fail the API server refuses the requests that the webhook matches. With Ignore it skips the webhook."


@dataclass(frozen=True)
class Check:
    """One check."""

    id: str
    title: str
    #: TLS, REACH, SCOPE, CONVERSION, API, REQUEST or CLUSTER.
    category: str
    #: ERROR, WARNING or INFO. A finding may have another one.
    severity: str
    #: The sources of cluster_data.PERMISSIONS without which the check has no answer.
    sources: tuple[str, ...]
    #: The consequence of the fault.
    effect: str
    #: One or more imperative sentences.
    remedy: str
    #: An address, or issues as OWNER/REPOSITORY#NUMBER, separated by "; ".
    source: str

    @property
    def url(self) -> str:
        return f"{PAGE}#{self.id}"

    def as_result(self) -> dict[str, Any]:
        """Return the row as results carry it."""
        keys = ("title", "category", "severity", "effect", "remedy", "url")
        return {key: getattr(self, key) for key in keys}


CHECKS: tuple[Check, ...] = (
    Check(
        "ca-mismatch",
        "The CA bundle does not verify what an endpoint serves",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Write the CA that signs now into the caBundle. For a renewed certificate restart the pods that serve the old one.",
        "kubescape/helm-charts#819; cert-manager/cert-manager#6350",
    ),
    Check(
        "expired",
        "An endpoint serves a certificate that has expired",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Renew the certificate, and make the pods load it.",
        "percona/percona-xtradb-cluster-operator#2548; istio/istio#17718",
    ),
    Check(
        "expiring",
        "An endpoint serves a certificate that expires soon",
        TLS,
        WARNING,
        _SERVED,
        "The API server refuses the certificate after it has expired. " + _FAILS,
        "Renew the certificate, and find out why it was not renewed earlier.",
        "datashim-io/datashim#210",
    ),
    Check(
        "not-yet-valid",
        "An endpoint serves a certificate that is not valid yet",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Compare the clocks of the machines that sign, serve and verify the certificate.",
        "kubernetes/kubectl#1307",
    ),
    Check(
        "ca-expired",
        "The CA of the bundle has expired",
        TLS,
        ERROR,
        _OBJECTS,
        _FAILS,
        "Issue a certificate from a valid CA, and write this CA into the caBundle.",
        "https://pkg.go.dev/crypto/x509#Certificate.Verify",
    ),
    Check(
        "ca-expiring",
        "The CA of the bundle expires soon",
        TLS,
        WARNING,
        _OBJECTS,
        "After the CA has expired, the API server refuses every certificate of this CA. " + _FAILS,
        "Add a new CA to the caBundle, then serve a certificate of the new CA, then remove the old one.",
        "https://pkg.go.dev/crypto/x509#Certificate.Verify",
    ),
    Check(
        "name-mismatch",
        "The certificate is for another name",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Issue a certificate with the DNS name SERVICE.NAMESPACE.svc. A common name does not count.",
        "kubernetes/kubernetes#108940",
    ),
    Check(
        "wrong-usage",
        "The certificate is not for servers",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Issue a certificate with the extended key usage server auth.",
        "https://pkg.go.dev/crypto/x509#VerifyOptions",
    ),
    Check(
        "bundle-empty",
        "The CA bundle is empty",
        TLS,
        ERROR,
        _OBJECTS,
        "The API server verifies with the roots of its own machine. " + _FAILS,
        "Write the CA into the caBundle. If another program injects it, find out why it does not.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    Check(
        "bundle-broken",
        "The CA bundle contains no certificate",
        TLS,
        ERROR,
        _OBJECTS,
        _FAILS,
        "Replace the caBundle by PEM text with the CA.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    Check(
        "handshake-fails",
        "An endpoint does not finish a TLS handshake",
        TLS,
        ERROR,
        _SERVED,
        _FAILS,
        "Read the log of the pod, and compare its port with the target port of the Service.",
        "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/",
    ),
    Check(
        "endpoints-differ",
        "The endpoints serve different certificates",
        TLS,
        WARNING,
        _SERVED,
        "A rotation did not reach every pod, or each pod makes its own certificate. Some calls fail as soon as the old CA is removed.",
        "Restart the pods that serve the older certificate. Let all pods read one Secret.",
        "kubernetes-sigs/cluster-api#10522",
    ),
    Check(
        "service-missing",
        "The Service does not exist",
        REACH,
        ERROR,
        _REACH,
        _FAILS,
        "Delete the configuration if its program was uninstalled. Otherwise create the Service, or correct its name.",
        "kyverno/kyverno#3111; volcano-sh/volcano#2191",
    ),
    Check(
        "port-missing",
        "The Service has no such port",
        REACH,
        ERROR,
        _REACH,
        _FAILS,
        "Correct the port in the client configuration, or add it to the Service.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    Check(
        "no-endpoints",
        "No endpoint of the Service is ready",
        REACH,
        ERROR,
        _REACH,
        _FAILS,
        "Start the pods of the webhook. If they run, compare their labels with the selector of the Service.",
        "kyverno/kyverno#4686; https://cloud.google.com/kubernetes-engine/docs/how-to/optimize-webhooks",
    ),
    Check(
        "endpoint-external",
        "The webhook is outside of the cluster",
        REACH,
        INFO,
        _REACH,
        "A machine outside of the cluster decides about requests. The audit connects to it only with probe_urls.",
        "Make sure that you know who runs this address.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/",
    ),
    Check(
        "calls-fail",
        "The API server reports failed calls",
        REACH,
        ERROR,
        (data.CONFIGURATIONS, data.EVENTS, data.METRICS),
        "The API server itself cannot call the webhook. A port-forward takes another network path, and may succeed. "
        + _FAILS,
        "Compare with the findings of the same webhook. Without one, check firewalls and network policies from the API server to "
        "the pods. On EKS with another CNI the pods of the webhook need hostNetwork.",
        "aws/containers-roadmap#1215; kubernetes/ingress-nginx#5401",
    ),
    Check(
        "deadlock",
        "The webhook guards its own pods",
        SCOPE,
        ERROR,
        (data.CONFIGURATIONS, data.SERVICES, data.NAMESPACES, data.PODS, data.CONDITIONS),
        "If all pods of the webhook are gone at the same time, no new one can be created.",
        "Exclude the namespace of the webhook by its namespaceSelector, or its pods by an objectSelector.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
    ),
    Check(
        "control-plane-blocked",
        "The webhook matches objects that the control plane needs",
        SCOPE,
        ERROR,
        (data.CONFIGURATIONS, data.NAMESPACES, data.CONDITIONS),
        "If the webhook does not answer, nodes and controllers cannot write their objects, and the cluster may not recover by itself.",
        "Exclude kube-system and kube-node-lease by the namespaceSelector, and limit the rules to the resources that the webhook "
        "needs. Or set failurePolicy Ignore and a short timeoutSeconds.",
        "open-policy-agent/gatekeeper#3829; kyverno/kyverno#2058",
    ),
    Check(
        "timeouts-add-up",
        "The timeouts of the mutating webhooks exceed the time of a request",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.NAMESPACES),
        "If these webhooks are slow at the same time, the request fails, also with failurePolicy Ignore. The message names no webhook.",
        "Set shorter timeoutSeconds, such as 3, or limit the rules and selectors.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
    ),
    Check(
        "webhook-duplicated",
        "Two configurations contain the same webhook",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS,),
        "The API server calls the webhook twice for each request. An upgrade or a removal may change only one of the two.",
        "Find out which program manages each configuration, and delete the one that is left over.",
        "actions/actions-runner-controller#2204",
    ),
    Check(
        "conversion-dead",
        "A conversion webhook cannot convert",
        CONVERSION,
        ERROR,
        (data.DEFINITIONS, data.SERVICES, data.PORT_FORWARD, data.ENDPOINTS),
        "Objects of this kind cannot be read in other versions. Garbage collection of the whole cluster stops, and deleted "
        "namespaces stay Terminating.",
        "Repair the webhook as the evidence says. If its program was uninstalled, set spec.conversion.strategy to None.",
        "kubernetes/kubernetes#101078; kubernetes/kubernetes#118357",
    ),
    Check(
        "apiservice-down",
        "An aggregated API is not available",
        API,
        ERROR,
        (data.API_SERVICES,),
        "Discovery of the API fails, deleted namespaces stay Terminating, and autoscaling by its metrics stops.",
        "Repair what the cause and the evidence say. If its program was uninstalled, delete the APIService.",
        "kubernetes/kubernetes#60807; kubernetes/kubernetes#83332",
    ),
    Check(
        "apiservice-insecure",
        "The certificate of an aggregated API is not verified",
        API,
        WARNING,
        (data.API_SERVICES,),
        "A machine on the network path can read and change the requests, and act as the API.",
        "Write the CA into spec.caBundle, and remove insecureSkipTLSVerify.",
        "https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/",
    ),
    Check(
        "request-stuck",
        "A certificate signing request is not issued",
        REQUEST,
        WARNING,
        (data.REQUESTS,),
        "The program that waits for the certificate does not get it, and keeps its old one until it expires.",
        "Follow the remedy in the evidence.",
        "enix/x509-certificate-exporter#504",
    ),
    Check(
        "login-expiring",
        "The login of this run expires soon",
        CLUSTER,
        WARNING,
        (),
        "After the login has expired, no task with this login can read or change the cluster.",
        "Renew the client certificate or the token of the kubeconfig.",
        "https://kubernetes.io/docs/reference/access-authn-authz/authentication/",
    ),
    Check(
        "apiserver-expiring",
        "The certificate of the API server expires soon",
        CLUSTER,
        WARNING,
        (),
        "After the certificate has expired, no client that verifies it connects to the API server.",
        "Renew it. With kubeadm run kubeadm certs renew apiserver on each control plane node, and restart kube-apiserver.",
        "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/",
    ),
    Check(
        "snapshot-hazard",
        "A hazard of the upgrade of the snapshot controller",
        CLUSTER,
        WARNING,
        (data.SNAPSHOT,),
        "The upgrade to the release of snapshot_version stops, or needs a decision.",
        "Follow the remedy in the evidence. The module snapshot_controller_info returns the whole plan.",
        "https://certflow.github.io/certflow.kubernetes/docsite/reference_hazards.html",
    ),
    Check(
        UNREADABLE,
        "The audit could not read something",
        CLUSTER,
        WARNING,
        (),
        "The checks that the evidence names have no answer for some objects. These objects may have faults.",
        "Grant the permissions of the result missing_role, or change what the cause says.",
        "kubescape/kubescape#3069",
    ),
)
BY_ID: Mapping[str, Check] = {row.id: row for row in CHECKS}


def checks_of(source: str) -> Iterator[str]:
    """Yield the ids of the checks that need a source."""
    return (row.id for row in CHECKS if source in row.sources)


def as_results(ids: Iterable[str]) -> dict[str, Any]:
    """Return the rows of these checks, in the order of the table."""
    wanted = set(ids)
    return {row.id: row.as_result() for row in CHECKS if row.id in wanted}
