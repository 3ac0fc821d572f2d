# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that objects of other managers on a real API server are recognised, refused, and written only with
accept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import MANAGERS

from tests.support.certificates import csr_rig
from tests.support.failures import has_failed
from tests.support.other_client import KUBECTL, OtherClient
from tests.support.webhooks import bundle_rig
from tests.support.webhooks.bundle_rig import DEFINITION, MUTATING, VALIDATING, fingerprint, pem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clusters import Fleet


class WriterRow(NamedTuple):
    """An object as one manager leaves it."""

    #: Name of the manager in the table.
    manager: str
    #: The client that writes the object.
    client: OtherClient
    #: Its metadata.
    metadata: dict[str, Any]
    #: Expected evidence.
    evidence: tuple[str, ...]
    kind: str = VALIDATING

    def __str__(self) -> str:
        return self.manager if self.kind == VALIDATING else f"{self.manager}, {self.kind}"


OLM_OWNER = {
    "olm.managed": "true",
    "olm.owner": "hooks.v1.2.3",
    "olm.owner.kind": "ClusterServiceVersion",
    "olm.owner.namespace": "operators",
}
HELM = {
    "labels": {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "hooks-1.2.3"},
    "annotations": {"meta.helm.sh/release-name": "hooks", "meta.helm.sh/release-namespace": "apps"},
}
HELM_EVIDENCE = (
    "annotation meta.helm.sh/release-name: hooks",
    "label app.kubernetes.io/managed-by: Helm",
)
FLUX = {
    "kustomize.toolkit.fluxcd.io/name": "apps",
    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
}
FLUX_EVIDENCE = ("label kustomize.toolkit.fluxcd.io/name: apps", "field manager kustomize-controller")
APPLIED_BY_FLUX = OtherClient("kustomize-controller", applies=True)
APPLIED_BY_ARGO_CD = OtherClient("argocd-controller", applies=True)
APPLIED_BY_EKS = OtherClient("eks", applies=True)

TARGETS = (
    WriterRow(
        "cert-manager",
        KUBECTL,
        {"annotations": {"cert-manager.io/inject-ca-from": "apps/hook"}},
        ("annotation cert-manager.io/inject-ca-from: apps/hook",),
    ),
    WriterRow(
        "OpenShift's service CA",
        OtherClient("service-ca-operator"),
        {"annotations": {"service.beta.openshift.io/inject-cabundle": "true"}},
        ("annotation service.beta.openshift.io/inject-cabundle: true",),
    ),
    WriterRow(
        "Operator Lifecycle Manager",
        OtherClient("olm"),
        {
            "labels": {
                **OLM_OWNER,
                "olm.webhook-description-generate-name": "vhook.example.com",
                "olm.webhook-description-hash": "5c3f",
            }
        },
        ("label olm.owner: hooks.v1.2.3", "label olm.webhook-description-generate-name: vhook.example.com"),
    ),
    WriterRow(
        "Operator Lifecycle Manager",
        OtherClient("catalog"),
        {
            "annotations": {"operatorframework.io/installed-alongside-5c3f": "operators/hooks.v1.2.3"},
            "labels": {"olm.managed": "true", "operators.coreos.com/hooks.operators": ""},
        },
        ("annotation operatorframework.io/installed-alongside-5c3f: operators/hooks.v1.2.3",),
        DEFINITION,
    ),
    WriterRow(
        "Operator Lifecycle Manager v1",
        OtherClient("helm"),
        {
            "labels": {
                "olm.operatorframework.io/owner-kind": "ClusterExtension",
                "olm.operatorframework.io/owner-name": "hooks",
            }
        },
        ("label olm.operatorframework.io/owner-name: hooks",),
    ),
    WriterRow("Amazon EKS add-ons", APPLIED_BY_EKS, {}, ("field manager eks",), MUTATING),
    WriterRow(
        "Argo CD",
        APPLIED_BY_ARGO_CD,
        {"annotations": {"argocd.argoproj.io/tracking-id": "apps:admissionregistration.k8s.io/X:/hooks"}},
        (
            "annotation argocd.argoproj.io/tracking-id: apps:admissionregistration.k8s.io/X:/hooks",
            "field manager argocd-controller",
        ),
    ),
    # Argo CD 2 writes so by default: with kubectl apply, and tracked by a label that every chart has.
    WriterRow(
        "Argo CD",
        OtherClient("argocd-controller"),
        {"labels": {"app.kubernetes.io/instance": "apps"}},
        ("field manager argocd-controller",),
        DEFINITION,
    ),
    WriterRow("Flux", APPLIED_BY_FLUX, {"labels": FLUX}, FLUX_EVIDENCE),
    WriterRow("Helm", OtherClient("helm"), HELM, HELM_EVIDENCE, MUTATING),
)

