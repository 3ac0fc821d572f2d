# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Make the options of a module from the variables of a role, and name the variables in the module's messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from ansible.module_utils.common.validation import check_type_dict

from .._fleet import fleet_operations
from .._variables.specs import AUDIT, CLUSTER_CA, PLAYBOOK_VARIABLES, REPAIR, of_role

#: The playbooks whose own variables set the options of a module.
PLAYBOOKS = frozenset((AUDIT, CLUSTER_CA, REPAIR))
#: The keys of messages in a result.
MESSAGES = frozenset(("msg", "cause", "reason", "remedy", "refusal", "lines", "warnings"))
# Option of a module -> variable of the role without the role's name, where they differ.
RENAMED = {"snapshot_controller": {"namespace": "install_namespace", "controller_arguments": "arguments"}}


def options(role: str, values: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
    """Return the options of a module that the variables of a role set.

    Args:
        values: the variables of the role with their rendered values.
        accepted: the options of the module.
    """
    connection = check_type_dict(values.get(f"{role}_connection") or {})
    own = {option: values[name] for option, name in _variables(role).items() if name in values}
    return set_options({**own, **connection}, accepted)


def set_options(values: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
    """Return the options that the module accepts and that have a value.

    An empty variable sets no option, so that module_defaults and the environment apply. One that has only spaces does: it would
    else remove a name of the cluster, and the environment would choose another cluster.
    """
    return {
        option: value
        for option, value in values.items()
        if option in accepted and value not in (None, "", [], {})
    }


def name_in_result(owner: str, key: str, value: Any) -> Any:
    """Return a part of a result with the variables of a role or of a playbook in its messages. key: the key of the value."""
    if isinstance(value, Mapping):
        return {name: name_in_result(owner, name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [name_in_result(owner, key, item) for item in value]
    return name_variables(owner, value) if key in MESSAGES and isinstance(value, str) else value


def name_variables(owner: str, text: str) -> str:
    """Return a message of a module with the variables of a role or of a playbook instead of the options of the module.

    An option with an underscore is replaced wherever it stands alone. Another option is replaced only where a sentence
    sets or removes it, because names such as "namespace" are also words.
    """
    return _option_pattern(owner).sub(
        lambda match: _variables(owner)[match["long"] or match["short"] or match["key"]], text
    )


@cache
def _variables(role: str) -> Mapping[str, str]:
    """Return the variable of each option: "ROLE_OPTION", or "ROLE_connection.OPTION", or that of a playbook without a role."""
    if role in PLAYBOOKS:
        return fleet_operations.variables_of_options(role)
    spec, prefix = of_role(role), f"{role}_"
    connection = spec.options[f"{prefix}connection"]["options"]
    renamed = RENAMED.get(role, {})
    no_options = {"connection", *renamed.values()}
    names = {name.removeprefix(prefix): name for name in spec.options if name.startswith(prefix)}
    own = {option: name for option, name in names.items() if option not in no_options}
    return {
        **{name: f"{prefix}connection.{name}" for name in connection},
        **own,
        **{option: f"{prefix}{variable}" for option, variable in renamed.items()},
    }


# A pattern that matches nothing.
NOTHING = "(?!)"


@cache
def _option_pattern(role: str) -> re.Pattern[str]:
    variables = _variables(role)
    rows = PLAYBOOK_VARIABLES if role in PLAYBOOKS else of_role(role).options
    names = sorted(variables, key=len, reverse=True)
    long = "|".join(name for name in names if "_" in name)
    short = "|".join(name for name in names if "_" not in name)
    before = "|".join(f"(?<={word} )" for word in BEFORE_OPTION)
    keys = {name: rows.get(variables[name], {}).get("options", ()) for name in names}
    dotted = "|".join(rf"{name}(?=\.(?:{'|'.join(inner)})\b)" for name, inner in keys.items() if inner)
    end = r"(?=[,.);]|: [\w\[{]| \(| (?:to|too|and|or|for|has|instead)\b|$)"
    article = "the (?:task's )?option "
    return re.compile(
        rf"(?<![\w./:'-])(?:{article})?(?P<long>{long})(?![\w-])"
        rf"|(?:{article}|{before})(?P<short>{short}){end}"
        rf"|(?<![\w./:'-])(?P<key>{dotted or NOTHING})"
    )


# The words before an option in remedies.
BEFORE_OPTION = ("Set", "set", "Remove", "remove", "Check", "check", "Use", "use", "and", "or", "with", ",")
