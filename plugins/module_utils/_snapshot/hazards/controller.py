# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the controller: its permissions, arguments, selector and group snapshots. Pure."""

from __future__ import annotations

from ..context.upgrade_context import UpgradeContext
from ..kinds import CONTROLLER, SIDECAR
from ..release import flags
from .finding import Finding, finding_of


def find_arguments_unknown(context: UpgradeContext) -> Finding | None:
    """Find arguments of the options that the release does not know."""
    wrong = flags.unknown(CONTROLLER, context.options.controller_arguments, context.release)
    for kind in context.webhooks.wanted:
        wrong += flags.unknown(kind, context.options.webhook_arguments, context.release)
    rows = [flag.instead for _argument, flag in flags.lost(CONTROLLER, wrong) if flag.instead]
    instead = "; ".join(dict.fromkeys(rows)) or "no argument replaces it"
    return finding_of(
        (f"{argument}: {context.release} does not know it" for argument in wrong),
        f"Remove the argument, or replace it: {instead}. A program exits at a flag that it does not know.",
    )


def find_arguments_dropped(context: UpgradeContext) -> Finding | None:
    remedy = "Add the arguments to keep to controller_arguments. To drop all of them, set accept: [arguments-dropped]."
    return _dropped(context, remedy, is_ours=False)


def find_arguments_taken_back(context: UpgradeContext) -> Finding | None:
    remedy = "They are no longer in controller_arguments, so the upgrade removes them."
    return _dropped(context, remedy, is_ours=True)


def _dropped(context: UpgradeContext, remedy: str, *, is_ours: bool) -> Finding | None:
    live = context.controller
    if live is None or is_ours == bool(live.origin.key):
        return None
    return finding_of((f"{live}: {argument}" for argument in context.dropped_arguments), remedy)


def find_sidecar_arguments(context: UpgradeContext) -> Finding | None:
    found = [
        f"{workload}: {argument}, instead {flag.instead}"
        for workload in context.installed.running(SIDECAR)
        for argument, flag in flags.lost(SIDECAR, workload.arguments)
    ]
    return finding_of(
        found,
        "csi-snapshotter 8.2 exits at these arguments (8.3 at klog's flags). Change them when you upgrade that driver.",
    )


def find_nodes(context: UpgradeContext) -> Finding | None:
    given = flags.value(context.options.controller_arguments, "enable-distributed-snapshotting")
    return (
        None if given is None or given.lower() == "false" else Finding(("--enable-distributed-snapshotting",))
    )
