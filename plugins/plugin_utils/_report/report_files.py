# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find, check, read and write the files of reports on the controller."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from ...module_utils._base import paths
from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import quoted, visible
from . import html, junit, prometheus, report_schema, report_text
from .report_text import Report

#: node_exporter runs as a user of its own, and must read the file.
READABLE = 0o644
PRIVATE = 0o600


def write(path: str, text: str, mode: int = PRIVATE, **options: bool) -> None:
    """Write a file whole, with the options of ``paths.write``. Raises CertflowError. The old file is then unchanged."""
    try:
        paths.write(path, text.encode("utf-8", "backslashreplace"), mode, **options)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str, error: OSError) -> CertflowError:
    """Return the error of a report that cannot be written."""
    return CertflowError(
        f"the report {path} cannot be written: {error.strerror}",
        code="report-not-written",
        remedy="Set a path in a folder that only you may write to. If the disk is full, free space",
    )


class ReportFormat(NamedTuple):
    """A format of reports."""

    name: str
    #: Makes the text from a report and the option fail_on.
    render: Callable[[Report, str], str]
    #: The mode of a new file.
    mode: int = PRIVATE


#: Suffix of a file -> its format. node_exporter reads the metrics as another user.
FORMATS: dict[str, ReportFormat] = {
    ".html": ReportFormat("html", lambda report, _fail_on: html.render(report)),
    ".json": ReportFormat("json", lambda report, _fail_on: report_text.dump(report)),
    ".prom": ReportFormat("prometheus", lambda report, _fail_on: prometheus.render(report), READABLE),
    ".xml": ReportFormat("junit", junit.render),
}


def format_of(path: str) -> ReportFormat:
    """Return the format of a file by its suffix. Raises CertflowError for another suffix."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise CertflowError(
            f"the report {quoted(path)} has the suffix {quoted(suffix)}, which is not the suffix of a report format",
            remedy=f"Use a name that ends in {', '.join(FORMATS)}",
        )
    return FORMATS[suffix]


def resolve(path: str) -> str:
    """Return the absolute path without links. Raises CertflowError for a link that another user may have made."""
    if "\0" in path:
        raise CertflowError(f"the path {quoted(path)} has a NUL character", remedy="Remove it")
    try:
        return paths.resolve(paths.expand(path))
    except OSError as error:
        raise unwritable(path, error) from error


def check_destination(path: str) -> None:
    """Raise CertflowError if a file cannot be written there. It leaves nothing behind."""
    place = resolve(path)
    format_of(place)
    # The mode of a folder does not tell that its disk is full or read-only.
    write(place, "\n", is_trial=True)


def read_audit(path: str) -> Report:
    """Return the report of an audit that an earlier run wrote. Raises CertflowError."""
    return check_audit(
        report_text.parse(read(path, "the report"), f"the report {path}"), f"the report {path}"
    )


def check_audit(report: Report, where: str) -> Report:
    """Return the report of an audit. Raises CertflowError for another report. where: the source for the message."""
    if report["kind"] != report_schema.AUDIT:
        raise CertflowError(f"{where} is not that of an audit", remedy="Use a report of the playbook audit")
    return report


def read(path: str, subject: str) -> bytes:
    """Return the content of a regular file. Raises CertflowError if it cannot be read or is too large.

    subject: the words for the file in the error, such as "the earlier report".
    """
    try:
        return paths.read(paths.expand(path), report_text.MOST_BYTES)
    except (OSError, ValueError) as error:  # a ValueError for a NUL character
        cause = getattr(error, "strerror", None) or error
        raise CertflowError(
            f"{subject} {visible(path)} cannot be read: {cause}", remedy="Set the path of a regular file"
        ) from error
