# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Find, check and read the files of reports on the controller."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.certflow.kubernetes.plugins.module_utils._errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._paths import expand
from ansible_collections.certflow.kubernetes.plugins.module_utils._text import quoted

from ._report import fields, report_text, writer
from ._report.report_text import Report

# Suffix of a file -> its format and its mode. node_exporter reads the metrics as another user.
FORMATS: dict[str, tuple[str, int]] = {
    ".html": ("html", writer.PRIVATE),
    ".json": ("json", writer.PRIVATE),
    ".md": ("markdown", writer.PRIVATE),
    ".prom": ("prometheus", writer.READABLE),
    ".xml": ("junit", writer.PRIVATE),
}
MOST_BYTES = report_text.MOST_BYTES
_SUFFIXES = ", ".join(FORMATS)


def format_of(path: str) -> str:
    """Return the format of a file by its suffix. Raises CertflowError for another suffix."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise CertflowError(
            f"the report {quoted(path)} has the suffix {quoted(suffix)}, which is not the suffix of a report format",
            remedy=f"Use a name that ends in {_SUFFIXES}",
        )
    return FORMATS[suffix][0]


def mode_of(path: str) -> int:
    """Return the mode of a new file by its suffix."""
    return FORMATS[os.path.splitext(path)[1].lower()][1]


def resolve(path: str) -> str:
    """Return the absolute path. A symbolic link is followed, so that the file is not written in its place. Raises CertflowError."""
    if "\0" in path:
        raise CertflowError(f"the path {quoted(path)} has a NUL character", remedy="Remove it")
    return os.path.realpath(expand(path))


def check_destination(path: str) -> None:
    """Raise CertflowError if a file cannot be written there. It leaves nothing behind."""
    place = resolve(path)
    format_of(place)
    writer.check_place(place)
    try:
        # The mode of a directory does not tell that its disk is full or read-only.
        with tempfile.TemporaryFile(dir=os.path.dirname(place)) as file:
            file.write(b"\n")
            file.flush()
    except OSError as error:
        raise CertflowError(
            f"the report {path} cannot be written: {_words(error)}",
            code="report-not-written",
            remedy="Free disk space, or set a path in a directory that you may write to",
        ) from error


def check_destinations(paths: Sequence[str]) -> list[CertflowError]:
    """Return the error of each destination that cannot be written."""
    errors = []
    for path in paths:
        try:
            check_destination(path)
        except CertflowError as error:
            errors.append(error)
    return errors


def read_audit(path: str) -> Report:
    """Return the report of an audit that an earlier run wrote. Raises CertflowError."""
    report = report_text.parse(read(path, "the report"), f"the report {path}")
    if report["kind"] != fields.AUDIT:
        raise CertflowError(
            f"the report {path} is not that of an audit", remedy="Use a report of the playbook audit"
        )
    return report


def read(path: str, subject: str) -> bytes:
    """Return the content of a file. Raises CertflowError if it cannot be read or is larger than MOST_BYTES.

    subject: the words for the file in the error, such as "the earlier report".
    """
    place = Path(resolve(path))
    if place.is_fifo():
        raise CertflowError(f"{subject} {path} is a pipe, which may never end", remedy="Set a regular file")
    try:
        with place.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CertflowError(
            f"{subject} {path} cannot be read: {_words(error)}", remedy="Check the path and its mode"
        ) from error
    if len(content) > MOST_BYTES:
        raise CertflowError(f"{subject} {path} is larger than {MOST_BYTES} bytes", remedy="Set another path")
    return content


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
