# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the playbooks for a fleet, and check that the report has each cluster's outcome."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.api_server import ScriptedAnswer, ScriptedServer, serving
from tests.support.awx import example
from tests.support.certificates.server_pki import ca, leaf
from tests.support.failures import absent
from tests.support.fleet.fleet_files import BY_HELM, DEPLOYMENTS, kubeconfig
from tests.support.permissions.policies import denying
from tests.support.playbooks import playbook
from tests.support.rig import written
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.webhooks import called_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet
    from tests.support.playbooks.playbook import PlaybookRun

CERTIFICATES = Path("certflow.kubernetes.certificates")
UPGRADE = Path("certflow.kubernetes.upgrade")
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
# Host -> its cluster, and its first outcome.
HOSTS = {
    "well-1": ("onprem", "changed"),
    "well-2": ("eks", "changed"),
    "canary": ("onprem", "failed"),  # a user without permissions
    "dead": ("", "unreachable"),
    "owned": ("eks", "refused"),
}


class FleetRig:
    """Contexts of two clusters in one kubeconfig, an inventory of them, and a namespace on both."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.name = f"fleet-{uuid.uuid4().hex[:8]}"
        # Hosts that are not of the clusters -> kubeconfig.
        self.others: dict[str, Path] = {}
        # A separate user, so that the audit log shows which requests are from the play.
        self.user = f"{self.name}-admin"
        self.parts = {
            name: entry.kubeconfig_for(self.user, ["system:masters"]) for name, entry in fleet.items()
        }
        for cluster in fleet.values():
            cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
        for host, (cluster_name, _status) in HOSTS.items():
            if cluster_name:
                fleet[cluster_name].api("POST", HOOKS, self._hook(host))

    def _hook(self, host: str) -> dict[str, Any]:
        marks = {"cert-manager.io/inject-ca-from": "team/webhook"} if host == "owned" else {}
        webhook = called_objects.webhook("hook.certflow.test", called_objects.service(self.name, host))
        return called_objects.configuration(f"{self.name}-{host}", webhook, annotations=marks)

    def close(self) -> None:
        for host, (cluster_name, _status) in HOSTS.items():
            if cluster_name:
                self.fleet[cluster_name].api("DELETE", f"{HOOKS}/{self.name}-{host}")
        for cluster in self.fleet.values():
            cluster.api("DELETE", f"/api/v1/namespaces/{self.name}")

    def bundle(self, host: str) -> str:
        """Return the CA that the host's webhook trusts."""
        cluster = self.fleet[HOSTS[host][0]]
        webhook = cluster.api("GET", f"{HOOKS}/{self.name}-{host}")["webhooks"][0]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()

    def play(self, name: Path, *arguments: str, order: tuple[str, ...] = tuple(HOSTS)) -> PlaybookRun:
        """Run a playbook of the collection on the hosts, in this order."""
        (self.directory / "kubeconfig").write_text(
            yaml.safe_dump(kubeconfig({host: self._part(host) for host in order}))
        )
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (self.directory / "clusters.yml").write_text(yaml.safe_dump(inventory))
        group_vars = {
            "webhook_certificate_service": "{{ inventory_hostname }}",
            "webhook_certificate_namespace": self.name,
            "webhook_certificate_secret": {"name": "{{ inventory_hostname }}"},
            "webhook_certificate_targets": [{"kind": "ValidatingWebhookConfiguration", "name": f"{self.name}-{{{{ inventory_hostname }}}}"}],
        }  # fmt: skip
        (self.directory / "group_vars").mkdir(exist_ok=True)
        (self.directory / "group_vars" / "clusters.yml").write_text(yaml.safe_dump(group_vars))
        (self.directory / "report.json").unlink(missing_ok=True)
        command = ["-i", "clusters.yml", "-e", "certflow_report=report.json", *arguments]
        return playbook.play(self.directory, name, *command)

    def _part(self, host: str) -> Path:
        if host in self.others:
            return self.others[host]
        name = HOSTS[host][0] or "onprem"
        return (
            self.fleet[name].kubeconfig_for(f"{self.name}-powerless")
            if host == "canary"
            else self.parts[name]
        )

    def report(self) -> dict[str, str]:
        """Return the status of each cluster from the report file."""
        return {name: outcome["status"] for name, outcome in self.outcomes().items()}

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Return the outcome of each cluster from the report file."""
        return report_of(self.directory)


def report_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the clusters of the report in a directory, by host."""
    rows = json.loads((directory / "report.json").read_text())["clusters"]
    return {row["name"]: row for row in rows}


