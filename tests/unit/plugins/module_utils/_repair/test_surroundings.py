# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read around a finding, where others write the names and the objects."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any, cast

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import Forbidden
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair import proof_calls
from ansible_collections.certflow.kubernetes.plugins.module_utils._repair.surroundings import (
    Surroundings,
    SurroundingsReader,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.served_chains import (
    ServedChain,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._webhook.endpoints.webhook_endpoints import (
    Endpoint,
)

from .test_plans import NEW, OLD, case_of, configuration, leaf, published, served

HOOK = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/example"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Api:
    """The objects of a cluster by path, and the paths that were read."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects
        self.asked: list[str] = []
        self.deadline = time.monotonic() + 60

    def find(self, path: str) -> Any:
        self.asked.append(path)
        answer = self.objects.get(path)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def list_all(self, _path: str, _query: Any) -> Any:
        return {"items": []}


def secret(namespace: str, name: str) -> dict[str, Any]:
    data = {"ca.crt": NEW.pem, "tls.key": "PRIVATE"}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    notes = {APPLIED: "PRIVATE", "other": "kept"}
    return {"metadata": {"namespace": namespace, "name": name, "annotations": notes}, "data": encoded}


def controlled_by(kind: str, name: str) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": True}
    return {"namespace": "demo", "ownerReferences": [owner]}


def read(secret_name: str, *objects: tuple[str, Any], controller: str = "") -> tuple[Surroundings, Api]:
    obj = configuration(OLD.pem)
    volumes = [{"secret": {"secretName": secret_name}}]
    metadata = controlled_by("ReplicaSet", controller) if controller else {"namespace": "demo"}
    pod = {"metadata": {**metadata, "name": "pod0"}, "spec": {"volumes": volumes}}
    api = Api({HOOK: obj, "/api/v1/namespaces/demo/pods/pod0": pod, **dict(objects)})
    case = case_of(obj, served(leaf(NEW)), published=published(NEW))
    reader = SurroundingsReader(cast("Client", api))
    reader.read(case.data, case.point)
    return reader.read(case.data, case.point), api


@pytest.mark.parametrize("name", ["../../evil/secrets/tls", "tls/status", ".."])
def test_the_name_of_a_volume_leads_to_no_other_namespace(name: str) -> None:
    around, api = read(name, (f"/api/v1/namespaces/demo/secrets/{name}", secret("evil", "tls")))
    assert around.secrets == ()
    assert not any(name in path.split("/secrets/")[-1:] for path in api.asked)


def test_a_secret_loses_what_may_hold_its_key() -> None:
    around, _api = read("tls", ("/api/v1/namespaces/demo/secrets/tls", secret("demo", "tls")))
    assert around.published[0].pem == NEW.pem
    assert "PRIVATE" not in repr(around)


@pytest.mark.parametrize("name", ["tls", "../evil"])
def test_what_a_pod_mounts_and_this_identity_may_not_read(name: str) -> None:
    """A Secret that does not exist, or that no kubelet can mount, is not served."""
    place = f"/api/v1/namespaces/demo/secrets/{name}"
    around, _api = read(name, (place, Forbidden("no permission", status=403)))
    assert [text.partition(",")[0] for text in around.unread] == ["Secret demo/tls"] * (name == "tls")
    assert read(name)[0].unread == ()


@pytest.mark.parametrize(
    ("answer", "unread"),
    [(None, []), (Forbidden("no permission", status=403), ["Pod demo/late"]), ("pod", [])],
)
def test_the_secret_of_a_pod_that_is_not_ready(answer: Any, unread: list[str]) -> None:
    """It is no source of a CA. The pod serves it when it is ready."""
    volumes = [{"secret": {"secretName": "late"}}]
    pod = {"metadata": {"namespace": "demo", "name": "late"}, "spec": {"volumes": volumes}}
    objects = {
        HOOK: configuration(OLD.pem),
        "/api/v1/namespaces/demo/pods/late": pod if answer == "pod" else answer,
        "/api/v1/namespaces/demo/secrets/late": secret("demo", "late"),
    }
    late = ServedChain(Endpoint("10.0.0.2", 8443, ("demo", "late"), state="not ready"), problem="it refuses")
    backend = replace(served(leaf(NEW)), unready=1, unready_chains=(late,))
    case = case_of(objects[HOOK], backend, published=published(NEW))
    around = SurroundingsReader(cast("Client", Api(objects))).read(case.data, case.point)
    assert [entry.name for entry in around.later_secrets] == ["late"] * (answer == "pod")
    assert [text.partition(",")[0] for text in around.unread] == unread
    assert (around.secrets, [entry for entry in around.published if "late" in entry.source]) == ((), [])


def test_the_published_ca_of_the_cluster_is_that_of_kube_system() -> None:
    _around, api = read("tls")
    places = [path for path in api.asked if path.endswith("/configmaps/kube-root-ca.crt")]
    assert places == ["/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt"]


def test_each_object_is_read_once() -> None:
    _around, api = read("tls")
    assert HOOK in api.asked
    assert len(api.asked) == len(set(api.asked))


@pytest.mark.parametrize(
    ("owner", "expected"), [(("Deployment", "app"), "Deployment"), (("ReplicaSet", "rs"), None)]
)
def test_the_workload_of_a_replica_set(owner: tuple[str, str], expected: str | None) -> None:
    root = "/apis/apps/v1/namespaces/demo"
    metadata = {**controlled_by(*owner), "name": "rs", "uid": "rs"}
    deployment = {"metadata": {"namespace": "demo", "name": "app", "uid": "app"}}
    objects = (
        (f"{root}/replicasets/rs", {"metadata": metadata}),
        (f"{root}/deployments/app", deployment),
    )
    around, _api = read("tls", *objects, controller="rs")
    assert (around.workload or {}).get("kind") == expected


@pytest.mark.parametrize(
    ("bundle", "chains", "left", "count"),
    [
        ("", [leaf(NEW)], 60, 1),
        ("", [leaf(NEW)], -1, 0),  # each further look would take a second more
        (
            "",
            [leaf(NEW), None],
            60,
            0,
        ),  # the certificate of each endpoint is missing for a plan, whatever the call shows
        (OLD.pem, [leaf(NEW)], 60, 0),
    ],
)
def test_the_call_that_a_plan_needs(
    bundle: str, chains: list[Any], left: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj = configuration(bundle)
    backend = served(*filter(None, chains))
    mute = replace(backend.chains[0], chain_pem="", certificate=None, problem="it does not answer")
    backend = replace(backend, ready=len(chains), chains=(*backend.chains, mute)[: len(chains)])
    case = case_of(obj, backend, published=published(NEW))
    asked: list[Any] = []

    def refuse(*about: Any) -> proof_calls.CallAnswer:
        asked.append(about)
        return proof_calls.CallAnswer(False, ())

    monkeypatch.setattr(proof_calls, "probe", refuse)
    api = Api({HOOK: obj})
    api.deadline = time.monotonic() + left
    around = SurroundingsReader(cast("Client", api)).read(case.data, case.point)
    assert (len(asked), around.is_refused) == (count, bool(count))
