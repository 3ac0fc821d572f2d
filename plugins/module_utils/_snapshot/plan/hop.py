# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Plan the steps of one hop, in their order. Pure.

Each phase is a function of the context. PHASES is their order. Every hop applies and verifies the release, so a hop to the
installed release is a repair. Special steps are in a hop only if the state of the cluster needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ..actions.action import CONFIGURATION, CRD, Place, Step
from ..actions.apply_release import ApplyRelease
from ..actions.object_actions import (
    DeletedObject,
    DeleteObjects,
    MigrateStorage,
    OrphanDeployment,
    WaitAvailable,
)
from ..actions.verifications import (
    REFUSALS,
    VerifyController,
    VerifyConversion,
    VerifyGroups,
    VerifySchema,
    VerifyVersion,
    VerifyWebhook,
    find_refusal,
)
from ..actions.webhook_actions import (
    CalledService,
    DisableConversion,
    EnableConversion,
    IssueCertificate,
    NarrowRules,
    SetFailurePolicy,
)
from ..context.upgrade_context import UpgradeContext
from ..installed.state import Hook, InstalledWorkload
from ..kinds import CONTROLLER_NAME, CONVERSION, VALIDATION, Reference
from ..release import crd_sets
from ..release.release_table import (
    BRIDGE,
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    SNAPSHOT,
    WebhookRules,
    judged_by_webhook,
)
from .webhook_rollout import PROVEN_SECONDS, WebhookRollout, delete_orphans, plan_rollout, plan_settlement

HazardIds = frozenset[str]
REQUEST = "CertificateSigningRequest"


def plan_steps(context: UpgradeContext, hazards: HazardIds) -> list[Step]:
    """Return all steps of the hop. hazards: the ids of the hazards that the cluster has."""
    return [step for phase in PHASES for step in phase(context, hazards)]


def _targets(names: Iterable[str], kind: str = CONFIGURATION) -> list[Reference]:
    return [Reference(kind, name) for name in names]


# Webhooks of an interrupted run.


