# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Name the option whose value is not a dictionary. Ansible's own message for that names no option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.validation import check_type_dict, check_type_list


def find_fault(spec: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return a line about the first option with suboptions whose value is not a dictionary, "" if there is no such option.

    spec: an argument spec. arguments: the values of the task, which may be text that Ansible converts.
    """
    for name, row in spec.items():
        value = arguments.get(name)
        if value is None or not row.get("options"):
            continue
        entries = _entries(value) if row.get("type") == "list" else [value]
        wrong = [entry for entry in entries if not _is_dictionary(entry)]
        if wrong:
            return _words(name, row, wrong[0])
    return ""


def _entries(value: Any) -> list[Any]:
    try:
        return list(check_type_list(value))
    except TypeError:
        return [value]


def _is_dictionary(value: Any) -> bool:
    try:
        check_type_dict(value)
    except TypeError:
        return False
    return True


def _words(name: str, row: Mapping[str, Any], value: Any) -> str:
    """Return the line. It shows the value only if no suboption is secret."""
    options = row["options"]
    is_list = row.get("type") == "list"
    is_secret = any(option.get("no_log") for option in options.values())
    shown = "a value" if is_secret else f"the value {value!r}"
    required = [key for key, option in options.items() if option.get("required")]
    keys = required or list(options)
    is_example = len(keys) == 1 and isinstance(value, str) and not is_secret
    sample = ", ".join(f"{key}: {value if is_example else '...'}" for key in keys)
    wanted = f"[{{{sample}}}]" if is_list else f"{{{sample}}}"
    kind = "a list of dictionaries" if is_list else "a dictionary"
    return f"the option {name} has {shown}, which is not {kind}. Write it as {name}: {wanted}"
