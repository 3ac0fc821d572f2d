# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What each fleet playbook runs on a cluster: the table of operations. Pure.

A new fleet playbook is one row here, one file of tasks, and the variables of its own in ``_variables/variables.yml``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.common.validation import check_type_dict

from ...module_utils._repair import kinds
from .._variables import specs
from .._variables.specs import Spec
from . import outcome_of_result
from .outcome_of_result import OperationRun


@dataclass(frozen=True)
class FleetOperation:
    """A row of the table."""

    #: The name in reports, plans and run files: that of the role, or of the module or the playbook without a role.
    name: str
    #: Return the reason and further fields of the report.
    describe: Callable[[OperationRun], dict[str, Any]]
    #: The role whose variables are the options of the module, "" if variables of the playbook are.
    role: str = ""
    #: Option of the module -> the variable of the playbook that sets it, {} if a role has the variables.
    options: Mapping[str, str] = field(default_factory=dict)
    #: Option -> value of its variable -> value of the option. The first one is the default.
    meanings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: The variable with further options of the module, "" for none.
    more_options: str = ""
    #: The tags with which a run writes nothing. Ansible's tag "tagged" selects the tasks of all of them.
    reading_tags: frozenset[str] = frozenset()
    #: True if the result in check mode has the expiry of a certificate, which a closed window may outlast.
    tells_expiry: bool = False
    #: Return True if the result of a verification after a soak shows that the work is needed again. The second argument is its outcome.
    is_undone: Callable[[Mapping[str, Any], Mapping[str, Any]], bool] = lambda result, _done: bool(
        result.get("changed")
    )

    @property
    def variables(self) -> Spec:
        """Return the variables of the playbook that set options of the module."""
        names = filter(None, (*self.options.values(), self.more_options))
        return Spec(specs.PLAYBOOKS, {name: specs.PLAYBOOK_VARIABLES[name] for name in names})

    def option_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the module. values: the variables that are set, with their rendered values."""
        own = {option: values[name] for option, name in self.options.items() if name in values}
        for option, meanings in self.meanings.items():
            own[option] = meanings[own.get(option) or next(iter(meanings))]
        # AWX sends a dictionary of a survey as text.
        return {**check_type_dict(values.get(self.more_options) or {}), **own}

    def is_selected(self, tags: Collection[str]) -> bool:
        """Return True if the tags of a run select a task that works on clusters. tags: the fact ansible_run_tags."""
        return "all" in tags or self.is_reading(tags)

    def is_reading(self, tags: Collection[str]) -> bool:
        """Return True if the run writes nothing because of its tags."""
        return "all" not in tags and not self.reading_tags.isdisjoint(tags)


_REPAIR_OPTIONS = {
    "kubeconfig": "certflow_kubeconfig",
    "context": "certflow_context",
    "cluster_uid": "certflow_cluster_uid",
    "accept": "certflow_repair_accept",
}
#: Playbook -> its operation.
OPERATIONS = {
    "certificates": FleetOperation(
        "webhook_certificate",
        outcome_of_result.describe_certificate,
        role="webhook_certificate",
        tells_expiry=True,
    ),
    "upgrade": FleetOperation(
        "snapshot_controller",
        outcome_of_result.describe_upgrade,
        role="snapshot_controller",
        reading_tags=frozenset(("plan", "verify", "tagged")),
        # It verifies the installed release, whichever it is.
        is_undone=lambda result, done: any(
            hop["start"] not in ("", done.get("after")) for hop in (result.get("hops") or ())[:1]
        ),
    ),
    "repair": FleetOperation(
        "webhook_repair",
        outcome_of_result.describe_repair,
        options={**_REPAIR_OPTIONS, "kinds": "certflow_repair_kinds"},
        more_options="certflow_repair_options",
        reading_tags=frozenset(("plan", "tagged")),
    ),
    "cluster_ca": FleetOperation(
        "cluster_ca",
        outcome_of_result.describe_rotation,
        options={**_REPAIR_OPTIONS, "kinds": "certflow_ca_phase", "cluster_ca": "certflow_cluster_ca"},
        meanings={"kinds": {"prepare": [kinds.ADD_SUCCESSOR], "finish": [kinds.REMOVE_OUTGOING]}},
        more_options="certflow_repair_options",
        reading_tags=frozenset(("plan", "tagged")),
    ),
}
#: The name in reports -> the playbook.
PLAYBOOK_OF = {operation.name: playbook for playbook, operation in OPERATIONS.items()}


def of_name(name: str) -> FleetOperation:
    """Return the operation with this name. Raises LookupError."""
    return OPERATIONS[PLAYBOOK_OF[name]]


#: Option of audit_info -> the variable of the playbook audit. Further options are keys of certflow_audit_options.
AUDIT_OPTIONS = {
    "kubeconfig": "certflow_kubeconfig",
    "context": "certflow_context",
    "cluster_uid": "certflow_cluster_uid",
    "exceptions": "certflow_exceptions",
    "without": "certflow_audit_without",
}


def variables_of_options(playbook: str) -> dict[str, str]:
    """Return the variable that sets each option, for a playbook without a role."""
    operation = OPERATIONS.get(playbook)
    options, more = (
        (operation.options, operation.more_options)
        if operation
        else (AUDIT_OPTIONS, "certflow_audit_options")
    )
    further = specs.PLAYBOOK_VARIABLES[more].get("options") or _AUDIT_KEYS
    return {**{key: f"{more}.{key}" for key in further}, **options}


#: The keys of certflow_audit_options that messages name.
_AUDIT_KEYS = (
    "endpoints_per_service",
    "probe_urls",
    "snapshot_version",
    "ca_break_days",
    "wait_timeout",
    "certificate_authorities",
)


def spec_of(playbook: str) -> Spec:
    """Return the variables of a playbook, also of the audit."""
    operation = OPERATIONS.get(playbook)
    return (
        specs.of_groups((playbook, specs.FLEET), operation.role)
        if operation
        else specs.of_groups((playbook,))
    )
