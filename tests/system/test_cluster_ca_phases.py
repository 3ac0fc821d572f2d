# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases prepare and finish around a real rotation of the CA of a cluster, with calls of webhooks all the time."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters, pages, playbook
from tests.support.fleet_files import kubeconfig
from tests.support.guide_commands import lay_out, shell
from tests.support.rig import encoded
from tests.support.rotation_rig import RotationRig, codes, of_cluster, of_program
from tests.support.waiting import wait_for
from tests.support.world import Program, Shape, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

GUIDE = pages.GUIDES / "guide_cluster_ca.rst"
PREPARE, FINISH = ["add-successor"], ["remove-outgoing"]
OWN = Shape("own", certificate=shapes.OURS, bundle=None)


@pytest.fixture
def rig() -> Iterator[RotationRig]:
    with clusters.running({"phases": "local-services"}) as fleet:
        rig = RotationRig(fleet["phases"])
        try:
            yield rig
        finally:
            rig.close()


#: Programs whose owner does not let a repair write the caBundle.
OTHERS = (
    Shape("helm", owner=shapes.HELM),
    Shape("helm-applied", owner=shapes.HELM_APPLIED),
    Shape("kubectl", owner=shapes.KUBECTL),
    Shape("argo-cd", owner=shapes.ARGO_CD),
    Shape("operator", owner=shapes.OPERATOR),
    Shape("eks", owner=shapes.EKS),
    Shape("other-api", shapes.AGGREGATED, owner=shapes.OPERATOR),
    Shape("other-conversion", shapes.CONVERSION, owner=shapes.OPERATOR),
    Shape("other-url", reached=shapes.BY_URL, owner=shapes.OPERATOR, failure_policy="Ignore"),
)
#: Programs whose caBundles the phase prepare writes, and from which the phase finish removes the outgoing CA.
REMOVABLE = (
    Shape("by-hand"),
    Shape("helm-elsewhere", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
    Shape("mutating", shapes.MUTATING),
    Shape("api", shapes.AGGREGATED),
    Shape("conversion", shapes.CONVERSION),
)


class Population:
    """Programs of each kind and owner. The phase prepare may write the caBundles of `prepared` only."""

    def __init__(self, rig: RotationRig) -> None:
        self.own, self.late = rig.one(OWN), rig.one(Shape("late"))
        self.url = rig.one(Shape("url", reached=shapes.BY_URL, failure_policy="Ignore"))
        self.others = [rig.one(shape) for shape in OTHERS]
        self.hooks = [rig.one(shape) for shape in REMOVABLE]
        self.removable = (self.own, *self.hooks)
        self.prepared = (*self.removable, self.late, self.url)
        self.all = (*self.prepared, *self.others)
        for hook in self.all:
            wait_for(hook.is_called, evidence=hook.call)

    def lacking(self, *hooks: Program) -> dict[str, str]:
        return {hook.full_name: "warning" for hook in hooks}


def test_a_rotation_from_the_preparation_to_the_end(
    rig: RotationRig,
) -> None:
    """The programs that no preparation may write are the control run: exactly they fail, and the audit has named them."""
    programs = Population(rig)
    for phase in (PREPARE, FINISH):
        assert rig.run(phase)["repairs"] == []
    assert rig.findings() == {}

    rig.rotation.publish()
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-switched")]
    assert rig.findings()["bundle-without-successor"] == programs.lacking(*programs.all)
    prepare(rig, programs)
    assert rig.findings()["bundle-without-successor"] == programs.lacking(*programs.others)
    with rig.calling(programs.own) as calls:
        assert rig.renew(programs.own, renew_before="400d")["changed"]
    assert calls.failures == {}
    for hook in programs.prepared:
        assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True), hook.name

    with rig.calling(*programs.all) as calls:
        calls.wait_for_more()
        rig.rotation.switch()
        for hook in (*programs.hooks, programs.url, *programs.others):
            hook.issue(rig.new)
        assert rig.renew(programs.own)["changed"]
        wait_for(lambda: not any(hook.is_called() for hook in programs.others))
        calls.wait_for_more()
    assert calls.failures.keys() == {shape.name for shape in OTHERS}
    finish(rig, programs)


def prepare(rig: RotationRig, programs: Population) -> None:
    before = rig.writes()
    plan = rig.run(PREPARE, check_mode=True)
    expected = {shape.name: [("refused", "owned-by-another")] for shape in OTHERS}
    planned = {hook.name: [("planned", "")] for hook in programs.prepared}
    assert codes(plan, programs.all) == planned | expected
    assert rig.writes() == before
    result = rig.run(PREPARE, approved_plan=plan["plan_digests"])
    repaired = {hook.name: [("repaired", "")] for hook in programs.prepared}
    assert codes(result, programs.all) == repaired | expected
    assert not rig.run(PREPARE)["changed"]


