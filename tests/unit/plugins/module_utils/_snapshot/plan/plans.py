# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write plans of several situations to plans.md, the golden page of the renderer.

`python3 -m tools.ci.enter dev -m tests.unit.plugins.module_utils._snapshot.plan.plans` writes it, a test compares.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import Origin
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import CONTROLLER
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import plan_text
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Plan

from tests.unit.plugins.module_utils._snapshot.world import (
    NOTHING,
    changed,
    ours,
    planned,
    upstream,
    with_groups,
)

PAGE = Path(__file__).with_name("plans.md")
HELM = Origin(
    "helm", ("annotation meta.helm.sh/release-name: snapshots", "label app.kubernetes.io/managed-by: Helm")
)


def _of_helm() -> Plan:
    """The controller and its CRDs belong to a chart. The other objects belong to this collection."""
    here = changed(ours("8.3.0"), CONTROLLER, origin=HELM)
    return planned(replace(here, crd_origins=dict.fromkeys(here.crds, HELM)), "8.7.0")


SITUATIONS: dict[str, Plan] = {
    "Install the controller": planned(NOTHING, "8.7.0"),
    "Install the controller and the validation webhook in a namespace of their own": planned(
        NOTHING, "7.0.2", namespace="snapshots", failure_policy="Fail"
    ),
    "Upgrade the controller": planned(ours("8.4.0"), "8.7.0"),
    "Replace upstream's webhook, whose pods end in the middle of calls": planned(upstream("7.0.2"), "8.1.1"),
    "Delete the validation webhook": planned(upstream("8.1.1"), "8.7.0"),
    "Move group snapshots from v1alpha1 to v1beta1": planned(with_groups(upstream("8.1.0", groups=True), snapshots=3), "8.3.0"),
    "Convert group snapshots in a hop of its own": planned(with_groups(upstream("8.3.0", groups=True), contents=2, lists=2), "8.7.0"),
    "Repair": planned(ours("8.7.0"), "8.7.0"),
    "Go back to an older release": planned(ours("8.7.0"), "8.3.0"),
    "Refuse the objects of another manager": _of_helm(),
    "Refuse a hazard": planned(changed(upstream("6.2.2"), CONTROLLER, arguments=("--kube-api-qps=20",)), "8.7.0"),
}  # fmt: skip


def page() -> str:
    """Return the page."""
    parts = ["# Plans\n\nEach plan as text."]
    for title, plan in SITUATIONS.items():
        parts.append("\n".join([f"## {title}\n", "```text", *plan_text.lines(plan), "```"]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
