# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that each role of docs/rbac is exactly enough for its calls: the rows of permissions/table.py.

Without a required permission the call fails with one line that names it, before the first write. The role in that
line grants it. Without an optional permission the call continues and reports what it could not do.

Upgrades run on a real control plane without a node. Check mode tries every step by dry runs and needs no pod, but
the same permissions. A run writes until the first pod must become ready.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import upgrade_lease

from tests.support import clusters, leases
from tests.support.certificates.csr_rig import assert_one_line, roles_in
from tests.support.clusters import build
from tests.support.clusters.pins import SNAPSHOT_PROGRAMS
from tests.support.failures import has_failed
from tests.support.pages import guide_commands, page_files
from tests.support.permissions import rbac
from tests.support.upgrade import snapshot_lab as lab
from tests.support.upgrade.snapshot_plans import install
from tests.support.upgrade.snapshot_rig import release_server
from tests.system.permissions import calls
from tests.system.permissions.table import (
    BESIDE,
    ELSEWHERE,
    LIMITED,
    ROLES,
    SECOND_FILES,
    SHARED,
    STOPS,
    TABLE,
    Case,
    Limited,
    Row,
    cases,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster, Fleet

CLUSTER_ROLE = f"{rbac.RBAC}/clusterroles/snapshot-controller-runner"
BINDING = "snapshot-webhook-role"
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
UPGRADER = [ROLES[name] for name in ("upgrade", *BESIDE["upgrade"])]


# Each function brings an empty cluster into the state of its name.


def nothing(_cluster: Cluster) -> None:
    pass


def recent(cluster: Cluster) -> None:
    """Install 7.0.2 with a Secret of the webhook and a PodDisruptionBudget as this collection creates it."""
    install(cluster, "7.0.2")
    secret = ("create", "secret", "generic", "snapshot-validation-secret", "-n", "default")
    lab.kubectl(cluster, *secret, "--from-literal=tls.crt=x", "--from-literal=tls.key=x")
    budget = ("create", "pdb", "snapshot-validation-deployment", "-n", "default", "--min-available=1")
    lab.kubectl(cluster, *budget, "--selector=app=snapshot-validation")


def old(cluster: Cluster) -> None:
    install(cluster, "4.2.1")


class Lab:
    """Clusters by state, started at their first use, and places on them."""

    def __init__(self, shared: Cluster, stack: contextlib.ExitStack, releases: dict[str, str]) -> None:
        self._stack, self._releases = stack, releases
        self._clusters = {SHARED: shared}

    def cluster(self, state: str) -> Cluster:
        if state not in self._clusters:
            fleet = self._stack.enter_context(clusters.running({state: "onprem"}))
            {"nothing": nothing, "recent": recent, "old": old}[state](fleet[state])
            self._clusters[state] = fleet[state]
        return self._clusters[state]

    @contextlib.contextmanager
    def place(self, state: str, *roles: dict[str, Any]) -> Iterator[calls.Place]:
        """Return a new user with these roles, and rigs whose objects are deleted at the end."""
        with contextlib.ExitStack() as stack:
            place = calls.Place(self.cluster(state), self._releases, stack)
            place.grant(*roles)
            yield place


@pytest.fixture(scope="module")
def places(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server("8.1.0", "8.7.0"))
        cache = str(tmp_path_factory.mktemp("releases"))
        yield Lab(fleet["onprem"], stack, {"source": source, "cache_directory": cache})


def test_each_role_has_rows() -> None:
    assert {row.role for row in TABLE} | set(SECOND_FILES) | ELSEWHERE == set(ROLES)


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=row.marks, id=f"{row.role}-{row.call.__name__}") for row in TABLE]
)
def test_the_role_is_enough(places: Lab, row: Row) -> None:
    with places.place(row.state, *(ROLES[name] for name in (row.role, *BESIDE.get(row.role, ())))) as place:
        row.check(row.call(place)(kubeconfig=place.kubeconfig))


@pytest.mark.parametrize("case", cases())
def test_no_permission_of_the_role_is_superfluous(places: Lab, case: Case) -> None:
    for row in case.rows:
        with places.place(row.state, *case.roles) as place:
            run = row.call(place)
            result = run(kubeconfig=place.kubeconfig)
            if case.seen != STOPS:
                assert result.get("code") != row.code, result
                assert case.seen in json.dumps(result), json.dumps(result)
                return
            if not result.get("failed"):
                continue
            assert (result["changed"], place.writes()) == (False, []), result
            if row.code == "preflight-failed":
                assert_refused_by_dry_runs(result, case.grant.verb)
                return
            assert_one_line(result, row.code, case.grant.verb, case.grant.resource)
            place.grant(*roles_in(result))
            again = run(kubeconfig=place.kubeconfig)
            assert f"{case.grant.verb} {case.grant.resource}" not in again.get("msg", ""), again
            return
    pytest.fail(f"{case} is not missed")


