# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One cluster to test in: programs of any shape and owner, calls without end, a journal, and a clock that jumps."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import audit_info, k8s_csr

from tests.support.certificates.authority import Issued
from tests.support.certificates.signer_requests import KUBELET_SERVING
from tests.support.clusters import APP_SERVING, AdminApiError, clock, pki
from tests.support.clusters.errors import tail
from tests.support.permissions import rbac
from tests.support.rig import ClusterRig
from tests.support.waiting import becomes_true, wait_for
from tests.support.webhooks.port_forwarder import PortForwarder
from tests.support.world import shapes
from tests.support.world.caller import Caller
from tests.support.world.certificates import Certificates
from tests.support.world.journal import CALL, DONE, RUN, Journal
from tests.support.world.programs import ACCEPTED, KINDS, REPAIRED, Program, names
from tests.support.world.reach import MERGE
from tests.support.world.servers import Listeners

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.certflow.kubernetes.plugins.module_utils._ansible.operation import Operation

    from tests.support.clusters import Cluster
    from tests.support.world.caller import Called
    from tests.support.world.shapes import Shape

#: Numbers of addresses in the network of Services, after those of other rigs.
_ADDRESSES = itertools.count(2500)

#: The programs that end with an API server, in the order in which they start.
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager")

#: Where a run leaves objects, and with which prefix of annotations.
_LEFT = {"secrets": "/api/v1", "configmaps": "/api/v1", "leases": "/apis/coordination.k8s.io/v1"}
_PREFIX = "certflow.kubernetes/"

#: Copies of a row that are made at once.
_AT_ONCE = 8


