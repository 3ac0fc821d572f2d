# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access reviews, and the rule that grants what is missing."""

from __future__ import annotations

import json
import time

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.access_review import (
    FOLDER,
    Permission,
    find_missing,
    grant,
    require,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import MissingPermissions
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection

from tests.support.api_server import ScriptedAnswer, serving
from tests.support.failures import absent

CSR = "certificatesigningrequests"
GROUP = "certificates.k8s.io"


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


def test_missing_permissions_are_named() -> None:
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


@pytest.mark.parametrize("files", [("request",), ("audit", "repair"), ("snapshot-controller",)])
def test_the_commands_apply_and_bind_every_file(files: tuple[str, ...]) -> None:
    words = grant(*files).split()
    assert [word for word in words if word.startswith(FOLDER)] == [f"{FOLDER}/{name}.yaml" for name in files]
    assert not absent([f"--clusterrole=certflow-{name}" for name in files], " ".join(words))
    assert ("--role=certflow-snapshot-controller" in words) is ("snapshot-controller" in files)
