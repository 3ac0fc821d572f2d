# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stops of an upgrade, and the state in which each of them leaves the cluster and the next run.

Each play upgrades two clusters at once, one in Ansible's process and one by the ordinary module. The clusters have no node, so
the upgrade waits for its pods until the test reports them ready. STOPS is the table of the expected states.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.release import __version__ as ansible_version

from tests.support import leases
from tests.support.clusters import AdminApiError, build, pki
from tests.support.permissions import rbac
from tests.support.playbooks import playbook
from tests.support.rig import encoded
from tests.support.upgrade import snapshot_kept, snapshot_lab, snapshot_pods
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects
from tests.support.webhooks.bundle_rig import ca, pem
from tests.support.webhooks.https_webhook import WebhookServer, allow
from tests.support.webhooks.probe_rig import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster, Fleet
    from tests.support.upgrade.snapshot_pods import Pods
    from tests.support.webhooks.https_webhook import Reply

OLD, NEW, NO_RELEASE = "7.0.2", "8.1.0", "9.9.9"
# Cluster -> execution mode of the operation on it.
MODES = {"onprem": "in_process", "eks": "module"}
# The step that waits until the pods are ready.
AT = "controller-wait"
LEASE = f"{leases.path('kube-system')}/certflow-snapshot-controller"
DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"
RECORD = "certflow.kubernetes/upgrade"
# Until ansible-core 2.18, ansible-playbook does not pass SIGTERM on to its workers.
IS_OLD_CORE = ansible_version.startswith(("2.16.", "2.17.", "2.18."))
SECONDS = 180.0
# A shell starts its background jobs with SIGINT ignored, and so do their children.
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
Results = dict[str, dict[str, Any]]


