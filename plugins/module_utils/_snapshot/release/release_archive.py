# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the files of a release from an archive or a directory, without the network.

An archive is not trusted until the sums of its files are verified. Its sizes may be wrong, and a few bytes may unpack to
many. So this file keeps only the requested files, and counts everything while it unpacks.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..._download.source_auth import SourceError

# The largest CustomResourceDefinition has 51 KB.
MOST_BYTES_OF_A_FILE = 2**20
# The limit for all kept files together. Files of any directory count if they have a wanted name.
MOST_BYTES_KEPT = 16 * 2**20
# A release with its vendored modules has 10,000 files and 100 MB.
MOST_ENTRIES = 50_000
MOST_BYTES_UNPACKED = 512 * 2**20
# The limit for a long name, and for the pax records of one entry.
MOST_BYTES_OF_A_HEADER = 64 * 2**10
MOST_SECONDS = 60.0
# A file of every release. It shows the root of the repository, because an archive has a directory with the name of the tag.
MARKER = "deploy/kubernetes/snapshot-controller/setup-snapshot-controller.yaml"
_GZIP = b"\x1f\x8b"
_CHUNK = 2**16
_RECORDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_DAMAGED = (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, OSError, ValueError)  # fmt: skip


class _Refused(Exception):
    """The archive is larger than any release, or has a form that no release has. Never leaves this file."""


def contents(data: bytes, where: str, wanted: Collection[str]) -> dict[str, bytes]:
    """Return those files of a tar archive whose paths end with one of the wanted, by their names in it.

    wanted: paths from the root of a repository.
    Raises SourceError if the data is not an archive, is damaged or incomplete, is larger than a release can be, or has a
    name that leads out of the archive.
    """
    kept = _Kept(where, wanted)
    try:
        _untar(data, kept)
    except _Refused as exc:
        raise SourceError(
            f"the archive {where} is not a release archive: {exc}",
            remedy="Do not use it. Fetch it from another place",
        ) from exc
    except _DAMAGED as exc:
        raise SourceError(
            f"the archive {where} is damaged or incomplete: {str(exc) or type(exc).__name__}",
            remedy="Fetch it again. It must be a tar archive, such as .tar.gz",
        ) from exc
    return kept.files


class _Kept:
    """The kept files, and counts of all entries and bytes. Raises _Refused above a limit."""

    def __init__(self, where: str, wanted: Collection[str]) -> None:
        self.files: dict[str, bytes] = {}
        self._where = where
        self._ends = (*wanted,)
        self._entries = self._bytes = 0
        self._until = time.monotonic() + MOST_SECONDS

    def is_wanted(self, name: str) -> bool:
        """Count the entry, and return True if its content is wanted."""
        _stays_inside(name, self._where)
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise _Refused(f"it has more than {MOST_ENTRIES} entries")
        self.check_time()
        return any(name == end or name.endswith(f"/{end}") for end in self._ends)

    def check_time(self) -> None:
        if time.monotonic() > self._until:
            raise _Refused(f"unpacking it takes more than {MOST_SECONDS:.0f} seconds")

    def keep(self, name: str, data: bytes) -> None:
        if len(data) > MOST_BYTES_OF_A_FILE:
            raise _Refused(f"{name} has more than {MOST_BYTES_OF_A_FILE} bytes")
        if name in self.files:
            raise _Refused(f"it has two files with the name {name}")
        self._bytes += len(data)
        if self._bytes > MOST_BYTES_KEPT:
            raise _Refused(f"it has more than {MOST_BYTES_KEPT} bytes of manifests")
        self.files[name] = data


