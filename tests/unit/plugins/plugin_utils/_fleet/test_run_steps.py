# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a fleet run that no test of a whole run reaches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet import run_steps
from ansible_collections.certflow.kubernetes.plugins.plugin_utils._fleet.run_steps import Step

from tests.support.failures import fails

GATES = (
    "certflow_allow_shared_cluster",
    "certflow_fail_on_change",
    "certflow_plan",
    "certflow_report",
    "certflow_required_job",
    "certflow_run_file",
)
CHECKED = {
    "stages": [{"name": "rest", "hosts": ["a"], "concurrency": 0, "soak": 0}],
    "budget": {"limit": 0, "canary": ""},
}


class Templar:
    """Return each value, or raise it."""

    def template(self, value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value


def step(directory: Path, **variables: Any) -> Step:
    task = SimpleNamespace(args={"step": "begin", "playbook": "upgrade"}, check_mode=False)
    given = {
        "inventory_hostname": "a",
        run_steps.CHECKED: CHECKED,
        "certflow_run_file": str(directory / "run"),
        **variables,
    }
    return Step(task, None, Templar(), given)


def test_a_run_begins(tmp_path: Path) -> None:
    assert step(tmp_path).run()["plan"] == {}
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [AnsibleError("no file"), AnsibleUndefinedVariable("x"), ValueError("x")])
@pytest.mark.parametrize("name", GATES)
def test_a_run_does_not_begin_if_a_gate_cannot_be_rendered(
    tmp_path: Path, name: str, error: Exception
) -> None:
    """The check could render it, but a lookup may fail later."""
    with fails("invalid-input", name, "rendered"):
        step(tmp_path, **{name: error}).run()
    assert not (tmp_path / "run").exists()
