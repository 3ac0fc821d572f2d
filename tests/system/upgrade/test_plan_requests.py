# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan and the run that carries it out: the audit log of the API server has the same writes, by verb, kind and object."""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard, Write
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller

from tests.support.certificates.csr_rig import CSRS, HOOKS, TWO_STEP, CsrRig
from tests.support.clusters import AdminApiError
from tests.support.rig import WRITES, ClusterRig
from tests.support.upgrade import snapshot_kept, snapshot_lab, snapshot_pods
from tests.support.upgrade.snapshot_rig import release_server
from tests.support.waiting import now, wait_for
from tests.support.webhooks.bundle_rig import pem
from tests.support.webhooks.https_webhook import allow, convert
from tests.support.webhooks.probe_rig import DEFINITIONS
from tests.support.webhooks.repair_rig import RepairRig, of

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet

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


def test_a_part_of_a_write_is_within_its_plan(repairs: RepairRig) -> None:
    """Another client has repaired one of two webhooks since the plan, so there is less to do."""
    rig = repairs
    webhooks = [rig.webhook(name=f"{part}.{rig.name}.certflow.test", bundle=pem("other")) for part in "ab"]
    name = f"several-{rig.name}"
    body = {"metadata": {"name": name}, "webhooks": webhooks}
    rig.cluster.api("POST", f"{HOOKS}?fieldManager=kubectl-create", body)
    rig.made.append(f"{HOOKS}/{name}")
    plan = rig.repair(check_mode=True)
    assert [entry["state"] for entry in of(plan, name)] == ["planned"] * 2, plan
    value = base64.b64encode(pem("good").encode()).decode()
    change = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": value}
    path = f"{HOOKS}/{name}?fieldManager=kubectl-edit"
    rig.cluster.api("PATCH", path, [change], "application/json-patch+json")
    result = rig.repair(approved_plan=plan["plan_digests"])
    assert [entry["state"] for entry in of(result, name)] == ["repaired"], result


@dataclass(frozen=True)
class PlannedRun:
    """A run of k8s_csr for a webhook, after the runs before it."""

    #: The ids of the writes in its plan.
    ids: tuple[str, ...]
    #: Options of k8s_csr.
    options: dict[str, Any] = field(default_factory=dict)
    #: The ids of the writes that the run does without.
    unneeded: tuple[str, ...] = ()
    #: What the digest of the certificate covers too.
    replaced: tuple[str, ...] = ()


ISSUE = ("certificate", "secret", "target")
RENEW = ("pods", *ISSUE)
OWN_CA = {"signer_name": "ephemeral-ca"}
#: A certificate of the next run is longer, also in the same second. A renewal that gains nothing is not stored.
SHORT = {"expiration_seconds": 3600}
#: Renew at each run.
DUE = {"renew_before": "3660d"}
#: Only the issued certificate shows that its CA is the one that the caBundle has, and that no pod serves the old one.
SAME_CA = ("target", "pods")
#: This collection signs the certificate.
NO_REQUEST = ("certificate",)
CERTIFICATE_RUNS = {
    "first": PlannedRun(ISSUE, SHORT),
    "nothing to do": PlannedRun(()),
    "a label": PlannedRun(("secret",), {"secret": {"labels": {"team": "a"}}}),
    "renewal": PlannedRun(RENEW, DUE, SAME_CA),
    "another name": PlannedRun(RENEW, {"names": ["a.test"], "allow_names": ["a.test"]}, SAME_CA),
    "removal": PlannedRun(("removal own", "target"), {"state": "absent"}),
    "waits for its approver": PlannedRun(ISSUE, TWO_STEP, ("target", "approval")),
    "still waits": PlannedRun((), TWO_STEP),
    "removal of what waits": PlannedRun(("removal requests", "removal waiting"), {"state": "absent"}),
    "own CA": PlannedRun(ISSUE, {**OWN_CA, **SHORT}, NO_REQUEST),
    "renewal with an own CA": PlannedRun(RENEW, {**OWN_CA, **DUE}, (*NO_REQUEST, "pods")),
    "removal of an own CA": PlannedRun(("removal own", "target"), {**OWN_CA, "state": "absent"}),
    "waits again": PlannedRun(ISSUE, TWO_STEP, ("target", "approval")),
    "replaces what waits": PlannedRun(ISSUE, replaced=("removal requests", "removal waiting")),
}
#: The id of a write -> verb, resource and name of its requests. "*" is a name that the collection generates.
REQUESTS = {
    "certificate": {
        ("create", "certificatesigningrequests", "*"),
        ("update", "certificatesigningrequests/approval", "*"),
    },
    "secret": {("write", "secrets", "hook-tls")},
    "target": {("patch", "validatingwebhookconfigurations", "hook")},
    "removal own": {("delete", "secrets", "hook-tls")},
    "removal adopted": {("write", "secrets", "hook-tls")},
    "removal requests": {("delete", "certificatesigningrequests", "*")},
    "removal waiting": {("delete", "secrets", "hook-tls-pending")},
}


