# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of a cluster that carries out the steps of a plan, and the conditions that must hold after each step.

A model, of what facts say a real one does: so that every plan can be cut off after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.actions.action import Step
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.installers import OURS
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.installed.state import (
    Hook,
    InstalledState,
    InstalledWorkload,
    OrphanReplicaSet,
    Secret,
    Service,
    WebhookConfiguration,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.kinds import (
    CONTROLLER,
    CONVERSION,
    ORPHAN_LABEL,
    PORT_LABEL,
    RELEASE_LABEL,
    VALIDATION,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release import (
    crd_sets,
    flags,
    release_table,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.crd_sets import (
    Conversion,
    Crd,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.pod_templates import (
    DRAINS_SINCE,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._snapshot.release.release_table import (
    GROUP,
    GROUP_CONTENTS,
    SNAPSHOT,
    Release,
    Version,
)

NAMES = {
    VALIDATION: ("snapshot-validation-deployment", "snapshot-validation-service"),
    CONVERSION: ("snapshot-conversion-webhook-deployment", "snapshot-conversion-webhook-service"),
}
PORT = 8443
# The releases whose controllers need more permissions than those before them (rbac-snapshot-controller.yaml).
RIGHTS_SINCE: tuple[Version, ...] = ((5, 0, 0), (7, 0, 0), (8, 2, 0))


@dataclass
class ModelCluster:
    """The model. installed: the installed state. rights: the release whose permissions exist. ports: the target ports of Services.

    lists: whether contents list handles, and hidden: whether a write at another version has lost them.
    before: the state and the target ports before the hop, for an undo.
    """

    installed: InstalledState
    rights: Version
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    lost: bool = False
    before: tuple[InstalledState, dict[tuple[str, str], int]] = field(
        default_factory=lambda: (InstalledState(), {})
    )

    def do(self, step: Step) -> None:
        getattr(self, f"_{step.action.action_name}")(step.action.parameters())

    def _apply(self, given: Mapping[str, Any]) -> None:
        release = release_table.get(given["release"])
        for part in given["parts"]:
            getattr(self, f"_apply_{part}")(release, given)

    def _apply_crds(self, release: Release, _given: Mapping[str, Any]) -> None:
        self._put_crds(SNAPSHOT, crd_sets.row(release.crds, SNAPSHOT), ())

    def _apply_group_crds(self, release: Release, given: Mapping[str, Any]) -> None:
        self._put_crds(GROUP, crd_sets.row(release.group_crds, GROUP), given.get("keep_unserved", ()))

    def _put_crds(self, group: str, row: crd_sets.CrdSet, kept: Any) -> None:
        crds = dict(self.installed.crds)
        for name in crd_sets.names(group):
            live = crds.get(name)
            versions = dict(row.versions)
            if live:
                versions.update({entry: crd_sets.LISTED for entry in kept if entry in live.versions})
            stored = [*(live.stored_versions if live else ()), row.storage]
            assert set(stored) <= set(versions), (
                f"{name}: status.storedVersions: missing from spec.versions: {stored}"
            )
            conversion = live.conversion if live else Conversion()
            exact = row if versions == dict(row.versions) else None
            crds[name] = Crd(name, versions, tuple(dict.fromkeys(stored)), exact, conversion)
        self._set(
            crds=crds,
            crd_origins={**self.installed.crd_origins, **dict.fromkeys(crd_sets.names(group), OURS)},
        )

    def _apply_controller_rbac(self, release: Release, _given: Mapping[str, Any]) -> None:
        self.rights = release.version
        self._set(controller_role=OURS)

    def _apply_controller(self, release: Release, given: Mapping[str, Any]) -> None:
        selector = {release.label: "snapshot-controller"}
        arguments = ("--v=5", "--leader-election=true", *given["arguments"])
        made = InstalledWorkload(
            CONTROLLER, "Deployment", given["namespace"], "snapshot-controller", "i", release.version, arguments, selector,
            replicas=2, available=2,
        )  # fmt: skip
        self._put(made)

    def _apply_webhook(self, release: Release, given: Mapping[str, Any]) -> None:
        hook = release.webhook
        assert hook
        secret = self.installed.secret(given["namespace"], given["secret"])
        assert secret and secret.type == "kubernetes.io/tls", "its pods would not start"
        answers = not hook.service_account or self.installed.webhook_account
        made = InstalledWorkload(
            hook.kind, "Deployment", given["namespace"], hook.deployment, "i", release.version,
            tuple(given.get("arguments", ())), hook.selector, (given["secret"],), hook.service_account,
            release_table.is_at_least(self.installed.kubernetes, DRAINS_SINCE), PORT, available=2 * answers,
        )  # fmt: skip
        self._put(made)

    def _put(self, made: InstalledWorkload) -> None:
        place = (made.kind, made.namespace, made.name)
        rest = [
            workload
            for workload in self.installed.workloads
            if (workload.kind, workload.namespace, workload.name) != place
        ]
        old = [
            workload
            for workload in self.installed.workloads
            if (workload.kind, workload.namespace, workload.name) == place
        ]
        assert all(dict(entry.selector) == dict(made.selector) for entry in old), (
            "spec.selector: field is immutable"
        )
        self._set(workloads=(made, *rest))

    def _apply_webhook_rbac(self, _release: Release, _given: Mapping[str, Any]) -> None:
        self._set(webhook_account=True)

    def _apply_webhook_service(self, release: Release, given: Mapping[str, Any]) -> None:
        assert release.webhook
        self._put_service(given["namespace"], release.webhook.service, dict(release.webhook.selector), PORT)

    def _put_service(self, namespace: str, name: str, selector: Mapping[str, str], port: int | None) -> None:
        rest = [
            service
            for service in self.installed.services
            if (service.namespace, service.name) != (namespace, name)
        ]
        self._set(services=(*rest, Service(namespace, name, selector)))
        if port:
            self.ports[namespace, name] = port

    def _apply_webhook_configurations(self, release: Release, given: Mapping[str, Any]) -> None:
        assert release.webhook
        rules = {configuration.name: configuration for configuration in release.webhook.configurations}
        made = []
        for name, policy in given["failure_policies"].items():
            rule = rules[name]
            hook = Hook(
                name, (given["namespace"], release.webhook.service), rule.path, policy, tuple(rule.as_rules())
            )
            made.append(WebhookConfiguration(name, (rule.group,), (hook,)))
        rest = [
            configuration
            for configuration in self.installed.configurations
            if configuration.name not in given["failure_policies"]
        ]
        self._set(configurations=(*made, *rest))

    def _conversion_none(self, given: Mapping[str, Any]) -> None:
        self._set_conversion(Conversion())

    def _conversion_webhook(self, given: Mapping[str, Any]) -> None:
        service = given["service"]
        assert self.installed.secret(given["secret"]["namespace"], given["secret"]["name"])
        self._set_conversion(Conversion("Webhook", (service["namespace"], service["name"]), True))

    def _set_conversion(self, conversion: Conversion) -> None:
        crd = replace(self.installed.crds[GROUP_CONTENTS], conversion=conversion)
        self._set(crds={**self.installed.crds, GROUP_CONTENTS: crd})

    def _migrate_storage(self, given: Mapping[str, Any]) -> None:
        crd = self.installed.crds[given["crd"]]
        assert crd.storage == given["version"], f"{crd.name} stores {crd.storage}"
        self._set(crds={**self.installed.crds, crd.name: replace(crd, stored_versions=(given["version"],))})

    def _narrow_rules(self, given: Mapping[str, Any]) -> None:
        made = [
            replace(
                configuration,
                hooks=tuple(
                    replace(hook, rules=tuple(given["rules"][hook.name])) for hook in configuration.hooks
                ),
            )
            if configuration.name == given["name"]
            else configuration
            for configuration in self.installed.configurations
        ]
        self._set(configurations=tuple(made))

    def _failure_policy(self, given: Mapping[str, Any]) -> None:
        made = [
            replace(
                configuration,
                hooks=tuple(replace(hook, failure_policy=given["policy"]) for hook in configuration.hooks),
            )
            if configuration.name in given["names"]
            else configuration
            for configuration in self.installed.configurations
        ]
        self._set(configurations=tuple(made))

    def _restore(self, given: Mapping[str, Any]) -> None:
        """Put objects back as they were before the hop."""
        restorers: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], None]] = {
            "Deployment": self._restore_workload,
            "StatefulSet": self._restore_workload,
            "Service": self._restore_service,
            "Secret": self._restore_secret,
            "ServiceAccount": self._restore_account,
            "CustomResourceDefinition": self._restore_conversion,
            "ValidatingWebhookConfiguration": self._restore_configuration,
        }
        for entry in given["objects"]:
            if entry["kind"] in restorers:
                restorers[entry["kind"]](entry, given)

    def _restore_workload(self, entry: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        place = (entry["kind"], entry["namespace"], entry["name"])
        (old,) = [
            workload
            for workload in self.before[0].workloads
            if (workload.kind, workload.namespace, workload.name) == place
        ]
        held = {secret.name for secret in self.installed.secrets if secret.namespace == old.namespace}
        assert set(old.secrets) <= held, "its pods would not start"
        # The labels by which a Service selects its pods are those of this collection's pods.
        self._put(replace(old, origin=OURS) if given.get("labels") else old)

    def _restore_service(self, entry: Mapping[str, Any], _given: Mapping[str, Any]) -> None:
        place = (entry["namespace"], entry["name"])
        (old,) = [
            service for service in self.before[0].services if (service.namespace, service.name) == place
        ]
        self._put_service(*place, old.selector, self.before[1].get(place))

    def _restore_secret(self, entry: Mapping[str, Any], _given: Mapping[str, Any]) -> None:
        old = self.before[0].secret(entry["namespace"], entry["name"])
        assert old and not self.installed.secret(old.namespace, old.name), "it is not deleted"
        self._set(secrets=(*self.installed.secrets, old))

    def _restore_account(self, entry: Mapping[str, Any], _given: Mapping[str, Any]) -> None:
        assert entry["name"] == "snapshot-webhook"
        self._set(webhook_account=True)

    def _restore_conversion(self, entry: Mapping[str, Any], _given: Mapping[str, Any]) -> None:
        assert entry["name"] == GROUP_CONTENTS
        self._set_conversion(self.before[0].crds[GROUP_CONTENTS].conversion)

    def _restore_configuration(self, entry: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        (old,) = [
            configuration
            for configuration in self.before[0].configurations
            if configuration.name == entry["name"]
        ]
        if old.name in given.get("ignoring", ()):
            old = replace(old, hooks=tuple(replace(hook, failure_policy="Ignore") for hook in old.hooks))
        rest = [
            configuration for configuration in self.installed.configurations if configuration.name != old.name
        ]
        self._set(configurations=(old, *rest))

    def _delete(self, given: Mapping[str, Any]) -> None:
        for entry in given["objects"]:
            self._delete_one(entry)

    def _delete_one(self, entry: Mapping[str, Any]) -> None:
        kind, place = entry["kind"], (entry.get("namespace", ""), entry.get("name", ""))
        here = self.installed
        if kind in ("Deployment", "StatefulSet"):
            left = [
                workload
                for workload in here.workloads
                if (workload.kind, workload.namespace, workload.name) != (kind, *place)
            ]
            self._set(workloads=tuple(left))
        elif kind == "ReplicaSet":
            of = entry.get("label_selector", "").partition("=")[2]
            left_sets = [
                orphan_set
                for orphan_set in here.orphan_sets
                if orphan_set.of != of and orphan_set.workload.name != place[1]
            ]
            self._set(orphan_sets=tuple(left_sets))
        elif kind == "ValidatingWebhookConfiguration":
            self._set(
                configurations=tuple(
                    configuration for configuration in here.configurations if configuration.name != place[1]
                )
            )
        elif kind == "Service":
            self._set(
                services=tuple(
                    service for service in here.services if (service.namespace, service.name) != place
                )
            )
        elif kind == "Secret":
            self._set(
                secrets=tuple(secret for secret in here.secrets if (secret.namespace, secret.name) != place)
            )
        elif kind == "CustomResourceDefinition":
            assert place[1].endswith(GROUP) and not here.groups.total
            self._set(crds={name: crd for name, crd in here.crds.items() if name != place[1]})
        elif kind == "ServiceAccount":
            self._set(webhook_account=False)

    def _certificate(self, given: Mapping[str, Any]) -> None:
        place = (given["namespace"], given["secret"])
        old = self.installed.secret(*place)
        assert old is None or old.type == "kubernetes.io/tls", "type: field is immutable"
        there = {configuration.name for configuration in self.installed.configurations} | set(
            self.installed.crds
        )
        assert {target["name"] for target in given["targets"]} <= there
        rest = [secret for secret in self.installed.secrets if (secret.namespace, secret.name) != place]
        self._set(secrets=(*rest, Secret(*place, "kubernetes.io/tls", ("ca.crt", "tls.crt", "tls.key"))))

    def _orphan(self, given: Mapping[str, Any]) -> None:
        gone = [
            workload
            for workload in self.installed.workloads
            if (workload.kind, workload.namespace, workload.name)
            == ("Deployment", given["namespace"], given["name"])
        ]
        made = [
            OrphanReplicaSet(replace(entry, kind="ReplicaSet", name=f"{entry.name}-1"), entry.name, True)
            for entry in gone
        ]
        old = [replace(orphan_set, labelled=True) for orphan_set in self.installed.orphan_sets]
        self._set(
            workloads=tuple(workload for workload in self.installed.workloads if workload not in gone),
            orphan_sets=(*old, *made),
        )

    def _switch_service(self, given: Mapping[str, Any]) -> None:
        self._put_service(given["namespace"], given["name"], given["selector"], given.get("target_port"))

    def _reconnect(self, given: Mapping[str, Any]) -> None:
        """Nothing that the model knows."""

    def _wait_available(self, given: Mapping[str, Any]) -> None:
        found = [workload for workload in self.installed.workloads if workload.name == given["name"]]
        assert found and all(entry.available for entry in found), "it never gets available"

    def _watch_pods(self, given: Mapping[str, Any]) -> None:
        (live,) = [workload for workload in self.installed.workloads if workload.name == given["name"]]
        assert live.available, "its pods do not stay up"
        selectors = [service.selector.items() for service in self.installed.services]
        assert any(selector <= _labels(live).items() for selector in selectors), (
            "no Service leads to its pods yet"
        )
        assert any(orphan_set.of == given["name"] for orphan_set in self.installed.orphan_sets), (
            "the old pods are gone"
        )

    def _verify(self, given: Mapping[str, Any]) -> None:
        if given["subject"] == "version":
            controller = self.installed.running(CONTROLLER)[0]
            assert controller.version == release_table.get(given["release"]).version
        if given["subject"] == "webhook":
            hooks = [
                hook
                for configuration in self.installed.configurations
                if configuration.name == given["name"]
                for hook in configuration.hooks
            ]
            needed = {
                "empty-class": "volumesnapshots",
                "second-default-class": "volumesnapshotclasses",
                "empty-reference": "volumesnapshotcontents",
            }[given["check"]]
            assert any(needed in hook.resources() for hook in hooks), "it is not asked about that"
            crd = self.installed.crds[f"volumesnapshots.{SNAPSHOT}"]
            assert given["check"] != "empty-class" or not (crd.set and crd.set.rules), (
                "the CRD refuses it first"
            )

    def _set(self, **fields: Any) -> None:
        self.installed = replace(self.installed, **fields)

    # The conditions that must hold after every step.

    def faults(self) -> Iterator[str]:
        yield from self._webhook_faults()
        yield from self._conversion_faults()
        yield from self._controller_faults()

    def _pods(self, kind: str) -> Iterator[tuple[InstalledWorkload, dict[str, str]]]:
        for workload in self.installed.running(kind):
            yield workload, _labels(workload)
        for gone in self.installed.orphan_sets:
            if gone.program == kind:
                yield gone.workload, {**_labels(gone.workload), ORPHAN_LABEL: gone.of}

    def _called(self, kind: str, place: tuple[str, str]) -> list[InstalledWorkload]:
        """Pods that the Service leads to and that listen where it leads."""
        service = next(
            (service for service in self.installed.services if (service.namespace, service.name) == place),
            None,
        )
        if service is None:
            return []
        return [
            workload for workload, labels in self._pods(kind) if service.selector.items() <= labels.items()
        ]

    def _webhook_faults(self) -> Iterator[str]:
        for configuration in self.installed.configurations:
            for hook in configuration.hooks:
                assert hook.service
                called = self._called(VALIDATION, hook.service)
                if not called or not all(entry.available for entry in called):
                    yield f"{configuration.name}: nobody answers"
                if any(entry.port != self.ports.get(hook.service, 443) for entry in called):
                    yield f"{configuration.name}: connection refused"
                denied = {
                    resource for entry in called for resource in hook.resources() - _known(entry.version)
                }
                if denied:
                    yield f"{configuration.name}: denies {', '.join(sorted(denied))}"
                if GROUP in configuration.groups and not all(_serves_groups(entry) for entry in called):
                    yield f"{configuration.name}: the server could not find the requested resource"

    def _conversion_faults(self) -> Iterator[str]:
        crd = self.installed.crds.get(GROUP_CONTENTS)
        if crd is None:
            return
        if crd.conversion.strategy == "Webhook":
            assert crd.conversion.service
            called = self._called(CONVERSION, crd.conversion.service)
            if not called or any(
                entry.port != self.ports.get(crd.conversion.service, 443) for entry in called
            ):
                yield "conversion: nobody answers"
            return
        speaks = [
            workload
            for workload in (self._spoken(each) for each in self.installed.running(CONTROLLER))
            if workload
        ]
        if self.installed.groups.lists and crd.storage == "v1beta2":
            if "v1beta1" in crd.stored_versions:
                yield "lists of handles are hidden, and lost at the next write"
            if "v1beta1" in speaks:
                yield "a controller that speaks v1beta1 loses lists of handles"

    def _spoken(self, controller: InstalledWorkload) -> str:
        release = release_table.find(controller.version)
        on = (
            release is not None
            and release.groups is not None
            and flags.groups_on(controller.arguments, release)
        )
        return release.groups.version if on and release and release.groups else ""

    def _controller_faults(self) -> Iterator[str]:
        for program in self.installed.running(CONTROLLER):
            release = release_table.find(program.version)
            assert release
            if flags.unknown(CONTROLLER, program.arguments, release):
                yield f"{program}: flag provided but not defined"
            if any(self.rights < since <= release.version for since in RIGHTS_SINCE):
                yield f"{program}: forbidden"
        places = {
            workload.namespace
            for workload in self.installed.running(CONTROLLER)
            if workload.kind == "Deployment"
        }
        if len(places) > 1:
            yield "two controllers lead"


def _labels(workload: InstalledWorkload) -> dict[str, str]:
    """Return the labels of its pods. Only pods of this collection have the label of their release."""
    if workload.origin.key or workload.version is None:
        return dict(workload.selector)
    return {
        **workload.selector,
        RELEASE_LABEL: release_table.text(workload.version),
        PORT_LABEL: str(workload.port),
    }


def _known(version: Version | None) -> set[str]:
    """Return the resources that a validation webhook accepts."""
    assert version
    groups = {f"volumegroupsnapshot{part}" for part in ("s", "contents", "classes")}
    if version >= (8, 0, 0):
        return {"volumesnapshotclasses", "volumegroupsnapshotclasses"}
    old = {"volumesnapshots", "volumesnapshotcontents"}
    return old if version < (6, 0, 0) else old | {"volumesnapshotclasses"} | groups


def _serves_groups(workload: InstalledWorkload) -> bool:
    return "--enable-volume-group-snapshot-webhook" in workload.arguments
