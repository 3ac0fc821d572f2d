# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read variables as a task of a host would see them, and the names that the inventory sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleUndefinedVariable
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from jinja2.exceptions import UndefinedError

from . import check_variables
from .specs import PLAYBOOKS, REPORT, Spec
from .values import UNDEFINED, UNREADABLE, is_unset, items_of_text, shown

display = Display()
#: The beginning of the variables that are options of webhook_repair.
REPAIR_PREFIX = "certflow_repair_"
#: The errors of a template that refers to a variable that is not defined.
UNDEFINED_ERRORS = (AnsibleUndefinedVariable, UndefinedError)


def rendered(templar: Any, value: Any) -> Any:
    """Return a variable's value, UNDEFINED if it refers to one that is not defined, or UNREADABLE if its template fails."""
    try:
        return templar.template(value)
    except UNDEFINED_ERRORS:
        return UNDEFINED
    except Exception:  # also an error of Python in a filter
        return UNREADABLE


def of_spec(templar: Any, spec: Spec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the variables of a role or playbook that are set, as rendered() does."""
    values = {name: rendered(templar, variables[name]) for name in spec.options if name in variables}
    return _with_lists(spec, values)


def of_hosts(
    templar: Any, spec: Spec, hosts: Iterable[str], variables: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the same for each host. variables: of a task of any host."""
    names = [*hosts]
    # Without a host, as in a keyword of a play, there are no hostvars.
    shared = of_play(variables) if names else {}

    def of_host(host: str) -> dict[str, Any]:
        available = {**shared, **variables["hostvars"].raw_get(host)}
        return of_spec(templar.copy_with_new_env(available_variables=available), spec, available)

    return {host: of_host(host) for host in names}


def of_play(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the play, which hold for every host. The hostvars of the current host lack them."""
    current = variables["hostvars"].raw_get(variables["inventory_hostname"])
    return {key: value for key, value in variables.items() if key not in current}


def options_of_role(templar: Any, spec: Spec, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the variables of a role that are set, without values that are omitted.

    Raises an error for a value that cannot be rendered, because a value that is left out could send a request to the cluster of the
    environment.
    """
    values = templar.template({name: variables[name] for name in spec.options if name in variables})
    placeholder = variables.get("omit")
    # Since ansible-core 2.19 the templar removes what is omitted.
    return _with_lists(spec, _without(values, placeholder) if isinstance(placeholder, str) else values)


def _with_lists(spec: Spec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the lists of modules as lists, which are texts as answers of a survey."""
    prefix = f"{spec.name}_" if spec.is_of_role else REPAIR_PREFIX
    return {
        name: items_of_text(value)
        if name.startswith(prefix) and spec.options[name].get("type") == "list"
        else value
        for name, value in values.items()
    }


def _without(value: Any, placeholder: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, placeholder) for key, item in value.items() if item != placeholder}
    is_list = isinstance(value, list)
    return [_without(item, placeholder) for item in value if item != placeholder] if is_list else value


def role_problem(loader: Any, spec: Spec, values: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Return the problems of a role's variables in one line, "" if they are valid.

    Print a warning for a name of the inventory that begins as the variables of the playbooks, and that no playbook has.
    values: from of_spec(). variables: with their templates, so that a default is one whatever it refers to.
    """
    is_set = [
        name
        for name, value in values.items()
        if not is_unset(value) and variables[name] != spec.options[name].get("default")
    ]
    lines, names = check_variables.find_problems(spec, {"": values}, names=variables), names_of(variables)
    misspelt, unknown = check_variables.misspelt(spec, names, is_set), check_variables.unknown(spec, names)
    extra = extra_names(loader) if unknown else ()
    lines += {**{name: line for name, line in unknown.items() if name in extra}, **misspelt}.values()
    for name in unknown.keys() - misspelt.keys() - {*extra}:
        display.warning(unknown[name])
    lines += _other_clusters(loader, spec, values, variables)
    return " ".join([*lines, spec.page]) if lines else ""


def _other_clusters(
    loader: Any, spec: Spec, values: Mapping[str, Any], variables: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the problem of each variable of the command line that names another cluster than the play does."""
    for word in ("kubeconfig", "context"):
        asked, own = variables.get(f"{PLAYBOOKS}_{word}"), values.get(f"{spec.name}_{word}")
        is_other = asked and own and asked != own and "{{" not in str(asked)
        if is_other and f"{PLAYBOOKS}_{word}" in extra_names(loader):
            yield (
                f"{PLAYBOOKS}_{word} of the command line is {shown(asked)}, and {spec.name}_{word} of the play is {shown(own)}. "
                f"Set {spec.name}_{word} on the command line, or remove one of them."
            )


def names_of(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of variables, without the reports of earlier jobs, which are dictionaries."""
    return [
        name
        for name, value in variables.items()
        if not (name.startswith(REPORT) and isinstance(value, Mapping))
    ]


def extra_names(loader: Any) -> set[str]:
    """Return the names of the extra variables of the command line."""
    return set(load_extra_vars(loader))
