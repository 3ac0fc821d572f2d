# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases prepare and finish around a real rotation of the CA of a cluster, with calls of webhooks all the time."""

from __future__ import annotations

import base64
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations.webhook_repair import OPERATION
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import rotation_repairs

from tests.support import clusters, pages, playbook
from tests.support.audit_rig import AuditRig
from tests.support.clusters import pki
from tests.support.fleet_files import kubeconfig
from tests.support.forwarded_pods import ForwardedPods
from tests.support.guide_commands import lay_out, shell
from tests.support.https_webhook import OneRequestHandler, WebhookServer, allow
from tests.support.probe_rig import HOOKS
from tests.support.repair_rig import states
from tests.support.rig import encoded
from tests.support.waiting import wait_for
from tests.system.test_cluster_ca import Calls, with_ca

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet
    from tests.support.clusters.pki import KeyPair

GUIDE = pages.GUIDES / "guide_cluster_ca.rst"
PREPARE, FINISH = ["add-successor"], ["remove-outgoing"]


class PodHook:
    """A webhook of a pod whose owner issues its certificates with a CA of the cluster. Each call is a new connection."""

    def __init__(self, rig: PhaseRig, name: str, *, by: str = "kubectl-create", **fields: Any) -> None:
        self._rig = rig
        self.name = name
        self.full_name = f"{name}-{rig.name}"
        self.server = WebhookServer(allow, rig.pods.next_address())
        self.server.RequestHandlerClass = OneRequestHandler
        rig.servers.append(self.server)
        self.issue(rig.old)
        self.server.serve()
        rig.make_service(name, self.server)
        webhook = rig.webhook(
            name=f"{self.full_name}.certflow.test",
            service=name,
            port=self.server.port,
            bundle=rig.old.certificate_pem.decode(),
            objectSelector={"matchLabels": {"probe": name}},
            **fields,
        )
        body = {"metadata": {"name": self.full_name}, "webhooks": [webhook]}
        rig.cluster.api("POST", f"{HOOKS}?fieldManager={by}", body)
        rig.made.append(f"{HOOKS}/{self.full_name}")

    def issue(self, ca: KeyPair) -> None:
        self.server.present(pki.issue(ca, "hook", names=(f"{self.name}.{self._rig.name}.svc",)))

    def is_called(self) -> bool:
        """Return True if a request that it matches is accepted, and reaches it."""
        before = len(self.server.calls)
        return self._rig.ask(self.name) == "accepted" and len(self.server.calls) > before

    def trusts(self, ca: KeyPair) -> bool:
        webhook = self._rig.cluster.api("GET", f"{HOOKS}/{self.full_name}")["webhooks"][0]
        return ca.certificate_pem in base64.b64decode(webhook["clientConfig"]["caBundle"])


class PhaseRig(AuditRig):
    """A cluster before a rotation, with pods whose ports a small kubelet forwards."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.pods = ForwardedPods(cluster)
        self.rotation = cluster.rotation()
        self.old, self.new = self.rotation.outgoing, self.rotation.successor

    def close(self) -> None:
        super().close()
        self.pods.close()

    def make_service(self, name: str, server: WebhookServer) -> None:
        """Create a Service with one pod, which is the server."""
        self.pods.create(self.make, self.name, name, (str(server.server_address[0]), server.port))

    def run(self, kinds: list[str], *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a phase with a kubeconfig that trusts both CAs."""
        given = {
            "kinds": kinds,
            "kubeconfig": with_ca(self, self.old, self.new),
            "probe_urls": True,
            "proof_after": 1,
            "wait_timeout": 30,
            "cluster_ca": {"confirmed": True},
            **options,
        }
        return self.operate(OPERATION, check_mode=check_mode, **given)


@pytest.fixture
def rig() -> Iterator[PhaseRig]:
    with clusters.running({"phases": "local-services"}) as fleet:
        rig = PhaseRig(fleet["phases"])
        try:
            yield rig
        finally:
            rig.close()


