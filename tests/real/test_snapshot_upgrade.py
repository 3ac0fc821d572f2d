# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role snapshot_controller from release to release, with the real programs in pods, on both kinds of clusters.

The first release is installed by its own manifests with kubectl. While the role works, a client creates valid and invalid
objects by dry runs; afterwards users' objects are as they were, and everything else as on a cluster where the role
installed the release afresh.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests import clusters, playbook
from tests.clusters import build, kubeconfig

from . import leases, snapshot_kept
from . import snapshot_lab as lab
from .node_webhook import wait_for
from .snapshot_kept import Kept
from .snapshot_load import SnapshotLoad
from .snapshot_site import module_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clusters import Cluster, Fleet
    from tests.playbook import Run

CHAIN = ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.4.0", "8.7.0")
FRESH = "fresh"  # the cluster on which a release is installed afresh, and removed again
PROFILES = {"onprem": "onprem-node", "eks": "eks-node", FRESH: "onprem-node"}
# A release that fails leaves its pods until then.
SECONDS = 900
# What is the same on every cluster: the old one was installed with kubectl, in upstream's namespaces.
VARIABLES = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "snapshot_controller_context": "{{ inventory_hostname }}",
    "snapshot_controller_adopt": ["kubectl"],
    "snapshot_controller_webhook_namespace": lab.WEBHOOK_NAMESPACE,
    "snapshot_controller_controller": {"min_ready_seconds": 3},
}

# Each cluster's steps, as planned and as done, and the hazards that its plan names.
REPORT = """REPORT {{ [snapshot_controller_result.plan | map(attribute='id'),
                      snapshot_controller_result.steps | map(attribute='id'),
                      snapshot_controller_result.hazards | map(attribute='id')] | to_json }}"""

# Hazards that are in the way from 4.2.1 to 8.7.0, and with group snapshots from 6.2.2 to 8.7.0.
MET_ON_THE_WAY = {
    "v1beta1-unserved", "webhook-rights", "webhook-first", "v1beta1-rules", "secret-type", "no-drain", "webhook-port",
    "policy-reset", "rights-first", "manifest-images", "leaders-gap", "webhook-selector", "volume-mode",
    "controller-selector", "rules-first", "empty-references", "rules-answer-first", "slow-start", "dangling-configuration",
    "webhook-left", "groups-by-default",
}  # fmt: skip
MET_BY_GROUPS = {
    "group-crds-first", "alpha-lists", "alpha-dropped", "conversion-needed", "conversion-left", "stored-at-v1beta1",
    "arguments-ended",
}  # fmt: skip


class Lab:
    """Clusters, a source of releases, and what a fresh install of a release is like."""

    def __init__(self, fleet: Fleet, source: str, directory: Path) -> None:
        self.fleet = fleet
        self._directory = directory
        self.hazards: set[str] = set()  # all that plans named
        self._fresh: dict[str, dict[str, Any]] = {}
        users = [cluster.kubeconfig_for("role", ["system:masters"]) for cluster in fleet.values()]
        self._variables = {
            **VARIABLES,
            "snapshot_controller_kubeconfig": str(kubeconfig.merge(directory / "kubeconfig", users)),
            "snapshot_controller_source": source,
            "snapshot_controller_cache_directory": str(directory / "cache"),
            "snapshot_controller_backup_directory": str(directory / "backups"),
        }
        (directory / "inventory.ini").write_text("\n".join(fleet))

    def role(self, release: str, *names: str, **given: Any) -> list[tuple[float, str]]:
        """One run of the role, for these clusters. Returns when each of its tasks began, and when it was through."""
        run, tasks = self.attempt(release, *names, **given)
        assert run.status == 0, run.output
        for planned, done, hazards in _reported(run):
            assert done == [step for step in planned if step in done]  # whatever other clusters need
            self.hazards.update(hazards)
        return [*tasks, (time.time(), "after")]

    def attempt(
        self, release: str, *names: str, kill_at: str = "", **given: Any
    ) -> tuple[Run, list[tuple[float, str]]]:
        """The same, however it ends; kill_at: the task at whose beginning it is killed."""
        for name in names:
            lab.load_images(self.fleet[name], release)
        variables = {**self._variables, "snapshot_controller_version": release, **given}
        play = {
            "hosts": ",".join(names),
            "gather_facts": False,
            "roles": ["certflow.kubernetes.snapshot_controller"],
            "post_tasks": [{"ansible.builtin.debug": {"msg": REPORT}}],
        }
        words = ("-i", "inventory.ini", "-e", json.dumps(variables))
        return playbook.followed(self._directory, [play], *words, seconds=SECONDS, kill_at=kill_at)

    def fresh(self, release: str, **given: Any) -> dict[str, Any]:
        """The objects of a release that the role installed on an empty cluster; made once, kept as plain data."""
        key = json.dumps([release, given])
        if key not in self._fresh:
            self.role(release, FRESH, **given)
            self._fresh[key] = snapshot_kept.objects(self.fleet[FRESH])
            snapshot_kept.remove(self.fleet[FRESH])
        return self._fresh[key]


