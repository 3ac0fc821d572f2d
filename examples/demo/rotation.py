# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last step of the demo, which needs root: renewals under load, on a cluster with a node."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from examples.demo import objects
from examples.demo.clusters import CertificateDemo, Unseen, changed, quote, say
from tests.support import clusters
from tests.support.clusters import AdminApiError
from tests.support.load import CONNECTIONS, PER_SECOND, Load
from tests.support.waiting import wait_for
from tests.support.webhooks import node_webhook

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

WEBHOOK = node_webhook.NodeWebhook(objects.SERVICE, objects.NAMESPACE)
# (description, signer). An ephemeral CA is a new CA at each renewal.
RENEWALS = (("the same CA", "kubernetes.io/kubelet-serving"), ("a new CA", "ephemeral-ca"))


def under_load(demo: CertificateDemo) -> str:
    """Renew the certificate twice. Raises Unseen if a call fails."""
    with clusters.running({"node": "onprem-node"}) as fleet:
        cluster = fleet["node"]
        say(f"   node    {cluster.url}  a cluster with a node, ready after {fleet.ready_after:.0f} s")
        _serve(demo, cluster)
        say(
            f"   {WEBHOOK.replicas} pods serve the webhook with failurePolicy Fail. From now on a client sends"
        )
        say(f"   {PER_SECOND} dry-run creates a second, over {CONNECTIONS} connections.")
        with Load(partial(node_webhook.dry_run, cluster, WEBHOOK)) as load:
            for what, signer in RENEWALS:
                say(f"   Renew the certificate with {what}:")
                _renew(demo, cluster, signer)
    say(f"   {load}")
    if load.failed:
        raise Unseen(f"{len(load.failed)} of {load.made} calls failed, the first: {load.failed[0]}")
    return f"two renewals, with the same CA and with a new one. {load.made} calls, 0 failed"


def _serve(demo: CertificateDemo, cluster: Cluster) -> None:
    """Install the first certificate, and start pods that serve it."""
    node_webhook.deploy(cluster, WEBHOOK)
    node_webhook.configure(cluster, WEBHOOK)
    _renew(demo, cluster, RENEWALS[0][1])
    node_webhook.wait_until_ready(cluster, WEBHOOK)
    wait_for(partial(_answers, cluster))


def _renew(demo: CertificateDemo, cluster: Cluster, signer: str) -> None:
    words = ("-e", f"webhook_certificate_signer_name={signer}")
    output = demo.playbook("renew.yml", *words, kubeconfig=cluster.kubeconfig)
    quote(output.partition("TASK [Show the proof]")[2].partition("PLAY RECAP")[0].partition("\n")[2])
    if not changed(output).get("localhost"):
        raise Unseen(f"no certificate of {signer} was installed")


def _answers(cluster: Cluster) -> bool:
    try:
        node_webhook.dry_run(cluster, WEBHOOK)
    except AdminApiError:
        return False
    return True
