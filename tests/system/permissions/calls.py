# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The calls of the table of permissions. Each prepares objects as an administrator, and returns the operation."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import (
    audit_info,
    k8s_signer_probe,
    snapshot_controller,
    snapshot_controller_info,
    webhook_cabundle,
    webhook_probe,
)

from tests.support.certificates.csr_by_hand import signing
from tests.support.certificates.csr_rig import TWO_STEP, CsrRig
from tests.support.clusters import pki
from tests.support.operations import operate
from tests.support.permissions import rbac
from tests.support.rig import written
from tests.support.waiting import wait_for
from tests.support.webhooks import bundle_rig, endpoint_slices
from tests.support.webhooks.probe_rig import MUTATING_HOOKS, ProbeRig, config_map
from tests.support.webhooks.repair_rig import RepairRig

if TYPE_CHECKING:
    from tests.support.clusters import Cluster

TRUST_BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
ADDRESS: dict[str, Any] = {"names": ["203.0.113.7"], "allow_names": ["203.0.113.7"]}


class Place:
    """A cluster, the rigs of one case, made at their first use, and a user with the roles of the case."""

    def __init__(self, cluster: Cluster, releases: Mapping[str, str], stack: contextlib.ExitStack) -> None:
        #: Options of a call that names where the releases are.
        self.releases = releases
        self.cluster, self._stack = cluster, stack
        self.user = f"limited-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = str(cluster.kubeconfig_for(self.user))

    def _rig(self, kind: type[Any]) -> Any:
        return self._stack.enter_context(contextlib.closing(kind(self.cluster)))

    @functools.cached_property
    def rig(self) -> CsrRig:
        rig: CsrRig = self._rig(CsrRig)
        return rig

    @functools.cached_property
    def probed(self) -> ProbeRig:
        rig: ProbeRig = self._rig(ProbeRig)
        return rig

    @functools.cached_property
    def bundled(self) -> bundle_rig.BundleRig:
        rig: bundle_rig.BundleRig = self._rig(bundle_rig.BundleRig)
        return rig

    @functools.cached_property
    def repaired(self) -> RepairRig:
        rig: RepairRig = self._rig(RepairRig)
        return rig

    def grant(self, *roles: dict[str, Any]) -> None:
        paths = rbac.grant(self.cluster, self.user, *roles)
        self._stack.callback(rbac.delete, self.cluster, paths)

    def writes(self) -> list[str]:
        return written(self.cluster, self.user)


Run = Callable[..., dict[str, Any]]
Call = Callable[[Place], Run]


def a_new_one(place: Place) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    return lambda **who: place.rig.run(targets=targets, **who)


def a_discovery(place: Place) -> Run:
    place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")
    return lambda **who: place.rig.run(discover_targets=True, **who)


def for_an_address(place: Place) -> Run:
    return lambda **who: place.rig.run(**ADDRESS, **who)


def a_renewal(place: Place) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(targets=targets)["changed"]
    return lambda **who: place.rig.run(targets=targets, key_type="rsa-2048", **who)


def the_second_step(place: Place) -> Run:
    place.rig.decide(place.rig.run(**TWO_STEP)["csr"]["name"])
    wait_for(lambda: place.rig.csrs()[0]["status"].get("certificate"))
    return lambda **who: place.rig.run(**TWO_STEP, requesters=[place.rig.user], **who)


def the_undo(place: Place) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(targets=targets)["changed"]
    assert place.rig.run(targets=targets, key_type="rsa-2048", **TWO_STEP)["pending"]
    requesters = [place.rig.user]
    return lambda **who: place.rig.run(state="absent", targets=targets, requesters=requesters, **who)


def ephemeral_ca(place: Place) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    return lambda **who: place.rig.run(signer_name="ephemeral-ca", targets=targets, **ADDRESS, **who)


def ephemeral_ca_again(place: Place) -> Run:
    assert ephemeral_ca(place)()["changed"]
    return lambda **who: place.rig.run(signer_name="ephemeral-ca", key_type="rsa-2048", **who)


def ephemeral_ca_and_removal(place: Place) -> Run:
    targets = [place.rig.hook(f"hook-{uuid.uuid4().hex[:4]}")]
    assert place.rig.run(signer_name="ephemeral-ca", targets=targets)["changed"]
    removal: dict[str, Any] = {"signer_name": "ephemeral-ca", "state": "absent", "targets": targets}
    return lambda **who: place.rig.run(**removal, **who)


def a_decision(place: Place) -> Run:
    allowed: dict[str, Any] = {"allow_names": ["203.0.113.7"]}
    name = place.rig.run(**TWO_STEP, **allowed, names=["203.0.113.7"])["csr"]["name"]
    expect = {"service": "hook", "namespace": place.rig.name}
    return lambda **who: place.rig.approve(name=name, expect=expect, wait=True, **allowed, **who)


