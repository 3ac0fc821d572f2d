# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Choose the cluster and the identity from the task's options and the environment, as whole bundles.

kubernetes.core weighs each option on its own. So a task's kubeconfig can lose to K8S_AUTH_HOST, and the token of one cluster can
travel to the host of another. Here an identity is a bundle: the environment never completes a bundle of the task with values for
another cluster. An error explains an API server whose CA is not in the kubeconfig, as on the morning after a rotation of the CA.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ConnectionFailed

# Option -> environment variables with the names of kubernetes.core. The first variable with a value counts.
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "kubeconfig": ("K8S_AUTH_KUBECONFIG",),
    "context": ("K8S_AUTH_CONTEXT",),
    "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",),
    "client_cert": ("K8S_AUTH_CLIENT_CERT", "K8S_AUTH_CERT_FILE"),
    "client_key": ("K8S_AUTH_CLIENT_KEY", "K8S_AUTH_KEY_FILE"),
    "validate_certs": ("K8S_AUTH_VALIDATE_CERTS", "K8S_AUTH_VERIFY_SSL"),
    "ca_cert": ("K8S_AUTH_CA_CERT", "K8S_AUTH_SSL_CA_CERT"),
    "proxy": ("K8S_AUTH_PROXY",),
    "no_proxy": ("K8S_AUTH_NO_PROXY",),
    "impersonate_user": ("K8S_AUTH_IMPERSONATE_USER",),
    "impersonate_groups": ("K8S_AUTH_IMPERSONATE_GROUPS",),
}
PROXY_HEADERS: dict[str, str] = {
    "proxy_basic_auth": "K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH",
    "basic_auth": "K8S_AUTH_PROXY_HEADERS_BASIC_AUTH",
    "user_agent": "K8S_AUTH_PROXY_HEADERS_USER_AGENT",
}
KUBECONFIG_OPTIONS = ("kubeconfig", "context")
CREDENTIAL_OPTIONS = ("api_key", "client_cert", "client_key")
DIRECT_OPTIONS = ("host", *CREDENTIAL_OPTIONS)
# These options do not name a cluster or an identity, so the environment may add them to the task's bundle.
TRANSPORT_OPTIONS = (
    "validate_certs",
    "ca_cert",
    "proxy",
    "no_proxy",
    "impersonate_user",
    "impersonate_groups",
)

# AWX sets this variable in each job, and gives the file of a credential a new path each time.
AWX = "AWX_PRIVATE_DATA_DIR"
CREDENTIAL = "the credential of this AWX job"
TRUE = frozenset(("1", "true", "yes", "on", "y", "t", "enabled"))
FALSE = frozenset(("0", "false", "no", "off", "n", "f", "disabled"))


@dataclass(frozen=True)
class ExecPlugin:
    """A credential plugin of a kubeconfig."""

    #: The user's ``exec`` entry.
    config: Mapping[str, Any] = field(repr=False)
    #: The directory from which a relative command starts.
    directory: str = ""
    #: The cluster entry, which provideClusterInfo passes on.
    cluster: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Connection:
    """One cluster and one identity. ``repr`` omits secrets. Certificates and keys are PEM text."""

    #: The URL of the API server.
    host: str
    #: The source of the connection in words, for results and errors.
    auth_source: str
    #: None for the system's trust store.
    ca_pem: str | None = None
    verify: bool = True
    tls_server_name: str | None = None
    client_certificate: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    #: The user name and the password of a kubeconfig, for a proxy before the API server. It is no option.
    basic: tuple[str, str] | None = field(default=None, repr=False)
    exec_plugin: ExecPlugin | None = None
    proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = None
    proxy_headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()

    @property
    def proof(self) -> tuple[str, str]:
        """Return the address with the TLS name of the API server, and the SHA-256 sum of the CA that verifies it.

        The sum is "" if nothing verifies the server. The server of an equal proof has the key of a certificate for that name.
        """
        name = f"{self.host.rstrip('/').lower()} {self.tls_server_name or ''}"
        is_verified = self.verify and name.startswith("https:")
        ca = "".join((self.ca_pem or "system").split())
        return name, hashlib.sha256(ca.encode()).hexdigest() if is_verified else ""


