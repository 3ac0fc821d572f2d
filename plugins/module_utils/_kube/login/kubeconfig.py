# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make a Connection from the chosen sources.

This file reads and merges kubeconfigs itself. The kubernetes package would expand aliases without a limit, treat the string
"false" as true, quote an entry with its token in some errors, and write client keys to temporary files.
"""

from __future__ import annotations

import base64
import errno
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..._base.paths import existing, expand
from ..._base.paths import read as read_file
from ..._base.text import nearest, quoted, some, spare, visible
from ..errors import AuthenticationError, ConfigurationError, KubeconfigError
from .connection import CREDENTIAL, Connection, ConnectionSources, ExecPlugin, choose, is_content
from .kubeconfig_parsing import MOST_BYTES, REPAIR, check_fields, load_yaml, too_large
from .transport import has_one_address

# The characters of an address (RFC 3986, and names in other scripts), and of a name or address in a certificate.
_PRINTED = re.compile(r"[^\s\x00-\x1f\x7f]+")
_SERVER_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
DEFAULT_KUBECONFIG = "~/.kube/config"
# The directory that Kubernetes mounts into a pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
VAULT_HEADER = "$ANSIBLE_VAULT"
OF_CREDENTIAL = f"of {CREDENTIAL}"
# The fields of clusters and users that may hold a path.
PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
SECTIONS = {"clusters": "cluster", "contexts": "context", "users": "user"}
# Option -> field of a Connection.
TRANSPORT_FIELDS = {
    "validate_certs": "verify",
    "ca_cert": "ca_pem",
    "proxy": "proxy",
    "no_proxy": "no_proxy",
    "proxy_headers": "proxy_headers",
    "impersonate_user": "impersonate_user",
    "impersonate_groups": "impersonate_groups",
}


@dataclass(frozen=True)
class KubeconfigEntry:
    """An entry of a kubeconfig."""

    value: Mapping[str, Any] = field(repr=False)
    #: The directory from which its relative paths start.
    directory: str


@dataclass(frozen=True)
class Kubeconfig:
    """The content of one or several files, merged as kubectl does it: the first entry with a name counts."""

    #: The files in words.
    where: str
    #: Section -> name -> entry.
    entries: Mapping[str, Mapping[str, KubeconfigEntry]]
    current_contexts: tuple[str, ...]
    #: Section and name of the entries that are different in several files.
    differing: frozenset[tuple[str, str]] = frozenset()

    def check_unambiguous(self, context: str) -> None:
        """Raise ConfigurationError if a name that the context needs means different entries of several files."""
        value = self.entry("contexts", context).value
        check_fields("context", value, f"kubeconfig {self.where}")
        names = [("contexts", context), ("clusters", value.get("cluster")), ("users", value.get("user"))]
        for section, name in [used for used in names if used in self.differing]:
            raise ConfigurationError(
                f"kubeconfig {self.where}: the files have different {section} with the name {quoted(name)}, which the context "
                f"{quoted(context)} needs",
                remedy="Rename all but one of them, or set kubeconfig to one file, or to a list of the files in the inventory plugin",
            )

    def entry(self, section: str, name: str) -> KubeconfigEntry:
        """Return the entry with a name. Raises ConfigurationError, which shows the most similar names."""
        entries = self.entries[section]
        if name in entries:
            return entries[name]
        known = nearest(name, entries)
        remedy = f"Set context to one of these: {known}" if section == "contexts" else REPAIR
        if self.where == OF_CREDENTIAL:
            remedy = f"Update the inventory source, or attach the credential whose kubeconfig has this {SECTIONS[section]}"
        raise ConfigurationError(
            f"kubeconfig {self.where} has no {SECTIONS[section]} named {quoted(name)}",
            evidence=(f"{section}: {known}",),
            remedy=remedy,
        )


def resolve(options: Mapping[str, Any], environ: Mapping[str, str]) -> Connection:
    """Return the connection that the task's options and the environment name.

    Raises ConfigurationError for a mixture, a missing or broken file or an unknown context. Raises AuthenticationError for a
    user without credentials.
    """
    connection = _resolved(choose(options, environ), environ)
    server_name = connection.tls_server_name
    if server_name and not _SERVER_NAME.fullmatch(server_name):
        raise ConfigurationError(
            f"{connection.auth_source}: tls-server-name is not a host name: {quoted(server_name)}",
            remedy=REPAIR,
        )
    if connection.impersonate_groups and not connection.impersonate_user:  # API servers answer 400
        raise ConfigurationError(
            f"{connection.auth_source}: groups to impersonate are set without a user",
            remedy="Set impersonate_user too",
        )
    for name in (connection.impersonate_user or "", *connection.impersonate_groups):
        if not name.isprintable() or not name.isascii():
            raise ConfigurationError(
                f"{connection.auth_source}: the name to impersonate {quoted(name)} cannot be sent",
                remedy="Use only printable ASCII characters",
            )
    return connection


#: The variable of the environment with which a role or a playbook asks for check_context where the kubeconfig is read.
MUST_NAME_CONTEXT = "CERTFLOW_KUBERNETES_MUST_NAME_CONTEXT"


class ContextNotNamed(ConfigurationError):
    """A kubeconfig has several contexts, and only its current-context would choose the cluster."""


def check_context(options: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Refuse the current-context of a kubeconfig with several contexts, which may be another one tomorrow.

    A context, a host or the UID of the cluster names the cluster. A context names none if several files give its cluster different
    addresses, for example because kubeadm calls every cluster "kubernetes".

    Raises ContextNotNamed, and ConfigurationError for a kubeconfig that cannot be used.
    """
    sources = choose(options, environ)
    source, context = _kubeconfig_of(sources, environ), sources.values.get("context")
    if options.get("cluster_uid") or sources.kind == "direct" or source is None:
        return
    if context and not (isinstance(source[0], str) and os.pathsep in source[0]):
        return
    config = _load(*source)
    names = [context] if context else [*config.entries["contexts"]]
    if len(names) > 1:
        raise ContextNotNamed(
            f"kubeconfig {config.where} has {len(names)} contexts ({some(names)}), and none of them is named",
            remedy="Set context",
        )
    for name in names:
        config.check_unambiguous(name)


