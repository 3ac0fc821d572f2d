# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exec plugins, token files and headers. The error of a plugin quotes the plugin's message."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import AuthenticationError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import (
    credentials as credentials_module,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    Connection,
    ExecPlugin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.credentials import Credentials
from kubernetes.config.exec_provider import ExecProvider

from tests.support.failures import absent, fails

V1 = "client.authentication.k8s.io/v1"
SECRET = "very-secret-text"


def plugin(directory: Path, body: str, **entry: Any) -> Connection:
    """A connection whose plugin is a Python program with this body."""
    program = directory / "plugin"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    program.chmod(0o700)
    return connection({"apiVersion": V1, "command": str(program), **entry})


def connection(entry: dict[str, Any], directory: str = "", **fields: Any) -> Connection:
    cluster = {"server": "https://h", "certificate-authority": "ca.pem", "extensions": [
        {"name": "other", "extension": {}},
        {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}},
    ]}  # fmt: skip
    return Connection(
        host="https://h",
        auth_source="kubeconfig /k, context c",
        exec_plugin=ExecPlugin(entry, directory, cluster),
        **fields,
    )


def printing(status: dict[str, Any], version: str = V1) -> str:
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(answer)!r})"


def refused(where: Connection) -> AuthenticationError:
    credentials = Credentials(where)
    for _again in range(2):  # a failure is no credential: nothing goes on as system:anonymous
        with pytest.raises(AuthenticationError) as caught:
            credentials.header()
    error = caught.value
    assert error.code == "authentication-failed"
    assert not absent(["/k,", "plugin"], error.cause)
    assert error.remedy
    assert SECRET not in f"{error!r} {error} {error.__cause__!r}"
    return error


def test_token(tmp_path: Path) -> None:
    assert Credentials(plugin(tmp_path, printing({"token": "t"}))).header() == "Bearer t"


def test_certificate(tmp_path: Path) -> None:
    status = {"clientCertificateData": "CERT", "clientKeyData": "KEY"}
    credentials = Credentials(plugin(tmp_path, printing(status)))
    assert credentials.header() is None
    assert credentials.client_certificate == ("CERT", "KEY")


def test_token_and_certificate(tmp_path: Path) -> None:
    status = {"token": "t", "clientCertificateData": "CERT", "clientKeyData": "KEY"}
    credentials = Credentials(plugin(tmp_path, printing(status)))
    assert (credentials.header(), credentials.client_certificate) == ("Bearer t", ("CERT", "KEY"))


def test_missing() -> None:
    error = refused(connection({"apiVersion": V1, "command": "certflow-no-such-program"}))
    assert error.code == "authentication-failed"
    assert not absent(["'certflow-no-such-program'"], error.cause)
    assert "execution environment" in error.cause
    assert "examples/awx/execution-environment.yml" in error.remedy


def test_missing_with_hint() -> None:
    entry = {"apiVersion": V1, "command": "certflow-no-such-program", "installHint": "get it\nfrom there"}
    assert refused(connection(entry)).remedy.endswith("The kubeconfig says: 'get it from there'")


def test_own_words(tmp_path: Path) -> None:
    body = (
        f"print({SECRET!r}); print('Token has expired\\nand refresh failed', file=sys.stderr); sys.exit(255)"
    )
    error = refused(plugin(tmp_path, body))
    assert error.cause.endswith("failed: exec: process returned 255. Token has expired and refresh failed")


def test_own_words_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PWD names a directory, although passwords have such names too."""
    monkeypatch.setenv("PWD", "/runner/project")
    monkeypatch.setenv("OLDPWD", "/runner/before")
    monkeypatch.setenv("DB_PWD", "inherited-value")
    body = "print('/runner/project/aws, /runner/before/aws, inherited-value', file=sys.stderr); sys.exit(1)"
    error = refused(plugin(tmp_path, body))
    assert error.cause.endswith("/runner/project/aws, /runner/before/aws, ***")


def test_an_answer_that_is_nested_too_deep(tmp_path: Path) -> None:
    error = refused(plugin(tmp_path, f"print('[' * 200_000, {SECRET!r})"))
    assert "format of Kubernetes" in error.cause


def test_own_words_that_repeat_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage text repeats arguments, and the environment may hold secrets. Other text stays readable."""
    inherited = "inherited-value"
    monkeypatch.setenv("K8S_AUTH_API_KEY", inherited)
    body = (
        "words = ' '.join(sys.argv[1:]) + ' ' + os.environ['OWN_PASS'] + ' ' + os.environ['K8S_AUTH_API_KEY']\n"
        "print('usage of', words, 'for cluster shop in eu-west-1', file=sys.stderr); sys.exit(1)"
    )
    args = [
        "get-token",
        "--region",
        "eu-west-1",
        "--cluster-name",
        "shop",
        "--client-secret",
        SECRET,
        f"--key={SECRET}2",
    ]
    error = refused(plugin(tmp_path, body, args=args, env=[{"name": "OWN_PASS", "value": f"{SECRET}3"}]))
    assert inherited not in error.cause
    assert error.cause.endswith(
        "usage of get-token --region eu-west-1 --cluster-name shop --client-secret *** --key=*** *** *** for cluster shop in eu-west-1"
    )


