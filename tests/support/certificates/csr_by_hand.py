# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of any shape, created, decided and read without the collection, which sends only valid ones."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.request import (
    approval,
    csr_api,
    csr_content,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.cluster_evidence import (
    ClusterEvidence,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import Connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.clusters import AdminApiError, eks_signer, pki

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
        CertificateRequest,
    )
    from ansible_collections.certflow.kubernetes.plugins.module_utils._diagnosis.observation import Diagnosis

    from tests.support.clusters import Cluster

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SECONDS = 15.0  # a signer answers within one second
# OIDs and bits that the built-in signers write for a usage: k/k staging client-go util/certificate/csr and
# pkg/controller/certificates/authority.
KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
EXTENDED_USAGES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
KEYS = {
    "rsa-2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def pem(request: CertificateRequest) -> str:
    """Return a PKCS#10 request of any shape, also with e-mail addresses and URIs, which the collection never
    sends.
    """
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in request.organizations]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, request.common_name or "none"))
    names = [
        *map(x509.DNSName, request.dns_names),
        *(x509.IPAddress(ipaddress.ip_address(text)) for text in request.ip_addresses),
        *map(x509.RFC822Name, request.emails),
        *map(x509.UniformResourceIdentifier, request.uris),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    key: Any = KEYS.get(request.key_type, lambda: ec.generate_private_key(ec.SECP256R1()))()
    digest = None if request.key_type == "ed25519" else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()


def create(
    cluster: Cluster, signer: str, request: CertificateRequest, prefix: str = "rules"
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "request": base64.b64encode(pem(request).encode()).decode(),
        "signerName": signer,
        "usages": list(request.usages),
    }
    if request.expiration_seconds is not None:
        spec["expirationSeconds"] = request.expiration_seconds
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        # Without a label the API server keeps no managedFields of a CSR (seen on 1.36.3).
        "metadata": {"name": f"{prefix}-{uuid.uuid4().hex[:12]}", "labels": {"made-by": "rules-test"}},
        "spec": spec,
    }
    return cluster.api("POST", CSRS, body)


def decide(
    cluster: Cluster,
    csr: dict[str, Any],
    decision: str = "Approved",
    *,
    ago: datetime.timedelta = datetime.timedelta(),
) -> dict[str, Any]:
    """Approve or deny. `ago` moves the time of the decision, which the client sets, into the past."""
    now = datetime.datetime.now(datetime.timezone.utc) - ago
    body = csr_api.Decision(decision, "RulesTest", "as the test wants it.").on(csr, now)
    path = f"{CSRS}/{csr['metadata']['name']}"
    try:
        return cluster.api("PUT", f"{path}/approval", body)
    except AdminApiError:
        # The controller-manager approves kubelets' client certificates itself, maybe earlier.
        found = cluster.api("GET", path)
        assert approval.decision_of(found) == decision
        return found


def settled(cluster: Cluster, csr: dict[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
    """Return the request once its signer has answered, or as it is after that time."""
    until = time.monotonic() + seconds
    while True:
        found = cluster.api("GET", f"{CSRS}/{csr['metadata']['name']}")
        if "," in csr_content.condition_text(found) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def explained(cluster: Cluster, csr: dict[str, Any]) -> Diagnosis | None:
    return ClusterEvidence(connected(cluster)).explain(csr)


def connected(cluster: Cluster) -> Client:
    return connected_as(cluster, pki.KeyPair.read(cluster.directory / "pki", "admin"))


def connected_as(cluster: Cluster, pair: pki.KeyPair) -> Client:
    connection = Connection(
        host=cluster.url,
        auth_source="test",
        ca_pem=cluster.ca_pem,
        client_certificate=pair.certificate_pem.decode(),
        client_key=pair.key_pem.decode(),
    )
    return Client(connection, user_agent="certflow-test", deadline=time.monotonic() + 30)


def with_usages(ca: pki.KeyPair, user: str, usages: Iterable[str]) -> pki.KeyPair:
    """Return a certificate of the CA with exactly these usages, as a signer without checks makes it."""
    model = pki.issue(ca, user, ["system:masters"]).certificate
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder(issuer_name=model.issuer, subject_name=model.subject)
        .public_key(key.public_key())
        .serial_number(model.serial_number)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    builder = pki.with_authority(builder, ca)
    bits = {KEY_USAGES[usage] for usage in usages if usage in KEY_USAGES}
    # The last two bits have a meaning only together with key agreement.
    bits |= {"key_agreement"} if bits & {"encipher_only", "decipher_only"} else set()
    purposes = [EXTENDED_USAGES[usage] for usage in usages if usage in EXTENDED_USAGES]
    if bits:
        builder = builder.add_extension(pki.key_usage(*bits), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return pki.KeyPair(builder.sign(ca.key, hashes.SHA256()), key)


@contextlib.contextmanager
def signing(cluster: Cluster, signer: str, ca: pki.KeyPair, chain: str = "") -> Iterator[None]:
    """Sign requests for a signer with its own CA until the block ends."""
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(0.1):
            for csr in cluster.api("GET", f"{CSRS}?fieldSelector=spec.signerName={signer}")["items"]:
                status = csr.get("status") or {}
                if status.get("conditions") and not status.get("certificate"):
                    leaf = eks_signer.sign(
                        csr["spec"], ca, datetime.datetime.now(datetime.timezone.utc)
                    ).public_bytes(serialization.Encoding.PEM)
                    pem = base64.b64encode(leaf + chain.encode()).decode()
                    body = {**csr, "status": {**status, "certificate": pem}}
                    cluster.api("PUT", f"{CSRS}/{csr['metadata']['name']}/status", body)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
