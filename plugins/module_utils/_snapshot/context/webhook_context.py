# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The webhooks of external-snapshotter in one hop: their objects, what calls them, and what the release wants. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..installed.pod_specs import NEEDED_USERS
from ..installed.state import Hook, Secret, Service, WebhookConfiguration
from ..kinds import CONVERSION, VALIDATION, Reference
from ..release import flags
from ..release.release_table import (
    GROUP,
    GROUP_CONTENTS,
    ReleaseWebhook,
    WebhookRules,
    known_webhook,
)
from .group_snapshots import GroupSnapshots
from .hop_context import HopContext

# The keys that a webhook's Secret may have. A Secret with other keys has other users.
SECRET_KEYS = frozenset({"tls.crt", "tls.key", "ca.crt", "cert.pem", "key.pem"})
# The conversion webhook sends no requests to the API server, so it has none of these objects.
_OF_REQUESTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")


def _belongs(entry: tuple[str, str, str], kind: str, place: str) -> bool:
    """Return True for an object of this kind of webhook. A namespaced object must be in the webhook's namespace."""
    what, namespace, name = entry
    if what in _OF_REQUESTS:
        return kind == VALIDATION and namespace in ("", place)
    known = known_webhook(kind)
    return (
        name == f"{known.service}.{place}"
        if what == "CertificateSigningRequest"
        else (namespace, name) == (place, known.deployment)
    )


