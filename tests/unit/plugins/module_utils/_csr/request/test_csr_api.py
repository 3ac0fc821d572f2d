# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests are created once, approved once, and removed when no run waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request.approval import Expectation
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    KubeError,
    ListExpired,
    NotFound,
    TruncatedAnswer,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import signing_request

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    ScriptedApi,
    api_error,
    client_intent,
    intent,
    leaf,
    listed,
)
from tests.unit.plugins.module_utils._csr.objects import (
    APP_SERVING,
    CREATED,
    KUBELET_SERVING,
    NOW,
    approved,
    condition,
    csr,
    request,
)

pytestmark = pytest.mark.quick

CSRS = csr_api.COLLECTION
NAME = "hook-apps-1a2b"
HASH = signing_request.parse(request()).public_key_sha256
ISSUED = csr(approved(), certificate=leaf().pem)
FAILED = condition("Failed", "SignerValidationFailure", "usages did not match [..]")
DENIED = csr(condition("Denied", "No", "not wanted."))


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "99"}, "items": list(items)}


def other_uid(obj: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "uid": "another"}}


# Names


@pytest.mark.parametrize(
    "wanted",
    [
        intent(),
        intent(service="csr-hook", namespace="csr"),
        client_intent(),
        intent(service="a" * 63, namespace="b" * 63),
    ],
)
def test_names_are_new_for_each_key_and_never_begin_with_csr(wanted: Any) -> None:
    """EKS passes over requests whose names begin with csr- (aws/containers-roadmap#2079)."""
    names = {csr_api.name_for(wanted, f"{number:064x}"[::-1]) for number in range(50)}
    assert len(names) == 50
    assert all(name.startswith("certflow-") and len(name) <= 253 for name in names)


# Creating


def test_a_request_is_created_once_and_names_its_secret() -> None:
    api = ScriptedApi()
    body = csr_api.create(api, intent(expiration_seconds=3600), request(), HASH)  # type: ignore[arg-type]
    assert api.asked == [("POST", CSRS)]
    assert body["spec"]["signerName"] == KUBELET_SERVING
    assert body["spec"]["expirationSeconds"] == 3600
    assert body["metadata"]["annotations"]["certflow.kubernetes/secret"] == "apps/hook-tls"
    assert "app.kubernetes.io/managed-by" in body["metadata"]["labels"]


@pytest.mark.parametrize("first", [Conflict, NotFound])
def test_a_request_that_is_gone_before_it_is_approved(first: type[KubeError]) -> None:
    api = ScriptedApi()
    api.on_write = lambda *_: api_error(first)
    with fails("request-replaced", NAME):
        approve(api, csr())


def lost_answer(**spec: Any) -> ScriptedApi:
    name = csr_api.name_for(intent(), HASH)
    api = ScriptedApi({csr_api.path(name): csr(name=name, **spec)})
    api.on_write = lambda *_: api_error(AlreadyExists)
    return api


def test_after_a_lost_answer_it_goes_on_with_the_stored_request() -> None:
    api = lost_answer()
    assert csr_api.create(api, intent(), request(), HASH)["metadata"]["uid"] == "3d0b8a6e"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ({"username": "mallory"}, {"username": "deployer"}),
        ({}, Forbidden("no", status=403)),
        ({"username": ""}, {"username": ""}),
    ],
)
def test_a_request_of_another_identity_with_our_name_is_not_used(spec: dict[str, Any], identity: Any) -> None:
    api = lost_answer(**spec)
    api.identity = identity
    with fails("requested-by-another-identity", "certflow-hook-apps-") as caught:
        csr_api.create(api, intent(), request(), HASH)  # type: ignore[arg-type]
    assert "kubectl delete csr certflow-hook-apps-" in caught.value.remedy


# The identity of this task


def test_the_identity_comes_from_a_dry_run_that_asks_for_the_same() -> None:
    api = ScriptedApi()
    api.identity = {"username": "deployer", "uid": "7", "extra": {"canonicalArn": ["arn:aws:iam::1:role/r"]}}
    api.warnings.append("earlier")
    own = csr_api.read_own_identity(api, csr(username="mallory", expirationSeconds=3600))  # type: ignore[arg-type]
    assert own is not None
    assert (own.username, own.uid, own.canonical_arn) == ("deployer", "7", "arn:aws:iam::1:role/r")
    assert (api.asked, api.written, api.warnings) == ([("DRY", CSRS)], [], ["earlier"])


@pytest.mark.parametrize("error", [Forbidden("no", status=403), ApiError("no", status=400)])
def test_a_refused_dry_run_tells_no_identity(error: KubeError) -> None:
    api = ScriptedApi()
    api.identity = error
    assert csr_api.read_own_identity(api, csr()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        ApiError("no", status=500),
        ApiError("no", status=429),
        TruncatedAnswer("no", status=201),
        ConnectionFailed("no"),
    ],
)
def test_an_api_server_that_fails_is_not_taken_for_a_refusal(error: KubeError) -> None:
    api = ScriptedApi()
    api.identity = error
    with pytest.raises(type(error)):
        csr_api.read_own_identity(api, csr())  # type: ignore[arg-type]