class _Unpacked:
    """The counted stream of a tar archive's bytes, unpacked if they are compressed."""

    def __init__(self, data: bytes, kept: _Kept) -> None:
        packed = io.BytesIO(data)
        self._file: io.BytesIO | gzip.GzipFile = (
            gzip.GzipFile(fileobj=packed) if data[:2] == _GZIP else packed
        )
        self._remaining = MOST_BYTES_UNPACKED
        self._kept = kept

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer at the end."""
        self._kept.check_time()
        self._remaining -= size
        if self._remaining < 0:
            raise _Refused(f"it unpacks to more than {MOST_BYTES_UNPACKED} bytes")
        return self._file.read(size)

    def content(self, size: int) -> bytes:
        """Return the content of an entry, without the padding to whole blocks."""
        data = self.read(_blocks(size))
        if len(data) < size:
            raise EOFError("it ends in the middle of an entry")
        return data[:size]

    def skip(self, size: int) -> None:
        remaining = _blocks(size)
        while remaining:
            data = self.read(min(remaining, _CHUNK))
            if not data:
                raise EOFError("it ends in the middle of an entry")
            remaining -= len(data)


def _untar(data: bytes, kept: _Kept) -> None:
    """Read a tar archive block by block, because tarfile.open reads a header of any size at once."""
    unpacked = _Unpacked(data, kept)
    for entry in _entries(unpacked):
        # A release has no links and no special files. Skip them, so that such a file counts as missing.
        is_file = entry.type in _FILES and not entry.name.endswith("/")
        if kept.is_wanted(entry.name) and is_file:
            if entry.size > MOST_BYTES_OF_A_FILE:
                raise _Refused(f"{entry.name} has more than {MOST_BYTES_OF_A_FILE} bytes")
            kept.keep(entry.name, unpacked.content(entry.size))
        elif entry.isreg() or entry.type not in tarfile.SUPPORTED_TYPES:
            # No content follows a link or a directory, even if its header has a size.
            unpacked.skip(entry.size)


@dataclass
class _NextEntry:
    """What headers of their own say about the entry that follows them."""

    #: "" if no header has said it.
    name: str = ""
    #: In bytes. -1 if no header has said it.
    size: int = -1

    def read(self, kind: bytes, content: bytes) -> None:
        """Read a header: a long name of GNU tar, or records of pax. Other headers say nothing that is needed."""
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.name = content.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif kind == tarfile.XHDTYPE:
            records = _records(content)
            self.name = records.get("path", self.name)
            self.size = int(records.get("size", self.size))

    def complete(self, entry: tarfile.TarInfo) -> None:
        if self.name:
            entry.name = self.name
        if self.size >= 0:
            entry.size = self.size


def _entries(unpacked: _Unpacked) -> Iterator[tarfile.TarInfo]:
    """Yield the header of each entry, with the name and size from preceding headers. The content follows."""
    is_archive = False
    headers = 0
    following = _NextEntry()
    while len(block := unpacked.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE and any(block):
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        is_archive = True
        if entry.size < 0:
            raise tarfile.ReadError("an entry has a negative size")
        if entry.type == tarfile.GNUTYPE_SPARSE:
            raise _Refused(f"{entry.name} is a sparse file")
        if entry.type in _RECORDS or entry.type in _LONG:
            headers += 1
            if entry.size > MOST_BYTES_OF_A_HEADER or headers > MOST_ENTRIES:
                raise _Refused(f"it has a header of {entry.size} bytes")
            following.read(entry.type, unpacked.content(entry.size))
            continue
        following.complete(entry)
        following = _NextEntry()
        yield entry
    if not is_archive:
        raise tarfile.ReadError("it is not a tar archive")


def _records(content: bytes) -> dict[str, str]:
    """Parse pax records: "<length> <key>=<value>" and a newline. The length counts the whole record."""
    found: dict[str, str] = {}
    start, end = 0, len(content.rstrip(b"\0"))
    while start < end:
        length = int(content[start : start + 8].partition(b" ")[0])
        record = content[start : start + max(length, 0)]
        key, is_there, value = record.partition(b" ")[2].partition(b"=")
        if not is_there or len(record) != length:
            raise tarfile.HeaderError("a pax record is malformed")
        found[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
        start += length
    return found


def _blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def below_tag(files: Mapping[str, bytes], where: str) -> dict[str, bytes]:
    """Return the files by their paths in the repository, without the archive's own directories."""
    roots = sorted(
        (name[: -len(MARKER)] for name in files if name == MARKER or name.endswith(f"/{MARKER}")), key=len
    )
    if not roots:
        raise SourceError(
            f"the source {where} is not a release of external-snapshotter: it has no file {MARKER}",
            remedy="Set the archive of a tag of kubernetes-csi/external-snapshotter",
        )
    return {name[len(roots[0]) :]: data for name, data in files.items() if name.startswith(roots[0])}


def from_directory(root: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files below root with these names. Raises SourceError for a name or link that leads out of root."""
    found = {}
    for name in names:
        path = root / name
        _stays_inside(name, str(root))
        if root.resolve() not in path.resolve().parents:
            raise SourceError(
                f"the file {path} leads out of the directory {root}", remedy="Replace the link by the file"
            )
        try:
            if path.is_file() and path.stat().st_size <= MOST_BYTES_OF_A_FILE:
                found[name] = path.read_bytes()
        except OSError as exc:
            raise SourceError(
                f"the file {path} cannot be read: {exc.strerror}", remedy="Check who may read it"
            ) from exc
    return found


def _stays_inside(name: str, where: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise SourceError(
            f"the source {where} names a file outside of its directory: {name}",
            remedy="Do not use it. Fetch the release from another place",
        )
