# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role snapshot_controller before its first write, on real control planes without a node: plan, check mode, refusals.

What it does with pods is tried in test_snapshot_upgrade.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.release import __version__ as ansible_version

from tests import clusters, playbook
from tests.clusters import ApiError, build, kubeconfig

from . import leases, snapshot_kept, test_snapshot_plan
from .snapshot_lab import kubectl
from .snapshot_site import module_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.clusters import Fleet
    from tests.playbook import Run

# Nothing is on the one, 7.0.2 on the other. Who tries ssh fails.
NAMES = ("onprem", "eks")
INVENTORY = "[clusters]\nonprem ansible_host=host.invalid\neks ansible_host=host.invalid\n"


class Site:
    """Two clusters, a user of these tests' own, and a kubeconfig with both contexts."""

    def __init__(self, fleet: Fleet, directory: Path, source: str) -> None:
        self.fleet, self.directory = fleet, directory
        self.user = f"role-{uuid.uuid4().hex[:8]}"
        users = [fleet[name].kubeconfig_for(self.user, ["system:masters"]) for name in NAMES]
        self.variables = {
            "snapshot_controller_kubeconfig": str(kubeconfig.merge(directory / "kubeconfig", users)),
            "snapshot_controller_source": source,
            "snapshot_controller_cache_directory": str(directory / "cache"),
        }
        (directory / "inventory.ini").write_text(INVENTORY)

    def play(self, text: str, *arguments: str) -> Run:
        """Run plays as somebody wrote them."""
        command = ("-i", "inventory.ini", *arguments)
        (self.directory / "vars.json").write_text(json.dumps(self.variables))
        return playbook.play(self.directory, yaml.safe_load(text), *command)

    def sent(self, since: datetime) -> list[str]:
        """What was sent to either cluster, but for reads, dry runs and access reviews."""
        return [
            f"{event['verb']} {event['requestURI']}"
            for cluster in self.fleet.values()
            for event in cluster.requests(since=since, user=self.user)
            if event["verb"] not in ("get", "list", "watch")
            and "dryRun=All" not in event["requestURI"]
            and "/selfsubjectaccessreviews" not in event["requestURI"]
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with module_proxy("8.1.0") as source, clusters.running({name: name for name in NAMES}) as fleet:
        test_snapshot_plan.install(fleet["eks"], "7.0.2")
        yield Site(fleet, tmp_path_factory.mktemp("role"), source)


def now() -> datetime:
    return datetime.now(timezone.utc)


def reports(run: Run) -> dict[str, Any]:
    """What the plays' tasks `REPORT` say, by the name that they give."""
    texts = re.findall(r'"msg": ("REPORT .*")$', run.output, re.MULTILINE)
    return dict(json.loads(json.loads(text).partition(" ")[2]) for text in texts)


IN_A_PLAY = """
- hosts: clusters
  gather_facts: false
  vars_files: [vars.json]
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles:
    - role: certflow.kubernetes.snapshot_controller
      snapshot_controller_version: 8.1.0
      snapshot_controller_context: "{{ inventory_hostname }}"
      snapshot_controller_adopt: [kubectl]
  post_tasks:
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname, snapshot_controller_result
               | combine({'is_changed': snapshot_controller_is_changed})] | to_json }}"
"""


def test_check_mode_shows_everything_and_writes_nothing(site: Site) -> None:
    """An installation and an upgrade, by one play, with the diff of each object."""
    start = now()
    run = site.play(IN_A_PLAY, "--check", "--diff")
    assert run.status == 0, run.output
    assert site.sent(start) == []
    found = reports(run)
    assert {name: one["installed"]["version"] for name, one in found.items()} == {
        "onprem": "",
        "eks": "7.0.2",
    }
    for one in found.values():
        assert one["is_changed"]
        assert [step["id"] for step in one["steps"]] == [step["id"] for step in one["plan"]]
    assert '"from 7.0.2 to 8.1.0"' in run.output
    assert '"from nothing to 8.1.0"' in run.output
    # Of what is there the fields that change, not the whole.
    shown = [line for line in run.output.splitlines() if line.startswith("+")]
    assert any("snapshot-controller:v8.1.0" in line for line in shown)
    assert any("CustomResourceDefinition" in line for line in shown)
    assert "PRIVATE KEY" not in run.output


BY_ANOTHER_HOST = """
- hosts: clusters
  gather_facts: false
  vars_files: [vars.json]
  vars:
    snapshot_controller_version: 8.1.0
    snapshot_controller_context: "{{ inventory_hostname }}"
    snapshot_controller_adopt: [kubectl]
  tasks:
    - ansible.builtin.import_role: {name: certflow.kubernetes.snapshot_controller}
      delegate_to: localhost
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname ~ ' import', snapshot_controller_result] | to_json }}"
      tags: [plan]
    - ansible.builtin.include_role:
        name: certflow.kubernetes.snapshot_controller
        apply: {delegate_to: localhost}
      tags: [plan]
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname ~ ' include', snapshot_controller_result] | to_json }}"
      tags: [plan]
"""


def test_the_plan_alone_reads_alone(site: Site) -> None:
    """Tag plan; from hosts that are not to be reached, imported and included."""
    start = now()
    run = site.play(BY_ANOTHER_HOST, "--tags", "plan")
    assert run.status == 0, run.output
    found = reports(run)
    assert found.keys() == {f"{name} {way}" for name in NAMES for way in ("import", "include")}
    assert found["eks import"]["plan"] == found["eks include"]["plan"]
    verbs = {
        event["verb"] for one in site.fleet.values() for event in one.requests(since=start, user=site.user)
    }
    assert verbs <= {"get", "list"}


@pytest.mark.full
def test_preflight_tries_and_proofs_fail_where_nothing_runs(site: Site) -> None:
    start = now()
    run = site.play(IN_A_PLAY, "--tags", "preflight", "--limit", "eks")
    assert run.status == 0, run.output
    assert "Try every step by server dry runs" in run.output
    run = site.play(IN_A_PLAY, "--tags", "verify", "--limit", "eks")
    assert run.status == 2, run.output
    assert "webhook is broken: " in run.output or "is not proven: " in run.output
    assert site.sent(start) == []


REFUSED = """
- hosts: localhost
  gather_facts: false
  vars_files: [vars.json]
  tasks:
    - ansible.builtin.include_tasks: refused.yml
      loop: "{{ cases }}"
      loop_control: {loop_var: case, label: "{{ case.name }}"}
"""
REFUSED_ONE = """
- block:
    - ansible.builtin.include_role: {name: certflow.kubernetes.snapshot_controller}
      vars:
        snapshot_controller_context: "{{ case.context | default('eks') }}"
        snapshot_controller_version: "{{ case.version | default('8.1.0') }}"
        snapshot_controller_adopt: "{{ case.adopt | default(['kubectl']) }}"
        snapshot_controller_source: "{{ case.source | default(the_source) }}"
        snapshot_controller_cache_directory: "{{ case.cache | default(the_cache) }}"
        snapshot_controller_failure_policy: "{{ case.failure_policy | default('') }}"
        snapshot_controller_controller: "{{ case.controller | default({}) }}"
        snapshot_controller_arguments: "{{ case.arguments | default([]) }}"
    - ansible.builtin.debug: {msg: "REPORT {{ [case.name, {'msg': 'it was accepted'}] | to_json }}"}
  rescue:
    - ansible.builtin.debug: {msg: "REPORT {{ [case.name, ansible_failed_result] | to_json }}"}
"""
# What is wrong: what differs from a play that is right, and words of the one line that says it.
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "kubectl's": ({"adopt": []}, ("nothing was written: ", " more). ", "snapshot_controller_adopt: [kubectl]")),
    "hosted": ({"context": "onprem"}, ("nothing was written: ", "no controller is", "snapshot_controller_adopt: [hosted]")),
    "withdrawn": ({"version": "7.0.0"}, ("7.0.0", "must not be installed")),
    "unknown": ({"version": "9.9.9"}, ("9.9.9 is no release",)),
    "no source": ({"source": "/nowhere/{version}", "cache": "{{ playbook_dir }}/none"}, ("/nowhere/8.1.0",)),
    "altered": ({"source": "{{ playbook_dir }}/altered", "cache": "{{ playbook_dir }}/none"}, ("setup-snapshot-controller.yaml",)),
    "no policy": ({"failure_policy": "fail"}, ("failure_policy", "Ignore", "Fail")),
    "no option": ({"controller": {"replica": 2}}, ("replica",)),
    "no number": ({"controller": {"replicas": "many"}}, ("replicas", "int")),
    "no argument": ({"arguments": ["--no-such-flag=1"]}, ("nothing was written: ", "no-such-flag")),
}  # fmt: skip


