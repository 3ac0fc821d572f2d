# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the variables of the playbook audit before it contacts a cluster. It reads files, and contacts no other machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from typing import Any

from ...module_utils._ansible import argument_specs
from ...module_utils._base.errors import CertflowError
from ...module_utils._operations import audit_info
from .._report import report_files
from .._variables import check_variables
from .._variables.check_variables import Check, check_value
from .._variables.values import is_blank, shown
from . import check_hosts, exceptions
from .check_hosts import RunInput

OPTIONS = "certflow_audit_options"
# The options of the module that other variables set.
_SET_ELSEWHERE = {*argument_specs.AUTH, "cluster_name", "exceptions", "previous_counters", "without"}
#: The keys of certflow_audit_options, with their types and choices.
MODULE_OPTIONS = {
    name: {**row, "required": False}
    for name, row in audit_info.OPERATION.argument_spec.items()
    if name not in _SET_ELSEWHERE or name == "wait_timeout"
}


def check(run: RunInput, read_report: Callable[[str], Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the problems that prevent the run, one line each, the most basic one first, and the settings.

    The settings have counters, certificate_authorities and without as options of audit_info for each host. They are texts, because
    Ansible looks for templates in each value of a dictionary, on each host.

    read_report: reads an earlier report by its path. It raises CertflowError.
    """
    problems = check_hosts.pattern_problems(run) or check_hosts.variable_problems(run, {})
    if problems:
        return problems, {}
    settings: dict[str, Any] = {
        "fail_on": str(run.shared("certflow_fail_on") or "").strip() or "error",
        "report": _paths(run.shared("certflow_report")),
        "compare_with": "".join(_paths(run.shared("certflow_compare_with"))),
        "without": {
            host: ",".join(words)
            for host, values in run.hosts.items()
            if (words := _paths(values.get("certflow_audit_without")))
        },
    }
    problems = [*_file_problems(settings, run.hosts, read_report)]
    try:
        settings["certificate_authorities"] = _read_authorities(run)
        settings["exceptions"] = exceptions.read(run.shared(exceptions.NAME))
    except CertflowError as error:
        problems.append(str(error))
    return [*problems, *check_variables.find_problems(run.spec, run.hosts, CHECKS)], settings


def _file_problems(
    settings: dict[str, Any], hosts: Collection[str], read_report: Callable[[str], Any]
) -> Iterator[str]:
    """Yield the problems of files. Add the counters of the hosts in the report compare_with to the settings."""
    settings["counters"] = {}
    for path in settings["report"]:
        try:
            report_files.check_destination(path)
        except CertflowError as error:
            yield str(error)
    if not settings["compare_with"]:
        return
    try:
        report = read_report(settings["compare_with"])
    except CertflowError as error:
        yield str(error)
        return
    settings["counters"] = {
        cluster["name"]: json.dumps(cluster["counters"])
        for cluster in report["clusters"]
        if cluster["counters"] is not None and cluster["name"] in hosts
    }


def _option_problems(value: Any) -> Iterator[str]:
    """Yield the problems of options that the module would refuse on each cluster."""
    if not isinstance(value, Mapping):
        yield f"{OPTIONS} is not a dictionary: {shown(value)}."
        return
    problems = [*check_value(OPTIONS, {"type": "dict", "options": MODULE_OPTIONS}, value)]
    yield from problems
    if problems:
        return
    options = {key: item for key, item in value.items() if not is_blank(item)}
    options.pop("certificate_authorities", None)  # any dictionary is valid, also as text
    numbers = {key: int(options[key]) for key in ("endpoints_per_service", "ca_break_days") if key in options}
    yield from _refused(OPTIONS, {**options, **numbers})
    if int(value.get("wait_timeout") or 1) < 1:
        yield f"{OPTIONS}.wait_timeout is not a number of seconds above 0."


def _refused(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the refusal of the module. name: the variable."""
    defaults = {key: row.get("default") for key, row in audit_info.SPEC.items()}
    try:
        audit_info.parse_options({**defaults, **options})
    except CertflowError as error:
        yield f"{name}: {error}"


#: Variable -> its further check. The others have only a type.
CHECKS: dict[str, Check] = {
    OPTIONS: _option_problems,
    "certflow_deadline": check_hosts.deadline_problems,
    "certflow_audit_without": lambda value: _refused("certflow_audit_without", {"without": _paths(value)}),
}


def _read_authorities(run: RunInput) -> dict[str, str]:
    """Return what a file says about the CAs of the hosts of the run, as JSON. Raises CertflowError."""
    name = "certflow_certificate_authorities"
    path = "".join(_paths(run.shared(name)))
    where = f"the file {path} of {name}"
    content = exceptions.load(path, where) if path else {}
    if not isinstance(content, Mapping) or not all(isinstance(entry, Mapping) for entry in content.values()):
        raise CertflowError(
            f"{where} is not a dictionary of dictionaries",
            remedy="Write the output of the aws CLI for each host",
        )
    # YAML reads a time as another type than JSON has.
    return {
        host: json.dumps(
            content[host],
            default=lambda value: value.isoformat() if isinstance(value, date) else str(value),
            skipkeys=True,
        )
        for host in run.hosts
        if host in content
    }


def _paths(value: Any) -> list[str]:
    entries = value.split(",") if isinstance(value, str) else value or []
    return [str(entry).strip() for entry in entries if not is_blank(entry)]
