# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""How to reach one cluster, as whom: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExecPlugin:
    """A credential plugin of a kubeconfig, with the directory its relative command starts from.

    ``config`` is the user's ``exec`` entry, ``cluster`` the cluster entry (passed on by provideClusterInfo).
    """

    config: Mapping[str, Any] = field(repr=False)
    directory: str = ""
    cluster: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Connection:
    """One cluster and one identity. Secrets are kept out of ``repr``.

    ``auth_source`` says in words where this came from; it is part of every result.
    ``ca_pem`` None means the system's trust store. Certificates and keys are PEM text.
    """

    host: str
    auth_source: str
    ca_pem: str | None = None
    verify: bool = True
    tls_server_name: str | None = None
    client_certificate: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    basic: tuple[str, str] | None = field(default=None, repr=False)
    exec_plugin: ExecPlugin | None = None
    proxy: str | None = field(default=None, repr=False)
    no_proxy: str | None = None
    proxy_headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()
