# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if the API server asks a webhook about a request. Pure.

A created object proves nothing if the webhook is not asked about it. The rules are those of
k8s.io/apiserver pkg/admission/plugin/webhook (generic/webhook.go ShouldCallHook, predicates/); conditions in CEL are
not evaluated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .._base.errors import check_shape

Object = Mapping[str, Any]
Labels = Mapping[str, str]

# The API server asks no webhook about these kinds, so that a broken webhook can be repaired: predicates/rules/rules.go.
EXEMPT_GROUP = "admissionregistration.k8s.io"
EXEMPT_KINDS = frozenset(
    f"{effect}{suffix}"
    for effect in ("Validating", "Mutating")
    for suffix in ("WebhookConfiguration", "AdmissionPolicy", "AdmissionPolicyBinding")
)


# Why a match is not known.
VERSIONS, NAMESPACES, CONDITIONS = "rule-versions", "namespaces", "match-conditions"
# The groups of Kubernetes whose objects are in namespaces, and the exceptions.
_NAMESPACED_GROUPS = frozenset(("", "apps", "autoscaling", "batch", "policy"))
_CLUSTER_SCOPED = frozenset(("*", "componentstatuses", "namespaces", "nodes", "persistentvolumes"))
# Groups that serve the same stored objects (pkg/kubeapiserver/default_storage_factory_builder.go).
_SAME_OBJECTS: Mapping[str, tuple[str, ...]] = {"events": ("", "events.k8s.io")}


_CONNECTED = frozenset(("attach", "exec", "portforward", "proxy"))
#: (group, version) -> resource or RESOURCE/SUBRESOURCE -> its scope. The resources are None if they are not known.
ServedResources = Mapping[tuple[str, str], Optional[Mapping[str, str]]]


@dataclass(frozen=True)
class AdmissionRequest:
    """One request, as the API server compares it with webhooks."""

    group: str
    version: str
    resource: str
    kind: str = ""
    #: "" for an object outside of namespaces, and for a Namespace itself.
    namespace: str = ""
    #: The labels of the object in the request. That is not always the resource: a Binding, an Eviction, a Scale and a TokenRequest have
    #: their own. None without an object that can have labels: DELETE and CONNECT.
    labels: Labels | None = field(default_factory=dict)
    #: None if they could not be read.
    namespace_labels: Labels | None = field(default_factory=dict)
    #: CREATE, UPDATE, DELETE or CONNECT.
    operation: str = "CREATE"
    #: "" for the resource itself.
    subresource: str = ""
    #: The labels of the stored object, None without it: CREATE and CONNECT.
    old_labels: Labels | None = None

    def __str__(self) -> str:
        subresource, group = self.subresource and f"/{self.subresource}", self.group and f".{self.group}"
        place = f"in {self.namespace}" if self.namespace else "outside of namespaces"
        return f"{self.resource}{subresource}{group} {place}"


@dataclass(frozen=True)
class AdmissionMatch:
    """Whether the API server asks a webhook about a request."""

    #: None if that is not known.
    is_asked: bool | None
    #: Why the webhook is not asked, or why that is not known. "" if it is asked.
    reason: str = ""
    #: VERSIONS, NAMESPACES or CONDITIONS if it is not known, "" otherwise.
    source: str = ""


ASKED = AdmissionMatch(True)


def match(webhook: Object, request: AdmissionRequest) -> AdmissionMatch:
    """Decide by the rules, the selectors and the conditions of one webhook. Raises MalformedObject."""
    with check_shape("the webhook"):
        result = ASKED
        for part in PARTS:
            answer = part(webhook, request)
            # What is certainly not asked for one reason is not asked, whatever the other parts answer.
            if answer.is_asked is False:
                return answer
            result = answer if result.is_asked else result
    return result