def assert_refused_by_dry_runs(result: dict[str, Any], verb: str) -> None:
    """Check that the problems of an upgrade name the verb, or that RBAC refuses to grant what the identity lacks."""
    assert (result["code"], "\n" in result["msg"]) == ("preflight-failed", False)
    causes = " ".join(problem["cause"] for problem in result["problems"])
    words = (verb, "must not", "attempting to grant", "permits more than this identity may do")
    assert any(text in causes for text in words), causes
    assert all(problem["remedy"] for problem in result["problems"]), result["problems"]


@pytest.mark.parametrize("limited", LIMITED, ids=lambda row: f"{row.call.__name__}-{len(row.roles)}")
def test_a_user_with_other_roles_is_refused(places: Lab, limited: Limited) -> None:
    """Check mode and a run report the same, and write nothing."""
    with places.place(limited.state, *limited.roles) as place:
        run = limited.call(place)
        for check_mode in (True, False):
            result = run(kubeconfig=place.kubeconfig, check_mode=check_mode)
            assert (result["failed"], result["changed"], result["code"]) == (True, False, limited.code), (
                result
            )
            assert result["remedy"]
            rows = [*result.get("problems", ()), *result.get("refused", ())]
            text = " ".join([result["msg"], *(str(row.get("cause", row)) for row in rows)])
            assert all(name in text for name in limited.names), text
        assert place.writes() == []
        if limited.enough_for:
            assert limited.enough_for(place)(kubeconfig=place.kubeconfig)["changed"]


# Upgrades: what RBAC guards


def permitted(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return group, resource and verb of the rules without resourceNames."""
    return {
        (group, resource, verb)
        for rule in rules
        if "resourceNames" not in rule
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_roles_hold_what_the_roles_of_each_release_permit() -> None:
    """RBAC lets an identity write a role only if it holds the permissions of the role. Upstream's tags have the manifests."""
    wanted: dict[str, set[tuple[str, str, str]]] = {"ClusterRole": set(), "Role": set()}
    for release in SNAPSHOT_PROGRAMS:
        deploy, _crds = build.snapshot_manifests(release)
        for name in (
            "snapshot-controller/rbac-snapshot-controller.yaml",
            "webhook-example/rbac-snapshot-webhook.yaml",
        ):
            text = (deploy / name).read_text() if (deploy / name).is_file() else ""
            for role in yaml.safe_load_all(text):
                if role and role["kind"] in wanted:
                    wanted[role["kind"]] |= permitted(role["rules"])
    for role in UPGRADER[:2]:
        assert wanted[role["kind"]] - permitted(role["rules"]) == set(), role["kind"]
    verbs = {verb for role in UPGRADER[:2] for rule in role["rules"] for verb in rule["verbs"]}
    assert not verbs & {"escalate", "bind", "impersonate", "*"}


def test_the_identity_cannot_make_itself_a_cluster_administrator(places: Lab) -> None:
    with places.place("recent", *UPGRADER) as place:
        cluster, name = place.cluster, CLUSTER_ROLE.rpartition("/")[2]
        metadata = {
            "apiVersion": f"{rbac.GROUP}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": BINDING},
        }
        reference = {"apiGroup": rbac.GROUP, "kind": "ClusterRole", "name": "cluster-admin"}
        subject = {"apiGroup": rbac.GROUP, "kind": "User", "name": place.user}
        binding = json.dumps({**metadata, "roleRef": reference, "subjects": [subject]})
        before = cluster.api("GET", f"{rbac.RBAC}/clusterrolebindings/{BINDING}")
        more = json.dumps([{"op": "add", "path": "/rules/-", "value": EVERYTHING}])
        refusal = "attempting to grant RBAC permissions not currently held"
        with pytest.raises(AssertionError, match=refusal):
            lab.kubectl(
                cluster, "patch", "clusterrole", name, "--type=json", f"-p={more}", f"--as={place.user}"
            )
        # The identity may remove the binding.
        lab.kubectl(cluster, "delete", "clusterrolebinding", BINDING, f"--as={place.user}")
        with pytest.raises(AssertionError, match=refusal):
            lab.kubectl(cluster, "apply", "--server-side", "-f-", f"--as={place.user}", stdin=binding)
        restored = {**before, "metadata": {"name": before["metadata"]["name"]}}
        lab.kubectl(cluster, "apply", "-f-", stdin=json.dumps(restored))


