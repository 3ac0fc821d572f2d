# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the documentation site: the pages of all plugins and roles, and the guides of docs/docsite."""

from __future__ import annotations

import re
import shutil
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

from tools.ci import process, tree, venvs
from tools.ci.environments import SITE
from tools.ci.result import GateResult, of_exit
from tools.ci.venvs import REPOSITORY

#: Folder of the built site.
HTML = tree.WORK / "site"
COLLECTION = "certflow.kubernetes"
_SETTINGS = REPOSITORY / "tools" / "docs" / "sphinx"
_CONFIGURATION = "reference_appendices/config.html"
#: The parts of Ansible's documentation that generated pages refer to: kind and name, address, and title.
_OF_ANSIBLE: dict[tuple[str, str], tuple[str, str]] = {
    ("label", "action_plugins"): ("plugins/action.html#action-plugins", "Action plugins"),
    ("label", "ansible_configuration_settings"): (
        f"{_CONFIGURATION}#ansible-configuration-settings",
        "Ansible Configuration Settings",
    ),
    ("label", "common_return_values"): (
        "reference_appendices/common_return_values.html#common-return-values",
        "Return Values",
    ),
    **{
        ("envvar", name): (f"{_CONFIGURATION}#envvar-{name}", "-")
        for name in ("ANSIBLE_KEEP_REMOTE_FILES", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED")
    },
}


def check(log: Path) -> GateResult:
    """Build the site without a warning. antsibull-docs also checks the markup of all pages."""
    place = tree.copy("site")
    work = place.parents[2] / "sphinx"
    source = work / "rst"
    source.mkdir(parents=True, mode=0o755)
    shutil.copytree(_SETTINGS, work, dirs_exist_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    antsibull = ("antsibull-docs", "--config-file", work / "antsibull-docs.cfg")
    commands: tuple[tuple[str | Path, ...], ...] = (
        (*antsibull, "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", place),
        (*antsibull, "collection", "--use-current", "--squash-hierarchy", "--dest-dir", source, COLLECTION),
        ("sphinx-build", "-n", "-W", "--keep-going", "-q", "-j", "2", "-c", work, source, HTML),
    )  # fmt: skip
    venv = venvs.ensure(SITE)
    environment = tree.environ(venv) | {"ANSIBLE_COLLECTIONS_PATH": str(place.parents[2])}
    for program, *arguments in commands:
        if program == "sphinx-build":
            # antsibull-docs copies only the pages.
            shutil.copytree(place / "docs" / "docsite" / "rst" / "images", source / "docsite" / "images")
            _complete(source)
        if code := process.run([venv / "bin" / str(program), *arguments], log, environment, work):
            return of_exit(code)
    python, target = venv / "bin" / "python", HTML / "report.schema.json"
    schema: list[str | Path] = [python, "-m", "tools.docs.report_schema", target]
    return of_exit(process.run(schema, log, environment, REPOSITORY))


def _complete(source: Path) -> None:
    """Write the inventory of Ansible's documentation, and complete the page of the collection."""
    texts = "".join(path.read_text() for path in source.rglob("*.rst"))
    modules = set(re.findall(r"ansible_collections\.ansible\.builtin\.(\w+)_module", texts))
    builtin = {
        ("label", f"ansible_collections.ansible.builtin.{name}_module"): (
            f"collections/ansible/builtin/{name}_module.html",
            f"ansible.builtin.{name}",
        )
        for name in sorted(modules)
    }
    (source / "ansible.inv").write_bytes(inventory({**_OF_ANSIBLE, **builtin}))
    index = source / "index.rst"
    landing = (_SETTINGS / "landing.rst").read_text()
    index.write_text(with_landing(with_captions(index.read_text()), landing))


def with_captions(index: str) -> str:
    """Return the page of the collection with a caption and short titles for the side bar, and the collection's real name."""
    lines: list[str] = []
    heading = ""
    for line in index.splitlines():
        if re.fullmatch(r"[-~]{3,}", line):
            heading = lines[-1]
        plugin = re.fullmatch(r" +(?!docsite/)(\w+)_([a-z]+)", line)
        lines.append(f"    {plugin[1]} <{plugin[0].strip()}>" if plugin else line)
        if line == ".. toctree::" and heading and not heading.startswith("Communication"):
            lines.append(f"    :caption: {heading.replace('Role Index', 'Roles')}")
    return "\n".join(lines).replace("Certflow.Kubernetes\n", f"{COLLECTION}\n", 1) + "\n"


def with_landing(index: str, landing: str) -> str:
    """Return the page of the collection with the questions of its readers before its first section."""
    heading = re.search(r"^.+\n-{3,}$", index, re.MULTILINE)
    assert heading, "the page has no section"
    return index[: heading.start()] + landing + index[heading.start() :]


def inventory(targets: Mapping[tuple[str, str], tuple[str, str]]) -> bytes:
    """Return an inventory of sphinx, version 2, with these targets."""
    head = b"# Sphinx inventory version 2\n# Project: Ansible\n# Version: \n# The remainder of this file is compressed using zlib.\n"
    lines = (
        f"{name} std:{kind} -1 {address} {title}\n" for (kind, name), (address, title) in targets.items()
    )
    return head + zlib.compress("".join(lines).encode())


def main() -> None:
    """Build the site, and print the log after a failure."""
    log = tree.WORK / "logs" / "docsite.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    failed = check(log).failed
    print(log.read_text() if failed else HTML / "index.html")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
