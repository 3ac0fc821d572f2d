# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options, environment and kubeconfigs give a Connection, or an error of one line."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import (
    kubeconfig as kubeconfig_module,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve

from tests.support.failures import absent, fails

SECRET = "very-secret-text"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(
    user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, name: str = "a"
) -> dict[str, Any]:
    """A kubeconfig with one context; None values are left out."""
    server = {
        "server": f"https://{name}:6443",
        "certificate-authority-data": b64(f"CA of {name}"),
        **(cluster or {}),
    }
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [
            {"name": name, "cluster": {key: value for key, value in server.items() if value is not None}}
        ],
        "users": [{"name": name, "user": {"token": SECRET} if user is None else user}],
    }


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def refused(options: dict[str, Any], environment: dict[str, str] | None = None) -> CertflowError:
    with pytest.raises(CertflowError) as caught:
        resolve(options, environment or {})
    error = caught.value
    everything = f"{error!r} {error} {error.evidence} {error.__cause__!r}"
    assert SECRET not in everything
    assert b64(SECRET) not in everything
    return error


def test_dictionary() -> None:
    connection = resolve({"kubeconfig": config()}, {})
    assert connection == Connection(
        host="https://a:6443",
        auth_source="kubeconfig the task's option kubeconfig (a dictionary), context a",
        ca_pem="CA of a",
        token=SECRET,
    )
    assert SECRET not in repr(connection)


def test_file(tmp_path: Path) -> None:
    path = write(tmp_path / "kc", config())
    connection = resolve({"kubeconfig": path}, {})
    assert connection.auth_source == f"kubeconfig {path} (the task's option kubeconfig), context a"
    assert resolve({}, {"K8S_AUTH_KUBECONFIG": path}).auth_source == (
        f"kubeconfig {path} (the environment's K8S_AUTH_KUBECONFIG), context a"
    )
    assert resolve({}, {"KUBECONFIG": path}).auth_source == (
        f"kubeconfig {path} (the environment's KUBECONFIG), context a"
    )


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refused({}).code == "invalid-connection"
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", config())
    assert resolve({}, {}).auth_source == "kubeconfig ~/.kube/config (the default), context a"
    assert resolve({"kubeconfig": "~/.kube/config"}, {}).host == "https://a:6443"


