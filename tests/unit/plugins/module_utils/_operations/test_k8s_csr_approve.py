# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_csr_approve: approved requests are compared too, names of the cluster, permissions for the wait."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import csr_api
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Conflict, Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr_approve

from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error, leaf
from tests.unit.plugins.module_utils._csr.objects import approved, csr, request

pytestmark = pytest.mark.quick

CSRS = csr_api.COLLECTION
NAME = "hook-apps-1a2b"
EXPECT = {"service": "hook", "namespace": "apps"}
API_SERVER = request("server", dns_names=("kubernetes.default.svc",))
BY_LABEL = {"name": None, "label_selectors": ["a=b"]}


def api_with(*csrs: dict[str, Any]) -> ScriptedApi:
    listed = {"metadata": {"resourceVersion": "9"}, "items": list(csrs)}
    nodes: dict[str, Any] = {"metadata": {}, "items": []}
    found = {csr_api.path(obj["metadata"]["name"]): obj for obj in csrs}
    return ScriptedApi({CSRS: listed, "/api/v1/nodes": nodes, **found})


def decide(api: ScriptedApi, **changed: Any) -> Result:
    given = {"name": NAME, "decision": "approve", "expect": EXPECT, "wait": False}
    options: dict[str, Any] = {"allow_client_identity": False, **given, **changed}
    return k8s_csr_approve.run(api, options, False)  # type: ignore[arg-type]


def test_an_expectation_does_not_permit_the_api_servers_name() -> None:
    """Such a name needs allow_names, with a warning. The expectation of a task is not enough."""
    spelled_out = {"names": ["kubernetes.default.svc"]}
    api = api_with(csr(pem=API_SERVER))
    with fails("invalid-request", "'kubernetes.default.svc'"):
        decide(api, expect=spelled_out)
    assert api.writes() == []
    result = decide(api, expect=spelled_out, allow_names=["kubernetes.default.svc"])
    assert result.changed
    assert "allow_names permits kubernetes.default.svc" in result.warnings[0]


# A difference of the expectation from the request, and the reason of the refusal.
MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"service": "other"}, "ForbiddenName"),
    ({"signer_name": "example.com/other"}, "Signer"),
    ({"requester": "somebody"}, "Requester"),
    ({"usages": ["client auth"]}, "Usages"),
    ({"names": ["hook"]}, "Names"),
    ({"common_name": "y"}, "Subject"),
    ({"longest_seconds": 3600}, "Lifetime"),
    ({"public_key_sha256": "0"}, "PublicKey"),
]


@pytest.mark.parametrize(("differs", "reason"), MISMATCHES)
def test_a_mismatch_writes_nothing(differs: dict[str, Any], reason: str) -> None:
    api = api_with(csr())
    with fails("invalid-request", NAME, f"({reason})"):
        decide(api, expect={**EXPECT, **differs})
    assert api.writes() == []


def test_other_names_may_be_expected() -> None:
    api = api_with(csr(pem=request("db", dns_names=("db.example.com",), ip_addresses=("192.0.2.1",))))
    expect = {"names": ["db.example.com", "192.0.2.1"]}
    assert decide(api, expect=expect).changed


def test_the_common_name_of_a_server_is_not_a_nodes() -> None:
    api = api_with(csr(pem=request("node-1")))
    api.objects["/api/v1/nodes"]["items"] = [{"metadata": {"name": "node-1"}}]
    with fails("invalid-request", "'node-1'"):
        decide(api)
    assert api.writes() == []


def test_an_expectation_does_not_permit_a_nodes_address() -> None:
    api = api_with(csr(pem=request(ip_addresses=("10.1.0.4",))))
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.4"}]}}
    api.objects["/api/v1/nodes"] = {"metadata": {}, "items": [node]}
    with fails("invalid-request", "'10.1.0.4'"):
        decide(api, expect={"names": ["hook", "hook.apps", "hook.apps.svc", "10.1.0.4"]})


