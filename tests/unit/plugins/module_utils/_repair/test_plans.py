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
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.checks.check_table import BY_ID
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.cluster_data import (
    Backend,
    CaData,
    ClusterData,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.facts.finding import (
    FAIL,
    AuditFinding,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._audit.object_parsing import points_of
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.ca_rotation import (
    ClusterCa,
    ClusterCas,
    find_cas,
    published_cas,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.trust_anchors import PublishedCa
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import digest
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import (
    bundle_repairs,
    kinds,
    restarts,
    rotation_repairs,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import BundleEdit
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.proof_calls import CallAnswer
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    Case,
    Refusal,
    RepairOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.surroundings import (
    MountedSecret,
    Surroundings,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.support.certificates.authority import DAY, NOW, SERVER_AUTH, Issued, authority, dns, issue

KIND = "ValidatingWebhookConfiguration"
NAME = "hook.demo.svc"
OLD, NEW, STRANGER = authority("old"), authority("new"), authority("new")
OPTIONS = RepairOptions(tuple(kinds.KINDS))
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
NOTHING = {**PODS, "resources": ["configmaps"]}


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


def test_the_root_above_a_successor_is_not_added() -> None:
    """The root of a company verifies more than the cluster's CA. The API server needs no root above a CA of a caBundle."""
    root = authority("company", not_before=NOW - 900 * DAY)
    first, second = (authority("cluster", root, not_before=NOW - age * DAY) for age in (500, 5))
    cas = find_cas(published_cas(root.pem + first.pem + second.pem), leaf(first).pem, now=NOW)
    assert cas
    case = case_of(configuration(first.pem), served(leaf(first)), check="bundle-without-successor")
    outcome = rotation_repairs.plan_add_successor(replace(case, data=replace(case.data, ca=CaData(cas))))
    assert isinstance(outcome, bundle_repairs.BundleAction)
    assert [edit.fingerprints for edit in outcome.edits] == [(second.fingerprint,)]


def test_an_endpoint_that_was_not_read_may_serve_something_else() -> None:
    backend = replace(served(leaf(NEW)), ready=2)
    case = case_of(configuration(OLD.pem), backend, published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == "endpoints-unread"


# The age of the record of an earlier repair, the CA of the record, and the code of the plan.
RECORDS = [
    (DAY, NEW.fingerprint, "overwritten-by"),
    (8 * DAY, NEW.fingerprint, "planned"),
    (DAY, OLD.fingerprint, "planned"),
    # By the clock of another API server, and by a client that forges a record.
    (datetime.timedelta(minutes=-1), NEW.fingerprint, "overwritten-by"),
    (-3650 * DAY, NEW.fingerprint, "planned"),
]
WRITTEN_BY: dict[str, Any] = {
    "f:webhooks": {'k:{"name":"a.example.com"}': {"f:clientConfig": {"f:caBundle": {}}}}
}


@pytest.mark.parametrize(("age", "fingerprint", "expected"), RECORDS)
def test_a_repair_that_was_overwritten(age: datetime.timedelta, fingerprint: str, expected: str) -> None:
    at = (NOW - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = json.dumps({"a.example.com": {"at": at, "ca": [fingerprint]}})
    obj = configuration(OLD.pem, annotations={bundle_repairs.RECORD: record})
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == expected


# The field managers of the caBundle since the repair, and the code of the plan.
WRITERS = [
    (["certflow.kubernetes"], "planned"),
    (["certflow.kubernetes", "kubectl-edit"], "overwritten-by"),
    (["kubectl-edit"], "overwritten-by"),
    ([], "overwritten-by"),
]


@pytest.mark.parametrize(("managers", "expected"), WRITERS)
def test_a_write_of_this_collection_overwrites_no_repair(managers: list[str], expected: str) -> None:
    """A renewal of this collection, or a removal that was put back, is its own."""
    at = (NOW - DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = json.dumps({"a.example.com": {"at": at, "ca": [NEW.fingerprint]}})
    fields = [{"manager": name, "operation": "Update", "fieldsV1": WRITTEN_BY} for name in managers]
    obj = configuration(OLD.pem, annotations={bundle_repairs.RECORD: record}, managedFields=fields)
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == expected


# Whether the webhook answered a call with an empty caBundle, and the code of the plan.
EMPTY_BUNDLES = [(False, "planned"), (True, "refusal-unseen"), (None, "refusal-unseen")]


@pytest.mark.parametrize(("is_answered", "expected"), EMPTY_BUNDLES)
def test_an_empty_bundle_means_the_roots_of_the_system(is_answered: bool | None, expected: str) -> None:
    call = CallAnswer(is_answered, ("words of the API server",))
    case = case_of(configuration(""), served(leaf(NEW)), published=published(NEW), call=call)
    outcome = bundle_repairs.plan_add_ca(case)
    assert code(outcome) == expected
    assert not isinstance(outcome, Refusal) or outcome.evidence == call.evidence


@pytest.mark.parametrize(
    "text", ["no JSON", "[" * 100000, "[]", '{"a.example.com": 1}', '{"a.example.com": {"at": 1, "ca": 2}}']
)
def test_a_record_of_another_shape_counts_as_none(text: str) -> None:
    obj = configuration(OLD.pem, annotations={bundle_repairs.RECORD: text})
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    assert code(bundle_repairs.plan_add_ca(case)) == "planned"


def secret(issued: Issued, name: str = "tls", **fields: Any) -> MountedSecret:
    return MountedSecret("demo", name, issued.pem, **fields)


def workload(replicas: int = 2, *, updated: int | None = None) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
    return {
        "kind": "Deployment",
        "metadata": {"name": "hook", "namespace": "demo", "generation": 1},
        "spec": {"replicas": replicas, "template": {"metadata": {}}},
        "status": {
            **counts,
            "updatedReplicas": replicas if updated is None else updated,
            "observedGeneration": 1,
        },
    }


FRESH = leaf(NEW)
# The workload, the rule of the webhook, and the code of the plan.
RESTARTED: list[tuple[dict[str, Any] | None, dict[str, Any], str]] = [
    (workload(2), NOTHING, "planned"),
    (workload(1), NOTHING, "no-pod-left"),
    (workload(2, updated=1), NOTHING, "rollout-incomplete"),
    (workload(2), PODS, "blocks-its-own-pods"),
    (None, NOTHING, "no-workload"),
]


@pytest.mark.parametrize(("obj", "rule", "expected"), RESTARTED)
def test_the_restart_of_a_workload(obj: Any, rule: dict[str, Any], expected: str) -> None:
    case = case_of(
        configuration(NEW.pem, rule),
        served(*[leaf(OLD, begin=-2 * DAY)] * 2),
        secrets=(secret(FRESH),),
        workload=obj,
    )
    assert code(restarts.plan_reload(case)) == expected
    accepted = replace(OPTIONS, consent=accept.parse(["downtime"]))
    covered = "planned" if expected == "no-pod-left" else expected
    assert code(restarts.plan_reload(replace(case, options=accepted))) == covered


# The Secret that the pods mount: none of them is a reason to restart.
UNNEEDED = [
    secret(leaf(STRANGER)),
    secret(leaf(NEW, name="other.demo.svc")),
    secret(leaf(NEW, begin=DAY)),
    secret(leaf(NEW, begin=-30 * DAY)),
    replace(secret(FRESH), certificate="no certificate"),
]


@pytest.mark.parametrize("held", UNNEEDED)
def test_no_restart_for_a_secret_that_is_not_better(held: MountedSecret) -> None:
    case = case_of(
        configuration(NEW.pem), served(leaf(OLD, begin=-2 * DAY)), secrets=(held,), workload=workload()
    )
    assert restarts.plan_reload(case) is None


def test_no_restart_if_every_endpoint_serves_the_secret() -> None:
    case = case_of(
        configuration(NEW.pem), served(FRESH, FRESH), secrets=(secret(FRESH),), workload=workload()
    )
    assert restarts.plan_reload(case) is None


SERVED = leaf(OLD, begin=-2 * DAY)
# The caBundle of another object of the Service, what else differs, and the code of the plan.
SHARED: list[tuple[str, dict[str, Any], str]] = [
    (OLD.pem, {}, "still-needed"),
    (OLD.pem, {"protocols": "h2"}, "still-needed"),
    (OLD.pem + NEW.pem, {}, "planned"),
    (NEW.pem, {}, "planned"),
    (STRANGER.pem, {}, "planned"),
    (OLD.pem, {"is_verified": False}, "planned"),
    (OLD.pem, {"port": 9443}, "planned"),
]


@pytest.mark.parametrize(("bundle", "differs", "expected"), SHARED)
def test_no_restart_breaks_another_caller_of_the_pods(
    bundle: str, differs: dict[str, Any], expected: str
) -> None:
    """It trusts what the pods serve now, and not what their Secret holds. The other port is that of another container."""
    case = case_of(
        configuration(NEW.pem), served(SERVED, SERVED), secrets=(secret(FRESH),), workload=workload()
    )
    (other,) = points_of(KIND, configuration(bundle, name="other"))
    if "protocols" in differs:  # the API server offers h2 to an aggregated API
        other = replace(other, config=replace(other.config, pointer="/spec"))
    other = replace(
        other,
        is_verified=differs.get("is_verified", True),
        config=replace(other.config, port=differs.get("port", 443)),
    )
    backends = {other.backend: served(SERVED, SERVED), **case.data.backends}
    if "port" in differs:
        chains = served(SERVED).chains
        backends[other.backend] = Backend(
            ready=1, chains=tuple(replace(c, endpoint=replace(c.endpoint, port=9443)) for c in chains)
        )
    data = replace(case.data, points=(case.point, other), backends=backends)
    outcome = restarts.plan_reload(replace(case, data=data))
    assert code(outcome) == expected
    assert not isinstance(outcome, Refusal) or str(other.object) in outcome.reason


def test_every_check_of_a_kind_exists() -> None:
    assert {check for row in kinds.ROWS for check in row.checks} <= BY_ID.keys()


def test_equal_writes_have_equal_digests() -> None:
    case = case_of(configuration(OLD.pem), served(leaf(NEW)), published=published(NEW))
    later = replace(case, data=replace(case.data, now=NOW + DAY))
    digests = {
        write.as_result()["digest"]
        for entry in (case, later)
        for write in getattr(bundle_repairs.plan_add_ca(entry), "writes", ())
    }
    assert len(digests) == 1


def test_a_plan_covers_each_part_of_a_write() -> None:
    """Another client may have done a part of a write since the plan, or an endpoint that was not seen is seen."""
    config = case_of(configuration(OLD.pem), served(leaf(NEW))).point.config
    edit = BundleEdit(config, NEW.pem, (NEW.fingerprint,))
    both = replace(edit, fingerprints=(NEW.fingerprint, OLD.fingerprint), mode=bundle_repairs.APPEND)
    sure = replace(edit, secures=True)
    gone = replace(edit, mode=bundle_repairs.ABSENT)

    def promised(*edits: BundleEdit) -> set[str]:
        action = bundle_repairs.BundleAction(Target(KIND, "example"), {}, edits, NOW)
        return {digest(part.content) for write in action.writes for part in write.promises("add-ca")}

    second = replace(edit, config=replace(config, webhook="second"))
    assert promised(edit) < promised(edit, second)
    assert promised(edit) < promised(both)
    assert promised(edit) < promised(sure) < promised(replace(sure, unseen=("an endpoint",)))
    assert not promised(edit) & promised(gone, second)


def test_two_edits_of_one_webhook_stay_one() -> None:
    case = case_of(configuration(OLD.pem), served(leaf(NEW)), published=published(NEW))
    action = bundle_repairs.plan_add_ca(case)
    assert isinstance(action, bundle_repairs.BundleAction)
    merged = action.merged(action)
    assert merged.edits == action.edits
    added = certificate_facts.load(action.edits[0].pem)
    assert action.notes == tuple(f"adds {entry}" for entry in added)
    operations = merged.operations(case.around.obj, merged.plan(case.around.obj))
    assert [operation["path"] for operation in operations] == [
        "/metadata/resourceVersion",
        "/webhooks/0/name",
        "/webhooks/0/clientConfig/caBundle",
        "/metadata/resourceVersion",
        "/metadata/annotations",
    ]
    assert OPTIONS.consent == accept.NOTHING


@pytest.mark.parametrize(
    ("late", "accepted", "expected"),
    [
        (leaf(OLD), [], ("outgoing-served", "not-published")),
        (leaf(NEW), [], ("planned", "planned")),
        (None, [], ("endpoint-unseen", "endpoint-unseen")),
        (None, [{"unseen": [f"{KIND}/example"]}], ("planned", "planned")),
    ],
)
def test_an_endpoint_that_is_not_ready_counts(
    late: Issued | None, accepted: list[Any], expected: tuple[str, str]
) -> None:
    """The outgoing CA, and insecureSkipTLSVerify, stay while an endpoint may need it."""
    endpoint = Endpoint("10.0.0.2", 8443, ("demo", "late"), state="not ready")
    chain = ServedChain(endpoint, problem="it refuses connections")
    if late:
        chain = ServedChain(endpoint, late.pem, certificate_facts.describe_pem(late.pem))
    backend = replace(served(leaf(NEW)), unready=1, unready_chains=(chain,))
    options = replace(OPTIONS, consent=accept.parse(accepted))
    case = case_of(configuration(OLD.pem + NEW.pem), backend, options=options, published=published(NEW))
    old, new = (ClusterCa((ca.facts,)) for ca in (OLD, NEW))
    rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((old, new), new))))
    insecure = replace(case, point=replace(case.point, is_verified=False))
    plans = (rotation_repairs.plan_remove_outgoing(rotated), bundle_repairs.plan_secure_apiservice(insecure))
    assert tuple(map(code, plans)) == expected
    if accepted:
        assert all(any("late" in note for note in plan.notes) for plan in plans)  # type: ignore[union-attr]


def test_a_service_that_does_not_exist_now_may_come_back() -> None:
    """Its pods still run, and serve what they did."""
    case = case_of(configuration(OLD.pem + NEW.pem), Backend(exists=False))
    old, new = (ClusterCa((ca.facts,)) for ca in (OLD, NEW))
    rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((old, new), new))))
    assert code(rotation_repairs.plan_remove_outgoing(rotated)) == "endpoint-unseen"


@pytest.mark.parametrize(
    ("check", "outgoing", "expected"),
    [
        ("outgoing-ca-left", (), "planned"),
        ("ca-left", (), "none"),
        ("ca-left", (STRANGER,), "planned"),
        ("outgoing-ca-left", (STRANGER,), "planned"),
    ],
)
def test_each_finding_is_answered_by_the_removal_of_its_own_cas(
    check: str, outgoing: tuple[Issued, ...], expected: str
) -> None:
    """The other CAs of a caBundle stay, so the removal of one finding's CAs does not settle the other finding."""
    named = replace(OPTIONS.rotation, outgoing=frozenset(ca.facts.fingerprint for ca in outgoing))
    bundle = configuration(OLD.pem + NEW.pem + STRANGER.pem)
    case = case_of(bundle, served(leaf(NEW)), check=check, options=replace(OPTIONS, rotation=named))
    old, new = (ClusterCa((ca.facts,)) for ca in (OLD, NEW))
    rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((old, new), new))))
    assert code(rotation_repairs.plan_remove_outgoing(rotated)) == expected


