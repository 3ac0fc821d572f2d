# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Task options and environment variables give one bundle, or an error that names both sources."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.argument_specs import AUTH
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    ENVIRONMENT,
    PROXY_HEADERS,
    choose,
)

from tests.support.failures import absent, fails

AWX = {"K8S_AUTH_HOST": "https://a", "K8S_AUTH_API_KEY": "token-a", "K8S_AUTH_VERIFY_SSL": "False"}
DIRECT = {"host": "https://b", "api_key": "token-b"}


class ConnectionCase(NamedTuple):
    task: dict[str, Any]
    environment: dict[str, str]
    kind: str
    #: What is chosen; options that are not named must be absent.
    chosen: dict[str, Any]


CASES = {
    "nothing is given": ConnectionCase({}, {}, "default", {}),
    "KUBECONFIG is no bundle of K8S_AUTH_": ConnectionCase({}, {"KUBECONFIG": "/k"}, "default", {}),
    "kubeconfig of the task": ConnectionCase({"kubeconfig": "/t"}, {}, "kubeconfig", {"kubeconfig": "/t"}),
    "kubeconfig of the environment": ConnectionCase(
        {},
        {"K8S_AUTH_KUBECONFIG": "/e", "K8S_AUTH_CONTEXT": "c"},
        "kubeconfig",
        {"kubeconfig": "/e", "context": "c"},
    ),
    "K8S_AUTH_CONTEXT never applies to the task's kubeconfig": ConnectionCase(
        {"kubeconfig": "/t"}, {"K8S_AUTH_CONTEXT": "c"}, "kubeconfig", {"kubeconfig": "/t"}
    ),
    "nor K8S_AUTH_KUBECONFIG": ConnectionCase(
        {"kubeconfig": "/t", "context": "d"},
        {"K8S_AUTH_KUBECONFIG": "/e", "K8S_AUTH_CONTEXT": "c"},
        "kubeconfig",
        {"kubeconfig": "/t", "context": "d"},
    ),
    "the task's context of the environment's file": ConnectionCase(
        {"context": "d"},
        {"K8S_AUTH_KUBECONFIG": "/e", "K8S_AUTH_CONTEXT": "c"},
        "kubeconfig",
        {"kubeconfig": "/e", "context": "d"},
    ),
    "context alone, for KUBECONFIG or ~/.kube/config": ConnectionCase({"context": "d"}, {}, "kubeconfig", {"context": "d"}),
    "a complete task outranks KUBECONFIG": ConnectionCase(DIRECT, {"KUBECONFIG": "/k"}, "direct", DIRECT),
    "AWX's Kubernetes credential": ConnectionCase({}, AWX, "direct", {"host": "https://a", "api_key": "token-a", "validate_certs": False}),
    "the same host in both: the environment may bring the token": ConnectionCase(
        {"host": "https://a/"},
        AWX,
        "direct",
        {"host": "https://a/", "api_key": "token-a", "validate_certs": False},
    ),
    "the same host in both: but no second identity": ConnectionCase(
        {"host": "https://a", "api_key": "mine"},
        {**AWX, "K8S_AUTH_CLIENT_CERT": "/c", "K8S_AUTH_CLIENT_KEY": "/k"},
        "direct",
        {"host": "https://a", "api_key": "mine", "validate_certs": False},
    ),
    "client certificate, old names": ConnectionCase(
        {},
        {
            "K8S_AUTH_HOST": "https://a",
            "K8S_AUTH_CERT_FILE": "/c",
            "K8S_AUTH_KEY_FILE": "/k",
            "K8S_AUTH_SSL_CA_CERT": "/a",
        },
        "direct",
        {"host": "https://a", "client_cert": "/c", "client_key": "/k", "ca_cert": "/a"},
    ),
    "new names come first": ConnectionCase(
        {},
        {
            **AWX,
            "K8S_AUTH_VALIDATE_CERTS": "true",
            "K8S_AUTH_CA_CERT": "/new",
            "K8S_AUTH_SSL_CA_CERT": "/old",
        },
        "direct",
        {"host": "https://a", "api_key": "token-a", "validate_certs": True, "ca_cert": "/new"},
    ),
    "the environment says how to talk to the task's cluster": ConnectionCase(
        {"kubeconfig": "/t"},
        {
            "K8S_AUTH_PROXY": "http://p:1",
            "K8S_AUTH_NO_PROXY": "x",
            "K8S_AUTH_CA_CERT": "/a",
            "K8S_AUTH_VERIFY_SSL": "no",
        },
        "kubeconfig",
        {
            "kubeconfig": "/t",
            "proxy": "http://p:1",
            "no_proxy": "x",
            "ca_cert": "/a",
            "validate_certs": False,
        },
    ),
    "the task says so louder": ConnectionCase(
        {"kubeconfig": "/t", "proxy": "http://q:1", "validate_certs": True},
        {"K8S_AUTH_PROXY": "http://p:1", "K8S_AUTH_VERIFY_SSL": "no"},
        "kubeconfig",
        {"kubeconfig": "/t", "proxy": "http://q:1", "validate_certs": True},
    ),
    "empty values of a task are unset": ConnectionCase(
        {"kubeconfig": "", "context": "", "host": "", "api_key": None, "impersonate_groups": []},
        AWX,
        "direct",
        {"host": "https://a", "api_key": "token-a", "validate_certs": False},
    ),
    "empty variables are unset": ConnectionCase(
        {"kubeconfig": "/t"},
        {"K8S_AUTH_HOST": "", "K8S_AUTH_API_KEY": "", "K8S_AUTH_VERIFY_SSL": ""},
        "kubeconfig",
        {"kubeconfig": "/t"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bundle(name: str) -> None:
    case = CASES[name]
    sources = choose(case.task, case.environment)
    always: dict[str, Any] = {"impersonate_groups": [], "proxy_headers": {}}
    assert (sources.kind, {**always, **case.chosen}) == (case.kind, sources.values)


# Task, environment -> what the one line has to name.
MIXTURES: dict[str, tuple[dict[str, Any], dict[str, str], tuple[str, ...]]] = {
    # kubernetes.core sends this request to https://a, the kubeconfig unread
    "T1": ({"kubeconfig": "/b", "context": "b"}, AWX, ("kubeconfig", "K8S_AUTH_HOST")),
    "T1, context alone": ({"context": "b"}, AWX, ("context", "K8S_AUTH_HOST")),
    # kubernetes.core sends token-a to https://b
    "T2": ({"host": "https://b"}, AWX, ("host", "K8S_AUTH_HOST")),
    "T2, token from elsewhere": ({"host": "https://b"}, {"K8S_AUTH_API_KEY": "token-a"}, ("host", "K8S_AUTH_API_KEY")),
    "T2, a complete task": (DIRECT, AWX, ("host", "K8S_AUTH_HOST")),
    "T2, the other way round": ({"api_key": "token-b"}, {"K8S_AUTH_HOST": "https://a"}, ("api_key", "K8S_AUTH_HOST")),
    "client key of somebody else": ({"host": "https://b", "client_cert": "/c"}, {"K8S_AUTH_KEY_FILE": "/k"}, ("host", "K8S_AUTH_KEY_FILE")),
    "a complete task, another bundle's file": (DIRECT, {"K8S_AUTH_KUBECONFIG": "/e"}, ("host", "K8S_AUTH_KUBECONFIG")),
    "a complete task, another bundle's context": (DIRECT, {"K8S_AUTH_CONTEXT": "c"}, ("host", "K8S_AUTH_CONTEXT")),
    "the same host, and a file beside it": ({"host": "https://a"}, {**AWX, "K8S_AUTH_KUBECONFIG": "/e"}, ("host", "K8S_AUTH_KUBECONFIG")),
    "both inside the task": ({"kubeconfig": "/b", "host": "https://b"}, {}, ("kubeconfig", "host")),
    "both inside the environment": ({}, {**AWX, "K8S_AUTH_KUBECONFIG": "/e"}, ("K8S_AUTH_KUBECONFIG", "K8S_AUTH_HOST")),
    "host without credentials": ({"host": "https://b"}, {}, ("host", "credentials")),
    "half a pair": ({"host": "https://b", "client_cert": "/c"}, {}, ("host", "credentials")),
    "half a pair of the task's own is not completed": (
        {"host": "https://a", "client_cert": "/c"},
        {**AWX, "K8S_AUTH_CLIENT_KEY": "/k"},
        ("host", "credentials"),
    ),
    "token without host": ({"api_key": "t"}, {}, ("api_key", "host")),
    "token without host, environment": ({}, {"K8S_AUTH_API_KEY": "t"}, ("K8S_AUTH_API_KEY", "host")),
    "neither true nor false": ({"kubeconfig": "/t"}, {"K8S_AUTH_VERIFY_SSL": "maybe"}, ("K8S_AUTH_VERIFY_SSL", "'maybe'")),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture(name: str) -> None:
    task, environment, names = MIXTURES[name]
    with fails("invalid-connection") as caught:
        choose(task, environment)
    assert not absent(names, caught.value.cause)
    assert caught.value.remedy
    assert not any(secret in str(caught.value) for secret in ("token-a", "token-b"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on", "y", "t", " true ", "enabled")),
        # kubernetes.core takes the last ones for true: a user who switches verification off keeps it
        *((text, False) for text in ("0", "false", "False", "NO", "off", "n", "f", "disabled")),
    ],
)
def test_boolean(text: str, value: bool) -> None:
    assert choose({}, {**AWX, "K8S_AUTH_VERIFY_SSL": text}).values["validate_certs"] is value


def test_lists_and_headers() -> None:
    environment = {"K8S_AUTH_IMPERSONATE_GROUPS": "a, b,,c", "K8S_AUTH_PROXY_HEADERS_USER_AGENT": "e"}
    task = {"kubeconfig": "/t", "proxy_headers": {"proxy_basic_auth": "u:p", "user_agent": None}}
    values = choose(task, environment).values
    assert values["impersonate_groups"] == ["a", "b", "c"]
    assert values["proxy_headers"] == {"proxy_basic_auth": "u:p", "user_agent": "e"}
    assert choose({"impersonate_groups": ["x"]}, environment).values["impersonate_groups"] == ["x"]


# kubernetes.core 6: args_common.AUTH_ARG_SPEC and the variables that its client reads, by option. Its options username, password and
# persist_config do not exist here.
KUBERNETES_CORE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "kubeconfig": ("raw", (), ("K8S_AUTH_KUBECONFIG",)),
    "context": ("str", (), ("K8S_AUTH_CONTEXT",)),
    "host": ("str", (), ("K8S_AUTH_HOST",)),
    "api_key": ("str", (), ("K8S_AUTH_API_KEY",)),
    "validate_certs": ("bool", ("verify_ssl",), ("K8S_AUTH_VALIDATE_CERTS", "K8S_AUTH_VERIFY_SSL")),
    "ca_cert": ("path", ("ssl_ca_cert",), ("K8S_AUTH_CA_CERT", "K8S_AUTH_SSL_CA_CERT")),
    "client_cert": ("path", ("cert_file",), ("K8S_AUTH_CLIENT_CERT", "K8S_AUTH_CERT_FILE")),
    "client_key": ("path", ("key_file",), ("K8S_AUTH_CLIENT_KEY", "K8S_AUTH_KEY_FILE")),
    "proxy": ("str", (), ("K8S_AUTH_PROXY",)),
    "no_proxy": ("str", (), ("K8S_AUTH_NO_PROXY",)),
    "impersonate_user": ("str", (), ("K8S_AUTH_IMPERSONATE_USER",)),
    "impersonate_groups": ("list", (), ("K8S_AUTH_IMPERSONATE_GROUPS",)),
    "proxy_headers": ("dict", (), ()),
}
KUBERNETES_CORE_HEADERS = {
    "proxy_basic_auth": "K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH",
    "basic_auth": "K8S_AUTH_PROXY_HEADERS_BASIC_AUTH",
    "user_agent": "K8S_AUTH_PROXY_HEADERS_USER_AGENT",
}


@pytest.mark.parametrize("option", KUBERNETES_CORE)
def test_options_of_kubernetes_core(option: str) -> None:
    kind, aliases, variables = KUBERNETES_CORE[option]
    assert AUTH[option]["type"] == kind
    assert set(AUTH[option].get("aliases", ())) >= set(aliases)
    assert ENVIRONMENT.get(option, ())[: len(variables)] == variables


def test_proxy_headers_of_kubernetes_core() -> None:
    assert AUTH["proxy_headers"]["options"].keys() >= KUBERNETES_CORE_HEADERS.keys()
    assert PROXY_HEADERS == KUBERNETES_CORE_HEADERS


def test_secrets_are_marked() -> None:
    """By no_log, except the path of a key: what is marked is blotted out wherever it stands (T17)."""
    assert {name for name, spec in AUTH.items() if spec.get("no_log")} == {"api_key"}
    headers = AUTH["proxy_headers"]["options"]
    assert {name for name, spec in headers.items() if spec.get("no_log")} == {
        "proxy_basic_auth",
        "basic_auth",
    }
