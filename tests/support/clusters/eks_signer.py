# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A signer that works like beta.eks.amazonaws.com/app-serving of Amazon EKS.

The limits are those of the EKS user guide, 'Secure workloads with Kubernetes certificates':

* It approves no request.
* It accepts any subject. It uses the requested subjectAltName and drops all other requested extensions.
* Usages come from spec.usages. Allowed are key encipherment, digital signature and server auth. The guide
  does not describe other usages. This signer marks such requests as Failed, as the built-in signers of
  Kubernetes do.
* The lifetime is at most one year, or spec.expirationSeconds if that is shorter.
* It issues no CA certificate.
* It ignores requests whose name starts with `csr-` (aws/containers-roadmap#2079).
"""

from __future__ import annotations

import argparse
import base64
import datetime
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.clusters.client import AdminApiError, AdminClient
from tests.support.clusters.pki import BUNDLE, YEAR, KeyPair, key_usage, with_authority
from tests.support.clusters.profiles import APP_SERVING

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
PERMITTED = {"key encipherment", "digital signature", "server auth"}
_BACKDATE = datetime.timedelta(minutes=5)


def is_ours(request: dict[str, Any]) -> bool:
    """Return True if a request is approved, not answered, and not ignored because of its name."""
    conditions = {condition["type"] for condition in request["status"].get("conditions", ())}
    return (
        request["spec"]["signerName"] == APP_SERVING
        and not request["metadata"]["name"].startswith("csr-")
        and not request["status"].get("certificate")
        and conditions & {"Approved", "Denied", "Failed"} == {"Approved"}
    )


def status_for(request: dict[str, Any], ca: KeyPair, now: datetime.datetime) -> dict[str, Any]:
    """Return the status that answers an approved request: a certificate, or the condition Failed."""
    status: dict[str, Any] = request["status"]
    excess = sorted(set(request["spec"]["usages"]) - PERMITTED)
    if excess:
        failed = {
            "type": "Failed",
            "status": "True",
            "reason": "SignerValidationFailure",
            "message": f"usages not permitted: {', '.join(excess)}",
            "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return status | {"conditions": [*status["conditions"], failed]}
    pem = sign(request["spec"], ca, now).public_bytes(serialization.Encoding.PEM)
    return status | {"certificate": base64.b64encode(pem).decode()}


def sign(spec: dict[str, Any], ca: KeyPair, now: datetime.datetime) -> x509.Certificate:
    """Return the certificate for a CSR's spec. `now` has a time zone."""
    asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    lifetime = min(datetime.timedelta(seconds=spec.get("expirationSeconds", YEAR.total_seconds())), YEAR)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(ca.certificate.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(min(now + lifetime, ca.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    builder = with_authority(builder, ca)
    bits = [usage.replace(" ", "_") for usage in spec["usages"] if usage != "server auth"]
    if bits:
        builder = builder.add_extension(key_usage(*bits), critical=True)
    if "server auth" in spec["usages"]:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    for extension in asked.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca.key, hashes.SHA256())


def serve(client: AdminClient, ca: KeyPair) -> None:
    """List and watch requests. List again when the watch ends."""
    while True:
        listed = client.api("GET", REQUESTS)
        for request in listed["items"]:
            _answer(client, ca, request)
        version = listed["metadata"]["resourceVersion"]
        for event in client.watch(f"{REQUESTS}?watch=1&timeoutSeconds=50&resourceVersion={version}"):
            if event["type"] == "ERROR":  # the resourceVersion is too old, so list again
                break
            if event["type"] != "DELETED":
                _answer(client, ca, event["object"])


def _answer(client: AdminClient, ca: KeyPair, request: dict[str, Any]) -> None:
    """Answer one request. Log it if that fails, so that other requests are answered."""
    if not is_ours(request):
        return
    name = request["metadata"]["name"]
    try:
        status = status_for(request, ca, datetime.datetime.now(datetime.timezone.utc))
        client.api("PUT", f"{REQUESTS}/{name}/status", request | {"status": status})
        print(f"{name}: {'issued' if 'certificate' in status else 'failed'}", flush=True)
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        print(f"{name}: {error}", flush=True)  # the request cannot be signed
    except AdminApiError as error:
        if error.status == 429 or error.status >= 500:
            raise
        print(f"{name}: {error}", flush=True)  # changed meanwhile, so its event will come, or deleted


def main() -> None:
    parser = argparse.ArgumentParser(description="Sign what Amazon EKS would sign.")
    parser.add_argument("--server", required=True, metavar="URL")
    parser.add_argument(
        "--pki",
        required=True,
        type=Path,
        help=f"directory with {BUNDLE}, ca.crt, ca.key, signer.crt, signer.key",
    )
    options = parser.parse_args()
    pki: Path = options.pki
    client = AdminClient(
        options.server, pki / BUNDLE, pki / "signer.crt", pki / "signer.key", user_agent="eks-signer"
    )
    ca = KeyPair.read(pki, "ca")
    while True:
        try:
            serve(client, ca)
        except (
            AdminApiError,
            OSError,
        ) as error:  # RBAC does not allow it yet, or the API server restarts
            print(error, file=sys.stderr, flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
