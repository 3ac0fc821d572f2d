# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Use the README's files and commands as a reader would."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clusters, pages, playbook, snapshot_webhook


@pytest.fixture
def place(fleet: clusters.Fleet, tmp_path: Path) -> Iterator[Path]:
    """A directory with the README's files, in a home directory with the kubeconfig that it names."""
    (tmp_path / ".kube").mkdir()
    shutil.copy(fleet.merged_kubeconfig, tmp_path / ".kube" / "fleet.yml")
    for name, text in pages.files(pages.README).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with snapshot_webhook.present(*fleet.values()):
        yield tmp_path


def test_the_readme_has_the_expected_files() -> None:
    assert set(pages.files(pages.README)) == {
        "inventory.yml",
        "certificates.yml",
        "fleet.yml",
        "webhook.yml",
        "upgrade.yml",
        "collections/requirements.yml",
        "roles/your_role/tasks/main.yml",
        "group_vars/clusters.yml",
    }


def test_the_playbook_runs_as_printed(fleet: clusters.Fleet, place: Path) -> None:
    commands = [
        line
        for line in pages.commands(pages.README)
        if re.match("ansible-playbook .* certificates.yml", line)
    ]
    assert len(commands) == 2
    runs = []
    for command in (*commands, commands[-1]):
        arguments = [word for word in shlex.split(command)[1:] if word != "certificates.yml"]
        runs.append(playbook.play(place, place / "certificates.yml", *arguments, HOME=str(place)))
    for run in runs:
        assert run.status == 0, run.output
    assert [run.recap("changed") for run in runs] == [len(fleet), len(fleet), 0], runs[0].output


def test_the_fleet_runs_as_printed(fleet: clusters.Fleet, place: Path) -> None:
    """`tests/support/clusters/clusters up` starts the same clusters: one of each usual profile."""
    assert set(fleet) == {name for name, profile in clusters.PROFILES.items() if profile.usual}
    commands = [line for line in pages.commands(pages.README) if "-i fleet.yml" in line]
    graph, check, write = (shlex.split(command) for command in commands)
    shown = playbook.play(place, Path(graph[-1]), *graph[1:-1], program=graph[0], HOME=str(place))
    assert "|--@provider_unknown:" in shown.output, shown.output
    for arguments in (check, write):
        name = next(word for word in arguments if word.startswith("certflow.kubernetes."))
        others = [word for word in arguments[1:] if word != name]
        run = playbook.play(place, Path(name), *others, HOME=str(place))
        assert run.status == 0, run.output
        assert run.recap("changed") == len(fleet), run.output
    report = json.loads((place / "report.json").read_text())
    assert {one["status"] for one in report["clusters"].values()} == {"changed"}
    assert set(report["clusters"]) == set(fleet)


def test_the_role_in_a_repository_runs_as_printed(fleet: clusters.Fleet, place: Path) -> None:
    play = {
        "name": "A role of the user",
        "hosts": "elsewhere",
        "gather_facts": False,
        "vars": {"cluster_kubeconfig": str(fleet["onprem"].kubeconfig)},
        "roles": ["your_role"],
    }
    inventory = place / "elsewhere.yml"
    # RFC 5737: no host has this address
    inventory.write_text("all: {hosts: {elsewhere: {ansible_host: 192.0.2.1}}}\n")
    run = playbook.play(place, [play], "-i", str(inventory), HOME=str(place))
    assert run.status == 0, run.output
    assert run.recap("changed") == 1, run.output
