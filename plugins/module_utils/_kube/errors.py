# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The errors of requests to an API server, how its answers become objects or errors, and when a request is repeated. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from .._base.errors import CertflowError
from .._base.text import mask_login


class KubeError(CertflowError):
    """A failed request.

    status: the HTTP status, None without an answer.
    reason, message: fields of the API server's Status object
      (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
    """

    code = "api-error"

    def __init__(
        self,
        cause: str,
        *,
        code: str = "",
        evidence: Sequence[str] = (),
        remedy: str = "",
        status: int | None = None,
        reason: str = "",
        message: str = "",
    ) -> None:
        super().__init__(cause, code=code, evidence=evidence, remedy=remedy)
        self.status = status
        self.reason = reason
        self.message = message


class ConfigurationError(KubeError):
    """The options, the environment or the kubeconfig do not name one cluster and one identity."""

    code = "invalid-connection"


class KubeconfigError(ConfigurationError):
    """The kubeconfig cannot be read, or an entry or a field has the wrong type."""


class AuthenticationError(KubeError):
    """The credentials are missing, expired or refused, or the exec plugin failed."""

    code = "authentication-failed"


class ConnectionFailed(KubeError):
    """The server did not answer, or its certificate did not verify."""

    code = "unreachable"


class ApiError(KubeError):
    """An answer with an error. Subclasses exist for the common ones."""


class TimedOut(KubeError):
    """An answer began and did not end in time."""

    code = "timed-out"


class AnswerTooLarge(KubeError):
    """An answer is larger than this collection reads."""


class Forbidden(ApiError):
    """403: the identity does not have the permission, or a policy refuses the request."""

    code = "forbidden"


class NotFound(ApiError):
    """404 with a Status object. A page of a load balancer does not prove that the object does not exist."""

    code = "not-found"


class ListExpired(ApiError):
    """410: the API server no longer keeps the page of a list, or the version at which a watch begins."""


class TruncatedAnswer(ApiError):
    """The end of the answer is missing."""


class Conflict(ApiError):
    """409: the object has changed since it was read."""

    code = "conflict"


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists: a create met an object of that name."""

    code = "conflict"


class UnprocessableObject(ApiError):
    """422: the API server's validation refused the object."""

    code = "object-refused"


class MissingPermissions(KubeError):
    """Permissions are missing. The check ran before the first write."""

    code = "missing-permissions"
    lacks_permissions = True


