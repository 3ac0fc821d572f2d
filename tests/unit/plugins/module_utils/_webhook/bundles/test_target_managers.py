# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An object with a caBundle that another manager writes is refused with a remedy, unless it is taken over."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import (
    EVERYTHING,
    NOTHING,
    Consent,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import MANAGERS
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import OwnedTargetError

from tests.support.failures import fails

VALIDATING = Target("ValidatingWebhookConfiguration", "hooks")
DEFINITION = Target("CustomResourceDefinition", "things.example.com")
INJECTED = {"annotations": {"cert-manager.io/inject-ca-from": "ns/cert"}}
# Manager -> metadata with one of its markers.
MARKED: dict[str, dict[str, Any]] = {
    "cert-manager": INJECTED,
    "OpenShift's service CA": {"annotations": {"service.beta.openshift.io/inject-cabundle": "true"}},
    "Amazon EKS add-ons": {"managedFields": [{"manager": "eks"}]},
    "Operator Lifecycle Manager": {"labels": {"olm.owner": "op.v1"}},
    "Operator Lifecycle Manager v1": {"labels": {"olm.operatorframework.io/owner-name": "op"}},
    "Argo CD": {"annotations": {"argocd.argoproj.io/tracking-id": "app:..."}},
    "Flux": {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
    "Helm": {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
}
# The managers that write caBundle at any time.
WRITERS = ("cert-manager", "OpenShift's service CA", "Operator Lifecycle Manager")
REMOVING = ("exactly", "absent")


def marked(manager: str) -> dict[str, Any]:
    return {"metadata": MARKED[manager]}


def test_every_manager_of_targets_is_tried_here() -> None:
    assert list(MARKED) == [row.name for row in MANAGERS if row.bundle]


@pytest.mark.parametrize("manager", MARKED)
def test_a_target_of_another_manager_is_refused_with_the_remedy_unless_accepted(manager: str) -> None:
    obj = marked(manager)
    with pytest.raises(OwnedTargetError) as caught:
        bundle_targets.check_managers(VALIDATING, obj)
    (found,) = bundle_targets.find_managers(VALIDATING, obj)
    assert caught.value.code == "owned-by-another"
    assert found.manager.name == manager
    assert {VALIDATING.name, *manager.split()} <= set(caught.value.cause.split())
    assert caught.value.evidence == found.evidence
    remedy = bundle_targets.remedy_for(VALIDATING, found.manager)
    option = f"accept: [{{{found.manager.key}: [ValidatingWebhookConfiguration/hooks]}}]"
    assert caught.value.remedy == f"{remedy}. Or write it nevertheless with {option}"
    for accepted in (
        ("helm", "") if found.manager.key != "helm" else ("flux", ""),
        (found.manager.key, "MutatingWebhookConfiguration/hooks"),
    ):
        with pytest.raises(OwnedTargetError):
            bundle_targets.check_managers(VALIDATING, obj, consent=Consent(frozenset({accepted})))
    for place in ("", f"ValidatingWebhookConfiguration/{VALIDATING.name}"):
        bundle_targets.check_managers(
            VALIDATING, obj, consent=Consent(frozenset({(found.manager.key, place)}))
        )


@pytest.mark.parametrize("mode", REMOVING)
@pytest.mark.parametrize("manager", MARKED)
def test_certificates_of_a_bundle_writer_are_not_removed_even_if_accepted(manager: str, mode: str) -> None:
    obj = marked(manager)
    assert (bundle_targets.find_bundle_writer(VALIDATING, obj) is not None) == (manager in WRITERS)
    if manager not in WRITERS:
        bundle_targets.check_managers(VALIDATING, obj, removes=mode, consent=EVERYTHING)
        return
    for consent in (NOTHING, EVERYTHING):
        with fails("managed-bundle", mode) as caught:
            bundle_targets.check_managers(VALIDATING, obj, removes=mode, consent=consent)
        assert caught.value.evidence
        offers_add = "accept:" in caught.value.remedy
        assert offers_add == (manager == "cert-manager"), "the other two overwrite what is added"


def test_a_bundle_writer_is_found_beside_a_manager_that_applies() -> None:
    metadata = {**INJECTED, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    writer = bundle_targets.find_bundle_writer(VALIDATING, {"metadata": metadata})
    assert writer is not None
    assert writer.manager.name == "cert-manager"
    with fails("owned-by-another", "cert-manager", "Helm"):
        bundle_targets.check_managers(VALIDATING, {"metadata": metadata})


@pytest.mark.parametrize("metadata", [{}, {"labels": {"reconcile.external-secrets.io/managed": "true"}}])
def test_an_object_without_a_manager_of_bundles_is_free(metadata: dict[str, Any]) -> None:
    assert bundle_targets.find_managers(VALIDATING, {"metadata": metadata}) == ()
    assert bundle_targets.find_bundle_writer(VALIDATING, {"metadata": metadata}) is None
    bundle_targets.check_managers(VALIDATING, {"metadata": metadata}, removes="exactly")


@pytest.mark.parametrize(
    ("target", "group", "expression"),
    [
        (VALIDATING, "admissionregistration.k8s.io", ".webhooks[]?.clientConfig.caBundle"),
        (DEFINITION, "apiextensions.k8s.io", ".spec.conversion.webhook.clientConfig.caBundle"),
    ],
)
def test_the_remedy_for_argo_cd_is_ready_to_paste(target: Target, group: str, expression: str) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with ansible-core")
    metadata = {"annotations": {"argocd.argoproj.io/tracking-id": "app:..."}}
    (found,) = bundle_targets.find_managers(target, {"metadata": metadata})
    spec = yaml.safe_load(bundle_targets.remedy_for(target, found.manager).partition(": ")[2])
    difference = {"group": group, "kind": target.kind, "name": target.name, "jqPathExpressions": [expression]}
    assert spec == {
        "ignoreDifferences": [difference],
        "syncPolicy": {"syncOptions": ["RespectIgnoreDifferences=true"]},
    }
