# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles of docs/rbac, users that have only some roles, and these roles without one permission."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.certificates.csr_rig import CsrRig
    from tests.support.clusters import Cluster

GROUP = "rbac.authorization.k8s.io"
RBAC = f"/apis/{GROUP}/v1"
FILES = Path(__file__).resolve().parents[3] / "docs" / "rbac"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def documented(name: str) -> dict[str, Any]:
    """Return a role of docs/rbac."""
    role: dict[str, Any] = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    return role


def roles_of(name: str) -> list[dict[str, Any]]:
    """Return the roles of a file of docs/rbac."""
    content = yaml.safe_load((FILES / f"{name}.yaml").read_text())
    return list(content.get("items", [content]))


REQUEST, APPROVE, BUNDLE, EXPLAIN = map(documented, ("request", "approve", "bundle", "explain"))


def cluster_role(*rules: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "ClusterRole", "metadata": {"name": "limited"}, "rules": list(rules)}


def grant(cluster: Cluster, user: str, *roles: Mapping[str, Any]) -> list[str]:
    """Create ClusterRoles and Roles (or Lists of them) under new names, and bind them to a user.

    Return the paths of the objects, after the API server knows them.
    """
    paths = []
    for role in (item for entry in roles for item in entry.get("items", [entry])):
        kind, namespace = role["kind"], role["metadata"].get("namespace")
        place = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        name = f"{role['metadata']['name']}-{uuid.uuid4().hex[:8]}"
        metadata = {**role["metadata"], "name": name}
        subject = {"apiGroup": GROUP, "kind": "User", "name": user}
        reference = {"apiGroup": GROUP, "kind": kind, "name": name}
        binding = {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
        cluster.api("POST", f"{place}/{kind.lower()}s", {**role, "metadata": metadata})
        cluster.api("POST", f"{place}/{kind.lower()}bindings", binding)
        paths += [f"{place}/{kind.lower()}s/{name}", f"{place}/{kind.lower()}bindings/{name}"]
        for rule in role["rules"][-1:]:
            wait_for(lambda rule=rule, namespace=namespace: _may(cluster, user, rule, namespace))  # type: ignore[misc]
    return paths


def _may(cluster: Cluster, user: str, rule: Mapping[str, Any], namespace: str | None) -> bool:
    """Return True if a user may do what a rule permits."""

    def first(key: str) -> Any:
        return next(iter(rule.get(key, ())), "")

    resource, _slash, subresource = first("resources").partition("/")
    attributes = {"group": first("apiGroups"), "resource": resource, "subresource": subresource}
    place = {"namespace": namespace or "", "name": first("resourceNames"), "verb": first("verbs")}
    url = {"path": first("nonResourceURLs"), "verb": first("verbs")}
    what = {"resourceAttributes": {**attributes, **place}} if resource else {"nonResourceAttributes": url}
    review = cluster.api("POST", REVIEWS, {"spec": {"user": user, **what}})
    return bool(review["status"]["allowed"])


def delete(cluster: Cluster, paths: Iterable[str]) -> None:
    for path in paths:
        cluster.api("DELETE", path)


def make_administrator(cluster: Cluster, account: str, namespace: str) -> str:
    """Bind a ServiceAccount to cluster-admin. Return the path of the binding."""
    name = f"{account}-{uuid.uuid4().hex[:8]}"
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    body = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    cluster.api("POST", f"{RBAC}/clusterrolebindings", body)
    return f"{RBAC}/clusterrolebindings/{name}"


class User:
    """A user with only the granted permissions."""

    def __init__(self, rig: CsrRig, *roles: dict[str, Any]) -> None:
        self.name = f"limited-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = str(rig.cluster.kubeconfig_for(self.name))
        self._rig = rig
        rig.grant(self.name, *roles)

    def writes(self) -> list[tuple[str, str]]:
        return self._rig.writes(user=self.name)


def without(role: dict[str, Any], resource: str, verb: str) -> dict[str, Any]:
    """Return the role without one verb on one resource, in every rule."""
    rest = copy.deepcopy(role)
    for rule in rest["rules"]:
        if resource in rule.get("resources", ()):
            rule["verbs"] = [entry for entry in rule["verbs"] if entry != verb]
    rest["rules"] = [rule for rule in rest["rules"] if rule["verbs"]]
    return rest


@dataclass(frozen=True)
class Grant:
    """One verb on one resource in one rule of a role."""

    role: str
    #: Number of the rule in the file.
    rule: int
    resource: str
    verb: str
    #: True if the comment above the rule says so.
    is_optional: bool
    #: One of the rule's signers.
    name: str = ""

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {self.resource} {self.name}".rstrip()

    def taken_from(self, role: dict[str, Any]) -> dict[str, Any]:
        rules = [dict(rule) for rule in role["rules"]]
        rule = rules[self.rule]
        rest = {**rule, "resources": [entry for entry in rule["resources"] if entry != self.resource]}
        left = {**rule, "resources": [self.resource]}
        if self.name:
            left["resourceNames"] = [entry for entry in rule["resourceNames"] if entry != self.name]
        else:
            left["verbs"] = [entry for entry in rule["verbs"] if entry != self.verb]
        kept = [entry for entry in (rest, left) if entry["resources"] and entry["verbs"]]
        return {**role, "rules": [*rules[: self.rule], *kept, *rules[self.rule + 1 :]]}


def grants(name: str, role: dict[str, Any], text: str) -> Iterator[Grant]:
    """Yield the grants of a role. A comment is about the rules below it, up to the next comment."""
    marks, is_optional, comment = [], False, ""
    for line in text.partition("rules:\n")[2].splitlines():
        if line.startswith("  # "):
            comment += line
        elif line.startswith("  - "):
            is_optional = comment.startswith("  # Optional") if comment else is_optional
            marks.append(is_optional)
            comment = ""
    for number, (rule, optional) in enumerate(zip(role["rules"], marks, strict=True)):
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for signer in rule["resourceNames"] if resource == "signers" else [""]:
                    yield Grant(name, number, resource, verb, optional, signer)


def without_grant(role: dict[str, Any], grant: Grant) -> dict[str, Any]:
    for number, rule in enumerate(role["rules"]):
        if grant.resource in rule["resources"] and (grant.verb in rule["verbs"]):
            same = Grant("", number, grant.resource, grant.verb, False, grant.name)
            role = same.taken_from(role)
    return role
