# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run snapshot_controller_info on a real control plane with CRDs and manifests of several releases, applied
with kubectl.

There is no node, so no pod runs. Installed objects, their managers and the plan are read all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.snapshot_controller_info import (
    OPERATION,
)

from tests.support.clusters import build
from tests.support.operations import operate
from tests.support.upgrade.snapshot_lab import GROUP_CONTENTS, apply_crds, kubectl
from tests.support.upgrade.snapshot_plans import CONFIGURATION, DEFAULTS, clean, hazards, ids, install, plan
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

REPOSITORY = Path(__file__).parents[3]
KEY = "aSBhbSBhIHByaXZhdGUga2V5"


@pytest.fixture(scope="module")
def cluster(without_snapshots: Cluster) -> Cluster:
    return without_snapshots


@pytest.fixture(autouse=True)
def nothing_installed(cluster: Cluster) -> Iterator[None]:
    """Remove all objects of the snapshot controller after each test."""
    yield
    clean(cluster)


def test_a_plan_for_an_empty_cluster_installs(cluster: Cluster) -> None:
    result = plan(cluster, "8.7.0", accept=[])
    assert (result["installed"]["version"], result["managers"], result["refused"]) == ("", [], [])
    assert ids(result)[0] == "crds"
    assert (result["refusal"], bool(result["lines"])) == ("", True)


# Release, its CRDs as they are recognised, True if it has a validation webhook, hazards up to 8.7.0.
RELEASES = [
    ("4.2.1", "4.1 to 5.0", True, {"v1beta1-unserved", "volume-mode"}),
    pytest.param("6.2.2", "6.0.1 to 6.2", True, {"volume-mode"}, marks=pytest.mark.full),
    ("7.0.2", "7.0", True, set()),
    pytest.param("8.1.0", "8.0 to 8.7", True, set(), marks=pytest.mark.full),
    pytest.param("8.7.0", "8.0 to 8.7", False, set(), marks=pytest.mark.full),
]
LOOKED_FOR = {"v1beta1-unserved", "volume-mode"}


@pytest.mark.parametrize(("release", "crds", "webhook", "expected"), RELEASES)
def test_releases_installed_with_kubectl_are_recognised(
    cluster: Cluster, release: str, crds: str, webhook: bool, expected: set[str]
) -> None:
    install(cluster, release, webhook=webhook)
    refused = plan(cluster, "8.7.0")
    assert [row["id"] for row in refused["refused"]] == ["owner-kubectl"]
    assert {row["manager"] for row in refused["managers"]} == {"kubectl"}
    assert refused["refusal"]

    result = plan(cluster, "8.7.0", accept=["kubectl"])
    here = result["installed"]
    assert here["version"] == release
    assert {row["releases"] for row in here["crds"]} == {crds}
    assert [row["name"] for row in here["configurations"]] == ([CONFIGURATION] if webhook else [])
    assert [(row["program"], row["version"]) for row in here["webhooks"]] == (
        [("validation", release)] if webhook else []
    )
    assert (result["refused"], result["refusal"]) == ([], "")
    assert ids(refused) == ids(result)  # a refused plan shows what it would change
    assert [hop["release"] for hop in result["hops"]] == ["8.7.0"]
    assert [step for hop in result["hops"] for step in hop["steps"]] == ids(result)
    assert hazards(result) & LOOKED_FOR == expected


def test_an_audit_finds_the_hazards_of_the_way_to_a_release(cluster: Cluster) -> None:
    def audited(**options: Any) -> dict[str, str]:
        given = {"kubeconfig": str(cluster.kubeconfig), "without": ["port-forward"], **options}
        findings = operate(audit_info.OPERATION, given)["findings"]
        found = [finding for finding in findings if finding["check"] == "snapshot-hazard"]
        assert len({finding["fingerprint"] for finding in found}) == len(found)
        return {finding["evidence"][0]: finding["severity"] for finding in found}

    assert audited(snapshot_version="8.7.0") == {}  # nothing is installed
    install(cluster, "4.2.1", webhook=True)
    assert audited() == {}
    expected = {
        row["id"]: row["handling"] in ("refuse", "ask")
        for row in plan(cluster, "8.7.0", accept=[])["hazards"]
    }
    assert {"v1beta1-unserved", "volume-mode"} <= set(expected)
    assert audited(snapshot_version="8.7.0") == {
        name: "warning" if stops else "info" for name, stops in expected.items()
    }


