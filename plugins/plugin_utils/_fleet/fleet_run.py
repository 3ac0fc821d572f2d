# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A fleet run as its plays and its forked processes share it: the registered result ``__certflow_run`` of the playbooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...module_utils._base.errors import CertflowError
from . import stages
from .budget import Budget
from .run_file import RunFile
from .stages import Stage

if TYPE_CHECKING:
    from ...module_utils._audit.audit_result import AuditException

#: Host -> the findings that a run may repair, and what the audit did not read. A host without an audit is not in it.
Findings = Mapping[str, Mapping[str, Any]]
#: The result of the task that begins the run.
VARIABLE = "__certflow_run"


@dataclass(frozen=True)
class FleetRun:
    """A run that has begun."""

    #: The role that works on each cluster, without the name of the collection.
    role: str
    #: The path of the run file, and the id of the run in it.
    path: str
    run: str
    stages: tuple[Stage, ...]
    budget: Budget
    #: The path of the report, "" for none.
    report: str = ""
    #: True in check mode.
    is_check: bool = False
    #: True if a cluster that would change is a failure.
    fails_on_change: bool = False
    #: True if several hosts may mean one cluster.
    shares_clusters: bool = False
    #: The plan that the run carries out as plain data, {} for none.
    plan: Mapping[str, Any] = field(default_factory=dict)
    #: The findings that the run may repair, None for those of a new audit.
    findings: Findings | None = None
    #: The exceptions as the option of audit_info has them, with the UID that the inventory expects of each host.
    exceptions: Sequence[Mapping[str, Any]] = ()
    uids: Mapping[str, str] = field(default_factory=dict)
    #: The monotonic clock of this machine at the beginning.
    began: float = 0
    #: True if a later job of a workflow gets the outcomes. Then what is left fails no host, because the later job would not start.
    is_handed_on: bool = False

    @cached_property
    def file(self) -> RunFile:
        return RunFile(self.path, self.run, self.budget)

    @property
    def hosts(self) -> list[str]:
        """Return the hosts of the run in the order of the stages."""
        return stages.order(self.stages)

    def exceptions_for(self, host: str) -> tuple[AuditException, ...]:
        """Return the exceptions that hold for a host now."""
        if not self.exceptions:
            return ()
        from ...module_utils._audit import audit_result  # noqa: PLC0415  # only a run with exceptions loads the checks

        names, now = (host, self.uids.get(host, "")), datetime.now(timezone.utc)
        known = audit_result.parse_exceptions(self.exceptions)
        return tuple(entry for entry in known if entry.until > now and entry.is_for(names))

    def stage_of(self, host: str) -> Stage:
        """Return the stage of a host of the run."""
        return next(stage for stage in self.stages if host in stage.hosts)

    def to_data(self) -> dict[str, Any]:
        """Return the run as plain data."""
        own = {row.name: getattr(self, row.name) for row in fields(self)}
        parts = {
            "stages": stages.to_data(self.stages),
            "budget": asdict(self.budget),
            "plan": dict(self.plan),
        }
        return {**own, **parts}


#: The last run that was read, because Ansible asks for it for each host.
_last: dict[str, FleetRun] = {}


def from_data(data: Mapping[str, Any]) -> FleetRun:
    """Return the run of ``FleetRun.to_data``. The result of a task has further keys."""
    if data["run"] not in _last:
        own = {row.name: data[row.name] for row in fields(FleetRun)}
        parts = {"stages": stages.from_data(data["stages"]), "budget": Budget(**data["budget"])}
        _last.clear()
        _last[data["run"]] = FleetRun(**{**own, **parts})
    return _last[data["run"]]


def find(variables: Mapping[str, Any]) -> FleetRun | None:
    """Return the run that began last. Return None before a run began, and if tasks are only listed.

    A file that imports several playbooks begins a run for each of them, and a host keeps the data of the last run that had the host.
    """
    hostvars = variables.get("hostvars")
    if hostvars is None:
        return None
    hosts = variables.get("groups", {}).get("all", ())
    results = [(hostvars.raw_get(host) or {}).get(VARIABLE) for host in hosts]
    begun = [result for result in results if isinstance(result, Mapping) and "run" in result]
    return from_data(max(begun, key=lambda result: float(result["began"]))) if begun else None


def of_task(variables: Mapping[str, Any]) -> FleetRun:
    """Return the run of a task. Its data has no templates, and to render the names of all its hosts takes each host long.

    Raises CertflowError if the run did not begin.
    """
    return from_data(registered(variables, VARIABLE))


def registered(variables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the result of an earlier step of the run. Raises CertflowError without it, as with --start-at-task."""
    result = variables.get(name)
    if not isinstance(result, Mapping) or result.get("skipped"):
        raise CertflowError(
            "the first tasks of the playbook did not run, so this run did not begin",
            code="invalid-input",
            remedy="Run the playbook without --start-at-task",
        )
    return result
