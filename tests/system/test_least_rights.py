# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that each shipped ClusterRole is exactly enough for its operation.

The cases are made from docs/rbac: one for each verb on each resource of each rule. Without a required verb
the task fails with one line that names it, before the first write. The role in that line grants it. Without
an optional verb the task continues and reports what it could not do.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.signer_probe import (
    serving_signers,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    k8s_signer_probe,
    webhook_cabundle,
    webhook_probe,
)

from tests.support import bundle_rig, rbac
from tests.support.clusters import pki
from tests.support.csr_by_hand import signing
from tests.support.csr_rig import KUBELET_SERVING, CsrRig, assert_one_line, rule_in
from tests.support.probe_rig import MUTATING_HOOKS, ProbeRig, config_map
from tests.support.rbac import FILES, Grant, documented, grants, without_grant
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.clusters import Cluster, Fleet

    Run = Callable[..., dict[str, Any]]

# test_audit.py, test_repair.py, test_snapshot_plan.py, test_snapshot_verify.py and test_snapshot_rights.py test these roles.
OTHERS = ("audit", "kustomization", "plan", "repair", "snapshot-verify", "upgrade", "upgrade-lease")
ROLES = {path.stem: documented(path.stem) for path in sorted(FILES.glob("*.yaml")) if path.stem not in OTHERS}
CSR, APP_SERVING = "certificatesigningrequests", "beta.eks.amazonaws.com/app-serving"
TRUST_BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
TWO_STEP = {"approve": False, "wait": False}


GRANTS = [
    grant
    for name, role in ROLES.items()
    for grant in grants(name, role, (FILES / f"{name}.yaml").read_text())
]


class LimitedRig:
    """The rigs of one case, made at their first use, and a user with the roles of the case."""

    def __init__(self, cluster: Cluster, stack: contextlib.ExitStack) -> None:
        self._cluster, self._stack = cluster, stack
        self.user = f"limited-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = str(cluster.kubeconfig_for(self.user))

    @functools.cached_property
    def rig(self) -> CsrRig:
        return self._stack.enter_context(contextlib.closing(CsrRig(self._cluster)))

    @functools.cached_property
    def probed(self) -> ProbeRig:
        return self._stack.enter_context(contextlib.closing(ProbeRig(self._cluster)))

    @functools.cached_property
    def bundled(self) -> bundle_rig.BundleRig:
        return self._stack.enter_context(contextlib.closing(bundle_rig.BundleRig(self._cluster)))

    def grant(self, *roles: dict[str, Any]) -> None:
        rbac.grant(self._cluster, self.user, *roles)

    def writes(self) -> list[tuple[str, str]]:
        return self.rig.writes(user=self.user)


# Each function prepares objects as an administrator, and returns the operation.


def a_new_one(place: LimitedRig) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    return lambda **who: place.rig.run(targets=targets, **who)


def a_discovery(place: LimitedRig) -> Run:
    place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")
    return lambda **who: place.rig.run(discover_targets=True, **who)


def for_an_address(place: LimitedRig) -> Run:
    named: dict[str, Any] = {"names": ["203.0.113.7"], "allow_names": ["203.0.113.7"]}
    return lambda **who: place.rig.run(**named, **who)


def a_renewal(place: LimitedRig) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(targets=targets)["changed"]
    return lambda **who: place.rig.run(targets=targets, key_type="rsa-2048", **who)


def the_second_step(place: LimitedRig) -> Run:
    place.rig.decide(place.rig.run(**TWO_STEP)["csr"]["name"])
    wait_for(lambda: place.rig.csrs()[0]["status"].get("certificate"))
    return lambda **who: place.rig.run(**TWO_STEP, requesters=[place.rig.user], **who)


def the_way_back(place: LimitedRig) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(targets=targets)["changed"]
    assert place.rig.run(targets=targets, key_type="rsa-2048", **TWO_STEP)["pending"]
    return lambda **who: place.rig.run(state="absent", targets=targets, **who)


def ephemeral_ca(place: LimitedRig) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    named: dict[str, Any] = {"names": ["203.0.113.7"], "allow_names": ["203.0.113.7"]}
    return lambda **who: place.rig.run(signer_name="ephemeral-ca", targets=targets, **named, **who)


def ephemeral_ca_again(place: LimitedRig) -> Run:
    assert ephemeral_ca(place)()["changed"]
    return lambda **who: place.rig.run(signer_name="ephemeral-ca", key_type="rsa-2048", **who)


def ephemeral_ca_and_removal(place: LimitedRig) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(signer_name="ephemeral-ca", targets=targets)["changed"]
    back: dict[str, Any] = {"signer_name": "ephemeral-ca", "state": "absent", "targets": targets}
    return lambda **who: place.rig.run(**back, **who)


