# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against a stand-in server: repeated requests, requests sent once, and the errors."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube import client as client_module
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.client import Client
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    NotFound,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login import connection, transport
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.connection import (
    Connection,
    ExecPlugin,
)
from ansible_collections.certflow.kubernetes.plugins.module_utils._kube.login.transport import (
    ReadLimits,
    proxy_for,
)

from tests.support.api_server import LOST, ScriptedAnswer, ScriptedServer, serving
from tests.support.certificates import server_pki as pki
from tests.support.failures import fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUSY = ScriptedAnswer(429, {"kind": "Status", "reason": "TooManyRequests"}, (("Retry-After", "1"),))
BROKEN = ScriptedAnswer(
    500, {"kind": "Status", "reason": "InternalError", "message": "etcdserver: leader changed"}
)
CONFLICT = ScriptedAnswer(409, {"kind": "Status", "reason": "Conflict"})
DONE = ScriptedAnswer(200, {"kind": "Done"})
PATH = "/api/v1/things/x"


MADE: list[Client] = []


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test without the proxies of the environment, and close its clients."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    yield
    while MADE:
        MADE.pop().close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted, and pass at once: the clock jumps."""
    noted: list[float] = []
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(noted))
    monkeypatch.setattr(time, "sleep", noted.append)
    return noted


def client(server: ScriptedServer | str, seconds: float = 120, **fields: Any) -> Client:
    host = server if isinstance(server, str) else server.url
    connection = Connection(host=host, auth_source="kubeconfig /k, context c", **{"token": "t", **fields})
    MADE.append(Client(connection, user_agent="test/1", deadline=time.monotonic() + seconds))
    return MADE[-1]


def create(own: Client) -> dict[str, Any]:
    return own.create("/api/v1/things", {"kind": "Thing"})


def test_request() -> None:
    with serving(DONE) as server:
        own = client(server, impersonate_user="me", impersonate_groups=("g", "h"))
        assert own.get(PATH, {"limit": "1"}) == {"kind": "Done"}
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", f"{PATH}?limit=1")
    expected = {
        "authorization": ["Bearer t"],
        "user-agent": ["test/1"],
        "impersonate-user": ["me"],
        "impersonate-group": ["g", "h"],
    }
    assert {name: request.headers.get(name) for name in expected} == expected


def _ask(own: Client, path: str) -> None:
    own.get(path)


def test_hooks_run_in_turn_before_each_request_except_their_own() -> None:
    with serving(DONE) as server:
        own = client(server)
        own.hooks += [partial(_ask, own, "/first"), partial(_ask, own, "/second")]
        own.get(PATH)
        with own.without_hooks():
            own.get(PATH)
        own.get(PATH)
    each = ["GET /first", "GET /second", f"GET {PATH}"]
    assert server.paths() == [*each, f"GET {PATH}", *each]


def test_a_hook_refuses_every_request() -> None:
    def refuse() -> None:
        raise Forbidden("no", status=403)

    with serving(DONE) as server:
        own = client(server)
        own.hooks.append(refuse)
        for _ in range(2):
            with pytest.raises(Forbidden):
                own.get(PATH)
    assert server.requests == []


def test_hooks_run_after_the_exec_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    with serving(DONE) as server:
        own = client(server)
        monkeypatch.setattr(own._credentials, "header", lambda _seconds: order.append("plugin"))
        own.hooks.append(lambda: order.append("hook"))
        own.get(PATH)
        list(own.watch(PATH, {}, seconds=1.0))
    assert order == ["plugin", "hook"] * 2


def test_a_client_for_a_thread_has_its_own_connection_and_the_same_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(DONE) as server:
        own = client(server)
        own.get(PATH)
        own.hooks.append(lambda: pytest.fail("a hook of another thread"))
        monkeypatch.setattr(own._credentials, "header", lambda _seconds: "Bearer renewed")
        other = own.for_thread()
        other.get(PATH)
        other.close()
    assert [request.headers["authorization"] for request in server.requests] == [
        ["Bearer t"],
        ["Bearer renewed"],
    ]
    assert server.connections == 2


WRITES: dict[str, tuple[Callable[[Client], Any], str, Any]] = {
    "create": (lambda c: c.create("/p", {"a": 1}), "POST /p", {"a": 1}),
    "create, dry run": (lambda c: c.create("/p", {"a": 1}, dry_run=True), "POST /p?dryRun=All", {"a": 1}),
    "replace": (lambda c: c.replace("/p", {"a": 1}), "PUT /p", {"a": 1}),
    "replace, dry run": (lambda c: c.replace("/p", {"a": 1}, dry_run=True), "PUT /p?dryRun=All", {"a": 1}),
    "patch": (lambda c: c.patch("/p", [{"op": "add"}]), "PATCH /p", [{"op": "add"}]),
    "patch, dry run": (lambda c: c.patch("/p", [{"op": "add"}], dry_run=True), "PATCH /p?dryRun=All", [{"op": "add"}]),
    "delete": (lambda c: c.delete("/p", uid="u"), "DELETE /p", {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}}),
    "delete, dry run": (
        lambda c: c.delete("/p", dry_run=True),
        "DELETE /p?dryRun=All",
        {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {}, "dryRun": ["All"]},
    ),
    "delete, what it owns stays": (
        lambda c: c.delete("/p", propagation="Orphan"),
        "DELETE /p",
        {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {}, "propagationPolicy": "Orphan"},
    ),
    "apply": (lambda c: c.apply("/p", {"a": 1}, manager="me"), "PATCH /p?fieldManager=me&force=true", {"a": 1}),
    "apply, dry run": (lambda c: c.apply("/p", {"a": 1}, manager="me", dry_run=True), "PATCH /p?fieldManager=me&force=true&dryRun=All", {"a": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_write(name: str) -> None:
    call, request, body = WRITES[name]
    with serving(DONE) as server:
        own = client(server)
        call(own)
    assert server.paths() == [request]
    assert json.loads(server.requests[0].body) == body
    kinds = {"patch": "application/json-patch+json", "apply": "application/apply-patch+yaml"}
    kind = kinds.get(name.partition(",")[0], "application/json")
    assert server.requests[0].headers["content-type"] == [kind]
    assert own.written == ([] if "dry" in name else [request.partition("?")[0]])


def test_review_is_no_write() -> None:
    with serving(DONE) as server:
        own = client(server)
        own.review("/reviews", {"a": 1})
    assert own.written == []
    assert server.paths() == ["POST /reviews"]


def test_one_connection_is_kept() -> None:
    with serving(DONE) as server:
        own = client(server)
        for _again in range(3):
            own.get(PATH)
    assert server.connections == 1


def test_find() -> None:
    with serving(ScriptedAnswer(404, {"kind": "Status", "reason": "NotFound"})) as server:
        own = client(server)
        assert own.find(PATH) is None
        with pytest.raises(NotFound):
            own.get(PATH)


def test_paging() -> None:
    pages = [
        ScriptedAnswer(body={"metadata": {"resourceVersion": "7", "continue": "c1"}, "items": [1, 2]}),
        ScriptedAnswer(body={"metadata": {"resourceVersion": "7", "continue": "c2"}, "items": None}),
        ScriptedAnswer(body={"metadata": {"resourceVersion": "8", "continue": ""}, "items": [3]}),
    ]
    with serving(*pages) as server:
        own = client(server)
        page = own.list_all("/p", {"labelSelector": "a=b"})
    assert (page["items"], page["metadata"]["resourceVersion"]) == ([1, 2, 3], "7")
    first = "GET /p?limit=500&labelSelector=a%3Db"
    assert server.paths() == [first, f"{first}&continue=c1", f"{first}&continue=c2"]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/p/a b", "/p/a%20b"),
        ("/p/a?b#c", "/p/a%3Fb%23c"),
        ("/p/system:node", "/p/system%3Anode"),
        ("/p/\ud800", "/p/%3F"),
    ],
)
def test_names_cannot_change_the_request(path: str, sent: str) -> None:
    with serving(DONE) as server:
        own = client(server)
        own.get(path)
    assert server.paths() in ([f"GET {sent}"], [f"GET {path}"] if sent.endswith("%3Anode") else [])


def test_a_selector_that_has_no_encoding() -> None:
    with serving(DONE) as server:
        client(server).get("/p", {"labelSelector": "a=\ud800"})
    assert server.paths() == ["GET /p?labelSelector=a%3D%3F"]


@pytest.mark.parametrize("path", ["/p/..", "/p/../q", "/p/./q"])
def test_names_cannot_lead_elsewhere(path: str) -> None:
    with serving(DONE) as server, pytest.raises(ConfigurationError):
        client(server).get(path)
    assert server.requests == []


# What the server answers -> how many requests it sees for a read and for a create, and how it ends.
RETRIES: dict[str, tuple[list[ScriptedAnswer], int, int]] = {
    "429 was not processed: both are sent again": ([BUSY, BUSY, DONE], 3, 3),
    "500 may have been: only a read is sent again": ([BROKEN, DONE], 2, 1),
    "503": ([ScriptedAnswer(503, b"<html>"), DONE], 2, 1),
    "a lost answer": ([LOST, DONE], 2, 1),
    "half of an object": ([ScriptedAnswer(200, b'{"kind": "Thing", "metadata": {"na'), DONE], 2, 1),
    "half of an error": ([ScriptedAnswer(404, b'{"kind": "Status", "message": "secrets \\"hook'), DONE], 2, 1),
    "an object of a gateway": ([ScriptedAnswer(404, {"error": "no route"}), DONE], 1, 1),
    "a good status and nothing else": ([ScriptedAnswer(200, b""), DONE], 2, 1),
    "a page of a proxy": ([ScriptedAnswer(200, b"<html>sign in"), DONE], 1, 1),
    "an error that stays": ([CONFLICT, DONE], 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RETRIES)
def test_retries(name: str, pauses: list[float]) -> None:
    answers, reads, creates = RETRIES[name]
    for call, count in ((lambda own: own.get(PATH), reads), (create, creates)):
        with serving(*answers) as server:
            own = client(server)
            if count == len(answers):
                assert call(own) == {"kind": "Done"}
            else:
                with pytest.raises((ApiError, ConnectionFailed)):
                    call(own)
        assert len(server.requests) == count


REPEATABLE: dict[str, Callable[[Client], Any]] = {
    **{name: WRITES[name][0] for name in ("replace", "patch", "delete", "create, dry run")},
    "create of an object that the caller knows again": lambda c: c.create("/p", {}, idempotent=True),
    "review": lambda c: c.review("/p", {}),
}


@pytest.mark.parametrize("name", REPEATABLE)
def test_writes_that_may_be_repeated(name: str, pauses: list[float]) -> None:
    """They carry a resourceVersion, a UID, or write nothing: a second time does no harm."""
    with serving(LOST, BROKEN, DONE) as server:
        own = client(server)
        REPEATABLE[name](own)
    assert len(server.requests) == 3


UNCERTAIN: dict[str, tuple[ScriptedAnswer, Callable[[Client], Any], str]] = {
    "a create": (LOST, lambda own: own.create("/p", {}), "POST /p"),
    "after all repetitions": (BROKEN, lambda own: own.patch("/p", []), "PATCH /p"),
    "half of an answer": (ScriptedAnswer(200, b"{"), lambda own: own.delete("/p"), "DELETE /p"),
    "it was refused": (CONFLICT, lambda own: own.replace("/p", {}), ""),
    "it was not processed": (BUSY, lambda own: own.replace("/p", {}), ""),
    "a read": (LOST, lambda own: own.get("/p"), ""),
    "a question": (LOST, lambda own: own.review("/p", {}), ""),
    "a dry run": (LOST, lambda own: own.patch("/p", [], dry_run=True), ""),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_write_that_may_have_taken_effect_is_said(name: str, pauses: list[float]) -> None:
    answer, call, request = UNCERTAIN[name]
    with serving(answer) as server:
        own = client(server, seconds=5)
        with pytest.raises((ConnectionFailed, ApiError)) as caught:
            call(own)
    words = (f"{request} was sent. It is not known if it took effect",) if request else ()
    assert caught.value.evidence == words
    assert own.written == []


def test_what_is_certain_in_the_end_is_not_doubted(pauses: list[float]) -> None:
    """The answer was lost, and the next one says how it stands: callers look again after a conflict."""
    with serving(LOST, DONE) as server:
        own = client(server)
        own.patch("/p", [])
    assert own.written == ["PATCH /p"]


@pytest.mark.parametrize("status", [403, 404])
def test_the_page_of_a_load_balancer_says_nothing_of_an_object(status: int) -> None:
    """A proxy's answer does not prove that a Secret does not exist or is forbidden."""
    with serving(ScriptedAnswer(status, b"<html><h1>default backend</h1>")) as server:
        own = client(server)
        with fails("api-error", "<html><h1>default") as caught:
            own.find(PATH)
    assert not isinstance(caught.value, (NotFound, Forbidden))


