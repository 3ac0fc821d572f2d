# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the findings that a run of the playbook repair may repair, from the report of an audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...module_utils._audit.facts.finding import FAIL
from ...module_utils._errors import CertflowError
from ...module_utils._repair import kinds
from .._report import report_files, report_schema, report_text
from .._variables.values import is_blank

NAME = "certflow_findings"
#: The statuses of clusters whose findings an audit has read.
READ = (report_schema.OK, report_schema.INCOMPLETE)

#: Host -> the fingerprints of its findings. A host that the audit did not read is not in it.
Findings = Mapping[str, list[str]]


def find_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with certflow_findings, one line each. It reads the file."""
    try:
        read(value)
    except CertflowError as error:
        yield f"{NAME}: {error}"


def read(value: Any) -> Findings | None:
    """Return the findings of each cluster that a kind of repair answers and no exception accepts, None if certflow_findings is not set.

    value: the path of a report, or its content.

    Raises CertflowError.
    """
    if is_blank(value):
        return None
    where, text = f"the value of {NAME}", str(value).strip()
    if isinstance(value, Mapping):
        report = report_files.check_audit(report_text.normalise(value, where), where)
    elif text.startswith("{"):
        report = report_files.check_audit(report_text.parse(text, where), where)
    else:
        report = report_files.read_audit(text)
    return {
        cluster["name"]: [
            finding["fingerprint"]
            for finding in cluster["findings"]
            if finding["status"] == FAIL and not finding["excepted"] and finding["check"] in kinds.CHECKS
        ]
        for cluster in report["clusters"]
        if cluster["status"] in READ
    }