def test_a_plan_writes_nothing_and_shows_no_key(cluster: Cluster) -> None:
    """The cluster has a Secret, and an object that the rules of 8.0 refuse. The target is 8.1.1."""
    install(cluster, "7.0.2")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "snapshot-validation-secret", "namespace": "default", "labels": {"snapshot-test": "x"}},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "eA==", "tls.key": KEY},
    }  # fmt: skip
    snapshot = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": "no-class", "namespace": "default"},
        "spec": {"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": ""},
    }
    kubectl(cluster, "apply", "-f-", stdin="\n---\n".join(map(json.dumps, (secret, snapshot))))
    result = plan(cluster, "8.1.1", cluster.kubeconfig_for("planner", ["system:masters"]), accept=["kubectl"])
    assert {event["verb"] for event in cluster.requests(user="planner")} <= {"get", "list"}
    assert KEY not in json.dumps(result)
    (found,) = result["installed"]["secrets"]
    assert (found["name"], found["type"]) == ("snapshot-validation-secret", "kubernetes.io/tls")
    steps = {step["id"]: step["parameters"] for step in result["plan"]}
    assert steps["webhook-deployment"]["secret"] == "snapshot-validation-secret"
    # it stays in the namespace of upstream's manifests
    assert steps["webhook-deployment"]["namespace"] == "default"
    rules = steps["narrow-snapshot"]["rules"][CONFIGURATION]
    assert [rule["resources"] for rule in rules] == [["volumesnapshotclasses"]]
    (row,) = [row for row in result["hazards"] if row["id"] == "invalid-objects-kept"]
    assert row["evidence"] == [
        "VolumeSnapshot default/no-class: volumeSnapshotClassName must not be the empty string when set"
    ]
    assert any("no-class" in text for text in result["reports"])


def test_the_api_server_accepts_narrower_rules(cluster: Cluster) -> None:
    """Also an empty list, which is what the webhooks of 4.2 and 8.1 have in common."""
    deploy, _crds = build.snapshot_manifests("4.2.1")
    template = (deploy / "webhook-example" / "admission-configuration-template").read_text()
    kubectl(cluster, "apply", "-f-", stdin=template.replace("${CA_BUNDLE}", "Cg=="))
    rule = {"apiGroups": ["snapshot.storage.k8s.io"], "apiVersions": ["v1"], "operations": ["*"]}
    for rules in ([{**rule, "resources": ["volumesnapshotclasses"]}], []):
        patch = json.dumps([{"op": "replace", "path": "/webhooks/0/rules", "value": rules}])
        place = ("validatingwebhookconfiguration", CONFIGURATION)
        kubectl(cluster, "patch", *place, "--type=json", f"-p={patch}", "--dry-run=server")


def test_managers_are_recognised_by_their_fields(cluster: Cluster) -> None:
    """An EKS add-on applies the Deployment, then this collection does, after kubectl in both cases."""
    install(cluster, "8.7.0", webhook=False)
    deploy, _crds = build.snapshot_manifests("8.7.0")
    path = str(deploy / "snapshot-controller" / "setup-snapshot-controller.yaml")
    for applier, managers in (("eks", {"kubectl", "eks"}), ("certflow.kubernetes", {"kubectl"})):
        kubectl(cluster, "delete", "deployment", "-n", "kube-system", "snapshot-controller")
        kubectl(cluster, "apply", "--server-side", f"--field-manager={applier}", "-f", path)
        result = plan(cluster, "8.7.0")
        assert {row["manager"] for row in result["managers"]} == managers
        assert {row["id"] for row in result["refused"]} == {f"owner-{key}" for key in managers}
    assert "Deployment kube-system/snapshot-controller" not in {row["object"] for row in result["managers"]}


def test_crds_without_a_controller_are_reported_as_hosted(cluster: Cluster) -> None:
    _deploy, crds = build.snapshot_manifests("8.7.0")
    apply_crds(cluster, crds, groups=False)
    assert {row["id"] for row in plan(cluster, "8.7.0", accept=["kubectl"])["refused"]} == {"hosted"}
    result = plan(cluster, "8.7.0", accept=["kubectl", "hosted"])
    assert result["refused"] == []
    assert "controller" in ids(result)


