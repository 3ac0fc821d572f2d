# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about certificates and CA bundles."""

from __future__ import annotations

from cryptography import x509

from tests.support.certificates import der
from tests.support.certificates.authority import ANY_USAGE, CLIENT_AUTH, SERVER_AUTH
from tests.support.webhooks.bundle_rig import DAMAGED
from tests.support.world.certificates import namesakes
from tests.system.audit.matrix.row import ACCEPTED, LEAF, SILENT, Row, Shape, chain, healthy

EXPIRED = "certificate has expired or is not yet valid"
UNKNOWN = "certificate signed by unknown authority"
NO_PEM = "unable to parse bytes as PEM block"
#: basicConstraints with a path length and without cA, which Go reads, and the library cryptography does not.
LENGTH = (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), bytes.fromhex("3003020100")), False)
MISMATCH = "ca-mismatch: error, proven, now"


def _name(text: str, tag: int) -> bytes:
    return der.subject(der.part(der.CN, text, tag))


CHAINS = (
    healthy("a root CA signs the certificate", Shape(), is_daily=True),
    healthy("an intermediate CA, which the pod sends", Shape(chain("middle", sends_issuer=True)), is_daily=True),
    healthy("three intermediate CAs", Shape(chain("third", "second", "middle", sends_issuer=True))),
    healthy("the pod sends the root CA too", Shape(chain("middle", "root", sends_issuer=True))),
    healthy("the pod sends the intermediate CAs in another order", Shape(chain("third", "middle", "second", "third"))),
    healthy("the intermediate CA is in the bundle, and not sent", Shape(chain("middle"), ("middle",))),
    healthy("the pod also sends an expired root CA", Shape(chain("root", "old-root", sends_issuer=True)), is_daily=True),
    healthy("the pod also sends an expired cross-signed CA", Shape(chain("root", "old-cross", sends_issuer=True))),
    healthy("a cross-signed CA ends in 2 days, and the bundle has both roots",
        Shape(chain("root", "cross", sends_issuer=True), ("other", "root")), is_daily=True),
    healthy("a cross-signed CA, and only the other root in the bundle", Shape(chain("root", "long-cross"), ("other",))),
    healthy("the next intermediate CA is sent ahead of its time", Shape(chain("middle", "next-middle", sends_issuer=True))),
    healthy("an expired intermediate CA is sent beside its successor", Shape(chain("middle", "old-middle", sends_issuer=True))),
    healthy("an intermediate CA ends in 5 days, and its successor of the same key is sent too",
        Shape(chain("ending-middle", "renewed-middle", sends_issuer=True))),
    healthy("the next root CA, not valid yet, is in the bundle", Shape(bundle=("root", "late")), is_daily=True),
    healthy("an expired root CA is in the bundle", Shape(bundle=("old-root", "root"))),
    healthy("a root CA of the same name and another key is in the bundle", Shape(bundle=("same-name", "root"))),
    healthy("an expired root CA, renewed with its key, both in the bundle", Shape(chain("old-root"), ("old-root", "renewed-root"))),
    healthy("a root CA ends in 5 days, and is in the bundle renewed with its key",
        Shape(chain("ending-root"), ("ending-root", "renewed-ending-root"))),
    healthy("the path length of the CA is long enough", Shape(chain("below-long", sends_issuer=True), ("long-enough",))),
    healthy("the name constraint of the CA permits the name", Shape(chain("permitted"), ("permitted",))),
    healthy("the CA is for signing certificates only", Shape(chain("signing-ca"), ("signing-ca",))),
    Row("a cross-signed CA ends in 2 days, and only the other root is in the bundle", ACCEPTED,
        "expiring: error, proven, in 2 days", Shape(chain("root", "cross"), ("other",))),
    Row("a cross-signed CA has expired, and only the other root is in the bundle", EXPIRED,
        "expired: error, proven, 3 days ago", Shape(chain("root", "old-cross"), ("other",))),
    Row("only the next intermediate CA is sent", EXPIRED, "not-yet-valid: error, proven, now", Shape(chain("middle", "next-middle"))),
    Row("only an expired intermediate CA is sent", EXPIRED, "expired: error, proven, 10 days ago", Shape(chain("middle", "old-middle")), True),
    Row("an intermediate CA ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days", Shape(chain("ending-middle", sends_issuer=True)), True),
    Row("a young certificate, and its intermediate CA ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days",
        Shape(chain("ending-middle", sends_issuer=True, life=(-1, 300)))),
    Row("the root CA has expired", EXPIRED, "ca-expired: error, proven, 40 days ago", Shape(chain("old-root"), ("old-root",)), True),
    Row("the root CA ends in 5 days", ACCEPTED, "ca-expiring: error, proven, in 5 days", Shape(chain("ending-root"), ("ending-root",))),
    Row("the root CA ends in 5 days, and its successor has another key", ACCEPTED, "ca-expiring: error, proven, in 5 days",
        Shape(chain("ending-root"), ("ending-root", "successor"))),
    Row("the root CA is not valid yet", EXPIRED, "not-yet-valid: error, proven, now", Shape(chain("late"), ("late",))),
    Row("the intermediate CA is not sent", UNKNOWN, MISMATCH, Shape(chain("middle")), True),
    Row("the middle one of three intermediate CAs is not sent", UNKNOWN, MISMATCH, Shape(chain("third", "middle", sends_issuer=True))),
    Row("another CA is in the bundle", UNKNOWN, MISMATCH, Shape(bundle=("other",)), True),
    Row("a CA of the same name and another key is in the bundle", UNKNOWN, MISMATCH, Shape(bundle=("same-name",))),
    Row("the CA was renewed with another key, and the bundle has the old one", UNKNOWN, MISMATCH, Shape(chain("successor"), ("ending-root",))),
    Row("the path length of the CA is too short", "too many intermediates", "path-too-long: error, proven, now", Shape(chain("below-short", sends_issuer=True), ("short",))),
    Row("the name constraint of the CA excludes the name", "not authorized to sign for this name", "name-constraint: error, proven, now",
        Shape(chain("constrained"), ("constrained",))),
    Row("the intermediate CA has an unknown critical extension", "unhandled critical extension", "critical-extension: error, proven, now",
        Shape(chain("strange", sends_issuer=True))),
    Row("the intermediate CA requires a policy that the certificate does not have", "no valid chains built",
        "policy-refused: error, proven, now", Shape(chain("strict", sends_issuer=True))),
    Row("the intermediate CA is of version 1", "not authorized to sign other certificates", "not-a-ca: error, proven, now",
        Shape(chain("relic", sends_issuer=True))),
    Row("a hundred CAs of the name of the root CA are before it in the bundle", "signature check attempts limit",
        "too-many-cas: error, proven, now", Shape(rewrite=lambda bundle: namesakes("root", 100) + bundle)),
    Row("the intermediate CA is only for client auth", "incompatible key usage", "wrong-usage: error, proven, now",
        Shape(chain("client-ca", sends_issuer=True))),
)  # fmt: skip