# Approving

EXPECTED = Expectation(public_key_sha256=HASH, requester="deployer", service="hook", namespace="apps")


def approve(api: ScriptedApi, start: dict[str, Any]) -> dict[str, Any]:
    return csr_api.approve_own(api, start, EXPECTED)  # type: ignore[arg-type]


def conflicts(times: int) -> Callable[[str, str, Any], Any]:
    left = [times]

    def answer(_method: str, _path: str, body: Any) -> Any:
        left[0] -= 1
        return api_error(Conflict) if left[0] >= 0 else body

    return answer


def test_an_approval_carries_uid_and_version_and_is_written_for_an_auditor() -> None:
    api = ScriptedApi()
    body = approve(api, csr())
    assert api.asked == [("PUT", f"{CSRS}/{NAME}/approval")]
    assert body["metadata"]["uid"] == "3d0b8a6e"
    assert body["metadata"]["resourceVersion"] == "4711"
    [entry] = body["status"]["conditions"]
    assert (entry["type"], entry["status"], entry["reason"]) == ("Approved", "True", "CertflowApproved")
    assert entry["lastUpdateTime"]


def test_a_conflict_is_decided_again_on_a_fresh_read() -> None:
    api = ScriptedApi({f"{CSRS}/{NAME}": csr()})
    api.on_write = conflicts(3)
    approve(api, csr())
    assert [verb for verb, _path in api.asked] == ["PUT", "GET"] * 3 + ["PUT"]


def test_conflicts_do_not_go_on_for_ever() -> None:
    api = ScriptedApi({f"{CSRS}/{NAME}": csr()})
    api.on_write = conflicts(1000)
    with fails("conflict", NAME):
        approve(api, csr())


@pytest.mark.parametrize("fresh", [csr(approved()), DENIED], ids=["approved", "denied"])
def test_the_first_decision_is_kept(fresh: dict[str, Any]) -> None:
    """An approver that denies (kubelet-csr-approver) may be faster: the wait says so, no second write is tried."""
    api = ScriptedApi({f"{CSRS}/{NAME}": fresh})
    api.on_write = conflicts(1)
    assert approve(api, csr())["status"] == fresh["status"]
    assert [verb for verb, _path in api.asked] == ["PUT", "GET"]


SUBSTITUTES = [
    other_uid(csr()),
    csr(pem=request(common_name="other")),
    csr(username="mallory"),
    csr(pem=request(dns_names=("kubernetes.default.svc",))),
]


@pytest.mark.parametrize("substitute", SUBSTITUTES)
def test_a_substitute_is_denied(substitute: dict[str, Any]) -> None:
    api = ScriptedApi({f"{CSRS}/{NAME}": substitute})
    answers = iter([api_error(Conflict), None])
    api.on_write = lambda _method, _path, body: next(answers) or body
    with fails("request-replaced", NAME, "Denied"):
        approve(api, csr())
    assert api.sent[-1]["status"]["conditions"][-1]["reason"] == "CertflowSubstituted"


def test_a_substitute_is_denied_despite_conflicts() -> None:
    substitute = csr(username="mallory")
    api = ScriptedApi({f"{CSRS}/{NAME}": substitute})
    api.on_write = conflicts(2)
    with fails("request-replaced", NAME, "Denied"):
        approve(api, substitute)
    assert [verb for verb, _path in api.asked] == ["PUT", "GET", "PUT", "GET", "PUT"]


def test_a_substitute_that_is_approved_already_is_not_used() -> None:
    api = ScriptedApi()
    with fails("request-replaced", "Approved"):
        approve(api, csr(approved(), username="mallory"))
    assert api.writes() == []


# What is left over

YOUNG, OLD = "2026-09-01T11:51:00Z", CREATED


@pytest.mark.parametrize(
    ("state", "created", "signer", "is_left"),
    [
        ([], YOUNG, KUBELET_SERVING, False),  # may be another run's
        ([approved()], YOUNG, KUBELET_SERVING, False),
        ([approved()], OLD, KUBELET_SERVING, True),
        ([], OLD, KUBELET_SERVING, True),
        ([approved()], YOUNG, APP_SERVING, True),
        ([condition("Denied")], YOUNG, KUBELET_SERVING, True),
        ([approved(), FAILED], YOUNG, KUBELET_SERVING, True),
    ],
)
def test_requests_that_are_left_over(state: list[Any], created: str, signer: str, is_left: bool) -> None:
    obj = csr(*state, signerName=signer)
    obj["metadata"]["creationTimestamp"] = created
    assert csr_api.is_left_over(obj, KUBELET_SERVING, 120, NOW) is is_left


