# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens of exec plugins are shared by the forks of one process, and never leave memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import AuthenticationError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import credentials, token_store
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    Connection,
    ExecPlugin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.credentials import Credentials
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.token_store import TokenStore

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory"),
]

V1 = "client.authentication.k8s.io/v1"
KEY, OTHER = "0a1b", "0c2d"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> TokenStore:
    """Make the store of this test, and share it."""
    made = TokenStore()
    monkeypatch.setattr(token_store, "_shared", [made])
    return made


def in_forks(count: int, work: Callable[[], object]) -> list[int]:
    """Run the work in forks at the same time. Return their exit codes: 0 unless the work raised an error."""
    children = []
    for _number in range(count):
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def connection(directory: Path, seconds: float = 900, **entry: Any) -> Connection:
    """Return a connection whose plugin counts its runs, and returns token 1, 2, ... after a moment."""
    program = directory / "plugin"
    program.write_text(
        "#!/bin/sh\n"
        f"echo run >> {directory}/runs\necho begins >> {directory}/order\nsleep 0.3\necho ends >> {directory}/order\n"
        f"[ ! -e {directory}/broken ] || exit 1\n"
        f'printf \'{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": {{"token": "%s", "expirationTimestamp": "%s"}}}}\' '
        f"$(wc -l < {directory}/runs) $(date -u -d '+{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)\n"
    )
    program.chmod(0o700)
    config = {"apiVersion": V1, "command": str(program), **entry}
    return Connection(
        "https://h", "kubeconfig /k, context c", exec_plugin=ExecPlugin(config, "", {"server": "https://h"})
    )


def runs(directory: Path) -> int:
    return len((directory / "runs").read_text().splitlines())


def test_tokens_by_key(store: TokenStore) -> None:
    soon = time.time() + 100
    store.put(KEY, "one", soon)
    store.put(OTHER, "endless", float("inf"))
    assert store.find(KEY) == ("one", soon)
    assert store.find(OTHER) == ("endless", float("inf"))
    store.put(KEY, "late", time.time() - 1)
    assert not store.find(KEY)[0]
    store.drop(OTHER, "an older one")
    assert store.find(OTHER)[0]
    store.drop(OTHER, "endless")
    assert not store.find(OTHER)[0]


def test_a_fork_and_its_parent_share_the_store(store: TokenStore) -> None:
    assert in_forks(1, lambda: store.put(KEY, "from the fork", float("inf"))) == [0]
    assert store.find(KEY) == ("from the fork", float("inf"))


def test_no_entry_of_concurrent_forks_is_lost(store: TokenStore) -> None:
    def put_many() -> None:
        for number in range(20):
            store.put(f"{os.getpid():x}{number:04x}", "t", float("inf"))

    assert in_forks(8, put_many) == [0] * 8
    assert len(store._read()) == 160


def test_a_killed_fork_leaves_no_lock_and_no_broken_table(store: TokenStore) -> None:
    store.put(KEY, "one", float("inf"))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with store._locked(0), store.one_at_a_time(KEY, 1):
            os.pwrite(store._file, b"{broken", 0)
            os.write(write, b"x")
            time.sleep(60)
    os.read(read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not store.find(KEY)[0]
    with store.one_at_a_time(KEY, 60):
        store.put(KEY, "two", float("inf"))
    assert store.find(KEY) == ("two", float("inf"))


def test_a_program_that_is_started_does_not_inherit_the_store(store: TokenStore) -> None:
    store.put(KEY, "very-secret", float("inf"))
    listed = subprocess.run(
        [sys.executable, "-c", "import os; print(*map(os.readlink, (f'/proc/self/fd/{n}' for n in range(3, 99) if os.path.exists(f'/proc/self/fd/{n}'))))"],
        capture_output=True, text=True, check=True, close_fds=False,
    )  # fmt: skip
    assert "certflow" not in listed.stdout


def test_forks_run_a_plugin_once(tmp_path: Path) -> None:
    made = connection(tmp_path)

    def log_in() -> None:
        assert Credentials(made).header() == "Bearer 1"

    assert in_forks(6, log_in) == [0] * 6
    assert in_forks(2, log_in) == [0, 0]
    assert runs(tmp_path) == 1


def test_forks_of_a_plugin_that_fails_do_not_queue(tmp_path: Path) -> None:
    made = connection(tmp_path)
    (tmp_path / "broken").touch()
    assert in_forks(20, lambda: Credentials(made).header()) == [1] * 20
    assert "begins\nbegins\n" in (tmp_path / "order").read_text(), "one ends before the next one begins"
    (tmp_path / "broken").unlink()
    assert in_forks(1, lambda: Credentials(made).header()) == [0], "a failure is not stored"


def test_a_token_that_expires_soon_is_renewed(tmp_path: Path) -> None:
    made = connection(tmp_path, seconds=30)
    assert [Credentials(made).header() for _run in range(2)] == ["Bearer 1", "Bearer 2"]


def test_a_refused_token_is_dropped_for_all(tmp_path: Path) -> None:
    made = connection(tmp_path)
    first, second = Credentials(made), Credentials(made)
    assert [first.header(), second.header()] == ["Bearer 1"] * 2
    first.renew()
    assert first.header() == "Bearer 2"
    second.renew()
    assert second.header() == "Bearer 2", "the newer token was not refused"
    assert Credentials(made).header() == "Bearer 2"
    assert runs(tmp_path) == 2


DIFFERENT: list[tuple[str, dict[str, Any]]] = [
    ("an argument", {"args": ["--profile", "two"]}),
    ("a variable of the entry", {"env": [{"name": "AWS_PROFILE", "value": "two"}]}),
    ("the API version", {"apiVersion": "client.authentication.k8s.io/v1beta1"}),
]


@pytest.mark.parametrize("entry", [row[1] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT])
def test_another_entry_has_another_token(tmp_path: Path, entry: dict[str, Any]) -> None:
    assert Credentials(connection(tmp_path)).header() == "Bearer 1"
    try:
        assert Credentials(connection(tmp_path, **entry)).header() == "Bearer 2"
    except AuthenticationError:  # the plugin answers with the API version v1
        assert runs(tmp_path) == 2


def test_another_environment_has_another_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = connection(tmp_path)
    assert Credentials(made).header() == "Bearer 1"
    monkeypatch.setenv("AWS_PROFILE", "two")
    assert Credentials(made).header() == "Bearer 2"


def test_a_plugin_that_is_told_the_cluster_has_a_token_for_each(tmp_path: Path) -> None:
    def key(server: str, *, is_told: bool) -> str:
        config = {"command": "aws", "provideClusterInfo": is_told}
        plugin = ExecPlugin(config, "", {"server": server})
        return credentials._store_key(plugin, Connection(server, "s", exec_plugin=plugin))

    assert key("https://one", is_told=True) != key("https://two", is_told=True)
    assert key("https://one", is_told=False) == key("https://two", is_told=False)


def test_a_client_key_is_not_stored(tmp_path: Path, store: TokenStore) -> None:
    made = connection(tmp_path)
    body = (
        f'{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": '
        '{"token": "t", "clientCertificateData": "CERT", "clientKeyData": "KEY"}}'
    )
    (tmp_path / "plugin").write_text(f"#!/bin/sh\necho '{body}'\n")
    assert Credentials(made).header() == "Bearer t"
    assert store._read() == {}


def test_without_a_store_each_process_runs_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "_shared", [])
    made = connection(tmp_path)
    assert [Credentials(made).header() for _run in range(2)] == ["Bearer 1", "Bearer 2"]
