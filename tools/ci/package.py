# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gates for the built collection: ansible-lint, the built file, its import, its pages."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tools.ci import process, tree, venvs
from tools.ci.environments import LINT
from tools.ci.result import GateResult, of_exit
from tools.ci.venvs import REPOSITORY

# The settings of Automation Hub, without ansible-test and flake8. ansible-test is a gate of its own. flake8's
# W503 and E203 contradict the formatter, and ruff checks the rest.
_IMPORTER_SETTINGS = """\
[galaxy-importer]
ANSIBLE_LOCAL_TMP = {work}/tmp
CHECK_CHANGELOG = True
CHECK_REQUIRED_TAGS = True
REQUIRE_V1_OR_GREATER = True
RUN_ANSIBLE_DOC = True
RUN_ANSIBLE_LINT = True
RUN_ANSIBLE_TEST = False
RUN_FLAKE8 = False
"""


# What has a page -> the paths in the collection
_PAGES = {
    "module": "plugins/modules/[a-z]*.py",
    "inventory": "plugins/inventory/[a-z]*.py",
    "lookup": "plugins/lookup/[a-z]*.py",
    "role": "roles/*",
}


def ansible_lint(log: Path) -> GateResult:
    """Run ansible-lint with profile production, offline, on a copy, because it leaves a cache in the tree."""
    place = tree.copy("ansible-lint")
    return of_exit(_lint_tool(("ansible-lint", "--offline", "--strict", "--nocolor"), place, log))


def _lint_tool(command: Sequence[str | Path], place: Path, log: Path, **variables: str) -> int:
    venv = venvs.ensure(LINT)
    return process.run([venv / "bin" / command[0], *command[1:]], log, tree.environ(venv) | variables, place)


def _build(name: str, log: Path) -> Path | None:
    """Build the collection from a copy. Return the file, or None after a failure, which the log explains."""
    place = tree.copy(name)
    output = place.parents[2] / "dist"
    if _lint_tool(("ansible-galaxy", "collection", "build", "--output-path", output), place, log):
        return None
    return next(output.glob("*.tar.gz"))


def galaxy_importer(log: Path) -> GateResult:
    """Check that the built file has the expected files, and that Galaxy's importer accepts it without a
    warning.
    """
    built = _build("galaxy-importer", log)
    if built is None:
        return of_exit(1)
    with tarfile.open(built) as archive:
        extra = [name for name in archive.getnames() if not tree.shipped(name)]
    work = built.parent
    (work / "tmp").mkdir()
    settings = work / "importer.cfg"
    settings.write_text(_IMPORTER_SETTINGS.format(work=work))
    command = ("python", "-m", "galaxy_importer.main", built)
    code = _lint_tool(command, work, log, GALAXY_IMPORTER_CONFIG=str(settings))
    complaints = re.findall(r"^(?:WARNING|ERROR).*", log.read_text(errors="replace"), re.MULTILINE)
    with log.open("a") as output:
        output.writelines(f"\nshipped but not meant to be: {name}" for name in extra)
        output.writelines(f"\ncomplaint: {line}" for line in complaints)
    return of_exit(code or len(extra) or len(complaints))


def ansible_doc(log: Path) -> GateResult:
    """Check that the pages of all modules, roles and plugins can be read from the installed file."""
    built = _build("ansible-doc", log)
    if built is None:
        return of_exit(1)
    place = built.parent

    def ask(*command: str | Path) -> int:
        # The repository on PYTHONPATH is a collection too: ansible-galaxy would install nothing, and ansible-doc would read it.
        return _lint_tool(command, place, log, ANSIBLE_COLLECTIONS_PATH=str(place), PYTHONPATH="")

    code = ask("ansible-galaxy", "collection", "install", "--offline", "--no-deps", "-p", place, built)
    found = pages(place / "ansible_collections" / "certflow" / "kubernetes")
    if found != pages(REPOSITORY):
        with log.open("a") as output:
            output.write(f"\ninstalled are other pages than those of the repository: {found}\n")
        return of_exit(1)
    for kind in _PAGES:
        names = [f"certflow.kubernetes.{name}" for entry, name in found if entry == kind]
        code = ask("ansible-doc", "--type", kind, *names) or code
    return of_exit(code)


def pages(collection: Path) -> list[tuple[str, str]]:
    """Return kind and name of each module, role and plugin in the directory of a collection that has a page."""
    return [
        (kind, path.stem) for kind, pattern in _PAGES.items() for path in sorted(collection.glob(pattern))
    ]
