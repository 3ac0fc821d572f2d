# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo`: tells the story on two clusters of its own. Ends with 0 only if all of it was seen."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from examples.demo import story
from examples.demo.clusters import BREAKS, say
from tests.support import clusters


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--break",
        dest="broken",
        choices=BREAKS,
        default="",
        help="break this on purpose and see the demo fail",
    )
    broken = parser.parse_args().broken
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 0 if _tell(broken) else 1
    except clusters.ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; nothing is left running", file=sys.stderr)
        return 130


def _tell(broken: str) -> bool:
    say("A webhook's certificate on two real Kubernetes clusters: one like on-premises, one like Amazon EKS.")
    clusters.programs()  # minutes at the first time, which are no part of the story
    clusters.snapshotter_dir()
    if not broken and not clusters.why_no_node():
        clusters.prepare_node()
    start = time.monotonic()
    with clusters.running({"onprem": "onprem", "eks": "eks"}) as fleet:
        for name, cluster in fleet.items():
            profile = clusters.PROFILES[cluster.profile_name]
            say(f"  {name:7} {cluster.url}  {profile.description}")
        say(f"  ready after {time.monotonic() - start:.0f} s")
        complete = story.tell(fleet, broken)
    seconds = time.monotonic() - start
    say(
        f"{'All of it was seen' if complete else 'NOT all of it was seen'}, in {seconds:.0f} s; nothing is left running."
    )
    say("make demo-upgrade shows the snapshot controller's way to another release.")
    return complete


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