def a_decision_for(signer: str) -> Call:
    def a_decision_for_the_signer(place: Place) -> Run:
        name = place.rig.run(signer_name=signer, **TWO_STEP)["csr"]["name"]
        expect = {"service": "hook", "namespace": place.rig.name}
        return lambda **who: place.rig.approve(name=name, expect=expect, **who)

    return a_decision_for_the_signer


def bundles(place: Place) -> Run:
    rig, ca = place.bundled, pki.make_ca("bundled").certificate_pem.decode()
    targets = [
        rig.webhooks(bundle_rig.VALIDATING, None),
        rig.webhooks(bundle_rig.MUTATING, None),
        rig.definition(None),
        rig.api_service(None),
    ]
    return lambda **who: place.rig.operate(webhook_cabundle.OPERATION, targets=targets, ca_bundle=ca, **who)


def bundles_of_a_signer(place: Place) -> Run:
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


def of_a_published_ca(place: Place) -> Run:
    """The second step with another signer, whose CA only its ClusterTrustBundle has."""
    rig, ca = place.rig, pki.make_ca("published")
    options: dict[str, Any] = {"signer_name": f"example.com/{rig.name}", **TWO_STEP}
    publish(rig, options["signer_name"], ca)
    with signing(rig.cluster, options["signer_name"], ca):
        name = rig.run(**options)["csr"]["name"]
        rig.decide(name)
        wait_for(lambda: (rig.csr(name) or {})["status"].get("certificate"))
    return lambda **who: rig.run(**options, requesters=[rig.user], **who)


def throw_away(signer: str) -> Call:
    options: dict[str, Any] = {"signers": [signer], "probe_seconds": 4}

    def a_throw_away_request(place: Place) -> Run:
        return lambda **who: place.rig.operate(k8s_signer_probe.OPERATION, **options, **who)

    return a_throw_away_request


def proof(place: Place, target: dict[str, Any], **options: Any) -> Run:
    def run(**who: Any) -> dict[str, Any]:
        return place.rig.operate(webhook_probe.OPERATION, target=target, **options, **who)

    return run


def an_admission(place: Place) -> Run:
    target, wanted = place.probed.called_webhook(), config_map(place.probed.name)
    return proof(place, target, object=wanted, require_proof=True)


def a_mutating_one(place: Place) -> Run:
    target = place.probed.configure(place.probed.webhook(), hooks=MUTATING_HOOKS)
    return proof(place, target, object=config_map(place.probed.name))


def a_conversion(place: Place) -> Run:
    return proof(place, place.bundled.definition(bundle_rig.pem("a")))


def an_aggregated_api(place: Place) -> Run:
    return proof(place, place.bundled.api_service(bundle_rig.pem("a")))


def pods_behind_it(place: Place) -> Run:
    rig = place.probed
    pods(rig, rig.name, "pods")
    target = rig.configure(rig.webhook(service="pods", port=443))
    return proof(place, target, object=config_map(rig.name))


def a_renewal_seen(place: Place) -> Run:
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
    endpoint = endpoint_slices.endpoint("203.0.113.9", pod=(name, "hook-1"))
    body = endpoint_slices.endpoint_slice(service, endpoint, port=8443, port_name="https")
    rig.make(endpoint_slices.path(name), body)


def an_explanation(place: Place) -> Run:
    """Explain a request that kube-controller-manager might issue."""
    rig = place.rig
    name = rig.run(**TWO_STEP)["csr"]["name"]
    return lambda **who: rig.info(name=name, **who)


def of_all(place: Place) -> Run:
    assert place.rig.run(**TWO_STEP)["pending"]
    return place.rig.info


def of_pod_certificates(place: Place) -> Run:
    return lambda **who: place.rig.info(gather=["pod_certificates"], **who)


def of_an_unserved_signer(place: Place) -> Run:
    name = place.rig.run(signer_name="nobody.example.com/serving", **TWO_STEP)["csr"]["name"]
    return lambda **who: place.rig.info(name=name, **who)


def two_steps(place: Place) -> Run:
    return lambda **who: place.rig.run(**TWO_STEP, **who)


def a_plan(place: Place) -> Run:
    wanted = {"version": "8.7.0", "accept": ["kubectl"]}
    return lambda **who: operate(snapshot_controller_info.OPERATION, {**wanted, **who})


def upgrade(release: str) -> Call:
    def upgrade_to_the_release(place: Place) -> Run:
        """Check mode tries each step by a dry run, and needs the permissions of a run."""
        wanted = {"version": release, "accept": ["kubectl"], **place.releases}
        operation = snapshot_controller.OPERATION
        return lambda check_mode=True, **who: operate(operation, {**wanted, **who}, check_mode=check_mode)

    return upgrade_to_the_release


def an_audit(place: Place) -> Run:
    place.repaired.broken("audited")
    return lambda **who: place.repaired.operate(audit_info.OPERATION, probe_urls=True, **who)


def a_repair(place: Place) -> Run:
    place.repaired.publish(bundle_rig.pem("other") + bundle_rig.pem("good"))
    place.repaired.broken("repaired")
    return place.repaired.repair
