# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verify upgrades with real controllers and webhooks in pods. Each verdict of each check occurs once."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import (
    Operation,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    Verify,
    VerifySchema,
    VerifyVersion,
    VerifyWebhook,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import verify_installed
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import planning, verify_release
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.release_checks import LABEL, UNTIL

from tests.support import clusters
from tests.support.accepted import accepting
from tests.support.clusters import build
from tests.support.operations import operate
from tests.support.permissions import rbac
from tests.support.upgrade import snapshot_lab as lab
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

REPOSITORY = Path(__file__).parents[3]
LEFT = f"{lab.SNAPSHOTS}/namespaces/default/volumesnapshots"
CONFIGURATION = f"{lab.CONFIGURATIONS}/{lab.CONFIGURATION}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with 8.1.0: rules are in the CRDs, and the webhook checks only classes."""
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with clusters.running({"verify": "onprem-node"}) as fleet:
        lab.install(fleet["verify"], "8.1.0")
        yield fleet["verify"]


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    cluster = request.getfixturevalue("other" if "other" in request.fixturenames else "cluster")
    yield
    kinds = lab.kubectl(cluster, "api-resources", "--no-headers", "-oname").split()
    snapshots = ",".join(kind for kind in kinds if "snapshot.storage.k8s.io" in kind)
    assert lab.kubectl(cluster, "get", snapshots, "-A", "-l", LABEL, "-oname") == ""


Steps = Mapping[str, Verify]


