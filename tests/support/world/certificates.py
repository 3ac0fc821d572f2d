# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificates of programs: a table of CAs, and what pods send. All can be made as if days had passed."""

from __future__ import annotations

import datetime
import functools
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tests.support.certificates.authority import (
    CLIENT_AUTH,
    DAY,
    SERVER_AUTH,
    Issued,
    addresses,
    as_version_1,
    authority,
    dns,
    issue,
    key_usage,
    with_octets,
    with_sha1,
)
from tests.support.clusters import pki

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)

EC, RSA = "ec", "rsa"


@functools.cache
def _rsa(bits: int, _number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def _by_openssl(*options: str) -> rsa.RSAPrivateKey:
    """Return an RSA key that the library refuses to make."""
    words = [word for option in options for word in ("-pkeyopt", option)]
    command = ["openssl", "genpkey", "-algorithm", "RSA", *words]
    pem = subprocess.run(command, check=True, capture_output=True).stdout
    key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


#: The kinds of keys that rows name.
KEYS: dict[str, Any] = {
    EC: lambda: ec.generate_private_key(ec.SECP256R1()),
    "p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    RSA: lambda: _rsa(2048),
    "rsa-ca": lambda: _rsa(2048, 1),
    "rsa4096": lambda: _rsa(4096),
    "rsa1024": lambda: _rsa(1024),
    "rsa768": lambda: _by_openssl("rsa_keygen_bits:768"),
    "rsa-exponent": lambda: _by_openssl("rsa_keygen_bits:2048", "rsa_keygen_pubexp:4294967311"),
}


@dataclass(frozen=True)
class Ca:
    """A CA of the table. Days count from now."""

    subject: str
    #: The CA that signs it, "" for itself.
    issuer: str = ""
    begin: float = -900
    end: float = 3000
    #: The CA whose key it has, "" for a key of its own.
    key_of: str = ""
    key: str = EC
    path_length: int | None = None
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    #: True for a certificate without extensions, as old openssl makes it.
    is_version_1: bool = False


def _constrained(*names: str) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return ((x509.NameConstraints([x509.DNSName(name) for name in names], None), True),)


CAS: Mapping[str, Ca] = {
    "root": Ca("root"),
    "other": Ca("other"),
    "same-name": Ca("root"),
    "rsa-root": Ca("rsa root", key="rsa-ca"),
    "p384-root": Ca("p384 root", key="p384"),
    "ed25519-root": Ca("ed25519 root", key="ed25519"),
    "middle": Ca("middle", "root", -100, 200),
    "second": Ca("second", "middle", -90, 190),
    "third": Ca("third", "second", -80, 180),
    "old-middle": Ca("middle", "root", -300, -10, key_of="middle"),
    "next-middle": Ca("middle", "root", 20, 900, key_of="middle"),
    "ending-middle": Ca("ending", "root", -360, 5),
    "renewed-middle": Ca("ending", "root", -10, 700, key_of="ending-middle"),
    "cross": Ca("root", "other", -900, 2, key_of="root"),
    "old-cross": Ca("root", "other", -900, -3, key_of="root"),
    "long-cross": Ca("root", "other", -900, 2000, key_of="root"),
    "old-root": Ca("old root", end=-40),
    "renewed-root": Ca("old root", begin=-50, end=900, key_of="old-root"),
    "ending-root": Ca("ending root", end=5),
    "renewed-ending-root": Ca("ending root", begin=-5, key_of="ending-root"),
    "successor": Ca("ending root", begin=-5),
    "year-root": Ca("year root", begin=-200, end=165),
    "late": Ca("late", begin=5, end=900),
    "short": Ca("short", begin=-10, path_length=0),
    "below-short": Ca("below short", "short", -10, 900),
    "long-enough": Ca("long enough", begin=-10, path_length=1),
    "below-long": Ca("below long", "long-enough", -10, 900),
    "constrained": Ca("constrained", begin=-10, extensions=_constrained("elsewhere.test")),
    "permitted": Ca("permitted", begin=-10, extensions=_constrained("svc")),
    "strange": Ca(
        "strange", "root", -10, 900,
        extensions=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),),
    ),
    "client-ca": Ca("client", "root", extensions=((x509.ExtendedKeyUsage([x509.ObjectIdentifier(CLIENT_AUTH)]), False),)),
    "signing-ca": Ca("signing", extensions=((key_usage("key_cert_sign", "crl_sign"), True),)),
    "namesake": Ca("kubernetes"),
    "strict": Ca("strict", "root", extensions=(
        (x509.PolicyConstraints(0, None), True),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), False))),
    "relic": Ca("relic", "root", is_version_1=True),
    "exclusive": Ca("exclusive", "root", extensions=(
        (x509.PolicyConstraints(0, None), True), (x509.InhibitAnyPolicy(0), True),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), False))),
    "any-policy": Ca("any policy", "root", extensions=(
        (x509.PolicyConstraints(0, None), True),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]), False))),
    "small-rsa": Ca("small rsa", "root", key="rsa768"),
    "mail-only": Ca("mail only", extensions=((x509.NameConstraints([x509.RFC822Name("example.com")], None), True),)),
    "no-names": Ca("no names", extensions=((x509.NameConstraints(None, [x509.DNSName("")]), True),)),
    "nameless": Ca(""),
    "century": Ca("nil1", begin=-300, end=36200),
}  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """The certificates that a pod sends: a leaf of the first CA, and CAs after it."""

    chain: tuple[str, ...] = ("root",)
    #: True if the first CA is sent too.
    sends_issuer: bool = False
    #: Days before and after now.
    life: tuple[float, float] = (-60, 300)
    usages: tuple[str, ...] = (SERVER_AUTH,)
    #: The DNS names. "{}" is the name that the API server requires, "{service}" and "{namespace}" are its parts,
    #: and "{upper}" is it in capital letters.
    names: tuple[str, ...] = ("{}",)
    subject: str = "leaf"
    key: str = EC
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    pss: bool = False
    #: Signed with SHA-1.
    sha1: bool = False
    #: The leaf signs itself.
    self_signed: bool = False
    #: Octets in place of a field, as `der.signed_again` takes them.
    octets: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """The certificates and the key of a server."""

    certificate_pem: bytes
    key_pem: bytes