def a_decision(place: LimitedRig) -> Run:
    allowed: dict[str, Any] = {"allow_names": ["203.0.113.7"]}
    name = place.rig.run(**TWO_STEP, **allowed, names=["203.0.113.7"])["csr"]["name"]
    expect = {"service": "hook", "namespace": place.rig.name}
    return lambda **who: place.rig.approve(name=name, expect=expect, wait=True, **allowed, **who)


def a_decision_for(signer: str) -> Callable[[LimitedRig], Run]:
    def a_decision_for_the_signer(place: LimitedRig) -> Run:
        name = place.rig.run(signer_name=signer, **TWO_STEP)["csr"]["name"]
        expect = {"service": "hook", "namespace": place.rig.name}
        return lambda **who: place.rig.approve(name=name, expect=expect, **who)

    return a_decision_for_the_signer


def bundles(place: LimitedRig) -> Run:
    rig, ca = place.bundled, pki.make_ca("bundled").certificate_pem.decode()
    targets = [
        rig.webhooks(bundle_rig.VALIDATING, None),
        rig.webhooks(bundle_rig.MUTATING, None),
        rig.definition(None),
        rig.api_service(None),
    ]
    return lambda **who: place.rig.operate(webhook_cabundle.OPERATION, targets=targets, ca_bundle=ca, **who)


def bundles_of_a_signer(place: LimitedRig) -> Run:
    signer = f"example.com/{place.rig.name}"
    publish(place.rig, signer, pki.make_ca("published"))
    targets, source = [place.bundled.webhooks(bundle_rig.VALIDATING, None)], {"signer_name": signer}
    return lambda **who: place.rig.operate(
        webhook_cabundle.OPERATION, targets=targets, cluster_trust_bundle=source, **who
    )


def publish(rig: CsrRig, signer: str, ca: pki.KeyPair) -> None:
    """Publish the CA of a signer in a ClusterTrustBundle, for the time of the test."""
    spec = {"signerName": signer, "trustBundle": ca.certificate_pem.decode()}
    rig.make(TRUST_BUNDLES, {"metadata": {"name": f"{signer.replace('/', ':')}:a"}, "spec": spec})


def of_a_published_ca(place: LimitedRig) -> Run:
    """The second step with another signer, whose CA only its ClusterTrustBundle has."""
    rig, ca = place.rig, pki.make_ca("published")
    options: dict[str, Any] = {"signer_name": f"example.com/{rig.name}", **TWO_STEP}
    publish(rig, options["signer_name"], ca)
    with signing(rig.cluster, options["signer_name"], ca):
        name = rig.run(**options)["csr"]["name"]
        rig.decide(name)
        wait_for(lambda: (rig.csr(name) or {})["status"].get("certificate"))
    return lambda **who: rig.run(**options, requesters=[rig.user], **who)


def throw_away(signer: str) -> Callable[[LimitedRig], Run]:
    options: dict[str, Any] = {"signers": [signer], "probe_seconds": 4}
    return lambda place: lambda **who: place.rig.operate(k8s_signer_probe.OPERATION, **options, **who)


def proof(place: LimitedRig, target: dict[str, Any], **options: Any) -> Run:
    def run(**who: Any) -> dict[str, Any]:
        return place.rig.operate(webhook_probe.OPERATION, target=target, **options, **who)

    return run


def an_admission(place: LimitedRig) -> Run:
    target, wanted = place.probed.called_webhook(), config_map(place.probed.name)
    return proof(place, target, object=wanted, require_proof=True)


def a_mutating_one(place: LimitedRig) -> Run:
    target = place.probed.configure(place.probed.webhook(), hooks=MUTATING_HOOKS)
    return proof(place, target, object=config_map(place.probed.name))


def a_conversion(place: LimitedRig) -> Run:
    return proof(place, place.bundled.definition(bundle_rig.pem("a")))


def an_aggregated_api(place: LimitedRig) -> Run:
    return proof(place, place.bundled.api_service(bundle_rig.pem("a")))


def pods_behind_it(place: LimitedRig) -> Run:
    rig = place.probed
    pods(rig, rig.name, "pods")
    target = rig.configure(rig.webhook(service="pods", port=443))
    return proof(place, target, object=config_map(rig.name))


def a_renewal_seen(place: LimitedRig) -> Run:
    """Renew under a new CA, so that the old one must be removed."""
    rig = place.rig
    pods(rig, rig.name, "hook")
    options: dict[str, Any] = {"signer_name": "ephemeral-ca", "targets": [rig.hook()], "wait": False}
    assert rig.run(**options)["changed"]
    return lambda **who: rig.run(key_type="rsa-2048", **options, **who)


