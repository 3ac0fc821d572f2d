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
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers, secret_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import ephemeral_ca, private_keys

from tests.support.certificates.authority import DAY, NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    created,
    intent,
    leaf,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

SPEC = intent().secret
HOOK = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
OTHER = bundle_targets.Target("ValidatingWebhookConfiguration", "other")
ANCHORS = "certflow.kubernetes/added-anchors"
RECORD = f"ValidatingWebhookConfiguration/hook/h0={ca().fingerprint}"
PAIR = leaf()
CREATED = created(PAIR)
OURS = created(PAIR, annotations={**MARKED["annotations"], ANCHORS: RECORD})


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


def absent(
    api: ScriptedApi, *targets: bundle_targets.Target, accept: tuple[str, ...] = (), **options: Any
) -> Result:
    return remove(CertificateRun(api, intent(accept=accept, **options), targets or (HOOK,)))  # type: ignore[arg-type]


GONE = [("PATCH", bundle_targets.path(HOOK)), ("DELETE", SPEC.path)]


def test_the_anchor_is_removed_before_the_secret() -> None:
    api = api_with(secret_object(PAIR, **OURS))
    result = absent(api)
    assert (result.changed, result.warnings) == (True, ())
    assert api.writes() == GONE


def test_each_write_of_a_removal_is_in_the_plan_and_compared_with_it() -> None:
    """The plan has the caBundle and the Secret. Without one of them no write is sent."""
    fixed = ["cluster:x"]
    plan = PlanGuard(fixed=fixed)
    api = api_with(secret_object(PAIR, **OURS))
    remove(CertificateRun(api, intent(), (HOOK,), check_mode=True, guard=plan))  # type: ignore[arg-type]
    assert len(plan.writes) == len(GONE)
    for lacking in plan.writes:
        api = api_with(secret_object(PAIR, **OURS))
        guard = PlanGuard(sorted(plan.writes - {lacking}), fixed)
        with fails("plan-differs"):
            remove(CertificateRun(api, intent(), (HOOK,), guard=guard))  # type: ignore[arg-type]
        assert api.writes() == []


def named(name: str, **annotations: str) -> dict[str, Any]:
    return secret_object(
        PAIR, **{**CREATED, "annotations": {**CREATED["annotations"], **annotations}, "name": name}
    )


@pytest.mark.parametrize(
    ("listed", "word", "left"),
    [
        (page(named("hook-tls"), named("hook-new")), "Secret hook-new of Service apps/hook needs it too", 0),
        (api_error(Forbidden), "may not list secrets", 1),
    ],
)
def test_a_ca_that_another_secret_of_the_service_needs_stays(listed: Any, word: str, left: int) -> None:
    """A Secret of the wrong type is replaced by another Secret. Deleting the first must not remove the anchor of the second."""
    api = api_with(secret_object(PAIR, **OURS), listed=listed)
    result = absent(api)
    assert api.writes() == [("DELETE", SPEC.path)]
    assert word in result.warnings[0]
    assert (result.values["targets"], result.values["left"]["count"]) == ([], left)


def test_the_ca_of_its_own_certificate_does_not_keep_a_secret() -> None:
    assert absent(api_with(secret_object(PAIR, **OURS, data={"ca.crt": encoded(ca().pem)}))).warnings == ()


def test_the_ca_of_another_client_keeps_a_secret_under_the_key_of_the_task() -> None:
    both = encoded(ca().pem + ca("clients").pem)
    for key in ("ca.crt", "ca.pem"):
        api = api_with(secret_object(PAIR, **CREATED, data={key: both}))
        (text,) = absent(api, secret={"ca_key": key}).warnings
        assert text.count("another CA") == 1
        assert api.writes() == [("PATCH", SPEC.path)]


