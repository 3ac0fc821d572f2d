# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read certflow_exceptions, which accept findings and what a run leaves undone for a limited time. It reads the file that a variable names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ...module_utils._base.errors import CertflowError
from .._report import report_files
from .._variables.check_variables import check_value
from .._variables.values import is_blank, listed

NAME = "certflow_exceptions"
_LISTS = ("clusters", "objects")


def read(value: Any) -> list[dict[str, Any]]:
    """Return the exceptions of a list or of a YAML file, for the option of audit_info. Raises CertflowError."""
    if is_blank(value):
        return []
    from ...module_utils._audit import audit_result  # noqa: PLC0415  # only a run with exceptions loads the checks

    entries, where = value, "the variable certflow_exceptions"
    if isinstance(value, str):
        where = f"the file {value} of certflow_exceptions"
        entries = load(value, where)
    if not isinstance(entries, (list, tuple)):
        raise CertflowError(f"{where} is not a list", remedy="Write a list of exceptions")
    rows = [_exception(entry, f"entry {number} of {where}") for number, entry in enumerate(entries, 1)]
    try:
        audit_result.parse_exceptions(rows)
    except CertflowError as error:
        cause = error.cause.replace("the option exceptions", where)
        raise CertflowError(cause, remedy=error.remedy) from error
    return rows


def _exception(entry: Any, where: str) -> dict[str, Any]:
    from ...module_utils._operations import audit_info  # noqa: PLC0415

    spec = {**audit_info.SPEC["exceptions"], "type": "dict"}
    if isinstance(entry, Mapping):
        # YAML reads a date as a date.
        entry = {str(key): item if key in _LISTS else str(item or "") for key, item in entry.items()}
    problems = [*check_value(where, spec, entry)]
    if problems:
        cause, _separator, remedy = problems[0].partition(". ")
        keys = listed(key for key, row in spec["options"].items() if row.get("required"))
        raise CertflowError(cause.rstrip("."), remedy=remedy.rstrip(".") or f"Write {keys} for each entry")
    return {key: _texts(item) if key in _LISTS else item for key, item in entry.items()}


def _texts(value: Any) -> list[str]:
    """Return the patterns of a key. A key without a value has no pattern, which is refused as an empty list is."""
    if value is None:
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    return [str(item) for item in items]


def load(path: str, where: str) -> Any:
    """Return the content of a YAML file. where: the file in messages. Raises CertflowError."""
    content = report_files.read(path, f"{where}:")
    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe loader
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise CertflowError(f"{where} is not valid YAML{line}", remedy="Correct the file") from None