@pytest.mark.parametrize(
    ("dns_names", "ip_addresses"),
    [(("NODE-1",), ()), (("node-1.",), ()), ((), ("::ffff:10.1.0.4",))],
)
def test_a_node_is_recognised_in_any_notation(
    dns_names: tuple[str, ...], ip_addresses: tuple[str, ...]
) -> None:
    api = api_with(csr(pem=request("node", dns_names=dns_names, ip_addresses=ip_addresses)))
    addresses = [{"type": "InternalIP", "address": "10.1.0.4"}]
    node = {"metadata": {"name": "node-1"}, "status": {"addresses": addresses}}
    api.objects["/api/v1/nodes"] = {"metadata": {}, "items": [node]}
    expect = {"names": [*dns_names, *ip_addresses]}
    with fails("invalid-request", "ForbiddenName"):
        decide(api, expect=expect)
    assert decide(api, expect=expect, allow_names=["node-1", "10.1.0.4"]).changed


STRANGE = csr(approved(), name="strange", pem=API_SERVER)
STRANGE["metadata"]["uid"] = "strange"


def test_an_approved_request_is_compared_too() -> None:
    api = api_with(STRANGE)
    with fails("approved-unexpectedly", "strange", "ForbiddenName") as caught:
        decide(api, name="strange")
    assert caught.value.remedy


def test_a_request_that_is_changed_after_another_was_approved() -> None:
    """Its refusal does not say that nothing was approved."""
    other = csr(name="other")
    other["metadata"]["uid"] = "other"
    api = api_with(csr(), other)

    def change(_method: str, path: str, body: Any) -> Any:
        if "other" not in path:
            return {**body, "status": {"conditions": [approved()]}}
        changed = csr(name="other", pem=API_SERVER)
        changed["metadata"]["uid"] = "other"
        api.objects[csr_api.path("other")] = changed
        return api_error(Conflict)

    api.on_write = change
    beginning = "CSR other was changed while this task ran, and was not approved: other: "
    with fails("invalid-request", "other", "ForbiddenName") as caught:
        decide(api, **BY_LABEL)
    assert beginning in str(caught.value)
    assert api.written == [f"PUT {CSRS}/{NAME}/approval"]


@pytest.mark.parametrize(("writer", "is_own"), [("other", False), ("own", True)])
def test_a_decision_of_another_client_is_not_claimed(writer: str, is_own: bool) -> None:
    """It was written after the list. After a lost answer the decision is that of this task."""
    api = api_with(csr())

    def change(_method: str, _path: str, body: Any) -> Any:
        by_other = {"conditions": [approved()]}
        api.objects[csr_api.path(NAME)] = csr() | {"status": body["status"] if writer == "own" else by_other}
        return api_error(Conflict)

    api.on_write = change
    result = decide(api)
    (entry,) = result.values["csrs"]
    assert (result.changed, entry["changed"]) == (is_own, is_own)
    assert bool((result.diff or {})["after"]) is is_own


@pytest.mark.parametrize("selectors", [[], [""], ["a=b", " "]])
@pytest.mark.parametrize("option", ["label_selectors", "field_selectors"])
def test_an_empty_selector_does_not_select_every_request(option: str, selectors: list[str]) -> None:
    api = api_with(csr(pem=request("hook", dns_names=("hook.apps.svc",))))
    with fails("invalid-request", "label_selectors"):
        decide(api, name=None, **{option: selectors})
    assert api.asked == []


def test_with_a_selector_an_unexpected_approval_is_only_a_warning() -> None:
    api = api_with(csr(), STRANGE)
    result = decide(api, **BY_LABEL)
    assert [entry["name"] for entry in result.values["csrs"]] == [NAME]
    assert "strange: it asks for the name 'kubernetes.default.svc'" in result.warnings[0]
    assert api.writes() == [("PUT", f"{CSRS}/{NAME}/approval")]


def test_an_unexpected_request_is_not_waited_for() -> None:
    api = api_with(csr(approved(), certificate=leaf().pem), STRANGE)
    assert [entry["name"] for entry in decide(api, **BY_LABEL, wait=True).values["csrs"]] == [NAME]


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_the_permissions_for_the_wait_are_checked_before_the_first_decision(verb: str) -> None:
    api = api_with(csr())
    api.lacking = {(verb, "certificatesigningrequests")}
    with fails("missing-permissions", verb, "certificatesigningrequests"):
        decide(api, wait=True)
    assert api.writes() == []
    assert decide(api).changed, "without the wait it is not needed"


def test_names_that_cannot_be_compared_are_a_warning() -> None:
    api = api_with(csr())
    api.objects.update(dict.fromkeys(("/api/v1/nodes", "/api/v1/nodes/hook"), api_error(Forbidden)))
    assert "no permission to read nodes" in decide(api).warnings[0]
