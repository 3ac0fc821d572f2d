# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Open a byte stream to a port of a pod through the API server, as `kubectl port-forward` does.

So every host that reaches the API server can check an endpoint. The collection does not connect to addresses of the cluster's
network, because on this host they may belong to another network.
"""

from __future__ import annotations

import contextlib
import re
import struct
from types import TracebackType
from typing import Any

from .._base.text import shortened
from .access_review import Permission
from .client import Client
from .errors import ConnectionFailed, TimedOut, error_from
from .login.transport import ReadLimits

with contextlib.suppress(ImportError):  # it comes with the kubernetes package: reported by _ansible
    import websocket

# The kubelet's WebSocket protocol: each message begins with its channel, two channels for each port, and the first
# message of each channel is the port (kubernetes pkg/kubelet/portforward/websocket.go).
PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
# The words of containerd, CRI-O and socat if the connection inside of the pod fails. They dial tcp4 and tcp6 there. The kubelet's own
# connection to them is tcp.
_POD_FAILED = re.compile(
    r"connection refused|no route to host|i/o timeout|connection timed out|(read|write) tcp[46] .{0,200}(reset by peer|broken pipe)",
    re.IGNORECASE,
)
# Connections of the node's own programs fail with the same words.
_NODE_FAILED = re.compile(r"rpc error|\b(dial|read|write) unix\b|\blookup ")
# The identifier of a sandbox, of which its first characters are enough.
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def permissions(namespace: str) -> list[Permission]:
    """Return the permissions to open a stream. Kubernetes 1.35 and newer need create too (kubernetes/kubernetes#134577)."""
    return [Permission(verb, "", "pods/portforward", namespace) for verb in ("get", "create")]


class StreamBroken(ConnectionFailed):
    """The stream to the API server or on the node failed. That says nothing about the pod."""


class PortForwardStream:
    """An open stream. ``recv`` returns b"" after the kubelet ended it, because the connection to the pod's port ended.

    ``sendall`` and ``recv`` raise StreamBroken. ``recv`` also raises ConnectionFailed if the pod's port cannot be reached inside of the
    pod, and TimedOut.
    """

    def __init__(self, socket: Any, port: int) -> None:
        self._socket = socket
        self._port = struct.pack("<H", port)
        self._begun: set[int] = set()

    def __enter__(self) -> PortForwardStream:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.shutdown()  # without a closing handshake, for which the server may be slow

    def settimeout(self, seconds: float) -> None:
        """Set the limit for each read and write."""
        self._socket.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        try:
            self._socket.send_binary(bytes([DATA]) + data)
        except (websocket.WebSocketException, OSError) as exc:
            raise _broken(exc) from exc

    def recv(self, _size: int) -> bytes:
        while True:
            try:
                message = self._socket.recv()
            except websocket.WebSocketTimeoutException as exc:
                raise TimedOut("it sent nothing in time") from exc
            except (websocket.WebSocketException, OSError) as exc:
                raise _broken(exc) from exc
            # The kubelet closes the WebSocket. If that is missing, the connection broke on the way.
            if not message:
                return b""
            channel, payload = message[0], message[1:]
            if channel not in self._begun:
                self._begun.add(channel)
                payload = payload[2:] if payload[:2] == self._port else payload
            if not payload:
                continue
            if channel == ERROR:
                raise _port_error(payload.decode("utf-8", "replace"))
            return bytes(payload)


def connect(client: Client, namespace: str, pod: str, port: int, bounds: ReadLimits) -> PortForwardStream:
    """Open a stream to the pod's port. The bounds apply to all reads.

    An error says nothing about the pod, because the kubelet connects to it after the stream is open.

    Raises Forbidden, NotFound, ApiError, AuthenticationError, ConnectionFailed, TimedOut, AnswerTooLarge.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    with contextlib.ExitStack() as stack:
        try:
            url, headers = client.websocket_request(path, {"ports": str(port)})
            connection = stack.enter_context(client.dial(bounds))
            socket = websocket.create_connection(
                url,
                socket=connection,
                header=headers,
                subprotocols=[PROTOCOL],
                timeout=bounds.left(),
                redirect_limit=0,
                suppress_origin=True,
            )
        except websocket.WebSocketBadStatusException as exc:
            body = getattr(exc, "resp_body", None) or b""
            raise error_from("GET", path, exc.status_code, body, auth_source=client.auth_source) from exc
        except (websocket.WebSocketException, OSError) as exc:
            raise _broken(exc) from exc
        stack.pop_all()
    return PortForwardStream(socket, port)


def _port_error(text: str) -> ConnectionFailed:
    """Return the error for a text of the error channel. Its reason comes after long names."""
    words = shortened(_ID.sub(r"\1", text), 300)
    return (
        ConnectionFailed(f"the pod cannot be reached: {words}")
        if _POD_FAILED.search(text) and not _NODE_FAILED.search(text)
        else StreamBroken(f"the node cannot forward the port: {words}")
    )


def _broken(exc: Exception) -> StreamBroken:
    return StreamBroken(
        f"the stream through the API server broke: {shortened(str(getattr(exc, 'strerror', None) or exc), 300)}"
    )
