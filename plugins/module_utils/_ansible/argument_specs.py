# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Argument specs that several operations share, and the message of an action plugin about a value that is not a dictionary.

Sanity tests compare the specs with plugins/doc_fragments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.validation import check_type_dict, check_type_list

# The option names and aliases of kubernetes.core. _kube applies defaults and environment variables, because it has to tell
# the value of a task from that of an environment variable.
AUTH: dict[str, Any] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "proxy_headers": {
        "type": "dict",
        "options": {
            "proxy_basic_auth": {"type": "str", "no_log": True},
            "basic_auth": {"type": "str", "no_log": True},
            "user_agent": {"type": "str"},
        },
    },
    "impersonate_user": {"type": "str"},
    "impersonate_groups": {"type": "list", "elements": "str"},
    "cluster_uid": {"type": "str"},
    # It also ends repeated requests, so every module has it.
    "wait_timeout": {"type": "int", "default": 120},
}

WAIT: dict[str, Any] = {"wait": {"type": "bool", "default": True}}

# The names of kubernetes.core for the selectors of `kubectl get -l` and `--field-selector`.
SELECTORS: dict[str, Any] = {
    "label_selectors": {"type": "list", "elements": "str"},
    "field_selectors": {"type": "list", "elements": "str"},
}


def find_fault(spec: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return a line about the first option with suboptions whose value is not a dictionary, "" if there is no such option.

    Ansible's message names no option, and its validation raises TypeError for a number. The line quotes no value, which may be secret.
    spec: an argument spec. arguments: the values of the task, which may be text that Ansible converts.
    """
    for name, row in spec.items():
        value, is_list = arguments.get(name), row["type"] == "list"
        if value is None or not row.get("options"):
            continue
        try:
            for entry in check_type_list(value) if is_list else [value]:
                check_type_dict(entry)
        except TypeError:
            required = [key for key, option in row["options"].items() if option.get("required")]
            sample = ", ".join(f"{key}: ..." for key in required or row["options"])
            wanted = f"[{{{sample}}}]" if is_list else f"{{{sample}}}"
            kind = "a list of dictionaries" if is_list else "a dictionary"
            return f"the value of the option {name} is not {kind}. Write it as {name}: {wanted}"
    return ""
