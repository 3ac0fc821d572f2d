# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The webhook that the documentation's examples are about, as the objects that name it."""

from __future__ import annotations

from tests import clusters

NAME = "validation-webhook.snapshot.storage.k8s.io"
SERVICE = {"namespace": "kube-system", "name": "snapshot-validation-service", "path": "/"}
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def ensure(cluster: clusters.Cluster) -> None:
    """Create the webhook configuration where another test has not done so; it matches nothing."""
    webhook = {
        "name": NAME,
        "clientConfig": {"service": SERVICE},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
    }
    try:
        cluster.api("POST", CONFIGURATIONS, {"metadata": {"name": NAME}, "webhooks": [webhook]})
    except clusters.ApiError as error:
        if error.status != 409:
            raise
