# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The managers of Secrets and of objects with a caBundle are recognised by their markers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    APPLIES,
    MANAGERS,
    MERGES,
    OPERATOR,
    OVERWRITES,
    find_rewriters,
    matching,
    present_markers,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.owners import Owner, owners
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed import installers

pytestmark = pytest.mark.quick

#: The managers of Secrets. Some of them manage objects with a caBundle too.
OF_SECRETS = [row for row in MANAGERS if row.for_secrets and row.key != OPERATOR]
OPENSHIFT = "openshift.io"

# (metadata, the keys of the managers that it shows)
MARKED: list[tuple[dict[str, Any], list[str]]] = [
    ({"annotations": {"cert-manager.io/inject-ca-from": "ns/cert"}}, ["cert-manager"]),
    ({"annotations": {"cert-manager.io/inject-ca-from-secret": "ns/secret"}}, ["cert-manager"]),
    ({"annotations": {"cert-manager.io/inject-apiserver-ca": "true"}}, ["cert-manager"]),
    ({"annotations": {"cert-manager.io/certificate-name": "cert"}}, ["cert-manager"]),
    ({"annotations": {"cert-manager.io/issuer-name": "issuer"}}, ["cert-manager"]),
    ({"annotations": {"reconcile.external-secrets.io/data-hash": "1f"}}, ["external-secrets"]),
    ({"labels": {"reconcile.external-secrets.io/managed": "true"}}, ["external-secrets"]),
    ({"labels": {"reconcile.external-secrets.io/created-by": "1f"}}, ["external-secrets"]),
    ({"annotations": {"reflector.v1.k8s.emberstack.com/reflects": "pki/hook"}}, ["mirror"]),
    ({"annotations": {"replicator.v1.mittwald.de/replicate-from": "pki/hook"}}, ["mirror"]),
    ({"annotations": {"replicator.v1.mittwald.de/replicated-at": "2026-11-25T12:00:00Z"}}, ["mirror"]),
    ({"labels": {"generate.kyverno.io/policy-name": "copy-certificates"}}, ["mirror"]),
    ({"labels": {"hnc.x-k8s.io/inherited-from": "pki"}}, ["mirror"]),
    ({"annotations": {f"service.beta.{OPENSHIFT}/inject-cabundle": "true"}}, ["openshift-service-ca"]),
    ({"annotations": {f"service.beta.{OPENSHIFT}/inject-cabundle": "True"}}, ["openshift-service-ca"]),
    ({"annotations": {f"service.alpha.{OPENSHIFT}/inject-cabundle": "true"}}, ["openshift-service-ca"]),
    (
        {"annotations": {f"service.beta.{OPENSHIFT}/originating-service-name": "hook"}},
        ["openshift-service-ca"],
    ),
    (
        {"annotations": {f"service.alpha.{OPENSHIFT}/originating-service-name": "hook"}},
        ["openshift-service-ca"],
    ),
    ({"labels": {"olm.owner": "op.v1"}}, ["olm"]),
    ({"labels": {"olm.managed": "true"}}, ["olm"]),
    ({"labels": {"olm.webhook-description-generate-name": "vhook.example.com"}}, ["olm"]),
    ({"annotations": {"operatorframework.io/installed-alongside-5c3f": "ns/op.v1"}}, ["olm"]),
    ({"labels": {"olm.operatorframework.io/owner-name": "op"}}, ["olm-v1"]),
    ({"managedFields": [{"manager": "kubectl"}, {"manager": "eks"}]}, ["eks"]),
    ({"annotations": {"argocd.argoproj.io/tracking-id": "app:..."}}, ["argocd"]),
    ({"labels": {"argocd.argoproj.io/instance": "app"}}, ["argocd"]),
    ({"managedFields": [{"manager": "argocd-controller"}]}, ["argocd"]),
    ({"managedFields": [{"manager": "argocd-application-controller"}]}, ["argocd"]),
    ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, ["flux"]),
    ({"labels": {"helm.toolkit.fluxcd.io/name": "apps"}}, ["flux"]),
    ({"managedFields": [{"manager": "kustomize-controller"}]}, ["flux"]),
    ({"managedFields": [{"manager": "helm-controller"}]}, ["flux"]),
    ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, ["helm"]),
    ({"annotations": {"meta.helm.sh/release-name": "apps"}}, ["helm"]),
    (
        {
            "labels": {"app.kubernetes.io/managed-by": "Helm", "helm.toolkit.fluxcd.io/name": "apps"},
            "annotations": {"meta.helm.sh/release-name": "apps"},
        },
        ["flux", "helm"],
    ),
]
UNMARKED: list[dict[str, Any]] = [
    {},
    {"annotations": None, "labels": None, "managedFields": None},
    {"managedFields": [{"manager": "eksctl"}, {}]},
    # Switched off.
    {"annotations": {"cert-manager.io/inject-ca-from": ""}},
    {"annotations": {"cert-manager.io/inject-apiserver-ca": "false"}},
    {"annotations": {f"service.beta.{OPENSHIFT}/inject-cabundle": "false"}},
    # A wish of the user, not a marker of the manager.
    {"annotations": {"cert-manager.io/allow-direct-injection": "true"}},
    {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}},
    {"labels": {"kustomize.toolkit.fluxcd.io/prune": "disabled"}},
    # Left by a manager that does not write again.
    {"managedFields": [{"manager": "helm"}, {"manager": "cert-manager-cainjector"}]},
    # Every chart may set them.
    {"labels": {"app.kubernetes.io/instance": "apps", "app.kubernetes.io/managed-by": "kustomize"}},
]