class BackgroundPlay:
    """A run of ansible-playbook in the background."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self._output = directory / f"output-{time.monotonic_ns()}"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", INTERRUPTIBLE, *command],
                cwd=directory,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def workers(self) -> list[int]:
        """Return the processes in which the operations run. They have no children."""
        parents, found = playbook._parents(), [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return [pid for pid in found if pid not in parents.values()]

    def end(self) -> int:
        """Wait until it has ended, and return its exit status."""
        return self.process.wait(SECONDS)

    def results(self) -> Results:
        """Return the results of the upgrade by host, as far as the run shows them."""
        return playbook.reports_in(self.output)


class StopRig:
    """Two clusters with the controller of the old release, and their pods."""

    def __init__(self, fleet: Fleet, directory: Path, source: str, pods: dict[str, Pods]) -> None:
        self.fleet, self.directory, self.pods = fleet, directory, pods
        self.options = {
            "version": "{{ version | default(new) }}",
            "kubeconfig": "{{ place }}",
            "accept": ["kubectl"],
            "validation_webhook": False,
            "source": source,
            "cache_directory": str(directory / "cache"),
            "step_timeout": 120,
        }
        self.kubeconfigs = {name: fleet[name].kubeconfig for name in MODES}
        self.plays: list[BackgroundPlay] = []

    def restore(self) -> None:
        """Put the Deployment of the old release back, whose pods are ready. Remove the Leases."""
        for name, cluster in self.clusters():
            self.pods[name].ready, self.pods[name].broken = {OLD}, set()
            with contextlib.suppress(AdminApiError):
                cluster.api("DELETE", LEASE)
            if image(cluster).endswith(f":v{OLD}"):
                continue
            cluster.api("DELETE", f"{DEPLOYMENTS}/snapshot-controller")
            deployment = deployment_of(OLD)
            cluster.api("POST", f"{DEPLOYMENTS}?fieldManager=kubectl-client-side-apply", deployment)
        for _name, cluster in self.clusters():
            snapshot_pods.wait_until_ready(cluster, OLD)

    def clusters(self) -> list[tuple[str, Cluster]]:
        return [(name, self.fleet[name]) for name in MODES]

    def report_ready(self) -> None:
        """Let the pods of the new release become ready."""
        for pods in self.pods.values():
            pods.ready.add(NEW)

    def start(
        self,
        *arguments: str,
        keywords: dict[str, Any] | None = None,
        task: dict[str, Any] | None = None,
        variables: dict[str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> BackgroundPlay:
        """Start a play that upgrades both clusters.

        keywords: of the play. task: keywords of the task. variables: of a host. options: of the module.
        """
        upgrade = {"certflow.kubernetes.snapshot_controller": {**self.options, **options}, **(task or {})}
        report = {"msg": "REPORT {{ [inventory_hostname, result] | to_json }}"}
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            "tasks": [
                {"block": [{**upgrade, "register": "result"}], "always": [{"ansible.builtin.debug": report}]}
            ],
            **(keywords or {}),
        }
        hosts = {
            name: {
                "place": str(self.kubeconfigs[name]),
                "new": NEW,
                "__certflow_execution_mode": mode,
                **(variables or {}).get(name, {}),
            }
            for name, mode in MODES.items()
        }
        place = self.directory / f"{time.monotonic_ns()}"
        place.mkdir()
        (place / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
        (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        self.plays.append(BackgroundPlay(place, [program, "-i", "hosts.yml", *arguments, "play.yml"]))
        return self.plays[-1]

    @contextlib.contextmanager
    def slow_deployments(self, seconds: float) -> Iterator[None]:
        """Let each write of a Deployment take this time, so that a step with the longest time has too little of it left."""

        def answer(review: dict[str, Any]) -> Reply:
            time.sleep(seconds)
            return allow(review)

        server = WebhookServer(answer)
        server.present(pki.issue(ca("slow"), "slow", names=["localhost"]))
        server.serve()
        rule = called_objects.rule("deployments", "CREATE", "UPDATE", group="apps")
        config = {"url": f"https://localhost:{server.port}/", "caBundle": encoded(pem("slow"))}
        webhook = called_objects.webhook("slow.certflow.test", config, rule, timeoutSeconds=30)
        for _name, cluster in self.clusters():
            cluster.api("POST", HOOKS, called_objects.configuration("slow-deployments", webhook))
        try:
            yield
        finally:
            for _name, cluster in self.clusters():
                cluster.api("DELETE", f"{HOOKS}/slow-deployments")
            server.close()

    def start_and_meet(self, step: str = AT, **given: Any) -> BackgroundPlay:
        """Start the play, and return when both clusters are at the step."""
        play = self.start(**given)
        for _name, cluster in self.clusters():
            eventually(partial(is_at, cluster, step), play)
        return play


def deployment_of(release: str) -> dict[str, Any]:
    deploy, _crds = build.snapshot_manifests(release)
    text = (deploy / "snapshot-controller" / "setup-snapshot-controller.yaml").read_text()
    text = re.sub(r"(snapshot-controller):v[\d.]+", rf"\1:v{release}", text)
    found: dict[str, Any] = next(
        document for document in yaml.safe_load_all(text) if document["kind"] == "Deployment"
    )
    return found


def lease(cluster: Cluster) -> dict[str, Any] | None:
    try:
        return cluster.api("GET", LEASE)
    except AdminApiError as error:
        assert error.status == 404
        return None


def record(cluster: Cluster) -> dict[str, Any]:
    """Return the step that a run works on, {} if no run does."""
    annotations = ((lease(cluster) or {}).get("metadata") or {}).get("annotations") or {}
    found: dict[str, Any] = json.loads(annotations.get(RECORD, "{}"))
    return found


def is_at(cluster: Cluster, step: str) -> bool:
    return record(cluster).get("step") == step


def snapshots(cluster: Cluster) -> list[dict[str, Any]]:
    return list(cluster.api("GET", snapshot_pods.SNAPSHOTS)["items"])


def image(cluster: Cluster) -> str:
    deployment = cluster.api("GET", f"{DEPLOYMENTS}/snapshot-controller")
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def eventually(condition: Callable[[], object], play: BackgroundPlay, seconds: float = SECONDS) -> None:
    """Wait for a condition. Fail with the output of the play."""
    wait_for(condition, seconds, evidence=lambda: play.output)


@pytest.fixture(scope="module")
def prepared(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StopRig]:
    directory = tmp_path_factory.mktemp("stops")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server(NEW))
        pods = {}
        for name in MODES:
            cluster = fleet[name]
            snapshot_kept.remove(cluster)
            snapshot_lab.install(cluster, OLD, webhook=False, pods=False)
            stack.callback(snapshot_kept.remove, cluster)
            pods[name] = stack.enter_context(snapshot_pods.running(cluster, OLD))
        yield StopRig(fleet, directory, source, pods)


@pytest.fixture
def rig(prepared: StopRig) -> Iterator[StopRig]:
    prepared.restore()
    yield prepared
    for play in prepared.plays:
        if play.process.poll() is None:
            playbook.kill(play.process)
            play.end()
    prepared.plays.clear()


# The table of stops


def press_ctrl_c(_site: StopRig, play: BackgroundPlay) -> None:
    os.killpg(play.process.pid, signal.SIGINT)


def terminate_all(_site: StopRig, play: BackgroundPlay) -> None:
    for pid in [*play.workers(), play.process.pid]:
        os.kill(pid, signal.SIGTERM)


def terminate_ansible(_site: StopRig, play: BackgroundPlay) -> None:
    play.process.terminate()


def terminate_workers(_site: StopRig, play: BackgroundPlay) -> None:
    for pid in play.workers():
        os.kill(pid, signal.SIGTERM)


def kill(_site: StopRig, play: BackgroundPlay) -> None:
    playbook.kill(play.process)


def take_leases(rig: StopRig, _play: BackgroundPlay) -> None:
    """Delete the Lease of one run, and let another run hold the other Lease."""
    rig.fleet["onprem"].api("DELETE", LEASE)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    patch = {"spec": {"holderIdentity": "another", "renewTime": now}}
    rig.fleet["eks"].api("PATCH", LEASE, patch, "application/merge-patch+json")


RELEASED, LEFT, TAKEN = "released", "left", "taken"


@dataclass(frozen=True)
class Stop:
    """A row. No cluster is rolled back, and the next run completes the upgrade."""

    name: str
    #: The stop, while both runs wait in the step AT. None if the runs end themselves before AT.
    do: Callable[[StopRig, BackgroundPlay], None] | None
    #: Failure code of both results, "" if the run ends without results.
    code: str = ""
    #: RELEASED, LEFT with the record of the step, or TAKEN: deleted on one cluster, and held by another run
    #: on the other.
    lease: str = RELEASED
    #: Arguments of StopRig.start.
    given: dict[str, Any] = field(default_factory=dict)
    #: True if the module continues without ansible-playbook.
    goes_on: bool = False


# Enough for every short step, but not for AT after other steps.
SHORT = {"step_timeout": 300, "wait_timeout": 421}
STOPS = (
    Stop("Ctrl-C", press_ctrl_c),
    Stop("SIGTERM to all processes", terminate_all),
    Stop("SIGTERM to ansible-playbook", terminate_ansible, goes_on=IS_OLD_CORE),
    Stop("SIGTERM to the worker and to the module", terminate_workers, "interrupted"),
    Stop("the keyword timeout of the task", None, "interrupted", given={"task": {"timeout": 430}, "step_timeout": 300}),
    Stop("wait_timeout", None, "interrupted", given=SHORT),
    Stop("kill -9", kill, lease=LEFT),
    Stop("a lost Lease", take_leases, "lease-lost", lease=TAKEN),
)  # fmt: skip


# Rows that are similar to another row, and rows that do not depend on the core.
FULL_STOPS = (
    "SIGTERM to all processes",
    "SIGTERM to the worker and to the module",
    "wait_timeout",
    *(() if IS_OLD_CORE else ("SIGTERM to ansible-playbook",)),
)
ANY_CORE_STOPS = ("a lost Lease",)
on_newest_core = pytest.mark.skipif(IS_OLD_CORE, reason="it does not depend on ansible-core")


def rows() -> Iterator[Any]:
    for stop in STOPS:
        marks = [pytest.mark.full] if stop.name in FULL_STOPS else []
        marks += [on_newest_core] if stop.name in ANY_CORE_STOPS else []
        yield pytest.param(stop, id=stop.name, marks=marks)


@pytest.mark.parametrize("stop", list(rows()))
def test_the_next_run_completes_after_a_stop(rig: StopRig, stop: Stop) -> None:
    if stop.do is None:
        with rig.slow_deployments(4):
            play = rig.start(**stop.given)
            status = play.end()
    else:
        play = rig.start_and_meet(**stop.given)
        workers = play.workers()
        stop.do(rig, play)
        status = play.end()
    assert status != 0, play.output
    if stop.goes_on:
        # The worker sees at its next request that ansible-playbook has ended. The module goes on.
        assert record(rig.fleet["eks"])["step"] == AT
        rig.report_ready()
    if stop.do is not None:
        eventually(lambda: not any(map(playbook.is_alive, workers)), play)
    check_results(stop, play.results(), play.output)
    for name, cluster in rig.clusters():
        assert image(cluster).endswith(f":v{NEW}"), name
        check_lease(stop, name, cluster)
    check_next_run(rig, stop)


def check_results(stop: Stop, results: Results, output: str) -> None:
    assert {name: result["code"] for name, result in results.items()} == (
        dict.fromkeys(MODES, stop.code) if stop.code else {}
    ), output
    for value in results.values():
        assert value["changed"] and not value["undone"]["is_back"], value
        assert not [step["id"] for step in value["steps"] if step["undoes"]]
        last = value["steps"][-1]
        if stop.do is None:
            assert (last["id"], last["status"]) == ("controller", "done")
        else:
            status = "interrupted" if stop.code == "interrupted" else "failed"
            assert (value["step"], last["id"], last["status"]) == (AT, AT, status)


def check_lease(stop: Stop, name: str, cluster: Cluster) -> None:
    found = lease(cluster)
    if stop.lease == RELEASED or (stop.lease == TAKEN and name == "onprem"):
        assert found is None, found
        return
    assert found is not None
    if stop.lease == TAKEN:
        assert found["spec"]["holderIdentity"] == "another"
        cluster.api("DELETE", LEASE)
    else:
        assert record(cluster)["step"] == AT
        leases.lapse(cluster, "kube-system", starting="certflow-snapshot")


def check_next_run(rig: StopRig, stop: Stop) -> None:
    """Check that the next run completes the upgrade. It reports the step of a killed run."""
    rig.report_ready()
    play = rig.start()
    assert play.end() == 0, play.output
    for name, result in play.results().items():
        before = result["previous_run"]
        assert (before and before["record"]["step"]) == (AT if stop.lease == LEFT else None), result
        assert {step["status"] for step in result["steps"]} == {"done"}, result
        assert result["steps"][-1]["id"] == "verify-controller", result
        assert not result["changed"], result["steps"]
        assert lease(rig.fleet[name]) is None
    assert play.results().keys() == MODES.keys()


def test_a_signal_before_the_first_write_ends_with_a_result(rig: StopRig) -> None:
    """The run verifies the old release. Its VolumeSnapshot is deleted, and it has not asked for the Lease yet."""
    for pods in rig.pods.values():
        pods.ready.clear()  # no controller works on a VolumeSnapshot
    play = rig.start()
    for _name, cluster in rig.clusters():
        eventually(partial(snapshots, cluster), play)
    terminate_workers(rig, play)
    assert play.end() == 2, play.output
    for result in play.results().values():
        assert (result["code"], result["changed"]) == ("interrupted", False), result
    assert play.results().keys() == MODES.keys(), play.output
    for _name, cluster in rig.clusters():
        assert snapshots(cluster) == []
        assert (lease(cluster), image(cluster).endswith(f":v{OLD}")) == (None, True)


@on_newest_core
def test_a_failed_rollback_reports_what_it_restored(rig: StopRig) -> None:
    play = rig.start_and_meet()
    for pods in rig.pods.values():
        pods.ready, pods.broken = set(), {NEW, OLD}
    assert play.end() == 2, play.output
    assert play.results().keys() == MODES.keys(), play.output
    for result in play.results().values():
        assert result["code"] == "rollout-failed", result
        put_back = [step["title"] for step in result["steps"] if step["undoes"] and step["changed"]]
        assert put_back
        assert (result["undone"]["is_back"], result["undone"]["steps"]) == (False, put_back)


# A play that ends because of another cluster


@dataclass(frozen=True)
class Ending:
    """A play that ends because the cluster eks fails, while onprem is in the step AT."""

    #: Keywords of the play.
    keywords: dict[str, Any]
    #: True if the upgrade of onprem fails afterwards too.
    is_broken: bool = False


ENDINGS = {
    "any_errors_fatal": Ending({"any_errors_fatal": True}),
    "any_errors_fatal, free, and then its own failure": Ending({"any_errors_fatal": True, "strategy": "free"}, True),
    "any_errors_fatal, host_pinned": Ending({"any_errors_fatal": True, "strategy": "host_pinned"}),
    "max_fail_percentage, and then its own failure": Ending({"max_fail_percentage": 0}, True),
}  # fmt: skip


FULL_ENDINGS = ("any_errors_fatal, host_pinned", "max_fail_percentage, and then its own failure")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.full] if name in FULL_ENDINGS else []) for name in ENDINGS],
)
def test_a_cluster_in_progress_is_never_left_between_two_releases(rig: StopRig, name: str) -> None:
    """It completes its upgrade, or its own failure is undone. Both have a result."""
    ending = ENDINGS[name]
    play = rig.start(keywords=ending.keywords, variables={"eks": {"version": NO_RELEASE}})
    onprem = rig.fleet["onprem"]
    eventually(lambda: record(onprem).get("step") == AT and "fatal: [eks]" in play.output, play)
    if ending.is_broken:
        rig.pods["onprem"].broken.add(NEW)
    else:
        rig.report_ready()
    assert play.end() == 2, play.output
    result = play.results()["onprem"]
    if ending.is_broken:
        assert (result["code"], result["undone"]["is_back"]) == ("rollout-failed", True), result
    else:
        assert (result["changed"], result["steps"][-1]["status"]) == (True, "done"), result
    assert image(onprem).endswith(f":v{OLD if ending.is_broken else NEW}")
    assert lease(onprem) is None
    assert play.results()["eks"]["code"] == "release-unavailable"
    assert image(rig.fleet["eks"]).endswith(f":v{OLD}")


# Expiring credentials

ACCOUNT = "stops"
ACCOUNTS = "/api/v1/namespaces/kube-system/serviceaccounts"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
PLUGIN = """
import json, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
with (place / "calls").open("a") as calls:
    calls.write("x")
