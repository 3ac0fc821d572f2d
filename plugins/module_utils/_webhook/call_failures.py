# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Name the cause of a failed webhook call from the API server's message. Pure: tables and two look-ups.

Kubernetes reports every failed call as an internal error with a text of Go or of the API server, and without a code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The subject of a failure: the call of the webhook, its own refusal, or something else that ended the request.
CALL, REFUSAL, ELSEWHERE = "call", "refusal", "elsewhere"
# The kinds of calls: admission, conversion of objects, or a request to an aggregated API.
ADMISSION, CONVERSION, AGGREGATION = "admission", "conversion", "aggregation"
#: The code of a refusal by the webhook itself.
DENIED = "denied"
_LONGEST_QUOTE = 400


@dataclass(frozen=True)
class CallFailure:
    """A named failure of a request."""

    #: Stable, for programs.
    code: str
    #: CALL, REFUSAL or ELSEWHERE.
    about: str
    #: A clause.
    cause: str
    #: A sentence.
    remedy: str


@dataclass(frozen=True)
class FailureRow:
    """One known failure. cause may hold {words}, the quoted message."""

    code: str
    #: A regular expression to search in the message.
    pattern: str
    cause: str
    remedy: str
    source: str


@dataclass(frozen=True)
class MessageFrame:
    """How a message of the API server about a webhook begins. Groups: name (of the webhook) and detail (the failure)."""

    pattern: str
    kind: str
    about: str
    source: str


_INTERNAL = r"(?:Internal error occurred: )?"
_DISPATCHER = "k8s.io/apiserver pkg/admission/plugin/webhook/mutating and validating, dispatcher.go"

FRAMES = (
    MessageFrame(
        _INTERNAL + r'failed calling webhook "(?P<name>[^"]*)"[:;] (?P<detail>.*)',
        ADMISSION,
        CALL,
        source="k8s.io/apiserver pkg/util/webhook/error.go",
    ),
    MessageFrame(
        _INTERNAL + r'admission webhook "(?P<name>[^"]*)" (?P<detail>attempted to modify .*)',
        ADMISSION,
        CALL,
        source=_DISPATCHER,
    ),
    MessageFrame(
        _INTERNAL + r"\w+AdmissionWebhook/(?P<name>\S*) (?P<detail>has panicked.*)",
        ADMISSION,
        CALL,
        source=_DISPATCHER,
    ),
    MessageFrame(
        r'admission webhook "(?P<name>[^"]*)" denied the request(?P<detail>.*)',
        ADMISSION,
        REFUSAL,
        source="k8s.io/apiserver pkg/admission/plugin/webhook/errors/statuserror.go",
    ),
    MessageFrame(
        r'admission webhook "(?P<name>[^"]*)" (?P<detail>does not support dry run)',
        ADMISSION,
        ELSEWHERE,
        source="k8s.io/apiserver pkg/admission/plugin/webhook/errors/statuserror.go",
    ),
    MessageFrame(
        r"conversion webhook for (?P<name>.*?, Kind=\w*) (?P<detail>(?:failed|returned).*)",
        CONVERSION,
        CALL,
        source="k8s.io/apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go",
    ),
    MessageFrame(
        r"(?P<name>)(?:.*?: )?error trying to reach service: (?P<detail>.*)",
        AGGREGATION,
        CALL,
        source="k8s.io/apimachinery pkg/util/proxy/upgradeaware.go",
    ),
)

_RESOLVER = "k8s.io/apiserver pkg/util/proxy/proxy.go"
_AVAILABILITY = "k8s.io/kube-aggregator pkg/controllers/status/remote/remote_available_controller.go"
_GO_X509 = "Go 1.26 crypto/x509 verify.go"
_REST_ERRORS = "k8s.io/apimachinery pkg/api/errors/errors.go NewGenericServerResponse"