@check_shape("the webhook")
def find_reason_for_none(
    webhook: Object, namespaces: Mapping[str, Mapping[str, str]] | None, served: ServedResources | None = None
) -> str:
    """Return why the API server asks the webhook about no object now, "" if it may ask it. Raises MalformedObject.

    namespaces: name -> labels, None if they are not known. served: None if it is not known.
    """
    rules, selector = webhook.get("rules") or (), webhook.get("namespaceSelector") or {}
    is_exact = webhook.get("matchPolicy") == "Exact"
    if not rules:
        return "it has no rule"
    if served is not None and not any(_may_match(rule, served, is_exact=is_exact) for rule in rules):
        return "its rules name nothing that the API server serves"
    if not _can_select(webhook.get("objectSelector") or {}):
        return "its objectSelector contradicts itself"
    constant = [
        entry.get("name")
        for entry in webhook.get("matchConditions") or ()
        if entry.get("expression", "").strip() == "false"
    ]
    if constant:
        return f"its matchCondition {constant[0]} is always false"
    selected = [name for name, labels in (namespaces or {}).items() if _selects(selector, labels)]
    if namespaces is None or selected or not all(map(_is_namespaced, rules)):
        return ""
    return "its namespaceSelector selects no namespace of the cluster"


def _may_match(rule: Object, served: ServedResources, *, is_exact: bool) -> bool:
    """Return True if the rule names a resource that is served, or may be.

    Without Exact, a rule may name a version that a CustomResourceDefinition has and does not serve. Their groups have a dot.
    """
    groups, scope = rule.get("apiGroups"), rule.get("scope", "*")
    for (group, version), resources in served.items():
        has_unserved = "." in group and not is_exact
        is_named = _listed(groups, group) and (has_unserved or _listed(rule.get("apiVersions"), version))
        if is_named and (
            resources is None
            or any(_is_in(rule, group, *entry) for entry in resources.items() if scope in ("*", entry[1]))
        ):
            return True
    return False


def _is_in(rule: Object, group: str, resource: str, _scope: str) -> bool:
    """Return True if the rule names the resource, with an operation that it has. Only some subresources of Kubernetes are connected to."""
    name, _slash, subresource = resource.partition("/")
    operations = rule.get("operations") or ()
    is_connected = subresource in _CONNECTED if group in _NAMESPACED_GROUPS else True
    return (is_connected or {*operations} != {"CONNECT"}) and any(
        part[0] in ("*", name) and part[2] in ("*", subresource)
        for part in (text.partition("/") for text in rule.get("resources") or ())
    )


def _can_select(selector: Object) -> bool:
    """Return True if an object may have labels that the selector selects. Each key is judged by itself."""
    wanted = selector.get("matchLabels") or {}
    terms = list(selector.get("matchExpressions") or ())
    for key in {*wanted, *(entry["key"] for entry in terms)}:
        own = [entry for entry in terms if entry["key"] == key]
        values = {value for entry in own for value in entry.get("values") or ()} | {wanted.get(key, ""), "\0"}
        part = {"matchLabels": {key: wanted[key]} if key in wanted else {}, "matchExpressions": own}
        if not any(_selects(part, labels) for labels in ({}, *({key: value} for value in values))):
            return False
    return True


def _is_namespaced(rule: Object) -> bool:
    """Return True if every object that the rule names is certainly in a namespace."""
    named = {text.partition("/")[0] for text in rule.get("resources") or ()}
    groups = set(rule.get("apiGroups") or ())
    return rule.get("scope") == "Namespaced" or (groups <= _NAMESPACED_GROUPS and not named & _CLUSTER_SCOPED)


def _exempt(_webhook: Object, request: AdmissionRequest) -> AdmissionMatch:
    if request.group == EXEMPT_GROUP and request.kind in EXEMPT_KINDS:
        return AdmissionMatch(False, f"the API server calls no webhook for a {request.kind}")
    return ASKED


