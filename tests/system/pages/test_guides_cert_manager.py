# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hand a webhook over to a real cert-manager and back, with the commands of the guide and without a failed call.

The issuing controller and the cainjector are built from cert-manager's own packages. Its webhook is not part of it.
"""

from __future__ import annotations

import base64
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.clusters import AdminApiError
from tests.support.load import Load
from tests.support.pages import page_files
from tests.support.pages.guide_commands import lay_out, shell
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook
from tests.support.webhooks.bundle_rig import PATHS, VALIDATING
from tests.support.webhooks.cert_manager import running
from tests.support.webhooks.node_webhook import NodeWebhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Cluster

GUIDE = page_files.GUIDES / "guide_cert_manager.rst"
WEBHOOK = NodeWebhook("audit-webhook", "audit", secret_name="audit-webhook-tls")
OURS, THEIRS = "audit-webhook-tls", "audit-webhook-cert-manager"
#: The command that begins the undo.
RETURN = "kubectl annotate validatingwebhookconfiguration audit-webhook cert-manager.io/inject-ca-from-"


@pytest.fixture
def cert_manager(node: Cluster) -> Iterator[None]:
    """Cert-manager's definitions, its controller for Certificates, and its cainjector."""
    with running(node):
        yield


@pytest.fixture
def place(node: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A directory with the files of the guide, and the webhook on the cluster."""
    lay_out(GUIDE, tmp_path)
    node_webhook.deploy(node, WEBHOOK)
    node_webhook.configure(node, WEBHOOK)
    try:
        yield tmp_path
    finally:
        node_webhook.remove(node, WEBHOOK)


def answers(cluster: Cluster) -> bool:
    with contextlib.suppress(AdminApiError):
        node_webhook.dry_run(cluster, WEBHOOK)
        return True
    return False


def bundle(cluster: Cluster) -> str:
    found: dict[str, Any] = cluster.api("GET", f"{PATHS[VALIDATING]}/{WEBHOOK.name}")
    return base64.b64decode(found["webhooks"][0]["clientConfig"]["caBundle"]).decode()


def secrets(cluster: Cluster) -> set[str]:
    listed = cluster.api("GET", f"/api/v1/namespaces/{WEBHOOK.namespace}/secrets")["items"]
    return {secret["metadata"]["name"] for secret in listed}


@pytest.mark.full  # about 90 seconds
@pytest.mark.usefixtures("cert_manager")
def test_the_way_to_cert_manager_and_back_as_printed(node: Cluster, place: Path) -> None:
    first, *commands = page_files.commands(GUIDE)
    shell(node.kubeconfig, place, first)
    node_webhook.wait_until_ready(node, WEBHOOK)
    wait_for(lambda: answers(node))
    there = commands.index(RETURN)
    with Load(partial(node_webhook.dry_run, node, WEBHOOK)) as load:
        for command in commands[:there]:
            shell(node.kubeconfig, place, command)
        wait_for(
            lambda: bundle(node) == (place / "cert-manager-ca.pem").read_text(), evidence=lambda: bundle(node)
        )
        assert OURS not in secrets(node)
        assert THEIRS in secrets(node)
        assert '"code": "owned-by-another"' in shell(node.kubeconfig, place, first, status=2)
        for command in commands[there:]:
            shell(node.kubeconfig, place, command)
    assert load.made > 100
    assert load.failed == [], load
    assert bundle(node) == node.ca_pem
    assert secrets(node) & {OURS, THEIRS} == {OURS}
