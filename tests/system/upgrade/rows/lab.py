# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clusters on which the role snapshot_controller runs, and a way from release to release under load.

The first release is installed by its own manifests with kubectl. While the role works, a client creates valid and invalid
objects by dry runs; afterwards users' objects are as they were, and everything else as on a cluster where the role
installed the release afresh.
"""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import clusters, leases
from tests.support.clusters import kubeconfig
from tests.support.playbooks import playbook
from tests.support.playbooks.playbook import TaskStart
from tests.support.upgrade import snapshot_kept
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_kept import Kept
from tests.support.upgrade.snapshot_load import SnapshotLoad
from tests.support.upgrade.snapshot_rig import release_server
from tests.system.upgrade.rows import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.clusters import Cluster, Fleet
    from tests.support.playbooks.playbook import Meet, PlaybookRun

RELEASES = ("4.2.1", "6.2.2", "7.0.2", "8.1.0", "8.2.0", "8.3.0", "8.4.0", "8.6.0", "8.7.0")
CONVERTS = "8.4.0"  # the release whose webhook converts group snapshots
FRESH = "fresh"  # the cluster for fresh installations, which are removed again
PROFILES = {"onprem": "onprem-node", "eks": "eks-node", FRESH: "onprem-node"}
# After a failure, pods of a release may stay until then.
SECONDS = 1200
UPGRADERS = "upgraders"  # the group whose permissions a test may take away
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
# Variables of all clusters: kubectl installed the old release, in upstream's namespaces.
VARIABLES = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "snapshot_controller_context": "{{ inventory_hostname }}",
    "snapshot_controller_accept": ["kubectl"],
    "snapshot_controller_webhook_namespace": lab.WEBHOOK_NAMESPACE,
    "snapshot_controller_controller": {"spec": {"minReadySeconds": 3}},
}

# The result of each cluster, also after a failure, and the digests of its plan.
DIGESTS = "{'plan_digests': (__snapshot_controller_upgrade | default({})).plan_digests | default([])}"
REPORT = f"REPORT {{{{ [inventory_hostname, snapshot_controller_result | combine({DIGESTS})] | to_json }}}}"


@dataclass(frozen=True)
class RoleOutcome:
    """The end of a run."""

    #: Output and exit status.
    run: PlaybookRun
    #: Beginnings of tasks and steps.
    moments: list[TaskStart]
    #: Published result of each cluster. A killed run has none.
    results: Mapping[str, Mapping[str, Any]]

    @property
    def result(self) -> Mapping[str, Any]:
        """The result of the only cluster."""
        (only,) = self.results.values()
        return only

    @property
    def began(self) -> float:
        return self.moments[0].at


class Lab:
    """Clusters, a source of releases, and the objects of a fresh installation of a release."""

    def __init__(self, fleet: Fleet, source: str, directory: Path) -> None:
        self.fleet = fleet
        self.hazards: set[str] = set()  # ids of all hazards in plans
        self._directory = directory
        self._fresh: dict[str, dict[str, Any]] = {}
        for cluster in fleet.values():
            grant(cluster)
        users = [cluster.kubeconfig_for("role", [UPGRADERS]) for cluster in fleet.values()]
        self._variables = {
            **VARIABLES,
            "snapshot_controller_kubeconfig": str(kubeconfig.merge(directory / "kubeconfig", users)),
            "snapshot_controller_source": source,
            "snapshot_controller_cache_directory": str(directory / "cache"),
            "snapshot_controller_backup": str(directory / "backups"),
        }
        (directory / "inventory.ini").write_text("\n".join(fleet))

    def role(self, release: str, *names: str, **given: Any) -> RoleOutcome:
        """Run the role once on these clusters. It must succeed."""
        outcome = self.attempt(release, *names, **given)
        assert outcome.run.status == 0, outcome.run.output
        assert set(outcome.results) == set(names), outcome.run.output
        for result in outcome.results.values():
            planned, done = ([_place(step) for step in result[key]] for key in ("plan", "steps"))
            assert done == [place for place in planned if place in done]
            assert not any(step["undoes"] or step["status"] != "done" for step in result["steps"])
            self.hazards.update(hazard["id"] for hazard in result["hazards"])
        return outcome

    def plan(self, release: str, *names: str, **given: Any) -> dict[str, set[str]]:
        """Return the digests of the plan of each cluster."""
        outcome = self.attempt(release, *names, is_check=True, **given)
        assert outcome.run.status == 0, outcome.run.output
        return {name: set(result["plan_digests"]) for name, result in outcome.results.items()}

    def attempt(
        self, release: str, *names: str, meet: Meet | None = None, is_check: bool = False, **given: Any
    ) -> RoleOutcome:
        """Run the role once. It may fail. meet: see playbook.followed."""
        for name in names:
            lab.load_images(self.fleet[name], release)
        variables = {**self._variables, "snapshot_controller_version": release, **given}
        role = {"ansible.builtin.include_role": {"name": "certflow.kubernetes.snapshot_controller"}}
        report = {"ansible.builtin.debug": {"msg": REPORT}}
        play = {
            "hosts": ",".join(names),
            "gather_facts": False,
            "tasks": [{"block": [role], "always": [report]}],
        }
        words = ("-v", "-i", "inventory.ini", "-e", json.dumps(variables), *(["--check"] if is_check else []))
        run, moments = playbook.followed(self._directory, [play], *words, seconds=SECONDS, meet=meet)
        return RoleOutcome(run, moments, run.reports())

    def source_of(self, release: str) -> dict[str, str]:
        """Return the variables of a source that has only this release, with a cache of its own."""
        return {
            "snapshot_controller_source": str(self._variables["snapshot_controller_source"]).replace(
                "{version}", release
            ),
            "snapshot_controller_cache_directory": str(self._directory / f"cache-{release}"),
        }

    def fresh(self, release: str, **given: Any) -> dict[str, Any]:
        """Return the objects of a release that the role installed on an empty cluster.

        They are kept for later calls.
        """
        key = json.dumps([release, given])
        if key not in self._fresh:
            self.role(release, FRESH, **given)
            self._fresh[key] = snapshot_kept.objects(self.fleet[FRESH])
            snapshot_kept.remove(self.fleet[FRESH])
        return self._fresh[key]

    def empty(self) -> None:
        """Remove everything of the snapshot controller from every cluster."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(snapshot_kept.remove, self.fleet.values()))


