# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts on a few real control planes: each is a namespace with a webhook configuration of the same name."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import process
from benchmarks.process import RunFailed
from benchmarks.relay import Relay
from tests.support.clusters import AdminApiError, Cluster, processes
from tests.support.waiting import wait_for

SERVICE, SECRET = "snapshot-validation-service", "snapshot-validation-secret"
SIGNER = "kubernetes.io/kubelet-serving"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
CORE = "/api/v1/namespaces"
_AT_ONCE = 8
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Host:
    """A namespace that stands for a cluster."""

    name: str
    cluster: Cluster
    #: Kubeconfig of the peer's own user.
    kubeconfig: Path


@dataclass(frozen=True)
class HostSet:
    """The hosts of one peer in one round. Another peer has other hosts and another user."""

    name: str
    hosts: tuple[Host, ...]
    #: User of all requests of the peer.
    user: str
    directory: Path

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.json"

    def requests(self) -> list[dict[str, Any]]:
        """Return the audit events of all requests of the peer so far."""
        clusters = {host.cluster.name: host.cluster for host in self.hosts}
        return [event for cluster in clusters.values() for event in cluster.requests(user=self.user)]

    def verify(self) -> None:
        """Raise RunFailed if a host has no certificate or its webhook trusts no CA."""
        wrong = [
            host.name for host, good in zip(self.hosts, _each(self.hosts, _is_done), strict=True) if not good
        ]
        if wrong:
            raise RunFailed(
                f"{len(wrong)} of {len(self.hosts)} hosts have no certificate: {', '.join(wrong[:5])}"
            )

    def remove(self) -> None:
        """Delete what the hosts are."""
        _each(self.hosts, _remove)


@dataclass
class Lab:
    """The clusters of a row, and the directory for its files."""

    fleet: Mapping[str, Cluster]
    directory: Path
    #: Relays by cluster. With one, the hosts' kubeconfigs lead through it.
    relays: dict[str, Relay] = field(default_factory=dict)

    def hosts(self, count: int, variables: Callable[[Host], Mapping[str, Any]] | None = None) -> HostSet:
        """Create new hosts, spread over the clusters, and an inventory of them in the group `clusters`."""
        name = f"b{next(_numbers)}"
        directory = self.directory / name
        directory.mkdir()
        user = f"{name}-user"
        clusters = list(self.fleet.values())
        files = {cluster.name: self.kubeconfig(cluster, user) for cluster in clusters}
        chosen = list(itertools.islice(itertools.cycle(clusters), count))
        hosts = tuple(
            Host(f"{name}-{number:04}", cluster, files[cluster.name])
            for number, cluster in enumerate(chosen, 1)
        )
        _each(hosts, _create)
        _each(hosts, lambda host: wait_for(partial(_is_quiet, host), seconds=300))
        made = HostSet(name, hosts, user, directory)
        made.inventory.write_text(json.dumps(inventory(hosts, variables or role_variables)))
        return made

    def kubeconfig(self, cluster: Cluster, user: str) -> Path:
        """Return a kubeconfig of a new administrator, through the cluster's relay if it has one."""
        path = cluster.kubeconfig_for(user, ["system:masters"])
        relay = self.relays.get(cluster.name)
        if relay:
            config = yaml.safe_load(path.read_text())
            config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
            path.write_text(yaml.safe_dump(config))
        return path

    def server_cpu(self) -> float:
        """Return the CPU seconds that the programs of all clusters have used so far."""
        records = [path for cluster in self.fleet.values() for path in cluster.directory.glob("*.process")]
        running = [processes.recorded(path) for path in records]
        return process.cpu_of([program.pid for program in running if program])