@dataclass(frozen=True)
class ConnectionSources:
    """The chosen bundle."""

    #: "kubeconfig", "direct", or "default" (KUBECONFIG, a pod's service account, ~/.kube/config).
    kind: str
    #: Option -> value.
    values: Mapping[str, Any]
    #: Option -> the source of the value in words.
    origins: Mapping[str, str]


def choose(options: Mapping[str, Any], environ: Mapping[str, str]) -> ConnectionSources:
    """Choose one bundle. Empty values count as unset.

    Raises ConfigurationError for a mixture of bundles and for an incomplete bundle.
    """
    task = {name: options[name] for name in ENVIRONMENT if options.get(name) not in (None, "", [])}
    variables = {name: next(filter(environ.get, ENVIRONMENT[name]), "") for name in ENVIRONMENT}
    env = {name: environ[variable] for name, variable in variables.items() if variable}
    in_task = {name: f"the task's option {name}" for name in task}
    in_env = {name: f"the environment's {variables[name]}" for name in env}
    if "kubeconfig" in env and environ.get(AWX):
        in_env["kubeconfig"] = CREDENTIAL

    _refuse(in_task, KUBECONFIG_OPTIONS, in_task, DIRECT_OPTIONS)
    kind = _kind(task)
    if kind is None:
        _refuse(in_env, KUBECONFIG_OPTIONS, in_env, DIRECT_OPTIONS)
        kind = _kind(env)
    elif kind == "kubeconfig":
        _refuse(in_task, KUBECONFIG_OPTIONS, in_env, DIRECT_OPTIONS)
    else:
        _refuse(in_task, DIRECT_OPTIONS, in_env, KUBECONFIG_OPTIONS)
        if not _same_host(task, env):
            _refuse(in_task, DIRECT_OPTIONS, in_env, DIRECT_OPTIONS)

    added = {name: env[name] for name in (*_completing(task, env), *TRANSPORT_OPTIONS) if name in env}
    values: dict[str, Any] = {**added, **task}
    origins = {name: in_task.get(name) or in_env[name] for name in values}
    if kind == "direct":
        _require_complete(values, origins)
    if "validate_certs" in values:
        values["validate_certs"] = _boolean(values["validate_certs"], origins["validate_certs"])
    values["impersonate_groups"] = _list(values.get("impersonate_groups", ()))
    values["proxy_headers"] = _proxy_headers(options.get("proxy_headers") or {}, environ)
    return ConnectionSources(kind or "default", values, origins)


def _kind(names: Mapping[str, Any]) -> str | None:
    if any(name in names for name in DIRECT_OPTIONS):
        return "direct"
    return "kubeconfig" if any(name in names for name in KUBECONFIG_OPTIONS) else None


