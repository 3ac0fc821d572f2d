# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test which requests the simulated signer of EKS answers. tests/system tests its answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clusters.eks_signer import is_ours
from tests.support.clusters.profiles import APP_SERVING


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"conditions": []}, False),
        ({"conditions": ["Approved", "Failed"]}, False),
        ({"conditions": ["Denied"]}, False),
        ({"certificate": "LS0t"}, False),
        ({"name": "csr-1"}, False),
        ({"name": "my-csr-1"}, True),
        ({"signer": "kubernetes.io/kubelet-serving"}, False),
    ],
)
def test_is_ours(change: dict[str, Any], expected: bool) -> None:
    facts = {
        "name": "webhook",
        "signer": APP_SERVING,
        "conditions": ["Approved"],
        "certificate": "",
        **change,
    }
    request = {
        "metadata": {"name": facts["name"]},
        "spec": {"signerName": facts["signer"]},
        "status": {
            "conditions": [{"type": kind} for kind in facts["conditions"]],
            "certificate": facts["certificate"],
        },
    }
    assert is_ours(request) is expected
