# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the steps of examples/ci as the CI system would. The environment of the tests replaces the steps that install."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.pages import guide_commands, page_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters import Fleet

FOLDER = page_files.REPOSITORY / "examples" / "ci"
#: The steps that are left out: the environment of the tests has what they install.
INSTALLS = re.compile(r"pip install|ansible-galaxy")


def github() -> tuple[list[str], list[str]]:
    """Return the commands of the workflow, and the patterns of the files that it keeps."""
    (job,) = yaml.safe_load((FOLDER / "github-audit.yml").read_text())["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    return commands, [step["with"]["path"] for step in job["steps"] if "uses" in step]


def gitlab() -> tuple[list[str], list[str]]:
    job = yaml.safe_load((FOLDER / "gitlab-audit.yml").read_text())["audit"]
    kept = [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    return [*job["before_script"], *job["script"]], kept


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_the_audit_of_a_ci_job(
    fleet: Fleet, tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Findings of other tests may fail the job. It keeps its report in any case."""
    secret: Any = fleet.merged_kubeconfig
    commands, kept = {"github": github, "gitlab": gitlab}[system]()
    monkeypatch.setenv("FLEET_KUBECONFIG", secret.read_text() if system == "github" else str(secret))
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    assert [INSTALLS.search(command) is not None for command in commands].count(True) in (1, 2)
    for command in commands:
        if not INSTALLS.search(command):
            audit = "ansible-playbook" in command
            guide_commands.shell(
                tmp_path / "none", tmp_path, f"{command.rstrip()} || test $? = 2" if audit else command
            )
    files = {path.name for pattern in kept for path in tmp_path.glob(pattern)}
    assert files >= {"audit.json", "audit.html", "audit.xml"}
    report = json.loads((tmp_path / "audit.json").read_text())
    assert {cluster["status"] for cluster in report["clusters"]} == {"ok"}
    assert os.stat(tmp_path / "audit.json").st_size


def test_every_action_is_pinned() -> None:
    uses = re.findall(r"uses: (\S+)", (FOLDER / "github-audit.yml").read_text())
    assert [name for name in uses if not re.search(r"@[0-9a-f]{40}$", name)] == []