def _kubeconfig_of(sources: ConnectionSources, environ: Mapping[str, str]) -> tuple[Any, str] | None:
    """Return the kubeconfig and its origin, None without one."""
    if "kubeconfig" in sources.values:
        return sources.values["kubeconfig"], sources.origins["kubeconfig"]
    if environ.get("KUBECONFIG"):
        return environ["KUBECONFIG"], "the environment's KUBECONFIG"
    is_default = sources.values.get("context") or not _is_in_pod(environ)
    return (DEFAULT_KUBECONFIG, "the default") if is_default and existing(DEFAULT_KUBECONFIG) else None


def _resolved(sources: ConnectionSources, environ: Mapping[str, str]) -> Connection:
    """Return the connection of the first source in the order of doc_fragments/_auth.py.

    A context is an entry of a kubeconfig, so a named context excludes the pod's service account.
    """
    context = sources.values.get("context")
    spare([context or ""])
    if sources.kind == "direct":
        return _direct(sources)
    source = _kubeconfig_of(sources, environ)
    if source is not None:
        return _from_kubeconfig(*source, sources)
    if not context and _is_in_pod(environ):
        return _in_cluster(sources, environ)
    if context:
        raise ConfigurationError(
            f"{sources.origins['context']} names the context {quoted(context)}, but there is no kubeconfig to find it in: "
            f"the option kubeconfig and KUBECONFIG are not set, and {DEFAULT_KUBECONFIG} does not exist",
            remedy="Set kubeconfig. In a pod, remove context to use the pod's service account",
        )
    raise ConfigurationError(
        f"no cluster is named: kubeconfig, host, and KUBECONFIG are not set, and {DEFAULT_KUBECONFIG} does not exist",
        remedy="Set kubeconfig (and context), or host and api_key",
    )


