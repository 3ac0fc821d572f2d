# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Errors of requests to an API server."""

from __future__ import annotations

from collections.abc import Sequence

from .._base.errors import CertflowError


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
