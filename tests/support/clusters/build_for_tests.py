# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build what the tests without the marker full start, so that no test waits for a build."""

from __future__ import annotations

from tests.support.clusters import build, node
from tests.support.clusters.build import Report, say

# The releases of external-snapshotter whose controllers and webhooks run in pods of these tests.
SNAPSHOT_RELEASES = ("8.7.0", "7.0.2", "4.2.1", "6.2.2", "8.1.0")


def programs_of_tests(report: Report = say) -> None:
    """Build all that can run on this machine, each once. Say what is left out: the tests that need it skip."""
    build.programs(report)
    no_build = build.why_no_build()
    if no_build:
        report(f"Only the programs of a control plane: {no_build}.")
        return
    no_node = node.why_no_node()
    if no_node:
        report(f"No programs of a node and of its pods: {no_node}.")
    else:
        node.prepare(report)
        for release in SNAPSHOT_RELEASES:
            build.snapshot_programs(release, report)
    build.cainjector(report)
    build.cert_manager(report)
    build.cert_manager_webhook(report)
    build.kubeadm(report)
    build.helm(report)
    build.promtool(report)
