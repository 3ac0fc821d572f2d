# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check the variables of a fleet run. A run with a problem contacts no cluster. Pure, except for the checks of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.module_utils.common.validation import check_type_dict
from ansible.module_utils.parsing.convert_bool import boolean

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import some, visible
from .._variables.check_variables import Check
from .._variables.values import duration_seconds, is_blank, shown
from . import budget, check_hosts, exceptions, plan, run_report, stages, windows
from .budget import Budget
from .check_hosts import RunInput
from .cluster_run import DEADLINE_MARGIN
from .overlap import find_overlap
from .stages import Assignment

LONGEST_UID = 128
AFTER, REPORT = "certflow_after_cluster", "certflow_report"


def find_problems(run: RunInput) -> list[str]:
    """Return the problems that prevent the run, one line each, the most basic one first."""
    patterns = check_hosts.pattern_problems(run, stage_patterns(run))
    if patterns:
        return patterns
    variables = check_hosts.variable_problems(run, CHECKS)
    if run.has_unreadable:
        return variables
    return [
        *variables,
        *assign_stages(run).problems,
        *_unsuitable(run),
        *_short_deadlines(run),
        *_shared_clusters(run),
        *_shared_successors(run),
    ]


def stage_patterns(run: RunInput) -> list[str]:
    """Return the host patterns of certflow_stages, for RunInput.members."""
    return stages.patterns(run.shared(stages.NAME))


def assign_stages(run: RunInput) -> Assignment:
    """Return the stages of the run."""
    return stages.assign(run.shared(stages.NAME), [*run.hosts], run.members, run.shared(stages.UNTIL))


def make_budget(run: RunInput) -> Budget:
    """Return the failure budget of a run without problems. A percentage is of the clusters up to certflow_until."""
    clusters = stages.order(assign_stages(run).stages)
    canary = "" if run.reads_only else stages.canary_of(run.shared(stages.NAME))
    return budget.make_budget(run.shared(budget.NAME), len(clusters), canary)


def is_true(value: Any) -> bool:
    """Return True if a boolean variable is true. Its type is checked elsewhere."""
    return not is_blank(value) and bool(boolean(value, strict=False))


def _unsuitable(run: RunInput) -> Iterator[str]:
    if is_true(run.shared("certflow_fail_on_change")) and (not run.reads_only or run.has_reading_tag):
        yield "certflow_fail_on_change is for runs with --check and without --tags. Correct that, or remove certflow_fail_on_change."


def _short_deadlines(run: RunInput) -> Iterator[str]:
    """Yield the problem of the first host whose deadline is too short for one step of an upgrade and its undo."""
    if run.spec.name != "snapshot_controller" or run.reads_only:
        return
    # Only an upgrade loads the code of an upgrade.
    from ...module_utils._operations.snapshot_controller import (  # noqa: PLC0415
        ARGUMENTS,
    )
    from ...module_utils._upgrade.engine import (  # noqa: PLC0415
        UNDO_SECONDS,
    )

    for host, values in run.hosts.items():
        step = values.get("snapshot_controller_step_timeout")
        seconds = ARGUMENTS["step_timeout"]["default"] if is_blank(step) else duration_seconds(step)
        least = seconds + UNDO_SECONDS + DEADLINE_MARGIN
        if 0 < duration_seconds(values.get("certflow_deadline")) < least:
            yield (
                f"{visible(host)}: certflow_deadline is shorter than {least} s, which one step of an upgrade and its undo may take."
                " Set a longer one, or a shorter snapshot_controller_step_timeout."
            )
            return


def _shared_clusters(run: RunInput) -> Iterator[str]:
    """Yield a line for each group of hosts whose inventory says that they mean the same cluster and the same object.

    A UID that the inventory does not have is compared when the cluster starts.
    """
    if not is_true(run.shared("certflow_allow_shared_cluster")):
        yield from find_overlap(
            {host: (_uid(values), _work(run.spec.name, values)) for host, values in run.hosts.items()}
        )


