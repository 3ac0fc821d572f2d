# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import waits

from tests.support.certificates.key_leaks import leaks, same_key, unknown_pem

if TYPE_CHECKING:
    from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client

DEPLOYMENT = Reference("Deployment", "snapshot-controller", "kube-system")


class Pods:
    """A cluster whose container has this log."""

    def __init__(self, log: str) -> None:
        self.log = log

    def text(self, _path: str, query: dict[str, Any]) -> str:
        return "\n".join(self.log.splitlines()[-int(query["tailLines"]) :])


@pytest.mark.parametrize("after", ["", "\npanic: no certificate"])
@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"])
def test_a_log_that_ends_with_a_key_shows_none_of_it(kind: str, after: str) -> None:
    """The last line of a key is too short to be masked alone, and only the last lines are shown."""
    pem = unknown_pem(same_key(kind))
    lines = waits._log(
        cast("Client", Pods(f"starting\n{pem.strip()}{after}")), DEPLOYMENT, "pod", "controller"
    )
    assert lines
    assert [line for line in lines if leaks(line, pem) or pem.splitlines()[-2][:16] in line] == []
    assert ("its log: panic: no certificate" in lines) is bool(after)
