# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sending a request, keeping its key, resuming it, and removing requests of earlier runs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import (
    SentRequest,
    find_waiting,
    obtain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.obtain import (
    send as send_request,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import certificate_rules
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.errors import RequestError
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api, pending_key
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.secret_content import (
    ExistingSecret,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    Forbidden,
)

from tests.support.failures import fails
from tests.unit.plugins.module_utils._certificate.runs import (
    COLLECTION,
    CSR_NAME,
    KEY,
    KEY_HASH,
    PENDING,
    SPEC,
    STRANGE,
    api_with,
    created,
    its_csr,
    state_of,
    waiting,
)
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
    api_error,
    found,
    intent,
    leaf,
)
from tests.unit.plugins.module_utils._csr.objects import approved, condition, csr, request

pytestmark = pytest.mark.quick


def without_owner() -> dict[str, Any]:
    secret = waiting()
    del secret["metadata"]["ownerReferences"]
    return secret


def test_a_waiting_request_is_found_with_its_key() -> None:
    pending = pending_key.load(api_with(waiting(), its_csr()), SPEC)  # type: ignore[arg-type]
    assert pending is not None
    assert pending.csr is not None
    assert pending.public_key_sha256 == KEY_HASH


@pytest.mark.parametrize("request_", [None, {**its_csr(), "metadata": {"uid": "another"}}])
def test_a_collected_or_replaced_request_is_not_found(request_: Any) -> None:
    pending = pending_key.load(api_with(waiting(), request_), SPEC)  # type: ignore[arg-type]
    assert pending is not None
    assert pending.csr is None


@pytest.mark.parametrize("secret", STRANGE)
def test_another_object_with_the_name_of_the_waiting_key_is_refused(secret: dict[str, Any]) -> None:
    with fails("secret-unusable", "apps/hook-tls-pending") as caught:
        pending_key.load(api_with(secret, its_csr()), SPEC)  # type: ignore[arg-type]
    assert caught.value.remedy


def send(run: CertificateRun, held: ExistingSecret | None = None) -> SentRequest:
    state = state_of(run, held)
    waiting = find_waiting(run, state)
    return send_request(run, state, waiting, csr_api.list_requests(run.client, run.intent.secret))


def ask(api: ScriptedApi, held: ExistingSecret | None = None, **changed: Any) -> SentRequest:
    return send(CertificateRun(api, intent(approve=False, **changed)), held)  # type: ignore[arg-type]


def test_the_next_run_resumes_the_request_with_its_key() -> None:
    api = api_with(waiting(), its_csr())
    asked = ask(api)
    assert (asked.public_key_sha256, asked.is_new) == (KEY_HASH, False)
    assert api.writes() == []


def approving(api: ScriptedApi, **changed: Any) -> SentRequest:
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
    if request_ is None:  # a stored key exists as long as its request, so this Secret is not even read
        assert ("GET", PENDING) not in api.asked
    else:
        assert name in asked.warnings[0]
        assert "kubectl delete secret -n apps hook-tls-pending" in asked.warnings[0]


@pytest.mark.parametrize("secret", STRANGE)
def test_another_object_with_the_name_of_the_key_does_not_stop_a_run_that_approves(secret: Any) -> None:
    api = api_with(secret, its_csr())
    asked = approving(api)
    assert "hook-tls-pending" in asked.warnings[0]
    assert api.writes() == [("POST", csr_api.COLLECTION)]


def test_no_request_is_resumed_if_the_own_identity_is_unknown() -> None:
    api = api_with(waiting(), its_csr())
    api.identity = Forbidden("no", status=403)
    with fails("requested-by-another-identity", CSR_NAME):
        ask(api)
    assert ask(api, requesters=["deployer"]).public_key_sha256 == KEY_HASH, "the user's word"


def test_the_command_deletes_only_a_request_for_this_secret() -> None:
    theirs = its_csr(username="mallory")
    del theirs["metadata"]["labels"]
    with pytest.raises(RequestError) as caught:
        ask(api_with(waiting(), theirs))
    assert "kubectl delete csr" not in caught.value.remedy


CHANGES: list[dict[str, Any]] = [
    {"key_type": "rsa-2048"},
    {"expiration_seconds": 3600},
    {"names": ["hook.apps.svc.cluster.local"]},
    {"signer_name": "example.com/signer"},
]


@pytest.mark.parametrize("changed", CHANGES)
def test_a_request_that_no_longer_matches_the_intent_is_replaced(changed: dict[str, Any]) -> None:
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


def test_a_request_whose_certificate_is_in_use_is_not_resumed() -> None:
    """A run was killed after it had written the Secret, before it deleted the key."""
    issued = leaf(key=KEY)
    api = api_with(waiting(), its_csr(approved(), certificate=issued.pem))
    api.on_write = created
    asked = ask(api, found(issued))
    assert asked.is_new
    assert ("DELETE", csr_api.path(CSR_NAME)) not in api.writes(), "issued requests stay"


def test_a_request_whose_key_cannot_be_stored_is_deleted() -> None:
    api = api_with(None, None)
    api.on_write = lambda *call: api_error(Forbidden) if call[1] == COLLECTION else created(*call)
    with pytest.raises(Forbidden):
        ask(api)
    assert api.writes()[-1][0] == "DELETE"
    assert api.sent[-1] == "new"


def test_of_two_parallel_runs_one_joins_the_other() -> None:
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


def test_the_key_of_a_request_is_stored_after_a_lost_answer() -> None:
    """The request is then read from a list, whose items have no apiVersion and kind."""
    api = api_with(None, None)
    owners: list[Any] = []

    def answer(method: str, path: str, body: Any) -> Any:
        obj = created(method, path, body)
        if path == csr_api.COLLECTION:
            mine = {**obj, "spec": {**obj["spec"], "username": "deployer"}}
            api.objects[csr_api.path(obj["metadata"]["name"])] = mine
            return api_error(AlreadyExists)
        owners.extend(body["metadata"].get("ownerReferences") or ())
        return obj

    api.on_write = answer
    assert ask(api).stored is not None
    assert [(owner["apiVersion"], owner["kind"]) for owner in owners] == [
        ("certificates.k8s.io/v1", "CertificateSigningRequest")
    ]


def test_its_own_secret_is_recognised_after_a_lost_answer() -> None:
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


def test_a_collected_request_is_the_reason_for_a_new_one() -> None:
    api = api_with(waiting(), None)
    api.on_write = created
    asked = ask(api)
    assert asked.reason is not None
    assert CSR_NAME in asked.reason.message
    run = CertificateRun(api_with(waiting(), None), intent(approve=False), check_mode=True)  # type: ignore[arg-type]
    foreseen = obtain(run, state_of(run, None), certificate_rules.missing_secret(intent()))
    assert foreseen.values["reason"] == asked.reason.due


def test_a_waiting_key_that_cannot_be_deleted_is_named() -> None:
    """Without the permission to delete, the new key cannot be stored, so its request is deleted."""
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


class HeldLease:
    """A Lease with a fixed answer."""

    def __init__(self, is_held: bool) -> None:
        self.is_held = is_held


ME = {"username": "me"}


@pytest.mark.parametrize(
    ("lease", "more"),
    [(None, []), (HeldLease(is_held=False), []), (HeldLease(is_held=True), ["of-a-dead-run"])],
)
def test_leftovers_are_removed_and_requests_of_other_runs_stay(lease: Any, more: list[str]) -> None:
    """Without the Lease a run cannot distinguish the request of a killed run from one that another run waits for."""

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
