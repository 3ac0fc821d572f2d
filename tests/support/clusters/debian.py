# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs from Debian packages, unpacked into the cache. The machine's own files do not change."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.clusters.build import Report, cache_directory, lock, say
from tests.support.clusters.errors import ClusterError
from tests.support.clusters.pins import DEBIAN_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

# Programs that must start if the packages fit together. Each prints its version.
_PROBES = ("usr/bin/containerd", "usr/sbin/runc", "usr/sbin/nft")


def unpacked(report: Report = say) -> Path:
    """Return the directory with the unpacked DEBIAN_PACKAGES, laid out like /.

    Raises ClusterError with the reason.
    """
    target = cache_directory() / "debian" / _key()
    if target.is_dir():
        return target
    with lock(target.parent / ".lock", report):
        if not target.is_dir():
            _unpack(target, report)
    return target


def environment(root: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `base` with PATH and library path for the programs below `root`."""
    libraries = sorted({str(path.parent) for path in root.glob("**/*-linux-gnu*/*.so.*")})
    programs = [str(root / directory) for directory in ("usr/bin", "usr/sbin")]
    places = {
        "PATH": [*programs, base.get("PATH", os.defpath), "/usr/sbin", "/sbin"],
        "LD_LIBRARY_PATH": [*libraries, base.get("LD_LIBRARY_PATH", "")],
    }
    return {**base, **{name: os.pathsep.join(filter(None, found)) for name, found in places.items()}}


def _key() -> str:
    """Return a key of the distribution's release and the names of the packages."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = f"{release.get('ID', 'unknown')}-{release.get('VERSION_ID', 'rolling')}"
    recipe = json.dumps([name, os.uname().machine, DEBIAN_PACKAGES])
    return f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"


def _unpack(target: Path, report: Report) -> None:
    missing = [program for program in ("apt-get", "dpkg") if not shutil.which(program)]
    if missing:
        raise ClusterError(f"its programs come from Debian packages, and there is no {missing[0]} on PATH")
    report("Downloading containerd, runc, the CNI plugins and nftables, once (35 MB).")
    for stale in target.parent.glob(".unpacking-*"):  # this process holds the lock
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as scratch:
        packages, root = Path(scratch, "packages"), Path(scratch, "root")
        for directory in (packages, root, Path(scratch, "lists", "partial")):
            directory.mkdir(parents=True)
        apt = [
            "apt-get",
            "-q",
            # own package lists, so that those of the machine do not change
            f"-oDir::State::lists={scratch}/lists",
            f"-oDir::Cache={scratch}/cache",
            "-oAPT::Sandbox::User=root",  # the user _apt may not enter the cache
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "-oAcquire::Retries=2",
        ]
        _run([*apt, "update"], packages)
        _run([*apt, "download", *DEBIAN_PACKAGES], packages)
        for package in packages.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(root)], packages)
        for program in _PROBES:
            _run([str(root / program), "--version"], packages, environment(root))
        (root / "packages.txt").write_text("".join(f"{path.name}\n" for path in sorted(packages.iterdir())))
        root.rename(target)


def _run(command: list[str], directory: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        env=(environment or os.environ) | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(
            f"{' '.join(word for word in command if not word.startswith('-'))} failed: {words[-1] if words else ''}"
        )
