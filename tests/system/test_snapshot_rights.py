# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that docs/rbac/upgrade.yaml and upgrade-lease.yaml are enough, with the roles of plan, verification
and certificate.

The control plane is real and has no node. Check mode tries every step by dry runs and needs no pod, but the
same permissions. A run writes until the first pod must become ready.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    snapshot_controller,
    snapshot_controller_info,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade import upgrade_lease

from tests.support import clusters, leases, rbac
from tests.support import snapshot_lab as lab
from tests.support.clusters import build
from tests.support.clusters.pins import SNAPSHOT_PROGRAMS
from tests.support.failures import has_failed
from tests.support.rbac import FILES, Grant, documented, grants, without_grant
from tests.support.rig import operate, written
from tests.support.snapshot_plans import install
from tests.support.snapshot_rig import release_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

# The ClusterRole, and the Role in kube-system.
FILE_NAMES = ("upgrade", "upgrade-lease")
UPGRADE = tuple(map(documented, FILE_NAMES))
PLAN, VERIFY = map(documented, ("plan", "snapshot-verify"))
# The roles of the webhook's certificate. test_least_rights.py tests their verbs.
CERTIFICATE = tuple(map(documented, ("request", "approve", "bundle", "explain")))
GRANTS = [
    grant
    for name, role in zip(FILE_NAMES, UPGRADE, strict=True)
    for grant in grants(role["kind"], role, (FILES / f"{name}.yaml").read_text())
]


# Each function brings an empty cluster into a state.


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


# State -> the function that prepares it, and the upgrades that are tried.
STATES = {"nothing": nothing, "recent": recent, "old": old}
WAYS = [("recent", "8.1.0"), ("recent", "8.7.0"), ("nothing", "8.1.0"), ("old", "8.7.0")]
# Permissions for other upgrades: a driver left that StatefulSet, or group snapshots are stored at old
# versions.
UNTRIED = {
    ("statefulsets", "get"),
    ("statefulsets", "delete"),
    ("customresourcedefinitions/status", "patch"),
    ("pods", "list"),  # certflow-plan has it too
    ("volumegroupsnapshotclasses", "update"),
}
SAMPLE = {("persistentvolumes", "watch"), ("deployments", "create")}
ROLES, ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles", "snapshot-controller-runner"
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


