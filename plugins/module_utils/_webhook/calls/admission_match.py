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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional

from ..._base.errors import check_shape

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


_NAMESPACED = "Namespaced"


class ServedResource(NamedTuple):
    """A resource or subresource that is served."""

    #: Namespaced, Cluster, or NAMESPACES for namespaces.
    scope: str
    #: The operations about which the API server may ask webhooks.
    operations: frozenset[str]


#: (group, version) -> resource or RESOURCE/SUBRESOURCE. The resources are None if they are not known.
ServedResources = Mapping[tuple[str, str], Optional[Mapping[str, ServedResource]]]
#: (group, resource) of a CustomResourceDefinition -> its versions, also those that are not served.
Versions = Mapping[tuple[str, str], tuple[str, ...]]


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
def match_any(
    webhook: Object,
    namespaces: Mapping[str, Mapping[str, str]] | None,
    served: ServedResources | None = None,
    versions: Versions | None = None,
) -> AdmissionMatch:
    """Decide if the API server may ask the webhook about a request. It is not known if only a later namespace can match.

    namespaces: name -> labels. Each argument is None if it is not known. Raises MalformedObject.
    """
    selector = webhook.get("namespaceSelector") or {}
    scopes = set(_find_scopes(webhook, served, versions))
    conditions = {entry.get("expression", "").strip() for entry in webhook.get("matchConditions") or ()}
    never = {
        "it has no rule": not webhook.get("rules"),
        "its rules match no request that the API server serves": not scopes,
        "its objectSelector contradicts itself": not _can_select(webhook.get("objectSelector") or {}),
        "its namespaceSelector contradicts itself": scopes <= {_NAMESPACED, NAMESPACES}
        and not _can_select(selector),
        "one of its matchConditions is always false": "false" in conditions,
    }
    reason = next((words for words, holds in never.items() if holds), "")
    if reason:
        return AdmissionMatch(False, reason)
    has_selected = namespaces is None or any(_selects(selector, labels) for labels in namespaces.values())
    if scopes == {_NAMESPACED} and not has_selected:
        return AdmissionMatch(None, "its namespaceSelector selects no namespace of the cluster", NAMESPACES)
    return _undecided(webhook) if conditions - {"true"} else ASKED


def _find_scopes(webhook: Object, served: ServedResources | None, versions: Versions | None) -> Iterator[str]:
    """Yield the scope of each resource that a rule names, "" for one that is not known."""
    is_exact = webhook.get("matchPolicy") == "Exact"
    # The options of a connection have no labels.
    unlabelled = {"CONNECT"} if _terms(webhook.get("objectSelector") or {}) else set()
    for rule in webhook.get("rules") or ():
        operations, scope = set(rule.get("operations") or ()), rule.get("scope", "*")
        if served is None:
            yield _NAMESPACED if _is_namespaced(rule) else ""
        for key, resources in (served or {}).items():
            if resources is None and _listed(rule.get("apiGroups"), key[0]):
                yield ""
            for name, resource in (resources or {}).items():
                answered = resource.operations - unlabelled
                if (
                    (answered if "*" in operations else answered & operations)
                    and scope in ("*", _NAMESPACED if resource.scope == _NAMESPACED else "Cluster")
                    and _is_named(rule, key, name, {} if is_exact else versions)
                ):
                    yield resource.scope


def _is_named(rule: Object, key: tuple[str, str], name: str, versions: Versions | None) -> bool:
    """Return True if the rule names a served resource, or another version of its CustomResourceDefinition."""
    resource, _slash, subresource = name.partition("/")
    others = (versions or {}).get((key[0], resource), ())
    return (
        _listed(rule.get("apiGroups"), key[0])
        and any(_resource(text, resource, subresource) for text in rule.get("resources") or ())
        and (
            any(_listed(rule.get("apiVersions"), version) for version in (key[1], *others))
            or (versions is None and "." in key[0])
        )
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
        and any(
            _resource(text, request.resource, request.subresource) for text in rule.get("resources") or ()
        )
    )


def _resource(text: str, resource: str, subresource: str) -> bool:
    """Return True if an entry of a rule names the resource: "pods" and "*" without subresources, "pods/*", "*/status", "*/*"."""
    name, _slash, own = text.partition("/")
    return name in ("*", resource) and own in ("*", subresource)


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


def _undecided(webhook: Object) -> AdmissionMatch:
    names = ", ".join(str(entry.get("name")) for entry in webhook["matchConditions"])
    return AdmissionMatch(None, f"its matchConditions ({names}) are not evaluated here", CONDITIONS)


PARTS: tuple[Callable[[Object, AdmissionRequest], AdmissionMatch], ...] = (
    _exempt,
    _rules,
    _namespace_selector,
    _object_selector,
    lambda webhook, _request: _undecided(webhook) if webhook.get("matchConditions") else ASKED,
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
