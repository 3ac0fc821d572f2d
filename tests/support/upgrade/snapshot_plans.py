# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of upgrades on a real control plane."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller_info import (
    OPERATION,
)

from tests.support.clusters import build
from tests.support.upgrade.snapshot_lab import apply_crds, delete, kubectl

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clusters import Cluster

    Say = Callable[[str], None]


CONFIGURATION = "validation-webhook.snapshot.storage.k8s.io"


DEFAULTS = {name: spec.get("default") for name, spec in OPERATION.argument_spec.items()}


def clean(cluster: Cluster) -> None:
    """Delete all objects of the snapshot controller."""
    selected = ("-A", "-l", "app notin (x)", "--wait=false", "--ignore-not-found")
    kubectl(cluster, "delete", "deployments,statefulsets", *selected)
    names = kubectl(cluster, "get", "crds,validatingwebhookconfigurations", "-oname").split()
    found = [name for name in names if "snapshot.storage.k8s.io" in name]
    if found:
        delete(cluster, *found)
    kubectl(
        cluster, "delete", "secrets,services", "-n", "default", "-l", "snapshot-test", "--ignore-not-found"
    )


def plan(cluster: Cluster, version: str, kubeconfig: Path | None = None, **given: Any) -> dict[str, Any]:
    assert set(given) <= set(DEFAULTS)
    parameters = {
        **DEFAULTS,
        "kubeconfig": str(kubeconfig or cluster.kubeconfig),
        "version": version,
        **given,
    }
    result = execute(OPERATION, parameters, check_mode=False)
    assert not result.get("failed"), result
    assert result["changed"] is False
    return result


def install(cluster: Cluster, release: str, *, webhook: bool = True) -> None:
    """Apply the release's own manifests, with images of the release."""
    deploy, crds = build.snapshot_manifests(release)
    apply_crds(cluster, crds, groups=False)
    files = [*sorted((deploy / "snapshot-controller").glob("*-snapshot-controller.yaml"))]
    if webhook:
        files += sorted((deploy / "webhook-example").glob("*.yaml"))
        files += sorted((deploy / "webhook-example").glob("admission-configuration-template"))
    texts = [re.sub(r"(sig-storage/[-a-z]+):v[\d.]+", rf"\1:v{release}", path.read_text()) for path in files]
    text = "\n---\n".join(texts).replace("${CA_BUNDLE}", "Cg==")
    documents = [
        obj for obj in yaml.safe_load_all(text) if obj and "groupsnapshot" not in obj["metadata"]["name"]
    ]
    kubectl(cluster, "apply", "-f-", stdin=yaml.safe_dump_all(documents))


def ids(result: dict[str, Any]) -> list[str]:
    return [step["id"] for step in result["plan"]]


def hazards(result: dict[str, Any]) -> set[str]:
    return {row["id"] for row in result["hazards"]}


# Hazards between 4.2.1 and 8.7.0, and with group snapshots between 6.2.2 and 8.7.0.
MET_ON_THE_WAY = {
    "v1beta1-unserved", "volume-mode", "rules-first",
}  # fmt: skip


MET_BY_GROUPS = {
    "alpha-lists", "alpha-dropped", "conversion-left", "stored-at-v1beta1", "no-way-back",
}  # fmt: skip
