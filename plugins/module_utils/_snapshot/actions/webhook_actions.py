# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The actions on webhooks: their certificates, configurations, Services, and the conversion of group snapshots. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._kube.access_review import Permission
from ..context.upgrade_context import UpgradeContext
from ..kinds import Reference
from .action import (
    CHANGE,
    CONFIGURATION,
    CREATE,
    NOTHING,
    RESTORE,
    Action,
    CrdAction,
    HopProgress,
    Place,
    PlanLine,
    bundles,
    named,
    reconnected,
)


@dataclass(frozen=True)
class IssueCertificate(Action):
    """Issue a certificate for the Service into the Secret, and add its CA to the targets, as k8s_csr does."""

    action_name = "certificate"
    in_undo = NOTHING
    namespace: str
    service: str
    secret: str
    targets: Sequence[Reference]

    def lines(self, progress: HopProgress) -> Iterator[PlanLine]:
        """Yield the request first, then the CA where it is needed, and the Secret last, which is the order of k8s_csr."""
        secret = Reference("Secret", self.secret, self.namespace)
        service = Reference("Service", self.service, self.namespace)
        is_new, is_issued = secret not in progress.present, secret in progress.issued
        when = "" if is_new else ", if the certificate must be renewed"
        if not is_issued:
            yield PlanLine(CREATE, f"CertificateSigningRequest for {service}, and approve it{when}")
        for target in self.targets:
            yield PlanLine(CHANGE, f"{target}: caBundle, if the CA is not in it", (target,))
        if not is_issued:
            text = f"{secret}: certificate for {service}{when}"
            yield PlanLine(CREATE if is_new else CHANGE, text, (secret,))
        progress.issued.add(secret)
        progress.present.add(secret)

    def writes(self) -> list[Any]:
        return [[self.action_name, self.namespace, self.service, self.secret], *bundles(self.targets)]


@dataclass(frozen=True)
class DisableConversion(CrdAction):
    """Set spec.conversion to {strategy: None} by a JSON patch, and read it back."""

    action_name = "conversion_none"
    is_short = True
    in_undo = RESTORE

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        yield PlanLine(CHANGE, f"{self.target}: conversion strategy None", (self.target,))


@dataclass(frozen=True)
class CalledService(Place):
    """The Service of a conversion webhook."""

    path: str
    port: int


@dataclass(frozen=True)
class EnableConversion(CrdAction):
    """Set spec.conversion to a webhook by a JSON patch, with its caBundle in the same write."""

    action_name = "conversion_webhook"
    is_short = True
    in_undo = RESTORE
    service: CalledService
    secret: Place

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        text = f"{self.target}: conversion webhook {self.service.reference('Service')}, with its caBundle"
        yield PlanLine(CHANGE, text, (self.target,))


@dataclass(frozen=True)
class NarrowRules(Action):
    """Replace the rules of a ValidatingWebhookConfiguration. The rules are by the name of the webhook."""

    action_name = "narrow_rules"
    is_short = True
    name: str
    rules: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def target(self) -> Reference:
        return Reference(CONFIGURATION, self.name)

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        resources = sorted(
            {resource for rules in self.rules.values() for rule in rules for resource in rule["resources"]}
        )
        text = f"rules for {', '.join(resources)} only" if resources else "no rules"
        yield PlanLine(CHANGE, f"{self.target}: {text}", (self.target,))

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return [self.target]


@dataclass(frozen=True)
class SetFailurePolicy(Action):
    """Set the failurePolicy of every webhook in ValidatingWebhookConfigurations."""

    action_name = "failure_policy"
    is_short = True
    in_undo = RESTORE
    names: Sequence[str]
    policy: str

    @property
    def targets(self) -> list[Reference]:
        return [Reference(CONFIGURATION, name) for name in self.names]

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        yield PlanLine(CHANGE, f"{named(self.targets)}: failurePolicy {self.policy}", tuple(self.targets))

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return self.targets

    def writes(self) -> list[Any]:
        return [[self.action_name, name, self.policy] for name in self.names]


@dataclass(frozen=True)
class SwitchService(Action):
    """Replace selector and target port of a Service, and wait until its EndpointSlices follow."""

    action_name = "switch_service"
    namespace: str
    name: str
    selector: Mapping[str, str]
    target_port: int | None = None

    @property
    def service(self) -> Reference:
        return Reference("Service", self.name, self.namespace)

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        selector = ", ".join(f"{key}={value}" for key, value in self.selector.items())
        port = f", target port {self.target_port}" if self.target_port else ""
        yield PlanLine(CHANGE, f"{self.service}: selector {selector}{port}", (self.service,))

    def permissions(self, _namespace: str, _probe_namespace: str) -> list[Permission]:
        slices = Permission("list", "discovery.k8s.io", "endpointslices", self.namespace)
        return [Permission("list", "", "pods", self.namespace), slices]

    def named_objects(self, _context: UpgradeContext) -> list[Reference]:
        return [self.service]


@dataclass(frozen=True)
class ReconnectWebhooks(Action):
    """Change the number of line breaks at the end of caBundles, so that every API server opens new connections."""

    action_name = "reconnect"
    is_short = True
    targets: Sequence[Reference]

    def lines(self, _progress: HopProgress) -> Iterator[PlanLine]:
        return reconnected(self.targets)

    def writes(self) -> list[Any]:
        return bundles(self.targets)
