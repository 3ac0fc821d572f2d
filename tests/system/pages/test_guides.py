# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the commands of the tutorial and of the guides as printed.

Substitutions: a test cluster for kind, and the collection of this repository for Galaxy (blocks `console`).
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support import clusters
from tests.support.clusters import build, pki
from tests.support.other_client import OtherClient
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out, shell
from tests.support.permissions import rbac
from tests.support.playbooks import playbook
from tests.support.webhooks import called_objects, snapshot_webhook
from tests.support.webhooks.bundle_rig import MUTATING, PATHS, VALIDATING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

NAME = "audit-webhook"
SCHEDULING = page_files.GUIDES / "guide_scheduling.rst"
SECRET = "/api/v1/namespaces/{}/secrets/{}"


def configuration(**client: str) -> dict[str, object]:
    """Return the webhook configuration of the guides. It matches no object. client: keys beside the Service."""
    config = {**called_objects.service("kube-system", NAME), **client}
    webhook = called_objects.webhook("audit-webhook.example.com", config, failurePolicy="Ignore")
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": VALIDATING}
    return {**kind, **called_objects.configuration(NAME, webhook)}


def bundle(cluster: Cluster) -> str:
    found = cluster.api("GET", f"{PATHS[VALIDATING]}/{NAME}")
    return base64.b64decode(found["webhooks"][0]["clientConfig"].get("caBundle", "")).decode()


def exists(cluster: Cluster, path: str) -> bool:
    try:
        cluster.api("GET", path)
    except clusters.AdminApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def delete(cluster: Cluster, *paths: str) -> None:
    for path in paths:
        if exists(cluster, path):
            cluster.api("DELETE", path)


@pytest.fixture
def webhook(fleet: Fleet) -> Iterator[Fleet]:
    """Clusters with the webhook configuration of the guides."""
    for cluster in fleet.values():
        cluster.api("POST", PATHS[VALIDATING], configuration())
    try:
        yield fleet
    finally:
        for cluster in fleet.values():
            delete(cluster, f"{PATHS[VALIDATING]}/{NAME}", SECRET.format("kube-system", "audit-webhook-tls"))


def test_the_tutorial_as_printed(fleet: Fleet, tmp_path: Path) -> None:
    guide, cluster = page_files.GUIDES / "tutorial_first_certificate.rst", fleet["onprem"]
    lay_out(guide, tmp_path)
    commands = page_files.commands(guide)
    removal = next(number for number, command in enumerate(commands) if "delete -f webhook.yml" in command)
    changed, serials = [], []
    try:
        for command in commands[:removal]:
            output = shell(cluster.kubeconfig, tmp_path, command)
            if command.startswith("ansible-playbook"):
                changed += re.findall(r"changed=(\d)", output)
            if exists(cluster, SECRET.format("audit", "audit-webhook-tls")):
                serials.append(
                    cluster.api("GET", SECRET.format("audit", "audit-webhook-tls"))["data"]["tls.crt"]
                )
        assert changed == ["1", "1", "0", "1"]  # check, run, again, renewal
        assert len(set(serials)) == 2
        assert bundle(cluster) == cluster.ca_pem
        deleted, removed, *rest = commands[removal:]
        shell(cluster.kubeconfig, tmp_path, deleted)
        assert not exists(cluster, f"{PATHS[VALIDATING]}/{NAME}")
        shell(cluster.kubeconfig, tmp_path, removed)
        assert not exists(cluster, SECRET.format("audit", "audit-webhook-tls"))
        for command in rest:
            shell(cluster.kubeconfig, tmp_path, command)
    finally:
        delete(cluster, f"{PATHS[VALIDATING]}/{NAME}")


