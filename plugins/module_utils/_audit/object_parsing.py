# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Parse what an audit read: what objects tell the API server to call, their state, signs of failed calls, and the login. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from .._base import object_managers, owners
from .._base.errors import check_shape
from .._base.object_managers import OWN_MANAGER
from .._base.times import find_time
from .._kube.login.connection import Connection
from .._kube.object_state import condition, is_true
from .._webhook.bundles.bundle_targets import KINDS, Target, client_configs
from .._webhook.calls.admission_match import (
    EXEMPT_GROUP,
    EXEMPT_KINDS,
    NAMESPACES,
    ServedResource,
    ServedResources,
)
from .._webhook.calls.call_failures import ADMISSION, AGGREGATION
from .._webhook.service_callers import find_bundle_managers
from .._x509 import certificate_facts
from .._x509.errors import CertificateError
from .checks.cluster_checks import CONDITIONS_OF, CONVERSIONS
from .facts.cluster_data import (
    INJECTS_FROM,
    ApiServiceState,
    CallPoint,
    DefinitionState,
    FailedCall,
    IssuedCertificate,
    Login,
    Object,
)
from .facts.finding import UNMANAGED, AuditedObject, annotated_checks

MUTATING = "MutatingWebhookConfiguration"
DEFINITION = "CustomResourceDefinition"
API_SERVICE = "APIService"


