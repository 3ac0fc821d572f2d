# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Which cluster is meant: the task's options and the environment, weighed as whole bundles.

Option by option, as kubernetes.core does it, a task's kubeconfig can lose to K8S_AUTH_HOST, and the token of one
cluster can travel to the host of another. Here an identity is a bundle: what the task names is never completed
with what the environment names for another cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from ._errors import ConfigurationError

# Option -> environment variables, first one set wins: the names of kubernetes.core's K8S_AUTH_* variables.
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "kubeconfig": ("K8S_AUTH_KUBECONFIG",),
    "context": ("K8S_AUTH_CONTEXT",),
    "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",),
    "username": ("K8S_AUTH_USERNAME",),
    "password": ("K8S_AUTH_PASSWORD",),
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
DIRECT_OPTIONS = ("host", "api_key", "username", "password", "client_cert", "client_key")
# These say how to talk, not to whom: the environment may add them to the task's bundle.
TRANSPORT_OPTIONS = ("validate_certs", "ca_cert", "proxy", "no_proxy", "impersonate_user", "impersonate_groups")

TRUE = frozenset(("1", "true", "yes", "on", "y", "t", "enabled"))
FALSE = frozenset(("0", "false", "no", "off", "n", "f", "disabled"))


@dataclass(frozen=True)
class Sources:
    """The bundle that was chosen: ``values`` by option, ``origins`` says where each came from."""

    kind: str  # "kubeconfig", "direct", or "default" (KUBECONFIG, in a pod, ~/.kube/config)
    values: Mapping[str, Any]
    origins: Mapping[str, str]


def choose(options: Mapping[str, Any], environ: Mapping[str, str]) -> Sources:
    """Choose one bundle, or raise ConfigurationError that names both sides of a mixture."""
    task = {name: options[name] for name in ENVIRONMENT if options.get(name) not in (None, "", [])}
    variables = {name: _variable(name, environ) for name in ENVIRONMENT}
    env = {name: environ[variable] for name, variable in variables.items() if variable}
    origin = {name: f"the task's option {name}" for name in task}
    origin.update({name: f"the environment's {variables[name]}" for name in env if name not in task})

    _refuse_two_kinds(task, "the task's option {}".format)
    kind = _kind(task)
    if kind is None:
        _refuse_two_kinds(env, lambda name: f"the environment's {variables[name]}")
        kind = _kind(env)
    else:
        _refuse_foreign_environment(kind, task, env, variables)

    names = {"kubeconfig": KUBECONFIG_OPTIONS, "direct": DIRECT_OPTIONS}.get(kind or "", ())
    values = {name: task.get(name, env.get(name)) for name in (*names, *TRANSPORT_OPTIONS)}
    if "kubeconfig" in task and "context" not in task:
        # The contexts of one file say nothing about another file.
        values.pop("context", None)
    chosen = {name: value for name, value in values.items() if value is not None}
    if kind == "direct":
        _require_complete(chosen, origin)
    chosen["validate_certs"] = _boolean(chosen.get("validate_certs", True), variables["validate_certs"])
    chosen["impersonate_groups"] = _list(chosen.get("impersonate_groups", []))
    chosen["proxy_headers"] = _proxy_headers(options.get("proxy_headers") or {}, environ)
    return Sources(kind or "default", chosen, {name: origin[name] for name in chosen if name in origin})


def _variable(option: str, environ: Mapping[str, str]) -> str:
    return next((name for name in ENVIRONMENT[option] if environ.get(name)), "")


def _kind(values: Mapping[str, Any]) -> str | None:
    if any(name in values for name in DIRECT_OPTIONS):
        return "direct"
    return "kubeconfig" if any(name in values for name in KUBECONFIG_OPTIONS) else None


def _refuse_two_kinds(values: Mapping[str, Any], describe: Any) -> None:
    kubeconfig = [name for name in KUBECONFIG_OPTIONS if name in values]
    direct = [name for name in DIRECT_OPTIONS if name in values]
    if kubeconfig and direct:
        raise _mixture(describe(kubeconfig[0]), describe(direct[0]))


def _refuse_foreign_environment(
    kind: str, task: Mapping[str, Any], env: Mapping[str, str], variables: Mapping[str, str]
) -> None:
    if kind == "kubeconfig":
        foreign: Iterable[str] = (name for name in DIRECT_OPTIONS if name in env)
    elif "host" in task and env.get("host") == task["host"]:
        return  # the same cluster: the environment may complete the task
    else:
        foreign = (name for name in (*DIRECT_OPTIONS, *KUBECONFIG_OPTIONS) if name in env)
    for name in foreign:
        first = next(option for option in (*KUBECONFIG_OPTIONS, *DIRECT_OPTIONS) if option in task)
        raise _mixture(f"the task's option {first}", f"the environment's {variables[name]}")


def _mixture(first: str, second: str) -> ConfigurationError:
    return ConfigurationError(
        f"two sources name a cluster: {first} and {second}; a request or a token could reach the wrong one",
        remedy=f"give the whole connection in one place: take {second} away, or {first}",
    )


def _require_complete(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    given = next(name for name in DIRECT_OPTIONS if name in values)
    if "host" not in values:
        raise ConfigurationError(
            f"{origins[given]} is given without a host",
            remedy="give host too, or use kubeconfig and context instead",
        )
    pairs = (("api_key",), ("username", "password"), ("client_cert", "client_key"))
    if not any(all(name in values for name in pair) for pair in pairs):
        raise ConfigurationError(
            f"{origins['host']} is given without credentials",
            remedy="give api_key, or client_cert and client_key, or username and password",
        )


def _boolean(value: Any, variable: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise ConfigurationError(
        f"{variable or 'validate_certs'} is neither true nor false: {value!r}", remedy="use true or false"
    )


def _list(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    return [str(part).strip() for part in parts if str(part).strip()]


def _proxy_headers(option: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    values = {name: option.get(name) or environ.get(variable) for name, variable in PROXY_HEADERS.items()}
    return {name: str(value) for name, value in values.items() if value}
