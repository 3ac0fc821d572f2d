# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the controller: its permissions, arguments, selector and group snapshots. Pure."""

from __future__ import annotations

from ..installed.state import CONTROLLER, CONVERSION, SIDECAR, VALIDATION
from ..plan.upgrade_context import Situation
from ..release import flags
from ..release.release_table import GROUP_GATE
from .finding import Finding, labels, listed


def rights_first(now: Situation) -> Finding | None:
    missing = now.installed.missing_rights
    if now.is_first or not missing:
        return None
    return Finding(listed(missing))


def selector(now: Situation) -> Finding | None:
    live = now.controller
    if live is None or not now.detaches_controller or dict(live.selector) == dict(now.selector):
        return None
    return Finding((f"{live}: selector {labels(live.selector)}, required {labels(now.selector)}",))


def unknown_arguments(now: Situation) -> Finding | None:
    """Find arguments of the options that the release does not know."""
    wrong = flags.unknown(CONTROLLER, now.options.controller_arguments, now.release)
    for kind in (VALIDATION, CONVERSION):
        if now.wants(kind):
            wrong += flags.unknown(kind, now.options.webhook_arguments, now.release)
    if not wrong:
        return None
    return Finding(
        listed(f"{one}: {now.release} does not know it" for one in wrong),
        f"Remove the argument, or replace it: {_instead(wrong)}. A program exits at a flag that it does not know.",
    )


def _instead(arguments: list[str]) -> str:
    rows = flags.lost(CONTROLLER, arguments)
    return (
        "; ".join(dict.fromkeys(flag.instead for _one, flag in rows if flag.instead))
        or "no argument replaces it"
    )


def ended_arguments(now: Situation) -> Finding | None:
    """Find arguments of the running controller that the release does not know."""
    live = now.controller
    wrong = flags.unknown(CONTROLLER, live.arguments, now.release) if live else []
    return Finding(listed(f"{live}: {one}" for one in wrong)) if wrong else None


def dropped_arguments(now: Situation) -> Finding | None:
    live, dropped = now.controller, now.dropped_arguments
    if live is None or not live.origin.key or not dropped:
        return None
    return Finding(
        listed(f"{live}: {one}" for one in dropped),
        "Add the arguments to keep to controller_arguments. To drop all of them, set accept: [arguments-dropped].",
    )


def arguments_taken_back(now: Situation) -> Finding | None:
    live, dropped = now.controller, now.dropped_arguments
    if live is None or live.origin.key or not dropped:
        return None
    return Finding(
        listed(f"{live}: {one}" for one in dropped),
        "They are no longer in controller_arguments, so the upgrade removes them.",
    )


def sidecars_flags(now: Situation) -> Finding | None:
    found = [
        f"{one}: {argument}, instead {flag.instead}"
        for one in now.installed.running(SIDECAR)
        for argument, flag in flags.lost(SIDECAR, one.arguments)
    ]
    if not found:
        return None
    return Finding(
        listed(found),
        "csi-snapshotter 8.2 exits at these arguments (8.3 at klog's flags). Change them when you upgrade that driver.",
    )


def gate_by_default(now: Situation) -> Finding | None:
    groups = now.release.groups
    if not (groups and groups.on):
        return None
    word = "on" if now.groups_wanted else "off"
    return Finding((f"{GROUP_GATE} is on by default in {now.release}; it is set to {word}",))


def better_patch(now: Situation) -> Finding | None:
    if not now.release.avoid:
        return None
    return Finding(
        (f"{now.release}: {now.release.avoid}",), "On a cluster with many snapshots, use that patch release."
    )


def image_of_another(now: Situation) -> Finding | None:
    """Report the release's images: upstream's manifests name older ones, or images that never existed."""
    return Finding((f"the objects of {now.release} run the images of {now.release}",))


def nodes(now: Situation) -> Finding | None:
    given = flags.value(now.options.controller_arguments, "enable-distributed-snapshotting")
    if given is None or given.lower() == "false":
        return None
    return Finding(("--enable-distributed-snapshotting",))


def gap_of_leaders(now: Situation) -> Finding | None:
    live = now.controller
    if live is None or live.version == now.release.version:
        return None
    return Finding(
        (f"{live}: a new leader is elected up to 15 s after the old one ended",),
        "Snapshots that are created in this time wait for the new leader. No snapshot is lost.",
    )
