# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation of the CA of a running control plane, as kubernetes.io describes it under "Manual Rotation of CA Certificates"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from tests.support.clusters import control_plane_pki, pki
from tests.support.clusters.profiles import find

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Sequence

    from tests.support.clusters.cluster import Cluster
    from tests.support.clusters.components import Server


class Rotation:
    """Each step writes the files, and returns when the programs use them. Certificates that the outgoing CA signed stay in use.

    The administrator's kubeconfig does not change. `Cluster.write_kubeconfig` does what its user would do.
    now: returns when a certificate of the API server is made, by default today.
    """

    def __init__(
        self,
        cluster: Cluster,
        successor: pki.KeyPair,
        now: Callable[[], datetime.datetime | None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._now = now
        self._directory = cluster.servers[0].pki(cluster.directory)
        self.outgoing = pki.KeyPair.read(self._directory, "ca")
        self.successor = successor
        self._line: tuple[pki.KeyPair, ...] = (successor,)
        #: Further CAs that the cluster publishes after those of each step.
        self.further: tuple[pki.KeyPair, ...] = ()

    def publish(self, *, for_clients: bool = True) -> None:
        """Let every verifier of the control plane trust both CAs. The outgoing one signs.

        for_clients: also for certificates of clients.
        """
        self._trust(self.outgoing, self.successor, for_clients=for_clients)
        self._cluster.reload()

    def switch(self, *, api_server: bool = True, signer: bool = True) -> None:
        """Sign certificates, and the serving certificate of each API server, with the successor."""
        self._sign(self.successor, api_server=api_server, signer=signer)
        self._trust(self.successor, self.outgoing)
        self._cluster.reload()

    def switch_server(self, server: Server) -> None:
        """Do the same on one machine of several. Its controller manager is the leader then."""
        self._sign(self.successor, servers=[server])
        self._cluster.reload()
        self._cluster.lead(server)

    def roll_back(self) -> None:
        """Sign with the outgoing CA again. Both stay trusted."""
        self._sign(self.outgoing)
        self._trust(self.outgoing, self.successor)
        self._cluster.reload()

    def withdraw_successor(self) -> None:
        """Trust only the outgoing CA again, before a switch."""
        self._trust(self.outgoing)
        self._cluster.reload()

    def drop_outgoing(self) -> None:
        """Trust only the successor, and issue the certificates of the control plane and of the administrator again."""
        for name, pair in control_plane_pki.client_pairs(self._line[0]).items():
            for server in self._cluster.servers:
                pair.write(server.pki(self._cluster.directory), name)
        self._trust(*self._line)
        self._cluster.reload()

    def make_line(self) -> tuple[pki.KeyPair, ...]:
        """Make the intermediate that will sign, and the twin of the new root that the outgoing CA signs. Return them around the root.

        Source: k3s contrib/util/rotate-default-ca-certs.sh
        """
        if len(self._line) == 1:
            subject = self.successor.certificate.subject.rfc4514_string().removeprefix("CN=")
            signing = pki.make_ca(f"{subject}-intermediate", issuer=self.successor)
            twin = pki.make_ca(subject, issuer=self.outgoing, key=self.successor.key)
            self._line = (signing, self.successor, twin)
        return self._line

    def replace_at_once(self) -> None:
        """Publish and switch at once, with an intermediate, a new root, its cross-signed twin, and the old root.

        What was published before stays published.
        """
        signing, _root, twin = self.make_line()
        earlier = tuple(
            pki.KeyPair(entry, self.outgoing.key)
            for entry in x509.load_pem_x509_certificates((self._directory / pki.BUNDLE).read_bytes())
        )
        self._sign(signing, chain=(signing, twin))
        self._trust(*self._line, *earlier)
        self._cluster.reload()

    @property
    def signing(self) -> tuple[pki.KeyPair, ...]:
        """The CA that signs after the switch, and what a server sends with its certificates."""
        return self._line[:1] if len(self._line) == 1 else (self._line[0], self._line[0], self._line[2])

    def _trust(self, *pairs: pki.KeyPair, for_clients: bool = True) -> None:
        """Publish these CAs. The one that signs is the first, as on EKS, because OpenSSL tries only the first of a name."""
        for server in self._cluster.servers:
            for bundle in (pki.BUNDLE, *((pki.CLIENT_BUNDLE,) if for_clients else ())):
                path = server.pki(self._cluster.directory) / bundle
                path.write_bytes(b"".join(pair.certificate_pem for pair in (*pairs, *self.further)))

    def _sign(
        self,
        ca: pki.KeyPair,
        *,
        chain: tuple[pki.KeyPair, ...] = (),
        api_server: bool = True,
        signer: bool = True,
        servers: Sequence[Server] = (),
    ) -> None:
        for server in servers or self._cluster.servers:
            directory = server.pki(self._cluster.directory)
            if api_server:
                pair = control_plane_pki.serving_pair(ca, find(self._cluster.profile_name), self._now())
                pair.write(directory, "apiserver")
                with (directory / "apiserver.crt").open("ab") as file:
                    file.writelines(entry.certificate_pem for entry in chain)
            if signer:
                ca.write(directory, "ca")
