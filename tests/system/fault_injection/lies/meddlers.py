# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others may do to a task's objects between two of its requests."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import webhook_cabundle
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.support.clusters import pki
from tests.support.csr_rig import CSRS, HOOKS, role_in
from tests.system.fault_injection.lies import signers
from tests.system.fault_injection.lies.signer_rig import APPROVED, Moment
from tests.unit.plugins.module_utils._x509 import authority
from tools.ci.venvs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.fault_injection.lies.signer_rig import InUse, SignerRig

RBAC = REPOSITORY / "docs" / "rbac"
MERGE = "application/merge-patch+json"
BEFORE_APPROVAL = Moment("before", r"PUT .*/approval$")
BEFORE_SECRET = Moment("before", r"PATCH .*/secrets/hook-tls$")
BEFORE_TARGET = Moment("before", r"PATCH .*/validatingwebhookconfigurations/[^?]*$")


@dataclass(frozen=True)
class Meddling:
    """``says``: the code of the failure and names in its line, empty if the task ends well. ``holds``: what is true of what is in use then.

    options: of the task; its signer tells the truth where it is asked.
    """

    name: str
    moment: Moment
    act: Callable[[SignerRig], Any]
    says: tuple[str, ...] = ()
    holds: Callable[[InUse, InUse], bool] = lambda before, after: before == after
    options: dict[str, Any] = field(default_factory=dict)


def _replace_csr(stage: SignerRig, pem: str = "") -> None:
    csr = stage.newest()
    name = csr["metadata"]["name"]
    stage.rig.cluster.api("DELETE", f"{CSRS}/{name}")
    fields = ("request", "signerName", "usages", "expirationSeconds")
    spec = {key: csr["spec"][key] for key in fields if key in csr["spec"]}
    if pem:
        spec["request"] = base64.b64encode(pem.encode()).decode()
    metadata = {"name": name, "labels": csr["metadata"]["labels"]}
    stage.rig.cluster.api("POST", CSRS, {"metadata": metadata, "spec": spec})


