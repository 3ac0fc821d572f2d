# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written to an object that has another writer, and what never is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils import _managers
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import target_managers
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundle_targets import Target
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.errors import OwnedTargetError

from tests.support.failures import fails

VALIDATING = Target("ValidatingWebhookConfiguration", "hooks")
DEFINITION = Target("CustomResourceDefinition", "things.example.com")
INJECTED = {"annotations": {"cert-manager.io/inject-ca-from": "ns/cert"}}
# Writer -> one of its marks.
MARKS: dict[str, dict[str, Any]] = {
    "cert-manager": INJECTED,
    "OpenShift's service CA": {"annotations": {"service.beta.openshift.io/inject-cabundle": "true"}},
    "Operator Lifecycle Manager": {"labels": {"olm.owner": "op.v1"}},
    "Operator Lifecycle Manager v1": {"labels": {"olm.operatorframework.io/owner-name": "op"}},
    "Amazon EKS add-ons": {"managedFields": [{"manager": "eks"}]},
    "Argo CD": {"annotations": {"argocd.argoproj.io/tracking-id": "app:..."}},
    "Flux": {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
    "Helm": {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
}
LIVE = ("cert-manager", "OpenShift's service CA", "Operator Lifecycle Manager")
REMOVING = ("exactly", "absent")


def marked(writer: str) -> dict[str, Any]:
    return {"metadata": MARKS[writer]}


def test_every_writer_of_targets_is_tried_here() -> None:
    assert list(MARKS) == [writer.name for writer in _managers.WRITERS if writer.for_targets]


@pytest.mark.parametrize("writer", MARKS)
def test_a_target_of_another_writer_is_refused_with_the_remedy_unless_taken_over(writer: str) -> None:
    obj = marked(writer)
    with pytest.raises(OwnedTargetError) as caught:
        target_managers.check(VALIDATING, obj)
    (owner,) = target_managers.owners(VALIDATING, obj)
    assert caught.value.code == "owned-by-another"
    assert owner.writer == writer
    assert {VALIDATING.name, *writer.split()} <= set(caught.value.cause.split())
    assert caught.value.evidence == owner.evidence
    assert caught.value.remedy == f"{owner.remedy}. Or write it nevertheless with take_over: true"
    target_managers.check(VALIDATING, obj, take_over=True)


@pytest.mark.parametrize("mode", REMOVING)
@pytest.mark.parametrize("writer", MARKS)
def test_what_a_live_writer_wrote_is_not_removed_even_when_taken_over(writer: str, mode: str) -> None:
    obj = marked(writer)
    assert (target_managers.live_writer(VALIDATING, obj) is not None) == (writer in LIVE)
    if writer not in LIVE:
        target_managers.check(VALIDATING, obj, removes=mode, take_over=True)
        return
    for take_over in (False, True):
        with fails("managed-bundle", mode) as caught:
            target_managers.check(VALIDATING, obj, removes=mode, take_over=take_over)
        assert caught.value.evidence
        offers_add = "take_over:" in caught.value.remedy
        assert offers_add == (writer == "cert-manager"), "the others overwrite what is added"


def test_a_live_writer_is_found_behind_one_that_applies() -> None:
    metadata = {**INJECTED, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    owner = target_managers.live_writer(VALIDATING, {"metadata": metadata})
    assert owner is not None
    assert owner.writer == "cert-manager"
    with fails("owned-by-another", "cert-manager", "Helm"):
        target_managers.check(VALIDATING, {"metadata": metadata})


@pytest.mark.parametrize("metadata", [{}, {"labels": {"reconcile.external-secrets.io/managed": "true"}}])
def test_an_object_without_a_writer_of_bundles_is_free(metadata: dict[str, Any]) -> None:
    assert target_managers.owners(VALIDATING, {"metadata": metadata}) == ()
    assert target_managers.live_writer(VALIDATING, {"metadata": metadata}) is None
    target_managers.check(VALIDATING, {"metadata": metadata}, removes="exactly")


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
    (owner,) = target_managers.owners(target, {"metadata": metadata})
    spec = yaml.safe_load(owner.remedy.partition(": ")[2])
    difference = {"group": group, "kind": target.kind, "name": target.name, "jqPathExpressions": [expression]}
    assert spec == {
        "ignoreDifferences": [difference],
        "syncPolicy": {"syncOptions": ["RespectIgnoreDifferences=true"]},
    }