@pytest.mark.full
def test_the_fleet_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    guide = page_files.GUIDES / "guide_fleet.rst"
    lay_out(guide, tmp_path)
    shutil.rmtree(tmp_path / "group_vars")  # examples of other signers
    (tmp_path / ".kube").mkdir()
    shutil.copy(webhook.merged_kubeconfig, tmp_path / ".kube" / "fleet.yml")
    *commands, own_play = (command for command in page_files.commands(guide) if "rollout.yml" not in command)
    drift = re.search(r"^ +(ansible-playbook .*fail_on_change.*)$", SCHEDULING.read_text(), re.MULTILINE)
    assert drift
    assert "would change" in shell(tmp_path / "none", tmp_path, drift[1], status=2)
    for command in commands:
        shell(tmp_path / "none", tmp_path, command)
    assert "changed=0" in shell(tmp_path / "none", tmp_path, own_play)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {row["name"]: row["status"] for row in report["clusters"]} == dict.fromkeys(webhook, "changed")
    assert all("BEGIN CERTIFICATE" in bundle(cluster) for cluster in webhook.values())


@pytest.mark.full
def test_the_rollout_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    """Plan, the planned run, the canary, the whole fleet. Without a soak, because the webhook of the guides has no pods."""
    guide = page_files.GUIDES / "guide_fleet.rst"
    lay_out(guide, tmp_path)
    shutil.rmtree(tmp_path / "group_vars")  # examples of other signers and of a window
    rollout = tmp_path / "rollout.yml"
    rollout.write_text(rollout.read_text().replace("soak: 30m", "soak: 0"))
    (tmp_path / ".kube").mkdir()
    shutil.copy(webhook.merged_kubeconfig, tmp_path / ".kube" / "fleet.yml")
    plan, planned, canary, whole = (
        command for command in page_files.commands(guide) if "rollout.yml" in command
    )
    shell(tmp_path / "none", tmp_path, plan)
    assert not any(bundle(cluster) for cluster in webhook.values())
    report = json.loads((tmp_path / "plan.json").read_text())
    assert {row["name"]: row["status"] for row in report["clusters"]} == dict.fromkeys(webhook, "planned")
    shell(tmp_path / "none", tmp_path, planned)
    assert all("BEGIN CERTIFICATE" in bundle(cluster) for cluster in webhook.values())
    shell(tmp_path / "none", tmp_path, planned)  # less to do is no difference
    assert finished(shell(tmp_path / "none", tmp_path, canary)) == {"onprem"}
    assert finished(shell(tmp_path / "none", tmp_path, whole)) == set(webhook)


def finished(output: str) -> set[str]:
    """Return the hosts in the lines of progress."""
    return set(re.findall(r"^\[\d+/\d+\] ([\w.-]+) ", output, re.MULTILINE))


@pytest.mark.full
def test_the_approval_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    guide, cluster = page_files.GUIDES / "guide_approval.rst", webhook["onprem"]
    lay_out(guide, tmp_path)
    request, approve, complete = page_files.commands(guide)
    output = shell(cluster.kubeconfig, tmp_path, request)
    assert not exists(cluster, SECRET.format("kube-system", "audit-webhook-tls"))
    name = re.search(r"Approve (certflow-[\w.-]+)", output)
    assert name, output
    approver = cluster.kubeconfig_for("approver", ["system:masters"])
    shell(approver, tmp_path, approve.replace("NAME", name[1]))
    shell(cluster.kubeconfig, tmp_path, complete)
    assert bundle(cluster) == cluster.ca_pem
    assert exists(cluster, SECRET.format("kube-system", "audit-webhook-tls"))


@pytest.mark.full
def test_the_watch_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    guide, cluster = SCHEDULING, webhook["onprem"]
    lay_out(guide, tmp_path)
    (command,) = page_files.commands(guide)
    shell(cluster.kubeconfig, tmp_path, command)
    shell(cluster.kubeconfig, tmp_path, command)  # a run that keeps the certificate
    play = tmp_path / "watch.yml"
    play.write_text(play.read_text().replace(">= 21", ">= 2100"))
    assert "The certificate expires on 20" in shell(cluster.kubeconfig, tmp_path, command, status=2)


