# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The manifests of a release, from wherever they are, verified file by file, and kept in a cache.

The collection ships none of them. A file counts only if it has the SHA-256 sum that the release's row has, or that the
user gave; so it does not matter who keeps the copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..._paths import expand
from ..errors import SourceError
from . import fetch, release_archive
from .checksums import CLIENTS, SUMS

UPSTREAM = "https://github.com/kubernetes-csi/external-snapshotter/archive/refs/tags/v{version}.tar.gz"
MODULE = "github.com/kubernetes-csi/external-snapshotter"
VERSION = "{version}"
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
# A release has 15 MB: half a minute at 4 Mbit/s.
FETCH_SECONDS = 300.0
WAIT_SECONDS = FETCH_SECONDS + 60.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class ReleaseSource:
    """Where releases come from.

    where: a directory, an archive (file or URL), or the URL of a Go module proxy; {version} in it stands for the release,
    as 8.7.0. cache: the directory that keeps what was fetched. sums: of releases that this collection has no row for, or
    that the user has changed: release to file to SHA-256 sum.
    """

    where: str = UPSTREAM
    cache: Path = Path("~/.cache/certflow.kubernetes/releases")
    sums: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def files(source: ReleaseSource, release: str) -> dict[str, str]:
    """Return the text of each of the release's files by its path in the repository.

    Take them from the cache if it has all of them. Otherwise one process at a time fetches them, within FETCH_SECONDS.
    Another process waits for that, at most WAIT_SECONDS. Raises SourceError.
    """
    sums = _sums(source, release)
    where = source.where.replace(VERSION, release) or UPSTREAM.replace(VERSION, release)
    if not _is_url(where) and Path(expand(where)).is_dir():
        found = release_archive.from_directory(Path(expand(where)), sums)
        return _verified(found, sums, release, where)
    cache = Path(expand(str(source.cache)))
    kept = cache / "external-snapshotter" / release
    with _lock(cache):
        try:
            return _verified(release_archive.from_directory(kept, sums), sums, release, str(kept))
        except SourceError:
            fetched = _fetched(where, release, sums, time.monotonic() + FETCH_SECONDS)
        texts = _verified(fetched, sums, release, where)
        _keep(kept, {name: fetched[name] for name in sums})
    return texts


def _sums(source: ReleaseSource, release: str) -> Mapping[str, str]:
    sums = source.sums.get(release) or SUMS.get(release)
    if not sums:
        raise SourceError(
            f"the files of release {release} are not known to this collection, which knows {', '.join(SUMS)}",
            remedy="Give their SHA-256 sums by path with sums, or another release",
        )
    return sums


def _fetched(where: str, release: str, sums: Mapping[str, str], until: float) -> dict[str, bytes]:
    """Return the release's files, unverified, by their paths in the repository. until: by time.monotonic()."""
    if where.endswith(ARCHIVES) or (not _is_url(where) and Path(expand(where)).is_file()):
        return release_archive.below_tag(
            release_archive.contents(fetch.read(where, until), where, sums), where
        )
    if _is_url(where):
        return _from_proxy(where.rstrip("/"), release, sums, until)
    raise SourceError(
        f"the source of the manifests, {where}, is neither a directory nor a file that exists",
        remedy="Give a directory, an archive, or the URL of an archive or of a Go module proxy",
    )


def _from_proxy(proxy: str, release: str, sums: Mapping[str, str], until: float) -> dict[str, bytes]:
    """https://go.dev/ref/mod#goproxy-protocol: each version of a module is one zip, in a directory of its name."""
    client = CLIENTS.get(release, f"{release.rpartition('.')[0]}.0")
    modules = [("", release)] + [("client/", client)] * any(name.startswith("client/") for name in sums)
    found: dict[str, bytes] = {}
    for place, version in modules:
        module = f"{MODULE}/{place}v{version.partition('.')[0]}"
        url = f"{proxy}/{module}/@v/v{version}.zip"
        prefix = f"{module}@v{version}/"
        wanted = [name[len(place) :] for name in sums if name.startswith("client/") == bool(place)]
        unpacked = release_archive.contents(fetch.read(url, until), url, wanted)
        found |= {
            f"{place}{name[len(prefix) :]}": data
            for name, data in unpacked.items()
            if name.startswith(prefix)
        }
    return found


def _verified(
    found: Mapping[str, bytes], sums: Mapping[str, str], release: str, where: str
) -> dict[str, str]:
    missing = [name for name in sums if name not in found]
    if missing:
        raise SourceError(
            f"the source {where} lacks {missing[0]} of release {release}",
            evidence=[f"missing: {name}" for name in missing],
            remedy="Give a complete release",
        )
    for name, wanted in sums.items():
        actual = hashlib.sha256(found[name]).hexdigest()
        if actual != wanted.lower():
            raise SourceError(
                f"the file {name} from {where} is not that of release {release}: its SHA-256 sum is {actual}, not {wanted}",
                remedy="Use an unchanged copy; or, if the change is yours, give the sums of this release's files with sums",
            )
    return {name: found[name].decode() for name in sums}


def _is_url(where: str) -> bool:
    return bool(urlsplit(where).scheme)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Let one process fetch at a time. Other processes then find its files."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (directory / ".lock").open("a+") as file:
            _wait_for(file, directory)
            yield
    except OSError as exc:
        raise SourceError(
            f"the cache directory {directory} cannot be used: {exc.strerror}",
            remedy="Give another one with cache_directory",
        ) from exc


def _wait_for(file: IO[str], directory: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                file.seek(0)
                raise SourceError(
                    f"process {file.read(60) or 'of another user'} fetches a release into the cache directory {directory}, "
                    f"and has not ended after {WAIT_SECONDS:.0f} seconds",
                    remedy="Check why that process does not end, or set another cache_directory",
                ) from None
            time.sleep(LOOK_SECONDS)
        else:
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}"[:60])
            file.flush()
            return


def _keep(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write them beside the target and put them in its place: half a release is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft = Path(scratch, "draft")
        for name, data in contents.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