def _is_in_pod(environ: Mapping[str, str]) -> bool:
    """Return True in a pod that has the address of its API server and a mounted token."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and os.path.exists(f"{SERVICE_ACCOUNT}/token")


def _transport(sources: ConnectionSources, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Connection that the transport options of the task or the environment give.

    own: the fields of a kubeconfig. The task overrides them. The environment only completes them.
    """
    fields = {
        field: sources.values[option]
        for option, field in TRANSPORT_FIELDS.items()
        if sources.values.get(option) not in (None, [], {})
        and (field not in own or sources.origins.get(option, "").startswith("the task"))
    }
    if "ca_pem" in fields:
        fields["ca_pem"] = _read(fields["ca_pem"], sources.origins["ca_cert"])
    if "impersonate_groups" in fields:
        fields["impersonate_groups"] = tuple(fields["impersonate_groups"])
    return fields


def _direct(sources: ConnectionSources) -> Connection:
    values, origins = sources.values, sources.origins
    files: dict[str, Any] = {
        target: _read(values[option], origins[option])
        for option, target in (("client_cert", "client_certificate"), ("client_key", "client_key"))
        if option in values
    }
    return Connection(
        host=_host(values["host"], origins["host"]),
        auth_source=origins["host"],
        token=values.get("api_key"),
        **files,
        **_transport(sources, {}),
    )


def _in_cluster(sources: ConnectionSources, environ: Mapping[str, str]) -> Connection:
    origin = "the pod's service account"
    address, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT") or "443"
    fields = {"ca_pem": _read(f"{SERVICE_ACCOUNT}/ca.crt", origin), **_transport(sources, {})}
    return Connection(
        host=f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}",
        auth_source=origin,
        token_file=f"{SERVICE_ACCOUNT}/token",
        **fields,
    )


def _from_kubeconfig(source: Any, origin: str, sources: ConnectionSources) -> Connection:
    config = _load(source, origin)
    name = sources.values.get("context") or _current_context(config)
    problem = f"kubeconfig {config.where}, context {visible(name)}"
    context = config.entry("contexts", name)
    check_fields("context", context.value, problem)
    cluster = config.entry("clusters", context.value.get("cluster") or "")
    check_fields("cluster", cluster.value, problem)
    user = config.entry("users", context.value.get("user") or "")
    check_fields("user", user.value, problem)
    read = {**_cluster_fields(cluster, problem), **_user_fields(user, cluster, problem)}
    own = {field: value for field, value in read.items() if value is not None}
    return Connection(
        host=_host(cluster.value.get("server"), problem),
        auth_source=problem,
        **{**own, **_transport(sources, own)},
    )


def _current_context(config: Kubeconfig) -> str:
    if len(config.current_contexts) == 1:
        return config.current_contexts[0]
    names = ", ".join(config.current_contexts)
    # kubectl uses that of the first file, the kubernetes package that of the last file.
    problem = f"names several current contexts: {names}" if names else "has no current-context"
    raise ConfigurationError(f"kubeconfig {config.where} {problem}", remedy="Set context")


def _load(source: Any, origin: str) -> Kubeconfig:
    if isinstance(source, Mapping):
        return parse([(source, "")], f"{origin} (a dictionary)")
    if is_content(source):
        raise ConfigurationError(
            f"{origin} is the text of a kubeconfig, but a path or a dictionary is expected",
            remedy="Set a dictionary: kubeconfig: '{{ the_text | from_yaml }}'",
        )
    spare([str(source)])
    where = OF_CREDENTIAL if origin == CREDENTIAL else f"{source} ({origin})"
    paths = [expand(path) for path in str(source).split(os.pathsep) if path]
    existing = [path for path in paths if os.path.exists(path)]
    if not existing:
        raise ConfigurationError(f"kubeconfig {where} does not exist", remedy="Check the path")
    return parse(
        [
            (_content(path, f"kubeconfig {where}"), os.path.dirname(os.path.abspath(path)))
            for path in existing
        ],
        where,
    )