def test_what_cannot_be_done_is_said_in_one_line(site: Site) -> None:
    """From localhost, before the first write. On `onprem` by now there are CRDs, and no controller."""
    deploy, crds = build.snapshot_manifests("8.1.0")
    kubectl(
        site.fleet["onprem"],
        "apply",
        *(word for path in sorted(crds.glob("snapshot.*")) for word in ("-f", str(path))),
    )
    altered = site.directory / "altered"
    shutil.copytree(deploy, altered / "deploy" / "kubernetes")
    shutil.copytree(crds, altered / "client" / "config" / "crd")
    manifest = altered / "deploy" / "kubernetes" / "snapshot-controller" / "setup-snapshot-controller.yaml"
    manifest.chmod(0o600)
    manifest.write_text(manifest.read_text().replace("snapshot-controller:v", "another-controller:v"))
    assert _refused(site, CASES) == {}


def test_what_is_too_old_is_said(site: Site) -> None:
    """A controller of before 4.2 on `onprem`, with CRDs that are newer."""
    deploy, _crds = build.snapshot_manifests("8.1.0")
    text = (deploy / "snapshot-controller" / "setup-snapshot-controller.yaml").read_text()
    kubectl(
        site.fleet["onprem"],
        "apply",
        "-f-",
        stdin=re.sub(r"snapshot-controller:v\S+", "snapshot-controller:v4.0.0", text),
    )
    words = ("nothing was written: ", "older than 4.2", "4.2.1")
    assert _refused(site, {"too old": ({"context": "onprem"}, words)}) == {}


