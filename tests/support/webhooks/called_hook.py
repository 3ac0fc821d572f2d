# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A webhook on this machine that the API server calls, with the certificate of a rig's Secret."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle

from tests.support.certificates.csr_rig import HOOK_KIND, HOOKS, CsrRig
from tests.support.clusters import AdminApiError
from tests.support.waiting import wait_for
from tests.support.webhooks import called_objects
from tests.support.webhooks.https_webhook import deny
from tests.support.world.certificates import Sent
from tests.support.world.servers import Endpoint, Listeners

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def webhook(rig: CsrRig) -> Iterator[dict[str, Any]]:
    """Serve a webhook that denies ConfigMaps of the rig's namespace as Service hook. Return the target that calls it.

    It reads the rig's Secret before each handshake.
    """
    endpoint = Endpoint(deny)

    def reload() -> None:
        if rig.secret():
            data = rig.data()
            endpoint.present(Sent(data["tls.crt"].encode(), data["tls.key"].encode()))

    endpoint.prepare = reload
    with contextlib.closing(Listeners()) as listeners:
        port = listeners.listen("127.0.0.1", lambda: endpoint)
        external = {"type": "ExternalName", "externalName": "localhost"}
        rig.make(f"/api/v1/namespaces/{rig.name}/services", {"metadata": {"name": "hook"}, "spec": external})
        config = called_objects.service(rig.name, "hook", port=port)
        where = called_objects.of_namespace(rig.name)
        hook = called_objects.webhook("hook.certflow.test", config, called_objects.CONFIG_MAPS, **where)
        rig.make(HOOKS, called_objects.configuration(rig.name, hook))
        yield {"kind": HOOK_KIND, "name": rig.name}


def assert_trusted(rig: CsrRig) -> None:
    """Check that the API server calls the webhook, whose certificate Go verifies."""
    path = f"/api/v1/namespaces/{rig.name}/configmaps?dryRun=All"

    def answer() -> str:
        try:
            rig.cluster.api("POST", path, {"metadata": {"name": "x"}})
        except AdminApiError as error:
            return error.message
        return "it was not called"

    wait_for(lambda: "no team, no ConfigMap" in answer(), evidence=answer)


def take_bundle(rig: CsrRig, target: dict[str, Any], source: dict[str, str]) -> dict[str, Any]:
    return rig.operate(
        webhook_cabundle.OPERATION, targets=[target], cluster_trust_bundle=source, mode="exactly"
    )
