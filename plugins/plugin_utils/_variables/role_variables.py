# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the variables of a role: missing, misspelt and invalid ones. Pure, except for ``specification``.

The roles' argument specs have the entry point ``variables``, so Ansible does not validate them by itself. Ansible would print
the whole argument spec on one line, and it would refuse the empty text, with which AWX answers an optional question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.validation import check_type_bool, check_type_dict, check_type_int
from ansible_collections.certflow.kubernetes.plugins.module_utils._text import quoted, visible

from .playbook_variables import VARIABLES

COLLECTION = Path(__file__).parents[3]
ENTRY_POINT = "variables"
# The value of a variable that refers to a variable that is not defined.
UNDEFINED = object()
# The variables of the playbooks, the inventory plugin and the modules.
PLAYBOOK_VARIABLES = frozenset(VARIABLES)
# Facts of the playbooks and of the inventory plugin, which users read.
FACTS = frozenset(
    (
        "certflow_audit",
        "certflow_outcome",
        "certflow_provider",
        "certflow_release",
        "certflow_server",
    )
)
# A later job gets the report of an earlier one as an extra variable of this form.
REPORT = "certflow_report_"
# The variables of the inventory that name the cluster. A role's defaults hide that one of them refers to an undefined variable.
CLUSTER_VARIABLES = ("certflow_kubeconfig", "certflow_context", "certflow_cluster_uid")
# Options of the modules that are variables of their own, and not keys of the variable for the rest of the connection.
OWN_VARIABLES = ("kubeconfig", "context", "cluster_uid")
# Variables that may hold a secret. Their values are never shown.
SECRET_VARIABLES = ("connection", "kubeconfig", "source_auth")
LETTERS = 2


@dataclass(frozen=True)
class RoleSpec:
    """The variables of a role: their names and their specs in the form of Ansible's argument specs."""

    name: str
    options: Mapping[str, Mapping[str, Any]]

    @property
    def required(self) -> list[str]:
        return [name for name, option in self.options.items() if option.get("required")]

    @property
    def known(self) -> frozenset[str]:
        """Return the names that are not misspelt."""
        return frozenset(self.options) | PLAYBOOK_VARIABLES

    @property
    def page(self) -> str:
        return f"The variables: ansible-doc -t role certflow.kubernetes.{self.name}"


@dataclass(frozen=True)
class Problem:
    """A problem of variables on one host."""

    #: The names and what is wrong with them, as a clause.
    text: str
    #: A part of the value, "" if it is secret or says nothing.
    value: str = ""
    remedy: str = ""

    def line(self, hosts: str = "") -> str:
        """Return the problem as one line. hosts: the hosts that have it, "" in a role."""
        where = f" for {hosts}" if hosts else ""
        value = f": {self.value}" if self.value else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.text}{where}{value}.{remedy}{'' if remedy.endswith('?') or not remedy else '.'}"


