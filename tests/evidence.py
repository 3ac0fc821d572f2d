# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.evidence` (`make evidence`) measures every page of results on one commit.

It runs up to four parts at the same time, and then the benchmarks one by one. It prints how each part ended, and ends with 1 if a
part failed. A part that has ended well on this commit is not run again, so a run that was stopped continues. Once all parts of a
page have ended well, the page names the commit and the date. Arguments select parts by words with which their names begin, or
with which a text after a colon begins.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.rows import ROWS
from tests.support.faults.mends import MENDS
from tests.system.audit.matrix import page as audit_page
from tests.system.fault_injection import page as reliability_page
from tests.system.fault_injection import transport
from tests.system.fault_injection.flows import FLOWS
from tests.system.upgrade.rows import page as upgrades_page
from tests.years import report
from tools.ci import process
from tools.ci.venvs import REPOSITORY
from tools.docs.written import Page
from tools.release import git

#: What the parts write. Other changes of the tree would be measured with the commit.
WRITTEN = ("docs/docsite/rst/reference_", "docs/docsite/rst/images/", "benchmarks/results.json")
RECORDS = REPOSITORY / ".work" / "evidence"
SEEDS = range(1, 3)
# A part with real clusters waits for half of its time.
AT_ONCE = 4
#: A part that runs for so long (seconds) hangs.
_HANGS = 12 * 3600.0
_writing = threading.Lock()


@dataclass(frozen=True)
class Part:
    """A command that measures a part of a page."""

    name: str
    #: The virtual environment, the Python module, and its arguments.
    command: tuple[str, ...]
    #: None for the page of the benchmarks, which names the commit of each row by itself.
    page: Page | None = None

    @property
    def log(self) -> Path:
        """The file with the output of the command."""
        return REPOSITORY / ".work" / "logs" / f"evidence-{re.sub('[^a-zA-Z0-9]+', '-', self.name)}.log"

    def run(self) -> int:
        """Run the command with its output in the log, and return its exit code."""
        environment, module, *arguments = self.command
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        command = [sys.executable, "-m", "tools.ci.enter", environment, "-m", module, *arguments]
        return process.run(command, self.log, os.environ, REPOSITORY, _HANGS)


def _reliability(table: str, *task: str) -> Part:
    command = ("dev", "tests.system.fault_injection", table, *task)
    return Part(": ".join(("reliability", table, *task)), command, reliability_page.PAGE)


def _years(directory: Path, seed: int) -> Part:
    command = ("dev", "tests.years", str(seed), "72", "", str(directory / str(seed)))
    return Part(f"years: seed {seed}", command, reliability_page.PAGE)


# The longest ones first.
PARTS = (
    *(
        Part(f"power: {mend.name}", ("dev", "tests.years.power", "12", mend.name), reliability_page.PAGE)
        for mend in MENDS
    ),
    *(
        Part(f"upgrades: {table}", ("dev", "tests.system.upgrade.rows", table), upgrades_page.PAGE)
        for table in upgrades_page.PARTS
    ),
    *(_reliability(reliability_page.TRANSPORT, flow.name) for flow in transport.FLOWS),
    *(_reliability(reliability_page.CRASHES, flow.name) for flow in FLOWS),
    _reliability(reliability_page.FALSE_ANSWERS),
    Part("audit-matrix", ("dev", "tests.system.audit.matrix"), audit_page.PAGE),
)
# Their figures need an idle machine.
BENCHMARKS = tuple(Part(f"benchmarks: {name}", ("bench", "benchmarks", name)) for name in ROWS)


def other_changes(status: str) -> list[str]:
    """Return the changed paths of `git status --porcelain` that no part writes."""
    paths = [line[3:] for line in status.splitlines()]
    return [path for path in paths if not path.startswith(WRITTEN)]


def read_names(done: Path) -> list[str]:
    """Return the names of the parts that have ended well."""
    return done.read_text().splitlines() if done.exists() else []


def measure(parts: Sequence[Part], done: Path, at_once: int = AT_ONCE) -> list[str]:
    """Run the parts whose names are not in a file, and add them to it. Return the names of those that failed."""
    with ThreadPoolExecutor(at_once) as pool:
        results = pool.map(partial(_measure_part, done=done), parts)
        return [part.name for part, is_good in zip(parts, results, strict=True) if not is_good]


def _measure_part(part: Part, done: Path) -> bool:
    """Run a part that has not ended well yet. Return True if it has now."""
    if part.name in read_names(done):
        print(f"done    {part.name}", flush=True)
        return True
    start = time.monotonic()
    code = part.run()
    with _writing:
        end = f"FAILED ({code}), see {part.log.relative_to(REPOSITORY)}" if code else "ok"
        print(f"{end}    {part.name} in {time.monotonic() - start:.0f} s", flush=True)
        if not code:
            with done.open("a") as file:
                file.write(f"{part.name}\n")
    return code == 0


def name_commit(commit: str, done: Path, parts: Sequence[Part]) -> None:
    """Write commit and date to each page whose parts have all ended well."""
    names = read_names(done)
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    for page in {part.page for part in parts if part.page}:
        if all(part.name in names for part in parts if part.page == page):
            with page.alone():
                page.name_commit(
                    f"All figures of this page were measured on commit ``{commit[:8]}``, the last one on {day}."
                )


def select(parts: Sequence[Part], words: Sequence[str]) -> list[Part]:
    """Return the parts whose names, or a text after a colon in them, begin with one of the words. All parts if there is no word."""
    return [part for part in parts if not words or any(f": {word}" in f": {part.name}" for word in words)]


def main(words: list[str]) -> int:
    if changes := other_changes(git("status", "--porcelain", "--untracked-files=all")):
        sys.exit(f"Commit these changes first, or remove them: {', '.join(changes)}")
    commit = git("rev-parse", "HEAD")
    done, years = RECORDS / commit, RECORDS / f"{commit}-years"
    parts = (*(_years(years, seed) for seed in SEEDS), *PARTS)
    together, alone = select(parts, words), select(BENCHMARKS, words)
    if not together and not alone:
        sys.exit(f"No part has such a name. Names: {'; '.join(part.name for part in (*parts, *BENCHMARKS))}")
    process.end_all_at_a_signal()
    RECORDS.mkdir(parents=True, exist_ok=True)
    failed = [*measure(together, done), *measure(alone, done, 1)]
    if years.exists():
        report.write_page(years)
    name_commit(commit, done, parts)
    count = len(together) + len(alone)
    print(f"{count - len(failed)} of {count} parts ended well on commit {commit[:8]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
