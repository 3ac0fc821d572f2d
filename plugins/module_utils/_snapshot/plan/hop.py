# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the steps of one hop, in their order. Pure.

Each phase is a function of the situation. PHASES is their order. Every hop applies and verifies the release, so a hop to the
installed release is a repair. Special steps are in a hop only if the state of the cluster needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..installed.state import CONVERSION, VALIDATION, Hook, Workload
from ..release import crd_sets
from ..release.release_table import BRIDGE, GROUP, GROUP_CONTENTS, GROUP_CRDS, SNAPSHOT, Rules
from ..release.release_table import CONTROLLER as CONTROLLER_NAME
from .step_types import Step
from .upgrade_context import Situation
from .webhook_rollout import Roll, delete_detached, roll

Found = frozenset[str]


def steps(now: Situation, found: Found) -> list[Step]:
    """Return all steps of the hop. found: the ids of the hazards that the cluster has."""
    return [step for phase in PHASES for step in phase(now, found)]


def _targets(names: Iterable[str], kind: str = "ValidatingWebhookConfiguration") -> list[dict[str, str]]:
    return [{"kind": kind, "name": name} for name in names]


def _object(kind: str, name: str, namespace: str = "") -> dict[str, str]:
    return {"kind": kind, "namespace": namespace, "name": name} if namespace else {"kind": kind, "name": name}


# CRDs.


def _crds_of_snapshots(now: Situation, _found: Found) -> Iterator[Step]:
    if now.keeps(SNAPSHOT):
        return
    yield Step(
        "crds",
        f"Apply the VolumeSnapshot CRDs of {now.release}",
        "The controller and the webhook use the CRDs, so the CRDs come first. Older controllers and webhooks work with newer "
        "CRDs. The CRDs keep every version that was stored, so every object stays readable.",
        "apply",
        {"release": str(now.release), "parts": ["crds"]},
        hazards=_of(_found, "v1beta1-unserved", "invalid-objects-kept", "foreign-crds"),
    )


def _of(found: Found, *ids: str) -> tuple[str, ...]:
    return tuple(one for one in ids if one in found)


def _delete_configurations(now: Situation, found: Found) -> Iterator[Step]:
    """Delete the configurations whose webhook is removed. The CRDs have rules of their own by now."""
    if not now.surplus:
        return
    yield Step(
        "configurations-delete",
        "Delete the webhook configurations whose backend is removed",
        _why_deleted(now),
        "delete",
        {"objects": [_object("ValidatingWebhookConfiguration", one.name) for one in now.surplus]},
        hazards=_of(found, "dangling-configuration", "groups-path"),
    )


def _why_deleted(now: Situation) -> str:
    if now.wants(VALIDATION):
        return (
            "The configuration calls a path that answers with status 404. With failurePolicy Fail, every write of a group "
            "snapshot fails."
        )
    rules = crd_sets.row(now.release.crds, SNAPSHOT).rules
    return (
        f"{'The CRDs have rules of their own now. ' if rules else ''}A later step deletes the webhook. With failurePolicy Fail, "
        "every write that the configuration names would fail without it, so the configuration is deleted first."
    )


def _narrow_rules(now: Situation, found: Found) -> Iterator[Step]:
    if "rules-first" not in found:
        return
    for rules in now.configurations:
        live = now.live(rules)
        if live and any(hook.resources() - set(rules.resources) for hook in live.hooks):
            yield Step(
                f"narrow-{rules.group.partition('.')[0]}",
                "Narrow the rules of the webhook configuration",
                f"The webhook of {now.release} denies every resource except {', '.join(rules.resources)}, also with "
                "failurePolicy Ignore. The API server must stop sending it the other resources before it starts. The old webhook "
                "accepts the resources that are left.",
                "narrow_rules",
                {"name": rules.name, "rules": {hook.name: _both(rules, hook) for hook in live.hooks}},
                hazards=("rules-first",),
            )


