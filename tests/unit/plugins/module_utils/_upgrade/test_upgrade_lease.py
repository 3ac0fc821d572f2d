# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a killed run. Any client with the permission may have written it."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.lease import Lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import upgrade_lease
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.upgrade_lease import (
    RECORD,
    RunRecord,
)

GOOD = RunRecord("8.7.0", "8.1.0", "controller", 7, 21, undoes=False, since="2026-03-01T03:00:00Z")
FIELDS = asdict(GOOD)


def lease(text: Any, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"annotations": {RECORD: text}}, "spec": {"holderIdentity": "a", **spec}}


def found(**changed: Any) -> RunRecord | None:
    return upgrade_lease.parse_record(lease(json.dumps({**FIELDS, **changed})))


def test_a_record_is_read_back() -> None:
    assert found() == GOOD


def test_a_record_is_kept_as_it_is_read() -> None:
    kept: dict[str, str] = {}
    fake = cast("Lease", SimpleNamespace(annotate=kept.__setitem__))
    upgrade_lease.write_record(fake, GOOD)
    assert upgrade_lease.parse_record({"metadata": {"annotations": kept}}) == GOOD


NESTED = "[" * 100_000
# Texts that are not a record.
NO_RECORD: dict[str, Any] = {
    "no text": None,
    "a number": 7,
    "an object": {"step": "a"},
    "empty": "",
    "no JSON": "{",
    "null": "null",
    "a list": "[1]",
    "a string": '"text"',
    "nested too deep": NESTED,
    "nested inside": json.dumps(FIELDS)[:-1] + f', "more": {NESTED}',
    "a key is missing": json.dumps({key: FIELDS[key] for key in FIELDS if key != "step"}),
    "number is a word": json.dumps({**FIELDS, "number": "seven"}),
    "number is null": json.dumps({**FIELDS, "number": None}),
    "number is a list": json.dumps({**FIELDS, "number": [7]}),
    "number is infinite": json.dumps({**FIELDS, "number": float("inf")}),
    "number is not a number": json.dumps({**FIELDS, "total": float("nan")}),
    "number has many digits": json.dumps(FIELDS).replace("21", "9" * 100_000),
}


@pytest.mark.parametrize("case", NO_RECORD)
def test_a_text_that_is_not_a_record(case: str) -> None:
    assert upgrade_lease.parse_record(lease(NO_RECORD[case])) is None


@pytest.mark.parametrize(
    "obj",
    [{}, {"metadata": None}, {"metadata": []}, {"metadata": {}}, {"metadata": {"annotations": None}},
     {"metadata": {"annotations": [RECORD]}}],
)  # fmt: skip
def test_an_object_without_annotations(obj: dict[str, Any]) -> None:
    assert upgrade_lease.parse_record(obj) is None


@pytest.mark.parametrize(
    ("number", "total"), [(0, 21), (-1, 21), (22, 21), (1, 0), (10**9, 10**9), (True, 21), (1.5, 21)]
)
def test_numbers_out_of_range_are_not_a_record(number: Any, total: Any) -> None:
    """A run counts its steps from 1 on, and a hop has fewer than a thousand."""
    assert found(number=number, total=total) is None


def test_hostile_words_become_short_and_visible() -> None:
    hostile = found(step="a\x1b[2J\nb\u202e\x00", hop="x" * 1_000_000, version={"a": [1]}, since=7)
    assert hostile is not None
    assert len(hostile.hop) == 200
    words = hostile.words()
    assert len(words) < 1000
    assert words.isprintable()
    assert "\u202e" not in words
    json.dumps(asdict(hostile))


@pytest.mark.parametrize(
    ("undoes", "read"), [(True, True), (False, False), ("yes", False), (1, False), (None, False)]
)
def test_only_true_is_an_undo(undoes: Any, read: bool) -> None:
    record = found(undoes=undoes)
    assert record is not None
    assert record.undoes is read


def previous(obj: dict[str, Any] | None) -> dict[str, Any] | None:
    return upgrade_lease.describe_previous(cast("Lease", SimpleNamespace(previous=obj)))


def test_a_released_lease_has_no_previous_run() -> None:
    assert previous(None) is None


def test_the_previous_run_is_told_with_its_step() -> None:
    run = previous(
        lease(json.dumps(FIELDS), renewTime="2026-03-01T03:00:07.000000Z", holderIdentity="host\n1")
    )
    assert run == {"holder": run and run["holder"], "renewed": "2026-03-01T03:00:07Z", "record": FIELDS}
    assert run["holder"].isprintable()
    words = upgrade_lease.previous_words(run)
    assert "controller" in words and "8.1.0" in words and "\n" not in words


def test_the_previous_run_may_be_unreadable() -> None:
    run = previous({"metadata": None, "spec": "none"})
    assert run == {"holder": "", "renewed": "", "record": None}
    assert "\n" not in upgrade_lease.previous_words(run)
