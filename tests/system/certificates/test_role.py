# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the role webhook_certificate in every way that its README shows, on both clusters."""

from __future__ import annotations

import base64
import datetime
import json
import re
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.clusters import APP_SERVING, AdminApiError, kubeconfig
from tests.support.clusters.profiles import find
from tests.support.failures import absent
from tests.support.playbooks import playbook
from tests.support.rig import written
from tests.support.waiting import now
from tests.support.webhooks import called_objects
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet
    from tests.support.playbooks.playbook import PlaybookRun

KUBELET_SERVING = "kubernetes.io/kubelet-serving"
NAMES = ("onprem", "eks")
SIGNERS = {"onprem": KUBELET_SERVING, "eks": APP_SERVING}
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
# One host for each cluster. A connection by ssh fails.
INVENTORY = "[clusters]\nonprem ansible_host=host.invalid\neks ansible_host=host.invalid\n"


class CertificateRoleRig:
    """A namespace on both clusters, a user of these tests, and a kubeconfig with both contexts."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.name = f"role-{uuid.uuid4().hex[:8]}"
        own = [fleet[name].kubeconfig_for(self.name, ["system:masters"]) for name in NAMES]
        self.kubeconfig = kubeconfig.merge(directory / "kubeconfig", own)
        (directory / "inventory.ini").write_text(INVENTORY)
        for cluster in fleet.values():
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
            cluster.api("POST", HOOKS, self._hook())

    def _hook(self) -> dict[str, Any]:
        config = called_objects.service(self.name, "hook")
        webhook = called_objects.webhook("hook.certflow.test", config)
        return called_objects.configuration(self.name, webhook)

    def close(self) -> None:
        for cluster in self.fleet.values():
            cluster.api("DELETE", f"{HOOKS}/{self.name}")
            cluster.api("DELETE", f"/api/v1/namespaces/{self.name}")

    def play(self, text: str, *arguments: str, **environment: str) -> PlaybookRun:
        """Run a user's plays with the variables of this rig."""
        variables = {
            "the_kubeconfig": str(self.kubeconfig),
            "webhook_certificate_service": "hook",
            "webhook_certificate_namespace": self.name,
            "webhook_certificate_targets": [{"kind": "ValidatingWebhookConfiguration", "name": self.name}],
        }
        command = ["-i", "inventory.ini", "-e", json.dumps(variables), *arguments]
        return playbook.play(self.directory, yaml.safe_load(text), *command, **environment)

    def certificate(self, cluster: str, secret: str) -> x509.Certificate | None:
        """Return the certificate in the Secret, None without one."""
        try:
            found = self.fleet[cluster].api("GET", f"/api/v1/namespaces/{self.name}/secrets/{secret}")
        except AdminApiError as error:
            assert error.status == 404, error
            return None
        return x509.load_pem_x509_certificate(base64.b64decode(found["data"]["tls.crt"]))

    def bundle(self, cluster: str) -> str:
        webhook = self.fleet[cluster].api("GET", f"{HOOKS}/{self.name}")["webhooks"][0]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()

    def requests(self, cluster: str, since: datetime.datetime) -> list[dict[str, Any]]:
        return self.fleet[cluster].requests(since=since, user=self.name)

    def writes(self, since: datetime.datetime) -> list[str]:
        """Return the requests to either cluster that change an object."""
        return [line for name in NAMES for line in written(self.fleet[name], self.name, since)]


@pytest.fixture(scope="module")
def rig(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertificateRoleRig]:
    made = CertificateRoleRig(fleet, tmp_path_factory.mktemp("role"))
    yield made
    made.close()


def execution_modes(run: PlaybookRun) -> set[str]:
    return set(re.findall(r"certflow\.kubernetes k8s_csr: execution mode ([_a-z]+):", run.output))


PER_HOST = """
- hosts: clusters
  gather_facts: false
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - ansible.builtin.import_role:
        name: certflow.kubernetes.webhook_certificate
      vars:
        webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
        webhook_certificate_context: "{{ inventory_hostname }}"
        webhook_certificate_secret: {name: per-host}
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname,
               webhook_certificate_result] | to_json }}"
"""


