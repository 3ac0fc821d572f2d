# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""state: absent removes the objects that were made, and keeps those that another Secret or client needs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.remove import remove
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import ephemeral_ca, private_keys

from tests.support.authority import DAY, NOW
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    intent,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

SPEC = intent().secret
HOOK = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
OTHER = bundle_targets.Target("ValidatingWebhookConfiguration", "other")
ANCHORS = "certflow.kubernetes/added-anchors"
RECORD = f"ValidatingWebhookConfiguration/hook/h0={ca().fingerprint}"
OURS = {**MARKED, "annotations": {**MARKED["annotations"], ANCHORS: RECORD}}
FORGET = {"op": "remove", "path": "/metadata/annotations/certflow.kubernetes~1added-anchors"}


def webhook() -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(ca().pem)}
    return {"metadata": {"resourceVersion": "1"}, "webhooks": [{"name": "h0", "clientConfig": config}]}


def page(*items: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1"}, "items": list(items)}


def api_with(secret: dict[str, Any], *, listed: Any = None) -> ScriptedApi:
    found = page(secret) if listed is None else listed
    return ScriptedApi(
        {
            SPEC.path: secret,
            SPEC.collection: found,
            bundle_targets.path(HOOK): webhook(),
            csr_api.COLLECTION: page(),
        }
    )


def absent(api: ScriptedApi, *targets: bundle_targets.Target) -> Result:
    return remove(CertificateRun(api, intent(), targets or (HOOK,)))  # type: ignore[arg-type]


GONE = [("PATCH", bundle_targets.path(HOOK)), ("DELETE", SPEC.path)]


def test_the_anchor_is_removed_before_the_secret() -> None:
    api = api_with(secret_object(**OURS))
    result = absent(api)
    assert (result.changed, result.warnings) == (True, ())
    assert api.writes() == GONE


def named(name: str, **annotations: str) -> dict[str, Any]:
    return secret_object(**{**MARKED, "annotations": {**MARKED["annotations"], **annotations}, "name": name})


@pytest.mark.parametrize(
    ("listed", "word"),
    [
        (page(named("hook-tls"), named("hook-new")), "Secret hook-new of Service apps/hook needs it too"),
        (api_error(Forbidden), "may not list secrets"),
    ],
)
def test_a_ca_that_another_secret_of_the_service_needs_stays(listed: Any, word: str) -> None:
    """A Secret of the wrong type is replaced by another Secret. Deleting the first must not remove the anchor of the second."""
    api = api_with(secret_object(**OURS), listed=listed)
    result = absent(api)
    assert api.writes() == [("DELETE", SPEC.path)]
    assert word in result.warnings[0]
    assert result.values["targets"] == []


def test_secrets_of_other_services_do_not_count() -> None:
    other = named("other-tls", **{"certflow.kubernetes/service": "apps/other"})
    api = api_with(secret_object(**OURS), listed=page(named("hook-tls"), other))
    assert absent(api).warnings == ()
    assert api.writes() == GONE


def test_other_secrets_are_listed_only_to_remove_an_anchor() -> None:
    api = api_with(secret_object(**MARKED), listed=api_error(Forbidden))
    assert absent(api).warnings == ()
    assert api.writes() == [("DELETE", SPEC.path)]


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ({**OURS, "data": {"password": encoded("x")}}, "also holds password"),
        ({"annotations": {ANCHORS: RECORD}}, "did not make it"),
        (
            {**OURS, "annotations": {**OURS["annotations"], "meta.helm.sh/release-name": "x"}},
            "Helm writes it",
        ),
    ],
)
def test_a_secret_that_stays_loses_its_record_with_the_anchors(secret: dict[str, Any], word: str) -> None:
    api = api_with(secret_object(**secret))
    result = absent(api)
    assert result.changed
    assert [word in text for text in result.warnings] == [True]
    assert api.writes() == [("PATCH", bundle_targets.path(HOOK)), ("PATCH", SPEC.path)]
    assert api.sent[-1][1:] == [FORGET]

    forgotten = {key: text for key, text in secret["annotations"].items() if key != ANCHORS}
    again = api_with(secret_object(**{**secret, "annotations": forgotten}))
    assert absent(again).changed is False
    assert again.writes() == []