@pytest.fixture(scope="module")
def certificates(fleet: Fleet) -> Iterator[tuple[CsrRig, dict[str, Any]]]:
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        yield rig, rig.hook()


def generalized(request: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return a request of k8s_csr as REQUESTS has it. A Secret is written by a create or a patch."""
    verb, resource, name = request
    if resource.startswith("certificatesigningrequests"):
        return verb, resource, "*"
    if resource == "secrets" and verb != "delete":
        # The key of a waiting request is promised with its Secret.
        return "write", resource, "hook-tls"
    return verb, resource, name.rpartition("-csr-")[0] or name


@pytest.mark.parametrize("case", CERTIFICATE_RUNS)
def test_the_writes_for_a_certificate(
    certificates: tuple[CsrRig, dict[str, Any]], promised: list[Write], case: str
) -> None:
    """The runs follow each other. What a run may do without is named, so that the list is no larger than that."""
    (rig, hook), planned = certificates, CERTIFICATE_RUNS[case]
    accept = [{"unseen": [f"{hook['kind']}/{hook['name']}"]}]
    options = {"targets": [hook], "accept": accept, **planned.options}
    plan = rig.run(check_mode=True, **options)
    ids = [f"{write.id} {write.content[0]}" if write.id == "removal" else write.id for write in promised]
    assert tuple(dict.fromkeys(ids)) == planned.ids, plan
    for fixed in ([], [entry for entry in plan["plan_digests"] if not entry.startswith("write ")]):
        since = now()
        result = rig.run(approved_plan=fixed, **options)
        assert (result.get("code") == "plan-differs") is bool(planned.ids or not fixed), result
        assert made(rig, since) == set()
    since = now()
    result = rig.run(approved_plan=plan["plan_digests"], **options)
    assert not result.get("failed"), result
    names = [name for name in (*planned.ids, *planned.replaced) if name not in planned.unneeded]
    needed = set().union(*(REQUESTS[name] for name in names))
    if "approval" in planned.unneeded:
        needed -= {("update", "certificatesigningrequests/approval", "*")}
    assert set(map(generalized, made(rig, since))) == needed


def test_the_writes_for_an_emptied_secret(fleet: Fleet, promised: list[Write]) -> None:
    """The pods may still serve the certificate that another client removed from the Secret."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        given: dict[str, Any] = {**OWN_CA, "targets": [rig.hook()], "accept": ["foreign-secret"]}
        rig.run(**given)
        empty = {"data": {"tls.crt": "", "tls.key": ""}}
        rig.cluster.api("PATCH", f"{rig.secrets}/hook-tls", empty, "application/merge-patch+json")
        promised.clear()
        plan = rig.run(check_mode=True, **given)
        assert {write.id for write in promised} == set(RENEW), plan
        result = rig.run(approved_plan=plan["plan_digests"], **given)
        assert not result.get("failed"), result


@pytest.mark.parametrize("bundle", ["", pem("other")], ids=["all webhooks change", "one has a CA"])
def test_a_webhook_that_appears_during_the_run_is_not_written(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    """Another client adds it while the run waits for the certificate."""
    with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
        hook = rig.hook()
        if bundle:
            rig.set_bundle(hook, bundle)
        plan = rig.run(check_mode=True, targets=[hook])["plan_digests"]
        create = Client.create

        def add_webhook(self: Client, path: str, *arguments: Any, **options: Any) -> dict[str, Any]:
            if path == CSRS and not options.get("dry_run"):
                obj = rig.cluster.api("GET", f"{HOOKS}/{hook['name']}")
                obj["webhooks"].append({**obj["webhooks"][0], "name": "added.certflow.test"})
                rig.cluster.api("PUT", f"{HOOKS}/{hook['name']}", obj)
            return create(self, path, *arguments, **options)

        monkeypatch.setattr(Client, "create", add_webhook)
        result = rig.run(approved_plan=plan, targets=[hook])
        assert result["code"] == "plan-differs", result
        assert rig.bundle(hook) == bundle


class Killed(BaseException):
    """The end of a run after a write."""


@pytest.mark.parametrize("options", [{}, OWN_CA], ids=str)
def test_a_killed_run_is_completed_with_its_plan(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """A CA that a killed run made for its certificate stays in the caBundle, so the next run opens a rotation."""
    noted = Client._note

    def run_until(rig: CsrRig, count: int, **given: Any) -> bool:
        """Run until this number of writes. Return False if the run ends before."""

        def note(client: Client, *arguments: Any) -> None:
            noted(client, *arguments)
            if len(client.written) == count:
                raise Killed

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(Client, "_note", note)
            rig.run(**given)
            return False
        return True

    count, is_killed = 0, True
    while is_killed:
        count += 1
        with contextlib.closing(CsrRig(fleet["onprem"])) as rig:
            given = {**options, "targets": [rig.hook()]}
            plan = rig.run(check_mode=True, **given)["plan_digests"]
            is_killed = run_until(rig, count, approved_plan=plan, **given)
            for _run in range(2):
                result = rig.run(approved_plan=plan, **given)
                assert not result.get("failed"), (count, result)
    assert count > 2


OLD, NEW = "7.0.2", "8.7.0"
#: Apply writes by a patch, also an object that does not exist.
APPLIED = {"created": "patch", "changed": "patch", "deleted": "delete"}
Upgrade = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def upgrade(
    without_snapshots: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ClusterRig, Upgrade]]:
    """A cluster with a snapshot controller, whose pods become ready, and its upgrade."""
    cluster = without_snapshots
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(release_server(OLD, NEW))
        snapshot_lab.install(cluster, OLD, pods=False)
        stack.callback(snapshot_kept.remove, cluster)
        stack.enter_context(snapshot_pods.running(cluster, OLD, NEW))
        snapshot_pods.wait_until_ready(cluster, OLD)
        rig = stack.enter_context(contextlib.closing(ClusterRig(cluster, "upgrade")))
        given: dict[str, Any] = {
            "version": NEW,
            "accept": ["kubectl"],
            "source": source,
            "cache_directory": str(tmp_path_factory.mktemp("releases")),
            "step_timeout": 60,
        }
        yield rig, functools.partial(rig.operate, snapshot_controller.OPERATION, **given)


ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/snapshot-controller-runner"
#: The kinds of the objects that a validation webhook leaves.
WEBHOOK = {
    "validatingwebhookconfigurations", "services", "secrets", "serviceaccounts",
    "clusterroles", "clusterrolebindings", "deployments",
}  # fmt: skip
#: What happens before a run -> the ids of its steps that write.
UPGRADE_RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "upgrade and removal of the webhook": (
        "",
        ("crds", "configurations-delete", "controller-rbac", "controller", "validation-clean"),
    ),
    "nothing to do": ("", ()),
    "repair": (ROLE, ("controller-rbac",)),
}


@pytest.mark.parametrize("case", UPGRADE_RUNS)
def test_the_writes_of_an_upgrade(
    upgrade: tuple[ClusterRig, Upgrade], promised: list[Write], case: str
) -> None:
    """The runs follow each other. A test object of a verification is deleted again, so no plan lists it."""
    (rig, run), (lost, steps) = upgrade, UPGRADE_RUNS[case]
    if lost:
        rig.cluster.api("DELETE", lost)
    plan = run(check_mode=True)
    assert tuple(dict.fromkeys(write.id for write in promised)) == tuple(plan["due"]) == steps, plan
    listed = {
        (APPLIED[entry["change"]], f"{entry['kind'].lower()}s", entry["name"])
        for step in plan["foreseen"]
        for entry in step["objects"]
    }
    since = now()
    result = run(approved_plan=[entry for entry in plan["plan_digests"] if not entry.startswith("write ")])
    assert (result.get("code") == "plan-differs") is bool(steps), result
    assert {entry for entry in made(rig, since) if entry[1] != "volumesnapshots"} == set()
    since = now()
    result = run(approved_plan=plan["plan_digests"])
    assert not result.get("failed"), result
    assert {entry for entry in made(rig, since) if entry[1] != "volumesnapshots"} == listed
    assert bool(listed) is bool(steps)
    assert {resource for verb, resource, _name in listed if verb == "delete"} == (
        WEBHOOK if "validation-clean" in steps else set()
    )
