# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""audit_info: audit every webhook, conversion, aggregated API, stuck CSR and the login of a cluster. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from .._ansible import argument_specs
from .._ansible.operation import Operation
from .._audit import audit_result, gather
from .._audit.facts.cluster_data import DECLARABLE, AuditOptions
from .._base.errors import CertflowError
from .._base.result import Result
from .._base.text import quoted, suggestion
from .._csr import ca_rotation
from .._kube import access_review
from .._kube.client import Client
from .._snapshot.release import release_table

MOST_DAYS = 36500
#: The seconds after wait_timeout for requests that have begun. Ansible's timeout would lose what was read.
READING_SECONDS = 2.0
#: The memory for all lists of an audit. Many forks audit at once.
LIST_MEMORY = 64 * 1024 * 1024

SPEC: dict[str, Any] = {
    "probe_urls": {"type": "bool", "default": False},
    "without": {"type": "list", "elements": "str", "default": []},
    "endpoints_per_service": {"type": "int", "default": 10},
    "previous_counters": {"type": "dict"},
    "snapshot_version": {"type": "str"},
    "certificate_authorities": {"type": "dict"},
    "ca_break_days": {"type": "int", "default": 30},
    "cluster_name": {"type": "str", "default": ""},
    "exceptions": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "check": {"type": "str", "required": True},
            "clusters": {"type": "list", "elements": "str", "default": ["*"]},
            "objects": {"type": "list", "elements": "str", "default": ["*"]},
            "reason": {"type": "str", "required": True},
            "until": {"type": "str", "required": True},
        },
    },
    "include_passed": {"type": "bool", "default": False},
    **argument_specs.AUTH,
}


def run(client: Client, parameters: Mapping[str, Any], _check_mode: bool) -> Result:
    """Audit the cluster. Raises CertflowError."""
    options = parse_options(parameters)
    accepted = audit_result.parse_exceptions(parameters["exceptions"])
    client.list_memory = LIST_MEMORY
    data = gather.gather(client, options)
    values = audit_result.build(
        data,
        include_passed=parameters["include_passed"],
        accepted=accepted,
        cluster_names=(parameters["cluster_name"], parameters["cluster_uid"] or ""),
    )
    values["limits"] = {
        "without": list(options.without),
        "probe_urls": options.probe_urls,
        "endpoints_per_service": options.endpoints_per_service,
        "endpoints_left_out": data.endpoints_left_out,
    }
    lacks = any(finding["permissions"] for finding in values["findings"])
    values["remedy"] = access_review.grant("audit") if lacks else ""
    values["traffic"] = dict(data.traffic)
    return Result(changed=False, values=values)


def parse_options(parameters: Mapping[str, Any]) -> AuditOptions:
    """Return the options of the audit. Raises CertflowError for a value that is not valid."""
    for option, least, most in (("endpoints_per_service", 1, None), ("ca_break_days", 0, MOST_DAYS)):
        value = parameters[option]
        if value < least or (most and value >= most):
            raise CertflowError(
                f"the option {option} has the value {value}",
                remedy=f"Set {option} to {least} or more{f', and less than {most}' if most else ''}",
            )
    counters = parameters["previous_counters"]
    wrong = [name for name, value in (counters or {}).items() if not _is_number(value)]
    if wrong:
        raise CertflowError(
            f"the option previous_counters has a value for {wrong[0]} that is not a number",
            remedy="Set it to the result counters of an earlier audit",
        )
    previous = None if counters is None else {name: float(value) for name, value in counters.items()}
    version = parameters["snapshot_version"]
    return AuditOptions(
        probe_urls=parameters["probe_urls"],
        endpoints_per_service=parameters["endpoints_per_service"],
        snapshot_release=release_table.target(version) if version else None,
        without=_parse_without(parameters["without"]),
        eks_cas=tuple(ca_rotation.parse_eks_cas(parameters["certificate_authorities"] or {})),
        ca_break_within=timedelta(days=parameters["ca_break_days"]),
        previous_counters=previous,
    )


def _parse_without(words: Sequence[str]) -> tuple[str, ...]:
    for word in words:
        if word not in DECLARABLE:
            raise CertflowError(
                f"the option without has the entry {quoted(word)}, which does not exist",
                remedy=suggestion(word, DECLARABLE) or f"Its entries are {', '.join(DECLARABLE)}",
            )
    return tuple(dict.fromkeys(words))


def _is_number(value: object) -> bool:
    try:
        return float(str(value)) >= 0
    except ValueError:
        return False


OPERATION = Operation(
    name="audit_info",
    overtime=READING_SECONDS,
    argument_spec=SPEC,
    run=run,
    roles=lambda _parameters: ("audit",),
    is_timed=True,
)
