# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What can go wrong between this process and an API server."""

from __future__ import annotations

from collections.abc import Sequence

from .._errors import CertflowError


class KubeError(CertflowError):
    """The root of this room's errors.

    ``status`` is the HTTP status (None where there was no answer), ``reason`` and ``message`` are the
    API server's own words (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
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
    """The options, the environment or the kubeconfig do not say clearly which cluster is meant, and as whom."""

    code = "invalid-connection"


class KubeconfigError(ConfigurationError):
    """The kubeconfig cannot be read, or an entry or a field has another type than Kubernetes describes."""

    code = "invalid-kubeconfig"


class AuthenticationError(KubeError):
    """The credentials are missing, expired or refused, or the plugin that makes them failed."""

    code = "authentication-failed"


class PluginFailed(AuthenticationError):
    """The exec plugin of the kubeconfig did not provide credentials."""

    code = "exec-plugin-failed"


class PluginMissing(AuthenticationError):
    """The program of the exec plugin is not installed."""

    code = "exec-plugin-missing"


class ConnectionFailed(KubeError):
    """No answer: the server cannot be reached, or is not the one that its CA vouches for."""

    code = "unreachable"


class ApiError(KubeError):
    """An answer with an error that has no class of its own."""


class TimedOut(KubeError):
    """An answer began and did not end in time."""

    code = "timed-out"


class AnswerTooLarge(KubeError):
    """An answer is larger than this collection reads."""

    code = "answer-too-large"


class Forbidden(ApiError):
    """403: authenticated, and not allowed."""

    code = "forbidden"


class NotFound(ApiError):
    """404, in the API server's own words: a page of a load balancer says nothing of the object."""

    code = "not-found"


class ListExpired(ApiError):
    """410: the page of a list, or the version that a watch was to begin at, is not kept any more."""

    code = "list-expired"


class TruncatedAnswer(ApiError):
    """An answer whose end is missing."""

    code = "answer-cut-short"


class Conflict(ApiError):
    """409: the object has changed since it was read."""

    code = "conflict"


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists: a create met an object of that name."""

    code = "already-exists"


class InvalidObject(ApiError):
    """422: the API server's validation refused the object."""

    code = "object-invalid"


class MissingPermissions(KubeError):
    """Rights that the operation needs are missing; found before anything was written."""

    code = "missing-permissions"
