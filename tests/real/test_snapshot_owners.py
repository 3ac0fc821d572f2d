# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each owner of the table by the marks that it leaves, on a real control plane: who, by what, what to do there; and adopted.

Helm's are left by Helm itself. The others apply a release's manifests as these tools do: by server-side apply under their
field manager, with their labels and annotations; what cannot run here leaves what is published of its marks.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._snapshot_controller_plan import SPEC
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._owners import BY_KEY

from tests import clusters
from tests.clusters import build

from . import snapshot_kept
from . import snapshot_lab as lab
from .test_snapshot_plan import plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clusters import Cluster

Object = dict[str, Any]
RELEASE, TARGET = "7.0.2", "8.7.0"
DEPLOYMENT = "Deployment kube-system/snapshot-controller"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running({"owners": "onprem"}) as fleet:
        yield fleet["owners"]


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    snapshot_kept.remove(cluster)


def manifests(*, crds: bool = True) -> list[Object]:
    """The controller of a release, its rights and its CustomResourceDefinitions, the image that of the release."""
    deploy, definitions = build.snapshot_manifests(RELEASE)
    files = sorted((deploy / "snapshot-controller").glob("*-snapshot-controller.yaml"))
    files = [*(sorted(definitions.glob("snapshot.storage.k8s.io_*")) if crds else []), *files]
    text = "\n---\n".join(path.read_text() for path in files)
    text = re.sub(r"(sig-storage/snapshot-controller):v[\d.]+", rf"\1:v{RELEASE}", text)
    found = [one for one in yaml.safe_load_all(text) if one]
    for one in found:
        one.pop("status", None)
    return found


