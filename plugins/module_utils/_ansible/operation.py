# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The operation of a module, and how its end becomes Ansible's result, in both execution modes."""

from __future__ import annotations

import contextlib
import importlib
import os
import ssl
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from .._base.errors import CertflowError, as_error
from .._base.result import Result
from .._kube.access_review import grant
from .._kube.client import Client
from .._kube.cluster_facts import read_cluster_uid
from .._kube.errors import AuthenticationError, KubeError
from .._kube.login.connection import Connection
from .._kube.login.kubeconfig import MUST_NAME_CONTEXT, check_context, resolve
from .._process import interrupt
from .._x509.certificate_facts import describe_pem
from .._x509.errors import CertificateError
from . import redaction

# What a library prepares at its first use. In Ansible's forks that would happen once for each host.
with contextlib.suppress(ImportError):
    importlib.import_module("cryptography.hazmat.backends.openssl.backend")
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

VERSION = "1.0.0"
READING_OVERTIME_SECONDS = 10.0
# The Python libraries that every operation needs: import name -> the requirement for pip. The oldest versions are tested.
LIBRARIES: dict[str, str] = {
    "kubernetes.config.kube_config": "kubernetes>=24.2.0",
    "cryptography.x509": "cryptography>=42.0.0",
}
#: The one that a provider with a rule of the user needs.
LIBRARIES_OF_RULES = {"jmespath": "jmespath>=1.0.0"}


@dataclass(frozen=True)
class Operation:
    """The work of a module."""

    #: The name of the module.
    name: str
    argument_spec: Mapping[str, Any]
    #: Called with the client, the validated parameters, and True for check mode. Raises CertflowError.
    run: Callable[[Client, Mapping[str, Any], bool], Result]
    #: The other arguments of an argument spec, such as mutually_exclusive and required_if.
    constraints: Mapping[str, Any] = field(default_factory=dict)
    #: The options that are seconds of waiting, and how often the operation waits for that time at most.
    waits: Mapping[str, int] = field(default_factory=lambda: {"wait_timeout": 1})
    #: The files of docs/rbac that a task with these options needs, without their suffix.
    roles: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda _parameters: ()
    #: The seconds after wait_timeout in which requests are still sent. Only for an operation that never writes.
    overtime: float = float("inf")
    #: True if the result has the duration, also after a failure.
    is_timed: bool = False

    @property
    def hidden(self) -> frozenset[str]:
        """Return the options whose values are secret."""
        return frozenset(name for name, spec in self.argument_spec.items() if spec.get("no_log"))