def _settle_webhooks(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    """Leave one generation of webhook pods. API servers may call pods that end, so this comes before every other write."""
    for kind in (CONVERSION, VALIDATION):
        if context.webhooks.wants(kind):
            # A later step deletes the surplus configurations. Until then the API servers call the webhook for them too.
            surplus = _targets(row.name for row in context.webhooks.surplus) if kind == VALIDATION else []
            yield from plan_settlement(context, kind, (*_calling_objects(context, kind), *surplus))


def _calling_objects(context: UpgradeContext, kind: str) -> list[Reference]:
    """Return the objects that call the webhook already."""
    if kind == VALIDATION:
        return _targets(
            rules.name for rules in context.webhooks.configurations if context.webhooks.live(rules)
        )
    return _targets([GROUP_CONTENTS], CRD) if _is_called(context) else []


# CRDs.


def _crds_of_snapshots(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    if context.keeps(SNAPSHOT):
        return
    yield Step(
        "crds",
        f"Apply the VolumeSnapshot CRDs of {context.release}",
        "The controller and the webhook use the CRDs, so the CRDs come first. Older controllers and webhooks work with newer "
        "CRDs. The CRDs keep every version that was stored, so every object stays readable.",
        ApplyRelease(str(context.release), ["crds"]),
    )


def _delete_configurations(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    """Delete the configurations whose webhook is removed. The CRDs have rules of their own by now."""
    if not context.webhooks.surplus:
        return
    yield Step(
        "configurations-delete",
        "Delete the webhook configurations whose backend is removed",
        _why_deleted(context),
        DeleteObjects([DeletedObject(CONFIGURATION, name=row.name) for row in context.webhooks.surplus]),
    )


def _why_deleted(context: UpgradeContext) -> str:
    if context.webhooks.wants(VALIDATION):
        return (
            "The configuration calls a path that answers with status 404. With failurePolicy Fail, every write of a group "
            "snapshot fails."
        )
    rules = crd_sets.row(context.release.crds, SNAPSHOT).rules
    return (
        f"{'The CRDs have rules of their own now. ' if rules else ''}A later step deletes the webhook. With failurePolicy Fail, "
        "every write that the configuration names would fail without it, so the configuration is deleted first."
    )


def _narrow_rules(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    if "rules-first" not in hazards:
        return
    for rules in context.webhooks.configurations:
        live = context.webhooks.live(rules)
        if live and any(hook.resources() - set(rules.resources) for hook in live.hooks):
            yield Step(
                f"narrow-{rules.group.partition('.')[0]}",
                "Narrow the rules of the webhook configuration",
                f"The webhook of {context.release} denies every resource except {', '.join(rules.resources)}, also with "
                "failurePolicy Ignore. The API server must stop sending it the other resources before it starts. The old webhook "
                "accepts the resources that are left.",
                NarrowRules(rules.name, {hook.name: _both(rules, hook) for hook in live.hooks}),
            )


def _both(rules: WebhookRules, hook: Hook) -> list[dict[str, object]]:
    """Return rules for the resources that both the old and the new webhook know, [] if they share no resource."""
    common = tuple(resource for resource in rules.resources if resource in hook.resources())
    return replace(rules, resources=common).as_rules() if common else []


# Group CRDs.


def _alpha(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    if "alpha-dropped-empty" in hazards:
        yield Step(
            "groups-delete",
            "Delete the VolumeGroupSnapshot CRDs, which have no objects",
            f"They once stored v1alpha1. Release {context.release} does not list v1alpha1, so the API server would refuse its CRDs. "
            "The step fails if an object exists by then. It does not touch the VolumeSnapshot CRDs.",
            DeleteObjects([DeletedObject(CRD, name=name) for name in GROUP_CRDS]),
        )
    if "alpha-dropped" in hazards:
        yield from _bridge(context)


def _bridge(context: UpgradeContext) -> Iterator[Step]:
    if any(crd.versions.get("v1alpha1") == crd_sets.STORED for crd in context.groups.alpha):
        yield Step(
            "groups-bridge",
            f"Apply the VolumeGroupSnapshot CRDs of {BRIDGE} and keep v1alpha1 listed",
            f"Objects are stored at v1alpha1, which {context.release} does not list. The version must stay listed until every object "
            f"is stored at v1beta1. The CRDs of {BRIDGE} have v1beta1, and the cluster's own v1alpha1 is added, not served.",
            ApplyRelease(BRIDGE, ["group_crds"], keep_unserved=["v1alpha1"]),
        )
    for crd in context.groups.alpha:
        yield _migrate(crd.name, "v1beta1")


def _migrate(crd: str, version: str) -> Step:
    return Step(
        f"rewrite-{crd.partition('.')[0]}-{version}",
        f"Store every object of {crd.partition('.')[0]} at {version}",
        f"The field status.storedVersions may name only {version} after the last object at another version is gone. Otherwise "
        "no object could be read. The step writes each object back, and stops if the API server refuses one.",
        MigrateStorage(crd, version),
    )


def _beta2_by_webhook(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    """Migrate while the conversion webhook still answers."""
    if "stored-at-v1beta1" in hazards and context.groups.conversion_works:
        for name in _stored_at_v1beta1(context):
            yield _migrate(name, "v1beta2")


def _stored_at_v1beta1(context: UpgradeContext) -> list[str]:
    """Return the CRDs with objects stored at v1beta1, now or after the bridge."""
    crds = context.installed.crds
    bridged = [crd.name for crd in context.groups.alpha] if context.installed.groups.total else []
    return [
        name
        for name in GROUP_CRDS
        if name in crds and ("v1beta1" in crds[name].stored_versions or name in bridged)
    ]


def _conversion_none(_context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    if "conversion-left" in hazards:
        yield Step(
            "conversion-none",
            "Disable the conversion webhook (strategy: None)",
            "The webhook does not know v1 and would break every group snapshot. An apply of the new CRD keeps the webhook or is "
            "refused, depending on the field manager. A JSON patch sets the strategy, and the step reads it back.",
            DisableConversion(GROUP_CONTENTS),
        )


def _groups_apply(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    wanted = context.present(GROUP) or context.groups.wanted or context.webhooks.wants(CONVERSION)
    if not wanted or context.keeps(GROUP) or context.release.groups is None:
        return
    yield Step(
        "group-crds",
        f"Apply the VolumeGroupSnapshot CRDs of {context.release}",
        "The CRDs exist, so they follow the release, also if the controller does not process group snapshots."
        if context.present(GROUP)
        else "Group snapshots are requested. The controller looks for the CRDs when it starts, so they come first.",
        ApplyRelease(str(context.release), ["group_crds"]),
    )


def _beta2_plain(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    """Migrate without a conversion webhook, if no list of handles can be lost."""
    if "stored-at-v1beta1" in hazards and not context.groups.conversion_works:
        for name in _stored_at_v1beta1(context):
            storage = crd_sets.row(context.release.group_crds, GROUP).storage
            yield _migrate(name, storage)


# The conversion webhook.


def _conversion(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    if not context.webhooks.wants(CONVERSION):
        return
    calls = _is_called(context)
    targets = _calling_objects(context, CONVERSION)
    pods = _pods_of(context, CONVERSION)
    proof = _verify_conversion("conversion-verify-first", PROVEN_SECONDS, pods) if calls else None
    yield _certificate(context, CONVERSION, targets)
    yield from plan_rollout(context, WebhookRollout(CONVERSION, tuple(targets), proof))
    if context.present(GROUP) and not calls:
        yield _enable_conversion(context)


def _enable_conversion(context: UpgradeContext) -> Step:
    namespace, hook = context.webhooks.namespace(CONVERSION), context.webhooks.hook(CONVERSION)
    return Step(
        "conversion-webhook",
        "Enable the conversion webhook",
        "The webhook pods are ready now. The caBundle is in the same write, because without it no content that is stored at "
        "v1beta1 could be read. The step comes before the CRDs with v1beta2, so no object is read without a conversion.",
        EnableConversion(
            GROUP_CONTENTS,
            CalledService(namespace, hook.service, "/convert", 443),
            Place(namespace, context.webhooks.secret(CONVERSION)),
        ),
    )


def _conversion_trust(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    if not context.webhooks.wants(CONVERSION):
        return
    if not context.present(GROUP):
        yield _enable_conversion(context)
    if not _is_called(context):
        yield _trust(context, CONVERSION, _targets([GROUP_CONTENTS], CRD))
    yield _verify_conversion("verify-conversion")


def _is_called(context: UpgradeContext) -> bool:
    """Return True if the CRD names the webhook already."""
    place = (context.webhooks.namespace(CONVERSION), context.webhooks.hook(CONVERSION).service)
    return context.groups.contents is not None and context.groups.contents.conversion.service == place


def _verify_conversion(name: str, timeout: int = 0, pods_of: Place | None = None) -> Step:
    return Step(
        name,
        "Verify that the webhook converts a VolumeGroupSnapshotContent at v1beta1",
        "A read may come from a cache. A dry run with an object at the version that is not stored calls the webhook.",
        VerifyConversion(GROUP_CONTENTS, "v1beta1", timeout, pods_of),
    )


def _pods_of(context: UpgradeContext, kind: str) -> Place:
    return Place(context.webhooks.namespace(kind), context.webhooks.hook(kind).deployment)


def _certificate(context: UpgradeContext, kind: str, targets: list[Reference]) -> Step:
    mounted = context.webhooks.mounted(kind)
    moves = bool(mounted) and context.webhooks.secret(kind) not in mounted
    return Step(
        f"{kind}-certificate",
        "Issue a certificate for the webhook",
        "The pods mount the Secret, so it must exist first. It gets a new name, because a Secret's type is immutable. The old "
        "pods keep the old Secret."
        if moves
        else "The pods mount this Secret, so it must exist first. A valid certificate is kept.",
        _certificate_of(context, kind, targets),
    )


def _trust(context: UpgradeContext, kind: str, targets: list[Reference]) -> Step:
    return Step(
        f"{kind}-trust",
        "Add the CA to the caBundle of the new objects that call the webhook",
        "The previous step created these objects without a caBundle. The API server does not call a webhook without one.",
        _certificate_of(context, kind, targets),
    )


def _certificate_of(context: UpgradeContext, kind: str, targets: list[Reference]) -> IssueCertificate:
    namespace, service = context.webhooks.namespace(kind), context.webhooks.hook(kind).service
    return IssueCertificate(namespace, service, context.webhooks.secret(kind), targets)


# Permissions.


def _controller_rights(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    if not context.is_downgrade:
        reason = (
            "A newer controller needs permissions that an older one does not need, and fails without them. "
            "The new permissions include the old ones, so they come first."
        )
        yield _rights(context, hazards, reason)


def _controller_rights_last(context: UpgradeContext, hazards: HazardIds) -> Iterator[Step]:
    if context.is_downgrade:
        yield _rights(
            context,
            hazards,
            "The newer controller needed more permissions than the older one, so they are reduced after it stopped.",
        )


def _rights(context: UpgradeContext, hazards: HazardIds, reason: str) -> Step:
    return Step(
        "controller-rbac",
        f"Apply the controller's permissions of {context.release}",
        reason,
        ApplyRelease(str(context.release), ["controller_rbac"], context.namespace, nodes="nodes" in hazards),
    )


# The validation webhook.


def _validation(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    if not context.webhooks.wants(VALIDATION):
        return
    hook, namespace = context.webhooks.hook(VALIDATION), context.webhooks.namespace(VALIDATION)
    if hook.service_account:
        yield Step(
            "webhook-rbac",
            f"Apply the webhook's permissions of {context.release}",
            "Since 6.0 the webhook reads the classes before it opens its port. Without these permissions its pods run but do not "
            "answer.",
            ApplyRelease(str(context.release), ["webhook_rbac"], namespace),
        )
    targets = _calling_objects(context, VALIDATION)
    yield _certificate(context, VALIDATION, targets)
    pods = _pods_of(context, VALIDATION)
    proofs = _verify_webhook(context, "webhook-verify-first", PROVEN_SECONDS, pods)
    proof = next(proofs, None) if _can_ask(context) else None
    yield from plan_rollout(context, WebhookRollout(VALIDATION, tuple(targets), proof))
    yield from _configure(context)


def _configure(context: UpgradeContext) -> Iterator[Step]:
    wanted = {rules.name: context.webhooks.failure_policy(rules) for rules in context.webhooks.configurations}
    # A failurePolicy that changes is Ignore until the webhook is verified.
    first = {
        rules.name: wanted[rules.name]
        if context.webhooks.live_policy(rules) == wanted[rules.name]
        else "Ignore"
        for rules in context.webhooks.configurations
    }
    yield Step(
        "webhook-configurations",
        f"Apply the webhook configurations of {context.release}",
        "The new webhook answers now. The old one would deny kinds that it does not know, so this step comes after it. A new "
        "configuration has failurePolicy Ignore until the webhook is verified. An existing one keeps its failurePolicy.",
        ApplyRelease(
            str(context.release),
            ["webhook_configurations"],
            context.webhooks.namespace(VALIDATION),
            failure_policies=first,
        ),
    )
    if not all(context.webhooks.live(rules) for rules in context.webhooks.configurations):
        yield _trust(context, VALIDATION, _targets(first))
    yield from _verify_webhook(context, "verify-webhook")
    changing = [name for name, policy in first.items() if policy != wanted[name]]
    if changing:  # each of them has Ignore and gets Fail
        yield Step(
            "failure-policy",
            "Set failurePolicy Fail",
            "The webhook is verified. From now on the API server refuses a write if the webhook does not answer.",
            SetFailurePolicy(changing, "Fail"),
        )


def _verify_webhook(
    context: UpgradeContext, name: str, timeout: int = 0, pods_of: Place | None = None
) -> Iterator[Step]:
    yield from (
        Step(
            name,
            "Verify that the webhook refuses an invalid object",
            "With failurePolicy Ignore, no write fails if the webhook does not answer. An available Deployment does not show "
            "that it answers. Only a refusal with the webhook's own message shows it.",
            VerifyWebhook(rules.name, refusal(context), timeout, pods_of),
        )
        for rules in context.webhooks.configurations
        if rules.group == SNAPSHOT
    )


def refusal(context: UpgradeContext) -> str:
    """Return the check that shows an answer of the release's webhook, a key of REFUSALS."""
    kept = context.keeps(SNAPSHOT) and context.has_rules
    has_rules = kept or crd_sets.row(context.release.crds, SNAPSHOT).rules
    return find_refusal(judged_by_webhook(context.release.version), has_rules=has_rules)


def _can_ask(context: UpgradeContext) -> bool:
    """Return True if the present configuration sends the resource of the check to the webhook."""
    asked: set[str] = set()
    for rules in context.webhooks.configurations:
        live = context.webhooks.live(rules)
        if live and rules.group == SNAPSHOT:
            asked |= {resource for hook in live.hooks for resource in hook.resources()} & set(rules.resources)
    return REFUSALS[refusal(context)][0] in asked


# The controller.


def _controller(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    later = [
        workload
        for workload in context.removed
        if workload.namespace == context.namespace and workload.kind == "Deployment"
    ]
    earlier = [workload for workload in context.removed if workload not in later]
    yield from _remove(
        earlier,
        "This controller does not use the Lease of the new one, so both would lead. It must stop first.",
    )
    yield from _orphan(context)
    yield Step(
        "controller",
        f"Apply the controller's Deployment of {context.release}",
        "Its CRDs and permissions exist now. The feature gate of group snapshots is set explicitly if the release has one and "
        "does not leave it off by default.",
        ApplyRelease(
            str(context.release), ["controller"], context.namespace, arguments=context.controller_arguments
        ),
    )
    yield Step(
        "controller-wait",
        "Wait for the controller pods to become available",
        "A pod must run for longer than it may wait for its CRDs, so this takes a minute or more. An old pod keeps the Lease if "
        "a new one does not start.",
        WaitAvailable(context.namespace, CONTROLLER_NAME),
    )
    if context.leaves_controllers:
        yield delete_orphans(
            "controller", context.namespace, CONTROLLER_NAME, "The new pods run and wait for the Lease."
        )
    yield from _remove(
        later,
        "The new controller runs and waits for the Lease, which the old one holds.",
        "controllers-remove",
    )


def _orphan(context: UpgradeContext) -> Iterator[Step]:
    if not context.orphans_controller:
        return
    yield Step(
        "controller-detach",
        "Delete the controller's Deployment and keep its pods",
        "The new release has another selector, which is immutable, so the Deployment must be created again. The old pods keep "
        "the Lease until the new ones run.",
        OrphanDeployment(context.namespace, CONTROLLER_NAME),
    )


def _remove(
    gone: list[InstalledWorkload], reason: str, name: str = "controllers-remove-first"
) -> Iterator[Step]:
    if gone:
        yield Step(
            name,
            "Delete the other controllers",
            reason,
            DeleteObjects([_workload(workload) for workload in gone]),
        )


def _prove(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    if crd_sets.row(context.release.crds, SNAPSHOT).rules:
        yield Step(
            "verify-rules",
            "Verify that the CRDs refuse invalid objects",
            "Since 8.0 the rules of the CRDs validate objects in place of the webhook.",
            VerifySchema(),
        )
    yield Step(
        "verify-version",
        f"Verify that the controller pods run {context.release}",
        "An image tag does not prove a release. The step reads the version from the pods' logs.",
        VerifyVersion(context.namespace, CONTROLLER_NAME, str(context.release)),
    )
    yield Step(
        "verify-controller",
        "Verify that the controller processes a VolumeSnapshot",
        "The test object names a class that does not exist. A working controller reports that in status.error. The step deletes "
        "the object.",
        VerifyController(context.namespace),
    )
    if context.groups.wanted:
        yield Step(
            "verify-groups",
            "Verify that the controller processes a VolumeGroupSnapshot",
            "Since 8.7 a controller that does not find the group CRDs runs without them and reports that only in its log.",
            VerifyGroups(context.namespace),
        )


# The objects of a removed webhook.


def _clean(context: UpgradeContext, _hazards: HazardIds) -> Iterator[Step]:
    for kind in (VALIDATION, CONVERSION):
        # Of a webhook that stays: the Secrets that are no longer mounted, also those that a killed run left, and the old requests.
        gone = (
            _secrets(context, kind, but=context.webhooks.secret(kind)) + _leftovers(context, kind, REQUEST)
            if context.webhooks.wants(kind)
            else _webhook_objects(context, kind)
        )
        if gone:
            yield Step(
                f"{kind}-clean",
                "Delete the objects of the old webhook",
                "No pod mounts the old Secret now."
                if context.webhooks.wants(kind)
                else "No webhook configuration and no CRD calls the webhook now.",
                DeleteObjects(gone),
            )


def _secrets(context: UpgradeContext, kind: str, but: str = "") -> list[DeletedObject]:
    """Return the Secrets that may be deleted, each with its version and with the only program that may use it."""
    return [
        DeletedObject(
            "Secret",
            secret.namespace,
            secret.name,
            only_used_by=kind,
            resource_version=secret.resource_version,
        )
        for secret in sorted(context.webhooks.candidates(kind), key=str)
        if secret.name != but and not context.webhooks.why_kept(kind, secret)
    ]


def _leftovers(context: UpgradeContext, kind: str, only: str = "") -> list[DeletedObject]:
    """Return the webhook's other objects. only: of this kind of objects, "" for every kind."""
    return [
        DeletedObject(what, place, name, only_used_by=kind if what == "ServiceAccount" else "")
        for what, place, name in context.webhooks.leftovers(kind)
        if only in ("", what)
    ]


def _webhook_objects(context: UpgradeContext, kind: str) -> list[DeletedObject]:
    """Return all objects of the webhook. Its workloads come last, because they show its namespace to a later run."""
    if context.webhooks.callers(kind):
        return []
    objects = [
        DeletedObject("Service", service.namespace, service.name)
        for service in context.webhooks.services(kind)
    ]
    objects += _leftovers(context, kind) + _secrets(context, kind)
    return objects + [
        _workload(workload) for workload in context.installed.all_of(kind) if not workload.companions
    ]


def _workload(workload: InstalledWorkload) -> DeletedObject:
    return DeletedObject(workload.kind, workload.namespace, workload.name)


Phase = Callable[[UpgradeContext, HazardIds], Iterable[Step]]
# The order of the phases, and its reasons:
# - First of all the webhooks of an interrupted run, because a failurePolicy Fail may refuse every write until then.
# - CRDs first, then permissions, then the controller.
# - Narrower rules before a webhook that knows fewer kinds. Wider rules after a webhook that knows more.
# - A new webhook before the configuration that calls it. A removed webhook after its configuration.
# - Verifications after the writes, and deletions at the end.
PHASES: tuple[Phase, ...] = (
    _settle_webhooks,
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
