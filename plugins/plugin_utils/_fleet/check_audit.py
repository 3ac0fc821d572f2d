# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the variables of the playbook audit before it contacts a cluster. It reads files, and contacts no other machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import exceptions
from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info
from ansible_collections.certflow.kubernetes.plugins.module_utils._text import visible

from .._report import report_files
from .._variables import role_variables
from .._variables.playbook_variables import VARIABLES
from .._variables.role_variables import RoleSpec, is_blank, listed
from . import host_patterns

# At most so many hosts are listed in a problem.
MOST_NAMES = 5
NO_INVENTORY = (
    (
        "the inventory has no host. If it could not be read, a warning above says why. Otherwise write the file clusters.yml "
        "with these three lines, and run: ansible-playbook -i clusters.yml certflow.kubernetes.audit"
    ),
    "plugin: certflow.kubernetes.kubeconfig",
    "kubeconfig: ~/.kube/config # each context of this file becomes a host",
    'include: ["*"] # patterns of the contexts to use',
)
#: The variables of the playbook.
SPEC = RoleSpec(
    "certflow",
    {
        "certflow_fail_on": {"type": "str", "choices": ["error", "warning", "never"]},
        "certflow_report": {"type": "list", "elements": "path"},
        "certflow_compare_with": {"type": "path"},
        "certflow_merge": {"type": "list", "elements": "path"},
        "certflow_exceptions": {"type": "raw"},
        "certflow_audit_without": {"type": "list", "elements": "str"},
        "certflow_probe_urls": {"type": "bool"},
        "certflow_endpoints_per_service": {"type": "int"},
        "certflow_snapshot_version": {"type": "str"},
        "certflow_include_passed": {"type": "bool"},
        "certflow_wait_timeout": {"type": "int"},
        "certflow_kubeconfig": {"type": "raw"},
        "certflow_context": {"type": "str"},
        "certflow_cluster_uid": {"type": "str"},
    },
)
_EXCEPTION_KEYS = ("check", "clusters", "objects", "reason", "until")
_LISTS = ("clusters", "objects")


@dataclass(frozen=True)
class Run:
    """A run of the playbook as the user started it."""

    #: The value of certflow_hosts.
    pattern: str
    #: The hosts that the pattern matches within --limit, with the variables of SPEC that are set.
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Group of the inventory -> its hosts.
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: The number of hosts in the inventory.
    inventory_size: int = 0
    #: The value of --limit, "" without it.
    limit: str = ""
    #: The hosts that Ansible chose for the play.
    chosen: Sequence[str] = ()
    #: Names of the variables that are not from the inventory. A misspelt one is an error.
    names: Collection[str] = ()


@dataclass
class Settings:
    """The checked settings of a run."""

    problems: list[str]
    fail_on: str = "error"
    report: list[str] = field(default_factory=list)
    compare_with: str = ""
    merge: list[str] = field(default_factory=list)
    #: For the option exceptions of audit_info.
    exceptions: list[dict[str, Any]] = field(default_factory=list)
    #: Host -> the counters of its audit in the report compare_with, for the option previous_counters of audit_info. They are JSON,
    #: because Ansible looks for templates in each value of a dictionary, on each host.
    counters: dict[str, str] = field(default_factory=dict)


def check(run: Run, read_report: Callable[[str], Any]) -> Settings:
    """Return the settings with the problems that prevent the run, one line each, the most basic one first.

    read_report: reads an earlier report by its path. It raises CertflowError.
    """
    found = _hosts_problems(run)
    if found:
        return Settings(found)
    shared = next(iter(run.hosts.values()))
    settings = Settings([*_misspelt(run), *_variable_problems(run), *_differing(run), *_unnamed(run)])
    if settings.problems:
        return settings
    settings.fail_on = _text(shared, "certflow_fail_on") or settings.fail_on
    settings.report = _paths(shared, "certflow_report")
    settings.compare_with = _text(shared, "certflow_compare_with")
    settings.merge = _paths(shared, "certflow_merge")
    settings.problems += _file_problems(settings, run.hosts, read_report)
    try:
        settings.exceptions = read_exceptions(shared.get("certflow_exceptions"))
    except CertflowError as error:
        settings.problems.append(str(error))
    settings.problems += _option_problems(run)
    return settings


def summary(lines: Sequence[str]) -> str:
    """Return one line for all problems, "" without a problem. Several problems are listed above it."""
    if len(lines) < 2 or lines[0] == NO_INVENTORY[0]:
        return "".join(lines[:1])
    return f"{lines[0]} The list above has {len(lines) - 1} more."


def _hosts_problems(run: Run) -> list[str]:
    if not run.inventory_size:
        return list(NO_INVENTORY)
    if is_blank(run.pattern):
        return [
            "certflow_hosts is empty. Give a host pattern, or leave the variable out to use the group clusters."
        ]
    ambiguous = [*host_patterns.ambiguity_problems([run.pattern, run.limit], run.groups)]
    if ambiguous:
        return ambiguous
    if not run.hosts:
        limit = f" within --limit {run.limit}" if run.limit else ""
        return [f"no host matches certflow_hosts: {run.pattern}{limit}"]
    if run.chosen and set(run.chosen) != set(run.hosts):
        words = (
            f"the inventory sets certflow_hosts to {run.pattern}, but the hosts of a play are chosen before variables of the"
            " inventory are read. Give certflow_hosts as an extra variable (-e)"
        )
        return [words]
    return []


def _misspelt(run: Run) -> Iterator[str]:
    found = {**role_variables.misspelt(SPEC, run.names), **_misspelt_reports(run.names)}
    for name, close in sorted(found.items()):
        yield role_variables.misspelt_problem(SPEC, name, close).line()