def pods(rig: CsrRig | ProbeRig, name: str, service: str) -> None:
    """Create a headless Service, to which no API server connects, and an endpoint without a pod."""
    namespace = f"/api/v1/namespaces/{name}"
    port = {"name": "https", "port": 443, "targetPort": 8443}
    rig.make(
        f"{namespace}/services",
        {"metadata": {"name": service}, "spec": {"clusterIP": "None", "ports": [port]}},
    )
    pod = {"kind": "Pod", "namespace": name, "name": "hook-1"}
    body = {
        "metadata": {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 8443}],
        "endpoints": [{"addresses": ["203.0.113.9"], "conditions": {"ready": True}, "targetRef": pod}],
    }
    rig.make(f"/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices", body)


def an_explanation(place: LimitedRig) -> Run:
    """Explain a request that kube-controller-manager might issue."""
    rig = place.rig
    name = rig.run(**TWO_STEP)["csr"]["name"]
    return lambda **who: rig.info(name=name, **who)


def of_all(place: LimitedRig) -> Run:
    assert place.rig.run(**TWO_STEP)["pending"]
    return place.rig.info


def of_pod_certificates(place: LimitedRig) -> Run:
    return lambda **who: place.rig.info(gather=["pod_certificates"], **who)


def of_an_unserved_signer(place: LimitedRig) -> Run:
    name = place.rig.run(signer_name="nobody.example.com/serving", **TWO_STEP)["csr"]["name"]
    return lambda **who: place.rig.info(name=name, **who)


# Role -> its scenarios. A missing verb is tried in the first one, unless MISSED_IN names another.
SCENARIOS: dict[str, list[Callable[[LimitedRig], Run]]] = {
    "approve": [a_decision, *map(a_decision_for, serving_signers())],
    "bundle": [bundles, bundles_of_a_signer],
    "discover": [a_discovery],
    "explain": [an_explanation, of_all, of_an_unserved_signer, of_pod_certificates],
    "probe": [throw_away(KUBELET_SERVING)],
    "prove": [an_admission, a_mutating_one, a_conversion, an_aggregated_api, pods_behind_it],
    "request": [a_new_one, for_an_address, a_renewal, the_second_step, of_a_published_ca, the_way_back],
    "rotate": [a_renewal_seen],
    "store": [ephemeral_ca, ephemeral_ca_again, ephemeral_ca_and_removal],
}
BESIDE = {
    "discover": ["request", "approve", "bundle"],
    "request": ["approve", "bundle"],
    "rotate": ["store", "bundle"],
    "store": ["bundle"],
}
# No server answers for these webhooks, so the probe fails, but not because of a permission.
UNSERVED = (a_conversion, an_aggregated_api, pods_behind_it)
MISSED_IN: dict[tuple[str, str, str], Callable[[LimitedRig], Run]] = {
    **{("approve", "signers", signer): a_decision_for(signer) for signer in serving_signers()},
    **{("probe", "signers", signer): throw_away(signer) for signer in serving_signers()},
    ("request", "secrets", "patch"): a_renewal,
    ("request", "secrets", "delete"): the_way_back,
    ("request", "secrets", "list"): the_way_back,
    ("request", CSR, "delete"): the_way_back,
    ("request", "nodes", "list"): for_an_address,
    ("request", "servicecidrs", "list"): for_an_address,
    ("request", "clustertrustbundles", "list"): of_a_published_ca,
    ("bundle", "clustertrustbundles", "list"): bundles_of_a_signer,
    ("store", "secrets", "patch"): ephemeral_ca_again,
    ("store", "secrets", "delete"): ephemeral_ca_and_removal,
    ("store", "secrets", "list"): ephemeral_ca_and_removal,
    ("prove", "mutatingwebhookconfigurations", "get"): a_mutating_one,
    ("prove", "customresourcedefinitions", "get"): a_conversion,
    ("prove", "apiservices", "get"): an_aggregated_api,
    ("prove", "endpointslices", "list"): pods_behind_it,
    ("prove", "pods/portforward", "get"): pods_behind_it,
    ("prove", "pods/portforward", "create"): pods_behind_it,
    ("explain", CSR, "list"): of_all,
    ("explain", "events", "list"): of_an_unserved_signer,
    ("explain", "podcertificaterequests", "list"): of_pod_certificates,
}
# Verbs that are required although the file says "Optional, and needed for state: absent".
NEEDED = {("request", "secrets", "delete"), ("request", CSR, "delete"), ("store", "secrets", "delete")}
# Text in the result if an optional verb is missing, "" if another source has the same information.
SAYS: dict[tuple[str, str, str], str] = {
    # Needed only on a cluster with more than a hundred nodes.
    **{(role, "nodes", "get"): "" for role in ("request", "approve", "store")},
    **{(role, "nodes", "list"): "the nodes' addresses" for role in ("request", "approve", "store")},
    **{(role, "servicecidrs", "list"): "servicecidrs" for role in ("request", "approve", "store")},
    **{(role, "secrets", "list"): "may not list secrets" for role in ("request", "store")},
    **{(role, "configmaps", "get"): "" for role in ("request", "probe")},
    ("request", "clustertrustbundles", "list"): "cannot list resource \\\"clustertrustbundles",
    ("probe", "clustertrustbundles", "list"): "",
    **{(role, "leases", verb): "at the same time" for role in ("request", "store") for verb in ("create", "delete")},
    # Needed only if another run holds the Lease, and in a long wait.
    **{(role, "leases", verb): "" for role in ("request", "store") for verb in ("get", "update")},
    ("prove", "services", "get"): "may not read the endpoints",
    ("prove", "endpointslices", "list"): "may not read the endpoints",
    ("rotate", "services", "get"): "may not read the endpoints",
    ("rotate", "endpointslices", "list"): "may not read the endpoints",
    **{(role, "pods/portforward", verb): "may not reach pods" for role in ("prove", "rotate") for verb in ("get", "create")},
    ("prove", "namespaces", "get"): "the labels of namespace",
    ("prove", "leases", "list"): "the number of API servers may not be read",
    ("prove", "configmaps", "create"): "resources: [configmaps], verbs: [create]",
    ("rotate", "pods", "get"): "",
    ("explain", "nodes", "list"): "nodes",
    ("explain", "servicecidrs", "list"): "",
    ("explain", "clusterroles", "get"): "cluster",
    ("explain", "configmaps", "get"): "cannot read ConfigMap",
    ("explain", "leases", "get"): "cannot read Lease",
    ("explain", "pods", "list"): "cannot read pods in kube-system",
    ("explain", "events", "list"): "cannot read Events",
    ("explain", "podcertificaterequests", "list"): "cannot list",
    # Needed only for a request to one of cert-manager's signers.
    ("explain", "issuers", "get"): "",
    ("explain", "clusterissuers", "get"): "",
}  # fmt: skip
# The grants that make test takes away. make test-all takes away all.
DAILY = {
    *(("request", CSR, verb) for verb in ("create", "list", "watch")),
    ("approve", f"{CSR}/approval", "update"),
    ("approve", "signers", KUBELET_SERVING),
    *(("request", "secrets", verb) for verb in ("get", "create", "patch", "delete")),
    *(("bundle", "validatingwebhookconfigurations", verb) for verb in ("get", "patch")),
    ("bundle", "clustertrustbundles", "list"),
    ("prove", "configmaps", "create"),
}
# Texts of a result that could not read something.
UNSEEN = re.compile(
    r"may not (?:be )?(?:read|list|reach)|cannot (?:read|get|list|create)|the (?:rights|permissions) to"
)


