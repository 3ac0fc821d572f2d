# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that another client created, behind webhooks with failurePolicy Fail, on a real API server with default options."""

from __future__ import annotations

import base64
import contextlib
import datetime
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._operations import k8s_csr
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import clusters
from tests.support.certificates import authority
from tests.support.clusters.pki import private_pem
from tests.support.waiting import wait_for
from tests.support.world import Shape, World, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import Program

LOSS = ["foreign-secret"]
FOR_EVER = "36500d"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        clusters.running({"adopted": "local-services"}) as fleet,
        contextlib.closing(World(fleet["adopted"])) as world,
    ):
        yield world


class AdoptedSecret:
    """A webhook whose Secret another client created. Its pods read the Secret before each handshake."""

    def __init__(
        self, world: World, name: str, ca: str, *names: str, user: str = "", usage: str = ""
    ) -> None:
        self.world = world
        self.program: Program = world.one(Shape(name, bundle=(ca,), certificate=shapes.issued(ca)))
        issuer = world.ca(ca)
        service, now = f"{name}.{world.name}.svc", world.cluster.now()
        self.pair = authority.issue(
            user or service,
            authority.Issued(issuer.certificate, issuer.key),
            names=authority.dns(*names, service),
            usages=[authority.SERVER_AUTH, *filter(None, [usage])],
            not_before=now - datetime.timedelta(days=1),
            not_after=now + datetime.timedelta(days=300),
        )
        pems = {"tls.crt": self.pair.pem.encode(), "tls.key": private_pem(self.pair.key)}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "data": {key: base64.b64encode(value).decode() for key, value in pems.items()},
        }
        world.cluster.api("POST", f"{self.collection}?fieldManager=kubectl-create", secret)
        self.program.set_reloads(reloads=True)
        wait_for(self.program.is_called)

    @property
    def collection(self) -> str:
        return f"/api/v1/namespaces/{self.world.name}/secrets"

    @property
    def secret(self) -> dict[str, Any]:
        return self.world.cluster.api("GET", f"{self.collection}/{self.program.name}")

    def run(self, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        program = self.program
        arguments = {
            "service": program.name,
            "namespace": self.world.name,
            "signer_name": self.world.signer,
            "secret": {"name": program.name},
            "targets": [program.target],
            "wait_timeout": 20,
            **options,
        }
        return self.world.operate(k8s_csr.OPERATION, check_mode=check_mode, **arguments)

    def assert_kept(self) -> None:
        assert base64.b64decode(self.secret["data"]["tls.crt"]) == self.pair.pem.encode()
        assert self.program.is_called()


def test_the_certificate_of_a_team_is_kept_and_replaced_only_if_that_is_accepted(world: World) -> None:
    """It has the name that the API server verifies, a CA that only the caBundle has, and the usage of a client."""
    team = AdoptedSecret(world, "team", "team", usage=authority.CLIENT_AUTH)
    for check_mode in (True, False):
        kept = team.run(check_mode=check_mode)
        assert "failed" not in kept, kept
        team.assert_kept()
    for options, lost in (({"names": ["team"]}, "team"), ({"renew_before": FOR_EVER}, "client")):
        for check_mode in (True, False):
            refused = team.run(check_mode=check_mode, **options)
            assert (refused.get("code"), lost in refused["msg"]) == ("secret-unusable", True), refused
            team.assert_kept()
    replaced = team.run(names=["team"], accept=LOSS)
    assert replaced["changed"], replaced
    assert team.program.is_called()
    team.run(names=["team"], accept=LOSS)  # the rotation may still be open
    assert team.program.is_called()
    again = team.run(names=["team"], renew_before=FOR_EVER)
    assert again["changed"], again  # the collection issued the certificate, so no loss is refused
    assert team.program.is_called()

    content, bundle = team.secret["data"], team.program.bundle
    for check_mode in (True, False):
        refused = team.run(state="absent", check_mode=check_mode)
        assert refused.get("code") == "still-needed", refused
        assert "configmaps" in refused["msg"]
        assert (team.secret["data"], team.program.bundle) == (content, bundle)
        assert team.program.is_called()
    accepted = [{"downtime": [f"{team.program.kind}/{team.program.full_name}"]}]
    gone = team.run(state="absent", accept=accepted)
    assert gone["changed"], gone
    end = again["certificate"]["not_after"][:10]
    assert any(end in text for text in gone["warnings"]), gone
    metadata = team.secret["metadata"]
    assert team.secret["data"] == content
    assert not [key for key in metadata.get("annotations", {}) if key.startswith("certflow")]
    assert "app.kubernetes.io/managed-by" not in metadata.get("labels", {})
    assert not team.run(state="absent")["changed"]


def test_a_secret_by_create_cert_sh_is_kept_before_and_after_its_first_renewal(world: World) -> None:
    service = f"script.{world.name}"
    user = f"system:node:{service}.svc;"
    script = AdoptedSecret(world, "script", "cluster", "script", service, user=user)
    kept = script.run()
    assert "failed" not in kept, kept
    script.assert_kept()
    renewed = script.run(renew_before=FOR_EVER)
    assert renewed["changed"], renewed
    assert script.program.is_called()
    content = script.secret["data"]
    assert base64.b64decode(content["tls.crt"]) != script.pair.pem.encode()
    world.cluster.api("DELETE", script.program.path)
    gone = script.run(state="absent")
    assert gone["changed"], gone
    assert script.secret["data"] == content


def test_a_secret_that_the_collection_created_is_deleted_after_renewals(world: World) -> None:
    own = world.one(Shape("own", certificate=shapes.OURS, bundle=None))
    wait_for(own.is_called)
    path = f"/api/v1/namespaces/{world.name}/secrets/own"
    mark = "certflow.kubernetes/created"
    first = world.cluster.api("GET", path)["metadata"]["annotations"][mark]
    time.sleep(1.1)  # a certificate of the same second would not last longer
    assert world.renew(own, renew_before=FOR_EVER)["changed"]
    assert own.is_called()
    assert world.cluster.api("GET", path)["metadata"]["annotations"][mark] != first
    world.cluster.api("DELETE", own.path)
    assert world.renew(own, state="absent")["changed"]
    assert "not found" in world.ask("GET", path)


def run(world: World, name: str, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    """Run a task for a Secret without pods."""
    arguments = {
        "service": name,
        "namespace": world.name,
        "signer_name": world.signer,
        "secret": {"name": name},
        **options,
    }
    return world.operate(k8s_csr.OPERATION, check_mode=check_mode, **arguments)


def stored(world: World, name: str, copy: str = "", **data: str) -> tuple[str, dict[str, Any]]:
    """Let the collection create a Secret, and another client replace keys of its data, or copy it. Return the path and the content."""
    assert "failed" not in run(world, name)
    collection = f"/api/v1/namespaces/{world.name}/secrets"
    obj = world.cluster.api("GET", f"{collection}/{name}")
    obj["data"] |= {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    metadata = {key: obj["metadata"][key] for key in ("labels", "annotations")} | {"name": copy or name}
    method, path = ("POST", collection) if copy else ("PUT", f"{collection}/{name}")
    world.cluster.api(method, f"{path}?fieldManager=kubectl-replace", {**obj, "metadata": metadata})
    return f"{collection}/{copy or name}", obj["data"]


def test_what_another_client_stores_in_a_created_secret_is_its_own(world: World) -> None:
    """The marks of this collection are still there, as after kubectl apply."""
    now, issuer = world.cluster.now(), world.ca("team")
    pair = authority.issue(
        "team",
        authority.Issued(issuer.certificate, issuer.key),
        names=authority.dns(f"swapped.{world.name}.svc"),
        usages=[authority.SERVER_AUTH, authority.CLIENT_AUTH],
        not_before=now - datetime.timedelta(days=1),
        not_after=now + datetime.timedelta(days=300),
    )
    pems = {"tls.crt": pair.pem, "tls.key": private_pem(pair.key).decode()}
    clients = world.ca("clients").certificate.public_bytes(Encoding.PEM).decode()
    rows: list[tuple[str, dict[str, str], dict[str, Any], str]] = [
        ("swapped", pems, {"renew_before": FOR_EVER}, "client"),
        ("waiting", {**pems, "tls.crt": ""}, {}, "private key"),
        ("unreadable", {**pems, "tls.crt": "encrypted"}, {}, "private key"),
        ("beside", {"ca.crt": clients}, {"state": "absent"}, ""),
        ("copied", {"copy": "copied-by-hand"}, {"state": "absent", "secret": {"name": "copied-by-hand"}}, ""),
    ]
    for name, data, options, lost in rows:
        path, content = stored(world, name, **data)
        for check_mode in (True, False):
            result = run(world, name, check_mode=check_mode, **options)
            assert lost in result.get("msg", ""), result
            assert result.get("code") == ("secret-unusable" if lost else None), result
        removed = run(world, name, state="absent", secret={"name": path.rpartition("/")[2]})
        assert "failed" not in removed, removed
        assert world.cluster.api("GET", path)["data"] == content
