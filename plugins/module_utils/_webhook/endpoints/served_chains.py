# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Read the certificate chain that each endpoint of a webhook serves, by a TLS handshake.

The API server keeps connections open and does not verify them again. So a successful call does not show which certificate is
served now. A handshake does.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Protocol

from ..._kube import port_forward
from ..._kube.access_review import Permission
from ..._kube.client import Client
from ..._kube.errors import Forbidden, KubeError, TimedOut
from ..._kube.login import transport
from ..._kube.login.transport import LEAST_SECONDS, READ_BYTES, ReadLimits
from ..._kube.port_forward import PortForwardStream
from ..._x509 import certificate_facts
from ..._x509.certificate_facts import CertificateFacts
from ..._x509.chain.chain_judge import Judgement, judge
from ..._x509.chain.verify import verify
from ..._x509.errors import CertificateError
from ..bundles.bundle_targets import ClientConfig
from ..calls.call_faults import CA_MISMATCH, CERTIFICATE_REFUSED, HANDSHAKE_FAILS, NOT_TLS, REFUSED
from . import webhook_endpoints
from .webhook_endpoints import TERMINATING, Endpoint

# The limit for a TLS handshake, and the limit for the way to the endpoint before it. The API server allows a webhook as many seconds
# for a handshake (k8s.io/client-go transport/cache.go, TLSHandshakeTimeout).
HANDSHAKE_SECONDS = 10.0
# A kubelet and an API server serve many clients.
MOST_AT_ONCE = 10
# The time between two calls of the client's hooks.
HOOK_SECONDS = 1.0
# Go's TLS refuses a longer chain (crypto/tls maxHandshakeCertificateMsg), and so does every API server.
HANDSHAKE_BYTES = 256 * 1024
# The characters of the chains that one look keeps. A thousand pods with three certificates each serve 5 million.
MOST_CHAIN_TEXT = 32 * 2**20
# The judgements of chains that are kept. A chain has at most HANDSHAKE_BYTES.
MOST_KEPT = 32
# Older versions of the ssl module show only the leaf (bpo-18233).
SHOWS_CHAINS = sys.version_info >= (3, 10)
_DER = 2  # _ssl.ENCODING_DER
# k8s.io/apiserver endpoints/handlers/responsewriters, forbiddenMessage. Since Kubernetes 1.35, a second review asks for the verb create.
# Its refusal has no reason (kubernetes/kubernetes#134577). An admission webhook refuses with other words.
_REFUSED_BY_AUTHORIZER = re.compile(r" cannot | is forbidden:\s*$")
#: The encoded OIDs of ML-DSA-44, ML-DSA-65 and ML-DSA-87 (RFC 9881).
_ML_DSA = re.compile(rb"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03[\x11-\x13]")
#: The first minor version of Kubernetes that is built with Go 1.27, which verifies ML-DSA.
_FIRST_WITH_ML_DSA = 38
#: What kubelet says if no program listens at the port.
_CONNECTION_REFUSED = "connection refused"
#: OpenSSL's name of an error -> the fault, and its meaning. With these errors, the handshake of the API server fails as well. Other
#: errors show the limits of this client: of groups, curves, ciphers, sizes of messages and key usages that Go accepts.
_GO_FAILS = {
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": (
        HANDSHAKE_FAILS, "it accepts no protocol that the API server offers (http/1.1, and h2 unless it calls the Service of a webhook)"),
    "WRONG_VERSION_NUMBER": (NOT_TLS, "it speaks plain HTTP, or another protocol without TLS"),
    "HTTP_REQUEST": (NOT_TLS, "it speaks plain HTTP"),
    "UNSUPPORTED_PROTOCOL": (HANDSHAKE_FAILS, "it does not speak TLS 1.2 or newer"),
    "TLSV1_ALERT_PROTOCOL_VERSION": (HANDSHAKE_FAILS, "it does not speak TLS 1.2 or newer"),
    "TLSV1_ALERT_INTERNAL_ERROR": (HANDSHAKE_FAILS, "it reports an internal error"),
    "TLSV1_UNRECOGNIZED_NAME": (HANDSHAKE_FAILS, "it does not know the name that the API server sends"),
    "BAD_SIGNATURE": (HANDSHAKE_FAILS, "its key is not that of the first certificate that it sends"),
    "CERT_LENGTH_MISMATCH": (CERTIFICATE_REFUSED, "it sends further octets after a certificate"),
}  # fmt: skip
#: The meaning of errors with which the handshake of the API server may succeed. It may have a client certificate by its
#: AdmissionConfiguration, and the server may accept another group.
_MAY_PASS = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "it demands a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it demands a client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it demands a client certificate, or has no cipher or group in common with this run",
    "OTHER_GROUP": "it chooses a group for the exchange of keys that the API server does not offer",
}
#: A server that chooses X448 or a group of finite fields, which OpenSSL offers and Go does not: a HelloRetryRequest of TLS 1.3 (its fixed
#: "random" and the extension key_share, RFC 8446) or a ServerKeyExchange of TLS 1.2 (RFC 8422). The ssl module cannot leave groups out.
_OTHER_GROUP = re.compile(
    rb"\xcf\x21\xad\x74\xe5\x9a\x61\x11.*\x00\x33\x00\x02(?:\x00\x1e|\x01[\x00-\x04])|\x0c\x00..\x03\x00\x1e\x38",
    re.DOTALL,
)


