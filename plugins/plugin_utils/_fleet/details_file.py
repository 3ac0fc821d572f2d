# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Write and read the details of a fleet run, in a file beside its run file. They hold what the budget does not need, and are not shortened.

Each outcome of a cluster is one line: the plan, the repairs, the steps, the reason. The event of the outcome in the run file has the
digest of this line and the number of entries of each list. The caller holds the lock of the run file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from . import private_file

#: The end of the name, after the path of the run file.
SUFFIX = ".details"
_BEGINNING = b'{"run":'


def append(path: str, run: str, host: str, details: Mapping[str, Any]) -> str:
    """Append the details of an outcome, and return the digest of their line. path: of the run file. Raises RunFileError."""
    line = json.dumps({"run": run, "cluster": host, "details": details}, separators=(",", ":")).encode()
    with private_file.opened(path + SUFFIX, create=True) as file:
        _check(file)
        end = file.size
        # A killed process may have left a torn line.
        is_torn = file.read(max(0, end - 1), end) not in (b"", b"\n")
        file.append(b"\n" * is_torn + line + b"\n")
    return _digest(line)


def read(path: str, digests: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the details of the clusters whose line is in the file. digests: host -> the digest of its line. Raises RunFileError."""
    wanted = {digest: host for host, digest in digests.items() if digest}
    if not wanted:
        return {}
    with private_file.opened(path + SUFFIX, create=True) as file:
        return {
            wanted[digest]: json.loads(line)["details"]
            for line in _lines(file)
            if (digest := _digest(line)) in wanted
        }


def keep(path: str, runs: Collection[str]) -> None:
    """Remove the details of all runs but these. Raises RunFileError."""
    with private_file.opened(path + SUFFIX, create=True) as file:
        _check(file)
        beginnings = tuple(_BEGINNING + json.dumps(run).encode() + b"," for run in runs)
        file.replace(b"".join(line + b"\n" for line in _lines(file) if line.startswith(beginnings)))


def size(path: str) -> int:
    """Return the number of bytes of the file, which is created if it does not exist. Raises RunFileError."""
    with private_file.opened(path + SUFFIX, create=True) as file:
        _check(file)
        return file.size


def _check(file: private_file.PrivateFile) -> None:
    beginning = file.read(0, len(_BEGINNING))
    if beginning != _BEGINNING[: len(beginning)]:
        raise private_file.problem_error(
            file.path, "does not contain the details of runs", "Move it, or use another run file"
        )
    file.make_private()


def _lines(file: private_file.PrivateFile) -> Iterator[bytes]:
    for line in io.BytesIO(file.read(0, file.size)):
        yield line.rstrip(b"\n")


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
