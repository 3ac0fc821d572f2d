# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The row about the rotation of a webhook's certificate in pods, with calls all the time."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr

from benchmarks import process
from benchmarks.lab import SIGNER
from benchmarks.process import Command, RunFailed
from benchmarks.rows.context import Bench, lab
from benchmarks.samples import Case
from tests.support import clusters
from tests.support.clusters import AdminApiError, Cluster, pki
from tests.support.load import Load
from tests.support.operations import operate
from tests.support.waiting import now, wait_for
from tests.support.webhooks import cert_manager, node_webhook
from tests.support.webhooks.node_webhook import NodeWebhook

#: Seconds of calls after a rotation. The kubelet updates the files of a Secret within this time.
AFTERWARDS = 100
# Longer than any certificate lasts, so that each run renews.
NOW_DUE = "3660d"
Rotate = Callable[[Cluster, NodeWebhook, Path], None]


def rotation(bench: Bench) -> None:
    """Install a certificate, replace it, and count the calls that fail."""
    reason = clusters.why_no_node()
    if reason:
        raise RunFailed(reason)
    with lab({"node": "onprem-node"}) as made:
        cluster = made.fleet["node"]
        _all(bench, cluster, made.directory, ROTATIONS)
        with bench.attempt("rotation", "cert-manager"), cert_manager.running(cluster):
            _all(bench, cluster, made.directory, BY_CERT_MANAGER)


def _all(bench: Bench, cluster: Cluster, directory: Path, rotations: Mapping[str, Rotate]) -> None:
    for number, (peer, rotate) in enumerate(rotations.items(), 1):
        name = f"{'issued' if rotations is BY_CERT_MANAGER else 'rotated'}-{number}"
        webhook = NodeWebhook(name, name)
        with bench.attempt("rotation", peer):
            _measure(bench, cluster, webhook, peer, partial(rotate, cluster, webhook, directory))


def _measure(
    bench: Bench, cluster: Cluster, webhook: NodeWebhook, peer: str, rotate: Callable[[], None]
) -> None:
    node_webhook.deploy(cluster, webhook)
    node_webhook.configure(cluster, webhook)
    rotate()
    node_webhook.wait_until_ready(cluster, webhook)
    wait_for(partial(_answers, cluster, webhook))
    time.sleep(3)  # the next certificate is later than the first by the API server's clock
    before = _certificate(cluster, webhook)
    with Load(partial(node_webhook.dry_run, cluster, webhook)) as load:
        began = time.monotonic()
        rotate()
        seconds = time.monotonic() - began
        time.sleep(AFTERWARDS)
    if _certificate(cluster, webhook) == before:
        raise RunFailed("the certificate was not replaced")
    calls = {"wall": seconds, "calls": load.made, "failed_calls": len(load.failed)}
    bench.add(Case("rotation", peer), calls)
    node_webhook.remove(cluster, webhook)


def _certificate(cluster: Cluster, webhook: NodeWebhook) -> str:
    path = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"
    return str(cluster.api("GET", path)["data"]["tls.crt"])


def _answers(cluster: Cluster, webhook: NodeWebhook) -> bool:
    try:
        node_webhook.dry_run(cluster, webhook)
    except AdminApiError:
        return False
    return True


def _by_k8s_csr(signer: str, cluster: Cluster, webhook: NodeWebhook, _directory: Path) -> None:
    options = {
        "kubeconfig": str(cluster.kubeconfig),
        "service": webhook.name,
        "namespace": webhook.namespace,
        "secret": {"name": webhook.name},
        "signer_name": signer,
        "targets": [{"kind": "ValidatingWebhookConfiguration", "name": webhook.name}],
        "renew_before": NOW_DUE,
    }
    result = operate(k8s_csr.OPERATION, options)
    if result.get("failed"):
        raise RunFailed(str(result["msg"]))


def _by_scripts(cluster: Cluster, webhook: NodeWebhook, directory: Path) -> None:
    """Run create-cert.sh, and write the cluster's CA into the webhook as patch-ca-bundle.sh does."""
    script = clusters.snapshotter_dir() / "deploy" / "kubernetes" / "webhook-example" / "create-cert.sh"
    options = ["--service", webhook.name, "--namespace", webhook.namespace, "--secret", webhook.name]
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "TMPDIR": str(directory),
        "PATH": f"{clusters.programs()}{os.pathsep}{os.environ['PATH']}",
    }
    run = process.run(Command(["bash", str(script), *options], environment=environment), directory)
    if run.status:
        raise RunFailed(run.output[-1500:])
    _replace_bundle(cluster, webhook, cluster.ca_pem)


