# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Get the manifests of a release from a directory, an archive or a URL, verify each file, and keep them in a cache.

The collection ships no manifests. A file counts only if it has the SHA-256 sum of the table or of the user, so the source does
not have to be trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..._base.paths import expand
from ..._download import fetch
from ..._download.source_auth import SourceAuth, SourceError
from . import release_archive
from .checksums import SUMS

UPSTREAM = "https://github.com/kubernetes-csi/external-snapshotter/archive/refs/tags/v{version}.tar.gz"
VERSION = "{version}"
# A release has 15 MB: half a minute at 4 Mbit/s.
FETCH_SECONDS = 300.0
WAIT_SECONDS = FETCH_SECONDS + 60.0
LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ReleaseSource:
    """The source of releases."""

    #: A directory, an archive, or the URL of an archive. {version} in it stands for the release, such as 8.7.0.
    where: str = UPSTREAM
    #: The directory that keeps fetched files.
    cache: Path = Path("~/.cache/certflow.kubernetes/releases")
    #: SHA-256 sums by release and file, for releases that this collection does not know or that the user has changed.
    sums: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: The credentials for the host of the URL.
    auth: SourceAuth = field(default_factory=SourceAuth)


def files(source: ReleaseSource, release: str) -> dict[str, str]:
    """Return the text of each of the release's files by its path in the repository.

    Take them from the cache if it has all of them. Otherwise one process at a time fetches them, within FETCH_SECONDS.
    Another process waits for that, at most WAIT_SECONDS. Raises SourceError.
    """
    sums = _sums(source, release)
    where = source.where.replace(VERSION, release) or UPSTREAM.replace(VERSION, release)
    if "://" not in where and os.path.isdir(expand(where)):
        return _verified(release_archive.from_directory(Path(expand(where)), sums), sums, release, where)
    cache = Path(expand(str(source.cache)))
    kept = cache / "external-snapshotter" / release
    with _lock(cache):
        try:
            return _verified(release_archive.from_directory(kept, sums), sums, release, str(kept))
        except SourceError:
            packed = release_archive.contents(
                fetch.read(where, time.monotonic() + FETCH_SECONDS, source.auth), where, sums
            )
            fetched = release_archive.below_tag(packed, where)
        texts = _verified(fetched, sums, release, where)
        _keep(kept, {name: fetched[name] for name in sums})
    return texts


def _sums(source: ReleaseSource, release: str) -> Mapping[str, str]:
    given: Any = source.sums.get(release) or {}
    # The files that the user has not changed keep their sums. Without them, a part of the release would not be installed.
    sums: dict[str, Any] = {**SUMS.get(release, {}), **given} if isinstance(given, Mapping) else {}
    if not sums or not all(isinstance(value, str) for value in sums.values()):
        if given:
            cause = f"the entry {release} of sums is not a dictionary from files to SHA-256 sums"
        else:
            cause = f"the files of release {release} are not known to this collection, which knows {', '.join(SUMS)}"
        raise SourceError(cause, remedy="Set the SHA-256 sums of its files with sums, or set another release")
    return sums


def _verified(
    found: Mapping[str, bytes], sums: Mapping[str, str], release: str, where: str
) -> dict[str, str]:
    missing = [name for name in sums if name not in found]
    if missing:
        raise SourceError(
            f"the source {where} lacks {missing[0]} of release {release}",
            evidence=[f"missing: {name}" for name in missing],
            remedy="Set a complete release",
        )
    for name, wanted in sums.items():
        actual = hashlib.sha256(found[name]).hexdigest()
        if actual != wanted.lower():
            raise SourceError(
                f"the file {name} from {where} is not that of release {release}: its digest is sha256:{actual}, not sha256:{wanted}",
                remedy="Use an unchanged copy. If you changed the file yourself, set the sums of this release's files with sums",
            )
    return {name: found[name].decode() for name in sums}


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Let one process fetch at a time. Other processes then find its files."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Another user may have made a link in a common directory.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with open(os.open(directory / ".lock", flags, 0o666)) as file:
            _wait_for(file, directory)
            yield
    except OSError as exc:
        raise SourceError(
            f"the cache directory {directory} cannot be used: {exc.strerror}",
            remedy="Set another cache_directory",
        ) from exc


def _wait_for(file: IO[str], directory: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise SourceError(
                    f"another process fetches a release into the cache directory {directory}, and has not ended after "
                    f"{WAIT_SECONDS:.0f} seconds",
                    remedy=f"Check why the process that locks {directory / '.lock'} does not end, or set another cache_directory",
                ) from None
            time.sleep(LOCK_POLL_SECONDS)


def _keep(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files beside the target, then rename them to it. So no process reads half a release."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft = Path(scratch, "draft")
        for name, data in contents.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
