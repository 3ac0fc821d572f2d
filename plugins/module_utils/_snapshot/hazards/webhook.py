# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the webhooks: their rules, Services, Secrets, pods, and the order of the steps. Pure."""

from __future__ import annotations

from ..context.upgrade_context import UpgradeContext
from ..installed.state import Hook, InstalledWorkload
from ..kinds import CONVERSION, VALIDATION
from ..release.pod_templates import DRAINS_SINCE
from ..release.release_table import (
    CLASSES_SINCE,
    CONFIGURATION_NAMES,
    GROUP,
    VOLUME_MODE_SINCE,
    WebhookRules,
    is_at_least,
    text,
)
from .finding import Finding, finding_of, labels


def _pairs(context: UpgradeContext) -> list[tuple[WebhookRules, Hook]]:
    """Return each configuration that is kept, with its webhooks."""
    live = ((rules, context.webhooks.live(rules)) for rules in context.webhooks.configurations)
    return [(rules, hook) for rules, configuration in live if configuration for hook in configuration.hooks]


def find_rules_first(context: UpgradeContext) -> Finding | None:
    """Find kinds that the new webhook does not know and so denies. failurePolicy Ignore does not help."""
    wide = [
        f"ValidatingWebhookConfiguration {rules.name}: {', '.join(sorted(hook.resources() - set(rules.resources)))}"
        for rules, hook in _pairs(context)
        if hook.resources() - set(rules.resources)
    ]
    return finding_of(wide)


def find_webhook_first(context: UpgradeContext) -> Finding | None:
    """Find kinds of the new rules that the old webhook denies."""
    if not context.webhooks.wants(VALIDATION):
        return None
    live = context.installed.webhook(VALIDATION)
    wider = [rules.name for rules, hook in _pairs(context) if set(rules.resources) - hook.resources()]
    denied = [
        f"{live} {text(live.version)} denies every class, and the configuration has a rule for classes"
        for rules, hook in _pairs(context)
        if live
        and live.version
        and not is_at_least(live.version, CLASSES_SINCE)
        and "volumesnapshotclasses" in hook.resources()
    ]
    return finding_of(
        [*denied, *(f"ValidatingWebhookConfiguration {name} gets more kinds" for name in wider)]
    )


def find_secret_type(context: UpgradeContext) -> Finding | None:
    if not context.webhooks.wants(VALIDATION):
        return None
    namespace = context.webhooks.namespace(VALIDATION)
    found = [context.installed.secret(namespace, name) for name in context.webhooks.mounted(VALIDATION)]
    wrong = [secret for secret in found if secret and secret.type != "kubernetes.io/tls"]
    return finding_of(
        f"Secret {secret.namespace}/{secret.name}: type {secret.type}, keys {', '.join(secret.keys)}"
        for secret in wrong
    )


def find_webhook_selector(context: UpgradeContext) -> Finding | None:
    live = context.installed.webhook(VALIDATION)
    if (
        live is None
        or not context.webhooks.wants(VALIDATION)
        or dict(live.selector) == dict(context.webhooks.hook(VALIDATION).selector)
    ):
        return None
    return Finding(
        (
            f"{live}: selector {labels(live.selector)}, required {labels(context.webhooks.hook(VALIDATION).selector)}",
        )
    )


def find_no_drain(context: UpgradeContext) -> Finding | None:
    kinds = [kind for kind in context.webhooks.wanted if context.webhooks.hands_over(kind)]
    live = [webhook for kind in kinds if (webhook := context.installed.webhook(kind)) and not webhook.drains]
    return finding_of(f"{workload}: no preStop sleep" for workload in live)


def find_webhook_port(context: UpgradeContext) -> Finding | None:
    port = context.options.webhook_port
    live = _live(context)
    moving = [
        f"{workload} listens on port {workload.port}, and the new pods on {port}"
        for workload in live
        if workload.port != port
    ]
    return finding_of(moving)


def find_host_port(context: UpgradeContext) -> Finding | None:
    port = context.options.webhook_port
    live = [
        workload
        for workload in _live(context)
        if workload.host_network and workload.port == port and context.webhooks.hands_over(workload.program)
    ]
    if not (live and context.options.webhook_host_network):
        return None
    return finding_of(
        (f"{workload} uses port {port} of its nodes" for workload in live),
        "Set another webhook_port, or provide more nodes. New pods cannot be scheduled on these nodes until the old pods end, and "
        "the old pods end only when the new pods are ready.",
    )


def _live(context: UpgradeContext) -> list[InstalledWorkload]:
    """Return the installed webhooks that are kept."""
    found = [context.installed.webhook(kind) for kind in context.webhooks.wanted]
    return [workload for workload in found if workload]


def find_no_drain_here(context: UpgradeContext) -> Finding | None:
    """Find new pods that cannot sleep before they end, so a later change of options interrupts calls."""
    kubernetes = context.installed.kubernetes
    if not context.webhooks.wanted or kubernetes == (0, 0) or is_at_least(kubernetes, DRAINS_SINCE):
        return None
    return Finding(
        (f"Kubernetes {context.installed.kubernetes_version}",),
        "If only options change, the webhook's old pods end during calls. With failurePolicy Fail, change options together with "
        "the release, or set failure_policy: Ignore for that run.",
    )


