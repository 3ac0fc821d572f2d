# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The YAML of the pages: each block can be read, and names only options and variables that exist."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._variables.specs import PLAYBOOK_VARIABLES

from tests.support.pages import page_files
from tools.ci.venvs import REPOSITORY

PAGES = sorted(
    [
        REPOSITORY / "README.md",
        *REPOSITORY.glob("roles/*/README.md"),
        *REPOSITORY.glob("docs/docsite/rst/*.rst"),
        *REPOSITORY.glob("examples/*/README.md"),
    ]
)
ROLES = ("snapshot_controller", "webhook_certificate")
COLLECTION = "certflow.kubernetes."
#: Variables of the playbooks, and of the inventory plugin.
OF_PLAYBOOKS = re.compile(r"\bcertflow_[a-z_]+")
# Results and facts of the roles.
PUBLISHED = re.compile(r"_(result|is_changed)$")


class Loader(yaml.SafeLoader):
    """A loader that also reads the tags of Ansible."""


Loader.add_constructor("!vault", lambda loader, node: str(node.value))
Loader.add_constructor("!unsafe", lambda loader, node: str(node.value))


def blocks(page: Path) -> list[str]:
    return [text for kind, text in page_files.blocks(page) if kind in page_files.YAML]


def variables() -> set[str]:
    """Return the variables of the roles and playbooks."""
    names: set[str] = set()
    for role in ROLES:
        specs = yaml.safe_load((REPOSITORY / "roles" / role / "meta" / "argument_specs.yml").read_text())
        for entry in specs["argument_specs"].values():
            names |= set(entry.get("options", {}))
    for path in (REPOSITORY / "playbooks").rglob("*.yml"):
        names |= set(OF_PLAYBOOKS.findall(path.read_text()))
    return names | PLAYBOOK_VARIABLES.keys()


def module_options(name: str) -> Mapping[str, Any]:
    operation = importlib.import_module(f"ansible_collections.certflow.kubernetes.plugins.action.{name}")
    spec: Mapping[str, Any] = operation.ActionModule.operation.argument_spec
    return spec


def unknown_options(given: Any, spec: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield the options that a specification does not have. A template in place of a dictionary is not checked."""
    if not isinstance(given, Mapping):
        return
    aliases: dict[str, str] = {
        alias: name for name, entry in spec.items() for alias in entry.get("aliases", ())
    }
    for name, value in given.items():
        entry = spec.get(aliases.get(str(name), str(name)))
        if entry is None:
            yield f"{place}.{name}"
        elif entry.get("options"):
            for item in value if isinstance(value, list) else [value]:
                yield from unknown_options(item, entry["options"], f"{place}.{name}")


def is_variable(name: str) -> bool:
    """Return True for a name that begins as the variables of the roles and playbooks do, except for results."""
    prefixes = tuple(f"{prefix}_" for prefix in (*ROLES, "certflow"))
    return name.startswith(prefixes) and not PUBLISHED.search(name)


def problems(data: Any, known: set[str]) -> Iterator[str]:
    """Yield the options of modules and the variables that do not exist, wherever they are in a document."""
    if isinstance(data, list):
        for item in data:
            yield from problems(item, known)
    elif isinstance(data, Mapping):
        for key, value in data.items():
            name = str(key)
            if name.startswith(COLLECTION):
                module = name.removeprefix(COLLECTION)
                yield from unknown_options(value, module_options(module), module)
            elif is_variable(name) and name not in known:
                yield name
            yield from problems(value, known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_yaml_block_names_what_exists(page: Path) -> None:
    known = variables()
    found = [
        problem
        for text in blocks(page)
        for document in yaml.load_all(text, Loader)
        for problem in problems(document, known)
    ]
    assert found == []


def test_pages_have_examples() -> None:
    assert len([text for page in PAGES for text in blocks(page)]) > 10


@pytest.mark.parametrize(
    "text",
    [
        "- certflow.kubernetes.k8s_csr: {secrt: {name: a}}",
        "- certflow.kubernetes.k8s_csr: {targets: [{kinds: a}]}",
        "webhook_certificate_targts: []",
        "- hosts: a\n  vars: {certflow_max_failure: 1}",
    ],
)
def test_a_wrong_name_is_found(text: str) -> None:
    assert len(list(problems(yaml.safe_load(text), variables()))) == 1


def test_commands_are_without_comments(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("```shell\n# The first step\nb # now\n# c\n```\n")
    assert page_files.commands(tmp_path / "a.md") == ["b # now"]


def test_blocks_of_both_kinds_of_pages(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a\n\n  ```yaml\n  b: 1\n  ```\n\n```shell\nc\n```\n")
    (tmp_path / "a.rst").write_text(
        "* a\n\n  .. code-block:: yaml\n     :caption: x\n\n     b:\n\n       - 1\n\n  d\n\n.. code-block:: shell\n\n   c\n"
    )
    assert page_files.blocks(tmp_path / "a.md") == [("yaml", "b: 1\n"), ("shell", "c\n")]
    assert page_files.blocks(tmp_path / "a.rst") == [("yaml", "b:\n\n  - 1\n"), ("shell", "c\n")]