def inventory(hosts: Sequence[Host], variables: Callable[[Host], Mapping[str, Any]]) -> dict[str, Any]:
    """Return an inventory in JSON with the variables of all peers."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    entries = {host.name: dict(variables(host)) for host in hosts}
    return {"all": {"children": {"clusters": {"hosts": entries}}, "vars": local}}


def role_variables(host: Host) -> dict[str, Any]:
    """Return a host's variables for all peers: the role's, and the kubeconfig for other plays."""
    return {
        "cluster_kubeconfig": str(host.kubeconfig),
        "webhook_certificate_kubeconfig": str(host.kubeconfig),
        "webhook_certificate_service": SERVICE,
        "webhook_certificate_namespace": host.name,
        "webhook_certificate_secret": {"name": SECRET},
        "webhook_certificate_signer_name": SIGNER,
        "webhook_certificate_targets": [{"kind": "ValidatingWebhookConfiguration", "name": host.name}],
    }


def options(host: Host) -> dict[str, Any]:
    """Return the options of k8s_csr for a host."""
    return {
        "kubeconfig": str(host.kubeconfig),
        "service": SERVICE,
        "namespace": host.name,
        "secret": {"name": SECRET},
        "signer_name": SIGNER,
        "targets": [{"kind": "ValidatingWebhookConfiguration", "name": host.name}],
    }


def configuration(name: str, ca_bundle: str = "") -> dict[str, Any]:
    """Return the webhook configuration of a host. ca_bundle: in Base64."""
    service = {"namespace": name, "name": SERVICE, "path": "/volumesnapshot"}
    webhook = {
        "name": "validation-webhook.snapshot.storage.k8s.io",
        "clientConfig": {"service": service, **({"caBundle": ca_bundle} if ca_bundle else {})},
        "rules": [
            {
                "apiGroups": ["snapshot.storage.k8s.io"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["volumesnapshots"],
            }
        ],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def _each(hosts: Iterable[Host], act: Callable[[Host], Any]) -> list[Any]:
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(act, hosts))


def _create(host: Host) -> None:
    host.cluster.api("POST", CORE, {"metadata": {"name": host.name}})
    host.cluster.api("POST", CONFIGURATIONS, configuration(host.name))


def _is_quiet(host: Host) -> bool:
    """Return True if the controllers have finished their work on the new namespace."""
    paths = ("configmaps/kube-root-ca.crt", "serviceaccounts/default")
    try:
        return all(host.cluster.api("GET", f"{CORE}/{host.name}/{path}") for path in paths)
    except AdminApiError as error:
        if error.status != 404:
            raise
        return False


def _is_done(host: Host) -> bool:
    try:
        secret = host.cluster.api("GET", f"{CORE}/{host.name}/secrets/{SECRET}")
    except AdminApiError as error:
        if error.status != 404:
            raise
        return False
    webhook = host.cluster.api("GET", f"{CONFIGURATIONS}/{host.name}")["webhooks"][0]
    bundle = base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
    return b"CERTIFICATE" in base64.b64decode(secret["data"]["tls.crt"]) and b"CERTIFICATE" in bundle


def _remove(host: Host) -> None:
    host.cluster.api("DELETE", f"{CONFIGURATIONS}/{host.name}")
    host.cluster.api("DELETE", f"{CORE}/{host.name}")


@contextlib.contextmanager
def slow_signer(cluster: Cluster, relay: Relay, seconds: float) -> Iterator[None]:
    """Let the cluster's signer see requests and write certificates through a relay, later by this time together.

    Restart kube-controller-manager with the relay's address, and wait until it works.
    """
    path = cluster.directory / "controller-manager.kubeconfig"
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    cluster.stop("kube-controller-manager")
    path.write_text(yaml.safe_dump(config))
    cluster.start("kube-controller-manager")
    mark = f"restarted-{next(_numbers)}"
    cluster.api("POST", CORE, {"metadata": {"name": mark}})
    account = f"{CORE}/{mark}/serviceaccounts"
    wait_for(lambda: cluster.api("GET", account)["items"], seconds=120)
    relay.delay(seconds / 2)
    yield
    relay.delay(0)