def _refused(site: Site, cases: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]]) -> dict[str, str]:
    """What was said in other words than these, or in more than one line. All are refused, and nothing is written."""
    (site.directory / "refused.yml").write_text(REFUSED_ONE)
    given = {
        "cases": [{"name": name, **case} for name, (case, _words) in cases.items()],
        "the_source": site.variables["snapshot_controller_source"],
        "the_cache": site.variables["snapshot_controller_cache_directory"],
    }
    start = now()
    run = site.play(REFUSED, "-e", json.dumps(given))
    assert run.status == 0, run.output
    assert site.sent(start) == []
    said = {name: one["msg"] for name, one in reports(run).items()}
    assert said.keys() == cases.keys()
    return {
        name: said[name]
        for name, (_case, words) in cases.items()
        if "\n" in said[name].strip() or not all(word.lower() in said[name].lower() for word in words)
    }


# A policy that allows dry runs of the new Deployment and denies the write, which no preflight can detect.
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
DENIED = {"metadata": {"name": "certflow-denies-deployments"}}
TURN = "certflow-snapshot-controller"


@pytest.fixture
def old(site: Site) -> None:
    """Install the controller of 7.0.2 on both clusters. It never runs, because there is no node."""
    for cluster in site.fleet.values():
        snapshot_kept.remove(cluster)
        test_snapshot_plan.install(cluster, "7.0.2", webhook=False)


