# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write what each judge of owners answers for each mark of an owner to owner_answers.txt.

`python3 -m tools.ci.enter dev -m tests.unit.plugins.module_utils._base.owner_answers` writes it, a test compares.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from ansible_collections.certflow.kubernetes.plugins.module_utils._base.accept import Consent
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.errors import CertflowError
from ansible_collections.certflow.kubernetes.plugins.module_utils._base.object_managers import MANAGERS
from ansible_collections.certflow.kubernetes.plugins.module_utils._csr import secret_content
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import bundle_repairs
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.repair_model import RepairOptions
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import (
    find_origin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import Reference
from ansible_collections.certflow.kubernetes.plugins.module_utils._upgrade.steps import (
    field_ownership,
    ownership,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import service_callers
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles import bundle_targets
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    Target,
)

from tests.support.accepted import accepting
from tests.support.certificates.authority import NOW
from tests.unit.plugins.module_utils._csr.flow import found, intent

PAGE = Path(__file__).with_name("owner_answers.txt")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BUNDLE: dict[str, Any] = {"f:webhooks": {'k:{"name":"h"}': {"f:clientConfig": {"f:caBundle": {}}}}}
TEMPLATE: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {}}, "f:replicas": {}}}
LABELS: dict[str, Any] = {"f:metadata": {"f:labels": {"f:team": {}}}}
APPLIED_BUNDLE = json.dumps({"webhooks": [{"name": "h", "clientConfig": {"caBundle": "eA=="}}]})

ANNOTATIONS = (
    "cert-manager.io/inject-ca-from=a/b",
    "cert-manager.io/inject-apiserver-ca=false",
    "cert-manager.io/certificate-name=a",
    "cert-manager.io/issuer-name=",
    "cert-manager.io/allow-direct-injection=true",
    "reconcile.external-secrets.io/data-hash=a",
    "service.beta.openshift.io/inject-cabundle=true",
    "service.beta.openshift.io/originating-service-name=a",
    "include.release.openshift.io/self-managed-high-availability=true",
    "meta.helm.sh/release-name=a",
    "meta.helm.sh/release-name=rke2-snapshot-controller",
    "operatorframework.io/installed-alongside-1=a",
    "argocd.argoproj.io/tracking-id=a",
    f"{LAST_APPLIED}={{}}",
    f"{LAST_APPLIED}={APPLIED_BUNDLE}",
    f'{LAST_APPLIED}={{"kind":"Deployment","args":["--leader-election=false"]}}',
)
LABEL_MARKS = (
    "reconcile.external-secrets.io/managed=true",
    "hnc.x-k8s.io/inherited-from=a",
    "app.kubernetes.io/name=rke2-snapshot-controller",
    "k8s-addon=snapshot-controller.addons.k8s.io",
    "addon.kops.k8s.io/name=a",
    "kubeone.io/addon=",
    "addonmanager.kubernetes.io/mode=Reconcile",
    "addonmanager.kubernetes.io/mode=EnsureExists",
    "olm.owner=a",
    "olm.managed=false",
    "olm.operatorframework.io/owner-name=a",
    "argocd.argoproj.io/instance=a",
    "app.kubernetes.io/instance=a",
    "kustomize.toolkit.fluxcd.io/name=a",
    "app.kubernetes.io/managed-by=Helm",
    "app.kubernetes.io/managed-by=certflow.kubernetes",
    "helm.sh/chart=a",
)
#: Name and operation of field managers.
FIELD_MANAGERS = (
    *(("certflow.kubernetes", way) for way in ("Apply", "Update")),
    *(("kubectl", way) for way in ("Apply", "Update")),
    *((name, "Update") for name in ("kubectl-client-side-apply", "kubectl-create", "kubectl-edit", "kubectl-patch")),
    *((name, "Update") for name in ("before-first-apply", "OpenAPI-Generator", "kube-controller-manager")),
    *(("helm", way) for way in ("Apply", "Update")),
    *((name, "Update") for name in ("eks", "cluster-csi-snapshot-controller-operator", "admissionsenforcer")),
    *((name, "Update") for name in ("cert-manager-cainjector", "rancher", "flux", "helm-controller")),
    *((name, "Apply") for name in ("argocd-controller", "kustomize-controller", "argocd-application-controller")),
    *(("my-operator", way) for way in ("Apply", "Update")),
)  # fmt: skip
OWNED = {"ownerReferences": [{"kind": "Example", "name": "a", "uid": "1"}]}


def _pair(text: str) -> dict[str, str]:
    key, _equals, value = text.partition("=")
    return {key: value}


def _fields(name: str, operation: str, fields: dict[str, Any]) -> dict[str, Any]:
    entry = {"manager": name, "operation": operation, "time": "2026-01-01T00:00:00Z", "fieldsV1": fields}
    return {"managedFields": [entry]}


