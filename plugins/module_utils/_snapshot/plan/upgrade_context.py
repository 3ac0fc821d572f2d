# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""A cluster, where it is to go, and what the user wants of it; and what follows from these alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..._managers import HOSTED
from ..installed.installers import Origin
from ..installed.pod_specs import NEEDED_USERS
from ..installed.state import (
    CONTROLLER,
    CONVERSION,
    SIDECAR,
    VALIDATION,
    Hook,
    InstalledState,
    InstalledWorkload,
    Secret,
    Service,
    WebhookConfiguration,
)
from ..release import crd_sets, flags
from ..release.crd_sets import Crd
from ..release.release_table import CONTROLLER as CONTROLLER_NAME
from ..release.release_table import (
    CONTROLLER_NAMESPACE,
    GATES_FLAG,
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    GROUP_FLAG,
    OLD_LABEL,
    SNAPSHOT,
    Release,
    ReleaseWebhook,
    Version,
    WebhookRules,
    find,
    known_webhook,
)

NO_VERSION: Version = (0, 0, 0)
# Since when pods can sleep before they end, which is how they are left in peace (KEP-3960, on by default).
DRAINS_SINCE = (1, 30)
# Since when what is wrong already may stay wrong in an update (KEP-4008, on by default).
RATCHETS_SINCE = (1, 30)

# The keys that a webhook's Secret may have. A Secret with other keys has other users.
SECRET_KEYS = frozenset({"tls.crt", "tls.key", "ca.crt", "cert.pem", "key.pem"})


def _belongs(entry: tuple[str, str, str], kind: str, place: str) -> bool:
    """Return True for an object of this kind of webhook. A namespaced object must be in the webhook's namespace."""
    what, namespace, name = entry
    if what in (
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ):  # the conversion webhook sends no requests to the API
        return kind == VALIDATION and namespace in ("", place)
    known = known_webhook(kind)
    if what == "CertificateSigningRequest":
        return name == f"{known.service}.{place}"
    return (namespace, name) == (place, known.deployment)


@dataclass(frozen=True)
class UpgradeOptions:
    """What the user wants. None and "" leave it as it is, or as the release has it.

    adopt: keys of _owners. accept: ids of hazards that need a person's word. remove_controllers: "namespace/name".
    installed_version: of a controller whose image does not tell. arguments: beside the manifest's own, by program.
    failure_policies: failure policies by configuration name. They take precedence over failure_policy.
    """

    namespace: str = ""
    webhook_namespace: str = ""
    validation_webhook: bool | None = None
    conversion_webhook: bool | None = None
    group_snapshots: bool | None = None
    failure_policy: str = ""
    failure_policies: Mapping[str, str] = field(default_factory=dict)
    adopt: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    remove_controllers: tuple[str, ...] = ()
    installed_version: Version | None = None
    controller_arguments: tuple[str, ...] = ()
    webhook_arguments: tuple[str, ...] = ()
    webhook_port: int = 8443
    webhook_host_network: bool = False