SECRETS = (
    WriterRow(
        "cert-manager",
        OtherClient("cert-manager-certificates-issuing", applies=True),
        {
            "annotations": {
                "cert-manager.io/certificate-name": "hook",
                "cert-manager.io/issuer-kind": "Issuer",
                "cert-manager.io/issuer-name": "apps-ca",
            },
            "labels": {"controller.cert-manager.io/fao": "true"},
        },
        ("annotation cert-manager.io/certificate-name: hook", "let its Certificate make the certificate"),
    ),
    WriterRow(
        "external-secrets",
        OtherClient("external-secrets"),
        {
            "annotations": {"reconcile.external-secrets.io/data-hash": "5c3f"},
            "labels": {"reconcile.external-secrets.io/managed": "true"},
        },
        ("label reconcile.external-secrets.io/managed: true", "change its ExternalSecret"),
    ),
    WriterRow(
        "a program that copies Secrets",
        OtherClient("kubernetes-reflector"),
        {"annotations": {"reflector.v1.k8s.emberstack.com/reflects": "pki/hook"}},
        ("annotation reflector.v1.k8s.emberstack.com/reflects: pki/hook", "change the Secret that it copies"),
    ),
    WriterRow(
        "OpenShift's service CA",
        OtherClient("service-ca-operator"),
        {
            "annotations": {
                "service.beta.openshift.io/expiry": "2027-11-25T12:00:00Z",
                "service.beta.openshift.io/originating-service-name": "hook",
                "service.beta.openshift.io/originating-service-uid": "5c3f",
            }
        },
        ("annotation service.beta.openshift.io/originating-service-name: hook", "leave it to the Service"),
    ),
    WriterRow(
        "Operator Lifecycle Manager",
        OtherClient("olm"),
        {"labels": OLM_OWNER},
        ("label olm.owner: hooks.v1.2.3", "leave it to the ClusterServiceVersion"),
    ),
    WriterRow("Amazon EKS add-ons", APPLIED_BY_EKS, {}, ("field manager eks", "add-on's configuration")),
    WriterRow(
        "Argo CD",
        APPLIED_BY_ARGO_CD,
        {"annotations": {"argocd.argoproj.io/tracking-id": "apps:/Secret:apps/hook-tls"}},
        (
            "annotation argocd.argoproj.io/tracking-id: apps:/Secret:apps/hook-tls",
            "take it out of the Application",
        ),
    ),
    WriterRow(
        "Flux", APPLIED_BY_FLUX, {"labels": FLUX}, (*FLUX_EVIDENCE, "take it out of the Kustomization")
    ),
    WriterRow("Helm", OtherClient("helm"), HELM, (*HELM_EVIDENCE, "take it out of the chart")),
)


@pytest.fixture
def rig(fleet: Fleet) -> Iterator[bundle_rig.BundleRig]:
    rig = bundle_rig.BundleRig(fleet["onprem"])
    try:
        yield rig
    finally:
        rig.close()


def make(rig: bundle_rig.BundleRig, row: WriterRow) -> dict[str, Any]:
    """Create the target with a bundle, and return it."""
    if row.kind == DEFINITION:
        return rig.definition(pem("theirs"), by=row.client, **row.metadata)
    return rig.webhooks(row.kind, pem("theirs"), by=row.client, **row.metadata)


@pytest.mark.parametrize("row", TARGETS, ids=str)
def test_a_target_of_another_manager(rig: bundle_rig.BundleRig, row: WriterRow) -> None:
    target = make(rig, row)
    names = (rig.cluster.url, target["kind"], target["name"], *row.manager.split())
    for check_mode in (True, False):
        refused = rig.run(target, ca_bundle=pem("mine"), check_mode=check_mode)
        assert has_failed(refused, "owned-by-another", *names, "accept:"), refused
        assert set(row.evidence) <= set(refused["evidence"])
    assert "ignoreDifferences" in refused["remedy"] or row.manager != "Argo CD"
    manager = next(manager for manager in MANAGERS if manager.name == row.manager)
    if manager.writes_bundles:
        for mode, given in (("exactly", "mine"), ("absent", "theirs")):
            refused = rig.run(target, ca_bundle=pem(given), mode=mode, accept=[manager.key])
            assert has_failed(refused, "managed-bundle", *names, mode), refused
    assert {verb for verb, _resource in rig.asked()} == {"get"}
    assert rig.run(target, ca_bundle=pem("mine"), accept=[manager.key])["changed"]
    assert rig.bundles(target) == [pem("theirs") + pem("mine")]
    if not manager.writes_bundles:
        accept = [manager.key, {"unseen": [f"{target['kind']}/{target['name']}"]}]
        result = rig.run(target, ca_bundle=pem("theirs"), mode="absent", accept=accept)
        assert result["targets"][0]["webhooks"][0]["after"] == [fingerprint("mine")]
        assert rig.run(target, ca_bundle=pem("theirs"), mode="exactly", accept=accept)["changed"]
        assert rig.bundles(target) == [pem("theirs")]


@pytest.mark.parametrize("row", SECRETS, ids=str)
def test_a_secret_of_another_manager(fleet: Fleet, row: WriterRow) -> None:
    rig = csr_rig.CsrRig(fleet["onprem"])
    try:
        rig.put_secret({"tls.crt": "", "tls.key": ""}, by=row.client, **row.metadata)
        before = rig.secret()
        result = rig.refused("secret-unusable", *row.manager.split(), "accept:")
        assert all(marker in result["msg"] for marker in row.evidence)
        assert rig.secret() == before
        assert rig.csrs() == []
    finally:
        rig.close()


def test_every_manager_has_a_row() -> None:
    assert {row.manager for row in TARGETS} == {manager.name for manager in MANAGERS if manager.bundle}
    # Operator Lifecycle Manager v1 applies no Secret of a webhook. The garbage collector deletes a Secret whose owner does not exist, so
    # the table of test_owners.py has the operator.
    assert {row.manager for row in SECRETS} == {
        manager.name for manager in MANAGERS if manager.for_secrets
    } - {"Operator Lifecycle Manager v1", "an operator"}