def _rules(webhook: Object, request: AdmissionRequest) -> AdmissionMatch:
    rules = webhook.get("rules") or ()
    if any(_rule(rule, request) for rule in rules):
        return ASKED
    what = f"{request.operation} of {request}"
    if webhook.get("matchPolicy", "Equivalent") == "Equivalent":
        others = [rule for rule in rules if _rule(rule, request, any_version=True)]
        if others:
            versions = ", ".join(dict.fromkeys(text for rule in others for text in rule["apiVersions"]))
            return AdmissionMatch(
                None, f"its rules name {what} at other versions only ({versions})", VERSIONS
            )
    return AdmissionMatch(False, f"its rules do not name {what}")


def _rule(rule: Object, request: AdmissionRequest, *, any_version: bool = False) -> bool:
    is_namespaced = bool(request.namespace)
    same = _SAME_OBJECTS.get(request.resource, (request.group,)) if any_version else (request.group,)
    return (
        rule.get("scope", "*") in ("*", "Namespaced" if is_namespaced else "Cluster")
        and _listed(rule.get("operations"), request.operation)
        and any(_listed(rule.get("apiGroups"), group) for group in same)
        and (any_version or _listed(rule.get("apiVersions"), request.version))
        and any(_resource(text, request) for text in rule.get("resources") or ())
    )


def _resource(text: str, request: AdmissionRequest) -> bool:
    """Return True if an entry of a rule names the resource: "pods" and "*" without subresources, "pods/*", "*/status", "*/*"."""
    name, _slash, subresource = text.partition("/")
    return name in ("*", request.resource) and subresource in ("*", request.subresource)


def _listed(items: Any, wanted: str) -> bool:
    return "*" in (items or ()) or wanted in (items or ())


def _namespace_selector(webhook: Object, request: AdmissionRequest) -> AdmissionMatch:
    selector = webhook.get("namespaceSelector") or {}
    is_namespace = request.group == "" and request.resource == "namespaces"
    if not _terms(selector) or not (request.namespace or is_namespace):
        return ASKED
    labels = request.namespace_labels
    if is_namespace:
        labels = request.old_labels if request.labels is None else request.labels
    if labels is None:
        words = f"the labels of namespace {request.namespace} may not be read"
        return AdmissionMatch(None, words, NAMESPACES)
    if _selects(selector, labels):
        return ASKED
    return AdmissionMatch(
        False, f"its namespaceSelector leaves out namespace {request.namespace or 'itself'}"
    )


def _object_selector(webhook: Object, request: AdmissionRequest) -> AdmissionMatch:
    selector = webhook.get("objectSelector") or {}
    labelled = [labels for labels in (request.labels, request.old_labels) if labels is not None]
    if not _terms(selector) or any(_selects(selector, labels) for labels in labelled):
        return ASKED
    return AdmissionMatch(False, "its objectSelector leaves out an object with these labels")


def _conditions(webhook: Object, _request: AdmissionRequest) -> AdmissionMatch:
    if not webhook.get("matchConditions"):
        return ASKED
    names = ", ".join(str(entry.get("name")) for entry in webhook["matchConditions"])
    return AdmissionMatch(None, f"its matchConditions ({names}) are not evaluated here", CONDITIONS)


PARTS: tuple[Callable[[Object, AdmissionRequest], AdmissionMatch], ...] = (
    _exempt,
    _rules,
    _namespace_selector,
    _object_selector,
    _conditions,
)


def _terms(selector: Object) -> bool:
    return bool(selector.get("matchLabels") or selector.get("matchExpressions"))


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _OPERATORS[entry["operator"]](labels.get(entry["key"]), entry.get("values") or ())
        for entry in selector.get("matchExpressions") or ()
    )


# k8s.io/apimachinery pkg/labels/selector.go: NotIn is true as well where there is no such label.
_OPERATORS: dict[str, Callable[[str | None, Any], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _values: value is not None,
    "DoesNotExist": lambda value, _values: value is None,
}
