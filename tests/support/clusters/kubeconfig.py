# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfig files with embedded certificates and keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.clusters.pki import KeyPair, write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def with_certificate(pair: KeyPair) -> dict[str, Any]:
    """Return the `user` entry of a kubeconfig with a client certificate."""
    return {
        "client-certificate-data": base64.b64encode(pair.certificate_pem).decode(),
        "client-key-data": base64.b64encode(pair.key_pem).decode(),
    }


def write(
    path: Path, cluster: str, url: str, ca_pem: str, *, user: dict[str, Any], namespace: str = "default"
) -> Path:
    """Write a kubeconfig whose context, cluster and user have the cluster's name. Its mode is 0600."""
    server = {"server": url, "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode()}
    return _write(
        path,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "clusters": [{"name": cluster, "cluster": server}],
            "users": [{"name": cluster, "user": user}],
            "contexts": [
                {"name": cluster, "context": {"cluster": cluster, "user": cluster, "namespace": namespace}}
            ],
        },
    )


def merge(path: Path, parts: Iterable[Path]) -> Path:
    """Write one file with the contexts of all parts. The first context is the current one."""
    loaded = [yaml.safe_load(part.read_text()) for part in parts]
    merged = {"apiVersion": "v1", "kind": "Config", "current-context": loaded[0]["current-context"]}
    for kind in ("clusters", "users", "contexts"):
        merged[kind] = [entry for part in loaded for entry in part[kind]]
    return _write(path, merged)


def _write(path: Path, content: dict[str, Any]) -> Path:
    """Replace the file in one step, so that readers see either the old or the new one."""
    draft = path.with_name(f".{path.name}.new")
    write_private(draft, yaml.safe_dump(content, sort_keys=False).encode())
    return draft.rename(path)
