# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the collection with its alternatives: `make bench`, `make bench ROWS="certificates audit"`, `make bench-quick`.

All figures are measured in one run on one machine, and peers take turns. So their ratios hold on other machines too.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import sys
import time
from importlib import metadata
from pathlib import Path

from benchmarks import page, ratios, samples, tables
from benchmarks.rows import QUICK, ROWS
from benchmarks.rows.context import Bench
from benchmarks.samples import Results
from tests.support.clusters.build import kubernetes_version
from tools.release import git


def main(arguments: list[str]) -> int:
    """Measure the rows, print their tables, and write results and page. Return 1 if a peer could not be measured."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.rows) - set(ROWS))
    if unknown:
        parser.error(f"{unknown[0]} is not a row. Rows are {' '.join(ROWS)}")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # so that clusters are removed
    if given.page:
        page.write(samples.read(given.results))
        return 0
    bench = Bench(large=given.large, most_hosts=given.most_hosts, most_rounds=given.rounds, say=_say)
    chosen = [QUICK] if given.quick else given.rows or list(ROWS)
    for name in chosen:
        began = time.monotonic()
        with bench.attempt(name, "all"):
            ROWS[name].measure(bench)
        bench.results.about[name] = about(time.monotonic() - began)
        if not given.quick:
            _keep(bench.results, chosen, given.results)
    print(tables.text(bench.results))
    if given.quick:
        print(ratios.compare(samples.read(given.results), bench.results))
    elif given.results == samples.RESULTS:
        page.write(samples.read(given.results))
    return int(bool(bench.results.missing))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"the rows, all of them by default: {' '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="compare ratios with those of the results")
    parser.add_argument("--large", action="store_true", help="measure 1000 hosts too")
    parser.add_argument("--most-hosts", type=int, default=1000, help="the largest number of hosts")
    parser.add_argument("--rounds", type=int, default=3, help="the largest number of rounds")
    parser.add_argument("--results", type=Path, default=samples.RESULTS, help="the file of the results")
    parser.add_argument("--page", action="store_true", help="only write the page from the results")
    return parser


def about(seconds: float) -> dict[str, str]:
    """Return the machine and the versions of this run."""
    return {
        "commit": git("rev-parse", "--short=8", "HEAD"),
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "minutes": f"{seconds / 60:.1f}",
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "load": f"{os.getloadavg()[2]:.1f}",
        "system": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "kubernetes": kubernetes_version(),
        "ansible-core": metadata.version("ansible-core"),
        "kubernetes client": metadata.version("kubernetes"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _keep(results: Results, rows: list[str], path: Path) -> None:
    """Write the rows that are measured so far, so that an interrupted run keeps them."""
    done = [row for row in rows if row in results.about]
    path.write_text(samples.dump(samples.read(path).merged(results, done)))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
