# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A webhook that becomes ready, passes its proof, and is killed under load because of its memory limit.

The hop from 6.2.2 to 7.0.2 hands over from old pods to new ones. It fails at the step webhook-watch, while the old pods still
run, and the undo leads the Service to them.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import EVERYTHING
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.verifications import (
    Verify,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.webhook_actions import (
    IssueCertificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.context.hop_context import (
    UpgradeOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import RolloutError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import (
    fetch_objects,
    parse_objects,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import ORPHAN_LABEL
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan import (
    planner,
    undo_steps,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.plan.planner import Hop
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import release_table
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.pod_templates import (
    ReleaseSettings,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_source import (
    ReleaseSource,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import actions, backups, undo
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.apply_manifests import (
    ActionContext,
)

from tests.support import clusters
from tests.support.accepted import accepting
from tests.support.clusters import build, pki
from tests.support.clusters.pins import NEWEST_RELEASE
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_load import SnapshotLoad
from tests.support.waiting import wait_for
from tests.system.upgrade.rows.faults import LIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.clusters import Cluster

OLD, NEW = "6.2.2", "7.0.2"
KUBERNETES = (1, int(NEWEST_RELEASE.partition(".")[2]))
PODS = f"/api/v1/namespaces/{lab.WEBHOOK_NAMESPACE}/pods"
STEP_SECONDS = 180


class WebhookUpgrade:
    """Plan on a cluster, and run steps as an upgrade does. The CA in use issues the certificate here.

    ca: of the webhook that was installed first. done: when each step ended (time.time), by id.
    """

    def __init__(self, cluster: Cluster, directory: Path, ca: pki.KeyPair) -> None:
        self.cluster, self.ca = cluster, ca
        self.done: dict[str, float] = {}
        self._source = ReleaseSource(str(directory / "{version}"))
        for release in (OLD, NEW):
            _lay_out(directory / release, release)
        connection = resolve({"kubeconfig": str(cluster.kubeconfig)}, {})
        self.client = Client(connection, user_agent="certflow.kubernetes/test", deadline=0)

    def go(self, release: str, settings: ReleaseSettings) -> None:
        """Run the steps to a release. Raises CertflowError."""
        target = release_table.target(release)
        options = UpgradeOptions(
            accept=accepting("kubectl"), webhook_namespace=lab.WEBHOOK_NAMESPACE, webhook_port=settings.port
        )
        self.hop = self._plan(target, options)
        objects = [obj for line in self.hop.lines for obj in line.objects]
        self.originals = backups.read_originals(self.client, objects)
        self.client.left = {entry.path: obj for entry, obj in self.originals.items()}
        self._run(self.hop.steps, settings)

    def back(self) -> None:
        """Undo the hop. Raises CertflowError."""
        context = self.hop.context
        options = undo.options_before(context, context.options, self.originals, self.client.left)
        hop = self._plan(release_table.get(self.hop.start), options)
        self._run(undo_steps.adapt(hop.context, hop.steps), ReleaseSettings())

    def _plan(self, target: release_table.Release, options: UpgradeOptions) -> Hop:
        self.client.deadline = time.monotonic() + STEP_SECONDS
        installed = parse_objects.installed(fetch_objects.observe(self.client, needs_rules=False), target)
        plan = planner.plan(installed, target, options)
        assert plan.refused == ()
        return plan.hops[0]

    def _run(self, steps: Sequence[Step], settings: ReleaseSettings) -> None:
        context = ActionContext(
            self.client, self._source, settings, "kube-system", EVERYTHING, False, originals=self.originals
        )
        self.done = {}
        for step in steps:
            self._step(step, context)
            self.done[step.id] = time.time()

    def _step(self, step: Step, context: ActionContext) -> None:
        self.client.deadline = time.monotonic() + STEP_SECONDS
        if isinstance(step.action, IssueCertificate):
            self._certify(step.action)
        elif step.id.startswith("verify-webhook") or step.id == "webhook-verify-first":
            wait_for(lambda: lab.webhook_refuses(self.cluster, NEW), seconds=60)
        elif not isinstance(step.action, Verify):
            actions.carry_out(context, step.action)

    def _certify(self, action: IssueCertificate) -> None:
        server = f"{action.service}.{action.namespace}.svc"
        pair = pki.issue(self.ca, server, names=(server,))
        data = {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem, "ca.crt": self.ca.certificate_pem}
        path = f"/api/v1/namespaces/{action.namespace}/secrets"
        body = {
            "metadata": {"name": action.secret},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        if self.client.find(f"{path}/{action.secret}") is None:
            self.cluster.api("POST", path, body)


def _lay_out(directory: Path, release: str) -> None:
    """Write the files of a release as in its repository."""
    deploy, crds = build.snapshot_manifests(release)
    for origin, below in ((deploy, "deploy/kubernetes"), (crds, "client/config/crd")):
        for path in origin.rglob("*.yaml"):
            target = directory / below / path.relative_to(origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        for path in origin.rglob("admission-configuration-template"):
            (directory / below / path.relative_to(origin)).write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookUpgrade]:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with clusters.running({"dies": "onprem-node"}) as fleet:
        cluster = fleet["dies"]
        ca = lab.install(cluster, OLD)
        lab.load_images(cluster, NEW)
        made = WebhookUpgrade(cluster, tmp_path_factory.mktemp("releases"), ca)
        yield made
        made.client.close()


@pytest.mark.full
def test_a_webhook_killed_under_load_is_detected_before_the_old_pods_are_deleted(run: WebhookUpgrade) -> None:
    before = _images(run.cluster)
    with SnapshotLoad(run.cluster, NEW) as load:
        with pytest.raises(RolloutError) as caught:
            run.go(NEW, ReleaseSettings(deployments={"webhook": LIMITED}, kubernetes=KUBERNETES))
        assert ("webhook-switch" in run.done, "webhook-watch" in run.done) == (True, False)
        _check(caught.value)
        assert _ready_old_pods(run.cluster) == 3
        run.back()
        reconnected = run.done["webhook-settle-reconnect"]
    assert _images(run.cluster) == before
    assert lab.webhook_refuses(run.cluster, OLD)
    assert [answer for answer in load.wrong() if answer.at > reconnected + 1] == []


@pytest.mark.full
def test_a_webhook_that_survives_the_load_passes(run: WebhookUpgrade) -> None:
    with SnapshotLoad(run.cluster, NEW) as load:
        run.go(NEW, ReleaseSettings(kubernetes=KUBERNETES))
    assert {"webhook-watch", "webhook-delete-old"} <= set(run.done)
    assert load.wrong() == []


def _check(error: RolloutError) -> None:
    assert error.code == "rollout-failed"
    assert "\n" not in str(error)
    assert [line for line in error.evidence if "OOMKilled, exit code 137" in line], error.evidence
    assert [line for line in error.evidence if line.startswith("event of ")], error.evidence


def _ready_old_pods(cluster: Cluster) -> int:
    found = cluster.api("GET", f"{PODS}?labelSelector={ORPHAN_LABEL}")["items"]
    conditions = [condition for entry in found for condition in entry["status"]["conditions"]]
    return sum(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _images(cluster: Cluster) -> Counter[str]:
    """Return the images of the pods that are not being deleted."""
    found: list[dict[str, Any]] = cluster.api("GET", "/api/v1/pods")["items"]
    return Counter(
        container["image"]
        for obj in found
        if "deletionTimestamp" not in obj["metadata"]
        for container in obj["spec"]["containers"]
    )
