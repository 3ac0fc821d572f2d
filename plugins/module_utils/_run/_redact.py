# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keeps the secrets of a kubeconfig that was given as a dictionary out of everything that Ansible prints or logs."""

from __future__ import annotations

from typing import Any, Iterator, Mapping

# The leaves of a kubeconfig that are secret. Marking the whole option would make a secret of "v1" too.
SECRET_LEAVES = frozenset(
    ("token", "password", "client-key-data", "id-token", "refresh-token", "access-token", "client-secret", "value")
)
PLACEHOLDER = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def secrets(parameters: Mapping[str, Any]) -> set[str]:
    """The secret texts inside ``kubeconfig``, for Ansible's own filter. Short ones would blot out common words."""
    return {text for text in _leaves(parameters.get("kubeconfig")) if len(text) >= 8}


def invocation(parameters: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """What the result may show of the arguments: no ``hidden`` option's value, no kubeconfig's content."""
    shown = {key: PLACEHOLDER if key in hidden and value is not None else value for key, value in parameters.items()}
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
