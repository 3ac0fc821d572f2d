# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read what the user gave to a run of a playbook: its hosts, and their variables as a task of each host would see them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ansible.context  # not a name from it, because the arguments are set when the program starts
from ansible.inventory.manager import InventoryManager

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._kube.login import kubeconfig
from .._inventory import contexts
from .._report import job_report
from .._variables import read_variables
from .._variables.specs import OWN_VARIABLES
from .._variables.values import UNREADABLE, is_blank
from . import check_run, fleet_operations
from .check_hosts import RunInput


def read(
    loader: Any,
    templar: Any,
    variables: Mapping[str, Any],
    playbook: str,
    pattern: Any,
    *,
    reads_only: bool = False,
) -> RunInput:
    """Return the input of a run. variables: of a task. pattern: the value of certflow_hosts. reads_only: True in check mode."""
    inventory = _inventory(loader, variables)
    hosts = matching_hosts(loader, variables, pattern)
    operation = fleet_operations.OPERATIONS.get(playbook)
    has_reading_tag = operation is not None and operation.is_reading(variables.get("ansible_run_tags") or ())
    extra = {name: variables.get(name) for name in read_variables.extra_names(loader)}
    names = read_variables.names_of({**read_variables.of_play(variables), **extra}) if hosts else []
    run = RunInput(
        playbook=playbook,
        pattern=pattern,
        hosts=read_variables.of_hosts(templar, fleet_operations.spec_of(playbook), hosts, variables),
        chosen=variables.get("ansible_play_hosts_all") or (),
        limit=limit(),
        groups=variables["groups"],
        inventory_size=len(variables["groups"].get("all", ())),
        reads_only=reads_only or has_reading_tag,
        has_reading_tag=has_reading_tag,
        names=names,
        inventory_names={
            host: read_variables.names_of(variables["hostvars"].raw_get(host)) for host in hosts
        },
    )
    run = replace(run, unnamed_contexts=_unnamed_contexts(loader, run))
    members = {
        part: [str(host) for host in inventory.get_hosts(part)] for part in check_run.stage_patterns(run)
    }
    return replace(run, members=members)


def _unnamed_contexts(loader: Any, run: RunInput) -> dict[str, str]:
    """Return the problem of each host that names no context of a kubeconfig with several contexts. It reads the kubeconfigs."""
    problems: dict[str, str] = {}
    known: dict[str, str] = {}
    for host, values in run.hosts.items():
        options = _connection_options(run.spec.name, values)
        key = repr(options)
        if key not in known:
            own = f"{run.spec.name}_kubeconfig"
            variable = "certflow_kubeconfig" if is_blank(values.get(own)) else own
            # Each host of a fleet has its own context. To read a large kubeconfig for each of them takes minutes.
            known[key] = (
                ""
                if options["context"]
                else _context_problem(loader, options).replace("the task's option kubeconfig", variable)
            )
        if known[key]:
            problems[host] = known[key]
    return problems


def _connection_options(owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the connection that the variables of a host set."""
    connection = values.get(f"{owner}_connection")
    options = dict(connection) if isinstance(connection, Mapping) else {}
    for option in OWN_VARIABLES:
        both = (values.get(f"{prefix}_{option}") for prefix in (owner, "certflow"))
        options[option] = next(
            (value for value in both if not is_blank(value) and value is not UNREADABLE), None
        )
    return options


def _context_problem(loader: Any, options: Mapping[str, Any]) -> str:
    path = options.get("kubeconfig")
    try:
        if isinstance(path, str) and contexts.is_encrypted(paths.expand(path)):
            options = {**options, "kubeconfig": contexts.load(loader, paths.expand(path))}
    except (CertflowError, OSError, ValueError):
        pass  # a list of paths, or a file that the task of the host finds or reports
    try:
        kubeconfig.check_context(options, os.environ)
    except CertflowError as error:
        is_unnamed = isinstance(error, kubeconfig.ContextNotNamed)
        return f"{error.cause}. Set certflow_context for each host." if is_unnamed else ""
    return ""


def job_problems(run: RunInput, variables: Mapping[str, Any]) -> list[str]:
    """Return the problems of the names of jobs in a workflow, and of the report of the earlier job."""
    if run.has_unreadable:
        return []
    return job_report.problems(
        run.shared("certflow_job_name"), run.shared("certflow_required_job"), variables
    )


def matching_hosts(loader: Any, variables: Mapping[str, Any], pattern: Any) -> list[str]:
    """Return the names of the hosts that the pattern matches within --limit."""
    if is_blank(pattern):
        return []
    inventory = _inventory(loader, variables)
    inventory.subset(limit() or None)
    return [str(host) for host in inventory.get_hosts(pattern)]


def limit() -> str:
    """Return the value of --limit, "" without it."""
    return str(ansible.context.CLIARGS.get("subset") or "")


def _inventory(loader: Any, variables: Mapping[str, Any]) -> Any:
    """Return the inventory with the groups and the names of the hosts."""
    manager = InventoryManager(loader, parse=False)
    for group, members in variables["groups"].items():
        manager.add_group(group)
        for member in members:
            manager.add_host(member, group=group)
    return manager