@pytest.mark.quick
def test_one_host_for_each_cluster(rig: CertificateRoleRig) -> None:
    """Run in check mode on an empty cluster, then in Ansible's process, then through the module."""
    start = now()
    run = rig.play(PER_HOST, "--check", "--diff")
    assert run.status == 0, run.output
    for name, report in run.reports().items():
        assert (report["changed"], report["pending"], report["ca_bundle"]) == (True, True, None)
        assert report["provider"]["name"] == {"onprem": "kubeadm", "eks": "eks"}[name]
        assert rig.certificate(name, "per-host") is None
    assert run.reports().keys() == set(NAMES)
    assert rig.writes(start) == []

    run = rig.play(PER_HOST, "-vv", "-e", "__certflow_execution_mode=in_process")
    assert run.status == 0, run.output
    assert execution_modes(run) == {"in_process"}
    for name, report in run.reports().items():
        found = rig.certificate(name, "per-host")
        assert found is not None
        assert found.serial_number == int(report["certificate"]["serial"], 16)
        assert (report["changed"], report["pending"], report["signer"]) == (
            True,
            False,
            SIGNERS[name],
        )
        assert report["csr"]["signer_name"] == SIGNERS[name]
        assert rig.bundle(name) == report["ca_bundle"] == rig.fleet[name].ca_pem
    assert "PRIVATE KEY" not in run.output

    start = now()
    again = rig.play(PER_HOST, "-vv", "-e", "__certflow_execution_mode=module")
    assert again.status == 0, again.output
    assert execution_modes(again) == {"module"}
    assert (again.recap("changed"), rig.writes(start)) == (0, [])
    for name, report in again.reports().items():
        assert (report["changed"], report["reason"]) == (False, "the certificate is kept")
        assert report["certificate"] == run.reports()[name]["certificate"]


CHOICES = """
- hosts: localhost
  gather_facts: false
  vars:
    webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
    webhook_certificate_targets: []
    nothing_known: {eks: {rule: "`false`", serving_signer: example.com/nobody}, kubeadm: {rule: "`false`"}, default: kubernetes.io/kubelet-serving}
  tasks:
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_context: eks
        webhook_certificate_secret: {name: given}
        webhook_certificate_provider: eks
    - ansible.builtin.debug: {msg: "REPORT {{ ['given', webhook_certificate_result] | to_json }}"}
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_context: onprem
        webhook_certificate_secret: {name: default}
        webhook_certificate_providers: "{{ nothing_known }}"
    - ansible.builtin.debug: {msg: "REPORT {{ ['default', webhook_certificate_result] | to_json }}"}
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_context: eks
        webhook_certificate_secret: {name: none-issues}
        webhook_certificate_provider: ours
        webhook_certificate_providers: {default: ephemeral-ca}
    - ansible.builtin.debug: {msg: "REPORT {{ ['none issues', webhook_certificate_result] | to_json }}"}
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_context: eks
        webhook_certificate_secret: {name: own}
        webhook_certificate_provider: ours
        webhook_certificate_providers: {ours: beta.eks.amazonaws.com/app-serving, default: example.com/nobody}
    - ansible.builtin.debug: {msg: "REPORT {{ ['own', webhook_certificate_result] | to_json }}"}
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_context: eks
        webhook_certificate_secret: {name: explicit}
        webhook_certificate_signer_name: beta.eks.amazonaws.com/app-serving
        webhook_certificate_provider: no-such-provider
        webhook_certificate_providers: {eks: example.com/nobody}
    - ansible.builtin.debug: {msg: "REPORT {{ ['explicit', webhook_certificate_result] | to_json }}"}
"""
AGAIN = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
        webhook_certificate_context: eks
        webhook_certificate_secret: {name: given}
        webhook_certificate_%s