def of_cluster(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return state and code of what a phase waits for in the whole cluster."""
    return [
        (entry["state"], entry["code"])
        for entry in result["repairs"]
        if entry["object"]["kind"] == "ConfigMap"
    ]


def of_hook(result: dict[str, Any], hook: PodHook) -> list[tuple[str, str]]:
    return [(state, code) for _check, state, code in states(result, hook.full_name)]


def test_a_rotation_from_the_preparation_to_the_end(rig: PhaseRig, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, late = PodHook(rig, "ready"), PodHook(rig, "late")
    control = PodHook(rig, "control", by="example-operator")
    for hook in (ready, late, control):
        wait_for(hook.is_called)
    for phase in (PREPARE, FINISH):
        assert rig.run(phase)["repairs"] == []

    rig.rotation.publish()
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-switched")]
    plan = rig.run(PREPARE, check_mode=True)
    assert of_hook(plan, ready) == [("planned", "")], plan
    assert rig.writes() == []
    result = rig.run(PREPARE, approved_plan=plan["plan_digests"])
    assert of_hook(result, ready) == of_hook(result, late) == [("repaired", "")], result
    assert of_hook(result, control) == [("refused", "owned-by-another")]
    assert ready.trusts(rig.old)
    assert ready.trusts(rig.new)
    assert not rig.run(PREPARE)["changed"]

    with Calls(ready, late, control) as calls:  # type: ignore[arg-type]
        rig.rotation.switch()
        for hook in (ready, control):
            hook.issue(rig.new)
        wait_for(lambda: not all(calls.results["control"]))
        wait_for(ready.is_called)
    assert len(calls.results["ready"]) > 2
    assert {name: all(results) for name, results in calls.results.items()} == {
        "ready": True,
        "late": True,
        "control": False,
    }

    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-settled")]
    monkeypatch.setattr(rotation_repairs, "SETTLED_AFTER", datetime.timedelta(0))
    assert of_cluster(rig.run(FINISH, cluster_ca={"confirmed": False}, probe_urls=False)) == [
        ("waiting", "api-server-unseen")
    ]
    result = rig.run(FINISH)
    assert of_hook(result, ready) == [("repaired", "")], result
    assert of_hook(result, late) == [("waiting", "outgoing-served")]
    assert of_hook(result, control) == [("refused", "still-needed")]
    assert (ready.trusts(rig.old), ready.trusts(rig.new)) == (False, True)
    assert late.trusts(rig.old)
    wait_for(ready.is_called)
    late.issue(rig.new)
    assert of_hook(rig.run(FINISH), late) == [("repaired", "")]
    wait_for(late.is_called)


def play(directory: Path, report: str, *arguments: str, **variables: Any) -> tuple[int, dict[str, str]]:
    """Run the playbook. Return its exit status, and the outcome of each cluster."""
    extra = json.dumps({"certflow_report": report, **variables})
    files = ("-i", "clusters.yml", "-e", "@variables.yml", "-e", extra)
    run = playbook.play(directory, Path("certflow.kubernetes.cluster_ca"), *files, *arguments)
    rows = json.loads((directory / report).read_text())["clusters"]
    print(run.output)
    return run.status, {row["name"]: row["status"] for row in rows}


def test_the_phases_of_a_fleet(rig: PhaseRig, fleet: Fleet, tmp_path: Path) -> None:
    """A cluster in a rotation, one without, and one that does not answer. Only the last one fails."""
    hook = PodHook(rig, "ready")
    rig.rotation.publish()
    rotated = tmp_path / "rotated"
    rotated.write_text(yaml.safe_dump(with_ca(rig, rig.old, rig.new)))
    parts = {"dead": fleet["onprem"].kubeconfig, "rotated": rotated, "well": fleet["onprem"].kubeconfig}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(parts)))
    inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
    (tmp_path / "clusters.yml").write_text(yaml.safe_dump(inventory))
    variables = {
        "certflow_max_failures": 1,
        "certflow_cluster_ca": {"confirmed": True},
        "certflow_repair_options": {"probe_urls": True, "proof_after": 1, "wait_timeout": 30},
    }
    (tmp_path / "variables.yml").write_text(yaml.safe_dump(variables))
    dead, answering = {"dead": "unreachable"}, ("--limit", "rotated,well")

    assert play(tmp_path, "plan.json", "--check") == (
        2,
        dead | {"rotated": "planned", "well": "planned"},
    )
    assert play(tmp_path, "prepare.json", certflow_plan="plan.json") == (
        2,
        {"dead": "plan-differs", "rotated": "changed", "well": "ok"},
    )
    assert hook.trusts(rig.old)
    assert hook.trusts(rig.new)
    finish = {"certflow_ca_phase": "finish"}
    waiting = {"rotated": "waiting", "well": "ok"}
    assert play(tmp_path, "early.json", *answering, **finish) == (0, waiting)
    rig.rotation.switch()
    hook.issue(rig.new)
    assert play(tmp_path, "finish.json", *answering, **finish) == (0, waiting)
    assert hook.trusts(rig.old)


@pytest.mark.full
def test_a_switch_that_is_rolled_back(rig: PhaseRig) -> None:
    hook = PodHook(rig, "ready")
    rig.rotation.publish()
    assert of_hook(rig.run(PREPARE), hook) == [("repaired", "")]
    rig.rotation.switch()
    hook.issue(rig.new)
    rig.rotation.roll_back()
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-switched")]
    for ca in (rig.new, rig.old):
        hook.issue(ca)
        wait_for(hook.is_called)
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True)


@pytest.mark.full
def test_the_guide_as_printed(rig: PhaseRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Substitutions: `aws` prints recorded answers, and the servers of the test are read as addresses outside of the cluster."""
    hook = PodHook(rig, "ready")
    rig.rotation.publish()
    lay_out(GUIDE, tmp_path)
    (tmp_path / ".kube").mkdir()
    rotated = tmp_path / "rotated"
    rotated.write_text(yaml.safe_dump(with_ca(rig, rig.old, rig.new)))
    (tmp_path / ".kube" / "fleet.yml").write_text(yaml.safe_dump(kubeconfig({"prod-eu": rotated})))
    (tmp_path / "group_vars").mkdir()
    options = {"probe_urls": True, "proof_after": 1, "wait_timeout": 30}
    (tmp_path / "group_vars" / "all.yml").write_text(yaml.safe_dump({"certflow_repair_options": options}))
    (tmp_path / "clusters.txt").write_text("prod-eu\n")
    events = {"firstAutoActivation": "2035-01-01T00:00:00Z", "finalAutoActivation": "2035-03-01T00:00:00Z"}
    ca = {"id": "ca-2", "data": encoded(rig.new.certificate_pem.decode()), "scheduledEvents": events}
    (tmp_path / "describe.json").write_text(json.dumps({"certificateAuthority": ca}))
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(
        f'#!/bin/sh\ncase "$2" in list-*) echo ca-2 ;; describe-*) cat {tmp_path}/describe.json ;; esac\n'
    )
    aws.chmod(0o755)
    monkeypatch.setenv("PATH", f"{aws.parent}:{os.environ['PATH']}")

    audit, plan, prepare, *loop, finish = pages.commands(GUIDE)
    for command in (audit, plan, prepare, "\n".join(loop), finish):
        shell(rotated, tmp_path, command)
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True)
    (cluster,) = json.loads((tmp_path / "finish.json").read_text())["clusters"]
    (repair,) = cluster["repairs"]
    assert (cluster["status"], repair["code"]) == ("waiting", "not-switched")
    assert events["finalAutoActivation"] in cluster["reason"]
