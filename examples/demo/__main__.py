# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run `make demo` on two clusters of its own. The exit status is 0 only if every step succeeded."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from examples.demo import story
from examples.demo.clusters import BREAKS, announce, say
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
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if _tell(broken) else 1
    except clusters.ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted. Nothing is left running", file=sys.stderr)
        return 130


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
    seconds = time.monotonic() - start
    say(
        f"{'Every step succeeded' if complete else 'NOT every step succeeded'}, in {seconds:.0f} s. Nothing is left running."
    )
    say(
        "make demo-fleet shows a roll-out to six clusters, and make demo-upgrade an upgrade of the snapshot controller."
    )
    return complete


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