def _with_new_ca(cluster: Cluster, webhook: NodeWebhook, _directory: Path) -> None:
    """Make a CA and a certificate, and replace first the Secret and then the caBundle, as charts with genCA do."""
    authority = pki.make_ca("new")
    secrets = f"/api/v1/namespaces/{webhook.namespace}/secrets"
    body = webhook.secret(node_webhook.certificate(webhook, authority))
    try:
        cluster.api("PUT", f"{secrets}/{webhook.name}", body)
    except AdminApiError as error:
        if error.status != 404:
            raise
        cluster.api("POST", secrets, body)
    _replace_bundle(cluster, webhook, authority.certificate_pem.decode())


def _replace_bundle(cluster: Cluster, webhook: NodeWebhook, ca_pem: str) -> None:
    value = base64.b64encode(ca_pem.encode()).decode()
    patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}]
    path = f"{node_webhook.CONFIGURATIONS}/{webhook.name}"
    cluster.api("PATCH", path, patch, "application/json-patch+json")


def _by_cert_manager(new_ca: bool, cluster: Cluster, webhook: NodeWebhook, _directory: Path) -> None:
    """Let cert-manager issue the certificate and cainjector write the CA. Renew it as `cmctl renew` does."""
    place = f"/apis/cert-manager.io/v1/namespaces/{webhook.namespace}"
    secrets = f"/api/v1/namespaces/{webhook.namespace}/secrets"
    authority = {
        **webhook.secret(pki.make_ca(f"cert-manager-{time.monotonic()}")),
        "metadata": {"name": "authority"},
    }
    try:
        found = cluster.api("GET", f"{place}/certificates/{webhook.name}")
    except AdminApiError as error:
        if error.status != 404:
            raise
        _order(cluster, webhook, place, secrets, authority)
        return
    before = _certificate(cluster, webhook)
    if new_ca:
        cluster.api("PUT", f"{secrets}/authority", authority)
    issuing = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "renewed by hand",
    }
    found["status"].setdefault("conditions", []).append({**issuing, "lastTransitionTime": f"{now():%FT%TZ}"})
    cluster.api("PUT", f"{place}/certificates/{webhook.name}/status", found)
    wait_for(lambda: _certificate(cluster, webhook) != before)


def _order(
    cluster: Cluster, webhook: NodeWebhook, place: str, secrets: str, authority: dict[str, Any]
) -> None:
    """Create the CA, an Issuer and a Certificate, and ask cainjector for the caBundle."""
    cluster.api("POST", secrets, authority)
    issuer = {"metadata": {"name": "authority"}, "spec": {"ca": {"secretName": "authority"}}}
    cluster.api("POST", f"{place}/issuers", {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", **issuer})
    spec = {
        "secretName": webhook.name,
        "dnsNames": [webhook.server_name],
        "issuerRef": {"name": "authority"},
        "privateKey": {"rotationPolicy": "Always"},
    }
    body = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": webhook.name},
        "spec": spec,
    }
    cluster.api("POST", f"{place}/certificates", body)
    mark = {"cert-manager.io/inject-ca-from": f"{webhook.namespace}/{webhook.name}"}
    path = f"{node_webhook.CONFIGURATIONS}/{webhook.name}"
    cluster.api("PATCH", path, {"metadata": {"annotations": mark}}, "application/merge-patch+json")


ROTATIONS: dict[str, Rotate] = {
    "k8s_csr, same CA": partial(_by_k8s_csr, SIGNER),
    "k8s_csr, new CA": partial(_by_k8s_csr, "ephemeral-ca"),
    "create-cert.sh, same CA": _by_scripts,
    "Secret and caBundle replaced, new CA": _with_new_ca,
}
#: These need cert-manager on the cluster.
BY_CERT_MANAGER: dict[str, Rotate] = {
    "cert-manager with cainjector, same CA": partial(_by_cert_manager, False),
    "cert-manager with cainjector, new CA": partial(_by_cert_manager, True),
}
