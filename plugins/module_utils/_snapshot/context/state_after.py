# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Predict the installed state after a hop. The next hop is planned from it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..installed.installers import OURS
from ..installed.state import Hook, InstalledState, InstalledWorkload, Secret, Service, WebhookConfiguration
from ..kinds import CONTROLLER, CONTROLLER_NAME, CONVERSION, REGISTRY, SIDECAR, VALIDATION
from ..release import crd_sets
from ..release.crd_sets import Conversion, Crd
from ..release.pod_templates import DRAINS_SINCE
from ..release.release_table import GROUP, GROUP_CONTENTS, OLD_LISTS, SNAPSHOT, is_at_least
from .upgrade_context import UpgradeContext


def state_after(context: UpgradeContext) -> InstalledState:
    """Return the installed state after every step of the hop."""
    crds = dict(_crds_after(context))
    kinds = context.webhooks.wanted
    return replace(
        context.installed,
        crds=crds,
        crd_origins=dict.fromkeys(crds, OURS),
        workloads=(
            _controller(context),
            *(_webhook(context, kind) for kind in kinds),
            *context.installed.running(SIDECAR),
        ),
        orphan_sets=(),
        configurations=tuple(_configurations(context)),
        services=tuple(
            Service(
                context.webhooks.namespace(kind),
                context.webhooks.hook(kind).service,
                context.webhooks.hook(kind).selector,
            )
            for kind in kinds
        ),
        secrets=tuple(
            Secret(
                context.webhooks.namespace(kind),
                context.webhooks.secret(kind),
                "kubernetes.io/tls",
                ("ca.crt", "tls.crt", "tls.key"),
            )
            for kind in kinds
        ),
        controller_role=OURS,
        webhook_account=context.webhooks.wants(VALIDATION)
        and bool(context.webhooks.hook(VALIDATION).service_account),
        leftovers=(),
        unreadable={
            what: why for what, why in context.installed.unreadable.items() if what != "group_contents"
        },
    )


def _crds_after(context: UpgradeContext) -> Iterator[tuple[str, Crd]]:
    groups = context.present(GROUP) or context.groups.wanted or context.webhooks.wants(CONVERSION)
    for group, key, wanted in (
        (SNAPSHOT, context.release.crds, True),
        (GROUP, context.release.group_crds, groups and context.release.groups is not None),
    ):
        for name in crd_sets.names(group):
            live = context.installed.crds.get(name)
            if wanted and not context.keeps(group):
                yield name, _as_released(context, name, group, key)
            elif live:
                yield name, _with_conversion(context, live)


def _as_released(context: UpgradeContext, name: str, group: str, key: str) -> Crd:
    row = crd_sets.row(key, group)
    live = context.installed.crds.get(name)
    stored = [] if live is None else [version for version in live.stored_versions if version in row.versions]
    alpha = live is not None and "v1alpha1" in live.stored_versions and "v1alpha1" not in row.versions
    if alpha and context.installed.groups.total:
        stored.append("v1beta1")
    if group == GROUP and context.groups.ends_conversion:
        stored = [version for version in stored if version not in OLD_LISTS]
    stored = list(dict.fromkeys([*stored, row.storage]))
    conversion = live.conversion if live else Conversion()
    return _with_conversion(context, Crd(name, row.versions, tuple(stored), row, conversion))


def _with_conversion(context: UpgradeContext, crd: Crd) -> Crd:
    if crd.name != GROUP_CONTENTS:
        return crd
    if not context.webhooks.wants(CONVERSION):
        return replace(crd, conversion=Conversion())
    service = (context.webhooks.namespace(CONVERSION), context.webhooks.hook(CONVERSION).service)
    return replace(crd, conversion=Conversion("Webhook", service, has_bundle=True))


def _controller(context: UpgradeContext) -> InstalledWorkload:
    return InstalledWorkload(
        CONTROLLER,
        "Deployment",
        context.namespace,
        CONTROLLER_NAME,
        image=f"{REGISTRY}/{CONTROLLER_NAME}:v{context.release}",
        version=context.release.version,
        arguments=("--v=5", "--leader-election=true", *context.controller_arguments),
        selector=context.selector,
        service_account=CONTROLLER_NAME,
        replicas=2,
        available=2,
    )


def _webhook(context: UpgradeContext, kind: str) -> InstalledWorkload:
    hook = context.webhooks.hook(kind)
    return InstalledWorkload(
        kind,
        "Deployment",
        context.webhooks.namespace(kind),
        hook.deployment,
        image=f"{REGISTRY}/{hook.image}:v{context.release}",
        version=context.release.version,
        arguments=tuple(context.webhooks.arguments(kind)),
        selector=hook.selector,
        secrets=(context.webhooks.secret(kind),),
        service_account=hook.service_account,
        drains=is_at_least(context.installed.kubernetes, DRAINS_SINCE),
        port=context.options.webhook_port,
        host_network=context.options.webhook_host_network,
        replicas=2,
        available=2,
    )


def _configurations(context: UpgradeContext) -> Iterator[WebhookConfiguration]:
    for rules in context.webhooks.configurations:
        policy = context.webhooks.failure_policy(rules)
        service = (context.webhooks.namespace(VALIDATION), context.webhooks.hook(VALIDATION).service)
        hook = Hook(rules.name, service, rules.path, policy, tuple(rules.as_rules()), VALIDATION)
        yield WebhookConfiguration(rules.name, (rules.group,), (hook,))
