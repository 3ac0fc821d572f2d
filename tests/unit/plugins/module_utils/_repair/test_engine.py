# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the repairs of one object end after the proof."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import AuditedObject
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import (
    engine,
    kinds,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import (
    BundleAction,
    BundleEdit,
    ObjectChanged,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    FAILED,
    FinalWrite,
    Repair,
    RepairOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import Target

from tests.support.authority import NOW

from .test_plans import KIND, NEW, OLD, configuration

TARGET = Target(KIND, "example")
ACTION = BundleAction(TARGET, configuration(OLD.pem), (), NOW)


class Once:
    """A write that is put back once. It notes the webhooks."""

    def __init__(self, by: str = "") -> None:
        self.by = by
        self.restored: list[set[str]] = []

    def find_overwriter(self, _client: Client) -> str:
        return self.by or ("this run" if self.restored else "")

    def put_back(self, _client: Client, webhooks: Collection[str]) -> bool:
        self.restored.append(set(webhooks))
        return len(self.restored) == 1


def repair(finding: str, webhook: str) -> Repair:
    subject = AuditedObject(KIND, "example", webhook=webhook).as_result()
    return Repair(finding, "ca-mismatch", subject, kind=kinds.ADD_CA, action=ACTION)


# Who overwrote it, the proven findings, and what is expected: the states of a1, a2 and b1, and the webhooks that are put back.
ENDS: list[tuple[str, str, str, list[set[str]]]] = [
    ("", "a1 a2 b1", "repaired repaired repaired", []),
    ("", "", "put-back put-back put-back", [{"a", "b"}]),
    ("", "a1 a2", "repaired repaired put-back", [{"b"}]),
    ("", "a1 b1", "repaired failed repaired", []),
    ("operator", "a1 b1", "overwritten overwritten overwritten", []),
]


@pytest.mark.parametrize(("by", "proven", "states", "restored"), ENDS)
def test_only_what_is_not_proven_is_put_back(
    by: str, proven: str, states: str, restored: list[set[str]]
) -> None:
    repairs = (repair("a1", "a"), repair("a2", "a"), repair("b1", "b"))
    written = Once(by)
    client: Any = cast("Client", None)
    proof = engine._Proof(client, RepairOptions((kinds.ADD_CA,)), {ACTION.key: written}, frozenset())
    keys = {engine._key(entry.finding, entry.object) for entry in repairs if entry.finding in proven}
    assert " ".join(entry.state for entry in proof.ended(repairs, keys)) == states
    assert written.restored == restored


@pytest.mark.parametrize("kind", [kinds.RELOAD, kinds.REISSUE])
def test_a_restart_and_a_new_certificate_stay_without_a_proof(kind: str) -> None:
    client: Any = cast("Client", None)
    proof = engine._Proof(client, RepairOptions((kind,)), {ACTION.key: FinalWrite()}, frozenset())
    ended = proof.ended((replace(repair("a1", "a"), kind=kind),), ())
    assert [(entry.state, entry.code) for entry in ended] == [(FAILED, "unproven")]


def test_a_removal_is_for_the_bundle_that_was_judged() -> None:
    both = OLD.pem + NEW.pem
    edit = BundleEdit(
        "a.example.com",
        ("demo", "hook"),
        OLD.pem,
        (OLD.fingerprint,),
        "/webhooks/0/clientConfig",
        mode="absent",
        judged=both,
    )
    action = BundleAction(TARGET, configuration(both), (edit,), NOW)
    assert action.plan(configuration(both)).changed
    assert not action.plan(configuration(NEW.pem)).changed
    with pytest.raises(ObjectChanged):
        action.plan(configuration(OLD.pem))
