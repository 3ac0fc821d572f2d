# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that the commit can be released, run the gates, and build the file and its checksum (`make release VERSION=...`).

It sets no tag and publishes nothing. The file depends only on the commit: its entries are sorted, and their time is that of the commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tools.ci import tree, venvs
from tools.ci.environments import LINT, SITE
from tools.ci.venvs import REPOSITORY

DIST = REPOSITORY / ".work" / "dist"
#: Semantic versioning, without build metadata, which Galaxy ignores.
VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
OPERATION = "plugins/module_utils/_ansible/operation.py"
_MANIFEST, _FILES = "MANIFEST.json", "FILES.json"


class NotReleasable(Exception):
    """The commit cannot be released. The text says why, and what to do."""


def git(*arguments: str, place: Path = REPOSITORY) -> str:
    """Return the output of git, without the newlines at its end. The lines of a short status begin with a space."""
    done = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


def check_tree(version: str, place: Path = REPOSITORY) -> None:
    """Raise NotReleasable if the tree has changes, or if the version has a tag."""
    if changes := git("status", "--porcelain", place=place):
        raise NotReleasable(f"the tree has changes. Commit or remove them:\n{changes}")
    if git("tag", "--list", f"v{version}", place=place):
        raise NotReleasable(
            f"the tag v{version} exists. A released version never changes, so choose another one"
        )


def check_versions(version: str, place: Path = REPOSITORY) -> None:
    """Raise NotReleasable if a file has another version."""
    if not VERSION.fullmatch(version):
        raise NotReleasable(f"{version!r} is not a version such as 1.2.3 or 1.2.3-rc.1")
    text = re.search(r'^VERSION = "(.*)"$', (place / OPERATION).read_text(), re.MULTILINE)
    versions = {"galaxy.yml": load(place / "galaxy.yml")["version"], OPERATION: text[1] if text else ""}
    if wrong := [f"{name}: {found}" for name, found in versions.items() if found != version]:
        raise NotReleasable(f"set the version {version} in each file. Other versions: {', '.join(wrong)}")


def check_change_log(version: str, place: Path = REPOSITORY) -> None:
    """Raise NotReleasable if the change log lacks the version, or if fragments are left."""
    if version not in load(place / "changelogs" / "changelog.yaml")["releases"]:
        raise NotReleasable(f"the change log lacks {version}. Run make changelog, and commit what it wrote")
    if left := fragments(place):
        raise NotReleasable(f"fragments are left beside the change log of {version}: {', '.join(left)}")


def fragments(place: Path = REPOSITORY) -> list[str]:
    """Return the names of the change log's fragments."""
    return sorted(path.name for path in (place / "changelogs" / "fragments").glob("*.y*ml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def write_change_log() -> None:
    """Move the fragments into the change log, as the entry of the version of galaxy.yml."""
    venv = venvs.ensure(SITE)
    subprocess.run(
        [venv / "bin" / "antsibull-changelog", "release"], cwd=REPOSITORY, env=tree.environ(venv), check=True
    )


def build(commit: str, place: Path = REPOSITORY) -> tuple[str, bytes]:
    """Return name and bytes of the collection's file, built from an export of a commit."""
    venv = venvs.ensure(LINT)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "source"), Path(folder, "output")
        source.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=place, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(source, filter="data")
        command = [str(venv / "bin" / "ansible-galaxy"), "collection", "build", "--output-path", str(output)]
        subprocess.run(command, cwd=source, env=tree.environ(venv), capture_output=True, check=True)
        (built,) = output.glob("*.tar.gz")
        return built.name, normalized(
            built.read_bytes(), int(git("show", "-s", "--format=%ct", commit, place=place))
        )


def normalized(content: bytes, time: int) -> bytes:
    """Return the file of a collection with sorted entries of one time (seconds since 1970). ansible-galaxy uses the order of the disk."""
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for entry in archive:
            read = archive.extractfile(entry)
            entries[entry.name] = (entry, read.read() if read else b"")
    names = json.loads(entries[_FILES][1])
    names["files"].sort(key=lambda row: str(row["name"]))
    files = _json(names)
    manifest = json.loads(entries[_MANIFEST][1])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(files).hexdigest()
    entries[_FILES] = (entries[_FILES][0], files)
    entries[_MANIFEST] = (entries[_MANIFEST][0], _json(manifest))
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as result:
        for name in sorted(entries):
            entry, data = entries[name]
            entry.size, entry.mtime, entry.pax_headers = len(data), time, {}
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            result.addfile(entry, io.BytesIO(data) if entry.isfile() else None)
    return gzip.compress(plain.getvalue(), mtime=time)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def write(commit: str) -> Path:
    """Build the file twice, compare both, and write it with its checksum. Return its path."""
    (name, content), (_name, again) = build(commit), build(commit)
    if content != again:
        raise NotReleasable("two builds of the commit differ")
    DIST.mkdir(parents=True, exist_ok=True)
    path = DIST / name
    path.write_bytes(content)
    (DIST / "SHA256SUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    return path


def run_gates(gates: str) -> None:
    """Run gates, all gates of `make test` if the text is empty. Raise NotReleasable if one fails."""
    if subprocess.run(
        [sys.executable, "-m", "tools.ci", *gates.split()], cwd=REPOSITORY, check=False
    ).returncode:
        raise NotReleasable("a gate failed")


def release(version: str, gates: str) -> None:
    """Check, run the gates, build, and print the commands that are left."""
    check_versions(version)
    check_change_log(version)
    check_tree(version)
    commit = git("rev-parse", "HEAD")
    run_gates(gates)
    check_tree(version)
    path = write(commit)
    print(f"{path}\n{path.with_name('SHA256SUMS').read_text()}")
    is_merged = bool(git("branch", "--remotes", "--list", "origin/main", "--contains", commit))
    print("\n".join(next_steps(version, commit, gates, is_merged=is_merged)))


def next_steps(version: str, commit: str, gates: str, *, is_merged: bool) -> list[str]:
    """Return the lines that say what to do with a commit that passed these gates, "" for all. Only a whole run leads to a tag."""
    if gates:
        return [f"Only these gates ran: {gates}. Run all of them before you tag this commit."]
    unmerged = [
        "  It is not in origin/main yet. Push it there first. After a squash or a rebase, run this command on the commit that main has."
    ]
    return [
        f"The commit {commit} is ready. RELEASING.md has the next steps:",
        *([] if is_merged else unmerged),
        f"  git tag --sign v{version} --message v{version} {commit}",
        f"  git push origin v{version}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["release", "changelog", "build"])
    parser.add_argument("version", nargs="?", default="")
    parser.add_argument("--gates", default="")
    options = parser.parse_args()
    try:
        if options.step == "changelog":
            write_change_log()
        elif options.step == "build":
            check_versions(options.version)
            check_change_log(options.version)
            print(write("HEAD"))
        else:
            release(options.version, options.gates)
    except NotReleasable as error:
        print(f"Not released: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
