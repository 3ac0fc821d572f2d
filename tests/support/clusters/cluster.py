# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One control plane: its files, its programs, and its clients."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import shutil
import signal
import socket
import ssl
import time
import uuid
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.clusters import (
    audit,
    clock,
    components,
    control_plane_pki,
    image,
    kubeconfig,
    node,
    node_files,
    pki,
    processes,
)
from tests.support.clusters.build import programs
from tests.support.clusters.client import AdminApiError, AdminClient
from tests.support.clusters.components import Ports, Server
from tests.support.clusters.errors import ClusterError, tail
from tests.support.clusters.profiles import Profile, find
from tests.support.clusters.rotation import Rotation

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LEADER = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
READY_TIMEOUT = 300.0  # on a busy machine. The usual time is below 10.
#: The API server calls itself with a certificate that it makes at its start for 14 months, so it is restarted before.
_LONGEST_RUN = datetime.timedelta(days=300)

_BEFORE_TODAY = datetime.timedelta(minutes=4)


class PortTakenError(ClusterError):
    """Another process took a port between the check and the start."""


class Cluster:
    """A control plane in a directory: etcd, kube-apiserver, kube-controller-manager, and the profile's
    signer.

    `create` and `boot` start one. `Cluster(directory)` opens one that runs already.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        about = json.loads((directory / "cluster.json").read_text())
        self.name: str = about["name"]
        self.profile_name: str = about["profile"]
        self._ports = Ports(**about["ports"])
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        #: The time by which the clock of the cluster is ahead of that of this machine, and that of each program at its start.
        self.ahead = datetime.timedelta()
        self._ahead_at_start: dict[str, datetime.timedelta] = {}

    @classmethod
    def create(cls, directory: Path, name: str, profile_name: str) -> Cluster:
        """Write the files of a cluster that is not started yet."""
        directory.mkdir(mode=0o700)
        _describe(directory, name, profile_name, free_ports())
        (directory / "audit-policy.yaml").write_text(yaml.safe_dump(audit.POLICY))
        profile = find(profile_name)
        control_plane_pki.make(directory / "pki", profile)
        for server in components.servers(profile)[1:]:
            shutil.copytree(directory / "pki", server.pki(directory))
        if profile.node:
            node_files.write(directory)
        return cls(directory)

    # Properties

    @property
    def url(self) -> str:
        """The URL of the first API server."""
        return self.url_of(self.servers[0])

    def url_of(self, server: Server) -> str:
        """Return the URL of an API server."""
        host = f"[{server.address}]" if ":" in server.address else server.address
        return f"https://{host}:{self._ports.apiserver}"

    @property
    def address(self) -> tuple[str, int]:
        """The address and the port of the first API server."""
        return self._profile.loopback, self._ports.apiserver

    @property
    def servers(self) -> tuple[Server, ...]:
        """The machines of the control plane. The kubeconfig names the first one."""
        return components.servers(self._profile)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (user kubernetes-admin, group system:masters). Its mode is 0600."""
        return self.directory / "kubeconfig"

    @property
    def ca_pem(self) -> str:
        """The cluster's CA, and during a rotation both CAs.

        It signs the serving certificate and clients, and also CSRs unless the profile has another CA for
        them.
        """
        return (self.directory / "pki" / pki.BUNDLE).read_text()

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    def log(self, component: str) -> Path:
        """Return the log of etcd, kube-apiserver, kube-controller-manager or eks-signer."""
        return self.directory / f"{component}.log"

    # Clients

    @property
    def client(self) -> AdminClient:
        """A client with the administrator's certificate."""
        return self.client_of()

    def client_of(self, server: Server | None = None, *, timeout: float = 60.0) -> AdminClient:
        """Return such a client of one API server, by default of the first one."""
        paths = (self.directory / "pki" / name for name in (pki.BUNDLE, "admin.crt", "admin.key"))
        return AdminClient(self.url_of(server or self.servers[0]), *paths, timeout=timeout)

    def api(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Send a request as administrator.

        Raises AdminApiError (with `.status`), or OSError without a server.
        """
        return self.client.api(method, path, body, content_type)

    def kubeconfig_for(
        self,
        user: str,
        groups: Sequence[str] = (),
        *,
        namespace: str = "default",
        lifetime: datetime.timedelta = pki.LONG,
    ) -> Path:
        """Return a kubeconfig with a client certificate of another user.

        A negative lifetime makes an expired certificate.
        """
        pair = pki.issue(self._ca, user, groups, lifetime=lifetime)
        return self._write_kubeconfig(self._fresh_path(), kubeconfig.with_certificate(pair), namespace)

    def token_kubeconfig(
        self, service_account: str, namespace: str = "default", *, seconds: int = 3600
    ) -> Path:
        """Return a kubeconfig with a token of a ServiceAccount.

        Create the ServiceAccount if it does not exist.
        """
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        try:
            self.api("POST", accounts, {"metadata": {"name": service_account}})
        except AdminApiError as error:
            if error.status != 409:
                raise
        answer = self.api(
            "POST", f"{accounts}/{service_account}/token", {"spec": {"expirationSeconds": seconds}}
        )
        return self._write_kubeconfig(self._fresh_path(), {"token": answer["status"]["token"]}, namespace)

    def requests(
        self, *, since: datetime.datetime | None = None, user: str | None = None, start: int = 0
    ) -> list[dict[str, Any]]:
        """Return the audit events of all requests that were answered before this call, as `audit.requests`.

        See `complete_audit_log`.
        """
        self.complete_audit_log()
        return [
            event
            for event in audit.requests(self.audit_log, since=since, user=user, start=start)
            if "/version?mark=" not in event["requestURI"]
        ]

    def complete_audit_log(self) -> None:
        """Wait until the audit log has all requests that were answered before this call.

        The server may write the line of a request just after its answer. So this sends a marked request last.
        Once the log has its line, it also has the earlier ones.
        """
        mark = f"/version?mark={uuid.uuid4()}"
        start = self.audit_log.stat().st_size
        self.api("GET", mark)
        self._wait_for("the audit log", lambda: audit.contains(self.audit_log, mark, start))

    # Node

    def load_image(self, name: str, program: Path) -> None:
        """Load an image with one static program into the node.

        Pods use it with imagePullPolicy IfNotPresent.
        """
        done = self.run_inside(
            "ctr",
            "--namespace=k8s.io",
            "images",
            "import",
            "--snapshotter=native",
            "-",
            stdin=image.archive(name, program),
        )
        if done.returncode != 0:
            raise ClusterError(f"cluster {self.name}: image {name}: {done.stderr.decode().strip()}")

    def run_inside(self, *command: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the machine, or `ctr`, in the node's namespaces.

        Raises ClusterError without a node.
        """
        return node.run_inside(self.directory, command, stdin)

    # Programs

    def boot(self) -> None:
        """Start all programs and return when the cluster can be used. Raises ClusterError with the reason."""
        if self._profile.node:
            self._start_namespaces()
        self._start_api()
        for path, body in self._profile.objects:  # a namespace may appear after readiness, so retry
            self._wait_for(path, partial(self.api, "POST", path, body))
        for server in self.servers[1:]:
            self.start(f"kube-apiserver{server.suffix}")
            client = self.client_of(server, timeout=2)
            self._wait_for("a further API server", partial(client.request, "GET", "/readyz"))
        for server in self.servers:
            self.start(f"kube-controller-manager{server.suffix}")
        if self._profile.signer:
            self.start("eks-signer")
        for namespace in ("default", "kube-system"):
            path = f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
            self._wait_for(path, partial(self.api, "GET", path))
        if self._profile.node:
            self._start_node()

    def start(self, component: str) -> None:
        """Start one program: etcd, kube-apiserver, kube-controller-manager, eks-signer, or one of a node's.

        Return without waiting for it.
        """
        self.start_program(component, *self._command(component))

    def start_program(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a program that ends with the cluster, or with `stop(name)`. It prints to `log(name)`."""
        # etcd has no use for the time, and its certificates are of today.
        is_ahead = self.ahead and name != "etcd"
        started = clock.starting_ahead(self.ahead, command) if is_ahead else command
        child = processes.start(started, self._record(name), self.log(name), environment)
        self._children[name], self._ahead_at_start[name] = child, self.ahead
        if is_ahead:  # a jump would stop it beside its tracer
            self._wait_for(name, partial(clock.has_started, child.pid, command))

    def start_again(self, component: str) -> None:
        """Start a program that has ended, as kubelet does."""
        if component not in self.running:
            self.collect(component)
            self.start(component)

    def stop(self, component: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop one program and wait for its end. Send SIGKILL if it does not end in time."""
        process = processes.recorded(self._record(component))
        if process is not None:
            process.kill(number)
            if not process.wait(15):
                process.kill()
                process.wait(15)
            self._record(component).unlink()
        self.collect(component)

    def collect(self, *names: str) -> None:
        """Wait for programs that have ended (all of them without a name), so that no zombie stays.

        Raises subprocess.TimeoutExpired for one that runs.
        """
        for name in names or tuple(self._children):
            if name in self._children:
                self._children.pop(name).wait(READY_TIMEOUT)

    @property
    def running(self) -> list[str]:
        """The programs that run now."""
        return sorted(
            record.stem
            for record in self.directory.glob("*.process")
            if (process := processes.recorded(record)) and process.alive
        )

    # Clock

    def now(self) -> datetime.datetime:
        """Return the time of the cluster."""
        return datetime.datetime.now(datetime.timezone.utc) + self.ahead

    def jump(self, by: datetime.timedelta) -> bool:
        """Let the clock of the control plane jump, also back. Return True if it was restarted.

        The clocks of this machine, of etcd and of the test do not change. An API server that has lived for too long is restarted.
        Raises clock.ClockError: see `clock.why_not`.
        """
        if self._profile.node:
            raise ClusterError(f"cluster {self.name}: the clock of a node cannot jump")
        if self.ahead + by < -_BEFORE_TODAY:
            raise ClusterError(f"cluster {self.name}: its certificates are not valid before today")
        self.ahead += by
        is_old = any(map(self._has_lived_too_long, self.servers))
        if is_old:
            self._restart()
        for name in self.running:
            self._set_clock(name)
        return is_old

    def _has_lived_too_long(self, server: Server) -> bool:
        start = self._ahead_at_start.get(f"kube-apiserver{server.suffix}", datetime.timedelta())
        return abs(self.ahead - start) > _LONGEST_RUN

    def _restart(self) -> None:
        """Restart the control plane, except etcd."""
        signers = [name for name in self.running if name == "eks-signer"]
        for name in (*signers, *(f"kube-controller-manager{server.suffix}" for server in self.servers)):
            self.stop(name)
        for server in self.servers:
            self.stop(f"kube-apiserver{server.suffix}", signal.SIGKILL)
            self.start(f"kube-apiserver{server.suffix}")
        for server in self.servers:
            client = self.client_of(server, timeout=2)
            self._wait_for("its API server", partial(client.request, "GET", "/readyz"))
        for name in signers:
            self.start(name)
        self.lead(self.servers[0])

    def _set_clock(self, name: str) -> None:
        process = processes.recorded(self._record(name))
        if process and process.alive and name != "etcd":
            clock.set_ahead(process.pid, self.ahead)

    def rotation(
        self, *, subject: str = "kubernetes", key_identifiers: bool = True, is_dated: bool = False
    ) -> Rotation:
        """Return a rotation of the CA that has not begun, with the subject of the successor.

        is_dated: True if its certificates begin at the time of the cluster, for clients that have the clock of the cluster.
        """
        if not is_dated:
            return Rotation(self, pki.make_ca(subject, key_identifiers=key_identifiers))
        return Rotation(self, pki.make_ca(subject, key_identifiers=key_identifiers, now=self.now()), self.now)

    def reload(self) -> None:
        """Let all programs use the keys and certificates that are there now, and return when they do.

        The API servers read their files again when they change. The signers are restarted, and the controller manager of the first
        server leads. The administrator's kubeconfig stays.
        """
        self._write_manager_kubeconfigs()
        for server in self.servers:
            self._wait_for("its certificate", partial(self._serves_its_certificate, server))
        if "eks-signer" in self.running:
            self.stop("eks-signer")
            self.start("eks-signer")
        self.lead(self.servers[0])
        for namespace in ("default", "kube-system"):
            path = f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
            self._wait_for(path, partial(self._is_published, path))

    def lead(self, leader: Server) -> None:
        """Restart the controller managers so that the one of this server is the leader."""
        managers = {server: f"kube-controller-manager{server.suffix}" for server in self.servers}
        for manager in managers.values():
            self.stop(manager)
        with contextlib.suppress(AdminApiError):  # the stopped one holds it for some seconds more
            self.api("DELETE", LEADER)
        self.start(managers.pop(leader))
        if managers:
            self._wait_for("its leader", partial(self.api, "GET", LEADER))
        for manager in managers.values():
            self.start(manager)

    def served_pem(self) -> str:
        """Return the certificate that the first API server serves on a new connection."""
        return ssl.get_server_certificate(self.address)

    def _serves_its_certificate(self, server: Server) -> bool:
        served = ssl.get_server_certificate((server.address, self._ports.apiserver))
        return (server.pki(self.directory) / "apiserver.crt").read_text().startswith(served.strip())

    # Internals

    @property
    def _profile(self) -> Profile:
        return find(self.profile_name)

    @property
    def _ca(self) -> pki.KeyPair:
        return pki.KeyPair.read(self.directory / "pki", "ca")

    def _record(self, component: str) -> Path:
        return self.directory / f"{component}.process"

    def _fresh_path(self) -> Path:
        return self.directory / f"kubeconfig-{uuid.uuid4().hex[:8]}"

    def _write_kubeconfig(self, path: Path, user: dict[str, Any], namespace: str = "default") -> Path:
        return kubeconfig.write(path, self.name, self.url, self.ca_pem, user=user, namespace=namespace)

    def _command(self, component: str) -> tuple[list[str], dict[str, str] | None]:
        if component in node.COMPONENTS:
            return node.command(component, self.directory, self._ports, self._profile)
        if component == "eks-signer":
            return processes.python("eks_signer", *components.eks_signer(self.directory, self._ports))
        commands = {"etcd": ("etcd", components.etcd(self.directory, self._ports))}
        for server in self.servers:
            flags = components.apiserver(self.directory, self._ports, self._profile, server)
            commands[f"kube-apiserver{server.suffix}"] = ("kube-apiserver", flags)
            flags = components.controller_manager(self.directory, self._profile, server)
            commands[f"kube-controller-manager{server.suffix}"] = ("kube-controller-manager", flags)
        program, arguments = commands[component]
        command = [str(programs(release=self._profile.release) / program), *arguments]
        if not self._profile.node:
            return command, None
        return node.in_network(self.directory, command), node.environment()

    def _start_namespaces(self) -> None:
        self.start("namespace")
        self._wait_for("its namespaces", (self.directory / "namespace.ready").exists)
        self.start("containerd")  # it is ready before the API server is

    def _start_node(self) -> None:
        node.allow_watchers()
        self.start("kube-scheduler")
        self._wait_for("containerd", lambda: self.run_inside("ctr", "version").returncode == 0)
        self.load_image(image.PAUSE, image.program("pause"))
        self.start("kubelet")
        self._wait_for("its node", self._node_is_ready)
        self.start("kube-proxy")
        accounts = "/api/v1/namespaces/default/serviceaccounts/default"
        # no pod is admitted without this ServiceAccount
        self._wait_for(accounts, partial(self.api, "GET", accounts))

    def _node_is_ready(self) -> bool:
        status = self.api("GET", f"/api/v1/nodes/{self._profile.node}")["status"]
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions", ())
        )

    def _start_api(self) -> None:
        """Start etcd and the API server.

        Use other ports if another process takes one of them before the start.
        """
        for _attempt in range(3):
            self._write_own_kubeconfigs()
            if self._profile.node:
                self.start("relay")
            self.start("etcd")
            self.start("kube-apiserver")
            # The server listens long before it serves, so a connection may hang meanwhile.
            client = self.client_of(timeout=2)
            try:
                self._wait_for("its API server", partial(client.request, "GET", "/readyz"))
            except PortTakenError:
                self.stop("kube-apiserver", signal.SIGKILL)
                self.stop("etcd", signal.SIGKILL)
                self.stop("relay", signal.SIGKILL)
                self._move()
            else:
                return
        raise ClusterError(f"cluster {self.name}: no free ports on loopback, tried three times")

    def _move(self) -> None:
        """Use other ports and an empty etcd."""
        self._ports = free_ports()
        _describe(self.directory, self.name, self.profile_name, self._ports)
        shutil.rmtree(self.directory / "etcd", ignore_errors=True)

    def _write_own_kubeconfigs(self) -> None:
        self.write_kubeconfig()
        self._write_manager_kubeconfigs()
        if self._profile.node:
            for name in ("scheduler", "kubelet", "kube-proxy"):
                self._write_kubeconfig_of(name, f"{name}.kubeconfig")

    def write_kubeconfig(self) -> None:
        """Write the administrator's kubeconfig with the CAs that the cluster publishes now."""
        self._write_kubeconfig_of("admin", "kubeconfig")

    def _write_manager_kubeconfigs(self) -> None:
        for server in self.servers:
            file = f"controller-manager{server.suffix}.kubeconfig"
            self._write_kubeconfig_of("controller-manager", file, server)

    def _write_kubeconfig_of(self, pair: str, file: str, server: Server | None = None) -> None:
        user = kubeconfig.with_certificate(pki.KeyPair.read(self.directory / "pki", pair))
        url = self.url_of(server or self.servers[0])
        kubeconfig.write(self.directory / file, self.name, url, self.ca_pem, user=user)

    def _wait_for(self, what: str, condition: Callable[[], object]) -> None:
        """Wait until a condition is true.

        Errors mean "not yet". Fail at once if a program of the cluster has ended.
        """
        deadline = time.monotonic() + READY_TIMEOUT
        answer = ""
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (OSError, AdminApiError) as error:
                answer = f"; the last answer: {error}"
            self._raise_if_ended()
            time.sleep(0.05)
        log = tail(self.log(list(self._children)[-1])) if self._children else ""
        raise ClusterError(f"cluster {self.name}: waited {READY_TIMEOUT:.0f} s for {what}{answer}{log}")

    def _is_published(self, path: str) -> bool:
        return bool(self.api("GET", path)["data"]["ca.crt"] == self.ca_pem)

    def _raise_if_ended(self) -> None:
        for component, child in self._children.items():
            if child.poll() is not None:
                log = self.log(component)
                ended = f"cluster {self.name}: {component} ended with status {child.returncode}{tail(log)}"
                taken = log.exists() and "address already in use" in log.read_text(errors="replace").lower()
                raise PortTakenError(ended) if taken else ClusterError(ended)


def free_ports() -> Ports:
    """Return three free loopback ports below the range of outgoing connections."""
    names = list(Ports.__dataclass_fields__)
    found: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        while len(found) < len(names):
            held.append(socket.socket())
            port = random.randint(20000, 29999)
            try:
                held[-1].bind(("127.0.0.1", port))
            except OSError:
                continue
            found[names[len(found)]] = port
    finally:
        for candidate in held:
            candidate.close()
    return Ports(**found)


def _describe(directory: Path, name: str, profile_name: str, ports: Ports) -> None:
    about = {"name": name, "profile": profile_name, "ports": asdict(ports)}
    (directory / "cluster.json").write_text(json.dumps(about, indent=2) + "\n")
