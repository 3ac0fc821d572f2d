# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the values and the names of variables: the one check of roles, of fleet runs and of the audit. Pure.

ansible-core decides if a value has the type and is one of the choices, as it does for the options of a module. The messages are this
file's own: they name the variable and the key, and show no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import some, visible
from .specs import FACTS, OWN_VARIABLES, PLAYBOOK_VARIABLES, PLAYBOOKS, Option, Spec
from .values import (
    UNDEFINED,
    UNREADABLE,
    closest,
    did_you_mean,
    is_blank,
    is_unset,
    items_of_text,
    listed,
    plain_name,
    shown,
)

#: A further check of a variable that has a value of the right type. It yields problems, one line each.
Check = Callable[[Any], Iterable[str]]
_ROOMS = "ansible_collections.certflow.kubernetes.plugins.module_utils"
ACCEPT = ("_base.accept", "parse")
#: Variable -> the file that reads it, and its function that refuses a value. So a value that every cluster would refuse
#: stops the run before the first cluster.
ROLE_VALUES: Mapping[str, tuple[str, str]] = {
    "webhook_certificate_accept": ACCEPT,
    "snapshot_controller_accept": ACCEPT,
    "certflow_repair_accept": ACCEPT,
    "snapshot_controller_backup": ("_operations.snapshot_controller", "parse_backup"),
}
#: Each job of AWX has this extra variable.
AWX = "awx_job_id"
# Variables that may hold a secret. Their values are never shown.
SECRET_VARIABLES = ("connection", "kubeconfig", "source_auth")
NAMES = {
    "bool": "true or false",
    "dict": "a dictionary",
    "int": "an integer",
    "list": "a list",
    "path": "a text on one line",
    "raw": "a value",
    "str": "a text",
}


def find_problems(
    spec: Spec,
    hosts: Mapping[str, Mapping[str, Any]],
    checks: Mapping[str, Check] | None = None,
    names: Collection[str] = (),
) -> list[str]:
    """Return a line for each problem of values. It names the hosts that have the problem, unless all have it.

    hosts: the variables of each host that are set. A value may be UNDEFINED or UNREADABLE.
    checks: variable -> its further check.
    names: of the variables that are not from the inventory.
    """
    checks = {
        **{
            name: partial(_refusals, name, spec.options[name].get("default"))
            for name in ROLE_VALUES
            if name in spec.options
        },
        **(checks or {}),
    }
    first = next(iter(hosts.values()))
    unreadable = {
        name for name in spec.options if any(values.get(name) is UNREADABLE for values in hosts.values())
    }
    differing = {
        name for name in spec.shared for values in hosts.values() if values.get(name) != first.get(name)
    }
    differing -= unreadable
    shared = [name for name in spec.options if name in spec.shared - differing]
    own = [name for name in spec.options if name not in spec.shared]
    where = (
        "in the inventory, or as an answer of the survey"
        if AWX in names
        else "in the inventory, or in a file that you give with -e @FILE"
    )
    lines = {
        f"{name} cannot be rendered. Correct its template.": [
            host for host, values in hosts.items() if values.get(name) is UNREADABLE
        ]
        for name in spec.options
        if name in unreadable
    }
    lines |= {
        f"{name} is a variable of the whole run, and its value differs between hosts. Set it as an extra variable (-e)"
        " or for all clusters.": [*hosts]
        for name in spec.options
        if name in differing
    }
    lines.update({line: [*hosts] for line in _of_host(spec, shared, first, checks, where)})
    for host, values in hosts.items():
        for line in _of_host(spec, own, values, checks, where):
            lines.setdefault(line, []).append(host)
    return [
        line if len(having) == len(hosts) else f"{some(having)}: {line}" for line, having in lines.items()
    ]


def _of_host(
    spec: Spec, names: Collection[str], values: Mapping[str, Any], checks: Mapping[str, Check], where: str
) -> Iterator[str]:
    missing = [name for name in names if spec.options[name].get("required") and is_blank(values.get(name))]
    if missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        yield f"{listed(missing)} {are} not set. Set {them} {where}."
    for name in names:
        value = values.get(name)
        if name in missing or value is UNREADABLE:
            continue
        if value is UNDEFINED:
            yield f"{name} refers to a variable that is not defined."
        elif not (is_unset(value) if name in checks else is_blank(value)):
            is_secret = name in {f"{spec.name}_{secret}" for secret in SECRET_VARIABLES}
            problems = [*check_value(name, spec.options[name], value, is_secret=is_secret)]
            yield from problems or checks.get(name, lambda _value: ())(value)


def _refusals(name: str, default: Any, value: Any) -> Iterator[str]:
    """Yield the refusal of the operation that reads a variable of ROLE_VALUES. The default does not load the operation."""
    if value == default:
        return
    file, function = ROLE_VALUES[name]
    parse = getattr(import_module(f"{_ROOMS}.{file}"), function)
    try:
        parse(items_of_text(value) if (file, function) == ACCEPT else str(value))
    except CertflowError as error:
        cause = error.cause.replace(f"the option {name.rpartition('_')[2]}", name)
        yield f"{cause}. {str(error).partition('. ')[2]}"