@dataclass(frozen=True)
class ServedChain:
    """The chain that one endpoint sent."""

    endpoint: Endpoint
    #: The leaf first, "" if no chain was seen.
    chain_pem: str = ""
    certificate: CertificateFacts | None = None
    #: The reason why no chain was seen, "" if one was.
    problem: str = ""
    #: The fault of an endpoint that shows no chain, an id of call_faults.
    fault: str = HANDSHAKE_FAILS
    #: True if only Go verifies the chain. So what the API server does with it is not known.
    is_unread: bool = False
    #: Why the endpoint refuses this client although it sent its chain, "" if it does not.
    refusal: str = ""
    #: The duration of the handshake in seconds, without the time that the way to the endpoint took before it.
    seconds: float = 0.0
    #: The reason says nothing about the endpoint, such as a missing permission or an API server that does not reach the node.
    is_blind: bool = False
    #: The reason may pass, so another look may show more.
    may_pass: bool = False
    #: The reason is that the permission to port-forward is missing.
    lacks_permission: bool = False

    @property
    def is_gone(self) -> bool:
        """Return True for a terminating endpoint that refuses connections. It never serves again."""
        return self.endpoint.state == TERMINATING and self.fault == REFUSED

    @property
    def parsed(self) -> tuple[CertificateFacts, tuple[CertificateFacts, ...]]:
        """Return the leaf and the other certificates of a chain that was seen."""
        return certificate_facts.load_leaf_and_chain(self.chain_pem)


@dataclass(frozen=True)
class ServedReport:
    """The chain of one endpoint, and if the API server would accept it."""

    served: ServedChain
    #: Why the API server would not accept it on a new connection, "" if it would.
    refusal: str = ""

    def as_result(self) -> dict[str, Any]:
        """Return the report as it appears in results."""
        certificate = self.served.certificate
        return {
            "endpoint": str(self.served.endpoint),
            "certificate": certificate.as_result() if certificate else None,
            "verifies": bool(certificate) and not self.refusal,
            "problem": self.served.problem or self.refusal,
        }


@dataclass(frozen=True)
class EndpointScan:
    """The chains of all endpoints at one moment."""

    #: Of the ready endpoints.
    served: tuple[ServedChain, ...] = ()
    #: The reason why no endpoint is ready, or why the endpoints are not known.
    problem: str = ""
    is_known: bool = True
    #: Of the endpoints that are not ready or terminating, if they were scanned.
    unready: tuple[ServedChain, ...] = ()

    @property
    def is_blind(self) -> bool:
        """Return True if another scan by this identity would show no more."""
        return not self.is_known or any(chain.is_blind and not chain.may_pass for chain in self.served)


class ByteStream(Protocol):
    """A stream to an endpoint: a socket, or a port-forward."""

    def sendall(self, data: bytes, /) -> None:
        """Send every byte of ``data``."""

    def recv(self, size: int, /) -> bytes:
        """Return the next bytes, or b"" at the end of the stream."""


def permissions(namespace: str) -> list[Permission]:
    """Return the permissions for a scan."""
    return [*webhook_endpoints.permissions(namespace), *port_forward.permissions(namespace)]


def scan(
    client: Client, config: ClientConfig, *, until: float, unready: bool = False, outside: bool = True
) -> EndpointScan:
    """Read the chain of every ready endpoint until ``until`` (time.monotonic()), but for at least LEAST_SECONDS.

    unready: also scan endpoints that get no new connections now. outside: connect to addresses outside of the cluster. Raises KubeError
    if the API server itself does not answer.
    """
    endpoints = webhook_endpoints.find(client, config)
    if not outside and any(endpoint.is_outside for endpoint in endpoints.ready):
        problem = f"{config.server_name} leads to an address outside of the cluster"
        return EndpointScan(problem=problem, is_known=False)
    until = max(until, time.monotonic() + LEAST_SECONDS)
    places = [(endpoint, config) for endpoint in (*endpoints.ready, *(endpoints.unready if unready else ()))]
    chains, count = tuple(read_chains(client, places, until)), len(endpoints.ready)
    return EndpointScan(chains[:count], endpoints.problem, endpoints.is_known, chains[count:])


