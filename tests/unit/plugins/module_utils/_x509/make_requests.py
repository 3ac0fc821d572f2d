# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make tests/unit/x509/requests: `python3 -m tests.unit.plugins.module_utils._x509.make_requests`. It needs go, openssl and keytool.

The files are in the repository, because the tests must not depend on these programs. The keys are not kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
REQUESTS = HERE / "requests"
CERT_MANAGER = "github.com/cert-manager/cert-manager v1.21.2"

# As external-snapshotter's create-cert.sh writes it.
CREATE_CERT = """\
[req]
req_extensions = v3_req
distinguished_name = req_distinguished_name
[req_distinguished_name]
[ v3_req ]
basicConstraints = CA:FALSE
keyUsage = nonRepudiation, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = @alt_names
[alt_names]
DNS.1 = hook
DNS.2 = hook.apps
DNS.3 = hook.apps.svc
"""
WITH_PASSWORD = """\
[req]
prompt = no
attributes = req_attributes
distinguished_name = req_distinguished_name
[req_distinguished_name]
C = DE
ST = Bayern
O = Shop
CN = hook.apps.svc
[req_attributes]
challengePassword = secret
unstructuredName = a name
"""
NODE = "/CN=system:node:hook.apps.svc/O=system:nodes"
OPENSSL = {
    "plain": (["-newkey", "rsa:2048", "-subj", "/CN=jane/O=developers"], ""),
    "san": (
        ["-newkey", "rsa:2048", "-subj", NODE, "-addext", "subjectAltName=DNS:hook.apps.svc,IP:10.1.2.3"],
        "",
    ),
    "ec": (
        [
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-subj", "/CN=hook"),
            *("-addext", "subjectAltName=DNS:hook", "-addext", "extendedKeyUsage=serverAuth"),
        ],
        "",
    ),
    "ed25519": (["-newkey", "ed25519", "-subj", "/CN=hook"], ""),
    "createcert": (["-newkey", "rsa:2048", "-subj", NODE], CREATE_CERT),
    "password": (["-newkey", "rsa:2048"], WITH_PASSWORD),
}
KEYTOOL = {"rsa": ("-keyalg", "RSA"), "ec": ("-keyalg", "EC", "-groupname", "secp256r1")}


def main() -> None:
    REQUESTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_by_openssl(Path(scratch))
        make_by_keytool(Path(scratch))
        make_by_go(Path(scratch))


def make_by_openssl(scratch: Path) -> None:
    for name, (options, configuration) in OPENSSL.items():
        path = scratch / "openssl.cnf"
        path.write_text(configuration)
        given = ["-config", str(path)] if configuration else []
        command = ["openssl", "req", "-new", "-nodes", "-keyout", os.devnull, *options, *given]
        run(*command, "-out", str(REQUESTS / f"openssl-{name}.pem"))


def make_by_keytool(scratch: Path) -> None:
    for name, options in KEYTOOL.items():
        store = ("-keystore", str(scratch / f"{name}.p12"), "-storepass", "changeit", "-alias", "hook")
        run("keytool", "-genkeypair", *store, *options, "-dname", "CN=hook.apps.svc, OU=Web, O=Shop, C=DE")
        target = REQUESTS / f"keytool-{name}.pem"
        run("keytool", "-certreq", *store, "-ext", "san=dns:hook.apps.svc,ip:10.1.2.3", "-file", str(target))


def make_by_go(scratch: Path) -> None:
    """Require cert-manager, and with it the client-go that it is built with."""
    source = scratch / "go"
    source.mkdir()
    shutil.copy(HERE / "request_maker" / "main.go", source)
    (source / "go.mod").write_text(
        f"module certflow.invalid/requests\n\ngo 1.26.0\n\nrequire {CERT_MANAGER}\n"
    )
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off", "CGO_ENABLED": "0"}
    subprocess.run(["go", "mod", "tidy"], cwd=source, env=environment, check=True)
    subprocess.run(["go", "run", ".", str(REQUESTS)], cwd=source, env=environment, check=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