def pod(name: str, secret: str, phase: str = "Running") -> dict[str, Any]:
    volume = {"name": "tls", "secret": {"secretName": secret}}
    return {"metadata": {"name": name}, "spec": {"volumes": [volume]}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("pods", "named"),
    [
        (page(pod("other-0", "other"), pod("ended-0", "hook-tls", "Succeeded")), []),
        (
            page(pod("other-0", "other"), pod("hook-0", "hook-tls"), pod("hook-1", "hook-tls")),
            ["pod apps/hook-0"],
        ),
        (api_error(Forbidden), []),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_pod_that_has_the_deleted_secret_is_named(pods: Any, named: list[str], check_mode: bool) -> None:
    """No caBundle changes, because the targets held the CA before, or the task does not name them."""
    api = api_with(secret_object(PAIR, **CREATED))
    api.objects["/api/v1/namespaces/apps/pods"] = pods
    result = remove(CertificateRun(api, intent(), (HOOK,), check_mode=check_mode))  # type: ignore[arg-type]
    assert [text.partition(" has Secret apps/hook-tls")[0] for text in result.warnings] == named
    assert api.writes() == ([] if check_mode else [("DELETE", SPEC.path)])


def test_secrets_of_other_services_do_not_count() -> None:
    other = named("other-tls", **{"certflow.kubernetes/service": "apps/other"})
    api = api_with(secret_object(PAIR, **OURS), listed=page(named("hook-tls"), other))
    assert absent(api).warnings == ()
    assert api.writes() == GONE


def test_other_secrets_are_listed_only_to_remove_an_anchor() -> None:
    api = api_with(secret_object(PAIR, **CREATED), listed=api_error(Forbidden))
    assert absent(api).warnings == ()
    assert api.writes() == [("DELETE", SPEC.path)]


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ({**OURS, "data": {"password": encoded("x")}}, "also holds password"),
        ({**OURS, "data": {"ca.crt": encoded(ca("clients").pem)}}, "also holds another CA"),
        ({"annotations": {ANCHORS: RECORD}}, "did not create it"),
        (
            {**OURS, "annotations": {**OURS["annotations"], "meta.helm.sh/release-name": "x"}},
            "Helm writes it",
        ),
    ],
)
def test_a_secret_that_stays_loses_the_marks_of_this_collection(secret: dict[str, Any], word: str) -> None:
    api = api_with(secret_object(PAIR, **secret))
    result = absent(api, accept=("unseen",))
    assert result.changed
    assert [word in text for text in result.warnings] == [True, False]
    assert api.writes() == [("PATCH", bundle_targets.path(HOOK)), ("PATCH", SPEC.path)]
    lost = {operation["path"].rpartition("/")[2].replace("~1", "/") for operation in api.sent[-1][1:]}
    held = {*secret.get("labels", {}), *secret["annotations"]}
    assert lost == {key for key in held if key.startswith("certflow") or key.endswith("managed-by")}

    again = api_with(secret_object(PAIR, annotations=dict.fromkeys(held - lost, "x")))
    assert absent(again).changed is False
    assert again.writes() == []


def test_a_task_without_the_keys_of_the_secret_takes_no_marks() -> None:
    """The task with state: present had other certificate_key and private_key_key, so it still finds its record."""
    secret = secret_object(PAIR, **OURS)
    secret["data"] = {f"{key}.pem": text for key, text in secret["data"].items()}
    api = api_with(secret)
    result = absent(api, accept=("unseen",))
    assert not result.changed
    assert api.writes() == []
    assert "secret.certificate_key" in result.values["left"]["first"]["reason"]
    assert result.values["left"]["count"] == 1


@pytest.mark.parametrize(
    ("secret", "refused"),
    [
        ({"annotations": {ANCHORS: RECORD}}, True),
        ({}, True),
        ({**OURS, "data": {"password": encoded("x")}}, True),
        ({"annotations": {**MARKED["annotations"], "certflow.kubernetes/service": "apps/other"}}, True),
        (OURS, False),
    ],
    ids=["adopted", "without marks", "with other data", "of another Service", "created"],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_pods_may_come_back_with_a_secret_that_stays(
    secret: dict[str, Any], refused: bool, is_there: bool
) -> None:
    """The Deployment has no replica now, or the Service is created again, and a killed run left a CA on the webhook."""
    api = api_with(secret_object(PAIR, **secret))
    target = api.objects[bundle_targets.path(HOOK)]
    target["webhooks"][0]["clientConfig"]["caBundle"] = encoded(ca().pem + orphan())
    service = {"metadata": {"namespace": "apps", "name": "hook"}, "spec": {"ports": [{"port": 443}]}}
    if is_there:
        api.objects["/api/v1/namespaces/apps/services/hook"] = service
    api.objects["/apis/discovery.k8s.io/v1/namespaces/apps/endpointslices"] = page()
    if not refused:
        absent(api)
        assert api.writes() == GONE
        return
    with fails("still-needed", "unseen"):
        absent(api)
    assert api.writes() == []


COPIED = {
    markers.CREATED: secret_content.read_secret(
        secret_object(PAIR), intent(namespace="copied").secret
    ).written
}
#: What another client did to a Secret that this collection created, or how a Secret came to be.
ADOPTED: dict[str, dict[str, Any]] = {
    "another client made it": {},
    "adopted, and renewed since": MARKED,
    "created, and another client stored its own key": created(leaf()),
    "created, and another client stored a certificate for the same key": created(
        leaf(key=PAIR.key, serial=7)
    ),
    "created, and another client removed the label": {**CREATED, "labels": {}},
    "a copy of a created one": {**CREATED, "annotations": {**CREATED["annotations"], **COPIED}},
}


@pytest.mark.parametrize("metadata", ADOPTED.values(), ids=list(ADOPTED))
def test_a_secret_that_this_collection_did_not_create_is_never_deleted(metadata: dict[str, Any]) -> None:
    api = api_with(secret_object(PAIR, **metadata))
    result = absent(api)
    assert ("DELETE", SPEC.path) not in api.writes()
    assert "did not create it" in result.warnings[0]
    assert result.values["left"]["count"] == 0
    assert f"{PAIR.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}" in result.warnings[0]
    assert not any(operation["path"].startswith("/data") for sent in api.sent for operation in sent)


def test_a_secret_whose_deletion_waits_is_not_removed_again() -> None:
    secret = secret_object(PAIR, **CREATED)
    secret["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.test/backup"]}
    api = api_with(secret)
    result = absent(api)
    assert ("DELETE", SPEC.path) not in api.writes()
    assert "a.test/backup" in result.warnings[0]
    assert (result.values["left"]["count"], result.values["left"]["first"]["code"]) == (1, "not-removed")


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


