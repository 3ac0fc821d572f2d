# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The context of one hop: the installed state, the release, the user's options, and facts that follow from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..installed.installers import Origin
from ..installed.state import InstalledWorkload
from ..kinds import CONTROLLER, CONTROLLER_NAME, CONVERSION, SIDECAR, VALIDATION
from ..release import crd_sets, flags
from ..release.release_table import (
    GATES_FLAG,
    GROUP_FLAG,
    GROUP_GATE,
    OLD_LABEL,
    SNAPSHOT,
)
from .group_snapshots import GroupSnapshots
from .hop_context import HopContext
from .webhook_context import WebhookContext


@dataclass(frozen=True)
class UpgradeContext(HopContext):
    """The context of one hop: from the installed state to a release."""

    @cached_property
    def groups(self) -> GroupSnapshots:
        return GroupSnapshots(self)

    @cached_property
    def webhooks(self) -> WebhookContext:
        return WebhookContext(self, self.groups)

    @property
    def has_rules(self) -> bool:
        """Return True if the installed snapshot CRDs have CEL rules."""
        crd = self.installed.crds.get(f"volumesnapshots.{SNAPSHOT}")
        return crd is not None and crd.set is not None and crd.set.rules

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
            flags.for_groups(self.groups.wanted, self.release), self.options.controller_arguments
        )

    @property
    def dropped_arguments(self) -> list[str]:
        """Return arguments of the running controller that the new one would not get."""
        live = self.controller
        if live is None:
            return []
        known = {"", "v", "leader-election", GATES_FLAG, GROUP_FLAG}
        known.update(map(flags.name, self.controller_arguments))
        gone = set(flags.unknown(CONTROLLER, flags.joined(live.arguments), self.release))
        arguments = [argument for argument in flags.joined(live.arguments) if argument not in gone]
        kept = {GROUP_GATE, *flags.gates(self.controller_arguments)}
        gates = {gate: on for gate, on in flags.gates(arguments).items() if gate not in kept}
        found = [argument for argument in arguments if flags.name(argument) not in known]
        return [*found, flags.gates_argument(gates)] if gates else found

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
        # The release writes the Deployment of this name.
        return (
            not workload.companions
            and str(workload) != f"Deployment {self.namespace}/{CONTROLLER_NAME}"
            and (self._is_named(workload) or (self.is_leftover(workload) and workload in self.others))
        )

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
        services = [service for kind in (VALIDATION, CONVERSION) for service in self.webhooks.services(kind)]
        named += {str(service): (str(service), service.origin) for service in services}.values()
        if installed.controller_role:
            named.append(("ClusterRole snapshot-controller-runner", installed.controller_role))
        return [(what, owner) for what, origin in named for owner in (origin, *origin.others)]