@dataclass(frozen=True)
class Case:
    """How an owner leaves its marks. evidence: what the plan says that it saw of them."""

    evidence: str
    manager: str = "some-installer"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    image: str = ""

    def install(self, cluster: Cluster) -> None:
        objects = manifests()
        for one in objects:
            metadata = one["metadata"]
            metadata["labels"] = {**metadata.get("labels", {}), **self.labels}
            metadata["annotations"] = {**metadata.get("annotations", {}), **self.annotations}
            if self.image and one["kind"] == "Deployment":
                one["spec"]["template"]["spec"]["containers"][0]["image"] = self.image
        lab.kubectl(
            cluster, "apply", "--server-side", f"--field-manager={self.manager}", "-f-",
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip


CASES = {
    "openshift": Case(
        "annotation include.release.openshift.io/self-managed-high-availability",
        manager="cluster-csi-snapshot-controller-operator",
        annotations={"include.release.openshift.io/self-managed-high-availability": "true"},
    ),
    "rke2": Case(
        "annotation meta.helm.sh/release-name: rke2-snapshot-controller",
        manager="helm",
        labels={"app.kubernetes.io/name": "rke2-snapshot-controller", "app.kubernetes.io/managed-by": "Helm"},
        annotations={
            "meta.helm.sh/release-name": "rke2-snapshot-controller",
            "meta.helm.sh/release-namespace": "kube-system",
        },
        image=f"docker.io/rancher/hardened-snapshot-controller:v{RELEASE}-build20240101",
    ),
    "eks": Case("field manager eks", manager="eks"),
    "kops": Case(
        "label k8s-addon: snapshot-controller.addons.k8s.io",
        labels={
            "k8s-addon": "snapshot-controller.addons.k8s.io",
            "addon.kops.k8s.io/name": "snapshot-controller.addons.k8s.io",
            "app.kubernetes.io/managed-by": "kops",
        },
    ),
    "kubeone": Case("label kubeone.io/addon", labels={"kubeone.io/addon": "csi-external-snapshotter"}),
    "addon-manager": Case(
        "label addonmanager.kubernetes.io/mode: Reconcile",
        labels={"addonmanager.kubernetes.io/mode": "Reconcile"},
    ),
    "olm": Case("label olm.managed: true", labels={"olm.managed": "true", "olm.owner": "snapshots.v1"}),
    "argocd": Case(
        "annotation argocd.argoproj.io/tracking-id",
        manager="argocd-controller",
        annotations={
            "argocd.argoproj.io/tracking-id": "snapshots:apps/Deployment:kube-system/snapshot-controller"
        },
    ),
    "flux": Case(
        "label kustomize.toolkit.fluxcd.io/name: infrastructure",
        manager="kustomize-controller",
        labels={
            "kustomize.toolkit.fluxcd.io/name": "infrastructure",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        },
    ),
    "unmarked": Case("no mark of any deployer"),
}
# Written otherwise, or seen by another test.
ELSEWHERE = {
    "helm": "test_a_release_of_helm",
    "operator": "test_an_operator",
    "kubectl": "test_snapshot_plan",
    "hosted": "test_snapshot_plan",
}


def test_every_owner_has_a_case() -> None:
    assert not set(CASES) & set(ELSEWHERE)
    assert set(BY_KEY) == {*CASES, *ELSEWHERE}


@pytest.mark.parametrize("key", CASES)
def test_an_owner_is_recognised_refused_and_adopted(empty: Cluster, key: str) -> None:
    CASES[key].install(empty)
    assert_refused(empty, key, CASES[key].evidence)
    assert_adopted(empty, key)


def test_an_operator(empty: Cluster) -> None:
    """Known by its ownerReference; a ConfigMap stands for its resource, so that nothing collects the objects."""
    lab.kubectl(empty, "create", "configmap", "operator", "-n", "kube-system")
    uid = empty.api("GET", "/api/v1/namespaces/kube-system/configmaps/operator")["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": uid}
    objects = manifests()
    for one in objects:
        if one["metadata"].get("namespace"):
            one["metadata"]["ownerReferences"] = [reference]
    lab.kubectl(
        empty, "apply", "--server-side", "--field-manager=operator", "-f-", stdin=yaml.safe_dump_all(objects)
    )
    assert_refused(empty, "operator", "ownerReference ConfigMap: operator")
    assert_adopted(empty, "operator")
    lab.kubectl(empty, "delete", "configmap", "operator", "-n", "kube-system")


@pytest.mark.full
def test_a_release_of_helm(empty: Cluster, tmp_path: Path) -> None:
    """Refused while it is Helm's; then Helm forgets it as the plan says, which keeps everything, and it can be adopted."""
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    head = {"apiVersion": "v2", "name": "snapshot-controller", "version": "3.0.0", "appVersion": RELEASE}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(head))

    def template(**annotations: str) -> None:
        objects = manifests()
        for one in objects:
            one["metadata"]["annotations"] = {**one["metadata"].get("annotations", {}), **annotations}
        (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(objects))

    def helm(*arguments: str) -> str:
        command = [str(build.helm()), *arguments, "-n", "kube-system", f"--kubeconfig={empty.kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    template()
    helm("install", "snapshots", str(chart))
    assert_refused(empty, "helm", "annotation meta.helm.sh/release-name: snapshots")
    assert_adopted(empty, "helm")
    template(**{"helm.sh/resource-policy": "keep"})
    helm("upgrade", "snapshots", str(chart))
    helm("uninstall", "snapshots")
    assert json.loads(helm("list", "-o", "json")) == []
    assert empty.api("GET", lab.CONTROLLER)["metadata"]["name"] == "snapshot-controller"
    assert_adopted(empty, "helm")


def assert_refused(cluster: Cluster, key: str, evidence: str) -> None:
    """Before the first write: who owns it, by what evidence, what to do there."""
    result = plan(cluster, TARGET)
    refused = {row["id"]: row for row in result["refused"]}
    row = refused[f"owner-{key}"]
    assert result["steps"] == []
    assert BY_KEY[key].name in row["reason"]
    assert any(evidence in line for line in row["evidence"]), row["evidence"]
    assert BY_KEY[key].upgrade in row["remedy"]
    assert (DEPLOYMENT, key) in {(one["object"], one["owner"]) for one in result["owners"]}


def assert_adopted(cluster: Cluster, key: str) -> None:
    """When told to. What cannot be taken from its owner, nobody can tell: the option does not know it."""
    if not BY_KEY[key].adopting:
        assert key not in SPEC["adopt"]["choices"]
        return
    result = plan(cluster, TARGET, adopt=[key])
    assert result["refused"] == []
    assert result["steps"]
