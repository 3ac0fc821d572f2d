# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that imports go one way through plugins/ and tests/, and that no two files import each other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tools.ci.venvs import REPOSITORY

PLUGINS = REPOSITORY / "plugins"
COLLECTION = "ansible_collections.certflow.kubernetes.plugins."
# The rooms of module_utils from the lowest to the highest, and the rooms that each may import.
BASE = ("_base", "_process")
KNOWLEDGE = (
    *BASE,
    "_x509",
    "_kube",
    "_download",
    "_csr",
    "_webhook",
    "_snapshot",
    "_diagnosis",
)
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "_base": (),
    "_process": ("_base",),
    "_x509": BASE,
    "_kube": BASE,
    "_download": (*BASE, "_x509", "_kube"),
    "_csr": (*BASE, "_x509", "_kube"),
    "_webhook": (*BASE, "_x509", "_kube"),
    "_snapshot": (*BASE, "_x509", "_kube", "_download"),
    "_diagnosis": (*BASE, "_x509", "_kube", "_csr"),
    "_ansible": (*BASE, "_x509", "_kube"),
    "_certificate": KNOWLEDGE,
    "_upgrade": (*KNOWLEDGE, "_certificate"),
    "_audit": KNOWLEDGE,
    "_repair": (*KNOWLEDGE, "_audit"),
    "_operations": (*KNOWLEDGE, "_ansible", "_certificate", "_upgrade", "_audit", "_repair"),
}
# For each folder of plugins that has folders: its files and folders from the lowest to the highest. A file or folder imports only
# those of earlier lines. Names of one line do not import each other. MAY_IMPORT has the order of module_utils.
ORDER: dict[str, tuple[str, ...]] = {
    "": ("module_utils", "doc_fragments plugin_utils", "modules action inventory lookup"),
    "plugin_utils": ("_variables", "_inventory", "_report", "_fleet", "_action"),
    "module_utils/_x509": (
        "errors",
        "encoding",
        "certificate_facts private_keys",
        "canonical_request chain ephemeral_ca",
        "signing_request",
    ),
    "module_utils/_csr": (
        "errors usages ca_rotation",
        "name_policy",
        "issuing",
        "intent",
        "markers trust_anchors",
        "request secret_content",
        "certificate_rules",
    ),
    "module_utils/_kube": (
        "errors lease_state object_state",
        "login",
        "client json_patch",
        "access_review cluster_facts lease",
        "approved_plan port_forward",
    ),
    "module_utils/_webhook": (
        "errors",
        "calls",
        "bundles",
        "endpoints service_callers",
        "probe trust_removal",
        "workloads",
    ),
    "module_utils/_audit": (
        "facts",
        "checks guarded_reads",
        "audit_result backends gather_rotation object_parsing",
        "gather",
    ),
    "module_utils/_snapshot": ("errors kinds", "release", "installed", "context", "hazards", "actions", "plan"),
    "module_utils/_upgrade": (
        "planning release_checks upgrade_lease upgrade_request",
        "steps certificate_step",
        "backups",
        "actions verify_version",
        "preflight verify_release",
        "plan_writes step_runner",
        "undo",
        "engine",
    ),
}  # fmt: skip
# The files behind _x509.chain.verify.
PARTS_OF_VERIFY = ("signatures", "name_constraints")
# The only folder of module_utils that imports Ansible.
KNOWS_ANSIBLE = "_ansible"
FILES = sorted(PLUGINS.rglob("*.py"))
# Names that start a thread, and names that print.
STARTS_THREAD = {"Thread", "Timer", "ThreadPoolExecutor", "start_new_thread"}
PRINTS = {"Display", "ProgressPrinter", "logging", "print", "progress_lines", "stderr", "stdout", "warnings"}
# The folders of tests, and what each may import. tests/repository compares tables of tests/system with the pages of docs/.
TESTS_MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "support": (),
    "integration": (),
    "unit": ("tests.support", "tools"),
    "system": ("tests.support", "tools"),
    "years": ("tests.support", "tools"),
    "repository": ("tests.support", "tests.system", "tests.evidence", "tools"),
}


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, by its whole dotted name, including imports for type checking."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = path.relative_to(PLUGINS).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            parts = [*base, *(node.module.split(".") if node.module else ())]
            yield from (COLLECTION + ".".join([*parts, alias.name]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str:
    """Return the folder of module_utils that holds a dotted name, or ""."""
    inside = module.removeprefix(COLLECTION + "module_utils.")
    return "" if inside == module else inside.partition(".")[0]


def name_of(path: Path) -> str:
    return COLLECTION + ".".join(path.relative_to(PLUGINS).with_suffix("").parts).removesuffix(".__init__")


def of_module_utils() -> list[Path]:
    return [path for path in FILES if path.is_relative_to(PLUGINS / "module_utils")]


def test_every_room_has_a_row() -> None:
    assert {room(name_of(path)) for path in of_module_utils()} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(name: str) -> None:
    arrows = {
        f"{path.relative_to(PLUGINS)} imports {target}"
        for path in of_module_utils()
        if room(name_of(path)) == name
        for target in map(room, imported(path))
        if target and target not in (name, *MAY_IMPORT[name])
    }
    assert not arrows


def folders_with_folders() -> set[str]:
    """Return the folders of plugins that have folders with Python files, without module_utils, whose order is MAY_IMPORT."""
    folders = {path.parent.parent for path in FILES if path.parent != PLUGINS}
    return {"" if folder == PLUGINS else str(folder.relative_to(PLUGINS)) for folder in folders} - {
        "module_utils"
    }


def parts_of(folder: str) -> Iterator[tuple[str, Path]]:
    """Yield each file below a folder, with the name of the file or folder of this folder that it is or is in."""
    place = PLUGINS / folder
    for path in FILES:
        if path.is_relative_to(place) and path != place / "__init__.py":
            yield path.relative_to(place).with_suffix("").parts[0], path


def test_every_folder_with_folders_has_an_order() -> None:
    assert folders_with_folders() == set(ORDER)
    for folder, lines in ORDER.items():
        assert {name for name, _path in parts_of(folder)} == set(" ".join(lines).split()), folder


@pytest.mark.parametrize("folder", ORDER)
def test_a_part_of_a_folder_imports_only_parts_before_it(folder: str) -> None:
    line_of = {name: number for number, line in enumerate(ORDER[folder]) for name in line.split()}
    start = COLLECTION + "".join(f"{part}." for part in Path(folder).parts)
    arrows = {
        f"{path.relative_to(PLUGINS)} imports {module}"
        for name, path in parts_of(folder)
        for module in imported(path)
        if module.startswith(start)
        for target in [module[len(start) :].partition(".")[0]]
        if target != name and not line_of.get(target, -1) < line_of[name]
    }
    assert not arrows


def test_other_rooms_verify_certificates_only_by_verify() -> None:
    parts = {f"{COLLECTION}module_utils._x509.chain.{name}" for name in PARTS_OF_VERIFY}
    users = {
        f"{path.relative_to(PLUGINS)} imports {module}"
        for path in FILES
        if room(name_of(path)) != "_x509"
        for module in imported(path)
        if any(module == part or module.startswith(f"{part}.") for part in parts)
    }
    assert not users


def test_only_one_room_imports_ansible() -> None:
    strangers = {
        str(path.relative_to(PLUGINS))
        for path in of_module_utils()
        if room(name_of(path)) != KNOWS_ANSIBLE
        for module in imported(path)
        if module.partition(".")[0] == "ansible"
    }
    assert not strangers


def test_module_utils_import_nothing_of_the_controller() -> None:
    upwards = {
        f"{path.relative_to(PLUGINS)} imports {module}"
        for path in of_module_utils()
        for module in imported(path)
        if module.startswith(COLLECTION) and not module.startswith(COLLECTION + "module_utils")
    }
    assert not upwards


def names_in(path: Path) -> set[str]:
    """Return every name, attribute and imported name of a file."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names | {part for module in imported(path) for part in module.split(".")}


def test_no_file_that_starts_a_thread_prints() -> None:
    """Ansible forks a worker while it holds the lock of its display. Only the main thread of the worker passes that lock."""
    names = {str(path.relative_to(PLUGINS)): names_in(path) for path in FILES}
    starters = {name for name, found in names.items() if found & STARTS_THREAD}
    handshakes = "module_utils/_webhook/endpoints/served_chains.py"
    assert starters == {"module_utils/_kube/login/credentials.py", "module_utils/_kube/lease.py", handshakes}
    assert {name: names[name] & PRINTS for name in starters if names[name] & PRINTS} == {}


def test_no_imports_form_a_circle() -> None:
    names = {name_of(path) for path in FILES}
    graph = {
        name_of(path): {
            target
            for module in imported(path)
            for target in (module, module.rpartition(".")[0])
            if target in names and target != name_of(path)
        }
        for path in FILES
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these files import each other: {error.args[1]}")
    assert len(order) >= len(FILES)


def of_tests(folder: str) -> Iterator[tuple[str, str]]:
    """Yield file and import for each import of a folder of tests from tests/ and tools/."""
    for path in sorted((REPOSITORY / "tests" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            yield from ((str(path.relative_to(REPOSITORY)), name) for name in names if is_own(name))


def is_own(module: str) -> bool:
    return module.partition(".")[0] in ("tests", "tools")


def is_mirrored(file: str, module: str) -> bool:
    """Return True if a file of tests/unit imports the code of tests/ that it tests: tests/unit/system, tests.system."""
    parts = Path(file).parts
    return parts[:2] == ("tests", "unit") and module.startswith(f"tests.{parts[2]}.")


@pytest.mark.parametrize("folder", TESTS_MAY_IMPORT)
def test_a_folder_of_tests_imports_only_itself_and_shared_code(folder: str) -> None:
    allowed = tuple(f"{name}." for name in (f"tests.{folder}", *TESTS_MAY_IMPORT[folder]))
    assert [
        f"{file} imports {module}"
        for file, module in of_tests(folder)
        if not f"{module}.".startswith(allowed) and not is_mirrored(file, module)
    ] == []


def test_every_folder_of_tests_has_a_row() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "tests").glob("*/*.py")}
    assert folders - set(TESTS_MAY_IMPORT) == set()
