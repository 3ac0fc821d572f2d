# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing the Secret when others write it too, keeping the key of a waiting request, and the record of anchors."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    anchor_record,
    certificate_flow,
    gather,
    request_certificate,
    secret_store,
    target_anchors,
    use_certificate,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    CertificateState,
    TargetState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import obtain
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.request_certificate import (
    SentRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import (
    certificate_rules,
    csr_api,
    markers,
    pending_key,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import AnchorError, RequestError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
    SecretContent,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidObject,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import (
    bundle_content,
    bundle_patch,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import private_keys, signing_request

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    Api,
    api_error,
    ca,
    found,
    intent,
    key_pem,
    leaf,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import approved, condition, csr, encoded, request
from tests.unit.plugins.module_utils._x509.authority import DAY, NOW

pytestmark = pytest.mark.quick

SPEC = intent().secret
PATH, COLLECTION = SPEC.path, SPEC.collection
PENDING = f"{COLLECTION}/hook-tls-pending"


def newer(obj: dict[str, Any], version: str = "13") -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}


# A run without change


def test_a_run_without_change_asks_for_the_secret_and_each_target_only() -> None:
    target = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(ca().pem)}
    webhook = {
        "metadata": {"name": "hook", "uid": "u", "resourceVersion": "7"},
        "webhooks": [{"name": "w", "clientConfig": config}],
    }
    marked = {**MARKED, "labels": markers.labels_for(SPEC)}
    api = Api({PATH: secret_object(**marked), bundle_targets.path(target): webhook}, ca_pem=ca().pem)
    result = certificate_flow.ensure_certificate(CertificateRun(api, intent(), (target,)))  # type: ignore[arg-type]
    assert not result.changed
    assert api.asked == [("GET", PATH), ("GET", bundle_targets.path(target))]


# Writing the Secret


def patch_of(seen: ExistingSecret | None) -> Any:
    return [{"op": "add", "path": "/x", "value": seen.resource_version}] if seen else {"kind": "Secret"}


def test_a_conflict_is_decided_again_on_a_fresh_read() -> None:
    api = Api({PATH: newer(secret_object())})
    answers = iter([api_error(Conflict), {}])
    api.on_write = lambda *_: next(answers)
    assert secret_store.write(api, SPEC, found(), patch_of) is None  # type: ignore[arg-type]
    assert [body[0]["value"] for body in api.sent] == ["12", "13"]


def test_a_secret_that_went_away_is_created_and_one_that_came_is_patched() -> None:
    api = Api()
    answers = iter([api_error(NotFound), {}])
    api.on_write = lambda *_: next(answers)
    secret_store.write(api, SPEC, found(), patch_of)  # type: ignore[arg-type]
    assert api.writes() == [("PATCH", PATH), ("POST", COLLECTION)]
    api = Api({PATH: secret_object()})
    answers = iter([api_error(AlreadyExists), {}])
    api.on_write = lambda *_: next(answers)
    secret_store.write(api, SPEC, None, patch_of)  # type: ignore[arg-type]
    assert api.writes() == [("POST", COLLECTION), ("PATCH", PATH)]


@pytest.mark.parametrize(("seen", "error"), [(True, InvalidObject), (False, NotFound)])
def test_a_refusal_is_no_race(seen: bool, error: Any) -> None:
    """422 for an unchanged Secret, 404 for a namespace that went away."""
    api = Api({PATH: secret_object()} if seen else {})
    api.on_write = lambda *_: api_error(error)
    with pytest.raises(error):
        secret_store.write(api, SPEC, found() if seen else None, patch_of)  # type: ignore[arg-type]
    assert len(api.writes()) == 1


def test_somebody_who_writes_all_the_time_is_named() -> None:
    versions = iter(range(100, 200))
    api = Api({PATH: lambda: newer(secret_object(), str(next(versions)))})
    api.on_write = lambda *_: api_error(Conflict)
    with fails("conflict", "apps/hook-tls"):
        secret_store.write(api, SPEC, found(), patch_of)  # type: ignore[arg-type]


def test_warnings_of_the_trial_do_not_reach_the_user() -> None:
    api = Api()
    api.warnings.append("earlier")
    api.on_write = lambda *_: api.warnings.append("tls: failed to find any PEM data in certificate input")
    secret_store.try_out(api, SPEC, {"kind": "Secret"})  # type: ignore[arg-type]
    assert api.warnings == ["earlier"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotFound, "not-found"), (InvalidObject, "secret-unusable"), (Forbidden, "secret-unusable")],
)
def test_what_the_trial_finds(error: Any, code: str) -> None:
    api = Api()
    api.on_write = lambda *_: api_error(error, "its own words")
    with fails(code, "apps") as caught:
        secret_store.try_out(api, SPEC, {"kind": "Secret"})  # type: ignore[arg-type]
    assert caught.value.remedy