def test_several_files(tmp_path: Path) -> None:
    """The first file to use a name keeps it, as with kubectl; relative paths start from each one's own directory."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = config({"tokenFile": "token"}, name="a")
    second = config({"tokenFile": "token"}, name="b")
    second["clusters"].append({"name": "a", "cluster": {"server": "https://other:6443"}})
    paths = [write(tmp_path / "one" / "kc", first), write(tmp_path / "two" / "kc", second)]
    both = os.pathsep.join([*paths, str(tmp_path / "absent")])
    a, b = (resolve({"kubeconfig": both, "context": name}, {}) for name in "ab")
    assert (a.host, a.token_file) == ("https://a:6443", str(tmp_path / "one" / "token"))
    assert (b.host, b.token_file) == ("https://b:6443", str(tmp_path / "two" / "token"))


def test_a_missing_context_shows_the_nearest_ones(tmp_path: Path) -> None:
    """Of a large fleet, five names and the number of the others."""
    content = config()
    entry = content["contexts"][0]["context"]
    content["contexts"] = [
        {"name": f"prod-{number}", "context": entry} for number in (*range(60), "eu-1", "eu-2")
    ]
    path = write(tmp_path / "kc", content)
    error = refused({"kubeconfig": path, "context": "prod-eu-3"})
    assert not absent(["prod-eu-1,", "prod-eu-2,", "57"], error.remedy)
    assert not absent(["prod-eu-1,", "57"], " ".join(error.evidence))
    assert len(f"{error} {error.evidence}") < 500 + len(path)


def test_a_job_of_awx_names_its_credential(tmp_path: Path) -> None:
    """AWX gives the file of the credential a path that no user knows."""
    path = write(tmp_path / "kc", config())
    job = {"K8S_AUTH_KUBECONFIG": path, "AWX_PRIVATE_DATA_DIR": "/runner"}
    error = refused({"context": "b"}, job)
    assert not absent(["credential", "b"], error.cause)
    assert not absent(["credential", "inventory"], error.remedy)
    assert path not in f"{error}{error.evidence}"
    assert path not in refused({}, {**job, "K8S_AUTH_KUBECONFIG": f"{path}x"}).cause
    assert path in refused({"kubeconfig": path, "context": "b"}, job).cause, "a file of the project"


def test_several_current_contexts(tmp_path: Path) -> None:
    """kubectl takes the first, the kubernetes package the last: only the user can know."""
    paths = [write(tmp_path / name, config(name=name)) for name in "ab"]
    error = refused({"kubeconfig": os.pathsep.join(paths)})
    assert error.code == "invalid-connection"
    assert not absent(["a,", "b"], error.cause)
    assert resolve({"kubeconfig": os.pathsep.join([paths[0], paths[0]])}, {}).host == "https://a:6443"


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ca.pem", "CA")
    write(tmp_path / "cert.pem", "CERT")
    write(tmp_path / "key.pem", "KEY")
    files = {"client-certificate": "cert.pem", "client-key": "./key.pem"}
    content = config(files, {"certificate-authority-data": None, "certificate-authority": "ca.pem"})
    write(tmp_path / "kc", content)
    monkeypatch.chdir("/")
    connection = resolve({"kubeconfig": str(tmp_path / "kc")}, {})
    assert (connection.ca_pem, connection.client_certificate, connection.client_key) == ("CA", "CERT", "KEY")
    monkeypatch.chdir(tmp_path)
    assert resolve({"kubeconfig": "kc"}, {}).client_key == "KEY"


EXPIRED = f"e30.{base64.urlsafe_b64encode(json.dumps({'exp': 1}).encode()).decode().rstrip('=')}.sig"
USERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "token": ({"token": "t"}, {"token": "t"}),
    "token file before token": ({"token": "t", "tokenFile": "/f"}, {"token_file": "/f", "token": None}),
    "basic": ({"username": "u", "password": "p"}, {"basic": ("u", "p")}),
    "data before file": (
        {"client-certificate-data": b64("C"), "client-certificate": "/absent", "client-key-data": b64("K")},
        {"client_certificate": "C", "client_key": "K"},
    ),
    "impersonate": (
        {"token": "t", "as": "me", "as-groups": ["g", "h"]},
        {"impersonate_user": "me", "impersonate_groups": ("g", "h")},
    ),
    "auth-provider oidc": (
        {
            "auth-provider": {
                "name": "oidc",
                "config": {"id-token": f"e30.{base64.urlsafe_b64encode(b'{}').decode().rstrip('=')}.sig"},
            }
        },
        {"token": f"e30.{base64.urlsafe_b64encode(b'{}').decode().rstrip('=')}.sig"},
    ),
    "auth-provider that has expired and could renew its token": (
        {
            "auth-provider": {
                "name": "oidc",
                "config": {
                    "id-token": EXPIRED,
                    "refresh-token": "r",
                    "idp-issuer-url": "http://127.0.0.1:1",
                    "client-id": "c",
                },
            }
        },
        {"token": EXPIRED},
    ),
    "auth-provider gcp": (
        {"auth-provider": {"name": "gcp", "config": {"access-token": "t"}}},
        {"token": "t"},
    ),
}


@pytest.mark.parametrize("name", USERS)
def test_user(name: str) -> None:
    user, fields = USERS[name]
    connection = resolve({"kubeconfig": config(user)}, {})
    assert {field: getattr(connection, field) for field in fields} == fields


def test_groups_are_impersonated_together_with_a_user() -> None:
    with fails("invalid-connection", "impersonate_user"):
        resolve({"kubeconfig": config({"token": "t"}), "impersonate_groups": ["g"]}, {})


def test_exec_user(tmp_path: Path) -> None:
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": ["x"]}
    connection = resolve({"kubeconfig": write(tmp_path / "kc", config({"exec": entry}))}, {})
    assert connection.exec_plugin is not None
    assert connection.exec_plugin.config == entry
    assert connection.exec_plugin.directory == str(tmp_path)
    assert connection.exec_plugin.cluster["server"] == "https://a:6443"


@pytest.mark.parametrize(
    ("own", "task", "environment", "verify"),
    [
        (None, None, None, True),
        (True, None, None, False),  # the kubeconfig's insecure-skip-tls-verify
        (None, False, None, False),
        (True, True, None, True),  # the task overrides the kubeconfig
        (None, None, "no", False),
        (True, None, "yes", False),  # the environment only completes it
        (None, True, "no", True),
    ],
)
def test_verification(own: bool | None, task: bool | None, environment: str | None, verify: bool) -> None:
    options = {"kubeconfig": config(cluster={"insecure-skip-tls-verify": own}), "validate_certs": task}
    variables = {"K8S_AUTH_VERIFY_SSL": environment} if environment else {}
    assert resolve(options, variables).verify is verify


def test_task_overrides_and_environment_completes(tmp_path: Path) -> None:
    ca = write(tmp_path / "ca.pem", "CA of the option")
    own = config(cluster={"proxy-url": "http://own:1", "tls-server-name": "n"})
    environment = {
        "K8S_AUTH_CA_CERT": ca,
        "K8S_AUTH_PROXY": "http://env:1",
        "K8S_AUTH_IMPERSONATE_USER": "me",
    }
    completed = resolve({"kubeconfig": own}, environment)
    assert (completed.ca_pem, completed.proxy, completed.tls_server_name) == ("CA of a", "http://own:1", "n")
    assert completed.impersonate_user == "me"
    overridden = resolve({"kubeconfig": own, "ca_cert": ca, "proxy": "http://task:1"}, environment)
    assert (overridden.ca_pem, overridden.proxy) == ("CA of the option", "http://task:1")
    bare = resolve({"kubeconfig": config(cluster={"certificate-authority-data": None})}, environment)
    assert (bare.ca_pem, bare.proxy) == ("CA of the option", "http://env:1")


def test_direct(tmp_path: Path) -> None:
    files = {name: write(tmp_path / name, name.upper()) for name in ("ca_cert", "client_cert", "client_key")}
    connection = resolve({"host": "https://h:6443/", "validate_certs": False, **files}, {})
    assert connection.host == "https://h:6443"
    assert (connection.ca_pem, connection.client_certificate, connection.client_key) == (
        "CA_CERT",
        "CLIENT_CERT",
        "CLIENT_KEY",
    )
    assert (connection.verify, connection.auth_source) == (False, "the task's option host")
    assert resolve({}, {"K8S_AUTH_HOST": "https://h", "K8S_AUTH_API_KEY": "t"}).token == "t"


@pytest.mark.parametrize(
    ("address", "port", "host"),
    [
        ("10.0.0.1", "443", "https://10.0.0.1:443"),
        ("fd00::1", "6443", "https://[fd00::1]:6443"),
        ("x", "", "https://x:443"),
    ],
)
def test_in_a_pod(
    address: str, port: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeconfig_module, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setattr(kubeconfig_module, "DEFAULT_KUBECONFIG", str(tmp_path / "absent"))
    environment = {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": port}
    assert refused({}, environment).code == "invalid-connection"  # no token is mounted
    write(tmp_path / "token", "t")
    write(tmp_path / "ca.crt", "CA")
    connection = resolve({}, environment)
    assert (connection.host, connection.ca_pem, connection.token_file) == (
        host,
        "CA",
        str(tmp_path / "token"),
    )
    assert connection.auth_source == "the pod's service account"
    outranking = resolve({}, {**environment, "KUBECONFIG": write(tmp_path / "kc", config())})
    assert outranking.host == "https://a:6443"


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ("HTTPS://a:6443", "https://a:6443"),
        ("https://b\u00fccher.example/", "https://b\u00fccher.example"),
        ("https://[::1]:6443", "https://[::1]:6443"),
        ("https://a.example./k8s/clusters/c-1", "https://a.example./k8s/clusters/c-1"),
    ],
)
def test_the_address_of_the_server(server: str, host: str) -> None:
    """The scheme in small letters decides if TLS verifies the server."""
    assert resolve({"kubeconfig": config(cluster={"server": server})}, {}).host == host


def broken(change: Any) -> dict[str, Any]:
    content = copy.deepcopy(config())
    change(content)
    return content


BROKEN: dict[str, tuple[Any, str, str]] = {
    "no file": ("/absent/kc", "invalid-connection", "/absent/kc"),
    "text in place of a path": (yaml.safe_dump(config()), "invalid-connection", "text"),
    "JSON in place of a path": (json.dumps(config()), "invalid-connection", "text"),
    "one line in place of a path": (f"token: {SECRET}", "invalid-connection", "text"),
    "a password in the address": (config(cluster={"server": f"https://u:{SECRET}@a"}), "invalid-connection", "user"),
    "an address that does not parse": (config(cluster={"server": "https://[::1"}), "invalid-connection", "'https://[::1'"),
    "an address that a library ends at its backslash": (
        config(cluster={"server": "https://other.example\\.a.example"}), "invalid-connection", "address"),
    "an address that a library ends at its backslash, with a path in another script": (
        config(cluster={"server": "https://other.example\\.a.example/\u00e9"}), "invalid-connection", "address"),
    "an address that libraries encode differently": (config(cluster={"server": "https://fa\u00df.example"}), "invalid-connection", "address"),
    "a file relative to no directory": (config({"tokenFile": "token"}), "invalid-connection", "relative"),
    "a key relative to no directory": (
        config({"client-certificate-data": b64("C"), "client-key": "./key.pem"}), "invalid-connection", "relative"),
    "a CA relative to no directory": (
        config(cluster={"certificate-authority-data": None, "certificate-authority": "ca.pem"}), "invalid-connection", "relative"),
    "a program relative to no directory": (config({"exec": {"command": "bin/login"}}), "invalid-connection", "relative"),
    "an address that a library decodes": (config(cluster={"server": "https://a%6f.example"}), "invalid-connection", "address"),
    "a port that a library reads elsewhere": (config(cluster={"server": "https://a:64\\43"}), "invalid-connection", "address"),
    "groups that are no list": (config({"token": "t", "as-groups": "admins"}), "invalid-connection", "as-groups"),
    "a name that no header can hold": (config({"token": "t", "as": "a\nb"}), "invalid-connection", "impersonate"),
    "empty": ({}, "invalid-connection", "current-context"),
    "no current context": (broken(lambda c: c.pop("current-context")), "invalid-connection", "current-context"),
    "no such current context": (broken(lambda c: c.update({"current-context": "b"})), "invalid-connection", "'b'"),
    "no such cluster": (broken(lambda c: c["clusters"].clear()), "invalid-connection", "cluster"),
    "no such user": (broken(lambda c: c["users"].clear()), "invalid-connection", "user"),
    "a context without user": (broken(lambda c: c["contexts"][0]["context"].pop("user")), "invalid-connection", "''"),
    "sections are absent": ({"current-context": "a"}, "invalid-connection", "context"),
    "two contexts of one name": (broken(lambda c: c["contexts"].append(c["contexts"][0])), "invalid-connection", "'a'"),
    "two clusters of one name": (broken(lambda c: c["clusters"].append(config()["clusters"][0])), "invalid-connection", "'a'"),
    "a section is null": (broken(lambda c: c.update(users=None)), "invalid-connection", "user"),
    "a section is a number": (broken(lambda c: c.update(users=5)), "invalid-connection", "users"),
    "a section is text": (broken(lambda c: c.update(users=SECRET)), "invalid-connection", "users"),
    "a section is a mapping": (broken(lambda c: c.update(users=c["users"][0])), "invalid-connection", "users"),
    "an entry without its mapping": (broken(lambda c: c["users"][0].update(user=SECRET)), "invalid-connection", "users"),
    "no server": (broken(lambda c: c["clusters"][0]["cluster"].pop("server")), "invalid-connection", "''"),
    "a server without scheme": (config(cluster={"server": "a:6443"}), "invalid-connection", "'a:6443'"),
    "user without credentials": (config({}), "authentication-failed", "credentials"),
    "a certificate without key": (config({"client-certificate-data": b64("C")}), "authentication-failed", "credentials"),
    "empty token": (config({"token": ""}), "authentication-failed", "credentials"),
    # the kubernetes package quotes the whole entry here
    "key data is null": (config({"client-certificate-data": b64("C"), "client-key-data": None, "x": SECRET}), "authentication-failed", "credentials"),
    "key data is no base64": (config({"client-key-data": SECRET + "!", "token": "t"}), "invalid-connection", "client-key-data"),
    "key data is binary": (config({"client-key-data": base64.b64encode(b"\xff\xfe").decode()}), "invalid-connection", "client-key-data"),
    "key data is a number": (config({"client-key-data": 5}), "invalid-connection", "client-key-data"),
    "a key file that is absent": (config({"client-key": "/absent/key"}), "invalid-connection", "/absent/key"),
    "auth-provider that is unknown": (config({"auth-provider": {"name": "x"}}), "authentication-failed", "auth-provider"),
    "auth-provider that is broken": (
        config({"auth-provider": {"name": "oidc", "config": {"id-token": [SECRET]}}}),
        "invalid-connection",
        "auth-provider",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    kubeconfig, code, named = BROKEN[name]
    error = refused({"kubeconfig": kubeconfig})
    assert error.code == code
    assert not absent([named], error.cause)
    assert len(str(error)) < 400


# The kubeconfig option, KUBECONFIG, ~/.kube/config, the context that is named, in a pod, the host -> the source or the code.
# A named context that the file does not have is an error, in a pod too.
OPTION, VARIABLE, HOME, POD, HOST = "option", "KUBECONFIG", "~/.kube/config", "service account", "host"
REFUSED, NO_CLUSTER, NO_CONTEXT = "invalid-connection", "invalid-connection", "invalid-connection"
SOURCES: list[tuple[set[str], str, str]] = [
    # the sources, the context, the result
    (set(), "", NO_CLUSTER),
    (set(), "named", NO_CLUSTER),
    ({HOME}, "", HOME),
    ({HOME}, "named", HOME),
    ({HOME}, "absent", NO_CONTEXT),
    ({POD}, "", POD),
    ({POD}, "named", NO_CLUSTER),
    ({POD}, "absent", NO_CLUSTER),
    ({POD, HOME}, "", POD),
    ({POD, HOME}, "named", HOME),
    ({POD, HOME}, "absent", NO_CONTEXT),
    ({VARIABLE}, "", VARIABLE),
    ({VARIABLE, HOME}, "named", VARIABLE),
    ({VARIABLE, POD}, "", VARIABLE),
    ({VARIABLE, POD}, "named", VARIABLE),
    ({VARIABLE, POD, HOME}, "absent", NO_CONTEXT),
    ({OPTION}, "", OPTION),
    ({OPTION, VARIABLE, HOME}, "named", OPTION),
    ({OPTION, VARIABLE, POD}, "named", OPTION),
    ({OPTION, POD}, "", OPTION),
    ({OPTION, POD}, "absent", NO_CONTEXT),
    ({HOST}, "", HOST),
    ({HOST, VARIABLE, POD, HOME}, "", HOST),
    ({HOST, POD}, "named", REFUSED),
    ({HOST, OPTION}, "", REFUSED),
]


@pytest.mark.parametrize("given_by", ["task", "environment"])
@pytest.mark.parametrize("case", SOURCES, ids=str)
def test_which_cluster_is_meant(
    case: tuple[set[str], str, str], given_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, context, result = case
    files = {
        OPTION: tmp_path / "option",
        VARIABLE: tmp_path / "variable",
        HOME: tmp_path / ".kube" / "config",
    }
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kubeconfig_module, "SERVICE_ACCOUNT", str(tmp_path / "mounted"))
    for directory in (".kube", "mounted"):
        (tmp_path / directory).mkdir()
    for source in there & set(files):
        content = config(name="named")
        content["clusters"][0]["cluster"]["server"] = f"https://{files[source].name}"
        write(files[source], content)
    if POD in there:
        write(tmp_path / "mounted" / "token", "t")
        write(tmp_path / "mounted" / "ca.crt", "CA")
    options = {"kubeconfig": str(files[OPTION])} if OPTION in there else {}
    options |= {"host": "https://host", "api_key": "t"} if HOST in there else {}
    options |= {"context": context} if context else {}
    environment = {"KUBECONFIG": str(files[VARIABLE])} if VARIABLE in there else {}
    environment |= {"KUBERNETES_SERVICE_HOST": "pod"} if POD in there else {}
    if given_by == "environment":
        environment |= {f"K8S_AUTH_{name.upper()}": value for name, value in options.items()}
        options = {}
    if result in (REFUSED, NO_CLUSTER, NO_CONTEXT):
        error = refused(options, environment)
        assert error.code == result
        assert error.remedy
        return
    hosts = {POD: "https://pod:443", HOST: "https://host"}
    hosts |= {source: f"https://{path.name}" for source, path in files.items()}
    assert resolve(options, environment).host == hosts[result]


def test_a_context_in_a_pod_needs_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the source of the context, which may be a forgotten environment variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    error = refused({}, {"KUBERNETES_SERVICE_HOST": "pod", "K8S_AUTH_CONTEXT": "prod"})
    assert error.code == "invalid-connection"
    assert not absent(["K8S_AUTH_CONTEXT", "'prod',"], error.cause)
    assert "remove context" in error.remedy


TEXT_FIELDS = {
    "context": ("cluster", "user"),
    "cluster": ("server", "tls-server-name", "certificate-authority", "certificate-authority-data", "proxy-url"),
    "user": ("client-certificate", "client-certificate-data", "client-key", "client-key-data", "token", "tokenFile",
             "username", "password", "as"),
}  # fmt: skip
BOMB: list[Any] = ["x" * 9]
for _level in range(40):
    BOMB = [BOMB] * 9
WRONG_TYPES: list[tuple[str, str, Any]] = [
    *((entry, field, value) for entry, fields in TEXT_FIELDS.items() for field in fields for value in (5, True, ["t"], {"a": "b"}, BOMB)),
    *(("cluster", field, value) for field in ("insecure-skip-tls-verify", "disable-compression")
      for value in ("false", "true", "False", "no", "", 0, 1, [], BOMB)),
    *(("user", "as-groups", value) for value in ("g", {"g": "h"}, [5], [["g"]], BOMB)),
    *(("user", field, value) for field in ("exec", "auth-provider") for value in ("x", [], True, 5, BOMB)),
    *(("user", "auth-provider", {"name": "oidc", "config": value}) for value in ("x", {"id-token": 5}, {"id-token": BOMB}, BOMB)),
    *(("user", "exec", {"command": "x", field: value}) for field in ("command", "apiVersion", "installHint", "interactiveMode")
      for value in (5, ["x"], BOMB)),
    *(("user", "exec", {"command": "x", "args": value}) for value in ("x", [5], {"a": "b"}, BOMB)),
    *(("user", "exec", {"command": "x", "env": value}) for value in ({"A": "b"}, ["A=b"], [{"name": "A"}], [{"name": "A", "value": 5}], BOMB)),
    ("user", "exec", {"command": "x", "provideClusterInfo": "false"}),
    ("user", "as-uid", "1"),  # supported by kubectl only
    ("user", "as-user-extra", {"scopes": ["a"]}),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "field", "value"), WRONG_TYPES)
def test_a_field_of_another_type_is_refused(entry: str, field: str, value: Any) -> None:
    """Refuse it as kubectl does. Python treats the string "false" as true, which would switch verification off."""
    content = config()
    content[f"{entry}s"][0][entry][field] = value
    error = refused({"kubeconfig": content})
    assert error.code == "invalid-connection"
    assert len(str(error)) < 300


@pytest.mark.parametrize("entry", TEXT_FIELDS)
@pytest.mark.parametrize("name", [5, True, ["a"], BOMB])
def test_a_name_of_another_type_is_refused(entry: str, name: Any) -> None:
    content = config()
    content[f"{entry}s"][0]["name"] = name
    assert refused({"kubeconfig": content}).code == "invalid-connection"
    assert refused({"kubeconfig": {**config(), "current-context": name}}).code == "invalid-connection"


def test_null_is_an_absent_field() -> None:
    nulls = dict.fromkeys(("insecure-skip-tls-verify", "tls-server-name", "proxy-url"))
    connection = resolve({"kubeconfig": config({"token": "t", "as": None, "exec": None}, nulls)}, {})
    assert (connection.verify, connection.proxy, connection.impersonate_user) == (True, None, None)


def levels(first: str, other: str, number: int = 9) -> str:
    """Return short YAML that expands to 9 to the power of ``number`` copies."""
    lines = [f"a0: &a0 {first}", *(other.format(n, n - 1) for n in range(1, number + 1))]
    return "\n".join(lines) + "\n"


BOMBS = {
    "aliases": levels("[x, x]", "a{0}: &a{0} [" + ", ".join(["*a{1}"] * 9) + "]"),
    "mappings": levels("{k: x}", "a{0}: &a{0} {{" + ", ".join(f"k{n}: *a{{1}}" for n in range(9)) + "}}"),
    "merge keys": levels("{k: x}", "a{0}: &a{0}\n  <<: [" + ", ".join(["*a{1}"] * 9) + "]"),
    "an alias of its ancestor": "a: &a [*a]\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_aliases_are_counted_before_they_are_expanded(name: str, tmp_path: Path) -> None:
    assert len(BOMBS[name]) < 1000
    path = write(tmp_path / "kc", f"{BOMBS[name]}{yaml.safe_dump(config())}")
    error = refused({"kubeconfig": path})
    assert error.code == "invalid-connection"
    assert not absent(["aliases"], error.cause)


def test_aliases_and_merge_keys_of_ordinary_size_are_read(tmp_path: Path) -> None:
    text = (
        "current-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
        "users: [{name: a, user: {token: t}}]\n"
        "base: &base {server: 'https://a', proxy-url: 'http://p'}\nclusters: [{name: a, cluster: {<<: *base, tls-server-name: n}}]\n"
    )
    connection = resolve({"kubeconfig": write(tmp_path / "kc", text)}, {})
    assert (connection.host, connection.proxy, connection.tls_server_name) == ("https://a", "http://p", "n")


def test_a_file_above_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig_module, "MOST_BYTES", 1000)
    path = write(tmp_path / "kc", f"# {'x' * 1000}\n{yaml.safe_dump(config())}")
    assert refused({"kubeconfig": path}).code == "invalid-connection"


@pytest.mark.usefixtures("_no_home")
class TestWithoutAHome:
    """A container with a random user ID has no HOME and no entry in /etc/passwd."""

    @pytest.mark.parametrize("path", ["~", "~/kc", "~certflow-no-such-user/kc"])
    def test_a_path_that_starts_from_it_is_refused(self, path: str) -> None:
        assert refused({"kubeconfig": path}).code == "invalid-input"
        assert refused({"host": "https://h", "api_key": "t", "ca_cert": path}).code == "invalid-input"
        assert refused({"kubeconfig": config({"tokenFile": path})}).code == "invalid-input"

    def test_the_default_kubeconfig_is_absent(self) -> None:
        assert refused({}).code == "invalid-connection"

    def test_other_paths_are_read(self, tmp_path: Path) -> None:
        assert resolve({"kubeconfig": write(tmp_path / "kc", config())}, {}).host == "https://a:6443"


def test_a_context_with_hidden_characters_is_shown_escaped() -> None:
    name = "a\x1b[2J\u202eb"
    content = config(name=name)
    content["clusters"][0]["cluster"]["server"] = "https://a"
    assert resolve({"kubeconfig": content, "context": name}, {}).auth_source.endswith(
        r"context a\x1b[2J\u202eb"
    )


def test_a_context_that_is_absent_lists_those_there(tmp_path: Path) -> None:
    content = config()
    content["contexts"] += [
        {"name": name, "context": {"cluster": "a", "user": "a"}} for name in ("prod", "dev")
    ]
    error = refused({"kubeconfig": write(tmp_path / "kc", content), "context": "pord"})
    assert error.code == "invalid-connection"
    assert not absent(["'pord'"], error.cause)
    assert not absent(["prod,", "dev,", "a"], error.remedy)


FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "not YAML": (f"users:\n- token: '{SECRET}\n", ("YAML",)),
    "YAML with a tag of its own": (f"users: !secret {SECRET}\n", ("YAML", "1")),
    "empty": ("", ()),
    "plain text": (SECRET, ()),
    "a list": (f"- {SECRET}\n", ()),
    "encrypted": ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", ("ansible-vault",)),
}


@pytest.mark.parametrize("name", FILES)
def test_broken_file(name: str, tmp_path: Path) -> None:
    text, names = FILES[name]
    path = write(tmp_path / "kc", text)
    error = refused({"kubeconfig": path})
    assert error.code == "invalid-connection"
    assert not absent([path, *names], error.cause)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    missing = {"kubeconfig": config(), "ca_cert": str(tmp_path / "absent")}
    for options, names in (
        ({"kubeconfig": str(tmp_path / "binary")}, [f"{tmp_path}/binary"]),
        ({"kubeconfig": str(tmp_path)}, [str(tmp_path)]),
        (missing, ["ca_cert:", f"{tmp_path}/absent"]),
    ):
        error = refused(options)
        assert error.code == "invalid-connection"
        assert not absent(names, error.cause)


def test_non_ascii_text_is_read_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "kc").write_bytes(
        yaml.safe_dump({**config(), "comment": "Müller"}, allow_unicode=True).encode()
    )
    assert resolve({"kubeconfig": str(tmp_path / "kc")}, {}).host == "https://a:6443"


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubernetes package would leave key, certificate and CA in the temporary directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    resolve({"kubeconfig": config({"client-certificate-data": b64("C"), "client-key-data": b64("K")})}, {})
    for user in USERS.values():
        resolve({"kubeconfig": config(user[0])}, {})
    assert list(tmp_path.iterdir()) == []


def several(*names: str) -> dict[str, Any]:
    """Return a kubeconfig with these contexts, the first of which is the current one."""
    parts = [config(name=name) for name in names]
    sections = {
        section: [entry for part in parts for entry in part[section]]
        for section in kubeconfig_module.SECTIONS
    }
    return {"current-context": names[0], **sections}


# The options, and the environment, and True if they name the cluster. TWO and ONE are files.
NAMING: tuple[tuple[dict[str, Any], dict[str, str], bool], ...] = (
    ({"kubeconfig": "TWO"}, {}, False),
    ({"kubeconfig": several("a", "b")}, {}, False),
    ({}, {"KUBECONFIG": "TWO"}, False),
    ({}, {"K8S_AUTH_KUBECONFIG": "TWO"}, False),
    ({"kubeconfig": "ONE:OTHER"}, {}, False),
    ({"kubeconfig": "TWO", "context": ""}, {"K8S_AUTH_CONTEXT": "a"}, False),  # a context of another file
    ({"kubeconfig": "ONE"}, {}, True),
    ({"kubeconfig": config()}, {}, True),
    ({}, {"KUBECONFIG": "ONE"}, True),
    ({"kubeconfig": "TWO", "context": "b"}, {}, True),
    ({"kubeconfig": "TWO", "cluster_uid": "u"}, {}, True),
    ({"host": "https://a", "api_key": "k"}, {"KUBECONFIG": "TWO"}, True),
    ({}, {"K8S_AUTH_KUBECONFIG": "TWO", "K8S_AUTH_CONTEXT": "a"}, True),
)


@pytest.mark.parametrize(("options", "environment", "is_named"), NAMING)
def test_a_current_context_among_several_names_no_cluster(
    tmp_path: Path, options: dict[str, Any], environment: dict[str, str], is_named: bool
) -> None:
    files = {
        "TWO": write(tmp_path / "two", several("a", "b")),
        "ONE": write(tmp_path / "one", config()),
        "OTHER": write(tmp_path / "other", config(name="b")),
    }

    def placed(value: Any) -> Any:
        return (
            ":".join(files.get(part, part) for part in value.split(":"))
            if isinstance(value, str) and "https" not in value
            else value
        )

    given = [{key: placed(value) for key, value in values.items()} for values in (options, environment)]
    if is_named:
        kubeconfig_module.check_context(*given)
        return
    with pytest.raises(kubeconfig_module.ContextNotNamed):
        kubeconfig_module.check_context(*given)


@pytest.mark.parametrize("context", ["site-b", ""])
def test_a_name_that_two_files_give_to_different_entries_names_no_cluster(
    tmp_path: Path, context: str
) -> None:
    """kubeadm calls every cluster "kubernetes". The first file counts, so the context of the second one leads to the first cluster."""
    first, second = (config(name="kubernetes", cluster={"server": f"https://{site}"}) for site in "ab")
    second["contexts"][0]["name"] = "site-b"
    if not context:
        del first["contexts"], first["current-context"]
    second["current-context"] = "site-b"
    paths = [write(tmp_path / site, content) for site, content in (("a", first), ("b", second))]
    options = {"kubeconfig": ":".join(paths), "context": context}
    with fails("invalid-connection", "clusters", "'kubernetes',", "kubeconfig"):
        kubeconfig_module.check_context(options, {})
    kubeconfig_module.check_context({**options, "cluster_uid": "u"}, {})
    kubeconfig_module.check_context({**options, "kubeconfig": f"{paths[1]}:{paths[1]}"}, {})
    kubeconfig_module.check_context({**options, "kubeconfig": f"{paths[1]}:{tmp_path}/absent"}, {})
    other = write(tmp_path / "other", config(name="other"))
    kubeconfig_module.check_context(
        {"kubeconfig": f"{other}:{':'.join(paths)}", "context": "other"}, {}
    )  # the entries of another context


@pytest.mark.parametrize(
    ("user", "is_refused"),
    [
        ({"token": "t"}, False),
        ({"exec": {"command": "aws"}}, False),
        ({"exec": {"command": "/bin/login"}}, False),
        ({"tokenFile": "/token"}, False),
        ({"tokenFile": "token"}, True),
        ({"exec": {"command": "./login"}}, True),
    ],
)
def test_a_copy_in_another_directory_leads_to_the_same_cluster(
    tmp_path: Path, user: dict[str, Any], is_refused: bool
) -> None:
    first, second = config(user), config(user)
    second["contexts"][0]["context"]["namespace"] = "demo"
    paths = []
    for name, content in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name / "config", content))
    options = {"kubeconfig": ":".join(paths), "context": "a"}
    with fails("invalid-connection", "users") if is_refused else contextlib.nullcontext():
        kubeconfig_module.check_context(options, {})


def test_a_kubeconfig_of_forty_contexts_names_a_few() -> None:
    with pytest.raises(kubeconfig_module.ContextNotNamed) as caught:
        kubeconfig_module.check_context({"kubeconfig": several(*(f"c{number}" for number in range(40)))}, {})
    assert not absent(("c0", "c4"), caught.value.cause)
    assert absent(("c5",), caught.value.cause)
