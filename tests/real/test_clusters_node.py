# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real node: it runs pods, the API server reaches them, and nothing of it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clusters import ApiError, Cluster, pki
from tests.real import node_webhook
from tests.real.node_webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def webhook(node: Cluster) -> Iterator[Webhook]:
    """Two pods behind a Service, and a webhook configuration that trusts their CA."""
    webhook = Webhook("guard", "guarded")
    ca = pki.make_ca("a CA of the test's own")
    node_webhook.deploy(node, webhook)
    node_webhook.create_secret(node, webhook, node_webhook.certificate(webhook, ca))
    node_webhook.configure(node, webhook, ca.certificate_pem.decode())
    node_webhook.wait_until_ready(node, webhook)
    yield webhook
    node.api("DELETE", f"{node_webhook.CONFIGURATIONS}/{webhook.name}")
    node.api("DELETE", f"/api/v1/namespaces/{webhook.namespace}")


def test_its_webhook_is_called_through_the_api_server(node: Cluster, webhook: Webhook) -> None:
    node_webhook.dry_run(node, webhook)
    with pytest.raises(ApiError, match=node_webhook.REFUSAL) as caught:
        node_webhook.dry_run(node, webhook, refuse=True)
    assert caught.value.status == 403
