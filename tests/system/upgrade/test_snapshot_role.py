# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the role snapshot_controller until its first write, on real control planes without a node: plan, check
mode, refusals.

test_snapshot_upgrade.py has upgrades with pods, test_snapshot_stops.py has stops during an upgrade.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters, leases
from tests.support.clusters import build, kubeconfig
from tests.support.failures import absent
from tests.support.playbooks import playbook
from tests.support.rig import written
from tests.support.upgrade import snapshot_kept, snapshot_lab, snapshot_pods
from tests.support.upgrade.snapshot_lab import kubectl
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.clusters import Fleet
    from tests.support.playbooks.playbook import PlaybookRun

# The first cluster has no controller, the second has that of 7.0.2. A connection by ssh fails.
NAMES = ("onprem", "eks")
INVENTORY = "[clusters]\nonprem ansible_host=host.invalid\neks ansible_host=host.invalid\n"


class UpgradeRoleRig:
    """Two clusters, a user of these tests, and a kubeconfig with both contexts."""

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

    def play(self, text: str, *arguments: str) -> PlaybookRun:
        """Run plays of a user."""
        command = ("-i", "inventory.ini", *arguments)
        (self.directory / "vars.json").write_text(json.dumps(self.variables))
        return playbook.play(self.directory, yaml.safe_load(text), *command)

    def sent(self, since: datetime) -> list[str]:
        """Return the requests to both clusters except reads, dry runs and access reviews."""
        return [line for cluster in self.fleet.values() for line in written(cluster, self.user, since)]

    def contacted(self, since: datetime) -> set[str]:
        """Return the clusters that had any request."""
        return {name for name, entry in self.fleet.items() if entry.requests(since=since, user=self.user)}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpgradeRoleRig]:
    with release_server("8.1.0") as source, clusters.running({name: name for name in NAMES}) as fleet:
        snapshot_lab.install(fleet["eks"], "7.0.2", pods=False)
        yield UpgradeRoleRig(fleet, tmp_path_factory.mktemp("role"), source)


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
      snapshot_controller_accept: [kubectl]
  post_tasks:
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname, snapshot_controller_result] | to_json }}"
"""


def test_check_mode_shows_everything_and_writes_nothing(rig: UpgradeRoleRig) -> None:
    """One play installs on one cluster and upgrades the other, with the diff of each object."""
    start = now()
    run = rig.play(IN_A_PLAY, "--check", "--diff")
    assert run.status == 0, run.output
    assert rig.sent(start) == []
    found = run.reports()
    hops = {name: [(hop["start"], hop["release"]) for hop in entry["hops"]] for name, entry in found.items()}
    assert hops == {"onprem": [("", "8.1.0")], "eks": [("7.0.2", "8.1.0")]}
    for value in found.values():
        assert value["changed"]
        assert {step["id"] for step in value["foreseen"]} <= set(value["due"])
        assert {"crds", "controller"} <= set(value["due"]) < {step["id"] for step in value["plan"]}
        assert (value["code"], value["refused"], value["problems"], value["steps"]) == ("", [], [], [])
        assert all(json.dumps(line) in run.output for line in value["lines"][:19])
    # The diff of an existing object has only the fields that change.
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
    snapshot_controller_accept: [kubectl]
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


def test_the_tag_plan_only_reads(rig: UpgradeRoleRig) -> None:
    """The hosts cannot be reached, and the role is imported or included."""
    start = now()
    run = rig.play(BY_ANOTHER_HOST, "--tags", "plan")
    assert run.status == 0, run.output
    found = run.reports()
    assert found.keys() == {f"{name} {way}" for name in NAMES for way in ("import", "include")}
    assert found["eks import"]["plan"] == found["eks include"]["plan"]
    verbs = {
        event["verb"] for value in rig.fleet.values() for event in value.requests(since=start, user=rig.user)
    }
    assert verbs <= {"get", "list"}


@pytest.mark.full
def test_check_mode_and_verify_write_nothing(rig: UpgradeRoleRig) -> None:
    """No pod runs, so no verification passes."""
    start = now()
    run = rig.play(IN_A_PLAY, "--check", "--limit", "eks")
    assert run.status == 0, run.output
    (found,) = run.reports().values()
    assert (found["problems"], found["steps"]) == ([], []) and found["due"]
    run = rig.play(IN_A_PLAY, "--tags", "verify", "--limit", "eks")
    assert run.status == 2, run.output
    assert "(verification-failed)" in run.output
    assert rig.sent(start) == []


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
        snapshot_controller_accept: "{{ case.accept | default(['kubectl']) }}"
        snapshot_controller_source: "{{ case.source | default(the_source) }}"
        snapshot_controller_cache_directory: "{{ case.cache | default(the_cache) }}"
        snapshot_controller_failure_policy: "{{ case.failure_policy | default('') }}"
        snapshot_controller_controller: "{{ case.controller | default({}) }}"
        snapshot_controller_arguments: "{{ case.arguments | default([]) }}"
    - ansible.builtin.debug: {msg: "REPORT {{ [case.name, {'msg': 'it was accepted'}] | to_json }}"}
  rescue:
    - ansible.builtin.debug:
        msg: "REPORT {{ [case.name, {'msg': ansible_failed_result.msg, 'code': snapshot_controller_result.code | default('')}] | to_json }}"
"""
# The difference from a valid play, the code, and names in the message.
CASES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "kubectl's": ({"accept": []}, "upgrade-refused", ("kubectl",)),
    "hosted": ({"context": "onprem"}, "upgrade-refused", ("hosted",)),
    "withdrawn": ({"version": "7.0.0"}, "release-unavailable", ("7.0.0",)),
    "unknown": ({"version": "9.9.9"}, "release-unavailable", ("9.9.9",)),
    "no source": ({"source": "/nowhere/{version}", "cache": "{{ playbook_dir }}/none"}, "preflight-failed", ("/nowhere/8.1.0",)),
    "altered": ({"source": "{{ playbook_dir }}/altered", "cache": "{{ playbook_dir }}/none"}, "preflight-failed", ("setup-snapshot-controller.yaml",)),
    "no policy": ({"failure_policy": "fail"}, "invalid-input", ("failure_policy", "Ignore", "Fail")),
    "no option": ({"controller": {"replica": 2}}, "invalid-input", ("replica",)),
    "no number": ({"controller": {"spec": {"replicas": "many"}}}, "preflight-failed", ("replicas",)),
    "no argument": ({"arguments": ["--no-such-flag=1"]}, "upgrade-refused", ("no-such-flag",)),
}  # fmt: skip