def check_value(path: str, option: Option, value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the problems of a value. path: the variable and the keys that lead to the value."""
    kind = str(option.get("type", "str"))
    where = "" if is_secret else f": {shown(value)}"
    converted, is_valid = _validate(kind, (), value)
    if not is_valid:
        yield f"{path} is not {NAMES[kind]}{where}.{'' if is_secret else _example(path, option, value)}"
        return
    choices = tuple(option.get("choices", ()))
    if kind == "list":
        element = {**option, "type": option.get("elements", "raw")}
        for number, item in enumerate(converted):
            yield from check_value(f"{path}[{number}]", element, item, is_secret=is_secret)
    elif choices and not _validate(kind, choices, value)[1]:
        yield f"{path} has an invalid value{where}. Use one of these: {', '.join(map(str, choices))}."
    elif option.get("options") and isinstance(converted, Mapping):
        yield from _check_keys(path, option["options"], converted, is_secret=is_secret)


def _validate(kind: str, choices: tuple[Any, ...], value: Any) -> tuple[Any, bool]:
    """Return the value as a module would get it, and True if it is valid. A module takes the text of a list and the number of a boolean."""
    is_text = kind in ("str", "path")
    is_loose = (is_text and isinstance(value, (Mapping, list, tuple, bool))) or (
        kind == "int" and isinstance(value, bool)
    )
    result = _validator(kind, choices).validate({"value": value})
    is_line = kind != "path" or str(value).isprintable()
    return result.validated_parameters.get("value"), not (is_loose or result.error_messages) and is_line


@cache
def _validator(kind: str, choices: tuple[Any, ...]) -> Any:
    return ArgumentSpecValidator({"value": {"type": kind, **({"choices": [*choices]} if choices else {})}})


def _check_keys(
    path: str, options: Mapping[str, Option], value: Mapping[str, Any], *, is_secret: bool
) -> Iterator[str]:
    yield from (
        f"{path} has the key {visible(key)}. {_known_key(path, options, key)}"
        for key in map(str, value)
        if key not in options
    )
    lacking = [key for key, option in options.items() if option.get("required") and is_blank(value.get(key))]
    if lacking:
        yield f"{path} lacks {listed(lacking)}."
    for key, option in options.items():
        if not is_blank(value.get(key)):
            yield from check_value(f"{path}.{key}", option, value[key], is_secret=is_secret)


def _known_key(path: str, options: Mapping[str, Option], key: str) -> str:
    role, _connection, rest = path.rpartition("_connection")
    if role and not rest and key in OWN_VARIABLES:
        return f"Did you mean the variable {role}_{key}?"
    return did_you_mean(key, sorted(options), "Its keys")


def _example(path: str, option: Option, value: Any) -> str:
    """Return an example of a dictionary or a list of them, as a sentence after a blank, "" without required keys.

    YAML reads words such as no as a boolean.
    """
    if isinstance(value, bool) and option.get("type", "str") in ("str", "path"):
        return " Put the word in quotes, or set an empty text."
    required = {key: row for key, row in (option.get("options") or {}).items() if row.get("required")}
    if not required:
        return ""
    word = value if isinstance(value, str) and value.isprintable() and " " not in value else "NAME"
    keys = (f"{key}: {row['choices'][0] if row.get('choices') else word}" for key, row in required.items())
    text = "{" + ", ".join(keys) + "}"
    name, is_element, _number = path.partition("[")
    return f" Write {name}: {'[' + text + ']' if is_element else text}."


def misspelt(spec: Spec, names: Iterable[str], is_set: Collection[str] = ()) -> dict[str, str]:
    """Return the problem of each name that differs from a variable of the role or of the playbooks by one or two letters, or in case.

    is_set: the variables of the role that are set. A name near one of them may belong to another role.
    """
    known, parts = spec.options.keys() - PLAYBOOK_VARIABLES.keys() - {*is_set}, _parts(spec.name)
    accepted = spec.options.keys() | PLAYBOOK_VARIABLES.keys() | FACTS | {f"{spec.name}_result"}
    problems: dict[str, str] = {}
    for name in sorted(names):
        plain = plain_name(name)
        # With at most two changes, at least one of three parts of the prefix is unchanged.
        if any(part in plain for part in parts) and name not in accepted and not name.startswith("__"):
            of_playbooks = closest(plain, PLAYBOOK_VARIABLES)
            close, owner = (
                of_playbooks or closest(plain, known),
                "these playbooks" if of_playbooks else f"the role {spec.name}",
            )
            if close:
                problems[name] = f"{visible(name)} is not a variable of {owner}. Did you mean {close}?"
    return problems


def unknown(spec: Spec, names: Iterable[str]) -> dict[str, str]:
    """Return the problem of each name that begins as the variables of the playbooks, and that no playbook has."""
    accepted = spec.options.keys() | PLAYBOOK_VARIABLES.keys() | FACTS
    return {
        name: f"{visible(name)} is not a variable of these playbooks. {_remedy(plain_name(name))}"
        for name in sorted(names)
        if plain_name(name).startswith(f"{PLAYBOOKS}_") and name not in accepted
    }


def _remedy(name: str) -> str:
    longer = _longer(name)
    return f"Did you mean {longer}?" if longer else "Remove it, or give your own variable another prefix."


def _longer(name: str) -> str:
    """Return the only variable of the playbooks that has all words of the name, "" if no variable or several have them."""
    words = set(name.split("_"))
    longer = [known for known in PLAYBOOK_VARIABLES if len(words) > 1 and words < set(known.split("_"))]
    return longer[0] if len(longer) == 1 else ""


@cache
def _parts(role: str) -> tuple[str, ...]:
    """Return the thirds of the prefixes."""
    prefixes = (f"{role}_", "certflow_")
    return tuple(text[len(text) * n // 3 : len(text) * (n + 1) // 3] for text in prefixes for n in range(3))