def test_a_missing_right_to_read_is_named() -> None:
    with fails("missing-permissions", "get", "secrets", "hook-tls", "apps"):
        secret_store.read(Api({PATH: api_error(Forbidden)}), SPEC)  # type: ignore[arg-type]


TRIAL_RACES: list[tuple[Any, Any]] = [
    (Conflict, [{"op": "add"}]),
    (NotFound, [{"op": "add"}]),
    (AlreadyExists, {"kind": "Secret"}),  # two first runs at once
]


@pytest.mark.parametrize(("error", "wanted"), TRIAL_RACES)
def test_a_secret_that_changes_during_the_trial_is_looked_at_again_later(error: Any, wanted: Any) -> None:
    api = Api()
    api.on_write = lambda *_: api_error(error)
    secret_store.try_out(api, SPEC, wanted)  # type: ignore[arg-type]


# Two runs at once


def store(api: Api, held: ExistingSecret | None, own: Any) -> ExistingSecret | None:
    run = CertificateRun(api, intent())  # type: ignore[arg-type]
    return use_certificate._store(run, held, SecretContent(own.pem, key_pem(own), ca().pem, ""), ())


def raced(theirs: dict[str, Any]) -> Api:
    """The first write meets what another run has stored meanwhile."""
    api = Api({PATH: theirs})
    answers = iter([api_error(AlreadyExists), {}])
    api.on_write = lambda *_: next(answers)
    return api


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Api, "now", lambda _api: NOW)


def test_another_runs_good_certificate_stays_and_is_what_the_result_tells() -> None:
    theirs = leaf()
    there = store(raced(secret_object(theirs)), None, leaf())
    assert there is not None
    assert there.certificate_pem == theirs.pem


def test_another_runs_bad_certificate_is_replaced() -> None:
    api = raced(secret_object(leaf(not_after=NOW)))
    assert store(api, None, leaf()) is None
    assert api.writes()[-1] == ("PATCH", PATH)


def test_the_certificate_that_was_to_be_replaced_is_replaced_although_somebody_touched_the_secret() -> None:
    """Only another key is another run's: a label that was added meanwhile must not stop a renewal."""
    old = leaf()
    api = Api({PATH: newer(secret_object(old))})
    answers = iter([api_error(Conflict), {}])
    api.on_write = lambda *_: next(answers)
    assert store(api, found(old), leaf()) is None
    assert len(api.writes()) == 2


def test_our_own_write_is_known_again_after_a_lost_answer() -> None:
    own = leaf()
    api = raced(secret_object(own))
    assert store(api, None, own) is None
    assert len(api.writes()) == 1


def test_what_became_somebody_elses_meanwhile_is_refused() -> None:
    api = raced(secret_object(leaf("other.apps.svc")))
    with fails("secret-unusable", "other.apps.svc"):
        store(api, None, leaf())


# The key of a waiting request

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


def without_owner() -> dict[str, Any]:
    secret = waiting()
    del secret["metadata"]["ownerReferences"]
    return secret


def its_csr(*conditions: Any, **spec: Any) -> dict[str, Any]:
    obj = csr(*conditions, name=CSR_NAME, pem=spec.pop("pem", PKCS10), **spec)
    obj["metadata"]["labels"] = markers.labels_for(SPEC)
    return obj


def api_with(secret: dict[str, Any] | None, request_: dict[str, Any] | None) -> Api:
    empty = {"metadata": {"resourceVersion": "1"}, "items": []}
    return Api({PENDING: secret, csr_api.path(CSR_NAME): request_, csr_api.COLLECTION: empty})


def test_a_waiting_request_is_found_with_its_key() -> None:
    pending = pending_key.load(api_with(waiting(), its_csr()), SPEC)  # type: ignore[arg-type]
    assert pending is not None
    assert pending.csr is not None
    assert pending.public_key_sha256 == KEY_HASH


@pytest.mark.parametrize("request_", [None, {**its_csr(), "metadata": {"uid": "another"}}])
def test_a_request_that_was_collected_or_replaced_is_none(request_: Any) -> None:
    pending = pending_key.load(api_with(waiting(), request_), SPEC)  # type: ignore[arg-type]
    assert pending is not None
    assert pending.csr is None


STRANGE = [
    {**waiting(), "metadata": {**waiting()["metadata"], "labels": {}}},
    {**waiting(), "data": {"tls.key": encoded("text")}},
    {**waiting(), "data": {}},
    waiting(**{"public-key-sha256": "other"}),
    waiting(csr=""),
    waiting(csr="x; curl example.com"),
]


@pytest.mark.parametrize("secret", STRANGE)
def test_what_stands_in_its_place_is_refused(secret: dict[str, Any]) -> None:
    with fails("secret-unusable", "apps/hook-tls-pending") as caught:
        pending_key.load(api_with(secret, its_csr()), SPEC)  # type: ignore[arg-type]
    assert caught.value.remedy


