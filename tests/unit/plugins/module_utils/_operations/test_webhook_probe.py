# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long webhook_probe may send requests."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import (
    READING_OVERTIME_SECONDS,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_probe
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import probe_verdict, probe_webhook
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe_verdict import ProbeVerdict
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe_webhook import ProbeResult

OPTIONS: dict[str, Any] = {
    "target": {"kind": "ValidatingWebhookConfiguration", "name": "hook", "webhook": None},
    "object": None, "expect": "allowed", "denial_message": "", "accept": [], "require_proof": False, "pending": False, "wait": False,
}  # fmt: skip


@pytest.mark.parametrize(("renews", "seconds"), [(False, READING_OVERTIME_SECONDS), (True, float("inf"))])
def test_only_a_probe_that_writes_has_no_limit(
    renews: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        probe_webhook, "probe", lambda *_: ProbeResult(ProbeVerdict(probe_verdict.UNPROVEN, "x", "", ""))
    )
    client = Client(Connection("http://127.0.0.1:1", "a test"), user_agent="test", deadline=time.monotonic())
    webhook_probe.run(client, {**OPTIONS, "renew_connections": renews}, False)
    assert client.overtime == seconds
