# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit a fleet in which some API servers are slow, endless or hostile. They stop no other cluster, and no fork needs much memory."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import authority
from tests.support.fleet.fleet_files import kubeconfig
from tests.support.playbooks import playbook
from tests.system.audit.test_audit_playbook import AUDIT

if TYPE_CHECKING:
    from tests.support.clusters import Fleet

SECONDS = 10
FORK_MIB = 200
#: The healthy clusters are contexts of two real control planes.
HEALTHY = tuple(f"healthy-{number}" for number in range(7))
MARKERS = "-----BEGIN PRIVATE KEY-----\n" * 11_000  # 300 KiB
DENSE = gzip.compress(b'{"items": [' + b"{}," * 85_000_000 + b"{}]}")  # 250 kB
Reply = Callable[[BaseHTTPRequestHandler], None]


def send(request: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Send a list without an end, without a pause."""
    request.send_response(200)
    request.end_headers()
    request.wfile.write(b'{"items": [')
    while True:
        request.wfile.write(b'{"metadata": {"name": "a"}},' * 2000)


def dripping(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        time.sleep(0.2)
        request.wfile.write(b" ")


def dense(request: BaseHTTPRequestHandler) -> None:
    """Send pages without an end, each just small enough to be read."""
    token = {"metadata": {"continue": str(time.monotonic())}}
    send(request, json.dumps({**token, "items": [{"a": [{}]}] * 80_000}, separators=(",", ":")).encode())


def slow(request: BaseHTTPRequestHandler) -> None:
    time.sleep(2)
    send(request, b'{"items": []}')


def configuration(bundle: str) -> bytes:
    """Return a list of one webhook configuration with this bundle."""
    service = {"namespace": "default", "name": "hook"}
    client = {"service": service, "caBundle": base64.b64encode(bundle.encode()).decode()}
    rules = [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]
    webhook = {"name": "a.b.c", "clientConfig": client, "rules": rules, "failurePolicy": "Fail"}
    return json.dumps({"items": [{"metadata": {"name": "hook", "uid": "1"}, "webhooks": [webhook]}]}).encode()


def many() -> Reply:
    """Return a reply of thousands of webhooks, each with another bundle and another Service."""
    pem = authorities(1)
    entry = json.loads(configuration(""))["items"][0]
    webhooks = []
    for number in range(10_000):
        bundle = base64.b64encode(f"{pem}# {number}\n".encode()).decode()
        service = {"namespace": "default", "name": f"hook-{number}"}
        client = {"service": service, "caBundle": bundle}
        webhooks.append({**entry["webhooks"][0], "name": f"a{number}.b.c", "clientConfig": client})
    pages = [
        json.dumps(
            {
                "metadata": {"continue": str(first)} if first < 9000 else {},
                "items": [{**entry, "webhooks": webhooks[first : first + 1000]}],
            }
        )
        for first in range(0, 10_000, 1000)
    ]

    def reply(request: BaseHTTPRequestHandler) -> None:
        if "webhookconfigurations" in request.path:
            place = request.path.partition("continue=")[2]
            send(request, pages[int(place or -1000) // 1000 + 1].encode())
        elif "/services/" in request.path:
            send(request, b'{"kind": "Status"}', 404)
        else:
            send(request, b'{"items": []}')

    return reply


def authorities(count: int) -> str:
    """Return CAs of one name, each with another key, as a PEM text."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _number in range(count)]
    return "".join(authority.authority("kubernetes", key=key).pem for key in keys)


def published(text: str) -> Reply:
    """Return a reply of a webhook configuration and of the ConfigMap of the cluster's CA that both have this text."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        if "configmaps" in request.path:
            send(request, json.dumps({"metadata": {}, "data": {"ca.crt": text}}).encode())
        elif "/services/" in request.path:
            send(request, b'{"kind": "Status"}', 404)
        else:
            send(
                request, configuration(text) if "webhookconfigurations" in request.path else b'{"items": []}'
            )

    return reply


#: What an audit of a cluster may end with. The work for one of them takes seconds, and a busy machine may need more time than it has.
INCOMPLETE, COMPLETE, EITHER = ("incomplete",), ("ok",), ("incomplete", "ok")
#: The cluster -> what its API server replies after the first two requests, and how the audit ends.
HOSTILE: dict[str, tuple[Callable[[], Reply], tuple[str, ...]]] = {
    "slow": (lambda: slow, INCOMPLETE),
    "dripping": (lambda: dripping, INCOMPLETE),
    "compressed": (lambda: lambda request: send(request, DENSE, Content_Encoding="gzip"), INCOMPLETE),
    "plain": (
        lambda: lambda request: send(request, b'{"items": ["' + b"a" * 60_000_000 + b'"]}'),
        INCOMPLETE,
    ),
    "endless": (lambda: endless, INCOMPLETE),
    "dense": (lambda: dense, INCOMPLETE),
    "many": (many, INCOMPLETE),
    "authorities": (lambda: published(authorities(1400)), EITHER),
    "markers": (lambda: published(MARKERS), COMPLETE),
}


@contextlib.contextmanager
def serving(reply: Reply) -> Iterator[str]:
    """Yield the URL of an API server that answers the first requests as any does, and then by this function."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

        def do_GET(self) -> None:
            if self.path == "/api/v1/namespaces/kube-system":
                send(self, b'{"metadata": {"uid": "a-stand-in"}}')
            elif self.path == "/version":
                send(self, b'{"gitVersion": "v1.37.2"}')
            else:
                with contextlib.suppress(OSError):
                    reply(self)

        def do_POST(self) -> None:
            send(self, b'{"status": {"allowed": true}}')

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class MemoryWatch:
    """The peak memory of each fork of ansible-playbook, in MiB."""

    def __init__(self) -> None:
        self.peaks: dict[int, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            parents = playbook._parents()
            for pid in parents:
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"ansible-playbook" in words and b"certflow.kubernetes.audit" in words:
                        self.peaks[pid] = peak(pid)


def peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024 if "VmHWM" in status else 0


@pytest.fixture(scope="module")
def directory(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the kubeconfig and the inventory of healthy and hostile clusters."""
    place = tmp_path_factory.mktemp("bounds")
    real = {host: fleet["eks" if index % 2 else "onprem"].kubeconfig for index, host in enumerate(HEALTHY)}
    merged = kubeconfig(real)
    with contextlib.ExitStack() as stack:
        for host, (reply, _statuses) in HOSTILE.items():
            url = stack.enter_context(serving(reply()))
            merged["clusters"].append({"name": host, "cluster": {"server": url}})
            merged["users"].append({"name": host, "user": {"token": "of-the-test"}})
            merged["contexts"].append({"name": host, "context": {"cluster": host, "user": host}})
        (place / "kubeconfig").write_text(yaml.safe_dump(merged))
        inventory = {"plugin": "certflow.kubernetes.kubeconfig", "kubeconfig": "kubeconfig"}
        (place / "clusters.yml").write_text(yaml.safe_dump(inventory))
        yield place


@pytest.mark.full
def test_hostile_clusters_stop_no_other_one(directory: Path) -> None:
    variables = {"certflow_report": "report.json", "certflow_audit_options": {"wait_timeout": SECONDS}}
    begun = time.monotonic()
    with MemoryWatch() as memory:
        run = playbook.play(directory, AUDIT, "-i", "clusters.yml", "-f", "20", "-e", json.dumps(variables))
    seconds = time.monotonic() - begun
    report = json.loads((directory / "report.json").read_text())
    clusters: dict[str, Any] = {entry["name"]: entry for entry in report["clusters"]}
    lines = {
        name: (entry["status"], entry.get("seconds"), entry["reason"], len(entry.get("findings", ())))
        for name, entry in clusters.items()
    }
    print(f"{seconds:.0f} s", sorted(map(round, memory.peaks.values())), *lines.items(), sep="\n")
    assert {name: clusters[name]["status"] for name in HEALTHY} == dict.fromkeys(HEALTHY, "ok"), run.output
    wrong = {
        name: clusters[name]["status"] for name in HOSTILE if clusters[name]["status"] not in HOSTILE[name][1]
    }
    assert wrong == {}
    assert all(clusters[name]["findings"] for name in HOSTILE)
    # A busy machine gives the comparisons little of its time, and looks at the clock only between two of them.
    assert max(entry["seconds"] for entry in clusters.values()) < 2 * SECONDS
    assert max(memory.peaks.values()) < FORK_MIB, sorted(memory.peaks.values())