@pytest.mark.full
def test_one_cluster_with_the_built_in_credential_of_awx(webhook: Fleet, tmp_path: Path) -> None:
    """AWX sets these variables for its type "OpenShift or Kubernetes API Bearer Token"."""
    guide, cluster = page_files.GUIDES / "guide_awx.rst", webhook["onprem"]
    lay_out(guide, tmp_path)
    binding = rbac.make_administrator(cluster, NAME, "default")
    kubeconfig = yaml.safe_load(cluster.token_kubeconfig(NAME).read_text())
    try:
        (tmp_path / "ca.pem").write_text(cluster.ca_pem)
        credential = {
            "K8S_AUTH_HOST": cluster.url,
            "K8S_AUTH_API_KEY": kubeconfig["users"][0]["user"]["token"],
            "K8S_AUTH_VERIFY_SSL": "True",
            "K8S_AUTH_SSL_CA_CERT": str(tmp_path / "ca.pem"),
        }
        arguments = ("-i", "localhost,", "certificate.yml")
        run = playbook.play(
            tmp_path, tmp_path / arguments[-1], *arguments[:-1], HOME=str(tmp_path), **credential
        )
        assert run.status == 0, run.output
        assert bundle(cluster) == cluster.ca_pem
    finally:
        delete(cluster, binding)


def test_the_first_audit_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    """The login is that of the current context, and the cluster is not written."""
    (command,) = page_files.commands(page_files.GUIDES / "tutorial_first_audit.rst")
    since = datetime.datetime.now(datetime.timezone.utc)
    output = shell(webhook["onprem"].kubeconfig, tmp_path, command)
    assert NAME in (tmp_path / "audit.html").read_text(), output
    writes = [
        event
        for event in webhook["onprem"].requests(since=since)
        if event["verb"] in ("patch", "update", "delete")
    ]
    assert not [event for event in writes if "certflow" in event["userAgent"]], writes


@pytest.mark.full
def test_a_certificate_is_taken_back_as_printed(webhook: Fleet, tmp_path: Path) -> None:
    guide, cluster = page_files.GUIDES / "guide_undo.rst", webhook["onprem"]
    lay_out(guide, tmp_path)
    check, undo, secrets, requests, managers = page_files.commands(guide)
    shell(cluster.kubeconfig, tmp_path, f"{undo} -e webhook_certificate_state=present")
    assert bundle(cluster) == cluster.ca_pem
    assert "audit-webhook-tls" in shell(cluster.kubeconfig, tmp_path, secrets)
    assert "audit-webhook" in shell(cluster.kubeconfig, tmp_path, managers)
    for command in (check, undo):
        assert "failed=0" in shell(cluster.kubeconfig, tmp_path, command)
    assert bundle(cluster) == ""
    assert not exists(cluster, SECRET.format("kube-system", "audit-webhook-tls"))
    assert "audit-webhook-tls" not in shell(cluster.kubeconfig, tmp_path, secrets)
    # The control plane deletes an issued request after an hour.
    assert "certflow-audit-webhook-kube-system" in shell(cluster.kubeconfig, tmp_path, requests)
    shell(cluster.kubeconfig, tmp_path, managers)


