# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows: a role of docs/rbac, a call, and what the user sees without each permission of the role.

The cases are made from the rows and from docs/rbac: one for each verb on each resource of each rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.signer_probe import (
    serving_signers,
)

from tests.support.certificates.csr_rig import KUBELET_SERVING
from tests.support.permissions.rbac import APPROVE, FILES, REQUEST, Grant, documented, grants, without_grant
from tests.system.permissions import calls
from tests.system.permissions.calls import Call
from tools.docs.rbac import TASKS

#: The state of the cluster that all tests share. The others are functions of test_permissions.py.
SHARED = "shared"
CSR = "certificatesigningrequests"
#: The call fails with its code before the first write, in one line with the permission.
STOPS = "stops"
#: Another source has the same, or only a rare case needs it.
UNSEEN = ""
#: Only another upgrade needs it: a driver left that StatefulSet, or group snapshots are stored at old versions.
UNTRIED = "untried"
#: Texts of a result that could not read something.
BLIND = re.compile(
    r"may not (?:be )?(?:read|list|reach)|cannot (?:read|get|list|create)|the (?:rights|permissions) to"
)


def sees_all(result: dict[str, Any]) -> None:
    assert not result.get("failed"), result
    assert not BLIND.search(json.dumps(result)), result


def sees_all_without_server(result: dict[str, Any]) -> None:
    """No server answers for these webhooks, so the probe fails, but not because of a permission."""
    assert not BLIND.search(json.dumps(result)), result


def works(result: dict[str, Any]) -> None:
    """No signer of this cluster issues for some of the names, so the diagnosis has what it could not read."""
    assert not result.get("failed"), result


def plans_all(result: dict[str, Any]) -> None:
    assert (result["refused"], result["installed"]["unreadable"]) == ([], {}), result


def tries_all(result: dict[str, Any]) -> None:
    assert not result.get("failed"), result
    assert (result["problems"], result["installed"]["unreadable"]) == ([], {})
    assert result["due"]
    # Notes may only be about images that must be pulled, and about policies for pods.
    known = ("registry.k8s.io/", "a pod of")
    assert [note for note in result["notes"] if not any(text in note for text in known)] == []


def audits_all(result: dict[str, Any]) -> None:
    assert not [finding for finding in result["findings"] if finding["permissions"]]
    assert "ca-mismatch" in {finding["check"] for finding in result["findings"]}


def repairs_by_audit(result: dict[str, Any]) -> None:
    """The roles do not have the permission for the dry run of a proof."""
    repairs = [(entry["check"], entry["state"], entry["proof"]) for entry in result["repairs"]]
    assert ("ca-mismatch", "repaired", "audit") in repairs, result


class Row(NamedTuple):
    """A call by a user with a role, and what the user sees without one of its permissions."""

    role: str
    call: Call
    #: "VERB RESOURCE", or "approve SIGNER" -> STOPS, UNSEEN, UNTRIED, or a text of the result of a call that works.
    seen: Mapping[str, str] = {}
    #: True if the call is also tried without each required permission that no row of the role names.
    rest: bool = False
    #: The check of the result with all permissions.
    check: Callable[[dict[str, Any]], None] = sees_all
    state: str = SHARED
    code: str = "missing-permissions"

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """Return the mark of rows that need a cluster of their own."""
        return [] if self.state in (SHARED, "recent") else [pytest.mark.full]


_NAMES = {"get nodes": UNSEEN, "list nodes": "the nodes' addresses", "list servicecidrs": "servicecidrs"}
_LEASES = {
    **{f"{verb} leases": "at the same time" for verb in ("create", "delete")},
    # Needed only if another run holds the Lease, and in a long wait.
    **{f"{verb} leases": UNSEEN for verb in ("get", "update")},
}
_CALLERS = (
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "customresourcedefinitions",
    "apiservices",
)
_NO_ENDPOINTS = "may not read the endpoints"
_PODS = {f"{verb} pods/portforward": "may not reach pods" for verb in ("get", "create")}
_REMOVAL = {"delete secrets": STOPS, "list secrets": "may not list secrets"}
_OTHER_UPGRADES = dict.fromkeys(
    (
        # Releases that install a StatefulSet are older than those of the states. Their hops change no PodDisruptionBudget that exists.
        *(f"{verb} statefulsets" for verb in ("get", "create", "patch", "delete")),
        "update poddisruptionbudgets",
        "patch customresourcedefinitions/status",
        # certflow-plan has them too, by a rule for every kind of the group.
        "list pods",
        *(
            f"list volume{group}snapshot{kind}"
            for group in ("", "group")
            for kind in ("classes", "contents", "s")
        ),
        "update volumegroupsnapshotclasses",
        # Optional, and not needed by check mode.
        "list nodes",
        *(f"{verb} configmaps" for verb in ("create", "list", "delete")),
    ),
    UNTRIED,
)
UPGRADES = (("recent", "8.1.0"), ("recent", "8.7.0"), ("nothing", "8.1.0"), ("old", "8.7.0"))