@dataclass(frozen=True)
class WebhookContext:
    """The webhooks before and after a hop. kind: VALIDATION or CONVERSION."""

    hop: HopContext
    groups: GroupSnapshots

    def namespace(self, kind: str) -> str:
        live = self.hop.installed.webhook(kind)
        called = [place for place, _name in self.called(kind)]
        detached = [workload.namespace for workload in self.hop.installed.orphans(kind)]
        namespace = live.namespace if live else (called or detached or [""])[0]
        return (
            namespace
            or self.hop.options.webhook_namespace
            or self.hop.options.namespace
            or self.hop.namespace
        )

    def called(self, kind: str) -> list[tuple[str, str]]:
        """Return the Services that the API server calls for this kind of webhook."""
        if kind == CONVERSION:
            contents = self.hop.installed.crds.get(GROUP_CONTENTS)
            service = contents.conversion.service if contents else None
            return [service] if service else []
        hooks = (hook for configuration in self.hop.installed.configurations for hook in configuration.hooks)
        return [hook.service for hook in hooks if hook.service]

    def is_located(self, kind: str) -> bool:
        """Return True if the webhook's namespace is known. Only there upstream's names belong to the webhook."""
        return bool(self.called(kind) or self.hop.installed.all_of(kind))

    def services(self, kind: str) -> list[Service]:
        """Return the webhook's Service: the one with upstream's name in its namespace."""
        if not (self.is_located(kind) or self.wants(kind)):
            return []
        place = (self.namespace(kind), known_webhook(kind).service)
        return [
            service for service in self.hop.installed.services if (service.namespace, service.name) == place
        ]

    def callers(self, kind: str) -> list[tuple[WebhookConfiguration, Hook]]:
        """Return the webhooks in configurations of other owners that call this webhook, also by a Service of another name."""
        places = [(service.namespace, service.name) for service in self.services(kind)]
        namespace = self.namespace(kind)
        return [
            (configuration, hook)
            for configuration in self.hop.installed.foreign
            for hook in configuration.hooks
            if hook.service
            and hook.service[0] == namespace
            and (hook.answered_by == kind or hook.service in places)
        ]

    def candidates(self, kind: str) -> list[Secret]:
        """Return the Secrets in the webhook's namespace that it mounts or that have one of its names."""
        known, namespace = known_webhook(kind), self.namespace(kind)
        names = {*self.mounted(kind), known.secret, known.old_secret} if self.is_located(kind) else set()
        return [
            secret
            for secret in self.hop.installed.secrets
            if secret.namespace == namespace and secret.name in names
        ]

    def leftovers(self, kind: str) -> list[tuple[str, str, str]]:
        """Return the webhook's other objects, as (kind, namespace, name)."""
        if not self.is_located(kind):
            return []
        place = self.namespace(kind)
        return [leftover for leftover in self.hop.installed.leftovers if _belongs(leftover, kind, place)]

    @property
    def own_names(self) -> list[str]:
        """Return the webhooks' Services, Secrets and other objects as "Kind namespace/name"."""
        kinds = (VALIDATION, CONVERSION)
        objects = [row for kind in kinds for row in (*self.services(kind), *self.candidates(kind))]
        rows = [
            Reference(what, name, namespace)
            for kind in kinds
            for what, namespace, name in self.leftovers(kind)
        ]
        return [*map(str, objects), *map(str, rows)]

    def why_kept(self, kind: str, secret: Secret) -> str:
        """Return the reason to keep a Secret when the webhook is deleted, "" if it may be deleted."""
        known = known_webhook(kind)
        others = [what for what, program in secret.users if program != kind]
        unread = [
            self.hop.installed.unreadable[what]
            for what in NEEDED_USERS
            if what in self.hop.installed.unreadable
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

    @property
    def wanted(self) -> list[str]:
        """Return the kinds of webhooks that the release runs after the hop."""
        return [kind for kind in (VALIDATION, CONVERSION) if self.wants(kind)]

    def wants(self, kind: str) -> bool:
        if not self.hop.release.has(kind):
            return False
        if kind == CONVERSION:
            asked = self.hop.options.conversion_webhook
            return self.groups.conversion_needed if asked is None else asked
        asked = self.hop.options.validation_webhook
        return (
            self.has_validation or self.hop.controller is None or self._lost_validation
            if asked is None
            else asked
        )

    @property
    def has_validation(self) -> bool:
        return bool(self.hop.installed.configurations or self.hop.installed.all_of(VALIDATION))

    @property
    def _lost_validation(self) -> bool:
        """Return True in a downgrade from a release without the validation webhook."""
        return self.hop.is_downgrade and not (self.hop.current and self.hop.current.has(VALIDATION))

    def hook(self, kind: str) -> ReleaseWebhook:
        """Return the release's webhook, in an undo with its selector of before. Raises KeyError if it has no such webhook."""
        if self.hop.release.webhook is None or not self.hop.release.has(kind):
            raise KeyError(kind)
        earlier = self.hop.before.installed if self.hop.before else None
        live = next(iter(earlier.all_of(kind)), None) if earlier else None
        return replace(self.hop.release.webhook, selector=live.selector) if live else self.hop.release.webhook

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
            if configuration.group != GROUP or self.groups.wanted
        )

    def failure_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's failurePolicy after the upgrade: the requested one, or the present one."""
        requested = self.hop.options.failure_policies.get(rules.name) or self.hop.options.failure_policy
        return requested or self.live_policy(rules) or "Ignore"

    def live_policy(self, rules: WebhookRules) -> str:
        """Return the configuration's present failurePolicy, "" if it does not exist."""
        live = self.live(rules)
        return live.hooks[0].failure_policy if live and live.hooks else ""

    def live(self, rules: WebhookRules) -> WebhookConfiguration | None:
        return {row.name: row for row in self.hop.installed.configurations}.get(rules.name)

    @property
    def surplus(self) -> tuple[WebhookConfiguration, ...]:
        """The installed configurations that the release does not have."""
        wanted = {configuration.name for configuration in self.configurations}
        return tuple(
            configuration
            for configuration in self.hop.installed.configurations
            if configuration.name not in wanted
        )

    def secret(self, kind: str) -> str:
        """Return the name of the webhook's Secret: the present Secret if it has the type that releases since 6.2 read."""
        fresh, namespace = self.hook(kind).secret, self.namespace(kind)
        for name in self.mounted(kind):
            secret = self.hop.installed.secret(namespace, name)
            if secret and secret.type == "kubernetes.io/tls":
                return name
        return fresh

    def mounted(self, kind: str) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(name for workload in self.hop.installed.all_of(kind) for name in workload.secrets)
        )

    def arguments(self, kind: str) -> list[str]:
        groups = kind == VALIDATION and self.groups.wanted
        own = ["--enable-volume-group-snapshot-webhook"] if groups else []
        return flags.merged(
            own, [argument for argument in self.hop.options.webhook_arguments if argument not in own]
        )

    def replaces(self, kind: str) -> bool:
        """Return True if an update of the Deployment is impossible or would interrupt calls.

        The reasons are another selector, which is immutable, another port, because a Service has one target port, and pods that do
        not wait before they end.
        """
        live = self.hop.installed.webhook(kind)
        if live is None:
            return False
        if (
            dict(live.selector) != dict(self.hook(kind).selector)
            or live.port != self.hop.options.webhook_port
        ):
            return True
        done = not live.origin.key and live.version == self.hop.release.version
        return not live.drains and not done

    def hands_over(self, kind: str) -> bool:
        """Return True if old pods must leave the Service before they end."""
        return bool(self.hop.installed.orphans(kind)) or self.replaces(kind)