# The order matters: the message of an unknown authority may quote the fault of a certificate of the same name in parentheses.
CALLS = (
    FailureRow(
        "service-missing",
        r'service "[^"]*" not found|service/[^\s/]+ in "[^"]*" is not present|there is no Service ',
        "the Service that it names does not exist",
        "Create the Service, or correct its name and namespace in the client configuration",
        source=f"{_RESOLVER}; {_AVAILABILITY}",
    ),
    FailureRow(
        "service-port",
        r"no service port \d+ found|is not listening on port \d+|^Service \S+ has no TCP port \d+",
        "the Service has no such port: {words}",
        "Correct the port in the client configuration, or add it to the Service",
        source=f"{_RESOLVER}; {_AVAILABILITY}",
    ),
    FailureRow(
        "no-endpoints",
        r"no endpoints available|cannot find endpointslices|have no addresses with port name|has no ready endpoint",
        "no pod is ready behind its Service",
        "Start the webhook and let its pods become ready. If they are ready, compare the Service's selector and target "
        "port with the pods",
        source=f"{_RESOLVER}; {_AVAILABILITY}",
    ),
    FailureRow(
        "service-type",
        r'cannot route to service with ClusterIP "None"|unsupported service type',
        "the API server cannot use this kind of Service: {words}",
        "Give the webhook a Service with a cluster IP",
        source=_RESOLVER,
    ),
    FailureRow(
        "bad-bundle",
        r"unable to load root certificates",
        "its caBundle contains no readable certificate: {words}",
        "Write the CA into it, with certflow.kubernetes.webhook_cabundle for example",
        source="k8s.io/client-go transport/transport.go rootCertPool",
    ),
    FailureRow(
        "unknown-authority",
        r"x509: certificate signed by unknown authority",
        "the certificate that it serves does not verify with its caBundle: {words}",
        "Add the CA that issued the served certificate to the caBundle. If the certificate was renewed, make sure that "
        "every pod serves the new one with its intermediates",
        source=_GO_X509,
    ),
    FailureRow(
        "wrong-name",
        r"x509: certificate is (?:valid for|not valid for any names)|x509: certificate relies on legacy Common Name"
        r"|x509: cannot validate certificate for",
        "the certificate that it serves is for other names: {words}",
        "Issue a certificate with the subject alternative name SERVICE.NAMESPACE.svc, or the host of its URL",
        source=_GO_X509,
    ),
    FailureRow(
        "expired",
        r"x509: certificate has expired or is not yet valid",
        "a certificate is not valid now: {words}",
        "Renew the expired certificate, the served one or its CA. If neither has expired, compare the clocks",
        source=_GO_X509,
    ),
    FailureRow(
        "wrong-usages",
        r"x509: certificate specifies an incompatible key usage",
        "the certificate that it serves does not allow server authentication: {words}",
        "Issue a certificate with the usage 'server auth'",
        source=_GO_X509,
    ),
    FailureRow(
        "certificate-refused",
        r"x509: |failed to parse certificate",
        "the API server does not accept the certificate that it serves: {words}",
        "Issue another certificate that Go's TLS client accepts",
        source=_GO_X509,
    ),
    FailureRow(
        "not-tls",
        r"first record does not look like a TLS handshake|gave HTTP response to HTTPS client",
        "the server at its address does not speak TLS: {words}",
        "Correct the port, or let the webhook serve HTTPS",
        source="Go 1.26 crypto/tls conn.go; net/http transport.go",
    ),
    FailureRow(
        "tls-failed",
        r"tls: |TLS handshake failed",
        "the TLS handshake failed: {words}",
        "Read the logs of the webhook. It must not require a client certificate that the API server does not have, and "
        "must speak TLS 1.2 or newer",
        source="Go 1.26 crypto/tls alert.go",
    ),
    FailureRow(
        "refused",
        r"connection refused",
        "no server accepts connections at its address: {words}",
        "Make sure that the pods are ready and listen on the Service's target port. A Service without ready pods refuses "
        "connections too",
        source="Linux connect(2); kube-proxy rejects connections to a Service without endpoints",
    ),
    FailureRow(
        "address-not-allowed",
        r"Address is not allowed",
        "the control plane of Amazon EKS does not send to this address, because the pods are in their own network and "
        "not in the VPC",
        "Run the webhook with hostNetwork: true and dnsPolicy: ClusterFirstWithHostNet, or in the VPC's network",
        source="https://github.com/piraeusdatastore/helm-charts/issues/42",
    ),
    FailureRow(
        "no-network-path",
        r"no route to host|network is unreachable|No agent available",
        "the API server has no network path to it: {words}",
        "Open the network path from the control plane to the pods. If it uses Konnectivity, make sure that its agents run",
        source="Linux connect(2); kubernetes-sigs/apiserver-network-proxy; cert-manager/cert-manager#6457",
    ),
    FailureRow(
        "timed-out",
        r"context deadline exceeded|i/o timeout|TLS handshake timeout|Client\.Timeout|timed out",
        "it did not answer in time: {words}",
        "Read the logs of the webhook and compare timeoutSeconds. If it is not slow, the API server cannot reach it, so check "
        "firewalls and NetworkPolicies. On Amazon EKS with a CNI other than Amazon's, the control plane cannot reach "
        "pods, so run the webhook with hostNetwork: true",
        source="Go net/http; https://github.com/aws/containers-roadmap/issues/1215",
    ),
    FailureRow(
        "name-not-resolved",
        r"no such host|server misbehaving",
        "the API server cannot resolve its name: {words}",
        "Correct the URL or the Service's externalName. The API server uses the DNS of its own machine, not the "
        "cluster's DNS",
        source="Go net dnsclient",
    ),
    FailureRow(
        "connection-closed",
        r"\bEOF\b|connection reset by peer|broken pipe|malformed HTTP|closed the connection",
        "it closes the connection without an answer: {words}",
        "Read the logs of the webhook, and of a proxy or service mesh in front of it",
        source="Go net/http transport.go",
    ),
    FailureRow(
        "wrong-path",
        r"could not find the requested resource|does not allow this method|404 page not found|: 404\b",
        "it does not serve the path that the API server calls",
        "Correct the path in the client configuration, or the Service, which may belong to another program",
        source=_REST_ERRORS,
    ),
    FailureRow(
        "not-let-in",
        r"has asked for the client to provide credentials|(?:webhook|failed): unknown$|: 40[13]\b",
        "it refuses the API server as a client (401 or 403)",
        "Find out which client it expects. The API server presents no credentials unless an AdmissionConfiguration has "
        "them",
        source=_REST_ERRORS,
    ),
    FailureRow(
        "invalid-response",
        r"received invalid webhook response|json parse error|unknown conversion|undecodable patch|attempted to modify"
        r"|returned \d+ objects|returned invalid|no response provided|expected (?:webhook )?response"
        r"|response\.result\.status was|rejected our request|status code [23]\d\d|unsupported patch type",
        "the API server does not understand its answer: {words}",
        "Correct the path, and make sure that the webhook answers in a version that its configuration lists "
        "(admissionReviewVersions, conversionReviewVersions)",
        source="k8s.io/apiserver pkg/admission/plugin/webhook/request/admissionreview.go; k8s.io/apiextensions-apiserver",
    ),
    FailureRow(
        "server-error",
        r"an error on the server|currently unable to handle|too many requests|status code|has panicked|: [45]\d\d\b",
        "it answers with an error: {words}",
        "Read the logs of the webhook",
        source=_REST_ERRORS,
    ),
)
#: The codes of calls in which Go did not verify the certificate of the webhook.
OF_CERTIFICATES = frozenset(row.code for row in CALLS if row.source == _GO_X509)