def test_a_long_wait_timeout_also_counts_for_other_runs() -> None:
    assert csr_api.is_left_over(csr(approved()), KUBELET_SERVING, 3000, NOW)
    assert not csr_api.is_left_over(csr(approved()), KUBELET_SERVING, 4000, NOW)


def test_issued_requests_are_never_left_over() -> None:
    api = ScriptedApi({CSRS: page(csr(), ISSUED)})
    assert csr_api.unissued(csr_api.list_requests(api, intent().secret)) == [listed(csr())]  # type: ignore[arg-type]


def test_a_missing_permission_to_delete_is_a_warning() -> None:
    api = ScriptedApi()
    api.on_write = lambda *_: api_error(Forbidden)
    assert "no permission to delete it" in csr_api.remove(api, csr())  # type: ignore[arg-type]
    assert api.sent == ["3d0b8a6e"], "only that very object"
    api.on_write = lambda *_: api_error(Conflict)
    assert csr_api.remove(api, csr()) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "read", [lambda api: csr_api.find(api, NAME), lambda api: csr_api.select(api, None, None)]
)
def test_a_missing_right_to_read_is_named(read: Callable[[Any], Any]) -> None:
    api = ScriptedApi({CSRS: api_error(Forbidden), f"{CSRS}/{NAME}": api_error(Forbidden)})
    with fails("missing-permissions", "certificatesigningrequests"):
        read(api)


# What belongs to the cluster itself


def test_nodes_and_service_networks_are_looked_up() -> None:
    ranges = {"items": [{"spec": {"cidrs": ["10.96.0.0/12", "fd00::/108"]}}]}
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.4"}]}}
    api = ScriptedApi(
        {
            "/api/v1/nodes": {"items": [node, {"metadata": {"name": "hook"}}]},
            "/apis/networking.k8s.io/v1/servicecidrs": ranges,
        }
    )
    guarded = csr_api.read_guarded_names(api, ["hook", "*.apps", "hook.apps"], ["10.96.0.1"])  # type: ignore[arg-type]
    assert guarded.nodes == ("hook", "10.1.0.4")
    assert guarded.networks == ("10.96.0.0/12", "fd00::/108")
    assert guarded.api_server == ("10.0.0.1",)
    assert guarded.unreadable == ()


def test_the_other_names_of_nodes_are_read_for_a_name_that_could_be_one() -> None:
    """The name of a node as an object need not be the name under which the API server calls its kubelet."""
    names = {"Hostname": "edge-4", "InternalDNS": "ip-10-1-0-4.ec2.internal"}
    node = {"status": {"addresses": [{"type": key, "address": name} for key, name in names.items()]}}
    api = ScriptedApi({"/api/v1/nodes": {"items": [node]}})
    own = ["hook", "hook.apps", "hook.apps.svc"]
    guarded = csr_api.read_guarded_names(api, [*own, "ip-10-1-0-4.ec2.internal"])  # type: ignore[arg-type]
    assert guarded.nodes == ("edge-4", "ip-10-1-0-4.ec2.internal")
    asked = len(api.asked)
    csr_api.read_guarded_names(api, own)  # type: ignore[arg-type]
    assert len(api.asked) == asked + 1, "all names in one request"


def test_a_missing_permission_to_read_nodes_is_asked_once() -> None:
    api = ScriptedApi({path: api_error(Forbidden) for path in ("/api/v1/nodes", "/api/v1/nodes/hook")})
    guarded = csr_api.read_guarded_names(api, ["hook", "hook.apps.svc"])  # type: ignore[arg-type]
    assert (guarded.nodes, guarded.unreadable) == ((), ("nodes",))
    assert len(api.asked) == 2


def test_a_control_plane_without_nodes_has_no_names_of_nodes() -> None:
    api = ScriptedApi({path: api_error(NotFound) for path in ("/api/v1/nodes", "/api/v1/nodes/hook")})
    guarded = csr_api.read_guarded_names(api, ["hook", "hook.apps.svc"])  # type: ignore[arg-type]
    assert (guarded.nodes, guarded.unreadable) == ((), ())


@pytest.mark.parametrize(
    "names",
    [api_error(Forbidden), api_error(ListExpired), {"metadata": {"continue": "more"}, "items": []}],
)
def test_each_name_is_read_if_no_single_list_shows_all_nodes(names: Any) -> None:
    api = ScriptedApi({"/api/v1/nodes": names, "/api/v1/nodes/hook": {}})
    guarded = csr_api.read_guarded_names(api, ["hook", "hook.apps.svc"])  # type: ignore[arg-type]
    assert (guarded.nodes, guarded.unreadable) == (("hook",), ())