def _others_request() -> str:
    names = x509.SubjectAlternativeName([x509.DNSName("kubernetes.default.svc")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(names, critical=False)
    signed = builder.sign(authority.new_key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _delete_csr(stage: SignerRig) -> None:
    stage.rig.cluster.api("DELETE", f"{CSRS}/{stage.newest()['metadata']['name']}")


def _decide(stage: SignerRig, decision: str) -> None:
    stage.rig.decide(stage.newest()["metadata"]["name"], decision)


def _approve_and_issue(stage: SignerRig) -> None:
    _decide(stage, "Approved")
    stage.issue(signers.TRUTHS[0])


def _issue_unapproved(stage: SignerRig) -> None:
    stage.issue(signers.TRUTHS[0])


def _patch_secret(stage: SignerRig, **body: Any) -> None:
    stage.rig.cluster.api("PATCH", f"{stage.rig.secrets}/hook-tls", body, MERGE)


def _delete_secret(stage: SignerRig) -> None:
    stage.rig.cluster.api("DELETE", f"{stage.rig.secrets}/hook-tls")


def _recreate_secret(stage: SignerRig) -> None:
    secret = stage.rig.secret() or {}
    _delete_secret(stage)
    metadata = {"name": "hook-tls", "labels": secret["metadata"]["labels"]}
    stage.rig.cluster.api("POST", stage.rig.secrets, {**secret, "metadata": metadata})


def _put_bundle(stage: SignerRig) -> None:
    stage.rig.set_bundle(stage.target, stage.rig.bundle(stage.target) + _foreign())


def _empty_bundle(stage: SignerRig) -> None:
    stage.rig.set_bundle(stage.target, "")


def _foreign() -> str:
    return FOREIGN.certificate_pem.decode()


FOREIGN = pki.make_ca("foreign")


def _target(stage: SignerRig, method: str, *body: Any) -> dict[str, Any]:
    return stage.rig.cluster.api(method, f"{HOOKS}/{stage.target['name']}", *body)


def _move_webhooks(stage: SignerRig) -> None:
    found = _target(stage, "GET")
    (hook,) = found["webhooks"]
    other = {**hook, "name": "first.certflow.test", "clientConfig": {"url": "https://hooks.example.com/x"}}
    _target(stage, "PUT", {**found, "webhooks": [other, hook]})


def _call_another(stage: SignerRig) -> None:
    found = _target(stage, "GET")
    found["webhooks"][0]["clientConfig"]["service"]["name"] = "another"
    _target(stage, "PUT", found)


def _inject(stage: SignerRig) -> None:
    marks = {"metadata": {"annotations": {"cert-manager.io/inject-ca-from": "a/b"}}}
    _target(stage, "PATCH", marks, MERGE)


def _another_task(stage: SignerRig) -> None:
    """webhook_cabundle, for another certificate of the webhook."""
    given: dict[str, Any] = {"targets": [stage.target], "ca_bundle": _foreign()}
    result = stage.rig.operate(webhook_cabundle.OPERATION, **given)
    assert result.get("changed"), result


def _same_task(stage: SignerRig) -> None:
    """The same task, by somebody whom no Lease holds back."""
    roles = [role_in(RBAC / f"{name}.yaml") for name in ("request", "approve", "bundle")]
    for role in roles:
        role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["leases"]]
    roles[1]["rules"].append(
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": [signers.LIAR],
            "verbs": ["approve"],
        }
    )
    user = f"hasty-{stage.rig.name}"
    stage.rig.grant(user, *roles)
    result = stage.run(kubeconfig=str(stage.rig.cluster.kubeconfig_for(user)))
    assert result.get("changed"), result


def _is_replaced(before: InUse, after: InUse) -> bool:
    """The new certificate is stored, and its CA stands beside the old one."""
    return after.data["tls.crt"] != before.data["tls.crt"] and signers.root().pem in after.bundle


def _data_stays(before: InUse, after: InUse) -> bool:
    """The Secret; the targets already trust the new certificate besides."""
    return after.data == before.data and before.bundle in after.bundle


REPLACED = ("request-replaced", "Denied")
MEDDLINGS: tuple[Meddling, ...] = (
    Meddling(
        "its request is replaced by another one of that name",
        BEFORE_APPROVAL,
        lambda stage: _replace_csr(stage, _others_request()),
        REPLACED,
    ),
    Meddling("its request is replaced by a copy of itself", BEFORE_APPROVAL, _replace_csr, REPLACED),
    Meddling(
        "its request is denied",
        BEFORE_APPROVAL,
        partial(_decide, decision="Denied"),
        ("not-issued", "denied"),
    ),
    Meddling("its request is deleted", BEFORE_APPROVAL, _delete_csr, ("request-deleted",)),
    Meddling(
        "its request is approved, and issued, by others first",
        BEFORE_APPROVAL,
        _approve_and_issue,
        holds=_is_replaced,
    ),
    Meddling("it is issued before anybody approved", BEFORE_APPROVAL, _issue_unapproved, holds=_is_replaced),
    Meddling("its approved request is deleted", APPROVED, _delete_csr, ("not-issued",)),
    Meddling(
        "its approved request is replaced by a copy of itself",
        APPROVED,
        _replace_csr,
        ("request-replaced",),
    ),
    Meddling(
        "somebody labels the Secret",
        BEFORE_SECRET,
        partial(_patch_secret, metadata={"labels": {"tier": "edge"}}),
        holds=_is_replaced,
    ),
    Meddling(
        "somebody puts more into the Secret",
        BEFORE_SECRET,
        partial(_patch_secret, data={"extra": "eA=="}),
        holds=lambda before, after: _is_replaced(before, after) and after.data["extra"] == "x",
    ),
    Meddling("the Secret is deleted", BEFORE_SECRET, _delete_secret, holds=_is_replaced),
    Meddling("the Secret is made anew, as it was", BEFORE_SECRET, _recreate_secret, holds=_is_replaced),
    Meddling(
        "the Secret becomes immutable",
        BEFORE_SECRET,
        partial(_patch_secret, immutable=True),
        ("secret-unusable", "immutable"),
        _data_stays,
    ),
    Meddling(
        "the Secret becomes cert-manager's",
        BEFORE_SECRET,
        partial(_patch_secret, metadata={"annotations": {"cert-manager.io/certificate-name": "x"}}),
        ("secret-unusable", "cert-manager"),
        _data_stays,
    ),
    Meddling(
        "somebody adds a CA to the webhook",
        BEFORE_TARGET,
        _put_bundle,
        holds=lambda before, after: _is_replaced(before, after) and _foreign() in after.bundle,
    ),
    Meddling(
        "another task of this collection adds a CA to the webhook",
        BEFORE_TARGET,
        _another_task,
        holds=lambda before, after: _is_replaced(before, after) and _foreign() in after.bundle,
    ),
    Meddling(
        "the same task runs, and stores its certificate first", BEFORE_SECRET, _same_task, holds=_is_replaced
    ),
    Meddling(
        "somebody moves the webhook in its configuration", BEFORE_TARGET, _move_webhooks, holds=_is_replaced
    ),
    Meddling(
        "the webhook now calls another Service", BEFORE_TARGET, _call_another, ("invalid-target", "another")
    ),
    Meddling(
        "the webhook becomes cert-manager's", BEFORE_TARGET, _inject, ("owned-by-another", "cert-manager")
    ),
    Meddling(
        "the webhook's configuration is deleted",
        BEFORE_TARGET,
        partial(_target, method="DELETE"),
        ("invalid-target",),
        lambda before, after: after.data == before.data,
    ),
)
