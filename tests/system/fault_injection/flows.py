# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks of the fault tables as data: the state before the task, the task, and the expected end."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.operations import operate
from tests.system.fault_injection.served_webhook import (
    CSRS,
    EPHEMERAL_CA,
    KUBELET_SERVING,
    OPERATIONS,
    ServedWebhook,
)

HOUR: dict[str, Any] = {"expiration_seconds": 3600}
# A certificate with one hour left is due for renewal. Its successor is not.
RENEW: dict[str, Any] = {"expiration_seconds": 7200, "renew_before": "61m"}
TWO_STEP: dict[str, Any] = {"approve": False, "wait": False}


@dataclass(frozen=True)
class OperationCall:
    """An operation with its options."""

    operation: str
    options: dict[str, Any]

    def run(self) -> dict[str, Any]:
        return operate(OPERATIONS[self.operation], self.options)


@dataclass(frozen=True)
class Flow:
    """A row of the fault tables."""

    #: Name in the tables.
    name: str
    #: Makes the state before the task, and returns the task.
    prepare: Callable[[ServedWebhook], OperationCall]
    #: Returns the task that runs next.
    again: Callable[[ServedWebhook, OperationCall], OperationCall] = lambda webhook, task: task
    #: Does the rest after the task has succeeded, such as an approval by a user.
    finish: Callable[[ServedWebhook, OperationCall], None] = lambda webhook, task: None
    #: Subjects of CAs that stay on the targets.
    kept: tuple[str, ...] = ()
    #: True if the targets must trust the certificate in the Secret all the time.
    keeps_trust: bool = True


def _csr(webhook: ServedWebhook, **options: Any) -> OperationCall:
    return OperationCall("k8s_csr", webhook.options(**options))


def _new(webhook: ServedWebhook) -> OperationCall:
    return _csr(webhook)


def _new_ephemeral(webhook: ServedWebhook) -> OperationCall:
    return _csr(webhook, signer_name=EPHEMERAL_CA)


def _renewal(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(**HOUR)
    return _csr(webhook, **RENEW)


def _renewal_ephemeral(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(signer_name=EPHEMERAL_CA, **HOUR)
    return _csr(webhook, signer_name=EPHEMERAL_CA, **RENEW)


def _another_signer(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(signer_name=EPHEMERAL_CA)
    return _csr(webhook)


def _ask(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(signer_name=EPHEMERAL_CA)
    return _csr(webhook, **TWO_STEP)


def _fetch(webhook: ServedWebhook) -> OperationCall:
    task = _ask(webhook)
    pending = task.run()
    assert pending["pending"], pending
    webhook.approve(pending["csr"]["name"])
    return _csr(webhook, approve=False)


def _approves_itself(webhook: ServedWebhook) -> OperationCall:
    """Let a task leave a request that waits for approval, and return a task that approves its own request."""
    pending = _ask(webhook).run()
    assert pending["pending"], pending
    return _csr(webhook)


def _approve_and_complete(webhook: ServedWebhook, task: OperationCall) -> None:
    """Approve the pending request as a user does, and complete it with the same task."""
    pending = task.run()
    assert (pending["changed"], pending["pending"]) == (False, True), pending
    webhook.approve(pending["csr"]["name"])
    done = operate(OPERATIONS["k8s_csr"], {**task.options, "wait": True})
    assert done.get("changed"), done


def _absent(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(signer_name=EPHEMERAL_CA)
    return _csr(webhook, state="absent", accept=webhook.given_up)


def _given_up(webhook: ServedWebhook, task: OperationCall) -> OperationCall:
    return OperationCall(task.operation, {**task.options, "state": "absent", "accept": webhook.given_up})


def _approve(webhook: ServedWebhook) -> OperationCall:
    """Create two requests of another client, and return the task that approves them."""
    label = f"{webhook.namespace}-{webhook.name}"
    for number in range(2):
        name = f"others-{webhook.name}-{webhook.namespace}-{number}"
        webhook.cluster.api("POST", CSRS, _request(name, webhook.server_name, label))
    expect = {"service": webhook.name, "namespace": webhook.namespace, "signer_name": KUBELET_SERVING}
    options = {"kubeconfig": str(webhook.kubeconfig), "label_selectors": [f"case={label}"], "expect": expect}
    return OperationCall("k8s_csr_approve", {**options, "wait": True})


def _request(name: str, dns_name: str, label: str) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:others"),
        ]
    )
    names = x509.SubjectAlternativeName([x509.DNSName(dns_name)])
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(names, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": KUBELET_SERVING,
        "usages": ["digital signature", "key encipherment", "server auth"],
    }
    return {"metadata": {"name": name, "labels": {"case": label}}, "spec": spec}


def _bundle(webhook: ServedWebhook, **options: Any) -> OperationCall:
    given = {
        "kubeconfig": str(webhook.kubeconfig),
        "targets": webhook.targets,
        "ca_bundle": webhook.cluster.ca_pem,
    }
    return OperationCall("webhook_cabundle", {**given, "certificate": webhook.data()["tls.crt"], **options})


def _add_bundle(webhook: ServedWebhook) -> OperationCall:
    webhook.issue(signer_name=EPHEMERAL_CA)
    return _bundle(webhook)


def _set_bundle(webhook: ServedWebhook) -> OperationCall:
    """Set the bundle to one of its two CAs."""
    own = webhook.issue(signer_name=EPHEMERAL_CA)["ca_bundle"]
    assert _bundle(webhook).run()["changed"]
    # Its Service is of type ExternalName, so no run sees each machine.
    names = [f"{target['kind']}/{target['name']}" for target in webhook.targets]
    return _bundle(webhook, ca_bundle=own, mode="exactly", accept=[{"unseen": names}])


CLUSTER_CA = "CN=kubernetes"
# The Service here is of type ExternalName, so one connection does not show every machine, and the CA of an earlier
# certificate stays. tests/system/rotation/test_rotation.py kills renewals with pods, which remove that CA.
MADE_HERE = "CN=ephemeral-ca"
FLOWS: tuple[Flow, ...] = (
    Flow("k8s_csr: new", _new),
    Flow("k8s_csr: new, ephemeral-ca", _new_ephemeral, kept=(MADE_HERE,)),
    Flow("k8s_csr: renewal, same CA", _renewal),
    Flow("k8s_csr: renewal, new CA (ephemeral-ca)", _renewal_ephemeral, kept=(MADE_HERE,)),
    Flow("k8s_csr: renewal, new CA (another signer)", _another_signer, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: ask", _ask, finish=_approve_and_complete, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: fetch", _fetch, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: ask, then approve: true", _approves_itself, kept=(MADE_HERE,)),
    Flow("k8s_csr: state absent", _absent, keeps_trust=False),
    Flow("k8s_csr: new, ephemeral-ca, then state absent", _new_ephemeral, _given_up, keeps_trust=False),
    Flow("k8s_csr_approve: two requests", _approve),
    Flow("webhook_cabundle: add", _add_bundle, kept=(CLUSTER_CA,)),
    Flow("webhook_cabundle: exactly", _set_bundle),
)

NAMED = {flow.name: flow for flow in FLOWS}