def _completing(task: Mapping[str, Any], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the options of an identity that the environment may add to the task's options."""
    if _kind(task) is None:
        return (*KUBECONFIG_OPTIONS, *DIRECT_OPTIONS)
    if _kind(task) == "kubeconfig":
        # A context of the environment belongs to the environment's file, not to the task's file.
        return () if "kubeconfig" in task else ("kubeconfig",)
    own = any(name in task for name in CREDENTIAL_OPTIONS)
    return CREDENTIAL_OPTIONS if _same_host(task, env) and not own else ()


def _same_host(task: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    return "host" in task and str(task["host"]).rstrip("/") == env.get("host", "").rstrip("/")


def _refuse(
    first: Mapping[str, str], names: Iterable[str], second: Mapping[str, str], other_names: Iterable[str]
) -> None:
    """Raise ConfigurationError if ``first`` has one of ``names`` and ``second`` has one of ``other_names``."""
    kept = next((first[name] for name in names if name in first), None)
    other = next((second[name] for name in other_names if name in second), None)
    if kept and other:
        raise ConfigurationError(
            f"two sources name a cluster: {kept} and {other}. A request or a token could reach the wrong cluster",
            remedy=f"Set the whole connection in one place: remove {other}, or {kept}",
        )


def _require_complete(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    option = next(name for name in DIRECT_OPTIONS if name in values)
    if "host" not in values:
        raise ConfigurationError(
            f"{origins[option]} is set without a host",
            remedy="Set host too, or use kubeconfig and context instead",
        )
    complete = (("api_key",), ("client_cert", "client_key"))
    if not any(all(name in values for name in names) for names in complete):
        raise ConfigurationError(
            f"{origins['host']} is set without credentials",
            remedy="Set api_key, or client_cert and client_key",
        )


def _boolean(value: Any, origin: str) -> bool:
    """Return the boolean of a word. Raise ConfigurationError for other words, which kubernetes.core treats as true."""
    text = str(value).strip().lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise ConfigurationError(f"{origin} is neither true nor false: {value!r}", remedy="Use true or false")


def _list(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    return [str(part).strip() for part in parts if str(part).strip()]


def _proxy_headers(option: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    values = {name: option.get(name) or environ.get(variable) for name, variable in PROXY_HEADERS.items()}
    return {name: str(value) for name, value in values.items() if value}


def is_content(kubeconfig: Any) -> bool:
    """Return True if the value is the content of a kubeconfig, as a dictionary or text, and not a path. Content is secret."""
    return (
        any(mark in kubeconfig for mark in ("\n", "{", ": "))
        if isinstance(kubeconfig, str)
        else isinstance(kubeconfig, (Mapping, list))
    )


#: The results of OpenSSL for a chain that no CA of the bundle verifies (include/openssl/x509_vfy.h): X509_V_ERR_CERT_SIGNATURE_FAILURE,
#: _DEPTH_ZERO_SELF_SIGNED_CERT, _SELF_SIGNED_CERT_IN_CHAIN, _UNABLE_TO_GET_ISSUER_CERT_LOCALLY, _UNABLE_TO_VERIFY_LEAF_SIGNATURE.
_NO_CHAIN = (7, 18, 19, 20, 21)
#: The end of the address of an API server, or the exec plugin of the kubeconfig -> the command that fetches the new CA.
_COMMANDS: tuple[tuple[str, str, str], ...] = (
    (".eks.amazonaws.com", "aws", "aws eks update-kubeconfig --name CLUSTER"),
    (".azmk8s.io", "kubelogin", "az aks get-credentials --resource-group GROUP --name CLUSTER"),
    (".gke.goog", "gke-gcloud-auth-plugin", "gcloud container clusters get-credentials CLUSTER"),
)
_BY_HAND = (
    "Copy certificate-authority-data from a kubeconfig of the control plane (kubeadm: /etc/kubernetes/admin.conf, k3s: "
    "/etc/rancher/k3s/k3s.yaml), after you compared the fingerprint there"
)


def is_unknown_ca(connection: Connection, error: object) -> bool:
    """Return True if no CA of the connection verifies the server. Names and dates are other reasons to refuse it."""
    return connection.ca_pem is not None and getattr(error, "verify_code", 0) in _NO_CHAIN


def unknown_ca(connection: Connection, words: str) -> ConnectionFailed:
    """Return the error. words: those of the TLS library."""
    return ConnectionFailed(
        "no CA of the kubeconfig verifies the certificate of the API server",
        code="cluster-ca-unknown",
        evidence=[f"{connection.auth_source}: {words}"],
        remedy=f"If the CA of the cluster was rotated, fetch the new one: {_command(connection)}. If not, the address "
        "leads to another cluster, or a proxy answers",
    )


def _command(connection: Connection) -> str:
    host = urlsplit(connection.host).hostname or ""
    config = connection.exec_plugin.config if connection.exec_plugin else {}
    plugin = str(config.get("command", "")).rpartition("/")[2]
    return next(
        (command for end, name, command in _COMMANDS if host.endswith(end) or plugin == name), _BY_HAND
    )