@dataclass(frozen=True)
class UpgradeContext:
    """One hop: from what is installed to a release."""

    installed: InstalledState
    release: Release
    options: UpgradeOptions

    @cached_property
    def controller(self) -> InstalledWorkload | None:
        """The one that counts: before those that go, and an upgrade's Deployment before a StatefulSet of before 4.1."""
        found = sorted(
            self.installed.running(CONTROLLER),
            key=lambda one: (self._is_named(one), one.kind != "Deployment", one.name != CONTROLLER_NAME),
        )
        return next(iter((*found, *self.installed.orphans(CONTROLLER))), None)

    @property
    def version(self) -> Version | None:
        """Return the running release, None if no controller runs or its release is unknown."""
        if self.controller is None:
            return None
        return self.controller.version or self.options.installed_version

    @property
    def current(self) -> Release | None:
        return find(self.version)

    @property
    def is_back(self) -> bool:
        return (self.version or NO_VERSION) > self.release.version

    @property
    def is_first(self) -> bool:
        """Nothing is there, or only what this collection has begun to install, or CRDs that the user adopts."""
        ours = all(not origin.key for origin in self.installed.crd_origins.values())
        return self._has_no_controller and (ours or HOSTED in self.options.adopt)

    @property
    def is_hosted(self) -> bool:
        """CRDs without a controller, and not ones that this collection has begun with."""
        return self._has_no_controller and not self.is_first

    @property
    def _has_no_controller(self) -> bool:
        return self.controller is None

    def crosses(self, version: Version) -> bool:
        """Whether the way leads upwards to this release or past it."""
        return (self.version or NO_VERSION) < version <= self.release.version

    # Namespaces: what is there stays where it is.

    @property
    def namespace(self) -> str:
        found = self.controller.namespace if self.controller else ""
        return found or self.options.namespace or CONTROLLER_NAMESPACE

    def webhook_namespace(self, kind: str) -> str:
        live = self.installed.webhook(kind)
        called = [place for place, _name in self.called(kind)]
        detached = [one.namespace for one in self.installed.orphans(kind)]
        found = live.namespace if live else (called or detached or [""])[0]
        return found or self.options.webhook_namespace or self.options.namespace or self.namespace

    def called(self, kind: str) -> list[tuple[str, str]]:
        """The Services that the API server calls for this kind of webhook."""
        if kind == CONVERSION:
            contents = self.installed.crds.get(GROUP_CONTENTS)
            service = contents.conversion.service if contents else None
            return [service] if service else []
        hooks = (hook for one in self.installed.configurations for hook in one.hooks)
        return [hook.service for hook in hooks if hook.service]

    # The objects of the webhook, recognised by a positive mark, and their other users.

    def is_located(self, kind: str) -> bool:
        """Return True if the webhook's namespace is known. Only there upstream's names belong to the webhook."""
        return bool(self.called(kind) or self.installed.running(kind) or self.installed.orphans(kind))

    def services(self, kind: str) -> list[Service]:
        """Return the webhook's Services: those with upstream's name in its namespace, and those called for it."""
        own = set(self.called(kind))
        if self.is_located(kind) or self.wants(kind):
            own.add((self.webhook_namespace(kind), known_webhook(kind).service))
        return [one for one in self.installed.services if (one.namespace, one.name) in own]

    def callers(self, kind: str) -> list[tuple[WebhookConfiguration, Hook]]:
        """Return the webhooks in configurations of other owners that call this kind of webhook."""
        places = {(one.namespace, one.name) for one in self.services(kind)}
        return [
            (one, hook)
            for one in self.installed.foreign
            for hook in one.hooks
            if hook.answered_by == kind or hook.service in places
        ]

    def candidates(self, kind: str) -> list[Secret]:
        """Return the Secrets in the webhook's namespace that it mounts or that have one of its names."""
        known, namespace = known_webhook(kind), self.webhook_namespace(kind)
        names = {*self.mounted(kind), known.secret, known.old_secret} if self.is_located(kind) else set()
        return [one for one in self.installed.secrets if one.namespace == namespace and one.name in names]

    def leftovers(self, kind: str) -> list[tuple[str, str, str]]:
        """Return the webhook's other objects, as (kind, namespace, name)."""
        if not self.is_located(kind):
            return []
        place = self.webhook_namespace(kind)
        return [one for one in self.installed.leftovers if _belongs(one, kind, place)]

    def elsewhere(self) -> list[str]:
        """Return the objects with upstream's names outside the webhook's namespace."""
        kinds = (VALIDATION, CONVERSION)
        services = [one for kind in kinds for one in self.services(kind)]
        secrets = [one for kind in kinds for one in self.candidates(kind)]
        known = [
            name for kind in kinds for name in (known_webhook(kind).secret, known_webhook(kind).old_secret)
        ]
        own = [one for kind in kinds for one in self.leftovers(kind)]
        named = {known_webhook(kind).service for kind in kinds}
        return [
            *(str(one) for one in self.installed.strangers),
            *(str(one) for one in self.installed.services if one not in services and one.name in named),
            *(str(one) for one in self.installed.secrets if one not in secrets and one.name in known),
            *(
                f"{what} {place}/{name}" if place else f"{what} {name}"
                for what, place, name in self.installed.leftovers
                if (what, place, name) not in own
            ),
        ]

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
        if secret.name not in (known.secret, known.old_secret) and not secret.is_marked:
            return "it has neither upstream's name nor this collection's label"
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
        """Whether the controller works on them now; a gate that is on by default finds nothing without the group CRDs."""
        live = self.controller
        current = self.current if self.present(GROUP) else None
        return live is not None and flags.groups_on(live.arguments, current)

    @property
    def contents(self) -> Crd | None:
        return self.installed.crds.get(GROUP_CONTENTS)

    @property
    def alpha(self) -> list[Crd]:
        """Group CRDs that have, or once stored, the version that 8.2 dropped."""
        found = (self.installed.crds.get(name) for name in GROUP_CRDS)
        return [crd for crd in found if crd and "v1alpha1" in {*crd.stored_versions, *crd.versions}]

    @property
    def old_sidecars(self) -> list[InstalledWorkload]:
        """csi-snapshotters that work on groups at v1beta1 or before."""
        return [
            one
            for one in self.installed.running(SIDECAR)
            if (one.version or NO_VERSION) < (8, 4, 0) and flags.groups_on(one.arguments, find(one.version))
        ]

    @property
    def hides_lists(self) -> bool:
        """Whether contents are stored at v1beta1 whose lists of handles only the conversion webhook shows at v1beta2."""
        crd, groups = self.contents, self.installed.groups
        if crd is None:
            return False
        unreadable = crd.conversion.strategy == "Webhook" and "group_contents" in self.installed.unreadable
        return unreadable or bool(groups.hidden) or (crd.storage == "v1beta1" and bool(groups.lists))

    @property
    def converts(self) -> bool:
        """Whether a conversion webhook answers, as far as that can be seen."""
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
    def speaks_v1beta1(self) -> bool:
        """Whether the controller works on groups at v1beta1: what it writes has no lists where nobody converts."""
        current = self.current
        return bool(self.groups_on and current and current.groups and current.groups.version == "v1beta1")

    @property
    def stores_v1beta1(self) -> bool:
        crd = self.contents
        return crd is not None and bool({"v1alpha1", "v1beta1"} & set(crd.stored_versions))

    @property
    def conversion_needed(self) -> bool:
        """Whether something is stored at v1beta1 or asks for it."""
        stored = self.stores_v1beta1 and self.installed.groups.contents > 0
        return stored or self.hides_lists or self.converts or bool(self.contents and self.old_sidecars)

    # Webhooks.

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
        return bool(
            self.installed.configurations
            or self.installed.running(VALIDATION)
            or self.installed.orphans(VALIDATION)
        )

    @property
    def _lost_validation(self) -> bool:
        """Return True on the way back below 8.2, which restores the validation webhook."""
        return self.is_back and (self.version or NO_VERSION) >= (8, 2, 0)

    def hook(self, kind: str) -> ReleaseWebhook:
        """The release's webhook, where it is wanted."""
        if self.release.webhook is None or not self.release.has(kind):
            raise KeyError(kind)
        return self.release.webhook

    @property
    def configurations(self) -> tuple[WebhookRules, ...]:
        """The ValidatingWebhookConfigurations that are wanted. Upstream's for groups calls a path that is not served
        unless the webhook is told to (404), so it comes only with group snapshots."""
        if not self.wants(VALIDATION):
            return ()
        return tuple(
            one for one in self.hook(VALIDATION).configurations if one.group != GROUP or self.groups_wanted
        )

    def failure_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's failurePolicy after the upgrade: the requested one, or the present one."""
        given = self.options.failure_policies.get(rules.name) or self.options.failure_policy
        return given or self.live_policy(rules) or "Ignore"

    def live_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's present failurePolicy, "" if it does not exist."""
        live = self.live(rules)
        return live.hooks[0].failure_policy if live and live.hooks else ""

    def live(self, rules: WebhookRules) -> WebhookConfiguration | None:
        return next((one for one in self.installed.configurations if one.name == rules.name), None)

    @property
    def surplus(self) -> tuple[WebhookConfiguration, ...]:
        """Configurations that are there and not wanted."""
        wanted = {one.name for one in self.configurations}
        return tuple(one for one in self.installed.configurations if one.name not in wanted)

    def secret(self, kind: str) -> str:
        """The name of the webhook's Secret: the one it has, where its type can hold what every release since 6.2 reads."""
        fresh, namespace = self.hook(kind).secret, self.webhook_namespace(kind)
        for name in self.mounted(kind):
            found = self.installed.secret(namespace, name)
            if found and found.type == "kubernetes.io/tls":
                return name
        return fresh

    def mounted(self, kind: str) -> tuple[str, ...]:
        found = (*self.installed.running(kind), *self.installed.orphans(kind))
        return tuple(dict.fromkeys(name for one in found for name in one.secrets))

    def webhook_arguments(self, kind: str) -> list[str]:
        groups = kind == VALIDATION and self.groups_wanted
        own = ["--enable-volume-group-snapshot-webhook"] if groups else []
        return flags.merged(own, [one for one in self.options.webhook_arguments if one not in own])

    def replaces(self, kind: str) -> bool:
        """Whether the Deployment that runs cannot become the release's, or not without a failed call: its selector is
        immutable, a Service leads to one port, and its pods may not wait before they end."""
        live = self.installed.webhook(kind)
        if live is None:
            return False
        if dict(live.selector) != dict(self.hook(kind).selector) or live.port != self.options.webhook_port:
            return True
        done = not live.origin.key and live.version == self.release.version
        return not live.drains and not done

    def hands_over(self, kind: str) -> bool:
        """Whether old pods leave the Service before they end: those that are to be replaced, or already have no Deployment."""
        return bool(self.installed.orphans(kind)) or self.replaces(kind)

    # The controller.

    @property
    def selector(self) -> Mapping[str, str]:
        return {self.release.label: CONTROLLER_NAME}

    @property
    def orphans_controller(self) -> bool:
        """Whether the Deployment cannot be changed into the release's: its selector is immutable."""
        live = self.controller
        if live in self.installed.orphans(CONTROLLER):
            return not all(one.labelled for one in self.installed.orphan_sets)
        return live is not None and live not in self.removed and dict(live.selector) != dict(self.selector)

    @property
    def leaves_controllers(self) -> bool:
        """Whether pods without a Deployment are to go in the end."""
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
        known = {flags.name(one) for one in (*self.controller_arguments, "--v", "--leader-election")}
        gates = {GATES_FLAG, GROUP_FLAG}
        gone = set(flags.unknown(CONTROLLER, live.arguments, self.release))
        return [
            one
            for one in live.arguments
            if flags.name(one) and flags.name(one) not in known | gates and one not in gone
        ]

    @property
    def others(self) -> list[InstalledWorkload]:
        """Controllers beside the one that counts."""
        return [one for one in self.installed.running(CONTROLLER) if one is not self.controller]

    def is_leftover(self, one: InstalledWorkload) -> bool:
        """The StatefulSet in namespace default that 4.1's manifests left behind."""
        return (one.kind, one.namespace, one.name) == (
            "StatefulSet",
            "default",
            CONTROLLER_NAME,
        ) and one.selector in (
            {},
            {OLD_LABEL: CONTROLLER_NAME},
        )

    @property
    def removed(self) -> list[InstalledWorkload]:
        """Controllers that go: the known leftover, and those that the user names."""
        return [one for one in self.installed.running(CONTROLLER) if self._goes(one)]

    def _goes(self, one: InstalledWorkload) -> bool:
        return not one.companions and (self._is_named(one) or (self.is_leftover(one) and one in self.others))

    def _is_named(self, one: InstalledWorkload) -> bool:
        return f"{one.namespace}/{one.name}" in self.options.remove_controllers

    # CustomResourceDefinitions.

    def keeps(self, group: str) -> bool:
        """Whether the cluster's are newer than the release's: they never go back."""
        key = self.release.crds if group == SNAPSHOT else self.release.group_crds
        if not key:
            return True
        wanted = crd_sets.rank(crd_sets.row(key, group))
        live = [
            self.installed.crds[name].set for name in crd_sets.names(group) if name in self.installed.crds
        ]
        return any(one is not None and crd_sets.rank(one) > wanted for one in live)

    def present(self, group: str) -> bool:
        return any(name in self.installed.crds for name in crd_sets.names(group))

    # Owners.

    @property
    def origins(self) -> list[tuple[str, Origin]]:
        """Every object that a plan may write, and whose it is."""
        here = self.installed
        named = [(f"CustomResourceDefinition {name}", origin) for name, origin in here.crd_origins.items()]
        named += [(str(one), one.origin) for one in here.workloads if one.program != SIDECAR]
        named += [(str(one), one.origin) for one in here.configurations]
        services = [one for kind in (VALIDATION, CONVERSION) for one in self.services(kind)]
        named += {str(one): (str(one), one.origin) for one in services}.values()
        if here.controller_role:
            named.append(("ClusterRole snapshot-controller-runner", here.controller_role))
        return named

    def adopts(self, key: str) -> bool:
        return key in self.options.adopt
