# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The targets of a run: those of the task, those that the API server's objects show, and those that the Secret records.

With ``discover_targets`` a run lists the objects that call the Service. The Secret records the ones that the run uses
(an annotation), so that a later run without the option still renews their trust.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._base.accept import DOWNTIME
from .._base.owners import accept_option
from .._base.result import Result
from .._csr import markers, secret_content
from .._csr.secret_content import ExistingSecret
from .._kube.client import Client
from .._kube.errors import KubeError, MissingPermissions
from .._webhook import service_callers
from .._webhook.bundles import bundle_targets
from .._webhook.bundles.bundle_patch import TargetChange
from .._webhook.bundles.bundle_targets import Target
from .._webhook.errors import StillNeededError, TargetError
from .._webhook.probe import probe_webhook
from .._webhook.service_callers import ServiceCaller
from .._x509 import certificate_facts
from .._x509.chain.chain_judge import judge
from . import target_anchors
from .certificate_run import CertificateRun, CertificateState


@dataclass(frozen=True)
class Discovery:
    """The targets that are not named by the task."""

    callers: tuple[ServiceCaller, ...] = ()
    #: The callers that are used, as the Secret records them. None if no discovery has taken place.
    record: str | None = None
    #: The path of an object -> the object as it was read.
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def discover(run: CertificateRun, secret: ExistingSecret | None) -> tuple[CertificateRun, Discovery]:
    """Return the run with all targets, and the discovery. Raises MissingPermissions, TargetError, KubeError."""
    callers = find_callers(run, secret)
    used = [caller for caller in callers if caller.is_usable]
    record = None
    if run.discovers or _recorded(run, secret):
        record = " ".join(sorted(f"{caller.target.kind}/{caller.target.name}" for caller in used))
    targets = (*run.targets, *(caller.target for caller in used))
    if run.serving.probe is not None and used:
        probe_webhook.check_targets(targets, run.serving.probe)
    objects = {bundle_targets.path(caller.target): caller.obj for caller in callers}
    known = [*run.targets, *(caller.target for caller in callers)]
    others, unread = _find_trusting(run, secret, known, objects)
    run = replace(
        run,
        targets=(*targets, *others),
        others=frozenset(others),
        unread=unread,
        discovered=record,
    )
    return run, Discovery(callers, record, objects)


def find_callers(run: CertificateRun, secret: ExistingSecret | None) -> tuple[ServiceCaller, ...]:
    """Return the objects that call the Service and that the task does not name.

    List them with ``discover_targets``. Otherwise read the recorded ones. A recorded object that was deleted or calls another
    Service is left out.
    """
    service = run.intent.service_name
    if service is None:
        return ()
    named = {(target.kind, target.name) for target in run.targets}
    anchors = (
        target_anchors.added_entries(secret.annotations)
        if secret and secret_content.is_for(secret, run.intent)
        else set()
    )
    if run.discovers:
        callers: Iterable[ServiceCaller] = service_callers.list_callers(run.client, service, anchors)
    else:
        callers = _read_recorded(run, secret, service, anchors)
    return tuple(caller for caller in callers if (caller.target.kind, caller.target.name) not in named)


def _find_trusting(
    run: CertificateRun,
    secret: ExistingSecret | None,
    known: Collection[Target],
    objects: dict[str, Mapping[str, Any]],
) -> tuple[list[Target], dict[Target, MissingPermissions]]:
    """Return the other webhooks that trust the certificate by a recorded CA, and the recorded objects that may not be read.

    These webhooks would refuse a certificate of another CA. Two tasks with different targets may share a Secret, and a target may leave
    the list of its task. objects: those that were read, by their paths. The ones that are read here are added.
    """
    service = run.intent.service_name
    others: list[Target] = []
    unread: dict[Target, MissingPermissions] = {}
    if service is None or secret is None or not secret_content.is_for(secret, run.intent):
        return others, unread
    entries = target_anchors.added_entries(secret.annotations)
    for target in target_anchors.targets_of(entries, {entry.partition("=")[2] for entry in entries}):
        used = [other.webhooks for other in known if (other.kind, other.name) == (target.kind, target.name)]
        if () in used:  # each webhook that calls the Service
            continue
        path = bundle_targets.path(target)
        try:
            obj = objects[path] = objects.get(path) or bundle_targets.read(run.client, target)
            webhooks = tuple(
                config.webhook
                for config in bundle_targets.client_configs(target, obj, service=service)
                if service_callers.holds_recorded(target, config, entries)
                and not any(config.webhook in names for names in used)
            )
        except MissingPermissions as error:
            unread[target] = error
        except TargetError:
            continue  # It was deleted, or it calls another Service.
        else:
            if webhooks and not bundle_targets.find_bundle_writer(target, obj):
                others.append(replace(target, webhooks=tuple(filter(None, webhooks))))
    return others, unread


