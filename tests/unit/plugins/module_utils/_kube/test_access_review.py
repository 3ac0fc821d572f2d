# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access reviews, and the rule that grants what is missing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import (
    Permission,
    find_missing,
    require,
    rule_for,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.connection import Connection
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import MissingPermissions

from tests.support.api_server import ScriptedAnswer, serving
from tests.support.failures import absent

CSR = "certificatesigningrequests"
GROUP = "certificates.k8s.io"


def rules(*permissions: Permission) -> list[dict[str, Any]]:
    """The objects of the YAML text, with what the API server demands of each checked."""
    parsed = yaml.safe_load(rule_for(permissions))
    roles: list[dict[str, Any]] = parsed["items"] if parsed["kind"] == "List" else [parsed]
    for role in roles:
        assert role["apiVersion"] == "rbac.authorization.k8s.io/v1"
        assert role["kind"] == ("Role" if "namespace" in role["metadata"] else "ClusterRole")
        assert role["metadata"]["name"]
        for rule in role["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            assert all(isinstance(value, str) for values in rule.values() for value in values)
            assert rule["verbs"]
    return roles


def test_verbs_are_grouped() -> None:
    (role,) = rules(
        Permission("get", GROUP, CSR),
        Permission("list", GROUP, CSR),
        Permission("update", GROUP, f"{CSR}/approval"),
    )
    assert role["rules"] == [
        {"apiGroups": [GROUP], "resources": [CSR], "verbs": ["get", "list"]},
        {"apiGroups": [GROUP], "resources": [f"{CSR}/approval"], "verbs": ["update"]},
    ]


def test_core_group_is_an_empty_text() -> None:
    assert rules(Permission("get", "", "secrets"))[0]["rules"][0]["apiGroups"] == [""]


def test_namespaces_have_their_own_roles() -> None:
    cluster, first, second = rules(
        Permission("create", GROUP, CSR),
        Permission("get", "", "secrets", "one", "s"),
        Permission("get", "", "secrets", "two", "s"),
    )
    assert "namespace" not in cluster["metadata"]
    assert [role["metadata"]["namespace"] for role in (first, second)] == ["one", "two"]


def test_names_limit_what_can_be_limited() -> None:
    """RBAC knows no name yet when an object is created, and lists and watches go by collection."""
    (role,) = rules(
        *(Permission(verb, "", "secrets", "n", "s") for verb in ("get", "patch", "create", "list", "watch"))
    )
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "list", "watch"]},
    ]


@pytest.mark.parametrize(
    "name", ["kubernetes.io/kubelet-serving", "on", "1", "a.b", "x-*", "it's: {odd}, [really]"]
)
def test_names_stay_text(name: str) -> None:
    (role,) = rules(Permission("approve", GROUP, "signers", name, name))
    assert role["rules"][0]["resourceNames"] == [name]
    assert role["metadata"]["namespace"] == name


def test_rule_is_one_line() -> None:
    assert "\n" not in rule_for([Permission("get", "", "secrets", "n"), Permission("get", GROUP, CSR)])


def test_reviews() -> None:
    answers = [ScriptedAnswer(201, {"status": {"allowed": allowed}}) for allowed in (True, False, True)]
    wanted = [
        Permission("get", GROUP, CSR),
        Permission("update", GROUP, f"{CSR}/approval", "", "x"),
        Permission("get", "", "secrets", "n"),
    ]
    with serving(*answers) as server:
        connection = Connection(host=server.url, auth_source="s", token="t")
        client = Client(connection, user_agent="test/1", deadline=time.monotonic() + 10)
        assert find_missing(client, [*wanted, wanted[0]]) == [wanted[1]]
        client.close()
    asked = [json.loads(request.body)["spec"]["resourceAttributes"] for request in server.requests]
    assert asked == [
        {"verb": "get", "group": GROUP, "resource": CSR},
        {"verb": "update", "group": GROUP, "resource": CSR, "subresource": "approval", "name": "x"},
        {"verb": "get", "group": "", "resource": "secrets", "namespace": "n"},
    ]
    assert client.written == []


def test_another_name_is_as_good() -> None:
    """CertificateApproval takes the signer's name or its domain's (k/k pkg/certauthorization)."""
    permission = Permission("approve", GROUP, "signers", name="a.b/c", or_name="a.b/*")
    answers = [
        ScriptedAnswer(201, {"status": {"allowed": allowed}}) for allowed in (True, False, True, False, False)
    ]
    with serving(*answers) as server:
        connection = Connection(host=server.url, auth_source="s", token="t")
        client = Client(connection, user_agent="test/1", deadline=time.monotonic() + 10)
        assert [find_missing(client, [permission]) for _time in range(3)] == [[], [], [permission]]
        client.close()
    asked = [json.loads(request.body)["spec"]["resourceAttributes"]["name"] for request in server.requests]
    assert asked == ["a.b/c", "a.b/c", "a.b/*", "a.b/c", "a.b/*"]


def test_missing_rights_are_one_line_with_the_rule() -> None:
    with serving(ScriptedAnswer(201, {"status": {}})) as server:
        client = Client(
            Connection(host=server.url, auth_source="s", token="t"),
            user_agent="t",
            deadline=time.monotonic() + 10,
        )
        with pytest.raises(MissingPermissions) as caught:
            require(
                client,
                [Permission("get", "", "secrets", "n", "s"), Permission("create", GROUP, CSR)],
                "do it",
            )
        client.close()
    names = ("get", "secrets", "create", "certificatesigningrequests.certificates.k8s.io")
    assert not absent(names, caught.value.cause)
    rule = caught.value.remedy.partition("kubectl apply of: ")[2]
    assert yaml.safe_load(rule)["kind"] == "List"
    assert str(caught.value).endswith(rule)  # ready to be copied: no full stop behind it