EXPIRED = ScriptedAnswer(
    410, {"kind": "Status", "reason": "Expired", "message": "The provided continue parameter is too old"}
)


@pytest.mark.parametrize(
    "page",
    [
        {"error": "login required"},
        {"items": 5},
        {"items": [], "metadata": "x"},
    ],
)
def test_other_json_is_not_an_empty_list(page: dict[str, Any]) -> None:
    with (
        serving(ScriptedAnswer(body=page)) as server,
        fails("api-error", "/p"),
    ):
        client(server).list_all("/p")


def test_other_json_after_pages_that_are_not_kept_is_not_an_empty_list() -> None:
    first = ScriptedAnswer(body={"metadata": {"continue": "c1"}, "items": [1]})
    with (
        serving(first, EXPIRED, ScriptedAnswer(body={"error": "login required"})) as server,
        fails("api-error", "/p") as caught,
    ):
        client(server).list_all("/p")
    assert isinstance(caught.value, ApiError)  # a program that goes on without a list goes on


def test_a_list_of_go_without_items_is_empty() -> None:
    with serving(ScriptedAnswer(body={"items": None, "metadata": None})) as server:
        assert client(server).list_all("/p")["items"] == []


def test_a_path_that_the_server_does_not_know() -> None:
    """Older servers lack whole groups; the answer is Go's own, and no object."""
    with serving(ScriptedAnswer(404, b"404 page not found\n")) as server:
        assert client(server).find("/apis/networking.k8s.io/v1/servicecidrs") is None