def keeping(secret: dict[str, Any], *, check_mode: bool = False) -> tuple[Api, bool]:
    """Run with approve: false over a good certificate. Return its API server, and True if it reports a change."""
    marks = {**MARKED, "labels": markers.labels_for(SPEC)}
    api = Api({PATH: secret_object(leaf(key=KEY), **marks), PENDING: secret}, ca_pem=ca().pem)
    run = CertificateRun(api, intent(approve=False), check_mode=check_mode)  # type: ignore[arg-type]
    return api, certificate_flow._ensure(run).changed


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_key_whose_certificate_is_stored_is_deleted(check_mode: bool) -> None:
    """The run was killed between the two writes."""
    api, changed = keeping(waiting(), check_mode=check_mode)
    assert changed
    assert (api.writes(), api.sent) == (([], []) if check_mode else ([("DELETE", PENDING)], ["7e4d"]))


def test_another_key_or_secret_in_its_place_stays() -> None:
    other = private_keys.generate("ecdsa-p256")
    with_another_key = waiting(**{"public-key-sha256": private_keys.public_key_sha256(other.public_key())})
    with_another_key["data"]["tls.key"] = encoded(private_keys.to_pem(other))
    for secret in (with_another_key, *STRANGE):
        api, changed = keeping(secret)
        assert (api.writes(), changed) == ([], False)


def state_of(run: CertificateRun, held: ExistingSecret | None, *seen: TargetState) -> CertificateState:
    """Return the state of a run with this Secret and these targets. The rest is gathered from the API server."""
    waiting, fault = (None, None) if run.intent.approve else gather.read_waiting(run)
    state = CertificateState(held, seen, NOW, waiting=waiting, waiting_fault=fault)
    return gather.find_in_use(run, state)


def send(run: CertificateRun, held: ExistingSecret | None = None) -> SentRequest:
    state = state_of(run, held)
    return request_certificate.send(run, state, request_certificate.find_waiting(run, state))


def ask(api: Api, held: ExistingSecret | None = None, **changed: Any) -> SentRequest:
    return send(CertificateRun(api, intent(approve=False, **changed)), held)  # type: ignore[arg-type]


def test_the_next_run_goes_on_with_the_same_key() -> None:
    api = api_with(waiting(), its_csr())
    asked = ask(api)
    assert (asked.public_key_sha256, asked.is_new) == (KEY_HASH, False)
    assert api.writes() == []


def created(_method: str, _path: str, body: Any) -> Any:
    """As the API server answers a create."""
    if not isinstance(body, dict):
        return body
    stamp = {"uid": "new", "resourceVersion": "1", "creationTimestamp": "2026-06-15T12:00:00Z"}
    return {**body, "metadata": {**body["metadata"], **stamp}}


def approving(api: Api, **changed: Any) -> SentRequest:
    api.on_write = created
    return send(CertificateRun(api, intent(**changed)))  # type: ignore[arg-type]


