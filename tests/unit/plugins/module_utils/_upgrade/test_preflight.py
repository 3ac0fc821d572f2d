# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Name the missing permissions for the Lease before the first write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import access_review
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import planner
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import certificate_step, preflight
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.preflight import Preflight

from tests.unit.plugins.module_utils._snapshot.world import ours


@pytest.mark.parametrize("is_due", [False, True])
def test_a_certificate_alone_needs_the_lease_too(monkeypatch: pytest.MonkeyPatch, is_due: bool) -> None:
    given = (
        ArgumentSpecValidator(snapshot_controller.ARGUMENTS)
        .validate({"version": "7.0.2"})
        .validated_parameters
    )
    request = snapshot_controller.parse_request(given)
    (hop,) = planner.plan(ours("7.0.2"), request.release, request.options).hops
    asked: list[Any] = []

    def missing(_client: Any, rights: list[Any]) -> list[Any]:
        asked.extend(rights)
        return rights

    monkeypatch.setattr(preflight, "try_actions", lambda *_given, **_more: Preflight())
    monkeypatch.setattr(certificate_step, "signer_of", lambda *_given: "example.com/ca")
    monkeypatch.setattr(preflight, "_is_due", lambda *_given: is_due)
    monkeypatch.setattr(access_review, "missing", missing)
    found = preflight.try_plan(cast("Any", SimpleNamespace()), request, hop.context, hop.steps)
    assert bool(found.due) is bool(found.problems) is bool(asked) is is_due