def check_others(
    run: CertificateRun, state: CertificateState, changes: Iterable[TargetChange]
) -> tuple[str, ...]:
    """Return warnings about the objects that trust the certificate in the Secret, are no targets, and would refuse the next one.

    A certificate of the same CA changes nothing for them. changes: of the targets. Raises StillNeededError for an object whose
    downtime the user does not accept.
    """
    intent, in_use, secret = run.intent, state.in_use, state.secret
    signer = secret.annotations.get(markers.SIGNER) if secret and in_use and intent.signer.is_asked else ""
    if not (secret and secret.certificate) or (signer == intent.signer.name and not state.is_ca_switched):
        return ()
    known = (intent.ca_bundle or run.client.connection.ca_pem or "") if intent.signer.is_asked else ""
    coming = target_anchors.fingerprints(known)
    coming -= target_anchors.fingerprints(in_use.anchor.pem) if in_use and state.is_ca_switched else set()
    leaf, chain = certificate_facts.load_leaf_and_chain(secret.certificate_pem)
    places = {
        (change.target.kind, change.target.name, bundle.config.webhook)
        for change in changes
        for bundle in change.bundles
    }
    try:
        losing = dict.fromkeys(
            target
            for target, config in service_callers.list_configs(
                run.client, {*leaf.dns_names, *leaf.ip_addresses}
            )
            if (target.kind, target.name, config.webhook) not in places
            and coming.isdisjoint(target_anchors.fingerprints(config.ca_bundle))
            and judge(
                leaf, config.ca_bundle, name=config.server_name, intermediates=chain, now=state.now
            ).verdict.ok
        )
    except KubeError as error:
        return (
            f"it is not known which other objects trust the certificate in {intent.secret}: {error.cause}",
        )
    words = "trusts the certificate that this task replaces, is not one of its targets, and would refuse the next one"
    refused = [target for target in losing if not intent.accept.covers(DOWNTIME, target)]
    if refused:
        raise StillNeededError(
            f"{refused[0]} {words}",
            evidence=tuple(map(str, refused)),
            remedy=f"Add it to targets: {as_yaml(refused)}, or let its owner add the next CA to its caBundle first. To replace the "
            f"certificate nevertheless, set {accept_option([DOWNTIME], refused[0])}",
        )
    return tuple(f"{target} {words}, as set with accept" for target in losing)


def report(result: Result, discovery: Discovery) -> Result:
    """Return the result with the objects that call the Service and whose caBundle is not written.

    A warning names those that do not hold the CA of the certificate.
    """
    skipped = [
        {"kind": caller.target.kind, "name": caller.target.name, "webhook": webhook, "reason": reason}
        for caller in discovery.callers
        for webhook, reason in caller.skipped.items()
    ]
    untrusting = [caller for caller in discovery.callers if _lacks(caller, result.values.get("ca_bundle"))]
    warnings = tuple(
        f"{caller.target} is not changed: {next(iter(caller.skipped.values()))}. To make it trust the certificate, set "
        f"targets: {as_yaml([caller.target])}"
        for caller in untrusting
        if caller.skipped and caller.is_verified
    )
    return replace(
        result,
        values={**result.values, "skipped_targets": skipped},
        warnings=(*result.warnings, *warnings),
    )


