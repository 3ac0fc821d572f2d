# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Why a call of a webhook failed, named from the API server's own words. Pure: tables, and two look-ups in them.

The words are Go's and the API server's, and there is no code beside them: Kubernetes reports every failed call as an
internal error with a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What a failure speaks of: the call of the webhook, its own refusal, or something else that ended the request.
CALL, REFUSAL, ELSEWHERE = "call", "refusal", "elsewhere"
# How a webhook is called: by admission, to convert objects, or as an aggregated API.
ADMISSION, CONVERSION, AGGREGATION = "admission", "conversion", "aggregation"
_LONGEST_QUOTE = 400


@dataclass(frozen=True)
class CallFailure:
    """code: stable, for programs. about: CALL, REFUSAL or ELSEWHERE. cause: a clause; remedy: a sentence."""

    code: str
    about: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class FailureRow:
    """pattern: a regular expression that is searched for. cause and remedy may hold {words}, what was said."""

    code: str
    pattern: str
    cause: str
    remedy: str
    source: str


@dataclass(frozen=True)
class MessageFrame:
    """How the API server begins to tell of a webhook. Groups: name, the webhook's; detail, what happened."""

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

# In this order: an unknown authority may quote in parentheses what was wrong with a certificate of the same name.
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
        r"no service port \d+ found|is not listening on port \d+|^Service \S+ has no port \d+",
        "the Service has no such port: {words}",
        "Correct the port in the client configuration, or add it to the Service",
        source=f"{_RESOLVER}; {_AVAILABILITY}",
    ),
    FailureRow(
        "no-endpoints",
        r"no endpoints available|cannot find endpointslices|have no addresses with port name|has no ready endpoint",
        "no pod is ready behind its Service",
        "Start the webhook and let its pods become ready; if they are, compare the Service's selector and target "
        "port with theirs",
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
        "its caBundle holds no certificate that can be read: {words}",
        "Write the CA into it, with certflow.kubernetes.webhook_cabundle for example",
        source="k8s.io/client-go transport/transport.go rootCertPool",
    ),
    FailureRow(
        "unknown-authority",
        r"x509: certificate signed by unknown authority",
        "no certificate of its caBundle vouches for the certificate that it serves: {words}",
        "Add the CA that issued the served certificate to the caBundle; if the certificate was renewed, see that "
        "every pod serves the new one with its intermediates",
        source=_GO_X509,
    ),
    FailureRow(
        "wrong-name",
        r"x509: certificate is (?:valid for|not valid for any names)|x509: certificate relies on legacy Common Name"
        r"|x509: cannot validate certificate for",
        "the certificate that it serves is for other names: {words}",
        "Issue one with the subject alternative name SERVICE.NAMESPACE.svc, or the host of its URL",
        source=_GO_X509,
    ),
    FailureRow(
        "expired",
        r"x509: certificate has expired or is not yet valid",
        "a certificate is not valid now: {words}",
        "Renew what has expired, the served certificate or its CA; if neither has, compare the clocks",
        source=_GO_X509,
    ),
    FailureRow(
        "wrong-usages",
        r"x509: certificate specifies an incompatible key usage",
        "the certificate that it serves is not for servers: {words}",
        "Issue one with the usage 'server auth'",
        source=_GO_X509,
    ),
    FailureRow(
        "certificate-refused",
        r"x509: |failed to parse certificate",
        "the API server does not accept the certificate that it serves: {words}",
        "Issue another one; the words are those of Go's TLS client",
        source=_GO_X509,
    ),
    FailureRow(
        "not-tls",
        r"first record does not look like a TLS handshake|gave HTTP response to HTTPS client",
        "what listens there speaks no TLS: {words}",
        "Correct the port, or let the webhook serve HTTPS",
        source="Go 1.26 crypto/tls conn.go; net/http transport.go",
    ),
    FailureRow(
        "tls-failed",
        r"tls: |TLS handshake failed",
        "the TLS handshake failed: {words}",
        "See what the webhook logs; it must not ask for a client certificate that the API server has not got, and "
        "must speak TLS 1.2 or newer",
        source="Go 1.26 crypto/tls alert.go",
    ),
    FailureRow(
        "refused",
        r"connection refused",
        "nobody accepts connections at its address: {words}",
        "See that the pods are ready and listen on the Service's target port. A Service without ready pods refuses "
        "connections too",
        source="Linux connect(2); kube-proxy rejects what is meant for a Service without endpoints",
    ),
    FailureRow(
        "address-not-allowed",
        r"Address is not allowed",
        "the control plane of Amazon EKS does not send to this address: the pods are in a network of their own, not "
        "in the VPC",
        "Run the webhook with hostNetwork: true and dnsPolicy: ClusterFirstWithHostNet, or in the VPC's network",
        source="https://github.com/piraeusdatastore/helm-charts/issues/42",
    ),
    FailureRow(
        "no-network-path",
        r"no route to host|network is unreachable|No agent available",
        "the API server has no network path to it: {words}",
        "Open the way from the control plane to the pods; where it leads through Konnectivity, see that its agents run",
        source="Linux connect(2); kubernetes-sigs/apiserver-network-proxy; cert-manager/cert-manager#6457",
    ),
    FailureRow(
        "timed-out",
        r"context deadline exceeded|i/o timeout|TLS handshake timeout|Client\.Timeout|timed out",
        "it did not answer in time: {words}",
        "Either it is slow or stuck (see its logs, and timeoutSeconds), or the API server cannot reach it: look for "
        "firewalls and NetworkPolicies. On Amazon EKS with another CNI than Amazon's, the control plane cannot reach "
        "pods: run the webhook with hostNetwork: true",
        source="Go net/http; https://github.com/aws/containers-roadmap/issues/1215",
    ),
    FailureRow(
        "name-not-resolved",
        r"no such host|server misbehaving",
        "the API server cannot resolve its name: {words}",
        "Correct the URL or the Service's externalName; the API server asks the DNS of its own machine, not the "
        "cluster's",
        source="Go net dnsclient",
    ),
    FailureRow(
        "connection-closed",
        r"\bEOF\b|connection reset by peer|broken pipe|malformed HTTP|closed the connection",
        "it closes the connection without an answer: {words}",
        "See what the webhook, or a proxy or service mesh before it, logs",
        source="Go net/http transport.go",
    ),
    FailureRow(
        "wrong-path",
        r"could not find the requested resource|does not allow this method|404 page not found|: 404\b",
        "it does not know the path that it is called at",
        "Correct the path in the client configuration, or the Service: it may belong to another program",
        source=_REST_ERRORS,
    ),
    FailureRow(
        "not-let-in",
        r"has asked for the client to provide credentials|(?:webhook|failed): unknown$|: 40[13]\b",
        "it does not let the API server in (401 or 403)",
        "See which client it expects: the API server presents no credentials unless an AdmissionConfiguration gives "
        "them",
        source=_REST_ERRORS,
    ),
    FailureRow(
        "invalid-response",
        r"received invalid webhook response|json parse error|unknown conversion|undecodable patch|attempted to modify"
        r"|returned \d+ objects|returned invalid|no response provided|expected (?:webhook )?response"
        r"|response\.result\.status was|rejected our request|status code [23]\d\d|unsupported patch type",
        "what it answers is no review that the API server understands: {words}",
        "See that the path is the right one, and that the webhook speaks a version that its configuration lists "
        "(admissionReviewVersions, conversionReviewVersions)",
        source="k8s.io/apiserver pkg/admission/plugin/webhook/request/admissionreview.go; k8s.io/apiextensions-apiserver",
    ),
    FailureRow(
        "server-error",
        r"an error on the server|currently unable to handle|too many requests|status code|has panicked|: [45]\d\d\b",
        "it answers with an error: {words}",
        "See what the webhook logs",
        source=_REST_ERRORS,
    ),
)

