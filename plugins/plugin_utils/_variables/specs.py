# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The variables of each role and playbook, in the form of Ansible's argument specs. Pure, except that each file is read once.

The roles' argument specs have the entry point ``variables``, so Ansible does not validate them by itself. See
docs/decisions/0009-check-of-variables.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Option = Mapping[str, Any]

COLLECTION = Path(__file__).parents[3]
ENTRY_POINT = "variables"
#: The groups of playbooks in the table. A playbook with variables of its own is a group too.
FLEET, AUDIT, REPAIR, CLUSTER_CA = "fleet", "audit", "repair", "cluster_ca"
#: The beginning of the names of the playbooks' variables.
PLAYBOOKS = "certflow"
#: The variable with the pattern of the hosts. It is no variable of a host, so no value of it is checked here.
HOSTS = "certflow_hosts"
#: The variables that name the cluster of a host.
CLUSTER_VARIABLES = ("certflow_kubeconfig", "certflow_context", "certflow_cluster_uid")
#: Facts and artifacts of the playbooks and of the inventory plugin, which users read.
FACTS = frozenset(("certflow_audit", "certflow_provider", "certflow_server"))
#: A later job gets the report of an earlier one as an extra variable of this form.
REPORT = "certflow_report_"
#: Options of the modules that are variables of their own, and not keys of the variable for the rest of the connection.
OWN_VARIABLES = ("kubeconfig", "context", "cluster_uid")


@dataclass(frozen=True)
class Spec:
    """The variables of a role or of a playbook."""

    #: The role, or PLAYBOOKS for a playbook without a role. It is the beginning of the names.
    name: str
    #: Variable -> its type, elements, choices, suboptions, and whether it is required.
    options: Mapping[str, Option]
    #: The variables whose value all hosts of a run share.
    shared: frozenset[str] = frozenset()

    @property
    def is_of_role(self) -> bool:
        """Return True for the variables of a role, also together with those of its playbook."""
        return self.name != PLAYBOOKS

    @property
    def page(self) -> str:
        return f"The variables: ansible-doc -t role certflow.kubernetes.{self.name}"


def _read(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506  # a safe loader


#: The table of the playbooks' variables. Its head describes the keys.
PLAYBOOK_VARIABLES: Mapping[str, Option] = _read(Path(__file__).with_name("variables.yml"))


@cache
def of_role(role: str) -> Spec:
    """Return the variables of a role, and those that name the cluster. A role's defaults hide that one of these is not defined."""
    content = _read(COLLECTION / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return Spec(
        role,
        {
            **{name: PLAYBOOK_VARIABLES[name] for name in CLUSTER_VARIABLES},
            **content[ENTRY_POINT]["options"],
        },
    )


@cache
def of_groups(groups: tuple[str, ...], role: str = "") -> Spec:
    """Return the variables of a playbook: those of its groups in the table, with those of its role, "" without one."""
    rows = {
        name: row
        for name, row in PLAYBOOK_VARIABLES.items()
        if not {*groups}.isdisjoint(row["playbooks"]) and name != HOSTS
    }
    shared = frozenset(name for name, row in rows.items() if row["scope"] == "run")
    return Spec(role or PLAYBOOKS, {**rows, **(of_role(role).options if role else {})}, shared)
