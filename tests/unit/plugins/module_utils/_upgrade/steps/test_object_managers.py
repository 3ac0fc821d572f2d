# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The managers whose objects are refused just before a write, and the remedies."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import EVERYTHING, Consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import (
    LAST_APPLIED,
    OWN_MANAGER,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.errors import OwnedObjectError
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps.ownership import (
    refuse_others,
)

from tests.unit.plugins.module_utils._snapshot.objects import field

ACCOUNT = Reference("ServiceAccount", "snapshot-controller", "kube-system")
CONTROLLER = "Deployment/kube-system/snapshot-controller"

KOPS: dict[str, Any] = {"labels": {"addon.kops.k8s.io/name": "snapshot-controller"}}
TERRAFORM: dict[str, Any] = {"managedFields": [field("terraform", "Update")]}
TWO: dict[str, Any] = {"managedFields": [field("terraform", "Update"), field("pulumi", "Update")]}
KUBECTL: dict[str, Any] = {"annotations": {LAST_APPLIED: "{}"}}
INJECTED = {"cert-manager.io/inject-ca-from": "a/b"}
OURS: dict[str, Any] = {"annotations": INJECTED, "managedFields": [field(OWN_MANAGER, "Apply")]}
HELM = {"app.kubernetes.io/managed-by": "Helm"}
FLUX: dict[str, Any] = {"labels": {"helm.toolkit.fluxcd.io/name": "x", **HELM}}
ARGO = {"argocd.argoproj.io/instance": "x"}
OLM: dict[str, Any] = {"labels": {"olm.owner": "x"}}
OLM_V1: dict[str, Any] = {"labels": {"olm.operatorframework.io/owner-name": "x"}}
OWNED: dict[str, Any] = {"ownerReferences": [{"kind": "SnapshotStack", "name": "x"}]}


def consent(*items: Any) -> Consent:
    return accept.parse(items)


def judge(metadata: dict[str, Any], accepted: Consent) -> None:
    # No other object is read for a ServiceAccount.
    refuse_others(None, ACCOUNT, {"metadata": {"name": ACCOUNT.name, **metadata}}, consent=accepted)  # type: ignore[arg-type]


# Metadata of the ServiceAccount, and the option accept.
WRITTEN: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "no mark": ({}, []),
    "kubectl's": (KUBECTL, []),
    "kubectl's, and another word is for another object": (KUBECTL, [{"kops": CONTROLLER}]),
    "kOps' without a consent": (KOPS, []),
    "an unknown manager's without a consent": (TERRAFORM, []),
    "kOps' with a consent for every object": (KOPS, ["kops", {"kops": CONTROLLER}]),
    "an operator's": (OWNED, []),
    "ours with an annotation of cert-manager": (OURS, ["cert-manager"]),
    "kubectl's with an annotation of cert-manager": ({"annotations": {**INJECTED, LAST_APPLIED: "{}"}}, ["cert-manager"]),
    "a Helm release of Flux": (FLUX, ["flux"]),
    "a chart that Argo CD installed": ({"labels": {**ARGO, **HELM}}, ["argocd"]),
    "a chart of RKE2": ({"annotations": {"meta.helm.sh/release-name": "rke2-snapshot-controller"}}, ["rke2"]),
}  # fmt: skip
# And the evidence of the refusal, and the words of its remedy.
REFUSED: dict[str, tuple[dict[str, Any], list[Any], str, list[Any]]] = {
    "kOps', accepted for another object": (KOPS, [{"kops": CONTROLLER}], "addon.kops.k8s.io/name", ["kops"]),
    "an unknown manager's, accepted for another object": (
        TERRAFORM, [{"manager:terraform": CONTROLLER}], "field manager terraform", ["manager:terraform"],
    ),
    "two unknown managers', one accepted for another object": (
        TWO, [{"manager:terraform": CONTROLLER}, "manager:pulumi"], "field manager terraform", ["manager:pulumi", "manager:terraform"],
    ),
    "kubectl's, accepted for another object": (KUBECTL, [{"kubectl": CONTROLLER}], LAST_APPLIED, ["kubectl"]),
    "ours with an annotation of cert-manager": (OURS, [], "inject-ca-from", ["cert-manager"]),
    "kubectl's with an annotation of cert-manager": (
        {"annotations": {**INJECTED, LAST_APPLIED: "{}"}}, ["kubectl"], "inject-ca-from", ["cert-manager"],
    ),
    "Helm's and cert-manager's": ({"labels": HELM, "annotations": INJECTED}, ["helm"], "inject-ca-from", ["cert-manager"]),
    "a Helm release of Flux": (FLUX, [], "helm.toolkit.fluxcd.io/name", ["flux", "helm"]),
    "a Helm release of Flux, with the word for Helm": (FLUX, ["helm"], "helm.toolkit.fluxcd.io/name", ["flux"]),
    "Argo CD's and Flux'": (
        {"labels": {**ARGO, "kustomize.toolkit.fluxcd.io/name": "x"}}, ["argocd"], "kustomize.toolkit.fluxcd.io/name", ["flux"],
    ),
    "OLM's": (OLM, [], "olm.owner", []),
    "OLM's and cert-manager's": ({**OLM, "annotations": INJECTED}, ["cert-manager"], "olm.owner", []),
    "OLM v1's": (OLM_V1, ["olm-v1"], "olm.operatorframework.io/owner-name", []),
    "an operator's and cert-manager's": ({**OWNED, "annotations": INJECTED}, ["cert-manager"], "inject-ca-from", []),
}  # fmt: skip


@pytest.mark.parametrize(("metadata", "items"), WRITTEN.values(), ids=list(WRITTEN))
def test_an_object_is_written(metadata: dict[str, Any], items: list[Any]) -> None:
    judge(metadata, consent(*items))


@pytest.mark.parametrize(("metadata", "items", "evidence", "words"), REFUSED.values(), ids=list(REFUSED))
def test_an_object_is_refused_and_its_remedy_works(
    metadata: dict[str, Any], items: list[Any], evidence: str, words: list[str]
) -> None:
    with pytest.raises(OwnedObjectError) as caught:
        judge(metadata, consent(*items))
    assert any(evidence in line for line in caught.value.evidence)
    named = re.findall(r"accept: (\[.*\])", caught.value.remedy)
    more = yaml.safe_load(named[0]) if named else []
    assert [word for item in more for word in (item if isinstance(item, dict) else [item])] == words
    if more:
        judge(metadata, consent(*items, *more))
    judge(metadata, EVERYTHING)