OTHERS = (
    FailureRow(
        "no-dry-run",
        r"does not support dry run",
        "it takes no dry runs, because its sideEffects is neither None nor NoneOnDryRun",
        "Nothing proves it without writing an object; set sideEffects where it has none",
        source=_DISPATCHER,
    ),
    FailureRow(
        "policy",
        r"AdmissionPolicy '[^']*' with binding|exceeded quota|violates PodSecurity|LimitRange",
        "a policy of the cluster refuses the object: {words}",
        "Give an object that the policy lets pass",
        source="k8s.io/apiserver pkg/admission/plugin/policy; kubernetes plugin/pkg/admission",
    ),
    FailureRow(
        "no-right",
        r"is forbidden: User ",
        "this identity may not create the object: {words}",
        "Grant create on it to the identity that this task uses",
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
        "the object itself is refused, before a validating webhook is asked about it: {words}",
        "Give an object that the API server accepts",
        source="k8s.io/apiserver pkg/registry/generic/registry/store.go Create",
    ),
)


def of_answer(words: str, kind: str, webhook: str = "") -> CallFailure:
    """Name what the API server says about a request that it did not carry out.

    kind: how the probed webhook is called. webhook: its name, for admission; another one's failure says nothing of it.
    """
    for frame in FRAMES:
        found = re.match(frame.pattern, words, re.DOTALL)
        if found is None:
            continue
        if frame.kind != kind or (webhook and found["name"] != webhook):
            return _of_another(words)
        if frame.about == REFUSAL:
            said = found["detail"].lstrip(": ").strip() or "without explanation"
            return CallFailure("denied", REFUSAL, f"it denied the object: {quote(said)}", _DENIED_REMEDY)
        return _first(OTHERS if frame.about == ELSEWHERE else CALLS, found["detail"], frame)
    return of_call(words) if kind == AGGREGATION else _of_others(words)


