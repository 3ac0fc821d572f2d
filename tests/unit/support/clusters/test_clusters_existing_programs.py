# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the messages for a folder that does not fit, and for a machine that cannot have the programs of a node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.clusters import __main__ as command
from tests.support.clusters import build, debian
from tests.support.clusters.errors import ClusterError, UsageError
from tests.support.clusters.existing_programs import VARIABLE
from tests.support.clusters.profiles import find

# The output of each program, as real ones print it.
OUTPUT = {
    "kube-apiserver": "Kubernetes v1.34.2",
    "kube-controller-manager": "Kubernetes v1.34.1",
    "kubectl": "Client Version: v1.33.0\nKustomize Version: v5.7.1",
    "etcd": "etcd Version: 3.5.21\nGit SHA: a17edfd\nGo Version: go1.23.7",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the variable to a folder with the programs of a control plane. Fail on any build."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, output in OUTPUT.items():
        add(place, name, output)
    monkeypatch.setenv(VARIABLE, str(place))
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))

    def refuse(*_arguments: object) -> Path:
        raise AssertionError("something is built")

    monkeypatch.setattr(build, "_cached", refuse)
    monkeypatch.setattr(build, "_go", refuse)
    return place


def add(place: Path, name: str, output: str) -> None:
    (place / name).write_text(f"#!/bin/sh\ncat <<END\n{output}\nEND\n")
    (place / name).chmod(0o755)


# For each fault: the program, its output (None if it is missing), and the message.
FAULTS: dict[str, tuple[str, str | None, str]] = {
    "no etcd": ("etcd", None, "lacks the program etcd; add it, or unset the variable"),
    "no kubectl": ("kubectl", None, "lacks the program kubectl"),
    "an old API server": ("kube-apiserver", "Kubernetes v1.29.9", "has the version 1.29.9, but it must be 1.30 or newer"),
    "another minor version": (
        "kube-controller-manager",
        "Kubernetes v1.33.2",
        "has the version 1.33.2, but it must be the minor version of kube-apiserver",
    ),
    "a kubectl two versions away": ("kubectl", "Client Version: v1.36.0", "at most one minor version away"),
    "an old etcd": ("etcd", "etcd Version: 3.4.30", "has the version 3.4.30, but it must be 3.5 or newer"),
    "another program": ("etcd", "cannot execute binary file", "does not print a version, but: cannot execute"),
    "no output": ("etcd", "", "does not print a version, but: no output"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_does_not_fit_is_one_line(
    folder: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, output, said = FAULTS[fault]
    (folder / name).unlink()
    if output is not None:
        add(folder, name, output)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        build.programs()
    assert (
        "\n" not in str(caught.value) and str(folder) in str(caught.value) and VARIABLE in str(caught.value)
    )
    assert command.main(["up", "onprem"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_profile_with_a_release_does_not_use_the_folder(folder: Path) -> None:
    assert find("eks").version == "v1.34.2-eks-3c42bf9"
    assert find("eks@1.36").version.startswith("v1.36.")
    with pytest.raises(AssertionError, match="something is built"):
        build.programs(release="1.36")


def test_an_unknown_release_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["up", "onprem@1.1"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "1.1" in line


# The programs of a node


@pytest.mark.parametrize(
    ("programs", "complaint"),
    [
        ({}, "its programs come from Debian packages, and there is no apt-get on PATH"),
        (
            {"apt-get": "echo E: network is down >&2; exit 100", "dpkg": ""},
            "apt-get update failed: E: network is down",
        ),
    ],
    ids=["no apt", "apt fails"],
)
def test_unavailable_packages_are_reported(
    programs: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ClusterError) as caught:
        debian.unpacked(lambda message: None)
    assert str(caught.value) == complaint
    assert [path.name for path in (tmp_path / "cache" / "debian").iterdir()] == [".lock"]