@pytest.fixture
def denied(site: Site) -> Iterator[None]:
    """Create the policy that denies the write on `eks`."""
    api = site.fleet["eks"].api
    rule = {
        "apiGroups": ["apps"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"],
    }  # fmt: skip
    condition = {
        "expression": "has(request.dryRun) && request.dryRun"
        " || object.spec.template.spec.containers.all(one, !one.image.endsWith(':v8.1.0'))",
        "message": "not today",
    }
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [condition]}
    binding = {"policyName": DENIED["metadata"]["name"], "validationActions": ["Deny"]}
    api("POST", f"{POLICIES}ies", {**DENIED, "spec": spec})
    api("POST", f"{POLICIES}ybindings", {**DENIED, "spec": binding})
    time.sleep(2)  # the API server compiles the policy before it enforces it
    yield
    for kind in ("ybindings", "ies"):
        api("DELETE", f"{POLICIES}{kind}/{DENIED['metadata']['name']}")


IN_A_BATCH = """
- hosts: clusters
  gather_facts: false
  any_errors_fatal: true
  vars_files: [vars.json]
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    snapshot_controller_version: 8.1.0
    snapshot_controller_context: "{{ inventory_hostname }}"
    snapshot_controller_adopt: [kubectl]
    snapshot_controller_validation_webhook: false
    snapshot_controller_step_timeout: 8
    snapshot_controller_backup_directory: ""
  tasks:
    - block:
        - ansible.builtin.command: "false"
          changed_when: false
      rescue:
        - ansible.builtin.debug: {msg: A failure that was rescued is not one of the role.}
    - block:
        - ansible.builtin.include_role: {name: certflow.kubernetes.snapshot_controller}
      always:
        - ansible.builtin.debug:
            msg: "REPORT {{ [inventory_hostname, snapshot_controller_result] | to_json }}"
"""


def test_a_cluster_that_fails_is_put_back_although_it_ends_the_batch(
    site: Site, old: None, denied: None
) -> None:
    """The other cluster stops after its Deployment is applied, reports that, and releases the Lease.

    ansible-core 2.16 lets it go on, until its pods do not become available.
    """
    run = site.play(IN_A_BATCH)
    assert run.status == 2, run.output
    found = reports(run)
    failed, stopped = found["eks"], found["onprem"]
    goes_on = ansible_version.startswith("2.16.")
    assert failed["code"] == "object-refused", run.output
    assert "controller" in [step["id"] for step in failed["steps"] if step["undo"]], run.output
    assert "7.0.2 back" in run.output and "not today" in run.output
    assert "'ansible_failed_task' is undefined" not in run.output
    for cluster in site.fleet.values():
        assert TURN not in [one["metadata"]["name"] for one in leases.leases(cluster, "kube-system")]
    assert stopped["code"] == ("rollout-failed" if goes_on else "stopped"), run.output
    if goes_on:
        return
    assert not [step["id"] for step in stopped["steps"] if step["undo"]]
    (said,) = re.findall(
        r'^fatal: \[onprem\].*"msg": "(Stopped because another cluster of the batch failed.*)"}$',
        run.output,
        re.MULTILINE,
    )
    assert (
        "Changed before that: VolumeSnapshot CRDs; Rights of the controller; The controller of 8.1.0" in said
    )
    assert "nothing was put back" in said


@pytest.mark.full
def test_a_run_whose_lease_another_run_held_stops_and_puts_nothing_back(site: Site, old: None) -> None:
    """The other run has ended by then, so its Lease does not exist any more."""
    eks = site.fleet["eks"]

    def meet(task: str, _process: object) -> None:
        if task == "The controller of 8.1.0":
            with contextlib.suppress(ApiError):  # it is gone
                eks.api("DELETE", f"{leases.path('kube-system')}/{TURN}")

    (site.directory / "vars.json").write_text(json.dumps(site.variables))
    command = ("-i", "inventory.ini", "--limit", "eks")
    run, _began = playbook.followed(site.directory, yaml.safe_load(IN_A_BATCH), *command, meet=meet)
    assert run.status == 2, run.output
    (found,) = reports(run).values()
    assert found["code"] == "lease-lost", run.output
    assert not [step["id"] for step in found["steps"] if step["undo"]]
    assert "Nothing was put back" in run.output and "Plan the way back" not in run.output
