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
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Place
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    VerifyConversion,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import RolloutError
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import verify_release
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.release_checks import FAILED
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import (
    probe_verdict,
    probe_webhook,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_verdict import (
    ProbeVerdict,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_webhook import (
    ProbeResult,
)

from tests.support.failures import fails

DEPLOYMENT = Place("default", "webhook")


class Fallen:
    """A watch that finds a pod that ended."""

    def __init__(self, _client: object, target: object) -> None:
        self.target = target

    def look(self) -> None:
        raise RolloutError(f"{self.target} does not stay available")


@pytest.fixture(autouse=True)
def never_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each probe fail after a second attempt."""

    def probe(*_: object, wait: bool, between_attempts: Callable[[], object]) -> ProbeResult:
        assert wait
        between_attempts()
        return ProbeResult(ProbeVerdict(probe_verdict.FAILED, "no-answer", "the webhook does not answer"))

    monkeypatch.setattr(probe_webhook, "probe", probe)
    monkeypatch.setattr(verify_release, "PodWatch", Fallen)
    monkeypatch.setattr(verify_release, "TemporaryObjects", NoObjects)


def verdict(**parameters: Any) -> str:
    client = SimpleNamespace(without_hooks=nullcontext)
    return verify_release.run_check(cast("Any", client), VerifyConversion("groups", "v1beta1", **parameters))[
        0
    ].verdict


def test_a_pod_that_ended_ends_the_verification() -> None:
    with fails("rollout-failed", "default/webhook"):
        verdict(pods_of=DEPLOYMENT)


def test_without_a_deployment_the_verdict_counts() -> None:
    assert verdict() == FAILED


class NoObjects:
    """No object was created."""

    def __init__(self, _client: object, _run: str) -> None:
        pass

    def remove(self) -> list[str]:
        return []
