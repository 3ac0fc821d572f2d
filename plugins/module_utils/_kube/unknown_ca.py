# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Explain an API server whose CA is not in the kubeconfig, as on the morning after a rotation of the CA. Pure.

What the server shows is never trusted: another machine may answer. It only helps the user to compare.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from .._text import shortened
from .connection import Connection
from .errors import ConnectionFailed

try:  # noqa: SIM105  # the imports of this collection fail later
    from cryptography import x509
except ImportError:  # reported by _ansible, with the interpreter's path
    pass

#: The results of OpenSSL for a chain that no CA of the bundle verifies (include/openssl/x509_vfy.h): X509_V_ERR_CERT_SIGNATURE_FAILURE,
#: _DEPTH_ZERO_SELF_SIGNED_CERT, _SELF_SIGNED_CERT_IN_CHAIN, _UNABLE_TO_GET_ISSUER_CERT_LOCALLY, _UNABLE_TO_VERIFY_LEAF_SIGNATURE.
_NO_CHAIN = (7, 18, 19, 20, 21)
#: The end of the address of an API server, or the exec plugin of the kubeconfig -> the command that fetches the new CA.
_COMMANDS: tuple[tuple[str, str, str], ...] = (
    (".eks.amazonaws.com", "aws", "aws eks update-kubeconfig --name CLUSTER"),
    (".azmk8s.io", "kubelogin", "az aks get-credentials --resource-group GROUP --name CLUSTER"),
    (".gke.goog", "gke-gcloud-auth-plugin", "gcloud container clusters get-credentials CLUSTER"),
)
_BY_HAND = (
    "Copy certificate-authority-data from a kubeconfig of the control plane (kubeadm: /etc/kubernetes/admin.conf, k3s: "
    "/etc/rancher/k3s/k3s.yaml), after you compared the fingerprint there"
)


def is_unknown_ca(connection: Connection, error: object) -> bool:
    """Return True if no CA of the connection verifies the server. Names and dates are other reasons to refuse it."""
    return connection.ca_pem is not None and getattr(error, "verify_code", 0) in _NO_CHAIN


def unknown_ca(connection: Connection, words: str, leaf_der: bytes | None) -> ConnectionFailed:
    """Return the error. leaf_der: the certificate that the server shows without verification, None if it shows none."""
    evidence = [f"{connection.auth_source}: {words}"]
    if leaf_der:
        try:
            issuer = x509.load_der_x509_certificate(leaf_der).issuer.rfc4514_string()
        except ValueError:
            issuer = "cannot be read"
        fingerprint = hashlib.sha256(leaf_der).hexdigest()
        evidence.append(shortened(f"the server shows, not verified: issuer {issuer}, SHA-256 {fingerprint}"))
    return ConnectionFailed(
        "no CA of the kubeconfig verifies the certificate of the API server",
        code="cluster-ca-unknown",
        evidence=evidence,
        remedy=f"If the CA of the cluster was rotated, fetch the new one: {_command(connection)}. If not, the address "
        "leads to another cluster, or a proxy answers",
    )


def _command(connection: Connection) -> str:
    host = urlsplit(connection.host).hostname or ""
    config = connection.exec_plugin.config if connection.exec_plugin else {}
    plugin = str(config.get("command", "")).rpartition("/")[2]
    matching = (command for end, name, command in _COMMANDS if host.endswith(end) or plugin == name)
    return next(matching, _BY_HAND)