@cache
def specification(role: str) -> RoleSpec:
    """Return the variables of a role of this collection."""
    text = (COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(text, Loader=loader)  # noqa: S506  # a safe loader
    return RoleSpec(role, content["argument_specs"][ENTRY_POINT]["options"])


def is_unset(value: Any) -> bool:
    """Return True for no value, or an empty text, with which AWX answers an optional question."""
    return value is None or value is UNDEFINED or (isinstance(value, str) and not value.strip())


def is_blank(value: Any) -> bool:
    """Return True for an empty value. A dictionary with an empty name is empty."""
    if isinstance(value, Mapping) and "name" in value:
        return is_blank(value["name"])
    return is_unset(value) or value in ({}, [])


def unnamed_problem(hosts: str, inventory_size: int, names: Collection[str]) -> str:
    """Return the problem of hosts that name no cluster, "" if the environment may name it.

    It may name the cluster of the only host of an inventory. A slice of an AWX job has a part of the inventory, and does not know it.

    hosts: shown in the problem, "" without such a host. names: of the variables that are not from the inventory.
    """
    if not hosts or (inventory_size == 1 and "awx_job_id" not in names):
        return ""
    return (
        f"these hosts do not name their cluster: {hosts}. Set certflow_context (and certflow_kubeconfig) for each host. Only the"
        " single host of an inventory may take its cluster from the environment, but never in a job of AWX."
    )


def problems(spec: RoleSpec, values: Mapping[str, Any]) -> list[Problem]:
    """Return the missing and invalid variables of a host.

    values: the variables of the role that are set. A value may be UNDEFINED.
    """
    return [*_missing(spec, values), *_undefined(spec, values), *_invalid(spec, values)]


def _missing(spec: RoleSpec, values: Mapping[str, Any]) -> Iterator[Problem]:
    names = [name for name in spec.required if is_blank(values.get(name))]
    if names:
        are, them = ("is", "it") if len(names) == 1 else ("are", "them")
        yield Problem(
            f"{listed(names)} {are} not set",
            remedy=f"Set {them} in the inventory, or in a file that you give with -e @FILE",
        )


def _undefined(spec: RoleSpec, values: Mapping[str, Any]) -> Iterator[Problem]:
    for name in (*CLUSTER_VARIABLES, *spec.options):
        if values.get(name) is UNDEFINED and name not in spec.required:
            yield Problem(f"{name} refers to a variable that is not defined")


def _invalid(spec: RoleSpec, values: Mapping[str, Any]) -> Iterator[Problem]:
    for name, option in spec.options.items():
        value = values.get(name)
        if value is not UNDEFINED and not is_blank(value):
            yield from _check(spec, name, option, value)


def _check(spec: RoleSpec, path: str, option: Mapping[str, Any], value: Any) -> Iterator[Problem]:
    """Yield the problems of one value. Values that may be secret are never shown."""
    kind = option.get("type", "str")
    try:
        converted = TYPES[kind](value)
    except (TypeError, ValueError):
        yield _problem(spec, path, f"is not {NAMES[kind]}", value, _example(path, option, value))
        return
    choices = [str(choice) for choice in option.get("choices", ())]
    if kind == "list":
        element = {**option, "type": option.get("elements", "raw")}
        for number, item in enumerate(converted):
            yield from _check(spec, f"{path}[{number}]", element, item)
    elif choices and not isinstance(converted, Mapping) and str(converted) not in choices:
        yield _problem(spec, path, "has an invalid value", value, f"Use one of these: {', '.join(choices)}")
    elif kind == "dict" and "options" in option:
        yield from _check_keys(spec, path, option["options"], converted)


def _check_keys(
    spec: RoleSpec, path: str, options: Mapping[str, Mapping[str, Any]], value: Mapping[str, Any]
) -> Iterator[Problem]:
    for key in value:
        if key not in options:
            yield Problem(
                f"{path} has the key {visible(str(key))}", remedy=_known_key(spec, path, options, str(key))
            )
    lacking = [key for key, option in options.items() if option.get("required") and is_blank(value.get(key))]
    if lacking:
        yield Problem(f"{path} lacks {listed(lacking)}")
    for key, option in options.items():
        if not is_blank(value.get(key)):
            yield from _check(spec, f"{path}.{key}", option, value[key])


def _known_key(spec: RoleSpec, path: str, options: Collection[str], key: str) -> str:
    if path.endswith("_connection") and key in OWN_VARIABLES:
        return f"Did you mean the variable {spec.name}_{key}?"
    close = closest(key, options)
    return f"Did you mean {close}?" if close else f"Its keys are {listed(sorted(options))}"


def _problem(spec: RoleSpec, path: str, text: str, value: Any, remedy: str = "") -> Problem:
    is_secret = path.startswith(tuple(f"{spec.name}_{name}" for name in SECRET_VARIABLES))
    shown = "" if is_secret or not isinstance(value, (str, int, float)) else quoted(str(value))
    return Problem(f"{path} {text}", shown, remedy)


def _example(path: str, option: Mapping[str, Any], value: Any) -> str:
    """Return an example of a dictionary or a list of them, as a sentence."""
    options = option.get("options") or {}
    required = {key: one for key, one in options.items() if one.get("required")}
    if not required:
        return ""
    given = value if isinstance(value, str) and value.isprintable() and " " not in value else "NAME"
    keys = (f"{key}: {one['choices'][0] if one.get('choices') else given}" for key, one in required.items())
    text = "{" + ", ".join(keys) + "}"
    name, is_element, _number = path.partition("[")
    return f"Write {name}: {'[' + text + ']' if is_element else text}"


def _text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        raise TypeError(value)
    return str(value)


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",")
    if isinstance(value, Mapping):
        raise TypeError(value)
    return list(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(value)
    return int(check_type_int(value))


# Type in an argument spec -> the function that converts a value as a module would. It raises TypeError or ValueError.
TYPES: dict[str, Any] = {
    "bool": check_type_bool,
    "dict": check_type_dict,
    "int": _integer,
    "list": _list,
    "path": _text,
    "raw": lambda value: value,
    "str": _text,
}
NAMES = {
    "bool": "true or false",
    "dict": "a dictionary",
    "int": "an integer",
    "list": "a list",
    "path": "a text",
    "str": "a text",
}


def misspelt(spec: RoleSpec, names: Iterable[str]) -> dict[str, str]:
    """Return the names that differ from a variable of the role or of the playbooks by one or two letters.

    The value of a name is the name of that variable.
    """
    known, parts = spec.known, _parts(spec.name)
    accepted = known | FACTS | {f"{spec.name}_result", f"{spec.name}_is_changed"}
    found: dict[str, str] = {}
    for name in sorted(names):
        # With at most two changes, at least one of three parts of the prefix is unchanged.
        if (
            any(part in name for part in parts)
            and name not in accepted
            and not name.startswith(("__", REPORT))
        ):
            close = closest(name, known)
            if close:
                found[name] = close
    return found


@cache
def _parts(role: str) -> tuple[str, ...]:
    return tuple(part for prefix in (f"{role}_", "certflow_") for part in _thirds(prefix))


def _thirds(text: str) -> list[str]:
    third = len(text) // 3
    return [text[:third], text[third : 2 * third], text[2 * third :]]


def misspelt_problem(spec: RoleSpec, name: str, close: str) -> Problem:
    owner = "these playbooks" if close in PLAYBOOK_VARIABLES else f"the role {spec.name}"
    return Problem(f"{visible(name)} is not a variable of {owner}", remedy=f"Did you mean {close}?")


def closest(word: str, names: Iterable[str]) -> str:
    """Return the name that differs by the fewest letters, "" if each differs by more than two."""
    near = [(distance(word, name), name) for name in names if abs(len(word) - len(name)) <= LETTERS]
    found = min(near, default=(LETTERS + 1, ""))
    return found[1] if found[0] <= LETTERS else ""


def distance(one: str, other: str) -> int:
    """Return the number of letters to insert, delete or replace between two words (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row[0] = row[0], number
        for place, second in enumerate(other, 1):
            above, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, above + (letter != second)),
            )
    return row[-1]


def listed(words: Iterable[Any]) -> str:
    """Return the words as "a, b and c"."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last