def _both(rules: Rules, hook: Hook) -> list[dict[str, object]]:
    """Return rules for the resources that both the old and the new webhook know, [] if there are none."""
    common = tuple(one for one in rules.resources if one in hook.resources())
    return replace(rules, resources=common).as_rules() if common else []


# Group CRDs.


def _alpha(now: Situation, found: Found) -> Iterator[Step]:
    if "alpha-dropped-empty" in found:
        yield Step(
            "groups-delete",
            "Delete the VolumeGroupSnapshot CRDs, which have no objects",
            f"They once stored v1alpha1. Release {now.release} does not list v1alpha1, so the API server would refuse its CRDs. "
            "The step fails if an object exists by then. It does not touch the VolumeSnapshot CRDs.",
            "delete",
            {
                "objects": [
                    {**_object("CustomResourceDefinition", name), "only_if_empty": True}
                    for name in GROUP_CRDS
                ]
            },
            hazards=("alpha-dropped-empty",),
        )
    if "alpha-dropped" in found:
        yield from _bridge(now)


def _bridge(now: Situation) -> Iterator[Step]:
    if any(crd.versions.get("v1alpha1") == crd_sets.STORED for crd in now.alpha):
        yield Step(
            "groups-bridge",
            f"Apply the VolumeGroupSnapshot CRDs of {BRIDGE} and keep v1alpha1 listed",
            f"Objects are stored at v1alpha1, which {now.release} does not list. The version must stay listed until every object "
            f"is stored at v1beta1. The CRDs of {BRIDGE} have v1beta1, and the cluster's own v1alpha1 is added, not served.",
            "apply",
            {"release": BRIDGE, "parts": ["group_crds"], "keep_unserved": ["v1alpha1"]},
            hazards=("alpha-dropped",),
        )
    for crd in now.alpha:
        yield _migrate(crd.name, "v1beta1", "alpha-dropped")


def _migrate(crd: str, version: str, hazard: str) -> Step:
    return Step(
        f"rewrite-{crd.partition('.')[0]}-{version}",
        f"Store every object of {crd.partition('.')[0]} at {version}",
        f"The field status.storedVersions may name only {version} after the last object at another version is gone. Otherwise "
        "no object could be read. The step writes each object back, and stops if the API server refuses one.",
        "migrate_storage",
        {"crd": crd, "version": version},
        hazards=(hazard,),
    )


def _beta2_by_webhook(now: Situation, found: Found) -> Iterator[Step]:
    """Migrate while the conversion webhook still answers."""
    if "stored-at-v1beta1" in found and now.converts:
        for name in _stored_at_v1beta1(now):
            yield _migrate(name, "v1beta2", "stored-at-v1beta1")


def _stored_at_v1beta1(now: Situation) -> list[str]:
    """Return the CRDs with objects stored at v1beta1, now or after the bridge."""
    crds = now.installed.crds
    bridged = [crd.name for crd in now.alpha] if now.installed.groups.total else []
    return [
        name
        for name in GROUP_CRDS
        if name in crds and ("v1beta1" in crds[name].stored_versions or name in bridged)
    ]


def _conversion_none(_now: Situation, found: Found) -> Iterator[Step]:
    if "conversion-left" in found:
        yield Step(
            "conversion-none",
            "Disable the conversion webhook (strategy: None)",
            "The webhook does not know v1 and would break every group snapshot. An apply of the new CRD keeps the webhook or is "
            "refused, depending on the field manager. A JSON patch sets the strategy, and the step reads it back.",
            "conversion_none",
            {"crd": GROUP_CONTENTS},
            hazards=("conversion-left",),
        )


def _groups_apply(now: Situation, found: Found) -> Iterator[Step]:
    wanted = now.present(GROUP) or now.groups_wanted or now.wants(CONVERSION)
    if not wanted or now.keeps(GROUP) or now.release.groups is None:
        return
    yield Step(
        "group-crds",
        f"Apply the VolumeGroupSnapshot CRDs of {now.release}",
        "The CRDs exist, so they follow the release, also if the controller does not process group snapshots."
        if now.present(GROUP)
        else "Group snapshots are requested. The controller looks for the CRDs when it starts, so they come first.",
        "apply",
        {"release": str(now.release), "parts": ["group_crds"]},
        hazards=_of(found, "group-crds-first", "alpha-dropped", "alpha-dropped-empty"),
    )


