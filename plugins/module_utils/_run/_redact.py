# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keeps the secrets of a kubeconfig that was given as a dictionary out of everything that Ansible prints or logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._x509._pem import has_private_key

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
PLACEHOLDER = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def protect(parameters: Mapping[str, Any], known: set[str]) -> None:
    """Give the secret texts inside ``kubeconfig`` to Ansible's own filter: by ``known``, or by its registry.

    Short ones would blot out common words.
    """
    secrets = {text for text in _leaves(parameters.get("kubeconfig")) if len(text) >= 8}
    if register_secrets:
        register_secrets(secrets)
    else:
        known |= secrets


def invocation(parameters: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """What the result may show of the arguments: no ``hidden`` option's value, no kubeconfig's content, no pasted key."""
    shown = {
        key: PLACEHOLDER if value is not None and (key in hidden or has_private_key(str(value))) else value
        for key, value in parameters.items()
    }
    if isinstance(shown.get("kubeconfig"), Mapping):
        shown["kubeconfig"] = PLACEHOLDER
    if isinstance(shown.get("proxy_headers"), Mapping):
        shown["proxy_headers"] = PLACEHOLDER
    return {"module_args": shown}


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
