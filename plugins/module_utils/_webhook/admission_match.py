# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Decide if the API server asks a webhook about the creation of an object. Pure.

A created object proves nothing if the webhook is not asked about it. The rules are those of
k8s.io/apiserver pkg/admission/plugin/webhook (generic/webhook.go ShouldCallHook, predicates/); conditions in CEL are
not evaluated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .._errors import check_shape

Object = Mapping[str, Any]

# The API server asks no webhook about these kinds, so that a broken webhook can be repaired: predicates/rules/rules.go.
EXEMPT_GROUP = "admissionregistration.k8s.io"
EXEMPT_KINDS = frozenset(
    f"{effect}{suffix}"
    for effect in ("Validating", "Mutating")
    for suffix in ("WebhookConfiguration", "AdmissionPolicy", "AdmissionPolicyBinding")
)


# The groups of Kubernetes whose objects are in namespaces, and the exceptions.
_NAMESPACED_GROUPS = frozenset(("", "apps", "autoscaling", "batch", "policy"))
_CLUSTER_SCOPED = frozenset(("*", "componentstatuses", "namespaces", "nodes", "persistentvolumes"))


@dataclass(frozen=True)
class ObjectCreation:
    """The creation of one object, or another operation on it. namespace: "" for one outside of namespaces. labels: the object's.

    namespace_labels: None where they could not be read. operation: CREATE, UPDATE, DELETE or CONNECT.
    """

    group: str
    version: str
    resource: str
    kind: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] | None = field(default_factory=dict)
    operation: str = "CREATE"


@dataclass(frozen=True)
class AdmissionMatch:
    """is_asked: None where that cannot be told. reason: why it is not, or cannot be told; "" where it is."""

    is_asked: bool | None
    reason: str = ""


ASKED = AdmissionMatch(True)


def match(webhook: Object, creation: ObjectCreation) -> AdmissionMatch:
    """Decide by the rules, the selectors and the conditions of one webhook. Raises MalformedObject."""
    with check_shape("the webhook"):
        answers = [part(webhook, creation) for part in PARTS]
    # What is certainly not asked for one reason is not asked, whatever the others would say.
    for wanted in (False, None):
        for answer in answers:
            if answer.is_asked is wanted:
                return answer
    return ASKED


def find_reason_for_none(webhook: Object, namespaces: Mapping[str, Mapping[str, str]] | None) -> str:
    """Return why the API server asks the webhook about no object now, "" if it may ask it. Raises MalformedObject.

    namespaces: name -> labels, None if they are not known.
    """
    with check_shape("the webhook"):
        rules, selector = webhook.get("rules") or (), webhook.get("namespaceSelector") or {}
        if not rules:
            return "it has no rule"
        if not _can_select(webhook.get("objectSelector") or {}):
            return "its objectSelector contradicts itself"
        selected = [name for name, labels in (namespaces or {}).items() if _selects(selector, labels)]
        if namespaces is None or selected or not all(map(_is_namespaced, rules)):
            return ""
        return "its namespaceSelector selects no namespace of the cluster"


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


def _exempt(_webhook: Object, creation: ObjectCreation) -> AdmissionMatch:
    if creation.group == EXEMPT_GROUP and creation.kind in EXEMPT_KINDS:
        return AdmissionMatch(False, f"no webhook is ever asked about a {creation.kind}")
    return ASKED


def _rules(webhook: Object, creation: ObjectCreation) -> AdmissionMatch:
    rules = webhook.get("rules") or ()
    if any(_rule(rule, creation) for rule in rules):
        return ASKED
    what = f"the creation of {_named(creation)}"
    if webhook.get("matchPolicy", "Equivalent") == "Equivalent":
        others = [rule for rule in rules if _rule(rule, creation, any_version=True)]
        if others:
            versions = ", ".join(dict.fromkeys(text for rule in others for text in rule["apiVersions"]))
            return AdmissionMatch(None, f"its rules name {what} at other versions only ({versions})")
    return AdmissionMatch(False, f"its rules do not name {what}")


def _rule(rule: Object, creation: ObjectCreation, *, any_version: bool = False) -> bool:
    is_namespaced = bool(creation.namespace)
    return (
        rule.get("scope", "*") in ("*", "Namespaced" if is_namespaced else "Cluster")
        and _listed(rule.get("operations"), creation.operation)
        and _listed(rule.get("apiGroups"), creation.group)
        and (any_version or _listed(rule.get("apiVersions"), creation.version))
        and any(_resource(text, creation.resource) for text in rule.get("resources") or ())
    )


def _resource(text: str, resource: str) -> bool:
    """A rule's entry: "pods", "*", "pods/*" (with its subresources), "*/*"; "pods/status" is not the object itself."""
    name, _slash, sub = text.partition("/")
    return name in ("*", resource) and sub in ("", "*")


def _listed(items: Any, wanted: str) -> bool:
    return "*" in (items or ()) or wanted in (items or ())


def _namespace_selector(webhook: Object, creation: ObjectCreation) -> AdmissionMatch:
    selector = webhook.get("namespaceSelector") or {}
    is_namespace = creation.group == "" and creation.resource == "namespaces"
    if not _terms(selector) or not (creation.namespace or is_namespace):
        return ASKED
    labels = creation.labels if is_namespace else creation.namespace_labels
    if labels is None:
        return AdmissionMatch(None, f"the labels of namespace {creation.namespace} may not be read")
    if _selects(selector, labels):
        return ASKED
    return AdmissionMatch(
        False, f"its namespaceSelector leaves out namespace {creation.namespace or 'itself'}"
    )


def _object_selector(webhook: Object, creation: ObjectCreation) -> AdmissionMatch:
    if _selects(webhook.get("objectSelector") or {}, creation.labels):
        return ASKED
    return AdmissionMatch(False, "its objectSelector leaves out an object with these labels")


def _conditions(webhook: Object, _creation: ObjectCreation) -> AdmissionMatch:
    if not webhook.get("matchConditions"):
        return ASKED
    names = ", ".join(str(entry.get("name")) for entry in webhook["matchConditions"])
    return AdmissionMatch(None, f"its matchConditions ({names}) are not evaluated here")


PARTS: tuple[Callable[[Object, ObjectCreation], AdmissionMatch], ...] = (
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


def _named(creation: ObjectCreation) -> str:
    group = f".{creation.group}" if creation.group else ""
    scope = "in a namespace" if creation.namespace else "outside of namespaces"
    return f"{creation.resource}{group}/{creation.version} {scope}"
