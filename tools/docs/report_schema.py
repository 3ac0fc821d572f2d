# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of reports, made from the tables of their fields. The documentation site has it as a file.

`python3 -m tools.ci.enter dev -m tools.docs.report_schema FILE` writes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_schema import Field

_TIME = {"type": "string", "format": "date-time"}
_TYPES: Mapping[str, dict[str, Any]] = {
    report_schema.TEXT: {"type": "string"},
    report_schema.TEXTS: {"type": "array", "items": {"type": "string"}},
    report_schema.TIME: _TIME,
    report_schema.INTEGER: {"type": "integer"},
    report_schema.NUMBER: {"type": "number"},
    report_schema.FLAG: {"type": "boolean"},
    report_schema.NUMBERS: {"type": "object", "additionalProperties": {"type": "number"}},
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema. A key that it does not name is allowed, because a later minor version may add it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:certflow-kubernetes:report:{report_schema.FORMAT_VERSION.partition('.')[0]}",
        "title": "Report of certflow.kubernetes",
        "oneOf": [_report(kind) for kind in report_schema.KINDS],
    }


def _report(kind: str) -> dict[str, Any]:
    shape = _object(report_schema.REPORT, kind)
    major = report_schema.FORMAT_VERSION.partition(".")[0]
    shape["title"] = f"Report of kind {kind}"
    shape["properties"]["format_version"] = {"type": "string", "pattern": rf"^{major}\.[0-9]+$"}
    shape["properties"]["kind"] = {"const": kind}
    shape["properties"]["clusters"]["items"]["properties"]["status"]["enum"] = [
        *report_schema.STATUSES_OF[kind]
    ]
    return shape


def _object(rows: tuple[Field, ...], kind: str) -> dict[str, Any]:
    own = report_schema.of_kind(rows, kind)
    shape: dict[str, Any] = {
        "type": "object",
        "properties": {row.name: _field(row, kind) for row in own},
    }
    required = [row.name for row in own if row.is_required]
    return {**shape, "required": required} if required else shape


def _field(row: Field, kind: str) -> dict[str, Any]:
    if row.type == report_schema.OBJECT:
        shape = _object(row.fields, kind)
    elif row.type == report_schema.OBJECTS:
        shape = {"type": "array", "items": _object(row.fields, kind)}
    elif row.type == report_schema.MAP:
        shape = {"type": "object", "additionalProperties": _object(row.fields, kind)}
    else:
        shape = dict(_TYPES[row.type])
    if row.choices:
        shape["enum"] = list(row.choices)
    if row.is_nullable:
        shape["type"] = [shape["type"], "null"]
    return {"description": row.meaning.replace("`", ""), **shape}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(schema(), indent=2) + "\n")