def test_a_refusal_has_one_line_and_a_code(rig: UpgradeRoleRig) -> None:
    """The plays run on localhost and end before the first write. By now onprem has CRDs and no controller."""
    deploy, crds = build.snapshot_manifests("8.1.0")
    kubectl(
        rig.fleet["onprem"],
        "apply",
        *(word for path in sorted(crds.glob("snapshot.*")) for word in ("-f", str(path))),
    )
    altered = rig.directory / "altered"
    shutil.copytree(deploy, altered / "deploy" / "kubernetes")
    shutil.copytree(crds, altered / "client" / "config" / "crd")
    manifest = altered / "deploy" / "kubernetes" / "snapshot-controller" / "setup-snapshot-controller.yaml"
    manifest.chmod(0o600)
    manifest.write_text(manifest.read_text().replace("snapshot-controller:v", "another-controller:v"))
    assert _refused(rig, CASES) == {}


def test_a_release_that_is_too_old_is_refused(rig: UpgradeRoleRig) -> None:
    """onprem has a controller older than 4.2, with newer CRDs."""
    deploy, _crds = build.snapshot_manifests("8.1.0")
    text = (deploy / "snapshot-controller" / "setup-snapshot-controller.yaml").read_text()
    kubectl(
        rig.fleet["onprem"],
        "apply",
        "-f-",
        stdin=re.sub(r"snapshot-controller:v\S+", "snapshot-controller:v4.0.0", text),
    )
    assert _refused(rig, {"too old": ({"context": "onprem"}, "upgrade-refused", ("4.2.1",))}) == {}


def _refused(
    rig: UpgradeRoleRig, cases: Mapping[str, tuple[dict[str, Any], str, tuple[str, ...]]]
) -> dict[str, dict[str, str]]:
    """Return the cases with another code, without the names, or with more than one line. All of them write nothing."""
    (rig.directory / "refused.yml").write_text(REFUSED_ONE)
    given = {
        "cases": [{"name": name, **case} for name, (case, _code, _names) in cases.items()],
        "the_source": rig.variables["snapshot_controller_source"],
        "the_cache": rig.variables["snapshot_controller_cache_directory"],
    }
    start = now()
    run = rig.play(REFUSED, "-e", json.dumps(given))
    assert run.status == 0, run.output
    assert rig.sent(start) == []
    found = run.reports()
    assert found.keys() == cases.keys()
    return {
        name: found[name]
        for name, (_case, code, names) in cases.items()
        if "\n" in found[name]["msg"].strip()
        or absent(names, found[name]["msg"])
        or found[name].get("code") != code
    }


# A policy that allows dry runs of the new Deployment and denies the write, which no preflight can detect.
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
DENIED = {"metadata": {"name": "certflow-denies-deployments"}}
LEASE = "certflow-snapshot-controller"