#: The operations of verbs. The API server connects to these subresources instead (pkg/registry/core of kubernetes/kubernetes).
_OPERATIONS = {
    "create": "CREATE",
    "update": "UPDATE",
    "patch": "UPDATE",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
_CONNECTED = frozenset(("attach", "exec", "portforward", "proxy"))
_EVERY_OPERATION = frozenset((*_OPERATIONS.values(), "CONNECT"))


@check_shape("the discovery document")
def served_resources(
    documents: Iterable[Object],
    unasked: Container[tuple[str, str]] = (),
    aggregated: Container[str] = (),
) -> ServedResources:
    """Return what discovery documents name. The resources of a version are None if a document does not list them.

    unasked: group and resource of what webhooks are not asked about. aggregated: the groups whose server is another one.
    """
    found: dict[tuple[str, str], Mapping[str, ServedResource] | None] = {}
    for document in documents:
        # An older API server answers /api with the versions of the core group alone.
        for group in (
            document.get("items")
            or document.get("groups")
            or [{"name": "", "versions": [{"version": entry} for entry in document.get("versions") or ()]}]
        ):
            name = str((group.get("metadata") or group).get("name") or "")
            for version in group["versions"]:
                is_whole = "resources" in version and version.get("freshness", "Current") == "Current"
                key = name, str(version.get("version"))
                found[key] = None
                if is_whole:
                    resources = [
                        entry for entry in version["resources"] if (name, entry["resource"]) not in unasked
                    ]
                    found[key] = dict(_resources(name, resources, is_local=name not in aggregated))
    return found


def _resources(
    group: str, resources: Iterable[Object], *, is_local: bool
) -> Iterator[tuple[str, ServedResource]]:
    """Yield each resource and each subresource about which the API server may ask webhooks."""
    for entry in resources:
        name, kind = str(entry["resource"]), (entry.get("responseKind") or {}).get("kind")
        if group == EXEMPT_GROUP and kind in EXEMPT_KINDS:
            continue
        scope = NAMESPACES if (group, name) == ("", "namespaces") else str(entry.get("scope"))
        for part in ({**entry, "subresource": ""}, *(entry.get("subresources") or ())):
            verbs = {_OPERATIONS[verb] for verb in part["verbs"] if verb in _OPERATIONS}
            is_connected = group == "" and part["subresource"] in _CONNECTED
            operations = frozenset(("CONNECT",) if is_connected else verbs) if is_local else _EVERY_OPERATION
            yield f"{name}/{part['subresource']}".rstrip("/"), ServedResource(scope, operations)


def points_of(kind: str, obj: Object) -> Iterator[CallPoint]:
    """Yield the call points of an object. An object without webhooks has none. Raises MalformedObject."""
    caller = KINDS[kind].call
    with check_shape(f"a {kind}"):
        name = str(obj["metadata"]["name"])
        webhooks = {webhook["name"]: webhook for webhook in obj.get("webhooks") or ()}
        is_verified = not (caller == AGGREGATION and obj["spec"].get("insecureSkipTLSVerify"))
        if caller == ADMISSION and not webhooks:
            return
    if not is_verified:
        obj = {**obj, "spec": {**obj["spec"], "insecureSkipTLSVerify": False}}
    target = Target(kind, name)
    for config in client_configs(target, obj):
        with check_shape(f"a {kind}"):
            subject = replace(subject_of(kind, obj), webhook=config.webhook, path=config.pointer)
            writers = tuple(find_bundle_managers(target, obj, config.webhook))
            times = [find_time(entry.get("time")) for entry in obj["metadata"].get("managedFields") or ()]
        yield CallPoint(
            subject,
            config,
            caller,
            webhook=webhooks.get(config.webhook, {}),
            is_mutating=kind == MUTATING,
            is_verified=is_verified,
            bundle_writers=writers,
            written_at=max(filter(None, times), default=None),
            certificate=_certificate(obj["metadata"]),
        )


def _certificate(metadata: Object) -> tuple[str, str] | None:
    value = str((metadata.get("annotations") or {}).get(INJECTS_FROM) or "")
    namespace, slash, name = value.partition("/")
    return (namespace, name) if slash else None


def subject_of(kind: str, obj: Object) -> AuditedObject:
    """Return the object of a finding about an object of one of these kinds."""
    metadata, row = obj["metadata"], KINDS[kind]
    return AuditedObject(
        kind,
        str(metadata["name"]),
        f"{row.group}/{row.version}",
        uid=str(metadata.get("uid", "")),
        manager=manager_of(metadata),
        excepted_checks=annotated_checks(metadata),
    )


def manager_of(metadata: Object) -> str:
    """Return the names of the programs that manage an object, this collection among them, or UNMANAGED."""
    names = [owner.manager.name for owner in owners.owners({"metadata": metadata})]
    names += [row.name for row in object_managers.find_rewriters(metadata)]
    fields = (str(entry.get("manager", "")) for entry in metadata.get("managedFields") or ())
    if any(field.startswith(OWN_MANAGER) for field in fields):
        names.append(OWN_MANAGER)
    return ", ".join(names) or UNMANAGED


@check_shape("an APIService")
def api_service_state(obj: Object) -> ApiServiceState:
    """Return the condition Available of an aggregated API. Raises MalformedObject."""
    found = condition(obj, "Available")
    return ApiServiceState(
        subject_of(API_SERVICE, obj),
        found.get("status") == "True",
        _words_of(found) or "it has no condition Available",
        find_time(found.get("lastTransitionTime")),
    )


@check_shape("a CustomResourceDefinition")
def definition_state(obj: Object) -> DefinitionState:
    """Return the state of a CustomResourceDefinition. Raises MalformedObject."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    versions = spec.get("versions") or ()
    return DefinitionState(
        subject_of(DEFINITION, obj),
        str(spec.get("group", "")),
        str((spec.get("names") or {}).get("plural", "")),
        tuple(str(entry["name"]) for entry in versions if entry.get("served")),
        tuple(map(str, status.get("storedVersions") or ())),
        (spec.get("conversion") or {}).get("strategy") == "Webhook",
        tuple(str(entry["name"]) for entry in versions),
        {
            str(entry["type"]): (str(entry.get("status", "")), _words_of(entry))
            for entry in status.get("conditions") or ()
        },
        find_time(metadata.get("creationTimestamp")),
        find_time(metadata.get("deletionTimestamp")),
    )


def issued_certificate(certificate: Object) -> IssuedCertificate | None:
    """Return the newest certificate of a Certificate of cert-manager, None if none was issued. Raises MalformedObject."""
    with check_shape("a Certificate"):
        status = certificate.get("status") or {}
        begin, end, renewal = (find_time(status.get(key)) for key in ("notBefore", "notAfter", "renewalTime"))
        names = tuple(map(str, certificate["spec"].get("dnsNames") or ()))
        is_ready = is_true(certificate, "Ready")
    return IssuedCertificate(begin, names, end, renewal, is_ready) if begin else None


def _words_of(condition: Object) -> str:
    """Return reason and message of a condition."""
    return ": ".join(filter(None, (str(condition.get(key) or "") for key in ("reason", "message"))))


#: Controllers write this Event if they cannot create a pod.
SELECTOR = "type=Warning,reason=FailedCreate"
_REJECTIONS = "apiserver_admission_webhook_rejection_count"
# The second one has the patches that do not apply. The type "no_error" has the refusals by webhooks.
_FAILURES = ("calling_webhook_error", "apiserver_internal_error")
_IGNORED = "apiserver_admission_webhook_fail_open_count"
_CONVERSION = "apiserver_conversion_webhook_request_total"
# The marks of webhooks from files (KEP-5793, k8s.io/apiserver pkg/admission/plugin/manifest). Only the names of their
# configurations need the suffix, and the counters have the names of webhooks.
_FILES = "apiserver_manifest_admission_config_controller_last_config_info"
_CALLS = "apiserver_admission_webhook_request_total"
# k8s.io/apiserver pkg/admission/metrics. A condition that fails at run time refuses the request, unless failurePolicy is Ignore.
_CONDITIONS = "apiserver_admission_match_condition_evaluation_errors_total"
# A gauge of each program with Prometheus' client for Go, in seconds since 1970.
_START = "process_start_time_seconds"
#: The metrics that are read here. An API server has some megabytes of others.
FAMILIES = (_REJECTIONS, _IGNORED, _CONVERSION, _FILES, _CALLS, _CONDITIONS, _START)
_PLUGINS, _IN_FILE = "AdmissionWebhook", ".static.k8s.io"
_LABEL = re.compile(r'(?<!\w)(\w+)="((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"(\w+)\{(.*)\} ([0-9.eE+]+)")
_STARTED = re.compile(rf"^{_START} ([0-9.eE+]{{1,30}})$", re.MULTILINE)
# k8s.io/apiserver pkg/admission/plugin/webhook/errors: failed calling webhook "NAME": ...
_FAILED_CALL = re.compile(r'failed calling webhook "([^"]{1,300})"')


def read_counters(text: str) -> dict[str, float]:
    """Return webhook -> the number of its failed calls, and the number of failed conversions, from the metrics of an API server.

    A counter that the API server does not have yet is 0. Raises MalformedObject.
    """
    return _sums(text, (_REJECTIONS, _IGNORED, _CONVERSION, _CONDITIONS), _counted)


def read_start(text: str) -> datetime | None:
    """Return the time at which the API server started, None if its metrics do not show it."""
    match = _STARTED.search(text)
    try:
        return datetime.fromtimestamp(float(match[1]), timezone.utc) if match else None
    except (ValueError, OverflowError, OSError):
        return None


def read_answers(text: str) -> dict[str, float]:
    """Return webhook -> the number of calls that it answered and did not refuse. Raises MalformedObject."""
    return _sums(text, (_CALLS,), _answered)


def growth(reads: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the growth of counters between the first and the last of several reads."""
    last = reads[-1] if len(reads) > 1 else {}
    return {name: value - reads[0].get(name, 0) for name, value in last.items()}


def _sums(
    text: str, families: tuple[str, ...], name_of: Callable[[str, Mapping[str, str]], str]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _LINE.match(line) if line.startswith(families) else None
        name = name_of(match[1], dict(_LABEL.findall(match[2]))) if match else ""
        if match and name:
            with check_shape("a counter of the API server"):
                found[name] = found.get(name, 0.0) + float(match[3])
    return found


def find_file_webhooks(text: str) -> tuple[str, ...]:
    """Return what the metrics of an API server name of webhooks that it reads from files: admission plugins and webhooks."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        match = _LINE.match(line) if line.startswith((_FILES, _CALLS)) else None
        labels = dict(_LABEL.findall(match[2])) if match else {}
        if labels.get("plugin", "").endswith(_PLUGINS) or labels.get("name", "").endswith(_IN_FILE):
            found[labels.get("plugin") or labels["name"]] = None
    return tuple(found)


def _counted(metric: str, labels: Mapping[str, str]) -> str:
    """Return the counter to which a line belongs, "" for other lines."""
    if metric == _IGNORED or (metric == _REJECTIONS and labels.get("error_type") in _FAILURES):
        return labels.get("name", "")
    if metric == _CONDITIONS and labels.get("kind", "webhook") == "webhook":
        return CONDITIONS_OF.format(labels.get("name", ""))
    return CONVERSIONS if metric == _CONVERSION and labels.get("result") == "failure" else ""


def _answered(_metric: str, labels: Mapping[str, str]) -> str:
    return labels.get("name", "") if (labels.get("rejected"), labels.get("code")) == ("false", "200") else ""


def find_failed_calls(events: Iterable[Mapping[str, Any]], oldest: datetime) -> Iterator[FailedCall]:
    """Yield the failed calls that Events since a time tell of, the oldest first."""
    found = []
    for event in events:
        series = event.get("series") or {}
        times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
        seen = next((moment for moment in map(find_time, times) if moment), None)
        match = _FAILED_CALL.search(str(event.get("message", "")))
        if match and seen and seen >= oldest:
            about = event.get("involvedObject") or {}
            regarding = f"{about.get('kind', '')} {about.get('namespace', '')}/{about.get('name', '')}"
            found.append(FailedCall(match[1], regarding, match.string, seen))
    yield from sorted(found, key=lambda call: call.seen)


def login_of(connection: Connection) -> Login:
    """Return the end of the credentials."""
    if connection.exec_plugin:
        return Login("exec plugin", reason="The exec plugin of the kubeconfig renews its credentials.")
    if connection.token_file:
        return Login("token file", reason="The token is read from a file, which another program renews.")
    if connection.token:
        times = _token_times(connection.token)
        reason = "" if times[1] else "The token does not show when it expires."
        return Login("token", *times, reason)
    if connection.client_certificate:
        try:
            facts = certificate_facts.describe_pem(connection.client_certificate)
        except CertificateError as error:
            return Login("client certificate", reason=error.cause)
        return Login("client certificate", facts.not_before, facts.not_after)
    return Login("none", reason="The login has no certificate and no token.")


def _token_times(token: str) -> tuple[datetime | None, datetime | None]:
    """Return the begin and the end of a JSON Web Token (RFC 7519), without a check of its signature."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        times = [claims.get(name) for name in ("iat", "exp")]
        begin, end = (datetime.fromtimestamp(value, timezone.utc) if value else None for value in times)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, OSError):
        return None, None
    return begin, end
