# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The table of what can go wrong with a call of the API server. One fault has one id, in every result. Pure.

The probe and the verification of an upgrade know a fault by the words of Go or of the API server, the audit by what it read. The
checks of the audit, the remedies of a refused certificate and the kinds of repairs use the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The effect of a call that fails.
FAILS = "With failurePolicy Fail the API server refuses the requests that the webhook matches. With Ignore it skips the webhook."
#: What the API server does with the certificate is not known, so this is never an error.
UNREAD = "certificate-unread"
HANDSHAKE_FAILS, NOT_TLS, REFUSED, TIMED_OUT = "handshake-fails", "not-tls", "refused", "timed-out"
CERTIFICATE_REFUSED = "certificate-refused"
CA_MISMATCH, BUNDLE_EMPTY, BUNDLE_BROKEN = "ca-mismatch", "bundle-empty", "bundle-broken"

_RESOLVER = "k8s.io/apiserver pkg/util/proxy/proxy.go"
_AVAILABILITY = "k8s.io/kube-aggregator pkg/controllers/status/remote/remote_available_controller.go"
VERIFY_PAGE = "https://pkg.go.dev/crypto/x509#Certificate.Verify"
_GO_VERIFY, _GO_PARSER = "Go crypto/x509 verify.go", "Go crypto/x509 parser.go"
_REST_ERRORS = "k8s.io/apimachinery pkg/api/errors/errors.go NewGenericServerResponse"
_GUIDE = "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/"


@dataclass(frozen=True)
class FailureRow:
    """One known failure of a request."""

    #: Stable, for programs.
    id: str
    #: A regular expression to search in a message of the API server, "" if no message shows it.
    words: str
    #: A clause. It may hold {words}, the quoted message.
    cause: str
    #: One or more sentences in the imperative, without the last full stop.
    remedy: str
    #: Where the words come from.
    source: str


@dataclass(frozen=True)
class CallFault(FailureRow):
    """One fault of a call."""

    #: A sentence without a full stop.
    title: str
    #: Reports of the fault: an address, or issues as OWNER/REPOSITORY#NUMBER, separated by "; ".
    reports: str = VERIFY_PAGE
    effect: str = FAILS
    #: "error" or "warning".
    severity: str = "error"
    #: True if Go does not accept the certificate of the webhook.
    is_of_certificate: bool = False