def test_own_words_are_masked_before_they_are_cut(tmp_path: Path) -> None:
    """Mask before shortening. Otherwise the end of a secret would stay."""
    length = credentials_module.WORDS_SHOWN - len(SECRET) // 2
    body = f"print('{SECRET}' + 'x ' * {length // 2}, file=sys.stderr); sys.exit(1)"
    error = refused(plugin(tmp_path, body, args=["--client-secret", SECRET]))
    assert SECRET[-5:] not in error.cause


def test_own_words_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    error = refused(plugin(tmp_path, "print('No credentials', file=sys.stderr); sys.exit(1)"))
    assert error.cause.endswith("failed: exec: process returned 1. No credentials")


BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "silent failure": ("sys.exit(3)", ("3",)),
    "no output": ("", ("decode",)),
    "no JSON": (f"print({SECRET!r})", ("decode",)),
    "binary": ("sys.stdout.buffer.write(b'\\xff\\xfe')", ()),
    "no object": (f"print(json.dumps([{SECRET!r}]))", ("'apiVersion'",)),
    "no status": ("print('{}')", ("'apiVersion'",)),
    "empty status": (printing({}), ("token", "certificate")),
    "certificate alone": (printing({"clientCertificateData": SECRET}), ("token", "certificate")),
    "another version": (printing({"token": SECRET}, "client.authentication.k8s.io/v1beta1"), ("client.authentication.k8s.io/v1beta1", V1)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str, tmp_path: Path) -> None:
    body, names = BAD[name]
    error = refused(plugin(tmp_path, body))
    assert error.code == "authentication-failed"
    assert not absent(names, error.cause)


BAD_ENTRIES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"args": 5}, ()),
    ({"env": [{"name": "X"}]}, ("value", "exec/env/0")),
    ({"env": 5}, ()),
    ({"env": [SECRET]}, ()),
]


@pytest.mark.parametrize(("entry", "names"), BAD_ENTRIES)
def test_bad_entry(entry: dict[str, Any], names: tuple[str, ...], tmp_path: Path) -> None:
    error = refused(plugin(tmp_path, printing({"token": "t"}), **entry))
    assert error.code == "authentication-failed"
    assert not absent(names, error.cause)


def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(connection({"apiVersion": V1, "command": f"{tmp_path}/file"}))
    assert error.code == "authentication-failed"
    assert not absent([f"{tmp_path}/file'"], error.cause)


@pytest.mark.skipif(
    "cluster" not in inspect.signature(ExecProvider).parameters,
    reason="this kubernetes package tells plugins no cluster; the next test is about that",
)
def test_what_the_plugin_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_TASK", "yes")
    body = (
        f"seen = [os.environ['FROM_TASK'], os.environ['OWN'], json.loads(os.environ['KUBERNETES_EXEC_INFO']), "
        f"sys.argv[1:]]\nopen({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(seen))\n{printing({'token': 't'})}"
    )
    made = plugin(
        tmp_path, body, args=["a", "1"], env=[{"name": "OWN", "value": "5"}], provideClusterInfo=True
    )
    assert made.exec_plugin is not None
    Credentials(connection(dict(made.exec_plugin.config), ca_pem="CA")).header()
    assert json.loads((tmp_path / "seen").read_text()) == [
        "yes",
        "5",
        {
            "apiVersion": V1,
            "kind": "ExecCredential",
            "spec": {
                "interactive": False,
                "cluster": {
                    "server": "https://h",
                    "certificate-authority": "ca.pem",
                    "certificate-authority-data": "Q0E=",
                    "extensions": made.exec_plugin.cluster["extensions"],
                    "config": {"audience": "x"},
                },
            },
        },
        ["a", "1"],
    ]


