# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that a real node runs pods, that they can be reached, and that nothing of the node stays."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import websocket
from cryptography import x509

from tests.support import clusters, node_webhook
from tests.support.cluster_runs import kill_with_its_janitor, nothing_left, owner, when_ready
from tests.support.clusters import AdminApiError, Cluster, cgroups, directories, namespaces, pki
from tests.support.clusters.processes import Process
from tests.support.node_webhook import NodeWebhook
from tests.support.waiting import becomes_true

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


NODES = "/api/v1/nodes"
# A cluster with one pod, which runs until its process is stopped.
RUN = """
import signal
from tests.support import clusters
from tests.support.clusters import image
from tests.support.waiting import wait_for
pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "p", "image": image.PAUSE}]}}
pods = "/api/v1/namespaces/default/pods"
with clusters.running({"c": "onprem-node"}) as fleet:
    fleet["c"].api("POST", pods, pod)
    wait_for(lambda: fleet["c"].api("GET", f"{pods}/p")["status"]["phase"] == "Running")
    print("ready", flush=True)
    signal.pause()
"""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 443), 5)"


@pytest.fixture(scope="module")
def ca() -> pki.KeyPair:
    return pki.make_ca("a CA of these tests")


@pytest.fixture(scope="module")
def webhook(node: Cluster, ca: pki.KeyPair) -> Iterator[NodeWebhook]:
    """Two pods behind a Service, and a webhook configuration that trusts the CA of their certificate."""
    with node_webhook.serving(node, NodeWebhook("guard", "guarded"), ca) as webhook:
        yield webhook


def served(cluster: Cluster, webhook: NodeWebhook, pod: str) -> x509.Certificate:
    """Return the certificate that a pod serves, by a port-forward through the API server."""
    path = f"/api/v1/namespaces/{webhook.namespace}/pods/{pod}/portforward?ports={node_webhook.PORT}"
    files = {
        option: str(cluster.directory / "pki" / name)
        for option, name in (("ca_certs", "ca.crt"), ("certfile", "admin.crt"), ("keyfile", "admin.key"))
    }
    connection = websocket.create_connection(
        cluster.url.replace("https:", "wss:") + path,
        timeout=30,
        subprotocols=["v4.channel.k8s.io"],
        sslopt=files,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arriving, leaving)
    begun = set()  # the first frame of each channel has only the number of the port
    with contextlib.closing(connection):
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            connection.send_binary(b"\0" + leaving.read())
            while (frame := connection.recv_data()[1])[0] not in begun:
                begun.add(frame[0])
            assert frame[0] == 0, frame  # channel 1 has errors
            arriving.write(frame[1:])
    certificate = tls.getpeercert(binary_form=True)
    assert certificate
    return x509.load_der_x509_certificate(certificate)


def names(cluster: Cluster, webhook: NodeWebhook) -> list[str]:
    return [pod["metadata"]["name"] for pod in node_webhook.pods(cluster, webhook)]


# A running node


