# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Store a backup in the cluster, and restore it with the command that it contains, on a real API server."""

from __future__ import annotations

import os
import subprocess
import uuid
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import backups

from tests.support import clusters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

Object = dict[str, Any]
NAME = "certflow-snapshot-controller-backup"
NOW = datetime(2026, 3, 1, 3, 0, tzinfo=timezone.utc)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"backup-{uuid.uuid4().hex[:8]}"
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.api("DELETE", f"/api/v1/namespaces/{name}")


def shell(cluster: Cluster, command: str) -> str:
    """Run a command with this cluster's kubectl, as administrator."""
    path = f"{clusters.programs()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def labelled(text: str, begin: str) -> str:
    """Return the command in the comment after a line that begins so."""
    lines = [line.lstrip("# ") for line in text.splitlines()]
    return lines[next(number for number, line in enumerate(lines) if line.startswith(begin)) + 1]


@pytest.mark.parametrize("part_bytes", [backups.PART_BYTES, 500])
def test_the_objects_are_restored_by_the_commands_of_the_backup(
    client: Client, namespace: str, part_bytes: int, tmp_path: Path, fleet: clusters.Fleet
) -> None:
    cluster = fleet["onprem"]
    services = f"/api/v1/namespaces/{namespace}/services"
    spec = {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]}
    for name in ("changed", "deleted"):
        cluster.api("POST", services, {"metadata": {"name": name, "labels": {"team": "a"}}, "spec": spec})
    kept = backups.read_originals(
        client, [Reference("Service", name, namespace) for name in ("changed", "deleted")]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "PART_BYTES", part_bytes)
        stored = backups.store_in_cluster(client, namespace, NAME, list(kept.values()), NOW)
    cluster.api("PUT", f"{services}/changed", _with_selector(cluster.api("GET", f"{services}/changed")))
    cluster.api("DELETE", f"{services}/deleted")

    first = stored.rpartition("/")[2]
    readme = shell(cluster, f"kubectl -n {namespace} get configmap {first} -o jsonpath='{{.data.README}}'")
    text = shell(cluster, labelled(readme, "To read them"))
    document = tmp_path / "FILE"
    for obj in yaml.safe_load_all(text):
        document.write_text(yaml.safe_dump(obj))
        shell(cluster, labelled(text, "To restore").replace("FILE", str(document)))
    for name in ("changed", "deleted"):
        live = cluster.api("GET", f"{services}/{name}")
        assert (live["spec"]["selector"], live["metadata"]["labels"]) == ({"app": "hook"}, {"team": "a"})
    parts = cluster.api("GET", f"/api/v1/namespaces/{namespace}/configmaps?labelSelector={backups.LABEL}")
    assert (len(parts["items"]) > 1) == (part_bytes == 500)


def _with_selector(service: Object) -> Object:
    return {**service, "spec": {**service["spec"], "selector": {"app": "new"}}}


def test_older_backups_are_removed_and_a_part_of_the_full_size_is_accepted(
    cluster: Cluster, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = iter([os.urandom(backups.PART_BYTES + 1).hex(), *["small"] * backups.KEPT])
    monkeypatch.setattr(backups, "_render", lambda *_given: next(texts))
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    other = {"metadata": {"name": f"{NAME}-20250101t000000z"}, "data": {"a": "b"}}
    cluster.api("POST", path, other)
    for number in range(backups.KEPT + 1):
        backups.store_in_cluster(client, namespace, NAME, [], NOW + timedelta(minutes=number))
        names = sorted(one["metadata"]["name"] for one in cluster.api("GET", path)["items"])
        if number == 0:
            assert f"{NAME}-20260301t030000z-2" in names
    assert [name for name in names if name.startswith(NAME)] == [
        f"{NAME}-20250101t000000z",
        *(f"{NAME}-20260301t030{number}00z" for number in range(1, backups.KEPT + 1)),
    ]
