# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read kubeconfigs on the controller, also those that ansible-vault encrypted, select their contexts, and detect their providers.

This file uses only the text of the kubeconfigs. It contacts no cluster and ignores credentials.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleError

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import nearest, quoted, safe_name
from ...module_utils._csr.issuing.providers import detect_by_kubeconfig
from ...module_utils._kube.errors import KubeconfigError
from ...module_utils._kube.login import connection, kubeconfig, kubeconfig_parsing

#: The variables with kubeconfigs, in the order of the tasks. Ansible would take the last variable of an option, and one with an empty text.
ENVIRONMENT = (*connection.ENVIRONMENT["kubeconfig"], "KUBECONFIG")
VAULT_HEADER = b"$ANSIBLE_VAULT"
#: The variable of all hosts with the error of a source of the inventory.
UNREAD = "__certflow_unread_source"


@dataclass(frozen=True)
class Context:
    """A context of a kubeconfig."""

    name: str
    file: str
    #: Address of the API server, "" if it may hold a password.
    server: str
    #: The name of a row of _csr/issuing/providers.py, or "unknown".
    provider: str


def parse(file: str, content: Any) -> kubeconfig.Kubeconfig:
    """Return the kubeconfig of a file. What its contexts lead to is not read yet.

    file: path of the kubeconfig. content: its parsed YAML. Raises CertflowError.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("contexts"), list):
        raise KubeconfigError(
            f"{file} is not a kubeconfig: it has no list of contexts", remedy="Check the path"
        )
    return kubeconfig.parse([(content, "")], file)


def contexts(parsed: Mapping[str, kubeconfig.Kubeconfig], names: Collection[str]) -> list[Context]:
    """Return the contexts with these names. Raises CertflowError for one that leads to no cluster.

    parsed: file -> its kubeconfig.
    """
    return [
        _context(file, name, config)
        for file, config in parsed.items()
        for name in config.entries["contexts"]
        if name in names
    ]


def check_merged(contents: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise CertflowError if one of these contexts leads to a cluster of another file, because tasks merge the files.

    contents: file -> its parsed YAML.
    """
    parts = [(content, os.path.dirname(file)) for file, content in contents.items()]
    merged = kubeconfig.parse(parts, os.pathsep.join(contents))
    for name in names:
        merged.check_unambiguous(name)


def _context(file: str, name: str, config: kubeconfig.Kubeconfig) -> Context:
    where = f"{file}, context {quoted(name)}"
    entry = config.entry("contexts", name).value
    kubeconfig_parsing.check_fields("context", entry, where)
    cluster_name = entry.get("cluster") or ""
    cluster = config.entry("clusters", cluster_name).value
    kubeconfig_parsing.check_fields("cluster", cluster, where)
    user = config.entries["users"].get(entry.get("user") or "")
    login = user.value if user else {}
    kubeconfig_parsing.check_fields("user", login, where)
    server: str = cluster.get("server") or ""
    marks = {
        "host": (_host(server), cluster.get("tls-server-name") or ""),
        "cluster": (cluster_name,),
        "command": (_command(login),),
    }
    return Context(name, file, "" if "@" in server else server, detect_by_kubeconfig(marks))


def _host(server: str) -> str:
    try:
        return urlsplit(server).hostname or ""
    except ValueError:
        return ""


def _command(user: Mapping[str, Any]) -> str:
    plugin = user.get("exec") or {}
    return " ".join([os.path.basename(plugin.get("command") or ""), *(plugin.get("args") or [])])


def hosts(found: Iterable[Context], prefix: str) -> dict[str, Context]:
    """Return the contexts by the names of their hosts. Raises CertflowError for two hosts of one name."""
    by_host: dict[str, Context] = {}
    for context in found:
        host = safe_name(f"{prefix}{context.name}")
        first = by_host.setdefault(host, context)
        if first is not context:
            raise CertflowError(
                f"the contexts {quoted(first.name)} of {first.file} and {quoted(context.name)} of {context.file} both become the "
                f"host {quoted(host)}",
                code="invalid-connection",
                remedy="Rename one: kubectl --kubeconfig FILE config rename-context OLD NEW",
            )
    return by_host


def check_groups(hosts: Mapping[str, Context], groups: Collection[str]) -> None:
    """Raise CertflowError for a host with the name of a group. A play for the group would run only on that host."""
    both = sorted(hosts.keys() & set(groups))
    if both:
        more = f" and {len(both) - 1} more" if len(both) > 1 else ""
        raise CertflowError(
            f"the context {quoted(hosts[both[0]].name)}{more} would become a host with the name of a group",
            code="invalid-connection",
            remedy="Set the option prefix, or rename the context: kubectl config rename-context OLD NEW",
        )


def wanted(names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Return the names of contexts that a pattern of ``include`` matches and no pattern of ``exclude``.

    Without ``include`` every name matches. Raises CertflowError if a pattern matches nothing or no context is left.
    """
    for option, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not _matching(names, [pattern]):
                raise CertflowError(
                    f"no context matches {pattern!r} of {option}",
                    code="invalid-connection",
                    remedy=f"Use one of these names: {nearest(pattern, names)}"
                    if names
                    else "Check the paths",
                )
    chosen = _matching(names, include or ["*"]) - _matching(names, exclude)
    if not chosen:
        raise CertflowError(
            "no context is left" if names else "the kubeconfigs have no context",
            code="invalid-connection",
            remedy="Check include and exclude" if names else "Check the paths",
        )
    return chosen


def _matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    patterns = list(patterns)
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


# Files.


def is_encrypted(path: str) -> bool:
    """Return True if the file is encrypted with ansible-vault. It does not wait for a pipe. Raises OSError."""
    return paths.read(path, kubeconfig_parsing.MOST_BYTES).startswith(VAULT_HEADER)


def load(loader: Any, path: str) -> Any:
    """Return the content of the file's YAML, decrypted in memory by Ansible's DataLoader.

    This function parses the YAML itself. If DataLoader parsed it, ansible-core 2.22 would mask each text of an encrypted
    file in its output, also names of contexts and words such as "v1".

    Raises CertflowError, which does not quote the file.
    """
    where = f"kubeconfig {path}"
    try:
        encrypted = is_encrypted(path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise kubeconfig_parsing.too_large(where) from None
        raise CertflowError(
            f"{where} cannot be read: {error.strerror}",
            code="invalid-connection",
            remedy="Check the path and its mode",
        ) from error
    try:
        text = bytes(loader._get_file_contents(path)[0])  # noqa: SLF001  # the same in every core
    except AnsibleError:
        raise CertflowError(
            f"{where} cannot be {'decrypted' if encrypted else 'read'}",
            code="invalid-connection",
            remedy="Give the password (--vault-password-file, --ask-vault-pass)"
            if encrypted
            else "Check the file",
        ) from None
    try:
        return kubeconfig_parsing.load_yaml(text.decode(), where)
    except UnicodeDecodeError:  # the original message quotes the file
        raise KubeconfigError(f"{where} is not text", remedy="Repair the file") from None
