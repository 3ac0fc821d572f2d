# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of reports, made from the tables of their fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import fields
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.fields import Field

from tools.ci.venvs import REPOSITORY
from tools.docs import rst

PATH = REPOSITORY / "plugins" / "plugin_utils" / "_report" / "report.schema.json"
_TIME = {"type": "string", "format": "date-time"}
_TYPES: Mapping[str, dict[str, Any]] = {
    fields.TEXT: {"type": "string"},
    fields.TEXTS: {"type": "array", "items": {"type": "string"}},
    fields.TIME: _TIME,
    fields.INTEGER: {"type": "integer"},
    fields.NUMBER: {"type": "number"},
    fields.FLAG: {"type": "boolean"},
    fields.NUMBERS: {"type": "object", "additionalProperties": {"type": "number"}},
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema. A key that it does not name is allowed, because a later minor version may add it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{rst.FILES}{PATH.relative_to(REPOSITORY)}",
        "title": "Report of certflow.kubernetes",
        "oneOf": [_report(kind) for kind in fields.KINDS],
    }


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _report(kind: str) -> dict[str, Any]:
    shape = _object(fields.REPORT, kind)
    major = fields.FORMAT_VERSION.partition(".")[0]
    shape["title"] = f"Report of kind {kind}"
    shape["properties"]["format_version"] = {"type": "string", "pattern": rf"^{major}\.[0-9]+$"}
    shape["properties"]["kind"] = {"const": kind}
    statuses = fields.AUDIT_STATUSES if kind == fields.AUDIT else fields.RUN_STATUSES
    shape["properties"]["clusters"]["items"]["properties"]["status"]["enum"] = list(statuses)
    return shape


def _object(rows: tuple[Field, ...], kind: str) -> dict[str, Any]:
    own = fields.of_kind(rows, kind)
    shape: dict[str, Any] = {
        "type": "object",
        "properties": {row.name: _field(row, kind) for row in own},
    }
    required = [row.name for row in own if row.is_required]
    return {**shape, "required": required} if required else shape


def _field(row: Field, kind: str) -> dict[str, Any]:
    if row.type == fields.OBJECT:
        shape = _object(row.fields, kind)
    elif row.type == fields.OBJECTS:
        shape = {"type": "array", "items": _object(row.fields, kind)}
    elif row.type == fields.MAP:
        shape = {"type": "object", "additionalProperties": _object(row.fields, kind)}
    else:
        shape = dict(_TYPES[row.type])
    if row.choices:
        shape["enum"] = list(row.choices)
    if row.is_nullable:
        shape["type"] = [shape["type"], "null"]
    return {"description": row.meaning.replace("`", ""), **shape}
