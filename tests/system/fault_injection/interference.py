# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes that other clients make to a task's objects between two of its requests."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.support.certificates import authority
from tests.support.certificates.csr_rig import CSRS, HOOKS
from tests.support.clusters import pki
from tests.support.permissions.rbac import documented
from tests.system.fault_injection import signer_answers
from tests.system.fault_injection.signer_answers import is_replaced
from tests.system.fault_injection.signer_rig import APPROVED, RequestPoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.fault_injection.signer_rig import InUse, SignerRig

MERGE = "application/merge-patch+json"
BEFORE_APPROVAL = RequestPoint("before", r"PUT .*/approval$")
BEFORE_SECRET = RequestPoint("before", r"PATCH .*/secrets/hook-tls$")
BEFORE_TARGET = RequestPoint("before", r"PATCH .*/validatingwebhookconfigurations/[^?]*$")


@dataclass(frozen=True)
class Interference:
    """A change that another client makes during a task."""

    #: Name in the table.
    name: str
    #: The request of the task at which the change is made.
    point: RequestPoint
    #: Makes the change.
    act: Callable[[SignerRig], Any]
    #: Failure code and names that the message must contain. Empty if the task must succeed.
    says: tuple[str, ...] = ()
    #: Checks the state in use, before and after the task.
    holds: Callable[[InUse, InUse], bool] = lambda before, after: before == after
    #: Options of the task. Its signer gives the right answer.
    options: dict[str, Any] = field(default_factory=dict)


def _replace_csr(signer_rig: SignerRig, pem: str = "") -> None:
    csr = signer_rig.newest()
    name = csr["metadata"]["name"]
    signer_rig.rig.cluster.api("DELETE", f"{CSRS}/{name}")
    fields = ("request", "signerName", "usages", "expirationSeconds")
    spec = {key: csr["spec"][key] for key in fields if key in csr["spec"]}
    if pem:
        spec["request"] = base64.b64encode(pem.encode()).decode()
    metadata = {"name": name, "labels": csr["metadata"]["labels"]}
    signer_rig.rig.cluster.api("POST", CSRS, {"metadata": metadata, "spec": spec})


