# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision to keep or to obtain, and the runs that keep the certificate."""

from __future__ import annotations

import base64
import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.result import Result
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate import (
    certificate_flow,
    gather,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._certificate.certificate_run import (
    CertificateRun,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import (
    markers,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.approved_plan import PlanGuard
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import (
    bundle_content,
    bundle_targets,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import served_chains
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    EndpointScan,
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.workloads import ServingOptions
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import (
    certificate_facts,
    private_keys,
)
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates.authority import CLIENT_AUTH, DAY, NOW, Issued, authority, issue
from tests.support.failures import fails
from tests.unit.plugins.module_utils._certificate.runs import (
    HOOK,
    KEY,
    PATH,
    PENDING,
    SPEC,
    STRANGE,
    pem,
    planted,
    waiting,
    webhook,
)
from tests.unit.plugins.module_utils._csr.flow import (
    CLIENT,
    MARKED,
    ScriptedApi,
    ca,
    client_intent,
    intent,
    leaf,
    secret_object,
)
from tests.unit.plugins.module_utils._csr.objects import KUBELET_SERVING, encoded

pytestmark = pytest.mark.quick


def chain(issued: Issued | None, pod: str) -> ServedChain:
    """Return what an endpoint serves, and a chain that this run cannot see for None."""
    endpoint = Endpoint("10.0.0.4", 8443, ("apps", pod))
    if issued is None:
        return ServedChain(endpoint, problem="no pod is behind this endpoint", is_blind=True)
    return ServedChain(endpoint, issued.pem, certificate_facts.describe_pem(issued.pem))


HELD, OLDER = leaf(), leaf(not_before=NOW - 400 * DAY)
#: What the endpoints serve -> the verdict, "" for a failure.
VERIFIED = [
    ((HELD, HELD), "ok"),
    ((HELD, None), "unproven"),
    ((HELD, OLDER), ""),
    ((HELD, OLDER, None), ""),
    ((None,), "unproven"),
]


@pytest.mark.parametrize(("served", "verdict"), VERIFIED)
def test_only_what_was_seen_is_in_use(
    served: tuple[Issued | None, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = EndpointScan(tuple(chain(issued, f"{number}") for number, issued in enumerate(served)))
    monkeypatch.setattr(served_chains, "scan", lambda *_given, **_options: scan)
    api = ScriptedApi({PATH: secret_object(HELD, **MARKED)})
    run = CertificateRun(api, intent(ca_bundle=ca().pem), serving=ServingOptions(timeout=1))  # type: ignore[arg-type]
    if not verdict:
        with fails("verification-failed"):
            certificate_flow.verify_certificate(run)
        return
    values = certificate_flow.verify_certificate(run).values
    assert values["proof"]["verdict"] == verdict
    assert ("not proven" in values["reason"]) is (verdict != "ok")


def test_nothing_serves_a_client_certificate() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "developers"),
            x509.NameAttribute(NameOID.COMMON_NAME, "jane"),
        ]
    )
    held = issue(name, ca(), usages=(CLIENT_AUTH,))
    marks = {markers.SERVICE: "apps/", markers.SIGNER: CLIENT}
    api = ScriptedApi({PATH: secret_object(held, labels=MARKED["labels"], annotations=marks)})
    run = CertificateRun(api, client_intent(ca_bundle=ca().pem), serving=ServingOptions(timeout=1))  # type: ignore[arg-type]
    assert certificate_flow.verify_certificate(run).values["proof"]["verdict"] == "unproven"


def test_a_run_without_change_reads_only_the_secret_and_each_target() -> None:
    target = bundle_targets.Target("ValidatingWebhookConfiguration", "hook")
    config = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": encoded(ca().pem)}
    webhook = {
        "metadata": {"name": "hook", "uid": "u", "resourceVersion": "7"},
        "webhooks": [{"name": "w", "clientConfig": config}],
    }
    marked = {**MARKED, "labels": markers.labels_for(SPEC)}
    api = ScriptedApi({PATH: secret_object(**marked), bundle_targets.path(target): webhook}, ca_pem=ca().pem)
    result = certificate_flow.ensure_certificate(CertificateRun(api, intent(), (target,)))  # type: ignore[arg-type]
    assert not result.changed
    assert api.asked == [("GET", PATH), ("GET", bundle_targets.path(target))]


@pytest.mark.parametrize(
    ("is_ours", "is_trusted", "signer"),
    [(True, True, "example.com/any"), (True, False, KUBELET_SERVING), (False, True, KUBELET_SERVING)],
)
def test_the_annotation_of_a_secret_never_chooses_who_issues(
    monkeypatch: pytest.MonkeyPatch, is_ours: bool, is_trusted: bool, signer: str
) -> None:
    """It keeps a certificate that this collection stored and that a CA verifies, no more."""
    used: list[str] = []

    def obtain_or_keep(run: CertificateRun, _state: object) -> Result:
        used.append(run.intent.signer.name)
        return Result(False, {"pending": False})

    monkeypatch.setattr(certificate_flow, "_obtain_or_keep", obtain_or_keep)
    marks = copy.deepcopy({**MARKED, "labels": markers.labels_for(SPEC) if is_ours else {}})
    marks["annotations"][markers.SIGNER] = "example.com/any"
    issued = leaf() if is_trusted else leaf(by=ca("strange"))
    api = ScriptedApi({PATH: secret_object(issued, **marks)}, ca_pem=ca().pem)
    wanted = replace(intent(), keeps_signer=True)
    certificate_flow.ensure_certificate(CertificateRun(api, wanted))  # type: ignore[arg-type]
    assert used == [signer]


def test_the_ca_of_a_kept_ephemeral_certificate_is_read() -> None:
    """The task names no signer, and the one of the cluster has no key for a CA in the Secret."""
    marks = copy.deepcopy({**MARKED, "labels": markers.labels_for(SPEC)})
    marks["annotations"][markers.SIGNER] = "ephemeral-ca"
    other = authority("of another client").pem
    secret = secret_object(leaf(), data={"ca.crt": encoded(ca().pem + other)}, **marks)
    api = ScriptedApi({PATH: secret, bundle_targets.path(HOOK): webhook("cluster")})
    run = CertificateRun(
        api,  # type: ignore[arg-type]
        replace(intent(), keeps_signer=True),
        (HOOK,),
        intent_for=lambda name: replace(intent(signer_name=name), keeps_signer=True),
    )
    assert not certificate_flow._ensure(run).changed
    assert api.writes() == []


def keeping(secret: dict[str, Any], *, check_mode: bool = False) -> tuple[ScriptedApi, bool]:
    """Run with approve: false over a good certificate. Return its API server, and True if it reports a change."""
    marks = {**MARKED, "labels": markers.labels_for(SPEC)}
    api = ScriptedApi({PATH: secret_object(leaf(key=KEY), **marks), PENDING: secret}, ca_pem=ca().pem)
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


def test_a_left_key_is_compared_with_the_plan_before_the_first_write() -> None:
    """The plan was made when a target lacked its CA, and before another run left its key."""
    [anchor] = bundle_content.certificates(ca().pem)
    marks = copy.deepcopy({**MARKED, "labels": markers.labels_for(SPEC)})
    marks["annotations"][markers.ANCHORS] = f"{HOOK.kind}/{HOOK.name}/h0={anchor.fingerprint}"
    objects = {
        PATH: secret_object(leaf(key=KEY), **marks),
        bundle_targets.path(HOOK): webhook("old"),
        PENDING: waiting(),
    }
    plan = PlanGuard(fixed=["cluster:c"])
    api = ScriptedApi({path: obj for path, obj in objects.items() if path != PENDING}, ca_pem=ca().pem)
    wanted = intent(approve=False)
    certificate_flow._ensure(CertificateRun(api, wanted, (HOOK,), check_mode=True, guard=plan))  # type: ignore[arg-type]
    assert [entry.partition(":")[0] for entry in plan.as_result()["plan_digests"]] == [
        "cluster",
        "write target",
    ]
    api = ScriptedApi(objects, ca_pem=ca().pem)
    guard = PlanGuard(plan.as_result()["plan_digests"], ["cluster:c"])
    with fails("plan-differs", "apps/hook-tls"):
        certificate_flow._ensure(CertificateRun(api, wanted, (HOOK,), guard=guard))  # type: ignore[arg-type]
    assert api.writes() == []


@pytest.mark.parametrize("trusted", [False, True])
def test_a_ca_that_no_target_trusts_is_not_used(trusted: bool) -> None:
    """A run makes the targets trust its CA before it writes the Secret. So no run made a CA that no target trusts."""
    secret = planted()
    standing = webhook("old")
    if trusted:
        both = pem("old").encode() + base64.b64decode(secret["data"]["ca.crt"])
        standing["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(both).decode()
    api = ScriptedApi({PATH: secret, bundle_targets.path(HOOK): standing})
    wanted = intent(signer_name="ephemeral-ca")
    run = CertificateRun(api, wanted, (HOOK,))  # type: ignore[arg-type]
    result = certificate_flow._obtain_or_keep(run, gather.gather(run, gather.read_secret(run)))
    assert result.values["reason"].startswith("the certificate is kept") is trusted
    is_in_use = secret["data"]["ca.crt"] == encoded(result.values["ca_bundle"])
    assert is_in_use is trusted


def test_a_trusted_ca_beside_it_does_not_vouch_for_a_ca_that_no_target_trusts() -> None:
    """Each client can read the CA that the targets trust, and store it beside its own."""
    secret = planted()
    secret["data"]["ca.crt"] = encoded(base64.b64decode(secret["data"]["ca.crt"]).decode() + pem("old"))
    api = ScriptedApi({PATH: secret, bundle_targets.path(HOOK): webhook("old")})
    run = CertificateRun(api, intent(signer_name="ephemeral-ca"), (HOOK,))  # type: ignore[arg-type]
    result = certificate_flow._obtain_or_keep(run, gather.gather(run, gather.read_secret(run)))
    assert not result.values["reason"].startswith("the certificate is kept")
    planted_ca, _old = bundle_content.certificates(base64.b64decode(secret["data"]["ca.crt"]).decode())
    assert planted_ca.pem not in result.values["ca_bundle"]


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
def test_a_target_of_another_task_proves_the_shared_ca(record: str, trusted: bool, kept: bool) -> None:
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
    api = ScriptedApi({PATH: secret, bundle_targets.path(HOOK): standing, bundle_targets.path(OTHER): other})
    wanted = intent(signer_name="ephemeral-ca")
    run = CertificateRun(api, wanted, (HOOK,))  # type: ignore[arg-type]
    result = certificate_flow._obtain_or_keep(run, gather.gather(run, gather.read_secret(run)))
    assert (encoded(result.values["ca_bundle"]) == secret["data"]["ca.crt"]) is kept
