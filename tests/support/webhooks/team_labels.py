# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The webhook of the examples of webhook_probe. It judges ConfigMaps and converts Teams."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

from examples.demo import objects
from examples.demo.webhook import judge
from tests.support.clusters import AdminApiError, pki
from tests.support.webhooks.https_webhook import Reply, WebhookServer, convert

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

SECONDS = 20
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TEAMS = "teams.example.com"


def start(cluster: Cluster) -> WebhookServer:
    """Create all objects that the examples name, and wait until the API server uses them.

    The caller closes the server.
    """
    ca = pki.make_ca("team-labels")
    server = WebhookServer(_answer)
    server.present(pki.issue(ca, "hook", names=[f"{objects.SERVICE}.{objects.NAMESPACE}.svc"]))
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": objects.NAMESPACE}})
    cluster.api("POST", f"{objects.NAMESPACED}/services", objects.service())
    configuration = objects.configuration(server.port)
    client = configuration["webhooks"][0]["clientConfig"]
    client["caBundle"] = base64.b64encode(ca.certificate_pem).decode()
    server.serve()
    cluster.api("POST", objects.CONFIGURATIONS, configuration)
    cluster.api("POST", DEFINITIONS, _definition(client))
    _wait(cluster)
    return server


def _answer(review: dict[str, Any]) -> Reply:
    return convert(review) if review["kind"] == "ConversionReview" else (200, judge(review))


def _definition(client: dict[str, Any]) -> dict[str, Any]:
    group = TEAMS.partition(".")[2]
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": schema}
        for name in ("v1", "v1beta1")
    ]
    return {
        "metadata": {"name": TEAMS},
        "spec": {
            "group": group,
            "names": {"plural": "teams", "kind": "Team"},
            "scope": "Cluster",
            "versions": versions,
            "conversion": {
                "strategy": "Webhook",
                "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]},
            },
        },
    }


def _wait(cluster: Cluster) -> None:
    """Wait until ConfigMaps are judged and Teams are served."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            cluster.api("GET", f"/apis/{TEAMS.partition('.')[2]}/v1beta1")
            cluster.api("POST", f"{objects.CONFIG_MAPS}?dryRun=All", objects.config_map("ready"))
        except AdminApiError as error:
            if "denied the request" in error.message:
                return
        time.sleep(0.1)
    raise AssertionError(f"not ready within {SECONDS} s")