def test_pages_that_are_not_kept_any_more() -> None:
    first = ScriptedAnswer(body={"metadata": {"resourceVersion": "7", "continue": "c1"}, "items": [1]})
    everything = ScriptedAnswer(body={"metadata": {"resourceVersion": "9"}, "items": [1, 2]})
    with serving(first, EXPIRED, everything) as server:
        page = client(server).list_all("/p", {"labelSelector": "a=b"})
    assert (page["items"], page["metadata"]["resourceVersion"]) == ([1, 2], "9")
    assert server.paths()[-1] == "GET /p?labelSelector=a%3Db"


def test_retry_after_is_kept(pauses: list[float]) -> None:
    with serving(BUSY._replace(headers=(("Retry-After", "30"),)), DONE) as server:
        own = client(server)
        own.get(PATH)
    assert pauses == [30.0]


def test_first_answer_counts_as_contact(pauses: list[float]) -> None:
    """A busy server is waited for until the deadline, also when its very first answer says so."""
    with serving(*[BUSY] * 12, DONE) as server:
        own = client(server)
        own.get(PATH)
    assert sum(pauses) > 10


def test_deadline(pauses: list[float]) -> None:
    with serving(BROKEN) as server:
        own = client(server, seconds=20)
        with fails("api-error") as caught:
            own.get(PATH)
    assert isinstance(caught.value, ApiError)
    assert caught.value.message == BROKEN.body["message"]
    assert 9 < sum(pauses) <= 20
    assert pauses == sorted(pauses)