def missing_libraries(more: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Return the requirements that pip would have to install for this interpreter. more: further rows like LIBRARIES."""
    return [name for module, name in {**LIBRARIES, **more}.items() if not _is_importable(module)]


def execute(
    operation: Operation,
    parameters: Mapping[str, Any],
    *,
    check_mode: bool,
    check_cluster: Callable[[Client], None] | None = None,
) -> dict[str, Any]:
    """Run the operation and return Ansible's result. A signal does not interrupt a write.

    check_cluster: called before the operation. It raises CertflowError for a cluster that must not be used.

    A success has ``changed``, ``cluster`` and the values of the operation. A failure has ``failed``, ``msg`` (one line),
    ``code``, ``cause``, ``evidence`` and ``remedy``. Raises only errors that end the process.
    """
    # A library may warn of what a cluster sends. In Ansible's process a warning is printed, and a thread of a fork must not print.
    with warnings.catch_warnings(), interrupt.watch_signals():
        warnings.simplefilter("ignore")
        return _execute(operation, parameters, check_mode, check_cluster)


def _execute(
    operation: Operation,
    parameters: Mapping[str, Any],
    check_mode: bool,
    check_cluster: Callable[[Client], None] | None,
) -> dict[str, Any]:
    client: Client | None = None
    begin = time.monotonic()
    try:
        _require_libraries()
        interrupt.check_not_stopped()
        _check_time(parameters["wait_timeout"])
        client = _client(operation, parameters)
        client.overtime = operation.overtime
        client.hooks.append(interrupt.stop_with_parent())
        _guard(client, parameters.get("cluster_uid"))
        if check_cluster is not None:
            check_cluster(client)
        result = operation.run(client, parameters, check_mode)
        answer = _success(client, result, parameters, operation)
    except interrupt.RunInterrupted as exc:
        answer = _failure(client, exc.error(), parameters, operation)
    except Exception as exc:
        answer = _failure(client, as_error(exc), parameters, operation)
    finally:
        if client is not None:
            client.close()
    if operation.is_timed:
        answer["seconds"] = round(time.monotonic() - begin, 1)
    cleaned: dict[str, Any] = redaction.clean(answer)
    return cleaned


def _require_libraries() -> None:
    requirements = missing_libraries()
    if requirements:
        raise CertflowError(
            f"{sys.executable} lacks the Python libraries {', '.join(requirements)}",
            code="missing-library",
            remedy="Install them for that interpreter, or run the task on the controller: delegate_to: localhost, with "
            "ansible_python_interpreter: '{{ ansible_playbook_python }}'",
        )


def _is_importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _check_time(seconds: int) -> None:
    if seconds < 1:
        raise CertflowError(
            f"the option wait_timeout has the value {seconds}", remedy="Set wait_timeout to 1 or more seconds"
        )


def _client(operation: Operation, parameters: Mapping[str, Any]) -> Client:
    if os.environ.get(MUST_NAME_CONTEXT):
        check_context(parameters, os.environ)
    return Client(
        resolve(parameters, os.environ),
        user_agent=f"certflow.kubernetes/{VERSION} ({operation.name})",
        deadline=time.monotonic() + parameters["wait_timeout"],
    )


def _guard(client: Client, uid: str | None) -> None:
    """Raise KubeError if the cluster is not the one with this UID."""
    if not uid:
        return
    actual = read_cluster_uid(client)
    if actual != uid:
        raise KubeError(
            f"the UID of the namespace kube-system is {actual}, not {uid}, so this is another cluster than the task names",
            code="wrong-cluster",
            remedy="Check kubeconfig, context and cluster_uid",
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
    texts = [*result.warnings, *(f"API server: {text}" for text in client.warnings)]
    return {**answer, "warnings": texts} if texts else answer


def failed_result(error: CertflowError) -> dict[str, Any]:
    """Return the result of a task that wrote nothing and failed."""
    return {
        "failed": True,
        "changed": False,
        "msg": str(error),
        "code": error.code,
        "cause": error.cause,
        "evidence": list(error.evidence),
        "remedy": error.remedy,
    }


def _failure(
    client: Client | None, error: CertflowError, parameters: Mapping[str, Any], operation: Operation
) -> dict[str, Any]:
    where = f"{client.host}: " if client else ""
    values = error.values
    if error.lacks_permissions:
        error.remedy = ". ".join(
            filter(None, (grant(*(error.roles or operation.roles(parameters))), error.remedy))
        )
    written = list(client.written) if client else []
    evidence = [*error.evidence, *_expiry(client, error)]
    if written and "steps" not in values:  # the steps tell more
        evidence.append(f"written before the failure: {', '.join(written)}")
    answer: dict[str, Any] = {
        **failed_result(error),
        "changed": bool(written),
        "msg": f"{where}{error}",
        "evidence": evidence,
        "invocation": redaction.invocation(parameters, operation.hidden),
        **values,
    }
    return {**answer, "cluster": _cluster(client)} if client else answer


def _cluster(client: Client) -> dict[str, str]:
    return {"host": client.host, "auth_source": client.auth_source}


def _expiry(client: Client | None, error: CertflowError) -> list[str]:
    """Return the end of the refused client certificate's lifetime, as evidence."""
    connection: Connection | None = client.connection if client else None
    if not (connection and connection.client_certificate and isinstance(error, AuthenticationError)):
        return []
    try:
        facts = describe_pem(connection.client_certificate)
    except CertificateError:
        return []
    return [f"the client certificate ({facts.subject}) is valid until {facts.not_after:%Y-%m-%d %H:%M} UTC"]


def run_module(operation: Operation) -> None:
    """Validate the arguments, run the operation, and print its result."""
    module = AnsibleModule(
        argument_spec=dict(operation.argument_spec),
        supports_check_mode=True,
        no_log=True,  # keeps a kubeconfig given as a dictionary out of the target's syslog
        **operation.constraints,
    )
    redaction.protect(module.params, module.no_log_values)
    result = execute(operation, module.params, check_mode=module.check_mode)
    for text in result.pop("warnings", ()):
        module.warn(text)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)
