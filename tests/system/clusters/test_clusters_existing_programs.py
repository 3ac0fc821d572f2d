# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a cluster from a folder with existing programs, on a machine that cannot build any."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from examples.demo import story
from tests.support import clusters
from tests.support.clusters import build
from tests.support.clusters.existing_programs import VARIABLE


@pytest.mark.full
def test_a_cluster_starts_from_a_folder_without_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built, version = build.programs(), build.kubernetes_version()
    (tmp_path / "bin").mkdir()
    for program in built.iterdir():
        (tmp_path / "bin" / program.name).symlink_to(program)
    (tmp_path / "path").mkdir()
    for program_name in ("cat", "mv"):  # the start of a program records it
        (tmp_path / "path" / program_name).symlink_to(str(shutil.which(program_name)))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bin"))
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert build.why_no_build() == "no `go` on PATH"
    with clusters.running({"own": "eks"}) as fleet:
        server = fleet["own"].api("GET", "/version")["gitVersion"]
    assert server == f"{version}-eks-3c42bf9"
    assert not (tmp_path / "cache").exists()
    assert story.steps_of() == story.STEPS[2:]
    assert "do not run: no `go` on PATH to download the script" in capsys.readouterr().out
