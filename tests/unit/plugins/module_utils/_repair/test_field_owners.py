# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns a caBundle: the field counts, and not the marks of the object."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._base import accept
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.bundle_repairs import (
    BundleEdit,
    find_obstacle,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import (
    Refusal,
    RepairOptions,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
    Target,
)

from tests.support.certificates.authority import NOW

TARGET = Target("ValidatingWebhookConfiguration", "example")
FIELD: dict[str, Any] = {"f:webhooks": {'k:{"name":"a.example.com"}': {"f:clientConfig": {"f:caBundle": {}}}}}
RULES: dict[str, Any] = {"f:webhooks": {'k:{"name":"a.example.com"}': {"f:rules": {}}}}
LISTED = {"webhooks": [{"name": "a.example.com", "clientConfig": {"caBundle": ""}}]}
UNLISTED = {"webhooks": [{"name": "a.example.com", "clientConfig": {}}]}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
APPLIES = "manager:kubectl-client-side-apply"


def managed(name: str, operation: str = "Update", fields: Any = None) -> dict[str, Any]:
    return {"manager": name, "operation": operation, "fieldsV1": FIELD if fields is None else fields}


INJECTS = "service.beta.openshift.io/inject-cabundle"
# Managers of fields, annotations, labels, and the words of the option accept that the write needs.
CASES: list[tuple[list[dict[str, Any]], dict[str, str], dict[str, str], set[str]]] = [
    ([], {}, {}, set()),
    ([managed("certflow.kubernetes")], {}, {}, set()),
    ([managed("certflow.kubernetes-like")], {}, {}, {"manager:certflow.kubernetes-like"}),
    ([managed("kubectl-edit")], {}, {}, set()),
    ([managed("kubectl", "Apply")], {}, {}, {"manager:kubectl"}),
    ([managed("helm", fields=RULES)], {"meta.helm.sh/release-name": "a"}, {}, set()),
    ([managed("helm")], {}, {}, {"helm"}),
    ([managed("argocd-controller", "Apply")], {}, {}, {"argocd"}),
    ([managed("argocd-controller", "Apply", RULES)], {"argocd.argoproj.io/tracking-id": "a"}, {}, set()),
    ([managed("kustomize-controller", "Apply")], {}, {}, {"flux"}),
    ([managed("eks", "Apply")], {}, {}, {"eks"}),
    ([managed("cert-manager-cainjector", "Apply")], {}, {}, {"cert-manager"}),
    ([managed("pilot-discovery")], {}, {}, {"manager:pilot-discovery"}),
    ([managed("a"), managed("b", "Apply")], {}, {}, {"manager:a", "manager:b"}),
    ([], {"cert-manager.io/inject-ca-from": "a/b"}, {}, {"cert-manager"}),
    ([], {"service.beta.openshift.io/inject-cabundle": "true"}, {}, {"openshift-service-ca"}),
    ([], {}, {"olm.owner": "a"}, {"olm"}),
    ([managed("kubectl-client-side-apply")], {LAST_APPLIED: json.dumps(LISTED)}, {}, {APPLIES}),
    ([managed("kubectl-client-side-apply")], {LAST_APPLIED: json.dumps(UNLISTED)}, {}, set()),
    ([], {LAST_APPLIED: "not JSON"}, {}, set()),
    ([], {LAST_APPLIED: "[" * 100000}, {}, set()),
    ([], {LAST_APPLIED: '{"a":' * 5000 + "1" + "}" * 5000}, {}, set()),
    ([], {LAST_APPLIED: json.dumps({"webhooks": [1, {"name": {}}]})}, {}, set()),
]


def find_owner(
    target: Target, obj: Any, webhook: str, consent: accept.Consent, *, secures: bool = False
) -> Refusal | None:
    edit = BundleEdit(ClientConfig(webhook, "", "", "", None, ""), "", (), secures)
    return find_obstacle(target, obj, edit, RepairOptions((), consent=consent), NOW)


@pytest.mark.parametrize(("fields", "annotations", "labels", "words"), CASES)
def test_the_words_that_a_write_needs(
    fields: list[dict[str, Any]], annotations: dict[str, str], labels: dict[str, str], words: set[str]
) -> None:
    obj = {"metadata": {"managedFields": fields, "annotations": annotations, "labels": labels}}

    def refused(*accepted: Any) -> bool:
        consent = accept.parse(accepted)
        return find_owner(TARGET, obj, "a.example.com", consent) is not None

    assert refused() == bool(words)
    assert not refused(*words)
    assert not refused(*({word: ["ValidatingWebhookConfiguration/example"]} for word in words))
    refusal = find_owner(TARGET, obj, "a.example.com", accept.NOTHING)
    remedy = refusal.remedy if refusal else ""
    assert all(f"{word}" in remedy for word in words)
    for word in words:
        assert refused(*(words - {word}))
        assert refused({word: ["ValidatingWebhookConfiguration/other"]})


@pytest.mark.parametrize("name", ["cert-manager", "openshift-service-ca"])
def test_nothing_is_removed_from_a_bundle_that_another_manager_fills(name: str) -> None:
    """Such a manager writes its certificates again, so the other modules refuse it whatever the user accepts."""
    annotation = {"cert-manager": "cert-manager.io/inject-ca-from", "openshift-service-ca": INJECTS}[name]
    obj = {"metadata": {"annotations": {annotation: "true"}}}
    edit = BundleEdit(ClientConfig("a.example.com", "", "", "", None, ""), "", (), mode="absent")
    options = RepairOptions((), consent=accept.parse([name]))
    refusal = find_obstacle(TARGET, obj, edit, options, NOW)
    assert refusal is not None
    assert refusal.code == "managed-bundle"
    assert find_obstacle(TARGET, obj, replace(edit, mode="add"), options, NOW) is None


def test_the_owner_of_the_field_that_ends_insecurity() -> None:
    target = Target("APIService", "v1.example.com")
    fields: dict[str, Any] = {"f:spec": {"f:insecureSkipTLSVerify": {}}}
    obj = {"metadata": {"managedFields": [managed("helm", fields=fields)]}}
    assert find_owner(target, obj, "", accept.NOTHING) is None
    refusal = find_owner(target, obj, "", accept.NOTHING, secures=True)
    assert refusal is not None
    assert refusal.code == "owned-by-another"
