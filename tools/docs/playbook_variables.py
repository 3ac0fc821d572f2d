# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about the variables of the playbooks, from plugins/plugin_utils/_variables/variables.yml and _fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import UNCOVERED
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import outcomes, run_file
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables import values
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import (
    AUDIT,
    CLUSTER_CA,
    FLEET,
    PLAYBOOK_VARIABLES,
    REPAIR,
    Option,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.values import listed

from tools.docs import rst


def variables() -> str:
    """Return the page about the variables."""
    fleet, audit = _of(FLEET), {name: row for name, row in _of(AUDIT).items() if name not in _of(FLEET)}
    repair = {name: row for name, row in _of(REPAIR).items() if name not in audit}
    rotation = {name: row for name, row in _of(CLUSTER_CA).items() if name not in _of(REPAIR)}
    return rst.rendered(
        "playbook_variables",
        "Made by `make docs` from the tables in plugins/plugin_utils/_variables/variables.yml and _fleet/outcomes.py.",
        fleet="".join(_variable_rows(fleet)),
        names=", ".join(_per_host(fleet)),
        days=values.LONGEST_DURATION.days,
        counted=_counted(),
        owners=_owners(),
        uncovered=_uncovered(),
        outcomes="".join(_outcome_rows()),
        kilobytes=run_file.MOST_KEPT_BYTES // 1024,
        shared=listed(f"`{name}`" for name in _of(AUDIT) if name not in audit),
        per_host=listed(_per_host(audit)),
        audit="".join(_variable_rows(audit)),
        repair="".join(_variable_rows(repair)),
        shared_of_repair=listed(f"`{name}`" for name in _of(REPAIR) if name not in repair),
        per_host_of_repair=listed(_per_host(repair)),
        cluster_ca="".join(_variable_rows(rotation)),
        shared_of_cluster_ca=listed(f"`{name}`" for name in _of(CLUSTER_CA) if name not in rotation),
    )


def _of(playbooks: str) -> dict[str, Option]:
    return {name: row for name, row in PLAYBOOK_VARIABLES.items() if playbooks in row["playbooks"]}


def _uncovered() -> str:
    """Return a row for each reason of the options that no plan covers."""
    options: dict[str, list[str]] = {}
    for name, reason in UNCOVERED.items():
        options.setdefault(reason, []).append(f"`{name}`")
    return "".join(f"| {', '.join(names)} | {reason}. |\n" for reason, names in options.items())


def _variable_rows(variables: Mapping[str, Option]) -> Iterator[str]:
    for name, row in variables.items():
        yield f"| `{name}` | {row.get('default', 'none')} | {_meaning(row)} |\n"


def _meaning(row: Option) -> str:
    choices = [f"`{choice}`" for choice in row.get("choices", ())]
    is_boolean = row["type"] == "bool"
    return f"{'Boolean. ' if is_boolean else ''}{row['description']}{f' One of {listed(choices)}.' if choices else ''}"


def _per_host(variables: Mapping[str, Option]) -> list[str]:
    return [f"`{name}`" for name, row in variables.items() if row["scope"] == "host"]


def _counted() -> str:
    *most, last = (f"`{name}`" for name, status in report_schema.RUN_STATUSES.items() if status.counts)
    return f"{', '.join(most)} and {last}"


def _owners() -> str:
    return ", ".join(f"`{code}`" for code in sorted(outcomes.OF_ITS_OWNERS))


def _outcome_rows() -> Iterator[str]:
    for name, status in report_schema.RUN_STATUSES.items():
        failed, counts = ("yes" if flag else "no" for flag in (status.is_failure, status.counts))
        yield f"| `{name}` | {status.meaning} | {failed} | {counts} |\n"
