# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State of objects that the API server returned, with and without a status."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import object_state


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "u"}, "status": status}


NEW: dict[str, Any] = {"metadata": {"name": "p", "generation": 2}}
READY = pod(conditions=[{"type": "Ready", "status": "True"}])


@pytest.mark.parametrize(
    ("obj", "expected"), [(READY, True), (pod(), False), (NEW, False), (pod(conditions=None), False)]
)
def test_a_missing_condition_is_not_true(obj: dict[str, Any], expected: bool) -> None:
    assert object_state.is_true(obj, "Ready") == expected


@pytest.mark.parametrize(("seen", "expected"), [(None, False), (1, False), (2, True), (3, True)])
def test_a_spec_is_observed_from_its_generation_on(seen: int | None, expected: bool) -> None:
    assert object_state.is_observed({**NEW, "status": {"observedGeneration": seen}}) == expected


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_no_endpoint(phase: str) -> None:
    assert object_state.has_address(pod(phase="Running", podIP="10.0.0.1"))
    assert not object_state.has_address(pod(phase=phase, podIP="10.0.0.1"))
    assert not object_state.has_address(pod(phase="Pending"))


def test_restarts_of_all_containers_count() -> None:
    statuses = {
        "initContainerStatuses": [{"restartCount": 1}],
        "containerStatuses": [{"restartCount": 2}, {}],
    }
    assert object_state.restarts(pod(**statuses)) == 3
    assert object_state.restarts(pod()) == 0


def test_an_owner_is_known_by_its_uid() -> None:
    owned = {"metadata": {"ownerReferences": [{"uid": "u"}]}}
    assert object_state.is_owned_by(owned, pod())
    assert not object_state.is_owned_by(pod(), pod())