def _misspelt_reports(names: Collection[str]) -> dict[str, str]:
    """Return names such as certflow_report_ulr. Most names with this beginning are reports of earlier jobs."""
    known = [name for name in SPEC.options if name.startswith(role_variables.REPORT)]
    return {
        name: close
        for name in names
        if name.startswith(role_variables.REPORT) and name not in known
        for close in known
        if role_variables.distance(name, close) == 1 or sorted(name) == sorted(close)
    }


def _variable_problems(run: Run) -> Iterator[str]:
    """Yield a line for each problem of variables, with the hosts that have it."""
    found: dict[role_variables.Problem, list[str]] = {}
    for host, values in run.hosts.items():
        for problem in role_variables.problems(SPEC, values):
            found.setdefault(problem, []).append(host)
    for problem, names in found.items():
        yield problem.line(_some(names) if len(names) < len(run.hosts) else "")


def _differing(run: Run) -> Iterator[str]:
    """Yield an error for each variable of the whole run that hosts set to different values."""
    for name in SPEC.options:
        if VARIABLES[name].is_per_host:
            continue
        values = [values.get(name) for values in run.hosts.values()]
        if any(value != values[0] for value in values):
            yield f"{name} has different values for different hosts. Set it once, for the whole run."


def _unnamed(run: Run) -> Iterator[str]:
    without = [
        host
        for host, values in run.hosts.items()
        if is_blank(values.get("certflow_kubeconfig")) and is_blank(values.get("certflow_context"))
    ]
    problem = role_variables.unnamed_problem(_some(without), run.inventory_size, run.names)
    yield from filter(None, [problem])


def _file_problems(
    settings: Settings, hosts: Collection[str], read_report: Callable[[str], Any]
) -> Iterator[str]:
    for path in settings.report:
        try:
            report_files.check_destination(path)
        except CertflowError as error:
            yield str(error)
    for path in filter(None, [settings.compare_with, *settings.merge]):
        try:
            report = read_report(path)
        except CertflowError as error:
            yield str(error)
            continue
        if path == settings.compare_with:
            settings.counters = {
                cluster["name"]: json.dumps(cluster["counters"])
                for cluster in report["clusters"]
                if cluster["counters"] is not None and cluster["name"] in hosts
            }


def _option_problems(run: Run) -> Iterator[str]:
    """Yield the problems of values that the module would refuse on each cluster."""
    found: dict[str, list[str]] = {}
    for host, values in run.hosts.items():
        given = {
            "endpoints_per_service": int(_text(values, "certflow_endpoints_per_service") or 1),
            "previous_counters": None,
            "probe_urls": False,
            "snapshot_version": _text(values, "certflow_snapshot_version"),
            "without": _paths(values, "certflow_audit_without"),
        }
        try:
            audit_info.parse_options(given)
        except CertflowError as error:
            found.setdefault(str(error), []).append(host)
        if int(_text(values, "certflow_wait_timeout") or 1) < 1:
            found.setdefault("certflow_wait_timeout is not a number of seconds above 0.", []).append(host)
    for words, hosts in found.items():
        yield f"{_some(hosts)}: {words}" if len(hosts) < len(run.hosts) else words


def read_exceptions(value: Any) -> list[dict[str, Any]]:
    """Return the exceptions of a list or of a YAML file, for the option of audit_info. Raises CertflowError."""
    if is_blank(value):
        return []
    entries, where = value, "the variable certflow_exceptions"
    if isinstance(value, str):
        where = f"the file {value} of certflow_exceptions"
        entries = _load(value, where)
    if not isinstance(entries, (list, tuple)):
        raise CertflowError(f"{where} is not a list", remedy="Write a list of exceptions")
    found = [_exception(entry, f"entry {number} of {where}") for number, entry in enumerate(entries, 1)]
    try:
        exceptions.parse(found)
    except CertflowError as error:
        raise CertflowError(
            error.cause.replace("the option exceptions", where), remedy=error.remedy
        ) from error
    return found


def _exception(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise CertflowError(f"{where} is not a dictionary", remedy=f"Its keys are {listed(_EXCEPTION_KEYS)}")
    for key in entry:
        if key not in _EXCEPTION_KEYS:
            close = role_variables.closest(str(key), _EXCEPTION_KEYS)
            remedy = f"Did you mean {close}?" if close else f"Its keys are {listed(_EXCEPTION_KEYS)}"
            raise CertflowError(f"{where} has the key {visible(str(key))}", remedy=remedy)
    lacking = [key for key in ("check", "reason", "until") if is_blank(entry.get(key))]
    if lacking:
        raise CertflowError(f"{where} lacks {listed(lacking)}", remedy=f"Add {listed(lacking)} to the entry")
    # YAML reads a date as a date.
    texts = {key: str(value) for key, value in entry.items() if key not in _LISTS}
    lists = {key: _strings(entry[key]) for key in _LISTS if not is_blank(entry.get(key))}
    return {**texts, **lists}


def _strings(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]


def _load(path: str, where: str) -> Any:
    content = report_files.read(path, f"{where}:")
    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe loader
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise CertflowError(f"{where} is not valid YAML{line}", remedy="Correct the file") from None


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return "" if is_blank(value) else str(value).strip()


def _paths(values: Mapping[str, Any], name: str) -> list[str]:
    value = values.get(name)
    entries = value.split(",") if isinstance(value, str) else value or []
    return [str(entry).strip() for entry in entries if not is_blank(entry)]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown
