# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The TLS context of a connection. Client keys never touch a disk."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from .connection import Connection
from .errors import ConfigurationError


def context_for(connection: Connection, client_certificate: tuple[str, str] | None) -> ssl.SSLContext:
    """A context with the connection's CA and this (certificate, key), PEM text.

    Raises ConfigurationError where either cannot be parsed.
    """
    authorities = None
    if connection.ca_pem is not None:
        # Only ASCII is taken, where comments may hold more; and nothing at all would mean the system's trust store.
        authorities = connection.ca_pem.encode("ascii", "ignore").decode() or "\n"
    try:
        context = ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigurationError(
            f"{connection.auth_source}: the CA certificate is not valid PEM",
            remedy="check ca_cert, or certificate-authority of the kubeconfig",
        ) from exc
    # What the API server's Go clients accept: a CA without key identifiers, and an intermediate as anchor.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0x20)
    context.verify_flags |= 0x80000  # X509_V_FLAG_PARTIAL_CHAIN, named in the ssl module from Python 3.10 on
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_certificate:
        _load(context, *client_certificate, connection.auth_source)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, origin: str) -> None:
    """Load the pair from memory: the ssl module takes paths only, and a forked process may never run clean-up."""
    with _private_file(f"{certificate}\n{key}\n".encode()) as path:
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key, and wait.
            context.load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError) as exc:
            raise ConfigurationError(
                f"{origin}: the client certificate and key are not a valid pair",
                remedy="check client_cert and client_key, or the kubeconfig's user; an encrypted key cannot be used",
            ) from exc


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """A path that holds ``content`` for as long as the block runs: anonymous memory on Linux, else mode 0600."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certflow")
        path, on_disk = f"/proc/self/fd/{descriptor}", False
    else:
        descriptor, path = tempfile.mkstemp()
        on_disk = True
    try:
        os.write(descriptor, content)
        yield path
    finally:
        os.close(descriptor)
        if on_disk:
            os.unlink(path)
