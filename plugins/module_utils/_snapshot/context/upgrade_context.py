# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The context of one hop: the installed state, the release, the user's options, and facts that follow from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..._base.accept import NOTHING, Consent
from ..installed.installers import Origin
from ..installed.pod_specs import NEEDED_USERS
from ..installed.state import Hook, InstalledState, InstalledWorkload, Secret, Service, WebhookConfiguration
from ..kinds import CONTROLLER, CONTROLLER_NAME, CONVERSION, REGISTRY, SIDECAR, VALIDATION, Reference
from ..release import crd_sets, flags
from ..release.crd_sets import Crd
from ..release.release_table import (
    CONTROLLER_NAMESPACE,
    GATES_FLAG,
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    GROUP_FLAG,
    NEW_LISTS_SINCE,
    NO_VERSION,
    OLD_LABEL,
    OLD_LISTS,
    SNAPSHOT,
    Release,
    ReleaseWebhook,
    Version,
    WebhookRules,
    find,
    is_at_least,
    known_webhook,
    text,
)

# The first Kubernetes version that accepts updates of objects with invalid unchanged fields by default (KEP-4008).
RATCHETS_SINCE = (1, 30)

# The keys that a webhook's Secret may have. A Secret with other keys has other users.
SECRET_KEYS = frozenset({"tls.crt", "tls.key", "ca.crt", "cert.pem", "key.pem"})


# The conversion webhook sends no requests to the API server, so it has none of these objects.
_OF_REQUESTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")


def _name(entry: tuple[str, str, str]) -> str:
    return str(Reference(entry[0], entry[2], entry[1]))


def _belongs(entry: tuple[str, str, str], kind: str, place: str) -> bool:
    """Return True for an object of this kind of webhook. A namespaced object must be in the webhook's namespace."""
    what, namespace, name = entry
    if what in _OF_REQUESTS:
        return kind == VALIDATION and namespace in ("", place)
    known = known_webhook(kind)
    if what == "CertificateSigningRequest":
        return name == f"{known.service}.{place}"
    return (namespace, name) == (place, known.deployment)


@dataclass(frozen=True)
class Undo:
    """The undo of a failed hop. It restores the objects that the run read before the hop."""

    #: The installed state before the hop.
    before: InstalledState
    #: The objects that existed before the hop and that its steps could write.
    originals: frozenset[Reference]
    #: Those of them that the hop changed or deleted.
    changed: frozenset[Reference]
    #: Those of them that the hop deleted.
    deleted: frozenset[Reference]


@dataclass(frozen=True)
class UpgradeOptions:
    """The user's options. None and "" keep the present state, or the release's default."""

    namespace: str = ""
    webhook_namespace: str = ""
    validation_webhook: bool | None = None
    conversion_webhook: bool | None = None
    group_snapshots: bool | None = None
    failure_policy: str = ""
    #: By configuration name. They take precedence over failure_policy.
    failure_policies: Mapping[str, str] = field(default_factory=dict)
    #: The managers whose objects may be changed, and the hazards that the user accepts.
    accept: Consent = NOTHING
    #: "namespace/name" of controllers to delete.
    remove_controllers: tuple[str, ...] = ()
    #: The release of a controller whose image does not show it.
    installed_version: Version | None = None
    #: Arguments in addition to those of the manifest.
    controller_arguments: tuple[str, ...] = ()
    webhook_arguments: tuple[str, ...] = ()
    webhook_port: int = 8443
    webhook_host_network: bool = False
    #: Images of this registry count as upstream's.
    image_registry: str = REGISTRY
    #: None for an upgrade.
    undo: Undo | None = None


