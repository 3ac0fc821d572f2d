# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The targets that a run discovers, those that the Secret records, and the warnings about missing targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import certificate_flow
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import RequestError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Forbidden,
    MissingPermissions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    KINDS,
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import OwnedTargetError

from tests.support.certificates.authority import DAY, NOW
from tests.support.failures import fails
from tests.unit.plugins.module_utils._certificate.runs import COLLECTION, HOOK, NEW, OLD, PATH, PENDING, SPEC
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    created,
    intent,
    leaf,
    parameters,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

SERVICE = "/api/v1/namespaces/apps/services/hook"
LISTS = [f"/apis/{row.group}/{row.version}/{row.resource}" for row in KINDS.values()]
ENTRY = "ValidatingWebhookConfiguration/hook"
RECORD = {markers.TARGETS: ENTRY}
OURS = {
    "manager": "certflow.kubernetes",
    "fieldsV1": {"f:webhooks": {'k:{"name":"h0"}': {"f:clientConfig": {"f:caBundle": {}}}}},
}


def hook(bundle: str = "", *, name: str = "hook", service: str = "hook", **metadata: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"service": {"namespace": "apps", "name": service}}
    if bundle:
        config["caBundle"] = encoded(bundle)
    return {
        "metadata": {"name": name, "uid": name, "resourceVersion": "7", **metadata},
        "webhooks": [{"name": "h0", "clientConfig": config}],
    }