class PermissionsRig:
    """Clusters by state, started on demand, and manifests."""

    def __init__(self, stack: contextlib.ExitStack, source: str, cache: Path) -> None:
        self._stack = stack
        self._clusters: dict[str, Cluster] = {}
        self._where = {"source": source, "cache_directory": str(cache)}

    def cluster(self, state: str) -> Cluster:
        if state not in self._clusters:
            fleet = self._stack.enter_context(clusters.running({state: "onprem"}))
            STATES[state](fleet[state])
            self._clusters[state] = fleet[state]
        return self._clusters[state]

    def tried(self, state: str, release: str, *roles: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the result of check mode for a user with these roles, and the writes."""
        cluster, user = self.cluster(state), f"limited-{uuid.uuid4().hex[:8]}"
        rbac.grant(cluster, user, *roles)
        result = self.run(state, user, release, check_mode=True)
        return result, written(cluster, user)

    def run(
        self, state: str, user: str, release: str, *, check_mode: bool = False, **given: Any
    ) -> dict[str, Any]:
        who = {"kubeconfig": str(self.cluster(state).kubeconfig_for(user))}
        wanted = {"version": release, "accept": ["kubectl"], **self._where, **who, **given}
        return operate(snapshot_controller.OPERATION, wanted, check_mode=check_mode)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PermissionsRig]:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server("8.1.0", "8.7.0"))
        yield PermissionsRig(stack, source, tmp_path_factory.mktemp("releases"))


@pytest.mark.parametrize(
    ("state", "release"),
    [pytest.param(*way, marks=[] if way[0] == "recent" else [pytest.mark.full]) for way in WAYS],
)
def test_the_roles_are_enough_for_check_mode(rig: PermissionsRig, state: str, release: str) -> None:
    result, writes = rig.tried(state, release, PLAN, VERIFY, *UPGRADE, *CERTIFICATE)
    assert not result.get("failed"), result
    assert (result["problems"], result["installed"]["unreadable"], writes) == ([], {}, [])
    assert result["due"]
    # Notes may only be about images that must be pulled, and about policies for pods.
    known = ("registry.k8s.io/", "a pod of")
    assert [note for note in result["notes"] if not any(one in note for one in known)] == []


def test_without_permissions_the_module_writes_nothing(rig: PermissionsRig) -> None:
    """The plan is refused, because most lists cannot be read. Check mode and a run report the same."""
    cluster, user = rig.cluster("recent"), f"nobody-{uuid.uuid4().hex[:8]}"
    for check_mode in (True, False):
        result = rig.run("recent", user, "8.7.0", check_mode=check_mode)
        assert (result["failed"], result["changed"], result["code"]) == (True, False, "upgrade-refused"), (
            result
        )
        assert "unreadable" in {row["id"] for row in result["refused"]}
        assert result["remedy"]
    assert written(cluster, user) == []


def test_with_only_the_role_of_a_plan_each_missing_permission_is_named(rig: PermissionsRig) -> None:
    """certflow-plan is enough for snapshot_controller_info. An upgrade fails before its first write."""
    cluster, user = rig.cluster("recent"), f"planner-{uuid.uuid4().hex[:8]}"
    rbac.grant(cluster, user, PLAN)
    kubeconfig = str(cluster.kubeconfig_for(user))
    info = snapshot_controller_info.OPERATION
    plan = operate(info, {"version": "8.7.0", "accept": ["kubectl"], "kubeconfig": kubeconfig})
    assert (plan["refused"], plan["installed"]["unreadable"]) == ([], {})
    for check_mode in (True, False):
        result = rig.run("recent", user, "8.7.0", check_mode=check_mode)
        assert (result["failed"], result["changed"], result["code"]) == (True, False, "preflight-failed"), (
            result
        )
        causes = " ".join(one["cause"] for one in result["problems"])
        assert "leases.coordination.k8s.io" in causes and "customresourcedefinitions" in causes
        assert all(one["remedy"] for one in result["problems"]), result["problems"]
    assert written(cluster, user) == []


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
    for role in UPGRADE:
        assert wanted[role["kind"]] - permitted(role["rules"]) == set(), role["kind"]
    verbs = {verb for role in UPGRADE for rule in role["rules"] for verb in rule["verbs"]}
    assert not verbs & {"escalate", "bind", "impersonate", "*"}


def test_the_identity_cannot_make_itself_a_cluster_administrator(rig: PermissionsRig) -> None:
    cluster, user = rig.cluster("recent"), f"climber-{uuid.uuid4().hex[:8]}"
    rbac.grant(cluster, user, PLAN, VERIFY, *UPGRADE, *CERTIFICATE)
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "snapshot-webhook-role"},
    }
    attempts = [
        (
            [
                "patch",
                "clusterrole",
                ROLE,
                "--type=json",
                f"-p={json.dumps([{'op': 'add', 'path': '/rules/-', 'value': EVERYTHING}])}",
            ],
            "",
        ),
        (["delete", "clusterrolebinding", "snapshot-webhook-role"], None),
        (
            ["apply", "--server-side", "-f-"],
            json.dumps({**binding, "roleRef": reference, "subjects": [subject]}),
        ),
    ]
    before = cluster.api("GET", ROLES.replace("clusterroles", "clusterrolebindings/snapshot-webhook-role"))
    for arguments, text in attempts:
        if text is None:
            lab.kubectl(cluster, *arguments, f"--as={user}")  # the identity may remove the binding
            continue
        with pytest.raises(AssertionError, match="attempting to grant RBAC permissions not currently held"):
            lab.kubectl(cluster, *arguments, f"--as={user}", stdin=text)
    restored = {**before, "metadata": {"name": before["metadata"]["name"]}}
    lab.kubectl(cluster, "apply", "-f-", stdin=json.dumps(restored))


def test_a_role_with_more_permissions_is_named_before_the_first_write(rig: PermissionsRig) -> None:
    cluster = rig.cluster("recent")
    before = cluster.api("GET", f"{ROLES}/{ROLE}")
    rule = {"apiGroups": ["acme.example"], "resources": ["widgets"], "verbs": ["list"]}
    cluster.api(
        "PATCH", f"{ROLES}/{ROLE}", {"rules": [*before["rules"], rule]}, "application/merge-patch+json"
    )
    try:
        result, writes = rig.tried("recent", "8.7.0", PLAN, VERIFY, *UPGRADE, *CERTIFICATE)
    finally:
        cluster.api("PATCH", f"{ROLES}/{ROLE}", {"rules": before["rules"]}, "application/merge-patch+json")
    assert has_failed(result, "preflight-failed", ROLE, "widgets")
    assert writes == []


def is_tried(one: Grant) -> bool:
    return not one.is_optional and (one.resource, one.verb) not in UNTRIED


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(one, marks=[] if (one.resource, one.verb) in SAMPLE else [pytest.mark.full])
        for one in GRANTS
        if is_tried(one)
    ],
    ids=str,
)
def test_a_missing_permission_is_reported_before_the_first_write(rig: PermissionsRig, missing: Grant) -> None:
    """One line names the verb and the resource."""
    others = [without_grant(role, missing) for role in (PLAN, VERIFY, *CERTIFICATE)]
    roles = [missing.taken_from(role) if role["kind"] == missing.role else role for role in UPGRADE]
    for state, release in WAYS:
        result, writes = rig.tried(state, release, *others, *roles)
        assert writes == []
        if result.get("failed"):
            break
    assert result.get("failed"), f"{missing} is not missed"
    assert result["code"] == "preflight-failed"
    assert "\n" not in result["msg"]
    causes = " ".join(one["cause"] for one in result["problems"])
    words = (missing.verb, "must not", "attempting to grant", "permits more than this identity may do")
    assert any(text in causes for text in words), causes
    assert all(one["remedy"] for one in result["problems"]), result["problems"]


def test_the_roles_are_enough_for_writes(rig: PermissionsRig) -> None:
    """The run ends at the first Deployment whose pods must become ready. Its Lease has the record of each step.

    This is the last test, because it upgrades the cluster of the others.
    """
    user = f"writer-{uuid.uuid4().hex[:8]}"
    cluster = rig.cluster("recent")
    rbac.grant(cluster, user, PLAN, VERIFY, *UPGRADE)
    result = rig.run("recent", user, "8.7.0", step_timeout=20, wait_timeout=600, undo=False)
    assert (result["code"], result["step"]) == ("rollout-failed", "controller-wait"), result
    assert {one["status"] for one in result["steps"][:-1]} == {"done"}
    assert {one["id"] for one in result["steps"] if one["changed"]} >= {
        "crds",
        "controller-rbac",
        "controller",
    }
    lease = f"{leases.path(upgrade_lease.NAMESPACE)}/{upgrade_lease.NAME}"
    sent = [line for line in written(cluster, user) if lease in line or line.endswith("/leases")]
    first, *renewed, last = [line.partition(" ")[0] for line in sent]
    assert (first, set(renewed), last) == ("create", {"update"}, "delete")
    assert len(renewed) >= len(result["steps"])  # one write for each record, and those of the thread
    assert [
        one
        for one in leases.leases(cluster, upgrade_lease.NAMESPACE)
        if one["metadata"]["name"] == upgrade_lease.NAME
    ] == []