@dataclass(frozen=True)
class UpgradeContext:
    """The context of one hop: from the installed state to a release."""

    installed: InstalledState
    release: Release
    options: UpgradeOptions

    @cached_property
    def controller(self) -> InstalledWorkload | None:
        """The installed controller, None if none runs.

        If there are several, a controller that is not removed comes first, then a Deployment before a StatefulSet of 4.0.
        """
        controllers = sorted(
            self.installed.running(CONTROLLER),
            key=lambda workload: (
                self._is_named(workload),
                workload.kind != "Deployment",
                workload.name != CONTROLLER_NAME,
            ),
        )
        return next(iter((*controllers, *self.installed.orphans(CONTROLLER))), None)

    @property
    def version(self) -> Version | None:
        """Return the running release, None if no controller runs or its release is unknown."""
        if self.controller is None:
            return None
        return self.controller.version or self.options.installed_version

    @property
    def version_text(self) -> str:
        """Return the running release, "" as ``version`` is None."""
        return text(self.version) if self.version else ""

    @property
    def current(self) -> Release | None:
        return find(self.version)

    @property
    def is_downgrade(self) -> bool:
        """True for an undo, and for a way to an older release."""
        return self.options.undo is not None or not is_at_least(
            self.release.version, self.version or NO_VERSION
        )

    @cached_property
    def before(self) -> UpgradeContext | None:
        """Return the context before the hop that is undone, None in an upgrade."""
        undo = self.options.undo
        return UpgradeContext(undo.before, self.release, replace(self.options, undo=None)) if undo else None

    def is_untouched(self, kind: str, name: str, namespace: str) -> bool:
        """Return True in an undo if the hop did not touch the object."""
        undo = self.options.undo
        return undo is not None and Reference(kind, name, namespace) in undo.originals - undo.changed

    @property
    def is_first(self) -> bool:
        """True if no controller runs in the cluster."""
        return self.controller is None

    @property
    def is_hosted(self) -> bool:
        """True if CRDs of another manager exist but no controller runs."""
        return self.is_first and any(origin.key for origin in self.installed.crd_origins.values())

    def passes_version(self, version: Version) -> bool:
        """Return True if the hop is an upgrade from an older release to this version or a newer one."""
        return is_at_least(self.release.version, version) and not is_at_least(self.version, version)

    # Namespaces. Installed objects stay in their namespace.

    @property
    def namespace(self) -> str:
        installed = self.controller.namespace if self.controller else ""
        return installed or self.options.namespace or CONTROLLER_NAMESPACE

    def webhook_namespace(self, kind: str) -> str:
        live = self.installed.webhook(kind)
        called = [place for place, _name in self.called(kind)]
        detached = [workload.namespace for workload in self.installed.orphans(kind)]
        namespace = live.namespace if live else (called or detached or [""])[0]
        return namespace or self.options.webhook_namespace or self.options.namespace or self.namespace

    def called(self, kind: str) -> list[tuple[str, str]]:
        """Return the Services that the API server calls for this kind of webhook."""
        if kind == CONVERSION:
            contents = self.installed.crds.get(GROUP_CONTENTS)
            service = contents.conversion.service if contents else None
            return [service] if service else []
        hooks = (hook for configuration in self.installed.configurations for hook in configuration.hooks)
        return [hook.service for hook in hooks if hook.service]

    # The objects of the webhook, recognised by a positive mark, and their other users.

    def is_located(self, kind: str) -> bool:
        """Return True if the webhook's namespace is known. Only there upstream's names belong to the webhook."""
        return bool(self.called(kind) or self.installed.all_of(kind))

    def services(self, kind: str) -> list[Service]:
        """Return the webhook's Service: the one with upstream's name in its namespace."""
        if not (self.is_located(kind) or self.wants(kind)):
            return []
        place = (self.webhook_namespace(kind), known_webhook(kind).service)
        return [service for service in self.installed.services if (service.namespace, service.name) == place]

    def callers(self, kind: str) -> list[tuple[WebhookConfiguration, Hook]]:
        """Return the webhooks in configurations of other owners that call this webhook, also by a Service of another name."""
        places = [(service.namespace, service.name) for service in self.services(kind)]
        namespace = self.webhook_namespace(kind)
        return [
            (configuration, hook)
            for configuration in self.installed.foreign
            for hook in configuration.hooks
            if hook.service
            and hook.service[0] == namespace
            and (hook.answered_by == kind or hook.service in places)
        ]

    def candidates(self, kind: str) -> list[Secret]:
        """Return the Secrets in the webhook's namespace that it mounts or that have one of its names."""
        known, namespace = known_webhook(kind), self.webhook_namespace(kind)
        names = {*self.mounted(kind), known.secret, known.old_secret} if self.is_located(kind) else set()
        return [
            secret
            for secret in self.installed.secrets
            if secret.namespace == namespace and secret.name in names
        ]

    def leftovers(self, kind: str) -> list[tuple[str, str, str]]:
        """Return the webhook's other objects, as (kind, namespace, name)."""
        if not self.is_located(kind):
            return []
        place = self.webhook_namespace(kind)
        return [leftover for leftover in self.installed.leftovers if _belongs(leftover, kind, place)]

    @property
    def own_names(self) -> list[str]:
        """Return the webhooks' Services, Secrets and other objects as "Kind namespace/name"."""
        kinds = (VALIDATION, CONVERSION)
        objects = [row for kind in kinds for row in (*self.services(kind), *self.candidates(kind))]
        return [*map(str, objects), *(_name(row) for kind in kinds for row in self.leftovers(kind))]

    def elsewhere(self) -> list[str]:
        """Return the objects with upstream's names outside the webhook's namespace."""
        hooks = [known_webhook(kind) for kind in (VALIDATION, CONVERSION)]
        known = {name for hook in hooks for name in (hook.service, hook.secret, hook.old_secret)}
        services = [service for service in self.installed.services if service.name in known]
        secrets = [secret for secret in self.installed.secrets if secret.name in known]
        objects = (*self.installed.strangers, *services, *secrets)
        named = [*map(str, objects), *map(_name, self.installed.leftovers)]
        return [name for name in named if name not in self.own_names]

    def why_kept(self, kind: str, secret: Secret) -> str:
        """Return the reason to keep a Secret when the webhook is deleted, "" if it may be deleted."""
        known = known_webhook(kind)
        others = [what for what, program in secret.users if program != kind]
        unread = [
            self.installed.unreadable[what] for what in NEEDED_USERS if what in self.installed.unreadable
        ]
        if secret.managers:
            return f"{' and '.join(secret.managers)} writes it"
        if not set(secret.keys) <= SECRET_KEYS:
            return f"it also holds {', '.join(sorted(set(secret.keys) - SECRET_KEYS))}"
        if others:
            return f"{', '.join(others)} uses it"
        if secret.name not in (known.secret, known.old_secret):
            return "it has neither upstream's name nor this collection's"
        return f"its other users are not known: {unread[0]}" if unread else ""

    # Group snapshots.

    @cached_property
    def groups_wanted(self) -> bool:
        if self.release.groups is None:
            return False
        if self.options.group_snapshots is not None:
            return self.options.group_snapshots
        return self.groups_on

    @property
    def groups_on(self) -> bool:
        """True if the installed controller processes group snapshots. Without the group CRDs it does not."""
        live = self.controller
        current = self.current if self.present(GROUP) else None
        return live is not None and flags.groups_on(live.arguments, current)

    @property
    def contents(self) -> Crd | None:
        return self.installed.crds.get(GROUP_CONTENTS)

    @property
    def alpha(self) -> list[Crd]:
        """The group CRDs that list or once stored v1alpha1, which 8.2 dropped."""
        crds = (self.installed.crds.get(name) for name in GROUP_CRDS)
        return [crd for crd in crds if crd and "v1alpha1" in {*crd.stored_versions, *crd.versions}]

    @property
    def old_sidecars(self) -> list[InstalledWorkload]:
        """The csi-snapshotter sidecars that use group snapshots at v1beta1 or before."""
        return [
            workload
            for workload in self.installed.running(SIDECAR)
            if not is_at_least(workload.version, NEW_LISTS_SINCE)
            and flags.groups_on(workload.arguments, find(workload.version))
        ]

    @property
    def has_hidden_handle_lists(self) -> bool:
        """True if contents stored at v1beta1 have lists of handles that only the conversion webhook shows at v1beta2."""
        crd, groups = self.contents, self.installed.groups
        if crd is None:
            return False
        unreadable = crd.conversion.strategy == "Webhook" and "group_contents" in self.installed.unreadable
        return unreadable or bool(groups.hidden) or (crd.storage == "v1beta1" and bool(groups.lists))

    @property
    def conversion_works(self) -> bool:
        """True if a conversion webhook is called and available, and contents could be read."""
        live, crd = self.installed.webhook(CONVERSION), self.contents
        return bool(
            live
            and live.available
            and crd
            and crd.conversion.strategy == "Webhook"
            and crd.conversion.has_bundle
            and crd.storage == "v1beta2"
            and "group_contents" not in self.installed.unreadable
        )

    @property
    def controller_uses_v1beta1(self) -> bool:
        """True if the controller uses group snapshots at v1beta1. Without a conversion, objects that it writes lose their lists."""
        current = self.current
        return bool(self.groups_on and current and current.groups and current.groups.version == "v1beta1")

    @property
    def stores_v1beta1(self) -> bool:
        crd = self.contents
        return crd is not None and bool(set(OLD_LISTS) & set(crd.stored_versions))

    @property
    def ends_conversion(self) -> bool:
        """Return True if the release's group CRDs store other lists than v1beta1 and the release has no webhook that converts them."""
        key = self.release.group_crds
        return (
            bool(key)
            and crd_sets.row(key, GROUP).storage not in OLD_LISTS
            and not self.release.has(CONVERSION)
        )

    @property
    def has_rules(self) -> bool:
        """Return True if the installed snapshot CRDs have CEL rules."""
        crd = self.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
        return crd is not None and crd.set is not None and crd.set.rules

    @property
    def gets_rules(self) -> bool:
        """Return True if the snapshot CRDs of the release have CEL rules and those of the present release have none."""
        before = self.current is not None and crd_sets.row(self.current.crds, SNAPSHOT).rules
        return crd_sets.row(self.release.crds, SNAPSHOT).rules and not before

    @property
    def conversion_needed(self) -> bool:
        """True if contents are stored at v1beta1, or a client uses v1beta1."""
        stored = self.stores_v1beta1 and self.installed.groups.contents > 0
        return (
            stored
            or self.has_hidden_handle_lists
            or self.conversion_works
            or bool(self.contents and self.old_sidecars)
        )

    # Webhooks.

    @property
    def wanted(self) -> list[str]:
        """Return the kinds of webhooks that the release runs after the hop."""
        return [kind for kind in (VALIDATION, CONVERSION) if self.wants(kind)]

    def wants(self, kind: str) -> bool:
        if not self.release.has(kind):
            return False
        if kind == CONVERSION:
            asked = self.options.conversion_webhook
            return self.conversion_needed if asked is None else asked
        asked = self.options.validation_webhook
        return self.has_validation or self.is_first or self._lost_validation if asked is None else asked

    @property
    def has_validation(self) -> bool:
        return bool(self.installed.configurations or self.installed.all_of(VALIDATION))

    @property
    def _lost_validation(self) -> bool:
        """Return True in a downgrade from a release without the validation webhook."""
        return self.is_downgrade and not (self.current and self.current.has(VALIDATION))

    def hook(self, kind: str) -> ReleaseWebhook:
        """Return the release's webhook, in an undo with its selector of before. Raises KeyError if it has no such webhook."""
        if self.release.webhook is None or not self.release.has(kind):
            raise KeyError(kind)
        earlier = self.before.installed if self.before else None
        live = next(iter(earlier.all_of(kind)), None) if earlier else None
        return replace(self.release.webhook, selector=live.selector) if live else self.release.webhook

    @property
    def configurations(self) -> tuple[WebhookRules, ...]:
        """The ValidatingWebhookConfigurations of the release.

        The configuration for groups calls a path that the webhook serves only with an argument. Otherwise the answer is 404. So the
        configuration is installed only with group snapshots.
        """
        if not self.wants(VALIDATION):
            return ()
        return tuple(
            configuration
            for configuration in self.hook(VALIDATION).configurations
            if configuration.group != GROUP or self.groups_wanted
        )

    def failure_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's failurePolicy after the upgrade: the requested one, or the present one."""
        requested = self.options.failure_policies.get(rules.name) or self.options.failure_policy
        return requested or self.live_policy(rules) or "Ignore"

    def live_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's present failurePolicy, "" if it does not exist."""
        live = self.live(rules)
        return live.hooks[0].failure_policy if live and live.hooks else ""

    def live(self, rules: WebhookRules) -> WebhookConfiguration | None:
        return {row.name: row for row in self.installed.configurations}.get(rules.name)

    @property
    def surplus(self) -> tuple[WebhookConfiguration, ...]:
        """The installed configurations that the release does not have."""
        wanted = {configuration.name for configuration in self.configurations}
        return tuple(
            configuration
            for configuration in self.installed.configurations
            if configuration.name not in wanted
        )

    def secret(self, kind: str) -> str:
        """Return the name of the webhook's Secret: the present Secret if it has the type that releases since 6.2 read."""
        fresh, namespace = self.hook(kind).secret, self.webhook_namespace(kind)
        for name in self.mounted(kind):
            secret = self.installed.secret(namespace, name)
            if secret and secret.type == "kubernetes.io/tls":
                return name
        return fresh

    def mounted(self, kind: str) -> tuple[str, ...]:
        workloads = self.installed.all_of(kind)
        return tuple(dict.fromkeys(name for workload in workloads for name in workload.secrets))

    def webhook_arguments(self, kind: str) -> list[str]:
        groups = kind == VALIDATION and self.groups_wanted
        own = ["--enable-volume-group-snapshot-webhook"] if groups else []
        return flags.merged(
            own, [argument for argument in self.options.webhook_arguments if argument not in own]
        )

    def replaces(self, kind: str) -> bool:
        """Return True if an update of the Deployment is impossible or would interrupt calls.

        The reasons are another selector, which is immutable, another port, because a Service has one target port, and pods that do
        not wait before they end.
        """
        live = self.installed.webhook(kind)
        if live is None:
            return False
        if dict(live.selector) != dict(self.hook(kind).selector) or live.port != self.options.webhook_port:
            return True
        done = not live.origin.key and live.version == self.release.version
        return not live.drains and not done

    def hands_over(self, kind: str) -> bool:
        """Return True if old pods must leave the Service before they end."""
        return bool(self.installed.orphans(kind)) or self.replaces(kind)

    # The controller.

    @property
    def selector(self) -> Mapping[str, str]:
        live = self.before.controller if self.before else None
        return live.selector if live else {self.release.label: CONTROLLER_NAME}

    @property
    def orphans_controller(self) -> bool:
        """True if the release has another selector, which is immutable, so the Deployment must be created again."""
        live = self.controller
        if live in self.installed.orphans(CONTROLLER):
            return not all(orphan.labelled for orphan in self.installed.orphan_sets)
        return live is not None and live not in self.removed and dict(live.selector) != dict(self.selector)

    @property
    def leaves_controllers(self) -> bool:
        """True if pods without a Deployment are deleted at the end."""
        return self.orphans_controller or bool(self.installed.orphans(CONTROLLER))

    @property
    def controller_arguments(self) -> list[str]:
        return flags.merged(
            flags.for_groups(self.groups_wanted, self.release), self.options.controller_arguments
        )

    @property
    def dropped_arguments(self) -> list[str]:
        """Return arguments of the running controller that the new one would not get."""
        live = self.controller
        if live is None:
            return []
        known = {"", "v", "leader-election", GATES_FLAG, GROUP_FLAG}
        known.update(map(flags.name, self.controller_arguments))
        gone = set(flags.unknown(CONTROLLER, live.arguments, self.release))
        return [
            argument
            for argument in live.arguments
            if flags.name(argument) not in known and argument not in gone
        ]

    @property
    def others(self) -> list[InstalledWorkload]:
        """The controllers other than ``controller``."""
        return [
            workload for workload in self.installed.running(CONTROLLER) if workload is not self.controller
        ]

    def is_leftover(self, workload: InstalledWorkload) -> bool:
        """Return True for the StatefulSet in namespace default of a release before 4.1."""
        is_named = str(workload) == f"StatefulSet default/{CONTROLLER_NAME}"
        return is_named and workload.selector in ({}, {OLD_LABEL: CONTROLLER_NAME})

    @property
    def removed(self) -> list[InstalledWorkload]:
        """The controllers that the upgrade deletes: the StatefulSet of before 4.1, and those that the user names."""
        return [workload for workload in self.installed.running(CONTROLLER) if self._goes(workload)]

    def _goes(self, workload: InstalledWorkload) -> bool:
        return not workload.companions and (
            self._is_named(workload) or (self.is_leftover(workload) and workload in self.others)
        )

    def _is_named(self, workload: InstalledWorkload) -> bool:
        return f"{workload.namespace}/{workload.name}" in self.options.remove_controllers

    # CustomResourceDefinitions.

    def keeps(self, group: str) -> bool:
        """Return True if the cluster's CRDs are newer than the release's. CRDs are never downgraded, and no CRD goes back."""
        key = self.release.crds if group == SNAPSHOT else self.release.group_crds
        if not key or self.options.undo:
            return True
        wanted = crd_sets.rank(crd_sets.row(key, group))
        live = [
            self.installed.crds[name].set for name in crd_sets.names(group) if name in self.installed.crds
        ]
        return any(crd_set is not None and crd_sets.rank(crd_set) > wanted for crd_set in live)

    def present(self, group: str) -> bool:
        return any(name in self.installed.crds for name in crd_sets.names(group))

    # Owners.

    @property
    def origins(self) -> list[tuple[str, Origin]]:
        """Every object that a plan may write, with its origin. An object with several managers is there once for each."""
        installed = self.installed
        named = [
            (f"CustomResourceDefinition {name}", origin) for name, origin in installed.crd_origins.items()
        ]
        named += [
            (str(workload), workload.origin)
            for workload in installed.workloads
            if workload.program != SIDECAR
        ]
        named += [(str(configuration), configuration.origin) for configuration in installed.configurations]
        services = [service for kind in (VALIDATION, CONVERSION) for service in self.services(kind)]
        named += {str(service): (str(service), service.origin) for service in services}.values()
        if installed.controller_role:
            named.append(("ClusterRole snapshot-controller-runner", installed.controller_role))
        return [(what, owner) for what, origin in named for owner in (origin, *origin.others)]

    def accepts(self, origin: Origin, what: str) -> bool:
        """Return True if the user accepts to change the object ``what`` of another manager."""
        return all(self.options.accept.covers(word, what) for word in origin.words)
