# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the build and the cache of the programs, with a simulated go command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.clusters import build
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.pins import (
    CAINJECTOR,
    CERT_MANAGER,
    CONTROL_PLANE,
    ETCD,
    KUBERNETES,
    PROGRAMS,
    SNAPSHOT_PROGRAMS,
)
from tests.support.clusters.processes import Process

UPSTREAM = """\
module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	k8s.io/api v0.0.0
	github.com/google/uuid v1.6.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
)
replace k8s.io/kubectl => ./staging/src/k8s.io/kubectl
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
    cp go.mod "$GO_MODULE/built.mod"
    [ ! -f main.go ] || { cp main.go "$GO_MODULE/built.go"; echo '{CERT_MANAGER}' > "$2/clusters"; exit; }
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
    for place, word, pin in (
        ("ETCD", "mod", ETCD),
        ("KUBERNETES", "mod", KUBERNETES),
        ("CERT_MANAGER", "dep", CERT_MANAGER),
    ):
        line = f"\t{word}\t{pin.module}\t{pin.version}\t{pin.checksum}"
        script = script.replace(f"{{{place}}}", line)
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


def test_go_mod_requires_published_staging_modules() -> None:
    lines = build.go_mod(UPSTREAM).splitlines()
    assert "go 1.26.0" in lines
    assert "godebug default=go1.26" in lines
    assert "require k8s.io/kubernetes v1.36.3" in lines
    assert "require go.etcd.io/etcd/server/v3 v3.6.8" in lines
    assert [line for line in lines if line.startswith("replace")] == [
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/client-go => k8s.io/client-go v0.36.3",
        "replace k8s.io/kubectl => k8s.io/kubectl v0.36.3",
    ]


def test_go_mod_requires_a_published_sibling_module() -> None:
    wanted = SNAPSHOT_PROGRAMS["7.0.2"]
    (main, _package), sibling = wanted.programs["snapshot-controller"], wanted.sibling
    assert sibling is not None
    upstream = f"""module {main.module}

go 1.21

require {sibling.module} v7.0.0

replace {sibling.module} => ./client

replace k8s.io/api => k8s.io/api v0.29.0
"""
    lines = build.sibling_go_mod(upstream, main, sibling).splitlines()
    assert lines[0] == f"module {build.MAIN_MODULE}"
    assert [line for line in lines if line.startswith(("go", "require"))] == [
        "go 1.21",
        f"require {main.module} v7.0.2",
    ]
    assert [line for line in lines if line.startswith("replace")] == [
        f"replace {sibling.module} => {sibling.module} v7.0.0",
        "replace k8s.io/api => k8s.io/api v0.29.0",
    ]


def test_each_release_has_the_webhook_of_its_time() -> None:
    names = {release: sorted(wanted.programs) for release, wanted in SNAPSHOT_PROGRAMS.items()}
    validation, conversion = (
        ["snapshot-controller", f"snapshot-{kind}-webhook"] for kind in ("validation", "conversion")
    )
    assert (names["4.2.1"], names["8.1.0"], names["8.4.0"]) == (validation, validation, conversion)


@pytest.mark.parametrize("missing", ["go 1.26.0\n", "./staging/src/"])
def test_go_mod_of_another_layout_is_an_error(missing: str) -> None:
    with pytest.raises(ClusterError, match="not laid out as expected"):
        build.go_mod(UPSTREAM.replace(missing, ""))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CERTFLOW_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"CERTFLOW_CACHE": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/certflow.kubernetes"),
        ({"CERTFLOW_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/certflow.kubernetes"),
    ],
)
def test_the_directory_of_the_cache(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert build.cache_directory() == Path(expected)


def test_the_key_changes_with_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.build_key()
    monkeypatch.setattr(build, "GO_FLAGS", (*build.GO_FLAGS, "-race"))
    assert build.build_key() != before
    assert before.startswith("kubernetes-v1.36.3-etcd-v3.6.8-")


def test_a_cached_program_is_not_built_again(module: Path) -> None:
    directory = build.programs(quiet)
    assert {path.name for path in directory.iterdir()} == set(PROGRAMS)
    assert build.programs(quiet) == directory
    assert (module / "builds").read_text() == "built\n"


def test_an_own_main_package_is_built_from_the_packages_of_a_module(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GO_SUM", CERT_MANAGER.checksum)
    program = build.cainjector(quiet)
    assert program.parent.name == build.build_key(CAINJECTOR)
    assert f"dep\t{CERT_MANAGER.module}" in program.read_text()
    lines = (module / "built.mod").read_text().splitlines()
    assert {"go 1.26.0", f"require {CERT_MANAGER.module} {CERT_MANAGER.version}"} <= set(lines)
    assert "package main" in (module / "built.go").read_text()
    before = build.build_key(CAINJECTOR)
    monkeypatch.setattr(build, "_own_files", lambda _wanted: [module / "go.mod"])
    assert build.build_key(CAINJECTOR) != before


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
    assert sorted(path.name for path in cache.iterdir()) == [".lock", f"{build.build_key()}.log"]
    monkeypatch.delenv("GO_FAILS")
    assert build.programs(quiet).is_dir()
    assert sorted(path.name for path in cache.iterdir()) == [".lock", build.build_key()]


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
    with pytest.raises(ClusterError, match=r"k8s.io/kubernetes v1.36.3 has checksum h1:other, expected h1:"):
        build.programs(quiet)


def test_a_program_of_another_version_is_refused(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "etcd", (KUBERNETES, PROGRAMS["etcd"][1]))
    with pytest.raises(ClusterError, match="server was built from"):
        build.programs(quiet)


def test_a_missing_go_command_is_reported_with_one_line(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match=r"built with Go 1.26 or newer: no `go` on PATH"):
        build.programs(quiet)


@pytest.mark.parametrize(
    ("compiled", "elapsed", "expected"),
    [
        (0, 15, "  0:15 so far; about "),
        (
            CONTROL_PLANE.packages // 2,
            120,
            f"  2:00 so far; {CONTROL_PLANE.packages // 2} of 2715 packages compiled; about 2 min left",
        ),
        (CONTROL_PLANE.packages, 305, "  5:05 so far; 2715 of 2715 packages compiled; about 1 min left"),
    ],
)
def test_progress(compiled: int, elapsed: float, expected: str) -> None:
    log = "go: downloading k8s.io/api v0.36.3\n" * 300 + "k8s.io/api/core/v1\n" * compiled
    assert build._progress(log, elapsed).startswith(expected)