OTHERS = (
    FailureRow(
        "no-dry-run",
        r"does not support dry run",
        "it does not support dry runs, because its sideEffects is neither None nor NoneOnDryRun",
        "If the webhook has no side effects, set sideEffects to None. Otherwise only a written object proves that it answers",
        source=_DISPATCHER,
    ),
    FailureRow(
        "policy",
        r"AdmissionPolicy '[^']*' with binding|exceeded quota|violates PodSecurity|LimitRange",
        "a policy of the cluster refuses the object: {words}",
        "Give an object that the policy allows",
        source="k8s.io/apiserver pkg/admission/plugin/policy; kubernetes plugin/pkg/admission",
    ),
    FailureRow(
        "no-right",
        r"is forbidden: User ",
        "this identity has no permission to create the object: {words}",
        "Grant the permission to create it to the identity that this task uses",
        source="k8s.io/apiserver pkg/endpoints/handlers/responsewriters/errors.go",
    ),
    FailureRow(
        "namespace",
        r'namespaces "[^"]*" not found|because it is being terminated',
        "the object's namespace cannot be used: {words}",
        "Give an object of a namespace that exists",
        source="k8s.io/apiserver pkg/admission/plugin/namespace/lifecycle",
    ),
    FailureRow(
        "invalid-object",
        r"is invalid: |strict decoding error|cannot be handled as|unable to decode|ValidationError",
        "the API server refuses the object before it asks a validating webhook: {words}",
        "Give an object that the API server accepts",
        source="k8s.io/apiserver pkg/registry/generic/registry/store.go Create",
    ),
)


