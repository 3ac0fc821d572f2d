# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases prepare and finish in a fleet, and with the commands of the guide."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.fleet.fleet_files import kubeconfig
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out, shell
from tests.support.playbooks import playbook
from tests.support.rig import encoded
from tests.support.rotation.rotation_rig import RotationRig
from tests.support.world import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet

GUIDE = page_files.GUIDES / "guide_cluster_ca.rst"


@pytest.fixture
def rig() -> Iterator[RotationRig]:
    with clusters.running({"phases": "local-services"}) as fleet:
        rig = RotationRig(fleet["phases"])
        try:
            yield rig
        finally:
            rig.close()


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

    audit, plan, prepare, *loop, finish = page_files.commands(GUIDE)
    for command in (audit, plan, prepare, "\n".join(loop), finish):
        shell(rotated, tmp_path, command)
    assert [path.parent.name for path in tmp_path.glob("host_vars/*/ca.json")] == ["prod-eu"]
    assert (hook.trusts(rig.old), hook.trusts(rig.new)) == (True, True)
    (cluster,) = json.loads((tmp_path / "finish.json").read_text())["clusters"]
    (repair,) = cluster["repairs"]
    assert (cluster["status"], repair["code"]) == ("waiting", "not-switched")
    assert events["finalAutoActivation"] in cluster["reason"]
