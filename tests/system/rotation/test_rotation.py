# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotate certificates of a webhook in pods, with 20 dry-run creates a second and without a failed call."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr

from tests.support.clusters import AdminApiError
from tests.support.failures import has_failed
from tests.support.leases import lapse
from tests.support.load import Load
from tests.support.operations import operate
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook
from tests.support.webhooks.node_webhook import NodeWebhook
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster

KUBELET_SERVING, EPHEMERAL_CA = "kubernetes.io/kubelet-serving", "ephemeral-ca"
NOW_DUE = "3660d"  # longer than any certificate lasts, so that each run renews


Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print figures even if the test passes."""

    def printed(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return printed


class PodRotationRig:
    """A webhook in pods with a certificate of k8s_csr."""

    def __init__(self, cluster: Cluster, webhook: NodeWebhook, signer: str) -> None:
        self.cluster, self.webhook, self.signer = cluster, webhook, signer
        node_webhook.deploy(cluster, webhook)
        node_webhook.configure(cluster, webhook)
        first = self.run()
        self.issued = time.monotonic()
        assert first["proof"] is None, first
        node_webhook.wait_until_ready(cluster, webhook)
        wait_for(self._answers)

    def close(self) -> None:
        self.cluster.api("DELETE", f"{node_webhook.CONFIGURATIONS}/{self.webhook.name}")
        self.cluster.api("DELETE", f"/api/v1/namespaces/{self.webhook.namespace}")

    def options(self, **changed: Any) -> dict[str, Any]:
        given = {
            "kubeconfig": str(self.cluster.kubeconfig),
            "service": self.webhook.name,
            "namespace": self.webhook.namespace,
            "secret": {"name": self.webhook.name},
            "signer_name": self.signer,
            "targets": [{"kind": "ValidatingWebhookConfiguration", "name": self.webhook.name}],
        }
        return {**given, **changed}

    def run(self, *, check_mode: bool = False, **changed: Any) -> dict[str, Any]:
        return operate(k8s_csr.OPERATION, self.options(**changed), check_mode=check_mode)

    def renew(self, **changed: Any) -> dict[str, Any]:
        """Renew later than the last certificate was issued: by the API server's clock, which has whole seconds."""
        time.sleep(max(0.0, self.issued + 3 - time.monotonic()))
        return self.run(renew_before=NOW_DUE, **changed)

    def load(self) -> Load:
        return Load(partial(node_webhook.dry_run, self.cluster, self.webhook))

    def anchors(self) -> int:
        """Return the number of certificates in the target's bundle."""
        result = self.run(check_mode=True)
        return len(result["targets"][0]["webhooks"][0]["before"])

    def _answers(self) -> bool:
        try:
            node_webhook.dry_run(self.cluster, self.webhook)
        except AdminApiError:
            return False
        return True


@pytest.fixture(params=[KUBELET_SERVING, EPHEMERAL_CA])
def reloading(node: Cluster, request: Any) -> Iterator[PodRotationRig]:
    name = "same-ca" if request.param == KUBELET_SERVING else "new-ca"
    rig = PodRotationRig(node, NodeWebhook(name, name), request.param)
    yield rig
    rig.close()


def assert_in_use(result: dict[str, Any]) -> None:
    proof = result["proof"]
    assert proof["verdict"] == "ok", proof
    assert len(proof["served"]) == 2
    assert {entry["certificate"]["serial"] for entry in proof["served"]} == {result["certificate"]["serial"]}
    assert all(entry["verifies"] for entry in proof["served"])


def test_a_webhook_that_reloads_its_certificate(reloading: PodRotationRig, say: Say) -> None:
    with reloading.load() as load:
        result = reloading.renew()
    say(f"{reloading.signer}: {load}")
    assert_in_use(result)
    assert load.failed == []
    assert load.made > 20
    assert result["proof"]["dropped"] == (reloading.signer == EPHEMERAL_CA)
    assert reloading.anchors() == 1
    again = reloading.run()
    assert (again["changed"], again["proof"]) == (False, None)