"""


def test_the_signer_can_be_chosen(rig: CertificateRoleRig) -> None:
    """The provider's name, the user's dictionary, its default, or an explicit signer decides."""
    start = now()
    run = rig.play(CHOICES)
    assert run.status == 0, run.output
    found = {
        name: (report["signer"], report["provider"].get("name")) for name, report in run.reports().items()
    }
    assert found == {
        "given": (APP_SERVING, "eks"),
        "default": (KUBELET_SERVING, "unknown"),
        "none issues": ("ephemeral-ca", "unknown"),
        "own": (APP_SERVING, "ours"),
        "explicit": (APP_SERVING, "eks"),
    }
    for cluster, secret in (("eks", "given"), ("onprem", "default"), ("eks", "own"), ("eks", "explicit")):
        assert rig.certificate(cluster, secret) is not None
    by_own_hand = rig.certificate("eks", "none-issues")
    assert by_own_hand is not None
    assert "CN=ephemeral-ca " in by_own_hand.issuer.rfc4514_string()
    # With a given provider or signer, the module does not detect the provider.
    looked = [event["requestURI"] for event in rig.requests("eks", start)]
    assert not [
        uri for uri in looked if re.search("clusterroles|nodes\\?limit=5$|^/version|servicecidrs", uri)
    ]


TAKEN_BACK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
        webhook_certificate_context: eks
        webhook_certificate_provider: no-such-provider
        webhook_certificate_secret: {name: default}
        webhook_certificate_state: absent
    - ansible.builtin.debug:
        msg: "REPORT {{ ['gone', webhook_certificate_result] | to_json }}"
"""


def test_removal_does_not_detect_the_signer(rig: CertificateRoleRig) -> None:
    """The certificate can be removed even if the provider can no longer be detected."""
    start = now()
    run = rig.play(TAKEN_BACK)
    assert run.status == 0, run.output
    gone = run.reports()["gone"]
    assert (gone["signer"], gone["provider"]) == ("", {})
    looked = [event["requestURI"] for event in rig.requests("eks", start)]
    assert not [uri for uri in looked if re.search("clusterroles|nodes|^/version", uri)]


@pytest.mark.parametrize("given", ["provider: eks", f"signer_name: {APP_SERVING}"])
def test_a_run_without_change_needs_three_requests(rig: CertificateRoleRig, given: str) -> None:
    start = now()
    run = rig.play(AGAIN % given)
    assert run.status == 0, run.output
    assert len(rig.requests("eks", start)) <= 3


REFUSED = """
- hosts: localhost
  gather_facts: false
  vars:
    webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
    webhook_certificate_context: eks
    webhook_certificate_secret: {name: refused}
    webhook_certificate_result: left over
  tasks:
    - ansible.builtin.include_tasks: refused.yml
      loop:
        - {name: unknown, providers: {eks: {rule: "`false`"}}}
        - {name: contradictory, providers: {one: {rule: nodes}, two: {rule: nodes}}}
        - {name: no such provider, provider: esk}
        - {name: probe, provider: probe, providers: {default: ephemeral-ca}}
        - {name: no library, python: "{{ bare_python }}"}
        - {name: no signer, providers: {eks: {serving_signer: ""}}}
      loop_control: {loop_var: case, label: "{{ case.name }}"}
"""
REFUSED_ONE = """
- block:
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        ansible_python_interpreter: "{{ case.python | default(ansible_playbook_python) }}"
        webhook_certificate_provider: "{{ case.provider | default('') }}"
        webhook_certificate_providers: "{{ case.providers | default({}) }}"
  rescue:
    - ansible.builtin.debug:
        msg: "REPORT {{ [case.name, ansible_failed_result | combine({'result': webhook_certificate_result})] | to_json }}"
"""


def test_an_unknown_signer_writes_nothing(rig: CertificateRoleRig, tmp_path: Path) -> None:
    """Each failure is one line with the evidence, and the facts are those of the failure."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    (rig.directory / "refused.yml").write_text(REFUSED_ONE)
    start = now()
    run = rig.play(REFUSED, "-e", f"bare_python={bare}")
    assert run.status == 0, run.output
    found = run.reports()
    assert {name: entry["code"] for name, entry in found.items()} == {
        "unknown": "signer-not-known",
        "contradictory": "signer-not-known",
        "no such provider": "invalid-input",
        "probe": "invalid-input",
        "no library": "missing-library",
        "no signer": "signer-not-known",
    }
    assert not absent([bare, "kubernetes"], found["no library"]["cause"])
    assert "ansible_python_interpreter: '{{ ansible_playbook_python }}'" in found["no library"]["remedy"]
    assert found["unknown"]["evidence"] == [f"eks-anywhere: version {find('eks').version}"]
    assert [text.split(":")[0] for text in found["contradictory"]["evidence"][:2]] == ["one", "two"]
    assert "eks-anywhere" in found["no such provider"]["remedy"]
    assert "k8s_signer_probe" in found["probe"]["remedy"]
    assert {name: (entry["result"]["changed"], entry["result"]["code"]) for name, entry in found.items()} == {
        name: (False, entry["code"]) for name, entry in found.items()
    }
    assert all("\n" not in value["msg"] for value in found.values())
    assert rig.writes(start) == []


DELEGATED = """
- hosts: clusters
  gather_facts: false
  module_defaults:
    group/certflow.kubernetes.k8s:
      kubeconfig: "{{ the_kubeconfig }}"
      context: nowhere
  vars:
    webhook_certificate_context: "{{ inventory_hostname }}"
    webhook_certificate_secret: {name: delegated}
  tasks:
    - ansible.builtin.import_role: {name: certflow.kubernetes.webhook_certificate}
      delegate_to: localhost
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname ~ ' import', webhook_certificate_result] | to_json }}"
    - ansible.builtin.include_role:
        name: certflow.kubernetes.webhook_certificate
        apply: {delegate_to: localhost}
    - ansible.builtin.debug:
        msg: "REPORT {{ [inventory_hostname ~ ' include', webhook_certificate_result] | to_json }}"