def _marks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each mark with the metadata that have it."""
    yield "nothing", {}
    for text in ANNOTATIONS:
        yield f"annotation {text[:70]}", {"annotations": _pair(text)}
    for text in LABEL_MARKS:
        yield f"label {text}", {"labels": _pair(text)}
    for name, operation in FIELD_MANAGERS:
        for what, fields in (("bundle", BUNDLE), ("template", TEMPLATE), ("labels", LABELS)):
            yield f"{name} {operation} {what}", _fields(name, operation, fields)
    yield "ownerReference", OWNED
    both = {
        "annotations": {"meta.helm.sh/release-name": "a"},
        "labels": {"kustomize.toolkit.fluxcd.io/name": "a"},
    }
    yield "helm and flux", both
    yield "helm and ownerReference", {"annotations": {"meta.helm.sh/release-name": "a"}, **OWNED}
    yield "helm, and its field", {**_fields("helm", "Update", BUNDLE), "labels": _pair("app.kubernetes.io/managed-by=Helm")}  # fmt: skip
    ours = _fields("certflow.kubernetes", "Apply", TEMPLATE)
    yield "ours, and kubectl's annotation", {**ours, "annotations": {LAST_APPLIED: "{}"}}
    yield "cert-manager, and our field", {**_fields("certflow.kubernetes", "Update", BUNDLE), "annotations": _pair(ANNOTATIONS[0])}  # fmt: skip


Answer = Callable[[dict[str, Any], Consent], str]
TARGET = Target("ValidatingWebhookConfiguration", "hooks")
ACCOUNT = Reference("ServiceAccount", "snapshot-controller", "kube-system")


def _webhooks(metadata: dict[str, Any]) -> dict[str, Any]:
    service = {"service": {"namespace": "apps", "name": "hook"}, "caBundle": "eA=="}
    full = {"name": "hooks", "resourceVersion": "1", "uid": "1", **metadata}
    return {"metadata": full, "webhooks": [{"name": "h", "clientConfig": service}]}


def _raised(judge: Callable[[], object]) -> str:
    try:
        judge()
    except CertflowError as error:
        return str(error.code)
    return ""


def _secret(metadata: dict[str, Any], consent: Consent) -> str:
    words = [word for word, _place in consent.items]
    # Without a pair, whose key is not judged and takes longer to read than the rest.
    secret = found(data={"tls.crt": None, "tls.key": None}, **metadata)
    return _raised(lambda: secret_content.refuse_foreign(secret, intent(accept=words)))


def _bundle(metadata: dict[str, Any], consent: Consent) -> str:
    return _raised(lambda: bundle_targets.check_managers(TARGET, _webhooks(metadata), consent=consent))


def _bundle_exactly(metadata: dict[str, Any], consent: Consent) -> str:
    obj = _webhooks(metadata)
    return _raised(lambda: bundle_targets.check_managers(TARGET, obj, removes="exactly", consent=consent))


def _discovered(metadata: dict[str, Any], _consent: Consent) -> str:
    caller = service_callers.judge(TARGET, _webhooks(metadata), ("apps", "hook"))
    assert caller is not None
    return "" if caller.is_usable else "skipped"


def _edited(metadata: dict[str, Any], consent: Consent, mode: str) -> str:
    (config,) = bundle_targets.client_configs(TARGET, _webhooks({}))
    edit = bundle_repairs.BundleEdit(config, "", (), False, mode)
    options = RepairOptions((), consent=consent)
    refusal = bundle_repairs.find_obstacle(TARGET, _webhooks(metadata), edit, options, NOW)
    return refusal.code if refusal else ""


def _repaired(metadata: dict[str, Any], consent: Consent) -> str:
    return _edited(metadata, consent, "add")


def _repair_removes(metadata: dict[str, Any], consent: Consent) -> str:
    return _edited(metadata, consent, "absent")


def _planned(metadata: dict[str, Any], consent: Consent) -> str:
    origin = find_origin({"metadata": {"name": "snapshot-controller", **metadata}})
    refused = [
        owner.key or "ours"
        for owner in (origin, *origin.others)
        if owner.key and not owner.is_accepted(consent, ACCOUNT)
    ]
    return "+".join(refused)


def _written(metadata: dict[str, Any], consent: Consent) -> str:
    live = {"kind": "ServiceAccount", "metadata": {"name": "snapshot-controller", **metadata}}
    client = cast("Client", None)  # the judge of an account reads nothing
    return _raised(lambda: ownership.refuse_others(client, ACCOUNT, live, consent=consent))


def _moved(metadata: dict[str, Any], consent: Consent) -> str:
    names = field_ownership.managers_to_move(consent, ACCOUNT)
    entries = metadata.get("managedFields") or ()
    return "" if all(field_ownership.is_movable(entry, names) for entry in entries) else "stays"


JUDGES: dict[str, Answer] = {
    "k8s_csr: the Secret": _secret,
    "a CA is added to a target": _bundle,
    "a target has exactly this CA": _bundle_exactly,
    "a target is discovered": _discovered,
    "a repair adds a CA": _repaired,
    "a repair removes a CA": _repair_removes,
    "the plan of an upgrade": _planned,
    "the write of an upgrade": _written,
    "an apply moves fields": _moved,
}
WORDS = (
    *(row.key for row in MANAGERS),
    "foreign-secret",
    *(f"manager:{name}" for name in dict(FIELD_MANAGERS)),
)


def _answer(judge: Answer, metadata: dict[str, Any]) -> str:
    """Return "yes", or the code of the refusal with the least words that lift it."""
    code = judge(metadata, accepting())
    if not code:
        return "yes"
    if judge(metadata, accepting(*WORDS)):
        return f"{code}, always"
    for size in (1, 2):
        sets = [
            words for words in itertools.combinations(WORDS, size) if not judge(metadata, accepting(*words))
        ]
        if sets:
            named = " or ".join("+".join(words) for words in sets)
            return f"{code}, unless " + ("a word of a manager" if len(sets) > 9 else named)
    return f"{code}, unless more than two words"


def page() -> str:
    """Return the answers: for each judge the marks, grouped by the answer. The largest group is not listed."""
    lines = []
    for name, judge in JUDGES.items():
        groups: dict[str, list[str]] = {}
        for mark, metadata in _marks():
            groups.setdefault(_answer(judge, metadata), []).append(mark)
        usual = max(groups, key=lambda answer: len(groups[answer]))
        lines += ["", name, f"  {usual}: {len(groups.pop(usual))} marks"]
        for answer, marks in sorted(groups.items()):
            lines += [f"  {answer}", *(f"    {mark}" for mark in marks)]
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