def _content(path: str, where: str) -> Mapping[str, Any]:
    text = _read(path, where)
    if text.startswith(VAULT_HEADER):
        raise ConfigurationError(
            f"{where} is encrypted with ansible-vault",
            remedy="Set it as the task's option kubeconfig on the controller, where Ansible can decrypt it",
        )
    content = load_yaml(text, where)
    if not isinstance(content, Mapping):
        raise KubeconfigError(f"{where} is not a kubeconfig", remedy="Check the file")
    return content


def parse(contents: Sequence[tuple[Mapping[str, Any], str]], where: str) -> Kubeconfig:
    """Return the merged kubeconfig. contents: those of the files, each with its directory. Raises KubeconfigError."""
    entries: dict[str, dict[str, KubeconfigEntry]] = {section: {} for section in SECTIONS}
    differing = set()
    for content, directory in contents:
        for section, key in SECTIONS.items():
            own: set[str] = set()
            for item in _list(content.get(section)):
                name, value = (item.get("name"), item.get(key)) if isinstance(item, Mapping) else ("", None)
                if not isinstance(value, Mapping) or not isinstance(name, str) or not name:
                    raise KubeconfigError(
                        f"kubeconfig {where}: an entry of {section} lacks name or {key}, or its name is not a string",
                        remedy=REPAIR,
                    )
                # Of several files the first entry counts. kubectl refuses two in one file (client-go clientcmd/api/v1/conversion.go).
                if name in own:
                    raise KubeconfigError(
                        f"kubeconfig {where}: a file has two {section} with the name {quoted(name)}",
                        remedy="Rename or remove one of them",
                    )
                own.add(name)
                entry = KubeconfigEntry(value, directory)
                if _target(section, entries[section].setdefault(name, entry)) != _target(section, entry):
                    differing.add((section, name))
    names = [content.get("current-context") for content, _directory in contents]
    if not all(name is None or isinstance(name, str) for name in names):
        raise KubeconfigError(f"kubeconfig {where}: current-context is not a string", remedy=REPAIR)
    spare(name for section in entries.values() for name in section)
    return Kubeconfig(where, entries, tuple(dict.fromkeys(filter(None, names))), frozenset(differing))


def _target(section: str, entry: KubeconfigEntry) -> object:
    """Return where an entry leads to, which neither a namespace nor the directory of a file without relative paths changes."""
    if section == "contexts":
        return entry.value.get("cluster"), entry.value.get("user")
    plugin = entry.value.get("exec")
    command = plugin.get("command") if isinstance(plugin, Mapping) else None
    folder = os.path.dirname(command) if isinstance(command, str) else ""
    paths = [path for path in (folder, *map(entry.value.get, PATHS)) if isinstance(path, str) and path]
    return entry.value, "" if all(path.startswith(("/", "~")) for path in paths) else entry.directory


def _list(value: Any) -> list[Any]:
    """Return the list. Another value counts as one invalid entry."""
    if value is None:
        return []
    return value if isinstance(value, list) else [None]


def _cluster_fields(cluster: KubeconfigEntry, problem: str) -> dict[str, Any]:
    value = cluster.value
    return {
        "ca_pem": _pem(cluster, "certificate-authority", problem),
        "verify": False if value.get("insecure-skip-tls-verify") else None,
        "tls_server_name": value.get("tls-server-name") or None,
        "proxy": value.get("proxy-url") or None,
    }