ERRORS: dict[int, type[ApiError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: ListExpired,
    422: UnprocessableObject,
}
# The answer of an API server to an unknown path is not a Status object (net/http NotFound).
PLAIN_NOT_FOUND = b"404 page not found"
# An overloaded or restarting server. The same request may succeed later.
TRANSIENT = frozenset((429, 500, 502, 503, 504))
# Answers with status 500 that stay the same until the cause is repaired. The first is a refused certificate of a webhook (words of
# Go's crypto/x509). The second is an applied value that the type of its field cannot hold, such as a quantity (words of
# k8s.io/apimachinery, runtime.ObjectConvertor). The third is an applied field that does not exist, or has another type (words of
# managedfields/internal).
LASTING = ("x509: ", "unable to convert unstructured object to ", "failed to create typed patch object ")
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0


# The messages of real clusters have some hundred characters, and those with a whole object some thousand.
LONGEST_MESSAGE = 65536
# The memory of the fork for one answer, and for the objects of a list. A page of real clusters needs a tenth of the first.
MOST_MEMORY = 64 * 1024 * 1024
MOST_LIST_MEMORY = 512 * 1024 * 1024
# Bytes of Python's objects for each mark: a dictionary, a list, a value, and a key with its place in the table. tracemalloc.
_MARKS = {b"{": 200, b"[": 96, b",": 64, b":": 64}


def memory_of(body: bytes) -> int:
    """Return the bytes that the JSON text and its objects need at most. It parses nothing: 255 kB of gzip can be 6.6 GB."""
    copies = 2 if body.isascii() else 6  # a text with one emoji has four bytes for each character
    return len(body) * copies + sum(body.count(mark) * size for mark, size in _MARKS.items())


def check_memory(subject: str, size: int, most: int = 0) -> int:
    """Return the size. Raises AnswerTooLarge if it exceeds the limit, MOST_MEMORY for 0."""
    most = most or MOST_MEMORY
    if size > most:
        raise AnswerTooLarge(
            f"{subject} would need {size // 2**20} MiB of memory, more than {most // 2**20}",
            remedy="Check which server answers at the API server's address, and which objects have so many fields",
        )
    return size


def delay(attempt: int, retry_after: str | None = None) -> float:
    """Return the seconds to wait before the next attempt.

    attempt: the number of earlier attempts.
    retry_after: the header Retry-After in seconds, which is a lower bound.
    """
    backoff = min(FIRST_DELAY_SECONDS * 2.0**attempt, LONGEST_DELAY_SECONDS)
    asked = float(retry_after) if retry_after and re.fullmatch(r"\s*[0-9]+\s*", retry_after) else 0.0
    return max(backoff, asked)


# HTTP status -> remedy. Callers that know more replace it.
REMEDIES: dict[int, str] = {
    400: "Correct what the message names, such as a selector",
    403: "Grant the permission, or change the policy, that the message names",
    404: "Check the name and the namespace",
    409: "Another client writes the same object. Run the task again",
    422: "Change what the message names",
}
# Words of a refusal that no permission changes -> remedy. The first is GKE Autopilot (tailscale/tailscale#9475).
REFUSALS: dict[str, str] = {
    "managed-namespaces-limitation": "Use another namespace: GKE Autopilot manages this one, and refuses every write, also of "
    "an administrator",
}
OTHER_REMEDY = "Read the log of the API server, and run the task again"
FOREIGN_REMEDY = "Check which server answered: the address may belong to another server, or a proxy or load balancer answered"


def is_transient(error: KubeError, *, idempotent: bool) -> bool:
    """Return True if the request may be repeated after this answer. 429 means that it was not processed."""
    passes = error.status in TRANSIENT and not any(words in error.message for words in LASTING)
    return error.status == 429 or (idempotent and (passes or isinstance(error, TruncatedAnswer)))


def object_from(method: str, path: str, status: int, body: bytes) -> dict[str, Any]:
    """Return the object of an answer without an error. Raises TruncatedAnswer for a part of it, ApiError for other content."""
    value, is_part = _parse(body)
    if is_part or not body.strip():
        raise _cut_short(method, path, status)
    if not isinstance(value, dict):
        raise ApiError(
            f"{method} {path} was answered with {status} and no JSON object",
            remedy="Check that the address is that of a Kubernetes API server",
            status=status,
        )
    return value


def error_from(method: str, path: str, status: int, body: bytes, *, auth_source: str) -> KubeError:
    """Return the error for an answer with a status of 300 or more. It quotes the API server's message."""
    answer, is_part = _parse(body)
    if is_part:
        return _cut_short(method, path, status)
    answer = answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}
    message = str(answer.get("message") or "")[:LONGEST_MESSAGE] or _foreign_words(body)
    reason = str(answer.get("reason") or "")
    if status == 401 or (status == 403 and 'User "system:anonymous"' in message):
        return AuthenticationError(
            f"the API server refused the credentials of {auth_source}",
            evidence=(f"HTTP {status}: {message}",),
            remedy="Renew the token, the client certificate or the kubeconfig: they have expired, or belong to another cluster",
            status=status,
            reason=reason,
            message=message,
        )
    named = (remedy for words, remedy in REFUSALS.items() if status == 403 and words in message)
    is_foreign = not answer and body.strip() != PLAIN_NOT_FOUND
    error_class: type[ApiError] = ERRORS.get(status, ApiError)
    remedy = next(named, REMEDIES.get(status, OTHER_REMEDY))
    if is_foreign:
        error_class = ApiError
        remedy = FOREIGN_REMEDY
    elif reason == "AlreadyExists":
        error_class = AlreadyExists
    return error_class(
        f"{method} {path} was answered with {status} {reason or 'error'}: {message}".strip(),
        remedy=remedy,
        status=status,
        reason=reason,
        message=message,
    )


def _parse(body: bytes) -> tuple[Any, bool]:
    """Return the value, None for another text or too large a value, and True if the text is the beginning of a JSON object."""
    try:
        return (json.loads(body) if memory_of(body) <= MOST_MEMORY else None), False
    except ValueError:
        return None, body.lstrip().startswith(b"{")
    except RecursionError:
        return None, False


def _cut_short(method: str, path: str, status: int) -> TruncatedAnswer:
    return TruncatedAnswer(
        f"{method} {path} was answered with {status} and half of a JSON object",
        remedy="Check the proxies between this host and the API server, and run the task again",
        status=status,
    )


def as_list(path: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a GET if it is a list. Raise ApiError for other JSON, which must not count as an empty list.

    Go writes the items of an empty list as null.
    """
    if isinstance(answer.get("items", ""), (list, type(None))) and isinstance(
        answer.get("metadata") or {}, dict
    ):
        return answer
    raise ApiError(f"GET {path} was answered with other JSON than a list", remedy=FOREIGN_REMEDY)


def _foreign_words(body: bytes) -> str:
    """Return a page of a load balancer or proxy, shortened to one line. It may echo the headers of the request."""
    text = mask_login(" ".join(body[:2000].decode("utf-8", "replace").split()))[:200]
    return f"not an answer of a Kubernetes API server: {text}" if text else "an empty answer"


def warning_texts(header: str | None) -> list[str]:
    """Return the texts of a Warning header (RFC 7234 section 5.5). Kubernetes sends: 299 - "text"."""
    return [re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) for text in _QUOTED.findall(header or "")]


# The pattern reads each character once, also if a quote does not end.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)', re.DOTALL)
