# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings that are accepted for some time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import audit_result
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import Backend
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    ANNOTATION,
    annotated_checks,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError

from tests.unit.plugins.module_utils._audit.world import cluster, point, webhook

pytestmark = pytest.mark.quick

#: The clock of these tests shows 2026-06-15T12:00:00Z.
ENTRY = {"check": "service-missing", "reason": "it is removed next week", "until": "2026-12-31"}
HOOKS = "ValidatingWebhookConfiguration/hooks"


def audited(
    *entries: dict[str, Any], called: Any = None, names: tuple[str, ...] = ("prod-1", "pinned-1")
) -> dict[str, Any]:
    data = cluster(called or point(), backend=Backend(exists=False))
    parsed = audit_result.parse_exceptions([{**ENTRY, **entry} for entry in entries])
    return audit_result.build(data, accepted=parsed, cluster_names=names)


ROWS: list[tuple[dict[str, Any], str]] = [
    ({}, "matched"),
    ({"objects": [HOOKS]}, "matched"),
    ({"objects": ["*/other", "hook.example.*"]}, "matched"),
    ({"objects": ["Validating*/h?oks"]}, "matched"),
    ({"clusters": ["prod-*"]}, "matched"),
    ({"clusters": ["pinned-1"]}, "matched"),  # the UID that the task expects
    ({"clusters": ["cluster-1"]}, "other-cluster"),  # the UID that the cluster reports
    ({"until": "2026-06-15"}, "matched"),
    ({"until": "2026-06-15T12:00:01Z"}, "matched"),
    ({"until": "2026-06-15T12:00:00Z"}, "expired"),
    ({"until": "2026-06-14"}, "expired"),
    ({"until": "9999-12-31"}, "matched"),
    ({"until": "9999-12-31T23:59:59Z"}, "matched"),
    ({"objects": ["MutatingWebhookConfiguration/*"]}, "unused"),
    ({"check": "port-missing"}, "unused"),
    ({"clusters": ["dev-*"]}, "other-cluster"),
]


@pytest.mark.parametrize(("entry", "state"), ROWS)
def test_an_exception_has_a_state(entry: dict[str, Any], state: str) -> None:
    result = audited(entry)
    (finding,) = result["findings"]
    assert [exception["state"] for exception in result["exceptions"]] == [state]
    assert bool(finding["excepted"]) == (state == "matched")
    assert (result["counts"]["error"], result["counts"]["excepted"]) == (
        (0, 1) if state == "matched" else (1, 0)
    )
    assert (result["breaks_at"] is None) == (state == "matched")
    assert finding["status"] == "fail"


def test_an_exception_for_every_cluster_needs_no_name() -> None:
    assert [exception["state"] for exception in audited({}, names=("", ""))["exceptions"]] == ["matched"]


def test_an_exception_keeps_its_reason_and_end() -> None:
    (finding,) = audited({})["findings"]
    assert finding["excepted"] == {"reason": ENTRY["reason"], "until": "2027-01-01T00:00:00Z"}


def test_the_owner_of_an_object_excepts_it_by_an_annotation() -> None:
    subject = replace(point().object, excepted_checks=("expired", "service-missing"))
    result = audited(called=replace(point(), object=subject))
    assert result["findings"][0]["excepted"]["until"] is None
    assert result["counts"]["excepted"] == 1
    value = {"annotations": {ANNOTATION: " expired, service-missing ,,"}}
    assert annotated_checks(value) == ("expired", "service-missing")
    assert annotated_checks({}) == ()


def test_findings_that_count_come_first() -> None:
    points = [point(name="a"), point(name="b", webhook=webhook("secrets"))]
    data = cluster(*points, backend=Backend(exists=False))
    parsed = audit_result.parse_exceptions([{**ENTRY, "objects": ["*/a"]}])
    result = audit_result.build(data, accepted=parsed, cluster_names=("x",))
    assert [finding["object"]["name"] for finding in result["findings"]] == ["b", "a"]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"check": "service-misssing"}, "service-missing"),
        ({"check": "*"}, ""),
        ({"reason": " "}, "reason"),
        ({"until": "next year"}, "next year"),
        ({"until": ""}, "until"),
        ({"until": "2026-13-01"}, "2026-13-01"),
        ({"clusters": []}, "clusters"),  # the names of an empty group accept nothing, not everything
        ({"clusters": ["prod", " "]}, "clusters"),
        ({"objects": []}, "objects"),
        ({"objects": [""]}, "objects"),
    ],
)
def test_an_entry_that_is_not_valid_is_refused(entry: dict[str, Any], named: str) -> None:
    with pytest.raises(CertflowError) as caught:
        audit_result.parse_exceptions([{**ENTRY, **entry}])
    assert caught.value.code == "invalid-input"
    assert named in str(caught.value)