token = (place / "token").read_text()
until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 900))
status = {"token": token, "expirationTimestamp": until}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


class Login:
    """An exec plugin with tokens of a ServiceAccount.

    A token expires when the Secret is deleted to which it is bound.
    """

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.cluster, self.place = cluster, place
        place.mkdir()
        (place / "plugin.py").write_text(PLUGIN)
        cluster.api("POST", ACCOUNTS, {"metadata": {"name": ACCOUNT}})
        self._binding = rbac.make_administrator(cluster, ACCOUNT, "kube-system")
        self.issue("first")
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "interactiveMode": "Never",
            "command": sys.executable,
            "args": [str(place / "plugin.py"), str(place)],
        }
        content["users"][0]["user"] = {"exec": plugin}
        self.kubeconfig = place / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(content))

    def issue(self, name: str) -> None:
        """Let the plugin return a new token."""
        secret = self.cluster.api("POST", SECRETS, {"metadata": {"name": f"{ACCOUNT}-{name}"}})
        bound = {key: secret["metadata"][key] for key in ("name", "uid")}
        spec = {"expirationSeconds": 3600, "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", **bound}}
        answer = self.cluster.api("POST", f"{ACCOUNTS}/{ACCOUNT}/token", {"spec": spec})
        (self.place / "token").write_text(answer["status"]["token"])

    def end(self, name: str) -> None:
        """End a token. The API server may accept it for another 10 seconds."""
        self.cluster.api("DELETE", f"{SECRETS}/{ACCOUNT}-{name}")

    def calls(self) -> int:
        return len((self.place / "calls").read_text())

    def is_called_after(self, calls: int) -> bool:
        return self.calls() > calls

    def close(self) -> None:
        for path in (self._binding, f"{ACCOUNTS}/{ACCOUNT}", f"{SECRETS}/{ACCOUNT}-second"):
            with contextlib.suppress(AdminApiError):
                self.cluster.api("DELETE", path)


