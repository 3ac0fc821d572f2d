# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rig of the fault tables: one cluster, one namespace, and one server that serves the Secrets of all
cases.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.clusters import AdminApiError
from tests.support.permissions import rbac
from tests.system.fault_injection.proxy import Proxy
from tests.system.fault_injection.secret_server import SecretServer
from tests.system.fault_injection.served_webhook import ServedWebhook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters import Cluster
    from tests.system.fault_injection.flows import OperationCall

MANAGER = "kube-controller-manager"


class FaultRig:
    """Run cases as a ServiceAccount with all permissions. The tasks of `through_proxy` reach the API server
    through a proxy.

    The proxy ends TLS, so a ServiceAccount's token is used instead of a client certificate.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespace = f"faults-{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count(1)
        self._webhooks: dict[str, ServedWebhook] = {}
        self._served = SecretServer(self._pair)
        cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.kubeconfig = self._service_account()
        self.proxy = Proxy(cluster)
        self._over = threading.Event()
        self._kubelet = threading.Thread(target=self._keep_manager, daemon=True)
        self._kubelet.start()

    @contextlib.contextmanager
    def new_webhook(self) -> Iterator[ServedWebhook]:
        """Yield the Service, Secret and webhooks of one case. They are deleted after the block."""
        name = f"hook{next(self._numbers)}"
        webhook = ServedWebhook(self.cluster, self.kubeconfig, self.namespace, name, self._served.port)
        webhook.make()
        self._webhooks[webhook.server_name] = webhook
        try:
            yield webhook
        finally:
            del self._webhooks[webhook.server_name]
            webhook.close()

    def through_proxy(self, task: OperationCall) -> OperationCall:
        """Return the same task, sent through the proxy by the same identity."""
        kubeconfig: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = self.proxy.url
        return replace(task, options={**task.options, "kubeconfig": kubeconfig})

    def close(self) -> None:
        self._over.set()
        self._kubelet.join()
        self.proxy.close()
        self._served.close()
        for path in (self._binding, f"/api/v1/namespaces/{self.namespace}"):
            self.cluster.api("DELETE", path)

    def _keep_manager(self) -> None:
        """Restart the controller-manager, as kubelet does. It ends when it cannot renew its Lease."""
        while not self._over.wait(1):
            self.cluster.start_again(MANAGER)

    def _service_account(self) -> Path:
        self._binding = rbac.make_administrator(self.cluster, "cases", self.namespace)
        return self.cluster.token_kubeconfig("cases", self.namespace, seconds=86400)

    def _pair(self, server_name: str) -> dict[str, str]:
        webhook = self._webhooks.get(server_name)
        return webhook.data() if webhook else {}


def wait_until_ready(cluster: Cluster) -> None:
    """Wait until an API server that was killed is ready again."""
    deadline = time.monotonic() + 240
    while True:
        try:
            cluster.client.request("GET", "/readyz")
        except (OSError, AdminApiError):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return