@pytest.mark.full
def test_the_secret_of_certgen_is_taken_over_as_printed(fleet: Fleet, tmp_path: Path) -> None:
    """The certificate comes from a CA that the cluster does not publish, as the one of certgen."""
    guide, cluster = page_files.GUIDES / "guide_replace_scripts.rst", fleet["onprem"]
    lay_out(guide, tmp_path)
    name, namespace, service = (
        "kube-prometheus-stack-admission",
        "monitoring",
        "kube-prometheus-stack-operator",
    )
    ca = pki.make_ca("certgen")
    pair = pki.issue(ca, service, ["nil2"], names=[f"{service}.{namespace}.svc"])
    texts = {"ca": ca.certificate_pem, "cert": pair.certificate_pem, "key": pair.key_pem}
    data = {key: base64.b64encode(text).decode() for key, text in texts.items()}
    places = [f"{PATHS[kind]}/{name}" for kind in (VALIDATING, MUTATING)]
    try:
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        secret = {"metadata": {"name": name}, "type": "Opaque", "data": data}
        cluster.api("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
        for kind in (VALIDATING, MUTATING):
            config = {**called_objects.service(namespace, service), "caBundle": data["ca"]}
            entry = called_objects.webhook(
                "prometheusrulemutate.monitoring.coreos.com", config, failurePolicy="Ignore"
            )
            labels = {"app.kubernetes.io/managed-by": "Helm"}
            cluster.api("POST", PATHS[kind], called_objects.configuration(name, entry, labels=labels))
        for command in page_files.commands(guide)[2:4]:
            shell(cluster.kubeconfig, tmp_path, command)
        stored = cluster.api("GET", SECRET.format(namespace, name))["data"]
        assert stored["cert"] != data["cert"]
        assert base64.b64decode(stored["ca"]).decode() == cluster.ca_pem
        for place in places:
            config = cluster.api("GET", place)["webhooks"][0]["clientConfig"]
            assert cluster.ca_pem in base64.b64decode(config["caBundle"]).decode()
    finally:
        delete(cluster, *places, SECRET.format(namespace, name))


def test_the_secret_of_create_cert_is_adopted_as_printed(fleet: Fleet, tmp_path: Path) -> None:
    guide, cluster = page_files.GUIDES / "guide_replace_scripts.rst", fleet["onprem"]
    lay_out(guide, tmp_path)
    script = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example" / "create-cert.sh"
    path = SECRET.format("kube-system", "snapshot-validation-secret")
    with snapshot_webhook.present(cluster):
        try:
            words = "--service snapshot-validation-service --secret snapshot-validation-secret --namespace kube-system"
            shell(cluster.kubeconfig, tmp_path, f"TMPDIR=$PWD bash {script} {words}")
            before = cluster.api("GET", path)["data"]
            for command in page_files.commands(guide)[:2]:
                shell(cluster.kubeconfig, tmp_path, command)
            assert cluster.api("GET", path)["data"] == before
            place = cluster.api("GET", f"{snapshot_webhook.CONFIGURATIONS}/{snapshot_webhook.NAME}")
            assert "caBundle" in place["webhooks"][0]["clientConfig"]
        finally:
            delete(cluster, path)


@pytest.mark.full
@pytest.mark.parametrize(
    ("manager", "word"), [("argocd-controller", "argocd"), ("kustomize-controller", "flux")]
)
def test_a_gitops_tool_that_applies_again(fleet: Fleet, tmp_path: Path, manager: str, word: str) -> None:
    """The play of the fleet's guide adds the CA. The tool keeps it only if its manifest has no caBundle."""
    cluster, tool = fleet["onprem"], OtherClient(manager, applies=True)
    lay_out(page_files.GUIDES / "guide_gitops.rst", tmp_path)
    accepted = tmp_path / "group_vars" / "clusters.yml"
    accepted.write_text(accepted.read_text().replace("argocd", word))
    lay_out(SCHEDULING, tmp_path)
    run = "ansible-playbook watch.yml"
    show = next(command for command in page_files.commands(page_files.GUIDES / "guide_gitops.rst"))
    try:
        tool.write(cluster, PATHS[VALIDATING], configuration())
        assert '"code": "owned-by-another"' in shell(cluster.kubeconfig, tmp_path, run, status=2)
        shell(cluster.kubeconfig, tmp_path, f"{run} -e @group_vars/clusters.yml")
        tool.write(cluster, PATHS[VALIDATING], configuration())
        assert bundle(cluster) == cluster.ca_pem
        assert "manager: certflow.kubernetes" in shell(cluster.kubeconfig, tmp_path, show)
        tool.write(cluster, PATHS[VALIDATING], configuration(caBundle=""))
        assert bundle(cluster) == ""
    finally:
        delete(cluster, f"{PATHS[VALIDATING]}/{NAME}", SECRET.format("kube-system", "audit-webhook-tls"))


@pytest.mark.full
def test_the_upgrade_is_planned_as_printed(fleet: Fleet, tmp_path: Path) -> None:
    """The last command upgrades. tests/system/upgrade/test_snapshot_upgrade.py does that with real pods."""
    guide = page_files.GUIDES / "guide_upgrade.rst"
    lay_out(guide, tmp_path)
    (tmp_path / ".kube").mkdir()
    shutil.copy(fleet.merged_kubeconfig, tmp_path / ".kube" / "fleet.yml")
    source = build.release_archives("8.7.0") / "v{version}.tar.gz"
    for command in page_files.commands(guide)[:2]:
        output = shell(tmp_path / "none", tmp_path, f"{command} -e snapshot_controller_source={source}")
        assert "8.7.0" in output