def read_chains(
    client: Client, places: Sequence[tuple[Endpoint, ClientConfig]], until: float
) -> list[ServedChain]:
    """Read the chains of endpoints until ``until`` (time.monotonic()), MOST_AT_ONCE at the same time, and return them in this order.

    Threads do the handshakes. They call no hooks, because a hook may print, and only the main thread may print. Meanwhile the caller's
    thread calls the hooks, so a Lease is kept, and the end of the parent ends the work.
    """
    chains = [_unread(endpoint) for endpoint, _config in places]
    failures: list[KubeError] = []
    waiting = collections.deque(enumerate(places))
    sizes: list[int] = []

    def work(own: Client) -> None:
        while waiting:
            try:
                number, place = waiting.popleft()
                if time.monotonic() < until:
                    chains[number] = _kept(_read_safely(own, *place, until), sizes)
            except IndexError:  # another thread was faster
                return
            except KubeError as exc:  # raised again below, because a thread would print it
                failures.append(exc)

    clients = [client.for_thread() for _place in places[:MOST_AT_ONCE]]
    threads = [threading.Thread(target=work, args=(own,), daemon=True) for own in clients]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive() and not failures and time.monotonic() < until + LEAST_SECONDS:
                client.prepare()
                thread.join(HOOK_SECONDS)
    finally:
        waiting.clear()
    if failures:
        raise failures[0]
    return list(chains)


def _kept(chain: ServedChain, sizes: list[int]) -> ServedChain:
    """Return the chain, or an unread one if it and those of these sizes have more than MOST_CHAIN_TEXT characters."""
    if sum(sizes) + len(chain.chain_pem) > MOST_CHAIN_TEXT:
        return _unread(chain.endpoint, "the chains of the other endpoints are too large", may_pass=False)
    sizes.append(len(chain.chain_pem))
    return chain


def _read_safely(client: Client, endpoint: Endpoint, config: ClientConfig, until: float) -> ServedChain:
    """Return the chain of one endpoint. An unexpected error does not end the work for the other endpoints. Raises KubeError."""
    try:
        return _decided(client, read_chain(client, endpoint, config, until))
    except KubeError:
        raise
    except Exception as exc:
        return _unread(endpoint, f"of an unexpected error ({type(exc).__name__})", may_pass=False)


def _unread(endpoint: Endpoint, reason: str = "the time was over", *, may_pass: bool = True) -> ServedChain:
    return ServedChain(
        endpoint, problem=f"it was not checked, because {reason}", is_blind=True, may_pass=may_pass
    )


def read_chain(client: Client, endpoint: Endpoint, config: ClientConfig, until: float) -> ServedChain:
    """Read the chain of one endpoint until ``until`` (time.monotonic())."""
    if not (endpoint.pod or endpoint.is_outside):
        words = "no pod is behind this endpoint, and this run does not connect to addresses of the cluster's network"
        return ServedChain(endpoint, problem=words, is_blind=True)
    return _judgeable(_shown(client, endpoint, config, until), config)


def judge_served(served: ServedChain, config: ClientConfig, now: datetime) -> Judgement:
    """Judge a chain that was seen with the caBundle and the name of a client configuration."""
    return _judge(served.chain_pem, config.ca_bundle, config.server_name, now)


@functools.lru_cache(maxsize=MOST_KEPT)
def _judge(chain_pem: str, ca_bundle: str, server_name: str, now: datetime) -> Judgement:
    """Judge a chain once. The pods of one workload serve equal chains, and a bundle of 300 CAs costs 0.4 seconds for each."""
    leaf, chain = certificate_facts.load_leaf_and_chain(chain_pem)
    return judge(leaf, ca_bundle, name=server_name, intermediates=chain, now=now)


def _judgeable(seen: ServedChain, config: ClientConfig) -> ServedChain:
    """Return the chain, or a problem if Python hides intermediate certificates without which the leaf does not verify."""
    if SHOWS_CHAINS or seen.certificate is None:
        return seen
    now = datetime.now(timezone.utc)
    if verify(seen.parsed[0], config.ca_bundle, name=config.server_name, now=now).code != CA_MISMATCH:
        return seen
    words = "Python 3.9 does not show the intermediate certificates that it may send; run the task with a newer one"
    return ServedChain(seen.endpoint, problem=words, is_blind=True)


