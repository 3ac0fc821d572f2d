# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What is in an archive of manifests, or in a directory: only what may be read, each fault a line. Reads no network."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ._errors import SourceError

# The largest CustomResourceDefinition has 51 KB.
MOST_BYTES_OF_A_FILE = 2**20
# Where a release's files are in its repository; the parent directory of an archive is called after the tag.
MARKER = "deploy/kubernetes/snapshot-controller/setup-snapshot-controller.yaml"
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError, OSError)  # fmt: skip


def contents(data: bytes, where: str) -> dict[str, bytes]:
    """Return the files of a zip or tar archive by the names they have in it, those left out that are no manifest's size.

    Raises SourceError for what is no archive, is damaged or ends too soon, and for a name that leads out of it.
    """
    try:
        return dict(_zip(data, where) if data[:2] == b"PK" else _tar(data, where))
    except (*_DAMAGED, NotImplementedError, RuntimeError) as exc:
        raise SourceError(
            f"the archive {where} is damaged or incomplete: {str(exc) or type(exc).__name__}",
            remedy="fetch it again; it has to be a .zip, .tar.gz or .tar",
        ) from exc


def below_tag(files: Mapping[str, bytes], where: str) -> dict[str, bytes]:
    """Return the files by their paths in the repository, whatever directory they are packed in."""
    roots = sorted(
        (name[: -len(MARKER)] for name in files if name == MARKER or name.endswith(f"/{MARKER}")), key=len
    )
    if not roots:
        raise SourceError(
            f"the source {where} holds no release of external-snapshotter: there is no {MARKER} in it",
            remedy="give the archive of a tag of kubernetes-csi/external-snapshotter",
        )
    return {name[len(roots[0]) :]: data for name, data in files.items() if name.startswith(roots[0])}


def from_directory(root: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Return those of the names that are files below root. Raises SourceError where one leads out of it."""
    found = {}
    for name in names:
        path = root / name
        _stays_inside(name, str(root))
        if root.resolve() not in path.resolve().parents:
            raise SourceError(
                f"the file {path} leads out of the directory {root}", remedy="replace the link by the file"
            )
        if path.is_file() and path.stat().st_size <= MOST_BYTES_OF_A_FILE:
            found[name] = path.read_bytes()
    return found


def _zip(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            _stays_inside(entry.filename, where)
            if not entry.is_dir() and entry.file_size <= MOST_BYTES_OF_A_FILE:
                yield entry.filename, archive.read(entry)


def _tar(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as archive:
        for entry in archive:
            _stays_inside(entry.name, where)
            file = (
                archive.extractfile(entry) if entry.isreg() and entry.size <= MOST_BYTES_OF_A_FILE else None
            )
            if file:
                yield entry.name, file.read()


def _stays_inside(name: str, where: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise SourceError(
            f"the source {where} names a file outside of itself: {name}",
            remedy="do not use it; fetch it from another place",
        )