def test_broken_webhook_ends_at_once(pauses: list[float]) -> None:
    message = 'failed calling webhook "h": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    with serving(
        ScriptedAnswer(500, {"kind": "Status", "reason": "InternalError", "message": message})
    ) as server:
        own = client(server)
        with fails("api-error", "x509:"):
            own.replace("/p", {})
    assert len(server.requests) == 1


def test_warnings() -> None:
    answer = ScriptedAnswer(headers=(("Warning", '299 - "v1beta1 is deprecated"'),))
    with serving(answer) as server:
        own = client(server)
        own.get(PATH)
        own.get(PATH)
    assert own.warnings == ["v1beta1 is deprecated"]


@pytest.mark.parametrize(
    "answer",
    [
        ScriptedAnswer(200, b"<html>sign in"),
        ScriptedAnswer(200, []),
        ScriptedAnswer(302, b"", (("Location", "https://x"),)),
    ],
)
def test_not_an_api_server(answer: ScriptedAnswer) -> None:
    with serving(answer) as server:
        own = client(server)
        with pytest.raises(ApiError):
            own.get(PATH)


def test_redirects_are_not_followed() -> None:
    """A token must not travel to another server."""
    with serving(DONE) as other, serving(ScriptedAnswer(307, b"", (("Location", other.url),))) as server:
        own = client(server)
        with fails("api-error", "307"):
            own.get(PATH)
    assert other.requests == []


def plugin(directory: Path, *statuses: dict[str, str]) -> ExecPlugin:
    """Prints one status after the other, the last one again and again."""
    (directory / "statuses").write_text(json.dumps(statuses))
    program = directory / "plugin"
    program.write_text(
        f"#!{sys.executable}\nimport json\nfile = open({str(directory / 'statuses')!r}, 'r+')\nleft = json.load(file)\n"
        "file.seek(0)\nfile.truncate()\njson.dump(left[1:] or left, file)\n"
        "print(json.dumps({'apiVersion': 'v1', 'kind': 'ExecCredential', 'status': left[0]}))\n"
    )
    program.chmod(0o700)
    return ExecPlugin({"apiVersion": "v1", "command": str(program)})


