# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The Authorization header of a connection: tokens, token files, and exec plugins that fail loudly."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timezone
from typing import Any, Mapping

from ._connection import Connection, ExecPlugin
from ._errors import AuthenticationError

try:
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.exec_provider import ExecProvider
    from kubernetes.config.kube_config import ConfigNode
    from urllib3.util import make_headers
except ImportError:  # reported by _run, with the interpreter's path
    pass

# A token is renewed this long before it expires, so that it does not expire on the way (EKS tokens last 15 minutes).
RENEW_BEFORE_SECONDS = 60.0
TOKEN_FILE_SECONDS = 60.0


class Credentials:
    """Gives the header for each request; ``renew`` after a 401.

    ``client_certificate`` holds the (certificate, key) that an exec plugin returned, PEM text, else None.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._header: str | None = None
        self._expires = float("-inf")
        self.client_certificate: tuple[str, str] | None = None

    @property
    def renewable(self) -> bool:
        return bool(self._connection.exec_plugin or self._connection.token_file)

    def header(self) -> str | None:
        """The value of Authorization, or None for a client certificate."""
        if time.time() >= self._expires:
            self._load()
        return self._header

    def renew(self) -> None:
        """Forget what is known: the next header is made anew."""
        self._expires = float("-inf")

    def _load(self) -> None:
        connection = self._connection
        self._expires = float("inf")
        if connection.exec_plugin:
            self._run(connection.exec_plugin)
        elif connection.token_file:
            self._header = f"Bearer {self._read_token(connection.token_file)}"
            self._expires = time.time() + TOKEN_FILE_SECONDS
        elif connection.token:
            self._header = f"Bearer {connection.token}"
        elif connection.basic:
            self._header = str(make_headers(basic_auth=":".join(connection.basic))["authorization"])

    def _read_token(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as exc:
            raise AuthenticationError(
                f"{self._connection.auth_source}: token file {path} cannot be read: {exc.strerror}"
            ) from exc
        if not token:
            raise AuthenticationError(f"{self._connection.auth_source}: token file {path} is empty")
        return token

    def _run(self, plugin: ExecPlugin) -> None:
        status = _exec_status(plugin, self._connection.auth_source)
        token, certificate, key = (status.get(n) for n in ("token", "clientCertificateData", "clientKeyData"))
        if token:
            self._header = f"Bearer {token}"
        elif certificate and key:
            self.client_certificate = (str(certificate), str(key))
        else:
            raise AuthenticationError(
                f"{self._connection.auth_source}: exec plugin {plugin.config.get('command')!r} returned neither a "
                "token nor a client certificate with its key"
            )
        if status.get("expirationTimestamp"):
            self._expires = _timestamp(str(status["expirationTimestamp"])) - RENEW_BEFORE_SECONDS


def _exec_status(plugin: ExecPlugin, origin: str) -> Mapping[str, Any]:
    """What the plugin printed. The kubernetes package only logs a failure and goes on as system:anonymous."""
    command = str(plugin.config.get("command") or "")
    hint = str(plugin.config.get("installHint") or "").strip()
    try:
        provider = ExecProvider(
            ConfigNode("exec", dict(plugin.config)), plugin.directory or None, ConfigNode("cluster", dict(plugin.cluster))
        )
        status = provider.run()
    except FileNotFoundError as exc:
        raise AuthenticationError(
            f"{origin}: exec plugin {command!r} is not installed here",
            remedy=hint or f"install {command!r} where this task runs (on AWX: in the execution environment)",
        ) from exc
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise AuthenticationError(
            f"{origin}: exec plugin {command!r} failed: {_one_line(exc)}",
            remedy=f"run {shutil.which(command) or command} as the kubeconfig's exec entry does, and repair what it says",
        ) from exc
    if not isinstance(status, Mapping):
        raise AuthenticationError(f"{origin}: exec plugin {command!r} returned no status")
    return status


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:500]


def _timestamp(text: str) -> float:
    """Seconds since the epoch. An unreadable time counts as expired: the plugin is asked again each time."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