@contextlib.contextmanager
def running() -> Iterator[Lab]:
    """A lab with the clusters of PROFILES. Ask clusters.why_no_node() first."""
    with (
        tempfile.TemporaryDirectory() as directory,
        release_server(*RELEASES) as source,
        clusters.running(PROFILES) as fleet,
    ):
        yield Lab(fleet, source, Path(directory))


def grant(cluster: Cluster) -> None:
    """Give the role's user all permissions."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": UPGRADERS}
    cluster.api("POST", BINDINGS, {"metadata": {"name": UPGRADERS}, "roleRef": role, "subjects": [subject]})


def _place(step: Mapping[str, Any]) -> tuple[str, str]:
    return step["hop"], step["id"]


class UpgradePath:
    """A series of upgrades on some clusters at once.

    policies: cluster -> failurePolicy of its webhook at the beginning. groups: version of group snapshots at
    the beginning, if any.
    """

    def __init__(
        self, rig: Lab, first: str, policies: Mapping[str, str], say: Callable[[str], None], groups: str = ""
    ) -> None:
        self.rig, self.here, self.policies, self.say = rig, first, policies, say
        self._groups = groups
        self.load: dict[str, SnapshotLoad] = {}  # of the last run
        self.results: Mapping[str, Mapping[str, Any]] = {}  # of the last successful run
        with ThreadPoolExecutor() as pool:
            self.kept = dict(zip(policies, pool.map(self._begin, policies), strict=True))

    def to(
        self, release: str, group_version: str = "", *, killed_at: Sequence[Meet] = (), **given: Any
    ) -> None:
        """Run the role once, and check the load during the run and the objects afterwards.

        killed_at: hooks that kill earlier runs, one for each.
        """
        with self.under_load(release):
            moments: list[TaskStart] = []
            # A run that lost its permissions could not release its Lease.
            last: dict[str, Mapping[str, Any] | None] = {
                name: records.on_lease(self.cluster(name), since=0) or None for name in self.policies
            }
            planned = self.rig.plan(release, *self.policies, **given) if killed_at else {}
            for meet in killed_at:
                killed = self.rig.attempt(release, *self.policies, meet=meet, **given)
                assert killed.run.status == -signal.SIGKILL, killed.run.output
                last |= {name: record for name, record in self.check_records(killed).items() if record}
                self.let_leases_expire()
                moments += killed.moments
                self.check_plan(planned, release, **given)
            outcome = self.rig.role(release, *self.policies, **given)
        for name, result in outcome.results.items():
            wrong_record = records.wrong_previous(result, last.get(name))
            assert not wrong_record, f"{name}: {wrong_record}"
        self.results = outcome.results
        moments += [*outcome.moments, TaskStart(time.time(), "after")]
        self.tell(release, moments)
        for name, load in self.load.items():
            wrong = [*load.wrong(), *load.accepted(since=moments[-1].at)]
            assert wrong == [], f"{name}: {wrong[:5]}"
        self.check(release, group_version, **given)

    def check_plan(self, planned: Mapping[str, set[str]], release: str, **given: Any) -> None:
        """Check that the plan from before the runs covers what is left to do."""
        for name, digests in self.rig.plan(release, *self.policies, **given).items():
            assert digests <= planned[name], f"{name}: {sorted(digests - planned[name])}"

    def check_records(self, killed: RoleOutcome) -> dict[str, Mapping[str, Any] | None]:
        """Check that each cluster's Lease names the step at which the run was killed. Return the records."""
        found: dict[str, Mapping[str, Any] | None] = {}
        for name in self.policies:
            found[name] = records.on_lease(self.cluster(name), killed.began)
            wrong = records.wrong(found[name], [moment for moment in killed.moments if moment.host == name])
            assert not wrong, f"{name}: {wrong}"
        return found

    @contextlib.contextmanager
    def under_load(self, release: str) -> Iterator[None]:
        """Run a client while the block runs. Its results are in ``load`` afterwards."""
        self.load = {name: SnapshotLoad(self.cluster(name), release) for name in self.policies}
        with ExitStack() as stack:
            for load in self.load.values():
                stack.enter_context(load)
            time.sleep(2)  # count some creates before the block
            yield
            time.sleep(2)

    def tell(self, what: str, moments: Sequence[TaskStart]) -> None:
        for name, load in self.load.items():
            own = [(moment.at, moment.name) for moment in moments if moment.host in ("", name)]
            self.say(f"{name}, {self.policies[name]}: {self.here} to {what}\n{load.table(own)}\n")

    def check(self, release: str, group_version: str = "", **given: Any) -> None:
        """Check that users' objects are unchanged, and that all others are as after a fresh installation."""
        fresh = self.rig.fresh(release, **given)
        for name, kept in self.kept.items():
            kept.check(group_version)
            other = snapshot_kept.differences(_with_usual_secret(self.cluster(name)), fresh)
            assert other == [], "\n".join([name, *other])
            assert policies(self.cluster(name)) <= {self.policies[name]}, name
        self.here = release

    def let_leases_expire(self) -> None:
        """Let the Leases of a killed run expire now."""
        for name in self.policies:
            leases.lapse(self.cluster(name), "kube-system", starting="certflow-")

    def hops(self, name: str) -> tuple[str, ...]:
        """Return the releases of the last run's hops."""
        return tuple(hop["release"] for hop in self.results[name]["hops"])

    def cluster(self, name: str) -> Cluster:
        return self.rig.fleet[name]

    def _begin(self, name: str) -> Kept:
        cluster = self.cluster(name)
        lab.install(cluster, self.here, groups=bool(self._groups), failure_policy=self.policies[name])
        if self._groups:  # lists of handles may need this release between two hops
            lab.load_images(cluster, CONVERTS)
        kept = Kept(cluster)
        kept.make(beta=self.here == "4.2.1")  # later releases do not serve v1beta1
        if self._groups:
            # The CRD of 8.1.0 refuses the write by which its own controller binds a content.
            kept.make_groups(self._groups, is_bound=self.here != "8.1.0")
        return kept


def _with_usual_secret(cluster: Cluster) -> dict[str, Any]:
    """Return the objects of a cluster.

    The Secret of upstream's manifests, which the webhook may keep, has its usual name.
    """
    text, theirs, usual = (
        json.dumps(snapshot_kept.objects(cluster)),
        "snapshot-validation-secret",
        "snapshot-validation-tls",
    )
    found: dict[str, Any] = json.loads(text if usual in text else text.replace(theirs, usual))
    return found


def policies(cluster: Cluster) -> set[str]:
    """Return the failurePolicies of the snapshot webhooks."""
    found = cluster.api("GET", lab.CONFIGURATIONS)["items"]
    return {
        hook["failurePolicy"]
        for configuration in found
        for hook in configuration["webhooks"]
        if "snapshot" in hook["name"]
    }


def pods(cluster: Cluster) -> list[tuple[str, list[str]]]:
    """Return image and arguments of every pod of a controller or webhook that is not being deleted."""
    found = cluster.api("GET", "/api/v1/pods")["items"]
    containers = [obj["spec"]["containers"][0] for obj in found if "deletionTimestamp" not in obj["metadata"]]
    return sorted(
        (container["image"], container["args"])
        for container in containers
        if "/snapshot-" in container["image"]
    )
