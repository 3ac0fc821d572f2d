# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The fields of a kubeconfig's entries and their types, as kubectl requires them.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. A value of another type is
refused and never converted. Python treats the string "false" as true, other programs read a number in a token or a name
differently, and the text of a list can be gigabytes long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import KubeconfigError

REPAIR = "repair the kubeconfig"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_texts_by_name(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())


def _is_variables(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in ("name", "value"))
        for item in value
    )


TEXT = "a string"
BOOLEAN = "true or false"
MAPPING = "a mapping"
TEXTS = "a list of strings"
TEXTS_BY_NAME = "a mapping of strings"
VARIABLES = "a list of environment variables with name and value"
IS_OF_TYPE: Mapping[str, Callable[[object], bool]] = {
    TEXT: _is_text,
    BOOLEAN: _is_boolean,
    MAPPING: _is_mapping,
    TEXTS: _is_texts,
    TEXTS_BY_NAME: _is_texts_by_name,
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


def check(entry: str, value: Mapping[str, Any], where: str) -> None:
    """Raise KubeconfigError for a field of another type. An absent field and null are the same.

    entry: a key of FIELDS.
    where: the kubeconfig and its context, for the error. The error does not quote the value.
    """
    for name in UNSUPPORTED.get(entry, ()):
        if value.get(name):
            raise KubeconfigError(
                f"{where}: {name} of its {entry} is not supported",
                remedy="remove it, or use a user that needs no such impersonation",
            )
    for name, wanted in FIELDS[entry].items():
        given = value.get(name)
        if given is None:
            continue
        if not IS_OF_TYPE[wanted](given):
            hint = ": write true or false without quotes" if wanted == BOOLEAN and _is_text(given) else ""
            hint = ": put the value in quotes" if wanted == TEXT and isinstance(given, (int, float)) else hint
            raise KubeconfigError(
                f"{where}: {name} of its {entry} is not {wanted}",
                evidence=(f"type: {type(given).__name__}",),
                remedy=f"{REPAIR}{hint}",
            )
        if wanted == MAPPING:
            check(name, given, where)