LEAVES = (
    healthy("the certificate lives for a day", Shape(chain("root", life=(-0.2, 0.8))), is_daily=True),
    healthy("a certificate of a hundred years", Shape(chain("century", life=(-300, 36000)), ("century",))),
    healthy("the certificate outlives its CA, which ends in 165 days", Shape(chain("year-root"), ("year-root",))),
    healthy("the certificate has only the wildcard of the namespace", Shape(chain("root", names=("*.{namespace}.svc",)))),
    healthy("the certificate has all names of the Service",
        Shape(chain("root", names=("{service}", "{service}.{namespace}", "{}", "{}.cluster.local", "localhost")))),
    healthy("the name is in capital letters", Shape(chain("root", names=("{upper}",)))),
    healthy("the certificate has no subject", Shape(chain("root", subject=""))),
    healthy("the certificate has no extended key usage", Shape(chain("root", usages=()))),
    healthy("the certificate is for servers and clients", Shape(chain("root", usages=(SERVER_AUTH, CLIENT_AUTH)))),
    healthy("the certificate is for any usage", Shape(chain("root", usages=(ANY_USAGE,)))),
    healthy("RSA keys of 2048 bits", Shape(chain("rsa-root", key="rsa"), ("rsa-root",))),
    healthy("an RSA key of 4096 bits", Shape(chain("rsa-root", key="rsa4096"), ("rsa-root",))),
    healthy("RSA-PSS signatures", Shape(chain("rsa-root", key="rsa", pss=True), ("rsa-root",))),
    healthy("an RSA certificate of an ECDSA CA", Shape(chain("root", key="rsa"))),
    healthy("ECDSA keys with P-384", Shape(chain("p384-root", key="p384"), ("p384-root",))),
    healthy("an ECDSA key with P-521", Shape(chain("root", key="p521"))),
    healthy("Ed25519 keys", Shape(chain("ed25519-root", key="ed25519"), ("ed25519-root",)), is_daily=True),
    Row("the certificate has expired", EXPIRED, "expired: error, proven, 1 days ago", Shape(chain("root", life=(-60, -1)))),
    Row("the certificate ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days", Shape(chain("root", life=(-60, 5))), True),
    Row("the certificate ends in 20 days", ACCEPTED, "expiring: warning, proven, in 20 days", Shape(chain("root", life=(-300, 20)))),
    Row("the certificate is not valid yet", EXPIRED, "not-yet-valid: error, proven, now", Shape(chain("root", life=(1, 300)))),
    Row("the certificate is for another name", "certificate is valid for elsewhere.example.com, not", "name-mismatch: error, proven, now",
        Shape(chain("root", names=("elsewhere.example.com",))), True),
    Row("the certificate is for the full name only", "certificate is valid for", "name-mismatch: error, proven, now",
        Shape(chain("root", names=("{}.cluster.local",)))),
    Row("only the common name has the name", "certificate is not valid for any names", "name-mismatch: error, proven, now",
        Shape(chain("root", names=(), subject="hook.default.svc"))),
    Row("the certificate is only for clients", "incompatible key usage", "wrong-usage: error, proven, now",
        Shape(chain("root", usages=(CLIENT_AUTH,))), True),
    Row("the certificate is signed with SHA-1", "insecure algorithm SHA1-RSA", "weak-signature: error, proven, now",
        Shape(chain("rsa-root", key="rsa", sha1=True), ("rsa-root",)), True),
    Row("an RSA key of 1024 bits", ACCEPTED, "weak-key: warning, proven", Shape(chain("root", key="rsa1024"))),
    Row("an Ed448 key", "handshake failure", "unsupported-key: error, proven, now", Shape(chain("root", key="ed448"))),
    Row("the subject key identifier is critical", "incorrectly marked critical", "certificate-refused: error, proven, now",
        Shape(chain("root", extensions=((x509.SubjectKeyIdentifier(b"one"), True),)))),
    healthy("the subject is a T61String, which Go reads", Shape(chain("root", octets={"subject": _name("leaf", der.T61)}))),
    Row("the subject is a UniversalString, which Go does not read", "unsupported string type", "certificate-refused: error, proven, now",
        Shape(chain("root", octets={"subject": _name("leaf", der.UNIVERSAL)}))),
    Row("the subject is a PrintableString with an underscore", "invalid PrintableString", "certificate-refused: error, proven, now",
        Shape(chain("root", octets={"subject": _name("le_f", der.PRINTABLE)}))),
    healthy("a path length in a certificate that is no CA", Shape(chain("root", extensions=(LENGTH,)))),
    Row("the same, and the certificate ends in 5 days", ACCEPTED, "expiring: error, proven, in 5 days",
        Shape(chain("root", extensions=(LENGTH,), life=(-60, 5)))),
    Row("the same, and the certificate is for another name", "certificate is valid for elsewhere.example.com, not", "name-mismatch: error, proven, now",
        Shape(chain("root", extensions=(LENGTH,), names=("elsewhere.example.com",)))),
    Row("version 1 with extensions", "certificate is not valid for any names", "name-mismatch: error, proven, now",
        Shape(chain("root", octets={"version": der.tlv(0xA0, der.integer(0))}))),
    Row("the certificate is expired, and for another name", EXPIRED, "expired: error, proven, 1 days ago; name-mismatch: error, proven, now",
        Shape(chain("root", life=(-60, -1), names=("elsewhere.example.com",)))),
)  # fmt: skip

