# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Name the cause of a failed webhook call from the API server's message. Pure: tables and two look-ups.

Kubernetes reports every failed call as an internal error with a text of Go or of the API server, and without a code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..._base.text import shortened
from .call_faults import FAULTS, FailureRow

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
            return _first((), words, ELSEWHERE, _OF_ANOTHER)
        if frame.about == REFUSAL:
            said = match["detail"].lstrip(": ").strip() or "without explanation"
            return CallFailure(DENIED, REFUSAL, f"it denied the object: {quote(said)}", _DENIED_REMEDY)
        rows = OTHERS if frame.about == ELSEWHERE else FAULTS
        other = _NOT_CONVERTED if frame.kind == CONVERSION else _UNNAMED
        return _first(rows, match["detail"], frame.about, other)
    return of_call(words) if kind == AGGREGATION else _first(OTHERS, words, ELSEWHERE, _REFUSED_ELSEWHERE)


def of_call(words: str) -> CallFailure:
    """Name the failure of a webhook call from a message about this call."""
    return _first(FAULTS, words, CALL, _UNNAMED)


def said_by_webhook(words: str) -> str:
    """Return the reason that a webhook gave for its denial, "" if the message is not a denial."""
    match = re.match(next(frame for frame in FRAMES if frame.about == REFUSAL).pattern, words, re.DOTALL)
    return match["detail"].lstrip(": ").strip() if match else ""


_DENIED_REMEDY = "Give an object that its rule allows, or expect: denied"
#: The row of a failure that no other row names.
_UNNAMED = FailureRow(
    "unnamed",
    "",
    "the API server cannot use it: {words}",
    "Read the logs of the webhook and of the API server",
    source="",
)
#: The message of a conversion quotes the webhook's own words after "failed: ".
_NOT_CONVERTED = FailureRow(
    "conversion-refused",
    "",
    "it does not convert the object: {words}",
    "Give an object that it can convert, or read the logs of the webhook",
    source="",
)
_OF_ANOTHER = FailureRow(
    "another-webhook",
    "",
    "another webhook ended the request: {words}",
    "Probe the other webhook, or give an object that it allows",
    source="",
)
_REFUSED_ELSEWHERE = FailureRow(
    "refused-elsewhere",
    "",
    "the API server refused the request: {words}",
    "Give an object that the API server accepts",
    source="",
)


def _first(rows: Sequence[FailureRow], words: str, about: str, other: FailureRow) -> CallFailure:
    """Return the failure by the first row whose pattern the words have, or by the other row."""
    row = next((row for row in rows if row.words and re.search(row.words, words, re.DOTALL)), other)
    said = quote(words if about == ELSEWHERE else _without_prefix(words))
    return CallFailure(row.id, about, row.cause.format(words=said), row.remedy)


def _without_prefix(words: str) -> str:
    """Return the message without the called address, which is long and known from the client configuration."""
    text = re.sub(r"^(?:failed: )?(?:failed to call webhook: )?(?:could not get REST client: )?", "", words)
    text = re.sub(r"^(?:failing or missing response from \S+: )?(?:(?:Post|Get) \"[^\"]*\": )?", "", text)
    text = re.sub(r" from https://\S+(?=: \d)", "", text)
    return text.replace("tls: failed to verify certificate: ", "").replace("x509: ", "", 1)


def quote(words: str) -> str:
    """Return the text on one line, cut at _LONGEST_QUOTE characters."""
    return shortened(words, _LONGEST_QUOTE)