def test_missing_permissions_are_reported(cluster: Cluster) -> None:
    result = plan(cluster, "8.1.1", cluster.kubeconfig_for("nobody"), accept=["kubectl"])
    refused = {row["id"]: row for row in result["refused"]}
    assert "unreadable" in refused
    assert any('cannot list resource "deployments"' in text for text in refused["unreadable"]["evidence"])


def content(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "groupsnapshot.storage.k8s.io/v1beta1",
        "kind": "VolumeGroupSnapshotContent",
        "metadata": {"name": name},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": "csi.example.com",
            "source": {"volumeHandles": ["v"]},
            "volumeGroupSnapshotRef": {"name": "g", "namespace": "default"},
        },
    }


def test_lists_at_v1beta1_require_a_hop(cluster: Cluster) -> None:
    """A content is stored at v1beta1 with its list.

    8.4's CRD hides the list without a conversion webhook, and cannot be read with one that does not answer.
    In both cases 8.7 is reached through 8.4.0.
    """
    install(cluster, "8.4.0", webhook=False)
    _deploy, crds = build.snapshot_manifests("8.4.0")
    documents = [yaml.safe_load(path.read_text()) for path in sorted(crds.glob("groupsnapshot*"))]
    webhook: dict[str, Any] = {}
    for document in documents:
        webhook = document["spec"].pop("conversion", webhook)
        for version in document["spec"]["versions"]:
            version["storage"] = version["name"] == "v1beta1"
    kubectl(cluster, "apply", "-f-", stdin=yaml.safe_dump_all(documents))
    kubectl(cluster, "wait", "--for=condition=Established", f"crd/{GROUP_CONTENTS}")
    kubectl(cluster, "apply", "-f-", stdin=json.dumps(content("old")))
    status = {"status": {"volumeSnapshotHandlePairList": [{"snapshotHandle": "s", "volumeHandle": "v"}]}}
    resource = f"{GROUP_CONTENTS.partition('.')[0]}.v1beta1.groupsnapshot.storage.k8s.io"
    patch = ("--subresource=status", "--type=merge", f"-p={json.dumps(status)}")
    kubectl(cluster, "patch", resource, "old", *patch)

    for document in documents:
        for version in document["spec"]["versions"]:
            version["storage"] = version["name"] == "v1beta2"
    kubectl(cluster, "apply", "-f-", stdin=yaml.safe_dump_all(documents))
    wait_for(lambda: plan(cluster, "8.7.0", accept=["kubectl"])["hops"][0]["release"] == "8.4.0", seconds=20)
    hidden = plan(cluster, "8.7.0", accept=["kubectl"])
    assert [hop["release"] for hop in hidden["hops"]] == ["8.4.0", "8.7.0"]
    assert "list handles" in hidden["hops"][0]["reason"]

    stanza = json.dumps([{"op": "replace", "path": "/spec/conversion", "value": webhook}])
    kubectl(cluster, "patch", "crd", GROUP_CONTENTS, "--type=json", f"-p={stanza}")
    wait_for(
        lambda: "group_contents" in plan(cluster, "8.7.0", accept=["kubectl"])["installed"]["unreadable"],
        seconds=20,
    )
    broken = plan(cluster, "8.7.0", accept=["kubectl"])
    assert broken["refused"] == []
    assert [hop["release"] for hop in broken["hops"]] == ["8.4.0", "8.7.0"]
    none = json.dumps([{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "None"}}])
    kubectl(
        cluster, "patch", "crd", GROUP_CONTENTS, "--type=json", f"-p={none}"
    )  # without it the CRD could not be deleted


def test_an_unavailable_release_contacts_no_cluster(cluster: Cluster) -> None:
    for version in ("7.0.0", "9.9.9"):
        user = f"asks-for-{version}"
        parameters = {**DEFAULTS, "kubeconfig": str(cluster.kubeconfig_for(user)), "version": version}
        result = execute(OPERATION, parameters, check_mode=True)
        assert (result["code"], version in result["cause"]) == ("release-unavailable", True)
        assert cluster.requests(user=user) == []
