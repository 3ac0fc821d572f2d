# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`python -m tests.system.evidence` (`make evidence`) measures every page of results on one commit.

It runs the parts one after the other, prints how each ended, and ends with 1 if one failed. A part that has ended well on this
commit is not run again, so a run that was stopped continues. Once all parts of a page have ended well, the page names the commit
and the date. Arguments select parts by words of their names.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import ROWS
from tests.system.audit_matrix import page as audit_page
from tests.system.fault_injection import page as reliability_page
from tests.system.fault_injection import transport
from tests.system.fault_injection.flows import FLOWS
from tests.system.upgrades import page as upgrades_page
from tools.ci.venvs import REPOSITORY
from tools.docs.written import Page
from tools.release import git

#: What the parts write. Other changes of the tree would be measured with the commit.
WRITTEN = ("docs/docsite/rst/reference_", "docs/docsite/rst/images/", "benchmarks/results.json")
DONE = REPOSITORY / ".work" / "evidence"
SEEDS = range(1, 5)


@dataclass(frozen=True)
class Part:
    """A command that measures a part of a page."""

    name: str
    #: The virtual environment, the Python module, and its arguments.
    command: tuple[str, ...]
    #: None for a page that names the commit by itself.
    page: Page | None = None


def _reliability(table: str, *task: str) -> Part:
    command = ("dev", "tests.system.fault_injection", table, *task)
    return Part(": ".join(("reliability", table, *task)), command, reliability_page.PAGE)


PARTS = (
    Part("audit-matrix", ("dev", "tests.system.audit_matrix"), audit_page.PAGE),
    *(_reliability(reliability_page.CRASHES, flow.name) for flow in FLOWS),
    *(_reliability(reliability_page.TRANSPORT, flow.name) for flow in transport.FLOWS),
    _reliability(reliability_page.FALSE_ANSWERS),
    *(
        Part(f"upgrades: {table}", ("dev", "tests.system.upgrades", table), upgrades_page.PAGE)
        for table in upgrades_page.PARTS
    ),
    *(Part(f"benchmarks: {name}", ("bench", "benchmarks", name)) for name in ROWS),
    *(Part(f"years: seed {seed}", ("dev", "tests.years", str(seed))) for seed in SEEDS),
)


def other_changes(status: str) -> list[str]:
    """Return the changed paths of `git status --porcelain` that no part writes."""
    paths = [line[3:] for line in status.splitlines()]
    return [path for path in paths if not path.startswith(WRITTEN)]


def read_names(done: Path) -> list[str]:
    """Return the names of the parts that have ended well."""
    return done.read_text().splitlines() if done.exists() else []


def measure(parts: tuple[Part, ...], done: Path) -> list[str]:
    """Run the parts whose names are not in a file, and add them to it. Return the names of those that failed."""
    failed = []
    for part in parts:
        if part.name in read_names(done):
            print(f"done    {part.name}", flush=True)
            continue
        environment, module, *arguments = part.command
        command = [sys.executable, "-m", "tools.ci.enter", environment, "-m", module, *arguments]
        code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        print(f"{f'FAILED ({code})' if code else 'ok'}    {part.name}", flush=True)
        if code:
            failed.append(part.name)
        else:
            with done.open("a") as file:
                file.write(f"{part.name}\n")
    return failed


def name_commit(commit: str, done: Path, parts: tuple[Part, ...] = PARTS) -> None:
    """Write commit and date to each page whose parts have all ended well."""
    names = read_names(done)
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    for page in {part.page for part in parts if part.page}:
        if all(part.name in names for part in parts if part.page == page):
            page.name_commit(
                f"All figures of this page were measured on commit ``{commit[:8]}``, the last one on {day}."
            )


def main(words: list[str]) -> int:
    if changes := other_changes(git("status", "--porcelain", "--untracked-files=all")):
        sys.exit(f"Commit these changes first, or remove them: {', '.join(changes)}")
    parts = tuple(part for part in PARTS if not words or any(word in part.name for word in words))
    if not parts:
        sys.exit(f"No part has such a name. Names: {'; '.join(part.name for part in PARTS)}")
    commit = git("rev-parse", "HEAD")
    DONE.mkdir(parents=True, exist_ok=True)
    failed = measure(parts, DONE / commit)
    name_commit(commit, DONE / commit)
    print(f"{len(parts) - len(failed)} of {len(parts)} parts ended well on commit {commit[:8]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