def test_token_is_renewed_once_after_401(tmp_path: Path) -> None:
    refusal = ScriptedAnswer(401, {"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized"})
    with serving(refusal, DONE, refusal) as server:
        own = client(server, token=None, exec_plugin=plugin(tmp_path, {"token": "1"}, {"token": "2"}))
        assert create(own) == {"kind": "Done"}
        with fails("authentication-failed", "/k,"):
            own.get(PATH)
    tokens = [request.headers["authorization"][0][-1] for request in server.requests]
    assert tokens == ["1", "2", "2", "2"]


def test_fixed_token_is_not_tried_again() -> None:
    with serving(ScriptedAnswer(401, {"kind": "Status"})) as server:
        own = client(server)
        with pytest.raises(AuthenticationError):
            own.get(PATH)
    assert len(server.requests) == 1


def test_certificates_of_a_plugin(tmp_path: Path) -> None:
    """The second one replaces the first in a new handshake."""
    ca = pki.ca()
    pairs = [pki.leaf(name, ca) for name in ("first", "second")]
    statuses = [{"clientCertificateData": pair.certificate, "clientKeyData": pair.key} for pair in pairs]
    refusal = ScriptedAnswer(401, {"kind": "Status"})
    with serving(DONE, refusal, DONE, tls=pki.leaf("server", ca), client_ca=ca.certificate) as server:
        own = client(server, token=None, ca_pem=ca.certificate, exec_plugin=plugin(tmp_path, *statuses))
        own.get(PATH)
        own.get(PATH)
    assert [request.client for request in server.requests] == ["first", "first", "second"]


def test_client_certificate() -> None:
    ca = pki.ca()
    me = pki.leaf("me", ca)
    fields: dict[str, Any] = {
        "token": None,
        "client_certificate": me.certificate,
        "client_key": me.key,
        "ca_pem": ca.certificate,
    }
    with serving(DONE, tls=pki.leaf("server", ca), client_ca=ca.certificate) as server:
        own = client(server, **fields)
        own.get(PATH)
    assert server.requests[0].client == "me"
    assert "authorization" not in server.requests[0].headers


def test_wrong_ca(pauses: list[float]) -> None:
    server_certificate = pki.leaf("server", pki.ca())
    with serving(DONE, tls=server_certificate) as server:
        own = client(server, ca_pem=pki.ca("another CA").certificate)
        with fails("cluster-ca-unknown", "/k") as caught:
            own.get(PATH)
    assert "_ssl.c" not in str(caught.value)
    assert pauses == []  # it does not pass by itself
    assert server.requests == []


@pytest.mark.parametrize(
    ("host", "command", "program"),
    [
        ("https://0A1B.gr7.eu-west-1.eks.amazonaws.com", "", "aws"),
        ("https://proxy.example", "/usr/local/bin/aws", "aws"),
        ("https://shop.hcp.westeurope.azmk8s.io:443", "", "az"),
        ("https://proxy.example", "kubelogin", "az"),
        ("https://gke-0a1b.europe-west4.gke.goog", "", "gcloud"),
        ("https://proxy.example", "gke-gcloud-auth-plugin", "gcloud"),
        ("https://eks.amazonaws.com.example", "aws-vault", "Copy"),
    ],
)
def test_the_command_that_fetches_the_new_ca(host: str, command: str, program: str) -> None:
    exec_plugin = ExecPlugin({"command": command}) if command else None
    error = connection.unknown_ca(Connection(host, "x", exec_plugin=exec_plugin), "")
    assert f"fetch the new one: {program} " in error.remedy


# The numbers of the CAs in a bundle, all of one name. The server has a certificate of number 1.
BUNDLES = [(1, 2), (2, 1), (2, 3, 1), (2, 1, 3)]


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("ca_has_ids", [True, False])
@pytest.mark.parametrize("leaf_has_ids", [True, False])
def test_cas_of_one_name(
    bundle: tuple[int, ...], ca_has_ids: bool, leaf_has_ids: bool, pauses: list[float]
) -> None:
    """A CA that was rotated with a new key has the name of its successor. Go tries each of them."""
    made = {number: pki.ca("one name", number, has_ids=ca_has_ids) for number in bundle}
    text = "".join(made[number].certificate for number in bundle)
    server_certificate = pki.leaf("server", made[1], has_ids=leaf_has_ids)
    with serving(*[DONE] * 3, tls=server_certificate) as server:
        own = client(server, ca_pem=text)
        assert own.get(PATH) == own.get(PATH) == {"kind": "Done"}
        own.close()
        assert own.get(PATH) == {"kind": "Done"}
        with own.dial(ReadLimits("x", until=time.monotonic() + 10)) as connection:
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.getpeercert()
    assert pauses == []