def _others_request() -> str:
    names = x509.SubjectAlternativeName([x509.DNSName("kubernetes.default.svc")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(names, critical=False)
    signed = builder.sign(authority.new_key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _delete_csr(signer_rig: SignerRig) -> None:
    signer_rig.rig.cluster.api("DELETE", f"{CSRS}/{signer_rig.newest()['metadata']['name']}")


def _decide(signer_rig: SignerRig, decision: str) -> None:
    signer_rig.rig.decide(signer_rig.newest()["metadata"]["name"], decision)


def _approve_and_issue(signer_rig: SignerRig) -> None:
    _decide(signer_rig, "Approved")
    signer_rig.issue(signer_answers.RIGHT_ANSWERS[0])


def _issue_unapproved(signer_rig: SignerRig) -> None:
    signer_rig.issue(signer_answers.RIGHT_ANSWERS[0])


def _patch_secret(signer_rig: SignerRig, **body: Any) -> None:
    signer_rig.rig.cluster.api("PATCH", f"{signer_rig.rig.secrets}/hook-tls", body, MERGE)


def _delete_secret(signer_rig: SignerRig) -> None:
    signer_rig.rig.cluster.api("DELETE", f"{signer_rig.rig.secrets}/hook-tls")


def _recreate_secret(signer_rig: SignerRig) -> None:
    secret = signer_rig.rig.secret() or {}
    _delete_secret(signer_rig)
    metadata = {"name": "hook-tls", "labels": secret["metadata"]["labels"]}
    signer_rig.rig.cluster.api("POST", signer_rig.rig.secrets, {**secret, "metadata": metadata})


def _put_bundle(signer_rig: SignerRig) -> None:
    signer_rig.rig.set_bundle(signer_rig.target, signer_rig.rig.bundle(signer_rig.target) + _foreign())


def _foreign() -> str:
    return FOREIGN.certificate_pem.decode()


FOREIGN = pki.make_ca("foreign")


def _target(signer_rig: SignerRig, method: str, *body: Any) -> dict[str, Any]:
    return signer_rig.rig.cluster.api(method, f"{HOOKS}/{signer_rig.target['name']}", *body)


def _move_webhooks(signer_rig: SignerRig) -> None:
    found = _target(signer_rig, "GET")
    (hook,) = found["webhooks"]
    other = {**hook, "name": "first.certflow.test", "clientConfig": {"url": "https://hooks.example.com/x"}}
    _target(signer_rig, "PUT", {**found, "webhooks": [other, hook]})


def _call_another(signer_rig: SignerRig) -> None:
    found = _target(signer_rig, "GET")
    found["webhooks"][0]["clientConfig"]["service"]["name"] = "another"
    _target(signer_rig, "PUT", found)


def _inject(signer_rig: SignerRig) -> None:
    marks = {"metadata": {"annotations": {"cert-manager.io/inject-ca-from": "a/b"}}}
    _target(signer_rig, "PATCH", marks, MERGE)


def _another_task(signer_rig: SignerRig) -> None:
    """Run webhook_cabundle for another certificate of the webhook."""
    given: dict[str, Any] = {"targets": [signer_rig.target], "ca_bundle": _foreign()}
    result = signer_rig.rig.operate(webhook_cabundle.OPERATION, **given)
    assert result.get("changed"), result


def _same_task(signer_rig: SignerRig) -> None:
    """Run the same task as a user without permission for Leases, so that the Lease does not stop it."""
    roles = [documented(name) for name in ("request", "approve", "bundle")]
    for role in roles:
        role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["leases"]]
    roles[1]["rules"].append(
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": [signer_answers.TEST_SIGNER],
            "verbs": ["approve"],
        }
    )
    user = f"hasty-{signer_rig.rig.name}"
    signer_rig.rig.grant(user, *roles)
    result = signer_rig.run(kubeconfig=str(signer_rig.rig.cluster.kubeconfig_for(user)))
    assert result.get("changed"), result


def _data_stays(before: InUse, after: InUse) -> bool:
    """Return True if the Secret is unchanged and the target still trusts the old CA."""
    return after.data == before.data and before.bundle in after.bundle


REPLACED = ("request-replaced", "Denied")
INTERFERENCES: tuple[Interference, ...] = (
    Interference(
        "the request is replaced by another one of that name",
        BEFORE_APPROVAL,
        lambda signer_rig: _replace_csr(signer_rig, _others_request()),
        REPLACED,
    ),
    Interference("the request is replaced by a copy of itself", BEFORE_APPROVAL, _replace_csr, REPLACED),
    Interference("the request is denied", BEFORE_APPROVAL, partial(_decide, decision="Denied"), ("not-issued", "denied")),
    Interference("the request is deleted", BEFORE_APPROVAL, _delete_csr, ("request-replaced",)),
    Interference("another client approves the request first, and the signer issues", BEFORE_APPROVAL, _approve_and_issue, holds=is_replaced),
    Interference("the signer issues before the approval", BEFORE_APPROVAL, _issue_unapproved, holds=is_replaced),
    Interference("the approved request is deleted", APPROVED, _delete_csr, ("not-issued",)),
    Interference("the approved request is replaced by a copy of itself", APPROVED, _replace_csr, ("request-replaced",)),
    Interference(
        "another client labels the Secret",
        BEFORE_SECRET,
        partial(_patch_secret, metadata={"labels": {"tier": "edge"}}),
        holds=is_replaced,
    ),
    Interference(
        "another client adds data to the Secret",
        BEFORE_SECRET,
        partial(_patch_secret, data={"extra": "eA=="}),
        holds=lambda before, after: is_replaced(before, after) and after.data["extra"] == "x",
    ),
    Interference("the Secret is deleted", BEFORE_SECRET, _delete_secret, holds=is_replaced),
    Interference("the Secret is deleted and created again with the same content", BEFORE_SECRET, _recreate_secret, holds=is_replaced),
    Interference(
        "the Secret becomes immutable",
        BEFORE_SECRET,
        partial(_patch_secret, immutable=True),
        ("secret-unusable", "immutable"),
        _data_stays,
    ),
    Interference(
        "cert-manager's annotation is added to the Secret",
        BEFORE_SECRET,
        partial(_patch_secret, metadata={"annotations": {"cert-manager.io/certificate-name": "x"}}),
        ("secret-unusable", "cert-manager"),
        _data_stays,
    ),
    Interference(
        "another client adds a CA to the webhook",
        BEFORE_TARGET,
        _put_bundle,
        holds=lambda before, after: is_replaced(before, after) and _foreign() in after.bundle,
    ),
    Interference(
        "another task of this collection adds a CA to the webhook",
        BEFORE_TARGET,
        _another_task,
        holds=lambda before, after: is_replaced(before, after) and _foreign() in after.bundle,
    ),
    Interference("the same task runs elsewhere and stores its certificate first", BEFORE_SECRET, _same_task, holds=is_replaced),
    Interference("another client changes the order of the webhooks", BEFORE_TARGET, _move_webhooks, holds=is_replaced),
    Interference("the webhook now calls another Service", BEFORE_TARGET, _call_another, ("invalid-target", "another")),
    Interference("cert-manager's annotation is added to the webhook configuration", BEFORE_TARGET, _inject, ("owned-by-another", "cert-manager")),
    Interference(
        "the webhook configuration is deleted",
        BEFORE_TARGET,
        partial(_target, method="DELETE"),
        ("invalid-target",),
        lambda before, after: after.data == before.data,
    ),
)  # fmt: skip
