# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read texts with Go: with the oldest relevant version and with the installed one."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "request_reader"
# Kubernetes 1.19, the first release with certificates.k8s.io/v1, was built with Go 1.15. The oldest supported
# Kubernetes is built with a newer one, but a request may be read by any program.
OLDEST, INSTALLED = "go1.15.15", "local"
TOOLCHAINS = (OLDEST, INSTALLED)
AT_ONCE = 5000


class GoReader:
    """A program that reads texts with Go. version: the version of the Go that built it."""

    def __init__(self, program: Path, version: str) -> None:
        self.program = program
        self.version = version

    def read(self, texts: list[bytes]) -> list[dict[str, Any]]:
        """Return the content that this Go reads in each text. request_reader/main.go describes the fields."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(texts), AT_ONCE):
            given = [base64.b64encode(text).decode() for text in texts[start : start + AT_ONCE]]
            done = subprocess.run(
                [self.program], input=json.dumps(given).encode(), capture_output=True, check=True
            )
            answers += json.loads(done.stdout)
        assert len(answers) == len(texts)
        return answers


class Unavailable(Exception):
    """A version of Go that is not available here."""


@functools.cache
def go_reader(toolchain: str) -> GoReader:
    """Return the reader that a toolchain builds, from the cache if it was built before.

    An older toolchain comes through the Go module proxy. Raises Unavailable.
    """
    go = shutil.which("go")
    if go is None:
        raise Unavailable("go is not installed")
    # GOENV: the user's settings may have flags that an old Go does not accept.
    environment = {
        **os.environ,
        "GOENV": "off",
        "GOFLAGS": "",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": toolchain,
    }
    found = subprocess.run(
        [go, "env", "GOVERSION"], env=environment, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise Unavailable(f"{toolchain} cannot be had: {found.stderr.strip()}")
    version = found.stdout.strip() or toolchain  # the oldest version does not have that variable
    return GoReader(_built(go, version, environment), version)


def go_readers() -> list[GoReader]:
    """Return the readers of all available versions, the oldest first."""
    found = []
    for toolchain in TOOLCHAINS:
        with contextlib.suppress(Unavailable):
            found.append(go_reader(toolchain))
    return found


def _built(go: str, version: str, environment: dict[str, str]) -> Path:
    source = b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))
    name = f"{SOURCE.name}-{hashlib.sha256(source).hexdigest()[:10]}-{version}"
    target = _cache() / "readers" / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{name}-{os.getpid()}")
        subprocess.run([go, "build", "-o", draft, "."], cwd=SOURCE, env=environment, check=True)
        draft.replace(target)
    return target


def _cache() -> Path:
    """Return the directory of tests/support/clusters/build.py, which Python 3.9 cannot import."""
    own = os.environ.get("CERTFLOW_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return (
        Path(own).absolute()
        if own
        else (Path(base) if base else Path.home() / ".cache") / "certflow.kubernetes"
    )