class World(ClusterRig):
    """A namespace of a cluster of the profile local-services, with the programs that a test makes from rows."""

    def __init__(self, cluster: Cluster, journal: Path | None = None) -> None:
        super().__init__(cluster, "world")
        self.node = f"node-{self.id}"
        signing = pki.KeyPair.read(cluster.servers[0].pki(cluster.directory), "ca")
        #: The CAs that rows name.
        self.cas = {"cluster": Issued(signing.certificate, signing.key)}
        self.journal = Journal(cluster.now, journal)
        self.listeners = Listeners()
        #: NAMESPACE/POD -> the address of its server.
        self.forwarded: dict[str, str] = {}
        self._kubelet = PortForwarder(self.forwarded)
        self.programs: list[Program] = []
        #: Program -> what it answered to the last `call_all`.
        self.answers: dict[str, str] = {}
        #: The signer of `renew`, and further options of its connection.
        self.signer = APP_SERVING if cluster.profile_name.startswith("eks") else KUBELET_SERVING
        self.connection: dict[str, Any] = {}
        self._owners = threading.Thread(target=self._keep, daemon=True)
        self._is_closed = threading.Event()
        #: Held while the API server may be restarted, because this test causes it.
        self.restarting = threading.Lock()
        self.make("/api/v1/namespaces", {"metadata": {"name": self.name}})
        account = f"/api/v1/namespaces/{self.name}/serviceaccounts/default"  # pods need it
        wait_for(lambda: self.ask("GET", account) == ACCEPTED)
        self._make_node()

    def close(self) -> None:
        self._is_closed.set()
        if self._owners.ident:
            self._owners.join()
        super().close()
        self.listeners.close()
        self._kubelet.close()

    # Making

    def create(self, shape: Shape, copies: int = 1) -> list[Program]:
        """Make a row, or this number of copies of it. Return their programs."""
        for name in (*shape.certificate.chain, *(shape.bundle or ())):
            self.ca(name)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            made = list(pool.map(lambda name: KINDS[shape.kind](self, shape, name), names(shape, copies)))
        self.programs += made
        self.journal.add(DONE, f"made {shape.name}", *(program.full_name for program in made))
        if shape.owner.rewrites_after is not None:
            self.keep()
        return made

    def one(self, shape: Shape) -> Program:
        """Make a row once. Return its program."""
        return self.create(shape)[0]

    def program(self, name: str) -> Program:
        return next(program for program in self.programs if program.name == name)

    def ca(self, name: str) -> pki.KeyPair:
        """Return a CA that rows name. "cluster" is the one that the cluster had at first."""
        issued = Certificates(self.cas, now=self.cluster.now()).ca(name)
        return pki.KeyPair(issued.certificate, issued.key)

    def next_address(self) -> str:
        """Return a loopback address for a Service, which no other program of this process has."""
        number = next(_ADDRESSES)
        return f"127.96.{number // 250}.{number % 250 + 1}"

    def _make_node(self) -> None:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._kubelet.port}},
        }
        self.make("/api/v1/nodes", {"metadata": {"name": self.node}, "status": status})

    # Asking

    def ask(self, method: str, path: str, body: object = None) -> str:
        """Send a request as administrator. Return "accepted", or the message of the API server."""
        try:
            self.cluster.api(method, path, body)
        except AdminApiError as error:
            return error.message
        return ACCEPTED

    def private_keys(self) -> list[str]:
        """Return the keys that are in Secrets of the namespace now, PEM text."""
        secrets = self.cluster.api("GET", f"/api/v1/namespaces/{self.name}/secrets")["items"]
        entries = [entry for secret in secrets for entry in (secret.get("data") or {}).items()]
        return [base64.b64decode(value).decode() for name, value in entries if name.endswith(".key")]

    def calling(self, *programs: Called, seconds: float = 0.1) -> Caller:
        """Return a block in which programs are called all the time, () for all that the world has now.

        seconds: the time after which each of them is called again.
        """
        return Caller(self.journal, self.restarting, *(programs or self.programs), seconds=seconds)

    def call_all(self) -> dict[str, str]:
        """Call each program once. Return the answers by the names of the programs."""
        self.answers = {}
        for program in self.programs:
            self.answers[program.name] = answer = program.call()
            self.journal.add(CALL, answer, program.name, is_failure=answer != ACCEPTED)
        return self.answers

    def settle(self) -> None:
        """Let everything run, and the API server ask its aggregated APIs again. It does so each half minute, and after each change."""
        self.restart()
        for program in self.programs:
            with contextlib.suppress(OSError):  # the API server restarts again
                if program.shape.kind == shapes.AGGREGATED and not program.is_called():
                    mark = {"metadata": {"annotations": {"touched": f"{self.cluster.now()}"}}}
                    with contextlib.suppress(AdminApiError):  # it does not exist now
                        self.cluster.api("PATCH", program.path, mark, MERGE)
                    becomes_true(program.is_called, 5)

    @contextlib.contextmanager
    def limited_to(self, *roles: str) -> Iterator[None]:
        """Let the runs in the block have only these roles, as `become`."""
        before = self.user, self.kubeconfig
        self.become(*roles)
        try:
            yield
        finally:
            self.user, self.kubeconfig = before

    def become(self, *roles: str, without: str = "") -> None:
        """Let the further runs have only the roles of these files of docs/rbac, such as "audit", without one resource."""
        self.user = f"limited-{self.id}-{len(self.made)}"
        granted = [rbac.documented(name) for name in roles]
        for rule in (entry for role in granted for entry in role["rules"]):
            rule["resources"] = [name for name in rule.get("resources", ()) if name != without]
        self.made += rbac.grant(self.cluster, self.user, *granted)
        self.kubeconfig = self.cluster.kubeconfig_for(self.user)

    # Time and runs

    def renew(self, program: Program, **options: Any) -> dict[str, Any]:
        """Run k8s_csr for a program, as the weekly playbook does. Its pod serves the Secret from the next call on."""
        arguments = {
            "service": program.name,
            "namespace": self.name,
            "signer_name": self.signer,
            "secret": {"name": program.name},
            "targets": [program.target],
            **self.connection,
            **options,
        }
        result = self.operate(k8s_csr.OPERATION, **arguments)
        assert "failed" not in result, result
        return result

    def jump(self, by: datetime.timedelta) -> bool:
        """Let the clock of the cluster jump, also back. Return True if its API server was restarted.

        Skip the test, with the reason, where no clock can be changed.
        """
        if clock.why_not():
            pytest.skip(clock.why_not())
        self.journal.add(DONE, f"the clock jumps by {by}")
        with self.restarting:
            self.restart()
            return self.cluster.jump(by)

    def switch_off(self) -> None:
        """Stop all programs of the control plane except etcd."""
        for name in reversed(_CONTROL_PLANE):
            self.cluster.stop(name)

    def restart(self) -> None:
        """Start what has ended, as kubelet does. A controller manager ends if no API server answers for ten seconds."""
        for name in _CONTROL_PLANE:
            wait_for(partial(self._is_up, name), evidence=lambda: tail(self.cluster.log("kube-apiserver")))

    def crash(self) -> None:
        """Kill the API server, and start it again."""
        with self.restarting:
            self.cluster.stop("kube-apiserver", signal.SIGKILL)
            self.restart()
            self.settle()

    def _is_up(self, name: str) -> bool:
        """Start a program if it does not run. Return True if it runs, and the API server answers."""
        self.cluster.start_again(name)
        with contextlib.suppress(Exception):
            self.cluster.client_of(timeout=2).request("GET", "/readyz")
            return True
        return False

    def left_over(self) -> Iterator[str]:
        """Yield what the collection has left in the namespace and on the objects whose certificates it issued."""
        # A Secret whose marks were edited by hand is not removed, only its marks.
        kept = [program.name for program in self.programs if program.is_edited]
        for plural, api in _LEFT.items():
            for item in self.cluster.api("GET", f"{api}/namespaces/{self.name}/{plural}")["items"]:
                name = item["metadata"]["name"]
                if (plural != "configmaps" and name not in kept) or _PREFIX in json.dumps(item):
                    yield f"{plural}/{name}"
        for program in self.programs:
            if program.is_ours:
                marks = set(program.read()["metadata"].get("annotations") or {}) - {REPAIRED}
                yield from (f"{mark} on {program.full_name}" for mark in marks if mark.startswith(_PREFIX))

    def operate(self, operation: Operation, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run an operation as the user, and return its result. The journal has its message."""
        result = super().operate(operation, check_mode=check_mode, **options)
        text = f"{operation.name}: {result.get('msg') or result.get('code', '')}"
        self.journal.add(RUN, text, is_failure=bool(result.get("failed")))
        return result

    def audit(self, **options: Any) -> dict[str, Any]:
        """Audit the cluster. Addresses outside of the cluster are read, because the servers are there."""
        result = self.operate(audit_info.OPERATION, **{"probe_urls": True, **options})
        assert "failed" not in result, result
        return result

    # Owners

    def keep(self) -> None:
        """Let owners that rewrite their objects begin to do so."""
        if not self._owners.ident:
            self._owners.start()

    def _keep(self) -> None:
        """Write the bundles of owners again that others have changed, when the time of the owner has come."""
        changed: dict[str, datetime.datetime] = {}
        while not self._is_closed.wait(0.2):
            for program in list(self.programs):
                after = program.shape.owner.rewrites_after
                if after is None or program.kept is None:
                    continue
                try:
                    if program.bundle == program.kept:
                        changed.pop(program.name, None)
                        continue
                    now = self.cluster.now()
                    if now >= changed.setdefault(program.name, now) + after:
                        program.set_bundle(program.kept)
                        text = f"{program.shape.owner.name} restored its bundle"
                        self.journal.add(DONE, text, program.name)
                except (AdminApiError, OSError):  # deleted, or the API server restarts
                    continue
