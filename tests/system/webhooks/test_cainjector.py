# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run webhook_cabundle next to a real cainjector of cert-manager, and check both clients' CAs in the bundle."""

from __future__ import annotations

import base64
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.failures import has_failed
from tests.support.waiting import wait_for
from tests.support.webhooks.bundle_rig import DEFINITION, MUTATING, PATHS, VALIDATING, BundleRig, pem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet

SECRETS = "/api/v1/namespaces/default/secrets"
CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/default/certificates"
MANAGER = "cert-manager-cainjector"
FROM_SECRET = "cert-manager.io/inject-ca-from-secret"


@pytest.fixture(scope="module")
def cluster(fleet: Fleet) -> Iterator[Cluster]:
    """A cluster with the definition of cert-manager's Certificates."""
    cluster = fleet["onprem"]
    path = clusters.cert_manager_dir() / "deploy" / "crds" / "cert-manager.io_certificates.yaml"
    definition = yaml.safe_load(path.read_text())
    cluster.api("POST", PATHS[DEFINITION], definition)
    try:
        wait_for(lambda: is_served(cluster))
        yield cluster
    finally:
        cluster.api("DELETE", f"{PATHS[DEFINITION]}/{definition['metadata']['name']}")


def is_served(cluster: Cluster) -> bool:
    with contextlib.suppress(clusters.AdminApiError):
        return bool(cluster.api("GET", CERTIFICATES))
    return False


@pytest.fixture
def rig(cluster: Cluster) -> Iterator[BundleRig]:
    rig = BundleRig(cluster)
    try:
        yield rig
    finally:
        rig.close()


@contextlib.contextmanager
def cainjector(cluster: Cluster, *, gates: str = "") -> Iterator[None]:
    """Run a real cainjector until the block ends."""
    kubeconfig = cluster.kubeconfig_for("cainjector", ["system:masters"])
    program = clusters.cainjector()
    cluster.start_program(
        "cainjector", [str(program), f"--kubeconfig={kubeconfig}", f"--feature-gates={gates}"]
    )
    try:
        yield
    finally:
        cluster.stop("cainjector")
        print(cluster.log("cainjector").read_text())  # pytest shows it with a failure


def put_ca(rig: BundleRig, *names: str, **annotations: str) -> str:
    """Write a Secret with these CAs in ca.crt. Return its namespace and name."""
    name = f"hook-ca-{rig.id}"
    value = base64.b64encode("".join(pem(ca) for ca in names).encode()).decode()
    secret = {"metadata": {"name": name, "annotations": annotations}, "data": {"ca.crt": value}}
    if f"{SECRETS}/{name}" in rig.made:
        operation = {"op": "replace", "path": "/data/ca.crt", "value": value}
        rig.cluster.api("PATCH", f"{SECRETS}/{name}", [operation], "application/json-patch+json")
    else:
        rig.make(SECRETS, secret)
    return f"default/{name}"


def is_filled(rig: BundleRig, target: dict[str, Any]) -> bool:
    return all(rig.bundles(target))


def is_injected(rig: BundleRig, target: dict[str, Any], *names: str) -> None:
    """Wait until the bundles of the target contain exactly these CAs."""
    wanted = "".join(pem(ca) for ca in names)
    wait_for(lambda: all(bundle == wanted for bundle in rig.bundles(target)))


def is_settled(rig: BundleRig, secret: str, ca: str) -> None:
    """Wait until cainjector has handled all changes before. It handles webhook configurations one after the other.

    It applies the object of its cache by force (Reconcile in pkg/controller/cainjector/reconciler.go), so a change by
    another client at that moment would be lost.
    """
    is_injected(rig, rig.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret}), ca)


def test_each_request_for_an_injection_is_recognised(rig: BundleRig) -> None:
    secret = put_ca(
        rig,
        "theirs",
        **{"cert-manager.io/allow-direct-injection": "true", "cert-manager.io/certificate-name": "hook"},
    )
    spec = {"secretName": secret.partition("/")[2], "dnsNames": ["x"], "issuerRef": {"name": "ca"}}
    rig.make(
        CERTIFICATES,
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {"name": "hook"},
            "spec": spec,
        },
    )
    asked = {
        FROM_SECRET: rig.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret}),
        "cert-manager.io/inject-ca-from": rig.definition(annotations={"cert-manager.io/inject-ca-from": "default/hook"}),
        "cert-manager.io/inject-apiserver-ca": rig.webhooks(MUTATING, None, annotations={"cert-manager.io/inject-apiserver-ca": "true"}),
    }  # fmt: skip
    with cainjector(rig.cluster):
        for annotation, target in asked.items():
            wait_for(functools.partial(is_filled, rig, target))
            result = rig.run(target, ca_bundle=pem("mine"))
            names = (target["name"], "cert-manager", annotation, "accept:")
            assert has_failed(result, "owned-by-another", *names), result
    assert rig.bundles(asked["cert-manager.io/inject-apiserver-ca"]) == [rig.cluster.ca_pem]
    assert rig.bundles(asked["cert-manager.io/inject-ca-from"]) == [pem("theirs")]
    managers = {entry["manager"] for entry in rig.read(asked[FROM_SECRET])["metadata"]["managedFields"]}
    assert MANAGER in managers


def test_an_added_ca_stays_in_a_bundle_of_cainjector(rig: BundleRig) -> None:
    """cert-manager 1.19 and newer merge."""
    secret = put_ca(rig, "theirs", **{"cert-manager.io/allow-direct-injection": "true"})
    target = rig.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret})
    with cainjector(rig.cluster):
        is_injected(rig, target, "theirs")
        is_settled(rig, secret, "theirs")
        assert rig.run(target, ca_bundle=pem("mine"), accept=["cert-manager"])["changed"]
        assert rig.bundles(target) == [pem("theirs") + pem("mine")]
        for mode in ("exactly", "absent"):
            refused = rig.run(target, ca_bundle=pem("mine"), mode=mode, accept=["cert-manager"])
            assert has_failed(refused, "managed-bundle", mode, "accept:"), refused
        put_ca(rig, "next")  # cainjector writes it after the module, which proves the order
        is_injected(rig, target, "theirs", "mine", "next")
        assert rig.run(target, ca_bundle=pem("mine"), accept=["cert-manager"])["changed"] is False


def test_an_older_cainjector_overwrites_an_added_ca(rig: BundleRig) -> None:
    """cert-manager before 1.19 overwrites, except 1.17 and 1.18 with the feature gate."""
    secret = put_ca(rig, "theirs", **{"cert-manager.io/allow-direct-injection": "true"})
    target = rig.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret})
    with cainjector(rig.cluster, gates="CAInjectorMerging=false"):
        is_injected(rig, target, "theirs")
        assert rig.run(target, ca_bundle=pem("mine"), accept=["cert-manager"])["changed"]
        is_injected(rig, target, "theirs")
