# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The checks of what webhooks match, of conversions, aggregated APIs and requests, and of the cluster. Pure."""

from __future__ import annotations

from ..facts import cluster_data as data
from ..facts.finding import ERROR, INFO, WARNING
from . import admission_checks, call_checks, cluster_checks, webhook_settings
from .check_row import API, CLUSTER, CONVERSION, GOOD_PRACTICES, REACH, REQUEST, SCOPE, Check

#: The check of everything that could not be read.
UNREADABLE = "unreadable"

CLUSTER_ROWS: tuple[Check, ...] = (
    Check(
        "deadlock",
        "The webhook guards its own pods",
        SCOPE,
        ERROR,
        (data.CONFIGURATIONS, data.SERVICES, data.NAMESPACES, data.PODS, data.CONDITIONS, data.VERSIONS),
        "If all pods of the webhook are gone at the same time, they cannot come back: new pods are not created, or do not become ready.",
        "Exclude the namespace of the webhook with the namespaceSelector, or its pods with an objectSelector.",
        GOOD_PRACTICES,
        admission_checks.check_deadlocks,
        compares_objects=True,
    ),
    Check(
        "control-plane-blocked",
        "The webhook matches requests that the control plane makes",
        SCOPE,
        ERROR,
        (data.CONFIGURATIONS, data.NAMESPACES, data.PODS, data.NODES, data.CONDITIONS, data.VERSIONS),
        "If the webhook does not answer, nodes and controllers cannot write their objects, and the cluster may not recover by itself.",
        "Exclude kube-system and kube-node-lease by the namespaceSelector, and limit the rules to the resources that the webhook "
        "needs. Or set failurePolicy Ignore and a short timeoutSeconds.",
        "open-policy-agent/gatekeeper#3829; kyverno/kyverno#2058",
        admission_checks.check_control_plane,
    ),
    Check(
        "slow-leases",
        "The webhook may delay the renewal of Leases",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.NAMESPACES, data.CONDITIONS, data.VERSIONS),
        "If the webhook is slow, controllers of the control plane lose their Leases and restart, and nodes become NotReady. "
        "failurePolicy Ignore does not help.",
        "Exclude kube-system and kube-node-lease by the namespaceSelector, or leases by the rules. Or set timeoutSeconds to 3 or less.",
        "open-policy-agent/gatekeeper#3829",
        webhook_settings.check_settings,
    ),
    Check(
        "virtual-resources",
        "The webhook matches reviews of tokens and permissions",
        SCOPE,
        WARNING,
        (data.CONFIGURATIONS, data.NAMESPACES, data.CONDITIONS, data.VERSIONS),
        "If the webhook does not answer, aggregated APIs and kubelets cannot authenticate and authorize their callers. API servers of "
        "Kubernetes 1.37 and newer do not call webhooks about these resources.",
        "Limit the rules to the groups that the webhook needs. Leave out authentication.k8s.io and authorization.k8s.io.",
        GOOD_PRACTICES,
        webhook_settings.check_settings,
    ),
    Check(
        "timeout-long",
        "The timeout of the webhook is longer than the default",
        SCOPE,
        INFO,
        (data.CONFIGURATIONS,),
        "If the webhook is slow, each request that it matches waits for this time.",
        "Set timeoutSeconds to 10 or less.",
        GOOD_PRACTICES,
        webhook_settings.check_settings,
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
        webhook_settings.check_settings,
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
        admission_checks.check_duplicates,
        compares_objects=True,
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
        call_checks.check_points,
    ),
    Check(
        "stored-versions",
        "Objects may be stored in an old version",
        CONVERSION,
        WARNING,
        (data.DEFINITIONS,),
        "The API server refuses a release of the CustomResourceDefinition without this version. Until the objects are migrated, each "
        "read of such an object needs the conversion.",
        "Write each object again in the storage version, then remove the old version from status.storedVersions. See the guide of the "
        "program for a storage migration.",
        "kubernetes-csi/external-snapshotter#718; kubernetes-csi/external-snapshotter#1307",
        webhook_settings.check_definitions,
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
        webhook_settings.check_definitions,
    ),
    Check(
        "apiservice-down",
        "An aggregated API is not available",
        API,
        ERROR,
        (data.API_SERVICES,),
        "Discovery of the API fails, deleted namespaces stay Terminating, and autoscaling by its metrics stops.",
        "Correct the fault that the cause and the evidence describe. If its program was uninstalled, delete the APIService.",
        "kubernetes/kubernetes#60807; kubernetes/kubernetes#83332",
        call_checks.check_points,
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
        call_checks.check_points,
    ),
    Check(
        "webhook-in-file",
        "The API server reads webhooks from files",
        REACH,
        INFO,
        (data.METRICS,),
        "The API does not show these webhooks, so the audit cannot check their CA bundles and certificates.",
        "Check the files in the staticManifestsDir of the admission configuration of each API server.",
        "https://github.com/kubernetes/enhancements/issues/5793",
        cluster_checks.check_file_webhooks,
    ),
    Check(
        "request-stuck",
        "A certificate signing request or a PodCertificateRequest is not issued",
        REQUEST,
        WARNING,
        (data.REQUESTS, data.POD_CERTIFICATES),
        "The program that waits for the certificate keeps its old one until it expires. A new pod that waits for a certificate does not start.",
        "Follow the remedy in the evidence.",
        "enix/x509-certificate-exporter#504",
        cluster_checks.check_requests,
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
        cluster_checks.check_login,
    ),
    Check(
        "apiserver-expiring",
        "The certificate of the API server expires soon",
        CLUSTER,
        WARNING,
        (data.API_SERVER, data.CLUSTER_CA),
        "After the certificate has expired, no client that verifies it connects to the API server.",
        "Renew it. With kubeadm run kubeadm certs renew apiserver on each control plane node, and restart kube-apiserver.",
        "https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/",
        cluster_checks.check_api_server,
    ),
    Check(
        "cluster-ca-expiring",
        "The CA of the cluster expires within a year",
        CLUSTER,
        WARNING,
        (data.API_SERVER, data.CLUSTER_CA),
        "After the CA has expired, no component and no client connects to the API server. Replacing the CA on every node and in every kubeconfig takes weeks.",
        "Plan the rotation of the CA now, as the documentation of the distribution describes it.",
        "https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/",
        cluster_checks.check_cluster_ca,
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
        cluster_checks.check_snapshot_controller,
    ),
    Check(
        UNREADABLE,
        "The audit could not read something",
        CLUSTER,
        WARNING,
        (),
        "The checks that the evidence names have no answer for some objects. These objects may have faults.",
        "If the line names missing permissions, grant them with docs/rbac/audit.yaml of the collection (kubectl apply, and a binding of its "
        "ClusterRole certflow-audit). If it names an option such as probe_urls, set the option, in the playbook audit in "
        "certflow_audit_options. If an endpoint has no pod, check its certificate on its own machine. Otherwise correct the fault that the cause "
        "describes.",
        "kubescape/kubescape#3069",
        None,
    ),
)
