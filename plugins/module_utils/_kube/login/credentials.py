# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Provide the credentials of a connection: tokens, token files, and exec plugins.

The kubernetes package runs the plugins. Its loader of kubeconfigs only logs the failure of a plugin and continues as
system:anonymous, so it is not used.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

from ..._base.paths import read as read_file
from ..._base.text import SENSITIVE_NAME, mask_login, quoted
from ..._base.times import find_time
from ..errors import AuthenticationError
from . import token_store
from .connection import Connection, ExecPlugin

try:
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.exec_provider import ExecProvider
    from kubernetes.config.kube_config import ConfigNode
except ImportError:  # reported by _ansible, with the interpreter's path
    pass

# A token is renewed this long before it expires, so that it does not expire on the way (EKS tokens last 15 minutes).
RENEW_BEFORE_SECONDS = 60.0
TOKEN_FILE_SECONDS = 60.0
PLUGIN_SECONDS = 60.0
# A plugin has at least this time, also after a wait for another process that ran it.
LEAST_SECONDS = 1.0
# The number of characters that are shown. The end of a plugin's output names the failure.
WORDS_SHOWN = 500
# Shorter values occur in every message. A secret is longer.
SHORTEST_SECRET = 4
MOST_TOKEN_BYTES = 1024 * 1024
_IS_SENSITIVE_NAME = re.compile(rf"(?!(?:OLD)?PWD\Z){SENSITIVE_NAME}", re.IGNORECASE)
# Options and variables of the known plugins whose values a message needs: clusters, regions, profiles, files.
HARMLESS_OPTIONS = frozenset(
    "--api-version --authority-host --cluster --cluster-id --cluster-name --context --endpoint --environment -e --login -l "
    "--namespace --oidc-issuer-url --output --profile --project --region --role --role-arn -r --server-id --tenant-id -t "
    "--timeout -i".split()
)
HARMLESS_VARIABLES = frozenset(
    "AWS_CONFIG_FILE AWS_DEFAULT_REGION AWS_PROFILE AWS_REGION AWS_ROLE_ARN AWS_STS_REGIONAL_ENDPOINTS "
    "CLOUDSDK_ACTIVE_CONFIG_NAME CLOUDSDK_CONFIG CLOUDSDK_CORE_PROJECT HOME NO_PROXY PATH USE_GKE_GCLOUD_AUTH_PLUGIN".split()
)
_SUBCOMMAND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Credentials:
    """The credentials of a connection, renewed before they expire. Threads may share them.

    client_certificate: the certificate and key of the connection or of its exec plugin, as PEM text. None without one.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._header: str | None = None
        self._expires = float("-inf")
        self._is_refused = False
        self._lock = threading.Lock()
        self.client_certificate: tuple[str, str] | None = None
        if connection.client_certificate and connection.client_key:
            self.client_certificate = (connection.client_certificate, connection.client_key)

    @property
    def renewable(self) -> bool:
        return bool(self._connection.exec_plugin or self._connection.token_file)

    def header(self, seconds: float = PLUGIN_SECONDS) -> str | None:
        """Return the value of Authorization, None for a client certificate. An exec plugin has at most ``seconds``.

        Raises AuthenticationError.
        """
        with self._lock:
            if time.time() >= self._expires:
                self._expires = self._load(seconds)
            return self._header

    def renew(self) -> None:
        """Renew the credentials before the next request, because the API server refused them."""
        self._expires = float("-inf")
        self._is_refused = True

    def _load(self, seconds: float) -> float:
        """Load the header and the certificate. Return the time at which they expire, in seconds since the epoch."""
        connection = self._connection
        if connection.exec_plugin:
            return self._load_from_plugin(connection.exec_plugin, min(seconds, PLUGIN_SECONDS))
        if connection.token_file:
            self._header = self._bearer(self._read_token(connection.token_file))
            return time.time() + TOKEN_FILE_SECONDS
        if connection.token:
            self._header = self._bearer(connection.token)
        elif connection.basic:
            self._header = "Basic " + base64.b64encode(":".join(connection.basic).encode()).decode()
        return float("inf")

    def _load_from_plugin(self, plugin: ExecPlugin, seconds: float) -> float:
        """Take the token from the store of this run. If it has none, run the plugin, and store its token."""
        store = token_store.find_shared()
        if store is None:
            return self._take(_run(plugin, self._connection, seconds))
        key, started = _store_key(plugin, self._connection), time.monotonic()
        if self._is_refused and self._header:
            store.drop(key, self._header)
        self._is_refused = False
        with contextlib.nullcontext() if store.find(key)[0] else store.one_at_a_time(key, seconds):
            token, expires = store.find(key)
            if token:
                self._header = token
                self.client_certificate = None
                return expires
            left = max(LEAST_SECONDS, seconds - (time.monotonic() - started))
            expires = self._take(_run(plugin, self._connection, left))
            # A private key stays in the process that needs it.
            if self._header and not self.client_certificate:
                store.put(key, self._header, expires)
            return expires

    def _bearer(self, token: str) -> str:
        """Return the header. http.client quotes characters that it refuses, so check them here."""
        text = token.strip()
        if not re.fullmatch(r"[!-~]+", text):
            raise AuthenticationError(
                f"{self._connection.auth_source}: the token contains characters that a token cannot contain",
                remedy="Check its source for a line break, a blank, or another encoding",
            )
        return f"Bearer {text}"

    def _read_token(self, path: str) -> str:
        try:
            token = read_file(path, MOST_TOKEN_BYTES).decode().strip()
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not text"
            raise AuthenticationError(
                f"{self._connection.auth_source}: token file {path} cannot be read: {reason}",
                remedy="Check the path, and who may read the file",
            ) from None
        if not token:
            raise AuthenticationError(
                f"{self._connection.auth_source}: token file {path} is empty",
                remedy="Check what writes the file",
            )
        return token

    def _take(self, status: Mapping[str, Any]) -> float:
        token, certificate, key = (status.get(n) for n in ("token", "clientCertificateData", "clientKeyData"))
        if not token and not (certificate and key):
            raise _plugin_error(
                self._connection, "returned neither a token nor a client certificate with its key"
            )
        self._header = self._bearer(str(token)) if token else None
        self.client_certificate = (str(certificate), str(key)) if certificate and key else None
        expiry = status.get("expirationTimestamp")
        if not expiry:
            return float("inf")
        moment = find_time(str(expiry))
        # If the time cannot be read, the plugin runs again for each request.
        return (moment.timestamp() if moment else 0.0) - RENEW_BEFORE_SECONDS


def _store_key(plugin: ExecPlugin, connection: Connection) -> str:
    """Return a hash of everything that the plugin can see, as hexadecimal text. The parts may hold secrets.

    The exec entry has the command, its arguments and its variables. The plugin also sees the environment and the directory of
    this process, and with provideClusterInfo the cluster. client-go uses the exec entry and the cluster in the same way.
    Source: https://github.com/kubernetes/client-go/blob/master/plugin/pkg/client/auth/exec/exec.go (cacheKey)
    """
    cluster = [plugin.cluster, connection.ca_pem] if plugin.config.get("provideClusterInfo") else None
    parts = [plugin.config, plugin.directory, cluster, sorted(os.environ.items()), os.getcwd(), os.getuid()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _run(plugin: ExecPlugin, connection: Connection, seconds: float) -> Mapping[str, Any]:
    """Return the status that the plugin prints.

    Its standard output is secret, so messages do not quote it. They quote its standard error without the values of its
    arguments and variables, because a usage text repeats them.
    Source: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
    """
    try:
        # On a terminal the package does not capture the plugin's output, and then fails because it is missing.
        with contextlib.redirect_stdout(io.StringIO()):
            status = _in_time(_provider(plugin, connection).run, connection, seconds)
    except ConfigException as exc:
        words = mask_login(" ".join(str(exc).split()), find_secrets(plugin.config, os.environ))
        raise _plugin_error(connection, f"failed: {words[-WORDS_SHOWN:]}") from None
    except FileNotFoundError:
        hint = " ".join(str(plugin.config.get("installHint") or "").split()).rstrip(".")
        remedy = (
            f"Install {quoted(plugin.config.get('command'))} on the host of this task. On AWX, add it to the execution "
            "environment, as examples/awx/execution-environment.yml does for aws"
        )
        where = "is not installed on the host, or in the execution environment, that runs this task"
        remedy = f"{remedy}. The kubeconfig says: {quoted(hint)}" if hint else remedy
        raise _plugin_error(connection, where, remedy) from None
    except OSError as exc:
        raise _plugin_error(connection, f"cannot be started: {exc.strerror}") from exc
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise _plugin_error(
            connection, "or its answer does not have the format of Kubernetes", "repair the kubeconfig"
        ) from None
    if not isinstance(status, Mapping):
        raise _plugin_error(connection, "printed no status")
    return status


def _in_time(run: Callable[[], Any], connection: Connection, seconds: float) -> Any:
    """Call ``run`` within a time limit. The kubernetes package has no limit for a plugin that waits for input."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append((run(), None))
        except Exception as exc:  # raised again below, in the caller's thread
            outcome.append((None, exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise _plugin_error(connection, f"did not answer within {seconds:.0f} s")
    answer, error = outcome[0]
    if error is not None:
        raise error
    return answer


def _provider(plugin: ExecPlugin, connection: Connection) -> Any:
    config = ConfigNode("exec", dict(plugin.config))
    directory = plugin.directory or None
    if not plugin.config.get("provideClusterInfo"):
        return ExecProvider(config, directory)
    cluster = dict(plugin.cluster)
    if connection.ca_pem:
        cluster["certificate-authority-data"] = base64.b64encode(connection.ca_pem.encode()).decode()
    try:
        return ExecProvider(config, directory, ConfigNode("cluster", cluster))
    except TypeError:  # the package supports it since version 32
        raise _plugin_error(
            connection, "needs the cluster (provideClusterInfo)", "install kubernetes >= 32"
        ) from None


def _plugin_error(
    connection: Connection,
    problem: str,
    remedy: str = "",
) -> AuthenticationError:
    command = connection.exec_plugin.config.get("command") if connection.exec_plugin else None
    return AuthenticationError(
        f"{connection.auth_source}: exec plugin {quoted(command)} {problem}",
        remedy=remedy
        or "Run the plugin manually as the kubeconfig's exec entry does, as the user and on the host of this task",
    )


def find_secrets(config: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return the values that an exec plugin may repeat and a message must not show.

    config: the exec entry of a kubeconfig. All values of its arguments and variables count, except harmless ones.
    environ: the environment of the plugin. Its variables with the name of a secret count. PWD is the working directory.
    """
    args, env = config.get("args") or (), config.get("env") or ()
    entries = {str(item.get("name")): str(item.get("value")) for item in env if isinstance(item, Mapping)}
    own = [value for name, value in entries.items() if name not in HARMLESS_VARIABLES]
    inherited = [value for name, value in environ.items() if _IS_SENSITIVE_NAME.fullmatch(name)]
    return [value for value in (*_argument_values(args), *own, *inherited) if len(value) >= SHORTEST_SECRET]


def _argument_values(args: Sequence[Any]) -> Iterator[str]:
    """Yield each value that is neither a subcommand nor the value of a harmless option."""
    option = ""
    for word in map(str, args):
        name, separator, value = word.partition("=")
        if word.startswith("-"):
            option = "" if separator else word
            if separator and name not in HARMLESS_OPTIONS:
                yield value
            continue
        if option not in HARMLESS_OPTIONS and (option or not _SUBCOMMAND.fullmatch(word)):
            yield word
        option = ""
