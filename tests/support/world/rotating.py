# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A world whose CA rotates by any steps, one after the other, while its programs are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.certificates.authority import Issued
from tests.support.rig import ADMINISTRATORS
from tests.support.world.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.clusters import Cluster
    from tests.support.clusters.pki import KeyPair
    from tests.support.clusters.rotation import Rotation


class RotatingWorld(World):
    """A world and the rotation of its CA, if one has begun."""

    def __init__(self, cluster: Cluster, journal: Path | None = None) -> None:
        super().__init__(cluster, journal)
        self.rotation: Rotation | None = None
        #: True if kubectl, which has the clock of this machine, does not accept the certificate of the API server yet.
        self.is_dated = False
        #: The CAs before the outgoing one that stay published until the next removal. They signed certificates of the control plane.
        self._earlier: tuple[KeyPair, ...] = ()

    def rotate(self, step: str) -> None:
        """Take a step of a rotation of the CA, a method of Rotation, or "" for its end. Programs get certificates of the CA that signs then.

        The CAs that the control plane has had stay published until `drop_outgoing`.
        """
        if step == "publish":
            if self.rotation:
                self._earlier += (self.rotation.outgoing,)
            self.rotation = self.cluster.rotation(is_dated=True)
        elif step == "drop_outgoing":
            self._earlier = ()
        if step and self.rotation:
            self.rotation.further = self._earlier
            getattr(self.rotation, step)()
            if step in ("switch", "roll_back"):
                self.is_dated = True
                signing = self.rotation.successor if step == "switch" else self.rotation.outgoing
                self.cas["cluster"] = Issued(signing.certificate, signing.key)
        else:
            self.rotation = None
        self.kubeconfig = self.cluster.kubeconfig_for(self.user, ADMINISTRATORS)
