# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""One shape for all operations, and the one place where an error becomes a result."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .._errors import CertflowError, as_error
from .._kube.client import Client
from .._kube.cluster_facts import cluster_uid
from .._kube.connection import Connection
from .._kube.errors import AuthenticationError, KubeError
from .._kube.kubeconfig import resolve
from .._process import interrupt
from .._result import Result
from .._x509.certificate_facts import describe_pem
from .._x509.errors import CertificateError
from . import clean_text, libraries, redaction

VERSION = "1.0.0"


@dataclass(frozen=True)
class Operation:
    """A module's work. ``run(client, parameters, check_mode)`` raises CertflowError; ``constraints`` are
    the other arguments of an argument spec (mutually_exclusive, required_if, ...); ``waits`` says which options are
    seconds of waiting, and how many times over at the most.
    """

    name: str
    argument_spec: Mapping[str, Any]
    run: Callable[[Client, Mapping[str, Any], bool], Result]
    constraints: Mapping[str, Any] = field(default_factory=dict)
    waits: Mapping[str, int] = field(default_factory=lambda: {"wait_timeout": 1})

    @property
    def hidden(self) -> frozenset[str]:
        """Options whose values are secret."""
        return frozenset(name for name, spec in self.argument_spec.items() if spec.get("no_log"))

    def parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a call by another operation: the given values and the defaults of the other options."""
        return {**{name: spec.get("default") for name, spec in self.argument_spec.items()}, **given}


def execute(operation: Operation, parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run the operation and return Ansible's result dictionary. Raises only errors that end the process.

    Both doors come through here: a success has ``changed``, ``cluster`` and the operation's values; a failure
    ``failed``, ``msg`` (one line), ``code`` and ``cause``, ``evidence``, ``remedy``. A signal does not cut a write.
    """
    with interrupt.watched():
        return _execute(operation, parameters, check_mode)


def _execute(operation: Operation, parameters: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    client: Client | None = None
    try:
        libraries.require()
        interrupt.check_not_stopped()
        _check_time(parameters["wait_timeout"])
        client = _client(operation, parameters)
        _guard(client, parameters.get("cluster_uid"))
        result = operation.run(client, parameters, check_mode)
        answer = _success(client, result, parameters, operation)
    except interrupt.Interrupted as exc:
        answer = _failure(client, exc.error(), parameters, operation)
    except Exception as exc:
        answer = _failure(client, as_error(exc), parameters, operation)
    finally:
        if client is not None:
            client.close()
    cleaned: dict[str, Any] = clean_text.clean(answer)
    return cleaned


def _check_time(seconds: int) -> None:
    if seconds < 1:
        raise CertflowError(f"the wait_timeout is {seconds}", remedy="give a number of seconds, 1 or more")


def _client(operation: Operation, parameters: Mapping[str, Any]) -> Client:
    return Client(
        resolve(parameters, os.environ),
        user_agent=f"certflow.kubernetes/{VERSION} ({operation.name})",
        deadline=time.monotonic() + parameters["wait_timeout"],
    )


def _guard(client: Client, uid: str | None) -> None:
    """Raise KubeError for another cluster than the task names."""
    if not uid:
        return
    actual = cluster_uid(client)
    if actual != uid:
        raise KubeError(
            f"this is another cluster than the task names: the UID of its namespace kube-system is {actual}, not {uid}",
            code="wrong-cluster",
            remedy="check kubeconfig, context and cluster_uid",
        )


def _success(
    client: Client, result: Result, parameters: Mapping[str, Any], operation: Operation
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "changed": result.changed,
        **result.values,
        "cluster": _cluster(client),
        "invocation": redaction.invocation(parameters, operation.hidden),
    }
    if result.diff is not None:
        answer["diff"] = dict(result.diff)
    warnings = [*result.warnings, *(f"API server: {text}" for text in client.warnings)]
    return {**answer, "warnings": warnings} if warnings else answer


def _failure(
    client: Client | None, error: CertflowError, parameters: Mapping[str, Any], operation: Operation
) -> dict[str, Any]:
    where = f"{client.host}: " if client else ""
    values = error.values
    written = list(client.written) if client else []
    evidence = [*error.evidence, *_expiry(client, error)]
    if written and "steps" not in values:  # the steps tell it better
        evidence.append(f"written before the failure: {', '.join(written)}")
    answer: dict[str, Any] = {
        "failed": True,
        "changed": bool(written),
        "msg": f"{where}{error}",
        "code": error.code,
        "cause": error.cause,
        "evidence": evidence,
        "remedy": error.remedy,
        "invocation": redaction.invocation(parameters, operation.hidden),
        **values,
    }
    return {**answer, "cluster": _cluster(client)} if client else answer


def _cluster(client: Client) -> dict[str, str]:
    return {"host": client.host, "auth_source": client.auth_source}


def _expiry(client: Client | None, error: CertflowError) -> list[str]:
    """When the client certificate that was refused expires: _kube knows no certificates."""
    connection: Connection | None = client.connection if client else None
    if not (connection and connection.client_certificate and isinstance(error, AuthenticationError)):
        return []
    try:
        facts = describe_pem(connection.client_certificate)
    except CertificateError:
        return []
    return [f"the client certificate ({facts.subject}) is valid until {facts.not_after:%Y-%m-%d %H:%M} UTC"]