@pytest.mark.parametrize("secret", [None, secret_object(PAIR, **CREATED), secret_object(PAIR, **OURS)])
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
        api = api_with(secret_object(PAIR, **CREATED))
        api.objects[bundle_targets.path(HOOK)] = obj
        absent(api)
        assert api.writes() == [("DELETE", SPEC.path)]


def test_anchors_of_another_service_stay() -> None:
    theirs = {**OURS, "annotations": {**OURS["annotations"], "certflow.kubernetes/service": "apps/other"}}
    api = api_with(secret_object(PAIR, **theirs))
    result = absent(api)
    assert (result.changed, api.writes()) == (False, [])
    assert "made for Service apps/other" in result.warnings[0]


def test_targets_that_the_task_does_not_name_stay_recorded() -> None:
    theirs = f"ValidatingWebhookConfiguration/other/h0={ca().fingerprint}"
    api = api_with(secret_object(PAIR, annotations={ANCHORS: f"{RECORD} {theirs}"}))
    assert absent(api, accept=("unseen",)).values["left"]["count"] == 1
    assert api.sent[-1][1]["value"] == theirs


def test_without_permission_to_list_requests_an_ephemeral_certificate_is_removed() -> None:
    marks = {**OURS["annotations"], "certflow.kubernetes/signer-name": "ephemeral-ca"}
    api = api_with(secret_object(PAIR, **{**OURS, "annotations": marks}))
    api.objects[csr_api.COLLECTION] = api_error(Forbidden)
    assert absent(api).warnings == ()
    assert api.writes() == GONE


def test_without_permission_to_list_requests_the_run_warns() -> None:
    api = api_with(secret_object(PAIR, **OURS))
    api.objects[csr_api.COLLECTION] = api_error(Forbidden)
    result = absent(api)
    [warning] = result.warnings
    assert "are not removed" in warning
    assert result.values["left"]["count"] == 0  # the cluster deletes them within a day
    assert "list certificatesigningrequests" in warning
    assert api.writes() == GONE


@pytest.mark.parametrize(
    ("written", "deleted", "word"),
    [
        ({"data": {"password": encoded("x")}}, False, "also holds password"),
        ({"labels": {}}, False, "did not create it"),
        ({"annotations": {**OURS["annotations"], "note": "x"}}, True, ""),
    ],
)
def test_a_secret_that_is_written_between_plan_and_delete_is_judged_again(
    written: dict[str, Any], deleted: bool, word: str
) -> None:
    api = api_with(secret_object(PAIR, **OURS))

    def change(method: str, path: str, body: Any) -> Any:
        if method == "PATCH":  # the anchor is removed first
            api.objects[SPEC.path] = secret_object(PAIR, **{**OURS, **written, "resourceVersion": "13"})
        return body

    api.on_write = change
    result = absent(api)
    assert (("DELETE", SPEC.path) in api.writes()) is deleted
    assert [word in text for text in result.warnings] == ([] if deleted else [True])
    assert result.values["left"]["count"] == int(not deleted)
