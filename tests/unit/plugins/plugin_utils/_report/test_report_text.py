# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports that are read from files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_schema, report_text

from tests.support.audit.reports import failed, finding, report, result, unread
from tests.support.failures import fails

pytestmark = pytest.mark.quick

MADE = report({"a": result(finding(), unread("deadlock")), "b": failed()})
TEXT = report_text.dump(MADE)


def changed(change: Callable[[Any], object]) -> str:
    """Return the text of a report after a change of its data."""
    value = json.loads(TEXT)
    change(value)
    return json.dumps(value)


def cluster(**values: Any) -> str:
    return changed(lambda value: value["clusters"][0].update(values))


def first_finding(**values: Any) -> str:
    return changed(lambda value: value["clusters"][0]["findings"][0].update(values))


def test_a_report_is_read_as_it_was_written() -> None:
    assert report_text.parse(TEXT, "a.json") == MADE
    assert report_text.parse(TEXT.encode(), "a.json") == MADE


def test_unknown_keys_of_a_later_minor_version_are_ignored() -> None:
    def add(value: Any) -> None:
        value.update(format_version="1.7", later={"x": 1})
        value["clusters"][0]["later"] = 1
        value["clusters"][0]["findings"][0]["object"]["later"] = []

    assert report_text.parse(changed(add), "a.json") == MADE


def test_keys_that_an_earlier_minor_version_does_not_have_get_their_defaults() -> None:
    def remove(value: Any) -> None:
        for key in ("notes", "comparison"):
            del value[key]
        for key in ("unanswered", "permissions", "state", "first_seen"):
            del value["clusters"][1 - 1]["findings"][0][key]

    read = report_text.parse(changed(remove), "a.json")
    assert read == MADE


# Text, and names in the message.
BROKEN: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ()),
    "blank": (" \n", ()),
    "HTML": ("<html></html>", ("1",)),
    "cut in a list": (TEXT[: len(TEXT) // 2].rpartition(",")[0] + ",", ()),
    "cut in a text": (TEXT[: TEXT.index("webhooks/0")], ()),
    "another file": ('{"a": 1}', ()),
    "a list": ("[]", ()),
    "bytes": (b"\xff\xfe", ("UTF-8",)),
    "not a number": (cluster(seconds=float("nan")), ("ValueError",)),
    "deep": ("[" * 200_000 + "]" * 200_000, ("RecursionError",)),
    "long number": ('{"format_version": "1.0", "clusters": %s}' % ("9" * 5000), ("ValueError",)),
    "major version": (changed(lambda value: value.update(format_version="2.0")), ("'2.0'", "1.x")),
    "major version that begins with 1": (changed(lambda value: value.update(format_version="10.0")), ("'10.0'",)),
    "version with another type": (changed(lambda value: value.update(format_version=1)), ("int",)),
    "kind": (changed(lambda value: value.update(kind="scan")), ("kind",)),
    "no kind": (changed(lambda value: value.pop("kind")), ("kind",)),
    "clusters": (changed(lambda value: value.update(clusters={})), ("clusters",)),
    "cluster": (changed(lambda value: value["clusters"].append("x")), ("clusters[2]",)),
    "name": (cluster(name=7), ("clusters[0].name",)),
    "status": (cluster(status="fine"), ("'fine'",)),
    "status of a run": (cluster(status="changed"), ("'changed'",)),
    "time": (cluster(audited_at="yesterday"), ("clusters[0].audited_at", "3339")),
    "no time": (changed(lambda value: value.update(made_at=None)), ("made_at",)),
    "flag": (cluster(limits={"probe_urls": 1}), ("clusters[0].limits.probe_urls",)),
    "number": (cluster(seconds="1"), ("clusters[0].seconds",)),
    "flag as a number": (cluster(requests=True), ("clusters[0].requests",)),
    "huge number": (cluster(requests=10**300), ("clusters[0].requests",)),
    "counts": (cluster(counts={"pass": "1"}), ("clusters[0].counts",)),
    "check": (first_finding(check=None), ("clusters[0].findings[0].check",)),
    "status of a finding": (first_finding(status="passed"), ("clusters[0].findings[0].status",)),
    "severity": (first_finding(severity="fatal"), ("clusters[0].findings[0].severity",)),
    "evidence": (first_finding(evidence="x"), ("clusters[0].findings[0].evidence",)),
    "object": (first_finding(object=["x"]), ("clusters[0].findings[0].object",)),
    "checks": (changed(lambda value: value.update(checks=[])), ("checks",)),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_report_is_one_line(name: str) -> None:
    text, names = BROKEN[name]
    with fails("invalid-report", "old.json", *names) as caught:
        report_text.parse(text, "old.json")
    assert str(caught.value).isprintable()


def test_a_report_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_text, "MOST_BYTES", 100)
    with fails("invalid-report", "old.json"):
        report_text.parse(TEXT, "old.json")


def test_texts_of_a_file_are_cleaned() -> None:
    hidden = "a\x1b[31m\u202e\x00\ud800\n b" + "x" * 5000
    read = report_text.parse(first_finding(manager=hidden, evidence=[hidden]), "old.json")
    shown = read["clusters"][0]["findings"][0]
    assert shown["manager"].startswith("a\\x1b[31m\\u202e\\x00\\ud800 b")
    assert shown["evidence"] == [shown["manager"]]
    assert len(shown["manager"]) == 603
    assert report_text.parse(report_text.dump(read), "again.json") == read


def test_a_finding_without_a_row_of_its_check_gets_one() -> None:
    read = report_text.parse(first_finding(check="later-check"), "old.json")
    assert set(read["checks"]["later-check"]) == {field.name for field in report_schema.CHECK}


@pytest.mark.parametrize(
    ("url", "is_kept"),
    [
        ("https://certflow.github.io/certflow.kubernetes/docsite/reference_audit.html#expired", True),
        ("javascript:alert(1)", False),
        ("https://example.com/", False),
        ("https://certflow.github.io/certflow.kubernetes.example.com/", False),
        ('https://certflow.github.io/certflow.kubernetes/"onclick=', False),
        ("https://certflow.github.io/certflow.kubernetes/\u0430", False),
        ("", True),
    ],
)
def test_links_lead_only_to_the_site_of_the_collection(url: str, is_kept: bool) -> None:
    text = changed(lambda value: value["checks"]["expiring"].update(url=url))
    assert report_text.parse(text, "old.json")["checks"]["expiring"]["url"] == (url if is_kept else "")