# The order matters: the message of an unknown authority may quote the fault of a certificate of the same name in parentheses.
FAULTS = (
    CallFault(
        "service-missing",
        r'service "[^"]*" not found|service/[^\s/]+ in "[^"]*" is not present|there is no Service ',
        "the Service that it names does not exist",
        "Delete the configuration if its program was uninstalled. Otherwise create the Service, or correct its name and namespace in "
        "the client configuration",
        f"{_RESOLVER}; {_AVAILABILITY}",
        "The Service does not exist",
        reports="kyverno/kyverno#3111; volcano-sh/volcano#2191",
    ),
    CallFault(
        "port-missing",
        r"no service port \d+ found|is not listening on port \d+|^Service \S+ has no TCP port \d+",
        "the Service has no such port: {words}",
        "Correct the port in the client configuration, or add it to the Service",
        f"{_RESOLVER}; {_AVAILABILITY}",
        "The Service has no such TCP port",
        reports=_GUIDE,
    ),
    CallFault(
        "no-endpoints",
        r"no endpoints available|cannot find endpointslices|have no addresses with port name|has no ready endpoint",
        "no pod is ready behind its Service",
        "Start the webhook and let its pods become ready. If they are ready, compare the Service's selector and target port with the "
        "pods",
        f"{_RESOLVER}; {_AVAILABILITY}",
        "No endpoint of the Service is ready",
        reports="kyverno/kyverno#4686; https://cloud.google.com/kubernetes-engine/docs/how-to/optimize-webhooks",
    ),
    CallFault(
        "service-headless",
        r'cannot route to service with ClusterIP "None"',
        "its Service has no cluster IP: {words}",
        "Create the Service again with a cluster IP",
        _RESOLVER,
        "The Service has no cluster IP",
        reports="https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/util/proxy/proxy.go",
        effect="An API server without --enable-aggregator-routing, such as that of kubeadm, cannot call a Service with clusterIP None. "
        + FAILS,
        severity="warning",
    ),
    CallFault(
        "service-type",
        r"unsupported service type",
        "the API server cannot use this kind of Service: {words}",
        "Give the webhook a Service with a cluster IP",
        _RESOLVER,
        "The API server cannot use this kind of Service",
    ),
    CallFault(
        BUNDLE_EMPTY,
        "",
        "its caBundle is empty",
        "Write the CA into the caBundle. If another program injects it, find out why it does not",
        "",
        "The CA bundle is empty",
        reports=_GUIDE,
        effect="The API server verifies with the roots of its own machine. " + FAILS,
    ),
    CallFault(
        BUNDLE_BROKEN,
        r"unable to load root certificates",
        "its caBundle contains no readable certificate: {words}",
        "Write PEM text with the CA into the caBundle, with certflow.kubernetes.webhook_cabundle for example",
        "k8s.io/client-go transport/transport.go rootCertPool",
        "The CA bundle contains no certificate that the API server reads",
        reports=_GUIDE,
    ),
    CallFault(
        "weak-signature",
        r"x509: cannot verify signature: insecure algorithm",
        "a certificate that it serves has a weak signature: {words}",
        "Issue the certificate, or the intermediate certificate, again with SHA-256",
        _GO_VERIFY,
        "A served certificate is signed with SHA-1 or MD5",
        reports="kubernetes/kubernetes#110530; SeldonIO/seldon-core#4700",
        effect="API servers of Kubernetes 1.24 and newer refuse the certificate. " + FAILS,
        is_of_certificate=True,
    ),
    CallFault(
        "weak-key",
        r"crypto/rsa: \d+-bit keys are insecure|crypto/rsa: public exponent|certificate containing RSA key larger than",
        "a certificate that it serves has an RSA key that is refused: {words}",
        "Issue the certificate again with an ECDSA key, or with an RSA key of 2048 to 4096 bits",
        "Go crypto/rsa rsa.go; crypto/tls handshake_client.go",
        "A served certificate has a weak RSA key",
        reports="golang/go#71612; golang/go#62048",
        effect="An RSA key below 2048 bits can be broken. API servers of Kubernetes 1.33 and newer refuse keys below 1024 bits, and every "
        "version refuses keys above 8192 bits, and those with an exponent above 2147483647.",
        severity="warning",
        is_of_certificate=True,
    ),
    CallFault(
        CA_MISMATCH,
        r"x509: certificate signed by unknown authority",
        "the certificate that it serves does not verify with its caBundle: {words}",
        "Add the CA that issued the served certificate to the caBundle. If the certificate was renewed, make sure that every pod serves "
        "the new one with its intermediates, and restart the pods that serve the old one",
        _GO_VERIFY,
        "The CA bundle does not verify what an endpoint serves",
        reports="kubescape/helm-charts#819; cert-manager/cert-manager#6350",
        is_of_certificate=True,
    ),
    CallFault(
        "name-mismatch",
        r"x509: certificate is (?:valid for|not valid for any names)|x509: certificate relies on legacy Common Name"
        r"|x509: cannot validate certificate for",
        "the certificate that it serves is for other names: {words}",
        "Issue a certificate with the subject alternative name SERVICE.NAMESPACE.svc, or the host of its URL. A common name does not "
        "count",
        _GO_VERIFY,
        "The certificate is for another name",
        reports="kubernetes/kubernetes#108940",
        is_of_certificate=True,
    ),
    CallFault(
        "not-yet-valid",
        r"x509: certificate has expired or is not yet valid: current time \S+ is before",
        "a certificate is not valid yet: {words}",
        "Compare the clocks of the machines that sign, serve and verify the certificate",
        _GO_VERIFY,
        "An endpoint serves a certificate that is not valid yet",
        reports="kubernetes/kubectl#1307",
        is_of_certificate=True,
    ),
    CallFault(
        "expired",
        r"x509: certificate has expired or is not yet valid",
        "a certificate has expired: {words}",
        "Renew the expired certificate, the served one or its CA, and make the pods load it",
        _GO_VERIFY,
        "An endpoint serves a certificate that has expired",
        reports="percona/percona-xtradb-cluster-operator#2548; istio/istio#17718",
        is_of_certificate=True,
    ),
    CallFault(
        "ca-expired",
        "",
        "the CA of its caBundle has expired",
        "Issue a certificate from a valid CA, and write this CA into the caBundle",
        "",
        "The CA of the bundle has expired",
        is_of_certificate=True,
    ),
    CallFault(
        "wrong-usage",
        r"x509: certificate specifies an incompatible key usage",
        "the certificate that it serves does not allow server authentication: {words}",
        "Issue a certificate with the extended key usage server auth",
        _GO_VERIFY,
        "The certificate is not for servers",
        reports="https://pkg.go.dev/crypto/x509#VerifyOptions",
        is_of_certificate=True,
    ),
    CallFault(
        "path-too-long",
        r"x509: too many intermediates",
        "a CA of the chain allows fewer intermediate certificates: {words}",
        "Issue the certificate from a CA above the limit, or issue the limited CA again with a larger path length",
        _GO_VERIFY,
        "The path length of a CA is too short",
        is_of_certificate=True,
    ),
    CallFault(
        "name-constraint",
        r"x509: a root or intermediate certificate is not authorized to sign for this name|x509: .{0,80}name constraint",
        "the name constraints of a CA refuse the names of the certificate: {words}",
        "Issue the certificate from a CA whose name constraints permit its names",
        _GO_VERIFY,
        "The name constraints of a CA refuse the certificate",
        is_of_certificate=True,
    ),
    CallFault(
        "not-a-ca",
        r"x509: certificate is not authorized to sign other certificates",
        "the issuer of a certificate is not a CA: {words}",
        "Issue the certificate, or the certificate of its issuer, again from a CA",
        _GO_VERIFY,
        "The issuer of the certificate is not a CA",
        is_of_certificate=True,
    ),
    CallFault(
        "critical-extension",
        r"x509: unhandled critical extension",
        "a certificate has a critical extension that the API server does not know: {words}",
        "Issue the certificate again, without this extension",
        _GO_VERIFY,
        "A certificate has a critical extension that the API server does not know",
        is_of_certificate=True,
    ),
    CallFault(
        "too-many-cas",
        r"x509: signature check attempts limit reached",
        "the API server stops after 100 signature checks: {words}",
        "Remove the CAs of the same name that do not sign from the caBundle and from what the endpoint sends",
        _GO_VERIFY,
        "Too many CAs have one name",
        is_of_certificate=True,
    ),
    CallFault(
        "policy-refused",
        r"x509: no valid chains built",
        "a CA requires certificate policies that the chain does not have: {words}",
        "Issue the certificate again with a policy of its CA, or the CA without policyConstraints",
        _GO_VERIFY,
        "A CA requires certificate policies that the chain does not have",
        effect="API servers of Kubernetes 1.33 and newer refuse the certificate. " + FAILS,
        is_of_certificate=True,
    ),
    CallFault(
        UNREAD,
        "",
        "the library cryptography of this run cannot read a certificate: {words}",
        "Run the task with another release of the library cryptography. If the API server calls the webhook, its certificate is "
        "good. Otherwise issue another certificate",
        "",
        "The library of this run cannot read a certificate",
        is_of_certificate=True,
    ),
    CallFault(
        "unsupported-key",
        r"unsupported type of public key",
        "the key of the certificate that it serves is of a type that the API server does not know: {words}",
        "Issue the certificate again with an ECDSA key, or with an RSA key of 2048 to 4096 bits",
        "Go crypto/tls handshake_client.go",
        "The key of the certificate is of a type that the API server does not know",
        is_of_certificate=True,
    ),
    CallFault(
        CERTIFICATE_REFUSED,
        r"x509: |failed to parse certificate",
        "the API server does not accept the certificate that it serves: {words}",
        "Issue another certificate, with a tool that follows RFC 5280, and make the pods load it",
        _GO_PARSER,
        "The API server cannot read a served certificate",
        reports="https://pkg.go.dev/crypto/x509#ParseCertificate",
        is_of_certificate=True,
    ),
    CallFault(
        NOT_TLS,
        r"first record does not look like a TLS handshake|gave HTTP response to HTTPS client",
        "the server at its address does not speak TLS: {words}",
        "Correct the port, or let the webhook serve HTTPS",
        "Go 1.26 crypto/tls conn.go; net/http transport.go",
        "The server does not speak TLS",
    ),
    CallFault(
        HANDSHAKE_FAILS,
        r"tls: |TLS handshake failed",
        "the TLS handshake failed: {words}",
        "Read the log of the pod, and compare its port with the target port of the Service. Let the webhook accept TLS 1.2 or newer, and "
        "clients without a certificate, unless the AdmissionConfiguration of the API server has one for it. The audit connects to "
        "localhost inside the pod. So a program that listens only on the address of the pod gets this finding, although it answers the "
        "API server",
        "Go 1.26 crypto/tls alert.go",
        "An endpoint does not finish a TLS handshake",
        reports="https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/",
    ),
    CallFault(
        REFUSED,
        r"connection refused",
        "no server accepts connections at its address: {words}",
        "Make sure that the pods are ready and listen on the Service's target port. A Service without ready pods refuses "
        "connections too",
        "Linux connect(2); kube-proxy rejects connections to a Service without endpoints",
        "No server accepts connections at the address",
    ),
    CallFault(
        "address-not-allowed",
        r"Address is not allowed",
        "the control plane of Amazon EKS does not send to this address, because the pods are in their own network and "
        "not in the VPC",
        "Run the webhook with hostNetwork: true and dnsPolicy: ClusterFirstWithHostNet, or in the VPC's network",
        "Amazon EKS, which writes no source",
        "The control plane of Amazon EKS does not send to the address",
        reports="https://github.com/piraeusdatastore/helm-charts/issues/42",
    ),
    CallFault(
        "no-network-path",
        r"no route to host|network is unreachable|No agent available",
        "the API server has no network path to it: {words}",
        "Open the network path from the control plane to the pods. If it uses Konnectivity, make sure that its agents run",
        "Linux connect(2); kubernetes-sigs/apiserver-network-proxy",
        "The API server has no network path to the webhook",
        reports="cert-manager/cert-manager#6457",
    ),
    CallFault(
        TIMED_OUT,
        r"context deadline exceeded|i/o timeout|TLS handshake timeout|Client\.Timeout|timed out",
        "it did not answer in time: {words}",
        "Read the logs of the webhook and compare timeoutSeconds. If it is not slow, the API server cannot reach it, so check "
        "firewalls and NetworkPolicies. On Amazon EKS with a CNI other than Amazon's, the control plane cannot reach "
        "pods, so run the webhook with hostNetwork: true",
        "Go net/http",
        "The webhook does not answer in time",
        reports="https://github.com/aws/containers-roadmap/issues/1215",
    ),
    CallFault(
        "name-not-resolved",
        r"no such host|server misbehaving",
        "the API server cannot resolve its name: {words}",
        "Correct the URL or the Service's externalName. The API server uses the DNS of its own machine, not the "
        "cluster's DNS",
        "Go net dnsclient",
        "The API server cannot resolve the name",
    ),
    CallFault(
        "connection-closed",
        r"\bEOF\b|connection reset by peer|broken pipe|malformed HTTP|closed the connection",
        "it closes the connection without an answer: {words}",
        "Read the logs of the webhook, and of a proxy or service mesh in front of it",
        "Go net/http transport.go",
        "The webhook closes the connection without an answer",
    ),
    CallFault(
        "wrong-path",
        r"could not find the requested resource|does not allow this method|404 page not found|: 404\b",
        "it does not serve the path that the API server calls",
        "Correct the path in the client configuration, or the Service, which may belong to another program",
        _REST_ERRORS,
        "The webhook does not serve the path",
    ),
    CallFault(
        "client-refused",
        r"has asked for the client to provide credentials|(?:webhook|failed): unknown$|: 40[13]\b",
        "it refuses the API server as a client (401 or 403)",
        "Find out which client it expects. The API server presents no credentials unless an AdmissionConfiguration has "
        "them",
        _REST_ERRORS,
        "The webhook refuses the API server as a client",
    ),
    CallFault(
        "invalid-response",
        r"received invalid webhook response|json parse error|unknown conversion|undecodable patch|attempted to modify"
        r"|returned \d+ objects|returned invalid|no response provided|expected (?:webhook )?response"
        r"|response\.result\.status was|rejected our request|status code [23]\d\d|unsupported patch type",
        "the API server does not understand its answer: {words}",
        "Correct the path, and make sure that the webhook answers in a version that its configuration lists "
        "(admissionReviewVersions, conversionReviewVersions)",
        "k8s.io/apiserver pkg/admission/plugin/webhook/request/admissionreview.go; k8s.io/apiextensions-apiserver",
        "The API server does not understand the answer",
    ),
    CallFault(
        "server-error",
        r"an error on the server|currently unable to handle|too many requests|status code|has panicked|: [45]\d\d\b",
        "it answers with an error: {words}",
        "Read the logs of the webhook",
        _REST_ERRORS,
        "The webhook answers with an error",
    ),
)
#: Fault -> its row.
BY_ID: Mapping[str, CallFault] = {fault.id: fault for fault in FAULTS}
OF_CERTIFICATES = frozenset(fault.id for fault in FAULTS if fault.is_of_certificate) - {UNREAD}