"""


def test_the_role_with_delegation(rig: CertificateRoleRig) -> None:
    """The hosts cannot be reached. module_defaults supply the options that the role does not set."""
    run = rig.play(DELEGATED, "-vv")
    assert run.status == 0, run.output
    assert execution_modes(run) == {"in_process"}
    found = run.reports()
    assert {name: entry["changed"] for name, entry in found.items()} == {
        "onprem import": True,
        "onprem include": False,
        "eks import": True,
        "eks include": False,
    }
    for name in NAMES:
        own = f"context {name}"
        assert own in found[f"{name} import"]["cluster"]["auth_source"]
        assert rig.certificate(name, "delegated") is not None


TEXTS = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: certflow.kubernetes.webhook_certificate}
      vars:
        webhook_certificate_kubeconfig: "{{ the_kubeconfig }}"
        webhook_certificate_context: onprem
        webhook_certificate_secret: {name: texts}
    - ansible.builtin.debug: {msg: "REPORT {{ ['texts', webhook_certificate_result] | to_json }}"}
    - ansible.builtin.debug: {msg: changed}
      when: webhook_certificate_result is changed
"""
STRUCTURED = ("secret", "targets", "providers", "probe")
IN_THE_PLAY = ("kubeconfig", "context")


def empty_texts() -> dict[str, str]:
    """Return every variable that may be an empty text and that the play does not set."""
    defaults = yaml.safe_load((REPOSITORY / "roles/webhook_certificate/defaults/main.yml").read_text())
    empty = {name: "" for name in defaults if not name.endswith((*STRUCTURED, *IN_THE_PLAY))}
    assert len(empty) >= 18
    return empty


def test_booleans_and_numbers_as_texts(rig: CertificateRoleRig) -> None:
    """`-e` makes texts of booleans and numbers.

    One run requests, another user approves, a later run completes.
    """
    cluster = rig.fleet["onprem"]
    first = rig.play(TEXTS, "-e", "webhook_certificate_approve=false webhook_certificate_wait=no")
    assert first.status == 0, first.output
    report = first.reports()["texts"]
    assert (report["pending"], report["csr"]["condition"]) == (True, "Pending")
    assert rig.certificate("onprem", "texts") is None

    request = cluster.api("GET", f"{REQUESTS}/{report['csr']['name']}")
    request["status"]["conditions"] = [{"type": "Approved", "status": "True", "reason": "T", "message": "t"}]
    cluster.api("PUT", f"{REQUESTS}/{report['csr']['name']}/approval", request)
    texts = "webhook_certificate_approve=no webhook_certificate_allow_client_identity=no"
    second = rig.play(TEXTS, "-e", json.dumps(empty_texts()), "-e", texts)
    assert second.status == 0, second.output
    assert second.reports()["texts"]["csr"]["name"] == report["csr"]["name"]
    third = rig.play(TEXTS, "-e", json.dumps(empty_texts()))
    assert third.status == 0, third.output
    assert not third.reports()["texts"]["pending"]
    found = rig.certificate("onprem", "texts")
    assert found is not None
    assert (
        found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        == f"system:node:hook.{rig.name}.svc"
    )
