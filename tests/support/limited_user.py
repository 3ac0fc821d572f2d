# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users with the roles of docs/rbac, and these roles without one permission."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.csr_rig import CsrRig, role_in

if TYPE_CHECKING:
    from collections.abc import Iterator


DOCS = Path(__file__).resolve().parents[2] / "docs"


REQUEST, APPROVE, BUNDLE, EXPLAIN = (
    role_in(DOCS / "rbac" / f"{name}.yaml") for name in ("request", "approve", "bundle", "explain")
)


class User:
    """A user with only the granted permissions."""

    def __init__(self, rig: CsrRig, *roles: dict[str, Any]) -> None:
        self.name = f"limited-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = str(rig.cluster.kubeconfig_for(self.name))
        self._site = rig
        rig.grant(self.name, *roles)

    def writes(self) -> list[tuple[str, str]]:
        return self._site.writes(user=self.name)


def without(role: dict[str, Any], resource: str, verb: str) -> dict[str, Any]:
    """Return the role without one verb on one resource, in every rule."""
    rest = copy.deepcopy(role)
    for rule in rest["rules"]:
        if resource in rule["resources"]:
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


RBAC = Path(__file__).resolve().parents[2] / "docs" / "rbac"


def without_grant(role: dict[str, Any], grant: Grant) -> dict[str, Any]:
    for number, rule in enumerate(role["rules"]):
        if grant.resource in rule["resources"] and (grant.verb in rule["verbs"]):
            same = Grant("", number, grant.resource, grant.verb, False, grant.name)
            role = same.taken_from(role)
    return role
