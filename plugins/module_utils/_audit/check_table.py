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
        "weak-signature",
        "A served certificate is signed with SHA-1 or MD5",
        TLS,
        ERROR,
        _SERVED,
        "API servers of Kubernetes 1.24 and newer refuse the certificate. " + _FAILS,
        "Issue the certificate, or the intermediate certificate, again with SHA-256.",
        "kubernetes/kubernetes#110530; SeldonIO/seldon-core#4700",
    ),
    Check(
        "weak-key",
        "A served certificate has a weak RSA key",
        TLS,
        WARNING,
        _SERVED,
        "An RSA key below 2048 bits can be broken. API servers of Kubernetes 1.33 and newer refuse keys below 1024 bits, and all refuse keys above 8192 bits.",
        "Issue the certificate again with an ECDSA key, or with an RSA key of 2048 to 4096 bits.",
        "golang/go#71612; golang/go#62048",
    ),
    Check(
        "not-reloaded",
        "An endpoint serves an older certificate than cert-manager has issued",
        TLS,
        WARNING,
        (*_SERVED, data.CERTIFICATES),
        "The old certificate expires although a new one exists. " + _FAILS,
        "Restart the pods that serve the older certificate. Let the program read its files again when they change.",
        "kubeflow/kubeflow#5560",
    ),
    Check(
        "renewal-unmanaged",
        "No known program renews the certificate",
        TLS,
        WARNING,
        _SERVED,
        "If a person does not renew the certificate in time, it expires. " + _FAILS,
        "Let the role webhook_certificate of this collection, or cert-manager, issue the certificate and write the caBundle.",
        "datashim-io/datashim#210",
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
        "one-endpoint",
        "The webhook has one endpoint, or all on one node",
        REACH,
        INFO,
        (data.CONFIGURATIONS, data.SERVICES, data.NAMESPACES),
        "While the pod restarts, or the node is drained, the webhook does not answer. " + _FAILS,
        "Run two or more replicas, spread them over nodes, and add a PodDisruptionBudget.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
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
        "slow-leases",
        "The webhook may delay the renewal of Leases",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.NAMESPACES, data.CONDITIONS),
        "If the webhook is slow, controllers of the control plane lose their Leases and restart, and nodes become NotReady. failurePolicy Ignore does not help.",
        "Exclude kube-system and kube-node-lease by the namespaceSelector, or leases by the rules. Or set timeoutSeconds to 3 or less.",
        "open-policy-agent/gatekeeper#3829",
    ),
    Check(
        "virtual-resources",
        "The webhook matches reviews of tokens and permissions",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.CONDITIONS),
        "If the webhook does not answer, aggregated APIs and kubelets cannot authenticate and authorize their callers. API servers of Kubernetes 1.37 and newer do not call webhooks about these resources.",
        "Limit the rules to the groups that the webhook needs. Leave out authentication.k8s.io and authorization.k8s.io.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
    ),
    Check(
        "timeout-long",
        "The timeout of the webhook is longer than the default",
        SCOPE,
        INFO,
        (data.CONFIGURATIONS,),
        "If the webhook is slow, each request that it matches waits for this time.",
        "Set timeoutSeconds to 10 or less.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
    ),
    Check(
        "matches-everything",
        "The webhook matches every object of the cluster",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS,),
        "If the webhook is slow or does not answer, it affects every write of every program.",
        "Name the groups and resources that the webhook needs, and exclude system namespaces by the namespaceSelector.",
        "open-policy-agent/gatekeeper#3829",
    ),
    Check(
        "exact-match",
        "Requests in another version of the API pass the webhook by",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.DEFINITIONS),
        "An object that is written in another served version is not validated, or not changed.",
        "Set matchPolicy to Equivalent, or name all versions in the rules.",
        "https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/",
    ),
    Check(
        "side-effects",
        "The webhook has side effects in dry runs",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS,),
        "The API server refuses each dry run that matches, such as those of kubectl diff and of the check mode of Ansible.",
        "Make the webhook honour dryRun, and set sideEffects to NoneOnDryRun, or to None.",
        "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#side-effects",
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
        "stored-versions",
        "Objects may be stored in an old version",
        CONVERSION,
        WARNING,
        (data.DEFINITIONS,),
        "The API server refuses a release of the CustomResourceDefinition without this version. Until then each read of such an object needs the conversion.",
        "Write each object again in the storage version, then remove the old version from status.storedVersions. See the guide of the program for a storage migration.",
        "kubernetes-csi/external-snapshotter#718; kubernetes-csi/external-snapshotter#1307",
    ),
    Check(
        "crd-not-ready",
        "A CustomResourceDefinition is not ready",
        CONVERSION,
        WARNING,
        (data.DEFINITIONS,),
        "The API server does not serve the resource, does not prune unknown fields, or cannot delete the definition.",
        "Read the condition in the evidence. Correct the names or the schema, or remove what keeps the last objects.",
        "https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/",
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
        (data.API_SERVER,),
        "After the certificate has expired, no client that verifies it connects to the API server.",
        "Renew it. With kubeadm run kubeadm certs renew apiserver on each control plane node, and restart kube-apiserver.",
        "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/",
    ),
    Check(
        "cluster-ca-expiring",
        "The CA of the cluster expires within a year",
        CLUSTER,
        WARNING,
        (data.CLUSTER_CA,),
        "After the CA has expired, no component and no client connects to the API server. To replace it on every node and in every kubeconfig takes weeks.",
        "Plan the rotation of the CA now, as the documentation of the distribution describes it.",
        "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
    ),
    Check(
        "clock",
        "The clocks of the API server and of this machine differ",
        CLUSTER,
        WARNING,
        (),
        "New certificates are not valid yet for some programs, and tokens are refused. The times of this report are those of the API server.",
        "Synchronize the clock of the machine that runs the task, and those of the control plane nodes.",
        "kubernetes/kubectl#1307",
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
