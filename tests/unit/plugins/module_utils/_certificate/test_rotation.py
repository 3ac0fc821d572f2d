# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rotation: when it waits, restarts and fails, and which anchors it removes after the proof."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import (
    Result,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.times import format_time
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    certificate_flow,
    rotation,
    target_anchors,
    wait_until_served,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
    CertificateState,
    TargetState,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import markers
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.intent import Intent
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.trust_anchors import TrustAnchor
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Conflict,
    Forbidden,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    EndpointScan,
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import (
    ProofError,
    StaleError,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe import (
    probe_verdict,
    probe_webhook,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_calls import (
    ProbeObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_verdict import (
    ProbeVerdict,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.probe.probe_webhook import (
    ProbeResult,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.workloads import (
    ServingOptions,
    WebhookWorkload,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts, ephemeral_ca

from tests.support.certificates.authority import DAY, NOW, Issued, authority
from tests.support.failures import fails
from tests.unit.plugins.module_utils._csr.flow import (
    MARKED,
    ScriptedApi,
    api_error,
    ca,
    found,
    intent,
    leaf,
    parameters,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import encoded

pytestmark = pytest.mark.quick

TARGET = Target("ValidatingWebhookConfiguration", "hook")
MARK = "ValidatingWebhookConfiguration/hook/w="
OTHER_MARK = "ValidatingWebhookConfiguration/hook/v="
OLD_CA, NEW_CA = ca("old"), ca()
OLD, NEW = leaf(by=OLD_CA), leaf(by=NEW_CA)
EXPIRED = leaf(by=OLD_CA, not_after=NOW - DAY / 2)
SPEC = intent().secret
POD = "/api/v1/namespaces/apps/pods/a"
WORKLOAD = WebhookWorkload("Deployment", "apps", "hook")


def configuration(bundle: str) -> dict[str, Any]:
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(bundle)}
    return {
        "metadata": {"name": "hook", "resourceVersion": "7"},
        "webhooks": [{"name": "w", "clientConfig": config}],
    }


def without_a_service() -> Intent:
    names = ["hook.apps.svc"]
    return intent(
        service=None, signer_name="example.com/any", common_name="x", names=names, allow_names=names
    )


def secret(record: str | None) -> dict[str, Any]:
    annotations = dict(MARKED["annotations"])
    if record is not None:
        annotations["certflow.kubernetes/unproven"] = record
    return secret_object(NEW, **{**MARKED, "annotations": annotations})


def endpoint(pem: str = "", problem: str = "", *, blind: bool = False) -> ServedChain:
    facts = certificate_facts.describe_pem(pem) if pem else None
    return ServedChain(Endpoint("10.0.0.4", 8443, ("apps", "a")), pem, facts, problem, is_blind=blind)


UNREACHED = EndpointScan((replace(endpoint(problem="dial tcp", blind=True), may_pass=True),))
FRESH, STALE = EndpointScan((endpoint(NEW.pem),)), EndpointScan((endpoint(OLD.pem),))


def at_address(pem: str) -> ServedChain:
    endpoint = Endpoint("hooks.example.com", 443, is_outside=True)
    return ServedChain(endpoint, pem, certificate_facts.describe_pem(pem))


BALANCED_FRESH, BALANCED_STALE = EndpointScan((at_address(NEW.pem),)), EndpointScan((at_address(OLD.pem),))
NO_ENDPOINT, BLIND = (
    EndpointScan((), "no ready endpoint"),
    EndpointScan((endpoint(problem="no right", blind=True),)),
)


def deployment(replicas: int) -> dict[str, Any]:
    """Return the workload after a complete rollout."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
    return {
        "metadata": {"name": "hook", "resourceVersion": "9"},
        "spec": {"replicas": replicas, "template": {"metadata": {"annotations": {}}}},
        "status": counts,
    }


class RotationRig:
    """The API server with an open record, and looks that follow each other. The last look repeats."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *looks: EndpointScan, record: str | None = None
    ) -> None:
        self.bundle = OLD_CA.pem + NEW_CA.pem
        self.objects: dict[str, Any] = {
            SPEC.path: secret(f"0a {MARK}{OLD_CA.fingerprint}" if record is None else record),
            bundle_targets.path(TARGET): configuration(self.bundle),
            POD: {
                "metadata": {"namespace": "apps", "name": "a", "uid": "u", "resourceVersion": "9"},
                "spec": self.pod(),
            },
            WORKLOAD.path: deployment(2),
        }
        self.api: Any = ScriptedApi(self.objects, seconds=60)
        self.looks, self.looked = list(looks), 0
        self.slept = 0.0
        clock = time.monotonic()
        monkeypatch.setattr(served_chains, "scan", self._scan)
        monkeypatch.setattr(ScriptedApi, "now", lambda _api: NOW)
        monkeypatch.setattr(time, "monotonic", lambda: clock + self.slept)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def pod(self, **mount: str) -> dict[str, Any]:
        volumes = [{"name": "v", "secret": {"secretName": SPEC.name}}]
        return {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": [{"name": "v", **mount}]}]}

    def complete(
        self,
        rollout: ServingOptions | None = None,
        *,
        check_mode: bool = False,
        changed: bool = True,
        wanted: Intent | None = None,
        targets: tuple[Target, ...] = (TARGET,),
        others: frozenset[Target] = frozenset(),
    ) -> Result:
        held = found(NEW, **{**MARKED, "annotations": self.objects[SPEC.path]["metadata"]["annotations"]})
        seen = tuple(TargetState(target, self.objects[bundle_targets.path(target)]) for target in targets)
        rollout = rollout or ServingOptions(timeout=30)
        run = CertificateRun(
            self.api, wanted or intent(), targets, rollout, others=others, check_mode=check_mode
        )
        state = CertificateState(held, seen, NOW)
        report = {"kind": TARGET.kind, "name": "hook", "changed": False}
        webhook = {"name": "w", "before": [], "after": [OLD_CA.fingerprint, NEW_CA.fingerprint]}
        values = {
            "reason": "issued a certificate",
            "pending": False,
            "targets": [{**report, "webhooks": [webhook]}],
        }
        return rotation.complete(run, state, Result(changed, values))

    @property
    def patched(self) -> list[str]:
        return [path for _method, path in self.api.writes()]

    def _scan(self, *_arguments: Any, **_options: Any) -> EndpointScan:
        self.looked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds


Make = Callable[..., RotationRig]


@pytest.fixture
def make_rig(monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda *looks, **options: RotationRig(monkeypatch, *looks, **options)


def test_a_certificate_in_use_everywhere_removes_the_old_anchor_and_closes_the_record(make_rig: Make) -> None:
    rig = make_rig(FRESH)
    result = rig.complete()
    assert rig.patched == [bundle_targets.path(TARGET), SPEC.path]
    assert rig.api.sent[0][-1]["value"] == encoded(NEW_CA.pem)
    assert {"op": "remove", "path": "/metadata/annotations/certflow.kubernetes~1unproven"} in rig.api.sent[1]
    assert (result.values["proof"]["verdict"], result.values["proof"]["dropped"]) == ("ok", 1)
    assert result.values["targets"][0]["webhooks"][0]["after"] == [NEW_CA.fingerprint]
    assert result.values["targets"][0]["changed"]


#: What another Secret of the namespace has, and the number of anchors that the rotation removes.
OTHER_SECRETS: list[tuple[Issued | None, dict[str, str], int]] = [
    (OLD, {markers.SERVICE: "apps/hook"}, 0),
    (EXPIRED, {markers.SERVICE: "apps/hook"}, 1),
    (NEW, {markers.SERVICE: "apps/hook"}, 1),
    (None, {markers.SERVICE: "apps/hook", markers.ANCHORS: f"{MARK}{OLD_CA.fingerprint}"}, 0),
    # It has another CA now. The record of what it added names the old one until its next run.
    (NEW, {markers.SERVICE: "apps/hook", markers.ANCHORS: f"{MARK}{OLD_CA.fingerprint}"}, 1),
    (
        NEW,
        {
            markers.SERVICE: "apps/hook",
            markers.ANCHORS: f"{MARK}{OLD_CA.fingerprint}",
            markers.UNPROVEN: "0a",
        },
        0,
    ),
    (OLD, {markers.SERVICE: "apps/another"}, 1),
    (OLD, {}, 1),
]


@pytest.mark.parametrize(("issued", "annotations", "dropped"), OTHER_SECRETS)
def test_an_anchor_that_another_secret_of_the_service_needs_stays(
    make_rig: Make, issued: Issued | None, annotations: dict[str, str], dropped: int
) -> None:
    """Its pods may not be there now. An anchor that stays for another Secret is not left to do."""
    rig = make_rig(FRESH)
    path = SPEC.path.replace(SPEC.name, "another")
    data = {} if issued else {"tls.crt": None, "tls.key": None, "cert.pem": encoded(OLD.pem)}
    rig.api.objects[path] = secret_object(issued, name="another", annotations=annotations, data=data)
    result = rig.complete()
    assert (result.values["proof"]["verdict"], result.values["proof"]["dropped"]) == ("ok", dropped)
    assert result.values["left"]["count"] == 0
    assert rig.patched[-1] == SPEC.path, "the record is closed"


@pytest.mark.parametrize(("recorded", "dropped"), [(True, 1), (False, 0)])
def test_without_permission_to_list_secrets_a_ca_made_here_goes_only_if_this_secret_records_it(
    make_rig: Make, recorded: bool, dropped: int
) -> None:
    made = ephemeral_ca.sign_once(OLD.key, common_name="x", usages=(), lifetime=DAY, now=NOW).ca_pem
    entry = f"{MARK}{bundle_content.certificates(made)[0].fingerprint}"
    rig = make_rig(FRESH, record=f"0a {entry}")
    rig.api.objects[bundle_targets.path(TARGET)] = configuration(made + NEW_CA.pem)
    if recorded:
        rig.api.objects[SPEC.path]["metadata"]["annotations"][markers.ANCHORS] = entry
    rig.api.objects[SPEC.path.rpartition("/")[0]] = api_error(Forbidden)
    assert rig.complete().values["proof"]["dropped"] == dropped


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_secret_whose_deletion_begins_meanwhile_is_no_success(make_rig: Make, is_gone: bool) -> None:
    rig = make_rig(FRESH)
    conflict = api_error(NotFound if is_gone else Conflict)

    def delete(_method: str, path: str, body: Any) -> Any:
        if path != SPEC.path:
            return body
        ending = {"deletionTimestamp": "2026-06-15T12:00:00Z", "finalizers": ["example.com/keep"]}
        obj = rig.objects[SPEC.path]
        metadata = {**obj["metadata"], **ending, "resourceVersion": "13"}
        rig.api.objects[SPEC.path] = None if is_gone else {**obj, "metadata": metadata}
        return conflict

    rig.api.on_write = delete
    with fails("secret-unusable", "deleted"):
        rig.complete()


@pytest.mark.parametrize(
    ("scan", "is_open", "count"),
    [
        (BALANCED_FRESH, True, 1),
        (BALANCED_FRESH, False, 0),
        (FRESH, True, 1),
        (FRESH, False, 0),
        (BLIND, True, 0),
    ],
)
def test_a_verification_reports_what_is_left_of_a_rotation(
    make_rig: Make, scan: EndpointScan, is_open: bool, count: int
) -> None:
    """An identity without the permission to see what is served leaves nothing that it could do."""
    rig = make_rig(scan)
    rig.api.lacking = {("create", "pods/portforward"), ("get", "pods/portforward")}
    if not is_open:
        rig.objects[SPEC.path] = rig.api.objects[SPEC.path] = secret(None)
    run = CertificateRun(rig.api, intent(ca_bundle=NEW_CA.pem), (TARGET,), ServingOptions(timeout=30))
    left = certificate_flow.verify_certificate(run).values["left"]
    assert left["count"] == count
    assert not count or (left["first"]["code"], left["first"]["object"]["name"]) == (
        "webhook-unproven",
        SPEC.name,
    )
    assert rig.patched == []


@pytest.mark.parametrize("record", [f"0a {MARK}{OLD_CA.fingerprint}", "0a"])
def test_a_secret_that_another_client_replaces_during_the_wait_keeps_the_old_anchor(
    make_rig: Make, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    """The pods still serve the new certificate, until the kubelet updates their volumes."""
    rig = make_rig(FRESH, record=record)
    stored = secret_object(OLD, **MARKED)

    def scan(*_arguments: Any, **_options: Any) -> EndpointScan:
        rig.api.objects[SPEC.path] = stored
        return FRESH

    monkeypatch.setattr(served_chains, "scan", scan)
    result = rig.complete()
    assert rig.patched == []
    assert (result.values["proof"]["verdict"], result.values["left"]["count"]) == ("unproven", 1)
    assert "replaced the certificate" in result.warnings[0]


def test_it_waits_for_the_last_endpoint_and_touches_each_pod_once(make_rig: Make) -> None:
    rig = make_rig(STALE, STALE, STALE, FRESH)
    assert rig.complete().values["proof"]["verdict"] == "ok"
    assert rig.looked == 4
    assert rig.patched == [POD, bundle_targets.path(TARGET), SPEC.path]


@pytest.mark.parametrize(
    ("scan", "seconds"),
    [
        (NO_ENDPOINT, 10),
        (EndpointScan((endpoint(problem="refused"),)), 10),
        (UNREACHED, 10),
        (BLIND, 0),
        (EndpointScan((), "no right", is_known=False), 0),
    ],
)
def test_endpoints_that_cannot_be_seen_keep_the_old_anchor(
    make_rig: Make, scan: EndpointScan, seconds: float
) -> None:
    rig = make_rig(scan)
    result = rig.complete()
    assert result.values["proof"]["verdict"] == "unproven"
    assert result.values["proof"]["evidence"]
    assert ["no proof" in warning for warning in result.warnings] == [True]
    left = result.values["left"]
    assert (left["count"], left["first"]["code"]) == (1, "webhook-unproven")
    assert left["first"]["object"] == {"kind": "Secret", "namespace": "apps", "name": "hook-tls"}
    assert rig.patched == []
    assert seconds <= rig.slept <= seconds + 2


@pytest.mark.parametrize(
    ("scan", "closes"),
    [
        (BLIND, True),
        (UNREACHED, True),
        (NO_ENDPOINT, False),
        (STALE, False),
        # One endpoint cannot be seen, and the other one serves the old certificate.
        (EndpointScan((*BLIND.served, *STALE.served)), False),
        (EndpointScan(STALE.served, unready=BLIND.served), False),
    ],
)
def test_the_user_confirms_what_no_run_can_see(make_rig: Make, scan: EndpointScan, closes: bool) -> None:
    """An endpoint that shows another certificate, or that may show one later, is waited for nevertheless."""
    rig = make_rig(scan)
    accepting = intent(accept=["unseen"])
    result = rig.complete(rollout=ServingOptions(timeout=30, wait=False), wanted=accepting)
    assert (result.values["proof"]["verdict"], result.values["left"]["count"]) == (
        ("ok", 0) if closes else ("unproven", 1)
    )
    assert (SPEC.path in rig.patched) is closes


@pytest.mark.parametrize("scan", [BLIND, UNREACHED])
def test_the_user_cannot_confirm_what_this_run_has_just_stored(make_rig: Make, scan: EndpointScan) -> None:
    """The pods serve the old certificate until kubelet has updated their volumes. A later run closes the rotation."""
    rig = make_rig(scan)
    rig.api.left[SPEC.path] = rig.objects[SPEC.path]
    rollout, accepting = ServingOptions(timeout=30, wait=False), intent(accept=["unseen"])
    assert rig.complete(rollout=rollout, wanted=accepting).values["proof"]["verdict"] == "unproven"
    assert rig.patched == []


def test_one_look_at_an_address_leaves_the_old_anchor(make_rig: Make) -> None:
    """Alternate between two backends behind a URL. One has reloaded, and the other one has not."""
    rig = make_rig(BALANCED_STALE, BALANCED_FRESH, BALANCED_STALE)
    result = rig.complete()
    proof = result.values["proof"]
    assert (proof["verdict"], proof["dropped"], proof["kept"]) == ("unproven", 0, 1)
    assert "hooks.example.com:443" in proof["evidence"][0]
    assert (rig.patched, result.values["left"]["count"]) == ([], 1), "each run checks again"
    [warning] = result.warnings
    assert "unseen" in warning
    assert result.values["targets"][0]["webhooks"][0]["after"] == [OLD_CA.fingerprint, NEW_CA.fingerprint]


def test_an_address_without_an_old_anchor_is_reported_too(make_rig: Make) -> None:
    rig = make_rig(BALANCED_FRESH, record="0a")
    result = rig.complete()
    assert (result.values["proof"]["verdict"], result.values["proof"]["kept"]) == ("unproven", 0)
    assert (rig.patched, result.values["left"]["count"]) == ([SPEC.path], 0), (
        "the caBundle verifies every certificate"
    )
    [warning] = result.warnings
    assert "hooks.example.com:443" in warning
    assert "unseen" not in warning


def test_an_address_that_stays_stale_is_named(make_rig: Make) -> None:
    rig = make_rig(BALANCED_STALE)
    with fails("certificate-not-served", "hooks.example.com:443"):
        rig.complete()
    assert rig.patched == []


def test_each_webhook_loses_the_anchors_of_its_own_endpoints(make_rig: Make) -> None:
    """A Service whose pods were all seen loses its old anchor, and a URL beside it keeps its anchor."""
    rig = make_rig(
        FRESH, BALANCED_FRESH, record=f"0a {MARK}{OLD_CA.fingerprint} {OTHER_MARK}{OLD_CA.fingerprint}"
    )
    obj = configuration(rig.bundle)
    url = {"url": "https://hook.apps.svc/x", "caBundle": encoded(rig.bundle)}
    obj["webhooks"].append({"name": "v", "clientConfig": url})
    rig.objects[bundle_targets.path(TARGET)] = rig.api.objects[bundle_targets.path(TARGET)] = obj
    proof = rig.complete(wanted=without_a_service()).values["proof"]
    assert (proof["verdict"], proof["dropped"], proof["kept"]) == ("unproven", 1, 1)
    paths = [operation["path"] for operation in rig.api.sent[0]]
    assert paths == ["/metadata/resourceVersion", "/webhooks/0/name", "/webhooks/0/clientConfig/caBundle"]
    assert rig.patched == [bundle_targets.path(TARGET)], "the record stays open"


@pytest.mark.parametrize("is_new", [True, False])
def test_the_user_confirms_an_address_after_the_run_that_stored_the_certificate(
    make_rig: Make, is_new: bool
) -> None:
    rig = make_rig(BALANCED_FRESH)
    if is_new:
        rig.api.left[SPEC.path] = rig.objects[SPEC.path]
    values = rig.complete(wanted=intent(accept=["unseen"])).values
    expected = ("unproven", 1, 1) if is_new else ("ok", 0, 0)
    assert (values["proof"]["verdict"], values["proof"]["kept"], values["left"]["count"]) == expected
    assert rig.patched == ([] if is_new else [bundle_targets.path(TARGET), SPEC.path])


def test_what_the_user_confirms_for_one_object_is_not_confirmed_for_another(make_rig: Make) -> None:
    other = Target(TARGET.kind, "other")
    mark = MARK.replace("/hook/", "/other/")
    rig = make_rig(BALANCED_FRESH, record=f"0a {MARK}{OLD_CA.fingerprint} {mark}{OLD_CA.fingerprint}")
    obj = configuration(rig.bundle)
    obj["metadata"]["name"] = other.name
    rig.objects[bundle_targets.path(other)] = rig.api.objects[bundle_targets.path(other)] = obj
    wanted = replace(intent(), accept=accept.parse([{"unseen": [f"{TARGET.kind}/{TARGET.name}"]}]))
    values = rig.complete(wanted=wanted, targets=(TARGET, other)).values
    assert (values["proof"]["dropped"], values["proof"]["kept"], values["left"]["count"]) == (1, 1, 1)
    assert rig.patched == [bundle_targets.path(TARGET)], "the record stays open"


def test_an_address_loses_an_old_anchor_that_has_expired(make_rig: Make) -> None:
    old = authority("old", not_after=NOW - DAY)
    rig = make_rig(BALANCED_FRESH, record=f"0a {MARK}{old.fingerprint}")
    obj = configuration(old.pem + NEW_CA.pem)
    rig.objects[bundle_targets.path(TARGET)] = rig.api.objects[bundle_targets.path(TARGET)] = obj
    values = rig.complete().values
    assert (values["proof"]["dropped"], values["left"]["count"]) == (1, 0)


def test_an_endpoint_that_stays_stale_is_named(make_rig: Make) -> None:
    rig = make_rig(STALE)
    with fails("certificate-not-served", "apps/a,") as caught:
        rig.complete()
    assert 28 <= rig.slept <= 30
    assert certificate_facts.describe_pem(OLD.pem).serial in " ".join(caught.value.evidence)
    assert "on_stale: restart" in caught.value.remedy
    assert rig.patched == [POD]


def test_a_frozen_pod_is_not_waited_for(make_rig: Make) -> None:
    rig = make_rig(STALE)
    rig.objects[POD]["spec"] = rig.api.objects[POD]["spec"] = rig.pod(subPath="tls.crt")
    with pytest.raises(StaleError) as caught:
        rig.complete()
    assert (rig.slept, rig.patched) == (0, [])
    assert any("by subPath, which is never updated" in text for text in caught.value.evidence)


def test_a_new_certificate_without_its_chain_has_a_code_of_its_own(make_rig: Make) -> None:
    """Its program sends no intermediate certificates, for example. Neither waiting nor a restart helps then."""
    rig = make_rig(FRESH)
    rig.api.objects[bundle_targets.path(TARGET)] = configuration(OLD_CA.pem)
    with fails("certificate-untrusted"):
        rig.complete()


def test_without_permission_to_look_the_role_that_grants_it_is_named(make_rig: Make) -> None:
    rig = make_rig(BLIND)
    rig.api.lacking |= {("get", "pods/portforward"), ("create", "pods/portforward")}
    evidence = rig.complete().values["proof"]["evidence"]
    assert "get pods/portforward in namespace apps; create pods/portforward in namespace apps" in evidence[-1]
    assert "docs/rbac/rotate.yaml" in evidence[-1]


def test_on_stale_restart_restarts_the_workload(make_rig: Make) -> None:
    rig = make_rig(*[STALE] * 20, NO_ENDPOINT, FRESH)
    result = rig.complete(ServingOptions(WORKLOAD, "restart", timeout=30))
    assert result.values["proof"]["verdict"] == "ok"
    assert result.values["proof"]["restarted"] == {"kind": "Deployment", "namespace": "apps", "name": "hook"}
    assert str(WORKLOAD) in result.values["reason"]
    assert rig.patched == [POD, WORKLOAD.path, bundle_targets.path(TARGET), SPEC.path]


def test_a_single_pod_is_restarted_only_if_the_user_accepts_the_downtime(make_rig: Make) -> None:
    rig = make_rig(STALE)
    rig.api.objects[WORKLOAD.path] = deployment(1)
    options = ServingOptions(WORKLOAD, "restart", timeout=30)
    with fails("certificate-not-served", "apps/hook") as caught:
        rig.complete(options)
    assert format_time(certificate_facts.describe_pem(OLD.pem).not_after) in caught.value.cause
    assert "accept: [{downtime: [Deployment/apps/hook]}]" in caught.value.remedy
    assert WORKLOAD.path not in rig.patched
    rig = make_rig(*[STALE] * 20, FRESH)
    rig.api.objects[WORKLOAD.path] = deployment(1)
    accepted = intent(accept=["downtime"])
    assert rig.complete(options, wanted=accepted).values["proof"]["restarted"]


SERVICE, SELECTOR = "/api/v1/namespaces/apps/services/hook", {"app": "hook"}
MOUNT: dict[str, Any] = {"volumes": [{"name": "v", "secret": {"secretName": SPEC.name}}]}
READS: dict[str, Any] = {
    "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": SPEC.name}}]}],
}
OTHERS: dict[str, Any] = {"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}


def workload(name: str, spec: dict[str, Any], **labels: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "hook", **labels}}, "spec": {"containers": [], **spec}}
    return {"metadata": {"name": name}, "spec": {"template": template}}


def put_workloads(rig: RotationRig, service: Any = None, **lists: list[dict[str, Any]]) -> None:
    """Put these workloads and the Service with its selector into the API server."""
    for resource in ("deployments", "daemonsets", "statefulsets"):
        page = {"metadata": {"resourceVersion": "1"}, "items": lists.get(resource, [])}
        rig.api.objects[f"/apis/apps/v1/namespaces/apps/{resource}"] = page
    rig.api.objects[SERVICE] = service or {"spec": {"selector": SELECTOR}}


@pytest.mark.parametrize(
    ("lists", "service"),
    [
        ({"deployments": [workload("hook", MOUNT), workload("db", OTHERS)]}, None),
        ({"deployments": [workload("hook", READS)]}, None),
        ({"deployments": [workload("hook", MOUNT)], "daemonsets": [workload("x", MOUNT, app="x")]}, None),
        ({"deployments": [workload("hook", MOUNT)]}, api_error(Forbidden)),
    ],
    ids=[
        "by its volume",
        "by its environment",
        "by the Service's selector",
        "without permission for the Service",
    ],
)
def test_a_restart_finds_the_workload(make_rig: Make, lists: dict[str, Any], service: Any) -> None:
    rig = make_rig(*[STALE] * 20, FRESH)
    put_workloads(rig, service, **lists)
    result = rig.complete(ServingOptions(None, "restart", timeout=30))
    assert result.values["proof"]["restarted"] == {"kind": "Deployment", "namespace": "apps", "name": "hook"}
    assert WORKLOAD.path in rig.patched


def test_two_candidates_for_a_restart_are_named_before_anything_is_written(make_rig: Make) -> None:
    rig = make_rig(STALE)
    put_workloads(rig, deployments=[workload("hook", MOUNT)], statefulsets=[workload("twin", MOUNT)])
    with fails("invalid-request", "apps/hook", "apps/twin"):
        rig.complete(ServingOptions(None, "restart", timeout=30))
    assert rig.patched == []


def test_a_restart_without_a_candidate_fails_if_an_endpoint_is_stale(make_rig: Make) -> None:
    rig = make_rig(FRESH)
    put_workloads(rig)
    assert rig.complete(ServingOptions(None, "restart", timeout=30)).values["proof"]["restarted"] is None
    rig = make_rig(STALE)
    put_workloads(rig, deployments=[workload("db", OTHERS)])
    with fails("invalid-request", "apps/hook-tls", "on_stale"):
        rig.complete(ServingOptions(None, "restart", timeout=30))


@pytest.mark.parametrize("lacking", [("list", "statefulsets"), ("patch", "deployments")])
def test_the_permissions_to_find_a_workload_are_checked_first(
    make_rig: Make, lacking: tuple[str, str]
) -> None:
    rig = make_rig(STALE)
    put_workloads(rig, deployments=[workload("hook", MOUNT)])
    rig.api.lacking.add(lacking)
    with fails("missing-permissions", *lacking):
        rig.complete(ServingOptions(None, "restart"))
    assert rig.patched == []


def test_a_restart_without_effect_is_an_error(make_rig: Make) -> None:
    rig = make_rig(STALE)
    with fails("certificate-not-served", "apps/hook", "apps/a,"):
        rig.complete(ServingOptions(WORKLOAD, "restart", timeout=30))
    assert rig.patched == [POD, WORKLOAD.path]


def test_the_permissions_for_a_restart_are_checked_first(make_rig: Make) -> None:
    rig = make_rig(STALE)
    rig.api.lacking.add(("patch", "deployments"))
    with fails("missing-permissions", "patch", "deployments.apps", "hook"):
        rig.complete(ServingOptions(WORKLOAD, "restart"))
    assert rig.patched == []


def test_a_restart_is_a_change_with_or_without_proof(make_rig: Make) -> None:
    rig = make_rig(*[STALE] * 20, NO_ENDPOINT)
    result = rig.complete(ServingOptions(WORKLOAD, "restart", timeout=30), changed=False)
    assert (result.values["proof"]["verdict"], result.changed) == ("unproven", True)


def test_without_wait_it_looks_once(make_rig: Make) -> None:
    rig = make_rig(STALE)
    result = rig.complete(ServingOptions(WORKLOAD, "restart", wait=False))
    assert result.values["proof"]["verdict"] == "unproven"
    assert (rig.looked, rig.slept, rig.patched) == (1, 0, [])


def test_pods_that_this_identity_may_not_read_are_waited_for(make_rig: Make) -> None:
    rig = make_rig(STALE, FRESH)
    rig.api.objects[POD] = api_error(Forbidden)
    assert rig.complete().values["proof"]["verdict"] == "ok"


def test_check_mode_writes_nothing(make_rig: Make) -> None:
    rig = make_rig(FRESH)
    result = rig.complete(check_mode=True, changed=False)
    assert (result.changed, result.values["proof"], rig.looked, rig.patched) == (True, None, 0, [])


def test_a_run_without_open_record_sends_no_request(make_rig: Make) -> None:
    rig = make_rig(FRESH)
    del rig.objects[SPEC.path]["metadata"]["annotations"]["certflow.kubernetes/unproven"]
    result = rig.complete(changed=False)
    assert (result.changed, result.values["proof"], rig.api.asked) == (False, None, [])


# The probe

PROBED = ServingOptions(timeout=30, probe=ProbeObject({"kind": "ConfigMap"}))


def probed(monkeypatch: pytest.MonkeyPatch, *answers: str | Exception) -> None:
    """Let the probes give these verdicts by code, or raise these errors."""
    left = list(answers)

    def prove(*_arguments: object) -> ProbeResult:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        verdict = probe_verdict.OK if answer == "ok" else probe_verdict.UNPROVEN
        return ProbeResult(ProbeVerdict(verdict, answer, f"cause of {answer}"))

    monkeypatch.setattr(probe_webhook, "prove", prove)


def test_the_probe_runs_before_and_after_the_removal(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, "ok", "ok")
    assert rig.complete(PROBED).values["proof"]["verdict"] == "ok"
    assert rig.patched == [bundle_targets.path(TARGET), SPEC.path]


def test_the_webhook_of_another_task_is_not_probed(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object of this task is not for it, so a probe would fail after the Secret was written."""
    rig = make_rig(FRESH)
    probed(monkeypatch)
    assert rig.complete(PROBED, others=frozenset((TARGET,))).values["proof"]["verdict"] == "ok"


def test_an_unproven_probe_keeps_the_old_anchor(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, "hidden-by-ignore")
    proof = rig.complete(PROBED).values["proof"]
    assert (proof["verdict"], proof["evidence"]) == ("unproven", ["cause of hidden-by-ignore"])
    assert rig.patched == []


@pytest.mark.parametrize("code", ["not-asked", "perhaps-not-asked"])
def test_at_least_one_webhook_has_to_be_called(
    make_rig: Make, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, code)
    assert rig.complete(PROBED).values["proof"]["verdict"] == "unproven"


def test_a_failed_probe_keeps_the_old_anchor(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, ProofError("it says something else"))
    with pytest.raises(ProofError):
        rig.complete(PROBED)
    assert rig.patched == []


def test_a_probe_that_fails_after_the_removal_restores_the_anchor(
    make_rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, "ok", ProofError("it says something else"))

    def write(_method: str, path: str, operations: Any) -> Any:
        if path == bundle_targets.path(TARGET):
            rig.api.objects[path]["webhooks"][0]["clientConfig"]["caBundle"] = operations[-1]["value"]
        return operations

    rig.api.on_write = write
    with pytest.raises(ProofError):
        rig.complete(PROBED)
    assert rig.patched == [bundle_targets.path(TARGET)] * 2
    assert rig.api.sent[1][-1]["value"] == encoded(NEW_CA.pem + OLD_CA.pem)


def test_the_failed_probe_is_reported_if_the_anchor_cannot_be_restored(
    make_rig: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(FRESH)
    probed(monkeypatch, "ok", ProofError("it says something else"))
    errors = [None, api_error(Forbidden, "not any more")]

    def write(_method: str, path: str, operations: Any) -> Any:
        rig.api.objects[path]["webhooks"][0]["clientConfig"].pop("caBundle", None)
        return errors.pop(0) or operations

    rig.api.objects[bundle_targets.path(TARGET)] = configuration(rig.bundle)
    rig.api.on_write = write
    with fails("webhook-unproven") as caught:
        rig.complete(PROBED)
    [evidence] = caught.value.evidence
    assert evidence.endswith("not any more"), "the API server's own words"


@pytest.mark.parametrize(
    ("targets", "probe", "code", "names"),
    [
        ([], {"object": {"apiVersion": "v1", "kind": "ConfigMap"}}, "invalid-request", ("targets",)),
        ([{"kind": TARGET.kind, "name": "hook"}], {"expect": "denied"}, "probe-impossible", ("object",)),
        (
            [{"kind": TARGET.kind, "name": "hook"}],
            {"object": {"apiVersion": "v1", "kind": "ConfigMap"}, "denial_message": "no"},
            "probe-impossible",
            ("denial_message", "expect:"),
        ),
    ],
)
def test_an_impossible_probe_is_refused_at_once(
    targets: Any, probe: Any, code: str, names: tuple[str, ...]
) -> None:
    """Otherwise it would fail during the first renewal, a year later."""
    asked = {"object": None, "expect": "allowed", "denial_message": "", **probe}
    api: Any = ScriptedApi()
    with fails(code, *names):
        k8s_csr.run(api, {**parameters(), "targets": targets, "probe": asked}, True)
    assert api.asked == []


# The record


def record(
    *,
    after: str,
    annotations: dict[str, str] | None = None,
    before: str = "",
    cluster_cas: Collection[str] = (),
) -> list[str]:
    """Return the record for the step from OLD to NEW. The bundle holds ``after`` by then."""
    held = found(OLD, **{**MARKED, "annotations": {**MARKED["annotations"], **(annotations or {})}})
    seen = TargetState(TARGET, configuration(before or after))
    anchor = TrustAnchor("test", NEW_CA.pem)
    changes = target_anchors.plan(intent(), [seen], anchor, leaf_pem=None, now=NOW, earlier=NOW)
    options: dict[str, Any] = {"serial": "0a", "anchor": anchor, "cluster_cas": cluster_cas}
    return target_anchors.record_unproven(held, [seen], changes, **options).split()


def test_the_anchor_of_the_old_certificate_is_recorded_and_others_are_not() -> None:
    stranger = ca("stranger")
    assert record(after=OLD_CA.pem + stranger.pem) == ["0a", f"{MARK}{OLD_CA.fingerprint}"]


def test_added_anchors_are_recorded() -> None:
    stranger = ca("stranger")
    added = {"certflow.kubernetes/added-anchors": f"{MARK}{stranger.fingerprint}"}
    assert f"{MARK}{stranger.fingerprint}" in record(after=OLD_CA.pem + stranger.pem, annotations=added)


def test_anchors_of_an_unfinished_rotation_stay_recorded() -> None:
    stranger = ca("stranger")
    earlier = {"certflow.kubernetes/unproven": f"09 {MARK}{stranger.fingerprint}"}
    assert f"{MARK}{stranger.fingerprint}" in record(after=stranger.pem, annotations=earlier)


def test_a_ca_that_the_cluster_uses_or_will_use_is_not_recorded() -> None:
    """A caBundle needs the successor before the switch, also if this collection added it."""
    successor = ca("successor")
    added = {"certflow.kubernetes/added-anchors": f"{MARK}{successor.fingerprint}"}
    cluster_cas = {OLD_CA.fingerprint, successor.fingerprint}
    after = OLD_CA.pem + successor.pem
    assert record(after=after, annotations=added, cluster_cas=cluster_cas) == ["0a"]


def test_under_the_same_ca_no_anchor_is_recorded() -> None:
    assert record(after=NEW_CA.pem) == ["0a"]


@pytest.mark.parametrize("options", [ServingOptions(WORKLOAD, "restart"), ServingOptions(None, "restart")])
def test_a_restart_is_a_write_of_the_plan(make_rig: Make, options: ServingOptions) -> None:
    rig = make_rig(STALE)
    put_workloads(rig, deployments=[workload("hook", MOUNT)])
    planned = CertificateRun(rig.api, intent(), (), options, guard=PlanGuard(fixed=["cluster:x"]))
    wait_until_served.allow_wait(planned)
    assert sorted(entry.partition(":")[0] for entry in planned.guard.writes) == [
        "write pods",
        "write restart",
    ]
    approved = PlanGuard(planned.guard.as_result()["plan_digests"], ["cluster:x"])
    wait_until_served.allow_wait(replace(planned, guard=approved))
    with fails("plan-differs", "apps/hook"):
        wait_until_served.allow_wait(replace(planned, guard=PlanGuard([], ["cluster:x"])))
