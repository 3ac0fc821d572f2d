# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of API servers become objects and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import errors
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    delay,
    error_from,
    is_transient,
    warning_texts,
)


def status(reason: str, message: str) -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()


def error(code: int, body: bytes) -> errors.KubeError:
    return error_from("GET", "/api/v1/x", code, body, auth_source="kubeconfig /k, context c")


ANONYMOUS = 'secrets is forbidden: User "system:anonymous" cannot list resource "secrets"'


@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, status("BadRequest", "bad"), errors.ApiError),
        (401, status("Unauthorized", "Unauthorized"), errors.AuthenticationError),
        (403, status("Forbidden", 'User "me" cannot'), errors.Forbidden),
        (403, status("Forbidden", ANONYMOUS), errors.AuthenticationError),
        (404, status("NotFound", "gone"), errors.NotFound),
        (409, status("Conflict", "modified"), errors.Conflict),
        (409, status("AlreadyExists", "exists"), errors.AlreadyExists),
        (422, status("Invalid", "invalid"), errors.UnprocessableObject),
        (429, status("TooManyRequests", "later"), errors.ApiError),
        (503, b"<html><body>Bad\n Gateway</body></html>", errors.ApiError),
    ],
)
def test_kind(code: int, body: bytes, kind: type[errors.KubeError]) -> None:
    result = error(code, body)
    assert type(result) is kind
    assert result.status == code
    assert "\n" not in str(result)


def test_a_page_that_echoes_headers_shows_no_credential() -> None:
    page = b"<pre>GET /api HTTP/1.1\nAuthorization: Bearer abc.def-123456\nHost: api</pre>"
    assert "Authorization: *** Host: api</pre>" in str(error(502, page))


def test_own_words() -> None:
    result = error(422, status("Invalid", "metadata.name: Invalid value"))
    assert (result.reason, result.message) == ("Invalid", "metadata.name: Invalid value")
    assert "GET /api/v1/x was answered with 422 Invalid: metadata.name: Invalid value" in str(result)


def test_authentication_names_the_source_and_keeps_the_words() -> None:
    result = error(401, status("Unauthorized", "Unauthorized"))
    assert "kubeconfig /k, context c" in str(result)
    assert result.evidence == ("HTTP 401: Unauthorized",)
    assert result.remedy


def test_a_namespace_of_gke_autopilot_needs_no_permission() -> None:
    words = (
        'GKE Warden authz [denied by managed-namespaces-limitation]: the namespace "kube-system" is managed'
    )
    assert errors.REFUSALS["managed-namespaces-limitation"] == error(403, status("Forbidden", words)).remedy
    assert errors.REMEDIES[403] == error(403, status("Forbidden", "no permission")).remedy


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"\xff\xfe", b"<html>" + b"x" * 5000])
def test_foreign_answers_are_short(body: bytes) -> None:
    assert len(str(error(502, body))) < 400


@pytest.mark.parametrize(
    ("code", "message", "read", "write"),
    [
        (429, "later", True, True),  # not processed at all: a POST may be sent again
        (500, "etcdserver: leader changed", True, False),
        (502, "", True, False),
        (503, "", True, False),
        (504, "", True, False),
        (500, 'failed calling webhook "h": tls: failed to verify certificate: x509: unknown authority', False, False),
        # A quantity such as "many" in an applied Deployment.
        (500, "failed to convert new object (apps/hook) to proper version: unable to convert unstructured object to apps/v1", False, False),
        # A field of an applied Deployment that does not exist, or a text for a number.
        (500, "failed to create typed patch object (apps/hook; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema", False, False),
        (409, "", False, False),
        (404, "", False, False),
    ],
)  # fmt: skip
def test_transient(code: int, message: str, read: bool, write: bool) -> None:
    answer = error(code, status("", message))
    assert (is_transient(answer, idempotent=True), is_transient(answer, idempotent=False)) == (read, write)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "seconds"),
    [
        *((0, None, 0.25), (1, None, 0.5), (20, None, 10), (0, "3", 3), (0, " 3 ", 3), (5, "1", 8)),
        # A date is allowed by HTTP and never sent by Kubernetes.
        *((0, "\u00b2", 0.25), (0, "9" * 400, float("inf"))),  # a digit for Python, in no header of HTTP
        *((0, "Wed, 21 Oct 2015 07:28:00 GMT", 0.25), (0, "-1", 0.25), (0, "", 0.25)),
    ],
)
def test_delay(attempt: int, retry_after: Any, seconds: float) -> None:
    assert delay(attempt, retry_after) == seconds


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        (None, []),
        ("", []),
        ('299 - "v1beta1 is deprecated"', ["v1beta1 is deprecated"]),
        ('299 - "one", 299 - "two, \\"quoted\\" \\\\"', ["one", 'two, "quoted" \\']),
        ('299 - "never closed', ["never closed"]),
        ('299 - "ends in the middle of an escape\\', ["ends in the middle of an escape"]),
        ("nonsense", []),
    ],
)
def test_warnings(header: str | None, texts: list[str]) -> None:
    assert warning_texts(header) == texts
