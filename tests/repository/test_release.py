# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases: the change log and the versions agree, two builds have the same bytes, and the policies of RELEASING.md work."""

from __future__ import annotations

import io
import random
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.support.pages import page_files
from tools import release
from tools.ci import package
from tools.ci.venvs import REPOSITORY

PAGE = REPOSITORY / "RELEASING.md"
VERSION = release.load(REPOSITORY / "galaxy.yml")["version"]


def test_no_fragment_stands_beside_its_release() -> None:
    """Before the release, the version of galaxy.yml is not in the change log, and fragments collect. After it, none is left."""
    releases = release.load(REPOSITORY / "changelogs" / "changelog.yaml")["releases"]
    assert not (VERSION in releases and release.fragments()), (
        "run make changelog, or set the next version in galaxy.yml"
    )


def test_the_change_log_has_each_release_and_no_other_one() -> None:
    releases = release.load(REPOSITORY / "changelogs" / "changelog.yaml")["releases"]
    shown = re.findall(r"^## v([\d.\\]+)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {version.replace("\\", "") for version in shown} == set(releases)


def _objects(kind: str) -> tuple[set[str], dict[str, str]]:
    """Return the names of roles or playbooks in the releases of the change log, and name and description in the fragments."""
    releases = release.load(REPOSITORY / "changelogs" / "changelog.yaml")["releases"].values()
    fragments = [release.load(REPOSITORY / "changelogs" / "fragments" / name) for name in release.fragments()]
    released = {row["name"] for entry in releases for row in entry.get("objects", {}).get(kind, [])}
    rows = [row for fragment in fragments for row in fragment.get(f"add object.{kind}", [])]
    return released, {row["name"]: row["description"] for row in rows}


def test_the_change_log_names_each_role_and_playbook() -> None:
    """The tool of the change log finds modules and plugins alone. A fragment names roles and playbooks, in their own words."""
    specs = REPOSITORY.glob("roles/*/meta/argument_specs.yml")
    entries = {path.parent.parent.name: release.load(path)["argument_specs"]["variables"] for path in specs}
    files = [path for path in REPOSITORY.glob("playbooks/*.yml") if not path.name.startswith("_")]
    texts = {
        "role": {name: entry["short_description"] for name, entry in entries.items()},
        "playbook": {path.stem: release.load(path)[0]["name"] for path in files},
    }
    for kind, wanted in texts.items():
        released, new = _objects(kind)
        assert new == {name: text for name, text in wanted.items() if name not in released}


def test_nothing_names_a_fragment_that_the_release_moves() -> None:
    """The gates run on the commit of the release, which has no fragment."""
    command = ["git", "grep", "-lE", r"changelogs/fragments/[a-z0-9._-]+[.]yml"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")  # no match, and no other end


def test_every_file_has_the_version() -> None:
    release.check_versions(VERSION)


@pytest.fixture
def commit(tmp_path: Path) -> Path:
    """A repository with the files that a release checks."""
    for name in ("galaxy.yml", release.OPERATION, "changelogs/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "changelogs" / "fragments").mkdir()
    log = {"ancestor": None, "releases": {VERSION: {"changes": {"release_summary": "The first release."}}}}
    (tmp_path / "changelogs" / "changelog.yaml").write_text(yaml.safe_dump(log))
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_commit_that_can_be_released(commit: Path) -> None:
    release.check_versions(VERSION, commit)
    release.check_change_log(VERSION, commit)
    release.check_tree(VERSION, commit)


def test_a_changed_tree_is_not_released(commit: Path) -> None:
    (commit / "new.txt").write_text("")
    with pytest.raises(release.NotReleasable):
        release.check_tree(VERSION, commit)


def test_a_version_with_a_tag_is_not_released_again(commit: Path) -> None:
    subprocess.run(["git", "tag", f"v{VERSION}"], cwd=commit, check=True)
    with pytest.raises(release.NotReleasable):
        release.check_tree(VERSION, commit)


@pytest.mark.parametrize("version", ["", "v1.0.0", "99.0.0", "1.0"])
def test_another_version_is_not_released(commit: Path, version: str) -> None:
    with pytest.raises(release.NotReleasable):
        release.check_versions(version, commit)


def test_a_fragment_beside_the_release_is_found(commit: Path) -> None:
    (commit / "changelogs" / "fragments" / "a.yml").write_text("bugfixes: [a]\n")
    with pytest.raises(release.NotReleasable):
        release.check_change_log(VERSION, commit)


def test_a_version_without_a_change_log_is_not_released(commit: Path) -> None:
    (commit / "changelogs" / "changelog.yaml").write_text("releases: {}\n")
    with pytest.raises(release.NotReleasable):
        release.check_change_log(VERSION, commit)


@pytest.mark.parametrize("is_merged", [True, False])
def test_only_a_run_of_all_gates_leads_to_a_tag(is_merged: bool) -> None:
    assert not any(
        "git tag" in line for line in release.next_steps("1.2.3", "abc", "ruff", is_merged=is_merged)
    )
    steps = release.next_steps("1.2.3", "abc", "", is_merged=is_merged)
    assert "  git tag --sign v1.2.3 --message v1.2.3 abc" in steps
    assert any("origin/main" in line for line in steps) is not is_merged


def test_the_gate_of_the_pages_fails_if_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that installs nothing ends well too."""
    monkeypatch.setattr(package, "_build", lambda _name, _log: tmp_path / "file.tar.gz")
    monkeypatch.setattr(package, "_lint_tool", lambda *_arguments, **_variables: 0)
    assert package.ansible_doc(tmp_path / "log").failed
    assert {kind for kind, _name in package.pages(REPOSITORY)} == {"module", "inventory", "lookup", "role"}


def test_two_builds_of_a_commit_have_the_same_bytes() -> None:
    """They are built in two directories, at two times."""
    first, second = release.build("HEAD"), release.build("HEAD")
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first[1])) as archive:
        assert len({entry.mtime for entry in archive}) == 1
        assert f"certflow-kubernetes-{VERSION}.tar.gz" == first[0]


def test_the_order_of_the_disk_changes_no_byte() -> None:
    _name, content = release.build("HEAD")
    shuffled = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as archive,
        tarfile.open(fileobj=shuffled, mode="w:gz") as other,
    ):
        entries = archive.getmembers()
        random.Random(1).shuffle(entries)
        for entry in entries:
            data = archive.extractfile(entry)
            entry.mtime = 1
            other.addfile(entry, data)
    time = int(release.git("show", "-s", "--format=%ct", "HEAD"))
    assert release.normalized(shuffled.getvalue(), time) == content


def test_a_deprecated_name_works_and_warns() -> None:
    """The example of the page is a part of an argument specification."""
    (code,) = [text for kind, text in page_files.blocks(PAGE) if kind == "python"]
    scope: dict[str, Any] = {}
    exec(code, scope)
    ((name, option),) = scope["SPEC"].items()
    (old,) = option["aliases"]
    checked = ArgumentSpecValidator(scope["SPEC"]).validate({old: {"kind": "ConfigMap"}})
    assert not checked.error_messages
    assert checked.validated_parameters[name] == {"kind": "ConfigMap"}
    (warning,) = checked._deprecations
    assert old in str(warning)
    assert warning["version"] == "3.0.0"


def test_every_action_of_the_release_is_pinned() -> None:
    uses = re.findall(r"uses: (\S+)", (REPOSITORY / ".github" / "workflows" / "release.yml").read_text())
    assert uses
    assert [name for name in uses if not re.search(r"@[0-9a-f]{40}$", name)] == []


def test_the_page_names_every_command_of_the_release() -> None:
    targets = set(re.findall(r"^(\S+): ## .*RELEASING", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {f"make {target}" for target in targets} <= set(re.findall(r"make [a-z-]+", PAGE.read_text()))
