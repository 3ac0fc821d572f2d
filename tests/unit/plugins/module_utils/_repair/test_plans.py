# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plans of repairs for what a cluster has around a finding."""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils import _consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.call_points import points_of
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.check_table import BY_ID
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.cluster_data import (
    Backend,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.finding import FAIL, AuditFinding
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import (
    bundle_repairs,
    kinds,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    Case,
    Refusal,
    RepairOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.surroundings import (
    PublishedCa,
    Surroundings,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import Target
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.served_chains import ServedChain
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.webhook_endpoints import Endpoint
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.support.authority import DAY, NOW, SERVER_AUTH, Issued, authority, dns, issue

KIND = "ValidatingWebhookConfiguration"
NAME = "hook.demo.svc"
OLD, NEW, STRANGER = authority("old"), authority("new"), authority("new")
OPTIONS = RepairOptions(tuple(kinds.KINDS))
NOTHING = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}


def leaf(issuer: Issued, *, begin: datetime.timedelta = -DAY, name: str = NAME) -> Issued:
    return issue(
        "leaf",
        issuer,
        names=dns(name),
        usages=(SERVER_AUTH,),
        not_before=NOW + begin,
        not_after=NOW + 90 * DAY,
    )


def served(*leaves: Issued) -> Backend:
    chains = tuple(
        ServedChain(
            Endpoint("10.0.0.1", 8443, ("demo", f"pod{number}")),
            entry.pem,
            certificate_facts.describe_pem(entry.pem),
        )
        for number, entry in enumerate(leaves)
    )
    return Backend(ready=len(leaves), chains=chains)


def configuration(bundle: str, rule: dict[str, Any] = NOTHING, **metadata: Any) -> dict[str, Any]:
    client = {
        "service": {"namespace": "demo", "name": "hook", "port": 443},
        "caBundle": base64.b64encode(bundle.encode()).decode(),
    }
    webhook = {"name": "a.example.com", "clientConfig": client, "rules": [rule], "failurePolicy": "Fail"}
    own = {"name": "example", "uid": "1", "resourceVersion": "7", **metadata}
    return {"metadata": own, "webhooks": [webhook]}


def case_of(
    obj: dict[str, Any],
    backend: Backend,
    *,
    check: str = "ca-mismatch",
    options: RepairOptions = OPTIONS,
    **around: Any,
) -> Case:
    (point,) = points_of(KIND, obj)
    data = ClusterData(NOW, points=(point,), backends={point.backend: backend}, namespaces={"demo": {}})
    read = Surroundings(Target(KIND, "example"), obj, **around)
    return Case(AuditFinding(check, FAIL, point.object), point, data, read, options)


def code(outcome: Any) -> str:
    return outcome.code if isinstance(outcome, Refusal) else "none" if outcome is None else "planned"


def published(*cas: Issued) -> tuple[PublishedCa, ...]:
    return (
        PublishedCa("a place", "".join(ca.pem for ca in cas)),
        PublishedCa("no place", problem="it does not exist"),
    )


def test_a_bundle_beside_a_field_of_a_newer_api_is_left_alone() -> None:
    obj = configuration(OLD.pem)
    obj["webhooks"][0]["clientConfig"]["trustBundleRef"] = {"name": "example"}
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == "trust-field-unknown"


# What the endpoints serve, the CAs that the cluster publishes, and the code of the plan.
ADDED: list[tuple[list[Issued], list[Issued], str]] = [
    ([leaf(NEW)], [NEW], "planned"),
    ([leaf(NEW), leaf(NEW)], [OLD, NEW], "planned"),
    ([leaf(NEW)], [], "not-published"),
    ([leaf(STRANGER)], [NEW], "not-published"),
    ([leaf(NEW), leaf(STRANGER)], [NEW], "not-published"),
    ([leaf(NEW, name="other.demo.svc")], [NEW], "not-published"),
    ([leaf(OLD)], [NEW], "none"),
    ([], [NEW], "endpoints-unread"),
]


@pytest.mark.parametrize(("leaves", "cas", "expected"), ADDED)
def test_a_ca_is_added_only_if_it_verifies_every_endpoint(
    leaves: list[Issued], cas: list[Issued], expected: str
) -> None:
    case = case_of(configuration(OLD.pem), served(*leaves), published=published(*cas))
    outcome = bundle_repairs.plan_add_ca(case)
    assert code(outcome) == expected
    if isinstance(outcome, bundle_repairs.BundleAction):
        assert [edit.fingerprints for edit in outcome.edits] == [(NEW.fingerprint,)]


def test_an_endpoint_that_was_not_read_may_serve_something_else() -> None:
    backend = replace(served(leaf(NEW)), ready=2)
    case = case_of(configuration(OLD.pem), backend, published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == "endpoints-unread"


# The age of the record of an earlier repair, the CA of the record, and the code of the plan.
RECORDS = [
    (DAY, NEW.fingerprint, "overwritten-by"),
    (8 * DAY, NEW.fingerprint, "planned"),
    (DAY, OLD.fingerprint, "planned"),
]


@pytest.mark.parametrize(("age", "fingerprint", "expected"), RECORDS)
def test_a_repair_that_was_overwritten(age: datetime.timedelta, fingerprint: str, expected: str) -> None:
    at = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = json.dumps({"a.example.com": {"at": at, "ca": [fingerprint]}})
    obj = configuration(OLD.pem, annotations={bundle_repairs.RECORD: record})
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == expected


@pytest.mark.parametrize(
    "text", ["no JSON", "[" * 100000, "[]", '{"a.example.com": 1}', '{"a.example.com": {"at": 1, "ca": 2}}']
)
def test_a_record_of_another_shape_counts_as_none(text: str) -> None:
    obj = configuration(OLD.pem, annotations={bundle_repairs.RECORD: text})
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == "planned"


def test_every_check_of_a_kind_exists() -> None:
    assert {check for row in kinds.ROWS for check in row.checks} <= BY_ID.keys()


def test_equal_writes_have_equal_digests() -> None:
    case = case_of(configuration(OLD.pem), served(leaf(NEW)), published=published(NEW))
    later = replace(case, data=replace(case.data, now=NOW + DAY))
    digests = {
        write.as_result()["digest"]
        for one in (case, later)
        for write in getattr(bundle_repairs.plan_add_ca(one), "writes", ())
    }
    assert len(digests) == 1


def test_two_edits_of_one_webhook_stay_one() -> None:
    case = case_of(configuration(OLD.pem), served(leaf(NEW)), published=published(NEW))
    action = bundle_repairs.plan_add_ca(case)
    assert isinstance(action, bundle_repairs.BundleAction)
    merged = action.merged(action)
    assert merged.edits == action.edits
    operations = merged.operations(case.around.obj, merged.plan(case.around.obj))
    assert [operation["path"] for operation in operations] == [
        "/metadata/resourceVersion",
        "/webhooks/0/name",
        "/webhooks/0/clientConfig/caBundle",
        "/metadata/annotations",
    ]
    assert OPTIONS.consent == _consent.NOTHING