def test_a_server_behind_an_address_may_have_a_certificate_of_the_other_ca(pauses: list[float]) -> None:
    """Two API servers behind a load balancer during a rotation of the CA."""
    made = {number: pki.ca("one name", number, has_ids=False) for number in (1, 2)}
    text = "".join(pair.certificate for pair in made.values())
    own: Client | None = None
    for number in (2, 1, 2):
        with serving(DONE, tls=pki.leaf("server", made[number], has_ids=False)) as server:
            own = own or client(server, ca_pem=text)
            own.host = server.url  # the next connection reaches another machine
            assert own.get(PATH) == {"kind": "Done"}
    assert pauses == []


@pytest.mark.parametrize("ca_has_ids", [True, False])
def test_no_ca_of_that_name_is_the_right_one(ca_has_ids: bool, pauses: list[float]) -> None:
    others = "".join(pki.ca("one name", number, has_ids=ca_has_ids).certificate for number in (2, 3))
    right = pki.ca("one name", 1, has_ids=ca_has_ids)
    with serving(DONE, tls=pki.leaf("server", right, has_ids=ca_has_ids)) as server:
        own = client(server, ca_pem=others)
        with fails("cluster-ca-unknown"):
            own.get(PATH)
        with pytest.raises(ssl.SSLCertVerificationError):
            own.dial(ReadLimits("x", until=time.monotonic() + 10))
    assert (pauses, server.requests) == ([], [])


def test_each_ca_of_a_bundle_is_tried_only_where_it_matters() -> None:
    ca, other = pki.ca("one name", 1).certificate, pki.ca("one name", 2).certificate
    entry, both = (Connection("https://x", "x", ca_pem=text) for text in (ca, f"# old\n{ca}# new\n{other}"))
    assert list(transport.each_authority(entry)) == [entry]
    assert list(transport.each_authority(replace(both, verify=False))) == [replace(both, verify=False)]
    assert list(transport.each_authority(replace(entry, ca_pem=None))) == [replace(entry, ca_pem=None)]
    whole, *parts = transport.each_authority(both)
    assert whole == both
    assert [f"{part.ca_pem}\n" for part in parts] == [ca, other]
    assert (
        len(list(transport.each_authority(replace(entry, ca_pem=ca * 99)))) == 1 + transport.MOST_AUTHORITIES
    )