@pytest.mark.parametrize(
    ("mounted", "expected"),
    [
        (leaf(OLD), "outgoing-served"),
        (leaf(NEW), "planned"),
        (leaf(OLD, name="other.demo.svc"), "planned"),
        (leaf(STRANGER), "planned"),
    ],
    ids=["outgoing", "successor", "another name", "never accepted"],
)
def test_pods_come_back_with_the_certificate_of_their_secret(mounted: Issued, expected: str) -> None:
    """Each endpoint serves a certificate of the successor. Then an old Secret is restored, which the pods read at their next start."""
    others = (replace(secret(FRESH, "text"), certificate="no certificate"), secret(FRESH, "good"))
    secrets = (*others, secret(mounted))
    for early, late in ((secrets, ()), ((), secrets)):
        case = case_of(configuration(OLD.pem + NEW.pem), served(leaf(NEW)), secrets=early, later_secrets=late)
        old, new = (ClusterCa((ca.facts,)) for ca in (OLD, NEW))
        rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((old, new), new))))
        assert code(rotation_repairs.plan_remove_outgoing(rotated)) == expected


@pytest.mark.parametrize(
    ("mounted", "expected"),
    [
        (leaf(OLD), "still-needed"),
        (leaf(NEW), "planned"),
        (leaf(OLD, name="other.demo.svc"), "planned"),
    ],
    ids=["another CA", "the published CA", "another name"],
)
def test_an_aggregated_api_keeps_what_its_pods_serve_after_a_restart(mounted: Issued, expected: str) -> None:
    """The end of insecureSkipTLSVerify is a removal of trust."""
    case = case_of(
        configuration(""), served(leaf(NEW)), published=published(NEW), later_secrets=(secret(mounted),)
    )
    insecure = replace(case, point=replace(case.point, is_verified=False))
    assert code(bundle_repairs.plan_secure_apiservice(insecure)) == expected