TABLE = (
    Row("approve", calls.a_decision, _NAMES, rest=True),
    *(
        Row("approve", calls.a_decision_for(signer), {f"approve {signer}": STOPS})
        for signer in serving_signers()
    ),
    Row("audit", calls.an_audit, check=audits_all),
    Row("bundle", calls.bundles, rest=True),
    Row("bundle", calls.a_discovery, dict.fromkeys((f"list {kind}" for kind in _CALLERS), STOPS)),
    Row("bundle", calls.bundles_of_a_signer, {"list clustertrustbundles": STOPS}),
    Row(
        "explain",
        calls.an_explanation,
        {
            "list nodes": "nodes",
            "list servicecidrs": UNSEEN,
            "get clusterroles": "cluster",
            "get configmaps": "cannot read ConfigMap",
            "get leases": "cannot read Lease",
            "list pods": "cannot read pods in kube-system",
        },
        rest=True,
    ),
    Row("explain", calls.of_all, {f"list {CSR}": STOPS}),
    Row("explain", calls.of_an_unserved_signer, {"list events": "cannot read Events"}),
    Row("explain", calls.of_pod_certificates, {"list podcertificaterequests": "cannot list"}),
    Row("plan", calls.a_plan, check=plans_all, state="recent"),
    Row("probe", calls.throw_away(KUBELET_SERVING), {"get configmaps": UNSEEN, "list clustertrustbundles": UNSEEN}, rest=True),
    *(Row("probe", calls.throw_away(signer), {f"approve {signer}": STOPS}, check=works) for signer in serving_signers()),
    Row(
        "prove",
        calls.an_admission,
        {
            "get services": _NO_ENDPOINTS,
            "get namespaces": "the labels of namespace",
            "create configmaps": "create configmaps",
        },
        rest=True,
    ),
    Row("prove", calls.a_mutating_one, {"get mutatingwebhookconfigurations": STOPS}),
    Row("prove", calls.a_conversion, {"get customresourcedefinitions": STOPS}, check=sees_all_without_server),
    Row("prove", calls.an_aggregated_api, {"get apiservices": STOPS}, check=sees_all_without_server),
    Row("prove", calls.pods_behind_it, {"list endpointslices": _NO_ENDPOINTS, **_PODS}, check=sees_all_without_server),
    Row("repair", calls.a_repair, check=repairs_by_audit),
    Row("request", calls.a_new_one, {"get nodes": UNSEEN, "get configmaps": UNSEEN, "get clusterroles": UNSEEN, "get namespaces": UNSEEN, **_LEASES}, rest=True),
    Row("request", calls.for_an_address, {key: _NAMES[key] for key in ("list nodes", "list servicecidrs")}),
    Row("request", calls.a_renewal, {"patch secrets": STOPS}),
    Row("request", calls.the_second_step),
    Row("request", calls.of_a_published_ca, {"list clustertrustbundles": r"cannot list resource \"clustertrustbundles"}),
    Row("request", calls.the_undo, {f"delete {CSR}": STOPS, **_REMOVAL}),
    Row(
        "rotate",
        calls.a_renewal_seen,
        {"get services": _NO_ENDPOINTS, "list endpointslices": _NO_ENDPOINTS, "get pods": UNSEEN, **_PODS},
        rest=True,
    ),
    Row("rotate", calls.ephemeral_ca_and_removal, {"list pods": STOPS}),
    Row("store", calls.ephemeral_ca, {**_NAMES, **_LEASES}, rest=True),
    Row("store", calls.ephemeral_ca_again, {"patch secrets": STOPS}),
    Row("store", calls.ephemeral_ca_and_removal, _REMOVAL),
    *(
        Row("upgrade", calls.upgrade(release), _OTHER_UPGRADES, rest=True, check=tries_all, state=state, code="preflight-failed")
        for state, release in UPGRADES
    ),
)  # fmt: skip
_CERTIFICATE = ("request", "approve", "bundle", "explain")
#: Role -> the roles that its users have too.
BESIDE = {
    "bundle": ("request", "approve"),
    "repair": ("audit",),
    "request": ("approve", "bundle", "rotate"),
    "rotate": ("store", "bundle"),
    "store": ("bundle", "rotate"),
    "upgrade": ("upgrade-lease", "plan", "snapshot-verify", *_CERTIFICATE),
}
#: The second file of a role -> the role whose rows are tried.
SECOND_FILES = {"upgrade-lease": "upgrade"}
#: test_snapshot_verify.py tests these roles on a node.
ELSEWHERE = {"snapshot-verify"}
#: The roles that are tried. A task file has the rules of other files.
ROLES = {
    path.stem: documented(path.stem)
    for path in FILES.glob("*.yaml")
    if path.stem not in ("kustomization", *TASKS)
}
# The permissions that make test takes away. make test-all takes away all.
DAILY = {
    *(("request", f"{verb} {CSR}") for verb in ("create", "list", "watch")),
    ("approve", f"update {CSR}/approval"),
    ("approve", f"approve {KUBELET_SERVING}"),
    *(("request", f"{verb} secrets") for verb in ("get", "create", "patch", "delete")),
    *(("bundle", f"{verb} validatingwebhookconfigurations") for verb in ("get", "patch")),
    ("bundle", "list clustertrustbundles"),
    *(("probe", f"{verb} {CSR}") for verb in ("create", "delete")),
    ("probe", f"update {CSR}/approval"),
    ("prove", "create configmaps"),
    ("upgrade", "watch persistentvolumes"),
    ("upgrade", "create deployments"),
}


