# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grant the roles of docs/rbac on real API servers: by the module, by the playbook and by kustomize."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import rbac_objects
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_rbac

from tests.support import clusters, playbook
from tests.support.csr_rig import RBAC as API
from tests.support.csr_rig import CsrRig, assert_one_line
from tests.support.failures import absent
from tests.support.limited_user import RBAC, remove_granted_roles
from tests.support.rig import operate

if TYPE_CHECKING:
    from tests.support.clusters import Cluster, Fleet

PLAYBOOK = Path("certflow.kubernetes.rbac")


@pytest.fixture
def rig(cluster: Cluster) -> Iterator[CsrRig]:
    rig = CsrRig(cluster)
    try:
        yield rig
    finally:
        rig.close()
        remove_granted_roles(cluster)


def roles(*names: str) -> list[dict[str, Any]]:
    return [yaml.safe_load((RBAC / f"{name}.yaml").read_text()) for name in names]


def grant(cluster: Cluster, *names: str, user: str, kubeconfig: Any = None, **options: Any) -> dict[str, Any]:
    """Run the module as administrator, or with another kubeconfig."""
    check_mode = options.pop("check_mode", False)
    given = {
        "kubeconfig": str(kubeconfig or cluster.kubeconfig),
        "roles": roles(*names),
        "subjects": [{"kind": "User", "name": user}],
        **options,
    }
    return operate(k8s_rbac.OPERATION, given, check_mode=check_mode)


def test_the_granted_roles_are_enough_and_stay_apart_from_others(rig: CsrRig) -> None:
    """A subject that another client adds keeps its binding, also after the removal."""
    user, names = f"limited-{rig.id}", ("request", "approve")
    options: dict[str, Any] = {"kubeconfig": str(rig.cluster.kubeconfig_for(user))}
    assert rig.run(**options)["code"] == "missing-permissions"
    planned = grant(rig.cluster, *names, user=user, check_mode=True)
    assert rig.run(**options)["code"] == "missing-permissions"
    first = grant(rig.cluster, *names, user=user)
    assert first["changed"] and planned["objects"] == first["objects"] and planned["diff"] == first["diff"]
    assert [one["action"] for one in first["objects"]] == ["created"] * 4
    assert rig.run(**options)["changed"]
    assert not grant(rig.cluster, *names, user=user)["changed"]
    other = grant(rig.cluster, "request", user=f"other-{rig.id}")
    assert [one["action"] for one in other["objects"]] == ["unchanged", "created"]
    removed = grant(rig.cluster, *names, user=user, state="absent")
    assert [one["action"] for one in removed["objects"]] == ["deleted"] * 2
    assert not grant(rig.cluster, *names, user=user, state="absent")["changed"]
    assert not grant(rig.cluster, "request", user=f"other-{rig.id}")["changed"]
    assert rig.run(**options, secret={"name": "other-tls"}).get("code") == "missing-permissions"


def test_an_identity_that_lacks_the_permissions_is_refused_in_one_line(rig: CsrRig) -> None:
    """RBAC prevents an escalation. The identity may write roles and bindings, and holds nothing else."""
    user = f"granter-{rig.id}"
    resources = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"]
    rule = {
        "apiGroups": [rbac_objects.GROUP],
        "resources": resources,
        "verbs": ["get", "create", "patch", "delete"],
    }
    rig.grant(user, {"kind": "ClusterRole", "metadata": {"name": user}, "rules": [rule]})
    kubeconfig = rig.cluster.kubeconfig_for(user)
    for check_mode in (True, False):
        result = grant(rig.cluster, "approve", user="ada", kubeconfig=kubeconfig, check_mode=check_mode)
        assert_one_line(
            result,
            "missing-permissions",
            "certflow-approve",
            "escalate",
            "bind",
        )
        assert any("signers" in line for line in result["evidence"]), result["evidence"]
        assert result["changed"] is False
    grant(rig.cluster, "approve", user="ada")
    result = grant(rig.cluster, "approve", user="eve", kubeconfig=kubeconfig)
    assert_one_line(result, "missing-permissions", "certflow-approve:user:eve", "escalate", "bind")


def test_a_role_of_another_client_with_other_rules_is_kept(rig: CsrRig) -> None:
    foreign = {**roles("bundle")[0], "rules": []}
    rig.make(f"{API}/clusterroles", foreign)
    result = grant(rig.cluster, "bundle", user="ada")
    assert_one_line(result, "owned-by-another", "certflow-bundle", "take_over")
    assert not rig.cluster.api("GET", f"{API}/clusterroles/certflow-bundle").get("rules")
    assert grant(rig.cluster, "bundle", user="ada", take_over=True)["objects"][0]["action"] == "changed"


