# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the YAML of a kubeconfig within limits, and check the types of its fields as kubectl does.

A few hundred bytes of nested aliases expand to gigabytes of text, and PyYAML expands merge keys (<<) while it constructs
objects. This file counts both on the graph of nodes, where a repeated node is still one node.

Source of the fields: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. A value of another type is
refused and never converted. Python treats the string "false" as true, other programs read a number in a token or a name
differently, and the text of a list can be gigabytes long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import KubeconfigError

with contextlib.suppress(ImportError):  # reported by _ansible, with the interpreter's path
    import yaml

    # libyaml, if it is installed, takes a tenth of the time. It refuses deep nesting itself.
    _LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# A kubeconfig has about 5 KB for each cluster.
MOST_BYTES = 16 * 2**20
# A document without aliases has fewer nodes and characters than this.
MOST_EXPANDED = 4 * MOST_BYTES
REPAIR = "repair the kubeconfig"


def _is_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and _is_texts(value)


def _is_mapping_of_texts(value: object) -> bool:
    return isinstance(value, Mapping) and _is_texts(value.values())


def _is_variables(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and _is_texts([item.get("name"), item.get("value")]) for item in value
    )


TEXT = "a string, such as a number in quotes"
BOOLEAN = "true or false without quotes"
MAPPING = "a mapping"
TEXTS = "a list of strings"
TEXTS_BY_NAME = "a mapping of strings"
VARIABLES = "a list of environment variables with name and value"
IS_OF_TYPE: Mapping[str, Callable[[object], bool]] = {
    TEXT: _is_text,
    BOOLEAN: _is_boolean,
    MAPPING: _is_mapping,
    TEXTS: _is_list_of_texts,
    TEXTS_BY_NAME: _is_mapping_of_texts,
    VARIABLES: _is_variables,
}
# Entry -> field -> type. Fields that the collection does not read, such as extensions, have no row.
FIELDS: Mapping[str, Mapping[str, str]] = {
    "context": {"cluster": TEXT, "user": TEXT},
    "cluster": {
        "server": TEXT,
        "tls-server-name": TEXT,
        "insecure-skip-tls-verify": BOOLEAN,
        "certificate-authority": TEXT,
        "certificate-authority-data": TEXT,
        "proxy-url": TEXT,
        "disable-compression": BOOLEAN,
    },
    "user": {
        "client-certificate": TEXT,
        "client-certificate-data": TEXT,
        "client-key": TEXT,
        "client-key-data": TEXT,
        "token": TEXT,
        "tokenFile": TEXT,
        "username": TEXT,
        "password": TEXT,
        "as": TEXT,
        "as-groups": TEXTS,
        "auth-provider": MAPPING,
        "exec": MAPPING,
    },
    "auth-provider": {"name": TEXT, "config": TEXTS_BY_NAME},
    "exec": {
        "apiVersion": TEXT,
        "command": TEXT,
        "args": TEXTS,
        "env": VARIABLES,
        "installHint": TEXT,
        "interactiveMode": TEXT,
        "provideClusterInfo": BOOLEAN,
    },
}
# Fields of a user that change the identity and are not supported here. A request without them would be another user's.
UNSUPPORTED: Mapping[str, tuple[str, ...]] = {"user": ("as-uid", "as-user-extra")}


def check_fields(entry: str, value: Mapping[str, Any], where: str) -> None:
    """Raise KubeconfigError for a field of another type. An absent field and null are the same.

    entry: a key of FIELDS.
    where: the kubeconfig and its context, for the error. The error does not quote the value.
    """
    for name in UNSUPPORTED.get(entry, ()):
        if value.get(name):
            raise KubeconfigError(
                f"{where}: {name} of its {entry} is not supported",
                remedy="Remove it, or use a user that needs no such impersonation",
            )
    for name, wanted in FIELDS[entry].items():
        content = value.get(name)
        if content is None:
            continue
        if not IS_OF_TYPE[wanted](content):
            raise KubeconfigError(
                f"{where}: {name} of its {entry} is not {wanted}",
                evidence=(f"type: {type(content).__name__}",),
                remedy=REPAIR,
            )
        if wanted == MAPPING:
            check_fields(name, content, where)


def load_yaml(text: str, where: str) -> Any:
    """Return the content of the only YAML document of ``text``, None if it is empty.

    where: the source, for the error. Raises KubeconfigError, which does not quote the text.
    """
    if len(text) > MOST_BYTES:
        raise too_large(where)
    loader = None
    try:
        loader = _LOADER(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) <= MOST_EXPANDED:
            return loader.construct_document(node)
    except Exception as exc:  # explicit tags and deep nesting fail in many ways
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise KubeconfigError(f"{where} is not valid YAML{line}", remedy="Repair the file") from None
    finally:
        if loader is not None:
            loader.dispose()
    raise KubeconfigError(
        f"{where} has aliases that expand to too much text", remedy="Write it without aliases"
    )


def too_large(where: str) -> KubeconfigError:
    """Return the error for a file above the limit."""
    return KubeconfigError(
        f"{where} has more than {MOST_BYTES // 2**20} MiB", remedy="Use a file with fewer entries"
    )


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Return the number of nodes and characters below ``node``. Each alias counts as the nodes that it repeats."""
    identity = id(node)
    if identity in known:
        return known[identity]
    known[identity] = MOST_EXPANDED + 1  # too large for an alias of its own ancestor
    if isinstance(node, yaml.ScalarNode):
        known[identity] = 1 + len(node.value)
    else:
        known[identity] = 1 + sum(_expanded(child, known) for child in _children(node))
    return known[identity]


def _children(node: Any) -> list[Any]:
    """Return the nodes of a list, or the keys and values of a mapping."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)
