# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows about rules of Go and of the API server that OpenSSL and other programs do not have."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from functools import partial

from cryptography import x509

from tests.support.certificates import der
from tests.support.certificates.authority import CLIENT_AUTH
from tests.support.world.certificates import Leaf
from tests.system.audit.matrix.certificate_rows import EXPIRED, MISMATCH, UNKNOWN
from tests.system.audit.matrix.field_rows import BROKEN, IP_NAME, NO_ROOTS, WRONG_NAME, WRONG_USAGE, by_go
from tests.system.audit.matrix.row import ACCEPTED, LEAF, Pod, Row, Shape, chain, healthy

HANDSHAKE = "handshake-fails: error, likely, now"
REFUSED, CONSTRAINED = "certificate-refused: error, proven, now", "name-constraint: error, proven, now"
WEAK = "weak-key: error, proven, now"
ANY_POLICY = (
    x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]),
    False,
)
_POLICY_3 = (
    x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]),
    False,
)
_URL = x509.UniformResourceIdentifier("http://ca.example.com/ca.crt")
_CRITICAL_URL = (
    x509.AuthorityInformationAccess(
        [x509.AccessDescription(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.2"), _URL)]
    ),
    True,
)
_HEADERS = b"CERTIFICATE-----\nComment: the CA of the shop\n\n"
_NOW = datetime.datetime.now(datetime.timezone.utc)


def _life(begin: str, end: str, tag: int = 0x17) -> Shape:
    """Return a certificate with these dates, octet by octet. tag: of the end, UTCTime by default."""
    return Shape(
        chain(
            "root",
            octets={"validity": der.sequence(der.tlv(0x17, begin.encode()), der.tlv(tag, end.encode()))},
        )
    )


def _time(days: float, layout: str = "%y%m%d%H%M%SZ") -> str:
    return f"{_NOW + datetime.timedelta(days=days):{layout}}"


def _with_headers(bundle: bytes) -> bytes:
    return bundle.replace(b"CERTIFICATE-----\n", _HEADERS, 1)


def _group(name: str) -> Callable[[ssl.SSLContext], None]:
    """Return the change to a server that exchanges keys only by this group."""
    return lambda context: context.set_ecdh_curve(name)


def _glued(bundle: bytes) -> bytes:
    """Return the bundle as `cat` makes it from files without a final line break."""
    return bundle.replace(b"-----END CERTIFICATE-----\n-----BEGIN", b"-----END CERTIFICATE----------BEGIN")


def _issuer(name: str, tag: int) -> Shape:
    return Shape(chain("root", octets={"issuer": der.subject(der.part(der.CN, name, tag))}))


RULES = (
    healthy("a URL whose server accepts only HTTP/2", partial(by_go, leaf=Leaf(names=IP_NAME), needed="h2")),
    Row("a Service whose server accepts only HTTP/2", "internal error", HANDSHAKE, partial(by_go, leaf=Leaf(), has_service=True, needed="h2"), True),
    healthy("a Service whose server refuses clients with HTTP/2", partial(by_go, leaf=Leaf(), has_service=True, refused="h2"), is_daily=True),
    healthy("a Service whose server refuses clients with HTTP/2, and an aggregated API calls it too",
            partial(by_go, leaf=Leaf(), has_service=True, has_api=True, refused="h2"), is_daily=True),
    Row("a URL whose server refuses clients with HTTP/2", "internal error", HANDSHAKE, partial(by_go, leaf=Leaf(names=IP_NAME), refused="h2")),
    Row("the server has the key of another certificate", "invalid signature by the server certificate", HANDSHAKE,
        partial(by_go, leaf=Leaf(names=IP_NAME), key_of=Leaf()), True),
    Row("an octet after the certificate", "x509: trailing data", REFUSED, partial(by_go, leaf=Leaf(names=IP_NAME), extra=b"\0")),
    Row("an octet after the intermediate CA", "x509: trailing data", REFUSED, partial(by_go, leaf=Leaf(("root", "middle"), names=IP_NAME), extra=b"\0")),
    Row("an RSA key with an exponent of 33 bits", "public exponent too large", WEAK, Shape(chain("root", key="rsa-exponent")), True),
    Row("an RSA key of 768 bits", "768-bit keys are insecure", WEAK, Shape(chain("root", key="rsa768"))),
    Row("a CA of 768 bits is sent, and not needed", ACCEPTED, "weak-key: warning, proven", Shape(chain("root", "small-rsa")), True),
    Row("the intermediate CA has a key of 768 bits", "768-bit keys are insecure", f"{MISMATCH}; {WEAK}", Shape(chain("small-rsa", sends_issuer=True))),
    Row("the CA inhibits any policy, which the certificate has", "chains with invalid policies", "policy-refused: error, proven, now",
        Shape(chain("exclusive", sends_issuer=True, extensions=(ANY_POLICY,))), True),
    healthy("the CA inhibits any policy, and the certificate has its policy", Shape(chain("exclusive", sends_issuer=True, extensions=(_POLICY_3,)))),
    healthy("the CA has any policy, and requires one", Shape(chain("any-policy", sends_issuer=True, extensions=(_POLICY_3,)))),
    Row("a critical URL of the CA", "incorrectly marked critical", REFUSED, Shape(chain("root", extensions=(_CRITICAL_URL,)))),
    Row("the CA in the bundle has headers", NO_ROOTS, BROKEN, Shape(rewrite=_with_headers), True),
    healthy("a CA with headers is before the CA", Shape(bundle=("other", "root"), rewrite=_with_headers)),
    Row("two CAs in the bundle without a line break between them", NO_ROOTS, BROKEN, Shape(bundle=("root", "other"), rewrite=_glued)),
    healthy("the certificate is in the bundle, and its CA has expired", Shape(chain("old-root"), LEAF)),
    Row("the certificate is in the bundle, and has expired", EXPIRED, "expired: error, proven, 1 days ago", Shape(chain("root", life=(-60, -1)), LEAF)),
    Row("the certificate is in the bundle, and is for clients", "incompatible key usage", WRONG_USAGE, Shape(chain("root", usages=(CLIENT_AUTH,)), LEAF)),
    Row("the certificate is in the bundle, and is for another name", "certificate is valid for", WRONG_NAME, Shape(chain("root", names=("a.example.com",)), LEAF)),
    Row("the certificate names its issuer in another encoding", UNKNOWN, MISMATCH, _issuer("root", der.PRINTABLE)),
    Row("the certificate names its issuer in capital letters", UNKNOWN, MISMATCH, _issuer("ROOT", der.UTF8)),
    healthy("the CA has no subject", Shape(chain("nameless"), ("nameless",))),
    healthy("the CA constrains only mail", Shape(chain("mail-only"), ("mail-only",))),
    Row("the CA excludes all names", "is excluded by constraint", CONSTRAINED, Shape(chain("no-names"), ("no-names",))),
    healthy("dates without seconds", _life(_time(-1, "%y%m%d%H%MZ"), _time(90, "%y%m%d%H%MZ"))),
    healthy("dates with an offset", _life(_time(-1, "%y%m%d%H%M%S+0100"), _time(90, "%y%m%d%H%M%S+0100"))),
    healthy("an end in this century as GeneralizedTime", _life(_time(-1), _time(90, "%Y%m%d%H%M%SZ"), 0x18)),
    Row("an end with fractions of a second", "malformed GeneralizedTime", REFUSED, _life(_time(-1), _time(90, "%Y%m%d%H%M%S.5Z"), 0x18)),
    Row("an end on 29 February 2027", "malformed UTCTime", REFUSED, _life(_time(-1), "270229000000Z")),
    healthy("a URL of an address, which the certificate has as one of IPv6", Shape((Pod(Leaf(names=("::ffff:127.0.0.1",))),), url="127.0.0.1")),
    healthy("only the group P-521", Shape((Pod(tls=_group("secp521r1")),))),
    Row("only the group X448, which the API server does not offer", "handshake failure", "unknown: endpoints", Shape((Pod(tls=_group("X448")),))),
    Row("a URL without a bundle, and the certificate signs itself", UNKNOWN, "bundle-empty: error, likely, now",
        Shape((Pod(Leaf(names=("localhost",), self_signed=True)),), None, url="localhost")),
    Row("a URL without a bundle, and the certificate is for clients", UNKNOWN, WRONG_USAGE,
        Shape((Pod(Leaf(names=("localhost",), usages=(CLIENT_AUTH,))),), None, url="localhost")),
)  # fmt: skip
