# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cases of verification: the certificates of a server, the certificates of a bundle, and the expected verdict."""

from __future__ import annotations

import datetime
import functools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tests.support.certificates.authority import (
    ANY_USAGE,
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    Issued,
    addresses,
    as_version_1,
    authority,
    dns,
    issue,
    key_usage,
    name,
    networks,
    new_key,
    with_sha1,
)
from tests.unit.plugins.module_utils._x509 import fixed

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "hook.shop.svc"
NAMES = dns("hook", "hook.shop", NAME)
BROKEN = "-----BEGIN CERTIFICATE-----\nMIIBroken\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class CertificateCase:
    """code: of the verdict, "" where only Go knows."""

    title: str
    code: str
    leaf: Issued
    bundle: str
    name: str | None = NAME
    intermediates: list[Issued] = field(default_factory=list)
    now: datetime.datetime = NOW
    usage: str = "server auth"


def bundle(*parts: Issued | str) -> str:
    return "".join(part if isinstance(part, str) else part.pem for part in parts)


def server(issuer: Issued | None, **options: object) -> Issued:
    """A serving certificate as kube-controller-manager issues it."""
    defaults: dict[str, object] = {"names": NAMES, "usages": [SERVER_AUTH]}
    return issue("system:node:hook", issuer, **{**defaults, **options})  # type: ignore[arg-type]


def rows() -> Iterator[CertificateCase]:
    yield from _anchors()
    yield from _leaves()
    yield from _names()
    yield from _paths()
    yield from _path_rules()
    yield from _signatures()
    yield from _constraints()
    yield from _bounds()


def _anchors() -> Iterator[CertificateCase]:
    ca, other, twin = authority("kubernetes"), authority("other"), authority("kubernetes")
    leaf = server(ca)
    yield CertificateCase("right CA", "ok", leaf, bundle(ca))
    yield CertificateCase("leaf as only root", "ok", leaf, bundle(leaf))
    yield CertificateCase("leaf and its CA in the bundle", "ok", leaf, bundle(ca, leaf))
    yield CertificateCase("leaf pinned, expired", "expired", leaf, bundle(leaf), now=NOW + 400 * DAY)
    yield CertificateCase(
        "old leaf pinned, renewed leaf served", "ca-mismatch", server(ca, key=leaf.key), bundle(leaf)
    )
    yield CertificateCase("wrong CA", "ca-mismatch", leaf, bundle(other))
    yield CertificateCase("wrong CA, same subject", "ca-mismatch", leaf, bundle(twin))
    yield CertificateCase("two CAs of one subject, the right one second", "ok", leaf, bundle(twin, ca))
    yield CertificateCase("the same CA twice", "ok", leaf, bundle(ca, ca))
    yield CertificateCase("broken block, then the right CA", "ok", leaf, bundle(BROKEN, ca))
    yield CertificateCase(
        "truncated block, then the right CA", "ok", leaf, bundle(other.pem[:200] + "\n", ca)
    )
    yield CertificateCase(
        "text, CRLF, the right CA", "ok", leaf, "# cluster one\r\n" + ca.pem.replace("\n", "\r\n")
    )
    yield CertificateCase(
        "blocks joined without a line break", "bundle-broken", leaf, other.pem.rstrip("\n") + ca.pem
    )
    yield CertificateCase(
        "indented", "bundle-broken", leaf, ca.pem.replace("\n", "\n  ").replace("-----BEGIN", "  -----BEGIN")
    )
    headed = ca.pem.replace("CERTIFICATE-----\n", "CERTIFICATE-----\nOwner: me\n\n", 1)
    yield CertificateCase("block with a header", "bundle-broken", leaf, headed)
    yield CertificateCase(
        "another label", "bundle-broken", leaf, ca.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
    )
    yield CertificateCase("no certificate", "bundle-broken", leaf, "Cg==\n")
    yield CertificateCase("nothing", "bundle-broken", leaf, "")
    aged = authority("kubernetes", not_before=NOW - 10 * DAY, not_after=NOW - DAY)
    yield CertificateCase("expired CA", "expired", server(aged), bundle(aged))
    fresh = authority("kubernetes", key=aged.key)
    yield CertificateCase(
        "CA renewed with its key, the old one still there", "ok", server(aged), bundle(aged, fresh)
    )
    yield CertificateCase("expired CA, then a wrong twin", "expired", server(aged), bundle(aged, twin))
    young = authority("kubernetes", not_before=NOW + DAY)
    yield CertificateCase("CA not yet valid", "expired", server(young), bundle(young))
    printable = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes", _ASN1Type.PrintableString)])
    yield CertificateCase(
        "issuer in another string type", "ca-mismatch", server(ca, issuer_name=printable), bundle(ca)
    )
    old = issue("kubernetes")
    yield CertificateCase("version 3 CA without basicConstraints", "ca-mismatch", server(old), bundle(old))
    alone = server(None)
    yield CertificateCase("self-signed leaf, pinned", "ok", alone, bundle(alone))