def finish(rig: RotationRig, programs: Population) -> None:
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-settled")]
    rig.jump(datetime.timedelta(hours=25))
    assert of_cluster(rig.run(FINISH, cluster_ca={"confirmed": False}, probe_urls=False)) == [
        ("waiting", "api-server-unseen")
    ]
    assert codes(rig.run(FINISH), programs.all) == {
        **{hook.name: [("repaired", "")] for hook in programs.removable},
        **{hook.name: [("refused", "still-needed")] for hook in programs.others},
        "own": [],  # k8s_csr has removed it
        "late": [("waiting", "outgoing-served")],
        "url": [("waiting", "endpoint-unseen")],
    }
    for hook in programs.removable:
        assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (False, True), hook.name
        wait_for(hook.is_called)
    assert programs.late.trusts(rig.old)
    programs.late.issue(rig.new)
    assert of_program(rig.run(FINISH), programs.late) == [("repaired", "")]
    wait_for(programs.late.is_called)


def test_forty_objects_are_planned_and_prepared(rig: RotationRig) -> None:
    programs = rig.create(Shape("many"), copies=40)
    rig.rotation.publish()
    plan = rig.run(PREPARE, check_mode=True)
    assert sum(entry.startswith("write ") for entry in plan["plan_digests"]) == len(programs)
    result = rig.run(PREPARE, approved_plan=plan["plan_digests"])
    assert codes(result, programs) == {program.name: [("repaired", "")] for program in programs}
    with rig.calling() as calls:
        rig.rotation.switch()
        for program in programs:
            program.issue(rig.new)
        calls.wait_for_more(1)
    assert calls.failures == {}


def play(directory: Path, report: str, *arguments: str, **variables: Any) -> tuple[int, dict[str, str]]:
    """Run the playbook. Return its exit status, and the outcome of each cluster."""
    extra = json.dumps({"certflow_report": report, **variables})
    files = ("-i", "clusters.yml", "-e", "@variables.yml", "-e", extra)
    run = playbook.play(directory, Path("certflow.kubernetes.cluster_ca"), *files, *arguments)
    rows = json.loads((directory / report).read_text())["clusters"]
    print(run.output)
    return run.status, {row["name"]: row["status"] for row in rows}


def test_the_phases_of_a_fleet(rig: RotationRig, fleet: Fleet, tmp_path: Path) -> None:
    """A cluster in a rotation, one without, and one that does not answer. Only the last one fails."""
    hook = rig.one(Shape("ready"))
    rig.rotation.publish()
    rotated = tmp_path / "rotated"
    rotated.write_text(yaml.safe_dump(rig.trust()))
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
def test_a_switch_that_is_rolled_back(rig: RotationRig) -> None:
    hook = rig.one(Shape("ready"))
    rig.rotation.publish()
    assert of_program(rig.run(PREPARE), hook) == [("repaired", "")]
    rig.rotation.switch()
    hook.issue(rig.new)
    rig.rotation.roll_back()
    assert of_cluster(rig.run(FINISH)) == [("waiting", "not-switched")]
    for ca in (rig.new, rig.old):
        hook.issue(ca)
        wait_for(hook.is_called)
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True)


@pytest.mark.full
def test_the_guide_as_printed(rig: RotationRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Substitutions: `aws` prints recorded answers, and the servers of the test are read as addresses outside of the cluster.

    Of three EKS clusters one has no successor, and one may not be described. They get no file, because the inventory could not read it.
    """
    hook = rig.one(Shape("ready"))
    rig.rotation.publish()
    lay_out(GUIDE, tmp_path)
    (tmp_path / ".kube").mkdir()
    rotated = tmp_path / "rotated"
    rotated.write_text(yaml.safe_dump(rig.trust()))
    (tmp_path / ".kube" / "fleet.yml").write_text(yaml.safe_dump(kubeconfig({"prod-eu": rotated})))
    (tmp_path / "group_vars" / "all").mkdir(parents=True, exist_ok=True)
    options = {"probe_urls": True, "proof_after": 1, "wait_timeout": 30}
    (tmp_path / "group_vars" / "all" / "options.yml").write_text(
        yaml.safe_dump({"certflow_repair_options": options})
    )
    (tmp_path / "clusters.txt").write_text("quiet\nforbidden\nprod-eu\n")
    events = {"firstAutoActivation": "2035-01-01T00:00:00Z", "finalAutoActivation": "2035-03-01T00:00:00Z"}
    ca = {"id": "ca-2", "data": encoded(rig.new.certificate_pem.decode()), "scheduledEvents": events}
    (tmp_path / "describe.json").write_text(json.dumps({"certificateAuthority": ca}))
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(
        f"""#!/bin/sh
case "$2 $4" in
  "list-certificate-authorities quiet") echo None ;;
  list-*) echo ca-2 ;;
  "describe-certificate-authority forbidden") echo AccessDeniedException >&2; exit 254 ;;
  describe-*) cat {tmp_path}/describe.json ;;
esac
"""
    )
    aws.chmod(0o755)
    monkeypatch.setenv("PATH", f"{aws.parent}:{os.environ['PATH']}")

    audit, plan, prepare, *loop, finish = pages.commands(GUIDE)
    for command in (audit, plan, prepare, "\n".join(loop), finish):
        shell(rotated, tmp_path, command)
    assert [path.parent.name for path in tmp_path.glob("host_vars/*/ca.json")] == ["prod-eu"]
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True)
    (cluster,) = json.loads((tmp_path / "finish.json").read_text())["clusters"]
    (repair,) = cluster["repairs"]
    assert (cluster["status"], repair["code"]) == ("waiting", "not-switched")
    assert events["finalAutoActivation"] in cluster["reason"]
