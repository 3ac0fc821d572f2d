# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a certificate is in use, by what its endpoints serve; how its pods see the Secret; the restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    Forbidden,
    NotFound,
    UnprocessableObject,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook import workloads
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.bundles.bundle_targets import (
    ClientConfig,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.calls import call_faults
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints import serving_progress
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    EndpointScan,
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.serving_progress import (
    ConfigScan,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.workloads import (
    ServingOptions,
    WebhookWorkload,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._x509 import certificate_facts

from tests.unit.plugins.module_utils._csr.flow import ScriptedApi, api_error
from tests.unit.plugins.module_utils._webhook import pki

NAME = "hook.apps.svc"
CA, OTHER_CA = pki.authority("one"), pki.authority("two")
NEW, OLD = pki.leaf(CA, NAME), pki.leaf(OTHER_CA, NAME)
CONFIG = ClientConfig("w", "", "", NAME, ("apps", "hook"), CA.pem)


def served(pem: str, pod: str = "a") -> ServedChain:
    return ServedChain(Endpoint("10.0.0.4", 8443, ("apps", pod)), pem, certificate_facts.describe_pem(pem))


def at_address(pem: str) -> ServedChain:
    """Return the result of one connection to a URL or to a Service of type ExternalName."""
    endpoint = Endpoint("hooks.example.com", 443, is_outside=True)
    return ServedChain(endpoint, pem, certificate_facts.describe_pem(pem))


def unready(chain: ServedChain, state: str) -> EndpointScan:
    """Beside an endpoint that serves the new chain."""
    return EndpointScan(
        (served(NEW),), unready=(replace(chain, endpoint=replace(chain.endpoint, state=state)),)
    )


def unseen(*, blind: bool = False, fault: str = call_faults.REFUSED) -> ServedChain:
    return ServedChain(
        Endpoint("10.0.0.5", 8443, ("apps", "b")), problem="Connection refused", fault=fault, is_blind=blind
    )


def unreached() -> ServedChain:
    return replace(unseen(blind=True), may_pass=True)


def state(*scans: EndpointScan, bundle: str = CA.pem) -> serving_progress.ServingProgress:
    config = ClientConfig("w", "", "", NAME, ("apps", "hook"), bundle)
    fingerprint = certificate_facts.describe_pem(NEW).fingerprint
    return serving_progress.assess((ConfigScan(config, scan) for scan in scans), fingerprint, pki.NOW)


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([EndpointScan((served(NEW), served(NEW, "b")))], serving_progress.IN_USE),
        ([EndpointScan((served(NEW),)), EndpointScan((served(NEW),))], serving_progress.IN_USE),
        ([EndpointScan((served(NEW), served(OLD, "b")))], serving_progress.STALE),
        ([EndpointScan((served(OLD), unseen()))], serving_progress.STALE),
        ([EndpointScan((served(NEW), unseen()))], serving_progress.UNSEEN),
        ([EndpointScan((), "Service apps/hook has no ready endpoint")], serving_progress.UNSEEN),
        ([EndpointScan((served(NEW),)), EndpointScan(())], serving_progress.UNSEEN),
        ([EndpointScan((served(NEW), unseen(blind=True)))], serving_progress.HIDDEN),
        ([EndpointScan((served(NEW), unreached()))], serving_progress.UNREACHED),
        ([EndpointScan((unseen(), unreached()))], serving_progress.UNSEEN),
        ([EndpointScan((served(OLD), unreached()))], serving_progress.STALE),
        ([EndpointScan((served(OLD), unseen(blind=True)))], serving_progress.STALE),
        ([EndpointScan((unseen(blind=True), unreached()))], serving_progress.HIDDEN),
        ([EndpointScan((), "this identity may not read", is_known=False)], serving_progress.HIDDEN),
        # Back from a node that was cut off it would serve the old one again, and its CA would be gone.
        ([unready(served(OLD, "b"), "not ready")], serving_progress.STALE),
        ([unready(unseen(), "not ready")], serving_progress.UNSEEN),
        ([unready(served(NEW, "b"), "not ready")], serving_progress.IN_USE),
        # One address may lead to many machines, and only one of them was seen.
        ([EndpointScan((at_address(NEW),))], serving_progress.PARTLY_SEEN),
        ([EndpointScan((served(NEW),)), EndpointScan((at_address(NEW),))], serving_progress.PARTLY_SEEN),
        ([EndpointScan((at_address(OLD),))], serving_progress.STALE),
        ([EndpointScan((at_address(NEW),)), EndpointScan((served(OLD),))], serving_progress.STALE),
        ([EndpointScan((at_address(NEW),)), EndpointScan((unseen(),))], serving_progress.UNSEEN),
        ([EndpointScan((at_address(NEW),)), EndpointScan((unseen(blind=True),))], serving_progress.HIDDEN),
        # An API server that reconnects may reach it until every kube-proxy knows that it terminates.
        ([unready(served(OLD, "b"), "terminating")], serving_progress.UNSEEN),
        ([unready(unseen(), "terminating")], serving_progress.IN_USE),
        ([unready(unseen(fault=call_faults.HANDSHAKE_FAILS), "terminating")], serving_progress.UNSEEN),
    ],
)
def test_how_far_it_is(scans: list[EndpointScan], expected: str) -> None:
    assert state(*scans).state == expected


def test_nothing_to_look_at_proves_nothing() -> None:
    assert state().state == serving_progress.UNSEEN


def test_what_is_served_has_to_verify_too() -> None:
    found = state(EndpointScan((served(NEW),)), bundle=OTHER_CA.pem)
    assert found.state == serving_progress.STALE
    assert "the API server would refuse it: certificate signed by unknown authority" in found.evidence[0]


def test_the_evidence_names_endpoints_and_serials() -> None:
    old = certificate_facts.describe_pem(OLD)
    evidence = state(EndpointScan((served(OLD), unseen()), "half of it")).evidence
    assert evidence[0] == "half of it"
    assert evidence[1].startswith(f"pod apps/a, port 8443 serves serial {old.serial}")
    assert evidence[2] == "pod apps/b, port 8443 shows nothing: Connection refused"


def test_the_evidence_names_the_limit_of_one_address() -> None:
    [line] = state(EndpointScan((at_address(NEW),))).evidence
    assert line.startswith("hooks.example.com:443 serves it")
    assert "other machines" in line


VOLUME = {"name": "v", "secret": {"secretName": "hook-tls"}}
PROJECTED = {
    "name": "v",
    "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "hook-tls"}}]},
}
MOUNT, SUBPATH = (
    {"name": "v", "mountPath": "/tls"},
    {"name": "v", "mountPath": "/tls/tls.crt", "subPath": "tls.crt"},
)
VARIABLE = {"name": "CERT", "valueFrom": {"secretKeyRef": {"name": "hook-tls", "key": "tls.crt"}}}


@pytest.mark.parametrize(
    ("volumes", "container", "words"),
    [
        ([VOLUME], {"volumeMounts": [MOUNT]}, ()),
        ([PROJECTED], {"volumeMounts": [MOUNT]}, ()),
        ([VOLUME], {"volumeMounts": [SUBPATH]}, ("container c mounts Secret hook-tls by subPath",)),
        ([VOLUME], {"volumeMounts": [{**MOUNT, "subPathExpr": "$(A)"}]}, ("by subPath",)),
        ([VOLUME], {"volumeMounts": [MOUNT], "env": [VARIABLE]}, ("into its environment",)),
        ([], {"envFrom": [{"secretRef": {"name": "hook-tls"}}]}, ("into its environment",)),
        ([], {"env": [{"name": "A", "value": "b"}]}, ("no volume of the pod holds Secret hook-tls",)),
        ([{"name": "v", "secret": {"secretName": "other"}}], {"volumeMounts": [SUBPATH]}, ("no volume",)),
        ([VOLUME, {"name": "w", "emptyDir": {}}], {"volumeMounts": [{**SUBPATH, "name": "w"}]}, ()),
    ],
)  # fmt: skip
def test_dead_ends(volumes: list[Any], container: dict[str, Any], words: tuple[str, ...]) -> None:
    pod = {"spec": {"volumes": volumes, "containers": [{"name": "c", **container}]}}
    found = workloads.dead_ends(pod, "hook-tls")
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found))


