# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keeps secrets that stand inside options, such as a kubeconfig's, out of everything that Ansible prints or logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .._kube import kubeconfig_yaml
from .._kube.errors import KubeconfigError
from .._kube.sources import is_content
from .._x509.pem_text import has_private_key

try:
    from ansible.module_utils.secrets import register_secrets
except ImportError:  # before ansible-core 2.22
    register_secrets = None

# Whether Ansible masks registered secrets wherever it prints, instead of each result being cleaned.
MASKED_BY_ANSIBLE = register_secrets is not None
# The leaves of a kubeconfig that are secret. Marking the whole option would make a secret of "v1" too.
SECRET_LEAVES = frozenset(
    ("token", "password", "client-key-data", "id-token", "refresh-token", "access-token", "client-secret")
)
# Options with a URL, which may have a password.
URLS = ("proxy", "host", "source")
SHORTEST_SECRET = 8
PLACEHOLDER = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def protect(parameters: Mapping[str, Any], known: set[str]) -> None:
    """Give the secret texts inside ``kubeconfig`` and inside URLs to Ansible's own filter: by ``known``, or by its registry.

    Short ones would blot out common words.
    """
    found = (
        *_leaves(_content(parameters.get("kubeconfig"))),
        *(_password(parameters.get(name)) for name in URLS),
    )
    secrets = {text for text in found if len(text) >= SHORTEST_SECRET}
    if register_secrets:
        register_secrets(secrets)
    else:
        known |= secrets


def secrets_in(parameters: Mapping[str, Any], hidden: frozenset[str]) -> list[str]:
    """Options that hold a secret: the ``hidden`` ones, a kubeconfig's content, a pasted key, a password in a URL."""
    return [
        name for name, value in parameters.items() if value and (name in hidden or _is_secret(name, value))
    ]


def invocation(parameters: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """What the result may show of the arguments: of options that hold a secret their names alone."""
    secret = secrets_in(parameters, hidden)
    return {
        "module_args": {key: PLACEHOLDER if key in secret else value for key, value in parameters.items()}
    }


def _content(kubeconfig: Any) -> Any:
    """The kubeconfig as a dictionary, also where its text was given in place of a path."""
    if not isinstance(kubeconfig, str) or not is_content(kubeconfig):
        return kubeconfig
    try:
        return kubeconfig_yaml.load(kubeconfig, "kubeconfig")
    except KubeconfigError:
        return None


def _password(url: Any) -> str:
    try:
        return urlsplit(str(url or "")).password or ""
    except ValueError:
        return ""


def _is_secret(option: str, value: Any) -> bool:
    if option == "kubeconfig":
        return is_content(value)
    if option == "proxy_headers" or (option in URLS and _password(value)):
        return True
    return has_private_key(str(value))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in SECRET_LEAVES and isinstance(item, str):
                yield item
            else:
                yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