@pytest.fixture
def asked(node: Cluster) -> Iterator[PodRotationRig]:
    rig = PodRotationRig(node, NodeWebhook("asked", "asked"), EPHEMERAL_CA)
    yield rig
    rig.close()


def test_the_answer_of_the_webhook_is_verified_too(asked: PodRotationRig) -> None:
    rig = asked
    denied = {**rig.webhook.asked_about(refuse=True), "apiVersion": "v1", "kind": "ConfigMap"}
    denied["metadata"]["namespace"] = rig.webhook.namespace
    probe = {"object": denied, "expect": "denied", "denial_message": node_webhook.REFUSAL}
    bounds = {"wait_timeout": 30}
    failed = rig.renew(probe={**probe, "denial_message": "something else"}, **bounds)
    assert failed.get("failed"), failed
    assert failed["failure"]["code"] == "other-message", failed
    assert rig.anchors() == 2
    result = rig.run(probe=probe)
    assert_in_use(result)
    assert rig.anchors() == 1


@pytest.mark.full
@pytest.mark.parametrize(
    ("signer", "name"),
    [
        (KUBELET_SERVING, "killed-same"),  # has fewer writes than the other
        (EPHEMERAL_CA, "killed-new"),
    ],
)
def test_a_renewal_completes_after_a_kill_at_each_write(
    node: Cluster, signer: str, name: str, say: Say
) -> None:
    """The next run completes each time, and its certificate is in use."""
    rig = PodRotationRig(node, NodeWebhook(name, name), signer)
    steps = []
    with rig.load() as load:
        for after in range(1, 12):
            died = subprocess.run(
                [sys.executable, "-m", "tests.support.faults.killed", str(after)],
                input=json.dumps(rig.options(renew_before=NOW_DUE)),
                capture_output=True,
                text=True,
                check=False,
                cwd=REPOSITORY,
            )
            if died.returncode == 0:
                break
            assert died.returncode == -9, died.stderr
            steps.append(died.stderr.strip())
            lapse(node, rig.webhook.namespace)  # a minute later
            rig.run()
            assert len(load.failed) == 0, (steps[-1], load.failed)
    say(f"killed after {len(steps)} writes: {', '.join(steps)}; {load}")
    assert_in_use(json.loads(died.stdout))
    assert len(steps) >= 6
    assert load.failed == []
    assert rig.anchors() == 1
    assert rig.run()["changed"] is False
    rig.close()


# A mount with subPath is the shape that the user cannot see. The other shape waits and restarts in the same way.
@pytest.fixture(params=[pytest.param("never reloads", marks=pytest.mark.full), "subPath"])
def stale(node: Cluster, request: Any) -> Iterator[PodRotationRig]:
    if request.param == "subPath":
        webhook = NodeWebhook("subpath", "subpath", sub_path=True)
    else:
        webhook = NodeWebhook("never", "never", reload="never")
    rig = PodRotationRig(node, webhook, EPHEMERAL_CA)
    yield rig
    rig.close()


def test_a_webhook_that_does_not_reload_its_certificate(stale: PodRotationRig, say: Say) -> None:
    """The failure names it, no call fails meanwhile, and a requested restart repairs it.

    For the pods with subPath, the task finds their Deployment.
    """
    reaction = "restart" if stale.webhook.sub_path else f"Deployment/{stale.webhook.name}"
    with stale.load() as load:
        failed = stale.renew(wait_timeout=12)
        assert failed.get("failed"), failed
        assert has_failed(failed, "certificate-not-served", "2", "on_stale:"), failed
        if stale.webhook.sub_path:
            assert any("by subPath, which is never updated" in line for line in failed["evidence"])
        assert stale.anchors() == 2
        # The next run continues with the certificate in the Secret.
        again = stale.run(wait_timeout=3)
        assert again.get("failed"), again
        cured = stale.run(wait_timeout=20, on_stale=reaction)
    say(f"{stale.webhook.name}: {load}")
    assert_in_use(cured)
    assert cured["proof"]["dropped"] == 1
    assert cured["proof"]["restarted"]["name"] == stale.webhook.name
    assert load.failed == []
    assert stale.anchors() == 1
    assert stale.run()["changed"] is False
