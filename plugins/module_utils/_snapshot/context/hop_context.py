# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""The installed state, the release, the user's options, and which way a hop goes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..._base.accept import NOTHING, Consent
from ..installed.state import InstalledState, InstalledWorkload
from ..kinds import CONTROLLER, CONTROLLER_NAME, REGISTRY, Reference
from ..release import crd_sets
from ..release.release_table import (
    CONTROLLER_NAMESPACE,
    NO_VERSION,
    Release,
    Version,
    find,
    is_at_least,
    text,
)

# The first Kubernetes version that accepts updates of objects with invalid unchanged fields by default (KEP-4008).
RATCHETS_SINCE = (1, 30)


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
class HopContext:
    """The installed state, the release and the options of one hop, and the controller that runs."""

    installed: InstalledState
    release: Release
    options: UpgradeOptions

    @cached_property
    def controller(self) -> InstalledWorkload | None:
        """The installed controller, None if none runs.

        If there are several, a controller that is not removed comes first, then the one in the namespace of the options, which an undo
        sets, then a Deployment before a StatefulSet of 4.0.
        """
        controllers = sorted(
            self.installed.running(CONTROLLER),
            key=lambda workload: (
                self._is_named(workload),
                workload.namespace != self.options.namespace,
                workload.kind != "Deployment",
                workload.name != CONTROLLER_NAME,
            ),
        )
        return next(iter((*controllers, *self.installed.orphans(CONTROLLER))), None)

    @property
    def version(self) -> Version | None:
        """Return the running release, None if no controller runs or its release is unknown."""
        return (self.controller.version or self.options.installed_version) if self.controller else None

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
    def before(self) -> HopContext | None:
        """Return the context before the hop that is undone, None in an upgrade."""
        undo = self.options.undo
        return HopContext(undo.before, self.release, replace(self.options, undo=None)) if undo else None

    def is_untouched(self, kind: str, name: str, namespace: str) -> bool:
        """Return True in an undo if the hop did not touch the object."""
        undo = self.options.undo
        return undo is not None and Reference(kind, name, namespace) in undo.originals - undo.changed

    @property
    def namespace(self) -> str:
        installed = self.controller.namespace if self.controller else ""
        return installed or self.options.namespace or CONTROLLER_NAMESPACE

    def _is_named(self, workload: InstalledWorkload) -> bool:
        return f"{workload.namespace}/{workload.name}" in self.options.remove_controllers

    def present(self, group: str) -> bool:
        return any(name in self.installed.crds for name in crd_sets.names(group))