def _leaves() -> Iterator[CertificateCase]:
    ca = authority("kubernetes")
    leaf = server(ca)
    yield CertificateCase("expired", "expired", leaf, bundle(ca), now=NOW + 400 * DAY)
    elsewhere = (NOW + 400 * DAY).astimezone(datetime.timezone(datetime.timedelta(hours=2)))
    yield CertificateCase("expired, told in another time zone", "expired", leaf, bundle(ca), now=elsewhere)
    yield CertificateCase("not yet valid", "expired", leaf, bundle(ca), now=NOW - 2 * DAY)
    yield CertificateCase("last second", "ok", leaf, bundle(ca), now=NOW + 365 * DAY)
    yield CertificateCase("first second", "ok", leaf, bundle(ca), now=NOW - DAY)
    client = server(ca, usages=[CLIENT_AUTH])
    yield CertificateCase("client usage only", "wrong-usage", client, bundle(ca))
    yield CertificateCase("client usage only, wanted", "ok", client, bundle(ca), usage="client auth")
    yield CertificateCase("client usage only, any wanted", "ok", client, bundle(ca), usage="any")
    yield CertificateCase("no extended usage", "ok", server(ca, usages=[]), bundle(ca))
    yield CertificateCase("any extended usage", "ok", server(ca, usages=[ANY_USAGE]), bundle(ca))
    yield CertificateCase("unknown extended usage", "wrong-usage", server(ca, usages=["1.2.3.4"]), bundle(ca))
    yield CertificateCase("client usage, pinned", "wrong-usage", client, bundle(client))
    odd = [(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    yield CertificateCase(
        "unknown critical extension", "critical-extension", server(ca, extensions=odd), bundle(ca)
    )
    mild = [(odd[0][0], False)]
    yield CertificateCase("unknown extension", "ok", server(ca, extensions=mild), bundle(ca))
    legacy = issue(NAME, ca, usages=[SERVER_AUTH])
    yield CertificateCase("no SAN, name in the CN", "name-mismatch", legacy, bundle(ca))
    yield CertificateCase("no SAN, name in the CN, pinned", "name-mismatch", legacy, bundle(legacy))
    yield CertificateCase("no SAN, another CN", "name-mismatch", issue("hook", ca), bundle(ca))
    yield CertificateCase("no SAN, no name asked", "ok", legacy, bundle(ca), name=None)
    critical = [(x509.SubjectAlternativeName([x509.DirectoryName(name("hook"))]), True)]
    odd_names = server(ca, names=[], extensions=critical)
    yield CertificateCase(
        "only names of an unknown kind, critical", "critical-extension", odd_names, bundle(ca)
    )
    own = issue("kubernetes", ca, key=ca.key, names=NAMES)
    yield CertificateCase("leaf with the subject and the key of its CA", "ok", own, bundle(ca))
    yield CertificateCase("CA as leaf", "ok", authority("leaf", ca, names=NAMES), bundle(ca))
    key_bits = [(key_usage("crl_sign"), True)]
    yield CertificateCase("leaf's keyUsage does not count", "ok", server(ca, extensions=key_bits), bundle(ca))


def _names() -> Iterator[CertificateCase]:
    ca = authority("kubernetes")
    table = [
        ("lacks the name", dns("hook", "hook.shop"), NAME, "name-mismatch"),
        ("upper case", dns("HOOK.shop.SVC"), "hook.SHOP.svc", "ok"),
        ("trailing dot asked", NAMES, f"{NAME}.", "ok"),
        ("trailing dot in the SAN", dns(f"{NAME}."), NAME, "name-mismatch"),
        ("wildcard", dns("*.shop.svc"), NAME, "ok"),
        ("wildcard, two labels", dns("*.svc"), NAME, "name-mismatch"),
        ("wildcard in the middle", dns("hook.*.svc"), NAME, "name-mismatch"),
        ("wildcard as part of a label", dns("h*.shop.svc"), NAME, "name-mismatch"),
        ("wildcard does not cover its own domain", dns("*.shop.svc"), "shop.svc", "name-mismatch"),
        ("bare star", dns("*"), "hook", "name-mismatch"),
        ("star asked for literally", dns("*.shop.svc"), "*.shop.svc", "ok"),
        ("underscore", dns("ho_ok.shop.svc"), "ho_ok.shop.svc", "ok"),
        ("leading hyphen matches only exactly", dns("-hook.shop.svc"), "-hook.shop.svc", "ok"),
        ("a lone dot", dns("."), ".", "name-mismatch"),
        ("empty label", dns("hook..svc"), "hook..svc", "ok"),
        ("suffix of another name", dns("xhook.shop.svc"), NAME, "name-mismatch"),
        ("address", addresses("10.1.2.3"), "10.1.2.3", "ok"),
        ("another address", addresses("10.1.2.3", "fd00::1"), "10.1.2.4", "name-mismatch"),
        ("address asked, none there", NAMES, "10.1.2.3", "name-mismatch"),
        ("address as DNS name", dns("10.1.2.3"), "10.1.2.3", "name-mismatch"),
        ("IPv6", addresses("fd00::1"), "fd00:0:0::1", "ok"),
        ("IPv6 in brackets", addresses("fd00::1"), "[fd00::1]", "ok"),
        ("IPv6 in brackets, another", addresses("fd00::2"), "[fd00::1]", "name-mismatch"),
        ("IPv4 inside IPv6", addresses("::ffff:10.1.2.3"), "10.1.2.3", "ok"),
        ("IPv6 with a zone", addresses("fe80::1"), "fe80::1%eth0", "name-mismatch"),
        ("address with a leading zero", addresses("10.1.2.3"), "10.1.2.03", "name-mismatch"),
        ("a hundred names", dns(*(f"n{number}.svc" for number in range(100))), NAME, "name-mismatch"),
        ("a hundred addresses", addresses(*(f"10.9.0.{n}" for n in range(100))), "10.1.2.3", "name-mismatch"),
        ("an e-mail address alone", [x509.RFC822Name("hook@shop.svc")], NAME, "name-mismatch"),
    ]  # fmt: skip
    for title, names, wanted, code in table:
        yield CertificateCase(f"name: {title}", code, server(ca, names=names), bundle(ca), name=wanted)


def _paths() -> Iterator[CertificateCase]:
    root = authority("root")
    middle = authority("middle", root)
    leaf = server(middle)
    yield CertificateCase("intermediate sent", "ok", leaf, bundle(root), intermediates=[middle])
    yield CertificateCase("intermediate not sent", "ca-mismatch", leaf, bundle(root))
    yield CertificateCase("intermediate alone in the bundle", "ok", leaf, bundle(middle))
    yield CertificateCase(
        "intermediate in the bundle and sent", "ok", leaf, bundle(middle, root), intermediates=[middle]
    )
    yield CertificateCase(
        "root sent, not trusted",
        "ca-mismatch",
        leaf,
        bundle(server(None)),
        intermediates=[middle, root],
    )
    stranger = authority("stranger")
    sent = [stranger, root, middle]
    yield CertificateCase("chain in the wrong order", "ok", leaf, bundle(root), intermediates=sent)

    plain = issue("middle", root, key=middle.key, extensions=[(x509.BasicConstraints(False, None), True)])
    yield CertificateCase("CA:FALSE as issuer", "ca-mismatch", leaf, bundle(root), intermediates=[plain])
    yield CertificateCase("CA:FALSE as anchor of another", "ca-mismatch", leaf, bundle(plain))
    bare = issue("middle", root, key=middle.key)
    yield CertificateCase(
        "issuer without basicConstraints", "ca-mismatch", leaf, bundle(root), intermediates=[bare]
    )
    signs_not = authority("middle", root, key=middle.key, extensions=[(key_usage("digital_signature"), True)])
    yield CertificateCase(
        "keyUsage without cert sign", "ca-mismatch", leaf, bundle(root), intermediates=[signs_not]
    )
    signs = authority("middle", root, key=middle.key, extensions=[(key_usage("key_cert_sign"), True)])
    yield CertificateCase("keyUsage with cert sign", "ok", leaf, bundle(root), intermediates=[signs])
    old = authority("middle", root, key=middle.key, not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    yield CertificateCase("intermediate expired", "expired", leaf, bundle(root), intermediates=[old])
    yield CertificateCase(
        "intermediate expired, and a good twin", "ok", leaf, bundle(root), intermediates=[old, middle]
    )
    odd = [(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    strict = authority("middle", root, key=middle.key, extensions=odd)
    sent = [strict]
    yield CertificateCase(
        "intermediate, unknown critical", "critical-extension", leaf, bundle(root), intermediates=sent
    )


def _policy(oid: str) -> tuple[x509.ExtensionType, bool]:
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(oid), None)]), False


def _any_policy_rules(root: Issued, middle: Issued) -> Iterator[CertificateCase]:
    """Yield chains below a CA that requires a policy, and allows any policy only in the next certificates."""
    every = _policy("2.5.29.32.0")
    both = (
        x509.CertificatePolicies(
            [x509.PolicyInformation(ObjectIdentifier(oid), None) for oid in ("2.5.29.32.0", "1.2.3")]
        ),
        False,
    )
    for allowed, own, lower, code in (
        (0, None, every, "policy-refused"),
        (0, None, both, "ok"),
        (1, None, every, "ok"),
        (0, every, _policy("1.2.3"), "policy-refused"),
        (1, every, _policy("1.2.3"), "ok"),
        (1, every, every, "policy-refused"),
        (2, every, every, "ok"),
    ):
        limits = [(x509.PolicyConstraints(0, None), True), (x509.InhibitAnyPolicy(allowed), True)]
        strict = authority("middle", root, key=middle.key, extensions=[*limits, _policy("1.2.3")])
        sent = [authority("lower", strict, extensions=[own]), strict] if own else [strict]
        policies = "two policies" if lower is both else "one policy"
        title = f"any policy for {allowed}, {len(sent)} intermediates, {policies}: {code}"
        yield CertificateCase(
            title, code, server(sent[0], extensions=[lower]), bundle(root), intermediates=sent
        )


def _path_rules() -> Iterator[CertificateCase]:
    root = authority("root")
    middle = authority("middle", root)
    leaf = server(middle)
    ancient = as_version_1(issue("root", key=root.key), root.key)
    yield CertificateCase("version 1 CA", "ok", server(ancient), bundle(ancient))
    relic = as_version_1(issue("middle", root, key=middle.key), root.key)
    yield CertificateCase("version 1 intermediate", "not-a-ca", leaf, bundle(root), intermediates=[relic])
    strict = authority(
        "middle", root, key=middle.key, extensions=[(x509.PolicyConstraints(0, None), True), _policy("1.2.3")]
    )
    other = server(middle, extensions=[_policy("1.2.4")])
    same = server(middle, extensions=[_policy("1.2.3")])
    yield CertificateCase(
        "no policy, which a CA requires", "policy-refused", leaf, bundle(root), intermediates=[strict]
    )
    yield CertificateCase(
        "another policy than a CA requires", "policy-refused", other, bundle(root), intermediates=[strict]
    )
    yield CertificateCase("the policy that a CA requires", "ok", same, bundle(root), intermediates=[strict])
    yield from _any_policy_rules(root, middle)
    anchor = authority("root", extensions=[(x509.PolicyConstraints(0, None), True)])
    yield CertificateCase("a root that requires a policy", "ok", server(anchor), bundle(anchor))
    short = authority("root", path_length=0)
    below = authority("middle", short)
    yield CertificateCase("pathLen 0, no intermediate", "ok", server(short), bundle(short))
    yield CertificateCase(
        "pathLen 0, one", "path-too-long", server(below), bundle(short), intermediates=[below]
    )
    deep = authority("deep", middle)
    yield CertificateCase("two intermediates", "ok", server(deep), bundle(root), intermediates=[middle, deep])
    tight = authority("middle", root, path_length=0)
    lower = authority("lower", tight)
    sent = [lower, tight]
    yield CertificateCase(
        "pathLen 0 in the middle", "path-too-long", server(lower), bundle(root), intermediates=sent
    )

    narrow = authority("middle", root, key=middle.key, usages=[CLIENT_AUTH])
    sent = [narrow]
    yield CertificateCase(
        "usage not of the intermediate", "wrong-usage", leaf, bundle(root), intermediates=sent
    )
    yield CertificateCase("usage not of the root", "wrong-usage", leaf, bundle(narrow))
    wide = authority("middle", root, key=middle.key, usages=[ANY_USAGE])
    yield CertificateCase("any usage of the intermediate", "ok", leaf, bundle(root), intermediates=[wide])
    free = server(narrow, usages=[])
    yield CertificateCase(
        "no usage below a narrow one", "wrong-usage", free, bundle(root), intermediates=sent
    )
    yield CertificateCase(
        "a narrow intermediate and a wide twin", "ok", leaf, bundle(root), intermediates=[narrow, wide]
    )

    issuer, two = authority("one"), authority("two")
    one_by_two, two_by_one = authority("one", two, key=issuer.key), authority("two", issuer, key=two.key)
    loop = [one_by_two, two_by_one]
    yield CertificateCase(
        "two that sign each other", "ca-mismatch", server(issuer), bundle(root), intermediates=loop
    )
    yield CertificateCase("cross-signed", "ok", server(issuer), bundle(two), intermediates=loop)
    yield CertificateCase(
        "cross-signed, both trusted", "ok", server(issuer), bundle(two, issuer), intermediates=loop
    )


def _signatures() -> Iterator[CertificateCase]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    rsa_root = authority("kubernetes", key=rsa_key)
    leaf = server(rsa_root)
    yield CertificateCase("RSA", "ok", leaf, bundle(rsa_root))
    yield CertificateCase("RSA, SHA-1", "ca-mismatch", with_sha1(leaf, rsa_key), bundle(rsa_root))
    pinned = with_sha1(leaf, rsa_key)
    yield CertificateCase("RSA, SHA-1, pinned", "ok", pinned, bundle(pinned))
    yield CertificateCase("root signed with SHA-1", "ok", leaf, bundle(with_sha1(rsa_root, rsa_key)))
    yield CertificateCase("RSA-PSS", "ok", server(rsa_root, pss=True), bundle(rsa_root))
    wrong = authority("kubernetes", key=rsa.generate_private_key(65537, 2048))
    yield CertificateCase("RSA, wrong key", "ca-mismatch", leaf, bundle(wrong))
    yield CertificateCase(
        "RSA leaf, ECDSA twin of its CA", "ca-mismatch", leaf, bundle(authority("kubernetes"))
    )
    yield CertificateCase(
        "ECDSA leaf, RSA twin of its CA",
        "ca-mismatch",
        server(authority("kubernetes")),
        bundle(rsa_root),
    )
    for curve in (ec.SECP224R1(), ec.SECP384R1(), ec.SECP521R1()):
        root = authority("kubernetes", key=ec.generate_private_key(curve))
        yield CertificateCase(f"ECDSA {curve.name}", "ok", server(root), bundle(root))
    foreign = authority("kubernetes", key=ec.generate_private_key(ec.SECP256K1()))
    yield CertificateCase("curve that Go does not know", "bundle-broken", server(foreign), bundle(foreign))
    edwards = authority("kubernetes", key=ed25519.Ed25519PrivateKey.generate())
    yield CertificateCase(
        "Ed25519", "ok", server(edwards, key=ed25519.Ed25519PrivateKey.generate()), bundle(edwards)
    )
    twin = authority("kubernetes", key=ed25519.Ed25519PrivateKey.generate())
    yield CertificateCase("Ed25519, wrong key", "ca-mismatch", server(edwards), bundle(twin))
    goldilocks = authority("kubernetes", key=ed448.Ed448PrivateKey.generate())
    yield CertificateCase("key that Go does not know", "ca-mismatch", server(goldilocks), bundle(goldilocks))
    odd_leaf = server(twin, key=goldilocks.key)
    yield CertificateCase("leaf key that Go does not know", "unsupported-key", odd_leaf, bundle(twin))
    yield CertificateCase("ECDSA, SHA-224", "ca-mismatch", server(root, digest=hashes.SHA224()), bundle(root))
    pairs = {
        "RSA of 768 bits": (fixed.SMALL_LEAF, fixed.SMALL_ROOT),
        "RSA-PSS, SHA-1": (fixed.PSS_SHA1_LEAF, fixed.PSS_SHA1_ROOT),
    }
    for title, (text, anchor) in pairs.items():
        leaf = Issued(x509.load_pem_x509_certificate(text.encode()), None)
        yield CertificateCase(title, "ca-mismatch", leaf, anchor, now=NOW + 1000 * DAY)
    nameless = authority(x509.Name([]))
    yield CertificateCase(
        "authority without a name", "ca-mismatch", server(authority(x509.Name([]))), bundle(nameless)
    )
    quoting = authority('the "best" \\ CA')
    yield CertificateCase(
        "authority with quotes", "ca-mismatch", server(authority('the "best" \\ CA')), bundle(quoting)
    )
    old = authority("kubernetes", extensions=[(x509.SubjectKeyIdentifier(b"1"), True)])
    yield CertificateCase("critical subjectKeyIdentifier", "bundle-broken", server(old), bundle(old))


def _constraints() -> Iterator[CertificateCase]:
    mail, uri = (
        [x509.RFC822Name("ops@shop.svc")],
        [x509.UniformResourceIdentifier("https://hook.shop.svc:8443/x")],
    )
    directory = [x509.DirectoryName(name("hook"))]
    bare_uri = [x509.UniformResourceIdentifier("spiffe:hook")]
    address_uri = [x509.UniformResourceIdentifier("https://10.0.0.1/x")]
    table = [
        ("permitted", dns("shop.svc"), None, NAMES[2:], "ok"),
        ("one of the names not permitted", dns("shop.svc"), None, NAMES, "name-constraint"),
        ("permitted, the name itself", dns(NAME), None, NAMES[2:], "ok"),
        ("permitted, upper case", dns("SHOP.svc"), None, NAMES[2:], "ok"),
        ("permitted with a dot", dns(".shop.svc"), None, NAMES[2:], "ok"),
        ("permitted with a dot, the domain itself", dns(".hook.shop.svc"), None, NAMES[2:], "name-constraint"),
        ("permitted, half a label", dns("op.svc"), None, NAMES[2:], "name-constraint"),
        ("permitted, everything", dns(""), None, NAMES, "ok"),
        ("excluded", None, dns("svc"), NAMES, "name-constraint"),
        ("excluded, another domain", None, dns("example.com"), NAMES, "ok"),
        ("excluded, everything", None, dns(""), NAMES, "name-constraint"),
        ("permitted and excluded", dns("svc"), dns("shop.svc"), NAMES[2:], "name-constraint"),
        ("wildcard over an excluded name", None, dns("other.shop.svc"), dns(NAME, "*.shop.svc"), "name-constraint"),
        ("wildcard under a permitted domain", dns("svc"), None, dns(NAME, "*.shop.svc"), "ok"),
        ("wildcard over a permitted name", dns(NAME), None, dns(NAME, "*.shop.svc"), "name-constraint"),
        ("address permitted", networks("10.0.0.0/8"), None, [*NAMES, *addresses("10.9.9.9")], "ok"),
        ("address not permitted", networks("10.0.0.0/8"), None, [*NAMES, *addresses("11.9.9.9")], "name-constraint"),
        ("address of the other family", networks("fd00::/8"), None, [*NAMES, *addresses("11.9.9.9")], "name-constraint"),
        ("address excluded", None, networks("10.9.0.0/16"), [*NAMES, *addresses("10.9.9.9")], "name-constraint"),
        ("e-mail permitted", [x509.RFC822Name("shop.svc")], None, [*NAMES, *mail], "ok"),
        ("e-mail, one mailbox", [x509.RFC822Name("ops@shop.svc")], None, [*NAMES, *mail], "ok"),
        ("e-mail, another mailbox", [x509.RFC822Name("dev@shop.svc")], None, [*NAMES, *mail], "name-constraint"),
        ("URI permitted", [x509.UniformResourceIdentifier("shop.svc")], None, [*NAMES, *uri], "ok"),
        ("URI excluded", None, [x509.UniformResourceIdentifier("shop.svc")], [*NAMES, *uri], "name-constraint"),
        ("URI without a host", dns("svc"), None, [*dns(NAME), *bare_uri], "name-constraint"),
        ("URI of an address", dns("svc"), None, [*dns(NAME), *address_uri], "name-constraint"),
        ("name that no constraint can judge", dns("svc"), None, dns(NAME, "hook.svc."), "name-constraint"),
        ("directory names", directory, None, NAMES, "critical-extension"),
        ("constraint that does not parse", dns("a..b"), None, NAMES, "bundle-broken"),
    ]  # fmt: skip
    for title, permitted, excluded, names, code in table:
        root = authority("kubernetes", extensions=[(x509.NameConstraints(permitted, excluded), True)])
        yield CertificateCase(f"constraint: {title}", code, server(root, names=names), bundle(root))
    limits = x509.NameConstraints(dns("shop.svc"), None)
    root = authority("root")
    middle = authority("middle", root, extensions=[(limits, True)])
    good, bad = server(middle, names=dns(NAME)), server(middle, names=dns("hook.other.svc", NAME))
    yield CertificateCase(
        "constraint of an intermediate, kept", "ok", good, bundle(root), intermediates=[middle]
    )
    yield CertificateCase(
        "constraint of an intermediate, broken", "name-constraint", bad, bundle(root), intermediates=[middle]
    )
    strict = authority("strict", extensions=[(limits, True)])
    named = authority("named", strict, names=dns("other.svc"))
    leaf = server(named, names=dns(NAME))
    yield CertificateCase(
        "name of an intermediate not permitted",
        "name-constraint",
        leaf,
        bundle(strict),
        intermediates=[named],
    )
    itself = authority("strict", names=dns("other.svc"), extensions=[(limits, True)])
    yield CertificateCase("an authority's own name", "ok", server(itself, names=dns(NAME)), bundle(itself))
    loose = authority("kubernetes", extensions=[(x509.NameConstraints(directory, None), False)])
    yield CertificateCase("directory names, not critical", "ok", server(loose), bundle(loose))
    narrow = authority("middle", root, key=middle.key, usages=[CLIENT_AUTH])
    both = [middle, narrow]
    yield CertificateCase(
        "a constraint outranks a usage", "name-constraint", bad, bundle(root), intermediates=both
    )


def _bounds() -> Iterator[CertificateCase]:
    crowd = [authority("kubernetes") for _ in range(200)]
    for position, code in ((0, "ok"), (99, "ok"), (100, "too-many-cas"), (199, "too-many-cas")):
        leaf = server(crowd[position])
        yield CertificateCase(f"CA {position} of 200 of one subject", code, leaf, bundle(*crowd))
    keyed = [
        authority(
            "kubernetes", key=member.key, extensions=[(x509.SubjectKeyIdentifier(bytes([number])), False)]
        )
        for number, member in enumerate(crowd)
    ]
    pointer = x509.AuthorityKeyIdentifier(bytes([199]), None, None)
    leaf = server(keyed[199], extensions=[(pointer, False)])
    yield CertificateCase("CA 199 of 200, found by its key identifier", "ok", leaf, bundle(*keyed))
    unknown = [*keyed[:150], authority("kubernetes", key=crowd[199].key)]
    leaf = server(unknown[-1], extensions=[(pointer, False)])
    yield CertificateCase(
        "a CA without key identifier goes before those of another", "ok", leaf, bundle(*unknown)
    )
    few = [authority("mesh") for _ in range(12)]
    mesh = [authority("mesh", other, key=member.key) for member in few for other in few]
    leaf = server(mesh[0])
    yield CertificateCase(
        "a mesh of twelve", "too-many-cas", leaf, bundle(authority("mesh")), intermediates=mesh
    )


@functools.lru_cache(maxsize=1)
def all_rows() -> tuple[CertificateCase, ...]:
    return tuple(rows())


def random_policy_cases(count: int, seed: int) -> list[CertificateCase]:
    """Return chains of one root, up to four intermediates and a leaf, with random policies and limits. A CA may issue itself again."""
    draw = random.Random(seed)
    root, keys = authority("root", extensions=_random_policies(draw)), [new_key() for _ in range(3)]
    drawn: list[CertificateCase] = []
    for number in range(count):
        sent: list[Issued] = []
        for key in draw.sample([*keys, *keys[:1]], draw.randint(1, 4)):
            issuer = sent[-1] if sent else root
            subject = f"ca-{number}-{'self' if draw.random() < 0.4 else len(sent)}"
            sent.append(authority(subject, issuer, key=key, extensions=_random_policies(draw)))
        leaf = server(sent[-1], extensions=_random_policies(draw))
        drawn.append(CertificateCase(f"policies {number}", "", leaf, bundle(root), intermediates=sent))
    return drawn


def _random_policies(draw: random.Random) -> list[tuple[x509.ExtensionType, bool]]:
    oids = draw.choice(
        [[], ["1.2.3"], ["2.5.29.32.0"], ["2.5.29.32.0"], ["1.2.3", "1.2.4"], ["2.5.29.32.0", "1.2.4"]]
    )
    informations = [x509.PolicyInformation(ObjectIdentifier(oid), None) for oid in oids]
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if informations:
        extensions.append((x509.CertificatePolicies(informations), False))
    # The library makes no negative number, and Go ignores one.
    for oid, begin in (("2.5.29.36", b"\x30\x03\x80\x01"), ("2.5.29.54", b"\x02\x01")):
        if draw.random() < 0.4:
            number = bytes([draw.choice([0, 0, 1, 2, 0xFF])])
            extensions.append((x509.UnrecognizedExtension(ObjectIdentifier(oid), begin + number), True))
    return extensions


def random_cases(count: int, seed: int) -> list[CertificateCase]:
    """Return random cases. Most parts are valid, so about every second case verifies."""
    draw = random.Random(seed)
    keys = [new_key() for _ in range(6)]
    return [_random_case(draw, keys, number) for number in range(count)]


def _random_case(draw: random.Random, keys: list[ec.EllipticCurvePrivateKey], number: int) -> CertificateCase:
    authorities = [_random_authority(draw, None, keys)]
    for _ in range(draw.randrange(5)):
        authorities.append(_random_authority(draw, draw.choice([None, *authorities]), keys))
    leaf = issue(
        "leaf",
        draw.choice(authorities),
        names=draw.choice([NAMES, NAMES, dns("*.shop.svc"), dns("hook"), [*NAMES, *addresses("10.1.2.3")]]),
        usages=draw.choice([[SERVER_AUTH], [SERVER_AUTH, CLIENT_AUTH], [], [ANY_USAGE], [CLIENT_AUTH]]),
        not_after=NOW + (20 if _seldom(draw) else 365) * DAY,
    )
    pinned = [leaf] if _seldom(draw) else []
    trusted = [*draw.sample(authorities, draw.randint(1, len(authorities))), *pinned]
    sent = draw.sample(authorities, draw.randint(0, len(authorities)))
    draw.shuffle(trusted)
    return CertificateCase(
        f"random {number}",
        "",
        leaf,
        bundle(*([BROKEN] if _seldom(draw) else []), *trusted),
        name=draw.choice([NAME, NAME, NAME, NAME.upper(), "10.1.2.3", None]),
        intermediates=sent,
        now=NOW + (30 * DAY if _seldom(draw) else 0 * DAY),
        usage=draw.choice(["server auth", "server auth", "client auth", "any"]),
    )


def _random_authority(
    draw: random.Random, issuer: Issued | None, keys: list[ec.EllipticCurvePrivateKey]
) -> Issued:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if draw.random() < 0.5:
        extensions.append((key_usage("crl_sign" if _seldom(draw) else "key_cert_sign"), True))
    if _seldom(draw):
        extensions.append(
            (x509.NameConstraints(dns(draw.choice(["shop.svc", "svc", "hook", "com"])), None), True)
        )
    if draw.random() < 0.5:
        extensions.append((x509.SubjectKeyIdentifier(bytes([draw.randrange(3)])), False))
    if draw.random() < 0.5:
        extensions.append((x509.AuthorityKeyIdentifier(bytes([draw.randrange(3)]), None, None), False))
    is_ca = not _seldom(draw)
    path_length = draw.choice([None, None, 0, 1, 2]) if is_ca else None
    extensions.append((x509.BasicConstraints(is_ca, path_length), True))
    return issue(
        draw.choice(["one", "two", "three"]),
        issuer,
        key=draw.choice(keys),
        usages=draw.choice([[], [], [SERVER_AUTH], [CLIENT_AUTH]]) if _seldom(draw) else [],
        not_after=NOW + (10 if _seldom(draw) else 900) * DAY,
        extensions=extensions,
    )


def _seldom(draw: random.Random) -> bool:
    return draw.random() < 0.15