@pytest.fixture(scope="module")
def rig(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetRig]:
    made = FleetRig(fleet, tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


def test_a_failed_canary_ends_the_run(rig: FleetRig) -> None:
    """The stages and the budget are the default ones.

    No cluster after the canary has a write, and the report says so.
    """
    run = rig.play(CERTIFICATES, order=("canary", "well-1", "dead", "owned", "well-2"))
    assert run.status == 2, run.output
    assert rig.report() == {
        "canary": "failed",
        **dict.fromkeys(("well-1", "dead", "owned", "well-2"), "not started"),
    }
    assert run.recap("failed") == 5, run.output  # so that AWX and --limit @retry run exactly these again
    assert not absent(["canary"], rig.outcomes()["well-2"]["reason"])
    assert not absent(["canary:", "well-2:"], run.output)
    assert rig.bundle("well-1") == ""


# Stages, and the order of hosts. In the first row every cluster of the first stage fails, in the second one that of the last
# stage. Plain plays would end there.
STAGES = (
    (
        ({"name": "first", "hosts": "dead"}, {"name": "all", "hosts": "rest", "max_concurrency": 2}),
        tuple(HOSTS),
    ),
    (({"name": "first", "hosts": "rest"}, {"name": "last", "hosts": "dead:canary"}), tuple(reversed(HOSTS))),
)


@pytest.mark.parametrize(("stages", "order"), STAGES)
def test_every_outcome_is_in_the_report(
    rig: FleetRig, stages: tuple[dict[str, Any], ...], order: tuple[str, ...]
) -> None:
    before = {host: rig.bundle(host) for host in ("well-1", "well-2")}
    arguments = ("-e", json.dumps({"certflow_stages": stages}))
    run = rig.play(CERTIFICATES, *arguments, "-e", "certflow_max_failures=5", order=order)
    assert run.status == 2, run.output
    wanted = {host: status for host, (_cluster, status) in HOSTS.items()}
    wanted |= {host: "ok" for host, bundle in before.items() if bundle}
    assert rig.report() == wanted, run.output
    assert rig.outcomes()["dead"]["stage"] in ("first", "last")
    assert rig.outcomes()["owned"]["code"] == "owned-by-another"
    assert rig.outcomes()["dead"]["code"] == "unreachable"
    assert run.recap("failed") == 3, run.output
    assert run.recap("unreachable") == 0, run.output
    for host in before:
        assert rig.bundle(host) == rig.fleet[HOSTS[host][0]].ca_pem
    assert rig.bundle("owned") == ""
    assert "PRIVATE KEY" not in run.output


def test_check_mode_with_a_pattern_and_a_limit(rig: FleetRig) -> None:
    """--limit leaves localhost out, and the checks work without it."""
    run = rig.play(
        CERTIFICATES, "--check", "-e", "certflow_hosts=clusters:!canary", "--limit", "well-1,canary"
    )
    assert run.status == 0, run.output
    assert rig.report() == {"well-1": "planned"}
    assert with_results(run) == {"well-1"}, "a host that is not of the run would turn green in AWX"
    none = rig.play(CERTIFICATES, "-e", "certflow_hosts=canary", "--limit", "well-1")
    assert none.status != 0, none.output
    assert not absent(["certflow_hosts:"], none.output)
    assert with_results(none) == set()
    assert not (rig.directory / "report.json").exists()


def with_results(run: PlaybookRun) -> set[str]:
    """Return the hosts that have a result, which are those of Ansible's statistics."""
    return set(re.findall(r"^(\S+) +: ok=", run.output.rpartition("PLAY RECAP")[2], re.MULTILINE))


# Tag -> status and code for a cluster without a snapshot controller, so there is nothing to verify.
READING_TAGS = {
    "plan": ("planned", ""),
    "verify": ("failed", "verification-failed"),
}


@pytest.mark.parametrize("tag", READING_TAGS)
def test_a_tag_that_only_reads_writes_nothing(rig: FleetRig, tmp_path: Path, tag: str) -> None:
    """Run the playbook, because the tasks of the included role would inherit a tag of the block around it."""
    since = datetime.now(timezone.utc)
    with release_server("8.7.0") as source:
        variables = upgrade_to("8.7.0", source, tmp_path)
        run = rig.play(UPGRADE, "--tags", tag, "-e", json.dumps(variables), order=("well-1",))
    assert [written(cluster, rig.user, since) for cluster in rig.fleet.values()] == [[], []]
    outcome = rig.outcomes()["well-1"]
    assert (outcome["status"], outcome["code"]) == READING_TAGS[tag], run.output
    assert run.status == (0 if outcome["status"] == "planned" else 2), run.output


def test_a_tag_that_the_role_does_not_have_is_not_a_success(rig: FleetRig) -> None:
    since = datetime.now(timezone.utc)
    run = rig.play(CERTIFICATES, "--tags", "plan", order=("well-1", "well-2"))
    assert [written(cluster, rig.user, since) for cluster in rig.fleet.values()] == [[], []]
    assert run.status == 0, run.output
    assert rig.report() == {"well-1": "skipped", "well-2": "skipped"}, run.output
    assert "did not run, and nothing was written" in rig.outcomes()["well-1"]["reason"]


def upgrade_to(release: str, source: str, place: Path) -> dict[str, Any]:
    """Return the variables of an upgrade with its files below a place. No pod starts here, so the waits are short."""
    return {
        "snapshot_controller_version": release,
        "snapshot_controller_source": source,
        "snapshot_controller_cache_directory": str(place),
        "snapshot_controller_backup": str(place),
        "snapshot_controller_step_timeout": 20,
        "snapshot_controller_accept": ["kubectl"],
    }


def test_two_hosts_of_one_cluster_are_not_upgraded(rig: FleetRig, tmp_path: Path) -> None:
    """The second host is refused, also if the first one fails. Another test permits two hosts with one UID."""
    order = ("well-2", "owned")
    since = datetime.now(timezone.utc)
    with release_server("8.7.0") as source:
        variables = upgrade_to("8.7.0", source, tmp_path)
        run = rig.play(UPGRADE, "--check", "-e", json.dumps(variables), order=order)
    assert [written(cluster, rig.user, since) for cluster in rig.fleet.values()] == [[], []]
    assert run.status == 2, run.output
    assert rig.report() == {"well-2": "planned", "owned": "refused"}, run.output
    assert rig.outcomes()["owned"]["code"] == "same-cluster"
    assert "hosts well-2 and owned mean the same cluster" in rig.outcomes()["owned"]["reason"]
    assert run.recap("failed") == 1, run.output


def test_two_hosts_of_one_cluster_do_not_share_a_secret(rig: FleetRig) -> None:
    shared = json.dumps({"webhook_certificate_secret": {"name": "shared"}})
    # One at a time, because the host that claims the cluster first runs.
    arguments = ("--check", "--forks", "1", "-e", shared, "-e", "certflow_max_failures=9")
    order = ("canary", "well-1", "well-2", "owned")
    run = rig.play(CERTIFICATES, *arguments, order=order)
    assert rig.outcomes()["owned"]["code"] == "same-cluster", run.output
    assert rig.report()["well-2"] == "planned", run.output
    assert f"the same Secret {rig.name}/shared" in rig.outcomes()["owned"]["reason"]
    allowed = rig.play(CERTIFICATES, *arguments, "-e", "certflow_allow_shared_cluster=true", order=order)
    assert rig.report()["well-1"] == "planned", allowed.output
    assert "not started" not in rig.report().values(), allowed.output


KUBE_SYSTEM = "/api/v1/namespaces/kube-system"


class Impostor(ScriptedServer):
    """An API server that reports the UID of another cluster, and refuses everything else."""

    def __init__(self, uid: str) -> None:
        super().__init__([])
        self.uid = uid

    def next(self) -> ScriptedAnswer:
        if self.requests[-1].path == KUBE_SYSTEM:
            return ScriptedAnswer(
                body={"kind": "Namespace", "metadata": {"name": "kube-system", "uid": self.uid}}
            )
        status = {"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "no"}
        return ScriptedAnswer(403, status)

    def kubeconfig(self, directory: Path) -> Path:
        """Write the kubeconfig. The server has a CA of its own."""
        authority = base64.b64encode(ca("impostor").certificate.encode()).decode()
        content = {
            "clusters": [{"cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"user": {"token": "impostor"}}],
            "contexts": [{}],
        }
        path = directory / "impostor.yml"
        path.write_text(yaml.safe_dump(content))
        return path


def test_a_cluster_that_repeats_the_uid_of_another_one_does_not_stop_it(rig: FleetRig) -> None:
    """The hostile cluster comes first. Another context of the real cluster is refused all the same."""
    uid = rig.fleet["onprem"].api("GET", KUBE_SYSTEM)["metadata"]["uid"]
    shared = json.dumps({"webhook_certificate_secret": {"name": "shared"}})
    arguments = ("--check", "--forks", "1", "-e", shared, "-e", "certflow_max_failures=9")
    with serving(tls=leaf("impostor", ca("impostor")), by=Impostor(uid)) as server:
        assert isinstance(server, Impostor)
        rig.others = {"hostile": server.kubeconfig(rig.directory), "again": rig.parts["onprem"]}
        run = rig.play(CERTIFICATES, *arguments, order=("well-2", "hostile", "well-1", "again"))
        assert f"GET {KUBE_SYSTEM}" in server.paths()
    found = rig.outcomes()
    assert found["hostile"]["uid"] == uid == found["well-1"]["uid"], run.output
    assert found["well-1"]["status"] == "planned", run.output
    assert found["again"]["code"] == "same-cluster", run.output
    warning = run.output.partition("[WARNING]: hosts")[2].partition("\n\n")[0]
    assert not absent(["hostile", "well-1", uid], " ".join(warning.split())), run.output


EVIL = "{{ lookup('ansible.builtin.pipe', 'touch evaluated') }}"
#: Refuses Secrets with a message that is a template to Ansible.
EVIL_RULE = {"apiGroups": [""], "operations": ["CREATE"], "resources": ["secrets"]}


def wait_until_refused(cluster: Cluster, namespace: str) -> None:
    """Wait until the API server enforces the policy."""
    path = f"/api/v1/namespaces/{namespace}/secrets?dryRun=All"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            cluster.api("POST", path, {"metadata": {"name": "tried"}})
        except clusters.AdminApiError:
            return
        time.sleep(0.5)
    pytest.fail("the policy is not enforced")


def test_messages_of_an_api_server_are_not_templates(rig: FleetRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job, which gets the artifact as extra variables, does not render them either."""
    monkeypatch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "true")
    secret = json.dumps({"webhook_certificate_secret": {"name": "refused"}})
    answer = {"expression": "false", "message": EVIL}
    with denying(rig.fleet["onprem"], f"{rig.name}-evil", EVIL_RULE, namespace=rig.name, **answer):
        wait_until_refused(rig.fleet["onprem"], rig.name)
        run = rig.play(CERTIFICATES, "-e", secret, order=("well-1",))
    assert run.status == 2, run.output
    assert not (rig.directory / "evaluated").exists(), run.output
    assert EVIL in rig.outcomes()["well-1"]["reason"], run.output
    assert "lookup('ansible.builtin.pipe'" in run.output.rpartition("[Show the summary of the run]")[2]
    artifact = json.loads(run.output.rpartition("RUN: ")[2].splitlines()[0])
    assert "lookup('ansible.builtin.pipe'" in artifact["certflow_report_cli"]["well-1"]["reason"]
    extra = json.dumps(
        {"certflow_report_7": artifact["certflow_report_cli"], "certflow_required_job": "fleet"}
    )
    report = playbook.play(rig.directory, example.FOLDER / "report.yml", "-e", extra)
    assert not absent(["well-1", "refused"], report.output), report.output
    tasks = [{"ansible.builtin.debug": {"msg": "{{ certflow_report_7 }}"}}]
    plays = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    report = playbook.play(rig.directory, plays, "-e", extra)
    assert report.status == 0, report.output
    assert "lookup('ansible.builtin.pipe'" in report.output
    assert not (rig.directory / "evaluated").exists(), report.output


def test_the_upgrade_playbook_in_check_mode(rig: FleetRig, tmp_path: Path) -> None:
    """One cluster can be upgraded, one is managed by Helm, and one does not answer."""
    path = DEPLOYMENTS.format(rig.name)
    rig.fleet["eks"].api("POST", path, BY_HELM)
    with release_server("8.7.0") as source:
        variables = upgrade_to("8.7.0", source, tmp_path) | {"certflow_max_failures": 2}
        order = ("well-1", "owned", "dead")
        run = rig.play(UPGRADE, "--check", "-e", json.dumps(variables), order=order)
    rig.fleet["eks"].api("DELETE", f"{path}/snapshot-controller")
    assert rig.report() == {"well-1": "planned", "owned": "refused", "dead": "unreachable"}, run.output
    assert run.status == 2, run.output
    codes = {host: outcome["code"] for host, outcome in rig.outcomes().items()}
    assert codes == {"well-1": "", "owned": "upgrade-refused", "dead": "unreachable"}
    assert "Helm" in rig.outcomes()["owned"]["reason"]


SECRET = {"webhook_certificate_secret": {"name": "tls"}, "webhook_certificate_namespace": "apps"}
COMPLETE = ("-e", json.dumps({**SECRET, "webhook_certificate_service": "hook"}))
RELEASE = ("-e", "snapshot_controller_version=8.7.0")
A, LOCALHOST, NO_HOST = {"a"}, {"localhost"}, set[str]()
# A variable for each host, taken from a map in which b is missing.
MAPPED = ("-i", "mapped", "-e", "certflow_kubeconfig=k")
GUARDED = ("-i", "guarded")
# Variables that are wrong in a way of their own. One run names all of them.
WRONG = {
    "certflow_stages": [{"name": "one", "hosts": "rest", "soak": "long"}],
    "certflow_max_failures": "some",
    "certflow_report": "~nosuchuser/r.json",
    "certflow_window": [],
    "webhook_certificate_service": "",
    "webhook_certificate_targts": 1,
}
WORDS = (
    "soak",
    "'long'.",
    "'some'.",
    "~nosuchuser/r.json",
    "webhook_certificate_targets?",
    *sorted(WRONG.keys() - {"certflow_stages"}),
)
# Playbook, arguments, names in the message, the hosts that have a result.
BAD: tuple[tuple[Path, tuple[str, ...], tuple[str, ...], set[str]], ...] = (
    (CERTIFICATES, ("-e", "certflow_hosts=prod-*"), ("certflow_hosts:", "prod-*"), LOCALHOST),
    (CERTIFICATES, ("-e", "certflow_hosts=", "--limit", "a"), ("certflow_hosts",), NO_HOST),
    (CERTIFICATES, ("-i", "only_d"), ("certflow_hosts", "d,"), A),
    (CERTIFICATES, (*COMPLETE, "-e", '{"certflow_stages": [{"name": "one", "hosts": "a"}]}'), ("b.",), A),
    (CERTIFICATES, (*COMPLETE, "-e", json.dumps(WRONG)), WORDS, A),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_until=everything"), ("everything", "canary"), A),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_run_file=/dev/null/run"), ("/dev/null/run",), A),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_report=/dev/null/report.json"), ("/dev/null",), A),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_hosts=a,d"), ("d.",), A),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_hosts=d"), ("certflow_context", "d."), {"d"}),
    (CERTIFICATES, (*COMPLETE, "-i", "slice", "-e", "awx_job_id=7"), ("certflow_context", "d."), {"d"}),
    (CERTIFICATES, (*COMPLETE, *MAPPED), ("certflow_context", "b"), A),
    (CERTIFICATES, (*COMPLETE, *MAPPED, "--limit", "b"), ("certflow_context", "b"), {"b"}),
    (CERTIFICATES, (*COMPLETE, *GUARDED), ("certflow_cluster_uid", "b"), A),
    (UPGRADE, (), ("snapshot_controller_version",), A),
    (UPGRADE, ("-e", "snapshot_controller_version=8.9.9"), ("8.9.9",), A),
    (UPGRADE, ("-e", "snapshot_controller_version=8.6.0 snapshot_controller_source=."), ("8.6.0",), A),
)  # fmt: skip
# Rows that take the way of another row. Only `make test-all` runs them.
LIKE_BAD = (
    (CERTIFICATES, ("-e", "certflow_hosts="), ("certflow_hosts",), LOCALHOST),
    (CERTIFICATES, (*COMPLETE, "-e", "certflow_hosts=all", "--limit", "d"), ("certflow_context", "d."), {"d"}),
    (UPGRADE, ("-e", "snapshot_controller_version="), ("snapshot_controller_version",), A),
    (UPGRADE, (*RELEASE, "-e", "certflow_hosts=a,d"), ("d.",), A),
)  # fmt: skip
# Ansible writes these texts around the message of a lookup that fails.
WRAPPERS = ("unhandled exception", "The lookup plugin", "running the lookup plugin", "caused by")
# The first host of the inventory, a, is not in the pattern clusters of some rows. The host d names no
# cluster.
INVENTORY = (
    "[others]\nz certflow_context=z\n[clusters]\na certflow_context=a\nb certflow_context=b\n[unnamed]\nd\n"
)


def without_cluster(place: Path, name: Path, *arguments: str, **environment: str) -> PlaybookRun:
    """Run a playbook on hosts whose kubeconfig does not exist."""
    (place / "hosts").write_text(INVENTORY)
    (place / "slice").write_text("[clusters]\nd\n")
    (place / "only_d").write_text(f"{INVENTORY}[all:vars]\ncertflow_hosts=d\n")
    named = "[clusters]\na\nb\n[clusters:vars]\nmap={'a': 'a'}\n"
    (place / "mapped").write_text(f"{named}certflow_context={{{{ map[inventory_hostname] }}}}\n")
    guard = "certflow_cluster_uid={{ map[inventory_hostname] }}\n"
    (place / "guarded").write_text(f"{named}certflow_context=c\n{guard}")
    inventory = () if "-i" in arguments else ("-i", "hosts")
    return playbook.play(
        place, name, *inventory, *arguments, KUBECONFIG="absent", COLUMNS="500", **environment
    )


@pytest.mark.parametrize(
    ("name", "arguments", "names", "hosts"),
    [*BAD, *(pytest.param(*row, marks=pytest.mark.full) for row in LIKE_BAD)],
)
def test_invalid_settings_are_reported_before_any_cluster_is_contacted(
    name: Path, arguments: tuple[str, ...], names: tuple[str, ...], hosts: set[str], tmp_path: Path
) -> None:
    """The message has one line. Only a host of the run has a result, or localhost if the run has no host."""
    run = without_cluster(tmp_path, name, *arguments)
    assert run.status != 0, run.output
    assert not absent(names, run.output), run.output
    assert "Work on one stage" not in run.output
    # Without a host no task can fail, so the message is Ansible's, about the keyword hosts.
    assert not hosts or all(text not in run.output for text in WRAPPERS), run.output
    assert with_results(run) == hosts, run.output


@pytest.mark.parametrize("strategy", ["free", pytest.param("host_pinned", marks=pytest.mark.full)])
def test_another_strategy_of_the_user_is_not_used(strategy: str, tmp_path: Path) -> None:
    arguments = (*COMPLETE, "-e", "certflow_report=report.json certflow_max_failures=9")
    run = without_cluster(tmp_path, CERTIFICATES, *arguments, ANSIBLE_STRATEGY=strategy)
    report = report_of(tmp_path)
    assert {name: entry["status"] for name, entry in report.items()} == {"a": "failed", "b": "not started"}, (
        run.output
    )
    assert with_results(run) == {"a", "b"}, run.output


def test_the_only_host_of_an_inventory_may_take_its_cluster_from_the_environment(
    rig: FleetRig, tmp_path: Path
) -> None:
    variables = json.dumps(
        {**SECRET, "webhook_certificate_service": "hook", "webhook_certificate_namespace": "default"}
    )
    (tmp_path / "hosts").write_text("[clusters]\nd\n")
    arguments = ("-i", "hosts", "--check", "-e", variables)
    run = playbook.play(tmp_path, CERTIFICATES, *arguments, KUBECONFIG=str(rig.parts["onprem"]))
    assert (run.status, run.recap("failed")) == (0, 0), run.output
    assert "d:" in run.output, run.output


def test_an_inventory_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    """Ansible itself only warns, and would succeed without any host."""
    (tmp_path / "clusters.yml").write_text("plugin: certflow.kubernetes.kubeconfig\nkubeconfig: absent\n")
    run = playbook.play(tmp_path, CERTIFICATES, "-i", "clusters.yml", COLUMNS="500")
    assert run.status == 2, run.output
    assert not absent(["absent:", "inventory", "certflow.kubernetes.kubeconfig", "clusters.yml"], run.output)
