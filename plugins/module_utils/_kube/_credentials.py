# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What proves a connection's identity: tokens, token files, and exec plugins that fail loudly.

The kubernetes package only logs the failure of an exec plugin and goes on as system:anonymous, and its oldest
supported release passes no cluster to it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ._connection import Connection, ExecPlugin
from ._errors import AuthenticationError

# A token is renewed this long before it expires, so that it does not expire on the way (EKS tokens last 15 minutes).
RENEW_BEFORE_SECONDS = 60.0
TOKEN_FILE_SECONDS = 60.0
PLUGIN_SECONDS = 60.0
CLUSTER_INFO = "client.authentication.k8s.io/exec"


class Credentials:
    """Gives the header for each request, made anew before it expires; ``renew`` after a 401.

    ``client_certificate`` is the (certificate, key), PEM text, of the connection or of its exec plugin, else None.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._header: str | None = None
        self._expires = float("-inf")
        self.client_certificate: tuple[str, str] | None = None
        if connection.client_certificate and connection.client_key:
            self.client_certificate = (connection.client_certificate, connection.client_key)

    @property
    def renewable(self) -> bool:
        return bool(self._connection.exec_plugin or self._connection.token_file)

    def header(self) -> str | None:
        """The value of Authorization, or None for a client certificate. Raises AuthenticationError."""
        if time.time() >= self._expires:
            self._expires = self._load()
        return self._header

    def renew(self) -> None:
        """Forget what is known: the next header is made anew."""
        self._expires = float("-inf")

    def _load(self) -> float:
        """Set header and certificate; return when they expire, in seconds since the epoch."""
        connection = self._connection
        if connection.exec_plugin:
            return self._take(_run(connection.exec_plugin, connection))
        if connection.token_file:
            self._header = f"Bearer {self._read_token(connection.token_file)}"
            return time.time() + TOKEN_FILE_SECONDS
        if connection.token:
            self._header = f"Bearer {connection.token}"
        elif connection.basic:
            self._header = "Basic " + base64.b64encode(":".join(connection.basic).encode()).decode()
        return float("inf")

    def _read_token(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read().strip()
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not text"
            raise AuthenticationError(
                f"{self._connection.auth_source}: token file {path} cannot be read: {reason}"
            ) from None
        if not token:
            raise AuthenticationError(f"{self._connection.auth_source}: token file {path} is empty")
        return token

    def _take(self, status: Mapping[str, Any]) -> float:
        token, certificate, key = (status.get(n) for n in ("token", "clientCertificateData", "clientKeyData"))
        if not token and not (certificate and key):
            raise _plugin_error(
                self._connection, "returned neither a token nor a client certificate with its key"
            )
        self._header = f"Bearer {token}" if token else None
        self.client_certificate = (str(certificate), str(key)) if certificate and key else None
        expiry = status.get("expirationTimestamp")
        return _timestamp(str(expiry)) - RENEW_BEFORE_SECONDS if expiry else float("inf")


def _run(plugin: ExecPlugin, connection: Connection) -> Mapping[str, Any]:
    """The status that the plugin prints (https://kubernetes.io/docs/reference/config-api/client-authentication.v1/).

    What it prints is a secret and never quoted; its words on the standard error stream are.
    """
    try:
        command = [_program(plugin), *(str(argument) for argument in plugin.config.get("args") or ())]
        environment = {str(item["name"]): str(item["value"]) for item in plugin.config.get("env") or ()}
        environment = {
            **os.environ,
            **environment,
            "KUBERNETES_EXEC_INFO": json.dumps(_exec_info(plugin, connection)),
        }
    except (KeyError, TypeError, AttributeError):
        raise _plugin_error(
            connection, "is not described as Kubernetes wants it", "repair the kubeconfig"
        ) from None
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLUGIN_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        hint = " ".join(str(plugin.config.get("installHint") or "").split())
        remedy = hint or f"install {command[0]!r} where this task runs (on AWX: in the execution environment)"
        raise _plugin_error(connection, "is not installed here", remedy) from None
    except subprocess.TimeoutExpired:
        raise _plugin_error(connection, f"gave no answer in {PLUGIN_SECONDS:.0f} s") from None
    except OSError as exc:
        raise _plugin_error(connection, f"cannot be started: {exc.strerror}") from exc
    if done.returncode:
        words = " ".join(done.stderr.decode("utf-8", "replace").split())[-500:]
        raise _plugin_error(
            connection, f"failed with exit code {done.returncode}: {words or 'it said nothing'}"
        )
    return _status(done.stdout, plugin, connection)


def _program(plugin: ExecPlugin) -> str:
    """A relative path starts from the kubeconfig's directory, a bare name is looked up in PATH."""
    command = str(plugin.config.get("command") or "")
    return os.path.join(plugin.directory, command) if os.sep in command else command


def _exec_info(plugin: ExecPlugin, connection: Connection) -> dict[str, Any]:
    """Names as in the kubeconfig; the CA always as data."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.config.get("provideClusterInfo"):
        names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
        spec["cluster"] = {name: plugin.cluster[name] for name in names if name in plugin.cluster}
        if connection.ca_pem:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(
                connection.ca_pem.encode()
            ).decode()
        for extension in plugin.cluster.get("extensions") or ():
            if extension.get("name") == CLUSTER_INFO:
                spec["cluster"]["config"] = extension.get("extension")
    return {"apiVersion": plugin.config.get("apiVersion"), "kind": "ExecCredential", "spec": spec}


def _status(output: bytes, plugin: ExecPlugin, connection: Connection) -> Mapping[str, Any]:
    try:
        answer = json.loads(output)
    except ValueError:
        raise _plugin_error(connection, "printed something else than JSON") from None
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict):
        raise _plugin_error(connection, "printed no status")
    wanted, got = plugin.config.get("apiVersion"), answer.get("apiVersion")
    if wanted != got:
        raise _plugin_error(connection, f"speaks {got}, the kubeconfig asks for {wanted}")
    return status


def _plugin_error(connection: Connection, problem: str, remedy: str = "") -> AuthenticationError:
    plugin = connection.exec_plugin.config if connection.exec_plugin else {}
    command = plugin.get("command")
    return AuthenticationError(
        f"{connection.auth_source}: exec plugin {command!r} {problem}",
        remedy=remedy
        or "run it by hand as the kubeconfig's exec entry does, as the user and on the host of this task",
    )


def _timestamp(text: str) -> float:
    """Seconds since the epoch. An unreadable time counts as past: the plugin is asked again each time."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
