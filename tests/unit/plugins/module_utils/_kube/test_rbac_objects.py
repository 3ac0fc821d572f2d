# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the wanted roles and bindings, and the difference to what exists."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import rbac_objects
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.rbac_objects import RbacChange

from tests.support.failures import fails

RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
SIGNERS = {"apiGroups": ["x"], "resources": ["signers"], "resourceNames": ["a/b"], "verbs": ["approve"]}
USER = {"kind": "User", "name": "ada"}


def manifest(kind: str = "ClusterRole", **changed: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "r", **changed}, "rules": [RULE, SIGNERS]}


def test_a_role_keeps_its_rules_and_gets_the_label() -> None:
    role = rbac_objects.role_from(manifest(labels={"team": "a"}, uid="x", annotations={"a": "b"}), [])
    assert role["rules"] == [RULE, SIGNERS]
    assert role["metadata"] == {"name": "r", "labels": {"team": "a", **rbac_objects.LABELS}}


def test_other_signers_replace_those_of_the_rules_that_name_signers() -> None:
    assert rbac_objects.role_from(manifest(), ["c/d"])["rules"] == [
        RULE,
        {**SIGNERS, "resourceNames": ["c/d"]},
    ]


# A subject, and the end of the binding's name.
SUBJECTS: list[tuple[dict[str, str], str]] = [
    (USER, "user:ada"),
    ({"kind": "Group", "name": "team@example.com"}, "group:team@example.com"),
    ({"kind": "ServiceAccount", "namespace": "ci", "name": "bot"}, "serviceaccount:ci:bot"),
    ({"kind": "User", "name": "arn:aws:iam::1:role/x"}, "user:arn:aws:iam::1:role-x-e590d5de"),
    ({"kind": "User", "name": "arn:aws:iam::1:role-x"}, "user:arn:aws:iam::1:role-x"),
]


@pytest.mark.parametrize(("given", "end"), SUBJECTS)
@pytest.mark.parametrize(("kind", "place"), [("ClusterRole", {}), ("Role", {"namespace": "kube-system"})])
def test_a_binding_has_one_subject(given: dict[str, str], end: str, kind: str, place: dict[str, str]) -> None:
    role = rbac_objects.role_from(manifest(kind, **place), [])
    subject = rbac_objects.subject_from(given)
    binding = rbac_objects.binding_for(role, subject)
    assert binding["kind"] == f"{kind}Binding"
    assert binding["metadata"] == {"name": f"r:{end}", **place, "labels": rbac_objects.LABELS}
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "r"}
    assert binding["subjects"] == [subject]
    assert ("apiGroup" in subject) == (given["kind"] != "ServiceAccount")


# For each fault: the role, the subject, and names in the message.
FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "another kind": ({"kind": "Pod", "metadata": {"name": "r"}}, USER, ["'Pod',", "'r'"]),
    "no name": ({"kind": "ClusterRole", "rules": []}, USER, ["'ClusterRole',", "None"]),
    "no rules": ({"kind": "ClusterRole", "metadata": {"name": "r"}}, USER, ["'ClusterRole',", "rules"]),
    "a rule that is a text": ({**manifest(), "rules": ["get pods"]}, USER, ["'ClusterRole',", "rules"]),
    "metadata that is a text": ({**manifest(), "metadata": "r"}, USER, ["'ClusterRole',", "None"]),
    "a name that is a number": (manifest(name=5), USER, ["'ClusterRole',", "5"]),
    "a Role without a namespace": (manifest("Role"), USER, ["Role", "metadata.namespace"]),
    "a ClusterRole with one": (manifest(namespace="x"), USER, ["ClusterRole", "metadata.namespace"]),
    "an account without a namespace": (manifest(), {"kind": "ServiceAccount", "name": "a"}, ["ServiceAccount", "namespace"]),
    "a user with one": (manifest(), {**USER, "namespace": "x"}, ["User", "ada", "namespace"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_role_or_subject_is_one_line(fault: str) -> None:
    role, subject, names = FAULTS[fault]
    with fails("invalid-input", *names):
        rbac_objects.binding_for(rbac_objects.role_from(role, []), rbac_objects.subject_from(subject))


OLD, NEW = {"rules": [RULE]}, {"rules": [RULE, SIGNERS]}
ACTIONS: list[tuple[Any, Any, str]] = [
    (None, NEW, "created"),
    (OLD, NEW, "changed"),
    ({**NEW, "metadata": {"uid": "x"}}, NEW, "unchanged"),
    (NEW, None, "deleted"),
    (None, None, "unchanged"),
    ({"rules": None}, {"rules": []}, "unchanged"),
    ({"subjects": [USER]}, {"subjects": [USER, USER]}, "changed"),
]


@pytest.mark.parametrize(("before", "after", "action"), ACTIONS)
def test_the_action_follows_from_the_permissions_only(before: Any, after: Any, action: str) -> None:
    change = RbacChange("ClusterRole", "r", "", before, after)
    assert (change.action, change.is_due) == (action, action != "unchanged")
    assert bool(rbac_objects.diff([change])["before"]) == change.is_due


def test_only_an_object_with_the_label_is_written_without_take_over() -> None:
    ours = {"metadata": {"labels": rbac_objects.LABELS, "managedFields": [{"manager": "kubectl"}]}}
    rbac_objects.check_owner(RbacChange("ClusterRole", "r", "", ours, NEW))
    for metadata in ({}, {"labels": {"app.kubernetes.io/managed-by": "Helm"}}):
        with fails("owned-by-another", "ClusterRole", "r"):
            rbac_objects.check_owner(RbacChange("ClusterRole", "r", "", {"metadata": metadata}, NEW))


def test_the_permissions_that_an_escalation_lacks() -> None:
    text = 'clusterroles "r" is forbidden: user "u" (groups=["g"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Verbs:["get"]}\n{X}'
    assert rbac_objects.escalation_evidence(text) == ['{APIGroups:[""], Verbs:["get"]}', "{X}"]
    assert rbac_objects.escalation_evidence('clusterroles "r" is forbidden') == []


def test_a_path_quotes_the_name() -> None:
    path = rbac_objects.path_of("RoleBinding", "r:user:a b", "kube-system")
    assert path == "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/r:user:a%20b"
