# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Keep secrets, private keys and hidden characters out of everything that Ansible prints or logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._base.text import mask, visible
from .._kube.errors import KubeconfigError
from .._kube.login import kubeconfig_parsing
from .._kube.login.connection import is_content
from .._x509.encoding.pem_text import has_private_key

try:
    from ansible.module_utils.secrets import register_secrets
except ImportError:  # before ansible-core 2.22
    from ansible.module_utils.common.parameters import remove_values  # removed in ansible-core 2.25

    register_secrets = None
    _remove: Any = remove_values
else:
    _remove = None

# The secret fields of a kubeconfig. Marking the whole option would also mask "v1".
SECRET_LEAVES = frozenset(
    ("token", "password", "client-key-data", "id-token", "refresh-token", "access-token", "client-secret")
)
# Options with a URL, which may have a password.
URLS = ("proxy", "host", "source")
# Options with credentials, and their keys that hold none. A misspelt key may hold one.
CREDENTIALS = {"source_auth": ("ca_path", "client_cert", "client_key", "url_username")}
SHORTEST_SECRET = 8
PLACEHOLDER = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
# The keys of a result, at any depth, whose texts are sentences. They are printed, and quote clusters and other programs.
# Other values, such as names and PEM, are the collection's own data and do not change.
SENTENCE_KEYS = frozenset(
    (
        "answer",
        "auth_source",
        "ca_problem",
        "ca_source",
        "cause",
        "contradictions",
        "evidence",
        "message",
        "msg",
        "note",
        "notes",
        "problem",
        "reason",
        "remedy",
        "reports",
        "summary",
        "title",
        "unreadable",
        "warnings",
    )
)
# Keys of a result that hold objects and arguments, which are written back or compared. They have no sentences.
DATA_KEYS = frozenset(("diff", "invocation", "originals", "parameters"))


def clean(value: Any, *, is_sentence: bool = False) -> Any:
    """Return the value with each sentence on one line, without hidden characters and without keys that another program quotes.

    is_sentence: True if all texts in the value are sentences.
    """
    if isinstance(value, str):
        return visible(mask(value)) if is_sentence else value
    if isinstance(value, Mapping):
        return {
            key: item if key in DATA_KEYS else clean(item, is_sentence=is_sentence or key in SENTENCE_KEYS)
            for key, item in value.items()
        }
    is_list = isinstance(value, (list, tuple))
    return [clean(item, is_sentence=is_sentence) for item in value] if is_list else value


def protect(parameters: Mapping[str, Any], known: set[str]) -> None:
    """Hand the secrets inside ``kubeconfig`` and inside URLs to Ansible, which masks them: in ``known``, or in its registry.

    Short texts stay, because masking them would mask common words.
    """
    present = (
        *_leaves(_content(parameters.get("kubeconfig"))),
        *(_password(parameters.get(name)) for name in URLS),
    )
    secrets = {text for text in present if len(text) >= SHORTEST_SECRET}
    if register_secrets:
        register_secrets(secrets)
    else:
        known |= secrets


def mask_known(result: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the result without the ``known`` secrets. Since ansible-core 2.22 Ansible masks them wherever it prints."""
    return dict(_remove(result, known)) if _remove and known else result


def secrets_in(parameters: Mapping[str, Any], hidden: frozenset[str]) -> list[str]:
    """Return the options that hold a secret: hidden options, a kubeconfig's content, a pasted key, a Secret, a URL with a
    password.
    """
    return [
        name for name, value in parameters.items() if value and (name in hidden or _is_secret(name, value))
    ]


def invocation(parameters: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """Return the arguments as the result shows them. An option that holds a secret has a placeholder for its value."""
    secret = secrets_in(parameters, hidden)
    return {
        "module_args": {key: PLACEHOLDER if key in secret else value for key, value in parameters.items()}
    }


def _content(kubeconfig: Any) -> Any:
    """Return the kubeconfig as a dictionary, also if the option holds its text instead of a path."""
    if not isinstance(kubeconfig, str) or not is_content(kubeconfig):
        return kubeconfig
    try:
        return kubeconfig_parsing.load_yaml(kubeconfig, "kubeconfig")
    except KubeconfigError:
        return None


def _password(url: Any) -> str:
    """Return the password before the last @. A proxy may have no scheme, and a wrong password may have the signs of a URL."""
    return str(url or "").rpartition("@")[0].split("://", 1)[-1].partition(":")[2]


def _is_secret(option: str, value: Any) -> bool:
    if option == "kubeconfig":
        return is_content(value)
    if option == "proxy_headers" or (option in URLS and _password(value)):
        return True
    if option in CREDENTIALS and (
        not isinstance(value, Mapping) or any(value[key] for key in value if key not in CREDENTIALS[option])
    ):
        return True
    is_secret_object = option == "object" and isinstance(value, Mapping) and value.get("kind") == "Secret"
    return is_secret_object or has_private_key(str(value))


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