def find_groups_path(context: UpgradeContext) -> Finding | None:
    found = [
        configuration
        for configuration in context.webhooks.surplus
        if configuration.groups == (GROUP,) and context.webhooks.wants(VALIDATION)
    ]
    return finding_of(f"ValidatingWebhookConfiguration {configuration.name}" for configuration in found)


def find_dangling_configuration(context: UpgradeContext) -> Finding | None:
    """Find configurations whose webhook is removed or does not exist."""
    if context.webhooks.wants(VALIDATION) or not context.installed.configurations:
        return None
    return finding_of(
        f"ValidatingWebhookConfiguration {configuration.name}: {hook.failure_policy}"
        for configuration in context.installed.configurations
        for hook in configuration.hooks
    )


def find_webhook_left(context: UpgradeContext) -> Finding | None:
    kinds = [
        kind
        for kind in (VALIDATION, CONVERSION)
        if not context.webhooks.wants(kind) and not context.webhooks.callers(kind)
    ]
    found = [str(workload) for kind in kinds for workload in context.installed.running(kind)]
    return finding_of(found)


def find_mixed_object(context: UpgradeContext) -> Finding | None:
    """Find objects with upstream's names that hold something of another owner."""
    foreign = [str(row) for row in context.installed.foreign if row.name in CONFIGURATION_NAMES]
    mixed = context.installed.mixed
    objects = [f"{name}: {mixed[name]}" for name in (*foreign, *context.webhooks.own_names) if name in mixed]
    return finding_of(
        objects,
        "Move the parts of other owners into objects with other names. If the webhook's image comes from a mirror, set "
        "image_registry to the mirror.",
    )


def find_foreign_configuration(context: UpgradeContext) -> Finding | None:
    """Find configurations of other owners that name snapshots."""
    found = [
        f"{configuration}: webhook {hook.name} calls {_backend(hook)}"
        for configuration in context.installed.foreign
        for hook in configuration.hooks
        if configuration.groups
    ]
    return finding_of(
        found,
        "The upgrade does not change it. If it belongs to an obsolete snapshot webhook, delete it yourself.",
    )


def _backend(hook: Hook) -> str:
    return f"Service {'/'.join(hook.service)}" if hook.service else "a URL"


def find_webhook_shared(context: UpgradeContext) -> Finding | None:
    """Find webhooks of other owners' configurations that call the snapshot controller's webhook."""
    found = [
        (kind, f"{configuration}: webhook {hook.name} ({hook.failure_policy}) calls {_backend(hook)}")
        for kind in (VALIDATION, CONVERSION)
        for configuration, hook in context.webhooks.callers(kind)
    ]
    if not found:
        return None
    stays = any(context.webhooks.wants(kind) for kind, _words in found)
    return finding_of(
        (words for _kind, words in found),
        "Its caBundle must trust the webhook's CA, which may change. Add the CA with webhook_cabundle."
        if stays
        else "Point it to another Service or delete it. Then run the upgrade again, which removes the webhook.",
    )


def find_secret_kept(context: UpgradeContext) -> Finding | None:
    """Find Secrets of the webhook that the upgrade keeps, with the reasons."""
    found = [
        f"{secret} is kept: {why}"
        for kind in (VALIDATION, CONVERSION)
        if not context.webhooks.callers(kind)
        for secret in context.webhooks.candidates(kind)
        if not (context.webhooks.wants(kind) and secret.name == context.webhooks.secret(kind))
        and (why := context.webhooks.why_kept(kind, secret))
    ]
    return finding_of(found, "Delete it yourself if no program needs it.")


def find_names_elsewhere(context: UpgradeContext) -> Finding | None:
    """Find objects with upstream's names outside of the webhook's namespace."""
    found = context.webhooks.elsewhere()
    return finding_of(
        found,
        "The upgrade does not change them. If they are left from an earlier installation, delete them yourself.",
    )


def find_nobody_behind(context: UpgradeContext) -> Finding | None:
    """Find configurations without a working webhook, which a repair corrects."""
    if not context.webhooks.wants(VALIDATION) or not context.installed.configurations:
        return None
    live = context.installed.webhook(VALIDATION)
    detached = context.installed.orphans(VALIDATION)
    services = {(service.namespace, service.name) for service in context.installed.services}
    gone = [
        f"Service {place}/{name} does not exist"
        for place, name in context.webhooks.called(VALIDATION)
        if (place, name) not in services
    ]
    if live is None and not detached:
        gone.append("no Deployment runs the webhook")
    elif live is not None and not live.available:
        gone.append(f"{live}: no pod is available")
    return finding_of(gone)


def find_volume_mode(context: UpgradeContext) -> Finding | None:
    if not context.passes_version(VOLUME_MODE_SINCE) or not context.version:
        return None
    arguments = (*context.options.controller_arguments, *context.options.webhook_arguments)
    if any(argument.startswith("--prevent-volume-mode-conversion=false") for argument in arguments):
        return None
    return Finding(
        ("--prevent-volume-mode-conversion is true from 7.0 on",),
        "A restore that changes the volume mode between Block and Filesystem is refused unless its VolumeSnapshotContent has the annotation "
        'snapshot.storage.kubernetes.io/allow-volume-mode-change: "true". Backup tools that move data set it.',
    )
