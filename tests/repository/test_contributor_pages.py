# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages for contributors agree with the code: their links, paths, example rows, rooms and gates."""

from __future__ import annotations
import __future__

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.repository.test_import_rules import MAY_IMPORT
from tests.support.clusters.pins import KUBERNETES_RELEASES
from tools.ci.gates import ALL, MODULE_TARGETS, OTHER_VERSIONS, PROGRAMS
from tools.ci.tree import listed_files
from tools.ci.venvs import REPOSITORY

PAGES = (
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "MAINTAINERS.md",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "docs/architecture.md",
    *(name for name in listed_files() if re.fullmatch(r"docs/decisions/.*\.md", name)),
)
# As in the files of the collection.
FLAGS = __future__.annotations.compiler_flag
CONTRIBUTING, ARCHITECTURE = "CONTRIBUTING.md", "docs/architecture.md"
ON_GITHUB = re.compile(
    r"https://(?:github\.com/certflow/certflow\.kubernetes/(?:blob|tree)|raw\.githubusercontent\.com/certflow/certflow\.kubernetes)/main/"
)
MODULE_UTILS = "plugins/module_utils"
TARGETS = REPOSITORY / "tests" / "integration" / "targets"


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text()


def links(page: str) -> list[str]:
    """Return the targets of links to this repository, absolute ones, also in commands, as paths that begin with "/"."""
    text = ON_GITHUB.sub("/", text_of(page))
    found = re.findall(r"\]\(([^)\s]+)\)|^\[[\w-]+\]: (\S+)$", text, re.MULTILINE)
    targets = [inline or reference for inline, reference in found]
    in_commands = re.findall(rf"{ON_GITHUB.pattern}([^\s)#>`]+)", text_of(page))
    return [
        *(target for target in targets if not re.match(r"\w+:", target)),
        *(f"/{path}" for path in in_commands),
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_the_repository_leads_somewhere(page: str) -> None:
    wrong = []
    for link in links(page):
        path, _separator, anchor = link.partition("#")
        base = REPOSITORY if path.startswith("/") else (REPOSITORY / page).parent
        target = base / path.lstrip("/") if path else REPOSITORY / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", [CONTRIBUTING, ARCHITECTURE, "MAINTAINERS.md", *PAGES[7:]])
def test_every_path_exists(page: str) -> None:
    """Paths are in backticks. Those that begin with an underscore are below plugins/module_utils."""
    folders = "changelogs|docs|examples|meta|playbooks|plugins|roles|tests|tools"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*[\w/]|_[a-z0-9_]+/[\w./]+|_[a-z0-9_]+)`", text_of(page))
    places = [f"{MODULE_UTILS}/{path}" if path.startswith("_") else path for path in paths]
    # The reader replaces a word in capitals, and makes the configuration.
    known = [place for place in places if not re.search(r"[A-Z]{4}|integration_config\.yml$", place)]
    assert [
        place for place in known if not any((REPOSITORY / f"{place}{end}").exists() for end in ("", ".py"))
    ] == []


def test_the_readme_names_each_release_of_kubernetes_that_is_tested() -> None:
    sentence = re.search(r"control planes of Kubernetes ([\d., and]+)", text_of("README.md"))
    assert sentence
    assert re.findall(r"\d+\.\d+", sentence[1]) == list(KUBERNETES_RELEASES)


def test_the_table_of_rooms_has_every_room_below_those_it_imports() -> None:
    table = re.findall(r"^\| `(_\w+)` \|", text_of(ARCHITECTURE), re.MULTILINE)
    assert sorted(table) == sorted(MAY_IMPORT)
    assert [
        f"{room} is above {other}"
        for room, others in MAY_IMPORT.items()
        for other in others
        if table.index(other) > table.index(room) and room not in MAY_IMPORT[other]
    ] == []


def test_every_gate_is_in_one_workflow() -> None:
    """The tests with the marker full take hours, so only `make test-all` runs them. A job of a workflow builds what its own gate needs."""
    jobs = [
        job
        for path in sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        if "strategy" in job  # The job that publishes the site has no gate.
    ]
    names = [gate for job in jobs for gate in job["strategy"]["matrix"]["gate"]]
    assert sorted(names) == sorted(gate.name for gate in (*ALL, *OTHER_VERSIONS) if gate != PROGRAMS)


def test_every_module_and_role_has_an_integration_target() -> None:
    """The targets of playbooks cover an internal module."""
    pages = sorted((REPOSITORY / "plugins" / "modules").glob("*.py"))
    modules = [path.stem for path in pages if "(internal)" not in path.read_text()]
    roles = sorted(f"role_{path.name}" for path in (REPOSITORY / "roles").iterdir())
    assert [name for name in (*modules, *roles) if not (TARGETS / name).is_dir()] == []
    assert sorted(MODULE_TARGETS) == modules


def test_every_fragment_has_known_sections() -> None:
    config = yaml.safe_load(text_of("changelogs/config.yaml"))
    known = {name for name, _title in config["sections"]} | {config["trivial_section_name"]}
    for path in (REPOSITORY / "changelogs" / "fragments").glob("*.y*ml"):
        fragment = yaml.safe_load(path.read_text())
        others = {config["prelude_section_name"], "add object.role", "add object.playbook"}
        lists = {name: value for name, value in fragment.items() if name not in others}
        assert set(lists) <= known, path.name
        assert all(isinstance(entry, str) for entries in lists.values() for entry in entries), path.name


@pytest.mark.parametrize("name", [name for name in listed_files() if name.endswith(".svg")])
def test_every_diagram_has_a_title_and_both_colour_schemes(name: str) -> None:
    root = ElementTree.fromstring(text_of(name))
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title")
    assert root.findtext(f"{space}desc")
    assert "prefers-color-scheme: dark" in (root.findtext(f"{space}style") or "")