def run(operation: Operation, cluster: Cluster, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    options = {"kubeconfig": str(cluster.kubeconfig), "version": "8.7.0", **given}
    return operate(operation, options, check_mode=check_mode)


def module(cluster: Cluster, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Return the result of the module with state verified."""
    return run(snapshot_controller.OPERATION, cluster, check_mode=check_mode, state="verified", **given)


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {verification["id"]: verification["verdict"] for verification in result["verified"]}


def proofs(cluster: Cluster, version: str = "8.7.0") -> dict[str, Verify]:
    """Return the verifications of what is installed, by id."""
    found: dict[str, Verify] = {}

    def read(client: Client, _given: Mapping[str, Any], _check_mode: bool) -> Result:
        reading = planning.read(
            client, release_table.target(version), UpgradeOptions(accept=accepting("kubectl"))
        )
        found.update(verify_installed.plan_checks(reading.context))
        return Result(False, {})

    result = run(Operation("test", snapshot_controller.ARGUMENTS, read), cluster)
    assert not result.get("failed"), result
    return found


def prove(
    cluster: Cluster,
    action: Verify,
    verdict: str,
    *,
    wait_timeout: int = 60,
    before: Mapping[str, Any] | None = None,
    namespace: str = "",
    check_mode: bool = False,
    **given: Any,
) -> dict[str, Any]:
    """Run one verification and return its result. before: the result of the same verification before the
    upgrade.
    """

    def verify(client: Client, _given: Mapping[str, Any], check_mode: bool) -> Result:
        found, left = verify_release.run_check(client, action, namespace=namespace, check_mode=check_mode)
        assert left == []
        if not verify_release.passes(found, check_mode=check_mode):
            error = verify_release.failure(action, found, before or {}, left)
            error.values = {**error.values, "summary": found.summary}
            raise error
        return Result(False, {"verdict": found.verdict, "summary": found.summary, "was_broken_before": None})

    operation = Operation("test", snapshot_controller.ARGUMENTS, verify)
    result = run(operation, cluster, check_mode=check_mode, wait_timeout=wait_timeout, **given)
    assert result.get("verdict") == verdict, result
    assert result["changed"] is False
    fails = verdict == "failed" or (verdict == "unproven" and not check_mode)
    assert (bool(result.get("failed")), result.get("code")) == (
        fails,
        "verification-failed" if fails else None,
    )
    return result


@contextlib.contextmanager
def without_pods(cluster: Cluster, path: str) -> Iterator[None]:
    """Scale a Deployment to zero until the block ends."""
    before = cluster.api("GET", path)["spec"]["replicas"]
    scale(cluster, path, 0)
    yield
    scale(cluster, path, before)


def scale(cluster: Cluster, path: str, replicas: int) -> None:
    """Scale a Deployment and wait until this number of pods is ready."""
    spec = {"spec": {"replicas": replicas}}
    selector = cluster.api("PATCH", path, spec, "application/merge-patch+json")["spec"]["selector"]
    label = ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())
    namespace = path.split("/")[5]
    ready = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}'

    def is_there() -> bool:
        found = lab.kubectl(cluster, "get", "pods", "-n", namespace, "-l", label, "-o", ready)
        return found.split() == ["True"] * replicas

    wait_for(is_there, seconds=120)


def configure(cluster: Cluster, field: str, value: Any) -> None:
    """Set a field of the webhook in its configuration."""
    patch = json.dumps([{"op": "replace", "path": f"/webhooks/0/{field}", "value": value}])
    lab.kubectl(
        cluster, "patch", "validatingwebhookconfiguration", lab.CONFIGURATION, "--type=json", f"-p={patch}"
    )


@pytest.fixture(scope="module")
def steps(cluster: Cluster) -> Steps:
    return proofs(cluster)


WHAT = ["verify-webhook", "verify-rules", "verify-version", "verify-controller"]


def test_a_working_release_passes_with_the_permissions_of_the_roles(cluster: Cluster, steps: Steps) -> None:
    """A single verification needs only certflow-snapshot-verify.

    The module also reads what is installed, so it needs certflow-plan too.
    """
    bound = {"prover": ("snapshot-verify",), "verifier": ("snapshot-verify", "plan")}
    for user, names in bound.items():
        rbac.grant(cluster, user, *map(rbac.documented, names))
    prover, verifier = (str(cluster.kubeconfig_for(user)) for user in bound)
    assert list(steps) == WHAT
    assert steps["verify-webhook"].parameters()["check"] == "second-default-class"
    results = {name: prove(cluster, step, "ok", kubeconfig=prover) for name, step in steps.items()}
    assert "8.1.0" in results["verify-version"]["summary"]
    result = module(cluster, kubeconfig=verifier)
    assert not result.get("failed"), result["msg"]
    assert (result["changed"], verdicts(result)) == (False, dict.fromkeys(WHAT, "ok"))
    assert result["installed"]["unreadable"] == {}


def test_without_permissions_the_verdict_is_unproven(cluster: Cluster, steps: Steps) -> None:
    kubeconfig = str(cluster.kubeconfig_for("nobody"))
    for step in steps.values():
        result = prove(cluster, step, "unproven", kubeconfig=kubeconfig)
        assert "nobody" in result["msg"]


def test_check_mode_creates_nothing(cluster: Cluster) -> None:
    user = f"check-{uuid.uuid4().hex[:8]}"
    kubeconfig = str(cluster.kubeconfig_for(user, ["system:masters"]))
    result = module(cluster, check_mode=True, kubeconfig=kubeconfig)
    assert not result.get("failed"), result["msg"]
    assert verdicts(result) == {
        "verify-webhook": "unproven",
        "verify-rules": "ok",
        "verify-version": "ok",
        "verify-controller": "unproven",
    }
    sent = [entry for entry in cluster.requests(user=user) if "dryRun=All" not in entry["requestURI"]]
    assert {entry["verb"] for entry in sent} <= {"get", "list"}


def test_leftovers_of_a_killed_run_are_removed_by_a_later_run(cluster: Cluster, steps: Steps) -> None:
    """One of a concurrent run stays, and so does one with only the label, which a user may have set."""
    marks = {"old": {UNTIL: "2026-01-01T00:00:00Z"}, "other": {}, "young": {UNTIL: "2999-01-01T00:00:00Z"}}
    for name, mark in marks.items():
        left = lab.snapshot(name, snapshot_class=name)
        left["metadata"] |= {"labels": {LABEL: name}, "annotations": mark}
        cluster.api("POST", LEFT, left)
    prove(cluster, steps["verify-controller"], "ok", namespace="default")
    found = [item["metadata"]["name"] for item in cluster.api("GET", LEFT)["items"]]
    for name in found:
        cluster.api("DELETE", f"{LEFT}/{name}")
    assert sorted(found) == ["other", "young"]


def test_a_webhook_without_pods(cluster: Cluster, steps: Steps) -> None:
    """With Fail and with Ignore, which hides the failure.

    With Fail no user can create a snapshot that the webhook checks.
    """
    step, rules = steps["verify-webhook"], cluster.api("GET", CONFIGURATION)["webhooks"][0]["rules"]
    every = [{**rules[0], "resources": ["volumesnapshots", "volumesnapshotclasses"]}]
    before = prove(cluster, step, "ok")
    with without_pods(cluster, lab.era("8.1.0").deployment_path):
        for policy in ("Fail", "Ignore"):
            configure(cluster, "failurePolicy", policy)
            result = prove(cluster, step, "failed", before=before, wait_timeout=5)
            assert result["was_broken_before"] is False
            assert "no pod is ready behind its Service" in result["summary"]
        failed = module(cluster, step_timeout=5)
        assert (failed["code"], verdicts(failed)) == ("verification-failed", {"verify-webhook": "failed"})
        configure(cluster, "rules", every)
        configure(cluster, "failurePolicy", "Fail")
        result = prove(cluster, steps["verify-controller"], "failed", wait_timeout=5)
        assert f"webhook {lab.CONFIGURATION} makes every such write fail" in result["summary"]
        configure(cluster, "rules", rules)
    prove(cluster, step, "ok")


def test_no_configuration_asks_it(cluster: Cluster, steps: Steps) -> None:
    step = steps["verify-webhook"]
    assert isinstance(step, VerifyWebhook)
    nobody = replace(step, name="nobody")
    assert "does not exist" in prove(cluster, nobody, "failed", wait_timeout=5)["summary"]
    configure(cluster, "objectSelector", {"matchLabels": {"no": "one"}})
    assert "does not ask it" in prove(cluster, step, "failed")["summary"]
    configure(cluster, "objectSelector", {})


def test_a_controller_without_pods(cluster: Cluster, steps: Steps) -> None:
    with without_pods(cluster, lab.CONTROLLER):
        before = prove(cluster, steps["verify-controller"], "failed", wait_timeout=5)
        assert "no controller processes a VolumeSnapshot" in before["summary"]
        after = prove(cluster, steps["verify-controller"], "failed", before=before, wait_timeout=5)
        assert after["was_broken_before"] is True
        version = prove(cluster, steps["verify-version"], "failed", wait_timeout=5)
        assert "0 of 0 pods" in version["summary"]
    prove(cluster, steps["verify-version"], "ok", wait_timeout=120)
    # The Lease of the deleted pod must expire first.
    prove(cluster, steps["verify-controller"], "ok", wait_timeout=120)


def test_a_tag_with_another_release_is_detected(cluster: Cluster, steps: Steps) -> None:
    """The image has the tag 8.7.0 and contains 8.1.0, which only the pod's log shows."""
    image = f"{lab.REGISTRY}/snapshot-controller:v8.7.0"
    cluster.load_image(image, build.snapshot_programs("8.1.0") / "snapshot-controller")
    lab.kubectl(cluster, "set", "image", "-n", "kube-system", "deployment/snapshot-controller", f"*={image}")
    lab.wait_until_available(cluster, "8.1.0", webhook=False)
    step = steps["verify-version"]
    assert isinstance(step, VerifyVersion)
    result = prove(cluster, replace(step, release="8.7.0"), "failed")
    assert "8.1.0, not 8.7.0" in result["summary"]


@pytest.fixture
def other(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with the release in the test's parameter."""
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    release, groups = request.param
    with clusters.running({"other": "onprem-node"}) as fleet:
        lab.install(fleet["other"], release, groups=groups)
        yield fleet["other"]


@pytest.mark.full
@pytest.mark.parametrize("other", [("6.2.2", False)], indirect=True)
def test_a_webhook_older_than_the_rules(other: Cluster) -> None:
    found = proofs(other)
    assert list(found) == ["verify-webhook", "verify-version", "verify-controller"]
    assert found["verify-webhook"].parameters()["check"] == "empty-class"
    for step in found.values():
        prove(other, step, "ok")
    rules = VerifySchema()
    assert (
        "admission webhook" in prove(other, rules, "failed")["summary"]
    )  # the webhook refuses, not the rules
    with without_pods(other, lab.era("6.2.2").deployment_path):
        prove(other, found["verify-webhook"], "failed", wait_timeout=5)
        result = prove(other, found["verify-controller"], "failed", wait_timeout=5)
        assert "makes every such write fail" in result["summary"]
        configure(other, "failurePolicy", "Ignore")
        assert "no pod is ready" in prove(other, found["verify-webhook"], "failed", wait_timeout=5)["summary"]
        prove(other, found["verify-controller"], "ok")


@pytest.mark.full
@pytest.mark.parametrize("other", [("8.4.0", True)], indirect=True)
def test_group_snapshots_and_their_conversion(other: Cluster) -> None:
    found = proofs(other)
    groups = ["verify-conversion", "verify-rules", "verify-version", "verify-controller", "verify-groups"]
    assert list(found) == groups
    for step in found.values():
        prove(other, step, "ok")
    with without_pods(other, lab.era("8.4.0").deployment_path):
        result = prove(other, found["verify-conversion"], "failed", wait_timeout=5)
        assert "no pod is ready behind its Service" in result["summary"]
    prove(other, found["verify-conversion"], "ok")
    none = json.dumps([{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "None"}}])
    lab.kubectl(other, "patch", "crd", lab.GROUP_CONTENTS, "--type=json", f"-p={none}")
    prove(other, found["verify-conversion"], "failed", wait_timeout=5)
    without_groups(other)
    assert (
        "no controller processes a VolumeGroupSnapshot"
        in (prove(other, found["verify-groups"], "failed", wait_timeout=5)["summary"])
    )
    prove(other, found["verify-controller"], "ok", wait_timeout=120)


@pytest.mark.full
@pytest.mark.parametrize("other", [("8.7.0", True)], indirect=True)
def test_group_snapshots_without_conversion(other: Cluster) -> None:
    found = proofs(other)
    assert list(found) == ["verify-rules", "verify-version", "verify-controller", "verify-groups"]
    for step in found.values():
        prove(other, step, "ok")
    groups = lab.kubectl(other, "get", "crds", "-oname").split()
    lab.kubectl(other, "delete", *(name for name in groups if ".groupsnapshot." in name))
    crd = "CustomResourceDefinition volumegroupsnapshots.groupsnapshot.storage.k8s.io"
    assert crd in prove(other, found["verify-groups"], "failed")["summary"]


def without_groups(cluster: Cluster) -> None:
    """Disable the feature gate of group snapshots."""
    args = ["--v=5", "--leader-election=true", "--feature-gates=CSIVolumeGroupSnapshot=false"]
    patch = json.dumps([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": args}])
    deployment = ("deployment/snapshot-controller", "-n", "kube-system")
    lab.kubectl(cluster, "patch", *deployment, "--type=json", f"-p={patch}")
    lab.wait_until_available(cluster, "8.4.0", webhook=False)
