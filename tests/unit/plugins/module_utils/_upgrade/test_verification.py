# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verification of a new webhook ends at once if one of its pods does not stay up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_probe
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import RolloutError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.step_types import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import verification
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.checks import FAILED
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import ProofError

from tests.support.failures import fails

DEPLOYMENT = {"namespace": "default", "name": "webhook"}
CONVERSION = {"subject": "conversion", "name": "groups", "version": "v1beta1"}


class Fallen:
    """A watch that finds a pod that ended."""

    def __init__(self, _client: object, target: object) -> None:
        self.target = target

    def look(self) -> None:
        raise RolloutError(f"{self.target} does not stay available")


@pytest.fixture(autouse=True)
def never_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each probe fail after a second attempt."""

    def run(_client: object, _given: object, *, check_mode: bool, between: Callable[[], object]) -> None:
        assert not check_mode
        between()
        raise ProofError("the webhook does not answer")

    monkeypatch.setattr(webhook_probe, "run", run)
    monkeypatch.setattr(verification, "Watch", Fallen)
    monkeypatch.setattr(verification, "Traces", NoTraces)


def verdict(**parameters: Any) -> str:
    step = Step("conversion-verify-first", "", "", "verify", {**CONVERSION, **parameters})
    client = SimpleNamespace(without_hooks=nullcontext)
    return verification.verify(cast("Any", client), step)[0].verdict


def test_a_pod_that_ended_ends_the_verification() -> None:
    with fails("rollout-failed", "default/webhook"):
        verdict(pods_of=DEPLOYMENT)


def test_without_a_deployment_the_verdict_counts() -> None:
    assert verdict() == FAILED


class NoTraces:
    """No object was created."""

    def __init__(self, _client: object, _run: str) -> None:
        pass

    def remove(self) -> list[str]:
        return []