def test_a_role_with_more_permissions_is_named_before_the_first_write(places: Lab) -> None:
    rule = {"apiGroups": ["acme.example"], "resources": ["widgets"], "verbs": ["list"]}
    with places.place("recent", *UPGRADER) as place:
        rules = place.cluster.api("GET", CLUSTER_ROLE)["rules"]

        def write(rules: list[dict[str, Any]]) -> None:
            place.cluster.api("PATCH", CLUSTER_ROLE, {"rules": rules}, "application/merge-patch+json")

        write([*rules, rule])
        try:
            result = calls.upgrade("8.7.0")(place)(kubeconfig=place.kubeconfig)
        finally:
            write(rules)
        assert has_failed(result, "preflight-failed", CLUSTER_ROLE.rpartition("/")[2], "widgets")
        assert place.writes() == []


@pytest.mark.usefixtures("unanswered")
def test_the_roles_are_enough_for_writes(places: Lab) -> None:
    """The run ends at the first Deployment whose pods must become ready. Its Lease has the record of each step.

    This is the last test, because it upgrades the cluster of the others.
    """
    options = {"step_timeout": 20, "wait_timeout": 600, "undo": False, "check_mode": False}
    with places.place("recent", *UPGRADER[:4]) as place:
        result = calls.upgrade("8.7.0")(place)(kubeconfig=place.kubeconfig, **options)
        assert (result["code"], result["step"]) == ("rollout-failed", "controller-wait"), result
        assert {step["status"] for step in result["steps"][:-1]} == {"done"}
        written = {step["id"] for step in result["steps"] if step["changed"]}
        assert written >= {"crds", "controller-rbac", "controller"}
        lease = f"{leases.path(upgrade_lease.NAMESPACE)}/{upgrade_lease.NAME}"
        sent = [line for line in place.writes() if lease in line or line.endswith("/leases")]
        first, *renewed, last = [line.partition(" ")[0] for line in sent]
        assert (first, set(renewed), last) == ("create", {"update"}, "delete")
        assert len(renewed) >= len(result["steps"])  # one write for each record, and those of the thread
        names = [entry["metadata"]["name"] for entry in leases.leases(place.cluster, upgrade_lease.NAMESPACE)]
        assert upgrade_lease.NAME not in names


# The files, granted with kubectl as the guide about permissions does

GUIDE = page_files.GUIDES / "guide_permissions.rst"
SUBJECT = {"kind": "ServiceAccount", "name": "certflow", "namespace": "automation"}


def test_kustomize_builds_every_role(cluster: Cluster) -> None:
    kubectl = clusters.programs() / "kubectl"
    built = subprocess.run(
        [kubectl, "kustomize", rbac.FILES], capture_output=True, text=True, check=True
    ).stdout
    files = [path for path in rbac.FILES.glob("*.yaml") if path.stem != "kustomization"]
    roles = [role for path in files for role in rbac.roles_of(path.stem)]
    expected = {json.dumps(role, sort_keys=True) for role in roles}
    assert {json.dumps(role, sort_keys=True) for role in yaml.safe_load_all(built)} == expected
    dry_run = ["apply", "--dry-run=server", "-k", str(rbac.FILES)]
    command = [str(kubectl), f"--kubeconfig={cluster.kubeconfig}", *dry_run]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("\n") == len(
        roles
    )


def test_the_commands_of_the_guide_grant_the_roles_on_every_cluster(fleet: Fleet, tmp_path: Path) -> None:
    """A second run changes nothing."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "rbac").symlink_to(rbac.FILES)
    guide_commands.lay_out(GUIDE, tmp_path)
    texts = [text for kind, text in page_files.blocks(GUIDE) if kind == "console" and "kubectl" in text]
    (command,) = [text for text in texts if "bindings.yml" in text]
    try:
        for text in texts[:2]:
            guide_commands.shell(fleet["onprem"].kubeconfig, tmp_path, text)
        for name in ("certificates", "snapshot-controller"):
            guide_commands.shell(
                fleet["onprem"].kubeconfig, tmp_path, f"kubectl delete clusterrolebinding certflow-{name}"
            )
        guide_commands.shell(
            fleet["onprem"].kubeconfig,
            tmp_path,
            "kubectl delete rolebinding -n kube-system certflow-snapshot-controller",
        )
        guide_commands.shell(fleet.merged_kubeconfig, tmp_path, command)
        for cluster in fleet.values():
            binding = cluster.api("GET", f"{rbac.RBAC}/clusterrolebindings/certflow-certificates")
            assert binding["subjects"] == [SUBJECT]
        again = guide_commands.shell(fleet.merged_kubeconfig, tmp_path, command)
        assert again.count("unchanged") == again.count("\n")
    finally:
        removal = command.replace("apply -k", "delete --ignore-not-found -k").replace(
            "apply -f", "delete --ignore-not-found -f"
        )
        guide_commands.shell(fleet.merged_kubeconfig, tmp_path, removal)
