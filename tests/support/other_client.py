# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes of other clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.clusters import Cluster


@dataclass(frozen=True)
class OtherClient:
    """A client that writes under a field manager."""

    #: Name of the field manager.
    manager: str = "kubectl"
    #: True if it writes by server-side apply.
    applies: bool = False

    def write(self, cluster: Cluster, collection: str, obj: dict[str, Any]) -> None:
        """Create an object."""
        query = f"fieldManager={self.manager}"
        if self.applies:
            path = f"{collection}/{obj['metadata']['name']}?force=true&{query}"
            cluster.api("PATCH", path, obj, "application/apply-patch+yaml")
        else:
            cluster.api("POST", f"{collection}?{query}", obj)


KUBECTL = OtherClient()