def _user_fields(user: KubeconfigEntry, cluster: KubeconfigEntry, problem: str) -> dict[str, Any]:
    value = user.value
    fields: dict[str, Any] = {
        "client_certificate": _pem(user, "client-certificate", problem),
        "client_key": _pem(user, "client-key", problem),
        "impersonate_user": value.get("as") or None,
        "impersonate_groups": tuple(value.get("as-groups") or ()) or None,
    }
    if value.get("auth-provider"):
        fields["token"] = _auth_provider_token(value["auth-provider"], problem)
    elif value.get("tokenFile"):
        fields["token_file"] = _path(user, value["tokenFile"], f"{problem}: tokenFile")
    elif value.get("token"):
        fields["token"] = value["token"]
    elif value.get("exec"):
        command = value["exec"].get("command") or ""
        if os.path.basename(command) != command:  # a name without a folder is searched for in PATH
            _path(user, command, f"{problem}: command")
        fields["exec_plugin"] = ExecPlugin(value["exec"], user.directory, cluster.value)
    elif value.get("username") and value.get("password"):
        fields["basic"] = (value["username"], value["password"])
    elif not (fields["client_certificate"] and fields["client_key"]):
        raise AuthenticationError(f"{problem}: the credentials of its user are incomplete", remedy=REPAIR)
    return fields


def _auth_provider_token(provider: Mapping[str, Any], problem: str) -> str:
    """Return the token of a legacy auth-provider (oidc, gcp) as the kubeconfig has it.

    To renew it, its secrets would go to an address that the kubeconfig names, by a library that follows redirects.
    """
    config = provider.get("config") or {}
    token = config.get("id-token") or config.get("access-token")
    if not token:
        raise AuthenticationError(
            f"{problem}: its auth-provider has no token",
            remedy="Sign in again, or use an exec plugin, which can renew its token",
        )
    return str(token)


def _path(entry: KubeconfigEntry, path: str, origin: str) -> str:
    """Return the absolute path. Without the directory of a file, a path could lead to the login for another cluster."""
    full = os.path.join(entry.directory, expand(path))
    if not os.path.isabs(full):
        raise ConfigurationError(
            f"{origin}: the path {quoted(path)} is relative, but the kubeconfig is a dictionary or was decrypted, and has no directory",
            remedy="Set an absolute path, or the content of the file as -data or token",
        )
    return full


def _pem(entry: KubeconfigEntry, key: str, problem: str) -> str | None:
    """Return the PEM text of the field KEY-data (base64), or of the file that the field KEY names."""
    data, path = entry.value.get(f"{key}-data"), entry.value.get(key)
    if not data:
        return _read(_path(entry, path, f"{problem}: {key}"), f"{problem}: {key}") if path else None
    try:
        return base64.b64decode(data).decode()
    except (TypeError, ValueError):
        raise KubeconfigError(f"{problem}: {key}-data is not base64 of PEM text", remedy=REPAIR) from None


def _host(value: Any, origin: str) -> str:
    host = str(value or "").rstrip("/")
    try:
        parts = urlsplit(host)
        is_url = parts.scheme in ("https", "http") and has_one_address(host)
    except ValueError:
        parts, is_url = urlsplit(""), False
    if parts.username or parts.password:
        raise ConfigurationError(
            f"{origin}: the server's address contains a user name or a password",
            remedy="Remove them from the address, and set api_key, or client_cert and client_key",
        )
    if not is_url or not _PRINTED.fullmatch(host):
        shown = "" if "@" in host else f": {quoted(host)}"  # the part before the @ may hold a password
        raise ConfigurationError(
            f"{origin}: the server's address is not an http(s) URL{shown}", remedy="Check the address"
        )
    return f"{parts.scheme}{host[len(parts.scheme) :]}"


def _read(path: Any, origin: str) -> str:
    file = expand(str(path))
    try:
        return read_file(file, MOST_BYTES).decode()
    except OSError as exc:
        if exc.errno == errno.EFBIG:
            raise too_large(f"{origin}: {file}") from None
        raise ConfigurationError(
            f"{origin}: {file} cannot be read: {exc.strerror}", remedy="Check the path"
        ) from exc
    except ValueError:
        raise ConfigurationError(f"{origin}: {file} is not text", remedy="Check the path") from None
