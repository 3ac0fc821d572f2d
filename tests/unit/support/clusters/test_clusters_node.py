# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the parts of a node that need no node: the reasons why it cannot run, images, the relay."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import socket
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import clusters
from tests.support.clusters import ClusterError, cgroups, components, debian, image, relay

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("name", clusters.PROFILES)
def test_the_node_and_its_pods_are_outside_the_service_range(name: str) -> None:
    """kube-proxy drops packets to addresses of the range that belong to no Service."""
    services = ipaddress.ip_network(clusters.PROFILES[name].service_cidr)
    assert ipaddress.ip_address(components.NODE_IP) not in services
    assert not ipaddress.ip_network(components.POD_CIDR).overlaps(services)


# Machines that cannot run a node


def test_users_other_than_root_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert clusters.why_no_node() == "a cluster with a node needs root"
    with (
        pytest.raises(ClusterError, match=r"^a cluster with a node needs root$"),
        clusters.running({"c": "onprem-node"}),
    ):
        pass


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert clusters.why_no_node() == "a cluster with a node needs the program ip"


@pytest.mark.parametrize(
    ("programs", "complaint"),
    [
        ({}, "its programs come from Debian packages, and there is no apt-get on PATH"),
        (
            {"apt-get": "echo E: network is down >&2; exit 100", "dpkg": ""},
            "apt-get update failed: E: network is down",
        ),
    ],
    ids=["no apt", "apt fails"],
)
def test_unavailable_packages_are_reported(
    programs: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CERTFLOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ClusterError) as caught:
        debian.unpacked(lambda message: None)
    assert str(caught.value) == complaint
    assert [path.name for path in (tmp_path / "cache" / "debian").iterdir()] == [".lock"]


# Parts


def test_an_image_contains_one_program(tmp_path: Path) -> None:
    program = tmp_path / "webhook"
    program.write_bytes(b"a program")
    files = unpacked(image.archive("certflow.invalid/webhook:1", program))
    (manifest,) = json.loads(files["manifest.json"])
    config, layer = json.loads(files[manifest["Config"]]), files[manifest["Layers"][0]]
    assert manifest["RepoTags"] == ["certflow.invalid/webhook:1"]
    assert config["config"]["Entrypoint"] == ["/webhook"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert unpacked(layer) == {"webhook": b"a program"}


def unpacked(archive: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            assert content
            assert entry.mode == 0o755
            found[entry.name] = content.read()
    return found


@pytest.mark.parametrize(
    ("shown", "mountable"),
    [
        ("rw,relatime,memory", "rw,relatime,memory"),
        ("rw,xattr,release_agent=/lib/systemd/agent,name=systemd", "rw,xattr,name=systemd"),
        ("rw,seclabel,cpu,cpuacct", "rw,cpu,cpuacct"),
    ],
)
def test_a_hierarchy_is_mounted_with_its_controllers(shown: str, mountable: str) -> None:
    assert cgroups._mountable(shown) == mountable


@pytest.fixture
def relayed() -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """Yield a server, and the address of a relay that leads to it."""
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        threading.Thread(target=relay.run, args=(listener, port), daemon=True).start()
        yield server, listener.getsockname()


def test_the_relay_passes_bytes_and_ends_in_both_directions(
    relayed: tuple[socket.socket, tuple[str, int]],
) -> None:
    listening, address = relayed
    with socket.create_connection(address, 10) as client, listening.accept()[0] as server:
        client.sendall(b"question")
        assert server.recv(100) == b"question"
        client.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b""
        server.sendall(b"a late answer")
        assert client.recv(100) == b"a late answer"
        server.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""


def test_the_relay_resets_a_connection_without_a_server(
    relayed: tuple[socket.socket, tuple[str, int]],
) -> None:
    """To a TLS client, a normal end of the connection would look like a fault of the server."""
    listening, address = relayed
    listening.close()
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(address, 10) as client,
    ):  # the reset may come at any of these calls
        client.recv(100)