def held(annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a Secret with a good certificate."""
    pair, marks = leaf(), {**MARKED["annotations"], **(annotations or {})}
    return secret_object(pair, **created(pair, labels=markers.labels_for(SPEC), annotations=marks))


def api_with(secret: dict[str, Any] | None, *objects: dict[str, Any], **scripted: Any) -> ScriptedApi:
    """Return an API server with these webhook configurations. ``scripted``: answers for ``lists`` and ``service``."""
    page = {"metadata": {"resourceVersion": "1"}, "items": list(objects)}
    empty = {**page, "items": []}
    answers = {path: scripted.get("lists", page if path == LISTS[0] else empty) for path in LISTS}
    found = {f"{LISTS[0]}/{obj['metadata']['name']}": obj for obj in objects}
    others = {PATH: secret, COLLECTION: {**page, "items": [secret] if secret else []}, PENDING: None}
    others[SERVICE] = scripted.get(
        "service", {"metadata": {"namespace": "apps", "name": "hook"}, "spec": {"ports": []}}
    )
    others["/apis/discovery.k8s.io/v1/namespaces/apps/endpointslices"] = empty
    return ScriptedApi({**answers, **found, **others, csr_api.COLLECTION: empty}, ca_pem=ca().pem)


def run(api: ScriptedApi, *targets: Target, state: str = "present", **changed: Any) -> Result:
    """Run in check mode."""
    made = {"discovers": False, "is_hinting": True, **changed}
    options = {key: made.pop(key) for key in ("signer_name",) if key in made}
    wanted = intent(state=state, accept=made.pop("accept", []), **options)
    certificate_run = CertificateRun(api, wanted, targets, check_mode=True, **made)  # type: ignore[arg-type]
    act = certificate_flow.remove_certificate if state == "absent" else certificate_flow.ensure_certificate
    return act(certificate_run)


def targets_of(result: Result) -> list[tuple[str, bool]]:
    return [(target["name"], target["changed"]) for target in result.values["targets"]]


@pytest.mark.parametrize("secret", [None, held()])
def test_a_webhook_with_an_empty_bundle_is_discovered(secret: Any) -> None:
    result = run(api_with(secret, hook(), hook(name="other", service="other")), discovers=True)
    assert targets_of(result) == [("hook", True)]
    assert (result.changed, result.warnings, result.values["skipped_targets"]) == (True, (), [])


def test_a_second_run_keeps_the_record() -> None:
    anchors = {**RECORD, markers.ANCHORS: f"{ENTRY}/h0={NEW}"}
    api = api_with(held(anchors), hook(ca().pem, managedFields=[OURS]))
    result = run(api, discovers=True)
    assert (result.changed, targets_of(result)) == (False, [("hook", False)])
    assert api.asked == [("GET", PATH), *(("GET", path) for path in LISTS)]


def test_a_later_run_without_the_option_reads_only_the_recorded_targets() -> None:
    api = api_with(held(RECORD), hook(ca().pem, managedFields=[OURS]))
    result = run(api)
    assert (result.changed, targets_of(result)) == (False, [("hook", False)])
    assert api.asked == [("GET", PATH), ("GET", f"{LISTS[0]}/hook")]


@pytest.mark.parametrize(
    ("objects", "renewed"),
    [
        ([hook(ca().pem)], True),
        ([hook(ca("old").pem)], False),
        ([hook(ca().pem, service="other")], False),
        ([hook(ca().pem, annotations={"cert-manager.io/inject-ca-from": "apps/hook"})], False),
        ([], False),
    ],
    ids=["trusts it", "another CA", "another service", "another manager", "deleted"],
)
def test_a_renewal_keeps_the_trust_of_the_target_of_another_task(objects: list[Any], renewed: bool) -> None:
    """Two tasks with different targets may share a Secret. The other webhook would refuse a certificate of a new CA."""
    marks = {**MARKED["annotations"], markers.ANCHORS: f"{ENTRY}/h0={NEW}"}
    secret = secret_object(leaf(not_after=NOW + DAY / 10), **{**MARKED, "annotations": marks})
    result = run(api_with(secret, *objects))
    assert targets_of(result) == ([("hook", True)] if renewed else [])
    assert result.values["pending"]


def test_a_renewal_keeps_the_trust_of_a_webhook_that_the_task_does_not_name() -> None:
    obj = hook(ca().pem)
    obj["webhooks"] = [{**obj["webhooks"][0], "name": name} for name in ("h0", "h1", "h2")]
    record = f"{ENTRY}/h0={NEW} {ENTRY}/h1={NEW}"
    marks = {**MARKED["annotations"], markers.ANCHORS: record}
    secret = secret_object(leaf(not_after=NOW + DAY / 10), **{**MARKED, "annotations": marks})
    for named, expected in ((("h1",), [["h1"], ["h0"]]), ((), [["h0", "h1", "h2"]])):
        api = api_with(secret, obj)
        result = run(api, replace(HOOK, webhooks=named))
        assert api.asked.count(("GET", f"{LISTS[0]}/hook")) == 1
        names = [[webhook["name"] for webhook in target["webhooks"]] for target in result.values["targets"]]
        assert names == expected


HIDDEN = f"{LISTS[0]}/hook"


def api_without_permission(record: str, **dates: Any) -> ScriptedApi:
    """Return an API server that does not show the recorded webhook of another task."""
    marks = {**MARKED["annotations"], markers.ANCHORS: record}
    pair = leaf(**dates)
    metadata = created(pair, labels=markers.labels_for(SPEC), annotations=marks)
    api = api_with(secret_object(pair, **metadata))
    api.objects[HIDDEN] = api_error(Forbidden)
    return api


@pytest.mark.parametrize(
    ("record", "accept", "count"),
    [
        (f"{ENTRY}/h0={NEW}", [], 0),
        (f"{ENTRY}/h0={OLD}", [], 1),
        (f"{ENTRY}/h0={NEW} {ENTRY}/h1={OLD}", [], 1),
        (f"{ENTRY}/h0={OLD}", ["unseen"], 0),
    ],
    ids=["recorded", "another CA is recorded", "another webhook", "confirmed"],
)
def test_a_recorded_target_that_may_not_be_read_is_left(record: str, accept: list[str], count: int) -> None:
    """It may refuse the certificate, unless the record shows that it trusts its CA."""
    api = api_without_permission(record)
    left = run(api, accept=accept).values["left"]
    assert left["count"] == count
    if count:
        first = left["first"]
        assert (first["object"]["name"], first["code"]) == ("hook", "missing-permissions")
        assert f"accept: [{{unseen: [{ENTRY}]}}]" in first["remedy"]
    assert [path for _verb, path in api.asked].count(HIDDEN) == 1


def test_no_new_ca_comes_before_a_recorded_target_that_may_not_be_read() -> None:
    """It would refuse the certificate of a new CA. A signer of the cluster usually issues with the recorded one."""
    due = {"not_after": NOW + DAY / 10}
    api = api_without_permission(f"{ENTRY}/h0={NEW}", **due)
    assert run(api).values["pending"]
    with fails("missing-permissions", "ValidatingWebhookConfiguration"):
        run(api, signer_name="ephemeral-ca")
    assert run(api, signer_name="ephemeral-ca", accept=["unseen"]).values["pending"]


@pytest.mark.parametrize("objects", [[], [hook(service="other")]], ids=["deleted", "another service"])
def test_a_recorded_target_that_no_longer_calls_the_service_is_forgotten(objects: list[Any]) -> None:
    result = run(api_with(held(RECORD), *objects))
    assert (result.changed, targets_of(result)) == (True, [])
    assert "the metadata of Secret apps/hook-tls" in result.values["reason"]


@pytest.mark.parametrize(
    "record", ["Pod/hook", "ValidatingWebhookConfiguration/../x", "x", "ValidatingWebhookConfiguration/a/b"]
)
def test_a_record_of_another_form_is_not_read(record: str) -> None:
    api = api_with(held({markers.TARGETS: record}))
    run(api)
    assert api.asked == [("GET", PATH)]


def test_a_target_of_the_task_is_not_recorded() -> None:
    result = run(api_with(held(), hook(ca().pem, managedFields=[OURS])), HOOK, discovers=True)
    assert (result.changed, targets_of(result)) == (False, [("hook", False)])


@pytest.mark.parametrize("bundle", ["old", "cluster"])
def test_a_foreign_bundle_is_not_changed_and_the_result_says_so(bundle: str) -> None:
    """A warning comes only for a bundle without the CA of the certificate."""
    result = run(api_with(held(), hook(ca(bundle).pem)), discovers=True)
    assert (result.changed, targets_of(result)) == (False, [])
    [skipped] = result.values["skipped_targets"]
    assert (skipped["name"], skipped["reason"]) == ("hook", "its caBundle was written by an unknown client")
    assert len(result.warnings) == (bundle == "old")
    assert all("targets: [{kind: ValidatingWebhookConfiguration" in text for text in result.warnings)


def test_an_object_of_another_manager_is_refused_as_an_explicit_target() -> None:
    labelled = hook(annotations={"cert-manager.io/inject-ca-from": "apps/hook"})
    with pytest.raises(OwnedTargetError):
        run(api_with(None, labelled), discovers=True)
    assert targets_of(run(api_with(None, labelled), discovers=True, accept=["cert-manager"])) == [
        ("hook", True)
    ]


def test_missing_permissions_to_list_are_one_failure() -> None:
    with pytest.raises(MissingPermissions) as error:
        run(api_with(held(), lists=api_error(Forbidden)), discovers=True)
    assert "customresourcedefinitions" in error.value.cause


def test_discovered_targets_are_removed_too() -> None:
    anchors = {markers.ANCHORS: f"{ENTRY}/h0={NEW}"}
    for record, discovers in ((RECORD, False), ({}, True)):
        api = api_with(held({**anchors, **record}), hook(ca().pem, managedFields=[OURS]), service=None)
        result = run(api, state="absent", discovers=discovers)
        assert targets_of(result) == [("hook", True)]
        assert result.warnings == ()


def test_a_removal_without_targets_warns_about_the_ca_that_stays() -> None:
    api = api_with(held({markers.ANCHORS: f"{ENTRY}/h0={NEW}"}), hook(ca().pem), service=None)
    [warning] = run(api, state="absent").warnings
    assert "stays in ValidatingWebhookConfiguration hook" in warning
    assert "targets: [{kind: ValidatingWebhookConfiguration, name: 'hook'}]" in warning
    assert run(api, HOOK, state="absent").warnings == ()


YAML = "targets: [{kind: ValidatingWebhookConfiguration, name: 'hook'}]"


@pytest.mark.parametrize(
    ("secret", "objects", "scripted", "words"),
    [
        (None, [hook()], {}, [YAML]),
        (None, [hook(ca("old").pem)], {}, [YAML]),
        (None, [hook(annotations={"cert-manager.io/inject-ca-from": "apps/hook"})], {}, []),
        (None, [], {}, []),
        (None, [], {"service": None}, ["Service apps/hook does not exist"]),
        (None, [hook()], {"service": None}, ["Service apps/hook does not exist", YAML]),
        (None, [], {"service": api_error(Forbidden), "lists": api_error(Forbidden)}, []),
        (held(), [hook()], {"service": None}, []),
    ],
)
def test_a_run_that_issues_without_targets_warns(
    secret: Any, objects: list[Any], scripted: dict[str, Any], words: list[str]
) -> None:
    warnings = run(api_with(secret, *objects, **scripted)).warnings
    assert len(warnings) == len(words)
    assert all(word in text for word, text in zip(words, warnings))


def test_a_run_without_change_does_not_look() -> None:
    api = api_with(held(), hook(), service=None)
    run(api)
    assert api.asked == [("GET", PATH)]


def test_a_discovery_that_finds_nothing_warns() -> None:
    [warning] = run(api_with(None), discovers=True).warnings
    assert "calls Service apps/hook" in warning


def test_discovery_needs_a_service() -> None:
    names = {"service": "", "names": ["a.b"], "allow_names": ["a.b"]}
    given = {**parameters(**names), "discover_targets": True, "wait_timeout": 1, "on_stale": "fail"}
    with pytest.raises(RequestError) as error:
        k8s_csr.run(ScriptedApi(), given, True)  # type: ignore[arg-type]
    assert "discover_targets" in error.value.remedy