def suggest(run: CertificateRun, result: Result) -> Result:
    """Return the result with a warning if no target trusts the new certificate, or if the Service does not exist.

    The look sends at most five requests, and only for a run without targets that changes something. It never fails the run.
    """
    service = run.intent.service_name
    if not (run.is_hinting and result.changed and service) or run.targets or run.intent.is_client:
        return result
    hints = [_hint_at_service(run.client, service), _hint_at_targets(run, result, service)]
    return replace(result, warnings=(*result.warnings, *filter(None, hints)))


def hint_at_anchors(run: CertificateRun, annotations: Mapping[str, str], targets: Collection[Target]) -> str:
    """Return a warning that names the targets in which ``state: absent`` leaves recorded CA certificates, or ""."""
    entries = target_anchors.added_entries(annotations)
    left = entries - {entry for target in targets for entry in target_anchors.of_target(entries, target)}
    known = target_anchors.targets_of(left, {entry.partition("=")[2] for entry in left})
    if not known:
        return ""
    return f"the CA of {run.intent.secret} stays in {', '.join(map(str, known))}. To remove it, {_set_targets(known)}"


def as_yaml(targets: Iterable[Target]) -> str:
    """Return targets as a YAML list on one line. The names are quoted, because a name such as 1.5 is a number in YAML."""
    return "[" + ", ".join(f"{{kind: {target.kind}, name: '{target.name}'}}" for target in targets) + "]"


def _hint_at_service(client: Client, service: tuple[str, str]) -> str:
    namespace, name = service
    with contextlib.suppress(KubeError):
        if client.find(f"/api/v1/namespaces/{namespace}/services/{name}") is None:
            return (
                f"Service {namespace}/{name} does not exist, so no client can call it under the names of this certificate. "
                "Check service and namespace, or create the Service"
            )
    return ""


def _hint_at_targets(run: CertificateRun, result: Result, service: tuple[str, str]) -> str:
    if run.discovers:
        return (
            f"no webhook configuration, CustomResourceDefinition or APIService was found that calls Service "
            f"{'/'.join(service)} and may be changed, so none was made to trust the certificate"
        )
    targets = [
        caller.target
        for caller in service_callers.list_callers(run.client, service, needs_all=False)
        if _lacks(caller, result.values.get("ca_bundle"))
        and bundle_targets.find_bundle_writer(caller.target, caller.obj) is None
        and caller.is_verified
    ]
    words = (
        f"the task has no targets, so this certificate is not trusted by the objects that call Service {'/'.join(service)}: "
        f"{', '.join(map(str, targets))}. To make them trust it, {_set_targets(targets)}"
    )
    return words if targets else ""


def _set_targets(targets: Iterable[Target]) -> str:
    return (
        f"set targets: {as_yaml(targets)}, or discover_targets: true (in the role webhook_certificate_targets and "
        "webhook_certificate_discover_targets)"
    )


def _lacks(caller: ServiceCaller, anchors: str | None) -> bool:
    """Return True if a bundle of the caller lacks a CA of the certificate, or if this CA is not known yet."""
    wanted = target_anchors.fingerprints(anchors or "")
    return not wanted or any(
        not wanted <= target_anchors.fingerprints(config.ca_bundle) for config in caller.configs
    )


def _read_recorded(
    run: CertificateRun,
    secret: ExistingSecret | None,
    service: tuple[str, str],
    anchors: Collection[str],
) -> Iterable[ServiceCaller]:
    for target in _recorded(run, secret):
        try:
            obj = bundle_targets.read(run.client, target)
        except TargetError:
            continue  # It was deleted.
        caller = service_callers.judge(target, obj, service, anchors)
        if caller:
            yield caller


def _recorded(run: CertificateRun, secret: ExistingSecret | None) -> list[Target]:
    """Return the recorded targets."""
    if secret is None or not secret_content.is_for(secret, run.intent):
        return []
    return target_anchors.targets_from(secret.annotations.get(markers.TARGETS, "").split())
