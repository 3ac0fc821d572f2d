# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""webhook_cabundle beside a real cainjector of cert-manager: whose bundle it is, and what becomes of ours."""

from __future__ import annotations

import base64
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support import clusters
from tests.support.failures import has_failed
from tests.support.webhook_site import DEFINITION, MUTATING, PATHS, VALIDATING, Site, pem, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Cluster, Fleet

SECRETS = "/api/v1/namespaces/default/secrets"
CERTIFICATES = "/apis/cert-manager.io/v1/namespaces/default/certificates"
MANAGER = "cert-manager-cainjector"
FROM_SECRET = "cert-manager.io/inject-ca-from-secret"


@pytest.fixture(scope="module")
def cluster(fleet: Fleet) -> Iterator[Cluster]:
    """With the definition of cert-manager's Certificates."""
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
    with contextlib.suppress(clusters.ApiError):
        return bool(cluster.api("GET", CERTIFICATES))
    return False


@pytest.fixture
def site(cluster: Cluster) -> Iterator[Site]:
    site = Site(cluster)
    try:
        yield site
    finally:
        site.close()


@contextlib.contextmanager
def cainjector(cluster: Cluster, *, gates: str = "") -> Iterator[None]:
    """A real one, until the block ends."""
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


def put_ca(site: Site, *names: str, **annotations: str) -> str:
    """A Secret with these CAs under ca.crt, new or with other CAs than before; its name."""
    name = f"hook-ca-{site.id}"
    value = base64.b64encode("".join(pem(ca) for ca in names).encode()).decode()
    secret = {"metadata": {"name": name, "annotations": annotations}, "data": {"ca.crt": value}}
    if f"{SECRETS}/{name}" in site.made:
        operation = {"op": "replace", "path": "/data/ca.crt", "value": value}
        site.cluster.api("PATCH", f"{SECRETS}/{name}", [operation], "application/json-patch+json")
    else:
        site.make(SECRETS, secret)
    return f"default/{name}"


def is_filled(site: Site, target: dict[str, Any]) -> bool:
    return all(site.bundles(target))


def is_injected(site: Site, target: dict[str, Any], *names: str) -> None:
    """Wait until the bundles of the target hold these CAs and no other."""
    wanted = "".join(pem(ca) for ca in names)
    wait_for(lambda: all(bundle == wanted for bundle in site.bundles(target)))


def test_each_way_to_ask_for_an_injection_is_recognised(site: Site) -> None:
    secret = put_ca(
        site,
        "theirs",
        **{"cert-manager.io/allow-direct-injection": "true", "cert-manager.io/certificate-name": "hook"},
    )
    spec = {"secretName": secret.partition("/")[2], "dnsNames": ["x"], "issuerRef": {"name": "ca"}}
    site.make(
        CERTIFICATES,
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {"name": "hook"},
            "spec": spec,
        },
    )
    asked = {
        FROM_SECRET: site.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret}),
        "cert-manager.io/inject-ca-from": site.definition(
            annotations={"cert-manager.io/inject-ca-from": "default/hook"}
        ),
        "cert-manager.io/inject-apiserver-ca": site.webhooks(
            MUTATING, None, annotations={"cert-manager.io/inject-apiserver-ca": "true"}
        ),
    }
    with cainjector(site.cluster):
        for annotation, target in asked.items():
            wait_for(functools.partial(is_filled, site, target))
            result = site.run(target, ca_bundle=pem("mine"))
            names = (target["name"], "cert-manager", annotation, "take_over:")
            assert has_failed(result, "owned-by-another", *names), result
    assert site.bundles(asked["cert-manager.io/inject-apiserver-ca"]) == [site.cluster.ca_pem]
    assert site.bundles(asked["cert-manager.io/inject-ca-from"]) == [pem("theirs")]
    managers = {entry["manager"] for entry in site.read(asked[FROM_SECRET])["metadata"]["managedFields"]}
    assert MANAGER in managers


def test_what_is_added_stays_beside_what_cainjector_writes(site: Site) -> None:
    """As it does since cert-manager 1.19."""
    secret = put_ca(site, "theirs", **{"cert-manager.io/allow-direct-injection": "true"})
    target = site.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret})
    with cainjector(site.cluster):
        is_injected(site, target, "theirs")
        assert site.run(target, ca_bundle=pem("mine"), take_over=True)["changed"]
        assert site.bundles(target) == [pem("theirs") + pem("mine")]
        for mode in ("exactly", "absent"):
            refused = site.run(target, ca_bundle=pem("mine"), mode=mode, take_over=True)
            assert has_failed(refused, "managed-bundle", mode, "take_over:"), refused
        put_ca(site, "next")  # another CA of theirs: proof that it has written after us
        is_injected(site, target, "theirs", "mine", "next")
        assert site.run(target, ca_bundle=pem("mine"), take_over=True)["changed"] is False


def test_an_older_cainjector_overwrites_what_is_added(site: Site) -> None:
    """Before cert-manager 1.19, but for 1.17 and 1.18 with the gate on."""
    secret = put_ca(site, "theirs", **{"cert-manager.io/allow-direct-injection": "true"})
    target = site.webhooks(VALIDATING, None, annotations={FROM_SECRET: secret})
    with cainjector(site.cluster, gates="CAInjectorMerging=false"):
        is_injected(site, target, "theirs")
        assert site.run(target, ca_bundle=pem("mine"), take_over=True)["changed"]
        is_injected(site, target, "theirs")