def test_the_node_is_ready(node: Cluster) -> None:
    (found,) = node.api("GET", NODES)["items"]
    assert found["metadata"]["name"] == "node-1"
    assert found["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    ready = [entry["status"] for entry in found["status"]["conditions"] if entry["type"] == "Ready"]
    assert ready == ["True"]


def test_a_webhook_in_pods_is_called_through_the_api_server(node: Cluster, webhook: NodeWebhook) -> None:
    node_webhook.dry_run(node, webhook)
    with pytest.raises(AdminApiError) as caught:
        node_webhook.dry_run(node, webhook, refuse=True)
    assert caught.value.status == 403


def test_a_webhook_in_pods_converts(node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    with node_webhook.custom_resource(node, webhook, ca.certificate_pem.decode()) as path:
        thing = webhook.thing("v1") | {"spec": {"size": 2**53 + 1}}
        node.api("POST", path.format("v1"), thing | {"metadata": {"name": "one"}})
        converted = node.api("GET", f"{path.format('v2')}/one")
        assert converted["apiVersion"].endswith("/v2")
        assert converted["spec"] == {"size": 2**53 + 1}


def test_the_address_of_a_service_can_be_reached(node: Cluster, webhook: NodeWebhook) -> None:
    """kube-proxy's rules lead from the node, and so from pods, to the Service."""
    for path in (
        "/api/v1/namespaces/default/services/kubernetes",
        f"/api/v1/namespaces/{webhook.namespace}/services/{webhook.name}",
    ):
        connect = (sys.executable, "-c", CONNECT, node.api("GET", path)["spec"]["clusterIP"])
        becomes_true(partial(_ends_well, node, connect))


def test_pods_can_be_reached_by_port_forward(node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair) -> None:
    for pod in names(node, webhook):
        served(node, webhook, pod).verify_directly_issued_by(ca.certificate)


def test_the_log_of_a_pod_can_be_read(node: Cluster, webhook: NodeWebhook) -> None:
    for pod in names(node, webhook):
        log = node.client.request("GET", f"/api/v1/namespaces/{webhook.namespace}/pods/{pod}/log")
        assert b"serving certificate" in log


def test_a_changed_secret_reaches_pods_after_an_annotation(
    node: Cluster, webhook: NodeWebhook, ca: pki.KeyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = node_webhook.certificate(webhook, ca)
    secret = f"/api/v1/namespaces/{webhook.namespace}/secrets/{webhook.name}"
    node.api("PATCH", secret, {"data": webhook.secret(pair)["data"]}, "application/merge-patch+json")
    begin = time.monotonic()
    node_webhook.touch(node, webhook, "changed")
    for pod in names(node, webhook):
        becomes_true(partial(_serves, node, webhook, pod, pair.certificate))
    with capsys.disabled():
        print(f" served after {time.monotonic() - begin:.1f} s ", end="")


def test_programs_can_be_stopped_and_started_again(node: Cluster, webhook: NodeWebhook) -> None:
    for program in ("kubelet", "kube-apiserver"):
        node.stop(program, signal.SIGKILL)
        assert program not in node.running
    with pytest.raises(OSError, match=r"."):
        node.api("GET", NODES)
    for program in ("kube-apiserver", "kubelet"):
        node.start(program)
    becomes_true(lambda: _answers(node))
    becomes_true(lambda: served(node, webhook, names(node, webhook)[0]))
    node_webhook.dry_run(node, webhook)


def _ends_well(node: Cluster, command: Sequence[str]) -> bool:
    return node.run_inside(*command).returncode == 0


def _serves(node: Cluster, webhook: NodeWebhook, pod: str, certificate: x509.Certificate) -> bool:
    return served(node, webhook, pod) == certificate


def _answers(node: Cluster) -> bool:
    with contextlib.suppress(OSError, AdminApiError):
        return node.client.request("GET", "/readyz") == b"ok"
    return False


def test_an_eks_node_adopts_the_existing_node_object(temporary: Path) -> None:
    _skip_without_node()
    with clusters.running({"c": "eks-node"}) as fleet:
        (found,) = fleet["c"].api("GET", NODES)["items"]
    assert nothing_left(temporary)
    assert found["spec"]["providerID"].startswith("aws:///eu-west-1a/i-")
    assert found["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "workers"
    assert found["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.3-eks-3c42bf9"
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


# The end of a node


def while_the_node_starts(process: subprocess.Popen[str], temporary: Path) -> None:
    becomes_true(lambda: list(temporary.glob("*/fleet-*/*/kubelet.process")) or process.poll() is not None)


def when_a_pod_runs(process: subprocess.Popen[str], temporary: Path) -> None:
    when_ready(process, temporary)
    commands = [Path(f"/proc/{program.pid}/cmdline").read_bytes() for program in programs_inside(temporary)]
    assert [command for command in commands if b"pause" in command]


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        (while_the_node_starts, lambda process: process.send_signal(signal.SIGINT)),
        (when_a_pod_runs, lambda process: process.kill()),
    ],
    ids=["Ctrl-C while it starts", "SIGKILL when a pod runs"],
)
def test_nothing_of_a_node_is_left_after(
    temporary: Path,
    moment: Callable[[subprocess.Popen[str], Path], None],
    end: Callable[[subprocess.Popen[str]], None],
) -> None:
    _skip_without_node()
    before = machine()
    with owner(RUN) as process:
        moment(process, temporary)
        inside, groups = programs_inside(temporary), control_groups(temporary)
        assert machine() == before
        end(process)
        process.wait(60)
    becomes_true(lambda: nothing_left(temporary))
    assert not [program for program in inside if program.alive]
    assert not [group for group in groups if group.exists()]
    assert machine() == before


def test_the_next_run_removes_the_node_of_a_crashed_run(temporary: Path) -> None:
    _skip_without_node()
    with owner(RUN) as process:
        while_the_node_starts(process, temporary)
        inside, groups = programs_inside(temporary), control_groups(temporary)
        kill_with_its_janitor(process)
    assert [program for program in inside if program.alive]
    directories.remove_leftovers()
    assert not [program for program in inside if program.alive]
    assert nothing_left(temporary)
    assert not [group for group in groups if group.exists()]


def _skip_without_node() -> None:
    reason = clusters.why_no_node()
    if reason:
        pytest.skip(reason)


def machine() -> dict[str, Any]:
    """Return the settings, mounts, directories and interfaces that a node might change on the machine."""
    places = [f"{base}/{name}" for base, names in namespaces.HIDDEN.items() for name in names]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "settings": {name: Path("/proc/sys", name).read_text() for name in namespaces.SETTINGS},
        "mounts": [line for line in mounts if "certflow" in line or any(place in line for place in places)],
        "places": {place: os.path.exists(place) and os.listdir(place) for place in places},
        "interfaces": sorted({"node0", "node1", "pods0"} & set(os.listdir("/sys/class/net"))),
    }


def control_groups(temporary: Path) -> list[Path]:
    """Return the control groups of the clusters in this directory, in all hierarchies."""
    fleets = [path.name for path in temporary.glob("*/fleet-*")]
    roots = [Path(hierarchy.path) for hierarchy in cgroups.hierarchies()]
    return [group for root in roots for fleet in fleets for group in root.glob(f"certflow-{fleet}-*")]


def programs_inside(temporary: Path) -> list[Process]:
    """Return all processes of the nodes in this directory: of containerd, kubelet and pods."""
    found = {}
    for group in control_groups(temporary):
        for path in group.rglob("cgroup.procs"):
            for pid in path.read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found[pid] = Process.from_stat(Path(f"/proc/{pid}/stat").read_text())
    assert found
    return list(found.values())
