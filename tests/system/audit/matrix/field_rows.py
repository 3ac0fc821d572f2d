# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows as people make them: certificates of common tools, bundles from editors and scripts, and Services and rules beyond the defaults."""

from __future__ import annotations

import base64
import ssl
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ansible_collections.certflow.kubernetes.plugins.module_utils._csr.issuing.signers import (
    CertificateRequest,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509.encoding import pem_text
from cryptography import x509

from tests.support.certificates import csr_by_hand, der
from tests.support.certificates.authority import (
    ANY_USAGE,
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    authority,
    key_usage,
)
from tests.support.webhooks import called_objects, endpoint_slices
from tests.support.webhooks.https_webhook import WebhookServer, allow
from tests.support.webhooks.probe_rig import API_SERVICES
from tests.support.world.certificates import Leaf
from tests.support.world.servers import AnyBytes
from tests.system.audit.matrix.caller_rows import DEAD, DOWN, api, conversion
from tests.system.audit.matrix.certificate_rows import EXPIRED, MISMATCH, UNKNOWN
from tests.system.audit.matrix.reach_rows import REFUSED
from tests.system.audit.matrix.row import ACCEPTED, LEAF, Made, Pod, Row, Shape, chain, healthy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.webhooks.https_webhook import Reply
    from tests.system.audit.matrix.lab import Lab

BROKEN, WRONG_NAME, WRONG_USAGE = (
    f"{check}: error, proven, now" for check in ("bundle-broken", "name-mismatch", "wrong-usage")
)
NO_ROOTS, NO_CALLS = "unable to load root certificates", "service unavailable"
CODE_SIGNING, EMAIL = "1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.4"
_URL = [x509.UniformResourceIdentifier("http://ca.example.com/ca.crt")]
#: What openssl, cfssl, Vault and step-ca add to a certificate.
SIGNING = (key_usage("digital_signature", "key_encipherment"), True)
CONSTRAINED_LEAF = (x509.BasicConstraints(ca=False, path_length=None), True)
CA_LEAF = (x509.BasicConstraints(ca=True, path_length=0), True)
WITH_URLS = (
    (x509.AuthorityInformationAccess([x509.AccessDescription(x509.ObjectIdentifier("1.3.6.1.5.5.7.48.2"), _URL[0])]), False),
    (x509.CRLDistributionPoints([x509.DistributionPoint(_URL, None, None, None)]), False),
    (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)]), False),
)  # fmt: skip
STAPLED = (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
STEP_PROVISIONER = (
    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.37476.9000.64.1"), b"\x30\x00"),
    False,
)
STRANGE = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True)
NO_KEY_ID = (x509.AuthorityKeyIdentifier(b"another", None, None), False)
EXPIRED_CA = authority("expired", not_before=NOW - 300 * DAY, not_after=NOW - 200 * DAY).pem.encode()
SINCE_YEAR_0 = der.sequence(der.tlv(0x18, b"00000101000000Z"), der.tlv(0x18, b"20990101000000Z"))
UNSERVED_VERSION = {**called_objects.CONFIG_MAPS, "apiVersions": ["v2"]}
ENCIPHERS_ONLY = (key_usage("key_encipherment"), True)


def _crlf(bundle: bytes) -> bytes:
    return bundle.replace(b"\n", b"\r\n")


def _indented(bundle: bytes) -> bytes:
    return b"".join(b"  " + line for line in bundle.splitlines(keepends=True))


def _dumped(bundle: bytes) -> bytes:
    """Return the bundle as `openssl x509 -text` and `openssl pkcs12` print it."""
    return (
        b"Bag Attributes\n    friendlyName: ca\nsubject=CN = root\n\nCertificate:\n    Data:\n        Version: 3 (0x2)\n"
        + bundle
    )


def _before(text: bytes) -> Callable[[bytes], bytes]:
    return lambda bundle: text + bundle


def _after(text: bytes) -> Callable[[bytes], bytes]:
    return lambda bundle: bundle + text


def _label(text: bytes) -> Callable[[bytes], bytes]:
    return lambda bundle: bundle.replace(b"CERTIFICATE", text)


