# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan and the run that carries it out: the audit log of the API server has the same writes, by verb, kind and object."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard, Write

from tests.support.bundle_rig import pem
from tests.support.clusters import AdminApiError
from tests.support.https_webhook import allow, convert
from tests.support.probe_rig import DEFINITIONS
from tests.support.repair_rig import RepairRig, of
from tests.support.rig import WRITES
from tests.support.waiting import now, wait_for

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Fleet
    from tests.support.rig import ClusterRig

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
#: Resources of requests that no plan lists, because they change no object of the cluster for longer than the run.
OF_THE_RUN = frozenset(("leases",))
Requests = set[tuple[str, str, str]]


@pytest.fixture
def promised(monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """Return the list to which a plan adds its writes."""
    listed: list[Write] = []
    allow_writes = PlanGuard.allow

    def collect(self: PlanGuard, writes: Any) -> None:
        given = list(writes)
        listed.extend(given)
        allow_writes(self, given)

    monkeypatch.setattr(PlanGuard, "allow", collect)
    return listed


def made(rig: ClusterRig, since: datetime.datetime) -> Requests:
    """Return verb, resource and name of each request of the rig's user that changed an object."""
    shown = set()
    for event in rig.cluster.requests(since=since, user=rig.user):
        reference = event.get("objectRef", {})
        is_dry = "dryRun=All" in event["requestURI"] or "reviews" in reference.get("resource", "")
        if event["verb"] in WRITES and not is_dry and reference["resource"] not in OF_THE_RUN:
            resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
            shown.add((event["verb"], resource, reference["name"]))
    return shown


def of_repairs(writes: list[Write]) -> Requests:
    """Return the requests of a plan of webhook_repair. The title of a write is its verb, kind and place."""
    parts = (write.title.split(" ") for write in writes)
    return {(verb, f"{kind.lower()}s", place.rpartition("/")[2]) for verb, kind, place in parts}


@pytest.fixture
def repairs(fleet: Fleet) -> Iterator[RepairRig]:
    with contextlib.closing(RepairRig(fleet["onprem"])) as rig:
        rig.publish(pem("good"))
        yield rig


def refuse_patches(rig: RepairRig, name: str, is_refused: Callable[[], bool]) -> None:
    """Let the API server refuse each change of a CustomResourceDefinition."""
    rule = {
        "apiGroups": ["apiextensions.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["customresourcedefinitions"],
        "resourceNames": [name],
    }
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "frozen"}],
    }
    rig.make(POLICIES, {"metadata": {"name": rig.name}, "spec": spec})
    binding = {"policyName": rig.name, "validationActions": ["Deny"]}
    rig.make(f"{POLICIES[:-3]}ybindings", {"metadata": {"name": rig.name}, "spec": binding})
    wait_for(is_refused)


def test_the_writes_of_repairs(repairs: RepairRig, promised: list[Write]) -> None:
    """A policy refuses one write. The plan does not have it, also when the policy is gone."""
    rig = repairs
    for name in ("first", "second"):
        rig.broken(name)
    rig.broken("operator", by="pilot-discovery")
    definition = rig.definition()["name"]
    rig.server.answer = lambda review: (convert if "objects" in review["request"] else allow)(review)

    def change(*, dry: bool) -> str:
        value = base64.b64encode(pem("other").encode()).decode()
        config = {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": value}}}}}
        path = f"{DEFINITIONS}/{definition}?fieldManager=kubectl-edit{'&dryRun=All' if dry else ''}"
        try:
            rig.cluster.api("PATCH", path, config, "application/merge-patch+json")
        except AdminApiError as error:
            return error.message
        return ""

    assert change(dry=False) == ""
    refuse_patches(rig, definition, lambda: "frozen" in change(dry=True))
    plan = rig.repair(check_mode=True)
    listed = of_repairs(promised)
    assert [entry["state"] for entry in of(plan, definition)] == ["refused"], plan
    assert listed == {
        ("patch", "validatingwebhookconfigurations", f"{name}-{rig.name}") for name in ("first", "second")
    }
    # The policy goes, so the run could write more than the plan has.
    for _policy in range(2):
        rig.cluster.api("DELETE", rig.made.pop())
    wait_for(lambda: change(dry=True) == "")
    since = now()
    assert rig.repair(approved_plan=plan["plan_digests"])["code"] == "plan-differs"
    assert rig.repair(approved_plan=[])["code"] == "plan-differs"
    assert made(rig, since) == set()
    promised.clear()
    plan = rig.repair(check_mode=True)
    listed = of_repairs(promised)
    assert ("patch", "customresourcedefinitions", definition) in listed
    since = now()
    result = rig.repair(approved_plan=plan["plan_digests"])
    assert {entry["state"] for entry in result["repairs"] if entry["writes"]} == {"repaired"}, result
    assert made(rig, since) == listed