def test_kustomize_builds_every_role(cluster: Cluster) -> None:
    kubectl = clusters.programs() / "kubectl"
    built = subprocess.run([kubectl, "kustomize", RBAC], capture_output=True, text=True, check=True).stdout
    expected = {
        json.dumps(role, sort_keys=True)
        for role in roles(*(path.stem for path in RBAC.glob("*.yaml") if path.stem != "kustomization"))
    }
    assert {json.dumps(role, sort_keys=True) for role in yaml.safe_load_all(built)} == expected
    command = [
        str(kubectl),
        f"--kubeconfig={cluster.kubeconfig}",
        "apply",
        "--dry-run=server",
        "-k",
        str(RBAC),
    ]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("\n") == len(
        expected
    )


def play(fleet: Fleet, place: Path, *arguments: str, **variables: Any) -> playbook.PlaybookRun:
    hosts = {name: {"certflow_context": name} for name in fleet}
    inventory = {"clusters": {"hosts": hosts, "vars": {"certflow_kubeconfig": str(fleet.merged_kubeconfig)}}}
    (place / "clusters.json").write_text(json.dumps(inventory))
    (place / "vars.json").write_text(json.dumps(variables))
    return playbook.play(
        place, PLAYBOOK, "-i", "clusters.json", "-e", "@vars.json", *arguments, COLUMNS="500"
    )


def test_the_playbook_grants_on_every_cluster(fleet: Fleet, tmp_path: Path) -> None:
    """Every operation has its files. A second run changes nothing."""
    operations = yaml.safe_load((RBAC.parents[1] / "playbooks" / "rbac.yml").read_text())[-1]["vars"][
        "__certflow_files"
    ]
    files = {name for names in operations.values() for name in names}
    assert files == {path.stem for path in RBAC.glob("*.yaml")} - {"kustomization"}
    subjects = [{"kind": "ServiceAccount", "name": "certflow", "namespace": "automation"}]
    variables = {"certflow_rbac_operations": list(operations), "certflow_rbac_subjects": subjects}
    try:
        runs = [play(fleet, tmp_path, *words, **variables) for words in (("--check", "--diff"), (), ())]
        assert [(run.status, run.recap("changed")) for run in runs] == [(0, 2), (0, 2), (0, 0)], runs[
            0
        ].output
        assert "certflow-approve:serviceaccount:automation:certflow" in runs[0].output
        for cluster in fleet.values():
            lease = f"{API}/namespaces/kube-system/rolebindings/certflow-upgrade:serviceaccount:automation:certflow"
            assert cluster.api("GET", lease)["roleRef"]["name"] == "certflow-upgrade"
    finally:
        for cluster in fleet.values():
            remove_granted_roles(cluster)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"certflow_rbac_operations": ["request"]}, ["certflow_rbac_subjects"]),
        ({"certflow_rbac_operations": ["aprove"]}, ["certflow_rbac_operations", "aprove,"]),
    ],
)
def test_the_playbook_names_a_wrong_variable_before_any_cluster(
    fleet: Fleet, tmp_path: Path, variables: dict[str, Any], names: list[str]
) -> None:
    run = play(fleet, tmp_path, **variables)
    assert run.status != 0, run.output
    assert not absent([*names, "bundle,", "@FILE."], run.output), run.output
    assert run.recap("ok") == 0


@pytest.mark.parametrize(
    "arguments", [(), ("--limit", "unnamed"), ("--limit", "unnamed", "-e", "awx_job_id=1")]
)
def test_the_playbook_refuses_a_host_that_names_no_cluster(
    fleet: Fleet, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The current context would get the permissions. The hosts that name their cluster get none either."""
    hosts = {**{name: {"certflow_context": name} for name in fleet}, "unnamed": {}}
    hosts = {"unnamed": {}} if "awx_job_id=1" in arguments else hosts
    (tmp_path / "clusters.json").write_text(json.dumps({"clusters": {"hosts": hosts}}))
    subjects = [{"kind": "ServiceAccount", "name": "certflow", "namespace": "automation"}]
    variables = {"certflow_rbac_operations": ["explain"], "certflow_rbac_subjects": subjects}
    command = ("-i", "clusters.json", "-e", json.dumps(variables), *arguments)
    run = playbook.play(
        tmp_path,
        PLAYBOOK,
        *command,
        KUBECONFIG=str(fleet.merged_kubeconfig),
        COLUMNS="500",
    )
    assert run.status != 0, run.output
    assert not absent(["unnamed", "certflow_context"], run.output), run.output
    for cluster in fleet.values():
        names = {role["metadata"]["name"] for role in cluster.api("GET", f"{API}/clusterroles")["items"]}
        assert "certflow-explain" not in names


def test_the_playbook_fails_without_a_cluster(tmp_path: Path) -> None:
    run = playbook.play(tmp_path, PLAYBOOK, COLUMNS="500")
    assert run.status != 0, run.output
    assert not absent(["clusters.", "certflow_hosts"], run.output), run.output
