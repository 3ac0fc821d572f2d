# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the JSON Schema of reports. An independent validator judges as the parser does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_model, report_text

from tests.support.audit.reports import NOW, failed, finding, report, result, unread
from tools.ci import tree, venvs
from tools.ci.environments import ENVIRONMENTS
from tools.docs import report_schema

# Print whether each instance fits the schema.
PROGRAM = """
import json, sys
from jsonschema import Draft202012Validator
schema, instances = json.load(sys.stdin)
Draft202012Validator.check_schema(schema)
json.dump({name: Draft202012Validator(schema).is_valid(value) for name, value in instances.items()}, sys.stdout)
"""
EXCEPTED = finding(excepted={"reason": "known", "until": None}, breaks_at="2026-12-01T00:00:00Z")
AUDIT = report({"a": result(finding(), unread("x"), EXCEPTED), "b": failed(), "c": None})
RUN = report_model.envelope("run", [{"name": "a", "status": "changed"}], NOW, "1.0.0")
# Changes of an audit that make it invalid.
WRONG: dict[str, Callable[[Any], object]] = {
    "version": lambda value: value.update(format_version="2.0"),
    "kind": lambda value: value.update(kind="scan"),
    "no clusters": lambda value: value.pop("clusters"),
    "status": lambda value: value["clusters"][0].update(status="changed"),
    "name": lambda value: value["clusters"][0].update(name=None),
    "severity": lambda value: value["clusters"][0]["findings"][0].update(severity="fatal"),
    "evidence": lambda value: value["clusters"][0]["findings"][0].update(evidence="x"),
}


def without_defaults(value: Any) -> None:
    del value["notes"], value["comparison"], value["clusters"][0]["findings"][0]["state"]


def changed(change: Callable[[Any], object]) -> Any:
    value = json.loads(report_text.dump(AUDIT))
    change(value)
    return value


def test_the_validator_judges_as_the_parser_does() -> None:
    valid = {"audit": AUDIT, "run": RUN, "earlier": changed(without_defaults)}
    instances = {**valid, **{name: changed(change) for name, change in WRONG.items()}}
    venv = venvs.ensure(ENVIRONMENTS["lint"])
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-c", PROGRAM],
        input=json.dumps([report_schema.schema(), instances]),
        capture_output=True,
        text=True,
        check=True,
        env=tree.environ(venv),
    )
    assert json.loads(done.stdout) == {name: name in valid for name in instances}
    assert {name: is_read(value) for name, value in instances.items()} == {
        name: name in valid for name in instances
    }


def is_read(value: Any) -> bool:
    try:
        report_text.parse(json.dumps(value), "a")
    except report_text.InvalidReport:
        return False
    return True