def of_answer(words: str, kind: str, webhook: str = "") -> CallFailure:
    """Name the failure of a request from the API server's message.

    kind: how the probed webhook is called. webhook: the name of an admission webhook. A failure of another webhook proves nothing.
    """
    for frame in FRAMES:
        match = re.match(frame.pattern, words, re.DOTALL)
        if match is None:
            continue
        if frame.kind != kind or (webhook and match["name"] != webhook):
            return _of_another(words)
        if frame.about == REFUSAL:
            said = match["detail"].lstrip(": ").strip() or "without explanation"
            return CallFailure(DENIED, REFUSAL, f"it denied the object: {quote(said)}", _DENIED_REMEDY)
        return _first(OTHERS if frame.about == ELSEWHERE else CALLS, match["detail"], frame)
    return of_call(words) if kind == AGGREGATION else _of_others(words)


def of_call(words: str) -> CallFailure:
    """Name the failure of a webhook call from a message about this call."""
    return _first(CALLS, words, None)


def said_by_webhook(words: str) -> str:
    """Return the reason that a webhook gave for its denial, "" if the message is not a denial."""
    match = re.match(next(frame for frame in FRAMES if frame.about == REFUSAL).pattern, words, re.DOTALL)
    return match["detail"].lstrip(": ").strip() if match else ""


_DENIED_REMEDY = "Give an object that its rule allows, or expect: denied"


def _first(rows: tuple[FailureRow, ...], words: str, frame: MessageFrame | None) -> CallFailure:
    about = frame.about if frame else CALL
    for row in rows:
        if re.search(row.pattern, words, re.DOTALL):
            said = quote(_without_prefix(words))
            return CallFailure(row.code, about, row.cause.format(words=said), row.remedy)
    if frame and frame.kind == CONVERSION:
        # The message quotes the webhook's own words after "failed: ".
        return CallFailure(
            "conversion-refused",
            about,
            f"it does not convert the object: {quote(_without_prefix(words))}",
            "Give an object that it can convert, or read the logs of the webhook",
        )
    return CallFailure(
        "unnamed",
        about,
        f"the API server cannot use it: {quote(_without_prefix(words))}",
        "Read the logs of the webhook and of the API server",
    )


def _of_another(words: str) -> CallFailure:
    return CallFailure(
        "another-webhook",
        ELSEWHERE,
        f"another webhook ended the request: {quote(words)}",
        "Probe the other webhook, or give an object that it allows",
    )


def _of_others(words: str) -> CallFailure:
    for row in OTHERS:
        if re.search(row.pattern, words, re.DOTALL):
            return CallFailure(row.code, ELSEWHERE, row.cause.format(words=quote(words)), row.remedy)
    return CallFailure(
        "refused-elsewhere",
        ELSEWHERE,
        f"the API server refused the request: {quote(words)}",
        "Give an object that the API server accepts",
    )


def _without_prefix(words: str) -> str:
    """Return the message without the called address, which is long and known from the client configuration."""
    text = re.sub(r"^(?:failed: )?(?:failed to call webhook: )?(?:could not get REST client: )?", "", words)
    text = re.sub(r"^(?:failing or missing response from \S+: )?(?:(?:Post|Get) \"[^\"]*\": )?", "", text)
    text = re.sub(r" from https://\S+(?=: \d)", "", text)
    return text.replace("tls: failed to verify certificate: ", "").replace("x509: ", "", 1)


def quote(words: str) -> str:
    """Return the text on one line, cut at _LONGEST_QUOTE characters."""
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}..."
