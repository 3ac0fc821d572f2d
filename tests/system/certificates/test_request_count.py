# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The requests of a first run on real control planes: those that docs/architecture.md lists, and no more."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.kubeconfig import resolve

from tests.support.asking_clusters import asked_by_an_api_server
from tests.support.certificates.csr_rig import CsrRig
from tests.support.permissions.rbac import APPROVE, BUNDLE, REQUEST, User
from tests.support.webhooks.https_webhook import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters import Fleet

RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
#: Verb and resource of each request, in order. docs/architecture.md says what each is for.
FIRST_RUN = [
    ("get", "secrets"),
    ("get", "validatingwebhookconfigurations"),
    ("dry", "secrets"),
    ("list", "certificatesigningrequests"),
    *[("review", "selfsubjectaccessreviews")] * 5,
    ("list", "nodes"),
    ("create", "leases"),
    ("get", "secrets"),
    ("create", "certificatesigningrequests"),
    ("update", "certificatesigningrequests/approval"),
    ("watch", "certificatesigningrequests"),
    ("patch", "validatingwebhookconfigurations"),
    ("create", "secrets"),
    ("delete", "leases"),
]


def assert_few_requests(rig: CsrRig, user: str, path: str) -> None:
    result = rig.run(targets=[rig.hook()], kubeconfig=path)
    assert result.get("changed"), result
    assert "warnings" not in result
    assert rig.asked(user=user) == FIRST_RUN


def test_a_first_run_of_a_user_with_the_documented_permissions(fleet: Fleet) -> None:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        user = User(rig, REQUEST, APPROVE, BUNDLE)
        assert_few_requests(rig, user.name, user.kubeconfig)


def as_access_entries(review: dict[str, Any]) -> Reply:
    """Allow each request, as the authorizer of EKS does for an access entry with a policy for administrators."""
    return 200, {**{key: review[key] for key in ("apiVersion", "kind")}, "status": {"allowed": True}}


@pytest.mark.full
def test_a_first_run_of_a_user_whom_a_webhook_authorizes(tmp_path: Path) -> None:
    """A rules review of such a user is incomplete, so the run asks for single permissions."""
    # The API server adds the mode to those that it has.
    flags = ("--authorization-mode=Webhook", "--authorization-webhook-config-file={}")
    with asked_by_an_api_server("onprem", as_access_entries, tmp_path, *flags) as cluster:
        rig = CsrRig(cluster)
        user = User(rig)
        assert_few_requests(rig, user.name, user.kubeconfig)
        client = Client(
            resolve({"kubeconfig": user.kubeconfig}, {}), user_agent="rules", deadline=time.monotonic() + 30
        )
        rules = client.review(RULES, {"spec": {"namespace": rig.name}})["status"]
        assert rules["incomplete"]