def test_a_package_that_tells_plugins_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 32 of the kubernetes package."""

    class OldProvider:
        def __init__(self, exec_config: object, cwd: str | None) -> None:
            raise AssertionError("not reached: it takes no cluster")

    monkeypatch.setattr(credentials_module, "ExecProvider", OldProvider)
    error = refused(plugin(tmp_path, "", provideClusterInfo=True))
    assert not absent(["(provideClusterInfo)"], error.cause)
    assert not absent(["kubernetes", "32"], error.remedy)


def test_relative_command_starts_from_the_kubeconfig(tmp_path: Path) -> None:
    plugin(tmp_path, printing({"token": "t"}))
    entry = {"apiVersion": V1, "command": "./plugin"}
    assert Credentials(connection(entry, str(tmp_path))).header() == "Bearer t"


def test_bare_command_is_found_in_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, printing({"token": "t"}))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert Credentials(connection({"apiVersion": V1, "command": "plugin"})).header() == "Bearer t"


def counting(directory: Path, expiry: str) -> Connection:
    """A plugin that returns token 1, 2, ... each valid until ``expiry`` (a Python expression)."""
    count = str(directory / "count")
    return plugin(
        directory,
        f"n = os.path.getsize({count!r}) + 1 if os.path.exists({count!r}) else 1\nopen({count!r}, 'a').write('x')\n"
        "print(json.dumps({'apiVersion': " + repr(V1) + ", 'kind': 'ExecCredential', 'status': "
        "{'token': str(n), 'expirationTimestamp': " + expiry + "}}))",
    )


@pytest.mark.parametrize(
    ("expiry", "second"),
    [
        ("time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 900))", "Bearer 1"),
        (
            "time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 30))",
            "Bearer 2",
        ),  # before it expires
        ("time.strftime('%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(time.time() - 30))", "Bearer 2"),
        ("'tomorrow'", "Bearer 2"),
        ("None", "Bearer 1"),
    ],
)
def test_expiry(expiry: str, second: str, tmp_path: Path) -> None:
    credentials = Credentials(counting(tmp_path, expiry))
    assert [credentials.header(), credentials.header()] == ["Bearer 1", second]


def test_renewal(tmp_path: Path) -> None:
    credentials = Credentials(counting(tmp_path, "None"))
    assert credentials.renewable
    headers = [credentials.header()]
    credentials.renew()
    assert [*headers, credentials.header(), credentials.header()] == ["Bearer 1", "Bearer 2", "Bearer 2"]


def test_token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    credentials = Credentials(Connection(host="https://h", auth_source="s", token_file=str(path)))
    assert credentials.header() == "Bearer one"
    path.write_text("two\n")
    assert credentials.header() == "Bearer one"
    later = time.time() + 61  # kubelets rotate service account tokens
    monkeypatch.setattr(time, "time", lambda: later)
    assert credentials.header() == "Bearer two"


@pytest.mark.parametrize(
    "content",
    [None, b"\n", b"\xff"],
)
def test_bad_token_file(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    credentials = Credentials(
        Connection(host="https://h", auth_source="s", token_file=str(tmp_path / "token"))
    )
    with fails("authentication-failed", str(tmp_path / "token")):
        credentials.header()


@pytest.mark.parametrize("token", [f"{SECRET}\nX", f"{SECRET} x", f"{SECRET}\u20ac"])
def test_a_token_that_no_header_can_hold_is_not_quoted(token: str) -> None:
    credentials = Credentials(Connection(host="https://h", auth_source="s", token=token))
    with fails("authentication-failed", "token") as caught:
        credentials.header()
    assert SECRET not in f"{caught.value!r} {caught.value}"


def test_a_line_break_after_a_token_is_no_part_of_it(tmp_path: Path) -> None:
    """A YAML block scalar ends in one."""
    assert Credentials(Connection(host="https://h", auth_source="s", token="t\n")).header() == "Bearer t"
    assert Credentials(plugin(tmp_path, printing({"token": "t\n"}))).header() == "Bearer t"


def test_a_plugin_that_waits_for_a_person_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "PLUGIN_SECONDS", 0.5)
    credentials = Credentials(plugin(tmp_path, "time.sleep(3)"))
    with fails("authentication-failed", "s"):
        credentials.header()


def test_fixed_credentials() -> None:
    basic = Credentials(Connection(host="https://h", auth_source="s", basic=("user", "pä")))
    assert basic.header() == "Basic dXNlcjpww6Q="
    token = Credentials(Connection(host="https://h", auth_source="s", token="t"))
    assert (token.header(), token.renewable) == ("Bearer t", False)
    pair = Credentials(Connection(host="https://h", auth_source="s", client_certificate="C", client_key="K"))
    assert (pair.header(), pair.client_certificate) == (None, ("C", "K"))


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plugin(tmp_path, printing({"clientCertificateData": "CERT", "clientKeyData": "KEY"}))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "empty"))
    monkeypatch.setattr("tempfile.tempdir", None)
    Credentials(made).header()
    assert list((tmp_path / "empty").iterdir()) == []