BUNDLES = (
    healthy("the bundle has text before and after the CA", Shape(rewrite=lambda bundle: b"the root CA\n" + bundle + b"the end\n")),
    healthy("the bundle has lines that end in CR LF", Shape(rewrite=lambda bundle: bundle.replace(b"\n", b"\r\n"))),
    healthy("the bundle has the CA twenty times", Shape(rewrite=lambda bundle: bundle * 20)),
    healthy("the bundle has a block that is no certificate before the CA", Shape(rewrite=lambda bundle: DAMAGED.encode() + bundle)),
    Row("the bundle is empty", UNKNOWN, "bundle-empty: error, likely, now", Shape(bundle=None), True),
    Row("the bundle is a line break", NO_PEM, "bundle-broken: error, proven, now", Shape(bundle=b"\n"), True),
    Row("the bundle is text without PEM", NO_PEM, "bundle-broken: error, proven, now", Shape(bundle=b"none")),
    Row(
        "the bundle has only a block that is no certificate",
        "failed to parse certificate",
        "bundle-broken: error, proven, now",
        Shape(bundle=DAMAGED.encode()),
    ),
    Row("the bundle has the certificate of the server, and not its CA", ACCEPTED, SILENT, Shape(bundle=LEAF)),
)  # fmt: skip