class Case(NamedTuple):
    """One permission that is taken away, and the rows in which it must be missed: in the first that fails."""

    grant: Grant
    rows: tuple[Row, ...]
    seen: str

    def __str__(self) -> str:
        return str(self.grant)

    @property
    def roles(self) -> list[dict[str, Any]]:
        """Return the roles of the user. The same permission must not come from another role or another rule."""
        role = self.rows[0].role
        names = [name for name in (role, *BESIDE.get(role, ())) if name != self.grant.role]
        others = [without_grant(ROLES[name], self.grant) for name in names]
        return [self.grant.taken_from(ROLES[self.grant.role]), *others]


def cases() -> list[Any]:
    """Return the case of each permission of each role whose rows are tried without it."""
    result = []
    for name, role in sorted(ROLES.items()):
        rows = [row for row in TABLE if row.role == SECOND_FILES.get(name, name)]
        rest = tuple(row for row in rows if row.rest)
        for grant in grants(name, role, (FILES / f"{name}.yaml").read_text()) if rest else ():
            permission = f"{grant.verb} {grant.name or grant.resource}"
            naming = tuple(row for row in rows if permission in row.seen)
            seen = naming[0].seen[permission] if naming else "???" if grant.is_optional else STOPS
            is_daily = (name, permission) in DAILY
            if seen != UNTRIED:
                case = Case(grant, naming or rest, seen)
                result.append(pytest.param(case, marks=[] if is_daily else [pytest.mark.full], id=str(grant)))
    return result


class Limited(NamedTuple):
    """A call by a user with other roles, which fails before its first write."""

    call: Call
    roles: tuple[dict[str, Any], ...]
    code: str
    #: Texts of the message, or of the causes of its problems.
    names: tuple[str, ...] = ()
    state: str = SHARED
    #: A call for which the roles are enough.
    enough_for: Call | None = None


#: A two-step run by a role that is limited to the Secret's own name.
_OWN_SECRET = {
    **REQUEST,
    "rules": [
        *(rule for rule in REQUEST["rules"] if rule["resources"] != ["secrets"]),
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"], "resourceNames": ["hook-tls"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    ],
}  # fmt: skip
# Roles of the user, and what must be seen in check mode and in a run.
LIMITED = (
    # Who approves at once keeps no key.
    Limited(calls.two_steps, (_OWN_SECRET, APPROVE), "missing-permissions", ("get", "secrets", "hook-tls-pending"), enough_for=calls.for_an_address),
    # The plan is refused, because most lists cannot be read.
    Limited(calls.upgrade("8.7.0"), (), "upgrade-refused", ("unreadable",), "recent"),
    Limited(calls.upgrade("8.7.0"), (ROLES["plan"],), "preflight-failed", ("leases.coordination.k8s.io", "customresourcedefinitions"), "recent"),
)  # fmt: skip
