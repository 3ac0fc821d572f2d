# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of an audit: the permissions that they need, and what is read from an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit import object_parsing
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts import cluster_data

pytestmark = pytest.mark.quick

ROLE = Path(__file__).parents[6] / "docs" / "rbac" / "audit.yaml"


def test_the_permissions_are_those_of_the_documented_role() -> None:
    """certflow-plan has those for the snapshot controller. The role may read every namespace, the identity is that of one."""
    rules: list[dict[str, Any]] = yaml.safe_load(ROLE.read_text())["rules"]
    granted = {
        (verb, group, resource, name)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", [""])
        for resource in [*rule.get("resources", ()), *rule.get("nonResourceURLs", ())]
        for name in rule.get("resourceNames", [""])
    }
    needed = {
        (entry.verb, entry.group, entry.resource, "" if entry.resource == "namespaces" else entry.name)
        for source, permissions in cluster_data.PERMISSIONS.items()
        if source != cluster_data.SNAPSHOT
        for entry in permissions
    }
    assert needed == granted


def test_the_versions_of_a_definition() -> None:
    versions = [{"name": "v1", "served": True}, {"name": "v1beta1", "served": False}, {"name": "v1alpha1"}]
    spec = {"group": "example.com", "names": {"plural": "things"}, "versions": versions}
    state = object_parsing.definition_state(
        {"metadata": {"name": "things.example.com"}, "spec": spec, "status": {"storedVersions": ["v1beta1"]}}
    )
    assert (state.group, state.resource, state.has_webhook) == ("example.com", "things", False)
    assert (state.served, state.stored) == (("v1",), ("v1beta1",))
    assert state.versions == ("v1", "v1beta1", "v1alpha1")
