# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images of one static program, and the directory of the test programs' sources."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from tests.support.clusters.build import static_program

SOURCES = Path(__file__).parent / "images"
PAUSE = "certflow.invalid/pause:1"  # .invalid: no registry can have it (RFC 2606)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def program(name: str) -> Path:
    """Build one of the test programs, `pause` or `webhook`, and return its path."""
    return static_program(SOURCES / name / "main.go")


def archive(name: str, program: Path) -> bytes:
    """Return a docker-archive with one image, `name`, that runs a static program."""
    entrypoint = f"/{program.name}"
    layer = _tar({entrypoint.lstrip("/"): program.read_bytes()})
    machine = os.uname().machine
    config = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": [entrypoint]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "manifest.json": json.dumps(manifest).encode(),
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