def orphan() -> str:
    """Return a CA that a killed run left only on a target."""
    signed = ephemeral_ca.sign_once(
        private_keys.generate("ecdsa-p256"),
        common_name="hook.apps.svc",
        usages=["server auth"],
        lifetime=DAY,
        now=NOW,
    )
    return signed.ca_pem


@pytest.mark.parametrize("secret", [None, secret_object(**MARKED), secret_object(**OURS)])
def test_an_unrecorded_ca_that_was_made_here_is_removed_too(secret: dict[str, Any] | None) -> None:
    api = api_with(secret or {}, listed=page())
    api.objects[SPEC.path] = secret
    target = api.objects[bundle_targets.path(HOOK)]
    target["webhooks"][0]["clientConfig"]["caBundle"] = encoded(ca().pem + orphan())
    assert absent(api).changed
    recorded = secret is not None and ANCHORS in secret["metadata"]["annotations"]
    left = {} if recorded else {"value": encoded(ca().pem)}
    assert api.sent[0][2] == {
        "op": "remove" if recorded else "add",
        "path": "/webhooks/0/clientConfig/caBundle",
        **left,
    }


def test_a_target_that_cannot_be_read_or_calls_another_service_stays() -> None:
    for obj in (api_error(Forbidden), {**webhook(), "webhooks": []}, None):
        api = api_with(secret_object(**MARKED))
        api.objects[bundle_targets.path(HOOK)] = obj
        absent(api)
        assert api.writes() == [("DELETE", SPEC.path)]


def test_anchors_of_another_service_stay() -> None:
    theirs = {**OURS, "annotations": {**OURS["annotations"], "certflow.kubernetes/service": "apps/other"}}
    api = api_with(secret_object(**theirs))
    result = absent(api)
    assert (result.changed, api.writes()) == (False, [])
    assert "made for Service apps/other" in result.warnings[0]


def test_targets_that_the_task_does_not_name_stay_recorded() -> None:
    theirs = f"ValidatingWebhookConfiguration/other/h0={ca().fingerprint}"
    api = api_with(secret_object(annotations={ANCHORS: f"{RECORD} {theirs}"}))
    absent(api)
    assert api.sent[-1][1]["value"] == theirs


def test_without_permission_to_list_requests_an_ephemeral_certificate_is_removed() -> None:
    marks = {**OURS["annotations"], "certflow.kubernetes/signer-name": "ephemeral-ca"}
    api = api_with(secret_object(**{**OURS, "annotations": marks}))
    api.objects[csr_api.COLLECTION] = api_error(Forbidden)
    assert absent(api).warnings == ()
    assert api.writes() == GONE


def test_without_permission_to_list_requests_the_run_warns() -> None:
    api = api_with(secret_object(**OURS))
    api.objects[csr_api.COLLECTION] = api_error(Forbidden)
    [warning] = absent(api).warnings
    assert "are not removed" in warning
    assert "list certificatesigningrequests" in warning
    assert api.writes() == GONE


@pytest.mark.parametrize(
    ("written", "deleted", "word"),
    [
        ({"data": {"password": encoded("x")}}, False, "also holds password"),
        ({"labels": {}}, False, "did not make it"),
        ({"annotations": {**OURS["annotations"], "note": "x"}}, True, ""),
    ],
)
def test_a_secret_that_is_written_between_plan_and_delete_is_judged_again(
    written: dict[str, Any], deleted: bool, word: str
) -> None:
    api = api_with(secret_object(**OURS))

    def change(method: str, path: str, body: Any) -> Any:
        if method == "PATCH":  # the anchor is removed first
            api.objects[SPEC.path] = secret_object(**{**OURS, **written, "resourceVersion": "13"})
        return body

    api.on_write = change
    result = absent(api)
    assert (("DELETE", SPEC.path) in api.writes()) is deleted
    assert [word in text for text in result.warnings] == ([] if deleted else [True])
