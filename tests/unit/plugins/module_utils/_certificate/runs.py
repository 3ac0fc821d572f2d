# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs, states and objects of the tests of the certificate flow."""

from __future__ import annotations

from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    gather,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    CertificateState,
    TargetState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import obtain
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import certificate_rules, markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request

from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
    ca,
    intent,
)
from tests.unit.plugins.module_utils._csr.objects import csr, encoded

SPEC = intent().secret


PATH, COLLECTION = SPEC.path, SPEC.collection


PENDING = f"{COLLECTION}/hook-tls-pending"


def newer(obj: dict[str, Any], version: str = "13") -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}


KEY = private_keys.generate("ecdsa-p256")


KEY_HASH = private_keys.public_key_sha256(KEY.public_key())


CSR_NAME = "certflow-hook-apps-1a2b"


PKCS10 = signing_request.build(
    KEY,
    common_name="system:node:hook.apps.svc",
    organizations=("system:nodes",),
    dns_names=intent().request.dns_names,
)


def waiting(**annotations: str) -> dict[str, Any]:
    marks = {"csr": CSR_NAME, "csr-uid": "3d0b8a6e", "public-key-sha256": KEY_HASH, **annotations}
    return {
        "metadata": {
            "name": "hook-tls-pending",
            "uid": "7e4d",
            "labels": {"app.kubernetes.io/managed-by": "certflow.kubernetes"},
            "annotations": {f"certflow.kubernetes/{key}": text for key, text in marks.items()},
            "ownerReferences": [{"kind": "CertificateSigningRequest", "name": CSR_NAME, "uid": "3d0b8a6e"}],
        },
        "data": {"tls.key": encoded(private_keys.to_pem(KEY))},
    }


def its_csr(*conditions: Any, **spec: Any) -> dict[str, Any]:
    obj = csr(*conditions, name=CSR_NAME, pem=spec.pop("pem", PKCS10), **spec)
    obj["metadata"]["labels"] = markers.labels_for(SPEC)
    return obj


def api_with(secret: dict[str, Any] | None, request_: dict[str, Any] | None) -> ScriptedApi:
    return ScriptedApi({PENDING: secret, csr_api.path(CSR_NAME): request_})


STRANGE = [
    {**waiting(), "metadata": {**waiting()["metadata"], "labels": {}}},
    {**waiting(), "data": {"tls.key": encoded("text")}},
    {**waiting(), "data": {}},
    waiting(**{"public-key-sha256": "other"}),
    waiting(csr=""),
    waiting(csr="x; curl example.com"),
]


def state_of(run: CertificateRun, held: ExistingSecret | None, *seen: TargetState) -> CertificateState:
    """Return the state of a run with this Secret and these targets. The rest is gathered from the API server."""
    waiting, fault = (None, None) if run.intent.approve else gather.read_waiting(run)
    state = CertificateState(held, seen, NOW, waiting=waiting, waiting_fault=fault)
    return gather.find_in_use(run, state)


def created(_method: str, _path: str, body: Any) -> Any:
    """Return the answer of the API server to a create."""
    if not isinstance(body, dict):
        return body
    stamp = {"uid": "new", "resourceVersion": "1", "creationTimestamp": "2026-06-15T12:00:00Z"}
    return {**body, "metadata": {**body["metadata"], **stamp}}


HOOK = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")


PLACE = "ValidatingWebhookConfiguration/hook"
MARK, SECOND = f"{PLACE}/h0=", f"{PLACE}/h1="


NEW, OLD = ca().fingerprint, ca("old").fingerprint


def pem(*names: str) -> str:
    return "".join(ca(name).pem for name in names)


def webhook(*anchors: str) -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(pem(*anchors))}
    return {"metadata": {"resourceVersion": "1"}, "webhooks": [{"name": "h0", "clientConfig": config}]}


def issue_here(
    api: ScriptedApi, held: ExistingSecret | None = None, *, check_mode: bool = False, **changed: Any
) -> Any:
    api.objects.setdefault(bundle_targets.path(HOOK), webhook("old"))
    seen = gather.read_targets(api, [HOOK])  # type: ignore[arg-type]
    wanted = intent(signer_name="ephemeral-ca", **changed)
    run = CertificateRun(api, wanted, (HOOK,), check_mode=check_mode)  # type: ignore[arg-type]
    return obtain(run, CertificateState(held, seen, NOW), certificate_rules.missing_secret(wanted))


def planted() -> dict[str, Any]:
    """Return a Secret with all marks, a key and a CA: another run's, or that of an identity that may only create Secrets."""
    made = ScriptedApi()
    issue_here(made)
    secret = made.sent[-1]
    return {**secret, "metadata": {**secret["metadata"], "uid": "1", "resourceVersion": "1"}}