@pytest.mark.parametrize(
    ("volumes", "containers", "expected"),
    [
        ([VOLUME], [{"volumeMounts": [SUBPATH]}], True),
        ([], [{"env": [VARIABLE]}], True),
        ([VOLUME], [{"volumeMounts": [MOUNT]}], False),
        # The program that serves may be the one with the whole mount.
        ([VOLUME], [{"volumeMounts": [MOUNT]}, {"volumeMounts": [SUBPATH]}], False),
        # It may read the Secret from the API server, as Knative's and Kyverno's do.
        ([], [{}], False),
        ([VOLUME], [{}], False),
    ],
)
def test_whether_waiting_is_in_vain(volumes: list[Any], containers: list[Any], expected: bool) -> None:
    named = [{"name": f"c{index}", **container} for index, container in enumerate(containers)]
    pod = {"spec": {"volumes": volumes, "containers": named}}
    assert workloads.is_frozen(pod, "hook-tls") is expected


@pytest.mark.parametrize(
    ("error", "done"), [(None, True), (Forbidden, False), (NotFound, False), (UnprocessableObject, False)]
)
def test_a_touch_is_no_must(error: Any, done: bool) -> None:
    api: Any = ScriptedApi()
    if error:
        api.on_write = lambda *_arguments: api_error(error)
    pod = {"metadata": {"namespace": "apps", "name": "a", "resourceVersion": "9"}}
    assert workloads.touch(api, pod, "0a") is done
    assert api.writes() == [("PATCH", "/api/v1/namespaces/apps/pods/a")]


WORKLOAD = WebhookWorkload("DaemonSet", "apps", "hook")


def test_rights_are_asked_for_where_a_restart_is() -> None:
    assert ServingOptions(WORKLOAD).permissions == []
    assert ServingOptions(None, "restart").permissions == []
    assert [
        (permission.verb, permission.resource, permission.name)
        for permission in ServingOptions(WORKLOAD, "restart").permissions
    ] == [
        ("get", "daemonsets", "hook"),
        ("patch", "daemonsets", "hook"),
    ]
