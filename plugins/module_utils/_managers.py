# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Other writers of objects, recognised by the marks that they leave in the metadata: one table for all rooms. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

#: The annotation in which `kubectl apply` keeps what it applied.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Writer:
    """One row.

    marks: (place, pattern) pairs; place is annotation, label or manager (of metadata.managedFields); pattern is "key"
    or "key=value", and the key may hold wildcards.
    bundle: what it does with a caBundle that somebody else wrote - "merges" or "overwrites" where it writes caBundle
    itself, at any time; "applies" where it only applies a manifest, which need not hold one.
    for_targets, for_secrets: what to do on an object with a caBundle, on a Secret, instead of overruling it; empty
    where it has no such objects. for_targets may hold {group}, {kind}, {name} of the object, and {expression}, the jq
    path of its caBundle.
    """

    name: str
    marks: tuple[tuple[str, str], ...]
    bundle: str
    for_targets: str
    for_secrets: str
    source: str


# What a writer that writes caBundle itself does with one that somebody else wrote.
WRITING = ("merges", "overwrites")

# What is left out, because it outlives its writer or is no one's: the manager "helm" (a chart's crds/ carry it, and Helm
# never touches them again), cainjector's manager (it stays when the annotation goes), app.kubernetes.io/instance (Argo
# CD's mark before 3.0, and every chart's label), cert-manager.io/allow-direct-injection (the user's own wish).
WRITERS = (
    Writer(
        "cert-manager",
        (
            ("annotation", "cert-manager.io/inject-ca-from"),
            ("annotation", "cert-manager.io/inject-ca-from-secret"),
            ("annotation", "cert-manager.io/inject-apiserver-ca=true"),
            ("annotation", "cert-manager.io/certificate-name"),
            ("annotation", "cert-manager.io/issuer-name"),
        ),
        bundle="merges",
        for_targets="Let cert-manager's Certificate serve this webhook, or remove the annotation",
        for_secrets="let its Certificate make the certificate",
        source="https://cert-manager.io/docs/concepts/ca-injector/",
    ),
    Writer(
        "external-secrets",
        (
            ("label", "reconcile.external-secrets.io/managed"),
            ("label", "reconcile.external-secrets.io/created-by"),
            ("annotation", "reconcile.external-secrets.io/data-hash"),
        ),
        bundle="",
        for_targets="",
        for_secrets="change its ExternalSecret",
        source="https://external-secrets.io/latest/api/externalsecret/",
    ),
    Writer(
        "OpenShift's service CA",
        (
            ("annotation", "service.beta.openshift.io/inject-cabundle=true"),
            ("annotation", "service.alpha.openshift.io/inject-cabundle=true"),
            ("annotation", "service.beta.openshift.io/originating-service-name"),
            ("annotation", "service.alpha.openshift.io/originating-service-name"),
        ),
        bundle="overwrites",
        for_targets="Use the Service's annotation service.beta.openshift.io/serving-cert-secret-name, "
        "or remove this annotation",
        for_secrets="leave it to the Service",
        source="https://github.com/openshift/service-ca-operator",
    ),
    Writer(
        "Operator Lifecycle Manager",
        (
            ("label", "olm.owner"),
            ("label", "olm.managed=true"),
            ("label", "olm.webhook-description-generate-name"),
            ("annotation", "operatorframework.io/installed-alongside-*"),
        ),
        bundle="overwrites",
        for_targets="OLM issues this webhook's certificate itself: leave it to the ClusterServiceVersion",
        for_secrets="leave it to the ClusterServiceVersion",
        source="https://github.com/operator-framework/operator-lifecycle-manager",
    ),
    Writer(
        # It issues nothing: a bundle's webhooks get their CA from cert-manager or OpenShift's service CA.
        "Operator Lifecycle Manager v1",
        (("label", "olm.operatorframework.io/owner-name"),),
        bundle="applies",
        for_targets="Leave caBundle out of the extension's bundle, so that it does not reset it",
        for_secrets="take it out of the extension's bundle",
        source="https://github.com/operator-framework/operator-controller",
    ),
    Writer(
        "Amazon EKS add-ons",
        (("manager", "eks"),),
        bundle="applies",
        for_targets="Change it through the add-on's configuration, with conflict resolution PRESERVE",
        for_secrets="change it through the add-on's configuration",
        source="https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-field-management.html",
    ),
    Writer(
        "Argo CD",
        (
            ("annotation", "argocd.argoproj.io/tracking-id"),
            ("label", "argocd.argoproj.io/instance"),
            ("manager", "argocd-controller"),
            ("manager", "argocd-application-controller"),
        ),
        bundle="applies",
        for_targets="Put into the Application's spec: {{ignoreDifferences: [{{group: {group}, kind: {kind}, name: {name}, "
        "jqPathExpressions: ['{expression}']}}], syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}}}}",
        for_secrets="take it out of the Application",
        source="https://argo-cd.readthedocs.io/en/stable/user-guide/diffing/",
    ),
    Writer(
        "Flux",
        (
            ("label", "kustomize.toolkit.fluxcd.io/name"),
            ("label", "helm.toolkit.fluxcd.io/name"),
            ("manager", "kustomize-controller"),
            ("manager", "helm-controller"),
        ),
        bundle="applies",
        for_targets="Leave caBundle out of the manifest that Flux applies, so that it does not reset it",
        for_secrets="take it out of the Kustomization or HelmRelease",
        source="https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources",
    ),
    Writer(
        "Helm",
        (("label", "app.kubernetes.io/managed-by=Helm"), ("annotation", "meta.helm.sh/release-name")),
        bundle="applies",
        for_targets="Leave caBundle out of the chart's values and templates, so that an upgrade does not reset it",
        for_secrets="take it out of the chart",
        source="https://helm.sh/docs/faq/changes_since_helm2/#improved-upgrade-strategy-3-way-strategic-merge-patches",
    ),
)


@dataclass(frozen=True)
class Found:
    """A writer, and its marks as they were seen, "annotation KEY: VALUE" or "field manager NAME"."""

    writer: Writer
    evidence: tuple[str, ...]


def writers(metadata: Mapping[str, Any]) -> tuple[Found, ...]:
    """Return the writers whose marks an object's metadata carries, in the order of the table."""
    present = tuple(_marks(metadata))
    seen = ((writer, _evidence(writer, present)) for writer in WRITERS)
    return tuple(Found(writer, evidence) for writer, evidence in seen if evidence)


def _evidence(writer: Writer, present: tuple[tuple[str, str, str], ...]) -> tuple[str, ...]:
    return tuple(
        f"{place} {key}: {value}" if value else f"field {place} {key}"
        for place, key, value in present
        if any(where == place and _matches(pattern, key, value) for where, pattern in writer.marks)
    )


def _marks(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Whatever may be a mark, as place, key, value. An annotation or label without a value says nothing."""
    for place, field in (("annotation", "annotations"), ("label", "labels")):
        yield from ((place, key, value) for key, value in (metadata.get(field) or {}).items() if value)
    for manager in sorted({entry.get("manager", "") for entry in metadata.get("managedFields") or ()}):
        yield "manager", manager, ""


def _matches(pattern: str, key: str, value: str) -> bool:
    wanted_key, _equals, wanted_value = pattern.partition("=")
    # OpenShift takes True for true (service-ca-operator pkg/controller/api).
    return fnmatchcase(key, wanted_key) and wanted_value.casefold() in ("", value.casefold())