def _shared_successors(run: RunInput) -> Iterator[str]:
    """Yield a line for each group of hosts whose successors have the same CA that will sign. They may have the same root."""
    if is_true(run.shared("certflow_allow_shared_cluster")):
        return
    hosts: dict[str, list[str]] = {}
    for host, values in run.hosts.items():
        option = values.get("certflow_cluster_ca")
        with contextlib.suppress(TypeError, ValueError):  # AWX sends a dictionary of a survey as text
            option = check_type_dict(option)
        successor = option.get("successor") if isinstance(option, Mapping) else ""
        if successor:
            # Only a run with a successor loads the code of certificates.
            from ...module_utils._csr import ca_rotation  # noqa: PLC0415

            for key in ca_rotation.signing_keys(str(successor)):
                hosts.setdefault(key, []).append(host)
    for names in dict.fromkeys(tuple(names) for names in hosts.values() if len(names) > 1):
        yield (
            f"{some(names)}: certflow_cluster_ca has the same successor. With it, an administrator of one cluster could act as the webhooks"
            " of the others. Set the successor of each cluster in its host_vars. If the clusters share a CA, publish the successor in each"
            " of them, and remove it from certflow_cluster_ca."
        )


def _uid(values: Mapping[str, Any]) -> str:
    value = values.get("certflow_cluster_uid")
    return "" if is_blank(value) else str(value).strip()


def uids(run: RunInput) -> dict[str, str]:
    """Return the UIDs that the inventory expects, by host."""
    return {host: uid for host, values in run.hosts.items() if (uid := _uid(values))}


def _work(role: str, values: Mapping[str, Any]) -> str:
    """Return namespace and name of the Secret, "" for a role that works on the whole cluster."""
    secret = values.get(f"{role}_secret")
    return (
        f"{values.get(f'{role}_namespace', '')}/{secret.get('name', '')}"
        if isinstance(secret, Mapping)
        else ""
    )


def check_file_problems(run: RunInput, inventory_dir: str | None) -> Iterator[str]:
    """Yield a problem if certflow_after_cluster is a file that does not exist, or if the report would replace an input. It reads the disk.

    inventory_dir: where a relative path begins.
    """
    value = run.shared(AFTER)
    if (
        isinstance(value, str)
        and value.endswith((".yml", ".yaml"))
        and not os.path.isfile(os.path.join(inventory_dir or "", value))
    ):
        yield f"{AFTER} is not a file: {shown(value)}. A relative path begins at the folder of the inventory."
    yield from (
        f"{REPORT} has the path of {name}, which the run would replace. Set another path."
        for name in (run_report.FINDINGS, plan.NAME, exceptions.NAME, "certflow_run_file")
        if "" != _place(run.shared(name)) == _place(run.shared(REPORT))
    )


def _place(value: Any) -> str:
    """Return the path of a file without links, "" for a value that is not a path, such as a report or a plan as JSON."""
    return (
        os.path.realpath(os.path.expanduser(value.strip()))
        if isinstance(value, str) and value.isprintable() and value.strip()[:1] not in ("", "{")
        else ""
    )


def _refusal(name: str, read: Callable[[Any], object], value: Any) -> Iterator[str]:
    """Yield the error with which a function refuses the value of a variable."""
    try:
        read(value)
    except CertflowError as error:
        yield f"{name}: {error}"


def _path_problems(name: str, value: Any) -> Iterator[str]:
    return _refusal(name, paths.expand, str(value).strip())


def _report_problems(value: Any) -> Iterator[str]:
    """Yield a problem of the path of a report. A suffix keeps a wrong path from another file, which would be replaced."""
    yield from _path_problems(REPORT, value)
    if not isinstance(value, str) or "," in value or not value.strip().lower().endswith(".json"):
        yield f"{REPORT} is not one path that ends in .json: {shown(value)}. The report of a run is a JSON file."


def _uid_problems(value: Any) -> Iterator[str]:
    if not str(value).isprintable() or " " in str(value).strip() or len(str(value)) > LONGEST_UID:
        yield f"certflow_cluster_uid is not a UID: {shown(value)}."


#: Variable -> its further check. The others have only a type.
CHECKS: dict[str, Check] = {
    run_report.FINDINGS: lambda value: _refusal(run_report.FINDINGS, run_report.read_findings, value),
    budget.NAME: budget.find_problems,
    "certflow_cluster_uid": _uid_problems,
    exceptions.NAME: lambda value: _refusal(exceptions.NAME, exceptions.read, value),
    "certflow_deadline": check_hosts.deadline_problems,
    plan.NAME: plan.find_problems,
    REPORT: _report_problems,
    "certflow_run_file": lambda value: _path_problems("certflow_run_file", value),
    windows.NAME: windows.find_problems,
}
