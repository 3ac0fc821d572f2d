# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_controller_prove of real controllers and webhooks in pods: each verdict of each proof once."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.certflow.kubernetes.plugins.module_utils._run import (
    _snapshot_controller_plan,
    _snapshot_controller_prove,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._run._operation import Operation, execute
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot._proofs import LABEL

from tests import clusters

from . import snapshot_lab as lab
from .node_webhook import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clusters import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """With 8.1.0: rules in the CRDs, and a webhook that is asked about classes alone."""
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with clusters.running({"prove": "onprem-node"}) as fleet:
        lab.install(fleet["prove"], "8.1.0")
        yield fleet["prove"]


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    cluster = request.getfixturevalue("other" if "other" in request.fixturenames else "cluster")
    kinds = lab.kubectl(cluster, "api-resources", "--no-headers", "-oname").split()
    snapshots = ",".join(kind for kind in kinds if "snapshot.storage.k8s.io" in kind)
    assert lab.kubectl(cluster, "get", snapshots, "-A", "-l", LABEL, "-oname") == ""


def run(operation: Operation, cluster: Cluster, *, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    checked = ArgumentSpecValidator(operation.argument_spec).validate(
        {"kubeconfig": str(cluster.kubeconfig), **given}
    )
    assert not checked.error_messages
    return execute(operation, checked.validated_parameters, check_mode=check_mode)


def proofs(cluster: Cluster, version: str = "8.7.0") -> dict[str, dict[str, Any]]:
    """What the plan says can be proven now, by id."""
    result = run(_snapshot_controller_plan.OPERATION, cluster, version=version, adopt=["kubectl"])
    assert not result.get("failed"), result
    return {step["id"]: step for step in result["proofs"]}


def prove(
    cluster: Cluster, step: dict[str, Any], verdict: str, *, wait_timeout: int = 60, **given: Any
) -> dict[str, Any]:
    """The result, of this verdict. It changes nothing in any case."""
    result = run(_snapshot_controller_prove.OPERATION, cluster, step=step, wait_timeout=wait_timeout, **given)
    assert result.get("verdict") == verdict, result
    assert result["changed"] is False
    fails = verdict != "ok" and given.get("require", True) and not given.get("check_mode")
    assert bool(result.get("failed")) is fails
    return result


@contextlib.contextmanager
def scaled(cluster: Cluster, path: str, replicas: int = 0) -> Iterator[None]:
    """A Deployment without pods, and at the end with those that it had."""
    before = cluster.api("GET", path)["spec"]["replicas"]
    _scale(cluster, path, replicas)
    yield
    _scale(cluster, path, before)
    lab.wait_until_available(cluster, "8.1.0", webhook="snapshot-validation" in path)


def _scale(cluster: Cluster, path: str, replicas: int) -> None:
    cluster.api("PATCH", path, {"spec": {"replicas": replicas}}, "application/merge-patch+json")
    namespace, name = path.split("/")[5], path.split("/")[7]
    selector = cluster.api("GET", path)["spec"]["selector"]["matchLabels"]
    label = ",".join(f"{key}={value}" for key, value in selector.items())
    count = lambda: len(lab.kubectl(cluster, "get", "pods", "-n", namespace, "-l", label, "-oname").split())  # noqa: E731
    wait_for(lambda: count() == replicas, seconds=90)
    assert name


def policy(cluster: Cluster, value: str) -> None:
    patch = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": value}])
    lab.kubectl(
        cluster, "patch", "validatingwebhookconfiguration", lab.CONFIGURATION, "--type=json", f"-p={patch}"
    )


def test_what_works_is_proven(cluster: Cluster) -> None:
    steps = proofs(cluster)
    assert list(steps) == ["prove-webhook", "prove-rules", "prove-version", "prove-controller"]
    assert steps["prove-webhook"]["parameters"]["by"] == "second-default-class"
    results = {name: prove(cluster, step, "ok") for name, step in steps.items()}
    assert "denies the object" in results["prove-webhook"]["summary"]
    assert "are 8.1.0, by their own words" in results["prove-version"]["summary"]
    assert results["prove-version"]["was_broken_before"] is None


def test_check_mode_creates_nothing(cluster: Cluster) -> None:
    user = f"check-{uuid.uuid4().hex[:8]}"
    kubeconfig = str(cluster.kubeconfig_for(user, ["system:masters"]))
    steps = proofs(cluster)
    for name, verdict in (
        ("prove-webhook", "unproven"),
        ("prove-rules", "ok"),
        ("prove-version", "ok"),
        ("prove-controller", "unproven"),
    ):
        prove(cluster, steps[name], verdict, check_mode=True, kubeconfig=kubeconfig)
    sent = [entry for entry in cluster.requests(user=user) if "dryRun=All" not in entry["requestURI"]]
    assert {entry["verb"] for entry in sent} <= {"get", "list"}
