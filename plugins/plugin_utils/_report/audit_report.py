# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Build, compare, render and write reports for audit_report, without contact to a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ...module_utils._ansible.operation import VERSION, failed_result
from ...module_utils._base.errors import CertflowError, as_error
from ...module_utils._base.text import harmless, quoted
from . import (
    audit_summary,
    compare,
    job_report,
    report_files,
    report_model,
    report_text,
)
from .report_text import Report

SPEC: dict[str, Any] = {
    "registered": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "compare_with": {"type": "path"},
    "dest": {"type": "list", "elements": "path", "default": []},
    "mode": {"type": "str"},
    "fail_on": {"type": "str", "choices": list(report_model.GATES), "default": "error"},
}


def run(parameters: Mapping[str, Any], results: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module. Raises CertflowError before anything is written.

    parameters: the validated options.
    results: inventory host -> its result of audit_info.
    """
    mode = _mode(parameters["mode"])
    before = report_files.read_audit(parameters["compare_with"]) if parameters["compare_with"] else None
    for path in parameters["dest"]:
        # Only the trial before an audit may end it: a file that cannot be written does not keep the others.
        if check_mode:
            report_files.check_destination(path)
        else:
            report_files.format_of(path)
    report = report_model.build_audit(results, datetime.now(timezone.utc), VERSION)
    report = report_model.note_duplicates(report)
    if before:
        report = compare.compare(report, before)
    files, lines, errors = _deliver(report, parameters, mode, check_mode=check_mode)
    failed = report_model.gate(report, parameters["fail_on"])
    problems = [str(error) for error in errors]
    return {
        **(failed_result(errors[0]) if errors else {}),
        "changed": any(file["changed"] for file in files),
        "counts": report_model.counts(report),
        "failed_clusters": failed,
        # By the names of the inventory. The report may show a name in another form.
        "failed_hosts": {
            host: failed[name] for host in results if (name := report_text.short(host)) in failed
        },
        "files": files,
        "problems": problems,
        "summary": audit_summary.lines(report, lines, problems),
        "artifact": audit_summary.artifact(report, failed),
        "job_report": harmless(job_report.make("audit", check_mode, audit_summary.outcomes(report, failed))),
    }


def _mode(text: str | None) -> int | None:
    if not text:
        return None
    # YAML reads 0640 without quotes as the number 416, which is another octal mode.
    if text[0] != "0" or not text.isdigit() or not set(text) <= set("01234567") or int(text, 8) > 0o777:
        raise CertflowError(
            f"the option mode has the value {quoted(text)}, which is not an octal mode with a leading zero",
            remedy="Set it in quotes, such as '0640'. YAML reads such a number without quotes as another one",
        )
    return int(text, 8)


def _deliver(
    report: Report,
    parameters: Mapping[str, Any],
    mode: int | None,
    *,
    check_mode: bool,
) -> tuple[list[dict[str, Any]], list[str], list[CertflowError]]:
    """Write each file. Return the files, lines for the summary, and errors. A file that fails does not keep the others from being written."""
    files, lines, errors = [], [], []
    for path in parameters["dest"]:
        form = report_files.format_of(path)
        row = {"path": path, "format": form.name, "changed": not check_mode}
        files.append(row)
        try:
            row["path"] = place = report_files.resolve(path)
            if check_mode:
                lines.append(f"check mode: {place} was not written")
                continue
            text = form.render(report, parameters["fail_on"])
            report_files.write(place, text, mode or form.mode, is_exact=bool(mode))
            lines.append(f"written: {place}")
        except Exception as error:  # a defect in one format must not lose the other files
            row["changed"] = False
            errors.append(as_error(error))
    return files, lines, errors
