# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read and write a report. Every report that this collection builds, reads or compares is normalised here. Pure.

A normalised report has every key of the tables of its kind, and no other key. Its texts have one line, a bounded length and no
hidden characters. They are still foreign text, so each format escapes them in its own way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ...module_utils._base.errors import CertflowError
from ...module_utils._base.text import LONGEST_TEXT, mask_login, quoted, shortened, visible
from ...module_utils._base.times import find_time, format_time
from . import report_schema
from .report_schema import Field

Report = dict[str, Any]

#: A report of 1,000 clusters with 40 findings each has about 30 MB.
MOST_BYTES = 64 * 1024 * 1024
#: Links of a report lead only to pages of this site.
SITE = "https://certflow.github.io/certflow.kubernetes/"
_LARGEST = 10**15
_REMEDY = "Use a file that the playbook audit or the module audit_report wrote"


class InvalidReport(CertflowError):
    """A text is not a report that this version reads."""

    code = "invalid-report"


class _WrongValue(Exception):
    """A value of a report has the wrong type. path: its place. wanted: what it must be."""

    def __init__(self, path: str, wanted: str) -> None:
        super().__init__(path)
        self.path = path
        self.wanted = wanted


def parse(text: str | bytes, where: str) -> Report:
    """Return the report of a JSON text. where: the file for messages. Raises InvalidReport."""
    if len(text) > MOST_BYTES:
        raise InvalidReport(f"{where} is larger than {MOST_BYTES // 1024**2} MiB", remedy=_REMEDY)
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidReport(f"{where} is not a text in UTF-8", remedy=_REMEDY) from None
    except json.JSONDecodeError as error:
        cause = f"{where} is not whole JSON (line {error.lineno}, column {error.colno})"
        raise InvalidReport(
            cause,
            remedy="Use the report whose name ends in .json. If this is that file, copy it or make it again",
        ) from None
    except (RecursionError, ValueError) as error:
        raise InvalidReport(
            f"{where} has values that no report has ({type(error).__name__})", remedy=_REMEDY
        ) from None
    return normalise(value, where)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def dump(report: Mapping[str, Any]) -> str:
    """Return the JSON text of a report. It has only ASCII characters."""
    return json.dumps(report, indent=1) + "\n"


def normalise(value: Any, where: str) -> Report:
    """Return a report with all keys of its kind and no other key. Raises InvalidReport. where: the source for messages."""
    if not isinstance(value, dict) or "format_version" not in value or "clusters" not in value:
        raise InvalidReport(f"{where} is not a report of this collection", remedy=_REMEDY)
    version = value["format_version"]
    major = report_schema.FORMAT_VERSION.partition(".")[0]
    if not isinstance(version, str) or version.partition(".")[0] != major:
        raise InvalidReport(
            f"{where} has the format version {quoted(version)}, and this release of the collection reads {major}.x",
            remedy="Use the release of the collection that wrote the file, or make the report again",
        )
    kind = value.get("kind")
    try:
        report = _object(
            {**value, "format_version": report_schema.FORMAT_VERSION}, report_schema.REPORT, str(kind), ""
        )
    except _WrongValue as error:
        place = error.path.lstrip(".")
        raise InvalidReport(f"{where}: {visible(place)} is not {error.wanted}", remedy=_REMEDY) from None
    return _with_checks(_with_statuses(report, where))


def _with_statuses(report: Report, where: str) -> Report:
    statuses = report_schema.STATUSES_OF[report["kind"]]
    for cluster in report["clusters"]:
        if cluster["status"] not in statuses:
            raise InvalidReport(
                f"{where}: cluster {cluster['name']} has the status {quoted(cluster['status'])}, which does not exist",
                remedy=_REMEDY,
            )
    return report


def _with_checks(report: Report) -> Report:
    """Complete the table of checks, so that every finding has a row. Remove links to other sites."""
    if report["kind"] != report_schema.AUDIT:
        return report
    checks = report["checks"]
    for cluster in report["clusters"]:
        for finding in cluster["findings"]:
            if finding["check"] not in checks:
                checks[finding["check"]] = _object({"title": finding["check"]}, report_schema.CHECK, "", "")
    for row in checks.values():
        if not is_own_link(row["url"]):
            row["url"] = ""
    return report


