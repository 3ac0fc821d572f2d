# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `make demo` on two clusters of its own. The exit status is 0 only if every step succeeded."""

from __future__ import annotations

import argparse
import sys
import time

from examples.demo import story
from examples.demo.clusters import BREAKS, announce, ended, say, say_end
from tests.support import clusters


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--break",
        dest="broken",
        choices=BREAKS,
        default="",
        help="break this on purpose, so that the demo fails",
    )
    broken = parser.parse_args().broken
    return ended(lambda: _tell(broken))


def _tell(broken: str) -> bool:
    steps = story.steps_of(broken)
    announce(
        "Install a webhook's certificate on two real clusters: one like on-premises, one like Amazon EKS.",
        [title for title, _step in steps],
    )
    if not clusters.why_no_build():
        clusters.snapshotter_dir()
    if not broken and not clusters.why_no_node():
        clusters.prepare_node()
    start = time.monotonic()
    with clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet:
        for name, cluster in fleet.items():
            profile = clusters.PROFILES[cluster.profile_name]
            say(f"  {name:7} {cluster.url}  {profile.description}")
        say(f"  ready after {time.monotonic() - start:.0f} s")
        complete = story.tell(fleet, steps, broken)
    say_end(complete, start)
    say(
        "make demo-fleet shows a roll-out to six clusters, make demo-ca the rotation of a cluster CA, and make demo-upgrade "
        "an upgrade of the snapshot controller."
    )
    return complete


if __name__ == "__main__":
    sys.exit(main())
