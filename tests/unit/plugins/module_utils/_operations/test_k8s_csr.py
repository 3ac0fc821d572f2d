# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options on_stale and provider of k8s_csr."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result, make_left
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.workloads import ServingOptions

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import intent


def options(on_stale: Any) -> ServingOptions:
    return k8s_csr._serving_options({"on_stale": on_stale, "wait_timeout": 7}, intent(), None)


@pytest.mark.parametrize(
    ("on_stale", "reaction", "workload"),
    [
        ("fail", "fail", "None"),
        ("restart", "restart", "None"),
        ("Deployment/hook", "restart", "Deployment apps/hook"),
        ("DaemonSet/hook", "restart", "DaemonSet apps/hook"),
        ("StatefulSet/hook", "restart", "StatefulSet apps/hook"),
    ],
)
def test_a_reaction_or_a_workload(on_stale: str, reaction: str, workload: str) -> None:
    found = options(on_stale)
    assert (found.on_stale, str(found.workload), found.timeout) == (reaction, workload, 7)


@pytest.mark.parametrize(
    "on_stale", ["", "ignore", "hook", "Deployment", "Deployment/", "Pod/hook", "Deployment/apps/hook"]
)
def test_another_value_is_refused(on_stale: str) -> None:
    with fails("invalid-request", "on_stale", "KIND/NAME."):
        options(on_stale)


def test_what_is_left_is_the_waiting_request_or_the_missing_proof() -> None:
    row = {"object": {"kind": "Secret"}, "code": "webhook-unproven", "reason": "not seen", "remedy": "Look"}
    cases = (
        (False, "Pending", "webhook-unproven"),
        (True, "Pending", "never-approved"),
        (True, "Approved", "approved-not-issued"),
    )
    for pending, condition, code in cases:
        csr = {"name": "a", "condition": condition}
        values = {"pending": pending, "csr": csr, "reason": "it waits", "left": make_left(1, row)}
        left = k8s_csr._left(Result(False, values), check_mode=False)
        assert (left["count"], left["first"]["code"]) == (1, code)
    assert k8s_csr._left(Result(False, {"pending": True}), check_mode=True)["count"] == 0


@pytest.mark.parametrize("providers", [{}, {"default": "example.com/serving"}])
def test_a_task_that_would_probe_signers_is_refused_before_a_request(providers: dict[str, str]) -> None:
    """An entry ``default`` does not lift the refusal."""
    wanted = {
        "state": "present",
        "signer_name": None,
        "provider": "probe",
        "providers": providers,
    }
    without_requests: Any = None
    with fails("invalid-input", "k8s_signer_probe", "signer_name"):
        k8s_csr.run(without_requests, wanted, check_mode=False)