def _shown(client: Client, endpoint: Endpoint, config: ClientConfig, until: float) -> ServedChain:
    """Return the chain that the endpoint sends, or the reason why it sends none."""
    is_open, begun = False, time.monotonic()
    bounds = ReadLimits("the way to it", until=min(until, begun + HANDSHAKE_SECONDS), size=HANDSHAKE_BYTES)
    try:
        with _open(client, endpoint, bounds) as stream:
            is_open, opened = True, time.monotonic()
            chain, ended, refusal = _handshake_until(stream, config, bounds, until)
    except _TimeOver:
        words = "its TLS handshake had not ended when the time was over"
        return ServedChain(endpoint, problem=words, is_blind=True, may_pass=True)
    except KubeError as exc:
        is_its_fault = is_open and not isinstance(exc, port_forward.StreamBroken)
        fault = REFUSED if _CONNECTION_REFUSED in exc.cause else HANDSHAKE_FAILS
        return (
            ServedChain(endpoint, problem=exc.cause, fault=fault)
            if is_its_fault
            else _unreached(endpoint, exc)
        )
    except ssl.SSLError as exc:
        fault = _GO_FAILS.get(_reason_of(exc), ("", ""))[0]
        return ServedChain(endpoint, problem=_in_words(exc), fault=fault, is_blind=not fault)
    except UnicodeError:
        if is_open or endpoint.pod:
            raise
        # Python and Go follow other versions of IDNA. So a name that is not ASCII may be valid for the API server.
        may_be_valid = not endpoint.host.isascii()
        words = "Python cannot encode its host name" if may_be_valid else "its host name is not valid"
        return ServedChain(endpoint, problem=words, is_blind=may_be_valid)
    except OSError as exc:
        is_blind = not is_open and not isinstance(exc, ConnectionRefusedError)
        words = f"it cannot be reached from here: {exc.strerror or exc}"
        fault = REFUSED if isinstance(exc, ConnectionRefusedError) else HANDSHAKE_FAILS
        return ServedChain(endpoint, problem=words, fault=fault, is_blind=is_blind, may_pass=is_blind)
    seconds = ended - opened - (opened - begun)
    return replace(_understood(endpoint, chain), refusal=refusal, seconds=seconds)


class _TimeOver(Exception):
    """The time of the run was over during a handshake. That says nothing about the endpoint."""


def _handshake_until(
    stream: PortForwardStream | socket.socket, config: ClientConfig, bounds: ReadLimits, until: float
) -> tuple[list[bytes], float, str]:
    """Do a handshake that has HANDSHAKE_SECONDS, but ends at ``until``. Raises _TimeOver if it had less time, and the errors of `handshake`."""
    limit = time.monotonic() + HANDSHAKE_SECONDS
    bounds.start("its TLS handshake", until=min(until, limit), size=HANDSHAKE_BYTES)
    try:
        stream.settimeout(bounds.left())  # reads of the way have shortened it
        return handshake(stream, config)
    except (TimedOut, socket.timeout):
        if until < limit:
            raise _TimeOver from None
        raise


def _reason_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's name of an error. The ssl module does not know each of them."""
    words = str(error).partition("] ")[2].partition(" (_ssl")[0]
    return getattr(error, "reason", "") or words.upper().replace(" ", "_")


def _in_words(error: ssl.SSLError) -> str:
    reason = _reason_of(error)
    words = _GO_FAILS[reason][1] if reason in _GO_FAILS else _MAY_PASS.get(reason, "")
    return f"the TLS handshake failed: {f'{words} ({reason})' if words else reason}"


def _unreached(endpoint: Endpoint, error: KubeError) -> ServedChain:
    """Return the reason why the way to the endpoint failed, which says nothing about the endpoint."""
    words = error.message or error.cause
    if not (endpoint.pod and isinstance(error, Forbidden) and _REFUSED_BY_AUTHORIZER.search(words)):
        return ServedChain(endpoint, problem=f"the way to it failed: {words}", is_blind=True, may_pass=True)
    problem = f"this identity may not reach pods through the API server: {words}"
    return ServedChain(endpoint, problem=problem, is_blind=True, lacks_permission=True)


def _understood(endpoint: Endpoint, chain: list[bytes]) -> ServedChain:
    """Return the chain, with a problem if Go does not read one of its certificates."""
    pem = "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain)
    try:
        return ServedChain(endpoint, pem, certificate_facts.describe_pem(pem))
    except CertificateError as exc:
        words = f"the API server cannot read a certificate that it sends: {exc.cause}"
        return ServedChain(endpoint, pem, problem=words, fault=CERTIFICATE_REFUSED)