def test_a_run_that_approves_makes_a_new_request_and_removes_its_own_waiting_one() -> None:
    api = api_with(waiting(), its_csr())
    asked = approving(api)
    assert asked.is_new
    assert (asked.public_key_sha256 == KEY_HASH, asked.warnings, asked.stored) == (False, (), None)
    assert api.writes() == [
        ("POST", csr_api.COLLECTION),
        ("DELETE", csr_api.path(CSR_NAME)),
        ("DELETE", PENDING),
    ]
    assert ("DRY", csr_api.COLLECTION) not in api.asked, "the answer to its own request tells who it is"


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | Exception, str]] = {
    "another requester": (waiting(), its_csr(username="mallory"), {"username": "deployer"}, "'mallory'"),
    "another requester, issued": (
        waiting(),
        its_csr(approved(), certificate=leaf(key=KEY).pem, username="mallory"),
        {"username": "deployer"},
        "'mallory'",
    ),
    "another key": (waiting(), its_csr(pem=request()), {"username": "deployer"}, CSR_NAME),
    "no owner": (without_owner(), its_csr(), {"username": "deployer"}, "ownerReference"),
    "no owner, and its request is gone": (without_owner(), None, {"username": "deployer"}, "ownerReference"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_request_stops_a_run_that_does_not_approve(case: str) -> None:
    secret, request_, identity, name = PLANTED[case]
    for check_mode in (False, True):
        for wait in (False, True):
            api = api_with(secret, request_)
            api.identity = identity
            run = CertificateRun(api, intent(approve=False, wait=wait), check_mode=check_mode)  # type: ignore[arg-type]
            with fails("requested-by-another-identity", name) as caught:
                obtain(run, state_of(run, None), certificate_rules.missing_secret(run.intent))
            assert "kubectl delete secret -n apps hook-tls-pending" in caught.value.remedy
            assert (f"kubectl delete csr {CSR_NAME}" in caught.value.remedy) is bool(request_)
            assert [entry for entry in api.writes() if entry != ("POST", COLLECTION)] == [], "the trial alone"


@pytest.mark.parametrize("case", PLANTED)
def test_a_run_that_approves_keeps_a_planted_request(case: str) -> None:
    secret, request_, identity, name = PLANTED[case]
    api = api_with(secret, request_)
    api.identity = identity
    asked = approving(api)
    assert asked.is_new
    assert asked.public_key_sha256 != KEY_HASH
    assert api.writes() == [("POST", csr_api.COLLECTION)]
    assert name in asked.warnings[0]
    assert "kubectl delete secret -n apps hook-tls-pending" in asked.warnings[0]


@pytest.mark.parametrize("secret", STRANGE)
def test_another_object_in_the_place_of_the_key_does_not_stop_a_run_that_approves(secret: Any) -> None:
    api = api_with(secret, its_csr())
    asked = approving(api)
    assert "hook-tls-pending" in asked.warnings[0]
    assert api.writes() == [("POST", csr_api.COLLECTION)]


def test_without_an_answer_to_who_this_identity_is_nothing_is_resumed() -> None:
    api = api_with(waiting(), its_csr())
    api.identity = Forbidden("no", status=403)
    with fails("requested-by-another-identity", CSR_NAME):
        ask(api)
    assert ask(api, requesters=["deployer"]).public_key_sha256 == KEY_HASH, "the user's word"


def test_a_request_that_is_not_for_this_secret_is_not_in_the_command() -> None:
    theirs = its_csr(username="mallory")
    del theirs["metadata"]["labels"]
    with pytest.raises(RequestError) as caught:
        ask(api_with(waiting(), theirs))
    assert "kubectl delete csr" not in caught.value.remedy


CHANGES: list[dict[str, Any]] = [
    {"key_type": "rsa-2048"},
    {"expiration_seconds": 3600},
    {"dns_names": ["hook.apps.svc.cluster.local"]},
    {"signer_name": "example.com/signer"},
]


@pytest.mark.parametrize("changed", CHANGES)
def test_what_is_wanted_otherwise_today_is_superseded(changed: dict[str, Any]) -> None:
    api = api_with(waiting(), its_csr())
    api.on_write = created
    asked = ask(api, **changed)
    assert asked.is_new
    assert asked.public_key_sha256 != KEY_HASH
    assert api.writes() == [
        ("DELETE", csr_api.path(CSR_NAME)),
        ("DELETE", PENDING),
        ("POST", csr_api.COLLECTION),
        ("POST", COLLECTION),
    ]
    assert api.sent[:2] == ["3d0b8a6e", "7e4d"], "only these very objects"


def test_a_certificate_that_is_in_use_already_is_not_taken_again() -> None:
    """A run ended between the Secret and the removal of the key: its request is spent."""
    issued = leaf(key=KEY)
    api = api_with(waiting(), its_csr(approved(), certificate=issued.pem))
    api.on_write = created
    asked = ask(api, found(issued))
    assert asked.is_new
    assert ("DELETE", csr_api.path(CSR_NAME)) not in api.writes(), "issued requests stay"


def test_where_the_key_cannot_be_kept_its_request_goes() -> None:
    api = api_with(None, None)
    api.on_write = lambda *call: api_error(Forbidden) if call[1] == COLLECTION else created(*call)
    with pytest.raises(Forbidden):
        ask(api)
    assert api.writes()[-1][0] == "DELETE"
    assert api.sent[-1] == "new"


def test_of_two_runs_that_ask_at_once_one_joins_the_other() -> None:
    there: list[Any] = [None]
    api = api_with(None, its_csr())
    api.objects[PENDING] = lambda: there[0]

    def answer(method: str, path: str, body: Any) -> Any:
        if (method, path) == ("POST", COLLECTION):
            there[0] = waiting()
            return api_error(AlreadyExists)
        return created(method, path, body)

    api.on_write = answer
    asked = ask(api)
    assert (asked.public_key_sha256, asked.is_new) == (KEY_HASH, False)
    assert api.sent[-1] == "new", "its own request, which has no key any more"


def test_its_own_secret_is_known_again_after_a_lost_answer() -> None:
    api = api_with(None, None)
    sent: dict[str, Any] = {}

    def answer(method: str, path: str, body: Any) -> Any:
        obj = created(method, path, body)
        sent[path] = obj
        if path == COLLECTION:
            api.objects[PENDING] = {**obj, "metadata": {**obj["metadata"], "uid": "7e4d"}}
            api.objects[csr_api.path(sent[csr_api.COLLECTION]["metadata"]["name"])] = sent[csr_api.COLLECTION]
            return api_error(AlreadyExists)
        return obj

    api.on_write = answer
    asked = ask(api)
    assert asked.is_new
    assert asked.stored is not None
    assert [verb for verb, _path in api.writes()] == ["POST", "POST"]


def test_a_request_that_was_collected_is_an_outcome_of_its_own() -> None:
    api = api_with(waiting(), None)
    api.on_write = created
    asked = ask(api)
    assert asked.reason is not None
    assert CSR_NAME in asked.reason.message
    run = CertificateRun(api_with(waiting(), None), intent(approve=False), check_mode=True)  # type: ignore[arg-type]
    foreseen = obtain(run, state_of(run, None), certificate_rules.missing_secret(intent()))
    assert foreseen.values["reason"] == asked.reason.message


def test_a_waiting_key_that_cannot_be_deleted_is_named() -> None:
    """The right to delete is missing: the new key has no place, and its request goes."""
    api = api_with(waiting(), None)

    def answer(method: str, path: str, body: Any) -> Any:
        if path == PENDING:
            return api_error(Forbidden)
        return api_error(AlreadyExists) if path == COLLECTION else created(method, path, body)

    api.on_write = answer
    with fails("secret-unusable", "apps/hook-tls-pending") as caught:
        ask(api)
    assert "kubectl delete secret -n apps hook-tls-pending" in caught.value.remedy
    assert api.sent[-1] == "new", "its request leads to nothing"


# A certificate in use while another one is waited for


def renewing(api: Api, held: ExistingSecret, *, check_mode: bool = False, **changed: Any) -> Any:
    options = {"approve": False, "wait": False, "renew_before": "400d", **changed}
    run = CertificateRun(api, intent(**options), (HOOK,), check_mode=check_mode)  # type: ignore[arg-type]
    reason = certificate_rules.reason_to_issue(run.intent, held, NOW)
    assert reason is not None
    return obtain(run, state_of(run, held, TargetState(HOOK, webhook())), reason)


def renewal_api(pending: Any = None, request_: Any = None) -> Api:
    api = api_with(pending, request_)
    api.connection = replace(api.connection, ca_pem=pem("cluster"))
    api.objects.update({PATH: secret_object(), bundle_targets.path(HOOK): webhook()})
    api.on_write = created
    return api


@pytest.mark.parametrize("changed", [{}, {"signer_name": "example.com/signer"}])
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_in_use_is_told_and_kept_up_to_date_while_another_one_is_waited_for(
    check_mode: bool, changed: dict[str, Any]
) -> None:
    marks = secret_object(**MARKED)["metadata"]
    held, api = found(labels=marks["labels"], annotations=marks["annotations"]), renewal_api()
    result = renewing(api, held, check_mode=check_mode, **changed)
    assert held.certificate is not None
    assert (result.changed, result.values["pending"]) == (True, True)
    assert result.values["certificate"]["serial"] == held.certificate.serial
    assert result.values["ca_bundle"] == pem("cluster")
    assert [target["changed"] for target in result.values["targets"]] == [True], "it lacked the CA"
    assert ("waits for its approval" in result.values["reason"]) is not check_mode
    written = {path for _verb, path in api.writes()}
    assert (bundle_targets.path(HOOK) in written) is not check_mode


def test_a_second_run_that_finds_the_renewal_waiting_changes_nothing() -> None:
    marked = f"{MARK}{NEW}"
    held = found(annotations={"certflow.kubernetes/added-anchors": marked})
    api = renewal_api(waiting(), its_csr())
    run = CertificateRun(api, intent(approve=False, wait=False, renew_before="400d"), (HOOK,))  # type: ignore[arg-type]
    state = state_of(run, held, TargetState(HOOK, webhook("cluster")))
    result = obtain(run, state, certificate_rules.IssueReason(certificate_rules.RENEWAL_DUE, "due"))
    assert (result.changed, result.values["pending"]) == (False, True)
    assert result.values["csr"]["name"] == CSR_NAME
    assert result.values["ca_bundle"] == pem("cluster")


@pytest.mark.parametrize("held", [leaf(not_after=NOW - DAY / 2), leaf("hook"), leaf(by=ca("strange"))])
def test_what_is_no_use_is_not_told(held: Any) -> None:
    result = renewing(renewal_api(), found(held))
    assert (result.values["certificate"], result.values["ca_bundle"]) == (None, None)
    assert result.values["pending"]


def test_targets_are_read_again_after_the_wait() -> None:
    """Somebody else wrote the target while the approval was waited for."""
    issued = leaf(key=KEY)
    api = renewal_api(waiting(), its_csr(approved(), certificate=issued.pem))
    api.objects[bundle_targets.path(HOOK)] = lambda: newer(webhook("old"), "2")
    api.objects[PATH] = None
    run = CertificateRun(api, intent(approve=False), (HOOK,))  # type: ignore[arg-type]
    state = state_of(run, None, TargetState(HOOK, webhook()))
    result = obtain(run, state, certificate_rules.missing_secret(run.intent))
    patches = [
        body for (verb, path), body in zip(api.writes(), api.sent) if path == bundle_targets.path(HOOK)
    ]
    assert [body[0]["value"] for body in patches] == ["2"], "one write, on what stands there now"
    assert result.values["targets"][0]["webhooks"][0]["before"] == [OLD]


class HeldLease:
    """A Lease that is held, or not."""

    def __init__(self, is_held: bool) -> None:
        self.is_held = is_held


ME = {"username": "me"}


@pytest.mark.parametrize(
    ("lease", "more"),
    [(None, []), (HeldLease(is_held=False), []), (HeldLease(is_held=True), ["of-a-dead-run"])],
)
def test_leftovers_go_and_other_runs_requests_stay(lease: Any, more: list[str]) -> None:
    """Without its turn a run cannot tell a request of a run that died from one that is waited for."""

    def left(name: str, *state: Any, created_at: str = "2026-06-15T11:59:30Z", **spec: Any) -> dict[str, Any]:
        obj = csr(*state, name=name, pem=request(), **spec)
        obj["metadata"].update(uid=name, creationTimestamp=created_at)
        return obj

    listed = [
        left("theirs", username="mallory"),
        left("theirs, stuck", approved(), username="mallory", created_at="2026-06-15T11:00:00Z"),
        left("theirs, denied", condition("Denied"), username="mallory"),
        left("of-a-dead-run", **ME),
        left("denied", condition("Denied"), **ME),
        left("stuck", approved(), created_at="2026-06-15T11:00:00Z", **ME),
        left("wrong-signer", approved(), signerName="example.com/other", **ME),
        left("accepted, stuck", approved(), username="colleague", created_at="2026-06-15T11:00:00Z"),
    ]
    api = api_with(None, None)
    api.objects[csr_api.COLLECTION] = {"metadata": {"resourceVersion": "1"}, "items": listed}
    api.on_write, api.identity = created, {**ME}
    wanted = intent(requesters=["colleague"])
    asked = send(CertificateRun(api, wanted, lease=lease))  # type: ignore[arg-type]
    removed = [uid for uid in api.sent if isinstance(uid, str)]
    assert removed == [*more, "denied", "stuck", "wrong-signer", "accepted, stuck"]
    [warning] = asked.warnings
    assert "CSR 'theirs' for Secret apps/hook-tls was requested by 'mallory'" in warning
    assert "and is kept (and 1 more requests). To delete it: kubectl delete csr theirs" in warning


# The record of anchors

HOOK = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
PLACE = "ValidatingWebhookConfiguration/hook"
MARK, SECOND = f"{PLACE}/h0=", f"{PLACE}/h1="
NEW, OLD = ca().fingerprint, ca("old").fingerprint


def change(*bundles: tuple[str, str]) -> bundle_patch.TargetChange:
    """One webhook for each pair of bundles, before and after."""
    made = [
        bundle_patch.BundleChange(
            bundle_targets.ClientConfig(f"h{number}", "", "", "hook.apps.svc", None, before), after
        )
        for number, (before, after) in enumerate(bundles)
    ]
    return bundle_patch.TargetChange(HOOK, "1", tuple(made))


def pem(*names: str) -> str:
    return "".join(ca(name).pem for name in names)


RECORDS: list[tuple[str, list[tuple[str, str]], str]] = [
    ("", [("", pem("cluster"))], f"{MARK}{NEW}"),
    ("", [(pem("cluster"), pem("cluster"))], ""),
    ("", [(pem("old"), pem("old", "cluster"))], f"{MARK}{NEW}"),
    # One webhook had it from somebody else: it is not ours to take away from that one.
    ("", [(pem("cluster"), pem("cluster")), ("", pem("cluster"))], f"{SECOND}{NEW}"),
    (f"{MARK}{NEW}", [(pem("cluster"), pem("cluster")), ("", pem("cluster"))], f"{MARK}{NEW} {SECOND}{NEW}"),
    (
        f"{MARK}{OLD}",
        [(pem("old"), pem("old", "cluster"))],
        " ".join(sorted([f"{MARK}{NEW}", f"{MARK}{OLD}"])),
    ),
    # What stands there no longer is not recorded for ever.
    (f"{MARK}{OLD}", [("", pem("cluster"))], f"{MARK}{NEW}"),
    ("APIService/x=abc", [("", pem("cluster"))], f"APIService/x=abc {MARK}{NEW}"),
]


@pytest.mark.parametrize(("before", "bundles", "after"), RECORDS)
def test_only_what_was_added_is_recorded(before: str, bundles: list[tuple[str, str]], after: str) -> None:
    annotations = {"certflow.kubernetes/added-anchors": before} if before else {}
    assert anchor_record.record_added(annotations, [change(*bundles)]) == after


def webhook(*anchors: str) -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(pem(*anchors))}
    return {"metadata": {"resourceVersion": "1"}, "webhooks": [{"name": "h0", "clientConfig": config}]}


def test_only_what_is_recorded_and_still_there_is_taken_back() -> None:
    path = bundle_targets.path(HOOK)
    api = Api({path: webhook("old", "cluster")})
    record = {"certflow.kubernetes/added-anchors": f"{MARK}{NEW} {MARK}{ca('gone').fingerprint}"}
    [planned] = target_anchors.plan_removal(api, intent(), [HOOK], record)  # type: ignore[arg-type]
    assert planned.bundles[0].after == pem("old")
    assert target_anchors.plan_removal(api, intent(), [HOOK], {}) == ()  # type: ignore[arg-type]
    assert target_anchors.plan_removal(Api(), intent(), [HOOK], record) == ()  # type: ignore[arg-type]


def test_each_webhook_loses_only_what_was_added_to_it() -> None:
    """The second webhook had that CA from somebody else."""
    both = webhook("cluster")
    both["webhooks"].append({**both["webhooks"][0], "name": "h1"})
    record = {"certflow.kubernetes/added-anchors": f"{MARK}{NEW}"}
    api = Api({bundle_targets.path(HOOK): both})
    [planned] = target_anchors.plan_removal(api, intent(), [HOOK], record)  # type: ignore[arg-type]
    assert [bundle.after for bundle in planned.bundles] == ["", pem("cluster")]
    assert len(planned.operations) == 3, "a lock, and one webhook's guard and bundle"


def test_a_recorded_anchor_saves_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenShift signs with a CA of its own: a run without change still costs three requests, not four."""
    held = found(annotations={"certflow.kubernetes/added-anchors": f"{MARK}{NEW}"})
    seen = TargetState(HOOK, webhook("old", "cluster"))
    api = Api(ca_pem=pem("old"))
    anchor = target_anchors.find_anchor(api, intent(), held, (seen,), NOW)  # type: ignore[arg-type]
    assert anchor.pem == pem("cluster")
    assert api.asked == []


def test_a_renewal_that_gains_nothing_says_so() -> None:
    issued = leaf()
    facts = found(issued).certificate
    assert facts is not None
    assert "is kept" in use_certificate._gains_no_lifetime(intent(), facts, facts)
    assert use_certificate._renews_every_run(intent(), facts, NOW) == ()
    assert use_certificate._renews_every_run(intent(renew_before="30d"), facts, NOW) == ()
    [warning] = use_certificate._renews_every_run(intent(renew_before="400d"), facts, NOW)
    assert "every run renews it" in warning
    assert certificate_rules.reason_to_issue(intent(renew_before="400d"), found(issued), NOW) is not None


# A certificate of a CA that is made here


def issue_here(
    api: Api, held: ExistingSecret | None = None, *, check_mode: bool = False, **changed: Any
) -> Any:
    seen = TargetState(HOOK, webhook("old"))
    api.objects.setdefault(bundle_targets.path(HOOK), webhook("old"))
    wanted = intent(signer_name="ephemeral-ca", **changed)
    run = CertificateRun(api, wanted, (HOOK,), check_mode=check_mode)  # type: ignore[arg-type]
    return obtain(run, CertificateState(held, (seen,), NOW), certificate_rules.missing_secret(wanted))


def test_no_request_is_sent_and_no_right_to_one_is_needed() -> None:
    api = Api()
    api.lacking = {
        (verb, resource)
        for verb in ("create", "get", "list", "watch", "update", "approve")
        for resource in ("certificatesigningrequests", "certificatesigningrequests/approval", "signers")
    }
    result = issue_here(api)
    assert result.values["csr"] is None
    assert result.values["ca_source"].startswith("the CA made for this certificate alone")
    assert not [path for _verb, path in api.asked if "certificatesigningrequests" in path]
    patched, stored = api.sent[-2:]
    assert patched[2]["value"] == encoded(pem("old") + result.values["ca_bundle"]), "the bundle first"
    assert stored["data"]["ca.crt"] == encoded(result.values["ca_bundle"])
    facts = result.values["certificate"]
    print_ = bundle_content.certificates(result.values["ca_bundle"])[0].fingerprint
    assert stored["metadata"]["annotations"]["certflow.kubernetes/added-anchors"] == f"{MARK}{print_}"
    assert "CN=ephemeral-ca " in facts["issuer"]


def test_a_ca_that_a_killed_first_run_left_on_a_target_goes_once_the_new_certificate_is_in_use() -> None:
    """It vouches for a certificate that was never stored; whether another Secret's is served, only a look can tell."""
    killed = Api()
    issue_here(killed)
    orphan = base64.b64decode(killed.sent[-1]["data"]["ca.crt"]).decode()
    api = Api({bundle_targets.path(HOOK): webhook("old")})
    api.objects[bundle_targets.path(HOOK)]["webhooks"][0]["clientConfig"]["caBundle"] = encoded(
        pem("old") + orphan
    )
    issue_here(api)
    marks = api.sent[-1]["metadata"]["annotations"]
    serial, *goes = marks["certflow.kubernetes/unproven"].split()
    assert serial
    assert goes == [f"{MARK}{bundle_content.certificates(orphan)[0].fingerprint}"]
    assert "certflow.kubernetes/unproven" not in killed.sent[-1]["metadata"]["annotations"]


def planted() -> dict[str, Any]:
    """Return a Secret with all marks, a key and a CA: another run's, or that of an identity that may only create Secrets."""
    made = Api()
    issue_here(made)
    secret = made.sent[-1]
    return {**secret, "metadata": {**secret["metadata"], "uid": "1", "resourceVersion": "1"}}


@pytest.mark.parametrize("trusted", [False, True])
def test_a_ca_that_only_the_secret_vouches_for_gets_into_no_target(trusted: bool) -> None:
    """A run makes the targets trust its CA before it writes the Secret. So no run made a CA that no target trusts."""
    secret = planted()
    standing = webhook("old")
    if trusted:
        both = pem("old").encode() + base64.b64decode(secret["data"]["ca.crt"])
        standing["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(both).decode()
    api = Api({PATH: secret, bundle_targets.path(HOOK): standing})
    wanted = intent(signer_name="ephemeral-ca")
    run = CertificateRun(api, wanted, (HOOK,))  # type: ignore[arg-type]
    result = certificate_flow._obtain_or_keep(run, gather.gather(run))
    assert result.values["reason"].startswith("the certificate is kept") is trusted
    is_in_use = secret["data"]["ca.crt"] == encoded(result.values["ca_bundle"])
    assert is_in_use is trusted


OTHER = bundle_targets.Target("ValidatingWebhookConfiguration", "other")


@pytest.mark.parametrize(
    ("record", "trusted", "kept"),
    [
        ("{other}/a.certflow.test={print}", True, True),
        ("{other}/a.certflow.test={print}", False, False),
        ("{other}=00", True, False),
        ("Pod/other={print}", True, False),
        ("ValidatingWebhookConfiguration/../../x={print}", True, False),
        ("", True, False),
    ],
)
def test_a_target_of_another_task_vouches_for_the_ca_that_both_share(
    record: str, trusted: bool, kept: bool
) -> None:
    """The record of the Secret leads to the target. Only what the target trusts counts."""
    secret = planted()
    ca = base64.b64decode(secret["data"]["ca.crt"])
    [anchor] = bundle_content.certificates(ca.decode())
    text = record.format(other=f"{OTHER.kind}/{OTHER.name}", print=anchor.fingerprint)
    secret["metadata"]["annotations"][markers.ANCHORS] = text
    other = webhook("old")
    if trusted:
        other["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(ca).decode()
    standing = webhook("old")
    api = Api({PATH: secret, bundle_targets.path(HOOK): standing, bundle_targets.path(OTHER): other})
    wanted = intent(signer_name="ephemeral-ca")
    run = CertificateRun(api, wanted, (HOOK,))  # type: ignore[arg-type]
    result = certificate_flow._obtain_or_keep(run, gather.gather(run))
    assert (encoded(result.values["ca_bundle"]) == secret["data"]["ca.crt"]) is kept


def test_a_secret_that_is_planted_while_a_run_works_is_not_used() -> None:
    theirs = planted()
    api = Api({PATH: theirs})

    def answer(_method: str, path: str, body: Any) -> Any:
        return api_error(AlreadyExists) if path == COLLECTION else body

    api.on_write = answer
    with pytest.raises(AnchorError):
        issue_here(api)
    assert theirs["data"]["ca.crt"] not in json.dumps(api.sent)


def test_check_mode_makes_none() -> None:
    api = Api()
    result = issue_here(api, check_mode=True)
    assert (result.changed, result.values["pending"], result.values["ca_bundle"]) == (True, True, None)
    assert [path for _verb, path in api.asked if path == PENDING] == []


def test_of_two_runs_at_once_the_slower_one_takes_its_ca_back() -> None:
    """Its certificate will never be served. The CA that the faster run added to the targets stays."""
    theirs = planted()
    api = Api({PATH: theirs})
    standing = webhook("old")
    trusted = pem("old").encode() + base64.b64decode(theirs["data"]["ca.crt"])
    standing["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(trusted).decode()

    def answer(method: str, path: str, body: Any) -> Any:
        if path == bundle_targets.path(HOOK):
            if body[0]["value"] != standing["metadata"]["resourceVersion"]:
                return api_error(Conflict)
            standing["metadata"]["resourceVersion"] += "1"
            standing["webhooks"][0]["clientConfig"]["caBundle"] = body[2]["value"]
        return api_error(AlreadyExists) if path == COLLECTION else body

    api.objects[bundle_targets.path(HOOK)] = lambda: standing
    api.on_write = answer
    result = issue_here(api)
    assert result.values["certificate"]["serial"]
    bundle = base64.b64decode(standing["webhooks"][0]["clientConfig"]["caBundle"]).decode()
    assert bundle == pem("old") + result.values["ca_bundle"]
    assert encoded(result.values["ca_bundle"]) == theirs["data"]["ca.crt"]
