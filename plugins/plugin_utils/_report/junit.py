# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write the report of an audit as JUnit XML, which Jenkins, GitLab and Azure DevOps show. Pure.

A suite is a cluster. Its first test case is the audit itself, so every cluster is visible. A finding is a test case.

GitLab shows one of several test cases that have the same class and name, also if they are in different suites. So each name has the
cluster, and a number if it occurs again: https://docs.gitlab.com/ci/testing/unit_test_reports/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from ...module_utils._audit.facts.finding import ERROR, FAIL, PASS, SKIP, UNKNOWN
from . import groups, report_model, report_schema
from .report_model import Row
from .report_text import Report, short

# The characters that XML 1.0 does not allow, https://www.w3.org/TR/xml/#charsets
_INVALID = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report, fail_on: str = ERROR) -> str:
    """Return the report as JUnit XML.

    fail_on: the gate. What does not pass it is a failure. Another failed finding is in the output of its test case. Accepted findings,
        and what else could not be read, are skipped test cases.
    """
    root = ElementTree.Element("testsuites", name="certflow.kubernetes audit")
    limits = report_model.LIMITS[fail_on]
    by_cluster: dict[int, list[Row]] = {}
    for row in report_model.rows(report, FAIL, UNKNOWN, PASS, SKIP, is_excepted=None):
        by_cluster.setdefault(id(row.cluster), []).append(row)
    for cluster in report["clusters"]:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=escape(cluster["name"]),
            # The format has times without a zone.
            timestamp=str(cluster["audited_at"] or report["made_at"]).rstrip("Z"),
        )
        _add_outcome(suite, cluster)
        taken: Counter[tuple[str, str]] = Counter()
        for row in by_cluster.get(id(cluster), ()):
            name = _name(row)
            taken[row.finding["check"], name] += 1
            number = taken[row.finding["check"], name]
            case = _add_case(suite, row.finding["check"], f"{name} ({number})" if number > 1 else name)
            _fill_finding(case, report, row, limits)
        _add_numbers(suite, cluster)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def escape(text: str) -> str:
    """Return the text on one line without characters that XML does not allow. ElementTree escapes the markup."""
    return _INVALID.sub(lambda match: f"\\u{ord(match[0]):04x}", short(text))


def _add_outcome(suite: ElementTree.Element, cluster: Mapping[str, Any]) -> None:
    case = _add_case(suite, report_schema.AUDIT, cluster["name"])
    case.set("time", str(cluster["seconds"] or 0))
    if cluster["status"] == report_schema.OK:
        return
    lines = [cluster["reason"], *cluster["evidence"], cluster["remedy"]]
    _add_text(case, "error", lines, type=cluster["code"] or cluster["status"], message=cluster["reason"])


def _name(row: Row) -> str:
    subject = row.finding["object"]
    return " ".join(
        filter(None, (f"{row.cluster['name']}:", report_model.place(subject), subject["webhook"]))
    )


def _fill_finding(case: ElementTree.Element, report: Report, row: Row, limits: tuple[str, ...]) -> None:
    finding = row.finding
    check, words = report["checks"][finding["check"]], groups.Group("", (row,)).effect
    lines = [finding["cause"], words, *finding["evidence"], check["effect"], check["remedy"], check["url"]]
    excepted = finding["excepted"]
    if excepted:
        _add_text(case, "skipped", (), message=f"accepted: {excepted['reason']}")
    elif report_model.is_refused(finding, limits):
        breaks = [f"breaks at {finding['breaks_at']}"] if finding["breaks_at"] else []
        _add_text(case, "failure", [*breaks, *lines], type=finding["severity"], message=finding["cause"])
    elif finding["status"] in (UNKNOWN, SKIP):
        _add_text(case, "skipped", (), message=finding["cause"])
    elif finding["status"] == FAIL:
        _add_text(case, "system-out", [f"{finding['severity']}: {finding['cause']}", *finding["evidence"]])


def _add_case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=escape(group), name=escape(name))


def _add_text(case: ElementTree.Element, tag: str, lines: Any, **attributes: str) -> None:
    element = ElementTree.SubElement(case, tag, {key: escape(value) for key, value in attributes.items()})
    element.text = "\n".join(escape(line) for line in lines if line) or None


def _add_numbers(suite: ElementTree.Element, cluster: Mapping[str, Any]) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("time", str(cluster["seconds"] or 0))
