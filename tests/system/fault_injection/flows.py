# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks that faults are put into, as data: what is there before, the task, and what has to be so in the end."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.rig import operate
from tests.system.fault_injection.served_webhook import (
    CSRS,
    EPHEMERAL_CA,
    KUBELET_SERVING,
    OPERATIONS,
    ServedWebhook,
)

HOUR: dict[str, Any] = {"expiration_seconds": 3600}
# What lasts an hour is due, and what replaces it is not.
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
    """A row. ``prepare`` makes what is there before and returns the task.

    ``again``: the task that runs next. ``finish``: what others do once it has succeeded, until nothing is open any more.
    ``kept``: subjects of CAs that are meant to stay on the targets. ``keeps_trust``: what the Secret holds is trusted all
    the time.
    """

    name: str
    prepare: Callable[[ServedWebhook], OperationCall]
    again: Callable[[OperationCall], OperationCall] = lambda task: task
    finish: Callable[[ServedWebhook, OperationCall], None] = lambda place, task: None
    kept: tuple[str, ...] = ()
    keeps_trust: bool = True


def _csr(place: ServedWebhook, **options: Any) -> OperationCall:
    return OperationCall("k8s_csr", place.options(**options))


def _new(place: ServedWebhook) -> OperationCall:
    return _csr(place)


def _new_by_own_hand(place: ServedWebhook) -> OperationCall:
    return _csr(place, signer_name=EPHEMERAL_CA)


def _renewal(place: ServedWebhook) -> OperationCall:
    place.issue(**HOUR)
    return _csr(place, **RENEW)


def _renewal_by_own_hand(place: ServedWebhook) -> OperationCall:
    place.issue(signer_name=EPHEMERAL_CA, **HOUR)
    return _csr(place, signer_name=EPHEMERAL_CA, **RENEW)


def _another_signer(place: ServedWebhook) -> OperationCall:
    place.issue(signer_name=EPHEMERAL_CA)
    return _csr(place)


def _ask(place: ServedWebhook) -> OperationCall:
    place.issue(signer_name=EPHEMERAL_CA)
    return _csr(place, **TWO_STEP)


def _fetch(place: ServedWebhook) -> OperationCall:
    task = _ask(place)
    asked = task.run()
    assert asked["pending"], asked
    place.approve(asked["csr"]["name"])
    return _csr(place, approve=False)


def _approves_itself(place: ServedWebhook) -> OperationCall:
    """Let a task leave a request that waits for approval, and return a task that approves its own request."""
    asked = _ask(place).run()
    assert asked["pending"], asked
    return _csr(place)


def _approved_by_somebody(place: ServedWebhook, task: OperationCall) -> None:
    """The other half of a request that waits: a person approves, and the same task completes it."""
    asked = task.run()
    assert (asked["changed"], asked["pending"]) == (False, True), asked
    place.approve(asked["csr"]["name"])
    done = operate(OPERATIONS["k8s_csr"], {**task.options, "wait": True})
    assert done.get("changed"), done


def _absent(place: ServedWebhook) -> OperationCall:
    place.issue(signer_name=EPHEMERAL_CA)
    return _csr(place, state="absent")


def _given_up(task: OperationCall) -> OperationCall:
    return OperationCall(task.operation, {**task.options, "state": "absent"})


def _approve(place: ServedWebhook) -> OperationCall:
    """Two requests that somebody else sent."""
    label = f"{place.namespace}-{place.name}"
    for number in range(2):
        name = f"others-{place.name}-{place.namespace}-{number}"
        place.cluster.api("POST", CSRS, _request(name, place.server_name, label))
    expect = {"service": place.name, "namespace": place.namespace, "signer_name": KUBELET_SERVING}
    options = {"kubeconfig": str(place.kubeconfig), "label_selectors": [f"case={label}"], "expect": expect}
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


def _bundle(place: ServedWebhook, **options: Any) -> OperationCall:
    given = {"kubeconfig": str(place.kubeconfig), "targets": place.targets, "ca_bundle": place.cluster.ca_pem}
    return OperationCall("webhook_cabundle", {**given, "certificate": place.data()["tls.crt"], **options})


def _add_bundle(place: ServedWebhook) -> OperationCall:
    place.issue(signer_name=EPHEMERAL_CA)
    return _bundle(place)


def _set_bundle(place: ServedWebhook) -> OperationCall:
    """Exactly one of the two that are there."""
    own = place.issue(signer_name=EPHEMERAL_CA)["ca_bundle"]
    assert _bundle(place).run()["changed"]
    return _bundle(place, ca_bundle=own, mode="exactly")


CLUSTER_CA = "CN=kubernetes"
# The Service here is of type ExternalName, so one connection does not show every machine, and the CA of an earlier
# certificate stays. tests/system/test_rotation.py kills renewals with pods, which remove that CA.
MADE_HERE = "CN=ephemeral-ca"
FLOWS: tuple[Flow, ...] = (
    Flow("k8s_csr: new", _new),
    Flow("k8s_csr: new, ephemeral-ca", _new_by_own_hand, kept=(MADE_HERE,)),
    Flow("k8s_csr: renewal, same CA", _renewal),
    Flow("k8s_csr: renewal, new CA (ephemeral-ca)", _renewal_by_own_hand, kept=(MADE_HERE,)),
    Flow("k8s_csr: renewal, new CA (another signer)", _another_signer, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: ask", _ask, finish=_approved_by_somebody, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: fetch", _fetch, kept=(MADE_HERE,)),
    Flow("k8s_csr, two steps: ask, then approve: true", _approves_itself, kept=(MADE_HERE,)),
    Flow("k8s_csr: state absent", _absent, keeps_trust=False),
    Flow("k8s_csr: new, ephemeral-ca, then state absent", _new_by_own_hand, _given_up, keeps_trust=False),
    Flow("k8s_csr_approve: two requests", _approve),
    Flow("webhook_cabundle: add", _add_bundle, kept=(CLUSTER_CA,)),
    Flow("webhook_cabundle: exactly", _set_bundle),
)

NAMED = {flow.name: flow for flow in FLOWS}
