# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every reader of a path of the user refuses a named pipe, which would keep it waiting for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._download import fetch, source_auth
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.credentials import Credentials
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._inventory import contexts

READERS: dict[str, Callable[[str], object]] = {
    "kubeconfig of the inventory": lambda path: contexts.load(DataLoader(), path),
    "kubeconfig of a task": lambda path: resolve({"kubeconfig": path}, {}),
    "ca_cert of a task": lambda path: resolve({"host": "https://127.0.0.1", "api_key": "t", "ca_cert": path}, {}),
    "token file": lambda path: Credentials(
        Connection(host="https://127.0.0.1", auth_source="test", token_file=path)
    ).header(1.0),
    "source": lambda path: fetch.read(path, time.monotonic() + 60),
    "source as a URL": lambda path: fetch.read(f"file://{path}", time.monotonic() + 60),
    "ca_path of a source": lambda path: source_auth.tls_context(source_auth.parse({"ca_path": path}), is_client=False),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_named_pipe_is_refused(reader: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            READERS[reader](str(pipe))
        except CertflowError as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(errors) == 1
