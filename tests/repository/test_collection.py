# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the files of the collection against each other."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.support.pages import page_files
from tools.ci import environments
from tools.ci.tree import listed_files
from tools.ci.venvs import REPOSITORY

MODULES = sorted(path.stem for path in (REPOSITORY / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path.parent.name for path in REPOSITORY.glob("roles/*/tasks"))
PYTHON_FILES = [
    name for name in listed_files() if name.endswith(".py") and (REPOSITORY / name).stat().st_size
]
# REUSE-IgnoreStart
HEADER = [
    "# Copyright (c) certflow.kubernetes contributors",
    "# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
# REUSE-IgnoreEnd


def load(*path: str) -> Any:
    """Read a YAML file of the repository."""
    return yaml.safe_load(REPOSITORY.joinpath(*path).read_text())


def test_every_module_that_contacts_a_cluster_is_in_the_action_group() -> None:
    """A module outside the group gets no group defaults, so it might use another cluster than the play says."""
    extended, *members = load("meta", "runtime.yml")["action_groups"]["k8s"]
    assert extended == {"metadata": {"extend_group": ["kubernetes.core.k8s"]}}
    assert members == page_files.operations() != []


@pytest.mark.parametrize("role", ROLES)
def test_every_role_passes_its_connection_to_its_modules(role: str) -> None:
    """Each task of a module, or the block around it, asks the action plugin to take the role's variables."""

    def wrong(tasks: list[dict[str, Any]], inherited: Any = None) -> list[str]:
        names = []
        for task in tasks:
            owner = task.get("vars", {}).get("__certflow_options_of", inherited)
            is_module = any(key.startswith("certflow.kubernetes.") for key in task)
            names += [task["name"]] if is_module and owner != role else []
            names += wrong([*task.get("block", ()), *task.get("always", ())], owner)
        return names

    files = [*REPOSITORY.glob(f"roles/{role}/tasks/*.yml")]
    assert [wrong(yaml.safe_load(path.read_text())) for path in files] == [[]] * len(files) != []


def test_every_module_has_both_execution_modes() -> None:
    """Each module has an action plugin of the same name, and each action plugin has a module."""
    assert sorted(path.stem for path in (REPOSITORY / "plugins" / "action").glob("*.py")) == MODULES


def test_every_role_has_the_files_that_tools_read() -> None:
    """The importer refuses a role without a README. `ansible-doc` shows argument_specs."""
    wanted = ("README.md", "meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml")
    assert ROLES
    assert [
        f"{role}/{name}"
        for role in ROLES
        for name in wanted
        if not (REPOSITORY / "roles" / role / name).is_file()
    ] == []


@pytest.mark.parametrize("role", ROLES)
def test_role_defaults_equal_its_argument_specs(role: str) -> None:
    """Ansible takes defaults from one file and shows those of the other."""
    options = load("roles", role, "meta", "argument_specs.yml")["argument_specs"]["variables"]["options"]
    shown = {
        name: option.get("default", "") for name, option in options.items() if not option.get("required")
    }
    assert load("roles", role, "defaults", "main.yml") == shown


@pytest.mark.parametrize("role", ROLES)
def test_a_role_readme_lists_every_variable_with_its_default(role: str) -> None:
    """The README has exactly one table. A default that is another variable has that variable's name."""
    options = load("roles", role, "meta", "argument_specs.yml")["argument_specs"]["variables"]["options"]
    text = (REPOSITORY / "roles" / role / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))
    assert len(re.findall(r"^\|-", text, re.MULTILINE)) == 1
    assert rows.keys() == options.keys()
    shown = {name: yaml.safe_load(cell.strip("`")) for name, cell in rows.items()}
    assert shown == {
        name: "required" if option.get("required") else _shown_default(option)
        for name, option in options.items()
    }


def _shown_default(option: Mapping[str, Any]) -> Any:
    default = option.get("default", "")
    return re.sub(r"^\{\{ (\w+) .*\}\}$", r"\1", default) if isinstance(default, str) else default


def test_the_required_clients_are_the_oldest_tested_ones() -> None:
    """An execution environment requires no client older than the oldest tested one."""
    lines = (REPOSITORY / "meta" / "ee-requirements.txt").read_text().splitlines()
    floors = [line.replace(">=", "==") for line in lines if ">=" in line]
    assert floors == list(environments.OLDEST_CLIENTS)


#: The import name of a library whose requirement has another name.
REQUIREMENTS = {"websocket": "websocket-client"}
#: What ansible-core itself requires.
OF_CORE = frozenset(("ansible", "ansible_collections", "jinja2", "markupsafe", "yaml"))


def test_every_library_that_the_plugins_import_is_declared() -> None:
    lines = (REPOSITORY / "meta" / "ee-requirements.txt").read_text().splitlines()
    declared = {line.partition(">=")[0] for line in lines if line and not line.startswith("#")}
    trees = [
        ast.parse((REPOSITORY / name).read_text()) for name in PYTHON_FILES if name.startswith("plugins/")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OF_CORE
    assert {REQUIREMENTS.get(name, name) for name in imported} == declared - {"jmespath"}, (
        "jmespath is imported by its name"
    )


def test_every_action_of_a_workflow_is_pinned_by_its_commit() -> None:
    """A tag can move. The comment has the release for readers, and for programs that update the pins."""
    files = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
    used = [line.strip() for path in files for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    assert [
        line for line in used if not re.search(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)
    ] == []


@pytest.mark.parametrize("name", PYTHON_FILES)
def test_every_file_names_its_licence(name: str) -> None:
    """Files of module_utils and plugin_utils also say that they are private."""
    lines = (REPOSITORY / name).read_text().splitlines()
    shebang = ["#!/usr/bin/python"] if name.startswith("plugins/modules/") else []
    assert lines[: len(shebang) + 3] == shebang + HEADER
    if name.startswith(("plugins/module_utils/", "plugins/plugin_utils/")):
        assert name.split("/")[2].startswith("_"), "one underscore, on the top folder or file"
        assert "# Private to this collection: it may change at any time." in lines[:8]


def test_only_packages_have_empty_files() -> None:
    """Another empty file is the rest of a trial by hand, and would be shipped."""
    names = [name for name in listed_files() if not (REPOSITORY / name).stat().st_size]
    assert [name for name in names if not name.endswith(("/__init__.py", "/.keep"))] == []


def test_no_file_names_a_package_index_or_a_developers_path() -> None:
    """pip and go know their package indexes. Paths of a developer's machine do not exist elsewhere."""
    # Each pattern is written so that it does not match itself.
    pattern = re.compile(r"py[p]i\.org|python[h]osted\.org|proxy\.go[l]ang|/w[o]rk/|/r[o]ot/")
    texts = {name: (REPOSITORY / name).read_text(errors="replace") for name in listed_files()}
    assert [f"{name}: {match[0]}" for name, text in texts.items() for match in pattern.finditer(text)] == []


def tasks_in(entries: Any) -> Iterator[dict[str, Any]]:
    """Yield every task of a list of tasks or plays, also those in blocks."""
    for entry in entries if isinstance(entries, list) else []:
        yield entry
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks_in(entry.get(part))


@pytest.mark.parametrize(
    "name", [name for name in listed_files() if re.match(r"(roles|playbooks)/.*\.yml$", name)]
)
def test_no_loop_of_includes_has_a_label(name: str) -> None:
    """Ansible merges equal includes of several hosts, and it compares the label too.

    If the labels of two hosts differ at first and are equal later, one host runs its tasks in another order.
    """
    loops = [
        task for task in tasks_in(yaml.safe_load((REPOSITORY / name).read_text())) if "loop_control" in task
    ]
    includes = ("ansible.builtin.include_tasks", "ansible.builtin.include_role")
    assert [
        loop["name"] for loop in loops if set(loop) & set(includes) and "label" in loop["loop_control"]
    ] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_documents_what_a_failure_returns(name: str) -> None:
    """Playbooks use these keys, which every failed result has."""
    text = (REPOSITORY / "plugins" / "modules" / f"{name}.py").read_text()
    page = yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0])
    assert {"code", "cause", "evidence", "remedy"} <= page.keys()


# The keys of the module that a role does not publish: they repeat others, or serve the playbooks.
UNPUBLISHED = {"cause", "cluster", "plan_digests"}


def test_the_fact_of_the_role_has_what_the_module_returns() -> None:
    text = (REPOSITORY / "plugins" / "modules" / "snapshot_controller.py").read_text()
    page = yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0])
    keys = load("roles", "snapshot_controller", "vars", "main.yml")["__snapshot_controller_keys"]
    assert page.keys() - {*keys} == UNPUBLISHED
    readme = (REPOSITORY / "roles" / "snapshot_controller" / "README.md").read_text()
    assert [key for key in keys if f"`{key}`" not in readme] == []


#: Words of Ansible and of examples in remedies.
OTHER_WORDS = {
    "delegate_to",
    "ansible_python_interpreter",
    "ansible_playbook_python",
    "the_text",
    "from_yaml",
}
DOCUMENTS = ("plugins/modules/*.py", "plugins/doc_fragments/*.py", "roles/*/meta/argument_specs.yml")


def remedies() -> Iterator[str]:
    """Yield each text in the remedy of an error."""
    for path in (REPOSITORY / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                parts = (getattr(part, "value", None) for part in ast.walk(node.value))
                yield from (part for part in parts if isinstance(part, str))


def test_every_option_that_a_remedy_names_exists() -> None:
    documents = [path.read_text() for pattern in DOCUMENTS for path in REPOSITORY.glob(pattern)]
    known = {name for text in documents for name in re.findall(r"^\s+([a-z0-9_]+):", text, re.MULTILINE)}
    named = [
        name for text in remedies() for name in re.findall(r"(?<![\w./-])[a-z]+(?:_[a-z]+)+(?![\w/.])", text)
    ]
    assert len(named) > 40
    variables = {name for name in named if name.startswith("certflow_")}
    assert {*named} - known - variables - OTHER_WORDS - {*MODULES} == set()