def is_own_link(url: str) -> bool:
    """Return True for an address of the site of this collection that needs no escape in any format."""
    rest = url[len(SITE) :]
    return (
        url.startswith(SITE)
        and rest.isascii()
        and all(character.isalnum() or character in "/._-#" for character in rest)
    )


def _object(value: Any, rows: tuple[Field, ...], kind: str, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _WrongValue(path, "an object")
    found = {}
    for row in rows:
        if row.kind and row.kind != kind:
            continue
        if row.name in value:
            found[row.name] = _value(value[row.name], row, kind, f"{path}.{row.name}")
        elif row.is_required:
            raise _WrongValue(f"{path}.{row.name}", "there")
        else:
            found[row.name] = _default(row, kind)
    return found


def _value(value: Any, row: Field, kind: str, path: str) -> Any:
    if row.is_nullable and (value is None or (row.type == report_schema.OBJECT and not value)):
        return None
    result = _READERS[row.type](value, row, kind, path)
    if row.choices and result not in row.choices:
        raise _WrongValue(path, f"one of {', '.join(filter(None, row.choices))}")
    return result


def _default(row: Field, kind: str) -> Any:
    if row.is_nullable:
        return None
    return _object({}, row.fields, kind, "") if row.type == report_schema.OBJECT else _DEFAULTS[row.type]()


def _text(value: Any, _row: Field, _kind: str, path: str) -> str:
    if not isinstance(value, str):
        raise _WrongValue(path, "a text")
    return short(value)


def short(text: str) -> str:
    """Return a text on one line, shortened and without hidden characters."""
    is_plain = len(text) <= LONGEST_TEXT and text.isascii() and text.isprintable()
    return text if is_plain and "  " not in text and text == text.strip(" ") else shortened(text)


def cause_of(result: Mapping[str, Any], default: str = "") -> str:
    """Return the cause of a failed result. A message of Ansible may quote anything, such as a URL with its login, and is masked."""
    return str(result.get("cause") or mask_login(str(result.get("msg") or default)))


def _time(value: Any, _row: Field, _kind: str, path: str) -> str:
    moment = find_time(value)
    if moment is None:
        raise _WrongValue(path, "a time of RFC 3339")
    return format_time(moment)


def _integer(value: Any, _row: Field, _kind: str, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise _WrongValue(path, "a whole number")
    return value


def _number(value: Any, _row: Field, _kind: str, path: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or abs(value) > _LARGEST or not math.isfinite(value):
        raise _WrongValue(path, "a number")
    return value if isinstance(value, int) else float(value)


def _flag(value: Any, _row: Field, _kind: str, path: str) -> bool:
    if not isinstance(value, bool):
        raise _WrongValue(path, "true or false")
    return value


def _items(value: Any, path: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _WrongValue(path, "a list")
    return list(value)


def _objects(value: Any, row: Field, kind: str, path: str) -> list[dict[str, Any]]:
    return [
        _object(item, row.fields, kind, f"{path}[{number}]")
        for number, item in enumerate(_items(value, path))
    ]


def _entries(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _WrongValue(path, "an object")
    return value


def _map(value: Any, row: Field, kind: str, path: str) -> dict[str, Any]:
    entries = _entries(value, path).items()
    return {short(key): _object(item, row.fields, kind, f"{path}.{key}") for key, item in entries}


def _numbers(value: Any, row: Field, kind: str, path: str) -> dict[str, Any]:
    return {short(key): _number(item, row, kind, path) for key, item in _entries(value, path).items()}


_READERS: Mapping[str, Callable[[Any, Field, str, str], Any]] = {
    report_schema.TEXT: _text,
    report_schema.TEXTS: lambda value, row, kind, path: [
        _text(item, row, kind, path) for item in _items(value, path)
    ],
    report_schema.TIME: _time,
    report_schema.INTEGER: _integer,
    report_schema.NUMBER: _number,
    report_schema.FLAG: _flag,
    report_schema.OBJECT: lambda value, row, kind, path: _object(value, row.fields, kind, path),
    report_schema.OBJECTS: _objects,
    report_schema.MAP: _map,
    report_schema.NUMBERS: _numbers,
}
_DEFAULTS: Mapping[str, Callable[[], Any]] = {
    report_schema.TEXT: str,
    report_schema.TEXTS: list,
    report_schema.FLAG: bool,
    report_schema.OBJECTS: list,
    report_schema.MAP: dict,
    report_schema.NUMBERS: dict,
}