@pytest.fixture
def place(fleet: Fleet) -> Iterator[LimitedRig]:
    with contextlib.ExitStack() as stack:
        yield LimitedRig(fleet["onprem"], stack)


def key_of(grant: Grant) -> tuple[str, str, str]:
    return grant.role, grant.resource, grant.name or grant.verb


def roles_for(name: str) -> list[dict[str, Any]]:
    return [ROLES[entry] for entry in (name, *BESIDE.get(name, ()))]


@pytest.mark.parametrize("role", ROLES)
def test_the_role_is_enough(place: LimitedRig, role: str) -> None:
    place.grant(*roles_for(role))
    for scenario in SCENARIOS[role]:
        result = scenario(place)(kubeconfig=place.kubeconfig)
        assert not result.get("failed") or scenario in UNSERVED, (scenario.__name__, result)
        assert not UNSEEN.search(json.dumps(result)), (scenario.__name__, result)


@pytest.mark.parametrize(
    "grant",
    [pytest.param(grant, marks=[] if key_of(grant) in DAILY else [pytest.mark.full]) for grant in GRANTS],
    ids=str,
)
def test_no_verb_of_the_role_is_superfluous(place: LimitedRig, grant: Grant) -> None:
    others = roles_for(grant.role)[1:]
    key = key_of(grant)
    # The same verb must not come from another role or another rule.
    place.grant(grant.taken_from(ROLES[grant.role]), *(without_grant(role, grant) for role in others))
    run = MISSED_IN.get(key, SCENARIOS[grant.role][0])(place)
    result = run(kubeconfig=place.kubeconfig)
    if key in SAYS or (grant.is_optional and key not in NEEDED):
        assert result.get("code") != "missing-permissions", result
        assert SAYS.get(key, "???") in json.dumps(result), json.dumps(result)
        return
    assert_one_line(result, "missing-permissions", grant.verb, grant.resource)
    assert (result["changed"], place.writes()) == (False, [])
    place.grant(rule_in(result))
    again = run(kubeconfig=place.kubeconfig)
    assert f"{grant.verb} {grant.resource}" not in again.get("msg", ""), again
