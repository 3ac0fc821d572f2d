# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read variables of a host: their rendered values, the problems of a role's variables, and the names that the inventory sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from jinja2.exceptions import UndefinedError

from . import role_variables
from .role_variables import UNDEFINED, RoleSpec

display = Display()
#: The errors of a template that refers to a variable that is not defined.
UNDEFINED_ERRORS = (AnsibleUndefinedVariable, UndefinedError)


def rendered(templar: Any, value: Any) -> Any:
    """Return a variable's value, UNDEFINED if it refers to one that is not defined, or "" if it cannot be rendered."""
    try:
        return templar.template(value)
    except UNDEFINED_ERRORS:
        return UNDEFINED
    except AnsibleError:
        return ""


def of_role(templar: Any, spec: RoleSpec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the variables of a role that are set, and of those that name the cluster, as rendered() does."""
    return {name: rendered(templar, value) for name, value in _raw(spec, variables).items()}


def options_of_role(templar: Any, spec: RoleSpec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same, without values that are omitted. Raises an error for a value that cannot be rendered.

    A value that is left out because of an error could send a request to the cluster of the environment.
    """
    values = templar.template(_raw(spec, variables))
    placeholder = variables.get("omit")
    # Since ansible-core 2.19 the templar removes what is omitted.
    return dict(_without(values, placeholder) if isinstance(placeholder, str) else values)


def _raw(spec: RoleSpec, variables: Mapping[str, Any]) -> dict[str, Any]:
    names = (*role_variables.CLUSTER_VARIABLES, *spec.options)
    return {name: variables[name] for name in names if name in variables}


def _without(value: Any, placeholder: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, placeholder) for key, item in value.items() if item != placeholder}
    if isinstance(value, list):
        return [_without(item, placeholder) for item in value if item != placeholder]
    return value


def role_problem(loader: Any, spec: RoleSpec, values: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Return the problems of a role's variables in one line, "" if they are valid.

    Print a warning for a misspelt variable of the inventory, which may be a variable of another role.
    values: from of_role().
    """
    lines = [problem.line() for problem in role_variables.problems(spec, values)]
    misspelt = role_variables.misspelt(spec, variables)
    if misspelt:
        inventory = inventory_names(loader, variables)
        for name, close in misspelt.items():
            line = role_variables.misspelt_problem(spec, name, close).line()
            if name in inventory:
                display.warning(line)
            else:
                lines.append(line)
    return " ".join([*lines, spec.page]) if lines else ""


def inventory_names(loader: Any, variables: Mapping[str, Any]) -> set[str]:
    """Return the names that the inventory or a fact sets for the current host, without extra variables."""
    hostvars = variables["hostvars"]
    return set(hostvars.raw_get(variables["inventory_hostname"])) - extra_names(loader)


def extra_names(loader: Any) -> set[str]:
    """Return the names of the extra variables of the command line."""
    return set(load_extra_vars(loader))