@pytest.mark.parametrize(
    ("accepted", "expected"), [([], "endpoint-unseen"), ([{"unseen": [f"{KIND}/example"]}], "planned")]
)
def test_a_secret_that_may_not_be_read_keeps_the_trust(accepted: list[Any], expected: str) -> None:
    options = replace(OPTIONS, consent=accept.parse(accepted))
    hidden = ("Secret demo/tls, which was not read",)
    bundle = configuration(OLD.pem + NEW.pem)
    case = case_of(bundle, served(leaf(NEW)), options=options, published=published(NEW), unread=hidden)
    old, new = (ClusterCa((ca.facts,)) for ca in (OLD, NEW))
    rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((old, new), new))))
    insecure = replace(case, point=replace(case.point, is_verified=False))
    plans = (rotation_repairs.plan_remove_outgoing(rotated), bundle_repairs.plan_secure_apiservice(insecure))
    assert tuple(map(code, plans)) == (expected, expected)
    for plan in plans:
        told = plan.evidence if isinstance(plan, Refusal) else plan.notes  # type: ignore[union-attr]
        assert any("Secret demo/tls" in text for text in told)


@pytest.mark.parametrize("old", [OLD, authority("old", not_after=NOW - DAY)])
def test_no_removal_empties_a_bundle(old: Issued) -> None:
    """The API server would trust the roots of its own machine."""
    options = replace(OPTIONS, consent=accept.parse([{"unseen": [f"{KIND}/example"]}]))
    case = case_of(configuration(old.pem), Backend(), options=options)
    gone, new = (ClusterCa((ca.facts,)) for ca in (old, NEW))
    rotated = replace(case, data=replace(case.data, ca=CaData(ClusterCas((gone, new), new))))
    assert code(rotation_repairs.plan_remove_outgoing(rotated)) == "still-needed"
