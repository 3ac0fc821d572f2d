# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the choice of a folder with existing programs, and the message for each folder that does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.clusters import __main__ as command
from tests.support.clusters import build, node
from tests.support.clusters.errors import ClusterError, UsageError
from tests.support.clusters.existing_programs import VARIABLE
from tests.support.clusters.pins import KUBERNETES, NODE_PROGRAMS, PROGRAMS

# The output of each program, as real ones print it.
OUTPUT = {
    "kube-apiserver": "Kubernetes v1.34.2",
    "kube-controller-manager": "Kubernetes v1.34.1",
    "kubectl": "Client Version: v1.33.0\nKustomize Version: v5.7.1",
    "etcd": "etcd Version: 3.5.21\nGit SHA: a17edfd\nGo Version: go1.23.7",
    "kubelet": "Kubernetes v1.34.2",
    "kube-proxy": "Kubernetes v1.34.2",
    "kube-scheduler": "Kubernetes v1.34.2",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the variable to a folder with the programs of a control plane. Fail on any build."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in PROGRAMS:
        add(place, name, OUTPUT[name])
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


def test_the_folder_is_used(folder: Path) -> None:
    assert build.programs() == folder
    assert build.kubernetes_version() == "v1.34.2"


@pytest.mark.usefixtures("folder")
def test_an_unset_or_empty_variable_means_the_programs_that_are_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = Path("/built")
    monkeypatch.setattr(build, "_cached", lambda *_arguments: built)
    for value in ("", None):
        monkeypatch.setenv(VARIABLE, value) if value is not None else monkeypatch.delenv(VARIABLE)
        assert build.programs() == build.node_programs() == built
        assert build.kubernetes_version() == KUBERNETES.version


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


def test_a_path_that_is_not_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(folder / "absent"))
    with pytest.raises(UsageError, match="absent, which is not a folder; set the folder with kube-apiserver"):
        build.programs()


def test_a_program_that_cannot_be_executed(folder: Path) -> None:
    (folder / "etcd").chmod(0o644)
    with pytest.raises(UsageError, match="lacks the program etcd"):
        build.programs()


def test_a_node_needs_its_programs_in_the_folder(folder: Path) -> None:
    with pytest.raises(ClusterError, match="lacks the program kubelet, kube-proxy, kube-scheduler"):
        build.node_programs()
    for name in NODE_PROGRAMS:
        add(folder, name, OUTPUT[name])
    assert build.node_programs() == folder


def test_the_check_of_a_node_names_the_missing_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_check_machine", lambda: None)
    monkeypatch.setattr(node, "why_no_build", lambda: "")
    assert "lacks the program kubelet" in node.why_no_node()
    monkeypatch.setattr(node, "why_no_build", lambda: "no `go` on PATH")
    assert node.why_no_node() == "the images of its pods are built here, and there is no `go` on PATH"