@pytest.fixture
def old(rig: UpgradeRoleRig) -> Iterator[None]:
    """Install the controller of 7.0.2 on both clusters. On onprem the pods of 8.1.0 do not start."""
    with contextlib.ExitStack() as stack:
        for name, cluster in rig.fleet.items():
            snapshot_kept.remove(cluster)
            snapshot_lab.install(cluster, "7.0.2", webhook=False, pods=False)
            pods = stack.enter_context(snapshot_pods.running(cluster, "7.0.2"))
            if name == "onprem":
                pods.broken.add("8.1.0")
            snapshot_pods.wait_until_ready(cluster, "7.0.2")
        yield


@pytest.fixture
def denied(rig: UpgradeRoleRig) -> Iterator[None]:
    """Create the policy that denies the write on eks."""
    api = rig.fleet["eks"].api
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
    snapshot_controller_accept: [kubectl]
    snapshot_controller_validation_webhook: false
    snapshot_controller_step_timeout: 60
    snapshot_controller_backup: ""
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


def test_each_cluster_of_a_failed_batch_is_rolled_back(rig: UpgradeRoleRig, old: None, denied: None) -> None:
    """The role publishes the failure of each cluster, although any_errors_fatal ends the play with the first
    one.
    """
    run = rig.play(IN_A_BATCH)
    assert run.status == 2, run.output
    found = run.reports()
    codes = {name: (entry["code"], entry["step"]) for name, entry in found.items()}
    assert codes == {"eks": ("object-refused", "controller"), "onprem": ("rollout-failed", "controller-wait")}
    for name, item in found.items():
        assert item["undone"]["is_back"], item["undone"]
        assert item["undone"]["release"] == "7.0.2"
        leased = [lease["metadata"]["name"] for lease in leases.leases(rig.fleet[name], "kube-system")]
        assert LEASE not in leased
    changed = {step["id"] for step in found["onprem"]["steps"] if step["undoes"] and step["changed"]}
    assert changed == {"controller"}


# Keywords of plays, also in check mode

REPORT = {
    "ansible.builtin.debug": {
        "msg": "REPORT {{ [inventory_hostname, snapshot_controller_result] | to_json }}"
    }
}


@dataclass(frozen=True)
class Keywords:
    """A play of the role on both hosts."""

    #: Keywords of the play.
    play: dict[str, Any] = field(default_factory=dict)
    #: Keywords of the role's tasks.
    role: dict[str, Any] = field(default_factory=dict)
    #: Arguments of ansible-playbook.
    arguments: tuple[str, ...] = ()
    #: Clusters that have requests.
    contacted: tuple[str, ...] = NAMES
    #: Hosts with a result.
    reported: tuple[str, ...] = NAMES
    #: False if the upgrade of eks is refused.
    accepts: bool = True
    #: Exit status of ansible-playbook.
    status: int = 0


KEYWORDS = {
    "strategy free": Keywords({"strategy": "free"}),
    "strategy host_pinned": Keywords({"strategy": "host_pinned"}),
    "serial": Keywords({"serial": 1}),
    "serial, and a first cluster that is refused": Keywords(
        {"serial": 1, "order": "reverse_inventory"}, contacted=("eks",), reported=(), accepts=False, status=2
    ),
    "ignore_errors": Keywords({"ignore_errors": True}, accepts=False),
    "run_once": Keywords(role={"run_once": True}, contacted=("onprem",)),
    "limit": Keywords(arguments=("--limit", "eks"), contacted=("eks",), reported=("eks",)),
}


FULL_KEYWORDS = ("strategy host_pinned", "serial")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] if name in FULL_KEYWORDS else []) for name in KEYWORDS],
)
def test_keywords_of_a_play_apply_to_the_role(rig: UpgradeRoleRig, old: None, name: str) -> None:
    keyword = KEYWORDS[name]
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "snapshot_controller_version": "8.1.0",
        "snapshot_controller_context": "{{ inventory_hostname }}",
        "snapshot_controller_accept": "{{ ['kubectl'] if inventory_hostname == 'onprem' or accepts else [] }}",
        "accepts": keyword.accepts,
    }
    role = {"name": "certflow.kubernetes.snapshot_controller", "apply": keyword.role}
    play = {
        "hosts": "clusters",
        "gather_facts": False,
        "vars_files": ["vars.json"],
        "vars": variables,
        "tasks": [{"ansible.builtin.include_role": role}, REPORT],
        **keyword.play,
    }
    start = now()
    run = rig.play(yaml.safe_dump([play]), "--check", *keyword.arguments)
    assert run.status == keyword.status, run.output
    assert (rig.contacted(start), rig.sent(start)) == (set(keyword.contacted), [])
    found = run.reports()
    assert found.keys() == set(keyword.reported), run.output
    for host, result in found.items():
        is_refused = not keyword.accepts and host == "eks"
        assert result["code"] == ("upgrade-refused" if is_refused else ""), result
        assert result["changed"] is not is_refused
