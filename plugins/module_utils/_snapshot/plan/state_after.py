# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""What a cluster is like after a hop: where the next one starts from, and what a finished one looks like. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..installed.installers import OURS
from ..installed.state import (
    CONTROLLER,
    CONVERSION,
    SIDECAR,
    VALIDATION,
    Configuration,
    Hook,
    Installed,
    Secret,
    Service,
    Workload,
)
from ..release import crd_sets
from ..release.crd_sets import Conversion, Crd
from ..release.release_table import CONTROLLER as CONTROLLER_NAME
from ..release.release_table import GROUP, GROUP_CONTENTS, SNAPSHOT
from .upgrade_context import DRAINS_SINCE, Situation

REGISTRY = "registry.k8s.io/sig-storage"


def after(now: Situation) -> Installed:
    """The cluster when every step of the hop was done."""
    crds = dict(_crds_after(now))
    kinds = [kind for kind in (VALIDATION, CONVERSION) if now.wants(kind)]
    return replace(
        now.installed,
        crds=crds,
        crd_origins=dict.fromkeys(crds, OURS),
        workloads=(
            _controller(now),
            *(_webhook(now, kind) for kind in kinds),
            *now.installed.running(SIDECAR),
        ),
        detached=(),
        configurations=tuple(_configurations(now)),
        services=tuple(
            Service(now.webhook_namespace(kind), now.hook(kind).service, now.hook(kind).selector)
            for kind in kinds
        ),
        secrets=tuple(
            Secret(
                now.webhook_namespace(kind),
                now.secret(kind),
                "kubernetes.io/tls",
                ("ca.crt", "tls.crt", "tls.key"),
            )
            for kind in kinds
        ),
        controller_role=OURS,
        missing_rights=(),
        webhook_account=now.wants(VALIDATION) and bool(now.hook(VALIDATION).service_account),
        leftovers=(),
        unreadable={what: why for what, why in now.installed.unreadable.items() if what != "group_contents"},
    )


def _crds_after(now: Situation) -> Iterator[tuple[str, Crd]]:
    groups = now.present(GROUP) or now.groups_wanted or now.wants(CONVERSION)
    for group, key, wanted in (
        (SNAPSHOT, now.release.crds, True),
        (GROUP, now.release.group_crds, groups and now.release.groups is not None),
    ):
        for name in crd_sets.names(group):
            live = now.installed.crds.get(name)
            if wanted and not now.keeps(group):
                yield name, _as_released(now, name, group, key)
            elif live:
                yield name, _with_conversion(now, live)


def _as_released(now: Situation, name: str, group: str, key: str) -> Crd:
    row = crd_sets.row(key, group)
    live = now.installed.crds.get(name)
    stored = [] if live is None else [one for one in live.stored_versions if one in row.versions]
    alpha = live is not None and "v1alpha1" in live.stored_versions and "v1alpha1" not in row.versions
    if alpha and now.installed.groups.total:
        stored.append("v1beta1")
    rewritten = group == GROUP and row.key == "8.6"
    stored = [row.storage] if rewritten else list(dict.fromkeys([*stored, row.storage]))
    conversion = live.conversion if live else Conversion()
    return _with_conversion(now, Crd(name, row.versions, tuple(stored), row, conversion))


def _with_conversion(now: Situation, crd: Crd) -> Crd:
    if crd.name != GROUP_CONTENTS:
        return crd
    if not now.wants(CONVERSION):
        return replace(crd, conversion=Conversion())
    service = (now.webhook_namespace(CONVERSION), now.hook(CONVERSION).service)
    return replace(crd, conversion=Conversion("Webhook", service, has_bundle=True))


def _controller(now: Situation) -> Workload:
    return Workload(
        CONTROLLER,
        "Deployment",
        now.namespace,
        CONTROLLER_NAME,
        image=f"{REGISTRY}/{CONTROLLER_NAME}:v{now.release}",
        version=now.release.version,
        arguments=("--v=5", "--leader-election=true", *now.controller_arguments),
        selector=now.selector,
        service_account=CONTROLLER_NAME,
        replicas=2,
        available=2,
    )


def _webhook(now: Situation, kind: str) -> Workload:
    hook = now.hook(kind)
    return Workload(
        kind,
        "Deployment",
        now.webhook_namespace(kind),
        hook.deployment,
        image=f"{REGISTRY}/{hook.image}:v{now.release}",
        version=now.release.version,
        arguments=tuple(now.webhook_arguments(kind)),
        selector=hook.selector,
        secrets=(now.secret(kind),),
        service_account=hook.service_account,
        drains=now.installed.kubernetes >= DRAINS_SINCE,
        port=now.options.webhook_port,
        host_network=now.options.webhook_host_network,
        replicas=2,
        available=2,
    )


def _configurations(now: Situation) -> Iterator[Configuration]:
    for rules in now.configurations:
        policy = now.failure_policy(rules)
        service = (now.webhook_namespace(VALIDATION), now.hook(VALIDATION).service)
        hook = Hook(rules.name, service, rules.path, policy, tuple(rules.as_rules()), VALIDATION)
        yield Configuration(rules.name, (rules.group,), (hook,))
