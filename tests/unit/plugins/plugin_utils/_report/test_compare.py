# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports that are compared with an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report import (
    compare,
    report_text,
)
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._report.report_text import Report

from tests.support.audit.reports import LIMITS, NOW, failed, finding, report, result, unread

pytestmark = pytest.mark.quick

DAY = timedelta(days=1)
OLD, MIDDLE, NEW = "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"


def audited(uid: str, at: str, *findings: Mapping[str, Any]) -> dict[str, Any]:
    return result(*findings, uid=uid, audited_at=at)


SOON = finding("expiring", uid="soon")
DEAD = finding("deadlock", uid="dead")
EXCEPTED = finding("deadlock", uid="dead", excepted={"reason": "known", "until": None})
ONE = finding("expiring", uid="one", name="one")
NO_ENDPOINT = finding("no-endpoints", uid="none")
OTHER_WITHOUT = finding("no-endpoints", uid="other", name="other")
DOWN = finding("apiservice-down", uid="down")
OF_ONE = unread("expiring", objects=["ValidatingWebhookConfiguration one, webhook a.example.com"])
HAZARD = finding("snapshot-hazard", uid="hazard")
ESSENTIAL = unread("conversion-dead", source="definitions")
EVERY = unread("expiring", objects=["every ValidatingWebhookConfiguration"])
OF_ANOTHER = unread("deadlock", "expiring", objects=["ValidatingWebhookConfiguration other, webhook b"])
# The earlier result, the result now, then the states of the findings, the numbers of new, known and gone ones, and whether
# the cluster was compared.
COMPARED: dict[str, tuple[Any, Any, list[str], tuple[int, int, int], bool]] = {
    "new": (result(), result(SOON), ["new"], (1, 0, 0), True),
    "known": (result(SOON), result(SOON), ["known"], (0, 1, 0), True),
    "gone": (result(SOON, DEAD), result(SOON), ["known"], (0, 1, 1), True),
    "another object": (result(SOON), result(finding("expiring", uid="other", name="other")), ["new"], (1, 0, 1), True),
    "created again": (result(SOON, DEAD), result(finding("expiring", uid="other")), ["new"], (1, 0, 1), True),
    "accepted now": (result(DEAD), result(EXCEPTED), ["known"], (0, 0, 0), True),
    "accepted before": (result(EXCEPTED), result(DEAD), ["known"], (0, 1, 0), True),
    "accepted before and gone": (result(EXCEPTED), result(), [], (0, 0, 0), True),
    "passed now": (result(SOON), result({**SOON, "status": "pass"}), [""], (0, 0, 1), True),
    "not answered now": (result(SOON, DEAD), result(unread("expiring")), [""], (0, 0, 1), True),
    "not answered before": (result(unread("expiring")), result(SOON, DEAD), ["", "new"], (1, 0, 0), True),
    "another object not answered before": (result(OF_ONE), result(SOON, ONE), ["new", ""], (1, 0, 0), True),
    "another object not answered now": (result(SOON, ONE), result(OF_ONE), [""], (0, 0, 1), True),
    "no object of the kind answered before": (result(EVERY), result(SOON, ONE), ["", ""], (0, 0, 0), True),
    "a check that compares with another object": (result(OF_ANOTHER), result(SOON, DEAD), ["new", ""], (1, 0, 0), True),
    "one reason for all objects": (result(OF_ONE, unread("expiring")), result(SOON, ONE), ["", ""], (0, 0, 0), True),
    "no certificates now": (result(SOON, DEAD), result(limits={**LIMITS, "without": ["port-forward"]}), [], (0, 0, 1), True),
    "no certificates before": (result(limits={**LIMITS, "without": ["port-forward"]}), result(SOON, DEAD), ["", "new"], (1, 0, 0), True),
    "fewer endpoints now, and all were read": (result(SOON), result(limits={**LIMITS, "endpoints_per_service": 2}), [], (0, 0, 1), True),
    "no endpoint is ready now": (result(SOON, DEAD), result(NO_ENDPOINT), ["new"], (1, 0, 1), True),
    "no endpoint was ready before": (result(NO_ENDPOINT), result(SOON, DEAD), ["", "new"], (1, 0, 1), True),
    "no endpoint of another object is ready now": (result(SOON), result(OTHER_WITHOUT), ["new"], (1, 0, 1), True),
    "an aggregated API is down now": (result(SOON), result(DOWN), ["new"], (1, 0, 0), True),
    "a check that an option starts": (result(HAZARD), result(), [], (0, 0, 0), True),
    "read in part": (result(SOON), result(ESSENTIAL, incomplete=["definitions"]), [""], (0, 0, 1), True),
    "failed now": (result(SOON), failed(), [], (0, 0, 0), False),
    "failed before": (failed(), result(SOON), [""], (0, 0, 0), False),
    "took too long now": (result(SOON, uid=""), failed("deadline-exceeded"), [], (0, 0, 0), False),
    "took too long before": (failed("deadline-exceeded"), result(SOON, uid=""), [""], (0, 0, 0), False),
    "another cluster": (result(SOON, uid="2"), result(SOON), [""], (0, 0, 0), False),
    "UID not readable now": (result(SOON), result(SOON, uid=""), [""], (0, 0, 0), False),
    "UID never readable": (result(SOON, uid=""), result(SOON, uid=""), ["known"], (0, 1, 0), True),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_compared_reports(name: str) -> None:
    before, now, states, numbers, is_compared = COMPARED[name]
    earlier, this = report({"a": before}, NOW - DAY), report({"a": now})
    made = compare.compare(this, earlier)
    comparison = made["comparison"]
    assert [audit_finding["state"] for audit_finding in made["clusters"][0]["findings"]] == states
    assert (comparison["new"], comparison["known"], len(comparison["gone"])) == numbers
    assert comparison["not_compared"] == ([] if is_compared else ["a"])
    assert comparison["made_at"] == earlier["made_at"]
    assert this["comparison"] is None
    assert made == report_text.parse(report_text.dump(made), "made")


def test_a_known_finding_keeps_the_time_of_the_first_audit_that_found_it() -> None:
    made: Report | None = None
    for at in (OLD, MIDDLE, NEW):
        this = report({"a": audited("1", at, SOON)})
        made = compare.compare(this, made) if made else this
    assert made
    assert made["clusters"][0]["findings"][0]["first_seen"] == OLD
    gone = compare.compare(report({"a": result(uid="1")}), made)["comparison"]["gone"]
    assert [
        (audit_finding["cluster"], audit_finding["check"], audit_finding["first_seen"])
        for audit_finding in gone
    ] == [("a", "expiring", OLD)]


def test_a_cluster_with_the_uid_of_another_one_is_not_compared_with_it() -> None:
    """It could make a new finding of the other one a known one."""
    earlier = report({"zz-hostile": result(SOON), "prod": result(), "old": result(DEAD)})
    made = compare.compare(report({"prod": result(SOON), "new": result(DEAD)}), earlier)
    assert made["comparison"]["not_compared"] == ["new", "old", "zz-hostile"]
    assert (made["comparison"]["new"], made["comparison"]["known"]) == (1, 0)


def test_clusters_of_one_report_only_are_not_compared() -> None:
    made = compare.compare(report({"new": result(uid="1")}), report({"old": result(uid="2")}))
    assert made["comparison"]["not_compared"] == ["new", "old"]
