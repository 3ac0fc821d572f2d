# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upload files to an HTTPS server on loopback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.certflow.kubernetes.plugins.plugin_utils import _upload

from tests.support import server_pki
from tests.support.failures import fails
from tests.support.fleet_files import closed_port
from tests.support.mirror import mirror

SECRET = "a-secret-of-the-test"
CONTENT = b"x" * 200_000


@pytest.fixture
def auth(tmp_path: Path) -> dict[str, Any]:
    """Return the option with the CA of the server."""
    (tmp_path / "ca.pem").write_text(server_pki.ca().certificate)
    return {"ca_path": str(tmp_path / "ca.pem"), "token": SECRET}


def put(server: str, path: str, auth: dict[str, Any], seconds: float = 10) -> str:
    target = _upload.parse_target(f"{server}{path}", auth, 1)
    return _upload.put(target, "moved.json", CONTENT, "application/json", time.monotonic() + seconds)


def test_a_file_is_uploaded_into_a_folder(auth: dict[str, Any]) -> None:
    with mirror(demanded={"Authorization": f"Bearer {SECRET}"}) as server:
        assert put(server.url, "/folder/", auth) == f"{server.url}/folder/moved.json"
    assert server.received == {"/folder/moved.json": CONTENT}


def test_a_signed_url_is_used_and_not_shown(auth: dict[str, Any]) -> None:
    with mirror() as server:
        assert put(server.url, f"/one?signature={SECRET}", auth) == f"{server.url}/one"
    assert server.received == {f"/one?signature={SECRET}": CONTENT}


def test_a_redirection_is_an_error_and_the_other_host_gets_nothing(auth: dict[str, Any]) -> None:
    with mirror() as other, mirror(leads_to=f"{other.url}/x?signature={SECRET}") as server:
        server.leads_to = server.leads_to.replace("127.0.0.1", "localhost")
        with fails("upload-failed", "302", "localhost") as caught:
            put(server.url, "/folder/", auth)
    assert SECRET not in f"{caught.value} {caught.value.evidence}"
    assert other.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 500, 507])
def test_the_status_of_a_refusal_is_shown_and_not_the_words(auth: dict[str, Any], status: int) -> None:
    wrong = {"Authorization": "Bearer other"}
    with mirror(demanded=wrong, status=status) as server, fails("upload-failed", str(status)) as caught:
        put(server.url, "/folder/", auth)
    assert SECRET not in str(caught.value)


def test_a_server_with_another_ca(auth: dict[str, Any]) -> None:
    with mirror() as server, fails("upload-failed", server.url):
        put(server.url, "/folder/", {"token": SECRET})
    assert server.requests == []
    assert auth


def test_no_server(auth: dict[str, Any]) -> None:
    with fails("upload-failed"):
        put(f"https://127.0.0.1:{closed_port()}", "/folder/", auth)


def test_a_server_that_does_not_answer_in_time(auth: dict[str, Any]) -> None:
    with mirror(pause=5.0) as server, fails("upload-failed"):
        put(server.url, "/folder/", auth, seconds=0.5)


#: URL and number of files -> a name that the error has.
WRONG = {
    "plain": ("http://host/", 1, "https"),
    "no host": ("https:///x", 1, "https"),
    "port": ("https://host:x/", 1, "https"),
    "space": ("https://host/a b", 1, "https"),
    "line break": ("https://host/\nX: y", 1, "https"),
    "password": ("https://user:geheim@host/", 1, "url_password"),
    "two files": ("https://host/one?signature=geheim", 2, "2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_urls_that_are_refused(name: str) -> None:
    url, files, word = WRONG[name]
    with fails("invalid-input", word) as caught:
        _upload.parse_target(url, {}, files)
    assert "geheim" not in str(caught.value)


def test_credentials_that_are_refused_name_the_option() -> None:
    with fails("source-unusable", "upload_auth"):
        _upload.parse_target("https://host/", {"token": "a", "url_username": "b"}, 1)
