# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The content of TLS contexts. Keys do not touch a disk."""

from __future__ import annotations

import contextlib
import os
import ssl
from pathlib import Path

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import ConfigurationError
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.transport import context_for

from tests.support.certificates import server_pki as pki
from tests.support.failures import fails


def connection(ca: str | None, *, verify: bool = True) -> Connection:
    return Connection(host="https://h", auth_source="kubeconfig /k, context c", ca_pem=ca, verify=verify)


def pair() -> tuple[str, str]:
    return tuple(pki.leaf("me", pki.ca()))  # type: ignore[return-value]


def test_authorities() -> None:
    bundle = f"# Größe\n{pki.ca('one').certificate}\ntext\n{pki.ca('two').certificate}"
    context = context_for(connection(bundle), None)
    assert {str(ca["subject"]) for ca in context.get_ca_certs()} == {
        f"((('commonName', '{name}'),),)" for name in ("one", "two")
    }
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_without_verification() -> None:
    context = context_for(connection(None, verify=False), None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


BROKEN = {
    "empty": "",
    "blank": "\n",
    "text": "x",
    "not ASCII": "Größe",
    "damaged": pki.ca().certificate.replace("M", "!"),
    "a key": pki.ca().key,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_authorities(name: str) -> None:
    with fails("invalid-connection", "/k,", "CA", "PEM"):
        context_for(connection(BROKEN[name]), None)


def test_broken_pairs() -> None:
    certificate, key = pair()
    other = pki.leaf("other", pki.ca()).key
    # an encrypted key must be an error at once: OpenSSL would ask the terminal for the password
    for broken in ((certificate, other), (certificate, "x"), ("x", key), (certificate, pki.encrypted(key))):
        with fails("invalid-connection", "pair") as caught:
            context_for(connection(None), broken)
        assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize("in_memory", [True, False])
def test_no_file_is_left(in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memfd_create")
    seen = []
    original = ssl.SSLContext.load_cert_chain

    def spying(context: ssl.SSLContext, path: str, **options: str) -> None:
        seen.append((path, os.stat(path).st_mode & 0o777, len(list(tmp_path.iterdir()))))
        original(context, path, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spying)
    context_for(connection(None), pair())
    with pytest.raises(ConfigurationError):
        context_for(connection(None), ("x", "y"))
    assert list(tmp_path.iterdir()) == []
    if in_memory:
        assert all(path.startswith("/proc/self/fd/") and files == 0 for path, _mode, files in seen)
    else:
        assert all(mode == 0o600 and files == 1 for _path, mode, files in seen)
    assert len(seen) == 2


def test_no_descriptor_is_left() -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system has no /proc")
    before = held_files()
    context_for(connection(None), pair())
    assert held_files() == before


def held_files() -> list[str]:
    """Return the open files of this process that the collection made. Other tests hold the store of tokens."""
    held = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            held.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(link for link in held if "certflow" in link)