def _beta2_plain(now: Situation, found: Found) -> Iterator[Step]:
    """Migrate without a conversion webhook, if no list of handles can be lost."""
    if "stored-at-v1beta1" in found and not now.converts:
        for name in _stored_at_v1beta1(now):
            yield _migrate(name, "v1beta2", "stored-at-v1beta1")


# The conversion webhook.


def _conversion(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(CONVERSION):
        return
    calls = _calls(now)
    targets = _targets([GROUP_CONTENTS], "CustomResourceDefinition") if calls else []
    proof = _verify_conversion("conversion-verify-first", found) if calls else None
    yield _certificate(now, CONVERSION, targets)
    yield from roll(now, Roll(CONVERSION, tuple(targets), proof, ("conversion-needed",)))
    if now.present(GROUP) and not calls:
        yield _call(now, found)


def _call(now: Situation, found: Found) -> Step:
    namespace, hook = now.webhook_namespace(CONVERSION), now.hook(CONVERSION)
    return Step(
        "conversion-webhook",
        "Enable the conversion webhook",
        "The webhook pods are ready now. The caBundle is in the same write, because without it no content that is stored at "
        "v1beta1 could be read. The step comes before the CRDs with v1beta2, so no object is read without a conversion.",
        "conversion_webhook",
        {
            "crd": GROUP_CONTENTS,
            "service": {"namespace": namespace, "name": hook.service, "path": "/convert", "port": 443},
            "secret": {"namespace": namespace, "name": now.secret(CONVERSION)},
        },
        hazards=_of(found, "conversion-needed"),
    )


def _conversion_trust(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(CONVERSION):
        return
    if not now.present(GROUP):
        yield _call(now, found)
    if not _calls(now):
        yield _trust(now, CONVERSION, _targets([GROUP_CONTENTS], "CustomResourceDefinition"))
    yield _verify_conversion("verify-conversion", found)


def _calls(now: Situation) -> bool:
    """Return True if the CRD names the webhook already."""
    place = (now.webhook_namespace(CONVERSION), now.hook(CONVERSION).service)
    return now.contents is not None and now.contents.conversion.service == place


def _verify_conversion(name: str, found: Found) -> Step:
    return Step(
        name,
        "Verify that the webhook converts a VolumeGroupSnapshotContent at v1beta1",
        "A read may come from a cache. A dry run with an object at the version that is not stored calls the webhook.",
        "verify",
        {"subject": "conversion", "name": GROUP_CONTENTS, "version": "v1beta1"},
        hazards=_of(found, "conversion-needed"),
    )


def _certificate(now: Situation, kind: str, targets: list[dict[str, str]]) -> Step:
    mounted = now.mounted(kind)
    moves = bool(mounted) and now.secret(kind) not in mounted
    return Step(
        f"{kind}-certificate",
        "Issue a certificate for the webhook",
        "The pods mount the Secret, so it must exist first. It gets a new name, because a Secret's type is immutable. The old "
        "pods keep the old Secret."
        if moves
        else "The pods mount this Secret, so it must exist first. A valid certificate is kept.",
        "certificate",
        _certificate_of(now, kind, targets),
        hazards=("secret-type",) if moves and kind == VALIDATION else (),
    )


def _trust(now: Situation, kind: str, targets: list[dict[str, str]]) -> Step:
    return Step(
        f"{kind}-trust",
        "Add the CA to the caBundle of the new objects that call the webhook",
        "The previous step created these objects without a caBundle. The API server does not call a webhook without one.",
        "certificate",
        _certificate_of(now, kind, targets),
    )


def _certificate_of(now: Situation, kind: str, targets: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "namespace": now.webhook_namespace(kind),
        "service": now.hook(kind).service,
        "secret": now.secret(kind),
        "targets": targets,
    }


# Permissions.


def _controller_rights(now: Situation, found: Found) -> Iterator[Step]:
    if not now.is_back:
        yield _rights(now, found, "A newer controller needs permissions that an older one does not need, and fails without "
                                  "them. The new permissions include the old ones, so they come first.")  # fmt: skip


def _controller_rights_last(now: Situation, found: Found) -> Iterator[Step]:
    if now.is_back:
        yield _rights(
            now,
            found,
            "The newer controller needed more permissions than the older one, so they are reduced after it stopped.",
        )


def _rights(now: Situation, found: Found, reason: str) -> Step:
    nodes = {"nodes": True} if "nodes" in found else {}
    return Step(
        "controller-rbac",
        f"Apply the controller's permissions of {now.release}",
        reason,
        "apply",
        {"release": str(now.release), "parts": ["controller_rbac"], "namespace": now.namespace, **nodes},
        hazards=_of(found, "rights-first", "nodes"),
    )


# The validation webhook.


def _validation(now: Situation, found: Found) -> Iterator[Step]:
    if not now.wants(VALIDATION):
        return
    hook, namespace = now.hook(VALIDATION), now.webhook_namespace(VALIDATION)
    if hook.service_account:
        yield Step(
            "webhook-rbac",
            f"Apply the webhook's permissions of {now.release}",
            "Since 6.0 the webhook reads the classes before it opens its port. Without these permissions its pods run but do not "
            "answer.",
            "apply",
            {"release": str(now.release), "parts": ["webhook_rbac"], "namespace": namespace},
            hazards=_of(found, "webhook-rights"),
        )
    there = _targets(rules.name for rules in now.configurations if now.live(rules))
    yield _certificate(now, VALIDATION, there)
    proof = next(_verify_webhook(now, found, "webhook-verify-first"), None) if _can_ask(now) else None
    yield from roll(now, Roll(VALIDATION, tuple(there), proof, _of(found, "nobody-behind")))
    yield from _configure(now, found)


def _configure(now: Situation, found: Found) -> Iterator[Step]:
    wanted = {rules.name: now.failure_policy(rules) for rules in now.configurations}
    # A failurePolicy that changes is Ignore until the webhook is verified.
    first = {
        rules.name: wanted[rules.name] if now.live_policy(rules) == wanted[rules.name] else "Ignore"
        for rules in now.configurations
    }
    yield Step(
        "webhook-configurations",
        f"Apply the webhook configurations of {now.release}",
        "The new webhook answers now. The old one would deny kinds that it does not know, so this step comes after it. A new "
        "configuration has failurePolicy Ignore until the webhook is verified. An existing one keeps its failurePolicy.",
        "apply",
        {
            "release": str(now.release),
            "parts": ["webhook_configurations"],
            "namespace": now.webhook_namespace(VALIDATION),
            "failure_policies": first,
        },
        hazards=_of(found, "webhook-first", "v1beta1-rules", "policy-reset"),
    )
    if not all(now.live(rules) for rules in now.configurations):
        yield _trust(now, VALIDATION, _targets(first))
    yield from _verify_webhook(now, found, "verify-webhook")
    changing = [name for name, policy in first.items() if policy != wanted[name]]
    if changing:  # each of them has Ignore and gets Fail
        yield Step(
            "failure-policy",
            "Set failurePolicy Fail",
            "The webhook is verified. From now on the API server refuses a write if the webhook does not answer.",
            "failure_policy",
            {"names": changing, "policy": "Fail"},
        )


def _verify_webhook(now: Situation, found: Found, name: str) -> Iterator[Step]:
    for rules in now.configurations:
        if rules.group == SNAPSHOT:
            yield Step(
                name,
                "Verify that the webhook refuses an invalid object",
                "With failurePolicy Ignore, no write fails if the webhook does not answer. An available Deployment does not show "
                "that it answers. Only a refusal with the webhook's own message shows it.",
                "verify",
                {
                    "subject": "webhook",
                    "name": rules.name,
                    "check": refusal(now),
                    "release": str(now.release),
                },
                hazards=_of(found, "rules-answer-first"),
            )


# For each check, the resource of the object that only the webhook refuses. Its rules must name that resource.
REFUSALS = {
    "empty-class": "volumesnapshots",
    "second-default-class": "volumesnapshotclasses",
    "empty-reference": "volumesnapshotcontents",
}


def refusal(now: Situation) -> str:
    """Return the check that shows an answer of the webhook, a key of REFUSALS.

    The rules of the CRDs come before the webhook. They refuse an empty class, but no second default class and no empty
    reference.
    """
    crd = now.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
    kept = now.keeps(SNAPSHOT) and crd is not None and crd.set is not None and crd.set.rules
    if not (kept or crd_sets.row(now.release.crds, SNAPSHOT).rules):
        return "empty-class"
    return "second-default-class" if now.release.version >= (6, 0, 0) else "empty-reference"


def _can_ask(now: Situation) -> bool:
    """Return True if the present configuration sends the resource of the check to the webhook."""
    asked: set[str] = set()
    for rules in now.configurations:
        live = now.live(rules)
        if live and rules.group == SNAPSHOT:
            asked |= {one for hook in live.hooks for one in hook.resources()} & set(rules.resources)
    return REFUSALS[refusal(now)] in asked


# The controller.


def _controller(now: Situation, found: Found) -> Iterator[Step]:
    later = [one for one in now.removed if one.namespace == now.namespace and one.kind == "Deployment"]
    earlier = [one for one in now.removed if one not in later]
    yield from _remove(
        earlier,
        found,
        "This controller does not use the Lease of the new one, so both would lead. It must stop first.",
    )
    yield from _replace(now, found)
    yield Step(
        "controller",
        f"Apply the controller's Deployment of {now.release}",
        "Its CRDs and permissions exist now. The feature gate of group snapshots is set explicitly if the release has one and "
        "does not leave it off by default.",
        "apply",
        {
            "release": str(now.release),
            "parts": ["controller"],
            "namespace": now.namespace,
            "arguments": now.controller_arguments,
        },
        hazards=_of(found, "arguments-ended", "arguments-taken-back", "groups-by-default", "manifest-images"),
    )
    yield Step(
        "controller-wait",
        "Wait for the controller pods to become available",
        "A pod must run for longer than it may wait for its CRDs, so this takes a minute or more. An old pod keeps the Lease if "
        "a new one does not start.",
        "wait_available",
        {"namespace": now.namespace, "name": CONTROLLER_NAME},
    )
    if now.leaves_controllers:
        yield delete_detached(
            "controller", now.namespace, CONTROLLER_NAME, "The new pods run and wait for the Lease."
        )
    yield from _remove(
        later,
        found,
        "The new controller runs and waits for the Lease, which this one holds.",
        "controllers-remove",
    )


def _replace(now: Situation, found: Found) -> Iterator[Step]:
    if not now.detaches_controller:
        return
    yield Step(
        "controller-detach",
        "Delete the controller's Deployment and keep its pods",
        "The new release has another selector, which is immutable, so the Deployment must be created again. The old pods keep "
        "the Lease until the new ones run.",
        "detach",
        {"namespace": now.namespace, "name": CONTROLLER_NAME},
        hazards=_of(found, "controller-selector"),
    )


def _remove(
    gone: list[Workload], found: Found, reason: str, name: str = "controllers-remove-first"
) -> Iterator[Step]:
    if gone:
        yield Step(
            name,
            "Delete the other controllers",
            reason,
            "delete",
            {"objects": [_object(one.kind, one.name, one.namespace) for one in gone]},
            hazards=_of(found, "leftover-statefulset"),
        )


def _prove(now: Situation, found: Found) -> Iterator[Step]:
    if crd_sets.row(now.release.crds, SNAPSHOT).rules:
        yield Step(
            "verify-rules",
            "Verify that the CRDs refuse invalid objects",
            "Since 8.0 the rules of the CRDs validate objects in place of the webhook.",
            "verify",
            {"subject": "schema", "release": str(now.release)},
        )
    yield Step(
        "verify-version",
        f"Verify that the controller pods run {now.release}",
        "An image tag does not prove a release. The step reads the version from the pods' logs and waits until one of them holds "
        "the Lease.",
        "verify",
        {
            "subject": "version",
            "namespace": now.namespace,
            "name": CONTROLLER_NAME,
            "release": str(now.release),
        },
    )
    yield Step(
        "verify-controller",
        "Verify that the controller processes a VolumeSnapshot",
        "The test object names a class that does not exist. A working controller reports that in status.error. The step deletes "
        "the object.",
        "verify",
        {"subject": "controller", "namespace": now.namespace},
    )
    if now.groups_wanted:
        yield Step(
            "verify-groups",
            "Verify that the controller processes a VolumeGroupSnapshot",
            "Since 8.7 a controller that does not find the group CRDs runs without them and reports that only in its log.",
            "verify",
            {"subject": "groups", "namespace": now.namespace, "release": str(now.release)},
            hazards=_of(found, "group-crds-first"),
        )


# The objects of a removed webhook.


def _clean(now: Situation, found: Found) -> Iterator[Step]:
    for kind in (VALIDATION, CONVERSION):
        gone = _old_secret(now, kind) if now.wants(kind) else _webhook_objects(now, kind)
        if gone:
            yield Step(
                f"{kind}-clean",
                "Delete the objects of the old webhook",
                "No pod mounts the old Secret now."
                if now.wants(kind)
                else "No webhook configuration and no CRD calls the webhook now.",
                "delete",
                {"objects": gone},
                hazards=_of(found, *(("secret-type",) if now.wants(kind) else ("webhook-left",))),
            )


def _old_secret(now: Situation, kind: str) -> list[dict[str, Any]]:
    """Return the Secrets that are no longer mounted, also those that a killed run left, and the old requests."""
    return _secrets(now, kind, but=now.secret(kind)) + _requests(now, kind)


def _secrets(now: Situation, kind: str, but: str = "") -> list[dict[str, Any]]:
    """Return the Secrets that may be deleted, each with its version and with the only program that may use it."""
    return [
        {
            **_object("Secret", one.name, one.namespace),
            "only_used_by": kind,
            "resource_version": one.resource_version,
        }
        for one in sorted(now.candidates(kind), key=str)
        if one.name != but and not now.why_kept(kind, one)
    ]


def _requests(now: Situation, kind: str) -> list[dict[str, Any]]:
    return [
        _object(one, name, place)
        for one, place, name in now.leftovers(kind)
        if one == "CertificateSigningRequest"
    ]


def _webhook_objects(now: Situation, kind: str) -> list[dict[str, Any]]:
    """Return all objects of the webhook. Its workloads come last, because they show its namespace to a later run."""
    if now.callers(kind):
        return []
    found = [_object("Service", one.name, one.namespace) for one in now.services(kind)]
    found += [_object(one, name, place) for one, place, name in now.leftovers(kind)]
    found += _secrets(now, kind)
    workloads = (*now.installed.running(kind), *now.installed.orphans(kind))
    return found + [_object(one.kind, one.name, one.namespace) for one in workloads if not one.companions]


Phase = Callable[[Situation, Found], Iterable[Step]]
# The order of the phases, and its reasons:
# - CRDs first, then permissions, then the controller.
# - Narrower rules before a webhook that knows fewer kinds. Wider rules after a webhook that knows more.
# - A new webhook before the configuration that calls it. A removed webhook after its configuration.
# - Verifications after the writes, and deletions at the end.
PHASES: tuple[Phase, ...] = (
    _crds_of_snapshots,
    _delete_configurations,
    _alpha,
    _beta2_by_webhook,
    _conversion_none,
    _conversion,
    _groups_apply,
    _beta2_plain,
    _conversion_trust,
    _controller_rights,
    _narrow_rules,
    _validation,
    _controller,
    _controller_rights_last,
    _prove,
    _clean,
)