def _names(texts: Iterable[str]) -> list[x509.GeneralName]:
    return [
        name
        for text in texts
        for name in (addresses(text) if re.fullmatch(r"[\d.]+|.*:.*", text) else dns(text))
    ]


@functools.cache
def namesakes(subject: str, count: int) -> bytes:
    """Return a bundle of CAs of one name."""
    return "".join(authority(subject).pem for _number in range(count)).encode()


class Certificates:
    """The certificates of the tables as they are when a number of days has passed, or at a time of a cluster."""

    def __init__(self, made: dict[str, Issued], *, days: float = 0, now: datetime.datetime = NOW) -> None:
        self._now = now - days * DAY
        #: The CAs by their names, also those that are not in the table.
        self._made = made

    def at(self, day: float) -> datetime.datetime:
        return self._now + day * DAY

    def ca(self, name: str) -> Issued:
        if name not in self._made:
            row = CAS.get(name) or Ca(name)
            key = self.ca(row.key_of).key if row.key_of else KEYS[row.key]()
            issuer = self.ca(row.issuer) if row.issuer else None
            if row.is_version_1 and issuer:
                plain = issue(
                    row.subject, issuer, key=key, not_before=self.at(row.begin), not_after=self.at(row.end)
                )
                return self._made.setdefault(name, as_version_1(plain, issuer.key))
            self._made[name] = authority(
                row.subject,
                issuer,
                key=key,
                not_before=self.at(row.begin),
                not_after=self.at(row.end),
                path_length=row.path_length,
                extensions=row.extensions,
            )
        return self._made[name]

    def bundle(self, names: tuple[str, ...]) -> bytes:
        return "".join(self.ca(name).pem for name in names).encode()

    def sent(self, leaf: Leaf, server_name: str) -> Sent:
        """Return what a server of this name sends."""
        service, namespace = (*server_name.split("."), "")[:2]
        parts = {"service": service, "namespace": namespace, "upper": server_name.upper()}
        issuer = None if leaf.self_signed else self.ca(leaf.chain[0])
        made = issue(
            leaf.subject,
            issuer,
            key=KEYS[leaf.key](),
            names=_names(text.format(server_name, **parts) for text in leaf.names),
            usages=leaf.usages,
            not_before=self.at(leaf.life[0]),
            not_after=self.at(leaf.life[1]),
            extensions=leaf.extensions,
            pss=leaf.pss,
        )
        if leaf.sha1 and issuer:
            made = with_sha1(made, issuer.key)
        cas = leaf.chain if leaf.sends_issuer else leaf.chain[1:]
        own = with_octets(made, issuer.key, **leaf.octets) if leaf.octets and issuer else made.pem
        text = own + "".join(self.ca(name).pem for name in cas)
        return Sent(text.encode(), pki.private_pem(made.key))