def _unrelated(bundle: bytes) -> bytes:
    """Return the bundle after forty public roots."""
    return "".join(authority(f"public root {number}").pem for number in range(40)).encode() + bundle


def _ciphers(text: str) -> Callable[[ssl.SSLContext], None]:
    def limit(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{text}:@SECLEVEL=0")

    return limit


def _names(*names: str) -> Shape:
    return Shape(chain("root", names=names))


def _rule(**fields: Any) -> dict[str, Any]:
    defaults = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    return {"rules": [{**defaults, **fields}]}


TOOLS = (
    healthy("openssl: a certificate that signs itself, with CA:TRUE", Shape(chain("root", self_signed=True, extensions=(CA_LEAF,)), LEAF)),
    healthy("openssl: a certificate that signs itself, with CA:FALSE", Shape(chain("root", self_signed=True, extensions=(CONSTRAINED_LEAF,)), LEAF)),
    healthy("mkcert: no common name, and an RSA key of an RSA CA", Shape(chain("rsa-root", subject="", key="rsa", extensions=(SIGNING,)), ("rsa-root",))),
    healthy("cfssl: for servers and clients, with key usages", Shape(chain("root", usages=(SERVER_AUTH, CLIENT_AUTH), extensions=(SIGNING, CONSTRAINED_LEAF)))),
    healthy("Vault: an intermediate CA and the root CA are sent, with URLs", Shape(chain("middle", "root", sends_issuer=True, life=(-1, 2), extensions=WITH_URLS))),
    healthy("step-ca: a day, with the extension of the provisioner", Shape(chain("below-long", sends_issuer=True, life=(-0.3, 0.7), extensions=(SIGNING, STEP_PROVISIONER)), ("long-enough",))),
    healthy("keytool: a key of P-384 of a CA of P-256", Shape(chain("root", key="p384", extensions=(NO_KEY_ID,)))),
    healthy("certgen: a hundred years, and an ECDSA key", Shape(chain("century", life=(-1, 36000)), ("century",))),
    healthy("a certificate that must be stapled", Shape(chain("root", extensions=(STAPLED,)))),
    healthy("the key identifier of the issuer is another one", Shape(chain("root", extensions=(NO_KEY_ID,)))),
    healthy("the certificate is a CA itself", Shape(chain("root", extensions=(CA_LEAF,)))),
    healthy("an RSA key only for key encipherment", Shape(chain("rsa-root", key="rsa", extensions=(ENCIPHERS_ONLY,)), ("rsa-root",))),
    healthy("an ECDSA key only for key encipherment, with TLS 1.3", Shape(chain("root", extensions=(ENCIPHERS_ONLY,)))),
    healthy("a certificate of an hour", Shape(chain("root", life=(-0.01, 0.03)))),
    healthy("a certificate until the year 9999", Shape(chain("rsa-root", key="rsa", life=(-1, 2_900_000)), ("rsa-root",))),
    healthy("usages of servers and of code", Shape(chain("root", usages=(CODE_SIGNING, SERVER_AUTH)))),
    healthy("any usage beside client auth", Shape(chain("root", usages=(CLIENT_AUTH, ANY_USAGE)))),
    healthy("a subject of a node, as kubelet signers have it", Shape(chain("root", subject="system:node:hook"))),
    healthy("four certificates of one name are sent", Shape(chain("root", "same-name", "root", "cross", sends_issuer=True))),
    healthy("unrelated CAs are sent before the intermediate CA", Shape(chain("middle", "other", "rsa-root", "middle"))),
    healthy("both cross-signed CAs are sent, the expired one first", Shape(chain("root", "old-cross", "long-cross", sends_issuer=True), ("other",))),
)  # fmt: skip

BUNDLES = (
    healthy("the bundle has CRLF", Shape(rewrite=_crlf), is_daily=True),
    healthy("the bundle is printed by openssl, with text", Shape(rewrite=_dumped)),
    healthy("the bundle has comments and blank lines", Shape(rewrite=_before(b"# the CA of the shop\n\n\n"))),
    healthy("the bundle has no end of the last line", Shape(rewrite=bytes.rstrip)),
    healthy("the bundle has the CA five times", Shape(bundle=("root",) * 5)),
    healthy("the bundle has forty public roots before the CA", Shape(rewrite=_unrelated)),
    healthy("the bundle has an expired CA of an unrelated name", Shape(rewrite=_after(EXPIRED_CA))),
    healthy("the bundle has the CA and an intermediate CA", Shape(chain("middle"), ("root", "middle"))),
    healthy("the bundle has an expired intermediate CA, and the pod sends its successor", Shape(chain("middle", sends_issuer=True), ("old-middle", "root"))),
    healthy("the bundle has a broken block before the CA", Shape(rewrite=_before(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))),
    healthy("the bundle has a request after the CA", Shape(rewrite=_after(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))),
    healthy("the bundle has trailing text", Shape(rewrite=_after(b"EOF\n"))),
    healthy("the bundle has a blank after each line", Shape(rewrite=lambda bundle: bundle.replace(b"\n", b" \n"))),
    healthy("the bundle is one line of base64 in each block",
        Shape(rewrite=lambda bundle: b"-----BEGIN CERTIFICATE-----\n" + b"".join(bundle.split(b"\n")[1:-2]) + b"\n-----END CERTIFICATE-----\n")),
    healthy("a byte order mark before a CA that is not needed", Shape(bundle=("other", "root"), rewrite=_before(b"\xef\xbb\xbf"))),
    Row("the bundle is base64 twice", NO_ROOTS, BROKEN, Shape(rewrite=base64.b64encode)),
    Row("the bundle is a request", NO_ROOTS, BROKEN, Shape(rewrite=_label(b"CERTIFICATE REQUEST"))),
    Row("the bundle has the label of openssl's trusted certificates", NO_ROOTS, BROKEN, Shape(rewrite=_label(b"TRUSTED CERTIFICATE"))),
    Row("the bundle is DER", NO_ROOTS, BROKEN, Shape(rewrite=lambda bundle: ssl.PEM_cert_to_DER_cert(bundle.decode()))),
    Row("the bundle is cut off", NO_ROOTS, BROKEN, Shape(rewrite=lambda bundle: bundle[:-60])),
    Row("the bundle has \\n in place of line ends", NO_ROOTS, BROKEN, Shape(rewrite=lambda bundle: bundle.replace(b"\n", b"\\n"))),
    Row("the bundle is indented", NO_ROOTS, BROKEN, Shape(rewrite=_indented)),
    Row("a byte order mark before the only CA", NO_ROOTS, BROKEN, Shape(rewrite=_before(b"\xef\xbb\xbf"))),
    Row("the bundle is one blank", NO_ROOTS, BROKEN, Shape(bundle=b" ")),
    Row("the bundle is the word null", NO_ROOTS, BROKEN, Shape(bundle=b"null")),
    Row("the bundle has the previous certificate that signed itself", UNKNOWN, MISMATCH, Shape(chain("root", self_signed=True), ("other",))),
    Row("a certificate that signs itself, and the bundle has the company's CA", UNKNOWN, MISMATCH, Shape(chain("root", self_signed=True))),
    Row("the bundle has the root CA before its renewal with the same key", EXPIRED, "ca-expired: error, proven, 40 days ago", Shape(chain("renewed-root"), ("old-root",))),
    Row("a byte order mark before the CA that is needed", UNKNOWN, MISMATCH, Shape(bundle=("root", "other"), rewrite=_before(b"\xef\xbb\xbf"))),
    Row("the intermediate CA of another root is sent", UNKNOWN, MISMATCH, Shape(chain("middle", "below-long"))),
)  # fmt: skip

NAMES = (
    healthy("a wildcard among other names", _names("localhost", "*.{namespace}.svc", "example.com")),
    healthy("two hundred names", _names(*(f"n{number}.example.com" for number in range(199)), "{}")),
    healthy("addresses beside the name", _names("127.0.0.1", "10.96.0.1", "::1", "{}")),
    healthy("an international name beside the name", _names("xn--mnchen-3ya.example.com", "{}")),
    healthy("the name with a final dot beside the name", _names("{}.", "{}")),
    healthy("a name with an underscore beside the name", _names("_a.example_com", "{}")),
    healthy("the name twice", _names("{}", "{}")),
    healthy("a URL by an address among several", Shape((Pod(Leaf(names=("10.1.2.3", "127.0.0.1"))),), url="127.0.0.1")),
    Row("only the name of the Service", "certificate is valid for", WRONG_NAME, _names("{service}")),
    Row("only the name of the Service and its namespace", "certificate is valid for", WRONG_NAME, _names("{service}.{namespace}")),
    Row("a wildcard for all namespaces", "certificate is valid for", WRONG_NAME, _names("*.svc")),
    Row("two wildcards", "certificate is", WRONG_NAME, _names("*.*.svc")),
    Row("a wildcard of a part of a label", "certificate is", WRONG_NAME, _names("a*.{namespace}.svc")),
    Row("the name with a final dot", "certificate is", WRONG_NAME, _names("{}.")),
    Row("the Service of another namespace", "certificate is valid for", WRONG_NAME, _names("{service}.default.svc")),
    Row("only addresses", "certificate is not valid for any names", WRONG_NAME, _names("127.0.0.1", "10.96.0.1")),
    Row("a URL of localhost, and only its address", "certificate is not valid for any names", WRONG_NAME, Shape((Pod(Leaf(names=("127.0.0.1",))),), url="localhost")),
    Row("a URL of an address, and only its name", "cannot validate certificate for 127.0.0.1", WRONG_NAME, Shape((Pod(Leaf(names=("localhost",))),), url="127.0.0.1")),
)  # fmt: skip

USAGES = (
    Row("only for code", "incompatible key usage", WRONG_USAGE, Shape(chain("root", usages=(CODE_SIGNING,)))),
    Row("only for mail", "incompatible key usage", WRONG_USAGE, Shape(chain("root", usages=(EMAIL,)))),
    Row("for clients and for mail", "incompatible key usage", WRONG_USAGE, Shape(chain("root", usages=(CLIENT_AUTH, EMAIL)))),
    Row("the root CA is only for client auth", "incompatible key usage", WRONG_USAGE, Shape(chain("client-ca"), ("client-ca",))),
    Row("an unknown critical extension of the certificate", "unhandled critical extension", "critical-extension: error, proven, now", Shape(chain("root", extensions=(STRANGE,)))),
    Row("an unknown critical extension of the root CA", "unhandled critical extension", "critical-extension: error, proven, now", Shape(chain("strange"), ("strange",))),
    Row("the certificate expired an hour ago", EXPIRED, "expired: error, proven, 0.1 days ago", Shape(chain("root", life=(-30, -0.05)))),
    Row("the certificate begins in an hour", EXPIRED, "not-yet-valid: error, proven, now", Shape(chain("root", life=(0.05, 30)))),
    Row("an expired certificate of another CA", EXPIRED, "ca-mismatch: error, proven, now; expired: error, proven, 2 days ago", Shape(chain("other", life=(-30, -2)))),
    Row("an expired certificate for another name", EXPIRED, "expired: error, proven, 2 days ago; name-mismatch: error, proven, now", Shape(chain("root", life=(-30, -2), names=("a.example.com",)))),
)  # fmt: skip


def _twin_ports(lab: Lab, name: str) -> Made:
    """Make a Service with UDP before TCP at one port, as servers of HTTP/3 have."""
    return lab.admission(name, Shape((Pod(port_name="https"),), service={"ports": [
        {"name": "http3", "port": 0, "protocol": "UDP"}, {"name": "https", "port": 0, "protocol": "TCP"}]}))  # fmt: skip


def _other_family(lab: Lab, name: str, *, leaf: Leaf | None) -> Made:
    """Make a Service of IPv4 with an EndpointSlice of IPv6, which nothing routes to. leaf: of the pod of IPv4, None for no such pod."""
    made = lab.admission(name, Shape((Pod(leaf),) if leaf else ()))
    endpoint = endpoint_slices.endpoint("2001:db8::1", pod=(lab.name, f"{name}-0"), nodeName="node-a")
    slice_ = endpoint_slices.endpoint_slice(name, endpoint, port=1, name=f"{name}-six")
    lab.make(endpoint_slices.path(lab.name), {**slice_, "addressType": "IPv6"})
    return made


def by_go(
    lab: Lab,
    name: str,
    *,
    leaf: Leaf,
    key_of: Leaf | None = None,
    extra: bytes = b"",
    has_service: bool = False,
    has_api: bool = False,
    **settings: Any,
) -> Made:
    """Make a webhook whose TLS server is one in Go with these settings.

    key_of: the leaf whose key the server has, None for its own. extra: octets after the last certificate. has_service: True for a
    webhook that calls a Service, False for one with a URL. has_api: True for an aggregated API that calls the same Service.
    """
    backend = WebhookServer(allow).serve()
    server_name = f"{name}.{lab.name}.svc" if has_service else "127.0.0.1"
    sent = lab.certificates.sent(leaf, server_name)
    signer = lab.certificates.sent(key_of, server_name) if key_of else sent
    certificates = [pem_text.der(block) for block in pem_text.blocks(sent.certificate_pem.decode())]
    certificates[-1] += extra
    key = pem_text.der(pem_text.blocks(signer.key_pem.decode())[0])
    server = AnyBytes(certificates, key, backend.port, **settings)
    lab.closers.extend((server.close, backend.close))
    config: dict[str, Any] = {"url": f"https://127.0.0.1:{server.port}/"}
    if has_service:
        spec = {"type": "ExternalName", "externalName": "localhost"}
        lab.make(f"/api/v1/namespaces/{lab.name}/services", {"metadata": {"name": name}, "spec": spec})
        config = {"service": {"namespace": lab.name, "name": name, "port": server.port}}
    bundle = base64.b64encode(lab.certificates.bundle(("root",))).decode()
    full = lab.configure(name, Shape(), {**config, "caBundle": bundle})
    if has_api:
        group = f"{name}.{lab.id}.certflow.test"
        lab.make(API_SERVICES, called_objects.api_service(group, {**config, "caBundle": bundle}))
    return Made((full,), lambda: lab.ask(name))


def _failing_condition(lab: Lab, name: str) -> Made:
    """Make a webhook with a condition that fails for each request."""
    condition = {"name": "broken", "expression": "object.data.missing == 'x'"}
    return _called_on(lab, name, lab.admission(name, Shape(webhook={"matchConditions": [condition]})))


def _useless_patch(lab: Lab, name: str) -> Made:
    """Make a webhook with failurePolicy Ignore whose patch removes a field that the object does not have."""
    patch = base64.b64encode(b'[{"op": "remove", "path": "/data"}]').decode()

    def answer(review: dict[str, Any]) -> Reply:
        status, reply = allow(review)
        cast("Any", reply)["response"].update(patchType="JSONPatch", patch=patch)
        return status, reply

    shape = Shape(is_mutating=True, webhook={"failurePolicy": "Ignore"})
    full = lab.configure(name, shape, lab.client_config(name, shape, answer))
    return _called_on(lab, name, Made((full,), lambda: lab.ask(name)))


def _ending(lab: Lab, name: str) -> Made:
    """Make a webhook whose only pod terminates, and serves until then."""
    made = lab.admission(name, Shape((Pod(is_ready=False),)))
    path = f"{endpoint_slices.path(lab.name)}/{name}-0"
    slice_ = lab.cluster.api("GET", path)
    slice_["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    lab.cluster.api("PUT", path, slice_)
    return made


def _called_on(lab: Lab, name: str, made: Made) -> Made:
    """Send requests until the end, because the audit counts failures."""
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.wait(0.1):
            lab.ask(name)

    thread = threading.Thread(target=go_on)
    thread.start()
    lab.closers.extend((is_over.set, thread.join))
    return made


def _failed_request(lab: Lab, name: str) -> Made:
    """Make a CSR that was approved, and that its signer failed."""
    created = csr_by_hand.create(
        lab.cluster,
        "certflow.test/signer",
        CertificateRequest(common_name="a", usages=("digital signature",)),
    )
    lab.made.append(f"{csr_by_hand.CSRS}/{created['metadata']['name']}")
    csr_by_hand.decide(lab.cluster, created, "Approved")
    path = f"{csr_by_hand.CSRS}/{created['metadata']['name']}/status"
    approved = lab.cluster.api("GET", path)
    failed = {"type": "Failed", "status": "True", "reason": "SignerSays", "message": "no such name"}
    approved["status"]["conditions"].append(failed)
    lab.cluster.api("PUT", path, approved)
    return Made((created["metadata"]["name"],), lambda: "failed")


IP_NAME = ("127.0.0.1",)
SERVICES = (
    healthy("a Service without a selector", Shape(service={"selector": {}})),
    healthy("a Service of two families of addresses", Shape(service={"ipFamilyPolicy": "PreferDualStack"})),
    healthy("a Service with internalTrafficPolicy Local", Shape(service={"internalTrafficPolicy": "Local"})),
    healthy("a Service with UDP before TCP at one port", _twin_ports, is_daily=True),
    healthy("an EndpointSlice of IPv6 beside that of IPv4", partial(_other_family, leaf=Leaf())),
    healthy("a pod that is not ready speaks plain HTTP", Shape((Pod(), Pod(leaf=None, is_ready=False)))),
    healthy("a pod that is not ready does not listen", Shape((Pod(), Pod(is_ready=False, listens=False)))),
    healthy("matchPolicy Exact, and the version that is used", Shape(webhook={"matchPolicy": "Exact", **_rule()})),
    healthy("the scope Namespaced", Shape(webhook=_rule(scope="Namespaced"))),
    healthy("all operations", Shape(webhook=_rule(operations=["*"]))),
    healthy("several groups, and one that is not served", Shape(webhook=_rule(apiGroups=["", "gone.certflow.test"]))),
    healthy("timeoutSeconds 30", Shape(webhook={"timeoutSeconds": 30})),
    healthy("sideEffects NoneOnDryRun", Shape(webhook={"sideEffects": "NoneOnDryRun"})),
    healthy("reviews of v1beta1 and v1", Shape(webhook={"admissionReviewVersions": ["v1beta1", "v1"]})),
    healthy("a mutating webhook that is not called again", Shape(is_mutating=True, webhook={"reinvocationPolicy": "Never"})),
    healthy("a condition that is true", Shape(webhook={"matchConditions": [{"name": "all", "expression": "true"}]})),
    healthy("a condition about the user", Shape(webhook={"matchConditions": [{"name": "users", "expression": "request.userInfo.username != 'a-user'"}]})),
    # Twenty handshakes in one second need an idle machine.
    healthy(
        "twenty webhooks of one configuration",
        Shape(webhook={"timeoutSeconds": 10}, others=tuple({"name": f"w{number}.certflow.test"} for number in range(19))),
    ),
    healthy("a certificate that is valid since the year 0", Shape(chain("root", octets={"validity": SINCE_YEAR_0}))),
    healthy("another CA, and a version of ConfigMaps that is not served", Shape(chain("other"), webhook={"rules": [UNSERVED_VERSION]})),
    healthy("ciphers of TLS 1.2 with ChaCha20", Shape((Pod(tls=_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")),))),
    healthy("ciphers of TLS 1.2 with CBC and SHA-1", Shape((Pod(tls=_ciphers("ECDHE-ECDSA-AES256-SHA")),))),
    Row("only an EndpointSlice of IPv6 behind a Service of IPv4", REFUSED, "no-endpoints: error, proven, now", partial(_other_family, leaf=None)),
    Row("an EndpointSlice of IPv6, and a pod of IPv4 of another CA", UNKNOWN, MISMATCH, partial(_other_family, leaf=Leaf(("other",)))),
    Row("ciphers of TLS 1.2 without forward secrecy", "handshake failure", "unknown: endpoints",
        Shape((Pod(Leaf(("rsa-root",), key="rsa"), tls=_ciphers("AES128-GCM-SHA256")),), ("rsa-root",))),
    Row("a mutating webhook of another CA", UNKNOWN, MISMATCH, Shape(chain("other"), is_mutating=True)),
    Row("five webhooks of one configuration, all of another CA", UNKNOWN, MISMATCH, Shape(chain("other"), others=tuple({"name": f"w{number}.certflow.test"} for number in range(4)))),
    Row("a pod of three is for another name", "certificate is valid for", f"endpoints-differ: warning, proven; {WRONG_NAME}", Shape((Pod(), Pod(Leaf(names=("a.example.com",))), Pod()))),
    Row("one of two pods speaks plain HTTP", "first record does not look like a TLS handshake", "not-tls: error, likely, now", Shape((Pod(leaf=None), Pod()))),
    Row("a condition that cannot be evaluated at run time", "no such key", "calls-fail: error, proven, now", _failing_condition, True),
    Row("failurePolicy Ignore, and a patch that does not apply", "error in remove for path", "calls-fail: error, proven, now", _useless_patch),
    Row("the only pod terminates, and still serves", ACCEPTED, "no-endpoints: warning, likely", _ending),
    Row("a URL with the address 127.1, which other programs read", "no such host", "unknown: endpoints",
        Shape((Pod(Leaf(names=("localhost",))),), url="127.1")),
    Row("failurePolicy Ignore, and another CA", ACCEPTED, MISMATCH, Shape(chain("other"), webhook={"failurePolicy": "Ignore"})),
    Row("failurePolicy Ignore, and no Service", ACCEPTED, "service-missing: error, proven, now", Shape(calls="nosuch", webhook={"failurePolicy": "Ignore"})),
    Row("a signer failed an approved request", "failed", "request-stuck: warning, proven, now", _failed_request),
    Row("only the key exchange X25519MLKEM768", ACCEPTED, "unknown: endpoints", partial(by_go, leaf=Leaf(names=IP_NAME), groups=(4588,))),
    Row("an ECDSA key of P-224, with TLS 1.2", ACCEPTED, "unknown: endpoints", partial(by_go, leaf=Leaf(names=IP_NAME, key="p224"), is_tls12=True)),
    Row("certificates of 150 KB", ACCEPTED, "unknown: endpoints", partial(by_go, leaf=Leaf(("root", *["other"] * 400), names=IP_NAME))),
    Row("certificates of 300 KB", "exceeds maximum of 262144 bytes", "unknown: endpoints", partial(by_go, leaf=Leaf(("root", *["other"] * 900), names=IP_NAME))),
)  # fmt: skip

CALLERS = (
    healthy("a conversion of three versions", conversion(versions=("v1", "v1beta1", "v1alpha1"))),
    healthy("a conversion without a Service, and another version that is neither served nor stored", conversion(calls="nosuch", versions=("v1",), unserved=("v1beta1",))),
    healthy("a conversion with CRLF in the bundle", conversion(rewrite=_crlf)),
    healthy("a conversion through an intermediate CA", conversion(Pod(Leaf(("middle",), sends_issuer=True)))),
    healthy("an aggregated API with two CAs in the bundle", api(bundle=("other", "root"))),
    healthy("an aggregated API through an intermediate CA", api(Pod(Leaf(("middle",), sends_issuer=True)))),
    healthy("an aggregated API with forty public roots in the bundle", api(rewrite=_unrelated)),
    Row("a conversion of three versions, and the certificate has expired", EXPIRED, "conversion-dead: error, proven, 1 days ago", conversion(Pod(Leaf(life=(-60, -1))), versions=("v1", "v1beta1", "v1alpha1"))),
    Row("a conversion whose certificate is for another name", "certificate is valid for", DEAD, conversion(Pod(Leaf(names=("a.example.com",))))),
    Row("a conversion whose pod speaks plain HTTP", "first record does not look like a TLS handshake", "conversion-dead: error, likely, now", conversion(Pod(leaf=None))),
    Row("a conversion without the intermediate CA", UNKNOWN, DEAD, conversion(Pod(Leaf(("middle",))))),
    Row("an aggregated API for another name", NO_CALLS, DOWN, api(Pod(Leaf(names=("a.example.com",))))),
    Row("an aggregated API whose pod does not listen", NO_CALLS, DOWN, api(Pod(listens=False))),
    Row("an aggregated API without the intermediate CA", NO_CALLS, DOWN, api(Pod(Leaf(("middle",))))),
    Row("an aggregated API whose certificate is not valid yet", NO_CALLS, DOWN, api(Pod(Leaf(life=(2, 30))))),
    Row("an aggregated API that is not verified, and without a Service", NO_CALLS, "apiservice-down: error, proven, now; apiservice-insecure: warning, proven", api(calls="nosuch", is_verified=False)),
    Row("an aggregated API whose bundle is of a year ago", NO_CALLS, DOWN, api(Pod(Leaf(("renewed-root",))), bundle=("old-root",))),
)  # fmt: skip