@pytest.fixture
def logins(rig: StopRig, tmp_path: Path) -> Iterator[dict[str, Login]]:
    found = {name: Login(cluster, tmp_path / name) for name, cluster in rig.clusters()}
    before, rig.kubeconfigs = rig.kubeconfigs, {name: entry.kubeconfig for name, entry in found.items()}
    yield found
    rig.kubeconfigs = before
    for value in found.values():
        value.close()


@on_newest_core
def test_a_token_that_expires_during_an_upgrade_is_renewed(rig: StopRig, logins: dict[str, Login]) -> None:
    play = rig.start_and_meet()
    calls = {name: login.calls() for name, login in logins.items()}
    for login in logins.values():
        login.issue("second")
        login.end("first")
    for name, login in logins.items():
        eventually(partial(login.is_called_after, calls[name]), play)
    rig.report_ready()
    assert play.end() == 0, play.output
    for name, cluster in rig.clusters():
        assert play.results()[name]["steps"][-1]["status"] == "done"
        assert (lease(cluster), image(cluster).endswith(f":v{NEW}")) == (None, True)


@pytest.mark.full
def test_an_expired_login_leaves_the_upgrade_to_the_next_run(rig: StopRig, logins: dict[str, Login]) -> None:
    """The plugin has no other token. The Lease cannot be deleted, so it expires."""
    play = rig.start_and_meet()
    for login in logins.values():
        (login.place / "token").unlink()
        login.end("first")
    assert play.end() == 2, play.output
    assert play.results().keys() == MODES.keys(), play.output
    for name, result in play.results().items():
        assert (result["code"], result["step"]) == ("authentication-failed", AT), result
        assert (result["changed"], result["undone"]["is_back"], result["undone"]["steps"]) == (
            True,
            False,
            [],
        ), result
        assert record(rig.fleet[name])["step"] == AT
        logins[name].issue("second")
        leases.lapse(rig.fleet[name], "kube-system", starting="certflow-snapshot")
    check_next_run(rig, next(stop for stop in STOPS if stop.lease == LEFT))


@on_newest_core
def test_the_second_of_two_runs_waits_and_finds_nothing_due(rig: StopRig) -> None:
    """It begins while the first run waits for its pods. It reports for which run it waits."""
    first = rig.start_and_meet()
    held = (lease(rig.fleet["onprem"]) or {})["spec"]
    shown = rf"^onprem  .*{held['holderIdentity'].partition('_')[0]}.*{held['acquireTime'][11:19]}"
    second = rig.start()
    eventually(lambda: re.search(shown, second.output, re.MULTILINE), second)
    assert record(rig.fleet["onprem"])["step"] == AT, "the first run goes on"
    rig.report_ready()
    assert (first.end(), second.end()) == (0, 0), first.output + second.output
    assert {result["changed"] for result in first.results().values()} == {True}
    for value in second.results().values():
        assert (value["changed"], value["previous_run"]) == (False, None)
        assert {(step["status"], step["changed"]) for step in value["steps"]} == {("done", False)}
    for _name, cluster in rig.clusters():
        assert lease(cluster) is None
