# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The core paths on each older release of Kubernetes. All other tests use the newest one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import snapshot_controller

from tests.support import clusters
from tests.support.audit.audit_rig import AuditRig, checks, failed
from tests.support.certificates.csr_by_hand import signing
from tests.support.certificates.csr_rig import KUBELET_SERVING, CsrRig, assert_pair
from tests.support.clusters import APP_SERVING, build, pki
from tests.support.clusters.pins import OLDER_RELEASES
from tests.support.operations import operate
from tests.support.rig import ADMINISTRATORS, written
from tests.support.upgrade.snapshot_plans import ids, install, plan
from tests.support.webhooks.called_hook import assert_trusted, take_bundle, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import Fleet

pytestmark = pytest.mark.full

TRUST_BUNDLES = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles"


@pytest.fixture(scope="module", params=OLDER_RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fleet(release: str) -> Iterator[Fleet]:
    kinds = ("onprem", "eks", "other-ca")
    with clusters.running({kind: f"{kind}@{release}" for kind in kinds}) as fleet:
        for cluster in fleet.values():
            assert cluster.api("GET", "/version")["gitVersion"].startswith(f"v{release}.")
        yield fleet


@pytest.fixture(params=["onprem", "eks"])
def rig(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[CsrRig]:
    signer = {"onprem": KUBELET_SERVING, "eks": APP_SERVING}[request.param]
    with contextlib.closing(CsrRig(fleet[request.param], signer)) as rig:
        yield rig


def test_a_certificate_is_issued_kept_and_rotated(rig: CsrRig) -> None:
    with webhook(rig) as target:
        planned = rig.run(targets=[target], check_mode=True)
        assert planned["changed"]
        assert rig.secret() is None
        first = rig.run(targets=[target])
        assert "failed" not in first, first
        assert first["ca_bundle"] == rig.bundle(target) == rig.cluster.ca_pem
        assert_pair(rig)
        assert_trusted(rig)
        assert rig.run(targets=[target])["changed"] is False
        renewed = rig.run(targets=[target], key_type="rsa-2048")
        assert renewed["changed"], renewed
        assert "failed" not in renewed, renewed
        assert renewed["certificate"]["serial"] != first["certificate"]["serial"]
        assert_pair(rig)
        assert_trusted(rig)
        assert rig.run(targets=[target], state="absent", accept=["downtime"])["changed"]
        assert (rig.secret(), rig.bundle(target)) == (None, "")


def test_a_request_that_eks_never_issues_is_explained(fleet: Fleet) -> None:
    with contextlib.closing(CsrRig(fleet["eks"])) as rig:
        stuck = rig.run(wait_timeout=60)
        assert stuck["code"] == "not-issued", stuck
        assert stuck["diagnosis"]["code"] == "signer-not-served"
        assert APP_SERVING in stuck["diagnosis"]["remedy"]
        assert rig.secret() is None


def test_the_ca_of_a_cluster_trust_bundle_is_the_anchor(fleet: Fleet) -> None:
    ca, retired = pki.make_ca("custom"), pki.make_ca("retired")
    with contextlib.closing(CsrRig(fleet["other-ca"])) as rig:
        signer = f"example.com/{rig.name}"
        text = (retired.certificate_pem + ca.certificate_pem).decode()
        bundle = {
            "metadata": {"name": f"example.com:{rig.name}:a"},
            "spec": {"signerName": signer, "trustBundle": text},
        }
        with webhook(rig) as target, signing(rig.cluster, signer, ca):
            refused = rig.run(signer_name=signer, targets=[target])
            assert refused["code"] == "no-trust-anchor", refused
            rig.make(TRUST_BUNDLES, bundle)
            result = rig.run(signer_name=signer, targets=[target])
            assert result["ca_source"] == f"ClusterTrustBundle {bundle['metadata']['name']}"
            assert rig.bundle(target) == ca.certificate_pem.decode()
            assert_trusted(rig)
            assert take_bundle(rig, target, {"signer_name": signer})["changed"]


def test_a_cluster_without_cluster_trust_bundles(rig: CsrRig) -> None:
    """The list of no API version answers, which is no failure."""
    ca, signer = pki.make_ca("custom"), f"example.com/{rig.name}"
    with webhook(rig) as target, signing(rig.cluster, signer, ca):
        refused = rig.run(signer_name=signer, targets=[target])
        assert refused["code"] == "no-trust-anchor", refused
        assert take_bundle(rig, target, {"signer_name": signer})["code"] == "no-trust-anchor"
        result = rig.run(signer_name=signer, targets=[target], ca_bundle=ca.certificate_pem.decode())
        assert result["changed"], result
        assert_trusted(rig)


def test_an_audit_finds_the_faults_and_reads_everything(fleet: Fleet) -> None:
    with contextlib.closing(AuditRig(fleet["onprem"])) as rig:
        healthy = rig.hook("healthy")
        broken = rig.hook("broken", bundle=pki.make_ca("other").certificate_pem.decode())
        rule = {
            "apiGroups": ["authentication.k8s.io"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["tokenreviews"],
        }
        reviews = rig.hook("reviews", rules=[rule], namespaceSelector={}, objectSelector={})
        result = rig.audit(include_passed=True)
        assert failed(result, healthy) == []
        assert "ca-mismatch" in checks(result, broken)
        assert "virtual-resources" in checks(result, reviews), "only Kubernetes 1.37 and newer exempt reviews"
        assert [finding for finding in result["findings"] if finding["status"] == "unknown"] == []


def test_the_plan_of_an_upgrade(fleet: Fleet, tmp_path: Path) -> None:
    cluster, user = fleet["onprem"], "planner"
    install(cluster, "7.0.2")
    wanted = plan(cluster, "8.7.0", accept=["kubectl"])
    assert (wanted["installed"]["version"], wanted["refused"]) == ("7.0.2", [])
    options: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig_for(user, ADMINISTRATORS)),
        "version": "8.7.0",
        "accept": ["kubectl"],
        "source": str(build.release_archives("8.7.0") / "v{version}.tar.gz"),
        "cache_directory": str(tmp_path),
    }
    result = operate(snapshot_controller.OPERATION, options, check_mode=True)
    assert result["changed"], result
    assert ids(result) == ids(wanted)
    assert written(cluster, user) == []
