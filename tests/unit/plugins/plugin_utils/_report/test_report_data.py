# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports that are built from the results of hosts: rows, order, counts, gate."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    ESSENTIAL,
    PERMISSIONS,
    Gap,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import report_model, report_schema

from tests.support.audit.reports import NOW, failed, finding, report, result, unread
from tests.support.failures import absent
from tests.unit.plugins.module_utils._audit.world import cluster

pytestmark = pytest.mark.quick

LISTS = result(unread("conversion-dead", source="definitions"), incomplete=["definitions"])
# The result of a host, and the status and code of its cluster.
OUTCOMES: dict[str, tuple[Any, str, str]] = {
    "healthy": (result(), "ok", ""),
    "with findings": (result(finding()), "ok", ""),
    "without a permission": (result(unread("deadlock")), "ok", ""),
    "without CRDs": (LISTS, "incomplete", "audit-incomplete"),
    "without Services": (result(unread("expired"), incomplete=["services"]), "incomplete", "audit-incomplete"),
    "login": (failed(), "failed", "authentication-failed"),
    "no answer": (failed("unreachable"), "unreachable", "unreachable"),
    "other CA": (failed("server-untrusted"), "unreachable", "server-untrusted"),
    "Ansible": ({"failed": True, "msg": "'x' is undefined"}, "failed", ""),
    "Ansible's connection": ({"unreachable": True, "msg": "no route"}, "unreachable", "unreachable"),
    "skipped": ({"skipped": True}, "failed", ""),
    "no result": (None, "not started", ""),
    "wrong type": (result(finding(evidence=[7])), "failed", "invalid-report"),
    "unknown severity": (result(finding(severity="fatal")), "failed", "invalid-report"),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_host_is_a_cluster_of_the_report(name: str) -> None:
    given, status, code = OUTCOMES[name]
    made = report({"other": result(), "this": given})
    assert [cluster["name"] for cluster in made["clusters"]] == ["other", "this"]
    other, this = made["clusters"]
    assert (other["status"], this["status"], this["code"]) == ("ok", status, code)
    assert bool(this["reason"]) == (status != "ok")
    assert set(this) == {
        field.name for field in report_schema.of_kind(report_schema.CLUSTER, report_schema.AUDIT)
    }


def test_hosts_that_are_one_cluster_are_named() -> None:
    """A cluster that could not be read has no UID, and is not one of them."""
    failed = {"failed": True, "msg": "no route"}
    given = {"a": result(), "b": result(uid="uid-2"), "c": result(), "d": failed, "e": failed}
    (note,) = report_model.note_duplicates(report(given))["notes"]
    assert not absent(["uid-1"], note) and note.startswith("a, c ")
    assert report_model.note_duplicates(report({"a": result(), "b": result(uid="uid-2")}))["notes"] == []


def test_a_message_of_ansible_loses_its_secrets() -> None:
    made = report({"a": {"failed": True, "msg": "login with token=abcdefghijkl failed\nhere"}})
    assert "abcdefghijkl" not in str(made)


def test_the_keys_of_a_result_are_kept() -> None:
    excepted = {"reason": "known", "until": "2027-01-01T00:00:00Z"}
    given = result(
        finding(breaks_at="2026-12-01T00:00:00Z", excepted=excepted),
        unread("deadlock"),
        seconds=1.5,
        traffic={"requests": 12, "bytes_received": 3000, "handshakes": 2},
    )
    cluster = report({"a": given})["clusters"][0]
    assert cluster["uid"] == given["cluster_uid"]
    assert (cluster["seconds"], cluster["requests"], cluster["bytes"]) == (1.5, 12, 3000)
    for key in ("audited_at", "kubernetes_version", "breaks_at", "counts", "limits", "counters"):  # fmt: skip
        assert cluster[key] == given[key], key
    for shown, raw in zip(cluster["findings"], given["findings"]):
        assert {**shown, "state": "", "first_seen": None} == shown
        assert {key: shown[key] for key in raw} == raw
    assert cluster["findings"][1]["unanswered"] == ["deadlock"]


def test_the_fleet_is_sorted_by_the_time_at_which_it_breaks() -> None:
    late, soon, never = "2027-01-01T00:00:00Z", "2026-11-30T00:00:00Z", None
    made = report(
        {
            "b": result(finding("expiring", breaks_at=late), finding("webhook-duplicated", breaks_at=never)),
            "a": result(finding("deadlock", breaks_at=never), finding("ca-expiring", breaks_at=late, severity="error")),
            "c": result(unread("deadlock"), finding("expired", breaks_at=soon),
                        finding("service-missing", excepted={"reason": "r", "until": None})),
        }
    )  # fmt: skip
    shown = [(row.cluster["name"], row.finding["check"]) for row in report_model.failures(made)]
    assert shown[:3] == [("c", "expired"), ("a", "ca-expiring"), ("b", "expiring")]
    assert sorted(shown[3:]) == [("a", "deadlock"), ("b", "webhook-duplicated")]
    assert [row.finding["check"] for row in report_model.rows(made, "unknown")] == ["unreadable"]
    assert [row.finding["check"] for row in report_model.rows(made, "fail", is_excepted=True)] == [
        "service-missing"
    ]
    assert len(report_model.rows(made, "fail", "unknown", is_excepted=None)) == 7
    assert report_model.counts(made) == {
        "clusters": {"ok": 3, "incomplete": 0, "failed": 0, "unreachable": 0, "not started": 0},
        "findings": {
            "error": sum(row.finding["severity"] == "error" for row in report_model.failures(made)),
            "warning": sum(row.finding["severity"] == "warning" for row in report_model.failures(made)),
            "info": 0,
            "excepted": 1,
            "unknown": 1,
            "pass": 21,
            "skip": 6,
        },
    }


def test_a_fault_that_takes_effect_already() -> None:
    made = report({"a": result(finding(breaks_at="2026-11-26T11:59:00Z"), finding(breaks_at="2026-11-26T11:59:01Z"))})  # fmt: skip
    assert [row.is_now for row in report_model.failures(made)] == [True, False]


ERROR, WARNING = finding(severity="error"), finding(severity="warning")
EXCEPTED = finding(severity="error", excepted={"reason": "r", "until": None})
# Results, and the values of the gate that they do not pass.
GATE: dict[str, tuple[Any, set[str]]] = {
    "healthy": (result(), set()),
    "info": (result(finding(severity="info")), set()),
    "warning": (result(WARNING), {"warning"}),
    "error": (result(ERROR, WARNING), {"error", "warning"}),
    "excepted": (result(EXCEPTED), set()),
    "unknown": (result(unread("deadlock")), {"warning"}),
    "incomplete": (LISTS, {"error", "warning", "never"}),
    "failed": (failed(), {"error", "warning", "never"}),
    "unreachable": (failed("unreachable"), {"error", "warning", "never"}),
    "no result": (None, {"error", "warning", "never"}),
}


@pytest.mark.parametrize("name", GATE)
def test_the_gate(name: str) -> None:
    given, stopped = GATE[name]
    made = report({"a": given, "healthy": result()})
    for fail_on in report_model.GATES:
        assert set(report_model.gate(made, fail_on)) == ({"a"} if fail_on in stopped else set()), fail_on


# Status of a cluster in a run, and whether it is a failure.
RUN: dict[str, bool] = {
    "ok": False, "changed": False, "planned": False, "skipped": False, "waiting": False, "left": True,
    "drift": True, "plan-differs": True, "failed": True, "refused": True, "unreachable": True, "not started": True, "started": True,
}  # fmt: skip


def test_every_outcome_of_a_run_passes_or_fails() -> None:
    clusters = [{"name": f"{number:02}", "status": status, "stage": "canary"} for number, status in enumerate(RUN)]  # fmt: skip
    made = report_model.envelope(
        "run", clusters, NOW, "1.0.0", run={"id": "1", "role": "snapshot_controller"}
    )
    assert set(RUN) == set(report_schema.RUN_STATUSES)
    assert {status for status, is_failure in RUN.items() if is_failure} == report_schema.FAILURES
    assert made["clusters"][0]["steps"] == []
    assert "findings" not in made["clusters"][0]


def test_the_sources_of_an_audit_are_those_that_the_status_is_made_from() -> None:
    """An audit that read nothing at all is not complete."""
    gaps = tuple(Gap(source, "no answer") for source in PERMISSIONS)
    real = {**result(), **audit_result.build(cluster(gaps=gaps))}
    assert report({"a": real})["clusters"][0]["code"] == "audit-incomplete"
    for source in PERMISSIONS:
        real = {**result(), **audit_result.build(cluster(gaps=(Gap(source, "no answer"),)))}
        status = report({"a": real})["clusters"][0]["status"]
        assert status == ("incomplete" if source in ESSENTIAL else "ok"), source
