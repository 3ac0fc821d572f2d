# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Group snapshots in one hop: whether they are on, and whether stored contents need a conversion. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..installed.state import InstalledWorkload
from ..kinds import CONVERSION, SIDECAR
from ..release import crd_sets, flags
from ..release.crd_sets import Crd
from ..release.release_table import (
    GROUP,
    GROUP_CONTENTS,
    GROUP_CRDS,
    NEW_LISTS_SINCE,
    OLD_LISTS,
    find,
    is_at_least,
)
from .hop_context import HopContext


@dataclass(frozen=True)
class GroupSnapshots:
    """Facts about group snapshots before and after a hop."""

    hop: HopContext

    @cached_property
    def wanted(self) -> bool:
        if self.hop.release.groups is None:
            return False
        wanted = self.hop.options.group_snapshots
        return self.is_on if wanted is None else wanted

    @property
    def is_on(self) -> bool:
        """True if the installed controller processes group snapshots. Without the group CRDs it does not."""
        live = self.hop.controller
        current = self.hop.current if self.hop.present(GROUP) else None
        return live is not None and flags.groups_on(live.arguments, current)

    @property
    def contents(self) -> Crd | None:
        return self.hop.installed.crds.get(GROUP_CONTENTS)

    @property
    def alpha(self) -> list[Crd]:
        """The group CRDs that store or once stored v1alpha1, which 8.2 dropped."""
        crds = (self.hop.installed.crds.get(name) for name in GROUP_CRDS)
        return [crd for crd in crds if crd and "v1alpha1" in {*crd.stored_versions, crd.storage}]

    @property
    def old_sidecars(self) -> list[InstalledWorkload]:
        """The csi-snapshotter sidecars that use group snapshots at v1beta1 or before."""
        return [
            workload
            for workload in self.hop.installed.running(SIDECAR)
            if not is_at_least(workload.version, NEW_LISTS_SINCE)
            and flags.groups_on(workload.arguments, find(workload.version))
        ]

    @property
    def has_hidden_handle_lists(self) -> bool:
        """True if contents stored at v1beta1 have lists of handles that only the conversion webhook shows at v1beta2."""
        crd, groups = self.contents, self.hop.installed.groups
        if crd is None:
            return False
        unreadable = (
            crd.conversion.strategy == "Webhook" and "group_contents" in self.hop.installed.unreadable
        )
        return unreadable or bool(groups.hidden) or (crd.storage == "v1beta1" and bool(groups.lists))

    @property
    def conversion_works(self) -> bool:
        """True if a conversion webhook is called and available, and contents could be read."""
        live, crd = self.hop.installed.webhook(CONVERSION), self.contents
        return bool(
            live
            and live.available
            and crd
            and crd.conversion.strategy == "Webhook"
            and crd.conversion.has_bundle
            and crd.storage == "v1beta2"
            and "group_contents" not in self.hop.installed.unreadable
        )

    @property
    def controller_uses_v1beta1(self) -> bool:
        """True if the controller uses group snapshots at v1beta1. Without a conversion, objects that it writes lose their lists."""
        current = self.hop.current
        return bool(self.is_on and current and current.groups and current.groups.version == "v1beta1")

    @property
    def stores_v1beta1(self) -> bool:
        crd = self.contents
        return crd is not None and bool(set(OLD_LISTS) & set(crd.stored_versions))

    @property
    def ends_conversion(self) -> bool:
        """Return True if the release's group CRDs store other lists than v1beta1 and the release has no webhook that converts them."""
        key = self.hop.release.group_crds
        return (
            bool(key)
            and crd_sets.row(key, GROUP).storage not in OLD_LISTS
            and not self.hop.release.has(CONVERSION)
        )

    @property
    def conversion_needed(self) -> bool:
        """True if contents are stored at v1beta1, or a client uses v1beta1."""
        stored = self.stores_v1beta1 and self.hop.installed.groups.contents > 0
        return (
            stored
            or self.has_hidden_handle_lists
            or self.conversion_works
            or bool(self.contents and self.old_sidecars)
        )
