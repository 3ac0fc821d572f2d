# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command for users: up, down, list, kubeconfig, build."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from tests.support.clusters import by_hand
from tests.support.clusters.build import programs, say
from tests.support.clusters.build_for_tests import programs_of_tests
from tests.support.clusters.errors import ClusterError, UsageError
from tests.support.clusters.existing_programs import VARIABLE
from tests.support.clusters.fleet import check, prepare
from tests.support.clusters.pins import KUBERNETES_RELEASES
from tests.support.clusters.profiles import PROFILES


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line instead of a page of usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        options.act(options)
    except ClusterError as error:
        print(f"clusters: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("clusters: interrupted; nothing is left running", file=sys.stderr)
        return 130
    return 0


def _parser() -> _Parser:
    kinds = "; ".join(f"{name}: {profile.description}" for name, profile in PROFILES.items())
    parser = _Parser(
        prog="clusters",
        description="Real Kubernetes control planes on this machine, for trying things out and for tests.",
        epilog=f"Kinds of clusters (profiles): {kinds}. Releases of Kubernetes: {', '.join(KUBERNETES_RELEASES)}. {VARIABLE} may name a folder with kube-apiserver, kube-controller-manager, "
        "etcd and kubectl, which are used instead of programs that are built here.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    up = commands.add_parser("up", help="start clusters; they stay until `down`")
    up.add_argument(
        "clusters",
        nargs="*",
        metavar="NAME=PROFILE",
        help="a name of your choice and a profile, or PROFILE@RELEASE; a profile alone is its own name; "
        "default: one of each profile without a node",
    )
    up.set_defaults(act=_up)
    down = commands.add_parser("down", help="stop clusters and remove all that they left")
    down.add_argument("names", nargs="*", metavar="NAME", help="default: all that `up` started")
    down.set_defaults(act=_down)
    listing = commands.add_parser("list", help="show the clusters that `up` started")
    listing.set_defaults(act=_list)
    config = commands.add_parser("kubeconfig", help="print the path of a kubeconfig")
    config.add_argument(
        "name", nargs="?", metavar="NAME", help="default: one file with a context per cluster"
    )
    config.set_defaults(act=lambda options: print(by_hand.kubeconfig_of(options.name)))
    build = commands.add_parser(
        "build", help="only build the programs of a control plane (`up` does it when needed)"
    )
    build.add_argument(
        "release", nargs="?", default="", choices=["", *KUBERNETES_RELEASES], metavar="RELEASE"
    )
    build.add_argument(
        "--tests",
        action="store_true",
        help="also build what the tests start: nodes, snapshot controllers, cert-manager, Helm",
    )
    build.set_defaults(act=_build)
    return parser


def _build(options: argparse.Namespace) -> None:
    if options.tests:
        programs_of_tests()
    print(programs(release=options.release))


def _up(options: argparse.Namespace) -> None:
    wanted: dict[str, str] = {}
    for word in options.clusters or [name for name, profile in PROFILES.items() if profile.usual]:
        name, _equals, profile = word.partition("=")
        if name in wanted:
            raise UsageError(f"{name!r} is asked for twice")
        wanted[name] = profile or name
    check(wanted)
    prepare(wanted)  # Build before the clock of `up` starts.
    fleet = by_hand.up(wanted)
    say(f"{', '.join(fleet)}: ready after {fleet.ready_after:.1f} s")
    say(f"export KUBECONFIG={by_hand.kubeconfig_of(None)}")


def _down(options: argparse.Namespace) -> None:
    stopped = by_hand.down(options.names)
    say(f"stopped: {', '.join(stopped)}" if stopped else "no cluster was up")


def _list(_options: argparse.Namespace) -> None:
    rows = [("NAME", "PROFILE", "SERVER", "RUNNING")]
    for name, cluster in by_hand.clusters_up().items():
        rows.append((name, cluster.profile_name, cluster.url, ", ".join(cluster.running) or "nothing"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))


if __name__ == "__main__":
    sys.exit(main())