def _reported(run: Run) -> list[list[list[str]]]:
    texts = re.findall(r'"msg": ("REPORT .*")$', run.output, re.MULTILINE)
    return [json.loads(json.loads(text).partition(" ")[2]) for text in texts]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)
    with module_proxy(*CHAIN, "8.2.0") as source, clusters.running(PROFILES) as fleet:
        yield Lab(fleet, source, tmp_path_factory.mktemp("upgrade"))


@pytest.fixture
def emptied(site: Lab) -> Iterator[Lab]:
    yield site
    with ThreadPoolExecutor() as pool:
        list(pool.map(snapshot_kept.remove, site.fleet.values()))


class Upgrade:
    """A way from release to release, on some clusters at once.

    policies: cluster to the failurePolicy that its webhook has from the beginning.
    """

    def __init__(
        self, site: Lab, first: str, policies: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.site, self.here, self.policies = site, first, policies
        self._capsys = capsys
        with ThreadPoolExecutor() as pool:
            self.kept = dict(zip(policies, pool.map(self._begin, policies), strict=True))

    def to(self, release: str, group_version: str = "", **given: Any) -> None:
        """One run of the role, and all that has to hold meanwhile and afterwards."""
        loads = {name: SnapshotLoad(self._cluster(name), release) for name in self.policies}
        with ExitStack() as stack:
            for load in loads.values():
                stack.enter_context(load)
            time.sleep(2)  # so that something is counted before
            moments = self.site.role(release, *self.policies, **given)
            time.sleep(2)
        for name, load in loads.items():
            self.say(f"{name}, {self.policies[name]}: {self.here} to {release}\n{load.table(moments)}\n")
        for name, load in loads.items():
            assert load.wrong() == [], name
            assert load.accepted(since=moments[-1][0]) == [], name
        fresh = self.site.fresh(release, **given)
        for name, kept in self.kept.items():
            kept.check(group_version)
            cluster = self._cluster(name)
            assert snapshot_kept.differences(snapshot_kept.objects(cluster), fresh) == [], name
            assert _policies(cluster) <= {self.policies[name]}, name
        self.here = release

    def _begin(self, name: str) -> Kept:
        cluster = self._cluster(name)
        lab.install(cluster, self.here, failure_policy=self.policies[name])
        kept = Kept(cluster)
        kept.make(beta=self.here == CHAIN[0])  # later ones do not serve v1beta1
        return kept

    def _cluster(self, name: str) -> Cluster:
        return self.site.fleet[name]

    def say(self, text: str) -> None:
        with self._capsys.disabled():
            print(f"\n{text}", end="")


def _policies(cluster: Cluster) -> set[str]:
    found = cluster.api("GET", lab.CONFIGURATIONS)["items"]
    return {hook["failurePolicy"] for one in found for hook in one["webhooks"] if "snapshot" in hook["name"]}


def test_the_first_step_on_both_kinds_of_clusters(emptied: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade = Upgrade(emptied, "4.2.1", {"onprem": "Fail", "eks": "Ignore"}, capsys)
    upgrade.to("6.2.2")


def test_the_webhook_goes(emptied: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade = Upgrade(emptied, "8.1.0", {"onprem": "Fail"}, capsys)
    upgrade.to("8.7.0")


@pytest.mark.full
def test_every_release_on_both_kinds_of_clusters(emptied: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade = Upgrade(emptied, CHAIN[0], {"onprem": "Fail", "eks": "Ignore"}, capsys)
    for release in CHAIN[1:]:
        upgrade.to(release)
    assert emptied.hazards >= MET_ON_THE_WAY


@pytest.mark.full
@pytest.mark.parametrize(("first", "last"), [("4.2.1", "7.0.2"), ("4.2.1", "8.7.0")])
def test_many_releases_in_one_run(
    emptied: Lab, capsys: pytest.CaptureFixture[str], first: str, last: str
) -> None:
    """On both kinds of clusters, through no release in between: nothing that is stored needs one."""
    upgrade = Upgrade(emptied, first, {"onprem": "Fail", "eks": "Ignore"}, capsys)
    upgrade.to(last)


# Releases with group snapshots, and the version of them that is then asked for.
GROUPS = {"7.0.2": "v1alpha1", "8.1.0": "v1alpha1", "8.4.0": "v1beta2", "8.7.0": "v1"}


@pytest.mark.full
def test_group_snapshots_from_release_to_release(emptied: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Made at v1alpha1; 8.4 converts them by its webhook, 8.7 by nobody."""
    upgrade = Upgrade(emptied, "6.2.2", {"onprem": "Fail"}, capsys)
    (kept,) = upgrade.kept.values()
    for release, version in GROUPS.items():
        given = {"snapshot_controller_conversion_webhook": True} if release == "8.4.0" else {}
        upgrade.to(release, version, snapshot_controller_group_snapshots=True, **given)
        if release == "7.0.2":
            kept.make_groups(version)
    assert emptied.hazards >= MET_BY_GROUPS


@pytest.mark.full
def test_the_client_sees_what_a_careless_upgrade_does(
    emptied: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """kubectl apply of 7.0.2 over 6.2.2: the Service leads to nobody, with Fail nothing is accepted, with Ignore everything."""
    policies = {"onprem": "Fail", "eks": "Ignore"}
    upgrade = Upgrade(emptied, "6.2.2", policies, capsys)
    deploy, _crds = build.snapshot_manifests("7.0.2")
    for name, policy in policies.items():
        cluster = emptied.fleet[name]
        with SnapshotLoad(cluster, "7.0.2") as load:
            time.sleep(2)
            begun = time.time()
            with pytest.raises(AssertionError, match="field is immutable"):
                lab.kubectl(cluster, "apply", "-f", str(deploy / "webhook-example" / "webhook.yaml"))
            lab.kubectl(cluster, "rollout", "restart", f"deployment/{lab.era('6.2.2').deployment}")
            wait_for(lambda: load.wrong() or load.accepted(), seconds=60)
        upgrade.say(f"{name}, {policy}: careless\n{load.table([(begun, 'kubectl')])}\n")
        assert bool(load.wrong()) == (policy == "Fail")
        assert bool(load.accepted()) == (policy == "Ignore")
        assert all(one.at >= begun for one in (*load.wrong(), *load.accepted()))


@pytest.mark.full
def test_what_ran_before_is_put_back_when_a_step_fails(
    emptied: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image that does not exist, behind failurePolicy Fail: no create fails, and the old release runs as before."""
    upgrade = Upgrade(emptied, "6.2.2", {"onprem": "Fail"}, capsys)
    cluster, before = emptied.fleet["onprem"], _pods(emptied.fleet["onprem"])
    with SnapshotLoad(cluster, "6.2.2") as load:
        time.sleep(2)
        registry = {"snapshot_controller_image_registry": "nowhere.invalid/certflow"}
        run, moments = emptied.attempt("7.0.2", "onprem", **registry)
        time.sleep(2)
    upgrade.say(f"an image that does not exist, Fail\n{load.table(moments)}\n")
    assert run.status != 0, run.output
    for words in ("Its pods answer", "nowhere.invalid/certflow", "Put back to 6.2.2"):
        assert words in run.output.rpartition("Say what failed")[2], run.output
    assert (load.wrong(), load.accepted()) == ([], [])
    assert _pods(cluster) == before
    upgrade.kept["onprem"].check()
    upgrade.to("7.0.2")


# Tasks of the way from 6.2.2 to 7.0.2, each at another moment of the handover.
KILLED_AT = (
    "Rights of the webhook",
    "The Service leads to the old pods alone",
    "Its pods answer",
    "The Service leads to the new pods alone",
    "The old pods",
    "The controller of 7.0.2",
    "A snapshot is worked on",
)


@pytest.mark.full
@pytest.mark.parametrize("task", KILLED_AT)
def test_a_run_that_was_killed_is_completed_by_the_next(
    emptied: Lab, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    upgrade = Upgrade(emptied, "6.2.2", {"onprem": "Fail"}, capsys)
    cluster = emptied.fleet["onprem"]
    with SnapshotLoad(cluster, "6.2.2") as load:
        run, _moments = emptied.attempt("7.0.2", "onprem", kill_at=task)
    assert run.status == -9, run.output
    assert load.wrong() == []
    leases.lapse(cluster, "kube-system", starting="certflow-")
    upgrade.to("7.0.2")


def _pods(cluster: Cluster) -> list[tuple[str, list[str]]]:
    """Image and arguments of every pod of a controller or webhook that is there to stay."""
    found = cluster.api("GET", "/api/v1/pods")["items"]
    containers = [one["spec"]["containers"][0] for one in found if "deletionTimestamp" not in one["metadata"]]
    return sorted((one["image"], one["args"]) for one in containers if "/snapshot-" in one["image"])
