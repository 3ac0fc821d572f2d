# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Other writers of an object, recognised by the marks that they leave on it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ._targets import KINDS, Object, Target

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Owner:
    """writer: its name; evidence: the marks found; remedy: how to get the wanted bundle nevertheless."""

    writer: str
    evidence: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Writer:
    """marks: (place, pattern) pairs; place is annotation, label or manager; pattern is "key" or "key=value".

    remedy may hold {group}, {kind}, {name} of the object and {expression}, the jq path of its caBundle.
    """

    name: str
    marks: tuple[tuple[str, str], ...]
    remedy: str
    source: str


WRITERS = (
    Writer(
        "cert-manager",
        (
            ("annotation", "cert-manager.io/inject-ca-from"),
            ("annotation", "cert-manager.io/inject-ca-from-secret"),
            ("annotation", "cert-manager.io/inject-apiserver-ca"),
        ),
        "Let cert-manager's Certificate serve this webhook, or remove the annotation",
        source="https://cert-manager.io/docs/concepts/ca-injector/",
    ),
    Writer(
        "OpenShift's service CA",
        (("annotation", "service.beta.openshift.io/inject-cabundle=true"),),
        "Use the Service's annotation service.beta.openshift.io/serving-cert-secret-name, or remove this annotation",
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
        "OLM issues this webhook's certificate itself: leave it to the ClusterServiceVersion",
        source="https://github.com/operator-framework/operator-lifecycle-manager",
    ),
    Writer(
        "Amazon EKS add-ons",
        (("manager", "eks"),),
        "Change it through the add-on's configuration, with conflict resolution PRESERVE",
        source="https://docs.aws.amazon.com/eks/latest/userguide/kubernetes-field-management.html",
    ),
    Writer(
        "Argo CD",
        (
            ("annotation", "argocd.argoproj.io/tracking-id"),
            ("label", "argocd.argoproj.io/instance"),
            ("manager", "argocd-controller"),
        ),
        "Put into the Application's spec: {{ignoreDifferences: [{{group: {group}, kind: {kind}, name: {name}, "
        "jqPathExpressions: ['{expression}']}}], syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}}}}",
        source="https://argo-cd.readthedocs.io/en/stable/user-guide/diffing/",
    ),
    Writer(
        "Flux",
        (
            ("label", "kustomize.toolkit.fluxcd.io/name"),
            ("label", "helm.toolkit.fluxcd.io/name"),
            ("manager", "kustomize-controller"),
        ),
        "Leave caBundle out of the manifest that Flux applies, so that it does not reset it",
        source="https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources",
    ),
    Writer(
        "Helm",
        (("label", "app.kubernetes.io/managed-by=Helm"), ("annotation", "meta.helm.sh/release-name")),
        "Leave caBundle out of the chart's values and templates, so that an upgrade does not reset it",
        source="https://helm.sh/docs/faq/changes_since_helm2/#improved-upgrade-strategy-3-way-strategic-merge-patches",
    ),
)


def owners(target: Target, obj: Object) -> tuple[Owner, ...]:
    """Return the other writers whose marks the object carries, in the order of the table."""
    present = tuple(_marks_of(obj))
    context = {
        "group": KINDS[target.kind].group,
        "kind": target.kind,
        "name": target.name,
        "expression": KINDS[target.kind].expression,
    }
    found = []
    for writer in WRITERS:
        evidence = tuple(
            f"{place} {key}: {value}" if value else f"field {place} {key}"
            for place, key, value in present
            if any(_matches(pattern, key, value) for where, pattern in writer.marks if where == place)
        )
        if evidence:
            found.append(Owner(writer.name, evidence, writer.remedy.format(**context)))
    return tuple(found)


def _marks_of(obj: Object) -> Iterator[tuple[str, str, str]]:
    metadata = obj["metadata"]
    for place, field in (("annotation", "annotations"), ("label", "labels")):
        yield from ((place, key, value) for key, value in (metadata.get(field) or {}).items() if value)
    for manager in sorted({entry.get("manager", "") for entry in metadata.get("managedFields") or ()}):
        yield "manager", manager, ""


def _matches(pattern: str, key: str, value: str) -> bool:
    wanted_key, _equals, wanted_value = pattern.partition("=")
    return fnmatchcase(key, wanted_key) and (not wanted_value or value == wanted_value)