def find_managers(metadata: dict[str, Any]) -> tuple[Owner, ...]:
    return owners({"metadata": metadata})


@pytest.mark.parametrize(("metadata", "expected"), MARKED, ids=lambda value: str(value)[:60])
def test_a_manager_is_recognised_by_its_markers(metadata: dict[str, Any], expected: list[str]) -> None:
    found = find_managers(metadata)
    assert [entry.manager.key for entry in found] == expected
    assert all(entry.evidence for entry in found)


@pytest.mark.parametrize("metadata", UNMARKED, ids=lambda value: str(value)[:60])
def test_other_metadata_shows_no_manager(metadata: dict[str, Any]) -> None:
    assert find_managers(metadata) == ()


def test_the_evidence_is_the_marker_as_text() -> None:
    metadata = {
        "annotations": {"argocd.argoproj.io/tracking-id": "app:x"},
        "managedFields": [{"manager": "argocd-controller"}],
    }
    (found,) = find_managers(metadata)
    assert found.evidence == (
        "annotation argocd.argoproj.io/tracking-id: app:x",
        "field manager argocd-controller",
    )


def test_every_marker_of_the_table_is_tried_here() -> None:
    tried = {
        text for metadata, _names in MARKED for found in find_managers(metadata) for text in found.evidence
    }
    assert len({text.split(": ")[0] for text in tried}) == sum(len(row.markers) for row in OF_SECRETS)


def test_every_row_is_complete() -> None:
    assert {place for row in OF_SECRETS for place, _pattern in row.markers} == {
        "annotation",
        "label",
        "manager",
    }
    assert {row.bundle for row in MANAGERS} == {"", MERGES, OVERWRITES, APPLIES}
    for row in MANAGERS:
        assert bool(row.bundle) == bool(row.for_targets)
        assert row.for_secrets or not row.bundle
        assert row.key
        assert row.upgrade or not row.adopting
        assert row.source.startswith("https://") or not row.for_secrets


def test_the_admissions_enforcer_owns_no_object() -> None:
    """It adds terms to each namespaceSelector on AKS. So its mark must not stop every write there."""
    metadata = {"managedFields": [{"manager": "admissionsenforcer", "operation": "Update"}]}
    assert [row.key for row in find_rewriters(metadata)] == ["aks-admissions-enforcer"]
    assert find_managers(metadata) == ()
    assert installers.find_origin({"metadata": metadata}).field_managers == ()
    assert find_rewriters({"managedFields": [{"manager": "kubectl"}]}) == ()


@pytest.mark.parametrize("name", ["release.openshift.io/delete", "include.release.openshift.io/self-managed"])
def test_an_object_of_a_release_of_openshift_has_its_marks(name: str) -> None:
    (row,) = (row for row in MANAGERS if row.key == "openshift")
    assert matching(row.markers, present_markers({"annotations": {name: "true"}}))
    assert not matching(row.markers, present_markers({"labels": {name: "true"}}))