@pytest.mark.parametrize(("name", "accepted"), [("api.example", True), ("other.example", False)])
def test_tls_server_name(name: str, accepted: bool) -> None:
    ca = pki.ca()
    with serving(DONE, tls=pki.leaf("server", ca, "api.example")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        own = client(url, ca_pem=ca.certificate, tls_server_name=name)
        if accepted:
            assert own.get(PATH) == {"kind": "Done"}
        else:
            with fails("server-untrusted", "other.example"):
                own.get(PATH)


def test_wrong_host_name() -> None:
    ca = pki.ca()
    with serving(DONE, tls=pki.leaf("server", ca)) as server:
        own = client(server.url.replace("127.0.0.1", "localhost"), ca_pem=ca.certificate)
        with fails("server-untrusted"):
            own.get(PATH)


def test_without_verification(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(DONE, tls=pki.leaf("server", pki.ca())) as server:
        own = client(server, verify=False)
        assert own.get(PATH) == {"kind": "Done"}
    assert capfd.readouterr() == ("", "")


def test_no_tls_there(pauses: list[float]) -> None:
    """Not the certificate's fault, and said so."""
    with serving(DONE) as server:
        own = client(server.url.replace("http:", "https:"))
        with fails("unreachable"):
            own.get(PATH)


def test_a_closed_port(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and no listen
        own = client(f"https://127.0.0.1:{closed.getsockname()[1]}")
        with fails("unreachable", "refused") as caught:
            own.get(PATH)
    assert "0x" not in caught.value.cause
    assert caught.value.evidence == ()
    assert 1 < sum(pauses) <= client_module.FIRST_CONTACT_SECONDS


def test_a_server_that_answered_before_is_waited_for(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        own = client(f"https://127.0.0.1:{closed.getsockname()[1]}")
        own._answered, own._broken_at = True, time.monotonic()
        with pytest.raises(ConnectionFailed):
            own.get(PATH)
    assert sum(pauses) > client_module.FIRST_CONTACT_SECONDS


def test_a_server_that_answered_before_may_not_have_read_its_roles_yet(pauses: list[float]) -> None:
    refusal = ScriptedAnswer(403, {"kind": "Status", "reason": "Forbidden", "message": "forbidden"})
    with serving(refusal, refusal, DONE, refusal) as server:
        own = client(server)
        own._answered, own._broken_at = True, time.monotonic()
        assert own.get(PATH) == {"kind": "Done"}
        with pytest.raises(Forbidden):
            own.get(PATH)
    assert client_module.STARTING_SECONDS <= sum(pauses) < 2 * client_module.STARTING_SECONDS


def test_create_is_repeated_where_it_was_never_sent(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        own = client(f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ConnectionFailed) as caught:
            create(own)
    assert pauses
    assert caught.value.evidence == ()


def test_name_that_does_not_resolve(pauses: list[float]) -> None:
    with fails("unreachable"):
        client("https://api.certflow.invalid:6443").get(PATH)


def test_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = client(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0)
        with fails("unreachable", "timed"):
            own.get(PATH)


@pytest.mark.full
def test_silent_server_by_the_real_clock() -> None:
    """A read ends after half a minute; a server that never answered is not asked again by then."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = client(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=40)
        started = time.monotonic()
        with fails("unreachable", "timed"):
            own.get(PATH)
    assert time.monotonic() - started >= client_module.READ_SECONDS


def events(*objects: Any, end: bytes = b"") -> ScriptedAnswer:
    return ScriptedAnswer(body=b"".join(json.dumps(event).encode() + b"\n" for event in objects) + end)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (events({"type": "ADDED"}, {"type": "MODIFIED"}), ["ADDED", "MODIFIED"]),
        (events({"type": "ADDED"}, end=b'\n{"type": "MODI'), ["ADDED"]),  # cut off in the middle
        (events({"type": "ADDED"}, end=b"<html>\n"), ["ADDED"]),
        (events({"type": "ERROR", "object": {"code": 410}}), ["ERROR"]),
        (ScriptedAnswer(403, {"kind": "Status"}), []),  # callers look again with a GET, which says why
        (LOST, []),
    ],
)
def test_watch(answer: ScriptedAnswer, seen: list[str]) -> None:
    with serving(answer) as server:
        own = client(server)
        assert [event["type"] for event in own.watch("/p", {"resourceVersion": "5"}, seconds=0.2)] == seen
    assert server.paths() == ["GET /p?resourceVersion=5&watch=true&timeoutSeconds=1"]


def test_watch_that_is_silent() -> None:
    """A proxy that buffers: the time is over, and nothing was seen."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert list(own.watch("/p", {}, seconds=1)) == []
        assert time.monotonic() - started < 10


def test_watch_that_is_left_early() -> None:
    with serving(events({"type": "ADDED"}, {"type": "MODIFIED"}), DONE) as server:
        own = client(server)
        for event in own.watch("/p", {}, seconds=5):
            assert event["type"] == "ADDED"
            break
        assert own.get(PATH) == {"kind": "Done"}


ENVIRONMENT_PROXY = {"https_proxy": "http://env:1", "http_proxy": "http://plain:1"}
PROXIES: dict[str, tuple[dict[str, Any], dict[str, str], str | None]] = {
    "none": ({}, {}, None),
    "the environment's": ({}, ENVIRONMENT_PROXY, "http://env:1"),
    "the environment's, for http": ({"host": "http://h.example:80"}, ENVIRONMENT_PROXY, "http://plain:1"),
    "without a scheme": ({}, {"https_proxy": "env:1"}, "http://env:1"),
    "NO_PROXY": ({}, {**ENVIRONMENT_PROXY, "no_proxy": "h.example"}, None),
    "NO_PROXY, domain": ({}, {**ENVIRONMENT_PROXY, "no_proxy": "x,.example"}, None),
    "NO_PROXY, other host": ({}, {**ENVIRONMENT_PROXY, "no_proxy": "other"}, "http://env:1"),
    "NO_PROXY, everything": ({}, {**ENVIRONMENT_PROXY, "no_proxy": "*"}, None),
    "the connection's own comes first": ({"proxy": "http://own:1"}, ENVIRONMENT_PROXY, "http://own:1"),
    "NO_PROXY is not about it": ({"proxy": "http://own:1"}, {**ENVIRONMENT_PROXY, "no_proxy": "*"}, "http://own:1"),
    "but no_proxy is": ({"proxy": "http://own:1", "no_proxy": "h.example"}, {}, None),
    "no_proxy about the environment's": ({"no_proxy": "h.example"}, ENVIRONMENT_PROXY, None),
}  # fmt: skip


@pytest.mark.parametrize("name", PROXIES)
def test_proxy_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, environment, proxy = PROXIES[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert proxy_for(Connection(**{"host": "https://h.example:6443", "auth_source": "s", **fields})) == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        "http://us:secret@[",
        "http://us:secret@p:99999",
        "http://us:secret@p\0",
        "us:secret@",
        "http://us:secret@p\\.q:1",
    ],
)
def test_what_is_no_proxy_is_not_quoted(proxy: str) -> None:
    """It may hold a password."""
    with fails("invalid-connection", "proxy") as caught:
        proxy_for(Connection(host="https://h.example:6443", auth_source="s", proxy=proxy))
    assert "secret" not in str(caught.value)


def test_through_a_proxy() -> None:
    with serving(DONE) as proxy:
        own = client(
            "http://api.certflow.invalid:6443",
            proxy=proxy.url.replace("://", "://us%40er:pass@"),
            proxy_headers={"user_agent": "agent"},
        )
        assert own.get(PATH) == {"kind": "Done"}
    (request,) = proxy.requests
    assert request.path == f"http://api.certflow.invalid:6443{PATH}"
    assert request.headers["authorization"] == ["Bearer t"]


def test_a_stream_does_not_send_the_login_of_a_proxy_without_tls() -> None:
    """The stream of a port-forward has a socket of its own, on which TLS inside of TLS is not possible."""
    with serving(DONE) as proxy:
        own = client(
            "https://api.certflow.invalid:6443", proxy=proxy.url.replace("http://", "https://user:pass@")
        )
        with pytest.raises(OSError, match="proxy with the scheme https"):
            own.dial(ReadLimits("the stream", until=time.monotonic() + 5))
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("user_info", "headers", "sent"),
    [
        ("us%40er:pass@", {}, "Basic dXNAZXI6cGFzcw=="),
        ("user:pass@", {"proxy_basic_auth": "a:b"}, "Basic YTpi"),
        ("", {}, None),
    ],
)
def test_tunnel(user_info: str, headers: dict[str, str], sent: str | None, pauses: list[float]) -> None:
    """https goes through CONNECT, which this proxy refuses: what it was told is what counts."""
    with serving(ScriptedAnswer(403, b"")) as proxy:
        own = client(
            "https://api.certflow.invalid:6443",
            proxy=proxy.url.replace("://", f"://{user_info}"),
            proxy_headers=headers,
        )
        with fails("unreachable", "proxy:", "403") as caught:
            own.get(PATH)
    assert "pass" not in str(caught.value)
    request = proxy.requests[0]
    assert (request.method, request.path) == ("CONNECT", "api.certflow.invalid:6443")
    assert request.headers.get("proxy-authorization") == ([sent] if sent else None)
    assert "authorization" not in request.headers  # the token is for the API server alone


def test_proxy_that_is_not_supported() -> None:
    with fails("invalid-connection", "socks5"):
        client("https://h", proxy="socks5://user:pass@p:1").get(PATH)


def test_proxy_that_is_absent(pauses: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        own = client("https://h.certflow.invalid", proxy=f"http://127.0.0.1:{closed.getsockname()[1]}")
        with fails("unreachable", "proxy:", "refused"):
            own.get(PATH)


def test_conflict_is_the_callers() -> None:
    with serving(CONFLICT) as server:
        own = client(server)
        with pytest.raises(Conflict):
            own.replace("/p", {})
    assert len(server.requests) == 1


TRIES: list[Callable[[Client], Any]] = [
    lambda own: own.try_create("/api/v1/things", {"kind": "Thing"}),
    lambda own: own.try_get(PATH),
]


@pytest.mark.parametrize("answer", [BUSY, BROKEN, LOST, CONFLICT])
def test_what_is_tried_once_is_never_repeated(answer: ScriptedAnswer, pauses: list[float]) -> None:
    for ask in TRIES:
        with serving(answer, DONE) as server:
            with pytest.raises((ApiError, ConnectionFailed)):
                ask(client(server))
            assert len(server.requests) == 1
    assert pauses == []


def test_a_try_is_a_dry_run() -> None:
    with serving(DONE) as server:
        own = client(server)
        assert own.try_create("/api/v1/things", {"kind": "Thing"}) == {"kind": "Done"}
        assert server.paths() == ["POST /api/v1/things?dryRun=All"]
        assert own.written == []


def test_redial_makes_a_connection_of_its_own() -> None:
    with serving(DONE) as server:
        own = client(server)
        for _again in range(2):
            own.get(PATH)
        assert server.connections == 1
        own.close()
        own.get(PATH)
        assert server.connections == 2


# The server's clock


def test_the_first_answer_sets_the_clock() -> None:
    with serving(DONE) as server:
        own = client(server)
        own._clock.set_once("Tue, 01 Sep 2026 12:00:00 GMT")
        own.get(PATH)
        assert own.now() - datetime(2026, 9, 1, 12, 0, 0, tzinfo=timezone.utc) < timedelta(minutes=1)
        assert own.for_thread().now() - own.now() < timedelta(minutes=1)
