# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test what is built before the tests, on machines that cannot build or run all of it."""

from __future__ import annotations

import pytest

from tests.support.clusters import build, build_for_tests, node

OTHERS = ("cainjector", "cert_manager", "cert_manager_webhook", "kubeadm", "helm", "promtool")


@pytest.mark.parametrize(
    ("no_build", "no_node", "built", "said"),
    [
        ("", "", ["programs", "node", *build_for_tests.SNAPSHOT_RELEASES, *OTHERS], []),
        ("", "needs root", ["programs", *OTHERS], ["No programs of a node and of its pods: needs root."]),
        ("no `go` on PATH", "", ["programs"], ["Only the programs of a control plane: no `go` on PATH."]),
    ],
)
def test_what_cannot_be_built_or_run_is_left_out_and_said(
    no_build: str, no_node: str, built: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests that need it skip with a reason, so the gate must not fail where it cannot be built."""
    seen: list[str] = []
    monkeypatch.setattr(build, "why_no_build", lambda: no_build)
    monkeypatch.setattr(node, "why_no_node", lambda: no_node)
    monkeypatch.setattr(node, "prepare", lambda _report: seen.append("node"))
    monkeypatch.setattr(build, "snapshot_programs", lambda release, _report: seen.append(release))
    for name in ("programs", *OTHERS):
        monkeypatch.setattr(build, name, lambda _report, name=name: seen.append(name))
    reports: list[str] = []
    build_for_tests.programs_of_tests(reports.append)
    assert (seen, reports) == (built, said)
