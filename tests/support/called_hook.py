# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A webhook on this machine that the API server calls, with the certificate of a rig's Secret."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle

from tests.support.clusters import AdminApiError
from tests.support.csr_rig import HOOK_KIND, HOOKS, CsrRig
from tests.support.https_webhook import WebhookServer, deny
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class ChainWithKey:
    """Certificate and key that a server presents."""

    certificate_pem: bytes
    key_pem: bytes


@contextlib.contextmanager
def webhook(rig: CsrRig) -> Iterator[tuple[WebhookServer, dict[str, Any]]]:
    """A server that denies ConfigMaps of the rig's namespace, and the configuration that calls it as Service
    hook.
    """
    server = WebhookServer(deny)
    external = {"type": "ExternalName", "externalName": "localhost"}
    rig.make(f"/api/v1/namespaces/{rig.name}/services", {"metadata": {"name": "hook"}, "spec": external})
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {
        "name": "hook.certflow.test",
        "clientConfig": {"service": {"namespace": rig.name, "name": "hook", "port": server.port}},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": rig.name}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    rig.make(HOOKS, {"metadata": {"name": rig.name}, "webhooks": [hook]})
    with contextlib.closing(server.serve()):
        yield server, {"kind": HOOK_KIND, "name": rig.name}


def present(rig: CsrRig, server: WebhookServer) -> None:
    """Let the server present the Secret's certificate."""
    data = rig.data()
    server.present(ChainWithKey(data["tls.crt"].encode(), data["tls.key"].encode()))


@contextlib.contextmanager
def reloading(rig: CsrRig, server: WebhookServer) -> Iterator[None]:
    """Let the server present a changed certificate of the Secret, until the block ends."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.2):
            present(rig, server)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def asked_by_the_api_server(rig: CsrRig, server: WebhookServer) -> str:
    """Return the API server's answer after a call to a server with the Secret's certificate, which Go
    verifies.
    """
    present(rig, server)
    try:
        rig.cluster.api(
            "POST", f"/api/v1/namespaces/{rig.name}/configmaps?dryRun=All", {"metadata": {"name": "x"}}
        )
    except AdminApiError as error:
        return error.message
    return "it was not called"


def assert_trusted(rig: CsrRig, server: WebhookServer) -> None:
    wait_for(lambda: "no team, no ConfigMap" in asked_by_the_api_server(rig, server))


def take_bundle(rig: CsrRig, target: dict[str, Any], source: dict[str, str]) -> dict[str, Any]:
    return rig.operate(
        webhook_cabundle.OPERATION, targets=[target], cluster_trust_bundle=source, mode="exactly"
    )
