# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damage to an installed release as data, and its repair by a run of the role for the same release."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.clusters import pki
from tests.support.upgrade import snapshot_kept
from tests.support.upgrade import snapshot_lab as lab
from tests.system.upgrade.rows import lab as site_lab

if TYPE_CHECKING:
    from tests.support.clusters import Cluster
    from tests.system.upgrade.rows.lab import Lab

RELEASE = "7.0.2"
HERE = "onprem"
CONTROLLER = ("-n", "kube-system", "deployment/snapshot-controller")
OWN = lab.era(RELEASE)
SECRET = "snapshot-validation-tls"  # the role's name for it
SERVER = f"{OWN.service}.{lab.WEBHOOK_NAMESPACE}.svc"


@dataclass(frozen=True)
class Damage:
    """A row of the table of repairs."""

    name: str
    do: Callable[[Cluster], object]
    #: Variables of the role that the repair needs.
    given: Mapping[str, Any] = field(default_factory=dict)


def _kubectl(*arguments: str) -> Callable[[Cluster], str]:
    return lambda cluster: lab.kubectl(cluster, *arguments)


def _serve(cluster: Cluster, ca: pki.KeyPair, lifetime: datetime.timedelta) -> None:
    """Put a certificate of this CA into the webhook's Secret."""
    pair = pki.issue(ca, SERVER, names=(SERVER,), lifetime=lifetime, is_client=False)
    data = {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem}
    patch = {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}}
    path = f"/api/v1/namespaces/{lab.WEBHOOK_NAMESPACE}/secrets/{SECRET}"
    cluster.api("PATCH", path, patch, "application/merge-patch+json")


def _let_expire(cluster: Cluster) -> None:
    _serve(cluster, pki.KeyPair.read(cluster.directory / "pki", "ca"), -datetime.timedelta(days=1))


def _serve_foreign(cluster: Cluster) -> None:
    _serve(cluster, pki.make_ca("foreign"), datetime.timedelta(days=90))


def _another_controller(cluster: Cluster) -> None:
    found = cluster.api("GET", lab.CONTROLLER)
    spec = {**found["spec"], "replicas": 1}
    spec["template"]["spec"] |= dict.fromkeys(("serviceAccount", "serviceAccountName"), "default")
    metadata = {"name": "snapshot-controller", "namespace": "default"}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    lab.kubectl(cluster, "create", "-f-", stdin=json.dumps(body))


# 8.2 added this argument. A program ends at once if it does not know an argument.
_UNKNOWN = "--feature-gates=CSIVolumeGroupSnapshot=false"
_ADDED = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": _UNKNOWN}]
DAMAGES = (
    Damage(
        "the controller's image is of another release",
        _kubectl(
            "set", "image", *CONTROLLER, f"snapshot-controller={lab.REGISTRY}/snapshot-controller:v6.2.2"
        ),
    ),
    Damage("the webhook's certificate has expired", _let_expire),
    Damage(
        "the webhook's certificate is of a foreign CA",
        _serve_foreign,
        {"snapshot_controller_accept": [{"foreign-secret": [f"Secret/{lab.WEBHOOK_NAMESPACE}/{SECRET}"]}]},
    ),
    Damage(
        "the webhook's Deployment is gone, its configuration stays",
        _kubectl("delete", "-n", lab.WEBHOOK_NAMESPACE, f"deployment/{OWN.deployment}"),
        {"snapshot_controller_validation_webhook": True},
    ),
    Damage("the controller's rights are gone", _kubectl("delete", "clusterrolebinding/snapshot-controller-role")),
    Damage(
        "the controller has an argument that its release does not know",
        _kubectl("patch", *CONTROLLER, "--type=json", f"-p={json.dumps(_ADDED)}"),
        {"snapshot_controller_accept": ["kubectl", "arguments-dropped"]},
    ),
    Damage(
        "a second controller runs in another namespace",
        _another_controller,
        {"snapshot_controller_remove_controllers": ["default/snapshot-controller"]},
    ),
)  # fmt: skip


def repaired(rig: Lab, damage: Damage) -> list[str]:
    """Install a release with the role, damage it, and run the role again.

    Return each difference as a line.
    """
    cluster = rig.fleet[HERE]
    if lab.era(RELEASE).deployment_path not in _found(cluster):
        lab.load_images(cluster, "6.2.2")
        rig.role(RELEASE, HERE)
    before = snapshot_kept.objects(cluster)
    damage.do(cluster)
    rig.role(RELEASE, HERE, **damage.given)
    rig.role(RELEASE, HERE)
    images = {image.rpartition(":v")[2] for image, _arguments in site_lab.pods(cluster)}
    wrong = snapshot_kept.differences(snapshot_kept.objects(cluster), before)
    wrong += [] if images == {RELEASE} else [f"pods of {', '.join(sorted(images))}"]
    return wrong if lab.webhook_refuses(cluster, RELEASE) else [*wrong, "the webhook is not asked"]


def _found(cluster: Cluster) -> list[str]:
    return [
        f"/apis/apps/v1/namespaces/{item['metadata']['namespace']}/deployments/{item['metadata']['name']}"
        for item in cluster.api("GET", "/apis/apps/v1/deployments")["items"]
    ]
