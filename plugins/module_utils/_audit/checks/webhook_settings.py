# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Check what a manifest sets: rules, selectors, timeouts, policies, versions of definitions, webhooks of removed projects. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ..._base.text import matches
from ..facts.cluster_data import CallPoint, ClusterData, DefinitionState, Object
from ..facts.finding import FAIL, INFO, LIKELY, PASS, SKIP, WARNING, AuditFinding, judged
from .admission_checks import admission_points, passed, seconds_of
from .control_plane_requests import REQUESTS, ControlPlaneRequest, find_matches

#: A leader gives up after 10 s without a renewal of its Lease, and one request may take 5 s (client-go leaderelection, gardener).
LEASE_SECONDS = 3
#: Slower than the default (https://kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices/).
LONG_SECONDS = 10
#: From this minor version on the API server does not call webhooks about virtual resources by default.
VIRTUAL_UNTIL_MINOR = 37
MOST_LINES = 5
WRITES = ("CREATE", "UPDATE", "DELETE")
_RENEWALS = tuple(row for row in REQUESTS if row.is_renewal)
_VIRTUAL = tuple(row for row in REQUESTS if row.is_virtual)


def check_settings(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings about the settings of each admission webhook."""
    coverage = _Coverage.of(data)
    for point in admission_points(data):
        yield from _slow_leases(data, point)
        yield from _virtual(data, point)
        seconds, side_effects = seconds_of(point), str(point.webhook.get("sideEffects", ""))
        words = f"{point.object} may delay each request that it matches by {seconds} s"
        lines = (f"timeoutSeconds {seconds}",)
        yield judged("timeout-long", point.object, words if seconds > LONG_SECONDS else "", lines)
        yield _everything(point)
        words = f"{point.object} has sideEffects {side_effects}, so the API server refuses each dry run that it matches"
        lines = (f"sideEffects {side_effects}",)
        yield judged(
            "side-effects", point.object, words if side_effects in ("Some", "Unknown") else "", lines
        )
        yield _exact(point, coverage)


def _slow_leases(data: ClusterData, point: CallPoint) -> Iterator[AuditFinding]:
    """With failurePolicy Fail the check of the control plane reports Leases."""
    seconds = seconds_of(point)
    words = f"{point.object} may delay each renewal of a Lease by {seconds} s, although it has failurePolicy Ignore"
    if point.is_strict:
        yield AuditFinding("slow-leases", SKIP, point.object, evidence=("control-plane-blocked covers it.",))
    else:
        rows = _RENEWALS if seconds > LEASE_SECONDS else ()
        yield from _matching(data, point, "slow-leases", rows, words)


def _virtual(data: ClusterData, point: CallPoint) -> Iterator[AuditFinding]:
    minor = re.match(r"v?1\.(\d+)", data.version)
    words = f"If {point.object} does not answer, the API server refuses reviews of tokens and permissions"
    if minor and int(minor[1]) >= VIRTUAL_UNTIL_MINOR:
        yield AuditFinding("virtual-resources", SKIP, point.object)
    else:
        rows = _VIRTUAL if point.is_strict else ()
        yield from _matching(data, point, "virtual-resources", rows, words)


def _matching(
    data: ClusterData, point: CallPoint, check: str, rows: Iterable[ControlPlaneRequest], words: str
) -> Iterator[AuditFinding]:
    """Yield a fail if the webhook matches one of the rows, a pass if it certainly matches none."""
    matched, undecided = find_matches(data, point, rows)
    if matched:
        lines = (f"it matches {', '.join(map(str, matched))}", f"timeoutSeconds {seconds_of(point)}")
        yield AuditFinding(check, FAIL, point.object, words, lines)
    else:
        yield from passed(check, point.object, undecided)


def _everything(point: CallPoint) -> AuditFinding:
    """Return the finding of a webhook that the API server asks about every object."""
    wide = [
        rule
        for rule in point.webhook.get("rules") or ()
        if "*" in (rule.get("apiGroups") or ()) and {"*", "*/*"} & set(rule.get("resources") or ())
    ]
    selectors = [point.webhook.get(key) or {} for key in ("namespaceSelector", "objectSelector")]
    limited = any(selector.get("matchLabels") or selector.get("matchExpressions") for selector in selectors)
    words = f"{point.object} matches the objects of all groups and resources in all namespaces"
    operations = ", ".join(dict.fromkeys(str(text) for rule in wide for text in rule.get("operations") or ()))
    return judged(
        "matches-everything",
        point.object,
        "" if not wide or limited or point.webhook.get("matchConditions") else words,
        (f"operations {operations}",),
        severity=WARNING if point.is_strict else INFO,
    )


@dataclass(frozen=True)
class _Coverage:
    """The versions of custom resources about which webhooks are asked."""

    #: (group, resource) -> the definition.
    definitions: Mapping[tuple[str, str], DefinitionState]
    #: (mutating, operation, group, resource) -> the versions in the rules of webhooks, "*" for all.
    versions: Mapping[tuple[bool, str, str, str], frozenset[str]]

    @classmethod
    def of(cls, data: ClusterData) -> _Coverage:
        definitions = {(one.group, one.resource): one for one in data.definitions if one.resource}
        versions: dict[tuple[bool, str, str, str], set[str]] = {}
        for point in admission_points(data):
            is_exact = point.webhook.get("matchPolicy") == "Exact"
            for rule, operation, group, resource in _named(point):
                named = map(str, rule.get("apiVersions") or ()) if is_exact else ("*",)
                versions.setdefault((point.is_mutating, operation, group, resource), set()).update(named)
        return cls(definitions, {key: frozenset(found) for key, found in versions.items()})

    def missing(self, point: CallPoint) -> Iterator[tuple[DefinitionState, tuple[str, ...]]]:
        """Yield each definition that the webhook names, with the served versions about which no webhook of its kind is asked."""
        named = dict.fromkeys(
            (operation, group, resource) for _rule, operation, group, resource in _named(point)
        )
        for operation, group, resource in named:
            definition = self.definitions.get((group, resource))
            if definition is None:
                continue
            # A webhook for all groups or resources may be asked as well.
            names = ((group, resource), (group, "*"), ("*", resource), ("*", "*"))
            keys = ((point.is_mutating, operation, *name) for name in names)
            covered = frozenset[str]().union(*(self.versions.get(key, frozenset()) for key in keys))
            versions = tuple(one for one in definition.served if not {one, "*"} & covered)
            if versions:
                yield definition, versions


def _named(point: CallPoint) -> Iterator[tuple[Object, str, str, str]]:
    """Yield (rule, operation, group, resource) of the rules. "*/*" is all resources."""
    for rule in point.webhook.get("rules") or ():
        named = rule.get("operations") or ()
        operations = WRITES if "*" in named else [one for one in WRITES if one in named]
        for text in rule.get("resources") or ():
            resource, _slash, sub = str(text).partition("/")
            if sub in ("", "*"):
                yield from (
                    (rule, operation, str(group), resource)
                    for operation in operations
                    for group in rule.get("apiGroups") or ()
                )


def _exact(point: CallPoint, coverage: _Coverage) -> AuditFinding:
    is_exact = point.webhook.get("matchPolicy") == "Exact"
    lines = dict.fromkeys(
        f"{definition.object.name}: no webhook of this kind is asked about {', '.join(versions)}"
        for definition, versions in (coverage.missing(point) if is_exact else ())
    )
    words = f"{point.object} has matchPolicy Exact, and requests in other versions of the API pass it by"
    return judged("exact-match", point.object, words if lines else "", tuple(lines)[:MOST_LINES])


#: A new CustomResourceDefinition is established within seconds, and a deleted one waits for its objects.
SETTLING = timedelta(minutes=1)
DELETING = timedelta(hours=1)
#: Condition -> the status of a healthy CustomResourceDefinition. A condition that does not exist counts as healthy.
HEALTHY = {"Established": "True", "NamesAccepted": "True", "NonStructuralSchema": "False"}


def check_definitions(data: ClusterData) -> Iterator[AuditFinding]:
    """Yield the findings of each CustomResourceDefinition."""
    for definition in data.definitions:
        yield _stored(definition)
        yield _state(data, definition)


def _stored(definition: DefinitionState) -> AuditFinding:
    check, name = "stored-versions", definition.object.name
    unserved = [version for version in definition.stored if version not in definition.served]
    lines = (
        f"status.storedVersions: {', '.join(definition.stored)}",
        f"served: {', '.join(definition.served)}",
    )
    if unserved:
        words = f"Objects of {name} may be stored in {', '.join(unserved)}, which is not served"
        return AuditFinding(check, FAIL, definition.object, words, lines, severity=WARNING)
    if definition.has_webhook and len(definition.stored) > 1:
        words = f"Objects of {name} may be stored in {len(definition.stored)} versions, which the conversion webhook must convert"
        return AuditFinding(check, FAIL, definition.object, words, lines, severity=INFO)
    return AuditFinding(check, PASS, definition.object)


def _state(data: ClusterData, definition: DefinitionState) -> AuditFinding:
    check, name = "crd-not-ready", definition.object.name
    if definition.deleted and data.now - definition.deleted > DELETING:
        _status, reason = definition.conditions.get("Terminating", ("", ""))
        words = f"The CustomResourceDefinition {name} has been deleted for more than an hour and still exists"
        return AuditFinding(check, FAIL, definition.object, words, (reason,) if reason else ())
    is_new = definition.created is not None and data.now - definition.created < SETTLING
    wrong = [
        f"{kind} is {status}: {reason}"
        for kind, (status, reason) in definition.conditions.items()
        if HEALTHY.get(kind, status) != status and not (is_new and kind == "Established")
    ]
    if wrong and not definition.deleted:
        words = f"The API server does not accept the CustomResourceDefinition {name} completely"
        return AuditFinding(check, FAIL, definition.object, words, tuple(wrong))
    return AuditFinding(check, PASS, definition.object)


@dataclass(frozen=True)
class RemovedWebhook:
    """Admission webhooks that a project removed."""

    project: str
    #: The first release without them.
    release: str
    #: Patterns with the wildcard "*". The name of such a webhook matches one of them.
    webhooks: tuple[str, ...]
    #: The pattern of the name of the Service that they call.
    service: str
    #: Addresses, or issues as OWNER/REPOSITORY#NUMBER, separated by "; ".
    source: str


#: At most ten rows, each with a document or a change of the project.
REMOVED_WEBHOOKS = (
    RemovedWebhook("external-snapshotter", "8.2", ("*snapshot.storage.k8s.io",), "*snapshot-validation*",
                   "kubernetes-csi/external-snapshotter#1181; kubernetes-csi/external-snapshotter#1186"),
    RemovedWebhook("Gateway API", "1.1", ("validate.gateway.networking.k8s.io",), "gateway-api-admission-server",
                   "kubernetes-sigs/gateway-api#2595; kubernetes-sigs/gateway-api#2319"),
    RemovedWebhook("Karpenter", "1.0", ("validation.webhook.*karpenter.*", "defaulting.webhook.*karpenter.*"), "*karpenter*",
                   "kubernetes-sigs/karpenter#1403; aws/karpenter-provider-aws#7757"),
    RemovedWebhook("Rook", "1.13", ("*-wh-rook-ceph-admission-controller-*.rook.io",), "rook-ceph-admission-controller",
                   "rook/rook#13261; rook/rook#14116"),
    RemovedWebhook("CSI-Addons", "0.8", ("v*.kb.io",), "csi-addons-webhook-service", "csi-addons/kubernetes-csi-addons#459"),
    RemovedWebhook("Knative Serving", "1.11", ("*webhook.domainmapping.serving.knative.dev",), "domainmapping-webhook",
                   "knative/serving#14082; knative/serving#15247"),
)  # fmt: skip


def check_removed_webhooks(
    data: ClusterData, rows: Sequence[RemovedWebhook] = REMOVED_WEBHOOKS
) -> Iterator[AuditFinding]:
    """Yield a finding for each admission webhook. It fails if newer releases of the project do not have the webhook."""
    for point in admission_points(data):
        row = next((row for row in rows if _is_of(row, point)), None)
        is_old = row and _numbers(point.release) < _numbers(row.release)
        cause = f"{row.project} {row.release} and newer releases do not have {point.object}" if row else ""
        line = f"release by its label: {point.release or 'not known'}"
        yield judged("webhook-obsolete", point.object, cause if is_old else "", (line,), certainty=LIKELY)


def _is_of(row: RemovedWebhook, point: CallPoint) -> bool:
    """Return True if both names fit, because another project may use one of them."""
    _namespace, service = point.config.service or ("", "")
    name = point.config.webhook
    return matches(service, row.service) and any(matches(name, pattern) for pattern in row.webhooks)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number[:9]) for number in re.findall(r"[0-9]+", release)[:2])
