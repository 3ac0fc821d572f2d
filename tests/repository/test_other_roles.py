# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables of the role snapshot_controller have no name that kubespray uses.

Both may be used with one inventory. A variable of the same name would then set both.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from tools.ci.venvs import REPOSITORY

# Every name of kubernetes-sigs/kubespray that begins with snapshot_controller_: variables, registered results, facts.
# Source: v2.14.0 (the first release with the role) to v2.31.0, and master of 2026-08-21:
# roles/kubernetes-apps/snapshots/snapshot-controller/{defaults,tasks}/main.yml, roles/kubespray_defaults/defaults/main/
# download.yml (roles/download/defaults/main.yml before 2.24), inventory/sample/group_vars/k8s_cluster/addons.yml.
KUBESPRAY = frozenset(
    {
        "snapshot_controller_digest_checksum",
        "snapshot_controller_image_repo",
        "snapshot_controller_image_tag",
        "snapshot_controller_manifests",
        "snapshot_controller_namespace",
        "snapshot_controller_replicas",
        "snapshot_controller_supported_versions",
    }
)
ROLE = REPOSITORY / "roles" / "snapshot_controller"


def _options() -> set[str]:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return {name for entry in specs.values() for name in entry["options"]}


def _assigned() -> set[str]:
    """Return the facts and registered results of the role's tasks."""
    tasks = [task for path in ROLE.glob("tasks/*.yml") for task in yaml.safe_load(path.read_text()) or ()]
    return {name for task in tasks for name in _names(task)}


def _names(task: dict[str, object]) -> set[str]:
    found = {str(task["register"])} if "register" in task else set()
    facts = task.get("ansible.builtin.set_fact")
    found |= set(facts) if isinstance(facts, dict) else set()
    inner = [entry for key in ("block", "rescue", "always") for entry in task.get(key) or ()]  # type: ignore[attr-defined]
    return found.union(*map(_names, inner))


def _private() -> set[str]:
    files = [path for name in ("vars", "defaults") for path in Path(ROLE / name).glob("*.yml")]
    return {name for path in files for name in yaml.safe_load(path.read_text()) or {}}


def test_no_variable_of_the_role_has_a_name_of_kubespray() -> None:
    assert (_options() | _assigned() | _private()) & KUBESPRAY == set()


def _distance(word: str, other: str) -> int:
    """Return the number of letters to insert, delete or replace between two names (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(word, 1):
        above, row[0] = row[0], number
        for place, second in enumerate(other, 1):
            above, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, above + (letter != second)),
            )
    return row[-1]


def test_no_variable_of_kubespray_looks_like_a_variable_of_the_role() -> None:
    """Users may confuse two names that differ by two letters or fewer."""
    close = {
        (option, known)
        for option in KUBESPRAY - _options()
        for known in _options()
        if _distance(option, known) <= 2
    }
    assert close == set()
    assert _distance("snapshot_controller_undo", "snapshot_controler_undo") == 1
