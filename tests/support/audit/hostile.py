# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile texts of a cluster, and a report that has one of them in every field that a cluster can fill.

The report is not normalised, so that each format has to escape what it gets.
"""

from __future__ import annotations

import functools
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.text import is_hidden
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import compare, report_model
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

from tests.support.audit.reports import LIMITS, NOW, failed, finding, report, result, unread

#: A text without any special character. Each format shows the same structure for it and for every hostile text.
PLAIN = "plain"
HOSTILE: dict[str, str] = {
    "script": "<script>alert(1)</script>",
    "end of a script": "</script></style><img src=x onerror=alert(1)>",
    "comment": "--><!-- <!DOCTYPE html>",
    "attribute": "\"'><a href=javascript:alert(1) onclick=alert(1) style=x>a</a>",
    "entities": "&lt;b&gt; &amp; &#60;b&#62; &nbsp;",
    "template": "{{ 7 * 7 }} {% for x in lookup('pipe', 'id') %} {# x #} ${7*7} #{7*7}",
    "header of a template": "#jinja2:variable_start_string:'[%',variable_end_string:'%]'\n[% lookup('pipe', 'id') %] #jinja2: x",
    "tag of YAML": "!unsafe '{{ 7 * 7 }}' !vault | $ANSIBLE_VAULT;1.1;AES256",
    "__ansible_unsafe": "__ansible_unsafe",
    "__ansible_vault": "__ansible_vault",
    "__ansible_type": "__ansible_type",
    "code span": "a ` b `` c ``` d `",
    "link": "[a](javascript:alert(1)) ![a](https://example.com/x.png) <https://example.com>",
    "bare address": "https://example.com/?a=b www.example.com javascript:alert(1)",
    "table": "| a | b |\n|---|---|\n| c | d | \\| \\",
    "heading": "# a\n\n## b\n- c\n> d\n***\n/close\n1. e",
    "mention": "@all @channel <!channel> <@U1> group/project#1 !1 :boom:",
    "emphasis": "**a** __b__ ~~c~~ _d_ *e*",
    "label": '",severity="error"} 1\ncertflow_up 1\n# HELP x y\n\\n \\',
    "backslashes": "\\ \\\\ \\\" \\' \\n \\x41",
    "CDATA": "]]> <![CDATA[ x ]]> <?xml version='1.0'?> <!ENTITY x SYSTEM 'file:///etc/passwd'> &x;",
    "control characters": "a\x00b\x07c\x1b[31md\x7fe\x85f\rg\th",
    "title of a terminal": "\x1b]0;a\x07\x1b]8;;https://example.com\x1b\\b\x1b]8;;\x1b\\\x1b[2J\x1b[1A",
    "C1 controls": "\x9b31ma\x9d0;b\x9c\x90c\x84d\x8de",
    "another line of the log": 'a\r\nfatal: [prod]: FAILED! => {"msg": "b"}\nok: [prod]\n\nPLAY RECAP ***\nprod : ok=1\x0bc\x0cd',
    "not XML": "a\ufffeb\uffffc\U0001fffed",
    "bidirectional": "a\u202eb\u2066c\u200fd\u061ce",
    "invisible": "a\u200bb\ufeffc\u2028d\u2029e\u00adf\u3164g\U000e0041h",
    "surrogates": "a\ud800b\udfffc",
    "spaces": "  a  \n\n  b  ",
    "long": '<&|`"' * 2000,
    "letters": "\u00e4 \u0436 \u4e2d \u05d0 \U0001f600 a\u0301",
}
_MARK = "certflow-hostile"


def audit(text: str) -> Report:
    """Return the report of an audit with the text in every field that is free text."""
    replaced: Report = _replace(_audit(), text)
    return replaced


@functools.cache
def _audit() -> Report:
    """Return the report with the mark in these fields."""
    audit_finding = finding(
        "expiring", name=_MARK, kind=_MARK, namespace=_MARK, webhook=_MARK, uid=_MARK, cause=_MARK, evidence=[_MARK],
        manager=_MARK, fingerprint=_MARK, breaks_at="2026-12-01T00:00:00Z",
    )  # fmt: skip
    unknown = unread(_MARK, permissions=[_MARK], name=_MARK, cause=_MARK, evidence=[_MARK])
    accepted = {**audit_finding, "fingerprint": "2", "excepted": {"reason": _MARK, "until": None}}
    exception = {"check": _MARK, "clusters": [_MARK], "objects": [_MARK], "reason": _MARK, "until": None,
                 "state": "unused", "findings": 0}  # fmt: skip
    checks = {_MARK: dict.fromkeys(("title", "category", "severity", "effect", "remedy", "url"), _MARK)}
    values = {
        "checks": checks,
        "kubernetes_version": _MARK,
        "exceptions": [exception],
        "limits": LIMITS,
    }
    here = result(
        *({**row, "check": _MARK} for row in (audit_finding, unknown, accepted)),
        uid=_MARK,
        counters={_MARK: 1},
        **values,
    )
    gone = {**audit_finding, "check": _MARK, "fingerprint": "3"}
    lost = failed("unreachable", cause=_MARK, evidence=[_MARK], remedy=_MARK)
    made = compare.compare(
        report({_MARK: here, f"2-{_MARK}": lost}), report({_MARK: result(gone, uid=_MARK)})
    )
    made["notes"] = [_MARK]
    return made


def run(text: str) -> Report:
    """Return the report of a run with the text in every field that is free text."""
    replaced: Report = _replace(_run(), text)
    return replaced


@functools.cache
def _run() -> Report:
    """Return the report with the mark in these fields."""
    keys = ("uid", "code", "reason", "remedy", "stage", "before", "after", "signer", "provider", "task")
    cluster = {
        **dict.fromkeys(keys, _MARK),
        "evidence": [_MARK],
        "steps": [{"id": _MARK, "hop": _MARK, "changed": True}],
    }
    clusters = [
        {**cluster, "name": f"{status}-{_MARK}", "status": status, "not_after": "2027-01-01T00:00:00Z"}
        for status in ("changed", "failed")
    ]
    return report_model.envelope(
        "run", clusters, NOW, "1.0.0", run={"id": _MARK, "role": _MARK, "plan": _MARK}, notes=[_MARK]
    )


def _replace(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value.replace(_MARK, text)
    if isinstance(value, list):
        return [_replace(item, text) for item in value]
    if isinstance(value, dict):
        return {_replace(key, text): _replace(item, text) for key, item in value.items()}
    return value


def hidden_characters(rendered: str) -> str:
    """Return the hidden characters of a rendered report. A line feed is not one of them."""
    return "".join(sorted({character for character in rendered if is_hidden(character)} - {"\n"}))