def of_call(words: str) -> CallFailure:
    """Name why a webhook cannot be used, from words that are about nothing else."""
    return _first(CALLS, words, None)


def said_by_webhook(words: str) -> str:
    """Return what a webhook gave as the reason of its denial, "" where the words are no denial."""
    found = re.match(next(frame for frame in FRAMES if frame.about == REFUSAL).pattern, words, re.DOTALL)
    return found["detail"].lstrip(": ").strip() if found else ""


_DENIED_REMEDY = "Give an object that its rule allows, or expect: denied"


def _first(rows: tuple[FailureRow, ...], words: str, frame: MessageFrame | None) -> CallFailure:
    about = frame.about if frame else CALL
    for row in rows:
        if re.search(row.pattern, words, re.DOTALL):
            said = quote(_without_prefix(words))
            return CallFailure(row.code, about, row.cause.format(words=said), row.remedy)
    if frame and frame.kind == CONVERSION:
        # Its own words are told as they are, behind "failed: ".
        return CallFailure(
            "conversion-refused",
            about,
            f"it does not convert the object: {quote(_without_prefix(words))}",
            "Give an object that it can convert, or see what it logs",
        )
    return CallFailure(
        "unnamed",
        about,
        f"the API server cannot use it: {quote(_without_prefix(words))}",
        "See what the webhook and the API server log",
    )


def _of_another(words: str) -> CallFailure:
    return CallFailure(
        "another-webhook",
        ELSEWHERE,
        f"another webhook ended the request: {quote(words)}",
        "Probe that one, or give an object that it lets pass",
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
    """What happened, without the address that was called: that is the client configuration's, and long."""
    text = re.sub(r"^(?:failed: )?(?:failed to call webhook: )?(?:could not get REST client: )?", "", words)
    text = re.sub(r"^(?:failing or missing response from \S+: )?(?:(?:Post|Get) \"[^\"]*\": )?", "", text)
    text = re.sub(r" from https://\S+(?=: \d)", "", text)
    return text.replace("tls: failed to verify certificate: ", "").replace("x509: ", "", 1)


def quote(words: str) -> str:
    """On one line, and not longer than a reader reads."""
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}..."