def _decided(client: Client, seen: ServedChain) -> ServedChain:
    """Return the chain as unread if it has an ML-DSA key or signature, and if the API server may verify that."""
    if seen.certificate is None:
        return seen
    leaf, sent = seen.parsed
    if not any(_ML_DSA.search(entry.der) for entry in (leaf, *sent)) or not _may_verify_ml_dsa(client):
        return seen
    words = "it sends an ML-DSA key or signature, which API servers verify from Kubernetes 1.38 on, and this collection does not"
    return replace(seen, certificate=None, problem=words, is_blind=True, is_unread=True)


def _may_verify_ml_dsa(client: Client) -> bool:
    """Return True if the API server may be built with Go 1.27 or newer, or if its version is not known."""
    try:
        minor = re.match(r"v1\.([0-9]+)", str(client.get("/version").get("gitVersion")))
    except KubeError:
        return True
    return minor is None or int(minor[1]) >= _FIRST_WITH_ML_DSA


def _open(client: Client, endpoint: Endpoint, bounds: ReadLimits) -> PortForwardStream | socket.socket:
    if endpoint.pod:
        return port_forward.connect(client, *endpoint.pod, endpoint.port, bounds)
    return transport.dial(endpoint.host, endpoint.port, bounds)


def handshake(stream: ByteStream, config: ClientConfig) -> tuple[list[bytes], float, str]:
    """Do a TLS handshake without verification, with what the API server offers to this client configuration.

    Return the server's chain, DER, leaf first, the time of time.monotonic() at the end, and why the server refuses this client, "" if
    it does not. The stream limits the time and the size. Raises ssl.SSLError, OSError, and the errors of the stream.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(config.protocols)
    # Those of TLS 1.2 that Go does not disable (crypto/tls cipherSuitesPreferenceOrder, disabledCipherSuites).
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES+SHA1:!aNULL")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # judged afterwards, by the rules of the API server's client
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=config.server_name or None)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            ours = outgoing.read()
            if ours:
                stream.sendall(ours)
            theirs = stream.recv(READ_BYTES)
            if not theirs:
                raise OSError(None, "it closed the connection during the TLS handshake") from None
            if _OTHER_GROUP.search(theirs):
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL] other group") from None
            incoming.write(theirs)
        else:
            return sent_chain(tls), time.monotonic(), _finish(stream, tls, incoming, outgoing)


def _finish(stream: ByteStream, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> str:
    """Send the rest of the handshake and the end of the connection, so that the server logs no broken handshake.

    Return why the server refuses this client, "" if it does not. A server that demands a client certificate with TLS 1.3 sends its
    alert only now. Other servers send tickets or data, or end the connection.
    """
    # Our end of the connection is in ``outgoing`` before the server's end, or data that came with the handshake, raises an error.
    with contextlib.suppress(ssl.SSLError):
        tls.unwrap()
    try:
        stream.sendall(outgoing.read())
        if tls.version() == "TLSv1.3":
            incoming.write(stream.recv(READ_BYTES))
            tls.read(1)
    except (OSError, KubeError) as exc:  # or it ended the connection
        if isinstance(exc, ssl.SSLError) and "_ALERT_" in _reason_of(exc):
            return _in_words(exc)
    return ""


def api_server_chain(client: Client) -> str:
    """Return the chain that the API server serves on a new connection as PEM text, "" without TLS. Raises KubeError, OSError."""
    if not client.host.startswith("https:"):
        return ""
    until = time.monotonic() + HANDSHAKE_SECONDS
    bounds = ReadLimits("the TLS handshake of the API server", until=until, size=HANDSHAKE_BYTES)
    with client.dial(bounds) as connection:
        chain = sent_chain(connection) if isinstance(connection, ssl.SSLSocket) else []
    return "".join(map(ssl.DER_cert_to_PEM_cert, chain))


def sent_chain(tls: Any) -> list[bytes]:
    """Return the chain as the server sent it, DER, leaf first. The method is public since Python 3.13. Before 3.10 the ssl module shows only the leaf."""
    if hasattr(tls, "get_unverified_chain"):
        return list(tls.get_unverified_chain())
    inner: Any = getattr(tls, "_sslobj", None)
    if hasattr(inner, "get_unverified_chain"):
        return [entry.public_bytes(_DER) for entry in inner.get_unverified_chain()]
    return [tls.getpeercert(binary_form=True)]
