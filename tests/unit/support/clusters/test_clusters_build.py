# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the build and the cache of the programs, with a simulated go command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.clusters import build
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.pins import KUBERNETES_RELEASES, NEWEST_RELEASE, control_plane
from tests.support.clusters.processes import Process

NEWEST = KUBERNETES_RELEASES[NEWEST_RELEASE]
KUBERNETES, ETCD = NEWEST.kubernetes, NEWEST.etcd

UPSTREAM = """\
module k8s.io/kubernetes

go 1.26.0

replace k8s.io/api => ./staging/src/k8s.io/api
"""

# The simulated build writes the line that `go version -m` prints of a program.
GO = """\
#!/bin/sh
case "$1 $2" in
"mod download") printf '{"Dir": "%s", "Sum": "%s"}' "$GO_MODULE" "$GO_SUM" ;;
"version -m") cat "$3" ;;
build*)
    echo built >> "$GO_MODULE/builds"
    [ -z "$GO_HANGS" ] || { echo $$ > "$GO_HANGS"; exec sleep 60; }
    [ -z "$GO_FAILS" ] || { echo "$GO_FAILS"; exit 1; }
    while [ "$1" != -o ]; do shift; done
    echo '{ETCD}' > "$2/server"
    for name in kube-apiserver kube-controller-manager kubectl; do echo '{KUBERNETES}' > "$2/$name"; done ;;
esac
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked kubernetes module that the simulated go command serves, with an empty cache beside it."""
    directory = tmp_path / "module"
    directory.mkdir()
    (directory / "go.mod").write_text(UPSTREAM)
    (directory / "go.sum").write_text("")
    command = tmp_path / "path" / "go"
    command.parent.mkdir()
    script = GO
    for place, pin in (("ETCD", ETCD), ("KUBERNETES", KUBERNETES)):
        script = script.replace(f"{{{place}}}", f"\tmod\t{pin.module}\t{pin.version}\t{pin.checksum}")
    command.write_text(script)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GO_MODULE", str(directory))
    monkeypatch.setenv("GO_SUM", KUBERNETES.checksum)
    monkeypatch.delenv("GO_FAILS", raising=False)
    monkeypatch.delenv("GO_HANGS", raising=False)
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))
    return directory


def quiet(_message: str) -> None:
    """Print nothing."""


def test_the_key_changes_with_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.build_key(control_plane(NEWEST))
    monkeypatch.setattr(build, "GO_FLAGS", (*build.GO_FLAGS, "-race"))
    assert build.build_key(control_plane(NEWEST)) != before
    assert before.startswith(f"kubernetes-{KUBERNETES.version}-etcd-{ETCD.version}-")


def test_two_concurrent_builders_build_once(module: Path) -> None:
    builders = [threading.Thread(target=build.programs, args=(quiet,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert (module / "builds").read_text() == "built\n"


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_nothing_else(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GO_FAILS", "no space left on device")
    with pytest.raises(ClusterError, match=r"whole log is /\S+\.log\n  \| no space left on device$"):
        build.programs(quiet)
    cache = build.cache_directory() / "bin"
    assert sorted(path.name for path in cache.iterdir()) == [
        ".lock",
        f"{build.build_key(control_plane(NEWEST))}.log",
    ]
    monkeypatch.delenv("GO_FAILS")
    assert build.programs(quiet).is_dir()
    assert sorted(path.name for path in cache.iterdir()) == [".lock", build.build_key(control_plane(NEWEST))]


def test_a_build_ends_with_its_builder_and_the_next_one_cleans_up(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = module / "hangs"
    monkeypatch.setenv("GO_HANGS", str(record))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.clusters", "build"], stderr=subprocess.PIPE
    ) as builder:
        while not (record.exists() and record.read_text()):
            assert builder.poll() is None
        compiler = Process.from_stat(Path("/proc", record.read_text().strip(), "stat").read_text())
        assert compiler.alive
        builder.kill()
    assert compiler.wait(10)
    assert list((build.cache_directory() / "bin").glob(".building-*"))
    monkeypatch.delenv("GO_HANGS")
    build.programs(quiet)
    assert not list((build.cache_directory() / "bin").glob(".building-*"))


def test_a_module_with_another_checksum_is_refused(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_SUM", "h1:other")
    with pytest.raises(
        ClusterError, match=f"k8s.io/kubernetes {KUBERNETES.version} has checksum h1:other, expected h1:"
    ):
        build.programs(quiet)


def test_a_program_of_another_version_is_refused(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(NEWEST, etcd=replace(ETCD, version="v3.5.0"))
    monkeypatch.setitem(KUBERNETES_RELEASES, NEWEST_RELEASE, other)
    with pytest.raises(ClusterError, match="server was built from"):
        build.programs(quiet)
