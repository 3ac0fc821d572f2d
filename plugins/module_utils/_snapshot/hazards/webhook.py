# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Hazards of the webhooks: their rules, Services, Secrets, pods, and the order of the steps. Pure."""

from __future__ import annotations

from ..context.upgrade_context import UpgradeContext
from ..installed.state import Hook
from ..kinds import CONVERSION, VALIDATION
from ..release.release_table import (
    CONFIGURATION_NAMES,
    VOLUME_MODE_SINCE,
    is_at_least,
)
from .finding import Finding, finding_of


def find_rules_first(context: UpgradeContext) -> Finding | None:
    """Find kinds that the new webhook does not know and so denies. failurePolicy Ignore does not help."""
    live = {row.name: row.hooks for row in context.installed.configurations}
    return finding_of(
        f"ValidatingWebhookConfiguration {rules.name}: {', '.join(sorted(hook.resources() - set(rules.resources)))}"
        for rules in context.webhooks.configurations
        for hook in live.get(rules.name, ())
        if hook.resources() - set(rules.resources)
    )


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


def find_volume_mode(context: UpgradeContext) -> Finding | None:
    is_new = is_at_least(context.release.version, VOLUME_MODE_SINCE)
    if not is_new or not context.version or is_at_least(context.version, VOLUME_MODE_SINCE):
        return None
    arguments = (*context.options.controller_arguments, *context.options.webhook_arguments)
    if any(argument.startswith("--prevent-volume-mode-conversion=false") for argument in arguments):
        return None
    return Finding(
        ("--prevent-volume-mode-conversion is true from 7.0 on",),
        "A restore that changes the volume mode between Block and Filesystem is refused unless its VolumeSnapshotContent has the annotation "
        'snapshot.storage.kubernetes.io/allow-volume-mode-change: "true". Backup tools that move data set it.',
    )
