# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The webhook that the documentation's examples are about, as the objects that name it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.support import clusters

NAME = "validation-webhook.snapshot.storage.k8s.io"
SERVICE = {"namespace": "kube-system", "name": "snapshot-validation-service", "path": "/"}
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@contextlib.contextmanager
def present(*fleet: clusters.Cluster) -> Iterator[None]:
    """Create the webhook configuration on each cluster, and delete it in the end. It matches no object.

    It has upstream's name, so that an upgrade which another test runs on these clusters would take it for the webhook's.
    """
    webhook = {
        "name": NAME,
        "clientConfig": {"service": SERVICE},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
    }
    for cluster in fleet:
        cluster.api("POST", CONFIGURATIONS, {"metadata": {"name": NAME}, "webhooks": [webhook]})
    try:
        yield
    finally:
        for cluster in fleet:
            cluster.api("DELETE", f"{CONFIGURATIONS}/{NAME}")
